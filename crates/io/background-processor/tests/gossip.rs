//! The check of gossip on its way to the heart.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::future::poll_fn;

use bitcoin::secp256k1::PublicKey;
use fulmen_background_processor::GossipChecks;
use fulmen_gossip::{Gossip, GossipConfig, GossipInput, GossipOutput, NetworkGraph, UtxoCheck};
use fulmen_netgen::{Config, Network};
use fulmen_node::{ConnEpoch, Input};
use fulmen_types::{BlockHeight, Feature, Features, NodeId, Timestamp};
use fulmen_wire::{GossipTimestampFilter, Message};

const EPOCH: ConnEpoch = ConnEpoch(1);

/// All that a network says, each channel's announcement first.
fn messages(network: &Network) -> Vec<Message> {
    use fulmen_gossip::Direction::{Backward, Forward};
    let mut messages = Vec::new();
    for channel in 0..network.channels.len() {
        messages.push(network.channel_announcement(channel).into());
        for direction in [Forward, Backward] {
            messages.extend(
                network
                    .channel_update(channel, direction)
                    .map(Message::from),
            );
        }
    }
    let nodes = 0..network.nodes.len();
    messages.extend(nodes.filter_map(|node| Some(network.node_announcement(node)?.into())));
    messages
}

/// A machine, a peer of it, and the check between them.
struct Edge {
    gossip: Gossip,
    checks: GossipChecks,
    peer: PublicKey,
    now: Timestamp,
    offences: Vec<&'static str>,
    /// How many messages came checked, and how many as they were.
    came: (usize, usize),
}

impl Edge {
    fn new(network: &Network, threads: usize) -> Self {
        let config = GossipConfig {
            utxo_check: UtxoCheck::Trust,
            ..GossipConfig::new(network.chain_hash, NodeId::new([2; 33]))
        };
        let newest = network.channels.iter().flat_map(|c| c.policies).flatten();
        let newest = newest.map(|policy| policy.timestamp).max().unwrap();
        let peer = network.nodes[0].to_public_key().unwrap();
        let mut edge = Self {
            gossip: Gossip::new(config),
            checks: GossipChecks::start(threads),
            peer,
            now: Timestamp::from_secs(u64::from(newest)),
            offences: Vec::new(),
            came: (0, 0),
        };
        edge.handle(GossipInput::Tip(BlockHeight::new(1_000_000)));
        edge.handle(GossipInput::PeerConnected {
            peer: NodeId::from(peer),
            features: Features::empty().with_optional(Feature::GossipQueries),
        });
        edge
    }

    fn handle(&mut self, input: GossipInput) {
        for output in self.gossip.handle(self.now, input) {
            if let GossipOutput::Misbehaved { why, .. } = output {
                self.offences.push(why);
            }
        }
    }

    fn take(&mut self, input: Input) {
        let peer = NodeId::from(self.peer);
        match input {
            Input::CheckedGossip { checked, .. } => {
                self.came.0 += 1;
                self.handle(GossipInput::Checked { peer, checked });
            }
            Input::PeerMessage { message, .. } => {
                self.came.1 += 1;
                self.handle(GossipInput::Message { peer, message });
            }
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, message: Message) {
        let peer = NodeId::from(self.peer);
        let to_check = self.gossip.to_check(self.now, &peer, message);
        if let Some(input) = self.checks.submit(self.peer, EPOCH, to_check) {
            self.take(input);
        }
    }

    async fn finish(&mut self) {
        while !self.checks.is_empty() {
            let input = poll_fn(|cx| self.checks.poll(cx)).await;
            self.take(input);
        }
    }

    async fn graph(&mut self) -> NetworkGraph {
        self.finish().await;
        (*self.gossip.graph()).clone()
    }
}

#[tokio::test]
async fn what_is_checked_on_other_cores_makes_the_same_graph() {
    let network = Network::generate(&Config::with_nodes(7, 100));
    let messages = messages(&network);
    let mut inline = Edge::new(&network, 0);
    let mut spread = Edge::new(&network, 3);
    for message in &messages {
        inline.say(message.clone());
        spread.say(message.clone());
    }
    let expected = inline.graph().await;
    assert_eq!(expected.channel_count(), network.channels.len());
    assert_eq!(spread.graph().await.to_bytes(), expected.to_bytes());
    assert_eq!(inline.came.0, 0);
    // Updates that follow their announcement find its keys though the heart does not know it yet; those of
    // nodes came before the heart knew the nodes.
    let signed_by_channels = messages
        .iter()
        .filter(|m| !matches!(m, Message::NodeAnnouncement(_)))
        .count();
    assert!(spread.came.0 >= signed_by_channels, "{:?}", spread.came);
    // Said again, nothing is worth a check.
    let before = spread.came.0;
    for message in &messages {
        spread.say(message.clone());
    }
    assert!(spread.checks.is_empty());
    assert_eq!(spread.came.0, before);
    assert!(spread.offences.is_empty() && inline.offences.is_empty());
}

#[tokio::test]
async fn a_forgery_is_named_and_changes_nothing() {
    let network = Network::generate(&Config::with_nodes(8, 60));
    let mut edge = Edge::new(&network, 2);
    let good = network.channel_announcement(0);
    let mut forged = good.clone();
    forged.bitcoin_signature_2 = forged.node_signature_1;
    let mut wrong_ends = network.channel_announcement(1);
    wrong_ends.short_channel_id = good.short_channel_id;
    edge.say(forged.into());
    // The ends of a channel as a forger names them are no reason to refuse what the true ones say.
    edge.say(wrong_ends.into());
    edge.say(good.into());
    for direction in [
        fulmen_gossip::Direction::Forward,
        fulmen_gossip::Direction::Backward,
    ] {
        if let Some(m) = network.channel_update(0, direction) {
            edge.say(m.into());
        }
    }
    let graph = edge.graph().await;
    assert_eq!(
        edge.offences,
        ["channel_announcement: invalid signature"; 2]
    );
    assert_eq!(graph.channel_count(), 1);
    let channel = graph.channels().next().unwrap();
    assert_eq!(channel.policies, network.channels[0].policies);
}

#[tokio::test]
async fn what_a_peer_asks_stays_behind_what_it_said_and_ends_with_its_connection() {
    let network = Network::generate(&Config::with_nodes(9, 60));
    let mut edge = Edge::new(&network, 2);
    let filter = GossipTimestampFilter {
        chain_hash: network.chain_hash,
        first_timestamp: 0,
        timestamp_range: u32::MAX,
    };
    edge.say(network.channel_announcement(0).into());
    let to_check = fulmen_gossip::ToCheck::AsItIs(filter.clone().into());
    assert!(edge.checks.submit(edge.peer, EPOCH, to_check).is_none());
    // Another connection does not wait for it.
    let to_check = fulmen_gossip::ToCheck::AsItIs(filter.into());
    let other = network.nodes[1].to_public_key().unwrap();
    assert!(edge.checks.submit(other, EPOCH, to_check).is_some());
    let first = poll_fn(|cx| edge.checks.poll(cx)).await;
    assert!(matches!(first, Input::CheckedGossip { .. }), "{first:?}");
    let second = poll_fn(|cx| edge.checks.poll(cx)).await;
    assert!(matches!(second, Input::PeerMessage { .. }), "{second:?}");

    for channel in 1..network.channels.len() {
        edge.say(network.channel_announcement(channel).into());
    }
    edge.checks.disconnected(edge.peer, EPOCH);
    assert!(edge.checks.is_empty());
    assert_eq!(edge.graph().await.channel_count(), 0);
}

#[tokio::test]
async fn so_much_is_under_way_and_no_more() {
    let network = Network::generate(&Config::with_nodes(10, 60));
    let mut edge = Edge::new(&network, 1);
    let message: Message = network.channel_announcement(0).into();
    let mut said = 0;
    while !edge.checks.is_full() {
        edge.say(message.clone());
        said += 1;
        assert!(said < 10_000);
    }
    edge.finish().await;
    assert!(!edge.checks.is_full());
    assert_eq!(edge.came.0, said);
}

/// Found at the size of the main network: an update overtook its announcement, which was checked and not
/// taken yet, and was lost.
#[tokio::test]
async fn what_is_checked_and_not_taken_yet_is_not_overtaken() {
    let network = Network::generate(&Config::with_nodes(11, 60));
    let mut edge = Edge::new(&network, 1);
    let filter = GossipTimestampFilter {
        chain_hash: network.chain_hash,
        first_timestamp: 0,
        timestamp_range: u32::MAX,
    };
    for channel in 0..3 {
        edge.say(network.channel_announcement(channel).into());
    }
    // Time for all three to be checked; they come back together, and one is taken.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let first = poll_fn(|cx| edge.checks.poll(cx)).await;
    edge.take(first);
    let to_check = fulmen_gossip::ToCheck::AsItIs(filter.into());
    assert!(edge.checks.submit(edge.peer, EPOCH, to_check).is_none());
    for direction in [
        fulmen_gossip::Direction::Forward,
        fulmen_gossip::Direction::Backward,
    ] {
        if let Some(m) = network.channel_update(2, direction) {
            edge.say(m.into());
        }
    }
    let graph = edge.graph().await;
    let channel = graph.channel(network.channels[2].short_channel_id).unwrap();
    assert_eq!(channel.policies, network.channels[2].policies);
}
