//! Calls that make blocks and rearrange them, and fee estimates.

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::{Block, BlockHash, ScriptBuf, Transaction};
use hex_conservative::FromHex;
use serde_json::{Value, json};

use super::rpc::{
    DESERIALIZATION, INVALID_ADDRESS_OR_KEY, INVALID_PARAMETER, MISC, Params, RpcError, RpcResult,
    VERIFY_ERROR, address_script, decode_tx,
};
use super::{Shared, json};
use crate::chain::{Chain, Submitted};

/// Blocks that one call may ask for.
const MAX_BLOCKS_PER_CALL: u32 = 100_000;

pub(super) fn estimate_fee(shared: &Shared, params: &Params) -> RpcResult {
    let target = params.count(0, "conf_target")?;
    if !(1..=1008).contains(&target) {
        return Err(RpcError::new(
            INVALID_PARAMETER,
            "Invalid conf_target, must be between 1 and 1008",
        ));
    }
    let floor = shared.with_chain(|chain| {
        chain
            .policy()
            .min_relay_feerate
            .max(chain.policy().mempool_min_feerate)
    });
    Ok(match shared.feerate(target) {
        Some(feerate) => json!({ "feerate": json::feerate(feerate.max(floor)), "blocks": target }),
        None => json!({
            "errors": ["Insufficient data or no feerate found"],
            "blocks": target,
        }),
    })
}

pub(super) fn generate_to_address(shared: &Shared, params: &Params) -> RpcResult {
    let count = params.count(0, "nblocks")?;
    if count > MAX_BLOCKS_PER_CALL {
        return Err(RpcError::new(
            INVALID_PARAMETER,
            "too many blocks for one call",
        ));
    }
    let script = address_script(params.text(1, "address")?)?;
    let hashes = shared.with_chain(|chain| chain.generate_to_script(count, &script));
    Ok(hashes.iter().map(|hash| json!(hash.to_string())).collect())
}

pub(super) fn generate_block(shared: &Shared, params: &Params) -> RpcResult {
    let output = params.text(0, "output")?;
    let script = output_script(output)?;
    let submit = params.number_or(2, 1)? != 0;
    shared.with_chain(|chain| {
        let mut txs: Vec<Transaction> = Vec::new();
        for item in params.list(1, "transactions")? {
            txs.push(named_transaction(chain, item.as_str().unwrap_or_default())?);
        }
        if submit {
            let hash = chain.generate_block(&txs, &script).map_err(|reject| {
                RpcError::new(VERIFY_ERROR, format!("TestBlockValidity failed: {reject}"))
            })?;
            return Ok(json!({ "hash": hash.to_string() }));
        }
        let mut trial = chain.clone();
        let hash = trial.generate_block(&txs, &script).map_err(|reject| {
            RpcError::new(VERIFY_ERROR, format!("TestBlockValidity failed: {reject}"))
        })?;
        let block = trial.block(&hash).map(|block| serialize_hex(&**block));
        Ok(json!({ "hash": hash.to_string(), "hex": block }))
    })
}

/// An address, or the descriptors `raw(hex)` and `addr(address)`.
fn output_script(output: &str) -> Result<ScriptBuf, RpcError> {
    let bare = output
        .split_once('#')
        .map_or(output, |(bare, _checksum)| bare);
    if let Some(hex) = bare
        .strip_prefix("raw(")
        .and_then(|rest| rest.strip_suffix(')'))
    {
        let bytes = Vec::<u8>::from_hex(hex).map_err(|_| {
            RpcError::new(
                INVALID_ADDRESS_OR_KEY,
                "Error: Invalid address or descriptor",
            )
        })?;
        return Ok(ScriptBuf::from_bytes(bytes));
    }
    let address = bare
        .strip_prefix("addr(")
        .and_then(|rest| rest.strip_suffix(')'));
    address_script(address.unwrap_or(bare)).map_err(|_| {
        RpcError::new(
            INVALID_ADDRESS_OR_KEY,
            "Error: Invalid address or descriptor",
        )
    })
}

/// A transaction of the mempool by its id, or in hex.
fn named_transaction(chain: &Chain, text: &str) -> Result<Transaction, RpcError> {
    if text.len() != 64 {
        return decode_tx(text).map_err(|_| {
            RpcError::new(
                DESERIALIZATION,
                format!("Transaction decode failed for {text}."),
            )
        });
    }
    let entry = text
        .parse()
        .ok()
        .and_then(|txid| chain.mempool().get(&txid));
    entry.map(|entry| (*entry.tx).clone()).ok_or_else(|| {
        RpcError::new(
            INVALID_ADDRESS_OR_KEY,
            format!("Transaction {text} not in mempool."),
        )
    })
}

pub(super) fn submit_block(shared: &Shared, params: &Params) -> RpcResult {
    let failed = || RpcError::new(DESERIALIZATION, "Block decode failed");
    let bytes = Vec::<u8>::from_hex(params.text(0, "hexdata")?).map_err(|_| failed())?;
    let block: Block = deserialize(&bytes).map_err(|_| failed())?;
    Ok(match shared.with_chain(|chain| chain.submit_block(block)) {
        Ok(Submitted::Active) => Value::Null,
        Ok(Submitted::SideBranch) => json!("inconclusive"),
        Ok(Submitted::Duplicate) => json!("duplicate"),
        Err(reject) => json!(reject.reason),
    })
}

pub(super) fn invalidate(shared: &Shared, params: &Params) -> RpcResult {
    let hash: BlockHash = params.hash(0, "blockhash")?;
    let result = shared.with_chain(|chain| chain.invalidate_block(&hash));
    result
        .map(|()| Value::Null)
        .map_err(|_| RpcError::new(INVALID_ADDRESS_OR_KEY, "Block not found"))
}

pub(super) fn reconsider(shared: &Shared, params: &Params) -> RpcResult {
    let hash: BlockHash = params.hash(0, "blockhash")?;
    let result = shared.with_chain(|chain| chain.reconsider_block(&hash));
    result
        .map(|()| Value::Null)
        .map_err(|_| RpcError::new(INVALID_ADDRESS_OR_KEY, "Block not found"))
}

pub(super) fn set_mock_time(shared: &Shared, params: &Params) -> RpcResult {
    let time = params.number(0, "timestamp")?;
    let Ok(time) = u32::try_from(time) else {
        return Err(RpcError::new(MISC, "Timestamp must be 0 or greater"));
    };
    shared.set_mock_time((time != 0).then_some(time));
    Ok(Value::Null)
}
