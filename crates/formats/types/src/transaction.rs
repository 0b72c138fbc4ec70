//! Bitcoin's encoding of transactions and witnesses, from strangers.
//!
//! `bitcoin` makes room for as many elements of a witness as its count says, up to 16 MB, before they are there. So
//! here the counts are held against the bytes first: what is given out then is at most a few times what came.

use bitcoin::{Transaction, VarInt, Witness, consensus::encode};

use crate::codec::{DecodeError, Reader};

/// Reads a transaction that takes all of the bytes, in Bitcoin's encoding with or without witnesses.
///
/// # Errors
/// [`DecodeError::InvalidValue`] when they are none.
pub fn read_transaction(bytes: &[u8]) -> Result<Transaction, DecodeError> {
    const NONE: DecodeError = DecodeError::InvalidValue("not a transaction");
    walk_transaction(&mut Reader::new(bytes)).map_err(|_| NONE)?;
    encode::deserialize(bytes).map_err(|_| NONE)
}

/// Reads a witness that takes all of the bytes, as behind a transaction's outputs: a count, then each element behind
/// its length.
///
/// # Errors
/// [`DecodeError::InvalidValue`] when they are none.
pub fn read_witness(bytes: &[u8]) -> Result<Witness, DecodeError> {
    const NONE: DecodeError = DecodeError::InvalidValue("not a witness");
    walk_witness(&mut Reader::new(bytes)).map_err(|_| NONE)?;
    encode::deserialize(bytes).map_err(|_| NONE)
}

/// Passes over a transaction; fails where a count or length promises more than there is.
fn walk_transaction(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    r.take(4)?;
    let mut inputs = compact_size(r)?;
    // No inputs: the marker of BIP 144, then its flag.
    let has_witnesses = inputs == 0;
    if has_witnesses {
        r.take(1)?;
        inputs = compact_size(r)?;
    }
    for _ in 0..inputs {
        r.take(36)?;
        walk_bytes(r)?;
        r.take(4)?;
    }
    for _ in 0..compact_size(r)? {
        r.take(8)?;
        walk_bytes(r)?;
    }
    if has_witnesses {
        for _ in 0..inputs {
            walk_witness(r)?;
        }
    }
    r.take(4)?;
    r.finish()
}

fn walk_witness(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    for _ in 0..compact_size(r)? {
        walk_bytes(r)?;
    }
    Ok(())
}

fn walk_bytes(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let len = usize::try_from(compact_size(r)?).map_err(|_| DecodeError::UnexpectedEnd)?;
    r.take(len).map(|_| ())
}

fn compact_size(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let (size, len) = encode::deserialize_partial::<VarInt>(r.remaining())
        .map_err(|_| DecodeError::UnexpectedEnd)?;
    r.take(len)?;
    Ok(size.0)
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};
    use bitcoin::{
        Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, absolute::LockTime,
        consensus::encode::serialize, transaction::Version,
    };

    use super::*;

    fn transaction(inputs: usize, elements: usize) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: (0..inputs)
                .map(|_| TxIn {
                    previous_output: OutPoint::default(),
                    script_sig: ScriptBuf::from_bytes(vec![1; 300]),
                    sequence: Sequence::ZERO,
                    witness: Witness::from_slice(&vec![[7; 3]; elements]),
                })
                .collect(),
            output: vec![TxOut {
                value: Amount::from_sat(5),
                script_pubkey: ScriptBuf::from_bytes(vec![2; 5]),
            }],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        for transaction in [(1, 0), (1, 1), (3, 300), (300, 1)].map(|(i, e)| transaction(i, e)) {
            let bytes = serialize(&transaction);
            assert_eq!(read_transaction(&bytes), Ok(transaction.clone()));
            for len in 0..bytes.len() {
                assert!(read_transaction(&bytes[..len]).is_err());
            }
            assert!(read_transaction(&[&bytes[..], &[0]].concat()).is_err());
            let witness = transaction.input[0].witness.clone();
            assert_eq!(read_witness(&serialize(&witness)), Ok(witness));
        }
    }

    #[test]
    fn counts_beyond_the_bytes_are_refused() {
        // 3,600,000 elements, and none is there: `bitcoin` would make room for 14.4 MB.
        let count = [0xfe, 0x80, 0xee, 0x36, 0x00];
        assert!(read_witness(&count).is_err());
        let segwit = serialize(&transaction(1, 1));
        // The witness is the count, the length and three bytes before the lock time.
        let start = segwit.len() - 4 - 5;
        let bytes: Vec<u8> = [&segwit[..start], &count, &segwit[start + 1..]].concat();
        assert!(read_transaction(&bytes).is_err());
        // As many inputs, outputs, and bytes of a script.
        for at in [4, 4 + 1 + 36] {
            let plain = serialize(&transaction(1, 0));
            let bytes = [&plain[..at], &count, &plain[at + 1..]].concat();
            assert!(read_transaction(&bytes).is_err());
        }
    }
}
