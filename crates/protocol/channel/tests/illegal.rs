//! Messages that break a rule: each is answered as BOLT 2 asks, and nothing panics.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{Amount, ScriptBuf, secp256k1::ecdsa::Signature};
use common::{Decide, Pair, Who, preimage, unknown_hash};
use fulmen_channel::{ChannelInput, ChannelOutput, ChannelStatus, CloseReason, Remedy, Rule};
use fulmen_types::{ChannelId, CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentPreimage};
use fulmen_wire::{
    ChannelReady, ChannelReestablish, ClosingSigned, CommitmentSigned, Message, RevokeAndAck,
    Shutdown, Stfu, TxAbort, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee,
    UpdateFulfillHtlc,
};

fn bad_signature() -> Signature {
    Signature::from_compact(&[1; 64]).unwrap()
}

fn add(pair: &Pair) -> UpdateAddHtlc {
    UpdateAddHtlc {
        channel_id: pair.a.channel().channel_id(),
        id: HtlcId::new(1),
        amount_msat: Msat::from_sat(1_000),
        payment_hash: preimage(1).payment_hash(),
        cltv_expiry: CltvExpiry::new(2_000),
        onion_routing_packet: Box::new([0; 1366]),
        path_key: None,
        extra_fee: None,
    }
}

/// A opened; B has offered HTLC 0 to A, which is committed for good. Messages come from B to A, where
/// not said otherwise.
fn pair() -> Pair {
    let mut pair = Pair::ready();
    pair.a.decide = Decide::Never;
    pair.b.decide = Decide::Never;
    pair.add(
        Who::B,
        Msat::from_sat(10_000),
        preimage(7).payment_hash(),
        b"b0",
    )
    .unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.run();
    pair.add(
        Who::A,
        Msat::from_sat(10_000),
        preimage(8).payment_hash(),
        b"a0",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair
}

type Make = fn(&Pair) -> Message;

type ChangeSignatures = fn(&mut Vec<Signature>);

const FROM_B: &[(Make, Rule)] = &[
    (
        |p| {
            UpdateAddHtlc {
                amount_msat: Msat::ZERO,
                ..add(p)
            }
            .into()
        },
        Rule::HtlcAmount,
    ),
    (
        |p| {
            UpdateAddHtlc {
                amount_msat: Msat::from_sat(285_000),
                ..add(p)
            }
            .into()
        },
        Rule::HtlcUnaffordable,
    ),
    (
        |p| {
            UpdateAddHtlc {
                amount_msat: Msat::MAX,
                ..add(p)
            }
            .into()
        },
        Rule::HtlcInFlight,
    ),
    (
        |p| {
            UpdateAddHtlc {
                cltv_expiry: CltvExpiry::new(500_000_000),
                ..add(p)
            }
            .into()
        },
        Rule::HtlcExpiryInSeconds,
    ),
    (
        |p| {
            UpdateAddHtlc {
                id: HtlcId::new(2),
                ..add(p)
            }
            .into()
        },
        Rule::HtlcId,
    ),
    (
        |p| {
            UpdateAddHtlc {
                id: HtlcId::new(0),
                ..add(p)
            }
            .into()
        },
        Rule::HtlcId,
    ),
    (
        |p| {
            UpdateFulfillHtlc {
                channel_id: p.a.channel().channel_id(),
                id: HtlcId::new(5),
                payment_preimage: preimage(8),
                attribution_data: None,
                fulfillment_payload: None,
            }
            .into()
        },
        Rule::UnknownHtlc,
    ),
    (
        |p| {
            UpdateFulfillHtlc {
                channel_id: p.a.channel().channel_id(),
                id: HtlcId::new(0),
                payment_preimage: PaymentPreimage::new([0x55; 32]),
                attribution_data: None,
                fulfillment_payload: None,
            }
            .into()
        },
        Rule::WrongPreimage,
    ),
    (
        |p| {
            UpdateFailHtlc {
                channel_id: p.a.channel().channel_id(),
                id: HtlcId::new(1),
                reason: vec![1; 292],
                attribution_data: None,
            }
            .into()
        },
        Rule::UnknownHtlc,
    ),
    (
        |p| {
            UpdateFailMalformedHtlc {
                channel_id: p.a.channel().channel_id(),
                id: HtlcId::new(0),
                sha256_of_onion: [0; 32],
                failure_code: 5,
            }
            .into()
        },
        Rule::NotBadOnion,
    ),
    (
        |p| {
            UpdateFee {
                channel_id: p.a.channel().channel_id(),
                feerate_per_kw: FeeratePerKw::new(1_000),
            }
            .into()
        },
        Rule::FeeFromFundee,
    ),
    (
        |p| {
            CommitmentSigned {
                channel_id: p.a.channel().channel_id(),
                signature: bad_signature(),
                htlc_signature: vec![],
                funding_txid: None,
                partial_signature_with_nonce: None,
            }
            .into()
        },
        Rule::CommitmentSignature,
    ),
    (
        |p| {
            RevokeAndAck {
                channel_id: p.a.channel().channel_id(),
                per_commitment_secret: [1; 32],
                next_per_commitment_point: p.b.node_id,
                next_local_nonces: None,
            }
            .into()
        },
        Rule::RevocationUnexpected,
    ),
    (
        |p| {
            Shutdown {
                channel_id: p.a.channel().channel_id(),
                scriptpubkey: ScriptBuf::from_bytes(vec![0x51]),
                shutdown_nonce: None,
            }
            .into()
        },
        Rule::ShutdownScript,
    ),
    (
        |p| {
            ClosingSigned {
                channel_id: p.a.channel().channel_id(),
                fee_satoshis: Amount::from_sat(100),
                signature: bad_signature(),
                fee_range: None,
            }
            .into()
        },
        Rule::ClosingTooEarly,
    ),
    (
        |p| {
            Stfu {
                channel_id: p.a.channel().channel_id(),
                initiator: true,
            }
            .into()
        },
        Rule::NotNegotiated,
    ),
    (
        |p| {
            ChannelReestablish {
                channel_id: p.a.channel().channel_id(),
                next_commitment_number: 1,
                next_revocation_number: 0,
                your_last_per_commitment_secret: [0; 32],
                my_current_per_commitment_point: p.b.node_id,
                next_funding: None,
                my_current_funding_locked: None,
                next_local_nonces: None,
            }
            .into()
        },
        Rule::UnexpectedMessage,
    ),
];

fn assert_remedy(pair: &Pair, rule: Rule) {
    let end = &pair.a;
    assert!(
        end.has_event(|e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == rule)),
        "{rule}: {:?}",
        end.events.last()
    );
    let closes = end.has_event(|e| matches!(e, ChannelOutput::CloseConnection));
    let fails = end.has_event(|e| matches!(e, ChannelOutput::ForceClosing(_)));
    let last = end.outbox.back();
    match rule.remedy() {
        Remedy::Warn => {
            assert!(matches!(last, Some(Message::Warning(_))), "{rule}");
            assert!(!closes && !fails, "{rule}");
        }
        Remedy::WarnAndClose => {
            assert!(matches!(last, Some(Message::Warning(_))), "{rule}");
            assert!(closes && !fails, "{rule}");
        }
        Remedy::Fail => {
            assert!(matches!(last, Some(Message::Error(_))), "{rule}");
            assert!(fails, "{rule}");
            assert_eq!(
                end.channel().status(),
                ChannelStatus::ForceClosing(CloseReason::PeerFault(rule))
            );
        }
        Remedy::ErrorAndWait => {
            assert!(matches!(last, Some(Message::Error(_))), "{rule}");
            assert!(!fails, "{rule}");
        }
    }
}

#[test]
fn every_illegal_message_makes_its_transition() {
    for (make, rule) in FROM_B {
        let mut pair = pair();
        let message = make(&pair);
        let htlcs = pair.a.channel().htlcs();
        pair.input(Who::A, ChannelInput::Message(message)).unwrap();
        assert_remedy(&pair, *rule);
        assert_eq!(pair.a.channel().htlcs(), htlcs, "{rule}");
        // After a warning the channel goes on where it was, once reconnected.
        if rule.remedy() == Remedy::WarnAndClose {
            pair.disconnect();
            pair.connect();
            pair.run();
            assert!(pair.a.channel().is_usable(), "{rule}");
        }
    }
}

#[test]
fn messages_that_harm_nobody_are_taken() {
    let mut pair = pair();
    let channel_id = pair.a.channel().channel_id();
    let abort = TxAbort {
        channel_id,
        data: vec![],
    };
    pair.input(Who::A, ChannelInput::Message(abort.into()))
        .unwrap();
    let redundant = ChannelReady {
        channel_id,
        second_per_commitment_point: pair.b.node_id,
        short_channel_id: None,
        next_local_nonce: None,
    };
    pair.input(Who::A, ChannelInput::Message(redundant.into()))
        .unwrap();
    pair.assert_no_fault();
    assert!(pair.a.channel().is_usable());
}

#[test]
fn a_bad_htlc_signature_or_count_fails_the_channel() {
    let changes: [(ChangeSignatures, Rule); 3] = [
        (|s| s[0] = bad_signature(), Rule::HtlcSignature),
        (|s| s.clear(), Rule::HtlcSignatureCount),
        (|s| s.push(s[0]), Rule::HtlcSignatureCount),
    ];
    for (change, rule) in changes {
        let mut pair = pair();
        pair.add(Who::B, Msat::from_sat(3_000), unknown_hash(2), b"b1")
            .unwrap();
        pair.input(Who::B, ChannelInput::Commit).unwrap();
        let Some(Message::CommitmentSigned(m)) = pair.b.outbox.back_mut() else {
            panic!("commitment_signed is last");
        };
        change(&mut m.htlc_signature);
        while pair.deliver_from(Who::B) {}
        assert_remedy(&pair, rule);
    }
}

#[test]
fn a_wrong_revocation_fails_the_channel() {
    let mut pair = pair();
    pair.add(Who::A, Msat::from_sat(3_000), unknown_hash(2), b"a1")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    while pair.deliver_from(Who::A) {}
    let Some(Message::RevokeAndAck(m)) = pair.b.outbox.front_mut() else {
        panic!("revoke_and_ack is first");
    };
    m.per_commitment_secret[3] ^= 1;
    pair.deliver_from(Who::B);
    assert_remedy(&pair, Rule::RevocationSecret);
}

#[test]
fn the_fundee_checks_the_feerate() {
    for (feerate, rule) in [
        (252, Rule::UpdateFeerateTooLow),
        (25_001, Rule::UpdateFeerateTooHigh),
    ] {
        let mut pair = pair();
        let message = UpdateFee {
            channel_id: pair.a.channel().channel_id(),
            feerate_per_kw: FeeratePerKw::new(feerate),
        };
        pair.input(Who::B, ChannelInput::Message(message.into()))
            .unwrap();
        assert!(
            pair.b
                .has_event(|e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == rule))
        );
    }
}

#[test]
fn an_add_after_shutdown_fails_the_channel() {
    let mut pair = pair();
    let shutdown = Shutdown {
        channel_id: pair.a.channel().channel_id(),
        scriptpubkey: common::script(3),
        shutdown_nonce: None,
    };
    pair.input(Who::A, ChannelInput::Message(shutdown.into()))
        .unwrap();
    let message = add(&pair).into();
    pair.input(Who::A, ChannelInput::Message(message)).unwrap();
    assert_remedy(&pair, Rule::AddAfterShutdown);
}

#[test]
fn an_error_of_the_peer_fails_the_channel_and_a_warning_does_not() {
    let mut pair = pair();
    let warning = fulmen_wire::Warning::new(ChannelId::ALL, "careful");
    pair.input(Who::A, ChannelInput::Message(warning.into()))
        .unwrap();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Normal);
    let error = fulmen_wire::Error::new(ChannelId::ALL, "bye\n\u{202e}now");
    pair.input(Who::A, ChannelInput::Message(error.into()))
        .unwrap();
    let ChannelStatus::ForceClosing(CloseReason::PeerError(text)) = pair.a.channel().status()
    else {
        panic!("an error fails the channel");
    };
    assert_eq!(text, "bye\u{fffd}\u{fffd}now");
}

#[test]
fn nothing_is_read_before_reestablish() {
    let mut pair = pair();
    pair.disconnect();
    pair.connect();
    let message = add(&pair).into();
    pair.input(Who::A, ChannelInput::Message(message)).unwrap();
    assert_remedy(&pair, Rule::UnexpectedMessage);
}
