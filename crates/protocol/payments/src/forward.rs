//! Incoming HTLCs: what their onion asks for, and whether we forward them (BOLT 4, BOLT 7).
//!
//! Pure decisions. The node looks up the outgoing channel and carries a forward out; the outgoing
//! HTLC's [`HtlcLink`](crate::HtlcLink) leads back to the incoming one.

use alloc::vec::Vec;

use bitcoin::secp256k1::{Secp256k1, Verification};
use fulmen_onion::{
    FailureMessage, FailureResponse, ForwardPayload, IncomingHtlc, PaymentPacket, Peeled,
    ReceivePayload, ReturnPacket, SharedSecret, peel_payment, sphinx,
};
use fulmen_types::{BlockHeight, CltvExpiry, Msat, PaymentHash, PaymentPreimage, Timestamp};

use crate::Resolution;

/// The farthest that an HTLC may expire from now (BOLT 4, `max_htlc_cltv`).
pub const MAX_HTLC_CLTV: u32 = 2_016;
/// The least `cltv_expiry_delta` for forwarding: 3R + 2G + 2S (BOLT 2).
pub const MIN_CLTV_EXPIRY_DELTA: u16 = 34;
/// An outgoing HTLC must have at least this many blocks: it is closed on chain 2 after its expiry.
const MIN_OUTGOING_BLOCKS: u32 = 3;
/// How long earlier parameters are honoured (BOLT 7: at least 10 minutes).
pub const OLD_POLICY_MILLIS: u64 = 10 * 60 * 1_000;

/// An HTLC that a peer has irrevocably committed to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedHtlc {
    /// What it is worth.
    pub amount: Msat,
    /// Whose preimage settles it.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// The onion.
    pub onion: PaymentPacket,
}

/// What an incoming HTLC's onion asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Forward it: see [`check_forward`].
    Forward {
        /// What to forward, and where.
        payload: ForwardPayload,
        /// The onion for the next node.
        next_packet: PaymentPacket,
    },
    /// It is for us: see [`Invoices`](crate::Invoices).
    Receive(ReceivePayload),
    /// The onion is bad: resolve the HTLC so.
    Resolve(Resolution),
}

/// Reads an incoming HTLC's onion. `shared_secret` is the signer's answer for
/// [`fulmen_onion::payment_ecdh_point`].
pub fn read_onion<C: Verification>(
    secp: &Secp256k1<C>,
    htlc: &OfferedHtlc,
    shared_secret: &SharedSecret,
) -> Asked {
    match peel_payment(
        secp,
        &htlc.onion,
        shared_secret,
        &IncomingHtlc::new(&htlc.payment_hash),
    ) {
        Ok(Peeled::Forward {
            payload,
            next_packet,
        }) => Asked::Forward {
            payload,
            next_packet,
        },
        Ok(Peeled::Receive(payload)) => Asked::Receive(payload),
        // We announce no support for blinded paths, and don't ask for trampolines. BOLT 4, failure messages: whatever goes wrong in a
        // blinded path is `invalid_onion_blinding`.
        Ok(Peeled::BlindedForward { .. } | Peeled::BlindedReceive(_) | Peeled::Trampoline(_)) => {
            Asked::Resolve(fail(
                shared_secret,
                &FailureMessage::InvalidOnionBlinding {
                    sha256_of_onion: sphinx::sha256_of_onion(&htlc.onion),
                },
            ))
        }
        Err(error) => Asked::Resolve(respond(shared_secret, error.response())),
    }
}

/// The resolution of an onion whose key could not even be read, so that there is no shared secret.
pub fn refuse_unreadable(error: &fulmen_onion::PeelError, onion: &PaymentPacket) -> Resolution {
    match error.response() {
        FailureResponse::Malformed {
            failure_code,
            sha256_of_onion,
        } => Resolution::FailMalformed {
            failure_code,
            sha256_of_onion,
        },
        FailureResponse::Fail(message) => Resolution::FailMalformed {
            failure_code: message.code(),
            sha256_of_onion: sphinx::sha256_of_onion(onion),
        },
    }
}

/// Fails an incoming HTLC with a message of ours.
pub fn fail(shared_secret: &SharedSecret, message: &FailureMessage) -> Resolution {
    Resolution::Fail(ReturnPacket::build(shared_secret, message, None))
}

/// What we ask for forwarding over a channel: the content of our `channel_update` for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardPolicy {
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: u32,
    /// What is taken off the expiry.
    pub cltv_expiry_delta: u16,
    /// The least HTLC.
    pub htlc_minimum: Msat,
    /// The greatest HTLC.
    pub htlc_maximum: Msat,
}

impl ForwardPolicy {
    /// The fee for forwarding `amount` (BOLT 7, HTLC Fees), or `None` when it overflows.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        amount
            .checked_ppm_floor(u64::from(self.fee_proportional_millionths))?
            .checked_add(Msat::new(u64::from(self.fee_base_msat)))
    }
}

/// A channel's policy, and the one before it for as long as payers may not have heard of the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyHistory {
    current: ForwardPolicy,
    previous: Option<(ForwardPolicy, Timestamp)>,
}

impl PolicyHistory {
    /// A policy that was always so.
    pub const fn new(policy: ForwardPolicy) -> Self {
        Self {
            current: policy,
            previous: None,
        }
    }

    /// The policy now.
    pub const fn current(&self) -> &ForwardPolicy {
        &self.current
    }

    /// Replaces the policy; the old one is honoured for [`OLD_POLICY_MILLIS`] more.
    pub fn set(&mut self, policy: ForwardPolicy, now: Timestamp) {
        if policy != self.current {
            self.previous = Some((self.current, now.plus_millis(OLD_POLICY_MILLIS)));
            self.current = policy;
        }
    }

    fn previous(&self, now: Timestamp) -> Option<&ForwardPolicy> {
        self.previous
            .as_ref()
            .and_then(|(policy, until)| (*until > now).then_some(policy))
    }
}

/// The channel that an onion names.
#[derive(Clone, Debug)]
pub struct OutgoingChannel<'a> {
    /// What we ask for.
    pub policy: &'a PolicyHistory,
    /// Whether its peer is connected and HTLCs can be added now.
    pub usable: bool,
    /// Whether we announced it as disabled.
    pub disabled: bool,
    /// Our latest `channel_update`, as a message with its type, for the failure. May be empty: payers
    /// are not to rely on it any more (BOLT 4).
    pub channel_update: &'a [u8],
}

/// Whether to forward an HTLC: `next` is the channel that the payload names, if there is one.
///
/// # Errors
/// The message to fail the incoming HTLC with.
pub fn check_forward(
    htlc: &OfferedHtlc,
    payload: &ForwardPayload,
    next: Option<&OutgoingChannel<'_>>,
    now: Timestamp,
    tip: BlockHeight,
) -> Result<(), FailureMessage> {
    let next = next.ok_or(FailureMessage::UnknownNextPeer)?;
    let update = || next.channel_update.to_vec();
    // BOLT 4, Failure Messages, forwarding node: these two don't depend on the policy.
    if payload.outgoing_cltv_value.blocks_from(tip) > MAX_HTLC_CLTV
        || htlc.cltv_expiry.blocks_from(tip) > MAX_HTLC_CLTV
    {
        return Err(FailureMessage::ExpiryTooFar);
    }
    let verdict = check_policy(htlc, payload, next.policy.current(), update);
    if let Err(failure) = verdict {
        // BOLT 7, channel_update: earlier parameters are honoured for some time.
        let honoured = next
            .policy
            .previous(now)
            .is_some_and(|old| check_policy(htlc, payload, old, Vec::new).is_ok());
        if !honoured {
            return Err(failure);
        }
    }
    if payload.outgoing_cltv_value.blocks_from(tip) < MIN_OUTGOING_BLOCKS {
        return Err(FailureMessage::ExpiryTooSoon {
            channel_update: update(),
        });
    }
    if !next.usable {
        return Err(if next.disabled {
            FailureMessage::ChannelDisabled {
                disabled_flags: 0,
                channel_update: update(),
            }
        } else {
            temporary_channel_failure(update())
        });
    }
    Ok(())
}

/// The failure of a forward that the outgoing channel did not take.
pub const fn temporary_channel_failure(channel_update: Vec<u8>) -> FailureMessage {
    FailureMessage::TemporaryChannelFailure { channel_update }
}

fn check_policy(
    htlc: &OfferedHtlc,
    payload: &ForwardPayload,
    policy: &ForwardPolicy,
    update: impl Fn() -> Vec<u8>,
) -> Result<(), FailureMessage> {
    let amount = payload.amt_to_forward;
    if amount < policy.htlc_minimum || amount == Msat::ZERO {
        return Err(FailureMessage::AmountBelowMinimum {
            htlc_msat: amount,
            channel_update: update(),
        });
    }
    if amount > policy.htlc_maximum {
        return Err(temporary_channel_failure(update()));
    }
    // BOLT 4, payload: incoming amount_msat - fee >= amt_to_forward. Compared as a sum, so that
    // nothing can underflow.
    let needed = policy.fee(amount).and_then(|fee| amount.checked_add(fee));
    if needed.is_none_or(|needed| htlc.amount < needed) {
        return Err(FailureMessage::FeeInsufficient {
            htlc_msat: htlc.amount,
            channel_update: update(),
        });
    }
    let delta = u32::from(policy.cltv_expiry_delta);
    let expiry = payload.outgoing_cltv_value.to_u32();
    if expiry
        .checked_add(delta)
        .is_none_or(|needed| htlc.cltv_expiry.to_u32() < needed)
    {
        return Err(FailureMessage::IncorrectCltvExpiry {
            cltv_expiry: payload.outgoing_cltv_value,
            channel_update: update(),
        });
    }
    Ok(())
}

/// How an HTLC that we offered ended without its preimage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutgoingFailure {
    /// The peer sent `update_fail_htlc`.
    Packet(ReturnPacket),
    /// The peer sent `update_fail_malformed_htlc`.
    Malformed {
        /// With the BADONION bit.
        failure_code: u16,
        /// Of the onion that the peer got.
        sha256_of_onion: [u8; 32],
    },
    /// It was never committed: the connection broke, or the channel did not take it.
    NotSent,
    /// The channel was closed on chain and the HTLC timed out or was not there.
    OnChain,
}

/// Passes a downstream failure upstream: the resolution of the incoming HTLC.
pub fn fail_upstream(
    shared_secret: &SharedSecret,
    failure: OutgoingFailure,
    channel_update: &[u8],
) -> Resolution {
    match failure {
        OutgoingFailure::Packet(mut packet) => {
            packet.wrap(shared_secret, None);
            Resolution::Fail(packet)
        }
        // BOLT 2, update_fail_malformed_htlc: the node that relays it makes an error of its own of it.
        OutgoingFailure::Malformed {
            failure_code,
            sha256_of_onion,
        } => fail(
            shared_secret,
            &FailureMessage::from_malformed(failure_code, sha256_of_onion),
        ),
        OutgoingFailure::NotSent => fail(
            shared_secret,
            &temporary_channel_failure(channel_update.to_vec()),
        ),
        OutgoingFailure::OnChain => fail(shared_secret, &FailureMessage::PermanentChannelFailure),
    }
}

/// Passes a downstream preimage upstream.
pub const fn fulfil_upstream(preimage: PaymentPreimage) -> Resolution {
    Resolution::Fulfil(preimage)
}

fn respond(shared_secret: &SharedSecret, response: FailureResponse) -> Resolution {
    match response {
        FailureResponse::Malformed {
            failure_code,
            sha256_of_onion,
        } => Resolution::FailMalformed {
            failure_code,
            sha256_of_onion,
        },
        FailureResponse::Fail(message) => fail(shared_secret, &message),
    }
}
