//! Machines that follow the rules: what one announces, all learn.
#![allow(clippy::unwrap_used)]

mod common;

use bitcoin::Amount;
use bitcoin::constants::ChainHash;
use common::*;
use fulmen_gossip::{Gossip, GossipConfig, GossipInput, NetworkGraph, OwnChannel, SignedMessages};
use fulmen_types::{BlockHeight, ShortChannelId};

/// A line 1-2-3-4 with a channel on each link.
fn line() -> Net {
    let mut net = Net::new(4);
    for n in 1..4 {
        net.connect(n, n + 1);
    }
    for (block, n) in (100..).zip(1..4) {
        net.channel(block, n, n + 1);
    }
    net.pass(10_000);
    net
}

#[test]
fn a_line_of_nodes_learns_of_all_channels_and_nodes() {
    let mut net = line();
    let first = net.graph(1);
    for n in 1..=4 {
        let graph = net.graph(n);
        assert_eq!(
            (graph.channel_count(), graph.node_count()),
            (3, 4),
            "node {n}"
        );
        for channel in graph.channels() {
            assert!(channel.policies.iter().all(Option::is_some));
            assert_eq!(channel.capacity, Some(Amount::from_sat(1_000_000)));
        }
        for id in graph.nodes() {
            assert_eq!(&graph.node_details(&id).unwrap().alias[..6], b"fulmen");
        }
        assert_eq!(graph.to_bytes(), first.to_bytes());
    }
    assert_eq!(net.misbehaved, []);
}

#[test]
fn nothing_is_said_twice_when_nothing_changes() {
    let mut net = line();
    net.log.clear();
    net.pass(1_800_000);
    // But for the question whether anything was missed.
    net.log
        .retain(|(_, _, message)| !message.name().ends_with("_channel_range"));
    assert_eq!(net.log, []);
}

#[test]
fn a_late_node_catches_up_by_queries_and_by_its_cache() {
    let mut net = line();
    let mut config = GossipConfig::new(ChainHash::REGTEST, net.id(5));
    config.flush_millis = 1_000;
    net.nodes.insert(5, Gossip::new(config.clone()));
    // Hours later: too late for the live filter.
    net.now += 3 * 3_600_000;
    net.connect(5, 4);
    net.pass(5_000);
    let graph = net.graph(5);
    assert_eq!(graph.to_bytes(), net.graph(1).to_bytes());
    assert!(net.nodes[&5].is_synced());

    // Again with files: nothing is asked for anew.
    let messages = SignedMessages::from_bytes(&net.nodes[&5].messages().to_bytes()).unwrap();
    assert_eq!(&messages, net.nodes[&5].messages());
    let cached = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
    net.nodes.insert(
        5,
        Gossip::with_cache(config.clone(), cached, messages.clone()),
    );
    let asked = net.sent(5, 4, "query_short_channel_ids");
    net.connect(5, 4);
    net.pass(5_000);
    assert_eq!(net.sent(5, 4, "query_short_channel_ids"), asked);
    assert_eq!(net.graph(5).to_bytes(), graph.to_bytes());

    // The outputs are watched again before the first block, and looked up again at leisure only.
    net.watched.clear();
    net.looked_up.clear();
    let messages = SignedMessages::from_bytes(&net.nodes[&5].messages().to_bytes()).unwrap();
    let cached = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
    net.nodes.insert(
        5,
        Gossip::with_cache(config.clone(), cached, messages.clone()),
    );
    net.input(5, GossipInput::Tip(BlockHeight::new(200)));
    let all: Vec<_> = (100..103).map(|block| (5, scid(block))).collect();
    assert_eq!(net.watched, all);
    assert_eq!(net.looked_up, []);
    net.pass(10_000);
    assert_eq!(net.looked_up, all);
    assert_eq!(net.watched, all);

    // What was spent while the node was off is noticed, and forgotten in time.
    net.outputs.remove(&scid(101));
    let cached = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
    net.nodes
        .insert(5, Gossip::with_cache(config, cached, messages));
    net.input(5, GossipInput::Tip(BlockHeight::new(300)));
    net.pass(3_000);
    let spent: Vec<_> = net.graph(5).channels().map(|c| c.spent_at).collect();
    assert_eq!(spent, [None, Some(300), None]);
}

#[test]
fn a_change_of_policy_spreads_and_an_absent_peer_disables() {
    let mut net = line();
    let channel = OwnChannel {
        id: scid(100),
        id_for_peer: scid(100),
        peer: net.id(2),
        capacity: Amount::from_sat(1_000_000),
        policy: policy(77),
    };
    net.now += 1_000;
    net.input(1, GossipInput::OwnChannel(channel));
    net.pass(6_000);
    let of = |net: &mut Net, n: u8| {
        let graph = net.graph(n);
        let from_1 = fulmen_gossip::Direction::between(&net.id(1), &net.id(2));
        *graph.channel(scid(100)).unwrap().policy(from_1).unwrap()
    };
    assert_eq!(of(&mut net, 4).fee_base_msat, 77);
    net.input(1, GossipInput::OwnChannelDown(scid(100)));
    net.pass(60_000);
    assert!(!of(&mut net, 4).disabled);
    net.pass(70_000);
    assert!(of(&mut net, 4).disabled);
    net.input(1, GossipInput::OwnChannelUp(scid(100)));
    net.pass(6_000);
    assert!(!of(&mut net, 4).disabled);
}

/// Found by the simulator: a channel that was announced while the signer was away had no terms ever after.
#[test]
fn a_signer_that_was_away_is_asked_again() {
    let mut net = Net::new(2);
    net.unsigning.insert(1);
    net.connect(1, 2);
    net.channel(100, 1, 2);
    net.pass(60_000);
    let us = net.id(1);
    let from_1 = fulmen_gossip::Direction::between(&us, &net.id(2));
    let terms = |net: &mut Net| {
        let graph = net.graph(2);
        let channel = graph.channel(scid(100)).unwrap();
        channel.policy(from_1).is_some() && graph.node_details(&us).is_some()
    };
    assert!(!terms(&mut net));
    net.unsigning.clear();
    net.pass(10_000);
    assert!(terms(&mut net));
}

#[test]
fn updates_are_made_anew_before_they_are_stale() {
    let mut net = line();
    for _ in 0..20 {
        net.now += 24 * 3_600_000;
        net.pass(10_000);
    }
    for n in 1..=4 {
        let graph = net.graph(n);
        assert_eq!(graph.channel_count(), 3, "node {n}");
    }
    // Silent ends are forgotten.
    let _ = net.nodes.remove(&4);
    for _ in 0..20 {
        net.now += 24 * 3_600_000;
        net.pass(10_000);
    }
    assert_eq!(net.graph(1).channel_count(), 2);
}

#[test]
fn a_private_channel_is_told_to_its_peer_alone() {
    let mut net = Net::new(3);
    net.connect(1, 2);
    net.connect(2, 3);
    let channel = OwnChannel {
        id: scid(150),
        id_for_peer: ShortChannelId::from_u64(42),
        peer: net.id(2),
        capacity: Amount::from_sat(1_000_000),
        policy: policy(5),
    };
    net.input(1, GossipInput::OwnChannel(channel.clone()));
    net.input(
        2,
        GossipInput::OwnChannel(OwnChannel {
            id: ShortChannelId::from_u64(42),
            id_for_peer: scid(150),
            peer: net.id(1),
            ..channel
        }),
    );
    net.input(1, GossipInput::OwnChannelUp(scid(150)));
    net.pass(5_000);
    assert_eq!(net.peer_policies.len(), 1);
    let (at, update) = &net.peer_policies[0];
    assert_eq!(
        (*at, update.short_channel_id.to_u64(), update.fee_base_msat),
        (2, 42, 5)
    );
    assert!(update.dont_forward());
    // By whatever alias the peer knows it; but only if the peer has signed it.
    let by_alias = self::update(&net.secp, ShortChannelId::from_u64(99), 1, 2, START);
    net.inject(1, 2, by_alias);
    assert_eq!(net.peer_policies.len(), 2);
    let forged = self::update(&net.secp, ShortChannelId::from_u64(42), 3, 2, START);
    net.inject(1, 2, forged);
    assert_eq!((net.peer_policies.len(), net.misbehaved.len()), (2, 1));
    assert_eq!(net.sent(2, 3, "channel_update"), 0);
    assert_eq!(net.graph(2).channel_count(), 0);
}

/// A node takes live gossip from some of its peers only, and what the last one says of its channel comes from no other.
#[test]
fn who_is_behind_a_peer_that_is_not_listened_to_is_heard_of_within_the_hour() {
    let mut net = Net::new(7);
    for n in 2..=6 {
        net.connect(1, n);
        net.channel(100 + u32::from(n), 1, n);
    }
    net.connect(6, 7);
    net.channel(150, 6, 7);
    net.pass(60_000);
    let terms = |net: &mut Net| {
        let graph = net.graph(1);
        let channel = graph.channel(scid(150)).unwrap();
        channel.policies.iter().filter(|p| p.is_some()).count()
    };
    assert_eq!(terms(&mut net), 1);
    net.pass(3_600_000);
    assert_eq!(terms(&mut net), 2);
}

/// A reorganisation takes an announced channel out of its place, and the next block puts it back there.
#[test]
fn a_channel_that_comes_back_to_its_place_is_enabled_again() {
    let mut net = line();
    let is_disabled = |net: &mut Net| {
        let info = net.graph(4);
        let policies = info.channel(scid(100)).unwrap().policies;
        policies.iter().any(|p| p.unwrap().disabled)
    };
    // A slow signer signs that it is disabled when it is back already.
    net.slow.insert(1);
    net.input(1, GossipInput::OwnChannelClosed(scid(100)));
    let channel = OwnChannel {
        id: scid(100),
        id_for_peer: scid(100),
        peer: net.id(2),
        capacity: Amount::from_sat(1_000_000),
        policy: policy(1_000),
    };
    net.input(1, GossipInput::OwnChannel(channel));
    net.sign_what_is_held();
    net.pass(100_000);
    assert!(is_disabled(&mut net));
    net.input(1, GossipInput::OwnChannelUp(scid(100)));
    net.pass(100_000);
    assert!(!is_disabled(&mut net));
}

#[test]
fn a_closed_channel_is_disabled_and_forgotten_after_72_blocks() {
    let mut net = line();
    for n in 1..=4 {
        if n <= 2 {
            net.input(n, GossipInput::OwnChannelClosed(scid(100)));
        }
        net.input(
            n,
            GossipInput::FundingSpent {
                short_channel_id: scid(100),
                height: BlockHeight::new(201),
            },
        );
    }
    net.pass(5_000);
    let info = net.graph(4).channel(scid(100)).unwrap();
    assert!(info.policies.iter().all(|p| p.unwrap().disabled));
    for (tip, left) in [(271, 3), (272, 2)] {
        for n in 1..=4 {
            net.input(n, GossipInput::Tip(BlockHeight::new(tip)));
        }
        net.pass(3_700_000);
        for n in 1..=4 {
            assert_eq!(net.graph(n).channel_count(), left, "node {n} at {tip}");
        }
    }
}
