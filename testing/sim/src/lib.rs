//! The simulator: networks of real nodes in one process, from one seed.
//!
//! Two to nine [`fulmen_node::Node`]s live on an embedded chain, each with a disk that forgets what was not
//! committed, connections that break after any message, a wallet and a signer. There are no threads and no
//! clock: time is a queue of happenings, and chance comes from the seed, so that the same seed gives the same
//! run, byte for byte. Users open channels, pay each other over several hops in both directions, and close,
//! together or by force, while nodes crash at the boundaries of their batches, connections break and stall,
//! commits and answers are slow or fail, feerates jump, and blocks come late, at different times, empty or
//! censored, and are replaced. One of the hosts may be a cheater, or have more bad luck than the others.
//!
//! Checkers outside of the nodes look at every step (`check`), at the end of every payment (`task`), and at the
//! ledger once all is quiet and once all is back on chain (`ledger`).
//!
//! ```
//! let outcome = fulmen_sim::run(1);
//! assert_eq!(outcome.failure, None);
//! ```
//!
//! It is not a model of anything: nodes, wire encoding, signatures, scripts and mempool rules are the real
//! ones. What it grows by are choices ([`plan`]) and checkers.

mod broadcast;
mod chainside;
mod check;
mod coverage;
mod cycler;
mod deadline;
mod diagram;
mod disk;
mod drive;
mod early;
mod fees;
mod host;
mod ledger;
mod net;
mod outbox;
mod phase;
pub mod plan;
mod ports;
mod restart;
mod rng;
mod shrink;
mod spends;
mod task;
mod trace;
mod twist;
mod user;
mod villain;
mod wallet;
mod wire;
mod world;

pub use coverage::Coverage;
pub use diagram::diagram;
pub use rng::Rng;
pub use shrink::shrink;
pub use trace::{Keep, Trace};
pub use world::Stats;

use std::panic::{AssertUnwindSafe, catch_unwind};

use plan::Plan;
use world::World;

/// How a run is watched. It changes nothing in the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What becomes of the trace's lines.
    pub trace: Keep,
    /// Whether what is reached is counted.
    pub coverage: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What was wrong, if anything was.
    pub failure: Option<String>,
    /// The hash of all that happened.
    pub hash: String,
    /// The lines of the trace that were kept.
    pub lines: Vec<String>,
    /// What was counted.
    pub stats: Stats,
    /// What was reached.
    pub coverage: Coverage,
    /// How long it lasted for the nodes, in milliseconds.
    pub simulated_millis: u64,
}

/// Runs the world of a seed.
pub fn run(seed: u64) -> Outcome {
    run_plan(Plan::draw(seed), Options::default())
}

/// Runs a plan. A panic anywhere in it is a failure like others.
pub fn run_plan(plan: Plan, options: Options) -> Outcome {
    let rng = Rng::new(plan.seed.wrapping_mul(0x9e37_79b9) ^ 0x51);
    run_world(World::new(plan, rng, options))
}

/// Runs a world in which the bytes make the choices, first those of the plan, then those on the way; when they
/// are used up chance goes on. So a fuzzing engine can look for what seeds seldom reach.
pub fn run_script(script: &[u8], options: Options) -> Outcome {
    let seed = script
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut rng = Rng::scripted(seed, script);
    let plan = Plan::draw_from(seed, &mut rng);
    run_world(World::new(plan, rng, options))
}

fn run_world(mut world: World) -> Outcome {
    let seed = world.plan.seed;
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        world.fail(format!("a panic: {}", text.unwrap_or("of another kind")));
    }
    Outcome {
        seed,
        failure: world.failure.clone(),
        hash: world.trace.hash(),
        lines: world.trace.lines(),
        simulated_millis: world.elapsed(),
        stats: world.stats,
        coverage: world.coverage,
    }
}
