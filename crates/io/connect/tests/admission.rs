//! Who may come in, and who has to go.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{World, ip, key, quiet};
use fulmen_connect::{ConnectConfig, ConnectionPolicy, Host, Input, Offence, Refusal, is_public};
use fulmen_types::Timestamp;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

#[test]
fn slots_are_never_more_than_there_are_and_friends_need_none() {
    let mut world = World::new(ConnectConfig {
        max_inbound: 20,
        ..quiet()
    });
    world.give(Input::Channel {
        peer: key(1),
        addresses: vec![],
    });
    for number in 100..300u16 {
        let from = format!("50.{}.0.1", number - 100);
        let came = world.come(key(number), ip(&from));
        assert_eq!(came.is_ok(), number < 120, "{number}");
        assert!(world.live.len() <= 20);
    }
    assert_eq!(world.come(key(500), ip("60.0.0.1")), Err(Refusal::Full));
    world.come(key(1), ip("60.0.0.1")).unwrap();
    assert!(world.drops.is_empty(), "for a friend nobody has to go");
    // Who comes again takes its own place.
    world.come(key(100), ip("50.0.0.1")).unwrap();
}

#[test]
fn the_least_useful_stranger_gives_way() {
    let config = ConnectConfig {
        max_inbound: 6,
        max_per_group: 6,
        ..quiet()
    };
    let fill = || {
        let mut world = World::new(config.clone());
        for (number, from) in [
            "20.1.0.1", "20.2.0.1", "30.3.0.1", "30.3.0.2", "30.3.0.3", "20.4.0.1",
        ]
        .into_iter()
        .enumerate()
        {
            world.pass(1_000);
            world
                .come(key(u16::try_from(number).unwrap()), ip(from))
                .unwrap();
        }
        world
    };
    // From the most crowded network, and there the last.
    let mut world = fill();
    world.come(key(50), ip("40.0.0.1")).unwrap();
    assert_eq!(world.drops.len(), 1);
    assert!(!world.live.values().any(|peer| *peer == key(4)));
    // One more of the crowd is the least useful itself.
    let mut world = fill();
    assert_eq!(world.come(key(50), ip("30.3.0.9")), Err(Refusal::Full));
    assert!(world.drops.is_empty());
    // Who misbehaves goes before the crowd.
    let mut world = fill();
    world.give(Input::Misbehaved {
        peer: key(0),
        offence: Offence::Gossip,
    });
    world.come(key(50), ip("30.3.0.9")).unwrap();
    assert!(!world.live.values().any(|peer| *peer == key(0)));
    // But one with a channel stays, whatever it did and wherever it is.
    let mut world = fill();
    world.give(Input::Channel {
        peer: key(4),
        addresses: vec![],
    });
    world.give(Input::Misbehaved {
        peer: key(4),
        offence: Offence::Violation,
    });
    for number in 50..80 {
        let _ = world.come(key(number), ip(&format!("41.{number}.0.1")));
    }
    assert!(world.live.values().any(|peer| *peer == key(4)));
    // When its last channel ends, it is one too many.
    let strangers = world.live.len();
    world.give(Input::NoChannel { peer: key(4) });
    assert_eq!((strangers, world.live.len()), (7, 6));
}

#[test]
fn one_host_and_one_network_get_a_part_of_the_slots() {
    let config = ConnectConfig {
        max_per_host: 2,
        max_per_group: 5,
        ..quiet()
    };
    let cases: [(&str, [&str; 3], [&str; 2]); 2] = [
        (
            "IPv4",
            ["7.7.1.1", "7.7.1.1", "7.7.1.1"],
            ["7.7.2.", "7.8.0.1"],
        ),
        (
            "IPv6",
            ["2600:1:1:1::1", "2600:1:1:1::2", "2600:1:1:1:ffff::"],
            ["2600:1:2:", "2601::1"],
        ),
    ];
    for (family, from_host, [prefix, elsewhere]) in cases {
        let mut world = World::new(config.clone());
        assert!(world.come(key(1), ip(from_host[0])).is_ok());
        assert!(world.come(key(2), ip(from_host[1])).is_ok());
        assert_eq!(
            world.come(key(3), ip(from_host[2])),
            Err(Refusal::Crowded),
            "{family}"
        );
        let mut came = 0;
        for number in 10..20u16 {
            let from = if family == "IPv4" {
                format!("{prefix}{number}")
            } else {
                format!("{prefix}{number}::1")
            };
            came += usize::from(world.come(key(number), ip(&from)).is_ok());
        }
        assert_eq!(came, 3, "{family}: five of one network");
        assert!(world.come(key(30), ip(elsewhere)).is_ok());
        // A friend of the same house is none of them.
        world.give(Input::Channel {
            peer: key(40),
            addresses: vec![],
        });
        assert!(world.come(key(40), ip(from_host[0])).is_ok());
    }
    // Loopback is everybody behind a proxy.
    let mut world = World::new(config);
    for number in 0..50 {
        assert!(world.come(key(number), ip("127.0.0.1")).is_ok());
    }
    assert_eq!(Host::of(ip("::ffff:1.2.3.4")), Host::of(ip("1.2.3.4")));
    assert!(
        is_public(ip("8.8.8.8")) && is_public(ip("2600::1")) && !is_public(ip("::ffff:10.1.1.1"))
    );
}

#[test]
fn handshakes_are_bounded_and_a_crowd_hurts_itself() {
    let mut world = World::new(quiet());
    let honest = world.knock(ip("9.9.9.9")).unwrap();
    for number in 0..2_000u32 {
        let from = format!("66.{}.{}.{}", number % 3, number / 250, number % 250);
        world.knock(ip(&from)).unwrap();
        assert!(world.handshakes.len() <= 64);
    }
    assert!(
        world.handshakes.contains_key(&honest),
        "it is not of the crowd"
    );
    // One host has few of them.
    let mut world = World::new(quiet());
    for _ in 0..100 {
        world.knock(ip("66.6.6.6")).unwrap();
        assert!(world.handshakes.len() <= 8);
    }
    // Who comes through the same proxy as the crowd gets through by being quick.
    let mut world = World::new(quiet());
    world.give(Input::Channel {
        peer: key(1),
        addresses: vec![],
    });
    for _ in 0..1_000 {
        world.knock(ip("127.0.0.1")).unwrap();
    }
    assert_eq!(world.handshakes.len(), 64);
    let friend = world.knock(ip("127.0.0.1")).unwrap();
    for _ in 0..5 {
        world.knock(ip("127.0.0.1")).unwrap();
    }
    assert!(
        world.handshakes.contains_key(&friend),
        "five of 64, with this seed"
    );
    world.shake(friend, key(1)).unwrap();
}

#[test]
fn a_score_halves_and_a_ban_ends() {
    let mut world = World::new(quiet());
    let table = [
        (Offence::Violation, 35),
        (Offence::BadBytes, 70),
        (Offence::Gossip, 80),
        (Offence::Silent, 85),
        (Offence::DoesNotRead, 95),
        (Offence::Incompatible, 95),
    ];
    let id = world.come(key(1), ip("1.1.1.1")).unwrap();
    world.end(id, None);
    for (offence, total) in table {
        world.give(Input::Misbehaved {
            peer: key(1),
            offence,
        });
        assert_eq!(world.view_of_score(key(1)), total);
        assert!(world.come(key(1), ip("1.1.1.1")).is_ok(), "not banned yet");
        let id = *world.live.keys().next().unwrap();
        world.end(id, None);
    }
    let id = world.come(key(1), ip("1.1.1.1")).unwrap();
    world.give(Input::Misbehaved {
        peer: key(1),
        offence: Offence::Violation,
    });
    assert_eq!(world.drops, [(id, Refusal::Banned)]);
    assert_eq!(world.come(key(1), ip("1.1.1.1")), Err(Refusal::Banned));
    let ban = world.policy.view(world.now).bans[0];
    assert!(!ban.by_user);
    // 130 now: 65 in an hour, and below 100 somewhere in between.
    let left = ban.until.millis_since(world.now);
    assert!((25 * MINUTE..35 * MINUTE).contains(&left), "{left}");
    world.pass(left - 1);
    assert_eq!(world.come(key(1), ip("1.1.1.1")), Err(Refusal::Banned));
    world.pass(1);
    assert!(world.come(key(1), ip("1.1.1.1")).is_ok());
    world.pass(HOUR - left);
    assert_eq!(world.view_of_score(key(1)), 65);
    world.pass(10 * HOUR);
    assert_eq!(world.view_of_score(key(1)), 0);
    // Whatever somebody does, a day later it is over.
    for _ in 0..10_000 {
        world.give(Input::Misbehaved {
            peer: key(2),
            offence: Offence::Violation,
        });
    }
    world.pass(24 * HOUR);
    assert!(world.come(key(2), ip("1.1.1.1")).is_ok());
}

#[test]
fn a_host_that_misbehaves_under_many_keys_is_kept_out() {
    let mut world = World::new(quiet());
    let mut came = 0;
    for number in 0..100 {
        if let Ok(id) = world.come(key(number), ip("66.6.6.6")) {
            came += 1;
            world.end(id, Some(Offence::BadBytes));
        }
    }
    assert_eq!(came, 12, "35 each, 400 are enough");
    assert_eq!(world.knock(ip("66.6.6.6")), Err(Refusal::Banned));
    assert!(world.knock(ip("66.6.6.7")).is_ok());
    // Nobody is kept out for what others did behind the same proxy.
    for number in 0..100 {
        let id = world.come(key(number + 200), ip("127.0.0.1")).unwrap();
        world.end(id, Some(Offence::BadBytes));
    }
}

#[test]
fn a_peer_with_channels_is_never_banned_but_has_to_wait() {
    let mut world = World::new(quiet());
    world.channel(key(1), "1.1.1.1:1");
    world.fail_all();
    let id = world.come(key(1), ip("1.1.1.1")).unwrap();
    for _ in 0..10 {
        world.give(Input::Misbehaved {
            peer: key(1),
            offence: Offence::Gossip,
        });
    }
    assert!(world.drops.is_empty() && world.policy.view(world.now).bans.is_empty());
    world.end(id, Some(Offence::Violation));
    let dials = world.dials.len();
    assert_eq!(world.come(key(1), ip("1.1.1.1")), Err(Refusal::Throttled));
    world.pass(59_000);
    assert_eq!(world.come(key(1), ip("1.1.1.1")), Err(Refusal::Throttled));
    assert_eq!(world.dials.len(), dials);
    world.pass(1_000);
    assert_eq!(world.dials.len(), dials + 1);
    assert!(world.come(key(1), ip("1.1.1.1")).is_ok());
    // A user can't ban it either.
    world.give(Input::Ban {
        peer: key(1),
        until: Timestamp::new(u64::MAX),
    });
    assert!(world.policy.view(world.now).bans.is_empty());
    // Once the channels are gone it is as anybody else.
    world.give(Input::NoChannel { peer: key(1) });
    assert_eq!(
        world.drops.last().map(|(_, why)| *why),
        Some(Refusal::Banned)
    );
}

#[test]
fn a_user_bans_forgives_and_a_wish_lifts_a_ban() {
    let mut world = World::new(quiet());
    let until = world.now.plus_millis(2 * HOUR);
    let id = world.come(key(1), ip("1.1.1.1")).unwrap();
    world.give(Input::Ban {
        peer: key(1),
        until,
    });
    assert_eq!(world.drops, [(id, Refusal::Banned)]);
    assert_eq!(world.come(key(1), ip("1.1.1.1")), Err(Refusal::Banned));
    let memory = world.policy.memory(world.now);
    let mut again = World::remembering(quiet(), [1; 32], &memory);
    assert_eq!(again.come(key(1), ip("1.1.1.1")), Err(Refusal::Banned));
    again.pass(2 * HOUR);
    assert!(again.come(key(1), ip("1.1.1.1")).is_ok());
    world.give(Input::Unban { peer: key(1) });
    assert!(world.come(key(1), ip("1.1.1.1")).is_ok());
    world.give(Input::Ban {
        peer: key(2),
        until,
    });
    world.give(Input::Connect {
        peer: key(2),
        addresses: vec!["2.2.2.2:2".into()],
    });
    let id = world.last_dial().id;
    world.shake(id, key(2)).unwrap();
    assert!(world.policy.view(world.now).bans.is_empty());
    // Changing one's mind while the wish is under way: nothing is dialled any more.
    world.give(Input::Connect {
        peer: key(3),
        addresses: vec!["3.3.3.3:3".into()],
    });
    world.give(Input::Ban {
        peer: key(3),
        until,
    });
    let dials = world.dials.len();
    world.pass(MINUTE);
    assert!(world.dials.len() == dials && world.dialling.is_empty());
}

impl World {
    fn view_of_score(&self, peer: fulmen_types::NodeId) -> u32 {
        let view = self.policy.view(self.now);
        let found = view.peers.iter().find(|view| view.peer == peer);
        found.map_or(0, |view| view.score)
    }
}
