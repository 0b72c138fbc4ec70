//! Onions of payments: typed payloads in, typed payloads out, and the failure that a bad one asks for.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, Signing, Verification};
use fulmen_types::PaymentHash;

use crate::{
    FailureMessage,
    keys::SharedSecret,
    payload::{
        BlindedForwardPayload, BlindedReceivePayload, ForwardPayload, HopPayload, OnionKind,
        PayloadError, Place, ReceivePayload, TrampolineEntryPayload,
    },
    sphinx::{
        self, BuildError, Hop, Layer, PAYMENT_PACKET_LEN, PAYMENT_PAYLOADS_LEN, PacketError,
        sha256_of_onion,
    },
};

/// `onion_routing_packet` as `update_add_htlc` carries it.
pub type PaymentPacket = [u8; PAYMENT_PACKET_LEN];

/// What a sender gets.
#[derive(Clone, Debug)]
pub struct BuiltOnion {
    /// The packet for the first hop.
    pub packet: PaymentPacket,
    /// One secret for each hop: they read failures. [`sphinx::shared_secrets`] makes them again from the
    /// session key and the hops.
    pub shared_secrets: Vec<SharedSecret>,
}

/// Builds the onion of a payment. `session_key` must be fresh for every attempt. The payment hash is
/// the associated data, so that nobody can move the onion to another HTLC.
pub fn build_payment_onion<C: Signing>(
    secp: &Secp256k1<C>,
    session_key: &SecretKey,
    hops: &[(PublicKey, HopPayload)],
    payment_hash: &PaymentHash,
) -> Result<BuiltOnion, BuildError> {
    let hops = encode_hops(hops)?;
    let (packet, shared_secrets) = sphinx::build(
        secp,
        session_key,
        &hops,
        payment_hash.as_bytes(),
        PAYMENT_PAYLOADS_LEN,
    )?;
    let packet = packet
        .try_into()
        .expect("a packet has the length of its payloads and the overhead");
    Ok(BuiltOnion {
        packet,
        shared_secrets,
    })
}

/// Whether payloads fit a payment's onion, without building it.
pub fn check_payloads_fit<'a>(
    payloads: impl IntoIterator<Item = &'a HopPayload>,
) -> Result<(), BuildError> {
    let mut needed = 0usize;
    for payload in payloads {
        needed = needed.saturating_add(sphinx::shift_size(&payload.encode()?));
    }
    if needed > PAYMENT_PAYLOADS_LEN {
        return Err(BuildError::PayloadsTooLong {
            needed,
            available: PAYMENT_PAYLOADS_LEN,
        });
    }
    Ok(())
}

fn encode_hops(hops: &[(PublicKey, HopPayload)]) -> Result<Vec<Hop>, BuildError> {
    hops.iter()
        .enumerate()
        .map(|(i, (node_id, payload))| {
            if payload.is_final() != (i + 1 == hops.len()) {
                return Err(BuildError::PayloadPosition { hop: i });
            }
            Ok(Hop {
                node_id: *node_id,
                payload: payload.encode()?,
            })
        })
        .collect()
}

/// The HTLC that an onion came with.
#[derive(Clone, Copy, Debug)]
pub struct IncomingHtlc<'a> {
    /// The HTLC's hash, which the onion is bound to.
    pub payment_hash: &'a PaymentHash,
    /// The `path_key` of `update_add_htlc`: set inside a blinded path.
    pub path_key: Option<&'a PublicKey>,
    /// Even application TLV types that the receiver understands; others fail the payment.
    pub even_custom_tlvs: &'a [u64],
    /// Whether this node is a trampoline node: then [`Peeled::Trampoline`] may come out. To another node
    /// the field of a trampoline onion is an unknown even one.
    pub is_trampoline_node: bool,
}

impl<'a> IncomingHtlc<'a> {
    /// An HTLC without `path_key`, to a receiver without application TLVs that is no trampoline node.
    pub const fn new(payment_hash: &'a PaymentHash) -> Self {
        Self {
            payment_hash,
            path_key: None,
            even_custom_tlvs: &[],
            is_trampoline_node: false,
        }
    }
}

/// What an onion says to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peeled {
    /// Forward over a channel.
    Forward {
        /// What to forward, and where.
        payload: ForwardPayload,
        /// The onion for the next node.
        next_packet: PaymentPacket,
    },
    /// Forward inside a blinded path; see [`crate::blinding`].
    BlindedForward {
        /// The recipient's data.
        payload: BlindedForwardPayload,
        /// The onion for the next node.
        next_packet: PaymentPacket,
    },
    /// This node is paid.
    Receive(ReceivePayload),
    /// This node is paid through a blinded path of its own.
    BlindedReceive(BlindedReceivePayload),
    /// This node is to go on as a trampoline; see [`crate::trampoline`].
    Trampoline(TrampolineEntryPayload),
}

/// Why an onion is refused, and with [`PeelError::response`] what to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeelError {
    /// The packet can't be read: the failure goes back as `update_fail_malformed_htlc`.
    Malformed {
        /// What is wrong.
        reason: PacketError,
        /// The hash of the packet that came.
        sha256_of_onion: [u8; 32],
    },
    /// Anything wrong with an HTLC that came with a `path_key`: it says no more than
    /// `invalid_onion_blinding`, as `update_fail_malformed_htlc`.
    InBlindedPath {
        /// The hash of the packet that came.
        sha256_of_onion: [u8; 32],
    },
    /// Anything wrong with the payload of an introduction node: `invalid_onion_blinding`, as
    /// `update_fail_htlc`, after a random delay.
    AtIntroduction {
        /// The hash of the packet that came.
        sha256_of_onion: [u8; 32],
    },
    /// The decrypted length can't be: `invalid_onion_payload`.
    PayloadLength,
    /// The payload breaks a rule: `invalid_onion_payload`.
    Payload {
        /// Which, and where in the TLV stream.
        error: PayloadError,
        /// Where the record starts in the decrypted bytes, counting the length prefix.
        offset: u16,
    },
}

/// How an HTLC is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureResponse {
    /// By `update_fail_malformed_htlc`.
    Malformed {
        /// A code with the BADONION bit.
        failure_code: u16,
        /// The hash of the packet that came.
        sha256_of_onion: [u8; 32],
    },
    /// By `update_fail_htlc`, with this message in a return packet.
    Fail(FailureMessage),
}

impl PeelError {
    /// What to answer (BOLT 4, "Failure Messages").
    pub fn response(&self) -> FailureResponse {
        let message = match *self {
            Self::Malformed {
                reason,
                sha256_of_onion,
            } => match reason {
                PacketError::Version(_) => FailureMessage::InvalidOnionVersion { sha256_of_onion },
                PacketError::Key => FailureMessage::InvalidOnionKey { sha256_of_onion },
                PacketError::Hmac | PacketError::TooShort | PacketError::PayloadLength => {
                    FailureMessage::InvalidOnionHmac { sha256_of_onion }
                }
            },
            Self::InBlindedPath { sha256_of_onion } => {
                FailureMessage::InvalidOnionBlinding { sha256_of_onion }
            }
            Self::AtIntroduction { sha256_of_onion } => {
                return FailureResponse::Fail(FailureMessage::InvalidOnionBlinding {
                    sha256_of_onion,
                });
            }
            Self::PayloadLength => {
                return FailureResponse::Fail(FailureMessage::InvalidOnionPayload {
                    tlv_type: 0,
                    offset: 0,
                });
            }
            Self::Payload { error, offset } => {
                return FailureResponse::Fail(FailureMessage::InvalidOnionPayload {
                    tlv_type: error.kind,
                    offset,
                });
            }
        };
        FailureResponse::Malformed {
            failure_code: message.code(),
            sha256_of_onion: message.sha256_of_onion().unwrap_or([0; 32]),
        }
    }
}

impl fmt::Display for PeelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { reason, .. } => reason.fmt(f),
            Self::InBlindedPath { .. } => {
                f.write_str("the onion is invalid in a blinded path (BOLT 4)")
            }
            Self::AtIntroduction { .. } => {
                f.write_str("the onion is invalid at the start of a blinded path (BOLT 4)")
            }
            Self::PayloadLength => PacketError::PayloadLength.fmt(f),
            Self::Payload { error, .. } => error.fmt(f),
        }
    }
}

impl core::error::Error for PeelError {}

/// The point to multiply with the node's key, so that a signer can answer with the shared secret.
///
/// For an HTLC with a `path_key`, `blinding` is what that key and the node's share: the signer is asked
/// twice.
pub fn payment_ecdh_point<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &PaymentPacket,
    blinding: Option<&SharedSecret>,
) -> Result<PublicKey, PeelError> {
    sphinx::ecdh_point(secp, packet, blinding)
        .map_err(|reason| refuse(packet, blinding.is_some(), reason))
}

/// Takes one layer off a payment's onion.
///
/// Whether the HTLC keeps what the payload promises (amount, expiry) is the caller's question, and so is
/// replay.
pub fn peel_payment<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &PaymentPacket,
    shared_secret: &SharedSecret,
    htlc: &IncomingHtlc<'_>,
) -> Result<Peeled, PeelError> {
    let layer = sphinx::peel(secp, packet, shared_secret, htlc.payment_hash.as_bytes());
    read_layer(packet, htlc, layer)
}

fn read_layer(
    packet: &PaymentPacket,
    htlc: &IncomingHtlc<'_>,
    layer: Result<Layer, PacketError>,
) -> Result<Peeled, PeelError> {
    let in_path = htlc.path_key.is_some();
    let layer = layer.map_err(|reason| refuse(packet, in_path, reason))?;
    let next_packet: Option<PaymentPacket> = layer.next.map(|next| {
        next.try_into()
            .expect("the next packet is as long as this one")
    });
    let place = Place {
        is_final: next_packet.is_none(),
        has_path_key: in_path,
        onion: if htlc.is_trampoline_node {
            OnionKind::AroundTrampoline
        } else {
            OnionKind::Payment
        },
        even_custom_tlvs: htlc.even_custom_tlvs,
    };
    let payload = HopPayload::decode(&layer.payload, place)
        .map_err(|error| refuse_payload(packet, in_path, error, layer.prefix_len))?;
    Ok(match (payload, next_packet) {
        (HopPayload::Forward(payload), Some(next_packet)) => Peeled::Forward {
            payload,
            next_packet,
        },
        (HopPayload::BlindedForward(payload), Some(next_packet)) => Peeled::BlindedForward {
            payload,
            next_packet,
        },
        (HopPayload::Receive(payload), None) => Peeled::Receive(payload),
        (HopPayload::BlindedReceive(payload), None) => Peeled::BlindedReceive(payload),
        (HopPayload::Trampoline(payload), None) => Peeled::Trampoline(payload),
        // `decode` gives the payload of the place that it was told.
        (HopPayload::Forward(_) | HopPayload::BlindedForward(_), None)
        | (
            HopPayload::Receive(_) | HopPayload::BlindedReceive(_) | HopPayload::Trampoline(_),
            Some(_),
        ) => {
            return Err(PeelError::PayloadLength);
        }
    })
}

/// [`peel_payment`] for those who hold the node's key: tests, tools, a signer of its own.
pub fn peel_payment_with_key<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &PaymentPacket,
    node_key: &SecretKey,
    htlc: &IncomingHtlc<'_>,
) -> Result<(Peeled, SharedSecret), PeelError> {
    let blinding = htlc
        .path_key
        .map(|path_key| SharedSecret::ecdh(path_key, node_key));
    let (peeled, shared_secret) = sphinx::peel_with_key(
        secp,
        packet,
        node_key,
        blinding.as_ref(),
        htlc.payment_hash.as_bytes(),
    )
    .map_err(|reason| refuse(packet, blinding.is_some(), reason))?;
    Ok((read_layer(packet, htlc, Ok(peeled))?, shared_secret))
}

fn refuse(packet: &PaymentPacket, in_path: bool, reason: PacketError) -> PeelError {
    let sha256_of_onion = sha256_of_onion(packet);
    match reason {
        // BOLT 4, an erring node: with a path_key every error is invalid_onion_blinding.
        _ if in_path => PeelError::InBlindedPath { sha256_of_onion },
        PacketError::PayloadLength => PeelError::PayloadLength,
        PacketError::Version(_) | PacketError::Key | PacketError::Hmac | PacketError::TooShort => {
            PeelError::Malformed {
                reason,
                sha256_of_onion,
            }
        }
    }
}

fn refuse_payload(
    packet: &PaymentPacket,
    in_path: bool,
    error: PayloadError,
    prefix_len: usize,
) -> PeelError {
    if in_path {
        return PeelError::InBlindedPath {
            sha256_of_onion: sha256_of_onion(packet),
        };
    }
    if error.at_introduction {
        return PeelError::AtIntroduction {
            sha256_of_onion: sha256_of_onion(packet),
        };
    }
    PeelError::Payload {
        error,
        offset: error.offset_behind(prefix_len),
    }
}
