//! Both routers behind one question: ways for an amount, given what was learned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Network as Chain, constants::ChainHash, secp256k1::PublicKey};
use fulmen_gossip::{Direction, NetworkGraph};
use fulmen_netgen::Network;
use fulmen_router::{
    CostModel, FirstHop, NoRoute, Plan, Route, RouteOutcome, RouteRequest, Router,
};
use fulmen_types::{Msat, NodeId, Timestamp};
use lightning::ln::channel_state::{ChannelCounterparty, ChannelDetails};
use lightning::ln::msgs::UnsignedChannelUpdate;
use lightning::ln::types::ChannelId;
use lightning::routing::gossip as ldk_gossip;
use lightning::routing::router::{
    self as ldk_router, InFlightHtlcs, PaymentParameters, RouteParameters,
    ScorerAccountingForInFlightHtlcs,
};
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
    ScoreUpdate,
};
use lightning::types::features::{Bolt11InvoiceFeatures, ChannelFeatures, InitFeatures};
use lightning::util::logger::{Logger, Record};

use crate::world::{Hop, Way};

pub(crate) const FINAL_CLTV: u32 = 42;

/// A question to either.
pub(crate) struct Question<'a> {
    pub(crate) payer: NodeId,
    pub(crate) payee: NodeId,
    pub(crate) first_hops: &'a [FirstHop],
    pub(crate) amount: u64,
    pub(crate) max_fee: u64,
    pub(crate) max_parts: u16,
    /// HTLCs of the same payment that wait at the payee, own channels left out.
    pub(crate) held: &'a [Way],
    pub(crate) now: u64,
}

/// How an HTLC ended.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Settled,
    /// Reached the payee and was failed since other parts did not come.
    Reached,
    RefusedAt(usize),
}

pub(crate) trait Contender {
    /// Ways for the amount; empty when there are none.
    fn ways(&mut self, question: &Question<'_>) -> Vec<Way>;
    /// A new payment begins.
    fn begin(&mut self) {}
    /// Learns from one of the ways of the latest answers.
    fn learn(&mut self, payer: &NodeId, way: &Way, outcome: Outcome, now: u64);
}

/// Ours.
pub(crate) struct Ours {
    pub(crate) graph: Arc<NetworkGraph>,
    pub(crate) router: Router,
    pub(crate) cost: CostModel,
    /// The routes behind the ways of the latest answers of a payment.
    routes: Vec<(Way, Route)>,
}

impl Ours {
    pub(crate) fn new(graph: Arc<NetworkGraph>) -> Self {
        Self {
            graph,
            router: Router::new(),
            cost: CostModel::BALANCED,
            routes: Vec::new(),
        }
    }

    /// The question itself, without turning the answer into ways: what is measured.
    pub(crate) fn plan(&mut self, question: &Question<'_>) -> Result<Plan, NoRoute> {
        let mut in_use: BTreeMap<_, u64> = BTreeMap::new();
        for hop in question.held.iter().flat_map(|way| way.hops.iter().skip(1)) {
            let scid = fulmen_types::ShortChannelId::from_u64(hop.short_channel_id);
            *in_use.entry((scid, hop.direction)).or_insert(0) += hop.amount;
        }
        let in_use: Vec<_> = in_use.into_iter().map(|(k, v)| (k, Msat::new(v))).collect();
        let request = RouteRequest {
            max_fee: Msat::new(question.max_fee),
            in_use: &in_use,
            cost: self.cost,
            now: Timestamp::from_secs(question.now),
            ..RouteRequest::new(
                question.payer,
                question.first_hops,
                question.payee,
                Msat::new(question.amount),
                FINAL_CLTV,
            )
        };
        self.router.plan(&self.graph, &request, question.max_parts)
    }
}

pub(crate) fn our_way(payer: &NodeId, route: &Route) -> Way {
    let hops = route.hops.iter().enumerate().map(|(index, hop)| Hop {
        short_channel_id: hop.short_channel_id.to_u64(),
        direction: route.direction(payer, index).unwrap_or(Direction::Forward),
        amount: hop.amount.to_msat(),
    });
    let blocks = route
        .hops
        .first()
        .map_or(0, |hop| hop.cltv_from_tip - FINAL_CLTV);
    Way {
        hops: hops.collect(),
        amount: route.amount.to_msat(),
        blocks: u64::from(blocks),
    }
}

impl Contender for Ours {
    fn ways(&mut self, question: &Question<'_>) -> Vec<Way> {
        let Ok(plan) = self.plan(question) else {
            return Vec::new();
        };
        let ways = plan.parts.into_iter().map(|route| {
            let way = our_way(&question.payer, &route);
            self.routes.push((way.clone(), route));
            way
        });
        ways.collect()
    }

    fn begin(&mut self) {
        self.routes.clear();
    }

    fn learn(&mut self, payer: &NodeId, way: &Way, outcome: Outcome, now: u64) {
        let outcome = match outcome {
            Outcome::Settled => RouteOutcome::Settled,
            Outcome::Reached => RouteOutcome::Reached,
            Outcome::RefusedAt(at) => RouteOutcome::RefusedAt(at),
        };
        if let Some((_, route)) = self.routes.iter().rev().find(|(w, _)| w.hops == way.hops) {
            let now = Timestamp::from_secs(now);
            self.router
                .learn(&self.graph, payer, &route.hops, outcome, now);
        }
    }
}

pub(crate) struct Silent;

impl Logger for Silent {
    fn log(&self, _record: Record<'_>) {}
}

pub(crate) type LdkGraph = ldk_gossip::NetworkGraph<Arc<Silent>>;

/// The same network as LDK holds it. Updates are given today's time, since it refuses old ones.
pub(crate) fn ldk_graph(network: &Network) -> anyhow::Result<LdkGraph> {
    let graph = LdkGraph::new(Chain::Regtest, Arc::new(Silent));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    for channel in &network.channels {
        let scid = channel.short_channel_id.to_u64();
        let [a, b] = channel
            .nodes
            .map(|node| ldk_gossip::NodeId::from_slice(network.nodes[node as usize].as_bytes()));
        graph
            .add_channel_from_partial_announcement(
                scid,
                Some(channel.capacity.to_sat()),
                now,
                ChannelFeatures::empty(),
                a.map_err(|e| anyhow::anyhow!("{e:?}"))?,
                b.map_err(|e| anyhow::anyhow!("{e:?}"))?,
            )
            .map_err(|e| anyhow::anyhow!("{}", e.err))?;
        for (direction, policy) in (0u8..).zip(&channel.policies) {
            let Some(policy) = policy else { continue };
            graph
                .update_channel_unsigned(&UnsignedChannelUpdate {
                    chain_hash: ChainHash::REGTEST,
                    short_channel_id: scid,
                    timestamp: u32::try_from(now)?,
                    message_flags: 1,
                    channel_flags: direction | if policy.disabled { 2 } else { 0 },
                    cltv_expiry_delta: policy.cltv_expiry_delta.to_u16(),
                    htlc_minimum_msat: policy.htlc_minimum.to_msat(),
                    htlc_maximum_msat: policy.htlc_maximum.to_msat(),
                    fee_base_msat: policy.fee_base_msat,
                    fee_proportional_millionths: policy.fee_proportional_millionths,
                    excess_data: Vec::new(),
                })
                .map_err(|e| anyhow::anyhow!("{}", e.err))?;
        }
    }
    Ok(graph)
}

/// LDK's router and scorer, with their defaults.
pub(crate) struct Ldk {
    graph: Arc<LdkGraph>,
    scorer: ProbabilisticScorer<Arc<LdkGraph>, Arc<Silent>>,
    params: ProbabilisticScoringFeeParameters,
    failed: Vec<u64>,
    paths: Vec<(Way, ldk_router::Path)>,
    questions: u64,
}

impl Ldk {
    pub(crate) fn new(graph: Arc<LdkGraph>) -> Self {
        let decay = ProbabilisticScoringDecayParameters::default();
        let scorer = ProbabilisticScorer::new(decay, Arc::clone(&graph), Arc::new(Silent));
        Self {
            graph,
            scorer,
            params: ProbabilisticScoringFeeParameters::default(),
            failed: Vec::new(),
            paths: Vec::new(),
            questions: 0,
        }
    }

    /// The question in LDK's terms.
    pub(crate) fn prepare(&mut self, question: &Question<'_>) -> Prepared {
        let payer = key(&question.payer);
        let mut features = Bolt11InvoiceFeatures::empty();
        features.set_variable_length_onion_required();
        features.set_payment_secret_required();
        features.set_basic_mpp_optional();
        let mut payment = PaymentParameters::from_node_id(key(&question.payee), FINAL_CLTV)
            .with_bolt11_features(features)
            .expect("the payee is no blinded path")
            .with_max_path_count(u8::try_from(question.max_parts).unwrap_or(u8::MAX));
        payment.previously_failed_channels = self.failed.clone();
        let mut route = RouteParameters::from_payment_params_and_value(payment, question.amount);
        route.max_total_routing_fee_msat = Some(question.max_fee);
        let mut in_flight = InFlightHtlcs::new();
        for way in question.held {
            if let Some((_, path)) = self.paths.iter().rev().find(|(w, _)| w.hops == way.hops) {
                in_flight.process_path(path, payer);
            }
        }
        self.questions += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.questions.to_be_bytes());
        Prepared {
            payer,
            route,
            in_flight,
            first_hops: question.first_hops.iter().map(channel_details).collect(),
            seed,
        }
    }

    /// What is measured.
    pub(crate) fn find(&self, prepared: &Prepared) -> Result<ldk_router::Route, &'static str> {
        let first_hops: Vec<&ChannelDetails> = prepared.first_hops.iter().collect();
        ldk_router::find_route(
            &prepared.payer,
            &prepared.route,
            &self.graph,
            Some(&first_hops),
            Arc::new(Silent),
            &ScorerAccountingForInFlightHtlcs::new(&self.scorer, &prepared.in_flight),
            &self.params,
            &prepared.seed,
        )
    }

    pub(crate) fn take(&mut self, payer: &NodeId, route: ldk_router::Route) -> Vec<Way> {
        let ways = route.paths.into_iter().map(|path| {
            let way = ldk_way(payer, &path);
            self.paths.push((way.clone(), path));
            way
        });
        ways.collect()
    }
}

pub(crate) struct Prepared {
    payer: PublicKey,
    route: RouteParameters,
    in_flight: InFlightHtlcs,
    first_hops: Vec<ChannelDetails>,
    seed: [u8; 32],
}

pub(crate) fn ldk_way(payer: &NodeId, path: &ldk_router::Path) -> Way {
    let mut from = *payer;
    let mut left: u64 = path.hops.iter().map(|hop| hop.fee_msat).sum();
    let mut way = Way {
        amount: path.final_value_msat(),
        blocks: path
            .hops
            .iter()
            .rev()
            .skip(1)
            .map(|h| u64::from(h.cltv_expiry_delta))
            .sum(),
        hops: Vec::new(),
    };
    let mut fee_before = 0;
    for hop in &path.hops {
        left -= fee_before;
        let to = NodeId::new(hop.pubkey.serialize());
        way.hops.push(Hop {
            short_channel_id: hop.short_channel_id,
            direction: Direction::between(&from, &to),
            amount: left,
        });
        fee_before = hop.fee_msat;
        from = to;
    }
    way
}

impl Contender for Ldk {
    fn ways(&mut self, question: &Question<'_>) -> Vec<Way> {
        let prepared = self.prepare(question);
        match self.find(&prepared) {
            Ok(route) => self.take(&question.payer, route),
            Err(_) => Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.failed.clear();
        self.paths.clear();
    }

    fn learn(&mut self, _payer: &NodeId, way: &Way, outcome: Outcome, now: u64) {
        let now = Duration::from_secs(now);
        let known = self.paths.iter().rev().find(|(w, _)| w.hops == way.hops);
        let Some((_, path)) = known else { return };
        match outcome {
            Outcome::Settled => self.scorer.payment_path_successful(path, now),
            Outcome::Reached => self.scorer.probe_successful(path, now),
            Outcome::RefusedAt(at) => {
                let scid = path.hops[at].short_channel_id;
                self.scorer.payment_path_failed(path, scid, now);
                // As its payments do: not again over this channel in the same payment.
                self.failed.push(scid);
            }
        }
        self.scorer.time_passed(now);
    }
}

fn key(node: &NodeId) -> PublicKey {
    PublicKey::from_slice(node.as_bytes()).expect("generated nodes have keys")
}

fn channel_details(hop: &FirstHop) -> ChannelDetails {
    let spendable = hop.spendable.to_msat();
    ChannelDetails {
        channel_id: ChannelId::new_zero(),
        counterparty: ChannelCounterparty {
            node_id: key(&hop.peer),
            features: InitFeatures::empty(),
            unspendable_punishment_reserve: 0,
            forwarding_info: None,
            outbound_htlc_minimum_msat: Some(1),
            outbound_htlc_maximum_msat: None,
        },
        funding_txo: None,
        funding_redeem_script: None,
        channel_type: None,
        short_channel_id: Some(hop.short_channel_id.to_u64()),
        outbound_scid_alias: None,
        inbound_scid_alias: None,
        channel_value_satoshis: spendable / 1_000 + 1,
        unspendable_punishment_reserve: None,
        user_channel_id: 0,
        feerate_sat_per_1000_weight: None,
        outbound_capacity_msat: spendable,
        next_outbound_htlc_limit_msat: spendable,
        next_outbound_htlc_minimum_msat: 1,
        inbound_capacity_msat: 0,
        confirmations_required: None,
        confirmations: None,
        force_close_spend_delay: None,
        is_outbound: true,
        is_channel_ready: true,
        channel_shutdown_state: None,
        is_usable: true,
        is_announced: true,
        inbound_htlc_minimum_msat: None,
        inbound_htlc_maximum_msat: None,
        config: None,
        pending_inbound_htlcs: Vec::new(),
        pending_outbound_htlcs: Vec::new(),
    }
}
