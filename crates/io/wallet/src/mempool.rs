//! Deposits that are not confirmed yet, as Bitcoin Core's mempool has them. They are shown, never spent.

use std::{collections::BTreeSet, time::Duration};

use bdk_wallet::chain::ChainPosition;
use bitcoin::{Transaction, Txid, consensus::encode::deserialize_hex};
use fulmen_background_processor::{Clock, SystemClock};
use fulmen_block_sync::Bitcoind;
use fulmen_types::record::WriteBatch;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{OnchainWallet, WalletFault};

/// So many transactions are fetched at once: a full mempool is looked through bit by bit.
const FETCHED_AT_ONCE: usize = 500;

/// Looks at Bitcoin Core's mempool every `interval` and shows the wallet what pays it, until `stop` says
/// so. While Bitcoin Core does not answer it waits.
pub async fn watch_mempool(
    wallet: OnchainWallet,
    client: Bitcoind,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    // Only those that are in the mempool now: it does not grow with time.
    let mut seen = BTreeSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            looked = look(&wallet, &client, &mut seen) => if let Err(error) = looked {
                tracing::debug!(error, "the mempool can't be looked at now; trying again");
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn look(
    wallet: &OnchainWallet,
    client: &Bitcoind,
    seen: &mut BTreeSet<Txid>,
) -> Result<(), String> {
    let ids = client
        .call("getrawmempool", json!([]))
        .await
        .map_err(|e| e.to_string())?;
    let now: BTreeSet<Txid> = ids
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str()?.parse().ok())
        .collect();
    seen.retain(|txid| now.contains(txid));
    let new: Vec<Txid> = now
        .difference(seen)
        .copied()
        .take(FETCHED_AT_ONCE)
        .collect();
    let mut transactions = Vec::new();
    for txid in new {
        // One that has left meanwhile is no error.
        let answer = client
            .call("getrawtransaction", json!([txid.to_string()]))
            .await;
        let transaction: Option<Transaction> = answer
            .as_ref()
            .ok()
            .and_then(Value::as_str)
            .and_then(|hex| deserialize_hex(hex).ok());
        transactions.extend(transaction);
        seen.insert(txid);
    }
    let wallet = wallet.clone();
    tokio::task::spawn_blocking(move || wallet.take_mempool(&now, transactions))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

impl OnchainWallet {
    /// What is in the mempool: `now` is all of it, and among `new` may be payments to the wallet. Those
    /// that it has no longer are shown no longer; our own stay, for they are broadcast again.
    pub(crate) fn take_mempool(
        &self,
        now: &BTreeSet<Txid>,
        new: Vec<Transaction>,
    ) -> Result<(), WalletFault> {
        let at_secs = SystemClock.now().to_secs_floor();
        let mut inner = self.lock();
        let index = inner.wallet.spk_index();
        let ours: Vec<(Transaction, u64)> = new
            .into_iter()
            .filter(|tx| inner.wallet.get_tx(tx.compute_txid()).is_none())
            .filter(|tx| {
                let pays = tx
                    .output
                    .iter()
                    .any(|output| inner.wallet.is_mine(output.script_pubkey.clone()));
                let spends = tx
                    .input
                    .iter()
                    .any(|input| index.txout(input.previous_output).is_some());
                // What spends our coins is known from where it was made.
                pays && !spends
            })
            .map(|tx| (tx, at_secs))
            .collect();
        let gone: Vec<(Txid, u64)> = inner
            .wallet
            .transactions()
            .filter(|tx| matches!(tx.chain_position, ChainPosition::Unconfirmed { .. }))
            .filter(|tx| !now.contains(&tx.tx_node.txid))
            .filter(|tx| {
                let mut inputs = tx.tx_node.tx.input.iter();
                !inputs.any(|input| index.txout(input.previous_output).is_some())
            })
            .map(|tx| (tx.tx_node.txid, at_secs))
            .collect();
        if ours.is_empty() && gone.is_empty() {
            return Ok(());
        }
        inner.wallet.apply_unconfirmed_txs(ours);
        inner.wallet.apply_evicted_txs(gone);
        inner.persist(WriteBatch::new())
    }
}
