//! What is measured.

use e2e::{backend::SECRETS, nginx::Nginx};

/// One case; `path` is a file that the upstream serves.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub path: &'static str,
    pub tls: bool,
    pub connections: usize,
    /// A new connection for each request.
    pub fresh: bool,
    /// The aim, as a ratio to direct in the mode "power".
    pub aim: Option<f64>,
}

const fn case(
    name: &'static str,
    path: &'static str,
    tls: bool,
    connections: usize,
    aim: Option<f64>,
) -> Case {
    Case {
        name,
        path,
        tls,
        connections,
        fresh: false,
        aim,
    }
}

const fn fresh(name: &'static str, tls: bool) -> Case {
    Case {
        name,
        path: "/bench/1k.json",
        tls,
        connections: 8,
        fresh: true,
        aim: None,
    }
}

/// All cases.
pub const CASES: [Case; 10] = [
    case("1 KB, 2 connections", "/bench/1k.json", false, 2, None),
    case("1 KB, 32 connections", "/bench/1k.json", false, 32, Some(0.22)),
    case("8 KB JSON, 1 % sensitive, 32", "/bench/8k.json", false, 32, None),
    case("1 MB, 8 connections", "/bench/1m.json", false, 8, Some(0.25)),
    case("TLS 1 KB, 2 connections", "/bench/1k.json", true, 2, None),
    case("TLS 1 KB, 32 connections", "/bench/1k.json", true, 32, None),
    case(
        "TLS 8 KB JSON, 1 % sensitive, 32",
        "/bench/8k.json",
        true,
        32,
        None,
    ),
    case("TLS 1 MB, 8 connections", "/bench/1m.json", true, 8, None),
    fresh("new connection each, 8", false),
    fresh("TLS new connection each, 8", true),
];

/// Writes the files that the cases ask for.
pub fn files(nginx: &Nginx) -> anyhow::Result<()> {
    for (name, size) in [("1k.json", 1024), ("8k.json", 8 * 1024), ("1m.json", 1024 * 1024)] {
        nginx.file(name, json(size).as_bytes())?;
    }
    Ok(())
}

/// JSON text of about `size` bytes: records of which one value in a hundred is sensitive, in bodies of 8 KB and more.
pub fn json(size: usize) -> String {
    let mut text = String::from("[");
    for n in 0.. {
        let record = if n % 25 == 24 {
            format!(
                r#"{{"id":{n},"host":"node-{}","owner":"{}","state":"running"}}"#,
                n % 40,
                SECRETS[0]
            )
        } else {
            format!(
                r#"{{"id":{n},"host":"node-{}","load":0.{:02},"state":"running"}}"#,
                n % 40,
                n % 97
            )
        };
        if text.len() + record.len() + 2 > size {
            break;
        }
        if n > 0 {
            text.push(',');
        }
        text.push_str(&record);
    }
    text.push(']');
    // White space is JSON, too, and makes the size exact.
    text.extend(std::iter::repeat_n(' ', size - text.len()));
    text
}
