//! What blocks spend: fundings, and the outputs that commitments have for HTLCs.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{
    Amount, BlockHash, OutPoint, TxIn, Txid,
    hashes::{Hash, ripemd160},
};
use fulmen_channel::HtlcView;
use fulmen_devchain::Chain;
use fulmen_types::{HtlcId, PaymentHash};

use crate::{fees::output_of, world::World};

/// The blocks that hold a spend, on any branch.
type Blocks = BTreeSet<(u32, BlockHash)>;

/// An output of a commitment that a transaction takes by an HTLC's script.
#[derive(Clone, Debug)]
struct HtlcOutput {
    funding: OutPoint,
    value: Amount,
    script: Vec<u8>,
    blocks: Blocks,
}

impl HtlcOutput {
    /// Whether it is for this HTLC: every script of BOLT 3 has the hash of the payment hash in it.
    fn is_for(&self, funding: &OutPoint, htlc: &HtlcView) -> bool {
        self.funding == *funding
            && self.value.to_sat() == htlc.amount.to_msat() / 1_000
            && has_hash(&self.script, &htlc.payment_hash)
    }
}

fn has_hash(script: &[u8], payment_hash: &PaymentHash) -> bool {
    let hash = ripemd160::Hash::hash(payment_hash.as_bytes()).to_byte_array();
    script.windows(hash.len()).any(|bytes| bytes == hash)
}

/// What was spent in any block, and who counts on it.
#[derive(Debug, Default)]
pub(crate) struct Spends {
    fundings: BTreeMap<OutPoint, Blocks>,
    /// What spends which funding.
    spenders: BTreeMap<Txid, OutPoint>,
    htlcs: BTreeMap<OutPoint, HtlcOutput>,
    /// HTLCs of channels that ended, which a host has failed to whom they came from.
    failed: BTreeMap<(usize, OutPoint, HtlcId), HtlcView>,
}

impl Spends {
    /// An input in a block that may spend an output of a commitment. If it is an HTLC's that somebody counts on no
    /// more: who, and the HTLC.
    fn note_htlc(
        &mut self,
        chain: &Chain,
        input: &TxIn,
        block: (u32, BlockHash),
    ) -> Option<(usize, HtlcView)> {
        let outpoint = input.previous_output;
        let funding = *self.spenders.get(&outpoint.txid)?;
        let script = input.witness.last()?;
        let output = self.htlcs.entry(outpoint).or_insert_with(|| HtlcOutput {
            funding,
            value: output_of(chain, &[], &outpoint).map_or(Amount::ZERO, |out| out.value),
            script: script.to_vec(),
            blocks: Blocks::new(),
        });
        output.blocks.insert(block);
        let mut failed = self.failed.iter();
        let too_early = failed.find(|((_, funding, _), htlc)| output.is_for(funding, htlc));
        too_early.map(|((host, ..), htlc)| (*host, htlc.clone()))
    }
}

impl World {
    /// After each block: what it spends.
    pub(crate) fn note_spends(&mut self) {
        let hash = self.chain.tip();
        let place = (self.chain.height(), hash);
        let Some(block) = self.chain.block(&hash) else {
            return;
        };
        let mut too_early = Vec::new();
        for tx in &block.txdata {
            for input in &tx.input {
                let outpoint = input.previous_output;
                if self.fundings.contains_key(&outpoint.txid) {
                    let blocks = self.spends.fundings.entry(outpoint).or_default();
                    blocks.insert(place);
                    self.spends.spenders.insert(tx.compute_txid(), outpoint);
                } else if !self.villainy.revoked.contains_key(&outpoint.txid) {
                    // On a revoked commitment it may be of an HTLC that was settled before, one of an earlier
                    // attempt of the same payment.
                    too_early.extend(self.spends.note_htlc(&self.chain, input, place));
                }
            }
        }
        for (host, htlc) in too_early {
            self.blame(
                host,
                format!("n{host} has failed what {htlc:?} was forwarded for, and its output is spent only now"),
            );
        }
    }

    /// How deep the one of these blocks is that is in the chain, as the host's node has heard of it, 1 for its tip. What
    /// is deeper than all that it keeps is as deep as that.
    fn depth(&self, index: usize, blocks: &Blocks) -> Option<u32> {
        let known = self.hosts[index].node.as_ref()?.chain_tip();
        let tip = known.first()?.height.to_u32();
        let oldest = known.last()?.height.to_u32();
        blocks.iter().find_map(|(height, hash)| {
            let is_known = known.iter().any(|id| id.hash == *hash);
            let is_old = *height < oldest && self.chain.is_active(hash);
            (is_known || is_old).then(|| tip + 1 - height)
        })
    }

    /// How deep the spend of a funding is.
    pub(crate) fn spend_depth(&self, index: usize, funding: &OutPoint) -> Option<u32> {
        self.depth(index, self.spends.fundings.get(funding)?)
    }

    /// How deep the spend of an HTLC's output is, if it has one that is spent.
    pub(crate) fn htlc_depth(
        &self,
        index: usize,
        funding: &OutPoint,
        htlc: &HtlcView,
    ) -> Option<u32> {
        let mut outputs = self.spends.htlcs.values();
        outputs
            .find(|output| output.is_for(funding, htlc))
            .and_then(|output| self.depth(index, &output.blocks))
    }

    /// A host counts on an HTLC no more, so no output of it may be spent from now on.
    pub(crate) fn note_failed(&mut self, index: usize, funding: OutPoint, htlc: HtlcView) {
        self.spends.failed.insert((index, funding, htlc.id), htlc);
    }
}
