//! Where approvers answer: the API, the page, Slack, and whoever is told of requests.
//!
//! Invariants: an answer carries the identity of a human that was verified for it; nothing here approves by itself, by
//! default or by absence. README.md says how it is set up.

mod api;
mod desk;
mod guard;
mod notify;
mod page;
mod refusal;
mod server;
mod session;
mod slack;
#[cfg(test)]
pub mod testing;
pub use crate::model::text;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::post};
use tokio::net::TcpListener;

pub use self::{
    api::{Looking, Watched, approver as signed_in},
    desk::{Desk, Parts},
    notify::{Notifier, Pace, TargetStatus},
    refusal::Refusal,
};
use self::{
    guard::{Guard, guard},
    page::Page,
    slack::Slack,
};
use crate::{
    config::Config,
    drain::Drain,
    tls::{ListenerTls, TlsError},
};

/// Where Slack sends what was clicked.
const SLACK: &str = "/slack/actions";
/// Bytes of that: the whole message comes back with a click.
const SLACK_BODY: usize = 256 * 1024;

/// Why the page cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Its address is taken, or not this host's.
    #[error("[console] listen {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Its certificate cannot be used.
    #[error("[console]: {0}")]
    Tls(#[from] TlsError),
    /// A target of notifications cannot be set up.
    #[error("[[notify]] '{name}': {message}")]
    Notify {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
}

/// The API alone, for the control socket: admins may look, but an answer takes an approver.
pub fn control_api(desk: Desk) -> Router {
    api::router(desk, Looking::Free)
}

/// The page's listener, made but not served yet.
pub struct Console {
    listener: TcpListener,
    tls: Option<Arc<ListenerTls>>,
    app: Router,
}

impl Console {
    /// Listens where the configuration says; `None` where it says nothing.
    ///
    /// # Errors
    /// When the address or the certificate cannot be had.
    pub async fn bind(desk: &Desk, config: &Config) -> Result<Option<Self>, ConsoleError> {
        let console = &config.console;
        let (Some(address), Some(origin)) = (console.listen, console.origin()) else {
            return Ok(None);
        };
        let tls = match (&console.certificate_file, &console.key_file) {
            (Some(certificate), Some(key)) => Some(Arc::new(ListenerTls::load(certificate, key)?)),
            _ => None,
        };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ConsoleError::Listen { address, source })?;
        Ok(Some(Self {
            listener,
            tls,
            app: app(desk, console, &origin),
        }))
    }

    /// Its certificate, to be read again on reload.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<ListenerTls>> {
        self.tls.clone()
    }

    /// Serves until the agent stops.
    pub async fn serve(self, drain: Drain) {
        server::serve(self.listener, self.tls, self.app, drain).await;
    }
}

/// Everything that is reached over the network.
fn app(desk: &Desk, console: &crate::config::Console, origin: &str) -> Router {
    let mut app = Page::new(desk.clone(), origin)
        .router()
        .merge(api::router(desk.clone(), Looking::SignedIn));
    if let Some(slack) = Slack::new(desk.clone(), console, origin) {
        let slack = Router::new()
            .route(SLACK, post(slack::actions))
            .layer(DefaultBodyLimit::max(SLACK_BODY))
            .with_state(slack);
        app = app.merge(slack);
    }
    app.layer(middleware::from_fn_with_state(
        Guard::new(desk.clone(), origin),
        guard,
    ))
}
