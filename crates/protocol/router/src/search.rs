//! Dijkstra from the payee back to us: what arrives is fixed, what each forwarder asks is added.
//!
//! An edge `u -> v` carries `max(needed(v), htlc_minimum)`; `u` needs that and its fee. This grows
//! with `needed(v)`, so the least amount at each node is best and one label per node finds the
//! cheapest path. Only when that path breaks another limit (blocks, hops, onion size) does a second
//! search keep every label that is better in some respect, bounded in number.

use alloc::{
    collections::{BTreeMap, BinaryHeap},
    vec::Vec,
};
use core::cmp::Reverse;

use fulmen_gossip::{ChannelIndex, Direction, NetworkGraph, NodeIndex};
use fulmen_types::{Msat, NodeId, ShortChannelId};

use crate::{
    FirstHop, HintHop, RouteRequest,
    avoid::ChannelDirection,
    request::{ONION_LEN, RouteHop},
};

/// Labels per node, and in all, of the second search.
const LABELS_PER_NODE: usize = 24;
const LABELS: usize = 400_000;

const NONE: u32 = u32::MAX;

/// The problem in dense indices: announced nodes first, then those that only hints, our channels or
/// the request know.
pub(crate) struct Problem<'a> {
    graph: &'a NetworkGraph,
    request: &'a RouteRequest<'a>,
    extra_nodes: Vec<NodeId>,
    payer: u32,
    payee: u32,
    /// Hint edges sorted by the node they lead to.
    hints: Vec<(u32, HintEdge)>,
    /// Our channels sorted by peer, in the given order for each.
    first_hops: Vec<(u32, FirstHop)>,
    avoided: Avoided,
}

#[derive(Clone, Copy)]
struct HintEdge {
    from: u32,
    hop: HintHop,
    direction: Direction,
}

/// What to avoid, resolved for this graph.
#[derive(Default)]
struct Avoided {
    /// One bit per direction of each announced channel: look it up.
    flagged: Vec<u64>,
    directions: BTreeMap<ChannelDirection, (Msat, Msat)>,
    /// Sorted.
    nodes: Vec<u32>,
    has_penalties: bool,
}

/// The best known way from a node to the payee.
#[derive(Clone, Copy)]
struct Label {
    /// Amount and penalties.
    cost: u64,
    /// What must arrive at the node.
    amount: u64,
    cltv: u32,
    onion: u16,
    hops: u8,
    node: u32,
    /// The label at the next node, [`NONE`] at the payee, and what the edge to it carries.
    next: u32,
    carried: u64,
    via: ShortChannelId,
}

/// A path found, and what it takes.
pub(crate) struct Found {
    pub(crate) hops: Vec<RouteHop>,
    pub(crate) onion: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// The cheapest path whatever else it takes.
    None,
    /// Only paths within all limits.
    All,
}

impl<'a> Problem<'a> {
    pub(crate) fn new(graph: &'a NetworkGraph, request: &'a RouteRequest<'a>) -> Self {
        let mut extra_nodes: Vec<NodeId> = request
            .hints
            .iter()
            .flatten()
            .map(|hop| hop.node_id)
            .chain(request.first_hops.iter().map(|hop| hop.peer))
            .chain([request.payee, request.payer])
            .filter(|id| graph.find_node(id).is_none())
            .collect();
        extra_nodes.sort_unstable();
        extra_nodes.dedup();
        let mut problem = Self {
            graph,
            request,
            extra_nodes,
            payer: NONE,
            payee: NONE,
            hints: Vec::new(),
            first_hops: Vec::new(),
            avoided: Avoided::default(),
        };
        problem.payer = problem.node(&request.payer);
        problem.payee = problem.node(&request.payee);
        problem.add_hints();
        problem.first_hops = request
            .first_hops
            .iter()
            .map(|hop| (problem.node(&hop.peer), *hop))
            .collect();
        problem.first_hops.sort_by_key(|(peer, _)| *peer);
        problem.resolve_avoided();
        problem
    }

    /// Whether penalties make the cheapest path differ from the preferred one.
    pub(crate) const fn has_penalties(&self) -> bool {
        self.avoided.has_penalties
    }

    /// Whether there is anything to avoid.
    pub(crate) fn avoids_anything(&self) -> bool {
        !self.avoided.directions.is_empty() || !self.avoided.nodes.is_empty()
    }

    /// The same without memory of failures.
    pub(crate) fn forget_failures(&mut self) {
        self.avoided = Avoided::default();
    }

    /// The best path by cost with one label per node, whatever its other properties.
    pub(crate) fn cheapest(&self) -> Option<Found> {
        self.search(Limits::None)
    }

    /// The best path by cost that keeps all limits.
    pub(crate) fn cheapest_within_limits(&self) -> Option<Found> {
        self.search(Limits::All)
    }

    fn search(&self, limits: Limits) -> Option<Found> {
        let mut state = Search {
            labels: Vec::with_capacity(1_024),
            heap: BinaryHeap::with_capacity(1_024),
            best: match limits {
                Limits::None => Best::One(alloc::vec![NONE; self.node_slots()]),
                Limits::All => Best::Many(alloc::vec![Vec::new(); self.node_slots()]),
            },
        };
        state.push(Label {
            cost: self.request.amount.to_msat(),
            amount: self.request.amount.to_msat(),
            cltv: self.request.min_final_cltv_expiry_delta,
            onion: self.request.final_payload_len,
            hops: 0,
            node: self.payee,
            next: NONE,
            carried: 0,
            via: ShortChannelId::default(),
        });
        while let Some(index) = state.pop() {
            let label = state.labels[index as usize];
            if label.node == self.payer {
                return Some(self.found(&state.labels, index));
            }
            if label.node != self.payee && !self.may_forward(label.node) {
                continue;
            }
            self.expand(&mut state, index, &label, limits);
        }
        None
    }

    fn expand(&self, state: &mut Search, index: u32, label: &Label, limits: Limits) {
        let first = self
            .first_hops
            .partition_point(|(peer, _)| *peer < label.node);
        for (_, hop) in self.first_hops[first..]
            .iter()
            .take_while(|(peer, _)| *peer == label.node)
        {
            let direction = Direction::between(&self.request.payer, &hop.peer);
            let edge = EdgeTerms {
                from: self.payer,
                via: hop.short_channel_id,
                direction,
                htlc_minimum: hop.htlc_minimum,
                htlc_maximum: hop.spendable,
                fee_base_msat: 0,
                fee_proportional_millionths: 0,
                cltv_expiry_delta: 0,
                flagged: !self.avoided.directions.is_empty(),
            };
            self.relax(state, index, label, &edge, limits);
        }
        let first = self.hints.partition_point(|(to, _)| *to < label.node);
        for (_, hint) in self.hints[first..]
            .iter()
            .take_while(|(to, _)| *to == label.node)
        {
            let edge = EdgeTerms {
                from: hint.from,
                via: hint.hop.short_channel_id,
                direction: hint.direction,
                htlc_minimum: Msat::ZERO,
                htlc_maximum: Msat::MAX_MONEY,
                fee_base_msat: hint.hop.fee_base_msat,
                fee_proportional_millionths: hint.hop.fee_proportional_millionths,
                cltv_expiry_delta: hint.hop.cltv_expiry_delta,
                flagged: !self.avoided.directions.is_empty(),
            };
            self.relax(state, index, label, &edge, limits);
        }
        let Some(node) = self.graph_node(label.node) else {
            return;
        };
        for edge in self.graph.edges_to(node) {
            let from = to_u32(edge.from.to_usize());
            // Cheap tests first: most edges lead to nodes that are settled.
            if from == self.payer || state.is_settled(from) {
                continue;
            }
            let Some(via) = self.graph.short_channel_id(edge.channel) else {
                continue;
            };
            let edge = EdgeTerms {
                from,
                via,
                direction: edge.direction,
                htlc_minimum: edge.htlc_minimum,
                htlc_maximum: edge.htlc_maximum,
                fee_base_msat: edge.fee_base_msat,
                fee_proportional_millionths: edge.fee_proportional_millionths,
                cltv_expiry_delta: edge.cltv_expiry_delta,
                flagged: self.avoided.is_flagged(edge.channel, edge.direction),
            };
            self.relax(state, index, label, &edge, limits);
        }
    }

    fn relax(
        &self,
        state: &mut Search,
        index: u32,
        label: &Label,
        edge: &EdgeTerms,
        limits: Limits,
    ) {
        if let Some(new) = self.step(index, label, edge) {
            let fits = match limits {
                Limits::None => true,
                Limits::All => self.within_limits(&new),
            };
            if fits {
                state.push(new);
            }
        }
    }

    /// The label at `edge.from`, or `None` when the edge can't carry the HTLC.
    fn step(&self, index: u32, label: &Label, edge: &EdgeTerms) -> Option<Label> {
        let carried = label.amount.max(edge.htlc_minimum.to_msat());
        if carried > edge.htlc_maximum.to_msat() {
            return None;
        }
        // BOLT 4: a final node must accept up to twice the amount, no more.
        if label.next == NONE && carried > label.amount.saturating_mul(2) {
            return None;
        }
        let mut penalty = 0;
        if edge.flagged
            && let Some((from_amount, extra)) =
                self.avoided.directions.get(&(edge.via, edge.direction))
        {
            if carried >= from_amount.to_msat() {
                return None;
            }
            penalty = extra.to_msat();
        }
        if !self.avoided.nodes.is_empty() && self.avoided.nodes.binary_search(&edge.from).is_ok() {
            return None;
        }
        let is_payer = edge.from == self.payer;
        let fee = u128::from(carried) * u128::from(edge.fee_proportional_millionths) / 1_000_000
            + u128::from(edge.fee_base_msat);
        let amount = carried.checked_add(u64::try_from(fee).ok()?)?;
        // Above all money no limit means anything any more.
        if amount > Msat::MAX_MONEY.to_msat() {
            return None;
        }
        let payload = if is_payer {
            0
        } else {
            forward_payload_len(carried)
        };
        Some(Label {
            cost: label
                .cost
                .checked_add(amount - label.amount)?
                .checked_add(penalty)?,
            amount,
            cltv: label.cltv.checked_add(u32::from(edge.cltv_expiry_delta))?,
            onion: label.onion.saturating_add(payload),
            hops: label.hops.checked_add(1)?,
            node: edge.from,
            next: index,
            carried,
            via: edge.via,
        })
    }

    fn within_limits(&self, label: &Label) -> bool {
        let request = self.request;
        label.amount - request.amount.to_msat() <= request.max_fee.to_msat()
            && label.cltv <= request.max_total_cltv
            && label.hops <= request.max_hops.min(crate::MAX_HOPS)
            && label.onion <= ONION_LEN
    }

    fn found(&self, labels: &[Label], first: u32) -> Found {
        let mut hops = Vec::new();
        let mut label = &labels[first as usize];
        let onion = label.onion;
        while label.next != NONE {
            let next = &labels[label.next as usize];
            hops.push(RouteHop {
                short_channel_id: label.via,
                node_id: self.node_id(next.node),
                amount: Msat::new(label.carried),
                cltv_from_tip: next.cltv,
            });
            label = next;
        }
        Found { hops, onion }
    }

    fn add_hints(&mut self) {
        for hint in self.request.hints {
            let ends = hint
                .iter()
                .skip(1)
                .map(|hop| hop.node_id)
                .chain([self.request.payee]);
            for (hop, to) in hint.iter().zip(ends) {
                // A hint through ourselves tells us nothing: we know our own channels.
                if hop.node_id == self.request.payer {
                    continue;
                }
                let edge = HintEdge {
                    from: self.node(&hop.node_id),
                    hop: *hop,
                    direction: Direction::between(&hop.node_id, &to),
                };
                self.hints.push((self.node(&to), edge));
            }
        }
        self.hints.sort_by_key(|(to, _)| *to);
    }

    fn resolve_avoided(&mut self) {
        let now = self.request.now;
        let mut avoided = Avoided::default();
        for list in self.request.avoid {
            for (channel, from_amount, penalty) in list.channels(now) {
                let entry = avoided
                    .directions
                    .entry(channel)
                    .or_insert((Msat::MAX, Msat::ZERO));
                *entry = (entry.0.min(from_amount), entry.1.max(penalty));
                avoided.has_penalties |= penalty > Msat::ZERO;
            }
            for node in list.nodes(now) {
                if node != self.request.payer && (node != self.request.payee) {
                    avoided.nodes.extend(self.find(&node));
                }
            }
        }
        avoided.nodes.sort_unstable();
        if !avoided.directions.is_empty() {
            avoided.flagged = alloc::vec![0; self.graph.channel_count() * 2 / 64 + 1];
            for (scid, direction) in avoided.directions.keys() {
                if let Some(channel) = self.graph.find_channel(*scid) {
                    let bit = channel.to_usize() * 2 + usize::from(direction.to_bit());
                    avoided.flagged[bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        self.avoided = avoided;
    }

    fn node_slots(&self) -> usize {
        self.graph.node_slots() + self.extra_nodes.len()
    }

    fn find(&self, id: &NodeId) -> Option<u32> {
        if let Some(node) = self.graph.find_node(id) {
            return Some(to_u32(node.to_usize()));
        }
        let position = self.extra_nodes.binary_search(id).ok()?;
        Some(to_u32(self.graph.node_slots() + position))
    }

    /// The index of a node of the request; all of them have one.
    fn node(&self, id: &NodeId) -> u32 {
        self.find(id).unwrap_or(NONE)
    }

    fn graph_node(&self, node: u32) -> Option<NodeIndex> {
        self.graph.node_at(node as usize)
    }

    fn node_id(&self, node: u32) -> NodeId {
        match self.graph_node(node).and_then(|n| self.graph.node_id(n)) {
            Some(id) => id,
            None => self.extra_nodes[node as usize - self.graph.node_slots()],
        }
    }

    fn may_forward(&self, node: u32) -> bool {
        self.graph_node(node)
            .is_none_or(|node| self.graph.may_forward(node))
    }

    /// Whether anything at all leads to the payee.
    pub(crate) fn knows_payee(&self) -> bool {
        self.graph_node(self.payee).is_some()
            || self.hints.iter().any(|(to, _)| *to == self.payee)
            || self.first_hops.iter().any(|(peer, _)| *peer == self.payee)
    }
}

/// What an edge asks and allows, wherever it comes from.
struct EdgeTerms {
    from: u32,
    via: ShortChannelId,
    direction: Direction,
    htlc_minimum: Msat,
    htlc_maximum: Msat,
    fee_base_msat: u32,
    fee_proportional_millionths: u32,
    cltv_expiry_delta: u16,
    /// Something is remembered of it.
    flagged: bool,
}

impl Avoided {
    fn is_flagged(&self, channel: ChannelIndex, direction: Direction) -> bool {
        let bit = channel.to_usize() * 2 + usize::from(direction.to_bit());
        self.flagged
            .get(bit / 64)
            .is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }
}

/// Cost, then blocks, then hops, then the order in which labels were made: a total order that depends
/// on the network and the request alone.
type HeapKey = (u64, u32, u8, u32);

struct Search {
    labels: Vec<Label>,
    heap: BinaryHeap<Reverse<HeapKey>>,
    best: Best,
}

enum Best {
    /// The one label of each node; a settled one has its high bit set.
    One(Vec<u32>),
    /// All labels of each node that no other beats.
    Many(Vec<Vec<u32>>),
}

const SETTLED: u32 = 1 << 31;

impl Search {
    fn is_settled(&self, node: u32) -> bool {
        match &self.best {
            Best::One(best) => best
                .get(node as usize)
                .is_some_and(|b| *b != NONE && b & SETTLED != 0),
            Best::Many(_) => false,
        }
    }

    fn push(&mut self, label: Label) {
        let index = to_u32(self.labels.len());
        if index >= SETTLED - 1 {
            return;
        }
        let keep = match &mut self.best {
            Best::One(best) => match best.get_mut(label.node as usize) {
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
            Best::Many(best) => match best.get_mut(label.node as usize) {
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
    fn pop(&mut self) -> Option<u32> {
        while let Some(Reverse((.., index))) = self.heap.pop() {
            let node = self.labels[index as usize].node as usize;
            match &mut self.best {
                Best::One(best) => {
                    if best[node] == index {
                        best[node] |= SETTLED;
                        return Some(index);
                    }
                }
                Best::Many(best) => {
                    if best[node].contains(&index) {
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

/// The bytes of a forwarding hop in the onion: length, amount, expiry, short id, HMAC. The expiry is
/// counted with its greatest length.
fn forward_payload_len(amount: u64) -> u16 {
    let amount_len = 8 - amount.leading_zeros() / 8;
    let len = 1 + 2 + amount_len + 6 + 10 + 32;
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}
