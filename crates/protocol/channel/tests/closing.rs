//! Shutdown and the fee of the closing transaction.

mod common;

use bitcoin::Amount;
use common::{Pair, Who, preimage, script};
use fulmen_channel::{
    ChannelError, ChannelInput, ChannelOutput, ChannelStatus, CloseReason, Refusal, Rule,
    UpfrontShutdown,
};
use fulmen_types::{ChannelType, FeeratePerKw, Msat};
use fulmen_wire::{ClosingSigned, Message, Shutdown};

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
fn a_legacy_peer_without_fee_range_meets_in_the_middle() {
    let mut pair = Pair::ready();
    pair.a.config.closing_timeout_millis = u64::MAX;
    pair.b.world_feerate_hint();
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

impl common::End {
    fn world_feerate_hint(&mut self) {
        self.config.closing_timeout_millis = u64::MAX;
    }
}

impl Pair {
    fn run_until_closing_signed(&mut self) {
        while !matches!(self.a.outbox.front(), Some(Message::ClosingSigned(_))) {
            assert!(self.deliver());
        }
    }
}
