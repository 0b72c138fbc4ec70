//! The node's view of the chain: its tip, the ancestors that a reorg may go back to, and whether the
//! source has caught up.

use alloc::{collections::VecDeque, vec::Vec};
use core::fmt;

use bitcoin::BlockHash;
use fulmen_types::{
    BlockHeight,
    codec::{Decode, DecodeError, Encode, Reader, decode_list},
    record::{RecordKey, Space, WriteBatch},
};

use crate::input::{Block, BlockId};

/// How many blocks behind the tip are remembered: a reorg that goes deeper stops the node.
pub(crate) const ANCESTORS: usize = 100;

/// Why a block does not fit the chain that the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// A block that does not follow the tip.
    NotNext {
        /// What was given.
        got: BlockId,
        /// The tip.
        tip: BlockId,
    },
    /// A disconnect of a block that is not the tip.
    NotTip {
        /// What was given.
        got: BlockId,
        /// The tip.
        tip: BlockId,
    },
    /// A reorg deeper than what is remembered.
    TooDeep,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNext { got, tip } => write!(
                f,
                "block {} at height {} does not follow the tip {} at height {}",
                got.hash, got.height, tip.hash, tip.height
            ),
            Self::NotTip { got, tip } => write!(
                f,
                "block {} at height {} was disconnected but the tip is {} at height {}",
                got.hash, got.height, tip.hash, tip.height
            ),
            Self::TooDeep => write!(
                f,
                "the chain was reorganised more than {ANCESTORS} blocks deep"
            ),
        }
    }
}

impl core::error::Error for ChainError {}

/// The last blocks of the best chain, as far as the node has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainState {
    /// Oldest first; the last is the tip. Never empty.
    recent: VecDeque<BlockId>,
    /// Whether the source has said that the tip is the best one it knows.
    pub(crate) synced: bool,
}

impl ChainState {
    pub(crate) fn new(tip: BlockId) -> Self {
        Self {
            recent: VecDeque::from([tip]),
            synced: false,
        }
    }

    pub(crate) fn tip(&self) -> BlockId {
        *self
            .recent
            .back()
            .expect("the list starts with a block and never gets empty")
    }

    pub(crate) fn height(&self) -> BlockHeight {
        self.tip().height
    }

    /// The tip and its known ancestors, newest first: from where a source resumes.
    pub(crate) fn recent(&self) -> Vec<BlockId> {
        self.recent.iter().rev().copied().collect()
    }

    /// Whether the block is in the chain, or too old to tell.
    pub(crate) fn may_contain(&self, block: BlockId) -> bool {
        self.recent
            .iter()
            .find(|known| known.height == block.height)
            .is_none_or(|known| known.hash == block.hash)
    }

    pub(crate) fn connect(&mut self, block: &Block) -> Result<(), ChainError> {
        let tip = self.tip();
        if block.previous != tip.hash || block.id.height != tip.height.plus(1) {
            return Err(ChainError::NotNext { got: block.id, tip });
        }
        self.recent.push_back(block.id);
        if self.recent.len() > ANCESTORS + 1 {
            self.recent.pop_front();
        }
        self.synced = false;
        Ok(())
    }

    pub(crate) fn disconnect(&mut self, block: BlockId) -> Result<(), ChainError> {
        let tip = self.tip();
        if block != tip {
            return Err(ChainError::NotTip { got: block, tip });
        }
        if self.recent.len() < 2 {
            return Err(ChainError::TooDeep);
        }
        self.recent.pop_back();
        self.synced = false;
        Ok(())
    }

    pub(crate) fn write(&self, batch: &mut WriteBatch) {
        let mut value = alloc::vec![1u8];
        let blocks: Vec<(BlockHeight, BlockHash)> =
            self.recent.iter().map(|b| (b.height, b.hash)).collect();
        blocks.as_slice().encode(&mut value);
        batch.put(Self::key(), value);
    }

    pub(crate) fn key() -> RecordKey {
        RecordKey::new(Space::Chain, *b"tip")
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if u8::decode(&mut r)? != 1 {
            return Err(DecodeError::InvalidValue("chain record of a newer version"));
        }
        let blocks: Vec<(BlockHeight, BlockHash)> = decode_list(&mut r)?;
        r.finish()?;
        if blocks.is_empty() {
            return Err(DecodeError::Missing("tip"));
        }
        let recent = blocks
            .into_iter()
            .map(|(height, hash)| BlockId { height, hash })
            .collect();
        Ok(Self {
            recent,
            synced: false,
        })
    }
}
