-- What psql is given; unaligned, so that a masked value does not change the width of a column.
\set FETCH_COUNT 0
SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id;
SELECT * FROM types ORDER BY id;
SELECT 1; SELECT 2 \; SELECT 3;
SELECT id, ssn, note_secret AS other FROM customers ORDER BY id LIMIT 5;
SELECT id, ssn || '!' AS longer, CASE WHEN true THEN note_secret END AS chosen FROM customers WHERE id < 3 ORDER BY id;
WITH c AS (SELECT id, ssn AS s FROM customers) SELECT s FROM c WHERE id = 1 UNION ALL SELECT tax_id FROM customer_names WHERE id = 2;
-- The server's own PREPARE, twice.
PREPARE an_order(int) AS SELECT * FROM orders WHERE id = $1;
EXECUTE an_order(7);
EXECUTE an_order(8);
PREPARE a_secret(int) AS SELECT ssn, note_secret FROM customers WHERE id = $1;
EXECUTE a_secret(1);
EXECUTE a_secret(2);
DEALLOCATE ALL;
-- A cursor of the server's, and one of psql's.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, note_secret FROM customers ORDER BY id;
FETCH 3 FROM c;
FETCH BACKWARD 1 FROM c;
MOVE 10 IN c;
FETCH c;
CLOSE c;
COMMIT;
\set FETCH_COUNT 7
SELECT id, ssn FROM customers ORDER BY id;
\set FETCH_COUNT 0
-- A transaction with an error in it.
BEGIN;
INSERT INTO scratch (id, t) VALUES (1, E'te\tst');
SAVEPOINT s;
INSERT INTO scratch (id) VALUES (1);
SELECT 1;
ROLLBACK TO s;
SELECT * FROM scratch;
ROLLBACK;
SELECT count(*) FROM scratch;
-- COPY.
COPY orders TO STDOUT;
COPY (SELECT id, ssn, note_secret FROM customers ORDER BY id) TO STDOUT (FORMAT csv, HEADER);
COPY scratch (id, t) FROM STDIN;
1	one
2	t\two
\.
\copy scratch (id, t) to stdout csv
TABLE scratch;
TRUNCATE scratch;
-- What psql asks the catalogs.
\d
\d customers
\df order_total
\dn
\dT+ mood
SELECT ssn, id FROM customers \gdesc
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 3) AS n \gexec
-- The function call protocol.
\lo_import /etc/hostname
\lo_unlink :LASTOID
-- Errors, notices, and on it goes.
SELECT 1/0;
SELECT * FROM nowhere;
DO 'BEGIN RAISE NOTICE ''a % notice'', 1; END';
DROP TABLE IF EXISTS not_there;
EXPLAIN (COSTS OFF) SELECT * FROM orders WHERE id = 1;
SELECT count(*) FROM orders;
