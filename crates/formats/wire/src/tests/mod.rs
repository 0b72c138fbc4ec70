//! Tests of the codec: the vectors, then what must hold for generated messages of every type.

extern crate std;

mod gossip;
mod properties;
mod single;
mod vectors;

use alloc::{boxed::Box, string::String, vec::Vec};

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, SignedAmount, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime,
    constants::ChainHash,
    hashes::Hash,
    secp256k1::{PublicKey, Secp256k1, SecretKey, ecdsa::Signature},
    transaction::Version,
};
use fulmen_types::{
    ChannelId, ChannelType, CltvExpiry, CltvExpiryDelta, Features, FeeratePerKw, HtlcId, Msat,
    NodeId, PartialSignature, PaymentHash, PaymentPreimage, PublicNonce, ShortChannelId,
};

use crate::{
    AttributionData, CurrentFundingLocked, FeeRange, Hostname, NetAddress, NextFunding, NodeAlias,
    NonceEntry, PartialSignatureWithNonce, Rgb,
};

/// Where generated values come from: bytes that a property test made, then an endless sequence that
/// follows from them.
pub(crate) struct Source<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8], seed: u64) -> Self {
        Self { bytes, state: seed }
    }

    fn byte(&mut self) -> u8 {
        if let Some((first, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return *first;
        }
        // A linear congruential generator (Knuth's MMIX constants); its high bits are good enough.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.state.to_be_bytes()[0]
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }
}

/// The names in a message's table.
pub(crate) trait Table {
    const FIELDS: &'static [&'static str];
    const TLVS: &'static [(u64, &'static str)];
}

/// A message's type, name, fields and TLV records.
pub(crate) type Row = (
    u16,
    &'static str,
    &'static [&'static str],
    &'static [(u64, &'static str)],
);

/// A value for a property test.
pub(crate) trait Generate {
    fn generate(g: &mut Source<'_>) -> Self;
}

macro_rules! generate {
    ($($ty:ty => |$g:ident| $value:expr;)*) => {$(
        impl Generate for $ty {
            fn generate($g: &mut Source<'_>) -> Self {
                $value
            }
        }
    )*};
}

generate! {
    u8 => |g| g.byte();
    u16 => |g| u16::from_be_bytes(g.array());
    u32 => |g| u32::from_be_bytes(g.array());
    // Of all magnitudes, so that every length of a `BigSize` comes up.
    u64 => |g| u64::from_be_bytes(g.array()) >> (g.byte() % 64);
    bool => |g| g.byte().is_multiple_of(2);
    Amount => |g| Self::from_sat(u64::generate(g));
    SignedAmount => |g| Self::from_sat(i64::from_be_bytes(g.array()));
    Msat => |g| Self::new(u64::generate(g));
    FeeratePerKw => |g| Self::new(u32::generate(g));
    CltvExpiry => |g| Self::new(u32::generate(g));
    CltvExpiryDelta => |g| Self::new(u16::generate(g));
    HtlcId => |g| Self::new(u64::generate(g));
    ShortChannelId => |g| Self::from_u64(u64::generate(g));
    ChannelId => |g| Self::new(g.array());
    PaymentHash => |g| Self::new(g.array());
    PaymentPreimage => |g| Self::new(g.array());
    NodeId => |g| Self::new(g.array());
    ChainHash => |g| Self::from(g.array::<32>());
    Txid => |g| Self::from_byte_array(g.array());
    NodeAlias => |g| Self::from_bytes(g.array());
    Rgb => |g| Self { red: g.byte(), green: g.byte(), blue: g.byte() };
    Features => |g| Self::from_be_bytes(&Vec::<u8>::generate(g));
    ChannelType => |g| Self::from_features(Features::generate(g));
    ScriptBuf => |g| Self::from_bytes(Vec::generate(g));
    SecretKey => |g| loop {
        if let Ok(key) = SecretKey::from_slice(&g.array::<32>()) {
            return key;
        }
    };
    PublicKey => |g| {
        Self::from_secret_key(&Secp256k1::signing_only(), &SecretKey::generate(g))
    };
    Signature => |g| loop {
        if let Ok(signature) = Self::from_compact(&g.array::<64>()) {
            return signature;
        }
    };
    Witness => |g| Self::from_slice(&Vec::<Vec<u8>>::generate(g));
    Transaction => |g| Self {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(u32::generate(g)),
        input: (0..=g.below(3))
            .map(|_| TxIn {
                previous_output: OutPoint::new(Txid::generate(g), u32::generate(g)),
                script_sig: ScriptBuf::generate(g),
                sequence: Sequence(u32::generate(g)),
                witness: Witness::generate(g),
            })
            .collect(),
        output: (0..g.below(3))
            .map(|_| TxOut {
                value: Amount::generate(g),
                script_pubkey: ScriptBuf::generate(g),
            })
            .collect(),
    };
    Hostname => |g| {
        let letters = b"abcxyzABCXYZ019-_.";
        let len = g.byte().max(1);
        let name: String = (0..len)
            .map(|_| char::from(letters[usize::from(g.byte()) % letters.len()]))
            .collect();
        Hostname::new(&name).unwrap()
    };
    NetAddress => |g| match g.below(5) {
        0 => Self::Ipv4 { addr: g.array::<4>().into(), port: u16::generate(g) },
        1 => Self::Ipv6 { addr: g.array::<16>().into(), port: u16::generate(g) },
        2 => Self::TorV3 { onion_addr: g.array(), port: u16::generate(g) },
        3 => Self::DnsHostname { hostname: Hostname::generate(g), port: u16::generate(g) },
        // Tor v2: kept, and what comes behind it is read.
        _ => Self::Unknown([&[3u8][..], &g.array::<12>()].concat()),
    };
    PublicNonce => |g| Self::new(g.array());
    PartialSignature => |g| Self::new(g.array());
    PartialSignatureWithNonce => |g| Self {
        partial_signature: PartialSignature::generate(g),
        public_nonce: PublicNonce::generate(g),
    };
    NonceEntry => |g| Self {
        funding_txid: Txid::generate(g),
        public_nonce: PublicNonce::generate(g),
    };
    FeeRange => |g| Self {
        min_fee_satoshis: Amount::generate(g),
        max_fee_satoshis: Amount::generate(g),
    };
    NextFunding => |g| Self {
        next_funding_txid: Txid::generate(g),
        retransmit_flags: g.byte(),
    };
    CurrentFundingLocked => |g| Self {
        my_current_funding_locked_txid: Txid::generate(g),
        retransmit_flags: g.byte(),
    };
    AttributionData => |g| Self {
        htlc_hold_times: core::array::from_fn(|_| u32::generate(g)),
        truncated_hmacs: core::array::from_fn(|_| g.array()),
    };
}

impl<const N: usize> Generate for [u8; N] {
    fn generate(g: &mut Source<'_>) -> Self {
        g.array()
    }
}

impl<T: Generate> Generate for Vec<T> {
    fn generate(g: &mut Source<'_>) -> Self {
        (0..g.below(12)).map(|_| T::generate(g)).collect()
    }
}

impl<T: Generate> Generate for Option<T> {
    fn generate(g: &mut Source<'_>) -> Self {
        bool::generate(g).then(|| T::generate(g))
    }
}

impl<T: Generate> Generate for Box<T> {
    fn generate(g: &mut Source<'_>) -> Self {
        Self::new(T::generate(g))
    }
}

impl<A: Generate, B: Generate> Generate for (A, B) {
    fn generate(g: &mut Source<'_>) -> Self {
        (A::generate(g), B::generate(g))
    }
}
