//! Whom to dial, and when.

use std::{collections::BTreeSet, net::SocketAddr};

use fulmen_types::{NodeId, Timestamp};

use super::{CANDIDATES, Conn, Stage, StandardPolicy, Why};
use crate::{
    host::is_public,
    policy::{ConnId, Output, Question},
};

/// How many others the announced network is asked for at once.
const OTHERS: usize = 64;
/// About how many of our peers it is asked at once.
const ASKED_PEERS: usize = 256;
/// How many nodes the seeds are asked for.
const SEED_NODES: usize = 25;
/// The seeds are asked at the latest after so many of the first waits.
const SEEDS_PATIENCE: u64 = 64;

impl StandardPolicy {
    /// Does what is due.
    pub(super) fn plan(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.dial_wanted(now, out);
        self.dial_strangers(now, out);
        self.ask(now, out);
    }

    fn dials(&self) -> usize {
        let dials = |conn: &&Conn| matches!(conn.stage, Stage::Dial { .. });
        self.conns.values().filter(dials).count()
    }

    /// Those with channels, and those that users wish.
    fn is_wanted(&self, peer: &NodeId) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|p| p.wish.is_some() || (p.has_channel && !p.resting))
    }

    /// Those that are connected or being dialled.
    fn busy(&self) -> BTreeSet<NodeId> {
        let peer = |conn: &Conn| match conn.stage {
            Stage::Live { peer, .. } | Stage::Dial { peer, .. } => Some(peer),
            Stage::Handshake => None,
        };
        self.conns.values().filter_map(peer).collect()
    }

    /// When a wanted peer is due; `None` when it is busy.
    fn due(&self, peer: &NodeId, busy: &BTreeSet<NodeId>) -> Option<Timestamp> {
        let entry = self.peers.get(peer)?;
        if busy.contains(peer) || !self.is_wanted(peer) {
            return None;
        }
        if entry.wish.is_some() {
            return Some(Timestamp::default());
        }
        // Without an address there is nothing to dial: one is asked for.
        entry.has_address().then_some(entry.not_before)
    }

    fn dial_wanted(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let busy = self.busy();
        let mut due: Vec<(Timestamp, NodeId)> = self
            .peers
            .keys()
            .filter_map(|peer| Some((self.due(peer, &busy)?, *peer)))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort_unstable();
        for (_, peer) in due {
            if !self.dial(now, peer, Why::Wanted, out) {
                return;
            }
        }
    }

    /// Whether it could be done now.
    fn dial(&mut self, now: Timestamp, peer: NodeId, reason: Why, out: &mut Vec<Output>) -> bool {
        if self.dials() >= self.config.max_dials.max(1) || !self.budget.take(now) {
            return false;
        }
        let entry = self.peers.entry(peer).or_default();
        entry.last_dial = Some(now);
        let addresses = entry.addresses();
        let id = ConnId::Out(self.next_dial);
        self.next_dial += 1;
        let conn = Conn {
            stage: Stage::Dial { peer, reason },
            host: None,
            since: now,
        };
        self.conns.insert(id, conn);
        out.push(Output::Dial {
            id,
            peer,
            addresses,
        });
        true
    }

    /// How many strangers are to be dialled now.
    fn missing(&self) -> usize {
        let mut peers = BTreeSet::new();
        let mut ours = 0usize;
        for conn in self.conns.values() {
            match conn.stage {
                Stage::Live { peer, reason } => {
                    peers.insert(peer);
                    ours += usize::from(reason == Why::Gossip);
                }
                Stage::Dial {
                    peer,
                    reason: Why::Gossip,
                } => {
                    peers.insert(peer);
                    ours += 1;
                }
                Stage::Dial { .. } | Stage::Handshake => {}
            }
        }
        let few = self.config.min_peers.saturating_sub(peers.len());
        few.min(self.config.max_outbound.saturating_sub(ours))
    }

    /// Whether a peer could be one of those that are dialled for gossip.
    fn is_spare(&self, now: Timestamp, peer: &NodeId, busy: &BTreeSet<NodeId>) -> bool {
        let Some(entry) = self.peers.get(peer) else {
            return !self.is_banned(now, peer);
        };
        !entry.resting
            && !entry.has_channel
            && (!entry.worked.is_empty() || !entry.announced.is_empty())
            && entry.not_before <= now
            && !self.is_banned(now, peer)
            && !busy.contains(peer)
    }

    fn dial_strangers(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        for _ in 0..self.missing() {
            let busy = self.busy();
            let known: Vec<NodeId> = self
                .peers
                .keys()
                .filter(|peer| self.is_spare(now, peer, &busy))
                .copied()
                .collect();
            let fresh: Vec<NodeId> = self.candidates.keys().copied().collect();
            // Who was reached before is likely to be there; but not only they are asked, or a node that was
            // led to a wrong part of the network would stay there.
            let from = match (known.is_empty(), fresh.is_empty()) {
                (true, true) => return,
                (false, true) => known,
                (true, false) => fresh,
                (false, false) if self.random.next_u64().is_multiple_of(2) => known,
                (false, false) => fresh,
            };
            let pick = self.random.next_u64() % from.len() as u64;
            let Some(peer) = usize::try_from(pick).ok().and_then(|pick| from.get(pick)) else {
                return;
            };
            let peer = *peer;
            let candidate = self.candidates.remove(&peer);
            if self.is_banned(now, &peer) {
                continue;
            }
            if let Some(addresses) = candidate {
                let entry = self.peers.entry(peer).or_default();
                entry.announced = addresses;
                entry.last_good = entry.last_good.max(now);
            }
            if !self.dial(now, peer, Why::Gossip, out) {
                return;
            }
        }
    }

    /// Peers with channels that can't be found where they were.
    fn lost(&self) -> Vec<NodeId> {
        let busy = self.busy();
        self.peers
            .iter()
            .filter(|(peer, entry)| {
                entry.has_channel
                    && !entry.resting
                    && (entry.failures > 0 || !entry.has_address())
                    && !busy.contains(*peer)
            })
            .map(|(peer, _)| *peer)
            .collect()
    }

    fn has_spare(&self, now: Timestamp) -> bool {
        let busy = self.busy();
        !self.candidates.is_empty()
            || self
                .peers
                .keys()
                .any(|peer| self.is_spare(now, peer, &busy))
    }

    fn ask(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let needs_others =
            self.missing() > 0 && !self.has_spare(now) && self.candidates.len() < CANDIDATES;
        let mut nodes = self.lost();
        if (needs_others || !nodes.is_empty()) && self.asking.graph_not_before <= now {
            self.asking.graph_not_before = now.plus_millis(self.config.ask_interval.max(1));
            // Not always the same ones, should there be very many.
            let start = usize::try_from(self.random.next_u64() % (nodes.len() as u64 + 1));
            let middle = start.unwrap_or(0).min(nodes.len());
            nodes.rotate_left(middle);
            nodes.truncate(ASKED_PEERS);
            out.push(Output::Ask(Question::Graph {
                nodes,
                others: if needs_others { OTHERS } else { 0 },
                pick: self.random.next_u64(),
            }));
        }
        if needs_others && self.wants_seeds() && self.asking.seeds_not_before <= now {
            let doublings = self.asking.seeds_asked.min(16);
            let first = self.config.seeds_interval.max(1);
            let wait = first
                .saturating_mul(1 << doublings)
                .min(first.saturating_mul(SEEDS_PATIENCE));
            self.asking.seeds_not_before = now.plus_millis(wait);
            self.asking.seeds_asked = self.asking.seeds_asked.saturating_add(1);
            out.push(Output::Ask(Question::Seeds { count: SEED_NODES }));
        }
    }

    /// Only when nobody else is known: the announced network was asked and had nobody, and no peer is
    /// connected, or has ever been reached.
    fn wants_seeds(&self) -> bool {
        let is_known =
            |peer: &super::Peer| peer.has_channel || !peer.worked.is_empty() || peer.wish.is_some();
        self.config.bootstrap
            && self.asking.graph_is_empty
            && !self
                .conns
                .values()
                .any(|conn| matches!(conn.stage, Stage::Live { .. }))
            && !self.peers.values().any(is_known)
    }

    /// When there is something to do without anything happening.
    pub(super) fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let mut wakes = Vec::new();
        // What waits for the end of a dial is looked at again when one ends.
        if self.dials() < self.config.max_dials.max(1) {
            let busy = self.busy();
            let due = self.peers.keys().filter_map(|peer| self.due(peer, &busy));
            let spare_at = self
                .peers
                .iter()
                .filter(|(_, p)| !p.resting && !p.has_channel && p.not_before > now)
                .map(|(_, p)| p.not_before);
            let spare = (self.missing() > 0).then(|| {
                if self.has_spare(now) {
                    now
                } else {
                    spare_at.min().unwrap_or(Timestamp::new(u64::MAX))
                }
            });
            let budget = self.budget.next(now);
            wakes.extend(due.chain(spare).min().map(|at| at.max(budget)));
        }
        let needs_others = self.missing() > 0 && !self.has_spare(now);
        if needs_others || !self.lost().is_empty() {
            wakes.push(self.asking.graph_not_before);
        }
        if needs_others && self.wants_seeds() {
            wakes.push(self.asking.seeds_not_before);
        }
        let first = wakes.into_iter().min()?;
        Some(first.max(now.plus_millis(1)))
    }

    /// Whether an address that somebody else gave may be dialled. Strangers must name an address of the
    /// public internet: a name could stand for anything by the time it is looked up.
    pub(super) fn may_dial(&self, address: &str, has_channel: bool) -> bool {
        if address.len() > super::ADDRESS_LEN {
            return false;
        }
        match address.parse::<SocketAddr>() {
            Ok(socket) => {
                socket.port() != 0 && (self.config.dial_private || is_public(socket.ip()))
            }
            Err(_) => has_channel,
        }
    }
}
