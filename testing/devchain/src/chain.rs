//! The chain: blocks, coins, reorganisations and the mempool that follows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction,
    TxIn, TxOut, Txid, Witness, Wtxid, absolute,
};

use crate::coins::{Coin, CoinSet, Journal};
use crate::consensus::{
    self, MAX_FUTURE_BLOCK_TIME, REGTEST_BITS, check_block, check_block_in_context,
    check_block_sigops, check_header, check_tx_inputs, merkle_root_of, sequence_locks_met,
    sigop_cost, solve, subsidy, witness_commitment_script,
};
use crate::mempool::Mempool;
use crate::policy::Policy;
use crate::reject::{Reject, RejectKind};
use crate::script;

/// Weight that the miner leaves for the header and the coinbase.
const TEMPLATE_RESERVED_WEIGHT: u64 = 8_000;
/// So many verified transactions are remembered before the memory is emptied.
const VERIFIED_CAPACITY: usize = 50_000;

/// How a chain begins and behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The time at the start, in seconds since 1970.
    pub start_time: u32,
    /// Mining a block moves the chain's clock on by so many seconds; 0 leaves the clock to
    /// [`Chain::set_time`].
    pub block_interval: u32,
    /// Blocks mined to the faucet at the start; from 101 on the faucet has coins to give.
    pub initial_blocks: u32,
    /// The relay policy.
    pub policy: Policy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            start_time: 1_750_000_000,
            block_interval: 600,
            initial_blocks: 110,
            policy: Policy::default(),
        }
    }
}

/// What became of a block that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is in the active chain now.
    Active,
    /// It is valid as far as checked, on a branch with no more work than the active chain.
    SideBranch,
    /// It was known before.
    Duplicate,
}

#[derive(Clone, Debug)]
struct Node {
    block: Arc<Block>,
    height: u32,
    /// The order of arrival: the first of two equally long branches wins.
    sequence: u64,
    invalid: bool,
    /// What connecting it did to the coins, while it is in the active chain.
    journal: Option<Arc<Journal>>,
}

/// A regtest chain with its coins and mempool.
///
/// It is a plain value: no threads, no clock, no randomness. The same calls always give the same
/// hashes, and a clone goes its own way.
#[derive(Clone, Debug)]
pub struct Chain {
    nodes: BTreeMap<BlockHash, Node>,
    active: Vec<BlockHash>,
    positions: BTreeMap<Txid, BlockHash>,
    coins: CoinSet,
    pub(crate) mempool: Mempool,
    pub(crate) policy: Policy,
    verified: BTreeSet<Wtxid>,
    time: u32,
    block_interval: u32,
    arrivals: u64,
    mined: u64,
}

impl Chain {
    /// A chain with the regtest genesis block and the blocks that the configuration asks for.
    pub fn new(config: Config) -> Self {
        let genesis = bitcoin::constants::genesis_block(Network::Regtest);
        let hash = genesis.block_hash();
        let mut positions = BTreeMap::new();
        positions.insert(genesis.txdata[0].compute_txid(), hash);
        let node = Node {
            block: Arc::new(genesis),
            height: 0,
            sequence: 0,
            invalid: false,
            journal: Some(Arc::default()),
        };
        let mut chain = Self {
            nodes: BTreeMap::from([(hash, node)]),
            active: vec![hash],
            positions,
            coins: CoinSet::default(),
            mempool: Mempool::default(),
            policy: config.policy,
            verified: BTreeSet::new(),
            time: config.start_time,
            block_interval: config.block_interval,
            arrivals: 0,
            mined: 0,
        };
        chain.generate(config.initial_blocks);
        chain
    }

    // ---- What is there -------------------------------------------------------------------

    /// The height of the tip; the genesis block has height 0.
    pub fn height(&self) -> u32 {
        u32::try_from(self.active.len() - 1).unwrap_or(u32::MAX)
    }

    /// The hash of the tip.
    pub fn tip(&self) -> BlockHash {
        self.active[self.active.len() - 1]
    }

    /// The hash of the active block at a height.
    pub fn block_hash(&self, height: u32) -> Option<BlockHash> {
        self.active.get(usize::try_from(height).ok()?).copied()
    }

    /// A block, in the active chain or not.
    pub fn block(&self, hash: &BlockHash) -> Option<&Arc<Block>> {
        self.nodes.get(hash).map(|node| &node.block)
    }

    /// The height of a block, in the active chain or not.
    pub fn block_height(&self, hash: &BlockHash) -> Option<u32> {
        self.nodes.get(hash).map(|node| node.height)
    }

    /// Whether a block is in the active chain.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        self.block_height(hash).and_then(|h| self.block_hash(h)) == Some(*hash)
    }

    /// The ends of all branches: hash, height, and whether the branch is known to be invalid.
    pub fn tips(&self) -> Vec<(BlockHash, u32, bool)> {
        let parents: BTreeSet<BlockHash> = self
            .nodes
            .values()
            .map(|node| node.block.header.prev_blockhash)
            .collect();
        self.nodes
            .iter()
            .filter(|(hash, _)| !parents.contains(*hash) || **hash == self.tip())
            .map(|(hash, node)| (*hash, node.height, node.invalid))
            .collect()
    }

    /// An unspent output of the active chain; what the mempool spends still counts.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    /// All unspent outputs of the active chain.
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// How many unspent outputs there are.
    pub fn coin_count(&self) -> usize {
        self.coins.len()
    }

    /// The coins that an active block spent, in the order of its inputs.
    pub fn spent_by_block(&self, hash: &BlockHash) -> Vec<(OutPoint, Coin)> {
        let journal = self.nodes.get(hash).and_then(|node| node.journal.as_ref());
        journal
            .map(|j| {
                j.spent()
                    .map(|(outpoint, coin)| (*outpoint, coin.clone()))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// A transaction of the mempool or of the active chain, with the hash of its block.
    pub fn transaction(&self, txid: &Txid) -> Option<(Transaction, Option<BlockHash>)> {
        if let Some(entry) = self.mempool.get(txid) {
            return Some(((*entry.tx).clone(), None));
        }
        let hash = self.positions.get(txid)?;
        let block = self.block(hash)?;
        let tx = block.txdata.iter().find(|tx| tx.compute_txid() == *txid)?;
        Some((tx.clone(), Some(*hash)))
    }

    /// In how many blocks of the active chain a transaction is buried; 1 in the tip itself, 0 if
    /// it is not in the chain.
    pub fn confirmations(&self, txid: &Txid) -> u32 {
        let hash = self.positions.get(txid);
        let height = hash.and_then(|hash| self.block_height(hash));
        height.map_or(0, |height| self.height() - height + 1)
    }

    /// The unconfirmed transactions.
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// Drops a transaction, and all that depend on it, from the mempool, as a full one does. How many went.
    pub fn evict(&mut self, txid: &Txid) -> usize {
        if !self.mempool.contains(txid) {
            return 0;
        }
        self.mempool.remove_with_descendants(txid).len()
    }

    /// The relay policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Changes the relay policy from now on; what is in the mempool stays.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The chain's clock, in seconds since 1970.
    pub fn time(&self) -> u32 {
        self.time
    }

    /// Sets the chain's clock.
    pub fn set_time(&mut self, time: u32) {
        self.time = time;
    }

    /// Moves the chain's clock on.
    pub fn advance_time(&mut self, seconds: u32) {
        self.time = self.time.saturating_add(seconds);
    }

    /// Mining a block moves the clock on by so many seconds from now on; 0 leaves the clock alone.
    pub fn set_block_interval(&mut self, seconds: u32) {
        self.block_interval = seconds;
    }

    /// The median time of the last eleven blocks: the clock of lock times (BIP 113).
    pub fn median_time_past(&self) -> u32 {
        self.mtp_at(self.height())
    }

    /// The median time past of the active block at a height.
    pub fn mtp_at(&self, height: u32) -> u32 {
        self.block_hash(height).map_or(0, |hash| self.mtp_of(hash))
    }

    /// The median time past of any known block; 0 for an unknown one.
    pub fn median_time_of(&self, hash: &BlockHash) -> u32 {
        self.mtp_of(*hash)
    }

    fn mtp_of(&self, mut hash: BlockHash) -> u32 {
        let mut times = Vec::with_capacity(11);
        while let Some(node) = self.nodes.get(&hash) {
            times.push(node.block.header.time);
            if times.len() == 11 {
                break;
            }
            hash = node.block.header.prev_blockhash;
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    pub(crate) fn remember_verified(&mut self, wtxid: Wtxid) {
        if self.verified.len() >= VERIFIED_CAPACITY {
            self.verified.clear();
        }
        self.verified.insert(wtxid);
    }

    pub(crate) fn is_verified(&self, wtxid: &Wtxid) -> bool {
        self.verified.contains(wtxid)
    }

    // ---- Mining --------------------------------------------------------------------------

    /// Mines blocks that pay a script, with what the mempool offers, best feerate first.
    pub fn generate_to_script(&mut self, count: u32, script: &ScriptBuf) -> Vec<BlockHash> {
        (0..count)
            .map(|_| {
                let txs = self.select_for_block();
                let block = self.assemble(txs, script);
                let hash = block.block_hash();
                let result = self.submit_block(block);
                debug_assert_eq!(
                    result,
                    Ok(Submitted::Active),
                    "the mempool offers only valid transactions"
                );
                hash
            })
            .collect()
    }

    /// Mines one block with exactly these transactions, parents first, whatever the relay policy
    /// thinks of them. Nothing changes if the block would be invalid.
    pub fn generate_block(
        &mut self,
        txs: &[Transaction],
        script: &ScriptBuf,
    ) -> Result<BlockHash, Reject> {
        let mut fees = 0u64;
        let mut made: BTreeMap<OutPoint, Coin> = BTreeMap::new();
        let height = self.height() + 1;
        for tx in txs {
            let coins = tx.input.iter().map(|input| {
                let outpoint = &input.previous_output;
                made.get(outpoint)
                    .or_else(|| self.coins.get(outpoint))
                    .cloned()
            });
            let spent = coins.collect::<Option<Vec<Coin>>>().ok_or_else(|| {
                Reject::new(RejectKind::MissingInputs, "bad-txns-inputs-missingorspent")
            })?;
            fees += check_tx_inputs(tx, &spent, height)?;
            let txid = tx.compute_txid();
            for (vout, out) in (0u32..).zip(&tx.output) {
                let coin = Coin {
                    out: out.clone(),
                    height,
                    coinbase: false,
                };
                made.insert(OutPoint { txid, vout }, coin);
            }
        }
        let txs = txs.iter().map(|tx| (Arc::new(tx.clone()), 0)).collect();
        let time = self.time;
        let mut block = self.assemble(txs, script);
        if fees > 0 {
            block.txdata[0].output[0].value += Amount::from_sat(fees);
            self.finish(&mut block);
        }
        let hash = block.block_hash();
        if let Err(reject) = self.submit_block(block) {
            self.nodes.remove(&hash);
            self.time = time;
            return Err(reject);
        }
        Ok(hash)
    }

    /// A block on the current tip with the mempool's best transactions, ready to be handed in.
    pub fn block_template(&mut self, script: &ScriptBuf) -> Block {
        let txs = self.select_for_block();
        self.assemble(txs, script)
    }

    /// Takes chunks from the mempool's clusters by falling feerate until the block is full.
    fn select_for_block(&self) -> Vec<(Arc<Transaction>, u64)> {
        let mut clusters = self.mempool.linearized();
        for cluster in &mut clusters {
            cluster.reverse();
        }
        let mut left = 4_000_000 - TEMPLATE_RESERVED_WEIGHT;
        let mut selected = Vec::new();
        loop {
            let best = clusters
                .iter()
                .enumerate()
                .filter_map(|(i, cluster)| cluster.last().map(|chunk| (i, chunk)))
                .max_by(|(_, a), (_, b)| {
                    let (a, b) = (
                        u128::from(a.fee) * u128::from(b.weight),
                        u128::from(b.fee) * u128::from(a.weight),
                    );
                    a.cmp(&b)
                });
            let Some((index, chunk)) = best else {
                return selected;
            };
            if chunk.weight > left {
                clusters[index].clear();
                continue;
            }
            left -= chunk.weight;
            for tx in &chunk.txs {
                let fee = self
                    .mempool
                    .get(&tx.compute_txid())
                    .map_or(0, |entry| entry.fee);
                selected.push((Arc::clone(tx), fee));
            }
            clusters[index].pop();
        }
    }

    fn assemble(&mut self, txs: Vec<(Arc<Transaction>, u64)>, script: &ScriptBuf) -> Block {
        let height = self.height() + 1;
        if self.block_interval > 0 {
            self.time = self.time.saturating_add(self.block_interval);
        }
        self.mined += 1;
        let fees: u64 = txs.iter().map(|(_, fee)| fee).sum();
        let coinbase = Transaction {
            version: TxVersion::TWO,
            // Makes coinbases unique (BIP 54).
            lock_time: absolute::LockTime::from_consensus(height - 1),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: Builder::new()
                    .push_int(i64::from(height))
                    .push_slice(self.mined.to_le_bytes())
                    .into_script(),
                sequence: Sequence(u32::MAX - 1),
                witness: Witness::from_slice(&[[0u8; 32]]),
            }],
            output: vec![TxOut {
                value: subsidy(height) + Amount::from_sat(fees),
                script_pubkey: script.clone(),
            }],
        };
        let mut txdata = vec![coinbase];
        txdata.extend(txs.into_iter().map(|(tx, _)| Arc::unwrap_or_clone(tx)));
        let block_time = self.time.max(self.median_time_past() + 1);
        // Many blocks at once push the median ahead of the clock; then the clock follows, so that
        // mining never fails.
        self.time = self
            .time
            .max(block_time.saturating_sub(MAX_FUTURE_BLOCK_TIME));
        let mut block = Block {
            header: Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: self.tip(),
                merkle_root: bitcoin::TxMerkleNode::all_zeros(),
                time: block_time,
                bits: CompactTarget::from_consensus(REGTEST_BITS),
                nonce: 0,
            },
            txdata,
        };
        self.finish(&mut block);
        block
    }

    /// Commits to the content of a block and solves it.
    fn finish(&self, block: &mut Block) {
        let commitment = witness_commitment_script(&block.txdata);
        let outputs = &mut block.txdata[0].output;
        outputs.truncate(1);
        outputs.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: commitment,
        });
        let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        block.header.merkle_root = merkle_root_of(&txids);
        solve(block);
    }

    // ---- Blocks --------------------------------------------------------------------------

    /// Hands in a block. The chain with the most work becomes active; of equal ones the first.
    pub fn submit_block(&mut self, block: Block) -> Result<Submitted, Reject> {
        let hash = block.block_hash();
        if let Some(node) = self.nodes.get(&hash) {
            return if node.invalid {
                Err(Reject::consensus("duplicate-invalid"))
            } else {
                Ok(Submitted::Duplicate)
            };
        }
        check_block(&block)?;
        let parent = block.header.prev_blockhash;
        let Some(parent_node) = self.nodes.get(&parent) else {
            return Err(Reject::consensus("prev-blk-not-found"));
        };
        if parent_node.invalid {
            return Err(Reject::consensus("bad-prevblk"));
        }
        let height = parent_node.height + 1;
        let parent_mtp = self.mtp_of(parent);
        check_header(&block.header, parent_mtp, self.time)?;
        check_block_in_context(&block, height, parent_mtp)?;
        self.arrivals += 1;
        let node = Node {
            block: Arc::new(block),
            height,
            sequence: self.arrivals,
            invalid: false,
            journal: None,
        };
        self.nodes.insert(hash, node);
        if height <= self.height() {
            return Ok(Submitted::SideBranch);
        }
        if parent == self.tip() {
            return match self.connect(&hash) {
                Ok(()) => Ok(Submitted::Active),
                Err(reject) => {
                    self.mark_invalid(&hash);
                    Err(reject)
                }
            };
        }
        let outcome = self.activate_best();
        match outcome {
            _ if self.is_active(&hash) => Ok(Submitted::Active),
            Some(reject) => Err(reject),
            None => Ok(Submitted::SideBranch),
        }
    }

    /// Marks a block and its descendants invalid; the best of the other branches becomes active.
    pub fn invalidate_block(&mut self, hash: &BlockHash) -> Result<(), UnknownBlock> {
        if self.block_height(hash).is_none_or(|height| height == 0) {
            return Err(UnknownBlock(*hash));
        }
        self.mark_invalid(hash);
        self.activate_best();
        Ok(())
    }

    fn mark_invalid(&mut self, hash: &BlockHash) {
        for descendant in self.descendants(hash) {
            if let Some(node) = self.nodes.get_mut(&descendant) {
                node.invalid = true;
            }
        }
    }

    /// Takes an invalidation back, for the block, its ancestors and its descendants.
    pub fn reconsider_block(&mut self, hash: &BlockHash) -> Result<(), UnknownBlock> {
        if !self.nodes.contains_key(hash) {
            return Err(UnknownBlock(*hash));
        }
        let mut family = self.descendants(hash);
        let mut at = *hash;
        while let Some(node) = self.nodes.get(&at) {
            family.insert(at);
            at = node.block.header.prev_blockhash;
        }
        for member in family {
            if let Some(node) = self.nodes.get_mut(&member) {
                node.invalid = false;
            }
        }
        self.activate_best();
        Ok(())
    }

    fn descendants(&self, hash: &BlockHash) -> BTreeSet<BlockHash> {
        let mut by_height: Vec<(u32, &BlockHash, BlockHash)> = self
            .nodes
            .iter()
            .map(|(h, node)| (node.height, h, node.block.header.prev_blockhash))
            .collect();
        by_height.sort_unstable();
        let mut found = BTreeSet::from([*hash]);
        for (_, child, parent) in by_height {
            if found.contains(&parent) {
                found.insert(*child);
            }
        }
        found
    }

    /// Makes the branch with the most work active. Returns why a better one had to be refused.
    fn activate_best(&mut self) -> Option<Reject> {
        let mut refused = None;
        let mut disconnected: Vec<Arc<Block>> = Vec::new();
        loop {
            let best = self
                .nodes
                .iter()
                .filter(|(_, node)| !node.invalid)
                .filter(|(_, node)| node.height >= self.height() || self.tip_is_invalid())
                .max_by_key(|(_, node)| (node.height, core::cmp::Reverse(node.sequence)))
                .map(|(hash, _)| *hash);
            let Some(best) = best.filter(|best| *best != self.tip()) else {
                break;
            };
            let mut path = Vec::new();
            let mut at = best;
            while !self.is_active(&at) {
                path.push(at);
                let Some(node) = self.nodes.get(&at) else {
                    break;
                };
                at = node.block.header.prev_blockhash;
            }
            while self.tip() != at {
                disconnected.extend(self.disconnect_tip());
            }
            for hash in path.into_iter().rev() {
                if let Err(reject) = self.connect(&hash) {
                    self.mark_invalid(&hash);
                    refused = Some(reject);
                    break;
                }
            }
        }
        if !disconnected.is_empty() {
            self.mempool_after_reorg(&disconnected);
        }
        refused
    }

    fn tip_is_invalid(&self) -> bool {
        self.nodes.get(&self.tip()).is_some_and(|node| node.invalid)
    }

    fn connect(&mut self, hash: &BlockHash) -> Result<(), Reject> {
        let Some(block) = self.block(hash).cloned() else {
            return Err(Reject::consensus("prev-blk-not-found"));
        };
        let mut journal = Journal::default();
        if let Err(reject) = self.connect_transactions(&block, &mut journal) {
            self.coins.revert(&journal);
            return Err(reject);
        }
        if let Some(node) = self.nodes.get_mut(hash) {
            node.journal = Some(Arc::new(journal));
        }
        self.active.push(*hash);
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            self.positions.insert(txid, *hash);
            self.mempool.remove(&txid);
            for input in &tx.input {
                if let Some(conflict) = self.mempool.spender(&input.previous_output) {
                    self.mempool.remove_with_descendants(&conflict);
                }
            }
        }
        Ok(())
    }

    fn connect_transactions(&mut self, block: &Block, journal: &mut Journal) -> Result<(), Reject> {
        let height = self.height() + 1;
        let parent_mtp = self.median_time_past();
        let mut fees = 0u64;
        let mut sigops = 0;
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            let exists = (0u32..)
                .zip(&tx.output)
                .any(|(vout, _)| self.coins.get(&OutPoint { txid, vout }).is_some());
            if exists {
                return Err(Reject::consensus("bad-txns-BIP30"));
            }
        }
        for tx in &block.txdata {
            if tx.is_coinbase() {
                sigops += sigop_cost(tx, &[]);
            } else {
                let mut spent = Vec::with_capacity(tx.input.len());
                for input in &tx.input {
                    let coin = self.coins.spend(&input.previous_output, journal);
                    spent.push(
                        coin.ok_or_else(|| Reject::consensus("bad-txns-inputs-missingorspent"))?,
                    );
                }
                fees += check_tx_inputs(tx, &spent, height).map_err(|reject| Reject {
                    kind: RejectKind::Consensus,
                    ..reject
                })?;
                if !sequence_locks_met(tx, &spent, height, parent_mtp, |h| self.mtp_at(h)) {
                    return Err(Reject::consensus("bad-txns-nonfinal"));
                }
                sigops += sigop_cost(tx, &spent);
                check_block_sigops(sigops)?;
                let wtxid = tx.compute_wtxid();
                if !self.is_verified(&wtxid) {
                    let outs: Vec<TxOut> = spent.into_iter().map(|coin| coin.out).collect();
                    script::verify_in_block(tx, &outs)?;
                    self.remember_verified(wtxid);
                }
            }
            add_outputs(&mut self.coins, tx, height, journal);
        }
        let reward: u64 = block.txdata[0]
            .output
            .iter()
            .map(|o| o.value.to_sat())
            .sum();
        let allowed = subsidy(height).to_sat() + fees;
        if reward > allowed {
            return Err(Reject::with(
                RejectKind::Consensus,
                "bad-cb-amount",
                format!("coinbase pays too much (actual={reward} vs limit={allowed})"),
            ));
        }
        Ok(())
    }

    fn disconnect_tip(&mut self) -> Option<Arc<Block>> {
        let hash = self.active.pop()?;
        let node = self.nodes.get_mut(&hash)?;
        if let Some(journal) = node.journal.take() {
            self.coins.revert(&journal);
        }
        let block = Arc::clone(&node.block);
        for tx in &block.txdata {
            self.positions.remove(&tx.compute_txid());
        }
        Some(block)
    }

    /// Puts the transactions of disconnected blocks back and drops what is no longer valid.
    fn mempool_after_reorg(&mut self, disconnected: &[Arc<Block>]) {
        let before = self.mempool.drain();
        let from_blocks = disconnected
            .iter()
            .rev()
            .flat_map(|block| block.txdata.iter().skip(1));
        for tx in from_blocks {
            if !self.positions.contains_key(&tx.compute_txid()) {
                // What the new chain or the policy refuses is gone, as in Bitcoin Core.
                let _ = self.accept_after_reorg(tx, false);
            }
        }
        for entry in before {
            let _ = self.accept_after_reorg(&entry.tx, true);
        }
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

/// No such block is known, or it is the genesis block, which can't be invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBlock(pub BlockHash);

impl core::fmt::Display for UnknownBlock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Block not found: {}", self.0)
    }
}

impl std::error::Error for UnknownBlock {}

fn add_outputs(coins: &mut CoinSet, tx: &Transaction, height: u32, journal: &mut Journal) {
    let txid = tx.compute_txid();
    let coinbase = tx.is_coinbase();
    for (vout, out) in (0u32..).zip(&tx.output) {
        let coin = Coin {
            out: out.clone(),
            height,
            coinbase,
        };
        coins.add(OutPoint { txid, vout }, coin, journal);
    }
}

/// The reward of a block at a height on regtest, without fees.
pub fn block_subsidy(height: u32) -> Amount {
    consensus::subsidy(height)
}
