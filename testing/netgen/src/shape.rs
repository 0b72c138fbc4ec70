//! Who has a channel with whom.

use std::collections::HashMap;

use crate::rng::Rng;

/// The share of channels whose two nodes have another channel with each other.
const PARALLEL: f64 = 0.09;
const NODES: f64 = 17_324.0;
const MEAN_DEGREE: f64 = 2.0 * 50_808.0 / NODES;
/// The share of nodes with at least so many channels; a power law in between and beyond.
const DEGREES: [(f64, f64); 5] = [
    (0.49, 2.0),
    (0.1, 8.0),
    (0.01, 74.0),
    (0.001, 500.0),
    (1.0 / NODES, 1_989.0),
];

/// The ends of each channel: a connected network, no channel of a node with itself.
pub(crate) fn channels(nodes: usize, rng: &mut Rng) -> Vec<[u32; 2]> {
    let mut free = degrees(nodes);
    let mut channels = Channels {
        limit: 0.0,
        ends: Vec::with_capacity(free.iter().sum::<usize>() / 2),
        pairs: HashMap::new(),
        parallel: 0,
    };
    channels.limit = PARALLEL * (free.iter().sum::<usize>() / 2) as f64;
    // A tree first, of the greatest nodes downwards: each has a stub for the next.
    let mut stubs: Vec<u32> = Vec::new();
    for (node, free) in free.iter_mut().enumerate() {
        if node > 0 {
            let at = rng.below(stubs.len());
            let to = stubs.swap_remove(at);
            channels.join(node, to as usize);
            *free -= 1;
        }
        stubs.extend(std::iter::repeat_n(to_u32(node), *free));
    }
    // Then the stubs that are left, at random.
    rng.shuffle(&mut stubs);
    let mut rejected = 0;
    let mut unbroken = 0;
    while stubs.len() >= 2 {
        let a = stubs[stubs.len() - 1] as usize;
        let at = rng.below(stubs.len() - 1);
        let b = stubs[at] as usize;
        if channels.may_join(a, b) {
            channels.join(a, b);
            stubs.pop();
            stubs.swap_remove(at);
            rejected = 0;
            continue;
        }
        rejected += 1;
        if rejected < 50 {
            continue;
        }
        // Two great nodes may be all that is left: let them break a channel of others.
        let other = rng.below(channels.ends.len());
        let [c, d] = channels.ends[other].map(|n| n as usize);
        if channels.may_join(a, c) && channels.may_join(b, d) && a != c && b != d {
            channels.part(other);
            channels.join(a, c);
            channels.join(b, d);
            stubs.pop();
            stubs.swap_remove(at);
            unbroken = 0;
        } else {
            unbroken += 1;
        }
        // In a network of a few nodes there may be no such others: then more channels are parallel.
        if unbroken > 1_000 {
            channels.limit = f64::INFINITY;
        }
        rejected = 0;
    }
    channels.ends
}

/// How many channels each node has, most first.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "numbers of nodes and channels"
)]
fn degrees(nodes: usize) -> Vec<usize> {
    let mut degrees: Vec<usize> = (0..nodes)
        .map(|i| degree((i as f64 + 1.0) / nodes as f64).round() as usize)
        .map(|degree| degree.clamp(1, nodes / 2))
        .collect();
    // The rounding is made up for where it does not show: with small nodes.
    let wanted = 2 * (nodes as f64 * MEAN_DEGREE / 2.0).round() as usize;
    let range = nodes / 5..nodes / 2;
    let mut have: usize = degrees.iter().sum();
    for i in range.clone().cycle().take(range.len() * 100) {
        if have < wanted {
            degrees[i] += 1;
            have += 1;
        } else if have > wanted && degrees[i] > 2 {
            degrees[i] -= 1;
            have -= 1;
        }
    }
    if have % 2 == 1 {
        degrees[0] += 1;
    }
    degrees
}

/// The degree that a share `u` of the nodes has at least.
fn degree(u: f64) -> f64 {
    if u > DEGREES[0].0 {
        return 1.0;
    }
    let above = DEGREES
        .iter()
        .position(|(share, _)| *share <= u)
        .unwrap_or(DEGREES.len() - 1)
        .max(1);
    let ((u0, d0), (u1, d1)) = (DEGREES[above - 1], DEGREES[above]);
    d0 * (u0 / u).powf((d1 / d0).ln() / (u0 / u1).ln())
}

struct Channels {
    /// How many may be parallel.
    limit: f64,
    ends: Vec<[u32; 2]>,
    pairs: HashMap<[u32; 2], u32>,
    parallel: usize,
}

impl Channels {
    fn may_join(&self, a: usize, b: usize) -> bool {
        a != b && (self.count(a, b) == 0 || (self.parallel as f64) < self.limit)
    }

    fn count(&self, a: usize, b: usize) -> u32 {
        self.pairs.get(&pair(a, b)).copied().unwrap_or(0)
    }

    fn join(&mut self, a: usize, b: usize) {
        let pair = pair(a, b);
        let count = self.pairs.entry(pair).or_insert(0);
        *count += 1;
        // The second makes the first parallel too.
        self.parallel += [0, 0, 2].get(*count as usize).copied().unwrap_or(1);
        self.ends.push(pair);
    }

    fn part(&mut self, index: usize) {
        let pair = self.ends.swap_remove(index);
        if let Some(count) = self.pairs.get_mut(&pair) {
            self.parallel -= [0, 0, 2].get(*count as usize).copied().unwrap_or(1);
            *count -= 1;
        }
    }
}

fn pair(a: usize, b: usize) -> [u32; 2] {
    [to_u32(a.min(b)), to_u32(a.max(b))]
}

fn to_u32(node: usize) -> u32 {
    u32::try_from(node).expect("a network has less than 2^32 nodes")
}
