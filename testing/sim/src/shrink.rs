//! Makes the plan of a failing run as small as it gets while it still fails.

use std::time::{Duration, Instant};

use crate::{Options, plan::Plan, run_plan};

/// How many other streams of chance a smaller plan is tried with: what is left out changes all that follows.
const STREAMS: u64 = 4;
/// How many words two failures must share.
const ALIKE: usize = 5;

/// The smallest plan found in the given time whose run fails as that of `plan` does, and how. `found` hears of each
/// plan that is smaller than the last.
///
/// Two failures count as the same when they begin alike. `None` if the plan does not fail at all.
pub fn shrink(plan: &Plan, most: Duration, mut found: impl FnMut(&Plan)) -> Option<(Plan, String)> {
    let end = Instant::now() + most;
    let failure = fails(plan)?;
    let like = beginning(&failure);
    let mut best = (plan.clone(), failure);
    loop {
        let smaller = candidates(&best.0).into_iter().find_map(|candidate| {
            (0..STREAMS).find_map(|stream| {
                if Instant::now() > end {
                    return None;
                }
                let mut plan = candidate.clone();
                plan.seed = plan.seed.wrapping_add(stream);
                let failure = fails(&plan)?;
                (beginning(&failure) == like).then_some((plan, failure))
            })
        });
        match smaller {
            Some(smaller) => {
                found(&smaller.0);
                best = smaller;
            }
            None => return Some(best),
        }
    }
}

fn fails(plan: &Plan) -> Option<String> {
    run_plan(plan.clone(), Options::default()).failure
}

/// The first words of a failure, without those that name a host, a number or a hash.
fn beginning(failure: &str) -> String {
    let words = failure.split_whitespace();
    let is_name = |word: &&str| word.chars().any(|c| c.is_ascii_digit());
    let words: Vec<&str> = words.filter(|word| !is_name(word)).take(ALIKE).collect();
    words.join(" ")
}

/// Plans that lack something: the greatest cuts first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        if smaller != *plan {
            all.push(smaller);
        }
    };
    let count = plan.payments.len();
    let mut part = count.div_ceil(2);
    while part > 0 {
        for first in (0..count).step_by(part) {
            add(&|plan| {
                plan.payments.drain(first..(first + part).min(count));
            });
        }
        part /= 2;
    }
    add(&|plan| plan.villain = None);
    for kind in 0..plan.clone().faults.kinds().len() {
        add(&|plan| *plan.faults.kinds()[kind].1 = 0);
    }
    for channel in (0..plan.channels.len()).rev() {
        add(&|plan| {
            plan.channels.remove(channel);
        });
        add(&|plan| plan.channels[channel].force_close = None);
    }
    add(&|plan| plan.nodes = used_hosts(plan));
    add(&|plan| plan.close_in_flight = None);
    add(&|plan| plan.close_together = None);
    add(&|plan| plan.market_rises = false);
    add(&|plan| plan.fee_market = false);
    add(&|plan| plan.payments.iter_mut().for_each(|p| p.timeout_secs = None));
    add(&|plan| plan.payments.iter_mut().for_each(|p| p.again = None));
    add(&|plan| plan.faults_at_open = false);
    add(&|plan| plan.faults_at_close = false);
    add(&|plan| plan.feerate_change = 0);
    add(&|plan| plan.compare_always = false);
    all
}

/// How many hosts are named: those after them can go.
fn used_hosts(plan: &Plan) -> usize {
    let channels = plan.channels.iter().flat_map(|c| [c.from, c.to]);
    let payments = plan
        .payments
        .iter()
        .flat_map(|p| [Some(p.from), Some(p.to), p.again])
        .flatten();
    let villain = plan.villain.map(|v| v.host);
    let last = channels.chain(payments).chain(villain).max();
    last.map_or(2, |last| (last + 1).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_alike_whatever_hosts_and_hashes_they_name() {
        let one = beginning("n3: at height 224 29a0443accc8 is open, and HtlcView { .. } should");
        let other = beginning("n5: at height 386 c6d390c50d1f is open, and HtlcView { .. } should");
        assert_eq!(one, other);
        assert_ne!(
            one,
            beginning("n5 lost 12 msat on chain, and fees explain 1 to 2")
        );
    }
}
