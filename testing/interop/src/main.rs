//! Fulmen and LDK as peers: one embedded chain, real TCP, each scenario for each opener and each
//! channel type.

mod compare;
mod fulmen;
mod ldk;
mod node;
mod scenarios;
mod wait;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::{Parser, ValueEnum};
use comfy_table::{Cell, Color, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::node::ChannelKind;
use crate::scenarios::{ALL, Case, OF_FULMEN_ALONE, Scenario};
use crate::world::{Impl, World};

/// Runs Fulmen against LDK over real TCP on an embedded chain (or on bitcoind, when
/// BITCOIND_EXE is set).
///
/// Every scenario runs for each opener and each channel type. The exit code is 0 only if all
/// that were asked for passed.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: fulmen-interop --filter close --opener ldk --channel-type anchors"
)]
struct Arguments {
    /// Runs only scenarios whose name contains this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Runs only with this opener.
    #[arg(long, value_enum)]
    opener: Option<OpenerArgument>,
    /// Runs only with this channel type.
    #[arg(long, value_enum)]
    channel_type: Option<KindArgument>,
    /// Lists the scenarios and ends.
    #[arg(long)]
    list: bool,
    /// Tries LDK against LDK instead: do the scenarios themselves hold?
    #[arg(long)]
    ldk_only: bool,
    /// Begins no scenario after the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// How many scenarios run at once; most of their time they wait.
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    jobs: usize,
    /// How many channels, for each type, are compared key by key and script by script.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    comparisons: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OpenerArgument {
    Ldk,
    Fulmen,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArgument {
    #[value(name = "static_remotekey")]
    StaticRemoteKey,
    Anchors,
}

/// One row of the table.
struct Row {
    scenario: &'static Scenario,
    opener: Impl,
    kind: ChannelKind,
    took: Duration,
    result: Result<()>,
}

impl Row {
    fn line(&self) -> String {
        let (name, opener, kind) = (self.scenario.name, self.opener.name(), self.kind);
        let seconds = self.took.as_secs_f64();
        match &self.result {
            Ok(()) => format!("ok      {name}, opened by {opener}, {kind} ({seconds:.1} s)"),
            Err(error) => {
                format!("FAILED  {name}, opened by {opener}, {kind} ({seconds:.1} s): {error:#}")
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("FULMEN_LOG") {
        let lines = tracing_subscriber::fmt().with_env_filter(filter);
        lines.with_writer(std::io::stderr).init();
    }
    if arguments.list {
        for scenario in ALL {
            println!("{:<32} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    let plan = plan(&arguments);
    if plan.is_empty() {
        eprintln!("no scenario matches; --list shows them all");
        return ExitCode::FAILURE;
    }
    let begun = Instant::now();
    let alike = !arguments.filter.is_empty() || compare::report(arguments.comparisons);
    let rows = run(&plan, &arguments);
    let all_passed = report(&rows, plan.len(), begun.elapsed());
    if all_passed && alike {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn plan(arguments: &Arguments) -> Vec<(&'static Scenario, Impl, ChannelKind)> {
    let wanted = |scenario: &&Scenario| {
        let mut filters = arguments.filter.iter();
        let is_named = arguments.filter.is_empty()
            || filters.any(|text| scenario.name.contains(text.as_str()));
        is_named && !(arguments.ldk_only && OF_FULMEN_ALONE.contains(&scenario.name))
    };
    let openers = match (arguments.ldk_only, arguments.opener) {
        (true, _) | (false, Some(OpenerArgument::Ldk)) => vec![Impl::Ldk],
        (false, Some(OpenerArgument::Fulmen)) => vec![Impl::Fulmen],
        (false, None) => vec![Impl::Ldk, Impl::Fulmen],
    };
    let kinds = match arguments.channel_type {
        Some(KindArgument::StaticRemoteKey) => vec![ChannelKind::StaticRemoteKey],
        Some(KindArgument::Anchors) => vec![ChannelKind::Anchors],
        None => ChannelKind::ALL.to_vec(),
    };
    let mut plan = Vec::new();
    for scenario in ALL.iter().filter(wanted) {
        for opener in &openers {
            for kind in &kinds {
                plan.push((scenario, *opener, *kind));
            }
        }
    }
    plan
}

/// Runs the plan, several scenarios at once, each on a chain of its own.
fn run(plan: &[(&'static Scenario, Impl, ChannelKind)], arguments: &Arguments) -> Vec<Row> {
    let bar = ProgressBar::new(plan.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let rows = Mutex::new(BTreeMap::new());
    let work = || {
        while !(arguments.fail_fast && failed.load(Ordering::Relaxed)) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((scenario, opener, kind)) = plan.get(index) else {
                break;
            };
            let row = timed(scenario, *opener, *kind, arguments.ldk_only);
            let line = row.line();
            // Without a terminal the bar prints nothing.
            if bar.is_hidden() {
                println!("{line}");
            } else {
                bar.println(line);
            }
            bar.inc(1);
            failed.fetch_or(row.result.is_err(), Ordering::Relaxed);
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.insert(index, row);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.into_values().collect()
}

fn timed(scenario: &'static Scenario, opener: Impl, kind: ChannelKind, ldk_only: bool) -> Row {
    let begun = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| one(scenario, opener, kind, ldk_only)))
        .unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err(anyhow!("panic: {}", text.unwrap_or_default()))
        });
    Row {
        scenario,
        opener,
        kind,
        took: begun.elapsed(),
        result,
    }
}

fn one(scenario: &Scenario, opener: Impl, kind: ChannelKind, ldk_only: bool) -> Result<()> {
    let world = World::new()?;
    let peer = match opener {
        Impl::Fulmen => Impl::Ldk,
        Impl::Ldk if ldk_only => Impl::Ldk,
        Impl::Ldk => Impl::Fulmen,
    };
    (scenario.run)(&Case {
        world: &world,
        opener,
        peer,
        fulmen: if ldk_only { Impl::Ldk } else { Impl::Fulmen },
        kind,
    })
}

/// Prints the table; says whether all have passed.
fn report(rows: &[Row], planned: usize, took: Duration) -> bool {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["scenario", "opener", "type", "result", "seconds", "why"]);
    for row in rows {
        let (result, why) = match &row.result {
            Ok(()) => (Cell::new("ok").fg(Color::Green), String::new()),
            Err(error) => (Cell::new("failed").fg(Color::Red), format!("{error:#}")),
        };
        table.add_row([
            Cell::new(row.scenario.name),
            Cell::new(row.opener.name()),
            Cell::new(row.kind.name()),
            result,
            Cell::new(format!("{:.1}", row.took.as_secs_f64())),
            Cell::new(why.chars().take(160).collect::<String>()),
        ]);
    }
    println!("{table}");
    let passed = rows.iter().filter(|row| row.result.is_ok()).count();
    let all: Duration = rows.iter().map(|row| row.took).sum();
    println!(
        "{passed} of {planned} passed, {} failed, {} not run; {:.0} s in all, {:.0} s of scenarios",
        rows.len() - passed,
        planned - rows.len(),
        took.as_secs_f64(),
        all.as_secs_f64(),
    );
    passed == planned
}
