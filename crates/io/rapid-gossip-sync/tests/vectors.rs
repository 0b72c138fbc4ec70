//! Snapshots written down byte by byte, and the graphs that come of them.
#![allow(clippy::unwrap_used)]

mod common;

use bitcoin::constants::ChainHash;
use common::{show, vector};
use fulmen_gossip::GraphWriter;
use fulmen_rapid_gossip_sync::decode;
use fulmen_types::Timestamp;

/// Snapshots that are applied one after the other.
const SERIES: [[&str; 2]; 2] = [
    [
        include_str!("../vectors/v1-full.txt"),
        include_str!("../vectors/v1-incremental.txt"),
    ],
    [
        include_str!("../vectors/v2-full.txt"),
        include_str!("../vectors/v2-incremental.txt"),
    ],
];

#[test]
fn vectors_become_the_graphs_that_they_describe() {
    let now = Timestamp::from_secs(1_800_100_000);
    let mut count = 0;
    for series in SERIES {
        let mut writer = GraphWriter::new(ChainHash::REGTEST);
        for text in series {
            let (bytes, expected) = vector(text);
            let changes = decode(&bytes, ChainHash::REGTEST, now).unwrap();
            common::apply(&mut writer, &changes);
            assert_eq!(show(&writer.snapshot()), expected);
            // The same again changes nothing.
            let again = common::apply(&mut writer, &changes);
            assert_eq!(
                (again.channels_added, again.policies_set, again.nodes_set),
                (0, 0, 0)
            );
            assert_eq!(show(&writer.snapshot()), expected);
            count += 1;
        }
    }
    println!("rapid gossip sync: {count} vectors");
}
