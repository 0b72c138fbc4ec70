//! Invoices and the parts that pay them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use fulmen_onion::{FailureMessage, FailureSource, PaymentData, ReceivePayload, SharedSecret};
use fulmen_payments::{IncomingRef, Invoice, InvoiceStatus, Invoices, ReceivedHtlc, Resolution};
use fulmen_types::record::{Space, WriteBatch};
use fulmen_types::{
    BlockHeight, CltvExpiry, CltvExpiryDelta, HtlcId, Msat, PaymentHash, PaymentPreimage,
    PaymentSecret,
};
use std::collections::BTreeMap;

const FULL: u64 = 10_000_000;

struct Payee {
    invoices: Invoices,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
}

fn part(n: u64, amount: u64, total: u64) -> ReceivedHtlc {
    ReceivedHtlc {
        source: IncomingRef {
            channel: [3; 32],
            htlc: HtlcId::new(n),
        },
        amount: Msat::new(amount),
        payment_hash: PREIMAGE.payment_hash(),
        cltv_expiry: CltvExpiry::new(1_024),
        payload: ReceivePayload {
            amt_to_forward: Msat::new(amount),
            outgoing_cltv_value: CltvExpiry::new(1_024),
            payment_data: Some(PaymentData {
                payment_secret: SECRET,
                total_msat: Msat::new(total),
            }),
            payment_metadata: None,
            keysend_preimage: None,
            custom_tlvs: vec![],
        },
        shared_secret: SharedSecret::new([6; 32]),
    }
}

/// What a resolution says, by HTLC.
type Ends = Vec<(u64, Option<FailureMessage>)>;

impl Payee {
    fn new(invoice: Invoice) -> Self {
        let mut payee = Self {
            invoices: Invoices::new(),
            store: BTreeMap::new(),
        };
        let mut batch = WriteBatch::new();
        payee.invoices.create(invoice, &mut batch).unwrap();
        payee.save(&batch);
        payee
    }

    fn save(&mut self, batch: &WriteBatch) {
        for (record, value) in batch.iter() {
            assert_eq!(record.space, Space::Invoice);
            self.store
                .insert(record.key.clone(), value.unwrap().to_vec());
        }
        let records = self.store.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        let restored = Invoices::restore(records).unwrap();
        assert!(restored.iter().eq(self.invoices.iter()));
    }

    fn receive(&mut self, htlc: &ReceivedHtlc, now: u64) -> Ends {
        let mut batch = WriteBatch::new();
        let received = self.invoices.receive(htlc, secs(now), TIP, &mut batch);
        self.save(&batch);
        ends(received.resolutions)
    }
}

fn ends(resolutions: Vec<(IncomingRef, Resolution)>) -> Ends {
    resolutions
        .into_iter()
        .map(|(source, resolution)| {
            let message = match resolution {
                Resolution::Fulfil(preimage) => {
                    assert_eq!(preimage, PREIMAGE);
                    None
                }
                Resolution::Fail(packet) => {
                    let read = packet.decrypt(&[SharedSecret::new([6; 32])]);
                    let FailureSource::Hop { message, .. } = read.source else {
                        panic!()
                    };
                    Some(message)
                }
                Resolution::FailMalformed { .. } => panic!(),
            };
            (source.htlc.to_u64(), message)
        })
        .collect()
}

fn refused(n: u64, amount: u64) -> Ends {
    let message = FailureMessage::IncorrectOrUnknownPaymentDetails {
        htlc_msat: Msat::new(amount),
        height: TIP,
    };
    vec![(n, Some(message))]
}

#[test]
fn parts_are_taken_together_or_not_at_all() {
    let mut payee = Payee::new(invoice());
    assert_eq!(payee.receive(&part(1, 4_000_000, FULL), 5), []);
    // The same HTLC again, for instance after a restart, is the same part.
    assert_eq!(payee.receive(&part(1, 4_000_000, FULL), 6), []);
    // Another total is another payment.
    assert_eq!(
        payee.receive(&part(2, 4_000_000, FULL + 1), 6),
        refused(2, 4_000_000)
    );
    assert_eq!(
        payee.receive(&part(3, 6_000_000, FULL), 7),
        [(1, None), (3, None)]
    );
    let status = payee.invoices.get(&PREIMAGE.payment_hash()).unwrap().status;
    assert_eq!(
        status,
        InvoiceStatus::Paid {
            amount: Msat::new(FULL),
            at: secs(7)
        }
    );
    // It is paid once.
    assert_eq!(payee.receive(&part(4, FULL, FULL), 8), refused(4, FULL));
}

/// An invoice that two pay at once: two whole payments are never taken for one of twice the amount.
#[test]
fn of_two_who_pay_the_whole_the_first_has_paid() {
    let mut payee = Payee::new(invoice());
    assert_eq!(payee.receive(&part(1, FULL, FULL), 5), [(1, None)]);
    assert_eq!(payee.receive(&part(2, FULL, FULL), 5), refused(2, FULL));
    let status = payee.invoices.get(&PREIMAGE.payment_hash()).unwrap().status;
    let (amount, at) = (Msat::new(FULL), secs(5));
    assert_eq!(status, InvoiceStatus::Paid { amount, at });
    // Nor after a restart.
    let records: Vec<_> = payee.store.clone().into_iter().collect();
    let records = records.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
    payee.invoices = Invoices::restore(records).unwrap();
    assert_eq!(payee.receive(&part(2, FULL, FULL), 6), refused(2, FULL));
    // A payer in parts and one of the whole: HTLCs that are there together are one set, all of it or nothing.
    let mut payee = Payee::new(invoice());
    assert_eq!(payee.receive(&part(1, 4_000_000, FULL), 5), []);
    assert_eq!(
        payee.receive(&part(2, FULL, FULL), 5),
        [(1, None), (2, None)]
    );
    assert_eq!(
        payee.receive(&part(3, 6_000_000, FULL), 5),
        refused(3, 6_000_000)
    );
}

/// A node on the way that gives more than it should can't make us show the preimage before the last part.
#[test]
fn more_than_was_meant_does_not_complete_a_payment() {
    let mut payee = Payee::new(invoice());
    let mut generous = part(1, 4_000_000, FULL);
    generous.amount = Msat::new(7_000_000);
    assert_eq!(payee.receive(&generous, 5), []);
    assert_eq!(payee.receive(&part(2, 3_000_000, FULL), 5), []);
    assert_eq!(
        payee.receive(&part(3, 3_000_000, FULL), 5),
        [(1, None), (2, None), (3, None)]
    );
    let status = payee.invoices.get(&PREIMAGE.payment_hash()).unwrap().status;
    let (amount, at) = (Msat::new(13_000_000), secs(5));
    assert_eq!(status, InvoiceStatus::Paid { amount, at });
}

#[test]
fn parts_that_stay_alone_are_given_back_after_a_minute() {
    let mut payee = Payee::new(invoice());
    assert_eq!(payee.receive(&part(1, 4_000_000, FULL), 5), []);
    assert_eq!(payee.receive(&part(2, 4_000_000, FULL), 50), []);
    assert_eq!(payee.invoices.next_wake(), Some(secs(65)));
    assert!(payee.invoices.tick(secs(64), TIP).resolutions.is_empty());
    let late = payee.invoices.tick(secs(65), TIP).resolutions;
    let timeout = || Some(FailureMessage::MppTimeout);
    assert_eq!(ends(late), [(1, timeout()), (2, timeout())]);
    // The payer may try again.
    assert_eq!(payee.receive(&part(3, FULL, FULL), 70), [(3, None)]);
}

#[test]
fn parts_are_given_back_before_their_expiry_is_near() {
    let mut payee = Payee::new(invoice());
    assert_eq!(payee.receive(&part(1, 4_000_000, FULL), 5), []);
    let at = |payee: &mut Payee, height| {
        payee
            .invoices
            .tick(secs(6), BlockHeight::new(height))
            .resolutions
            .len()
    };
    assert_eq!(at(&mut payee, 1_006), 0);
    assert_eq!(at(&mut payee, 1_007), 1);
}

#[test]
fn what_does_not_fit_the_invoice_is_refused_alike() {
    let mut payee = Payee::new(invoice());
    let good = part(1, FULL, FULL);
    let data = good.payload.payment_data.unwrap();
    let with_data = |payment_data| ReceivedHtlc {
        payload: ReceivePayload {
            payment_data,
            ..good.payload.clone()
        },
        ..good.clone()
    };
    let wrong = PaymentData {
        payment_secret: PaymentSecret::new([9; 32]),
        ..data
    };
    let bad = [
        with_data(None),
        with_data(Some(wrong)),
        with_data(Some(PaymentData {
            total_msat: Msat::new(FULL - 1),
            ..data
        })),
        with_data(Some(PaymentData {
            total_msat: Msat::new(2 * FULL + 1),
            ..data
        })),
        ReceivedHtlc {
            payment_hash: PaymentHash::new([1; 32]),
            ..good.clone()
        },
        ReceivedHtlc {
            cltv_expiry: CltvExpiry::new(1_017),
            payload: ReceivePayload {
                outgoing_cltv_value: CltvExpiry::new(1_017),
                ..good.payload.clone()
            },
            ..good.clone()
        },
        ReceivedHtlc {
            cltv_expiry: CltvExpiry::new(3_017),
            ..good.clone()
        },
    ];
    for (i, htlc) in bad.iter().enumerate() {
        assert_eq!(payee.receive(htlc, 5), refused(1, FULL), "{i}");
    }
    assert_eq!(payee.receive(&good, 3_600), refused(1, FULL), "expired");
    // What the hop before did wrong is said so.
    let less = ReceivedHtlc {
        amount: Msat::new(FULL - 1),
        ..good.clone()
    };
    assert!(matches!(
        payee.receive(&less, 5)[0].1,
        Some(FailureMessage::FinalIncorrectHtlcAmount { .. })
    ));
    let sooner = ReceivedHtlc {
        cltv_expiry: CltvExpiry::new(1_023),
        ..good.clone()
    };
    assert!(matches!(
        payee.receive(&sooner, 5)[0].1,
        Some(FailureMessage::FinalIncorrectCltvExpiry { .. })
    ));
    // Twice the amount is still taken.
    assert_eq!(payee.receive(&part(1, 2 * FULL, 2 * FULL), 5), [(1, None)]);
}

/// A payer's tip may be behind ours; what is safe is taken, and not a block less.
#[test]
fn a_payer_that_is_some_blocks_behind_is_not_refused() {
    let expiring_at = |height| {
        let mut htlc = part(1, FULL, FULL);
        htlc.cltv_expiry = CltvExpiry::new(height);
        htlc.payload.outgoing_cltv_value = htlc.cltv_expiry;
        htlc
    };
    for (asked, least) in [(18, 18), (20, 18), (24, 18), (36, 30)] {
        let new = || {
            Payee::new(Invoice {
                min_final_cltv_expiry_delta: CltvExpiryDelta::new(asked),
                ..invoice()
            })
        };
        let last = expiring_at(TIP.to_u32() + least);
        assert_eq!(new().receive(&last, 5), [(1, None)], "{asked}");
        let sooner = expiring_at(TIP.to_u32() + least - 1);
        assert_eq!(new().receive(&sooner, 5), refused(1, FULL), "{asked}");
    }
}

#[test]
fn an_invoice_without_amount_takes_what_it_gets() {
    let mut payee = Payee::new(Invoice {
        amount: None,
        ..invoice()
    });
    assert_eq!(payee.receive(&part(1, 1, 1), 5), [(1, None)]);
}

#[test]
fn a_withdrawn_invoice_gives_its_parts_back() {
    let mut payee = Payee::new(invoice());
    payee.receive(&part(1, 4_000_000, FULL), 5);
    let mut batch = WriteBatch::new();
    let hash = PREIMAGE.payment_hash();
    let received = payee.invoices.cancel(hash, TIP, &mut batch).unwrap();
    payee.save(&batch);
    assert_eq!(ends(received.resolutions), refused(1, 4_000_000));
    assert!(payee.invoices.cancel(hash, TIP, &mut batch).is_err());
    assert_eq!(payee.receive(&part(2, FULL, FULL), 6), refused(2, FULL));
}

#[test]
fn invoices_that_make_no_sense_are_not_made() {
    let mut payee = Payee::new(invoice());
    let mut batch = WriteBatch::new();
    let other = PaymentPreimage::new([1; 32]);
    let bad = [
        invoice(),
        Invoice {
            preimage: other,
            amount: Some(Msat::ZERO),
            ..invoice()
        },
        Invoice {
            preimage: other,
            amount: Some(Msat::MAX),
            ..invoice()
        },
        Invoice {
            preimage: other,
            min_final_cltv_expiry_delta: CltvExpiryDelta::new(17),
            ..invoice()
        },
    ];
    for invoice in bad {
        assert!(payee.invoices.create(invoice, &mut batch).is_err());
    }
    assert!(batch.is_empty());
}
