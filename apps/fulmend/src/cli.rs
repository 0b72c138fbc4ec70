//! The program: flags, log, signals.

use std::{ffi::OsString, io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use fulmen_seed::SeedFile;
use tracing_subscriber::EnvFilter;

use crate::{Config, ConfigError, Daemon, DaemonError, LogFormat, Options, Secret, snapshot};

const PASSPHRASE: &str = "FULMEN_PASSPHRASE";

/// The Fulmen Lightning daemon.
#[derive(Debug, Parser)]
#[command(
    name = "fulmend",
    version,
    after_help = "Examples:
  fulmen create --network signet             makes the data directory and the seed, once
  fulmend --network signet                   runs on ~/.fulmen/signet, Bitcoin Core by its cookie file
  fulmend --data-dir /srv/fulmen --log-level debug
  fulmend --data-dir /srv/fulmen snapshot --out /srv/www/rgs
  FULMEN_NETWORK=regtest fulmend --bitcoind 127.0.0.1:18443 --bitcoind-cookie ~/.bitcoin/regtest/.cookie

Every option can stand in fulmend.toml in the data directory too, with underscores (fee_ppm = 200), and
in the environment (FULMEN_FEE_PPM=200). Flags go before the environment, and that before the file.
An encrypted seed takes its passphrase from FULMEN_PASSPHRASE, or asks."
)]
struct Cli {
    /// Where everything is [default: ~/.fulmen/NETWORK]
    #[arg(long, env = "FULMEN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file [default: fulmend.toml in the data directory]
    #[arg(long, env = "FULMEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Offline>,
}

/// What is done instead of running the daemon, whether one runs or not.
#[derive(Debug, Subcommand)]
enum Offline {
    /// Makes snapshots of the network for others (rapid gossip sync) from the graph in the data directory.
    ///
    /// A folder that any web server can offer: snapshot/0 and v2/snapshot/0 tell everything, the files beside
    /// them what changed since an earlier run of the last two weeks. Made anew once a day into the same folder,
    /// it serves Fulmen (`rapid_gossip_sync`) and LDK.
    Snapshot {
        /// The folder
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// The whole program: reads flags (the first argument is the program's name), runs until it is told to
/// stop, and says what goes wrong. To be called without a tokio runtime.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let is_error = e.use_stderr();
            // Nobody reads what can't be printed.
            let _ = e.print();
            return if is_error {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let command = cli.command.take();
    let done = match command {
        None => config_of(&cli).and_then(run),
        Some(Offline::Snapshot { out }) => {
            load_config(&cli).and_then(|config| snapshot::publish(&config, &out))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulmend: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a daemon until a signal or the API stops it. Sets up the log unless there is one. To be called
/// without a tokio runtime.
///
/// # Errors
/// Why it did not start, or stopped by itself.
pub fn run(config: Config) -> Result<(), DaemonError> {
    start_log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("fulmend")
        .build()
        .map_err(|e| DaemonError::System(format!("no runtime: {e}")))?;
    let result = runtime.block_on(async {
        // Before all else: one that comes early must not cut the start in two.
        let mut signals = StopSignals::listen()?;
        let daemon = Daemon::start(config).await?;
        let stopper = daemon.stopper();
        tokio::spawn(async move {
            let signal = signals.next().await;
            tracing::info!(signal, "stopping");
            stopper.send_replace(true);
            // Who asks twice does not want to wait: nothing is lost by it.
            signals.next().await;
            tracing::warn!("stopping at once");
            std::process::exit(130);
        });
        daemon.wait().await
    });
    runtime.shutdown_background();
    result
}

fn load_config(cli: &Cli) -> Result<Config, DaemonError> {
    let network = cli
        .options
        .network
        .clone()
        .or_else(|| std::env::var("FULMEN_NETWORK").ok());
    let network = network.unwrap_or_else(|| "regtest".to_owned());
    let data_dir = match &cli.data_dir {
        Some(dir) => dir.clone(),
        None => {
            crate::parse_network(&network)?;
            fulmen_api::default_data_dir(&network).ok_or_else(|| {
                ConfigError("there is no home directory; say where with --data-dir".into())
            })?
        }
    };
    Ok(Config::load(data_dir, cli.config.as_deref(), &cli.options)?)
}

fn config_of(cli: &Cli) -> Result<Config, DaemonError> {
    let mut config = load_config(cli)?;
    config.passphrase = passphrase_for(&config)?;
    Ok(config)
}

/// The passphrase, from the environment or a prompt.
fn passphrase_for(config: &Config) -> Result<Option<Secret>, DaemonError> {
    if let Ok(passphrase) = std::env::var(PASSPHRASE) {
        return Ok(Some(Secret::new(passphrase)));
    }
    let is_encrypted =
        SeedFile::exists(&config.data_dir) && SeedFile::open(&config.data_dir)?.is_encrypted();
    if is_encrypted && std::io::stdin().is_terminal() {
        let typed = rpassword::prompt_password("Passphrase of the seed: ");
        return typed
            .map(|typed| Some(Secret::new(typed)))
            .map_err(|e| DaemonError::System(e.to_string()));
    }
    Ok(None)
}

fn start_log(config: &Config) -> Result<(), DaemonError> {
    let filter = EnvFilter::try_new(&config.log_level).map_err(|e| {
        ConfigError(format!(
            "log_level = {:?} makes no sense: {e}",
            config.log_level
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A program around may have set up its own.
    let _ = match config.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

/// The signals that ask a daemon to stop.
#[cfg(unix)]
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignals {
    /// From here on they are heard instead of killing the process.
    fn listen() -> Result<Self, DaemonError> {
        use tokio::signal::unix::{SignalKind, signal};
        let hear = |kind| {
            signal(kind).map_err(|e| DaemonError::System(format!("signals can't be heard: {e}")))
        };
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The signal that asks a daemon to stop.
#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    fn listen() -> Result<Self, DaemonError> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        "Ctrl-C"
    }
}
