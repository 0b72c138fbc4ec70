//! Many seeds, on all cores: each run is one thread's.

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use fulmen_sim::{Coverage, Keep, Options, Outcome, Stats, plan::Plan};

use crate::{Arguments, report, summary};

/// One of so many seeds is run twice.
const TWICE: u64 = 20;
/// How often progress is told.
const TOLD: Duration = Duration::from_secs(10);

/// Runs the seeds from `from` up to, not including, `to`, and prints what came of them.
pub(crate) fn many(from: u64, to: u64, arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let most = arguments.minutes.map(|m| Duration::from_secs(m * 60));
    let jobs = arguments
        .jobs
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let options = Options {
        trace: Keep::Tail,
        coverage: arguments.coverage,
    };
    let (next, over) = (AtomicU64::new(from), AtomicBool::new(false));
    // Seeds are begun in their order, and what was begun is ended: so the least that fails is among those that do.
    let work = |outcomes: mpsc::Sender<Outcome>| {
        while !over.load(Ordering::Relaxed) && most.is_none_or(|most| begun.elapsed() < most) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to || outcomes.send(once_or_twice(seed, options)).is_err() {
                break;
            }
        }
    };
    let mut sum = Sum::default();
    thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..jobs {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        let mut told = Instant::now();
        for outcome in outcomes {
            if let Some(failure) = &outcome.failure {
                println!("seed {} FAILED: {failure}", outcome.seed);
                over.fetch_or(!arguments.keep_going, Ordering::Relaxed);
            }
            sum.add(outcome);
            if told.elapsed() >= TOLD {
                told = Instant::now();
                let (done, failed) = (sum.runs.len(), sum.failed.len());
                println!("{done} of {} seeds, {failed} failed", to - from);
            }
        }
    });
    let first_left = next.load(Ordering::Relaxed);
    if first_left < to && !over.load(Ordering::Relaxed) {
        println!("the time is over before seed {first_left}");
    }
    sum.print(begun.elapsed().as_secs_f64(), jobs);
    if arguments.coverage {
        println!("{}", sum.coverage.report());
    }
    sum.failed.sort_by_key(|outcome| outcome.seed);
    report(&sum.failed)
}

fn once_or_twice(seed: u64, options: Options) -> Outcome {
    let mut outcome = fulmen_sim::run_plan(Plan::draw(seed), options);
    if seed.is_multiple_of(TWICE) && outcome.failure.is_none() {
        let again = fulmen_sim::run(seed);
        if again.hash != outcome.hash {
            outcome.failure = Some("the same seed gave another run".into());
        }
    }
    outcome
}

/// What came of all runs.
#[derive(Default)]
struct Sum {
    stats: Stats,
    coverage: Coverage,
    simulated_millis: u64,
    /// Steps and ended payments of each run.
    runs: Vec<(u64, u64)>,
    failed: Vec<Outcome>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        let stats = &outcome.stats;
        self.runs.push((stats.steps, stats.paid + stats.unpaid));
        self.simulated_millis += outcome.simulated_millis;
        self.stats.add(stats);
        self.coverage.add(&outcome.coverage);
        if outcome.failure.is_some() {
            self.failed.push(outcome);
        }
    }

    fn print(&self, seconds: f64, jobs: usize) {
        println!(
            "{} seeds in {seconds:.1} s on {jobs} threads, {:.1} simulated days, {:.0} steps per second; medians: {} steps, {} payments",
            self.runs.len(),
            rate(self.simulated_millis, 86_400_000.0),
            rate(self.stats.steps, seconds),
            median(self.runs.iter().map(|(steps, _)| *steps)),
            median(self.runs.iter().map(|(_, payments)| *payments)),
        );
        println!("{}", summary(&self.stats));
    }
}

fn median(numbers: impl Iterator<Item = u64>) -> u64 {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}
