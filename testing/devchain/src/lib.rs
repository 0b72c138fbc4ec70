//! An embedded regtest chain with script validation, mempool policy and an RPC server.

mod accept;
mod chain;
mod client;
mod coins;
mod consensus;
pub mod corpus;
mod faucet;
mod linearize;
mod mempool;
mod policy;
mod reject;
mod script;
pub mod server;

pub use accept::{Accepted, PackageResult, PackageTx};
pub use chain::{Chain, Config, Submitted, UnknownBlock, block_subsidy};
pub use client::{ClientError, RpcClient};
pub use coins::Coin;
pub use faucet::{Faucet, FaucetError, burn_script, coinbase_value};
pub use mempool::{Entry, Mempool, MempoolChunk};
pub use policy::Policy;
pub use reject::{Reject, RejectKind};
