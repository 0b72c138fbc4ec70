//! The cheapest flow from us to the payee, by successive shortest paths.
//!
//! The amount is cut into equal units. What one more unit over an edge costs depends on how many it
//! carries already: the fee is the same, the risk grows (minus the logarithm of the chance that the
//! balance suffices, piece by piece). Each round sends one unit along the cheapest way there is now,
//! where going against an edge that carries units takes one back. The distances of the first search,
//! from the payee, guide all later ones: these look at little more than the nodes of the way they find.

mod reach;

use alloc::{collections::BinaryHeap, vec::Vec};
use core::cmp::Reverse;

use crate::{
    guide::Guide,
    problem::{NONE, Problem, Terms, edge_number, to_u32},
};

/// What amounts on the way may be above what arrives: one part in 64.
const FEE_ROOM_SHIFT: u32 = 6;

/// A flow's memory, used again by the next.
#[derive(Default)]
pub(crate) struct Flow {
    nodes: Vec<Node>,
    /// What a unit costs from nodes to the payee of which nothing else is known, at the least.
    far: u64,
    /// What the first unit costs.
    first: u64,
    /// Nodes whose values are not the initial ones, and those that the latest search has reached.
    changed: Vec<u32>,
    touched: Vec<u32>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    /// The distances from us, until they meet those to the payee.
    guide: Guide,
    /// The edges of nodes that were passed, the ones that may be of use first.
    lists: Vec<List>,
    ways: Vec<Way>,
    /// Units on each edge, and the edges that have any.
    units: Vec<u16>,
    used: Vec<u32>,
    /// The way of the last unit, if it took none back: the next unit's may cost no more than it does now.
    last: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Node {
    /// A lower bound of what a unit costs from here to the payee; [`u64::MAX`] for [`Flow::far`].
    potential: u64,
    distance: u64,
    /// The arc by which it is reached: an edge number, with [`BACKWARDS`] one that is undone.
    pred: u32,
    /// Its place in the lists.
    list: u32,
    is_settled: bool,
    is_changed: bool,
    /// Whether units come to it, or did.
    has_inflow: bool,
    /// From which ends [`Flow::has_way`] has seen it.
    seen: u8,
}

impl Node {
    const NEW: Self = Self {
        potential: u64::MAX,
        distance: u64::MAX,
        pred: NONE,
        list: NONE,
        is_settled: false,
        is_changed: false,
        has_inflow: false,
        seen: 0,
    };
}

/// The edges that come from a node.
#[derive(Clone, Copy)]
struct List {
    start: usize,
    end: usize,
    /// All edges are in it from which a unit gets to the payee for this.
    whole_up_to: u64,
}

/// An edge to go on by.
#[derive(Clone, Copy)]
struct Way {
    /// What a unit costs from there to the payee at the least.
    whole: u64,
    /// What the first unit costs on the edge.
    cost: u64,
    edge: u32,
    to: u32,
}

/// Of how many nodes beyond where the ways meet the distance to the payee is found.
const MEASURED: usize = 2_000;
/// After how many nodes the best way for a unit that was seen is taken.
const PATIENCE: usize = 256;

const BACKWARDS: u32 = 1 << 31;

/// Units along one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// From us on.
    pub(crate) edges: Vec<u32>,
    pub(crate) units: u16,
}

/// What comes of sending units.
pub(crate) enum Sent {
    /// There is no room for all of them.
    NoRoom,
    /// They would cost more than was allowed.
    TooDear,
    /// Along these ways, the greatest first.
    Ways(Vec<Part>),
}

impl Flow {
    /// Sends `count` units, unless they surely cost `most` or more.
    pub(crate) fn run(&mut self, problem: &Problem<'_>, unit: u64, count: u16, most: u64) -> Sent {
        let costs = Costs::new(problem, unit, count);
        self.reset(problem);
        let Some(first) = self.meet(&costs) else {
            return Sent::NoRoom;
        };
        // The first unit is the cheapest.
        if first.saturating_mul(u64::from(count)) >= most {
            return Sent::TooDear;
        }
        self.first = first;
        self.measure(&costs);
        for _ in 0..count {
            if !self.augment(&costs) {
                return Sent::NoRoom;
            }
        }
        Sent::Ways(self.decompose(problem))
    }

    fn reset(&mut self, problem: &Problem<'_>) {
        for node in self.changed.drain(..) {
            self.nodes[node as usize] = Node::NEW;
        }
        self.touched.clear();
        self.nodes.resize(problem.node_slots(), Node::NEW);
        for edge in self.used.drain(..) {
            if let Some(units) = self.units.get_mut(edge as usize) {
                *units = 0;
            }
        }
        self.units.resize(problem.edge_slots(), 0);
        self.lists.clear();
        self.ways.clear();
        self.last.clear();
        self.far = u64::MAX;
    }

    fn change(&mut self, node: u32) -> &mut Node {
        let known = &mut self.nodes[node as usize];
        if !known.is_changed {
            known.is_changed = true;
            self.changed.push(node);
        }
        known
    }

    fn potential(&self, node: u32) -> u64 {
        let potential = self.nodes[node as usize].potential;
        if potential == u64::MAX {
            self.far
        } else {
            potential
        }
    }

    /// What the first unit costs: the distances to the payee and those from us until they meet. `None` when
    /// there is no way.
    fn meet(&mut self, costs: &Costs<'_>) -> Option<u64> {
        let problem = costs.problem;
        self.heap.clear();
        self.guide.start(problem);
        self.change(problem.payee).potential = 0;
        self.heap.push(Reverse((0, problem.payee)));
        let (mut best, mut work) = (u64::MAX, 0);
        loop {
            let near = self.heap.peek().map(|Reverse((distance, _))| *distance);
            let around = near.unwrap_or(u64::MAX).saturating_add(self.guide.radius());
            if around >= best {
                return (best < u64::MAX).then_some(best);
            }
            if self.guide.is_due(problem, work) {
                let nodes = &self.nodes;
                let first_cost = |terms: &Terms, _| costs.of_unit(terms, 0);
                self.guide
                    .advance(problem, best, first_cost, |node, least| {
                        let rest = nodes[node as usize].potential;
                        best = best.min(rest.saturating_add(least));
                    });
            } else {
                work += self.settle_back(costs, &mut best)?;
            }
        }
    }

    /// Goes on with the distances to the payee until ours is known, or those of enough nodes.
    fn measure(&mut self, costs: &Costs<'_>) {
        let mut best = u64::MAX;
        let mut settled = 0;
        self.far = loop {
            let Some(Reverse((distance, node))) = self.heap.peek().copied() else {
                // Whatever is left has no way.
                break u64::MAX;
            };
            if node == costs.problem.payer || settled >= MEASURED {
                break distance;
            }
            settled += 1;
            // There is one more.
            let _ = self.settle_back(costs, &mut best);
        };
        // What is farther than was looked has at least this distance.
        for node in &self.changed {
            let node = &mut self.nodes[*node as usize];
            if !node.is_settled {
                node.potential = u64::MAX;
            }
            node.is_settled = false;
        }
    }

    /// Settles the node that is nearest to the payee. How many edges were looked at; `None` when there are no
    /// more nodes.
    fn settle_back(&mut self, costs: &Costs<'_>, best: &mut u64) -> Option<u64> {
        let problem = costs.problem;
        let Reverse((distance, node)) = self.heap.pop()?;
        let known = &mut self.nodes[node as usize];
        if known.is_settled {
            return Some(0);
        }
        known.is_settled = true;
        if node == problem.payer || (node != problem.payee && !problem.may_forward(node)) {
            return Some(0);
        }
        for edge in problem.extra_to(node) {
            self.relax_back(costs, distance, &problem.terms(edge), best);
        }
        let mut work = 1;
        let edges = problem
            .graph_node(node)
            .map(|index| problem.graph.edges_to(index));
        for (_, announced) in edges.into_iter().flatten() {
            work += 1;
            let from = to_u32(announced.from.to_usize());
            // No way on from here can be shorter than what is known already.
            if distance < self.nodes[from as usize].potential
                && from != problem.payer
                && !problem.is_dead_end(from)
            {
                self.relax_back(costs, distance, &Terms::announced(announced), best);
            }
        }
        Some(work)
    }

    fn relax_back(&mut self, costs: &Costs<'_>, distance: u64, terms: &Terms, best: &mut u64) {
        let known = self.nodes[terms.from as usize].potential;
        let ours = self.nodes[costs.problem.payer as usize].potential;
        if distance >= known.min(ours) {
            return;
        }
        if let Some(cost) = costs.of_unit(terms, 0) {
            let new = distance.saturating_add(cost);
            if new < known.min(ours) {
                self.change(terms.from).potential = new;
                self.heap.push(Reverse((new, terms.from)));
                if let Some(least) = self.guide.known(terms.from) {
                    *best = (*best).min(new.saturating_add(least));
                }
            }
        }
    }

    /// Sends one unit along the cheapest way; `false` when there is none.
    fn augment(&mut self, costs: &Costs<'_>) -> bool {
        // Where nothing is known before, a way that costs as much again as the first will most likely do.
        let found = match self.as_before(costs) {
            Some(bound) => self.find(costs, bound),
            None => None,
        };
        let found = found.or_else(|| {
            self.last.clear();
            self.find_anywhere(costs)
        });
        let Some(level) = found else { return false };
        let problem = costs.problem;
        // Nodes nearer than was looked get farther by what they are nearer.
        for at in 0..self.touched.len() {
            let node = self.touched[at];
            let Node {
                distance,
                is_settled,
                ..
            } = self.nodes[node as usize];
            if is_settled && distance < level {
                self.nodes[node as usize].potential =
                    self.potential(node).saturating_add(level - distance);
            }
        }
        if self.nodes[problem.payee as usize].distance == u64::MAX {
            // Not found in time: the way of the last unit, which has room for one more.
            for edge in &self.last {
                self.units[*edge as usize] += 1;
            }
            return true;
        }
        let mut node = problem.payee;
        let mut takes_back = false;
        self.last.clear();
        while node != problem.payer {
            let arc = self.nodes[node as usize].pred;
            let edge = arc & !BACKWARDS;
            let terms = problem.terms(edge);
            if arc & BACKWARDS == 0 {
                if self.units[edge as usize] == 0 && !self.used.contains(&edge) {
                    self.used.push(edge);
                }
                self.units[edge as usize] += 1;
                self.nodes[terms.to as usize].has_inflow = true;
                self.last.push(edge);
                node = terms.from;
            } else {
                self.units[edge as usize] -= 1;
                takes_back = true;
                node = terms.to;
            }
        }
        if takes_back {
            self.last.clear();
        }
        true
    }

    /// The cheapest way for one more unit, in wider and wider circles; as [`Flow::find`].
    fn find_anywhere(&mut self, costs: &Costs<'_>) -> Option<u64> {
        let first = self.find(costs, self.far);
        if first.is_some() || !self.has_way(costs) {
            return first;
        }
        [4, 16]
            .into_iter()
            .find_map(|times| self.find(costs, self.far.saturating_mul(times)))
            .or_else(|| self.find(costs, u64::MAX))
    }

    /// The cheapest way for one more unit within a bound: how far was looked, which is how long it is unless
    /// that took too long. Then it is the best that was seen, or the last again.
    fn find(&mut self, costs: &Costs<'_>, bound: u64) -> Option<u64> {
        let problem = costs.problem;
        self.heap.clear();
        for node in self.touched.drain(..) {
            let node = &mut self.nodes[node as usize];
            node.distance = u64::MAX;
            node.pred = NONE;
            node.is_settled = false;
        }
        self.reach(problem.payer, 0, NONE);
        let mut settled = 0;
        while let Some(Reverse((distance, node))) = self.heap.pop() {
            if self.nodes[node as usize].is_settled {
                continue;
            }
            let is_seen = self.nodes[problem.payee as usize].distance < u64::MAX;
            let is_late = settled >= PATIENCE && (is_seen || !self.last.is_empty());
            if node == problem.payee || is_late {
                return Some(distance);
            }
            settled += 1;
            self.nodes[node as usize].is_settled = true;
            self.expand(costs, node, distance, bound);
        }
        None
    }

    /// What one more unit costs along the way of the last, as distances count; `None` if that is not known.
    fn as_before(&self, costs: &Costs<'_>) -> Option<u64> {
        let problem = costs.problem;
        if self.used.is_empty() {
            return Some(self.first.saturating_sub(self.potential(problem.payer)));
        }
        if self.last.is_empty() {
            return None;
        }
        let mut whole = 0u64;
        for edge in &self.last {
            let terms = problem.terms(*edge);
            let cost = costs.of_unit(&terms, self.units[*edge as usize])?;
            whole = whole.saturating_add(self.reduced(cost, terms.from, terms.to));
        }
        Some(whole)
    }

    /// A cost as distances count: never below zero. It would be only where a further unit is cheaper than
    /// the one before.
    fn reduced(&self, cost: u64, from: u32, to: u32) -> u64 {
        cost.saturating_add(self.potential(to))
            .saturating_sub(self.potential(from))
    }

    fn expand(&mut self, costs: &Costs<'_>, node: u32, distance: u64, bound: u64) {
        let problem = costs.problem;
        // Taking back what comes into this node, and more of what goes out: where balances lean to the ends a
        // further unit may cost less than the first.
        let used = if self.nodes[node as usize].has_inflow {
            self.used.len()
        } else {
            0
        };
        for at in 0..used {
            let edge = self.used[at];
            let units = self.units[edge as usize];
            if units == 0 {
                continue;
            }
            let terms = problem.terms(edge);
            if terms.from == node
                && let Some(cost) = costs.of_unit(&terms, units)
            {
                self.relax(node, distance, bound, edge, terms.to, cost);
            }
            if terms.to == node && !self.nodes[terms.from as usize].is_settled {
                let saved = costs.of_unit(&terms, units - 1).unwrap_or(0);
                let from = self.potential(terms.from);
                let reduced = from.saturating_sub(self.potential(node).saturating_add(saved));
                self.reach(
                    terms.from,
                    distance.saturating_add(reduced),
                    edge | BACKWARDS,
                );
            }
        }
        if node != problem.payer && !problem.may_forward(node) {
            return;
        }
        for edge in problem.extra_from(node) {
            let terms = problem.terms(edge);
            if let Some(cost) = costs.of_unit(&terms, self.units[edge as usize]) {
                self.relax(node, distance, bound, edge, terms.to, cost);
            }
        }
        // Our own channels are among the extra edges.
        if node == problem.payer || problem.graph_node(node).is_none() {
            return;
        }
        let room = (bound - distance.min(bound)).saturating_add(self.potential(node));
        let list = self.list(costs, node, room);
        for at in list.start..list.end {
            let Way {
                whole,
                cost,
                edge,
                to,
            } = self.ways[at];
            if whole > room {
                break;
            }
            if self.units[edge as usize] == 0 {
                self.relax(node, distance, bound, edge, to, cost);
            }
        }
    }

    fn relax(&mut self, node: u32, distance: u64, bound: u64, edge: u32, to: u32, cost: u64) {
        let new = distance.saturating_add(self.reduced(cost, node, to));
        if new <= bound {
            self.reach(to, new, edge);
        }
    }

    /// The edges that come from a node and get a unit to the payee for `up_to` or less, and some more. Great
    /// nodes have hundreds, of which most lead astray.
    fn list(&mut self, costs: &Costs<'_>, node: u32, up_to: u64) -> List {
        let known = self.lists.get(self.nodes[node as usize].list as usize);
        if let Some(list) = known.filter(|list| list.whole_up_to >= up_to) {
            return *list;
        }
        let problem = costs.problem;
        // What is asked for grows a little with every unit.
        let whole_up_to = up_to.saturating_add(self.far / 4).saturating_add(up_to / 4);
        let start = self.ways.len();
        let edges = problem
            .graph_node(node)
            .map(|index| problem.graph.edges_from(index));
        for (edge, announced) in edges.into_iter().flatten() {
            let to = to_u32(announced.to.to_usize());
            let rest = self.potential(to);
            if rest > whole_up_to || (to != problem.payee && problem.is_dead_end(to)) {
                continue;
            }
            // Further units cost no less, and distances never shrink.
            let Some(cost) = costs.of_unit(&Terms::announced(announced), 0) else {
                continue;
            };
            let whole = cost.saturating_add(rest);
            if whole <= whole_up_to && to != problem.payer {
                self.ways.push(Way {
                    whole,
                    cost,
                    edge: edge_number(edge),
                    to,
                });
            }
        }
        self.ways[start..].sort_unstable_by_key(|way| (way.whole, way.edge));
        let list = List {
            start,
            end: self.ways.len(),
            whole_up_to,
        };
        self.change(node).list = to_u32(self.lists.len());
        self.lists.push(list);
        list
    }

    fn reach(&mut self, node: u32, distance: u64, arc: u32) {
        let known = self.nodes[node as usize];
        if distance < known.distance && !known.is_settled {
            if known.distance == u64::MAX {
                self.touched.push(node);
            }
            let known = self.change(node);
            known.distance = distance;
            known.pred = arc;
            self.heap.push(Reverse((distance, node)));
        }
    }

    /// Ways that make up the flow, the greatest first. Circles are dropped.
    fn decompose(&mut self, problem: &Problem<'_>) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut edges: Vec<u32> = Vec::new();
        let mut visited: Vec<u32> = Vec::new();
        loop {
            edges.clear();
            visited.clear();
            let mut node = problem.payer;
            while node != problem.payee {
                if let Some(at) = visited.iter().position(|seen| *seen == node) {
                    // A circle carries nothing anywhere.
                    let least = self.least(&edges[at..]);
                    self.take(&edges[at..], least);
                    edges.truncate(at);
                    visited.truncate(at);
                }
                visited.push(node);
                let next = self
                    .used
                    .iter()
                    .filter(|edge| problem.terms(**edge).from == node)
                    .max_by_key(|edge| (self.units[**edge as usize], Reverse(**edge)))
                    .filter(|edge| self.units[**edge as usize] > 0);
                let Some(edge) = next else { break };
                edges.push(*edge);
                node = problem.terms(*edge).to;
            }
            if node != problem.payee || edges.is_empty() {
                break;
            }
            let units = self.least(&edges);
            self.take(&edges, units);
            match parts.iter_mut().find(|part| part.edges == edges) {
                Some(part) => part.units += units,
                None => parts.push(Part {
                    edges: edges.clone(),
                    units,
                }),
            }
        }
        parts.sort_by_key(|part| Reverse(part.units));
        parts
    }

    fn least(&self, edges: &[u32]) -> u16 {
        let units = edges.iter().map(|edge| self.units[*edge as usize]);
        units.min().unwrap_or(0)
    }

    fn take(&mut self, edges: &[u32], units: u16) {
        for edge in edges {
            self.units[*edge as usize] -= units;
        }
    }
}

/// What units cost.
struct Costs<'a> {
    problem: &'a Problem<'a>,
    unit: u64,
    count: u64,
}

impl<'a> Costs<'a> {
    fn new(problem: &'a Problem<'a>, unit: u64, count: u16) -> Self {
        Self {
            problem,
            unit,
            count: u64::from(count.max(1)),
        }
    }

    /// What one more unit costs on an edge that carries some; `None` when there is no room.
    fn of_unit(&self, terms: &Terms, carried: u16) -> Option<u64> {
        let problem = self.problem;
        let before = self.unit * u64::from(carried);
        let after = before + self.unit;
        let with_fees = after + (after >> FEE_ROOM_SHIFT);
        if with_fees > terms.htlc_maximum || self.unit < terms.htlc_minimum {
            return None;
        }
        let over = problem.overridden(terms);
        if !over.takes(with_fees) || problem.is_avoided(terms.from) {
            return None;
        }
        let risk_after = problem.nats(terms, &over, with_fees)?;
        let risk_before = if before == 0 && over.in_use == 0 {
            0
        } else {
            problem.nats(terms, &over, before)?
        };
        let rate = u64::from(terms.fee_proportional_millionths);
        let proportional = match self.unit.checked_mul(rate) {
            Some(product) => product / 1_000_000,
            None => u64::MAX / 1_000_000,
        };
        // A part has some units, which share its base fee: a quarter of all is a fair guess.
        let rest = (u64::from(terms.fee_base_msat) * self.count.min(4))
            .saturating_add(problem.weights.lock(terms.cltv_expiry_delta))
            .saturating_add(over.penalty());
        Some(
            proportional
                .saturating_add(rest / self.count)
                .saturating_add(problem.weights.risk(risk_after.saturating_sub(risk_before))),
        )
    }
}

#[cfg(test)]
mod tests;
