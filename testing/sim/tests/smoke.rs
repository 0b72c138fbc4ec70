//! Some dozens of seeds, the plans that once failed, and that a seed is one run and no other.

use fulmen_sim::{Options, plan::Plan, run_plan};

#[test]
fn the_first_seeds_are_clean() {
    let mut sum = fulmen_sim::Stats::default();
    for seed in 0..24 {
        let outcome = fulmen_sim::run(seed);
        assert_eq!(
            outcome.failure,
            None,
            "seed {seed}; run `cargo run -p fulmen-sim -- --seed {seed}`; the end of its trace:\n{}",
            outcome.lines.join("\n")
        );
        sum.add(&outcome.stats);
    }
    // A simulator that does nothing finds nothing.
    assert!(sum.paid > 200, "{sum:?}");
    assert!(sum.forwards > 25, "{sum:?}");
    assert!(sum.crashes > 50, "{sum:?}");
    assert!(sum.disconnects > 50, "{sum:?}");
    assert!(sum.reorgs > 5, "{sum:?}");
    assert!(sum.forced > 5, "{sum:?}");
    assert!(sum.forced_in_flight > 0, "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 8, 21] {
        let (one, two) = (fulmen_sim::run(seed), fulmen_sim::run(seed));
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
    assert_ne!(fulmen_sim::run(3).hash, fulmen_sim::run(4).hash);
}

#[test]
fn bytes_make_the_choices_as_seeds_do() {
    let script: Vec<u8> = (0..=255).collect();
    let run = |script: &[u8]| fulmen_sim::run_script(script, Options::default());
    let outcome = run(&script);
    assert_eq!(outcome.failure, None);
    assert_eq!(run(&script).hash, outcome.hash);
    // One byte is one choice, in the plan or on the way.
    let mut other = script.clone();
    other[255] ^= 1;
    assert_ne!(run(&other).hash, outcome.hash);
}

#[test]
fn what_once_failed_fails_no_more() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let plan = Plan::from_text(&text).unwrap();
        let outcome = run_plan(plan, Options::default());
        assert_eq!(outcome.failure, None, "{}", path.display());
        count += 1;
    }
    assert!(count > 0);
    println!("{count} plans");
}

/// Beyond the budget the checkers must see what is lost: a cycle that wins every block costs the channel upstream.
#[test]
fn a_cycle_without_end_is_noticed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/beyond/endless-cycle.json");
    let plan = Plan::from_text(&std::fs::read_to_string(file).unwrap()).unwrap();
    let outcome = run_plan(plan, Options::default());
    let failure = outcome.failure.unwrap();
    assert!(outcome.stats.cycled > 12, "{:?}", outcome.stats);
    assert!(
        failure.contains("by force: our HTLC 0 expired"),
        "{failure}"
    );
}

#[test]
fn a_plan_survives_its_text() {
    for seed in 0..200 {
        let plan = Plan::draw(seed);
        assert_eq!(Plan::from_text(&plan.to_text()), Ok(plan));
    }
    // Hosts that are not there.
    let bad = Plan::draw(1).to_text().replace("\"to\": ", "\"to\": 9");
    assert!(Plan::from_text(&bad).is_err());
}
