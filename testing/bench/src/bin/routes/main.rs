//! Path finding at the main network's size: Fulmen and LDK side by side over the same synthetic network,
//! asked the same questions in one run.

mod contenders;
mod evaluate;
mod measure;
mod world;

use std::alloc::System;

use clap::{Parser, Subcommand};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Compares Fulmen's router with LDK's.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time and memory: loading the graph, single paths, plans of many parts.
    Measure(measure::Args),
    /// Success: payments over hidden balances, with retries that learn.
    Evaluate(evaluate::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Measure(args) => measure::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
    }
}

/// The processor's time that this thread has used, in milliseconds: what others do meanwhile does not count.
fn thread_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1_000.0 + time.tv_nsec as f64 / 1e6
}

/// The value that a share of the others is not above.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * q).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table
        .load_preset(comfy_table::presets::ASCII_MARKDOWN)
        .set_header(header);
    table
}
