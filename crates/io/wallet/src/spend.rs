//! Spending: fundings, fees and withdrawals.

use std::collections::{BTreeMap, BTreeSet};

use bdk_wallet::{
    KeychainKind, LocalOutput, SignOptions, chain::ChainPosition,
    coin_selection::LargestFirstCoinSelection, error::CreateTxError,
};
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid, Witness};
use fulmen_types::{FeeratePerKw, record::WriteBatch};

use crate::{
    Inner, OnchainWallet, WalletFault,
    lease::{Funding, Lease, Leases},
    withdrawals::{self, Withdrawals},
};

/// The witness of a BIP 86 input: one element of 64 bytes.
const WITNESS_WEIGHT: u64 = 66;
/// Outpoint, empty script and sequence, and the witness.
const INPUT_WEIGHT: u64 = 41 * 4 + WITNESS_WEIGHT;

/// So many blocks deep nothing is undone any more.
pub(crate) const BURIED: u32 = 100;

/// A coin that is put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WalletCoin {
    pub(crate) outpoint: OutPoint,
    pub(crate) output: TxOut,
    pub(crate) witness_weight: u64,
}

/// A signed withdrawal, durable.
#[derive(Clone, Debug)]
pub struct Withdrawal {
    /// What is to be broadcast.
    pub transaction: Transaction,
    /// What arrives.
    pub amount: Amount,
    /// What it costs besides.
    pub fee: Amount,
}

impl OnchainWallet {
    /// A signed transaction that pays `value` to `script_pubkey`, and its coins put aside for `purpose`.
    /// Asking again gives the same. At least `reserve` stays.
    pub(crate) fn fund(
        &self,
        purpose: &[u8],
        script_pubkey: ScriptBuf,
        value: Amount,
        feerate: FeeratePerKw,
        reserve: Amount,
    ) -> Result<Transaction, WalletFault> {
        let mut inner = self.lock();
        if let Some(funding) = inner
            .leases
            .get(purpose)
            .and_then(|lease| lease.funding.as_ref())
        {
            if funding.script_pubkey == script_pubkey && funding.value_sat == value.to_sat() {
                return Ok(funding.transaction.clone());
            }
            return Err(WalletFault::Refused(
                "this purpose has another funding already".into(),
            ));
        }
        let (transaction, _) = inner.build(
            Payout::Exactly(script_pubkey.clone(), value),
            feerate,
            reserve,
        )?;
        let lease = Lease {
            coins: transaction
                .input
                .iter()
                .map(|i| i.previous_output)
                .collect(),
            funding: Some(Funding {
                script_pubkey,
                value_sat: value.to_sat(),
                transaction: transaction.clone(),
            }),
        };
        inner.lease(purpose, lease)?;
        Ok(transaction)
    }

    /// Confirmed coins worth `value` after paying for their own inputs, or all that there are, put aside
    /// for `purpose`. Asking again gives the same ones, and more if needed.
    pub(crate) fn lease_coins(
        &self,
        purpose: &[u8],
        value: Amount,
        feerate: FeeratePerKw,
    ) -> Result<Vec<WalletCoin>, WalletFault> {
        let mut inner = self.lock();
        let input_fee = feerate.fee_ceil(INPUT_WEIGHT);
        let worth = |coin: &LocalOutput| coin.txout.value.checked_sub(input_fee);
        let held: BTreeSet<OutPoint> = inner
            .leases
            .get(purpose)
            .map(|lease| lease.coins.iter().copied().collect())
            .unwrap_or_default();
        let (mut chosen, mut free): (Vec<LocalOutput>, Vec<LocalOutput>) = inner
            .wallet
            .list_unspent()
            .filter(|coin| coin.chain_position.is_confirmed())
            .filter(|coin| held.contains(&coin.outpoint) || !inner.leases.holds(&coin.outpoint))
            .partition(|coin| held.contains(&coin.outpoint));
        let mut missing = value;
        for coin in &chosen {
            missing = missing
                .checked_sub(worth(coin).unwrap_or(Amount::ZERO))
                .unwrap_or(Amount::ZERO);
        }
        free.retain(|coin| worth(coin).is_some_and(|worth| worth > Amount::ZERO));
        free.sort_by_key(|coin| coin.txout.value);
        while missing > Amount::ZERO {
            // The least coin that suffices, or else the greatest.
            let index = free
                .iter()
                .position(|coin| worth(coin).is_some_and(|worth| worth >= missing))
                .or_else(|| free.len().checked_sub(1));
            let Some(index) = index else { break };
            let coin = free.remove(index);
            missing = missing
                .checked_sub(worth(&coin).unwrap_or(Amount::ZERO))
                .unwrap_or(Amount::ZERO);
            chosen.push(coin);
        }
        let coins: Vec<OutPoint> = chosen.iter().map(|coin| coin.outpoint).collect();
        if coins.iter().any(|coin| !held.contains(coin)) {
            // Those of before stay too, even if they are not confirmed just now.
            let all = held.iter().copied().chain(coins).collect::<BTreeSet<_>>();
            inner.lease(
                purpose,
                Lease {
                    coins: all.into_iter().collect(),
                    funding: None,
                },
            )?;
        }
        Ok(chosen
            .into_iter()
            .map(|coin| WalletCoin {
                outpoint: coin.outpoint,
                output: coin.txout,
                witness_weight: WITNESS_WEIGHT,
            })
            .collect())
    }

    /// Gives back what is put aside for `purpose`.
    pub(crate) fn release(&self, purpose: &[u8]) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        if inner.leases.get(purpose).is_some() {
            let mut batch = WriteBatch::new();
            Leases::write_end(purpose, &mut batch);
            inner.persist(batch)?;
            inner.leases.remove(purpose);
        }
        Ok(())
    }

    /// These are all the claims that coins are held for: the coins of other claims are free. Fundings are
    /// not touched.
    pub(crate) fn keep_only_claims(
        &self,
        held: BTreeMap<Vec<u8>, Vec<OutPoint>>,
    ) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        let mut batch = WriteBatch::new();
        let over: Vec<Vec<u8>> = inner
            .leases
            .claims()
            .filter(|claim| !held.contains_key(*claim))
            .cloned()
            .collect();
        for purpose in &over {
            Leases::write_end(purpose, &mut batch);
        }
        let mut new = Vec::new();
        for (purpose, coins) in held {
            let lease = Lease {
                coins,
                funding: None,
            };
            if inner.leases.get(&purpose) != Some(&lease) {
                Leases::write(&purpose, &lease, &mut batch)?;
                new.push((purpose, lease));
            }
        }
        inner.persist(batch)?;
        for purpose in over {
            inner.leases.remove(&purpose);
        }
        for (purpose, lease) in new {
            inner.leases.set(purpose, lease);
        }
        Ok(())
    }

    /// Gives back the coins of fundings that are not among these and were never given to the network, and
    /// forgets those that are buried in the chain.
    pub(crate) fn keep_only_fundings(&self, live: &BTreeSet<Vec<u8>>) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        let tip = inner.wallet.latest_checkpoint().height();
        let over: Vec<Vec<u8>> = inner
            .leases
            .fundings()
            .filter(|(purpose, funding)| {
                let known = inner.wallet.get_tx(funding.transaction.compute_txid());
                match known.map(|tx| tx.chain_position) {
                    Some(ChainPosition::Confirmed { anchor, .. }) => {
                        tip.saturating_sub(anchor.block_id.height) >= BURIED
                    }
                    Some(ChainPosition::Unconfirmed { .. }) => false,
                    None => !live.contains(*purpose),
                }
            })
            .map(|(purpose, _)| purpose.clone())
            .collect();
        let mut batch = WriteBatch::new();
        for purpose in &over {
            Leases::write_end(purpose, &mut batch);
        }
        inner.persist(batch)?;
        for purpose in over {
            inner.leases.remove(&purpose);
        }
        Ok(())
    }

    /// Adds the witnesses of the inputs that spend the wallet's coins; `spent` are the outputs that the
    /// inputs spend, in their order.
    pub(crate) fn sign(
        &self,
        transaction: Transaction,
        spent: &[TxOut],
    ) -> Result<Transaction, WalletFault> {
        self.lock().sign(transaction, spent)
    }

    /// Sends money away: `amount`, or everything beyond the reserve. The transaction is durable and part
    /// of the wallet when this returns: broadcast it. At least `reserve` stays.
    ///
    /// # Errors
    /// Too little money, an amount below dust, or the store's.
    pub fn withdraw(
        &self,
        script_pubkey: ScriptBuf,
        amount: Option<Amount>,
        feerate: FeeratePerKw,
        reserve: Amount,
        now_secs: u64,
    ) -> Result<Withdrawal, WalletFault> {
        let mut inner = self.lock();
        inner.withdraw(None, script_pubkey, amount, feerate, reserve, now_secs)
    }

    /// The same under an id: the same id again, before the first withdrawal is 100 blocks deep, gives that
    /// one, or what has replaced it, and sends nothing.
    ///
    /// # Errors
    /// As [`OnchainWallet::withdraw`].
    pub fn withdraw_once(
        &self,
        id: [u8; 16],
        script_pubkey: ScriptBuf,
        amount: Option<Amount>,
        feerate: FeeratePerKw,
        reserve: Amount,
        now_secs: u64,
    ) -> Result<Withdrawal, WalletFault> {
        let mut inner = self.lock();
        if let Some(done) = inner.withdrawal_of(id) {
            return Ok(done);
        }
        inner.withdraw(Some(id), script_pubkey, amount, feerate, reserve, now_secs)
    }

    /// The network has taken these transactions: their change can be used.
    pub(crate) fn broadcasted(
        &self,
        transactions: &[Transaction],
        now_secs: u64,
    ) -> Result<(), WalletFault> {
        let mut inner = self.lock();
        let ours = transactions
            .iter()
            .filter(|tx| inner.wallet.get_tx(tx.compute_txid()).is_none())
            .map(|tx| (tx.clone(), now_secs))
            .collect::<Vec<_>>();
        if ours.is_empty() {
            return Ok(());
        }
        inner.wallet.apply_unconfirmed_txs(ours);
        inner.persist(WriteBatch::new())
    }

    /// The transactions that spend the wallet's coins only and are in no block yet, oldest first.
    pub fn unconfirmed(&self) -> Vec<Transaction> {
        let inner = self.lock();
        let mut found: Vec<(u64, Transaction)> = inner
            .wallet
            .transactions()
            .filter_map(|tx| match tx.chain_position {
                ChainPosition::Unconfirmed { first_seen, .. } => {
                    Some((first_seen.unwrap_or(0), tx.tx_node.tx.as_ref().clone()))
                }
                ChainPosition::Confirmed { .. } => None,
            })
            .filter(|(_, tx)| {
                let index = inner.wallet.spk_index();
                tx.input
                    .iter()
                    .all(|input| index.txout(input.previous_output).is_some())
            })
            .collect();
        found.sort_by_key(|(seen, _)| *seen);
        found.into_iter().map(|(_, tx)| tx).collect()
    }
}

/// Where the money goes.
enum Payout {
    Exactly(ScriptBuf, Amount),
    AllBeyond(ScriptBuf),
}

/// What can be spent, and the coins that can't.
pub(crate) struct Spendable {
    pub(crate) available: Amount,
    pub(crate) unspendable: Vec<OutPoint>,
}

impl Inner {
    pub(crate) fn spendable(&self) -> Spendable {
        let mut available = Amount::ZERO;
        let mut unspendable = Vec::new();
        for coin in self.wallet.list_unspent() {
            // Change of our own is as good as the transaction that makes it; what others pay is not
            // before it confirms.
            let trusted =
                coin.chain_position.is_confirmed() || coin.keychain == KeychainKind::Internal;
            if trusted && !self.leases.holds(&coin.outpoint) {
                available += coin.txout.value;
            } else {
                unspendable.push(coin.outpoint);
            }
        }
        Spendable {
            available,
            unspendable,
        }
    }

    fn withdraw(
        &mut self,
        id: Option<[u8; 16]>,
        script_pubkey: ScriptBuf,
        amount: Option<Amount>,
        feerate: FeeratePerKw,
        reserve: Amount,
        now_secs: u64,
    ) -> Result<Withdrawal, WalletFault> {
        let is_all = amount.is_none();
        let payout = match amount {
            Some(amount) => Payout::Exactly(script_pubkey.clone(), amount),
            None => Payout::AllBeyond(script_pubkey.clone()),
        };
        let (transaction, fee) = self.build(payout, feerate, reserve)?;
        let record = withdrawals::Record {
            script_pubkey,
            is_all,
            id,
        };
        let amount = record.paid_by(&transaction);
        self.take_withdrawal(&transaction, record, None, now_secs)?;
        Ok(Withdrawal {
            transaction,
            amount,
            fee,
        })
    }

    /// What was sent under an id, if anything was.
    fn withdrawal_of(&self, id: [u8; 16]) -> Option<Withdrawal> {
        let (txid, record) = self.withdrawals.by_id(id)?;
        let transaction = self.wallet.tx_graph().get_tx(txid)?.as_ref().clone();
        Some(Withdrawal {
            amount: record.paid_by(&transaction),
            fee: self.wallet.calculate_fee(&transaction).ok()?,
            transaction,
        })
    }

    /// Makes a withdrawal part of the wallet, in the place of another one if it has one, durably.
    pub(crate) fn take_withdrawal(
        &mut self,
        transaction: &Transaction,
        record: withdrawals::Record,
        replaced: Option<Txid>,
        seen_secs: u64,
    ) -> Result<(), WalletFault> {
        let txid = transaction.compute_txid();
        let mut batch = WriteBatch::new();
        Withdrawals::write(txid, &record, &mut batch)?;
        if let Some(replaced) = replaced {
            Withdrawals::write_end(replaced, &mut batch);
        }
        self.wallet
            .apply_unconfirmed_txs([(transaction.clone(), seen_secs)]);
        self.persist(batch)?;
        if let Some(replaced) = replaced {
            self.withdrawals.remove(&replaced);
        }
        self.withdrawals.set(txid, record);
        Ok(())
    }

    /// Builds and signs. The change that it reveals is staged, not durable yet.
    fn build(
        &mut self,
        payout: Payout,
        feerate: FeeratePerKw,
        reserve: Amount,
    ) -> Result<(Transaction, Amount), WalletFault> {
        let Spendable {
            available,
            unspendable,
        } = self.spendable();
        let home = match payout {
            Payout::AllBeyond(_) if reserve > Amount::ZERO => Some(
                self.wallet
                    .next_unused_address(KeychainKind::Internal)
                    .script_pubkey(),
            ),
            Payout::AllBeyond(_) | Payout::Exactly(..) => None,
        };
        // As few coins as possible: the others stay free for the fees of claims.
        let mut builder = self
            .wallet
            .build_tx()
            .coin_selection(LargestFirstCoinSelection);
        builder
            .fee_rate(FeeRate::from_sat_per_kwu(feerate.to_sat_per_kw().into()))
            .unspendable(unspendable)
            .only_witness_utxo();
        let exactly = match payout {
            Payout::Exactly(script, value) => {
                builder.add_recipient(script, value);
                Some(value)
            }
            Payout::AllBeyond(script) => {
                builder.drain_wallet().drain_to(script);
                if let Some(home) = home {
                    builder.add_recipient(home, reserve);
                }
                None
            }
        };
        let psbt = builder
            .finish()
            .map_err(|e| refusal(e, reserve, available))?;
        let fee = psbt
            .fee()
            .map_err(|e| WalletFault::Refused(e.to_string()))?;
        if let Some(value) = exactly {
            let needed = value + fee + reserve;
            if needed > available {
                self.forget_change(&psbt.unsigned_tx);
                return Err(WalletFault::InsufficientFunds { needed, available });
            }
        }
        let spent: Vec<TxOut> = psbt
            .inputs
            .iter()
            .filter_map(|input| input.witness_utxo.clone())
            .collect();
        let signed = self.sign(psbt.unsigned_tx, &spent)?;
        Ok((signed, fee))
    }

    /// A transaction that comes to nothing does not use its change addresses up.
    pub(crate) fn forget_change(&mut self, transaction: &Transaction) {
        for output in &transaction.output {
            if let Some((KeychainKind::Internal, index)) =
                self.wallet.derivation_of_spk(output.script_pubkey.clone())
            {
                self.wallet.unmark_used(KeychainKind::Internal, index);
            }
        }
    }

    pub(crate) fn sign(
        &self,
        mut transaction: Transaction,
        spent: &[TxOut],
    ) -> Result<Transaction, WalletFault> {
        if spent.len() != transaction.input.len() {
            return Err(WalletFault::Refused(
                "not every spent output is given".into(),
            ));
        }
        let mut unsigned = transaction.clone();
        for input in &mut unsigned.input {
            input.witness = Witness::new();
            input.script_sig = ScriptBuf::new();
        }
        let mut psbt =
            Psbt::from_unsigned_tx(unsigned).map_err(|e| WalletFault::Refused(e.to_string()))?;
        for (input, output) in psbt.inputs.iter_mut().zip(spent) {
            input.witness_utxo = Some(output.clone());
        }
        // A taproot signature commits to every output that is spent: none needs its whole transaction.
        let options = SignOptions {
            trust_witness_utxo: true,
            ..SignOptions::default()
        };
        let [external, internal] = &self.signers;
        self.wallet
            .sign_with_signers(&mut psbt, &[external, internal], options)
            .map_err(|e| WalletFault::Refused(format!("the wallet can't sign: {e}")))?;
        for ((signed, output), input) in psbt
            .inputs
            .into_iter()
            .zip(spent)
            .zip(&mut transaction.input)
        {
            if !self.wallet.is_mine(output.script_pubkey.clone()) {
                continue;
            }
            input.witness = signed.final_script_witness.ok_or_else(|| {
                WalletFault::Refused(format!(
                    "the wallet can't sign for {}",
                    input.previous_output
                ))
            })?;
        }
        Ok(transaction)
    }

    fn lease(&mut self, purpose: &[u8], lease: Lease) -> Result<(), WalletFault> {
        let mut batch = WriteBatch::new();
        Leases::write(purpose, &lease, &mut batch)?;
        self.persist(batch)?;
        self.leases.set(purpose.to_vec(), lease);
        Ok(())
    }
}

pub(crate) fn refusal(error: CreateTxError, reserve: Amount, available: Amount) -> WalletFault {
    match error {
        CreateTxError::CoinSelection(e) => WalletFault::InsufficientFunds {
            needed: e.needed + reserve,
            available,
        },
        CreateTxError::OutputBelowDustLimit(_) => {
            WalletFault::Refused("the amount is too small to be sent on chain; send more".into())
        }
        other => WalletFault::Refused(other.to_string()),
    }
}
