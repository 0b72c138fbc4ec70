//! Replacement cycling: a villain keeps the claims of its peers out of blocks.
//!
//! On the real network it replaces an HTLC-timeout claim by its own claim with the preimage, at a higher fee, and
//! that one by a transaction that spends another input of it, so that nothing of both is left in mempools. What its
//! victim sees is modelled, and not the two transactions: right before a block its claim is gone, unless the
//! villain has lost the race; and then the claim is mined. The victim does not hear of it. This villain is
//! stronger than a real one: it needs no preimage, and pays nothing.

use bitcoin::{Transaction, Txid};

use crate::{plan::Trick, world::World};

/// The type of `update_fulfill_htlc`.
const UPDATE_FULFILL_HTLC: [u8; 2] = 130u16.to_be_bytes();

impl World {
    /// A message of a host is on its way onto the wire: from the moment that it would show a preimage, a villain of
    /// this kind says nothing more.
    pub(crate) fn begin_to_cycle(&mut self, host: usize, message: &[u8]) {
        let Some(villain) = self.plan.villain.filter(|v| v.host == host) else {
            return;
        };
        let Trick::Cycler { blocks, .. } = villain.trick else {
            return;
        };
        let shows = message.starts_with(&UPDATE_FULFILL_HTLC);
        if !self.villainy.waits || !shows || !self.rng.chance(300) {
            return;
        }
        self.villainy.waits = false;
        self.turn(host);
        self.hush(None);
        self.villainy.cycles_until = Some(self.chain.height() + blocks);
    }

    /// Whether a host keeps its transactions to itself.
    pub(crate) fn holds_back(&self, host: usize) -> bool {
        let height = self.chain.height();
        self.is_villain(host)
            && self
                .villainy
                .cycles_until
                .is_some_and(|until| height < until)
    }

    /// Before each block: claims of HTLCs that the villain's peers had offered are thrown out of the mempool.
    pub(crate) fn cycle_claims(&mut self) {
        let (Some(villain), true) = (self.plan.villain, self.villainy.cycles_until.is_some())
        else {
            return;
        };
        let Trick::Cycler { permille, most, .. } = villain.trick else {
            return;
        };
        if !self.holds_back(villain.host) {
            return;
        }
        let claims: Vec<(Txid, Transaction)> = self
            .chain
            .mempool()
            .iter()
            .filter(|(_, entry)| self.is_timeout_against(villain.host, &entry.tx))
            .map(|(txid, entry)| (*txid, (*entry.tx).clone()))
            .collect();
        for (txid, claim) in claims {
            let outpoints = claim.input.iter().map(|input| input.previous_output);
            let cycled = &self.villainy.cycled;
            let is_worn_out = outpoints
                .clone()
                .any(|o| cycled.get(&o).is_some_and(|count| *count >= most));
            if is_worn_out || !self.rng.chance(permille) {
                continue;
            }
            for outpoint in outpoints {
                *self.villainy.cycled.entry(outpoint).or_default() += 1;
            }
            self.chain.evict(&txid);
            self.stats.cycled += 1;
            self.say(format!(
                "n{} cycles {txid} out of the mempool",
                villain.host
            ));
        }
    }

    /// Whether a transaction claims after its expiry what a peer had offered to this host in a channel that is on
    /// chain: HTLC-timeout transactions and direct claims have a lock time, claims with a preimage have none.
    fn is_timeout_against(&self, host: usize, tx: &Transaction) -> bool {
        let txid = tx.compute_txid();
        let is_own = self.broadcasters.get(&txid) == Some(&host);
        if is_own || tx.lock_time.to_consensus_u32() == 0 {
            return false;
        }
        tx.input.iter().any(|input| {
            let parent = self.chain.transaction(&input.previous_output.txid);
            parent.is_some_and(|(parent, _)| self.closes_a_channel_of(host, &parent))
        })
    }

    fn closes_a_channel_of(&self, host: usize, tx: &Transaction) -> bool {
        let is_spent = |funding: &bitcoin::OutPoint| {
            tx.input
                .iter()
                .any(|input| input.previous_output == *funding)
        };
        self.users.channels.iter().any(|(id, plan)| {
            (plan.from == host || plan.to == host)
                && self.users.fundings.get(id).is_some_and(is_spent)
        })
    }
}
