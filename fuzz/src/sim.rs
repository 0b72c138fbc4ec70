//! The simulator with an engine in the place of seeds.

use fulmen_sim::Options;

/// Whole networks of nodes, the bytes making every choice: the plan first, then what goes wrong and when.
pub(crate) fn sim(data: &[u8]) {
    let outcome = fulmen_sim::run_script(data, Options::default());
    if let Some(failure) = outcome.failure {
        panic!("{}\n{failure}", outcome.lines.join("\n"));
    }
}
