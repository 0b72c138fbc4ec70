//! Payments over a small network, with real onions and without channels: the tests carry HTLCs by hand.
//! After every step the machine's memory is compared with its records.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use fulmen_onion::{FailureMessage, FailureSource, ReturnPacket};
use fulmen_payments::{
    Asked, FailureReason, HtlcLink, IncomingRef, Invoices, NewHtlc, OutgoingFailure, PayError,
    PayRequest, Payment, PaymentStatus, ReceivedHtlc, Refusal, Resolution, RouteReport, fail,
    fail_upstream,
};
use fulmen_router::{NoRoute, RouteOutcome};
use fulmen_types::record::WriteBatch;
use fulmen_types::{HtlcId, Msat, PaymentPreimage, ShortChannelId};
use std::collections::BTreeSet;

#[test]
fn a_payment_goes_over_two_hops_and_its_preimage_comes_back() {
    let mut payer = Payer::new();
    let wanted = payer.pay();
    let [htlc] = wanted.htlcs.as_slice() else {
        panic!("{wanted:?}")
    };
    assert_eq!(htlc.short_channel_id, scid(12));
    let (_, next, at_payee) = forward(2, &offered(htlc), 1_000);
    assert_eq!(next, scid(24));

    let (shared_secret, asked) = peel(4, &at_payee);
    let Asked::Receive(payload) = asked else {
        panic!("{asked:?}")
    };
    assert_eq!(payload.payment_metadata, Some(vec![1, 2, 3]));
    let mut invoices = Invoices::new();
    let mut batch = WriteBatch::new();
    invoices.create(invoice(), &mut batch).unwrap();
    let source = IncomingRef {
        channel: [1; 32],
        htlc: HtlcId::new(0),
    };
    let received = invoices.receive(
        &ReceivedHtlc {
            source,
            amount: at_payee.amount,
            payment_hash: at_payee.payment_hash,
            cltv_expiry: at_payee.cltv_expiry,
            payload,
            shared_secret,
        },
        secs(2),
        TIP,
        &mut batch,
    );
    assert_eq!(
        received.resolutions,
        [(source, Resolution::Fulfil(PREIMAGE))]
    );
    assert_eq!(received.paid.unwrap().amount, Msat::new(10_000_000));

    payer.restart();
    let link = htlc.link;
    let wanted = payer.step(|m, now, batch| m.htlc_fulfilled(&link, PREIMAGE, now, batch));
    assert_eq!(wanted.done, [PREIMAGE.payment_hash()]);
    // The router hears what went through.
    let [report] = wanted.learned.as_slice() else {
        panic!("{wanted:?}")
    };
    assert_eq!(report.outcome, RouteOutcome::Settled);
    assert_eq!(channels(report), [scid(12), scid(24)]);
    assert_eq!(report.hops[1].amount, Msat::new(10_000_000));
    let paid = PaymentStatus::Succeeded {
        preimage: PREIMAGE,
        fee: Msat::new(2_000),
        at: secs(1),
    };
    assert_eq!(payer.status(), paid);
    // Asked for again it is not paid again; the same news again is no news.
    assert!(payer.pay().htlcs.is_empty());
    assert!(
        payer
            .step(|m, now, b| m.htlc_fulfilled(&link, PREIMAGE, now, b))
            .done
            .is_empty()
    );
    payer.restart();
    assert_eq!(payer.status(), paid);
    assert_eq!(payer.machine.in_flight(), 0);
}

fn channels(report: &RouteReport) -> Vec<ShortChannelId> {
    report.hops.iter().map(|hop| hop.short_channel_id).collect()
}

/// What a hop fails for other reasons than room tells of the channels up to it, and of no other.
#[test]
fn a_node_that_fails_an_htlc_has_got_it() {
    for (failure, known) in [
        (FailureMessage::TemporaryNodeFailure, vec![scid(12)]),
        (FailureMessage::UnknownNextPeer, vec![scid(12)]),
    ] {
        let mut payer = Payer::new();
        let wanted = payer.pay();
        let htlc = &wanted.htlcs[0];
        let (secret, ..) = forward(2, &offered(htlc), 1_000);
        let failure = OutgoingFailure::Packet(packet(fail(&secret, &failure)));
        let wanted = payer.failed(htlc.link, failure);
        let [report] = wanted.learned.as_slice() else {
            panic!("{wanted:?}")
        };
        assert_eq!(report.outcome, RouteOutcome::Reached);
        assert_eq!(channels(report), known);
    }
    // What never left, or can't be read, tells nothing.
    let mut payer = Payer::new();
    let link = payer.pay().htlcs[0].link;
    let wanted = payer.failed(link, OutgoingFailure::NotSent);
    assert!(wanted.learned.is_empty());
}

#[test]
fn a_failure_at_a_hop_leads_around_it() {
    let mut payer = Payer::new();
    let wanted = payer.pay();
    let htlc = &wanted.htlcs[0];
    let (secret, ..) = forward(2, &offered(htlc), 1_000);
    let failure = FailureMessage::TemporaryChannelFailure {
        channel_update: vec![],
    };
    let failure = OutgoingFailure::Packet(packet(fail(&secret, &failure)));
    payer.restart();
    let wanted = payer.failed(htlc.link, failure.clone());
    let [second] = wanted.htlcs.as_slice() else {
        panic!("{wanted:?}")
    };
    assert_eq!(second.short_channel_id, scid(13));
    assert_ne!(second.link, htlc.link);
    let [report] = wanted.learned.as_slice() else {
        panic!("{wanted:?}")
    };
    assert_eq!(report.outcome, RouteOutcome::RefusedAt(1));
    assert_eq!(channels(report), [scid(12), scid(24)]);
    // News of the first attempt changes nothing any more.
    assert!(payer.failed(htlc.link, failure).htlcs.is_empty());

    // The payee's word is final, also through a hop that wraps it.
    let (secret_3, _, at_payee) = forward(3, &offered(second), 5_000);
    let (secret_4, _) = peel(4, &at_payee);
    let refusal = FailureMessage::IncorrectOrUnknownPaymentDetails {
        htlc_msat: at_payee.amount,
        height: TIP,
    };
    let from_payee = OutgoingFailure::Packet(packet(fail(&secret_4, &refusal)));
    let at_payer = packet(fail_upstream(&secret_3, from_payee, &[]));
    let read = at_payer.clone().decrypt(&[secret_3, secret_4]);
    assert!(matches!(read.source, FailureSource::Hop { hop: 1, .. }));
    let wanted = payer.failed(second.link, OutgoingFailure::Packet(at_payer));
    assert_eq!(wanted.done, [PREIMAGE.payment_hash()]);
    let PaymentStatus::Failed { reason, .. } = payer.status() else {
        panic!()
    };
    assert_eq!(reason, FailureReason::Rejected);
    let [report] = wanted.learned.as_slice() else {
        panic!("{wanted:?}")
    };
    assert_eq!(report.outcome, RouteOutcome::Reached);
    assert_eq!(channels(report), [scid(13), scid(34)]);
    // It can be tried anew.
    assert_eq!(payer.pay().htlcs.len(), 1);
    assert_eq!(payer.status(), PaymentStatus::Pending);
}

#[test]
fn when_all_paths_fail_for_now_it_tries_again_later_until_its_time_is_over() {
    let mut payer = Payer::new();
    let mut htlcs = payer.pay().htlcs;
    let mut tries = vec![];
    let mut done = vec![];
    while done.is_empty() {
        while let Some(htlc) = htlcs.pop() {
            let n = if htlc.short_channel_id == scid(12) {
                2
            } else {
                3
            };
            tries.push(n);
            let (secret, _) = peel(n, &offered(&htlc));
            let failure = FailureMessage::TemporaryChannelFailure {
                channel_update: vec![],
            };
            let failure = OutgoingFailure::Packet(packet(fail(&secret, &failure)));
            let wanted = payer.failed(htlc.link, failure);
            htlcs.extend(wanted.htlcs);
            done.extend(wanted.done);
        }
        if done.is_empty() {
            payer.now = payer.machine.next_wake().unwrap();
            let wanted = payer.step(|m, now, batch| m.tick(now, batch));
            htlcs.extend(wanted.htlcs);
            done.extend(wanted.done);
        }
    }
    assert!(tries.len() > 4 && tries.len() <= 10, "{tries:?}");
    assert!(tries.contains(&2) && tries.contains(&3));
    let PaymentStatus::Failed { reason, detail, .. } = payer.status() else {
        panic!()
    };
    assert_eq!(reason, FailureReason::GaveUp);
    assert!(detail.contains("temporary_channel_failure"), "{detail}");
    assert_eq!(payer.machine.next_wake(), None);
}

#[test]
fn without_a_way_within_the_limits_it_fails_at_once_and_says_why() {
    let mut payer = Payer::new();
    let low = PayRequest {
        max_fee: Msat::new(1_999),
        ..request()
    };
    let wanted = payer.step(|m, now, batch| m.pay(low, now, batch).unwrap());
    assert_eq!(wanted.done.len(), 1);
    let PaymentStatus::Failed { reason, detail, .. } = payer.status() else {
        panic!()
    };
    assert_eq!(reason, FailureReason::NoRoute);
    let why = NoRoute::FeeTooHigh {
        cheapest: Msat::new(2_000),
        max_fee: Msat::new(1_999),
    };
    assert_eq!(detail, why.to_string());
}

#[test]
fn when_all_paths_are_gone_for_good_it_does_not_wait() {
    let mut payer = Payer::new();
    let mut htlcs = payer.pay().htlcs;
    for n in [2, 3] {
        let htlc = htlcs.remove(0);
        let (secret, _) = peel(n, &offered(&htlc));
        let failure = packet(fail(&secret, &FailureMessage::PermanentChannelFailure));
        htlcs = payer
            .failed(htlc.link, OutgoingFailure::Packet(failure))
            .htlcs;
    }
    let PaymentStatus::Failed { reason, detail, .. } = payer.status() else {
        panic!("{:?}", payer.status())
    };
    assert_eq!(reason, FailureReason::NoRoute);
    // That there is no path says less than what the last one failed on.
    assert!(detail.contains("permanent_channel_failure"), "{detail}");
}

#[test]
fn requests_that_make_no_sense_change_nothing() {
    let mut payer = Payer::new();
    let mut batch = WriteBatch::new();
    let mut ask = |request| {
        payer
            .machine
            .pay(request, secs(1), &mut batch)
            .map(|o| o.len())
    };
    assert_eq!(
        ask(PayRequest {
            amount: Msat::ZERO,
            ..request()
        }),
        Err(PayError::Amount)
    );
    assert_eq!(
        ask(PayRequest {
            retry_until: secs(1),
            ..request()
        }),
        Err(PayError::TooLate)
    );
    assert_eq!(ask(request()), Ok(1));
    assert_eq!(ask(request()), Ok(0));
    let other = PayRequest {
        amount: Msat::new(5),
        ..request()
    };
    assert_eq!(ask(other), Err(PayError::Different));
}

#[test]
fn what_a_channel_does_not_take_waits_for_a_slot() {
    let mut payer = Payer::new();
    let htlc = payer.pay().htlcs.remove(0);
    let wanted = payer.step(|m, now, b| m.htlc_refused(&htlc.link, Refusal::TooManyHtlcs, now, b));
    assert!(wanted.htlcs.is_empty() && wanted.done.is_empty());
    assert_eq!(payer.machine.in_flight(), 0);
    let wanted = payer.step(|m, now, batch| m.slots_freed(3, now, batch));
    assert_eq!(wanted.htlcs.len(), 1);
    // A fresh onion: the key of the first is not used again.
    assert_ne!(wanted.htlcs[0].onion, htlc.onion);
    // None waits any more.
    assert!(
        payer
            .step(|m, now, batch| m.slots_freed(3, now, batch))
            .htlcs
            .is_empty()
    );
    // A channel that is gone is left out.
    let link = wanted.htlcs[0].link;
    payer.step(|m, now, b| m.htlc_refused(&link, Refusal::Unusable, now, b));
    let wanted = payer.step(|m, now, batch| m.slots_freed(1, now, batch));
    assert_eq!(wanted.htlcs[0].short_channel_id, scid(13));
    assert_eq!(
        payer
            .machine
            .get(&PREIMAGE.payment_hash())
            .unwrap()
            .attempts,
        1
    );
}

#[test]
fn many_payments_wait_in_line_and_all_get_their_turn() {
    let mut payer = Payer::new();
    let mut waiting = BTreeSet::new();
    for n in 0..200u8 {
        let preimage = PaymentPreimage::new([n; 32]);
        let request = PayRequest {
            payment_hash: preimage.payment_hash(),
            ..request()
        };
        let wanted = payer.step(|m, now, b| m.pay(request, now, b).unwrap());
        let link = wanted.htlcs[0].link;
        payer.step(|m, now, b| m.htlc_refused(&link, Refusal::TooManyHtlcs, now, b));
        waiting.insert(preimage.payment_hash());
    }
    let mut first = vec![];
    for _ in 0..200 {
        let wanted = payer.step(|m, now, batch| m.slots_freed(1, now, batch));
        let [htlc] = wanted.htlcs.as_slice() else {
            panic!()
        };
        assert!(waiting.remove(&htlc.payment_hash));
        first.push(htlc.payment_hash);
    }
    assert_eq!(first[0], PaymentPreimage::new([0; 32]).payment_hash());
    assert_eq!(first[199], PaymentPreimage::new([199; 32]).payment_hash());
    assert_eq!(payer.machine.in_flight(), 200);
    assert_eq!(payer.machine.next_wake(), None);
}

#[test]
fn after_a_crash_an_htlc_that_nobody_knows_is_sent_anew() {
    let mut payer = Payer::new();
    let htlc = payer.pay().htlcs.remove(0);
    payer.restart();
    assert_eq!(payer.machine.in_flight(), 1);
    let live = BTreeSet::from([htlc.link]);
    payer.step(|m, now, batch| m.reconcile(&live, now, batch));
    assert_eq!(payer.machine.in_flight(), 1);
    payer.step(|m, now, batch| m.reconcile(&BTreeSet::new(), now, batch));
    assert_eq!(payer.machine.in_flight(), 0);
    payer.now = payer.machine.next_wake().unwrap();
    let wanted = payer.step(|m, now, batch| m.tick(now, batch));
    assert_eq!(wanted.htlcs.len(), 1);
    // A payment that only waited goes on as well.
    let link = wanted.htlcs[0].link;
    payer.step(|m, now, b| m.htlc_refused(&link, Refusal::TooManyHtlcs, now, b));
    payer.restart();
    assert_eq!(
        payer.step(|m, now, batch| m.tick(now, batch)).htlcs.len(),
        1
    );
}

#[test]
fn a_payment_whose_time_ran_out_while_the_node_was_down_is_told_to_have_failed() {
    let mut payer = Payer::new();
    payer.pay();
    payer.restart();
    payer.now = payer.now.plus_millis(24 * 60 * 60 * 1_000);
    let wanted = payer.step(|m, now, batch| m.reconcile(&BTreeSet::new(), now, batch));
    assert_eq!(wanted.done, [PREIMAGE.payment_hash()]);
}

#[test]
fn a_stopped_payment_can_still_succeed_by_what_is_on_its_way() {
    let mut payer = Payer::new();
    let htlc = payer.pay().htlcs.remove(0);
    let hash = PREIMAGE.payment_hash();
    payer.step(|m, now, batch| m.abandon(&hash, now, batch));
    assert_eq!(payer.status(), PaymentStatus::Pending);
    let (secret, _) = peel(2, &offered(&htlc));
    let failure = packet(fail(&secret, &FailureMessage::TemporaryNodeFailure));
    let wanted = payer.failed(htlc.link, OutgoingFailure::Packet(failure));
    assert_eq!(wanted.done, [hash]);
    let PaymentStatus::Failed { reason, .. } = payer.status() else {
        panic!()
    };
    assert_eq!(reason, FailureReason::Abandoned);
    // A preimage is never refused, however late.
    payer.step(|m, now, batch| m.htlc_fulfilled(&htlc.link, PREIMAGE, now, batch));
    assert!(matches!(payer.status(), PaymentStatus::Succeeded { .. }));
}

#[test]
fn a_wrong_preimage_and_a_garbled_failure_do_no_harm() {
    let mut payer = Payer::new();
    let htlc = payer.pay().htlcs.remove(0);
    let wrong = PaymentPreimage::new([9; 32]);
    payer.step(|m, now, batch| m.htlc_fulfilled(&htlc.link, wrong, now, batch));
    assert_eq!(payer.status(), PaymentStatus::Pending);
    let garbled = ReturnPacket {
        reason: vec![3; 292],
        attribution_data: None,
    };
    let wanted = payer.failed(htlc.link, OutgoingFailure::Packet(garbled));
    assert_eq!(wanted.htlcs[0].short_channel_id, scid(13));
    let empty = ReturnPacket {
        reason: vec![],
        attribution_data: None,
    };
    payer.failed(wanted.htlcs[0].link, OutgoingFailure::Packet(empty));
    assert_eq!(payer.status(), PaymentStatus::Pending);
}

#[test]
fn records_that_are_damaged_are_errors() {
    let mut payer = Payer::new();
    payer.pay();
    let record = payer.store.values().next().unwrap().clone();
    for len in 0..record.len() {
        assert!(Payment::from_record(&record[..len]).is_err());
    }
    for at in 0..record.len() {
        let mut bad = record.clone();
        bad[at] ^= 0xff;
        // Any answer but a panic will do.
        let _ = Payment::from_record(&bad);
    }
}

#[test]
fn links_come_back_from_their_bytes() {
    let links = [
        HtlcLink::Payment {
            payment_hash: PREIMAGE.payment_hash(),
            attempt: 7,
        },
        HtlcLink::Forward {
            incoming: IncomingRef {
                channel: [9; 32],
                htlc: HtlcId::new(77),
            },
        },
    ];
    for link in links {
        let bytes = link.to_link_bytes();
        assert_eq!(HtlcLink::from_link_bytes(&bytes), Ok(link));
        for len in 0..bytes.len() {
            assert!(HtlcLink::from_link_bytes(&bytes[..len]).is_err());
        }
    }
}

#[test]
fn a_payee_that_has_seen_more_blocks_is_tried_again_and_no_other() {
    let mut payer = Payer::new();
    let refuse = |payer: &mut Payer, htlc: NewHtlc, height| {
        let (forwarder, _, next) = forward(2, &offered(&htlc), 1_000);
        let (payee, _) = peel(4, &next);
        let message = FailureMessage::IncorrectOrUnknownPaymentDetails {
            htlc_msat: next.amount,
            height,
        };
        let failure = OutgoingFailure::Packet(packet(fail(&payee, &message)));
        let failure = packet(fail_upstream(&forwarder, failure, &[]));
        payer.failed(htlc.link, OutgoingFailure::Packet(failure))
    };
    let htlc = payer.pay().htlcs.remove(0);
    let wanted = refuse(&mut payer, htlc, TIP.plus(1));
    assert!(wanted.done.is_empty());
    assert_eq!(payer.status(), PaymentStatus::Pending);
    // A restart does not forget what the attempt was made for.
    payer.restart();
    payer.now = payer.machine.next_wake().unwrap().max(payer.now);
    let mut wanted = payer.step(|m, now, batch| m.tick(now, batch));
    let htlc = wanted.htlcs.remove(0);
    refuse(&mut payer, htlc, TIP);
    let PaymentStatus::Failed { reason, .. } = payer.status() else {
        panic!("{:?}", payer.status())
    };
    assert_eq!(reason, FailureReason::Rejected);
}

#[test]
fn a_payee_whose_neighbours_are_away_is_waited_for_a_moment() {
    let tick = |payer: &mut Payer, at| {
        payer.now = secs(at);
        payer.step(|m, now, batch| m.tick(now, batch))
    };
    for back_at in [Some(5), None] {
        let mut payer = Payer::new();
        payer.graph = graph_of(true);
        let wanted = payer.pay();
        assert!(wanted.htlcs.is_empty() && wanted.done.is_empty());
        let mut sent = 0;
        for second in 2..=12 {
            if back_at == Some(second) {
                payer.graph = graph();
            }
            sent += tick(&mut payer, second).htlcs.len();
        }
        assert_eq!(sent, usize::from(back_at.is_some()));
        let failed = matches!(
            payer.status(),
            PaymentStatus::Failed {
                reason: FailureReason::NoRoute,
                ..
            }
        );
        assert_eq!(failed, back_at.is_none(), "{:?}", payer.status());
    }
}
