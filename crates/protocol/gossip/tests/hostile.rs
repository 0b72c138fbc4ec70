//! A machine and peers that do not follow the rules, or ask for much.
#![allow(clippy::unwrap_used)]

mod common;

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::Message as Digest;
use bitcoin::{Amount, TxOut};
use common::*;
use fulmen_gossip::{SignedMessages, funding_script};
use fulmen_types::ShortChannelId;
use fulmen_wire::{
    ChannelAnnouncement, ChannelUpdate, GossipTimestampFilter, Message, QueryChannelRange,
    QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
};

/// Node 1 alone; 9 is a hostile peer, 8 one that listens.
fn hostile() -> Net {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.connect(1, 8);
    net
}

impl Net {
    fn real_channel(&mut self, block: u32) -> ChannelAnnouncement {
        let m = announcement(&self.secp, scid(block), 20, 21);
        let output = TxOut {
            value: Amount::from_sat(1_000_000),
            script_pubkey: funding_script(&m),
        };
        self.outputs.insert(scid(block), output);
        m
    }

    fn learn(&mut self, block: u32) {
        let m = self.real_channel(block);
        self.inject(9, 1, m);
        for (from, to) in [(20, 21), (21, 20)] {
            let m = update(&self.secp, scid(block), from, to, START);
            self.inject(9, 1, m);
        }
        let m = node_announcement(&self.secp, 20, START);
        self.inject(9, 1, m);
    }

    fn listen(&mut self) {
        let filter = GossipTimestampFilter {
            chain_hash: ChainHash::REGTEST,
            first_timestamp: 0,
            timestamp_range: u32::MAX,
        };
        self.inject(8, 1, filter);
    }
}

#[test]
fn forgeries_are_refused_and_named() {
    let mut net = hostile();
    let good = net.real_channel(120);
    for field in 0..4 {
        let mut m = good.clone();
        let wrong = sign(&net.secp, &Digest::from_digest([5; 32]), 33);
        match field {
            0 => m.node_signature_1 = wrong,
            1 => m.node_signature_2 = wrong,
            2 => m.bitcoin_signature_1 = wrong,
            _ => m.bitcoin_signature_2 = wrong,
        }
        net.inject(9, 1, m);
        assert_eq!(net.misbehaved.len(), field + 1);
    }
    // Trailing bytes are signed too.
    let mut m = good.clone();
    m.excess_data.push(0);
    net.inject(9, 1, m);
    assert_eq!(net.misbehaved.len(), 5);
    assert_eq!(net.graph(1).channel_count(), 0);
    net.inject(9, 1, good);
    assert_eq!(net.graph(1).channel_count(), 1);

    let mut forged = update(&net.secp, scid(120), 20, 21, START);
    forged.fee_base_msat = 0;
    net.inject(9, 1, forged);
    let mut forged = node_announcement(&net.secp, 20, START);
    forged.timestamp += 1;
    net.inject(9, 1, forged);
    assert_eq!(net.misbehaved.len(), 7);
    assert!(
        net.graph(1)
            .channel(scid(120))
            .unwrap()
            .policies
            .iter()
            .all(Option::is_none)
    );
}

#[test]
fn the_output_must_be_there_and_pay_to_the_keys() {
    let mut net = hostile();
    let m = announcement(&net.secp, scid(121), 20, 21);
    net.inject(9, 1, m);
    let m = net.real_channel(122);
    net.outputs
        .get_mut(&scid(122))
        .unwrap()
        .script_pubkey
        .push_opcode(bitcoin::opcodes::OP_TRUE);
    net.inject(9, 1, m);
    assert_eq!(net.graph(1).channel_count(), 0);
}

#[test]
fn times_that_make_no_sense_are_ignored() {
    let mut net = hostile();
    net.learn(123);
    let day = 24 * 3_600;
    for timestamp in [START + 2 * day, START - 15 * day, START] {
        let mut m = update(&net.secp, scid(123), 20, 21, timestamp);
        m.fee_base_msat = 5;
        m.signature = sign(&net.secp, &m.signature_hash(), 20);
        net.inject(9, 1, m);
    }
    let info = net.graph(1).channel(scid(123)).unwrap();
    assert!(
        info.policies
            .iter()
            .flatten()
            .all(|p| p.fee_base_msat == 1000)
    );
    // What is for us alone is not taken as public.
    let mut m = update(&net.secp, scid(123), 20, 21, START + 1);
    m.message_flags |= ChannelUpdate::DONT_FORWARD;
    m.signature = sign(&net.secp, &m.signature_hash(), 20);
    net.inject(9, 1, m);
    assert_eq!(net.graph(1).channel(scid(123)).unwrap(), info);
}

#[test]
fn one_channel_can_not_flood_and_a_forger_can_not_silence_it() {
    let mut net = hostile();
    net.learn(124);
    for i in 0..200 {
        let mut forged = update(&net.secp, scid(124), 20, 21, START + i + 1);
        forged.fee_base_msat = 1;
        net.inject(9, 1, forged);
    }
    let at = |net: &mut Net| {
        let d = fulmen_gossip::Direction::between(&net.id(20), &net.id(21));
        net.graph(1)
            .channel(scid(124))
            .unwrap()
            .policy(d)
            .unwrap()
            .timestamp
    };
    for i in 0..200 {
        let m = update(&net.secp, scid(124), 20, 21, START + i + 1);
        net.inject(8, 1, m);
    }
    let taken = u64::from(at(&mut net)) - START;
    assert!((50..70).contains(&taken), "{taken}");
}

#[test]
fn nothing_is_relayed_before_a_filter_and_never_back() {
    let mut net = hostile();
    net.learn(125);
    net.pass(5_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 0);
    net.listen();
    net.pass(5_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 1);
    assert_eq!(net.sent(1, 8, "channel_update"), 2);
    assert_eq!(net.sent(1, 8, "node_announcement"), 1);
    net.learn(126);
    net.pass(5_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 2);
    assert_eq!(net.sent(1, 9, "channel_announcement"), 0);
    // The same bytes, what we don't understand included.
    let sent = net.log.iter().find_map(|(.., m)| match m {
        Message::ChannelAnnouncement(m) if m.short_channel_id == scid(125) => Some(m.clone()),
        _ => None,
    });
    assert_eq!(sent, Some(announcement(&net.secp, scid(125), 20, 21)));
}

#[test]
fn a_channel_without_updates_is_not_passed_on_until_it_has_one() {
    let mut net = hostile();
    net.listen();
    let m = net.real_channel(127);
    net.inject(9, 1, m);
    net.pass(3_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 0);
    let m = update(&net.secp, scid(127), 21, 20, START);
    net.inject(9, 1, m);
    net.pass(3_000);
    let names: Vec<&str> = net
        .log
        .iter()
        .filter(|m| (m.0, m.1) == (1, 8) && !m.2.name().contains("filter"))
        .map(|m| m.2.name())
        .filter(|name| name.starts_with("channel"))
        .collect();
    assert_eq!(names, ["channel_announcement", "channel_update"]);
}

#[test]
fn a_query_that_names_a_channel_often_is_answered_once() {
    let mut net = hostile();
    net.learn(128);
    let query = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        encoded_short_ids: vec![scid(128); 8_000],
        query_flags: None,
    };
    net.inject(8, 1, query);
    net.pass(2_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 1);
    assert_eq!(net.sent(1, 8, "node_announcement"), 1);
    assert_eq!(net.sent(1, 8, "reply_short_channel_ids_end"), 1);
}

#[test]
fn much_history_comes_in_portions_however_often_it_is_asked_for() {
    let mut net = hostile();
    for block in 1..=150 {
        net.learn(block);
    }
    net.pass(5_000);
    for _ in 0..50 {
        net.listen();
    }
    assert!(net.sent(1, 8, "channel_announcement") <= 100);
    net.pass(2_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 150 + 100);
    // A second query while one is being answered is an offence, not more work.
    let query = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        encoded_short_ids: (1..=150).map(scid).collect(),
        query_flags: None,
    };
    net.pass(1_000);
    for _ in 0..10 {
        net.inject(8, 1, query.clone());
    }
    assert_eq!(net.misbehaved.len(), 9);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 250 + 100);
    net.pass(1_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 250 + 150);
    assert_eq!(net.sent(1, 8, "reply_short_channel_ids_end"), 1);
}

#[test]
fn answers_that_nobody_asked_for_are_an_offence() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    let range = ReplyChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        sync_complete: true,
        encoded_short_ids: vec![],
        timestamps_tlv: None,
        checksums_tlv: None,
    };
    // The first answers our own query.
    net.inject(9, 1, range.clone());
    assert_eq!(net.misbehaved, []);
    net.inject(9, 1, range);
    let end = ReplyShortChannelIdsEnd {
        chain_hash: ChainHash::REGTEST,
        full_information: true,
    };
    net.inject(9, 1, end);
    assert_eq!(net.misbehaved.len(), 2);
}

#[test]
fn a_range_is_answered_in_parts_that_follow_each_other() {
    let mut net = hostile();
    let secp = net.secp.clone();
    let mut expected = vec![];
    for block in 1..=30u32 {
        for index in 0..100u32 {
            let id = ShortChannelId::from_parts(block, index, 0).unwrap();
            let m = announcement(&secp, id, 20, 21);
            let output = TxOut {
                value: Amount::from_sat(1_000_000),
                script_pubkey: funding_script(&m),
            };
            net.outputs.insert(id, output);
            net.inject(9, 1, m);
            expected.push(id);
        }
    }
    let query = QueryChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        query_option: Some(3),
    };
    net.inject(8, 1, query);
    net.pass(1_000);
    let parts: Vec<ReplyChannelRange> = net
        .log
        .iter()
        .filter_map(|(_, to, m)| match m {
            Message::ReplyChannelRange(m) if *to == 8 => Some(m.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].first_blocknum, 0);
    assert!(!parts[0].sync_complete && parts[1].sync_complete);
    assert!(parts[1].first_blocknum <= parts[0].first_blocknum + parts[0].number_of_blocks);
    assert_eq!(
        parts[1].first_blocknum + parts[1].number_of_blocks,
        u32::MAX
    );
    let ids: Vec<_> = parts
        .iter()
        .flat_map(|p| p.encoded_short_ids.clone())
        .collect();
    assert_eq!(ids, expected);
    for part in &parts {
        let count = part.encoded_short_ids.len();
        assert_eq!(part.timestamps_tlv.as_ref().unwrap().len(), count);
        assert_eq!(part.checksums_tlv.as_ref().unwrap().len(), count);
        assert!(Message::from(part.clone()).fits());
    }
}

#[test]
fn checksums_are_those_of_the_messages() {
    let mut net = hostile();
    net.learn(129);
    let query = QueryChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 100,
        number_of_blocks: 100,
        query_option: Some(QueryChannelRange::WANT_CHECKSUMS),
    };
    net.inject(8, 1, query);
    let sums = net.log.iter().find_map(|(.., m)| match m {
        Message::ReplyChannelRange(m) => m.checksums_tlv.clone(),
        _ => None,
    });
    let sum = |from, to| update(&net.secp, scid(129), from, to, START).checksum();
    let (first, second) = if net.id(20) < net.id(21) {
        (20, 21)
    } else {
        (21, 20)
    };
    assert_eq!(sums.unwrap(), [(sum(first, second), sum(second, first))]);
}

#[test]
fn a_damaged_file_of_messages_is_an_error() {
    let mut net = hostile();
    net.learn(130);
    let good = net.nodes[&1].messages().to_bytes();
    assert_eq!(
        SignedMessages::from_bytes(&good).unwrap().channel_count(),
        1
    );
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(SignedMessages::from_bytes(&bad).is_err(), "{at}");
        assert!(SignedMessages::from_bytes(&good[..at]).is_err(), "{at}");
    }
}

#[test]
fn a_peer_that_answers_no_queries_is_asked_by_a_filter_that_reaches_back() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    let range = ReplyChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        sync_complete: true,
        encoded_short_ids: vec![scid(131)],
        timestamps_tlv: None,
        checksums_tlv: None,
    };
    net.inject(9, 1, range);
    assert_eq!(net.sent(1, 9, "query_short_channel_ids"), 1);
    assert!(!net.nodes[&1].is_synced());
    // Some send all that they have on the first filter only: none before is wasted on live gossip.
    assert_eq!(net.sent(1, 9, "gossip_timestamp_filter"), 0);
    net.pass(11_000);
    assert!(net.nodes[&1].is_synced());
    assert_eq!(net.sent(1, 9, "gossip_timestamp_filter"), 1);
    let last = net.log.iter().rev().find_map(|(.., m)| match m {
        Message::GossipTimestampFilter(m) => Some(u64::from(m.first_timestamp)),
        _ => None,
    });
    let weeks = (START - last.unwrap()) / (7 * 24 * 3_600);
    assert_eq!(weeks, 2);
    net.learn(131);
    assert_eq!(net.graph(1).channel_count(), 1);
}

#[test]
fn a_file_of_messages_of_before_the_outputs_were_kept_is_read() {
    let mut net = hostile();
    net.learn(132);
    let messages = net.nodes[&1].messages();
    let mut old = messages.to_bytes();
    // Magic 4, version 1, counts 8, short id 8, the announcement, the output 36; a checksum at the end.
    let len = usize::from(u16::from_be_bytes([old[21], old[22]]));
    old.drain(23 + len..23 + len + 36);
    old[4] = 1;
    old.truncate(old.len() - 4);
    let checksum = fulmen_gossip::crc32c(&old);
    old.extend_from_slice(&checksum.to_be_bytes());
    let read = SignedMessages::from_bytes(&old).unwrap();
    assert_eq!(read.channel_count(), 1);
    assert_ne!(&read, messages);
    assert_eq!(read.to_bytes().len(), messages.to_bytes().len());
}
