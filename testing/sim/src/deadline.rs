//! What must be done in time, and what not before its time: HTLCs and the blocks that they depend on.

use std::collections::BTreeMap;

use fulmen_channel::{HtlcResolution, HtlcView, UpdateState};
use fulmen_node::{ActionKind, ChannelState, Effects};
use fulmen_payments::{HtlcLink, IncomingRef};
use fulmen_signer::OutMessage;
use fulmen_tx::Side;
use fulmen_types::{
    ChannelId, HtlcId, PaymentHash,
    codec::{Decode, Reader},
};

use crate::world::World;

/// BOLT 2, `cltv_expiry_delta` selection: G, how long after its expiry an HTLC that a node offered may be open.
const GRACE_BLOCKS: u32 = 2;
/// BOLT 2: 2R + G + S with the numbers of that section, how long before its expiry an HTLC whose preimage is known
/// goes on chain.
const FULFIL_BLOCKS: u32 = 18;
/// How long a channel may be open beyond such a deadline: a node may be down, wait for its peer after a start, or
/// learn the preimage late. It is less than what is left to it then.
const OVERDUE_BLOCKS: u32 = 12;
/// The least `cltv_expiry_delta`, less what is left of it when a small HTLC is given up.
const GIVE_UP_BLOCKS: u32 = 34 - 6;

/// Ten ninths of what an HTLC transaction with a coin and change weighs: the fee of a claim that takes nine tenths of
/// what it claims.
pub(crate) const CLAIM_WEIGHT: u64 = 1_280;

/// An HTLC of a host's channel.
pub(crate) type Overdue = (usize, [u8; 32], bool, HtlcId);

impl World {
    /// With a step: the spend of its funding ends a channel in the step that brings it. Nothing is signed or
    /// revoked after it.
    pub(crate) fn check_freeze(&self, index: usize, effects: &Effects) -> Result<(), String> {
        for action in &effects.actions {
            let ActionKind::Send { message, .. } = &action.kind else {
                continue;
            };
            let params = match message {
                OutMessage::CommitmentSigned { request, .. } => &request.params,
                OutMessage::RevokeAndAck { successor, .. } => &successor.params,
                _ => continue,
            };
            if let Some(depth) = self.spend_depth(index, &params.funding.outpoint) {
                return Err(format!(
                    "{} of a channel whose funding is spent, {depth} deep",
                    message.name()
                ));
            }
        }
        Ok(())
    }

    /// When a node has heard of the best tip: no channel is open for long whose HTLC has passed its deadline.
    pub(crate) fn check_deadlines(&mut self, index: usize) {
        let Some(node) = self.hosts[index].node.as_ref() else {
            return;
        };
        let tip = node.chain_tip()[0].height.to_u32();
        let mut overdue = BTreeMap::new();
        for info in self.hosts[index].channels() {
            let is_open = matches!(
                info.state,
                ChannelState::Normal { .. } | ChannelState::ShuttingDown
            );
            if !is_open || info.htlcs == (0, 0) {
                continue;
            }
            let Ok(channel) = self.durable_channel(index, &info.keys_id) else {
                continue;
            };
            for htlc in channel.htlcs() {
                let Some(deadline) = self.deadline(&htlc).filter(|at| tip >= *at) else {
                    continue;
                };
                let is_ours = htlc.offered_by == Side::Local;
                let place = (index, *info.keys_id.as_bytes(), is_ours, htlc.id);
                let since = self.overdue.get(&place).copied().unwrap_or(tip);
                overdue.insert(place, since);
                if tip.saturating_sub(since) >= OVERDUE_BLOCKS {
                    let channel_id = info.channel_id;
                    self.blame(
                        index,
                        format!(
                            "n{index}: at height {tip} {channel_id} is open, and {htlc:?} should have closed it at {deadline}"
                        ),
                    );
                }
            }
        }
        self.overdue.retain(|(host, ..), _| *host != index);
        self.overdue.extend(overdue);
    }

    /// From which height on an HTLC closes its channel.
    fn deadline(&self, htlc: &HtlcView) -> Option<u32> {
        let expiry = htlc.cltv_expiry.to_u32();
        match htlc.offered_by {
            Side::Local => (htlc.state != UpdateState::Add).then_some(expiry + GRACE_BLOCKS),
            Side::Remote => {
                let fulfilled = matches!(htlc.resolution, Some(HtlcResolution::Fulfil(_)));
                let is_open = htlc.state < UpdateState::RemoveAckCommit;
                // Without an output the chain can't help.
                let has_output = !self.is_near_dust(htlc.amount.to_msat());
                (fulfilled && is_open && has_output).then_some(expiry.saturating_sub(FULFIL_BLOCKS))
            }
        }
    }

    /// Before an HTLC is failed to who offered it: what was forwarded for it can't be fulfilled any more.
    pub(crate) fn check_failure(
        &mut self,
        index: usize,
        channel_id: &ChannelId,
        id: HtlcId,
    ) -> Result<(), String> {
        let own = self.hosts[index].channels();
        let Some(info) = own.iter().find(|c| c.channel_id == *channel_id) else {
            return Err("an HTLC is failed in no channel".into());
        };
        let failed = IncomingRef {
            channel: *info.keys_id.as_bytes(),
            htlc: id,
        };
        self.check_given_up(
            index,
            |link| matches!(link, HtlcLink::Forward { incoming } if *incoming == failed),
        )
        .map_err(|what| format!("HTLC {id} of {channel_id} is failed: {what}"))
    }

    /// Before a user is told that a payment failed: none of its HTLCs can be fulfilled any more.
    pub(crate) fn check_payment_failed(
        &mut self,
        index: usize,
        hash: PaymentHash,
    ) -> Result<(), String> {
        self.check_given_up(
            index,
            |link| matches!(link, HtlcLink::Payment { payment_hash, .. } if *payment_hash == hash),
        )
    }

    /// Whether an HTLC is small, and has expired so long ago that the one that it was forwarded from is about to.
    fn may_be_given_up(&self, index: usize, htlc: &HtlcView) -> bool {
        let node = self.hosts[index].node.as_ref();
        let tip = node.map_or(0, |node| node.chain_tip()[0].height.to_u32());
        let is_late = htlc.cltv_expiry.to_u32() + GIVE_UP_BLOCKS <= tip;
        is_late && htlc.amount.to_msat() <= self.most_given_up()
    }

    /// The greatest amount that a node may give up, in msat: what its claim costs at the highest feerate of the run.
    pub(crate) fn most_given_up(&self) -> u64 {
        u64::from(self.highest_feerate) * CLAIM_WEIGHT
    }

    /// HTLCs that somebody counts on no more are removed irrevocably, or their channel ended in a block that
    /// stays, and what spends their output, if they have one, is in such a block, too.
    fn check_given_up(
        &mut self,
        index: usize,
        is_meant: impl Fn(&HtlcLink) -> bool,
    ) -> Result<(), String> {
        for channel in self.hosts[index].channels_on_disk() {
            let htlcs = channel.htlcs();
            let is_out = |htlc: &&HtlcView| {
                htlc.offered_by == Side::Local
                    && htlc.state != UpdateState::Add
                    && link_of(htlc).is_some_and(|link| is_meant(&link))
            };
            let Some(htlc) = htlcs.iter().find(is_out) else {
                continue;
            };
            if self.may_be_given_up(index, htlc) {
                continue;
            }
            let channel_id = channel.channel_id();
            let deepest = self.plan.deepest_reorg;
            let stays = |depth: Option<u32>| depth.is_some_and(|depth| depth > deepest);
            let funding = self.users.fundings.get(&channel_id).copied();
            let depth = funding.and_then(|funding| self.spend_depth(index, &funding));
            let Some(funding) = funding.filter(|_| stays(depth)) else {
                return Err(format!(
                    "{htlc:?} may still be fulfilled; the funding of {channel_id} {}",
                    in_words(depth)
                ));
            };
            // Of two that are alike it is not known whose output is spent.
            let is_like = |other: &&HtlcView| {
                (other.payment_hash, other.amount) == (htlc.payment_hash, htlc.amount)
            };
            if htlcs.iter().filter(is_like).count() > 1 {
                continue;
            }
            let depth = self.htlc_depth(index, &funding, htlc);
            if depth.is_some() && !stays(depth) {
                return Err(format!(
                    "{htlc:?} may still be fulfilled; its output {}",
                    in_words(depth)
                ));
            }
            let is_small = htlc.amount.to_msat() <= self.most_given_up();
            if depth.is_none() && !is_small {
                self.note_failed(index, funding, htlc.clone());
            }
        }
        Ok(())
    }
}

/// How deep a spend is.
fn in_words(depth: Option<u32>) -> String {
    depth.map_or("is not spent".to_owned(), |depth| {
        format!("is spent {depth} deep")
    })
}

fn link_of(htlc: &HtlcView) -> Option<HtlcLink> {
    HtlcLink::decode(&mut Reader::new(htlc.link.as_deref()?)).ok()
}
