//! Single paths and plans, with what was learned and memory that is used again.

use alloc::{sync::Arc, vec::Vec};

use fulmen_gossip::NetworkGraph;
use fulmen_types::{Msat, NodeId, Timestamp};

use crate::{
    Cost, Explanation, Liquidity, MAX_HOPS, NoRoute, Plan, Probability, Route, RouteHop,
    RouteOutcome, RouteRequest,
    explain::explain,
    flow::{Flow, Sent},
    problem::{Found, Knowledge, Problem, to_u32},
    request::ONION_LEN,
    search::Search,
};

/// A single path with at least this chance is taken without looking for a split: one in 20 fails.
const GOOD_CHANCE_NATS: u64 = 3_361;
/// A shift that leaves nothing of what a nat is worth.
const ALL_RISK: u32 = 42;
/// Into how many units a plan cuts the amount first, and at most.
const UNITS: u16 = 16;
const MOST_UNITS: u16 = 64;

/// Finds routes over graphs: learns which channels can carry what, and uses its memory again, so that a
/// query allocates next to nothing. The free function [`crate::find_route`] does without both.
///
/// The same history and the same question always give the same answer.
#[derive(Default)]
pub struct Router {
    liquidity: Liquidity,
    slots: Slots,
    memory: Memory,
}

/// What queries use again.
#[derive(Default)]
struct Memory {
    search: Search,
    flow: Flow,
}

/// Where the channels of a graph are in what was learned.
#[derive(Default)]
struct Slots {
    graph: Option<Arc<NetworkGraph>>,
    generation: u64,
    /// How many channels of what was learned have been looked up.
    seen: usize,
    known: Vec<u64>,
    slots: Vec<u32>,
}

impl Router {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with what was learned before.
    pub fn with_liquidity(liquidity: Liquidity) -> Self {
        Self {
            liquidity,
            ..Self::default()
        }
    }

    /// What was learned.
    pub const fn liquidity(&self) -> &Liquidity {
        &self.liquidity
    }

    /// What was learned, to be added to.
    pub const fn liquidity_mut(&mut self) -> &mut Liquidity {
        &mut self.liquidity
    }

    /// Learns from how an HTLC along a route ended; see [`Liquidity::observe_route`].
    pub fn learn(
        &mut self,
        graph: &NetworkGraph,
        payer: &NodeId,
        hops: &[RouteHop],
        outcome: RouteOutcome,
        now: Timestamp,
    ) {
        self.liquidity
            .observe_route(graph, payer, hops, outcome, now);
    }

    /// The best path for one HTLC by the request's cost model.
    ///
    /// # Errors
    /// A [`NoRoute`] that says which limit stands in the way.
    pub fn find_route(
        &mut self,
        graph: &Arc<NetworkGraph>,
        request: &RouteRequest<'_>,
    ) -> Result<Route, NoRoute> {
        check_request(request, Parts::One)?;
        self.slots.resolve(graph, &self.liquidity);
        let knowledge = self.slots.knowledge(&self.liquidity);
        let mut problem = Problem::new(graph, request, Some(knowledge));
        single(&mut self.memory.search, &mut problem).map(|found| route(found, request.amount))
    }

    /// The best way to send the amount in up to `max_parts` HTLCs: a single path where that is likely to
    /// succeed or cheaper, else the cheapest flow over uncertain balances.
    ///
    /// # Errors
    /// A [`NoRoute`] that says which limit stands in the way.
    pub fn plan(
        &mut self,
        graph: &Arc<NetworkGraph>,
        request: &RouteRequest<'_>,
        max_parts: u16,
    ) -> Result<Plan, NoRoute> {
        self.slots.resolve(graph, &self.liquidity);
        let knowledge = self.slots.knowledge(&self.liquidity);
        self.memory.plan(graph, request, knowledge, max_parts)
    }

    /// What a plan's routes cost and how likely they succeed, hop by hop, by what is known now.
    pub fn explain(
        &mut self,
        graph: &Arc<NetworkGraph>,
        request: &RouteRequest<'_>,
        plan: &Plan,
    ) -> Explanation {
        self.slots.resolve(graph, &self.liquidity);
        let knowledge = self.slots.knowledge(&self.liquidity);
        let problem = Problem::new(graph, request, Some(knowledge));
        explain(&problem, &self.liquidity, plan)
    }
}

impl Memory {
    fn plan(
        &mut self,
        graph: &NetworkGraph,
        request: &RouteRequest<'_>,
        knowledge: Knowledge<'_>,
        max_parts: u16,
    ) -> Result<Plan, NoRoute> {
        check_request(request, Parts::Many)?;
        let mut problem = Problem::new(graph, request, Some(knowledge));
        let fits_one = check_request(request, Parts::One);
        let one = match fits_one {
            Ok(()) => single_now(&mut self.search, &mut problem),
            Err(reason) => Err(reason),
        };
        let one = one.map(|found| evaluate(&problem, alloc::vec![found]));
        let is_good = one
            .as_ref()
            .is_ok_and(|plan| plan.success.nats() <= GOOD_CHANCE_NATS);
        let plan =
            if is_good || max_parts < 2 || problem.most_into_payee() < request.amount.to_msat() {
                one
            } else {
                self.plan_parts(&mut problem, one, max_parts)
            };
        plan.map_err(|reason| without_failures(&mut self.search, &mut problem, reason))
    }

    /// The cheapest flow where it fits, or the single path that was found.
    fn plan_parts(
        &mut self,
        problem: &mut Problem<'_>,
        one: Result<Plan, NoRoute>,
        max_parts: u16,
    ) -> Result<Plan, NoRoute> {
        let request = problem.request;
        let full = problem.weights;
        let mut best = one;
        // With less weight on the risk if the fee does not fit; without any, to see whether it can.
        let mut cheapest: Option<Plan> = None;
        for shift in [0, ALL_RISK, 3, 6] {
            problem.weights = full.with_less_risk(shift);
            let to_beat = match &best {
                Ok(one) => one.cost.total().to_msat(),
                Err(_) => u64::MAX,
            };
            let Some(parts) = self.split(problem, max_parts, to_beat) else {
                break;
            };
            problem.weights = full;
            let plan = evaluate(problem, parts);
            if plan.cost.fee <= request.max_fee {
                if shift == ALL_RISK {
                    cheapest = Some(plan);
                    continue;
                }
                cheapest = Some(plan);
                break;
            }
            if best.is_err() {
                best = Err(NoRoute::FeeTooHigh {
                    cheapest: plan.cost.fee,
                    max_fee: request.max_fee,
                });
            }
            if shift == ALL_RISK {
                break;
            }
        }
        match (cheapest, best) {
            (Some(plan), Ok(one)) if plan.cost.total() >= one.cost.total() => Ok(one),
            (Some(plan), _) => Ok(plan),
            (None, best) => best,
        }
    }

    /// Ways for all of the amount by the cheapest flow; none if that surely costs `to_beat` or more.
    fn split(
        &mut self,
        problem: &mut Problem<'_>,
        max_parts: u16,
        to_beat: u64,
    ) -> Option<Vec<Found>> {
        let amount = problem.request.amount.to_msat();
        let mut count = UNITS.min(max_parts.max(2));
        loop {
            let unit = amount.div_ceil(u64::from(count));
            match self.flow.run(problem, unit, count, to_beat) {
                Sent::TooDear => return None,
                Sent::NoRoom => {}
                Sent::Ways(parts) => {
                    let found = self.assemble(problem, parts, unit, max_parts);
                    if found.is_some() {
                        return found;
                    }
                }
            }
            count = count.checked_mul(2)?;
            if count > MOST_UNITS || u64::from(count) > amount {
                return None;
            }
        }
    }

    /// Exact amounts for the ways of a flow. What does not fit after all finds other ways.
    fn assemble(
        &mut self,
        problem: &mut Problem<'_>,
        parts: Vec<crate::flow::Part>,
        unit: u64,
        max_parts: u16,
    ) -> Option<Vec<Found>> {
        let max_parts = usize::from(max_parts);
        let mut left = problem.request.amount.to_msat();
        let mut found: Vec<Found> = Vec::new();
        for part in parts {
            if found.len() == max_parts {
                break;
            }
            let amount = left.min(unit.saturating_mul(u64::from(part.units)));
            if amount == 0 {
                break;
            }
            if let Some(way) = self.search.along(problem, &part.edges, amount) {
                occupy(problem, &way, Occupy::Add);
                left -= amount;
                found.push(way);
            }
        }
        let mut chunk = left;
        while left > 0 && found.len() < max_parts {
            chunk = chunk.min(left);
            let way = self
                .search
                .run(problem, chunk)
                .filter(|way| broken_limit(problem.request, way, chunk).is_none());
            match way {
                Some(way) => {
                    occupy(problem, &way, Occupy::Add);
                    left -= chunk;
                    found.push(way);
                }
                None if chunk > unit / 2 && chunk > 1 => chunk = chunk.div_ceil(2),
                None => break,
            }
        }
        for way in &found {
            occupy(problem, way, Occupy::Remove);
        }
        (left == 0).then_some(found)
    }
}

/// [`Router::plan`] without anything learned.
pub(crate) fn plan_once(
    graph: &NetworkGraph,
    request: &RouteRequest<'_>,
    max_parts: u16,
) -> Result<Plan, NoRoute> {
    let liquidity = Liquidity::new();
    let knowledge = Slots::default();
    let knowledge = knowledge.knowledge(&liquidity);
    Memory::default().plan(graph, request, knowledge, max_parts)
}

#[derive(Clone, Copy)]
enum Occupy {
    Add,
    Remove,
}

/// Notes what a way's HTLC takes of each of its edges.
fn occupy(problem: &mut Problem<'_>, way: &Found, what: Occupy) {
    for (edge, carried) in way.edges.iter().zip(&way.carried) {
        problem.set_in_use(*edge, |in_use| match what {
            Occupy::Add => in_use.saturating_add(*carried),
            Occupy::Remove => in_use.saturating_sub(*carried),
        });
    }
}

/// Whether one HTLC must carry everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    One,
    Many,
}

pub(crate) fn check_request(request: &RouteRequest<'_>, parts: Parts) -> Result<(), NoRoute> {
    if request.amount == Msat::ZERO {
        return Err(NoRoute::ZeroAmount);
    }
    if request.payee == request.payer {
        return Err(NoRoute::PayeeIsPayer);
    }
    let hops = request.first_hops.iter().map(|hop| hop.spendable);
    let spendable = match parts {
        Parts::One => hops.max(),
        Parts::Many => hops.reduce(Msat::saturating_add),
    };
    let spendable = spendable.ok_or(NoRoute::NoUsableChannel)?;
    if spendable < request.amount {
        return Err(NoRoute::InsufficientLiquidity { spendable });
    }
    Ok(())
}

/// The best single path within all limits.
pub(crate) fn single(search: &mut Search, problem: &mut Problem<'_>) -> Result<Found, NoRoute> {
    single_now(search, problem).map_err(|reason| without_failures(search, problem, reason))
}

/// The best single path within all limits by what is known now: [`NoRoute::AllPathsFailed`] may also mean that
/// there is no path at all.
fn single_now(search: &mut Search, problem: &mut Problem<'_>) -> Result<Found, NoRoute> {
    if !problem.knows_payee() {
        return Err(NoRoute::PayeeUnknown);
    }
    let request = problem.request;
    let amount = request.amount.to_msat();
    let weighs_more = problem.weighs_more_than_fees();
    let Some(best) = search.run(problem, amount) else {
        // What is preferred may need more than a channel farther up carries.
        return match weighs_more.then(|| cheapest(search, problem)).flatten() {
            Some(cheapest) => match search.run_within_limits(problem, amount) {
                Some(found) => Ok(found),
                None => within_limits(request, cheapest, amount),
            },
            None if problem.avoids_anything() => Err(NoRoute::AllPathsFailed),
            None => Err(NoRoute::NoPath),
        };
    };
    let limit = match within_limits(request, best, amount) {
        Ok(found) => return Ok(found),
        Err(limit) => limit,
    };
    let is_too_dear = matches!(limit, NoRoute::FeeTooHigh { .. });
    // The cheapest path is too dear: so is every other.
    if is_too_dear && !weighs_more {
        return Err(limit);
    }
    if let Some(found) = search.run_within_limits(problem, amount) {
        return Ok(found);
    }
    let cheapest = is_too_dear.then(|| cheapest(search, problem)).flatten();
    let reason = cheapest.and_then(|found| broken_limit(request, &found, amount));
    Err(reason.unwrap_or(limit))
}

/// The path with the least fee, whatever else it takes.
fn cheapest(search: &mut Search, problem: &mut Problem<'_>) -> Option<Found> {
    let amount = problem.request.amount.to_msat();
    problem.with_fees_only(|problem| search.run(problem, amount))
}

/// Tells paths that failed from paths that are not there.
fn without_failures(search: &mut Search, problem: &mut Problem<'_>, reason: NoRoute) -> NoRoute {
    if reason != NoRoute::AllPathsFailed {
        return reason;
    }
    problem.forget_failures();
    match cheapest(search, problem) {
        Some(_) => NoRoute::AllPathsFailed,
        None => NoRoute::NoPath,
    }
}

fn within_limits(request: &RouteRequest<'_>, found: Found, amount: u64) -> Result<Found, NoRoute> {
    match broken_limit(request, &found, amount) {
        None => Ok(found),
        Some(limit) => Err(limit),
    }
}

pub(crate) fn route(found: Found, amount: Msat) -> Route {
    Route {
        fee: Msat::new(found.total).saturating_sub(amount),
        hops: found.hops,
        amount,
        tail: found.tail,
    }
}

/// The first limit that a path breaks.
fn broken_limit(request: &RouteRequest<'_>, found: &Found, amount: u64) -> Option<NoRoute> {
    let fee = Msat::new(found.total.saturating_sub(amount));
    if fee > request.max_fee {
        return Some(NoRoute::FeeTooHigh {
            cheapest: fee,
            max_fee: request.max_fee,
        });
    }
    if found.cltv > request.max_total_cltv {
        return Some(NoRoute::CltvTooLong {
            needed: found.cltv,
            max_total_cltv: request.max_total_cltv,
        });
    }
    let max_hops = usize::from(request.max_hops.min(MAX_HOPS));
    if found.hop_count > max_hops || found.onion > ONION_LEN {
        return Some(NoRoute::TooManyHops);
    }
    None
}

/// What ways for the whole amount cost together, and their chance to succeed together.
fn evaluate(problem: &Problem<'_>, found: Vec<Found>) -> Plan {
    let request = problem.request;
    let whole = request.amount.to_msat();
    let mut edges: Vec<(u32, u64)> = Vec::new();
    let (mut fee, mut lock, mut bias) = (0u64, 0u64, 0u64);
    let mut left = whole;
    let mut parts = Vec::with_capacity(found.len());
    for way in found {
        let amount = left.min(way.amount);
        left -= amount;
        fee = fee.saturating_add(way.total.saturating_sub(amount));
        let blocks = way.cltv.saturating_sub(request.min_final_cltv_expiry_delta);
        lock = lock.saturating_add(problem.weights.lock_part(blocks, amount, whole));
        for (edge, carried) in way.edges.iter().zip(&way.carried) {
            bias = bias.saturating_add(problem.overridden(&problem.terms(*edge)).penalty());
            edges.push((*edge, *carried));
        }
        parts.push(route(way, Msat::new(amount)));
    }
    edges.sort_unstable();
    let mut nats = 0u64;
    for group in edges.chunk_by(|a, b| a.0 == b.0) {
        let terms = problem.terms(group[0].0);
        let carried = group.iter().map(|(_, amount)| *amount).sum();
        let known = problem.nats(&terms, &problem.overridden(&terms), carried);
        nats += u64::from(known.unwrap_or(crate::nats::MAX));
    }
    let cost = Cost {
        fee: Msat::new(fee),
        lock: Msat::new(lock),
        risk: Msat::new(problem.weights.risk_of(nats)),
        bias: Msat::new(bias),
    };
    Plan {
        parts,
        amount: request.amount,
        cost,
        success: Probability::from_nats(nats),
    }
}

impl Slots {
    /// Looks up channels that are new in the graph or in what was learned.
    fn resolve(&mut self, graph: &Arc<NetworkGraph>, liquidity: &Liquidity) {
        let is_same = self.generation == liquidity.generation()
            && self
                .graph
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, graph));
        if !is_same {
            self.graph = Some(Arc::clone(graph));
            self.generation = liquidity.generation();
            self.seen = 0;
            self.known.clear();
            self.known.resize(graph.channel_count() / 64 + 1, 0);
            self.slots.clear();
            self.slots.resize(graph.channel_count(), 0);
        }
        for short_channel_id in liquidity.channels_from(self.seen) {
            if let Some(channel) = graph.find_channel(short_channel_id) {
                let channel = channel.to_usize();
                self.slots[channel] = to_u32(self.seen);
                self.known[channel / 64] |= 1 << (channel % 64);
            }
            self.seen += 1;
        }
    }

    fn knowledge<'a>(&'a self, liquidity: &'a Liquidity) -> Knowledge<'a> {
        Knowledge {
            liquidity,
            known: &self.known,
            slots: &self.slots,
        }
    }
}
