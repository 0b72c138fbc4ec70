//! Who is connected with whom, as users see and want it.

mod common;

use std::time::Duration;

use common::{Devchain, Node, free_port, open_channel, until};
use fulmen_api::{Ban, Connect, Disconnect, ErrorCode, ListPeers, PeerInfo, PeerList, Unban};
use fulmen_wire::NetAddress;

async fn peers(node: &Node) -> PeerList {
    let list = node.client.call(&ListPeers {}).await;
    list.expect("it answers")
}

async fn peer_of(node: &Node, peer: &str) -> Option<PeerInfo> {
    let list = peers(node).await.peers;
    list.into_iter().find(|info| info.node_id == peer)
}

async fn until_connected(node: &Node, peer: &str) {
    until("they are connected", || async {
        peer_of(node, peer).await.is_some_and(|p| p.connected)
    })
    .await;
}

async fn connect(node: &Node, peer: impl Into<String>) -> Result<(), ErrorCode> {
    let request = Connect { peer: peer.into() };
    let answer = node.client.call(&request).await;
    answer.map(|_| ()).map_err(|e| e.code().expect("a refusal"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_disconnect_ban_and_forgive() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    let carol = chain.new_node(dir.path(), "carol").await;
    let id = |node: &Node| node.daemon.node_id().to_string();
    let (alice_id, bob_id, carol_id) = (id(&alice), id(&bob), id(&carol));
    // The one that accepts needs money for the fees of a close.
    alice.fund(&chain, 3_000_000).await;
    bob.fund(&chain, 1_000_000).await;
    open_channel(&chain, &alice, &bob, 1_000_000).await;

    // A restart: they find each other again.
    let config = bob.stop().await;
    until("the loss is seen", || async {
        peer_of(&alice, &bob_id).await.is_some_and(|p| !p.connected)
    })
    .await;
    let bob = Node::start(config).await.expect("it starts again");
    until_connected(&alice, &bob_id).await;

    // A user disconnects: not without saying that it is meant, and then it stays so.
    let disconnect = |force| Disconnect {
        node_id: bob_id.clone(),
        force,
    };
    let refused = alice.client.call(&disconnect(false)).await;
    let refused = refused.expect_err("there is a channel");
    assert_eq!(refused.code(), Some(ErrorCode::Refused));
    alice.client.call(&disconnect(true)).await.expect("done");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let resting = peer_of(&alice, &bob_id).await.expect("a channel peer");
    assert_eq!((resting.connected, &*resting.state), (false, "resting"));
    // After a restart too.
    let alice = Node::start(alice.stop().await).await.expect("again");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let resting = peer_of(&alice, &bob_id).await.expect("a channel peer");
    assert_eq!((resting.connected, &*resting.state), (false, "resting"));
    // Where it is, is known.
    connect(&alice, bob_id.clone()).await.expect("it is there");
    until_connected(&alice, &bob_id).await;

    // Who is away is looked for; and a user can stop that.
    let config = bob.stop().await;
    until("it is looked for", || async {
        let peer = peer_of(&alice, &bob_id).await.expect("a channel peer");
        peer.failures > 0 && matches!(&*peer.state, "waiting" | "dialling")
    })
    .await;
    let refused = alice.client.call(&disconnect(false)).await;
    assert!(refused.is_err());
    alice.client.call(&disconnect(true)).await.expect("done");
    let resting = peer_of(&alice, &bob_id).await.expect("a channel peer");
    assert_eq!(resting.state, "resting");
    let bob = Node::start(config).await.expect("it starts again");
    connect(&alice, bob.uri()).await.expect("it is there");

    // Bans are for those without channels.
    let ban = |node_id: &str, secs| Ban {
        node_id: node_id.to_owned(),
        secs,
    };
    let code = |error: fulmen_api::ClientError| error.code();
    let refused = alice.client.call(&ban(&bob_id, None)).await;
    assert_eq!(refused.map_err(code), Err(Some(ErrorCode::Refused)));
    let own = alice.client.call(&ban(&alice_id, None)).await;
    assert_eq!(own.map_err(code), Err(Some(ErrorCode::Invalid)));
    let nothing = alice.client.call(&ban(&carol_id, Some(0))).await;
    assert_eq!(nothing.map_err(code), Err(Some(ErrorCode::Invalid)));
    connect(&carol, alice.uri()).await.expect("not banned yet");
    alice
        .client
        .call(&ban(&carol_id, None))
        .await
        .expect("done");
    until("she is out", || async {
        peer_of(&alice, &carol_id)
            .await
            .is_none_or(|p| !p.connected)
    })
    .await;
    let banned = peers(&alice).await.banned;
    assert_eq!(banned.len(), 1);
    assert_eq!(
        (&banned[0].node_id, banned[0].by_user, banned[0].secs_left),
        (&carol_id, true, None)
    );
    // She gets through the handshake, and no further.
    let _ = connect(&carol, alice.uri()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        peer_of(&alice, &carol_id)
            .await
            .is_none_or(|p| !p.connected)
    );
    let unban = Unban {
        node_id: carol_id.clone(),
    };
    alice.client.call(&unban).await.expect("done");
    assert!(peers(&alice).await.banned.is_empty());
    connect(&carol, alice.uri()).await.expect("forgiven");
    alice
        .client
        .call(&ban(&carol_id, Some(3_600)))
        .await
        .expect("done");
    let left = peers(&alice).await.banned[0].secs_left.expect("an end");
    assert!((3_590..=3_600).contains(&left), "{left}");
    // Asking for her lifts it.
    connect(&alice, carol.uri()).await.expect("asked for");
    assert!(peers(&alice).await.banned.is_empty());
    let unknown = connect(&alice, alice_id.replace('a', "b")).await;
    assert_eq!(unknown, Err(ErrorCode::Invalid));
    for node in [alice, bob, carol] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_moves_is_found_by_its_new_announcement() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    let carol = chain.new_node(dir.path(), "carol").await;
    let bob_id = bob.daemon.node_id().to_string();
    alice.fund(&chain, 3_000_000).await;
    bob.fund(&chain, 3_000_000).await;
    carol.fund(&chain, 1_000_000).await;
    // Alice knows Bob's address, and Bob only Carol's: it is Alice who has to find him.
    open_channel(&chain, &alice, &bob, 1_000_000).await;
    open_channel(&chain, &bob, &carol, 1_000_000).await;
    connect(&alice, carol.uri()).await.expect("it listens");
    until("everybody knows the network", || async {
        alice.info().await.graph_channels == 2 && carol.info().await.graph_channels == 2
    })
    .await;

    let mut config = bob.stop().await;
    let old = config.listen;
    let place = std::net::TcpListener::bind(free_port()).expect("a port");
    config.listen = place.local_addr().expect("bound");
    drop(place);
    config.node.addresses = vec![NetAddress::from(config.listen)];
    assert_ne!(config.listen, old);
    let bob = Node::start(config).await.expect("it starts elsewhere");
    until_connected(&carol, &bob_id).await;
    until_connected(&alice, &bob_id).await;
    let seen = peer_of(&alice, &bob_id).await.expect("a channel peer");
    assert!(!seen.inbound, "it was Alice who came");
    assert_eq!(seen.address, Some(bob.daemon.listen_address().to_string()));
    for node in [alice, bob, carol] {
        node.stop().await;
    }
}
