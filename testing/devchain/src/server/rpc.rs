//! JSON-RPC: parameters by position or name, errors, and the table of methods.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Address, Network, ScriptBuf, Transaction};
use hex_conservative::FromHex;
use serde_json::{Map, Value, json};

use super::{Shared, rpc_chain, rpc_dev, rpc_mempool, rpc_mining};

pub(super) const MISC: i64 = -1;
pub(super) const TYPE_ERROR: i64 = -3;
pub(super) const INVALID_ADDRESS_OR_KEY: i64 = -5;
pub(super) const INVALID_PARAMETER: i64 = -8;
pub(super) const DESERIALIZATION: i64 = -22;
pub(super) const VERIFY_ERROR: i64 = -25;
pub(super) const VERIFY_REJECTED: i64 = -26;
pub(super) const ALREADY_IN_UTXO_SET: i64 = -27;
const METHOD_NOT_FOUND: i64 = -32601;

/// An error with Bitcoin Core's code.
#[derive(Debug)]
pub(super) struct RpcError {
    pub(super) code: i64,
    message: String,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "code": self.code, "message": self.message })
    }
}

pub(super) type RpcResult = Result<Value, RpcError>;

/// The methods with the names of their parameters, in order.
const METHODS: &[(&str, &[&str])] = &[
    ("getblockchaininfo", &[]),
    ("getnetworkinfo", &[]),
    ("getblockcount", &[]),
    ("getbestblockhash", &[]),
    ("getblockhash", &["height"]),
    ("getblockheader", &["blockhash", "verbose"]),
    ("getblock", &["blockhash", "verbosity"]),
    ("getchaintips", &[]),
    ("gettxout", &["txid", "n", "include_mempool"]),
    (
        "gettxoutsetinfo",
        &["hash_type", "hash_or_height", "use_index"],
    ),
    ("scantxoutset", &["action", "scanobjects"]),
    ("getrawtransaction", &["txid", "verbosity", "blockhash"]),
    ("decoderawtransaction", &["hexstring", "iswitness"]),
    (
        "sendrawtransaction",
        &["hexstring", "maxfeerate", "maxburnamount"],
    ),
    ("testmempoolaccept", &["rawtxs", "maxfeerate"]),
    ("submitpackage", &["package", "maxfeerate", "maxburnamount"]),
    ("getrawmempool", &["verbose", "mempool_sequence"]),
    ("getmempoolentry", &["txid"]),
    ("getmempoolinfo", &[]),
    ("gettxspendingprevout", &["outputs"]),
    ("estimatesmartfee", &["conf_target", "estimate_mode"]),
    ("generatetoaddress", &["nblocks", "address", "maxtries"]),
    ("generateblock", &["output", "transactions", "submit"]),
    ("submitblock", &["hexdata", "dummy"]),
    ("invalidateblock", &["blockhash"]),
    ("reconsiderblock", &["blockhash"]),
    ("waitfornewblock", &["timeout", "current_tip"]),
    ("waitforblock", &["blockhash", "timeout"]),
    ("waitforblockheight", &["height", "timeout"]),
    ("setmocktime", &["timestamp"]),
    ("uptime", &[]),
    ("ping", &[]),
    ("help", &["command"]),
    ("stop", &["wait"]),
    ("dev_fund", &["address", "amount", "confirmations"]),
    ("dev_mine", &["nblocks"]),
    ("dev_setfeerate", &["sat_per_kvb", "conf_target"]),
    ("dev_setmempoolminfee", &["sat_per_kvb"]),
    ("dev_setminrelayfee", &["sat_per_kvb"]),
    ("dev_faucet", &[]),
    ("dev_reorg", &["depth", "nblocks"]),
];

/// The parameters of a call, by position.
#[derive(Debug)]
pub(super) struct Params(Vec<Value>);

impl Params {
    pub(super) fn new(method: &str, params: Option<&Value>) -> Result<Self, RpcError> {
        match params {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(values)) => Ok(Self(values.clone())),
            Some(Value::Object(named)) => Self::from_named(method, named),
            Some(_) => Err(RpcError::new(-32600, "Params must be an array or object")),
        }
    }

    fn from_named(method: &str, named: &Map<String, Value>) -> Result<Self, RpcError> {
        let names = METHODS
            .iter()
            .find(|(name, _)| *name == method)
            .map_or(&[][..], |m| m.1);
        let mut values = vec![Value::Null; names.len()];
        for (name, value) in named {
            let Some(index) = names.iter().position(|n| n == name) else {
                return Err(RpcError::new(
                    INVALID_PARAMETER,
                    format!("Unknown named parameter {name}"),
                ));
            };
            values[index] = value.clone();
        }
        Ok(Self(values))
    }

    pub(super) fn get(&self, index: usize) -> Option<&Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    fn required(&self, index: usize, what: &str) -> Result<&Value, RpcError> {
        self.get(index)
            .ok_or_else(|| RpcError::new(MISC, format!("missing parameter: {what}")))
    }

    pub(super) fn text(&self, index: usize, what: &str) -> Result<&str, RpcError> {
        let value = self.required(index, what)?;
        value.as_str().ok_or_else(|| wrong_type(value, "string"))
    }

    pub(super) fn number(&self, index: usize, what: &str) -> Result<i64, RpcError> {
        let value = self.required(index, what)?;
        value.as_i64().ok_or_else(|| wrong_type(value, "number"))
    }

    pub(super) fn number_or(&self, index: usize, default: i64) -> Result<i64, RpcError> {
        match self.get(index) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
            Some(_) => self.number(index, ""),
        }
    }

    pub(super) fn count(&self, index: usize, what: &str) -> Result<u32, RpcError> {
        u32::try_from(self.number(index, what)?)
            .map_err(|_| RpcError::new(INVALID_PARAMETER, format!("{what} is out of range")))
    }

    pub(super) fn list(&self, index: usize, what: &str) -> Result<&[Value], RpcError> {
        let value = self.required(index, what)?;
        value
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| wrong_type(value, "array"))
    }

    /// A hash in hex; `what` is the name that Core uses in its message.
    pub(super) fn hash<T: core::str::FromStr>(
        &self,
        index: usize,
        what: &str,
    ) -> Result<T, RpcError> {
        parse_hash(self.text(index, what)?, what)
    }

    /// An amount in bitcoin, as a number or as text, in satoshi.
    pub(super) fn amount(&self, index: usize, what: &str) -> Result<u64, RpcError> {
        amount(self.required(index, what)?)
    }

    pub(super) fn amount_or(&self, index: usize, default: u64) -> Result<u64, RpcError> {
        self.get(index).map_or(Ok(default), amount)
    }
}

pub(super) fn parse_hash<T: core::str::FromStr>(text: &str, what: &str) -> Result<T, RpcError> {
    text.parse().map_err(|_| {
        let problem = if text.len() == 64 {
            format!("{what} must be hexadecimal string (not '{text}')")
        } else {
            format!(
                "{what} must be of length 64 (not {}, for '{text}')",
                text.len()
            )
        };
        RpcError::new(INVALID_PARAMETER, problem)
    })
}

fn amount(value: &Value) -> Result<u64, RpcError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            // Core reads the digits; eight decimals survive the way through a float.
            Some(float) => format!("{float:.8}"),
            None => number.to_string(),
        },
        other => return Err(wrong_type(other, "number or string")),
    };
    bitcoin::Amount::from_str_in(&text, bitcoin::Denomination::Bitcoin)
        .map(bitcoin::Amount::to_sat)
        .map_err(|_| RpcError::new(TYPE_ERROR, "Invalid amount"))
}

fn wrong_type(value: &Value, expected: &str) -> RpcError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    RpcError::new(
        TYPE_ERROR,
        format!("JSON value of type {found} is not of expected type {expected}"),
    )
}

/// A transaction in hex.
pub(super) fn decode_tx(hex: &str) -> Result<Transaction, RpcError> {
    let failed = || {
        RpcError::new(
            DESERIALIZATION,
            "TX decode failed. Make sure the tx has at least one input.",
        )
    };
    let bytes = Vec::<u8>::from_hex(hex).map_err(|_| failed())?;
    deserialize(&bytes).map_err(|_| failed())
}

/// The script of a regtest address.
pub(super) fn address_script(address: &str) -> Result<ScriptBuf, RpcError> {
    address
        .parse::<Address<_>>()
        .ok()
        .and_then(|address| address.require_network(Network::Regtest).ok())
        .map(|address| address.script_pubkey())
        .ok_or_else(|| RpcError::new(INVALID_ADDRESS_OR_KEY, "Error: Invalid address"))
}

/// Answers one call.
pub(super) async fn call(shared: &Shared, method: &str, params: &Params) -> RpcResult {
    tracing::debug!(method, "call");
    match method {
        "getblockchaininfo" => Ok(shared.with_chain(|chain| rpc_chain::blockchain_info(chain))),
        "getnetworkinfo" => Ok(shared.with_chain(|chain| rpc_chain::network_info(chain))),
        "getblockcount" => Ok(json!(shared.with_chain(|chain| chain.height()))),
        "getbestblockhash" => Ok(json!(shared.with_chain(|chain| chain.tip().to_string()))),
        "getblockhash" => rpc_chain::block_hash(shared, params),
        "getblockheader" => rpc_chain::block_header(shared, params),
        "getblock" => rpc_chain::block(shared, params),
        "getchaintips" => rpc_chain::chain_tips(shared),
        "gettxout" => rpc_chain::tx_out(shared, params),
        "gettxoutsetinfo" => rpc_chain::tx_out_set_info(shared),
        "scantxoutset" => rpc_chain::scan_tx_out_set(shared, params),
        "waitfornewblock" => rpc_chain::wait_for_new_block(shared, params).await,
        "waitforblock" => rpc_chain::wait_for_block(shared, params).await,
        "waitforblockheight" => rpc_chain::wait_for_height(shared, params).await,
        "getrawtransaction" => rpc_mempool::raw_transaction(shared, params),
        "decoderawtransaction" => rpc_mempool::decode(params),
        "sendrawtransaction" => rpc_mempool::send(shared, params),
        "testmempoolaccept" => rpc_mempool::test_accept(shared, params),
        "submitpackage" => rpc_mempool::submit_package(shared, params),
        "getrawmempool" => rpc_mempool::raw_mempool(shared, params),
        "getmempoolentry" => rpc_mempool::mempool_entry(shared, params),
        "getmempoolinfo" => Ok(shared.with_chain(|chain| rpc_mempool::mempool_info(chain))),
        "gettxspendingprevout" => rpc_mempool::spending(shared, params),
        "estimatesmartfee" => rpc_mining::estimate_fee(shared, params),
        "generatetoaddress" => rpc_mining::generate_to_address(shared, params),
        "generateblock" => rpc_mining::generate_block(shared, params),
        "submitblock" => rpc_mining::submit_block(shared, params),
        "invalidateblock" => rpc_mining::invalidate(shared, params),
        "reconsiderblock" => rpc_mining::reconsider(shared, params),
        "setmocktime" => rpc_mining::set_mock_time(shared, params),
        "uptime" => Ok(json!(super::computer_time().saturating_sub(shared.started))),
        "ping" => Ok(Value::Null),
        "help" => Ok(json!(help())),
        "stop" => {
            shared.stop();
            Ok(json!("Fulmen devchain stopping"))
        }
        "dev_fund" => rpc_dev::fund(shared, params),
        "dev_mine" => rpc_dev::mine(shared, params),
        "dev_setfeerate" => rpc_dev::set_feerate(shared, params),
        "dev_setmempoolminfee" => rpc_dev::set_mempool_min_fee(shared, params),
        "dev_setminrelayfee" => rpc_dev::set_min_relay_fee(shared, params),
        "dev_faucet" => Ok(rpc_dev::faucet(shared)),
        "dev_reorg" => rpc_dev::reorg(shared, params),
        _ => Err(RpcError::new(METHOD_NOT_FOUND, "Method not found")),
    }
}

/// All methods with their parameters, one per line.
pub(super) fn help() -> String {
    let lines = METHODS.iter().map(|(name, params)| {
        let params = params.iter().map(|p| format!(" {p}"));
        format!("{name}{}", params.collect::<String>())
    });
    lines.collect::<Vec<_>>().join("\n")
}
