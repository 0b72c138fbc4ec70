//! What the words bring back, and what a listener who comes back sees.

mod common;

use bitcoin::Network;
use common::{Devchain, Node, until};
use fulmen_api::{Invoice, NewAddress, Pay};
use fulmen_seed::{Birthday, Seed, SeedFile};
use fulmend::Config;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_words_bring_the_wallet_back() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let seed = Seed::generate().expect("randomness");
    SeedFile::create(&first, &seed, Birthday::Now, None).expect("new");
    let node = Node::start(chain.config(&first)).await.expect("it starts");
    let born = chain.height();
    node.fund(&chain, 400_000).await;
    // Addresses that were shown and not used leave gaps.
    for _ in 0..30 {
        node.client.call(&NewAddress {}).await.expect("an address");
    }
    node.fund(&chain, 50_000).await;
    let id = node.daemon.node_id();
    node.stop().await;
    chain.mine(150);

    let words = Seed::from_words(&seed.words()).expect("its own words");
    SeedFile::create(&second, &words, Birthday::Height(born), None).expect("new");
    let node = Node::start(chain.config(&second)).await.expect("it starts");
    assert_eq!(node.daemon.node_id(), id);
    until("the deposits are found", || async {
        node.balance().await.onchain_confirmed_sat == 450_000
    })
    .await;
    node.synced(&chain).await;
    // It goes on from there.
    node.fund(&chain, 1_000).await;
    node.stop().await;

    // Too late a birthday finds less: the configuration can name an earlier one.
    let third = dir.path().join("third");
    SeedFile::create(&third, &words, Birthday::Now, None).expect("new");
    let mut config: Config = chain.config(&third);
    assert_eq!(config.network(), Network::Regtest);
    config.wallet_birthday_height = Some(1);
    let node = Node::start(config).await.expect("it starts");
    until("the deposits are found", || async {
        node.balance().await.onchain_confirmed_sat == 451_000
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_resumes_where_it_was() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    for node in [&alice, &bob] {
        node.fund(&chain, 2_000_000).await;
    }
    common::open_channel(&chain, &alice, &bob, 1_000_000).await;

    // A listener that follows hears each as it happens.
    let mut stream = bob.client.events(1, true).await.expect("a stream");
    let mut seen = Vec::new();
    for number in 0..3u64 {
        let invoice = Invoice::of_msat(1_000 + number, "a test");
        let invoice = bob.client.call(&invoice).await.expect("made");
        alice
            .client
            .call(&Pay::new(invoice.bolt11))
            .await
            .expect("paid");
        loop {
            let event = stream.next().await.expect("it goes on").expect("an event");
            let text = serde_json::to_string(&event).expect("JSON");
            let is_payment = text.contains("payment_received");
            if is_payment {
                assert!(text.contains(&invoice.payment_hash), "{text}");
            }
            seen.push(event);
            if is_payment {
                break;
            }
        }
    }
    assert!(
        seen.iter()
            .map(|event| event.number)
            .eq(1..=seen.len() as u64)
    );

    // It ends with the daemon, and another goes on from the next number.
    let bob = Node::start(bob.stop().await).await.expect("again");
    assert!(stream.next().await.is_none_or(|event| event.is_err()));
    let next = seen.len() as u64 + 1;
    let mut stream = bob.client.events(next - 1, false).await.expect("a stream");
    let last = stream.next().await.expect("kept").expect("an event");
    assert_eq!(Some(&last), seen.last());
    until("they are connected again", || async {
        alice.channels().await.iter().all(|c| c.usable)
    })
    .await;
    let mut stream = bob.client.events(next, true).await.expect("a stream");
    let invoice = bob
        .client
        .call(&Invoice::of_msat(5_000, "after"))
        .await
        .expect("made");
    alice
        .client
        .call(&Pay::new(invoice.bolt11))
        .await
        .expect("paid");
    let event = stream.next().await.expect("it goes on").expect("an event");
    assert_eq!(event.number, next);
    alice.stop().await;
    bob.stop().await;
}
