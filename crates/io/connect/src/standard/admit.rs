//! Who may come in.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use fulmen_types::{NodeId, Timestamp};

use super::{ADDRESS_LEN, ADDRESSES, Conn, Stage, StandardPolicy, Why};
use crate::{
    host::{Group, Host},
    policy::{ConnId, Direction, Output, Refusal},
};

impl StandardPolicy {
    /// Before the handshake nobody knows who it is: an old friend may come out of a crowd.
    pub(super) fn incoming(
        &mut self,
        now: Timestamp,
        id: ConnId,
        ip: IpAddr,
        out: &mut Vec<Output>,
    ) {
        let host = Host::of(ip);
        if let Some(host) = host
            && self.scores.is_bad_host(now, host)
            && !self.is_home_of_friend(host)
        {
            let why = Refusal::Banned;
            return out.push(Output::Refuse { id, why });
        }
        let shaking = |conns: &BTreeMap<ConnId, Conn>, fits: &dyn Fn(&Conn) -> bool| {
            conns
                .iter()
                .filter(|(_, conn)| conn.stage == Stage::Handshake && fits(conn))
                .map(|(id, _)| *id)
                .collect::<Vec<ConnId>>()
        };
        let from_host = shaking(&self.conns, &|conn| host.is_some() && conn.host == host);
        let all = shaking(&self.conns, &|_| true);
        // One of those that are at it gives way, at random and from where most are: a crowd hurts itself,
        // and whoever shakes hands quickly gets through.
        let crowd = if from_host.len() >= self.config.max_handshakes_per_host.max(1) {
            from_host
        } else if all.len() >= self.config.max_handshakes.max(1) {
            self.most_crowded(&all, Host::group(host))
        } else {
            Vec::new()
        };
        if !crowd.is_empty() {
            let pick = self.random.next_u64() % crowd.len() as u64;
            let victim = usize::try_from(pick).ok().and_then(|pick| crowd.get(pick));
            if let Some(victim) = victim {
                self.conns.remove(victim);
                out.push(Output::Drop {
                    id: *victim,
                    why: Refusal::Crowded,
                });
            }
        }
        let stage = Stage::Handshake;
        let since = now;
        self.conns.insert(id, Conn { stage, host, since });
        out.push(Output::Accept { id });
    }

    fn is_home_of_friend(&self, host: Host) -> bool {
        self.peers
            .values()
            .any(|peer| peer.has_channel && peer.home == Some(host))
    }

    /// The sockets of the network with the most of them, the newcomer counted; its own of two.
    fn most_crowded(&self, ids: &[ConnId], newcomer: Group) -> Vec<ConnId> {
        let group_of = |id: &ConnId| self.conns.get(id).map(|conn| Host::group(conn.host));
        let mut groups: BTreeMap<Group, Vec<ConnId>> = BTreeMap::new();
        for id in ids {
            if let Some(group) = group_of(id) {
                groups.entry(group).or_default().push(*id);
            }
        }
        let most = groups.into_iter().max_by_key(|(group, ids)| {
            let is_newcomers = *group == newcomer;
            (ids.len() + usize::from(is_newcomers), is_newcomers)
        });
        most.map(|(_, ids)| ids).unwrap_or_default()
    }

    /// The handshake is done: who is it?
    pub(super) fn connected(
        &mut self,
        now: Timestamp,
        id: ConnId,
        peer: NodeId,
        address: Option<String>,
        out: &mut Vec<Output>,
    ) {
        let Some(conn) = self.conns.get(&id) else {
            // It has been given up meanwhile.
            let why = Refusal::Unwanted;
            return out.push(Output::Refuse { id, why });
        };
        let host = conn.host;
        let reason = match conn.stage {
            Stage::Dial { reason, .. } | Stage::Live { reason, .. } => reason,
            Stage::Handshake => Why::Came,
        };
        if let Some(why) = self.refusal(now, id.direction(), &peer, host, out) {
            self.conns.remove(&id);
            if id.direction() == Direction::Outbound {
                self.unwish(&peer);
            }
            return out.push(Output::Refuse { id, why });
        }
        // An old connection with the same peer gives way to this one, or this one to it: the network tells.
        let stage = Stage::Live { peer, reason };
        let since = now;
        self.conns.insert(id, Conn { stage, host, since });
        self.candidates.remove(&peer);
        let entry = self.peers.entry(peer).or_default();
        entry.wish = None;
        entry.last_error = None;
        entry.last_good = now;
        match id.direction() {
            Direction::Inbound => entry.home = host,
            Direction::Outbound => {
                if let Some(address) = address.filter(|a| a.len() <= ADDRESS_LEN) {
                    entry.worked.retain(|old| *old != address);
                    entry.worked.insert(0, address);
                    entry.worked.truncate(ADDRESSES);
                }
            }
        }
        out.push(Output::Accept { id });
    }

    fn refusal(
        &mut self,
        now: Timestamp,
        direction: Direction,
        peer: &NodeId,
        host: Option<Host>,
        out: &mut Vec<Output>,
    ) -> Option<Refusal> {
        if direction == Direction::Outbound {
            return self.is_banned(now, peer).then_some(Refusal::Banned);
        }
        if let Some(entry) = self.peers.get(peer).filter(|entry| entry.has_channel) {
            let waits = entry.throttled_until > now && self.scores.is_bad_peer(now, peer);
            return waits.then_some(Refusal::Throttled);
        }
        if self.is_banned(now, peer) {
            return Some(Refusal::Banned);
        }
        let strangers = self.strangers(Some(peer));
        let from_host = strangers
            .iter()
            .filter(|s| host.is_some() && s.host == host);
        let group = Host::group(host);
        let from_group = strangers.iter().filter(|s| Host::group(s.host) == group);
        if from_host.count() >= self.config.max_per_host
            || (group != Group::Local && from_group.count() >= self.config.max_per_group)
        {
            return Some(Refusal::Crowded);
        }
        if strangers.len() < self.config.max_inbound {
            return None;
        }
        let newcomer = Stranger {
            peer: *peer,
            host,
            since: now,
        };
        let worst = self.least_useful(now, strangers, Some(newcomer))?;
        if worst == *peer {
            return Some(Refusal::Full);
        }
        self.drop_all(&worst, Refusal::Evicted, out);
        None
    }

    /// Peers without channels that came to us, but for one: it has one slot at most.
    fn strangers(&self, except: Option<&NodeId>) -> Vec<Stranger> {
        let mut strangers: BTreeMap<NodeId, Stranger> = BTreeMap::new();
        for (id, conn) in &self.conns {
            let Stage::Live { peer, .. } = conn.stage else {
                continue;
            };
            let is_stranger = id.direction() == Direction::Inbound
                && except != Some(&peer)
                && !self.has_channel(&peer);
            if is_stranger {
                let since = conn.since;
                let host = conn.host;
                strangers
                    .entry(peer)
                    .or_insert(Stranger { peer, host, since });
            }
        }
        strangers.into_values().collect()
    }

    /// Who misbehaved most; of those alike, who comes from where most come from; of those, who came last.
    fn least_useful(
        &self,
        now: Timestamp,
        mut strangers: Vec<Stranger>,
        newcomer: Option<Stranger>,
    ) -> Option<NodeId> {
        let newcomers = newcomer.map(|newcomer| newcomer.peer);
        strangers.extend(newcomer);
        let mut crowds: BTreeMap<Group, usize> = BTreeMap::new();
        for stranger in &strangers {
            *crowds.entry(Host::group(stranger.host)).or_default() += 1;
        }
        let worst = strangers.iter().min_by_key(|s| {
            let crowd = crowds.get(&Host::group(s.host)).copied();
            let score = self.scores.of_peer(now, &s.peer);
            (
                Reverse(score),
                Reverse(crowd),
                Reverse(s.since),
                newcomers != Some(s.peer),
            )
        });
        worst.map(|stranger| stranger.peer)
    }

    /// A peer whose last channel has ended may be one stranger too many.
    pub(super) fn keep_slots(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        loop {
            let strangers = self.strangers(None);
            if strangers.len() <= self.config.max_inbound {
                return;
            }
            let Some(peer) = self.least_useful(now, strangers, None) else {
                return;
            };
            self.drop_all(&peer, Refusal::Evicted, out);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Stranger {
    peer: NodeId,
    host: Option<Host>,
    since: Timestamp,
}
