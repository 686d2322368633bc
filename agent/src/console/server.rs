//! The page's listener: bounded in connections, heads, bodies and time, with TLS where there is a certificate.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{drain::Drain, io::BoxStream, tls::ListenerTls};

/// Connections at once. Approvers are people.
const CONNECTIONS: usize = 256;
/// For a TLS handshake, for a request's head, and between two requests of a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that one connection stays.
const LIFE: Duration = Duration::from_secs(600);
/// Bytes of a head, and headers in it.
const HEAD: usize = 32 * 1024;
const HEADERS: usize = 64;

/// Serves until the agent stops.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ListenerTls>>, app: Router, drain: Drain) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stopping = drain.stopping();
    loop {
        // A connection beyond that waits in the kernel's queue, where it costs nothing.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            () = &mut stopping => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the page's listener: {error}");
                    // Out of descriptors: others must end before it can go on.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (tls, app, drain) = (tls.clone(), app.clone(), drain.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = drain.stopping() => {}
                _ = tokio::time::timeout(LIFE, one(stream, tls, app)) => {}
            }
        });
    }
}

async fn one(stream: TcpStream, tls: Option<Arc<ListenerTls>>, app: Router) {
    let _ = stream.set_nodelay(true);
    let stream: BoxStream = match tls {
        None => Box::new(stream),
        Some(tls) => match tls.accept(Box::new(stream), PATIENCE).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!("the page's TLS: {error}");
                return;
            }
        },
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
        .await;
    if let Err(error) = served {
        tracing::debug!("the page's connection: {error}");
    }
}
