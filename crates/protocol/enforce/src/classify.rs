//! What a transaction that spends the funding output is.

use alloc::vec::Vec;

use bitcoin::Transaction;
use fulmen_tx::{BuiltCommitment, ChannelParameters, Secp, commitment_number_of, scripts};
use fulmen_types::CommitmentNumber;

use crate::evidence::Evidence;

/// What spends the funding output (BOLT 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendKind {
    /// A close that both sides agreed on.
    MutualClose,
    /// Our commitment.
    Holder,
    /// The peer's current commitment.
    CounterpartyCurrent,
    /// The peer's next commitment, signed by us while the current one is not revoked yet.
    CounterpartyNext,
    /// A commitment that the peer has revoked.
    Revoked {
        /// Its number.
        number: CommitmentNumber,
    },
    /// A commitment of the peer that is newer than all we know: our data is old.
    Future {
        /// Its number.
        number: CommitmentNumber,
    },
    /// None of these: the funding keys have leaked, or an old commitment of ours was broadcast.
    Unknown,
}

/// Says what `tx`, which spends the funding output, is.
pub fn classify(secp: &Secp, evidence: &Evidence, tx: &Transaction) -> SpendKind {
    Known::new(secp, evidence).classify(evidence, tx)
}

/// The transactions that are valid by the evidence, built once.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) holder: Option<BuiltCommitment>,
    /// The current one, then the next one.
    pub(crate) counterparty: Vec<BuiltCommitment>,
    /// The revoked one that was broadcast, once its record is loaded.
    pub(crate) revoked: Option<BuiltCommitment>,
}

impl Known {
    pub(crate) fn new(secp: &Secp, evidence: &Evidence) -> Self {
        let params = &evidence.params;
        Self {
            holder: evidence.holder.as_ref().map(|c| c.build(secp, params)),
            counterparty: evidence
                .counterparty
                .iter()
                .map(|c| c.build(secp, params))
                .collect(),
            revoked: None,
        }
    }

    pub(crate) fn classify(&self, evidence: &Evidence, tx: &Transaction) -> SpendKind {
        let txid = tx.compute_txid();
        if self.holder.as_ref().is_some_and(|c| c.txid == txid) {
            return SpendKind::Holder;
        }
        match self.counterparty.iter().position(|c| c.txid == txid) {
            Some(0) => return SpendKind::CounterpartyCurrent,
            Some(_) => return SpendKind::CounterpartyNext,
            None => {}
        }
        let Some(number) = commitment_number_of(tx, &evidence.params) else {
            return if is_mutual_close(evidence, tx) {
                SpendKind::MutualClose
            } else {
                SpendKind::Unknown
            };
        };
        // Numbers of both sides look alike. A commitment of our own pays the peer's main output.
        if pays_peers_main_output(&evidence.params, tx) {
            return SpendKind::Unknown;
        }
        let newest = evidence.counterparty.iter().map(|c| c.content.number).max();
        if evidence.secrets.get(number).is_some() {
            SpendKind::Revoked { number }
        } else if newest.is_none_or(|newest| number > newest) {
            SpendKind::Future { number }
        } else {
            SpendKind::Unknown
        }
    }
}

fn is_mutual_close(evidence: &Evidence, tx: &Transaction) -> bool {
    let mut outputs = tx.output.iter();
    outputs.all(|o| evidence.shutdown_scripts.contains(&o.script_pubkey))
}

fn pays_peers_main_output(params: &ChannelParameters, tx: &Transaction) -> bool {
    let script = scripts::to_remote(params.format, &params.remote.keys.payment_basepoint);
    tx.output.iter().any(|o| o.script_pubkey == script)
}
