//! Calls about blocks and coins.

use std::time::Duration;

use bitcoin::consensus::encode::serialize;
use bitcoin::{BlockHash, OutPoint, ScriptBuf, Txid};
use hex_conservative::FromHex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::rpc::{
    INVALID_ADDRESS_OR_KEY, INVALID_PARAMETER, MISC, Params, RpcError, RpcResult, address_script,
};
use super::{Shared, json};
use crate::chain::Chain;

/// The version that the server says it is compatible with.
const CORE_VERSION: u32 = 310_000;

pub(super) fn blockchain_info(chain: &Chain) -> Value {
    let tip = chain.tip();
    let time = chain.block(&tip).map_or(0, |block| block.header.time);
    json!({
        "chain": "regtest",
        "blocks": chain.height(),
        "headers": chain.height(),
        "bestblockhash": tip.to_string(),
        "bits": "207fffff",
        "target": "7fffff0000000000000000000000000000000000000000000000000000000000",
        "difficulty": json::DIFFICULTY,
        "time": time,
        "mediantime": chain.median_time_past(),
        "verificationprogress": 1.0,
        "initialblockdownload": chain.height() == 0,
        "chainwork": json::chainwork(chain.height()),
        "size_on_disk": 0,
        "pruned": false,
        "warnings": [],
    })
}

pub(super) fn network_info(chain: &Chain) -> Value {
    json!({
        "version": CORE_VERSION,
        "subversion": concat!("/FulmenDevchain:", env!("CARGO_PKG_VERSION"), "/"),
        "protocolversion": 70016,
        "localservices": "0000000000000409",
        "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
        "localrelay": true,
        "timeoffset": 0,
        "connections": 0,
        "connections_in": 0,
        "connections_out": 0,
        "networkactive": true,
        "networks": [],
        "relayfee": json::feerate(chain.policy().min_relay_feerate),
        "incrementalfee": json::feerate(chain.policy().incremental_relay_feerate),
        "localaddresses": [],
        "warnings": [],
    })
}

pub(super) fn block_hash(shared: &Shared, params: &Params) -> RpcResult {
    let height = params.number(0, "height")?;
    let hash = u32::try_from(height)
        .ok()
        .and_then(|height| shared.with_chain(|chain| chain.block_hash(height)));
    hash.map(|hash| json!(hash.to_string()))
        .ok_or_else(|| RpcError::new(INVALID_PARAMETER, "Block height out of range"))
}

fn not_found() -> RpcError {
    RpcError::new(INVALID_ADDRESS_OR_KEY, "Block not found")
}

pub(super) fn block_header(shared: &Shared, params: &Params) -> RpcResult {
    let hash: BlockHash = params.hash(0, "hash")?;
    let verbose = params.number_or(1, 1)? != 0;
    shared.with_chain(|chain| {
        let block = chain.block(&hash).ok_or_else(not_found)?;
        Ok(if verbose {
            Value::Object(json::header(chain, &hash, block))
        } else {
            json!(json::hex(&serialize(&block.header)))
        })
    })
}

pub(super) fn block(shared: &Shared, params: &Params) -> RpcResult {
    let hash: BlockHash = params.hash(0, "blockhash")?;
    let verbosity = params.number_or(1, 1)?;
    if verbosity <= 0 {
        // The block is shared, so the lock is not held while it is written out.
        let block = shared.with_chain(|chain| chain.block(&hash).cloned());
        return Ok(json!(json::hex(&serialize(&*block.ok_or_else(not_found)?))));
    }
    shared.with_chain(|chain| {
        let block = chain.block(&hash).ok_or_else(not_found)?;
        Ok(json::block(chain, &hash, block, verbosity))
    })
}

pub(super) fn chain_tips(shared: &Shared) -> RpcResult {
    let tips = shared.with_chain(|chain| {
        let tips = chain.tips().into_iter().map(|(hash, height, invalid)| {
            let status = match (chain.is_active(&hash), invalid) {
                (true, _) => "active",
                (false, true) => "invalid",
                (false, false) => "valid-headers",
            };
            let mut at = hash;
            let mut branch = 0;
            while !chain.is_active(&at) {
                let Some(block) = chain.block(&at) else { break };
                at = block.header.prev_blockhash;
                branch += 1;
            }
            json!({
                "height": height,
                "hash": hash.to_string(),
                "branchlen": branch,
                "status": status,
            })
        });
        tips.collect()
    });
    Ok(tips)
}

pub(super) fn tx_out(shared: &Shared, params: &Params) -> RpcResult {
    let txid: Txid = params.hash(0, "txid")?;
    let vout = params.count(1, "n")?;
    let include_mempool = params.number_or(2, 1)? != 0;
    let outpoint = OutPoint { txid, vout };
    Ok(shared.with_chain(|chain| {
        if include_mempool && chain.mempool().spender(&outpoint).is_some() {
            return Value::Null;
        }
        let in_mempool = if include_mempool {
            chain.mempool().output(&outpoint)
        } else {
            None
        };
        let (out, confirmations, coinbase) = match (chain.coin(&outpoint), in_mempool) {
            (Some(coin), _) => (&coin.out, chain.height() - coin.height + 1, coin.coinbase),
            (None, Some(out)) => (out, 0, false),
            (None, None) => return Value::Null,
        };
        json!({
            "bestblock": chain.tip().to_string(),
            "confirmations": confirmations,
            "value": json::amount(out.value.to_sat()),
            "scriptPubKey": json::script(&out.script_pubkey),
            "coinbase": coinbase,
        })
    }))
}

pub(super) fn tx_out_set_info(shared: &Shared) -> RpcResult {
    Ok(shared.with_chain(|chain| {
        let total: u64 = chain.coins().map(|(_, coin)| coin.out.value.to_sat()).sum();
        json!({
            "height": chain.height(),
            "bestblock": chain.tip().to_string(),
            "txouts": chain.coin_count(),
            "total_amount": json::amount(total),
        })
    }))
}

pub(super) fn scan_tx_out_set(shared: &Shared, params: &Params) -> RpcResult {
    match params.text(0, "action")? {
        "start" => {}
        "status" => return Ok(Value::Null),
        "abort" => return Ok(json!(false)),
        action => {
            return Err(RpcError::new(
                INVALID_PARAMETER,
                format!("Invalid action '{action}'"),
            ));
        }
    }
    let mut scripts: Vec<(ScriptBuf, String)> = Vec::new();
    for object in params.list(1, "scanobjects")? {
        let descriptor = object
            .as_str()
            .or_else(|| object.get("desc").and_then(Value::as_str));
        let descriptor = descriptor.unwrap_or_default();
        scripts.push((descriptor_script(descriptor)?, descriptor.to_owned()));
    }
    Ok(shared.with_chain(|chain| {
        let mut total = 0;
        let mut unspents = Vec::new();
        for (outpoint, coin) in chain.coins() {
            let found = scripts
                .iter()
                .find(|(script, _)| *script == coin.out.script_pubkey);
            let Some((script, descriptor)) = found else {
                continue;
            };
            total += coin.out.value.to_sat();
            unspents.push(json!({
                "txid": outpoint.txid.to_string(),
                "vout": outpoint.vout,
                "scriptPubKey": script.to_hex_string(),
                "desc": descriptor,
                "amount": json::amount(coin.out.value.to_sat()),
                "coinbase": coin.coinbase,
                "height": coin.height,
                "blockhash": chain.block_hash(coin.height).map(|hash| hash.to_string()),
                "confirmations": chain.height() - coin.height + 1,
            }));
        }
        json!({
            "success": true,
            "txouts": chain.coin_count(),
            "height": chain.height(),
            "bestblock": chain.tip().to_string(),
            "unspents": unspents,
            "total_amount": json::amount(total),
        })
    }))
}

/// The script of `addr(...)` or `raw(...)`; other descriptors are not understood.
fn descriptor_script(descriptor: &str) -> Result<ScriptBuf, RpcError> {
    let bare = descriptor
        .split_once('#')
        .map_or(descriptor, |(bare, _checksum)| bare);
    let inner = |prefix: &str| {
        bare.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(')'))
    };
    if let Some(address) = inner("addr(") {
        return address_script(address)
            .map_err(|_| RpcError::new(INVALID_ADDRESS_OR_KEY, "Address is not valid"));
    }
    let script = inner("raw(").and_then(|hex| Vec::<u8>::from_hex(hex).ok());
    script.map(ScriptBuf::from_bytes).ok_or_else(|| {
        RpcError::new(
            INVALID_ADDRESS_OR_KEY,
            format!("'{descriptor}' is not a descriptor that this server knows: addr() or raw()"),
        )
    })
}

pub(super) async fn wait_for_new_block(shared: &Shared, params: &Params) -> RpcResult {
    let timeout = params.number_or(0, 0)?;
    let current = match params.get(1) {
        Some(_) => params.hash(1, "current_tip")?,
        None => shared.tip.borrow().1,
    };
    wait(shared, timeout, |(_, hash)| *hash != current).await
}

pub(super) async fn wait_for_block(shared: &Shared, params: &Params) -> RpcResult {
    let wanted: BlockHash = params.hash(0, "blockhash")?;
    wait(shared, params.number_or(1, 0)?, |(_, hash)| *hash == wanted).await
}

pub(super) async fn wait_for_height(shared: &Shared, params: &Params) -> RpcResult {
    let wanted = params.number(0, "height")?;
    wait(shared, params.number_or(1, 0)?, |(height, _)| {
        i64::from(*height) >= wanted
    })
    .await
}

/// Waits until the tip is as wanted, the time is over (0: never) or the server stops.
async fn wait(
    shared: &Shared,
    timeout_ms: i64,
    wanted: impl FnMut(&(u32, BlockHash)) -> bool,
) -> RpcResult {
    let Ok(timeout_ms) = u64::try_from(timeout_ms) else {
        return Err(RpcError::new(MISC, "Negative timeout"));
    };
    let mut tip: watch::Receiver<(u32, BlockHash)> = shared.tip.subscribe();
    let mut stop = shared.stop.subscribe();
    let limit = async {
        if timeout_ms == 0 {
            core::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(timeout_ms)).await;
    };
    tokio::select! {
        _ = tip.wait_for(wanted) => {}
        _ = stop.wait_for(|stop| *stop) => {}
        () = limit => {}
    }
    let (height, hash) = *shared.tip.borrow();
    Ok(json!({ "hash": hash.to_string(), "height": height }))
}
