//! Payments in parts: what no channel can carry alone, and what happens when a part fails.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use fulmen_gossip::Direction;
use fulmen_onion::FailureMessage;
use fulmen_payments::{
    Asked, FailureReason, HtlcLink, NewHtlc, OutgoingFailure, PayRequest, PaymentOutput,
    PaymentStatus, RouteQuestion, fail,
};
use fulmen_types::{Msat, record::WriteBatch};

/// More than either of the payer's channels can send.
const AMOUNT: Msat = Msat::from_sat(800_000);
const MAX_FEE: Msat = Msat::from_sat(1_000);

fn large() -> PayRequest {
    PayRequest {
        amount: AMOUNT,
        max_fee: MAX_FEE,
        max_parts: 16,
        ..request()
    }
}

fn pay(payer: &mut Payer) -> Vec<NewHtlc> {
    let wanted = payer.step(|m, now, batch| m.pay(large(), now, batch).unwrap());
    assert!(wanted.done.is_empty());
    wanted.htlcs
}

fn fee_of(payer: &Payer) -> u64 {
    let payment = payer.machine.get(&PREIMAGE.payment_hash()).unwrap();
    payment.parts.iter().map(|part| part.fee().to_msat()).sum()
}

/// What hop 2 or 3 says when its channel to the payee can't carry a part.
fn no_room(htlc: &NewHtlc) -> OutgoingFailure {
    let (node, base) = if htlc.short_channel_id == scid(12) {
        (2, 1_000)
    } else {
        (3, 5_000)
    };
    let (secret, ..) = forward(node, &offered(htlc), base);
    let failure = FailureMessage::TemporaryChannelFailure {
        channel_update: vec![],
    };
    OutgoingFailure::Packet(packet(fail(&secret, &failure)))
}

/// Fails a part and gives the question that this leads to, unanswered.
fn question_after(payer: &mut Payer, link: HtlcLink, failure: OutgoingFailure) -> RouteQuestion {
    let mut batch = WriteBatch::new();
    let secp = payer.secp.clone();
    let outputs = payer
        .machine
        .htlc_failed(&secp, &link, failure, payer.now, &mut batch);
    payer.save(batch);
    let [PaymentOutput::Learn(_), PaymentOutput::FindRoute(question)] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    (**question).clone()
}

#[test]
fn little_is_not_split() {
    // At last the attempts are the limit.
    for (sat, parts) in [
        (200, 1),
        (19_999, 1),
        (20_000, 2),
        (45_000, 4),
        (800_000, 10),
    ] {
        let mut payer = Payer::new();
        let mut batch = WriteBatch::new();
        let request = PayRequest {
            amount: Msat::from_sat(sat),
            ..large()
        };
        let outputs = payer.machine.pay(request, payer.now, &mut batch).unwrap();
        let [PaymentOutput::FindRoute(question)] = outputs.as_slice() else {
            panic!("{outputs:?}")
        };
        assert_eq!(question.max_parts, parts, "{sat}");
    }
}

#[test]
fn a_payment_larger_than_any_channel_succeeds_in_parts() {
    let mut payer = Payer::new();
    let htlcs = pay(&mut payer);
    assert!(htlcs.len() >= 2);
    assert_eq!(payer.machine.in_flight(), htlcs.len());
    let mut arrives = 0;
    for htlc in &htlcs {
        let (node, base) = if htlc.short_channel_id == scid(12) {
            (2, 1_000)
        } else {
            (3, 5_000)
        };
        let (_, _, at_payee) = forward(node, &offered(htlc), base);
        let (_, Asked::Receive(payload)) = peel(4, &at_payee) else {
            panic!("the payee is asked")
        };
        // BOLT 4, basic_mpp: all parts say the whole.
        assert_eq!(payload.payment_data.unwrap().total_msat, AMOUNT);
        arrives += payload.amt_to_forward.to_msat();
    }
    assert_eq!(arrives, AMOUNT.to_msat());
    let sent: u64 = htlcs.iter().map(|htlc| htlc.amount.to_msat()).sum();
    let fee = sent - arrives;
    assert_eq!(fee_of(&payer), fee);
    payer.restart();
    assert_eq!(payer.machine.in_flight(), htlcs.len());
    // The preimage of one part is the preimage of all.
    let link = htlcs[1].link;
    let wanted = payer.step(|m, now, batch| m.htlc_fulfilled(&link, PREIMAGE, now, batch));
    assert_eq!(wanted.done, [PREIMAGE.payment_hash()]);
    let paid = PaymentStatus::Succeeded {
        preimage: PREIMAGE,
        fee: Msat::new(fee),
        at: secs(1),
    };
    assert_eq!(payer.status(), paid);
    let link = htlcs[0].link;
    let wanted = payer.step(|m, now, batch| m.htlc_fulfilled(&link, PREIMAGE, now, batch));
    assert!(wanted.done.is_empty());
    assert_eq!((payer.status(), payer.machine.in_flight()), (paid, 0));
}

#[test]
fn a_payee_that_takes_no_parts_gets_none() {
    let mut payer = Payer::new();
    let one = PayRequest {
        max_parts: 1,
        ..large()
    };
    let wanted = payer.step(|m, now, batch| m.pay(one, now, batch).unwrap());
    assert!(wanted.htlcs.is_empty());
    let PaymentStatus::Failed { reason, .. } = payer.status() else {
        panic!()
    };
    assert_eq!(reason, FailureReason::NoRoute);
}

#[test]
fn the_failure_of_a_part_plans_that_part_anew() {
    let mut payer = Payer::new();
    let htlcs = pay(&mut payer);
    let fee_before = fee_of(&payer);
    let payment = payer.machine.get(&PREIMAGE.payment_hash()).unwrap();
    let part = payment.parts[0].clone();
    let others: Vec<_> = payment.parts[1..].to_vec();
    let question = question_after(&mut payer, htlcs[0].link, no_room(&htlcs[0]));
    assert_eq!(question.amount, part.amount);
    // The limit of fees is for all parts together.
    let spent = fee_before - part.fee().to_msat();
    assert_eq!(question.max_fee.to_msat(), MAX_FEE.to_msat() - spent);
    assert_eq!(usize::from(question.max_parts), 10 - htlcs.len());
    let in_use: Vec<_> = others
        .iter()
        .map(|part| {
            let hop = part.hops[1];
            let direction = Direction::between(&part.hops[0].node_id, &hop.node_id);
            ((hop.short_channel_id, direction), hop.amount)
        })
        .collect();
    assert_eq!(question.in_use, in_use);
    // Answered, only what is missing is sent, by numbers never used before.
    let wanted = payer.work(vec![PaymentOutput::FindRoute(Box::new(question))]);
    assert!(!wanted.htlcs.is_empty());
    let links: Vec<HtlcLink> = htlcs.iter().map(|htlc| htlc.link).collect();
    assert!(wanted.htlcs.iter().all(|htlc| !links.contains(&htlc.link)));
    let payment = payer.machine.get(&PREIMAGE.payment_hash()).unwrap();
    assert_eq!(payment.left(), Msat::ZERO);
    assert!(payment.fee_of_parts() <= MAX_FEE);
    assert_eq!(payment.parts.len(), others.len() + wanted.htlcs.len());
}

#[test]
fn a_plan_that_breaks_the_limits_is_not_followed() {
    let mut payer = Payer::new();
    let mut batch = WriteBatch::new();
    let outputs = payer.machine.pay(large(), payer.now, &mut batch).unwrap();
    payer.save(batch);
    let [PaymentOutput::FindRoute(question)] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    let mut plan = question
        .answer(&payer.graph, id(1), &first_hops(), payer.now)
        .unwrap();
    plan.parts.push(plan.parts[0].clone());
    let dear = plan.parts[0].fee;
    plan.parts[0].fee = MAX_FEE.saturating_add(Msat::new(1));
    let wanted = payer.step(|m, now, batch| {
        let secp = bitcoin::secp256k1::Secp256k1::new();
        let hash = PREIMAGE.payment_hash();
        m.route_answered(&secp, &hash, 1, Ok(plan.clone()), false, now, TIP, batch)
    });
    assert!(wanted.htlcs.is_empty());
    payer.now = secs(3);
    let outputs = payer.machine.tick(payer.now, &mut WriteBatch::new());
    assert!(matches!(outputs.as_slice(), [PaymentOutput::FindRoute(_)]));
    plan.parts[0].fee = dear;
    let count = plan.parts.len();
    let wanted = payer.step(|m, now, batch| {
        let secp = bitcoin::secp256k1::Secp256k1::new();
        let hash = PREIMAGE.payment_hash();
        m.route_answered(&secp, &hash, 1, Ok(plan), false, now, TIP, batch)
    });
    assert_eq!(wanted.htlcs.len(), count - 1);
}

#[test]
fn what_fails_for_good_ends_with_the_last_part() {
    let mut payer = Payer::new();
    let htlcs = pay(&mut payer);
    let hash = PREIMAGE.payment_hash();
    let (node, base) = if htlcs[0].short_channel_id == scid(12) {
        (2, 1_000)
    } else {
        (3, 5_000)
    };
    let (secret, _, at_payee) = forward(node, &offered(&htlcs[0]), base);
    let (payee, _) = peel(4, &at_payee);
    let refusal = FailureMessage::IncorrectOrUnknownPaymentDetails {
        htlc_msat: at_payee.amount,
        height: TIP,
    };
    let from_payee = OutgoingFailure::Packet(packet(fail(&payee, &refusal)));
    let at_payer = packet(fulmen_payments::fail_upstream(&secret, from_payee, &[]));
    let wanted = payer.failed(htlcs[0].link, OutgoingFailure::Packet(at_payer));
    assert!(wanted.htlcs.is_empty() && wanted.done.is_empty());
    assert_eq!(payer.status(), PaymentStatus::Pending);
    for (index, htlc) in htlcs.iter().enumerate().skip(1) {
        let wanted = payer.failed(htlc.link, no_room(htlc));
        let is_last = index + 1 == htlcs.len();
        assert_eq!(wanted.done.len(), usize::from(is_last));
        assert!(wanted.htlcs.is_empty());
    }
    let PaymentStatus::Failed { reason, .. } = payer.status() else {
        panic!()
    };
    assert_eq!(
        (reason, payer.machine.in_flight()),
        (FailureReason::Rejected, 0)
    );
    assert!(payer.machine.get(&hash).unwrap().parts.is_empty());
}

#[test]
fn after_a_crash_only_the_parts_that_nobody_knows_are_sent_anew() {
    let mut payer = Payer::new();
    let htlcs = pay(&mut payer);
    payer.restart();
    let known = [htlcs[0].link].into();
    let mut batch = WriteBatch::new();
    payer.machine.reconcile(&known, payer.now, &mut batch);
    payer.save(batch);
    assert_eq!(payer.machine.in_flight(), 1);
    payer.now = secs(5);
    let wanted = payer.step(|m, now, batch| m.tick(now, batch));
    let sum: u64 = wanted.htlcs.iter().map(|htlc| htlc.amount.to_msat()).sum();
    let before: u64 = htlcs[1..].iter().map(|htlc| htlc.amount.to_msat()).sum();
    assert!(sum.abs_diff(before) < 20_000, "{sum} {before}");
    let payment = payer.machine.get(&PREIMAGE.payment_hash()).unwrap();
    assert_eq!(payment.left(), Msat::ZERO);
}
