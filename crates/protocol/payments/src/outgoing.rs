//! Payments of our own: one path at a time, tried again over other paths until it arrives or there is
//! no more sense in it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use bitcoin::secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use fulmen_onion::{
    FailureMessage, FailureSource, ForwardPayload, HopPayload, PaymentData, PaymentPacket,
    ReceivePayload, ReturnPacket, build_payment_onion, sphinx,
};
use fulmen_router::{AvoidList, HintHop, NoRoute, Route, RouteHop};
use fulmen_types::{
    BlockHeight, CltvExpiry, Msat, NodeId, PaymentHash, PaymentPreimage, PaymentSecret,
    ShortChannelId, Timestamp,
    record::{RecordKey, Space, WriteBatch},
};

use crate::{
    learn::{Lesson, learn},
    link::Link,
    record::{Attempt, FailReason, Payment, PaymentStatus},
};

/// How many attempts a payment makes at most.
pub const ATTEMPTS_MAX: u32 = 100;

/// What an invoice asks for, and what we make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRequest {
    /// The invoice's text, for the list of payments.
    pub invoice: String,
    /// The hash that the payee has the preimage of.
    pub payment_hash: PaymentHash,
    /// Who is paid.
    pub payee: PublicKey,
    /// What is to arrive.
    pub amount: Msat,
    /// The invoice's `payment_secret`.
    pub payment_secret: PaymentSecret,
    /// The invoice's metadata, to be handed back.
    pub payment_metadata: Option<Vec<u8>>,
    /// The invoice's `min_final_cltv_expiry_delta`.
    pub min_final_cltv_expiry_delta: u32,
    /// The invoice's private ways to the payee.
    pub hints: Vec<Vec<HintHop>>,
    /// The most that the way may cost.
    pub max_fee: Msat,
    /// No attempt begins after this.
    pub deadline: Timestamp,
}

/// What the node has to do for a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentOutput {
    /// Find a way; the answer is [`Outgoing::route_answer`].
    FindRoute(PaymentHash),
    /// Offer this HTLC to the first hop of the way. The answer is [`Outgoing::added`] or
    /// [`Outgoing::refused`].
    Offer(Offer),
    /// It has arrived.
    Succeeded {
        /// Which.
        payment_hash: PaymentHash,
        /// The proof.
        preimage: PaymentPreimage,
        /// What the payee got.
        amount: Msat,
        /// What the way cost.
        fee: Msat,
    },
    /// It did not arrive; nothing was spent.
    Failed {
        /// Which.
        payment_hash: PaymentHash,
        /// Why.
        reason: FailReason,
    },
}

/// An HTLC of a payment, to be offered over a channel of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The payment.
    pub payment_hash: PaymentHash,
    /// Over which channel.
    pub short_channel_id: ShortChannelId,
    /// What it carries.
    pub amount: Msat,
    /// Until when.
    pub cltv_expiry: CltvExpiry,
    /// The onion.
    pub onion: alloc::boxed::Box<PaymentPacket>,
    /// Where it comes from, for the HTLC's record.
    pub link: Link,
}

/// Why a channel did not take an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferRefusal {
    /// A slot or limit is used up for the moment: wait until something is settled.
    Busy,
    /// The channel can't carry this now, or is not there any more: find another way.
    Unusable,
}

/// How a payment that is asked for stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It begins now.
    New,
    /// It is on its way already.
    Pending,
}

/// Why a payment can't begin. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayError {
    /// The invoice was already being paid with another amount.
    DifferentAmount {
        /// What is on its way.
        pending: Msat,
    },
    /// Too many payments are on their way.
    TooMany,
}

/// The most payments that may be on their way at once.
pub const PENDING_MAX: usize = 100_000;

/// All payments that are on their way.
#[derive(Debug, Default)]
pub struct Outgoing {
    pending: BTreeMap<PaymentHash, Pending>,
    /// Payments whose way is found and whose first channel is busy, in the order of their turn.
    waiting: BTreeSet<(u64, PaymentHash)>,
    next_turn: u64,
    /// Payments without a way for the moment, by when they look again.
    resting: BTreeSet<(Timestamp, PaymentHash)>,
    avoid: AvoidList,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    payment: Payment,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The router is asked.
    Routing,
    /// The way is found; its first channel is busy.
    Waiting { route: Route, turn: u64 },
    /// There is no way for the moment; another look is taken then.
    Resting { until: Timestamp },
    /// An HTLC is out.
    InFlight,
}

/// Whether a payment that finds no way may find one soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Channels of ours are only away for the moment: their peers are not connected, or what they hold is
    /// in flight.
    MayImprove,
    /// Nothing will change by waiting.
    Same,
}

/// How long a payment without a way rests before it looks again.
const REST_MILLIS: u64 = 1_000;

impl Outgoing {
    /// From its records. `live` has the attempts whose HTLC is in the record of a channel; an attempt that
    /// never got that far is forgotten, and the payment looks for a way again.
    ///
    /// Gives the payments that need a route.
    pub fn restore(
        payments: impl IntoIterator<Item = Payment>,
        live: &BTreeSet<(PaymentHash, u32)>,
    ) -> (Self, Vec<PaymentOutput>) {
        let mut this = Self::default();
        let mut outputs = Vec::new();
        for payment in payments {
            let hash = payment.request.payment_hash;
            let in_flight =
                payment.attempt.as_ref().is_some_and(|a| live.contains(&(hash, a.number)));
            let stage = if in_flight { Stage::InFlight } else { Stage::Routing };
            if !in_flight {
                outputs.push(PaymentOutput::FindRoute(hash));
            }
            this.pending.insert(hash, Pending { payment, stage });
        }
        (this, outputs)
    }

    /// The payment with this hash, while it is on its way.
    pub fn get(&self, payment_hash: &PaymentHash) -> Option<&Payment> {
        self.pending.get(payment_hash).map(|p| &p.payment)
    }

    /// All payments on their way.
    pub fn iter(&self) -> impl Iterator<Item = &Payment> {
        self.pending.values().map(|p| &p.payment)
    }

    /// Failures of the last minutes that every payment learns from.
    pub const fn avoid(&self) -> &AvoidList {
        &self.avoid
    }

    /// Begins a payment, or finds it on its way. The caller has made sure that no payment of this hash is in
    /// the archive with success.
    ///
    /// # Errors
    /// Nothing has changed.
    pub fn pay(
        &mut self,
        now: Timestamp,
        request: PaymentRequest,
        batch: &mut WriteBatch,
    ) -> Result<(Begun, Vec<PaymentOutput>), PayError> {
        let hash = request.payment_hash;
        if let Some(pending) = self.pending.get(&hash) {
            let amount = pending.payment.request.amount;
            return if amount == request.amount {
                Ok((Begun::Pending, Vec::new()))
            } else {
                Err(PayError::DifferentAmount { pending: amount })
            };
        }
        if self.pending.len() >= PENDING_MAX {
            return Err(PayError::TooMany);
        }
        let payment = Payment::new(request, now);
        payment.write(batch);
        self.pending.insert(hash, Pending { payment, stage: Stage::Routing });
        Ok((Begun::New, alloc::vec![PaymentOutput::FindRoute(hash)]))
    }

    /// The router's answer. `session_key` is fresh and random.
    pub fn route_answer(
        &mut self,
        secp: &Secp256k1<All>,
        now: Timestamp,
        tip: BlockHeight,
        payment_hash: &PaymentHash,
        answer: Result<Route, NoRoute>,
        outlook: Outlook,
        session_key: SecretKey,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.pending.get_mut(payment_hash) else { return Vec::new() };
        if pending.stage != Stage::Routing {
            return Vec::new();
        }
        match answer {
            Ok(route) if !route.hops.is_empty() => {
                self.offer(secp, now, tip, payment_hash, route, session_key, batch)
            }
            Ok(_) => self.fail(now, payment_hash, FailReason::NoRoute(NoRoute::NoPath), batch),
            Err(error) => {
                let until = now.plus_millis(REST_MILLIS);
                if until < pending.payment.request.deadline && may_pass(&error, outlook, &pending.payment) {
                    pending.stage = Stage::Resting { until };
                    self.resting.insert((until, *payment_hash));
                    return Vec::new();
                }
                // An earlier failure says more than "all paths have failed".
                let reason = match (&pending.payment.last_failure, error) {
                    (Some(last), NoRoute::AllPathsFailed | NoRoute::NoPath) => last.clone(),
                    (_, error) => FailReason::NoRoute(error),
                };
                self.fail(now, payment_hash, reason, batch)
            }
        }
    }

    fn offer(
        &mut self,
        secp: &Secp256k1<All>,
        now: Timestamp,
        tip: BlockHeight,
        payment_hash: &PaymentHash,
        route: Route,
        session_key: SecretKey,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.pending.get_mut(payment_hash) else { return Vec::new() };
        let payment = &mut pending.payment;
        if now >= payment.request.deadline {
            return self.fail(now, payment_hash, FailReason::TimedOut, batch);
        }
        if payment.attempts_made >= ATTEMPTS_MAX {
            return self.fail(now, payment_hash, FailReason::TooManyAttempts, batch);
        }
        let number = payment.attempts_made + 1;
        let Some((first, onion)) = build_onion(secp, &payment.request, &route, tip, &session_key)
        else {
            return self.fail(now, payment_hash, FailReason::NoRoute(NoRoute::TooManyHops), batch);
        };
        payment.attempts_made = number;
        payment.attempt = Some(Attempt {
            number,
            session_key: session_key.secret_bytes(),
            hops: route.hops.clone(),
            fee: route.fee,
        });
        payment.write(batch);
        pending.stage = Stage::Waiting { route, turn: 0 };
        alloc::vec![PaymentOutput::Offer(Offer {
            payment_hash: *payment_hash,
            short_channel_id: first.short_channel_id,
            amount: first.amount,
            cltv_expiry: first.cltv_expiry(tip),
            onion: alloc::boxed::Box::new(onion),
            link: Link::Payment { payment_hash: *payment_hash, attempt: number },
        })]
    }

    /// The channel took the offer.
    pub fn added(&mut self, payment_hash: &PaymentHash) {
        if let Some(pending) = self.pending.get_mut(payment_hash) {
            pending.stage = Stage::InFlight;
        }
    }

    /// The channel did not take the offer.
    pub fn refused(
        &mut self,
        now: Timestamp,
        offer: &Offer,
        refusal: OfferRefusal,
        payer: &NodeId,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.pending.get_mut(&offer.payment_hash) else { return Vec::new() };
        let Stage::Waiting { route, turn } = &mut pending.stage else { return Vec::new() };
        match refusal {
            OfferRefusal::Busy => {
                // Nothing was sent: the attempt does not count, and the turn is kept.
                pending.payment.attempts_made = pending.payment.attempts_made.saturating_sub(1);
                pending.payment.attempt = None;
                pending.payment.write(batch);
                if *turn == 0 {
                    self.next_turn += 1;
                    *turn = self.next_turn;
                }
                self.waiting.insert((*turn, offer.payment_hash));
                Vec::new()
            }
            OfferRefusal::Unusable => {
                if let (Some(direction), Some(hop)) = (route.direction(payer, 0), route.hops.first())
                {
                    let channel = (hop.short_channel_id, direction);
                    self.avoid.avoid_channel(channel, hop.amount, now.plus_millis(10_000));
                }
                self.search_again(&offer.payment_hash, batch)
            }
        }
    }

    /// The payment whose turn it is: to be given to [`Outgoing::retry_waiting`] when something was
    /// settled, one after the other until a channel is busy again.
    pub fn next_waiting(&self) -> Option<PaymentHash> {
        self.waiting.first().map(|(_, hash)| *hash)
    }

    /// Whether any payment waits for its turn.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a waiting payment's turn: its way is tried again.
    pub fn retry_waiting(
        &mut self,
        secp: &Secp256k1<All>,
        now: Timestamp,
        tip: BlockHeight,
        payment_hash: &PaymentHash,
        session_key: SecretKey,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.pending.get(payment_hash) else { return Vec::new() };
        let Stage::Waiting { route, turn } = &pending.stage else { return Vec::new() };
        let (route, turn) = (route.clone(), *turn);
        self.waiting.remove(&(turn, *payment_hash));
        let outputs = self.offer(secp, now, tip, payment_hash, route, session_key, batch);
        // The turn stays the payment's own should the channel still be busy.
        if let Some(Pending { stage: Stage::Waiting { turn: kept, .. }, .. }) =
            self.pending.get_mut(payment_hash)
        {
            *kept = turn;
        }
        outputs
    }

    /// The peer gave the preimage for an attempt's HTLC. Final, even for a payment given up before.
    pub fn fulfilled(
        &mut self,
        now: Timestamp,
        payment_hash: &PaymentHash,
        preimage: PaymentPreimage,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.remove(payment_hash) else { return Vec::new() };
        let mut payment = pending.payment;
        let fee = payment.attempt.as_ref().map_or(Msat::ZERO, |attempt| attempt.fee);
        let amount = payment.request.amount;
        payment.status = PaymentStatus::Succeeded { preimage, fee };
        payment.ended_at = Some(now);
        payment.archive(batch);
        alloc::vec![PaymentOutput::Succeeded {
            payment_hash: *payment_hash,
            preimage,
            amount,
            fee,
        }]
    }

    /// An attempt's HTLC is irrevocably failed.
    pub fn failed(
        &mut self,
        secp: &Secp256k1<All>,
        now: Timestamp,
        payer: &NodeId,
        payment_hash: &PaymentHash,
        attempt: u32,
        failure: AttemptFailure,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.pending.get(payment_hash) else { return Vec::new() };
        let Some(made) = pending.payment.attempt.as_ref().filter(|a| a.number == attempt) else {
            return Vec::new();
        };
        let source = match failure {
            AttemptFailure::NeverSent => return self.search_again(payment_hash, batch),
            // What our own channel or peer spoiled: that channel is left out a while.
            AttemptFailure::OnChain | AttemptFailure::Malformed => {
                Lesson::first_hop(payer, &made.hops).apply(&mut self.avoid, now);
                return self.search_again(payment_hash, batch);
            }
            AttemptFailure::Packet(reason) => decrypt(secp, made, reason),
        };
        let lesson = match &source {
            Source::Hop(hop, message) => learn(payer, &made.hops, *hop, message),
            Source::Unknown => Lesson::unreadable(payer, &made.hops),
        };
        let text = source.to_reason(&made.hops);
        lesson.apply(&mut self.avoid, now);
        if let Some(reason) = lesson.is_final {
            return self.fail(now, payment_hash, reason, batch);
        }
        if let Some(pending) = self.pending.get_mut(payment_hash) {
            pending.payment.last_failure = Some(text);
        }
        self.search_again(payment_hash, batch)
    }

    fn search_again(&mut self, payment_hash: &PaymentHash, batch: &mut WriteBatch) -> Vec<PaymentOutput> {
        let Some(pending) = self.pending.get_mut(payment_hash) else { return Vec::new() };
        if let Stage::Waiting { turn, .. } = pending.stage {
            self.waiting.remove(&(turn, *payment_hash));
        }
        if let Stage::Resting { until } = pending.stage {
            self.resting.remove(&(until, *payment_hash));
        }
        pending.stage = Stage::Routing;
        pending.payment.attempt = None;
        pending.payment.write(batch);
        alloc::vec![PaymentOutput::FindRoute(*payment_hash)]
    }

    /// Time has passed: payments that wait beyond their deadline fail, old failures are forgotten.
    pub fn tick(&mut self, now: Timestamp, batch: &mut WriteBatch) -> Vec<PaymentOutput> {
        self.avoid.prune(now);
        let late: Vec<PaymentHash> = self
            .waiting
            .iter()
            .map(|(_, hash)| *hash)
            .filter(|hash| self.get(hash).is_some_and(|p| now >= p.request.deadline))
            .collect();
        let mut outputs: Vec<PaymentOutput> = late
            .iter()
            .flat_map(|hash| self.fail(now, hash, FailReason::TimedOut, batch))
            .collect();
        while let Some(&(until, hash)) = self.resting.first()
            && until <= now
        {
            self.resting.remove(&(until, hash));
            outputs.extend(self.search_again(&hash, batch));
        }
        outputs
    }

    /// When [`Outgoing::tick`] has something to do next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let rest = self.resting.first().map(|(until, _)| *until);
        let late = self.next_waiting().and_then(|hash| Some(self.get(&hash)?.request.deadline));
        rest.into_iter().chain(late).min()
    }

    fn fail(
        &mut self,
        now: Timestamp,
        payment_hash: &PaymentHash,
        reason: FailReason,
        batch: &mut WriteBatch,
    ) -> Vec<PaymentOutput> {
        let Some(pending) = self.remove(payment_hash) else { return Vec::new() };
        let mut payment = pending.payment;
        payment.status = PaymentStatus::Failed { reason: reason.clone() };
        payment.attempt = None;
        payment.ended_at = Some(now);
        payment.archive(batch);
        alloc::vec![PaymentOutput::Failed { payment_hash: *payment_hash, reason }]
    }

    fn remove(&mut self, payment_hash: &PaymentHash) -> Option<Pending> {
        let pending = self.pending.remove(payment_hash)?;
        match pending.stage {
            Stage::Waiting { turn, .. } => {
                self.waiting.remove(&(turn, *payment_hash));
            }
            Stage::Resting { until } => {
                self.resting.remove(&(until, *payment_hash));
            }
            Stage::Routing | Stage::InFlight => {}
        }
        Some(pending)
    }
}

/// Whether it makes sense to look for a way again in a moment.
const fn may_pass(error: &NoRoute, outlook: Outlook, payment: &Payment) -> bool {
    match error {
        NoRoute::AllPathsFailed => true,
        NoRoute::NoUsableChannel | NoRoute::InsufficientLiquidity { .. } => {
            matches!(outlook, Outlook::MayImprove)
        }
        NoRoute::NoPath => payment.last_failure.is_some(),
        NoRoute::ZeroAmount
        | NoRoute::PayeeIsPayer
        | NoRoute::PayeeUnknown
        | NoRoute::FeeTooHigh { .. }
        | NoRoute::CltvTooLong { .. }
        | NoRoute::TooManyHops => false,
    }
}

/// How an attempt's HTLC failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// It was never in a commitment.
    NeverSent,
    /// Its channel was closed, and it timed out on chain.
    OnChain,
    /// Our peer could not read the onion.
    Malformed,
    /// The encrypted failure.
    Packet(Vec<u8>),
}

enum Source {
    /// The node after hop `0`, `1`, ... said it.
    Hop(usize, FailureMessage),
    /// Nobody on the way can have said it.
    Unknown,
}

impl Source {
    fn to_reason(&self, hops: &[RouteHop]) -> FailReason {
        match self {
            Self::Hop(hop, message) => FailReason::Failure {
                node: hops.get(*hop).map(|h| h.node_id),
                hop: u8::try_from(*hop).unwrap_or(u8::MAX),
                code: message.code(),
        name: message.name().into(),
            },
            Self::Unknown => FailReason::Unreadable,
        }
    }
}

fn decrypt(secp: &Secp256k1<All>, attempt: &Attempt, reason: Vec<u8>) -> Source {
    let nodes: Option<Vec<PublicKey>> =
        attempt.hops.iter().map(|hop| hop.node_id.to_public_key().ok()).collect();
    let secrets = SecretKey::from_slice(&attempt.session_key)
        .ok()
        .zip(nodes)
        .and_then(|(key, nodes)| sphinx::shared_secrets(secp, &key, nodes.iter()).ok());
    let Some(secrets) = secrets else { return Source::Unknown };
    match (ReturnPacket { reason, attribution_data: None }).decrypt(&secrets).source {
        FailureSource::Hop { hop, message, .. } => Source::Hop(hop, message),
        FailureSource::Unparsable { hop } => Source::Hop(hop, FailureMessage::PermanentNodeFailure),
        FailureSource::Unknown => Source::Unknown,
    }
}

fn build_onion(
    secp: &Secp256k1<All>,
    request: &PaymentRequest,
    route: &Route,
    tip: BlockHeight,
    session_key: &SecretKey,
) -> Option<(RouteHop, PaymentPacket)> {
    let mut hops = Vec::with_capacity(route.hops.len());
    for pair in route.hops.windows(2) {
        let [hop, next] = pair else { return None };
        let payload = HopPayload::Forward(ForwardPayload {
            short_channel_id: next.short_channel_id,
            amt_to_forward: next.amount,
            outgoing_cltv_value: next.cltv_expiry(tip),
        });
        hops.push((hop.node_id.to_public_key().ok()?, payload));
    }
    let last = route.hops.last()?;
    let receive = HopPayload::Receive(ReceivePayload {
        amt_to_forward: last.amount,
        outgoing_cltv_value: last.cltv_expiry(tip),
        payment_data: Some(PaymentData {
            payment_secret: request.payment_secret,
            // BOLT 4: total_msat is at least the invoice's amount; a hop's minimum may ask for more.
            total_msat: last.amount,
        }),
        payment_metadata: request.payment_metadata.clone(),
        keysend_preimage: None,
        custom_tlvs: Vec::new(),
    });
    hops.push((last.node_id.to_public_key().ok()?, receive));
    let onion = build_payment_onion(secp, session_key, &hops, &request.payment_hash).ok()?;
    Some((*route.hops.first()?, onion.packet))
}

/// The record of a payment on its way.
pub(crate) fn pending_key(payment_hash: &PaymentHash) -> RecordKey {
    RecordKey::new(Space::Payment, *payment_hash.as_bytes())
}

/// The record of a payment that has ended.
pub fn archive_key(payment_hash: &PaymentHash) -> RecordKey {
    RecordKey::new(Space::PaymentArchive, *payment_hash.as_bytes())
}

