//! What both read, entry by entry.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use bitcoin::{Network as Chain, constants::ChainHash};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, Policy};
use lightning::{
    routing::gossip::{ChannelUpdateInfo, NodeId as LdkNodeId},
    util::ser::Writeable,
};
use lightning_rapid_gossip_sync::RapidGossipSync;

use crate::{LdkGraph, Silent, apply};

const SERIES: [[&str; 2]; 2] = [
    [
        include_str!("../../../../../crates/io/rapid-gossip-sync/vectors/v1-full.txt"),
        include_str!("../../../../../crates/io/rapid-gossip-sync/vectors/v1-incremental.txt"),
    ],
    [
        include_str!("../../../../../crates/io/rapid-gossip-sync/vectors/v2-full.txt"),
        include_str!("../../../../../crates/io/rapid-gossip-sync/vectors/v2-incremental.txt"),
    ],
];
/// Where the time last seen is: behind prefix, version and chain hash.
const SEEN: usize = 36;

pub(crate) fn ldk_graph(chain: ChainHash) -> LdkGraph {
    assert_eq!(
        chain,
        ChainHash::REGTEST,
        "the synthetic network is on regtest"
    );
    LdkGraph::new(Chain::Regtest, Arc::new(Silent))
}

pub(crate) fn ldk_apply(graph: &LdkGraph, bytes: &[u8], now: u32) -> Result<()> {
    RapidGossipSync::new(graph, Arc::new(Silent))
        .update_network_graph_no_std(bytes, Some(u64::from(now)))
        .map(|_| ())
        .map_err(|e| anyhow!("LDK refuses the snapshot: {e:?}"))
}

/// Applies the vectors on both sides, as of today; how many there are.
pub(crate) fn vectors(now: u32) -> Result<usize> {
    let mut count = 0;
    for series in SERIES {
        let mut ours = GraphWriter::new(ChainHash::REGTEST);
        let theirs = ldk_graph(ChainHash::REGTEST);
        for (age, text) in [86_400u32, 0].into_iter().zip(series) {
            let mut bytes = bytes_of(text)?;
            bytes[SEEN..SEEN + 4].copy_from_slice(&(now - age).to_be_bytes());
            apply(&mut ours, &bytes, now)?;
            ldk_apply(&theirs, &bytes, now)?;
            let differing = differences(&ours.snapshot(), &theirs)?;
            if differing > 0 {
                return Err(anyhow!("vector {count}: {differing} entries differ"));
            }
            count += 1;
        }
    }
    Ok(count)
}

fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let digits: String = text
        .lines()
        .filter(|line| !line.starts_with('>'))
        .map(|line| line.split('#').next().unwrap_or_default())
        .collect();
    let digits: Vec<char> = digits.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| Ok(u8::from_str_radix(&pair.iter().collect::<String>(), 16)?))
        .collect()
}

/// How many channels, policies and nodes are not the same on both sides.
pub(crate) fn differences(ours: &NetworkGraph, theirs: &LdkGraph) -> Result<usize> {
    let theirs = theirs.read_only();
    let mut differing = ours.channel_count().abs_diff(theirs.channels().len())
        + ours.node_count().abs_diff(theirs.nodes().len());
    for channel in ours.channels() {
        let Some(other) = theirs.channel(channel.short_channel_id.to_u64()) else {
            differing += 1;
            continue;
        };
        let is_same = other.node_one.as_slice() == channel.node_1.as_bytes()
            && other.node_two.as_slice() == channel.node_2.as_bytes()
            && other.capacity_sats == channel.capacity.map(|c| c.to_sat())
            && strip(other.features.le_flags()) == le(&channel.features.to_be_bytes());
        let policies = [
            (Direction::Forward, &other.one_to_two),
            (Direction::Backward, &other.two_to_one),
        ];
        let same_policies = policies
            .iter()
            .all(|(direction, other)| same_policy(channel.policy(*direction), other.as_ref()));
        differing += usize::from(!(is_same && same_policies));
    }
    for id in ours.nodes() {
        let ldk_id = LdkNodeId::from_slice(id.as_bytes()).map_err(|e| anyhow!("{e:?}"))?;
        let other = theirs
            .node(&ldk_id)
            .and_then(|n| n.announcement_info.clone());
        let is_same = match (ours.node_details(&id), other) {
            (None, None) => true,
            (Some(details), Some(other)) => {
                let mut addresses = Vec::new();
                for address in other.addresses() {
                    addresses.extend(address.encode());
                }
                details.timestamp == other.last_update()
                    && le(&details.features.to_be_bytes()) == strip(other.features().le_flags())
                    && details.addresses == addresses
            }
            _ => false,
        };
        differing += usize::from(!is_same);
    }
    Ok(differing)
}

fn same_policy(ours: Option<&Policy>, theirs: Option<&ChannelUpdateInfo>) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => {
            ours.disabled != theirs.enabled
                && ours.timestamp == theirs.last_update
                && ours.cltv_expiry_delta.to_u16() == theirs.cltv_expiry_delta
                && ours.htlc_minimum.to_msat() == theirs.htlc_minimum_msat
                && ours.htlc_maximum.to_msat() == theirs.htlc_maximum_msat
                && ours.fee_base_msat == theirs.fees.base_msat
                && ours.fee_proportional_millionths == theirs.fees.proportional_millionths
        }
        _ => false,
    }
}

/// Least byte first, without zeros at the end.
fn le(big_endian: &[u8]) -> Vec<u8> {
    strip(&big_endian.iter().rev().copied().collect::<Vec<u8>>())
}

fn strip(bytes: &[u8]) -> Vec<u8> {
    let len = bytes
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1);
    bytes[..len].to_vec()
}
