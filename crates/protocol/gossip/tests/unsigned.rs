//! Snapshots without signatures: what they may change, and what takes their place.
#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeSet, sync::Arc};

use bitcoin::{Amount, ScriptBuf, TxOut, constants::ChainHash};
use common::*;
use fulmen_gossip::{
    ChangedTerms, Direction, GossipInput, GraphWriter, Kept, NewChannel, OwnChannel, OwnPolicy,
    Policy, Terms, UnsignedChannel, UnsignedGraph, UnsignedNode, UnsignedPolicy, UnsignedRules,
    UnsignedTerms, funding_script,
};
use fulmen_types::{CltvExpiryDelta, Features, Msat, NodeId, ShortChannelId};
use fulmen_wire::{GossipTimestampFilter, Message};
use proptest::prelude::*;

/// The time that the snapshots' changes get.
const STAMP: u32 = 1_760_000_000 - 7 * 86_400;

const TERMS: Terms = Terms {
    cltv_expiry_delta: CltvExpiryDelta::new(99),
    htlc_minimum: Msat::new(1),
    fee_base_msat: 4_242,
    fee_proportional_millionths: 5,
    htlc_maximum: Msat::from_sat(500_000),
};

fn empty() -> UnsignedGraph {
    UnsignedGraph::new(ChainHash::REGTEST, STAMP + 7 * 86_400, STAMP)
}

/// Channels between two of the nodes 1 to 50 each, with policies at both ends, and details of all nodes.
fn snapshot(net: &Net, channels: &[(ShortChannelId, u8, u8)]) -> UnsignedGraph {
    let mut changes = empty();
    let mut names: Vec<u8> = (1..=50).collect();
    names.sort_by_key(|n| net.id(*n));
    changes.nodes = names.iter().map(|n| net.id(*n)).collect();
    let place = |n: u8| u32::try_from(names.iter().position(|m| *m == n).unwrap()).unwrap();
    let features = changes.keep(&[2, 0]).unwrap();
    changes.details = (0..50)
        .map(|node| UnsignedNode {
            node,
            features: Some(features),
            addresses: None,
        })
        .collect();
    for (scid, a, b) in channels {
        let (a, b) = (place(*a), place(*b));
        changes.channels.push(UnsignedChannel {
            short_channel_id: *scid,
            nodes: [a.min(b), a.max(b)],
            features: Kept::default(),
            capacity: None,
        });
        for direction in [Direction::Forward, Direction::Backward] {
            changes.policies.push(UnsignedPolicy {
                short_channel_id: *scid,
                direction,
                disabled: false,
                terms: UnsignedTerms::Full(TERMS),
            });
        }
    }
    changes
}

impl Net {
    fn take(&mut self, channels: &[(ShortChannelId, u8, u8)]) {
        let changes = snapshot(self, channels);
        self.input(1, GossipInput::Unsigned(Arc::new(changes)));
    }

    fn fee(&mut self, block: u32, from: u8, to: u8) -> Option<u32> {
        let direction = Direction::between(&self.id(from), &self.id(to));
        let channel = self.graph(1).channel(scid(block))?;
        Some(channel.policy(direction)?.fee_base_msat)
    }

    fn output(&mut self, block: u32, a: u8, b: u8) {
        let m = announcement(&self.secp, scid(block), a, b);
        let output = TxOut {
            value: Amount::from_sat(1_000_000),
            script_pubkey: funding_script(&m),
        };
        self.outputs.insert(scid(block), output);
    }

    fn filter(&mut self, peer: u8) {
        let filter = GossipTimestampFilter {
            chain_hash: ChainHash::REGTEST,
            first_timestamp: 0,
            timestamp_range: u32::MAX,
        };
        self.inject(peer, 1, filter);
        self.pass(3_000);
    }

    /// Names of messages about the network that 1 sent to a peer.
    fn told(&self, peer: u8) -> usize {
        let about = |message: &Message| {
            matches!(
                message,
                Message::ChannelAnnouncement(_)
                    | Message::ChannelUpdate(_)
                    | Message::NodeAnnouncement(_)
            )
        };
        self.log
            .iter()
            .filter(|(from, to, message)| (*from, *to) == (1, peer) && about(message))
            .count()
    }
}

#[test]
fn a_snapshot_fills_an_empty_graph_and_is_told_to_nobody() {
    let mut net = Net::new(1);
    net.connect(1, 8);
    net.output(120, 20, 21);
    net.output(121, 21, 22);
    net.take(&[(scid(120), 20, 21), (scid(121), 21, 22)]);
    let graph = net.graph(1);
    assert_eq!((graph.node_count(), graph.channel_count()), (3, 2));
    assert_eq!(graph.edges().len(), 4);
    assert_eq!(graph.unsigned_until(), STAMP + 7 * 86_400);
    assert_eq!(net.fee(120, 20, 21), Some(4_242));
    let details = graph.node_details(&net.id(20)).unwrap();
    assert_eq!(details.features.to_be_bytes(), [2, 0]);
    net.filter(8);
    net.pass(120_000);
    assert_eq!(net.told(8), 0);
    // Nor when it is asked which channels there are.
    let other = fulmen_gossip::GossipConfig::new(ChainHash::REGTEST, net.id(2));
    net.nodes.insert(2, fulmen_gossip::Gossip::new(other));
    net.connect(1, 2);
    net.pass(5_000);
    assert_eq!(net.graph(2).channel_count(), 0);
}

#[test]
fn what_is_signed_takes_its_place_whatever_its_time() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.connect(1, 8);
    net.filter(8);
    net.output(120, 20, 21);
    net.take(&[(scid(120), 20, 21)]);
    // Older than the snapshot's changes are said to be.
    let old = u64::from(STAMP) - 86_400;
    let m = announcement(&net.secp, scid(120), 20, 21);
    net.inject(9, 1, m);
    let m = update(&net.secp, scid(120), 20, 21, old);
    net.inject(9, 1, m.clone());
    let node = node_announcement(&net.secp, 20, old);
    net.inject(9, 1, node.clone());
    assert_eq!(net.fee(120, 20, 21), Some(1_000));
    assert_eq!(net.fee(120, 21, 20), Some(4_242));
    let channel = net.graph(1).channel(scid(120)).unwrap();
    assert_eq!(channel.capacity, Some(Amount::from_sat(1_000_000)));
    let details = net.graph(1).node_details(&net.id(20)).unwrap();
    assert_eq!(u64::from(details.timestamp), old);
    assert!(details.alias.starts_with(b"node"));
    // These three are passed on, and nothing else.
    net.pass(3_000);
    assert_eq!(net.told(8), 3);
    // Once more: known.
    net.inject(9, 1, m);
    net.inject(9, 1, node);
    net.pass(3_000);
    assert_eq!(net.told(8), 3);
}

#[test]
fn newer_signed_gossip_stays_and_older_gives_way() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    for block in [120, 121] {
        net.output(block, 20, 21);
        let m = announcement(&net.secp, scid(block), 20, 21);
        net.inject(9, 1, m);
    }
    // Signed after the snapshot's stamp, and a day before.
    for (block, time) in [(120, STAMP), (121, STAMP - 86_400)] {
        let m = update(&net.secp, scid(block), 20, 21, u64::from(time));
        net.inject(9, 1, m);
    }
    net.take(&[(scid(120), 20, 21), (scid(121), 20, 21)]);
    assert_eq!(net.fee(120, 20, 21), Some(1_000));
    assert_eq!(net.fee(121, 20, 21), Some(4_242));
    // The channels are as their ends have announced them.
    let channel = net.graph(1).channel(scid(121)).unwrap();
    assert_eq!(channel.capacity, Some(Amount::from_sat(1_000_000)));
    // Whoever asks gets what was signed.
    net.connect(1, 8);
    net.filter(8);
    let m = update(&net.secp, scid(121), 20, 21, u64::from(STAMP - 86_400));
    assert!(net.log.contains(&(1, 8, Message::ChannelUpdate(m))));
    // And the next signed update goes before the snapshot.
    let m = update(&net.secp, scid(121), 20, 21, u64::from(STAMP - 80_000));
    net.inject(9, 1, m);
    assert_eq!(net.fee(121, 20, 21), Some(1_000));
}

#[test]
fn updates_of_peers_count_for_channels_that_only_a_snapshot_knows() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.output(120, 20, 21);
    net.take(&[(scid(120), 20, 21)]);
    let older = update(&net.secp, scid(120), 20, 21, u64::from(STAMP));
    net.inject(9, 1, older);
    assert_eq!(net.fee(120, 20, 21), Some(4_242));
    let newer = update(&net.secp, scid(120), 20, 21, u64::from(STAMP) + 1);
    let mut forged = newer.clone();
    forged.fee_base_msat = 0;
    net.inject(9, 1, forged);
    assert_eq!(net.misbehaved.len(), 1);
    net.inject(9, 1, newer);
    assert_eq!(net.fee(120, 20, 21), Some(1_000));
}

#[test]
fn a_snapshot_that_is_wrong_about_the_ends_is_put_right() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.output(120, 20, 21);
    net.take(&[(scid(120), 30, 31)]);
    assert!(net.fee(120, 30, 31).is_some());
    let m = announcement(&net.secp, scid(120), 20, 21);
    net.inject(9, 1, m);
    let channel = net.graph(1).channel(scid(120)).unwrap();
    let ends = BTreeSet::from([channel.node_1, channel.node_2]);
    assert_eq!(ends, BTreeSet::from([net.id(20), net.id(21)]));
    assert_eq!(channel.policies, [None, None]);
    assert!(net.graph(1).find_node(&net.id(30)).is_none());
}

#[test]
fn our_own_channels_are_none_of_its_business() {
    let mut net = Net::new(1);
    net.connect(1, 2);
    // A private channel of ours, and one between strangers that has its name; a channel of ours that isn't;
    // one that has the name that our peer knows it by.
    let own = OwnChannel {
        id: scid(120),
        id_for_peer: scid(121),
        peer: net.id(2),
        capacity: Amount::from_sat(1_000_000),
        policy: OwnPolicy {
            fee_base_msat: 1,
            fee_proportional_millionths: 1,
            cltv_expiry_delta: CltvExpiryDelta::new(40),
            htlc_minimum: Msat::new(1),
            htlc_maximum: Msat::from_sat(900_000),
        },
    };
    net.input(1, GossipInput::OwnChannel(own));
    net.take(&[(scid(120), 20, 21), (scid(121), 20, 21), (scid(122), 1, 20)]);
    assert_eq!(net.graph(1).channel_count(), 0);
    let applied = net.nodes[&1].unsigned_applied();
    assert_eq!((applied.channels_added, applied.channels_refused), (0, 3));
    // Ours is still private.
    net.input(1, GossipInput::OwnChannelUp(scid(120)));
    let updates: Vec<_> = net
        .log
        .iter()
        .filter_map(|(_, _, message)| match message {
            Message::ChannelUpdate(update) => Some(update.dont_forward()),
            _ => None,
        })
        .collect();
    assert_eq!(updates, [true]);
}

#[test]
fn the_chain_is_asked_and_what_is_not_there_is_forgotten() {
    let mut net = Net::new(1);
    net.output(120, 20, 21);
    net.outputs.insert(
        scid(122),
        TxOut {
            value: Amount::from_sat(5),
            script_pubkey: ScriptBuf::new(),
        },
    );
    net.take(&[
        (scid(120), 20, 21),
        (scid(121), 20, 21),
        (scid(122), 20, 21),
    ]);
    assert_eq!(net.graph(1).channel_count(), 3);
    net.pass(3_000);
    let left: Vec<_> = net
        .graph(1)
        .channels()
        .map(|c| (c.short_channel_id, c.capacity))
        .collect();
    assert_eq!(left, [(scid(120), Some(Amount::from_sat(1_000_000)))]);
}

#[test]
fn channels_nobody_speaks_of_go_with_the_next_snapshot() {
    let mut net = Net::new(1);
    net.output(120, 20, 21);
    net.output(121, 20, 21);
    let mut changes = snapshot(&net, &[(scid(120), 20, 21), (scid(121), 20, 21)]);
    changes.policies.retain(|p| p.short_channel_id == scid(120));
    net.input(1, GossipInput::Unsigned(Arc::new(changes)));
    assert_eq!(net.graph(1).channel_count(), 2);
    net.input(1, GossipInput::Unsigned(Arc::new(empty())));
    assert_eq!(net.graph(1).channel_count(), 1);
    // Two weeks after its time the rest goes too, however much it is.
    net.now += 8 * 86_400_000;
    net.pass(200);
    assert_eq!(net.graph(1).channel_count(), 0);
    assert_eq!(net.graph(1).node_count(), 0);
}

fn rules<'a>(us: &'a NodeId, own: &'a BTreeSet<ShortChannelId>, max: usize) -> UnsignedRules<'a> {
    UnsignedRules {
        us,
        own_channels: own,
        max_channels: max,
    }
}

#[test]
fn a_graph_grows_to_its_bound_and_no_further() {
    let net = Net::new(0);
    let all: Vec<_> = (0..20).map(|i| (scid(100 + i), 20, 21)).collect();
    let changes = snapshot(&net, &all);
    let (us, own) = (net.id(1), BTreeSet::new());
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    let applied = writer.apply_unsigned(&changes, &rules(&us, &own, 7));
    assert_eq!((applied.channels_added, applied.channels_refused), (7, 13));
    assert_eq!((applied.policies_set, applied.policies_skipped), (14, 26));
    assert_eq!(writer.channel_count(), 7);
    // Another chain's is not looked at.
    let mut other = GraphWriter::new(ChainHash::BITCOIN);
    other.apply_unsigned(&changes, &rules(&us, &own, 7));
    assert_eq!((other.channel_count(), other.unsigned_until()), (0, 0));
}

#[test]
fn changes_of_what_is_not_known_are_left_out() {
    let net = Net::new(0);
    let (us, own) = (net.id(1), BTreeSet::new());
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    let mut changes = snapshot(&net, &[(scid(100), 20, 21)]);
    let changed = UnsignedTerms::Changed(ChangedTerms {
        fee_base_msat: Some(1),
        ..ChangedTerms::default()
    });
    changes.policies[0].terms = changed;
    changes.policies[1].terms = UnsignedTerms::Full(Terms {
        htlc_maximum: Msat::from_amount(Amount::MAX_MONEY)
            .checked_add(Msat::new(1))
            .unwrap(),
        ..TERMS
    });
    let applied = writer.apply_unsigned(&changes, &rules(&us, &own, 10));
    assert_eq!((applied.policies_set, applied.policies_skipped), (0, 2));
}

/// Ends of a channel, and whether each has a policy.
type Drawn = (u64, u8, u8, bool);

proptest! {
    /// In one go or one by one: the same graph.
    #[test]
    fn a_snapshot_does_what_single_changes_do(
        before in proptest::collection::vec((0..60u64, 0..12u8, 0..12u8, any::<bool>()), 0..25),
        told in proptest::collection::vec((0..60u64, 0..12u8, 0..12u8, any::<bool>()), 0..40),
        gone in proptest::collection::btree_set(0..60u64, 0..40),
    ) {
        let node = |n: u8| NodeId::new([n; 33]);
        let us = node(99);
        let own = BTreeSet::new();
        let policy = |timestamp| Policy {
            htlc_minimum: TERMS.htlc_minimum,
            htlc_maximum: TERMS.htlc_maximum,
            timestamp,
            fee_base_msat: TERMS.fee_base_msat,
            fee_proportional_millionths: TERMS.fee_proportional_millionths,
            cltv_expiry_delta: TERMS.cltv_expiry_delta,
            disabled: false,
        };
        let add = |writer: &mut GraphWriter, (id, a, b, speaks): &Drawn, timestamp| {
            let scid = ShortChannelId::from_u64(*id);
            let _ = writer.add_channel(&NewChannel {
                short_channel_id: scid,
                node_1: node(*a.min(b)),
                node_2: node(*a.max(b)),
                capacity: None,
                features: Features::empty(),
            });
            if *speaks {
                let _ = writer.update_policy(scid, Direction::Forward, policy(timestamp));
            }
        };
        let mut single = GraphWriter::new(ChainHash::REGTEST);
        for drawn in &before {
            add(&mut single, drawn, STAMP - 1);
        }
        let mut batched = single.clone();
        let mut told = told;
        told.sort();
        told.dedup_by_key(|(id, ..)| *id);
        let mut changes = empty();
        // Each node twice, and in no order.
        changes.nodes = (0..12).rev().chain(0..12).map(node).collect();
        for drawn in &told {
            let (id, a, b, speaks) = drawn;
            add(&mut single, drawn, STAMP);
            let scid = ShortChannelId::from_u64(*id);
            changes.channels.push(UnsignedChannel {
                short_channel_id: scid,
                nodes: [u32::from(11 - a.min(b)), 12 + u32::from(*a.max(b))],
                features: Kept::default(),
                capacity: None,
            });
            if *speaks {
                changes.policies.push(UnsignedPolicy {
                    short_channel_id: scid,
                    direction: Direction::Forward,
                    disabled: false,
                    terms: UnsignedTerms::Full(TERMS),
                });
            }
        }
        batched.apply_unsigned(&changes, &rules(&us, &own, 1_000));
        let same = |single: &mut GraphWriter, batched: &mut GraphWriter| {
            let (single, batched) = (single.snapshot(), batched.snapshot());
            prop_assert!(single.nodes().eq(batched.nodes()));
            prop_assert!(single.channels().eq(batched.channels()));
            prop_assert_eq!(single.edges().len(), batched.edges().len());
            Ok(())
        };
        same(&mut single, &mut batched)?;
        // And many are forgotten as each is.
        let gone: Vec<ShortChannelId> = gone.into_iter().map(ShortChannelId::from_u64).collect();
        let mut nodes_gone = BTreeSet::new();
        for scid in &gone {
            nodes_gone.extend(single.remove_channel(*scid).into_iter().flatten());
        }
        let at_once: BTreeSet<NodeId> = batched.remove_channels(&gone).into_iter().collect();
        prop_assert_eq!(at_once, nodes_gone);
        same(&mut single, &mut batched)?;
        // The slots that are free are used again.
        for drawn in &before {
            add(&mut single, drawn, STAMP + 1);
            add(&mut batched, drawn, STAMP + 1);
        }
        same(&mut single, &mut batched)?;
    }
}
