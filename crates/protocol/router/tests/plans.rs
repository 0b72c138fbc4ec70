//! Plans of many parts: valid, within all limits, optimal where exhaustive search can tell.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use common::*;
use fulmen_gossip::{Direction, NetworkGraph};
use fulmen_router::{
    BlindedTail, CostModel, FirstHop, Layer, NoRoute, Observation, Plan, RouteOutcome,
    RouteRequest, Router, Source,
};
use fulmen_types::{Msat, Timestamp};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn capacity(link: &Link) -> u64 {
    let most = link.terms.iter().map(|terms| terms.max).max().unwrap();
    most.div_ceil(1_000) * 1_000
}

fn graph(links: &[Link]) -> Arc<NetworkGraph> {
    Arc::new(build_with(links, capacity))
}

/// Two nodes in between that each have a channel to the payee (4) and one to us (1).
fn diamond() -> Vec<Link> {
    let terms = Terms {
        max: 1_000_000,
        ..plain(0, 1_000, 10)
    };
    [(24, [2, 4]), (34, [3, 4])]
        .map(|(scid, ends)| Link {
            scid,
            ends,
            terms: [terms, terms],
        })
        .to_vec()
}

fn two_first_hops() -> [FirstHop; 2] {
    [first_hop(12, 2, 10_000_000), first_hop(13, 3, 10_000_000)]
}

fn request(first_hops: &[FirstHop], payee: u8, amount: u64) -> RouteRequest<'_> {
    RouteRequest {
        cost: CostModel::BALANCED,
        now: NOW,
        ..RouteRequest::new(node(1), first_hops, node(payee), Msat::new(amount), 18)
    }
}

/// What is true of every plan, whatever was asked.
fn check_plan(links: &[Link], request: &RouteRequest<'_>, plan: &Plan, max_parts: usize) {
    assert!(!plan.parts.is_empty() && plan.parts.len() <= max_parts);
    let sum: u64 = plan.parts.iter().map(|route| route.amount.to_msat()).sum();
    assert_eq!(sum, request.amount.to_msat());
    let fees: u64 = plan.parts.iter().map(|route| route.fee.to_msat()).sum();
    assert_eq!(plan.cost.fee.to_msat(), fees);
    assert!(plan.cost.fee <= request.max_fee);
    let mut carried: BTreeMap<_, u64> = BTreeMap::new();
    for route in &plan.parts {
        let part = RouteRequest {
            amount: route.amount,
            ..request.clone()
        };
        check(links, &part, route);
        for (index, hop) in route.hops.iter().enumerate() {
            let direction = route.direction(&request.payer, index).unwrap();
            *carried
                .entry((hop.short_channel_id, direction))
                .or_default() += hop.amount.to_msat();
        }
    }
    for ((id, _), carried) in carried {
        let own = request
            .first_hops
            .iter()
            .find(|hop| hop.short_channel_id == id);
        let most = own.map_or_else(
            || capacity(links.iter().find(|link| scid(link.scid) == id).unwrap()),
            |hop| hop.spendable.to_msat(),
        );
        assert!(carried <= most, "{id} carries {carried} of {most}");
    }
}

#[test]
fn what_no_channel_can_carry_goes_in_parts() {
    let links = diamond();
    let graph = graph(&links);
    let hops = two_first_hops();
    let mut router = Router::new();
    let request = request(&hops, 4, 1_500_000);
    assert_eq!(router.find_route(&graph, &request), Err(NoRoute::NoPath));
    let plan = router.plan(&graph, &request, 16).unwrap();
    check_plan(&links, &request, &plan, 16);
    assert_eq!(plan.parts.len(), 2);
    let too_much = RouteRequest {
        amount: Msat::new(2_100_000),
        ..request
    };
    assert_eq!(router.plan(&graph, &too_much, 16), Err(NoRoute::NoPath));
    assert_eq!(
        router.plan(&graph, &request, 1).unwrap_err(),
        NoRoute::NoPath
    );
}

#[test]
fn own_channels_add_up() {
    let links = diamond();
    let graph = graph(&links);
    let hops = [first_hop(12, 2, 700_000), first_hop(13, 3, 600_000)];
    let mut router = Router::new();
    let request = request(&hops, 4, 1_200_000);
    let plan = router.plan(&graph, &request, 16).unwrap();
    check_plan(&links, &request, &plan, 16);
    let too_much = RouteRequest {
        amount: Msat::new(1_400_000),
        ..request
    };
    let spendable = Msat::new(1_300_000);
    assert_eq!(
        router.plan(&graph, &too_much, 16),
        Err(NoRoute::InsufficientLiquidity { spendable })
    );
}

#[test]
fn learns_from_attempts() {
    let links = diamond();
    let graph = graph(&links);
    let hops = two_first_hops();
    let mut router = Router::new();
    let request = request(&hops, 4, 300_000);
    let first = router.plan(&graph, &request, 1).unwrap();
    let used = first.parts[0].hops[1].short_channel_id;
    router.learn(
        &graph,
        &node(1),
        &first.parts[0].hops,
        RouteOutcome::RefusedAt(1),
        NOW,
    );
    let second = router.plan(&graph, &request, 1).unwrap();
    assert_ne!(second.parts[0].hops[1].short_channel_id, used);
    router.learn(
        &graph,
        &node(1),
        &second.parts[0].hops,
        RouteOutcome::RefusedAt(1),
        NOW,
    );
    assert_eq!(
        router.plan(&graph, &request, 1),
        Err(NoRoute::AllPathsFailed)
    );
    // A smaller amount may still go through, and in days everything may have changed.
    let less = RouteRequest {
        amount: Msat::new(100_000),
        ..request.clone()
    };
    assert!(router.plan(&graph, &less, 1).is_ok());
    let later = RouteRequest {
        now: Timestamp::from_secs(1_000_000 + 10 * 86_400),
        ..request.clone()
    };
    assert!(router.plan(&graph, &later, 1).is_ok());
    // What went through for good can be said to have been there.
    let paid = router.plan(&graph, &less, 1).unwrap();
    router.learn(
        &graph,
        &node(1),
        &paid.parts[0].hops,
        RouteOutcome::Reached,
        NOW,
    );
    let again = router.plan(&graph, &less, 1).unwrap();
    assert_eq!(again.parts, paid.parts);
    assert_eq!(again.success.to_ppm(), 1_000_000);
}

#[test]
fn explains_itself() {
    let links = diamond();
    let graph = graph(&links);
    let hops = two_first_hops();
    let mut router = Router::new();
    let channel = (scid(24), Direction::Forward);
    let (whole, most) = (Msat::new(1_000_000), Msat::new(900_000));
    router
        .liquidity_mut()
        .observe(channel, whole, most, Observation::Carried, NOW);
    let request = request(&hops, 4, 1_500_000);
    let plan = router.plan(&graph, &request, 16).unwrap();
    let why = router.explain(&graph, &request, &plan);
    assert_eq!((why.cost, why.success), (plan.cost, plan.success));
    assert_eq!(why.parts.len(), plan.parts.len());
    for (part, route) in why.parts.iter().zip(&plan.parts) {
        assert_eq!((part.fee, part.amount), (route.fee, route.amount));
        let [own, other] = part.hops[..] else {
            panic!("two hops")
        };
        assert_eq!(
            (own.source, own.fee, own.from),
            (Source::Own, Msat::ZERO, node(1))
        );
        assert_eq!(other.fee, route.fee);
        assert_eq!(other.cltv_expiry_delta, 10);
        let learned = Source::Learned {
            least: most,
            most: whole,
        };
        let expected = if other.short_channel_id == scid(24) {
            learned
        } else {
            Source::Capacity(whole)
        };
        assert_eq!(other.source, expected);
        assert_eq!(part.success, other.success);
    }
    let product: f64 = why
        .parts
        .iter()
        .map(|p| f64::from(p.success.to_ppm()) / 1e6)
        .product();
    assert!((f64::from(why.success.to_ppm()) / 1e6 - product).abs() < 1e-3);
}

#[test]
fn layers_and_htlcs_on_their_way_count() {
    let links = diamond();
    let graph = graph(&links);
    let hops = two_first_hops();
    let mut router = Router::new();
    let base = request(&hops, 4, 300_000);
    let by = |router: &mut Router, layer: &Layer, amount: u64| {
        let layers = [layer];
        let request = RouteRequest {
            layers: &layers,
            amount: Msat::new(amount),
            ..base.clone()
        };
        router
            .plan(&graph, &request, 1)
            .map(|plan| plan.parts[0].hops[1].short_channel_id)
    };
    let channel = (scid(24), Direction::Forward);
    let mut layer = Layer::new();
    assert_eq!(by(&mut router, &layer, 300_000), Ok(scid(24)));
    layer.shun_channel(channel, Msat::new(10_000));
    assert_eq!(by(&mut router, &layer, 300_000), Ok(scid(34)));
    layer.reset_channel(&channel);
    layer.disable_channel(channel);
    assert_eq!(by(&mut router, &layer, 300_000), Ok(scid(34)));
    layer.disable_node(node(3));
    assert_eq!(
        by(&mut router, &layer, 300_000),
        Err(NoRoute::AllPathsFailed)
    );
    layer.enable_node(&node(3));
    layer.set_liquidity((scid(34), Direction::Forward), Msat::new(250_000));
    assert_eq!(
        by(&mut router, &layer, 300_000),
        Err(NoRoute::AllPathsFailed)
    );
    assert_eq!(by(&mut router, &layer, 200_000), Ok(scid(34)));

    let in_use = [(channel, Msat::new(800_000))];
    let busy = RouteRequest {
        in_use: &in_use,
        ..base.clone()
    };
    let plan = router.plan(&graph, &busy, 1).unwrap();
    assert_eq!(plan.parts[0].hops[1].short_channel_id, scid(34));
}

#[test]
fn blinded_paths_end_routes() {
    let links = diamond();
    let graph = graph(&links);
    let hops = two_first_hops();
    let tail = |introduction: u8, fee_base_msat| BlindedTail {
        introduction_node: node(introduction),
        fee_base_msat,
        fee_proportional_millionths: 1_000,
        cltv_expiry_delta: 100,
        htlc_minimum: Msat::new(1_000),
        htlc_maximum: Msat::new(400_000),
        payloads_len: 200,
    };
    let tails = [tail(4, 5_000), tail(3, 2_000)];
    let request = RouteRequest {
        tails: &tails,
        min_final_cltv_expiry_delta: 3,
        ..request(&hops, 99, 300_000)
    };
    let mut router = Router::new();
    let plan = router.plan(&graph, &request, 1).unwrap();
    let [route] = &plan.parts[..] else {
        panic!("one part")
    };
    // Our peer 3 is the introduction node of the second: 300,000 + 2,000 + 0.1%.
    assert_eq!((route.tail, route.hops.len()), (Some(1), 1));
    assert_eq!(route.hops[0].amount, Msat::new(302_300));
    assert_eq!(
        (route.fee, route.hops[0].cltv_from_tip),
        (Msat::new(2_300), 103)
    );
    // More than one of them takes goes by both.
    let more = RouteRequest {
        amount: Msat::new(600_000),
        ..request.clone()
    };
    let plan = router.plan(&graph, &more, 4).unwrap();
    let mut by: Vec<_> = plan.parts.iter().map(|route| route.tail).collect();
    by.sort_unstable();
    by.dedup();
    assert_eq!(by, [Some(0), Some(1)]);
    let sum: u64 = plan.parts.iter().map(|route| route.amount.to_msat()).sum();
    assert_eq!(sum, 600_000);
    let too_small = RouteRequest {
        amount: Msat::new(400),
        ..request
    };
    assert_eq!(router.plan(&graph, &too_small, 4), Err(NoRoute::NoPath));
}

#[test]
fn the_fee_limit_beats_the_risk() {
    // A dear channel that is large and a cheap one that is small.
    let terms = |ppm, max| Terms {
        max,
        ..plain(0, ppm, 10)
    };
    let link = |scid, ends, terms| Link {
        scid,
        ends,
        terms: [terms, terms],
    };
    let links = [
        link(24, [2, 4], terms(2_000, 1_000_000_000)),
        link(34, [3, 4], terms(100, 1_100_000)),
    ];
    let graph = graph(&links);
    let hops = two_first_hops();
    let free = request(&hops, 4, 1_000_000);
    let mut router = Router::new();
    let plan = router.plan(&graph, &free, 4).unwrap();
    assert!(plan.cost.fee > Msat::new(100));
    let limited = RouteRequest {
        max_fee: Msat::new(100),
        ..free.clone()
    };
    let plan = router.plan(&graph, &limited, 4).unwrap();
    check_plan(&links, &limited, &plan, 4);
    assert_eq!(plan.cost.fee, Msat::new(100));
    let too_low = RouteRequest {
        max_fee: Msat::new(99),
        ..free
    };
    assert_eq!(
        router.plan(&graph, &too_low, 4),
        Err(NoRoute::FeeTooHigh {
            cheapest: Msat::new(100),
            max_fee: Msat::new(99)
        })
    );
}

fn first_hops(spendable: &[(u8, u64, u64)]) -> Vec<FirstHop> {
    let hops = spendable.iter().zip(100u64..);
    hops.map(|((peer, spendable, min), n)| FirstHop {
        htlc_minimum: Msat::new(*min),
        ..first_hop(n, *peer, *spendable)
    })
    .collect()
}

type Learned = Vec<(u64, bool, u64, u8)>;

fn learned() -> impl Strategy<Value = Learned> {
    proptest::collection::vec((1..14u64, any::<bool>(), 1..4_000u64, 0..3u8), 0..12)
}

fn router_with(links: &[Link], learned: &[(u64, bool, u64, u8)]) -> Router {
    let mut router = Router::new();
    for (id, backward, amount, what) in learned {
        let Some(link) = links.iter().find(|link| link.scid == *id) else {
            continue;
        };
        let direction = Direction::from_channel_flags(u8::from(*backward));
        let what = [
            Observation::Carried,
            Observation::Refused,
            Observation::Settled,
        ][usize::from(*what)];
        let amount = Msat::new((*amount).min(capacity(link)));
        router.liquidity_mut().observe(
            (scid(*id), direction),
            Msat::new(capacity(link)),
            amount,
            what,
            NOW,
        );
    }
    router
}

/// The least cost of any single path, by letting the router see one path at a time.
fn cheapest_alone(
    links: &[Link],
    graph: &Arc<NetworkGraph>,
    router: &mut Router,
    request: &RouteRequest<'_>,
) -> Option<u64> {
    let ids: Vec<u64> = links.iter().map(|link| link.scid).collect();
    let mut best: Option<u64> = None;
    for first in request.first_hops {
        let first_hops = [*first];
        for chosen in 0u32..1 << ids.len() {
            let mut layer = Layer::new();
            for (bit, id) in ids.iter().enumerate() {
                if chosen >> bit & 1 == 0 {
                    layer.disable_channel((scid(*id), Direction::Forward));
                    layer.disable_channel((scid(*id), Direction::Backward));
                }
            }
            let layers = [&layer];
            let one = RouteRequest {
                first_hops: &first_hops,
                layers: &layers,
                ..request.clone()
            };
            let Ok(plan) = router.plan(graph, &one, 1) else {
                continue;
            };
            // Only where there is no choice left is the answer the path itself.
            if plan.parts[0].hops.len() == chosen.count_ones() as usize + 1 {
                let total = plan.cost.total().to_msat();
                best = Some(best.map_or(total, |best| best.min(total)));
            }
        }
    }
    best
}

#[test]
fn what_is_preferred_may_not_fit_where_what_is_dearer_does() {
    // Between 3 and the payee (4): the likely channel forwards no less than 1,200, the other one as little as 845.
    // Farther up no more than 1,100 can be carried.
    let wide = |min| Terms {
        min,
        max: 1_000_000,
        ..plain(0, 1_000, 10)
    };
    let narrow = Terms {
        max: 1_100,
        ..plain(0, 1_000, 10)
    };
    let link = |scid, ends, terms| Link {
        scid,
        ends,
        terms: [terms, terms],
    };
    let links = [
        link(34, [3, 4], wide(1_200)),
        link(35, [3, 4], wide(845)),
        link(23, [2, 3], narrow),
    ];
    let graph = graph(&links);
    let first_hops = [first_hop(12, 2, 10_000_000)];
    let request = request(&first_hops, 4, 675);
    let mut router = Router::new();
    // Nearly all of the second channel is known to be on the other side.
    router.liquidity_mut().observe(
        (scid(35), Direction::Forward),
        Msat::new(capacity(&links[1])),
        Msat::new(900),
        Observation::Refused,
        NOW,
    );
    let plan = router.plan(&graph, &request, 1).unwrap();
    let hops: Vec<_> = plan.parts[0]
        .hops
        .iter()
        .map(|hop| hop.short_channel_id)
        .collect();
    assert_eq!(hops, [12, 23, 35].map(scid));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]
    #[test]
    fn every_plan_is_valid(
        links in network(),
        payee in 2..8u8,
        amount in 1..9_000u64,
        max_fee in prop_oneof![Just(Msat::MAX_MONEY), (0..400u64).prop_map(Msat::new)],
        max_total_cltv in prop_oneof![Just(2016u32), 18..160u32],
        max_hops in prop_oneof![Just(20u8), 1..6u8],
        spendable in proptest::collection::vec((2..8u8, 1..6_000u64, 1..1_500u64), 1..4),
        learned in learned(),
        max_parts in 1..20u16,
    ) {
        let graph = graph(&links);
        let first_hops = first_hops(&spendable);
        let request = RouteRequest {
            max_fee,
            max_total_cltv,
            max_hops,
            ..request(&first_hops, payee, amount)
        };
        let mut router = router_with(&links, &learned);
        let plan = router.plan(&graph, &request, max_parts);
        if let Ok(plan) = &plan {
            check_plan(&links, &request, plan, usize::from(max_parts));
        }
        // A single path that is there is never missed, and a plan never costs more.
        let one = router.find_route(&graph, &request);
        if one.is_ok() {
            let plan = plan.as_ref().unwrap();
            let one = router.plan(&graph, &request, 1).unwrap();
            prop_assert!(plan.cost.total() <= one.cost.total());
        }
        prop_assert_eq!(&router.plan(&graph, &request, max_parts), &plan);
        let mut fresh = Router::with_liquidity(router.liquidity().clone());
        prop_assert_eq!(&fresh.plan(&graph, &request, max_parts), &plan);
    }
}

/// A small network, payee and amount, our channels and what was learned.
type Case = (Vec<Link>, u8, u64, Vec<(u8, u64, u64)>, Learned);

fn small_case() -> impl Strategy<Value = Case> {
    (
        network().prop_map(|links| links.into_iter().take(7).collect()),
        2..8u8,
        1..2_000u64,
        proptest::collection::vec((2..8u8, 1..6_000u64, 1..500u64), 1..3),
        learned(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_single_path_is_found_where_there_is_one(
        (links, payee, amount, spendable, learned) in small_case()
    ) {
        let graph = graph(&links);
        let first_hops = first_hops(&spendable);
        let request = request(&first_hops, payee, amount);
        let mut router = router_with(&links, &learned);
        let best = cheapest_alone(&links, &graph, &mut router, &request);
        let found = router.plan(&graph, &request, 1).ok();
        prop_assert_eq!(found.is_some(), best.is_some());
    }
}

/// Exact but for what a smaller amount farther up may save. Of amounts as small as these, fees and limits are a
/// great part: a cheaper way can need so much more that a channel farther up is much less likely to carry it.
#[test]
fn single_paths_are_the_best_by_cost_and_risk() {
    let mut runner = TestRunner::deterministic();
    let (mut paths, mut dearer) = (0, 0);
    for _ in 0..3_000 {
        let (links, payee, amount, spendable, learned) =
            small_case().new_tree(&mut runner).unwrap().current();
        let graph = graph(&links);
        let first_hops = first_hops(&spendable);
        let request = request(&first_hops, payee, amount);
        let mut router = router_with(&links, &learned);
        let Some(best) = cheapest_alone(&links, &graph, &mut router, &request) else {
            continue;
        };
        let plan = router.plan(&graph, &request, 1).unwrap();
        let found = plan.cost.total().to_msat();
        assert!(found >= best);
        paths += 1;
        dearer += u32::from(found > best + best / 50 + 2);
    }
    assert!(paths > 500, "only {paths} of the payments can be made");
    assert!(
        dearer * 500 <= paths,
        "{dearer} of {paths} paths are not the best"
    );
}
