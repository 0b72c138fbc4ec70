//! Onion messages: BOLT 4, "Onion Messages". What the last node of one reads, and how it is peeled.
//! `message_build` makes them.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, Verification};
use fulmen_types::codec::{DecodeError, TlvReader, TlvWriter};

use crate::{
    blinding::{BlindedPath, EncryptedData, NextHop, UnblindError, unblind},
    keys::SharedSecret,
    sphinx::{self, Layer, PacketError},
};

pub(crate) const REPLY_PATH: u64 = 2;
pub(crate) const ENCRYPTED_RECIPIENT_DATA: u64 = 4;
/// From here on types are payloads for the last node.
const PAYLOADS_FROM: u64 = 64;
const INVOICE_REQUEST: u64 = 64;
const INVOICE: u64 = 66;
const INVOICE_ERROR: u64 = 68;

/// What a message is about: the one payload field of its `onionmsg_tlv`. The bytes of the BOLT 12
/// messages are TLV streams, which the crate for offers reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageContents {
    /// `invoice_request`, type 64.
    InvoiceRequest(Vec<u8>),
    /// `invoice`, type 66.
    Invoice(Vec<u8>),
    /// `invoice_error`, type 68.
    InvoiceError(Vec<u8>),
    /// Another payload: an odd type, or an even one that the reader said to know.
    Custom {
        /// The type, 64 or more.
        kind: u64,
        /// The value.
        value: Vec<u8>,
    },
}

impl MessageContents {
    /// The TLV type.
    pub const fn kind(&self) -> u64 {
        match self {
            Self::InvoiceRequest(_) => INVOICE_REQUEST,
            Self::Invoice(_) => INVOICE,
            Self::InvoiceError(_) => INVOICE_ERROR,
            Self::Custom { kind, .. } => *kind,
        }
    }

    /// The TLV value.
    pub fn value(&self) -> &[u8] {
        match self {
            Self::InvoiceRequest(value)
            | Self::Invoice(value)
            | Self::InvoiceError(value)
            | Self::Custom { value, .. } => value,
        }
    }

    pub(crate) fn new(kind: u64, value: Vec<u8>) -> Self {
        match kind {
            INVOICE_REQUEST => Self::InvoiceRequest(value),
            INVOICE => Self::Invoice(value),
            INVOICE_ERROR => Self::InvoiceError(value),
            _ => Self::Custom { kind, value },
        }
    }

    /// Whether the type is one of a payload.
    pub(crate) const fn has_payload_type(&self) -> bool {
        self.kind() >= PAYLOADS_FROM
    }
}

/// `onionmsg_tlv` for the last node, without the data that are encrypted for it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MessagePayload {
    /// Where an answer may be sent.
    pub reply_path: Option<BlindedPath>,
    /// What the message is about; a message may be about nothing.
    pub contents: Option<MessageContents>,
}

impl MessagePayload {
    pub(crate) fn to_tlvs(&self, encrypted_recipient_data: &Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut tlvs = TlvWriter::new(&mut out);
        tlvs.put_some(REPLY_PATH, self.reply_path.as_ref())
            .put(ENCRYPTED_RECIPIENT_DATA, encrypted_recipient_data);
        if let Some(contents) = &self.contents {
            tlvs.put(contents.kind(), &contents.value().to_vec());
        }
        out
    }
}

/// Why a message must be ignored: nothing is ever answered to its sender (BOLT 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoreReason {
    /// The packet can't be peeled.
    Packet(PacketError),
    /// The payload is no `onionmsg_tlv`, or has an even type that is not known.
    Payload(DecodeError),
    /// `encrypted_recipient_data` can't be read or lets the message go nowhere.
    Unblind(UnblindError),
    /// A node on the way was given more than `encrypted_recipient_data`.
    FieldForForwarder(u64),
    /// A `path_id` for a node on the way.
    PathIdForForwarder,
    /// More than one payload field.
    PayloadCount,
    /// A path of payments, not of messages: it has `payment_relay` or `payment_constraints`.
    PaymentPath,
    /// The last node is told to forward: somebody cut the path off before its end.
    CutOff,
}

impl fmt::Display for IgnoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packet(e) => e.fmt(f),
            Self::Payload(e) => write!(f, "onionmsg_tlv: {e} (BOLT 4, onion messages)"),
            Self::Unblind(e) => e.fmt(f),
            Self::FieldForForwarder(kind) => write!(
                f,
                "field {kind} is not for a node that forwards (BOLT 4, onion messages)"
            ),
            Self::PathIdForForwarder => {
                f.write_str("path_id is not for a node that forwards (BOLT 4, onion messages)")
            }
            Self::PayloadCount => {
                f.write_str("more than one payload field (BOLT 4, onion messages)")
            }
            Self::PaymentPath => {
                f.write_str("the blinded path is for payments (BOLT 4, onion messages)")
            }
            Self::CutOff => {
                f.write_str("the path ends where its maker did not end it (BOLT 4, route blinding)")
            }
        }
    }
}

impl core::error::Error for IgnoreReason {}

impl From<PacketError> for IgnoreReason {
    fn from(e: PacketError) -> Self {
        Self::Packet(e)
    }
}

impl From<DecodeError> for IgnoreReason {
    fn from(e: DecodeError) -> Self {
        Self::Payload(e)
    }
}

impl From<UnblindError> for IgnoreReason {
    fn from(e: UnblindError) -> Self {
        Self::Unblind(e)
    }
}

/// What a node does with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeeledMessage {
    /// Send it on. Whether `next` is a peer, and how much may be forwarded, is the caller's question. A
    /// `next` that is this node itself must be peeled again or dropped, one that is the sender dropped.
    Forward {
        /// To whom.
        next: NextHop,
        /// The `path_key` of the forwarded message.
        next_path_key: PublicKey,
        /// Its `onion_message_packet`.
        packet: Vec<u8>,
    },
    /// It is for us.
    Receive {
        /// What the maker of the path put into it to recognise it: a reply must come with that of its
        /// reply path, anything else without.
        path_id: Option<Vec<u8>>,
        /// What it says.
        payload: MessagePayload,
    },
}

/// Takes one layer off an onion message.
///
/// `blinding` is what the message's `path_key` and the node's key share, `shared_secret` what that key
/// shares with [`sphinx::ecdh_point`] of the packet and `blinding`. `even_types` are the even payload
/// types beyond BOLT 12 that the node understands.
pub fn peel_message<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    path_key: &PublicKey,
    blinding: &SharedSecret,
    shared_secret: &SharedSecret,
    even_types: &[u64],
) -> Result<PeeledMessage, IgnoreReason> {
    // BOLT 4, Onion Messages: the associated data are empty.
    let layer = sphinx::peel(secp, packet, shared_secret, &[])?;
    read_layer(secp, layer, path_key, blinding, even_types)
}

fn read_layer<C: Verification>(
    secp: &Secp256k1<C>,
    layer: Layer,
    path_key: &PublicKey,
    blinding: &SharedSecret,
    even_types: &[u64],
) -> Result<PeeledMessage, IgnoreReason> {
    match layer.next {
        Some(packet) => {
            let data = read_forwarder(&layer.payload)?;
            let hop = unblind(secp, path_key, blinding, data)?;
            check_path(&hop.data)?;
            if hop.data.path_id.is_some() {
                return Err(IgnoreReason::PathIdForForwarder);
            }
            let next = match (hop.data.next_node_id, hop.data.short_channel_id) {
                (Some(node_id), _) => NextHop::Node(node_id),
                (None, Some(scid)) => NextHop::Channel(scid),
                (None, None) => return Err(UnblindError::NextHop.into()),
            };
            Ok(PeeledMessage::Forward {
                next,
                next_path_key: hop.next_path_key,
                packet,
            })
        }
        None => {
            let (payload, data) = read_recipient(&layer.payload, even_types)?;
            let hop = unblind(secp, path_key, blinding, data)?;
            check_path(&hop.data)?;
            if hop.data.next_node_id.is_some() || hop.data.short_channel_id.is_some() {
                return Err(IgnoreReason::CutOff);
            }
            Ok(PeeledMessage::Receive {
                path_id: hop.data.path_id,
                payload,
            })
        }
    }
}

/// [`peel_message`] for those who hold the node's key: tests, tools, a signer of its own.
pub fn peel_message_with_key<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    path_key: &PublicKey,
    node_key: &SecretKey,
    even_types: &[u64],
) -> Result<PeeledMessage, IgnoreReason> {
    let blinding = SharedSecret::ecdh(path_key, node_key);
    let (layer, _) = sphinx::peel_with_key(secp, packet, node_key, Some(&blinding), &[])?;
    read_layer(secp, layer, path_key, &blinding, even_types)
}

/// BOLT 4, Onion Messages: of every node in the path.
fn check_path(data: &EncryptedData) -> Result<(), IgnoreReason> {
    if data.payment_relay.is_some() || data.payment_constraints.is_some() {
        return Err(IgnoreReason::PaymentPath);
    }
    // No feature has been defined for blinded paths, so any bit is an unknown one.
    match &data.allowed_features {
        Some(features) if !features.is_empty() => Err(UnblindError::UnknownFeature.into()),
        Some(_) | None => Ok(()),
    }
}

fn read_forwarder(payload: &[u8]) -> Result<&[u8], IgnoreReason> {
    let mut data = None;
    for record in TlvReader::new(payload) {
        let record = record?;
        match record.kind {
            ENCRYPTED_RECIPIENT_DATA => data = Some(record.value),
            // BOLT 4, Onion Messages, not the final node: even an odd field is too much.
            other => return Err(IgnoreReason::FieldForForwarder(other)),
        }
    }
    data.ok_or(DecodeError::Missing("encrypted_recipient_data").into())
}

fn read_recipient<'a>(
    tlvs: &'a [u8],
    even_types: &[u64],
) -> Result<(MessagePayload, &'a [u8]), IgnoreReason> {
    let mut payload = MessagePayload::default();
    let mut data = None;
    for record in TlvReader::new(tlvs) {
        let record = record?;
        match record.kind {
            REPLY_PATH => payload.reply_path = Some(record.parse()?),
            ENCRYPTED_RECIPIENT_DATA => data = Some(record.value),
            kind if kind >= PAYLOADS_FROM => {
                let contents = MessageContents::new(kind, record.value.to_vec());
                if matches!(contents, MessageContents::Custom { .. }) && !even_types.contains(&kind)
                {
                    record.ignore_if_odd()?;
                }
                // BOLT 4, Onion Messages, the final node: more than one payload is ignored.
                if payload.contents.replace(contents).is_some() {
                    return Err(IgnoreReason::PayloadCount);
                }
            }
            _ => record.ignore_if_odd()?,
        }
    }
    let data = data.ok_or(DecodeError::Missing("encrypted_recipient_data"))?;
    Ok((payload, data))
}
