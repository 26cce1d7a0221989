"""Writes by statements that answer with rows, and reads at once: words are host, port, how many."""

import sys

import pymysql

connection = pymysql.connect(
    host=sys.argv[1], port=int(sys.argv[2]), user="app", password="secret", database="shop", autocommit=True
)
cursor = connection.cursor()
missing = 0
for number in range(1, int(sys.argv[3]) + 1):
    if number % 2:
        cursor.execute("SELECT note(%s)", (number,))
    else:
        cursor.execute("INSERT INTO log (b) VALUES (%s) RETURNING b", (number,))
    assert cursor.fetchall() == ((number,),)
    cursor.execute("SELECT COUNT(*) FROM log WHERE b = %s", (number,))
    missing += cursor.fetchall() != ((1,),)
print(f"{missing} missing")
