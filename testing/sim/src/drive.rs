//! The driver's part: inputs in, batches to the disk, actions out when they may.

use std::collections::VecDeque;

use bitcoin::secp256k1::PublicKey;
use fulmen_node::{ActionKind, Effects, Event, Input, Lane, NoteLevel, NumberedEvent};
use fulmen_signer::OutMessage;
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
            let now = self.timestamp(host);
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
        let ahead = host.clock;
        let wake = effects
            .next_wake
            .map(|at| at.to_millis().saturating_sub(ahead).max(self.now + 1));
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
    pub(crate) fn has_budget(&mut self) -> bool {
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
