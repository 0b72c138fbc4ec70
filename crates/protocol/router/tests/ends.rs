//! The ends of routes, against exhaustive search: our own channels with what they can really carry, route
//! hints of several hops, and a choice of blinded paths.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use fulmen_router::{
    BlindedTail, CostModel, FirstHop, HintHop, Route, RouteRequest, Router, find_route,
};
use fulmen_types::{Msat, NodeId, ShortChannelId};
use proptest::prelude::*;

use common::*;

/// A node that nobody has announced.
const HIDDEN: u8 = 30;

/// Any edge that a route may use, but our own channels.
#[derive(Clone, Copy, Debug)]
struct Edge {
    name: Name,
    from: u8,
    to: u8,
    terms: Terms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Channel(u64),
    Tail(usize),
}

impl Edge {
    fn fee(&self, carried: u64) -> u64 {
        u64::from(self.terms.base) + carried * u64::from(self.terms.ppm) / 1_000_000
    }
}

/// The slow reference: the least fee of all simple paths within the limits.
struct Exhaustive<'a> {
    edges: &'a [Edge],
    payee: u8,
    request: &'a RouteRequest<'a>,
    best: Option<u64>,
}

impl Exhaustive<'_> {
    fn visit(&mut self, at: u8, visited: &mut Vec<u8>, needed: u64, cltv: u32, hops: u8) {
        let is_payee = at == self.payee;
        let carried = |min: u64, max: u64| {
            let carried = needed.max(min);
            (carried <= max && !(is_payee && carried > 2 * needed)).then_some(carried)
        };
        for hop in self.request.first_hops {
            if hop.peer != node(at) {
                continue;
            }
            if let Some(total) = carried(hop.htlc_minimum.to_msat(), hop.spendable.to_msat()) {
                let fee = total - self.request.amount.to_msat();
                let fits = fee <= self.request.max_fee.to_msat()
                    && cltv <= self.request.max_total_cltv
                    && hops < self.request.max_hops;
                if fits && self.best.is_none_or(|best| fee < best) {
                    self.best = Some(fee);
                }
            }
        }
        for edge in self.edges {
            if edge.to != at || edge.from == 1 || visited.contains(&edge.from) {
                continue;
            }
            let Some(carried) = carried(edge.terms.min, edge.terms.max) else {
                continue;
            };
            visited.push(edge.from);
            let needed = carried + edge.fee(carried);
            let cltv = cltv + u32::from(edge.terms.cltv);
            self.visit(edge.from, visited, needed, cltv, hops + 1);
            visited.pop();
        }
    }
}

/// Walks a route forwards, by what the edges say.
fn walk(edges: &[Edge], payee: u8, request: &RouteRequest<'_>, route: &Route) {
    let first = route.hops[0];
    let ours = request
        .first_hops
        .iter()
        .find(|hop| hop.short_channel_id == first.short_channel_id)
        .unwrap();
    assert_eq!(ours.peer, first.node_id);
    assert!(first.amount >= ours.htlc_minimum && first.amount <= ours.spendable);
    assert_eq!(first.amount, route.total());
    let pass = |edge: &Edge, incoming: (u64, u32), outgoing: (u64, u32)| {
        assert!(outgoing.0 >= edge.terms.min && outgoing.0 <= edge.terms.max);
        assert!(incoming.0 >= outgoing.0 + edge.fee(outgoing.0));
        assert!(incoming.1 >= outgoing.1 + u32::from(edge.terms.cltv));
    };
    let find = |name: Name, from: NodeId, to: NodeId| {
        let is_it =
            |edge: &&Edge| edge.name == name && node(edge.from) == from && node(edge.to) == to;
        edges.iter().find(is_it).unwrap()
    };
    for pair in route.hops.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        let name = Name::Channel(after.short_channel_id.to_u64());
        let edge = find(name, before.node_id, after.node_id);
        let of = |hop: fulmen_router::RouteHop| (hop.amount.to_msat(), hop.cltv_from_tip);
        pass(edge, of(before), of(after));
    }
    let last = route.hops.last().unwrap();
    let amount = route.amount.to_msat();
    match route.tail {
        None => {
            assert!(request.tails.is_empty());
            assert_eq!(last.node_id, node(payee));
            assert!(last.amount.to_msat() >= amount && last.amount.to_msat() <= 2 * amount);
        }
        Some(tail) => {
            let edge = find(Name::Tail(tail), last.node_id, node(payee));
            let carried = amount.max(edge.terms.min);
            assert!(carried <= 2 * amount);
            let end = (carried, request.min_final_cltv_expiry_delta);
            pass(edge, (last.amount.to_msat(), last.cltv_from_tip), end);
        }
    }
}

fn announced(links: &[Link]) -> Vec<Edge> {
    let ends = links.iter().flat_map(|link| [(link, 0, 1), (link, 1, 0)]);
    ends.map(|(link, from, to)| Edge {
        name: Name::Channel(link.scid),
        from: link.ends[from],
        to: link.ends[to],
        terms: link.terms[from],
    })
    .filter(|edge| !edge.terms.disabled && edge.terms.min <= edge.terms.max)
    .collect()
}

fn first_hops(spendable: &[(u8, u64, u64)]) -> Vec<FirstHop> {
    let hops = spendable.iter().zip(100u64..);
    hops.map(|((peer, spendable, min), n)| FirstHop {
        htlc_minimum: Msat::new(*min),
        ..first_hop(n, *peer, *spendable)
    })
    .collect()
}

/// Nodes of hints: announced ones, hidden ones, and sometimes ourselves.
fn hint_node() -> impl Strategy<Value = u8> {
    prop_oneof![6 => 2..8u8, 2 => 20..22u8, 1 => Just(1u8)]
}

fn hints() -> impl Strategy<Value = Vec<Vec<(u8, u32, u32, u16)>>> {
    let hop = (hint_node(), 0..50u32, 0..30_000u32, 0..60u16);
    proptest::collection::vec(proptest::collection::vec(hop, 1..4), 1..4)
}

fn compare(
    edges: &[Edge],
    graph: &Arc<fulmen_gossip::NetworkGraph>,
    payee: u8,
    request: &RouteRequest<'_>,
) {
    let mut exhaustive = Exhaustive {
        edges,
        payee,
        request,
        best: None,
    };
    let (amount, cltv) = (
        request.amount.to_msat(),
        request.min_final_cltv_expiry_delta,
    );
    exhaustive.visit(payee, &mut vec![payee], amount, cltv, 0);
    let result = find_route(graph, request);
    assert_eq!(
        result.as_ref().ok().map(|route| route.fee.to_msat()),
        exhaustive.best,
        "{result:?}"
    );
    if let Ok(route) = &result {
        walk(edges, payee, request, route);
    }
    // With risk and time, and in parts: every part keeps what its edges say.
    let weighed = RouteRequest {
        cost: CostModel::BALANCED,
        ..request.clone()
    };
    if let Ok(plan) = Router::new().plan(graph, &weighed, 6) {
        let sum = |of: fn(&Route) -> u64| plan.parts.iter().map(of).sum::<u64>();
        assert_eq!(sum(|route| route.amount.to_msat()), amount);
        assert!(sum(|route| route.fee.to_msat()) <= request.max_fee.to_msat());
        for route in &plan.parts {
            walk(edges, payee, &weighed, route);
        }
        for hop in request.first_hops {
            let parts = plan.parts.iter().map(|route| route.hops[0]);
            let by_it = parts.filter(|first| first.short_channel_id == hop.short_channel_id);
            let sent: u64 = by_it.map(|first| first.amount.to_msat()).sum();
            assert!(sent <= hop.spendable.to_msat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]
    #[test]
    fn hints_of_several_hops_are_followed_at_the_least_fee(
        links in network(),
        payee in prop_oneof![Just(HIDDEN), 2..8u8],
        amount in 1..3_000u64,
        max_fee in prop_oneof![Just(Msat::MAX_MONEY), (0..200u64).prop_map(Msat::new)],
        max_total_cltv in prop_oneof![Just(2016u32), 18..160u32],
        spendable in proptest::collection::vec((2..8u8, 1..4_000u64, 1..1_500u64), 1..3),
        hints in hints(),
    ) {
        let graph = Arc::new(build(&links));
        let first_hops = first_hops(&spendable);
        let mut edges = announced(&links);
        let mut id = 200;
        let mut given = Vec::new();
        for hint in &hints {
            let ends = hint.iter().skip(1).map(|hop| hop.0).chain([payee]);
            let mut hops = Vec::new();
            for ((from, base, ppm, cltv), to) in hint.iter().zip(ends) {
                id += 1;
                hops.push(HintHop {
                    node_id: node(*from),
                    short_channel_id: ShortChannelId::from_u64(id),
                    fee_base_msat: *base,
                    fee_proportional_millionths: *ppm,
                    cltv_expiry_delta: *cltv,
                });
                edges.push(Edge {
                    name: Name::Channel(id),
                    from: *from,
                    to,
                    terms: Terms { min: 0, max: u64::MAX, ..plain(*base, *ppm, *cltv) },
                });
            }
            given.push(hops);
        }
        let request = RouteRequest {
            max_fee,
            max_total_cltv,
            hints: &given,
            ..RouteRequest::new(node(1), &first_hops, node(payee), Msat::new(amount), 18)
        };
        compare(&edges, &graph, payee, &request);
    }

    #[test]
    fn of_several_blinded_paths_the_cheapest_is_taken(
        links in network(),
        amount in 1..3_000u64,
        max_fee in prop_oneof![Just(Msat::MAX_MONEY), (0..300u64).prop_map(Msat::new)],
        max_total_cltv in prop_oneof![Just(2016u32), 18..200u32],
        spendable in proptest::collection::vec((2..8u8, 1..4_000u64, 1..1_500u64), 1..3),
        tails in proptest::collection::vec((2..8u8, terms()), 1..5),
    ) {
        let graph = Arc::new(build(&links));
        let first_hops = first_hops(&spendable);
        let mut edges = announced(&links);
        let mut given = Vec::new();
        for (at, (introduction, terms)) in tails.iter().enumerate() {
            given.push(BlindedTail {
                introduction_node: node(*introduction),
                fee_base_msat: terms.base,
                fee_proportional_millionths: terms.ppm,
                cltv_expiry_delta: terms.cltv,
                htlc_minimum: Msat::new(terms.min),
                htlc_maximum: Msat::new(terms.max),
                payloads_len: 120,
            });
            edges.push(Edge {
                name: Name::Tail(at),
                from: *introduction,
                to: HIDDEN,
                terms: *terms,
            });
        }
        let request = RouteRequest {
            max_fee,
            max_total_cltv,
            tails: &given,
            ..RouteRequest::new(node(1), &first_hops, node(HIDDEN), Msat::new(amount), 18)
        };
        compare(&edges, &graph, HIDDEN, &request);
    }
}
