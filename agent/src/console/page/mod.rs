//! The page: what approvers see in a browser. Rendered here, without a script.
//!
//! Invariants: every route but the sign-in needs a session; every form carries the session's own token; whatever a
//! workload wrote goes through [`super::text::Shown`].

mod grants;
mod history;
mod queue;
mod request;
mod sign_in;
mod when;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::{FromRequestParts, OptionalFromRequestParts, Path, RawQuery},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use uuid::Uuid;

use super::{
    desk::Desk,
    session::{Session, Sessions},
};

/// Bytes of a form.
const MAX_FORM: usize = 16 * 1024;

/// What the page's routes share.
#[derive(Clone)]
pub struct Page {
    pub(super) desk: Desk,
    sessions: Arc<Sessions>,
    /// `https://approvals.example.com`
    origin: Arc<str>,
    secure: bool,
}

impl Page {
    /// At an origin.
    pub fn new(desk: Desk, origin: &str) -> Self {
        Self {
            desk,
            sessions: Arc::default(),
            origin: origin.into(),
            secure: origin.starts_with("https://"),
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(queue::show))
            .route("/requests/{id}", get(request::show))
            .route("/requests/{id}/answer", post(request::answer))
            .route("/grants", get(grants::show))
            .route("/grants/{id}/end", post(grants::end))
            .route("/break-glass", get(grants::glass).post(grants::ask_glass))
            .route("/break-glass/{id}/confirm", post(grants::confirm_glass))
            .route("/history", get(history::show))
            .route("/sign-in", get(sign_in::show))
            .route("/sign-in/start", get(sign_in::start))
            .route("/sign-in/done", get(sign_in::done))
            .route("/sign-out", post(sign_in::out))
            .route("/style.css", get(style))
            .route("/icon.svg", get(icon))
            .layer(axum::extract::DefaultBodyLimit::max(MAX_FORM))
            .with_state(self)
    }

    fn now(&self) -> i64 {
        self.desk.parts().clock.now_seconds()
    }

    /// A cookie's name. `__Host-`: no other host and no plain connection can have set it (RFC 6265bis).
    fn cookie_name(&self, name: &str) -> String {
        if self.secure {
            format!("__Host-portcullis-{name}")
        } else {
            format!("portcullis-{name}")
        }
    }

    /// `Set-Cookie`; an empty value takes it away. Lax, because the issuer's answer comes from another site.
    fn cookie(&self, name: &str, value: &str) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let age = if value.is_empty() { "; Max-Age=0" } else { "" };
        let text = format!(
            "{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}",
            self.cookie_name(name)
        );
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// What a browser sent under a name.
    fn cookie_of(&self, headers: &HeaderMap, name: &str) -> Option<String> {
        let name = self.cookie_name(name);
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, value)| *key == name && value.len() <= 64)
            .map(|(_, value)| value.to_owned())
    }

    /// What every page has around it.
    fn frame(&self, session: Option<&Session>, here: &'static str) -> Frame {
        let parts = self.desk.parts();
        let host = parts.host.to_string();
        let Some(session) = session else {
            return Frame {
                host,
                here,
                ..Frame::default()
            };
        };
        let overview = parts.approvals.overview();
        Frame {
            host,
            here,
            who: Some(session.approver.name.to_string()),
            subject: format!("{} of {}", session.approver.subject, session.approver.issuer),
            csrf: session.csrf.to_string(),
            open: overview.open.len(),
            grants: overview.grants.len(),
            break_glass: self.desk.break_glass_minutes().is_some(),
            waiting_glass: overview.break_glass.len(),
        }
    }

    /// A page that says one thing.
    fn message(&self, status: StatusCode, title: &str, text: &str, link: (&str, &str)) -> Response {
        let page = Message {
            frame: self.frame(None, ""),
            title: title.into(),
            text: text.into(),
            link: link.0.into(),
            link_text: link.1.into(),
        };
        render(status, &page)
    }
}

/// What every page has around it.
#[derive(Default)]
struct Frame {
    host: String,
    here: &'static str,
    who: Option<String>,
    subject: String,
    csrf: String,
    open: usize,
    grants: usize,
    break_glass: bool,
    waiting_glass: usize,
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    frame: Frame,
    title: String,
    text: String,
    link: String,
    link_text: String,
}

fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!("a page cannot be rendered: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A browser that is signed in, as an approver of something. Others are sent to the sign-in.
struct SignedIn(Session);

impl FromRequestParts<Page> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, page: &Page) -> Result<Self, Response> {
        // A queue that loads itself again keeps nobody signed in.
        let acted = parts.uri.query() != Some(queue::AGAIN);
        let now = page.now();
        let cookie = page.cookie_of(&parts.headers, "session");
        let session = cookie
            .and_then(|cookie| page.sessions.get(&cookie, now, acted))
            .filter(|session| page.desk.is_fresh(&session.approver));
        let Some(session) = session else {
            let to =
                match <Path<Uuid> as OptionalFromRequestParts<Page>>::from_request_parts(parts, page).await {
                    Ok(Some(Path(id))) if parts.uri.path().starts_with("/requests/") => {
                        format!("/sign-in?then={id}")
                    }
                    _ => "/sign-in".into(),
                };
            return Err(Redirect::to(&to).into_response());
        };
        // Asked each time: policy, and with it who approves, changes.
        if !page.desk.admits(&session.approver) {
            let why = super::api::no_approver(&session.approver).to_string();
            return Err(page.message(
                StatusCode::FORBIDDEN,
                "Not an approver",
                &why,
                ("/sign-in", "Sign in as somebody else"),
            ));
        }
        Ok(Self(session))
    }
}

/// The refusal of a form that is not the session's own.
fn foreign(page: &Page, session: &Session, csrf: &str) -> Option<Response> {
    if session.owns(csrf) {
        return None;
    }
    page.desk.refused("web", "the form's token is not the session's");
    Some(page.message(
        StatusCode::FORBIDDEN,
        "Nothing was done",
        "The form is not this session's. Open the page again and repeat what you did.",
        ("/", "Queue"),
    ))
}

/// A form; what cannot be read as one is answered with a page.
struct Form<T>(T);

impl<T: serde::de::DeserializeOwned> axum::extract::FromRequest<Page> for Form<T> {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, page: &Page) -> Result<Self, Response> {
        match axum::Form::<T>::from_request(request, page).await {
            Ok(axum::Form(form)) => Ok(Self(form)),
            Err(error) => Err(page.message(
                error.status(),
                "Nothing was done",
                &error.body_text(),
                ("/", "Queue"),
            )),
        }
    }
}

/// Whether a query says that something was done; one of a fixed set of words, never text from outside.
fn done(query: &RawQuery, known: &[(&str, &'static str)]) -> &'static str {
    let word = query.0.as_deref().and_then(|q| q.strip_prefix("done="));
    known
        .iter()
        .find(|(key, _)| Some(*key) == word)
        .map_or("", |(_, text)| text)
}

async fn style() -> Response {
    let kind = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (kind, include_str!("style.css")).into_response()
}

async fn icon() -> Response {
    let kind = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "max-age=86400"),
    ];
    (kind, include_str!("icon.svg")).into_response()
}

#[cfg(test)]
mod tests {
    /// The escaper is what keeps hostile text text, and the policy sent along forbids the rest.
    #[test]
    fn no_template_goes_around_the_escaper() {
        for text in [
            include_str!("base.html"),
            include_str!("break_glass.html"),
            include_str!("grants.html"),
            include_str!("history.html"),
            include_str!("message.html"),
            include_str!("queue.html"),
            include_str!("request.html"),
            include_str!("sign_in.html"),
        ] {
            for bad in ["safe", "escape", "<script", "style=", "javascript:", " on"] {
                let found = text.lines().find(|line| {
                    line.contains(bad)
                        && (bad != " on" || line.split(' ').any(|w| w.starts_with("on") && w.contains('=')))
                });
                assert_eq!(found, None, "{bad}");
            }
            // An attribute without quotes ends at the first space of whatever is put into it.
            assert!(!text.replace("?page={{", "").contains("={{"), "{text}");
            let forms = text.matches("method=\"post\"").count();
            let tokens = text.matches("name=\"csrf\" value=\"{{ frame.csrf }}\"").count();
            assert_eq!(forms, tokens, "{text}");
        }
    }
}
