SELECT pg_backend_pid() AS pid \gset
\set VERBOSITY verbose
DELETE FROM orders WHERE id = 0;
\echo alone :LAST_ERROR_SQLSTATE
-- All of one string, or nothing of it.
INSERT INTO scratch (id) VALUES (77) \; DELETE FROM orders WHERE id = 0;
\echo in a string :LAST_ERROR_SQLSTATE
WITH gone AS (DELETE FROM orders WHERE id = 0 RETURNING *) SELECT * FROM gone;
\echo in a CTE :LAST_ERROR_SQLSTATE
PREPARE gone AS DELETE FROM orders WHERE id = 0;
\echo prepared :LAST_ERROR_SQLSTATE
EXPLAIN ANALYZE DELETE FROM orders WHERE id = 0;
\echo explained :LAST_ERROR_SQLSTATE
BEGIN;
INSERT INTO scratch (id) VALUES (78);
DELETE FROM orders WHERE id = 0;
\echo in a transaction :LAST_ERROR_SQLSTATE
SELECT 1;
\echo after it :LAST_ERROR_SQLSTATE
COMMIT;
SELECT pg_backend_pid() = :pid AS same, count(*) FROM scratch;
