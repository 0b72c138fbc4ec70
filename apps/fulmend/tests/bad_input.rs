//! What goes wrong, and what is said about it: every refusal has its code and says what to do, and
//! changes nothing.

mod common;

use std::net::SocketAddr;

use common::{Devchain, Node, PATIENCE, free_port, open_channel, until};
use fulmen_api::{
    BumpFee, ChainState, Client, ClientError, CloseChannel, Connect, Decode, ErrorCode, GetInfo,
    Invoice, ListChannels, ListPayments, NewAddress, OpenChannel, Pay, PaymentState, Withdraw,
};
use fulmen_invoice::Currency;
use fulmend::DaemonError;

/// A key that belongs to no node.
const STRANGER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

#[track_caller]
#[expect(clippy::panic, reason = "that is how a test fails")]
fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>, code: ErrorCode, words: &[&str]) {
    match result {
        Err(error) if error.code() == Some(code) => {
            let text = error.to_string();
            for word in words {
                assert!(text.contains(word), "{word:?} is not in: {text}");
            }
        }
        other => panic!("expected {code:?}, got {other:?}"),
    }
}

/// A signed invoice of a stranger.
fn invoice(currency: Currency, age_secs: u64) -> String {
    common::strangers_invoice(currency, age_secs, b"some preimage")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_make_no_sense_are_refused() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    let call = &alice.client;

    // Peers.
    let peer = |peer: &str| Connect { peer: peer.into() };
    refused(
        call.call(&peer("nonsense")).await,
        ErrorCode::Invalid,
        &["node id"],
    );
    refused(
        call.call(&peer(STRANGER)).await,
        ErrorCode::Invalid,
        &["host:port"],
    );
    refused(
        call.call(&peer(&format!("{STRANGER}@here"))).await,
        ErrorCode::Invalid,
        &["host:port"],
    );
    let nobody = format!("{STRANGER}@127.0.0.1:1");
    refused(
        call.call(&peer(&nobody)).await,
        ErrorCode::Failed,
        &["127.0.0.1:1"],
    );
    // Somebody is there, but not the one that is wanted.
    let other = format!("{STRANGER}@{}", bob.daemon.listen_address());
    let error = call
        .call(&peer(&other))
        .await
        .expect_err("it has another key");
    assert_eq!(error.code(), Some(ErrorCode::Failed), "{error}");
    let open = OpenChannel::new(STRANGER, 100_000);
    refused(
        call.call(&open).await,
        ErrorCode::PeerNotConnected,
        &["connect"],
    );

    // Money that is not there.
    call.call(&peer(&bob.uri())).await.expect("it listens");
    let open = OpenChannel::new(bob.daemon.node_id().to_string(), 1_000_000);
    refused(
        call.call(&open).await,
        ErrorCode::InsufficientFunds,
        &["newaddress"],
    );
    let address = call.call(&NewAddress {}).await.expect("an address").address;
    let withdraw = Withdraw {
        address: address.clone(),
        amount_sat: Some(50_000),
        feerate_sat_per_vb: Some(1),
    };
    refused(
        call.call(&withdraw).await,
        ErrorCode::InsufficientFunds,
        &["deposit"],
    );
    let elsewhere = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".to_owned();
    let withdraw = |address: &str, amount, feerate| Withdraw {
        address: address.into(),
        amount_sat: amount,
        feerate_sat_per_vb: feerate,
    };
    refused(
        call.call(&withdraw(&elsewhere, None, None)).await,
        ErrorCode::Invalid,
        &["network"],
    );
    refused(
        call.call(&withdraw("x", None, None)).await,
        ErrorCode::Invalid,
        &["address"],
    );
    refused(
        call.call(&withdraw(&address, None, Some(1_000_000))).await,
        ErrorCode::Invalid,
        &["sat/vB"],
    );

    // Invoices.
    let pay = |bolt11: String| Pay::new(bolt11);
    refused(
        call.call(&pay("lnbcrt1nonsense".into())).await,
        ErrorCode::Invalid,
        &["invoice"],
    );
    let good = bob
        .client
        .call(&Invoice::of_msat(5_000, "x"))
        .await
        .expect("made")
        .bolt11;
    let mut garbled = good.clone();
    let last = garbled.pop().expect("it is not empty");
    garbled.push(if last == 'q' { 'p' } else { 'q' });
    refused(
        call.call(&pay(garbled.clone())).await,
        ErrorCode::Invalid,
        &["invoice"],
    );
    refused(
        call.call(&Decode { bolt11: garbled }).await,
        ErrorCode::Invalid,
        &["invoice"],
    );
    let mainnet = invoice(Currency::Bitcoin, 0);
    let error = call
        .call(&pay(mainnet.clone()))
        .await
        .expect_err("another network");
    assert_eq!(error.code(), Some(ErrorCode::Invalid), "{error}");
    assert!(error.to_string().contains("network"), "{error}");
    let decoded = call
        .call(&Decode { bolt11: mainnet })
        .await
        .expect("it can be read");
    assert!(!decoded.payable_here && !decoded.expired);
    let old = invoice(Currency::Regtest, 4_000);
    let error = call.call(&pay(old)).await.expect_err("expired");
    assert!(error.to_string().contains("expired"), "{error}");
    let nowhere = call.call(&pay(invoice(Currency::Regtest, 0))).await;
    match nowhere {
        Ok(payment) => {
            assert_eq!(payment.state, PaymentState::Failed, "{payment:?}");
            assert_eq!(payment.failure_reason.as_deref(), Some("no_route"));
            assert!(payment.failure.is_some_and(|why| !why.is_empty()));
        }
        Err(error) => panic!("{error}"),
    }
    refused(
        call.call(&Invoice {
            amount_msat: Some(0),
            ..Invoice::default()
        })
        .await,
        ErrorCode::Invalid,
        &["amount"],
    );

    refused(
        call.call(&Invoice {
            expiry_secs: Some(0),
            ..Invoice::default()
        })
        .await,
        ErrorCode::Invalid,
        &["expire"],
    );

    // A command that is given again with its key is done once: nothing was done before, so nothing is now.
    let again = withdraw(&address, Some(50_000), Some(1));
    for _ in 0..2 {
        refused(
            call.call_once("a key", &again).await,
            ErrorCode::InsufficientFunds,
            &["deposit"],
        );
    }
    let bump = |txid: &str| BumpFee {
        txid: txid.into(),
        feerate_sat_per_vb: Some(9),
    };
    refused(
        call.call(&bump("x")).await,
        ErrorCode::Invalid,
        &["transaction id"],
    );
    refused(
        call.call(&bump(&"0".repeat(64))).await,
        ErrorCode::Refused,
        &["listtransactions"],
    );

    // Channels.
    let close = |channel: &str| CloseChannel {
        channel: channel.into(),
        force: false,
        address: None,
        feerate_sat_per_vb: None,
    };
    refused(
        call.call(&close("one")).await,
        ErrorCode::Invalid,
        &["listchannels"],
    );
    refused(
        call.call(&close("1x2x3")).await,
        ErrorCode::UnknownChannel,
        &["listchannels"],
    );

    // Nothing of it has changed anything.
    assert!(
        call.call(&ListChannels {})
            .await
            .expect("a list")
            .channels
            .is_empty()
    );
    let payments = call
        .call(&ListPayments::default())
        .await
        .expect("a list")
        .payments;
    assert!(
        payments
            .iter()
            .all(|payment| payment.state == PaymentState::Failed)
    );
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_lets_only_those_in_who_have_the_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let node = chain.new_node(dir.path(), "node").await;
    let address = node.daemon.api_address().to_string();
    for token in ["", "wrong", &"0".repeat(64)] {
        let stranger = Client::new(&address, token);
        refused(
            stranger.call(&GetInfo {}).await,
            ErrorCode::Unauthorized,
            &["api-token"],
        );
        let events = stranger.events(1, false).await.map(|_| ());
        refused(events, ErrorCode::Unauthorized, &["api-token"]);
    }
    // Those who have it are told what is wrong with what they ask.
    let raw = |command: &'static str, body: &[u8]| {
        let (client, body) = (node.client.clone(), body.to_vec());
        async move { client.call_json(command, body).await }
    };
    refused(
        raw("nonsense", b"{}").await,
        ErrorCode::NotFound,
        &["getinfo"],
    );
    refused(raw("pay", b"{").await, ErrorCode::Invalid, &["pay"]);
    refused(raw("pay", b"{}").await, ErrorCode::Invalid, &["bolt11"]);
    for command in [
        "getinfo",
        "newaddress",
        "withdraw",
        "bumpfee",
        "listtransactions",
        "connect",
        "disconnect",
        "ban",
        "unban",
        "listpeers",
        "openchannel",
        "closechannel",
        "listchannels",
        "invoice",
        "listinvoices",
        "pay",
        "listpayments",
        "balance",
        "decode",
        "stop",
    ] {
        refused(
            raw(command, b"{\"unheard_of\":1}").await,
            ErrorCode::Invalid,
            &["unheard_of", command],
        );
    }
    refused(
        raw("pay", &vec![b' '; 100_000]).await,
        ErrorCode::TooLarge,
        &["65536"],
    );
    assert!(raw("getinfo", b"").await.is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_can_not_run_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let start = |config| async move {
        let error = Node::start(config)
            .await
            .map(|_| ())
            .expect_err("it must not start");
        (error.to_string(), error)
    };

    // No seed.
    let (text, _) = start(chain.config(&dir.path().join("empty"))).await;
    assert!(text.contains("fulmen create"), "{text}");

    // A second one on the same data directory.
    let first = chain.new_node(dir.path(), "first").await;
    let (text, error) = start(chain.config(&first.data_dir())).await;
    assert!(matches!(error, DaemonError::Locked(_)), "{text}");
    assert!(text.contains("fulmen stop"), "{text}");

    // Ports in use.
    let second = dir.path().join("second");
    common::create_seed(&second);
    let mut config = chain.config(&second);
    config.api = first.daemon.api_address();
    let (text, _) = start(config).await;
    assert!(
        text.contains("another program listens") && text.contains("`api`"),
        "{text}"
    );
    let mut config = chain.config(&second);
    config.listen = first.daemon.listen_address();
    let (text, _) = start(config).await;
    assert!(
        text.contains("another program listens") && text.contains("`listen`"),
        "{text}"
    );

    // Bitcoin Core that is not there, or refuses, at the first start.
    let mut config = chain.config(&second);
    config.bitcoind = "127.0.0.1:1".into();
    let (text, _) = start(config).await;
    assert!(text.contains("bitcoind"), "{text}");
    let mut config = chain.config(&second);
    config.bitcoind_auth = fulmen_block_sync::Auth::UserPassword {
        user: "me".into(),
        password: "wrong".into(),
    };
    let (text, _) = start(config).await;
    assert!(text.contains("credentials"), "{text}");

    // Another network than Bitcoin Core's.
    let mut config = chain.config(&second);
    config.node = fulmen_node::NodeConfig::new(bitcoin::Network::Signet);
    let (text, _) = start(config).await;
    assert!(
        text.contains("signet") && text.contains("regtest"),
        "{text}"
    );
    // A start that failed leaves nothing behind that the next one trips over.
    Node::start(chain.config(&second))
        .await
        .expect("all is well now")
        .stop()
        .await;

    // The store of another seed.
    let config = first.stop().await;
    let seed = config.data_dir.join(fulmen_seed::SEED_FILE);
    let own = std::fs::read(&seed).expect("it is there");
    std::fs::copy(second.join(fulmen_seed::SEED_FILE), &seed).expect("ours");
    let (text, _) = start(config.clone()).await;
    assert!(text.contains("seed"), "{text}");
    std::fs::write(&seed, own).expect("ours");

    // A store of another network.
    let mut other = config.clone();
    other.node = fulmen_node::NodeConfig::new(bitcoin::Network::Signet);
    other.bitcoind = "127.0.0.1:1".into();
    let (text, _) = start(other).await;
    assert!(text.contains("network"), "{text}");

    // A damaged store, and one of a newer version.
    let store = config.data_dir.join("node.sqlite");
    let whole = std::fs::read(&store).expect("it is there");
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99u32.to_be_bytes()); // SQLite's user_version.
    std::fs::write(&store, newer).expect("ours");
    let (text, _) = start(config.clone()).await;
    assert!(
        text.contains("format 99") && text.contains("newer"),
        "{text}"
    );
    std::fs::write(&store, b"this is no database, whatever its name says").expect("ours");
    let (text, _) = start(config.clone()).await;
    assert!(text.contains("damaged"), "{text}");
    std::fs::write(&store, whole).expect("ours");
    Node::start(config)
        .await
        .expect("all is well again")
        .stop()
        .await;
}

/// Passes connections on to Bitcoin Core, until it is dropped.
struct Line {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    async fn open(at: SocketAddr, to: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option that is known");
        socket.bind(at).expect("a port that is ours");
        let listener = socket.listen(64).expect("a socket");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            // Aborted with this task.
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                passing.spawn(async move {
                    if let Ok(mut far) = tokio::net::TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { address, task }
    }

    async fn cut(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_may_go_away_and_come_back() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let line = Line::open(free_port(), chain.addr()).await;
    let address = line.address;
    let data_dir = dir.path().join("node");
    common::create_seed(&data_dir);
    let mut config = chain.config(&data_dir);
    config.bitcoind = address.to_string();
    let node = Node::start(config).await.expect("it starts");
    node.synced(&chain).await;

    line.cut().await;
    until("it says that the chain is down, and what to do", || async {
        match node.info().await.chain {
            ChainState::Down { error, .. } => error.contains("bitcoind"),
            ChainState::Starting | ChainState::Up { .. } => false,
        }
    })
    .await;
    // What needs no chain goes on.
    node.client
        .call(&Invoice::of_msat(1_000, "meanwhile"))
        .await
        .expect("made");
    let address_of_wallet = node
        .client
        .call(&NewAddress {})
        .await
        .expect("made")
        .address;
    // It starts without the chain too, once it has seen it.
    let node = Node::start(node.stop().await)
        .await
        .expect("it knows its last block");
    assert!(matches!(
        node.info().await.chain,
        ChainState::Starting | ChainState::Down { .. }
    ));

    // Meanwhile the world goes on; what happened is seen when the chain is back.
    chain.pay(&address_of_wallet, 123_456);
    chain.mine(7);
    let _line = Line::open(address, chain.addr()).await;
    until("it says that the chain is up", || async {
        matches!(node.info().await.chain, ChainState::Up { synced: true })
    })
    .await;
    node.synced(&chain).await;
    assert_eq!(node.balance().await.onchain_confirmed_sat, 123_456);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_loses_nothing() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let data_dir = dir.path().join("bob");
    common::create_seed(&data_dir);
    let mut config = chain.config(&data_dir);
    let bob = Node::start(config.clone()).await.expect("it starts");
    alice.fund(&chain, 5_000_000).await;
    bob.fund(&chain, 500_000).await;
    open_channel(&chain, &alice, &bob, 1_000_000).await;
    let before = bob.balance().await.channels_msat;
    config.listen = bob.stop().await.listen;

    // Only a few pages more than there are.
    let pages = std::fs::metadata(data_dir.join("node.sqlite"))
        .expect("it is there")
        .len()
        / 4_096;
    config.store_max_pages = Some(u32::try_from(pages).expect("small") + 12);
    let bob = Node::start(config.clone()).await.expect("it fits");
    let mut made = 0;
    let refusal = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = format!("{made} {}", "x".repeat(600));
            match bob.client.call(&Invoice::of_msat(1_000, text)).await {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        }
    })
    .await
    .expect("the store is full at some time");
    assert_eq!(refusal.code(), Some(ErrorCode::Unavailable), "{refusal}");
    assert!(refusal.to_string().contains("full"), "{refusal}");
    until("it says that it is in trouble", || async {
        bob.info().await.trouble.is_some()
    })
    .await;
    bob.stop().await;

    // With room again it goes on where it was: all that was said to be done is there.
    config.store_max_pages = None;
    let bob = Node::start(config).await.expect("nothing is damaged");
    until("the channel is used again", || async {
        bob.channels().await.iter().all(|c| c.usable)
    })
    .await;
    assert_eq!(bob.balance().await.channels_msat, before);
    let invoices = bob
        .client
        .call(&fulmen_api::ListInvoices::default())
        .await
        .expect("a list");
    // The last one was refused half-way: its record may have found room, its answer not.
    assert!(
        (made..=made + 1).contains(&invoices.invoices.len()),
        "{made}"
    );
    let invoice = bob
        .client
        .call(&Invoice::of_msat(2_000, "after"))
        .await
        .expect("made")
        .bolt11;
    let paid = alice
        .client
        .call(&Pay::new(invoice))
        .await
        .expect("answered");
    assert_eq!(paid.state, PaymentState::Succeeded);
    alice.stop().await;
    bob.stop().await;
}
