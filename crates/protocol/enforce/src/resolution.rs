//! The machine: inputs in, state, records and outputs out.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use bitcoin::{OutPoint, Transaction};
use fulmen_tx::{ChannelParameters, CounterpartyCommitment, Secp};
use fulmen_types::{
    BlockHeight, CommitmentNumber, Timestamp,
    codec::{Decode, DecodeError, Encode},
    record::WriteBatch,
};

use crate::{
    claim::{Claim, Group},
    classify::{Known, SpendKind},
    evidence::Evidence,
    facts::{Fact, Facts, Place},
    input::{BroadcastId, BroadcastVerdict, ClaimId, EnforceContext, EnforceInput, WalletCoin},
    outcomes,
    output::{EnforceEvent, EnforceOutput},
    state::{Part, Saved, Start, State},
    view::{View, Viewer},
};

/// How long an unconfirmed transaction rests before it is sent again without a new block.
const REBROADCAST_MILLIS: u64 = 60_000;
/// After so many blocks of refusals a child's coins are doubted.
const DOUBT_BLOCKS: u32 = 3;

/// The on-chain end of one channel.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub(crate) evidence: Evidence,
    pub(crate) known: Known,
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) claims: BTreeMap<ClaimId, Claim>,
    pub(crate) revoked: Option<CounterpartyCommitment>,
    saved: Saved,
    pub(crate) run: Run,
}

/// How far a question for coins is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoinsAsked {
    /// The wallet has not answered.
    Open,
    /// It was away.
    Away,
    /// It has given what it has.
    Given,
}

/// What belongs to one run of the program and is no part of the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// The outputs that were asked to be watched.
    pub(crate) watched: BTreeSet<OutPoint>,
    /// The chain source has delivered its best tip.
    pub(crate) caught_up: bool,
    /// Leases asked for, and how far that is.
    pub(crate) coins_asked: BTreeMap<u32, CoinsAsked>,
    /// Attempts that the wallet was asked to sign.
    pub(crate) signing: BTreeSet<(ClaimId, u32)>,
    /// Claims whose coins the user was told are missing.
    pub(crate) told_poor: BTreeSet<ClaimId>,
    /// The record that was asked for.
    pub(crate) record_asked: Option<CommitmentNumber>,
    /// There is no such record.
    pub(crate) record_absent: bool,
    /// At which height a child's inputs were missing.
    missing_at: BTreeMap<ClaimId, BlockHeight>,
    /// Children that were given other coins because nothing else helped.
    coins_doubted: BTreeSet<ClaimId>,
    /// What is out is sent again in this step.
    pub(crate) rebroadcast: bool,
    pub(crate) last_broadcast: Timestamp,
    /// Everything is settled.
    pub(crate) done: bool,
}

impl Resolution {
    /// Begins: the evidence is made durable, and for [`Start::ForceClose`] our commitment is broadcast.
    pub fn new(
        evidence: Evidence,
        start: Start,
        ctx: &EnforceContext<'_>,
        batch: &mut WriteBatch,
    ) -> (Self, Vec<EnforceOutput>) {
        let state = State::new(start, &evidence.preimages);
        let mut this = Self {
            known: Known::new(ctx.secp, &evidence),
            evidence,
            state,
            facts: Facts::default(),
            claims: BTreeMap::new(),
            revoked: None,
            saved: Saved::default(),
            run: Run {
                caught_up: true,
                rebroadcast: true,
                ..Run::default()
            },
        };
        let evidence = this.evidence.to_bytes();
        let keys_id = this.keys_id();
        this.saved.put(&keys_id, Part::Evidence, evidence, batch);
        let out = this.finish(ctx, batch);
        (this, out)
    }

    /// From all records of one channel in [`fulmen_types::record::Space::Resolution`], as key and value, in
    /// any order. Go on with [`Resolution::re_emit`].
    pub fn restore<'a>(
        secp: &Secp,
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, DecodeError> {
        let mut evidence: Option<Evidence> = None;
        let mut state: Option<State> = None;
        let mut facts = Facts::default();
        let mut claims = BTreeMap::new();
        let mut revoked = None;
        let mut saved = Saved::default();
        for (key, value) in records {
            let (_, part) = Part::from_key(key)?;
            saved.note(part, value);
            match part {
                Part::Evidence => evidence = Some(Decode::from_bytes(value)?),
                Part::State => state = Some(Decode::from_bytes(value)?),
                Part::Claim(id) => {
                    claims.insert(id, Claim::from_bytes(value)?);
                }
                Part::Fact(place) => {
                    facts.insert(place, Transaction::from_bytes(value)?);
                }
                Part::Revoked => revoked = Some(Decode::from_bytes(value)?),
            }
        }
        let evidence = evidence.ok_or(DecodeError::Missing("evidence of a resolution"))?;
        let revoked: Option<CounterpartyCommitment> = revoked;
        let mut known = Known::new(secp, &evidence);
        known.revoked = revoked.as_ref().map(|c| c.build(secp, &evidence.params));
        Ok(Self {
            known,
            evidence,
            state: state.ok_or(DecodeError::Missing("state of a resolution"))?,
            facts,
            claims,
            revoked,
            saved,
            run: Run::default(),
        })
    }

    /// After a restart: watches, open requests, and what is out, again. Nothing is concluded before the next
    /// [`EnforceInput::BestTip`].
    pub fn re_emit(&mut self, ctx: &EnforceContext<'_>) -> Vec<EnforceOutput> {
        self.run = Run {
            rebroadcast: true,
            last_broadcast: ctx.now,
            ..Run::default()
        };
        let mut out = Vec::new();
        let view = self.view(ctx.secp);
        self.watch(&view, ctx, &mut out);
        self.ask_record(&view, &mut out);
        self.repeat(&view, ctx, &mut out);
        self.run.rebroadcast = false;
        out
    }

    /// A block, or those of its transactions that spend a watched output, with their index, in order. Feeding
    /// a block twice, or a part of it later, is fine.
    ///
    /// Looks through them until nothing new matches, preimages first: what is seen here beats every deadline
    /// of the same height. Deadlines wait for [`EnforceInput::BestTip`].
    pub fn handle_block(
        &mut self,
        ctx: &EnforceContext<'_>,
        height: BlockHeight,
        transactions: &[(u32, &Transaction)],
        batch: &mut WriteBatch,
    ) -> Vec<EnforceOutput> {
        self.run.caught_up = false;
        loop {
            let view = self.view(ctx.secp);
            let mut outpoints: BTreeSet<OutPoint> =
                view.outputs.iter().map(|t| t.outpoint).collect();
            outpoints.insert(self.evidence.params.funding.outpoint);
            let mut found = false;
            for (index, tx) in transactions {
                let place = Place {
                    height,
                    index: *index,
                };
                let matches = tx
                    .input
                    .iter()
                    .any(|i| outpoints.contains(&i.previous_output));
                if matches && !self.facts.contains(place) {
                    self.record(place, tx, batch);
                    found = true;
                }
            }
            if !found {
                break;
            }
        }
        self.finish(ctx, batch)
    }

    /// Every other input.
    pub fn handle(
        &mut self,
        ctx: &EnforceContext<'_>,
        input: EnforceInput,
        batch: &mut WriteBatch,
    ) -> Vec<EnforceOutput> {
        let mut out = Vec::new();
        match input {
            EnforceInput::BestTip => {
                self.run.caught_up = true;
                self.run.rebroadcast = true;
                // What the wallet could not give or sign may be possible by now.
                self.run
                    .coins_asked
                    .retain(|_, asked| *asked == CoinsAsked::Open);
                self.run.signing.clear();
            }
            EnforceInput::Disconnected { height } => self.disconnect(height, &mut out),
            EnforceInput::Preimage(preimage) => {
                self.state
                    .preimages
                    .entry(preimage.payment_hash())
                    .or_insert(preimage);
            }
            EnforceInput::Coins { lease, coins } => self.take_coins(lease, coins),
            EnforceInput::CoinsUnavailable { lease } => {
                if let Some(asked) = self.run.coins_asked.get_mut(&lease) {
                    *asked = CoinsAsked::Away;
                }
            }
            EnforceInput::WalletSigned {
                claim,
                attempt,
                transaction,
            } => self.wallet_signed(claim, attempt, transaction),
            EnforceInput::BroadcastResult { id, verdict } => {
                if !self.verdict(id, verdict, ctx.tip, &mut out) {
                    // The usual answer changes nothing; with many claims it comes many times.
                    return out;
                }
            }
            EnforceInput::StoredRecord { number, commitment } => {
                self.stored_record(number, commitment, ctx.secp, batch);
            }
            EnforceInput::UpstreamDeadline { id } => self.give_up(id, ctx, &mut out),
            EnforceInput::Tick => {
                if ctx.now.millis_since(self.run.last_broadcast) >= REBROADCAST_MILLIS {
                    self.run.rebroadcast = true;
                    self.run.coins_asked.clear();
                    self.run.signing.clear();
                }
            }
        }
        out.extend(self.finish(ctx, batch));
        out
    }

    /// All records of the resolution as it stands: what [`Resolution::restore`] makes the same one from. None
    /// once it is done.
    pub fn records(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        if self.run.done {
            return batch;
        }
        let keys_id = self.keys_id();
        let mut put = |part: Part, value| batch.put(part.key(&keys_id), value);
        put(Part::Evidence, self.evidence.to_bytes());
        put(Part::State, self.state.to_bytes());
        for (id, claim) in &self.claims {
            put(Part::Claim(*id), claim.to_bytes());
        }
        for (place, fact) in self.facts.iter() {
            put(Part::Fact(*place), fact.tx.to_bytes());
        }
        if let Some(revoked) = &self.revoked {
            put(Part::Revoked, revoked.to_bytes());
        }
        batch
    }

    /// The channel's parameters.
    pub const fn params(&self) -> &ChannelParameters {
        &self.evidence.params
    }

    /// What spends the funding output in a block, and at which height; `None` while nothing does.
    pub fn funding_spend(&self, secp: &Secp) -> Option<(SpendKind, bitcoin::Txid, BlockHeight)> {
        let spend = self.view(secp).spend?;
        Some((spend.kind, spend.txid, spend.height))
    }

    /// The leases whose coins are ours still: after a start the wallet frees all others.
    pub fn leases(&self) -> impl Iterator<Item = (u32, &[WalletCoin])> {
        self.state
            .leases
            .values()
            .map(|l| (l.number, l.coins.as_slice()))
    }

    /// Whether every output is settled and 100 blocks deep.
    pub const fn is_done(&self) -> bool {
        self.run.done
    }

    pub(crate) fn keys_id(&self) -> [u8; 32] {
        keys_id_bytes(&self.evidence.params)
    }

    pub(crate) fn view(&self, secp: &Secp) -> View {
        Viewer {
            secp,
            evidence: &self.evidence,
            known: &self.known,
            facts: &self.facts,
        }
        .view()
    }

    /// Draws all conclusions, and writes what changed.
    fn finish(&mut self, ctx: &EnforceContext<'_>, batch: &mut WriteBatch) -> Vec<EnforceOutput> {
        let mut out = Vec::new();
        if self.run.done {
            return out;
        }
        let view = self.view(ctx.secp);
        self.watch(&view, ctx, &mut out);
        self.tell_spend(&view, &mut out);
        self.ask_record(&view, &mut out);
        self.tell_missing_record(&view, &mut out);
        self.tell_fulfilled(&mut out);
        if self.run.caught_up {
            self.tell_swept(&view, &mut out);
            self.tell_failed(&view, ctx.tip, &mut out);
            if self.is_settled(&view, ctx.tip) {
                return self.end(batch, out);
            }
            self.prune(ctx.tip);
            self.plan(&view, ctx, &mut out);
            self.drive(&view, ctx, &mut out);
            if self.run.rebroadcast {
                self.run.last_broadcast = ctx.now;
                self.run.rebroadcast = false;
            }
        }
        self.write(batch);
        out
    }

    fn end(&mut self, batch: &mut WriteBatch, mut out: Vec<EnforceOutput>) -> Vec<EnforceOutput> {
        let leases = self.state.leases.keys();
        out.extend(leases.map(|lease| EnforceOutput::ReleaseCoins { lease: *lease }));
        out.push(EnforceOutput::Done);
        let keys_id = self.keys_id();
        self.saved.retain(&keys_id, batch, |_| false);
        self.run.done = true;
        out
    }

    fn write(&mut self, batch: &mut WriteBatch) {
        let keys_id = self.keys_id();
        let state = self.state.to_bytes();
        self.saved.put(&keys_id, Part::State, state, batch);
        for (id, claim) in &self.claims {
            let value = claim.to_bytes();
            self.saved.put(&keys_id, Part::Claim(*id), value, batch);
        }
        let (claims, facts) = (&self.claims, &self.facts);
        self.saved.retain(&keys_id, batch, |part| match part {
            Part::Claim(id) => claims.contains_key(id),
            Part::Fact(place) => facts.contains(*place),
            Part::Evidence | Part::State | Part::Revoked => true,
        });
    }

    fn record(&mut self, place: Place, tx: &Transaction, batch: &mut WriteBatch) {
        outcomes::learn_preimages(self, tx);
        let keys_id = self.keys_id();
        self.saved
            .put(&keys_id, Part::Fact(place), tx.to_bytes(), batch);
        self.facts.insert(place, tx.clone());
        let funding = self.evidence.params.funding.outpoint;
        if tx.input.iter().any(|i| i.previous_output == funding) {
            self.state.thrown_out = None;
        }
    }

    fn disconnect(&mut self, height: BlockHeight, out: &mut Vec<EnforceOutput>) {
        self.run.caught_up = false;
        let funding = self.evidence.params.funding.outpoint;
        let spends = |fact: &Fact| fact.tx.input.iter().any(|i| i.previous_output == funding);
        let gone = self.facts.remove_from(height);
        if let Some((_, fact)) = gone.into_iter().find(|(_, fact)| spends(fact)) {
            self.state.told_spend = None;
            out.push(EnforceOutput::Event(EnforceEvent::Unconfirmed {
                txid: fact.txid,
            }));
            self.state.thrown_out = Some(fact.tx);
        }
    }

    fn take_coins(&mut self, lease: u32, coins: Vec<WalletCoin>) {
        let wanted = self.claims.values().any(|c| c.lease == Some(lease));
        if let Some(held) = self.state.leases.get_mut(&lease).filter(|_| wanted) {
            // Coins are only ever added: those that are in a transaction stay ours.
            for coin in coins {
                if held.coins.iter().all(|c| c.outpoint != coin.outpoint) {
                    held.coins.push(coin);
                }
            }
            self.run.coins_asked.insert(lease, CoinsAsked::Given);
        }
    }

    fn wallet_signed(&mut self, id: ClaimId, attempt: u32, signed: Option<Transaction>) {
        let Some(claim) = self.claims.get_mut(&id) else {
            return;
        };
        let Some(pending) = claim.pending.take_if(|p| p.number == attempt) else {
            return;
        };
        let same = |tx: &Transaction| tx.compute_txid() == pending.tx.compute_txid();
        let Some(signed) = signed.filter(same) else {
            // Not signed, or something else signed: the next best tip tries again.
            claim.pending = Some(pending);
            return;
        };
        let mut live = pending;
        for (ours, theirs) in live.tx.input.iter_mut().zip(&signed.input) {
            if !claim.inputs.contains(&ours.previous_output) {
                ours.witness = theirs.witness.clone();
            }
        }
        claim.live = Some(live);
        self.run.rebroadcast = true;
    }

    /// Takes the network's word, and says whether it changes anything.
    fn verdict(
        &mut self,
        id: BroadcastId,
        verdict: BroadcastVerdict,
        tip: BlockHeight,
        out: &mut Vec<EnforceOutput>,
    ) -> bool {
        match (id, verdict) {
            (
                BroadcastId::Claim { claim, .. },
                BroadcastVerdict::Accepted | BroadcastVerdict::Known,
            ) => {
                self.run.missing_at.remove(&claim);
                return false;
            }
            (
                _,
                BroadcastVerdict::Accepted
                | BroadcastVerdict::Known
                | BroadcastVerdict::Unsigned
                | BroadcastVerdict::Other,
            ) => return false,
            (BroadcastId::FundingSpend, BroadcastVerdict::BelowFloor) => {
                // Our commitment pays too little by itself: a child must pay.
                self.state.needs_child = true;
            }
            (
                BroadcastId::FundingSpend,
                BroadcastVerdict::Conflict | BroadcastVerdict::MissingInputs,
            ) => {
                // What was thrown out does not come back. The channel is over all the same, and our
                // commitment is as good an end as any.
                if self.state.thrown_out.take().is_some() {
                    self.state.start = Start::ForceClose;
                }
            }
            (BroadcastId::Claim { claim, attempt }, BroadcastVerdict::MissingInputs) => {
                self.missing_inputs(claim, attempt, tip, out);
            }
            (
                BroadcastId::Claim { claim, attempt },
                BroadcastVerdict::Conflict | BroadcastVerdict::BelowFloor,
            ) => {
                let claim = self.claims.get_mut(&claim);
                let live = |c: &&mut Claim| c.live.as_ref().is_some_and(|a| a.number == attempt);
                if let Some(claim) = claim.filter(live) {
                    claim.refused = true;
                    let (id, is_child) = (claim.id, claim.group == Group::Child);
                    if is_child {
                        self.doubt_coins(id, tip);
                    }
                }
            }
        }
        true
    }

    /// Where all channel outputs of a claim are known to be in blocks, it must be the wallet's coins that are
    /// gone: they are given back and others asked for. A child is given one more block, because it may be the
    /// funding output that is spent by what the next block has.
    fn missing_inputs(
        &mut self,
        id: ClaimId,
        attempt: u32,
        tip: BlockHeight,
        out: &mut Vec<EnforceOutput>,
    ) {
        let Some(claim) = self.claims.get_mut(&id) else {
            return;
        };
        let live = claim.live.as_ref().is_some_and(|a| a.number == attempt);
        if !claim.group.takes_coins() || !live {
            return;
        }
        let since = *self.run.missing_at.entry(id).or_insert(tip);
        if claim.group == Group::Child && since >= tip {
            return;
        }
        self.run.missing_at.remove(&id);
        claim.live = None;
        if let Some(lease) = claim.lease {
            let fresh = self.state.take_number();
            claim.lease = Some(fresh);
            self.state.leases.remove(&lease);
            self.state.add_lease(fresh);
            out.push(EnforceOutput::ReleaseCoins { lease });
        }
    }

    /// A package that is refused block after block for its fee, although it pays more each time: the chain
    /// source may only tell of the parent, and the child's coins be gone. Other coins are tried, once; the old
    /// ones stay leased, because the child may be out there.
    fn doubt_coins(&mut self, id: ClaimId, tip: BlockHeight) {
        let since = *self.run.missing_at.entry(id).or_insert(tip);
        if tip < since.plus(DOUBT_BLOCKS) || !self.run.coins_doubted.insert(id) {
            return;
        }
        let number = self.state.take_number();
        self.state.add_lease(number);
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.lease = Some(number);
            if let Some(live) = claim.live.take() {
                claim.must_replace = claim.must_replace.max(live.fee);
            }
        }
    }

    fn stored_record(
        &mut self,
        number: CommitmentNumber,
        commitment: Option<CounterpartyCommitment>,
        secp: &Secp,
        batch: &mut WriteBatch,
    ) {
        if self.run.record_asked != Some(number) || self.revoked.is_some() {
            return;
        }
        match commitment.filter(|c| c.content.number == number) {
            Some(commitment) => {
                let keys_id = self.keys_id();
                let value = commitment.to_bytes();
                self.saved.put(&keys_id, Part::Revoked, value, batch);
                self.known.revoked = Some(commitment.build(secp, &self.evidence.params));
                self.revoked = Some(commitment);
                outcomes::learn_preimages_again(self);
            }
            None => self.run.record_absent = true,
        }
    }
}

fn keys_id_bytes(params: &ChannelParameters) -> [u8; 32] {
    params.keys_id.to_byte_array()
}
