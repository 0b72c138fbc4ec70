//! The daemon: everything put together, started and stopped.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::{
    Network,
    secp256k1::{PublicKey, Secp256k1},
};
use fs4::fs_std::FileExt;
use fulmen_api::{ADDRESS_FILE, Client};
use fulmen_background_processor::{
    Broadcaster, DriverConfig, LocalRouter, NodeHandle, Ports, Restore, Start, SystemClock,
    bitcoind::BitcoindChain, tcp::connect_over_tcp,
};
use fulmen_block_sync::{Bitcoind, BitcoindConfig, BlockRef, ChainInfo, FollowConfig};
use fulmen_net_tokio::NetConfig;
use fulmen_node::{BlockId, Command, CommandId, Node, NumberedEvent};
use fulmen_persister::{SqliteOptions, SqliteStore, Store, SyncMode};
use fulmen_seed::{Birthday, Seed, SeedFile};
use fulmen_signer::{KeysManager, Signer};
use fulmen_types::{BlockHeight, Printable};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    DaemonError,
    commands::App,
    config::{Config, Secret, network_name},
    edge::EdgeStore,
    events::EventLog,
    graph_file, http,
    node_access::NodeAccess,
    ports::{EventQueue, HeardBroadcaster, HeardFees, WalletPort, WalletTap, funding_purpose},
    token::{Token, write_private},
    wallet::{CatchUp, OnchainWallet},
};

/// More blocks than any reorganisation of the last decade has thrown out.
const BLOCKS_BEFORE_BIRTH: u32 = 12;
const LOCK_FILE: &str = "fulmend.lock";
const STORE_FILE: &str = "node.sqlite";
const EDGE_FILE: &str = "edge.sqlite";
/// How long Bitcoin Core may take to answer at start before it counts as down.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long open requests may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// How often the wallet's own unconfirmed transactions are given to the network again.
const REBROADCAST: Duration = Duration::from_secs(60);
/// So many events are made durable together at most.
const EVENTS_AT_ONCE: usize = 1_000;

/// A running daemon. Dropping it does not stop it; [`Daemon::stop`] does.
pub struct Daemon {
    node_id: PublicKey,
    api: SocketAddr,
    listen: SocketAddr,
    client: Client,
    sync_mode: SyncMode,
    stopping: watch::Sender<bool>,
    task: JoinHandle<Result<(), DaemonError>>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon")
            .field("node_id", &self.node_id)
            .field("api", &self.api)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Daemon {
    /// Starts a daemon: when this returns, peers can connect and the API answers. To be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Whatever keeps it from starting; nothing has been changed that another start would not want.
    pub async fn start(config: Config) -> Result<Self, DaemonError> {
        let started = Instant::now();
        let dir = config.data_dir.clone();
        let lock = lock(&dir)?;
        // Left behind by a kill, it would lead clients astray.
        let _ = fs::remove_file(dir.join(ADDRESS_FILE));
        let seed_file = SeedFile::open(&dir)?;
        let seed_birthday = seed_file.birthday();
        let seed = unlock(seed_file, config.passphrase.clone()).await?;
        let network = config.network();
        let signer: Arc<dyn Signer> = Arc::new(KeysManager::new(seed.node_seed(), network));
        let node_id = signer.node_id();

        let options = SqliteOptions {
            max_page_count: config.store_max_pages,
        };
        let mut store = SqliteStore::open_with(dir.join(STORE_FILE), &options)?;
        let sync_mode = store.sync_mode()?;
        let edge = EdgeStore::open(&dir.join(EDGE_FILE), config.store_max_pages)?;
        let wallet = OnchainWallet::open(edge.clone(), &seed.wallet_master(network)?, network)?;
        let log = EventLog::open(edge.clone())?;
        let token = Token::load_or_create(&dir).map_err(|error| at(&dir, error))?;
        let api_listener = bind("the API", "api", config.api).await?;
        let api_address = api_listener.local_addr().map_err(|error| at(&dir, error))?;

        let client = Bitcoind::new(BitcoindConfig::new(
            config.bitcoind.clone(),
            config.bitcoind_auth.clone(),
        ));
        let is_new = store.position()?.batch_seq == 0;
        let tip = first_tip(&client, network, is_new || wallet.is_new()).await?;
        if let (true, Some(tip)) = (wallet.is_new(), tip) {
            let start = birthday(&client, &config, seed_birthday, tip).await?;
            wallet.start_at(start)?;
        }

        let (stopping, _) = watch::channel(false);
        let catch_up = CatchUp::default();
        catch_up.ask();
        let tap = WalletTap {
            wallet: wallet.clone(),
            catch_up: catch_up.clone(),
        };
        let follow = FollowConfig {
            poll_interval: Duration::from_millis(config.chain_poll_millis.max(10)),
            ..FollowConfig::default()
        };
        let chain = BitcoindChain::new(
            client.clone(),
            follow,
            config.fee_fallback,
            Some(Arc::new(tap)),
        );
        let broadcaster: Arc<dyn Broadcaster> = Arc::new(HeardBroadcaster {
            inner: chain.clone(),
            wallet: wallet.clone(),
        });
        let (fees, feerates) = watch::channel(None);
        let (connector, peers) = connect_over_tcp(NetConfig::default(), Arc::clone(&signer));
        let listen = connector
            .net()
            .listen(&config.listen.to_string())
            .await
            .map_err(|error| DaemonError::Listen {
                what: "peers",
                option: "listen",
                address: config.listen,
                error,
            })?;
        let (events, events_out) = mpsc::unbounded_channel();
        let ports = Ports {
            signer,
            wallet: Arc::new(WalletPort(wallet.clone())),
            chain: Arc::new(chain.clone()),
            broadcaster: Arc::clone(&broadcaster),
            fees: Arc::new(HeardFees {
                inner: chain.clone(),
                last: fees,
            }),
            connector: Arc::new(connector),
            peers: Box::new(peers),
            router: Arc::new(LocalRouter),
            events: Arc::new(EventQueue(events)),
            clock: Arc::new(SystemClock),
        };
        let node_start = match tip {
            Some(tip) if is_new => Some(node_start(&client, tip).await?),
            tip => tip,
        };
        let restore = restorer(&config, node_id, node_start);
        let (handle, driver) = fulmen_background_processor::start(
            DriverConfig::default(),
            Box::new(store),
            restore,
            ports,
        )?;
        let node = NodeAccess::new(handle.clone());
        free_fundings(&node, &wallet).await?;

        let alias = Printable(trim_zeros(config.node.alias.as_bytes())).to_string();
        let app = Arc::new(App {
            node: node.clone(),
            wallet: wallet.clone(),
            broadcaster: Arc::clone(&broadcaster),
            events: log.clone(),
            token,
            network,
            alias,
            listen: listen.to_string(),
            chain: chain.status(),
            feerates,
            started,
            stopping: stopping.clone(),
            secp: Secp256k1::verification_only(),
        });
        let serving = tokio::spawn(serve(api_listener, Arc::clone(&app)));
        tokio::spawn(catch_up.run(wallet.clone(), client, stopping.subscribe()));
        let keeping = tokio::spawn(keep_events(events_out, log, handle.clone()));
        tokio::spawn(rebroadcast(wallet, broadcaster, stopping.subscribe()));
        let saving = tokio::spawn(save_graph(node, config.clone(), stopping.subscribe()));
        write_private(&dir.join(ADDRESS_FILE), api_address.to_string().as_bytes())
            .map_err(|error| at(&dir, error))?;
        let client = Client::from_data_dir(&dir).map_err(|e| DaemonError::System(e.to_string()))?;
        tracing::info!(
            %node_id,
            network = network_name(network),
            %listen,
            api = %api_address,
            data_dir = %dir.display(),
            millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the daemon runs"
        );
        let task = tokio::spawn(supervise(Running {
            handle,
            driver,
            serving,
            saving,
            keeping,
            edge,
            stopping: stopping.clone(),
            address_file: dir.join(ADDRESS_FILE),
            _lock: lock,
        }));
        Ok(Self {
            node_id,
            api: api_address,
            listen,
            client,
            sync_mode,
            stopping,
            task,
        })
    }

    /// The node's key.
    pub const fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// Where the API listens.
    pub const fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// Where peers connect.
    pub const fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// How durable the node's store is, as its own connection said it at start.
    pub const fn sync_mode(&self) -> &SyncMode {
        &self.sync_mode
    }

    /// A client with the token.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Something that stops the daemon from elsewhere: send `true`.
    pub fn stopper(&self) -> watch::Sender<bool> {
        self.stopping.clone()
    }

    /// Waits until the daemon has stopped.
    ///
    /// # Errors
    /// Why it stopped, if nobody asked it to.
    pub async fn wait(self) -> Result<(), DaemonError> {
        self.task
            .await
            .map_err(|e| DaemonError::System(e.to_string()))?
    }

    /// Stops the daemon: what is under way becomes durable, connections end, the data directory is free.
    ///
    /// # Errors
    /// Why it had stopped before, if nobody asked it to.
    pub async fn stop(self) -> Result<(), DaemonError> {
        self.stopping.send_replace(true);
        self.wait().await
    }
}

/// What a running daemon holds.
struct Running {
    handle: NodeHandle<Node>,
    driver: JoinHandle<Result<(), fulmen_background_processor::DriverError>>,
    serving: JoinHandle<()>,
    saving: JoinHandle<()>,
    keeping: JoinHandle<()>,
    edge: EdgeStore,
    stopping: watch::Sender<bool>,
    address_file: std::path::PathBuf,
    _lock: File,
}

/// Waits for the end and cleans up.
async fn supervise(running: Running) -> Result<(), DaemonError> {
    let Running {
        handle,
        mut driver,
        serving,
        saving,
        keeping,
        edge,
        stopping,
        address_file,
        _lock,
    } = running;
    let mut asked = stopping.subscribe();
    let ended = tokio::select! {
        ended = &mut driver => Some(ended),
        _ = asked.wait_for(|stop| *stop) => None,
    };
    // The graph is saved while the node still answers.
    stopping.send_replace(true);
    let _ = tokio::time::timeout(LAST_ANSWERS, saving).await;
    let result = match ended {
        Some(ended) => ended,
        None => {
            handle.shutdown().await;
            driver.await
        }
    };
    if tokio::time::timeout(LAST_ANSWERS, serving).await.is_err() {
        tracing::debug!("some requests were still open");
    }
    // With the driver its last events are out.
    let _ = tokio::time::timeout(LAST_ANSWERS, keeping).await;
    edge.close();
    // A stale one would only lead clients astray.
    let _ = fs::remove_file(address_file);
    tracing::info!("the daemon has stopped");
    match result {
        Ok(result) => Ok(result?),
        Err(e) => Err(DaemonError::System(format!(
            "the node has ended unexpectedly: {e}"
        ))),
    }
}

fn at(path: &Path, error: io::Error) -> DaemonError {
    DaemonError::Io {
        path: path.to_path_buf(),
        error,
    }
}

/// The store is nobody else's business: it holds preimages and peers.
#[cfg(unix)]
fn make_private(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = fs::metadata(dir) else {
        return;
    };
    if metadata.permissions().mode() & 0o077 == 0 {
        return;
    }
    match fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) {
        Ok(()) => {
            tracing::info!(dir = %dir.display(), "others could read the data directory; not any more")
        }
        Err(error) => {
            tracing::warn!(%error, dir = %dir.display(), "others can read the data directory")
        }
    }
}

#[cfg(not(unix))]
fn make_private(_dir: &Path) {}

fn lock(dir: &Path) -> Result<File, DaemonError> {
    if !dir.is_dir() {
        return Err(DaemonError::Seed(fulmen_seed::SeedError::Missing(
            dir.join(fulmen_seed::SEED_FILE),
        )));
    }
    make_private(dir);
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| at(&path, error))?;
    match FileExt::try_lock_exclusive(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(DaemonError::Locked(dir.to_path_buf())),
        Err(error) => Err(at(&path, error)),
    }
}

/// Hashing a passphrase takes a while on purpose: off the runtime's threads.
async fn unlock(file: SeedFile, passphrase: Option<Secret>) -> Result<Seed, DaemonError> {
    let work = move || file.unlock(passphrase.as_ref().map(Secret::expose));
    let unlocked = tokio::task::spawn_blocking(work).await;
    Ok(unlocked.map_err(|e| DaemonError::System(e.to_string()))??)
}

async fn bind(
    what: &'static str,
    option: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| DaemonError::Listen {
            what,
            option,
            address,
            error,
        })
}

/// The chain's tip. Without an answer of Bitcoin Core only a node that has one already can go on.
async fn first_tip(
    client: &Bitcoind,
    network: Network,
    is_needed: bool,
) -> Result<Option<BlockRef>, DaemonError> {
    let answer = tokio::time::timeout(FIRST_ANSWER, client.chain_info()).await;
    let problem = match answer {
        Ok(Ok(ChainInfo {
            network: theirs,
            best,
            ..
        })) if theirs == network => {
            return Ok(Some(best));
        }
        Ok(Ok(ChainInfo {
            network: theirs, ..
        })) => {
            return Err(DaemonError::Chain(format!(
                "Bitcoin Core is on {}, and this node on {}; set `bitcoind` to one on {1}, or `network` to {0}",
                network_name(theirs),
                network_name(network)
            )));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "Bitcoin Core did not answer in time".to_owned(),
    };
    if is_needed {
        return Err(DaemonError::Chain(format!(
            "the first start needs Bitcoin Core: {problem} (see `bitcoind` and `bitcoind_cookie` in the configuration)"
        )));
    }
    tracing::warn!(
        problem,
        "the chain source does not answer; going on from the last known block"
    );
    Ok(None)
}

/// The block after which the wallet looks for coins.
async fn birthday(
    client: &Bitcoind,
    config: &Config,
    of_seed: Birthday,
    tip: BlockRef,
) -> Result<BlockRef, DaemonError> {
    let height = match (config.wallet_birthday_height, of_seed) {
        (Some(height), _) | (None, Birthday::Height(height)) => height,
        (None, Birthday::Now) => return Ok(tip),
    };
    block_at(client, height.saturating_sub(1).min(tip.height)).await
}

/// Where a new node begins: some blocks below the tip, so that it knows the way back when a reorganisation
/// comes right after its birth.
async fn node_start(client: &Bitcoind, tip: BlockRef) -> Result<BlockRef, DaemonError> {
    block_at(client, tip.height.saturating_sub(BLOCKS_BEFORE_BIRTH)).await
}

async fn block_at(client: &Bitcoind, height: u32) -> Result<BlockRef, DaemonError> {
    let hash = client
        .block_hash(height)
        .await
        .map_err(|e| DaemonError::Chain(e.to_string()))?;
    let hash = hash.ok_or_else(|| {
        DaemonError::Chain(format!(
            "Bitcoin Core has no block at height {height} any more"
        ))
    })?;
    Ok(BlockRef { hash, height })
}

/// Makes the node, new at `tip` or from its records.
fn restorer(config: &Config, identity: PublicKey, tip: Option<BlockRef>) -> Restore<Node> {
    let node_config = config.node.clone();
    let data_dir = config.data_dir.clone();
    let network = config.network();
    Box::new(move |start: Start| {
        let Start {
            records,
            boot,
            now,
            mode: _,
        } = start;
        let config = node_config.clone();
        let (mut node, effects) = if records.is_empty() {
            let tip = tip.ok_or("the store is empty, and the chain's tip is not known")?;
            let tip = BlockId {
                height: BlockHeight::new(tip.height),
                hash: tip.hash,
            };
            Node::create(config, identity, &boot, now, tip)
        } else {
            Node::restore(config, identity, &boot, now, &records)?
        };
        if let Some((graph, messages)) = graph_file::load(&data_dir, network) {
            node.set_gossip_cache(graph, messages);
        }
        Ok((node, effects))
    })
}

/// Coins of openings that a crash has undone are free again.
async fn free_fundings(node: &NodeAccess, wallet: &OnchainWallet) -> Result<(), DaemonError> {
    let channels = node
        .query(|node| node.channels_info())
        .await
        .map_err(|e| DaemonError::System(e.0.message))?;
    let live = channels
        .iter()
        .map(|channel| funding_purpose(channel.keys_id.as_bytes()))
        .collect();
    Ok(wallet.keep_only_fundings(&live)?)
}

async fn serve(listener: TcpListener, app: Arc<App>) {
    let mut stopping = app.stopping.subscribe();
    let router = http::router(app);
    let until = async move {
        // The sender lives as long as the daemon.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(until)
        .await
    {
        tracing::error!(%error, "the API has ended");
    }
}

/// Makes events durable in the log, then lets the node forget them.
async fn keep_events(
    mut events: mpsc::UnboundedReceiver<NumberedEvent>,
    log: EventLog,
    handle: NodeHandle<Node>,
) {
    let mut pending = Vec::new();
    loop {
        let room = EVENTS_AT_ONCE.saturating_sub(pending.len());
        if room > 0 && events.recv_many(&mut pending, room).await == 0 {
            return;
        }
        let Some(up_to) = pending.last().map(|event| event.number) else {
            continue;
        };
        let batch = pending.clone();
        let log = log.clone();
        match tokio::task::spawn_blocking(move || log.append(&batch)).await {
            Ok(Ok(())) => pending.clear(),
            Ok(Err(error)) => {
                // They stay with the node too: nothing is lost.
                tracing::error!(%error, "events can't be stored; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "events can't be stored");
                return;
            }
        }
        let mut id = [0u8; 16];
        if getrandom::fill(&mut id).is_err() {
            continue;
        }
        let acknowledge = Command::AcknowledgeEvents { up_to };
        if let Err(error) = handle.command(CommandId(id), acknowledge).await {
            tracing::debug!(%error, "events could not be acknowledged; they come again");
        }
    }
}

/// Gives the wallet's own transactions to the network until they are in a block.
async fn rebroadcast(
    wallet: OnchainWallet,
    broadcaster: Arc<dyn Broadcaster>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let of_wallet = wallet.clone();
        let waiting = tokio::task::spawn_blocking(move || of_wallet.unconfirmed()).await;
        for transaction in waiting.unwrap_or_default() {
            let txid = transaction.compute_txid();
            let answer = broadcaster.broadcast(vec![transaction]).await;
            tracing::debug!(%txid, ?answer, "a transaction of the wallet was sent again");
        }
        tokio::select! {
            () = tokio::time::sleep(REBROADCAST) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Saves the graph now and then, and at the end.
async fn save_graph(node: NodeAccess, config: Config, mut stop: watch::Receiver<bool>) {
    let interval = Duration::from_secs(config.graph_save_secs.max(1));
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let taken = node
            .query(|node| (node.graph(), node.gossip().messages().to_bytes()))
            .await;
        if let Ok((graph, messages)) = taken {
            let dir = config.data_dir.clone();
            let saved =
                tokio::task::spawn_blocking(move || graph_file::save(&dir, &graph, &messages))
                    .await;
            match saved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the graph could not be saved"),
                Err(error) => tracing::warn!(%error, "the graph could not be saved"),
            }
        }
        if is_last {
            return;
        }
    }
}

fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    bytes.split_at(end).0
}
