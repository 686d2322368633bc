"""psycopg 3: what it gets, as JSON lines. The first argument says where to connect, as JSON."""

import json
import sys
import threading
import time

import psycopg

OPTIONS = json.loads(sys.argv[1])


def connect(**more):
    tls = {"sslmode": "verify-full", "sslrootcert": OPTIONS["ca"]} if OPTIONS.get("ca") else {"sslmode": "disable"}
    return psycopg.connect(
        host=OPTIONS["host"], port=OPTIONS["port"], user=OPTIONS["user"], password=OPTIONS["password"],
        dbname=OPTIONS["database"], autocommit=True, **tls, **more,
    )


def say(step, value):
    print(json.dumps({"step": step, "is": value}, default=str), flush=True)


def failure(error):
    diag = error.diag
    return {"sqlstate": error.sqlstate, "severity": diag.severity, "message": diag.message_primary,
            "hint": diag.message_hint}


def attempt(step, call):
    try:
        say(step, call())
    except psycopg.Error as error:
        say(step, failure(error))


def rows(cursor, query, parameters=None, **more):
    cursor.execute(query, parameters, **more)
    return {"columns": [[c.name, c.type_code] for c in cursor.description], "status": cursor.statusmessage,
            "rows": [list(r) for r in cursor.fetchall()]}


def changed(cursor, query, parameters=None):
    cursor.execute(query, parameters)
    return cursor.statusmessage


CUSTOMERS = "SELECT id, name, balance, data, tags, raw, born FROM customers WHERE id <= 3 ORDER BY id"
MASKED = "SELECT id, ssn, note_secret AS alias, ssn || '!' AS more FROM customers WHERE id <= 2 ORDER BY id"


def formats(conn, binary):
    name = "binary" if binary else "text"
    cursor = conn.cursor(binary=binary)
    attempt(f"query {name}", lambda: rows(cursor, CUSTOMERS))
    attempt(f"types {name}", lambda: rows(cursor, "SELECT * FROM types WHERE id = 1"))
    # The same twice, as a statement of the server's.
    for one in (7, 8):
        attempt(f"prepared {name}", lambda: rows(cursor, "SELECT * FROM orders WHERE id = %s", [one], prepare=True))
    for one in (1, 2):
        query = "SELECT ssn, note_secret, name FROM customers WHERE id = %s"
        attempt(f"masked prepared {name}", lambda: rows(cursor, query, [one], prepare=True))
    attempt(f"masked {name}", lambda: rows(cursor, MASKED))
    attempt(f"masked row {name}", lambda: rows(cursor, "SELECT to_jsonb(c) FROM customers c WHERE id = 1"))
    attempt(f"masked view {name}", lambda: rows(cursor, "SELECT * FROM customer_names WHERE id = 2"))


def transaction(conn):
    cursor = conn.cursor()
    conn.autocommit = False
    attempt("insert", lambda: changed(cursor, "INSERT INTO scratch (id, t, n, j, a, b) VALUES (1, %s, %s, %s, %s, %s)",
                                      ["té\t\\x", 1.25, json.dumps({"a": [1]}), [1, None, 3], b"\x00\xff"]))
    attempt("read own write", lambda: rows(cursor, "SELECT * FROM scratch"))
    try:
        with conn.transaction():
            cursor.execute("INSERT INTO scratch (id) VALUES (1)")
    except psycopg.Error as error:
        say("savepoint rolled back", failure(error))
    attempt("goes on", lambda: rows(cursor, "SELECT count(*) FROM scratch"))
    conn.rollback()
    attempt("rolled back", lambda: rows(cursor, "SELECT count(*) FROM scratch"))
    conn.commit()
    conn.autocommit = True


def copy(conn):
    cursor = conn.cursor()
    masked = "(SELECT id, ssn, note_secret, name FROM customers WHERE id < 5 ORDER BY id)"
    for options in ("", "(FORMAT csv, HEADER)", "(FORMAT binary)"):
        with cursor.copy(f"COPY orders TO STDOUT {options}") as out:
            data = b"".join(out)
        say(f"copy out {options}", data.hex() if "binary" in options else data.decode())
        with cursor.copy(f"COPY {masked} TO STDOUT {options}") as out:
            if "binary" in options:
                out.set_types(["int4", "text", "text", "text"])
                say(f"copy out masked {options}", list(out.rows()))
            else:
                say(f"copy out masked {options}", b"".join(out).decode())
    with cursor.copy("COPY scratch (id, t, a) FROM STDIN") as into:
        for n in range(1000):
            into.write_row([n, f"row {n}\n", [n, n + 1]])
    say("copy in", cursor.statusmessage)
    with cursor.copy("COPY scratch (id, t) FROM STDIN (FORMAT binary)") as into:
        into.set_types(["int4", "text"])
        for n in range(1000, 1010):
            into.write_row([n, f"row {n}"])
    say("copy in binary", cursor.statusmessage)
    attempt("copied", lambda: rows(cursor, "SELECT count(*), sum(length(t)), sum(a[2]) FROM scratch"))

    def breaks_off():
        with cursor.copy("COPY scratch (id) FROM STDIN") as into:
            into.write("not a number\n")

    attempt("copy in fails", breaks_off)
    attempt("deleted", lambda: changed(cursor, "DELETE FROM scratch"))


def pipeline(conn):
    with conn.pipeline():
        cursors = [conn.execute("SELECT id, item FROM orders WHERE id = %s", [n]) for n in range(1, 21)]
        cursors.append(conn.execute(MASKED))
    say("pipeline", [c.fetchall() for c in cursors])
    try:
        with conn.pipeline() as pipe:
            first = conn.execute("SELECT 1")
            pipe.sync()
            conn.execute("SELECT 1/0")
            conn.execute("INSERT INTO scratch (id) VALUES (1)")
    except psycopg.Error as error:
        say("pipeline fails", failure(error))
    say("before it", first.fetchall())
    attempt("pipeline left nothing", lambda: rows(conn.cursor(), "SELECT count(*) FROM scratch"))
    cursor = conn.cursor()

    def denied():
        with conn.pipeline():
            cursor.execute("DELETE FROM orders WHERE id = 0")
            conn.execute("SELECT 1")
        return cursor.statusmessage

    attempt("denied in a pipeline", denied)
    attempt("after it", lambda: rows(conn.cursor(), "SELECT count(*) FROM orders"))


def cursors(conn):
    with conn.transaction():
        with conn.cursor("named") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT id, note_secret FROM customers ORDER BY id")
            say("named cursor", [list(r) for r in cursor])


def wait_until_active(conn, text):
    """Another connection sees that the statement runs."""
    with connect() as other:
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE %s"
        while other.execute(query, [conn.info.backend_pid, text]).fetchone()[0] == 0:
            time.sleep(0.01)


def cancel(conn):
    def when_it_runs():
        wait_until_active(conn, "%pg_sleep%")
        conn.cancel()

    thread = threading.Thread(target=when_it_runs)
    thread.start()
    attempt("cancelled", lambda: rows(conn.cursor(), "SELECT pg_sleep(60)"))
    thread.join()
    attempt("goes on", lambda: rows(conn.cursor(), "SELECT 1"))


def notify(conn):
    conn.execute("LISTEN events")
    with connect() as other:
        other.execute("SELECT pg_notify('events', 'it happened')")
    heard = next(conn.notifies(timeout=20, stop_after=1))
    say("notified", [heard.channel, heard.payload])
    conn.execute("UNLISTEN *")
    notices = []
    conn.add_notice_handler(lambda diag: notices.append([diag.severity, diag.sqlstate, diag.message_primary]))
    conn.execute("DROP TABLE IF EXISTS not_there")
    conn.execute("SET application_name = 'a test'")
    say("noticed", [notices, conn.info.parameter_status("application_name")])


def errors(conn):
    cursor = conn.cursor()
    for query in ("SELECT 1/0", "SELECT * FROM nowhere", "SELECT 'x'::int", "INSERT INTO orders (id) VALUES (1)", ""):
        attempt(f"error {query}", lambda: changed(cursor, query))
    attempt("goes on", lambda: rows(cursor, "SELECT 1"))


def denials(conn):
    before = conn.execute("SELECT pg_backend_pid()").fetchone()
    cursor = conn.cursor()
    attempt("denied", lambda: changed(cursor, "DELETE FROM orders WHERE id = 0"))
    attempt("denied with parameters", lambda: changed(cursor, "DELETE FROM orders WHERE id = %s", [0]))
    attempt("denied in a string of two", lambda: changed(cursor, "SELECT 1; DELETE FROM orders WHERE id = 0"))
    conn.autocommit = False
    attempt("in a transaction", lambda: rows(cursor, "SELECT 1"))
    attempt("denied in a transaction", lambda: changed(cursor, "DELETE FROM orders WHERE id = 0"))
    conn.rollback()
    conn.autocommit = True
    after = conn.execute("SELECT pg_backend_pid()").fetchone()
    say("the same connection", before == after)
    attempt("goes on", lambda: rows(cursor, "SELECT count(*) FROM orders"))


with connect() as conn:
    say("server", [conn.info.parameter_status("server_version"), conn.info.encoding])
    conn.execute("DELETE FROM scratch")
    formats(conn, False)
    formats(conn, True)
    for part in (transaction, copy, pipeline, cursors, cancel, notify, errors, denials):
        part(conn)
