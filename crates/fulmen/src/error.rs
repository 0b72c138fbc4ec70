//! Why a node does not start.

use std::{fmt, io};

use fulmen_background_processor::DriverError;
use fulmen_persister::StoreError;
use fulmen_wallet::WalletFault;

/// Why a node does not start. The text says what to do.
#[derive(Debug)]
pub enum BuildError {
    /// The builder was not told something that it can't do without.
    Missing(&'static str),
    /// A store can't be opened.
    Store(StoreError),
    /// The on-chain wallet can't be opened.
    Wallet(WalletFault),
    /// The chain source does not answer, or is of another network.
    Chain(String),
    /// The address for peers can't be listened on.
    Listen {
        /// Which one.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The node can't be made from its records.
    Node(DriverError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "the builder was not given {what}"),
            Self::Store(e) => e.fmt(f),
            Self::Wallet(e) => e.fmt(f),
            Self::Chain(e) => f.write_str(e),
            Self::Listen { address, error } => write!(f, "can't listen on {address}: {error}"),
            Self::Node(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<WalletFault> for BuildError {
    fn from(fault: WalletFault) -> Self {
        Self::Wallet(fault)
    }
}

impl From<DriverError> for BuildError {
    fn from(error: DriverError) -> Self {
        Self::Node(error)
    }
}
