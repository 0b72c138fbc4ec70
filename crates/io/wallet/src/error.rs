//! Why the wallet could not do it.

use std::fmt;

use bitcoin::Amount;
use fulmen_persister::StoreError;

/// Why the wallet could not do it.
#[derive(Debug)]
pub enum WalletFault {
    /// Not enough coins that can be spent.
    InsufficientFunds {
        /// What it would take, fees and reserve included.
        needed: Amount,
        /// What there is.
        available: Amount,
    },
    /// It makes no sense, or is not allowed.
    Refused(String),
    /// The wallet's store is that of another seed or network.
    OtherWallet(String),
    /// A record of the wallet can't be read.
    Corrupt(String),
    /// The store said no.
    Store(StoreError),
}

impl fmt::Display for WalletFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientFunds { needed, available } => write!(
                f,
                "not enough on-chain funds: {needed} needed (fees and reserve included), {available} available; deposit more to an address of `newaddress`, or wait until deposits confirm"
            ),
            Self::Refused(why) => f.write_str(why),
            Self::OtherWallet(why) => write!(
                f,
                "the wallet in this data directory is of another seed or network ({why}); use the seed and network that it was made with, or another data directory"
            ),
            Self::Corrupt(what) => write!(
                f,
                "the wallet's store is damaged ({what}); move edge.sqlite away and start again to rebuild the wallet from the chain (set wallet_birthday_height to its first block)"
            ),
            Self::Store(e) => write!(f, "the wallet's store: {e}"),
        }
    }
}

impl std::error::Error for WalletFault {}

impl From<StoreError> for WalletFault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
