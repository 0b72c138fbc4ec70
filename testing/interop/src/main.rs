//! Fulmen and LDK as peers: one embedded chain, real TCP, each scenario for each opener and each
//! channel type.

mod fulmen;
mod ldk;
mod node;
mod scenarios;
mod wait;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::{Parser, ValueEnum};
use comfy_table::{Cell, Color, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::node::ChannelKind;
use crate::scenarios::{ALL, Case, Scenario};
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
    /// Stops at the first failure.
    #[arg(long)]
    fail_fast: bool,
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
    let rows = run(&plan, &arguments);
    report(&rows, plan.len())
}

fn plan(arguments: &Arguments) -> Vec<(&'static Scenario, Impl, ChannelKind)> {
    let wanted = |scenario: &&Scenario| {
        arguments.filter.is_empty()
            || arguments
                .filter
                .iter()
                .any(|text| scenario.name.contains(text.as_str()))
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

fn run(plan: &[(&'static Scenario, Impl, ChannelKind)], arguments: &Arguments) -> Vec<Row> {
    let bar = ProgressBar::new(plan.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let mut rows = Vec::new();
    for (scenario, opener, kind) in plan {
        let name = format!("{}, opened by {}, {kind}", scenario.name, opener.name());
        bar.set_message(name.clone());
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            one(scenario, *opener, *kind, arguments.ldk_only)
        }))
        .unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err(anyhow!("panic: {}", text.unwrap_or_default()))
        });
        let took = begun.elapsed();
        let line = match &result {
            Ok(()) => format!("ok      {name} ({:.1} s)", took.as_secs_f64()),
            Err(error) => format!("FAILED  {name} ({:.1} s): {error:#}", took.as_secs_f64()),
        };
        // Without a terminal the bar prints nothing.
        if bar.is_hidden() {
            println!("{line}");
        } else {
            bar.println(line);
        }
        bar.inc(1);
        let failed = result.is_err();
        rows.push(Row {
            scenario,
            opener: *opener,
            kind: *kind,
            took,
            result,
        });
        if failed && arguments.fail_fast {
            break;
        }
    }
    bar.finish_and_clear();
    rows
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

fn report(rows: &[Row], planned: usize) -> ExitCode {
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
    println!(
        "{passed} of {planned} passed, {} failed, {} not run",
        rows.len() - passed,
        planned - rows.len()
    );
    if passed == planned {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
