//! What a server could send to harm us: every field is refused by its name, and nothing grows.
#![allow(clippy::unwrap_used)]

mod common;

use bitcoin::{Amount, constants::ChainHash};
use fulmen_gossip::{GraphWriter, UnsignedGraph};
use fulmen_rapid_gossip_sync::{DecodeError, Field, Problem, decode};
use fulmen_types::{
    ShortChannelId, Timestamp,
    codec::{BigSize, Encode},
};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn read(bytes: &[u8]) -> Result<UnsignedGraph, DecodeError> {
    decode(bytes, ChainHash::REGTEST, Timestamp::from_secs(NOW))
}

fn refused(bytes: &[u8], field: Field, problem: Problem) {
    assert_eq!(read(bytes), Err(DecodeError { field, problem }));
}

/// A snapshot in the making.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(version: u8, seen: u64) -> Self {
        let bytes = Self(b"LDK".to_vec()).hex(&[version]);
        let chain = ChainHash::REGTEST;
        bytes.hex(chain.as_ref()).u32(u32::try_from(seen).unwrap())
    }

    /// Version 1 with three nodes.
    fn with_nodes() -> Self {
        let mut bytes = Self::new(1, NOW).u32(3);
        for id in [[2; 33], [3; 33], [2; 33]] {
            bytes = bytes.hex(&id);
        }
        bytes
    }

    fn hex(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.hex(&value.to_be_bytes())
    }

    fn big(mut self, value: u64) -> Self {
        BigSize(value).encode(&mut self.0);
        self
    }

    fn channel(self, delta: u64, node_1: u64, node_2: u64) -> Self {
        self.hex(&[0, 0]).big(delta).big(node_1).big(node_2)
    }

    fn defaults(self) -> Self {
        self.hex(&[0; 26])
    }
}

fn vectors() -> [Vec<u8>; 4] {
    [
        include_str!("../vectors/v1-full.txt"),
        include_str!("../vectors/v1-incremental.txt"),
        include_str!("../vectors/v2-full.txt"),
        include_str!("../vectors/v2-incremental.txt"),
    ]
    .map(|text| common::vector(text).0)
}

#[test]
fn every_cut_is_an_error() {
    for bytes in vectors() {
        assert!(read(&bytes).is_ok());
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn what_is_no_snapshot_or_of_another_version() {
    refused(b"", Field::Prefix, Problem::Truncated);
    refused(b"<html>", Field::Prefix, Problem::NotASnapshot);
    refused(b"LDK\x03", Field::Version, Problem::UnknownVersion(3));
    refused(b"LDK\x00", Field::Version, Problem::UnknownVersion(0));
}

#[test]
fn another_chain_and_another_time() {
    let whole = |seen| Bytes::new(1, seen).hex(&[0; 12]).0;
    let other = decode(&whole(NOW), ChainHash::BITCOIN, Timestamp::from_secs(NOW));
    let problem = Problem::OtherChain;
    let field = Field::ChainHash;
    assert_eq!(other, Err(DecodeError { field, problem }));
    let seen = Field::LatestSeen;
    assert!(read(&whole(NOW - 14 * DAY)).is_ok());
    refused(&whole(NOW - 14 * DAY - 1), seen, Problem::TooOld);
    assert!(read(&whole(NOW + DAY)).is_ok());
    refused(&whole(NOW + DAY + 1), seen, Problem::FromTheFuture);
}

#[test]
fn counts_that_the_data_can_not_hold() {
    let nodes = Bytes::new(1, NOW).u32(u32::MAX).hex(&[2; 66]).0;
    refused(&nodes, Field::NodeCount, Problem::TooMany);
    let channels = Bytes::with_nodes().u32(3).hex(&[0; 14]).0;
    refused(&channels, Field::ChannelCount, Problem::TooMany);
    let updates = Bytes::with_nodes().u32(0).u32(20).hex(&[0; 39]).0;
    refused(&updates, Field::UpdateCount, Problem::TooMany);
    // As much as there could be, were there enough data.
    let many = Bytes::new(1, NOW)
        .u32(400_001)
        .hex(&vec![2; 33 * 400_001])
        .0;
    refused(&many, Field::NodeCount, Problem::TooMany);
}

#[test]
fn default_features_do_not_multiply() {
    let field = Field::DefaultFeatures;
    let seven = Bytes::new(2, NOW).hex(&[7]).hex(&[0; 14]).0;
    refused(&seven, field, Problem::TooMany);
    let long = Bytes::new(2, NOW).hex(&[1, 2, 1]).hex(&[0; 513]).0;
    refused(&long, field, Problem::TooLong);
    // The third of two.
    let missing = Bytes::new(2, NOW)
        .hex(&[2, 0, 0, 0, 0])
        .u32(1)
        .hex(&[3 << 3 | 2])
        .hex(&[1; 32])
        .0;
    refused(&missing, Field::NodeFeatures, Problem::OutOfRange);
}

#[test]
fn keys_that_are_none() {
    for first in [0, 1, 4] {
        let bytes = Bytes::new(1, NOW).u32(1).hex(&[first]).hex(&[1; 32]).0;
        refused(&bytes, Field::NodeId, Problem::NoKey);
    }
    for parity in [0, 1] {
        let bytes = Bytes::new(2, NOW).hex(&[0]).u32(1).hex(&[0x40 | parity]);
        refused(&bytes.hex(&[1; 32]).0, Field::NodeId, Problem::NoKey);
    }
}

#[test]
fn an_address_with_bytes_left_over() {
    let bytes = Bytes::new(2, NOW)
        .hex(&[0])
        .u32(1)
        .hex(&[0x06])
        .hex(&[1; 32])
        .hex(&[1, 8, 1, 127, 0, 0, 1, 38, 7, 0]);
    refused(&bytes.0, Field::NodeAddresses, Problem::LeftOver);
}

#[test]
fn nodes_that_are_not_there_or_in_the_wrong_order() {
    let field = Field::ChannelNodes;
    for (node_1, node_2) in [
        (0, 3),
        (3, 1),
        (0, u64::MAX >> 1),
        (1 << 32, 1),
        (0, 1 << 63 | 1),
    ] {
        let bytes = Bytes::with_nodes().u32(1).channel(1, node_1, node_2);
        refused(&bytes.0, field, Problem::OutOfRange);
    }
    // Itself, itself under another index, the other way round.
    for (node_1, node_2) in [(0, 0), (0, 2), (1, 0)] {
        let bytes = Bytes::with_nodes().u32(1).channel(1, node_1, node_2);
        refused(&bytes.0, field, Problem::NotOrdered);
    }
}

#[test]
fn a_channel_twice_and_beyond_the_last() {
    let twice = Bytes::with_nodes()
        .u32(2)
        .channel(5, 0, 1)
        .channel(0, 0, 1)
        .0;
    let scid = ShortChannelId::from_u64(5);
    refused(&twice, Field::ChannelId, Problem::Duplicate(scid));
    let beyond = Bytes::with_nodes()
        .u32(2)
        .channel(u64::MAX, 0, 1)
        .channel(1, 0, 1);
    refused(&beyond.0, Field::ChannelId, Problem::Overflow);
    let longer = Bytes::with_nodes().u32(1).hex(&[0, 0, 0xfd, 0, 5, 0, 1]);
    refused(&longer.0, Field::ChannelId, Problem::NonMinimal);
}

#[test]
fn more_money_than_there_is() {
    let sat = Amount::MAX_MONEY.to_sat() + 1;
    let bytes = Bytes::new(2, NOW)
        .hex(&[0])
        .u32(2)
        .hex(&[2; 33])
        .hex(&[3; 33]);
    let bytes = bytes.u32(1).channel(1, 0, 1 << 63 | 1);
    let bytes = bytes.hex(&[0, 9]).big(sat).0;
    refused(&bytes, Field::ChannelExtra, Problem::TooMuch);
}

#[test]
fn an_update_twice_and_beyond_the_last() {
    let scid = ShortChannelId::from_u64(5);
    let duplicate = Problem::Duplicate(scid);
    // Forward, backward, forward again: in version 2 too this is no additional data.
    let start = |version| {
        let bytes = Bytes::new(version, NOW);
        let bytes = if version == 2 { bytes.hex(&[0]) } else { bytes };
        bytes.u32(0).u32(0)
    };
    for version in [1, 2] {
        let bytes = start(version).u32(3).defaults();
        let bytes = bytes.hex(&[5, 0, 0, 1, 0, 0]).0;
        refused(&bytes, Field::UpdateId, duplicate);
    }
    let again = start(1).u32(2).defaults().hex(&[5, 0, 0, 0]).0;
    refused(&again, Field::UpdateId, duplicate);
    // The same bytes are additional data there.
    let extra = start(2).u32(2).defaults().hex(&[5, 0, 0, 0, 0, 1, 9]).0;
    assert_eq!(read(&extra).unwrap().policies.len(), 1);
    let beyond = start(1).u32(2).defaults().big(u64::MAX).hex(&[0, 1, 0]).0;
    refused(&beyond, Field::UpdateId, Problem::Overflow);
}

#[test]
fn a_refused_snapshot_changes_nothing() {
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    let [first, second, ..] = vectors();
    common::apply(&mut writer, &read(&first).unwrap());
    let before = common::show(&writer.snapshot());
    // Cut within its last update: by then nearly all of it was read.
    assert!(read(&second[..second.len() - 1]).is_err());
    assert_eq!(common::show(&writer.snapshot()), before);
}

/// The bytes that a decoded snapshot holds.
fn held(graph: &UnsignedGraph) -> usize {
    fn of<T>(list: &Vec<T>) -> usize {
        list.capacity() * size_of::<T>()
    }
    of(&graph.nodes) + of(&graph.details) + of(&graph.channels) + of(&graph.policies)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_comes_is_bounded(
        which in 0..4usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        tail in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = vectors()[which].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.extend(tail);
        if let Ok(graph) = read(&bytes) {
            prop_assert!(held(&graph) <= 1_000 + bytes.len() * 40);
            let mut writer = GraphWriter::new(ChainHash::REGTEST);
            let applied = common::apply(&mut writer, &graph);
            prop_assert_eq!(applied.channels_refused, 0);
            prop_assert!(writer.snapshot().memory() <= 4_000 + bytes.len() * 80);
        }
    }
}
