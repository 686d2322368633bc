//! How PostgreSQL connections begin, through the spine: detected, encrypted in band or from the first byte, verified.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use e2e::pki::Authority;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::TcpListener,
};

use super::rig::Rig;

const ALLOW: &str = r#"@id("all") permit(principal, action, resource);"#;
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// AuthenticationOk, ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0ada\0database\0app\0\0";
    let length = u32::try_from(body.len() + 4).expect("short");
    [&length.to_be_bytes(), &body[..]].concat()
}

/// A server for `localhost` that lets everyone in; with TLS only, begun either way.
async fn server(authority: &Authority) -> Result<std::net::SocketAddr> {
    let leaf = authority.leaf(&["localhost", "127.0.0.1"])?;
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(leaf.key.as_bytes())?)?;
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut first = [0; 1];
                stream.peek(&mut first).await?;
                if first[0] != 0x16 {
                    let mut request = [0; 8];
                    stream.read_exact(&mut request).await?;
                    stream.write_all(b"S").await?;
                }
                let mut stream = acceptor.accept(stream).await?;
                let mut message = vec![0; startup().len()];
                stream.read_exact(&mut message).await?;
                stream.write_all(WELCOME).await?;
                stream.flush().await?;
                while stream.read(&mut message).await? > 0 {}
                std::io::Result::Ok(())
            });
        }
    });
    Ok(address)
}

async fn rig(authority: &Authority, more: &str) -> Result<(Rig, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, authority.pem())?;
    let more = format!("[tls]\nextra_roots_file = \"{}\"\n{more}", roots.display());
    Ok((Rig::new(ALLOW, &more).await?, dir))
}

/// TLS as a workload does it that trusts the host CA.
async fn handshake(rig: &Rig, stream: DuplexStream, alpn: &[&[u8]]) -> Result<Box<dyn Stream>> {
    let pem = std::fs::read(rig.dir.path().join("data/ca.pem"))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem)?)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Ok(Box::new(
        connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await?,
    ))
}

/// What a workload reads until it has seen enough, or the end.
async fn read(stream: &mut (impl AsyncRead + Unpin + ?Sized), enough: &[u8]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let reading = async {
        while !all.ends_with(enough) {
            // An end without close_notify is one, too.
            if stream.read_buf(&mut all).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .context("no answer")?;
    Ok(all)
}

#[tokio::test]
async fn tls_begun_either_way_is_verified_and_on_record() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let to = server(&authority).await?;
    for direct in [false, true] {
        let (rig, _roots) = rig(&authority, "").await?;
        let mut stream = rig.connect(to).await;
        if !direct {
            stream.write_all(&SSL_REQUEST).await?;
            assert_eq!(stream.read_u8().await?, b'S');
        }
        let mut stream = handshake(&rig, stream, &[b"postgresql"]).await?;
        stream.write_all(&startup()).await?;
        stream.flush().await?;
        assert_eq!(read(&mut *stream, WELCOME).await?, WELCOME);
        stream.write_all(b"X\0\0\0\x04").await?;
        stream.shutdown().await?;
        read(&mut *stream, b"until the end").await?;
        let row = "SELECT json_extract(body,'$.protocol') || ' ' || json_extract(body,'$.tls.downstream.sni') || ' ' \
                   || json_extract(body,'$.tls.downstream.alpn') || ' ' || json_extract(body,'$.tls.upstream.sni') || ' ' \
                   || json_extract(body,'$.tls.upstream.alpn') || ' ' || length(json_extract(body,'$.tls.upstream.chain_sha256')) \
                   FROM entry WHERE json_extract(body,'$.event') = 'close'";
        assert_eq!(
            rig.await_rows(row).await?,
            ["postgres localhost postgresql localhost postgresql 64"]
        );
        let row = "SELECT json_extract(body,'$.resource.id') FROM entry WHERE json_extract(body,'$.action') = 'sql:connect'";
        assert_eq!(rig.rows(row)?, ["localhost/app"]);
    }
    Ok(())
}

#[tokio::test]
async fn the_application_protocol_decides() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let to = server(&authority).await?;
    let (rig, _roots) = rig(&authority, "").await?;
    for (alpn, sent, answer) in [
        (
            &b"postgresql"[..],
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            &b"E"[..],
        ),
        (b"http/1.1", &startup(), b""),
    ] {
        let stream = rig.connect(to).await;
        let mut stream = handshake(&rig, stream, &[alpn]).await?;
        stream.write_all(sent).await?;
        stream.flush().await?;
        // What is not HTTP under its name is `tcp:connect`, and this server does not know http/1.1.
        let said = read(&mut *stream, b"until the end").await?;
        assert!(
            said.starts_with(answer) && said.is_empty() == answer.is_empty(),
            "{}",
            said.escape_ascii()
        );
    }
    let refused = handshake(&rig, rig.connect(to).await, &[b"h2"]).await;
    assert!(refused.is_err(), "nothing else is agreed on");
    Ok(())
}

#[tokio::test]
async fn a_declared_destination_speaks_what_is_declared() -> Result<()> {
    let authority = Authority::new("upstreams")?;
    let to = server(&authority).await?;
    let upstream = format!(
        "[[upstream]]\nname = \"billing\"\nprotocol = \"postgres\"\nhost = \"localhost\"\nport = {}\ntls = \"require\"\n",
        to.port()
    );
    let (rig, _roots) = rig(&authority, &upstream).await?;
    let mut stream = rig.connect(to).await;
    stream.write_all(b"SSH-2.0-OpenSSH\r\n").await?;
    let said = read(&mut stream, b"until the end").await?;
    let text = said.escape_ascii().to_string();
    assert!(
        said.starts_with(b"E") && text.contains("C54000") && text.contains("startup packet"),
        "{text}"
    );
    // Plain here, and encrypted on its way.
    let mut stream = rig.connect(to).await;
    stream.write_all(&startup()).await?;
    assert_eq!(read(&mut stream, WELCOME).await?, WELCOME);
    let row = "SELECT json_extract(body,'$.resource.id') || ' ' || json_extract(body,'$.decision') FROM entry \
               WHERE json_extract(body,'$.action') = 'sql:connect' ORDER BY seq";
    assert_eq!(rig.rows(row)?, ["billing/ deny", "billing/app allow"]);
    Ok(())
}
