//! The way that a payment would take.

use std::sync::Arc;

use fulmen::{
    gossip::NetworkGraph,
    router::{Explanation, HopExplanation, Source},
};
use fulmen_api::{self as api, ErrorCode, HopKnowledge};
use fulmen_node::PayCommand;
use fulmen_types::{Msat, NodeId};
use fulmen_wire::NodeAlias;

use super::{App, Caller, Serve, blocking, node_id_of, now};
use crate::api_error::ApiError;

impl Serve for api::FindRoute {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::FoundRoute, ApiError> {
        let now = now();
        let amount = self.amount_msat.map(Msat::new);
        let max_fee = self.max_fee_msat.map(Msat::new);
        let to = self.to.trim();
        let (query, graph) = if to.starts_with("02") || to.starts_with("03") {
            let payee = NodeId::from(node_id_of(to)?);
            let amount = amount
                .ok_or_else(|| ApiError::invalid("a node does not say how much: give an amount"))?;
            app.node
                .query(move |node| {
                    let query = node.route_query_to(payee, amount, max_fee, now);
                    (query, node.graph())
                })
                .await?
        } else {
            let command = PayCommand {
                invoice: to.to_owned(),
                amount,
                max_fee,
                timeout_secs: None,
            };
            app.node
                .query(move |node| {
                    let query = node.route_query(&command, now)?;
                    Ok::<_, fulmen_node::CommandError>((query, node.graph()))
                })
                .await??
        };
        let router = Arc::clone(&app.router);
        blocking(move || match router.explain(&query, &graph) {
            Ok(explanation) => Ok(found(&explanation, query.question.amount, &graph)),
            Err(reason) => Err(ApiError::new(ErrorCode::Refused, reason.to_string())),
        })
        .await
    }
}

fn found(explanation: &Explanation, amount: Msat, graph: &NetworkGraph) -> api::FoundRoute {
    api::FoundRoute {
        amount_msat: amount.to_msat(),
        fee_msat: explanation.cost.fee.to_msat(),
        time_cost_msat: explanation.cost.lock.to_msat(),
        risk_cost_msat: explanation.cost.risk.to_msat(),
        success_ppm: explanation.success.to_ppm(),
        parts: explanation
            .parts
            .iter()
            .map(|part| api::RoutePart {
                amount_msat: part.amount.to_msat(),
                fee_msat: part.fee.to_msat(),
                blocks: part.blocks,
                success_ppm: part.success.to_ppm(),
                hops: part.hops.iter().map(|hop| route_hop(hop, graph)).collect(),
            })
            .collect(),
    }
}

fn route_hop(hop: &HopExplanation, graph: &NetworkGraph) -> api::RouteHop {
    api::RouteHop {
        short_channel_id: hop.short_channel_id.to_string(),
        to: hop.to.to_string(),
        alias: graph
            .node_details(&hop.to)
            .map(|details| NodeAlias::from_bytes(details.alias).to_string()),
        amount_msat: hop.amount.to_msat(),
        fee_msat: hop.fee.to_msat(),
        cltv_expiry_delta: hop.cltv_expiry_delta,
        success_ppm: hop.success.to_ppm(),
        known: match hop.source {
            Source::Own => HopKnowledge::Own,
            Source::Stated => HopKnowledge::Invoice,
            Source::Learned { least, most } => HopKnowledge::Tried {
                least_msat: least.to_msat(),
                most_msat: most.to_msat(),
            },
            Source::Capacity(capacity) => HopKnowledge::Capacity {
                capacity_msat: capacity.to_msat(),
            },
            Source::Unknown => HopKnowledge::Gone,
        },
    }
}
