"""asyncpg: what it gets, as JSON lines. The first argument says where to connect, as JSON."""

import asyncio
import io
import json
import ssl
import sys

import asyncpg

OPTIONS = json.loads(sys.argv[1])


async def connect():
    tls = ssl.create_default_context(cafile=OPTIONS["ca"]) if OPTIONS.get("ca") else False
    return await asyncpg.connect(
        host=OPTIONS["host"], port=OPTIONS["port"], user=OPTIONS["user"], password=OPTIONS["password"],
        database=OPTIONS["database"], ssl=tls,
    )


def say(step, value):
    print(json.dumps({"step": step, "is": value}, default=str), flush=True)


async def attempt(step, call):
    try:
        value = await call
    except asyncpg.PostgresError as error:
        say(step, {"sqlstate": error.sqlstate, "severity": error.severity, "message": error.message,
                   "hint": error.hint})
        return
    if isinstance(value, list):
        value = [[[k, v] for k, v in row.items()] for row in value]
    say(step, value)


async def queries(conn):
    await attempt("query", conn.fetch("SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id"))
    await attempt("types", conn.fetch("SELECT * FROM types WHERE id = 1"))
    prepared = await conn.prepare("SELECT * FROM orders WHERE id = $1")
    say("parameters", [[t.name for t in prepared.get_parameters()], [(a.name, a.type.name) for a in prepared.get_attributes()]])
    for n in (7, 8):
        await attempt("prepared", prepared.fetch(n))
    secret = await conn.prepare("SELECT ssn, note_secret, name FROM customers WHERE id = $1")
    for n in (1, 2):
        await attempt("masked prepared", secret.fetch(n))
    await attempt("masked", conn.fetch("SELECT id, ssn AS x, note_secret || '!' AS y, ARRAY[ssn] AS z FROM customers WHERE id <= 2 ORDER BY id"))
    await attempt("masked row", conn.fetch("SELECT to_json(c) AS c FROM customers c WHERE id = 1"))
    await attempt("masked view", conn.fetch("SELECT * FROM customer_names WHERE id = 2"))
    await attempt("simple", conn.execute("SELECT 1; SELECT 2"))


async def transaction(conn):
    try:
        async with conn.transaction():
            await conn.execute("INSERT INTO scratch (id, t, a, b) VALUES ($1, $2, $3, $4)", 1, "té\t\\x", [1, None], b"\x00\xff")
            await attempt("own write", conn.fetch("SELECT * FROM scratch"))
            async with conn.transaction():
                await conn.execute("INSERT INTO scratch (id) VALUES (1)")
    except asyncpg.PostgresError as error:
        say("rolled back", error.sqlstate)
    await conn.executemany("INSERT INTO scratch (id, t) VALUES ($1, $2)", [(n, f"row {n}") for n in range(300)])
    await attempt("many", conn.fetch("SELECT count(*), max(t) FROM scratch"))
    await attempt("deleted", conn.execute("DELETE FROM scratch"))
    async with conn.transaction():
        rows = [list(row) async for row in conn.cursor("SELECT id, ssn FROM customers ORDER BY id", prefetch=7)]
    say("cursor", rows)


async def copy(conn):
    for format in ("text", "csv", "binary"):
        out = io.BytesIO()
        await attempt(f"copy out {format}", conn.copy_from_table("orders", output=out, format=format))
        say("data", out.getvalue().hex())
    out = io.BytesIO()
    query = "SELECT id, ssn, note_secret FROM customers WHERE id < $1 ORDER BY id"
    await attempt("copy out masked", conn.copy_from_query(query, 5, output=out, format="csv"))
    say("data", out.getvalue().decode())
    records = [(n, f"row {n}", [n]) for n in range(1000)]
    await attempt("copy in", conn.copy_records_to_table("scratch", records=records, columns=["id", "t", "a"]))
    await attempt("copied", conn.fetch("SELECT count(*), sum(length(t)), sum(a[1]) FROM scratch"))
    await attempt("copy in fails", conn.copy_records_to_table("scratch", records=[(1,)], columns=["id"]))
    await attempt("deleted", conn.execute("DELETE FROM scratch"))


async def cancel(conn):
    pid = await conn.fetchval("SELECT pg_backend_pid()")
    other = await connect()
    sleeping = asyncio.create_task(conn.execute("SELECT pg_sleep(60)"))
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'"
    while not await other.fetchval(query, pid):
        await asyncio.sleep(0.01)
    # asyncpg sends a cancel request when its task is cancelled.
    sleeping.cancel()
    try:
        await sleeping
    except asyncio.CancelledError:
        say("cancelled", True)
    await attempt("goes on", conn.fetch("SELECT 1 AS one"))
    heard = asyncio.get_running_loop().create_future()
    await conn.add_listener("events", lambda *what: heard.done() or heard.set_result(what[2:]))
    await other.execute("NOTIFY events, 'it happened'")
    say("notified", await asyncio.wait_for(heard, 20))
    await other.close()


async def errors(conn):
    for query in ("SELECT 1/0", "SELECT * FROM nowhere", "INSERT INTO orders (id) VALUES (1)"):
        await attempt(f"error {query}", conn.fetch(query))
    before = await conn.fetchval("SELECT pg_backend_pid()")
    await attempt("denied", conn.execute("DELETE FROM orders WHERE id = 0"))
    await attempt("denied with parameters", conn.execute("DELETE FROM orders WHERE id = $1", 0))
    await attempt("denied many", conn.executemany("DELETE FROM orders WHERE id = $1", [(0,), (0,)]))
    try:
        async with conn.transaction():
            await conn.execute("DELETE FROM orders WHERE id = 0")
        say("denied in a transaction", "DELETE 0")
    except asyncpg.PostgresError as error:
        say("denied in a transaction", {"sqlstate": error.sqlstate})
    say("the same connection", before == await conn.fetchval("SELECT pg_backend_pid()"))
    await attempt("goes on", conn.fetch("SELECT count(*) FROM orders"))
    await conn.reset()


async def main():
    conn = await connect()
    await conn.execute("DELETE FROM scratch")
    for part in (queries, transaction, copy, cancel, errors):
        await part(conn)
    await conn.close()


asyncio.run(main())
