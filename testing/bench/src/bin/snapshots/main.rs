//! Rapid gossip sync at the main network's size: what Fulmen and LDK read from the same snapshot, compared
//! channel by channel, and what it costs them.

mod same;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow};
use clap::Parser;
use fulmen_gossip::{
    Direction, GraphWriter, NetworkGraph, NewChannel, NewNodeDetails, UnsignedRules,
};
use fulmen_netgen::{Config, MAINNET_NODES, Network};
use fulmen_rapid_gossip_sync::{Since, Version, decode, encode};
use fulmen_types::{NodeId, Timestamp};
use lightning::util::logger::{Logger, Record};
use lightning_rapid_gossip_sync::RapidGossipSync;

/// Compares Fulmen's snapshots with LDK's.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Nodes of the network; ten times the main network is 173240.
    #[arg(long, default_value_t = MAINNET_NODES)]
    nodes: usize,
    /// The network's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each is measured, in turns.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// A logger that logs nothing.
pub(crate) struct Silent;

impl Logger for Silent {
    fn log(&self, _: Record<'_>) {}
}

pub(crate) type LdkGraph = lightning::routing::gossip::NetworkGraph<Arc<Silent>>;

fn main() -> Result<()> {
    let args = Args::parse();
    let now = u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let vectors = same::vectors(now)?;
    println!("Of {vectors} vectors both read the same.");

    eprintln!("making a network of {} nodes", args.nodes);
    let network = Network::generate(&Config::with_nodes(args.seed, args.nodes));
    let mut writer = aged(&network, now);
    let graph = writer.snapshot();
    println!(
        "Network: {} nodes, {} channels, seed {}",
        graph.node_count(),
        graph.channel_count(),
        args.seed
    );
    let day = 24 * 3_600;
    let mut table = comfy_table::Table::new();
    table
        .load_preset(comfy_table::presets::ASCII_MARKDOWN)
        .set_header([
            "Snapshot",
            "bytes",
            "making, ms",
            "Fulmen, ms",
            "of it reading",
            "LDK, ms",
            "LDK / Fulmen",
        ]);
    for (name, version) in [("version 1", Version::V1), ("version 2", Version::V2)] {
        let full = snapshot(&graph, version, Since::Beginning, now - day);
        let since = Since::Seen(now - day);
        let changes = snapshot(&graph, version, since, now);
        let start = thread_ms();
        snapshot(&graph, version, Since::Beginning, now - day);
        let making = thread_ms() - start;
        // The same graph first.
        let mut ours = GraphWriter::new(network.chain_hash);
        let theirs = same::ldk_graph(network.chain_hash);
        for bytes in [&full, &changes] {
            apply(&mut ours, bytes, now)?;
            // It takes no more than ten times the network that it knew.
            if let Err(error) = same::ldk_apply(&theirs, bytes, now) {
                println!("{name}: {error}");
                break;
            }
            let differing = same::differences(&ours.snapshot(), &theirs)?;
            if differing > 0 {
                return Err(anyhow!("{name}: {differing} entries differ"));
            }
        }
        let mut took = [Vec::new(), Vec::new(), Vec::new()];
        let mut changing = [Vec::new(), Vec::new()];
        for _ in 0..args.rounds {
            let start = thread_ms();
            decode(&full, network.chain_hash, time(now))?;
            took[1].push(thread_ms() - start);
            let mut ours = GraphWriter::new(network.chain_hash);
            let start = thread_ms();
            apply(&mut ours, &full, now)?;
            ours.snapshot();
            took[0].push(thread_ms() - start);
            let theirs = same::ldk_graph(network.chain_hash);
            let sync = RapidGossipSync::new(&theirs, Arc::new(Silent));
            let start = thread_ms();
            let read = sync.update_network_graph_no_std(&full, Some(u64::from(now)));
            if read.is_ok() {
                took[2].push(thread_ms() - start);
            }
            let start = thread_ms();
            apply(&mut ours, &changes, now)?;
            ours.snapshot();
            changing[0].push(thread_ms() - start);
            let start = thread_ms();
            let read = sync.update_network_graph_no_std(&changes, Some(u64::from(now)));
            if read.is_ok() {
                changing[1].push(thread_ms() - start);
            }
        }
        let [ours, reading, theirs] = took.map(|times| median(&times));
        table.add_row([
            format!("{name}, full"),
            full.len().to_string(),
            format!("{making:.1}"),
            format!("{ours:.1}"),
            format!("{reading:.1}"),
            format!("{theirs:.1}"),
            format!("{:.1}", theirs / ours),
        ]);
        let [ours, theirs] = changing.map(|times| median(&times));
        table.add_row([
            format!("{name}, changes of a day"),
            changes.len().to_string(),
            String::new(),
            format!("{ours:.1}"),
            String::new(),
            format!("{theirs:.1}"),
            format!("{:.1}", theirs / ours),
        ]);
    }
    println!("Of all snapshots that both take they read the same.\n\n{table}");
    Ok(())
}

/// The network as if its newest update were of now: LDK looks at the system's clock.
fn aged(network: &Network, now: u32) -> GraphWriter {
    let made = network.graph();
    let newest = made
        .channels()
        .flat_map(|channel| channel.policies.into_iter().flatten())
        .map(|policy| policy.timestamp)
        .max()
        .unwrap_or(0);
    let aged = |timestamp: u32| now - (newest.saturating_sub(timestamp));
    let mut writer = GraphWriter::new(made.chain_hash());
    for channel in made.channels() {
        let scid = channel.short_channel_id;
        let new = NewChannel {
            short_channel_id: scid,
            node_1: channel.node_1,
            node_2: channel.node_2,
            capacity: channel.capacity,
            features: channel.features,
        };
        writer.add_channel(&new).expect("of a graph");
        for (bit, policy) in (0u8..).zip(channel.policies) {
            let Some(mut policy) = policy else { continue };
            policy.timestamp = aged(policy.timestamp);
            let direction = Direction::from_channel_flags(bit);
            writer
                .update_policy(scid, direction, policy)
                .expect("of a graph");
        }
    }
    for id in made.nodes() {
        let Some(details) = made.node_details(&id) else {
            continue;
        };
        let new = NewNodeDetails {
            timestamp: aged(details.timestamp),
            features: &details.features,
            rgb_color: details.rgb_color,
            alias: details.alias,
            addresses: &details.addresses,
        };
        writer.update_node(&id, &new).expect("of a graph");
    }
    writer
}

fn time(secs: u32) -> Timestamp {
    Timestamp::from_secs(u64::from(secs))
}

fn snapshot(graph: &NetworkGraph, version: Version, since: Since, now: u32) -> Vec<u8> {
    encode(graph, None, version, since, time(now))
}

pub(crate) fn apply(writer: &mut GraphWriter, bytes: &[u8], now: u32) -> Result<()> {
    let changes = decode(bytes, writer.chain_hash(), time(now))?;
    let rules = UnsignedRules {
        us: &NodeId::new([0xff; 33]),
        own_channels: &BTreeSet::new(),
        max_channels: 1_000_000,
    };
    writer.apply_unsigned(&changes, &rules);
    Ok(())
}

/// The processor's time that this thread has used, in milliseconds.
fn thread_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1_000.0 + time.tv_nsec as f64 / 1e6
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
