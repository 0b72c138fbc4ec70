//! A server that speaks the part of Bitcoin Core's JSON-RPC and REST that a Lightning daemon uses.
//!
//! The server owns a [`Chain`] behind a lock. It runs on a thread of its own, so that it can be
//! started from any test, asynchronous or not; dropping the handle stops it.

mod http;
mod json;
mod rest;
mod rpc;
mod rpc_chain;
mod rpc_dev;
mod rpc_mempool;
mod rpc_mining;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use tokio::sync::watch;

use crate::chain::{Chain, Config};
use crate::policy::Policy;

/// How a server starts.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to write the cookie; none for a temporary folder that goes with the server.
    pub cookie_path: Option<PathBuf>,
    /// A user and password that are accepted besides the cookie.
    pub user_password: Option<(String, String)>,
    /// Blocks mined to the faucet at the start.
    pub initial_blocks: u32,
    /// The relay policy.
    pub policy: Policy,
    /// What `estimatesmartfee` answers, in satoshi per 1000 virtual bytes; none for the answer
    /// of a node that has seen too few blocks, as a fresh bitcoind on regtest is.
    pub feerate: Option<u64>,
    /// Whether `getrawtransaction` finds confirmed transactions without being told the block.
    pub txindex: bool,
    /// The clock of the chain: none for the computer's, or a fixed time until `setmocktime`.
    pub mock_time: Option<u32>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            cookie_path: None,
            user_password: None,
            initial_blocks: 110,
            policy: Policy::default(),
            feerate: Some(1_000),
            txindex: false,
            mock_time: None,
        }
    }
}

/// The name that goes with the cookie's password.
pub(crate) const COOKIE_USER: &str = "__cookie__";

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct DevchainServer {
    shared: Arc<Shared>,
    addr: SocketAddr,
    cookie_path: PathBuf,
    cookie_password: String,
    thread: Option<JoinHandle<()>>,
    // Removed with the server.
    _cookie_folder: Option<tempfile::TempDir>,
}

impl DevchainServer {
    /// Starts a server and returns once it listens.
    ///
    /// ```
    /// use fulmen_devchain::server::{DevchainServer, ServerConfig};
    ///
    /// let server = DevchainServer::start(ServerConfig::default())?;
    /// assert_eq!(server.with_chain(|chain| chain.height()), 110);
    /// println!("RPC at {}, cookie at {}", server.url(), server.cookie_path().display());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start(config: ServerConfig) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let cookie_password = json::hex(&random);
        let mut folder = None;
        let cookie_path = match &config.cookie_path {
            Some(path) => path.clone(),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("fulmen-devchain-")
                    .tempdir()?;
                let path = temporary.path().join(".cookie");
                folder = Some(temporary);
                path
            }
        };
        let mut accepted = vec![format!("{COOKIE_USER}:{cookie_password}")];
        if let Some((user, password)) = &config.user_password {
            accepted.push(format!("{user}:{password}"));
        }
        let shared = Arc::new(Shared::new(&config, accepted));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("devchain")
            .enable_all()
            .build()?;
        write_cookie(&cookie_path, &cookie_password)?;
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("devchain".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(http::serve(listener, served)) {
                    tracing::error!(%error, "the devchain server stopped");
                }
                // Long polls of clients that are still there must not hold the stop up.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            shared,
            addr,
            cookie_path,
            cookie_password,
            thread: Some(thread),
            _cookie_folder: folder,
        })
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address for JSON-RPC and REST, `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The cookie file, `__cookie__:password`.
    pub fn cookie_path(&self) -> &Path {
        &self.cookie_path
    }

    /// The user and password of the cookie.
    pub fn auth(&self) -> (String, String) {
        (COOKIE_USER.to_owned(), self.cookie_password.clone())
    }

    /// Works on the chain directly. RPC calls wait meanwhile; those that wait for a block wake
    /// up afterwards if there is one.
    pub fn with_chain<R>(&self, work: impl FnOnce(&mut Chain) -> R) -> R {
        self.shared.with_chain(work)
    }

    /// Sets what `estimatesmartfee` answers for every target, in satoshi per 1000 virtual bytes.
    pub fn set_feerate(&self, sat_per_kvb: Option<u64>) {
        self.shared.set_feerate(None, sat_per_kvb);
    }

    /// Fixes the clock, as `setmocktime` does; none gives it back to the computer's.
    pub fn set_mock_time(&self, time: Option<u32>) {
        self.shared.set_mock_time(time);
    }

    /// Whether it still runs: `stop` by RPC ends it too.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Stops it and waits until it has.
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// Waits until somebody stops it by RPC.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn shut_down(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for DevchainServer {
    fn drop(&mut self) {
        self.shut_down();
        let _ = std::fs::remove_file(&self.cookie_path);
    }
}

fn write_cookie(path: &Path, password: &str) -> io::Result<()> {
    use io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    options
        .open(path)?
        .write_all(format!("{COOKIE_USER}:{password}").as_bytes())
}

/// What the handlers of all connections share.
#[derive(Debug)]
struct Shared {
    chain: Mutex<Chain>,
    tip: watch::Sender<(u32, BlockHash)>,
    stop: watch::Sender<bool>,
    fees: Mutex<Fees>,
    mock_time: Mutex<Option<u32>>,
    accepted: Vec<String>,
    txindex: bool,
    started: u32,
}

#[derive(Debug)]
struct Fees {
    default: Option<u64>,
    by_target: BTreeMap<u32, u64>,
}

/// Blocks at the start lie so many seconds apart, the last one now.
const INITIAL_INTERVAL: u32 = 600;

impl Shared {
    fn new(config: &ServerConfig, accepted: Vec<String>) -> Self {
        let now = config.mock_time.unwrap_or_else(computer_time);
        let mut chain = Chain::new(Config {
            start_time: now.saturating_sub(config.initial_blocks * INITIAL_INTERVAL),
            block_interval: INITIAL_INTERVAL,
            initial_blocks: config.initial_blocks,
            policy: config.policy.clone(),
        });
        chain.set_block_interval(0);
        let tip = (chain.height(), chain.tip());
        Self {
            chain: Mutex::new(chain),
            tip: watch::Sender::new(tip),
            stop: watch::Sender::new(false),
            fees: Mutex::new(Fees {
                default: config.feerate,
                by_target: BTreeMap::new(),
            }),
            mock_time: Mutex::new(config.mock_time),
            accepted,
            txindex: config.txindex,
            started: computer_time(),
        }
    }

    fn with_chain<R>(&self, work: impl FnOnce(&mut Chain) -> R) -> R {
        let mut chain = lock(&self.chain);
        chain.set_time(lock(&self.mock_time).unwrap_or_else(computer_time));
        let result = work(&mut chain);
        let tip = (chain.height(), chain.tip());
        drop(chain);
        self.tip.send_if_modified(|current| {
            let changed = *current != tip;
            *current = tip;
            changed
        });
        result
    }

    fn set_feerate(&self, target: Option<u32>, sat_per_kvb: Option<u64>) {
        let mut fees = lock(&self.fees);
        match (target, sat_per_kvb) {
            (None, feerate) => {
                fees.default = feerate;
                fees.by_target.clear();
            }
            (Some(target), Some(feerate)) => {
                fees.by_target.insert(target, feerate);
            }
            (Some(target), None) => {
                fees.by_target.remove(&target);
            }
        }
    }

    /// The feerate for a target: that of the nearest longer or equal one that was set.
    fn feerate(&self, target: u32) -> Option<u64> {
        let fees = lock(&self.fees);
        fees.by_target
            .range(..=target)
            .next_back()
            .map(|(_, feerate)| *feerate)
            .or(fees.default)
    }

    fn set_mock_time(&self, time: Option<u32>) {
        *lock(&self.mock_time) = time;
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// A panic in another thread's closure leaves the chain as it was at that moment; tests go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn computer_time() -> u32 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
