//! The one host that is no ordinary one: a cheater, a liar, or somebody with more bad luck than the budget of
//! faults allows.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Sequence, Transaction, Txid};
use fulmen_node::{
    Boot, ChannelSelector, ChannelState, CloseMode, Command, CommandId, Input, Node,
};
use fulmen_signer::BroadcastTx;
use fulmen_types::ChannelId;

use crate::{
    disk::Disk,
    outbox::Outbox,
    phase::Phase,
    plan::{Trick, Villain},
    twist::Twister,
    world::{Happening, World},
};

/// Old states that are kept of its disk.
const SNAPSHOTS: usize = 8;
/// Blocks within which bad luck ends at the latest.
const TRIES: u32 = 40;

/// A revoked commitment that was broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoked {
    /// The channel.
    pub(crate) channel_id: ChannelId,
    /// Who is cheated.
    pub(crate) victim: usize,
    /// The cheater's delay.
    pub(crate) to_self_delay: u16,
}

/// What the villain has and does.
#[derive(Debug, Default)]
pub(crate) struct Villainy {
    /// It has begun, and nobody expects anything of it any more.
    pub(crate) on: bool,
    /// It was allowed to begin, and waits for the moment.
    pub(crate) waits: bool,
    tries: u32,
    /// It can't be reached by anybody.
    hidden: bool,
    /// It says nothing until this height.
    silent_until: Option<u32>,
    /// At this height it closes its channels by force, without a word.
    closes_at: Option<u32>,
    /// Until this height it broadcasts nothing and throws its peers' claims out of mempools.
    pub(crate) cycles_until: Option<u32>,
    /// How often it did so, by the output that was to be claimed.
    pub(crate) cycled: BTreeMap<OutPoint, u32>,
    /// Old states of its disk.
    snapshots: Vec<Disk>,
    seen: u64,
    /// Its revoked commitments that were broadcast.
    pub(crate) revoked: BTreeMap<Txid, Revoked>,
    /// Those of them that were confirmed at some time.
    confirmed: BTreeSet<Txid>,
    /// Those that their victims have noticed.
    pub(crate) noticed: BTreeSet<Txid>,
    pub(crate) twister: Twister,
}

impl World {
    /// Whether a host is the villain, at work.
    pub(crate) fn is_villain(&self, host: usize) -> bool {
        self.villainy.on && self.plan.villain.is_some_and(|v| v.host == host)
    }

    /// Whether a host will be, or is, the villain.
    pub(crate) fn is_suspect(&self, host: usize) -> bool {
        self.plan.villain.is_some_and(|v| v.host == host)
    }

    /// Whether nobody reaches a host.
    pub(crate) fn is_hidden(&self, host: usize) -> bool {
        self.villainy.hidden && self.is_villain(host)
    }

    /// Whether a message of one host to another is swallowed.
    pub(crate) fn is_silent(&self, from: usize) -> bool {
        self.is_villain(from)
            && self
                .villainy
                .silent_until
                .is_some_and(|until| self.chain.height() < until)
    }

    /// Keeps some states of the villain's disk, any of them with equal chance.
    pub(crate) fn keep_snapshot(&mut self, index: usize) {
        let keeps = self.plan.villain.is_some_and(|v| {
            v.host == index && matches!(v.trick, Trick::Revoked | Trick::OldBackup)
        });
        if !keeps || self.villainy.on || self.phase != Phase::Pay {
            return;
        }
        self.villainy.seen += 1;
        let place = if self.villainy.snapshots.len() < SNAPSHOTS {
            self.villainy.snapshots.len()
        } else {
            usize::try_from(self.rng.below(self.villainy.seen)).unwrap_or(usize::MAX)
        };
        if place >= SNAPSHOTS {
            return;
        }
        let disk = self.hosts[index].disk.durable_copy();
        if place == self.villainy.snapshots.len() {
            self.villainy.snapshots.push(disk);
        } else {
            self.villainy.snapshots[place] = disk;
        }
    }

    /// The villain begins, when its moment has come.
    pub(crate) fn villainy(&mut self) {
        let Some(Villain { host, trick, .. }) = self.plan.villain else {
            return;
        };
        if self.phase != Phase::Pay && !self.villainy.on {
            // Too late: it was honest.
            return;
        }
        if self.hosts[host].node.is_none() {
            return self.after(200, Happening::Villainy);
        }
        match trick {
            Trick::Revoked => self.go_back(host, true),
            Trick::OldBackup => self.go_back(host, false),
            Trick::Silent { .. } | Trick::Cycler { .. } => self.villainy.waits = true,
            Trick::Mutator { .. } | Trick::Liar => self.turn(host),
            Trick::Flooder => {
                if !self.villainy.on {
                    self.turn(host);
                }
                self.flood(host);
                self.after(1_000, Happening::Villainy);
            }
            Trick::LongOutage { blocks } => {
                self.turn(host);
                let millis = u64::from(blocks) * self.block_interval();
                self.stop_for(host, 0, millis);
            }
            Trick::AbsentSigner { blocks } => {
                self.turn(host);
                let until = self.now + u64::from(blocks) * self.block_interval();
                self.go_away(host, until);
            }
        }
    }

    /// From now on the host is the villain, and all of its channels may end by force.
    pub(crate) fn turn(&mut self, host: usize) {
        self.villainy.on = true;
        self.stats.villains += 1;
        let trick = self.plan.villain.map(|v| v.trick);
        self.stats.unlucky += u64::from(trick.is_some_and(|t| t.is_bad_luck()));
        self.say(format!("n{host} is a villain: {trick:?}"));
        let own = self
            .users
            .channels
            .iter()
            .filter(|(_, plan)| plan.from == host || plan.to == host)
            .map(|(id, _)| *id);
        let own: Vec<ChannelId> = own.collect();
        self.to_close.retain(|id, _| !own.contains(id));
        self.forced.extend(own);
    }

    /// A channel of somebody holds an HTLC: the moment for who wants to be silent.
    pub(crate) fn tempt(&mut self, index: usize) {
        if !self.villainy.waits || !self.is_suspect(index) || !self.rng.chance(200) {
            return;
        }
        if let Some(Villain {
            trick: Trick::Silent { blocks, closes },
            ..
        }) = self.plan.villain
        {
            self.villainy.waits = false;
            self.turn(index);
            self.hush(blocks);
            self.villainy.closes_at = closes.map(|blocks| self.chain.height() + blocks);
        }
    }

    /// Nothing that the villain says arrives any more, for so many blocks or for ever.
    pub(crate) fn hush(&mut self, blocks: Option<u32>) {
        let until = blocks.map_or(u32::MAX, |blocks| self.chain.height() + blocks);
        self.villainy.silent_until = Some(until);
    }

    /// Before each block: who is silent may go on chain now, and its peers hear of it from there.
    pub(crate) fn close_in_silence(&mut self) {
        let height = self.chain.height();
        let Some(host) = self.plan.villain.map(|v| v.host) else {
            return;
        };
        if self.villainy.closes_at.is_none_or(|at| at > height) || self.hosts[host].node.is_none() {
            return;
        }
        self.villainy.closes_at = None;
        let own = self.hosts[host].channels();
        let open = own
            .iter()
            .filter(|c| matches!(c.state, ChannelState::Normal { .. }));
        for channel_id in open.map(|c| c.channel_id) {
            self.say(format!("n{host} closes {channel_id} in silence"));
            self.close_by_force(host, channel_id);
        }
    }

    fn close_by_force(&mut self, host: usize, channel_id: ChannelId) {
        let id = CommandId(self.rng.bytes16());
        let command = Command::CloseChannel {
            channel: ChannelSelector::Id(channel_id),
            mode: CloseMode::Force,
        };
        self.feed(host, Input::Command { id, command });
    }

    /// An old state of the disk takes the place of the host's; a cheater then closes by force what is revoked.
    fn go_back(&mut self, host: usize, cheats: bool) {
        let current: BTreeMap<ChannelId, u64> = self.hosts[host]
            .channels()
            .iter()
            .filter(|c| matches!(c.state, ChannelState::Normal { .. }))
            .filter_map(|c| Some((c.channel_id, c.commitment_numbers?.0)))
            .collect();
        let count = self.villainy.snapshots.len();
        let place = self.rng.index(count.max(1));
        let boot = Boot {
            entropy: self.rng.bytes32(),
        };
        let now = self.timestamp(host);
        let ghost = self.villainy.snapshots.get(place).and_then(|disk| {
            let host = &self.hosts[host];
            Node::restore(host.config.clone(), host.id, &boot, now, &disk.records()).ok()
        });
        let old: Vec<ChannelId> = ghost
            .iter()
            .flat_map(|(node, _)| node.channels_info())
            .filter(|c| {
                let ours = c.commitment_numbers.map(|(ours, _)| ours);
                let is_old = current
                    .get(&c.channel_id)
                    .is_some_and(|number| ours.is_some_and(|ours| ours < *number));
                is_old && matches!(c.state, ChannelState::Normal { .. })
            })
            .map(|c| c.channel_id)
            .collect();
        if old.is_empty() {
            self.villainy.tries += 1;
            if self.villainy.tries < TRIES {
                self.after(500, Happening::Villainy);
            }
            return;
        }
        self.turn(host);
        let disk = self.villainy.snapshots.swap_remove(place);
        self.stop_for(host, 0, u64::from(u32::MAX));
        self.hosts[host].disk = disk;
        self.hosts[host].graph = None;
        self.hosts[host].outbox = Outbox::default();
        if cheats {
            self.villainy.hidden = true;
            self.hosts[host].keys.become_careless();
        }
        self.start(host);
        if !cheats {
            return;
        }
        let all = self.rng.chance(500);
        let chosen = if all { old.len() } else { 1 };
        for channel_id in old.into_iter().take(chosen) {
            self.say(format!("n{host} cheats in {channel_id}"));
            self.close_by_force(host, channel_id);
        }
    }

    /// Whether there is somebody who cheats in a channel.
    pub(crate) fn is_cheated(&self, channel_id: &ChannelId) -> bool {
        let cheats = matches!(self.plan.villain.map(|v| v.trick), Some(Trick::Revoked));
        let plan = self.users.channels.get(channel_id);
        cheats && plan.is_some_and(|p| self.is_villain(p.from) || self.is_villain(p.to))
    }

    /// Whether a broadcast is a commitment of the villain's whose secret its peer has on disk.
    pub(crate) fn revoked_by(&self, index: usize, tx: &BroadcastTx) -> Option<Revoked> {
        let BroadcastTx::HolderCommitment(signing) = tx else {
            return None;
        };
        let keys_id = *signing.params.keys_id.as_bytes();
        let number = signing.commitment.content.number.to_u64();
        let own = self.hosts[index].channels();
        let channel_id = own
            .iter()
            .find(|c| *c.keys_id.as_bytes() == keys_id)?
            .channel_id;
        let plan = self.users.channels.get(&channel_id)?;
        let victim = if plan.from == index {
            plan.to
        } else {
            plan.from
        };
        let theirs = self.hosts[victim]
            .channels_on_disk()
            .into_iter()
            .find(|c| c.channel_id() == channel_id)?;
        // Its newest commitment, and the one before that, may still be valid.
        let (_, newest) = theirs.commitment_numbers()?;
        if number + 1 >= newest.to_u64() {
            return None;
        }
        Some(Revoked {
            channel_id,
            victim,
            // Its own outputs wait for as long as the other end asked.
            to_self_delay: signing.params.local.to_self_delay,
        })
    }

    /// After each block: which breaches are confirmed, and that no cheater gets anything of them.
    pub(crate) fn look_for_breaches(&mut self) {
        if self.villainy.revoked.is_empty() {
            return;
        }
        let tip = self.chain.tip();
        let Some(block) = self.chain.block(&tip).cloned() else {
            return;
        };
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            if self.villainy.revoked.contains_key(&txid) && self.villainy.confirmed.insert(txid) {
                self.stats.breaches += 1;
                self.say(format!("the revoked commitment {txid} is confirmed"));
            }
            if let Some(breach) = self.loot(tx) {
                let Revoked {
                    channel_id,
                    victim,
                    to_self_delay,
                } = breach;
                self.fail(format!(
                    "{txid} takes of a revoked commitment of {channel_id} after {to_self_delay} blocks what is n{victim}'s"
                ));
            }
        }
    }

    /// Whether a transaction spends, after the cheater's delay, an output of a revoked commitment or of an
    /// HTLC transaction on it.
    fn loot(&self, tx: &Transaction) -> Option<Revoked> {
        let breach_of = |outpoint: &OutPoint| -> Option<Revoked> {
            if let Some(breach) = self.villainy.revoked.get(&outpoint.txid) {
                return Some(*breach);
            }
            let (parent, _) = self.chain.transaction(&outpoint.txid)?;
            let spends = |input: &bitcoin::TxIn| {
                self.villainy
                    .revoked
                    .get(&input.previous_output.txid)
                    .copied()
            };
            parent.input.iter().find_map(spends)
        };
        if !self
            .broadcasters
            .get(&tx.compute_txid())
            .is_some_and(|host| self.is_villain(*host))
        {
            return None;
        }
        tx.input.iter().find_map(|input| {
            let breach = breach_of(&input.previous_output)?;
            let delay = Sequence::from_height(breach.to_self_delay);
            (input.sequence == delay).then_some(breach)
        })
    }

    /// Whether every breach was noticed by its victim.
    pub(crate) fn check_breaches(&mut self) {
        for (txid, breach) in self.villainy.revoked.clone() {
            let stands = self.chain.confirmations(&txid) > 0;
            if stands && !self.villainy.noticed.contains(&txid) {
                let victim = breach.victim;
                self.fail(format!(
                    "n{victim} did not notice the revoked commitment {txid}"
                ));
            }
        }
    }

    /// What a peer can make the others hold is limited.
    pub(crate) fn check_memory(&mut self, index: usize) {
        let pending = self.hosts[index].config.max_pending_opens_per_peer;
        // Every peer may have as many that wait, and opens that failed are repeated.
        let most = self.plan.channels.len() * 4 + pending * self.plan.nodes;
        let count = self.hosts[index].channels().len();
        if count > most {
            self.fail(format!("n{index} holds {count} channels"));
        }
    }
}
