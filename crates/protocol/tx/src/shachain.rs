//! BOLT 3, Per-commitment Secret Requirements and Efficient Per-commitment Secret Storage.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::hashes::{Hash, sha256};
use fulmen_types::{
    CommitmentNumber,
    codec::{Decode, DecodeError, Encode, Reader, decode_list},
};

use crate::secret_index;

/// `generate_from_seed` of BOLT 3: the secret with this index. Only the lower 48 bits count.
pub fn derive_secret(seed: &[u8; 32], index: u64) -> [u8; 32] {
    derive_from(seed, 48, index)
}

/// Why the peer's secret is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// Secrets come in order of their commitments; this is not the next.
    OutOfOrder {
        /// The commitment whose secret is due.
        expected: CommitmentNumber,
    },
    /// The secret does not derive the earlier ones: they are not from one seed.
    NotFromTheSeed,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder { expected } => {
                write!(
                    f,
                    "the next per_commitment_secret is that of commitment {expected}"
                )
            }
            Self::NotFromTheSeed => {
                f.write_str("the per_commitment_secret does not derive the earlier ones")
            }
        }
    }
}

impl core::error::Error for SecretError {}

/// All secrets that the peer has revealed, in at most 49 of them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommitmentSecrets {
    /// Slot `b` has an index with `b` trailing zeros.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    index: u64,
    secret: [u8; 32],
}

impl CommitmentSecrets {
    /// None yet.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The commitment whose secret comes next; `None` when all 2^48 are known.
    pub fn next_number(&self) -> Option<CommitmentNumber> {
        match self.slots.iter().map(|slot| slot.index).min() {
            None => Some(CommitmentNumber::FIRST),
            Some(least) => number_at(least)?.next(),
        }
    }

    /// Takes the secret of the next revoked commitment. Nothing changes on an error.
    pub fn insert(
        &mut self,
        number: CommitmentNumber,
        secret: [u8; 32],
    ) -> Result<(), SecretError> {
        let expected = self.next_number().unwrap_or(CommitmentNumber::MAX);
        if number != expected {
            return Err(SecretError::OutOfOrder { expected });
        }
        let index = secret_index(number);
        let bits = slot_of(index);
        let derives_all = self
            .slots
            .iter()
            .take(bits as usize)
            .all(|slot| derive_from(&secret, bits, slot.index) == slot.secret);
        if !derives_all {
            return Err(SecretError::NotFromTheSeed);
        }
        let slot = Slot { index, secret };
        match self.slots.get_mut(bits as usize) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        Ok(())
    }

    /// The secret of a revoked commitment; `None` if it was not revealed.
    pub fn get(&self, number: CommitmentNumber) -> Option<[u8; 32]> {
        let index = secret_index(number);
        (0u32..)
            .zip(&self.slots)
            .find(|(bits, slot)| index >> bits == slot.index >> bits && index >= slot.index)
            .map(|(bits, slot)| derive_from(&slot.secret, bits, index))
    }
}

impl fmt::Debug for CommitmentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitmentSecrets")
            .field("next_number", &self.next_number())
            .finish_non_exhaustive()
    }
}

impl Encode for CommitmentSecrets {
    fn encode(&self, out: &mut Vec<u8>) {
        let slots: Vec<(u64, [u8; 32])> = self.slots.iter().map(|s| (s.index, s.secret)).collect();
        slots.as_slice().encode(out);
    }
}

impl Decode for CommitmentSecrets {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let slots: Vec<(u64, [u8; 32])> = decode_list(r)?;
        let well_placed = (0u32..)
            .zip(&slots)
            .all(|(place, (index, _))| *index < 1 << 48 && slot_of(*index) == place);
        if !well_placed {
            return Err(DecodeError::InvalidValue("secret in the wrong slot"));
        }
        Ok(Self {
            slots: slots
                .into_iter()
                .map(|(index, secret)| Slot { index, secret })
                .collect(),
        })
    }
}

/// `derive_secret` of BOLT 3: from a base whose index agrees in all but the lower `bits` bits.
fn derive_from(base: &[u8; 32], bits: u32, index: u64) -> [u8; 32] {
    (0..bits)
        .rev()
        .filter(|bit| index >> bit & 1 == 1)
        .fold(*base, |mut secret, bit| {
            secret[(bit / 8) as usize] ^= 1 << (bit % 8);
            sha256::Hash::hash(&secret).to_byte_array()
        })
}

/// `where_to_put_secret`: the number of trailing zeros of a 48-bit index.
fn slot_of(index: u64) -> u32 {
    index.trailing_zeros().min(48)
}

fn number_at(index: u64) -> Option<CommitmentNumber> {
    CommitmentNumber::new(CommitmentNumber::MAX.to_u64().checked_sub(index)?)
}
