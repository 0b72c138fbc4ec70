//! The daemon: everything put together, started and stopped.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::secp256k1::{PublicKey, Secp256k1};
use fs4::fs_std::FileExt;
use fulmen::{Builder, EDGE_STORE, NODE_STORE, RunningNode, network_name, write_private};
use fulmen_api::{ADDRESS_FILE, Client};
use fulmen_background_processor::NodeHandle;
use fulmen_block_sync::FollowConfig;
use fulmen_node::{Command, CommandId, Node, NumberedEvent};
use fulmen_persister::{EdgeStore, SqliteOptions, SqliteStore, SyncMode};
use fulmen_seed::{Birthday, Seed, SeedFile};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    DaemonError,
    commands::App,
    config::{Config, Secret},
    events::EventLog,
    http,
    node_access::NodeAccess,
    ports::EventQueue,
    token::Token,
};

const LOCK_FILE: &str = "fulmend.lock";
/// How long open requests may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
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

        let options = SqliteOptions {
            max_page_count: config.store_max_pages,
        };
        let store = SqliteStore::open_with(dir.join(NODE_STORE), &options)?;
        let sync_mode = store.sync_mode()?;
        let edge = EdgeStore::new(SqliteStore::open_with(dir.join(EDGE_STORE), &options)?)?;
        let log = EventLog::open(edge.clone())?;
        let token = Token::load_or_create(&dir).map_err(|error| at(&dir, error))?;
        let api_listener = bind("the API", "api", config.api).await?;
        let api_address = api_listener.local_addr().map_err(|error| at(&dir, error))?;

        let (events, events_out) = mpsc::unbounded_channel();
        let node = builder(&config, &seed, seed_birthday)?
            .store(store)
            .edge_store(edge.clone())
            .events(Arc::new(EventQueue(events)))
            .start()
            .await?;
        let node_id = node.node_id();
        let listen = node.listening().unwrap_or(config.listen);
        let parts = (
            node.wallet().cloned(),
            node.chain_status(),
            node.connections().cloned(),
            node.router().cloned(),
        );
        let (Some(wallet), Some(chain), Some(net), Some(router)) = parts else {
            return Err(DaemonError::System(
                "the node has no wallet, connections and router of its own".into(),
            ));
        };
        let handle = node.handle().clone();
        let (stopping, _) = watch::channel(false);

        let alias = config.node.alias.to_string();
        let app = Arc::new(App {
            node: NodeAccess::new(handle.clone()),
            wallet,
            net,
            broadcaster: node.broadcaster(),
            router,
            events: log.clone(),
            token,
            network,
            alias,
            listen: listen.to_string(),
            chain,
            feerates: node.feerates(),
            started,
            stopping: stopping.clone(),
            secp: Secp256k1::verification_only(),
        });
        let serving = tokio::spawn(serve(api_listener, Arc::clone(&app)));
        let keeping = tokio::spawn(keep_events(events_out, log, handle));
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
            node,
            serving,
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
    node: RunningNode,
    serving: JoinHandle<()>,
    keeping: JoinHandle<()>,
    edge: EdgeStore,
    stopping: watch::Sender<bool>,
    address_file: std::path::PathBuf,
    _lock: File,
}

/// Waits for the end and cleans up.
async fn supervise(running: Running) -> Result<(), DaemonError> {
    let Running {
        mut node,
        serving,
        keeping,
        edge,
        stopping,
        address_file,
        _lock,
    } = running;
    let mut asked = stopping.subscribe();
    tokio::select! {
        () = node.ended() => {}
        _ = asked.wait_for(|stop| *stop) => {}
    }
    stopping.send_replace(true);
    let result = node.stop().await;
    if tokio::time::timeout(LAST_ANSWERS, serving).await.is_err() {
        tracing::debug!("some requests were still open");
    }
    // With the driver its last events are out.
    let _ = tokio::time::timeout(LAST_ANSWERS, keeping).await;
    edge.close();
    // A stale one would only lead clients astray.
    let _ = fs::remove_file(address_file);
    tracing::info!("the daemon has stopped");
    Ok(result?)
}

/// The node as the configuration wants it.
fn builder(config: &Config, seed: &Seed, seed_birthday: Birthday) -> Result<Builder, DaemonError> {
    let network = config.network();
    let follow = FollowConfig {
        poll_interval: Duration::from_millis(config.chain_poll_millis.max(10)),
        ..FollowConfig::default()
    };
    let mempool_interval = (config.mempool_poll_millis > 0)
        .then(|| Duration::from_millis(config.mempool_poll_millis.max(100)));
    let node_config = config.node.clone();
    let limits = config.connect.clone();
    let builder = Builder::new(network)
        .configure(|node| *node = node_config)
        .connect_config(|connect| *connect = limits)
        .data_dir(&config.data_dir)
        .keys(seed.node_seed(), seed.wallet_master(network)?)
        .bitcoind(config.bitcoind.clone(), config.bitcoind_auth.clone())
        .follow(follow)
        .fee_fallback(config.fee_fallback)
        .mempool_interval(mempool_interval)
        .listen(config.listen)
        .graph_interval(Duration::from_secs(config.graph_save_secs.max(1)));
    let builder = match &config.rapid_gossip_sync {
        Some(source) => builder.rapid_gossip_sync(source.clone()),
        None => builder,
    };
    let builder = match &config.dns_seeds {
        Some(seeds) => builder.dns_seeds(seeds.clone()),
        None => builder,
    };
    Ok(match (config.wallet_birthday_height, seed_birthday) {
        (Some(height), _) | (None, Birthday::Height(height)) => builder.wallet_birthday(height),
        (None, Birthday::Now) => builder,
    })
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
            address: address.to_string(),
            error,
        })
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
