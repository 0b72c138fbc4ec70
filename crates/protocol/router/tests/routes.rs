//! Routes against BOLT 7's example and against exhaustive search over small networks.
#![allow(clippy::unwrap_used)]

mod common;

use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewNodeDetails};
use fulmen_router::{AvoidList, FirstHop, HintHop, NoRoute, Route, RouteRequest, find_route};
use fulmen_types::{Features, Msat, NodeId, Timestamp};
use proptest::prelude::*;

use common::*;

/// BOLT 7, Routing Example: A, B, C, D are 1, 2, 3, 4.
mod bolt_7_example {
    use super::*;

    fn graph() -> NetworkGraph {
        let [a, b, c, d] = [
            plain(100, 1000, 10),
            plain(200, 2000, 20),
            plain(300, 3000, 30),
            plain(400, 4000, 40),
        ];
        build(&[
            Link {
                scid: 12,
                ends: [1, 2],
                terms: [a, b],
            },
            Link {
                scid: 14,
                ends: [1, 4],
                terms: [a, d],
            },
            Link {
                scid: 23,
                ends: [2, 3],
                terms: [b, c],
            },
            Link {
                scid: 34,
                ends: [3, 4],
                terms: [c, d],
            },
        ])
    }

    fn amounts(route: &Route) -> Vec<(u64, u64, u32)> {
        route
            .hops
            .iter()
            .map(|h| {
                (
                    h.short_channel_id.to_u64(),
                    h.amount.to_msat(),
                    h.cltv_from_tip,
                )
            })
            .collect()
    }

    const AMOUNT: Msat = Msat::new(4_999_999);

    #[test]
    fn b_to_c() {
        let hops = [first_hop(23, 3, 10_000_000), first_hop(12, 1, 10_000_000)];
        let route = find_route(
            &graph(),
            &RouteRequest::new(node(2), &hops, node(3), AMOUNT, 18 + 42),
        );
        assert_eq!(amounts(&route.unwrap()), [(23, 4_999_999, 18 + 42)]);
    }

    #[test]
    fn a_to_c_by_b_then_by_d() {
        let hops = [first_hop(12, 2, 10_000_000), first_hop(14, 4, 10_000_000)];
        let request = RouteRequest::new(node(1), &hops, node(3), AMOUNT, 18 + 42);
        let route = find_route(&graph(), &request).unwrap();
        assert_eq!(
            amounts(&route),
            [(12, 5_010_198, 20 + 18 + 42), (23, 4_999_999, 18 + 42)]
        );
        assert_eq!(route.fee, Msat::new(10_199));

        let mut avoid = AvoidList::new();
        avoid.avoid_channel(
            (scid(23), Direction::Forward),
            Msat::ZERO,
            Timestamp::from_secs(9),
        );
        let lists = [&avoid];
        let request = RouteRequest {
            avoid: &lists,
            ..request
        };
        let route = find_route(&graph(), &request).unwrap();
        assert_eq!(
            amounts(&route),
            [(14, 5_020_398, 40 + 18 + 42), (34, 4_999_999, 18 + 42)]
        );
    }
}

#[test]
fn reasons() {
    let graph = build(&[
        Link {
            scid: 1,
            ends: [2, 3],
            terms: [plain(10, 0, 40), plain(10, 0, 40)],
        },
        Link {
            scid: 2,
            ends: [3, 4],
            terms: [plain(1000, 0, 40), plain(0, 0, 40)],
        },
    ]);
    let hops = [first_hop(100, 2, 50_000)];
    let amount = Msat::new(10_000);
    let base = RouteRequest::new(node(1), &hops, node(4), amount, 18);
    assert!(find_route(&graph, &base).is_ok());
    let ask = |request: RouteRequest<'_>| find_route(&graph, &request).unwrap_err();
    assert_eq!(
        ask(RouteRequest {
            amount: Msat::ZERO,
            ..base.clone()
        }),
        NoRoute::ZeroAmount
    );
    assert_eq!(
        ask(RouteRequest {
            payee: node(1),
            ..base.clone()
        }),
        NoRoute::PayeeIsPayer
    );
    assert_eq!(
        ask(RouteRequest {
            first_hops: &[],
            ..base.clone()
        }),
        NoRoute::NoUsableChannel
    );
    assert_eq!(
        ask(RouteRequest {
            amount: Msat::new(60_000),
            ..base.clone()
        }),
        NoRoute::InsufficientLiquidity {
            spendable: Msat::new(50_000)
        }
    );
    assert_eq!(
        ask(RouteRequest {
            payee: node(9),
            ..base.clone()
        }),
        NoRoute::PayeeUnknown
    );
    assert_eq!(
        ask(RouteRequest {
            max_fee: Msat::new(1009),
            ..base.clone()
        }),
        NoRoute::FeeTooHigh {
            cheapest: Msat::new(1010),
            max_fee: Msat::new(1009)
        }
    );
    assert_eq!(
        ask(RouteRequest {
            max_total_cltv: 97,
            ..base.clone()
        }),
        NoRoute::CltvTooLong {
            needed: 98,
            max_total_cltv: 97
        }
    );
    assert_eq!(
        ask(RouteRequest {
            max_hops: 2,
            ..base.clone()
        }),
        NoRoute::TooManyHops
    );
    assert_eq!(
        ask(RouteRequest {
            final_payload_len: 1_290,
            ..base.clone()
        }),
        NoRoute::TooManyHops
    );
    let mut avoid = AvoidList::new();
    avoid.avoid_node(node(3), Timestamp::from_secs(5));
    assert_eq!(
        ask(RouteRequest {
            avoid: &[&avoid],
            ..base.clone()
        }),
        NoRoute::AllPathsFailed
    );
    let later = RouteRequest {
        avoid: &[&avoid],
        now: Timestamp::from_secs(5),
        ..base
    };
    assert!(find_route(&graph, &later).is_ok());
}

#[test]
fn a_hint_leads_to_a_payee_that_is_not_announced() {
    let graph = build(&[Link {
        scid: 1,
        ends: [2, 3],
        terms: [plain(10, 0, 40), plain(10, 0, 40)],
    }]);
    let hops = [first_hop(100, 2, 50_000)];
    let hints = [vec![
        HintHop {
            node_id: node(3),
            short_channel_id: scid(7),
            fee_base_msat: 5,
            fee_proportional_millionths: 10_000,
            cltv_expiry_delta: 9,
        },
        HintHop {
            node_id: node(20),
            short_channel_id: scid(8),
            fee_base_msat: 1,
            fee_proportional_millionths: 0,
            cltv_expiry_delta: 3,
        },
    ]];
    let request = RouteRequest {
        hints: &hints,
        ..RouteRequest::new(node(1), &hops, node(21), Msat::new(1000), 18)
    };
    let route = find_route(&graph, &request).unwrap();
    let hops: Vec<_> = route
        .hops
        .iter()
        .map(|h| {
            (
                h.short_channel_id.to_u64(),
                h.node_id,
                h.amount.to_msat(),
                h.cltv_from_tip,
            )
        })
        .collect();
    assert_eq!(
        hops,
        [
            (100, node(2), 1026, 70),
            (1, node(3), 1016, 30),
            (7, node(20), 1001, 21),
            (8, node(21), 1000, 18)
        ]
    );
}

#[test]
fn nodes_that_ask_for_unknown_features_are_paid_but_not_passed() {
    let mut writer = GraphWriter::from_graph(build(&[
        Link {
            scid: 1,
            ends: [2, 3],
            terms: [plain(0, 0, 40), plain(0, 0, 40)],
        },
        Link {
            scid: 2,
            ends: [3, 4],
            terms: [plain(0, 0, 40), plain(0, 0, 40)],
        },
    ]));
    let mut features = Features::empty();
    features.set_bit(1000);
    let details = NewNodeDetails {
        timestamp: 1,
        features: &features,
        rgb_color: [0; 3],
        alias: [0; 32],
        addresses: &[],
    };
    writer.update_node(&node(3), &details).unwrap();
    let graph = writer.snapshot();
    let hops = [first_hop(100, 2, 50_000)];
    let to = |payee| {
        find_route(
            &graph,
            &RouteRequest::new(node(1), &hops, payee, Msat::new(1000), 18),
        )
    };
    assert!(to(node(3)).is_ok());
    assert_eq!(to(node(4)), Err(NoRoute::NoPath));
}

/// The slow reference: walks every simple path backwards and gives the least fee within the limits.
struct Exhaustive<'a> {
    links: &'a [Link],
    request: &'a RouteRequest<'a>,
    best: Option<u64>,
}

impl Exhaustive<'_> {
    fn visit(&mut self, at: NodeId, visited: &mut Vec<NodeId>, needed: u64, cltv: u32, hops: u8) {
        let is_payee = at == self.request.payee;
        let carried = |min: u64, max: u64| {
            let carried = needed.max(min);
            (carried <= max && !(is_payee && carried > 2 * needed)).then_some(carried)
        };
        for hop in self.request.first_hops.iter().filter(|h| h.peer == at) {
            if let Some(total) = carried(hop.htlc_minimum.to_msat(), hop.spendable.to_msat()) {
                let fee = total - self.request.amount.to_msat();
                if fee <= self.request.max_fee.to_msat()
                    && cltv <= self.request.max_total_cltv
                    && hops < self.request.max_hops
                    && self.best.is_none_or(|best| fee < best)
                {
                    self.best = Some(fee);
                }
            }
        }
        for link in self.links {
            for (from, to) in [(0, 1), (1, 0)] {
                let (u, terms) = (node(link.ends[from]), link.terms[from]);
                if node(link.ends[to]) != at || visited.contains(&u) || terms.disabled {
                    continue;
                }
                if terms.min > terms.max {
                    continue;
                }
                let Some(carried) = carried(terms.min, terms.max) else {
                    continue;
                };
                let fee = u64::from(terms.base) + carried * u64::from(terms.ppm) / 1_000_000;
                visited.push(u);
                self.visit(
                    u,
                    visited,
                    carried + fee,
                    cltv + u32::from(terms.cltv),
                    hops + 1,
                );
                visited.pop();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]
    #[test]
    fn every_route_is_valid_and_the_cheapest(
        links in network(),
        payee in 2..8u8,
        amount in 1..3_000u64,
        max_fee in prop_oneof![Just(Msat::MAX_MONEY), (0..200u64).prop_map(Msat::new)],
        max_total_cltv in prop_oneof![Just(2016u32), 18..160u32],
        max_hops in prop_oneof![Just(20u8), 1..6u8],
        spendable in proptest::collection::vec((2..8u8, 1..4_000u64, 1..1_500u64), 1..3),
    ) {
        let graph = build(&links);
        let first_hops: Vec<FirstHop> = spendable
            .iter()
            .zip(100u64..)
            .map(|((peer, spendable, min), n)| FirstHop {
                htlc_minimum: Msat::new(*min),
                ..first_hop(n, *peer, *spendable)
            })
            .collect();
        let request = RouteRequest {
            max_fee,
            max_total_cltv,
            max_hops,
            ..RouteRequest::new(node(1), &first_hops, node(payee), Msat::new(amount), 18)
        };
        let mut exhaustive = Exhaustive { links: &links, request: &request, best: None };
        exhaustive.visit(node(payee), &mut vec![node(payee)], amount, 18, 0);
        let result = find_route(&graph, &request);
        prop_assert_eq!(result.as_ref().ok().map(|r| r.fee.to_msat()), exhaustive.best);
        if let Ok(route) = &result {
            check(&links, &request, route);
        }
        prop_assert_eq!(&find_route(&graph, &request), &result);
    }
}
