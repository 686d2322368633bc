"""pg8000, which is Python alone: what it gets, as JSON lines. The first argument says where to connect, as JSON."""

import io
import json
import ssl
import sys

import pg8000.native

OPTIONS = json.loads(sys.argv[1])


def say(step, value):
    print(json.dumps({"step": step, "is": value}, default=str), flush=True)


def attempt(step, call):
    try:
        say(step, call())
    except pg8000.native.DatabaseError as error:
        fields = error.args[0]
        say(step, {"sqlstate": fields.get("C"), "severity": fields.get("V"), "message": fields.get("M"),
                   "hint": fields.get("H")})


conn = pg8000.native.Connection(
    OPTIONS["user"], host=OPTIONS["host"], port=OPTIONS["port"], password=OPTIONS["password"],
    database=OPTIONS["database"],
    ssl_context=ssl.create_default_context(cafile=OPTIONS["ca"]) if OPTIONS.get("ca") else False,
)


def run(query, **parameters):
    rows = conn.run(query, **parameters)
    return {"rows": rows, "count": conn.row_count, "columns": [[c["name"], c["type_oid"]] for c in conn.columns or []]}


run("DELETE FROM scratch")
attempt("query", lambda: run("SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id"))
attempt("types", lambda: run("SELECT * FROM types ORDER BY id"))
prepared = conn.prepare("SELECT * FROM orders WHERE id = :id")
for n in (7, 8):
    attempt("prepared", lambda: prepared.run(id=n))
prepared.close()
secret = conn.prepare("SELECT ssn, note_secret, name FROM customers WHERE id = :id")
for n in (1, 2):
    attempt("masked prepared", lambda: secret.run(id=n))
attempt("masked", lambda: run("SELECT id, ssn AS x, note_secret || '!' AS y, ARRAY[ssn] AS z FROM customers WHERE id <= 2 ORDER BY id"))
attempt("masked row", lambda: run("SELECT row_to_json(c) FROM customers c WHERE id = 1"))

run("START TRANSACTION")
attempt("insert", lambda: run("INSERT INTO scratch (id, t, b) VALUES (:id, :t, :b)", id=1, t="té\t\\x", b=b"\x00\xff"))
attempt("own write", lambda: run("SELECT * FROM scratch"))
attempt("fails", lambda: run("INSERT INTO scratch (id) VALUES (1)"))
attempt("failed", lambda: run("SELECT 1"))
run("ROLLBACK")
attempt("rolled back", lambda: run("SELECT count(*) FROM scratch"))

out = io.BytesIO()
attempt("copy out", lambda: conn.run("COPY orders TO STDOUT", stream=out) or out.getvalue().decode())
out = io.BytesIO()
attempt("copy out masked", lambda: conn.run("COPY customers (id, ssn, note_secret) TO STDOUT (FORMAT csv)", stream=out)
        or out.getvalue().decode())
lines = io.StringIO("".join(f"{n}\trow {n}\n" for n in range(1000)))
attempt("copy in", lambda: conn.run("COPY scratch (id, t) FROM STDIN", stream=lines) or conn.row_count)
attempt("copied", lambda: run("SELECT count(*), sum(length(t)) FROM scratch"))
attempt("deleted", lambda: run("DELETE FROM scratch"))

for query in ("SELECT 1/0", "SELECT * FROM nowhere", "INSERT INTO orders (id) VALUES (1)"):
    attempt(f"error {query}", lambda: run(query))
before = run("SELECT pg_backend_pid()")
attempt("denied", lambda: run("DELETE FROM orders WHERE id = 0"))
attempt("denied with parameters", lambda: run("DELETE FROM orders WHERE id = :id", id=0))
say("the same connection", before == run("SELECT pg_backend_pid()"))
attempt("goes on", lambda: run("SELECT count(*) FROM orders"))
conn.close()
