//! `cargo run -p fulmen-vectors`: runs the tests over official vectors and prints how many each group had.
//! Fails when a test fails or a group was not run in full.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, ExitCode, Stdio},
};

use fulmen_vectors::{GROUPS, MARK};

fn main() -> ExitCode {
    let packages: BTreeSet<&str> = GROUPS.iter().map(|group| group.package).collect();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "--lib", "--tests"]);
    for package in packages {
        command.args(["-p", package]);
    }
    // The names of all tests over vectors have the word in them.
    command.args(["--", "vectors", "--nocapture"]);
    let output = match command.stderr(Stdio::inherit()).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("cargo does not run: {error}");
            return ExitCode::FAILURE;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{said}");
        return ExitCode::FAILURE;
    }

    let mut missing = 0;
    let mut totals: BTreeMap<u8, usize> = BTreeMap::new();
    for group in GROUPS {
        let line = format!("{MARK} BOLT {} {}: ", group.bolt, group.name);
        // The test has compared the number with the group's already.
        let ran = said.lines().any(|l| l.contains(&line));
        let state = if ran { "" } else { "  NOT RUN" };
        println!(
            "BOLT {:>2}  {:<46} {:>3}  {}{state}",
            group.bolt, group.name, group.count, group.package
        );
        missing += usize::from(!ran);
        *totals.entry(group.bolt).or_default() += group.count;
    }
    for (bolt, total) in totals {
        println!("BOLT {bolt:>2}  total {total}");
    }
    if missing > 0 {
        eprintln!("{missing} groups of vectors were not run");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
