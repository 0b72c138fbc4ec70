//! Consensus rules for transactions and blocks that need no script execution.

use std::collections::BTreeSet;

use bitcoin::block::Header;
use bitcoin::blockdata::opcodes::all::OP_RETURN;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, CompactTarget, OutPoint, Target, Transaction, TxMerkleNode, Txid,
    WitnessCommitment, WitnessMerkleNode,
};

use crate::coins::Coin;
use crate::reject::{Reject, RejectKind};

/// The proof-of-work target of regtest, in compact form; it never changes.
pub(crate) const REGTEST_BITS: u32 = 0x207f_ffff;
/// Blocks between two halvings on regtest.
const HALVING_INTERVAL: u32 = 150;
/// Depth at which a coinbase output may be spent.
pub(crate) const COINBASE_MATURITY: u32 = 100;
/// No amount may exceed 21 million bitcoin.
pub(crate) const MAX_MONEY: u64 = 2_100_000_000_000_000;
const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
const MAX_BLOCK_SIGOPS_COST: usize = 80_000;
/// How far in the future a block's time may lie, in seconds.
pub(crate) const MAX_FUTURE_BLOCK_TIME: u32 = 7_200;
/// Lock times below this are heights, from it on they are seconds since 1970.
const LOCKTIME_THRESHOLD: u32 = 500_000_000;
const WITNESS_COMMITMENT_HEADER: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// The reward of a block at `height`, without fees.
pub(crate) fn subsidy(height: u32) -> Amount {
    let halvings = height / HALVING_INTERVAL;
    Amount::from_sat(5_000_000_000u64.checked_shr(halvings).unwrap_or(0))
}

/// Rules that a transaction must obey whatever it spends.
pub(crate) fn check_transaction(tx: &Transaction) -> Result<(), Reject> {
    if tx.input.is_empty() {
        return Err(Reject::consensus("bad-txns-vin-empty"));
    }
    if tx.output.is_empty() {
        return Err(Reject::consensus("bad-txns-vout-empty"));
    }
    if tx.base_size() * 4 > 4_000_000 {
        return Err(Reject::consensus("bad-txns-oversize"));
    }
    let mut total: u64 = 0;
    for out in &tx.output {
        let sat = out.value.to_sat();
        if i64::try_from(sat).is_err() {
            return Err(Reject::consensus("bad-txns-vout-negative"));
        }
        if sat > MAX_MONEY {
            return Err(Reject::consensus("bad-txns-vout-toolarge"));
        }
        total = total.saturating_add(sat);
        if total > MAX_MONEY {
            return Err(Reject::consensus("bad-txns-txouttotal-toolarge"));
        }
    }
    let distinct: BTreeSet<&OutPoint> = tx.input.iter().map(|i| &i.previous_output).collect();
    if distinct.len() != tx.input.len() {
        return Err(Reject::consensus("bad-txns-inputs-duplicate"));
    }
    if tx.is_coinbase() {
        let len = tx.input[0].script_sig.len();
        if !(2..=100).contains(&len) {
            return Err(Reject::consensus("bad-cb-length"));
        }
    } else if tx.input.iter().any(|i| i.previous_output.is_null()) {
        return Err(Reject::consensus("bad-txns-prevout-null"));
    }
    Ok(())
}

/// Amounts and maturity of what a transaction spends; returns the fee in satoshi.
pub(crate) fn check_tx_inputs(
    tx: &Transaction,
    spent: &[Coin],
    spend_height: u32,
) -> Result<u64, Reject> {
    let mut total_in: u64 = 0;
    for coin in spent {
        if coin.coinbase && spend_height.saturating_sub(coin.height) < COINBASE_MATURITY {
            return Err(Reject::with(
                RejectKind::Premature,
                "bad-txns-premature-spend-of-coinbase",
                format!(
                    "tried to spend coinbase at depth {}",
                    spend_height.saturating_sub(coin.height)
                ),
            ));
        }
        total_in = total_in.saturating_add(coin.out.value.to_sat());
        if coin.out.value.to_sat() > MAX_MONEY || total_in > MAX_MONEY {
            return Err(Reject::consensus("bad-txns-inputvalues-outofrange"));
        }
    }
    let total_out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    total_in.checked_sub(total_out).ok_or_else(|| {
        Reject::with(
            RejectKind::Consensus,
            "bad-txns-in-belowout",
            format!(
                "value in ({}) < value out ({})",
                btc(total_in),
                btc(total_out)
            ),
        )
    })
}

/// Whether the lock time lets a transaction into a block of this height whose predecessor has
/// this median time.
pub(crate) fn is_final(tx: &Transaction, height: u32, median_time: u32) -> bool {
    let lock = tx.lock_time.to_consensus_u32();
    if lock == 0 {
        return true;
    }
    let limit = if lock < LOCKTIME_THRESHOLD {
        height
    } else {
        median_time
    };
    lock < limit || tx.input.iter().all(|i| i.sequence.0 == u32::MAX)
}

/// Whether the relative locks (BIP 68) of every input are satisfied in a block of height
/// `block_height` whose predecessor has the median time `median_time`.
///
/// `mtp_at(h)` is the median time past of the active block at height `h`.
pub(crate) fn sequence_locks_met(
    tx: &Transaction,
    spent: &[Coin],
    block_height: u32,
    median_time: u32,
    mtp_at: impl Fn(u32) -> u32,
) -> bool {
    const DISABLE: u32 = 1 << 31;
    const TYPE_TIME: u32 = 1 << 22;
    if tx.version.0.cast_unsigned() < 2 {
        return true;
    }
    tx.input.iter().zip(spent).all(|(input, coin)| {
        let sequence = input.sequence.0;
        if sequence & DISABLE != 0 {
            return true;
        }
        let value = sequence & 0xffff;
        if sequence & TYPE_TIME != 0 {
            let base = mtp_at(coin.height.saturating_sub(1));
            u64::from(median_time) >= u64::from(base) + (u64::from(value) << 9)
        } else {
            u64::from(block_height) >= u64::from(coin.height) + u64::from(value)
        }
    })
}

/// The rules for a header at its place in the chain.
pub(crate) fn check_header(header: &Header, parent_mtp: u32, now: u32) -> Result<(), Reject> {
    if header.bits != CompactTarget::from_consensus(REGTEST_BITS) {
        return Err(Reject::consensus("bad-diffbits"));
    }
    if header.time <= parent_mtp {
        return Err(Reject::consensus("time-too-old"));
    }
    if header.time > now.saturating_add(MAX_FUTURE_BLOCK_TIME) {
        return Err(Reject::consensus("time-too-new"));
    }
    if header.version.to_consensus() < 4 {
        return Err(Reject::consensus(format!(
            "bad-version(0x{:08x})",
            header.version.to_consensus()
        )));
    }
    Ok(())
}

fn check_proof_of_work(header: &Header) -> Result<(), Reject> {
    let limit = Target::from_compact(CompactTarget::from_consensus(REGTEST_BITS));
    if header.target() > limit || !header.target().is_met_by(header.block_hash()) {
        return Err(Reject::consensus("high-hash"));
    }
    Ok(())
}

/// Work and structure of a block, without its place in the chain.
pub(crate) fn check_block(block: &Block) -> Result<(), Reject> {
    check_proof_of_work(&block.header)?;
    let (root, mutated) = merkle_root(block);
    if root != Some(block.header.merkle_root) {
        return Err(Reject::consensus("bad-txnmrklroot"));
    }
    if mutated {
        return Err(Reject::consensus("bad-txns-duplicate"));
    }
    let base_size: usize = 80
        + block
            .txdata
            .iter()
            .map(Transaction::base_size)
            .sum::<usize>();
    if block.txdata.is_empty() || block.txdata.len() * 4 > 4_000_000 || base_size * 4 > 4_000_000 {
        return Err(Reject::consensus("bad-blk-length"));
    }
    if !block.txdata[0].is_coinbase() {
        return Err(Reject::consensus("bad-cb-missing"));
    }
    if block.txdata.iter().skip(1).any(Transaction::is_coinbase) {
        return Err(Reject::consensus("bad-cb-multiple"));
    }
    for tx in &block.txdata {
        check_transaction(tx)?;
    }
    let sigops: usize = block
        .txdata
        .iter()
        .flat_map(|tx| {
            let inputs = tx.input.iter().map(|i| i.script_sig.count_sigops_legacy());
            inputs.chain(
                tx.output
                    .iter()
                    .map(|o| o.script_pubkey.count_sigops_legacy()),
            )
        })
        .sum();
    if sigops * 4 > MAX_BLOCK_SIGOPS_COST {
        return Err(Reject::consensus("bad-blk-sigops"));
    }
    Ok(())
}

/// The rules for a block's content at its place in the chain, before its inputs are looked up.
pub(crate) fn check_block_in_context(
    block: &Block,
    height: u32,
    parent_mtp: u32,
) -> Result<(), Reject> {
    for tx in &block.txdata {
        if !is_final(tx, height, parent_mtp) {
            return Err(Reject::consensus("bad-txns-nonfinal"));
        }
    }
    let expected = Builder::new().push_int(i64::from(height)).into_script();
    if !block.txdata[0].input[0]
        .script_sig
        .as_bytes()
        .starts_with(expected.as_bytes())
    {
        return Err(Reject::consensus("bad-cb-height"));
    }
    check_witness_commitment(block)?;
    if block.weight().to_wu() > MAX_BLOCK_WEIGHT {
        return Err(Reject::consensus("bad-blk-weight"));
    }
    Ok(())
}

fn check_witness_commitment(block: &Block) -> Result<(), Reject> {
    let coinbase = &block.txdata[0];
    let commitment = coinbase.output.iter().rev().find_map(|out| {
        let bytes = out.script_pubkey.as_bytes();
        if bytes.len() >= 38 && bytes.starts_with(&WITNESS_COMMITMENT_HEADER) {
            bytes.get(6..38)
        } else {
            None
        }
    });
    let Some(commitment) = commitment else {
        let has_witness = block
            .txdata
            .iter()
            .any(|tx| tx.input.iter().any(|i| !i.witness.is_empty()));
        return if has_witness {
            Err(Reject::consensus("unexpected-witness"))
        } else {
            Ok(())
        };
    };
    let witness = &coinbase.input[0].witness;
    let nonce: [u8; 32] = match (witness.len(), witness.nth(0).map(<[u8; 32]>::try_from)) {
        (1, Some(Ok(nonce))) => nonce,
        _ => return Err(Reject::consensus("bad-witness-nonce-size")),
    };
    let root = witness_root(&block.txdata);
    let expected = Block::compute_witness_commitment(&root, &nonce);
    if expected.as_byte_array().as_slice() != commitment {
        return Err(Reject::consensus("bad-witness-merkle-match"));
    }
    Ok(())
}

/// The script of the coinbase output that commits to all witnesses, for a zero nonce.
pub(crate) fn witness_commitment_script(txdata: &[Transaction]) -> bitcoin::ScriptBuf {
    let commitment: WitnessCommitment =
        Block::compute_witness_commitment(&witness_root(txdata), &[0; 32]);
    let mut payload = [0u8; 36];
    payload[..4].copy_from_slice(&WITNESS_COMMITMENT_HEADER[2..]);
    payload[4..].copy_from_slice(commitment.as_byte_array());
    Builder::new()
        .push_opcode(OP_RETURN)
        .push_slice(payload)
        .into_script()
}

fn witness_root(txdata: &[Transaction]) -> WitnessMerkleNode {
    let mut hashes: Vec<[u8; 32]> = txdata
        .iter()
        .map(|tx| tx.compute_wtxid().to_byte_array())
        .collect();
    if let Some(first) = hashes.first_mut() {
        *first = [0; 32];
    }
    WitnessMerkleNode::from_byte_array(fold_merkle(hashes).0.unwrap_or([0; 32]))
}

/// The merkle root over the transactions, and whether two equal neighbours make it ambiguous
/// (CVE-2012-2459).
fn merkle_root(block: &Block) -> (Option<TxMerkleNode>, bool) {
    let txids = block
        .txdata
        .iter()
        .map(|tx| tx.compute_txid().to_byte_array())
        .collect();
    let (root, mutated) = fold_merkle(txids);
    (root.map(TxMerkleNode::from_byte_array), mutated)
}

pub(crate) fn merkle_root_of(txids: &[Txid]) -> TxMerkleNode {
    let leaves = txids.iter().map(|txid| txid.to_byte_array()).collect();
    TxMerkleNode::from_byte_array(fold_merkle(leaves).0.unwrap_or([0; 32]))
}

fn fold_merkle(mut level: Vec<[u8; 32]>) -> (Option<[u8; 32]>, bool) {
    let mut mutated = false;
    while level.len() > 1 {
        mutated |= level.chunks_exact(2).any(|pair| pair[0] == pair[1]);
        level = level
            .chunks(2)
            .map(|pair| {
                let right = pair.last().unwrap_or(&pair[0]);
                let mut joined = [0u8; 64];
                joined[..32].copy_from_slice(&pair[0]);
                joined[32..].copy_from_slice(right);
                bitcoin::hashes::sha256d::Hash::hash(&joined).to_byte_array()
            })
            .collect();
    }
    (level.first().copied(), mutated)
}

/// The cost in signature operations of one transaction; too many in a block are refused.
pub(crate) fn sigop_cost(tx: &Transaction, spent: &[Coin]) -> usize {
    tx.total_sigop_cost(|outpoint| {
        let index = tx
            .input
            .iter()
            .position(|i| i.previous_output == *outpoint)?;
        spent.get(index).map(|coin| coin.out.clone())
    })
}

/// Refuses a block whose transactions together cost too many signature operations.
pub(crate) fn check_block_sigops(total: usize) -> Result<(), Reject> {
    if total > MAX_BLOCK_SIGOPS_COST {
        return Err(Reject::consensus("bad-blk-sigops"));
    }
    Ok(())
}

/// Mines: counts the nonce up until the header meets its own target.
pub(crate) fn solve(block: &mut Block) {
    let target = block.header.target();
    while !target.is_met_by(block.header.block_hash()) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
}

/// An amount in bitcoin with eight decimals, as Bitcoin Core prints it.
pub(crate) fn btc(sat: u64) -> String {
    format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000)
}

/// The bytes of a transaction as they go over the wire.
pub(crate) fn tx_bytes(tx: &Transaction) -> Vec<u8> {
    serialize(tx)
}
