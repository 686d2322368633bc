//! The JSON API behind nginx: customers with personal data, and what tests of HTTP need.

use std::{
    collections::BTreeMap,
    path::{Path as FsPath, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::world::World;

/// The running backend.
pub struct Backend {
    state: Arc<Mutex<Data>>,
    socket: PathBuf,
    task: tokio::task::AbortHandle,
}

struct Data {
    customers: BTreeMap<u64, Value>,
    seen: Vec<String>,
    authorization: Vec<String>,
}

type Shared = State<Arc<Mutex<Data>>>;

fn lock(state: &Mutex<Data>) -> MutexGuard<'_, Data> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Personal data of the two customers that are there at the start; a workload must never see it.
pub const SECRETS: [&str; 6] = [
    "ada@example.com",
    "219-09-9999",
    "4111 1111 1111 1111",
    "grace@example.org",
    "457-55-5462",
    "5500005555555559",
];

impl Backend {
    /// Listens on a unix socket, for nginx.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(world: &World) -> Result<Self> {
        let socket = world.path("api.sock");
        let _in = world.runtime().enter();
        let listener = tokio::net::UnixListener::bind(&socket).context("the backend's socket")?;
        let customers = BTreeMap::from([
            (1, customer(1, "Ada Lovelace", SECRETS[0], SECRETS[1], SECRETS[2])),
            (2, customer(2, "Grace Hopper", SECRETS[3], SECRETS[4], SECRETS[5])),
        ]);
        let state = Arc::new(Mutex::new(Data {
            customers,
            seen: Vec::new(),
            authorization: Vec::new(),
        }));
        let router = Router::new()
            .route("/customers", get(list).post(create))
            .route("/customers/{id}", get(one).delete(remove))
            .route("/op/{id}", get(op).post(op))
            .route("/echo", post(echo))
            .route("/mirror", post(mirror))
            .route("/whoami", get(whoami))
            .route("/events", get(events))
            .route("/big", get(big))
            .layer(middleware::from_fn_with_state(Arc::clone(&state), note))
            .with_state(Arc::clone(&state));
        let task = tokio::spawn(async move {
            let _ended_with_the_test = axum::serve(listener, router).await;
        });
        Ok(Self {
            state,
            socket,
            task: task.abort_handle(),
        })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &FsPath {
        &self.socket
    }

    /// Every request that arrived, as `METHOD URI`, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        lock(&self.state).seen.clone()
    }

    /// Every `Authorization` that /whoami was shown.
    #[must_use]
    pub fn authorization(&self) -> Vec<String> {
        lock(&self.state).authorization.clone()
    }

    /// How many customers there are now.
    #[must_use]
    pub fn customers(&self) -> usize {
        lock(&self.state).customers.len()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn customer(id: u64, name: &str, email: &str, ssn: &str, card: &str) -> Value {
    json!({ "id": id, "name": name, "email": email, "ssn": ssn, "card": card, "plan": "gold" })
}

/// Notes a request before anything is done for it: what the upstream has seen, it has seen.
async fn note(State(state): Shared, request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    lock(&state).seen.push(line);
    next.run(request).await
}

async fn list(State(state): Shared) -> Json<Value> {
    Json(json!({ "customers": lock(&state).customers.values().cloned().collect::<Vec<_>>() }))
}

async fn one(State(state): Shared, Path(id): Path<u64>) -> Response {
    match lock(&state).customers.get(&id) {
        Some(customer) => Json(customer.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn create(State(state): Shared, Json(customer): Json<Value>) -> Response {
    let mut state = lock(&state);
    let id = state.customers.keys().last().map_or(1, |last| last + 1);
    state.customers.insert(id, customer);
    (StatusCode::CREATED, Json(json!({ "id": id }))).into_response()
}

async fn remove(State(state): Shared, Path(id): Path<u64>) -> StatusCode {
    match lock(&state).customers.remove(&id) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

async fn op(Path(id): Path<String>) -> Json<Value> {
    Json(json!({ "op": id }))
}

/// What it was shown, to whoever asks.
async fn whoami(State(state): Shared, request: Request) -> Json<Value> {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    lock(&state).authorization.extend(shown.clone());
    Json(json!({ "shown": shown }))
}

/// Length and SHA-256 of what arrived.
async fn echo(request: Request) -> Response {
    let mut body = request.into_body();
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut bytes = 0u64;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            digest.update(&data);
        }
    }
    Json(json!({ "bytes": bytes, "sha256": hex::encode(digest.finish()) })).into_response()
}

/// What arrived, as it arrives.
async fn mirror(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body());
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// A body made of parts that come one by one.
struct Parts {
    next: u64,
    count: u64,
    every: Duration,
    sleep: std::pin::Pin<Box<tokio::time::Sleep>>,
    part: Box<dyn Fn(u64) -> Bytes + Send + Sync>,
}

impl Parts {
    fn body(count: u64, every: Duration, part: impl Fn(u64) -> Bytes + Send + Sync + 'static) -> Body {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        Body::new(Self {
            next: 0,
            count,
            every,
            sleep,
            part: Box::new(part),
        })
    }
}

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        use std::task::Poll;
        if self.next == self.count {
            return Poll::Ready(None);
        }
        if !self.every.is_zero() {
            std::task::ready!(Future::poll(self.sleep.as_mut(), cx));
            let at = tokio::time::Instant::now() + self.every;
            self.sleep.as_mut().reset(at);
        }
        let frame = hyper::body::Frame::data((self.part)(self.next));
        self.next += 1;
        Poll::Ready(Some(Ok(frame)))
    }
}

fn number(query: &BTreeMap<String, String>, name: &str, otherwise: u64) -> u64 {
    query.get(name).and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

/// Server-sent events: `count` of them, one every `ms` milliseconds.
async fn events(Query(query): Query<BTreeMap<String, String>>) -> Response {
    let every = Duration::from_millis(number(&query, "ms", 200));
    let body = Parts::body(number(&query, "count", 5), every, |n| {
        Bytes::from(format!("data: {{\"n\":{n},\"email\":\"{}\"}}\n\n", SECRETS[0]))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// `mb` MiB of JSON text, chunked, without anything sensitive.
async fn big(Query(query): Query<BTreeMap<String, String>>) -> Response {
    let line = b"{\"metric\":\"requests\",\"host\":\"node-17\",\"value\":12345,\"unit\":\"per second\"}\n";
    let part = Bytes::from(line.repeat(1024 * 1024 / line.len()));
    let body = Parts::body(number(&query, "mb", 1), Duration::ZERO, move |_| part.clone());
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
