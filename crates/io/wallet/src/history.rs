//! What has gone in and out.

use bdk_wallet::chain::ChainPosition;
use bitcoin::{Amount, SignedAmount, Txid};

use crate::{OnchainWallet, lease::Funding};

/// A transaction of the wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletTransaction {
    /// Its id.
    pub txid: Txid,
    /// What it did to the wallet's coins.
    pub change: SignedAmount,
    /// Its fee, where the wallet pays all of it.
    pub fee: Option<Amount>,
    /// The height of its block; `None` while it is in none.
    pub height: Option<u32>,
    /// The time of its block, or when it was first seen, in seconds since 1970.
    pub at_secs: u64,
    /// What it is.
    pub movement: Movement,
}

/// What a transaction is to the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// It pays the wallet: a deposit, or what comes back from a channel.
    Deposit,
    /// It was asked for with [`OnchainWallet::withdraw`], or replaces one that was.
    Withdrawal,
    /// It funds a channel.
    Funding,
    /// Another one that spends coins of the wallet: fees of claims.
    Spend,
}

impl OnchainWallet {
    /// All transactions of the wallet, those in no block first, then newest first.
    pub fn transactions(&self) -> Vec<WalletTransaction> {
        let inner = self.lock();
        let fundings: std::collections::BTreeSet<Txid> = inner
            .leases
            .fundings()
            .map(|(_, funding): (_, &Funding)| funding.transaction.compute_txid())
            .collect();
        let mut all: Vec<WalletTransaction> = inner
            .wallet
            .transactions()
            .map(|tx| {
                let (txid, transaction) = (tx.tx_node.txid, &tx.tx_node.tx);
                let (sent, received) = inner.wallet.sent_and_received(transaction);
                let (height, at_secs) = match tx.chain_position {
                    ChainPosition::Confirmed { anchor, .. } => {
                        (Some(anchor.block_id.height), anchor.confirmation_time)
                    }
                    ChainPosition::Unconfirmed { first_seen, .. } => {
                        (None, first_seen.unwrap_or(0))
                    }
                };
                let is_ours_alone = transaction.input.iter().all(|input| {
                    let index = inner.wallet.spk_index();
                    index.txout(input.previous_output).is_some()
                });
                let movement = if inner.withdrawals.get(&txid).is_some() {
                    Movement::Withdrawal
                } else if fundings.contains(&txid) {
                    Movement::Funding
                } else if sent > received {
                    Movement::Spend
                } else {
                    Movement::Deposit
                };
                WalletTransaction {
                    txid,
                    change: signed(received) - signed(sent),
                    fee: is_ours_alone
                        .then(|| inner.wallet.calculate_fee(transaction).ok())
                        .flatten(),
                    height,
                    at_secs,
                    movement,
                }
            })
            .collect();
        all.sort_by_key(|tx| {
            std::cmp::Reverse((tx.height.unwrap_or(u32::MAX), tx.at_secs, tx.txid))
        });
        all
    }
}

fn signed(amount: Amount) -> SignedAmount {
    amount.to_signed().unwrap_or(SignedAmount::MAX)
}
