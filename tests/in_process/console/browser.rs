//! As much of a browser as the tests need: cookies, forms, and headers that a test can bend.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A browser with one page open.
pub struct Browser {
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// The value of a form's field.
    pub fn field(&self, name: &str) -> Result<String> {
        let at = format!("name=\"{name}\" value=\"");
        let rest = self.body.split(&at).nth(1);
        let rest = rest.with_context(|| format!("no field {name} in {}", self.body))?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    }
}

impl Browser {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            cookies: BTreeMap::new(),
        }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        let host = self.address.to_string();
        self.send("GET", path, &[("Host", &host)], "").await
    }

    /// Sends a form as a page of the console's own would.
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Result<Answer> {
        let origin = self.origin();
        self.post_from(
            path,
            form,
            &[("Origin", &origin), ("Sec-Fetch-Site", "same-origin")],
        )
        .await
    }

    /// Sends a form with headers of the test's.
    pub async fn post_from(
        &mut self,
        path: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut url = reqwest::Url::parse("http://form/")?;
        url.query_pairs_mut().extend_pairs(form);
        let body = url.query().unwrap_or_default().to_owned();
        let host = self.address.to_string();
        let mut all = vec![
            ("Host", host.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        all.extend(headers);
        self.send("POST", path, &all, &body).await
    }

    /// Sends a request with these headers and this browser's cookies, and keeps those that come back.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let mut headers = headers.to_vec();
        let cookies: Vec<_> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let cookies = cookies.join("; ");
        if !cookies.is_empty() {
            headers.push(("Cookie", &cookies));
        }
        let answer = exchange(self.address, method, path, &headers, body).await?;
        for (_, value) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = value.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("a cookie")?;
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
        Ok(answer)
    }

    /// Signs in whoever is present at the issuer; what the console answers at the end.
    pub async fn sign_in(&mut self, issuer: SocketAddr, start: &str) -> Result<Answer> {
        let back = self.through_the_issuer(issuer, start).await?;
        let done = self.get(&back).await?;
        if done.status != 303 {
            bail!("not signed in: {} {}", done.status, done.body);
        }
        Ok(done)
    }

    /// From the console to the issuer; the path that the issuer sends the browser back to.
    pub async fn through_the_issuer(&mut self, issuer: SocketAddr, start: &str) -> Result<String> {
        let out = self.get(start).await?;
        let location = out.header("location").to_owned();
        let path = location.strip_prefix(&format!("http://{issuer}"));
        let path = path.with_context(|| format!("{} to {location:?}: {}", out.status, out.body))?;
        let back = exchange(issuer, "GET", path, &[("Host", &issuer.to_string())], "").await?;
        let location = back.header("location");
        let path = location.strip_prefix(&self.origin());
        Ok(path.with_context(|| format!("{back:?}"))?.to_owned())
    }
}

/// One request on a connection of its own.
pub async fn exchange(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).await?;
    let mut raw = Vec::new();
    tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut raw)).await??;
    parse(&String::from_utf8(raw)?)
}

/// Reads an answer.
pub fn parse(raw: &str) -> Result<Answer> {
    let (head, body) = raw
        .split_once("\r\n\r\n")
        .with_context(|| format!("no head in {raw:?}"))?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .context("a status")?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Answer {
        status: status.parse()?,
        headers: headers
            .map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}
