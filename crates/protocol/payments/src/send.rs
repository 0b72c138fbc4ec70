//! Payments of ours: by one path or in parts, what failed again and again until the payee has everything
//! or the limits are reached.
//!
//! A payment is known by its hash and asked for once: asking again gives the same payment. Its record is
//! in the batch of every step that changes it, with the keys of the HTLCs that are on their way; so a
//! failure can be read after a restart, and nothing leaves before it is durable.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::{String, ToString},
    vec::Vec,
};

use bitcoin::secp256k1::{Secp256k1, Signing};
use fulmen_gossip::Direction;
use fulmen_router::{NoRoute, Plan, RouteOutcome};
use fulmen_types::{
    BlockHeight, KeyStream, Msat, NodeId, PaymentHash, PaymentPreimage, Timestamp,
    codec::DecodeError, record::WriteBatch,
};

use crate::{
    HtlcLink, OutgoingFailure,
    entry::{Entry, FOREVER, Phase, SendError, write},
    failure::{self, Verdict},
    payment::{
        Attempt, FailureReason, PayError, PayRequest, Payment, PaymentOutput, PaymentStatus,
        Refusal, RouteReport,
    },
};

/// A payment that waits for a free slot looks again after this time even if none was reported.
const SLOT_RETRY_MILLIS: u64 = 1_000;
/// How many waiting payments are tried again in one tick.
const RETRIES_PER_TICK: usize = 64;

/// All payments of ours.
#[derive(Clone)]
pub struct Outgoing {
    payer: NodeId,
    keys: KeyStream,
    entries: BTreeMap<PaymentHash, Entry>,
    waiting: BTreeSet<(Timestamp, u64, PaymentHash)>,
    /// Those of `waiting` that a free slot may help, first come, first served.
    for_slot: VecDeque<(u64, PaymentHash)>,
    order: u64,
    in_flight: usize,
}

impl Outgoing {
    /// No payments. The entropy is fresh at every boot.
    pub fn new(payer: NodeId, boot_entropy: [u8; 32]) -> Self {
        Self {
            payer,
            keys: KeyStream::new(boot_entropy, b"payment onions"),
            entries: BTreeMap::new(),
            waiting: BTreeSet::new(),
            for_slot: VecDeque::new(),
            order: 0,
            in_flight: 0,
        }
    }

    /// From the records of [`Space::Payment`](fulmen_types::record::Space::Payment): key and value of each.
    /// Payments without an HTLC on its way go on at the first [`Outgoing::tick`].
    pub fn restore<'a>(
        payer: NodeId,
        boot_entropy: [u8; 32],
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, DecodeError> {
        let mut payments = Self::new(payer, boot_entropy);
        for (key, value) in records {
            let payment = crate::record::decode(value)?;
            let hash = payment.request.payment_hash;
            if key != hash.as_bytes() {
                return Err(DecodeError::InvalidValue("key of a payment record"));
            }
            let phase = match &payment.status {
                PaymentStatus::Pending => {
                    payments.in_flight += payment.parts.len();
                    if payment.left() == Msat::ZERO {
                        Phase::InFlight
                    } else {
                        payments.wait_phase(hash, Timestamp::new(0))
                    }
                }
                PaymentStatus::Succeeded { .. } | PaymentStatus::Failed { .. } => Phase::Done,
            };
            payments.entries.insert(hash, Entry::new(payment, phase));
        }
        Ok(payments)
    }

    /// Adds the records of all payments: what [`Outgoing::restore`] makes them from.
    pub fn write_records(&self, batch: &mut WriteBatch) {
        for entry in self.entries.values() {
            write(&entry.payment, batch);
        }
    }

    /// Compares with the HTLCs that exist: a part that no channel and no on-chain resolution knows was
    /// never sent, and is tried again, or given up if its time is over. Call it once after everything is
    /// restored.
    pub fn reconcile(
        &mut self,
        live: &BTreeSet<HtlcLink>,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let parts = self.entries.iter().flat_map(|(hash, entry)| {
            entry.payment.parts.iter().map(|part| HtlcLink::Payment {
                payment_hash: *hash,
                attempt: part.number,
            })
        });
        let lost: Vec<HtlcLink> = parts.filter(|link| !live.contains(link)).collect();
        let mut outputs = Vec::new();
        for link in lost {
            if let Some((hash, _)) = self.take_attempt(&link) {
                outputs.extend(self.wait(&hash, now, WaitFor::Slot, batch));
            }
        }
        outputs
    }

    /// Begins a payment. Asking again for the same gives the one that is there; one that has failed is
    /// tried anew.
    pub fn pay(
        &mut self,
        request: PayRequest,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Result<Vec<PaymentOutput>, PayError> {
        let hash = request.payment_hash;
        if let Some(entry) = self.entries.get(&hash) {
            let known = &entry.payment;
            match known.status {
                PaymentStatus::Succeeded { .. } => return Ok(Vec::new()),
                PaymentStatus::Pending => {
                    let same = known.request.amount == request.amount
                        && known.request.payee == request.payee;
                    return if same {
                        Ok(Vec::new())
                    } else {
                        Err(PayError::Different)
                    };
                }
                PaymentStatus::Failed { .. } => {}
            }
        }
        if request.amount == Msat::ZERO || request.amount > Msat::MAX_MONEY {
            return Err(PayError::Amount);
        }
        if now >= request.retry_until {
            return Err(PayError::TooLate);
        }
        // Attempts are numbered on, so that a late answer to an earlier one is never taken for this.
        let attempts_before = self
            .entries
            .get(&hash)
            .map_or(0, |entry| entry.payment.attempts);
        let request = PayRequest {
            max_attempts: request.max_attempts.saturating_add(attempts_before),
            ..request
        };
        let payment = Payment {
            attempts: attempts_before,
            ..Payment::new(request, now)
        };
        let entry = Entry::new(payment, Phase::Routing);
        write(&entry.payment, batch);
        let question = entry.question(now);
        self.entries.insert(hash, entry);
        Ok(alloc::vec![PaymentOutput::FindRoute(question)])
    }

    /// Stops trying. An HTLC on its way can't be stopped: the payment may still succeed by it.
    pub fn abandon(
        &mut self,
        payment_hash: &PaymentHash,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(entry) = self.entries.get_mut(payment_hash) else {
            return Vec::new();
        };
        match entry.phase {
            Phase::Done => Vec::new(),
            Phase::InFlight | Phase::Routing | Phase::Waiting { .. } => {
                entry.payment.request.retry_until = now;
                self.give_up(
                    payment_hash,
                    FailureReason::Abandoned,
                    "stopped by the user".to_string(),
                    now,
                    batch,
                )
            }
        }
    }

    /// Drops an ended payment from memory; its record stays, see [`Payment::from_record`]. Asked for
    /// again it would be begun anew: look at the record first.
    pub fn forget(&mut self, payment_hash: &PaymentHash) {
        let ended = self
            .entries
            .get(payment_hash)
            .is_some_and(|entry| entry.phase == Phase::Done);
        if ended {
            self.entries.remove(payment_hash);
        }
    }

    /// A payment by its hash.
    pub fn get(&self, payment_hash: &PaymentHash) -> Option<&Payment> {
        self.entries.get(payment_hash).map(|entry| &entry.payment)
    }

    /// All payments by hash.
    pub fn iter(&self) -> impl Iterator<Item = &Payment> {
        self.entries.values().map(|entry| &entry.payment)
    }

    /// How many HTLCs of payments are on their way.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The router's answer. `may_change` says that a refusal may be different soon, for instance because
    /// a peer is about to be connected again.
    #[allow(
        clippy::too_many_arguments,
        reason = "time, tip and batch come with every input"
    )]
    pub fn route_answered<C: Signing>(
        &mut self,
        secp: &Secp256k1<C>,
        payment_hash: &PaymentHash,
        attempt: u32,
        answer: Result<Plan, NoRoute>,
        may_change: bool,
        now: Timestamp,
        tip: BlockHeight,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let hash = *payment_hash;
        let Some(entry) = self.entries.get_mut(&hash) else {
            return Vec::new();
        };
        if entry.phase != Phase::Routing || attempt != entry.payment.attempts + 1 {
            return Vec::new();
        }
        match answer {
            Err(reason) => {
                entry.payment.last_failure = if entry.payment.last_failure.is_empty() {
                    reason.to_string()
                } else {
                    core::mem::take(&mut entry.payment.last_failure)
                };
                let hopeful = match reason {
                    NoRoute::ZeroAmount | NoRoute::PayeeIsPayer | NoRoute::PayeeUnknown => false,
                    NoRoute::NoPath if entry.may_find_a_path(now) => true,
                    NoRoute::NoUsableChannel
                    | NoRoute::InsufficientLiquidity { .. }
                    | NoRoute::NoPath
                    | NoRoute::AllPathsFailed => {
                        // What is on its way comes back, or makes room.
                        may_change || self.in_flight > 0 || entry.avoid.first_end().is_some()
                    }
                    NoRoute::FeeTooHigh { .. }
                    | NoRoute::CltvTooLong { .. }
                    | NoRoute::TooManyHops => entry.avoid.first_end().is_some(),
                };
                if hopeful {
                    self.wait(&hash, now, WaitFor::Slot, batch)
                } else {
                    self.give_up(
                        &hash,
                        FailureReason::NoRoute,
                        reason.to_string(),
                        now,
                        batch,
                    )
                }
            }
            Ok(plan) => self.send_parts(secp, &hash, plan, now, tip, batch),
        }
    }

    /// Sends what the router has planned.
    fn send_parts<C: Signing>(
        &mut self,
        secp: &Secp256k1<C>,
        hash: &PaymentHash,
        plan: Plan,
        now: Timestamp,
        tip: BlockHeight,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let mut outputs = Vec::new();
        let Some(entry) = self.entries.get_mut(hash) else {
            return outputs;
        };
        let mut problem = None;
        for route in plan.parts {
            // The answer may be to an older question, or from a router that keeps no limits.
            let fees = entry.payment.fee_of_parts().saturating_add(route.fee);
            if route.amount > entry.payment.left() || fees > entry.payment.request.max_fee {
                break;
            }
            let session_key = self.keys.next_key();
            match entry.send(secp, route, session_key, tip) {
                Ok(htlc) => {
                    self.in_flight += 1;
                    outputs.push(PaymentOutput::AddHtlc(htlc));
                }
                Err(error) => {
                    problem = Some(error);
                    break;
                }
            }
        }
        entry.phase = Phase::InFlight;
        write(&entry.payment, batch);
        let is_all_sent = entry.payment.left() == Msat::ZERO;
        outputs.extend(match problem {
            Some(SendError::BadNode(node)) => {
                entry.avoid.avoid_node(node, FOREVER);
                self.wait(hash, now, WaitFor::Slot, batch)
            }
            Some(SendError::Onion(detail)) => {
                self.give_up(hash, FailureReason::NoRoute, detail, now, batch)
            }
            None if is_all_sent => Vec::new(),
            None => self.wait(hash, now, WaitFor::Slot, batch),
        });
        outputs
    }

    /// The channel did not take an HTLC of [`PaymentOutput::AddHtlc`]: in the same step, into the same
    /// batch.
    pub fn htlc_refused(
        &mut self,
        link: &HtlcLink,
        refusal: Refusal,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some((hash, attempt)) = self.take_attempt(link) else {
            return Vec::new();
        };
        let Some(entry) = self.entries.get_mut(&hash) else {
            return Vec::new();
        };
        // The number is free again, unless a later one was taken: nothing was sent.
        if entry.payment.attempts == attempt.number {
            entry.payment.attempts = attempt.number.saturating_sub(1);
        }
        match refusal {
            Refusal::TooManyHtlcs => {}
            Refusal::InsufficientBalance | Refusal::Unusable => {
                if let Some(hop) = attempt.hops.first() {
                    let direction = Direction::between(&self.payer, &hop.node_id);
                    entry.avoid.avoid_channel(
                        (hop.short_channel_id, direction),
                        hop.amount,
                        now.plus_millis(SLOT_RETRY_MILLIS),
                    );
                }
            }
        }
        self.wait(&hash, now, WaitFor::Slot, batch)
    }

    /// An HTLC of a payment was fulfilled.
    pub fn htlc_fulfilled(
        &mut self,
        link: &HtlcLink,
        preimage: PaymentPreimage,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let HtlcLink::Payment { payment_hash, .. } = link else {
            return Vec::new();
        };
        let Some(entry) = self.entries.get_mut(payment_hash) else {
            return Vec::new();
        };
        let is_done = matches!(entry.payment.status, PaymentStatus::Succeeded { .. });
        if is_done || preimage.payment_hash() != *payment_hash {
            return Vec::new();
        }
        // The payee has all parts when it takes one (BOLT 4, basic_mpp): the others are paid too.
        let fee = entry.payment.fee_of_parts();
        self.in_flight = self.in_flight.saturating_sub(entry.payment.parts.len());
        let mut outputs: Vec<PaymentOutput> = core::mem::take(&mut entry.payment.parts)
            .into_iter()
            .map(|part| {
                PaymentOutput::Learn(Box::new(RouteReport {
                    payer: self.payer,
                    hops: part.hops,
                    outcome: RouteOutcome::Settled,
                    at: now,
                }))
            })
            .collect();
        entry.payment.status = PaymentStatus::Succeeded {
            preimage,
            fee,
            at: now,
        };
        self.forget_wait(payment_hash);
        if let Some(entry) = self.entries.get_mut(payment_hash) {
            entry.finish();
            write(&entry.payment, batch);
        }
        outputs.push(PaymentOutput::Done(*payment_hash));
        outputs
    }

    /// An HTLC of a payment has failed, irrevocably.
    pub fn htlc_failed<C: Signing>(
        &mut self,
        secp: &Secp256k1<C>,
        link: &HtlcLink,
        failure: OutgoingFailure,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some((hash, attempt)) = self.take_attempt(link) else {
            return Vec::new();
        };
        let Some(entry) = self.entries.get_mut(&hash) else {
            return Vec::new();
        };
        let (verdict, report) =
            failure::judge(secp, &self.payer, &attempt, failure, &mut entry.avoid, now);
        // The router hears of it before it is asked again.
        let mut outputs: Vec<PaymentOutput> = report
            .map(|report| PaymentOutput::Learn(Box::new(report)))
            .into_iter()
            .collect();
        outputs.extend(match verdict {
            Verdict::Final(detail) => {
                self.give_up(&hash, FailureReason::Rejected, detail, now, batch)
            }
            Verdict::Retry(detail) => {
                entry.payment.last_failure = detail;
                self.ask_route(&hash, now, batch)
            }
            Verdict::RetryLater(detail) => {
                entry.payment.last_failure = detail;
                self.wait(
                    &hash,
                    now,
                    WaitFor::Time(failure::backoff(attempt.number)),
                    batch,
                )
            }
        });
        outputs
    }

    /// Slots became free in a channel, or it can be used again: that many waiting payments try again.
    pub fn slots_freed(
        &mut self,
        count: usize,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let mut outputs = Vec::new();
        let mut left = count;
        while left > 0 {
            let Some((order, hash)) = self.for_slot.pop_front() else {
                break;
            };
            let waits = self.entries.get(&hash).is_some_and(
                |entry| matches!(entry.phase, Phase::Waiting { order: o, .. } if o == order),
            );
            if waits {
                left -= 1;
                outputs.extend(self.ask_route(&hash, now, batch));
            }
        }
        outputs
    }

    /// Lets waiting payments whose time has come try again, some at a time, or give up.
    pub fn tick(&mut self, now: Timestamp, batch: &mut WriteBatch) -> Vec<PaymentOutput> {
        let due: Vec<PaymentHash> = self
            .waiting
            .iter()
            .take_while(|(until, ..)| *until <= now)
            .take(RETRIES_PER_TICK)
            .map(|(.., hash)| *hash)
            .collect();
        due.iter()
            .flat_map(|hash| self.ask_route(hash, now, batch))
            .collect()
    }

    /// When [`Outgoing::tick`] has something to do next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(until, ..)| *until)
    }

    /// Asks for a route, unless the limits are reached.
    fn ask_route(
        &mut self,
        hash: &PaymentHash,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        self.forget_wait(hash);
        let Some(entry) = self.entries.get_mut(hash) else {
            return Vec::new();
        };
        if let Some((reason, detail)) = entry.ending.clone() {
            return self.give_up(hash, reason, detail, now, batch);
        }
        if let Some(detail) = entry.limit_reached(now) {
            return self.give_up(hash, FailureReason::GaveUp, detail, now, batch);
        }
        // What the open question leaves out is asked for when it is answered.
        if entry.phase == Phase::Routing {
            write(&entry.payment, batch);
            return Vec::new();
        }
        entry.phase = Phase::Routing;
        entry.avoid.prune(now);
        write(&entry.payment, batch);
        alloc::vec![PaymentOutput::FindRoute(entry.question(now))]
    }

    fn wait(
        &mut self,
        hash: &PaymentHash,
        now: Timestamp,
        what: WaitFor,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(entry) = self.entries.get(hash) else {
            return Vec::new();
        };
        if let Some((reason, detail)) = entry.ending.clone() {
            return self.give_up(hash, reason, detail, now, batch);
        }
        if let Some(detail) = entry.limit_reached(now) {
            return self.give_up(hash, FailureReason::GaveUp, detail, now, batch);
        }
        self.forget_wait(hash);
        let millis = match what {
            WaitFor::Slot => SLOT_RETRY_MILLIS,
            WaitFor::Time(millis) => millis,
        };
        let phase = self.wait_phase(*hash, now.plus_millis(millis));
        if let (WaitFor::Slot, Phase::Waiting { order, .. }) = (what, phase) {
            self.for_slot.push_back((order, *hash));
        }
        if let Some(entry) = self.entries.get_mut(hash) {
            entry.phase = phase;
            write(&entry.payment, batch);
        }
        Vec::new()
    }

    fn wait_phase(&mut self, hash: PaymentHash, until: Timestamp) -> Phase {
        self.order += 1;
        self.waiting.insert((until, self.order, hash));
        Phase::Waiting {
            until,
            order: self.order,
        }
    }

    fn forget_wait(&mut self, hash: &PaymentHash) {
        if let Some(entry) = self.entries.get(hash)
            && let Phase::Waiting { until, order } = entry.phase
        {
            self.waiting.remove(&(until, order, *hash));
        }
        // Its place among those that wait for a slot is passed over later; drop the dead in bulk.
        if self.for_slot.len() > 64 && self.for_slot.len() > 4 * self.waiting.len() {
            let waiting: BTreeSet<u64> = self.waiting.iter().map(|(_, order, _)| *order).collect();
            self.for_slot.retain(|(order, _)| waiting.contains(order));
        }
    }

    fn give_up(
        &mut self,
        hash: &PaymentHash,
        reason: FailureReason,
        detail: String,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        self.forget_wait(hash);
        let Some(entry) = self.entries.get_mut(hash) else {
            return Vec::new();
        };
        // HTLCs on their way can't be stopped: it ends with the last of them.
        if !entry.payment.parts.is_empty() {
            entry.ending.get_or_insert((reason, detail));
            entry.phase = Phase::InFlight;
            write(&entry.payment, batch);
            return Vec::new();
        }
        let (reason, detail) = entry.ending.take().unwrap_or((reason, detail));
        // That no path is left says little; what the last one failed on says more.
        let last = &entry.payment.last_failure;
        let detail =
            if reason == FailureReason::NoRoute && entry.payment.attempts > 0 && *last != detail {
                alloc::format!("{detail}; the last attempt: {last}")
            } else {
                detail
            };
        entry.payment.status = PaymentStatus::Failed {
            reason,
            detail,
            at: now,
        };
        entry.finish();
        write(&entry.payment, batch);
        alloc::vec![PaymentOutput::Done(*hash)]
    }

    /// The part that a link names, if it is on its way; it is not any more.
    fn take_attempt(&mut self, link: &HtlcLink) -> Option<(PaymentHash, Attempt)> {
        let HtlcLink::Payment {
            payment_hash,
            attempt,
        } = link
        else {
            return None;
        };
        let entry = self.entries.get_mut(payment_hash)?;
        let parts = &mut entry.payment.parts;
        let at = parts.iter().position(|part| part.number == *attempt)?;
        let attempt = parts.remove(at);
        self.in_flight = self.in_flight.saturating_sub(1);
        Some((*payment_hash, attempt))
    }
}

#[derive(Clone, Copy)]
enum WaitFor {
    Slot,
    Time(u64),
}
