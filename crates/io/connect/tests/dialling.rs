//! Whom the standard policy dials, and when.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{World, ip, key, quiet};
use fulmen_connect::{
    ConnectConfig, ConnectionPolicy, Input, NodeAddresses, Offence, PeerState, Question, Source,
};
use fulmen_types::Timestamp;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

fn node(number: u16, address: &str) -> NodeAddresses {
    NodeAddresses {
        node: key(number),
        addresses: vec![address.into()],
    }
}

fn heard(source: Source, nodes: Vec<NodeAddresses>) -> Input {
    Input::Heard { source, nodes }
}

#[test]
fn waits_double_with_jitter_up_to_the_longest_and_a_good_life_resets_them() {
    let mut world = World::new(quiet());
    world.channel(key(1), "1.2.3.4:9735");
    assert_eq!(world.dials.len(), 1, "dialled at once");
    let mut expected = SECOND;
    for _ in 0..14 {
        let failed_at = world.now;
        world.fail(world.last_dial().id);
        let dials = world.dials.len();
        while world.dials.len() == dials {
            world.pass(50);
        }
        let waited = world.last_dial().at.millis_since(failed_at);
        assert!(
            (expected / 2..=expected).contains(&waited),
            "{waited} of {expected}"
        );
        expected = (expected * 2).min(5 * MINUTE);
    }
    // Up, but not for long: that is a failure like the others.
    let id = world.last_dial().id;
    world.shake(id, key(1)).unwrap();
    world.pass(SECOND);
    world.end(id, None);
    world.pass(2 * MINUTE);
    assert!(world.dialling.is_empty());
    world.pass(3 * MINUTE);
    let id = world.last_dial().id;
    world.shake(id, key(1)).unwrap();
    world.pass(30 * SECOND);
    world.end(id, None);
    assert_eq!(world.view_of(key(1)).failures, 0);
    world.pass(SECOND);
    assert_eq!(world.dialling.len(), 1, "at once after a good life");
}

#[test]
fn a_peer_that_comes_by_itself_is_not_dialled() {
    let mut world = World::new(quiet());
    world.channel(key(1), "1.2.3.4:9735");
    world.fail(world.last_dial().id);
    world.come(key(1), ip("1.2.3.4")).unwrap();
    world.pass(60 * MINUTE);
    assert_eq!(world.dials.len(), 1);
}

#[test]
fn what_worked_last_is_dialled_first_and_what_is_announced_too() {
    let mut world = World::new(quiet());
    world.channel(key(1), "1.1.1.1:1");
    let id = world.last_dial().id;
    world.shake(id, key(1)).unwrap();
    world.give(heard(Source::Graph, vec![node(1, "2.2.2.2:2")]));
    world.pass(MINUTE);
    world.end(id, None);
    world.pass(SECOND);
    assert_eq!(world.last_dial().addresses, ["1.1.1.1:1", "2.2.2.2:2"]);
    // What a user says goes before all.
    let addresses = vec!["3.3.3.3:3".to_owned()];
    world.give(Input::Connect {
        peer: key(1),
        addresses,
    });
    assert_eq!(world.last_dial().addresses[0], "3.3.3.3:3");
    assert_eq!(world.dialling.len(), 1, "the old dial was given up for it");
}

#[test]
fn the_network_is_asked_where_a_lost_peer_is_and_a_new_address_is_dialled_soon() {
    let mut world = World::new(quiet());
    world.channel(key(1), "1.1.1.1:1");
    assert!(world.questions.is_empty());
    for _ in 0..8 {
        world.fail_all();
        world.pass(MINUTE);
    }
    world.fail_all();
    let asked = world.questions.iter().filter(|question| {
        matches!(question, Question::Graph { nodes, others: 0, .. } if *nodes == [key(1)])
    });
    assert!((2..=32).contains(&asked.count()), "{:?}", world.questions);
    let dials = world.dials.len();
    // What is known already changes nothing.
    world.give(heard(Source::Graph, vec![node(1, "1.1.1.1:1")]));
    assert_eq!(world.dials.len(), dials);
    world.pass(20 * SECOND);
    world.give(heard(Source::Graph, vec![node(1, "2.2.2.2:2")]));
    assert!(
        world
            .last_dial()
            .addresses
            .contains(&"2.2.2.2:2".to_owned())
    );
    // However often the address changes, it is no hammer on the peer.
    let dials = world.dials.len();
    for port in 1..=600 {
        world.fail_all();
        world.give(heard(
            Source::Graph,
            vec![node(1, &format!("2.2.2.2:{port}"))],
        ));
        world.pass(100);
    }
    assert!(
        world.dials.len() - dials <= 16,
        "{}",
        world.dials.len() - dials
    );
}

#[test]
fn a_peer_without_an_address_waits_for_one() {
    let mut world = World::new(quiet());
    world.give(Input::Channel {
        peer: key(1),
        addresses: vec![],
    });
    assert!(world.dials.is_empty());
    assert_eq!(world.questions.len(), 1);
    // Seeds are nobody's word about a friend.
    world.give(heard(Source::Seeds, vec![node(1, "6.6.6.6:6")]));
    assert!(world.dials.is_empty());
    world.give(heard(Source::Graph, vec![node(1, "host.example:9735")]));
    assert_eq!(world.last_dial().addresses, ["host.example:9735"]);
}

#[test]
fn a_peer_that_a_user_disconnects_rests_until_asked_for_over_restarts_too() {
    let mut world = World::new(quiet());
    world.channel(key(1), "1.1.1.1:1");
    let id = world.last_dial().id;
    world.shake(id, key(1)).unwrap();
    world.give(Input::Rest { peer: key(1) });
    world.end(id, None);
    world.pass(24 * 60 * MINUTE);
    assert_eq!(world.dials.len(), 1);
    assert_eq!(world.view_of(key(1)).state, PeerState::Resting);

    let memory = world.policy.memory(world.now);
    let mut world = World::remembering(quiet(), [8; 32], &memory);
    world.channel(key(1), "1.1.1.1:1");
    world.pass(60 * MINUTE);
    assert!(world.dials.is_empty());
    // The peer itself may come: money may hang on it.
    let id = world.come(key(1), ip("9.9.9.9")).unwrap();
    world.end(id, None);
    world.pass(60 * MINUTE);
    assert!(world.dials.is_empty());
    world.give(Input::Connect {
        peer: key(1),
        addresses: vec![],
    });
    assert_eq!(world.last_dial().addresses, ["1.1.1.1:1"]);
    world.fail_all();
    world.pass(MINUTE);
    assert_eq!(world.dials.len(), 2, "from now on it is kept again");
}

#[test]
fn a_users_wish_is_tried_once_and_at_once() {
    let mut world = World::new(quiet());
    let addresses = vec!["1.1.1.1:1".to_owned()];
    world.give(Input::Connect {
        peer: key(1),
        addresses: addresses.clone(),
    });
    assert_eq!(world.dials.len(), 1);
    world.fail_all();
    world.pass(60 * MINUTE);
    assert_eq!(world.dials.len(), 1);
    // Again, though the last attempt has just failed.
    world.give(Input::Connect {
        peer: key(1),
        addresses: addresses.clone(),
    });
    let id = world.last_dial().id;
    world.shake(id, key(1)).unwrap();
    // Asked for while the connection is about to end: it is made anew.
    world.give(Input::Connect {
        peer: key(1),
        addresses,
    });
    world.end(id, None);
    assert_eq!(world.dials.len(), 3);
    // Without any address it fails at once, instead of never.
    world.give(Input::Connect {
        peer: key(2),
        addresses: vec![],
    });
    assert!(world.last_dial().addresses.is_empty());
}

#[test]
fn strangers_are_dialled_while_there_are_few_peers() {
    let config = ConnectConfig {
        min_peers: 3,
        bootstrap: true,
        ..ConnectConfig::default()
    };
    let mut world = World::new(config);
    world.give(Input::Tick);
    assert!(matches!(
        world.questions[..],
        [Question::Graph { others: 64, .. }]
    ));
    let nodes = (1..=40)
        .map(|n| node(n, &format!("5.6.7.{n}:9735")))
        .collect();
    world.give(heard(Source::Graph, nodes));
    assert_eq!(world.dials.len(), 3);
    // One fails: another takes its place at once, and it is left alone for a while.
    let failed = world.dials[0].peer;
    world.fail(world.dials[0].id);
    assert_eq!(world.dials.len(), 4);
    for (id, peer) in world.dialling.clone() {
        world.shake(id, peer).unwrap();
    }
    world.pass(60 * MINUTE);
    assert_eq!(world.dials.len(), 4, "three are enough");
    assert!(world.dials[1..].iter().all(|dial| dial.peer != failed));
    // Seeds were never asked.
    assert!(
        world
            .questions
            .iter()
            .all(|q| matches!(q, Question::Graph { .. }))
    );
    // A peer with a channel counts as well.
    world.end(*world.live.keys().next().unwrap(), None);
    world.come(key(99), ip("8.8.8.8")).unwrap();
    let before = world.live.len() + world.dialling.len();
    assert!(before <= 4);
}

#[test]
fn seeds_are_asked_only_when_nobody_else_is_known_and_not_often() {
    let config = ConnectConfig {
        min_peers: 3,
        ..ConnectConfig::default()
    };
    let seeds = |world: &World| {
        let asked = world
            .questions
            .iter()
            .filter(|q| matches!(q, Question::Seeds { .. }));
        asked.count()
    };
    let mut world = World::new(config.clone());
    world.give(Input::Tick);
    assert_eq!(seeds(&world), 0, "the network first");
    world.give(heard(Source::Graph, vec![]));
    assert_eq!(seeds(&world), 1);
    world.pass(24 * 60 * MINUTE);
    assert!((5..=40).contains(&seeds(&world)), "{}", seeds(&world));
    // An answer into our own network is no address; with another one it goes on.
    let private = [
        "127.0.0.1:9735",
        "10.0.0.7:9735",
        "192.168.1.1:80",
        "[fd00::1]:9735",
        "[::1]:1",
        "169.254.1.1:9735",
        "100.64.0.1:9735",
        "0.0.0.0:9735",
        "[::ffff:10.0.0.1]:9735",
        "8.8.8.8:0",
        "router.local:80",
        "nonsense",
    ];
    let nodes = private
        .iter()
        .zip(1..)
        .map(|(address, n)| node(n, address))
        .collect();
    world.give(heard(Source::Seeds, nodes));
    assert!(world.dials.is_empty());
    world.give(heard(
        Source::Seeds,
        vec![node(50, "8.8.8.8:9735"), node(51, "[2600::1]:9735")],
    ));
    assert_eq!(world.dials.len(), 2);

    // With a channel, or an old acquaintance, they are not asked at all.
    let mut world = World::new(config.clone());
    world.channel(key(1), "1.1.1.1:1");
    let memory = {
        let id = world.last_dial().id;
        world.shake(id, key(1)).unwrap();
        world.end(id, None);
        world.give(heard(Source::Graph, vec![]));
        world.fail_all();
        world.pass(60 * MINUTE);
        assert_eq!(seeds(&world), 0);
        world.policy.memory(world.now)
    };
    let mut world = World::remembering(config.clone(), [1; 32], &memory);
    world.give(Input::Tick);
    assert_eq!(
        world.last_dial().addresses,
        ["1.1.1.1:1"],
        "who was there once may be there again"
    );
    // And not when they are switched off.
    let mut world = World::new(ConnectConfig {
        bootstrap: false,
        ..config
    });
    world.give(heard(Source::Graph, vec![]));
    world.pass(60 * MINUTE);
    assert_eq!(seeds(&world), 0);
}

#[test]
fn a_node_of_another_chain_is_left_alone() {
    let mut world = World::new(ConnectConfig {
        min_peers: 1,
        ..ConnectConfig::default()
    });
    world.give(heard(Source::Graph, vec![node(1, "1.1.1.1:1")]));
    let id = world.last_dial().id;
    world.shake(id, key(1)).unwrap();
    world.give(Input::Misbehaved {
        peer: key(1),
        offence: Offence::Incompatible,
    });
    world.end(id, None);
    world.pass(12 * 60 * MINUTE);
    assert_eq!(world.dials.len(), 1);
    assert!(
        world.policy.view(world.now).bans.is_empty(),
        "but it is no fault"
    );
}

#[test]
fn hundreds_of_lost_peers_are_all_dialled_but_not_at_once() {
    let mut world = World::new(quiet());
    for number in 0..500 {
        world.channel(key(number), "1.2.3.4:9735");
    }
    let start = world.now;
    assert!(world.dials.len() <= 32, "so many at once");
    while world.now < start.plus_millis(4 * MINUTE) {
        world.fail_all();
        world.pass(SECOND);
    }
    let mut dialled: Vec<_> = world.dials.iter().map(|dial| dial.peer).collect();
    dialled.sort_unstable();
    dialled.dedup();
    assert_eq!(dialled.len(), 500, "everybody had a turn");
    assert!(world.dials.len() <= 60 + 240 * 4, "{}", world.dials.len());
}

#[test]
fn a_memory_comes_back_and_nonsense_is_none() {
    let mut world = World::new(quiet());
    for number in 0..5 {
        world.give(Input::Connect {
            peer: key(number),
            addresses: vec![format!("1.1.1.{number}:1")],
        });
        let id = world.last_dial().id;
        world.shake(id, key(number)).unwrap();
    }
    world.give(Input::Ban {
        peer: key(9),
        until: Timestamp::from_secs(1_900_000_000),
    });
    for _ in 0..4 {
        world.give(Input::Misbehaved {
            peer: key(8),
            offence: Offence::Violation,
        });
    }
    let memory = world.policy.memory(world.now);
    let again = World::remembering(quiet(), [3; 32], &memory);
    assert_eq!(again.policy.memory(world.now), memory);
    assert_eq!(
        again.policy.view(world.now).bans,
        world.policy.view(world.now).bans
    );
    let empty = World::new(quiet()).policy.memory(world.now);
    for cut in 0..memory.len() {
        let cut = World::remembering(quiet(), [3; 32], &memory[..cut]);
        assert_eq!(cut.policy.memory(world.now), empty);
    }
}
