//! The best order to mine a cluster of dependent transactions in.
//!
//! A cluster is cut into chunks: the set of transactions closed under parents that has the
//! highest feerate comes first, then the best of what is left, and so on. The best set is found
//! exactly, as a maximum-ratio closure: Dinkelbach's iteration over maximum flows. Clusters have
//! at most 64 transactions, so this is cheap.

use std::collections::VecDeque;

/// One transaction as the linearization sees it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Fee in satoshi.
    pub(crate) fee: u64,
    /// Weight, adjusted for signature operations; never zero.
    pub(crate) size: u64,
    /// Positions of the parents within the cluster.
    pub(crate) parents: Vec<usize>,
}

/// A group of transactions that is mined together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Positions within the cluster, parents before children.
    pub(crate) members: Vec<usize>,
    pub(crate) fee: u64,
    pub(crate) size: u64,
}

/// Cuts a cluster into chunks of falling feerate.
pub(crate) fn chunks(items: &[Item]) -> Vec<Chunk> {
    let mut remaining: Vec<usize> = topological(items);
    let mut result = Vec::new();
    while !remaining.is_empty() {
        let members = best_closure(items, &remaining);
        remaining.retain(|i| !members.contains(i));
        let fee = members.iter().map(|&i| items[i].fee).sum();
        let size = members.iter().map(|&i| items[i].size).sum();
        result.push(Chunk { members, fee, size });
    }
    result
}

/// Whether mining `new` pays at least as much as `old` at every size, and more at some.
pub(crate) fn improves(mut old: Vec<(u64, u64)>, mut new: Vec<(u64, u64)>) -> bool {
    let by_feerate = |a: &(u64, u64), b: &(u64, u64)| {
        (u128::from(b.0) * u128::from(a.1)).cmp(&(u128::from(a.0) * u128::from(b.1)))
    };
    old.sort_by(by_feerate);
    new.sort_by(by_feerate);
    let (old, new) = (cumulate(&old), cumulate(&new));
    let mut better = false;
    for at in old.iter().chain(&new).map(|point| point.1) {
        // Fees at `at` as fractions: num / den.
        let (old_num, old_den) = value_at(&old, at);
        let (new_num, new_den) = value_at(&new, at);
        match (new_num * old_den).cmp(&(old_num * new_den)) {
            core::cmp::Ordering::Less => return false,
            core::cmp::Ordering::Greater => better = true,
            core::cmp::Ordering::Equal => {}
        }
    }
    better
}

fn cumulate(chunks: &[(u64, u64)]) -> Vec<(u128, u128)> {
    let mut point = (0, 0);
    let mut points = vec![point];
    for (fee, size) in chunks {
        point = (point.0 + u128::from(*fee), point.1 + u128::from(*size));
        points.push(point);
    }
    points
}

/// The height of the diagram at a size, interpolated; beyond its end it is flat.
fn value_at(points: &[(u128, u128)], at: u128) -> (u128, u128) {
    for pair in points.windows(2) {
        let ((fee_a, size_a), (fee_b, size_b)) = (pair[0], pair[1]);
        if at <= size_b && size_b > size_a {
            let den = size_b - size_a;
            return (fee_a * den + (fee_b - fee_a) * (at - size_a), den);
        }
    }
    (points.last().map_or(0, |p| p.0), 1)
}

fn topological(items: &[Item]) -> Vec<usize> {
    let mut order = Vec::with_capacity(items.len());
    let mut placed = vec![false; items.len()];
    while order.len() < items.len() {
        let before = order.len();
        for (i, item) in items.iter().enumerate() {
            if !placed[i] && item.parents.iter().all(|&p| placed[p]) {
                placed[i] = true;
                order.push(i);
            }
        }
        debug_assert!(
            order.len() > before,
            "transactions can't depend on each other in a circle"
        );
        if order.len() == before {
            break;
        }
    }
    order
}

/// The parent-closed subset of `remaining` with the highest feerate, in topological order.
fn best_closure(items: &[Item], remaining: &[usize]) -> Vec<usize> {
    let mut best: Vec<usize> = remaining.to_vec();
    loop {
        if best.len() == 1 {
            return best;
        }
        let fee: i128 = best.iter().map(|&i| i128::from(items[i].fee)).sum();
        let size: i128 = best.iter().map(|&i| i128::from(items[i].size)).sum();
        let gain = |i: usize| i128::from(items[i].fee) * size - i128::from(items[i].size) * fee;
        let closure = maximum_closure(items, remaining, gain);
        let total: i128 = closure.iter().map(|&i| gain(i)).sum();
        if closure.is_empty() || total <= 0 {
            return best;
        }
        best = closure;
    }
}

/// The parent-closed subset with the largest total gain (a minimum cut).
fn maximum_closure(
    items: &[Item],
    remaining: &[usize],
    gain: impl Fn(usize) -> i128,
) -> Vec<usize> {
    let n = remaining.len();
    let (source, sink) = (n, n + 1);
    let mut capacity = vec![vec![0i128; n + 2]; n + 2];
    let infinite = i128::MAX / 4;
    for (at, &i) in remaining.iter().enumerate() {
        let g = gain(i);
        if g > 0 {
            capacity[source][at] = g;
        } else {
            capacity[at][sink] = -g;
        }
        for parent in &items[i].parents {
            if let Some(p) = remaining.iter().position(|r| r == parent) {
                capacity[at][p] = infinite;
            }
        }
    }
    loop {
        let previous = reach(&capacity, source);
        if previous[sink].is_none() {
            return (0..n)
                .filter(|&at| previous[at].is_some())
                .map(|at| remaining[at])
                .collect();
        }
        let mut flow = infinite;
        let mut at = sink;
        while at != source {
            let from = previous[at].unwrap_or(source);
            flow = flow.min(capacity[from][at]);
            at = from;
        }
        at = sink;
        while at != source {
            let from = previous[at].unwrap_or(source);
            capacity[from][at] -= flow;
            capacity[at][from] += flow;
            at = from;
        }
    }
}

fn reach(capacity: &[Vec<i128>], source: usize) -> Vec<Option<usize>> {
    let mut previous = vec![None; capacity.len()];
    previous[source] = Some(source);
    let mut queue = VecDeque::from([source]);
    while let Some(at) = queue.pop_front() {
        for (next, left) in capacity[at].iter().enumerate() {
            if *left > 0 && previous[next].is_none() {
                previous[next] = Some(at);
                queue.push_back(next);
            }
        }
    }
    previous
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(fee: u64, size: u64, parents: &[usize]) -> Item {
        Item {
            fee,
            size,
            parents: parents.to_vec(),
        }
    }

    fn feerates(items: &[Item]) -> Vec<(u64, u64)> {
        chunks(items).iter().map(|c| (c.fee, c.size)).collect()
    }

    #[test]
    fn a_rich_child_lifts_its_parent() {
        let items = [item(0, 100, &[]), item(1000, 100, &[0])];
        assert_eq!(feerates(&items), [(1000, 200)]);
        let items = [item(1000, 100, &[]), item(10, 100, &[0])];
        assert_eq!(feerates(&items), [(1000, 100), (10, 100)]);
    }

    #[test]
    fn two_children_lift_a_parent_that_neither_would_lift_alone() {
        // The parent with both children is better than with either of them.
        let items = [
            item(0, 1000, &[]),
            item(5000, 100, &[0]),
            item(5000, 100, &[0]),
        ];
        assert_eq!(feerates(&items), [(10_000, 1200)]);
    }

    #[test]
    fn the_best_closure_agrees_with_brute_force() {
        let mut seed = 7u64;
        let mut next = |bound: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888);
            (seed >> 33) % bound
        };
        for _ in 0..300 {
            let n = 2 + usize::try_from(next(6)).unwrap();
            let items: Vec<Item> = (0..n)
                .map(|i| Item {
                    fee: next(50),
                    size: 1 + next(20),
                    parents: (0..i).filter(|_| next(3) == 0).collect(),
                })
                .collect();
            let mut best = (0u64, 1u64);
            for mask in 1u32..(1 << n) {
                let has = |i: usize| mask & (1 << i) != 0;
                if (0..n).any(|i| has(i) && items[i].parents.iter().any(|&p| !has(p))) {
                    continue;
                }
                let fee: u64 = (0..n).filter(|&i| has(i)).map(|i| items[i].fee).sum();
                let size: u64 = (0..n).filter(|&i| has(i)).map(|i| items[i].size).sum();
                if fee * best.1 > best.0 * size {
                    best = (fee, size);
                }
            }
            let first = &chunks(&items)[0];
            assert_eq!(first.fee * best.1, best.0 * first.size, "{items:?}");
        }
    }

    #[test]
    fn a_diagram_must_nowhere_be_worse_and_somewhere_better() {
        assert!(improves(vec![(100, 100)], vec![(200, 100)]));
        assert!(!improves(vec![(100, 100)], vec![(100, 100)]));
        assert!(!improves(vec![(100, 100)], vec![(150, 200)]));
        assert!(improves(vec![(100, 100), (1, 100)], vec![(102, 100)]));
        assert!(improves(vec![], vec![(1, 100)]));
    }
}
