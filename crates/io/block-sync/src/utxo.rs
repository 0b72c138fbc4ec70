//! Looking up the output that a short channel id names.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
};

use bitcoin::{Block, BlockHash, OutPoint, TxOut};
use fulmen_types::ShortChannelId;
use serde_json::json;

use crate::{Bitcoind, Error};

/// What the chain says of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Utxo {
    /// It is there, unspent by any block.
    Unspent {
        /// The output.
        output: TxOut,
        /// Where it is.
        outpoint: OutPoint,
        /// Its block's height.
        height: u32,
    },
    /// There is no such output in the best chain, or a block spends it.
    SpentOrUnknown,
}

/// The last blocks that were looked at: announcements of one block come together.
#[derive(Debug, Default)]
pub(crate) struct BlockCache {
    blocks: VecDeque<(BlockHash, Arc<Block>)>,
}

const CACHED_BLOCKS: usize = 8;

impl BlockCache {
    fn get(&self, hash: BlockHash) -> Option<Arc<Block>> {
        self.blocks
            .iter()
            .find(|(h, _)| *h == hash)
            .map(|(_, block)| Arc::clone(block))
    }

    fn put(&mut self, hash: BlockHash, block: Arc<Block>) {
        if self.blocks.len() >= CACHED_BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back((hash, block));
    }
}

impl Bitcoind {
    /// A block that was looked at lately, or is fetched.
    pub(crate) async fn cached_block(&self, hash: BlockHash) -> Result<Arc<Block>, Error> {
        let cached = self
            .blocks()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(hash);
        if let Some(block) = cached {
            return Ok(block);
        }
        let block = Arc::new(self.block(hash).await?);
        let mut cache = self.blocks().lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(hash, Arc::clone(&block));
        Ok(block)
    }

    /// The output that a short channel id names.
    pub async fn utxo(&self, scid: ShortChannelId) -> Result<Utxo, Error> {
        let Some(hash) = self.block_hash(scid.block()).await? else {
            return Ok(Utxo::SpentOrUnknown);
        };
        let block = self.cached_block(hash).await?;
        let found = usize::try_from(scid.tx_index())
            .ok()
            .and_then(|index| block.txdata.get(index))
            .and_then(|tx| {
                let output = tx.output.get(usize::from(scid.output_index()))?;
                Some((
                    OutPoint::new(tx.compute_txid(), scid.output_index().into()),
                    output.clone(),
                ))
            });
        let Some((outpoint, output)) = found else {
            return Ok(Utxo::SpentOrUnknown);
        };
        // A spend that only the mempool knows does not count.
        let unspent = self
            .call(
                "gettxout",
                json!([outpoint.txid.to_string(), outpoint.vout, false]),
            )
            .await?;
        Ok(if unspent.is_null() {
            Utxo::SpentOrUnknown
        } else {
            Utxo::Unspent {
                output,
                outpoint,
                height: scid.block(),
            }
        })
    }
}
