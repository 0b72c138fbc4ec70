//! The simulator: networks of real nodes in one process, from one seed.
//!
//! Two to nine [`fulmen_node::Node`]s live on an embedded chain, each with a disk that forgets what was not
//! committed, connections that break after any message, a wallet and a signer. There are no threads and no
//! clock: time is a queue of happenings, and chance comes from the seed, so that the same seed gives the same
//! run, byte for byte. Users open channels, pay each other over several hops in both directions, and close,
//! together or by force, while nodes crash at the boundaries of their batches, connections break, commits and
//! answers are slow, and blocks come late, at different times, and are replaced.
//!
//! Checkers outside of the nodes look at every step (`check`), at the end of every payment (`task`), and at the
//! ledger once all is quiet and once all is back on chain (`phase`).
//!
//! ```
//! let outcome = fulmen_sim::run(1, false);
//! assert_eq!(outcome.failure, None);
//! ```
//!
//! It is not a model of anything: nodes, wire encoding, signatures, scripts and mempool rules are the real
//! ones. What it grows by are choices ([`plan`]) and checkers.

mod chainside;
mod check;
mod disk;
mod drive;
mod host;
mod net;
mod outbox;
mod phase;
pub mod plan;
mod rng;
mod task;
mod trace;
mod user;
mod wallet;
mod wire;
mod world;

pub use rng::Rng;
pub use trace::Trace;
pub use world::Stats;

use plan::Plan;
use world::World;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What was wrong, if anything was.
    pub failure: Option<String>,
    /// The hash of all that happened.
    pub hash: String,
    /// The last lines of the trace.
    pub tail: Vec<String>,
    /// What was counted.
    pub stats: Stats,
    /// How long it lasted for the nodes, in milliseconds.
    pub simulated_millis: u64,
}

/// Runs the world of a seed. The trace is printed as it grows if `print` is set.
pub fn run(seed: u64, print: bool) -> Outcome {
    run_plan(Plan::draw(seed), print)
}

/// Runs a plan.
pub fn run_plan(plan: Plan, print: bool) -> Outcome {
    let seed = plan.seed;
    let mut world = World::new(plan, print);
    world.run();
    Outcome {
        seed,
        failure: world.failure.clone(),
        hash: world.trace.hash(),
        tail: world.trace.tail(),
        stats: world.stats,
        simulated_millis: world.elapsed(),
    }
}
