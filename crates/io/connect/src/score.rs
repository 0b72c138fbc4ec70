//! How much was misbehaved, which time halves.

use std::collections::BTreeMap;

use fulmen_types::{NodeId, Timestamp};

use crate::{host::Host, policy::Offence};

/// A ban, for who has no channels.
pub(crate) const BANNED: u32 = 100;
/// The same for a host: many may be behind one address.
pub(crate) const HOST_BANNED: u32 = 400;
/// No score is higher: whatever was done, the ban ends after some half-lives.
pub(crate) const WORST: u32 = 1_600;
/// Below this nothing is remembered.
const FORGOTTEN: u32 = 1;
/// How many are remembered of each kind.
const MOST: usize = 4_096;

impl Offence {
    /// How much it weighs.
    pub(crate) const fn weight(self) -> u32 {
        match self {
            Self::Violation | Self::BadBytes => 35,
            Self::Gossip => 10,
            Self::DoesNotRead => 10,
            Self::Silent => 5,
            Self::BadHandshake => 4,
            Self::Incompatible => 0,
        }
    }
}

/// A score as it was at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) points: u32,
    pub(crate) at: Timestamp,
}

impl Score {
    /// What is left of it: half after each half-life, on a straight line in between.
    pub(crate) fn now(self, now: Timestamp, half_life: u64) -> u32 {
        let half_life = half_life.max(1);
        let passed = now.millis_since(self.at);
        let halvings = u32::try_from(passed / half_life).unwrap_or(u32::MAX);
        let start = self.points.checked_shr(halvings).unwrap_or(0);
        let rest = u128::from(start / 2) * u128::from(passed % half_life) / u128::from(half_life);
        // It is at most half of `start`.
        start.saturating_sub(u32::try_from(rest).unwrap_or(start))
    }

    /// When it is below a limit.
    fn until(self, limit: u32, half_life: u64) -> Timestamp {
        let (mut from, mut to) = (0u64, half_life.max(1).saturating_mul(40));
        while from < to {
            let middle = from + (to - from) / 2;
            if self.now(self.at.plus_millis(middle), half_life) < limit {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        self.at.plus_millis(from)
    }
}

/// The scores of all that have misbehaved.
#[derive(Clone, Debug)]
pub(crate) struct Scores {
    half_life: u64,
    pub(crate) peers: BTreeMap<NodeId, Score>,
    hosts: BTreeMap<Host, Score>,
}

impl Scores {
    pub(crate) fn new(half_life: u64) -> Self {
        Self {
            half_life,
            peers: BTreeMap::new(),
            hosts: BTreeMap::new(),
        }
    }

    pub(crate) fn blame_peer(&mut self, now: Timestamp, peer: NodeId, offence: Offence) {
        add(&mut self.peers, now, self.half_life, peer, offence);
    }

    pub(crate) fn blame_host(&mut self, now: Timestamp, host: Host, offence: Offence) {
        add(&mut self.hosts, now, self.half_life, host, offence);
    }

    pub(crate) fn of_peer(&self, now: Timestamp, peer: &NodeId) -> u32 {
        self.peers
            .get(peer)
            .map_or(0, |score| score.now(now, self.half_life))
    }

    pub(crate) fn is_bad_peer(&self, now: Timestamp, peer: &NodeId) -> bool {
        self.of_peer(now, peer) >= BANNED
    }

    pub(crate) fn is_bad_host(&self, now: Timestamp, host: Host) -> bool {
        let score = self.hosts.get(&host);
        score.is_some_and(|score| score.now(now, self.half_life) >= HOST_BANNED)
    }

    pub(crate) fn forgive(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    /// Who is banned for misbehaviour, and until when.
    pub(crate) fn banned(&self, now: Timestamp) -> impl Iterator<Item = (NodeId, Timestamp)> {
        let half_life = self.half_life;
        self.peers
            .iter()
            .filter(move |(_, score)| score.now(now, half_life) >= BANNED)
            .map(move |(peer, score)| (*peer, score.until(BANNED, half_life)))
    }
}

fn add<K: Copy + Ord>(
    scores: &mut BTreeMap<K, Score>,
    now: Timestamp,
    half_life: u64,
    who: K,
    offence: Offence,
) {
    if offence.weight() == 0 {
        return;
    }
    let left = scores.get(&who).map_or(0, |s| s.now(now, half_life));
    let points = left.saturating_add(offence.weight()).min(WORST);
    scores.insert(who, Score { points, at: now });
    if scores.len() > MOST {
        scores.retain(|_, score| score.now(now, half_life) > FORGOTTEN);
    }
    if scores.len() > MOST {
        let least = scores.iter().min_by_key(|(_, s)| s.now(now, half_life));
        if let Some(least) = least.map(|(who, _)| *who) {
            scores.remove(&least);
        }
    }
}
