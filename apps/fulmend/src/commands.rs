//! The commands of the API, one by one.

use std::{
    cmp::Reverse,
    future::Future,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::{
    Address, Amount, Network, ScriptBuf,
    address::NetworkUnchecked,
    hashes::{Hash, sha256},
    secp256k1::{PublicKey, Secp256k1, VerifyOnly},
};
use fulmen_api::{self as api, ErrorCode, Request};
use fulmen_block_sync::Status;
use fulmen_invoice::Invoice as Bolt11;
use fulmen_node::{
    ChannelSelector, CloseMode, Command, CommandId, OpenChannelCommand, PayCommand, PeerAddress,
    Reply,
};
use fulmen_payments::{Invoice, Payment};
use fulmen_types::{
    ChannelId, ChannelType, FeeratePerKw, Feerates, Msat, PaymentHash, ShortChannelId, Timestamp,
    codec::Decode,
    record::{RecordKey, Space},
};
use tokio::sync::watch;

use crate::{
    api_error::ApiError, config::network_name, events::EventLog, node_access::NodeAccess,
    token::Token, views, wallet::OnchainWallet,
};

/// Blocking reads of a list are done page by page.
const PAGE: usize = 1_000;
/// How long a wait for a payment is at most when it does not say; the payment goes on.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_EXPIRY_SECS: u32 = 3_600;

/// All that commands need.
pub(crate) struct App {
    pub(crate) node: NodeAccess,
    pub(crate) wallet: OnchainWallet,
    pub(crate) broadcaster: Arc<dyn fulmen_background_processor::Broadcaster>,
    pub(crate) events: EventLog,
    pub(crate) token: Token,
    pub(crate) network: Network,
    pub(crate) alias: String,
    pub(crate) listen: String,
    pub(crate) chain: watch::Receiver<Status>,
    pub(crate) feerates: watch::Receiver<Option<Feerates>>,
    pub(crate) started: Instant,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) secp: Secp256k1<VerifyOnly>,
}

/// Who asks: gives a command its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    id: CommandId,
}

impl Caller {
    /// With the same key the same command is done once.
    pub(crate) fn new(key: Option<&[u8]>) -> Result<Self, ApiError> {
        let mut id = [0u8; 16];
        match key {
            Some(key) => {
                let hash = sha256::Hash::hash(key).to_byte_array();
                let (half, _) = hash.split_at(16);
                id.copy_from_slice(half);
            }
            None => getrandom::fill(&mut id)
                .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?,
        }
        Ok(Self { id: CommandId(id) })
    }
}

/// A command that the daemon serves.
pub(crate) trait Serve: Request {
    fn serve(
        self,
        app: Arc<App>,
        caller: Caller,
    ) -> impl Future<Output = Result<Self::Answer, ApiError>> + Send;
}

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

impl Serve for api::NewAddress {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::NewAddressAnswer, ApiError> {
        let wallet = app.wallet.clone();
        let address = blocking(move || Ok(wallet.new_address()?)).await?;
        Ok(api::NewAddressAnswer {
            address: address.to_string(),
        })
    }
}

impl Serve for api::Withdraw {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::WithdrawAnswer, ApiError> {
        let script = script_of(&self.address, app.network)?;
        let feerate = match self.feerate_sat_per_vb {
            Some(rate) => feerate(rate)?,
            None => app.feerates.borrow().map(|rates| rates.normal).ok_or_else(|| {
                ApiError::unavailable(
                    "there is no estimate of feerates yet: the chain source does not answer; say a feerate, or try again when `getinfo` shows the chain as up",
                )
            })?,
        };
        let reserve = app.node.query(|node| node.required_reserve()).await?;
        let amount = self.amount_sat.map(Amount::from_sat);
        let wallet = app.wallet.clone();
        let done = blocking(move || {
            Ok(wallet.withdraw(script, amount, feerate, reserve, now().to_secs_floor())?)
        })
        .await?;
        let txid = done.transaction.compute_txid();
        // It is the wallet's from now on: what the network says now does not undo it.
        use fulmen_node::BroadcastAnswer as Said;
        match app.broadcaster.broadcast(vec![done.transaction]).await {
            Said::Accepted | Said::Known => {}
            said => {
                tracing::warn!(%txid, ?said, "a withdrawal was not taken by the network yet; it is tried again")
            }
        }
        Ok(api::WithdrawAnswer {
            txid: txid.to_string(),
            amount_sat: done.amount.to_sat(),
            fee_sat: done.fee.to_sat(),
        })
    }
}

impl Serve for api::Connect {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Connected, ApiError> {
        let (peer, address) = match peer_of(&self.peer)? {
            (peer, Some(address)) => (peer, address),
            (peer, None) => {
                return Err(ApiError::invalid(format!(
                    "say where the peer listens: {peer}@host:port"
                )));
            }
        };
        app.connect(caller.id, peer, address).await?;
        Ok(api::Connected {
            node_id: peer.to_string(),
        })
    }
}

impl Serve for api::Disconnect {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Done, ApiError> {
        let peer = node_id_of(&self.node_id)?;
        app.node
            .command(
                caller.id,
                Command::Disconnect {
                    peer,
                    force: self.force,
                },
            )
            .await?;
        Ok(api::Done {})
    }
}

impl Serve for api::ListPeers {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::PeerList, ApiError> {
        let peers = app.node.query(|node| node.peers_info()).await?;
        Ok(api::PeerList {
            peers: peers.iter().map(views::peer).collect(),
        })
    }
}

impl Serve for api::OpenChannel {
    async fn serve(
        self,
        app: Arc<App>,
        caller: Caller,
    ) -> Result<api::OpenChannelAnswer, ApiError> {
        let (peer, address) = peer_of(&self.peer)?;
        let channel_type = match self.channel_type.as_deref() {
            None => None,
            Some("anchors") => Some(ChannelType::anchors()),
            Some("static_remotekey") => Some(ChannelType::static_remote_key()),
            Some(other) => {
                return Err(ApiError::invalid(format!(
                    "channel_type = {:?} is not known; take anchors or static_remotekey",
                    views::printable(other)
                )));
            }
        };
        let command = OpenChannelCommand {
            peer,
            amount: Amount::from_sat(self.amount_sat),
            push: Msat::new(self.push_msat),
            announce: !self.private,
            feerate: self.feerate_sat_per_vb.map(feerate).transpose()?,
            channel_type,
        };
        if let Some(address) = address {
            app.connect(Caller::new(None)?.id, peer, address).await?;
        }
        match app
            .node
            .command(caller.id, Command::OpenChannel(command))
            .await?
        {
            Reply::ChannelOpening {
                channel_id,
                funding,
            } => Ok(api::OpenChannelAnswer {
                channel_id: channel_id.to_string(),
                funding: funding.to_string(),
            }),
            other => Err(unexpected(&other)),
        }
    }
}

impl Serve for api::CloseChannel {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::Done, ApiError> {
        let channel = app.find_channel(&self.channel).await?;
        if self.force && (self.address.is_some() || self.feerate_sat_per_vb.is_some()) {
            return Err(ApiError::invalid(
                "a forced close pays to the node's own wallet at its own feerate: leave out address and feerate",
            ));
        }
        let mode = if self.force {
            CloseMode::Force
        } else {
            CloseMode::Cooperative {
                script_pubkey: self
                    .address
                    .as_deref()
                    .map(|address| script_of(address, app.network))
                    .transpose()?,
                feerate: self.feerate_sat_per_vb.map(feerate).transpose()?,
            }
        };
        let command = Command::CloseChannel {
            channel: ChannelSelector::Id(channel),
            mode,
        };
        app.node.command(caller.id, command).await?;
        Ok(api::Done {})
    }
}

impl Serve for api::ListChannels {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::ChannelList, ApiError> {
        let (channels, peers) = app
            .node
            .query(|node| (node.channels_info(), node.peers_info()))
            .await?;
        let is_connected = |id: &PublicKey| {
            peers
                .iter()
                .any(|peer| peer.node_id == *id && peer.connection.is_some())
        };
        Ok(api::ChannelList {
            channels: channels
                .iter()
                .map(|channel| views::channel(channel, is_connected(&channel.peer)))
                .collect(),
        })
    }
}

impl Serve for api::Invoice {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::InvoiceCreated, ApiError> {
        let command = Command::CreateInvoice {
            amount: self.amount_msat.map(Msat::new),
            description: self.description,
            expiry_secs: self.expiry_secs.unwrap_or(DEFAULT_EXPIRY_SECS),
        };
        match app.node.command(caller.id, command).await? {
            Reply::Invoice {
                invoice,
                payment_hash,
            } => Ok(api::InvoiceCreated {
                bolt11: invoice,
                payment_hash: payment_hash.to_string(),
            }),
            other => Err(unexpected(&other)),
        }
    }
}

impl Serve for api::ListInvoices {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::InvoiceList, ApiError> {
        let now = now();
        let only = self
            .payment_hash
            .as_deref()
            .map(payment_hash_of)
            .transpose()?;
        let mut invoices: Vec<api::InvoiceInfo> = app
            .node
            .query(move |node| {
                let wanted =
                    |invoice: &&Invoice| only.is_none_or(|hash| invoice.payment_hash() == hash);
                node.invoices()
                    .filter(wanted)
                    .map(|invoice| views::invoice(invoice, now))
                    .collect()
            })
            .await?;
        let archived = app.archive(Space::InvoiceArchive, only, move |value| {
            Invoice::from_bytes(value)
                .ok()
                .map(|invoice| views::invoice(&invoice, now))
        });
        merge(&mut invoices, archived.await?, |invoice| {
            invoice.payment_hash.clone()
        });
        invoices.sort_by_key(|invoice| Reverse(invoice.created_at_millis));
        invoices.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(api::InvoiceList { invoices })
    }
}

impl Serve for api::Pay {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::PaymentInfo, ApiError> {
        // Told before the command is given, so that no end is missed.
        let invoice = parse_invoice(&app, &self.bolt11)?;
        let hash = invoice.details().payment_hash;
        let ended = app.events.end_of(hash);
        let command = Command::Pay(PayCommand {
            invoice: self.bolt11,
            amount: self.amount_msat.map(Msat::new),
            max_fee: self.max_fee_msat.map(Msat::new),
            timeout_secs: self.timeout_secs,
        });
        let begun = app.node.command(caller.id, command).await;
        let payment_hash = match begun {
            Ok(Reply::Payment {
                payment_hash,
                ended: Some(record),
            }) => {
                drop(ended);
                app.events.forget(&payment_hash);
                return match Payment::from_record(&record) {
                    Ok(payment) => Ok(views::payment(&payment)),
                    Err(e) => Err(ApiError::new(ErrorCode::Internal, e.to_string())),
                };
            }
            Ok(Reply::Payment {
                payment_hash,
                ended: None,
            }) => payment_hash,
            Ok(other) => {
                app.events.forget(&hash);
                return Err(unexpected(&other));
            }
            Err(e) => {
                drop(ended);
                app.events.forget(&hash);
                return Err(e);
            }
        };
        if self.wait {
            // It ends by itself: its time to try is limited, and what is in flight is settled or times out.
            let mut stopping = app.stopping.subscribe();
            tokio::select! {
                _ = ended => {}
                () = tokio::time::sleep(LONGEST_WAIT) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        } else {
            drop(ended);
        }
        app.events.forget(&payment_hash);
        app.payment(payment_hash).await?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Internal,
                "the payment that was begun is not in the list",
            )
        })
    }
}

impl Serve for api::ListPayments {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::PaymentList, ApiError> {
        let only = self
            .payment_hash
            .as_deref()
            .map(payment_hash_of)
            .transpose()?;
        let mut payments: Vec<api::PaymentInfo> = app
            .node
            .query(move |node| {
                let wanted = |payment: &&Payment| {
                    only.is_none_or(|hash| payment.request.payment_hash == hash)
                };
                node.payments().filter(wanted).map(views::payment).collect()
            })
            .await?;
        let archived = app.archive(Space::PaymentArchive, only, |value| {
            Payment::from_record(value)
                .ok()
                .map(|payment| views::payment(&payment))
        });
        merge(&mut payments, archived.await?, |payment| {
            payment.payment_hash.clone()
        });
        payments.sort_by_key(|payment| Reverse(payment.created_at_millis));
        payments.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(api::PaymentList { payments })
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

impl App {
    async fn connect(
        &self,
        id: CommandId,
        peer: PublicKey,
        address: PeerAddress,
    ) -> Result<(), ApiError> {
        let place = views::printable(&address.0);
        match self
            .node
            .command(id, Command::Connect { peer, address })
            .await
        {
            Ok(_) => Ok(()),
            Err(ApiError(mut detail)) if detail.code == ErrorCode::Failed => {
                detail.message = format!(
                    "could not connect to {peer} at {place}: {}; check the node id and the address, and that the peer runs",
                    detail.message
                );
                Err(ApiError(detail))
            }
            Err(other) => Err(other),
        }
    }

    /// A payment, on its way or ended.
    async fn payment(&self, hash: PaymentHash) -> Result<Option<api::PaymentInfo>, ApiError> {
        // The archive last: a payment moves there, never back.
        let live = self
            .node
            .query(move |node| {
                node.payments()
                    .find(|payment| payment.request.payment_hash == hash)
                    .map(views::payment)
            })
            .await?;
        if live.is_some() {
            return Ok(live);
        }
        let archived = self.archive(Space::PaymentArchive, Some(hash), |value| {
            Payment::from_record(value)
                .ok()
                .map(|payment| views::payment(&payment))
        });
        Ok(archived.await?.into_iter().next())
    }

    /// Records of an archive that is keyed by payment hash, one or all.
    async fn archive<T: Send + 'static>(
        &self,
        space: Space,
        only: Option<PaymentHash>,
        read: impl Fn(&[u8]) -> Option<T> + Send + 'static,
    ) -> Result<Vec<T>, ApiError> {
        let node = self.node.clone();
        blocking(move || {
            if let Some(hash) = only {
                let value = node.record(RecordKey::new(space, *hash.as_bytes()))?;
                return Ok(value.as_deref().and_then(read).into_iter().collect());
            }
            let mut all = Vec::new();
            let mut from = Vec::new();
            loop {
                let page = node.records(space, from, PAGE)?;
                let is_last = page.len() < PAGE;
                from = page
                    .last()
                    .map(|(key, _)| fulmen_persister::after(key))
                    .unwrap_or_default();
                all.extend(page.iter().filter_map(|(_, value)| read(value)));
                if is_last {
                    return Ok(all);
                }
            }
        })
        .await
    }

    /// The channel that a user means.
    async fn find_channel(&self, text: &str) -> Result<ChannelId, ApiError> {
        if let Ok(id) = ChannelId::from_str(text) {
            return Ok(id);
        }
        let scid = ShortChannelId::from_str(text).map_err(|_| {
            ApiError::invalid(format!(
                "{:?} is neither a channel id (64 hex digits) nor a short channel id (like 800000x12x0); `listchannels` shows both",
                views::printable(text)
            ))
        })?;
        let found = self
            .node
            .query(move |node| {
                node.channels_info()
                    .into_iter()
                    .find(|channel| channel.short_channel_id == Some(scid))
                    .map(|channel| channel.channel_id)
            })
            .await?;
        found.ok_or_else(|| {
            ApiError::new(
                ErrorCode::UnknownChannel,
                format!("there is no channel {scid}; `listchannels` shows those that are"),
            )
        })
    }
}

/// Adds what is not in the list yet: something may move to the archive between the two looks.
fn merge<T, K: Ord>(list: &mut Vec<T>, more: Vec<T>, key: impl Fn(&T) -> K) {
    let keys: std::collections::BTreeSet<K> = more.iter().map(&key).collect();
    list.retain(|entry| !keys.contains(&key(entry)));
    list.extend(more);
}

/// Work that may wait for the disk, off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?
}

fn unexpected(reply: &Reply) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("the node gave an answer to another command: {reply:?}"),
    )
}

fn parse_invoice(app: &App, text: &str) -> Result<Bolt11, ApiError> {
    Bolt11::parse(&app.secp, text)
        .map_err(|e| ApiError::invalid(format!("this is not a valid BOLT 11 invoice: {e}")))
}

fn node_id_of(text: &str) -> Result<PublicKey, ApiError> {
    PublicKey::from_str(text).map_err(|_| {
        ApiError::invalid(format!(
            "{:?} is not a node id (66 hex digits, beginning with 02 or 03)",
            views::printable(text)
        ))
    })
}

fn peer_of(text: &str) -> Result<(PublicKey, Option<PeerAddress>), ApiError> {
    let Some((id, address)) = text.split_once('@') else {
        return Ok((node_id_of(text)?, None));
    };
    let is_address = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0));
    if !is_address {
        return Err(ApiError::invalid(format!(
            "{:?} is not host:port, for instance 127.0.0.1:9735",
            views::printable(address)
        )));
    }
    Ok((node_id_of(id)?, Some(PeerAddress(address.to_owned()))))
}

fn script_of(text: &str, network: Network) -> Result<ScriptBuf, ApiError> {
    let address = Address::<NetworkUnchecked>::from_str(text.trim()).map_err(|e| {
        ApiError::invalid(format!(
            "{:?} is not a Bitcoin address: {e}",
            views::printable(text)
        ))
    })?;
    let address = address.require_network(network).map_err(|_| {
        ApiError::invalid(format!(
            "{:?} is an address of another network; this node is on {}",
            views::printable(text),
            network_name(network)
        ))
    })?;
    Ok(address.script_pubkey())
}

fn payment_hash_of(text: &str) -> Result<PaymentHash, ApiError> {
    PaymentHash::from_str(text).map_err(|_| {
        ApiError::invalid(format!(
            "{:?} is not a payment hash (64 hex digits)",
            views::printable(text)
        ))
    })
}

fn feerate(sat_per_vb: u64) -> Result<FeeratePerKw, ApiError> {
    if !(1..=10_000).contains(&sat_per_vb) {
        return Err(ApiError::invalid(format!(
            "a feerate of {sat_per_vb} sat/vB makes no sense; take 1 to 10000"
        )));
    }
    Ok(FeeratePerKw::from_sat_per_kvb_ceil(sat_per_vb * 1_000))
}

pub(crate) fn now() -> Timestamp {
    use fulmen_background_processor::{Clock, SystemClock};
    SystemClock.now()
}
