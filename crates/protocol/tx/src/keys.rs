//! BOLT 3, Key Derivation.

use bitcoin::{
    PubkeyHash,
    hashes::{Hash, HashEngine, hash160, sha256},
    secp256k1::{PublicKey, Scalar, SecretKey},
};

use crate::{ChannelParameters, Secp, Side};

/// The keys of one commitment: `pubkey = basepoint + SHA256(per_commitment_point || basepoint) * G` and
/// the revocation key. Derived once per commitment; every script of it uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentKeys {
    /// Whose commitment it is: the one that may broadcast it.
    pub broadcaster: Side,
    /// The broadcaster's point for this commitment.
    pub per_commitment_point: PublicKey,
    /// `revocationpubkey`: the other side can make its private key once the commitment is revoked.
    pub revocation_key: PublicKey,
    /// `local_delayedpubkey`: the broadcaster's, after `to_self_delay`.
    pub delayed_key: PublicKey,
    /// `local_htlcpubkey`: the broadcaster's in HTLC scripts.
    pub broadcaster_htlc_key: PublicKey,
    /// `remote_htlcpubkey`: the other side's in HTLC scripts.
    pub countersigner_htlc_key: PublicKey,
}

impl CommitmentKeys {
    /// The keys of the broadcaster's commitment with this point.
    pub fn derive(
        secp: &Secp,
        params: &ChannelParameters,
        broadcaster: Side,
        per_commitment_point: &PublicKey,
    ) -> Self {
        let own = &params.party(broadcaster).keys;
        let other = &params.party(broadcaster.other()).keys;
        let point = per_commitment_point;
        Self {
            broadcaster,
            per_commitment_point: *point,
            revocation_key: derive_revocation_public_key(secp, &other.revocation_basepoint, point),
            delayed_key: derive_public_key(secp, &own.delayed_payment_basepoint, point),
            broadcaster_htlc_key: derive_public_key(secp, &own.htlc_basepoint, point),
            countersigner_htlc_key: derive_public_key(secp, &other.htlc_basepoint, point),
        }
    }

    /// `RIPEMD160(SHA256(revocationpubkey))`, part of every HTLC script.
    pub(crate) fn revocation_key_hash(&self) -> PubkeyHash {
        hash160::Hash::hash(&self.revocation_key.serialize()).into()
    }
}

/// `basepoint + SHA256(per_commitment_point || basepoint) * G`.
pub fn derive_public_key(
    secp: &Secp,
    basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> PublicKey {
    basepoint
        .add_exp_tweak(secp, &hash_points(per_commitment_point, basepoint))
        .expect("a basepoint that cancels its own hash would break SHA-256")
}

/// `basepoint_secret + SHA256(per_commitment_point || basepoint)`.
pub fn derive_private_key(
    secp: &Secp,
    basepoint_secret: &SecretKey,
    per_commitment_point: &PublicKey,
) -> SecretKey {
    let basepoint = basepoint_secret.public_key(secp);
    derive_private_key_of(basepoint_secret, &basepoint, per_commitment_point)
}

/// [`derive_private_key`] with the basepoint at hand: no elliptic-curve work.
pub fn derive_private_key_of(
    basepoint_secret: &SecretKey,
    basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> SecretKey {
    basepoint_secret
        .add_tweak(&hash_points(per_commitment_point, basepoint))
        .expect("a basepoint that cancels its own hash would break SHA-256")
}

/// `revocation_basepoint * SHA256(revocation_basepoint || per_commitment_point) +
/// per_commitment_point * SHA256(per_commitment_point || revocation_basepoint)`.
pub fn derive_revocation_public_key(
    secp: &Secp,
    revocation_basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> PublicKey {
    let (base, point) = (revocation_basepoint, per_commitment_point);
    let hash_is_no_zero = "a hash that is zero or the curve's order would break SHA-256";
    base.mul_tweak(secp, &hash_points(base, point))
        .expect(hash_is_no_zero)
        .combine(
            &point
                .mul_tweak(secp, &hash_points(point, base))
                .expect(hash_is_no_zero),
        )
        .expect("points that cancel each other's hashes would break SHA-256")
}

/// The private key of [`derive_revocation_public_key`], from both secrets.
pub fn derive_revocation_private_key(
    secp: &Secp,
    revocation_basepoint_secret: &SecretKey,
    per_commitment_secret: &SecretKey,
) -> SecretKey {
    let base = revocation_basepoint_secret.public_key(secp);
    let point = per_commitment_secret.public_key(secp);
    let hash_is_no_zero = "a hash that is zero or the curve's order would break SHA-256";
    let half = per_commitment_secret
        .mul_tweak(&hash_points(&point, &base))
        .expect(hash_is_no_zero);
    revocation_basepoint_secret
        .mul_tweak(&hash_points(&base, &point))
        .expect(hash_is_no_zero)
        .add_tweak(&Scalar::from(half))
        .expect("secrets that cancel each other's hashes would break SHA-256")
}

/// `SHA256(first || second)` as a number below the curve's order.
fn hash_points(first: &PublicKey, second: &PublicKey) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&first.serialize());
    engine.input(&second.serialize());
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array())
        .expect("a hash above the curve's order has probability 2^-128")
}
