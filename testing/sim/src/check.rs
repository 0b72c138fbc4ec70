//! What must hold, seen from outside the nodes.

use std::{collections::BTreeSet, sync::Arc};

use bitcoin::{
    Amount,
    hashes::{Hash, sha256},
};
use fulmen_channel::{Channel, UpdateState, channel_key, htlc_key, remote_commitment_key};
use fulmen_node::{
    Action, ActionKind, Ask, Block, BlockId, Boot, ChannelState, ConnEpoch, Effects, Event, Input,
    Lane, Node, NumberedEvent, Records, ReleaseClass,
};
use fulmen_payments::HtlcLink;
use fulmen_signer::{BroadcastTx, CommitmentSigning, OutMessage, policy};
use fulmen_tx::{ChannelKeysId, Side};
use fulmen_types::{
    BlockHeight, ChannelId, CommitmentNumber, HtlcId, Msat,
    codec::{Decode, Encode, Reader},
    record::{RecordKey, Space},
};
use fulmen_wire::Message;

use crate::{host::listing, world::World};

/// How many batches in a thousand are followed by a comparison with a restart.
const COMPARED: u64 = 20;

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
            ActionKind::Withdraw { .. }
            | ActionKind::Connect { .. }
            | ActionKind::StopConnecting { .. }
            | ActionKind::Misbehaved { .. }
            | ActionKind::WatchOutpoint { .. }
            | ActionKind::WatchScript { .. }
            | ActionKind::Learn(_)
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
    let line = |sign: &str, (key, value): &(RecordKey, Vec<u8>)| {
        format!("{sign} {:?} {}: {}", key.space, hex(&key.key), hex(value))
    };
    let lost = before.iter().filter(|record| !after.contains(record));
    let new = after.iter().filter(|record| !before.contains(record));
    let lines: Vec<String> = lost
        .map(|record| line("-", record))
        .chain(new.map(|record| line("+", record)))
        .collect();
    Some(lines.join("\n"))
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
    /// Before a message gets its secrets: "secret n leaves only after commitment n+1 is durable".
    pub(crate) fn check_message(
        &mut self,
        index: usize,
        lane: Lane,
        message: &OutMessage,
    ) -> Result<(), String> {
        match message {
            OutMessage::RevokeAndAck {
                number, successor, ..
            } => self.check_secret(index, *number, &successor.params.keys_id),
            // Before the peer's signature nothing is on disk: there is no channel yet.
            OutMessage::FundingCreated { request, .. } => self.check_signing(index, request),
            OutMessage::FundingSigned { request, .. }
            | OutMessage::CommitmentSigned { request, .. } => {
                self.check_punishable(index, request)?;
                self.check_signing(index, request)
            }
            // Both ends forget with the connection what no signature covers; what the node said before it
            // ended one leaves all the same (rule 12).
            OutMessage::Ready(Message::UpdateAddHtlc(_))
                if self.hosts[index].outbox.is_ending(lane.peer, lane.epoch) =>
            {
                Ok(())
            }
            OutMessage::Ready(Message::UpdateAddHtlc(add)) => {
                self.check_offer(index, &add.channel_id, add.id)
            }
            OutMessage::Ready(Message::UpdateFailHtlc(fail)) => {
                self.check_failure(index, &fail.channel_id, fail.id)
            }
            OutMessage::Ready(Message::UpdateFailMalformedHtlc(fail)) => {
                self.check_failure(index, &fail.channel_id, fail.id)
            }
            OutMessage::Ready(_) => Ok(()),
        }
    }

    /// The channel as the disk has it.
    pub(crate) fn durable_channel(
        &self,
        index: usize,
        keys_id: &ChannelKeysId,
    ) -> Result<Channel, String> {
        let disk = &self.hosts[index].disk;
        let record = disk
            .durable(&channel_key(keys_id))
            .ok_or("something leaves of a channel that is not on disk")?;
        let prefix = RecordKey::new(Space::Htlc, keys_id.as_bytes().as_slice());
        let htlcs: Vec<&[u8]> = disk.durable_with_prefix(&prefix).collect();
        Channel::restore(record, htlcs)
            .map_err(|e| format!("the durable record of a channel can't be read: {e}"))
    }

    fn check_secret(
        &mut self,
        index: usize,
        number: CommitmentNumber,
        keys_id: &ChannelKeysId,
    ) -> Result<(), String> {
        let channel = self.durable_channel(index, keys_id)?;
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

    /// Before a commitment of the peer is signed: all that punishes it is on disk.
    fn check_punishable(&self, index: usize, request: &CommitmentSigning) -> Result<(), String> {
        let CommitmentSigning { params, commitment } = request;
        let number = commitment.content.number;
        let record = remote_commitment_key(&params.keys_id, number);
        if self.hosts[index].disk.durable(&record) != Some(commitment.to_bytes().as_slice()) {
            return Err(format!(
                "commitment {number} of the peer is signed and what punishes it is not on disk"
            ));
        }
        Ok(())
    }

    /// Before a commitment of the peer is signed: it divides exactly the funding, and there is no other of its
    /// number.
    fn check_signing(&mut self, index: usize, request: &CommitmentSigning) -> Result<(), String> {
        let CommitmentSigning { params, commitment } = request;
        policy::check_conserved(params, &commitment.content).map_err(|e| format!("{e:?}"))?;
        let bytes = commitment.to_bytes();
        let number = commitment.content.number;
        let digest = sha256::Hash::hash(&bytes).to_byte_array();
        let number = number.to_u64();
        let place = (index, *params.keys_id.as_bytes());
        match self.signed.get(&place) {
            Some((last, signed)) if number == *last && digest != *signed => {
                return Err(format!(
                    "two different commitments of number {number} are signed"
                ));
            }
            Some((last, _)) if number != *last && number != *last + 1 => {
                return Err(format!("commitment {number} is signed after {last}"));
            }
            _ => {}
        }
        self.signed.insert(place, (number, digest));
        // Outputs and fee make up the funding to the last satoshi. It takes some curve points.
        if self.rng.chance(50) {
            let built = fulmen_tx::build_commitment(
                &self.secp,
                params,
                Side::Remote,
                &commitment.per_commitment_point,
                &commitment.content,
            );
            let outputs: Amount = built.tx.output.iter().map(|out| out.value).sum();
            if outputs + built.fee != params.funding.value {
                return Err(format!(
                    "outputs of {outputs} and a fee of {} are not {}",
                    built.fee, params.funding.value
                ));
            }
        }
        Ok(())
    }

    /// Before an HTLC is offered: it is on disk, and so is what it follows from, irrevocably.
    fn check_offer(&self, index: usize, channel_id: &ChannelId, id: HtlcId) -> Result<(), String> {
        let own = self.hosts[index].channels();
        let Some(info) = own.iter().find(|c| c.channel_id == *channel_id) else {
            return Err("an HTLC is offered in no channel".into());
        };
        let key = htlc_key(&info.keys_id, Side::Local, id);
        if self.hosts[index].disk.durable(&key).is_none() {
            return Err(format!("HTLC {id} is offered and not on disk"));
        }
        let channel = self.durable_channel(index, &info.keys_id)?;
        let htlcs = channel.htlcs();
        let offered = htlcs
            .iter()
            .find(|h| h.offered_by == Side::Local && h.id == id)
            .ok_or("an offered HTLC is not in its channel")?;
        // What the node needs on the way back follows after it.
        let link = HtlcLink::decode(&mut Reader::new(
            offered.link.as_deref().unwrap_or_default(),
        ))
        .map_err(|e| format!("the link of HTLC {id} can't be read: {e:?}"))?;
        let HtlcLink::Forward { incoming } = link else {
            return Ok(());
        };
        let upstream = self.durable_channel(index, &ChannelKeysId::new(incoming.channel))?;
        let source = upstream
            .htlcs()
            .into_iter()
            .find(|h| h.offered_by == Side::Remote && h.id == incoming.htlc)
            .ok_or_else(|| format!("HTLC {id} follows from one that is not on disk"))?;
        if source.state != UpdateState::AddAckRevocation || source.resolution.is_some() {
            return Err(format!(
                "HTLC {id} follows from one that is {:?}, decided: {}",
                source.state,
                source.resolution.is_some()
            ));
        }
        let pays = source.amount >= offered.amount;
        let ends = source.cltv_expiry.to_u32()
            >= offered.cltv_expiry.to_u32() + u32::from(self.plan.cltv_expiry_delta);
        if !pays || !ends || source.payment_hash != offered.payment_hash {
            return Err(format!("HTLC {offered:?} follows from {source:?}"));
        }
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
        let now = self.timestamp();
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

    /// After each happening: every channel holds what was put into it.
    pub(crate) fn check_moment(&mut self) {
        for index in 0..self.hosts.len() {
            if !core::mem::take(&mut self.hosts[index].touched) {
                continue;
            }
            self.check_memory(index);
            for channel in self.hosts[index].channels() {
                if channel.htlcs != (0, 0) {
                    self.tempt(index);
                }
                if channel.htlcs != (0, 0) && self.to_close.contains_key(&channel.channel_id) {
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
                    self.blame(
                        index,
                        format!(
                            "n{index}: channel {} of {} holds {parts:?} and HTLCs of {htlcs:?}",
                            channel.channel_id, channel.capacity
                        ),
                    );
                }
            }
        }
    }
}
