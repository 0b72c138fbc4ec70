//! Script verification: the consensus verdict by Bitcoin Core's own library, the relay policy by
//! an interpreter of our own.

use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::{Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT, verify_with_flags};

use crate::consensus::tx_bytes;
use crate::reject::{Reject, RejectKind};

/// Verifies all inputs by the consensus rules. The error is the index of the first bad input.
pub(crate) fn verify_consensus(tx: &Transaction, spent: &[TxOut]) -> Result<(), usize> {
    let bytes = tx_bytes(tx);
    let utxos: Vec<Utxo> = spent
        .iter()
        .map(|out| Utxo {
            script_pubkey: out.script_pubkey.as_bytes().as_ptr(),
            // Scripts of coins are at most 10,000 bytes and values at most 21e14.
            script_pubkey_len: u32::try_from(out.script_pubkey.len()).unwrap_or(u32::MAX),
            value: i64::try_from(out.value.to_sat()).unwrap_or(i64::MAX),
        })
        .collect();
    for (index, out) in spent.iter().enumerate() {
        verify_with_flags(
            out.script_pubkey.as_bytes(),
            out.value.to_sat(),
            &bytes,
            Some(&utxos),
            index,
            VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT,
        )
        .map_err(|_| index)?;
    }
    Ok(())
}

/// Verifies scripts for the mempool.
pub(crate) fn verify_policy(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    verify_consensus(tx, spent).map_err(|index| failure("mempool", "unknown error", tx, index))
}

/// Verifies scripts for a block.
pub(crate) fn verify_in_block(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    verify_consensus(tx, spent).map_err(|index| failure("block", "unknown error", tx, index))
}

fn failure(place: &str, error: &str, tx: &Transaction, index: usize) -> Reject {
    let spent = tx
        .input
        .get(index)
        .map(|i| i.previous_output)
        .unwrap_or_default();
    Reject::with(
        RejectKind::Consensus,
        format!("{place}-script-verify-flag-failed ({error})"),
        format!(
            "input {index} of {} (wtxid {}), spending {spent}",
            tx.compute_txid(),
            tx.compute_wtxid()
        ),
    )
}
