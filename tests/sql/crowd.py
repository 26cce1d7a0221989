"""A crowd: words are host, port, how many clients, and how many statements each gives. Nobody may see another's."""

import sys
import threading

import pymysql

host, port, clients, statements = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
wrong, lock = [], threading.Lock()
together = threading.Barrier(clients)


def work(client):
    connection = pymysql.connect(
        host=host, port=port, user="app", password="secret", database="shop", autocommit=True, connect_timeout=30
    )
    cursor = connection.cursor()
    together.wait(60)

    def ask(statement, expected):
        cursor.execute(statement)
        told = cursor.fetchall()
        assert told == expected, (client, statement, told)

    me = f"client {client}"
    ask(f"SET @me = '{me}'", ())
    for number in range(statements // 10 * 2):
        key = client * 1000 + number
        ask(f"INSERT INTO mine VALUES ({key}, '{me}')", ())
        ask(f"SELECT b FROM mine WHERE a = {key}", ((me,),))
        ask(f"SELECT '{me}', {number}", ((me, number),))
        ask("SELECT @me", ((me,),))
        ask(f"SELECT seq, '{me}' FROM seq_1_to_200", tuple((seq, me) for seq in range(1, 201)))
    ask(f"SELECT COUNT(*), MIN(b), MAX(b) FROM mine WHERE a DIV 1000 = {client}", ((statements // 10 * 2, me, me),))
    connection.close()


def run(client):
    try:
        work(client)
    except BaseException as error:
        together.abort()
        with lock:
            wrong.append(f"{client}: {error!r}")


threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\n".join(wrong[:10]) or "done")
