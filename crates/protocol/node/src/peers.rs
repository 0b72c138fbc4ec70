//! Peers: connections, `init`, and the way of a message to what it is about.

use alloc::{collections::BTreeSet, string::ToString, vec::Vec};

use bitcoin::{constants::ChainHash, secp256k1::PublicKey};
use fulmen_channel::ChannelInput;
use fulmen_signer::OutMessage;
use fulmen_types::{
    ChannelId, Features, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_list, decode_text, encode_text},
    record::{RecordKey, Space, WriteBatch},
};
use fulmen_wire::{Error, Init, Message, Warning};

use crate::{
    command::{CommandError, Reply},
    effects::{Action, ActionKind, DisconnectReason, Lane, NoteLevel, ReleaseClass, Scope},
    input::{CommandId, ConnEpoch, Direction, PeerAddress},
    node::Node,
    step::Step,
    work::Work,
};

/// How many addresses of a peer are remembered.
const ADDRESSES_MAX: usize = 8;
/// How long a peer may take for its `init`.
const INIT_MILLIS: u64 = 30_000;

/// What the node knows of a peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Where it was reached, the last first.
    pub(crate) addresses: Vec<PeerAddress>,
    pub(crate) connection: Option<Connection>,
    /// The one that the node ended last, on which what it said before may still leave.
    ended: Option<ConnEpoch>,
    /// Commands that wait for the connection.
    waiting: Vec<CommandId>,
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) epoch: ConnEpoch,
    pub(crate) direction: Direction,
    /// Since when.
    since: Timestamp,
    /// What it said in `init`; until then it may say nothing else.
    pub(crate) features: Option<Features>,
}

impl Peer {
    fn init_deadline(&self) -> Option<Timestamp> {
        let connection = self.connection.as_ref()?;
        let waits = connection.features.is_none();
        waits.then(|| connection.since.plus_millis(INIT_MILLIS))
    }

    /// The connection, once `init` is exchanged.
    pub(crate) fn ready(&self) -> Option<(ConnEpoch, &Features)> {
        let connection = self.connection.as_ref()?;
        Some((connection.epoch, connection.features.as_ref()?))
    }
}

impl Node {
    pub(crate) fn peer_connected(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        epoch: ConnEpoch,
        direction: Direction,
        address: Option<PeerAddress>,
    ) {
        if direction == Direction::Inbound && self.is_one_too_many(&peer) {
            let reason = DisconnectReason::Incompatible("too many peers are connected".into());
            return step.act(ActionKind::Disconnect {
                peer,
                epoch,
                reason,
            });
        }
        if let Some(old) = self.peers.get(&peer).and_then(|p| p.connection.as_ref()) {
            let old = old.epoch;
            if old >= epoch {
                return;
            }
            step.act(ActionKind::Disconnect {
                peer,
                epoch: old,
                reason: DisconnectReason::Replaced,
            });
            self.peer_disconnected(step, peer, old);
        }
        let entry = self.peers.entry(peer).or_default();
        entry.connection = Some(Connection {
            epoch,
            direction,
            since: step.now,
            features: None,
        });
        if let Some(address) = address {
            self.remember_address(step, peer, address);
        }
        let init = Init {
            globalfeatures: Features::empty(),
            features: self.features.clone(),
            networks: Some(alloc::vec![self.chain_hash()]),
            remote_addr: None,
        };
        self.send(step, peer, None, Message::Init(init));
    }

    /// Whether a stranger comes to a node that has enough of them.
    fn is_one_too_many(&self, peer: &PublicKey) -> bool {
        if self.peers.contains_key(peer) || self.peers.len() < self.config.max_strangers {
            return false;
        }
        let friends: BTreeSet<&PublicKey> = self.channels.values().map(|e| &e.peer).collect();
        let strangers = self.peers.keys().filter(|p| !friends.contains(p));
        !friends.contains(peer) && strangers.count() >= self.config.max_strangers
    }

    /// Peers that never say `init`.
    pub(crate) fn tick_peers(&mut self, step: &mut Step) {
        let late: Vec<PublicKey> = self
            .peers
            .iter()
            .filter(|(_, p)| p.init_deadline().is_some_and(|at| step.now >= at))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            self.close_connection(step, peer, DisconnectReason::Timeout);
        }
    }

    pub(crate) fn peers_next_wake(&self) -> Option<Timestamp> {
        self.peers.values().filter_map(Peer::init_deadline).min()
    }

    pub(crate) fn chain_hash(&self) -> ChainHash {
        self.config.channel.chain_hash
    }

    pub(crate) fn peer_disconnected(&mut self, step: &mut Step, peer: PublicKey, epoch: ConnEpoch) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if entry.connection.as_ref().is_none_or(|c| c.epoch != epoch) {
            return;
        }
        entry.connection = None;
        for id in core::mem::take(&mut entry.waiting) {
            let error = CommandError::Failed("the connection ended before it could be used".into());
            self.reply(step, id, Err(error));
        }
        self.gossip_peer_disconnected(step, peer);
        self.gathering.retain(|_, g| g.peer != peer || g.is_ours());
        self.abandon_openings_with(step, peer);
        for keys_id in self.channels_of(&peer) {
            step.work
                .push_back(Work::Channel(keys_id, ChannelInput::Disconnected));
        }
        if self.channels_of(&peer).is_empty() {
            self.peers.remove(&peer);
        }
    }

    pub(crate) fn peer_message(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        epoch: ConnEpoch,
        message: Message,
    ) {
        let Some(connection) = self
            .peers
            .get_mut(&peer)
            .and_then(|p| p.connection.as_mut())
        else {
            return;
        };
        if connection.epoch != epoch {
            return;
        }
        match (message, connection.features.is_some()) {
            (Message::Init(init), false) => self.init(step, peer, &init),
            (Message::Init(_), true) => self.violation(step, peer, "init was sent twice"),
            // BOLT 1, init: "MUST wait for init before sending any other messages".
            (_, false) => self.violation(step, peer, "a message before init"),
            (message, true) => self.route_message(step, peer, message),
        }
    }

    fn init(&mut self, step: &mut Step, peer: PublicKey, init: &Init) {
        let features = init.all_features();
        let problem = if !init.has_chain(&self.chain_hash()) {
            Some("the peer is on another chain".to_string())
        } else {
            // BOLT 1: unknown even bits, missing dependencies, and what one side asks for and the other
            // lacks, close the connection.
            self.features
                .check_peer(&features)
                .err()
                .map(|error| error.to_string())
        };
        if let Some(problem) = problem {
            return self.incompatible(step, peer, problem);
        }
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if let Some(connection) = &mut entry.connection {
            connection.features = Some(features);
        }
        for id in core::mem::take(&mut entry.waiting) {
            self.reply(step, id, Ok(Reply::Done));
        }
        for keys_id in self.channels_of(&peer) {
            step.work
                .push_back(Work::Channel(keys_id, ChannelInput::Connected));
        }
        self.gossip_peer_connected(step, peer);
    }

    fn route_message(&mut self, step: &mut Step, peer: PublicKey, message: Message) {
        match message {
            Message::Ping(ping) => {
                if let Some(pong) = ping.pong() {
                    self.send(step, peer, None, Message::Pong(pong));
                }
            }
            Message::Pong(_) => {}
            Message::Warning(warning) if warning.channel_id == ChannelId::ALL => {
                step.note(
                    NoteLevel::Warn,
                    alloc::format!("peer {peer} warns: {}", warning.text()),
                );
            }
            // BOLT 1, error: all-zero names all channels with the peer.
            Message::Error(error) if error.channel_id == ChannelId::ALL => {
                step.note(
                    NoteLevel::Warn,
                    alloc::format!("peer {peer} says: {}", error.text()),
                );
                for keys_id in self.channels_of(&peer) {
                    let input = ChannelInput::Message(Message::Error(error.clone()));
                    step.work.push_back(Work::Channel(keys_id, input));
                }
            }
            Message::OpenChannel(open) => self.peer_opens(step, peer, open),
            // BOLT 2, Channel Establishment v2: only when option_dual_fund is negotiated.
            Message::OpenChannel2(open) => {
                let why = "option_dual_fund is not negotiated";
                self.refuse_open(step, peer, open.temporary_channel_id, why);
            }
            // Odd and not negotiated: ignored (BOLT 1).
            Message::PeerStorage(_)
            | Message::PeerStorageRetrieval(_)
            | Message::OnionMessage(_) => {}
            Message::Unknown { .. } | Message::Custom { .. } => {}
            Message::ChannelUpdate(_)
            | Message::ChannelAnnouncement(_)
            | Message::NodeAnnouncement(_)
            | Message::QueryShortChannelIds(_)
            | Message::ReplyShortChannelIdsEnd(_)
            | Message::QueryChannelRange(_)
            | Message::ReplyChannelRange(_)
            | Message::GossipTimestampFilter(_) => self.gossip_message(step, peer, message),
            message => self.channel_message(step, peer, message),
        }
    }

    fn channel_message(&mut self, step: &mut Step, peer: PublicKey, message: Message) {
        let Some(channel_id) = message.channel_id() else {
            return;
        };
        if let Some(keys_id) = self.by_channel_id.get(&(peer, channel_id)) {
            let keys_id = *keys_id;
            let input = if self.funds_with_another(&keys_id, &message) {
                ChannelInput::FundingFailed("the peer named the funding of another channel".into())
            } else {
                ChannelInput::Message(message)
            };
            step.work.push_back(Work::Channel(keys_id, input));
            return;
        }
        if self.peer_gave_up_opening(step, peer, channel_id, &message) {
            return;
        }
        match message {
            // BOLT 1: for a channel that does not exist these are ignored.
            Message::Error(_) | Message::Warning(_) => {}
            // BOLT 2: who is asked about a channel that it does not know says so, and the peer closes it.
            _ => {
                let error = Error::new(channel_id, "unknown channel");
                self.send(step, peer, Some(channel_id), Message::Error(error));
            }
        }
    }

    /// Sends a message that is ready, if the peer is connected.
    pub(crate) fn send(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        channel: Option<ChannelId>,
        message: Message,
    ) {
        self.send_out(step, peer, channel, OutMessage::Ready(message));
    }

    pub(crate) fn send_out(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        channel: Option<ChannelId>,
        message: OutMessage,
    ) {
        let Some(connection) = self.peers.get(&peer).and_then(|p| p.connection.as_ref()) else {
            return;
        };
        let lane = Lane {
            peer,
            epoch: connection.epoch,
            channel,
        };
        // Rule 21: after an error nothing is said of a channel that was not said before.
        if matches!(message, OutMessage::Ready(Message::Error(_))) {
            withdraw(step, lane);
        }
        step.act(ActionKind::Send { lane, message });
    }

    /// The same for a channel that ends without a word.
    pub(crate) fn withdraw(&self, step: &mut Step, peer: PublicKey, channel_id: ChannelId) {
        let known = self.peers.get(&peer);
        let current = known.and_then(|p| p.connection.as_ref());
        let ended = known.and_then(|p| p.ended);
        if let Some(epoch) = current.map(|c| c.epoch).or(ended) {
            let channel = Some(channel_id);
            withdraw(
                step,
                Lane {
                    peer,
                    epoch,
                    channel,
                },
            );
        }
    }

    /// The peer broke the protocol in a way that ends the connection.
    pub(crate) fn violation(&mut self, step: &mut Step, peer: PublicKey, how: &str) {
        self.send(
            step,
            peer,
            None,
            Message::Warning(Warning::new(ChannelId::ALL, how)),
        );
        self.close_connection(step, peer, DisconnectReason::ProtocolViolation(how.into()));
    }

    fn incompatible(&mut self, step: &mut Step, peer: PublicKey, why: alloc::string::String) {
        self.send(
            step,
            peer,
            None,
            Message::Warning(Warning::new(ChannelId::ALL, &why)),
        );
        if let Some(entry) = self.peers.get_mut(&peer) {
            for id in core::mem::take(&mut entry.waiting) {
                self.reply(step, id, Err(CommandError::Failed(why.clone())));
            }
        }
        self.close_connection(step, peer, DisconnectReason::Incompatible(why));
    }

    pub(crate) fn close_connection(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        reason: DisconnectReason,
    ) {
        let Some(connection) = self.peers.get(&peer).and_then(|p| p.connection.as_ref()) else {
            return;
        };
        let epoch = connection.epoch;
        step.act(ActionKind::Disconnect {
            peer,
            epoch,
            reason,
        });
        self.peer_disconnected(step, peer, epoch);
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.ended = Some(epoch);
        }
    }

    /// A user wants a connection.
    pub(crate) fn connect(
        &mut self,
        step: &mut Step,
        id: CommandId,
        peer: PublicKey,
        address: PeerAddress,
    ) {
        if peer == self.identity {
            let error = CommandError::Invalid("that is this node's own key".into());
            return self.reply(step, id, Err(error));
        }
        let entry = self.peers.entry(peer).or_default();
        if entry.ready().is_some() {
            return self.reply(step, id, Ok(Reply::Done));
        }
        entry.waiting.push(id);
        self.remember_address(step, peer, address);
        let known = self.peers.get(&peer);
        let addresses = known.map_or_else(Vec::new, |entry| entry.addresses.clone());
        // A wish for now, whether the peer is kept connected or not: that was said when its channel began.
        step.act(ActionKind::Connect {
            peer,
            addresses,
            keep: false,
        });
    }

    /// The driver could not connect: the commands that wait for it end.
    pub(crate) fn connect_failed(&mut self, step: &mut Step, peer: PublicKey, why: &str) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if entry.connection.is_some() {
            return;
        }
        for id in core::mem::take(&mut entry.waiting) {
            self.reply(step, id, Err(CommandError::Failed(why.into())));
        }
        if self.channels_of(&peer).is_empty() {
            self.peers.remove(&peer);
        }
    }

    pub(crate) fn disconnect(
        &mut self,
        step: &mut Step,
        id: CommandId,
        peer: PublicKey,
        force: bool,
    ) {
        let connected = self
            .peers
            .get(&peer)
            .is_some_and(|p| p.connection.is_some());
        let reply = if !connected {
            Err(CommandError::PeerNotConnected(peer))
        } else if !force && !self.channels_of(&peer).is_empty() {
            Err(CommandError::Refused(
                "there are channels with this peer, and they need the connection; use --force to \
                 disconnect all the same"
                    .into(),
            ))
        } else {
            Ok(Reply::Done)
        };
        if reply.is_ok() {
            self.close_connection(step, peer, DisconnectReason::Requested);
        }
        self.reply(step, id, reply);
    }

    /// The newest address comes first; on disk is what is needed after a restart.
    fn remember_address(&mut self, step: &mut Step, peer: PublicKey, address: PeerAddress) {
        let known = &mut self.peers.entry(peer).or_default().addresses;
        if known.first() == Some(&address) {
            return;
        }
        known.retain(|other| *other != address);
        known.insert(0, address);
        known.truncate(ADDRESSES_MAX);
        let addresses = encode_addresses(known);
        let channels = self.channels_of(&peer);
        if channels.iter().any(|id| self.has_records(id)) {
            step.scope(Scope::Node);
            step.batch.put(peer_key(&peer), addresses);
        }
    }

    /// From now on the connection with this peer is kept up: there is a channel with it.
    pub(crate) fn keep_peer(&mut self, step: &mut Step, peer: PublicKey) {
        step.scope(Scope::Node);
        let entry = self.peers.entry(peer).or_default();
        let addresses = entry.addresses.clone();
        step.batch
            .put(peer_key(&peer), encode_addresses(&addresses));
        step.act(ActionKind::Connect {
            peer,
            addresses,
            keep: true,
        });
    }

    /// A channel with this peer is gone.
    pub(crate) fn release_peer(&mut self, step: &mut Step, peer: PublicKey) {
        let channels = self.channels_of(&peer);
        // One that is still being opened does not survive a restart.
        if !channels.iter().any(|id| self.has_records(id)) {
            step.batch.delete(peer_key(&peer));
        }
        if !channels.is_empty() {
            return;
        }
        step.act(ActionKind::StopConnecting { peer });
        // Strangers who come, open nothing and go must leave nothing behind.
        let is_gone = self
            .peers
            .get(&peer)
            .is_some_and(|p| p.connection.is_none() && p.waiting.is_empty());
        if is_gone {
            self.peers.remove(&peer);
        }
    }

    /// Adds the records of the peers that we have channels with.
    pub(crate) fn write_peers(&self, batch: &mut WriteBatch) {
        let kept = self.channels.iter().filter(|(id, _)| self.has_records(id));
        for (_, entry) in kept {
            if let Some(peer) = self.peers.get(&entry.peer) {
                batch.put(peer_key(&entry.peer), encode_addresses(&peer.addresses));
            }
        }
    }

    pub(crate) fn restore_peer(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let peer = PublicKey::from_bytes(key)?;
        self.peers.entry(peer).or_default().addresses = decode_addresses(value)?;
        Ok(())
    }
}

/// Once in a step: the error that a channel ends with is said before its other outputs come.
fn withdraw(step: &mut Step, lane: Lane) {
    let is_same =
        |action: &Action| matches!(&action.kind, ActionKind::Withdraw { lane: l } if *l == lane);
    if lane.channel.is_some() && !step.actions.iter().any(is_same) {
        step.act_as(ReleaseClass::Now, ActionKind::Withdraw { lane });
    }
}

fn peer_key(peer: &PublicKey) -> RecordKey {
    RecordKey::new(Space::Peer, peer.serialize())
}

struct EncodedAddress(PeerAddress);

impl Encode for EncodedAddress {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(&self.0.0, out);
    }
}

impl Decode for EncodedAddress {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode_text(r).map(|text| Self(PeerAddress(text)))
    }
}

fn encode_addresses(addresses: &[PeerAddress]) -> Vec<u8> {
    let mut out = alloc::vec![1u8];
    let encoded: Vec<EncodedAddress> = addresses.iter().cloned().map(EncodedAddress).collect();
    encoded.as_slice().encode(&mut out);
    out
}

fn decode_addresses(bytes: &[u8]) -> Result<Vec<PeerAddress>, DecodeError> {
    let mut r = Reader::new(bytes);
    if u8::decode(&mut r)? != 1 {
        return Err(DecodeError::InvalidValue("peer record of a newer version"));
    }
    let addresses = decode_list::<EncodedAddress>(&mut r)?;
    r.finish()?;
    Ok(addresses.into_iter().map(|address| address.0).collect())
}
