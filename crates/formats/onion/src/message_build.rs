//! Making onion messages: over nodes that the sender chooses, then over a blinded path if the recipient
//! gave one.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, Signing, Verification};
use fulmen_types::codec::{Encode, TlvWriter};

use crate::{
    blinding::{BlindError, BlindedRoute, EncryptedData, blind_route},
    message::{ENCRYPTED_RECIPIENT_DATA, MessagePayload},
    sphinx::{self, BuildError, Hop, OVERHEAD, shift_size},
};

/// The lengths that an `onion_message_packet` should have: that of a payment's onion, and one for what
/// does not fit it (BOLT 4).
pub const MESSAGE_PACKET_LENS: [usize; 2] = [1366, 32_834];

/// For whom a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A node by its id.
    Node(PublicKey),
    /// The end of a blinded path.
    Path {
        /// The introduction node: `first_node_id`, looked up if that names a channel. A sender that is
        /// the introduction node itself goes on with [`BlindedRoute::advance`].
        first_node_id: PublicKey,
        /// The path.
        route: BlindedRoute,
    },
}

/// A message ready to be sent to `first_node_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltMessage {
    /// The peer that gets it.
    pub first_node_id: PublicKey,
    /// The `path_key` of the `onion_message`.
    pub path_key: PublicKey,
    /// Its `onion_message_packet`.
    pub packet: Vec<u8>,
}

/// The two keys of a message; both must be fresh. They are wiped when they are dropped.
#[derive(Clone, Debug)]
pub struct MessageKeys {
    /// For the onion.
    pub onion: SecretKey,
    /// For the part of the path that the sender blinds.
    pub path: SecretKey,
}

impl Drop for MessageKeys {
    fn drop(&mut self) {
        self.onion.non_secure_erase();
        self.path.non_secure_erase();
    }
}

/// Why a message can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageBuildError {
    /// The onion.
    Onion(BuildError),
    /// The path.
    Path(BlindError),
    /// A payload of a type below 64, which is no payload's.
    PayloadType(u64),
}

impl fmt::Display for MessageBuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Onion(e) => e.fmt(f),
            Self::Path(e) => e.fmt(f),
            Self::PayloadType(kind) => write!(
                f,
                "type {kind} is no payload of an onion message: use 64 or more (BOLT 4)"
            ),
        }
    }
}

impl core::error::Error for MessageBuildError {}

impl From<BuildError> for MessageBuildError {
    fn from(e: BuildError) -> Self {
        Self::Onion(e)
    }
}

impl From<BlindError> for MessageBuildError {
    fn from(e: BlindError) -> Self {
        Self::Path(e)
    }
}

/// Makes a message to `destination` over the nodes `through`, from our peer on; without any, the
/// destination or its introduction node is the peer.
pub fn build_message<C: Signing + Verification>(
    secp: &Secp256k1<C>,
    keys: &MessageKeys,
    through: &[PublicKey],
    destination: &Destination,
    payload: &MessagePayload,
) -> Result<BuiltMessage, MessageBuildError> {
    if let Some(contents) = &payload.contents
        && !contents.has_payload_type()
    {
        return Err(MessageBuildError::PayloadType(contents.kind()));
    }
    let (first_node_id, route) = join(secp, &keys.path, through, destination)?;
    let last = route.path.len().saturating_sub(1);
    let hops: Vec<Hop> = route
        .path
        .into_iter()
        .enumerate()
        .map(|(i, hop)| Hop {
            node_id: hop.blinded_node_id,
            payload: if i == last {
                payload.to_tlvs(&hop.encrypted_recipient_data)
            } else {
                // BOLT 4, Onion Messages, the writer: nothing else for nodes on the way.
                let mut tlvs = Vec::new();
                TlvWriter::new(&mut tlvs)
                    .put(ENCRYPTED_RECIPIENT_DATA, &hop.encrypted_recipient_data);
                tlvs
            },
        })
        .collect();
    let (packet, _) = sphinx::build(secp, &keys.onion, &hops, &[], payloads_len(&hops))?;
    Ok(BuiltMessage {
        first_node_id,
        path_key: route.first_path_key,
        packet,
    })
}

/// The shorter of the usual lengths that fits, or the longer one.
fn payloads_len(hops: &[Hop]) -> usize {
    let needed = hops.iter().fold(OVERHEAD, |sum, hop| {
        sum.saturating_add(shift_size(&hop.payload))
    });
    let [short, long] = MESSAGE_PACKET_LENS;
    if needed <= short {
        short - OVERHEAD
    } else {
        long - OVERHEAD
    }
}

/// The whole way as one blinded route, and its first node.
fn join<C: Signing + Verification>(
    secp: &Secp256k1<C>,
    path_key: &SecretKey,
    through: &[PublicKey],
    destination: &Destination,
) -> Result<(PublicKey, BlindedRoute), MessageBuildError> {
    let forward_to = |next: &PublicKey| EncryptedData {
        next_node_id: Some(*next),
        ..EncryptedData::default()
    };
    let mut hops: Vec<(PublicKey, EncryptedData)> = through
        .iter()
        .zip(through.iter().skip(1))
        .map(|(node, next)| (*node, forward_to(next)))
        .collect();
    let last = through.last();
    match destination {
        Destination::Node(node_id) => {
            hops.extend(last.map(|last| (*last, forward_to(node_id))));
            hops.push((*node_id, EncryptedData::default()));
            let first = through.first().unwrap_or(node_id);
            Ok((*first, blind_padded(secp, path_key, hops)?))
        }
        Destination::Path {
            first_node_id,
            route,
        } => {
            if route.path.is_empty() {
                return Err(BuildError::NoHops.into());
            }
            let (Some(first), Some(last)) = (through.first(), last) else {
                return Ok((*first_node_id, route.clone()));
            };
            // BOLT 4, Route Blinding, the reader of a blinded_path: the node before the path hands its
            // first key on.
            let data = EncryptedData {
                next_path_key_override: Some(route.first_path_key),
                ..forward_to(first_node_id)
            };
            hops.push((*last, data));
            let mut joined = blind_padded(secp, path_key, hops)?;
            joined.path.extend(route.path.iter().cloned());
            Ok((*first, joined))
        }
    }
}

/// Blinds hops whose data are padded to one length, so that they don't tell their place.
fn blind_padded<C: Signing + Verification>(
    secp: &Secp256k1<C>,
    path_key: &SecretKey,
    hops: Vec<(PublicKey, EncryptedData)>,
) -> Result<BlindedRoute, BlindError> {
    let longest = hops.iter().map(|(_, data)| data.to_bytes().len()).max();
    let hops: Vec<(PublicKey, Vec<u8>)> = hops
        .into_iter()
        .map(|(node, data)| (node, data.padded_to(longest.unwrap_or(0)).to_bytes()))
        .collect();
    blind_route(secp, path_key, &hops)
}
