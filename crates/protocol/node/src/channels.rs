//! Channels: their inputs, and what their outputs lead to.

use alloc::{boxed::Box, string::ToString, vec::Vec};

use bitcoin::secp256k1::PublicKey;
use fulmen_channel::{
    Channel, ChannelContext, ChannelError, ChannelInput, ChannelOutput, CloseReason, HtlcFailure,
};
use fulmen_enforce::EnforceInput;
use fulmen_payments::{ForwardPolicy, PolicyHistory};
use fulmen_signer::{BroadcastTx, RefusedMessage};
use fulmen_tx::{ChannelKeysId, Side};
use fulmen_types::{ChannelId, CommitmentNumber, Features, ShortChannelId, Timestamp};
use fulmen_wire::ChannelAnnouncement;

use crate::{
    effects::{ActionKind, DisconnectReason, Lane, NoteLevel, ReleaseClass, Scope},
    event::{CloseInitiator, Event},
    input::CommandId,
    node::Node,
    port::{Ask, CoinPurpose, FundingRequest},
    requests::Pending,
    step::Step,
    work::Work,
};

/// How often a channel is told that time has passed, at the least.
const TICK_MILLIS: u64 = 10_000;
/// How long updates may wait for the peer's `revoke_and_ack`.
const STALLED_MILLIS: u64 = 60_000;

/// A channel and what the node keeps beside it.
#[derive(Clone, Debug)]
pub(crate) struct ChannelEntry {
    pub(crate) channel: Channel,
    pub(crate) peer: PublicKey,
    /// What the peer calls it now.
    pub(crate) channel_id: ChannelId,
    /// The command that opened it and waits for its answer.
    pub(crate) opened_by: Option<CommandId>,
    /// The funding transaction's feerate, if the command named one.
    pub(crate) funding_feerate: Option<fulmen_types::FeeratePerKw>,
    pub(crate) short_channel_id: Option<ShortChannelId>,
    pub(crate) alias: ShortChannelId,
    pub(crate) peer_alias: Option<ShortChannelId>,
    pub(crate) usable: bool,
    pub(crate) last_tick: Timestamp,
    /// Since when updates wait for the peer's `revoke_and_ack`, and for which commitment's.
    pub(crate) stalled: Option<(CommitmentNumber, Timestamp)>,
    pub(crate) events_said: EventsSaid,
    /// What the gossip machine calls it, once it knows it.
    pub(crate) gossip_id: Option<ShortChannelId>,
    /// What both ends have signed.
    pub(crate) announcement: Option<Box<ChannelAnnouncement>>,
    /// What we ask for forwarding over it.
    pub(crate) policy: PolicyHistory,
    /// What the peer asks for forwarding to us.
    pub(crate) peer_policy: Option<ForwardPolicy>,
}

/// Which events of a channel were said in this run; they are said once in its life, which the channel's own
/// state tells after a restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventsSaid {
    pub(crate) ready: bool,
}

impl Node {
    /// Gives a channel one input and does what comes out.
    pub(crate) fn channel_input(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        input: ChannelInput,
    ) {
        if let Err(error) = self.try_channel_input(step, keys_id, input) {
            self.channel_error(step, keys_id, &error);
        }
    }

    pub(crate) fn channel_error(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        error: &ChannelError,
    ) {
        match error {
            ChannelError::Refused(why) => {
                step.note(NoteLevel::Debug, alloc::format!("channel {keys_id}: {why}"));
            }
            ChannelError::Bug(_) => self.bug(step, error),
        }
    }

    /// The same for inputs whose refusal means something to the caller.
    pub(crate) fn try_channel_input(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        input: ChannelInput,
    ) -> Result<(), ChannelError> {
        let outputs = self.channel_step(step, keys_id, input)?;
        self.channel_outputs(step, keys_id, outputs);
        Ok(())
    }

    /// The bare step, for callers that look at the outputs first.
    pub(crate) fn channel_step(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        input: ChannelInput,
    ) -> Result<Vec<ChannelOutput>, ChannelError> {
        let Some(entry) = self.channels.get_mut(&keys_id) else {
            return Ok(Vec::new());
        };
        let nothing = Features::empty();
        let peer_features = self
            .peers
            .get(&entry.peer)
            .and_then(|p| p.ready())
            .map_or(&nothing, |(_, f)| f);
        let ctx = ChannelContext {
            secp: &self.secp,
            now: step.now,
            tip: self.chain.height(),
            config: &self.config.channel,
            feerates: &self.feerates,
            peer_features,
            our_features: &self.features,
            our_node_id: self.identity,
            peer_node_id: entry.peer,
        };
        step.scopes.insert(Scope::Channel(keys_id));
        let outputs = entry.channel.handle(&ctx, input, &mut step.batch)?;
        // From funding_created on the peer uses the lasting id; an error may still name the temporary one.
        let channel_id = entry.channel.channel_id();
        if channel_id != entry.channel_id {
            self.by_channel_id.insert((entry.peer, channel_id), keys_id);
        }
        step.touched.insert(keys_id);
        Ok(outputs)
    }

    /// Lets a channel sign what has changed in this step.
    pub(crate) fn commit_channel(&mut self, step: &mut Step, keys_id: ChannelKeysId) {
        match self.channel_step(step, keys_id, ChannelInput::Commit) {
            Ok(outputs) => {
                step.touched.remove(&keys_id);
                self.channel_outputs(step, keys_id, outputs);
            }
            // Nothing to sign now: not connected, or waiting for the peer.
            Err(ChannelError::Refused(_)) => {}
            Err(error) => self.channel_error(step, keys_id, &error),
        }
    }

    pub(crate) fn channel_outputs(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        outputs: Vec<ChannelOutput>,
    ) {
        for output in outputs {
            self.channel_output(step, keys_id, output);
        }
    }

    fn channel_output(&mut self, step: &mut Step, keys_id: ChannelKeysId, output: ChannelOutput) {
        let Some(entry) = self.channels.get_mut(&keys_id) else {
            return;
        };
        let (peer, channel_id) = (entry.peer, entry.channel_id);
        match output {
            ChannelOutput::Send(message) => {
                let lane = message.channel_id().unwrap_or(channel_id);
                self.send_out(step, peer, Some(lane), message);
            }
            ChannelOutput::CloseConnection => {
                let why = "a message of the peer broke the rules of BOLT 2".to_string();
                self.close_connection(step, peer, DisconnectReason::ProtocolViolation(why));
            }
            ChannelOutput::ResetConnection => {
                self.close_connection(step, peer, DisconnectReason::ChannelReset);
            }
            ChannelOutput::AskFunding {
                script_pubkey,
                value,
            } => {
                let feerate = entry.funding_feerate.unwrap_or(self.feerates.normal);
                let request = FundingRequest {
                    purpose: CoinPurpose::Funding(keys_id),
                    script_pubkey,
                    value,
                    feerate,
                    reserve: self.reserve_with(1),
                };
                let id = self.requests.open(Pending::Funding(keys_id));
                step.act(ActionKind::Ask {
                    id,
                    ask: Ask::Funding(request),
                });
            }
            ChannelOutput::AskSign(request) => {
                let id = self
                    .requests
                    .open(Pending::ChannelSign(keys_id, request.clone()));
                step.act(ActionKind::Ask {
                    id,
                    ask: Ask::Sign(*request),
                });
            }
            ChannelOutput::Funded {
                temporary_channel_id,
                channel_id,
            } => {
                entry.channel_id = channel_id;
                self.by_channel_id.remove(&(peer, temporary_channel_id));
                self.by_channel_id.insert((peer, channel_id), keys_id);
                self.channel_funded(step, keys_id);
            }
            ChannelOutput::WatchFunding {
                outpoint,
                script_pubkey,
                from,
            } => {
                self.funding_txids
                    .entry(outpoint.txid)
                    .or_default()
                    .insert(keys_id);
                self.funding_outpoints
                    .entry(outpoint)
                    .or_default()
                    .insert(keys_id);
                let watch = ActionKind::WatchOutpoint {
                    outpoint,
                    script_pubkey: script_pubkey.clone(),
                    from,
                };
                step.act_as(ReleaseClass::Now, watch);
                step.act_as(
                    ReleaseClass::Now,
                    ActionKind::WatchScript {
                        script_pubkey,
                        from,
                    },
                );
            }
            ChannelOutput::BroadcastFunding(transaction)
            | ChannelOutput::BroadcastClosing(transaction) => {
                self.broadcast_ready(step, transaction);
            }
            ChannelOutput::ForceClosing(closing) => {
                let initiator = match closing.reason {
                    CloseReason::PeerError(_) => CloseInitiator::Peer,
                    _ => CloseInitiator::Us,
                };
                let reason = closing.reason.to_string();
                self.withdraw(step, peer, channel_id);
                // Said again after a restart, the user knows.
                if self.start_resolution(step, keys_id, closing.enforcement, true) {
                    self.closing_event(step, keys_id, initiator, true, reason);
                }
            }
            // The caller that added it has seen it.
            ChannelOutput::HtlcAdded { .. } => {}
            ChannelOutput::IncomingHtlc(htlc) => self.incoming_htlc(step, keys_id, htlc),
            ChannelOutput::IncomingRemoved { .. } => self.slot_is_free(step),
            ChannelOutput::OutgoingFulfilled { preimage, link, .. } => {
                self.outgoing_fulfilled(step, keys_id, preimage, &link);
            }
            ChannelOutput::OutgoingSettled { .. } => self.slot_is_free(step),
            ChannelOutput::OutgoingFailed { link, reason, .. } => {
                self.outgoing_failed(step, &link, OutgoingFailure::Channel(reason));
                self.slot_is_free(step);
            }
            ChannelOutput::Ready { peer_alias } => {
                entry.peer_alias = peer_alias;
                let first = !core::mem::replace(&mut entry.events_said.ready, true);
                if first {
                    self.event(step, Event::ChannelReady { channel_id, peer });
                }
                self.gossip_channel_changed(step, keys_id);
            }
            ChannelOutput::Located(place) => {
                if let Some(old) = core::mem::replace(&mut entry.short_channel_id, place) {
                    self.by_scid.remove(&old);
                    entry.announcement = None;
                }
                if let Some(id) = entry.public_id() {
                    self.by_scid.insert(id, keys_id);
                }
                self.gossip_channel_changed(step, keys_id);
            }
            ChannelOutput::Announced(announcement) => {
                self.gossip_announced(step, keys_id, announcement);
            }
            ChannelOutput::Usable(usable) => {
                entry.usable = usable;
                if usable {
                    self.slot_is_free(step);
                }
                self.gossip_channel_changed(step, keys_id);
            }
            ChannelOutput::Fault(fault) => step.note(NoteLevel::Warn, fault.to_string()),
            ChannelOutput::PeerSays(text) => {
                step.note(
                    NoteLevel::Warn,
                    alloc::format!("channel {channel_id}: peer says: {text}"),
                );
            }
            ChannelOutput::ShuttingDown { initiator } => {
                let initiator = match initiator {
                    Side::Local => CloseInitiator::Us,
                    Side::Remote => CloseInitiator::Peer,
                };
                let reason = "a cooperative close was asked for".to_string();
                self.closing_event(step, keys_id, initiator, false, reason);
            }
            ChannelOutput::Stale => {
                let message = alloc::format!(
                    "channel {channel_id} with {peer}: the peer has proved that our state is old. \
                     Nothing is broadcast; the peer was asked to close. Was an old backup restored?"
                );
                self.event(step, Event::Alert { message });
            }
            ChannelOutput::SignerBlocked(reason) => {
                let event = Event::SignerBlocked {
                    channel_id,
                    peer,
                    reason,
                };
                self.event(step, event);
            }
            ChannelOutput::BroadcastWithheld(reason) => {
                self.withdraw(step, peer, channel_id);
                let message = alloc::format!(
                    "channel {channel_id} with {peer}: {reason}. Its state was restored from a backup \
                     and nobody has confirmed it, so nothing is broadcast. Ask the peer to connect, or \
                     to close the channel"
                );
                self.event(step, Event::Alert { message });
            }
            ChannelOutput::Abandoned(reason) => {
                self.withdraw(step, peer, channel_id);
                self.channel_abandoned(step, keys_id, reason);
            }
            ChannelOutput::Frozen { .. } => {
                let data = entry.channel.enforcement();
                self.withdraw(step, peer, channel_id);
                if let Some(data) = data {
                    self.start_resolution(step, keys_id, data, false);
                }
                self.gossip_channel_changed(step, keys_id);
            }
        }
    }

    fn closing_event(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        initiator: CloseInitiator,
        forced: bool,
        reason: alloc::string::String,
    ) {
        let Some(entry) = self.channels.get(&keys_id) else {
            return;
        };
        let (channel_id, peer) = (entry.channel_id, entry.peer);
        self.event(
            step,
            Event::ChannelClosing {
                channel_id,
                peer,
                initiator,
                forced,
                reason,
            },
        );
        self.gossip_channel_changed(step, keys_id);
    }

    /// A channel has its funding outpoint and its records.
    fn channel_funded(&mut self, step: &mut Step, keys_id: ChannelKeysId) {
        let Some(entry) = self.channels.get_mut(&keys_id) else {
            return;
        };
        let (peer, channel_id, alias) = (entry.peer, entry.channel_id, entry.alias);
        let opened_by = entry.opened_by.take();
        let funding = entry.funding();
        self.by_scid.insert(alias, keys_id);
        self.keep_peer(step, peer);
        let Some(funding) = funding else { return };
        self.event(
            step,
            Event::ChannelPending {
                channel_id,
                peer,
                funding: funding.outpoint,
                capacity: funding.value,
            },
        );
        if let Some(id) = opened_by {
            let reply = crate::Reply::ChannelOpening {
                channel_id,
                funding: funding.outpoint,
            };
            self.reply(step, id, Ok(reply));
        }
    }

    /// An open came to nothing; the channel has no records.
    fn channel_abandoned(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        reason: alloc::string::String,
    ) {
        let Some(entry) = self.remove_channel(step, keys_id) else {
            return;
        };
        self.release_coins(step, CoinPurpose::Funding(keys_id));
        if let Some(id) = entry.opened_by {
            self.reply(
                step,
                id,
                Err(crate::CommandError::PeerRefused(reason.clone())),
            );
        }
        let (channel_id, peer) = (entry.channel_id, entry.peer);
        self.event(
            step,
            Event::ChannelOpenFailed {
                channel_id,
                peer,
                reason,
            },
        );
    }

    /// Whether it would be there after a restart.
    pub(crate) fn has_records(&self, keys_id: &ChannelKeysId) -> bool {
        let entry = self.channels.get(keys_id);
        entry.is_some_and(|entry| entry.funding().is_some())
    }

    /// Forgets a channel in memory.
    pub(crate) fn remove_channel(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
    ) -> Option<ChannelEntry> {
        let entry = self.channels.remove(&keys_id)?;
        self.by_channel_id.retain(|_, id| *id != keys_id);
        self.by_scid.retain(|_, id| *id != keys_id);
        self.funding_outpoints.retain(|_, ids| {
            ids.remove(&keys_id);
            !ids.is_empty()
        });
        self.funding_txids.retain(|_, ids| {
            ids.remove(&keys_id);
            !ids.is_empty()
        });
        self.release_peer(step, entry.peer);
        Some(entry)
    }

    pub(crate) fn release_coins(&mut self, step: &mut Step, purpose: CoinPurpose) {
        let id = self.requests.name();
        let ask = Ask::ReleaseCoins(purpose);
        step.act(ActionKind::Ask { id, ask });
    }

    pub(crate) fn broadcast_ready(&mut self, step: &mut Step, transaction: bitcoin::Transaction) {
        let id = self.requests.open(Pending::Broadcast);
        let package = alloc::vec![BroadcastTx::Ready(transaction)];
        step.act(ActionKind::Broadcast { id, package });
    }

    /// Time has passed: channels look at their own timers.
    pub(crate) fn tick_channels(&mut self, step: &mut Step) {
        let mut ticked = Vec::new();
        for (keys_id, entry) in &mut self.channels {
            if step.now.millis_since(entry.last_tick) >= TICK_MILLIS {
                entry.last_tick = step.now;
                step.work
                    .push_back(Work::Channel(*keys_id, ChannelInput::Tick));
                ticked.push(*keys_id);
            }
        }
        for keys_id in ticked {
            self.look_for_stall(step, keys_id);
            if self.resolutions.contains_key(&keys_id) {
                self.resolution_input(step, keys_id, EnforceInput::Tick);
            }
        }
    }

    /// The signer will not complete a message of a channel.
    pub(crate) fn signing_refused(
        &mut self,
        step: &mut Step,
        lane: Lane,
        refused: Box<RefusedMessage>,
    ) {
        let (name, error) = (refused.message.name(), &refused.error);
        let text = alloc::format!("{name} to {} was not signed: {error}", lane.peer);
        step.note(NoteLevel::Warn, text);
        let channel_id = lane.channel.unwrap_or(ChannelId::ALL);
        if let Some(keys_id) = self.by_channel_id.get(&(lane.peer, channel_id)) {
            let input = ChannelInput::SigningRefused(refused);
            step.work.push_back(Work::Channel(*keys_id, input));
        }
    }

    /// HTLCs that a peer leaves waiting would keep those that they were forwarded from open until those
    /// expire, and close a channel that has nothing to do with it. A disconnect takes them back.
    fn look_for_stall(&mut self, step: &mut Step, keys_id: ChannelKeysId) {
        let Some(entry) = self.channels.get_mut(&keys_id) else {
            return;
        };
        let waits = entry.channel.awaits_revocation() && entry.channel.has_updates_to_sign();
        let number = entry.channel.commitment_numbers().filter(|_| waits);
        let Some((_, number)) = number else {
            entry.stalled = None;
            return;
        };
        let (of, since) = *entry.stalled.get_or_insert((number, step.now));
        if of != number {
            entry.stalled = Some((number, step.now));
        } else if step.now.millis_since(since) >= STALLED_MILLIS {
            entry.stalled = None;
            let peer = entry.peer;
            self.close_connection(step, peer, DisconnectReason::Timeout);
        }
    }

    pub(crate) fn channels_next_wake(&self, _now: Timestamp) -> Option<Timestamp> {
        self.channels
            .values()
            .map(|entry| entry.last_tick.plus_millis(TICK_MILLIS))
            .min()
    }

    /// New estimates: the channels that we opened follow them.
    pub(crate) fn feerates_changed(&mut self, step: &mut Step, feerates: fulmen_types::Feerates) {
        self.feerates = feerates;
        for (keys_id, entry) in &self.channels {
            if let Some(wanted) = entry.channel.feerate_to_change_to(&feerates) {
                step.work
                    .push_back(Work::Channel(*keys_id, ChannelInput::UpdateFee(wanted)));
            }
        }
    }
}

/// How an HTLC of ours ended without its preimage.
#[derive(Debug)]
pub(crate) enum OutgoingFailure {
    /// In the channel.
    Channel(HtlcFailure),
    /// On chain, irrevocably.
    OnChain,
}
