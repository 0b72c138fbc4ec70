//! What peers can make the machine do is bounded, and what it asks of them is shared out.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, TxOut};
use common::*;
use fulmen_gossip::{GossipInput, funding_script};
use fulmen_types::{BlockHeight, ShortChannelId, codec::Encode};
use fulmen_wire::{
    GossipTimestampFilter, Message, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd,
};

impl Net {
    fn announce(&mut self, from: u8, block: u32) {
        let m = announcement(&self.secp, scid(block), 20, 21);
        let output = TxOut {
            value: Amount::from_sat(1_000_000),
            script_pubkey: funding_script(&m),
        };
        self.outputs.insert(scid(block), output);
        self.inject(from, 1, m);
    }

    fn learn(&mut self, from: u8, block: u32) {
        self.announce(from, block);
        for (a, b) in [(20, 21), (21, 20)] {
            let m = update(&self.secp, scid(block), a, b, START);
            self.inject(from, 1, m);
        }
    }

    /// A peer says which channels there are, and that these are all.
    fn has(&mut self, from: u8, ids: Vec<ShortChannelId>) {
        let m = ReplyChannelRange {
            chain_hash: ChainHash::REGTEST,
            first_blocknum: 0,
            number_of_blocks: u32::MAX,
            sync_complete: true,
            encoded_short_ids: ids,
            timestamps_tlv: None,
            checksums_tlv: None,
        };
        self.inject(from, 1, m);
    }

    fn ends(&mut self, from: u8) {
        let m = ReplyShortChannelIdsEnd {
            chain_hash: ChainHash::REGTEST,
            full_information: true,
        };
        self.inject(from, 1, m);
    }

    fn listen(&mut self, from: u8) {
        let m = GossipTimestampFilter {
            chain_hash: ChainHash::REGTEST,
            first_timestamp: 0,
            timestamp_range: u32::MAX,
        };
        self.inject(from, 1, m);
    }

    /// All that a peer was asked for, query by query.
    fn queries(&self, to: u8) -> Vec<Vec<ShortChannelId>> {
        self.log
            .iter()
            .filter_map(|(_, peer, m)| match m {
                Message::QueryShortChannelIds(m) if *peer == to => {
                    Some(m.encoded_short_ids.clone())
                }
                _ => None,
            })
            .collect()
    }

    fn tip(&mut self, height: u32) {
        self.input(1, GossipInput::Tip(BlockHeight::new(height)));
        self.deliver();
    }
}

#[test]
fn who_breaks_rules_again_and_again_is_not_heard_any_more() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.connect(1, 8);
    for _ in 0..100 {
        let mut forged = announcement(&net.secp, scid(100), 20, 21);
        forged.bitcoin_signature_1 = forged.node_signature_2;
        net.inject(9, 1, forged);
    }
    assert_eq!(net.misbehaved.len(), 21);
    net.learn(9, 101);
    assert_eq!(net.graph(1).channel_count(), 0);
    net.learn(8, 101);
    assert_eq!(net.graph(1).channel_count(), 1);
    // On a new connection it may try again.
    net.connect(1, 9);
    net.learn(9, 102);
    assert_eq!(net.graph(1).channel_count(), 2);
}

#[test]
fn updates_before_their_announcement_are_not_kept() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    for block in 1..=5_000 {
        let mut m = update(&net.secp, scid(150), 20, 21, START);
        m.short_channel_id = scid(block);
        net.inject(9, 1, m);
    }
    assert_eq!(net.misbehaved, []);
    net.announce(9, 150);
    let channel = net.graph(1).channel(scid(150)).unwrap();
    assert_eq!(channel.policies, [None, None]);
}

#[test]
fn a_channel_that_is_not_deep_enough_is_asked_for_once_it_is() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.has(9, vec![]);
    // The tip is 200, and may lag two blocks behind.
    net.announce(9, 197);
    net.announce(9, 198);
    assert_eq!(net.graph(1).channel_count(), 1);
    assert_eq!(net.queries(9), Vec::<Vec<_>>::new());
    net.tip(201);
    assert_eq!(net.queries(9), [[scid(198)]]);
    net.announce(9, 198);
    net.ends(9);
    assert_eq!(net.graph(1).channel_count(), 2);

    // No flood of them is remembered.
    for block in 1_000..3_000 {
        let mut m = announcement(&net.secp, scid(198), 20, 21);
        m.short_channel_id = scid(block);
        net.inject(9, 1, m);
    }
    net.tip(100_000);
    let asked: usize = net.queries(9)[1..].iter().map(Vec::len).sum();
    assert_eq!(asked, 100);
}

#[test]
fn no_channel_is_asked_for_twice_unless_a_peer_fails() {
    let mut net = Net::new(1);
    for peer in [7, 8, 9] {
        net.connect(1, peer);
    }
    let all: Vec<_> = (1..=1_200).map(scid).collect();
    for peer in [7, 8, 9] {
        net.has(peer, all.clone());
    }
    let mut asked = BTreeSet::new();
    for peer in [7, 8, 9] {
        let queries = net.queries(peer);
        assert_eq!(queries.len(), 1, "{peer}");
        for scid in &queries[0] {
            assert!(asked.insert(*scid), "{scid} twice");
        }
    }
    assert_eq!(asked.len(), 1_200);
    // Two say that they know none of them; the third says nothing.
    let silent = net.queries(7)[0].clone();
    for _ in 0..3 {
        net.ends(8);
        net.ends(9);
    }
    net.pass(25_000);
    let again: BTreeSet<_> = [8, 9]
        .into_iter()
        .flat_map(|peer| net.queries(peer).split_off(1))
        .flatten()
        .collect();
    assert!(silent.iter().all(|scid| again.contains(scid)));
}

#[test]
fn a_peer_that_gives_channels_one_by_one_holds_them_up_for_a_minute() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.has(9, (1..=150).map(scid).collect());
    for block in 1..=12 {
        net.pass(9_000);
        net.announce(9, block);
    }
    // It was given up, and asked for live gossip and all that it has in another way.
    assert!(net.nodes[&1].is_synced());
    assert_eq!(net.sent(1, 9, "gossip_timestamp_filter"), 1);
}

#[test]
fn answers_that_come_too_late_are_no_offence() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    assert_eq!(net.sent(1, 9, "query_channel_range"), 1);
    net.pass(120_000);
    // Given up. A slow node on a small machine answers after all, in many parts.
    for block in 1..=30 {
        net.has(9, vec![scid(block)]);
        net.ends(9);
    }
    assert_eq!(net.misbehaved, []);
}

#[test]
fn a_great_broadcast_comes_in_portions_and_not_while_a_peer_is_busy() {
    let mut net = Net::new(1);
    for peer in [8, 9] {
        net.connect(1, peer);
        net.listen(peer);
    }
    for block in 1..=190 {
        net.learn(7, block);
    }
    net.connect(1, 7);
    for block in 1..=190 {
        net.learn(7, block);
    }
    let peer = net.id(8);
    net.input(
        1,
        GossipInput::PeerBusy {
            peer,
            is_busy: true,
        },
    );
    let messages =
        |net: &Net, to| net.sent(1, to, "channel_announcement") + net.sent(1, to, "channel_update");
    let mut last = 0;
    for _ in 0..50 {
        net.pass(100);
        let now = messages(&net, 9);
        assert!(now - last <= 400, "{now} after {last}");
        last = now;
    }
    assert_eq!(last, 3 * 190);
    assert_eq!(messages(&net, 8), 0);
    net.input(
        1,
        GossipInput::PeerBusy {
            peer,
            is_busy: false,
        },
    );
    net.pass(1_000);
    assert_eq!(messages(&net, 8), 3 * 190);
    assert_eq!(messages(&net, 7), 0);
}

#[test]
fn one_node_can_not_flood_nor_speak_of_the_future() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.learn(9, 100);
    let id = net.id(20);
    let m = node_announcement(&net.secp, 20, START + 2 * 24 * 3_600);
    net.inject(9, 1, m);
    assert!(net.graph(1).node_details(&id).is_none());
    for i in 0..100 {
        let m = node_announcement(&net.secp, 20, START + i);
        net.inject(9, 1, m);
    }
    let taken = u64::from(net.graph(1).node_details(&id).unwrap().timestamp) - START;
    assert!(taken < 25, "{taken}");
    assert_eq!(net.misbehaved, []);
}

#[test]
fn one_peer_after_the_other_is_asked_for_what_we_may_have_missed() {
    let mut net = Net::new(1);
    for peer in 2..=9 {
        net.connect(1, peer);
        net.has(peer, vec![]);
    }
    net.misbehaved.clear();
    let live = net.sent_to_all("gossip_timestamp_filter");
    net.log.clear();
    for turn in 0..8 {
        net.pass(600_000);
        let asked = net.sent_to_all("query_channel_range");
        assert_eq!(asked.len(), turn + 1);
        net.has(*asked.last().unwrap(), vec![]);
    }
    let asked: BTreeSet<u8> = net.sent_to_all("query_channel_range").into_iter().collect();
    assert_eq!(asked.len(), 8);
    // Who was asked in passing is not asked for live gossip.
    assert_eq!(live.len(), 4);
    assert_eq!(net.sent_to_all("gossip_timestamp_filter"), []);
}

impl Net {
    fn sent_to_all(&self, name: &str) -> Vec<u8> {
        let is = |m: &&(u8, u8, Message)| m.0 == 1 && m.2.name() == name;
        self.log.iter().filter(is).map(|m| m.1).collect()
    }
}

#[test]
fn compressed_ids_are_no_message() {
    let reply = ReplyChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: 1,
        sync_complete: true,
        encoded_short_ids: vec![scid(1)],
        timestamps_tlv: None,
        checksums_tlv: None,
    };
    let query = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        encoded_short_ids: vec![scid(1)],
        query_flags: None,
    };
    // The encoding comes after type and what is before the ids, and their length.
    for (message, before) in [
        (Message::from(reply), 2 + 32 + 4 + 4 + 1 + 2),
        (query.into(), 2 + 32 + 2),
    ] {
        let mut bytes = message.encode();
        let mut ids = vec![0];
        scid(1).encode(&mut ids);
        assert_eq!(bytes[before..before + 9], ids);
        assert!(Message::decode(&bytes).is_ok());
        bytes[before] = 1;
        assert!(Message::decode(&bytes).is_err());
    }
}
