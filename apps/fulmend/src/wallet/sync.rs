//! The wallet follows the chain from its own tip on.

use std::time::Duration;

use fulmen_block_sync::{Bitcoind, ChainUpdate, FollowConfig, Follower, Status, follow};
use fulmen_types::record::WriteBatch;
use tokio::sync::{mpsc, watch};

use super::{OnchainWallet, WalletFault};

/// Blocks that are waited for at most before what they brought is made durable.
const BLOCKS_PER_WRITE: usize = 100;
const RETRY: Duration = Duration::from_secs(5);

/// Feeds the wallet with blocks until `stop` says so. `changed` is told after each change.
pub(crate) async fn follow_chain(
    wallet: OnchainWallet,
    client: Bitcoind,
    config: FollowConfig,
    changed: watch::Sender<u32>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let (tip, ancestors) = wallet.tip();
        let follower = Follower::new(client.clone(), tip, &ancestors);
        let (steps_in, steps) = mpsc::channel(BLOCKS_PER_WRITE);
        let (_rescans_in, rescans) = mpsc::unbounded_channel();
        let (status, _) = watch::channel(Status::Starting);
        let following =
            follow(follower, client.clone(), rescans, steps_in, status, config.clone());
        let applying = apply(wallet.clone(), steps, &changed);
        let failed = tokio::select! {
            ended = async { tokio::join!(following, applying) } => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match failed {
            (_, Err(error)) => {
                tracing::error!(%error, "the wallet can't take blocks; trying again");
            }
            (Err(error), Ok(())) => {
                tracing::error!(%error, "the wallet can't follow the chain; trying again");
            }
            (Ok(()), Ok(())) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn apply(
    wallet: OnchainWallet,
    mut steps: mpsc::Receiver<ChainUpdate>,
    changed: &watch::Sender<u32>,
) -> Result<(), WalletFault> {
    let mut updates = Vec::new();
    while steps.recv_many(&mut updates, BLOCKS_PER_WRITE).await > 0 {
        let updates = std::mem::take(&mut updates);
        let wallet = wallet.clone();
        // The disk is waited for off the runtime's threads.
        let applied = tokio::task::spawn_blocking(move || wallet.apply(&updates)).await;
        let height = applied.map_err(|e| WalletFault::Refused(e.to_string()))??;
        changed.send_replace(height);
    }
    Ok(())
}

impl OnchainWallet {
    /// Takes steps of the chain; gives the height of the wallet's tip.
    pub(super) fn apply(&self, updates: &[ChainUpdate]) -> Result<u32, WalletFault> {
        let mut inner = self.lock();
        for update in updates {
            match update {
                ChainUpdate::Connected { at, block } => {
                    inner
                        .wallet
                        .apply_block(block, at.height)
                        .map_err(|e| WalletFault::Refused(e.to_string()))?;
                }
                // The block that takes its place pushes it out.
                ChainUpdate::Disconnected(_) => {}
                ChainUpdate::BestTip(_) | ChainUpdate::LateMatches { .. } => {}
            }
        }
        inner.persist(WriteBatch::new())?;
        Ok(inner.wallet.latest_checkpoint().height())
    }
}
