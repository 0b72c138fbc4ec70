//! Who answers a node's questions: signer, wallet, router, disk and chain.

use fulmen_node::{Answer, Ask, CoinPurpose, RequestId, UtxoAnswer, WalletError};
use fulmen_signer::{Signer, SigningAnswer};
use fulmen_types::ShortChannelId;

use crate::world::{Happening, World};

/// The longest that signer, wallet and router are away, in milliseconds, and in blocks.
const ABSENCE_MILLIS: u64 = 8_000;
const ABSENCE_BLOCKS: u64 = 3;

impl World {
    pub(crate) fn is_absent(&self, index: usize) -> bool {
        self.hosts[index].absent_until > self.now
    }

    /// Signer, wallet and router go away until a time.
    pub(crate) fn go_away(&mut self, index: usize, until: u64) {
        self.hosts[index].absent_until = until;
        let boot = self.hosts[index].boot;
        self.say(format!("n{index}: signer, wallet and router are away"));
        self.stats.absences += 1;
        self.at(until, Happening::Return { host: index, boot });
    }

    /// What a port says that is away; nothing when it just answers late.
    fn absent_answer(&mut self, ask: &Ask) -> Option<Answer> {
        if self.rng.chance(500) {
            return None;
        }
        let away = || WalletError::Unavailable("it is away".into());
        match ask {
            Ask::Sign(_) => Some(Answer::Signed(SigningAnswer::Unavailable)),
            Ask::Funding(_) => Some(Answer::Funding(Err(away()))),
            Ask::Coins(_) => Some(Answer::Coins(Err(away()))),
            Ask::WalletSign { .. } => Some(Answer::WalletSigned(Err(away()))),
            Ask::WalletScript => Some(Answer::WalletScript(Err(away()))),
            Ask::Route(_) | Ask::ReleaseCoins(_) | Ask::Record(_) | Ask::Utxo(_) => None,
        }
    }

    /// A node asks something.
    pub(crate) fn ask(&mut self, index: usize, id: RequestId, ask: Ask) {
        if self.faults.absent > 0
            && !self.is_absent(index)
            && self.has_budget()
            && self.rng.chance(self.faults.absent)
        {
            let most = ABSENCE_MILLIS.min(ABSENCE_BLOCKS * self.block_interval());
            let until = self.now + 1 + self.delay(most);
            self.go_away(index, until);
        }
        let mut delay = self.delay(self.faults.answer);
        if self.is_absent(index) {
            if let Some(answer) = self.absent_answer(&ask) {
                return self.answer(index, delay, id, answer);
            }
            if !matches!(ask, Ask::ReleaseCoins(_) | Ask::Record(_) | Ask::Utxo(_)) {
                delay += self.hosts[index].absent_until - self.now;
            }
        }
        let host = &mut self.hosts[index];
        let height = host
            .node
            .as_ref()
            .map_or(0, |n| n.chain_tip()[0].height.to_u32());
        let answer = match ask {
            Ask::Sign(request) => Answer::Signed(host.keys.answer(&request)),
            Ask::Route(query) => {
                let Some(node) = host.node.as_mut() else {
                    return;
                };
                let graph = node.graph();
                let plan = query.find_route(&graph);
                if plan.as_ref().is_ok_and(|plan| plan.parts.len() > 1) {
                    self.stats.split += 1;
                }
                Answer::Route(plan)
            }
            Ask::Funding(request) => {
                let funding = host.wallet.fund(&self.chain, height, &request);
                if let Ok(tx) = &funding {
                    self.fundings.insert(tx.compute_txid(), index);
                }
                Answer::Funding(funding)
            }
            Ask::Coins(request) => {
                Answer::Coins(Ok(host.wallet.lease(&self.chain, height, &request)))
            }
            Ask::WalletSign { transaction, spent } => {
                Answer::WalletSigned(host.wallet.sign(transaction, &spent))
            }
            Ask::ReleaseCoins(purpose) => {
                host.wallet.release(&purpose);
                if matches!(purpose, CoinPurpose::Funding(_)) {
                    self.say(format!("n{index} gives the coins of a funding back"));
                }
                return;
            }
            Ask::WalletScript => Answer::WalletScript(Ok(host.wallet.script())),
            Ask::Record(key) => Answer::Record(host.disk.read(&key)),
            Ask::Utxo(scid) => Answer::Utxo(self.utxo(scid)),
        };
        self.answer(index, delay, id, answer);
    }

    /// A node that runs until then hears the answer to its question.
    pub(crate) fn answer(&mut self, index: usize, delay: u64, id: RequestId, answer: Answer) {
        let happening = Happening::Answer {
            host: index,
            boot: self.hosts[index].boot,
            id,
            answer: Box::new(answer),
        };
        self.after(delay, happening);
    }

    fn utxo(&self, scid: ShortChannelId) -> UtxoAnswer {
        let found = self
            .chain
            .block_hash(scid.block())
            .and_then(|hash| self.chain.block(&hash))
            .and_then(|block| block.txdata.get(usize::try_from(scid.tx_index()).ok()?))
            .map(|tx| bitcoin::OutPoint::new(tx.compute_txid(), u32::from(scid.output_index())))
            .and_then(|outpoint| Some((outpoint, self.chain.coin(&outpoint)?.out.clone())));
        match found {
            Some((outpoint, output)) => UtxoAnswer::Unspent { output, outpoint },
            None => UtxoAnswer::SpentOrUnknown,
        }
    }
}
