//! Graphs as text, and vectors.

#![allow(dead_code, clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Write};

use fulmen_gossip::{
    ChannelInfo, GraphWriter, NetworkGraph, Policy, UnsignedApplied, UnsignedGraph, UnsignedRules,
};
use fulmen_types::NodeId;
use hex_conservative::{DisplayHex, FromHex};

/// The bytes of a vector, and what is expected of them.
pub(crate) fn vector(text: &str) -> (Vec<u8>, String) {
    let mut hex = String::new();
    let mut expected = String::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("> ") {
            writeln!(expected, "{line}").unwrap();
        } else {
            let bytes = line.split('#').next().unwrap();
            hex.extend(bytes.chars().filter(|c| !c.is_whitespace()));
        }
    }
    (Vec::from_hex(&hex).unwrap(), expected)
}

/// Applies a snapshot for a node without channels.
pub(crate) fn apply(writer: &mut GraphWriter, changes: &UnsignedGraph) -> UnsignedApplied {
    let rules = UnsignedRules {
        us: &NodeId::new([0xff; 33]),
        own_channels: &BTreeSet::new(),
        max_channels: 1_000_000,
    };
    writer.apply_unsigned(changes, &rules)
}

/// All that a snapshot can say of a graph.
pub(crate) fn show(graph: &NetworkGraph) -> String {
    let mut text = format!("seen {}\n", graph.unsigned_until());
    for id in graph.nodes() {
        if let Some(details) = graph.node_details(&id) {
            let (id, features) = (start(id.as_bytes()), hex(&details.features.to_be_bytes()));
            let (addresses, time) = (hex(&details.addresses), details.timestamp);
            writeln!(
                text,
                "node {id} features {features} addresses {addresses} at {time}"
            )
            .unwrap();
        }
    }
    for channel in graph.channels() {
        show_channel(&channel, &mut text);
    }
    text
}

fn show_channel(channel: &ChannelInfo, text: &mut String) {
    let capacity = channel
        .capacity
        .map_or("-".to_owned(), |c| c.to_sat().to_string());
    writeln!(
        text,
        "channel {} {} {} capacity {capacity} features {}",
        channel.short_channel_id,
        start(channel.node_1.as_bytes()),
        start(channel.node_2.as_bytes()),
        hex(&channel.features.to_be_bytes())
    )
    .unwrap();
    for (name, policy) in ["forward", "backward"].into_iter().zip(&channel.policies) {
        if let Some(policy) = policy {
            writeln!(text, "{name} {}", show_policy(policy)).unwrap();
        }
    }
}

fn show_policy(policy: &Policy) -> String {
    format!(
        "{}cltv {} least {} base {} ppm {} most {} at {}",
        if policy.disabled { "disabled " } else { "" },
        policy.cltv_expiry_delta.to_u16(),
        policy.htlc_minimum.to_msat(),
        policy.fee_base_msat,
        policy.fee_proportional_millionths,
        policy.htlc_maximum.to_msat(),
        policy.timestamp
    )
}

fn start(id: &[u8]) -> String {
    id[..3].to_lower_hex_string()
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "-".to_owned()
    } else {
        bytes.to_lower_hex_string()
    }
}
