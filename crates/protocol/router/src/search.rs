//! Dijkstra from the payee back to us: what arrives is fixed, what each forwarder asks is added.
//!
//! An edge `u -> v` carries `max(needed(v), htlc_minimum)`; `u` needs that and its fee. With fees alone
//! the least amount at each node is best, and one label per node finds the cheapest path. Where risk and
//! time count too, a way that costs more but needs a smaller amount at a node could in theory win
//! farther up; what this can lose is the difference that the fees make to the risk, which is next to
//! nothing. Only when the path found breaks another limit (blocks, hops, onion size) does a second
//! search keep every label that is better in some respect, bounded in number.

use alloc::{collections::BinaryHeap, vec::Vec};
use core::cmp::Reverse;

use crate::problem::{Found, Label, NONE, Problem, Terms, edge_number, to_u32};

/// Labels per node, and in all, of the second search.
const LABELS_PER_NODE: usize = 24;
const LABELS: usize = 400_000;

const SETTLED: u32 = 1 << 31;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// The best path whatever else it takes.
    None,
    /// Only paths within all limits.
    All,
}

/// Cost, then blocks, then hops, then the order in which labels were made: a total order that depends
/// on the network and the request alone.
type HeapKey = (u64, u32, u8, u32);

/// A search's memory, used again by the next.
#[derive(Default)]
pub(crate) struct Search {
    labels: Vec<Label>,
    heap: BinaryHeap<Reverse<HeapKey>>,
    /// The one label of each node; a settled one has its high bit set.
    one: Vec<u32>,
    /// All labels of each node that no other beats.
    many: Vec<Vec<u32>>,
    /// What the best known way costs us.
    bound: u64,
}

impl Search {
    /// The best path by cost for an amount.
    pub(crate) fn run(
        &mut self,
        problem: &Problem<'_>,
        amount: u64,
        limits: Limits,
    ) -> Option<Found> {
        self.reset(problem.node_slots(), limits);
        self.push(problem.start(amount), limits);
        while let Some(index) = self.pop(limits) {
            let label = self.labels[index as usize];
            if label.node == problem.payer {
                return Some(problem.found(&self.labels, index));
            }
            if label.node != problem.payee && !problem.may_forward(label.node) {
                continue;
            }
            self.expand(problem, index, &label, amount, limits);
        }
        None
    }

    /// What an amount needs along given edges, from us on; `None` when they can't carry it, or not
    /// within the limits.
    pub(crate) fn along(
        &mut self,
        problem: &Problem<'_>,
        edges: &[u32],
        amount: u64,
    ) -> Option<Found> {
        self.labels.clear();
        self.labels.push(problem.start(amount));
        for (index, edge) in (0u32..).zip(edges.iter().rev()) {
            let terms = problem.terms(*edge);
            let label = self.labels[index as usize];
            self.labels
                .push(problem.step(index, &label, *edge, &terms)?);
        }
        let last = to_u32(self.labels.len() - 1);
        let label = self.labels.last()?;
        problem
            .within_limits(label, amount)
            .then(|| problem.found(&self.labels, last))
    }

    fn reset(&mut self, nodes: usize, limits: Limits) {
        self.labels.clear();
        self.heap.clear();
        self.bound = u64::MAX;
        match limits {
            Limits::None => {
                self.one.clear();
                self.one.resize(nodes, NONE);
            }
            Limits::All => {
                for labels in &mut self.many {
                    labels.clear();
                }
                self.many.resize(nodes, Vec::new());
            }
        }
    }

    fn expand(
        &mut self,
        problem: &Problem<'_>,
        index: u32,
        label: &Label,
        amount: u64,
        limits: Limits,
    ) {
        for edge in problem.extra_to(label.node) {
            let terms = problem.terms(edge);
            self.relax(problem, index, label, edge, &terms, amount, limits);
        }
        let Some(node) = problem.graph_node(label.node) else {
            return;
        };
        for (edge, announced) in problem.graph.edges_to(node) {
            let from = to_u32(announced.from.to_usize());
            // Cheap tests first: most edges lead to nodes that are settled or lead nowhere.
            if from == problem.payer
                || (limits == Limits::None && self.is_settled(from))
                || problem.is_dead_end(from)
            {
                continue;
            }
            let terms = Terms::announced(announced);
            let edge = edge_number(edge);
            self.relax(problem, index, label, edge, &terms, amount, limits);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the innermost loop's values")]
    fn relax(
        &mut self,
        problem: &Problem<'_>,
        index: u32,
        label: &Label,
        edge: u32,
        terms: &Terms,
        amount: u64,
        limits: Limits,
    ) {
        let Some(new) = problem.step(index, label, edge, terms) else {
            return;
        };
        if new.cost > self.bound || (limits == Limits::All && !problem.within_limits(&new, amount))
        {
            return;
        }
        if new.node == problem.payer {
            self.bound = new.cost;
        }
        self.push(new, limits);
    }

    fn is_settled(&self, node: u32) -> bool {
        self.one
            .get(node as usize)
            .is_some_and(|b| *b != NONE && b & SETTLED != 0)
    }

    fn push(&mut self, label: Label, limits: Limits) {
        let index = to_u32(self.labels.len());
        if index >= SETTLED - 1 {
            return;
        }
        let keep = match limits {
            Limits::None => match self.one.get_mut(label.node as usize) {
                None => false,
                Some(known) if *known == NONE => {
                    *known = index;
                    true
                }
                Some(known) if *known & SETTLED != 0 => false,
                Some(known) => {
                    let better = key(&label, index) < key(&self.labels[*known as usize], *known);
                    if better {
                        *known = index;
                    }
                    better
                }
            },
            Limits::All => match self.many.get_mut(label.node as usize) {
                None => false,
                Some(known) => {
                    let beaten = known
                        .iter()
                        .any(|other| dominates(&self.labels[*other as usize], &label));
                    if beaten || self.labels.len() >= LABELS {
                        false
                    } else {
                        known.retain(|other| !dominates(&label, &self.labels[*other as usize]));
                        if known.len() < LABELS_PER_NODE {
                            known.push(index);
                            true
                        } else {
                            false
                        }
                    }
                }
            },
        };
        if keep {
            self.heap.push(Reverse(key(&label, index)));
            self.labels.push(label);
        }
    }

    /// The next label to go on from, settled by this.
    fn pop(&mut self, limits: Limits) -> Option<u32> {
        while let Some(Reverse((.., index))) = self.heap.pop() {
            let node = self.labels[index as usize].node as usize;
            match limits {
                Limits::None => {
                    if self.one[node] == index {
                        self.one[node] |= SETTLED;
                        return Some(index);
                    }
                }
                Limits::All => {
                    if self.many[node].contains(&index) {
                        return Some(index);
                    }
                }
            }
        }
        None
    }
}

const fn key(label: &Label, index: u32) -> HeapKey {
    (label.cost, label.cltv, label.hops, index)
}

/// Whether `a` is at least as good as `b` in every respect.
const fn dominates(a: &Label, b: &Label) -> bool {
    a.cost <= b.cost
        && a.amount <= b.amount
        && a.cltv <= b.cltv
        && a.hops <= b.hops
        && a.onion <= b.onion
}
