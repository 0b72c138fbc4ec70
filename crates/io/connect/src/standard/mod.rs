//! The standard policy: peers with channels always, some strangers for gossip, nobody too often.

mod admit;
mod dial;
mod memory;
mod view;

use std::collections::BTreeMap;

use fulmen_types::{KeyStream, NodeId, Timestamp};

use crate::{
    backoff::DialBudget,
    config::ConnectConfig,
    host::Host,
    policy::{
        ConnId, ConnectionPolicy, Input, NodeAddresses, Offence, Output, Refusal, Source, View,
    },
    score::Scores,
};

/// How many addresses of one origin are kept of a peer.
const ADDRESSES: usize = 8;
/// The longest address: a host name of 255 characters, a colon and a port.
const ADDRESS_LEN: usize = 261;
/// How many strangers are kept in store to be dialled.
const CANDIDATES: usize = 256;
/// A wish for a connection that is there counts for so long after it ends: it may have been asked for when
/// the end was under way.
const WISH_MILLIS: u64 = 30_000;
/// How long a stranger of another chain is left alone.
const INCOMPATIBLE_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// The standard [`ConnectionPolicy`].
///
/// - Peers with channels are dialled until they are connected, with waits that double and jitter, and are
///   never refused, evicted or banned; those that misbehave have to wait before they come back.
/// - When there are few peers, strangers are dialled: those that were reached before, then those that the
///   announced network knows, and when nobody at all is known, those that DNS seeds name.
/// - Strangers that dial us take the slots that there are. When all are taken, the least useful gives way:
///   who misbehaved most, who comes from the most crowded network, who came last.
/// - Misbehaviour adds up and halves with time; beyond a threshold strangers are banned.
/// - However many things happen, dials are counted.
#[derive(Clone, Debug)]
pub struct StandardPolicy {
    config: ConnectConfig,
    random: KeyStream,
    peers: BTreeMap<NodeId, Peer>,
    conns: BTreeMap<ConnId, Conn>,
    next_dial: u64,
    budget: DialBudget,
    scores: Scores,
    /// What users said.
    bans: BTreeMap<NodeId, Timestamp>,
    candidates: BTreeMap<NodeId, Vec<String>>,
    asking: Asking,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default)]
struct Peer {
    has_channel: bool,
    /// Not to be dialled until a user asks for it.
    resting: bool,
    /// Where it was reached, the last first.
    worked: Vec<String>,
    /// Where users and the node's records say that it is.
    told: Vec<String>,
    /// Where it announces itself, or where a seed says that it is.
    announced: Vec<String>,
    /// When a user asked for a connection that is not there yet.
    wish: Option<Timestamp>,
    failures: u32,
    last_error: Option<String>,
    last_dial: Option<Timestamp>,
    /// When a good connection was last seen.
    last_good: Timestamp,
    /// Before this it is not dialled, unless a user wishes it.
    not_before: Timestamp,
    /// A misbehaving peer with channels does not come in before this.
    throttled_until: Timestamp,
    /// From where it came last.
    home: Option<Host>,
}

/// A socket or a dial.
#[derive(Clone, Debug)]
struct Conn {
    stage: Stage,
    host: Option<Host>,
    since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Inbound, before the peer has proven its key.
    Handshake,
    /// Being dialled.
    Dial { peer: NodeId, reason: Why },
    /// Connected.
    Live { peer: NodeId, reason: Why },
}

/// Why there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// There are channels, or a user wished it.
    Wanted,
    /// We looked for gossip.
    Gossip,
    /// The peer came.
    Came,
}

/// What was asked for, and when it may be asked again.
#[derive(Clone, Debug, Default)]
struct Asking {
    graph_not_before: Timestamp,
    seeds_not_before: Timestamp,
    seeds_asked: u32,
    /// Whether the announced network had nobody when it was last asked for others.
    graph_is_empty: bool,
}

impl StandardPolicy {
    /// A policy with a memory: what [`ConnectionPolicy::memory`] gave before, or nothing. One that can't be
    /// read counts as none. The seed should be fresh random bytes.
    pub fn new(config: ConnectConfig, seed: [u8; 32], memory: &[u8]) -> Self {
        let mut policy = Self {
            random: KeyStream::new(seed, b"connection policy"),
            budget: DialBudget::new(config.dials_per_minute, config.dial_burst),
            scores: Scores::new(config.score_half_life),
            config,
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_dial: 1,
            bans: BTreeMap::new(),
            candidates: BTreeMap::new(),
            asking: Asking::default(),
        };
        policy.remember(memory);
        policy
    }

    fn live_of(&self, peer: &NodeId) -> Option<(&ConnId, &Conn)> {
        self.conns
            .iter()
            .rfind(|(_, conn)| matches!(conn.stage, Stage::Live { peer: p, .. } if p == *peer))
    }

    fn dial_of(&self, peer: &NodeId) -> Option<ConnId> {
        self.conns
            .iter()
            .find(|(_, conn)| matches!(conn.stage, Stage::Dial { peer: p, .. } if p == *peer))
            .map(|(id, _)| *id)
    }

    fn has_channel(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|p| p.has_channel)
    }

    fn is_user_banned(&self, now: Timestamp, peer: &NodeId) -> bool {
        self.bans.get(peer).is_some_and(|until| *until > now)
    }

    /// Whether a peer without channels is not wanted.
    fn is_banned(&self, now: Timestamp, peer: &NodeId) -> bool {
        !self.has_channel(peer)
            && (self.is_user_banned(now, peer) || self.scores.is_bad_peer(now, peer))
    }

    fn drop_all(&mut self, peer: &NodeId, why: Refusal, out: &mut Vec<Output>) {
        let theirs = |conn: &Conn| match conn.stage {
            Stage::Live { peer: p, .. } | Stage::Dial { peer: p, .. } => p == *peer,
            Stage::Handshake => false,
        };
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| theirs(conn))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.conns.remove(&id);
            out.push(Output::Drop { id, why });
        }
        if why == Refusal::Banned {
            self.unwish(peer);
        }
    }

    /// What a user wished can't be had: it is not tried again and again.
    fn unwish(&mut self, peer: &NodeId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.wish = None;
        }
    }

    fn ended(&mut self, now: Timestamp, id: ConnId, offence: Option<Offence>) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        if let (Some(host), Some(offence)) = (conn.host, offence) {
            self.scores.blame_host(now, host, offence);
        }
        let Stage::Live { peer, .. } = conn.stage else {
            return;
        };
        if let Some(offence) = offence {
            self.blame(now, peer, offence);
        }
        if self.live_of(&peer).is_some() {
            // Another connection has taken its place.
            return;
        }
        let is_bad = self.scores.is_bad_peer(now, &peer);
        let lived_well = now.millis_since(conn.since) >= self.config.good_life;
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        if lived_well {
            entry.failures = 0;
            entry.last_good = now;
        }
        entry.failures = entry.failures.saturating_add(1);
        let wait = self
            .config
            .wait(entry.has_channel, entry.failures, &mut self.random);
        entry.not_before = entry.not_before.max(now.plus_millis(wait));
        if lived_well {
            // The end of a good connection is no failure, only the first wait before the next.
            entry.failures = 0;
        }
        if is_bad {
            entry.throttled_until = now.plus_millis(self.config.throttle);
            entry.not_before = entry.not_before.max(entry.throttled_until);
        }
        if entry
            .wish
            .is_some_and(|at| now.millis_since(at) > WISH_MILLIS)
        {
            entry.wish = None;
        }
    }

    fn dial_failed(&mut self, now: Timestamp, id: ConnId, why: String) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        let Stage::Dial { peer, .. } = conn.stage else {
            return;
        };
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        entry.wish = None;
        entry.failures = entry.failures.saturating_add(1);
        entry.last_error = Some(why);
        let wait = self
            .config
            .wait(entry.has_channel, entry.failures, &mut self.random);
        entry.not_before = now.plus_millis(wait);
    }

    fn blame(&mut self, now: Timestamp, peer: NodeId, offence: Offence) {
        self.scores.blame_peer(now, peer, offence);
        if offence == Offence::Incompatible {
            let entry = self.peers.entry(peer).or_default();
            if !entry.has_channel {
                entry.not_before = now.plus_millis(INCOMPATIBLE_MILLIS);
            }
            self.candidates.remove(&peer);
        }
    }

    fn misbehaved(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        offence: Offence,
        out: &mut Vec<Output>,
    ) {
        self.blame(now, peer, offence);
        let host = self.live_of(&peer).and_then(|(_, conn)| conn.host);
        if let Some(host) = host {
            self.scores.blame_host(now, host, offence);
        }
        if self.is_banned(now, &peer) {
            self.drop_all(&peer, Refusal::Banned, out);
        }
    }

    fn channel(&mut self, peer: NodeId, addresses: Vec<String>) {
        let entry = self.peers.entry(peer).or_default();
        if !entry.has_channel {
            entry.has_channel = true;
            // Whatever it was before: this one is looked for.
            entry.failures = 0;
            entry.not_before = Timestamp::default();
        }
        merge(&mut entry.told, addresses);
        self.candidates.remove(&peer);
    }

    fn no_channel(&mut self, now: Timestamp, peer: NodeId, out: &mut Vec<Output>) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        entry.has_channel = false;
        if self.is_banned(now, &peer) {
            self.drop_all(&peer, Refusal::Banned, out);
        } else if let Some(id) = self.dial_of(&peer)
            && self.peers.get(&peer).is_none_or(|p| p.wish.is_none())
        {
            self.conns.remove(&id);
            out.push(Output::Drop {
                id,
                why: Refusal::Unwanted,
            });
        }
        self.keep_slots(now, out);
    }

    fn wish(
        &mut self,
        now: Timestamp,
        peer: NodeId,
        addresses: Vec<String>,
        out: &mut Vec<Output>,
    ) {
        self.bans.remove(&peer);
        if self.scores.is_bad_peer(now, &peer) {
            self.scores.forgive(&peer);
        }
        let entry = self.peers.entry(peer).or_default();
        entry.resting = false;
        entry.wish = Some(now);
        merge(&mut entry.told, addresses);
        // A dial of our own may be at an address that is no more: this one goes first.
        if let Some(id) = self.dial_of(&peer) {
            self.conns.remove(&id);
            out.push(Output::Drop {
                id,
                why: Refusal::Replaced,
            });
        }
    }

    fn rest(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let entry = self.peers.entry(peer).or_default();
        entry.resting = true;
        entry.wish = None;
        if let Some(id) = self.dial_of(&peer) {
            self.conns.remove(&id);
            out.push(Output::Drop {
                id,
                why: Refusal::Unwanted,
            });
        }
    }

    fn ban(&mut self, now: Timestamp, peer: NodeId, until: Timestamp, out: &mut Vec<Output>) {
        if self.has_channel(&peer) || until <= now {
            return;
        }
        self.bans.insert(peer, until);
        self.candidates.remove(&peer);
        self.drop_all(&peer, Refusal::Banned, out);
    }

    fn heard(&mut self, now: Timestamp, source: Source, nodes: Vec<NodeAddresses>) {
        let mut others = 0usize;
        for NodeAddresses { node, addresses } in nodes.into_iter().take(4 * CANDIDATES) {
            let has_channel = self.has_channel(&node);
            let mut usable: Vec<String> = addresses
                .into_iter()
                .filter(|address| self.may_dial(address, has_channel))
                .take(ADDRESSES)
                .collect();
            usable.dedup();
            if usable.is_empty() {
                continue;
            }
            match self.peers.get_mut(&node) {
                Some(entry) if source == Source::Graph => {
                    let is_new = usable.iter().any(|a| !entry.knows(a));
                    entry.announced = usable;
                    // A new address is worth a try now, but not again and again.
                    let soon = entry
                        .last_dial
                        .map_or(now, |at| at.plus_millis(self.config.min_backoff.max(1) * 4));
                    if is_new && entry.has_channel {
                        entry.not_before = entry.not_before.min(soon.max(entry.throttled_until));
                    }
                }
                Some(_) => {}
                None if self.candidates.len() < CANDIDATES => {
                    others += 1;
                    self.candidates.insert(node, usable);
                }
                None => {}
            }
        }
        match source {
            Source::Graph => self.asking.graph_is_empty = others == 0,
            Source::Seeds if others > 0 => self.asking.seeds_asked = 0,
            Source::Seeds => {}
        }
    }
}

impl ConnectConfig {
    fn wait(&self, has_channel: bool, failures: u32, random: &mut KeyStream) -> u64 {
        if has_channel {
            crate::backoff::wait(failures, self.min_backoff, self.max_backoff, random)
        } else {
            let most = self.stranger_backoff.saturating_mul(64);
            crate::backoff::wait(failures, self.stranger_backoff, most, random)
        }
    }
}

impl Peer {
    /// Best first: what a user or the node said last, what worked, what is announced.
    fn addresses(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let first = self.wish.and(self.told.first());
        let places = first
            .into_iter()
            .chain(&self.worked)
            .chain(&self.announced)
            .chain(&self.told);
        for address in places {
            if !all.contains(address) && all.len() < ADDRESSES {
                all.push(address.clone());
            }
        }
        all
    }

    fn has_address(&self) -> bool {
        !(self.worked.is_empty() && self.announced.is_empty() && self.told.is_empty())
    }

    fn knows(&self, address: &String) -> bool {
        self.worked.contains(address)
            || self.told.contains(address)
            || self.announced.contains(address)
    }
}

/// Puts the new ones before the old ones.
fn merge(known: &mut Vec<String>, new: Vec<String>) {
    for address in new.into_iter().take(ADDRESSES).rev() {
        if address.len() <= ADDRESS_LEN {
            known.retain(|old| *old != address);
            known.insert(0, address);
        }
    }
    known.truncate(ADDRESSES);
}

impl ConnectionPolicy for StandardPolicy {
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Incoming { id, ip } => self.incoming(now, id, ip, &mut out),
            Input::Connected { id, peer, address } => {
                self.connected(now, id, peer, address, &mut out);
            }
            Input::Ended { id, offence } => self.ended(now, id, offence),
            Input::DialFailed { id, why } => self.dial_failed(now, id, why),
            Input::Misbehaved { peer, offence } => self.misbehaved(now, peer, offence, &mut out),
            Input::Channel { peer, addresses } => self.channel(peer, addresses),
            Input::NoChannel { peer } => self.no_channel(now, peer, &mut out),
            Input::Connect { peer, addresses } => self.wish(now, peer, addresses, &mut out),
            Input::Rest { peer } => self.rest(peer, &mut out),
            Input::Ban { peer, until } => self.ban(now, peer, until, &mut out),
            Input::Unban { peer } => {
                self.bans.remove(&peer);
                self.scores.forgive(&peer);
            }
            Input::Heard { source, nodes } => self.heard(now, source, nodes),
            Input::Tick => {}
        }
        self.bans.retain(|_, until| *until > now);
        self.forget();
        self.plan(now, &mut out);
        out
    }

    fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        self.wake(now)
    }

    fn view(&self, now: Timestamp) -> View {
        self.look(now)
    }

    fn memory(&self, now: Timestamp) -> Vec<u8> {
        self.memorise(now)
    }
}
