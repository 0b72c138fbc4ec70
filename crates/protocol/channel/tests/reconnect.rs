//! A scripted scenario, cut after every single message: disconnected, or crashed at one end or both. The
//! end is the same every time.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Outcome, Pair, Who, preimage, unknown_hash};
use fulmen_channel::{ChannelInput, ChannelOutput, HtlcFailure};
use fulmen_types::{ChannelType, FeeratePerKw, Msat};

/// What happens when the scenario is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Disconnect,
    CrashA,
    CrashB,
    CrashBoth,
}

/// Things the two do, one after the other, with messages delivered between them.
const STEPS: usize = 8;

fn act(pair: &mut Pair, step: usize) {
    let sat = Msat::from_sat;
    // A refusal is fine: what can't be added during a disconnect is added again at the end.
    match step {
        0 => {
            let _ = pair.add(Who::A, sat(20_000), preimage(1).payment_hash(), b"a-ok");
            let _ = pair.add(Who::A, sat(21_000), unknown_hash(2), b"a-fail");
        }
        1 => {
            let _ = pair.input(Who::A, ChannelInput::Commit);
        }
        2 => {
            let _ = pair.add(Who::B, sat(15_000), preimage(3).payment_hash(), b"b-ok");
        }
        3 => {
            let _ = pair.input(Who::B, ChannelInput::Commit);
            let _ = pair.add(Who::A, sat(5_000), unknown_hash(3), b"a-bad");
        }
        4 => {
            let _ = pair.command(Who::A, ChannelInput::UpdateFee(FeeratePerKw::new(1_300)));
        }
        5 => {
            let _ = pair.add(
                Who::B,
                Msat::new(77_777),
                preimage(4).payment_hash(),
                b"b-dust",
            );
            let _ = pair.input(Who::B, ChannelInput::Commit);
        }
        6 => {
            let _ = pair.add(Who::B, sat(2_000), unknown_hash(4), b"b-fail");
            let _ = pair.input(Who::A, ChannelInput::Commit);
        }
        _ => {
            let _ = pair.input(Who::B, ChannelInput::Commit);
        }
    }
}

const LINKS: [(&[u8], Who); 6] = [
    (b"a-ok", Who::A),
    (b"a-fail", Who::A),
    (b"b-ok", Who::B),
    (b"a-bad", Who::A),
    (b"b-dust", Who::B),
    (b"b-fail", Who::B),
];

/// Adds once more what never was added or was lost.
fn retry(pair: &mut Pair) {
    for step in [0, 2, 3, 5, 6] {
        let known: Vec<Vec<u8>> = [&pair.a, &pair.b]
            .iter()
            .flat_map(|end| {
                let live = end
                    .channel()
                    .htlcs()
                    .into_iter()
                    .filter_map(|htlc| htlc.link);
                live.chain(end.outcomes.keys().cloned()).collect::<Vec<_>>()
            })
            .collect();
        let wanted: Vec<&[u8]> = match step {
            0 => vec![b"a-ok", b"a-fail"],
            2 => vec![b"b-ok"],
            3 => vec![b"a-bad"],
            5 => vec![b"b-dust"],
            _ => vec![b"b-fail"],
        };
        for link in wanted {
            if known.iter().any(|k| k == link) {
                continue;
            }
            let (sat, hash) = match link {
                b"a-ok" => (Msat::from_sat(20_000), preimage(1).payment_hash()),
                b"a-fail" => (Msat::from_sat(21_000), unknown_hash(2)),
                b"b-ok" => (Msat::from_sat(15_000), preimage(3).payment_hash()),
                b"a-bad" => (Msat::from_sat(5_000), unknown_hash(3)),
                b"b-dust" => (Msat::new(77_777), preimage(4).payment_hash()),
                _ => (Msat::from_sat(2_000), unknown_hash(4)),
            };
            let who = LINKS.iter().find(|(l, _)| *l == link).unwrap().1;
            pair.add(who, sat, hash, link).unwrap();
        }
    }
    for who in [Who::A, Who::B] {
        pair.input(who, ChannelInput::Commit).unwrap();
    }
    pair.run();
}

/// Runs the scenario, cutting it after `cut_after` messages; how many messages there were.
fn scenario(channel_type: &ChannelType, cuts: &[(usize, Cut)], per_step: usize) -> usize {
    let mut pair = Pair::new();
    let mut request = pair.a.open_request();
    request.channel_type = Some(channel_type.clone());
    pair.open(request);
    let start = pair.delivered;
    let mut cuts = cuts.iter().copied().peekable();
    for step in 0..=STEPS {
        if step < STEPS {
            act(&mut pair, step);
        }
        let mut in_step = 0;
        loop {
            if let Some((after, cut)) = cuts.peek().copied()
                && pair.delivered - start >= after
            {
                cuts.next();
                interrupt(&mut pair, cut);
            }
            if (step < STEPS && in_step >= per_step) || !pair.deliver() {
                break;
            }
            in_step += 1;
        }
    }
    pair.run();
    let messages = pair.delivered - start;
    retry(&mut pair);
    check(&mut pair);
    messages
}

fn interrupt(pair: &mut Pair, cut: Cut) {
    match cut {
        Cut::Disconnect => {}
        Cut::CrashA => pair.crash(Who::A),
        Cut::CrashB => pair.crash(Who::B),
        Cut::CrashBoth => {
            pair.crash(Who::A);
            pair.crash(Who::B);
        }
    }
    pair.disconnect();
    pair.connect();
}

fn check(pair: &mut Pair) {
    pair.assert_no_fault();
    // 700000 - 20000 + 15000 + 77.777
    assert_eq!(pair.settled(), Msat::new(695_077_777));
    for (link, who) in LINKS {
        let end = match who {
            Who::A => &pair.a,
            Who::B => &pair.b,
        };
        let expected = match link {
            b"a-ok" | b"b-ok" | b"b-dust" => Outcome::Settled,
            b"a-bad" => Outcome::Failed(HtlcFailure::Malformed {
                failure_code: 0x8000 | 0x4000 | 5,
                sha256_of_onion: [5; 32],
            }),
            _ => Outcome::Failed(HtlcFailure::Packet(vec![0xfa; 292])),
        };
        assert_eq!(end.outcomes[link], expected, "{}", link.escape_ascii());
    }
    // Whatever was cut, the next payment goes through.
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(9).payment_hash(),
        b"last",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    assert_eq!(pair.settled(), Msat::new(694_077_777));
}

#[test]
fn every_cut_point_leads_to_the_same_end() {
    for channel_type in [ChannelType::anchors(), ChannelType::static_remote_key()] {
        for per_step in [1, 3] {
            let messages = scenario(&channel_type, &[], per_step);
            assert!(messages > 25, "{messages}");
            for cut in [Cut::Disconnect, Cut::CrashA, Cut::CrashB, Cut::CrashBoth] {
                for after in 0..=messages {
                    scenario(&channel_type, &[(after, cut)], per_step);
                }
            }
        }
    }
}

#[test]
fn two_cuts_in_a_row_lead_to_the_same_end() {
    let messages = scenario(&ChannelType::anchors(), &[], 2);
    for first in (0..messages).step_by(2) {
        for gap in 0..12 {
            scenario(
                &ChannelType::anchors(),
                &[(first, Cut::Disconnect), (first + gap, Cut::CrashBoth)],
                2,
            );
        }
    }
}

#[test]
fn an_add_that_was_never_signed_is_given_back_and_its_id_used_again() {
    let mut pair = Pair::ready();
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(1).payment_hash(),
        b"x",
    )
    .unwrap();
    pair.disconnect();
    assert_eq!(pair.a.lost.len(), 1);
    assert!(pair.a.channel().htlcs().is_empty());
    pair.connect();
    pair.run();
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(1).payment_hash(),
        b"x",
    )
    .unwrap();
    let ids: Vec<u64> = pair.ids(Who::A).iter().map(|id| id.to_u64()).collect();
    assert_eq!(ids, [0]);
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    assert_eq!(pair.settled(), Msat::from_sat(699_000));
}

#[test]
fn an_add_that_was_never_signed_is_given_back_after_a_crash() {
    let mut pair = Pair::ready();
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(1).payment_hash(),
        b"x",
    )
    .unwrap();
    pair.crash(Who::A);
    assert_eq!(pair.a.lost.len(), 1);
    assert!(pair.a.channel().htlcs().is_empty());
}

#[test]
fn undecided_htlcs_and_known_preimages_are_told_again_after_a_crash() {
    let mut pair = Pair::ready();
    pair.b.decide = common::Decide::Never;
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(1).payment_hash(),
        b"x",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair.b.events.clear();
    pair.b.decide = common::Decide::ByHash;
    pair.crash(Who::B);
    assert!(
        pair.b
            .has_event(|e| matches!(e, ChannelOutput::IncomingHtlc(_)))
    );
    pair.disconnect();
    pair.connect();
    // The fulfil arrives, its signature does not.
    while pair.a.preimages.is_empty() {
        assert!(pair.deliver());
    }
    pair.a.events.clear();
    pair.crash(Who::A);
    assert!(
        pair.a
            .has_event(|e| matches!(e, ChannelOutput::OutgoingFulfilled { .. }))
    );
    pair.disconnect();
    pair.connect();
    pair.run();
    assert_eq!(pair.settled(), Msat::from_sat(699_000));
    pair.assert_no_fault();
}

#[test]
fn a_preimage_is_never_unlearned() {
    let mut pair = Pair::ready();
    pair.b.decide = common::Decide::Never;
    pair.add(
        Who::A,
        Msat::from_sat(1_000),
        preimage(1).payment_hash(),
        b"x",
    )
    .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    let htlc_id = pair.b.channel().htlcs()[0].id;
    let message = fulmen_wire::UpdateFulfillHtlc {
        channel_id: pair.a.channel().channel_id(),
        id: htlc_id,
        payment_preimage: preimage(1),
        attribution_data: None,
        fulfillment_payload: None,
    };
    // B says the preimage, leaves before signing, and fails the HTLC the next time.
    pair.input(Who::A, ChannelInput::Message(message.into()))
        .unwrap();
    assert_eq!(pair.a.preimages.len(), 1);
    pair.disconnect();
    pair.crash(Who::A);
    pair.disconnect();
    pair.connect();
    pair.run();
    let resolution = fulmen_channel::HtlcResolution::Fail(vec![1; 292]);
    let resolve = ChannelInput::Resolve {
        htlc_id,
        resolution,
    };
    pair.input(Who::B, resolve).unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.run();
    // Upstream stays settled, and the money stays here.
    assert_eq!(pair.a.outcomes[b"x".as_slice()], Outcome::Settled);
    assert_eq!(pair.settled(), Msat::from_sat(700_000));
    pair.assert_no_fault();
}

#[test]
fn channel_ready_and_funding_survive_cuts() {
    for cut in [Cut::Disconnect, Cut::CrashA, Cut::CrashB, Cut::CrashBoth] {
        for after in 0..6 {
            let mut pair = Pair::new();
            let request = pair.a.open_request();
            pair.begin(request);
            pair.run();
            pair.confirm(3);
            for _ in 0..after {
                pair.deliver();
            }
            interrupt(&mut pair, cut);
            pair.run();
            assert!(pair.a.channel().is_usable(), "{cut:?} {after}");
            assert!(pair.b.channel().is_usable(), "{cut:?} {after}");
            pair.assert_no_fault();
        }
    }
}
