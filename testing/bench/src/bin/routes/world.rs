//! A network with hidden balances: what really happens to HTLCs, and what routes are really worth.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmen_gossip::{Direction, NetworkGraph};
use fulmen_netgen::{Network, Rng};
use fulmen_router::{CostModel, FirstHop};
use fulmen_types::{Msat, NodeId};

/// How balances are spread over capacities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balances {
    /// Every share of the capacity is as likely.
    Uniform,
    /// Nine of ten at one of the ends, falling off exponentially with a 20th of the capacity.
    Bimodal,
    /// Around the middle: the mean of two uniform draws.
    Balanced,
}

/// At the ends of a bimodal channel.
const SCALE: f64 = 0.05;
const AT_ENDS: f64 = 0.9;

impl Balances {
    pub(crate) const ALL: [Self; 3] = [Self::Uniform, Self::Bimodal, Self::Balanced];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Bimodal => "bimodal",
            Self::Balanced => "balanced",
        }
    }

    fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Uniform => rng.unit(),
            Self::Bimodal if rng.unit() < AT_ENDS => {
                let whole = 1.0 - (-1.0 / SCALE).exp();
                let share = -SCALE * (1.0 - rng.unit() * whole).ln();
                if rng.below(2) == 0 {
                    share
                } else {
                    1.0 - share
                }
            }
            Self::Bimodal => rng.unit(),
            Self::Balanced => (rng.unit() + rng.unit()) / 2.0,
        }
    }

    /// The probability that a balance is at least this share of the capacity.
    pub(crate) fn chance(self, share: f64) -> f64 {
        let x = share.clamp(0.0, 1.0);
        match self {
            Self::Uniform => 1.0 - x,
            Self::Bimodal => {
                let whole = 1.0 - (-1.0 / SCALE).exp();
                let above = |x: f64| 1.0 - (1.0 - (-x / SCALE).exp()) / whole;
                let ends = (above(x) + 1.0 - above(1.0 - x)) / 2.0;
                AT_ENDS * ends + (1.0 - AT_ENDS) * (1.0 - x)
            }
            Self::Balanced if x < 0.5 => 1.0 - 2.0 * x * x,
            Self::Balanced => 2.0 * (1.0 - x) * (1.0 - x),
        }
    }
}

/// One HTLC's hop: the channel, its direction, and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) short_channel_id: u64,
    pub(crate) direction: Direction,
    pub(crate) amount: u64,
}

/// A route in neutral terms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    pub(crate) hops: Vec<Hop>,
    /// What the payee gets.
    pub(crate) amount: u64,
    /// Blocks beyond those that the payee asks for.
    pub(crate) blocks: u64,
}

impl Way {
    pub(crate) fn fee(&self) -> u64 {
        self.hops.first().map_or(0, |hop| hop.amount) - self.amount
    }
}

/// Balances, in millisatoshis in forward direction, by short id; `held` by HTLCs in each direction.
#[derive(Clone)]
pub(crate) struct World {
    channels: Arc<BTreeMap<u64, (u64, [NodeId; 2])>>,
    balances: BTreeMap<u64, u64>,
    held: BTreeMap<(u64, Direction), u64>,
}

impl World {
    pub(crate) fn new(network: &Network, balances: Balances, seed: u64) -> Self {
        let mut rng = Rng::fork(seed, 77);
        let mut channels = BTreeMap::new();
        let mut drawn = BTreeMap::new();
        for channel in &network.channels {
            let capacity = channel.capacity.to_sat() * 1_000;
            let scid = channel.short_channel_id.to_u64();
            let nodes = channel.nodes.map(|node| network.nodes[node as usize]);
            channels.insert(scid, (capacity, nodes));
            drawn.insert(scid, (balances.draw(&mut rng) * capacity as f64) as u64);
        }
        Self {
            channels: Arc::new(channels),
            balances: drawn,
            held: BTreeMap::new(),
        }
    }

    pub(crate) fn capacity(&self, short_channel_id: u64) -> u64 {
        self.channels.get(&short_channel_id).map_or(0, |c| c.0)
    }

    /// What can be sent now.
    pub(crate) fn free(&self, short_channel_id: u64, direction: Direction) -> u64 {
        let Some(balance) = self.balances.get(&short_channel_id) else {
            return 0;
        };
        let has = match direction {
            Direction::Forward => *balance,
            Direction::Backward => self.capacity(short_channel_id) - balance,
        };
        let held = self.held.get(&(short_channel_id, direction));
        has.saturating_sub(held.copied().unwrap_or(0))
    }

    /// Sends an HTLC: held all the way to the payee, or the index of the hop that has no room for it.
    pub(crate) fn send(&mut self, way: &Way) -> Result<(), usize> {
        for (index, hop) in way.hops.iter().enumerate() {
            if self.free(hop.short_channel_id, hop.direction) < hop.amount {
                for hop in &way.hops[..index] {
                    self.release(hop);
                }
                return Err(index);
            }
            *self
                .held
                .entry((hop.short_channel_id, hop.direction))
                .or_insert(0) += hop.amount;
        }
        Ok(())
    }

    /// Fails an HTLC that reached the payee.
    pub(crate) fn fail(&mut self, way: &Way) {
        for hop in &way.hops {
            self.release(hop);
        }
    }

    /// Settles an HTLC that reached the payee.
    pub(crate) fn settle(&mut self, way: &Way) {
        for hop in &way.hops {
            self.release(hop);
            if let Some(balance) = self.balances.get_mut(&hop.short_channel_id) {
                match hop.direction {
                    Direction::Forward => *balance -= hop.amount,
                    Direction::Backward => *balance += hop.amount,
                }
            }
        }
    }

    fn release(&mut self, hop: &Hop) {
        if let Some(held) = self.held.get_mut(&(hop.short_channel_id, hop.direction)) {
            *held -= hop.amount;
        }
    }

    /// A node's channels with what it has in them now. Its policies don't matter: the funds are its own.
    pub(crate) fn first_hops(&self, payer: &NodeId) -> Vec<FirstHop> {
        let mut hops = Vec::new();
        for (scid, (capacity, nodes)) in self.channels.iter() {
            let Some(at) = nodes.iter().position(|node| node == payer) else {
                continue;
            };
            let direction = Direction::between(payer, &nodes[1 - at]);
            // One percent is the reserve.
            let spendable = self.free(*scid, direction).saturating_sub(capacity / 100);
            hops.push(FirstHop {
                short_channel_id: fulmen_types::ShortChannelId::from_u64(*scid),
                peer: nodes[1 - at],
                spendable: Msat::new(spendable),
                htlc_minimum: Msat::new(1),
            });
        }
        hops
    }

    /// Whether all balances, whatever fees and limits, could carry an amount from one to another: the
    /// greatest flow by Dinic's method, ended once it is enough.
    pub(crate) fn could_carry(
        &self,
        graph: &NetworkGraph,
        first_hops: &[FirstHop],
        payee: &NodeId,
        amount: u64,
    ) -> bool {
        let nodes = graph.node_slots();
        let source = nodes;
        let Some(sink) = graph
            .find_node(payee)
            .map(fulmen_gossip::NodeIndex::to_usize)
        else {
            return false;
        };
        let mut arcs: Vec<(usize, u64)> = Vec::new();
        let mut from: Vec<Vec<usize>> = vec![Vec::new(); nodes + 1];
        let mut arc = |a: usize, b: usize, room: u64| {
            from[a].push(arcs.len());
            arcs.push((b, room));
            from[b].push(arcs.len());
            arcs.push((a, 0));
        };
        for hop in first_hops {
            if let Some(peer) = graph.find_node(&hop.peer) {
                arc(source, peer.to_usize(), hop.spendable.to_msat());
            }
        }
        for edge in graph.edges() {
            if let Some(scid) = graph.short_channel_id(edge.channel) {
                let room = self.free(scid.to_u64(), edge.direction);
                arc(edge.from.to_usize(), edge.to.to_usize(), room);
            }
        }
        let mut total = 0;
        loop {
            let mut level = vec![usize::MAX; nodes + 1];
            level[source] = 0;
            let mut queue = std::collections::VecDeque::from([source]);
            while let Some(node) = queue.pop_front() {
                for index in &from[node] {
                    let (to, room) = arcs[*index];
                    if room > 0 && level[to] == usize::MAX {
                        level[to] = level[node] + 1;
                        queue.push_back(to);
                    }
                }
            }
            if level[sink] == usize::MAX {
                return false;
            }
            let mut next = vec![0; nodes + 1];
            let mut path: Vec<usize> = Vec::new();
            loop {
                let node = path.last().map_or(source, |index: &usize| arcs[*index].0);
                if node == sink {
                    let room = path.iter().map(|index| arcs[*index].1).min().unwrap_or(0);
                    for index in &path {
                        arcs[*index].1 -= room;
                        arcs[*index ^ 1].1 += room;
                    }
                    total += room;
                    if total >= amount {
                        return true;
                    }
                    path.clear();
                    continue;
                }
                let step = from[node][next[node]..].iter().position(|index| {
                    let (to, room) = arcs[*index];
                    room > 0 && level[to] == level[node] + 1
                });
                match step {
                    Some(offset) => {
                        next[node] += offset;
                        path.push(from[node][next[node]]);
                    }
                    None if node == source => break,
                    None => {
                        next[node] = from[node].len();
                        path.pop();
                        let before = path.last().map_or(source, |index| arcs[*index].0);
                        next[before] += 1;
                    }
                }
            }
        }
    }

    /// What ways for an amount are worth by a function that knows neither router: fees, a price for the
    /// time that the money is out, and minus the logarithm of the true chance that every channel can
    /// carry what all ways together ask of it. Own channels are certain.
    pub(crate) fn worth(&self, ways: &[Way], balances: Balances, model: &CostModel) -> Worth {
        let amount: u64 = ways.iter().map(|way| way.amount).sum();
        let mut carried: BTreeMap<(u64, Direction), u64> = BTreeMap::new();
        let mut worth = Worth::default();
        for way in ways {
            worth.fee += way.fee() as f64;
            worth.lock +=
                way.amount as f64 * way.blocks as f64 * f64::from(model.lock_ppb_per_block) / 1e9;
            for hop in way.hops.iter().skip(1) {
                *carried
                    .entry((hop.short_channel_id, hop.direction))
                    .or_insert(0) += hop.amount;
            }
        }
        for ((scid, _), carried) in carried {
            let chance = balances.chance(carried as f64 / self.capacity(scid).max(1) as f64);
            worth.nats -= chance.max(1e-7).ln();
        }
        let per_nat =
            model.risk_base.to_msat() as f64 + amount as f64 * f64::from(model.risk_ppm) / 1e6;
        worth.risk = worth.nats * per_nat;
        worth
    }
}

/// What ways are worth, in millisatoshis: less is better.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worth {
    pub(crate) fee: f64,
    pub(crate) lock: f64,
    pub(crate) risk: f64,
    pub(crate) nats: f64,
}

impl Worth {
    pub(crate) fn total(&self) -> f64 {
        self.fee + self.lock + self.risk
    }
}
