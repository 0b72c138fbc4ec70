//! The API over HTTP: who may ask, what is asked, and the stream of events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use fulmen_api::{self as api, ErrorCode, Request as _};
use futures::Stream;
use serde::Deserialize;

use crate::{
    api_error::ApiError,
    commands::{App, Caller, Serve},
};

/// The longest request: an invoice, and room.
const MAX_BODY: usize = 64 * 1024;
/// After so long without an event a listener gets a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Lets a caller say that a command repeated is the same one.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/events", get(events))
        .route("/v1/{command}", post(command).get(question))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authorise))
        .with_state(app)
}

/// Lets only those through who have the token.
async fn authorise(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let message = match given {
        Some(token) if app.token.is(token.trim()) => return next.run(request).await,
        Some(_) => {
            "the token is wrong; it is in the file `api-token` of the daemon's data directory (is --data-dir that of this daemon?)"
        }
        None => {
            "no token; send the header `Authorization: Bearer <token>` with the content of the file `api-token` of the daemon's data directory"
        }
    };
    ApiError::new(ErrorCode::Unauthorized, message).into_response()
}

async fn nowhere() -> Response {
    no_such_command("").into_response()
}

fn no_such_command(name: &str) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!(
            "there is no command {:?}; the commands are POST /v1/<command> with {}, and GET /v1/events",
            crate::views::printable(name),
            NAMES.join(", ")
        ),
    )
}

async fn command(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!("the request is longer than {MAX_BODY} bytes");
            return ApiError::new(ErrorCode::TooLarge, text).into_response();
        }
        Err(e) => return ApiError::invalid(e.to_string()).into_response(),
    };
    let key = headers
        .get(IDEMPOTENCY_KEY)
        .map(|value| value.as_bytes().to_vec());
    let caller = match Caller::new(key.as_deref()) {
        Ok(caller) => caller,
        Err(e) => return e.into_response(),
    };
    dispatch(app, &name, &body, caller).await
}

/// What can be asked by GET, without parameters.
const QUESTIONS: &[&str] = &[
    api::GetInfo::NAME,
    api::ListPeers::NAME,
    api::ListChannels::NAME,
    api::ListInvoices::NAME,
    api::ListPayments::NAME,
    api::ListTransactions::NAME,
    api::Balance::NAME,
];

async fn question(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    if QUESTIONS.contains(&name.as_str()) {
        return match Caller::new(None) {
            Ok(caller) => dispatch(app, &name, b"", caller).await,
            Err(e) => e.into_response(),
        };
    }
    if NAMES.contains(&name.as_str()) {
        let text = format!("`{name}` is asked with POST and a JSON body");
        return ApiError::new(ErrorCode::NotFound, text).into_response();
    }
    no_such_command(&name).into_response()
}

macro_rules! commands {
    ($($request:ty),* $(,)?) => {
        const NAMES: &[&str] = &[$(<$request as api::Request>::NAME),*];

        async fn dispatch(app: Arc<App>, name: &str, body: &[u8], caller: Caller) -> Response {
            $(if name == <$request as api::Request>::NAME {
                return serve::<$request>(app, body, caller).await;
            })*
            no_such_command(name).into_response()
        }
    };
}

commands! {
    api::GetInfo, api::NewAddress, api::Withdraw, api::BumpFee, api::ListTransactions, api::Connect, api::Disconnect, api::Ban, api::Unban, api::ListPeers,
    api::OpenChannel, api::CloseChannel, api::UnblockChannel, api::ListChannels, api::Invoice, api::ListInvoices, api::Pay,
    api::ListPayments, api::FindRoute, api::Balance, api::Decode, api::Stop,
}

async fn serve<R: Serve>(app: Arc<App>, body: &[u8], caller: Caller) -> Response {
    let body = if body.iter().all(u8::is_ascii_whitespace) {
        b"{}"
    } else {
        body
    };
    let request: R = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(e) => {
            let text = format!("the body of `{}` has a mistake: {e}", R::NAME);
            return ApiError::invalid(text).into_response();
        }
    };
    match request.serve(app, caller).await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(e) => {
            tracing::debug!(command = R::NAME, code = ?e.0.code, "{}", e.0.message);
            e.into_response()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default = "one")]
    from: u64,
    #[serde(default)]
    follow: bool,
}

const fn one() -> u64 {
    1
}

async fn events(
    State(app): State<Arc<App>>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match query {
        Ok(Query(query)) => {
            let stream = event_lines(app, query.from, query.follow);
            (
                [(header::CONTENT_TYPE, "application/x-ndjson")],
                Body::from_stream(stream),
            )
                .into_response()
        }
        Err(e) => ApiError::invalid(format!(
            "{}; ask for GET /v1/events?from=1&follow=true",
            e.body_text()
        ))
        .into_response(),
    }
}

struct Cursor {
    app: Arc<App>,
    watch: tokio::sync::watch::Receiver<u64>,
    stopping: tokio::sync::watch::Receiver<bool>,
    next: u64,
    follow: bool,
}

/// Lines of events from number `from` on.
fn event_lines(
    app: Arc<App>,
    from: u64,
    follow: bool,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let cursor = Cursor {
        watch: app.events.watch(),
        stopping: app.stopping.subscribe(),
        next: from.max(1),
        follow,
        app,
    };
    futures::stream::unfold(cursor, |mut cursor| async move {
        let chunk = cursor.next_chunk().await?;
        Some((Ok(chunk), cursor))
    })
}

impl Cursor {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            self.watch.borrow_and_update();
            let log = self.app.events.clone();
            let from = self.next;
            let read = tokio::task::spawn_blocking(move || log.read(from))
                .await
                .ok()?;
            let events = match read {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!(%error, "events can't be read");
                    return None;
                }
            };
            if let Some(last) = events.last() {
                self.next = last.number.saturating_add(1);
                let mut lines = Vec::new();
                for event in &events {
                    serde_json::to_writer(&mut lines, event).ok()?;
                    lines.push(b'\n');
                }
                return Some(lines.into());
            }
            if !self.follow {
                return None;
            }
            tokio::select! {
                changed = self.watch.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stop| *stop) => return None,
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b"\n")),
            }
        }
    }
}
