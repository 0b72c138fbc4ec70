//! An embedded regtest chain with script validation, a mempool after Bitcoin Core 31's policy,
//! and a server that speaks the part of Core's RPC and REST that a Lightning daemon uses.
//!
//! It is for tests, demos and simulation. It is no node: it has no peers, keeps everything in
//! memory and knows no other network than regtest.
//!
//! - [`Chain`] is the chain as a plain value: synchronous, without threads or clocks, the same
//!   calls give the same hashes, and a clone goes its own way. Unit tests and simulators use it.
//! - [`server::DevchainServer`] puts one behind JSON-RPC and REST; the binary `fulmen-devchain`
//!   does that as a process.
//! - [`Backend`] is one handle for end-to-end tests that run on the embedded chain or, when
//!   `BITCOIND_EXE` is set, on a real bitcoind.
//! - [`corpus`] is a record of transactions, packages and blocks with Core's verdict on each,
//!   for this chain, for bitcoind over RPC, and for other programs as JSON
//!   (`fulmen-devchain corpus --json`).
//!
//! ```
//! use bitcoin::{Amount, ScriptBuf, WScriptHash, hashes::Hash};
//! use fulmen_devchain::Chain;
//!
//! let mut chain = Chain::default();
//! let script = ScriptBuf::new_p2wsh(&WScriptHash::hash(&[0x51]));
//! let coin = chain.fund(&script, Amount::from_sat(100_000))?;
//! assert_eq!(chain.confirmations(&coin.txid), 1);
//!
//! // An unconfirmed payment is lost if another one is mined instead.
//! let tx = chain.faucet_payment(&script, Amount::from_sat(50_000))?;
//! assert_eq!(chain.test_accept(&tx)?.txid, tx.compute_txid());
//! chain.send(&tx)?;
//! chain.generate(1);
//! assert!(chain.mempool().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is checked in blocks
//!
//! Proof of work at regtest's difficulty, header time against the median of eleven blocks and
//! two hours ahead, version at least 4; merkle root and its mutations, witness commitment,
//! height in the coinbase (BIP 34), weight, signature operations, subsidy with a halving every
//! 150 blocks and fees; for each transaction form, amounts, duplicate inputs, coinbase maturity,
//! lock time against the median time (BIP 113), relative locks (BIP 68), and the scripts with
//! all consensus flags including taproot, by Core's own library `bitcoinconsensus`. Of equally
//! long branches the one seen first wins. All soft forks are active from the first block.
//!
//! Not checked: duplicates of coinbases beyond "no unspent output is overwritten" (BIP 30).
//! A block whose parent is unknown is refused rather than kept. Branches that are not active are
//! checked for everything but what they spend; this happens when they become active.
//!
//! # What is checked in the mempool
//!
//! In Core's order and with its reject reasons, besides the above:
//!
//! - Form: versions 1 to 3, 400,000 weight units, 65 bytes without witness, `scriptSig` of at
//!   most 1650 bytes that only pushes; outputs of a standard kind (P2PK, P2PKH, P2SH, bare
//!   multisig up to 3 keys, P2WPKH, P2WSH, P2TR, P2A, other witness programs, `OP_RETURN` with
//!   100,000 bytes together).
//! - Dust at 3000 sat/kvB; one dust output is allowed in a transaction without fee whose child
//!   spends it (ephemeral dust).
//! - Spends: no unknown kinds or witness versions, 15 signature operations in a P2SH script,
//!   2500 legacy ones, a cost of 16,000; P2WSH witnesses of 100 items of 80 bytes and a script of
//!   3600; tapscript items of 80 bytes, no annex; no witness where none belongs, none for P2A.
//! - Fees: minimum relay feerate of 100 sat/kvB, and a higher floor if one is set.
//! - Replacement without signalling: more fee, the incremental feerate of 100 sat/kvB for its own
//!   size, a better feerate diagram, conflicts in at most 100 clusters.
//! - Version 3 (TRUC): sizes, one parent and one child, inheritance, sibling eviction.
//! - Clusters of 64 transactions and 404,000 weight units; the miner and the diagrams use the
//!   optimal order of each cluster.
//! - Packages of a child with its parents, by package feerate; package replacement by one parent
//!   and one child.
//! - After a reorganisation the transactions of the old branch come back, without fee and TRUC
//!   checks, and what is no longer valid goes.
//!
//! Not there: a limit of the mempool's size with eviction and expiry (set
//! [`Policy::mempool_min_feerate`] to play a full one), `prioritisetransaction`, orphans,
//! persistence. After a reorganisation, what would make a cluster too large is not taken back,
//! where Core takes all and then trims.
//!
//! # What is checked in scripts beyond consensus
//!
//! `bitcoinconsensus` knows the consensus flags only. An interpreter of our own runs every script
//! of a mempool transaction first, with these further rules: strict encodings of signatures, keys
//! and hash types (STRICTENC, WITNESS_PUBKEYTYPE), LOW_S, MINIMALDATA for pushes and numbers,
//! NULLFAIL, MINIMALIF in P2WSH, CLEANSTACK, CONST_SCRIPTCODE (no `OP_CODESEPARATOR` and no
//! signature inside a legacy script), and what is kept for upgrades: NOPs, witness versions,
//! taproot leaf versions, `OP_SUCCESS`, key types. It covers all opcodes of legacy, P2SH, version
//! 0 and tapscript; it gives Core's error string. A transaction must pass both; so a fault of the
//! interpreter can refuse what Core takes, but never let in what consensus forbids. For a bad
//! block it only looks for the reason; there, legacy signature hashes with `OP_CODESEPARATOR` or
//! a signature inside the script are not modelled, so that the reason may be another than Core's.

mod accept;
mod backend;
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
pub use backend::{BITCOIND_EXE, Backend, BackendError, Bitcoind};
pub use chain::{Chain, Config, Submitted, UnknownBlock, block_subsidy};
pub use client::{ClientError, RpcClient};
pub use coins::Coin;
pub use faucet::{Faucet, FaucetError, burn_script, coinbase_value};
pub use mempool::{Entry, Mempool, MempoolChunk};
pub use policy::Policy;
pub use reject::{Reject, RejectKind};
pub use script::verify_scripts;
