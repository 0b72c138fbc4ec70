//! The commitment number hidden in a commitment transaction's locktime and sequence (BOLT 3).

use bitcoin::{
    Sequence, Transaction,
    absolute::LockTime,
    hashes::{Hash, HashEngine, sha256},
    secp256k1::PublicKey,
};
use fulmen_types::CommitmentNumber;

use crate::{ChannelParameters, Side};

const MASK_24: u64 = 0x00ff_ffff;

/// The lower 48 bits of `SHA256(opener's payment_basepoint || accepter's payment_basepoint)`.
pub fn obscuring_factor(opener: &PublicKey, accepter: &PublicKey) -> u64 {
    let mut engine = sha256::Hash::engine();
    engine.input(&opener.serialize());
    engine.input(&accepter.serialize());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    hash[26..]
        .iter()
        .fold(0, |acc, byte| acc << 8 | u64::from(*byte))
}

/// Locktime and sequence of the commitment transaction with this number.
pub fn encode_commitment_number(
    params: &ChannelParameters,
    number: CommitmentNumber,
) -> (LockTime, Sequence) {
    let obscured = number.to_u64() ^ factor(params);
    let lower = u32::try_from(obscured & MASK_24).unwrap_or_default();
    let upper = u32::try_from(obscured >> 24 & MASK_24).unwrap_or_default();
    (
        LockTime::from_consensus(0x20 << 24 | lower),
        Sequence::from_consensus(0x80 << 24 | upper),
    )
}

/// The number of a transaction that spends the funding output, if it has the form of a commitment.
pub fn commitment_number_of(
    tx: &Transaction,
    params: &ChannelParameters,
) -> Option<CommitmentNumber> {
    let [input] = tx.input.as_slice() else {
        return None;
    };
    let locktime = tx.lock_time.to_consensus_u32();
    let sequence = input.sequence.to_consensus_u32();
    if input.previous_output != params.funding.outpoint
        || locktime >> 24 != 0x20
        || sequence >> 24 != 0x80
    {
        return None;
    }
    let obscured = (u64::from(sequence) & MASK_24) << 24 | (u64::from(locktime) & MASK_24);
    CommitmentNumber::new(obscured ^ factor(params))
}

/// The index of a commitment's secret: they start at 2^48 - 1 and count down (BOLT 3).
pub const fn secret_index(number: CommitmentNumber) -> u64 {
    CommitmentNumber::MAX.to_u64() - number.to_u64()
}

fn factor(params: &ChannelParameters) -> u64 {
    let (local, remote) = (&params.local.keys, &params.remote.keys);
    match params.opener {
        Side::Local => obscuring_factor(&local.payment_basepoint, &remote.payment_basepoint),
        Side::Remote => obscuring_factor(&remote.payment_basepoint, &local.payment_basepoint),
    }
}
