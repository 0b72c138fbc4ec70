//! Replacing a withdrawal that does not confirm by one that pays more (BIP 125).

use bdk_wallet::{
    chain::ChainPosition,
    coin_selection::LargestFirstCoinSelection,
    error::{BuildFeeBumpError, CreateTxError},
};
use bitcoin::{Amount, FeeRate, ScriptBuf, TxOut, Txid};
use fulmen_types::{FeeratePerKw, record::WriteBatch};

use crate::{
    Inner, OnchainWallet, WalletFault, Withdrawal,
    spend::{BURIED, Spendable, refusal},
    withdrawals::Withdrawals,
};

impl OnchainWallet {
    /// Replaces a withdrawal by one that pays the same and a higher feerate. A withdrawal of everything
    /// pays the difference from what arrives; others pay it from the change, and at least `reserve` stays.
    /// The replacement is durable and part of the wallet when this returns: broadcast it.
    ///
    /// # Errors
    /// When there is no such withdrawal or it is confirmed, when something else needs its change, when the
    /// feerate is not higher, too little money, or the store's.
    pub fn bump_fee(
        &self,
        txid: Txid,
        feerate: FeeratePerKw,
        reserve: Amount,
        now_secs: u64,
    ) -> Result<Withdrawal, WalletFault> {
        let mut inner = self.lock();
        let record = inner.withdrawals.get(&txid).cloned();
        let known = inner.wallet.get_tx(txid);
        let known = known.map(|tx| (tx.chain_position, tx.tx_node.tx.as_ref().clone()));
        let (record, (position, original)) = match (record, known) {
            (Some(record), Some(known)) => (record, known),
            (None, Some(_)) => {
                return Err(WalletFault::Refused(format!(
                    "{txid} is no withdrawal; the node itself raises the fees of its channels' transactions where the protocol lets it"
                )));
            }
            (_, None) => {
                return Err(WalletFault::Refused(format!(
                    "there is no transaction {txid}, or another one has taken its place; `listtransactions` shows those that are"
                )));
            }
        };
        let seen_secs = match position {
            ChainPosition::Confirmed { .. } => {
                return Err(WalletFault::Refused(format!(
                    "{txid} is confirmed already; there is nothing to hurry"
                )));
            }
            ChainPosition::Unconfirmed { last_seen, .. } => last_seen.unwrap_or(0),
        };
        if let Some(child) = inner.spender_of(txid) {
            return Err(WalletFault::Refused(format!(
                "{child} spends the change of {txid} and would be lost with it; wait until they confirm"
            )));
        }
        let Spendable {
            available,
            unspendable,
        } = inner.spendable();
        let old_fee = inner
            .wallet
            .calculate_fee(&original)
            .map_err(|e| WalletFault::Refused(e.to_string()))?;
        // What comes home beside a withdrawal of everything: the reserve, to the satoshi.
        let home: Vec<(ScriptBuf, Amount)> = original
            .output
            .iter()
            .filter(|output| output.script_pubkey != record.script_pubkey)
            .map(|output| (output.script_pubkey.clone(), output.value))
            .collect();
        let mut builder = inner
            .wallet
            .build_fee_bump(txid)
            .map_err(unbumpable)?
            .coin_selection(LargestFirstCoinSelection);
        builder
            .fee_rate(FeeRate::from_sat_per_kwu(feerate.to_sat_per_kw().into()))
            .unspendable(unspendable)
            .only_witness_utxo();
        if record.is_all {
            builder
                .manually_selected_only()
                .set_recipients(home)
                .drain_to(record.script_pubkey.clone());
        }
        let psbt = builder.finish().map_err(|e| match e {
            CreateTxError::FeeRateTooLow { required } => WalletFault::Refused(format!(
                "a replacement must pay more: take a feerate of {} sat/vB or more",
                required.to_sat_per_vb_ceil()
            )),
            other => refusal(other, reserve, available),
        })?;
        let fee = psbt
            .fee()
            .map_err(|e| WalletFault::Refused(e.to_string()))?;
        let more = fee.checked_sub(old_fee).unwrap_or(Amount::ZERO);
        if !record.is_all && reserve + more > available {
            inner.forget_change(&psbt.unsigned_tx);
            return Err(WalletFault::InsufficientFunds {
                needed: reserve + more,
                available,
            });
        }
        let spent: Vec<TxOut> = psbt
            .inputs
            .iter()
            .filter_map(|input| input.witness_utxo.clone())
            .collect();
        let transaction = inner.sign(psbt.unsigned_tx, &spent)?;
        let amount = record.paid_by(&transaction);
        // The one that was seen last counts: in the same second neither would.
        let seen_secs = now_secs.max(seen_secs.saturating_add(1));
        inner.take_withdrawal(&transaction, record, Some(txid), seen_secs)?;
        Ok(Withdrawal {
            transaction,
            amount,
            fee,
        })
    }

    /// Forgets which transactions were withdrawals once they are buried in the chain.
    pub(crate) fn forget_old_withdrawals(&self) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        let tip = inner.wallet.latest_checkpoint().height();
        let old: Vec<Txid> = inner
            .withdrawals
            .txids()
            .filter(|txid| match inner.wallet.get_tx(*txid) {
                Some(tx) => match tx.chain_position {
                    ChainPosition::Confirmed { anchor, .. } => {
                        tip.saturating_sub(anchor.block_id.height) >= BURIED
                    }
                    ChainPosition::Unconfirmed { .. } => false,
                },
                None => false,
            })
            .collect();
        let mut batch = WriteBatch::new();
        for txid in &old {
            Withdrawals::write_end(*txid, &mut batch);
        }
        inner.persist(batch)?;
        for txid in old {
            inner.withdrawals.remove(&txid);
        }
        Ok(())
    }
}

impl Inner {
    /// What spends an output of a transaction: one of the wallet's own, or a funding that is signed and
    /// waits to be broadcast.
    fn spender_of(&self, txid: Txid) -> Option<Txid> {
        let spends = |tx: &bitcoin::Transaction| {
            tx.input
                .iter()
                .any(|input| input.previous_output.txid == txid)
        };
        let own = self
            .wallet
            .transactions()
            .find(|tx| spends(&tx.tx_node.tx))
            .map(|tx| tx.tx_node.txid);
        own.or_else(|| {
            let mut fundings = self.leases.fundings();
            fundings
                .find(|(_, funding)| spends(&funding.transaction))
                .map(|(_, funding)| funding.transaction.compute_txid())
        })
    }
}

fn unbumpable(error: BuildFeeBumpError) -> WalletFault {
    WalletFault::Refused(format!("it can't be replaced: {error}"))
}
