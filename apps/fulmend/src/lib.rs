//! The Lightning daemon: a library with a thin binary.
//!
//! [`Daemon::start`] puts the node, its store, the on-chain wallet, Bitcoin Core, peers over TCP and the
//! HTTP API together; [`main_with_args`] is the whole program, for binaries that carry the daemon in
//! themselves. Everything that a restart needs is in the data directory: `seed`, `node.sqlite` (the
//! node), `edge.sqlite` (the wallet's journal, coin leases, the log of events), `graph` and `liquidity` (caches),
//! `api-token`, and `fulmend.toml` if there is one.
//!
//! What it is not: it makes no seed; `fulmen create` does (or `fulmen_seed`).
//!
//! ```no_run
//! use fulmend::{Config, Daemon};
//! use bitcoin::Network;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let daemon = Daemon::start(Config::new("/tmp/node", Network::Regtest)).await?;
//! println!("{}@{}", daemon.node_id(), daemon.listen_address());
//! daemon.stop().await?;
//! # Ok(())
//! # }
//! ```

mod api_error;
mod cli;
mod commands;
mod config;
mod daemon;
mod error;
mod events;
mod http;
mod node_access;
mod ports;
mod snapshot;
mod token;
mod views;

pub use cli::{main_with_args, run};
pub use config::{CONFIG_FILE, Config, ConfigError, LogFormat, Options, Secret, parse_network};
pub use daemon::Daemon;
pub use error::DaemonError;
pub use snapshot::publish as publish_snapshots;
