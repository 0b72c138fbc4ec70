//! LDK's ports to the chain: blocks and broadcast over RPC, and feerates that stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Network, Transaction};
use fulmen_devchain::{Backend, RpcClient};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::{BestBlock, Listen, transaction::TransactionData};
use lightning_block_sync::http::HttpEndpoint;
use lightning_block_sync::init::validate_best_block_header;
use lightning_block_sync::poll::{ChainPoller, ValidatedBlockHeader};
use lightning_block_sync::rpc::RpcClient as BlockClient;
use lightning_block_sync::{SpvClient, UnboundedCache};
use serde_json::json;

use super::logger::LogLines;

/// How often the tip is looked at.
const POLL: Duration = Duration::from_millis(60);

/// A client of LDK's own for a backend.
pub(super) fn block_client(backend: &Backend) -> BlockClient {
    let (user, password) = backend.auth();
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let addr = backend.addr();
    let endpoint = HttpEndpoint::for_host(addr.ip().to_string()).with_port(addr.port());
    BlockClient::new(&login, endpoint)
}

/// A blocking client for the wallet and for broadcasts.
pub(super) fn rpc_client(backend: &Backend) -> RpcClient {
    let (user, password) = backend.auth();
    RpcClient::new(backend.addr(), &user, &password)
}

/// Sends transactions to the mempool.
pub(super) struct Broadcaster {
    client: RpcClient,
    log: Arc<LogLines>,
}

impl Broadcaster {
    pub(super) fn new(client: RpcClient, log: Arc<LogLines>) -> Self {
        Self { client, log }
    }
}

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, txs: &[&Transaction]) {
        for tx in txs {
            if let Err(error) = self
                .client
                .call("sendrawtransaction", json!([serialize_hex(*tx), 0]))
            {
                self.log
                    .note(format!("broadcast of {}: {error}", tx.compute_txid()));
            }
        }
        // A parent that is too cheap on its own goes in with its child.
        if let [parent, child] = txs {
            let package = json!([[serialize_hex(*parent), serialize_hex(*child)]]);
            let _ = self.client.call("submitpackage", package);
        }
    }
}

/// Feerates that stand still.
pub(super) struct Feerates;

impl FeeEstimator for Feerates {
    fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
        match target {
            ConfirmationTarget::MaximumFeeEstimate => 10_000,
            ConfirmationTarget::UrgentOnChainSweep => 2_500,
            ConfirmationTarget::NonAnchorChannelFee => 2_000,
            ConfirmationTarget::OutputSpendingFee => 1_000,
            ConfirmationTarget::AnchorChannelFee => 500,
            ConfirmationTarget::MinAllowedAnchorChannelRemoteFee
            | ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee
            | ConfirmationTarget::ChannelCloseMinimum => 253,
        }
    }
}

/// Passes blocks on to several listeners.
pub(super) struct Listeners(pub(super) Vec<Arc<dyn Listen + Send + Sync>>);

impl Listen for Listeners {
    fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData<'_>, height: u32) {
        for listener in &self.0 {
            listener.filtered_block_connected(header, txdata, height);
        }
    }

    fn blocks_disconnected(&self, fork_point_block: BestBlock) {
        for listener in &self.0 {
            listener.blocks_disconnected(fork_point_block);
        }
    }
}

/// The tip to begin with.
pub(super) fn best_block(client: &BlockClient) -> Result<ValidatedBlockHeader> {
    runtime()?
        .block_on(validate_best_block_header(client))
        .map_err(|error| anyhow!("LDK can't read the tip: {:?}", error.into_inner()))
}

/// Follows the chain on a thread of its own until it is told to stop; `after` runs after new blocks.
pub(super) fn follow(
    client: Arc<BlockClient>,
    from: ValidatedBlockHeader,
    listeners: Listeners,
    stop: Arc<AtomicBool>,
    mut after: impl FnMut() + Send + 'static,
) -> Result<JoinHandle<()>> {
    let runtime = runtime()?;
    std::thread::Builder::new()
        .name("ldk-blocks".to_owned())
        .spawn(move || {
            let mut cache = UnboundedCache::new();
            let poller = ChainPoller::new(client, Network::Regtest);
            let mut spv = SpvClient::new(from, poller, &mut cache, &listeners);
            while !stop.load(Ordering::Relaxed) {
                // A failed poll is repeated: the server may be busy or gone for a moment.
                let more = runtime.block_on(spv.poll_best_tip()).is_ok_and(|(_, b)| b);
                if more {
                    after();
                } else {
                    std::thread::sleep(POLL);
                }
            }
        })
        .context("no thread for LDK's blocks")
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
