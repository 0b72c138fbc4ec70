//! BOLT 2, Message Retransmission: two ends that lost their connection, or one that lost its memory,
//! find out where they stand.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_signer::{HiddenBytes, SigningAnswer, SigningRequest};
use fulmen_types::CommitmentNumber;
use fulmen_wire::ChannelReestablish;

use crate::{
    config::ChannelContext,
    error::Rule,
    funded::{Funded, Link},
    output::{ChannelOutput, CloseReason},
    state::{LastSent, Status},
};

/// What the peer is told when our state is old.
pub(crate) const STALE_TEXT: &str =
    "channel_reestablish: our state is old: please close the channel";

/// How many revocations the peer has of us, as it says.
enum Revocations {
    InStep,
    /// It misses our last one.
    MissesLast,
}

impl Funded {
    pub(crate) fn connect(&mut self, out: &mut Vec<ChannelOutput>) {
        if self.link != Link::Down {
            // The end of the old connection was not noticed.
            self.disconnect(out);
        }
        if !self.is_alive() {
            self.link = Link::Ignoring;
            self.repeat_error(out);
            return;
        }
        self.link = Link::Reestablishing;
        out.push(Self::send(self.reestablish()));
    }

    fn reestablish(&self) -> ChannelReestablish {
        let core = &self.core;
        let received = core.revocations_received();
        ChannelReestablish {
            channel_id: core.channel_id,
            next_commitment_number: core.local_number.to_u64() + 1,
            next_revocation_number: received,
            // BOLT 2: the last secret that we got; zeros if none.
            your_last_per_commitment_secret: received
                .checked_sub(1)
                .and_then(CommitmentNumber::new)
                .and_then(|number| core.secrets.get(number))
                .unwrap_or([0; 32]),
            my_current_per_commitment_point: core.local_points.current,
            next_funding: None,
            my_current_funding_locked: None,
            next_local_nonces: None,
        }
    }

    /// BOLT 2: in an error state the error is repeated after a reconnection.
    pub(crate) fn repeat_error(&self, out: &mut Vec<ChannelOutput>) {
        let text = match (&self.core.status, self.core.frozen) {
            (_, Some(_)) => return,
            (Status::Open, None) => return,
            (Status::Stale, None) => STALE_TEXT,
            (Status::Closing { reason, .. }, None) => match reason {
                CloseReason::PeerFault(rule) => rule.text(),
                CloseReason::Requested
                | CloseReason::PeerError(_)
                | CloseReason::OfferedHtlcExpired { .. }
                | CloseReason::FulfilledHtlcExpiring { .. }
                | CloseReason::ClosingTimeout => "the channel was closed by our commitment",
            },
        };
        out.push(Self::send(fulmen_wire::Error::new(
            self.core.channel_id,
            text,
        )));
    }

    pub(crate) fn on_reestablish(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: &ChannelReestablish,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        if self.link != Link::Reestablishing {
            return Err(Rule::UnexpectedMessage);
        }
        // BOLT 2: a peer that asks for commitment 0 wants the channel failed.
        if m.next_commitment_number == 0 {
            return Err(Rule::ReestablishZero);
        }
        let sent = self.core.revocations_sent();
        if m.next_revocation_number > sent {
            return self.check_future_secret(m, out);
        }
        let revocations = self.compare_revocations(ctx, m)?;
        let signed = self.core.remote_number.to_u64();
        let resend_commitment = if m.next_commitment_number == signed.saturating_add(1) {
            false
        } else if m.next_commitment_number == signed && self.core.awaiting_revocation {
            true
        } else {
            return Err(Rule::ReestablishCommitmentNumber);
        };

        self.prove();
        if self.core.blocked.is_some() {
            self.link = Link::Ignoring;
            self.say_blocked(out);
            return Ok(());
        }
        self.link = Link::Up;
        // BOLT 2: channel_ready again, while neither has seen a commitment after the first.
        if m.next_commitment_number == 1
            && self.core.local_number == CommitmentNumber::FIRST
            && self.core.ready_sent
        {
            out.extend(self.channel_ready());
        }
        self.retransmit(resend_commitment, &revocations, out);
        self.repeat_shutdown(out);
        self.look_at_depth(ctx, out);
        Ok(())
    }

    /// The peer says that we revoked more than we know of. If it has our secret, our state is old: nothing
    /// may be broadcast. Only the signer can tell; until it does, nothing else happens either.
    fn check_future_secret(
        &mut self,
        m: &ChannelReestablish,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        let number = m
            .next_revocation_number
            .checked_sub(1)
            .and_then(CommitmentNumber::new)
            .ok_or(Rule::ReestablishRevocationNumber)?;
        self.link = Link::CheckingSecret(number);
        let secret = HiddenBytes::new(m.your_last_per_commitment_secret);
        self.asked.own_secret = Some((number, secret));
        self.ask_own_secret(out);
        Ok(())
    }

    fn ask_own_secret(&mut self, out: &mut Vec<ChannelOutput>) {
        let Some((number, secret)) = self.asked.own_secret else {
            return;
        };
        self.asked.own_secret_failed = false;
        out.push(ChannelOutput::AskSign(Box::new(
            SigningRequest::CheckOwnSecret {
                keys_id: self.core.params.keys_id,
                number,
                secret,
            },
        )));
    }

    /// The signer could not tell before.
    pub(crate) fn retry_own_secret(&mut self, out: &mut Vec<ChannelOutput>) {
        if self.asked.own_secret_failed {
            self.ask_own_secret(out);
        }
    }

    pub(crate) fn own_secret_checked(
        &mut self,
        ctx: &ChannelContext<'_>,
        asked: (CommitmentNumber, HiddenBytes),
        answer: &SigningAnswer,
        out: &mut Vec<ChannelOutput>,
    ) {
        if self.asked.own_secret != Some(asked) || !self.is_alive() {
            return;
        }
        match answer {
            SigningAnswer::OwnSecret(true) => {
                self.asked.own_secret = None;
                self.become_stale(out);
            }
            SigningAnswer::OwnSecret(false) => {
                self.asked.own_secret = None;
                // The peer may have gone since.
                if self.link == Link::CheckingSecret(asked.0) {
                    self.fault(ctx, Rule::ReestablishSecret, out);
                }
            }
            _ => self.asked.own_secret_failed = true,
        }
    }

    fn compare_revocations(
        &self,
        ctx: &ChannelContext<'_>,
        m: &ChannelReestablish,
    ) -> Result<Revocations, Rule> {
        let sent = self.core.revocations_sent();
        let received = m.next_revocation_number;
        // BOLT 2: the secret that comes with it must be ours; zeros with none.
        let Some(last) = received.checked_sub(1) else {
            return match sent {
                0 => Ok(Revocations::InStep),
                1 => Ok(Revocations::MissesLast),
                _ => Err(Rule::PeerBehind),
            };
        };
        if sent - received > 1 {
            return Err(Rule::PeerBehind);
        }
        let points = &self.core.local_points;
        let point = match self.core.local_number.to_u64().checked_sub(last) {
            Some(1) => points.previous[1],
            Some(2) => points.previous[0],
            _ => None,
        };
        if let Some(point) = point {
            let is_ours = SecretKey::from_slice(&m.your_last_per_commitment_secret)
                .is_ok_and(|secret| PublicKey::from_secret_key(ctx.secp, &secret) == point);
            if !is_ours {
                return Err(Rule::ReestablishSecret);
            }
        }
        if received == sent {
            Ok(Revocations::InStep)
        } else if self.core.closing_received || self.core.revocation_owed {
            // A peer that has signed the commitment whose predecessor we have yet to revoke has had all
            // our revocations.
            // BOLT 2: after closing_signed our last revocation must have arrived.
            Err(Rule::ReestablishRevocationNumber)
        } else {
            Ok(Revocations::MissesLast)
        }
    }

    /// What the peer misses, in the order in which it was said first.
    fn retransmit(
        &mut self,
        resend_commitment: bool,
        revocations: &Revocations,
        out: &mut Vec<ChannelOutput>,
    ) {
        let resend_revocation = matches!(revocations, Revocations::MissesLast);
        let revocation_first = self.core.last_sent == LastSent::CommitmentSigned;
        if resend_revocation && revocation_first {
            self.repeat_revoke_and_ack(out);
        }
        if resend_commitment {
            self.repeat_updates(out);
            self.repeat_commitment_signed(out);
        }
        if resend_revocation && !revocation_first {
            self.repeat_revoke_and_ack(out);
        }
        // One that could not be said before for want of a point.
        self.revoke(out);
        self.ask_points(out);
    }
}
