//! The driver's part: inputs in, batches to the disk, actions out when they may.

use std::collections::VecDeque;

use bitcoin::{Transaction, Txid, secp256k1::PublicKey};
use fulmen_devchain::{PackageTx, Reject, RejectKind};
use fulmen_node::{
    ActionKind, Answer, Ask, BroadcastAnswer, CoinPurpose, Effects, Event, Input, Lane, NoteLevel,
    NumberedEvent, RequestId, UtxoAnswer, WalletError,
};
use fulmen_signer::{BroadcastTx, OutMessage, Signer, SigningAnswer};
use fulmen_types::ShortChannelId;
use fulmen_wire::Message;

use crate::{
    check,
    outbox::{Leaving, Outbox},
    world::{Happening, World},
};

/// How long all nodes must be up and connected, with signer and wallet at hand, to have rested.
const REST_MILLIS: u64 = 2_000;
/// For so many blocks there may be crashes and absences without a rest.
const CRASH_BLOCKS: u32 = 5;
/// No step has more actions, whatever its input, and no more of them ever wait.
const MOST_ACTIONS: usize = 2_000;
/// The longest that signer and wallet are away, in milliseconds, and in blocks.
const ABSENCE_MILLIS: u64 = 8_000;
const ABSENCE_BLOCKS: u64 = 3;
/// What a node says whose signer is away.
const SIGNER_IS_AWAY: &str = "the signer does not read onions";
/// What a node says whose peer has heard earlier that a spike is over.
const FEERATE_IS_LOW: &str = "feerate_per_kw is too low";
/// The longest outage in blocks.
const OUTAGE_BLOCKS: u64 = 4;

impl World {
    /// Gives a node an input.
    pub(crate) fn feed(&mut self, host: usize, input: Input) {
        self.feed_all(host, VecDeque::from([input]));
    }

    pub(crate) fn feed_all(&mut self, host: usize, mut inputs: VecDeque<Input>) {
        while let Some(input) = inputs.pop_front() {
            let now = self.timestamp();
            let Some(node) = self.hosts[host].node.as_mut() else {
                return;
            };
            let effects = node.handle(now, input);
            self.stats.steps += 1;
            self.hosts[host].touched = true;
            self.effects(host, effects, &mut inputs);
            if self.failure.is_some() {
                return;
            }
        }
    }

    /// What a step brings about. Inputs that follow at once go to `inputs`.
    pub(crate) fn effects(&mut self, index: usize, effects: Effects, inputs: &mut VecDeque<Input>) {
        if let Err(what) = check::classes(&effects) {
            return self.fail(format!("n{index}: {what}"));
        }
        if let Err(what) = self.check_freeze(index, &effects) {
            self.blame(index, format!("n{index}: {what}"));
        }
        if effects.actions.len() > MOST_ACTIONS {
            let count = effects.actions.len();
            return self.fail(format!("n{index}: one step has {count} actions"));
        }
        let host = &mut self.hosts[index];
        let boot = host.boot;
        let wake = effects.next_wake.map(|at| at.to_millis().max(self.now + 1));
        let new_wake = wake.filter(|at| {
            host.wake
                .is_none_or(|known| known <= self.now || *at < known)
        });
        if let Some(at) = new_wake {
            host.wake = Some(at);
        }
        let batch = host.outbox.push(effects);
        if let Some(at) = new_wake {
            self.at(at, Happening::Tick { host: index, boot });
        }
        if let Some((seq, batch)) = batch {
            self.hosts[index].disk.append(seq, batch);
            let delay = self.delay(self.faults.commit);
            if delay == 0 {
                self.hosts[index].disk.commit(seq);
                self.hosts[index].outbox.durable(seq);
                self.compare_sometimes(index);
                self.draw_crash(index);
            } else {
                self.after(
                    delay,
                    Happening::Commit {
                        host: index,
                        boot,
                        seq,
                    },
                );
            }
        }
        self.release(index, inputs);
    }

    /// The disk has caught up to a step.
    pub(crate) fn commit(&mut self, index: usize, seq: u64) {
        if self.hosts[index].disk.pending() == 0 {
            return;
        }
        self.draw_crash(index);
        if self.hosts[index].crash {
            return;
        }
        if self.has_budget()
            && self.faults.failing_commit > 0
            && self.rng.chance(self.faults.failing_commit)
        {
            self.say(format!("n{index} can't write to its disk"));
            self.stats.failed_commits += 1;
            return self.stop(index, 0);
        }
        self.hosts[index].disk.commit(seq);
        self.hosts[index].outbox.durable(seq);
        self.compare_sometimes(index);
        self.draw_crash(index);
        let mut inputs = VecDeque::new();
        self.release(index, &mut inputs);
        self.feed_all(index, inputs);
    }

    /// The budget of faults: within so many blocks all nodes must have been up and connected for a while on end, and
    /// able to sign, or deadlines pass that no node can help.
    fn has_budget(&mut self) -> bool {
        let all_up = self
            .hosts
            .iter()
            .all(|host| host.node.is_some() && !self.is_absent(host.index));
        if all_up && self.now - self.last_unrest > REST_MILLIS && self.all_are_connected() {
            self.rested_at = self.chain.height();
        }
        self.chain.height().saturating_sub(self.rested_at) < CRASH_BLOCKS
    }

    /// Whether honest nodes are connected where they have a channel that is to stay.
    fn all_are_connected(&self) -> bool {
        self.users.channels.iter().all(|(id, plan)| {
            let ends = [plan.from, plan.to];
            ends.into_iter().any(|host| self.is_villain(host))
                || self.forced.contains(id)
                || self.closed_early.contains(id)
                || self.hosts[plan.from]
                    .connections
                    .contains_key(&self.hosts[plan.to].id)
        })
    }

    fn draw_crash(&mut self, index: usize) {
        if self.has_budget() && self.faults.crash > 0 && self.rng.chance(self.faults.crash) {
            self.hosts[index].crash = true;
        }
    }

    /// Crashes are drawn in the middle of things and happen at their end.
    pub(crate) fn crash_where_due(&mut self) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].crash {
                self.hosts[index].crash = false;
                self.crash(index);
            }
        }
    }

    fn crash(&mut self, index: usize) {
        if self.hosts[index].node.is_none() {
            return;
        }
        self.check_restart(index);
        let pending = self.hosts[index].disk.pending();
        let kept = self.rng.index(pending + 1);
        self.stop(index, kept);
    }

    /// A node is gone; so many batches that nobody knew to be durable are so all the same.
    pub(crate) fn stop(&mut self, index: usize, kept: usize) {
        let most = self
            .faults
            .outage
            .min(OUTAGE_BLOCKS * self.block_interval());
        let outage = 1 + self.delay(most);
        self.stop_for(index, kept, outage);
    }

    /// The same, for a time.
    pub(crate) fn stop_for(&mut self, index: usize, kept: usize, outage: u64) {
        if self.hosts[index].node.is_none() {
            return;
        }
        self.cover_crash(index, kept);
        let host = &mut self.hosts[index];
        let lost = host.disk.crash(kept);
        if host.keeps_graph
            && let Some(mut node) = host.node.take()
        {
            let graph = (*node.graph()).clone();
            host.graph = Some((graph, node.gossip().messages().clone()));
        }
        host.node = None;
        host.outbox = Outbox::default();
        host.wake = None;
        host.connections.clear();
        host.keep.clear();
        host.outpoints.clear();
        host.scripts.clear();
        host.chain_step = false;
        host.absent_until = 0;
        self.stats.crashes += 1;
        self.stats.lost_batches += u64::try_from(lost).unwrap_or(0);
        self.say(format!(
            "n{index} crashes: {kept} unacknowledged batches kept, {lost} lost"
        ));
        self.cut_all(index);
        self.last_unrest = self.now;
        self.after(outage, Happening::Restart { host: index });
    }

    /// Everything that may leave does.
    pub(crate) fn release(&mut self, index: usize, inputs: &mut VecDeque<Input>) {
        let signer_is_here = !self.is_absent(index);
        if self.hosts[index].outbox.len() > MOST_ACTIONS {
            return self.fail(format!("n{index}: too much waits to leave"));
        }
        // A crash at this boundary: nothing leaves any more.
        while !self.hosts[index].crash
            && self.failure.is_none()
            && let Some(leaving) = self.hosts[index].outbox.next(signer_is_here)
        {
            match leaving {
                Leaving::Send(lane, message) => self.send(index, lane, message),
                Leaving::Act(kind) => self.act(index, kind, inputs),
            }
        }
    }

    fn send(&mut self, index: usize, lane: Lane, message: OutMessage) {
        let Some(to) = self.host_of(&lane.peer) else {
            return self.fail(format!("n{index} sends to a stranger"));
        };
        if self.hosts[index].connections.get(&lane.peer) != Some(&lane.epoch.0) {
            return;
        }
        if let Err(what) = self.check_message(index, lane, &message) {
            return self.blame(index, format!("n{index}: {what}"));
        }
        let name = message.name();
        let message = match message.complete(&self.hosts[index].keys) {
            Ok(message) => message,
            Err(error) => {
                return self.blame(
                    index,
                    format!("n{index}: the signer refuses {name}: {error:?}"),
                );
            }
        };
        let bytes = message.encode();
        if !message.fits() || Message::decode(&bytes).as_ref() != Ok(&message) {
            return self.fail(format!("n{index}: {name} does not survive its encoding"));
        }
        let text = match &message {
            Message::Error(e) => format!(" {:?}", String::from_utf8_lossy(&e.data)),
            Message::Warning(w) => format!(" {:?}", String::from_utf8_lossy(&w.data)),
            _ => String::new(),
        };
        self.say(format!("n{index} > n{to} #{} {name}{text}", lane.epoch.0));
        self.trace.bytes(&bytes);
        self.put_on_wire(lane.epoch.0, index, bytes);
    }

    pub(crate) fn host_of(&self, id: &PublicKey) -> Option<usize> {
        self.hosts.iter().position(|host| host.id == *id)
    }

    fn act(&mut self, index: usize, kind: ActionKind, inputs: &mut VecDeque<Input>) {
        match kind {
            // The outbox hands messages out apart, and takes them back itself.
            ActionKind::Send { lane, message } => self.send(index, lane, message),
            ActionKind::Withdraw { .. } => {}
            ActionKind::Disconnect {
                peer,
                epoch,
                reason,
            } => {
                self.say(format!("n{index} ends #{}: {reason:?}", epoch.0));
                self.node_disconnects(index, peer, epoch.0, &reason);
            }
            ActionKind::Connect {
                peer,
                addresses: _,
                keep,
            } => {
                let Some(to) = self.host_of(&peer) else {
                    return;
                };
                if keep {
                    self.hosts[index].keep.insert(peer);
                }
                let delay = 1 + self.delay(self.faults.delay);
                self.after(delay, Happening::Dial { from: index, to });
            }
            ActionKind::StopConnecting { peer } => {
                self.hosts[index].keep.remove(&peer);
            }
            ActionKind::Misbehaved { .. } => {}
            ActionKind::Broadcast { id, package } => self.broadcast(index, id, package),
            ActionKind::WatchOutpoint { outpoint, from, .. } => {
                self.hosts[index].outpoints.insert(outpoint);
                self.late_matches(index, from.to_u32(), inputs, |tx| {
                    tx.input.iter().any(|i| i.previous_output == outpoint)
                });
            }
            ActionKind::WatchScript {
                script_pubkey,
                from,
            } => {
                self.hosts[index].scripts.insert(script_pubkey.clone());
                self.late_matches(index, from.to_u32(), inputs, |tx| {
                    tx.output.iter().any(|o| o.script_pubkey == script_pubkey)
                });
            }
            ActionKind::Ask { id, ask } => self.ask(index, id, ask),
            // Its router plans from the graph alone.
            ActionKind::Learn(_) => {}
            ActionKind::Reply { id, reply } => self.reply(index, id, reply),
            ActionKind::Event(event) => self.event(index, event),
            ActionKind::Note { level, text } => {
                self.say(format!("n{index} note {level:?}: {text}"));
                if self.plan.faults.spike > 0 && text.contains(FEERATE_IS_LOW) {
                    self.hosts[index].feerate_refused = Some(self.now);
                }
                // The one thing that a person should look at and that passes.
                let waits = self.plan.faults.absent > 0 && text.starts_with(SIGNER_IS_AWAY);
                if level == NoteLevel::Error && !waits {
                    self.blame(index, format!("n{index} notes an error: {text}"));
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

    pub(crate) fn is_absent(&self, index: usize) -> bool {
        self.hosts[index].absent_until > self.now
    }

    /// Signer and wallet go away until a time.
    pub(crate) fn go_away(&mut self, index: usize, until: u64) {
        self.hosts[index].absent_until = until;
        let boot = self.hosts[index].boot;
        self.say(format!("n{index}: signer and wallet are away"));
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

    fn ask(&mut self, index: usize, id: RequestId, ask: Ask) {
        if self.faults.absent > 0
            && !self.is_absent(index)
            && self.has_budget()
            && self.rng.chance(self.faults.absent)
        {
            let most = ABSENCE_MILLIS.min(ABSENCE_BLOCKS * self.block_interval());
            let until = self.now + 1 + self.delay(most);
            self.go_away(index, until);
        }
        let boot = self.hosts[index].boot;
        let mut delay = self.delay(self.faults.answer);
        if self.is_absent(index) {
            if let Some(answer) = self.absent_answer(&ask) {
                let answer = Box::new(answer);
                return self.after(
                    delay,
                    Happening::Answer {
                        host: index,
                        boot,
                        id,
                        answer,
                    },
                );
            }
            if matches!(ask, Ask::Sign(_)) {
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
        self.after(
            delay,
            Happening::Answer {
                host: index,
                boot,
                id,
                answer: Box::new(answer),
            },
        );
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

    fn broadcast(&mut self, index: usize, id: RequestId, package: Vec<BroadcastTx>) {
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
        let boot = self.hosts[index].boot;
        let delay = self.delay(self.faults.answer);
        let answer = Box::new(Answer::Broadcast(answer));
        self.after(
            delay,
            Happening::Answer {
                host: index,
                boot,
                id,
                answer,
            },
        );
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

    /// A user hears of something.
    pub(crate) fn event(&mut self, index: usize, event: NumberedEvent) {
        let host = &mut self.hosts[index];
        if let Some(known) = host.events.get(&event.number) {
            if *known != event.event {
                let number = event.number;
                self.blame(
                    index,
                    format!("n{index}: event {number} changed after it was told"),
                );
            }
            return;
        }
        let last = host
            .events
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        if event.number != last + 1 {
            let number = event.number;
            if !self.is_villain(index) {
                return self.fail(format!("n{index}: event {number} follows event {last}"));
            }
        }
        self.hosts[index]
            .events
            .insert(event.number, event.event.clone());
        self.say(format!(
            "n{index} event {}: {}",
            event.number,
            describe(&event.event)
        ));
        self.user_hears(index, &event.event);
    }
}

fn describe(event: &Event) -> String {
    format!("{event:?}")
}
