//! The search from our side: the least that a way from us to a node can cost.
//!
//! Every HTLC carries at least what the payee is to get, and fees, limits and risk never fall as the amount
//! grows. So with that amount each edge has a least cost, whatever comes after it.

use alloc::{collections::BinaryHeap, vec::Vec};
use core::cmp::Reverse;

use crate::problem::{Label, NONE, Problem, Terms, edge_number, to_u32};

/// What the search from our side has seen, and its memory.
#[derive(Default)]
pub(crate) struct Guide {
    nodes: Vec<Reached>,
    /// Nodes whose values are not the initial ones.
    touched: Vec<u32>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    /// Nodes that are not settled cost at least so much.
    radius: u64,
    work: u64,
}

#[derive(Clone, Copy)]
struct Reached {
    least: u64,
    /// The edge by which.
    via: u32,
    is_settled: bool,
}

impl Reached {
    const NOT: Self = Self {
        least: u64::MAX,
        via: NONE,
        is_settled: false,
    };
}

impl Guide {
    pub(crate) fn start(&mut self, problem: &Problem<'_>) {
        for node in self.touched.drain(..) {
            self.nodes[node as usize] = Reached::NOT;
        }
        self.nodes.resize(problem.node_slots(), Reached::NOT);
        self.heap.clear();
        self.radius = 0;
        self.work = 0;
        self.reach(problem.payer, 0, NONE);
    }

    /// The least that a way from us to a node costs; [`u64::MAX`] when none leads there.
    pub(crate) fn least_to(&self, node: u32) -> u64 {
        // Most questions are answered before it has got beyond our peers: no need to look.
        if self.radius == 0 {
            return 0;
        }
        match self.nodes.get(node as usize) {
            Some(reached) if reached.is_settled => reached.least,
            Some(_) | None => self.radius,
        }
    }

    /// The last edge of the best known way to a node.
    pub(crate) fn via(&self, node: u32) -> Option<u32> {
        let via = self.nodes.get(node as usize)?.via;
        (via != NONE).then_some(via)
    }

    /// Whether a way through a label may cost less than a bound.
    pub(crate) fn meets(&self, label: &Label, bound: u64) -> bool {
        self.known(label.node)
            .is_some_and(|least| label.cost.saturating_add(least) < bound)
    }

    /// What is not settled costs at least so much.
    pub(crate) const fn radius(&self) -> u64 {
        self.radius
    }

    /// Whether it is its turn, after so many edges that the other search has looked at. Edges that come from a
    /// node lie all over memory, and our peers are often great nodes: it gets an eighth.
    pub(crate) fn is_due(&self, problem: &Problem<'_>, work: u64) -> bool {
        let next = match self.heap.peek() {
            Some(Reverse((_, node))) if *node != problem.payer => problem.graph_node(*node),
            Some(_) | None => None,
        };
        let edges = next.map(|node| problem.graph.edges_from(node).size_hint().1);
        let edges = edges.flatten().map_or(0, |edges| edges as u64);
        (self.work + edges) * 8 <= work
    }

    /// What is known of the least that a way to a node costs, if any is known.
    pub(crate) fn known(&self, node: u32) -> Option<u64> {
        let least = self.nodes.get(node as usize)?.least;
        (least < u64::MAX).then_some(least)
    }

    /// Settles one more node, and says which nodes are reached from it. `false` when there are no more. What an
    /// edge costs is asked with the most that is of use.
    pub(crate) fn advance(
        &mut self,
        problem: &Problem<'_>,
        bound: u64,
        cost: impl Fn(&Terms, u64) -> Option<u64>,
        mut reached: impl FnMut(u32, u64),
    ) -> bool {
        let Some((node, at)) = self.pop() else {
            self.radius = u64::MAX;
            return false;
        };
        self.radius = at;
        self.work += 1;
        if node == problem.payee || (node != problem.payer && !problem.may_forward(node)) {
            return true;
        }
        let mut relax = |guide: &mut Self, edge: u32, terms: &Terms| {
            let known = guide.nodes[terms.to as usize].least;
            let most = known.saturating_sub(1).min(bound).saturating_sub(at);
            if let Some(least) = cost(terms, most) {
                let new = at.saturating_add(least);
                if new < known {
                    guide.reach(terms.to, new, edge);
                    reached(terms.to, new);
                }
            }
        };
        for edge in problem.extra_from(node) {
            relax(self, edge, &problem.terms(edge));
        }
        // Our own channels are among the extra edges.
        let own = node == problem.payer;
        let Some(index) = problem.graph_node(node).filter(|_| !own) else {
            return true;
        };
        for (edge, announced) in problem.graph.edges_from(index) {
            self.work += 1;
            let to = to_u32(announced.to.to_usize());
            if self.nodes[to as usize].least <= at
                || (to != problem.payee && problem.is_dead_end(to))
            {
                continue;
            }
            relax(self, edge_number(edge), &Terms::announced(announced));
        }
        true
    }

    fn pop(&mut self) -> Option<(u32, u64)> {
        while let Some(Reverse((least, node))) = self.heap.pop() {
            let known = &mut self.nodes[node as usize];
            if !known.is_settled {
                known.is_settled = true;
                return Some((node, least));
            }
        }
        None
    }

    fn reach(&mut self, node: u32, least: u64, via: u32) {
        let known = &mut self.nodes[node as usize];
        if known.least == u64::MAX {
            self.touched.push(node);
        }
        *known = Reached {
            least,
            via,
            is_settled: false,
        };
        self.heap.push(Reverse((least, node)));
    }
}
