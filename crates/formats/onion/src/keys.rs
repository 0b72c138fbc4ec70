//! Keys, streams and authentication codes of BOLT 4, "Key Generation" and "Pseudo Random Byte Stream".

use alloc::vec::Vec;
use core::{fmt, ops::Deref};

use bitcoin::{
    hashes::{Hash, HashEngine, Hmac, HmacEngine, cmp::fixed_time_eq, sha256},
    secp256k1::{self, PublicKey, Scalar, Secp256k1, SecretKey, Verification, ecdh},
};
use chacha20_poly1305::{Key, Nonce, chacha20::ChaCha20};
use fulmen_types::{
    codec::{Decode, DecodeError, Encode, Reader},
    wipe,
};

/// What two ends of a Diffie-Hellman exchange share: SHA-256 of the compressed product (BOLT 4, "Shared
/// Secret"). Not shown by `Debug`, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// Wraps the result of an exchange that a signer made.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes the exchange here, for those who hold the key.
    pub fn ecdh(point: &PublicKey, key: &SecretKey) -> Self {
        let mut shared = ecdh::SharedSecret::new(point, key);
        let secret = Self(shared.secret_bytes());
        shared.non_secure_erase();
        secret
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of one purpose.
    pub(crate) fn key(&self, kind: KeyKind) -> DerivedKey {
        derive_key(kind, &self.0)
    }

    /// The stream cipher of one purpose, at its start.
    pub(crate) fn stream(&self, kind: KeyKind) -> ChaCha20 {
        stream(&self.key(kind))
    }
}

impl Drop for SharedSecret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

impl From<[u8; 32]> for SharedSecret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Encode for SharedSecret {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for SharedSecret {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array().map(Self)
    }
}

/// What a key is for. The label is the HMAC key of its derivation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyKind {
    /// Obfuscates payloads.
    Rho,
    /// Authenticates the packet.
    Mu,
    /// Authenticates failures.
    Um,
    /// Obfuscates failures.
    Ammag,
    /// Obfuscates attribution data.
    AmmagExt,
    /// Fills a new packet.
    Pad,
    /// Blinds node ids.
    BlindedNodeId,
    /// Encrypts what a recipient says to the payer.
    Fulfillment,
}

impl KeyKind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Rho => b"rho",
            Self::Mu => b"mu",
            Self::Um => b"um",
            Self::Ammag => b"ammag",
            Self::AmmagExt => b"ammagext",
            Self::Pad => b"pad",
            Self::BlindedNodeId => b"blinded_node_id",
            Self::Fulfillment => b"fulfillment",
        }
    }
}

/// A key of one purpose, wiped when it is dropped. What the ciphers copy of it is beyond our reach.
pub(crate) struct DerivedKey([u8; 32]);

impl DerivedKey {
    /// As the ciphers take it.
    pub(crate) const fn to_cipher_key(&self) -> Key {
        Key::new(self.0)
    }
}

impl Deref for DerivedKey {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for DerivedKey {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

pub(crate) fn derive_key(kind: KeyKind, secret: &[u8; 32]) -> DerivedKey {
    DerivedKey(hmac(kind.label(), &[secret]))
}

pub(crate) const fn stream(key: &DerivedKey) -> ChaCha20 {
    // A fixed nonce is safe: no key is used for two streams.
    ChaCha20::new(key.to_cipher_key(), Nonce::new([0; 12]), 0)
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

/// Compares in time that depends on the lengths alone.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && fixed_time_eq(a, b)
}

/// BOLT 4, "Blinding Ephemeral Onion Keys": what moves the key of one hop to that of the next.
///
/// No scalar only with the probability of a broken SHA-256.
pub(crate) fn blinding_factor(
    key: &PublicKey,
    secret: &SharedSecret,
) -> Result<Scalar, secp256k1::Error> {
    let mut engine = sha256::Hash::engine();
    engine.input(&key.serialize());
    engine.input(&secret.0);
    scalar(sha256::Hash::from_engine(engine).to_byte_array())
}

/// HMAC256("blinded_node_id", ss): what turns a node's key into its blinded one.
pub(crate) fn node_id_tweak(secret: &SharedSecret) -> Result<Scalar, secp256k1::Error> {
    scalar(*secret.key(KeyKind::BlindedNodeId))
}

/// The ephemeral or path key of the next hop.
pub(crate) fn next_key<C: Verification>(
    secp: &Secp256k1<C>,
    key: &PublicKey,
    secret: &SharedSecret,
) -> Result<PublicKey, secp256k1::Error> {
    key.mul_tweak(secp, &blinding_factor(key, secret)?)
}

fn scalar(bytes: [u8; 32]) -> Result<Scalar, secp256k1::Error> {
    Scalar::from_be_bytes(bytes).map_err(|_| secp256k1::Error::InvalidTweak)
}

#[cfg(test)]
mod tests {
    use core::mem::needs_drop;

    use super::*;

    #[test]
    fn secrets_are_wiped_when_they_are_dropped() {
        assert!(needs_drop::<SharedSecret>());
        assert!(needs_drop::<DerivedKey>());
        assert!(needs_drop::<crate::MessageKeys>());
    }
}
