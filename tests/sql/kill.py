"""KILL through the door. Words are host and port of the door."""

import sys
import threading
import time

import pymysql

host, port = sys.argv[1], int(sys.argv[2])


def connect(user="app", **more):
    return pymysql.connect(host=host, port=port, user=user, password="secret", database="shop", autocommit=True, **more)


def ask(connection, text):
    cursor = connection.cursor()
    cursor.execute(text)
    return cursor.fetchall()


def fails(connection, text):
    try:
        return ask(connection, text)
    except pymysql.MySQLError as error:
        return error.args


def running(connection, text):
    told = []
    thread = threading.Thread(target=lambda: told.append(fails(connection, text)))
    thread.start()
    time.sleep(0.5)
    return thread, told


def is_gone(connection):
    for _ in range(40):
        told = fails(connection, "SELECT 1")
        if told != ((1,),):
            return told[0] in (0, 2006, 2013, 1927)
        time.sleep(0.05)
    return False


killer = connect()
REPLICA, PRIMARY = "SELECT SLEEP(20), @@server_id", "SELECT SLEEP(20), @@server_id FROM t FOR UPDATE"

# The id.
own = killer.thread_id()
assert own >= 1 << 31, own
for text in ("SELECT CONNECTION_ID()", "SELECT @@pseudo_thread_id", "SELECT connection_id() AS id", "SELECT CONNECTION_ID() FROM DUAL"):
    assert ask(killer, text) == ((own,),), text
cursor = killer.cursor()
cursor.execute("SELECT CONNECTION_ID(), DATABASE(), @@session.pseudo_thread_id")
assert [column[0] for column in cursor.description] == ["CONNECTION_ID()", "DATABASE()", "@@session.pseudo_thread_id"]
assert cursor.fetchall() == ((own, "shop", own),)
# Within a statement it is what the server itself compares with.
((there,),) = ask(killer, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")
assert there < 1 << 31
assert ask(killer, "SELECT GET_LOCK('mine', 1)") == ((1,),)
assert ask(killer, "SELECT IS_USED_LOCK('mine') = CONNECTION_ID()") == ((1,),)
ask(killer, "DO RELEASE_ALL_LOCKS()")

# A statement, wherever it runs; the session goes on.
for where in (REPLICA, PRIMARY):
    for how in ("KILL QUERY {}", "KILL HARD QUERY {}", "KILL SOFT QUERY {} "):
        victim = connect()
        thread, told = running(victim, where)
        ask(killer, how.format(victim.thread_id()))
        thread.join(5)
        # A SLEEP that is interrupted answers 1; with FOR UPDATE it is an error.
        assert told and (told[0][0] == 1317 or told[0][0][0] == 1), (where, how, told)
        assert ask(victim, "SELECT 1") == ((1,),)

# A session, busy here or there, or idle.
for where in (REPLICA, PRIMARY, None):
    for how in ("KILL {}", "KILL CONNECTION {};", "/* a */ kill hard {}"):
        victim = connect()
        if where:
            thread, told = running(victim, where)
        began = time.monotonic()
        ask(killer, how.format(victim.thread_id()))
        if where:
            thread.join(5)
            assert told and told[0][0] in (1317, 1927, 2013, 2006), (where, how, told)
        assert time.monotonic() - began < 5
        assert is_gone(victim), (where, how)
        assert fails(killer, f"KILL {victim.thread_id()}")[0] == 1094

# By a packet, and by the id in the primary's list.
victim = connect()
killer.kill(victim.thread_id())
assert is_gone(victim)
victim = connect()
((there,),) = ask(victim, "SELECT ID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")
ask(killer, f"KILL {there}")
assert is_gone(victim)

# Whom there is not, and whom one may not.
missing = (1 << 31) + 99999
for text in (f"KILL {missing}", f"KILL QUERY {missing}", "KILL 99999"):
    number = text.split()[-1]
    assert fails(killer, text) == (1094, f"Unknown thread id: {number}"), text
stranger, victim = connect("stranger"), connect()
id = victim.thread_id()
assert fails(stranger, f"KILL {id}") == (1095, f"You are not owner of thread {id}")
assert fails(stranger, f"KILL QUERY {id}") == (1095, f"You are not owner of thread {id}")
try:
    stranger.kill(id)
    raise AssertionError("killed")
except pymysql.MySQLError as error:
    assert error.args[0] == 1095, error
thread, told = running(victim, REPLICA)
assert fails(stranger, f"KILL {id}") == (1095, f"You are not owner of thread {id}")
ask(killer, f"KILL QUERY {id}")
thread.join(5)
assert ask(victim, "SELECT 1") == ((1,),), "nobody killed it"
own = stranger.thread_id()
other = connect("stranger")
ask(other, f"KILL {own}")
assert is_gone(stranger)

# Oneself.
for text in ("KILL CONNECTION_ID()", "KILL {}"):
    victim = connect()
    told = fails(victim, text.format(victim.thread_id()))
    assert told[0] in (1317, 1927, 2013), told
    assert is_gone(victim)

# From within a transaction, and from where a session is held.
ask(killer, "START TRANSACTION READ ONLY")
ask(killer, "SELECT 1")
told = []
for _ in range(4):
    victim = connect()
    thread, heard = running(victim, REPLICA)
    told.append(fails(killer, f"KILL QUERY {victim.thread_id()}"))
    ask(connect(), f"KILL {victim.thread_id()}")
    thread.join(5)
assert all(one == () or one[0] == 1235 for one in told), told
ask(killer, "COMMIT")
print("done")
