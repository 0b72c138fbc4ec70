//! Trampoline routing, a draft: an onion inside the onion of a payment, whose hops find the way to each
//! other themselves.
//!
//! The payload of a payment onion's last hop, a [`TrampolineEntryPayload`](crate::TrampolineEntryPayload),
//! carries a trampoline onion. The trampoline node peels it with [`peel`], finds a route to the next
//! trampoline node or over the recipient's blinded paths, and puts the peeled onion into the payload of
//! that route's last hop. A failure comes back through both onions: [`ReturnPacket::build`] with the secret
//! of the trampoline onion, then [`ReturnPacket::wrap`] with that of the payment's; the origin decrypts with
//! the secrets of its payment onion followed by those of its trampoline onion.
//!
//! [`ReturnPacket::build`]: crate::ReturnPacket::build
//! [`ReturnPacket::wrap`]: crate::ReturnPacket::wrap

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, Signing, Verification};
use fulmen_types::{
    CltvExpiry, Features, Msat, PaymentHash,
    codec::{Encode, TlvWriter},
};

use crate::{
    FailureMessage, PaymentPath,
    keys::SharedSecret,
    payload::{
        BlindedForwardPayload, BlindedReceivePayload, HopPayload, OUTGOING_NODE_ID, OnionKind,
        PayloadError, Place, RECIPIENT_BLINDED_PATHS, RECIPIENT_FEATURES, RawPayload,
        ReceivePayload, missing, put_amounts,
    },
    sphinx::{self, BuildError, Hop, Layer, PacketError},
};

/// The payload of one trampoline node, by its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrampolinePayload {
    /// For a trampoline node that finds the way to the next one.
    Forward(TrampolineForward),
    /// For the last trampoline node, when the recipient is none.
    ToBlindedPaths(TrampolineToPaths),
    /// For the recipient.
    Receive(ReceivePayload),
    /// For a trampoline node inside a blinded path.
    BlindedForward(BlindedForwardPayload),
    /// For the recipient at the end of a blinded path.
    BlindedReceive(BlindedReceivePayload),
}

/// What a trampoline node is told that forwards to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrampolineForward {
    /// The next trampoline node.
    pub outgoing_node_id: PublicKey,
    /// What is to reach it.
    pub amt_to_forward: Msat,
    /// The expiry with which it is to reach it.
    pub outgoing_cltv_value: CltvExpiry,
}

/// What the last trampoline node is told that pays over a recipient's blinded paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrampolineToPaths {
    /// What is to reach the recipient.
    pub amt_to_forward: Msat,
    /// The expiry with which it is to reach the recipient.
    pub outgoing_cltv_value: CltvExpiry,
    /// The invoice's features.
    pub recipient_features: Option<Features>,
    /// The invoice's paths, or some of them.
    pub recipient_blinded_paths: Vec<PaymentPath>,
}

impl TrampolinePayload {
    /// The TLV stream, without length prefix.
    pub fn encode(&self) -> Result<Vec<u8>, BuildError> {
        let mut out = Vec::new();
        let mut tlv = TlvWriter::new(&mut out);
        match self {
            Self::Forward(p) => {
                put_amounts(&mut tlv, p.amt_to_forward, p.outgoing_cltv_value);
                tlv.put(OUTGOING_NODE_ID, &p.outgoing_node_id);
            }
            Self::ToBlindedPaths(p) => {
                put_amounts(&mut tlv, p.amt_to_forward, p.outgoing_cltv_value);
                if let Some(features) = &p.recipient_features {
                    tlv.put(RECIPIENT_FEATURES, &features.to_be_bytes());
                }
                tlv.put_with(RECIPIENT_BLINDED_PATHS, |out| {
                    for path in &p.recipient_blinded_paths {
                        path.path.encode(out);
                        path.payinfo.encode(out);
                    }
                });
            }
            Self::Receive(p) => return HopPayload::Receive(p.clone()).encode(),
            Self::BlindedForward(p) => return HopPayload::BlindedForward(p.clone()).encode(),
            Self::BlindedReceive(p) => return HopPayload::BlindedReceive(p.clone()).encode(),
        }
        Ok(out)
    }

    /// Whether this is a payload for the end of a trampoline onion.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::ToBlindedPaths(_) | Self::Receive(_) | Self::BlindedReceive(_) => true,
            Self::Forward(_) | Self::BlindedForward(_) => false,
        }
    }
}

/// A trampoline onion.
#[derive(Clone, Debug)]
pub struct BuiltTrampoline {
    /// For the payload of the payment onion's last hop.
    pub packet: Vec<u8>,
    /// One secret for each trampoline hop: they read failures, after those of the payment onion.
    pub shared_secrets: Vec<SharedSecret>,
}

/// Builds a trampoline onion. `session_key` must be fresh, and another than that of the payment's onion.
/// The payloads take at least `payloads_len_min` bytes: more than they need hides how many hops there are.
pub fn build<C: Signing>(
    secp: &Secp256k1<C>,
    session_key: &SecretKey,
    hops: &[(PublicKey, TrampolinePayload)],
    payment_hash: &PaymentHash,
    payloads_len_min: usize,
) -> Result<BuiltTrampoline, BuildError> {
    let mut encoded = Vec::with_capacity(hops.len());
    for (i, (node_id, payload)) in hops.iter().enumerate() {
        if payload.is_final() != (i + 1 == hops.len()) {
            return Err(BuildError::PayloadPosition { hop: i });
        }
        encoded.push(Hop {
            node_id: *node_id,
            payload: payload.encode()?,
        });
    }
    let needed: usize = encoded
        .iter()
        .map(|hop| sphinx::shift_size(&hop.payload))
        .sum();
    let (packet, shared_secrets) = sphinx::build(
        secp,
        session_key,
        &encoded,
        payment_hash.as_bytes(),
        needed.max(payloads_len_min),
    )?;
    Ok(BuiltTrampoline {
        packet,
        shared_secrets,
    })
}

/// What a trampoline onion says to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeeledTrampoline {
    /// Find a route to the next trampoline node.
    Forward {
        /// What is to reach it.
        payload: TrampolineForward,
        /// For the payload of that route's last hop.
        next_packet: Vec<u8>,
    },
    /// The same inside a blinded path; see [`crate::blinding`].
    BlindedForward {
        /// The recipient's data.
        payload: BlindedForwardPayload,
        /// For the payload of that route's last hop.
        next_packet: Vec<u8>,
    },
    /// Pay over the recipient's blinded paths.
    ToBlindedPaths(TrampolineToPaths),
    /// This node is paid. The HTLC's onion must promise at least as much, and as late an expiry.
    Receive(ReceivePayload),
    /// This node is paid through a blinded path of its own.
    BlindedReceive(BlindedReceivePayload),
}

/// Why a trampoline onion is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrampolineError {
    /// The packet can't be read.
    Packet {
        /// What is wrong.
        reason: PacketError,
        /// The hash of the packet.
        sha256_of_onion: [u8; 32],
    },
    /// Anything wrong with a packet inside a blinded path, behind its first node.
    InBlindedPath {
        /// The hash of the packet.
        sha256_of_onion: [u8; 32],
    },
    /// The payload breaks a rule.
    Payload {
        /// Which, and where in the TLV stream.
        error: PayloadError,
        /// Where the record starts in the decrypted bytes, counting the length prefix.
        offset: u16,
    },
}

impl TrampolineError {
    /// What to answer, by `update_fail_htlc` whatever the code.
    pub const fn response(&self) -> FailureMessage {
        match *self {
            Self::Packet {
                reason,
                sha256_of_onion,
            } => match reason {
                PacketError::Version(_) => FailureMessage::InvalidOnionVersion { sha256_of_onion },
                PacketError::Key => FailureMessage::InvalidOnionKey { sha256_of_onion },
                PacketError::Hmac | PacketError::TooShort => {
                    FailureMessage::InvalidOnionHmac { sha256_of_onion }
                }
                PacketError::PayloadLength => FailureMessage::InvalidOnionPayload {
                    tlv_type: 0,
                    offset: 0,
                },
            },
            Self::InBlindedPath { sha256_of_onion } => {
                FailureMessage::InvalidOnionBlinding { sha256_of_onion }
            }
            Self::Payload { error, offset } => FailureMessage::InvalidOnionPayload {
                tlv_type: error.kind,
                offset,
            },
        }
    }
}

impl fmt::Display for TrampolineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet { reason, .. } => write!(f, "trampoline onion: {reason}"),
            Self::InBlindedPath { .. } => {
                f.write_str("the trampoline onion is invalid in a blinded path")
            }
            Self::Payload { error, .. } => write!(f, "trampoline onion: {error}"),
        }
    }
}

impl core::error::Error for TrampolineError {}

/// The onion around a trampoline's.
#[derive(Clone, Copy, Debug)]
pub struct AroundTrampoline<'a> {
    /// The HTLC's hash, which both onions are bound to.
    pub payment_hash: &'a PaymentHash,
    /// `current_path_key` of the payload that carried the trampoline onion.
    pub path_key: Option<&'a PublicKey>,
    /// Even application TLV types that the receiver understands; others fail the payment.
    pub even_custom_tlvs: &'a [u64],
}

/// Takes one layer off a trampoline onion, with the secret that [`sphinx::ecdh_point`] of the packet and
/// this node's key share.
pub fn peel<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    shared_secret: &SharedSecret,
    around: &AroundTrampoline<'_>,
) -> Result<PeeledTrampoline, TrampolineError> {
    let layer = sphinx::peel(secp, packet, shared_secret, around.payment_hash.as_bytes())
        .map_err(|reason| refuse(packet, around, reason))?;
    read_layer(packet, around, layer)
}

fn refuse(packet: &[u8], around: &AroundTrampoline<'_>, reason: PacketError) -> TrampolineError {
    let sha256_of_onion = sphinx::sha256_of_onion(packet);
    match around.path_key {
        Some(_) => TrampolineError::InBlindedPath { sha256_of_onion },
        None => TrampolineError::Packet {
            reason,
            sha256_of_onion,
        },
    }
}

fn read_layer(
    packet: &[u8],
    around: &AroundTrampoline<'_>,
    layer: Layer,
) -> Result<PeeledTrampoline, TrampolineError> {
    let in_path = around.path_key.is_some();
    let place = Place {
        is_final: layer.next.is_none(),
        has_path_key: in_path,
        onion: OnionKind::Trampoline,
        even_custom_tlvs: around.even_custom_tlvs,
    };
    read_payload(&layer.payload, layer.next, place).map_err(|error| {
        if in_path {
            return TrampolineError::InBlindedPath {
                sha256_of_onion: sphinx::sha256_of_onion(packet),
            };
        }
        TrampolineError::Payload {
            error,
            offset: error.offset_behind(layer.prefix_len),
        }
    })
}

/// [`peel`] for those who hold the node's key: tests, tools, a signer of its own.
pub fn peel_with_key<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    node_key: &SecretKey,
    around: &AroundTrampoline<'_>,
) -> Result<(PeeledTrampoline, SharedSecret), TrampolineError> {
    let blinding = around
        .path_key
        .map(|path_key| SharedSecret::ecdh(path_key, node_key));
    let (layer, shared_secret) = sphinx::peel_with_key(
        secp,
        packet,
        node_key,
        blinding.as_ref(),
        around.payment_hash.as_bytes(),
    )
    .map_err(|reason| refuse(packet, around, reason))?;
    Ok((read_layer(packet, around, layer)?, shared_secret))
}

fn read_payload(
    bytes: &[u8],
    next_packet: Option<Vec<u8>>,
    place: Place<'_>,
) -> Result<PeeledTrampoline, PayloadError> {
    let mut raw = RawPayload::default();
    raw.read(bytes, place)
        .and_then(|()| judge(&mut raw, next_packet, place))
        .map_err(|e| raw.located(e, place))
}

/// Trampoline Payments, the requirements of a receiving node.
fn judge(
    raw: &mut RawPayload,
    next_packet: Option<Vec<u8>>,
    place: Place<'_>,
) -> Result<PeeledTrampoline, PayloadError> {
    if let Some(data) = raw.encrypted_recipient_data.take() {
        return Ok(match (raw.judge_blinded(place, data)?, next_packet) {
            (HopPayload::BlindedForward(payload), Some(next_packet)) => {
                PeeledTrampoline::BlindedForward {
                    payload,
                    next_packet,
                }
            }
            (HopPayload::BlindedReceive(payload), None) => {
                PeeledTrampoline::BlindedReceive(payload)
            }
            _ => return Err(missing(0, "a payload that suits the place in the onion")),
        });
    }
    raw.check_no_path_key(place)?;
    let Some(next_packet) = next_packet else {
        raw.forbid(&[OUTGOING_NODE_ID])?;
        let Some(recipient_blinded_paths) = raw.recipient_blinded_paths.take() else {
            return raw.judge_receive().map(PeeledTrampoline::Receive);
        };
        if recipient_blinded_paths.is_empty() {
            return Err(missing(RECIPIENT_BLINDED_PATHS, "recipient_blinded_paths"));
        }
        raw.forbid_receive_fields()?;
        let (amt_to_forward, outgoing_cltv_value) = raw.amounts()?;
        return Ok(PeeledTrampoline::ToBlindedPaths(TrampolineToPaths {
            amt_to_forward,
            outgoing_cltv_value,
            recipient_features: raw.recipient_features.take(),
            recipient_blinded_paths,
        }));
    };
    raw.forbid_receive_fields()?;
    raw.forbid(&[RECIPIENT_BLINDED_PATHS])?;
    let (amt_to_forward, outgoing_cltv_value) = raw.amounts()?;
    Ok(PeeledTrampoline::Forward {
        payload: TrampolineForward {
            outgoing_node_id: raw
                .outgoing_node_id
                .ok_or_else(|| missing(OUTGOING_NODE_ID, "outgoing_node_id"))?,
            amt_to_forward,
            outgoing_cltv_value,
        },
        next_packet,
    })
}
