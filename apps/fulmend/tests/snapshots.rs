//! Rapid gossip sync: one daemon's snapshot is all that another knows of the network, and it pays over it.

mod common;

use common::{Devchain, Node, create_seed, open_channel, until};
use fulmen_api::{Connect, GetInfo, Invoice, Pay, PaymentState};
use fulmend::publish_snapshots;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_over_a_network_that_only_a_snapshot_tells_of() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    // Alice and bob have a public channel. Their gossip is what the snapshot is made of.
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    alice.fund(&chain, 10_000_000).await;
    bob.fund(&chain, 1_000_000).await;
    open_channel(&chain, &alice, &bob, 2_000_000).await;
    chain.mine(6);
    until("both ends have announced it", || async {
        let info = alice.client.call(&GetInfo {}).await.expect("it answers");
        info.graph_channels == 1 && info.graph_policies == 2
    })
    .await;
    let alice_config = alice.stop().await;
    let served = dir.path().join("served");
    publish_snapshots(&alice_config, &served).expect("made");
    publish_snapshots(&alice_config, &served).expect("made again");
    let alice = Node::start(alice_config).await.expect("again");
    until("alice and bob are connected again", || async {
        alice.channels().await.iter().all(|c| c.usable)
    })
    .await;

    // Carol takes no gossip from anybody: she is connected to nobody yet.
    let data_dir = dir.path().join("carol");
    create_seed(&data_dir);
    let mut config = chain.config(&data_dir);
    let source = served.join("v2/snapshot").display().to_string();
    config.rapid_gossip_sync = Some(source.parse().expect("a path"));
    let carol = Node::start(config).await.expect("it starts");
    until("carol knows the channel", || async {
        let info = carol.client.call(&GetInfo {}).await.expect("it answers");
        info.graph_channels == 1 && info.graph_policies == 2
    })
    .await;

    carol.fund(&chain, 5_000_000).await;
    carol
        .client
        .call(&Connect { peer: alice.uri() })
        .await
        .expect("connected");
    open_channel(&chain, &carol, &alice, 1_000_000).await;
    let invoice = bob
        .client
        .call(&Invoice::of_msat(100_000_000, "over alice"))
        .await
        .expect("made");
    let paid = carol.client.call(&Pay::new(&invoice.bolt11)).await;
    let paid = paid.expect("paid");
    assert_eq!(paid.state, PaymentState::Succeeded);
    assert!(paid.fee_msat.is_some_and(|fee| fee > 0), "alice forwarded");

    // What was learned so is there after a restart.
    let config = carol.stop().await;
    let carol = Node::start(config).await.expect("again");
    let info = carol.client.call(&GetInfo {}).await.expect("it answers");
    assert!(info.graph_channels >= 1);
    for node in [alice, bob, carol] {
        node.stop().await;
    }
}
