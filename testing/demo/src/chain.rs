//! The chain that everything runs on, and the miner.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{
    Address, Amount, Block, Network, OutPoint, Transaction, Txid,
    address::NetworkUnchecked,
    consensus::encode::{deserialize_hex, serialize_hex},
};
use fulmen_devchain::{Backend, Faucet};
use serde_json::json;

/// The embedded chain behind its server, or a bitcoind when `BITCOIND_EXE` names one.
#[derive(Debug)]
pub(crate) struct Chain {
    backend: Backend,
}

impl Chain {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self {
            backend: Backend::start()?,
        })
    }

    pub(crate) fn is_bitcoind(&self) -> bool {
        self.backend.is_bitcoind()
    }

    pub(crate) fn url(&self) -> String {
        self.backend.url()
    }

    pub(crate) fn cookie_path(&self) -> &std::path::Path {
        self.backend.cookie_path()
    }

    pub(crate) fn height(&self) -> Result<u32> {
        Ok(tokio::task::block_in_place(|| self.backend.height())?)
    }

    /// Mines what is in the mempool, and then some; returns the new height.
    pub(crate) fn mine(&self, count: u32) -> Result<u32> {
        tokio::task::block_in_place(|| {
            self.backend.generate(count)?;
            Ok(self.backend.height()?)
        })
    }

    /// Pays from the faucet, in a block of its own.
    pub(crate) fn fund(&self, address: &str, amount_sat: u64) -> Result<OutPoint> {
        let address: Address<NetworkUnchecked> = address.parse()?;
        let script = address.require_network(Network::Regtest)?.script_pubkey();
        let amount = Amount::from_sat(amount_sat);
        Ok(tokio::task::block_in_place(|| {
            self.backend.fund(&script, amount)
        })?)
    }

    pub(crate) fn broadcast(&self, tx: &Transaction) -> Result<Txid> {
        Ok(tokio::task::block_in_place(|| self.backend.send(tx))?)
    }

    /// One block with exactly these transactions, whatever the mempool holds or relay policy says.
    pub(crate) fn mine_exactly(&self, txs: &[&Transaction]) -> Result<()> {
        let address = Faucet::default().address().to_string();
        let hex: Vec<String> = txs.iter().map(|tx| serialize_hex(*tx)).collect();
        tokio::task::block_in_place(|| {
            self.backend
                .client()
                .call("generateblock", json!([address, hex]))
        })?;
        Ok(())
    }

    pub(crate) fn block(&self, height: u32) -> Result<Block> {
        tokio::task::block_in_place(|| {
            let client = self.backend.client();
            let hash = client.call("getblockhash", json!([height]))?;
            let hex = client.call("getblock", json!([hash, 0]))?;
            let hex = hex.as_str().context("getblock did not answer with hex")?;
            let block: Block = deserialize_hex(hex)?;
            Ok(block)
        })
    }

    pub(crate) fn mempool_len(&self) -> Result<usize> {
        let pool =
            tokio::task::block_in_place(|| self.backend.client().call("getrawmempool", json!([])))?;
        Ok(pool.as_array().map_or(0, Vec::len))
    }
}

/// Mines a block every so often until it is dropped.
#[derive(Debug)]
pub(crate) struct Miner {
    blocks: Arc<AtomicU32>,
    failed: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Miner {
    pub(crate) fn start(chain: Arc<Chain>, every: Duration) -> Self {
        let blocks = Arc::new(AtomicU32::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (counted, broken) = (Arc::clone(&blocks), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                match chain.mine(1) {
                    Ok(_) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => broken.store(true, Ordering::Relaxed),
                }
            }
        });
        Self {
            blocks,
            failed,
            task,
        }
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Stops it; an error when a block could not be mined.
    pub(crate) fn stop(self) -> Result<u32> {
        ensure!(
            !self.failed.load(Ordering::Relaxed),
            "the chain did not take a block"
        );
        Ok(self.blocks())
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.task.abort();
    }
}
