//! A restart gives what the node was, and goes on like it.

use std::{collections::BTreeSet, sync::Arc};

use bitcoin::hashes::Hash;
use fulmen_node::{
    Action, ActionKind, Block, BlockId, Boot, ConnEpoch, Event, Input, Node, NumberedEvent, Records,
};
use fulmen_types::{
    BlockHeight,
    record::{RecordKey, Space},
};

use crate::{host::listing, world::World};

/// How many batches in a thousand are followed by a comparison with a restart.
const COMPARED: u64 = 20;

/// What users and the network are told by actions, once each: what a restart has repeated is said again.
fn outward(actions: impl Iterator<Item = Action>) -> Vec<String> {
    let told: BTreeSet<String> = actions
        .filter_map(|action| match &action.kind {
            // A start may give up what waits to be tried again.
            ActionKind::Event(NumberedEvent {
                event: Event::PaymentFailed { .. },
                ..
            }) => None,
            ActionKind::Event(event) => Some(format!("event {:?}", event.event)),
            ActionKind::Broadcast { package, .. } => Some(format!("broadcast {package:?}")),
            _ => None,
        })
        .collect();
    told.into_iter().collect()
}

fn difference(before: &Node, after: &Node) -> Option<String> {
    compare(&listing(before), &listing(after))
}

fn compare(before: &[String], after: &[String]) -> Option<String> {
    if before == after {
        return None;
    }
    let lost = before.iter().filter(|l| !after.contains(l));
    let new = after.iter().filter(|l| !before.contains(l));
    let lines: Vec<String> = lost
        .map(|l| format!("- {l}"))
        .chain(new.map(|l| format!("+ {l}")))
        .collect();
    Some(lines.join("\n"))
}

/// In which records two nodes differ, byte by byte.
fn unlike(before: &Records, after: &Records) -> Option<String> {
    if before == after {
        return None;
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let line = |(key, value): &(RecordKey, Vec<u8>)| {
        format!("{:?} {}: {}", key.space, hex(&key.key), hex(value))
    };
    let [before, after] =
        [before, after].map(|records| records.iter().map(line).collect::<Vec<String>>());
    compare(&before, &after)
}

/// So many blocks without transactions, and the word that the last of them is the best tip.
fn empty_blocks(tip: BlockId, count: u32) -> Vec<Input> {
    let mut last = tip;
    let mut inputs = Vec::new();
    for above in 1..=count {
        let mut hash = [0xee; 32];
        hash[..4].copy_from_slice(&above.to_be_bytes());
        let id = BlockId {
            height: BlockHeight::new(tip.height.to_u32() + above),
            hash: bitcoin::BlockHash::from_byte_array(hash),
        };
        let block = Block {
            id,
            previous: last.hash,
            time: 0,
            transactions: Vec::new(),
        };
        inputs.push(Input::BlockConnected(Arc::new(block)));
        last = id;
    }
    inputs.push(Input::BestTip(last));
    inputs
}

impl World {
    /// Now and then, and in some runs always: see [`World::check_restart`].
    pub(crate) fn compare_sometimes(&mut self, index: usize) {
        self.keep_snapshot(index);
        if self.plan.compare_always || self.rng.chance(COMPARED) {
            self.check_restart(index);
        }
    }

    /// What a restart with everything durable gives is what the node is once its connections are cut; and
    /// both go on alike over blocks that bring nothing but deadlines.
    pub(crate) fn check_restart(&mut self, index: usize) {
        if self.is_villain(index) {
            return;
        }
        let now = self.timestamp(index);
        let entropy = self.rng.bytes32();
        let host = &self.hosts[index];
        let mut disk = host.disk.clone();
        let Some(mut node) = host.node.clone() else {
            return;
        };
        for (peer, epoch) in host.connections.clone() {
            let epoch = ConnEpoch(epoch);
            let effects = node.handle(now, Input::PeerDisconnected { peer, epoch });
            disk.append(effects.seq, effects.batch);
        }
        // What is due by now is due for both.
        let effects = node.handle(now, Input::Tick);
        disk.append(effects.seq, effects.batch);
        disk.commit(u64::MAX);
        let config = host.config.clone();
        let restored = Node::restore(config, host.id, &Boot { entropy }, now, &disk.records());
        self.stats.restores += 1;
        let (mut restored, effects) = match restored {
            Ok(restored) => restored,
            Err(error) => return self.fail(format!("n{index} could not be restored: {error}")),
        };
        if let Some(difference) = unlike(&disk.records(), &node.records()) {
            return self.fail(format!("n{index}'s disk is not what it is:\n{difference}"));
        }
        // Its start may have written, and told, as well.
        let is_new = |action: &&Action| match &action.kind {
            ActionKind::Event(event) => {
                let key = RecordKey::new(Space::Event, event.number.to_be_bytes());
                effects.batch.iter().any(|(written, _)| *written == key)
            }
            _ => false,
        };
        let told = effects.actions.iter().filter(is_new).cloned().collect();
        disk.append(effects.seq, effects.batch);
        disk.commit(u64::MAX);
        if let Some(difference) = unlike(&disk.records(), &restored.records()) {
            return self.fail(format!("n{index} does not survive its disk:\n{difference}"));
        }
        if let Some(difference) = difference(&node, &restored) {
            return self.fail(format!(
                "n{index} is another after a restart:\n{difference}"
            ));
        }
        // One that waits for its peers after a start closes later than one that did not start.
        let waits = self.hosts[index].config.channel.reconnect_grace_millis > 0;
        if !self.rng.chance(200) || waits {
            return;
        }
        let tip = node.chain_tip()[0];
        let feerates = Input::Feerates(self.feerates());
        let most = self.rng.between(1, 150);
        let deadlines: Vec<Input> = empty_blocks(tip, u32::try_from(most).unwrap_or(1));
        let go_on = |(node, told): (&mut Node, Vec<Action>)| {
            let inputs = core::iter::once(&feerates).chain(&deadlines);
            let done = inputs.flat_map(|input| node.handle(now, input.clone()).actions);
            outward(told.into_iter().chain(done))
        };
        let [before, after] = [(&mut node, Vec::new()), (&mut restored, told)].map(go_on);
        let listed = difference(&node, &restored);
        if let Some(difference) = listed.or_else(|| compare(&before, &after)) {
            self.fail(format!(
                "n{index} goes on in another way after a restart, {most} blocks later:\n{difference}"
            ));
        }
    }
}
