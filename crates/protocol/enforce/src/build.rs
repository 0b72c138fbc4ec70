//! Building the transaction of a claim.

use alloc::vec::Vec;

use bitcoin::{
    Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute,
    transaction,
};
use fulmen_types::FeeratePerKw;

use crate::{input::WalletCoin, schedule};

/// One channel output that a claim spends.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) outpoint: OutPoint,
    pub(crate) output: TxOut,
    pub(crate) sequence: Sequence,
    /// The greatest weight of its witness.
    pub(crate) witness_weight: u64,
    /// The output that the peer's signature demands at the same index (HTLC transactions with anchors).
    pub(crate) paired: Option<TxOut>,
}

/// The unconfirmed parent that a child pays for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parent {
    pub(crate) weight: u64,
    pub(crate) fee: Amount,
}

/// What to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) coins: &'a [WalletCoin],
    pub(crate) lock_time: u32,
    /// Where what is left over goes.
    pub(crate) script: &'a Script,
    pub(crate) parent: Parent,
    /// The fee is at least this, whatever the feerate.
    pub(crate) least_fee: Amount,
}

/// A transaction without witnesses, and what it pays.
#[derive(Clone, Debug)]
pub(crate) struct Draughted {
    pub(crate) tx: Transaction,
    pub(crate) fee: Amount,
}

/// What is missing to pay the feerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortfall {
    pub(crate) missing: Amount,
}

/// More than any transaction can weigh.
const WITNESSES_MAX_WEIGHT: u64 = 4_000_000;
const SEQUENCE_COIN: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

impl Draft<'_> {
    /// The weight once signed, at most, with an output for what is left over.
    pub(crate) fn weight(&self) -> u64 {
        self.weight_with(self.paired().count() + 1)
    }

    /// The fee at `feerate`, for child and parent together where there is one.
    pub(crate) fn fee(&self, feerate: FeeratePerKw) -> Amount {
        self.fee_of(feerate, self.weight())
    }

    /// The effective value that coins must add for the transaction to pay `feerate`, or zero.
    pub(crate) fn coins_needed(&self, feerate: FeeratePerKw) -> Amount {
        let out = self.paired_value() + self.fee(feerate) + self.dust();
        out.checked_sub(self.value_in()).unwrap_or(Amount::ZERO)
    }

    /// The highest feerate that the inputs can pay with an output left over.
    pub(crate) fn feerate_affordable(&self) -> FeeratePerKw {
        let left = self
            .value_in()
            .checked_sub(self.paired_value() + self.dust())
            .unwrap_or(Amount::ZERO);
        let left = left + self.parent.fee;
        schedule::feerate_within(left, self.weight() + self.parent.weight)
    }

    /// Builds the transaction at `feerate`.
    pub(crate) fn build(&self, feerate: FeeratePerKw) -> Result<Draughted, Shortfall> {
        let value = self.value_in();
        let paired = self.paired_value();
        let fee = self.fee(feerate);
        let wanted = paired + fee + self.dust();
        if let Some(extra) = value.checked_sub(wanted) {
            let left = TxOut {
                value: extra + self.dust(),
                script_pubkey: ScriptBuf::from(self.script),
            };
            return Ok(Draughted {
                tx: self.assemble(Some(left)),
                fee,
            });
        }
        // Nothing worth an output is left over: the rest goes to the fee, if there is another output.
        let outputs = self.paired().count();
        let bare = self.fee_of(feerate, self.weight_with(outputs));
        match value.checked_sub(paired + bare) {
            Some(rest) if outputs > 0 => Ok(Draughted {
                tx: self.assemble(None),
                fee: bare + rest,
            }),
            _ => Err(Shortfall {
                missing: wanted - value,
            }),
        }
    }

    /// The weight once signed, at most, without an output for what is left over.
    pub(crate) fn weight_bare(&self) -> u64 {
        self.weight_with(self.paired().count())
    }

    pub(crate) fn assemble(&self, left: Option<TxOut>) -> Transaction {
        let source = |s: &Source| (s.outpoint, s.sequence);
        let coin = |c: &WalletCoin| (c.outpoint, SEQUENCE_COIN);
        let inputs = self
            .sources
            .iter()
            .map(source)
            .chain(self.coins.iter().map(coin));
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::from_consensus(self.lock_time),
            input: inputs
                .map(|(previous_output, sequence)| TxIn {
                    previous_output,
                    script_sig: ScriptBuf::new(),
                    sequence,
                    witness: Witness::new(),
                })
                .collect(),
            output: self.paired().cloned().chain(left).collect(),
        }
    }

    fn paired(&self) -> impl Iterator<Item = &TxOut> {
        self.sources.iter().filter_map(|s| s.paired.as_ref())
    }

    fn paired_value(&self) -> Amount {
        sum(self.paired().map(|o| o.value))
    }

    fn value_in(&self) -> Amount {
        let sources = self.sources.iter().map(|s| s.output.value);
        sum(sources.chain(self.coins.iter().map(|c| c.output.value)))
    }

    fn dust(&self) -> Amount {
        self.script.minimal_non_dust()
    }

    fn fee_of(&self, feerate: FeeratePerKw, weight: u64) -> Amount {
        feerate
            .fee_ceil(weight + self.parent.weight)
            .checked_sub(self.parent.fee)
            .unwrap_or(Amount::ZERO)
            // The child must be relayed in its own right too.
            .max(FeeratePerKw::FLOOR.fee_ceil(weight))
            .max(self.least_fee)
            .min(Amount::MAX_MONEY)
    }

    fn weight_with(&self, outputs: usize) -> u64 {
        let inputs = self.sources.len() + self.coins.len();
        let sources = self.sources.iter().map(|s| s.witness_weight);
        let coins = self.coins.iter().map(|c| c.witness_weight);
        let witnesses = sources
            .chain(coins)
            .fold(0u64, |sum, w| sum.saturating_add(w))
            .min(WITNESSES_MAX_WEIGHT);
        let counts = count_size(inputs) + count_size(outputs);
        let paired: u64 = self.paired().map(|o| size(o.size())).sum();
        let script = size(self.script.len());
        let left = if outputs > self.paired().count() {
            8 + count_size(self.script.len()) + script
        } else {
            0
        };
        4 * (8 + counts + 41 * size(inputs) + paired + left) + 2 + witnesses
    }
}

fn count_size(count: usize) -> u64 {
    match count {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        _ => 5,
    }
}

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX / 64)
}

/// A sum that stays in range: the terms are outputs of valid transactions.
pub(crate) fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts
        .into_iter()
        .try_fold(Amount::ZERO, Amount::checked_add)
        .unwrap_or(Amount::MAX_MONEY)
        .min(Amount::MAX_MONEY)
}

/// What the witnesses' absence leaves: each outpoint that the transaction spends.
pub(crate) fn outpoints(tx: &Transaction) -> Vec<OutPoint> {
    tx.input.iter().map(|i| i.previous_output).collect()
}
