//! Success over hidden balances.

use std::sync::Arc;

use anyhow::Result;
use fulmen_gossip::NetworkGraph;
use fulmen_netgen::{Config, MAINNET_NODES, Network, Rng};
use fulmen_types::NodeId;

use crate::{
    contenders::{Contender, Ldk, Ours, Outcome, Question, ldk_graph},
    table, thread_ms,
    world::{Balances, Way, World},
};

/// What was looked at while the router was tuned.
const TUNING_SEEDS: [u64; 2] = [101, 102];
/// What was not.
const HELD_OUT_SEEDS: [u64; 2] = [49460, 60819];
/// Rounds of asking and sending before a payment is given up.
const ROUNDS: usize = 12;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Nodes of the network.
    #[arg(long, default_value_t = MAINNET_NODES)]
    nodes: usize,
    /// Payments for each seed and distribution of balances.
    #[arg(long, default_value_t = 100)]
    payments: usize,
    /// Only the seeds for tuning.
    #[arg(long)]
    tuning: bool,
    /// Only the seeds that nothing was tuned with.
    #[arg(long, conflicts_with = "tuning")]
    held_out: bool,
    /// Our router alone.
    #[arg(long)]
    ours_only: bool,
}

/// A payment to be made.
struct Payment {
    payee: NodeId,
    amount: u64,
}

#[derive(Default)]
struct Tally {
    payments: usize,
    unreachable: usize,
    succeeded: usize,
    sent_sat: f64,
    fee_sat: f64,
    htlcs: usize,
    rounds: usize,
    took: f64,
    most: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "Payments of 1k to 10M sat from one node of each seed, whose channels hold the most of some, half to \
         payees drawn uniformly and half by degree; {} of each seed and distribution; at most 16 parts, 5% + \
         100 sat of fees and {ROUNDS} rounds. Unreachable: all balances together could not carry it.\n",
        args.payments
    );
    let mut results = table(&[
        "Seeds",
        "balances",
        "router",
        "payments",
        "unreachable",
        "succeeded",
        "of reachable",
        "fee ppm",
        "HTLCs each",
        "rounds each",
        "mean ms",
        "most ms",
    ]);
    let both: [(&str, &[u64]); 2] = [("tuning", &TUNING_SEEDS), ("held out", &HELD_OUT_SEEDS)];
    let sets = match (args.tuning, args.held_out) {
        (true, _) => &both[..1],
        (false, true) => &both[1..],
        (false, false) => &both[..],
    };
    for (set, seeds) in sets {
        for balances in Balances::ALL {
            let mut tallies = [Tally::default(), Tally::default()];
            for seed in *seeds {
                eprintln!("{set} {seed} {}", balances.name());
                let network = Network::generate(&Config::with_nodes(*seed, args.nodes));
                let graph = network.graph();
                let world = World::new(&network, balances, *seed);
                let mut rng = Rng::fork(*seed, 11);
                let payer = draw_payer(&network, &world, &mut rng);
                let payments = draw_payments(&network, &payer, &mut rng, args.payments);
                let mut ours = Ours::new(Arc::clone(&graph));
                pay_all(
                    &mut tallies[0],
                    &mut ours,
                    world.clone(),
                    &graph,
                    &payer,
                    &payments,
                );
                if !args.ours_only {
                    let mut theirs = Ldk::new(Arc::new(ldk_graph(&network)?));
                    pay_all(
                        &mut tallies[1],
                        &mut theirs,
                        world,
                        &graph,
                        &payer,
                        &payments,
                    );
                }
            }
            for (router, tally) in ["Fulmen", "LDK"].into_iter().zip(&tallies) {
                if tally.payments == 0 {
                    continue;
                }
                let count = tally.payments as f64;
                let reachable = tally.payments - tally.unreachable;
                results.add_row([
                    (*set).to_owned(),
                    balances.name().to_owned(),
                    router.to_owned(),
                    tally.payments.to_string(),
                    tally.unreachable.to_string(),
                    tally.succeeded.to_string(),
                    format!(
                        "{:.1}%",
                        100.0 * tally.succeeded as f64 / reachable.max(1) as f64
                    ),
                    format!("{:.0}", 1e6 * tally.fee_sat / tally.sent_sat.max(1.0)),
                    format!("{:.1}", tally.htlcs as f64 / count),
                    format!("{:.2}", tally.rounds as f64 / count),
                    format!("{:.1}", tally.took / count),
                    format!("{:.0}", tally.most),
                ]);
            }
        }
    }
    println!("{results}");
    Ok(())
}

/// A node with 8 to 40 channels and 20 to 200 million satoshis in them.
fn draw_payer(network: &Network, world: &World, rng: &mut Rng) -> NodeId {
    loop {
        let channel = &network.channels[rng.below(network.channels.len())];
        let node = network.nodes[channel.nodes[rng.below(2)] as usize];
        let hops = world.first_hops(&node);
        let funds: u64 = hops.iter().map(|hop| hop.spendable.to_sat_floor()).sum();
        if (8..=40).contains(&hops.len()) && (20_000_000..=200_000_000).contains(&funds) {
            return node;
        }
    }
}

fn draw_payments(network: &Network, payer: &NodeId, rng: &mut Rng, count: usize) -> Vec<Payment> {
    let mut payments = Vec::new();
    while payments.len() < count {
        let payee = if rng.below(2) == 0 {
            network.nodes[rng.below(network.nodes.len())]
        } else {
            let channel = &network.channels[rng.below(network.channels.len())];
            network.nodes[channel.nodes[rng.below(2)] as usize]
        };
        let amount = (1_000.0 * 10_000f64.powf(rng.unit())) as u64 * 1_000;
        if payee != *payer {
            payments.push(Payment { payee, amount });
        }
    }
    payments
}

fn pay_all(
    tally: &mut Tally,
    contender: &mut dyn Contender,
    mut world: World,
    graph: &Arc<NetworkGraph>,
    payer: &NodeId,
    payments: &[Payment],
) {
    let mut now = 1_800_000_000;
    for payment in payments {
        now += 60;
        tally.payments += 1;
        let first_hops = world.first_hops(payer);
        if !world.could_carry(graph, &first_hops, &payment.payee, payment.amount) {
            tally.unreachable += 1;
        }
        pay(tally, contender, &mut world, payer, payment, now);
    }
}

fn pay(
    tally: &mut Tally,
    contender: &mut dyn Contender,
    world: &mut World,
    payer: &NodeId,
    payment: &Payment,
    now: u64,
) {
    contender.begin();
    let mut held: Vec<Way> = Vec::new();
    let mut fee_left = payment.amount / 20 + 100_000;
    let mut left = payment.amount;
    let mut took = 0.0f64;
    for _ in 0..ROUNDS {
        let first_hops = world.first_hops(payer);
        let question = Question {
            payer: *payer,
            payee: payment.payee,
            first_hops: &first_hops,
            amount: left,
            max_fee: fee_left,
            max_parts: 16u16
                .saturating_sub(u16::try_from(held.len()).unwrap_or(16))
                .max(1),
            held: &held,
            now,
        };
        let start = thread_ms();
        let ways = contender.ways(&question);
        took += thread_ms() - start;
        if ways.is_empty() {
            break;
        }
        tally.rounds += 1;
        for way in ways {
            tally.htlcs += 1;
            match world.send(&way) {
                Ok(()) => {
                    left = left.saturating_sub(way.amount);
                    fee_left = fee_left.saturating_sub(way.fee());
                    held.push(way);
                }
                Err(at) => contender.learn(payer, &way, Outcome::RefusedAt(at), now),
            }
        }
        if left == 0 {
            break;
        }
    }
    tally.took += took;
    tally.most = tally.most.max(took);
    if left == 0 {
        tally.succeeded += 1;
        tally.sent_sat += payment.amount as f64 / 1_000.0;
        for way in &held {
            tally.fee_sat += way.fee() as f64 / 1_000.0;
            world.settle(way);
            contender.learn(payer, way, Outcome::Settled, now);
        }
    } else {
        for way in &held {
            world.fail(way);
            contender.learn(payer, way, Outcome::Reached, now);
        }
    }
}
