//! What is asked of path finding, and what it answers.

use alloc::vec::Vec;
use core::fmt;

use fulmen_gossip::Direction;
use fulmen_types::{BlockHeight, CltvExpiry, Msat, NodeId, ShortChannelId, Timestamp};

use crate::{AvoidList, ChannelDirection, Cost, CostModel, Layer, Probability};

/// The most hops that are ever tried: a failure message is decrypted this many times (BOLT 4).
pub const MAX_HOPS: u8 = 27;
/// The usual limit of hops.
pub const DEFAULT_MAX_HOPS: u8 = 20;
/// The farthest an HTLC may expire from now (BOLT 4, `expiry_too_far`).
pub const DEFAULT_MAX_TOTAL_CLTV: u32 = 2_016;
/// A final payload with amount, expiry and payment secret, its length and HMAC counted.
pub const FINAL_PAYLOAD_LEN: u16 = 1 + 10 + 6 + 42 + 32;
/// The bytes of an onion's hop payloads (BOLT 4).
pub(crate) const ONION_LEN: u16 = 1_300;

/// A channel of ours that the payment can begin with, with what it can really carry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstHop {
    /// How the route names the channel: its short id, or an alias that is ours alone.
    pub short_channel_id: ShortChannelId,
    /// The peer.
    pub peer: NodeId,
    /// The most that one HTLC can carry: our balance less reserve and fees, within the peer's limits.
    pub spendable: Msat,
    /// The least that the peer accepts.
    pub htlc_minimum: Msat,
}

/// One hop of a route hint (BOLT 11, field `r`): a channel from `node_id` to the next hop's node, or
/// to the payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintHop {
    /// The node that forwards over the channel.
    pub node_id: NodeId,
    /// The channel, perhaps by an alias.
    pub short_channel_id: ShortChannelId,
    /// Fee for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee in millionths of the forwarded amount.
    pub fee_proportional_millionths: u32,
    /// Blocks that the node takes off the expiry.
    pub cltv_expiry_delta: u16,
}

/// A blinded path to the payee, as its maker sums it up (BOLT 4, route blinding; BOLT 12,
/// `blinded_payinfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlindedTail {
    /// Where it begins: the last node of the route.
    pub introduction_node: NodeId,
    /// Fee of the whole path for any HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee of the whole path in millionths of the amount.
    pub fee_proportional_millionths: u32,
    /// Blocks that the whole path takes off the expiry, the payee's own included.
    pub cltv_expiry_delta: u16,
    /// The least that it carries.
    pub htlc_minimum: Msat,
    /// The most that it carries.
    pub htlc_maximum: Msat,
    /// The bytes of the onion that its hops' payloads take, from the introduction node's on, each with
    /// its length and HMAC.
    pub payloads_len: u16,
}

/// What to find a route for.
#[derive(Clone, Debug)]
pub struct RouteRequest<'a> {
    /// We.
    pub payer: NodeId,
    /// Our usable channels; of equally good ones the earlier is taken.
    pub first_hops: &'a [FirstHop],
    /// Who is paid.
    pub payee: NodeId,
    /// What must arrive.
    pub amount: Msat,
    /// Private ways to the payee, each from a public node on.
    pub hints: &'a [Vec<HintHop>],
    /// Blinded ways to the payee. With any, `payee` is only a name for where they end, and
    /// `final_payload_len` does not count.
    pub tails: &'a [BlindedTail],
    /// Blocks that the payee asks for, and what is added for privacy.
    pub min_final_cltv_expiry_delta: u32,
    /// The most that forwarding may cost, in all.
    pub max_fee: Msat,
    /// The farthest that our HTLC may expire from the tip, in blocks.
    pub max_total_cltv: u32,
    /// The most hops; [`MAX_HOPS`] at most.
    pub max_hops: u8,
    /// The length of the payee's onion payload, with its length field and HMAC; see
    /// [`FINAL_PAYLOAD_LEN`].
    pub final_payload_len: u16,
    /// What failed before: not to be tried again while it is remembered.
    pub avoid: &'a [&'a AvoidList],
    /// What the user knows or wants.
    pub layers: &'a [&'a Layer],
    /// What HTLCs of ours that are on their way take of channels, first hops left out.
    pub in_use: &'a [(ChannelDirection, Msat)],
    /// How time and risk count beside fees.
    pub cost: CostModel,
    /// Now, for what is remembered.
    pub now: Timestamp,
}

impl<'a> RouteRequest<'a> {
    /// A request with the usual limits, without hints or memory, at any fee, for the least fee.
    pub const fn new(
        payer: NodeId,
        first_hops: &'a [FirstHop],
        payee: NodeId,
        amount: Msat,
        min_final_cltv_expiry_delta: u32,
    ) -> Self {
        Self {
            payer,
            first_hops,
            payee,
            amount,
            hints: &[],
            tails: &[],
            min_final_cltv_expiry_delta,
            max_fee: Msat::MAX_MONEY,
            max_total_cltv: DEFAULT_MAX_TOTAL_CLTV,
            max_hops: DEFAULT_MAX_HOPS,
            final_payload_len: FINAL_PAYLOAD_LEN,
            avoid: &[],
            layers: &[],
            in_use: &[],
            cost: CostModel::FEE_ONLY,
            now: Timestamp::new(0),
        }
    }
}

/// One hop of a route: a channel and the node at its far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHop {
    /// The channel that leads to the node.
    pub short_channel_id: ShortChannelId,
    /// The node that the HTLC arrives at.
    pub node_id: NodeId,
    /// What the HTLC over the channel carries.
    pub amount: Msat,
    /// How many blocks after the tip the HTLC over the channel expires.
    pub cltv_from_tip: u32,
}

impl RouteHop {
    /// The expiry of the HTLC over the channel when sent at `tip`.
    pub const fn cltv_expiry(&self, tip: BlockHeight) -> CltvExpiry {
        CltvExpiry::new(tip.to_u32().saturating_add(self.cltv_from_tip))
    }
}

/// A way for one HTLC from us to the payee, or to where a blinded path to it begins. It has at least one
/// hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// From our peer to the payee, or to the introduction node.
    pub hops: Vec<RouteHop>,
    /// What the payee is to get; the last hop carries more when its `htlc_minimum_msat` asks for it.
    pub amount: Msat,
    /// What it costs beyond the amount.
    pub fee: Msat,
    /// Which of the request's blinded paths it goes on by.
    pub tail: Option<usize>,
}

/// Ways for an amount, in one or more HTLCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// At least one; the amounts add up to the whole.
    pub parts: Vec<Route>,
    /// What the payee is to get.
    pub amount: Msat,
    /// What it costs, by reason.
    pub cost: Cost,
    /// The chance that all parts succeed.
    pub success: Probability,
}

impl Route {
    /// What our own HTLC carries.
    pub const fn total(&self) -> Msat {
        self.amount.saturating_add(self.fee)
    }

    /// The direction in which hop `index` uses its channel.
    pub fn direction(&self, payer: &NodeId, index: usize) -> Option<Direction> {
        let to = &self.hops.get(index)?.node_id;
        let from = match index.checked_sub(1) {
            Some(before) => &self.hops.get(before)?.node_id,
            None => payer,
        };
        Some(Direction::between(from, to))
    }
}

/// Why there is no route. The texts say what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// Nothing to pay.
    ZeroAmount,
    /// The payee is ourselves.
    PayeeIsPayer,
    /// No channel of ours can be used now.
    NoUsableChannel,
    /// Our channels can't carry the amount: each alone for a single path, all together for a plan.
    InsufficientLiquidity {
        /// The most that one channel, or all, can carry.
        spendable: Msat,
    },
    /// The payee is neither announced nor a peer, and there are no hints.
    PayeeUnknown,
    /// No channels with room for the amount lead to the payee.
    NoPath,
    /// Every path has failed lately.
    AllPathsFailed,
    /// The cheapest path costs more than allowed.
    FeeTooHigh {
        /// What the cheapest path costs.
        cheapest: Msat,
        /// What was allowed.
        max_fee: Msat,
    },
    /// Paths within the other limits lock up the money for longer than allowed.
    CltvTooLong {
        /// What the cheapest path takes, in blocks.
        needed: u32,
        /// What was allowed.
        max_total_cltv: u32,
    },
    /// Paths within the other limits have too many hops, or their onion would be too large.
    TooManyHops,
}

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroAmount => f.write_str("the amount is zero: say what to pay"),
            Self::PayeeIsPayer => f.write_str("the payee is this node itself"),
            Self::NoUsableChannel => f.write_str(
                "no channel is usable now: open one, or wait until its peer is connected",
            ),
            Self::InsufficientLiquidity { spendable } => write!(
                f,
                "our channels can't send the amount: the most that can be sent now is {spendable}"
            ),
            Self::PayeeUnknown => f.write_str(
                "the payee is not in the network graph: wait for gossip, or ask for an invoice with \
                 route hints",
            ),
            Self::NoPath => f.write_str(
                "no channels with room for the amount lead to the payee: try a smaller amount, or \
                 open a channel closer to it",
            ),
            Self::AllPathsFailed => {
                f.write_str("every path to the payee has failed lately: try again later")
            }
            Self::FeeTooHigh { cheapest, max_fee } => write!(
                f,
                "the cheapest path costs {cheapest}, above the limit of {max_fee}: raise the limit"
            ),
            Self::CltvTooLong {
                needed,
                max_total_cltv,
            } => write!(
                f,
                "the path would lock the money for {needed} blocks, above the limit of \
                 {max_total_cltv}"
            ),
            Self::TooManyHops => f.write_str("the payee is too many hops away"),
        }
    }
}

impl core::error::Error for NoRoute {}
