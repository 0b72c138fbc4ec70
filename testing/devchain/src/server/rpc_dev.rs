//! Calls of our own, which save tests a wallet. Their names begin with `dev_`.

use bitcoin::Amount;
use serde_json::{Value, json};

use super::rpc::{INVALID_PARAMETER, MISC, Params, RpcError, RpcResult, address_script};
use super::{Shared, json};
use crate::faucet::Faucet;

/// `dev_fund address amount [confirmations=1]`: the faucet pays, and so many blocks are mined.
pub(super) fn fund(shared: &Shared, params: &Params) -> RpcResult {
    let script = address_script(params.text(0, "address")?)?;
    let amount = Amount::from_sat(params.amount(1, "amount")?);
    let confirmations = u32::try_from(params.number_or(2, 1)?)
        .map_err(|_| RpcError::new(INVALID_PARAMETER, "confirmations is out of range"))?;
    let outpoint = shared.with_chain(|chain| {
        let outpoint = chain.fund_unconfirmed(&script, amount);
        if outpoint.is_ok() {
            chain.generate(confirmations);
        }
        outpoint
    });
    let outpoint = outpoint.map_err(|error| RpcError::new(MISC, error.to_string()))?;
    Ok(json!({ "txid": outpoint.txid.to_string(), "vout": outpoint.vout }))
}

/// `dev_mine [nblocks=1]`: blocks that pay the faucet, with what is in the mempool.
pub(super) fn mine(shared: &Shared, params: &Params) -> RpcResult {
    let count = u32::try_from(params.number_or(0, 1)?)
        .map_err(|_| RpcError::new(INVALID_PARAMETER, "nblocks is out of range"))?;
    let hashes = shared.with_chain(|chain| chain.generate(count));
    Ok(hashes.iter().map(|hash| json!(hash.to_string())).collect())
}

fn feerate_param(params: &Params, index: usize) -> Result<Option<u64>, RpcError> {
    match params.get(index) {
        None => Ok(None),
        Some(_) => u64::try_from(params.number(index, "sat_per_kvb")?)
            .map(Some)
            .map_err(|_| RpcError::new(INVALID_PARAMETER, "a feerate can't be negative")),
    }
}

/// `dev_setfeerate sat_per_kvb [conf_target]`: what `estimatesmartfee` answers, for targets from
/// this one on; null for "insufficient data".
pub(super) fn set_feerate(shared: &Shared, params: &Params) -> RpcResult {
    let target = match params.get(1) {
        None => None,
        Some(_) => Some(params.count(1, "conf_target")?),
    };
    shared.set_feerate(target, feerate_param(params, 0)?);
    Ok(Value::Null)
}

/// `dev_setmempoolminfee sat_per_kvb`: as if the mempool were full of better transactions.
pub(super) fn set_mempool_min_fee(shared: &Shared, params: &Params) -> RpcResult {
    let feerate = feerate_param(params, 0)?.unwrap_or(0);
    shared.with_chain(|chain| {
        let mut policy = chain.policy().clone();
        policy.mempool_min_feerate = feerate;
        chain.set_policy(policy);
    });
    Ok(Value::Null)
}

/// `dev_setminrelayfee sat_per_kvb`: the lowest feerate that is relayed.
pub(super) fn set_min_relay_fee(shared: &Shared, params: &Params) -> RpcResult {
    let feerate = feerate_param(params, 0)?.unwrap_or(100);
    shared.with_chain(|chain| {
        let mut policy = chain.policy().clone();
        policy.min_relay_feerate = feerate;
        chain.set_policy(policy);
    });
    Ok(Value::Null)
}

/// `dev_faucet`: the faucet's address, key and confirmed coins.
pub(super) fn faucet(shared: &Shared) -> Value {
    let faucet = Faucet::default();
    let script = faucet.script();
    let balance: u64 = shared.with_chain(|chain| {
        let own = chain
            .coins()
            .filter(|(_, coin)| coin.out.script_pubkey == script);
        own.map(|(_, coin)| coin.out.value.to_sat()).sum()
    });
    json!({
        "address": faucet.address().to_string(),
        "private_key": faucet.private_key().to_wif(),
        "balance": json::amount(balance),
    })
}

/// `dev_reorg depth [nblocks=depth+1]`: gives up the last blocks and mines others instead. Their
/// transactions go back to the mempool and are mined again if they still fit.
pub(super) fn reorg(shared: &Shared, params: &Params) -> RpcResult {
    let depth = params.count(0, "depth")?;
    let count = u32::try_from(params.number_or(1, i64::from(depth) + 1)?)
        .map_err(|_| RpcError::new(INVALID_PARAMETER, "nblocks is out of range"))?;
    let hashes = shared.with_chain(|chain| {
        let first = chain
            .height()
            .checked_sub(depth)
            .and_then(|h| chain.block_hash(h + 1))?;
        chain.invalidate_block(&first).ok()?;
        Some(chain.generate(count))
    });
    let hashes = hashes.ok_or_else(|| RpcError::new(INVALID_PARAMETER, "depth is out of range"))?;
    Ok(hashes.iter().map(|hash| json!(hash.to_string())).collect())
}
