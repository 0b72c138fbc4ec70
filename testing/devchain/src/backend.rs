//! One handle for tests that run on the embedded chain or on a real bitcoind.

use core::fmt;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::{Value, json};

use crate::client::{ClientError, RpcClient};
use crate::consensus::COINBASE_MATURITY;
use crate::faucet::{Faucet, FaucetError};
use crate::server::{DevchainServer, ServerConfig};

/// The environment variable with the path of a bitcoind to run the tests on.
pub const BITCOIND_EXE: &str = "BITCOIND_EXE";

/// How long a bitcoind may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a backend failed.
#[derive(Debug)]
pub enum BackendError {
    /// The program could not be started, or its files not be written or read.
    Start(String),
    /// A call failed.
    Client(ClientError),
    /// The faucet could not pay.
    Faucet(FaucetError),
    /// The answer to a call was not understood.
    Answer(String),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(what) => write!(f, "the chain backend did not start: {what}"),
            Self::Client(error) => write!(f, "{error}"),
            Self::Faucet(error) => write!(f, "{error}"),
            Self::Answer(what) => write!(f, "an answer that was not understood: {what}"),
        }
    }
}

impl std::error::Error for BackendError {}

impl From<ClientError> for BackendError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        Self::Start(error.to_string())
    }
}

/// A bitcoind on regtest with a data directory of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Bitcoind {
    child: Child,
    addr: SocketAddr,
    cookie_path: PathBuf,
    client: RpcClient,
    auth: (String, String),
    // Removed with the process.
    _folder: tempfile::TempDir,
}

impl Bitcoind {
    /// Starts the program and waits until it answers. It stands at the genesis block.
    pub fn start(program: &Path) -> Result<Self, BackendError> {
        let folder = tempfile::Builder::new()
            .prefix("fulmen-bitcoind-")
            .tempdir()?;
        let addr = free_address()?;
        let mut child = Command::new(program)
            .arg("-regtest")
            .arg(concat_os("-datadir=", folder.path()))
            .arg(format!("-rpcport={}", addr.port()))
            .args([
                "-rpcbind=127.0.0.1",
                "-rpcallowip=127.0.0.1",
                "-server=1",
                "-rest=1",
            ])
            .args(["-listen=0", "-dnsseed=0", "-fixedseeds=0", "-connect=0"])
            .args(["-acceptnonstdtxn=0", "-txindex=0", "-fallbackfee=0.0001"])
            .args(["-printtoconsole=0", "-dbcache=32"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| BackendError::Start(format!("{}: {error}", program.display())))?;
        let cookie_path = folder.path().join("regtest").join(".cookie");
        match wait_until_ready(&mut child, addr, &cookie_path) {
            Ok((client, auth)) => Ok(Self {
                child,
                addr,
                cookie_path,
                client,
                auth,
                _folder: folder,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// A client for it.
    pub fn client(&self) -> &RpcClient {
        &self.client
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        let asked = self.client.call("stop", json!([])).is_ok();
        let begun = Instant::now();
        while asked && begun.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn concat_os(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

/// An address that nobody listens on right now.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn wait_until_ready(
    child: &mut Child,
    addr: SocketAddr,
    cookie_path: &Path,
) -> Result<(RpcClient, (String, String)), BackendError> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(BackendError::Start(format!(
                "it ended at once with {status}"
            )));
        }
        if let Ok(cookie) = std::fs::read_to_string(cookie_path)
            && let Some((user, password)) = cookie.trim().split_once(':')
        {
            let client = RpcClient::new(addr, user, password);
            // It warms up for a while, and refuses calls meanwhile.
            if client.call("getblockchaininfo", json!([])).is_ok() {
                return Ok((client, (user.to_owned(), password.to_owned())));
            }
        }
        if begun.elapsed() > PATIENCE {
            return Err(BackendError::Start("it does not answer".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The chain that end-to-end tests run on.
///
/// ```
/// use bitcoin::{Amount, ScriptBuf, WScriptHash, hashes::Hash};
/// use fulmen_devchain::Backend;
///
/// let backend = Backend::start()?;
/// let script = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
/// let coin = backend.fund(&script, Amount::from_sat(100_000))?;
/// assert_eq!(backend.confirmations(&coin.txid)?, 1);
/// # Ok::<(), fulmen_devchain::BackendError>(())
/// ```
#[derive(Debug)]
pub enum Backend {
    /// The embedded chain behind its server.
    Embedded {
        /// The server.
        server: DevchainServer,
        /// A client for it.
        client: RpcClient,
    },
    /// A real bitcoind.
    Bitcoind(Bitcoind),
}

impl Backend {
    /// Starts a real bitcoind if `BITCOIND_EXE` names one, else the embedded chain, and prints
    /// which. Either way 110 blocks are mined to the faucet.
    pub fn start() -> Result<Self, BackendError> {
        let backend = match std::env::var_os(BITCOIND_EXE) {
            Some(program) if !program.is_empty() => {
                println!(
                    "chain backend: bitcoind at {}",
                    Path::new(&program).display()
                );
                Self::Bitcoind(Bitcoind::start(Path::new(&program))?)
            }
            _ => {
                println!("chain backend: embedded ({BITCOIND_EXE} is not set)");
                Self::embedded(ServerConfig {
                    initial_blocks: 0,
                    ..ServerConfig::default()
                })?
            }
        };
        backend.generate(110)?;
        Ok(backend)
    }

    /// The embedded chain, whatever the environment says.
    pub fn embedded(config: ServerConfig) -> Result<Self, BackendError> {
        let server = DevchainServer::start(config)?;
        let (user, password) = server.auth();
        let client = RpcClient::new(server.addr(), &user, &password);
        Ok(Self::Embedded { server, client })
    }

    /// Whether a real bitcoind runs.
    pub fn is_bitcoind(&self) -> bool {
        matches!(self, Self::Bitcoind(_))
    }

    /// A client for it.
    pub fn client(&self) -> &RpcClient {
        match self {
            Self::Embedded { client, .. } => client,
            Self::Bitcoind(bitcoind) => &bitcoind.client,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Embedded { server, .. } => server.addr(),
            Self::Bitcoind(bitcoind) => bitcoind.addr,
        }
    }

    /// The address for JSON-RPC and REST, `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The cookie file.
    pub fn cookie_path(&self) -> &Path {
        match self {
            Self::Embedded { server, .. } => server.cookie_path(),
            Self::Bitcoind(bitcoind) => &bitcoind.cookie_path,
        }
    }

    /// The user and password of the cookie.
    pub fn auth(&self) -> (String, String) {
        match self {
            Self::Embedded { server, .. } => server.auth(),
            Self::Bitcoind(bitcoind) => bitcoind.auth.clone(),
        }
    }

    /// Mines blocks to the faucet with what is in the mempool.
    pub fn generate(&self, count: u32) -> Result<Vec<BlockHash>, BackendError> {
        let address = Faucet::default().address().to_string();
        let hashes = self
            .client()
            .call("generatetoaddress", json!([count, address]))?;
        let hashes = hashes.as_array().map(Vec::as_slice).unwrap_or_default();
        hashes.iter().map(parse).collect()
    }

    /// The height of the tip.
    pub fn height(&self) -> Result<u32, BackendError> {
        number(&self.client().call("getblockcount", json!([]))?)
    }

    /// The hash of the tip.
    pub fn tip(&self) -> Result<BlockHash, BackendError> {
        parse(&self.client().call("getbestblockhash", json!([]))?)
    }

    /// Sends a transaction.
    pub fn send(&self, tx: &Transaction) -> Result<Txid, BackendError> {
        parse(
            &self
                .client()
                .call("sendrawtransaction", json!([serialize_hex(tx), 0]))?,
        )
    }

    /// Pays from the faucet and mines one block; returns the output.
    pub fn fund(&self, script: &ScriptBuf, amount: Amount) -> Result<OutPoint, BackendError> {
        let outpoint = self.fund_unconfirmed(script, amount)?;
        self.generate(1)?;
        Ok(outpoint)
    }

    /// Pays from the faucet; returns the output, which is in the mempool.
    pub fn fund_unconfirmed(
        &self,
        script: &ScriptBuf,
        amount: Amount,
    ) -> Result<OutPoint, BackendError> {
        let faucet = Faucet::default();
        let mut coins: Vec<(OutPoint, Amount)> = Vec::new();
        let mut found = self.faucet_coins(&faucet)?;
        found.sort_by_key(|(outpoint, value)| (core::cmp::Reverse(*value), *outpoint));
        let wanted = vec![TxOut {
            value: amount,
            script_pubkey: script.clone(),
        }];
        let mut result = faucet.pay(&coins, wanted.clone());
        for (outpoint, value) in found {
            if result.is_ok() {
                break;
            }
            // A coin that the mempool spends is gone.
            let place = json!([outpoint.txid.to_string(), outpoint.vout, true]);
            if !self.client().call("gettxout", place)?.is_null() {
                coins.push((outpoint, value));
                result = faucet.pay(&coins, wanted.clone());
            }
        }
        let tx = result.map_err(BackendError::Faucet)?;
        Ok(OutPoint {
            txid: self.send(&tx)?,
            vout: 0,
        })
    }

    fn faucet_coins(&self, faucet: &Faucet) -> Result<Vec<(OutPoint, Amount)>, BackendError> {
        let descriptor = format!("raw({})", faucet.script().to_hex_string());
        let scan = self
            .client()
            .call("scantxoutset", json!(["start", [descriptor]]))?;
        let tip = number(&scan["height"])?;
        let mut coins = Vec::new();
        for unspent in scan["unspents"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
        {
            let age = (tip + 1).saturating_sub(number(&unspent["height"])?);
            if unspent["coinbase"] == true && age < COINBASE_MATURITY {
                continue;
            }
            let outpoint = OutPoint {
                txid: parse(&unspent["txid"])?,
                vout: number(&unspent["vout"])?,
            };
            let value = unspent["amount"]
                .as_f64()
                .and_then(|btc| Amount::from_btc(btc).ok());
            let value = value.ok_or_else(|| BackendError::Answer(unspent.to_string()))?;
            coins.push((outpoint, value));
        }
        Ok(coins)
    }

    /// In how many blocks a transaction is buried, if one of its first outputs is unspent: 0 in
    /// the mempool, 1 in the tip.
    pub fn confirmations(&self, txid: &Txid) -> Result<u32, BackendError> {
        for vout in 0..16 {
            let out = self
                .client()
                .call("gettxout", json!([txid.to_string(), vout, true]))?;
            if !out.is_null() {
                return number(&out["confirmations"]);
            }
        }
        Err(BackendError::Answer(format!(
            "{txid} has no unspent output among its first 16"
        )))
    }

    /// Gives up the last `depth` blocks and mines `count` others instead.
    pub fn reorg(&self, depth: u32, count: u32) -> Result<Vec<BlockHash>, BackendError> {
        let first = (self.height()? + 1).saturating_sub(depth);
        let hash = self.client().call("getblockhash", json!([first]))?;
        self.client().call("invalidateblock", json!([hash]))?;
        self.generate(count)
    }

    /// Fixes the clock, in seconds since 1970; 0 gives it back to the computer's.
    pub fn set_mock_time(&self, time: u32) -> Result<(), BackendError> {
        self.client().call("setmocktime", json!([time]))?;
        Ok(())
    }
}

fn parse<T: core::str::FromStr>(value: &Value) -> Result<T, BackendError> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| BackendError::Answer(value.to_string()))
}

fn number(value: &Value) -> Result<u32, BackendError> {
    let parsed = value.as_u64().and_then(|number| u32::try_from(number).ok());
    parsed.ok_or_else(|| BackendError::Answer(value.to_string()))
}
