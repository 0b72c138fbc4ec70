//! Whatever happens, in whatever order.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::net::{IpAddr, Ipv4Addr};

use common::{World, key};
use fulmen_connect::{
    ConnectConfig, ConnectionPolicy, Direction, Input, NodeAddresses, Offence, PeerState, Refusal,
    Source,
};
use proptest::prelude::*;

const MINUTE: u64 = 60_000;

/// Something that happens, by numbers that choose among what is there.
#[derive(Clone, Debug)]
enum Step {
    Knock(u8),
    Shake(u8, u8),
    Come(u8, u8),
    End(u8, Option<u8>),
    Fail(u8),
    Reach(u8),
    Misbehave(u8, u8),
    Channel(u8),
    NoChannel(u8),
    Connect(u8),
    Rest(u8),
    Ban(u8, u16),
    Unban(u8),
    Heard(bool, Vec<(u8, u8)>),
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<u8>().prop_map(Step::Knock),
        any::<(u8, u8)>().prop_map(|(a, b)| Step::Shake(a, b)),
        any::<(u8, u8)>().prop_map(|(a, b)| Step::Come(a, b)),
        any::<(u8, Option<u8>)>().prop_map(|(a, b)| Step::End(a, b)),
        any::<u8>().prop_map(Step::Fail),
        any::<u8>().prop_map(Step::Reach),
        any::<(u8, u8)>().prop_map(|(a, b)| Step::Misbehave(a, b)),
        any::<u8>().prop_map(Step::Channel),
        any::<u8>().prop_map(Step::NoChannel),
        any::<u8>().prop_map(Step::Connect),
        any::<u8>().prop_map(Step::Rest),
        any::<(u8, u16)>().prop_map(|(a, b)| Step::Ban(a, b)),
        any::<u8>().prop_map(Step::Unban),
        (
            any::<bool>(),
            prop::collection::vec(any::<(u8, u8)>(), 0..20)
        )
            .prop_map(|(a, b)| Step::Heard(a, b)),
        (0u32..200_000).prop_map(Step::Pass),
        (0u32..500).prop_map(Step::Pass),
    ]
}

fn small() -> ConnectConfig {
    ConnectConfig {
        max_inbound: 5,
        max_per_host: 2,
        max_per_group: 4,
        max_handshakes: 6,
        max_handshakes_per_host: 3,
        min_peers: 4,
        max_outbound: 3,
        max_dials: 4,
        dials_per_minute: 30,
        dial_burst: 8,
        max_known: 10,
        ..ConnectConfig::default()
    }
}

const OFFENCES: [Offence; 7] = [
    Offence::Violation,
    Offence::BadBytes,
    Offence::Gossip,
    Offence::DoesNotRead,
    Offence::Silent,
    Offence::BadHandshake,
    Offence::Incompatible,
];

fn offence(number: u8) -> Offence {
    OFFENCES[usize::from(number) % OFFENCES.len()]
}

fn host(number: u8) -> IpAddr {
    match number % 16 {
        0 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        n => IpAddr::V4(Ipv4Addr::new(50, n % 3, 0, n)),
    }
}

fn nth<K: Copy>(mut all: impl ExactSizeIterator<Item = K>, number: u8) -> Option<K> {
    let count = all.len();
    (count > 0)
        .then(|| all.nth(usize::from(number) % count))
        .flatten()
}

/// Keys with a channel, for the invariants.
type Friends = std::collections::BTreeSet<fulmen_types::NodeId>;

fn peer(number: u8) -> fulmen_types::NodeId {
    key(u16::from(number % 24))
}

fn take(world: &mut World, friends: &mut Friends, step: &Step) {
    match step {
        Step::Knock(from) => {
            let _ = world.knock(host(*from));
        }
        Step::Shake(which, who) => {
            if let Some(id) = nth(world.handshakes.keys().copied(), *which) {
                let refused = world.shake(id, peer(*who)).err();
                check_refusal(friends, peer(*who), refused);
            }
        }
        Step::Come(who, from) => {
            // Before the handshake nobody knows who it is.
            if let Ok(id) = world.knock(host(*from)) {
                let refused = world.shake(id, peer(*who)).err();
                check_refusal(friends, peer(*who), refused);
            }
        }
        Step::End(which, how) => {
            if let Some(id) = nth(world.live.keys().copied(), *which) {
                world.end(id, how.map(offence));
            }
        }
        Step::Fail(which) => {
            if let Some(id) = nth(world.dialling.keys().copied(), *which) {
                world.fail(id);
            }
        }
        Step::Reach(which) => {
            if let Some(id) = nth(world.dialling.keys().copied(), *which) {
                let peer = world.dialling[&id];
                let _ = world.shake(id, peer);
            }
        }
        Step::Misbehave(who, how) => {
            let (peer, offence) = (peer(*who), offence(*how));
            world.give(Input::Misbehaved { peer, offence });
        }
        Step::Channel(who) => {
            friends.insert(peer(*who));
            world.channel(peer(*who), "1.2.3.4:9735");
        }
        Step::NoChannel(who) => {
            friends.remove(&peer(*who));
            world.give(Input::NoChannel { peer: peer(*who) });
        }
        Step::Connect(who) => {
            let (peer, addresses) = (peer(*who), vec!["1.2.3.4:1".to_owned()]);
            world.give(Input::Connect { peer, addresses });
        }
        Step::Rest(who) => {
            world.give(Input::Rest { peer: peer(*who) });
        }
        Step::Ban(who, secs) => {
            let until = world.now.plus_millis(u64::from(*secs) * 1_000);
            world.give(Input::Ban {
                peer: peer(*who),
                until,
            });
        }
        Step::Unban(who) => {
            world.give(Input::Unban { peer: peer(*who) });
        }
        Step::Heard(of_graph, nodes) => {
            let source = if *of_graph {
                Source::Graph
            } else {
                Source::Seeds
            };
            let nodes = nodes
                .iter()
                .map(|(who, port)| NodeAddresses {
                    node: peer(*who),
                    addresses: vec![format!("8.8.8.8:{port}")],
                })
                .collect();
            world.give(Input::Heard { source, nodes });
        }
        Step::Pass(millis) => world.pass(u64::from(*millis)),
    }
}

fn check_refusal(friends: &Friends, peer: fulmen_types::NodeId, refused: Option<Refusal>) {
    if let Some(why) = refused {
        let fits = !friends.contains(&peer) || why == Refusal::Throttled;
        assert!(fits, "a friend was refused: {why}");
    }
}

fn check(world: &World, friends: &Friends, config: &ConnectConfig) {
    let strangers = world
        .live
        .iter()
        .filter(|(id, peer)| id.direction() == Direction::Inbound && !friends.contains(*peer));
    // Two connections of one peer are one: the network keeps the newer.
    let mut strangers: Vec<_> = strangers.map(|(_, peer)| peer).collect();
    strangers.sort_unstable();
    strangers.dedup();
    assert!(
        strangers.len() <= config.max_inbound,
        "slots: {}",
        strangers.len()
    );
    assert!(
        world.handshakes.len() <= config.max_handshakes,
        "handshakes"
    );
    assert!(world.dialling.len() <= config.max_dials, "dials under way");
    // No dial storm: the bucket, whichever minute one looks at.
    let most = usize::try_from(config.dial_burst + config.dials_per_minute).unwrap();
    for (at, dial) in world.dials.iter().enumerate() {
        let in_minute = world.dials[at..]
            .iter()
            .take_while(|later| later.at.millis_since(dial.at) <= MINUTE);
        assert!(in_minute.count() <= most, "a storm of dials");
    }
    let known = world.policy.view(world.now).peers.len();
    let busy = friends.len() + world.live.len() + world.dialling.len() + 24;
    assert!(known <= config.max_known + busy, "memory: {known}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_and_friends_are_found_whatever_happens(
        steps in prop::collection::vec(step(), 1..250),
        seed: [u8; 32],
    ) {
        let config = small();
        let mut world = World::remembering(config.clone(), seed, &[]);
        let mut friends = Friends::new();
        for step in &steps {
            take(&mut world, &mut friends, step);
            check(&world, &friends, &config);
        }
        // Then it is quiet, and everybody can be reached: whoever is a friend and does not rest is
        // connected within the longest wait and the throttle.
        let start = world.now;
        while world.now < start.plus_millis(15 * MINUTE) {
            for (id, peer) in world.dialling.clone() {
                let _ = world.shake(id, peer);
            }
            world.pass(1_000);
        }
        check(&world, &friends, &config);
        for friend in &friends {
            let view = world.view_of(*friend);
            let fits = matches!(view.state, PeerState::Connected { .. } | PeerState::Resting);
            prop_assert!(fits, "{view:?}");
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(
        steps in prop::collection::vec(step(), 1..120),
        seed: [u8; 32],
    ) {
        let run = || {
            let mut world = World::remembering(small(), seed, &[]);
            for step in &steps {
                take(&mut world, &mut Friends::new(), step);
            }
            let dials: Vec<_> = world.dials.iter().map(|d| (d.id, d.peer, d.at)).collect();
            (dials, world.drops.clone(), world.policy.memory(world.now))
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn no_memory_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        for version in [None, Some(1)] {
            if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                *first = version;
            }
            let mut world = World::remembering(small(), [1; 32], &bytes);
            world.give(Input::Tick);
            world.pass(MINUTE);
        }
    }
}
