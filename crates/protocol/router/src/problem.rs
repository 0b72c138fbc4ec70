//! A request in dense indices: announced nodes first, then those that only hints, our channels or the
//! request know; announced edges first, then ours, those of hints and blinded tails.

use alloc::{collections::BTreeMap, vec::Vec};

use fulmen_gossip::{Direction, Edge, EdgeIndex, NetworkGraph, NodeIndex};
use fulmen_types::{Msat, NodeId, ShortChannelId};

use crate::{
    CostModel, Liquidity, RouteRequest,
    avoid::ChannelDirection,
    cost::Weights,
    nats::Nats,
    request::{ONION_LEN, RouteHop},
};

pub(crate) const NONE: u32 = u32::MAX;

/// What is known of liquidity, resolved for a graph.
#[derive(Clone, Copy)]
pub(crate) struct Knowledge<'a> {
    pub(crate) liquidity: &'a Liquidity,
    /// One bit per channel: something is known of it.
    pub(crate) known: &'a [u64],
    /// Per channel, where what is known of it is.
    pub(crate) slots: &'a [u32],
}

pub(crate) struct Problem<'a> {
    pub(crate) graph: &'a NetworkGraph,
    pub(crate) request: &'a RouteRequest<'a>,
    pub(crate) payer: u32,
    pub(crate) payee: u32,
    pub(crate) weights: Weights,
    knowledge: Option<Knowledge<'a>>,
    extra_nodes: Vec<NodeId>,
    extra_ids: BTreeMap<NodeId, u32>,
    extra_edges: Vec<Terms>,
    /// Extra edges by the node they lead to and the one they come from; in the given order for each.
    extra_to: Vec<(u32, u32)>,
    extra_from: Vec<(u32, u32)>,
    /// One bit per node: an extra edge begins or ends there.
    has_extra: Vec<u64>,
    overrides: Overrides,
}

/// Where an edge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Announced,
    FirstHop,
    Hint,
    /// The blinded tail with this position.
    Tail(u32),
}

/// What an edge asks and allows, wherever it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Not set for announced edges: look it up.
    via: ShortChannelId,
    channel: u32,
    pub(crate) direction: Direction,
    pub(crate) kind: Kind,
    pub(crate) htlc_minimum: u64,
    pub(crate) htlc_maximum: u64,
    pub(crate) capacity: u64,
    pub(crate) fee_base_msat: u32,
    pub(crate) fee_proportional_millionths: u32,
    pub(crate) cltv_expiry_delta: u32,
}

/// What the request says of directions, resolved for this graph.
#[derive(Default)]
struct Overrides {
    /// One bit per direction of each announced channel: look it up.
    flagged: Vec<u64>,
    directions: BTreeMap<ChannelDirection, Override>,
    /// Sorted.
    nodes: Vec<u32>,
    /// Whether any direction has a penalty that counts.
    has_penalties: bool,
}

/// What the request says of one direction.
#[derive(Clone, Copy)]
pub(crate) struct Override {
    /// This and more is not to be tried.
    refuse_from: u64,
    penalty: u64,
    /// What can be carried for certain, and no more.
    liquidity: Option<u64>,
    /// Is on its way over it already.
    pub(crate) in_use: u64,
}

impl Override {
    const NONE: Self = Self {
        refuse_from: u64::MAX,
        penalty: 0,
        liquidity: None,
        in_use: 0,
    };

    /// Whether an HTLC of the amount may be tried.
    pub(crate) const fn takes(&self, amount: u64) -> bool {
        amount < self.refuse_from
    }

    pub(crate) const fn penalty(&self) -> u64 {
        self.penalty
    }
}

/// The best known way from a node to the payee.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    /// Fees and whatever else counts.
    pub(crate) cost: u64,
    /// What must arrive at the node.
    pub(crate) amount: u64,
    pub(crate) cltv: u32,
    pub(crate) node: u32,
    /// The label at the next node and the edge to it, [`NONE`] at the payee.
    pub(crate) next: u32,
    pub(crate) via: u32,
    pub(crate) onion: u16,
    pub(crate) hops: u8,
}

/// A path found, and what it takes.
pub(crate) struct Found {
    pub(crate) hops: Vec<RouteHop>,
    /// The edges, from us on, and what each carries.
    pub(crate) edges: Vec<u32>,
    pub(crate) carried: Vec<u64>,
    /// What the payee is to get.
    pub(crate) amount: u64,
    pub(crate) tail: Option<usize>,
    /// What our HTLC carries.
    pub(crate) total: u64,
    pub(crate) cltv: u32,
    pub(crate) onion: u16,
    pub(crate) hop_count: usize,
}

impl<'a> Problem<'a> {
    pub(crate) fn new(
        graph: &'a NetworkGraph,
        request: &'a RouteRequest<'a>,
        knowledge: Option<Knowledge<'a>>,
    ) -> Self {
        let mut problem = Self {
            graph,
            request,
            payer: NONE,
            payee: NONE,
            weights: Weights::new(&request.cost, request.amount),
            knowledge,
            extra_nodes: Vec::new(),
            extra_ids: BTreeMap::new(),
            extra_edges: Vec::with_capacity(request.first_hops.len()),
            extra_to: Vec::new(),
            extra_from: Vec::new(),
            has_extra: Vec::new(),
            overrides: Overrides::default(),
        };
        problem.payer = problem.node(&request.payer);
        problem.payee = problem.node(&request.payee);
        problem.add_first_hops();
        problem.add_hints();
        problem.add_tails();
        problem.index_extra_edges();
        problem.resolve_overrides();
        problem
    }

    pub(crate) fn node_slots(&self) -> usize {
        self.graph.node_slots() + self.extra_nodes.len()
    }

    pub(crate) fn edge_slots(&self) -> usize {
        self.graph.edges().len() + self.extra_edges.len()
    }

    /// Whether the preferred path may not be the one with the least fee.
    pub(crate) const fn weighs_more_than_fees(&self) -> bool {
        self.overrides.has_penalties || !self.weights.is_fee_only()
    }

    /// Whether there is anything to avoid.
    pub(crate) fn avoids_anything(&self) -> bool {
        !self.overrides.directions.is_empty()
            || !self.overrides.nodes.is_empty()
            || self.knowledge.is_some_and(|k| !k.liquidity.is_empty())
    }

    /// The same without memory of failures.
    pub(crate) fn forget_failures(&mut self) {
        self.overrides = Overrides::default();
        self.knowledge = None;
    }

    /// Lets an edge cost its fee alone while something is done.
    pub(crate) fn with_fees_only<T>(&mut self, done: impl FnOnce(&Self) -> T) -> T {
        let counted = (self.weights, self.overrides.has_penalties);
        self.weights = Weights::new(&CostModel::FEE_ONLY, self.request.amount);
        self.overrides.has_penalties = false;
        let result = done(self);
        (self.weights, self.overrides.has_penalties) = counted;
        result
    }

    /// Whether anything at all leads to the payee.
    pub(crate) fn knows_payee(&self) -> bool {
        self.graph_node(self.payee).is_some()
            || self.extra_edges.iter().any(|edge| edge.to == self.payee)
    }

    /// What all edges to the payee can carry at most.
    pub(crate) fn most_into_payee(&self) -> u64 {
        let extra = self.extra_to(self.payee).map(|edge| self.terms(edge));
        let extra = extra
            .map(|terms| terms.capacity)
            .fold(0, u64::saturating_add);
        let Some(node) = self.graph_node(self.payee) else {
            return extra;
        };
        self.graph
            .edges_to(node)
            .map(|(_, edge)| edge.capacity.to_msat())
            .fold(extra, u64::saturating_add)
    }

    pub(crate) fn graph_node(&self, node: u32) -> Option<NodeIndex> {
        self.graph.node_at(node as usize)
    }

    /// Whether HTLCs may go through a node on their way.
    pub(crate) fn may_forward(&self, node: u32) -> bool {
        self.graph_node(node)
            .is_none_or(|node| self.graph.may_forward(node))
    }

    /// Whether no way can go through a node: only one neighbour is known.
    pub(crate) fn is_dead_end(&self, node: u32) -> bool {
        self.graph.is_dead_end(node as usize) && !self.has_extra(node)
    }

    fn has_extra(&self, node: u32) -> bool {
        let node = node as usize;
        self.has_extra
            .get(node / 64)
            .is_some_and(|word| (word >> (node % 64)) & 1 == 1)
    }

    /// The extra edges that lead to a node.
    pub(crate) fn extra_to(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let from = if self.has_extra(node) {
            self.extra_to.partition_point(|(to, _)| *to < node)
        } else {
            self.extra_to.len()
        };
        self.extra_to[from..]
            .iter()
            .take_while(move |(to, _)| *to == node)
            .map(|(_, edge)| *edge)
    }

    /// The extra edges that come from a node.
    pub(crate) fn extra_from(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let start = self.extra_from.partition_point(|(from, _)| *from < node);
        self.extra_from[start..]
            .iter()
            .take_while(move |(from, _)| *from == node)
            .map(|(_, edge)| *edge)
    }

    pub(crate) fn terms(&self, edge: u32) -> Terms {
        match self.graph.edges().get(edge as usize) {
            Some(announced) => Terms::announced(announced),
            None => self.extra_edges[edge as usize - self.graph.edges().len()],
        }
    }

    pub(crate) fn short_channel_id(&self, terms: &Terms) -> ShortChannelId {
        match terms.kind {
            Kind::Announced => self
                .graph
                .short_channel_id_at(terms.channel as usize)
                .unwrap_or_default(),
            Kind::FirstHop | Kind::Hint | Kind::Tail(_) => terms.via,
        }
    }

    /// What the request says of an edge.
    pub(crate) fn overridden(&self, terms: &Terms) -> Override {
        let may_be = match terms.kind {
            Kind::Announced => {
                let bit = terms.channel as usize * 2 + usize::from(terms.direction.to_bit());
                self.overrides
                    .flagged
                    .get(bit / 64)
                    .is_some_and(|word| (word >> (bit % 64)) & 1 == 1)
            }
            Kind::FirstHop | Kind::Hint | Kind::Tail(_) => !self.overrides.directions.is_empty(),
        };
        if !may_be {
            return Override::NONE;
        }
        let key = (self.short_channel_id(terms), terms.direction);
        let known = self.overrides.directions.get(&key).copied();
        let mut known = known.unwrap_or(Override::NONE);
        if !self.overrides.has_penalties {
            known.penalty = 0;
        }
        known
    }

    /// Nats for an amount over an edge, what is on its way included; `None` when it can't be.
    pub(crate) fn nats(&self, terms: &Terms, over: &Override, amount: u64) -> Option<Nats> {
        let amount = amount.checked_add(over.in_use)?;
        if let Some(liquidity) = over.liquidity {
            return (amount <= liquidity).then_some(0);
        }
        match (terms.kind, self.knowledge) {
            (Kind::Announced, Some(knowledge)) => {
                let channel = terms.channel as usize;
                let is_known = knowledge
                    .known
                    .get(channel / 64)
                    .is_some_and(|word| (word >> (channel % 64)) & 1 == 1);
                let slot = if is_known {
                    knowledge.slots.get(channel).copied()
                } else {
                    None
                };
                knowledge.liquidity.nats(
                    slot,
                    terms.direction,
                    terms.capacity,
                    amount,
                    self.request.now,
                )
            }
            (Kind::Announced | Kind::FirstHop | Kind::Tail(_), _) => {
                (amount <= terms.capacity).then_some(0)
            }
            (Kind::Hint, _) => Some(0),
        }
    }

    /// The label at `edge.from`, or `None` when the edge can't carry the HTLC, or it would cost more than
    /// `most`.
    pub(crate) fn step(
        &self,
        index: u32,
        label: &Label,
        edge: u32,
        terms: &Terms,
        most: u64,
    ) -> Option<Label> {
        let carried = label.amount.max(terms.htlc_minimum);
        if carried > terms.htlc_maximum {
            return None;
        }
        // BOLT 4: a final node must accept up to twice the amount, no more.
        if label.next == NONE && carried > label.amount.saturating_mul(2) {
            return None;
        }
        let amount = carried.checked_add(terms.fee(carried)?)?;
        // Above all money no limit means anything any more.
        if amount > Msat::MAX_MONEY.to_msat() {
            return None;
        }
        let room = most.checked_sub(label.cost)?;
        let cost = self.cost(terms, carried, amount - label.amount, room)?;
        let is_payer = terms.from == self.payer;
        let payload = match terms.kind {
            Kind::Tail(tail) => self.request.tails[tail as usize].payloads_len,
            Kind::Announced | Kind::FirstHop | Kind::Hint if is_payer => 0,
            Kind::Announced | Kind::FirstHop | Kind::Hint => forward_payload_len(carried),
        };
        Some(Label {
            cost: label.cost.checked_add(cost)?,
            amount,
            cltv: label.cltv.checked_add(terms.cltv_expiry_delta)?,
            onion: label.onion.saturating_add(payload),
            hops: label.hops.checked_add(1)?,
            node: terms.from,
            next: index,
            via: edge,
        })
    }

    /// What an edge costs at the least on a way by which the payee gets an amount; `None` when no such way
    /// can use it.
    pub(crate) fn least_cost(&self, terms: &Terms, amount: u64, most: u64) -> Option<u64> {
        let carried = amount.max(terms.htlc_minimum);
        if carried > terms.htlc_maximum {
            return None;
        }
        // What `carried` is above the amount may have been paid for after this edge.
        self.cost(terms, carried, terms.fee(carried)?, most)
    }

    /// What it costs to carry an amount over an edge that costs so much in fees; `None` when that can't be, or
    /// is above `most`.
    fn cost(&self, terms: &Terms, carried: u64, fee: u64, most: u64) -> Option<u64> {
        let certain = fee.checked_add(self.weights.lock(terms.cltv_expiry_delta))?;
        // What needs no look at balances comes first.
        if certain > most || self.is_avoided(terms.from) {
            return None;
        }
        let over = self.overridden(terms);
        if !over.takes(carried) {
            return None;
        }
        let nats = self.nats(terms, &over, carried)?;
        let cost = certain
            .checked_add(over.penalty)?
            .checked_add(self.weights.risk(nats))?;
        (cost <= most).then_some(cost)
    }

    /// The label at the payee.
    pub(crate) fn start(&self, amount: u64) -> Label {
        let has_tails = !self.request.tails.is_empty();
        Label {
            cost: 0,
            amount,
            cltv: self.request.min_final_cltv_expiry_delta,
            onion: if has_tails {
                0
            } else {
                self.request.final_payload_len
            },
            hops: 0,
            node: self.payee,
            next: NONE,
            via: NONE,
        }
    }

    pub(crate) fn within_limits(&self, label: &Label, amount: u64) -> bool {
        let request = self.request;
        label.amount - amount <= request.max_fee.to_msat()
            && label.cltv <= request.max_total_cltv
            && label.hops <= request.max_hops.min(crate::MAX_HOPS)
            && label.onion <= ONION_LEN
    }

    /// The path of a label at the payer.
    pub(crate) fn found(&self, labels: &[Label], first: u32) -> Found {
        let mut label = &labels[first as usize];
        let mut found = Found {
            hops: Vec::new(),
            edges: Vec::new(),
            carried: Vec::new(),
            amount: labels.first().map_or(0, |start| start.amount),
            tail: None,
            total: label.amount,
            cltv: 0,
            onion: label.onion,
            hop_count: usize::from(label.hops),
        };
        while label.next != NONE {
            let next = &labels[label.next as usize];
            let terms = self.terms(label.via);
            let carried = next.amount.max(terms.htlc_minimum);
            found.edges.push(label.via);
            found.carried.push(carried);
            if let Kind::Tail(tail) = terms.kind {
                found.tail = Some(tail as usize);
                break;
            }
            found.hops.push(RouteHop {
                short_channel_id: self.short_channel_id(&terms),
                node_id: self.node_id(next.node),
                amount: Msat::new(carried),
                cltv_from_tip: next.cltv,
            });
            label = next;
        }
        found.cltv = found.hops.first().map_or(0, |hop| hop.cltv_from_tip);
        found
    }

    /// The edge of a hop between two nodes.
    pub(crate) fn find_edge(
        &self,
        short_channel_id: ShortChannelId,
        from: &NodeId,
        to: &NodeId,
    ) -> Option<Terms> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        let extra = self
            .extra_to(to)
            .map(|edge| self.terms(edge))
            .find(|terms| terms.from == from && terms.via == short_channel_id);
        extra.or_else(|| {
            let channel = self.graph.find_channel(short_channel_id)?;
            let node = self.graph_node(to)?;
            self.graph
                .edges_to(node)
                .map(|(_, edge)| edge)
                .find(|edge| edge.channel == channel && to_u32(edge.from.to_usize()) == from)
                .map(Terms::announced)
        })
    }

    /// Lets an edge count as carrying so much more (or less) from now on.
    pub(crate) fn set_in_use(&mut self, edge: u32, change: impl FnOnce(u64) -> u64) {
        let terms = self.terms(edge);
        let key = (self.short_channel_id(&terms), terms.direction);
        self.flag(&key);
        let entry = self
            .overrides
            .directions
            .entry(key)
            .or_insert(Override::NONE);
        entry.in_use = change(entry.in_use);
    }

    pub(crate) fn node_id(&self, node: u32) -> NodeId {
        match self.graph_node(node).and_then(|n| self.graph.node_id(n)) {
            Some(id) => id,
            None => self.extra_nodes[node as usize - self.graph.node_slots()],
        }
    }

    /// Whether a node must not forward.
    pub(crate) fn is_avoided(&self, node: u32) -> bool {
        !self.overrides.nodes.is_empty() && self.overrides.nodes.binary_search(&node).is_ok()
    }

    fn add_first_hops(&mut self) {
        for hop in self.request.first_hops {
            let to = self.node(&hop.peer);
            self.extra_edges.push(Terms {
                from: self.payer,
                to,
                via: hop.short_channel_id,
                channel: NONE,
                direction: Direction::between(&self.request.payer, &hop.peer),
                kind: Kind::FirstHop,
                htlc_minimum: hop.htlc_minimum.to_msat(),
                htlc_maximum: hop.spendable.to_msat(),
                capacity: hop.spendable.to_msat(),
                fee_base_msat: 0,
                fee_proportional_millionths: 0,
                cltv_expiry_delta: 0,
            });
        }
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
                let ends = (self.node(&hop.node_id), self.node(&to));
                self.extra_edges.push(Terms {
                    from: ends.0,
                    to: ends.1,
                    via: hop.short_channel_id,
                    channel: NONE,
                    direction: Direction::between(&hop.node_id, &to),
                    kind: Kind::Hint,
                    htlc_minimum: 0,
                    htlc_maximum: Msat::MAX_MONEY.to_msat(),
                    capacity: Msat::MAX_MONEY.to_msat(),
                    fee_base_msat: hop.fee_base_msat,
                    fee_proportional_millionths: hop.fee_proportional_millionths,
                    cltv_expiry_delta: u32::from(hop.cltv_expiry_delta),
                });
            }
        }
    }

    fn add_tails(&mut self) {
        for (position, tail) in (0u32..).zip(self.request.tails) {
            if tail.introduction_node == self.request.payer {
                continue;
            }
            let from = self.node(&tail.introduction_node);
            self.extra_edges.push(Terms {
                from,
                to: self.payee,
                via: ShortChannelId::from_u64(u64::from(position)),
                channel: NONE,
                direction: Direction::between(&tail.introduction_node, &self.request.payee),
                kind: Kind::Tail(position),
                htlc_minimum: tail.htlc_minimum.to_msat(),
                htlc_maximum: tail.htlc_maximum.to_msat(),
                capacity: tail.htlc_maximum.to_msat(),
                fee_base_msat: tail.fee_base_msat,
                fee_proportional_millionths: tail.fee_proportional_millionths,
                cltv_expiry_delta: u32::from(tail.cltv_expiry_delta),
            });
        }
    }

    fn index_extra_edges(&mut self) {
        self.has_extra = alloc::vec![0; self.node_slots() / 64 + 1];
        let first = to_u32(self.graph.edges().len());
        for (index, edge) in (first..).zip(&self.extra_edges) {
            self.extra_to.push((edge.to, index));
            self.extra_from.push((edge.from, index));
            for node in [edge.from, edge.to] {
                if let Some(word) = self.has_extra.get_mut(node as usize / 64) {
                    *word |= 1 << (node % 64);
                }
            }
        }
        self.extra_to.sort_by_key(|(to, _)| *to);
        self.extra_from.sort_by_key(|(from, _)| *from);
    }

    fn resolve_overrides(&mut self) {
        let request = self.request;
        let mut overrides = Overrides::default();
        let directions = &mut overrides.directions;
        let mut nodes: Vec<NodeId> = Vec::new();
        for list in request.avoid {
            for (channel, from_amount, penalty) in list.channels(request.now) {
                let entry = directions.entry(channel).or_insert(Override::NONE);
                entry.refuse_from = entry.refuse_from.min(from_amount.to_msat());
                entry.penalty = entry.penalty.max(penalty.to_msat());
            }
            nodes.extend(list.nodes(request.now));
        }
        for layer in request.layers {
            for (channel, rule) in layer.channels() {
                let entry = directions.entry(*channel).or_insert(Override::NONE);
                if rule.is_disabled {
                    entry.refuse_from = 0;
                }
                entry.penalty = entry.penalty.max(rule.bias.to_msat());
                if let Some(liquidity) = rule.liquidity {
                    let known = entry.liquidity.unwrap_or(u64::MAX);
                    entry.liquidity = Some(known.min(liquidity.to_msat()));
                }
            }
            nodes.extend(layer.nodes());
        }
        for (channel, amount) in request.in_use {
            let entry = directions.entry(*channel).or_insert(Override::NONE);
            entry.in_use = entry.in_use.saturating_add(amount.to_msat());
        }
        overrides.has_penalties = directions.values().any(|entry| entry.penalty > 0);
        for node in nodes {
            if node != request.payer && node != request.payee {
                overrides.nodes.extend(self.find(&node));
            }
        }
        overrides.nodes.sort_unstable();
        let keys: Vec<ChannelDirection> = overrides.directions.keys().copied().collect();
        self.overrides = overrides;
        for key in &keys {
            self.flag(key);
        }
    }

    fn flag(&mut self, key: &ChannelDirection) {
        let Some(channel) = self.graph.find_channel(key.0) else {
            return;
        };
        let flagged = &mut self.overrides.flagged;
        if flagged.is_empty() {
            flagged.resize(self.graph.channel_count() * 2 / 64 + 1, 0);
        }
        let bit = channel.to_usize() * 2 + usize::from(key.1.to_bit());
        flagged[bit / 64] |= 1 << (bit % 64);
    }

    fn find(&self, id: &NodeId) -> Option<u32> {
        if let Some(node) = self.graph.find_node(id) {
            return Some(to_u32(node.to_usize()));
        }
        self.extra_ids.get(id).copied()
    }

    /// The index of a node of the request, known or not.
    fn node(&mut self, id: &NodeId) -> u32 {
        if let Some(node) = self.find(id) {
            return node;
        }
        let node = to_u32(self.node_slots());
        self.extra_nodes.push(*id);
        self.extra_ids.insert(*id, node);
        node
    }
}

impl Terms {
    pub(crate) fn announced(edge: &Edge) -> Self {
        Self {
            from: to_u32(edge.from.to_usize()),
            to: to_u32(edge.to.to_usize()),
            via: ShortChannelId::from_u64(0),
            channel: to_u32(edge.channel.to_usize()),
            direction: edge.direction,
            kind: Kind::Announced,
            htlc_minimum: edge.htlc_minimum.to_msat(),
            htlc_maximum: edge.htlc_maximum.to_msat(),
            capacity: edge.capacity.to_msat(),
            fee_base_msat: edge.fee_base_msat,
            fee_proportional_millionths: edge.fee_proportional_millionths,
            cltv_expiry_delta: u32::from(edge.cltv_expiry_delta),
        }
    }

    /// The fee for carrying an amount (BOLT 7, HTLC Fees).
    pub(crate) fn fee(&self, carried: u64) -> Option<u64> {
        let rate = u64::from(self.fee_proportional_millionths);
        let proportional = match carried.checked_mul(rate) {
            Some(product) => product / 1_000_000,
            None => u64::try_from(u128::from(carried) * u128::from(rate) / 1_000_000).ok()?,
        };
        proportional.checked_add(u64::from(self.fee_base_msat))
    }
}

/// The bytes of a forwarding hop in the onion: length, amount, expiry, short id, HMAC. The expiry is
/// counted with its greatest length.
fn forward_payload_len(amount: u64) -> u16 {
    let amount_len = 8 - amount.leading_zeros() / 8;
    let len = 1 + 2 + amount_len + 6 + 10 + 32;
    u16::try_from(len).unwrap_or(u16::MAX)
}

pub(crate) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}

/// An announced edge's place, as the searches count.
pub(crate) fn edge_number(edge: EdgeIndex) -> u32 {
    to_u32(edge.to_usize())
}
