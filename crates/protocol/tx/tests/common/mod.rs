//! A channel with made-up keys on both sides.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use bitcoin::{
    Amount, OutPoint, Txid,
    hashes::Hash,
    secp256k1::{PublicKey, SecretKey},
};
use fulmen_tx::{
    ChannelKeysId, ChannelParameters, ChannelPublicKeys, CommitmentFormat, Funding,
    PartyParameters, Secp, Side,
};

pub fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

pub fn point(byte: u8) -> PublicKey {
    secret(byte).public_key(&Secp::new())
}

/// Keys from the bytes `first` to `first + 4`.
pub fn keys(first: u8) -> ChannelPublicKeys {
    ChannelPublicKeys {
        funding: point(first),
        revocation_basepoint: point(first + 1),
        payment_basepoint: point(first + 2),
        delayed_payment_basepoint: point(first + 3),
        htlc_basepoint: point(first + 4),
    }
}

pub fn params(format: CommitmentFormat, opener: Side) -> ChannelParameters {
    ChannelParameters {
        keys_id: ChannelKeysId::new([9; 32]),
        format,
        opener,
        local: PartyParameters {
            keys: keys(1),
            to_self_delay: 144,
            dust_limit: Amount::from_sat(354),
        },
        remote: PartyParameters {
            keys: keys(11),
            to_self_delay: 720,
            dust_limit: Amount::from_sat(1_000),
        },
        funding: Funding {
            outpoint: OutPoint {
                txid: Txid::from_byte_array([7; 32]),
                vout: 3,
            },
            value: Amount::from_sat(10_000_000),
        },
    }
}

pub const FORMATS: [CommitmentFormat; 2] = [
    CommitmentFormat::StaticRemoteKey,
    CommitmentFormat::AnchorsZeroFeeHtlc,
];

pub const SIDES: [Side; 2] = [Side::Local, Side::Remote];
