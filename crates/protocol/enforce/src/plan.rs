//! Which outputs are to be claimed now, and which of them together.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use bitcoin::{Amount, OutPoint};
use fulmen_tx::{BuiltCommitment, ClaimKind, ClaimLockTime, CommitmentHtlc, Side};
use fulmen_types::{BlockHeight, FeeratePerKw};

use crate::{
    build,
    claim::{Claim, Group},
    input::{ClaimId, EnforceContext},
    output::{EnforceEvent, EnforceOutput},
    resolution::Resolution,
    schedule::{
        REASONABLE_DEPTH, SECURITY_DELAY, SUCCESS_MARGIN, TIMEOUT_GRACE, Urgency, percent_floor,
        urgency,
    },
    state::Start,
    view::{Role, Tracked, View},
};

/// The most outputs that one transaction claims: far below the standard weight, and little is lost when one
/// of them is spent by the peer.
const BATCH_MAX: usize = 64;
/// The weight of a coin and of change beside an HTLC transaction, for deciding what is worth it.
pub(crate) const COIN_AND_CHANGE_WEIGHT: u64 = 4 * 41 + 108 + 4 * 43 + 42;

/// What outputs of one transaction have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Batch {
    group: Group,
    lock_time: u32,
    /// HTLCs of different expiries are never batched: the peer could invalidate the urgent one by
    /// spending another.
    expiry: u32,
    /// In a transaction of its own.
    alone: Option<OutPoint>,
}

/// An output that is to be claimed, and how.
#[derive(Clone, Debug)]
struct Candidate {
    outpoint: OutPoint,
    value: Amount,
    batch: Batch,
}

impl Resolution {
    /// Makes new claims of what is claimable and in no claim that is in play.
    pub(crate) fn plan(
        &mut self,
        view: &View,
        ctx: &EnforceContext<'_>,
        out: &mut Vec<EnforceOutput>,
    ) {
        let owners = self.owners(view);
        let split = self.to_split(view, &owners, ctx.tip);
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut uneconomic = Vec::new();
        for tracked in self.open(view) {
            let free = owners
                .get(&tracked.outpoint)
                .is_none_or(|id| split.contains(id));
            if !free {
                continue;
            }
            let Some(batch) = self.batch_of(tracked, view, ctx) else {
                continue;
            };
            match self.worth(tracked, batch, ctx) {
                Worth::Batch => candidates.push(Candidate {
                    outpoint: tracked.outpoint,
                    value: tracked.output.value,
                    batch,
                }),
                Worth::Alone => candidates.push(Candidate {
                    outpoint: tracked.outpoint,
                    value: tracked.output.value,
                    batch: Batch {
                        alone: Some(tracked.outpoint),
                        ..batch
                    },
                }),
                Worth::Nothing => uneconomic.push((tracked.outpoint, tracked.output.value)),
            }
        }
        for (outpoint, amount) in uneconomic {
            self.tell_uneconomic(outpoint, amount, out);
        }
        // The most valuable first: it also pays for replacing a batch that is split.
        candidates.sort_by_key(|c| core::cmp::Reverse((c.value, c.outpoint)));
        let mut batches: Vec<(Batch, Vec<OutPoint>)> = Vec::new();
        for candidate in candidates {
            let fits = batches
                .iter_mut()
                .find(|(batch, inputs)| *batch == candidate.batch && inputs.len() < BATCH_MAX);
            match fits {
                Some((_, inputs)) => inputs.push(candidate.outpoint),
                None => batches.push((candidate.batch, alloc::vec![candidate.outpoint])),
            }
        }
        let mut replaced: BTreeSet<ClaimId> = BTreeSet::new();
        for (batch, inputs) in batches {
            self.add_claim(batch, inputs, &owners, &mut replaced, view);
        }
    }

    pub(crate) fn tell_uneconomic(
        &mut self,
        outpoint: OutPoint,
        amount: Amount,
        out: &mut Vec<EnforceOutput>,
    ) {
        if self.state.told_uneconomic.insert(outpoint) {
            let event = EnforceEvent::Uneconomic { outpoint, amount };
            out.push(EnforceOutput::Event(event));
        }
    }

    fn add_claim(
        &mut self,
        batch: Batch,
        inputs: Vec<OutPoint>,
        owners: &BTreeMap<OutPoint, ClaimId>,
        replaced: &mut BTreeSet<ClaimId>,
        view: &View,
    ) {
        // Fees of an input never fall, however it is regrouped (known attacks, 8).
        let feerate = self
            .claims
            .values()
            .filter(|c| inputs.iter().any(|i| c.inputs.contains(i)))
            .map(|c| c.feerate)
            .max()
            .unwrap_or(FeeratePerKw::new(0));
        // A claim that is split is still in mempools: the first of its successors replaces it.
        let mut must_replace = Amount::ZERO;
        for id in inputs.iter().filter_map(|i| owners.get(i)) {
            if replaced.insert(*id) {
                let live = self.claims.get(id).and_then(|c| c.live.as_ref());
                must_replace = must_replace.max(live.map_or(Amount::ZERO, |a| a.fee));
            }
        }
        let lease = batch.group.takes_coins().then(|| {
            let (lease, fee) = self.take_lease(view);
            must_replace = must_replace.max(fee);
            lease
        });
        let id = ClaimId(self.state.take_number());
        self.claims.insert(
            id,
            Claim {
                id,
                group: batch.group,
                inputs,
                lock_time: batch.lock_time,
                lease,
                feerate,
                must_replace,
                attempts: 0,
                live: None,
                pending: None,
                bumped_at: BlockHeight::default(),
                refused: false,
            },
        );
    }

    /// Coins of a claim that is out of play, and the fee of its transaction, which may be in mempools still;
    /// or a new lease.
    fn take_lease(&mut self, view: &View) -> (u32, Amount) {
        let owners = self.owners(view);
        let in_play: BTreeSet<u32> = owners
            .values()
            .filter_map(|id| self.claims.get(id).and_then(|c| c.lease))
            .collect();
        // A claim that was made in this step owns nothing yet but keeps its lease.
        let fresh: BTreeSet<u32> = self
            .claims
            .values()
            .filter(|c| c.attempts == 0)
            .filter_map(|c| c.lease)
            .collect();
        let idle = self.state.leases.values().find(|lease| {
            let unspent = |c: &&crate::WalletCoin| self.facts.spender(&c.outpoint).is_none();
            !in_play.contains(&lease.number)
                && !fresh.contains(&lease.number)
                && lease.coins.iter().any(|c| unspent(&c))
        });
        let Some(number) = idle.map(|l| l.number) else {
            let number = self.state.take_number();
            self.state.add_lease(number);
            return (number, Amount::ZERO);
        };
        let mut fee = Amount::ZERO;
        for claim in self.claims.values_mut() {
            if claim.lease == Some(number) {
                claim.lease = None;
                claim.pending = None;
                fee = fee.max(claim.live.as_ref().map_or(Amount::ZERO, |a| a.fee));
            }
        }
        (number, fee)
    }

    /// The outputs that are there and not spent.
    pub(crate) fn open<'v>(
        &self,
        view: &'v View,
    ) -> impl Iterator<Item = &'v Tracked> + use<'v, '_> {
        let unspent = |t: &&Tracked| self.facts.spender(&t.outpoint).is_none();
        view.outputs
            .iter()
            .filter(unspent)
            .filter(|t| t.role != Role::Foreign)
    }

    /// Which claim is in play for each open output: the newest all of whose outputs are open.
    pub(crate) fn owners(&self, view: &View) -> BTreeMap<OutPoint, ClaimId> {
        let open: BTreeSet<OutPoint> = self.open(view).map(|t| t.outpoint).collect();
        let mut owners = BTreeMap::new();
        for claim in self.claims.values().rev() {
            let free = |i: &OutPoint| open.contains(i) && !owners.contains_key(i);
            if claim.inputs.iter().all(free) {
                owners.extend(claim.inputs.iter().map(|i| (*i, claim.id)));
            }
        }
        owners
    }

    /// Batched penalties that have not confirmed in time (BOLT 5: a peer could pin them).
    fn to_split(
        &self,
        view: &View,
        owners: &BTreeMap<OutPoint, ClaimId>,
        tip: BlockHeight,
    ) -> BTreeSet<ClaimId> {
        let pressing = |t: &Tracked| {
            self.deadline(t)
                .is_some_and(|d| d.minus(SECURITY_DELAY) <= tip)
        };
        self.open(view)
            .filter(|t| pressing(t))
            .filter_map(|t| self.claims.get(owners.get(&t.outpoint)?))
            .filter(|c| c.group == Group::Penalty && c.inputs.len() > 1)
            .map(|c| c.id)
            .collect()
    }

    /// How an output is claimed in the next block; `None` if it is not or not yet.
    fn batch_of(&self, tracked: &Tracked, view: &View, ctx: &EnforceContext<'_>) -> Option<Batch> {
        let kind = self.claim_kind(tracked)?;
        let expiry = kind.htlc().map_or(0, |h| h.cltv_expiry.to_u32());
        let lock_time = match kind.lock_time() {
            ClaimLockTime::Any => 0,
            ClaimLockTime::AtLeast(height) | ClaimLockTime::Exactly(height) => height.to_u32(),
        };
        if tracked.role == Role::OurAnchor {
            return (view.spend.is_none() && self.wants_child(ctx)).then_some(Batch {
                group: Group::Child,
                lock_time: 0,
                expiry: 0,
                alone: None,
            });
        }
        if self.claimable_at(tracked)? > ctx.tip.plus(1) {
            return None;
        }
        let group = match kind {
            ClaimKind::HolderHtlcTimeout { .. } | ClaimKind::HolderHtlcSuccess { .. } => {
                if self.evidence.params.format.has_anchors() {
                    Group::SecondStage
                } else {
                    Group::Presigned
                }
            }
            ClaimKind::CounterpartyHtlcPreimage { .. }
            | ClaimKind::CounterpartyHtlcTimeout { .. } => Group::Direct,
            ClaimKind::HolderToLocal { .. }
            | ClaimKind::HolderSecondStage { .. }
            | ClaimKind::StaticRemote => Group::Sweep,
            ClaimKind::RevokedToLocal { .. }
            | ClaimKind::RevokedHtlc { .. }
            | ClaimKind::RevokedSecondStage { .. } => Group::Penalty,
            ClaimKind::Anchor => Group::Child,
        };
        let alone = match group {
            Group::Presigned => true,
            Group::Penalty => self
                .deadline(tracked)
                .is_some_and(|d| d.minus(SECURITY_DELAY) <= ctx.tip),
            Group::Child | Group::SecondStage | Group::Direct | Group::Sweep => false,
        };
        Some(Batch {
            group,
            lock_time,
            // The peer can move revoked HTLCs to their second stage whenever it likes; splitting is by
            // the delay after that.
            expiry: if group == Group::Penalty { 0 } else { expiry },
            alone: alone.then_some(tracked.outpoint),
        })
    }

    /// The first height of a block that can have a claim of this output. A transaction with lock time L can be
    /// in the block after L; from then on BOLT 5 calls the HTLC timed out.
    pub(crate) fn claimable_at(&self, tracked: &Tracked) -> Option<BlockHeight> {
        let kind = self.claim_kind(tracked)?;
        let delay = u32::from(kind.confirmations_needed(&self.evidence.params));
        let unlocked = match kind.lock_time() {
            ClaimLockTime::Any => BlockHeight::new(0),
            ClaimLockTime::AtLeast(height) | ClaimLockTime::Exactly(height) => {
                height.to_height().plus(1)
            }
        };
        Some(tracked.created?.plus(delay).max(unlocked))
    }

    /// The height by which a claim of this output should be in a block.
    pub(crate) fn deadline(&self, tracked: &Tracked) -> Option<BlockHeight> {
        match tracked.role {
            Role::OurAnchor => self.commitment_deadline(),
            Role::HolderHtlc { htlc, .. } | Role::TheirHtlc { htlc, .. } => {
                let expiry = htlc.cltv_expiry.to_height();
                Some(match htlc.offered_by {
                    Side::Local => expiry.plus(TIMEOUT_GRACE),
                    Side::Remote => expiry,
                })
            }
            // An HTLC output may leave to a second stage at any time, and that is delayed as `to_local` is.
            Role::RevokedToLocal { .. }
            | Role::RevokedHtlc { .. }
            | Role::RevokedSecondStage { .. } => {
                let delay = u32::from(self.evidence.params.remote.to_self_delay);
                tracked.created.map(|h| h.plus(delay))
            }
            Role::HolderToLocal | Role::HolderSecondStage | Role::ToRemote | Role::Foreign => None,
        }
    }

    /// Whether there is something to lose in an HTLC as long as no commitment is in a block. What is on the peer's
    /// alone is not safe either: until ours is in a block the peer may still broadcast that.
    fn hangs(&self, htlc: &CommitmentHtlc, is_on_ours: bool) -> bool {
        let known = self.state.preimages.contains_key(&htlc.payment_hash);
        match htlc.offered_by {
            Side::Local => is_on_ours || !known,
            Side::Remote => known,
        }
    }

    /// When our commitment should confirm: in time for the most urgent HTLC of any unrevoked commitment.
    pub(crate) fn commitment_deadline(&self) -> Option<BlockHeight> {
        let ours = self.evidence.holder.as_ref()?.content.htlcs.len();
        let htlcs = self.evidence.htlcs().into_iter().enumerate();
        let hanging = htlcs.filter(|(place, htlc)| self.hangs(htlc, *place < ours));
        let deadlines = hanging.map(|(_, htlc)| {
            let expiry = htlc.cltv_expiry.to_height();
            match htlc.offered_by {
                Side::Local => expiry.plus(TIMEOUT_GRACE),
                Side::Remote => expiry.minus(SUCCESS_MARGIN),
            }
        });
        deadlines.min()
    }

    /// What is at stake until our commitment confirms: HTLCs, and this share of our balance, in percent.
    pub(crate) fn commitment_stake(&self, percent: u64) -> Amount {
        let Some(built) = &self.known.holder else {
            return Amount::ZERO;
        };
        let mut seen = BTreeSet::new();
        let mut of = |commitment: &BuiltCommitment, is_ours: bool| {
            let outputs = commitment.htlcs.iter().filter(|(htlc, _)| {
                seen.insert((htlc.offered_by, htlc.id)) && self.hangs(htlc, is_ours)
            });
            let values = outputs.filter_map(|(_, vout)| Some(commitment.txout(*vout)?.value));
            build::sum(values)
        };
        let main = built.to_local_vout.and_then(|vout| built.txout(vout));
        let main = main.map_or(Amount::ZERO, |out| out.value);
        let ours = of(built, true);
        let theirs = self.known.counterparty.iter().map(|c| of(c, false));
        build::sum(theirs.chain([ours, percent_floor(main, percent)]))
    }

    fn wants_child(&self, ctx: &EnforceContext<'_>) -> bool {
        let Some(built) = &self.known.holder else {
            return false;
        };
        let parent = self.parent_of_child(built);
        let Urgency { target, .. } = urgency(self.commitment_deadline(), ctx.tip, &ctx.feerates);
        self.state.start == Start::ForceClose
            && (self.state.needs_child || target.fee_ceil(parent.weight) > parent.fee)
    }

    fn worth(&self, tracked: &Tracked, batch: Batch, ctx: &EnforceContext<'_>) -> Worth {
        let value = tracked.output.value;
        let Some(kind) = self.claim_kind(tracked) else {
            return Worth::Nothing;
        };
        let params = &self.evidence.params;
        let input = kind.max_input_weight(params).to_wu();
        let own_tx = input + 4 * (10 + 43) + 2;
        let floor = ctx.feerates.floor;
        let dust = self.evidence.sweep_script.minimal_non_dust();
        let urgency = urgency(self.deadline(tracked), ctx.tip, &ctx.feerates);
        let budget = percent_floor(value, urgency.budget_percent);
        match batch.group {
            // The coins pay, for the sake of what may be worth much more than the anchor.
            Group::Child | Group::Presigned => Worth::Batch,
            Group::SecondStage => {
                let weight = input + 4 * 43 + COIN_AND_CHANGE_WEIGHT;
                if floor.fee_ceil(weight) < value {
                    Worth::Batch
                } else {
                    Worth::Nothing
                }
            }
            Group::Direct | Group::Sweep | Group::Penalty => {
                if urgency.target.fee_ceil(input) <= budget {
                    Worth::Batch
                } else if batch.group != Group::Sweep && floor.fee_ceil(own_tx) + dust <= value {
                    Worth::Alone
                } else {
                    Worth::Nothing
                }
            }
        }
    }

    /// Forgets claims that the peer's spends have invalidated deeply.
    pub(crate) fn prune(&mut self, tip: BlockHeight) {
        let facts = &self.facts;
        self.claims.retain(|_, claim| {
            !claim.inputs.iter().any(|input| {
                facts.spender(input).is_some_and(|spent| {
                    let by_claim =
                        |a: &crate::claim::Attempt| a.tx.compute_txid() == spent.fact.txid;
                    spent.place.height.depth_at(tip) > REASONABLE_DEPTH
                        && !claim.live.as_ref().is_some_and(by_claim)
                })
            })
        });
    }
}

/// What claiming an output is worth at the feerates of now.
enum Worth {
    /// More than its share of a batch.
    Batch,
    /// Something, at less than the feerate that its urgency asks for.
    Alone,
    /// Less than it costs.
    Nothing,
}
