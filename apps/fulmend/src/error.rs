//! Why a daemon does not start, or stops.

use std::{fmt, io, path::PathBuf};

use fulmen::BuildError;
use fulmen_background_processor::DriverError;
use fulmen_persister::StoreError;
use fulmen_seed::SeedError;

use crate::config::ConfigError;

/// Why a daemon does not start, or stops by itself. The text says what to do.
#[derive(Debug)]
pub enum DaemonError {
    /// The configuration.
    Config(ConfigError),
    /// Another daemon runs on the data directory.
    Locked(PathBuf),
    /// A file or folder.
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// An address can't be listened on.
    Listen {
        /// For peers, or for the API.
        what: &'static str,
        /// Which option says so.
        option: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The seed.
    Seed(SeedError),
    /// The store.
    Store(StoreError),
    /// The on-chain wallet.
    Wallet(String),
    /// Bitcoin Core.
    Chain(String),
    /// The node.
    Node(DriverError),
    /// The system.
    System(String),
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(e) => e.fmt(f),
            Self::Locked(dir) => write!(
                f,
                "another daemon runs on {}; stop it first (`fulmen stop`), or take another --data-dir: two daemons on one node would lose funds",
                dir.display()
            ),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Listen {
                what,
                option,
                address,
                error,
            } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "another program listens on {address} already, which is wanted for {what}; stop that program, or take another port with `{option}`"
                )
            }
            Self::Listen {
                what,
                option,
                address,
                error,
            } => write!(
                f,
                "can't listen on {address} for {what}: {error}; take another address with `{option}`"
            ),
            Self::Seed(e) => e.fmt(f),
            Self::Store(e) => e.fmt(f),
            Self::Wallet(e) | Self::Chain(e) | Self::System(e) => f.write_str(e),
            Self::Node(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for DaemonError {}

impl From<ConfigError> for DaemonError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<SeedError> for DaemonError {
    fn from(error: SeedError) -> Self {
        Self::Seed(error)
    }
}

impl From<StoreError> for DaemonError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DriverError> for DaemonError {
    fn from(error: DriverError) -> Self {
        Self::Node(error)
    }
}

impl From<BuildError> for DaemonError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Store(e) => Self::Store(e),
            BuildError::Node(e) => Self::Node(e),
            BuildError::Wallet(fault) => Self::Wallet(fault.to_string()),
            BuildError::Chain(text) => Self::Chain(text),
            BuildError::Listen { address, error } => Self::Listen {
                what: "peers",
                option: "listen",
                address,
                error,
            },
            missing @ BuildError::Missing(_) => Self::System(missing.to_string()),
        }
    }
}
