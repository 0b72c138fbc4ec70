//! Networks that look like the main one: as many nodes, channels of such sizes, fees and limits of such
//! distributions, from a seed. For tests and benchmarks of gossip and path finding.
//!
//! The same seed gives the same network on machines whose floating point library is the same. Keys are
//! derived from the seed, so every message can be signed when it is asked for.
//!
//! ```
//! use fulmen_netgen::{Config, Network};
//!
//! let network = Network::generate(&Config::with_nodes(1, 300));
//! let graph = network.graph();
//! assert_eq!(graph.node_count(), 300);
//! let announcement = network.channel_announcement(0);
//! let secp = bitcoin::secp256k1::Secp256k1::verification_only();
//! fulmen_gossip::verify_channel_announcement(&secp, &announcement).unwrap();
//! ```

mod rng;
mod shape;
mod sign;
mod terms;

use std::sync::Arc;

use bitcoin::{
    Amount,
    constants::ChainHash,
    secp256k1::{Secp256k1, SignOnly},
};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewChannel, NewNodeDetails, Policy};
use fulmen_types::{Feature, Features, NodeId, ShortChannelId};

pub use rng::Rng;

/// Nodes of the main network in February 2026.
pub const MAINNET_NODES: usize = 17_324;
/// Channels of the main network in February 2026.
pub const MAINNET_CHANNELS: usize = 50_808;

/// What network to make.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything follows from it.
    pub seed: u64,
    /// At least 20. Channels follow: 2.93 per node.
    pub nodes: usize,
    /// The chain that it is on.
    pub chain_hash: ChainHash,
}

impl Config {
    /// As large as the main network.
    pub const fn mainnet(seed: u64) -> Self {
        Self::with_nodes(seed, MAINNET_NODES)
    }

    /// As large as one likes.
    pub const fn with_nodes(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            chain_hash: ChainHash::REGTEST,
        }
    }
}

/// A channel and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its place in the chain.
    pub short_channel_id: ShortChannelId,
    /// Indices into [`Network::nodes`]: of `node_id_1`, then of `node_id_2`.
    pub nodes: [u32; 2],
    /// The funding output's value.
    pub capacity: Amount,
    /// The latest update of each end, if there is any.
    pub policies: [Option<Policy>; 2],
}

/// A network.
pub struct Network {
    /// The chain that it is on.
    pub chain_hash: ChainHash,
    /// The nodes, in no order.
    pub nodes: Vec<NodeId>,
    /// The channels, in the order of their short ids.
    pub channels: Vec<Channel>,
    seed: u64,
    secp: Secp256k1<SignOnly>,
}

impl Network {
    /// Makes the network of a configuration.
    ///
    /// # Panics
    /// With less than 20 nodes.
    pub fn generate(config: &Config) -> Self {
        assert!(config.nodes >= 20, "a network has at least 20 nodes");
        let secp = Secp256k1::signing_only();
        let nodes: Vec<NodeId> = (0..config.nodes)
            .map(|node| sign::node_id(&secp, config.seed, node))
            .collect();
        let mut ends = shape::channels(config.nodes, &mut Rng::fork(config.seed, 1));
        Rng::fork(config.seed, 2).shuffle(&mut ends);
        for pair in &mut ends {
            pair.sort_by_key(|node| nodes[*node as usize]);
        }
        let capacities = terms::capacities(config.nodes, &ends, &mut Rng::fork(config.seed, 3));
        let policies = terms::policies(
            config.nodes,
            &ends,
            &capacities,
            &mut Rng::fork(config.seed, 4),
        );
        let mut rng = Rng::fork(config.seed, 5);
        let mut block = 500_000;
        let channels = ends
            .into_iter()
            .zip(capacities)
            .zip(policies)
            .map(|((nodes, capacity), policies)| {
                block += 1 + u32::try_from(rng.below(8)).unwrap_or(0);
                let tx_index = u32::try_from(rng.below(3_000)).unwrap_or(0);
                Channel {
                    short_channel_id: ShortChannelId::from_parts(block, tx_index, 0)
                        .expect("block and transaction fit their 24 bits"),
                    nodes,
                    capacity: Amount::from_sat(capacity),
                    policies,
                }
            })
            .collect();
        Self {
            chain_hash: config.chain_hash,
            nodes,
            channels,
            seed: config.seed,
            secp,
        }
    }

    /// What every channel says that it supports.
    pub fn channel_features() -> Features {
        Features::empty()
    }

    /// What every node says that it supports.
    pub fn node_features() -> Features {
        Features::empty()
            .with_required(Feature::VarOnion)
            .with_required(Feature::PaymentSecret)
            .with_optional(Feature::BasicMpp)
    }

    /// A writer that holds the whole network, announced nodes too.
    ///
    /// # Panics
    /// Never: what the generator makes is a graph.
    pub fn writer(&self) -> GraphWriter {
        let mut writer = GraphWriter::new(self.chain_hash);
        for channel in &self.channels {
            let [node_1, node_2] = channel.nodes.map(|node| self.nodes[node as usize]);
            writer
                .add_channel(&NewChannel {
                    short_channel_id: channel.short_channel_id,
                    node_1,
                    node_2,
                    capacity: Some(channel.capacity),
                    features: Self::channel_features(),
                })
                .expect("short ids are all different and nodes are in order");
            for (bit, policy) in (0u8..).zip(&channel.policies) {
                if let Some(policy) = policy {
                    writer
                        .update_policy(
                            channel.short_channel_id,
                            Direction::from_channel_flags(bit),
                            *policy,
                        )
                        .expect("the channel was just added");
                }
            }
        }
        for index in 0..self.nodes.len() {
            let Some(details) = self.unsigned_node_announcement(index) else {
                continue;
            };
            let mut addresses = Vec::new();
            for address in &details.addresses {
                fulmen_types::codec::Encode::encode(address, &mut addresses);
            }
            let rgb = details.rgb_color;
            writer
                .update_node(
                    &details.node_id,
                    &NewNodeDetails {
                        timestamp: details.timestamp,
                        features: &details.features,
                        rgb_color: [rgb.red, rgb.green, rgb.blue],
                        alias: *details.alias.as_bytes(),
                        addresses: &addresses,
                    },
                )
                .expect("every node has a channel");
        }
        writer
    }

    /// The network as a graph.
    pub fn graph(&self) -> Arc<NetworkGraph> {
        self.writer().snapshot()
    }
}
