//! Whether there is a way at all for one more unit.

use alloc::vec::Vec;

use super::{Costs, Flow};
use crate::problem::{Terms, edge_number, to_u32};

/// From where a node was seen.
const FROM_US: u8 = 1;
const FROM_PAYEE: u8 = 2;

impl Flow {
    /// Whether one more unit finds a way at all: looks from both ends in turn until they meet, or one has seen
    /// all there is. What is full first is most often near one of them.
    pub(super) fn has_way(&mut self, costs: &Costs<'_>) -> bool {
        let problem = costs.problem;
        let mut seen = [alloc::vec![problem.payer], alloc::vec![problem.payee]];
        let mut next = [0, 0];
        for (side, nodes) in [FROM_US, FROM_PAYEE].into_iter().zip(&seen) {
            self.change(nodes[0]).seen |= side;
        }
        let mut found = Vec::new();
        let has_way = 'search: loop {
            for (at, side) in [FROM_US, FROM_PAYEE].into_iter().enumerate() {
                let Some(node) = seen[at].get(next[at]).copied() else {
                    break 'search false;
                };
                next[at] += 1;
                found.clear();
                self.neighbours(costs, node, side, &mut found);
                for node in found.drain(..) {
                    let known = self.change(node);
                    if known.seen & side == 0 {
                        known.seen |= side;
                        if known.seen == FROM_US | FROM_PAYEE {
                            break 'search true;
                        }
                        seen[at].push(node);
                    }
                }
            }
        };
        for node in &self.changed {
            self.nodes[*node as usize].seen = 0;
        }
        has_way
    }

    /// The nodes to which one more unit can go on from a node, or from which it can come.
    fn neighbours(&self, costs: &Costs<'_>, node: u32, side: u8, found: &mut Vec<u32>) {
        let problem = costs.problem;
        let is_end = node == problem.payer || node == problem.payee;
        // Where units come from, or go on to, one can be taken back.
        for edge in &self.used {
            let terms = problem.terms(*edge);
            let (here, there) = if side == FROM_US {
                (terms.to, terms.from)
            } else {
                (terms.from, terms.to)
            };
            if here == node && self.units[*edge as usize] > 0 {
                found.push(there);
            }
        }
        if !is_end && !problem.may_forward(node) {
            return;
        }
        let mut add = |edge: u32, terms: &Terms| {
            if costs.of_unit(terms, self.units[edge as usize]).is_some() {
                found.push(if side == FROM_US {
                    terms.to
                } else {
                    terms.from
                });
            }
        };
        let index = problem.graph_node(node);
        if side == FROM_US {
            for edge in problem.extra_from(node) {
                add(edge, &problem.terms(edge));
            }
            // Our own channels are among the extra edges.
            let index = index.filter(|_| node != problem.payer);
            let edges = index.map(|index| problem.graph.edges_from(index));
            for (edge, announced) in edges.into_iter().flatten() {
                let to = to_u32(announced.to.to_usize());
                if to == problem.payee || !problem.is_dead_end(to) {
                    add(edge_number(edge), &Terms::announced(announced));
                }
            }
        } else {
            for edge in problem.extra_to(node) {
                add(edge, &problem.terms(edge));
            }
            let edges = index.map(|index| problem.graph.edges_to(index));
            for (edge, announced) in edges.into_iter().flatten() {
                let from = to_u32(announced.from.to_usize());
                if from != problem.payer && !problem.is_dead_end(from) {
                    add(edge_number(edge), &Terms::announced(announced));
                }
            }
        }
    }
}
