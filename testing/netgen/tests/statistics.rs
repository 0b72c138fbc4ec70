//! The generator's output against the main network's statistics of February 2026.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::{BTreeMap, HashMap};

use bitcoin::secp256k1::Secp256k1;
use fulmen_gossip::{
    Direction, Policy, verify_channel_announcement, verify_channel_update, verify_node_announcement,
};
use fulmen_netgen::{Config, MAINNET_CHANNELS, MAINNET_NODES, Network};

fn network() -> Network {
    Network::generate(&Config::mainnet(7))
}

fn quantile<T: Ord + Copy>(values: &mut [T], q: f64) -> T {
    values.sort_unstable();
    values[((values.len() - 1) as f64 * q).round() as usize]
}

fn share<T>(items: &[T], test: impl Fn(&T) -> bool) -> f64 {
    items.iter().filter(|item| test(item)).count() as f64 / items.len() as f64
}

#[track_caller]
fn near(what: &str, value: f64, wanted: f64, tolerance: f64) {
    println!("{what}: {value:.4}, wanted {wanted}");
    assert!(
        (value - wanted).abs() <= tolerance * wanted.abs(),
        "{what} is {value}, not within {tolerance} of {wanted}"
    );
}

#[test]
fn degrees() {
    let network = network();
    assert_eq!(network.nodes.len(), MAINNET_NODES);
    near(
        "channels",
        network.channels.len() as f64,
        MAINNET_CHANNELS as f64,
        0.001,
    );
    let mut degrees = vec![0usize; network.nodes.len()];
    for node in network.channels.iter().flat_map(|c| c.nodes) {
        degrees[node as usize] += 1;
    }
    let mean = degrees.iter().sum::<usize>() as f64 / degrees.len() as f64;
    near("mean degree", mean, 5.87, 0.005);
    assert_eq!(quantile(&mut degrees, 0.5), 1);
    near("p90 degree", quantile(&mut degrees, 0.9) as f64, 8.0, 0.01);
    near(
        "p99 degree",
        quantile(&mut degrees, 0.99) as f64,
        74.0,
        0.05,
    );
    near(
        "greatest degree",
        *degrees.last().unwrap() as f64,
        1_989.0,
        0.3,
    );
    let top = degrees
        .iter()
        .rev()
        .take(degrees.len() / 100)
        .sum::<usize>();
    let top = top as f64 / degrees.iter().sum::<usize>() as f64;
    near("share of the top 1%", top, 0.37, 0.05);
    // The exponent by Hill's estimator over the nodes from p90 on.
    let tail = &degrees[degrees.len() * 9 / 10..];
    let logs: f64 = tail
        .iter()
        .map(|d| (*d as f64 / (tail[0] as f64 - 0.5)).ln())
        .sum();
    let exponent = 1.0 + tail.len() as f64 / logs;
    assert!((1.85..2.15).contains(&exponent), "power law {exponent}");
}

#[test]
fn is_connected_with_some_parallel_channels() {
    let network = network();
    let mut root: Vec<usize> = (0..network.nodes.len()).collect();
    fn find(root: &mut [usize], mut node: usize) -> usize {
        while root[node] != node {
            root[node] = root[root[node]];
            node = root[node];
        }
        node
    }
    let mut pairs: HashMap<[u32; 2], usize> = HashMap::new();
    for channel in &network.channels {
        let [a, b] = channel.nodes.map(|node| find(&mut root, node as usize));
        root[a] = b;
        assert_ne!(channel.nodes[0], channel.nodes[1]);
        *pairs.entry(channel.nodes).or_default() += 1;
    }
    let first = find(&mut root, 0);
    assert!((0..root.len()).all(|node| find(&mut root, node) == first));
    let parallel: usize = pairs.values().filter(|count| **count > 1).sum();
    near(
        "parallel",
        parallel as f64 / network.channels.len() as f64,
        0.09,
        0.05,
    );
}

#[test]
fn capacities() {
    let network = network();
    let mut sat: Vec<u64> = network
        .channels
        .iter()
        .map(|c| c.capacity.to_sat())
        .collect();
    let total = sat.iter().sum::<u64>() as f64 / 1e8;
    near("bitcoins", total, 5_361.7, 0.05);
    for (q, wanted) in [
        (0.05, 20e3),
        (0.25, 200e3),
        (0.5, 1.28e6),
        (0.75, 5e6),
        (0.9, 15.7e6),
        (0.99, 200e6),
        (1.0, 1e9),
    ] {
        near(
            &format!("capacity at {q}"),
            quantile(&mut sat, q) as f64,
            wanted,
            0.03,
        );
    }
    let logs: Vec<f64> = sat.iter().map(|s| (*s as f64).ln()).collect();
    let mu = logs.iter().sum::<f64>() / logs.len() as f64;
    near("mu", mu, 13.81, 0.03);
    for (spike, wanted) in [
        (1_000_000, 0.093),
        (5_000_000, 0.073),
        (20_000, 0.068),
        (10_000_000, 0.065),
        (2_000_000, 0.061),
    ] {
        near(
            &format!("at {spike} sat"),
            share(&sat, |s| *s == spike),
            wanted,
            0.05,
        );
    }
}

#[test]
fn terms_of_the_ends() {
    let network = network();
    let directions: Vec<(u64, Option<Policy>)> = network
        .channels
        .iter()
        .flat_map(|c| c.policies.map(|p| (c.capacity.to_sat() * 1_000, p)))
        .collect();
    near(
        "disabled or without update",
        share(&directions, |(_, p)| p.is_none_or(|p| p.disabled)),
        0.35,
        0.03,
    );
    let known: Vec<(u64, Policy)> = directions
        .iter()
        .filter_map(|(c, p)| Some((*c, (*p)?)))
        .collect();
    for (capacity, policy) in &known {
        assert!(policy.htlc_minimum <= policy.htlc_maximum);
        assert!(policy.htlc_maximum.to_msat() <= (*capacity).max(1_000));
    }
    let base = |fee| share(&known, |(_, p)| p.fee_base_msat == fee);
    near("base fee 0", base(0), 0.45, 0.03);
    near("base fee 1000", base(1_000), 0.41, 0.03);
    let mut ppm: Vec<u32> = known
        .iter()
        .map(|(_, p)| p.fee_proportional_millionths)
        .collect();
    near("ppm exactly 0", share(&ppm, |p| *p == 0), 0.07, 0.06);
    near("ppm exactly 1", share(&ppm, |p| *p == 1), 0.22, 0.04);
    for (q, wanted) in [
        (0.25, 1.0),
        (0.5, 100.0),
        (0.75, 569.0),
        (0.9, 2_000.0),
        (0.99, 10_000.0),
    ] {
        near(
            &format!("ppm at {q}"),
            f64::from(quantile(&mut ppm, q)),
            wanted,
            0.1,
        );
    }
    for (delta, wanted) in [(80, 0.38), (144, 0.18), (40, 0.17), (100, 0.11)] {
        let have = share(&known, |(_, p)| p.cltv_expiry_delta.to_u16() == delta);
        near(&format!("cltv delta {delta}"), have, wanted, 0.05);
    }
    let near_capacity =
        |(c, p): &(u64, Policy)| (p.htlc_maximum.to_msat() as f64 / *c as f64 - 0.99).abs() < 1e-6;
    near("htlc_max 0.99", share(&known, near_capacity), 0.64, 0.03);
    near(
        "htlc_min 1000",
        share(&known, |(_, p)| p.htlc_minimum.to_msat() == 1_000),
        0.79,
        0.03,
    );
}

#[test]
fn the_seed_decides_and_sizes_scale() {
    let make = |seed, nodes| Network::generate(&Config::with_nodes(seed, nodes));
    let (a, b, c) = (make(1, 500), make(1, 500), make(2, 500));
    assert_eq!((&a.nodes, &a.channels), (&b.nodes, &b.channels));
    assert_ne!(a.nodes, c.nodes);
    for nodes in [100, 3_000] {
        let network = make(3, nodes);
        assert_eq!(network.nodes.len(), nodes);
        near(
            "channels",
            network.channels.len() as f64,
            nodes as f64 * 2.933,
            0.1,
        );
    }
}

#[test]
fn messages_are_signed_and_say_what_the_graph_says() {
    let network = Network::generate(&Config::with_nodes(4, 60));
    let secp = Secp256k1::verification_only();
    let graph = network.graph();
    assert_eq!(
        (graph.node_count(), graph.channel_count()),
        (60, network.channels.len())
    );
    let mut checked = BTreeMap::new();
    for (index, channel) in network.channels.iter().enumerate() {
        let announcement = network.channel_announcement(index);
        verify_channel_announcement(&secp, &announcement).unwrap();
        let info = graph.channel(channel.short_channel_id).unwrap();
        assert_eq!(
            (info.node_1, info.node_2),
            (announcement.node_id_1, announcement.node_id_2)
        );
        for (direction, node) in [
            (Direction::Forward, info.node_1),
            (Direction::Backward, info.node_2),
        ] {
            let update = network.channel_update(index, direction);
            assert_eq!(update.is_some(), info.policy(direction).is_some());
            let Some(update) = update else { continue };
            verify_channel_update(&secp, &update, &node).unwrap();
            let policy = info.policy(direction).unwrap();
            assert_eq!(policy.htlc_maximum, update.htlc_maximum_msat);
            assert_eq!(policy.disabled, update.is_disabled());
            *checked.entry("updates").or_insert(0) += 1;
        }
    }
    for index in 0..60 {
        if let Some(announcement) = network.node_announcement(index) {
            verify_node_announcement(&secp, &announcement).unwrap();
            let details = graph.node_details(&announcement.node_id).unwrap();
            assert_eq!(details.timestamp, announcement.timestamp);
            *checked.entry("nodes").or_insert(0) += 1;
        }
    }
    assert!(
        checked["updates"] > 200 && checked["nodes"] > 40,
        "{checked:?}"
    );
}

#[test]
fn the_smallest_networks_come_to_an_end() {
    for seed in 0..30 {
        for nodes in 20..24 {
            let network = Network::generate(&Config::with_nodes(seed, nodes));
            assert_eq!(network.nodes.len(), nodes);
            assert!(network.channels.len() >= 2 * nodes);
        }
    }
}
