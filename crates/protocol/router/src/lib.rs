//! Path finding over an immutable graph snapshot.
//!
//! [`find_route`] gives the cheapest single path within limits of fee, blocks and hops, exact in fees
//! and expiries, from the payer's real liquidity to the payee, by route hints too. The same question
//! always gets the same answer. It knows nothing of payments, retries or time beyond what the request
//! says; splitting over several paths is not here yet.
//!
//! ```
//! use bitcoin::constants::ChainHash;
//! use fulmen_gossip::NetworkGraph;
//! use fulmen_router::{FirstHop, RouteRequest, find_route};
//! use fulmen_types::{Msat, NodeId, ShortChannelId};
//!
//! let (we, peer) = (NodeId::new([2; 33]), NodeId::new([3; 33]));
//! let channels = [FirstHop {
//!     short_channel_id: ShortChannelId::from_u64(1),
//!     peer,
//!     spendable: Msat::from_sat(1_000),
//!     htlc_minimum: Msat::new(1),
//! }];
//! let graph = NetworkGraph::empty(ChainHash::REGTEST);
//! let request = RouteRequest::new(we, &channels, peer, Msat::from_sat(10), 18);
//! let route = find_route(&graph, &request).unwrap();
//! assert_eq!((route.hops.len(), route.fee), (1, Msat::ZERO));
//! ```
#![no_std]
extern crate alloc;

mod avoid;
mod request;
mod search;

use fulmen_gossip::NetworkGraph;
use fulmen_types::Msat;

pub use avoid::{AvoidList, ChannelDirection};
pub use request::{
    DEFAULT_MAX_HOPS, DEFAULT_MAX_TOTAL_CLTV, FINAL_PAYLOAD_LEN, FirstHop, HintHop, MAX_HOPS,
    NoRoute, Route, RouteHop, RouteRequest,
};
use search::{Found, Problem};

/// Finds the cheapest path for one HTLC.
///
/// Of equally cheap paths the one with the nearer expiry wins, then the one with fewer hops.
///
/// # Errors
/// A [`NoRoute`] that says which limit stands in the way.
pub fn find_route(graph: &NetworkGraph, request: &RouteRequest<'_>) -> Result<Route, NoRoute> {
    check_request(request)?;
    let mut problem = Problem::new(graph, request);
    if !problem.knows_payee() {
        return Err(NoRoute::PayeeUnknown);
    }
    let broken = match problem.cheapest() {
        Some(found) => match broken_limit(&found, request) {
            None => return Ok(route(found, request)),
            // The cheapest path is too dear: so is every other.
            Some(limit @ NoRoute::FeeTooHigh { .. }) if !problem.has_penalties() => {
                return Err(limit);
            }
            Some(limit) => limit,
        },
        None if problem.avoids_anything() => NoRoute::AllPathsFailed,
        None => return Err(NoRoute::NoPath),
    };
    if (broken != NoRoute::AllPathsFailed || problem.has_penalties())
        && let Some(found) = problem.cheapest_within_limits()
    {
        return Ok(route(found, request));
    }
    if broken == NoRoute::AllPathsFailed {
        problem.forget_failures();
        if problem.cheapest().is_none() {
            return Err(NoRoute::NoPath);
        }
    }
    Err(broken)
}

fn check_request(request: &RouteRequest<'_>) -> Result<(), NoRoute> {
    if request.amount == Msat::ZERO {
        return Err(NoRoute::ZeroAmount);
    }
    if request.payee == request.payer {
        return Err(NoRoute::PayeeIsPayer);
    }
    let spendable = request
        .first_hops
        .iter()
        .map(|hop| hop.spendable)
        .max()
        .ok_or(NoRoute::NoUsableChannel)?;
    if spendable < request.amount {
        return Err(NoRoute::InsufficientLiquidity { spendable });
    }
    Ok(())
}

fn route(found: Found, request: &RouteRequest<'_>) -> Route {
    let total = found.hops.first().map_or(request.amount, |hop| hop.amount);
    Route {
        hops: found.hops,
        amount: request.amount,
        fee: total.saturating_sub(request.amount),
    }
}

/// The first limit that a path breaks.
fn broken_limit(found: &Found, request: &RouteRequest<'_>) -> Option<NoRoute> {
    let first = found.hops.first()?;
    let fee = first.amount.saturating_sub(request.amount);
    if fee > request.max_fee {
        return Some(NoRoute::FeeTooHigh {
            cheapest: fee,
            max_fee: request.max_fee,
        });
    }
    if first.cltv_from_tip > request.max_total_cltv {
        return Some(NoRoute::CltvTooLong {
            needed: first.cltv_from_tip,
            max_total_cltv: request.max_total_cltv,
        });
    }
    let max_hops = usize::from(request.max_hops.min(MAX_HOPS));
    if found.hops.len() > max_hops || found.onion > request::ONION_LEN {
        return Some(NoRoute::TooManyHops);
    }
    None
}
