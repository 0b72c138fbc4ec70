//! What became of the HTLCs that we offered, and what the user is told.

use alloc::{collections::BTreeMap, collections::BTreeSet, vec::Vec};

use bitcoin::{
    Amount, OutPoint, Transaction,
    hashes::{Hash, sha256},
};
use fulmen_tx::{CommitmentHtlc, Side};
use fulmen_types::{BlockHeight, PaymentHash, PaymentPreimage};

use crate::{
    build,
    claim::Claim,
    classify::SpendKind,
    input::EnforceContext,
    output::{EnforceEvent, EnforceOutput},
    resolution::Resolution,
    schedule::{IRREVOCABLE_DEPTH, REASONABLE_DEPTH, TIMEOUT_GRACE},
    view::{Role, Tracked, View},
};

/// How deep an output must be that never was worth its fee, before it is given up.
const GIVE_UP_DEPTH: u32 = 2_016;

/// Takes every preimage of an HTLC of the channel out of the witnesses of `tx`, whatever commitment the
/// outputs that it spends belong to (known attacks, 10).
pub(crate) fn learn_preimages(resolution: &mut Resolution, tx: &Transaction) {
    let wanted = wanted_hashes(resolution);
    let items = tx.input.iter().flat_map(|i| i.witness.iter());
    for item in items {
        let Ok(bytes) = <[u8; 32]>::try_from(item) else {
            continue;
        };
        let hash = PaymentHash::new(sha256::Hash::hash(&bytes).to_byte_array());
        if wanted.contains(&hash) {
            let preimages = &mut resolution.state.preimages;
            preimages.entry(hash).or_insert(PaymentPreimage::new(bytes));
        }
    }
}

/// Looks through all that is confirmed again, when more hashes are known.
pub(crate) fn learn_preimages_again(resolution: &mut Resolution) {
    let txs: Vec<Transaction> = resolution.facts.iter().map(|(_, f)| f.tx.clone()).collect();
    txs.iter().for_each(|tx| learn_preimages(resolution, tx));
}

fn wanted_hashes(resolution: &Resolution) -> BTreeSet<PaymentHash> {
    let revoked = resolution.revoked.iter().flat_map(|c| &c.content.htlcs);
    let htlcs = resolution.evidence.htlcs().into_iter().chain(revoked);
    htlcs.map(|htlc| htlc.payment_hash).collect()
}

impl Resolution {
    /// Every HTLC that we offered and that may still matter upstream: those of unrevoked commitments. Those
    /// of older ones were settled before they were revoked.
    pub(crate) fn offered(&self) -> Vec<CommitmentHtlc> {
        let htlcs = self.evidence.htlcs().into_iter();
        htlcs
            .filter(|htlc| htlc.offered_by == Side::Local)
            .copied()
            .collect()
    }

    /// An HTLC whose preimage is known is fulfilled, whatever happened to its output (BOLT 5: the upstream
    /// HTLC must be fulfilled to avoid loss).
    pub(crate) fn tell_fulfilled(&mut self, out: &mut Vec<EnforceOutput>) {
        for htlc in self.offered() {
            let Some(preimage) = self.state.preimages.get(&htlc.payment_hash).copied() else {
                continue;
            };
            if !self.state.told_fulfilled.insert(htlc.id) {
                continue;
            }
            let id = htlc.id;
            out.push(if self.state.told_failed.contains(&id) {
                EnforceOutput::LatePreimage { id, preimage }
            } else {
                EnforceOutput::HtlcPreimage {
                    id,
                    payment_hash: htlc.payment_hash,
                    preimage,
                }
            });
        }
    }

    pub(crate) fn tell_failed(
        &mut self,
        view: &View,
        tip: BlockHeight,
        out: &mut Vec<EnforceOutput>,
    ) {
        for htlc in self.offered() {
            let told = self.state.told_fulfilled.contains(&htlc.id)
                || self.state.told_failed.contains(&htlc.id);
            // Known attacks, 9: what is fulfilled is never failed.
            let fulfilled = self.state.preimages.contains_key(&htlc.payment_hash);
            if !told && !fulfilled && self.has_failed(&htlc, view, tip) {
                self.state.told_failed.insert(htlc.id);
                out.push(EnforceOutput::HtlcFailed {
                    id: htlc.id,
                    payment_hash: htlc.payment_hash,
                });
            }
        }
    }

    /// Whether an HTLC of unknown preimage can't be fulfilled any more, by what is deep enough.
    fn has_failed(&self, htlc: &CommitmentHtlc, view: &View, tip: BlockHeight) -> bool {
        let Some(spend) = &view.spend else {
            return false;
        };
        if spend.height.depth_at(tip) < REASONABLE_DEPTH {
            return false;
        }
        // Long enough after the expiry that failing upstream can't wait.
        let overdue = htlc.cltv_expiry.to_height().plus(TIMEOUT_GRACE) <= tip;
        let blind = match spend.kind {
            SpendKind::Future { .. } | SpendKind::Unknown => true,
            SpendKind::Revoked { .. } => view.wants_record.is_some(),
            SpendKind::MutualClose
            | SpendKind::Holder
            | SpendKind::CounterpartyCurrent
            | SpendKind::CounterpartyNext => false,
        };
        if blind {
            return overdue;
        }
        let same = |t: &&Tracked| {
            t.role
                .htlc()
                .is_some_and(|h| h.id == htlc.id && h.offered_by == Side::Local)
        };
        let Some(output) = view.outputs.iter().find(same) else {
            // BOLT 5: trimmed, or not on this commitment: failed at a reasonable depth.
            return true;
        };
        match self.facts.spender(&output.outpoint) {
            Some(spent) => spent.place.height.depth_at(tip) >= REASONABLE_DEPTH,
            None => overdue && self.state.told_uneconomic.contains(&output.outpoint),
        }
    }

    pub(crate) fn tell_spend(&mut self, view: &View, out: &mut Vec<EnforceOutput>) {
        let Some(spend) = &view.spend else {
            return;
        };
        if self.state.told_spend == Some(spend.txid) {
            return;
        }
        self.state.told_spend = Some(spend.txid);
        out.push(EnforceOutput::Event(EnforceEvent::Confirmed {
            kind: spend.kind,
            txid: spend.txid,
            height: spend.height,
        }));
        let txid = spend.txid;
        let alert = match spend.kind {
            SpendKind::Revoked { number } => EnforceEvent::Breach { number, txid },
            SpendKind::Future { .. } => EnforceEvent::DataLoss { txid },
            SpendKind::Unknown => EnforceEvent::UnknownSpend { txid },
            SpendKind::MutualClose
            | SpendKind::Holder
            | SpendKind::CounterpartyCurrent
            | SpendKind::CounterpartyNext => return,
        };
        out.push(EnforceOutput::Event(alert));
    }

    pub(crate) fn watch(
        &mut self,
        view: &View,
        ctx: &EnforceContext<'_>,
        out: &mut Vec<EnforceOutput>,
    ) {
        let funding = self.evidence.params.funding.outpoint;
        if self.run.watched.insert(funding) {
            out.push(EnforceOutput::Watch {
                outpoint: funding,
                script_pubkey: self.evidence.params.funding_txout().script_pubkey,
                from: view.spend.as_ref().map_or(ctx.tip, |s| s.height),
            });
        }
        for tracked in &view.outputs {
            if self.run.watched.insert(tracked.outpoint) {
                out.push(EnforceOutput::Watch {
                    outpoint: tracked.outpoint,
                    script_pubkey: tracked.output.script_pubkey.clone(),
                    from: tracked.created.unwrap_or(ctx.tip),
                });
            }
        }
    }

    pub(crate) fn ask_record(&mut self, view: &View, out: &mut Vec<EnforceOutput>) {
        if let Some(number) = view.wants_record
            && self.run.record_asked != Some(number)
            && self.revoked.is_none()
        {
            self.run.record_asked = Some(number);
            out.push(EnforceOutput::AskRecord { number });
        }
    }

    /// The record is not there, or it is of another transaction than the one that was broadcast.
    pub(crate) fn tell_missing_record(&mut self, view: &View, out: &mut Vec<EnforceOutput>) {
        let Some(number) = view.wants_record else {
            return;
        };
        let known = self.revoked.is_some() || self.run.record_absent;
        if known && self.state.missing_record != Some(number) {
            self.state.missing_record = Some(number);
            out.push(EnforceOutput::Event(EnforceEvent::RecordMissing { number }));
        }
    }

    /// Confirmed transactions that pay our wallet.
    pub(crate) fn tell_swept(&mut self, view: &View, out: &mut Vec<EnforceOutput>) {
        let funding = self.evidence.params.funding.outpoint;
        let values: BTreeMap<OutPoint, Amount> = view
            .outputs
            .iter()
            .map(|t| (t.outpoint, t.output.value))
            .collect();
        for (place, fact) in self.facts.iter() {
            let inputs = build::outpoints(&fact.tx);
            let sweep = &self.evidence.sweep_script;
            let to_us = fact.tx.output.iter().filter(|o| o.script_pubkey == *sweep);
            let to_us = build::sum(to_us.map(|o| o.value));
            let is_claim = |c: &Claim| {
                let live = c.live.as_ref();
                live.is_some_and(|a| a.tx.compute_txid() == fact.txid)
            };
            let ours = (to_us > Amount::ZERO || self.claims.values().any(is_claim))
                && !inputs.contains(&funding)
                && !self.state.told_swept.contains(&fact.txid);
            if !ours {
                continue;
            }
            let coins = inputs.iter().filter_map(|o| self.state.coin(o));
            let coins = build::sum(coins.map(|c| c.output.value));
            let claimed = build::sum(inputs.iter().filter_map(|o| values.get(o).copied()));
            let paid_out = build::sum(fact.tx.output.iter().map(|o| o.value));
            self.state.told_swept.insert(fact.txid);
            out.push(EnforceOutput::Event(EnforceEvent::Swept {
                txid: fact.txid,
                amount: to_us.checked_sub(coins).unwrap_or(Amount::ZERO),
                fee: (claimed + coins)
                    .checked_sub(paid_out)
                    .unwrap_or(Amount::ZERO),
                height: place.height,
            }));
        }
    }

    /// Whether nothing can change any more (BOLT 5: irrevocably resolved, 100 deep).
    pub(crate) fn is_settled(&self, view: &View, tip: BlockHeight) -> bool {
        let deep = |height: BlockHeight| height.depth_at(tip) >= IRREVOCABLE_DEPTH;
        if !view.spend.as_ref().is_some_and(|s| deep(s.height)) {
            return false;
        }
        let told = |htlc: &CommitmentHtlc| {
            self.state.told_fulfilled.contains(&htlc.id)
                || self.state.told_failed.contains(&htlc.id)
        };
        self.offered().iter().all(told)
            && view.outputs.iter().all(|t| self.output_is_settled(t, tip))
    }

    fn output_is_settled(&self, tracked: &Tracked, tip: BlockHeight) -> bool {
        let deep = |height: BlockHeight| height.depth_at(tip) >= IRREVOCABLE_DEPTH;
        if let Some(spent) = self.facts.spender(&tracked.outpoint) {
            return deep(spent.place.height);
        }
        let given_up = self.state.told_uneconomic.contains(&tracked.outpoint)
            && tracked
                .created
                .is_some_and(|h| h.depth_at(tip) >= GIVE_UP_DEPTH);
        match tracked.role {
            Role::Foreign | Role::OurAnchor => true,
            // BOLT 5: an HTLC that we have no preimage for is settled once it has expired.
            Role::HolderHtlc { htlc, .. } | Role::TheirHtlc { htlc, .. }
                if htlc.offered_by == Side::Remote
                    && !self.state.preimages.contains_key(&htlc.payment_hash) =>
            {
                deep(htlc.cltv_expiry.to_height())
            }
            Role::HolderToLocal
            | Role::HolderHtlc { .. }
            | Role::HolderSecondStage
            | Role::ToRemote
            | Role::TheirHtlc { .. }
            | Role::RevokedToLocal { .. }
            | Role::RevokedHtlc { .. }
            | Role::RevokedSecondStage { .. } => given_up,
        }
    }
}
