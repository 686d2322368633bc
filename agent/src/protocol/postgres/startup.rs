//! The first message of a connection (PostgreSQL, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest,
//! CancelRequest): a length, then a code where later messages have their fields. Without IO.
//!
//! Bias: what the server and we could understand differently is refused: a parameter that is there twice, a name that
//! the server would cut.

use std::collections::BTreeMap;

use super::frame::{Fault, Reader};
use crate::protocol::Detection;

/// The most bytes of a startup message: what the server takes (MAX_STARTUP_PACKET_LENGTH and the length itself).
pub const LIMIT: usize = 10_004;
/// The longest name of a user or database that the server keeps whole (NAMEDATALEN - 1); it cuts longer ones.
pub const NAME_LIMIT: usize = 63;
/// Bytes of the longest cancel key of protocol 3.2.
pub const KEY_LIMIT: usize = 256;

const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

/// A protocol version: major in the upper half, minor in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// 3.0
    pub const V3_0: Self = Self(0x0003_0000);
    /// 3.2: longer cancel keys. There is no 3.1.
    pub const V3_2: Self = Self(0x0003_0002);

    /// The newest version that is carried here and is not above this one.
    #[must_use]
    pub fn carried(self) -> Self {
        if self >= Self::V3_2 {
            Self::V3_2
        } else {
            Self::V3_0
        }
    }
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// A request for TLS.
    Ssl,
    /// A request for GSSAPI encryption.
    Gss,
    /// A request to cancel what another connection is doing.
    Cancel {
        /// The process that serves that connection.
        process: u32,
        /// The key that proves that it is the asker's own.
        key: Box<[u8]>,
    },
    /// The login.
    Startup(Startup),
}

/// Whether a connection is for replication (`replication` parameter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// It is not.
    No,
    /// Physical: the whole server's log; belongs to no database.
    Physical,
    /// Logical: with a database, in which plain statements run too.
    Logical,
}

/// A StartupMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The version asked for.
    pub version: Version,
    /// `user`
    pub user: Box<str>,
    /// `database`, where there is one; the server takes the user's name otherwise.
    pub database: Option<Box<str>>,
    /// `replication`
    pub replication: Replication,
    /// `options`, as it is: switches for the server process.
    pub options: Option<Box<str>>,
    /// Protocol extensions (`_pq_.` parameters), by name; none is known here.
    pub extensions: Vec<Box<str>>,
    /// All but the extensions, as they came.
    pub parameters: Vec<(Box<str>, Box<str>)>,
    /// Those without a meaning of their own: settings of the session, by name in lower case.
    pub settings: BTreeMap<Box<str>, Box<str>>,
}

/// Why a first message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is malformed.
    #[error(transparent)]
    Frame(#[from] Fault),
    /// A version that is not spoken here.
    #[error("unsupported frontend protocol {}.{}: Portcullis supports 3.0 to 3.2", .0 >> 16, .0 & 0xffff)]
    Version(u32),
    /// No user.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// A parameter that is there twice, or under a name that only differs in case from one with a meaning.
    #[error("a startup parameter can be read in two ways")]
    Ambiguous,
    /// A name longer than the server keeps.
    #[error("a user or database name is longer than {NAME_LIMIT} bytes")]
    Name,
    /// Not a truth value, and not `database`.
    #[error("invalid value for parameter \"replication\"")]
    Replication,
}

/// Whether bytes are the start of a PostgreSQL connection.
///
/// A StartupMessage is told from a Kafka request, which has a length and a small number in the same places, by its
/// ninth byte: there a parameter's name begins, and Kafka has the upper byte of a counter.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detection {
    let at = |i: usize| bytes.get(i).copied();
    // The upper half of the length: below 65,536 whatever follows.
    if at(0).is_some_and(|b| b != 0) || at(1).is_some_and(|b| b != 0) {
        return Detection::No;
    }
    let Some(&[_, _, high, low]) = bytes.first_chunk::<4>() else {
        let fits = at(2).is_none_or(|b| usize::from(b) <= LIMIT >> 8);
        return if fits { Detection::NeedMore } else { Detection::No };
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(8..=LIMIT).contains(&length) {
        return Detection::No;
    }
    let code = |code: u32| {
        let code = code.to_be_bytes();
        bytes[4..].iter().zip(code).all(|(a, b)| *a == b)
    };
    // Servers take them at any length; here those with another than theirs are refused in words.
    if code(SSL) || code(GSS) || code(CANCEL) {
        return if bytes.len() >= 8 {
            Detection::Yes
        } else {
            Detection::NeedMore
        };
    }
    match (at(4), at(5), at(8)) {
        (Some(1..), ..) => Detection::No,
        (_, None, _) => Detection::NeedMore,
        // Older servers take version 2, and at any length; it is refused in words.
        (_, Some(2), _) => Detection::Yes,
        (_, Some(3), _) if length <= 9 && bytes.len() >= 8 => Detection::Yes,
        (_, Some(3), None) => Detection::NeedMore,
        (_, Some(3), Some(1..)) => Detection::Yes,
        (_, Some(_), _) => Detection::No,
    }
}

/// The first message, and how many bytes it took; `None` while it is not whole.
///
/// # Errors
/// When it is none, exceeds a limit, or can be read in two ways.
pub fn parse(input: &[u8]) -> Result<Option<(usize, First)>, Refused> {
    let Some(length) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length);
    if length < 8 {
        return Err(Fault::Length.into());
    }
    // A length above the limit is most often no length at all: what else the bytes are cannot be said.
    if length as usize > LIMIT {
        return Err(Fault::TooLarge { limit: LIMIT }.into());
    }
    let Some(code) = input.get(4..8) else {
        return Ok(None);
    };
    let code = code.iter().fold(0, |code, b| code << 8 | u32::from(*b));
    if code >> 16 != 3 && ![SSL, GSS, CANCEL].contains(&code) {
        return Err(Refused::Version(code));
    }
    let Some(body) = input.get(8..length as usize) else {
        return Ok(None);
    };
    let first = match code {
        SSL | GSS if !body.is_empty() => return Err(Fault::Fields.into()),
        SSL => First::Ssl,
        GSS => First::Gss,
        CANCEL => cancel(body)?,
        _ => First::Startup(startup(Version(code), body)?),
    };
    Ok(Some((length as usize, first)))
}

fn cancel(body: &[u8]) -> Result<First, Refused> {
    let mut r = Reader::new(body);
    let process = r.u32()?;
    let key = r.rest();
    if !(4..=KEY_LIMIT).contains(&key.len()) {
        return Err(Fault::Fields.into());
    }
    Ok(First::Cancel {
        process,
        key: key.into(),
    })
}

fn startup(version: Version, body: &[u8]) -> Result<Startup, Refused> {
    let mut r = Reader::new(body);
    let mut found = Startup {
        version,
        user: "".into(),
        database: None,
        replication: Replication::No,
        options: None,
        extensions: Vec::new(),
        parameters: Vec::new(),
        settings: BTreeMap::new(),
    };
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let name = r.text()?;
        if name.is_empty() {
            break;
        }
        let value = r.text()?;
        // Settings' names do not differ by case; a second one would replace the first, for the server if not for us.
        let lower = name.to_ascii_lowercase();
        if !seen.insert(lower.clone()) {
            return Err(Refused::Ambiguous);
        }
        match name {
            "user" => found.user = value.into(),
            "database" => found.database = (!value.is_empty()).then(|| value.into()),
            "options" => found.options = Some(value.into()),
            "replication" => found.replication = replication(value)?,
            _ if name.starts_with("_pq_.") => {
                found.extensions.push(name.into());
                continue;
            }
            _ if matches!(&*lower, "user" | "database" | "options" | "replication")
                || lower.starts_with("_pq_.") =>
            {
                return Err(Refused::Ambiguous);
            }
            _ => {
                found.settings.insert(lower.into(), value.into());
            }
        }
        found.parameters.push((name.into(), value.into()));
    }
    r.end()?;
    if found.user.is_empty() {
        return Err(Refused::NoUser);
    }
    let names = std::iter::once(&found.user).chain(&found.database);
    if names.into_iter().any(|n| n.len() > NAME_LIMIT) {
        return Err(Refused::Name);
    }
    Ok(found)
}

/// `replication`: `database`, or a truth value by the server's rules (parse_bool: any beginning of a word that says
/// which, case does not matter).
fn replication(value: &str) -> Result<Replication, Refused> {
    if value == "database" {
        return Ok(Replication::Logical);
    }
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    if begins("true", 1) || begins("yes", 1) || value == "on" || value == "1" {
        Ok(Replication::Physical)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || value == "0" {
        Ok(Replication::No)
    } else {
        Err(Refused::Replication)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{
        super::frame::{put_cstr, write_untagged},
        *,
    };

    fn packet(code: u32, parameters: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        write_untagged(&mut out, |out| {
            out.extend_from_slice(&code.to_be_bytes());
            for (name, value) in parameters {
                put_cstr(out, name.as_bytes());
                put_cstr(out, value.as_bytes());
            }
            out.extend_from_slice(&[0]);
        });
        out
    }

    fn request(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).unwrap();
        [&length.to_be_bytes(), &code.to_be_bytes(), rest].concat()
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut samples = vec![
            request(SSL, b""),
            request(GSS, b""),
            request(SSL, b"x"),
            request(CANCEL, &[0; 8]),
            request(CANCEL, &[7; 4 + 256]),
            request(0x0003_0000, b""),
            request(0x0003_0000, b"\0"),
            request(0x0002_0000, &[0; 288]),
        ];
        for version in [0x0003_0000, 0x0003_0002, 0x0003_270f] {
            samples.push(packet(version, &[("user", "ada")]).to_vec());
        }
        samples
    }

    #[test]
    fn detected_at_every_length_and_never_unlearnt() {
        for sample in samples() {
            let mut settled = None;
            for n in 0..=sample.len() {
                let verdict = detect(&sample[..n]);
                match settled {
                    None if verdict == Detection::Yes => settled = Some(n),
                    None => assert_eq!(verdict, Detection::NeedMore, "{n} of {sample:?}"),
                    Some(_) => assert_eq!(verdict, Detection::Yes, "{n} of {sample:?}"),
                }
            }
            assert!(settled.is_some_and(|n| (6..=9).contains(&n)), "{sample:?}");
        }
        for no in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01\0\xf0\x01",
            b"\0\x1d\x12\x34\x01\0\0\x01",
            b"\0\0\0\x07\0\x03\0\0",
            b"\0\0\x27\x15\0\x03\0\0user",
            b"\0\0\0\x20\0\x04\0\0user",
            b"\0\0\0\x20\x04\xd2\x16\x31user",
            b"\0\0\0\x1a\0\x03\0\0\0\0\0\x01\0\x04test",
        ] {
            let mut verdict = Detection::NeedMore;
            for n in 0..=no.len() {
                let now = detect(&no[..n]);
                assert!(now != Detection::Yes, "{}", no.escape_ascii());
                assert!(
                    verdict == Detection::NeedMore || now == verdict,
                    "{}",
                    no.escape_ascii()
                );
                verdict = now;
            }
            assert_eq!(verdict, Detection::No, "{}", no.escape_ascii());
        }
    }

    #[test]
    fn what_is_detected_is_read_whole_or_not_at_all() {
        for sample in samples() {
            for n in 0..sample.len() {
                let early = parse(&sample[..n]);
                assert!(
                    matches!(early, Ok(None)) || early == parse(&sample),
                    "{n} of {sample:?}"
                );
            }
        }
        let Ok(Some((28, First::Startup(startup)))) =
            parse(&packet(0x0003_0000, &[("user", "ada"), ("database", "")]))
        else {
            panic!("no startup");
        };
        assert_eq!((&*startup.user, startup.database), ("ada", None));
    }

    #[test]
    fn parameters() {
        let parse = |parameters: &[(&str, &str)]| match super::parse(&packet(0x0003_0002, parameters)) {
            Ok(Some((_, First::Startup(startup)))) => Ok(startup),
            Err(refused) => Err(refused),
            other => panic!("{other:?}"),
        };
        let startup = parse(&[
            ("user", "ada"),
            ("database", "app"),
            ("Client_Encoding", "UTF8"),
            ("options", "-c a=b"),
            ("_pq_.x", "1"),
            ("replication", "OF"),
        ])
        .unwrap();
        assert_eq!(startup.version, Version::V3_2);
        assert_eq!(startup.database.as_deref(), Some("app"));
        assert_eq!(&*startup.settings["client_encoding"], "UTF8");
        assert_eq!(startup.parameters.len(), 5);
        assert_eq!(&*startup.parameters[2].0, "Client_Encoding");
        assert_eq!(startup.extensions, [Box::from("_pq_.x")]);
        assert_eq!(startup.replication, Replication::No);
        let long = "x".repeat(64);
        for (parameters, refused) in [
            (&[("database", "x")][..], Refused::NoUser),
            (&[("user", "")], Refused::NoUser),
            (&[("user", "a"), ("user", "b")], Refused::Ambiguous),
            (&[("user", "a"), ("USER", "b")], Refused::Ambiguous),
            (&[("User", "a")], Refused::Ambiguous),
            (&[("user", "a"), ("_PQ_.x", "b")], Refused::Ambiguous),
            (
                &[("user", "a"), ("datestyle", "x"), ("DateStyle", "y")],
                Refused::Ambiguous,
            ),
            (&[("user", &long)], Refused::Name),
            (&[("user", "a"), ("database", &long)], Refused::Name),
            (&[("user", "a"), ("replication", "o")], Refused::Replication),
            (&[("user", "a"), ("replication", "")], Refused::Replication),
            (&[("user", "a"), ("replication", "2")], Refused::Replication),
        ] {
            assert_eq!(parse(parameters), Err(refused), "{parameters:?}");
        }
        for (value, expected) in [
            ("t", Replication::Physical),
            ("TRUE", Replication::Physical),
            ("on", Replication::Physical),
            ("1", Replication::Physical),
            ("database", Replication::Logical),
            ("f", Replication::No),
            ("0", Replication::No),
        ] {
            assert_eq!(
                parse(&[("user", "a"), ("replication", value)])
                    .unwrap()
                    .replication,
                expected
            );
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        let user = b"user\0a\0";
        for (bytes, refused) in [
            (request(3 << 16, b""), Refused::Frame(Fault::Fields)),
            (request(3 << 16, b"user\0a"), Refused::Frame(Fault::Fields)),
            (request(3 << 16, user), Refused::Frame(Fault::Fields)),
            (request(3 << 16, b"user\0a\0\0x"), Refused::Frame(Fault::Fields)),
            (request(3 << 16, b"user\0\xff\0\0"), Refused::Frame(Fault::Text)),
            (request(2 << 16, &[0; 288]), Refused::Version(2 << 16)),
            (request(4 << 16, b"\0"), Refused::Version(4 << 16)),
            (request(SSL, b"x"), Refused::Frame(Fault::Fields)),
            (request(CANCEL, &[0; 7]), Refused::Frame(Fault::Fields)),
            (request(CANCEL, &[0; 261]), Refused::Frame(Fault::Fields)),
            (vec![0, 0, 0, 7], Refused::Frame(Fault::Length)),
            (
                vec![0, 0, 0x27, 0x15],
                Refused::Frame(Fault::TooLarge { limit: LIMIT }),
            ),
            (b"GET ".to_vec(), Refused::Frame(Fault::TooLarge { limit: LIMIT })),
        ] {
            assert_eq!(
                parse(&bytes).map(|_| ()),
                Err(refused),
                "{}",
                bytes.escape_ascii()
            );
        }
        let text = Refused::Version(2 << 16).to_string();
        assert!(text.contains("2.0"), "{text}");
    }

    #[test]
    fn versions_carried() {
        for (asked, carried) in [
            (Version(3 << 16), Version::V3_0),
            (Version(3 << 16 | 1), Version::V3_0),
            (Version::V3_2, Version::V3_2),
            (Version(3 << 16 | 9999), Version::V3_2),
        ] {
            assert_eq!(asked.carried(), carried);
        }
    }
}
