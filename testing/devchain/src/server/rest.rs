//! The REST interface, which needs no authentication: blocks and headers for fast syncing.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitcoin::consensus::encode::serialize;
use bitcoin::{BlockHash, OutPoint};
use serde_json::{Value, json};

use super::{Shared, json, rpc_chain, rpc_mempool};

pub(super) fn answer(shared: &Shared, path: &str, count: Option<&str>) -> Response {
    let result = find(shared, path, count);
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

/// Looks up what a path names; `count` is the parameter of `headers`.
fn find(shared: &Shared, path: &str, count: Option<&str>) -> Answer {
    let (stem, format) = path.rsplit_once('.').unwrap_or((path, ""));
    let parts: Vec<&str> = stem.split('/').collect();
    match (parts.as_slice(), format) {
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
        (["headers", hash], _) => headers(shared, hash, count.unwrap_or("5"), format),
        (["getutxos", rest @ ..], "json") => Ok(Body::Json(utxos(shared, rest)?)),
        (["blockhashbyheight", height], _) => hash_by_height(shared, height, format),
        _ => Err((StatusCode::NOT_FOUND, "not found".to_owned())),
    }
}

/// So many outputs can be asked for at once.
const MAX_OUTPOINTS: usize = 15;

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

/// `getutxos[/checkmempool]/<txid>-<n>/...`: which of these outputs are unspent.
fn utxos(shared: &Shared, parts: &[&str]) -> Result<Value, (StatusCode, String)> {
    let (with_mempool, wanted) = match parts {
        ["checkmempool", wanted @ ..] => (true, wanted),
        wanted => (false, wanted),
    };
    if wanted.is_empty() || wanted.len() > MAX_OUTPOINTS {
        let message = format!("Error: 1 to {MAX_OUTPOINTS} outpoints can be asked for");
        return Err((StatusCode::BAD_REQUEST, message));
    }
    let mut outpoints = Vec::new();
    for text in wanted {
        let parsed = text.split_once('-').and_then(|(txid, vout)| {
            Some(OutPoint {
                txid: txid.parse().ok()?,
                vout: vout.parse().ok()?,
            })
        });
        outpoints.push(parsed.ok_or((StatusCode::BAD_REQUEST, "Parse error".to_owned()))?);
    }
    Ok(shared.with_chain(|chain| {
        let mut bitmap = String::new();
        let mut utxos = Vec::new();
        for outpoint in &outpoints {
            let spent = with_mempool && chain.mempool().spender(outpoint).is_some();
            let confirmed = chain.coin(outpoint).map(|coin| (coin.height, &coin.out));
            // Core's height for what is in the mempool.
            let unconfirmed = || {
                chain
                    .mempool()
                    .output(outpoint)
                    .map(|out| (0x7fff_ffff, out))
            };
            let found = confirmed.or_else(|| if with_mempool { unconfirmed() } else { None });
            let found = found.filter(|_| !spent);
            bitmap.push(if found.is_some() { '1' } else { '0' });
            if let Some((height, out)) = found {
                utxos.push(json!({
                    "height": height,
                    "value": json::amount(out.value.to_sat()),
                    "scriptPubKey": json::script(&out.script_pubkey),
                }));
            }
        }
        json!({
            "chainHeight": chain.height(),
            "chaintipHash": chain.tip().to_string(),
            "bitmap": bitmap,
            "utxos": utxos,
        })
    }))
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
