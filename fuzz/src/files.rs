//! The files of the network graph and of learned liquidity, damaged in any way, with a good checksum or not.

use bitcoin::constants::ChainHash;
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, crc32c};
use fulmen_router::{FirstHop, Liquidity, Observation, RouteRequest, find_route};
use fulmen_types::{Msat, NodeId, ShortChannelId, Timestamp};

use crate::choice;

/// The first byte chooses: the graph or the liquidity, and whether the file is as it is or the data between a good
/// head and a good checksum.
pub(crate) fn graph_file(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    let file = match which & 2 {
        0 => data.to_vec(),
        _ => with_checksum([&head(which)[..], data].concat()),
    };
    if which & 1 == 0 {
        graph(&file);
    } else {
        liquidity(&file);
    }
}

/// Magic and version of the file that is chosen.
fn head(which: u8) -> [u8; 5] {
    let file = match which & 1 {
        0 => NetworkGraph::empty(ChainHash::REGTEST).to_bytes(),
        _ => Liquidity::new().to_bytes(),
    };
    *file.first_chunk().expect("a file begins so")
}

fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c(&file);
    file.extend_from_slice(&checksum.to_be_bytes());
    file
}

fn graph(file: &[u8]) {
    let graph = match NetworkGraph::from_bytes(file) {
        Ok(graph) => graph,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(graph.to_bytes(), file, "there is one encoding");
    let channels: Vec<_> = graph.channels().collect();
    assert_eq!(channels.len(), graph.channel_count());
    assert_eq!(graph.nodes().count(), graph.node_count());
    for channel in &channels {
        assert_eq!(
            graph.channel(channel.short_channel_id).as_ref(),
            Some(channel)
        );
        let _ = graph.capacity(channel.short_channel_id);
        for direction in [Direction::Forward, Direction::Backward] {
            if let Some(policy) = channel.policy(direction) {
                let _ = policy.fee(Msat::from_sat(1));
            }
        }
    }
    for id in graph.nodes() {
        let node = graph.find_node(&id).expect("it is in the list");
        let around = graph.edges_to(node).chain(graph.edges_from(node)).count();
        assert!(around <= 4 * channels.len());
        let _ = graph
            .node_details(&id)
            .map(|details| format!("{details:?}"));
        pay(&graph, id);
    }
    // It is worked on as one that was heard of by gossip.
    let chain = graph.chain_hash();
    let mut writer = GraphWriter::from_graph(graph);
    let half = channels.len() / 2;
    for channel in &channels[..half] {
        let id = channel.short_channel_id;
        writer.set_spent(id, Some(7)).expect("it is there");
        writer.remove_channel(id).expect("it is there");
        assert!(!writer.has_channel(id));
    }
    let snapshot = writer.snapshot();
    assert_eq!(snapshot.channel_count(), channels.len() - half);
    let again =
        NetworkGraph::from_bytes(&snapshot.to_bytes()).expect("a graph reads what it wrote");
    assert_eq!(again.to_bytes(), snapshot.to_bytes());
    assert_eq!(again.chain_hash(), chain);
}

/// A route to the node through the first node of the graph, if there is one.
fn pay(graph: &NetworkGraph, payee: NodeId) {
    let (payer, Some(peer)) = (NodeId::new([1; 33]), graph.nodes().next()) else {
        return;
    };
    let channels = [FirstHop {
        short_channel_id: ShortChannelId::from_u64(1),
        peer,
        spendable: Msat::from_sat(1_000_000),
        htlc_minimum: Msat::new(1),
    }];
    let request = RouteRequest::new(payer, &channels, payee, Msat::from_sat(1_000), 18);
    if let Ok(route) = find_route(graph, &request) {
        assert_eq!(route.hops.last().map(|hop| hop.node_id), Some(payee));
    }
}

fn liquidity(file: &[u8]) {
    let mut liquidity = match Liquidity::from_bytes(file) {
        Ok(liquidity) => liquidity,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = liquidity.to_bytes();
    let again = Liquidity::from_bytes(&written).expect("it reads what it wrote");
    assert_eq!(again.to_bytes(), written);
    assert_eq!(again.len(), liquidity.len());
    let channels: Vec<ShortChannelId> = file
        .get(49..)
        .unwrap_or_default()
        .chunks(72)
        .filter_map(|entry| entry.first_chunk::<8>())
        .map(|id| ShortChannelId::from_u64(u64::from_be_bytes(*id)))
        .collect();
    for at in [0, 1_000_000, 1 << 50, u64::MAX] {
        let now = millis(at);
        for (channel, direction) in channels.iter().zip(
            [Direction::Forward, Direction::Backward]
                .into_iter()
                .cycle(),
        ) {
            let channel = (*channel, direction);
            let bounds = liquidity.bounds(channel, now);
            if let Some((least, most)) = bounds {
                assert!(least <= most, "the least is above the most");
            }
            let amounts = [0, 1, 1_000_000, u64::MAX];
            let middle = bounds.map(|(least, most)| least.to_msat() / 2 + most.to_msat() / 2);
            for amount in amounts.into_iter().chain(middle) {
                let (capacity, amount) = (Msat::new(u64::MAX), Msat::new(amount));
                let chance = liquidity.chance(channel, capacity, amount, now);
                assert!(chance.to_ppm() <= 1_000_000);
            }
            let what = match at % 3 {
                0 => Observation::Settled,
                1 => Observation::Carried,
                _ => Observation::Refused,
            };
            let amount = Msat::new(middle.unwrap_or(1_000_000));
            liquidity.observe(channel, Msat::from_sat(1_000_000), amount, what, now);
        }
    }
    let written = liquidity.to_bytes();
    let again = Liquidity::from_bytes(&written).expect("it reads what it wrote");
    assert_eq!(again.to_bytes(), written);
    liquidity.forget_before(millis(1));
    assert!(liquidity.len() <= again.len());
}

fn millis(at: u64) -> Timestamp {
    Timestamp::from_secs(0).plus_millis(at)
}
