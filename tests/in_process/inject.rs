//! Credentials in requests, through the whole agent and over real TLS: they reach the destination that they are for, and
//! nothing else, however it is asked for.

use std::{
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use e2e::pki::Authority;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};

use super::rig::{Rig, memfind};

const ALLOW: &str = r#"@id("all") permit(principal, action, resource);"#;
const SECRET: &str = "vlt-7Qx/9+zK\"5ecret";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A file that only its owner can read, as a credential's should be; put there in one step.
fn private(dir: &Path, name: &str, text: &str) -> Result<()> {
    let next = dir.join(format!("{name}.next"));
    std::fs::write(&next, text)?;
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600))?;
    Ok(std::fs::rename(next, dir.join(name))?)
}

/// What the service was sent: the head of each request, and whether its connection showed a client certificate.
type Seen = Arc<Mutex<Vec<(String, bool)>>>;

/// A service for `localhost` that gives back what it was sent, in the form that the path asks for.
struct Service {
    address: SocketAddr,
    seen: Seen,
    connections: Arc<AtomicUsize>,
    task: tokio::task::AbortHandle,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start(authority: &Authority) -> Result<Self> {
        let leaf = authority.leaf(&["localhost", "127.0.0.1"])?;
        let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .allow_unauthenticated()
                .build()?;
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let keep = Arc::clone(&seen);
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, keep) = (acceptor.clone(), Arc::clone(&keep));
                tokio::spawn(async move {
                    let mut first = [0; 1];
                    stream.peek(&mut first).await?;
                    if first[0] != 0x16 {
                        return serve(stream, false, &keep).await;
                    }
                    let stream = acceptor.accept(stream).await?;
                    let known = stream.get_ref().1.peer_certificates().is_some();
                    serve(stream, known, &keep).await
                });
            }
        });
        Ok(Self {
            address,
            seen,
            connections,
            task: task.abort_handle(),
        })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn seen(&self) -> Vec<(String, bool)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl Stream, known: bool, seen: &Seen) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some(end) = memfind(&buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            let pieces = answer(&head);
            seen.lock().unwrap().push((head, known));
            for piece in pieces {
                stream.write_all(&piece).await?;
                stream.flush().await?;
            }
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// The answer to a request, in pieces.
fn answer(head: &str) -> Vec<Vec<u8>> {
    let path = head.split(' ').nth(1).unwrap_or("");
    let field = |name: &str| {
        head.lines()
            .find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map_or("", |(_, value)| value)
    };
    let token = field("authorization").trim_start_matches("Bearer ").to_owned();
    let whole = |status: &str, lines: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{lines}\r\n",
            body.len()
        );
        vec![[head.as_bytes(), body].concat()]
    };
    let form = path.rsplit('/').next().unwrap_or("");
    match form {
        "base64" => {
            let text = base64::engine::general_purpose::STANDARD.encode(field("authorization"));
            whole("200 OK", "", text.as_bytes())
        }
        "hex" => whole("200 OK", "", hex::encode(&token).as_bytes()),
        "url" => {
            let text: String = token.bytes().map(|b| format!("%{b:02X}")).collect();
            whole("200 OK", "", format!("token={text}&x=1").as_bytes())
        }
        "json" => {
            let text = serde_json::json!({ "headers": { "Authorization": field("authorization") } });
            whole(
                "200 OK",
                "Content-Type: application/json\r\n",
                text.to_string().as_bytes(),
            )
        }
        "gzip" => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            let _in_memory = packer.write_all(token.as_bytes());
            let body = packer.finish().unwrap_or_default();
            whole("200 OK", "Content-Encoding: gzip\r\n", &body)
        }
        "chunks" => {
            let mut pieces = vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()];
            pieces.extend(
                token
                    .bytes()
                    .map(|b| format!("1\r\n{}\r\n", char::from(b)).into_bytes()),
            );
            pieces.push(b"0\r\n\r\n".to_vec());
            pieces
        }
        "field" => whole("200 OK", &format!("X-Seen: {token}\r\n"), b"ok"),
        "error" => whole(
            "500 Oops",
            "Content-Type: text/html\r\n",
            format!("<pre>bad token {}</pre>", token.replace('"', "&quot;")).as_bytes(),
        ),
        "redirect" => whole("302 Found", "Location: https://evil.example/steal\r\n", b""),
        _ => whole("200 OK", "", token.as_bytes()),
    }
}

/// The agent in front of the service, with `upstream` (without its host and port) in the configuration.
async fn agent(authority: &Authority, service: &Service, upstream: &str) -> Result<Rig> {
    let port = service.address.port();
    Rig::with(ALLOW, |dir| {
        std::fs::write(dir.join("roots.pem"), authority.pem())?;
        private(dir, "secret", SECRET)?;
        let leaf = authority.leaf(&["agent.example"])?;
        std::fs::write(dir.join("client.pem"), leaf.chain)?;
        private(dir, "client.key", &leaf.key)?;
        let upstream = upstream.replace("{port}", &format!("port = {port}"));
        Ok(format!(
            "[tls]\nextra_roots_file = \"{{dir}}/roots.pem\"\n\
             [[credential]]\nname = \"key\"\nfile = \"{{dir}}/secret\"\n\
             [[credential]]\nname = \"cert\"\ncertificate_file = \"{{dir}}/client.pem\"\nkey_file = \"{{dir}}/client.key\"\n\
             {upstream}"
        ))
    })
    .await
}

const BEARER: &str = "[[upstream]]\nname = \"api\"\nprotocol = \"http\"\nhost = \"localhost\"\n{port}\n\
                      path_prefix = \"/v1\"\ninject = { bearer = \"key\" }\n";

/// A workload's connection over TLS, for a server name.
async fn connect(rig: &Rig, to: SocketAddr, name: &'static str) -> Result<Box<dyn Stream>> {
    let pem = std::fs::read(rig.dir.path().join("data/ca.pem"))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(ServerName::try_from(name)?, rig.connect(to).await)
        .await?;
    Ok(Box::new(stream))
}

/// One request, and its whole answer: the bytes as they came, and the content unpacked.
async fn ask(stream: &mut (impl Stream + ?Sized), request: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut all = Vec::new();
    let reading = async {
        loop {
            if let Some(content) = content(&all) {
                return Ok((all, content));
            }
            ensure!(
                stream.read_buf(&mut all).await? > 0,
                "closed after {}",
                all.escape_ascii()
            );
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .context("no whole answer")?
}

/// The content of an answer that is there as a whole.
fn content(all: &[u8]) -> Option<Vec<u8>> {
    let end = memfind(all, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let mut content = Vec::new();
    if head.contains("transfer-encoding: chunked") {
        let mut rest = &all[end..];
        loop {
            let line = memfind(rest, b"\r\n")?;
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
            if rest.len() < line + 4 + size {
                return None;
            }
            if size == 0 {
                break;
            }
            content.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 4 + size..];
        }
    } else {
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?;
        let length: usize = length.trim().parse().ok()?;
        content.extend_from_slice(all[end..].get(..length)?);
    }
    if head.contains("content-encoding: gzip") {
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&content[..]), &mut plain).ok()?;
        return Some(plain);
    }
    Some(content)
}

/// The secret, in any of the usual encodings, is in no file of the agent's.
fn not_stored(rig: &Rig) -> Result<()> {
    let encoded = [
        SECRET.to_owned(),
        hex::encode(SECRET),
        base64::engine::general_purpose::STANDARD.encode(SECRET)[..20].to_owned(),
    ];
    let mut left = vec![rig.dir.path().join("data"), rig.dir.path().join("run")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        } else if path.is_file() {
            let bytes = std::fs::read(&path)?;
            for form in &encoded {
                ensure!(
                    memfind(&bytes, form.as_bytes()).is_none(),
                    "{form} is in {}",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, br\r\n{lines}\r\n")
}

#[tokio::test]
async fn a_service_that_gives_everything_back_gives_nothing_away() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let service = Service::start(&authority).await?;
    let rig = agent(&authority, &service, BEARER).await?;
    let mut stream = connect(&rig, service.address, "localhost").await?;
    let forms = [
        "plain", "base64", "hex", "url", "json", "gzip", "chunks", "field", "error", "redirect",
    ];
    for form in forms {
        let (all, content) = ask(
            &mut *stream,
            &get(&format!("/v1/{form}"), "Authorization: Bearer mine\r\n"),
        )
        .await?;
        let (head, known) = service.seen().pop().context("it was asked")?;
        assert!(
            head.contains(&format!("\r\nAuthorization: Bearer {SECRET}")),
            "{form}: {head}"
        );
        assert!(
            !head.contains("mine") && !head.contains("br") && !known,
            "{form}: {head}"
        );
        let percent: String = SECRET.bytes().map(|b| format!("%{b:02X}")).collect();
        let b64 = base64::engine::general_purpose::STANDARD.encode(format!("Bearer {SECRET}"));
        let json = SECRET.replace('"', "\\\"");
        let page = SECRET.replace('"', "&quot;");
        for secret in [SECRET, &hex::encode(SECRET), &percent, &b64[12..30], &json, &page] {
            let found = [&all, &content]
                .iter()
                .any(|c| memfind(c, secret.as_bytes()).is_some());
            assert!(!found, "{form}: {}", all.escape_ascii());
        }
        if form != "redirect" {
            let shown = [&all, &content]
                .iter()
                .any(|c| memfind(c, b"*******").is_some() || memfind(c, b"0000000").is_some());
            assert!(shown, "{form}: {}", all.escape_ascii());
        }
    }
    let row = "SELECT count(*) FROM entry WHERE json_extract(body,'$.masked.injected_secret') = 1 \
               AND json_extract(body,'$.credentials[0].reference') = 'key' HAVING count(*) = 9";
    assert_eq!(rig.await_rows(row).await?, ["9"]);
    let row = "SELECT DISTINCT json_extract(body,'$.credential') FROM entry WHERE json_extract(body,'$.kind') = 'operation'";
    assert_eq!(rig.rows(row)?, ["key"]);
    not_stored(&rig)
}

#[tokio::test]
async fn no_other_place_gets_it() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let service = Service::start(&authority).await?;
    let rig = agent(&authority, &service, BEARER).await?;
    let mut stream = connect(&rig, service.address, "localhost").await?;
    // Another path, then where a redirect leads, by Host: on the connection that had it.
    ask(&mut *stream, &get("/v1/redirect", "")).await?;
    ask(&mut *stream, &get("/v2/plain", "")).await?;
    ask(&mut *stream, &get("/v1%2Fplain", "")).await?;
    let elsewhere = "GET /v1/steal HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let (all, _) = ask(&mut *stream, elsewhere).await?;
    assert!(all.starts_with(b"HTTP/1.1 421"), "{}", all.escape_ascii());
    // In the clear the name could be proved, and the secret would be read by anyone.
    let mut plain = rig.connect(service.address).await;
    ask(&mut plain, &get("/v1/plain", "")).await?;
    // Under another name there is no certificate for it, and so no connection.
    let mut other = connect(&rig, service.address, "evil.example").await?;
    let (all, _) = ask(&mut *other, elsewhere).await?;
    assert!(all.starts_with(b"HTTP/1.1 502"), "{}", all.escape_ascii());
    let with: Vec<bool> = service.seen().iter().map(|(h, _)| h.contains("Bearer")).collect();
    assert_eq!(with, [true, false, false, false], "{:?}", service.seen());
    not_stored(&rig)
}

#[tokio::test]
async fn in_the_clear_only_where_the_administrator_says_so() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let service = Service::start(&authority).await?;
    let upstream = "[[upstream]]\nname = \"api\"\nprotocol = \"http\"\nhost = \"127.0.0.1\"\n{port}\nplaintext = true\n\
                    inject = { query = \"api_key\", credential = \"key\" }\n";
    let rig = agent(&authority, &service, upstream).await?;
    let mut stream = rig.connect(service.address).await;
    let host = service.address.to_string();
    let request = format!("GET /x?a=1&%61pi_key=mine&b HTTP/1.1\r\nHost: {host}\r\n\r\n");
    ask(&mut stream, &request).await?;
    let (head, _) = service.seen().pop().context("it was asked")?;
    assert!(
        head.starts_with("GET /x?a=1&b&api_key=vlt-7Qx%2F9%2BzK%225ecret HTTP/1.1\r\n"),
        "{head}"
    );
    not_stored(&rig)
}

#[tokio::test]
async fn a_new_value_is_used_on_the_same_connection() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let service = Service::start(&authority).await?;
    let rig = agent(&authority, &service, BEARER).await?;
    let mut stream = connect(&rig, service.address, "localhost").await?;
    ask(&mut *stream, &get("/v1/plain", "")).await?;
    private(rig.dir.path(), "secret", "the-next-value-1")?;
    let began = tokio::time::Instant::now();
    loop {
        let (all, _) = ask(&mut *stream, &get("/v1/plain", "")).await?;
        assert!(memfind(&all, b"next-value").is_none() && memfind(&all, SECRET.as_bytes()).is_none());
        if service
            .seen()
            .pop()
            .is_some_and(|(h, _)| h.contains("Bearer the-next-value-1"))
        {
            break;
        }
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "the old value is still used"
        );
    }
    std::fs::remove_file(rig.dir.path().join("secret"))?;
    not_stored(&rig)
}

#[tokio::test]
async fn a_client_certificate_is_for_its_requests_alone() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let service = Service::start(&authority).await?;
    let upstream = "[[upstream]]\nname = \"api\"\nprotocol = \"http\"\nhost = \"localhost\"\n{port}\n\
                    path_prefix = \"/mtls\"\ncertificate = \"cert\"\n";
    let rig = agent(&authority, &service, upstream).await?;
    let mut stream = connect(&rig, service.address, "localhost").await?;
    for path in ["/plain", "/mtls/a", "/mtls/b", "/mtlsx", "/mtls"] {
        ask(&mut *stream, &get(path, "")).await?;
    }
    let known: Vec<bool> = service.seen().iter().map(|(_, known)| *known).collect();
    assert_eq!(known, [false, true, true, false, true]);
    let row = "SELECT count(*) FROM entry WHERE json_extract(body,'$.credentials[0].reference') = 'cert' HAVING count(*) = 3";
    assert_eq!(rig.await_rows(row).await?, ["3"]);
    Ok(())
}

#[tokio::test]
async fn without_it_nothing_is_sent_and_it_cannot_be_sent_elsewhere() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let service = Service::start(&authority).await?;
    let rig = agent(&authority, &service, BEARER).await?;
    let mut stream = connect(&rig, service.address, "localhost").await?;
    ask(&mut *stream, &get("/v1/plain", "")).await?;
    // A workload that got hold of it all the same.
    let leaks = [
        format!(
            "GET /x/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            hex::encode(SECRET)
        ),
        format!("GET /x HTTP/1.1\r\nHost: localhost\r\nX-K: {SECRET}\r\n\r\n"),
        format!(
            "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\nk={SECRET}",
            SECRET.len() + 2
        ),
    ];
    for leak in leaks {
        let mut stream = connect(&rig, service.address, "localhost").await?;
        let (all, _) = ask(&mut *stream, &leak).await?;
        assert!(all.starts_with(b"HTTP/1.1 403"), "{}", all.escape_ascii());
        assert!(memfind(&all, b"secret_leak").is_some(), "{}", all.escape_ascii());
    }
    let mut blind = rig.connect(service.address).await;
    blind.write_all(format!("\0\0binary {SECRET}").as_bytes()).await?;
    super::rig::closed(&mut blind).await?;
    // Not even as the name of a server. The next value is one that a name can have.
    private(rig.dir.path(), "secret", "0123456789abcdef-name")?;
    let began = tokio::time::Instant::now();
    while !service
        .seen()
        .pop()
        .is_some_and(|(h, _)| h.contains("abcdef-name"))
    {
        ask(&mut *stream, &get("/v1/plain", "")).await?;
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "the old value is still used"
        );
    }
    let connections = service.connections();
    let mut named = connect(&rig, service.address, "0123456789abcdef-name.evil.example").await?;
    let _no_answer = named.write_all(b"\0\0\0\0").await;
    assert_eq!(named.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    assert_eq!(service.connections(), connections);
    let kept = rig.rows("SELECT body FROM entry WHERE body LIKE '%0123456789abcdef-name%'")?;
    assert!(kept.is_empty(), "{kept:?}");
    let row =
        "SELECT count(*) FROM entry WHERE json_extract(body,'$.reason') = 'secret_leak' HAVING count(*) >= 6";
    rig.await_rows(row).await?;
    assert!(
        !service.seen().iter().any(|(h, _)| h.contains("/x")),
        "{:?}",
        service.seen()
    );
    not_stored(&rig)?;

    std::fs::remove_file(rig.dir.path().join("secret"))?;
    let began = tokio::time::Instant::now();
    loop {
        let (all, _) = ask(&mut *stream, &get("/v1/plain", "")).await?;
        if all.starts_with(b"HTTP/1.1 502") && memfind(&all, b"credential_unavailable").is_some() {
            break;
        }
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "{}",
            all.escape_ascii()
        );
    }
    Ok(())
}
