//! The main path, without IO: open, pay, forward, restart, close.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use common::World;
use fulmen_node::{ChannelState, CloseMode, Command, Event, PeerAddress, Reply};
use fulmen_types::{ChannelType, Msat, record::Space};

fn open_ready(world: &mut World, from: usize, to: usize, channel_type: Option<ChannelType>) {
    world.open_as(from, to, channel_type);
    for index in [from, to] {
        let ready = world.nodes[index]
            .events
            .iter()
            .any(|e| matches!(e, Event::ChannelReady { .. }));
        assert!(ready, "{:?}", world.nodes[index].events);
    }
}

fn succeeded(world: &World, index: usize) -> usize {
    let events = &world.nodes[index].events;
    events
        .iter()
        .filter(|e| matches!(e, Event::PaymentSucceeded { .. }))
        .count()
}

/// Who accepted a channel does not know where its peer listens. What its user says is kept.
#[test]
fn the_address_that_a_user_gives_of_a_channel_s_peer_survives_a_restart() {
    let mut world = World::new(2);
    open_ready(&mut world, 0, 1, None);
    world.disconnect(0, 1);
    world.run();
    let address = PeerAddress("192.0.2.7:9735".into());
    let command = Command::Connect {
        peer: world.id(0),
        address: address.clone(),
    };
    world.start(1, command);
    world.run();
    assert_eq!(world.nodes[1].records(), world.nodes[1].node.records());
    world.crash(1);
    let known = &world.nodes[1].node.peers_info()[0].addresses;
    assert_eq!(*known, [address]);
}

#[test]
fn open_pay_both_ways_restart_and_close() {
    for channel_type in [None, Some(ChannelType::static_remote_key())] {
        let mut world = World::new(2);
        open_ready(&mut world, 0, 1, channel_type);
        world.pay(0, 1, 10_000);
        world.pay(1, 0, 20_000);
        assert_eq!((succeeded(&world, 0), succeeded(&world, 1)), (1, 1));
        world.restart(0);
        world.restart(1);
        world.pay(0, 1, 30_000);
        assert_eq!(succeeded(&world, 0), 2);
        let info = world.nodes[0].node.channels_info();
        assert_eq!(info[0].balances.0, Msat::from_sat(680_000));
        assert_eq!(world.archived(0, Space::PaymentArchive), 2);
        assert_eq!(world.archived(0, Space::PaymentByTime), 2);
        assert_eq!(world.archived(0, Space::InvoiceByTime), 1);
        assert_eq!(world.archived(0, Space::Payment), 0);

        let mode = CloseMode::Cooperative {
            script_pubkey: None,
            feerate: None,
        };
        assert_eq!(world.close(1, 0, mode), Ok(Reply::Done));
        world.mine(1);
        for node in &world.nodes {
            let info = node.node.channels_info();
            assert!(
                matches!(info[0].state, ChannelState::OnChain(_)),
                "{:?}",
                info[0].state
            );
        }
        world.mine(100);
        for node in &world.nodes {
            assert!(node.node.channels_info().is_empty());
            let left: Vec<_> = node
                .disk
                .keys()
                .filter(|key| {
                    matches!(
                        key.space,
                        Space::Channel | Space::Htlc | Space::Resolution | Space::RemoteCommitment
                    )
                })
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn three_hops_by_gossip_alone() {
    let mut world = World::new(4);
    for hop in 0..3 {
        open_ready(&mut world, hop, hop + 1, None);
    }
    world.mine(6);
    world.wait(20);
    let info = world.nodes[0].node.info();
    assert_eq!(info.graph, (4, 3), "the graph has reached the other end");
    world.pay(0, 3, 10_000);
    assert_eq!(succeeded(&world, 0), 1, "{:?}", world.nodes[0].events);
    world.pay(3, 0, 5_000);
    assert_eq!(succeeded(&world, 3), 1, "{:?}", world.nodes[3].events);
    // Each payer's router hears that all three hops have carried it; forwarders' routers hear nothing.
    let learned = world.nodes.iter().map(|node| {
        let hops = node.learned.iter().map(|report| report.hops.len());
        hops.collect::<Vec<_>>()
    });
    assert_eq!(
        learned.collect::<Vec<_>>(),
        [vec![3], vec![], vec![], vec![3]]
    );
    let forwarded = |i: usize| {
        world.nodes[i]
            .events
            .iter()
            .filter(|e| matches!(e, Event::PaymentForwarded { .. }))
            .count()
    };
    assert_eq!((forwarded(1), forwarded(2)), (2, 2));
}

#[test]
fn a_forward_survives_a_disconnect_after_every_message() {
    for cut in 0..60 {
        let mut world = World::new(3);
        open_ready(&mut world, 0, 1, None);
        open_ready(&mut world, 1, 2, None);
        world.mine(6);
        world.wait(10);
        world.deliver = Some(cut);
        world.pay(0, 2, 10_000);
        world.deliver = None;
        let pairs = [(0, 1), (1, 2)];
        for (a, b) in pairs {
            if !world.nodes[a].connections.contains_key(&b) {
                world.connect(a, b);
            }
        }
        world.wait(10);
        assert_eq!(
            succeeded(&world, 0),
            1,
            "cut after {cut}: {:?}",
            world.nodes[0].events
        );
        let info = world.nodes[1].node.channels_info();
        assert!(
            info.iter().all(|c| c.htlcs == (0, 0)),
            "cut after {cut}: {info:?}"
        );
    }
}

#[test]
fn a_forwarder_restarts_after_every_message() {
    for cut in 0..60 {
        let mut world = World::new(3);
        open_ready(&mut world, 0, 1, None);
        open_ready(&mut world, 1, 2, None);
        world.mine(6);
        world.wait(10);
        world.deliver = Some(cut);
        world.pay(0, 2, 10_000);
        world.deliver = None;
        world.restart(1);
        for (a, b) in [(0, 1), (1, 2)] {
            if !world.nodes[a].connections.contains_key(&b) {
                world.connect(a, b);
            }
        }
        world.wait(10);
        assert_eq!(
            succeeded(&world, 0),
            1,
            "cut after {cut}: {:?}",
            world.nodes[0].events
        );
        let info = world.nodes[1].node.channels_info();
        assert!(
            info.iter().all(|c| c.htlcs == (0, 0)),
            "cut after {cut}: {info:?}"
        );
    }
}

#[test]
fn the_coins_of_a_funding_stay_leased_until_it_is_deep() {
    let mut world = World::new(2);
    open_ready(&mut world, 0, 1, None);
    let leases = |world: &World| world.nodes[0].node.coin_leases().len();
    world.mine(93);
    world.restart(0);
    assert_eq!(leases(&world), 1);
    world.mine(1);
    world.restart(0);
    assert_eq!(leases(&world), 0);
}
