//! Puts a node together from defaults, each of which can be replaced.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bitcoin::{
    Network,
    bip32::Xpriv,
    hashes::{Hash, HashEngine, sha256},
    secp256k1::PublicKey,
};
use fulmen_background_processor::{
    Broadcaster, ChainSource, Clock, Connector, DriverConfig, DriverError, EventHandler,
    FeeEstimator, NoEventHandler, NodeHandle, PeerSource, Ports, Restore, Router, Start,
    SystemClock, Wallet, bitcoind::BitcoindChain, tcp::connect_over_tcp,
};
use fulmen_block_sync::{Auth, Bitcoind, BitcoindConfig, BlockRef, FeeFallback, FollowConfig};
use fulmen_connect::{ConnectConfig, ConnectionPolicy, StandardPolicy};
use fulmen_net_tokio::{Connections, NetConfig};
use fulmen_node::{BlockId, Node, NodeConfig};
use fulmen_persister::{EdgeStore, SqliteStore, Store};
use fulmen_rapid_gossip_sync::{self as rapid_gossip_sync, Source};
use fulmen_signer::{KeysManager, Signer};
use fulmen_types::BlockHeight;
use fulmen_wallet::{
    CatchUp, OnchainWallet, WalletBroadcaster, WalletPort, WalletTap, rebroadcast, watch_mempool,
};
use tokio::sync::watch;

use crate::{
    BuildError, RunningNode,
    birth::{birthday, first_tip, node_start},
    connections::{NodeDirectory, default_limits, load_memory, save_memory},
    fees::RememberedFees,
    graph_file, liquidity_file,
    running::{self, Background},
    snapshots::NodeGraph,
};

/// The node's store in the data directory.
pub const NODE_STORE: &str = "node.sqlite";
/// The wallet's store in the data directory.
pub const EDGE_STORE: &str = "edge.sqlite";

/// Another chain source than Bitcoin Core.
pub struct ChainPorts {
    /// Follows the chain.
    pub source: Arc<dyn ChainSource>,
    /// Gives transactions to the network.
    pub broadcaster: Arc<dyn Broadcaster>,
    /// Estimates feerates.
    pub fees: Arc<dyn FeeEstimator>,
    /// Where a new node begins: some blocks below the tip, so that it knows its way back when they are
    /// reorganised.
    pub start: BlockId,
}

impl std::fmt::Debug for ChainPorts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainPorts")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

type MakePolicy = Box<dyn FnOnce(&[u8]) -> Box<dyn ConnectionPolicy> + Send>;

/// Puts a node together and starts it.
///
/// What is not said otherwise: SQLite stores in the data directory, keys in memory from a seed, a wallet by
/// BDK, Bitcoin Core at its usual place, peers over TCP, the router of this project. Each can be replaced,
/// and the rest stays. See the [crate's page](crate) for an example.
pub struct Builder {
    config: NodeConfig,
    data_dir: Option<PathBuf>,
    keys: Option<([u8; 32], Xpriv)>,
    signer: Option<Arc<dyn Signer>>,
    store: Option<Box<dyn Store>>,
    edge: Option<EdgeStore>,
    bitcoind: BitcoindConfig,
    follow: FollowConfig,
    fee_fallback: FeeFallback,
    mempool_interval: Option<Duration>,
    birthday: Option<u32>,
    wallet: Option<Arc<dyn Wallet>>,
    chain: Option<ChainPorts>,
    peers: Option<(Arc<dyn Connector>, Box<dyn PeerSource>)>,
    net: NetConfig,
    limits: ConnectConfig,
    policy: Option<MakePolicy>,
    dns_seeds: Option<Vec<String>>,
    listen: Option<SocketAddr>,
    router: Option<Arc<dyn Router>>,
    events: Arc<dyn EventHandler>,
    clock: Arc<dyn Clock>,
    driver: DriverConfig,
    graph_interval: Duration,
    snapshots: Option<Source>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// A node on this network, with defaults for everything but its keys and its place.
    pub fn new(network: Network) -> Self {
        Self {
            config: NodeConfig::new(network),
            data_dir: None,
            keys: None,
            signer: None,
            store: None,
            edge: None,
            bitcoind: BitcoindConfig::new(
                format!("127.0.0.1:{}", rpc_port(network)),
                Auth::CookieFile(default_cookie(network)),
            ),
            follow: FollowConfig::default(),
            fee_fallback: FeeFallback::default(),
            mempool_interval: Some(Duration::from_secs(10)),
            birthday: None,
            wallet: None,
            chain: None,
            peers: None,
            net: NetConfig::default(),
            limits: default_limits(network),
            policy: None,
            dns_seeds: None,
            listen: None,
            router: None,
            events: Arc::new(NoEventHandler),
            clock: Arc::new(SystemClock),
            driver: DriverConfig::default(),
            graph_interval: Duration::from_secs(600),
            snapshots: None,
        }
    }

    /// Where the stores, the graph of the network and what payments teach about it are: an existing folder that nothing else uses.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// One secret for all keys: of channels and of the wallet. Whoever has it has the money.
    #[must_use]
    pub fn seed(self, seed: [u8; 32]) -> Self {
        let derived = |label: &[u8]| {
            let mut engine = sha256::Hash::engine();
            engine.input(label);
            engine.input(&seed);
            sha256::Hash::from_engine(engine).to_byte_array()
        };
        let network = self.config.network;
        let master = Xpriv::new_master(network, &derived(b"fulmen/onchain/seed/1"));
        let master = master.expect("all but one hash in 2^127 is a key");
        self.keys(derived(b"fulmen/lightning/seed/1"), master)
    }

    /// The seed of the channels' keys and the master key of the wallet, each of your own making.
    #[must_use]
    pub fn keys(mut self, node_seed: [u8; 32], wallet_master: Xpriv) -> Self {
        self.keys = Some((node_seed, wallet_master));
        self
    }

    /// Changes the node's own configuration: alias, fees, limits.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut NodeConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Bitcoin Core's RPC at `host:port`.
    #[must_use]
    pub fn bitcoind(mut self, address: impl Into<String>, auth: Auth) -> Self {
        self.bitcoind = BitcoindConfig::new(address, auth);
        self
    }

    /// How often Bitcoin Core is asked for blocks, and how patiently.
    #[must_use]
    pub fn follow(mut self, follow: FollowConfig) -> Self {
        self.follow = follow;
        self
    }

    /// The feerates where Bitcoin Core has no estimate.
    #[must_use]
    pub fn fee_fallback(mut self, fallback: FeeFallback) -> Self {
        self.fee_fallback = fallback;
        self
    }

    /// How often the mempool is looked at for deposits; `None` shows them when they are confirmed.
    #[must_use]
    pub fn mempool_interval(mut self, interval: Option<Duration>) -> Self {
        self.mempool_interval = interval;
        self
    }

    /// The first block that may have coins of the wallet; a new wallet has none yet.
    #[must_use]
    pub fn wallet_birthday(mut self, height: u32) -> Self {
        self.birthday = Some(height);
        self
    }

    /// Where peers connect; port 0 takes a free one. Without it the node only connects to others.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Another store for the node.
    #[must_use]
    pub fn store(mut self, store: impl Store + 'static) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Another store for the wallet, which may be shared with other adapters. Whoever made it closes it.
    #[must_use]
    pub fn edge_store(mut self, edge: EdgeStore) -> Self {
        self.edge = Some(edge);
        self
    }

    /// Another signer: a hardware wallet, a remote one.
    #[must_use]
    pub fn signer(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Another wallet.
    #[must_use]
    pub fn wallet(mut self, wallet: Arc<dyn Wallet>) -> Self {
        self.wallet = Some(wallet);
        self
    }

    /// Another chain source than Bitcoin Core. It takes another wallet too: the default one gets its blocks
    /// from Bitcoin Core.
    #[must_use]
    pub fn chain(mut self, chain: ChainPorts) -> Self {
        self.chain = Some(chain);
        self
    }

    /// Another way to reach peers than TCP.
    #[must_use]
    pub fn peers(mut self, connector: Arc<dyn Connector>, peers: Box<dyn PeerSource>) -> Self {
        self.peers = Some((connector, peers));
        self
    }

    /// Limits and times of the standard connection policy: slots, waits, how many strangers to dial.
    #[must_use]
    pub fn connect_config(mut self, change: impl FnOnce(&mut ConnectConfig)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Another policy of when to connect and with whom. It is made from what the last one wanted to remember,
    /// nothing for a new node.
    #[must_use]
    pub fn connections(
        mut self,
        make: impl FnOnce(&[u8]) -> Box<dyn ConnectionPolicy> + Send + 'static,
    ) -> Self {
        self.policy = Some(Box::new(make));
        self
    }

    /// The DNS seeds that are asked for peers when nobody else is known (BOLT 10); none asks nobody. Without
    /// this, those that are known for the network.
    #[must_use]
    pub fn dns_seeds(mut self, seeds: Vec<String>) -> Self {
        self.dns_seeds = Some(seeds);
        self
    }

    /// Time-outs and limits of connections over TCP.
    #[must_use]
    pub fn net(mut self, net: NetConfig) -> Self {
        self.net = net;
        self
    }

    /// Another router than the one of this project. It keeps what it learns by itself.
    #[must_use]
    pub fn router(mut self, router: Arc<dyn Router>) -> Self {
        self.router = Some(router);
        self
    }

    /// Who hears of events, besides the streams of [`NodeHandle::events`].
    #[must_use]
    pub fn events(mut self, events: Arc<dyn EventHandler>) -> Self {
        self.events = events;
        self
    }

    /// Another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How the driver runs.
    #[must_use]
    pub fn driver(mut self, driver: DriverConfig) -> Self {
        self.driver = driver;
        self
    }

    /// How often the graph of the network is saved, and what payments have taught about it.
    #[must_use]
    pub fn graph_interval(mut self, interval: Duration) -> Self {
        self.graph_interval = interval;
        self
    }

    /// Where snapshots of the network come from once a day (rapid gossip sync), besides what peers tell.
    /// Nothing in them is signed; see the [crate](fulmen_rapid_gossip_sync) for what that means.
    #[must_use]
    pub fn rapid_gossip_sync(mut self, source: Source) -> Self {
        self.snapshots = Some(source);
        self
    }

    /// Starts the node: when this returns, it runs and peers can connect. To be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// Whatever keeps it from starting; nothing has been changed that another start would not want.
    pub async fn start(mut self) -> Result<RunningNode, BuildError> {
        let network = self.config.network;
        let signer = match self.signer.take() {
            Some(signer) => signer,
            None => Arc::new(KeysManager::new(self.need_keys()?.0, network)),
        };
        let node_id = signer.node_id();
        let mut store = match self.store.take() {
            Some(store) => store,
            None => Box::new(SqliteStore::open(self.need_dir()?.join(NODE_STORE))?),
        };
        let is_new = store.position()?.batch_seq == 0;
        let (stop, _) = watch::channel(false);
        let mut background = Background::default();
        let parts = match self.chain.take() {
            Some(chain) => self.on_another_chain(chain)?,
            None => self.on_bitcoind(is_new, &stop, &mut background).await?,
        };
        let (fees, feerates) = RememberedFees::new(parts.fees);
        let node_handle = Arc::new(OnceLock::new());
        let (connector, peers, listening, net) = match self.peers.take() {
            Some((connector, peers)) => (connector, peers, None, None),
            None => {
                let connections = self.make_connections(node_id, Arc::clone(&node_handle))?;
                let (tcp, peers) =
                    connect_over_tcp(self.net.clone(), Arc::clone(&signer), connections);
                let net = tcp.net().clone();
                let listening = match self.listen {
                    Some(address) => Some(tcp.net().listen(&address.to_string()).await.map_err(
                        |error| BuildError::Listen {
                            address: address.to_string(),
                            error,
                        },
                    )?),
                    None => None,
                };
                let connector: Arc<dyn Connector> = Arc::new(tcp);
                let peers: Box<dyn PeerSource> = Box::new(peers);
                (connector, peers, listening, Some(net))
            }
        };
        let (router, own_router): (Arc<dyn Router>, _) = match self.router {
            Some(router) => (router, None),
            None => {
                let dir = self.data_dir.as_deref();
                let own = Arc::new(dir.and_then(liquidity_file::load).unwrap_or_default());
                (own.clone(), Some(own))
            }
        };
        let ports = Ports {
            signer,
            wallet: parts.port,
            chain: parts.source,
            broadcaster: Arc::clone(&parts.broadcaster),
            fees: Arc::new(fees),
            connector,
            peers,
            router,
            events: self.events,
            clock: Arc::clone(&self.clock),
        };
        let chain = self.config.channel.chain_hash;
        let restore = restorer(self.config, self.data_dir.clone(), node_id, parts.start);
        let (handle, driver) =
            fulmen_background_processor::start(self.driver, store, restore, ports)?;
        // Nobody else sets it.
        let _ = node_handle.set(handle.clone());
        if let Some(wallet) = &parts.wallet {
            free_fundings(&handle, wallet).await?;
            background.spawn(rebroadcast(
                wallet.clone(),
                Arc::clone(&parts.broadcaster),
                stop.subscribe(),
            ));
        }
        if let (Some(net), Some(dir)) = (&net, &self.data_dir) {
            let saving = save_memory(net.clone(), dir.clone(), stop.subscribe());
            background.spawn_to_end(saving);
        }
        if let Some(source) = self.snapshots {
            let graph = NodeGraph {
                handle: handle.clone(),
                clock: self.clock,
            };
            background.spawn(rapid_gossip_sync::follow(
                rapid_gossip_sync::FollowConfig::new(source, chain),
                graph,
            ));
        }
        if let Some(dir) = self.data_dir {
            let saving = running::save_caches(
                handle.clone(),
                own_router.clone(),
                dir,
                self.graph_interval,
                stop.subscribe(),
            );
            background.spawn_to_end(saving);
        }
        Ok(RunningNode {
            node_id,
            listening,
            net,
            handle,
            driver,
            outcome: None,
            wallet: parts.wallet,
            router: own_router,
            broadcaster: parts.broadcaster,
            feerates,
            chain_status: parts.status,
            stop,
            background,
            own_edge: parts.own_edge,
        })
    }

    fn make_connections(
        &mut self,
        node_id: PublicKey,
        handle: Arc<OnceLock<NodeHandle<Node>>>,
    ) -> Result<Connections, BuildError> {
        let memory = self.data_dir.as_deref().map(load_memory);
        let memory = memory.unwrap_or_default();
        let policy = match self.policy.take() {
            Some(make) => make(&memory),
            None => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|e| DriverError::Entropy(e.to_string()))?;
                let limits = self.limits.clone();
                Box::new(StandardPolicy::new(limits, seed, &memory))
            }
        };
        let network = self.config.network;
        let seeds = if self.limits.bootstrap {
            self.dns_seeds.take()
        } else {
            Some(Vec::new())
        };
        let directory = NodeDirectory::new(node_id.into(), network, seeds, handle);
        Ok(Connections {
            policy,
            directory: Arc::new(directory),
        })
    }

    fn need_dir(&self) -> Result<&Path, BuildError> {
        self.data_dir
            .as_deref()
            .ok_or(BuildError::Missing("a `data_dir`, or stores of your own"))
    }

    fn need_keys(&self) -> Result<&([u8; 32], Xpriv), BuildError> {
        self.keys.as_ref().ok_or(BuildError::Missing(
            "a `seed`, or a signer and a wallet of your own",
        ))
    }

    fn on_another_chain(&mut self, chain: ChainPorts) -> Result<Parts, BuildError> {
        let port = self.wallet.take().ok_or(BuildError::Missing(
            "a `wallet` to go with the `chain`: the default one gets its blocks from Bitcoin Core",
        ))?;
        Ok(Parts {
            port,
            wallet: None,
            own_edge: None,
            source: chain.source,
            broadcaster: chain.broadcaster,
            fees: chain.fees,
            status: None,
            start: Some(chain.start),
        })
    }

    async fn on_bitcoind(
        &mut self,
        is_new: bool,
        stop: &watch::Sender<bool>,
        background: &mut Background,
    ) -> Result<Parts, BuildError> {
        let network = self.config.network;
        let client = Bitcoind::new(self.bitcoind.clone());
        let mut own_edge = None;
        let wallet = match &self.wallet {
            Some(_) => None,
            None => {
                let edge = match self.edge.take() {
                    Some(edge) => edge,
                    None => {
                        let store = SqliteStore::open(self.need_dir()?.join(EDGE_STORE))?;
                        let edge = EdgeStore::new(store)?;
                        own_edge = Some(edge.clone());
                        edge
                    }
                };
                Some(OnchainWallet::open(edge, &self.need_keys()?.1, network)?)
            }
        };
        let is_new_wallet = wallet.as_ref().is_some_and(OnchainWallet::is_new);
        let tip = first_tip(&client, network, is_new || is_new_wallet).await?;
        if let (Some(wallet), Some(tip)) = (wallet.as_ref().filter(|_| is_new_wallet), tip) {
            wallet.start_at(birthday(&client, self.birthday, tip).await?)?;
        }
        let start = match tip {
            Some(tip) if is_new => Some(to_id(node_start(&client, tip).await?)),
            tip => tip.map(to_id),
        };
        let catch_up = CatchUp::default();
        catch_up.ask();
        let tap = wallet.clone().map(|wallet| -> Arc<_> {
            Arc::new(WalletTap {
                wallet,
                catch_up: catch_up.clone(),
            })
        });
        let chain = BitcoindChain::new(
            client.clone(),
            self.follow.clone(),
            self.fee_fallback,
            tap.map(|tap| tap as _),
        );
        let status = Some(chain.status());
        let Some(wallet) = wallet else {
            let port = self.wallet.take();
            return Ok(Parts {
                port: port.ok_or(BuildError::Missing("a `wallet`"))?,
                wallet: None,
                own_edge,
                source: Arc::new(chain.clone()),
                broadcaster: Arc::new(chain.clone()),
                fees: Arc::new(chain),
                status,
                start,
            });
        };
        background.spawn(catch_up.run(wallet.clone(), client.clone(), stop.subscribe()));
        if let Some(interval) = self.mempool_interval {
            let watching = watch_mempool(wallet.clone(), client, interval, stop.subscribe());
            background.spawn(watching);
        }
        Ok(Parts {
            port: Arc::new(WalletPort(wallet.clone())),
            source: Arc::new(chain.clone()),
            broadcaster: Arc::new(WalletBroadcaster {
                inner: chain.clone(),
                wallet: wallet.clone(),
            }),
            wallet: Some(wallet),
            own_edge,
            fees: Arc::new(chain),
            status,
            start,
        })
    }
}

/// What depends on where the chain comes from.
struct Parts {
    port: Arc<dyn Wallet>,
    wallet: Option<OnchainWallet>,
    own_edge: Option<EdgeStore>,
    source: Arc<dyn ChainSource>,
    broadcaster: Arc<dyn Broadcaster>,
    fees: Arc<dyn FeeEstimator>,
    status: Option<watch::Receiver<fulmen_block_sync::Status>>,
    start: Option<BlockId>,
}

/// Makes the node, new at `start` or from its records.
fn restorer(
    config: NodeConfig,
    data_dir: Option<PathBuf>,
    identity: PublicKey,
    start: Option<BlockId>,
) -> Restore<Node> {
    let network = config.network;
    Box::new(move |from: Start| {
        let Start {
            records,
            boot,
            now,
            mode: _,
        } = from;
        let config = config.clone();
        let (mut node, effects) = if records.is_empty() {
            let tip = start.ok_or("the store is empty, and the chain's tip is not known")?;
            Node::create(config, identity, &boot, now, tip)
        } else {
            Node::restore(config, identity, &boot, now, &records)?
        };
        let saved = data_dir
            .as_deref()
            .and_then(|dir| graph_file::load(dir, network));
        if let Some((graph, messages)) = saved {
            node.set_gossip_cache(graph, messages);
        }
        Ok((node, effects))
    })
}

/// Coins of openings that a crash has undone are free again.
async fn free_fundings(
    handle: &NodeHandle<Node>,
    wallet: &OnchainWallet,
) -> Result<(), BuildError> {
    let channels = handle.query(Node::channels_info).await;
    let channels = channels.map_err(|stopped| BuildError::Chain(stopped.to_string()))?;
    let live = channels.iter().map(|channel| channel.keys_id);
    Ok(WalletPort(wallet.clone()).keep_only_fundings(live)?)
}

fn to_id(block: BlockRef) -> BlockId {
    BlockId {
        height: BlockHeight::new(block.height),
        hash: block.hash,
    }
}

/// The port of Bitcoin Core's RPC when nobody says otherwise.
pub const fn rpc_port(network: Network) -> u16 {
    match network {
        Network::Bitcoin => 8_332,
        Network::Testnet => 18_332,
        Network::Testnet4 => 48_332,
        Network::Signet => 38_332,
        Network::Regtest => 18_443,
    }
}

/// Where Bitcoin Core writes its cookie when nobody says otherwise.
pub fn default_cookie(network: Network) -> PathBuf {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let bitcoin = home.join(".bitcoin");
    match network {
        Network::Bitcoin => bitcoin.join(".cookie"),
        Network::Testnet => bitcoin.join("testnet3/.cookie"),
        Network::Testnet4 => bitcoin.join("testnet4/.cookie"),
        Network::Signet => bitcoin.join("signet/.cookie"),
        Network::Regtest => bitcoin.join("regtest/.cookie"),
    }
}
