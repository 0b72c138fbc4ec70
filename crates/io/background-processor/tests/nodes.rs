//! Two real nodes over TCP, SQLite and the embedded chain's RPC: open, pay, restart, pay, close.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Transaction, TxOut, secp256k1::PublicKey};
use fulmen_background_processor::{
    DriverConfig, DriverTask, LocalRouter, NoEventHandler, NodeHandle, Ports, Start, SystemClock,
    Wallet, bitcoind::BitcoindChain, start, tcp::connect_over_tcp,
};
use fulmen_block_sync::{Auth, Bitcoind, BitcoindConfig, FeeFallback, FollowConfig};
use fulmen_connect::ConnectConfig;
use fulmen_devchain::{
    Faucet,
    server::{DevchainServer, ServerConfig},
};
use fulmen_net_tokio::{Connections, NetConfig};
use fulmen_node::{
    BlockId, ChannelSelector, CloseMode, Coin, CoinPurpose, CoinRequest, Command, CommandId, Event,
    FundingRequest, Node, NodeConfig, OpenChannelCommand, PayCommand, PeerAddress, Reply,
    WalletBalance, WalletError,
};
use fulmen_persister::SqliteStore;
use fulmen_signer::{KeysManager, Signer};
use fulmen_types::{BlockHeight, Msat};

/// The miner's wallet, for everybody.
struct FaucetWallet(Arc<DevchainServer>);

impl Wallet for FaucetWallet {
    fn fund(&self, request: &FundingRequest) -> Result<Transaction, WalletError> {
        let pay = self
            .0
            .with_chain(|c| c.faucet_payment(&request.script_pubkey, request.value));
        pay.map_err(|e| WalletError::Refused(format!("{e:?}")))
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
        Ok(Faucet::default().script())
    }
    fn balance(&self) -> WalletBalance {
        WalletBalance {
            confirmed: Amount::from_sat(1_000_000_000),
            unconfirmed: Amount::ZERO,
        }
    }
}

struct TestNode {
    id: PublicKey,
    address: String,
    handle: NodeHandle<Node>,
    task: DriverTask,
    commands: AtomicU64,
}

impl TestNode {
    async fn start(server: &Arc<DevchainServer>, dir: &Path, seed: u8, listen: &str) -> Self {
        let signer = Arc::new(KeysManager::new([seed; 32], Network::Regtest));
        let id = signer.node_id();
        let auth = Auth::CookieFile(server.cookie_path().to_path_buf());
        let client = Bitcoind::new(BitcoindConfig::new(server.addr().to_string(), auth));
        let follow = FollowConfig {
            poll_interval: Duration::from_millis(20),
            ..FollowConfig::default()
        };
        let chain = Arc::new(BitcoindChain::new(
            client,
            follow,
            FeeFallback::default(),
            None,
        ));
        let (connector, peers) = connect_over_tcp(
            NetConfig::default(),
            signer.clone(),
            Connections::standard(ConnectConfig::default()),
        );
        let address = connector.net().listen(listen).await.unwrap().to_string();
        let tip = server.with_chain(|c| BlockId {
            height: BlockHeight::new(c.height()),
            hash: c.tip(),
        });
        let restore = move |start: Start| {
            let config = NodeConfig::new(Network::Regtest);
            if start.records.is_empty() {
                Ok(Node::create(config, id, &start.boot, start.now, tip))
            } else {
                Ok(Node::restore(
                    config,
                    id,
                    &start.boot,
                    start.now,
                    &start.records,
                )?)
            }
        };
        let ports = Ports {
            signer,
            wallet: Arc::new(FaucetWallet(server.clone())),
            chain: chain.clone(),
            broadcaster: chain.clone(),
            fees: chain,
            connector: Arc::new(connector),
            peers: Box::new(peers),
            router: Arc::new(LocalRouter::new()),
            events: Arc::new(NoEventHandler),
            clock: Arc::new(SystemClock),
        };
        let path: PathBuf = dir.join(format!("{seed}.sqlite"));
        let store = SqliteStore::open(path).unwrap();
        assert!(store.sync_mode().unwrap().is_durable());
        let config = DriverConfig::default();
        let (handle, task) = start(config, Box::new(store), Box::new(restore), ports).unwrap();
        Self {
            id,
            address,
            handle,
            task,
            commands: AtomicU64::new(0),
        }
    }

    async fn command(&self, command: Command) -> Reply {
        let mut id = [0; 16];
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        id[..8].copy_from_slice(&self.commands.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        id[8..].copy_from_slice(&u64::try_from(now.as_micros()).unwrap().to_be_bytes());
        let answer = self.handle.command(CommandId(id), command);
        tokio::time::timeout(Duration::from_secs(20), answer)
            .await
            .unwrap()
            .unwrap()
    }

    /// Events from the first on until one fits.
    async fn until_event(&self, what: impl Fn(&Event) -> bool) {
        let mut events = self.handle.events(0).unwrap();
        let found = async {
            loop {
                let event = events.next().await.unwrap().event;
                if what(&event) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found)
            .await
            .unwrap();
    }

    async fn pay(&self, to: &Self, sat: u64) {
        let invoice = Command::CreateInvoice {
            amount: Some(Msat::from_sat(sat)),
            description: "test".into(),
            expiry_secs: 3_600,
        };
        let Reply::Invoice {
            invoice,
            payment_hash,
        } = to.command(invoice).await
        else {
            panic!()
        };
        let pay = PayCommand {
            invoice,
            amount: None,
            max_fee: None,
            timeout_secs: None,
        };
        self.command(Command::Pay(pay)).await;
        self.until_event(|event| match event {
            Event::PaymentSucceeded {
                payment_hash: hash, ..
            } => *hash == payment_hash,
            Event::PaymentFailed {
                payment_hash: hash,
                reason,
            } => {
                assert_ne!(*hash, payment_hash, "{reason}");
                false
            }
            _ => false,
        })
        .await;
    }

    async fn balance(&self) -> Msat {
        self.handle
            .query(|node| node.balance_info().channels)
            .await
            .unwrap()
    }

    /// Until the channel can be used and no HTLC is in it.
    async fn until_quiet(&self) {
        let usable = async {
            loop {
                let quiet = self.handle.query(|node| {
                    let channels = node.channels_info();
                    channels
                        .first()
                        .is_some_and(|c| c.spendable > Msat::ZERO && c.htlcs == (0, 0))
                });
                if quiet.await.unwrap() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), usable)
            .await
            .unwrap();
    }
}

async fn until_in_mempool(server: &DevchainServer) {
    let waiting = async {
        while server.with_chain(|chain| chain.mempool().is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_pay_restart_pay_close() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let server = Arc::new(DevchainServer::start(ServerConfig::default()).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let alice = TestNode::start(&server, dir.path(), 1, "127.0.0.1:0").await;
    let bob = TestNode::start(&server, dir.path(), 2, "127.0.0.1:0").await;
    let address = PeerAddress(bob.address.clone());
    alice
        .command(Command::Connect {
            peer: bob.id,
            address,
        })
        .await;
    let open = Command::OpenChannel(OpenChannelCommand {
        peer: bob.id,
        amount: Amount::from_sat(1_000_000),
        push: Msat::from_sat(300_000),
        announce: true,
        feerate: None,
        channel_type: None,
    });
    assert!(matches!(
        alice.command(open).await,
        Reply::ChannelOpening { .. }
    ));
    until_in_mempool(&server).await;
    server.with_chain(|chain| chain.generate(6));
    for node in [&alice, &bob] {
        node.until_event(|event| matches!(event, Event::ChannelReady { .. }))
            .await;
    }
    alice.until_quiet().await;
    bob.until_quiet().await;

    let started = Instant::now();
    let before = (alice.balance().await, bob.balance().await);
    for _ in 0..20 {
        alice.pay(&bob, 1_000).await;
        bob.pay(&alice, 400).await;
    }
    println!(
        "{} ms for one payment, both nodes durable",
        started.elapsed().as_millis() / 40
    );
    alice.until_quiet().await;
    bob.until_quiet().await;
    let after = (alice.balance().await, bob.balance().await);
    assert_eq!(before.0.saturating_sub(after.0), Msat::from_sat(12_000));
    assert_eq!(after.1.saturating_sub(before.1), Msat::from_sat(12_000));

    // Bob stops and starts again; Alice dials him until he is there.
    let listen = bob.address.clone();
    bob.handle.shutdown().await;
    bob.task.await.unwrap().unwrap();
    let bob = TestNode::start(&server, dir.path(), 2, &listen).await;
    bob.until_quiet().await;
    alice.until_quiet().await;
    alice.pay(&bob, 5_000).await;
    bob.pay(&alice, 2_000).await;
    alice.until_quiet().await;

    let channel = alice
        .handle
        .query(|node| node.channels_info()[0].channel_id)
        .await
        .unwrap();
    let close = Command::CloseChannel {
        channel: ChannelSelector::Id(channel),
        mode: CloseMode::Cooperative {
            script_pubkey: None,
            feerate: None,
        },
    };
    alice.command(close).await;
    until_in_mempool(&server).await;
    server.with_chain(|chain| chain.generate(1));
    for node in [&alice, &bob] {
        node.until_event(|e| matches!(e, Event::ChannelClosed { kind, .. } if kind == "mutual"))
            .await;
        node.handle.shutdown().await;
    }
    alice.task.await.unwrap().unwrap();
    bob.task.await.unwrap().unwrap();
}
