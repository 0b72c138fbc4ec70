//! An LDK node, wired from the published crates as a user would wire it.

mod chain;
mod events;
pub(crate) mod logger;
mod old_state;
mod wallet;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use bitcoin::{Network, ScriptBuf};
use fulmen_devchain::Backend;
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::chain::channelmonitor::Balance;
use lightning::chain::{BestBlock, Filter};
use lightning::events::bump_transaction::sync::{BumpTransactionEventHandlerSync, WalletSync};
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, ChainParameters, PaymentId, RecipientOnionFields, Retry,
    SimpleArcChannelManager,
};
use lightning::ln::msgs::SocketAddress;
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, SimpleArcPeerManager};
use lightning::onion_message::messenger::{DefaultMessageRouter, SimpleArcOnionMessenger};
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::{DefaultRouter, Route, RouteParametersConfig};
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::routing::utxo::UtxoLookup;
use lightning::sign::{EntropySource, InMemorySigner, KeysManager, NodeSigner};
use lightning::types::payment::{PaymentHash, PaymentSecret};
use lightning::util::config::UserConfig;
use lightning::util::sweep::OutputSweeperSync;
use lightning_background_processor::{BackgroundProcessor, GossipSync, NO_LIQUIDITY_MANAGER_SYNC};
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use lightning_net_tokio::SocketDescriptor;
use lightning_persister::fs_store::FilesystemStore;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use self::chain::{Broadcaster, Feerates, Listeners};
use self::events::{Handler, Seen, hex};
use self::logger::LogLines;
pub(crate) use self::old_state::OldState;
use self::wallet::KeyWallet;
use crate::node::{ChannelKind, ChannelView, Close, OpenChannel, PaymentStatus, TestNode};
use crate::wait::{SHORT, until};

type DynFilter = dyn Filter + Send + Sync;
type Monitor = ChainMonitor<
    InMemorySigner,
    Arc<DynFilter>,
    Arc<Broadcaster>,
    Arc<Feerates>,
    Arc<LogLines>,
    Arc<FilesystemStore>,
    Arc<KeysManager>,
>;
type Manager = SimpleArcChannelManager<Monitor, Broadcaster, Feerates, LogLines>;
type Messenger = SimpleArcOnionMessenger<Monitor, Broadcaster, Feerates, LogLines>;
type Utxos = Arc<dyn UtxoLookup + Send + Sync>;
type Graph = NetworkGraph<Arc<LogLines>>;
type Gossip = P2PGossipSync<Arc<Graph>, Utxos, Arc<LogLines>>;
type Peers = SimpleArcPeerManager<
    SocketDescriptor,
    Monitor,
    Broadcaster,
    Feerates,
    Utxos,
    LogLines,
    DynFilter,
    FilesystemStore,
>;
type Sweeper = OutputSweeperSync<
    Arc<Broadcaster>,
    Arc<KeyWallet>,
    Arc<Feerates>,
    Arc<DynFilter>,
    Arc<FilesystemStore>,
    Arc<LogLines>,
    Arc<KeysManager>,
>;

/// A running LDK node. Dropping it stops it.
pub(crate) struct LdkNode {
    name: String,
    node_id: PublicKey,
    address: SocketAddr,
    keys: Arc<KeysManager>,
    manager: Arc<Manager>,
    monitor: Arc<Monitor>,
    graph: Arc<Graph>,
    peers: Arc<Peers>,
    sweeper: Arc<Sweeper>,
    wallet: Arc<KeyWallet>,
    log: Arc<LogLines>,
    seen: Arc<Mutex<Seen>>,
    next_id: AtomicU64,
    background: Option<BackgroundProcessor>,
    blocks: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    runtime: Option<Runtime>,
    _folder: tempfile::TempDir,
}

impl LdkNode {
    /// Starts a node with a seed of its own on a backend.
    pub(crate) fn start(name: &str, seed: [u8; 32], backend: &Backend) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ldk-").tempdir()?;
        let log = Arc::new(LogLines::new(name));
        let store = Arc::new(FilesystemStore::new(folder.path().to_owned()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now_secs = u32::try_from(now.as_secs())?;
        let keys = Arc::new(KeysManager::new(
            &seed,
            now.as_secs(),
            now.subsec_nanos(),
            true,
        ));
        let broadcaster = Arc::new(Broadcaster::new(
            chain::rpc_client(backend),
            Arc::clone(&log),
        ));
        let feerates = Arc::new(Feerates);
        let monitor: Arc<Monitor> = Arc::new(ChainMonitor::new(
            None,
            Arc::clone(&broadcaster),
            Arc::clone(&log),
            Arc::clone(&feerates),
            Arc::clone(&store),
            Arc::clone(&keys),
            keys.get_peer_storage_key(),
        ));
        let graph = Arc::new(Graph::new(Network::Regtest, Arc::clone(&log)));
        let scorer = Arc::new(RwLock::new(ProbabilisticScorer::new(
            ProbabilisticScoringDecayParameters::default(),
            Arc::clone(&graph),
            Arc::clone(&log),
        )));
        let router = Arc::new(DefaultRouter::new(
            Arc::clone(&graph),
            Arc::clone(&log),
            Arc::clone(&keys),
            Arc::clone(&scorer),
            ProbabilisticScoringFeeParameters::default(),
        ));
        let message_router = Arc::new(DefaultMessageRouter::new(
            Arc::clone(&graph),
            Arc::clone(&keys),
        ));
        let blocks = Arc::new(chain::block_client(backend));
        let tip = chain::best_block(&blocks)?;
        let best_block: BestBlock = tip.to_best_block();
        let manager: Arc<Manager> = Arc::new(Manager::new(
            Arc::clone(&feerates),
            Arc::clone(&monitor),
            Arc::clone(&broadcaster),
            router,
            Arc::clone(&message_router),
            Arc::clone(&log),
            Arc::clone(&keys),
            Arc::clone(&keys),
            Arc::clone(&keys),
            config(),
            ChainParameters {
                network: Network::Regtest,
                best_block,
            },
            now_secs,
        ));
        let messenger: Arc<Messenger> = Arc::new(Messenger::new(
            Arc::clone(&keys),
            Arc::clone(&keys),
            Arc::clone(&log),
            Arc::clone(&manager),
            message_router,
            Arc::clone(&manager),
            Arc::clone(&manager),
            IgnoringMessageHandler {},
            IgnoringMessageHandler {},
        ));
        let gossip: Arc<Gossip> = Arc::new(P2PGossipSync::new(
            Arc::clone(&graph),
            None,
            Arc::clone(&log),
        ));
        let peers: Arc<Peers> = Arc::new(Peers::new(
            MessageHandler {
                chan_handler: Arc::clone(&manager),
                route_handler: Arc::clone(&gossip),
                onion_message_handler: Arc::clone(&messenger),
                custom_message_handler: IgnoringMessageHandler {},
                send_only_message_handler: Arc::clone(&monitor),
            },
            now_secs,
            &keys.get_secure_random_bytes(),
            Arc::clone(&log),
            Arc::clone(&keys),
        ));
        let wallet = Arc::new(KeyWallet::new(&seed, chain::rpc_client(backend))?);
        let sweeper: Arc<Sweeper> = Arc::new(OutputSweeperSync::new(
            best_block,
            Arc::clone(&broadcaster),
            feerates,
            None,
            Arc::clone(&keys),
            Arc::clone(&wallet),
            Arc::clone(&store),
            Arc::clone(&log),
        ));
        let bumper = BumpTransactionEventHandlerSync::new(
            broadcaster,
            Arc::new(WalletSync::new(Arc::clone(&wallet), Arc::clone(&log))),
            Arc::clone(&keys),
            Arc::clone(&log),
        );
        let seen = Arc::new(Mutex::new(Seen::default()));
        let handler = Handler {
            manager: Arc::clone(&manager),
            sweeper: Arc::clone(&sweeper),
            wallet: Arc::clone(&wallet),
            log: Arc::clone(&log),
            seen: Arc::clone(&seen),
            bumper,
        };
        let background = BackgroundProcessor::start(
            store,
            handler,
            Arc::clone(&monitor),
            Arc::clone(&manager),
            Some(messenger),
            GossipSync::p2p(gossip),
            Arc::clone(&peers),
            NO_LIQUIDITY_MANAGER_SYNC,
            Some(Arc::clone(&sweeper)),
            Arc::clone(&log),
            Some(scorer),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let listeners = Listeners(vec![
            Arc::clone(&monitor) as _,
            Arc::clone(&manager) as _,
            Arc::clone(&sweeper) as _,
        ]);
        let blocks = {
            // Else the background processor sweeps only every 30 seconds.
            let sweeper = Arc::clone(&sweeper);
            chain::follow(blocks, tip, listeners, Arc::clone(&stop), move || {
                let _ = sweeper.regenerate_and_broadcast_spend_if_necessary();
            })?
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let address = runtime.block_on(listen(Arc::clone(&peers)))?;
        Ok(Self {
            name: name.to_owned(),
            node_id: manager.get_our_node_id(),
            address,
            keys,
            manager,
            monitor,
            graph,
            peers,
            sweeper,
            wallet,
            log,
            seen,
            next_id: AtomicU64::new(1),
            background: Some(background),
            blocks: Some(blocks),
            stop,
            runtime: Some(runtime),
            _folder: folder,
        })
    }

    /// The node's secret key, to sign invoices that LDK would not make.
    pub(crate) fn secret_key(&self) -> SecretKey {
        self.keys.get_node_secret_key()
    }

    /// The node's log.
    pub(crate) fn log(&self) -> &LogLines {
        &self.log
    }

    /// From now on payments wait until they are claimed by hand, or no longer.
    pub(crate) fn hold_payments(&self, hold: bool) {
        self.seen().hold = hold;
    }

    /// The hashes of the payments that wait.
    pub(crate) fn held(&self) -> Vec<String> {
        self.seen().held.keys().cloned().collect()
    }

    /// Claims a payment that waits.
    pub(crate) fn claim(&self, payment_hash: &str) -> Result<()> {
        let preimage = self.seen().held.remove(payment_hash);
        self.manager
            .claim_funds(preimage.context("no such payment waits")?);
        Ok(())
    }

    /// Fails a payment that waits.
    pub(crate) fn refuse(&self, payment_hash: &str) -> Result<()> {
        self.seen().held.remove(payment_hash);
        let bytes: [u8; 32] = bitcoin::hex::FromHex::from_hex(payment_hash)?;
        self.manager.fail_htlc_backwards(&PaymentHash(bytes));
        Ok(())
    }

    /// What the node could put on chain now: worth keeping for somebody who means to cheat.
    pub(crate) fn old_state(&self, channel: &ChannelView) -> Result<OldState> {
        let id = self.details(&channel.id)?.channel_id;
        let monitor = self.monitor.get_monitor(id);
        let monitor = monitor.map_err(|()| anyhow!("LDK has no monitor of {id}"))?;
        OldState::copy(
            &monitor,
            Arc::clone(&self.keys),
            Arc::clone(&self.wallet),
            Arc::clone(&self.log),
        )
    }

    /// In how many HTLCs a payment came.
    pub(crate) fn parts(&self, payment_hash: &str) -> usize {
        self.seen().parts.get(payment_hash).copied().unwrap_or(0)
    }

    /// Sends along a given route.
    pub(crate) fn pay_along(
        &self,
        route: Route,
        payment_hash: [u8; 32],
        payment_secret: [u8; 32],
    ) -> Result<String> {
        let id = self.payment_id();
        let hash = PaymentHash(payment_hash);
        let onion = RecipientOnionFields::secret_only(PaymentSecret(payment_secret));
        self.seen()
            .payments
            .insert(hex(hash), PaymentStatus::Pending);
        self.manager
            .send_payment_with_route(route, hash, onion, id)
            .map_err(|error| anyhow!("LDK does not send: {error:?}"))?;
        Ok(hex(hash))
    }

    /// Tells the network about the node.
    pub(crate) fn announce(&self) {
        let mut alias = [0; 32];
        for (to, from) in alias.iter_mut().zip(self.name.bytes()) {
            *to = from;
        }
        let addresses = vec![SocketAddress::from(self.address)];
        self.peers
            .broadcast_node_announcement([1, 2, 3], alias, addresses);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime(&self) -> Result<&Runtime> {
        self.runtime.as_ref().context("LDK's runtime is gone")
    }

    fn fresh_number(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn payment_id(&self) -> PaymentId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.fresh_number().to_be_bytes());
        PaymentId(id)
    }

    fn details(&self, id: &str) -> Result<ChannelDetails> {
        let mut channels = self.manager.list_channels().into_iter();
        channels
            .find(|channel| channel.channel_id.to_string() == id)
            .with_context(|| format!("LDK has no channel {id}"))
    }
}

impl TestNode for LdkNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn node_id(&self) -> PublicKey {
        self.node_id
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn deposit_script(&self) -> Result<ScriptBuf> {
        Ok(self.wallet.script())
    }

    fn height(&self) -> Result<u32> {
        // The sweeper is the last to hear of a block.
        Ok(self.sweeper.current_best_block().height)
    }

    fn onchain_sat(&self) -> Result<u64> {
        self.wallet.total_sat()
    }

    fn sweeping_sat(&self) -> Result<u64> {
        let open = self.manager.list_channels();
        let open: Vec<&ChannelDetails> = open.iter().collect();
        let balances = self.monitor.get_claimable_balances(&open);
        let claims: u64 = balances
            .iter()
            .map(|balance| match balance {
                Balance::ClaimableOnChannelClose { .. } => balance.claimable_amount_satoshis(),
                Balance::ClaimableAwaitingConfirmations {
                    amount_satoshis, ..
                }
                | Balance::ContentiousClaimable {
                    amount_satoshis, ..
                }
                | Balance::MaybeTimeoutClaimableHTLC {
                    amount_satoshis, ..
                }
                | Balance::CounterpartyRevokedOutputClaimable { amount_satoshis } => {
                    *amount_satoshis
                }
                // Ours only with a preimage that we do not have.
                Balance::MaybePreimageClaimableHTLC { .. } => 0,
            })
            .sum();
        let sweeps = self.sweeper.tracked_spendable_outputs();
        let sweeps: u64 = sweeps
            .iter()
            .filter(|output| {
                use lightning::util::sweep::OutputSpendStatus::PendingThresholdConfirmations;
                !matches!(output.status, PendingThresholdConfirmations { .. })
            })
            .map(|output| {
                use lightning::sign::SpendableOutputDescriptor as D;
                match &output.descriptor {
                    D::StaticOutput { output, .. } => output.value.to_sat(),
                    D::DelayedPaymentOutput(output) => output.output.value.to_sat(),
                    D::StaticPaymentOutput(output) => output.output.value.to_sat(),
                }
            })
            .sum();
        Ok(claims + sweeps)
    }

    fn connect(&self, peer: PublicKey, address: SocketAddr) -> Result<()> {
        let connecting =
            lightning_net_tokio::connect_outbound(Arc::clone(&self.peers), peer, address);
        let runtime = self.runtime()?;
        let connection = runtime
            .block_on(connecting)
            .with_context(|| format!("LDK can't connect to {address}"))?;
        runtime.spawn(connection);
        until("LDK is connected", SHORT, || self.is_connected(peer))
    }

    fn is_connected(&self, peer: PublicKey) -> Result<bool> {
        Ok(self.peers.peer_by_node_id(&peer).is_some())
    }

    fn disconnect(&self, peer: PublicKey) -> Result<()> {
        self.peers.disconnect_by_node_id(peer);
        self.peers.process_events();
        until("LDK is disconnected", SHORT, || {
            Ok(!self.is_connected(peer)?)
        })
    }

    fn open_channel(&self, open: OpenChannel) -> Result<()> {
        let user_id = u128::from(self.fresh_number()) + (1 << 64);
        let mut config = config();
        config
            .channel_handshake_config
            .negotiate_anchors_zero_fee_htlc_tx = open.kind == ChannelKind::Anchors;
        config.channel_handshake_config.announce_for_forwarding = open.public;
        self.manager
            .create_channel(
                open.peer,
                open.capacity_sat,
                open.push_msat,
                user_id,
                None,
                Some(config),
            )
            .map_err(|error| anyhow!("LDK does not open: {error:?}"))?;
        until("LDK's channel is funded", SHORT, || {
            if let Some(error) = self.log.with("ERROR funding").first() {
                bail!("{error}");
            }
            Ok(self.seen().funded.contains(&user_id))
        })
    }

    fn channels(&self) -> Result<Vec<ChannelView>> {
        let view = |channel: ChannelDetails| ChannelView {
            id: channel.channel_id.to_string(),
            peer: channel.counterparty.node_id,
            short_channel_id: channel.short_channel_id,
            usable: channel.is_usable,
            kind: channel.channel_type.as_ref().map(|kind| {
                if kind.supports_anchors_zero_fee_htlc_tx() {
                    ChannelKind::Anchors
                } else {
                    ChannelKind::StaticRemoteKey
                }
            }),
            spendable_msat: channel.next_outbound_htlc_limit_msat,
            htlcs: channel.pending_inbound_htlcs.len() + channel.pending_outbound_htlcs.len(),
            capacity_sat: channel.channel_value_satoshis,
        };
        Ok(self.manager.list_channels().into_iter().map(view).collect())
    }

    fn invoice(&self, amount_msat: u64, description: &str) -> Result<String> {
        let description = Description::new(description.to_owned())
            .map_err(|error| anyhow!("bad description: {error:?}"))?;
        let invoice = self
            .manager
            .create_bolt11_invoice(Bolt11InvoiceParameters {
                amount_msats: Some(amount_msat),
                description: Bolt11InvoiceDescription::Direct(description),
                ..Bolt11InvoiceParameters::default()
            })
            .map_err(|error| anyhow!("LDK makes no invoice: {error:?}"))?;
        Ok(invoice.to_string())
    }

    fn pay(&self, bolt11: &str) -> Result<String> {
        let invoice: Bolt11Invoice = bolt11
            .parse()
            .map_err(|error| anyhow!("LDK can't read {bolt11}: {error:?}"))?;
        let hash = invoice.payment_hash().to_string();
        self.seen()
            .payments
            .insert(hash.clone(), PaymentStatus::Pending);
        self.manager
            .pay_for_bolt11_invoice(
                &invoice,
                self.payment_id(),
                None,
                RouteParametersConfig::default(),
                Retry::Timeout(Duration::from_secs(20)),
            )
            .map_err(|error| anyhow!("LDK does not pay: {error:?}"))?;
        Ok(hash)
    }

    fn payment(&self, payment_hash: &str) -> Result<PaymentStatus> {
        let status = self.seen().payments.get(payment_hash).cloned();
        status.with_context(|| format!("LDK knows no payment {payment_hash}"))
    }

    fn received_msat(&self, payment_hash: &str) -> Result<Option<u64>> {
        Ok(self.seen().received.get(payment_hash).copied())
    }

    fn close(&self, channel: &ChannelView, how: Close) -> Result<()> {
        let id = self.details(&channel.id)?.channel_id;
        match how {
            Close::Cooperative => self.manager.close_channel(&id, &channel.peer),
            Close::Force => self.manager.force_close_broadcasting_latest_txn(
                &id,
                &channel.peer,
                "closed by the scenario".to_owned(),
            ),
        }
        .map_err(|error| anyhow!("LDK does not close: {error:?}"))
    }

    fn graph_size(&self) -> Result<(usize, usize)> {
        let graph = self.graph.read_only();
        // A channel counts once the terms of both its ends are known.
        let channels = graph.channels().unordered_iter();
        let known =
            channels.filter(|(_, one)| one.one_to_two.is_some() && one.two_to_one.is_some());
        Ok((graph.nodes().len(), known.count()))
    }
}

impl Drop for LdkNode {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.peers.disconnect_all_peers();
        if let Some(background) = self.background.take() {
            let _ = background.stop();
        }
        if let Some(blocks) = self.blocks.take() {
            let _ = blocks.join();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The defaults, but with anchors, public channels and HTLCs up to the whole capacity.
fn config() -> UserConfig {
    let mut config = UserConfig {
        manually_accept_inbound_channels: true,
        accept_forwards_to_priv_channels: true,
        ..UserConfig::default()
    };
    let handshake = &mut config.channel_handshake_config;
    handshake.negotiate_anchors_zero_fee_htlc_tx = true;
    handshake.announce_for_forwarding = true;
    handshake.max_inbound_htlc_value_in_flight_percent_of_channel = 100;
    config
        .channel_handshake_limits
        .force_announced_channel_preference = false;
    config
}

async fn listen(peers: Arc<Peers>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = stream.into_std() else {
                continue;
            };
            tokio::spawn(lightning_net_tokio::setup_inbound(
                Arc::clone(&peers),
                stream,
            ));
        }
    });
    Ok(address)
}
