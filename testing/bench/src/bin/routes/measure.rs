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
    world::{Balances, Way, World, Worth},
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

/// A kind of question: its name, how many parts an answer may have, and amounts from and to in sat.
struct Kind {
    name: &'static str,
    max_parts: u16,
    amounts: [u64; 2],
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "single path, 1k to 1M sat",
        max_parts: 1,
        amounts: [1_000, 1_000_000],
    },
    Kind {
        name: "many parts, 1k to 1M sat",
        max_parts: 16,
        amounts: [1_000, 1_000_000],
    },
    Kind {
        name: "many parts, 1M to 10M sat",
        max_parts: 16,
        amounts: [1_000_000, 10_000_000],
    },
];

const ROUTERS: [&str; 2] = ["Fulmen", "LDK"];

pub(crate) fn run(args: &Args) -> Result<()> {
    eprintln!("making a network of {} nodes", args.nodes);
    let network = Network::generate(&Config::with_nodes(args.seed, args.nodes));
    println!(
        "Network: {} nodes, {} channels, seed {}\n",
        network.nodes.len(),
        network.channels.len(),
        args.seed
    );
    let (graph, ldk, rows) = graphs(&network)?;
    println!("{rows}\n");

    let world = World::new(&network, Balances::Uniform, args.seed);
    let mut rng = Rng::fork(args.seed, 9);
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
    for kind in &KINDS {
        eprintln!("{}", kind.name);
        let drawn = draw(
            &network,
            &graph,
            &world,
            &mut rng,
            args.questions,
            kind.amounts,
        );
        let mut ours = Ours::new(Arc::clone(&graph));
        let mut theirs = (!args.ours_only).then(|| Ldk::new(Arc::clone(&ldk)));
        let asked = ask(kind, &drawn, args.turn.max(1), &mut ours, theirs.as_mut());
        add_times(&mut times, kind, &asked);
        add_worths(&mut worths, kind, &asked, &world);
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

/// The network as both hold it, and what that takes.
fn graphs(network: &Network) -> Result<(Arc<NetworkGraph>, Arc<LdkGraph>, comfy_table::Table)> {
    let bytes = network.graph().to_bytes();
    let (graph, our_memory) =
        counted(|| Arc::new(NetworkGraph::from_bytes(&bytes).expect("just made")));
    let our_load = milliseconds(7, || {
        NetworkGraph::from_bytes(&bytes).expect("just made");
    });
    let our_write = milliseconds(7, || {
        graph.to_bytes();
    });
    let ldk_bytes = ldk_graph(network)?.encode();
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
    Ok((graph, ldk, rows))
}

/// What came of the questions of a kind.
#[derive(Default)]
struct Asked {
    /// For each question the ways of both, empty where there is no answer.
    answers: Vec<[Vec<Way>; 2]>,
    /// Milliseconds for each question.
    took: [Vec<f64>; 2],
}

/// Asks both, in turns of so many questions.
fn ask(
    kind: &Kind,
    drawn: &[Drawn],
    turn: usize,
    ours: &mut Ours,
    mut theirs: Option<&mut Ldk>,
) -> Asked {
    let mut asked = Asked::default();
    for turn in drawn.chunks(turn) {
        let first = asked.answers.len();
        for drawn in turn {
            let question = drawn.question(kind.max_parts);
            let start = thread_ms();
            let plan = ours.plan(&question);
            asked.took[0].push(thread_ms() - start);
            let ways = |plan: Plan| {
                let parts = plan.parts.iter();
                parts.map(|route| our_way(&drawn.payer, route)).collect()
            };
            let ways = plan.map(ways).unwrap_or_default();
            asked.answers.push([ways, Vec::new()]);
        }
        let Some(theirs) = theirs.as_deref_mut() else {
            continue;
        };
        for (drawn, answer) in turn.iter().zip(&mut asked.answers[first..]) {
            let prepared = theirs.prepare(&drawn.question(kind.max_parts));
            let start = thread_ms();
            let found = theirs.find(&prepared);
            asked.took[1].push(thread_ms() - start);
            if let Ok(route) = found {
                answer[1] = theirs.take(&drawn.payer, route);
            }
        }
    }
    asked
}

fn add_times(table: &mut comfy_table::Table, kind: &Kind, asked: &Asked) {
    for (who, router) in ROUTERS.into_iter().enumerate() {
        let answered: Vec<&Vec<Way>> = asked
            .answers
            .iter()
            .map(|a| &a[who])
            .filter(|ways| !ways.is_empty())
            .collect();
        let parts: usize = answered.iter().map(|ways| ways.len()).sum();
        let took = |q| format!("{:.2}", quantile(&asked.took[who], q));
        table.add_row([
            kind.name.to_owned(),
            router.to_owned(),
            format!("{} of {}", answered.len(), asked.answers.len()),
            took(0.5),
            took(0.9),
            took(0.99),
            format!("{:.1}", parts as f64 / answered.len().max(1) as f64),
        ]);
    }
}

fn add_worths(table: &mut comfy_table::Table, kind: &Kind, asked: &Asked, world: &World) {
    let both: Vec<&[Vec<Way>; 2]> = asked
        .answers
        .iter()
        .filter(|a| a.iter().all(|ways| !ways.is_empty()))
        .collect();
    for balances in Balances::ALL {
        let worth: Vec<[Worth; 2]> = both
            .iter()
            .map(|a| [0, 1].map(|who| world.worth(&a[who], balances, &CostModel::BALANCED)))
            .collect();
        for (who, router) in ROUTERS.into_iter().enumerate() {
            let mean = |part: fn(&Worth) -> f64| {
                let sum: f64 = worth.iter().map(|w| part(&w[who])).sum();
                format!("{:.0}", sum / worth.len().max(1) as f64 / 1_000.0)
            };
            let better = worth
                .iter()
                .filter(|w| w[who].total() <= w[1 - who].total() * (1.0 + 1e-9))
                .count();
            table.add_row([
                kind.name.to_owned(),
                both.len().to_string(),
                balances.name().to_owned(),
                router.to_owned(),
                mean(Worth::total),
                mean(|w| w.fee),
                mean(|w| w.lock),
                mean(|w| w.risk),
                format!("{:.0}%", 100.0 * better as f64 / both.len().max(1) as f64),
            ]);
        }
    }
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
    [from_sat, to_sat]: [u64; 2],
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
