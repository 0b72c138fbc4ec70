//! HTTP: authentication, JSON-RPC envelopes, single and batched.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use base64::Engine;
use serde_json::{Value, json};

use super::rpc::{self, Params, RpcError};
use super::{Shared, rest};

/// Core's limit for the body of a request.
const MAX_BODY: usize = 0x0200_0000;

pub(super) async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let mut stop = shared.stop.subscribe();
    let app = Router::new()
        .route("/", post(rpc_root))
        .route("/wallet/{name}", post(rpc_wallet))
        .route("/rest/{*path}", get(rest_get))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
        // The answer to `stop` itself goes out first.
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    tokio::select! {
        result = axum::serve(listener, app) => result,
        () = stopped => Ok(()),
    }
}

async fn rpc_root(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    rpc_call(&shared, &headers, &body).await
}

async fn rpc_wallet(Path(_name): Path<String>) -> Response {
    // There are no wallets; Core answers so when the named wallet is not loaded.
    let error = RpcError::new(-18, "Requested wallet does not exist or is not loaded");
    json_response(
        StatusCode::INTERNAL_SERVER_ERROR,
        &envelope(&Value::Null, Err(error), false),
    )
}

async fn rest_get(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let count = query
        .split('&')
        .find_map(|part| part.strip_prefix("count="));
    rest::answer(&shared, &path, count)
}

async fn rpc_call(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response {
    if !authorized(shared, headers) {
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Basic realm=\"jsonrpc\"")],
        )
            .into_response();
    }
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        let error = RpcError::new(-32700, "Parse error");
        let answer = envelope(&Value::Null, Err(error), false);
        return json_response(StatusCode::INTERNAL_SERVER_ERROR, &answer);
    };
    match request {
        Value::Array(requests) => {
            let mut answers = Vec::with_capacity(requests.len());
            for request in &requests {
                answers.push(single(shared, request).await.1);
            }
            json_response(StatusCode::OK, &Value::Array(answers))
        }
        request => {
            let (status, answer) = single(shared, &request).await;
            json_response(status, &answer)
        }
    }
}

async fn single(shared: &Shared, request: &Value) -> (StatusCode, Value) {
    let id = request.get("id").unwrap_or(&Value::Null);
    let version_2 = request.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    let result = match request.get("method").and_then(Value::as_str) {
        None if request.is_object() => Err(RpcError::new(-32600, "Missing method")),
        None => Err(RpcError::new(-32600, "Invalid Request object")),
        Some(method) => match Params::new(method, request.get("params")) {
            Ok(params) => rpc::call(shared, method, &params).await,
            Err(error) => Err(error),
        },
    };
    let status = match &result {
        _ if version_2 => StatusCode::OK,
        Ok(_) => StatusCode::OK,
        Err(error) => match error.code {
            -32600 => StatusCode::BAD_REQUEST,
            -32601 => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    };
    (status, envelope(id, result, version_2))
}

fn envelope(id: &Value, result: Result<Value, RpcError>, version_2: bool) -> Value {
    match (result, version_2) {
        (Ok(result), true) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
        (Ok(result), false) => json!({ "result": result, "error": null, "id": id }),
        (Err(error), true) => json!({ "jsonrpc": "2.0", "error": error.to_json(), "id": id }),
        (Err(error), false) => json!({ "result": null, "error": error.to_json(), "id": id }),
    }
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut body = value.to_string();
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn authorized(shared: &Shared, headers: &HeaderMap) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| {
            base64::engine::general_purpose::STANDARD
                .decode(value.trim())
                .ok()
        });
    given.is_some_and(|given| shared.accepted.iter().any(|a| a.as_bytes() == given))
}
