//! Graph to snapshot to graph: nothing is lost but what the format has no place for.
#![allow(clippy::unwrap_used)]

mod common;

use bitcoin::{Amount, constants::ChainHash};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewChannel, NewNodeDetails, Policy};
use fulmen_rapid_gossip_sync::{Since, Version, decode, encode, publish};
use fulmen_types::{CltvExpiryDelta, Features, Msat, NodeId, ShortChannelId, Timestamp};
use proptest::prelude::*;

const NOW: u32 = 1_800_000_000;
const DAY: u32 = 86_400;

fn node(n: u8) -> NodeId {
    let mut id = [n; 33];
    id[0] = 2 + n % 2;
    NodeId::new(id)
}

/// A channel in the making: ends, capacity, features, and per end how old its policy is and what it says.
type Drawn = (u8, u8, Option<u32>, Vec<u8>, [Option<(u32, u8)>; 2]);

fn drawn() -> impl Strategy<Value = Drawn> {
    let policy = || proptest::option::weighted(0.8, (0..15 * DAY, any::<u8>()));
    (
        0..40u8,
        0..40u8,
        proptest::option::of(1..u32::MAX),
        proptest::collection::vec(any::<u8>(), 0..3),
        [policy(), policy()],
    )
}

fn policy(timestamp: u32, say: u8) -> Policy {
    Policy {
        htlc_minimum: Msat::new(u64::from(say % 3)),
        htlc_maximum: Msat::new(u64::from(say % 5) * 100 + 1),
        timestamp,
        fee_base_msat: u32::from(say % 2) * 1_000,
        fee_proportional_millionths: u32::from(say % 7),
        cltv_expiry_delta: CltvExpiryDelta::new(u16::from(say % 4) * 10),
        disabled: say.is_multiple_of(11),
    }
}

fn scid(index: usize) -> ShortChannelId {
    ShortChannelId::from_parts(100 + u32::try_from(index).unwrap() * 3, 1, 0).unwrap()
}

fn build(channels: &[Drawn], nodes: &[(u8, u32, Vec<u8>, u8)]) -> GraphWriter {
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    for (index, (a, b, capacity, features, policies)) in channels.iter().enumerate() {
        let (a, b) = (node(*a), node(*b));
        if a == b {
            continue;
        }
        writer
            .add_channel(&NewChannel {
                short_channel_id: scid(index),
                node_1: a.min(b),
                node_2: a.max(b),
                capacity: capacity.map(|sat| Amount::from_sat(u64::from(sat))),
                features: Features::from_be_bytes(features),
            })
            .unwrap();
        for (direction, policy_drawn) in [Direction::Forward, Direction::Backward]
            .into_iter()
            .zip(policies)
        {
            if let Some((age, say)) = policy_drawn {
                let _ = writer.update_policy(scid(index), direction, policy(NOW - age, *say));
            }
        }
    }
    for (id, age, features, addresses) in nodes {
        let mut wire = Vec::new();
        for port in 0..*addresses % 4 {
            wire.extend_from_slice(&[1, 127, 0, 0, 1, 0, port]);
        }
        let _ = writer.update_node(
            &node(*id),
            &NewNodeDetails {
                timestamp: NOW - age,
                features: &Features::from_be_bytes(features),
                rgb_color: [1, 2, 3],
                alias: [4; 32],
                addresses: &wire,
            },
        );
    }
    writer
}

fn apply(writer: &mut GraphWriter, bytes: &[u8], now: u32) {
    let now = Timestamp::from_secs(u64::from(now));
    let changes = decode(bytes, ChainHash::REGTEST, now).unwrap();
    common::apply(writer, &changes);
}

fn snapshot(graph: &NetworkGraph, version: Version, since: Since, now: u32) -> Vec<u8> {
    let now = Timestamp::from_secs(u64::from(now));
    encode(graph, None, version, since, now)
}

/// What a snapshot can tell of a policy: not its time.
fn terms(policy: Option<&Policy>) -> Option<Policy> {
    policy.map(|policy| Policy {
        timestamp: 0,
        ..*policy
    })
}

const BOTH: [Direction; 2] = [Direction::Forward, Direction::Backward];

/// Everything that is alive in `theirs` at `now` is the same in `ours`.
fn check(ours: &NetworkGraph, theirs: &NetworkGraph, version: Version, now: u32) {
    for channel in theirs.channels() {
        let is_alive = |p: &&Policy| {
            p.timestamp >= now - 14 * DAY
                && channel
                    .capacity
                    .is_none_or(|c| p.htlc_maximum <= Msat::from_amount(c))
        };
        let alive = BOTH.map(|d| channel.policy(d).filter(is_alive));
        let told = ours.channel(channel.short_channel_id);
        if alive.iter().all(Option::is_none) {
            continue;
        }
        let told = told.unwrap();
        assert_eq!([told.node_1, told.node_2], [channel.node_1, channel.node_2]);
        assert_eq!(told.features, channel.features);
        match version {
            Version::V1 => assert_eq!(told.capacity, None),
            Version::V2 => assert_eq!(told.capacity, channel.capacity),
        }
        for (direction, alive) in BOTH.into_iter().zip(alive) {
            if alive.is_some() {
                assert_eq!(terms(told.policy(direction)), terms(alive));
            }
        }
        for id in [channel.node_1, channel.node_2] {
            let (told, known) = (ours.node_details(&id), theirs.node_details(&id));
            match version {
                Version::V1 => assert_eq!(told, None),
                Version::V2 => assert_eq!(
                    told.map(|d| (d.features, d.addresses)),
                    known.map(|d| (d.features, d.addresses))
                ),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_full_snapshot_tells_the_whole_graph(
        channels in proptest::collection::vec(drawn(), 0..60),
        nodes in proptest::collection::vec((0..40u8, 0..400 * DAY, proptest::collection::vec(any::<u8>(), 0..3), any::<u8>()), 0..40),
    ) {
        let theirs = build(&channels, &nodes).snapshot();
        for version in [Version::V1, Version::V2] {
            let bytes = snapshot(&theirs, version, Since::Beginning, NOW);
            let mut ours = GraphWriter::new(ChainHash::REGTEST);
            apply(&mut ours, &bytes, NOW);
            let ours = ours.snapshot();
            prop_assert_eq!(ours.unsigned_until(), NOW);
            check(&ours, &theirs, version, NOW);
            // And nothing besides.
            for channel in ours.channels() {
                let known = theirs.channel(channel.short_channel_id).unwrap();
                for direction in BOTH {
                    if let Some(policy) = channel.policy(direction) {
                        prop_assert_eq!(policy.timestamp, NOW - 7 * DAY);
                        prop_assert_eq!(terms(Some(policy)), terms(known.policy(direction)));
                    }
                }
            }
            // The file keeps all of it.
            let kept = NetworkGraph::from_bytes(&ours.to_bytes()).unwrap();
            prop_assert_eq!(kept.unsigned_until(), NOW);
            prop_assert!(kept.channels().eq(ours.channels()));
        }
    }

    #[test]
    fn full_once_then_a_day_at_a_time(
        channels in proptest::collection::vec(drawn(), 1..40),
        days in proptest::collection::vec(
            proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>(), 0..DAY, any::<u8>()), 0..12),
            1..25,
        ),
    ) {
        let mut theirs = build(&channels, &[]);
        for version in [Version::V1, Version::V2] {
            let mut ours = GraphWriter::new(ChainHash::REGTEST);
            apply(&mut ours, &snapshot(&theirs.snapshot(), version, Since::Beginning, NOW), NOW);
            let mut seen = NOW;
            for changes in &days {
                let now = seen + DAY;
                for (which, forward, at, say) in changes {
                    let direction = if *forward { Direction::Forward } else { Direction::Backward };
                    let _ = theirs.update_policy(scid(which.index(channels.len())), direction, policy(seen + at, *say));
                }
                let bytes = snapshot(&theirs.snapshot(), version, Since::Seen(seen), now);
                apply(&mut ours, &bytes, now);
                seen = now;
                let (told, known) = (ours.snapshot(), theirs.snapshot());
                check(&told, &known, version, now);
                // What is alive there has not become stale here.
                for channel in told.channels() {
                    let known = known.channel(channel.short_channel_id).unwrap();
                    for direction in BOTH {
                        let (told, known) = (channel.policy(direction), known.policy(direction));
                        if let (Some(told), Some(known)) = (told, known)
                            && known.timestamp >= now - 14 * DAY
                            && channel.capacity.is_none_or(|c| known.htlc_maximum <= Msat::from_amount(c))
                        {
                            prop_assert!(told.timestamp >= now - 14 * DAY);
                        }
                    }
                }
            }
            theirs = build(&channels, &[]);
        }
    }
}

#[test]
fn an_incremental_snapshot_is_small() {
    let channels: Vec<Drawn> = (0..2_000u32)
        .map(|i| {
            let old = Some((DAY * 2 + i, 1));
            let fresh = Some((i, 2));
            let first = if i % 50 == 0 { fresh } else { old };
            (
                u8::try_from(i % 39).unwrap(),
                39,
                Some(1_000_000),
                Vec::new(),
                [first, old],
            )
        })
        .collect();
    let graph = build(&channels, &[]).snapshot();
    let full = snapshot(&graph, Version::V2, Since::Beginning, NOW);
    let changes = snapshot(&graph, Version::V2, Since::Seen(NOW - DAY), NOW);
    assert!(
        changes.len() * 5 < full.len(),
        "{} of {}",
        changes.len(),
        full.len()
    );
}

#[test]
fn spent_channels_and_those_without_a_word_are_not_told() {
    let both = [Some((1, 1)), Some((1, 1))];
    let channels: Vec<Drawn> = vec![
        (1, 2, None, Vec::new(), both),
        (1, 3, None, Vec::new(), both),
        (1, 4, None, Vec::new(), [None, None]),
        (1, 5, None, Vec::new(), [Some((15 * DAY, 1)), None]),
    ];
    let mut writer = build(&channels, &[]);
    writer.set_spent(scid(1), Some(100)).unwrap();
    let bytes = snapshot(&writer.snapshot(), Version::V1, Since::Beginning, NOW);
    let now = Timestamp::from_secs(u64::from(NOW));
    let told = decode(&bytes, ChainHash::REGTEST, now).unwrap();
    let told: Vec<ShortChannelId> = told.channels.iter().map(|c| c.short_channel_id).collect();
    assert_eq!(told, [scid(0)]);
}

#[test]
fn a_folder_of_snapshots_serves_who_comes_back() {
    let channels: Vec<Drawn> = vec![(1, 2, Some(5_000), Vec::new(), [Some((DAY, 1)), None])];
    let mut theirs = build(&channels, &[]);
    let dir = tempfile::tempdir().unwrap();
    let read = |name: String| std::fs::read(dir.path().join(name)).unwrap();
    let mut ours = [(); 2].map(|()| GraphWriter::new(ChainHash::REGTEST));
    let mut seen = 0;
    for day in 0..20 {
        let now = NOW + day * DAY;
        let _ = theirs.update_policy(scid(0), Direction::Forward, policy(now, 1));
        let graph = theirs.snapshot();
        let time = Timestamp::from_secs(u64::from(now));
        let files = publish(dir.path(), &graph, None, time).unwrap();
        // Everything, this day's, and those before it that are younger than two weeks.
        let days = usize::try_from(day.min(13)).unwrap();
        assert_eq!(files.len(), 2 * (2 + days));
        for (ours, folder) in ours.iter_mut().zip(["snapshot", "v2/snapshot"]) {
            let in_folder = std::fs::read_dir(dir.path().join(folder)).unwrap().count();
            assert_eq!(in_folder, 2 + days);
            apply(ours, &read(format!("{folder}/{seen}")), now);
            assert_eq!(ours.unsigned_until(), now);
        }
        seen = now;
        check(&ours[0].snapshot(), &graph, Version::V1, now);
        check(&ours[1].snapshot(), &graph, Version::V2, now);
    }
}

#[test]
fn what_is_not_signed_is_not_told() {
    let both = [Some((DAY, 1)), Some((DAY, 2))];
    let channels: Vec<Drawn> = vec![(1, 2, None, Vec::new(), both)];
    let graph = build(&channels, &[(1, 5, vec![1], 1)]).snapshot();
    let now = Timestamp::from_secs(u64::from(NOW));
    let nothing = fulmen_gossip::SignedMessages::new().times();
    let bytes = encode(&graph, Some(&nothing), Version::V2, Since::Beginning, now);
    let told = decode(&bytes, ChainHash::REGTEST, now).unwrap();
    assert_eq!(
        (told.channels.len(), told.policies.len(), told.details.len()),
        (0, 0, 0)
    );
}
