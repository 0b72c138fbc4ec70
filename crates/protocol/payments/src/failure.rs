//! What a failed attempt says about the path, and whether to try another.

use alloc::{format, string::String};

use bitcoin::secp256k1::{Secp256k1, Signing};
use fulmen_gossip::Direction;
use fulmen_onion::{FailureMessage, FailureSource, NODE, PERM, ReturnPacket, sphinx};
use fulmen_router::{AvoidList, RouteOutcome};
use fulmen_types::{Msat, NodeId, Timestamp};

use crate::{OutgoingFailure, RouteReport, entry::FOREVER, payment::Attempt};

/// How long a temporary failure is remembered at first; it doubles with each attempt.
const BACKOFF_MILLIS: u64 = 1_000;
const BACKOFF_MAX_MILLIS: u64 = 16_000;

/// What to do after a failure. The text is for people.
pub(crate) enum Verdict {
    /// Try another path at once.
    Retry(String),
    /// The same path may do later.
    RetryLater(String),
    /// No path will do.
    Final(String),
}

/// How long to remember a temporary failure of an attempt.
pub(crate) fn backoff(attempt: u32) -> u64 {
    BACKOFF_MILLIS
        .saturating_mul(1 << attempt.saturating_sub(1).min(10))
        .min(BACKOFF_MAX_MILLIS)
}

/// Reads a failure and remembers what to avoid. Where it tells which channels could carry the HTLC and
/// which could not, there is a report of it.
pub(crate) fn judge<C: Signing>(
    secp: &Secp256k1<C>,
    payer: &NodeId,
    attempt: &Attempt,
    failure: OutgoingFailure,
    avoid: &mut AvoidList,
    now: Timestamp,
) -> (Verdict, Option<RouteReport>) {
    let mut path = Path {
        payer,
        attempt,
        avoid,
        temporary: now.plus_millis(backoff(attempt.number)),
        seen: None,
    };
    let verdict = match failure {
        OutgoingFailure::Packet(packet) => path.packet(secp, packet),
        OutgoingFailure::Malformed { failure_code, .. } => {
            path.avoid_node(0, FOREVER);
            Verdict::Retry(format!(
                "our peer could not read the onion (code {failure_code:#06x})"
            ))
        }
        OutgoingFailure::NotSent => {
            Verdict::RetryLater(String::from("the connection to our peer was lost"))
        }
        OutgoingFailure::OnChain => {
            path.avoid_channel(0, Msat::ZERO, FOREVER);
            Verdict::Retry(String::from(
                "the channel was closed before the payment went on",
            ))
        }
    };
    let report = path.seen.map(|(hops, outcome)| RouteReport {
        payer: *payer,
        hops: attempt.hops.iter().take(hops).copied().collect(),
        outcome,
        at: now,
    });
    (verdict, report)
}

struct Path<'a> {
    payer: &'a NodeId,
    attempt: &'a Attempt,
    avoid: &'a mut AvoidList,
    temporary: Timestamp,
    /// Of how many hops the failure says something, and what.
    seen: Option<(usize, RouteOutcome)>,
}

impl Path<'_> {
    fn packet<C: Signing>(&mut self, secp: &Secp256k1<C>, packet: ReturnPacket) -> Verdict {
        let keys: Result<alloc::vec::Vec<_>, _> = self
            .attempt
            .hops
            .iter()
            .map(|hop| hop.node_id.to_public_key())
            .collect();
        let secrets = keys.ok().and_then(|keys| {
            sphinx::shared_secrets(secp, &self.attempt.session_key, keys.iter()).ok()
        });
        let Some(secrets) = secrets else {
            return self.unattributed();
        };
        let source = packet.decrypt(&secrets).source;
        // Who fails an HTLC has it: all channels up to there have carried it.
        if let FailureSource::Hop { hop, .. } | FailureSource::Unparsable { hop } = &source {
            self.seen = Some((hop + 1, RouteOutcome::Reached));
        }
        match source {
            FailureSource::Hop { hop, message, .. } if hop + 1 == self.attempt.hops.len() => {
                self.payee_said(hop, &message)
            }
            FailureSource::Hop { hop, message, .. } => self.forwarder_said(hop, &message),
            FailureSource::Unparsable { hop } if hop + 1 == self.attempt.hops.len() => {
                Verdict::Final(String::from("the payee refused it and did not say why"))
            }
            FailureSource::Unparsable { hop } => {
                self.avoid_node(hop, FOREVER);
                Verdict::Retry(format!("hop {} failed without a reason", hop + 1))
            }
            FailureSource::Unknown => self.unattributed(),
        }
    }

    fn payee_said(&mut self, hop: usize, message: &FailureMessage) -> Verdict {
        let code = message.code();
        match message {
            // BOLT 4: it may only have seen blocks that we had not, so that the expiry came too soon.
            FailureMessage::IncorrectOrUnknownPaymentDetails { height, .. }
                if *height > self.attempt.height =>
            {
                Verdict::RetryLater(format!(
                    "the payee is at block {height} and the payment was made for {}",
                    self.attempt.height
                ))
            }
            FailureMessage::IncorrectOrUnknownPaymentDetails { .. } => {
                Verdict::Final(String::from(
                    "the payee refused it: unknown, expired or paid already, or the amount is not what \
                 it asked for (incorrect_or_unknown_payment_details)",
                ))
            }
            // BOLT 4: the hop before did not forward what it was told.
            FailureMessage::FinalIncorrectCltvExpiry { .. }
            | FailureMessage::FinalIncorrectHtlcAmount { .. } => match hop.checked_sub(1) {
                Some(before) => {
                    self.avoid_node(before, FOREVER);
                    Verdict::Retry(format!(
                        "the node before the payee changed it ({code:#06x})"
                    ))
                }
                None => Verdict::Final(format!("the payee refused amount or expiry ({code:#06x})")),
            },
            _ if code & PERM != 0 => {
                Verdict::Final(format!("the payee refused it (code {code:#06x})"))
            }
            _ => Verdict::RetryLater(format!("the payee can't take it now (code {code:#06x})")),
        }
    }

    fn forwarder_said(&mut self, hop: usize, message: &FailureMessage) -> Verdict {
        let code = message.code();
        let detail = format!("hop {} failed it ({})", hop + 1, name(message));
        // Some nodes say unknown_next_peer of a peer that is away for a moment.
        let until = if code & PERM != 0 && *message != FailureMessage::UnknownNextPeer {
            FOREVER
        } else {
            self.temporary
        };
        if code & NODE != 0 {
            self.avoid_node(hop, until);
            return Verdict::Retry(detail);
        }
        let next = hop + 1;
        match message {
            FailureMessage::TemporaryChannelFailure { .. } => {
                let amount = self
                    .attempt
                    .hops
                    .get(next)
                    .map_or(Msat::ZERO, |hop| hop.amount);
                self.seen = Some((next + 1, RouteOutcome::RefusedAt(next)));
                self.avoid_channel(next, amount, until);
            }
            // The announced terms were not good enough: they are out of date here.
            FailureMessage::AmountBelowMinimum { .. }
            | FailureMessage::FeeInsufficient { .. }
            | FailureMessage::IncorrectCltvExpiry { .. }
            | FailureMessage::ExpiryTooSoon { .. }
            | FailureMessage::ExpiryTooFar => self.avoid_channel(next, Msat::ZERO, FOREVER),
            // What only a final node may say comes from a node that does not follow the rules.
            FailureMessage::IncorrectOrUnknownPaymentDetails { .. }
            | FailureMessage::FinalIncorrectCltvExpiry { .. }
            | FailureMessage::FinalIncorrectHtlcAmount { .. }
            | FailureMessage::MppTimeout => self.avoid_node(hop, FOREVER),
            _ => self.avoid_channel(next, Msat::ZERO, until),
        }
        Verdict::Retry(detail)
    }

    /// Somebody garbled the failure: nobody can be named, so another path altogether is best.
    fn unattributed(&mut self) -> Verdict {
        let until = self.temporary;
        for index in 1..self.attempt.hops.len() {
            self.avoid_channel(index, Msat::ZERO, until);
        }
        let detail = String::from("somebody on the path garbled the failure");
        if self.attempt.hops.len() > 1 {
            Verdict::Retry(detail)
        } else {
            Verdict::RetryLater(detail)
        }
    }

    fn avoid_node(&mut self, hop: usize, until: Timestamp) {
        if let Some(hop) = self.attempt.hops.get(hop) {
            self.avoid.avoid_node(hop.node_id, until);
        }
    }

    /// Avoids the channel that leads to a hop.
    fn avoid_channel(&mut self, hop: usize, from_amount: Msat, until: Timestamp) {
        let hops = &self.attempt.hops;
        let Some(to) = hops.get(hop) else { return };
        let from = match hop.checked_sub(1) {
            Some(before) => &hops[before].node_id,
            None => self.payer,
        };
        let direction = Direction::between(from, &to.node_id);
        self.avoid
            .avoid_channel((to.short_channel_id, direction), from_amount, until);
    }
}

/// The specification's name, or the code.
fn name(message: &FailureMessage) -> String {
    use FailureMessage as F;
    String::from(match message {
        F::TemporaryNodeFailure => "temporary_node_failure",
        F::PermanentNodeFailure => "permanent_node_failure",
        F::TemporaryChannelFailure { .. } => "temporary_channel_failure",
        F::PermanentChannelFailure => "permanent_channel_failure",
        F::UnknownNextPeer => "unknown_next_peer",
        F::AmountBelowMinimum { .. } => "amount_below_minimum",
        F::FeeInsufficient { .. } => "fee_insufficient",
        F::IncorrectCltvExpiry { .. } => "incorrect_cltv_expiry",
        F::ExpiryTooSoon { .. } => "expiry_too_soon",
        F::ExpiryTooFar => "expiry_too_far",
        F::ChannelDisabled { .. } => "channel_disabled",
        other => return format!("code {:#06x}", other.code()),
    })
}
