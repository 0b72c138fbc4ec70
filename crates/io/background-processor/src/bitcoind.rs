//! `fulmen-block-sync` as the ports [`ChainSource`], [`Broadcaster`] and [`FeeEstimator`].

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use fulmen_block_sync::{
    Bitcoind, BlockRef, BroadcastOutcome, ChainUpdate, FeeFallback, FollowConfig, Follower, Rescan,
    RescanTarget, Status, Utxo, follow,
};
use fulmen_node::{Block, BlockId, BroadcastAnswer, Input, UtxoAnswer};
use fulmen_types::{BlockHeight, Feerates, ShortChannelId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::ports::{Broadcaster, ChainSource, FeeEstimator, Work};

/// Sees the chain before the node does: the on-chain wallet, say. Calls may block.
pub trait ChainTap: Send + Sync {
    /// The next block.
    fn connected(&self, height: u32, block: &Arc<bitcoin::Block>);

    /// The tip left the best chain.
    fn disconnected(&self, block: BlockId);
}

/// Bitcoin Core as chain source, broadcaster and fee estimator. Cloning gives a handle of the same one.
#[derive(Clone)]
pub struct BitcoindChain {
    inner: Arc<Inner>,
}

struct Inner {
    client: Bitcoind,
    config: FollowConfig,
    fallback: FeeFallback,
    tap: Option<Arc<dyn ChainTap>>,
    status: watch::Sender<Status>,
    following: Mutex<Option<Following>>,
}

struct Following {
    rescans: mpsc::UnboundedSender<Rescan>,
    task: JoinHandle<()>,
}

/// With the last handle the following ends: nobody may be told of blocks after that.
impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for BitcoindChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitcoindChain")
            .field("client", &self.inner.client)
            .finish_non_exhaustive()
    }
}

impl BitcoindChain {
    /// Over a client. Must be started (by the driver) within a tokio runtime.
    pub fn new(
        client: Bitcoind,
        config: FollowConfig,
        fallback: FeeFallback,
        tap: Option<Arc<dyn ChainTap>>,
    ) -> Self {
        let inner = Inner {
            client,
            config,
            fallback,
            tap,
            status: watch::Sender::new(Status::Starting),
            following: Mutex::new(None),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// How Bitcoin Core is, now and as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }

    fn following(&self) -> MutexGuard<'_, Option<Following>> {
        self.inner
            .following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn rescan(&self, target: RescanTarget, from: BlockHeight) {
        if let Some(following) = &*self.following() {
            // Whole blocks are delivered: only those that were delivered before must be looked at.
            let _ = following.rescans.send(Rescan {
                target,
                from: from.to_u32(),
            });
        }
    }
}

impl ChainSource for BitcoindChain {
    fn start(&self, recent: Vec<BlockId>) -> mpsc::Receiver<Input> {
        let (sink, inputs) = mpsc::channel(4);
        let mut following = self.following();
        // What was followed before is followed no longer.
        *following = None;
        let mut blocks = recent.into_iter().map(to_ref);
        let Some(tip) = blocks.next() else {
            tracing::error!("the node names no block to follow the chain from");
            return inputs;
        };
        let ancestors: Vec<BlockRef> = blocks.collect();
        let client = self.inner.client.clone();
        let follower = Follower::new(client.clone(), tip, &ancestors);
        let (rescans, rescan_requests) = mpsc::unbounded_channel();
        let (out, updates) = mpsc::channel(1);
        let (status, config) = (self.inner.status.clone(), self.inner.config.clone());
        let tap = self.inner.tap.clone();
        let task = tokio::spawn(async move {
            let followed = follow(follower, client, rescan_requests, out, status, config);
            let ((), followed) = tokio::join!(pass_on(updates, tap, sink), followed);
            if let Err(error) = followed {
                tracing::error!(%error, "the chain can't be followed");
            }
        });
        *following = Some(Following { rescans, task });
        inputs
    }

    fn watch_outpoint(&self, outpoint: OutPoint, _script_pubkey: ScriptBuf, from: BlockHeight) {
        self.rescan(RescanTarget::Spend(outpoint), from);
    }

    fn watch_script(&self, script_pubkey: ScriptBuf, from: BlockHeight) {
        self.rescan(RescanTarget::Payment(script_pubkey), from);
    }

    fn utxo(&self, short_channel_id: ShortChannelId) -> Work<UtxoAnswer> {
        let client = self.inner.client.clone();
        Box::pin(async move {
            match client.utxo(short_channel_id).await {
                Ok(Utxo::Unspent {
                    output,
                    outpoint,
                    height: _,
                }) => UtxoAnswer::Unspent { output, outpoint },
                Ok(Utxo::SpentOrUnknown) => UtxoAnswer::SpentOrUnknown,
                Err(error) => {
                    tracing::debug!(%error, "an output could not be looked up");
                    UtxoAnswer::Unavailable
                }
            }
        })
    }
}

impl Broadcaster for BitcoindChain {
    fn broadcast(&self, package: Vec<Transaction>) -> Work<BroadcastAnswer> {
        let client = self.inner.client.clone();
        Box::pin(async move {
            match client.broadcast(&package).await {
                Ok(BroadcastOutcome::Accepted) => BroadcastAnswer::Accepted,
                Ok(BroadcastOutcome::Known) => BroadcastAnswer::Known,
                Ok(BroadcastOutcome::Conflict(why)) => BroadcastAnswer::Conflict(why),
                Ok(BroadcastOutcome::BelowFloor(why)) => BroadcastAnswer::BelowFloor(why),
                Ok(BroadcastOutcome::MissingInputs(why)) => BroadcastAnswer::MissingInputs(why),
                Ok(BroadcastOutcome::Other(why)) => BroadcastAnswer::Other(why),
                Err(error) => BroadcastAnswer::Other(error.to_string()),
            }
        })
    }
}

impl FeeEstimator for BitcoindChain {
    fn feerates(&self) -> Work<Option<Feerates>> {
        let (client, fallback) = (self.inner.client.clone(), self.inner.fallback);
        Box::pin(async move {
            match client.estimates(fallback).await {
                Ok(estimates) => Some(Feerates {
                    background: estimates.background,
                    normal: estimates.normal,
                    urgent: estimates.urgent,
                    floor: estimates.floor,
                }),
                Err(error) => {
                    tracing::debug!(%error, "no feerates");
                    None
                }
            }
        })
    }
}

/// Gives each update to the tap, then to the driver.
async fn pass_on(
    mut updates: mpsc::Receiver<ChainUpdate>,
    tap: Option<Arc<dyn ChainTap>>,
    sink: mpsc::Sender<Input>,
) {
    while let Some(update) = updates.recv().await {
        if let Some(tap) = tap.clone() {
            let seen = update.clone();
            let told = tokio::task::spawn_blocking(move || match seen {
                ChainUpdate::Connected { at, block } => tap.connected(at.height, &block),
                ChainUpdate::Disconnected(at) => tap.disconnected(to_id(at)),
                ChainUpdate::BestTip(_) | ChainUpdate::LateMatches { .. } => {}
            });
            if let Err(error) = told.await {
                tracing::error!(%error, "the wallet did not take a block");
            }
        }
        if sink.send(to_input(update)).await.is_err() {
            return;
        }
    }
}

fn to_input(update: ChainUpdate) -> Input {
    match update {
        ChainUpdate::Disconnected(at) => Input::BlockDisconnected(to_id(at)),
        ChainUpdate::Connected { at, block } => Input::BlockConnected(Arc::new(Block {
            id: to_id(at),
            previous: block.header.prev_blockhash,
            time: block.header.time,
            transactions: (0u32..).zip(block.txdata.iter().cloned()).collect(),
        })),
        ChainUpdate::BestTip(at) => Input::BestTip(to_id(at)),
        ChainUpdate::LateMatches {
            block,
            transactions,
        } => Input::LateMatches {
            block: to_id(block),
            transactions,
        },
    }
}

fn to_id(block: BlockRef) -> BlockId {
    BlockId {
        height: BlockHeight::new(block.height),
        hash: block.hash,
    }
}

fn to_ref(block: BlockId) -> BlockRef {
    BlockRef {
        hash: block.hash,
        height: block.height.to_u32(),
    }
}
