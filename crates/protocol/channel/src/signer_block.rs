//! A signer that refuses, and a signer that remembers: the channel rests until its owner has looked at it.

use alloc::{string::ToString, vec::Vec};

use fulmen_signer::{OutMessage, RefusedMessage, SigningAnswer};
use fulmen_tx::Side;
use fulmen_types::CommitmentNumber;
use fulmen_wire::{UpdateFulfillHtlc, Warning};

use crate::{
    error::{ChannelError, Refusal},
    funded::{Funded, Link},
    htlc::{HtlcKind, Step, UpdateState, role_of},
    output::ChannelOutput,
    state::{LastSent, SignerBlock, Status},
};

/// How much of a refusal's text is kept.
const REASON_LEN: usize = 256;

impl Funded {
    /// The signer will not complete a message of ours: it has not left, nor has anything after it.
    pub(crate) fn signing_refused(
        &mut self,
        refused: &RefusedMessage,
        out: &mut Vec<ChannelOutput>,
    ) {
        if !self.is_alive() {
            return;
        }
        match &refused.message {
            OutMessage::FundingSigned { .. }
                if !refused.may_be_signed && self.is_only_promised() =>
            {
                // The opener has no signature of ours: there is no channel.
                self.say_error("the channel can't be signed", out);
                return self.abandon(&refused.error.to_string(), out);
            }
            OutMessage::CommitmentSigned { request, .. } => {
                let is_last = self.core.awaiting_revocation
                    && request.commitment.content.number == self.core.remote_number;
                if is_last && !refused.may_be_signed && self.asked_to_sign_once {
                    self.take_back_commitment();
                }
            }
            OutMessage::Ready(_)
            | OutMessage::FundingCreated { .. }
            | OutMessage::FundingSigned { .. }
            | OutMessage::RevokeAndAck { .. } => {}
        }
        self.block_by_signer(&refused.error.to_string(), out);
    }

    /// From now on the channel says and signs nothing. Durable before anybody hears of it.
    pub(crate) fn block_by_signer(&mut self, reason: &str, out: &mut Vec<ChannelOutput>) {
        self.drop_uncommitted(out);
        if self.core.blocked.is_none() {
            let reason: alloc::string::String = reason.chars().take(REASON_LEN).collect();
            self.core.blocked = Some(SignerBlock {
                reason: reason.clone(),
            });
            out.push(ChannelOutput::SignerBlocked(reason));
        }
        self.touch();
        self.reset_connection(out);
    }

    /// The owner lets the signer be asked again.
    pub(crate) fn unblock(&mut self, out: &mut Vec<ChannelOutput>) -> Result<(), ChannelError> {
        if self.core.blocked.take().is_none() {
            return Err(Refusal::WrongState.into());
        }
        self.touch();
        self.reset_connection(out);
        Ok(())
    }

    /// Only a new connection tells the peer where the channel stands.
    fn reset_connection(&mut self, out: &mut Vec<ChannelOutput>) {
        if self.link != Link::Down {
            self.link = Link::Ignoring;
            out.push(ChannelOutput::ResetConnection);
        }
    }

    pub(crate) fn say_blocked(&self, out: &mut Vec<ChannelOutput>) {
        out.push(Self::send(Warning::new(
            self.core.channel_id,
            "our signer does not sign for this channel now: it rests",
        )));
    }

    /// Our last `commitment_signed` was asked for once, was not signed and never will be: it is as if it
    /// had not been made. What it covered is without a signature again.
    fn take_back_commitment(&mut self) {
        let Some(number) = self.core.remote_number.previous() else {
            return;
        };
        let step = |offered_by| Step::Commit(role_of(Side::Local, offered_by));
        for htlc in self.htlcs.values_mut() {
            let offered_by = htlc.offered_by();
            let before = htlc.state.before(step(offered_by));
            if before == htlc.state {
                continue;
            }
            htlc.state = before;
            self.changes.htlcs.insert(htlc.key());
            if offered_by == Side::Local && before == UpdateState::Add {
                // Its number is free again.
                self.core.next_local_htlc_id = self.core.next_local_htlc_id.min(htlc.id);
            }
        }
        let fee_step = step(self.core.params.opener);
        for fee in &mut self.core.feerates {
            fee.state = fee.state.before(fee_step);
        }
        self.changes.unsigned.push(self.core.remote_number);
        self.core.remote_number = number;
        self.core.awaiting_revocation = false;
        self.core.last_sent = LastSent::RevokeAndAck;
        self.asked_to_sign_once = false;
        self.touch();
        debug_assert!(
            self.is_conserved(),
            "what was signed before can be paid by definition"
        );
    }

    /// While the channel rests the peer's updates are not taken, but a preimage is.
    pub(crate) fn learn_preimage(&mut self, m: &UpdateFulfillHtlc, out: &mut Vec<ChannelOutput>) {
        let key = (Side::Local, m.id);
        let Some(htlc) = self.htlcs.get_mut(&key) else {
            return;
        };
        if htlc.state == UpdateState::Add || m.payment_preimage.payment_hash() != htlc.payment_hash
        {
            return;
        }
        if let HtlcKind::Outgoing { preimage, link, .. } = &mut htlc.kind {
            *preimage = Some(m.payment_preimage);
            out.push(ChannelOutput::OutgoingFulfilled {
                id: m.id,
                preimage: m.payment_preimage,
                link: link.clone(),
            });
            self.changes.htlcs.insert(key);
        }
    }

    /// How far the signer has come. More than we know of proves that our state is old.
    pub(crate) fn counters_answered(
        &mut self,
        answer: &SigningAnswer,
        out: &mut Vec<ChannelOutput>,
    ) {
        let SigningAnswer::Counters {
            holder,
            counterparty,
        } = answer
        else {
            return;
        };
        if !self.is_alive() {
            return;
        }
        let is_ahead = |theirs: &Option<CommitmentNumber>, ours| theirs.is_some_and(|n| n > ours);
        if is_ahead(holder, self.core.local_number)
            || is_ahead(counterparty, self.core.remote_number)
        {
            self.become_stale(out);
        } else if counterparty.is_some() {
            self.prove();
        }
    }

    /// The state is the newest, as far as anybody can tell.
    pub(crate) fn prove(&mut self) {
        self.proven = true;
        if core::mem::take(&mut self.core.restored) {
            self.touch();
        }
    }

    /// The state was taken from a backup, and nobody has said yet that it is the newest: what we would
    /// broadcast may be revoked.
    pub(crate) const fn is_doubtful(&self) -> bool {
        self.core.restored && !self.proven
    }

    /// Our state is old: nothing is broadcast, ever. Durable before the peer is asked to close.
    pub(crate) fn become_stale(&mut self, out: &mut Vec<ChannelOutput>) {
        self.drop_uncommitted(out);
        self.core.status = Status::Stale;
        self.touch();
        out.push(ChannelOutput::Stale);
        // BOLT 2: the error asks the peer to fail the channel, and we wait for it.
        self.say_error(crate::reestablish::STALE_TEXT, out);
        if self.link != Link::Down {
            self.link = Link::Ignoring;
        }
    }
}
