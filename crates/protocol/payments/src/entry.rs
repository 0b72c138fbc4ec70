//! One payment of ours while it is tried: how far it is, what failed, the onion of its next attempt.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, Signing};
use fulmen_gossip::Direction;
use fulmen_onion::{ForwardPayload, HopPayload, PaymentData, ReceivePayload, build_payment_onion};
use fulmen_router::{AvoidList, ChannelDirection, FINAL_PAYLOAD_LEN, Route};
use fulmen_types::{
    BlockHeight, Msat, NodeId, Timestamp,
    record::{RecordKey, Space, WriteBatch},
};

use crate::{
    HtlcLink,
    payment::{
        Attempt, FINAL_CLTV_OFFSET, FailureReason, NewHtlc, PayRequest, Payment, RouteQuestion,
    },
};

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) payment: Payment,
    pub(crate) phase: Phase,
    pub(crate) avoid: AvoidList,
    /// Since when no path leads to the payee: one may be away for a moment only.
    no_path_since: Option<Timestamp>,
    /// Nothing more is tried: it fails with this once no HTLC is on its way any more.
    pub(crate) ending: Option<(FailureReason, String)>,
}

/// What happens with the part of a payment that is not on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A question to the router is open.
    Routing,
    /// To be tried again at a time; the number orders those of one time.
    Waiting {
        until: Timestamp,
        order: u64,
    },
    /// Nothing: all is on its way, or nothing more is tried.
    InFlight,
    Done,
}

/// Until the payment ends.
pub(crate) const FOREVER: Timestamp = Timestamp::new(u64::MAX);

pub(crate) enum SendError {
    /// A node whose id is no key.
    BadNode(NodeId),
    Onion(String),
}

/// How long a payment waits for a path to appear when there is none: a node before the payee may be away for
/// a moment.
const NO_PATH_MILLIS: u64 = 10_000;

/// What is split goes out in parts of this on average, or more: each costs a base fee and a place among the HTLCs
/// of all channels on its way, and a smaller one is soon dust.
const LEAST_PART: Msat = Msat::from_sat(10_000);

impl Entry {
    /// A payment that begins, or one from its record.
    pub(crate) const fn new(payment: Payment, phase: Phase) -> Self {
        Self {
            payment,
            phase,
            avoid: AvoidList::new(),
            no_path_since: None,
            ending: None,
        }
    }

    /// Whether to look again though no path leads to the payee.
    pub(crate) fn may_find_a_path(&mut self, now: Timestamp) -> bool {
        let since = *self.no_path_since.get_or_insert(now);
        now.millis_since(since) < NO_PATH_MILLIS
    }

    pub(crate) fn question(&self, now: Timestamp) -> Box<RouteQuestion> {
        let request = &self.payment.request;
        let mut avoid = self.avoid.clone();
        avoid.prune(now);
        // Type and length, and the longer length of the payload itself.
        let metadata_len = request
            .payment_metadata
            .as_ref()
            .map_or(0, |metadata| metadata.len().saturating_add(6));
        Box::new(RouteQuestion {
            payment_hash: request.payment_hash,
            attempt: self.payment.attempts + 1,
            payee: NodeId::from(request.payee),
            amount: self.payment.left(),
            max_parts: self.parts_left(),
            in_use: self.in_use(),
            hints: request.hints.clone(),
            final_cltv: request
                .min_final_cltv_expiry_delta
                .saturating_add(FINAL_CLTV_OFFSET),
            max_fee: request.max_fee.saturating_sub(self.payment.fee_of_parts()),
            max_total_cltv: request.max_total_cltv,
            final_payload_len: FINAL_PAYLOAD_LEN
                .saturating_add(u16::try_from(metadata_len).unwrap_or(u16::MAX)),
            avoid,
        })
    }

    /// How many more HTLCs may be on their way at once.
    fn parts_left(&self) -> u16 {
        let request = &self.payment.request;
        let attempts = request.max_attempts.saturating_sub(self.payment.attempts);
        let parts = u16::try_from(self.payment.parts.len()).unwrap_or(u16::MAX);
        let worth_it = self.payment.left().to_msat() / LEAST_PART.to_msat();
        request
            .max_parts
            .saturating_sub(parts)
            .min(u16::try_from(attempts).unwrap_or(u16::MAX))
            .min(u16::try_from(worth_it).unwrap_or(u16::MAX))
            .max(1)
    }

    /// What the HTLCs on their way take of channels that are not ours.
    fn in_use(&self) -> Vec<(ChannelDirection, Msat)> {
        let hops = self.payment.parts.iter().flat_map(|part| {
            part.hops.windows(2).filter_map(|pair| {
                let [from, to] = pair else { return None };
                let direction = Direction::between(&from.node_id, &to.node_id);
                Some(((to.short_channel_id, direction), to.amount))
            })
        });
        hops.collect()
    }

    pub(crate) fn limit_reached(&self, now: Timestamp) -> Option<String> {
        let payment = &self.payment;
        let limit = if now >= payment.request.retry_until {
            "the time to try is over"
        } else if payment.attempts >= payment.request.max_attempts {
            "all attempts are used up"
        } else {
            return None;
        };
        Some(if payment.last_failure.is_empty() {
            limit.to_string()
        } else {
            alloc::format!("{limit}; the last attempt: {}", payment.last_failure)
        })
    }

    pub(crate) fn send<C: Signing>(
        &mut self,
        secp: &Secp256k1<C>,
        route: Route,
        session_key: SecretKey,
        tip: BlockHeight,
    ) -> Result<NewHtlc, SendError> {
        let first = *route
            .hops
            .first()
            .ok_or_else(|| SendError::Onion("the route has no hop".to_string()))?;
        let hops = onion_hops(&route, &self.payment.request, tip)?;
        let payment_hash = self.payment.request.payment_hash;
        let onion = build_payment_onion(secp, &session_key, &hops, &payment_hash)
            .map_err(|error| SendError::Onion(error.to_string()))?;
        let number = self.payment.attempts + 1;
        self.payment.attempts = number;
        self.no_path_since = None;
        self.payment.parts.push(Attempt {
            number,
            amount: route.amount,
            height: tip,
            hops: route.hops,
            session_key,
        });
        Ok(NewHtlc {
            link: HtlcLink::Payment {
                payment_hash,
                attempt: number,
            },
            short_channel_id: first.short_channel_id,
            amount: first.amount,
            payment_hash,
            cltv_expiry: first.cltv_expiry(tip),
            onion: Box::new(onion.packet),
        })
    }

    /// Nothing more is tried: what was kept for that goes.
    pub(crate) fn finish(&mut self) {
        self.phase = Phase::Done;
        self.avoid = AvoidList::new();
    }
}

/// The payload of each hop: forwarders are told the next hop's channel, amount and expiry.
fn onion_hops(
    route: &Route,
    request: &PayRequest,
    tip: BlockHeight,
) -> Result<Vec<(PublicKey, HopPayload)>, SendError> {
    let mut hops = Vec::with_capacity(route.hops.len());
    for (i, hop) in route.hops.iter().enumerate() {
        let key = hop
            .node_id
            .to_public_key()
            .map_err(|_| SendError::BadNode(hop.node_id))?;
        let payload = match route.hops.get(i + 1) {
            Some(next) => HopPayload::Forward(ForwardPayload {
                short_channel_id: next.short_channel_id,
                amt_to_forward: next.amount,
                outgoing_cltv_value: next.cltv_expiry(tip),
            }),
            None => HopPayload::Receive(ReceivePayload {
                amt_to_forward: hop.amount,
                outgoing_cltv_value: hop.cltv_expiry(tip),
                payment_data: Some(PaymentData {
                    payment_secret: request.payment_secret,
                    // A single HTLC may carry more, when a channel on the way has a minimum above.
                    total_msat: if route.amount == request.amount {
                        hop.amount
                    } else {
                        request.amount
                    },
                }),
                payment_metadata: request.payment_metadata.clone(),
                keysend_preimage: None,
                custom_tlvs: Vec::new(),
            }),
        };
        hops.push((key, payload));
    }
    Ok(hops)
}

pub(crate) fn write(payment: &Payment, batch: &mut WriteBatch) {
    let key = RecordKey::new(Space::Payment, *payment.request.payment_hash.as_bytes());
    batch.put(key, crate::record::encode(payment));
}
