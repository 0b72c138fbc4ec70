//! The machine that keeps the graph in step with the network, and the network with us.
//!
//! Inputs are messages, answers and time; outputs are messages, questions and what the node should
//! know. Nothing here is durable but as a cache: the graph and the signed messages.

mod check;
mod own;
mod peer;
mod query;
mod receive;
mod relay;
mod unsigned;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use bitcoin::{
    OutPoint, ScriptBuf, TxOut,
    constants::ChainHash,
    secp256k1::{Secp256k1, VerifyOnly, ecdsa::Signature},
};
use fulmen_types::{BlockHeight, Features, NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{
    ChannelAnnouncement, ChannelUpdate, Message, NetAddress, NodeAlias, NodeAnnouncement, Rgb,
};

use crate::{
    CheckedGossip, GraphWriter, NetworkGraph, SignedMessages, UnsignedApplied, UnsignedGraph,
    messages::MessageKey,
};
pub use check::ToCheck;
use own::{NEVER, OwnNode, OwnState};
pub use own::{OwnChannel, OwnPolicy};
use peer::Peer;
use receive::PendingChannel;

/// Two weeks: older updates are stale (BOLT 7, Pruning Stale Entries).
pub(crate) const STALE_SECS: u64 = 14 * 24 * 3_600;
/// Updates from farther in the future are not taken.
const FUTURE_SECS: u64 = 24 * 3_600;
/// Our own messages are made anew before they get stale.
const REFRESH_SECS: u64 = 12 * 24 * 3_600;
/// Between looks for channels to forget.
const PRUNE_MILLIS: u64 = 3_600_000;
/// One after the other, up to six peers are asked within this time for what was missed: what only one of them knows comes
/// from no other. Sooner when something is known to have been dropped.
const RESYNC_MILLIS: u64 = 3_600_000;
const RESYNC_MIN_MILLIS: u64 = 600_000;
/// And seldomer where there are many peers in a great network: an answer names each channel in 24 bytes, which makes half a
/// kilobyte a second.
const RESYNC_MILLIS_PER_CHANNEL: u64 = 48;
const RESYNC_SOON_MILLIS: u64 = 15_000;
/// Rules that a peer may break on one connection before it is not listened to any more.
const MAX_OFFENCES: u32 = 20;
/// How many channels from the cache are asked for at a time, and how often.
const RECHECK_PORTION: usize = 100;
const RECHECK_MILLIS: u64 = 1_000;
const RECHECK_WATCHED_MILLIS: u64 = 2_000;
/// How many refused channels are remembered, so that they are not asked for again and again.
const MAX_REFUSED: usize = 20_000;

/// What the machine is told once.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// The chain.
    pub chain_hash: ChainHash,
    /// We.
    pub our_node_id: NodeId,
    /// What we announce of ourselves.
    pub alias: NodeAlias,
    /// Our colour.
    pub color: Rgb,
    /// What our `node_announcement` says that we can do.
    pub node_features: Features,
    /// Where we can be reached.
    pub addresses: Vec<NetAddress>,
    /// Between two broadcasts (BOLT 7: 60 s; tests take less).
    pub flush_millis: u64,
    /// With how many peers to synchronise at a time, and from how many to take live gossip.
    pub sync_peers: usize,
    /// How long a channel's peer may be away before we announce the channel as disabled.
    pub disable_after_millis: u64,
    /// How many funding outputs may be asked for at a time.
    pub max_pending_utxos: usize,
    /// Whether to ask the chain about announced channels.
    pub utxo_check: UtxoCheck,
}

impl GossipConfig {
    /// The usual limits, a nameless node without addresses.
    pub fn new(chain_hash: ChainHash, our_node_id: NodeId) -> Self {
        Self {
            chain_hash,
            our_node_id,
            alias: NodeAlias::default(),
            color: Rgb::default(),
            node_features: Features::empty(),
            addresses: Vec::new(),
            flush_millis: 60_000,
            sync_peers: 4,
            disable_after_millis: 120_000,
            max_pending_utxos: 2_000,
            utxo_check: UtxoCheck::Ask,
        }
    }
}

/// Whether announced channels are looked up in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtxoCheck {
    /// Each one.
    Ask,
    /// None: for who has no chain to ask. Channels cost an announcer nothing then.
    Trust,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum GossipInput {
    /// A connection is ready: both `init`s are exchanged.
    PeerConnected {
        /// With whom.
        peer: NodeId,
        /// What the peer offers.
        features: Features,
    },
    /// It is over.
    PeerDisconnected(NodeId),
    /// A message of BOLT 7 but `announcement_signatures`; others are ignored.
    Message {
        /// From whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// A message of BOLT 7 whose signatures are checked already.
    Checked {
        /// From whom.
        peer: NodeId,
        /// What, and the verdict.
        checked: Box<CheckedGossip>,
    },
    /// A snapshot without signatures (rapid gossip sync).
    Unsigned(Arc<UnsignedGraph>),
    /// So much waits to be read by a peer that it should get nothing that can wait; or it has read it.
    PeerBusy {
        /// Which.
        peer: NodeId,
        /// Whether it is so.
        is_busy: bool,
    },
    /// The answer to [`GossipOutput::AskUtxo`].
    Utxo {
        /// Which channel's output.
        short_channel_id: ShortChannelId,
        /// What the chain says.
        answer: UtxoAnswer,
    },
    /// The tip of the chain.
    Tip(BlockHeight),
    /// A channel's funding output was spent in a block.
    FundingSpent {
        /// Which.
        short_channel_id: ShortChannelId,
        /// The block.
        height: BlockHeight,
    },
    /// The spend was reorganised away.
    FundingUnspent(ShortChannelId),
    /// A channel of ours is there, or its data changed.
    OwnChannel(OwnChannel),
    /// A channel of ours is open and its peer connected.
    OwnChannelUp(ShortChannelId),
    /// The peer of a channel of ours is gone.
    OwnChannelDown(ShortChannelId),
    /// A channel of ours is closed or closing.
    OwnChannelClosed(ShortChannelId),
    /// A channel of ours is announced: both ends have signed.
    OwnAnnouncement(Box<ChannelAnnouncement>),
    /// The answer to [`GossipOutput::AskSign`].
    Signed {
        /// What was to be signed.
        unsigned: Unsigned,
        /// By our node key.
        signature: Signature,
    },
    /// The answer to [`GossipOutput::AskSign`] when there is no signature: it is asked for again later.
    NotSigned(Unsigned),
    /// Time has passed.
    Tick,
}

/// What the chain says of a funding output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UtxoAnswer {
    /// It is there, unspent.
    Unspent {
        /// The output.
        output: TxOut,
        /// Where it is.
        outpoint: OutPoint,
    },
    /// It is not there, or it is spent.
    SpentOrUnknown,
    /// The chain can't be asked now.
    Unavailable,
}

/// A message of ours that our node key is to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// What we ask for forwarding over a channel.
    ChannelUpdate(Box<ChannelUpdate>),
    /// What we say of ourselves.
    NodeAnnouncement(Box<NodeAnnouncement>),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GossipOutput {
    /// Send a message.
    Send {
        /// To whom.
        peer: NodeId,
        /// What.
        message: Message,
    },
    /// Ask the chain for the output that a short channel id names.
    AskUtxo(ShortChannelId),
    /// Report a spend of this output by [`GossipInput::FundingSpent`].
    WatchFunding {
        /// The channel.
        short_channel_id: ShortChannelId,
        /// Its output.
        outpoint: OutPoint,
        /// The output's script.
        script_pubkey: ScriptBuf,
    },
    /// Ask the signer.
    AskSign(Unsigned),
    /// The peer of a channel of ours says what it asks for forwarding to us: for route hints.
    PeerPolicy(Box<ChannelUpdate>),
    /// A peer broke a rule: warn it with this text. It is up to the node to disconnect.
    Misbehaved {
        /// Who.
        peer: NodeId,
        /// The rule.
        why: &'static str,
    },
    /// The graph changed since the last [`Gossip::graph`].
    GraphChanged,
}

/// The gossip machine of one node.
#[derive(Clone)]
pub struct Gossip {
    config: GossipConfig,
    secp: Secp256k1<VerifyOnly>,
    graph: GraphWriter,
    messages: SignedMessages,
    peers: BTreeMap<NodeId, Peer>,
    /// Announcements whose output is being asked for.
    pending: BTreeMap<ShortChannelId, PendingChannel>,
    /// How many pending channels a node has: its announcement is worth keeping.
    pending_nodes: BTreeMap<NodeId, (u32, Option<Box<NodeAnnouncement>>)>,
    /// Channels from the cache: the chain is asked again whether they are still there, and their outputs
    /// are watched from then on.
    recheck: VecDeque<ShortChannelId>,
    rechecking: BTreeSet<ShortChannelId>,
    /// Channels from the cache whose outputs are known and not watched yet.
    to_watch: Vec<ShortChannelId>,
    next_recheck: Timestamp,
    /// Channels that the chain refused.
    refused: BTreeSet<ShortChannelId>,
    own: BTreeMap<ShortChannelId, OwnState>,
    own_node: OwnNode,
    /// When a signer that was away is asked again.
    own_retry_at: Timestamp,
    /// What to pass on at the next flush, and from whom it came.
    outgoing: BTreeMap<MessageKey, Option<NodeId>>,
    /// Accepted updates of this hour.
    recent_updates: BTreeMap<(ShortChannelId, crate::Direction), u32>,
    /// The same of nodes.
    recent_announcements: BTreeMap<NodeId, u32>,
    recent_since: Timestamp,
    /// What was flushed and is on its way to peers; their places count from `broadcast_start`.
    broadcast: VecDeque<(MessageKey, Option<NodeId>)>,
    broadcast_start: u64,
    /// What which peer is being asked for: another need not be.
    asked: BTreeMap<ShortChannelId, NodeId>,
    /// Channels that are not deep enough, and who announced them.
    early: BTreeMap<ShortChannelId, NodeId>,
    /// Whom we asked last for what we may have missed.
    last_resync: Option<NodeId>,
    /// How long to wait before asking again for what was dropped.
    resync_wait: u64,
    /// Something was dropped since the last time.
    is_lossy: bool,
    next_flush: Timestamp,
    next_prune: Timestamp,
    next_resync: Timestamp,
    tip: BlockHeight,
    changed: bool,
    unsigned_applied: UnsignedApplied,
}

impl Gossip {
    /// A machine with an empty graph.
    pub fn new(config: GossipConfig) -> Self {
        let graph = GraphWriter::new(config.chain_hash);
        Self::with(config, graph, SignedMessages::new())
    }

    /// A machine that goes on from cached files. A graph of another chain is dropped.
    pub fn with_cache(config: GossipConfig, graph: NetworkGraph, messages: SignedMessages) -> Self {
        if graph.chain_hash() == config.chain_hash {
            let mut gossip = Self::with(config, GraphWriter::from_graph(graph), messages);
            if gossip.config.utxo_check == UtxoCheck::Ask {
                let last = ShortChannelId::from_u64(u64::MAX);
                let all = gossip
                    .graph
                    .channels_between(ShortChannelId::from_u64(0), last);
                let (watched, unknown): (Vec<_>, Vec<_>) =
                    all.partition(|scid| gossip.messages.funding(*scid).is_some());
                gossip.recheck = unknown.into_iter().chain(watched.iter().copied()).collect();
                gossip.to_watch = watched;
            }
            gossip
        } else {
            Self::new(config)
        }
    }

    fn with(config: GossipConfig, graph: GraphWriter, messages: SignedMessages) -> Self {
        Self {
            config,
            secp: Secp256k1::verification_only(),
            graph,
            messages,
            peers: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_nodes: BTreeMap::new(),
            recheck: VecDeque::new(),
            rechecking: BTreeSet::new(),
            to_watch: Vec::new(),
            next_recheck: Timestamp::new(0),
            refused: BTreeSet::new(),
            own: BTreeMap::new(),
            own_node: OwnNode::default(),
            own_retry_at: NEVER,
            outgoing: BTreeMap::new(),
            recent_updates: BTreeMap::new(),
            recent_announcements: BTreeMap::new(),
            recent_since: Timestamp::new(0),
            broadcast: VecDeque::new(),
            broadcast_start: 0,
            asked: BTreeMap::new(),
            early: BTreeMap::new(),
            last_resync: None,
            resync_wait: RESYNC_SOON_MILLIS,
            is_lossy: false,
            next_flush: Timestamp::new(0),
            next_prune: Timestamp::new(0),
            next_resync: NEVER,
            tip: BlockHeight::new(0),
            changed: false,
            unsigned_applied: UnsignedApplied::default(),
        }
    }

    /// The network as it is now; shared, and made anew only after changes.
    pub fn graph(&mut self) -> Arc<NetworkGraph> {
        self.graph.snapshot()
    }

    /// Up to when snapshots without signatures had heard the network, in seconds since 1970; 0 when none was
    /// applied.
    pub fn unsigned_until(&self) -> u32 {
        self.graph.unsigned_until()
    }

    /// What came of the last snapshot without signatures.
    pub const fn unsigned_applied(&self) -> UnsignedApplied {
        self.unsigned_applied
    }

    /// The signed messages, for their file.
    pub const fn messages(&self) -> &SignedMessages {
        &self.messages
    }

    /// Our latest `channel_update` for a channel.
    pub fn own_update(&self, channel: ShortChannelId) -> Option<&ChannelUpdate> {
        self.own.get(&channel)?.last.as_deref()
    }

    /// Whether no channels are being asked for from any peer.
    pub fn is_synced(&self) -> bool {
        self.pending.is_empty() && self.peers.values().all(|peer| !peer.is_syncing())
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Timestamp, input: GossipInput) -> Vec<GossipOutput> {
        let mut out = Vec::new();
        match input {
            GossipInput::PeerConnected { peer, features } => {
                self.peer_connected(now, peer, &features, &mut out);
            }
            GossipInput::PeerDisconnected(peer) => self.peer_disconnected(now, &peer, &mut out),
            GossipInput::Message { peer, message } => self.message(now, peer, message, &mut out),
            GossipInput::Checked { peer, checked } => self.checked(now, peer, *checked, &mut out),
            GossipInput::Unsigned(changes) => self.unsigned(now, &changes),
            GossipInput::Utxo {
                short_channel_id,
                answer,
            } => self.utxo_answered(now, short_channel_id, answer, &mut out),
            GossipInput::PeerBusy { peer, is_busy } => self.peer_busy(&peer, is_busy),
            GossipInput::Tip(height) => {
                self.tip = height;
                self.watch_cached(&mut out);
                self.ask_early(now, &mut out);
            }
            GossipInput::FundingSpent {
                short_channel_id,
                height,
            } => {
                // Unknown channels have nothing to note.
                let _ = self
                    .graph
                    .set_spent(short_channel_id, Some(height.to_u32().max(1)));
            }
            GossipInput::FundingUnspent(short_channel_id) => {
                let _ = self.graph.set_spent(short_channel_id, None);
            }
            GossipInput::OwnChannel(channel) => self.own_channel(now, channel, &mut out),
            GossipInput::OwnChannelUp(id) => self.own_channel_up(now, id, &mut out),
            GossipInput::OwnChannelDown(id) => self.own_channel_down(now, id),
            GossipInput::OwnChannelClosed(id) => self.own_channel_closed(now, id, &mut out),
            GossipInput::OwnAnnouncement(announcement) => {
                self.own_announcement(now, &announcement, &mut out);
            }
            GossipInput::Signed {
                unsigned,
                signature,
            } => self.signed(now, unsigned, signature, &mut out),
            GossipInput::NotSigned(unsigned) => self.not_signed(now, &unsigned),
            GossipInput::Tick => self.tick(now, &mut out),
        }
        self.count_offences(now, &mut out);
        if core::mem::take(&mut self.changed) {
            out.push(GossipOutput::GraphChanged);
        }
        out
    }

    /// Who breaks rules again and again costs more than it is worth: it is not listened to any more.
    fn count_offences(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        let offenders: Vec<NodeId> = out
            .iter()
            .filter_map(|output| {
                if let GossipOutput::Misbehaved { peer, .. } = output {
                    Some(*peer)
                } else {
                    None
                }
            })
            .collect();
        for id in offenders {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.offences += 1;
                if peer.offences > MAX_OFFENCES {
                    self.peer_disconnected(now, &id, out);
                }
            }
        }
    }

    /// When the next [`GossipInput::Tick`] has something to do.
    pub fn next_wake(&self) -> Timestamp {
        let mut wake = self
            .next_prune
            .min(self.next_resync)
            .min(self.own_next_wake());
        if !self.outgoing.is_empty() {
            wake = wake.min(self.next_flush);
        }
        if !self.recheck.is_empty() {
            wake = wake.min(self.next_recheck);
        }
        self.peers
            .values()
            .filter_map(|peer| peer.next_wake(self.broadcast_end()))
            .fold(wake, Timestamp::min)
    }

    fn tick(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        self.refresh_own(now, out);
        if now >= self.next_prune {
            self.next_prune = now.plus_millis(PRUNE_MILLIS);
            self.prune(now);
        }
        if now >= self.next_flush && !self.outgoing.is_empty() {
            self.next_flush = now.plus_millis(self.config.flush_millis);
            self.flush(out);
        }
        if now >= self.next_resync {
            self.next_resync = now.plus_millis(self.resync_interval());
            self.resync_wait = if self.is_lossy {
                self.resync_wait.saturating_mul(2).min(RESYNC_MILLIS)
            } else {
                RESYNC_SOON_MILLIS
            };
            self.is_lossy = false;
            self.resync(now, out);
        }
        self.recheck_cached(now, out);
        self.serve_peers(now, out);
        self.drive_queries(now, out);
    }

    fn resync_interval(&self) -> u64 {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let peers = self.peers.values().filter(|peer| peer.has_queries).count();
        let least = number(self.graph.channel_count()) * RESYNC_MILLIS_PER_CHANNEL;
        (RESYNC_MILLIS / number(peers.max(1))).max(least.clamp(RESYNC_MIN_MILLIS, RESYNC_MILLIS))
    }

    /// Asks another peer each time: no few of them can hide channels from us.
    fn resync(&mut self, now: Timestamp, out: &mut Vec<GossipOutput>) {
        let can = |(_, peer): &(&NodeId, &Peer)| peer.has_queries && !peer.is_syncing();
        let last = self.last_resync;
        let mut after = self.peers.iter().filter(|(id, _)| Some(**id) > last);
        let next = after
            .find(can)
            .or_else(|| self.peers.iter().find(can))
            .map(|(id, _)| *id);
        if let Some(peer) = next {
            self.last_resync = Some(peer);
            self.start_sync(now, peer, out);
        }
    }

    fn prune(&mut self, now: Timestamp) {
        let stale = u32::try_from(now.to_secs_floor().saturating_sub(STALE_SECS)).unwrap_or(0);
        let gone: Vec<ShortChannelId> = self
            .graph
            .forgettable(self.tip.to_u32(), stale)
            .filter(|scid| !self.own.contains_key(scid))
            .collect();
        self.forget_channels(&gone);
        // The chain may know better by now.
        self.refused.clear();
        if now.millis_since(self.recent_since) >= PRUNE_MILLIS {
            self.recent_updates.clear();
            self.recent_announcements.clear();
            self.recent_since = now;
        }
    }

    /// Something was dropped: ask again before long, and later each time that it goes on.
    fn resync_soon(&mut self, now: Timestamp) {
        self.is_lossy = true;
        self.next_resync = self.next_resync.min(now.plus_millis(self.resync_wait));
    }

    fn forget_channels(&mut self, gone: &[ShortChannelId]) {
        if gone.is_empty() {
            return;
        }
        let nodes = self.graph.remove_channels(gone);
        for scid in gone {
            self.messages.remove_channel(*scid, &[]);
        }
        self.messages.remove_nodes(&nodes);
        self.changed = true;
    }

    fn forget_channel(&mut self, scid: ShortChannelId) {
        if let Ok(nodes) = self.graph.remove_channel(scid) {
            self.messages.remove_channel(scid, &nodes);
            self.changed = true;
        }
    }
}
