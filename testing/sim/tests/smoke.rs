//! Some dozens of seeds, and that a seed is one run and no other.

#[test]
fn the_first_seeds_are_clean() {
    let mut sum = fulmen_sim::Stats::default();
    for seed in 0..24 {
        let outcome = fulmen_sim::run(seed, false);
        assert_eq!(
            outcome.failure,
            None,
            "seed {seed}; run `cargo run -p fulmen-sim -- --seed {seed}`; the end of its trace:\n{}",
            outcome.tail.join("\n")
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
        let (one, two) = (fulmen_sim::run(seed, false), fulmen_sim::run(seed, false));
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
    assert_ne!(
        fulmen_sim::run(3, false).hash,
        fulmen_sim::run(4, false).hash
    );
}
