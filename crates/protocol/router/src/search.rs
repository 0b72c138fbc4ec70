//! Dijkstra from the payee back to us: what arrives is fixed, what each forwarder asks is added.
//!
//! An edge `u -> v` carries `max(needed(v), htlc_minimum)`; `u` needs that and its fee. With fees alone
//! the least amount at each node is best, and one label per node finds the cheapest path. Where risk and
//! time count too, a way that costs more but needs a smaller amount at a node could in theory win
//! farther up; what this can lose is the difference that the fees make to the risk, which is next to
//! nothing. Only when the path found breaks another limit (blocks, hops, onion size), or there is none
//! because what is preferred needs too much, does a second search keep every label that is better in some
//! respect, bounded in number.
//!
//! What an edge costs at the least, for the amount that the payee is to get, is known without knowing
//! what follows it. So a second search goes out from us ([`Guide`]), and both stop where they meet: from
//! there on the first goes on only where it can still beat the best way known. The answer is the same as
//! without it.

use alloc::{collections::BinaryHeap, vec::Vec};
use core::cmp::Reverse;

use crate::{
    guide::Guide,
    problem::{Found, Label, NONE, Problem, Terms, edge_number, to_u32},
};

/// Labels per node, and in all, of the second search.
const LABELS_PER_NODE: usize = 24;
const LABELS: usize = 400_000;

const SETTLED: u32 = 1 << 31;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limits {
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
    /// How many edges were looked at.
    work: u64,
    guide: Guide,
    /// Labels at which the guide has met the search.
    meetings: Vec<u32>,
}

impl Search {
    /// The best path by cost for an amount, whatever else it takes.
    pub(crate) fn run(&mut self, problem: &Problem<'_>, amount: u64) -> Option<Found> {
        self.reset(problem.node_slots());
        self.guide.start(problem);
        self.push(problem.start(amount), Limits::None);
        let mut is_guided = false;
        loop {
            if !is_guided {
                let near = self.heap.peek().map(|Reverse((cost, ..))| *cost)?;
                is_guided = near.saturating_add(self.guide.radius()) > self.bound;
                if is_guided {
                    self.drop_hopeless();
                } else if self.guide.is_due(problem, self.work) {
                    is_guided = !self.explore(problem, amount);
                    continue;
                }
            }
            let index = self.pop(Limits::None)?;
            let label = self.labels[index as usize];
            if label.node == problem.payer {
                return Some(problem.found(&self.labels, index));
            }
            if label.node != problem.payee && !problem.may_forward(label.node) {
                continue;
            }
            self.expand(problem, index, &label, amount, Limits::None);
        }
    }

    /// The best path by cost for an amount within all limits. To be asked after [`Search::run`] for the same
    /// has found that the best of all is not: its guide is used again.
    pub(crate) fn run_within_limits(
        &mut self,
        problem: &Problem<'_>,
        amount: u64,
    ) -> Option<Found> {
        self.reset(problem.node_slots());
        for labels in &mut self.many {
            labels.clear();
        }
        self.many.resize(problem.node_slots(), Vec::new());
        self.push(problem.start(amount), Limits::All);
        while let Some(index) = self.pop(Limits::All) {
            let label = self.labels[index as usize];
            if label.node == problem.payer {
                return Some(problem.found(&self.labels, index));
            }
            if label.node != problem.payee && !problem.may_forward(label.node) {
                continue;
            }
            self.expand(problem, index, &label, amount, Limits::All);
        }
        None
    }

    /// Takes the guide one node farther and tries the ways where it meets the search. `false` when it has been
    /// everywhere.
    fn explore(&mut self, problem: &Problem<'_>, amount: u64) -> bool {
        let bound = self.bound;
        let mut meetings = core::mem::take(&mut self.meetings);
        meetings.clear();
        let least_cost = |terms: &Terms, most| problem.least_cost(terms, amount, most);
        let goes_on = self
            .guide
            .advance(problem, bound, least_cost, |node, least| {
                let Some(known) = self.one.get(node as usize).filter(|known| **known != NONE)
                else {
                    return;
                };
                let known = known & !SETTLED;
                if self.labels[known as usize].cost.saturating_add(least) < bound {
                    meetings.push(known);
                }
            });
        for index in &meetings {
            self.meet(problem, *index);
        }
        self.meetings = meetings;
        goes_on
    }

    /// What a label's way costs when it goes on to us as the guide came.
    fn meet(&mut self, problem: &Problem<'_>, index: u32) {
        let mut label = self.labels[index as usize];
        while label.node != problem.payer {
            let Some(via) = self.guide.via(label.node) else {
                return;
            };
            let terms = problem.terms(via);
            match problem.step(index, &label, via, &terms, self.bound) {
                Some(next) => label = next,
                None => return,
            }
        }
        self.bound = self.bound.min(label.cost);
    }

    /// Forgets labels from which no way can be better than the best known.
    fn drop_hopeless(&mut self) {
        let mut keys = core::mem::take(&mut self.heap).into_vec();
        keys.retain(|Reverse((cost, .., index))| {
            let node = self.labels[*index as usize].node;
            cost.saturating_add(self.guide.least_to(node)) <= self.bound
        });
        self.heap = BinaryHeap::from(keys);
    }

    /// What an amount needs along given edges, from us on; `None` when they can't carry it, or not
    /// within the limits.
    pub(crate) fn along(
        &mut self,
        problem: &Problem<'_>,
        edges: &[u32],
        amount: u64,
    ) -> Option<Found> {
        self.forget();
        self.labels.push(problem.start(amount));
        for (index, edge) in (0u32..).zip(edges.iter().rev()) {
            let terms = problem.terms(*edge);
            let label = self.labels[index as usize];
            self.labels
                .push(problem.step(index, &label, *edge, &terms, u64::MAX)?);
        }
        let last = to_u32(self.labels.len() - 1);
        let label = self.labels.last()?;
        problem
            .within_limits(label, amount)
            .then(|| problem.found(&self.labels, last))
    }

    fn forget(&mut self) {
        for label in self.labels.drain(..) {
            if let Some(known) = self.one.get_mut(label.node as usize) {
                *known = NONE;
            }
        }
    }

    fn reset(&mut self, nodes: usize) {
        self.forget();
        self.one.resize(nodes, NONE);
        self.heap.clear();
        self.bound = u64::MAX;
        self.work = 0;
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
            let most = self.most(terms.from, limits);
            if label.cost <= most {
                self.relax(problem, index, label, edge, &terms, amount, limits, most);
            }
        }
        let Some(node) = problem.graph_node(label.node) else {
            return;
        };
        for (edge, announced) in problem.graph.edges_to(node) {
            self.work += 1;
            let from = to_u32(announced.from.to_usize());
            // Cheap tests first: most edges lead to nodes that are settled or lead nowhere.
            if from == problem.payer || problem.is_dead_end(from) {
                continue;
            }
            let most = self.most(from, limits);
            if label.cost > most {
                continue;
            }
            let terms = Terms::announced(announced);
            let edge = edge_number(edge);
            self.relax(problem, index, label, edge, &terms, amount, limits, most);
        }
    }

    /// The most that a label at a node may cost to be of use; zero where none is.
    fn most(&self, node: u32, limits: Limits) -> u64 {
        let least = self.guide.least_to(node);
        let Some(most) = self.bound.checked_sub(least).filter(|_| least < u64::MAX) else {
            return 0;
        };
        match (limits, self.one.get(node as usize)) {
            (Limits::All, _) | (Limits::None, None | Some(&NONE)) => most,
            (Limits::None, Some(known)) if known & SETTLED != 0 => 0,
            (Limits::None, Some(known)) => most.min(self.labels[*known as usize].cost),
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
        most: u64,
    ) {
        let Some(new) = problem.step(index, label, edge, terms, most) else {
            return;
        };
        if limits == Limits::All && !problem.within_limits(&new, amount) {
            return;
        }
        if new.node == problem.payer {
            self.bound = self.bound.min(new.cost);
        }
        let place = to_u32(self.labels.len());
        if self.push(new, limits) && limits == Limits::None && self.guide.meets(&new, self.bound) {
            self.meet(problem, place);
        }
    }

    /// Keeps a label that is better than what is known; whether it is.
    fn push(&mut self, label: Label, limits: Limits) -> bool {
        let index = to_u32(self.labels.len());
        if index >= SETTLED - 1 {
            return false;
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
        keep
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
