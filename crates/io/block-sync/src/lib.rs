//! Chain data from Bitcoin Core over RPC and REST.
//!
//! [`Bitcoind`] is a small client on kept-alive sockets: typed questions, bounded answers, typed errors.
//! [`Follower`] turns it into a stream of [`ChainUpdate`]s from a durable tip on: disconnects to the
//! fork, then whole blocks, then the best tip. [`follow`] runs a follower for as long as somebody
//! listens, through outages, and tells its [`Status`].
//!
//! What it is not: it holds no wallet, matches no transactions and trusts the node that it is pointed
//! at: that is the user's own.
//!
//! ```no_run
//! use fulmen_block_sync::{Auth, Bitcoind, BitcoindConfig};
//!
//! # async fn example() -> Result<(), fulmen_block_sync::Error> {
//! let auth = Auth::CookieFile("/home/me/.bitcoin/.cookie".into());
//! let bitcoind = Bitcoind::new(BitcoindConfig::new("127.0.0.1:8332", auth));
//! println!("{:?}", bitcoind.chain_info().await?);
//! # Ok(())
//! # }
//! ```

mod broadcast;
mod client;
mod error;
mod fees;
mod follow;
mod follower;
mod http;
mod utxo;

pub use broadcast::BroadcastOutcome;
pub use client::{Bitcoind, BitcoindConfig, ChainInfo};
pub use error::Error;
pub use fees::{FeeEstimates, FeeFallback};
pub use follow::{FollowConfig, Rescan, RescanTarget, Status, follow};
pub use follower::{BlockRef, ChainUpdate, Follower, MAX_ANCESTORS};
pub use http::Auth;
pub use utxo::Utxo;
