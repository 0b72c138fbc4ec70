//! The driver on tokio with a stand-in for the node, and ports that remember what they are asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::await_holding_lock)]

mod common;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, hashes::Hash, secp256k1::PublicKey,
};
use common::{Mood, TestSigner, init, key, lane, text, unsigned};
use fulmen_background_processor::{
    Broadcaster, ChainSource, Connector, DriverConfig, DriverError, DriverStatus, DriverTask,
    FeeEstimator, Heart, LocalRouter, Mode, NoEventHandler, NodeHandle, Ports, RunAhead, Start,
    SystemClock, Wallet, Work, start,
};
use fulmen_gossip::{GraphWriter, NetworkGraph, NewChannel, Policy};
use fulmen_node::{
    Action, ActionKind, Answer, Ask, BlockId, BroadcastAnswer, Coin, CoinPurpose, CoinRequest,
    Command, CommandError, CommandId, ConnEpoch, Direction, DisconnectReason, Effects, Event,
    FundingRequest, Input, NumberedEvent, PeerAddress, ReleaseClass, Reply, RequestId, RouteQuery,
    RouteReport, UtxoAnswer, WalletBalance, WalletError,
};
use fulmen_payments::RouteQuestion;
use fulmen_persister::{FileStore, KeyValue, Position, Store, StoreError};
use fulmen_router::{AvoidList, FirstHop, Plan, RouteHop, RouteOutcome};
use fulmen_types::{
    BlockHeight, CltvExpiryDelta, Features, Feerates, Msat, NodeId, PaymentHash, ShortChannelId,
    Timestamp,
    record::{RecordKey, Space, WriteBatch},
};
use fulmen_wire::Message;
use tokio::{sync::mpsc, time::timeout};

/// A counter in the place of a node. Every command adds one, durably, and says so in every way; every
/// message of a peer is answered.
struct Counter {
    seq: u64,
    count: u64,
    mode: Mode,
    seen: Vec<String>,
    routes: Vec<Plan>,
    wake: Option<Timestamp>,
}

impl Counter {
    fn effects(&mut self, batch: WriteBatch, actions: Vec<ActionKind>) -> Effects {
        self.seq += 1;
        let (seq, class) = (self.seq, ReleaseClass::All);
        let actions = actions
            .into_iter()
            .map(|kind| Action {
                class,
                after: seq,
                kind,
            })
            .collect();
        Effects {
            seq,
            scopes: Vec::new(),
            batch,
            actions,
            next_wake: self.wake,
        }
    }

    fn store(&mut self) -> WriteBatch {
        self.count += 1;
        let mut batch = WriteBatch::new();
        batch.put(count_key(), self.count.to_be_bytes().to_vec());
        batch
    }

    fn request(&self) -> RequestId {
        RequestId {
            boot: 1,
            sequence: self.count,
        }
    }
}

fn count_key() -> RecordKey {
    RecordKey::new(Space::Node, *b"count")
}

impl Heart for Counter {
    fn handle(&mut self, now: Timestamp, input: Input) -> Effects {
        match input {
            Input::Command { id, command } => {
                let batch = self.store();
                let event = NumberedEvent {
                    number: self.count,
                    at: now,
                    event: Event::Alert {
                        message: self.count.to_string(),
                    },
                };
                let mut actions = vec![
                    ActionKind::Reply {
                        id,
                        reply: Ok(Reply::Done),
                    },
                    ActionKind::Event(event),
                ];
                let id = self.request();
                match command {
                    Command::AcknowledgeEvents { up_to: 1 } => {
                        actions.push(ActionKind::Ask {
                            id,
                            ask: Ask::Record(count_key()),
                        });
                    }
                    Command::AcknowledgeEvents { up_to: 2 } => {
                        actions.push(ActionKind::Ask {
                            id,
                            ask: Ask::WalletScript,
                        });
                    }
                    Command::AcknowledgeEvents { up_to: 3 } => {
                        actions.push(ActionKind::Broadcast {
                            id,
                            package: Vec::new(),
                        });
                    }
                    Command::AcknowledgeEvents { up_to: ASK_ROUTE } => {
                        let ask = Ask::Route(Box::new(query(now)));
                        actions.push(ActionKind::Ask { id, ask });
                    }
                    Command::AcknowledgeEvents {
                        up_to: LEARN_AND_ASK_ROUTE,
                    } => {
                        actions.push(ActionKind::Learn(Box::new(refused(now))));
                        let ask = Ask::Route(Box::new(query(now)));
                        actions.push(ActionKind::Ask { id, ask });
                    }
                    Command::AcknowledgeEvents { up_to: 4 } => {
                        self.wake = Some(now.plus_millis(50));
                    }
                    Command::AcknowledgeEvents { up_to: SEND_GOSSIP } => {
                        let filter = fulmen_wire::GossipTimestampFilter {
                            chain_hash: bitcoin::constants::ChainHash::REGTEST,
                            first_timestamp: 0,
                            timestamp_range: 0,
                        };
                        actions.push(ActionKind::Send {
                            lane: lane(9, 1, None),
                            message: Message::from(filter).into(),
                        });
                    }
                    _ => {}
                }
                self.effects(batch, actions)
            }
            Input::PeerConnected { epoch, .. } => {
                let hello = vec![
                    ActionKind::Send {
                        lane: lane(9, epoch.0, Some(1)),
                        message: text("later"),
                    },
                    ActionKind::Send {
                        lane: lane(9, epoch.0, None),
                        message: init(),
                    },
                ];
                self.effects(WriteBatch::new(), hello)
            }
            Input::PeerMessage { epoch, .. } => {
                let batch = self.store();
                let message = unsigned(1, self.count);
                let send = ActionKind::Send {
                    lane: lane(9, epoch.0, Some(1)),
                    message,
                };
                self.effects(batch, vec![send])
            }
            Input::BlockConnected(_) | Input::BestTip(_) => {
                let batch = self.store();
                self.effects(batch, Vec::new())
            }
            Input::Answer {
                answer: Answer::Route(plan),
                ..
            } => {
                self.routes.push(plan.unwrap());
                self.effects(WriteBatch::new(), Vec::new())
            }
            other => {
                if matches!(other, Input::Tick) {
                    self.wake = None;
                }
                self.seen.push(format!("{other:?}"));
                self.effects(WriteBatch::new(), Vec::new())
            }
        }
    }

    fn graph(&mut self) -> Arc<NetworkGraph> {
        diamond()
    }

    fn recent_blocks(&self) -> Vec<BlockId> {
        vec![tip()]
    }

    fn coin_leases(&self) -> Vec<(CoinPurpose, Vec<OutPoint>)> {
        Vec::new()
    }
}

/// What makes the counter send something about the network.
const SEND_GOSSIP: u64 = 9;

const ASK_ROUTE: u64 = 5;
const LEARN_AND_ASK_ROUTE: u64 = 6;

fn node_id(n: u8) -> NodeId {
    NodeId::new([n; 33])
}

/// From 1, whose channels it does not have, to 4: by 2 (channel 24), or dearer by 3 (34).
fn diamond() -> Arc<NetworkGraph> {
    let mut writer = GraphWriter::new(bitcoin::constants::ChainHash::REGTEST);
    for (channel, from, base) in [(24, 2, 1_000), (34, 3, 5_000)] {
        let id = ShortChannelId::from_u64(channel);
        writer
            .add_channel(&NewChannel {
                short_channel_id: id,
                node_1: node_id(from),
                node_2: node_id(4),
                capacity: Some(Amount::from_sat(1_000_000)),
                features: Features::empty(),
            })
            .unwrap();
        let policy = Policy {
            htlc_minimum: Msat::new(1),
            htlc_maximum: Msat::from_sat(1_000_000),
            timestamp: 1,
            fee_base_msat: base,
            fee_proportional_millionths: 0,
            cltv_expiry_delta: CltvExpiryDelta::new(40),
            disabled: false,
        };
        writer
            .update_policy(id, fulmen_gossip::Direction::Forward, policy)
            .unwrap();
    }
    writer.snapshot()
}

fn query(now: Timestamp) -> RouteQuery {
    let first_hop = |peer: u8| FirstHop {
        short_channel_id: ShortChannelId::from_u64(u64::from(peer)),
        peer: node_id(peer),
        spendable: Msat::from_sat(500_000),
        htlc_minimum: Msat::new(1),
    };
    RouteQuery {
        question: RouteQuestion {
            payment_hash: PaymentHash::new([1; 32]),
            attempt: 1,
            payee: node_id(4),
            amount: Msat::from_sat(100_000),
            max_parts: 1,
            in_use: Vec::new(),
            hints: Vec::new(),
            final_cltv: 18,
            max_fee: Msat::from_sat(100),
            max_total_cltv: 2_016,
            final_payload_len: fulmen_router::FINAL_PAYLOAD_LEN,
            avoid: AvoidList::new(),
        },
        payer: node_id(1),
        first_hops: vec![first_hop(2), first_hop(3)],
        now,
    }
}

/// 2 had no room for it.
fn refused(now: Timestamp) -> RouteReport {
    let hop = |channel: u64, to: u8| RouteHop {
        short_channel_id: ShortChannelId::from_u64(channel),
        node_id: node_id(to),
        amount: Msat::from_sat(100_000),
        cltv_from_tip: 18,
    };
    RouteReport {
        payer: node_id(1),
        hops: vec![hop(2, 2), hop(24, 4)],
        outcome: RouteOutcome::RefusedAt(1),
        at: now,
    }
}

fn tip() -> BlockId {
    BlockId {
        height: BlockHeight::new(7),
        hash: BlockHash::all_zeros(),
    }
}

/// All ports but the signer.
#[derive(Default)]
struct World {
    sent: Mutex<Vec<(u64, String)>>,
    shut_down: AtomicBool,
    queued_bytes: AtomicUsize,
    chain: Mutex<Option<mpsc::Sender<Input>>>,
    chain_starts: AtomicUsize,
}

impl World {
    fn sent(&self) -> Vec<String> {
        self.sent
            .lock()
            .unwrap()
            .iter()
            .map(|(_, name)| name.clone())
            .collect()
    }
}

impl Connector for World {
    fn send(&self, _peer: PublicKey, epoch: ConnEpoch, message: &Message) {
        self.sent
            .lock()
            .unwrap()
            .push((epoch.0, message.name().to_owned()));
    }
    fn queued_bytes(&self, _peer: PublicKey, _epoch: ConnEpoch) -> usize {
        self.queued_bytes.load(Ordering::SeqCst)
    }
    fn disconnect(&self, _peer: PublicKey, _epoch: ConnEpoch, _reason: &DisconnectReason) {}
    fn connect(&self, _peer: PublicKey, _addresses: Vec<PeerAddress>) {}
    fn keep_connected(&self, _peer: PublicKey, _addresses: Vec<PeerAddress>) {}
    fn stop_connecting(&self, _peer: PublicKey) {}
    fn shutdown(&self) {
        self.shut_down.store(true, Ordering::SeqCst);
    }
}

impl Wallet for World {
    fn fund(&self, _request: &FundingRequest) -> Result<Transaction, WalletError> {
        Err(WalletError::Refused("test".into()))
    }
    fn coins(&self, _request: &CoinRequest) -> Result<Vec<Coin>, WalletError> {
        Ok(Vec::new())
    }
    fn sign(&self, transaction: Transaction, _spent: &[TxOut]) -> Result<Transaction, WalletError> {
        Ok(transaction)
    }
    fn keep_only(&self, _leases: &[(CoinPurpose, Vec<OutPoint>)]) {}
    fn release(&self, _purpose: CoinPurpose) {}
    fn script(&self) -> Result<ScriptBuf, WalletError> {
        Ok(ScriptBuf::from_bytes(vec![0x51]))
    }
    fn balance(&self) -> WalletBalance {
        WalletBalance::default()
    }
}

impl ChainSource for World {
    fn start(&self, recent: Vec<BlockId>) -> mpsc::Receiver<Input> {
        assert_eq!(recent, [tip()]);
        self.chain_starts.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = mpsc::channel(1);
        *self.chain.lock().unwrap() = Some(sender);
        receiver
    }
    fn watch_outpoint(&self, _outpoint: OutPoint, _script: ScriptBuf, _from: BlockHeight) {}
    fn watch_script(&self, _script: ScriptBuf, _from: BlockHeight) {}
    fn utxo(&self, _scid: ShortChannelId) -> Work<UtxoAnswer> {
        Box::pin(async { UtxoAnswer::Unavailable })
    }
}

impl Broadcaster for World {
    fn broadcast(&self, _package: Vec<Transaction>) -> Work<BroadcastAnswer> {
        Box::pin(async { BroadcastAnswer::Known })
    }
}

impl FeeEstimator for World {
    fn feerates(&self) -> Work<Option<Feerates>> {
        Box::pin(async { None })
    }
}

/// A store that fails and stalls when told to.
struct Fickle {
    inner: FileStore,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    /// How many appends fail from now on.
    fail: AtomicU64,
    fail_reopen: AtomicBool,
    fenced: AtomicBool,
    stall: Mutex<()>,
    appends: AtomicU64,
}

impl Store for Fickle {
    fn append(&mut self, epoch: u64, first: u64, batches: &[WriteBatch]) -> Result<(), StoreError> {
        drop(self.orders.stall.lock().unwrap());
        self.orders.appends.fetch_add(1, Ordering::SeqCst);
        if self.orders.fenced.load(Ordering::SeqCst) {
            return Err(StoreError::Fenced { ours: 1, theirs: 2 });
        }
        let less_one = |fail: u64| fail.checked_sub(1);
        if self
            .orders
            .fail
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less_one)
            .is_ok()
        {
            return Err(StoreError::Full {
                path: "test".into(),
            });
        }
        self.inner.append(epoch, first, batches)
    }
    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(key)
    }
    fn scan(&mut self, s: Space, from: &[u8], limit: usize) -> Result<Vec<KeyValue>, StoreError> {
        self.inner.scan(s, from, limit)
    }
    fn position(&mut self) -> Result<Position, StoreError> {
        self.inner.position()
    }
    fn reopen(&mut self) -> Result<Position, StoreError> {
        if self.orders.fail_reopen.load(Ordering::SeqCst) {
            return Err(StoreError::Failed);
        }
        self.inner.reopen()
    }
}

struct Rig {
    _dir: Option<tempfile::TempDir>,
    path: std::path::PathBuf,
    world: Arc<World>,
    signer: Arc<TestSigner>,
    orders: Arc<Orders>,
    peers: mpsc::Sender<Input>,
    node: NodeHandle<Counter>,
    task: DriverTask,
    router: Arc<LocalRouter>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        Self {
            _dir: Some(dir),
            ..Self::at(path, DriverConfig::default())
        }
    }

    fn at(path: std::path::PathBuf, config: DriverConfig) -> Self {
        Self::with_router(path, config, LocalRouter::new())
    }

    fn with_router(path: std::path::PathBuf, config: DriverConfig, router: LocalRouter) -> Self {
        let router = Arc::new(router);
        let world = Arc::new(World::default());
        let signer = TestSigner::new(Mood::Signs);
        let orders = Arc::new(Orders::default());
        let (peers, peer_inputs) = mpsc::channel(1);
        let ports = Ports {
            signer: signer.clone(),
            wallet: world.clone(),
            chain: world.clone(),
            broadcaster: world.clone(),
            fees: world.clone(),
            connector: world.clone(),
            peers: Box::new(peer_inputs),
            router: router.clone(),
            events: Arc::new(NoEventHandler),
            clock: Arc::new(SystemClock),
        };
        let restore = |start: Start| {
            let records: BTreeMap<_, _> = start.records.into_iter().collect();
            let count = records.get(&count_key()).map_or(0, |value| {
                u64::from_be_bytes(value.as_slice().try_into().unwrap())
            });
            let mut heart = Counter {
                seq: 0,
                count,
                mode: start.mode,
                seen: Vec::new(),
                routes: Vec::new(),
                wake: None,
            };
            let effects = heart.effects(WriteBatch::new(), Vec::new());
            Ok((heart, effects))
        };
        let store = Fickle {
            inner: FileStore::open(&path).unwrap(),
            orders: orders.clone(),
        };
        let (node, task) = start(config, Box::new(store), Box::new(restore), ports).unwrap();
        Self {
            _dir: None,
            path,
            world,
            signer,
            orders,
            peers,
            node,
            task,
            router,
        }
    }

    /// The channels of the first route that the node hears of from now on.
    async fn route(&self, n: u8, up_to: u64) -> Vec<u64> {
        let before = self.node.query(|c| c.routes.len()).await.unwrap();
        self.command(n, up_to).await.unwrap();
        self.until(move |c| c.routes.len() > before).await;
        let plan = self.node.query(move |c| c.routes[before].clone()).await;
        let hops = plan.unwrap().parts[0].hops.clone();
        hops.iter().map(|h| h.short_channel_id.to_u64()).collect()
    }

    async fn command(&self, n: u8, up_to: u64) -> Result<Reply, CommandError> {
        let command = Command::AcknowledgeEvents { up_to };
        timeout(
            Duration::from_secs(10),
            self.node.command(CommandId([n; 16]), command),
        )
        .await
        .unwrap()
    }

    async fn count(&self) -> u64 {
        self.node.query(|counter| counter.count).await.unwrap()
    }

    async fn until(&self, what: impl Fn(&Counter) -> bool + Clone + Send + 'static) {
        let done = async {
            while !self.node.query(what.clone()).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), done).await.unwrap();
    }

    async fn until_world(&self, what: impl Fn(&World) -> bool) {
        let done = async {
            while !what(&self.world) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), done).await.unwrap();
    }

    async fn message(&self, epoch: u64) {
        let message = text("hello").complete(&*self.signer).unwrap();
        let epoch = ConnEpoch(epoch);
        self.peers
            .send(Input::PeerMessage {
                peer: key(9),
                epoch,
                message,
            })
            .await
            .unwrap();
    }

    async fn connect(&self, epoch: u64) {
        let connected = Input::PeerConnected {
            peer: key(9),
            epoch: ConnEpoch(epoch),
            direction: Direction::Inbound,
            address: None,
        };
        self.peers.send(connected).await.unwrap();
    }
}

#[tokio::test]
async fn commands_are_answered_when_durable_and_a_restart_goes_on() {
    let rig = Rig::new();
    for n in 1..=3 {
        assert_eq!(rig.command(n, 0).await, Ok(Reply::Done));
    }
    let stored = rig.node.store();
    let read = tokio::task::spawn_blocking(move || stored.get(count_key()))
        .await
        .unwrap();
    assert_eq!(read.unwrap(), Some(3u64.to_be_bytes().to_vec()));
    let mut events = rig.node.events(2).unwrap();
    assert_eq!(events.next().await.unwrap().number, 2);
    assert_eq!(events.next().await.unwrap().number, 3);
    assert!(events.try_next().is_none());
    rig.node.shutdown().await;
    assert!(events.next().await.is_none());
    assert!(rig.node.query(|_| ()).await.is_err());
    assert!(matches!(
        rig.command(4, 0).await,
        Err(CommandError::Unavailable(_))
    ));
    rig.task.await.unwrap().unwrap();
    assert!(rig.world.shut_down.load(Ordering::SeqCst));

    let again = Rig::at(rig.path.clone(), DriverConfig::default());
    assert_eq!(again.count().await, 3);
    again.node.shutdown().await;
}

#[tokio::test]
async fn asks_are_answered_as_inputs() {
    let rig = Rig::new();
    let answered = |n: u64, what: Answer| {
        let id = RequestId {
            boot: 1,
            sequence: n,
        };
        format!("{:?}", Input::Answer { id, answer: what })
    };
    for n in 1..=3 {
        rig.command(u8::try_from(n).unwrap(), n).await.unwrap();
    }
    let expected = [
        answered(1, Answer::Record(Some(1u64.to_be_bytes().to_vec()))),
        answered(
            2,
            Answer::WalletScript(Ok(ScriptBuf::from_bytes(vec![0x51]))),
        ),
        answered(3, Answer::Broadcast(BroadcastAnswer::Known)),
    ];
    rig.until(move |counter| expected.iter().all(|e| counter.seen.contains(e)))
        .await;
    // The wallet's balance came by itself.
    rig.until(|counter| counter.seen.iter().any(|s| s.starts_with("WalletBalance")))
        .await;
}

#[tokio::test]
async fn the_node_hears_what_the_signer_refuses() {
    let rig = Rig::new();
    *rig.signer.mood.lock().unwrap() = Mood::Refuses;
    rig.connect(1).await;
    rig.message(1).await;
    let refused = |counter: &Counter| counter.seen.iter().any(|s| s.starts_with("SigningRefused"));
    rig.until(refused).await;
    // What the signer does not complete does not leave.
    assert!(
        rig.world
            .sent()
            .iter()
            .all(|name| name != "commitment_signed")
    );
}

#[tokio::test]
async fn the_node_is_woken_when_it_wants_to_be() {
    let rig = Rig::new();
    rig.command(1, 4).await.unwrap();
    rig.until(|counter| counter.seen.contains(&"Tick".to_owned()))
        .await;
}

#[tokio::test]
async fn nothing_is_said_while_the_store_stalls_and_many_steps_become_one_commit() {
    let rig = Rig::new();
    rig.connect(1).await;
    rig.until_world(|world| world.sent() == ["init", "warning"])
        .await;
    let stall = rig.orders.stall.lock().unwrap();
    for _ in 0..50 {
        rig.message(1).await;
    }
    rig.until(|counter| counter.count == 50).await;
    assert_eq!(rig.world.sent().len(), 2, "none of it is durable");
    drop(stall);
    rig.until_world(|world| world.sent().len() == 52).await;
    assert_eq!(
        *rig.signer.asked.lock().unwrap(),
        (1..=50).collect::<Vec<u64>>(),
        "in order"
    );
    assert!(
        rig.orders.appends.load(Ordering::SeqCst) <= 3,
        "group commit"
    );
    let stats = rig.node.store().stats();
    assert_eq!(stats.batches, 50);
}

#[tokio::test]
async fn run_ahead_stops_peers_and_commands_but_not_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let config = DriverConfig {
        run_ahead: RunAhead {
            batches: 5,
            bytes: 1_000_000,
        },
        ..DriverConfig::default()
    };
    let rig = Rig::at(dir.path().join("store"), config);
    rig.connect(1).await;
    let orders = rig.orders.clone();
    let stall = orders.stall.lock().unwrap();
    let feeder = {
        let (peers, signer) = (rig.peers.clone(), rig.signer.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                let message = text("hello").complete(&*signer).unwrap();
                let input = Input::PeerMessage {
                    peer: key(9),
                    epoch: ConnEpoch(1),
                    message,
                };
                peers.send(input).await.unwrap();
            }
        })
    };
    rig.until(|counter| counter.count == 5).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.count().await, 5, "peers wait");
    let chain = rig.world.chain.lock().unwrap().clone().unwrap();
    chain.send(Input::BestTip(tip())).await.unwrap();
    rig.until(|counter| counter.count == 6).await;
    drop(stall);
    rig.until(|counter| counter.count == 21).await;
    feeder.await.unwrap();
}

#[tokio::test]
async fn a_failed_commit_leaves_memory_behind_and_goes_on_without_peers() {
    let rig = Rig::new();
    rig.connect(1).await;
    rig.command(1, 0).await.unwrap();
    rig.orders.fail.store(1, Ordering::SeqCst);
    let refused = rig.command(2, 0).await;
    assert!(matches!(&refused, Err(CommandError::Unavailable(why)) if why.contains("full")));
    rig.until(|counter| counter.mode == Mode::EnforceOnly).await;
    assert_eq!(rig.count().await, 1, "what was not durable never was");
    assert!(rig.world.shut_down.load(Ordering::SeqCst));
    assert_eq!(rig.world.chain_starts.load(Ordering::SeqCst), 2);
    let status = rig.node.status().borrow().clone();
    assert!(matches!(status, DriverStatus::EnforceOnly { .. }));
    assert!(matches!(
        rig.command(3, 0).await,
        Err(CommandError::Unavailable(_))
    ));
    assert!(
        rig.peers.send(Input::Tick).await.is_err(),
        "nobody reads peers"
    );
    // The chain goes on, and commits that fail again are tried until they succeed.
    rig.orders.fail.store(2, Ordering::SeqCst);
    let chain = rig.world.chain.lock().unwrap().clone().unwrap();
    chain.send(Input::BestTip(tip())).await.unwrap();
    rig.until(|counter| counter.count == 2).await;
    let store = rig.node.store();
    let read = move || loop {
        if store.get(count_key()).unwrap() == Some(2u64.to_be_bytes().to_vec()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    timeout(Duration::from_secs(20), tokio::task::spawn_blocking(read))
        .await
        .unwrap()
        .unwrap();
    rig.node.shutdown().await;
    rig.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failed_reload_and_a_lost_store_stop_the_node() {
    let rig = Rig::new();
    rig.orders.fail.store(1, Ordering::SeqCst);
    rig.orders.fail_reopen.store(true, Ordering::SeqCst);
    assert!(rig.command(1, 0).await.is_err());
    assert!(matches!(
        rig.task.await.unwrap(),
        Err(DriverError::Reload { .. })
    ));

    let rig = Rig::new();
    rig.orders.fenced.store(true, Ordering::SeqCst);
    assert!(rig.command(1, 0).await.is_err());
    let stopped = rig.task.await.unwrap();
    assert!(matches!(
        stopped,
        Err(DriverError::Store(StoreError::Fenced { .. }))
    ));
    let status = rig.node.status().borrow().clone();
    assert!(matches!(status, DriverStatus::Stopped { error: Some(_) }));
}

#[tokio::test]
async fn the_edge_writes_its_own_records_only() {
    let rig = Rig::new();
    let store = rig.node.store();
    let work = move || {
        let key = RecordKey::new(Space::Edge, *b"wallet");
        let mut batch = WriteBatch::new();
        batch.put(key.clone(), vec![1, 2]);
        store.write(batch).unwrap();
        assert_eq!(store.get(key).unwrap(), Some(vec![1, 2]));
        assert_eq!(store.scan(Space::Edge, Vec::new(), 10).unwrap().len(), 1);
        let mut foreign = WriteBatch::new();
        foreign.put(count_key(), vec![9]);
        assert!(store.write(foreign).is_err());
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    rig.node.shutdown().await;
}

/// What an attempt has taught, the next plan and the next start know.
#[tokio::test]
async fn the_router_learns_from_failures_and_remembers_after_a_restart() {
    let rig = Rig::new();
    assert_eq!(rig.route(1, ASK_ROUTE).await, [2, 24]);
    assert_eq!(rig.route(2, LEARN_AND_ASK_ROUTE).await, [3, 34]);
    assert_eq!(rig.route(3, ASK_ROUTE).await, [3, 34]);
    rig.node.shutdown().await;
    rig.task.await.unwrap().unwrap();

    let bytes = rig.router.to_bytes(&diamond());
    let router = LocalRouter::from_bytes(&bytes).unwrap();
    let rig = Rig::with_router(rig.path.clone(), DriverConfig::default(), router);
    assert_eq!(rig.route(4, ASK_ROUTE).await, [3, 34]);
    rig.node.shutdown().await;
    rig.task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_hears_of_a_peer_that_does_not_read_its_gossip() {
    let rig = Rig::new();
    rig.connect(1).await;
    // What is said before goes nowhere.
    rig.until_world(|world| world.sent() == ["init", "warning"])
        .await;
    let busy = |counter: &Counter| {
        let heard = counter.seen.iter().filter(|s| s.starts_with("PeerBusy"));
        heard.map(|s| s.contains("true")).collect::<Vec<_>>()
    };
    rig.command(1, SEND_GOSSIP).await.unwrap();
    rig.until_world(|world| world.sent().contains(&"gossip_timestamp_filter".to_owned()))
        .await;
    assert!(rig.node.query(busy).await.unwrap().is_empty());
    rig.world.queued_bytes.store(3 << 20, Ordering::SeqCst);
    rig.command(2, SEND_GOSSIP).await.unwrap();
    rig.command(3, SEND_GOSSIP).await.unwrap();
    rig.until(move |counter| busy(counter) == [true]).await;
    // Not before most of it is gone.
    rig.world.queued_bytes.store(1 << 20, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(rig.node.query(busy).await.unwrap(), [true]);
    rig.world.queued_bytes.store(0, Ordering::SeqCst);
    rig.until(move |counter| busy(counter) == [true, false])
        .await;
}
