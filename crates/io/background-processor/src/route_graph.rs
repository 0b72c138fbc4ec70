//! The graph that routes are found in.

use std::sync::Arc;

use fulmen_gossip::NetworkGraph;
use fulmen_types::Timestamp;

/// From so many channels on a graph is large: after a change its tables are copied and its index is made anew,
/// which takes milliseconds where a route takes a fraction of one.
const LARGE: usize = 5_000;
/// How old a large graph may be. What peers said within this time a route can do without; a payment that finds
/// none asks again later.
const FRESH_MILLIS: u64 = 1_000;

/// The last graph that was used.
#[derive(Debug, Default)]
pub(crate) struct RouteGraph(Option<(Timestamp, Arc<NetworkGraph>)>);

impl RouteGraph {
    /// The graph for a route that is asked for now; `current` makes the newest one.
    pub(crate) fn get(
        &mut self,
        now: Timestamp,
        current: impl FnOnce() -> Arc<NetworkGraph>,
    ) -> Arc<NetworkGraph> {
        if let Self(Some((taken, graph))) = self
            && graph.channel_count() >= LARGE
            && now.millis_since(*taken) < FRESH_MILLIS
        {
            return Arc::clone(graph);
        }
        let graph = current();
        self.0 = Some((now, Arc::clone(&graph)));
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulmen_netgen::{Config, Network};

    const NOW: Timestamp = Timestamp::new(1_000_000);

    /// Whether a graph of so many nodes is given again so many milliseconds later.
    fn is_same(nodes: usize, later: u64) -> bool {
        let graph = || Network::generate(&Config::with_nodes(1, nodes)).graph();
        let (first, second) = (graph(), graph());
        let mut routes = RouteGraph::default();
        assert!(Arc::ptr_eq(&routes.get(NOW, || Arc::clone(&first)), &first));
        let given = routes.get(NOW.plus_millis(later), || Arc::clone(&second));
        Arc::ptr_eq(&given, &first)
    }

    #[test]
    fn only_a_large_graph_is_used_for_a_while() {
        assert!(is_same(2_000, FRESH_MILLIS - 1));
        assert!(!is_same(2_000, FRESH_MILLIS));
        assert!(!is_same(100, 0));
    }
}
