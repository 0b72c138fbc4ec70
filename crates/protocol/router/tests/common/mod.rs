//! Small networks and a validator that walks routes as their nodes would.
#![allow(dead_code, clippy::unwrap_used)]

use bitcoin::{Amount, constants::ChainHash};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewChannel, Policy};
use fulmen_router::{FirstHop, Route, RouteRequest};
use fulmen_types::{CltvExpiryDelta, Features, Msat, NodeId, ShortChannelId};
use proptest::prelude::*;

pub(crate) fn node(n: u8) -> NodeId {
    NodeId::new([n; 33])
}

pub(crate) fn scid(n: u64) -> ShortChannelId {
    ShortChannelId::from_u64(n)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) base: u32,
    pub(crate) ppm: u32,
    pub(crate) cltv: u16,
    pub(crate) min: u64,
    pub(crate) max: u64,
    pub(crate) disabled: bool,
}

/// A channel of the model: ends, and the terms of each end.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) scid: u64,
    pub(crate) ends: [u8; 2],
    pub(crate) terms: [Terms; 2],
}

pub(crate) fn build(links: &[Link]) -> NetworkGraph {
    build_with(links, |_| 1_000_000_000_000)
}

/// With a capacity of each channel in msat.
pub(crate) fn build_with(links: &[Link], capacity: impl Fn(&Link) -> u64) -> NetworkGraph {
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    for link in links {
        writer
            .add_channel(&NewChannel {
                short_channel_id: scid(link.scid),
                node_1: node(link.ends[0]),
                node_2: node(link.ends[1]),
                capacity: Some(Amount::from_sat(capacity(link).div_ceil(1_000))),
                features: Features::empty(),
            })
            .unwrap();
        for (bit, terms) in (0u8..).zip(&link.terms) {
            writer
                .update_policy(
                    scid(link.scid),
                    Direction::from_channel_flags(bit),
                    Policy {
                        htlc_minimum: Msat::new(terms.min),
                        htlc_maximum: Msat::new(terms.max),
                        timestamp: 1,
                        fee_base_msat: terms.base,
                        fee_proportional_millionths: terms.ppm,
                        cltv_expiry_delta: CltvExpiryDelta::new(terms.cltv),
                        disabled: terms.disabled,
                    },
                )
                .unwrap();
        }
    }
    (*writer.snapshot()).clone()
}

pub(crate) fn plain(base: u32, ppm: u32, cltv: u16) -> Terms {
    Terms {
        base,
        ppm,
        cltv,
        min: 1,
        max: 1_000_000_000,
        disabled: false,
    }
}

pub(crate) fn first_hop(n: u64, peer: u8, spendable: u64) -> FirstHop {
    FirstHop {
        short_channel_id: scid(n),
        peer: node(peer),
        spendable: Msat::new(spendable),
        htlc_minimum: Msat::new(1),
    }
}

pub(crate) fn terms() -> impl Strategy<Value = Terms> {
    (
        0..50u32,
        0..30_000u32,
        0..60u16,
        0..1500u64,
        500..4000u64,
        any::<u8>(),
    )
        .prop_map(|(base, ppm, cltv, min, max, disabled)| Terms {
            base,
            ppm,
            cltv,
            min,
            max,
            disabled: disabled < 20,
        })
}

pub(crate) fn network() -> impl Strategy<Value = Vec<Link>> {
    proptest::collection::vec((2..8u8, 2..8u8, terms(), terms()), 1..14).prop_map(|links| {
        links
            .into_iter()
            .enumerate()
            .filter(|(_, (a, b, ..))| a != b)
            .map(|(i, (a, b, x, y))| Link {
                scid: i as u64 + 1,
                ends: [a.min(b), a.max(b)],
                terms: [x, y],
            })
            .collect()
    })
}

/// Walks a route forward as its nodes would and says what is wrong with it.
pub(crate) fn check(links: &[Link], request: &RouteRequest<'_>, route: &Route) {
    let first = route.hops[0];
    let channel = request
        .first_hops
        .iter()
        .find(|h| h.short_channel_id == first.short_channel_id)
        .unwrap();
    assert_eq!(channel.peer, first.node_id);
    assert!(first.amount <= channel.spendable && first.amount >= channel.htlc_minimum);
    for pair in route.hops.windows(2) {
        let [incoming, outgoing] = [pair[0], pair[1]];
        let link = links
            .iter()
            .find(|l| scid(l.scid) == outgoing.short_channel_id)
            .unwrap();
        let from = link
            .ends
            .iter()
            .position(|n| node(*n) == incoming.node_id)
            .unwrap();
        assert_eq!(node(link.ends[1 - from]), outgoing.node_id);
        let terms = link.terms[from];
        let amount = outgoing.amount.to_msat();
        assert!(!terms.disabled && amount >= terms.min && amount <= terms.max);
        let fee = u64::from(terms.base) + amount * u64::from(terms.ppm) / 1_000_000;
        assert!(incoming.amount.to_msat() >= amount + fee);
        assert!(incoming.cltv_from_tip >= outgoing.cltv_from_tip + u32::from(terms.cltv));
    }
    let last = route.hops.last().unwrap();
    assert_eq!(last.node_id, request.payee);
    assert!(last.amount >= request.amount);
    assert!(last.amount.to_msat() <= 2 * request.amount.to_msat());
    assert!(last.cltv_from_tip >= request.min_final_cltv_expiry_delta);
    assert_eq!(first.amount, route.total());
    assert!(route.fee <= request.max_fee);
    assert!(first.cltv_from_tip <= request.max_total_cltv);
    assert!(route.hops.len() <= usize::from(request.max_hops));
}
