//! What nodes broadcast, and what the mempool says of it.

use bitcoin::{Transaction, Txid};
use fulmen_devchain::{PackageTx, Reject, RejectKind};
use fulmen_node::{Answer, BroadcastAnswer, RequestId};
use fulmen_signer::BroadcastTx;

use crate::world::World;

impl World {
    /// A node hands out transactions for the network.
    pub(crate) fn broadcast(&mut self, index: usize, id: RequestId, package: Vec<BroadcastTx>) {
        let mut txs: Vec<Transaction> = Vec::new();
        let mut answer = None;
        for tx in package {
            if let Err(what) = self.check_broadcast(index, &tx) {
                self.blame(index, format!("n{index}: {what}"));
            }
            if self.is_absent(index) && !matches!(tx, BroadcastTx::Ready(_)) {
                answer = Some(BroadcastAnswer::Unsigned("the signer is away".into()));
                continue;
            }
            let revoked = self.revoked_by(index, &tx);
            match tx.complete(&self.hosts[index].keys) {
                Ok(tx) => {
                    let txid = tx.compute_txid();
                    self.broadcasters.entry(txid).or_insert(index);
                    if let Some(breach) = revoked {
                        self.villainy.revoked.insert(txid, breach);
                    }
                    txs.push(tx);
                }
                Err(error) => {
                    self.blame(
                        index,
                        format!("n{index}: the signer refuses a broadcast: {error:?}"),
                    );
                    answer = Some(BroadcastAnswer::Unsigned(format!("{error:?}")));
                }
            }
        }
        if let Err(what) = self.check_fee(index, &txs) {
            self.blame(index, format!("n{index}: {what}"));
        }
        let answer = answer.unwrap_or_else(|| {
            if self.holds_back(index) {
                BroadcastAnswer::Accepted
            } else {
                self.submit(&txs)
            }
        });
        let ids: Vec<Txid> = txs.iter().map(Transaction::compute_txid).collect();
        self.say(format!("n{index} broadcasts {ids:?}: {answer:?}"));
        if let BroadcastAnswer::Other(why) = &answer
            && self.is_on_the_best_chain(index)
        {
            self.blame(
                index,
                format!("n{index} broadcasts {ids:?}, which is refused: {why}"),
            );
        }
        let delay = self.delay(self.faults.answer);
        self.answer(index, delay, id, Answer::Broadcast(answer));
    }

    fn submit(&mut self, txs: &[Transaction]) -> BroadcastAnswer {
        if let [tx] = txs {
            return match self.chain.send(tx) {
                Ok(_) => BroadcastAnswer::Accepted,
                Err(reject) => self.verdict(tx, &reject),
            };
        }
        let result = self.chain.submit_package(txs);
        if result.is_ok() {
            return BroadcastAnswer::Accepted;
        }
        // Parts of it may be there already.
        let mut last = BroadcastAnswer::Known;
        for tx in txs {
            match self.chain.send(tx) {
                Ok(_) => last = BroadcastAnswer::Accepted,
                Err(reject) => match self.verdict(tx, &reject) {
                    BroadcastAnswer::Known => {}
                    other => {
                        let of_package = result.txs.iter().find_map(|(wtxid, r)| match r {
                            PackageTx::Refused(reject) if *wtxid == tx.compute_wtxid() => {
                                Some(self.verdict(tx, reject))
                            }
                            _ => None,
                        });
                        return of_package.unwrap_or(other);
                    }
                },
            }
        }
        last
    }

    fn verdict(&self, tx: &Transaction, reject: &Reject) -> BroadcastAnswer {
        let text = format!("{} {}", reject.reason, reject.detail);
        let known = self.chain.mempool().contains(&tx.compute_txid())
            || self.chain.confirmations(&tx.compute_txid()) > 0;
        if known {
            return BroadcastAnswer::Known;
        }
        match reject.kind {
            RejectKind::MissingInputs => BroadcastAnswer::MissingInputs(text),
            RejectKind::Reconsiderable => BroadcastAnswer::BelowFloor(text),
            RejectKind::Conflict => BroadcastAnswer::Conflict(text),
            RejectKind::Policy | RejectKind::Premature | RejectKind::Consensus => {
                let has = |word: &str| text.contains(word);
                if has("fee") {
                    BroadcastAnswer::BelowFloor(text)
                } else if has("conflict") || has("replacement") {
                    BroadcastAnswer::Conflict(text)
                } else {
                    BroadcastAnswer::Other(text)
                }
            }
        }
    }

    /// Whether what a node takes for its tip is so, or was before the last blocks; after a start or a reorganisation
    /// that it has not heard of it says what was right before.
    fn is_on_the_best_chain(&self, index: usize) -> bool {
        let tip = self.hosts[index]
            .node
            .as_ref()
            .map(|node| node.chain_tip()[0]);
        tip.is_some_and(|tip| self.chain.block_hash(tip.height.to_u32()) == Some(tip.hash))
    }
}
