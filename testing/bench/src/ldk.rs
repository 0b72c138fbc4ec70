//! Two LDK nodes in one process: managers that get each other's messages as they are, without a wire.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness, absolute::LockTime, constants::genesis_block,
    transaction::Version,
};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator};
use lightning::chain::chainmonitor::{ChainMonitor, Persist};
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::chain::{BestBlock, ChannelMonitorUpdateStatus, Confirm, Filter};
use lightning::events::{Event, EventsProvider};
use lightning::io;
use lightning::ln::channelmanager::{
    Bolt11InvoiceParameters, ChainParameters, PaymentId, Retry, SimpleArcChannelManager,
};
use lightning::ln::msgs::{
    BaseMessageHandler, ChannelMessageHandler, ErrorAction, Init, MessageSendEvent,
};
use lightning::onion_message::messenger::DefaultMessageRouter;
use lightning::routing::gossip::NetworkGraph;
use lightning::routing::router::{DefaultRouter, RouteParametersConfig};
use lightning::routing::scoring::{
    ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::sign::{InMemorySigner, KeysManager, NodeSigner};
use lightning::util::config::UserConfig;
use lightning::util::logger::{Logger, Record};
use lightning::util::persist::{
    CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStoreSync, MonitorName,
};
use lightning::util::ser::Writeable;
use lightning_invoice::{Bolt11InvoiceDescription, Description};
use lightning_persister::fs_store::FilesystemStore;

use crate::{AMOUNT_SAT, CAPACITY_SAT, CONFIRMATIONS, PUSH_SAT, Pair};

/// Where the monitors go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nowhere: monitors are not even encoded.
    Nothing,
    /// A map in memory.
    Memory,
    /// LDK's store in files.
    Files,
    /// The same, and each node's manager is written too, once per payment.
    FilesAndManager,
}

/// Says nothing.
struct Quiet;

impl Logger for Quiet {
    fn log(&self, _: Record<'_>) {}
}

/// Sends nothing.
struct Broadcaster;

impl BroadcasterInterface for Broadcaster {
    fn broadcast_transactions(&self, _: &[&Transaction]) {}
}

/// One feerate for everything.
struct Feerate;

impl FeeEstimator for Feerate {
    fn get_est_sat_per_1000_weight(&self, _: ConfirmationTarget) -> u32 {
        1_000
    }
}

/// A store that counts what is written.
struct Counted {
    files: Option<FilesystemStore>,
    memory: Mutex<BTreeMap<[String; 3], Vec<u8>>>,
    writes: AtomicU64,
    bytes: AtomicU64,
}

fn place(primary: &str, secondary: &str, key: &str) -> [String; 3] {
    [primary.to_owned(), secondary.to_owned(), key.to_owned()]
}

impl Counted {
    fn memory(&self) -> std::sync::MutexGuard<'_, BTreeMap<[String; 3], Vec<u8>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KVStoreSync for Counted {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, io::Error> {
        if let Some(files) = &self.files {
            return files.read(primary, secondary, key);
        }
        let memory = self.memory();
        let value = memory.get(&place(primary, secondary, key)).cloned();
        value.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(
        &self,
        primary: &str,
        secondary: &str,
        key: &str,
        buf: Vec<u8>,
    ) -> Result<(), io::Error> {
        self.writes.fetch_add(1, Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Relaxed);
        if let Some(files) = &self.files {
            return files.write(primary, secondary, key, buf);
        }
        self.memory().insert(place(primary, secondary, key), buf);
        Ok(())
    }

    fn remove(
        &self,
        primary: &str,
        secondary: &str,
        key: &str,
        lazy: bool,
    ) -> Result<(), io::Error> {
        if let Some(files) = &self.files {
            return files.remove(primary, secondary, key, lazy);
        }
        self.memory().remove(&place(primary, secondary, key));
        Ok(())
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
        if let Some(files) = &self.files {
            return files.list(primary, secondary);
        }
        let memory = self.memory();
        let keys = memory.keys();
        Ok(keys
            .filter(|[p, s, _]| p == primary && s == secondary)
            .map(|[_, _, key]| key.clone())
            .collect())
    }
}

/// Gives monitors to the store as LDK does by itself, or drops them.
struct Keeper {
    store: Arc<Counted>,
    keeps: bool,
}

impl Persist<InMemorySigner> for Keeper {
    fn persist_new_channel(
        &self,
        name: MonitorName,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        if self.keeps {
            return self.store.persist_new_channel(name, monitor);
        }
        ChannelMonitorUpdateStatus::Completed
    }

    fn update_persisted_channel(
        &self,
        name: MonitorName,
        update: Option<&ChannelMonitorUpdate>,
        monitor: &ChannelMonitor<InMemorySigner>,
    ) -> ChannelMonitorUpdateStatus {
        if self.keeps {
            return self.store.update_persisted_channel(name, update, monitor);
        }
        ChannelMonitorUpdateStatus::Completed
    }

    fn archive_persisted_channel(&self, _: MonitorName) {}
}

type Monitor = ChainMonitor<
    InMemorySigner,
    Arc<dyn Filter + Send + Sync>,
    Arc<Broadcaster>,
    Arc<Feerate>,
    Arc<Quiet>,
    Arc<Keeper>,
    Arc<KeysManager>,
>;
type Manager = SimpleArcChannelManager<Monitor, Broadcaster, Feerate, Quiet>;

struct Side {
    manager: Manager,
    monitor: Arc<Monitor>,
    store: Arc<Counted>,
}

/// Two nodes with a channel.
pub(crate) struct Ldk {
    sides: Vec<Side>,
    kind: Kind,
    sent: u64,
    failed: Option<String>,
    funding: Option<Transaction>,
    payments: u64,
}

fn config() -> UserConfig {
    let mut config = UserConfig {
        // Channels with anchors are accepted by hand only.
        manually_accept_inbound_channels: true,
        ..UserConfig::default()
    };
    let handshake = &mut config.channel_handshake_config;
    handshake.negotiate_anchors_zero_fee_htlc_tx = true;
    handshake.announce_for_forwarding = true;
    config
}

impl Ldk {
    /// Starts both nodes and opens the channel.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self> {
        let mut sides = Vec::new();
        for seed in 1..=2u8 {
            let files = matches!(kind, Kind::Files | Kind::FilesAndManager)
                .then(|| FilesystemStore::new(folder.join(format!("node-{seed}"))));
            sides.push(side(seed, files, kind != Kind::Nothing)?);
        }
        let mut pair = Self {
            sides,
            kind,
            sent: 0,
            failed: None,
            funding: None,
            payments: 0,
        };
        for index in 0..2 {
            let other = &pair.sides[1 - index].manager;
            let init = Init {
                features: other.init_features(),
                networks: None,
                remote_network_address: None,
            };
            pair.sides[index]
                .manager
                .peer_connected(other.get_our_node_id(), &init, index == 1)
                .map_err(|()| anyhow!("LDK refuses the connection"))?;
        }
        let peer = pair.sides[1].manager.get_our_node_id();
        pair.sides[0]
            .manager
            .create_channel(peer, CAPACITY_SAT, PUSH_SAT * 1_000, 1, None, None)
            .map_err(|error| anyhow!("LDK does not open: {error:?}"))?;
        pair.settle()?;
        pair.confirm()?;
        for side in &pair.sides {
            let channels = side.manager.list_channels();
            if !channels.iter().any(|channel| channel.is_usable) {
                bail!("LDK's channel is not usable: {channels:?}");
            }
        }
        Ok(pair)
    }

    /// How often was written and how much, by both nodes.
    pub(crate) fn written(&self) -> (u64, u64) {
        let stores = self.sides.iter().map(|side| &side.store);
        stores.fold((0, 0), |(writes, bytes), store| {
            (
                writes + store.writes.load(Relaxed),
                bytes + store.bytes.load(Relaxed),
            )
        })
    }

    /// Mines the funding and what it needs on top.
    fn confirm(&mut self) -> Result<()> {
        let funding = self.funding.take().context("LDK made no funding")?;
        let mut previous = genesis_block(Network::Regtest).header;
        for height in 1..=CONFIRMATIONS {
            let header = Header {
                version: BlockVersion::NO_SOFT_FORK_SIGNALLING,
                prev_blockhash: previous.block_hash(),
                merkle_root: TxMerkleNode::all_zeros(),
                time: previous.time + 1,
                bits: CompactTarget::from_consensus(0x207f_ffff),
                nonce: height,
            };
            for side in &self.sides {
                let listeners: [&dyn Confirm; 2] = [&*side.monitor, &side.manager];
                for listener in listeners {
                    if height == 1 {
                        listener.transactions_confirmed(&header, &[(1, &funding)], height);
                    }
                    listener.best_block_updated(&header, height);
                }
            }
            previous = header;
            self.settle()?;
        }
        Ok(())
    }

    /// Does everything that follows from everything.
    fn settle(&mut self) -> Result<()> {
        loop {
            let mut busy = false;
            for index in 0..2 {
                let manager = &self.sides[index].manager;
                if manager.needs_pending_htlc_processing() {
                    manager.process_pending_htlc_forwards();
                    busy = true;
                }
                let events = Mutex::new(Vec::new());
                manager.process_pending_events(&|event: Event| {
                    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
                    events.push(event);
                    Ok(())
                });
                for event in events.into_inner().unwrap_or_else(PoisonError::into_inner) {
                    busy = true;
                    self.event(index, event)?;
                }
                let messages = self.sides[index].manager.get_and_clear_pending_msg_events();
                for message in messages {
                    busy = true;
                    self.deliver(index, message)?;
                }
            }
            if !busy {
                return Ok(());
            }
        }
    }

    fn event(&mut self, index: usize, event: Event) -> Result<()> {
        let manager = &self.sides[index].manager;
        match event {
            Event::OpenChannelRequest {
                temporary_channel_id,
                counterparty_node_id,
                ..
            } => manager
                .accept_inbound_channel(&temporary_channel_id, &counterparty_node_id, 0, None)
                .map_err(|error| anyhow!("LDK does not accept: {error:?}"))?,
            Event::FundingGenerationReady {
                temporary_channel_id,
                counterparty_node_id,
                channel_value_satoshis,
                output_script,
                ..
            } => {
                let tx = Transaction {
                    version: Version::TWO,
                    lock_time: LockTime::ZERO,
                    input: vec![TxIn {
                        previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 0),
                        script_sig: ScriptBuf::new(),
                        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                        witness: Witness::from_slice(&[[1u8; 64]]),
                    }],
                    output: vec![TxOut {
                        value: Amount::from_sat(channel_value_satoshis),
                        script_pubkey: output_script,
                    }],
                };
                self.funding = Some(tx.clone());
                manager
                    .funding_transaction_generated(temporary_channel_id, counterparty_node_id, tx)
                    .map_err(|error| anyhow!("LDK does not fund: {error:?}"))?;
            }
            Event::PaymentClaimable { purpose, .. } => {
                manager.claim_funds(purpose.preimage().context("no preimage")?);
            }
            Event::PaymentSent { .. } => self.sent += 1,
            Event::PaymentFailed { reason, .. } => self.failed = Some(format!("{reason:?}")),
            Event::ChannelClosed { reason, .. } => bail!("LDK closes the channel: {reason}"),
            _ => {}
        }
        Ok(())
    }

    fn deliver(&self, from: usize, message: MessageSendEvent) -> Result<()> {
        use MessageSendEvent as M;
        let me = self.sides[from].manager.get_our_node_id();
        let to = &self.sides[1 - from].manager;
        match message {
            M::SendOpenChannel { msg, .. } => to.handle_open_channel(me, &msg),
            M::SendAcceptChannel { msg, .. } => to.handle_accept_channel(me, &msg),
            M::SendFundingCreated { msg, .. } => to.handle_funding_created(me, &msg),
            M::SendFundingSigned { msg, .. } => to.handle_funding_signed(me, &msg),
            M::SendChannelReady { msg, .. } => to.handle_channel_ready(me, &msg),
            M::SendAnnouncementSignatures { msg, .. } => {
                to.handle_announcement_signatures(me, &msg);
            }
            M::SendChannelUpdate { msg, .. } => to.handle_channel_update(me, &msg),
            M::UpdateHTLCs { updates, .. } => {
                for msg in updates.update_fulfill_htlcs {
                    to.handle_update_fulfill_htlc(me, msg);
                }
                for msg in &updates.update_fail_htlcs {
                    to.handle_update_fail_htlc(me, msg);
                }
                for msg in &updates.update_add_htlcs {
                    to.handle_update_add_htlc(me, msg);
                }
                if let Some(msg) = &updates.update_fee {
                    to.handle_update_fee(me, msg);
                }
                for msg in &updates.commitment_signed {
                    to.handle_commitment_signed(me, msg);
                }
            }
            M::SendRevokeAndACK { msg, .. } => to.handle_revoke_and_ack(me, &msg),
            M::HandleError { action, .. } => {
                if !matches!(action, ErrorAction::IgnoreError) {
                    bail!("LDK is not content: {action:?}");
                }
            }
            M::BroadcastChannelAnnouncement { .. }
            | M::BroadcastChannelUpdate { .. }
            | M::BroadcastNodeAnnouncement { .. }
            | M::SendChannelAnnouncement { .. } => {}
            other => bail!("LDK sends what is not expected: {other:?}"),
        }
        Ok(())
    }
}

fn side(seed: u8, files: Option<FilesystemStore>, keeps: bool) -> Result<Side> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let logger = Arc::new(Quiet);
    let keys = Arc::new(KeysManager::new(
        &[seed; 32],
        now.as_secs(),
        now.subsec_nanos(),
        true,
    ));
    let store = Arc::new(Counted {
        files,
        memory: Mutex::default(),
        writes: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    });
    let monitor: Arc<Monitor> = Arc::new(ChainMonitor::new(
        None,
        Arc::new(Broadcaster),
        Arc::clone(&logger),
        Arc::new(Feerate),
        Arc::new(Keeper {
            store: Arc::clone(&store),
            keeps,
        }),
        Arc::clone(&keys),
        keys.get_peer_storage_key(),
    ));
    let graph = Arc::new(NetworkGraph::new(Network::Regtest, Arc::clone(&logger)));
    let scorer = Arc::new(RwLock::new(ProbabilisticScorer::new(
        ProbabilisticScoringDecayParameters::default(),
        Arc::clone(&graph),
        Arc::clone(&logger),
    )));
    let router = Arc::new(DefaultRouter::new(
        Arc::clone(&graph),
        Arc::clone(&logger),
        Arc::clone(&keys),
        scorer,
        ProbabilisticScoringFeeParameters::default(),
    ));
    let message_router = Arc::new(DefaultMessageRouter::new(graph, Arc::clone(&keys)));
    let genesis: Block = genesis_block(Network::Regtest);
    let manager = Manager::new(
        Arc::new(Feerate),
        Arc::clone(&monitor),
        Arc::new(Broadcaster),
        router,
        message_router,
        logger,
        Arc::clone(&keys),
        Arc::clone(&keys),
        keys,
        config(),
        ChainParameters {
            network: Network::Regtest,
            best_block: BestBlock::from_network(Network::Regtest),
        },
        genesis.header.time,
    );
    Ok(Side {
        manager,
        monitor,
        store,
    })
}

impl Pair for Ldk {
    fn pay(&mut self, from: usize) -> Result<()> {
        let description = Description::new("bench".to_owned())
            .map_err(|error| anyhow!("bad description: {error:?}"))?;
        let invoice = self.sides[1 - from]
            .manager
            .create_bolt11_invoice(Bolt11InvoiceParameters {
                amount_msats: Some(AMOUNT_SAT * 1_000),
                description: Bolt11InvoiceDescription::Direct(description),
                ..Bolt11InvoiceParameters::default()
            })
            .map_err(|error| anyhow!("LDK makes no invoice: {error:?}"))?;
        // Through its text, as it comes to a payer.
        let invoice = invoice
            .to_string()
            .parse()
            .map_err(|error| anyhow!("LDK does not read its invoice: {error:?}"))?;
        self.payments += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.payments.to_be_bytes());
        let before = self.sent;
        self.sides[from]
            .manager
            .pay_for_bolt11_invoice(
                &invoice,
                PaymentId(id),
                None,
                RouteParametersConfig::default(),
                Retry::Attempts(0),
            )
            .map_err(|error| anyhow!("LDK does not pay: {error:?}"))?;
        self.settle()?;
        if self.kind == Kind::FilesAndManager {
            for side in &self.sides {
                side.store.write(
                    CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
                    CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
                    CHANNEL_MANAGER_PERSISTENCE_KEY,
                    side.manager.encode(),
                )?;
            }
        }
        if let Some(reason) = &self.failed {
            bail!("LDK's payment failed: {reason}");
        }
        if self.sent != before + 1 {
            bail!("LDK's payment did not end");
        }
        Ok(())
    }

    fn end_round(&mut self) -> Result<()> {
        Ok(())
    }
}
