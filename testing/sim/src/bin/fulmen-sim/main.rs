//! The simulator as a command.

mod many;

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use fulmen_sim::{Keep, Options, Outcome, Stats, plan::Plan};

/// Runs networks of real nodes in one process, each fixed by a seed.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  fulmen-sim --seed 7               one run, with its trace\n  fulmen-sim --seed 7 --plan        what that run is like, without running it\n  fulmen-sim --seed 7 --diagram     its messages as a Mermaid sequence diagram\n  fulmen-sim --seed 7 --shrink      the smallest plan that fails like it, to be kept in testing/sim/plans\n  fulmen-sim --file FILE            the run of a plan that was kept\n  fulmen-sim --script FILE          the run that a fuzzing engine found\n  fulmen-sim --seeds 0..1000        many runs, and a summary\n  fulmen-sim --seeds 0..1000 --keep-going --coverage   not stopping at failures, and what was reached"
)]
struct Arguments {
    /// Run this seed and print what happens
    #[arg(long, group = "what")]
    seed: Option<u64>,
    /// Run the plan of a file and print what happens
    #[arg(long, group = "what", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Run what the bytes of a file choose, as the fuzz target `sim` does, and print what happens
    #[arg(long, group = "what", value_name = "FILE", conflicts_with_all = ["plan", "shrink"])]
    script: Option<PathBuf>,
    /// Run the seeds from A up to, not including, B
    #[arg(long, value_name = "A..B", value_parser = range, group = "what")]
    seeds: Option<(u64, u64)>,
    /// Print the plan only
    #[arg(long, conflicts_with = "seeds")]
    plan: bool,
    /// Look for the smallest plan that fails in the same way, and print it
    #[arg(long, conflicts_with = "seeds")]
    shrink: bool,
    /// How long to look for it, in seconds
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Print the messages as a sequence diagram instead of the trace
    #[arg(long, conflicts_with = "seeds")]
    diagram: bool,
    /// Print no trace
    #[arg(long)]
    quiet: bool,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Begin no new seed after so many minutes
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,
    /// How many seeds run at a time [default: as many as there are cores]
    #[arg(long, short, value_name = "N", requires = "seeds")]
    jobs: Option<NonZeroUsize>,
    /// Count what is reached and list what is not
    #[arg(long)]
    coverage: bool,
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
    if let Some((from, to)) = arguments.seeds {
        return many::many(from, to, &arguments);
    }
    if let Some(file) = &arguments.script {
        return match std::fs::read(file) {
            Ok(script) => show(&arguments, |options| {
                fulmen_sim::run_script(&script, options)
            }),
            Err(error) => {
                eprintln!("{}: {error}", file.display());
                ExitCode::FAILURE
            }
        };
    }
    let plan = match (arguments.seed, &arguments.file) {
        (Some(seed), _) => Ok(Plan::draw(seed)),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|e| e.to_string())
            .and_then(|text| Plan::from_text(&text))
            .map_err(|e| format!("{}: {e}", file.display())),
        (None, None) => Err("give --seed, --seeds, --file or --script; see --help".to_owned()),
    };
    match plan {
        Ok(plan) => one(plan, &arguments),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn one(plan: Plan, arguments: &Arguments) -> ExitCode {
    if arguments.plan {
        println!("{}", plan.to_text());
        return ExitCode::SUCCESS;
    }
    if arguments.shrink {
        let most = Duration::from_secs(arguments.patience);
        let tell = |plan: &Plan| {
            let Plan {
                nodes,
                channels,
                payments,
                ..
            } = plan;
            let mut faults = plan.faults;
            let kinds = faults.kinds().iter().filter(|(_, most)| **most > 0).count();
            eprintln!(
                "{nodes} nodes, {} channels, {} payments, {kinds} kinds of faults",
                channels.len(),
                payments.len()
            );
        };
        let Some((plan, failure)) = fulmen_sim::shrink(&plan, most, tell) else {
            eprintln!("this plan does not fail");
            return ExitCode::FAILURE;
        };
        eprintln!("{failure}");
        println!("{}", plan.to_text());
        return ExitCode::SUCCESS;
    }
    show(arguments, |options| fulmen_sim::run_plan(plan, options))
}

/// One run, with its trace.
fn show(arguments: &Arguments, run: impl FnOnce(Options) -> Outcome) -> ExitCode {
    let trace = match (arguments.diagram, arguments.quiet) {
        (true, _) => Keep::All,
        (false, true) => Keep::Tail,
        (false, false) => Keep::Print,
    };
    let options = Options {
        trace,
        coverage: arguments.coverage,
    };
    let outcome = run(options);
    if arguments.diagram {
        println!("{}", fulmen_sim::diagram(&outcome.lines));
        return report(&[outcome]);
    }
    println!("{}", summary(&outcome.stats));
    println!("seed {}: trace {}", outcome.seed, outcome.hash);
    if arguments.coverage {
        println!("{}", outcome.coverage.report());
    }
    report(&[outcome])
}

fn summary(stats: &Stats) -> String {
    let counts: Vec<String> = stats
        .named()
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    counts.join(", ")
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
