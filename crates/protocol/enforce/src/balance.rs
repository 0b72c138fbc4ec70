//! What is on its way to the wallet.

use alloc::vec::Vec;

use fulmen_tx::Secp;

use crate::{
    output::PendingSweep,
    resolution::Resolution,
    state::Start,
    view::{Role, Tracked},
};

impl Resolution {
    /// The outputs that are ours and that no confirmed transaction has claimed yet: once the claim is in a
    /// block, the wallet has it. HTLCs count when we can claim them: those that we offered, and those
    /// received whose preimage is known.
    pub fn pending_sweeps(&self, secp: &Secp) -> Vec<PendingSweep> {
        let view = self.view(secp);
        let owners = self.owners(&view);
        let open = match (&view.spend, self.state.start) {
            (Some(_), _) => self.open(&view).cloned().collect(),
            (None, Start::ForceClose) => self.expected(),
            (None, Start::FundingSpent) => Vec::new(),
        };
        let pending = |t: &Tracked| {
            self.claim_kind(t)?;
            let claim = owners.get(&t.outpoint).and_then(|id| self.claims.get(id));
            Some(PendingSweep {
                outpoint: t.outpoint,
                amount: t.output.value,
                kind: t.role.sweep_kind()?,
                claimable_at: self.claimable_at(t),
                claimed_by: claim
                    .and_then(|c| c.live.as_ref())
                    .map(|a| a.tx.compute_txid()),
            })
        };
        open.iter().filter_map(pending).collect()
    }

    /// What our commitment will have once it confirms.
    fn expected(&self) -> Vec<Tracked> {
        let Some(built) = &self.known.holder else {
            return Vec::new();
        };
        let main = built.to_local_vout.map(|vout| (vout, Role::HolderToLocal));
        let htlcs = built.htlcs.iter().enumerate().map(|(index, (htlc, vout))| {
            let role = Role::HolderHtlc { index, htlc: *htlc };
            (*vout, role)
        });
        let track = |(vout, role)| {
            Some(Tracked {
                outpoint: built.outpoint(vout),
                output: built.txout(vout)?.clone(),
                created: None,
                role,
            })
        };
        main.into_iter().chain(htlcs).filter_map(track).collect()
    }
}
