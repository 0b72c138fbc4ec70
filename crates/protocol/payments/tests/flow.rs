//! Payments over a small network, with real onions and without channels: the tests carry HTLCs by hand.
//! After every step the machines are restored from their records and must go on just the same.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{
    Amount,
    constants::ChainHash,
    secp256k1::{All, PublicKey, Secp256k1, SecretKey},
};
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, NewChannel, Policy};
use fulmen_onion::{
    FailureMessage, FailureSource, ForwardPayload, PaymentData, ReceivePayload, ReturnPacket,
    SharedSecret, payment_ecdh_point,
};
use fulmen_payments::{
    Asked, FailureReason, ForwardPolicy, HtlcLink, IncomingRef, Invoice, InvoiceStatus, Invoices,
    NewHtlc, OfferedHtlc, Outgoing, OutgoingChannel, OutgoingFailure, PayError, PayRequest,
    Payment, PaymentOutput, PaymentStatus, PolicyHistory, ReceivedHtlc, Refusal, Resolution,
    check_forward, fail, fail_upstream, read_onion,
};
use fulmen_router::{FirstHop, NoRoute};
use fulmen_types::{
    BlockHeight, CltvExpiry, CltvExpiryDelta, Features, HtlcId, Msat, NodeId, PaymentHash,
    PaymentPreimage, PaymentSecret, ShortChannelId, Timestamp,
    record::{Space, WriteBatch},
};

const TIP: BlockHeight = BlockHeight::new(1_000);
const PREIMAGE: PaymentPreimage = PaymentPreimage::new([7; 32]);
const SECRET: PaymentSecret = PaymentSecret::new([8; 32]);

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

fn public(n: u8) -> PublicKey {
    PublicKey::from_secret_key(&Secp256k1::new(), &key(n))
}

fn id(n: u8) -> NodeId {
    NodeId::from(public(n))
}

fn scid(n: u64) -> ShortChannelId {
    ShortChannelId::from_u64(n)
}

fn secs(s: u64) -> Timestamp {
    Timestamp::from_secs(s)
}

const POLICY: ForwardPolicy = ForwardPolicy {
    fee_base_msat: 1_000,
    fee_proportional_millionths: 100,
    cltv_expiry_delta: 40,
    htlc_minimum: Msat::new(1_000),
    htlc_maximum: Msat::new(900_000_000),
};

/// 1 pays 4: by 2 (channels 12, 24) or, for a greater fee, by 3 (13, 34).
fn graph() -> NetworkGraph {
    let mut writer = GraphWriter::new(ChainHash::REGTEST);
    for (channel, a, b, base) in [
        (12, 1, 2, 1_000),
        (24, 2, 4, 1_000),
        (13, 1, 3, 5_000),
        (34, 3, 4, 5_000),
    ] {
        let (a, b) = (id(a).min(id(b)), id(a).max(id(b)));
        writer
            .add_channel(&NewChannel {
                short_channel_id: scid(channel),
                node_1: a,
                node_2: b,
                capacity: Some(Amount::from_sat(1_000_000)),
                features: Features::empty(),
            })
            .unwrap();
        for direction in [Direction::Forward, Direction::Backward] {
            let policy = Policy {
                htlc_minimum: POLICY.htlc_minimum,
                htlc_maximum: POLICY.htlc_maximum,
                timestamp: 1,
                fee_base_msat: base,
                fee_proportional_millionths: POLICY.fee_proportional_millionths,
                cltv_expiry_delta: CltvExpiryDelta::new(POLICY.cltv_expiry_delta),
                disabled: false,
            };
            writer
                .update_policy(scid(channel), direction, policy)
                .unwrap();
        }
    }
    (*writer.snapshot()).clone()
}

fn first_hops() -> [FirstHop; 2] {
    [(12, 2), (13, 3)].map(|(channel, peer)| FirstHop {
        short_channel_id: scid(channel),
        peer: id(peer),
        spendable: Msat::new(500_000_000),
        htlc_minimum: Msat::new(1),
    })
}

fn request() -> PayRequest {
    PayRequest {
        payment_hash: PREIMAGE.payment_hash(),
        payment_secret: SECRET,
        payment_metadata: Some(vec![1, 2, 3]),
        payee: public(4),
        amount: Msat::new(10_000_000),
        hints: vec![],
        min_final_cltv_expiry_delta: 24,
        max_fee: Msat::new(100_000),
        max_total_cltv: 2_016,
        max_attempts: 10,
        retry_until: secs(60),
        invoice: "lnbcrt...".into(),
    }
}

/// The payer: the machine, and its records as a store would hold them.
struct Payer {
    secp: Secp256k1<All>,
    machine: Outgoing,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    graph: NetworkGraph,
    now: Timestamp,
}

/// What the machine wants of the world once routes are found.
#[derive(Debug, Default)]
struct Wanted {
    htlcs: Vec<NewHtlc>,
    done: Vec<PaymentHash>,
}

impl Payer {
    fn new() -> Self {
        Self {
            secp: Secp256k1::new(),
            machine: Outgoing::new(id(1), [42; 32]),
            store: BTreeMap::new(),
            graph: graph(),
            now: secs(1),
        }
    }

    fn step(
        &mut self,
        f: impl FnOnce(&mut Outgoing, Timestamp, &mut WriteBatch) -> Vec<PaymentOutput>,
    ) -> Wanted {
        let mut batch = WriteBatch::new();
        let outputs = f(&mut self.machine, self.now, &mut batch);
        self.save(batch);
        self.work(outputs)
    }

    fn work(&mut self, outputs: Vec<PaymentOutput>) -> Wanted {
        let mut wanted = Wanted::default();
        let mut outputs = std::collections::VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                PaymentOutput::FindRoute(question) => {
                    let answer = question.answer(&self.graph, id(1), &first_hops(), self.now);
                    let mut batch = WriteBatch::new();
                    outputs.extend(self.machine.route_answered(
                        &self.secp,
                        &question.payment_hash,
                        question.attempt,
                        answer,
                        false,
                        self.now,
                        TIP,
                        &mut batch,
                    ));
                    self.save(batch);
                }
                PaymentOutput::AddHtlc(htlc) => wanted.htlcs.push(htlc),
                PaymentOutput::Done(hash) => wanted.done.push(hash),
            }
        }
        wanted
    }

    fn save(&mut self, batch: WriteBatch) {
        for (record, value) in batch.iter() {
            assert_eq!(record.space, Space::Payment);
            self.store
                .insert(record.key.clone(), value.unwrap().to_vec());
        }
        // What is in memory is what the records say.
        for payment in self.machine.iter() {
            let record = &self.store[payment.request.payment_hash.as_bytes().as_slice()];
            assert_eq!(&Payment::from_record(record).unwrap(), payment);
        }
    }

    fn restart(&mut self) {
        let records = self.store.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        self.machine = Outgoing::restore(id(1), [43; 32], records).unwrap();
    }

    fn pay(&mut self) -> Wanted {
        self.step(|m, now, batch| m.pay(request(), now, batch).unwrap())
    }

    fn status(&self) -> PaymentStatus {
        self.machine
            .get(&PREIMAGE.payment_hash())
            .unwrap()
            .status
            .clone()
    }

    fn failed(&mut self, link: HtlcLink, failure: OutgoingFailure) -> Wanted {
        let secp = self.secp.clone();
        self.step(|m, now, batch| m.htlc_failed(&secp, &link, failure, now, batch))
    }
}

/// A node peels its layer.
fn peel(n: u8, htlc: &OfferedHtlc) -> (SharedSecret, Asked) {
    let secp = Secp256k1::new();
    let point = payment_ecdh_point(&secp, &htlc.onion, None).unwrap();
    let secret = SharedSecret::ecdh(&point, &key(n));
    (secret, read_onion(&secp, htlc, &secret))
}

fn offered(htlc: &NewHtlc) -> OfferedHtlc {
    OfferedHtlc {
        amount: htlc.amount,
        payment_hash: htlc.payment_hash,
        cltv_expiry: htlc.cltv_expiry,
        onion: *htlc.onion,
    }
}

/// A node forwards: gives its secret and what it offers to the next.
fn forward(n: u8, htlc: &OfferedHtlc, base: u32) -> (SharedSecret, ShortChannelId, OfferedHtlc) {
    let (secret, asked) = peel(n, htlc);
    let Asked::Forward {
        payload,
        next_packet,
    } = asked
    else {
        panic!("{asked:?}")
    };
    let policy = PolicyHistory::new(ForwardPolicy {
        fee_base_msat: base,
        ..POLICY
    });
    let next = OutgoingChannel {
        policy: &policy,
        usable: true,
        disabled: false,
        channel_update: &[],
    };
    assert_eq!(
        check_forward(htlc, &payload, Some(&next), secs(1), TIP),
        Ok(())
    );
    let next = OfferedHtlc {
        amount: payload.amt_to_forward,
        payment_hash: htlc.payment_hash,
        cltv_expiry: payload.outgoing_cltv_value,
        onion: next_packet,
    };
    (secret, payload.short_channel_id, next)
}

fn invoice() -> Invoice {
    Invoice {
        preimage: PREIMAGE,
        payment_secret: SECRET,
        amount: Some(Msat::new(10_000_000)),
        created_at: secs(0),
        expires_at: secs(3_600),
        min_final_cltv_expiry_delta: CltvExpiryDelta::new(24),
        description: "coffee ☕".into(),
        bolt11: "lnbcrt...".into(),
        status: InvoiceStatus::Open,
    }
}

fn packet(resolution: Resolution) -> ReturnPacket {
    match resolution {
        Resolution::Fail(packet) => packet,
        other => panic!("{other:?}"),
    }
}

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
    payer.step(|m, now, batch| {
        m.reconcile(&live, now, batch);
        vec![]
    });
    assert_eq!(payer.machine.in_flight(), 1);
    payer.step(|m, now, batch| {
        m.reconcile(&BTreeSet::new(), now, batch);
        vec![]
    });
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
    assert_eq!(reason, FailureReason::GaveUp);
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

mod forwarding {
    use super::*;

    fn htlc(amount: u64, cltv: u32) -> OfferedHtlc {
        OfferedHtlc {
            amount: Msat::new(amount),
            payment_hash: PREIMAGE.payment_hash(),
            cltv_expiry: CltvExpiry::new(cltv),
            onion: [0; 1366],
        }
    }

    fn payload(amount: u64, cltv: u32) -> ForwardPayload {
        ForwardPayload {
            short_channel_id: scid(5),
            amt_to_forward: Msat::new(amount),
            outgoing_cltv_value: CltvExpiry::new(cltv),
        }
    }

    fn check(
        incoming: (u64, u32),
        outgoing: (u64, u32),
        policy: &PolicyHistory,
        now: Timestamp,
    ) -> Result<(), FailureMessage> {
        let next = OutgoingChannel {
            policy,
            usable: true,
            disabled: false,
            channel_update: &[1, 2],
        };
        let (htlc, payload) = (
            htlc(incoming.0, incoming.1),
            payload(outgoing.0, outgoing.1),
        );
        check_forward(&htlc, &payload, Some(&next), now, TIP)
    }

    #[test]
    fn each_rule_has_its_code_at_its_exact_bound() {
        let policy = PolicyHistory::new(POLICY);
        let check = |incoming, outgoing| check(incoming, outgoing, &policy, secs(1));
        let update = || vec![1, 2];
        assert_eq!(check((10_001_001_000, 1_100), (900_000_000, 1_060)), Ok(()));
        // 1_000_000 msat cost 1000 + 100.
        assert_eq!(check((1_001_100, 1_100), (1_000_000, 1_060)), Ok(()));
        assert_eq!(
            check((1_001_099, 1_100), (1_000_000, 1_060)),
            Err(FailureMessage::FeeInsufficient {
                htlc_msat: Msat::new(1_001_099),
                channel_update: update()
            })
        );
        assert_eq!(
            check((5_000, 1_100), (999, 1_060)),
            Err(FailureMessage::AmountBelowMinimum {
                htlc_msat: Msat::new(999),
                channel_update: update()
            })
        );
        assert_eq!(
            check((10_001_001_000, 1_100), (900_000_001, 1_060)),
            Err(FailureMessage::TemporaryChannelFailure {
                channel_update: update()
            })
        );
        assert_eq!(
            check((1_001_100, 1_099), (1_000_000, 1_060)),
            Err(FailureMessage::IncorrectCltvExpiry {
                cltv_expiry: CltvExpiry::new(1_060),
                channel_update: update()
            })
        );
        assert_eq!(check((1_001_100, 1_043), (1_000_000, 1_003)), Ok(()));
        assert_eq!(
            check((1_001_100, 1_042), (1_000_000, 1_002)),
            Err(FailureMessage::ExpiryTooSoon {
                channel_update: update()
            })
        );
        assert_eq!(check((1_001_100, 3_016), (1_000_000, 2_900)), Ok(()));
        let far = Err(FailureMessage::ExpiryTooFar);
        assert_eq!(check((1_001_100, 3_017), (1_000_000, 2_900)), far);
        // Numbers at the end of their range are refused like others.
        assert!(check((u64::MAX, u32::MAX), (u64::MAX, u32::MAX)).is_err());
        assert!(check((0, 0), (u64::MAX, 0)).is_err());
        assert!(check((0, 1_100), (0, 1_060)).is_err());
    }

    #[test]
    fn an_old_policy_is_honoured_for_ten_minutes() {
        let mut policy = PolicyHistory::new(POLICY);
        let dearer = ForwardPolicy {
            fee_base_msat: 2_000,
            ..POLICY
        };
        policy.set(dearer, secs(100));
        let paid = (1_001_100, 1_100);
        assert_eq!(check(paid, (1_000_000, 1_060), &policy, secs(699)), Ok(()));
        assert!(check(paid, (1_000_000, 1_060), &policy, secs(700)).is_err());
        // The same again is no change.
        policy.set(dearer, secs(900));
        assert!(check(paid, (1_000_000, 1_060), &policy, secs(901)).is_err());
        assert_eq!(
            check((1_002_100, 1_100), (1_000_000, 1_060), &policy, secs(901)),
            Ok(())
        );
    }

    #[test]
    fn channels_that_are_not_there_or_not_usable() {
        let (htlc, payload) = (htlc(1_001_100, 1_100), payload(1_000_000, 1_060));
        let verdict = |next: Option<&OutgoingChannel<'_>>| {
            check_forward(&htlc, &payload, next, secs(1), TIP).unwrap_err()
        };
        assert_eq!(verdict(None), FailureMessage::UnknownNextPeer);
        let policy = PolicyHistory::new(POLICY);
        let mut next = OutgoingChannel {
            policy: &policy,
            usable: false,
            disabled: false,
            channel_update: &[],
        };
        assert_eq!(
            verdict(Some(&next)),
            FailureMessage::TemporaryChannelFailure {
                channel_update: vec![]
            }
        );
        next.disabled = true;
        assert!(matches!(
            verdict(Some(&next)),
            FailureMessage::ChannelDisabled { .. }
        ));
    }

    #[test]
    fn a_garbled_onion_is_malformed_and_says_so_upstream() {
        let mut payer = Payer::new();
        let mut htlc = offered(&payer.pay().htlcs[0]);
        htlc.onion[100] ^= 1;
        let (_, asked) = peel(2, &htlc);
        let Asked::Resolve(Resolution::FailMalformed {
            failure_code,
            sha256_of_onion,
        }) = asked
        else {
            panic!("{asked:?}")
        };
        assert_eq!(failure_code, 0x8000 | 0x4000 | 5);
        // The node before makes a failure of its own of it, which the payer can read.
        let secret = SharedSecret::new([5; 32]);
        let failure = OutgoingFailure::Malformed {
            failure_code,
            sha256_of_onion,
        };
        let read = packet(fail_upstream(&secret, failure, &[])).decrypt(&[secret]);
        let FailureSource::Hop { message, .. } = read.source else {
            panic!()
        };
        assert_eq!(
            message,
            FailureMessage::InvalidOnionHmac { sha256_of_onion }
        );
    }
}

mod receiving {
    use super::*;

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
        let data = good.payload.payment_data.clone().unwrap();
        let with_data = |payment_data| ReceivedHtlc {
            payload: ReceivePayload {
                payment_data,
                ..good.payload.clone()
            },
            ..good.clone()
        };
        let wrong = PaymentData {
            payment_secret: PaymentSecret::new([9; 32]),
            ..data.clone()
        };
        let bad = [
            with_data(None),
            with_data(Some(wrong)),
            with_data(Some(PaymentData {
                total_msat: Msat::new(FULL - 1),
                ..data.clone()
            })),
            with_data(Some(PaymentData {
                total_msat: Msat::new(2 * FULL + 1),
                ..data.clone()
            })),
            ReceivedHtlc {
                payment_hash: PaymentHash::new([1; 32]),
                ..good.clone()
            },
            ReceivedHtlc {
                cltv_expiry: CltvExpiry::new(1_023),
                payload: ReceivePayload {
                    outgoing_cltv_value: CltvExpiry::new(1_023),
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
