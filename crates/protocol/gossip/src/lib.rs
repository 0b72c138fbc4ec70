//! BOLT 7: the network graph and its synchronisation.
//!
//! [`NetworkGraph`] is an immutable snapshot of the announced network in dense arrays; [`GraphWriter`]
//! is its one writer. The graph is a cache: losing it costs a resync, never money. [`Gossip`] is the
//! machine that keeps it in step with the network: inputs in, outputs out, no IO. Signatures are checked
//! by pure functions ([`verify_channel_announcement`] and its like), either by the machine itself or before
//! on any core ([`Gossip::to_check`]); funding outputs through questions to the chain; and our own
//! announcements are signed by whoever holds our key.
//!
//! ```
//! use bitcoin::{Amount, constants::ChainHash};
//! use fulmen_gossip::{GraphWriter, NetworkGraph, NewChannel};
//! use fulmen_types::{Features, NodeId, ShortChannelId};
//!
//! let mut writer = GraphWriter::new(ChainHash::REGTEST);
//! writer.add_channel(&NewChannel {
//!     short_channel_id: "110x1x0".parse().unwrap(),
//!     node_1: NodeId::new([2; 33]),
//!     node_2: NodeId::new([3; 33]),
//!     capacity: Some(Amount::from_sat(1_000_000)),
//!     features: Features::empty(),
//! }).unwrap();
//! let graph = writer.snapshot();
//! assert_eq!((graph.node_count(), graph.channel_count()), (2, 1));
//! let read = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
//! assert!(read.channel("110x1x0".parse().unwrap()).is_some());
//! ```
#![no_std]
extern crate alloc;

mod checksum;
mod crc32c;
mod graph;
mod messages;
mod sync;
mod verify;

pub use crc32c::crc32c;
pub use graph::{
    ChangedTerms, ChannelIndex, ChannelInfo, Direction, Edge, EdgeIndex, GraphError,
    GraphFileError, GraphWriter, Kept, NetworkGraph, NewChannel, NewNodeDetails, NodeDetails,
    NodeIndex, Policy, Terms, UnsignedApplied, UnsignedChannel, UnsignedGraph, UnsignedNode,
    UnsignedPolicy, UnsignedRules, UnsignedTerms,
};
pub use messages::{SignedMessages, SignedTimes};
pub use sync::{
    Gossip, GossipConfig, GossipInput, GossipOutput, OwnChannel, OwnPolicy, ToCheck, Unsigned,
    UtxoAnswer, UtxoCheck,
};
pub use verify::{
    CheckedGossip, UncheckedGossip, VerifyError, funding_script, verify_channel_announcement,
    verify_channel_update, verify_node_announcement,
};
