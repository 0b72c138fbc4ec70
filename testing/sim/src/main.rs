//! The simulator as a command.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use fulmen_sim::{Outcome, Stats, plan::Plan};

/// Runs networks of real nodes in one process, each fixed by a seed.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  fulmen-sim --seed 7            one run, with its trace\n  fulmen-sim --seed 7 --plan     what that run is like, without running it\n  fulmen-sim --seeds 0..1000     many runs, and a summary\n  fulmen-sim --seeds 0..1000 --keep-going   the same, not stopping at the first failure"
)]
struct Arguments {
    /// Run this seed and print what happens
    #[arg(long, conflicts_with = "seeds", required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from A up to, not including, B
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// Print the plan of the seed only
    #[arg(long, requires = "seed")]
    plan: bool,
    /// Print no trace
    #[arg(long)]
    quiet: bool,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("give a range as A..B, for instance 0..100")?;
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    Ok((number(from)?, number(to)?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        if arguments.plan {
            println!("{:#?}", Plan::draw(seed));
            return ExitCode::SUCCESS;
        }
        let outcome = fulmen_sim::run(seed, !arguments.quiet);
        println!("{}", summary(&outcome.stats));
        println!("seed {seed}: trace {}", outcome.hash);
        return report(&[outcome]);
    }
    let (from, to) = arguments.seeds.unwrap_or((0, 0));
    many(from, to, arguments.keep_going)
}

fn many(from: u64, to: u64, keep_going: bool) -> ExitCode {
    let begun = Instant::now();
    let mut sum = Stats::default();
    let mut failed = Vec::new();
    let mut simulated = 0;
    let mut said = Instant::now();
    let mut runs = 0u64;
    for seed in from..to {
        let outcome = fulmen_sim::run(seed, false);
        runs += 1;
        simulated += outcome.simulated_millis;
        sum.add(&outcome.stats);
        if let Some(failure) = &outcome.failure {
            println!("seed {seed} FAILED: {failure}");
            failed.push(outcome);
            if !keep_going {
                break;
            }
        }
        if said.elapsed().as_secs() >= 5 {
            said = Instant::now();
            println!(
                "{} of {} seeds, {} failed",
                seed + 1 - from,
                to - from,
                failed.len()
            );
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{runs} seeds in {seconds:.1} s, {} simulated minutes, {:.0} steps per second",
        simulated / 60_000,
        rate(sum.steps, seconds)
    );
    println!("{}", summary(&sum));
    report(&failed)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

fn summary(s: &Stats) -> String {
    format!(
        "{} steps, {} messages, {} channels, {} payments succeeded and {} failed, {} forwards, {} crashes ({} batches lost), {} disconnects, {} blocks, {} reorgs, {} closes ({} by force, {} of them with HTLCs), {} restarts compared",
        s.steps,
        s.messages,
        s.channels,
        s.paid,
        s.unpaid,
        s.forwards,
        s.crashes,
        s.lost_batches,
        s.disconnects,
        s.blocks,
        s.reorgs,
        s.closes,
        s.forced,
        s.forced_in_flight,
        s.restores
    )
}

fn report(outcomes: &[Outcome]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for outcome in outcomes {
        if let Some(failure) = &outcome.failure {
            println!("seed {} FAILED: {failure}", outcome.seed);
            code = ExitCode::FAILURE;
        }
    }
    code
}
