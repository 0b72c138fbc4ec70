//! The stage on which the cases play: a chain, and the record of what happens to it.

use bitcoin::{Amount, Block, ScriptBuf, Transaction, TxOut};

use super::build::{Coin, Key, open, out};
use super::{Case, Event, Subject};
use crate::chain::{Chain, Config};
use crate::reject::Reject;

pub(super) struct Scene {
    pub(super) chain: Chain,
    pub(super) key: Key,
    pub(super) other: Key,
    events: Vec<Event>,
    recorded_height: u32,
    recorded_time: u32,
}

impl Scene {
    pub(super) fn new() -> Self {
        let chain = Chain::new(Config::default());
        let mut scene = Self {
            chain,
            key: Key::new(1),
            other: Key::new(2),
            events: Vec::new(),
            recorded_height: 0,
            recorded_time: 0,
        };
        scene.record();
        scene
    }

    pub(super) fn finish(mut self) -> Vec<Event> {
        self.settle();
        self.events
    }

    /// Records the clock and the blocks that are new since the last time.
    fn record(&mut self) {
        if self.chain.time() != self.recorded_time {
            self.recorded_time = self.chain.time();
            self.events.push(Event::Time(self.recorded_time));
        }
        while self.recorded_height < self.chain.height() {
            self.recorded_height += 1;
            let hash = self.chain.block_hash(self.recorded_height);
            if let Some(block) = hash.and_then(|hash| self.chain.block(&hash)) {
                self.events.push(Event::Setup((**block).clone()));
            }
        }
    }

    /// Mines blocks with what is in the mempool.
    pub(super) fn generate(&mut self, count: u32) {
        self.chain.generate(count);
        self.record();
    }

    /// Mines until the mempool is empty.
    pub(super) fn settle(&mut self) {
        while !self.chain.mempool().is_empty() {
            self.generate(1);
        }
    }

    /// Mines exactly these transactions, standard or not.
    pub(super) fn mine(&mut self, txs: &[Transaction]) {
        let mined = self.chain.mine(txs);
        debug_assert!(mined.is_ok(), "{mined:?}");
        self.record();
    }

    /// Confirmed coins of any scripts, in one block.
    pub(super) fn coins_of(&mut self, outputs: Vec<TxOut>) -> Vec<Coin> {
        let count = u32::try_from(outputs.len()).unwrap_or(0);
        let tx = self
            .chain
            .faucet_payments(outputs)
            .expect("the faucet has enough coins");
        self.mine(core::slice::from_ref(&tx));
        (0..count).map(|vout| Coin::of(&tx, vout)).collect()
    }

    pub(super) fn coin_of(&mut self, script: ScriptBuf, sat: u64) -> Coin {
        let mut coins = self.coins_of(vec![out(script, sat)]);
        coins.remove(0)
    }

    /// A confirmed coin that anybody can spend.
    pub(super) fn coin(&mut self, sat: u64) -> Coin {
        self.coin_of(open(), sat)
    }

    /// Several of them.
    pub(super) fn coins(&mut self, count: usize, sat: u64) -> Vec<Coin> {
        self.coins_of(vec![out(open(), sat); count])
    }

    /// Sends a transaction that must be accepted, to set the stage.
    pub(super) fn send(&mut self, tx: &Transaction) {
        let sent = self.chain.send(tx);
        debug_assert!(sent.is_ok(), "{sent:?}");
        self.record();
        self.events.push(Event::SetupTx(tx.clone()));
    }

    pub(super) fn accept(&mut self, name: &str, tx: &Transaction) {
        self.transaction(name, tx, None);
    }

    pub(super) fn refuse(&mut self, name: &str, tx: &Transaction, reason: &str) {
        self.transaction(name, tx, Some(reason));
    }

    pub(super) fn transaction(&mut self, name: &str, tx: &Transaction, expected: Option<&str>) {
        self.record();
        let got = self.chain.send(tx).err();
        self.case(name, Subject::Transaction(tx.clone()), expected, got);
    }

    pub(super) fn package(&mut self, name: &str, txs: &[Transaction], expected: Option<&str>) {
        self.record();
        let result = self.chain.submit_package(txs);
        let got = result.reason().map(str::to_owned);
        self.push_case(name, Subject::Package(txs.to_vec()), expected, got);
    }

    /// Hands in a block; an accepted one becomes the tip.
    pub(super) fn block(&mut self, name: &str, block: Block, expected: Option<&str>) {
        self.record();
        let got = self.chain.submit_block(block.clone()).err();
        self.recorded_height = self.chain.height();
        self.case(name, Subject::Block(block), expected, got);
    }

    fn case(&mut self, name: &str, subject: Subject, expected: Option<&str>, got: Option<Reject>) {
        self.push_case(name, subject, expected, got.map(|reject| reject.reason));
    }

    fn push_case(
        &mut self,
        name: &str,
        subject: Subject,
        expected: Option<&str>,
        got: Option<String>,
    ) {
        let expected = expected.map(str::to_owned);
        self.events.push(Event::Case(Case {
            name: name.to_owned(),
            subject,
            expected,
            got,
        }));
    }
}

/// An amount in satoshi.
pub(super) fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}
