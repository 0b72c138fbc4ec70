//! The wallet as ports of the driver: what the node asks of it, and what passes by it.

use std::{sync::Arc, time::Duration};

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use fulmen_background_processor::{
    Broadcaster, Clock, SystemClock, Wallet, Work, bitcoind::ChainTap,
};
use fulmen_node::{
    BlockId, BroadcastAnswer, Coin, CoinPurpose, CoinRequest, FundingRequest, WalletBalance,
    WalletError,
};
use fulmen_tx::ChannelKeysId;
use tokio::sync::watch;

use crate::{CatchUp, OnchainWallet, WalletFault};

/// How often the wallet's own unconfirmed transactions are given to the network again.
const REBROADCAST: Duration = Duration::from_secs(60);

/// The wallet as the node sees it.
#[derive(Clone, Debug)]
pub struct WalletPort(pub OnchainWallet);

impl Wallet for WalletPort {
    fn fund(&self, request: &FundingRequest) -> Result<Transaction, WalletError> {
        let funded = self.0.fund(
            &purpose(&request.purpose),
            request.script_pubkey.clone(),
            request.value,
            request.feerate,
            request.reserve,
        );
        funded.map_err(to_node)
    }

    fn coins(&self, request: &CoinRequest) -> Result<Vec<Coin>, WalletError> {
        let coins = self
            .0
            .lease_coins(&purpose(&request.purpose), request.value, request.feerate)
            .map_err(to_node)?;
        Ok(coins
            .into_iter()
            .map(|coin| Coin {
                outpoint: coin.outpoint,
                output: coin.output,
                witness_weight: coin.witness_weight,
            })
            .collect())
    }

    fn sign(&self, transaction: Transaction, spent: &[TxOut]) -> Result<Transaction, WalletError> {
        self.0.sign(transaction, spent).map_err(to_node)
    }

    fn keep_only(&self, leases: &[(CoinPurpose, Vec<OutPoint>)]) {
        let held = leases
            .iter()
            .map(|(of, coins)| (purpose(of), coins.clone()))
            .collect();
        if let Err(error) = self.0.keep_only_claims(held) {
            tracing::error!(%error, "coins that are put aside could not be set right");
        }
    }

    fn release(&self, of: CoinPurpose) {
        if let Err(error) = self.0.release(&purpose(&of)) {
            tracing::error!(%error, "coins could not be given back; they are at the next start");
        }
    }

    fn script(&self) -> Result<ScriptBuf, WalletError> {
        self.0.new_script().map_err(to_node)
    }

    fn balance(&self) -> WalletBalance {
        let funds = self.0.funds();
        WalletBalance {
            confirmed: funds.free,
            unconfirmed: funds.unconfirmed,
        }
    }
}

/// A purpose as the wallet keeps it: `f` for fundings, `c` for claims.
fn purpose(of: &CoinPurpose) -> Vec<u8> {
    match of {
        CoinPurpose::Funding(keys_id) => funding_purpose(keys_id.as_bytes()),
        CoinPurpose::Claim(keys_id, number) => {
            [b"c", keys_id.as_bytes().as_slice(), &number.to_be_bytes()].concat()
        }
    }
}

impl WalletPort {
    /// Frees the coins of openings that a crash has undone: of all fundings those of `live` channels stay,
    /// and those that the network was given. To be called once at start.
    ///
    /// # Errors
    /// The store's.
    pub fn keep_only_fundings(
        &self,
        live: impl IntoIterator<Item = ChannelKeysId>,
    ) -> Result<(), WalletFault> {
        let live = live
            .into_iter()
            .map(|keys_id| funding_purpose(keys_id.as_bytes()))
            .collect();
        self.0.keep_only_fundings(&live)?;
        self.0.forget_old_withdrawals()
    }
}

/// The purpose of a channel's funding.
fn funding_purpose(keys_id: &[u8; 32]) -> Vec<u8> {
    [b"f", keys_id.as_slice()].concat()
}

fn to_node(fault: WalletFault) -> WalletError {
    match fault {
        WalletFault::InsufficientFunds { needed, available } => {
            WalletError::InsufficientFunds { needed, available }
        }
        WalletFault::Refused(why) => WalletError::Refused(why),
        other => WalletError::Unavailable(other.to_string()),
    }
}

/// Lets the wallet see blocks before the node does.
#[derive(Clone, Debug)]
pub struct WalletTap {
    /// Who sees them.
    pub wallet: OnchainWallet,
    /// Asked for those that are missing.
    pub catch_up: CatchUp,
}

impl ChainTap for WalletTap {
    fn connected(&self, height: u32, block: &Arc<bitcoin::Block>) {
        match self.wallet.take_block(height, block) {
            Ok(true) => {}
            // The wallet is behind, or could not write: it fetches what it lacks by itself.
            Ok(false) => self.catch_up.ask(),
            Err(error) => {
                tracing::error!(%error, "the wallet could not take a block; it tries again");
                self.catch_up.ask();
            }
        }
    }

    // The block that takes its place pushes it out.
    fn disconnected(&self, _block: BlockId) {}
}

/// Tells the wallet which of its transactions the network has taken.
#[derive(Clone, Debug)]
pub struct WalletBroadcaster<B> {
    /// Who broadcasts.
    pub inner: B,
    /// Who is told.
    pub wallet: OnchainWallet,
}

impl<B: Broadcaster> Broadcaster for WalletBroadcaster<B> {
    fn broadcast(&self, package: Vec<Transaction>) -> Work<BroadcastAnswer> {
        let wallet = self.wallet.clone();
        let sent = self.inner.broadcast(package.clone());
        Box::pin(async move {
            let answer = sent.await;
            if matches!(answer, BroadcastAnswer::Accepted | BroadcastAnswer::Known) {
                let told = tokio::task::spawn_blocking(move || {
                    wallet.broadcasted(&package, SystemClock.now().to_secs_floor())
                });
                match told.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "the wallet did not note a transaction")
                    }
                    Err(error) => tracing::warn!(%error, "the wallet did not note a transaction"),
                }
            }
            answer
        })
    }
}

/// Gives the wallet's own transactions to the network until they are in a block.
pub async fn rebroadcast(
    wallet: OnchainWallet,
    broadcaster: Arc<dyn Broadcaster>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let of_wallet = wallet.clone();
        let waiting = tokio::task::spawn_blocking(move || of_wallet.unconfirmed()).await;
        for transaction in waiting.unwrap_or_default() {
            let txid = transaction.compute_txid();
            let answer = broadcaster.broadcast(vec![transaction]).await;
            tracing::debug!(%txid, ?answer, "a transaction of the wallet was sent again");
        }
        tokio::select! {
            () = tokio::time::sleep(REBROADCAST) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
