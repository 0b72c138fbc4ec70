//! Plants each deliberate bug of `testing/sim/mutations` in a temporary copy of the sources, and looks whether the
//! simulator finds it within the seeds that are stated for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Parser;

/// Checks that the simulator finds deliberate bugs, and that the sources without them pass the same seeds.
///
/// A patch file begins with `What:` (the bug) and `Attack:` (its number in docs/known-attacks.md). Where to look for
/// each is in seeds.tsv beside them: its number, the first seed to try, how many seeds may be tried, and the first
/// words of the checker that found it last. Sources are built in release mode below target/mutations.
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
    place: Place,
}

/// Where a bug is looked for: a line of seeds.tsv.
struct Place {
    first: u64,
    seeds: u64,
    words: String,
}

/// A seed that fails, and what its checker says.
struct Found {
    seed: u64,
    by: String,
}

/// How many characters of a failure the table shows.
const SHOWN: usize = 90;
/// No new seed of a mutation is begun after so many minutes.
const MINUTES: u64 = 10;
/// The list, in a copy, of what was copied.
const COPIED: &str = ".copied";

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
    if chosen.is_empty() {
        return Err("no mutation has such a name".into());
    }
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
    let simulator = Simulator { root, copy };
    let mut table = Vec::new();
    let mut found = Vec::new();
    for (index, mutation) in chosen.iter().enumerate() {
        simulator.copy_sources()?;
        patch(&simulator.copy, mutation, &[])?;
        eprintln!("{} of {}: {}", index + 1, chosen.len(), mutation.name);
        let result = simulator.look_for(mutation)?;
        let said = match &result {
            Some(Found { seed, by }) => format!("{seed} | {by}"),
            None => {
                let Place { first, seeds, .. } = mutation.place;
                format!("**not in {first}..{}** |", first.saturating_add(seeds))
            }
        };
        table.push(format!(
            "| {} | {} | {} | {said} |",
            number(&mutation.name),
            mutation.what,
            mutation.attack
        ));
        found.extend(result.map(|found| found.seed));
    }
    simulator.copy_sources()?;
    eprintln!("the seeds that found something, without any bug");
    let failing = simulator.failing(&found)?;
    println!("| # | bug | attack | found at seed | by |\n|---|---|---|---|---|");
    println!("{}", table.join("\n"));
    for (seed, why) in &failing {
        println!("seed {seed} proves nothing, as it fails without a bug as well: {why}");
    }
    println!("{} of {} found", found.len(), chosen.len());
    Ok(found.len() == chosen.len() && failing.is_empty())
}

/// The number that a mutation's file name begins with.
fn number(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

fn read_all(folder: &Path) -> Result<Vec<Mutation>, String> {
    let mut places = read_places(&folder.join("seeds.tsv"))?;
    let mut all = Vec::new();
    let files = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for file in files {
        let patch = file.map_err(|e| e.to_string())?.path();
        if patch
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        let text = fs::read_to_string(&patch).map_err(|e| e.to_string())?;
        let head = |word: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(word))
                .map(|rest| rest.trim().to_owned())
                .ok_or_else(|| format!("{}: no line begins with {word}", patch.display()))
        };
        let name = patch
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let place = places
            .remove(number(&name))
            .ok_or_else(|| format!("{name} is not in seeds.tsv"))?;
        all.push(Mutation {
            what: head("What:")?,
            attack: head("Attack:")?,
            name,
            place,
            patch,
        });
    }
    if let Some(number) = places.keys().next() {
        return Err(format!(
            "seeds.tsv has {number}, and there is no such patch"
        ));
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn read_places(file: &Path) -> Result<BTreeMap<String, Place>, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut places = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let place = || {
            let mut fields = line.split('\t');
            let number = fields.next()?.to_owned();
            let first = fields.next()?.parse().ok()?;
            let seeds = fields.next()?.parse().ok()?;
            let words = fields.next()?.to_owned();
            let place = Place {
                first,
                seeds,
                words,
            };
            Some((number, place))
        };
        let (number, place) =
            place().ok_or_else(|| format!("{}: what is {line:?}?", file.display()))?;
        if places.insert(number, place).is_some() {
            return Err(format!("{}: {line:?} is a second line", file.display()));
        }
    }
    Ok(places)
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

/// The failure of the least seed that the simulator's output tells of.
fn failure(text: &str) -> Option<Found> {
    let failures = text.lines().filter_map(|line| {
        let (seed, by) = line.strip_prefix("seed ")?.split_once(" FAILED: ")?;
        Some(Found {
            seed: seed.parse().ok()?,
            by: by.to_owned(),
        })
    });
    failures.min_by_key(|found| found.seed)
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|e| format!("{}: {e}", file.display()))
}

/// The simulator of the copy.
struct Simulator {
    root: PathBuf,
    copy: PathBuf,
}

impl Simulator {
    /// Looks for a mutation that is planted in the copy.
    fn look_for(&self, mutation: &Mutation) -> Result<Option<Found>, String> {
        self.build()?;
        let begun = Instant::now();
        let Place {
            first,
            seeds,
            ref words,
        } = mutation.place;
        let range = format!("{first}..{}", first.saturating_add(seeds));
        let minutes = MINUTES.to_string();
        let (clean, text) = self.run(&["--seeds", &range, "--minutes", &minutes])?;
        let seconds = begun.elapsed().as_secs();
        let Some(Found { seed, by }) = failure(&text) else {
            if !clean {
                return Err(format!(
                    "{}: the simulator ended with\n{text}",
                    mutation.name
                ));
            }
            eprintln!("  not found in {range} within {seconds} s; last found by {words:?}");
            return Ok(None);
        };
        let by = if by.contains(words.as_str()) {
            words.clone()
        } else {
            let by: String = by.chars().take(SHOWN).collect();
            format!("{by} (last time: {words})")
        };
        eprintln!("  seed {seed} after {seconds} s: {by}");
        Ok(Some(Found { seed, by }))
    }

    /// Which of these seeds fail, and why.
    fn failing(&self, seeds: &[u64]) -> Result<Vec<(u64, String)>, String> {
        self.build()?;
        let mut failing = Vec::new();
        for seed in seeds {
            let (clean, text) = self.run(&["--quiet", "--seed", &seed.to_string()])?;
            if !clean {
                let why = failure(&text).map_or(text, |found| found.by);
                failing.push((*seed, why));
            }
        }
        Ok(failing)
    }

    /// Copies what is under version control, and only what differs, so that little is built again. What an earlier
    /// copy had and the sources have no longer goes.
    fn copy_sources(&self) -> Result<(), String> {
        let out = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(&self.root)
            .output()
            .map_err(|e| format!("git: {e}"))?;
        let listed = String::from_utf8_lossy(&out.stdout);
        let names: BTreeSet<&str> = listed
            .split('\0')
            .filter(|name| !name.is_empty() && self.root.join(name).is_file())
            .collect();
        let before = self.copied_before()?;
        for name in before.lines().filter(|name| !names.contains(name)) {
            // It may have gone already.
            let _ = fs::remove_file(self.copy.join(name));
        }
        fs::create_dir_all(&self.copy).map_err(|e| format!("{}: {e}", self.copy.display()))?;
        let list = names.iter().map(|name| format!("{name}\n"));
        write(&self.copy.join(COPIED), list.collect::<String>().as_bytes())?;
        for name in names {
            let (from, to) = (self.root.join(name), self.copy.join(name));
            let wanted = fs::read(&from).map_err(|e| format!("{}: {e}", from.display()))?;
            if fs::read(&to).is_ok_and(|there| there == wanted) {
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            }
            write(&to, &wanted)?;
        }
        Ok(())
    }

    /// What was copied last time, a name in each line. A folder that holds anything else is left alone.
    fn copied_before(&self) -> Result<String, String> {
        if let Ok(names) = fs::read_to_string(self.copy.join(COPIED)) {
            return Ok(names);
        }
        let is_empty = fs::read_dir(&self.copy).map_or(true, |mut files| files.next().is_none());
        if is_empty {
            return Ok(String::new());
        }
        Err(format!(
            "{} is no copy that an earlier run has made: remove it, or name another folder with --copy",
            self.copy.display()
        ))
    }

    fn build(&self) -> Result<(), String> {
        let begun = Instant::now();
        let (built, text) = self.cargo("build", &[])?;
        if !built {
            return Err(format!("this does not build:\n{text}"));
        }
        eprintln!("  built in {} s", begun.elapsed().as_secs());
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<(bool, String), String> {
        let arguments: Vec<&str> = ["--"].iter().chain(arguments).copied().collect();
        self.cargo("run", &arguments)
    }

    /// Whether it ended well, and what it said. All mutations share one target folder: what is not changed is built
    /// once, and of what is changed the parts that are not.
    fn cargo(&self, what: &str, arguments: &[&str]) -> Result<(bool, String), String> {
        let out = Command::new(env!("CARGO"))
            .args([what, "--quiet", "--release"])
            .args(["-p", "fulmen-sim", "--bin", "fulmen-sim"])
            .arg("--target-dir")
            .arg(self.root.join("target/mutations"))
            .args(arguments)
            .env("CARGO_INCREMENTAL", "1")
            .current_dir(&self.copy)
            .output()
            .map_err(|e| format!("cargo: {e}"))?;
        let text =
            [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((out.status.success(), text.concat()))
    }
}
