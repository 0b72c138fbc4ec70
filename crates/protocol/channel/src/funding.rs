//! From the funding transaction to a channel in use: confirmations, `channel_ready`, the announcement.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::Transaction;
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::Side;
use fulmen_types::{BlockHeight, CommitmentNumber, Features, NodeId, ShortChannelId};
use fulmen_wire::{AnnouncementSignatures, ChannelAnnouncement, ChannelReady};

use crate::{
    config::ChannelContext,
    error::{ChannelError, Rule},
    funded::{Funded, Link},
    output::ChannelOutput,
    state::{AnnouncementHalf, Confirmation},
};

/// BOLT 7: a channel is announced at this depth.
const ANNOUNCEMENT_DEPTH: u32 = 6;

/// Until it is so deep a reorganisation may take the funding transaction back: it is kept to be broadcast
/// again, and its coins stay leased.
const FUNDING_KEPT_DEPTH: u32 = 100;

/// BOLT 2, channel_ready: the fundee forgets a channel that is not funded after so many blocks.
const FORGET_BLOCKS: u32 = 2_016;

impl Funded {
    pub(crate) fn depth(&self, ctx: &ChannelContext<'_>) -> u32 {
        self.core
            .confirmation
            .map_or(0, |confirmation| confirmation.height.depth_at(ctx.tip))
    }

    pub(crate) fn short_channel_id(&self) -> Option<ShortChannelId> {
        let confirmation = self.core.confirmation?;
        let vout = u16::try_from(self.core.params.funding.outpoint.vout).ok()?;
        ShortChannelId::from_parts(confirmation.height.to_u32(), confirmation.tx_index, vout)
    }

    pub(crate) fn watch(&self) -> ChannelOutput {
        ChannelOutput::WatchFunding {
            outpoint: self.core.params.funding.outpoint,
            script_pubkey: self.core.params.funding_txout().script_pubkey,
            from: self.core.created_at,
        }
    }

    pub(crate) fn funding_confirmed(
        &mut self,
        ctx: &ChannelContext<'_>,
        transaction: &Transaction,
        height: BlockHeight,
        tx_index: u32,
        out: &mut Vec<ChannelOutput>,
    ) {
        let funding = self.core.params.funding;
        if transaction.compute_txid() != funding.outpoint.txid {
            return;
        }
        let output = usize::try_from(funding.outpoint.vout)
            .ok()
            .and_then(|vout| transaction.output.get(vout));
        // BOLT 2, channel_ready: the outpoint pays exactly funding_satoshis to the script of BOLT 3.
        if output != Some(&self.core.params.funding_txout()) {
            self.say_error(Rule::FundingOutput.text(), out);
            self.abandon("the funding transaction does not pay the channel", out);
            return;
        }
        let confirmation = Confirmation { height, tx_index };
        if self.core.confirmation == Some(confirmation) {
            return;
        }
        self.core.confirmation = Some(confirmation);
        self.touch();
        out.push(ChannelOutput::Located(self.short_channel_id()));
        self.look_at_depth(ctx, out);
    }

    pub(crate) fn funding_unconfirmed(&mut self, out: &mut Vec<ChannelOutput>) {
        if self.core.confirmation.take().is_none() {
            return;
        }
        // A signature on an announcement with a place that no longer holds is of no use.
        self.core.local_announcement = None;
        self.announcement_sent = false;
        self.touch();
        out.push(ChannelOutput::Located(None));
    }

    /// The channel never came to be: nothing is on chain, nothing of ours is at risk.
    pub(crate) fn abandon(&mut self, why: &str, out: &mut Vec<ChannelOutput>) {
        self.gone = true;
        out.push(ChannelOutput::Abandoned(why.into()));
    }

    /// Depth has changed, or the channel was brought up.
    pub(crate) fn look_at_depth(&mut self, ctx: &ChannelContext<'_>, out: &mut Vec<ChannelOutput>) {
        if !self.is_alive() {
            return;
        }
        let depth = self.depth(ctx);
        if depth >= FUNDING_KEPT_DEPTH && self.core.funding_transaction.is_some() {
            self.core.funding_transaction = None;
            self.touch();
        }
        if !self.core.ready_sent && depth >= self.core.minimum_depth {
            self.core.ready_sent = true;
            self.touch();
            if self.link == Link::Up {
                out.extend(self.channel_ready());
            }
            self.look_at_readiness(out);
        }
    }

    /// Whether the fundee gives the channel up: 2016 blocks without its funding.
    pub(crate) fn is_overdue(&self, ctx: &ChannelContext<'_>) -> bool {
        self.is_unfunded() && ctx.tip >= self.core.created_at.plus(FORGET_BLOCKS)
    }

    /// Whether the peer was to fund it, and neither we nor the chain have seen more of it than signatures.
    pub(crate) fn is_only_promised(&self) -> bool {
        self.is_unfunded() && !self.core.ready_sent
    }

    fn is_unfunded(&self) -> bool {
        self.core.params.opener == Side::Remote
            && self.core.confirmation.is_none()
            && self.core.remote_number == CommitmentNumber::FIRST
            && self.htlcs.is_empty()
    }

    pub(crate) fn channel_ready(&self) -> Option<ChannelOutput> {
        // The point of commitment 1 is there as long as commitment 0 is the newest.
        Some(Self::send(ChannelReady {
            channel_id: self.core.channel_id,
            second_per_commitment_point: self.core.local_points.next?,
            short_channel_id: Some(self.core.alias),
            next_local_nonce: None,
        }))
    }

    fn look_at_readiness(&self, out: &mut Vec<ChannelOutput>) {
        if self.is_ready() {
            out.push(ChannelOutput::Ready {
                peer_alias: self.core.peer_alias,
            });
        }
    }

    pub(crate) fn on_channel_ready(
        &mut self,
        m: &ChannelReady,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        let core = &self.core;
        if core.ready_received {
            let is_first = core.remote_number == CommitmentNumber::FIRST;
            if is_first && core.remote_next_point != Some(m.second_per_commitment_point) {
                return Err(Rule::ChannelReadyChanged);
            }
            // BOLT 2: redundant ones are ignored, but for a new alias.
            if m.short_channel_id.is_some() && m.short_channel_id != core.peer_alias {
                self.core.peer_alias = m.short_channel_id;
                self.touch();
            }
            return Ok(());
        }
        self.core.remote_next_point = Some(m.second_per_commitment_point);
        self.core.peer_alias = m.short_channel_id;
        self.core.ready_received = true;
        self.touch();
        self.look_at_readiness(out);
        Ok(())
    }

    /// The announcement without signatures.
    fn announcement(&self, ctx: &ChannelContext<'_>) -> Option<ChannelAnnouncement> {
        let params = &self.core.params;
        let ours = (
            NodeId::from(ctx.our_node_id),
            NodeId::from(params.local.keys.funding),
        );
        let theirs = (
            NodeId::from(self.core.peer_node_id),
            NodeId::from(params.remote.keys.funding),
        );
        let (one, two) = if ours.0 < theirs.0 {
            (ours, theirs)
        } else {
            (theirs, ours)
        };
        let blank = self.core.counterparty_signature;
        Some(ChannelAnnouncement {
            node_signature_1: blank,
            node_signature_2: blank,
            bitcoin_signature_1: blank,
            bitcoin_signature_2: blank,
            features: Features::empty(),
            chain_hash: ctx.config.chain_hash,
            short_channel_id: self.short_channel_id()?,
            node_id_1: one.0,
            node_id_2: two.0,
            bitcoin_key_1: one.1,
            bitcoin_key_2: two.1,
            excess_data: Vec::new(),
        })
    }

    /// BOLT 7: after channel_ready both ways and six confirmations, and before shutdown.
    pub(crate) fn ask_announcement(
        &mut self,
        ctx: &ChannelContext<'_>,
        out: &mut Vec<ChannelOutput>,
    ) {
        let due = self.core.announce
            && self.is_ready()
            && self.core.local_shutdown.is_none()
            && self.depth(ctx) >= ANNOUNCEMENT_DEPTH;
        if !due {
            return;
        }
        if self.core.local_announcement.is_some() {
            self.repeat_announcement(out);
        } else if !self.asked.announcement
            && let Some(announcement) = self.announcement(ctx)
        {
            self.asked.announcement = true;
            out.push(ChannelOutput::AskSign(Box::new(
                SigningRequest::ChannelAnnouncement {
                    keys_id: self.core.params.keys_id,
                    announcement: Box::new(announcement),
                },
            )));
        }
    }

    /// Once per connection, and only as long as the peer may miss it.
    fn send_announcement_signatures(&mut self, out: &mut Vec<ChannelOutput>) {
        let Some(half) = self.core.local_announcement else {
            return;
        };
        if self.link != Link::Up || self.announcement_sent {
            return;
        }
        self.announcement_sent = true;
        out.push(Self::send(AnnouncementSignatures {
            channel_id: self.core.channel_id,
            short_channel_id: half.short_channel_id,
            node_signature: half.node,
            bitcoin_signature: half.bitcoin,
        }));
    }

    /// After a reconnection: BOLT 7 has it repeated until the peer's has come.
    fn repeat_announcement(&mut self, out: &mut Vec<ChannelOutput>) {
        if self.core.remote_announcement.is_none() && self.core.local_shutdown.is_none() {
            self.send_announcement_signatures(out);
        }
    }

    pub(crate) fn announcement_signed(
        &mut self,
        ctx: &ChannelContext<'_>,
        asked: &ChannelAnnouncement,
        answer: SigningAnswer,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        let SigningAnswer::Announcement {
            node_signature,
            bitcoin_signature,
        } = answer
        else {
            self.asked.announcement_failed = true;
            return Ok(());
        };
        self.asked.announcement = false;
        if self.short_channel_id() != Some(asked.short_channel_id) {
            // A reorganisation has moved the channel meanwhile.
            return Ok(());
        }
        self.core.local_announcement = Some(AnnouncementHalf {
            short_channel_id: asked.short_channel_id,
            node: node_signature,
            bitcoin: bitcoin_signature,
        });
        self.touch();
        self.send_announcement_signatures(out);
        self.assemble_announcement(ctx, out);
        Ok(())
    }

    pub(crate) fn on_announcement_signatures(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: &AnnouncementSignatures,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        if !self.core.announce {
            return Err(Rule::UnexpectedMessage);
        }
        let half = AnnouncementHalf {
            short_channel_id: m.short_channel_id,
            node: m.node_signature,
            bitcoin: m.bitcoin_signature,
        };
        // Where we have not seen the funding yet it is kept unread.
        if let Some(announcement) = self.announcement(ctx) {
            self.check_half(ctx, &announcement, &half)?;
        }
        let is_new = self.core.remote_announcement != Some(half);
        if is_new {
            self.core.remote_announcement = Some(half);
            self.touch();
        }
        self.send_announcement_signatures(out);
        if is_new {
            self.assemble_announcement(ctx, out);
        }
        Ok(())
    }

    fn check_half(
        &self,
        ctx: &ChannelContext<'_>,
        announcement: &ChannelAnnouncement,
        half: &AnnouncementHalf,
    ) -> Result<(), Rule> {
        if half.short_channel_id != announcement.short_channel_id {
            return Err(Rule::AnnouncementScid);
        }
        let hash = announcement.signature_hash();
        let by_node = ctx
            .secp
            .verify_ecdsa(&hash, &half.node, &self.core.peer_node_id);
        let by_funding_key =
            ctx.secp
                .verify_ecdsa(&hash, &half.bitcoin, &self.core.params.remote.keys.funding);
        by_node
            .and(by_funding_key)
            .map_err(|_| Rule::AnnouncementSignature)
    }

    /// Both halves together prove the channel to the world.
    pub(crate) fn assemble_announcement(
        &mut self,
        ctx: &ChannelContext<'_>,
        out: &mut Vec<ChannelOutput>,
    ) {
        let (Some(ours), Some(theirs), Some(mut announcement)) = (
            self.core.local_announcement,
            self.core.remote_announcement,
            self.announcement(ctx),
        ) else {
            return;
        };
        if self.check_half(ctx, &announcement, &theirs).is_err() {
            self.core.remote_announcement = None;
            self.touch();
            return;
        }
        let (one, two) = if announcement.node_id_1 == NodeId::from(ctx.our_node_id) {
            (ours, theirs)
        } else {
            (theirs, ours)
        };
        announcement.node_signature_1 = one.node;
        announcement.node_signature_2 = two.node;
        announcement.bitcoin_signature_1 = one.bitcoin;
        announcement.bitcoin_signature_2 = two.bitcoin;
        out.push(ChannelOutput::Announced(Box::new(announcement)));
    }
}
