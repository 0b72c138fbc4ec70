//! How the node is, what there is, and the end.

use std::sync::Arc;

use fulmen::network_name;
use fulmen_api as api;
use fulmen_block_sync::Status;
use fulmen_types::Msat;

use super::{App, Caller, Serve, blocking, now, parse_invoice};
use crate::{api_error::ApiError, views};

impl Serve for api::GetInfo {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::NodeInfo, ApiError> {
        let info = app.node.query(|node| node.info()).await?;
        let wallet = app.wallet.clone();
        let wallet_height = blocking(move || Ok(wallet.tip().0.height)).await?;
        let [channels_usable, channels_waiting, channels_closing] = info.channels;
        Ok(api::NodeInfo {
            node_id: info.node_id.to_string(),
            alias: app.alias.clone(),
            network: network_name(info.network).to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: api::API_VERSION,
            listen: app.listen.clone(),
            uri: format!("{}@{}", info.node_id, app.listen),
            block_height: info.tip.height.to_u32(),
            block_hash: info.tip.hash.to_string(),
            wallet_height,
            chain: chain_state(&app.chain.borrow(), info.synced),
            feerates: app.feerates.borrow().map(|rates| api::FeeratesInfo {
                background_sat_per_kw: rates.background.to_sat_per_kw(),
                normal_sat_per_kw: rates.normal.to_sat_per_kw(),
                urgent_sat_per_kw: rates.urgent.to_sat_per_kw(),
            }),
            peers: info.peers,
            channels_usable,
            channels_waiting,
            channels_closing,
            graph_nodes: info.graph.0,
            graph_channels: info.graph.1,
            graph_policies: info.graph_policies,
            last_event: info.last_event,
            trouble: app.node.trouble(),
            uptime_secs: app.started.elapsed().as_secs(),
        })
    }
}

fn chain_state(status: &Status, node_synced: bool) -> api::ChainState {
    match status {
        Status::Starting => api::ChainState::Starting,
        Status::Up { synced, .. } => api::ChainState::Up {
            synced: *synced && node_synced,
        },
        Status::Down {
            since,
            attempts,
            error,
        } => api::ChainState::Down {
            since_secs: since.elapsed().unwrap_or_default().as_secs(),
            attempts: *attempts,
            error: error.clone(),
        },
    }
}
impl Serve for api::Balance {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::BalanceInfo, ApiError> {
        let (balance, channels) = app
            .node
            .query(|node| (node.balance_info(), node.channels_info()))
            .await?;
        let wallet = app.wallet.clone();
        let funds = blocking(move || Ok(wallet.funds())).await?;
        let sweeps: Vec<api::SweepInfo> = balance
            .sweeps
            .iter()
            .map(|(id, sweep)| views::sweep(*id, sweep))
            .collect();
        Ok(api::BalanceInfo {
            onchain_confirmed_sat: funds.confirmed.to_sat(),
            onchain_unconfirmed_sat: funds.unconfirmed.to_sat(),
            onchain_leased_sat: funds.leased.to_sat(),
            reserve_sat: balance.reserve.to_sat(),
            channels_msat: balance.channels.to_msat(),
            in_flight_msat: balance.in_flight.to_msat(),
            spendable_msat: channels
                .iter()
                .fold(Msat::ZERO, |sum, channel| {
                    sum.saturating_add(channel.spendable)
                })
                .to_msat(),
            sweeping_sat: sweeps.iter().map(|sweep| sweep.amount_sat).sum(),
            sweeps,
        })
    }
}

impl Serve for api::Decode {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::DecodedInvoice, ApiError> {
        let invoice = parse_invoice(&app, &self.bolt11)?;
        Ok(views::decoded(&invoice, app.network, now()))
    }
}

impl Serve for api::Stop {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::Done, ApiError> {
        tracing::info!("asked to stop");
        app.stopping.send_replace(true);
        Ok(api::Done {})
    }
}
