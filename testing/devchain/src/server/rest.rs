//! The REST interface, which needs no authentication: blocks and headers for fast syncing.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitcoin::BlockHash;
use bitcoin::consensus::encode::serialize;
use serde_json::{Value, json};

use super::{Shared, json, rpc_chain, rpc_mempool};

pub(super) fn answer(shared: &Shared, path: &str) -> Response {
    let (stem, format) = path.rsplit_once('.').unwrap_or((path, ""));
    let parts: Vec<&str> = stem.split('/').collect();
    let result = match (parts.as_slice(), format) {
        (["chaininfo"], "json") => Ok(Body::Json(
            shared.with_chain(|chain| rpc_chain::blockchain_info(chain)),
        )),
        (["mempool", "info"], "json") => Ok(Body::Json(
            shared.with_chain(|chain| rpc_mempool::mempool_info(chain)),
        )),
        (["mempool", "contents"], "json") => Ok(Body::Json(
            shared.with_chain(|chain| rpc_mempool::contents(chain)),
        )),
        (["block", hash], _) => block(shared, hash, format, 2),
        (["block", "notxdetails", hash], _) => block(shared, hash, format, 1),
        (["headers", count, hash], _) => headers(shared, hash, count, format),
        (["headers", hash], _) => headers(shared, hash, "5", format),
        (["blockhashbyheight", height], _) => hash_by_height(shared, height, format),
        _ => Err((StatusCode::NOT_FOUND, "not found".to_owned())),
    };
    match result {
        Ok(Body::Json(value)) => (
            [(header::CONTENT_TYPE, "application/json")],
            value.to_string() + "\n",
        )
            .into_response(),
        Ok(Body::Binary(bytes)) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
        }
        Ok(Body::Hex(bytes)) => (
            [(header::CONTENT_TYPE, "text/plain")],
            json::hex(&bytes) + "\n",
        )
            .into_response(),
        Err((status, message)) => (status, message + "\r\n").into_response(),
    }
}

enum Body {
    Json(Value),
    Binary(Vec<u8>),
    Hex(Vec<u8>),
}

type Answer = Result<Body, (StatusCode, String)>;

fn raw(bytes: Vec<u8>, format: &str) -> Answer {
    match format {
        "bin" => Ok(Body::Binary(bytes)),
        "hex" => Ok(Body::Hex(bytes)),
        _ => Err((
            StatusCode::NOT_FOUND,
            "output format not found (available: .bin, .hex, .json)".to_owned(),
        )),
    }
}

fn parse_hash(hash: &str) -> Result<BlockHash, (StatusCode, String)> {
    hash.parse()
        .map_err(|_| (StatusCode::BAD_REQUEST, format!("Invalid hash: {hash}")))
}

fn block(shared: &Shared, hash_text: &str, format: &str, verbosity: i64) -> Answer {
    let hash = parse_hash(hash_text)?;
    let not_found = || (StatusCode::NOT_FOUND, format!("{hash} not found"));
    if format == "json" {
        let found = shared.with_chain(|chain| {
            let block = chain.block(&hash)?.clone();
            Some(json::block(chain, &hash, &block, verbosity))
        });
        return found.map(Body::Json).ok_or_else(not_found);
    }
    let found = shared.with_chain(|chain| chain.block(&hash).cloned());
    raw(serialize(&*found.ok_or_else(not_found)?), format)
}

fn headers(shared: &Shared, hash_text: &str, count: &str, format: &str) -> Answer {
    let hash = parse_hash(hash_text)?;
    let count = count
        .parse::<u32>()
        .ok()
        .filter(|count| (1..=2000).contains(count));
    let Some(count) = count else {
        let message = "Header count is invalid or out of acceptable range (1-2000)";
        return Err((StatusCode::BAD_REQUEST, message.to_owned()));
    };
    let (found, values) = shared.with_chain(|chain| {
        let mut found = Vec::new();
        let mut values = Vec::new();
        if chain.is_active(&hash) {
            let start = chain.block_height(&hash).unwrap_or(0);
            for height in start..start.saturating_add(count) {
                let Some(hash) = chain.block_hash(height) else {
                    break;
                };
                let Some(block) = chain.block(&hash) else {
                    break;
                };
                found.extend(serialize(&block.header));
                values.push(Value::Object(json::header(chain, &hash, block)));
            }
        }
        (found, values)
    });
    if format == "json" {
        return Ok(Body::Json(Value::Array(values)));
    }
    raw(found, format)
}

fn hash_by_height(shared: &Shared, height: &str, format: &str) -> Answer {
    let invalid = || (StatusCode::BAD_REQUEST, format!("Invalid height: {height}"));
    let number: u32 = height.parse().map_err(|_| invalid())?;
    let hash = shared
        .with_chain(|chain| chain.block_hash(number))
        .ok_or_else(|| {
            (
                StatusCode::NOT_FOUND,
                "Block height out of range".to_owned(),
            )
        })?;
    match format {
        "json" => Ok(Body::Json(json!({ "blockhash": hash.to_string() }))),
        "hex" => {
            // As text the hash is in the order in which people read it.
            let mut bytes = serialize(&hash);
            bytes.reverse();
            raw(bytes, format)
        }
        _ => raw(serialize(&hash), format),
    }
}
