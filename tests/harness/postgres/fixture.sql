-- What is in every cluster that tests start. Each value in it is the same in every run.

-- Five ways to log in, each with a role of its own (see pg_hba.conf in postgres.rs); all may do what `app` may.
CREATE ROLE app LOGIN PASSWORD :'app_password';
CREATE ROLE app_clear LOGIN PASSWORD :'clear_password' IN ROLE app;
CREATE ROLE app_cert LOGIN IN ROLE app;
CREATE ROLE app_trust LOGIN IN ROLE app;
SET password_encryption = 'md5';
CREATE ROLE app_md5 LOGIN PASSWORD :'md5_password' IN ROLE app;
RESET password_encryption;
-- The superuser may come over the network, too.
ALTER ROLE postgres PASSWORD :'app_password';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'app_password';
-- What `app` may become with SET ROLE.
CREATE ROLE reporting;
GRANT reporting TO app;

CREATE DATABASE shop OWNER app;
CREATE DATABASE bench OWNER app;
\connect shop
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
GRANT ALL ON SCHEMA public TO app;
SET ROLE app;

CREATE TABLE customers (
    id int PRIMARY KEY,
    name text NOT NULL,
    email text,
    ssn text,
    card text,
    note_secret text,
    balance numeric(12, 2),
    data jsonb,
    tags text[],
    raw bytea,
    born date
);
INSERT INTO customers VALUES
    (1, 'Ada Lovelace', 'ada@example.com', '219-09-9999', '4111 1111 1111 1111', 'rosebud-1', 1815.12,
     '{"plan": "gold", "visits": [1, 2, 3], "contact": {"city": "London"}}', '{first,analyst}', '\x00ff10', '1815-12-10'),
    (2, 'Grace Hopper', 'grace@example.org', '457-55-5462', '5500005555555559', 'rosebud-2', -0.01,
     '{"plan": "silver", "visits": []}', '{"rear admiral","with \"quotes\"",NULL}', '\x', '1906-12-09'),
    (3, E'Zoë "Zo" O''Neil,\tback\\slash\nnew line', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO customers
SELECT n, 'Customer ' || n, 'customer' || n || '@example.com', format('%s-%s-%s', 200 + n, 10 + n, 1000 + n), NULL,
    'rosebud-' || n, n * 10.5, jsonb_build_object('plan', 'bronze', 'n', n), ARRAY['t' || n, 'u' || n],
    decode(lpad(to_hex(n), 8, '0'), 'hex'), DATE '1950-01-01' + n * 100
FROM generate_series(4, 40) AS n;

CREATE TABLE orders (
    id bigint PRIMARY KEY,
    customer_id int NOT NULL REFERENCES customers,
    item text NOT NULL,
    amount numeric(10, 2) NOT NULL,
    placed timestamptz NOT NULL,
    paid boolean NOT NULL DEFAULT false
);
INSERT INTO orders
SELECT n, 1 + n % 40, 'item ' || n % 7, n * 1.25, TIMESTAMPTZ '2026-01-01 00:00:00+00' + n * INTERVAL '1 hour', n % 3 = 0
FROM generate_series(1, 100) AS n;

-- For what clients write.
CREATE TABLE scratch (
    id int PRIMARY KEY,
    t text,
    n numeric,
    j jsonb,
    a int[],
    b bytea,
    at timestamptz
);

CREATE VIEW customer_names AS SELECT id, name, upper(name) AS loud, ssn AS tax_id FROM customers;
CREATE FUNCTION order_total(customer int) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT coalesce(sum(amount), 0) FROM public.orders WHERE customer_id = customer';
CREATE FUNCTION customer_ssn(customer int) RETURNS text LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN (SELECT ssn FROM public.customers WHERE id = customer); END';
CREATE FUNCTION forget_orders(customer int) RETURNS bigint LANGUAGE plpgsql
    AS 'DECLARE n bigint; BEGIN DELETE FROM public.orders WHERE customer_id = customer; GET DIAGNOSTICS n = ROW_COUNT; RETURN n; END';

-- One column of each type that clients read differently.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE types (
    id int PRIMARY KEY,
    bool bool, int2 int2, int8 int8, float4 float4, float8 float8, numeric numeric, money money,
    varchar varchar(20), bpchar char(10), bytea bytea, date date, time time, timestamp timestamp,
    timestamptz timestamptz, interval interval, uuid uuid, json json, inet inet, int4range int4range, point point,
    ints int[], texts text[], mood mood, pair pair, positive positive, hstore hstore, citext citext
);
INSERT INTO types VALUES
    (1, true, -32768, 9223372036854775807, 1.5, -2.25e100, 123456789012345678901234567890.000100, 12.34,
     'varying', 'fixed', '\xdeadbeef00', '2026-02-28', '23:59:59.999999', '2026-02-28 12:00:00',
     '2026-02-28 12:00:00+00', '1 year 2 mons 3 days 04:05:06', '00112233-4455-6677-8899-aabbccddeeff',
     '{"b" : 1, "a":  [true, null]}', '192.0.2.7/24', '[1,10)', '(1.5,-2)',
     '{{1,2},{3,NULL}}', '{"a,b","",NULL,"\""}', 'happy', '(7,"x, y")', 9, 'k=>v,n=>NULL', 'MiXeD'),
    (2, NULL, NULL, NULL, 'NaN', 'Infinity', 'NaN', NULL, NULL, NULL, NULL, 'infinity', NULL, '-infinity', NULL, NULL, NULL,
     NULL, NULL, 'empty', NULL, '{}', NULL, NULL, '(,)', NULL, '', NULL);

CREATE SCHEMA billing;
CREATE TABLE billing.invoices (id int PRIMARY KEY, customer_id int, total numeric(10, 2), memo text);
INSERT INTO billing.invoices SELECT n, n, n * 100, 'invoice ' || n FROM generate_series(1, 10) AS n;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reporting;
RESET ROLE;
