//! A node from nothing, and a node from its records.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use bitcoin::{Network, secp256k1::PublicKey};
use fulmen_channel::{Channel, ChannelContext, ChannelInput, ChannelStatus};
use fulmen_enforce::{EnforceContext, Resolution};
use fulmen_gossip::{Gossip, NetworkGraph, SignedMessages};
use fulmen_payments::{HtlcLink, IncomingRef, Invoices, Outgoing, PolicyHistory};
use fulmen_tx::{ChannelKeysId, Secp, Side};
use fulmen_types::{
    Features, Feerates, KeyStream, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_text, encode_text},
    record::{RecordKey, Space, WriteBatch},
};

use crate::{
    chain::ChainState,
    channels::{ChannelEntry, EventsSaid},
    config::NodeConfig,
    effects::{ActionKind, Effects},
    events::Events,
    gossip_glue::gossip_config,
    htlcs::NodeLink,
    input::{BlockId, Boot},
    node::Node,
    port::WalletBalance,
    replies::Replies,
    requests::Requests,
    step::Step,
};

/// The version of the records: a newer one is refused.
const FORMAT: u32 = 2;

/// Why a node can't go on from its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The records are of another node: the seed is not theirs.
    OtherIdentity {
        /// Whose records they are.
        stored: Box<PublicKey>,
        /// Who we are.
        ours: Box<PublicKey>,
    },
    /// The records are of another network.
    OtherNetwork {
        /// Their network.
        stored: String,
        /// Ours.
        ours: Network,
    },
    /// The records were written by a newer version of this software.
    Newer {
        /// Their format.
        stored: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// A record can't be read.
    Corrupt {
        /// What it is about.
        space: Space,
        /// What is wrong.
        error: String,
    },
    /// There is no record of a node.
    Empty,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherIdentity { stored, ours } => write!(
                f,
                "the store belongs to node {stored}, and the seed makes node {ours}; use the seed \
                 that goes with this store, or another data directory"
            ),
            Self::OtherNetwork { stored, ours } => write!(
                f,
                "the store is of network {stored}, and the configuration says {ours}; use another \
                 data directory for each network"
            ),
            Self::Newer { stored, known } => write!(
                f,
                "the store has format {stored}, and this version knows {known} at the most; use a \
                 newer version of the software"
            ),
            Self::Corrupt { space, error } => write!(
                f,
                "a record about {space:?} can't be read: {error}; the store may be damaged: keep a \
                 copy of it and ask for help before anything else"
            ),
            Self::Empty => f.write_str("the store has no node yet"),
        }
    }
}

impl core::error::Error for RestoreError {}

/// Everything that a node was when its records were written.
pub type Records = Vec<(RecordKey, Vec<u8>)>;

fn identity_key() -> RecordKey {
    RecordKey::new(Space::Node, *b"identity")
}

fn identity_record(identity: &PublicKey, network: Network) -> Vec<u8> {
    let mut value = FORMAT.to_bytes();
    identity.encode(&mut value);
    encode_text(&network.to_string(), &mut value);
    value
}

impl Node {
    /// A new node. The effects make it durable.
    pub fn create(
        config: NodeConfig,
        identity: PublicKey,
        boot: &Boot,
        now: Timestamp,
        tip: BlockId,
    ) -> (Self, Effects) {
        let mut node = Self::empty(config, identity, boot, ChainState::new(tip));
        let mut step = node.begin(now);
        step.batch.put(
            identity_key(),
            identity_record(&identity, node.config.network),
        );
        node.chain.write(&mut step.batch);
        let effects = node.finish(step);
        (node, effects)
    }

    fn empty(config: NodeConfig, identity: PublicKey, boot: &Boot, chain: ChainState) -> Self {
        let mut entropy = KeyStream::new(boot.entropy, b"node");
        let features = config.features();
        let gossip = Self::new_gossip(&config, &features, &identity);
        Self {
            features,
            identity,
            secp: Secp::new(),
            seq: 0,
            chain,
            feerates: Feerates::default(),
            wallet: WalletBalance::default(),
            requests: Requests::new(entropy.next_u64()),
            events: Events::empty(),
            grace_ends: None,
            peers: BTreeMap::new(),
            channels: BTreeMap::new(),
            by_channel_id: BTreeMap::new(),
            by_scid: BTreeMap::new(),
            funding_txids: BTreeMap::new(),
            funding_outpoints: BTreeMap::new(),
            gathering: BTreeMap::new(),
            resolutions: BTreeMap::new(),
            outgoing: Outgoing::new(identity.into(), entropy.next_bytes()),
            invoices: Invoices::new(),
            forwards: BTreeSet::new(),
            reading: BTreeSet::new(),
            unread: Vec::new(),
            unread_at: Timestamp::new(0),
            gossip,
            gossip_is_new: true,
            gossip_fundings: BTreeMap::new(),
            gossip_spends: BTreeMap::new(),
            replies: Replies::default(),
            entropy,
            config,
        }
    }

    /// A node from its records: all those of the spaces that are loaded at start. The effects say again
    /// whatever the world must hold: watches, broadcasts, questions, connections.
    ///
    /// # Errors
    /// The records are another node's, a newer version's or damaged. Nothing is changed.
    pub fn restore(
        config: NodeConfig,
        identity: PublicKey,
        boot: &Boot,
        now: Timestamp,
        records: &Records,
    ) -> Result<(Self, Effects), RestoreError> {
        let in_space = |space: Space| {
            records
                .iter()
                .filter(move |(key, _)| key.space == space)
                .map(|(key, value)| (key.key.as_slice(), value.as_slice()))
        };
        let find = |key: &RecordKey| {
            records
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, value)| value.as_slice())
        };
        check_identity(find(&identity_key()), &identity, config.network)?;
        let corrupt = |space: Space| {
            move |error: DecodeError| RestoreError::Corrupt {
                space,
                error: error.to_string(),
            }
        };
        let chain = find(&ChainState::key()).ok_or(RestoreError::Empty)?;
        let chain = ChainState::read(chain).map_err(corrupt(Space::Chain))?;
        let mut node = Self::empty(config, identity, boot, chain);
        let events = in_space(Space::Event).map(|(_, value)| value.to_vec());
        node.events =
            Events::restore(find(&Events::counter_key()), events).map_err(corrupt(Space::Event))?;
        for (key, value) in in_space(Space::Peer) {
            node.restore_peer(key, value)
                .map_err(corrupt(Space::Peer))?;
        }
        for (key, value) in in_space(Space::Command) {
            node.replies
                .restore(key, value)
                .map_err(corrupt(Space::Command))?;
        }
        node.invoices =
            Invoices::restore(in_space(Space::Invoice)).map_err(corrupt(Space::Invoice))?;
        let seed = node.entropy.next_bytes();
        node.outgoing = Outgoing::restore(identity.into(), seed, in_space(Space::Payment))
            .map_err(corrupt(Space::Payment))?;
        node.restore_channels(now, records)?;
        node.restore_resolutions(records)
            .map_err(corrupt(Space::Resolution))?;

        let mut step = node.begin(now);
        node.say_again(&mut step);
        let effects = node.finish(step);
        Ok((node, effects))
    }

    /// All records of the node as it stands: what [`Node::restore`] makes the same node from, in the order of their
    /// keys. It takes as long as the node is large; while the node runs, its batches are what is written.
    pub fn records(&self) -> Records {
        let mut batch = WriteBatch::new();
        batch.put(
            identity_key(),
            identity_record(&self.identity, self.config.network),
        );
        self.chain.write(&mut batch);
        self.events.write(&mut batch);
        self.write_peers(&mut batch);
        self.replies.write(&mut batch);
        self.invoices.write_records(&mut batch);
        self.outgoing.write_records(&mut batch);
        let channels = self.channels.values().map(|entry| entry.channel.records());
        let resolutions = self.resolutions.values().map(Resolution::records);
        let own = channels.chain(resolutions).collect::<Vec<_>>();
        let all = core::iter::once(&batch)
            .chain(&own)
            .flat_map(WriteBatch::iter);
        let mut records: Records = all
            .filter_map(|(key, value)| Some((key.clone(), value?.to_vec())))
            .collect();
        records.sort();
        records
    }

    fn restore_channels(&mut self, now: Timestamp, records: &Records) -> Result<(), RestoreError> {
        let mut htlcs: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
        for (key, value) in records.iter().filter(|(key, _)| key.space == Space::Htlc) {
            // The channel's keys id comes first.
            let channel = key.key.get(..32).unwrap_or_default();
            htlcs.entry(channel).or_default().push(value);
        }
        for (key, value) in records
            .iter()
            .filter(|(key, _)| key.space == Space::Channel)
        {
            let corrupt = |error: String| RestoreError::Corrupt {
                space: Space::Channel,
                error,
            };
            let id = <[u8; 32]>::from_bytes(&key.key).map_err(|e| corrupt(e.to_string()))?;
            let keys_id = ChannelKeysId::new(id);
            let own = htlcs.remove(key.key.as_slice()).unwrap_or_default();
            let channel = Channel::restore(value, own).map_err(|e| corrupt(e.to_string()))?;
            let (Some(peer), Some(alias)) = (channel.peer_node_id(), channel.alias()) else {
                continue;
            };
            let entry = ChannelEntry {
                peer,
                channel_id: channel.channel_id(),
                opened_by: None,
                funding_feerate: None,
                short_channel_id: channel.short_channel_id(),
                alias,
                peer_alias: channel.peer_alias(),
                usable: false,
                last_tick: now,
                stalled: None,
                events_said: EventsSaid {
                    ready: matches!(
                        channel.status(),
                        ChannelStatus::Normal | ChannelStatus::SignerBlocked(_)
                    ),
                },
                gossip_id: None,
                announcement: None,
                policy: PolicyHistory::new(self.config.forward),
                peer_policy: None,
                channel,
            };
            self.by_channel_id
                .insert((entry.peer, entry.channel_id), keys_id);
            self.by_scid.insert(entry.alias, keys_id);
            if let Some(scid) = entry.public_id() {
                self.by_scid.insert(scid, keys_id);
            }
            self.channels.insert(keys_id, entry);
        }
        Ok(())
    }

    fn restore_resolutions(&mut self, records: &Records) -> Result<(), DecodeError> {
        type KeyAndValue<'a> = (&'a [u8], &'a [u8]);
        let mut by_channel: BTreeMap<[u8; 32], Vec<KeyAndValue<'_>>> = BTreeMap::new();
        for (key, value) in records
            .iter()
            .filter(|(key, _)| key.space == Space::Resolution)
        {
            let mut r = Reader::new(&key.key);
            let id = <[u8; 32]>::decode(&mut r)?;
            by_channel
                .entry(id)
                .or_default()
                .push((key.key.as_slice(), value.as_slice()));
        }
        for (id, records) in by_channel {
            let resolution = Resolution::restore(&self.secp, records)?;
            self.resolutions.insert(ChannelKeysId::new(id), resolution);
        }
        Ok(())
    }

    /// After a restart: everything that the world must hold, again.
    fn say_again(&mut self, step: &mut Step) {
        // Events that nobody has acknowledged, before any new one: listeners go by their numbers.
        for event in self.events.after(0) {
            step.act(ActionKind::Event(event.clone()));
        }
        // What of our HTLCs is out decides which payments and forwards are on their way.
        let links: Vec<NodeLink> = self
            .channels
            .values()
            .flat_map(|entry| entry.channel.htlcs())
            .filter_map(|htlc| NodeLink::from_bytes(&htlc.link?).ok())
            .collect();
        let live: BTreeSet<HtlcLink> = links.iter().map(|link| link.link).collect();
        // What is resolved upstream is over for us, though downstream it may be told again.
        self.forwards = live
            .iter()
            .filter_map(|link| match link {
                HtlcLink::Forward { incoming } => Some(*incoming),
                HtlcLink::Payment { .. } => None,
            })
            .filter(|incoming| !self.is_resolved(incoming))
            .collect();
        let outputs = self.outgoing.reconcile(&live, step.now, &mut step.batch);
        self.payment_outputs(step, outputs);
        let nothing = Features::empty();
        let ids: Vec<ChannelKeysId> = self.channels.keys().copied().collect();
        if self.config.declared_restore {
            for keys_id in &ids {
                self.channel_input(step, *keys_id, ChannelInput::DeclareRestored);
            }
        }
        let grace = self.config.channel.reconnect_grace_millis;
        self.grace_ends = Some(step.now.plus_millis(grace));
        for keys_id in &ids {
            let Some(entry) = self.channels.get_mut(keys_id) else {
                continue;
            };
            let ctx = ChannelContext {
                secp: &self.secp,
                now: step.now,
                tip: self.chain.height(),
                config: &self.config.channel,
                feerates: &self.feerates,
                peer_features: &nothing,
                our_features: &self.features,
                our_node_id: self.identity,
                peer_node_id: entry.peer,
            };
            let outputs = entry.channel.re_emit(&ctx, &mut step.batch);
            self.channel_outputs(step, *keys_id, outputs);
        }
        let ids: Vec<ChannelKeysId> = self.resolutions.keys().copied().collect();
        for keys_id in ids {
            let Some(resolution) = self.resolutions.get_mut(&keys_id) else {
                continue;
            };
            let ctx = EnforceContext {
                now: step.now,
                tip: self.chain.height(),
                feerates: self.feerates,
                secp: &self.secp,
            };
            let outputs = resolution.re_emit(&ctx);
            self.resolution_outputs(step, keys_id, outputs);
        }
        for (peer, entry) in &self.peers {
            let addresses = entry.addresses.clone();
            step.act(ActionKind::Connect {
                peer: *peer,
                addresses,
                keep: true,
            });
        }
    }

    /// Whether it is decided, durably, how a peer's HTLC ends.
    fn is_resolved(&self, incoming: &IncomingRef) -> bool {
        self.channels
            .get(&ChannelKeysId::new(incoming.channel))
            .is_some_and(|entry| {
                entry.channel.htlcs().iter().any(|htlc| {
                    htlc.offered_by == Side::Remote
                        && htlc.id == incoming.htlc
                        && htlc.resolution.is_some()
                })
            })
    }

    /// Takes a cached graph, best before the first input. It is a cache: without it the node asks its
    /// peers.
    pub fn set_gossip_cache(&mut self, graph: NetworkGraph, messages: SignedMessages) {
        let config = gossip_config(&self.config, &self.features, &self.identity);
        self.gossip = Gossip::with_cache(config, graph, messages);
        self.gossip_is_new = true;
    }
}

fn check_identity(
    record: Option<&[u8]>,
    identity: &PublicKey,
    network: Network,
) -> Result<(), RestoreError> {
    let record = record.ok_or(RestoreError::Empty)?;
    let corrupt = |error: DecodeError| RestoreError::Corrupt {
        space: Space::Node,
        error: error.to_string(),
    };
    let mut r = Reader::new(record);
    let stored = u32::decode(&mut r).map_err(corrupt)?;
    if stored > FORMAT {
        return Err(RestoreError::Newer {
            stored,
            known: FORMAT,
        });
    }
    if stored < FORMAT {
        return Err(corrupt(DecodeError::InvalidValue(
            "an older format, which this version does not read",
        )));
    }
    let stored = PublicKey::decode(&mut r).map_err(corrupt)?;
    if stored != *identity {
        return Err(RestoreError::OtherIdentity {
            stored: Box::new(stored),
            ours: Box::new(*identity),
        });
    }
    let stored = decode_text(&mut r).map_err(corrupt)?;
    if stored != network.to_string() {
        return Err(RestoreError::OtherNetwork {
            stored,
            ours: network,
        });
    }
    Ok(())
}
