//! Three daemons in a line: many payments at once over two hops, a restart in the middle of them, and a
//! forced close whose outputs come home.

mod common;

use std::time::Instant;

use common::{Devchain, Node, open_channel, until};
use fulmen_api::{CloseChannel, EventKind, FindRoute, HopKnowledge, Invoice, Pay, PaymentState};

const PAYMENTS: usize = 120;
const AMOUNT_MSAT: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_payments_at_once_survive_a_restart_on_their_way() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let alice = chain.new_node(dir.path(), "alice").await;
    let bob = chain.new_node(dir.path(), "bob").await;
    let carol = chain.new_node(dir.path(), "carol").await;
    for node in [&alice, &bob, &carol] {
        node.fund(&chain, 20_000_000).await;
    }
    let first = open_channel(&chain, &alice, &bob, 5_000_000).await;
    open_channel(&chain, &bob, &carol, 5_000_000).await;
    until("alice knows both channels", || async {
        alice.info().await.graph_policies == 4
    })
    .await;

    let known = || async {
        let invoice = Invoice::of_msat(AMOUNT_MSAT, "what it would cost");
        let invoice = carol.client.call(&invoice).await.expect("made");
        let to = FindRoute {
            to: invoice.bolt11,
            amount_msat: None,
            max_fee_msat: None,
        };
        let found = alice.client.call(&to).await.expect("there is a way");
        assert_eq!(found.fee_msat, 1_000 + AMOUNT_MSAT / 10_000, "bob's fee");
        let [part] = &found.parts[..] else {
            panic!("one HTLC is enough: {found:?}");
        };
        assert_eq!(part.hops.len(), 2);
        assert_eq!(part.hops[0].known, HopKnowledge::Own);
        assert!(part.hops[1].alias.is_some());
        part.hops[1].known.clone()
    };
    assert_eq!(
        known().await,
        HopKnowledge::Capacity {
            capacity_msat: 5_000_000_000
        }
    );

    let mut invoices = Vec::new();
    for number in 0..PAYMENTS {
        let invoice = Invoice::of_msat(AMOUNT_MSAT, format!("payment {number}"));
        invoices.push(carol.client.call(&invoice).await.expect("made").bolt11);
    }
    let started = Instant::now();
    let mut paying = tokio::task::JoinSet::new();
    for invoice in invoices.clone() {
        let client = alice.client.clone();
        paying.spawn(async move {
            // It may take long on a busy machine, a restart included.
            client
                .call(&Pay {
                    timeout_secs: Some(300),
                    ..Pay::new(invoice)
                })
                .await
        });
    }
    until("some have arrived", || async {
        carol.info().await.last_event > 12
    })
    .await;
    let bob = Node::start(bob.stop().await).await.expect("again");
    while let Some(paid) = paying.join_next().await {
        let paid = paid.expect("no panic").expect("answered");
        assert_eq!(paid.state, PaymentState::Succeeded, "{paid:?}");
        assert_eq!(
            paid.fee_msat,
            Some(1_000 + AMOUNT_MSAT / 10_000),
            "bob's fee"
        );
    }
    eprintln!("{PAYMENTS} payments in {:?}", started.elapsed());

    // Each was paid once, and nothing is missing.
    let sent = PAYMENTS as u64 * AMOUNT_MSAT;
    let fees = PAYMENTS as u64 * (1_000 + AMOUNT_MSAT / 10_000);
    until("no HTLC is left", || async {
        let mut channels = alice.channels().await;
        channels.extend(bob.channels().await);
        channels.extend(carol.channels().await);
        channels.iter().all(|c| c.htlcs_in + c.htlcs_out == 0)
    })
    .await;
    assert_eq!(
        alice.balance().await.channels_msat,
        5_000_000_000 - sent - fees
    );
    assert_eq!(bob.balance().await.channels_msat, 5_000_000_000 + fees);
    assert_eq!(carol.balance().await.channels_msat, sent);
    let listed = alice.client.all_payments().await.expect("a list");
    assert_eq!(listed.len(), PAYMENTS);
    assert!(listed.iter().all(|p| p.state == PaymentState::Succeeded));
    let paid_twice = alice
        .client
        .call(&Pay::new(&invoices[0]))
        .await
        .expect("known");
    assert_eq!(paid_twice.state, PaymentState::Succeeded);
    assert_eq!(
        alice.balance().await.channels_msat,
        5_000_000_000 - sent - fees
    );

    // What the payments took from bob's channel is known.
    assert!(matches!(
        known().await,
        HopKnowledge::Tried { most_msat, .. } if most_msat < 5_000_000_000
    ));

    // Bob is gone: alice closes alone and gets all of hers back.
    bob.stop().await;
    let before = alice.balance().await;
    let close = CloseChannel {
        channel: first.clone(),
        force: true,
        address: None,
        feerate_sat_per_vb: None,
    };
    alice.client.call(&close).await.expect("begun");
    until("the commitment is in the mempool", || async {
        !chain.mempool_is_empty()
    })
    .await;
    chain.mine(1);
    until("the balance says what is coming back", || async {
        alice.balance().await.sweeping_sat > 4_800_000
    })
    .await;
    assert_eq!(alice.balance().await.channels_msat, 0);
    // Bob's delay of 144 blocks, and a few for the sweep.
    for _ in 0..15 {
        chain.mine(10);
        alice.synced(&chain).await;
    }
    until("the sweep is in the mempool", || async {
        !chain.mempool_is_empty()
    })
    .await;
    chain.mine(1);
    until("all is home", || async {
        let now = alice.balance().await;
        now.sweeping_sat == 0
            && now.onchain_confirmed_sat
                > before.onchain_confirmed_sat + before.channels_msat / 1_000 - 20_000
    })
    .await;
    let mut stream = alice.client.events(1, false).await.expect("a stream");
    let mut kinds = Vec::new();
    while let Some(event) = stream.next().await {
        kinds.push(event.expect("an event").kind);
    }
    assert!(
        kinds
            .iter()
            .any(|k| matches!(k, EventKind::ChannelClosing { forced: true, .. }))
    );
    assert!(kinds.iter().any(|k| matches!(k, EventKind::Swept { .. })));
    alice.stop().await;
    carol.stop().await;
}
