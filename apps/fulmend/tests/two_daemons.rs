//! Two daemons: open, pay both ways, restart, close.

mod common;

use common::{Devchain, Node, open_channel, until};
use fulmen_api::{
    CloseChannel, ErrorCode, EventKind, Invoice, ListInvoices, ListPayments, NewAddress, Pay,
    PaymentState, Withdraw,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_pay_restart_pay_close() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    for node in [&alice, &bob] {
        let mode = node.daemon.sync_mode();
        assert_eq!((mode.journal_mode.as_str(), mode.synchronous), ("wal", 2));
    }
    alice.fund(&chain, 10_000_000).await;
    bob.fund(&chain, 1_000_000).await;
    let channel = open_channel(&chain, &alice, &bob, 2_000_000).await;

    // There and back.
    let paid = pay(&alice, &bob, 700_000_123).await;
    assert_eq!((paid.amount_msat, paid.fee_msat), (700_000_123, Some(0)));
    pay(&bob, &alice, 100_000_000).await;

    // The same invoice again gives the payment that there is.
    let invoice = bob
        .client
        .call(&Invoice::of_msat(5_000, "twice"))
        .await
        .expect("made");
    let first = alice
        .client
        .call(&Pay::new(&invoice.bolt11))
        .await
        .expect("paid");
    let again = alice
        .client
        .call(&Pay::new(&invoice.bolt11))
        .await
        .expect("known");
    assert_eq!(first, again);
    let listed = alice
        .client
        .call(&ListPayments::default())
        .await
        .expect("a list")
        .payments;
    assert_eq!(listed.len(), 2);
    let one = ListInvoices {
        payment_hash: Some(invoice.payment_hash[..10].to_owned()),
        ..ListInvoices::default()
    };
    let one = bob.client.call(&one).await.expect("a list").invoices;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].received_msat, Some(5_000));

    // A command with a key of its own is done once.
    let command = Invoice::of_msat(1_000, "once");
    let once = bob.client.call_once("key 1", &command).await.expect("made");
    let again = bob.client.call_once("key 1", &command).await.expect("made");
    let other = bob.client.call_once("key 2", &command).await.expect("made");
    assert_eq!(once, again);
    assert_ne!(once, other);

    // So money is sent once, however often it is asked for.
    let address = bob.client.call(&NewAddress {}).await.expect("one").address;
    let withdraw = Withdraw {
        address,
        amount_sat: Some(100_000),
        feerate_sat_per_vb: None,
    };
    let sent = alice.client.call_once("key 3", &withdraw).await;
    let sent = sent.expect("money");
    let again = alice.client.call_once("key 3", &withdraw).await;
    assert_eq!(again.expect("the same"), sent);
    until("bob sees it before it confirms", || async {
        bob.balance().await.onchain_unconfirmed_sat == 100_000
    })
    .await;
    chain.mine(1);

    // Both restart, and go on.
    let before = alice.balance().await;
    let alice_config = alice.stop().await;
    let bob_config = bob.stop().await;
    let bob = Node::start(bob_config).await.expect("again");
    let alice = Node::start(alice_config).await.expect("again");
    until("they are connected again", || async {
        alice.channels().await.iter().all(|c| c.usable)
            && bob.channels().await.iter().all(|c| c.usable)
    })
    .await;
    assert_eq!(alice.balance().await.channels_msat, before.channels_msat);
    pay(&alice, &bob, 1_000).await;

    // Events are numbered without gaps and can be read from anywhere.
    let events = all_events(&alice, 1).await;
    assert!(events.iter().map(|e| e.number).eq(1..=events.len() as u64));
    assert!(
        events
            .iter()
            .any(|e| matches!(e.kind, EventKind::ChannelReady { .. }))
    );
    let sent = events
        .iter()
        .filter(|e| matches!(e.kind, EventKind::PaymentSucceeded { .. }));
    assert_eq!(sent.count(), 3);
    assert_eq!(all_events(&alice, 3).await, events[2..]);

    // Together to the end.
    let close = CloseChannel {
        channel: channel.clone(),
        force: false,
        address: None,
        feerate_sat_per_vb: None,
    };
    alice.client.call(&close).await.expect("begun");
    until("the closing transaction is in the mempool", || async {
        !chain.mempool_is_empty()
    })
    .await;
    chain.mine(1);
    until("both have their money", || async {
        let (a, b) = (alice.balance().await, bob.balance().await);
        a.channels_msat == 0
            && b.channels_msat == 0
            && a.onchain_confirmed_sat > 9_290_000
            && b.onchain_confirmed_sat > 1_699_000
    })
    .await;
    let (a, b) = (alice.balance().await, bob.balance().await);
    let total = a.onchain_confirmed_sat + b.onchain_confirmed_sat;
    // What is missing went to miners: the fees of funding and closing transaction.
    assert!((10_990_000..11_000_000).contains(&total), "{total}");

    let gone = alice
        .client
        .call(&CloseChannel {
            channel: "0".repeat(64),
            ..close
        })
        .await;
    assert_eq!(
        gone.expect_err("no such channel").code(),
        Some(ErrorCode::UnknownChannel)
    );
    alice.stop().await;
    bob.stop().await;
}

async fn pay(from: &Node, to: &Node, amount_msat: u64) -> fulmen_api::PaymentInfo {
    let invoice = to
        .client
        .call(&Invoice::of_msat(amount_msat, "a test"))
        .await
        .expect("made");
    let payment = from
        .client
        .call(&Pay::new(invoice.bolt11))
        .await
        .expect("answered");
    assert_eq!(payment.state, PaymentState::Succeeded, "{payment:?}");
    assert_eq!(payment.payment_hash, invoice.payment_hash);
    payment
}

async fn all_events(node: &Node, from: u64) -> Vec<fulmen_api::Event> {
    let mut stream = node.client.events(from, false).await.expect("a stream");
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event.expect("an event"));
    }
    events
}
