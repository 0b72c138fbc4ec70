//! The program as a whole, where it needs no network of nodes.

use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fulmen-demo"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // The daemon ends with its parent, whose end it sees here: it stays open until the answer is there.
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("the program ends");
    drop(stdin);
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_shows_examples() {
    for (arguments, example) in [
        (
            vec!["--help"],
            "cargo run --release -p fulmen-demo -- --keep",
        ),
        (vec!["crash", "--help"], "crash --kills 100"),
    ] {
        let output = run(&arguments);
        assert!(output.status.success());
        assert!(
            text(&output.stdout).contains(example),
            "{}",
            text(&output.stdout)
        );
    }
}

#[test]
fn is_the_daemon_too() {
    let output = run(&["daemon", "--help"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("--data-dir"),
        "{}",
        text(&output.stdout)
    );
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().display().to_string();
    let output = run(&["daemon", "--data-dir", &path]);
    assert!(!output.status.success(), "there is no seed");
}

#[test]
fn a_cheat_needs_a_seed_and_a_store() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().display().to_string();
    let funding = format!("{}:0", "11".repeat(32));
    let output = run(&["cheat", "--data-dir", &path, "--funding", &funding]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(
        error.contains("the cheat does not work") && error.contains("seed"),
        "{error}"
    );
}
