//! A client that reads results and drops them: nothing is decoded but the messages' heads, so that it is not what is
//! measured.

use std::{
    env,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::load::Result_;

/// What to run, and for how long; where, libpq's variables say. The server must ask for no password.
#[derive(Clone, clap::Args)]
pub struct Drain {
    #[arg(long)]
    sql: String,
    #[arg(long)]
    seconds: f64,
}

pub fn drain(drain: &Drain) -> Result<()> {
    let mut client = Client::connect()?;
    // The first may find nothing cached, anywhere.
    client.query(&drain.sql)?;
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(drain.seconds);
    let (mut took, mut bytes) = (Vec::new(), 0);
    while took.is_empty() || Instant::now() < end {
        let began = Instant::now();
        bytes += client.query(&drain.sql)?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let seconds = began.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    let at = |q: f64| took.get((took.len() as f64 * q) as usize).copied().unwrap_or(0.0);
    let result = Result_ {
        requests: took.len() as u64,
        bytes,
        seconds,
        p50_us: at(0.5),
        p99_us: at(0.99),
        errors: 0,
    };
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been read and not been looked at.
    at: usize,
    end: usize,
}

impl Client {
    fn connect() -> Result<Self> {
        let var = |name: &str| env::var(name).with_context(|| name.to_owned());
        let mut stream = TcpStream::connect((var("PGHOST")?, var("PGPORT")?.parse::<u16>()?))?;
        stream.set_nodelay(true)?;
        let mut start = 196_608u32.to_be_bytes().to_vec();
        let (user, database) = (var("PGUSER")?, var("PGDATABASE")?);
        for word in ["user", &user, "database", &database, ""] {
            start.extend_from_slice(word.as_bytes());
            start.push(0);
        }
        stream.write_all(&u32::try_from(start.len() + 4)?.to_be_bytes())?;
        stream.write_all(&start)?;
        let mut client = Self {
            stream,
            buffer: vec![0; 256 * 1024],
            at: 0,
            end: 0,
        };
        client.until_ready()?;
        Ok(client)
    }

    /// Runs a statement; the bytes of the answer.
    fn query(&mut self, sql: &str) -> Result<u64> {
        let mut message = vec![b'Q'];
        message.extend_from_slice(&u32::try_from(sql.len() + 5)?.to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        self.stream.write_all(&message)?;
        self.until_ready()
    }

    /// Reads messages until the server waits for the next statement.
    fn until_ready(&mut self) -> Result<u64> {
        let mut bytes = 0;
        loop {
            let head = self.take(5)?;
            let (tag, length) = (head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
            let body = usize::try_from(length)?
                .checked_sub(4)
                .context("a length below 4")?;
            bytes += u64::from(length) + 1;
            match tag {
                b'E' => {
                    let text = String::from_utf8_lossy(self.take(body)?).into_owned();
                    bail!("{}", text.replace('\0', " "));
                }
                b'R' if self.take(body)? != [0; 4] => bail!("the server asks for a password"),
                b'R' => {}
                b'Z' => {
                    self.take(body)?;
                    return Ok(bytes);
                }
                _ => self.skip(body)?,
            }
        }
    }

    /// The next bytes, few enough for the buffer.
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        if length > self.buffer.len() {
            bail!("a message of {length} bytes");
        }
        while self.end - self.at < length {
            if self.buffer.len() - self.at < length {
                self.buffer.copy_within(self.at..self.end, 0);
                (self.at, self.end) = (0, self.end - self.at);
            }
            self.fill()?;
        }
        let taken = self.at..self.at + length;
        self.at += length;
        Ok(&self.buffer[taken])
    }

    fn skip(&mut self, mut length: usize) -> Result<()> {
        while length > self.end - self.at {
            length -= self.end - self.at;
            (self.at, self.end) = (0, 0);
            self.fill()?;
        }
        self.at += length;
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
        }
        let n = self.stream.read(&mut self.buffer[self.end..])?;
        if n == 0 {
            bail!("closed within an answer");
        }
        self.end += n;
        Ok(())
    }
}
