//! Snapshots of the network for a running node.

use std::sync::Arc;

use fulmen_background_processor::{Clock, NodeHandle};
use fulmen_gossip::{UnsignedApplied, UnsignedGraph};
use fulmen_node::Node;
use fulmen_rapid_gossip_sync::Target;
use fulmen_types::Timestamp;

/// The graph of a running node.
pub(crate) struct NodeGraph {
    pub(crate) handle: NodeHandle<Node>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Target for NodeGraph {
    async fn seen_until(&self) -> Option<u32> {
        let asked = self.handle.query(|node| node.gossip().unsigned_until());
        asked.await.ok()
    }

    async fn apply(&self, changes: UnsignedGraph) -> Option<UnsignedApplied> {
        self.handle.network_snapshot(changes).ok()?;
        let asked = self.handle.query(|node| node.gossip().unsigned_applied());
        asked.await.ok()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
