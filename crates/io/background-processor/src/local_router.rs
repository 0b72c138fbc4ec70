//! The router of this project as a port: one that remembers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fulmen_gossip::NetworkGraph;
use fulmen_node::{RouteQuery, RouteReport};
use fulmen_router::{Explanation, Liquidity, LiquidityFileError, NoRoute, Plan};

use crate::ports::Router;

/// How many reports wait at most until somebody asks for a route: beyond, the oldest go unheard.
const WAITING_REPORTS: usize = 10_000;

/// The router of this project, over the node's own graph. It learns from every HTLC which channels can carry
/// what, and plans with that; what it knows outlives it through [`LocalRouter::to_bytes`].
#[derive(Default)]
pub struct LocalRouter {
    router: Mutex<fulmen_router::Router>,
    /// Taken in when the router is free.
    reports: Mutex<VecDeque<RouteReport>>,
}

impl std::fmt::Debug for LocalRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalRouter")
    }
}

impl LocalRouter {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on with what one before had learned.
    ///
    /// # Errors
    /// Why the bytes are of no use: drop them, and begin with [`LocalRouter::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LiquidityFileError> {
        let liquidity = Liquidity::from_bytes(bytes)?;
        Ok(Self {
            router: Mutex::new(fulmen_router::Router::with_liquidity(liquidity)),
            reports: Mutex::default(),
        })
    }

    /// What it has learned, with a checksum. Waits while a route is looked for: call it where that is no harm.
    pub fn to_bytes(&self, graph: &NetworkGraph) -> Vec<u8> {
        self.informed(graph).liquidity().to_bytes()
    }

    /// The way that a payment would take now, and why. Waits while another route is looked for, and may take a
    /// while itself: call it where that is no harm.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn explain(
        &self,
        query: &RouteQuery,
        graph: &Arc<NetworkGraph>,
    ) -> Result<Explanation, NoRoute> {
        query.explain_by(&mut self.informed(graph), graph)
    }

    /// The router, with all that was reported.
    fn informed(&self, graph: &NetworkGraph) -> MutexGuard<'_, fulmen_router::Router> {
        let mut router = held(&self.router);
        let reports = std::mem::take(&mut *held(&self.reports));
        for report in reports {
            let RouteReport {
                payer,
                hops,
                outcome,
                at,
            } = report;
            router.learn(graph, &payer, &hops, outcome, at);
        }
        router
    }
}

impl Router for LocalRouter {
    fn route(&self, query: &RouteQuery, graph: &Arc<NetworkGraph>) -> Result<Plan, NoRoute> {
        query.plan_by(&mut self.informed(graph), graph)
    }

    fn learn(&self, report: RouteReport) {
        let mut reports = held(&self.reports);
        if reports.len() >= WAITING_REPORTS {
            reports.pop_front();
        }
        reports.push_back(report);
    }
}

/// A search that has panicked leaves nothing behind that the next does not set anew.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
