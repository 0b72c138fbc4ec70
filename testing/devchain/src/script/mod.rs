//! Script verification: the consensus verdict by Bitcoin Core's own library, the relay policy by
//! an interpreter of our own.
//!
//! The interpreter may only be stricter than the library: a transaction gets into the mempool if
//! both agree, and into a block if the library agrees.

mod error;
mod interpreter;
mod signature;
mod stack;

use bitcoin::hashes::Hash;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::XOnlyPublicKey;
use bitcoin::taproot::{ControlBlock, LeafVersion, TapLeafHash};
use bitcoin::{PubkeyHash, Script, ScriptBuf, Transaction, TxOut, WScriptHash};
use bitcoinconsensus::{Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT, verify_with_flags};

use crate::consensus::tx_bytes;
use crate::policy::{is_anchor, is_push_only, witness_program};
use crate::reject::{Reject, RejectKind};
use error::ScriptError;
use interpreter::{Mode, has_op_success, run};
use signature::{SECP, Spend};
use stack::Stack;

/// Added to the weight of a witness to get its budget of signature checks.
const VALIDATION_WEIGHT_OFFSET: i64 = 50;
const MAX_WITNESS_STACK: usize = 1000;
const MAX_ELEMENT_SIZE: usize = 520;
const ANNEX_TAG: u8 = 0x50;

/// Which rules the interpreter applies.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Those of the mempool besides those of consensus.
    policy: bool,
}

/// Whether a transaction's scripts and signatures let it spend these outputs, one per input, by
/// the rules of consensus and of relay. It needs no chain and checks nothing but scripts.
///
/// ```
/// use bitcoin::{Amount, ScriptBuf, TxOut, WScriptHash, hashes::Hash};
/// use fulmen_devchain::{Chain, verify_scripts};
///
/// let chain = Chain::default();
/// let script = ScriptBuf::new_p2wsh(&WScriptHash::hash(&[0x51]));
/// let tx = chain.faucet_payment(&script, Amount::from_sat(50_000))?;
/// let spent: Vec<TxOut> = tx
///     .input
///     .iter()
///     .filter_map(|input| Some(chain.coin(&input.previous_output)?.out.clone()))
///     .collect();
/// verify_scripts(&tx, &spent)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify_scripts(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    if spent.len() != tx.input.len() {
        return Err(Reject::new(
            RejectKind::MissingInputs,
            "bad-txns-inputs-missingorspent",
        ));
    }
    verify_policy(tx, spent)
}

/// Verifies scripts for the mempool: policy first, then consensus.
pub(crate) fn verify_policy(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    for index in 0..spent.len() {
        let spend = Spend {
            tx,
            index,
            spent,
            rules: Rules { policy: true },
        };
        verify_input(&spend).map_err(|error| failure("mempool", error, tx, index))?;
    }
    verify_consensus(tx, spent).map_err(|index| failure("mempool", ScriptError::Unknown, tx, index))
}

/// Verifies scripts for a block, by consensus alone.
pub(crate) fn verify_in_block(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    verify_consensus(tx, spent).map_err(|index| {
        // The library gives no reason, so the interpreter looks for one.
        let spend = Spend {
            tx,
            index,
            spent,
            rules: Rules { policy: false },
        };
        let error = verify_input(&spend).err().unwrap_or(ScriptError::Unknown);
        failure("block", error, tx, index)
    })
}

fn failure(place: &str, error: ScriptError, tx: &Transaction, index: usize) -> Reject {
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

/// Verifies all inputs by the consensus rules. The error is the index of the first bad input.
fn verify_consensus(tx: &Transaction, spent: &[TxOut]) -> Result<(), usize> {
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

/// Runs all scripts of one input.
fn verify_input(spend: &Spend<'_>) -> Result<(), ScriptError> {
    let input = &spend.tx.input[spend.index];
    let script_pubkey = &spend.spent[spend.index].script_pubkey;
    let pushed = run(
        spend,
        input.script_sig.as_bytes(),
        Stack::default(),
        Mode::Base,
    )?;
    let before_redeem = pushed.clone();
    let mut stack = run(spend, script_pubkey.as_bytes(), pushed, Mode::Base)?;
    if !stack.top_is_true() {
        return Err(ScriptError::EvalFalse);
    }
    let mut had_witness = false;
    if let Some((version, program)) = witness_program(script_pubkey) {
        had_witness = true;
        if !input.script_sig.is_empty() {
            return Err(ScriptError::WitnessMalleated);
        }
        verify_witness(spend, version, program, false)?;
        stack = Stack::new(vec![vec![1]]);
    }
    if script_pubkey.is_p2sh() {
        if !is_push_only(&input.script_sig) {
            return Err(ScriptError::SigPushonly);
        }
        stack = before_redeem;
        let redeem = ScriptBuf::from_bytes(stack.pop()?);
        stack = run(spend, redeem.as_bytes(), stack, Mode::Base)?;
        if !stack.top_is_true() {
            return Err(ScriptError::EvalFalse);
        }
        if let Some((version, program)) = witness_program(&redeem) {
            had_witness = true;
            if input.script_sig != push_only(&redeem) {
                return Err(ScriptError::WitnessMalleatedP2sh);
            }
            verify_witness(spend, version, program, true)?;
            stack = Stack::new(vec![vec![1]]);
        }
    }
    if spend.rules.policy && stack.len() != 1 {
        return Err(ScriptError::Cleanstack);
    }
    if !had_witness && !input.witness.is_empty() {
        return Err(ScriptError::WitnessUnexpected);
    }
    Ok(())
}

fn push_only(redeem: &Script) -> ScriptBuf {
    let bytes = PushBytesBuf::try_from(redeem.to_bytes()).unwrap_or_default();
    Builder::new().push_slice(bytes).into_script()
}

fn verify_witness(
    spend: &Spend<'_>,
    version: u8,
    program: &[u8],
    p2sh: bool,
) -> Result<(), ScriptError> {
    let witness = &spend.tx.input[spend.index].witness;
    let mut items: Vec<Vec<u8>> = witness.iter().map(<[u8]>::to_vec).collect();
    match (version, program.len()) {
        (0, 32) => {
            let script = items.pop().ok_or(ScriptError::WitnessProgramWitnessEmpty)?;
            let hash = WScriptHash::hash(&script);
            if hash.to_byte_array() != program {
                return Err(ScriptError::WitnessProgramMismatch);
            }
            run_witness_script(spend, &script, items, Mode::SegwitV0)
        }
        (0, 20) => {
            if items.len() != 2 {
                return Err(ScriptError::WitnessProgramMismatch);
            }
            let hash = PubkeyHash::from_slice(program)
                .map_err(|_| ScriptError::WitnessProgramWrongLength)?;
            let script = ScriptBuf::new_p2pkh(&hash);
            run_witness_script(spend, script.as_bytes(), items, Mode::SegwitV0)
        }
        (0, _) => Err(ScriptError::WitnessProgramWrongLength),
        (1, 32) if !p2sh => verify_taproot(spend, program, items, witness.size()),
        _ if !p2sh && is_anchor(&spend.spent[spend.index].script_pubkey) => Ok(()),
        _ if spend.rules.policy => Err(ScriptError::DiscourageUpgradableWitnessProgram),
        _ => Ok(()),
    }
}

fn verify_taproot(
    spend: &Spend<'_>,
    program: &[u8],
    mut items: Vec<Vec<u8>>,
    witness_size: usize,
) -> Result<(), ScriptError> {
    if items.is_empty() {
        return Err(ScriptError::WitnessProgramWitnessEmpty);
    }
    let tagged = items
        .last()
        .is_some_and(|item| item.first() == Some(&ANNEX_TAG));
    let annex = if items.len() >= 2 && tagged {
        items.pop()
    } else {
        None
    };
    if let [signature] = items.as_slice() {
        return spend.check_schnorr(signature, program, annex.as_deref(), None);
    }
    let control = items.pop().unwrap_or_default();
    let script = items.pop().unwrap_or_default();
    let fits =
        (33..=33 + 32 * 128).contains(&control.len()) && (control.len() - 33).is_multiple_of(32);
    if !fits {
        return Err(ScriptError::TaprootWrongControlSize);
    }
    let mismatch = |_| ScriptError::WitnessProgramMismatch;
    let block = ControlBlock::decode(&control).map_err(|_| ScriptError::WitnessProgramMismatch)?;
    let key = XOnlyPublicKey::from_slice(program).map_err(mismatch)?;
    let tapscript = Script::from_bytes(&script);
    if !block.verify_taproot_commitment(&SECP, key, tapscript) {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    if block.leaf_version != LeafVersion::TapScript {
        return if spend.rules.policy {
            Err(ScriptError::DiscourageUpgradableTaprootVersion)
        } else {
            Ok(())
        };
    }
    if has_op_success(&script)? {
        return if spend.rules.policy {
            Err(ScriptError::DiscourageOpSuccess)
        } else {
            Ok(())
        };
    }
    if items.len() > MAX_WITNESS_STACK {
        return Err(ScriptError::StackSize);
    }
    let leaf = TapLeafHash::from_script(tapscript, LeafVersion::TapScript);
    let budget = i64::try_from(witness_size).unwrap_or(i64::MAX - VALIDATION_WEIGHT_OFFSET)
        + VALIDATION_WEIGHT_OFFSET;
    run_witness_script(
        spend,
        &script,
        items,
        Mode::Tapscript {
            leaf,
            annex,
            budget,
        },
    )
}

fn run_witness_script(
    spend: &Spend<'_>,
    script: &[u8],
    items: Vec<Vec<u8>>,
    mode: Mode,
) -> Result<(), ScriptError> {
    if items.iter().any(|item| item.len() > MAX_ELEMENT_SIZE) {
        return Err(ScriptError::PushSize);
    }
    let stack = run(spend, script, Stack::new(items), mode)?;
    // A witness script must always leave exactly one item (BIP 141).
    match (stack.items().len(), stack.is_empty()) {
        (1, _) if stack.top_is_true() => Ok(()),
        (1, _) => Err(ScriptError::EvalFalse),
        _ => Err(ScriptError::Cleanstack),
    }
}

#[cfg(test)]
mod tests;
