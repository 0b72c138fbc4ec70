//! Identifiers: hashes, secrets, channels, nodes.

use alloc::vec::Vec;
use core::{fmt, str::FromStr};

use bitcoin::{
    OutPoint,
    hashes::{Hash, sha256},
    hex::{DisplayHex, FromHex},
    secp256k1::{self, PublicKey},
};

use crate::codec::{Decode, DecodeError, Encode, Reader};

/// Why a text is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError {
    expected: &'static str,
}

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl core::error::Error for ParseIdError {}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $debug:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Wraps the bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The bytes by value.
            pub const fn to_byte_array(self) -> [u8; $len] {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                <[u8; $len]>::from_hex(s).map(Self).map_err(|_| ParseIdError {
                    expected: concat!(stringify!($len), " bytes in hexadecimal"),
                })
            }
        }

        impl Encode for $name {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
        }

        impl Decode for $name {
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.take_array().map(Self)
            }
        }

        bytes_id!(@$debug $name);
    };
    (@public $name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.as_hex())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0.as_hex())
            }
        }
    };
    (@secret $name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

bytes_id! {
    /// A channel's id: temporary until funded, then made of the funding outpoint (BOLT 2).
    ChannelId, 32, public
}
bytes_id! {
    /// SHA-256 of a payment's preimage.
    PaymentHash, 32, public
}
bytes_id! {
    /// The proof of payment. Not shown by `Debug`: who sees it too early can take the money.
    PaymentPreimage, 32, secret
}
bytes_id! {
    /// The `payment_secret` of an invoice, which keeps probing nodes from learning of it.
    PaymentSecret, 32, secret
}
bytes_id! {
    /// A node's public key in its 33 compressed bytes, not yet checked to lie on the curve. Ordered as
    /// BOLT 7 orders the two ends of a channel.
    NodeId, 33, public
}

bytes_id! {
    /// A MuSig2 public nonce (BIP 327): two compressed points, not yet checked to lie on the curve, which
    /// [`PublicNonce::points`] does.
    PublicNonce, 66, public
}
bytes_id! {
    /// A MuSig2 partial signature (BIP 327): the scalar `s`, not yet checked to be below the group's order.
    PartialSignature, 32, public
}

impl PublicNonce {
    /// The two points, if the bytes are two: a channel whose nonces are not fails (simple taproot
    /// channels).
    pub fn points(&self) -> Result<[PublicKey; 2], secp256k1::Error> {
        let (first, second) = self.0.split_at(33);
        Ok([
            PublicKey::from_slice(first)?,
            PublicKey::from_slice(second)?,
        ])
    }
}

impl ChannelId {
    /// All zero: in `error` and `warning` it means every channel with the peer (BOLT 1).
    pub const ALL: Self = Self([0; 32]);

    /// The id of a v1 channel: the funding txid with its last two bytes xored by the output index.
    /// `None` when the index does not fit 16 bits, which BOLT 2 forbids.
    pub fn from_funding(outpoint: OutPoint) -> Option<Self> {
        let vout = u16::try_from(outpoint.vout).ok()?.to_be_bytes();
        let mut bytes = outpoint.txid.to_byte_array();
        bytes[30] ^= vout[0];
        bytes[31] ^= vout[1];
        Some(Self(bytes))
    }
}

impl PaymentPreimage {
    /// The hash that this preimage opens.
    pub fn payment_hash(&self) -> PaymentHash {
        PaymentHash(sha256::Hash::hash(&self.0).to_byte_array())
    }
}

impl NodeId {
    /// The key, if the bytes are one.
    pub fn to_public_key(&self) -> Result<PublicKey, secp256k1::Error> {
        PublicKey::from_slice(&self.0)
    }
}

impl From<PublicKey> for NodeId {
    fn from(key: PublicKey) -> Self {
        Self(key.serialize())
    }
}

/// A channel's place in the chain: 3 bytes of block height, 3 of transaction index, 2 of output index
/// (BOLT 7). Aliases have the same form and no meaning beyond it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShortChannelId(u64);

impl ShortChannelId {
    /// From its 8-byte number.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// From its parts; `None` when the block or the index does not fit 24 bits.
    pub fn from_parts(block: u32, tx_index: u32, output_index: u16) -> Option<Self> {
        if block >> 24 != 0 || tx_index >> 24 != 0 {
            return None;
        }
        Some(Self(
            u64::from(block) << 40 | u64::from(tx_index) << 16 | u64::from(output_index),
        ))
    }

    /// An alias made of random bits: a place in the chain that no block has, as heights from 2^23 on are
    /// not reached before the year 2160. Whether it is in use already is the caller's question.
    pub const fn alias(random: u64) -> Self {
        Self(random | 1 << 63)
    }

    /// The 8-byte number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The height of the funding transaction's block.
    pub const fn block(self) -> u32 {
        (self.0 >> 40) as u32 & 0x00ff_ffff
    }

    /// The funding transaction's index in its block.
    pub const fn tx_index(self) -> u32 {
        (self.0 >> 16 & 0x00ff_ffff) as u32
    }

    /// The funding output's index.
    pub const fn output_index(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}x{}x{}",
            self.block(),
            self.tx_index(),
            self.output_index()
        )
    }
}

impl fmt::Debug for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ShortChannelId {
    type Err = ParseIdError;
    fn from_str(s: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError {
            expected: "BLOCKxTRANSACTIONxOUTPUT, for example 539268x845x1",
        };
        let mut parts = s.split('x');
        let mut next = || {
            parts
                .next()
                .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|p| p.parse::<u32>().ok())
                .ok_or(error)
        };
        let (block, tx_index, output) = (next()?, next()?, next()?);
        let output = u16::try_from(output).map_err(|_| error)?;
        if parts.next().is_some() {
            return Err(error);
        }
        Self::from_parts(block, tx_index, output).ok_or(error)
    }
}

impl Encode for ShortChannelId {
    const LEN: Option<usize> = u64::LEN;

    #[inline]
    fn write_to(&self, out: &mut [u8]) {
        self.0.write_to(out);
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for ShortChannelId {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(r).map(Self)
    }
}

/// The number of a commitment transaction, counted up from 0 (BOLT 3 stores 48 bits of it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct CommitmentNumber(u64);

impl CommitmentNumber {
    /// The first commitment's number.
    pub const FIRST: Self = Self(0);
    /// The last number that 48 bits can say.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// Wraps the number; `None` above 48 bits.
    pub const fn new(value: u64) -> Option<Self> {
        if value > Self::MAX.0 {
            None
        } else {
            Some(Self(value))
        }
    }

    /// The bare number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The following number; `None` at the end of the 48 bits.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The number before; `None` for the first.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
}

impl fmt::Display for CommitmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Encode for CommitmentNumber {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for CommitmentNumber {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::new(u64::decode(r)?)
            .ok_or(DecodeError::InvalidValue("commitment number above 48 bits"))
    }
}

/// The id of an HTLC within a channel, counted per offerer and never reset (BOLT 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct HtlcId(u64);

impl HtlcId {
    /// Wraps the number.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The bare number.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The following id; saturates at an end that no channel reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for HtlcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Encode for HtlcId {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for HtlcId {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(r).map(Self)
    }
}
