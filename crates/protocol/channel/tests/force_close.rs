//! Closing by our commitment: data, deadlines, old state, the freeze.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::Transaction;
use common::{Decide, Pair, Who, preimage, unknown_hash};
use fulmen_channel::{
    ChannelInput, ChannelOutput, ChannelStatus, CloseReason, Closing, HtlcFailure, HtlcResolution,
    Rule, remote_commitment_key,
};
use fulmen_signer::{BroadcastTx, HolderSigning, Signer, SigningRequest};
use fulmen_tx::{CounterpartyCommitment, Side};
use fulmen_types::{CommitmentNumber, HtlcId, Msat, codec::Decode};
use fulmen_wire::{ChannelReestablish, Message};

fn closing(end: &common::End) -> &Closing {
    end.events
        .iter()
        .find_map(|event| match event {
            ChannelOutput::ForceClosing(closing) => Some(&**closing),
            _ => None,
        })
        .expect("a force-close")
}

/// One HTLC each way, committed for good and undecided.
fn loaded() -> Pair {
    let mut pair = Pair::ready();
    pair.a.decide = Decide::Never;
    pair.b.decide = Decide::Never;
    pair.add(
        Who::A,
        Msat::from_sat(20_000),
        preimage(1).payment_hash(),
        b"a0",
    )
    .unwrap();
    pair.add(
        Who::B,
        Msat::from_sat(30_000),
        preimage(2).payment_hash(),
        b"b0",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.run();
    pair
}

#[test]
fn what_is_handed_over_can_be_broadcast_and_is_what_the_peer_signed() {
    let mut pair = loaded();
    // One more that is in the peer's next commitment only, and one that nobody signed.
    pair.add(Who::A, Msat::from_sat(5_000), unknown_hash(2), b"a1")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.add(Who::A, Msat::from_sat(6_000), unknown_hash(4), b"a2")
        .unwrap();
    pair.input(Who::A, ChannelInput::ForceClose).unwrap();

    assert!(pair.a.has_event(|e| matches!(
        e,
        ChannelOutput::OutgoingFailed { link, reason: HtlcFailure::NeverCommitted, .. } if link == b"a2"
    )));
    let closing = closing(&pair.a);
    assert_eq!(closing.reason, CloseReason::Requested);
    assert_eq!(closing.height, pair.world.tip);
    let data = &closing.enforcement;
    let holder = data.holder.clone().unwrap();
    assert_eq!(holder.content.htlcs.len(), 2);
    assert_eq!(holder.htlc_signatures.len(), 2);
    holder
        .build(&pair.world.secp, &data.params)
        .verify(
            &pair.world.secp,
            &data.params,
            &holder.counterparty_signature,
            &holder.htlc_signatures,
        )
        .unwrap();
    assert_eq!(data.counterparty.len(), 2, "the current and the next");
    assert_eq!(data.counterparty[0].content.htlcs.len(), 2);
    assert_eq!(data.counterparty[1].content.htlcs.len(), 3);
    // The record that punishes each of them is there, and says the same.
    for commitment in &data.counterparty {
        let key = remote_commitment_key(&data.params.keys_id, commitment.content.number);
        let stored = CounterpartyCommitment::from_bytes(&pair.a.store[&key]).unwrap();
        assert_eq!(stored, *commitment);
    }
    // What B holds as its own is what we say B holds.
    let b = pair.b.channel().enforcement().unwrap();
    let ours = data.counterparty[0].build(&pair.world.secp, &data.params);
    let theirs = b.holder.unwrap().build(&pair.world.secp, &b.params);
    assert_eq!(ours.txid, theirs.txid);

    // Our signature completes it.
    let tx = BroadcastTx::HolderCommitment(Box::new(HolderSigning {
        params: data.params,
        commitment: holder,
    }))
    .complete(&pair.a.signer)
    .unwrap();
    assert_eq!(tx.input[0].witness.len(), 4);

    // The end is durable, and said again after a crash.
    pair.a.events.clear();
    pair.crash(Who::A);
    assert_eq!(self::closing(&pair.a).reason, CloseReason::Requested);
    // It signs and revokes nothing more.
    pair.disconnect();
    pair.connect();
    assert!(pair.a.outbox.iter().all(|m| matches!(m, Message::Error(_))));
    pair.run();
    assert!(matches!(
        pair.b.channel().status(),
        ChannelStatus::ForceClosing(CloseReason::PeerError(_))
    ));
}

#[test]
fn the_secrets_of_revoked_commitments_are_all_there() {
    let mut pair = loaded();
    for n in 0..5u8 {
        let amount = Msat::from_sat(1_000);
        pair.add(Who::A, amount, unknown_hash(n), &[9, n]).unwrap();
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        pair.run();
    }
    let data = pair.a.channel().enforcement().unwrap();
    let (_, remote) = pair.a.channel().commitment_numbers().unwrap();
    for number in 0..remote.to_u64() {
        let number = CommitmentNumber::new(number).unwrap();
        let secret = data.secrets.get(number).expect("revoked");
        let key = remote_commitment_key(&data.params.keys_id, number);
        let record = CounterpartyCommitment::from_bytes(&pair.a.store[&key]).unwrap();
        let secret = bitcoin::secp256k1::SecretKey::from_slice(&secret).unwrap();
        assert_eq!(
            secret.public_key(&pair.world.secp),
            record.per_commitment_point
        );
    }
    assert_eq!(data.secrets.get(remote), None);
}

#[test]
fn an_offered_htlc_closes_the_channel_two_blocks_after_its_expiry() {
    let mut pair = loaded();
    let expiry = pair.a.channel().htlcs()[0].cltv_expiry;
    pair.world.tip = expiry.to_height().plus(1);
    pair.input(Who::A, ChannelInput::Block).unwrap();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Normal);
    pair.world.tip = expiry.to_height().plus(2);
    pair.input(Who::A, ChannelInput::Block).unwrap();
    assert_eq!(
        closing(&pair.a).reason,
        CloseReason::OfferedHtlcExpired {
            id: HtlcId::new(0),
            cltv_expiry: expiry,
            deadline: expiry.to_height().plus(2),
        }
    );
    assert!(matches!(pair.a.outbox.back(), Some(Message::Error(_))));
}

#[test]
fn a_fulfilled_htlc_closes_the_channel_eighteen_blocks_before_its_expiry() {
    let mut pair = loaded();
    let htlc = pair
        .b
        .channel()
        .htlcs()
        .into_iter()
        .find(|htlc| htlc.offered_by == Side::Remote)
        .unwrap();
    let expiry = htlc.cltv_expiry.to_height();
    pair.world.tip = expiry.minus(18);
    pair.input(Who::B, ChannelInput::Block).unwrap();
    assert_eq!(
        pair.b.channel().status(),
        ChannelStatus::Normal,
        "undecided"
    );
    pair.disconnect();
    pair.world.tip = expiry.minus(19);
    let resolution = HtlcResolution::Fulfil(preimage(1));
    let htlc_id = htlc.id;
    pair.input(
        Who::B,
        ChannelInput::Resolve {
            htlc_id,
            resolution,
        },
    )
    .unwrap();
    pair.input(Who::B, ChannelInput::Block).unwrap();
    assert_eq!(pair.b.channel().status(), ChannelStatus::Normal);
    pair.world.tip = expiry.minus(18);
    pair.input(Who::B, ChannelInput::Block).unwrap();
    let closing = closing(&pair.b);
    assert!(matches!(
        closing.reason,
        CloseReason::FulfilledHtlcExpiring { .. }
    ));
    assert_eq!(closing.enforcement.preimages, [preimage(1)]);
}

#[test]
fn a_spent_funding_freezes_the_channel_and_a_reorg_thaws_it() {
    let mut pair = loaded();
    let data = pair.b.channel().enforcement().unwrap();
    let transaction: Transaction = data
        .holder
        .unwrap()
        .build(&pair.world.secp, &data.params)
        .tx;
    let txid = transaction.compute_txid();
    let height = pair.world.tip;
    let spent = ChannelInput::FundingSpent {
        transaction,
        height,
    };
    pair.input(Who::A, spent).unwrap();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Frozen(txid));
    assert!(
        pair.a
            .has_event(|e| matches!(e, ChannelOutput::Frozen { .. }))
    );
    pair.add(Who::B, Msat::from_sat(1_000), unknown_hash(2), b"late")
        .unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.run();
    assert!(pair.a.outbox.is_empty());
    pair.crash(Who::A);
    assert_eq!(pair.a.channel().status(), ChannelStatus::Frozen(txid));
    pair.input(Who::A, ChannelInput::FundingUnspent).unwrap();
    pair.disconnect();
    pair.connect();
    pair.run();
    assert!(pair.a.channel().is_usable());
    pair.assert_no_fault();
}

#[test]
fn forgetting_deletes_every_record() {
    let mut pair = loaded();
    pair.input(Who::A, ChannelInput::ForceClose).unwrap();
    pair.input(Who::A, ChannelInput::Forget).unwrap();
    assert!(pair.a.store.is_empty());
    assert_eq!(pair.a.channel().status(), ChannelStatus::Gone);
}

/// A store that is put back as it was, a few payments ago.
fn with_old_store_of_a() -> Pair {
    let mut pair = Pair::ready();
    let old = pair.a.store.clone();
    for n in 0..3u8 {
        pair.add(
            Who::A,
            Msat::from_sat(1_000),
            preimage(n).payment_hash(),
            &[n],
        )
        .unwrap();
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        pair.run();
    }
    pair.disconnect();
    pair.a.store = old;
    pair.a.crash_quietly(&pair.world);
    pair
}

impl common::End {
    fn crash_quietly(&mut self, _world: &common::World) {
        self.channel = self.restored();
    }
}

#[test]
fn old_state_is_recognised_and_never_broadcast() {
    let mut pair = with_old_store_of_a();
    pair.a.events.clear();
    pair.b.events.clear();
    pair.connect();
    // B sees that A is behind, says so, and waits; A is told by B's secret.
    pair.run();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Stale);
    assert!(pair.a.has_event(|e| matches!(e, ChannelOutput::Stale)));
    assert!(
        !pair
            .a
            .has_event(|e| matches!(e, ChannelOutput::ForceClosing(_)))
    );
    assert_eq!(pair.a.channel().enforcement().unwrap().holder, None);
    // A's error makes B close.
    assert!(matches!(
        pair.b.channel().status(),
        ChannelStatus::ForceClosing(CloseReason::PeerError(_))
    ));
    // It stays so.
    pair.crash(Who::A);
    assert_eq!(pair.a.channel().status(), ChannelStatus::Stale);
    pair.input(Who::A, ChannelInput::ForceClose).unwrap_err();
}

#[test]
fn an_error_or_a_deadline_waits_for_the_check_of_a_secret() {
    let mut pair = with_old_store_of_a();
    pair.a.events.clear();
    pair.a.withhold_secret_checks = true;
    pair.connect();
    // B's channel_reestablish, then its error: without the check A would broadcast a revoked commitment.
    pair.run();
    pair.world.tip = pair.world.tip.plus(1_000);
    pair.input(Who::A, ChannelInput::Block).unwrap();
    pair.input(Who::A, ChannelInput::ForceClose).unwrap_err();
    assert!(
        !pair
            .a
            .has_event(|e| matches!(e, ChannelOutput::ForceClosing(_)))
    );
    let request = Box::new(pair.a.withheld.pop().expect("the question is out"));
    let answer = Box::new(pair.a.signer.answer(&request));
    pair.input(Who::A, ChannelInput::Signed { request, answer })
        .unwrap();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Stale);
    assert!(matches!(pair.a.outbox.back(), Some(Message::Error(_))));
}

/// Who shows the secret and goes must not make us broadcast what it punishes.
#[test]
fn a_secret_of_the_future_counts_though_the_peer_is_gone() {
    for answered in [false, true] {
        let mut pair = with_old_store_of_a();
        pair.a.withhold_secret_checks = true;
        pair.connect();
        pair.run();
        let request = Box::new(pair.a.withheld.pop().expect("the question is out"));
        pair.disconnect();
        pair.a.events.clear();
        if !answered {
            // A signer that can't tell is asked again.
            let answer = Box::new(fulmen_signer::SigningAnswer::Unavailable);
            let request = request.clone();
            pair.input(Who::A, ChannelInput::Signed { request, answer })
                .unwrap();
            assert!(pair.a.withheld.is_empty());
            pair.input(Who::A, ChannelInput::Tick).unwrap();
            assert_eq!(pair.a.withheld.len(), 1);
        }
        pair.world.tip = pair.world.tip.plus(1_000);
        pair.input(Who::A, ChannelInput::Block).unwrap();
        pair.input(Who::A, ChannelInput::ForceClose).unwrap_err();
        let answer = Box::new(pair.a.signer.answer(&request));
        pair.input(Who::A, ChannelInput::Signed { request, answer })
            .unwrap();
        assert_eq!(pair.a.channel().status(), ChannelStatus::Stale);
        assert!(
            !pair
                .a
                .has_event(|e| matches!(e, ChannelOutput::ForceClosing(_)))
        );
    }
}

#[test]
fn a_peer_that_is_behind_is_told_and_waited_for() {
    let mut pair = with_old_store_of_a();
    pair.b.events.clear();
    pair.connect();
    pair.deliver_from(Who::A);
    assert!(
        pair.b.has_event(
            |e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == Rule::PeerBehind)
        )
    );
    assert_eq!(pair.b.channel().status(), ChannelStatus::Normal);
}

fn reestablish_of(pair: &mut Pair) -> ChannelReestablish {
    pair.disconnect();
    pair.connect();
    let Some(Message::ChannelReestablish(m)) = pair.b.outbox.pop_front() else {
        panic!("channel_reestablish is first");
    };
    pair.b.outbox.clear();
    m
}

type Change = fn(&mut ChannelReestablish);

#[test]
fn every_wrong_reestablish_makes_its_transition() {
    let cases: [(Change, Rule); 5] = [
        (|m| m.next_commitment_number = 0, Rule::ReestablishZero),
        (
            |m| m.next_commitment_number += 1,
            Rule::ReestablishCommitmentNumber,
        ),
        (
            |m| m.next_commitment_number -= 1,
            Rule::ReestablishCommitmentNumber,
        ),
        (
            |m| m.your_last_per_commitment_secret = [1; 32],
            Rule::ReestablishSecret,
        ),
        // A revocation that we never gave, with a secret that is not ours.
        (
            |m| {
                m.next_revocation_number += 4;
                m.your_last_per_commitment_secret = [1; 32];
            },
            Rule::ReestablishSecret,
        ),
    ];
    for (change, rule) in cases {
        let mut pair = loaded();
        let mut m = reestablish_of(&mut pair);
        change(&mut m);
        pair.input(Who::A, ChannelInput::Message(m.into())).unwrap();
        assert_eq!(
            pair.a.channel().status(),
            ChannelStatus::ForceClosing(CloseReason::PeerFault(rule))
        );
    }
}

#[test]
fn while_a_secret_is_checked_nothing_is_broadcast() {
    // The signer's answer is what decides; the question goes out first.
    let mut pair = loaded();
    let mut m = reestablish_of(&mut pair);
    m.next_revocation_number += 7;
    let number = CommitmentNumber::new(m.next_revocation_number - 1).unwrap();
    let keys_id = pair.a.channel().keys_id().unwrap();
    let secret = pair
        .a
        .signer
        .answer(&SigningRequest::RevealSecret { keys_id, number });
    let fulmen_signer::SigningAnswer::Secret(secret) = secret else {
        panic!("the signer reveals");
    };
    m.your_last_per_commitment_secret = secret.to_byte_array();
    pair.input(Who::A, ChannelInput::Message(m.into())).unwrap();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Stale);
    assert!(
        !pair
            .a
            .has_event(|e| matches!(e, ChannelOutput::ForceClosing(_)))
    );
}
