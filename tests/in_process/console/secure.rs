//! The page with a certificate of its own.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use portcullis::console::Console;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    POLICY,
    browser::{Answer, parse},
};
use crate::{people, rig::Rig};

/// Makes a certificate for the name and puts it there.
fn certificate(dir: &Path) -> Result<CertificateDer<'static>> {
    let pair = rcgen::generate_simple_self_signed(["approvals.test".to_owned()])?;
    std::fs::write(dir.join("page.pem"), pair.cert.pem())?;
    std::fs::write(dir.join("page.key"), pair.signing_key.serialize_pem())?;
    std::fs::set_permissions(dir.join("page.key"), std::fs::Permissions::from_mode(0o600))?;
    Ok(pair.cert.der().clone())
}

async fn get(address: SocketAddr, root: &CertificateDer<'static>, path: &str) -> Result<Answer> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("approvals.test")?;
    let mut stream = connector
        .connect(name, TcpStream::connect(address).await?)
        .await?;
    let host = format!("approvals.test:{}", address.port());
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut raw = Vec::new();
    tokio::time::timeout(super::PATIENCE, stream.read_to_end(&mut raw)).await??;
    parse(&String::from_utf8(raw)?)
}

#[tokio::test]
async fn cookies_are_this_hosts_alone_and_certificates_are_renewed() -> Result<()> {
    let address = super::free().await?;
    let more = format!(
        "{}[console]\nlisten = \"{address}\"\nurl = \"https://approvals.test:{}\"\n\
         certificate_file = \"{{dir}}/page.pem\"\nkey_file = \"{{dir}}/page.key\"\n",
        people::APPROVALS,
        address.port()
    );
    let rig = Rig::new(POLICY, &more).await?;
    let first = certificate(rig.dir.path())?;
    let console = Console::bind(&rig.core.desk, &rig.config)
        .await?
        .context("a page")?;
    let tls = console.tls().context("TLS")?;
    let serving = tokio::spawn(console.serve(rig.core.front.shared.drain.clone()));
    let start = get(address, &first, "/sign-in/start").await?;
    let cookie = start.header("set-cookie");
    assert!(
        cookie.starts_with("__Host-portcullis-sign-in=") && cookie.contains("; Secure"),
        "{cookie}"
    );
    assert!(start.header("strict-transport-security").contains("max-age="));
    assert!(
        start
            .header("location")
            .contains("redirect_uri=https%3A%2F%2Fapprovals.test"),
        "{start:?}"
    );
    // Plain HTTP is not answered.
    let mut plain = TcpStream::connect(address).await?;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    let mut raw = Vec::new();
    let _ = plain.read_to_end(&mut raw).await;
    assert!(!raw.starts_with(b"HTTP/"));
    let second = certificate(rig.dir.path())?;
    tls.reload()?;
    assert!(get(address, &first, "/sign-in").await.is_err());
    assert_eq!(get(address, &second, "/sign-in").await?.status, 200);
    serving.abort();
    Ok(())
}
