//! Open, HTLCs in both directions, the dance of commitments.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Outcome, Pair, Who, preimage, unknown_hash};
use fulmen_channel::{ChannelInput, ChannelOutput, HtlcFailure};
use fulmen_types::{ChannelType, FeeratePerKw, Msat};

#[test]
fn both_types_open_and_carry_a_payment_each_way() {
    for channel_type in [ChannelType::anchors(), ChannelType::static_remote_key()] {
        let mut pair = Pair::new();
        let mut request = pair.a.open_request();
        request.channel_type = Some(channel_type.clone());
        pair.open(request);
        assert_eq!(pair.a.channel().channel_type(), Some(&channel_type));
        assert_eq!(pair.settled(), Msat::from_sat(700_000));

        pair.add(
            Who::A,
            Msat::from_sat(100_000),
            preimage(1).payment_hash(),
            b"a1",
        )
        .unwrap();
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        pair.run();
        assert_eq!(pair.settled(), Msat::from_sat(600_000));
        pair.add(
            Who::B,
            Msat::from_sat(50_000),
            preimage(2).payment_hash(),
            b"b1",
        )
        .unwrap();
        pair.input(Who::B, ChannelInput::Commit).unwrap();
        pair.run();
        assert_eq!(pair.settled(), Msat::from_sat(650_000));
        assert_eq!(pair.a.outcomes[b"a1".as_slice()], Outcome::Settled);
        assert_eq!(pair.b.outcomes[b"b1".as_slice()], Outcome::Settled);
        pair.assert_no_fault();
    }
}

#[test]
fn crossing_adds_fulfils_and_failures_settle() {
    let mut pair = Pair::ready();
    for n in 0..10u8 {
        let amount = Msat::new(5_000_000 + u64::from(n));
        pair.add(Who::A, amount, preimage(n).payment_hash(), &[b'a', n])
            .unwrap();
        pair.add(Who::B, amount, unknown_hash(n), &[b'b', n])
            .unwrap();
    }
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.run();
    assert_eq!(pair.settled(), Msat::new(650_000_000 - 45));
    for n in 0..10u8 {
        assert_eq!(pair.a.outcomes[[b'a', n].as_slice()], Outcome::Settled);
        let failure = if n % 2 == 0 {
            HtlcFailure::Packet(vec![0xfa; 292])
        } else {
            HtlcFailure::Malformed {
                failure_code: 0x8000 | 0x4000 | 5,
                sha256_of_onion: [5; 32],
            }
        };
        assert_eq!(
            pair.b.outcomes[[b'b', n].as_slice()],
            Outcome::Failed(failure)
        );
    }
    pair.assert_no_fault();
}

#[test]
fn many_adds_share_one_signature() {
    let mut pair = Pair::ready();
    for n in 0..30u8 {
        pair.add(
            Who::A,
            Msat::from_sat(2_000),
            preimage(n).payment_hash(),
            &[n],
        )
        .unwrap();
    }
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    let before = pair.a.channel().commitment_numbers().unwrap();
    assert_eq!(before.1.to_u64(), 1);
    pair.run();
    assert_eq!(pair.settled(), Msat::from_sat(640_000));
}

#[test]
fn the_feerate_follows_the_opener() {
    let mut pair = Pair::ready();
    assert_eq!(pair.a.channel().feerate(), Some(FeeratePerKw::new(1_000)));
    pair.add(
        Who::B,
        Msat::from_sat(9_000),
        preimage(1).payment_hash(),
        b"b",
    )
    .unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.command(Who::A, ChannelInput::UpdateFee(FeeratePerKw::new(1_500)))
        .unwrap();
    pair.run();
    assert_eq!(pair.b.channel().feerate(), Some(FeeratePerKw::new(1_500)));
    pair.settled();
    assert!(
        pair.command(Who::B, ChannelInput::UpdateFee(FeeratePerKw::new(1_500)))
            .is_err()
    );
    pair.assert_no_fault();
}

#[test]
fn two_htlcs_with_the_same_hash_and_amount_are_two() {
    let mut pair = Pair::ready();
    let hash = preimage(1).payment_hash();
    pair.add(Who::A, Msat::from_sat(10_000), hash, b"one")
        .unwrap();
    pair.add(Who::A, Msat::from_sat(10_000), hash, b"two")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    assert_eq!(pair.settled(), Msat::from_sat(680_000));
    assert_eq!(pair.a.outcomes.len(), 2);
    let incoming = pair
        .b
        .events
        .iter()
        .filter(|event| matches!(event, ChannelOutput::IncomingHtlc(_)))
        .count();
    assert_eq!(incoming, 2);
    pair.assert_no_fault();
}

#[test]
fn a_missing_point_delays_the_revocation_and_nothing_else() {
    let mut pair = Pair::ready();
    pair.b.withhold_points = true;
    for n in 0..4u8 {
        pair.add(
            Who::A,
            Msat::from_sat(10_000),
            preimage(n).payment_hash(),
            &[n],
        )
        .unwrap();
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        pair.run();
    }
    assert!(!pair.a.channel().htlcs().is_empty(), "the peer waits");
    pair.b.withhold_points = false;
    give_withheld_points(&mut pair);
    assert_eq!(pair.settled(), Msat::from_sat(660_000));
    pair.assert_no_fault();
}

/// What HTLCs have brought can be spent as soon as they are fulfilled on both commitments, before the last
/// revocation; also when it is more than all that the end had before.
#[test]
fn what_was_earned_is_spent_before_it_is_settled() {
    let mut spent_early = 0;
    for withheld_after in 0..12 {
        let mut pair = Pair::ready();
        let hash = |n: u8| preimage(n).payment_hash();
        let nearly_all = pair.b.channel().available_to_send().to_msat() - 5_000_000;
        pair.add(Who::B, Msat::new(nearly_all), hash(9), b"away")
            .unwrap();
        pair.input(Who::B, ChannelInput::Commit).unwrap();
        pair.run();
        let before = pair.settled();
        for n in 0..3u8 {
            pair.add(Who::A, Msat::from_sat(30_000), hash(n), &[n])
                .unwrap();
        }
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        let mut back = Msat::ZERO;
        for delivered in 0.. {
            pair.b.withhold_points = delivered >= withheld_after;
            if !pair.deliver() {
                break;
            }
            let available = pair.b.channel().available_to_send();
            if back == Msat::ZERO && available > Msat::from_sat(40_000) {
                spent_early += u32::from(!pair.b.channel().htlcs().is_empty());
                back = available;
                pair.add(Who::B, back, hash(8), b"back").unwrap();
                pair.input(Who::B, ChannelInput::Commit).unwrap();
            }
        }
        pair.b.withhold_points = false;
        give_withheld_points(&mut pair);
        let sent = Msat::from_sat(90_000);
        assert_eq!(
            pair.settled(),
            before.checked_sub(sent).unwrap().checked_add(back).unwrap()
        );
        pair.assert_no_fault();
    }
    assert!(spent_early > 0, "nothing was spent early");
}

/// Gives B the points that were withheld, until all is quiet.
fn give_withheld_points(pair: &mut Pair) {
    loop {
        let withheld = std::mem::take(&mut pair.b.withheld);
        if withheld.is_empty() {
            break;
        }
        for request in withheld {
            let answer = Box::new(fulmen_signer::Signer::answer(&pair.b.signer, &request));
            pair.command(
                Who::B,
                ChannelInput::Signed {
                    request: Box::new(request),
                    answer,
                },
            )
            .unwrap();
        }
        pair.run();
    }
}
