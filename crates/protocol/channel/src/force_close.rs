//! The end by our commitment transaction: on request, for a fault, at a deadline. And the freeze when the
//! funding output is spent, by whomever.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::Transaction;
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::Side;
use fulmen_types::BlockHeight;

use crate::{
    commitment::View,
    config::ChannelContext,
    error::{ChannelError, Refusal},
    funded::{Funded, Link},
    htlc::{HtlcKind, HtlcResolution, UpdateState},
    output::{ChannelOutput, CloseReason, Closing, EnforcementData},
    state::{Frozen, Status},
};

/// BOLT 2, cltv_expiry_delta selection: G, how long after its expiry an HTLC of ours may still be open.
const OFFERED_GRACE_BLOCKS: u32 = 2;

/// BOLT 2: 2R+G+S, how long before its expiry an HTLC that we have the preimage of goes on chain.
const FULFIL_DEADLINE_BLOCKS: u32 = 18;

/// How many blocks after a start end the peer's time to come back.
const PATIENCE_BLOCKS: u32 = 3;

impl Funded {
    /// Ends the channel by our newest commitment. Durable before anything is broadcast; from then on the
    /// channel signs and revokes nothing.
    pub(crate) fn force_close(
        &mut self,
        ctx: &ChannelContext<'_>,
        reason: CloseReason,
        out: &mut Vec<ChannelOutput>,
    ) {
        if !self.is_alive() {
            return;
        }
        if self.asked.own_secret.is_some() {
            // What we would broadcast may be revoked: until the signer has answered, not even a peer's
            // error or a deadline fails the channel.
            return;
        }
        if self.is_doubtful() {
            // The peer was told, where it is to close; we only wait.
            if self.link != Link::Down {
                self.link = Link::Ignoring;
            }
            if !core::mem::replace(&mut self.said_withheld, true) {
                out.push(ChannelOutput::BroadcastWithheld(reason));
            }
            return;
        }
        if self.link != Link::Down {
            self.link = Link::Ignoring;
        }
        if self.core.mutual_close.is_some() && reason != CloseReason::Requested {
            // Both have signed the way out already; it is being broadcast.
            return;
        }
        self.drop_uncommitted(out);
        self.core.status = Status::Closing {
            reason,
            height: ctx.tip,
        };
        self.touch();
        out.extend(self.closing().map(ChannelOutput::ForceClosing));
    }

    /// The close that was decided, for the on-chain resolution.
    pub(crate) fn closing(&self) -> Option<Box<Closing>> {
        let Status::Closing { reason, height } = &self.core.status else {
            return None;
        };
        Some(Box::new(Closing {
            reason: reason.clone(),
            height: *height,
            enforcement: self.enforcement(),
        }))
    }

    pub(crate) fn enforcement(&self) -> EnforcementData {
        let core = &self.core;
        let holder = match core.status {
            Status::Open | Status::Closing { .. } => Some(self.holder_commitment()),
            Status::Stale => None,
        };
        let preimages = self.htlcs.values().filter_map(|htlc| match &htlc.kind {
            HtlcKind::Outgoing { preimage, .. } => *preimage,
            HtlcKind::Incoming {
                resolution: Some(HtlcResolution::Fulfil(preimage)),
                ..
            } => Some(*preimage),
            HtlcKind::Incoming { .. } => None,
        });
        let links = self.htlcs.values().filter_map(|htlc| match &htlc.kind {
            HtlcKind::Outgoing { link, .. } => Some((htlc.id, link.clone())),
            HtlcKind::Incoming { .. } => None,
        });
        let ours = core.local_shutdown.iter().map(|s| s.script.clone());
        EnforcementData {
            params: core.params,
            holder,
            counterparty: self.counterparty_commitments(),
            secrets: core.secrets.clone(),
            preimages: preimages.collect(),
            sweep_script: core.sweep_script.clone(),
            shutdown_scripts: ours.chain(core.remote_shutdown.clone()).collect(),
            links: links.collect(),
            feerate: self.content(Side::Local, View::Now).feerate,
        }
    }

    /// A new best tip.
    pub(crate) fn block(&mut self, ctx: &ChannelContext<'_>, out: &mut Vec<ChannelOutput>) {
        if !self.is_alive() {
            return;
        }
        if self.is_overdue(ctx) {
            self.abandon("the funding did not confirm within 2016 blocks", out);
            return;
        }
        if self.core.confirmation.is_none()
            && let Some(funding) = &self.core.funding_transaction
        {
            out.push(ChannelOutput::BroadcastFunding(funding.clone()));
        }
        self.look_at_depth(ctx, out);
        if let Some(tx) = &self.core.mutual_close {
            out.push(ChannelOutput::BroadcastClosing(tx.clone()));
            return;
        }
        self.lose_patience(ctx);
        if let Some(reason) = self.passed_deadline(ctx.tip) {
            self.say_error("an HTLC reached its deadline", out);
            self.force_close(ctx, reason, out);
        }
    }

    /// Whether the peer has had its time to come back after a start.
    fn lose_patience(&mut self, ctx: &ChannelContext<'_>) {
        if let Some(patience) = &mut self.patience {
            let since = *patience.since.get_or_insert(ctx.tip);
            if ctx.now >= patience.until || ctx.tip >= since.plus(PATIENCE_BLOCKS) {
                self.patience = None;
            }
        }
    }

    /// BOLT 2, cltv_expiry_delta selection, requirements: the first deadline that has passed.
    fn passed_deadline(&self, tip: BlockHeight) -> Option<CloseReason> {
        self.htlcs.values().find_map(|htlc| {
            let (id, cltv_expiry) = (htlc.id, htlc.cltv_expiry);
            match &htlc.kind {
                // The peer may only have waited for us to be back: closing at once would cost both.
                HtlcKind::Outgoing { .. } if self.patience.is_some() => None,
                HtlcKind::Outgoing { .. } => {
                    let deadline = cltv_expiry.to_height().plus(OFFERED_GRACE_BLOCKS);
                    let is_committed = htlc.state != UpdateState::Add;
                    (is_committed && tip >= deadline).then_some(CloseReason::OfferedHtlcExpired {
                        id,
                        cltv_expiry,
                        deadline,
                    })
                }
                HtlcKind::Incoming {
                    resolution: Some(HtlcResolution::Fulfil(_)),
                    ..
                } => {
                    let deadline = cltv_expiry.to_height().minus(FULFIL_DEADLINE_BLOCKS);
                    // Gone from both commitments it is ours; without an output the chain can't help.
                    let is_open = htlc.state < UpdateState::RemoveAckCommit;
                    (is_open && tip >= deadline && !self.is_trimmed_on_ours(htlc)).then_some(
                        CloseReason::FulfilledHtlcExpiring {
                            id,
                            cltv_expiry,
                            deadline,
                        },
                    )
                }
                HtlcKind::Incoming { .. } => None,
            }
        })
    }

    pub(crate) fn tick(&mut self, ctx: &ChannelContext<'_>, out: &mut Vec<ChannelOutput>) {
        if !self.is_alive() {
            return;
        }
        self.ask_points(out);
        self.retry_closing(out);
        self.retry_own_secret(out);
        if core::mem::take(&mut self.asked.announcement_failed) {
            self.asked.announcement = false;
        }
        if self.is_closing_overdue(ctx) {
            self.say_error("no closing_signed that we can agree to in time", out);
            self.force_close(ctx, CloseReason::ClosingTimeout, out);
        }
    }

    pub(crate) fn funding_spent(
        &mut self,
        transaction: &Transaction,
        height: BlockHeight,
        out: &mut Vec<ChannelOutput>,
    ) {
        let funding = self.core.params.funding.outpoint;
        let spends = transaction
            .input
            .iter()
            .any(|input| input.previous_output == funding);
        let txid = transaction.compute_txid();
        let frozen = Frozen { txid, height };
        if !spends || self.core.frozen == Some(frozen) {
            return;
        }
        self.drop_uncommitted(out);
        self.core.frozen = Some(frozen);
        if self.link != Link::Down {
            self.link = Link::Ignoring;
        }
        self.touch();
        out.push(ChannelOutput::Frozen { txid });
    }

    pub(crate) fn funding_unspent(&mut self) {
        if self.core.frozen.take().is_some() {
            self.touch();
        }
    }

    /// An answer of the signer.
    pub(crate) fn signed(
        &mut self,
        ctx: &ChannelContext<'_>,
        request: SigningRequest,
        answer: SigningAnswer,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        match request {
            SigningRequest::PerCommitmentPoint { number, .. } => match answer {
                SigningAnswer::Point(point) => self.take_point(number, point, out),
                _ => {
                    self.asked.points.remove(&number.to_u64());
                    Ok(())
                }
            },
            SigningRequest::ChannelAnnouncement { announcement, .. } => {
                self.announcement_signed(ctx, &announcement, answer, out)
            }
            SigningRequest::Closing(request) => {
                if self.is_alive() {
                    self.closing_signature_ready(&request, &answer, out);
                }
                Ok(())
            }
            SigningRequest::CheckOwnSecret { number, secret, .. } => {
                self.own_secret_checked(ctx, (number, secret), &answer, out);
                Ok(())
            }
            SigningRequest::Counters { .. } => {
                self.counters_answered(&answer, out);
                Ok(())
            }
            SigningRequest::CounterpartyCommitment(_)
            | SigningRequest::ValidateHolder(_)
            | SigningRequest::ValidateRevocation { .. }
            | SigningRequest::RevealSecret { .. }
            | SigningRequest::HolderCommitment(_)
            | SigningRequest::Claim(_)
            | SigningRequest::NodeAnnouncement(_)
            | SigningRequest::ChannelUpdate(_)
            | SigningRequest::Invoice { .. }
            | SigningRequest::ChannelPublicKeys { .. }
            | SigningRequest::Ecdh { .. } => Err(Refusal::WrongState.into()),
        }
    }
}
