//! Plants each deliberate bug of `testing/sim/mutations` in a temporary copy of the sources, and looks how many
//! seeds the simulator needs to find it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Parser;

/// Checks that the simulator finds deliberate bugs.
///
/// A patch file begins with `What:` (the bug), `Attack:` (its number in docs/known-attacks.md) and `Seeds:`
/// (within how many it must be found).
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these, by a part of their file's name
    names: Vec<String>,
    /// Only see that every patch still applies
    #[arg(long)]
    check: bool,
    /// Where the copy lies
    #[arg(long, value_name = "DIR")]
    copy: Option<PathBuf>,
}

struct Mutation {
    name: String,
    patch: PathBuf,
    what: String,
    attack: String,
    seeds: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .map_err(|e| e.to_string())?;
    let mutations = read_all(&root.join("testing/sim/mutations"))?;
    let chosen = mutations.iter().filter(|m| {
        arguments.names.is_empty() || arguments.names.iter().any(|n| m.name.contains(n))
    });
    let chosen: Vec<&Mutation> = chosen.collect();
    if arguments.check {
        for mutation in &chosen {
            patch(&root, mutation, &["--check"])?;
        }
        println!("all {} mutations apply", chosen.len());
        return Ok(true);
    }
    let copy = arguments
        .copy
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join("fulmen-mutations"));
    println!("| bug | attack | found at seed | by |\n|---|---|---|---|");
    let mut all_found = true;
    for mutation in chosen {
        copy_sources(&root, &copy)?;
        patch(&copy, mutation, &[])?;
        let begun = Instant::now();
        let built = simulator(&root, &copy, &["--version".to_owned()])?;
        let found = if built.0 {
            let seeds = format!("0..{}", mutation.seeds);
            let (clean, text) = simulator(&root, &copy, &["--seeds".to_owned(), seeds])?;
            (!clean).then_some(text)
        } else {
            return Err(format!("{} does not build:\n{}", mutation.name, built.1));
        };
        let first = found.as_ref().and_then(|text| {
            let line = text.lines().find(|line| line.contains(" FAILED: "))?;
            let (seed, by) = line.split_once(" FAILED: ")?;
            let by: String = by.chars().take(110).collect();
            Some(format!("{} | {by}", seed.trim_start_matches("seed ")))
        });
        all_found &= first.is_some();
        let first = first.unwrap_or_else(|| format!("**not within {}** |", mutation.seeds));
        println!("| {} | {} | {first} |", mutation.what, mutation.attack);
        eprintln!("{} took {} s", mutation.name, begun.elapsed().as_secs());
    }
    copy_sources(&root, &copy)?;
    Ok(all_found)
}

fn read_all(folder: &Path) -> Result<Vec<Mutation>, String> {
    let mut all = Vec::new();
    let files = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for file in files {
        let patch = file.map_err(|e| e.to_string())?.path();
        let text = fs::read_to_string(&patch).map_err(|e| e.to_string())?;
        let head = |word: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(word))
                .map(|rest| rest.trim().to_owned())
                .ok_or_else(|| format!("{}: no line begins with {word}", patch.display()))
        };
        let seeds = head("Seeds:")?;
        all.push(Mutation {
            name: patch
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            what: head("What:")?,
            attack: head("Attack:")?,
            seeds: seeds.parse().map_err(|e| format!("Seeds: {seeds}: {e}"))?,
            patch,
        });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn patch(root: &Path, mutation: &Mutation, options: &[&str]) -> Result<(), String> {
    let out = Command::new("git")
        .arg("apply")
        .args(options)
        .arg(&mutation.patch)
        .current_dir(root)
        .output()
        .map_err(|e| format!("git: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&out.stderr);
    Err(format!(
        "{} does not apply any more: make it anew\n{why}",
        mutation.name
    ))
}

/// Copies what is under version control, and only what differs, so that little is built again.
fn copy_sources(root: &Path, copy: &Path) -> Result<(), String> {
    let out = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("git: {e}"))?;
    for name in String::from_utf8_lossy(&out.stdout).split('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        if name.is_empty() || !from.is_file() {
            continue;
        }
        let wanted = fs::read(&from).map_err(|e| format!("{}: {e}", from.display()))?;
        if fs::read(&to).is_ok_and(|there| there == wanted) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::write(&to, wanted).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    Ok(())
}

/// Builds and runs the simulator of the copy. All mutations share one target folder: what is not changed is built
/// once. Whether it ended well, and what it said.
fn simulator(root: &Path, copy: &Path, arguments: &[String]) -> Result<(bool, String), String> {
    let out = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release"])
        .args(["-p", "fulmen-sim", "--bin", "fulmen-sim"])
        .arg("--target-dir")
        .arg(root.join("target/mutations"))
        .arg("--")
        .args(arguments)
        .current_dir(copy)
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((out.status.success(), text.concat()))
}
