//! How blocks come to the wallet: as the node's pass by, and where some are missing by a search of its
//! own.

use std::{sync::Arc, time::Duration};

use bdk_wallet::chain::BlockId;
use bitcoin::Block;
use fulmen_block_sync::{Bitcoind, ChainUpdate, Follower};
use fulmen_types::record::WriteBatch;
use tokio::sync::{Notify, watch};

use crate::{OnchainWallet, WalletFault};

/// Blocks between writes while catching up.
const BLOCKS_PER_WRITE: usize = 100;
const RETRY: Duration = Duration::from_secs(2);

/// Asks for the blocks that the wallet lacks.
#[derive(Clone, Debug, Default)]
pub struct CatchUp {
    wanted: Arc<Notify>,
}

impl CatchUp {
    /// Some are missing.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Fetches what is missing whenever it is asked to, until `stop` says so.
    pub async fn run(
        self,
        wallet: OnchainWallet,
        client: Bitcoind,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let caught_up = tokio::select! {
                result = catch_up(&wallet, &client) => result,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if let Err(error) = caught_up {
                tracing::debug!(error, "the wallet can't fetch blocks now; trying again");
                self.ask();
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
        }
    }
}

/// From the wallet's tip to the best one.
async fn catch_up(wallet: &OnchainWallet, client: &Bitcoind) -> Result<(), String> {
    let (tip, ancestors) = wallet.tip();
    let mut follower = Follower::new(client.clone(), tip, &ancestors);
    let mut pending = Vec::new();
    loop {
        let update = follower.next().await.map_err(|e| e.to_string())?;
        let is_last = !matches!(
            update,
            Some(ChainUpdate::Connected { .. } | ChainUpdate::Disconnected(_))
        );
        if let Some(ChainUpdate::Connected { at, block }) = update {
            pending.push((at.height, block));
        }
        if is_last || pending.len() >= BLOCKS_PER_WRITE {
            let blocks = std::mem::take(&mut pending);
            let wallet = wallet.clone();
            // The disk is waited for off the runtime's threads.
            tokio::task::spawn_blocking(move || wallet.take_blocks(&blocks))
                .await
                .map_err(|e| e.to_string())?
                .map_err(|e| e.to_string())?;
        }
        if is_last {
            return Ok(());
        }
    }
}

impl OnchainWallet {
    /// Takes the next block. `false` when those before it are missing.
    ///
    /// # Errors
    /// What the store says.
    pub fn take_block(&self, height: u32, block: &Block) -> Result<bool, WalletFault> {
        let mut inner = self.lock();
        let knows = |height: u32, hash| {
            let known = inner.wallet.local_chain().get(height);
            known.is_some_and(|at| at.hash() == hash)
        };
        if knows(height, block.block_hash()) {
            return Ok(true);
        }
        if !height
            .checked_sub(1)
            .is_some_and(|before| knows(before, block.header.prev_blockhash))
        {
            return Ok(false);
        }
        apply(&mut inner.wallet, height, block)?;
        inner.persist(WriteBatch::new())?;
        Ok(true)
    }

    /// Takes blocks in a row.
    fn take_blocks(&self, blocks: &[(u32, Arc<Block>)]) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        for (height, block) in blocks {
            apply(&mut inner.wallet, *height, block)?;
        }
        inner.persist(WriteBatch::new())
    }
}

fn apply(wallet: &mut bdk_wallet::Wallet, height: u32, block: &Block) -> Result<(), WalletFault> {
    let Some(before) = height.checked_sub(1) else {
        return Ok(());
    };
    let connected_to = BlockId {
        height: before,
        hash: block.header.prev_blockhash,
    };
    wallet
        .apply_block_connected_to(block, height, connected_to)
        .map_err(|e| WalletFault::Refused(format!("block {height} does not connect: {e}")))
}
