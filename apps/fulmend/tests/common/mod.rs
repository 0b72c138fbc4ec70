//! Daemons on an embedded chain, in one process.
#![allow(dead_code)] // Each test binary uses a part.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bitcoin::{
    Address, Amount, Network,
    hashes::{Hash, sha256},
    secp256k1::{Secp256k1, SecretKey},
};
use fulmen_api::{
    Balance, ChannelInfo, Client, Connect, GetInfo, ListChannels, NewAddress, NodeInfo, OpenChannel,
};
use fulmen_block_sync::Auth;
use fulmen_devchain::Backend;
use fulmen_invoice::{Currency, Description, InvoiceDetails};
use fulmen_seed::{Birthday, Seed, SeedFile};
use fulmen_types::{Msat, PaymentHash, PaymentSecret, Timestamp};
use fulmend::{Config, Daemon, DaemonError};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The embedded chain, or a real bitcoind where `BITCOIND_EXE` names one.
pub(crate) struct Devchain {
    backend: Backend,
}

impl Devchain {
    pub(crate) fn start() -> Self {
        Self {
            backend: Backend::start().expect("a chain"),
        }
    }

    pub(crate) fn mine(&self, blocks: u32) {
        self.backend.generate(blocks).expect("it mines");
    }

    /// Pays to an address, confirmed.
    pub(crate) fn pay(&self, address: &str, amount_sat: u64) {
        let address = Address::from_str(address)
            .expect("an address")
            .assume_checked();
        self.backend
            .fund(&address.script_pubkey(), Amount::from_sat(amount_sat))
            .expect("coins");
    }

    pub(crate) fn height(&self) -> u32 {
        self.backend.height().expect("it answers")
    }

    pub(crate) fn mempool_is_empty(&self) -> bool {
        let call = self
            .backend
            .client()
            .call("getrawmempool", serde_json::json!([]));
        call.expect("it answers")
            .as_array()
            .is_none_or(Vec::is_empty)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    pub(crate) fn cookie_path(&self) -> &Path {
        self.backend.cookie_path()
    }

    pub(crate) fn config(&self, data_dir: &Path) -> Config {
        let mut config = Config::new(data_dir, Network::Regtest);
        config.bitcoind = self.addr().to_string();
        config.bitcoind_auth = Auth::CookieFile(self.cookie_path().to_path_buf());
        config.listen = free_port();
        config.api = free_port();
        config.chain_poll_millis = 50;
        config.mempool_poll_millis = 200;
        config.node.gossip_flush_millis = 100;
        config
    }

    /// A new data directory under `dir`, and a daemon on it.
    pub(crate) async fn new_node(&self, dir: &Path, name: &str) -> Node {
        let data_dir = dir.join(name);
        create_seed(&data_dir);
        let config = self.config(&data_dir);
        Node::start(config).await.expect("it starts")
    }
}

pub(crate) fn free_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn create_seed(data_dir: &Path) {
    let seed = Seed::generate().expect("randomness");
    SeedFile::create(data_dir, &seed, Birthday::Now, None).expect("a new folder");
}

/// A daemon and a client of it.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    pub(crate) client: Client,
    pub(crate) config: Config,
}

impl Node {
    pub(crate) async fn start(config: Config) -> Result<Self, DaemonError> {
        let daemon = Daemon::start(config.clone()).await?;
        Ok(Self {
            client: daemon.client(),
            daemon,
            config,
        })
    }

    pub(crate) async fn stop(self) -> Config {
        let mut config = self.config;
        // Peers find it where it was.
        config.listen = self.daemon.listen_address();
        tokio::time::timeout(PATIENCE, self.daemon.stop())
            .await
            .expect("it stops in time")
            .expect("it was well");
        config
    }

    pub(crate) fn uri(&self) -> String {
        format!("{}@{}", self.daemon.node_id(), self.daemon.listen_address())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.config.data_dir.clone()
    }

    pub(crate) async fn info(&self) -> NodeInfo {
        self.client.call(&GetInfo {}).await.expect("it answers")
    }

    pub(crate) async fn channels(&self) -> Vec<ChannelInfo> {
        self.client
            .call(&ListChannels {})
            .await
            .expect("it answers")
            .channels
    }

    pub(crate) async fn balance(&self) -> fulmen_api::BalanceInfo {
        self.client.call(&Balance {}).await.expect("it answers")
    }

    /// Gives the on-chain wallet money and waits until it has seen it.
    pub(crate) async fn fund(&self, chain: &Devchain, amount_sat: u64) {
        let before = self.balance().await.onchain_confirmed_sat;
        let address = self
            .client
            .call(&NewAddress {})
            .await
            .expect("an address")
            .address;
        chain.pay(&address, amount_sat);
        chain.mine(1);
        until("the deposit is seen", || async {
            self.balance().await.onchain_confirmed_sat == before + amount_sat
        })
        .await;
    }

    /// Waits until node and wallet have seen the chain's tip.
    pub(crate) async fn synced(&self, chain: &Devchain) {
        let height = chain.height();
        until("the tip is seen", || async {
            let info = self.info().await;
            info.block_height == height && info.wallet_height == height
        })
        .await;
    }
}

/// Connects, opens, mines, and waits until both ends can use the channel. Gives its id.
pub(crate) async fn open_channel(
    chain: &Devchain,
    from: &Node,
    to: &Node,
    amount_sat: u64,
) -> String {
    from.client
        .call(&Connect { peer: to.uri() })
        .await
        .expect("it listens");
    let before = from.channels().await.iter().filter(|c| c.usable).count();
    let opened = from
        .client
        .call(&OpenChannel::new(
            to.daemon.node_id().to_string(),
            amount_sat,
        ))
        .await
        .expect("it is accepted");
    until("the funding is in the mempool", || async {
        !chain.mempool_is_empty()
    })
    .await;
    chain.mine(6);
    until("both can use the channel", || async {
        let usable = |channels: Vec<ChannelInfo>| {
            channels
                .iter()
                .any(|c| c.channel_id == opened.channel_id && c.usable)
        };
        usable(from.channels().await) && usable(to.channels().await)
    })
    .await;
    assert_eq!(
        from.channels().await.iter().filter(|c| c.usable).count(),
        before + 1
    );
    opened.channel_id
}

/// A signed invoice over 10 sat of somebody who has no channels.
pub(crate) fn strangers_invoice(currency: Currency, age_secs: u64, preimage: &[u8]) -> String {
    let key = SecretKey::from_slice(&[7; 32]).expect("a key");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let mut details = InvoiceDetails::new(
        currency,
        Timestamp::from_secs(now.as_secs() - age_secs),
        PaymentHash::new(sha256::Hash::hash(preimage).to_byte_array()),
        PaymentSecret::new([9; 32]),
        Description::Text("a stranger's".into()),
    );
    details.amount = Some(Msat::new(10_000));
    details
        .into_unsigned()
        .expect("it can be written")
        .sign_with_key(&Secp256k1::new(), &key)
        .expect("it can be signed")
        .to_string()
}

/// Asks again and again until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: not within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Shows what the daemons log, when asked to by `RUST_LOG`.
pub(crate) fn log() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}
