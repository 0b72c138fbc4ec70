//! Shutdown and the fee of the closing transaction.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::Amount;
use common::{Pair, Who, preimage, script};
use fulmen_channel::{
    ChannelError, ChannelInput, ChannelOutput, ChannelStatus, CloseReason, Refusal, Rule,
    UpfrontShutdown,
};
use fulmen_signer::{ClosingSigning, Signer, SigningAnswer, SigningRequest};
use fulmen_tx::{ClosingContent, ClosingOutputs};
use fulmen_types::{ChannelType, FeeratePerKw, Msat};
use fulmen_wire::{ClosingSigned, FeeRange, Message, Shutdown};

fn shutdown() -> ChannelInput {
    ChannelInput::Shutdown {
        script: None,
        feerate: None,
    }
}

fn assert_closed(pair: &Pair, a_sat: u64, b_sat: u64) {
    pair.assert_no_fault();
    let tx_a = pair.a.channel().mutual_close().expect("A has signed");
    let tx_b = pair.b.channel().mutual_close().expect("B has signed");
    assert_eq!(tx_a.compute_txid(), tx_b.compute_txid());
    let value = |n: u8| {
        tx_a.output
            .iter()
            .find(|output| output.script_pubkey == script(n))
            .map_or(0, |output| output.value.to_sat())
    };
    let fee = a_sat + b_sat - value(1) - value(2);
    assert!((200..3_000).contains(&fee), "{fee}");
    // A opened and pays.
    assert_eq!(value(1) + fee, a_sat);
    assert_eq!(value(2), b_sat);
}

#[test]
fn either_end_closes_and_both_have_the_same_transaction() {
    for channel_type in [ChannelType::anchors(), ChannelType::static_remote_key()] {
        for who in [Who::A, Who::B] {
            let mut pair = Pair::new();
            let mut request = pair.a.open_request();
            request.channel_type = Some(channel_type.clone());
            pair.open(request);
            pair.command(who, shutdown()).unwrap();
            pair.run();
            assert_closed(&pair, 700_000, 300_000);
        }
    }
}

#[test]
fn htlcs_clear_first_and_none_are_added() {
    let mut pair = Pair::ready();
    pair.b.decide = common::Decide::Never;
    pair.add(
        Who::A,
        Msat::from_sat(10_000),
        preimage(1).payment_hash(),
        b"x",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair.command(Who::B, shutdown()).unwrap();
    pair.run();
    assert_eq!(pair.a.channel().status(), ChannelStatus::ShuttingDown);
    for who in [Who::A, Who::B] {
        let refused = pair.add(who, Msat::from_sat(1_000), preimage(2).payment_hash(), b"y");
        assert_eq!(refused, Err(ChannelError::Refused(Refusal::ShuttingDown)));
    }
    let htlc_id = pair.b.channel().htlcs()[0].id;
    let resolution = fulmen_channel::HtlcResolution::Fulfil(preimage(1));
    pair.command(
        Who::B,
        ChannelInput::Resolve {
            htlc_id,
            resolution,
        },
    )
    .unwrap();
    pair.run();
    assert_closed(&pair, 690_000, 310_000);
}

#[test]
fn shutdown_waits_for_our_signature() {
    let mut pair = Pair::ready();
    // The second add has to wait for the peer's acknowledgement of the first.
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(1).payment_hash(),
        b"1",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(2).payment_hash(),
        b"2",
    )
    .unwrap();
    pair.command(Who::A, shutdown()).unwrap();
    let is_said = |pair: &Pair| {
        pair.a
            .outbox
            .iter()
            .any(|m| matches!(m, Message::Shutdown(_)))
    };
    assert!(!is_said(&pair));
    pair.run();
    assert_closed(&pair, 698_000, 302_000);
}

#[test]
fn every_cut_of_a_close_leads_to_a_close() {
    for crash in [None, Some(Who::A), Some(Who::B)] {
        for after in 0..12 {
            let mut pair = Pair::ready();
            pair.add(
                Who::A,
                Msat::from_sat(10_000),
                preimage(1).payment_hash(),
                b"x",
            )
            .unwrap();
            pair.input(Who::A, ChannelInput::Commit).unwrap();
            pair.run();
            pair.command(Who::A, shutdown()).unwrap();
            for _ in 0..after {
                pair.deliver();
            }
            if let Some(who) = crash {
                pair.crash(who);
            }
            pair.disconnect();
            pair.connect();
            pair.run();
            assert_closed(&pair, 690_000, 310_000);
        }
    }
}

#[test]
fn the_owner_chooses_script_and_feerate() {
    let mut pair = Pair::ready();
    let input = ChannelInput::Shutdown {
        script: Some(script(9)),
        feerate: Some(FeeratePerKw::new(3_000)),
    };
    pair.command(Who::A, input).unwrap();
    pair.run();
    let tx = pair.a.channel().mutual_close().unwrap();
    assert!(tx.output.iter().any(|o| o.script_pubkey == script(9)));
    let left: Amount = tx.output.iter().map(|o| o.value).sum();
    assert!((Amount::from_sat(1_000_000) - left).to_sat() > 1_500);
    pair.assert_no_fault();
}

#[test]
fn an_upfront_script_binds_both_ends() {
    let mut pair = Pair::new();
    let mut request = pair.a.open_request();
    request.upfront_shutdown = UpfrontShutdown::Bound;
    pair.open(request);
    let other = ChannelInput::Shutdown {
        script: Some(script(9)),
        feerate: None,
    };
    let refused = pair.command(Who::A, other);
    assert_eq!(refused, Err(ChannelError::Refused(Refusal::Script)));

    let channel_id = pair.a.channel().channel_id();
    let message = Message::Shutdown(Shutdown {
        channel_id,
        scriptpubkey: script(9),
        shutdown_nonce: None,
    });
    pair.input(Who::B, ChannelInput::Message(message)).unwrap();
    assert!(pair.b.has_event(
        |e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == Rule::ShutdownUpfront)
    ));
    assert!(
        pair.b
            .has_event(|e| matches!(e, ChannelOutput::CloseConnection))
    );
}

#[test]
fn peers_without_fee_range_agree_too() {
    let mut pair = Pair::ready();
    pair.a.config.closing_timeout_millis = u64::MAX;
    pair.command(Who::A, shutdown()).unwrap();
    let mut turns = 0;
    loop {
        // The range is taken from every message on its way.
        for end in [&mut pair.a, &mut pair.b] {
            for message in &mut end.outbox {
                if let Message::ClosingSigned(ClosingSigned { fee_range, .. }) = message {
                    *fee_range = None;
                }
            }
        }
        if !pair.deliver() {
            break;
        }
        turns += 1;
        assert!(turns < 50);
    }
    assert_closed(&pair, 700_000, 300_000);
}

#[test]
fn a_wrong_signature_fails_the_channel() {
    let mut pair = Pair::ready();
    pair.command(Who::A, shutdown()).unwrap();
    loop {
        if let Some(Message::ClosingSigned(m)) = pair.a.outbox.front_mut() {
            m.fee_satoshis += Amount::ONE_SAT;
            break;
        }
        assert!(pair.deliver());
    }
    pair.deliver();
    let reason = CloseReason::PeerFault(Rule::ClosingSignature);
    assert_eq!(
        pair.b.channel().status(),
        ChannelStatus::ForceClosing(reason)
    );
}

#[test]
fn silence_ends_in_a_forced_close() {
    let mut pair = Pair::ready();
    pair.command(Who::A, shutdown()).unwrap();
    pair.run_until_closing_signed();
    pair.world.now = pair
        .world
        .now
        .plus_millis(pair.a.config.closing_timeout_millis);
    pair.input(Who::A, ChannelInput::Tick).unwrap();
    let reason = CloseReason::ClosingTimeout;
    assert_eq!(
        pair.a.channel().status(),
        ChannelStatus::ForceClosing(reason)
    );
}

/// The peer says its `closing_signed` once: who could not answer for want of a signer answers when there is one.
#[test]
fn a_signer_that_was_away_is_asked_again() {
    for away in [Who::A, Who::B] {
        let mut pair = Pair::ready();
        pair.end(away).withhold_closings = true;
        pair.command(Who::A, shutdown()).unwrap();
        pair.run();
        assert!(pair.a.channel().mutual_close().is_none());
        let request = Box::new(pair.end(away).withheld.pop().unwrap());
        let answer = Box::new(SigningAnswer::Unavailable);
        pair.input(away, ChannelInput::Signed { request, answer })
            .unwrap();
        pair.run();
        assert!(pair.end(away).withheld.is_empty(), "not before a tick");
        pair.end(away).withhold_closings = false;
        pair.input(away, ChannelInput::Tick).unwrap();
        pair.run();
        assert!(pair.a.channel().mutual_close().is_some(), "{away:?}");
        assert!(pair.b.channel().mutual_close().is_some(), "{away:?}");
        pair.assert_no_fault();
    }
}

impl Pair {
    fn run_until_closing_signed(&mut self) {
        while !matches!(self.a.outbox.front(), Some(Message::ClosingSigned(_))) {
            assert!(self.deliver());
        }
    }
}

/// A opened and has made its proposal; B answers whatever a test wants, properly signed.
fn proposed() -> (Pair, Amount, FeeRange) {
    let mut pair = Pair::ready();
    pair.command(Who::A, shutdown()).unwrap();
    pair.run_until_closing_signed();
    let Some(Message::ClosingSigned(m)) = pair.a.outbox.pop_front() else {
        panic!("closing_signed is next");
    };
    (pair, m.fee_satoshis, m.fee_range.expect("we send it"))
}

fn answer(pair: &mut Pair, fee: u64, range: Option<(u64, u64)>) {
    let params = *pair.b.channel().params().unwrap();
    let request = ClosingSigning {
        params,
        content: ClosingContent {
            to_local: Msat::from_sat(300_000),
            to_remote: Msat::from_sat(700_000),
            local_script: script(2),
            remote_script: script(1),
            fee: Amount::from_sat(fee),
        },
        outputs: ClosingOutputs::Both,
    };
    let request = SigningRequest::Closing(Box::new(request));
    let SigningAnswer::Signature(signature) = pair.b.signer.answer(&request) else {
        panic!("the signer signs");
    };
    let message = ClosingSigned {
        channel_id: pair.a.channel().channel_id(),
        fee_satoshis: Amount::from_sat(fee),
        signature,
        fee_range: range.map(|(min, max)| FeeRange {
            min_fee_satoshis: Amount::from_sat(min),
            max_fee_satoshis: Amount::from_sat(max),
        }),
    };
    pair.input(Who::A, ChannelInput::Message(message.into()))
        .unwrap();
}

fn last_fee(pair: &mut Pair) -> Amount {
    match pair.a.outbox.pop_back() {
        Some(Message::ClosingSigned(m)) => m.fee_satoshis,
        other => panic!("{other:?}"),
    }
}

fn has_fault(pair: &Pair, rule: Rule) -> bool {
    pair.a
        .has_event(|e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == rule))
}

#[test]
fn any_fee_in_our_range_is_agreed_to_and_said_again() {
    let (mut pair, proposed, range) = proposed();
    let other = proposed + Amount::ONE_SAT;
    assert!(other < range.max_fee_satoshis);
    answer(&mut pair, other.to_sat(), None);
    assert_eq!(last_fee(&mut pair), other);
    assert!(pair.a.channel().mutual_close().is_some());
    pair.assert_no_fault();
}

#[test]
fn without_range_we_go_towards_the_peer_and_never_beyond_our_maximum() {
    let (mut pair, _, range) = proposed();
    answer(&mut pair, 50_000, None);
    assert_eq!(last_fee(&mut pair), range.max_fee_satoshis);
    assert!(pair.a.channel().mutual_close().is_none());
    // Not strictly between the last two.
    answer(&mut pair, 60_000, None);
    assert!(has_fault(&pair, Rule::ClosingFeeNotBetween));
    assert_eq!(pair.a.channel().status(), ChannelStatus::ShuttingDown);

    // The peer comes down to what we would pay.
    let (mut pair, ..) = proposed();
    answer(&mut pair, 50_000, None);
    answer(&mut pair, range.max_fee_satoshis.to_sat(), None);
    assert!(pair.a.channel().mutual_close().is_some());
    pair.assert_no_fault();
}

#[test]
fn ranges_that_do_not_overlap_are_warned_about_and_fees_outside_fail() {
    let (mut pair, _, range) = proposed();
    let above = range.max_fee_satoshis.to_sat() + 1;
    answer(&mut pair, above, Some((above, above * 2)));
    assert!(has_fault(&pair, Rule::ClosingNoOverlap));
    assert_eq!(pair.a.channel().status(), ChannelStatus::ShuttingDown);

    let (mut pair, ..) = proposed();
    answer(&mut pair, above, Some((300, above * 2)));
    assert!(has_fault(&pair, Rule::ClosingFeeOutsideRange));
    assert!(matches!(
        pair.a.channel().status(),
        ChannelStatus::ForceClosing(_)
    ));
}
