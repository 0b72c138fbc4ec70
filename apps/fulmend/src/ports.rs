//! The daemon's ports: the wallet as the node sees it, and ears on what passes by.

use std::sync::Arc;

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut};
use fulmen_background_processor::{
    Broadcaster, EventHandler, FeeEstimator, Wallet, Work, bitcoind::ChainTap,
};
use fulmen_node::{
    BlockId, BroadcastAnswer, Coin, CoinPurpose, CoinRequest, FundingRequest, NumberedEvent,
    WalletBalance, WalletError,
};
use fulmen_types::Feerates;
use tokio::sync::{mpsc, watch};

use crate::{
    commands::now,
    wallet::{CatchUp, OnchainWallet, WalletFault},
};

/// The wallet as the node sees it.
pub(crate) struct WalletPort(pub(crate) OnchainWallet);

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

/// The purpose of a channel's funding.
pub(crate) fn funding_purpose(keys_id: &[u8; 32]) -> Vec<u8> {
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
pub(crate) struct WalletTap {
    pub(crate) wallet: OnchainWallet,
    pub(crate) catch_up: CatchUp,
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
pub(crate) struct HeardBroadcaster<B> {
    pub(crate) inner: B,
    pub(crate) wallet: OnchainWallet,
}

impl<B: Broadcaster> Broadcaster for HeardBroadcaster<B> {
    fn broadcast(&self, package: Vec<Transaction>) -> Work<BroadcastAnswer> {
        let wallet = self.wallet.clone();
        let sent = self.inner.broadcast(package.clone());
        Box::pin(async move {
            let answer = sent.await;
            if matches!(answer, BroadcastAnswer::Accepted | BroadcastAnswer::Known) {
                let told = tokio::task::spawn_blocking(move || {
                    wallet.broadcasted(&package, now().to_secs_floor())
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

/// Keeps the last estimate for the user's own transactions.
pub(crate) struct HeardFees<F> {
    pub(crate) inner: F,
    pub(crate) last: watch::Sender<Option<Feerates>>,
}

impl<F: FeeEstimator> FeeEstimator for HeardFees<F> {
    fn feerates(&self) -> Work<Option<Feerates>> {
        let estimate = self.inner.feerates();
        let last = self.last.clone();
        Box::pin(async move {
            let rates = estimate.await;
            if rates.is_some() {
                last.send_replace(rates);
            }
            rates
        })
    }
}

/// Queues events for the log.
pub(crate) struct EventQueue(pub(crate) mpsc::UnboundedSender<NumberedEvent>);

impl EventHandler for EventQueue {
    fn handle(&self, event: &NumberedEvent) {
        // Should the log have gone, the event comes again at the next start.
        let _ = self.0.send(event.clone());
    }
}
