//! Lists: pages in order of time, out of memory and store alike, and as fast with many entries as with
//! few.

mod common;

use std::{collections::BTreeSet, time::Instant};

use common::{Devchain, Node, strangers_invoice};
use fulmen_api::{ErrorCode, Invoice, ListInvoices, ListPayments, Pay, PaymentInfo, PaymentState};
use fulmen_invoice::Currency;
use fulmen_payments::Payment;
use fulmen_persister::{SqliteStore, Store};
use fulmen_types::{
    PaymentHash, Timestamp,
    record::{Space, WriteBatch},
};

/// More than any page.
const OLD: u64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_go_from_the_newest_to_the_oldest() {
    common::log();
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let node = chain.new_node(dir.path(), "node").await;

    // Payments that find no way end at once, and are in the store from then on.
    let invoices: Vec<String> = (0u8..7)
        .map(|n| strangers_invoice(Currency::Regtest, 0, &[n]))
        .collect();
    for invoice in &invoices {
        let paid = node
            .client
            .call(&Pay::new(invoice))
            .await
            .expect("answered");
        assert_eq!(paid.state, PaymentState::Failed, "{paid:?}");
    }
    let all = node.client.all_payments().await.expect("a list");
    assert_eq!(all.len(), 7);
    let mut seen = Vec::new();
    let mut request = ListPayments {
        limit: Some(3),
        ..ListPayments::default()
    };
    loop {
        let page = node.client.call(&request).await.expect("a page");
        assert!(page.payments.len() <= 3);
        seen.extend(page.payments);
        match page.next {
            Some(next) => request.before = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, all);
    assert!(all.is_sorted_by_key(|p| std::cmp::Reverse(p.created_at_millis)));

    // Tried again, the one that failed is listed once, where the new try belongs.
    let oldest = all.last().expect("seven").clone();
    node.client
        .call(&Pay::new(&invoices[0]))
        .await
        .expect("answered");
    let again = node.client.all_payments().await.expect("a list");
    assert_eq!(again.len(), 7);
    assert_eq!(again[0].payment_hash, oldest.payment_hash);
    assert!(again[0].created_at_millis > oldest.created_at_millis);

    // One by the beginning of its hash, and what makes no sense.
    let ask = |payment_hash: &str| {
        let request = ListPayments {
            payment_hash: Some(payment_hash.into()),
            ..ListPayments::default()
        };
        let client = node.client.clone();
        async move { client.call(&request).await }
    };
    for digits in [8, 9, 64] {
        let one = ask(&oldest.payment_hash[..digits]).await.expect("a list");
        assert_eq!(one.payments.len(), 1, "{digits} digits");
        assert_eq!(one.payments[0].payment_hash, oldest.payment_hash);
    }
    assert!(
        ask(&"0".repeat(64))
            .await
            .expect("a list")
            .payments
            .is_empty()
    );
    for wrong in ["1234567", "nonsense-nonsense", &"0".repeat(65)] {
        let refused = ask(wrong).await.expect_err("no hash");
        assert_eq!(refused.code(), Some(ErrorCode::Invalid), "{wrong}");
    }
    let wrong = ListInvoices {
        before: Some("1234".into()),
        ..ListInvoices::default()
    };
    let refused = node.client.call(&wrong).await.expect_err("no cursor");
    assert!(refused.to_string().contains("`next`"), "{refused}");

    // Open invoices are in memory; their pages are the same.
    let mut made = BTreeSet::new();
    for number in 0..5 {
        let invoice = Invoice::of_msat(1_000 + number, "a test");
        made.insert(node.client.call(&invoice).await.expect("made").payment_hash);
    }
    let first = ListInvoices {
        limit: Some(4),
        ..ListInvoices::default()
    };
    let first = node.client.call(&first).await.expect("a page");
    assert_eq!(first.invoices.len(), 4);
    let second = ListInvoices {
        before: first.next.clone(),
        ..ListInvoices::default()
    };
    let second = node.client.call(&second).await.expect("a page");
    assert_eq!((second.invoices.len(), second.next), (1, None));
    let listed = first.invoices.iter().chain(&second.invoices);
    assert_eq!(
        listed
            .map(|i| i.payment_hash.clone())
            .collect::<BTreeSet<_>>(),
        made
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_costs_the_same_however_long_the_list() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let node = chain.new_node(dir.path(), "node").await;
    let invoice = strangers_invoice(Currency::Regtest, 0, b"one");
    let paid = node
        .client
        .call(&Pay::new(&invoice))
        .await
        .expect("answered");
    let config = node.stop().await;
    fill(&config.data_dir.join("node.sqlite"), &paid);

    let begun = Instant::now();
    let node = Node::start(config).await.expect("it starts");
    eprintln!("start with {OLD} payments: {:?}", begun.elapsed());
    let begun = Instant::now();
    let page = node
        .client
        .call(&ListPayments::default())
        .await
        .expect("a page");
    eprintln!("the first page of {OLD}: {:?}", begun.elapsed());
    assert_eq!(page.payments.len(), 100);
    assert_eq!(page.payments[0].payment_hash, paid.payment_hash);
    assert_eq!(page.payments[1].created_at_millis, OLD - 1);
    let begun = Instant::now();
    assert_eq!(
        node.client.all_payments().await.expect("a list").len() as u64,
        OLD + 1
    );
    eprintln!("all {OLD}: {:?}", begun.elapsed());
    node.stop().await;
}

/// Puts old payments into the store of a stopped node, as the node would have.
fn fill(path: &std::path::Path, like: &PaymentInfo) {
    let mut store = SqliteStore::open(path).expect("free");
    let hash: PaymentHash = like.payment_hash.parse().expect("a hash");
    let key = fulmen_types::record::RecordKey::new(Space::PaymentArchive, *hash.as_bytes());
    let record = store.get(&key).expect("readable").expect("archived");
    let mut payment = Payment::from_record(&record).expect("readable");
    let mut batch = WriteBatch::new();
    for number in 0..OLD {
        let mut hash = [0; 32];
        // Scattered, as hashes are.
        hash[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        payment.request.payment_hash = PaymentHash::new(hash);
        payment.created_at = Timestamp::new(number);
        fulmen_payments::archive(
            [Space::Payment, Space::PaymentArchive, Space::PaymentByTime],
            &payment.request.payment_hash,
            payment.created_at,
            payment.to_record(),
            &mut batch,
        );
    }
    let at = store.position().expect("readable");
    store
        .append(at.writer_epoch, at.next_seq(), &[batch])
        .expect("room");
}
