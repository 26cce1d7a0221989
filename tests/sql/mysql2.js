// What Node's mysql2 does and hears: words are its folder, host, port and schema.
//
// Each step tells a line; the last line is the server that answered a read.

'use strict';
const [folder, host, port, schema] = process.argv.slice(2);
const mysql = require(`${folder}/node_modules/mysql2/promise`);
const { Readable } = require('stream');

const BYTES = Buffer.concat(Array(300).fill(Buffer.from([...Array(256).keys()])));
const TEXT = 'grüße, 世界, 🦀, \\ \' " ` % \n';
const who = { host, port: Number(port), user: 'app', password: 'secret', database: schema, charset: 'utf8mb4' };

const plain = (key, value) => (typeof value === 'bigint' ? `${value}n` : value);
function tell(...words) {
  console.log(words.map((word) => JSON.stringify(word, plain)).join(' ').replaceAll(schema, 'SCHEMA'));
}
async function fails(run) {
  try {
    await run();
    tell('no error');
  } catch (error) {
    tell('error', error.errno, error.sqlState, error.code, error.sqlMessage);
  }
}
const about = (result) => [result.affectedRows, result.insertId, result.warningStatus, result.info, result.changedRows];

async function main() {
  await fails(() => mysql.createConnection({ ...who, password: 'wrong' }));
  await fails(() => mysql.createConnection({ ...who, database: 'missing' }));
  const connection = await mysql.createConnection({ ...who, multipleStatements: true, supportBigNumbers: true });
  for (const number of [0, 1, 2]) {
    tell(about((await connection.query('INSERT INTO things (s, y, i) VALUES (?, ?, ?)', [TEXT, BYTES, number]))[0]));
  }
  let [rows, fields] = await connection.query('SELECT s, y, i FROM things ORDER BY a');
  tell(rows.map((row) => [row.s === TEXT, Boolean(row.y) && BYTES.equals(row.y), row.i]), fields.map((field) => [field.name, field.columnType]));

  // Prepared.
  for (const text of ['one', TEXT, null]) {
    tell((await connection.execute('SELECT ? AS t, CHAR_LENGTH(?) AS l, ? AS n', [text, text, 7]))[0]);
  }
  for (const number of [0, 1, 2]) {
    tell(about((await connection.execute('INSERT INTO things (s, y, i) VALUES (?, ?, ?)', [TEXT, BYTES, number]))[0]));
  }
  [rows] = await connection.execute('SELECT s, y, i FROM things WHERE i = ? ORDER BY a', [2]);
  tell(rows.map((row) => [row.s === TEXT, Boolean(row.y) && BYTES.equals(row.y), row.i]));
  await fails(() => connection.execute('SELECT nothing FROM things WHERE a = ?', [1]));
  await fails(() => connection.execute('INSERT INTO things (a) VALUES (?)', [1]));
  connection.unprepare('SELECT s, y, i FROM things WHERE i = ? ORDER BY a');
  [rows] = await connection.execute('SELECT i FROM things WHERE i = ? ORDER BY a', [1]);
  tell(rows);
  const statement = await connection.prepare('SELECT ? + 1 AS sum');
  for (const number of [1, 2, 3]) tell((await statement.execute([number]))[0]);
  await statement.close();

  // Transactions.
  await connection.beginTransaction();
  tell(about((await connection.query('DELETE FROM things WHERE i = 1'))[0]));
  tell((await connection.execute('SELECT COUNT(*) AS c FROM things'))[0]);
  await connection.rollback();
  tell((await connection.query('SELECT COUNT(*) AS c FROM things'))[0]);
  await connection.query('START TRANSACTION READ ONLY');
  tell((await connection.query('SELECT COUNT(*) AS c FROM things'))[0]);
  await fails(() => connection.query('DELETE FROM things'));
  await connection.commit();

  // Several results.
  const several = "SELECT 1 AS a; UPDATE things SET s = 'two' WHERE i = 2; SELECT s FROM things WHERE i = 2; DO 0";
  for (const _ of [0, 1]) tell((await connection.query(several))[0]);
  tell((await connection.query('CALL two()'))[0]);
  tell((await connection.execute('CALL two()'))[0]);

  // Warnings and errors.
  tell((await connection.query("SELECT CAST('x' AS SIGNED) AS a, 1/0 AS b"))[0]);
  tell((await connection.query('SHOW WARNINGS'))[0]);
  tell(about((await connection.query("INSERT IGNORE INTO things (a, s) VALUES (1, 'again')"))[0]));
  tell((await connection.query('SHOW WARNINGS'))[0]);
  for (const sql of ['SELEC 1', 'SELECT nothing FROM things', 'SELECT * FROM missing', 'INSERT INTO things (a) VALUES (1)', 'CALL fails()']) {
    await fails(() => connection.query(sql));
  }

  // Session.
  await connection.query("SET @mine = 7, time_zone = '+05:00'");
  tell((await connection.query('SELECT @mine AS m, @@time_zone AS z'))[0]);
  await connection.changeUser({ user: 'app', password: 'secret', database: 'other' });
  tell((await connection.query('SELECT @mine AS m, DATABASE() AS d, CURRENT_USER() AS u'))[0]);
  await connection.changeUser({ user: 'app', password: 'secret', database: schema });
  await connection.ping();
  tell((await connection.execute('SELECT DATABASE() AS d'))[0]);

  // What is big; a file of the client.
  [rows] = await connection.query("SELECT REPEAT('x', 17 << 20) AS t");
  tell(rows[0].t.length);
  tell((await connection.query('SELECT LENGTH(?) AS l', ['y'.repeat(17 << 20)]))[0]);
  tell((await connection.execute('SELECT LENGTH(?) AS l', ['y'.repeat(17 << 20)]))[0]);
  let bytes = 0;
  const stream = connection.connection.query("SELECT a.i, REPEAT('z', 200) AS t FROM many a, many b").stream();
  for await (const row of stream) bytes += row.t.length;
  tell(bytes);
  const file = () => Readable.from([Buffer.from('5000\tfive\n'), Buffer.from('5001\tsix\n')]);
  tell(about((await connection.query({ sql: "LOAD DATA LOCAL INFILE 'x' INTO TABLE things (a, s)", infileStreamFactory: file }))[0]));
  tell((await connection.query('SELECT a, s FROM things WHERE a >= 5000 ORDER BY a'))[0]);
  tell(about((await connection.query('DELETE FROM things WHERE a >= 5000'))[0]));
  // Many at a time.
  tell(await Promise.all([...Array(20).keys()].map(async (n) => (await connection.execute('SELECT ? * 2 AS n', [n]))[0])));
  await connection.end();

  // A pool that resets what it gives out again, and one that does not.
  for (const reset of [true, false]) {
    const pool = mysql.createPool({ ...who, connectionLimit: 2, resetOnRelease: reset, enableKeepAlive: true });
    const all = [...Array(30).keys()].map(async (n) => (await pool.execute('SELECT ? + i AS n FROM things WHERE i = 1 LIMIT 1', [n]))[0]);
    tell(await Promise.all(all));
    const one = await pool.getConnection();
    await one.query("SET @left = 1");
    tell((await one.query('SELECT @left AS l'))[0]);
    one.release();
    await pool.end();
  }
  const last = await mysql.createConnection(who);
  const [told] = await last.query('SELECT @@server_id AS id');
  console.log(told[0].id);
  await last.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
