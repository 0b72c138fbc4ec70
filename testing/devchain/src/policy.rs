//! Standardness: what Bitcoin Core relays, beyond what is valid.

use bitcoin::opcodes::all as op;
use bitcoin::{Script, Transaction, TxOut};

use crate::coins::{Coin, is_unspendable};
use crate::reject::Reject;

/// The relay policy of the mempool. Feerates are in satoshi per 1000 virtual bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The lowest feerate that is relayed at all (Core 31: 100).
    pub min_relay_feerate: u64,
    /// What a replacement must pay more, per its own size (Core 31: 100).
    pub incremental_relay_feerate: u64,
    /// An output that costs more than its value to spend at this feerate is dust (3000).
    pub dust_relay_feerate: u64,
    /// A floor above the minimum relay feerate, as a full mempool has it; 0 for none.
    pub mempool_min_feerate: u64,
    /// Whether nonstandard transactions are refused, as on mainnet.
    pub require_standard: bool,
    /// Bytes of `OP_RETURN` scripts that one transaction may carry (Core 31: 100,000).
    pub max_datacarrier_bytes: usize,
    /// Transactions in one cluster (64).
    pub cluster_count: usize,
    /// Adjusted weight of one cluster (404,000, that is 101 kvB).
    pub cluster_weight: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_relay_feerate: 100,
            incremental_relay_feerate: 100,
            dust_relay_feerate: 3000,
            mempool_min_feerate: 0,
            require_standard: true,
            max_datacarrier_bytes: 100_000,
            cluster_count: 64,
            cluster_weight: 404_000,
        }
    }
}

const MAX_STANDARD_TX_WEIGHT: u64 = 400_000;
pub(crate) const MIN_STANDARD_TX_NONWITNESS_SIZE: usize = 65;
const MAX_STANDARD_SCRIPTSIG_SIZE: usize = 1_650;
pub(crate) const MAX_STANDARD_TX_SIGOPS_COST: usize = 16_000;
const MAX_TX_LEGACY_SIGOPS: usize = 2_500;
const MAX_P2SH_SIGOPS: usize = 15;
const MAX_DUST_OUTPUTS_PER_TX: usize = 1;
const MAX_P2WSH_SCRIPT_SIZE: usize = 3_600;
const MAX_P2WSH_STACK_ITEMS: usize = 100;
const MAX_P2WSH_STACK_ITEM_SIZE: usize = 80;
const MAX_TAPSCRIPT_STACK_ITEM_SIZE: usize = 80;
const BYTES_PER_SIGOP: u64 = 20;
pub(crate) const TRUC_VERSION: i32 = 3;
pub(crate) const TRUC_MAX_VSIZE: u64 = 10_000;
pub(crate) const TRUC_CHILD_MAX_VSIZE: u64 = 1_000;

/// The fee for `vsize` virtual bytes at a feerate per 1000 of them, rounded up.
pub(crate) fn fee_for(feerate: u64, vsize: u64) -> u64 {
    (feerate.saturating_mul(vsize)).div_ceil(1000)
}

/// Weight, or what the signature operations weigh if that is more.
pub(crate) fn adjusted_weight(weight: u64, sigop_cost: usize) -> u64 {
    weight.max(
        u64::try_from(sigop_cost)
            .unwrap_or(u64::MAX)
            .saturating_mul(BYTES_PER_SIGOP),
    )
}

/// The kinds of output script that the policy tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputKind {
    NonStandard,
    PubKey,
    PubKeyHash,
    ScriptHash,
    Multisig { required: u8, keys: u8 },
    NullData,
    WitnessV0KeyHash,
    WitnessV0ScriptHash,
    Taproot,
    Anchor,
    WitnessUnknown,
}

/// Recognises an output script.
pub(crate) fn classify(script: &Script) -> OutputKind {
    let bytes = script.as_bytes();
    if script.is_p2sh() {
        return OutputKind::ScriptHash;
    }
    if let Some((version, program)) = witness_program(script) {
        return match (version, program.len()) {
            (0, 20) => OutputKind::WitnessV0KeyHash,
            (0, 32) => OutputKind::WitnessV0ScriptHash,
            (1, 32) => OutputKind::Taproot,
            _ if is_anchor(script) => OutputKind::Anchor,
            (0, _) => OutputKind::NonStandard,
            _ => OutputKind::WitnessUnknown,
        };
    }
    if bytes.first() == Some(&op::OP_RETURN.to_u8()) {
        let rest = Script::from_bytes(&bytes[1..]);
        return if is_push_only(rest) {
            OutputKind::NullData
        } else {
            OutputKind::NonStandard
        };
    }
    if script.is_p2pk() {
        return OutputKind::PubKey;
    }
    if script.is_p2pkh() {
        return OutputKind::PubKeyHash;
    }
    multisig(bytes).unwrap_or(OutputKind::NonStandard)
}

/// The witness version and program, if the script is one (BIP 141).
pub(crate) fn witness_program(script: &Script) -> Option<(u8, &[u8])> {
    let bytes = script.as_bytes();
    let version = match bytes.first()? {
        0 => 0,
        v @ 0x51..=0x60 => v - 0x50,
        _ => return None,
    };
    let len = usize::from(*bytes.get(1)?);
    let program = &bytes[2..];
    ((2..=40).contains(&len) && program.len() == len).then_some((version, program))
}

/// Pay-to-anchor: witness version 1 with the program 0x4e73.
pub(crate) fn is_anchor(script: &Script) -> bool {
    script.as_bytes() == [0x51, 0x02, 0x4e, 0x73]
}

fn multisig(bytes: &[u8]) -> Option<OutputKind> {
    let small = |b: u8| (0x51..=0x60).contains(&b).then(|| b - 0x50);
    let required = small(*bytes.first()?)?;
    if *bytes.last()? != op::OP_CHECKMULTISIG.to_u8() {
        return None;
    }
    let mut at = 1;
    let mut found = 0u8;
    while let Some(len @ (33 | 65)) = bytes.get(at).map(|b| usize::from(*b)) {
        let key = bytes.get(at + 1..at + 1 + len)?;
        if !matches!((len, key[0]), (33, 2 | 3) | (65, 4 | 6 | 7)) {
            return None;
        }
        at += 1 + len;
        found = found.checked_add(1)?;
    }
    let keys = small(*bytes.get(at)?)?;
    (at + 2 == bytes.len() && keys == found && required <= keys)
        .then_some(OutputKind::Multisig { required, keys })
}

/// Whether a script only pushes data; an undecodable script does not.
pub(crate) fn is_push_only(script: &Script) -> bool {
    script.instructions().all(|i| match i {
        Ok(bitcoin::script::Instruction::PushBytes(_)) => true,
        Ok(bitcoin::script::Instruction::Op(opcode)) => opcode.to_u8() <= 0x60,
        Err(_) => false,
    })
}

/// Below this value an output is dust.
pub(crate) fn dust_threshold(out: &TxOut, feerate: u64) -> u64 {
    if is_unspendable(&out.script_pubkey) {
        return 0;
    }
    let script_len = out.script_pubkey.len();
    let prefix = if script_len < 253 { 1 } else { 3 };
    let spend = if witness_program(&out.script_pubkey).is_some() {
        67
    } else {
        148
    };
    let size = u64::try_from(8 + prefix + script_len + spend).unwrap_or(u64::MAX);
    fee_for(feerate, size)
}

/// The positions of the dust outputs.
pub(crate) fn dust_outputs(tx: &Transaction, feerate: u64) -> Vec<u32> {
    (0u32..)
        .zip(&tx.output)
        .filter(|(_, out)| out.value.to_sat() < dust_threshold(out, feerate))
        .map(|(index, _)| index)
        .collect()
}

/// The checks on a transaction that need no knowledge of what it spends.
pub(crate) fn check_standard_tx(tx: &Transaction, policy: &Policy) -> Result<(), Reject> {
    if !(1..=3).contains(&tx.version.0) {
        return Err(Reject::policy("version"));
    }
    if tx.weight().to_wu() > MAX_STANDARD_TX_WEIGHT {
        return Err(Reject::policy("tx-size"));
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_STANDARD_SCRIPTSIG_SIZE {
            return Err(Reject::policy("scriptsig-size"));
        }
        if !is_push_only(&input.script_sig) {
            return Err(Reject::policy("scriptsig-not-pushonly"));
        }
    }
    let mut datacarrier_left = policy.max_datacarrier_bytes;
    for out in &tx.output {
        match classify(&out.script_pubkey) {
            OutputKind::NonStandard => return Err(Reject::policy("scriptpubkey")),
            OutputKind::Multisig { required, keys } => {
                if !(1..=3).contains(&keys) || !(1..=keys).contains(&required) {
                    return Err(Reject::policy("scriptpubkey"));
                }
            }
            OutputKind::NullData => {
                datacarrier_left = datacarrier_left
                    .checked_sub(out.script_pubkey.len())
                    .ok_or_else(|| Reject::policy("datacarrier"))?;
            }
            OutputKind::PubKey
            | OutputKind::PubKeyHash
            | OutputKind::ScriptHash
            | OutputKind::WitnessV0KeyHash
            | OutputKind::WitnessV0ScriptHash
            | OutputKind::Taproot
            | OutputKind::Anchor
            | OutputKind::WitnessUnknown => {}
        }
    }
    if dust_outputs(tx, policy.dust_relay_feerate).len() > MAX_DUST_OUTPUTS_PER_TX {
        return Err(Reject::policy("dust"));
    }
    Ok(())
}

/// Whether all spent outputs are of kinds that are relayed when spent.
pub(crate) fn are_inputs_standard(tx: &Transaction, spent: &[Coin]) -> bool {
    let mut legacy_sigops = 0;
    for (input, coin) in tx.input.iter().zip(spent) {
        let script = &coin.out.script_pubkey;
        legacy_sigops += input.script_sig.count_sigops();
        let redeem = script
            .is_p2sh()
            .then(|| last_push(&input.script_sig))
            .flatten();
        legacy_sigops += match &redeem {
            Some(redeem) => Script::from_bytes(redeem).count_sigops(),
            None => script.count_sigops(),
        };
        match classify(script) {
            OutputKind::NonStandard | OutputKind::WitnessUnknown => return false,
            OutputKind::ScriptHash => match &redeem {
                None => return false,
                Some(redeem) => {
                    if Script::from_bytes(redeem).count_sigops() > MAX_P2SH_SIGOPS {
                        return false;
                    }
                }
            },
            OutputKind::PubKey
            | OutputKind::PubKeyHash
            | OutputKind::Multisig { .. }
            | OutputKind::NullData
            | OutputKind::WitnessV0KeyHash
            | OutputKind::WitnessV0ScriptHash
            | OutputKind::Taproot
            | OutputKind::Anchor => {}
        }
    }
    legacy_sigops <= MAX_TX_LEGACY_SIGOPS
}

/// Whether the witnesses stay within the limits of relay.
pub(crate) fn is_witness_standard(tx: &Transaction, spent: &[Coin]) -> bool {
    tx.input.iter().zip(spent).all(|(input, coin)| {
        if input.witness.is_empty() {
            return true;
        }
        let script = &coin.out.script_pubkey;
        if is_anchor(script) {
            return false;
        }
        let p2sh = script.is_p2sh();
        let redeem = if p2sh {
            last_push(&input.script_sig)
        } else {
            None
        };
        let program_script = match (&redeem, p2sh) {
            (Some(redeem), _) => Script::from_bytes(redeem),
            (None, true) => return false,
            (None, false) => script.as_script(),
        };
        let items: Vec<&[u8]> = input.witness.iter().collect();
        match witness_program(program_script) {
            None => false,
            Some((0, program)) if program.len() == 32 => {
                let (script, stack) = items.split_last().unwrap_or((&items[0], &[]));
                script.len() <= MAX_P2WSH_SCRIPT_SIZE
                    && stack.len() <= MAX_P2WSH_STACK_ITEMS
                    && stack.iter().all(|i| i.len() <= MAX_P2WSH_STACK_ITEM_SIZE)
            }
            Some((1, program)) if program.len() == 32 && !p2sh => is_taproot_standard(&items),
            Some(_) => true,
        }
    })
}

fn is_taproot_standard(items: &[&[u8]]) -> bool {
    if items.len() >= 2 && items.last().is_some_and(|i| i.first() == Some(&0x50)) {
        return false; // An annex has no meaning yet.
    }
    match items {
        [] => false,
        [_signature] => true,
        [stack @ .., _script, control] => {
            let Some(leaf) = control.first() else {
                return false;
            };
            leaf & 0xfe != 0xc0
                || stack
                    .iter()
                    .all(|item| item.len() <= MAX_TAPSCRIPT_STACK_ITEM_SIZE)
        }
    }
}

/// The last element that a push-only script leaves on the stack.
pub(crate) fn last_push(script: &Script) -> Option<Vec<u8>> {
    let mut last = None;
    for instruction in script.instructions() {
        last = match instruction.ok()? {
            bitcoin::script::Instruction::PushBytes(bytes) => Some(bytes.as_bytes().to_vec()),
            bitcoin::script::Instruction::Op(opcode) => match opcode.to_u8() {
                0x4f => Some(vec![0x81]),
                n @ 0x51..=0x60 => Some(vec![n - 0x50]),
                _ => return None,
            },
        };
    }
    last
}
