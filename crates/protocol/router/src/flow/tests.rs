//! Flows over small networks against all combinations of ways.

use alloc::collections::BTreeMap;

use bitcoin::{Amount, constants::ChainHash};
use fulmen_gossip::{Direction, GraphWriter, NewChannel, Policy};
use fulmen_types::{CltvExpiryDelta, Features, Msat, NodeId, ShortChannelId};
use proptest::prelude::*;

use super::*;
use crate::{FirstHop, RouteRequest};

const UNIT: u64 = 1_000;

fn node(n: u8) -> NodeId {
    NodeId::new([n; 33])
}

/// All ways from us to the payee that pass no node twice.
fn ways(problem: &Problem<'_>, path: &mut Vec<u32>, found: &mut Vec<Vec<u32>>) {
    let at = path
        .last()
        .map_or(problem.payer, |edge| problem.terms(*edge).to);
    if at == problem.payee {
        found.push(path.clone());
        return;
    }
    for edge in 0..to_u32(problem.edge_slots()) {
        let terms = problem.terms(edge);
        let visited = path
            .iter()
            .any(|edge| problem.terms(*edge).from == terms.to);
        if terms.from == at && !visited && terms.to != problem.payer {
            path.push(edge);
            ways(problem, path, found);
            path.pop();
        }
    }
}

fn cost(costs: &Costs<'_>, ways: &[&Vec<u32>]) -> Option<u64> {
    let mut units: BTreeMap<u32, u16> = BTreeMap::new();
    let mut sum = 0;
    for edge in ways.iter().copied().flatten() {
        let carried = units.entry(*edge).or_default();
        sum += costs.of_unit(&costs.problem.terms(*edge), *carried)?;
        *carried += 1;
    }
    Some(sum)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn flows_are_the_cheapest_keep_capacities_and_lose_nothing(
        links in proptest::collection::vec(
            (2..7u8, 2..7u8, 0..30_000u32, 0..30_000u32, 800..3_500u64, 800..3_500u64),
            1..9,
        ),
        spendable in proptest::collection::vec((2..6u8, 900..3_500u64), 1..3),
        count in 1..4u16,
    ) {
        let mut writer = GraphWriter::new(ChainHash::REGTEST);
        for (n, (a, b, ppm_a, ppm_b, max_a, max_b)) in (1u64..).zip(&links) {
            if a == b {
                continue;
            }
            let id = ShortChannelId::from_u64(n);
            writer.add_channel(&NewChannel {
                short_channel_id: id,
                node_1: node(*a.min(b)),
                node_2: node(*a.max(b)),
                capacity: Some(Amount::from_sat(10)),
                features: Features::empty(),
            }).unwrap();
            for (direction, ppm, max) in
                [(Direction::Forward, ppm_a, max_a), (Direction::Backward, ppm_b, max_b)]
            {
                writer.update_policy(id, direction, Policy {
                    htlc_minimum: Msat::new(1),
                    htlc_maximum: Msat::new(*max),
                    timestamp: 1,
                    fee_base_msat: 0,
                    fee_proportional_millionths: *ppm,
                    cltv_expiry_delta: CltvExpiryDelta::new(0),
                    disabled: false,
                }).unwrap();
            }
        }
        let graph = writer.snapshot();
        let hops: Vec<FirstHop> = spendable.iter().zip(100u64..).map(|((peer, most), n)| FirstHop {
            short_channel_id: ShortChannelId::from_u64(n),
            peer: node(*peer),
            spendable: Msat::new(*most),
            htlc_minimum: Msat::new(1),
        }).collect();
        let amount = UNIT * u64::from(count);
        let request = RouteRequest::new(node(1), &hops, node(6), Msat::new(amount), 18);
        let problem = Problem::new(&graph, &request, None);
        let costs = Costs::new(&problem, UNIT, count);

        let mut all = Vec::new();
        ways(&problem, &mut Vec::new(), &mut all);
        let mut best: Option<u64> = None;
        for a in &all {
            for b in &all {
                for c in &all {
                    let chosen = [a, b, c];
                    if let Some(sum) = cost(&costs, &chosen[..usize::from(count)]) {
                        best = Some(best.map_or(sum, |best| best.min(sum)));
                    }
                }
            }
        }

        let mut flow = Flow::default();
        let mut run = |most| match flow.run(&problem, UNIT, count, most) {
            Sent::NoRoom | Sent::TooDear => None,
            Sent::Ways(parts) => Some(parts),
        };
        let parts = run(u64::MAX);
        prop_assert_eq!(parts.is_some(), best.is_some());
        // Run again with the same memory: nothing is left over in it.
        prop_assert_eq!(&run(u64::MAX), &parts);
        let Some(parts) = parts else { return Ok(()) };
        // What costs more than is allowed may be given up; what does not, never.
        let best = best.unwrap_or(u64::MAX);
        prop_assert_eq!(run(best + 1), Some(parts.clone()));
        let dearer = run(best);
        prop_assert!(dearer.is_none() || dearer == Some(parts.clone()));
        prop_assert_eq!(parts.iter().map(|part| part.units).sum::<u16>(), count);
        let mut sent = Vec::new();
        for part in &parts {
            let mut at = problem.payer;
            for edge in &part.edges {
                let terms = problem.terms(*edge);
                prop_assert_eq!(terms.from, at);
                at = terms.to;
            }
            prop_assert_eq!(at, problem.payee);
            sent.extend(core::iter::repeat_n(&part.edges, usize::from(part.units)));
        }
        // That all units find room together is what keeping the capacities means.
        prop_assert_eq!(cost(&costs, &sent), Some(best));
    }
}
