//! From one seed to every key: stable for ever, because funds depend on it.
//!
//! `HMAC-SHA256(key, message)` throughout:
//!
//! ```text
//! root          = HMAC(seed, "fulmen keys v1" || chain hash, 32 bytes)
//! node key      = key(root, "node")
//! channel root  = HMAC(root, "channel" || keys id, 32 bytes)
//! channel keys  = key(channel root, "funding" | "revocation" | "payment" | "delayed" | "htlc")
//! shachain seed = HMAC(channel root, "commitment seed")
//! key(k, label) = HMAC(k, label), or where that is no private key HMAC(k, label || 1), and so on
//! ```
//!
//! The chain is part of it, so that what is signed on a test network is worth nothing elsewhere.

use bitcoin::{
    Network,
    constants::ChainHash,
    hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256},
    secp256k1::SecretKey,
};
use fulmen_tx::{ChannelKeysId, ChannelPublicKeys, Secp, derive_secret, secret_index};
use fulmen_types::CommitmentNumber;

/// The secret that everything but the wallet comes from.
#[derive(Clone)]
pub(crate) struct Root([u8; 32]);

impl Root {
    pub(crate) fn new(seed: &[u8; 32], network: Network) -> Self {
        let chain = ChainHash::using_genesis_block_const(network);
        Self(hmac(seed, &[b"fulmen keys v1", chain.as_bytes()]))
    }

    pub(crate) fn node_key(&self) -> SecretKey {
        key(&self.0, b"node")
    }

    pub(crate) fn channel(&self, keys_id: &ChannelKeysId) -> ChannelRoot {
        ChannelRoot(hmac(&self.0, &[b"channel", keys_id.as_bytes()]))
    }
}

/// The secret that one channel's keys come from.
pub(crate) struct ChannelRoot([u8; 32]);

impl ChannelRoot {
    pub(crate) fn funding(&self) -> SecretKey {
        key(&self.0, b"funding")
    }

    pub(crate) fn revocation(&self) -> SecretKey {
        key(&self.0, b"revocation")
    }

    pub(crate) fn payment(&self) -> SecretKey {
        key(&self.0, b"payment")
    }

    pub(crate) fn delayed(&self) -> SecretKey {
        key(&self.0, b"delayed")
    }

    pub(crate) fn htlc(&self) -> SecretKey {
        key(&self.0, b"htlc")
    }

    /// The secret that revokes the commitment with this number.
    pub(crate) fn commitment_secret(&self, number: CommitmentNumber) -> [u8; 32] {
        let seed = hmac(&self.0, &[b"commitment seed"]);
        derive_secret(&seed, secret_index(number))
    }

    /// The same as a key, whose public key is the per-commitment point.
    pub(crate) fn commitment_key(&self, number: CommitmentNumber) -> SecretKey {
        SecretKey::from_slice(&self.commitment_secret(number))
            .expect("a hash that is no private key has probability 2^-128")
    }

    pub(crate) fn public_keys(&self, secp: &Secp) -> ChannelPublicKeys {
        ChannelPublicKeys {
            funding: self.funding().public_key(secp),
            revocation_basepoint: self.revocation().public_key(secp),
            payment_basepoint: self.payment().public_key(secp),
            delayed_payment_basepoint: self.delayed().public_key(secp),
            htlc_basepoint: self.htlc().public_key(secp),
        }
    }
}

fn key(secret: &[u8; 32], label: &[u8]) -> SecretKey {
    let first = hmac(secret, &[label]);
    SecretKey::from_slice(&first).unwrap_or_else(|_| {
        (1u8..=u8::MAX)
            .find_map(|n| SecretKey::from_slice(&hmac(secret, &[label, &[n]])).ok())
            .expect("255 hashes in a row that are no private key have probability 2^-32640")
    })
}

fn hmac(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(secret);
    for part in parts {
        engine.input(part);
    }
    Hmac::from_engine(engine).to_byte_array()
}
