//! The outputs of a channel on chain, derived from the facts.

use alloc::{collections::BTreeSet, vec::Vec};

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid, secp256k1::SecretKey};
use fulmen_tx::{BuiltCommitment, CommitmentHtlc, CommitmentKeys, Secp, Side, scripts};
use fulmen_types::{BlockHeight, CommitmentNumber};

use crate::{
    classify::{Known, SpendKind},
    evidence::Evidence,
    facts::Facts,
    output::SweepKind,
};

/// The confirmed spend of the funding output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spend {
    pub(crate) kind: SpendKind,
    pub(crate) height: BlockHeight,
    pub(crate) txid: Txid,
}

/// What an output is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Our anchor on our commitment, while that is unconfirmed.
    OurAnchor,
    /// Our main output on our commitment.
    HolderToLocal,
    /// An HTLC on our commitment; its place among the HTLC outputs.
    HolderHtlc { index: usize, htlc: CommitmentHtlc },
    /// The output of our HTLC transaction.
    HolderSecondStage,
    /// Our main output on a commitment of the peer.
    ToRemote,
    /// An HTLC on a valid commitment of the peer.
    TheirHtlc { htlc: CommitmentHtlc, next: bool },
    /// The peer's main output on a revoked commitment.
    RevokedToLocal { number: CommitmentNumber },
    /// An HTLC on a revoked commitment.
    RevokedHtlc {
        number: CommitmentNumber,
        htlc: CommitmentHtlc,
    },
    /// The output of the peer's HTLC transaction on a revoked commitment.
    RevokedSecondStage { number: CommitmentNumber },
    /// Not ours, or nothing that we can spend: watched because its spender may show a preimage.
    Foreign,
}

impl Role {
    /// The HTLC that the output holds.
    pub(crate) const fn htlc(&self) -> Option<&CommitmentHtlc> {
        match self {
            Self::HolderHtlc { htlc, .. }
            | Self::TheirHtlc { htlc, .. }
            | Self::RevokedHtlc { htlc, .. } => Some(htlc),
            Self::OurAnchor
            | Self::HolderToLocal
            | Self::HolderSecondStage
            | Self::ToRemote
            | Self::RevokedToLocal { .. }
            | Self::RevokedSecondStage { .. }
            | Self::Foreign => None,
        }
    }

    /// What the balance calls it.
    pub(crate) fn sweep_kind(&self) -> Option<SweepKind> {
        match self {
            Self::OurAnchor | Self::Foreign => None,
            Self::HolderToLocal | Self::ToRemote => Some(SweepKind::Main),
            Self::HolderSecondStage => Some(SweepKind::SecondStage),
            Self::HolderHtlc { htlc, .. } | Self::TheirHtlc { htlc, .. } => {
                Some(match htlc.offered_by {
                    Side::Local => SweepKind::HtlcTimeout,
                    Side::Remote => SweepKind::HtlcSuccess,
                })
            }
            Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. } => Some(SweepKind::Penalty),
        }
    }
}

/// An output that matters.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(crate) outpoint: OutPoint,
    pub(crate) output: TxOut,
    /// The block that has it; `None` while it is unconfirmed.
    pub(crate) created: Option<BlockHeight>,
    pub(crate) role: Role,
}

/// The funding spend and all outputs that come of it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) spend: Option<Spend>,
    pub(crate) outputs: Vec<Tracked>,
    /// The record of the revoked commitment does not fit the transaction, or is not there yet.
    pub(crate) wants_record: Option<CommitmentNumber>,
}

/// What a view is derived from.
pub(crate) struct Viewer<'a> {
    pub(crate) secp: &'a Secp,
    pub(crate) evidence: &'a Evidence,
    pub(crate) known: &'a Known,
    pub(crate) facts: &'a Facts,
}

impl Viewer<'_> {
    pub(crate) fn view(&self) -> View {
        let funding = self.evidence.params.funding.outpoint;
        let Some(spent) = self.facts.spender(&funding) else {
            return View {
                spend: None,
                outputs: self.unconfirmed_anchor(),
                wants_record: None,
            };
        };
        let tx = &spent.fact.tx;
        let spend = Spend {
            kind: self.known.classify(self.evidence, tx),
            height: spent.place.height,
            txid: spent.fact.txid,
        };
        let mut view = View {
            spend: Some(spend),
            outputs: Vec::new(),
            wants_record: None,
        };
        match spend.kind {
            SpendKind::MutualClose => {}
            SpendKind::Holder => self.holder(&spend, tx, &mut view.outputs),
            SpendKind::CounterpartyCurrent | SpendKind::CounterpartyNext => {
                self.counterparty(&spend, tx, &mut view.outputs);
            }
            SpendKind::Revoked { number } => self.revoked(&spend, tx, number, &mut view),
            SpendKind::Future { .. } | SpendKind::Unknown => {
                self.to_remote(&spend, tx, &mut view.outputs);
                self.foreign(&spend, tx, &mut view.outputs);
            }
        }
        view
    }

    fn unconfirmed_anchor(&self) -> Vec<Tracked> {
        let Some(holder) = &self.known.holder else {
            return Vec::new();
        };
        let anchor = holder.to_local_anchor_vout;
        anchor
            .and_then(|vout| track(&holder.tx, holder.txid, vout, None, Role::OurAnchor))
            .into_iter()
            .collect()
    }

    fn holder(&self, spend: &Spend, tx: &Transaction, outputs: &mut Vec<Tracked>) {
        let Some(built) = &self.known.holder else {
            return;
        };
        let mut add = |vout, role| {
            outputs.extend(track(tx, spend.txid, vout, Some(spend.height), role));
        };
        if let Some(vout) = built.to_local_vout {
            add(vout, Role::HolderToLocal);
        }
        if let Some(vout) = built.to_local_anchor_vout {
            // Its spender tells which of our coins are gone.
            add(vout, Role::Foreign);
        }
        for (index, (htlc, vout)) in built.htlcs.iter().enumerate() {
            add(*vout, Role::HolderHtlc { index, htlc: *htlc });
        }
        let script = self.delayed_script(&built.keys);
        self.second_stages(spend.txid, built, &script, Role::HolderSecondStage, outputs);
    }

    fn counterparty(&self, spend: &Spend, tx: &Transaction, outputs: &mut Vec<Tracked>) {
        let next = spend.kind == SpendKind::CounterpartyNext;
        let Some(known) = self
            .known
            .counterparty
            .iter()
            .find(|c| c.txid == spend.txid)
        else {
            return;
        };
        self.to_remote(spend, tx, outputs);
        for (htlc, vout) in &known.htlcs {
            let role = Role::TheirHtlc { htlc: *htlc, next };
            outputs.extend(track(tx, spend.txid, *vout, Some(spend.height), role));
        }
    }

    fn revoked(&self, spend: &Spend, tx: &Transaction, number: CommitmentNumber, view: &mut View) {
        self.to_remote(spend, tx, &mut view.outputs);
        let secret = self.evidence.secrets.get(number);
        let Some(secret) = secret.and_then(|s| SecretKey::from_slice(&s).ok()) else {
            return self.foreign(spend, tx, &mut view.outputs);
        };
        // The main output is found by its script, so it needs no record.
        let point = secret.public_key(self.secp);
        let params = &self.evidence.params;
        let keys = CommitmentKeys::derive(self.secp, params, Side::Remote, &point);
        let script = self.delayed_script(&keys);
        for (vout, output) in (0u32..).zip(&tx.output) {
            if output.script_pubkey == script {
                let role = Role::RevokedToLocal { number };
                view.outputs
                    .extend(track(tx, spend.txid, vout, Some(spend.height), role));
            }
        }
        let revoked = self.known.revoked.as_ref();
        let revoked = revoked.filter(|built| built.txid == spend.txid);
        let Some(built) = revoked else {
            view.wants_record = Some(number);
            return self.foreign(spend, tx, &mut view.outputs);
        };
        for (htlc, vout) in &built.htlcs {
            let role = Role::RevokedHtlc {
                number,
                htlc: *htlc,
            };
            view.outputs
                .extend(track(tx, spend.txid, *vout, Some(spend.height), role));
        }
        let role = Role::RevokedSecondStage { number };
        self.second_stages(spend.txid, built, &script, role, &mut view.outputs);
    }

    /// Outputs of the transactions that spend HTLC outputs, as far as they pay `script`. All of them: with
    /// anchors one transaction may spend many HTLC outputs, in any order (known attacks, 6).
    fn second_stages(
        &self,
        commitment: Txid,
        built: &BuiltCommitment,
        script: &ScriptBuf,
        role: Role,
        outputs: &mut Vec<Tracked>,
    ) {
        let mut seen = BTreeSet::new();
        for (_, vout) in &built.htlcs {
            let Some(spent) = self.facts.spender(&OutPoint::new(commitment, *vout)) else {
                continue;
            };
            if !seen.insert(spent.fact.txid) {
                continue;
            }
            let (tx, txid) = (&spent.fact.tx, spent.fact.txid);
            for (vout, output) in (0u32..).zip(&tx.output) {
                if output.script_pubkey == *script {
                    outputs.extend(track(tx, txid, vout, Some(spent.place.height), role));
                }
            }
        }
    }

    /// Our main output on a commitment of the peer. It depends on no point, so it is found on commitments
    /// that we know nothing of, too.
    fn to_remote(&self, spend: &Spend, tx: &Transaction, outputs: &mut Vec<Tracked>) {
        let params = &self.evidence.params;
        let script = scripts::to_remote(params.format, &params.local.keys.payment_basepoint);
        for (vout, output) in (0u32..).zip(&tx.output) {
            if output.script_pubkey == script {
                let height = Some(spend.height);
                outputs.extend(track(tx, spend.txid, vout, height, Role::ToRemote));
            }
        }
    }

    /// All outputs that are not tracked yet: their spenders may show a preimage (known attacks, 10).
    fn foreign(&self, spend: &Spend, tx: &Transaction, outputs: &mut Vec<Tracked>) {
        let known: BTreeSet<u32> = outputs.iter().map(|t| t.outpoint.vout).collect();
        for (vout, _) in (0u32..).zip(&tx.output) {
            if !known.contains(&vout) {
                let height = Some(spend.height);
                outputs.extend(track(tx, spend.txid, vout, height, Role::Foreign));
            }
        }
    }

    fn delayed_script(&self, keys: &CommitmentKeys) -> ScriptBuf {
        let delay = self.evidence.params.party(keys.broadcaster).to_self_delay;
        scripts::delayed(&keys.revocation_key, delay, &keys.delayed_key).to_p2wsh()
    }
}

fn track(
    tx: &Transaction,
    txid: Txid,
    vout: u32,
    created: Option<BlockHeight>,
    role: Role,
) -> Option<Tracked> {
    let output = tx.output.get(usize::try_from(vout).ok()?)?;
    Some(Tracked {
        outpoint: OutPoint { txid, vout },
        output: output.clone(),
        created,
        role,
    })
}
