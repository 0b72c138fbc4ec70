//! Calls about transactions and the mempool.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, OutPoint, Transaction, Txid};
use serde_json::{Value, json};

use super::rpc::{
    ALREADY_IN_UTXO_SET, INVALID_ADDRESS_OR_KEY, INVALID_PARAMETER, Params, RpcError, RpcResult,
    VERIFY_ERROR, VERIFY_REJECTED, decode_tx, parse_hash,
};
use super::{Shared, json};
use crate::accept::{Accepted, MAX_FEERATE_EXCEEDED, PackageTx};
use crate::chain::Chain;
use crate::coins::is_unspendable;
use crate::mempool::Entry;
use crate::policy::fee_for;
use crate::reject::{Reject, RejectKind};

/// Core refuses by default to send what pays more than 0.10 BTC per 1000 virtual bytes.
const DEFAULT_MAX_FEERATE: u64 = 10_000_000;

pub(super) fn raw_transaction(shared: &Shared, params: &Params) -> RpcResult {
    let txid: Txid = params.hash(0, "parameter 1")?;
    let verbosity = params.number_or(1, 0)?;
    let block: Option<BlockHash> = match params.get(2) {
        Some(_) => Some(params.hash(2, "parameter 3")?),
        None => None,
    };
    shared.with_chain(|chain| {
        let (tx, hash) = find(chain, &txid, block.as_ref(), shared.txindex)?;
        if verbosity <= 0 {
            return Ok(json!(serialize_hex(&tx)));
        }
        let mut value = json::transaction(&tx);
        if let Some(hash) = hash {
            let header = chain.block(&hash).map(|block| block.header);
            let time = header.map_or(0, |header| header.time);
            let active = chain.is_active(&hash);
            let height = chain.block_height(&hash).unwrap_or(0);
            let confirmations = if active {
                chain.height() - height + 1
            } else {
                0
            };
            if block.is_some() {
                value.insert("in_active_chain".into(), json!(active));
            }
            value.insert("blockhash".into(), json!(hash.to_string()));
            value.insert("confirmations".into(), json!(confirmations));
            value.insert("time".into(), json!(time));
            value.insert("blocktime".into(), json!(time));
        }
        Ok(Value::Object(value))
    })
}

fn find(
    chain: &Chain,
    txid: &Txid,
    block: Option<&BlockHash>,
    txindex: bool,
) -> Result<(Transaction, Option<BlockHash>), RpcError> {
    let missing = |message: &str| RpcError::new(INVALID_ADDRESS_OR_KEY, message);
    if let Some(hash) = block {
        let found = chain
            .block(hash)
            .ok_or_else(|| missing("Block hash not found"))?;
        let tx = found.txdata.iter().find(|tx| tx.compute_txid() == *txid);
        return tx.map(|tx| (tx.clone(), Some(*hash))).ok_or_else(|| {
            missing(
                "No such transaction found in the provided block. Use gettransaction for wallet \
                 transactions.",
            )
        });
    }
    match chain.transaction(txid) {
        Some(found) if txindex || found.1.is_none() => Ok(found),
        _ if txindex => Err(missing(
            "No such mempool or blockchain transaction. Use gettransaction for wallet \
             transactions.",
        )),
        _ => Err(missing(
            "No such mempool transaction. Use -txindex or provide a block hash to enable \
             blockchain transaction queries. Use gettransaction for wallet transactions.",
        )),
    }
}

pub(super) fn decode(params: &Params) -> RpcResult {
    let mut value = json::transaction(&decode_tx(params.text(0, "hexstring")?)?);
    value.remove("hex");
    Ok(Value::Object(value))
}

fn check_burn(tx: &Transaction, max_burn: u64) -> Result<(), RpcError> {
    let burns = tx
        .output
        .iter()
        .any(|out| is_unspendable(&out.script_pubkey) && out.value.to_sat() > max_burn);
    if burns {
        return Err(RpcError::new(
            VERIFY_ERROR,
            "Unspendable output exceeds maximum configured by user (maxburnamount)",
        ));
    }
    Ok(())
}

pub(super) fn send(shared: &Shared, params: &Params) -> RpcResult {
    let tx = decode_tx(params.text(0, "hexstring")?)?;
    let max_feerate = params.amount_or(1, DEFAULT_MAX_FEERATE)?;
    check_burn(&tx, params.amount_or(2, 0)?)?;
    let txid = tx.compute_txid();
    shared.with_chain(|chain| {
        let in_chain = (0u32..)
            .zip(&tx.output)
            .any(|(vout, _)| chain.coin(&OutPoint { txid, vout }).is_some());
        if in_chain {
            return Err(RpcError::new(
                ALREADY_IN_UTXO_SET,
                "Transaction outputs already in utxo set",
            ));
        }
        // What is in the mempool is only announced again.
        if chain.mempool().contains(&txid) {
            return Ok(json!(txid.to_string()));
        }
        let max_feerate = if max_feerate == 0 {
            u64::MAX
        } else {
            max_feerate
        };
        chain
            .send_with_max_feerate(&tx, max_feerate)
            .map_err(|reject| send_error(&reject))?;
        Ok(json!(txid.to_string()))
    })
}

fn send_error(reject: &Reject) -> RpcError {
    if reject.reason == MAX_FEERATE_EXCEEDED {
        return RpcError::new(
            VERIFY_ERROR,
            "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
        );
    }
    if reject.kind == RejectKind::MissingInputs {
        RpcError::new(VERIFY_ERROR, "bad-txns-inputs-missingorspent")
    } else {
        RpcError::new(VERIFY_REJECTED, reject.to_string())
    }
}

fn decode_list(params: &Params, what: &str) -> Result<Vec<Transaction>, RpcError> {
    let list = params.list(0, what)?;
    if list.is_empty() || list.len() > 25 {
        return Err(RpcError::new(
            INVALID_PARAMETER,
            "Array must contain between 1 and 25 transactions.",
        ));
    }
    list.iter()
        .map(|hex| decode_tx(hex.as_str().unwrap_or_default()))
        .collect()
}

pub(super) fn test_accept(shared: &Shared, params: &Params) -> RpcResult {
    let txs = decode_list(params, "rawtxs")?;
    let max_feerate = params.amount_or(1, DEFAULT_MAX_FEERATE)?;
    let (outcomes, error) = shared.with_chain(|chain| match txs.as_slice() {
        [tx] => {
            let outcome = match chain.test_accept(tx) {
                Ok(accepted) => PackageTx::Accepted(accepted),
                Err(reject) => PackageTx::Refused(reject),
            };
            (vec![(tx.compute_wtxid(), outcome)], None)
        }
        txs => {
            let result = chain.test_accept_all(txs);
            (result.txs, result.error)
        }
    });
    let package_error = error
        .map(|e| e.reason)
        .filter(|reason| reason != "transaction failed");
    let results = txs.iter().map(|tx| {
        let wtxid = tx.compute_wtxid();
        let mut value =
            json!({ "txid": tx.compute_txid().to_string(), "wtxid": wtxid.to_string() });
        if let Some(error) = &package_error {
            value["package-error"] = json!(error);
        }
        match outcomes
            .iter()
            .find(|(w, _)| *w == wtxid)
            .map(|(_, outcome)| outcome)
        {
            Some(PackageTx::Accepted(accepted)) => {
                if max_feerate > 0 && accepted.fee > fee_for(max_feerate, accepted.vsize) {
                    value["allowed"] = json!(false);
                    value["reject-reason"] = json!("max-fee-exceeded");
                } else {
                    value["allowed"] = json!(true);
                    value["vsize"] = json!(accepted.vsize);
                    value["fees"] = fees(accepted);
                }
            }
            Some(PackageTx::Refused(reject)) => {
                value["allowed"] = json!(false);
                if reject.kind == RejectKind::MissingInputs {
                    value["reject-reason"] = json!("missing-inputs");
                } else {
                    value["reject-reason"] = json!(reject.reason);
                }
                value["reject-details"] = json!(reject.to_string());
            }
            _ => {}
        }
        value
    });
    Ok(results.collect())
}

fn fees(accepted: &Accepted) -> Value {
    let includes = accepted
        .effective_includes
        .iter()
        .map(|wtxid| json!(wtxid.to_string()));
    json!({
        "base": json::amount(accepted.fee),
        "effective-feerate": json::feerate(accepted.effective_feerate),
        "effective-includes": includes.collect::<Value>(),
    })
}

pub(super) fn submit_package(shared: &Shared, params: &Params) -> RpcResult {
    let txs = decode_list(params, "package")?;
    let max_burn = params.amount_or(2, 0)?;
    for tx in &txs {
        check_burn(tx, max_burn)?;
    }
    let result = shared.with_chain(|chain| chain.submit_package(&txs));
    if result
        .error
        .as_ref()
        .is_some_and(|e| e.reason == "package-not-child-with-parents")
    {
        return Err(RpcError::new(
            VERIFY_ERROR,
            "package topology disallowed. not child-with-parents or parents depend on each other.",
        ));
    }
    let mut tx_results = serde_json::Map::new();
    let mut replaced = Vec::new();
    for tx in &txs {
        let wtxid = tx.compute_wtxid();
        let mut value = json!({ "txid": tx.compute_txid().to_string() });
        match result
            .txs
            .iter()
            .find(|(w, _)| *w == wtxid)
            .map(|(_, outcome)| outcome)
        {
            Some(PackageTx::Accepted(accepted)) => {
                value["vsize"] = json!(accepted.vsize);
                value["fees"] = fees(accepted);
                replaced.extend(accepted.replaced.iter().map(Txid::to_string));
            }
            Some(PackageTx::AlreadyKnown { vsize, fee }) => {
                value["vsize"] = json!(vsize);
                value["fees"] = json!({ "base": json::amount(*fee) });
            }
            Some(PackageTx::DifferentWitness(other)) => {
                value["other-wtxid"] = json!(other.to_string());
            }
            Some(PackageTx::Refused(reject)) => value["error"] = json!(reject.to_string()),
            None => value["error"] = json!("package-not-validated"),
        }
        tx_results.insert(wtxid.to_string(), value);
    }
    let message = result
        .error
        .map_or_else(|| "success".to_owned(), |error| error.to_string());
    Ok(json!({
        "package_msg": message,
        "tx-results": tx_results,
        "replaced-transactions": replaced,
    }))
}

pub(super) fn raw_mempool(shared: &Shared, params: &Params) -> RpcResult {
    let verbose = params.number_or(0, 0)? != 0;
    Ok(shared.with_chain(|chain| {
        if verbose {
            contents(chain)
        } else {
            chain
                .mempool()
                .iter()
                .map(|(txid, _)| json!(txid.to_string()))
                .collect()
        }
    }))
}

/// The mempool with all details, as `getrawmempool true` and REST give it.
pub(super) fn contents(chain: &Chain) -> Value {
    let all = chain.mempool().iter();
    Value::Object(
        all.map(|(txid, e)| (txid.to_string(), entry_json(chain, txid, e)))
            .collect(),
    )
}

pub(super) fn mempool_entry(shared: &Shared, params: &Params) -> RpcResult {
    let txid: Txid = params.hash(0, "txid")?;
    shared.with_chain(|chain| match chain.mempool().get(&txid) {
        Some(entry) => Ok(entry_json(chain, &txid, entry)),
        None => Err(RpcError::new(
            INVALID_ADDRESS_OR_KEY,
            "Transaction not in mempool",
        )),
    })
}

fn entry_json(chain: &Chain, txid: &Txid, entry: &Entry) -> Value {
    let mempool = chain.mempool();
    let sums = |txids: &std::collections::BTreeSet<Txid>| {
        let entries = txids.iter().filter_map(|txid| mempool.get(txid));
        entries.fold((0, 0), |(fee, size), e| (fee + e.fee, size + e.vsize))
    };
    let ancestors = mempool.ancestors_of(txid);
    let descendants = mempool.descendants_of(txid);
    let (ancestor_fee, ancestor_size) = sums(&ancestors);
    let (descendant_fee, descendant_size) = sums(&descendants);
    let depends = mempool.parents_of(&entry.tx);
    let spent_by = mempool.children_of(txid);
    let list = |txids: std::collections::BTreeSet<Txid>| -> Value {
        txids.iter().map(|txid| json!(txid.to_string())).collect()
    };
    json!({
        "vsize": entry.vsize,
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "descendantcount": descendants.len(),
        "descendantsize": descendant_size,
        "ancestorcount": ancestors.len(),
        "ancestorsize": ancestor_size,
        "wtxid": entry.wtxid.to_string(),
        "fees": {
            "base": json::amount(entry.fee),
            "modified": json::amount(entry.fee),
            "ancestor": json::amount(ancestor_fee),
            "descendant": json::amount(descendant_fee),
        },
        "depends": list(depends),
        "spentby": list(spent_by),
        "bip125-replaceable": true,
        "unbroadcast": false,
    })
}

pub(super) fn mempool_info(chain: &Chain) -> Value {
    let mempool = chain.mempool();
    let bytes: u64 = mempool.iter().map(|(_, entry)| entry.vsize).sum();
    let fees: u64 = mempool.iter().map(|(_, entry)| entry.fee).sum();
    let policy = chain.policy();
    json!({
        "loaded": true,
        "size": mempool.len(),
        "bytes": bytes,
        "usage": bytes * 4,
        "total_fee": json::amount(fees),
        "maxmempool": 300_000_000,
        "mempoolminfee":
            json::feerate(policy.mempool_min_feerate.max(policy.min_relay_feerate)),
        "minrelaytxfee": json::feerate(policy.min_relay_feerate),
        "incrementalrelayfee": json::feerate(policy.incremental_relay_feerate),
        "unbroadcastcount": 0,
        "fullrbf": true,
        "permitbaremultisig": true,
        "maxdatacarriersize": policy.max_datacarrier_bytes,
        "limitclustercount": policy.cluster_count,
        "limitclustersize": policy.cluster_weight / 4,
        "optimal": true,
    })
}

pub(super) fn spending(shared: &Shared, params: &Params) -> RpcResult {
    let mut wanted = Vec::new();
    for output in params.list(0, "outputs")? {
        let txid = output
            .get("txid")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let vout = output.get("vout").and_then(Value::as_u64);
        let vout = vout
            .and_then(|vout| u32::try_from(vout).ok())
            .ok_or_else(|| {
                RpcError::new(
                    INVALID_PARAMETER,
                    "Invalid parameter, vout cannot be negative",
                )
            })?;
        wanted.push(OutPoint {
            txid: parse_hash(txid, "txid")?,
            vout,
        });
    }
    Ok(shared.with_chain(|chain| {
        let found = wanted.iter().map(|outpoint| {
            let mut value = json!({ "txid": outpoint.txid.to_string(), "vout": outpoint.vout });
            if let Some(spender) = chain.mempool().spender(outpoint) {
                value["spendingtxid"] = json!(spender.to_string());
            }
            value
        });
        found.collect()
    }))
}
