//! What must hold, seen from outside the nodes.

use bitcoin::{
    Amount,
    hashes::{Hash, sha256},
};
use fulmen_channel::{Channel, UpdateState, channel_key, htlc_key, remote_commitment_key};
use fulmen_node::{ActionKind, Ask, ChannelState, Effects, Lane, ReleaseClass};
use fulmen_payments::HtlcLink;
use fulmen_signer::{BroadcastTx, CommitmentSigning, OutMessage, policy};
use fulmen_tx::{ChannelKeysId, Side};
use fulmen_types::{
    ChannelId, CommitmentNumber, HtlcId, Msat,
    codec::{Decode, Encode, Reader},
    record::{RecordKey, Space},
};
use fulmen_wire::Message;

use crate::world::World;

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
