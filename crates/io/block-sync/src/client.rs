//! The questions to Bitcoin Core.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bitcoin::{Block, BlockHash, Network, consensus::encode::deserialize, hex::FromHex};
use serde_json::{Value, json};

use crate::{
    Auth, BlockRef, Error,
    http::{Http, Response},
    utxo::BlockCache,
};

/// The longest answer in JSON: a block in hex, and room.
const MAX_JSON: usize = 20 * 1024 * 1024;
/// The longest block that consensus allows, and room.
const MAX_BLOCK: usize = 5 * 1024 * 1024;

/// Bitcoin Core's numbers for errors.
pub(crate) const RPC_INVALID_ADDRESS_OR_KEY: i64 = -5;
pub(crate) const RPC_INVALID_PARAMETER: i64 = -8;
pub(crate) const RPC_METHOD_NOT_FOUND: i64 = -32601;
const RPC_IN_WARMUP: i64 = -28;

/// Where Bitcoin Core is and how to ask it.
#[derive(Clone, Debug)]
pub struct BitcoindConfig {
    /// `host:port` of RPC and REST.
    pub address: String,
    /// How to show who we are.
    pub auth: Auth,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// Whether to fetch blocks by REST (`rest=1`), which is faster. RPC is used where it is off.
    pub rest: bool,
}

impl BitcoindConfig {
    /// With the usual time-out, and REST where it is there.
    pub fn new(address: impl Into<String>, auth: Auth) -> Self {
        Self {
            address: address.into(),
            auth,
            timeout: Duration::from_secs(30),
            rest: true,
        }
    }
}

/// What Bitcoin Core says of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its network.
    pub network: Network,
    /// The best block that it has.
    pub best: BlockRef,
    /// The height of the best header that it has.
    pub headers: u32,
    /// Whether it is still downloading the chain.
    pub initial_block_download: bool,
    /// Whether it has deleted old blocks.
    pub pruned: bool,
}

/// A client of one Bitcoin Core. Clones share sockets.
#[derive(Clone, Debug)]
pub struct Bitcoind {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    http: Http,
    rest: AtomicBool,
    next_id: AtomicU64,
    blocks: Mutex<BlockCache>,
}

/// A header's place in Bitcoin Core's tree.
pub(crate) struct HeaderInfo {
    pub(crate) height: u32,
    pub(crate) in_best_chain: bool,
    pub(crate) next: Option<BlockHash>,
}

impl Bitcoind {
    /// A client; connects when it is first asked something.
    pub fn new(config: BitcoindConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                http: Http::new(config.address, config.auth, config.timeout),
                rest: AtomicBool::new(config.rest),
                next_id: AtomicU64::new(0),
                blocks: Mutex::new(BlockCache::default()),
            }),
        }
    }

    pub(crate) fn blocks(&self) -> &Mutex<BlockCache> {
        &self.inner.blocks
    }

    /// Calls any method of RPC.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Error> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params });
        let Response { status, body } = self
            .inner
            .http
            .post(request.to_string().as_bytes(), MAX_JSON)
            .await?;
        let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
            return Err(if status == 200 {
                Error::malformed("no JSON")
            } else {
                Error::Http { status }
            });
        };
        let error = answer.get("error").filter(|e| !e.is_null());
        if let Some(error) = error {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
            let message = error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("unknown error")
                .to_owned();
            return Err(if code == RPC_IN_WARMUP {
                Error::WarmingUp(message)
            } else {
                Error::Rpc { code, message }
            });
        }
        if answer.get("id").and_then(Value::as_u64) != Some(id) {
            return Err(Error::malformed("the answer to another question"));
        }
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(Error::malformed("neither result nor error")),
        }
    }

    /// What Bitcoin Core says of its chain.
    pub async fn chain_info(&self) -> Result<ChainInfo, Error> {
        let info = self.call("getblockchaininfo", json!([])).await?;
        let name = info
            .get("chain")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let network = match name {
            "main" => Network::Bitcoin,
            "test" => Network::Testnet,
            "testnet4" => Network::Testnet4,
            "signet" => Network::Signet,
            "regtest" => Network::Regtest,
            other => return Err(Error::Malformed(format!("unknown chain {other:?}"))),
        };
        Ok(ChainInfo {
            network,
            best: BlockRef {
                hash: hash(&info, "bestblockhash")?,
                height: height(&info, "blocks")?,
            },
            headers: height(&info, "headers")?,
            initial_block_download: flag(&info, "initialblockdownload"),
            pruned: flag(&info, "pruned"),
        })
    }

    /// The best block's hash.
    pub async fn best_block_hash(&self) -> Result<BlockHash, Error> {
        parse_hash(&self.call("getbestblockhash", json!([])).await?)
    }

    /// The hash of the best chain's block at a height, if there is one.
    pub async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, Error> {
        match self.call("getblockhash", json!([height])).await {
            Ok(hash) => parse_hash(&hash).map(Some),
            Err(Error::Rpc {
                code: RPC_INVALID_PARAMETER,
                ..
            }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A block, whole.
    pub async fn block(&self, hash: BlockHash) -> Result<Block, Error> {
        let bytes = match self.block_by_rest(hash).await? {
            Some(bytes) => bytes,
            None => {
                let hex = self.call("getblock", json!([hash.to_string(), 0])).await?;
                let hex = hex
                    .as_str()
                    .ok_or_else(|| Error::malformed("a block that is no text"))?;
                Vec::from_hex(hex).map_err(|_| Error::malformed("a block that is no hex"))?
            }
        };
        let block: Block =
            deserialize(&bytes).map_err(|_| Error::malformed("a block that can't be read"))?;
        // The header's hash commits to the transactions by the Merkle root.
        if block.block_hash() != hash || !block.check_merkle_root() {
            return Err(Error::malformed("another block than asked for"));
        }
        Ok(block)
    }

    /// Whether REST answers; it is not asked again once it does not.
    async fn block_by_rest(&self, hash: BlockHash) -> Result<Option<Vec<u8>>, Error> {
        if !self.inner.rest.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let response = self
            .inner
            .http
            .get(&format!("/rest/block/{hash}.bin"), MAX_BLOCK)
            .await?;
        if response.status == 200 {
            return Ok(Some(response.body));
        }
        // The same status tells of a block that is not there: only REST's own words tell them apart.
        let words = String::from_utf8_lossy(&response.body).to_ascii_lowercase();
        if !words.contains("block") && !words.contains(&hash.to_string()) {
            tracing::info!("Bitcoin Core has no REST interface (`rest=1`); using RPC for blocks");
            self.inner.rest.store(false, Ordering::Relaxed);
        }
        Ok(None)
    }

    /// Where a block is; `None` when Bitcoin Core does not know it.
    pub(crate) async fn header_info(&self, hash: BlockHash) -> Result<Option<HeaderInfo>, Error> {
        let info = match self
            .call("getblockheader", json!([hash.to_string(), true]))
            .await
        {
            Ok(info) => info,
            Err(Error::Rpc {
                code: RPC_INVALID_ADDRESS_OR_KEY,
                ..
            }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let confirmations = info.get("confirmations").and_then(Value::as_i64);
        let next = match info.get("nextblockhash") {
            Some(next) => Some(parse_hash(next)?),
            None => None,
        };
        Ok(Some(HeaderInfo {
            height: height(&info, "height")?,
            in_best_chain: confirmations.is_some_and(|c| c > 0),
            next,
        }))
    }
}

fn parse_hash(value: &Value) -> Result<BlockHash, Error> {
    value
        .as_str()
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| Error::malformed("no block hash where one is due"))
}

fn hash(info: &Value, name: &str) -> Result<BlockHash, Error> {
    parse_hash(info.get(name).unwrap_or(&Value::Null))
}

fn height(info: &Value, name: &str) -> Result<u32, Error> {
    info.get(name)
        .and_then(Value::as_u64)
        .and_then(|h| u32::try_from(h).ok())
        .ok_or_else(|| Error::malformed("no height where one is due"))
}

fn flag(info: &Value, name: &str) -> bool {
    info.get(name).and_then(Value::as_bool).unwrap_or(false)
}
