//! The graph against a plain model: the same changes, the same answers, also through its file.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bitcoin::{Amount, constants::ChainHash};
use fulmen_gossip::{
    Direction, Edge, GraphError, GraphFileError, GraphWriter, NetworkGraph, NewChannel,
    NewNodeDetails, Policy,
};
use fulmen_types::{CltvExpiryDelta, Feature, Features, Msat, NodeId, ShortChannelId};
use proptest::prelude::*;

fn node(n: u8) -> NodeId {
    NodeId::new([n; 33])
}

fn edges_to(graph: &NetworkGraph, node: NodeId) -> Vec<Edge> {
    let index = graph.find_node(&node).unwrap();
    let edges: Vec<_> = graph.edges_to(index).collect();
    for (at, edge) in &edges {
        assert_eq!(graph.edges()[at.to_usize()], **edge);
        assert_eq!(edge.to, index);
    }
    edges.into_iter().map(|(_, edge)| *edge).collect()
}

fn policy(timestamp: u32) -> Policy {
    Policy {
        htlc_minimum: Msat::new(1),
        htlc_maximum: Msat::from_sat(900),
        timestamp,
        fee_base_msat: timestamp,
        fee_proportional_millionths: 10,
        cltv_expiry_delta: CltvExpiryDelta::new(40),
        disabled: timestamp.is_multiple_of(3),
    }
}

#[derive(Clone, Debug)]
enum Change {
    Add(u64, u8, u8),
    Update(u64, bool, u32),
    Node(u8, u32, u16),
    Spent(u64, u32),
    Remove(u64),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..30u64, 0..8u8, 0..8u8).prop_map(|(c, a, b)| Change::Add(c, a, b)),
        4 => (0..30u64, any::<bool>(), 1..20u32).prop_map(|(c, d, t)| Change::Update(c, d, t)),
        2 => (0..8u8, 1..20u32, 0..3000u16).prop_map(|(n, t, l)| Change::Node(n, t, l)),
        1 => (0..30u64, 0..500u32).prop_map(|(c, h)| Change::Spent(c, h)),
        2 => (0..30u64).prop_map(Change::Remove),
    ]
}

/// Ends, timestamps of both updates, height of the spend.
type Channel = (u8, u8, [Option<u32>; 2], Option<u32>);

#[derive(Default)]
struct Model {
    channels: BTreeMap<u64, Channel>,
    nodes: BTreeMap<u8, (u32, u16)>,
}

impl Model {
    fn has_node(&self, n: u8) -> bool {
        self.channels.values().any(|c| c.0 == n || c.1 == n)
    }
}

fn apply(writer: &mut GraphWriter, model: &mut Model, change: &Change) {
    match *change {
        Change::Add(c, a, b) => {
            let result = writer.add_channel(&NewChannel {
                short_channel_id: ShortChannelId::from_u64(c),
                node_1: node(a),
                node_2: node(b),
                capacity: Some(Amount::from_sat(1000)),
                features: Features::empty(),
            });
            if a >= b {
                assert_eq!(result, Err(GraphError::NodesNotOrdered));
            } else {
                let is_known = model.channels.contains_key(&c);
                assert_eq!(result.err(), is_known.then_some(GraphError::KnownChannel));
                model
                    .channels
                    .entry(c)
                    .or_insert((a, b, [None, None], None));
            }
        }
        Change::Update(c, second, t) => {
            let direction = Direction::from_channel_flags(u8::from(second));
            let result = writer.update_policy(ShortChannelId::from_u64(c), direction, policy(t));
            match model.channels.get_mut(&c) {
                None => assert_eq!(result, Err(GraphError::UnknownChannel)),
                Some(channel) => {
                    let slot = &mut channel.2[usize::from(second)];
                    if slot.is_some_and(|known| known >= t) {
                        assert_eq!(result, Err(GraphError::NotNewer));
                    } else {
                        assert_eq!(result, Ok(()));
                        *slot = Some(t);
                    }
                }
            }
        }
        Change::Node(n, t, len) => {
            let result = writer.update_node(
                &node(n),
                &NewNodeDetails {
                    timestamp: t,
                    features: &Features::empty().with_optional(Feature::BasicMpp),
                    rgb_color: [1, 2, 3],
                    alias: [n; 32],
                    addresses: &vec![7; usize::from(len)],
                },
            );
            if !model.has_node(n) {
                assert_eq!(result, Err(GraphError::UnknownNode));
            } else if model.nodes.get(&n).is_some_and(|known| known.0 >= t) {
                assert_eq!(result, Err(GraphError::NotNewer));
            } else {
                assert_eq!(result, Ok(()));
                model.nodes.insert(n, (t, len));
            }
        }
        Change::Spent(c, height) => {
            let spent = (height > 0).then_some(height);
            let result = writer.set_spent(ShortChannelId::from_u64(c), spent);
            assert_eq!(result.is_ok(), model.channels.contains_key(&c));
            if let Some(channel) = model.channels.get_mut(&c) {
                channel.3 = spent;
            }
        }
        Change::Remove(c) => {
            let result = writer.remove_channel(ShortChannelId::from_u64(c));
            assert_eq!(result.is_ok(), model.channels.remove(&c).is_some());
            let gone: Vec<u8> = model
                .nodes
                .keys()
                .copied()
                .filter(|n| !model.has_node(*n))
                .collect();
            for n in gone {
                model.nodes.remove(&n);
            }
        }
    }
}

fn check(graph: &NetworkGraph, model: &Model) {
    assert_eq!(graph.channel_count(), model.channels.len());
    let ids: Vec<u64> = graph
        .channels()
        .map(|c| c.short_channel_id.to_u64())
        .collect();
    assert_eq!(ids, model.channels.keys().copied().collect::<Vec<_>>());
    let mut usable = 0;
    for (c, (a, b, updates, spent)) in &model.channels {
        let info = graph.channel(ShortChannelId::from_u64(*c)).unwrap();
        assert_eq!(
            (info.node_1, info.node_2, info.spent_at),
            (node(*a), node(*b), *spent)
        );
        assert_eq!(info.policies, updates.map(|t| t.map(policy)));
        for (bit, update) in updates.iter().enumerate() {
            let Some(t) = update.filter(|t| !t.is_multiple_of(3)) else {
                continue;
            };
            usable += 1;
            let (from, to) = if bit == 0 { (*a, *b) } else { (*b, *a) };
            let edges: Vec<Edge> = edges_to(graph, node(to));
            let edge = edges
                .iter()
                .find(|e| graph.short_channel_id(e.channel) == Some(ShortChannelId::from_u64(*c)))
                .unwrap();
            assert_eq!(graph.node_id(edge.from), Some(node(from)));
            assert_eq!(edge.fee_base_msat, t);
        }
    }
    let edges: usize = graph.nodes().map(|n| edges_to(graph, n).len()).sum();
    assert_eq!(edges, usable);
    let mut outgoing = 0;
    for id in graph.nodes() {
        let index = graph.find_node(&id).unwrap();
        for (at, edge) in graph.edges_from(index) {
            assert_eq!(graph.edges()[at.to_usize()], *edge);
            assert_eq!(edge.from, index);
            outgoing += 1;
        }
        // A way through a node comes from one neighbour and goes on to another.
        let passes = graph
            .edges_to(index)
            .any(|(_, to)| graph.edges_from(index).any(|(_, from)| to.from != from.to));
        assert_eq!(graph.is_dead_end(index.to_usize()), !passes);
    }
    assert_eq!(outgoing, usable);
    for n in 0..8 {
        assert_eq!(graph.find_node(&node(n)).is_some(), model.has_node(n));
        let details = graph.node_details(&node(n));
        assert_eq!(
            details.map(|d| (d.timestamp, d.addresses.len(), d.alias)),
            model
                .nodes
                .get(&n)
                .map(|(t, len)| (*t, usize::from(*len), [n; 32]))
        );
    }
}

proptest! {
    #[test]
    fn any_changes_give_what_a_plain_model_says(
        changes in proptest::collection::vec(change(), 0..120),
        snapshot_at in 0..120usize,
    ) {
        let mut writer = GraphWriter::new(ChainHash::REGTEST);
        let mut model = Model::default();
        let mut kept = None;
        for (i, change) in changes.iter().enumerate() {
            if i == snapshot_at {
                let snapshot = writer.snapshot();
                kept = Some((snapshot.to_bytes(), snapshot));
            }
            apply(&mut writer, &mut model, change);
        }
        let graph = writer.snapshot();
        check(&graph, &model);
        let read = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
        check(&read, &model);
        prop_assert_eq!(read.to_bytes(), graph.to_bytes());
        if let Some((bytes, snapshot)) = kept {
            prop_assert_eq!(snapshot.to_bytes(), bytes);
        }
        // What was read can be written to as well.
        let mut writer = GraphWriter::from_graph(read);
        for change in changes.iter().rev() {
            apply(&mut writer, &mut model, change);
        }
        check(&writer.snapshot(), &model);
    }

    #[test]
    fn a_damaged_file_is_an_error(at in 0..10_000usize, flip in 1..=255u8, cut in 0..10_000usize) {
        let mut writer = GraphWriter::new(ChainHash::REGTEST);
        let mut model = Model::default();
        for c in 0..6 {
            apply(&mut writer, &mut model, &Change::Add(c, u8::try_from(c).unwrap(), 7));
            apply(&mut writer, &mut model, &Change::Update(c, false, 4));
        }
        let good = writer.snapshot().to_bytes();
        let mut bad = good.clone();
        let at = at % bad.len();
        bad[at] ^= flip;
        prop_assert!(NetworkGraph::from_bytes(&bad).is_err());
        prop_assert!(NetworkGraph::from_bytes(&good[..cut % good.len()]).is_err());
    }
}

#[test]
fn a_newer_file_is_named_so() {
    let mut bytes = NetworkGraph::empty(ChainHash::REGTEST).to_bytes();
    bytes[4] = 9;
    assert_eq!(
        NetworkGraph::from_bytes(&bytes).unwrap_err(),
        GraphFileError::NewerVersion(9)
    );
    assert_eq!(
        NetworkGraph::from_bytes(b"nonsense").unwrap_err(),
        GraphFileError::NotAGraph
    );
}

#[test]
fn the_arena_does_not_grow_with_updates() {
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    let mut model = Model::default();
    apply(&mut writer, &mut model, &Change::Add(1, 1, 2));
    for t in 1..2_000 {
        apply(&mut writer, &mut model, &Change::Node(1, t, 2_000));
    }
    assert!(writer.snapshot().memory() < 400_000);
    check(&writer.snapshot(), &model);
}

proptest! {
    /// Guessing where an id is finds what is there and nothing else, however ids are spread.
    #[test]
    fn every_node_is_found_by_its_id(
        ids in proptest::collection::btree_set(
            prop_oneof![
                any::<[u8; 4]>().prop_map(|head| {
                    let mut id = [7; 33];
                    id[..4].copy_from_slice(&head);
                    id
                }),
                // As if somebody had made keys that lie close together.
                any::<u8>().prop_map(|last| {
                    let mut id = [2; 33];
                    id[32] = last;
                    id
                }),
            ],
            2..120,
        ),
        missing in any::<[u8; 4]>(),
    ) {
        let ids: Vec<NodeId> = ids.into_iter().map(NodeId::new).collect();
        let mut writer = GraphWriter::new(ChainHash::REGTEST);
        for (n, pair) in (1u64..).zip(ids.windows(2)) {
            let channel = NewChannel {
                short_channel_id: ShortChannelId::from_u64(n),
                node_1: pair[0],
                node_2: pair[1],
                capacity: Some(Amount::from_sat(1)),
                features: Features::empty(),
            };
            writer.add_channel(&channel).unwrap();
        }
        let graph = writer.snapshot();
        for id in &ids {
            let found = graph.find_node(id).and_then(|node| graph.node_id(node));
            prop_assert_eq!(found, Some(*id));
        }
        let mut id = [9; 33];
        id[..4].copy_from_slice(&missing);
        prop_assert_eq!(graph.find_node(&NodeId::new(id)), None);
    }
}
