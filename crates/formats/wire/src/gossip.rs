//! BOLT 7: announcements. What a signature covers is kept and written again byte for byte.
//!
//! What comes behind the known fields of the three signed messages is kept and not looked at: BOLT 1
//! lets a receiver ignore an extension, and if an even type in it closed connections, any stranger
//! could part third nodes by an announcement that these only pass on.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::{
    constants::ChainHash,
    hashes::{Hash, sha256d},
    secp256k1::{Message as Digest, ecdsa::Signature},
};
use fulmen_types::{
    ChannelId, CltvExpiryDelta, Features, Msat, NodeId, Printable, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::{NetAddress, address::Addresses, macros::message};

message! {
    /// The sender's half of what proves a channel to the world (BOLT 7).
    AnnouncementSignatures = 259, "announcement_signatures" {
        /// The channel.
        channel_id: ChannelId,
        /// Its funding output.
        short_channel_id: ShortChannelId,
        /// By the sender's node key.
        node_signature: Signature,
        /// By the sender's funding key.
        bitcoin_signature: Signature,
    }
    tlvs {}
}

message! {
    /// Proves that a channel is there and whose it is (BOLT 7).
    ///
    /// The keys are not checked to be points: that happens where the signatures are verified.
    ChannelAnnouncement = 256, "channel_announcement" {
        /// By `node_id_1`.
        node_signature_1: Signature,
        /// By `node_id_2`.
        node_signature_2: Signature,
        /// By `bitcoin_key_1`.
        bitcoin_signature_1: Signature,
        /// By `bitcoin_key_2`.
        bitcoin_signature_2: Signature,
        /// What one must know to use the channel.
        features: Features,
        /// The chain.
        chain_hash: ChainHash,
        /// The funding output.
        short_channel_id: ShortChannelId,
        /// The lesser of the two nodes' ids.
        node_id_1: NodeId,
        /// The greater of the two nodes' ids.
        node_id_2: NodeId,
        /// The funding key of node 1.
        bitcoin_key_1: NodeId,
        /// The funding key of node 2.
        bitcoin_key_2: NodeId,
        /// Bytes of later versions, covered by the signatures and not interpreted.
        excess_data: Vec<u8>,
    }
    tlvs {}
}

message! {
    /// A node's name, features and addresses (BOLT 7).
    NodeAnnouncement = 257, "node_announcement" {
        /// By `node_id`.
        signature: Signature,
        /// What the node can do.
        features: Features,
        /// Greater than in all earlier ones; seconds since 1970 by custom.
        timestamp: u32,
        /// The node.
        node_id: NodeId,
        /// A colour for maps.
        rgb_color: Rgb,
        /// A name for people.
        alias: NodeAlias,
        /// Where to connect to.
        addresses: Vec<NetAddress> as Addresses,
        /// Bytes of later versions, covered by the signature and not interpreted.
        excess_data: Vec<u8>,
    }
    tlvs {}
}

message! {
    /// What one end of a channel asks for forwarding over it (BOLT 7).
    ChannelUpdate = 258, "channel_update" {
        /// By the node whose direction it is.
        signature: Signature,
        /// The chain.
        chain_hash: ChainHash,
        /// The channel, or an alias in what is sent to the peer alone.
        short_channel_id: ShortChannelId,
        /// Greater than in all earlier ones; seconds since 1970 by custom.
        timestamp: u32,
        /// Bit 0 must be one; bit 1 is [`ChannelUpdate::DONT_FORWARD`].
        message_flags: u8,
        /// Bit 0 is [`ChannelUpdate::DIRECTION`]; bit 1 is [`ChannelUpdate::DISABLE`].
        channel_flags: u8,
        /// What is taken from an HTLC's expiry.
        cltv_expiry_delta: CltvExpiryDelta,
        /// The least HTLC.
        htlc_minimum_msat: Msat,
        /// The fee for each HTLC, in millisatoshis.
        fee_base_msat: u32,
        /// The fee in millionths of the amount forwarded.
        fee_proportional_millionths: u32,
        /// The greatest HTLC.
        htlc_maximum_msat: Msat,
        /// Bytes of later versions, covered by the signature and not interpreted.
        excess_data: Vec<u8>,
    }
    tlvs {}
}

const SIGNATURE_LEN: usize = 64;

macro_rules! signed {
    ($name:ident, $signatures:literal) => {
        impl $name {
            /// The bytes that the signatures cover: the message after them, without its type.
            pub fn signed_part(&self) -> Vec<u8> {
                let mut bytes = self.whole();
                bytes.drain(..SIGNATURE_LEN * $signatures);
                bytes
            }

            fn whole(&self) -> Vec<u8> {
                // Room for all that has no long fields.
                let mut bytes = Vec::with_capacity(512);
                self.encode(&mut bytes);
                bytes
            }

            /// What is signed: the double SHA-256 of [`Self::signed_part`] (BOLT 7).
            pub fn signature_hash(&self) -> Digest {
                let bytes = self.whole();
                let hash = sha256d::Hash::hash(&bytes[SIGNATURE_LEN * $signatures..]);
                Digest::from_digest(hash.to_byte_array())
            }
        }
    };
}
signed!(ChannelAnnouncement, 4);
signed!(NodeAnnouncement, 1);
signed!(ChannelUpdate, 1);

impl ChannelUpdate {
    /// Bit 0 of `message_flags`, which must be set.
    pub const MUST_BE_ONE: u8 = 1;
    /// Bit 1 of `message_flags`: for the receiver alone.
    pub const DONT_FORWARD: u8 = 2;
    /// Bit 0 of `channel_flags`: from node 2.
    pub const DIRECTION: u8 = 1;
    /// Bit 1 of `channel_flags`: not usable for now.
    pub const DISABLE: u8 = 2;

    /// Whether the update is for the receiver alone.
    pub const fn dont_forward(&self) -> bool {
        self.message_flags & Self::DONT_FORWARD != 0
    }

    /// Whose update it is: false for node 1, true for node 2.
    pub const fn is_from_node_2(&self) -> bool {
        self.channel_flags & Self::DIRECTION != 0
    }

    /// Whether the channel can't be used in this direction for now.
    pub const fn is_disabled(&self) -> bool {
        self.channel_flags & Self::DISABLE != 0
    }

    /// What `checksums_tlv` says of this update: CRC32C without `signature` and `timestamp` (BOLT 7).
    pub fn checksum(&self) -> u32 {
        let bytes = self.signed_part();
        // chain_hash 32, short_channel_id 8, timestamp 4, the rest.
        let crc = crc32c(u32::MAX, &bytes[..40]);
        !crc32c(crc, &bytes[44..])
    }
}

/// Goes on with a CRC32C (Castagnoli, reflected; RFC 3720) over `bytes`.
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        crc >> 8 ^ CRC32C[usize::from(low ^ byte)]
    })
}

/// What eight steps of the polynomial make of each byte.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256u32 {
        let mut crc = byte;
        let mut step = 0;
        while step < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            step += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// A node's colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rgb {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

impl Encode for Rgb {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.red, self.green, self.blue]);
    }
}

impl Decode for Rgb {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array()
            .map(|[red, green, blue]| Self { red, green, blue })
    }
}

/// A node's name: 32 bytes, UTF-8 by rule, padded with zeros. `Display` shows it safely.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeAlias([u8; 32]);

impl NodeAlias {
    /// Wraps the bytes, whatever they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A name of at most 32 bytes; `None` when it is longer.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// The bytes without the padding.
    fn name(&self) -> &[u8] {
        let len = self.0.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        &self.0[..len]
    }
}

impl fmt::Display for NodeAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(self.name()).fmt(f)
    }
}

impl fmt::Debug for NodeAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Printable(self.name()), f)
    }
}

impl Encode for NodeAlias {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for NodeAlias {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array().map(Self)
    }
}
