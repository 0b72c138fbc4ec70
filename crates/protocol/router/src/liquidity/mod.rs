//! What channels can carry, as far as attempts and probes have told.
//!
//! Of each channel that was tried two things are kept. Bounds of the balance: an HTLC that got through
//! says that there was so much, one that was refused that there was not; they widen with time, since
//! others pay too. And a history: where the balance was found to be over the months, in bins, which
//! stays. The chance that an amount goes through is the history's share of what lies between the amount
//! and the upper bound. What all channels' histories have in common is what is believed of channels
//! that were never tried.

mod file;
mod shape;

use alloc::{collections::BTreeMap, vec::Vec};

use fulmen_gossip::Direction;
use fulmen_types::{Msat, NodeId, ShortChannelId, Timestamp};

pub use file::LiquidityFileError;
use shape::{BINS, Masses, Shape, Table};

use crate::{
    ChannelDirection, RouteHop,
    nats::{self, Nats},
};

/// Of how many channels something is remembered; beyond, those that were heard of longest ago go.
const MOST_CHANNELS: usize = 200_000;
/// The weight of one observation in a channel's history, and when older ones are halved.
const OBSERVATION: u32 = 32;
const FULL_HISTORY: u32 = 64 * OBSERVATION;
/// How much of a channel's history what is common to all counts: two observations.
const COMMON: u64 = 2 * OBSERVATION as u64;
/// What a channel's belief counts in the common histogram.
const CHANNEL: u32 = 256;
/// The most that the common histogram holds; beyond, all that it was made of is halved.
const COMMON_MAX: u32 = u32::MAX / 4;

/// What was seen of one direction of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It carried the amount, or could have: the HTLC failed farther on, or was a probe.
    Carried,
    /// The amount went through for good: the balance is less now.
    Settled,
    /// It could not carry the amount.
    Refused,
}

/// How an HTLC along a route ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOutcome {
    /// The payee took it.
    Settled,
    /// It reached the payee, who refused it: a probe, or a part whose others did not come.
    Reached,
    /// The hop with this index could not carry it.
    RefusedAt(usize),
}

/// What is known of one channel, in terms of [`Direction::Forward`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    short_channel_id: ShortChannelId,
    capacity: u64,
    least: u64,
    most: u64,
    /// When the bounds were as given.
    at: Timestamp,
    history: Masses,
    /// What the channel has added to the common histogram.
    added: Masses,
    shape: Shape,
}

/// Everything learned about the liquidity of other nodes' channels.
///
/// It is a cache: lost, it costs nothing but the knowledge. See [`Liquidity::to_bytes`].
///
/// ```
/// use fulmen_gossip::Direction;
/// use fulmen_router::{Liquidity, Observation};
/// use fulmen_types::{Msat, ShortChannelId, Timestamp};
///
/// let mut liquidity = Liquidity::new();
/// let channel = (ShortChannelId::from_u64(7), Direction::Forward);
/// let (capacity, now) = (Msat::from_sat(1_000_000), Timestamp::from_secs(1_000));
/// let chance = |l: &Liquidity| l.chance(channel, capacity, Msat::from_sat(300_000), now).to_ppm();
/// let before = chance(&liquidity);
/// liquidity.observe(channel, capacity, Msat::from_sat(400_000), Observation::Refused, now);
/// assert!(chance(&liquidity) < before);
/// liquidity.observe(channel, capacity, Msat::from_sat(350_000), Observation::Carried, now);
/// assert_eq!(chance(&liquidity), 1_000_000);
/// ```
#[derive(Clone, Debug)]
pub struct Liquidity {
    entries: Vec<Entry>,
    by_channel: BTreeMap<ShortChannelId, u32>,
    half_life_millis: u64,
    common: Masses,
    /// Of channels never tried.
    table: Table,
    /// Changes when entries move.
    generation: u64,
}

impl Default for Liquidity {
    fn default() -> Self {
        Self::new()
    }
}

impl Liquidity {
    /// After so many milliseconds half of what a bound says is forgotten.
    pub const DEFAULT_HALF_LIFE_MILLIS: u64 = 6 * 3_600_000;

    /// Nothing known.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            by_channel: BTreeMap::new(),
            half_life_millis: Self::DEFAULT_HALF_LIFE_MILLIS,
            common: shape::FIRST_GUESS,
            table: Table::new(&Shape::new(&shape::FIRST_GUESS)),
            generation: 0,
        }
    }

    /// Lets bounds widen at another pace.
    pub const fn set_half_life(&mut self, millis: u64) {
        self.half_life_millis = if millis == 0 { 1 } else { millis };
    }

    /// Of how many channels something is known.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Learns from one direction of a channel. The capacity is the funding output's value, or the
    /// `htlc_maximum_msat` where that is not known.
    pub fn observe(
        &mut self,
        channel: ChannelDirection,
        capacity: Msat,
        amount: Msat,
        what: Observation,
        now: Timestamp,
    ) {
        let (short_channel_id, direction) = channel;
        let capacity = capacity.max(amount).to_msat();
        if capacity == 0 {
            return;
        }
        let half_life = self.half_life_millis;
        let index = self.entry(short_channel_id, capacity, now);
        let common = self.common;
        let entry = &mut self.entries[index];
        entry.decay(half_life, now);
        entry.resize(capacity);
        entry.learn(direction, amount.to_msat(), what);
        entry.remember(&common);
        let before = entry.added;
        let after = entry.belief(CHANNEL);
        entry.added = after;
        if matches!(what, Observation::Settled) {
            entry.shift(direction, amount.to_msat());
        }
        let (plus, minus) = (shape::both_ways(&after), shape::both_ways(&before));
        for bin in 0..BINS {
            self.common[bin] = (self.common[bin] + plus[bin]).saturating_sub(minus[bin]);
        }
        self.bound_common();
        self.table = Table::new(&Shape::new(&self.common));
    }

    /// Channels that were forgotten stay in what is common, so it grows.
    fn bound_common(&mut self) {
        if shape::whole(&self.common) <= u64::from(COMMON_MAX) {
            return;
        }
        let halved = |masses: &mut Masses| masses.iter_mut().for_each(|mass| *mass /= 2);
        halved(&mut self.common);
        self.entries
            .iter_mut()
            .for_each(|entry| halved(&mut entry.added));
    }

    /// Learns from an HTLC along a route. What the first hop can carry is known better; it is left out.
    /// Capacities come from the graph; of channels that it does not know nothing is learned.
    pub fn observe_route(
        &mut self,
        graph: &fulmen_gossip::NetworkGraph,
        payer: &NodeId,
        hops: &[RouteHop],
        outcome: RouteOutcome,
        now: Timestamp,
    ) {
        let mut from = *payer;
        for (index, hop) in hops.iter().enumerate() {
            let direction = Direction::between(&from, &hop.node_id);
            from = hop.node_id;
            let what = match outcome {
                RouteOutcome::Settled => Observation::Settled,
                RouteOutcome::Reached => Observation::Carried,
                RouteOutcome::RefusedAt(at) if index < at => Observation::Carried,
                RouteOutcome::RefusedAt(at) if index == at => Observation::Refused,
                RouteOutcome::RefusedAt(_) => return,
            };
            if index == 0 {
                continue;
            }
            let Some(capacity) = graph.capacity(hop.short_channel_id) else {
                continue;
            };
            let channel = (hop.short_channel_id, direction);
            self.observe(channel, capacity, hop.amount, what, now);
        }
    }

    /// The chance that a direction of a channel can carry an amount.
    pub fn chance(
        &self,
        channel: ChannelDirection,
        capacity: Msat,
        amount: Msat,
        now: Timestamp,
    ) -> crate::Probability {
        let slot = self.slot(channel.0);
        let nats = self.nats(slot, channel.1, capacity.to_msat(), amount.to_msat(), now);
        crate::Probability::from_nats(u64::from(nats.unwrap_or(nats::MAX)))
    }

    /// What is known of a direction's balance now: at least the first, at most the second.
    pub fn bounds(&self, channel: ChannelDirection, now: Timestamp) -> Option<(Msat, Msat)> {
        let entry = &self.entries[self.slot(channel.0)? as usize];
        let (least, most) = entry.bounds(channel.1, self.half_life_millis, now);
        Some((Msat::new(least), Msat::new(most)))
    }

    /// Forgets channels that nothing was heard of since a time.
    pub fn forget_before(&mut self, time: Timestamp) {
        self.entries.retain(|entry| entry.at >= time);
        self.reindex();
    }

    /// Changes whenever slots do.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The channels from a slot on, in the order of their slots.
    pub(crate) fn channels_from(&self, slot: usize) -> impl Iterator<Item = ShortChannelId> + '_ {
        self.entries.iter().skip(slot).map(|e| e.short_channel_id)
    }

    pub(crate) fn slot(&self, short_channel_id: ShortChannelId) -> Option<u32> {
        self.by_channel.get(&short_channel_id).copied()
    }

    /// Nats for an amount over a channel; `None` when it can't be.
    pub(crate) fn nats(
        &self,
        slot: Option<u32>,
        direction: Direction,
        capacity: u64,
        amount: u64,
        now: Timestamp,
    ) -> Option<Nats> {
        if amount > capacity {
            return None;
        }
        match slot.and_then(|slot| self.entries.get(slot as usize)) {
            None => Some(self.table.nats(shape::share(amount, capacity))),
            Some(entry) => entry.nats(direction, amount, self.half_life_millis, now),
        }
    }

    fn entry(&mut self, scid: ShortChannelId, capacity: u64, now: Timestamp) -> usize {
        if let Some(slot) = self.by_channel.get(&scid) {
            return *slot as usize;
        }
        if self.entries.len() >= MOST_CHANNELS {
            let mut times: Vec<Timestamp> = self.entries.iter().map(|e| e.at).collect();
            let (_, quarter, _) = times.select_nth_unstable(MOST_CHANNELS / 4);
            let quarter = *quarter;
            let mut left = MOST_CHANNELS / 4;
            self.entries.retain(|entry| {
                let goes = entry.at <= quarter && left > 0;
                left -= usize::from(goes);
                !goes
            });
            self.reindex();
        }
        let slot = self.entries.len();
        self.entries.push(Entry {
            short_channel_id: scid,
            capacity,
            least: 0,
            most: capacity,
            at: now,
            history: [0; BINS],
            added: [0; BINS],
            shape: Shape::new(&self.common),
        });
        self.by_channel
            .insert(scid, u32::try_from(slot).unwrap_or(u32::MAX));
        slot
    }

    fn reindex(&mut self) {
        self.generation += 1;
        self.by_channel = (0u32..)
            .zip(&self.entries)
            .map(|(slot, entry)| (entry.short_channel_id, slot))
            .collect();
    }
}

impl Entry {
    /// What is left of a bound's knowledge after a time.
    fn faded(value: u64, half_life: u64, millis: u64) -> u64 {
        let halvings = millis / half_life;
        if halvings >= 63 {
            return 0;
        }
        let value = value >> halvings;
        let rest = u128::from(value / 2) * u128::from(millis % half_life);
        value - u64::try_from(rest / u128::from(half_life)).unwrap_or(value)
    }

    fn decayed(&self, half_life: u64, now: Timestamp) -> (u64, u64) {
        let millis = now.millis_since(self.at);
        if millis == 0 {
            return (self.least, self.most);
        }
        let least = Self::faded(self.least, half_life, millis);
        let most = self.capacity - Self::faded(self.capacity - self.most, half_life, millis);
        (least, most)
    }

    fn bounds(&self, direction: Direction, half_life: u64, now: Timestamp) -> (u64, u64) {
        let (least, most) = self.decayed(half_life, now);
        match direction {
            Direction::Forward => (least, most),
            Direction::Backward => (self.capacity - most, self.capacity - least),
        }
    }

    fn nats(
        &self,
        direction: Direction,
        amount: u64,
        half_life: u64,
        now: Timestamp,
    ) -> Option<Nats> {
        let (least, most) = self.bounds(direction, half_life, now);
        if amount <= least {
            return Some(0);
        }
        if amount > most {
            return None;
        }
        let below = |balance: u64| {
            let share = shape::share(balance, self.capacity);
            match direction {
                Direction::Forward => self.shape.below(share),
                Direction::Backward => (1 << 32) - self.shape.below((1 << 16) - share),
            }
        };
        let (low, at, high) = (below(least), below(amount), below(most));
        let whole = high.saturating_sub(low);
        // Where the history has nothing to say, every balance is as likely.
        if whole < 1 << 20 {
            return Some(nats::from_ratio(most - amount + 1, most - least + 1));
        }
        Some(nats::from_ratio(
            high.saturating_sub(at).max(whole >> 20),
            whole,
        ))
    }

    fn decay(&mut self, half_life: u64, now: Timestamp) {
        (self.least, self.most) = self.decayed(half_life, now);
        self.at = self.at.max(now);
    }

    /// A splice, or a capacity that was not known before.
    fn resize(&mut self, capacity: u64) {
        if self.capacity != capacity {
            self.capacity = capacity;
            self.least = self.least.min(capacity);
            self.most = capacity;
        }
    }

    fn learn(&mut self, direction: Direction, amount: u64, what: Observation) {
        let has = !matches!(what, Observation::Refused);
        let rest = self.capacity - amount.min(self.capacity);
        match (direction, has) {
            (Direction::Forward, true) => self.least = self.least.max(amount),
            (Direction::Backward, true) => self.most = self.most.min(rest),
            (Direction::Forward, false) => self.most = self.most.min(amount.saturating_sub(1)),
            (Direction::Backward, false) => {
                self.least = self.least.max(rest.saturating_add(1).min(self.capacity));
            }
        }
        // What was seen last counts; what contradicts it is out of date.
        if self.least > self.most {
            if (direction == Direction::Forward) == has {
                self.most = self.capacity;
            } else {
                self.least = 0;
            }
        }
    }

    /// Puts what is believed now into the history.
    fn remember(&mut self, common: &Masses) {
        let total: u32 = self.history.iter().sum();
        if total >= FULL_HISTORY {
            for mass in &mut self.history {
                *mass /= 2;
            }
        }
        let belief = self.belief(OBSERVATION);
        for (mass, part) in self.history.iter_mut().zip(belief) {
            *mass += part;
        }
        self.update_shape(common);
    }

    fn update_shape(&mut self, common: &Masses) {
        let common_whole = shape::whole(common);
        let mut masses = [0; BINS];
        for bin in 0..BINS {
            let prior = (u64::from(common[bin]) << 8) * COMMON / common_whole.max(1);
            masses[bin] = u32::try_from(prior).unwrap_or(0) + (self.history[bin] << 8);
        }
        self.shape = Shape::new(&masses);
    }

    /// How the balance is believed to be spread now, in parts of a whole.
    fn belief(&self, whole: u32) -> Masses {
        let least = shape::share(self.least, self.capacity);
        let most = shape::share(self.most, self.capacity);
        let masses = self.shape.masses_between(least, most);
        let sum: u64 = masses.iter().sum();
        let part = |mass: u64| (mass * u64::from(whole)).checked_div(sum);
        let mut belief = masses.map(|mass| part(mass).map_or(0, |p| u32::try_from(p).unwrap_or(0)));
        if sum == 0 {
            belief[shape::bin_of(least)] = whole;
        }
        belief
    }

    fn shift(&mut self, direction: Direction, amount: u64) {
        match direction {
            Direction::Forward => {
                self.least = self.least.saturating_sub(amount);
                self.most = self.most.saturating_sub(amount);
            }
            Direction::Backward => {
                self.least = self.least.saturating_add(amount).min(self.capacity);
                self.most = self.most.saturating_add(amount).min(self.capacity);
            }
        }
    }
}
