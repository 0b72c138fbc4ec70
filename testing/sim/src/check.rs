//! What must hold, seen from outside the nodes.

use std::collections::VecDeque;

use fulmen_channel::{Channel, channel_key};
use fulmen_node::{
    ActionKind, Ask, Boot, ChannelState, ConnEpoch, Effects, Input, Node, ReleaseClass,
};
use fulmen_signer::{BroadcastTx, OutMessage};
use fulmen_types::{
    Msat,
    record::{RecordKey, Space},
};

use crate::{host::listing, world::World};

/// Nothing that a peer or user learns may leave before its batch; nor a commitment of ours.
pub(crate) fn classes(effects: &Effects) -> Result<(), String> {
    for action in &effects.actions {
        if action.after > effects.seq {
            return Err(format!(
                "an action of step {} waits for {}",
                effects.seq, action.after
            ));
        }
        let at_once = action.class == ReleaseClass::Now;
        let speaks = match &action.kind {
            ActionKind::Send { .. }
            | ActionKind::Disconnect { .. }
            | ActionKind::Reply { .. }
            | ActionKind::Event(_) => action.class != ReleaseClass::All,
            ActionKind::Broadcast { package, .. } => {
                let ours = |tx: &BroadcastTx| matches!(tx, BroadcastTx::HolderCommitment(_));
                at_once && package.iter().any(ours)
            }
            ActionKind::Ask { ask, .. } => at_once && !matches!(ask, Ask::Record(_) | Ask::Utxo(_)),
            ActionKind::Connect { .. }
            | ActionKind::StopConnecting { .. }
            | ActionKind::WatchOutpoint { .. }
            | ActionKind::WatchScript { .. }
            | ActionKind::Note { .. } => false,
        };
        if speaks {
            return Err(format!(
                "an action of class {:?}: {:?}",
                action.class, action.kind
            ));
        }
    }
    Ok(())
}

impl World {
    /// Before a message gets its secrets: "secret n leaves only after commitment n+1 is durable".
    pub(crate) fn check_message(
        &mut self,
        index: usize,
        message: &OutMessage,
    ) -> Result<(), String> {
        let OutMessage::RevokeAndAck {
            number, successor, ..
        } = message
        else {
            return Ok(());
        };
        let keys_id = successor.params.keys_id;
        let disk = &self.hosts[index].disk;
        let record = disk
            .durable(&channel_key(&keys_id))
            .ok_or("a secret leaves of a channel that is not on disk")?;
        let prefix = RecordKey::new(Space::Htlc, keys_id.as_bytes().as_slice());
        let htlcs: Vec<&[u8]> = disk.durable_with_prefix(&prefix).collect();
        let channel = Channel::restore(record, htlcs)
            .map_err(|e| format!("the durable record of a channel can't be read: {e}"))?;
        let durable = channel
            .commitment_numbers()
            .map_or(0, |(ours, _)| ours.to_u64());
        if durable <= number.to_u64() {
            return Err(format!(
                "the secret of commitment {number} leaves while {durable} is the newest on disk"
            ));
        }
        let known = self
            .revealed
            .entry((index, *keys_id.as_bytes()))
            .or_default();
        *known = number.to_u64().max(*known);
        Ok(())
    }

    /// Before a transaction is signed: no commitment whose secret is out.
    pub(crate) fn check_broadcast(&self, index: usize, tx: &BroadcastTx) -> Result<(), String> {
        let BroadcastTx::HolderCommitment(signing) = tx else {
            return Ok(());
        };
        let number = signing.commitment.content.number.to_u64();
        let revealed = self
            .revealed
            .get(&(index, *signing.params.keys_id.as_bytes()));
        match revealed {
            Some(revealed) if number <= *revealed => Err(format!(
                "commitment {number} is to be broadcast, and the secret of {revealed} is out"
            )),
            _ => Ok(()),
        }
    }

    /// Before a crash: what a restart with everything durable gives is what the node is.
    pub(crate) fn check_restart(&mut self, index: usize) {
        let now = self.timestamp();
        let entropy = self.rng.bytes32();
        let host = &mut self.hosts[index];
        let mut disk = host.disk.clone();
        let mut effects = VecDeque::new();
        let Some(node) = host.node.as_mut() else {
            return;
        };
        for (peer, epoch) in host.connections.clone() {
            let epoch = ConnEpoch(epoch);
            effects.push_back(node.handle(now, Input::PeerDisconnected { peer, epoch }));
        }
        for Effects { seq, batch, .. } in effects {
            disk.append(seq, batch);
        }
        disk.commit(u64::MAX);
        let config = host.config.clone();
        let before = listing(node);
        let restored = Node::restore(config, host.id, &Boot { entropy }, now, &disk.records());
        self.stats.restores += 1;
        match restored {
            Err(error) => self.fail(format!("n{index} could not be restored: {error}")),
            Ok((restored, _)) => {
                let after = listing(&restored);
                if before != after {
                    let lost = before.iter().filter(|l| !after.contains(l));
                    let new = after.iter().filter(|l| !before.contains(l));
                    let lines: Vec<String> = lost
                        .map(|l| format!("- {l}"))
                        .chain(new.map(|l| format!("+ {l}")))
                        .collect();
                    self.fail(format!(
                        "n{index} is another after a restart:\n{}",
                        lines.join("\n")
                    ));
                }
            }
        }
    }

    /// After each happening: every channel holds what was put into it.
    pub(crate) fn check_moment(&mut self) {
        for index in 0..self.hosts.len() {
            if !core::mem::take(&mut self.hosts[index].touched) {
                continue;
            }
            for channel in self.hosts[index].channels() {
                if channel.htlcs != (0, 0) && self.to_force.contains_key(&channel.channel_id) {
                    self.close_with_htlcs(index, channel.channel_id);
                }
                let live = matches!(
                    channel.state,
                    ChannelState::Normal { .. } | ChannelState::ShuttingDown
                );
                let parts = [channel.balances.0, channel.balances.1];
                let htlcs = [channel.htlc_amounts.0, channel.htlc_amounts.1];
                let capacity = Msat::from_amount(channel.capacity).to_msat();
                let balances = Msat::checked_sum(parts).map_or(u64::MAX, Msat::to_msat);
                let in_htlcs = Msat::checked_sum(htlcs).map_or(u64::MAX, Msat::to_msat);
                // Balances are those of the newest commitment; not every HTLC is on it yet, or still.
                let is_whole = balances <= capacity && capacity - balances <= in_htlcs;
                if live && !is_whole {
                    self.fail(format!(
                        "n{index}: channel {} of {} holds {parts:?} and HTLCs of {htlcs:?}",
                        channel.channel_id, channel.capacity
                    ));
                }
            }
        }
    }
}
