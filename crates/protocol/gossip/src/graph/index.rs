//! What path finding needs beside the tables: the edges by their ends, made in one pass over the channels.

use alloc::{sync::Arc, vec::Vec};

use fulmen_types::Msat;

use super::{ChannelIndex, Direction, Edge, NetworkGraph, NodeIndex, Tables, has_unknown_even_bit};

impl NetworkGraph {
    pub(super) fn index(tables: Arc<Tables>) -> Self {
        let nodes = tables.nodes.len();
        let mut starts = alloc::vec![0u32; nodes + 1];
        let mut out_starts = alloc::vec![0u32; nodes + 1];
        let mut neighbours = Neighbours::new(nodes);
        let directions = [Direction::Forward, Direction::Backward];
        for channel in tables.channels.iter().filter(|c| c.is_usable()) {
            for direction in directions {
                if channel.usable_policy(direction).is_some() {
                    let (from, to) = (channel.end(direction.reverse()), channel.end(direction));
                    starts[to as usize] += 1;
                    out_starts[from as usize] += 1;
                    neighbours.note(from, to);
                }
            }
        }
        let sum = sum_up(&mut starts);
        sum_up(&mut out_starts);
        // Each start is now the end of its node's edges; filling from the back moves it to the front.
        let mut edges = alloc::vec![Edge::UNSET; sum as usize];
        for index in tables.channels_by_scid.iter().rev() {
            let channel = &tables.channels[*index as usize];
            if !channel.is_usable() {
                continue;
            }
            for direction in directions {
                let Some(policy) = channel.usable_policy(direction) else {
                    continue;
                };
                let start = &mut starts[channel.end(direction) as usize];
                *start -= 1;
                edges[*start as usize] = Edge {
                    htlc_maximum: policy.htlc_maximum,
                    htlc_minimum: policy.htlc_minimum,
                    capacity: match channel.capacity_sat {
                        0 => policy.htlc_maximum,
                        capacity => Msat::from_sat(capacity),
                    },
                    from: NodeIndex(channel.end(direction.reverse())),
                    to: NodeIndex(channel.end(direction)),
                    channel: ChannelIndex(*index),
                    fee_base_msat: policy.fee_base_msat,
                    fee_proportional_millionths: policy.fee_proportional_millionths,
                    cltv_expiry_delta: policy.cltv_expiry_delta.to_u16(),
                    direction,
                };
            }
        }
        let no_transit = tables
            .nodes
            .iter()
            .map(|node| has_unknown_even_bit(tables.slice(node.details, node.features_len)))
            .collect();
        let outgoing = outgoing(&mut out_starts, &edges);
        let dead_ends = neighbours.dead_ends();
        Self {
            tables,
            starts,
            edges,
            out_starts,
            outgoing,
            no_transit,
            dead_ends,
        }
    }
}

/// Makes counts the ends of each one's part of an array; gives the length of that.
fn sum_up(counts: &mut [u32]) -> u32 {
    let mut sum = 0u32;
    for count in counts {
        sum = sum.saturating_add(*count);
        *count = sum;
    }
    sum
}

/// The edges by the node they come from, each node's in rising order. `ends` of each node's part become
/// starts.
fn outgoing(ends: &mut [u32], edges: &[Edge]) -> Vec<u32> {
    let mut outgoing = alloc::vec![0; edges.len()];
    let count = u32::try_from(edges.len()).unwrap_or(u32::MAX);
    for (index, edge) in (0..count).rev().zip(edges.iter().rev()) {
        let start = &mut ends[edge.from.to_usize()];
        *start -= 1;
        outgoing[*start as usize] = index;
    }
    outgoing
}

/// For each node the one neighbour that edges come from, and the one that they go to.
struct Neighbours(Vec<[u32; 2]>);

impl Neighbours {
    const NOBODY: u32 = u32::MAX;
    const MANY: u32 = u32::MAX - 1;

    fn new(nodes: usize) -> Self {
        Self(alloc::vec![[Self::NOBODY; 2]; nodes])
    }

    fn note(&mut self, from: u32, to: u32) {
        let note = |seen: &mut u32, neighbour: u32| {
            *seen = match *seen {
                Self::NOBODY => neighbour,
                known if known == neighbour => known,
                _ => Self::MANY,
            };
        };
        note(&mut self.0[to as usize][0], from);
        note(&mut self.0[from as usize][1], to);
    }

    /// One bit per node that no way between others can go through.
    fn dead_ends(self) -> Vec<u64> {
        let mut dead_ends = alloc::vec![0u64; self.0.len() / 64 + 1];
        for (node, [from, to]) in self.0.into_iter().enumerate() {
            let passes =
                from != Self::NOBODY && to != Self::NOBODY && (from == Self::MANY || from != to);
            if !passes {
                dead_ends[node / 64] |= 1 << (node % 64);
            }
        }
        dead_ends
    }
}
