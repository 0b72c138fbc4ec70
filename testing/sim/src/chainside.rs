//! Blocks, and how nodes hear of them.

use std::{collections::VecDeque, sync::Arc};

use bitcoin::Transaction;
use fulmen_devchain::burn_script;
use fulmen_node::{Block, BlockId, Input};
use fulmen_types::BlockHeight;

use crate::{
    phase::Phase,
    world::{Happening, World},
};

/// How many blocks a node that is up is behind at most before it hears of all of them at once.
const MOST_BEHIND: u32 = 2;
/// Feerates stay below, in sat per 1000 weight units.
const HIGHEST_FEERATE: u32 = 20_000;
/// How many blocks in a thousand come after a rise for good, where there are such.
const RISES: u64 = 200;

impl World {
    /// A block is found; perhaps it takes the place of others.
    pub(crate) fn mine(&mut self) {
        let seconds = u32::try_from(self.now / 1_000).unwrap_or(u32::MAX);
        self.chain.set_time(seconds.max(self.chain.time()));
        let mut blocks = 1;
        let deepest = self.plan.deepest_reorg;
        let room = self.chain.height() > self.first_height + deepest + 1;
        if self.faults.reorg > 0 && room && self.rng.chance(self.faults.reorg) {
            let depth = u32::try_from(self.rng.between(1, deepest.into())).unwrap_or(1);
            let fork = self.chain.height() + 1 - depth;
            if let Some(hash) = self.chain.block_hash(fork)
                && self.chain.invalidate_block(&hash).is_ok()
            {
                self.stats.reorgs += 1;
                blocks += depth;
                self.say(format!("{depth} blocks from height {fork} on are replaced"));
            }
        }
        self.close_in_silence();
        self.raise_market();
        self.trouble_mempool();
        self.cycle_claims();
        for _ in 0..blocks {
            self.mine_one();
            self.note_spends();
            self.look_for_breaches();
            self.stats.blocks += 1;
        }
        self.change_feerates();
        let tip = self.chain.tip();
        let count = self.chain.block(&tip).map_or(0, |b| b.txdata.len()) - 1;
        self.say(format!(
            "block {} with {count} transactions",
            self.chain.height()
        ));
        for host in 0..self.hosts.len() {
            self.ask_chain(host);
        }
        let interval = self.block_interval();
        let pause = self.rng.between(interval / 2, interval * 3 / 2);
        self.after(pause.max(1), Happening::Mine);
    }

    /// Transactions are dropped, or left out for some blocks.
    fn trouble_mempool(&mut self) {
        let height = self.chain.height();
        self.censored.retain(|_, until| *until > height);
        for (permille, is_eviction) in [(self.faults.evict, true), (self.faults.censor, false)] {
            if permille == 0 || self.chain.mempool().is_empty() || !self.rng.chance(permille) {
                continue;
            }
            let place = self.rng.index(self.chain.mempool().len());
            let Some(txid) = self
                .chain
                .mempool()
                .iter()
                .nth(place)
                .map(|(txid, _)| *txid)
            else {
                continue;
            };
            if is_eviction {
                let count = self.chain.evict(&txid);
                self.say(format!(
                    "{txid} is dropped from the mempool, {count} in all"
                ));
                self.stats.evictions += 1;
            } else if self.ever_censored.insert(txid) {
                let blocks = u32::try_from(self.rng.between(1, 3)).unwrap_or(1);
                self.censored.insert(txid, height + blocks);
                self.say(format!("miners leave {txid} out for {blocks} blocks"));
                self.stats.censored += 1;
            }
        }
    }

    /// A miner takes what it likes: by chunks, what pays enough and is not censored; or nothing at all.
    fn mine_one(&mut self) {
        let empty = self.faults.empty_block;
        if empty > 0 && self.empty_in_a_row < 2 && self.rng.chance(empty) {
            self.empty_in_a_row += 1;
            self.stats.empty_blocks += 1;
            let mined = self.chain.generate_block(&[], &burn_script());
            debug_assert!(mined.is_ok(), "an empty block is valid");
            return;
        }
        self.empty_in_a_row = 0;
        if self.censored.is_empty() && !self.plan.fee_market {
            self.chain.generate_to_script(1, &burn_script());
            return;
        }
        let least = u64::from(self.least_feerate());
        let mut txs: Vec<Transaction> = Vec::new();
        for cluster in self.chain.mempool().linearized() {
            for chunk in cluster {
                let pays = chunk.fee.saturating_mul(1_000) >= least.saturating_mul(chunk.weight);
                let is_censored =
                    |tx: &Arc<Transaction>| self.censored.contains_key(&tx.compute_txid());
                // What follows in the cluster may spend what is left out.
                if !pays || chunk.txs.iter().any(is_censored) {
                    break;
                }
                txs.extend(chunk.txs.iter().map(|tx| (**tx).clone()));
            }
        }
        if let Err(reject) = self.chain.generate_block(&txs, &burn_script()) {
            self.fail(format!("the miner's block is refused: {reject:?}"));
        }
    }

    /// What a miner asks for at least.
    fn least_feerate(&self) -> u32 {
        match self.phase {
            Phase::Over => 0,
            _ if !self.plan.fee_market => 0,
            Phase::Pay | Phase::Heal => self.market_feerate(),
            Phase::Open | Phase::Close | Phase::Settle => self.plan.feerates[0],
        }
    }

    /// What miners ask for at least while there are payments, where there is a market.
    pub(crate) fn market_feerate(&self) -> u32 {
        self.plan.feerates[0] * self.plan.miners_ask
    }

    /// Miners ask for more from now on, for good, while claims wait for them already.
    fn raise_market(&mut self) {
        let is_time = matches!(self.phase, Phase::Close | Phase::Settle);
        if !self.plan.market_rises
            || !is_time
            || self.spike.is_some()
            || self.chain.mempool().is_empty()
            || !self.rng.chance(RISES)
        {
            return;
        }
        let factor = u32::try_from(self.rng.between(2, 6)).unwrap_or(2);
        if self.plan.feerates[2] * factor > HIGHEST_FEERATE {
            return;
        }
        self.plan.feerates = self.plan.feerates.map(|rate| rate * factor);
        self.highest_feerate = self.highest_feerate.max(self.plan.feerates[2]);
        self.say(format!("feerates rise to {:?}", self.plan.feerates));
    }

    /// Estimates go up and down, and every node hears of it when it hears of a block.
    fn change_feerates(&mut self) {
        let height = self.chain.height();
        if let Some((until, before)) = self.spike {
            if height >= until {
                self.spike = None;
                self.plan.feerates = before;
                self.say(format!("the spike is over: feerates are {before:?}"));
            }
            return;
        }
        if self.phase == Phase::Over {
            return;
        }
        if self.faults.spike > 0 && self.rng.chance(self.faults.spike) {
            let factor = u32::try_from(self.rng.between(2, 8)).unwrap_or(2);
            let blocks = u32::try_from(self.rng.between(2, 8)).unwrap_or(2);
            self.spike = Some((height + blocks, self.plan.feerates));
            self.plan.feerates = self
                .plan
                .feerates
                .map(|rate| (rate * factor).clamp(253, HIGHEST_FEERATE));
            self.stats.spikes += 1;
        } else if self.rng.chance(self.plan.feerate_change) {
            let up = self.rng.chance(500);
            self.plan.feerates = self.plan.feerates.map(|rate| {
                let changed = if up { rate * 3 / 2 } else { rate * 2 / 3 };
                changed.clamp(253, HIGHEST_FEERATE)
            });
        } else {
            return;
        }
        self.highest_feerate = self.highest_feerate.max(self.plan.feerates[2]);
        self.say(format!("feerates are {:?}", self.plan.feerates));
    }

    /// A node's chain source looks for what is next.
    pub(crate) fn ask_chain(&mut self, index: usize) {
        let known = self.hosts[index].node.as_ref().map(|n| n.chain_tip()[0]);
        let known = known.map_or(0, |tip| tip.height.to_u32());
        // Late, but not ever later: who is too far behind catches up, to the best block.
        let behind = self.chain.height().saturating_sub(known);
        let host = &mut self.hosts[index];
        host.catches_up = behind > MOST_BEHIND || (host.catches_up && behind > 0);
        let most = if host.catches_up {
            0
        } else {
            self.faults.block_delay * host.lag
        };
        let delay = 1 + self.delay(most);
        let host = &mut self.hosts[index];
        if host.node.is_none() || host.chain_step {
            return;
        }
        host.chain_step = true;
        let boot = host.boot;
        self.after(delay, Happening::ChainStep { host: index, boot });
    }

    /// A node hears of one block, or of the end of one.
    pub(crate) fn chain_step(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.chain_step = false;
        let Some(tip) = host.node.as_ref().map(|node| node.chain_tip()[0]) else {
            return;
        };
        let height = tip.height.to_u32();
        if !self.chain.is_active(&tip.hash) {
            self.feed(index, Input::BlockDisconnected(tip));
            return self.ask_chain(index);
        }
        if height < self.chain.height() {
            let Some(block) = self.block(index, height + 1) else {
                return;
            };
            self.feed(index, Input::BlockConnected(Arc::new(block)));
            return self.ask_chain(index);
        }
        let balance = self.hosts[index].wallet.balance(&self.chain, height);
        let feerates = Input::Feerates(self.feerates());
        let inputs = [Input::WalletBalance(balance), feerates, Input::BestTip(tip)];
        self.feed_all(index, VecDeque::from(inputs));
        self.check_deadlines(index);
    }

    fn block(&self, index: usize, height: u32) -> Option<Block> {
        let hash = self.chain.block_hash(height)?;
        let block = self.chain.block(&hash)?;
        let host = &self.hosts[index];
        let transactions = (0u32..)
            .zip(&block.txdata)
            .filter(|(_, tx)| !host.filtered || host.watches(tx))
            .map(|(place, tx)| (place, tx.clone()))
            .collect();
        Some(Block {
            id: BlockId {
                height: BlockHeight::new(height),
                hash,
            },
            previous: block.header.prev_blockhash,
            time: block.header.time,
            transactions,
        })
    }

    /// What a new watch finds in blocks that the node has heard of already, before it hears of the next.
    pub(crate) fn late_matches(
        &self,
        index: usize,
        from: u32,
        inputs: &mut VecDeque<Input>,
        matches: impl Fn(&Transaction) -> bool,
    ) {
        let Some(node) = &self.hosts[index].node else {
            return;
        };
        let known = node.chain_tip();
        let oldest = known.last().map_or(0, |id| id.height.to_u32());
        let first = from.max(self.first_height.min(oldest));
        for height in first..=known[0].height.to_u32() {
            // The node's own chain, though a newer one may be the best already.
            let own = known
                .iter()
                .find(|id| id.height.to_u32() == height)
                .map(|id| id.hash);
            let Some(hash) = own.or_else(|| self.chain.block_hash(height)) else {
                continue;
            };
            let Some(block) = self.chain.block(&hash) else {
                continue;
            };
            let transactions: Vec<(u32, Transaction)> = (0u32..)
                .zip(&block.txdata)
                .filter(|(_, tx)| matches(tx))
                .map(|(place, tx)| (place, tx.clone()))
                .collect();
            if !transactions.is_empty() {
                let block = BlockId {
                    height: BlockHeight::new(height),
                    hash,
                };
                inputs.push_back(Input::LateMatches {
                    block,
                    transactions,
                });
            }
        }
    }
}
