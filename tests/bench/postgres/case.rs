//! What is measured.

/// pgbench's scale: a million accounts, which fit the server's memory.
pub const SCALE: u32 = 10;

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub work: Work,
    /// What is aimed at, as it is shown.
    pub aim: &'static str,
}

/// What a case does.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// pgbench, with one of its own scripts or with `fifty`.
    Pgbench {
        script: &'static str,
        /// `simple`, `extended` or `prepared`.
        mode: &'static str,
        clients: u32,
    },
    /// One statement after the other, whose results are dropped.
    Drain(&'static str),
}

const fn pgbench(
    name: &'static str,
    script: &'static str,
    mode: &'static str,
    clients: u32,
    aim: &'static str,
) -> Case {
    let work = Work::Pgbench {
        script,
        mode,
        clients,
    };
    Case { name, work, aim }
}

const fn drain(name: &'static str, sql: &'static str, aim: &'static str) -> Case {
    let work = Work::Drain(sql);
    Case { name, work, aim }
}

const SELECT: &str = "select-only";

/// All cases.
pub const CASES: [Case; 15] = [
    pgbench("select, simple, 1 client", SELECT, "simple", 1, ""),
    pgbench("select, extended, 1 client", SELECT, "extended", 1, ""),
    pgbench("select, prepared, 1 client", SELECT, "prepared", 1, ""),
    pgbench("select, simple, 8 clients", SELECT, "simple", 8, ""),
    pgbench("select, extended, 8 clients", SELECT, "extended", 8, ""),
    pgbench(
        "select, prepared, 8 clients",
        SELECT,
        "prepared",
        8,
        "  (aim: 0.50 of direct in mode process, 0.28 in mode power, 30 us CPU)",
    ),
    pgbench("select, simple, 32 clients", SELECT, "simple", 32, ""),
    pgbench("select, extended, 32 clients", SELECT, "extended", 32, ""),
    pgbench("select, prepared, 32 clients", SELECT, "prepared", 32, ""),
    pgbench("TPC-B, prepared, 8 clients", "tpcb-like", "prepared", 8, ""),
    pgbench("50 rows, simple, 8 clients", "fifty", "simple", 8, ""),
    pgbench(
        "50 rows, prepared, 8 clients",
        "fifty",
        "prepared",
        8,
        "  (aim: 0.50 of direct)",
    ),
    drain(
        "1 million rows, SELECT",
        "SELECT id, name, email, ssn, city, amount FROM wide",
        "  (aim: 250 MB/s)",
    ),
    drain("1 million rows, COPY", "COPY wide TO STDOUT", "  (aim: 250 MB/s)"),
    drain(
        "1 million rows, SELECT, nothing to mask",
        "SELECT id, name, city, amount FROM wide",
        "",
    ),
];

/// The table for results of 50 and of a million rows. `ssn` is masked by its name; one e-mail address in a hundred
/// rows is what the detectors find, and policy reveals.
pub const WIDE: &str = "\
CREATE TABLE wide (
    id int PRIMARY KEY, name text NOT NULL, email text, ssn text, city text NOT NULL, amount numeric(10, 2) NOT NULL
);
INSERT INTO wide
SELECT n, 'Customer number ' || n, CASE WHEN n % 100 = 0 THEN 'customer' || n || '@example.com' END,
    format('%s-%s-%s', 200 + n % 400, 10 + n % 89, 1000 + n % 8999), 'Some town no. ' || n % 997, n * 0.25
FROM generate_series(1, 1000000) AS n;
GRANT SELECT ON wide TO app;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
";

/// Fifty rows of it by its primary key.
pub const FIFTY: &str = "\
\\set first random(1, 900000)
SELECT id, name, email, ssn, city, amount FROM wide WHERE id BETWEEN :first AND :first + 49;
";
