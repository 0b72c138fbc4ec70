//! From a durable tip to the best one: disconnects to the fork, then blocks.

use std::{collections::VecDeque, sync::Arc};

use bitcoin::{Block, BlockHash, Transaction};

use crate::{Bitcoind, Error};

/// How many blocks behind the tip are remembered: a reorg that goes deeper can't be followed.
pub const MAX_ANCESTORS: usize = 100;

/// A block's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
}

/// One step along the chain.
#[derive(Clone, Debug)]
pub enum ChainUpdate {
    /// The tip left the best chain.
    Disconnected(BlockRef),
    /// The next block of the best chain.
    Connected {
        /// Its place.
        at: BlockRef,
        /// All of it.
        block: Arc<Block>,
    },
    /// The tip is the best block: there is no more for now.
    BestTip(BlockRef),
    /// Transactions of a block given before that match a [`crate::Rescan`].
    LateMatches {
        /// The block.
        block: BlockRef,
        /// The transactions with their index in the block.
        transactions: Vec<(u32, Transaction)>,
    },
}

/// Follows the best chain. It asks nothing by itself: [`Follower::next`] does one step.
#[derive(Debug)]
pub struct Follower {
    client: Bitcoind,
    /// Oldest first; the last is the tip. Never empty.
    recent: VecDeque<BlockRef>,
    /// The tip that was announced as the best.
    announced: Option<BlockHash>,
}

impl Follower {
    /// From `tip`, whose known `ancestors` are given newest first (without the tip).
    pub fn new(client: Bitcoind, tip: BlockRef, ancestors: &[BlockRef]) -> Self {
        let mut recent: VecDeque<BlockRef> = ancestors
            .iter()
            .take(MAX_ANCESTORS)
            .rev()
            .copied()
            .collect();
        recent.push_back(tip);
        Self {
            client,
            recent,
            announced: None,
        }
    }

    /// The last block that was given.
    pub fn tip(&self) -> BlockRef {
        *self
            .recent
            .back()
            .expect("it starts with a tip and the last one is never removed")
    }

    /// The hash of a block given before, where it is remembered.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        let back = usize::try_from(self.tip().height.checked_sub(height)?).ok()?;
        self.recent.iter().rev().nth(back).map(|block| block.hash)
    }

    /// The next step; `None` when there is nothing new. After an error nothing has changed: ask again.
    pub async fn next(&mut self) -> Result<Option<ChainUpdate>, Error> {
        let tip = self.tip();
        if self.announced == Some(tip.hash) {
            if self.client.best_block_hash().await? == tip.hash {
                return Ok(None);
            }
            self.announced = None;
        }
        let header = self.client.header_info(tip.hash).await?;
        let next = match header.filter(|h| h.in_best_chain) {
            Some(header) if header.height != tip.height => {
                return Err(Error::malformed("a block at another height than before"));
            }
            Some(header) => header.next,
            None => return self.disconnect(tip).map(Some),
        };
        let Some(hash) = next else {
            // Should the tip move on just now, the next step sees it.
            self.announced = Some(tip.hash);
            return Ok(Some(ChainUpdate::BestTip(tip)));
        };
        let block = self.client.block(hash).await?;
        if block.header.prev_blockhash != tip.hash {
            return Err(Error::malformed("a next block that does not follow"));
        }
        let at = BlockRef {
            hash,
            height: tip.height.saturating_add(1),
        };
        self.recent.push_back(at);
        if self.recent.len() > MAX_ANCESTORS + 1 {
            self.recent.pop_front();
        }
        Ok(Some(ChainUpdate::Connected {
            at,
            block: Arc::new(block),
        }))
    }

    fn disconnect(&mut self, tip: BlockRef) -> Result<ChainUpdate, Error> {
        if self.recent.len() < 2 {
            return Err(Error::ReorgTooDeep);
        }
        self.recent.pop_back();
        Ok(ChainUpdate::Disconnected(tip))
    }
}
