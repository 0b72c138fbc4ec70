//! Waits that double, and dials that are counted.

use fulmen_types::{KeyStream, Timestamp};

/// The wait after so many failures in a row: doubles from `min` to `max`, and between half of it and all of
/// it, so that peers that lost each other at the same time don't meet in step.
pub(crate) fn wait(failures: u32, min: u64, max: u64, random: &mut KeyStream) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    let whole = min.saturating_mul(1 << doublings).min(max.max(min));
    let half = whole / 2;
    half + random.next_u64() % (whole - half + 1)
}

/// Says how many dials there may be: a bucket that fills with time.
#[derive(Clone, Debug)]
pub(crate) struct DialBudget {
    /// In 60,000ths of a dial, so that a minute's share of a millisecond is a whole number.
    level: u64,
    most: u64,
    per_milli: u64,
    at: Option<Timestamp>,
}

const ONE: u64 = 60_000;

impl DialBudget {
    pub(crate) fn new(per_minute: u32, burst: u32) -> Self {
        let most = u64::from(burst.max(1)) * ONE;
        Self {
            level: most,
            most,
            per_milli: u64::from(per_minute.max(1)),
            at: None,
        }
    }

    fn fill(&mut self, now: Timestamp) {
        let passed = self.at.map_or(0, |at| now.millis_since(at));
        let more = passed.saturating_mul(self.per_milli);
        self.level = self.level.saturating_add(more).min(self.most);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Whether there may be one more now; then it is counted.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        let may = self.level >= ONE;
        if may {
            self.level -= ONE;
        }
        may
    }

    /// When there may be one more.
    pub(crate) fn next(&self, now: Timestamp) -> Timestamp {
        let missing = ONE.saturating_sub(self.level);
        self.at
            .unwrap_or(now)
            .plus_millis(missing.div_ceil(self.per_milli))
    }
}
