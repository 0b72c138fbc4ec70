//! Why a plan is as it is, for people to read.

use alloc::vec::Vec;

use fulmen_gossip::Direction;
use fulmen_types::{Msat, NodeId, ShortChannelId};

use crate::{
    Cost, Liquidity, Plan, Probability, Route, nats,
    problem::{Kind, Problem},
};

/// A plan in all detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What the plan costs, by reason.
    pub cost: Cost,
    /// The chance that all parts succeed, channels that several share counted together.
    pub success: Probability,
    /// One for each route.
    pub parts: Vec<PartExplanation>,
}

/// One route in all detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartExplanation {
    /// What the payee gets by it.
    pub amount: Msat,
    /// What the forwarders get.
    pub fee: Msat,
    /// How many blocks our HTLC is out at most.
    pub blocks: u32,
    /// The chance that this part by itself succeeds.
    pub success: Probability,
    /// From our channel on.
    pub hops: Vec<HopExplanation>,
}

/// One hop in all detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopExplanation {
    /// The channel.
    pub short_channel_id: ShortChannelId,
    /// Where the hop begins and who gets the fee: the payer for the first.
    pub from: NodeId,
    /// Where it ends.
    pub to: NodeId,
    /// What the HTLC over it carries.
    pub amount: Msat,
    /// What `from` takes.
    pub fee: Msat,
    /// Blocks that `from` takes off the expiry.
    pub cltv_expiry_delta: u32,
    /// The chance that the channel can carry it.
    pub success: Probability,
    /// What the chance rests on.
    pub source: Source,
}

/// What the chance of a hop rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The channel is ours: its balance is known.
    Own,
    /// A hint or a blinded path says that it can; nothing else is known.
    Stated,
    /// It was tried before: its balance is at least and at most so much.
    Learned {
        /// At least.
        least: Msat,
        /// At most.
        most: Msat,
    },
    /// Never tried: its capacity, and how balances are spread elsewhere.
    Capacity(Msat),
    /// The edge is not in the graph any more.
    Unknown,
}

pub(crate) fn explain(problem: &Problem<'_>, liquidity: &Liquidity, plan: &Plan) -> Explanation {
    Explanation {
        cost: plan.cost,
        success: plan.success,
        parts: plan
            .parts
            .iter()
            .map(|route| part(problem, liquidity, route))
            .collect(),
    }
}

fn part(problem: &Problem<'_>, liquidity: &Liquidity, route: &Route) -> PartExplanation {
    let mut from = problem.request.payer;
    let mut hops: Vec<HopExplanation> = Vec::with_capacity(route.hops.len());
    let mut before = None;
    let mut whole = 0u64;
    for hop in &route.hops {
        let terms = problem.find_edge(hop.short_channel_id, &from, &hop.node_id);
        let known = terms.map_or(Some(0), |terms| {
            problem.nats(&terms, &problem.overridden(&terms), hop.amount.to_msat())
        });
        let chance = u64::from(known.unwrap_or(nats::MAX));
        whole += chance;
        let channel = (
            hop.short_channel_id,
            Direction::between(&from, &hop.node_id),
        );
        let source = match terms.map(|terms| (terms.kind, terms.capacity)) {
            None => Source::Unknown,
            Some((Kind::FirstHop, _)) => Source::Own,
            Some((Kind::Hint | Kind::Tail(_), _)) => Source::Stated,
            Some((Kind::Announced, capacity)) => {
                match liquidity.bounds(channel, problem.request.now) {
                    Some((least, most)) => Source::Learned { least, most },
                    None => Source::Capacity(Msat::new(capacity)),
                }
            }
        };
        let (amount, cltv) = before.unwrap_or((hop.amount, hop.cltv_from_tip));
        hops.push(HopExplanation {
            short_channel_id: hop.short_channel_id,
            from,
            to: hop.node_id,
            amount: hop.amount,
            fee: amount.saturating_sub(hop.amount),
            cltv_expiry_delta: cltv.saturating_sub(hop.cltv_from_tip),
            success: Probability::from_nats(chance),
            source,
        });
        before = Some((hop.amount, hop.cltv_from_tip));
        from = hop.node_id;
    }
    PartExplanation {
        amount: route.amount,
        fee: route.fee,
        blocks: route.hops.first().map_or(0, |hop| hop.cltv_from_tip),
        success: Probability::from_nats(whole),
        hops,
    }
}
