//! Reserve, fee spike buffer, counts, values, dust exposure: what we refuse to send and how we take what is
//! sent.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::Amount;
use common::{Decide, Outcome, Pair, Who, preimage, unknown_hash};
use fulmen_channel::{ChannelError, ChannelInput, ChannelOutput, Refusal};
use fulmen_types::{ChannelType, FeeratePerKw, Msat};

fn refused(result: Result<(), ChannelError>) -> Refusal {
    match result {
        Err(ChannelError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn exactly_what_is_available_can_be_sent() {
    for channel_type in [ChannelType::anchors(), ChannelType::static_remote_key()] {
        for who in [Who::A, Who::B] {
            let mut pair = Pair::new();
            let mut request = pair.a.open_request();
            request.channel_type = Some(channel_type.clone());
            pair.open(request);
            let end = if who == Who::A { &pair.a } else { &pair.b };
            let available = end.channel().available_to_send();
            assert!(available > Msat::from_sat(280_000));
            let one_more = Msat::new(available.to_msat() + 1);
            let hash = preimage(1).payment_hash();
            assert_eq!(
                refused(pair.add(who, one_more, hash, b"x")),
                Refusal::InsufficientBalance { available }
            );
            pair.add(who, available, hash, b"x").unwrap();
            pair.input(who, ChannelInput::Commit).unwrap();
            pair.run();
            pair.settled();
            pair.assert_no_fault();
            // The other way still works: the fee spike buffer is there for it.
            let back = if who == Who::A { Who::B } else { Who::A };
            pair.add(
                back,
                Msat::from_sat(10_000),
                preimage(2).payment_hash(),
                b"y",
            )
            .unwrap();
            pair.input(back, ChannelInput::Commit).unwrap();
            pair.run();
            pair.settled();
            pair.assert_no_fault();
        }
    }
}

#[test]
fn the_reserve_stays() {
    let mut pair = Pair::ready();
    let available = pair.b.channel().available_to_send();
    // 1% of a million.
    assert_eq!(available, Msat::from_sat(290_000));
    let (ours, _) = pair.b.channel().balances();
    assert_eq!(ours, Msat::from_sat(300_000));
    pair.b.config.htlc_minimum = Msat::new(1);
}

#[test]
fn the_fundee_with_nothing_can_not_send() {
    let mut pair = Pair::new();
    let mut request = pair.a.open_request();
    request.push = Msat::ZERO;
    pair.open(request);
    assert_eq!(pair.b.channel().available_to_send(), Msat::ZERO);
    let result = pair.add(Who::B, Msat::new(1), preimage(1).payment_hash(), b"x");
    assert_eq!(
        refused(result),
        Refusal::InsufficientBalance {
            available: Msat::ZERO
        }
    );
}

#[test]
fn counts_and_values_of_the_peer_are_kept() {
    let mut pair = Pair::new();
    pair.b.config.max_accepted_htlcs = 3;
    pair.b.config.max_in_flight_percent = 5;
    pair.b.config.htlc_minimum = Msat::from_sat(10);
    pair.b.decide = Decide::Never;
    let request = pair.a.open_request();
    pair.open(request);
    let hash = preimage(1).payment_hash();
    assert_eq!(
        refused(pair.add(Who::A, Msat::from_sat(9), hash, b"x")),
        Refusal::AmountTooSmall {
            minimum: Msat::from_sat(10)
        }
    );
    assert_eq!(
        refused(pair.add(Who::A, Msat::from_sat(50_001), hash, b"x")),
        Refusal::InFlightLimit {
            maximum: Msat::from_sat(50_000)
        }
    );
    for n in 0..3u8 {
        pair.add(Who::A, Msat::from_sat(1_000), hash, &[n]).unwrap();
    }
    assert_eq!(
        refused(pair.add(Who::A, Msat::from_sat(1_000), hash, b"x")),
        Refusal::TooManyHtlcs { maximum: 3 }
    );
    assert_eq!(pair.a.channel().available_to_send(), Msat::ZERO);
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair.assert_no_fault();
    assert_eq!(pair.b.channel().htlcs().len(), 3);
}

#[test]
fn dust_is_refused_when_sending_and_flagged_when_receiving() {
    let mut pair = Pair::ready();
    pair.a.config.max_dust_htlc_exposure = Msat::from_sat(500);
    pair.b.decide = Decide::Never;
    let hash = preimage(1).payment_hash();
    let dust = Msat::from_sat(300);
    pair.add(Who::A, dust, hash, b"1").unwrap();
    assert_eq!(
        refused(pair.add(Who::A, dust, hash, b"2")),
        Refusal::DustExposure
    );
    // What is no dust passes.
    pair.add(Who::A, Msat::from_sat(1_000), hash, b"3").unwrap();

    // The other end's own limit: committed, and told that it must fail.
    let mut pair = Pair::ready();
    pair.b.config.max_dust_htlc_exposure = Msat::from_sat(500);
    pair.add(Who::A, dust, hash, b"1").unwrap();
    pair.add(Who::A, dust, unknown_hash(2), b"2").unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    let flags: Vec<bool> = pair
        .b
        .events
        .iter()
        .filter_map(|event| match event {
            ChannelOutput::IncomingHtlc(htlc) => Some(htlc.dust_exposed),
            _ => None,
        })
        .collect();
    assert_eq!(flags, [false, true]);
    pair.assert_no_fault();
    assert!(matches!(
        pair.a.outcomes[b"2".as_slice()],
        Outcome::Failed(_)
    ));
}

/// A channel whose feerate trims HTLCs.
fn without_anchors() -> Pair {
    let mut pair = Pair::new();
    let mut request = pair.a.open_request();
    request.channel_type = Some(ChannelType::static_remote_key());
    pair.open(request);
    pair
}

#[test]
fn a_feerate_that_trims_too_much_is_not_sent() {
    let mut pair = without_anchors();
    pair.a.config.max_dust_htlc_exposure = Msat::from_sat(5_000);
    pair.b.decide = Decide::Never;
    for n in 0..4u8 {
        let hash = unknown_hash(n);
        pair.add(Who::A, Msat::from_sat(2_000), hash, &[n]).unwrap();
    }
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    // At 3000 sat/kw the second stage costs about 2000 sat.
    let result = pair.command(Who::A, ChannelInput::UpdateFee(FeeratePerKw::new(3_000)));
    assert_eq!(refused(result), Refusal::Feerate);
    pair.command(Who::A, ChannelInput::UpdateFee(FeeratePerKw::new(1_100)))
        .unwrap();
    pair.run();
    pair.assert_no_fault();
}

/// The opener raises the feerate while the other end adds an HTLC that this trims. Each has seen to its limit, the sum is
/// more, and both go on, wherever the connection ends: refused, the update would be repeated for ever.
#[test]
fn a_feerate_that_crosses_what_it_trims_is_taken() {
    // An output at 1000 sat/kw, and none at 2000.
    let amount = Msat::from_sat(1_500);
    for cut in 0..12 {
        let mut pair = without_anchors();
        for who in [Who::A, Who::B] {
            pair.end(who).config.max_dust_htlc_exposure = Msat::from_sat(2_000);
            pair.end(who).decide = Decide::Never;
            let n = u8::from(who == Who::B);
            pair.add(who, amount, unknown_hash(n), &[n]).unwrap();
            let more = pair.add(who, amount, unknown_hash(n), b"more");
            assert_eq!(refused(more), Refusal::DustExposure);
        }
        let wanted = FeeratePerKw::new(2_000);
        pair.input(Who::A, ChannelInput::UpdateFee(wanted)).unwrap();
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        pair.input(Who::B, ChannelInput::Commit).unwrap();
        for _ in 0..cut {
            pair.deliver();
        }
        pair.disconnect();
        pair.connect();
        pair.run();
        pair.assert_no_fault();
        for end in [&pair.a, &pair.b] {
            assert_eq!(end.channel().feerate(), Some(wanted));
            assert_eq!(end.channel().htlcs().len(), 2);
        }
    }
}

#[test]
fn the_wanted_feerate_follows_the_estimates() {
    let mut pair = Pair::ready();
    let feerates = pair.world.feerates;
    assert_eq!(pair.a.channel().feerate_to_change_to(&feerates), None);
    let mut higher = feerates;
    higher.normal = FeeratePerKw::new(2_000);
    let wanted = pair.a.channel().feerate_to_change_to(&higher);
    assert_eq!(wanted, Some(FeeratePerKw::new(2_000)));
    assert_eq!(pair.b.channel().feerate_to_change_to(&higher), None);
    pair.command(Who::A, ChannelInput::UpdateFee(FeeratePerKw::new(2_000)))
        .unwrap();
    pair.run();
    assert_eq!(pair.a.channel().feerate_to_change_to(&higher), None);
}

#[test]
fn refused_commands_say_why() {
    let mut pair = Pair::ready();
    let hash = preimage(1).payment_hash();
    pair.disconnect();
    let result = pair.add(Who::A, Msat::from_sat(1_000), hash, b"x");
    assert_eq!(refused(result), Refusal::NotConnected);
    pair.connect();
    pair.run();
    let result = pair.add(Who::A, Msat::from_sat(1_000), hash, &[0; 1_025]);
    assert_eq!(refused(result), Refusal::LinkTooLong);
    let resolution = fulmen_channel::HtlcResolution::Fulfil(preimage(1));
    let htlc_id = fulmen_types::HtlcId::new(0);
    let resolve = ChannelInput::Resolve {
        htlc_id,
        resolution,
    };
    assert_eq!(refused(pair.input(Who::A, resolve)), Refusal::UnknownHtlc);
    assert_eq!(
        refused(pair.input(Who::A, ChannelInput::Forget)),
        Refusal::NotDone
    );
    assert_eq!(pair.a.channel().value(), Amount::from_sat(1_000_000));
}
