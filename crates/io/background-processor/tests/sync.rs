//! Two nodes over TCP: one knows a network, the other learns it. The network is small here; as large as
//! the main one it is measured by docs/benchmarks.md (`FULMEN_SYNC_NODES=17324`, in release).
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::{
    BlockHash, Network as Chain, OutPoint, ScriptBuf, Transaction, TxOut, Txid, hashes::Hash,
    secp256k1::PublicKey,
};
use fulmen_background_processor::{
    Broadcaster, ChainSource, Clock, DriverConfig, FeeEstimator, LocalRouter, NoEventHandler,
    NodeHandle, Ports, Start, Wallet, Work, start, tcp::connect_over_tcp,
};
use fulmen_connect::ConnectConfig;
use fulmen_gossip::{
    Direction, Gossip, GossipConfig, GossipInput, GossipOutput, NetworkGraph, SignedMessages,
    funding_script,
};
use fulmen_net_tokio::{Connections, NetConfig};
use fulmen_netgen::{Config, Network};
use fulmen_node::{
    BlockId, BroadcastAnswer, Coin, CoinPurpose, CoinRequest, Command, CommandId, FundingRequest,
    Input, Node, NodeConfig, PeerAddress, UtxoAnswer, WalletBalance, WalletError,
};
use fulmen_persister::FileStore;
use fulmen_signer::{KeysManager, Signer};
use fulmen_types::{BlockHeight, Features, Feerates, NodeId, ShortChannelId, Timestamp};
use fulmen_wire::Message;
use tokio::sync::mpsc;

const TIP: u32 = 900_000;

/// The world of a network: its chain has its outputs and stands still, its time begins after its messages.
struct World {
    outputs: BTreeMap<ShortChannelId, TxOut>,
    begun: (Timestamp, Instant),
    /// Keeps the chain open.
    chain: std::sync::Mutex<Vec<mpsc::Sender<Input>>>,
}

impl World {
    fn answer(&self, scid: ShortChannelId) -> UtxoAnswer {
        match self.outputs.get(&scid) {
            Some(output) => {
                let mut txid = [0; 32];
                txid[..8].copy_from_slice(&scid.to_u64().to_be_bytes());
                UtxoAnswer::Unspent {
                    output: output.clone(),
                    outpoint: OutPoint::new(Txid::from_byte_array(txid), 0),
                }
            }
            None => UtxoAnswer::SpentOrUnknown,
        }
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        let millis = self.begun.1.elapsed().as_millis();
        self.begun.0.plus_millis(u64::try_from(millis).unwrap())
    }
}

impl ChainSource for World {
    fn start(&self, _recent: Vec<BlockId>) -> mpsc::Receiver<Input> {
        let (sender, receiver) = mpsc::channel(1);
        self.chain.lock().unwrap().push(sender);
        receiver
    }
    fn watch_outpoint(&self, _outpoint: OutPoint, _script: ScriptBuf, _from: BlockHeight) {}
    fn watch_script(&self, _script: ScriptBuf, _from: BlockHeight) {}
    fn utxo(&self, scid: ShortChannelId) -> Work<UtxoAnswer> {
        let answer = self.answer(scid);
        Box::pin(async { answer })
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

/// What a network says, as a node keeps it that has heard all of it.
fn learn(network: &Network) -> (World, NetworkGraph, SignedMessages) {
    let newest = network.channels.iter().flat_map(|c| c.policies).flatten();
    let newest = newest.map(|policy| policy.timestamp).max().unwrap();
    let now = Timestamp::from_secs(u64::from(newest));
    let mut world = World {
        outputs: BTreeMap::new(),
        begun: (now, Instant::now()),
        chain: std::sync::Mutex::default(),
    };
    let mut config = GossipConfig::new(network.chain_hash, NodeId::new([2; 33]));
    config.max_pending_utxos = usize::MAX;
    let mut gossip = Gossip::new(config);
    let peer = NodeId::new([3; 33]);
    gossip.handle(now, GossipInput::Tip(BlockHeight::new(TIP)));
    let features = Features::empty();
    gossip.handle(now, GossipInput::PeerConnected { peer, features });
    let mut say = |world: &World, message: Message| {
        let mut inputs = vec![GossipInput::Message { peer, message }];
        while let Some(input) = inputs.pop() {
            for output in gossip.handle(now, input) {
                match output {
                    GossipOutput::AskUtxo(short_channel_id) => inputs.push(GossipInput::Utxo {
                        short_channel_id,
                        answer: world.answer(short_channel_id),
                    }),
                    GossipOutput::Misbehaved { why, .. } => panic!("{why}"),
                    _ => {}
                }
            }
        }
    };
    for channel in 0..network.channels.len() {
        let announcement = network.channel_announcement(channel);
        let output = TxOut {
            value: network.channels[channel].capacity,
            script_pubkey: funding_script(&announcement),
        };
        world.outputs.insert(announcement.short_channel_id, output);
        say(&world, announcement.into());
        for direction in [Direction::Forward, Direction::Backward] {
            if let Some(update) = network.channel_update(channel, direction) {
                say(&world, update.into());
            }
        }
    }
    for node in 0..network.nodes.len() {
        if let Some(announcement) = network.node_announcement(node) {
            say(&world, announcement.into());
        }
    }
    let graph = (*gossip.graph()).clone();
    world.begun.1 = Instant::now();
    (world, graph, gossip.messages().clone())
}

struct TestNode {
    id: PublicKey,
    address: String,
    handle: NodeHandle<Node>,
    _dir: tempfile::TempDir,
}

impl TestNode {
    async fn start(
        world: &Arc<World>,
        seed: u8,
        mut cache: Option<(NetworkGraph, SignedMessages)>,
    ) -> Self {
        let signer = Arc::new(KeysManager::new([seed; 32], Chain::Regtest));
        let id = signer.node_id();
        let (connector, peers) = connect_over_tcp(
            NetConfig::default(),
            signer.clone(),
            Connections::standard(ConnectConfig::default()),
        );
        let address = connector.net().listen("127.0.0.1:0").await.unwrap();
        let ports = Ports {
            signer,
            wallet: world.clone(),
            chain: world.clone(),
            broadcaster: world.clone(),
            fees: world.clone(),
            connector: Arc::new(connector),
            peers: Box::new(peers),
            router: Arc::new(LocalRouter::default()),
            events: Arc::new(NoEventHandler),
            clock: world.clone(),
        };
        let restore = move |start: Start| {
            let config = NodeConfig::new(Chain::Regtest);
            let tip = BlockId {
                height: BlockHeight::new(TIP),
                hash: BlockHash::from_byte_array([7; 32]),
            };
            let (mut node, effects) = Node::create(config, id, &start.boot, start.now, tip);
            if let Some((graph, messages)) = cache.take() {
                node.set_gossip_cache(graph, messages);
            }
            Ok((node, effects))
        };
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path().join("store")).unwrap();
        let config = DriverConfig::default();
        let (handle, _task) = start(config, Box::new(store), Box::new(restore), ports).unwrap();
        Self {
            id,
            address: address.to_string(),
            handle,
            _dir: dir,
        }
    }

    async fn connect(&self, to: &Self) {
        let command = Command::Connect {
            peer: to.id,
            address: PeerAddress(to.address.clone()),
        };
        let id = CommandId([to.id.serialize()[1]; 16]);
        self.handle.command(id, command).await.unwrap();
    }

    /// Until the node knows so many channels and asks for no more.
    async fn until_synced(&self, channels: usize, patience: Duration) {
        let synced = async {
            loop {
                let (known, is_synced) = self
                    .handle
                    .query(|node| {
                        let gossip = node.gossip();
                        (gossip.messages().channel_count(), gossip.is_synced())
                    })
                    .await
                    .unwrap();
                if known == channels && is_synced {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(patience, synced).await.unwrap();
    }

    async fn graph(&self) -> Arc<NetworkGraph> {
        self.handle.query_mut(Node::graph).await.unwrap()
    }
}

/// Whether two graphs are the same, and if not the first difference.
fn same(learned: &NetworkGraph, taught: &NetworkGraph) {
    for (ours, theirs) in learned.channels().zip(taught.channels()) {
        assert_eq!(ours, theirs);
    }
    for (ours, theirs) in learned.nodes().zip(taught.nodes()) {
        assert_eq!(ours, theirs);
        assert_eq!(learned.node_details(&ours), taught.node_details(&theirs));
    }
    assert!(learned.to_bytes() == taught.to_bytes());
}

/// The memory of this process in MB; 0 where the system does not say.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| {
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    kb.unwrap_or(0) / 1_024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_learns_the_network_from_its_peers() {
    let nodes = std::env::var("FULMEN_SYNC_NODES").ok();
    let nodes = nodes.map_or(200, |nodes| nodes.parse().unwrap());
    let network = Network::generate(&Config::with_nodes(11, nodes));
    let (world, graph, messages) = learn(&network);
    drop(network);
    let (world, channels) = (Arc::new(world), graph.channel_count());
    println!(
        "{} nodes, {channels} channels, {} updates; {} MB of graph, {} MB of messages in a file",
        graph.node_count(),
        graph
            .channels()
            .map(|c| c.policies.iter().flatten().count())
            .sum::<usize>(),
        graph.memory() >> 20,
        messages.to_bytes().len() >> 20,
    );
    let teachers = [
        TestNode::start(&world, 1, Some((graph.clone(), messages.clone()))).await,
        TestNode::start(&world, 2, Some((graph.clone(), messages))).await,
    ];
    let learner = TestNode::start(&world, 3, None).await;
    let patience = Duration::from_secs(600);
    let before = memory();

    // From one peer.
    let begun = Instant::now();
    learner.connect(&teachers[0]).await;
    learner.until_synced(channels, patience).await;
    println!(
        "from one peer: {:.1} s; the learner's memory: {} MB",
        begun.elapsed().as_secs_f64(),
        memory().saturating_sub(before),
    );
    let learned = learner.graph().await;
    same(&learned, &graph);

    // A second peer has nothing new to tell.
    let begun = Instant::now();
    learner.connect(&teachers[1]).await;
    learner.until_synced(channels, patience).await;
    println!(
        "nothing new from the second: {:.1} s",
        begun.elapsed().as_secs_f64()
    );

    // From two at once, each asked for other channels.
    let second = TestNode::start(&world, 4, None).await;
    let begun = Instant::now();
    tokio::join!(second.connect(&teachers[0]), second.connect(&teachers[1]));
    second.until_synced(channels, patience).await;
    println!("from two peers: {:.1} s", begun.elapsed().as_secs_f64());
    let learned = second.graph().await;
    same(&learned, &graph);
    for node in teachers.iter().chain([&learner, &second]) {
        node.handle.shutdown().await;
    }
}
