//! What channels hold and what their ends ask: each number's distribution by itself is the main
//! network's; which channel gets which value is drawn so that nodes are like themselves.

use fulmen_gossip::Policy;
use fulmen_types::{CltvExpiryDelta, Msat};

use crate::rng::Rng;

/// Shares and upper ends, from the least value on: within a step values are spread evenly over their
/// logarithm; a step that ends where it begins is one value.
type Steps = [(f64, f64)];

/// Satoshis. The spikes are at 20,000, 1, 2, 5 and 10 million.
const CAPACITY: &Steps = &[
    (0.0, 3_000.0),
    (0.02, 20_000.0),
    (0.068, 20_000.0),
    (0.162, 200_000.0),
    (0.125, 1_000_000.0),
    (0.093, 1_000_000.0),
    (0.032, 1_280_000.0),
    (0.06, 2_000_000.0),
    (0.061, 2_000_000.0),
    (0.089, 5_000_000.0),
    (0.073, 5_000_000.0),
    (0.03, 10_000_000.0),
    (0.065, 10_000_000.0),
    (0.022, 15_700_000.0),
    (0.05, 38_000_000.0),
    (0.04, 200_000_000.0),
    (0.008, 340_000_000.0),
    (0.002, 1_000_000_000.0),
];
/// Millisatoshis.
const BASE_FEE: &Steps = &[
    (0.45, 0.0),
    (0.0, 1.0),
    (0.02, 1.0),
    (0.0, 1.5),
    (0.07, 999.0),
    (0.0, 1_000.0),
    (0.41, 1_000.0),
    (0.05, 20_000.0),
];
/// Millionths.
const PROPORTIONAL_FEE: &Steps = &[
    (0.07, 0.0),
    (0.0, 1.0),
    (0.22, 1.0),
    (0.0, 1.5),
    (0.21, 100.0),
    (0.25, 569.0),
    (0.15, 2_000.0),
    (0.09, 10_000.0),
    (0.01, 60_000.0),
];
const CLTV_DELTAS: [(f64, u16); 9] = [
    (0.38, 80),
    (0.18, 144),
    (0.17, 40),
    (0.11, 100),
    (0.05, 34),
    (0.04, 30),
    (0.03, 60),
    (0.02, 200),
    (0.02, 18),
];
/// A channel with both directions unusable, one with one.
const BOTH_UNUSABLE: f64 = 0.25;
const ONE_UNUSABLE: f64 = 0.20;
/// Of the unusable ones, those that were never announced.
const MISSING: f64 = 0.4;

/// The latest update is at this time; the earliest is 13 days older.
pub(crate) const NEWEST_UPDATE: u32 = 1_770_000_000;
const UPDATES_SPREAD: usize = 13 * 86_400;

/// The value below which a share `q` lies.
fn quantile(steps: &Steps, q: f64) -> f64 {
    let mut sum = 0.0;
    let mut from = steps[0].1;
    for (share, to) in steps {
        if q < sum + share {
            let part = (q - sum) / share;
            #[allow(clippy::float_cmp, reason = "a spike ends where it begins")]
            return if from == *to || from == 0.0 {
                *to
            } else {
                from * (to / from).powf(part)
            };
        }
        sum += share;
        from = *to;
    }
    from
}

/// Gives the i-th of the scores its share of the distribution: the greatest score the greatest value.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn by_rank(scores: &[f64], value: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
    let mut values = vec![0.0; scores.len()];
    for (rank, index) in order.into_iter().enumerate() {
        values[index] = value((rank as f64 + 0.5) / scores.len() as f64);
    }
    values
}

/// The capacity of each channel in satoshis: larger between nodes with many channels.
pub(crate) fn capacities(nodes: usize, channels: &[[u32; 2]], rng: &mut Rng) -> Vec<u64> {
    let mut degrees = vec![0.0f64; nodes];
    for node in channels.iter().flatten() {
        degrees[*node as usize] += 1.0;
    }
    let scores: Vec<f64> = channels
        .iter()
        .map(|[a, b]| {
            let degrees = degrees[*a as usize].ln() + degrees[*b as usize].ln();
            0.25 * degrees + rng.normal()
        })
        .collect();
    by_rank(&scores, |q| quantile(CAPACITY, q))
        .into_iter()
        .map(to_u64)
        .collect()
}

/// The updates of both ends of each channel.
pub(crate) fn policies(
    nodes: usize,
    channels: &[[u32; 2]],
    capacities: &[u64],
    rng: &mut Rng,
) -> Vec<[Option<Policy>; 2]> {
    // One number for each direction, as like within a node as `own` says.
    let mut by_node = |own: f64| -> Vec<f64> {
        let of_node: Vec<f64> = (0..nodes).map(|_| rng.normal()).collect();
        channels
            .iter()
            .flatten()
            .map(|node| own * of_node[*node as usize] + rng.normal())
            .collect()
    };
    let bases = by_rank(&by_node(3.0), |q| quantile(BASE_FEE, q));
    let ppms = by_rank(&by_node(1.5), |q| quantile(PROPORTIONAL_FEE, q));
    let deltas = by_rank(&by_node(3.0), |q| {
        let mut sum = 0.0;
        let found = CLTV_DELTAS.iter().find(|(share, _)| {
            sum += share;
            q < sum
        });
        f64::from(found.map_or(80, |(_, delta)| *delta))
    });
    let minima = by_rank(&by_node(3.0), |q| match q {
        q if q < 0.12 => 1.0,
        q if q < 0.91 => 1_000.0,
        q if q < 0.97 => 10_000.0,
        q if q < 0.99 => 1_000_000.0,
        _ => 10_000_000.0,
    });
    let maxima = by_rank(&by_node(2.0), |q| match q {
        q if q < 0.64 => 0.99,
        q if q < 0.84 => 1.0,
        q => 0.05 * 18.0f64.powf((q - 0.84) / 0.16),
    });
    let mut policies = Vec::with_capacity(channels.len());
    for (i, capacity) in capacities.iter().enumerate() {
        let draw = rng.unit();
        let unusable = if draw < BOTH_UNUSABLE {
            [true, true]
        } else if draw < BOTH_UNUSABLE + ONE_UNUSABLE {
            let first = rng.below(2) == 0;
            [first, !first]
        } else {
            [false, false]
        };
        let mut both = [None, None];
        for (direction, slot) in both.iter_mut().enumerate() {
            let at = 2 * i + direction;
            if unusable[direction] && rng.unit() < MISSING {
                continue;
            }
            let maximum = to_u64(maxima[at] * to_f64(*capacity) * 1_000.0).max(1_000);
            let age = u32::try_from(rng.below(UPDATES_SPREAD)).unwrap_or(0);
            *slot = Some(Policy {
                htlc_minimum: Msat::new(to_u64(minima[at]).min(maximum)),
                htlc_maximum: Msat::new(maximum),
                timestamp: NEWEST_UPDATE - age,
                fee_base_msat: to_u32(bases[at]),
                fee_proportional_millionths: to_u32(ppms[at]),
                cltv_expiry_delta: CltvExpiryDelta::new(
                    u16::try_from(to_u32(deltas[at])).unwrap_or(80),
                ),
                disabled: unusable[direction],
            });
        }
        policies.push(both);
    }
    policies
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "amounts of bitcoins are positive and below 2^53"
)]
fn to_u64(value: f64) -> u64 {
    value.round() as u64
}

fn to_u32(value: f64) -> u32 {
    u32::try_from(to_u64(value)).unwrap_or(u32::MAX)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "amounts of bitcoins are below 2^53"
)]
const fn to_f64(value: u64) -> f64 {
    value as f64
}
