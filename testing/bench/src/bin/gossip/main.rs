//! What it costs to check and take the network's announcements: beside the bare checks of their signatures,
//! on all cores, and beside LDK.

use std::{
    future::poll_fn,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bitcoin::secp256k1::{Message as Digest, PublicKey, Secp256k1, ecdsa::Signature};
use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use fulmen_background_processor::GossipChecks;
use fulmen_gossip::{Direction, Gossip, GossipConfig, GossipInput, UtxoCheck};
use fulmen_netgen::{Config, Network};
use fulmen_node::{ConnEpoch, Input};
use fulmen_types::{BlockHeight, Feature, Features, NodeId, Timestamp};
use fulmen_wire::Message;
use lightning::{
    ln::msgs::{self, RoutingMessageHandler},
    routing::{
        gossip::{NetworkGraph, P2PGossipSync},
        utxo::UtxoLookup,
    },
    util::{
        logger::{Logger, Record},
        ser::LengthReadable,
    },
};

/// Measures how long it takes to read, check and take all announcements of a network, on all cores.
///
/// Bare: keys are decompressed and signatures checked (a forger may have negated any, so each is normalised),
/// from hashes that are there already; nothing is read, hashed or kept. Ours: from the bytes of the messages to
/// the graph and the messages to be passed on, as the driver does it. LDK's handler works on one core. No
/// contestant asks a chain. They take turns. On a busy machine believe the time of processors.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Nodes of the network; 17,324 are as many as the main network has.
    #[arg(long, default_value_t = 17_324, value_parser = clap::value_parser!(u32).range(60..))]
    nodes: u32,
    /// Threads; as many as there are cores if not said.
    #[arg(long)]
    threads: Option<usize>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// How long something took, by the clock and in time of processors.
#[derive(Clone, Copy)]
struct Took {
    clock: Duration,
    processors: Duration,
}

struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), processors())
    }

    fn stop(&self) -> Took {
        Took {
            clock: self.0.elapsed(),
            processors: processors().saturating_sub(self.1),
        }
    }
}

/// The time that this process has used, on all cores.
fn processors() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// What must be checked, at the least.
struct Check {
    hash: Digest,
    key: NodeId,
    signature: Signature,
}

/// Messages and the checks that they need.
struct Workload {
    name: &'static str,
    /// LDK refuses updates that are old by the clock of this computer before it checks them.
    is_for_ldk: bool,
    messages: Vec<Vec<u8>>,
    checks: Vec<Check>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or(cores);
    eprintln!("signing a network of {} nodes", args.nodes);
    let network = Network::generate(&Config::with_nodes(1, args.nodes as usize));
    let now = newest(&network)?;
    let workloads = [announcements(&network), everything(&network)];
    println!(
        "\n{} channels, {} nodes, {threads} threads; medians of {} rounds\n",
        network.channels.len(),
        network.nodes.len(),
        args.rounds
    );
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "",
        "messages",
        "signatures",
        "bare s",
        "Fulmen s",
        "Fulmen / bare",
        "LDK s",
        "LDK / Fulmen",
    ]);
    for workload in &workloads {
        let mut times: [Vec<Took>; 3] = Default::default();
        for round in 0..args.rounds {
            eprintln!("{}, round {}", workload.name, round + 1);
            times[0].push(bare(&workload.checks, threads));
            times[1].push(ours(&network, workload, threads, now)?);
            if workload.is_for_ldk {
                times[2].push(theirs(&network, workload)?);
            }
        }
        let of = |what: fn(&Took) -> Duration| times.each_ref().map(|times| median(times, what));
        for (clock, [bare, ours, theirs]) in [
            ("by the clock", of(|took| took.clock)),
            ("processors", of(|took| took.processors)),
        ] {
            let or_nothing = |text: String| {
                if workload.is_for_ldk {
                    text
                } else {
                    String::new()
                }
            };
            table.add_row([
                format!("{}, {clock}", workload.name),
                workload.messages.len().to_string(),
                workload.checks.len().to_string(),
                format!("{bare:.2}"),
                format!("{ours:.2}"),
                format!("{:.2}", ours / bare),
                or_nothing(format!("{theirs:.2}")),
                or_nothing(format!("{:.2}", theirs / ours)),
            ]);
        }
    }
    println!("{table}");
    Ok(())
}

fn median(times: &[Took], what: fn(&Took) -> Duration) -> f64 {
    let mut times: Vec<Duration> = times.iter().map(what).collect();
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, Duration::as_secs_f64)
}

fn newest(network: &Network) -> Result<Timestamp> {
    let policies = network.channels.iter().flat_map(|c| c.policies).flatten();
    let newest = policies.map(|policy| policy.timestamp).max();
    Ok(Timestamp::from_secs(newest.context("no updates")?.into()))
}

fn announcements(network: &Network) -> Workload {
    let mut workload = Workload {
        name: "channel announcements",
        is_for_ldk: true,
        messages: Vec::new(),
        checks: Vec::new(),
    };
    for channel in 0..network.channels.len() {
        workload.announce(network, channel);
    }
    workload
}

fn everything(network: &Network) -> Workload {
    let mut workload = Workload {
        name: "all that is said",
        is_for_ldk: false,
        messages: Vec::new(),
        checks: Vec::new(),
    };
    for channel in 0..network.channels.len() {
        workload.announce(network, channel);
        for direction in [Direction::Forward, Direction::Backward] {
            let Some(m) = network.channel_update(channel, direction) else {
                continue;
            };
            let end = usize::from(direction.to_bit());
            let node = network.channels[channel].nodes[end] as usize;
            workload.check(m.signature_hash(), network.nodes[node], m.signature);
            workload.messages.push(Message::from(m).encode());
        }
    }
    for node in 0..network.nodes.len() {
        if let Some(m) = network.node_announcement(node) {
            workload.check(m.signature_hash(), m.node_id, m.signature);
            workload.messages.push(Message::from(m).encode());
        }
    }
    workload
}

impl Workload {
    fn check(&mut self, hash: Digest, key: NodeId, signature: Signature) {
        self.checks.push(Check {
            hash,
            key,
            signature,
        });
    }

    fn announce(&mut self, network: &Network, channel: usize) {
        let m = network.channel_announcement(channel);
        let hash = m.signature_hash();
        self.check(hash, m.node_id_1, m.node_signature_1);
        self.check(hash, m.node_id_2, m.node_signature_2);
        self.check(hash, m.bitcoin_key_1, m.bitcoin_signature_1);
        self.check(hash, m.bitcoin_key_2, m.bitcoin_signature_2);
        self.messages.push(Message::from(m).encode());
    }
}

fn bare(checks: &[Check], threads: usize) -> Took {
    const PORTION: usize = 64;
    let next = AtomicUsize::new(0);
    let good = AtomicUsize::new(0);
    let begun = Watch::start();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let secp = Secp256k1::verification_only();
                loop {
                    let from = next.fetch_add(PORTION, Ordering::Relaxed);
                    let Some(rest) = checks.get(from..).filter(|rest| !rest.is_empty()) else {
                        return;
                    };
                    for check in &rest[..PORTION.min(rest.len())] {
                        let key = PublicKey::from_slice(&check.key.to_byte_array());
                        let mut signature = check.signature;
                        signature.normalize_s();
                        let ok =
                            key.and_then(|key| secp.verify_ecdsa(&check.hash, &signature, &key));
                        good.fetch_add(usize::from(ok.is_ok()), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let took = begun.stop();
    assert_eq!(good.load(Ordering::Relaxed), checks.len(), "all are valid");
    took
}

/// As the driver does it: messages of one peer, checked on the way to the heart, which is on this thread.
fn ours(network: &Network, workload: &Workload, threads: usize, now: Timestamp) -> Result<Took> {
    let config = GossipConfig {
        utxo_check: UtxoCheck::Trust,
        ..GossipConfig::new(network.chain_hash, NodeId::new([2; 33]))
    };
    let mut gossip = Gossip::new(config);
    let peer = network.nodes[0].to_public_key()?;
    let peer_id = NodeId::from(peer);
    gossip.handle(now, GossipInput::Tip(BlockHeight::new(2_000_000)));
    gossip.handle(
        now,
        GossipInput::PeerConnected {
            peer: peer_id,
            features: Features::empty().with_optional(Feature::GossipQueries),
        },
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let begun = Watch::start();
    runtime
        .block_on(async {
            let mut checks = GossipChecks::start(threads);
            let mut left = workload.messages.iter();
            loop {
                while !checks.is_full()
                    && let Some(bytes) = left.next()
                {
                    let message = Message::decode(bytes).context("a message")?;
                    let to_check = gossip.to_check(now, &peer_id, message);
                    if let Some(input) = checks.submit(peer, ConnEpoch(1), to_check) {
                        take(&mut gossip, now, peer_id, input);
                    }
                }
                if checks.is_empty() {
                    return Ok(());
                }
                let input = poll_fn(|cx| checks.poll(cx)).await;
                take(&mut gossip, now, peer_id, input);
            }
        })
        .and_then(|()| {
            let took = begun.stop();
            let graph = gossip.graph();
            ensure!(
                graph.channel_count() == network.channels.len(),
                "channels are missing"
            );
            black_box(graph);
            Ok(took)
        })
}

fn take(gossip: &mut Gossip, now: Timestamp, peer: NodeId, input: Input) {
    let input = match input {
        Input::CheckedGossip { checked, .. } => GossipInput::Checked { peer, checked },
        Input::PeerMessage { message, .. } => GossipInput::Message { peer, message },
        _ => return,
    };
    black_box(gossip.handle(now, input));
}

struct Silent;

impl Logger for Silent {
    fn log(&self, _record: Record<'_>) {}
}

/// LDK's handler, on this thread.
fn theirs(network: &Network, workload: &Workload) -> Result<Took> {
    let graph = NetworkGraph::new(bitcoin::Network::Regtest, Arc::new(Silent));
    let none = None::<Arc<dyn UtxoLookup + Send + Sync>>;
    let sync = P2PGossipSync::new(&graph, none, Arc::new(Silent));
    let begun = Watch::start();
    for message in &workload.messages {
        let m = msgs::ChannelAnnouncement::read_from_fixed_length_buffer(&mut &message[2..]);
        let m = m.map_err(|error| anyhow::anyhow!("LDK can't read it: {error:?}"))?;
        let done = sync.handle_channel_announcement(None, &m);
        ensure!(done.is_ok(), "LDK refuses: {done:?}");
    }
    let took = begun.stop();
    let known = graph.read_only().channels().len();
    ensure!(
        known == network.channels.len(),
        "LDK knows {known} channels"
    );
    Ok(took)
}
