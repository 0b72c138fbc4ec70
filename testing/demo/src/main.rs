//! Fulmen's main job in one command, and its crash test.
//!
//! `fulmen-demo` starts a chain and daemons as processes of their own (it runs itself as `fulmen-demo
//! daemon`), lets them open channels and pay, kills one in the middle, cheats, punishes, closes, and
//! shows that not one millisatoshi is missing. `fulmen-demo crash` kills nodes again and again. It is no
//! library and nothing for real money: the chain is regtest, in memory.

mod accounts;
mod audit;
mod chain;
mod crash;
mod daemon;
mod ledger;
mod network;
mod node;
mod process;
mod random;
mod story;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use bitcoin::OutPoint;
use clap::{Parser, Subcommand};
use fulmen_types::PaymentPreimage;

/// Lightning nodes that open channels, pay each other, are killed, punish a cheat and close.
///
/// Everything runs on this machine, on a regtest chain in memory (or on a bitcoind of your own, started
/// for this run, when the environment variable BITCOIND_EXE names one). It ends with the table of
/// balances, and with exit code 0 only if they add up.
///
/// Examples:
///   cargo run --release -p fulmen-demo
///   cargo run --release -p fulmen-demo -- --keep
///   cargo run --release -p fulmen-demo -- crash --kills 100
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Leave the nodes running at the end, and print how to use them
    #[arg(long)]
    keep: bool,
    /// How many payments at once
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=2_000))]
    payments: u32,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill random nodes at random moments under load, and check that nothing is lost
    ///
    /// Example: cargo run --release -p fulmen-demo -- crash --kills 100
    Crash {
        /// How many SIGKILLs
        #[arg(long, default_value_t = 100)]
        kills: usize,
        /// The seed of all chance: of who is killed when, and of the payments
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many payments are kept on their way
        #[arg(long, default_value_t = 200)]
        load: usize,
    },
    /// The cheat's tool: signs the newest commitment of a copied store, and one second stage
    #[command(hide = true)]
    Cheat {
        /// The copied data directory
        #[arg(long)]
        data_dir: PathBuf,
        /// The channel's funding output
        #[arg(long)]
        funding: OutPoint,
        /// Preimages that were learnt since
        #[arg(long)]
        preimage: Vec<PaymentPreimage>,
    },
    /// The daemon itself
    #[command(hide = true, disable_help_flag = true)]
    Daemon {
        /// What fulmend takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => on_runtime(story::run(story::Options {
            payments: arguments.payments as usize,
            keep: arguments.keep,
        })),
        Some(Command::Crash { kills, seed, load }) => {
            on_runtime(crash::run(crash::Options { kills, seed, load }))
        }
        Some(Command::Cheat {
            data_dir,
            funding,
            preimage,
        }) => sign_cheat(data_dir, funding, preimage),
        Some(Command::Daemon { arguments }) => return daemon::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nNot as it should be: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// Ctrl-C ends the work; what drops with it kills the processes that it has started.
async fn or_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
    }
}

fn sign_cheat(data_dir: PathBuf, funding: OutPoint, preimages: Vec<PaymentPreimage>) -> Result<()> {
    let cheat = fulmen_cheat::prepare(&fulmen_cheat::Request {
        data_dir,
        funding,
        preimages,
    })
    .context("the cheat does not work")?;
    println!("{}", serde_json::to_string(&cheat)?);
    Ok(())
}
