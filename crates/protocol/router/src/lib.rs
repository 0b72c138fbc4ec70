//! Path finding over an immutable graph snapshot.
//!
//! [`find_route`] gives the cheapest single path within limits of fee, blocks and hops, exact in fees
//! and expiries, from the payer's real liquidity to the payee, by route hints and blinded paths too.
//! A [`Router`] remembers besides: it learns from attempts and probes which channels can carry what
//! ([`Liquidity`]), weighs fees, time and the risk of failure by a [`CostModel`], and splits an amount
//! over several paths by the cheapest flow over uncertain balances ([`Router::plan`]). It can tell why a
//! plan is as it is ([`Router::explain`]). The same question always gets the same answer.
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
mod cost;
mod explain;
mod flow;
mod guide;
mod layer;
mod liquidity;
mod nats;
mod problem;
mod request;
mod router;
mod search;

use fulmen_gossip::NetworkGraph;

pub use avoid::{AvoidList, ChannelDirection};
pub use cost::{Cost, CostModel, Probability};
pub use explain::{Explanation, HopExplanation, PartExplanation, Source};
pub use layer::Layer;
pub use liquidity::{Liquidity, LiquidityFileError, Observation, RouteOutcome};
pub use request::{
    BlindedTail, DEFAULT_MAX_HOPS, DEFAULT_MAX_TOTAL_CLTV, FINAL_PAYLOAD_LEN, FirstHop, HintHop,
    MAX_HOPS, NoRoute, Plan, Route, RouteHop, RouteRequest,
};
pub use router::Router;

/// Finds the cheapest path for one HTLC.
///
/// Of equally cheap paths the one with the nearer expiry wins, then the one with fewer hops.
///
/// # Errors
/// A [`NoRoute`] that says which limit stands in the way.
pub fn find_route(graph: &NetworkGraph, request: &RouteRequest<'_>) -> Result<Route, NoRoute> {
    router::check_request(request, router::Parts::One)?;
    let mut problem = problem::Problem::new(graph, request, None);
    router::single(&mut search::Search::default(), &mut problem)
        .map(|found| router::route(found, request.amount))
}

/// Plans a payment in up to `max_parts` HTLCs without anything learned; see [`Router::plan`].
///
/// # Errors
/// A [`NoRoute`] that says which limit stands in the way.
pub fn find_plan(
    graph: &NetworkGraph,
    request: &RouteRequest<'_>,
    max_parts: u16,
) -> Result<Plan, NoRoute> {
    router::plan_once(graph, request, max_parts)
}
