//! How balances are spread over capacities: a histogram whose bins are narrow at both ends, where the
//! balances of channels that lean to one side are.

use crate::nats::{self, Nats};

pub(crate) const BINS: usize = 8;
/// Ends of the bins, in 65,536ths of the capacity.
const ENDS: [u32; BINS + 1] = [
    0, 1_024, 4_096, 16_384, 32_768, 49_152, 61_440, 64_512, 65_536,
];

/// Masses of the bins, in any unit.
pub(crate) type Masses = [u32; BINS];

/// What is believed before anything is learned, in units that some dozens of channels outweigh:
/// half of the balances spread evenly, half at one of the ends.
pub(crate) const FIRST_GUESS: Masses = {
    let mut masses = [0; BINS];
    let mut bin = 0;
    while bin < BINS {
        masses[bin] = (ENDS[bin + 1] - ENDS[bin]) / 8;
        bin += 1;
    }
    let extra = [2_458, 1_228, 409, 0, 0, 409, 1_229, 2_459];
    let mut bin = 0;
    while bin < BINS {
        masses[bin] += extra[bin];
        bin += 1;
    }
    masses
};

/// All of it.
pub(crate) fn whole(masses: &Masses) -> u64 {
    masses.iter().map(|mass| u64::from(*mass)).sum()
}

/// The masses and their mirror image: which end is "forward" is chance, so what is common to channels is the same
/// for both.
pub(crate) fn both_ways(masses: &Masses) -> Masses {
    core::array::from_fn(|bin| masses[bin] + masses[BINS - 1 - bin])
}

/// A distribution of the balance: the mass below each bin's end, 65,536 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape([u32; BINS + 1]);

impl Shape {
    pub(crate) fn new(masses: &Masses) -> Self {
        let whole = whole(masses);
        let mut cumulated = [0; BINS + 1];
        let mut sum = 0u64;
        for (mass, end) in masses.iter().zip(&mut cumulated[1..]) {
            sum += u64::from(*mass);
            *end = u32::try_from((sum << 16) / whole.max(1)).unwrap_or(1 << 16);
        }
        Self(cumulated)
    }

    /// The mass below a share of the capacity, in 2^32ths. The share is in 65,536ths.
    pub(crate) fn below(&self, share: u64) -> u64 {
        let share = share.min(1 << 16);
        let bin = ENDS[1..BINS]
            .iter()
            .take_while(|end| u64::from(**end) <= share)
            .count();
        let (from, to) = (u64::from(ENDS[bin]), u64::from(ENDS[bin + 1]));
        let (low, high) = (u64::from(self.0[bin]), u64::from(self.0[bin + 1]));
        (low << 16) + ((high - low) << 16) * (share - from) / (to - from)
    }

    /// The mass of each bin between two shares; the whole is about 2^32.
    pub(crate) fn masses_between(&self, from: u64, to: u64) -> [u64; BINS] {
        let mut masses = [0; BINS];
        for (bin, mass) in masses.iter_mut().enumerate() {
            let low = u64::from(ENDS[bin]).max(from);
            let high = u64::from(ENDS[bin + 1]).min(to);
            if low < high {
                *mass = self.below(high).saturating_sub(self.below(low));
            }
        }
        masses
    }
}

/// The bin of a share.
pub(crate) fn bin_of(share: u64) -> usize {
    ENDS[1..BINS]
        .iter()
        .take_while(|end| u64::from(**end) <= share)
        .count()
}

/// Nats for each 256th of the capacity that a balance is at least so great, looked up for channels that
/// nothing is known of.
#[derive(Clone, Debug)]
pub(crate) struct Table([Nats; 257]);

impl Table {
    pub(crate) fn new(shape: &Shape) -> Self {
        let mut table = [0; 257];
        for (at, nats) in (0u64..).zip(&mut table) {
            *nats = nats::from_ratio((1 << 32) - shape.below(at << 8), 1 << 32);
        }
        Self(table)
    }

    pub(crate) fn nats(&self, share: u64) -> Nats {
        let at = (share >> 8) as usize;
        match (self.0.get(at), self.0.get(at + 1)) {
            (Some(low), Some(high)) => {
                let step = u64::from(high.saturating_sub(*low)) * (share & 255);
                low + u32::try_from(step >> 8).unwrap_or(nats::MAX)
            }
            _ => nats::MAX,
        }
    }
}

/// An amount in 65,536ths of a capacity.
pub(crate) const fn share(amount: u64, capacity: u64) -> u64 {
    if amount >= capacity {
        1 << 16
    } else if amount >> 48 == 0 {
        (amount << 16) / capacity
    } else {
        amount / ((capacity >> 16) + 1)
    }
}
