//! The on-chain wallet of a node: BIP 86 keys, kept by BDK, durable before anything leaves.
//!
//! [`OnchainWallet`] holds the coins; [`WalletPort`] shows it to the node as the driver's
//! [`Wallet`](fulmen_background_processor::Wallet), [`WalletTap`] lets it see blocks, [`CatchUp`] fetches
//! those that it lacks, [`watch_mempool`] shows it deposits that are not confirmed, and [`rebroadcast`]
//! gives its own transactions to the network until they are.
//!
//! What it is not: it fetches no feerates and chooses none, and knows no channels. Whoever asks says how
//! much must stay for them.
//!
//! ```
//! use bitcoin::{Network, bip32::Xpriv};
//! use fulmen_persister::{EdgeStore, SqliteStore};
//! use fulmen_wallet::OnchainWallet;
//!
//! # let dir = tempfile::tempdir()?;
//! let edge = EdgeStore::new(SqliteStore::open(dir.path().join("edge.sqlite"))?)?;
//! let master = Xpriv::new_master(Network::Regtest, &[7; 32])?;
//! let wallet = OnchainWallet::open(edge, &master, Network::Regtest)?;
//! assert!(wallet.new_address()?.to_string().starts_with("bcrt1p"));
//! assert_eq!(wallet.funds().confirmed, bitcoin::Amount::ZERO);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bump;
mod error;
mod history;
mod journal;
mod lease;
mod mempool;
mod port;
mod spend;
mod sync;
#[cfg(test)]
mod tests;
mod withdrawals;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bdk_wallet::{
    KeychainKind, Update, Wallet,
    chain::{BlockId, local_chain::CheckPoint},
    descriptor::IntoWalletDescriptor,
    signer::SignersContainer,
    template::Bip86,
};
use bitcoin::{Address, Amount, Network, NetworkKind, ScriptBuf, bip32::Xpriv};
use fulmen_block_sync::{BlockRef, MAX_ANCESTORS};
use fulmen_persister::EdgeStore;
use fulmen_types::record::WriteBatch;

pub use error::WalletFault;
pub use history::{Movement, WalletTransaction};
pub use mempool::watch_mempool;
pub use port::{WalletBroadcaster, WalletPort, WalletTap, rebroadcast};
pub use spend::Withdrawal;
pub use sync::CatchUp;

use journal::Journal;
use lease::Leases;
use withdrawals::Withdrawals;

/// Scripts beyond the last revealed one that are looked for: closed channels leave unused ones behind.
const LOOKAHEAD: u32 = 200;

/// The wallet. Calls may wait for the disk: make them from threads that may block.
#[derive(Clone)]
pub struct OnchainWallet {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    wallet: Wallet,
    signers: [SignersContainer; 2],
    leases: Leases,
    withdrawals: Withdrawals,
    journal: Journal,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Funds {
    /// Confirmed, leased coins included.
    pub confirmed: Amount,
    /// Not confirmed yet.
    pub unconfirmed: Amount,
    /// Leased.
    pub leased: Amount,
    /// Confirmed and not leased.
    pub free: Amount,
}

impl OnchainWallet {
    /// Opens the wallet; makes it when there is none. A new one looks at the chain from
    /// [`OnchainWallet::start_at`] on.
    ///
    /// # Errors
    /// The store's, and when the wallet in it is of another seed or network.
    pub fn open(edge: EdgeStore, master: &Xpriv, network: Network) -> Result<Self, WalletFault> {
        let other = |e: String| WalletFault::OtherWallet(e);
        let mut journal = Journal::open(edge.clone());
        let (external, internal) = (
            Bip86(*master, KeychainKind::External),
            Bip86(*master, KeychainKind::Internal),
        );
        let stored = journal.load()?;
        let wallet = match stored {
            Some(changes) => Wallet::load()
                .descriptor(KeychainKind::External, Some(external))
                .descriptor(KeychainKind::Internal, Some(internal))
                .check_network(network)
                .lookahead(LOOKAHEAD)
                .load_wallet_no_persist(changes)
                .map_err(|e| other(e.to_string()))?
                .ok_or_else(|| WalletFault::Corrupt("an empty wallet".into()))?,
            None => Wallet::create(external, internal)
                .network(network)
                .lookahead(LOOKAHEAD)
                .create_wallet_no_persist()
                .map_err(|e| other(e.to_string()))?,
        };
        let signer = |keychain| -> Result<SignersContainer, WalletFault> {
            let (_, keys) = Bip86(*master, keychain)
                .into_wallet_descriptor(wallet.secp_ctx(), NetworkKind::from(network))
                .map_err(|e| other(e.to_string()))?;
            Ok(SignersContainer::build(
                keys,
                wallet.public_descriptor(keychain),
                wallet.secp_ctx(),
            ))
        };
        let signers = [
            signer(KeychainKind::External)?,
            signer(KeychainKind::Internal)?,
        ];
        let mut inner = Inner {
            wallet,
            signers,
            leases: Leases::load(edge.clone())?,
            withdrawals: Withdrawals::load(edge)?,
            journal,
        };
        inner.persist(WriteBatch::new())?;
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// Whether the wallet has not been told yet from which block on to look.
    pub fn is_new(&self) -> bool {
        self.lock().wallet.latest_checkpoint().height() == 0
    }

    /// From which block on a new wallet looks: what is in it or before is not seen.
    ///
    /// # Errors
    /// The store's.
    pub fn start_at(&self, block: BlockRef) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        if block.height == 0 {
            return Ok(());
        }
        let id = BlockId {
            height: block.height,
            hash: block.hash,
        };
        let chain = inner.wallet.latest_checkpoint().insert(id);
        inner
            .wallet
            .apply_update(Update {
                chain: Some(chain),
                ..Update::default()
            })
            .map_err(|e| WalletFault::Refused(e.to_string()))?;
        inner.persist(WriteBatch::new())
    }

    /// The last block that the wallet has seen, and those before it, newest first.
    pub fn tip(&self) -> (BlockRef, Vec<BlockRef>) {
        let inner = self.lock();
        let mut blocks = inner
            .wallet
            .latest_checkpoint()
            .iter()
            .take(MAX_ANCESTORS + 1)
            .map(|at: CheckPoint| BlockRef {
                hash: at.hash(),
                height: at.height(),
            });
        let tip = blocks
            .next()
            .expect("a wallet knows the genesis block at least");
        // Only an unbroken row of ancestors is one that a reorg can be followed back over.
        let mut expected = tip.height;
        let ancestors = blocks
            .take_while(|block| {
                expected = expected.saturating_sub(1);
                block.height == expected
            })
            .collect();
        (tip, ancestors)
    }

    /// A fresh address for deposits, durably revealed.
    ///
    /// # Errors
    /// The store's.
    pub fn new_address(&self) -> Result<Address, WalletFault> {
        let mut inner = self.lock();
        let address = inner
            .wallet
            .reveal_next_address(KeychainKind::External)
            .address;
        inner.persist(WriteBatch::new())?;
        Ok(address)
    }

    /// A fresh script for what comes back from channels, durably revealed. It is of the keychain of
    /// deposits: the peer's transactions may pay it, so that it is not trusted before it confirms.
    ///
    /// # Errors
    /// The store's.
    pub fn new_script(&self) -> Result<ScriptBuf, WalletFault> {
        Ok(self.new_address()?.script_pubkey())
    }

    /// What there is.
    pub fn funds(&self) -> Funds {
        let inner = self.lock();
        let mut funds = Funds::default();
        for coin in inner.wallet.list_unspent() {
            let value = coin.txout.value;
            let leased = inner.leases.holds(&coin.outpoint);
            if coin.chain_position.is_confirmed() {
                funds.confirmed += value;
                if !leased {
                    funds.free += value;
                }
            } else {
                funds.unconfirmed += value;
            }
            if leased {
                funds.leased += value;
            }
        }
        funds
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for OnchainWallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnchainWallet")
    }
}

impl Inner {
    /// Makes what has changed durable, with more in the same batch. Until it has returned nothing of it
    /// may be shown or sent.
    fn persist(&mut self, more: WriteBatch) -> Result<(), WalletFault> {
        self.journal.write(&mut self.wallet, more)
    }
}
