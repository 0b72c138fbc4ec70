//! Time and memory.

use std::sync::Arc;

use anyhow::Result;
use fulmen_gossip::NetworkGraph;
use fulmen_netgen::{Config, MAINNET_NODES, Network, Rng};
use fulmen_router::{CostModel, FirstHop, Plan};
use fulmen_types::NodeId;
use lightning::util::ser::{ReadableArgs, Writeable};
use stats_alloc::Region;

use crate::{
    contenders::{Ldk, LdkGraph, Ours, Question, Silent, ldk_graph, our_way},
    quantile, table, thread_ms,
    world::{Balances, Way, World},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Nodes of the network; ten times the main network is 173240.
    #[arg(long, default_value_t = MAINNET_NODES)]
    nodes: usize,
    /// Seed of network, balances and questions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Questions of each kind.
    #[arg(long, default_value_t = 100)]
    questions: usize,
    /// How many questions one router answers before it is the other's turn: with 1, each finds the processor's caches
    /// full of what the other has read.
    #[arg(long, default_value_t = 20)]
    turn: usize,
    /// Ask our router alone.
    #[arg(long)]
    ours_only: bool,
}

/// What is asked of both.
struct Drawn {
    payer: NodeId,
    payee: NodeId,
    first_hops: Vec<FirstHop>,
    amount: u64,
}

impl Drawn {
    fn question(&self, max_parts: u16) -> Question<'_> {
        Question {
            payer: self.payer,
            payee: self.payee,
            first_hops: &self.first_hops,
            amount: self.amount,
            max_fee: self.amount / 20 + 100_000,
            max_parts,
            held: &[],
            now: 1_800_000_000,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    eprintln!("making a network of {} nodes", args.nodes);
    let network = Network::generate(&Config::with_nodes(args.seed, args.nodes));
    println!(
        "Network: {} nodes, {} channels, seed {}\n",
        network.nodes.len(),
        network.channels.len(),
        args.seed
    );
    let bytes = network.graph().to_bytes();
    let (graph, our_memory) =
        counted(|| Arc::new(NetworkGraph::from_bytes(&bytes).expect("just made")));
    let our_load = milliseconds(7, || {
        NetworkGraph::from_bytes(&bytes).expect("just made");
    });
    let our_write = milliseconds(7, || {
        graph.to_bytes();
    });
    let ldk_bytes = ldk_graph(&network)?.encode();
    let read = || LdkGraph::read(&mut &ldk_bytes[..], Arc::new(Silent)).expect("just made");
    let (ldk, ldk_memory) = counted(|| Arc::new(read()));
    let ldk_load = milliseconds(7, || {
        read();
    });
    let ldk_write = milliseconds(7, || {
        ldk.encode();
    });
    let mut rows = table(&["Graph", "Fulmen", "LDK", "LDK / Fulmen"]);
    let megabytes = |bytes: usize| bytes as f64 / (1 << 20) as f64;
    for (name, ours, theirs) in [
        ("load from bytes, ms", our_load, ldk_load),
        ("write to bytes, ms", our_write, ldk_write),
        (
            "bytes written, MiB",
            megabytes(bytes.len()),
            megabytes(ldk_bytes.len()),
        ),
        (
            "in memory, MiB",
            megabytes(our_memory),
            megabytes(ldk_memory),
        ),
    ] {
        rows.add_row([
            name.to_owned(),
            format!("{ours:.2}"),
            format!("{theirs:.2}"),
            format!("{:.1}", theirs / ours),
        ]);
    }
    println!("{rows}\n");

    let world = World::new(&network, Balances::Uniform, args.seed);
    let mut rng = Rng::fork(args.seed, 9);
    let kinds: [(&str, u16, u64, u64); 3] = [
        ("single path, 1k to 1M sat", 1, 1_000, 1_000_000),
        ("many parts, 1k to 1M sat", 16, 1_000, 1_000_000),
        ("many parts, 1M to 10M sat", 16, 1_000_000, 10_000_000),
    ];
    let mut times = table(&[
        "Question",
        "router",
        "answered",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "mean parts",
    ]);
    let mut worths = table(&[
        "Question",
        "answered by both",
        "balances",
        "router",
        "mean cost sat",
        "fee",
        "time",
        "risk",
        "better or same",
    ]);
    for (name, max_parts, from, to) in kinds {
        eprintln!("{name}");
        let drawn = draw(&network, &graph, &world, &mut rng, args.questions, from, to);
        let mut ours = Ours::new(Arc::clone(&graph));
        let mut theirs = Ldk::new(Arc::clone(&ldk));
        let mut answers: Vec<[Vec<Way>; 2]> = Vec::new();
        let mut took = [Vec::new(), Vec::new()];
        for turn in drawn.chunks(args.turn.max(1)) {
            let first = answers.len();
            for drawn in turn {
                let start = thread_ms();
                let plan = ours.plan(&drawn.question(max_parts));
                took[0].push(thread_ms() - start);
                let ways = |plan: Plan| {
                    plan.parts
                        .iter()
                        .map(|r| our_way(&drawn.payer, r))
                        .collect()
                };
                answers.push([plan.map(ways).unwrap_or_default(), Vec::new()]);
            }
            if args.ours_only {
                continue;
            }
            for (drawn, answer) in turn.iter().zip(&mut answers[first..]) {
                let prepared = theirs.prepare(&drawn.question(max_parts));
                let start = thread_ms();
                let found = theirs.find(&prepared);
                took[1].push(thread_ms() - start);
                if let Ok(route) = found {
                    answer[1] = theirs.take(&drawn.payer, route);
                }
            }
        }
        for (who, router) in ["Fulmen", "LDK"].into_iter().enumerate() {
            let answered: Vec<&Vec<Way>> = answers
                .iter()
                .map(|a| &a[who])
                .filter(|ways| !ways.is_empty())
                .collect();
            let parts: usize = answered.iter().map(|ways| ways.len()).sum();
            times.add_row([
                name.to_owned(),
                router.to_owned(),
                format!("{} of {}", answered.len(), answers.len()),
                format!("{:.2}", quantile(&took[who], 0.5)),
                format!("{:.2}", quantile(&took[who], 0.9)),
                format!("{:.2}", quantile(&took[who], 0.99)),
                format!("{:.1}", parts as f64 / answered.len().max(1) as f64),
            ]);
        }
        let both: Vec<&[Vec<Way>; 2]> = answers
            .iter()
            .filter(|a| a.iter().all(|ways| !ways.is_empty()))
            .collect();
        for balances in Balances::ALL {
            let worth: Vec<[crate::world::Worth; 2]> = both
                .iter()
                .map(|a| [0, 1].map(|who| world.worth(&a[who], balances, &CostModel::BALANCED)))
                .collect();
            for (who, router) in ["Fulmen", "LDK"].into_iter().enumerate() {
                let mean = |part: fn(&crate::world::Worth) -> f64| {
                    let sum: f64 = worth.iter().map(|w| part(&w[who])).sum();
                    format!("{:.0}", sum / worth.len().max(1) as f64 / 1_000.0)
                };
                let better = worth
                    .iter()
                    .filter(|w| w[who].total() <= w[1 - who].total() * (1.0 + 1e-9))
                    .count();
                worths.add_row([
                    name.to_owned(),
                    both.len().to_string(),
                    balances.name().to_owned(),
                    router.to_owned(),
                    mean(crate::world::Worth::total),
                    mean(|w| w.fee),
                    mean(|w| w.lock),
                    mean(|w| w.risk),
                    format!("{:.0}%", 100.0 * better as f64 / both.len().max(1) as f64),
                ]);
            }
        }
    }
    println!("{times}\n");
    let model = CostModel::BALANCED;
    println!(
        "Cost of the answers, less is better: fee + amount * blocks * {} / 10^9 + ({} msat + amount * {} / \
         10^6) * -ln(true chance that all channels can carry what is asked of them)\n",
        model.lock_ppb_per_block,
        model.risk_base.to_msat(),
        model.risk_ppm
    );
    println!("{worths}");
    Ok(())
}

/// Payers with at least two channels that can send, payees half uniformly and half by degree, amounts
/// evenly over their logarithm, no more than one channel of the payer has and half of what the payee's channels
/// could bring.
fn draw(
    network: &Network,
    graph: &NetworkGraph,
    world: &World,
    rng: &mut Rng,
    count: usize,
    from_sat: u64,
    to_sat: u64,
) -> Vec<Drawn> {
    let mut drawn = Vec::new();
    while drawn.len() < count {
        let by_degree = |rng: &mut Rng| {
            let channel = &network.channels[rng.below(network.channels.len())];
            network.nodes[channel.nodes[rng.below(2)] as usize]
        };
        let payer = by_degree(rng);
        let payee = if rng.below(2) == 0 {
            network.nodes[rng.below(network.nodes.len())]
        } else {
            by_degree(rng)
        };
        let ratio = to_sat as f64 / from_sat as f64;
        let amount = (from_sat as f64 * ratio.powf(rng.unit())) as u64 * 1_000;
        let first_hops = world.first_hops(&payer);
        let most = first_hops
            .iter()
            .map(|hop| hop.spendable.to_msat())
            .max()
            .unwrap_or(0);
        // Announced room into the payee: the rest is not worth asking for.
        let room: u64 = graph.find_node(&payee).map_or(0, |node| {
            graph
                .edges_to(node)
                .map(|(_, e)| e.htlc_maximum.to_msat())
                .sum()
        });
        if room >= amount * 2
            && payer != payee
            && first_hops.len() >= 2
            && first_hops.len() <= 60
            && most > amount * 11 / 10
        {
            drawn.push(Drawn {
                payer,
                payee,
                first_hops,
                amount,
            });
        }
    }
    drawn
}

/// What is made, and how many bytes it holds.
fn counted<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(crate::ALLOCATOR);
    let made = make();
    let change = region.change();
    // What grows or shrinks is counted in these two as well.
    let held = change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated);
    (made, held)
}

fn milliseconds(times: usize, mut work: impl FnMut()) -> f64 {
    let measured: Vec<f64> = (0..times)
        .map(|_| {
            let start = thread_ms();
            work();
            thread_ms() - start
        })
        .collect();
    quantile(&measured, 0.5)
}
