//! Against the embedded chain's server, which speaks Bitcoin Core's RPC and REST.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{net::SocketAddr, time::Duration};

use bitcoin::{Amount, Network, OutPoint, Transaction};
use fulmen_block_sync::{
    Auth, Bitcoind, BitcoindConfig, BlockRef, BroadcastOutcome, ChainUpdate, Error, FeeFallback,
    FollowConfig, Follower, Rescan, RescanTarget, Status, Utxo, follow,
};
use fulmen_devchain::{
    Faucet,
    server::{DevchainServer, ServerConfig},
};
use fulmen_types::{FeeratePerKw, ShortChannelId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
};

fn server() -> DevchainServer {
    DevchainServer::start(ServerConfig::default()).unwrap()
}

fn client(server: &DevchainServer) -> Bitcoind {
    let auth = Auth::CookieFile(server.cookie_path().to_path_buf());
    Bitcoind::new(BitcoindConfig::new(server.addr().to_string(), auth))
}

fn mine(server: &DevchainServer, count: u32) {
    server.with_chain(|chain| chain.generate(count));
}

fn at(server: &DevchainServer, height: u32) -> BlockRef {
    let hash = server.with_chain(|chain| chain.block_hash(height)).unwrap();
    BlockRef { hash, height }
}

#[tokio::test]
async fn tells_its_chain() {
    let server = server();
    let info = client(&server).chain_info().await.unwrap();
    assert_eq!(info.network, Network::Regtest);
    assert_eq!(info.best, at(&server, 110));
}

#[tokio::test]
async fn blocks_come_alike_by_rest_and_rpc() {
    let server = server();
    let auth = Auth::CookieFile(server.cookie_path().to_path_buf());
    let config = BitcoindConfig {
        rest: false,
        ..BitcoindConfig::new(server.addr().to_string(), auth)
    };
    let hash = at(&server, 50).hash;
    let by_rpc = Bitcoind::new(config).block(hash).await.unwrap();
    assert_eq!(by_rpc, client(&server).block(hash).await.unwrap());
    let nowhere = bitcoin::hashes::Hash::all_zeros();
    assert!(matches!(
        client(&server).block(nowhere).await,
        Err(Error::Rpc { code: -5, .. })
    ));
}

#[tokio::test]
async fn wrong_credentials_and_nobody_there_are_told_apart() {
    let server = server();
    let auth = Auth::UserPassword {
        user: "me".into(),
        password: "wrong".into(),
    };
    let wrong = Bitcoind::new(BitcoindConfig::new(server.addr().to_string(), auth.clone()));
    assert!(matches!(wrong.chain_info().await, Err(Error::Unauthorized)));
    let nobody = Bitcoind::new(BitcoindConfig::new("127.0.0.1:1", auth));
    assert!(matches!(
        nobody.chain_info().await,
        Err(Error::Connect { .. })
    ));
    let none = Auth::CookieFile("/nonexistent/.cookie".into());
    let none = Bitcoind::new(BitcoindConfig::new(server.addr().to_string(), none));
    assert!(matches!(none.chain_info().await, Err(Error::Cookie { .. })));
}

#[tokio::test]
async fn a_new_cookie_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let cookie = dir.path().join(".cookie");
    let start = |listen: SocketAddr| {
        let config = ServerConfig {
            listen,
            cookie_path: Some(cookie.clone()),
            ..ServerConfig::default()
        };
        DevchainServer::start(config)
    };
    let first = start("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = first.addr();
    let bitcoind = client(&first);
    bitcoind.chain_info().await.unwrap();
    first.stop();
    assert!(bitcoind.chain_info().await.is_err());
    let mut again = start(addr);
    for _ in 0..50 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = start(addr);
    }
    let _again = again.unwrap();
    bitcoind.chain_info().await.unwrap();
}

#[tokio::test]
async fn follows_from_a_tip_over_a_reorg() {
    let server = server();
    let mut follower = Follower::new(
        client(&server),
        at(&server, 108),
        &[at(&server, 107), at(&server, 106)],
    );
    let mut seen = Vec::new();
    while let Some(update) = follower.next().await.unwrap() {
        seen.push(describe(&update));
    }
    assert_eq!(seen, ["+109", "+110", "=110"]);
    assert!(follower.next().await.unwrap().is_none());
    let old = at(&server, 107).hash;
    server.with_chain(|chain| {
        chain.invalidate_block(&old).unwrap();
        chain.advance_time(7);
        chain.generate(6);
    });
    assert_ne!(at(&server, 107).hash, old);
    let mut seen = Vec::new();
    while let Some(update) = follower.next().await.unwrap() {
        seen.push(describe(&update));
    }
    let back = ["-110", "-109", "-108", "-107"];
    let forth = ["+107", "+108", "+109", "+110", "+111", "+112", "=112"];
    assert_eq!(seen, [&back[..], &forth[..]].concat());
    assert_eq!(follower.tip(), at(&server, 112));
}

#[tokio::test]
async fn a_reorg_below_what_is_remembered_is_an_error() {
    let server = server();
    let mut follower = Follower::new(client(&server), at(&server, 108), &[at(&server, 107)]);
    let old = at(&server, 105).hash;
    server.with_chain(|chain| {
        chain.invalidate_block(&old).unwrap();
        chain.advance_time(7);
        chain.generate(9);
    });
    assert_eq!(describe(&follower.next().await.unwrap().unwrap()), "-108");
    assert!(matches!(follower.next().await, Err(Error::ReorgTooDeep)));
}

fn describe(update: &ChainUpdate) -> String {
    match update {
        ChainUpdate::Disconnected(at) => format!("-{}", at.height),
        ChainUpdate::Connected { at, block } => {
            assert_eq!(block.block_hash(), at.hash);
            format!("+{}", at.height)
        }
        ChainUpdate::BestTip(at) => format!("={}", at.height),
        ChainUpdate::LateMatches {
            block,
            transactions,
        } => {
            format!("?{}:{}", block.height, transactions.len())
        }
    }
}

#[tokio::test]
async fn follows_through_an_outage_and_rescans() {
    let dir = tempfile::tempdir().unwrap();
    let cookie = dir.path().join(".cookie");
    let server = DevchainServer::start(ServerConfig {
        cookie_path: Some(cookie.clone()),
        ..ServerConfig::default()
    })
    .unwrap();
    let script = server.with_chain(|_| Faucet::default().script());
    let other = bitcoin::ScriptBuf::from_bytes([vec![0, 32], vec![9; 32]].concat());
    let paid = server.with_chain(|chain| chain.fund(&other, Amount::from_sat(50_000)).unwrap());
    let spent = server
        .with_chain(|chain| chain.transaction(&paid.txid).unwrap().0.input[0].previous_output);
    let height = server.with_chain(|chain| chain.height());

    // A connection of our own between, which can be cut.
    let bitcoind = client(&server);
    let (out, mut updates) = mpsc::channel(1);
    let (rescan, rescans) = mpsc::unbounded_channel();
    let (status, seen_status) = watch::channel(Status::Starting);
    let config = FollowConfig {
        poll_interval: Duration::from_millis(20),
        max_backoff: Duration::from_millis(100),
    };
    let follower = Follower::new(
        bitcoind.clone(),
        at(&server, height),
        &[at(&server, height - 1)],
    );
    let task = tokio::spawn(follow(follower, bitcoind, rescans, out, status, config));
    assert_eq!(
        describe(&updates.recv().await.unwrap()),
        format!("={height}")
    );
    assert!(matches!(
        *seen_status.borrow(),
        Status::Up { synced: true, .. }
    ));

    rescan
        .send(Rescan {
            target: RescanTarget::Payment(other),
            from: 100,
        })
        .unwrap();
    assert_eq!(
        describe(&updates.recv().await.unwrap()),
        format!("?{height}:1")
    );
    rescan
        .send(Rescan {
            target: RescanTarget::Spend(spent),
            from: height,
        })
        .unwrap();
    assert_eq!(
        describe(&updates.recv().await.unwrap()),
        format!("?{height}:1")
    );
    rescan
        .send(Rescan {
            target: RescanTarget::Spend(paid),
            from: 1,
        })
        .unwrap();
    // Nothing matches; the next thing is a block.
    mine(&server, 1);
    assert_eq!(
        describe(&updates.recv().await.unwrap()),
        format!("+{}", height + 1)
    );
    assert_eq!(
        describe(&updates.recv().await.unwrap()),
        format!("={}", height + 1)
    );

    server.stop();
    let mut down = seen_status.clone();
    let is_down = |s: &Status| matches!(s, Status::Down { attempts: 2.., .. });
    tokio::time::timeout(Duration::from_secs(10), down.wait_for(is_down))
        .await
        .unwrap()
        .unwrap();
    drop(script);
    drop(updates);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn broadcasts_and_classifies() {
    let server = server();
    let bitcoind = client(&server);
    let script = server.with_chain(|_| Faucet::default().script());
    let pay: Transaction = server
        .with_chain(|chain| chain.faucet_payment(&script, Amount::from_sat(70_000)))
        .unwrap();
    assert_eq!(
        bitcoind
            .broadcast(std::slice::from_ref(&pay))
            .await
            .unwrap(),
        BroadcastOutcome::Accepted
    );
    let again = bitcoind
        .broadcast(std::slice::from_ref(&pay))
        .await
        .unwrap();
    assert!(matches!(
        again,
        BroadcastOutcome::Accepted | BroadcastOutcome::Known
    ));
    mine(&server, 1);
    let confirmed = bitcoind
        .broadcast(std::slice::from_ref(&pay))
        .await
        .unwrap();
    assert_eq!(confirmed, BroadcastOutcome::Known);
    let mut stranger = pay.clone();
    stranger.input[0].previous_output = OutPoint::new(pay.compute_txid(), 77);
    let missing = bitcoind.broadcast(&[stranger.clone()]).await.unwrap();
    assert!(
        matches!(missing, BroadcastOutcome::MissingInputs(_)),
        "{missing:?}"
    );
    let package = bitcoind.broadcast(&[pay, stranger]).await.unwrap();
    assert!(
        matches!(package, BroadcastOutcome::MissingInputs(_)),
        "{package:?}"
    );
}

#[tokio::test]
async fn finds_outputs_by_short_channel_id() {
    let server = server();
    let bitcoind = client(&server);
    let script = bitcoin::ScriptBuf::from_bytes([vec![0, 32], vec![9; 32]].concat());
    let outpoint = server
        .with_chain(|chain| chain.fund(&script, Amount::from_sat(50_000)))
        .unwrap();
    let height = server.with_chain(|chain| chain.height());
    let block = bitcoind.block(at(&server, height).hash).await.unwrap();
    let index = block
        .txdata
        .iter()
        .position(|tx| tx.compute_txid() == outpoint.txid)
        .unwrap();
    let scid = |index, vout| ShortChannelId::from_parts(height, index, vout).unwrap();
    let index = u32::try_from(index).unwrap();
    let vout = u16::try_from(outpoint.vout).unwrap();
    let found = bitcoind.utxo(scid(index, vout)).await.unwrap();
    let Utxo::Unspent {
        output,
        outpoint: there,
        ..
    } = found
    else {
        panic!("{found:?}")
    };
    assert_eq!((output.script_pubkey, there), (script, outpoint));
    for wrong in [
        scid(index, 9),
        scid(99, 0),
        ShortChannelId::from_parts(height + 5, 0, 0).unwrap(),
    ] {
        assert_eq!(bitcoind.utxo(wrong).await.unwrap(), Utxo::SpentOrUnknown);
    }
}

#[tokio::test]
async fn estimates_fall_back() {
    let server = server();
    let bitcoind = client(&server);
    server.set_feerate(Some(40_000));
    let estimates = bitcoind.estimates(FeeFallback::default()).await.unwrap();
    assert_eq!(estimates.normal, FeeratePerKw::new(10_000));
    server.set_feerate(None);
    let estimates = bitcoind.estimates(FeeFallback::default()).await.unwrap();
    assert_eq!(estimates.normal, FeeFallback::default().normal);
    assert!(estimates.floor <= estimates.background && estimates.normal <= estimates.urgent);
}

/// A server that answers everything with the same bytes.
async fn liar(answer: Vec<u8>) -> Bitcoind {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(&answer).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            });
        }
    });
    let auth = Auth::UserPassword {
        user: "a".into(),
        password: "b".into(),
    };
    let config = BitcoindConfig {
        timeout: Duration::from_millis(500),
        ..BitcoindConfig::new(address, auth)
    };
    Bitcoind::new(config)
}

#[tokio::test]
async fn odd_answers_are_bounded_errors() {
    let head = "HTTP/1.1 200 OK\r\n";
    let endless = format!("{head}{}", "a".repeat(1_000_000));
    let many = format!("{head}{}\r\n", "a: b\r\n".repeat(10_000));
    for (answer, expected) in [
        ("garbage\r\n".to_owned(), "Malformed"),
        (
            format!("{head}Content-Length: 99999999999999\r\n\r\n"),
            "TooLong",
        ),
        (format!("{head}Content-Length: 5\r\n\r\nhello"), "Malformed"),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "Malformed",
        ),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffff\r\n"),
            "TooLong",
        ),
        (format!("{head}Content-Length: 50\r\n\r\nhello"), "Timeout"),
        (
            "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno".to_owned(),
            "Http",
        ),
        (endless, "TooLong"),
        (many, "TooLong"),
        (String::new(), "Timeout"),
    ] {
        let error = liar(answer.into_bytes())
            .await
            .chain_info()
            .await
            .unwrap_err();
        assert!(
            format!("{error:?}").starts_with(expected),
            "{error:?}, expected {expected}"
        );
    }
    let chunked = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n14\r\n{{\"result\":7,\"error\":\r\nc\r\nnull,\"id\":0}}\r\n0\r\n\r\n"
    );
    let answer = liar(chunked.into_bytes())
        .await
        .call("any", serde_json::json!([]))
        .await
        .unwrap();
    assert_eq!(answer, 7);
}
