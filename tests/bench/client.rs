//! A small HTTP/1.1 client that does not get in the way: one buffer, no allocation per request.

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Plain or TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection with its read buffer.
pub struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Client {
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            buffer: vec![0; 64 * 1024],
            filled: 0,
        }
    }

    /// One request and its whole response; the bytes of the body.
    pub async fn ask(&mut self, request: &[u8]) -> Result<u64> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head = loop {
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let text = &self.buffer[..head];
        if !text.starts_with(b"HTTP/1.1 200") {
            bail!("{}", String::from_utf8_lossy(&self.buffer[..self.filled]));
        }
        let length =
            header(text, b"content-length:").and_then(|v| std::str::from_utf8(v).ok()?.trim().parse().ok());
        let body = match length {
            Some(length) => self.exactly(head, length).await?,
            None => self.chunks(head).await?,
        };
        Ok(body)
    }

    async fn fill(&mut self) -> Result<()> {
        if self.filled == self.buffer.len() {
            bail!("a head of more than {} bytes", self.buffer.len());
        }
        let n = self.stream.read(&mut self.buffer[self.filled..]).await?;
        if n == 0 {
            bail!("closed within a response");
        }
        self.filled += n;
        Ok(())
    }

    async fn exactly(&mut self, head: usize, length: u64) -> Result<u64> {
        let mut left = length.saturating_sub((self.filled - head) as u64);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let n = self.stream.read(&mut self.buffer[..most]).await?;
            if n == 0 {
                bail!("closed within a body");
            }
            left -= n as u64;
        }
        self.filled = 0;
        Ok(length)
    }

    async fn chunks(&mut self, head: usize) -> Result<u64> {
        let (mut at, mut bytes) = (head, 0);
        loop {
            let line = loop {
                if let Some(end) = find(&self.buffer[at..self.filled], b"\r\n") {
                    break at + end;
                }
                at = self.compact(at);
                self.fill().await?;
            };
            let digits = self.buffer[at..line]
                .split(|b| *b == b';')
                .next()
                .unwrap_or_default();
            let size = u64::from_str_radix(std::str::from_utf8(digits)?.trim(), 16)?;
            at = line + 2;
            bytes += size;
            // The data and the line's end after it; for the last chunk, the end of no trailers.
            let mut left = usize::try_from(size)? + 2;
            while left > self.filled - at {
                left -= self.filled - at;
                (at, self.filled) = (0, 0);
                self.fill().await?;
            }
            at += left;
            if size == 0 {
                self.compact(at);
                return Ok(bytes);
            }
        }
    }

    /// Moves what is unread to the front.
    fn compact(&mut self, at: usize) -> usize {
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        0
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|b| *b == b'\n').find_map(|line| {
        let (given, value) = (line.get(..name.len())?, &line[name.len()..]);
        given.eq_ignore_ascii_case(name).then_some(value)
    })
}
