// node-postgres: what it gets, as JSON lines. The first argument says where to connect, as JSON; where its packages
// are, the environment says.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

const require = createRequire(`${process.env.PACKAGES}/`);
const { Client, Pool } = require('pg');
const copy = require('pg-copy-streams');

const options = JSON.parse(process.argv[2]);
const config = {
  host: options.host, port: options.port, user: options.user, password: options.password, database: options.database,
  ssl: options.ca ? { ca: readFileSync(options.ca) } : false,
};

const say = (step, is) => console.log(JSON.stringify({ step, is }));

async function attempt(step, call) {
  try {
    const result = await call();
    const one = (r) => ({
      command: r.command, count: r.rowCount, columns: r.fields.map((f) => [f.name, f.dataTypeID, f.format]), rows: r.rows,
    });
    say(step, Array.isArray(result) ? result.map(one) : one(result));
  } catch (error) {
    if (!error.code) throw error;
    say(step, { sqlstate: error.code, severity: error.severity, message: error.message, hint: error.hint });
  }
}

const client = new Client(config);
await client.connect();
await client.query('DELETE FROM scratch');

await attempt('query', () => client.query('SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id'));
await attempt('types', () => client.query({ text: 'SELECT * FROM types ORDER BY id', rowMode: 'array' }));
for (const n of [7, 8]) {
  await attempt('prepared', () => client.query({ name: 'an order', text: 'SELECT * FROM orders WHERE id = $1', values: [n] }));
}
for (const n of [1, 2]) {
  const text = 'SELECT ssn, note_secret, name FROM customers WHERE id = $1';
  await attempt('masked prepared', () => client.query({ name: 'a secret', text, values: [n] }));
  await attempt('masked binary', () => client.query({ text: 'SELECT id, name, ssn FROM customers WHERE id = $1', values: [n], binary: true }));
}
await attempt('masked', () => client.query("SELECT id, ssn AS x, note_secret || '!' AS y, ARRAY[ssn] AS z FROM customers WHERE id <= 2 ORDER BY id"));
await attempt('several', () => client.query('SELECT 1 AS one; SELECT ssn FROM customers WHERE id = 1; SELECT 3 AS three'));

await client.query('BEGIN');
await attempt('insert', () => client.query('INSERT INTO scratch (id, t, j, a, b) VALUES ($1, $2, $3, $4, $5)', [1, 'té\t\\x', { a: [1] }, [1, null], Buffer.from([0, 255])]));
await attempt('own write', () => client.query('SELECT * FROM scratch'));
await attempt('fails', () => client.query('INSERT INTO scratch (id) VALUES (1)'));
await attempt('failed', () => client.query('SELECT 1'));
await client.query('ROLLBACK');
await attempt('rolled back', () => client.query('SELECT count(*) FROM scratch'));

say('copy out', (await buffer(client.query(copy.to('COPY orders TO STDOUT')))).toString());
say('copy out masked', (await buffer(client.query(copy.to('COPY (SELECT id, ssn, note_secret FROM customers ORDER BY id) TO STDOUT (FORMAT csv)')))).toString());
const lines = Array.from({ length: 1000 }, (_, n) => `${n}\trow ${n}\n`);
await pipeline(Readable.from(lines), client.query(copy.from('COPY scratch (id, t) FROM STDIN')));
await attempt('copied', () => client.query('SELECT count(*), sum(length(t)) FROM scratch'));
await attempt('deleted', () => client.query('DELETE FROM scratch'));

const pool = new Pool({ ...config, max: 3 });
const pid = (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
const sleeping = attempt('cancelled', () => client.query('SELECT pg_sleep(60)'));
const running = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'";
while ((await pool.query(running, [pid])).rowCount === 0) await new Promise((next) => setTimeout(next, 10));
await pool.query('SELECT pg_cancel_backend($1)', [pid]);
await sleeping;
// One that its own cancel request ends.
const slow = new Client({ ...config, ssl: false });
await slow.connect();
const slowPid = (await slow.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
const query = new (require('pg').Query)('SELECT pg_sleep(60)');
const ended = new Promise((done) => query.on('error', (error) => done(error.code)).on('end', () => done('no error')));
slow.query(query);
while ((await pool.query(running, [slowPid])).rowCount === 0) await new Promise((next) => setTimeout(next, 10));
new Client({ ...config, ssl: false }).cancel(slow, query);
say('cancelled by request', await ended);
await attempt('goes on', () => slow.query('SELECT 1 AS one'));
await slow.end();

const notified = new Promise((heard) => client.once('notification', ({ channel, payload }) => heard({ channel, payload })));
await client.query('LISTEN events');
await pool.query("SELECT pg_notify('events', 'it happened')");
say('notified', await notified);

for (const query of ['SELECT 1/0', 'SELECT * FROM nowhere', 'INSERT INTO orders (id) VALUES (1)']) {
  await attempt(`error ${query}`, () => client.query(query));
}
await attempt('denied', () => client.query('DELETE FROM orders WHERE id = 0'));
await attempt('denied with parameters', () => client.query('DELETE FROM orders WHERE id = $1', [0]));
for (let n = 0; n < 2; n++) {
  await attempt('denied prepared', () => client.query({ name: 'gone', text: 'DELETE FROM orders WHERE id = $1', values: [0] }));
}
say('the same connection', (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid === pid);
await attempt('goes on', () => client.query('SELECT count(*) FROM orders'));
// A pool that hands a connection out again after a denial.
for (let n = 0; n < 3; n++) {
  await attempt('pooled', () => pool.query('SELECT count(*) FROM orders'));
  await attempt('denied pooled', () => pool.query('DELETE FROM orders WHERE id = 0'));
}
await pool.end();
await client.end();
