//! The embedded regtest chain as a server of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use fulmen_devchain::Policy;
use fulmen_devchain::corpus::Corpus;
use fulmen_devchain::server::{DevchainServer, ServerConfig};

/// A regtest chain that speaks the part of Bitcoin Core's RPC and REST that a Lightning node uses.
///
/// Everything lives in memory and is gone when it stops. Besides Core's calls it has its own,
/// which begin with dev_: for instance dev_fund ADDRESS AMOUNT, dev_mine N, dev_setfeerate
/// SAT_PER_KVB. The call `help` lists all.
///
/// Example: fulmen-devchain --listen 127.0.0.1:18443 --cookie-file /tmp/devchain.cookie
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:18443")]
    listen: SocketAddr,
    /// Where to write the cookie; a temporary folder if not given
    #[arg(long)]
    cookie_file: Option<PathBuf>,
    /// A user that is accepted besides the cookie
    #[arg(long, requires = "rpc_password")]
    rpc_user: Option<String>,
    /// The password of that user
    #[arg(long, requires = "rpc_user")]
    rpc_password: Option<String>,
    /// Blocks to mine at the start; from 101 on the faucet has coins
    #[arg(long, default_value_t = 110)]
    blocks: u32,
    /// What estimatesmartfee answers, in sat per 1000 virtual bytes; 0 for "insufficient data"
    #[arg(long, default_value_t = 1000)]
    feerate: u64,
    /// The lowest feerate that is relayed, in sat per 1000 virtual bytes
    #[arg(long, default_value_t = 100)]
    min_relay_feerate: u64,
    /// Let getrawtransaction find confirmed transactions without their block
    #[arg(long)]
    txindex: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the corpus of transactions, packages and blocks with their verdicts, and stop
    ///
    /// Example: fulmen-devchain corpus --json > corpus.json
    Corpus {
        /// As JSON with the data in hex, for another program to replay; else as a list for people
        #[arg(long)]
        json: bool,
    },
}

fn print_corpus(json: bool) -> std::io::Result<()> {
    use std::io::Write;
    let corpus = Corpus::record();
    let mut out = std::io::stdout().lock();
    if json {
        return writeln!(out, "{}", corpus.to_json());
    }
    for case in corpus.cases() {
        let verdict = case.expected.as_deref().unwrap_or("accepted");
        let mark = if case.agrees() { ' ' } else { '!' };
        writeln!(out, "{mark} {}: {verdict}", case.name)?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    if let Some(Command::Corpus { json }) = arguments.command {
        return print_corpus(json);
    }
    let server = DevchainServer::start(ServerConfig {
        listen: arguments.listen,
        cookie_path: arguments.cookie_file,
        user_password: arguments.rpc_user.zip(arguments.rpc_password),
        initial_blocks: arguments.blocks,
        policy: Policy {
            min_relay_feerate: arguments.min_relay_feerate,
            ..Policy::default()
        },
        feerate: (arguments.feerate > 0).then_some(arguments.feerate),
        txindex: arguments.txindex,
        mock_time: None,
    })?;
    println!("listening on {}", server.url());
    println!("cookie file {}", server.cookie_path().display());
    server.wait();
    Ok(())
}
