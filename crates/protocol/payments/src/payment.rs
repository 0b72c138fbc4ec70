//! A payment of ours as data: what is asked for, how far it is, what it asks of the node.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_gossip::NetworkGraph;
use fulmen_onion::PaymentPacket;
use fulmen_router::{
    AvoidList, ChannelDirection, CostModel, DEFAULT_MAX_TOTAL_CLTV, Explanation, FINAL_PAYLOAD_LEN,
    FirstHop, HintHop, NoRoute, Plan, RouteHop, RouteOutcome, RouteRequest, Router, find_plan,
};
use fulmen_types::{
    BlockHeight, CltvExpiry, Msat, NodeId, PaymentHash, PaymentPreimage, PaymentSecret,
    ShortChannelId, Timestamp, codec::DecodeError,
};

use crate::{
    HtlcLink,
    entry::{Entry, Phase},
    receive::MIN_FINAL_CLTV_EXPIRY_DELTA,
};

/// Blocks added to what the payee asks for, in case one is mined while the payment is on its way.
pub const FINAL_CLTV_OFFSET: u32 = 3;
/// How often a payment is tried by default.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 100;
/// The usual limit of HTLCs that a payment has on their way at once.
pub const DEFAULT_MAX_PARTS: u16 = 16;
/// How long a payment is tried by default.
pub const DEFAULT_RETRY_MILLIS: u64 = 60_000;

/// What to pay: from an invoice, with the limits of who pays.
#[derive(Clone, PartialEq, Eq)]
pub struct PayRequest {
    /// The invoice's hash, and the payment's name.
    pub payment_hash: PaymentHash,
    /// The invoice's `s`.
    pub payment_secret: PaymentSecret,
    /// The invoice's `m`, given to the payee as it is.
    pub payment_metadata: Option<Vec<u8>>,
    /// Who is paid.
    pub payee: PublicKey,
    /// The invoice's amount, or the one chosen for an invoice without.
    pub amount: Msat,
    /// The invoice's `r`.
    pub hints: Vec<Vec<HintHop>>,
    /// The invoice's `c`.
    pub min_final_cltv_expiry_delta: u32,
    /// The most that forwarding may cost.
    pub max_fee: Msat,
    /// The farthest expiry from the tip.
    pub max_total_cltv: u32,
    /// The most HTLCs to try.
    pub max_attempts: u32,
    /// Into how many HTLCs the amount may be split: more than one only when the payee supports it
    /// (BOLT 9, `basic_mpp`).
    pub max_parts: u16,
    /// When to stop trying: never after the invoice expires.
    pub retry_until: Timestamp,
    /// The invoice's text, kept for the user.
    pub invoice: String,
}

impl fmt::Debug for PayRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayRequest")
            .field("payment_hash", &self.payment_hash)
            .field("payee", &self.payee)
            .field("amount", &self.amount)
            .field("max_fee", &self.max_fee)
            .finish_non_exhaustive()
    }
}

/// Why a payment was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayError {
    /// Nothing, or more than all money.
    Amount,
    /// The time to try is over: most likely the invoice has expired.
    TooLate,
    /// A payment with this hash is on its way with another amount or payee.
    Different,
}

impl fmt::Display for PayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amount => "say an amount above zero and at most 21 million bitcoin",
            Self::TooLate => "the invoice has expired: ask the payee for a new one",
            Self::Different => {
                "a payment with this hash exists with another amount or payee: it is not changed"
            }
        })
    }
}

impl core::error::Error for PayError {}

/// How far a payment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentStatus {
    /// It is being tried.
    Pending,
    /// The payee has it.
    Succeeded {
        /// The proof.
        preimage: PaymentPreimage,
        /// What it cost beyond the amount.
        fee: Msat,
        /// When.
        at: Timestamp,
    },
    /// It was given up; nothing was paid.
    Failed {
        /// Why, for programs.
        reason: FailureReason,
        /// Why, for people.
        detail: String,
        /// When.
        at: Timestamp,
    },
}

/// Why a payment failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// No path within the limits.
    NoRoute,
    /// The payee refused it.
    Rejected,
    /// The time or the attempts are used up.
    GaveUp,
    /// The user stopped it.
    Abandoned,
}

/// An HTLC of a payment on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// What the payee is to get by it.
    pub amount: Msat,
    /// The tip that its expiries were counted from.
    pub height: BlockHeight,
    /// Its path.
    pub hops: Vec<RouteHop>,
    /// The key of its onion: reads failures.
    pub(crate) session_key: SecretKey,
}

impl Attempt {
    /// What it costs beyond what the payee gets.
    pub fn fee(&self) -> Msat {
        let total = self.hops.first().map_or(self.amount, |hop| hop.amount);
        total.saturating_sub(self.amount)
    }
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// What was asked for.
    pub request: PayRequest,
    /// When.
    pub created_at: Timestamp,
    /// How many HTLCs were sent.
    pub attempts: u32,
    /// How far it is.
    pub status: PaymentStatus,
    /// The HTLCs that are on their way.
    pub parts: Vec<Attempt>,
    /// What the last attempt failed with, for people.
    pub last_failure: String,
}

impl Payment {
    /// One that begins now.
    pub(crate) const fn new(request: PayRequest, created_at: Timestamp) -> Self {
        Self {
            request,
            created_at,
            attempts: 0,
            status: PaymentStatus::Pending,
            parts: Vec::new(),
            last_failure: String::new(),
        }
    }

    /// What no HTLC on its way carries.
    pub fn left(&self) -> Msat {
        let parts = self.parts.iter().map(|part| part.amount);
        self.request
            .amount
            .saturating_sub(parts.fold(Msat::ZERO, Msat::saturating_add))
    }

    /// What the HTLCs on their way cost beyond what the payee gets.
    pub fn fee_of_parts(&self) -> Msat {
        let fees = self.parts.iter().map(Attempt::fee);
        fees.fold(Msat::ZERO, Msat::saturating_add)
    }

    /// The record, as [`Payment::from_record`] reads it.
    pub fn to_record(&self) -> Vec<u8> {
        crate::record::encode(self)
    }

    /// Reads a record of [`Space::Payment`](fulmen_types::record::Space::Payment).
    pub fn from_record(value: &[u8]) -> Result<Self, DecodeError> {
        crate::record::decode(value)
    }
}

/// A question to the router.
#[derive(Clone, Debug)]
pub struct RouteQuestion {
    /// For which payment.
    pub payment_hash: PaymentHash,
    /// From which of its attempts on.
    pub attempt: u32,
    /// Who is paid.
    pub payee: NodeId,
    /// How much: what no HTLC on its way carries.
    pub amount: Msat,
    /// In how many HTLCs at most.
    pub max_parts: u16,
    /// What HTLCs of this payment that are on their way take of others' channels.
    pub in_use: Vec<(ChannelDirection, Msat)>,
    /// Private ways to the payee.
    pub hints: Vec<Vec<HintHop>>,
    /// Blocks for the payee.
    pub final_cltv: u32,
    /// The limit of fees.
    pub max_fee: Msat,
    /// The limit of blocks.
    pub max_total_cltv: u32,
    /// The length of the payee's payload.
    pub final_payload_len: u16,
    /// What failed before.
    pub avoid: AvoidList,
}

impl RouteQuestion {
    /// What a payment would ask that begins now.
    pub fn for_payment(request: &PayRequest, now: Timestamp) -> Self {
        let payment = Payment::new(request.clone(), now);
        *Entry::new(payment, Phase::Routing).question(now)
    }

    /// What a payment would ask to a node of which only the id is known.
    pub fn to_node(payee: NodeId, amount: Msat, max_parts: u16, max_fee: Msat) -> Self {
        Self {
            payment_hash: PaymentHash::new([0; 32]),
            attempt: 0,
            payee,
            amount,
            max_parts,
            in_use: Vec::new(),
            hints: Vec::new(),
            final_cltv: u32::from(MIN_FINAL_CLTV_EXPIRY_DELTA).saturating_add(FINAL_CLTV_OFFSET),
            max_fee,
            max_total_cltv: DEFAULT_MAX_TOTAL_CLTV,
            final_payload_len: FINAL_PAYLOAD_LEN,
            avoid: AvoidList::new(),
        }
    }

    /// Answers the question by this project's router, from what the graph says alone.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn answer(
        &self,
        graph: &NetworkGraph,
        payer: NodeId,
        first_hops: &[FirstHop],
        now: Timestamp,
    ) -> Result<Plan, NoRoute> {
        self.ask(payer, first_hops, now, |request| {
            find_plan(graph, request, self.max_parts)
        })
    }

    /// Answers the question by a router that remembers how earlier attempts ended.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn answer_by(
        &self,
        router: &mut Router,
        graph: &Arc<NetworkGraph>,
        payer: NodeId,
        first_hops: &[FirstHop],
        now: Timestamp,
    ) -> Result<Plan, NoRoute> {
        self.ask(payer, first_hops, now, |request| {
            router.plan(graph, request, self.max_parts)
        })
    }

    /// Answers the question as [`RouteQuestion::answer_by`], and says why the answer is what it is.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn explain_by(
        &self,
        router: &mut Router,
        graph: &Arc<NetworkGraph>,
        payer: NodeId,
        first_hops: &[FirstHop],
        now: Timestamp,
    ) -> Result<Explanation, NoRoute> {
        self.ask(payer, first_hops, now, |request| {
            let plan = router.plan(graph, request, self.max_parts)?;
            Ok(router.explain(graph, request, &plan))
        })
    }

    /// Asks a router in its own terms.
    fn ask<T>(
        &self,
        payer: NodeId,
        first_hops: &[FirstHop],
        now: Timestamp,
        router: impl FnOnce(&RouteRequest<'_>) -> T,
    ) -> T {
        router(&RouteRequest {
            hints: &self.hints,
            max_fee: self.max_fee,
            max_total_cltv: self.max_total_cltv,
            final_payload_len: self.final_payload_len,
            avoid: &[&self.avoid],
            in_use: &self.in_use,
            cost: CostModel::BALANCED,
            now,
            ..RouteRequest::new(payer, first_hops, self.payee, self.amount, self.final_cltv)
        })
    }
}

/// What became of an HTLC of ours, told to whoever finds routes: it says which channels could carry what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReport {
    /// We.
    pub payer: NodeId,
    /// The hops that it says something of: those up to the node that failed it, and one more if that
    /// node's channel had no room.
    pub hops: Vec<RouteHop>,
    /// How it ended over them.
    pub outcome: RouteOutcome,
    /// When.
    pub at: Timestamp,
}

/// An HTLC to be added to a channel of ours, in this very step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHtlc {
    /// For the channel's record; names the HTLC in all later inputs.
    pub link: HtlcLink,
    /// The channel, as the first hops named it.
    pub short_channel_id: ShortChannelId,
    /// What it is worth.
    pub amount: Msat,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// When it times out.
    pub cltv_expiry: CltvExpiry,
    /// The onion.
    pub onion: Box<PaymentPacket>,
}

/// What payments ask of the node.
#[derive(Clone, Debug)]
pub enum PaymentOutput {
    /// Find a route; answer by [`Outgoing::route_answered`](crate::Outgoing::route_answered).
    FindRoute(Box<RouteQuestion>),
    /// Add an HTLC in this step; answer by [`Outgoing::htlc_refused`](crate::Outgoing::htlc_refused) if
    /// the channel does not take it.
    AddHtlc(NewHtlc),
    /// Tell the router how an HTLC ended.
    Learn(Box<RouteReport>),
    /// The payment has ended: an event for the user. Its record is in the batch.
    Done(PaymentHash),
}

/// Why a channel did not take an HTLC of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All slots are taken: wait for one.
    TooManyHtlcs,
    /// The balance does not suffice now, or a limit of value in flight is reached.
    InsufficientBalance,
    /// The channel can't be used now, or not at all.
    Unusable,
}
