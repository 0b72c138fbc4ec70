//! What a failure teaches: which channel or node to leave out next time, and when to give up.

use alloc::vec::Vec;

use fulmen_gossip::Direction;
use fulmen_onion::FailureMessage;
use fulmen_router::{AvoidList, RouteHop};
use fulmen_types::{Msat, NodeId, ShortChannelId, Timestamp};

use crate::record::FailReason;

/// A channel that could not carry an amount is left out for this amount for so long.
const TEMPORARY_MILLIS: u64 = 5_000;
/// What is gone for good by its own word is left out for so long: long enough for one payment, short enough
/// that a liar does not hide a channel for ever.
const PERMANENT_MILLIS: u64 = 600_000;

/// The lesson of one failure.
#[derive(Debug, Default)]
pub(crate) struct Lesson {
    channels: Vec<(ShortChannelId, Direction, Msat, u64)>,
    nodes: Vec<(NodeId, u64)>,
    /// Trying again makes no sense.
    pub(crate) is_final: Option<FailReason>,
}

impl Lesson {
    /// Nobody on the way can have made the failure: some hop spoiled it, and the payer can't tell which. All
    /// channels of the way but our own are left out a while.
    pub(crate) fn unreadable(payer: &NodeId, hops: &[RouteHop]) -> Self {
        let mut lesson = Self::default();
        let first = usize::from(hops.len() > 1);
        for index in first..hops.len() {
            lesson.channel(payer, hops, index, Msat::ZERO, TEMPORARY_MILLIS);
        }
        lesson
    }

    /// Our own channel or the peer at its end spoiled it.
    pub(crate) fn first_hop(payer: &NodeId, hops: &[RouteHop]) -> Self {
        let mut lesson = Self::default();
        lesson.channel(payer, hops, 0, Msat::ZERO, TEMPORARY_MILLIS);
        lesson
    }

    pub(crate) fn apply(&self, avoid: &mut AvoidList, now: Timestamp) {
        for (channel, direction, amount, millis) in &self.channels {
            avoid.avoid_channel((*channel, *direction), *amount, now.plus_millis(*millis));
        }
        for (node, millis) in &self.nodes {
            avoid.avoid_node(*node, now.plus_millis(*millis));
        }
    }

    fn channel(&mut self, payer: &NodeId, hops: &[RouteHop], index: usize, from: Msat, millis: u64) {
        let Some(hop) = hops.get(index) else { return };
        let source = index.checked_sub(1).and_then(|i| hops.get(i)).map_or(payer, |h| &h.node_id);
        let direction = Direction::between(source, &hop.node_id);
        self.channels.push((hop.short_channel_id, direction, from, millis));
    }
}

/// The lesson of `message`, said by the node that hop `index` leads to.
pub(crate) fn learn(
    payer: &NodeId,
    hops: &[RouteHop],
    index: usize,
    message: &FailureMessage,
) -> Lesson {
    use FailureMessage as F;
    let mut lesson = Lesson::default();
    let node = hops.get(index).map(|hop| hop.node_id);
    let is_payee = index + 1 == hops.len();
    let give_up = FailReason::Failure {
        node,
        hop: u8::try_from(index).unwrap_or(u8::MAX),
        code: message.code(),
        name: message.name().into(),
    };
    if is_payee {
        match message {
            // The block height moved on between us and the payee, or a part came too late: try again.
            F::FinalIncorrectCltvExpiry { .. } | F::MppTimeout | F::TemporaryNodeFailure => {
                lesson.channel(payer, hops, index, Msat::ZERO, TEMPORARY_MILLIS);
            }
            // BOLT 4: the payee's word is final.
            _ => lesson.is_final = Some(give_up),
        }
        return lesson;
    }
    let next = index + 1;
    let amount = hops.get(next).map_or(Msat::ZERO, |hop| hop.amount);
    match message {
        F::TemporaryChannelFailure { .. } => {
            lesson.channel(payer, hops, next, amount, TEMPORARY_MILLIS);
        }
        F::AmountBelowMinimum { .. }
        | F::FeeInsufficient { .. }
        | F::IncorrectCltvExpiry { .. }
        | F::ExpiryTooSoon { .. }
        | F::ChannelDisabled { .. } => {
            lesson.channel(payer, hops, next, Msat::ZERO, TEMPORARY_MILLIS);
        }
        F::PermanentChannelFailure | F::RequiredChannelFeatureMissing | F::UnknownNextPeer => {
            lesson.channel(payer, hops, next, Msat::ZERO, PERMANENT_MILLIS);
        }
        // BOLT 4, BADONION codes: the node before reports for the one after it.
        F::InvalidOnionVersion { .. }
        | F::InvalidOnionHmac { .. }
        | F::InvalidOnionKey { .. }
        | F::InvalidOnionBlinding { .. } => {
            lesson.channel(payer, hops, next, Msat::ZERO, TEMPORARY_MILLIS);
        }
        F::TemporaryNodeFailure => lesson.nodes.extend(node.map(|n| (n, TEMPORARY_MILLIS))),
        F::PermanentNodeFailure | F::RequiredNodeFeatureMissing | F::InvalidOnionPayload { .. } => {
            lesson.nodes.extend(node.map(|n| (n, PERMANENT_MILLIS)));
        }
        F::ExpiryTooFar => lesson.nodes.extend(node.map(|n| (n, TEMPORARY_MILLIS))),
        // A forwarding node that speaks as if it were the payee, or in codes nobody knows.
        F::IncorrectOrUnknownPaymentDetails { .. }
        | F::FinalIncorrectCltvExpiry { .. }
        | F::FinalIncorrectHtlcAmount { .. }
        | F::MppTimeout => lesson.nodes.extend(node.map(|n| (n, PERMANENT_MILLIS))),
        F::Unknown { .. } => {
            if message.is_node_failure() {
                lesson.nodes.extend(node.map(|n| (n, TEMPORARY_MILLIS)));
            } else {
                lesson.channel(payer, hops, next, Msat::ZERO, TEMPORARY_MILLIS);
            }
        }
    }
    lesson
}
