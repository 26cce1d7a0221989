"""Writes rows, and reads each at once: words are host, port, how many."""

import sys

import pymysql

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connection = pymysql.connect(
    host=host, port=port, user="app", password="secret", database="shop", autocommit=True
)
cursor = connection.cursor()
missing = 0
for number in range(count):
    cursor.execute("INSERT INTO w VALUES (%s, %s)", (number, f"row {number}"))
    cursor.execute("SELECT b FROM w WHERE a = %s", (number,))
    missing += cursor.fetchall() != ((f"row {number}",),)
print(f"{count} written, {missing} missing")
