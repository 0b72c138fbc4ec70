//! A signer that refuses makes the channel rest; one that remembers more than we do proves our state old.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Outcome, Pair, Refuses, Who, preimage, unknown_hash};
use fulmen_channel::{
    ChannelError, ChannelInput, ChannelOutput, ChannelStatus, CloseReason, Freshness, HtlcFailure,
    Refusal,
};
use fulmen_signer::SigningAnswer;
use fulmen_types::Msat;
use fulmen_wire::Message;

const SAT: fn(u64) -> Msat = Msat::from_sat;

fn blocked(pair: &Pair) -> bool {
    matches!(pair.a.channel().status(), ChannelStatus::SignerBlocked(_))
}

fn resets(pair: &Pair) -> usize {
    let is_reset = |e: &&ChannelOutput| matches!(e, ChannelOutput::ResetConnection);
    pair.a.events.iter().filter(is_reset).count()
}

fn failed_without_commitment(pair: &Pair) -> usize {
    let is_lost = |e: &&ChannelOutput| {
        matches!(
            e,
            ChannelOutput::OutgoingFailed {
                reason: HtlcFailure::NeverCommitted,
                ..
            }
        )
    };
    pair.a.events.iter().filter(is_lost).count()
}

fn reconnect(pair: &mut Pair) {
    pair.disconnect();
    pair.connect();
    pair.run();
}

/// Both ends have offered HTLCs, and A's signer refuses the one signature that covers A's and acknowledges
/// B's.
fn refused(how: Refuses) -> Pair {
    let mut pair = Pair::ready();
    pair.add(Who::A, SAT(30_000), unknown_hash(2), b"before")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair.add(Who::B, SAT(15_000), preimage(3).payment_hash(), b"b-ok")
        .unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.deliver_from(Who::B);
    pair.a.refuses = Some(how);
    pair.add(Who::A, SAT(20_000), preimage(1).payment_hash(), b"first")
        .unwrap();
    pair.add(Who::A, SAT(21_000), unknown_hash(4), b"second")
        .unwrap();
    pair.a.events.clear();
    // B's commitment_signed, which A acknowledges and answers.
    pair.deliver_from(Who::B);
    pair
}

#[test]
fn a_refusal_rests_the_channel_and_takes_back_what_nobody_signed() {
    let mut pair = refused(Refuses::Surely);
    assert!(blocked(&pair), "{}", pair.a.channel().describe());
    assert_eq!((resets(&pair), failed_without_commitment(&pair)), (1, 2));
    assert!(
        pair.a.has_event(
            |e| matches!(e, ChannelOutput::SignerBlocked(why) if why.contains("refused"))
        )
    );

    // It says and asks nothing, over connections and restarts, and lists no HTLC that is not there.
    for restart in [false, true] {
        pair.disconnect();
        if restart {
            pair.crash(Who::A);
        }
        pair.connect();
        pair.run();
        assert!(blocked(&pair));
        assert!(!pair.a.channel().is_usable());
        let added = pair.add(Who::A, SAT(1_000), preimage(9).payment_hash(), b"no");
        assert_eq!(added, Err(ChannelError::Refused(Refusal::SignerBlocked)));
        let shutdown = ChannelInput::Shutdown {
            script: None,
            feerate: None,
        };
        let shutdown = pair.input(Who::A, shutdown);
        assert_eq!(shutdown, Err(ChannelError::Refused(Refusal::SignerBlocked)));
        let ours = pair.a.channel().htlcs();
        assert!(ours.iter().all(|h| h.link.as_deref() != Some(b"first")));
    }

    // Unblocked it goes on as if the signature had not been asked for: the numbers are used again.
    pair.a.refuses = None;
    pair.input(Who::A, ChannelInput::Unblock).unwrap();
    let again = pair.input(Who::A, ChannelInput::Unblock);
    assert_eq!(again, Err(ChannelError::Refused(Refusal::WrongState)));
    reconnect(&mut pair);
    assert_eq!(pair.a.channel().status(), ChannelStatus::Normal);
    pair.add(Who::A, SAT(20_000), preimage(1).payment_hash(), b"first")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    assert_eq!(pair.a.outcomes.get(&b"first"[..]), Some(&Outcome::Settled));
    assert_eq!(pair.b.outcomes.get(&b"b-ok"[..]), Some(&Outcome::Settled));
    assert_eq!(pair.settled(), SAT(700_000 - 20_000 + 15_000));
}

#[test]
fn what_may_be_signed_stays_as_it_is() {
    let mut pair = refused(Refuses::Unsurely);
    assert!(blocked(&pair));
    assert_eq!(
        failed_without_commitment(&pair),
        0,
        "nothing is failed upstream"
    );
    reconnect(&mut pair);
    assert!(blocked(&pair));
    let live = pair.a.channel().htlcs();
    assert!(live.iter().any(|h| h.link.as_deref() == Some(b"first")));
    // Unblocked the very same commitment is signed.
    pair.a.refuses = None;
    pair.input(Who::A, ChannelInput::Unblock).unwrap();
    reconnect(&mut pair);
    assert_eq!(pair.a.outcomes.get(&b"first"[..]), Some(&Outcome::Settled));
    assert!(matches!(
        pair.a.outcomes.get(&b"second"[..]),
        Some(Outcome::Failed(_))
    ));
}

#[test]
fn a_commitment_that_is_said_again_may_be_signed_already() {
    let mut pair = Pair::ready();
    pair.add(Who::A, SAT(20_000), preimage(1).payment_hash(), b"first")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    // It was signed and sent, and B never got it; a signer that changes its mind proves nothing.
    pair.disconnect();
    pair.a.refuses = Some(Refuses::Surely);
    pair.a.events.clear();
    pair.connect();
    pair.run();
    assert!(blocked(&pair));
    assert_eq!(failed_without_commitment(&pair), 0);
}

#[test]
fn a_channel_that_rests_takes_preimages_and_closes_by_force() {
    let mut pair = Pair::ready();
    pair.b.decide = common::Decide::Never;
    pair.add(Who::A, SAT(20_000), preimage(1).payment_hash(), b"held")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair.a.refuses = Some(Refuses::Surely);
    pair.add(Who::A, SAT(5_000), unknown_hash(2), b"more")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    assert!(blocked(&pair));
    reconnect(&mut pair);
    let id = pair.a.channel().htlcs()[0].id;
    pair.input(
        Who::B,
        ChannelInput::Resolve {
            htlc_id: id,
            resolution: fulmen_channel::HtlcResolution::Fulfil(preimage(1)),
        },
    )
    .unwrap();
    pair.run();
    assert_eq!(pair.a.preimages.get(&b"held"[..]), Some(&preimage(1)));
    assert!(blocked(&pair));
    pair.input(Who::A, ChannelInput::ForceClose).unwrap();
    let closing = pair.a.events.iter().rev().find_map(|e| match e {
        ChannelOutput::ForceClosing(closing) => Some(closing),
        _ => None,
    });
    assert_eq!(closing.unwrap().enforcement.preimages, vec![preimage(1)]);
}

fn pay_once(pair: &mut Pair, n: u8) {
    pair.add(Who::A, SAT(20_000), preimage(n).payment_hash(), &[n])
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
}

#[test]
fn a_signer_that_remembers_more_proves_the_state_old_without_the_peer() {
    let mut pair = Pair::ready();
    pay_once(&mut pair, 1);
    let (ours, theirs) = pair.a.channel().commitment_numbers().unwrap();
    let counters = |holder, counterparty| {
        Some(SigningAnswer::Counters {
            holder,
            counterparty,
        })
    };
    // A signer without memory says nothing, one that has seen no more than we know proves it.
    for (remembers, freshness) in [
        (counters(None, None), Freshness::Unproven),
        (counters(Some(ours), Some(theirs)), Freshness::Proven),
        (counters(Some(ours), theirs.next()), Freshness::Stale),
    ] {
        let mut pair = Pair::ready();
        pay_once(&mut pair, 1);
        pair.disconnect();
        pair.a.remembers = remembers;
        pair.crash(Who::A);
        assert_eq!(pair.a.channel().freshness(), Some(freshness));
        let close = pair.input(Who::A, ChannelInput::ForceClose);
        assert_eq!(close.is_err(), freshness == Freshness::Stale);
    }
}

#[test]
fn after_a_declared_restore_nothing_is_broadcast_until_the_peer_agrees() {
    let mut pair = Pair::ready();
    pair.b.decide = common::Decide::Never;
    pay_once(&mut pair, 1);
    pair.disconnect();
    pair.restore_from_backup(Who::A);
    // Once more without saying so: the channel remembers.
    pair.crash(Who::A);
    pair.a.events.clear();
    assert_eq!(pair.a.channel().freshness(), Some(Freshness::Unproven));
    let close = pair.input(Who::A, ChannelInput::ForceClose);
    assert_eq!(close, Err(ChannelError::Refused(Refusal::Unproven)));
    for _ in 0..3 {
        pair.world.tip = pair.world.tip.plus(200);
        pair.input(Who::A, ChannelInput::Block).unwrap();
    }
    let withheld = |e: &&ChannelOutput| {
        matches!(
            e,
            ChannelOutput::BroadcastWithheld(CloseReason::OfferedHtlcExpired { .. })
        )
    };
    assert_eq!(pair.a.events.iter().filter(withheld).count(), 1);
    assert_eq!(pair.a.channel().status(), ChannelStatus::Normal);
    // The peer knows nothing newer: now the deadline counts.
    pair.connect();
    pair.run();
    assert_eq!(pair.a.channel().freshness(), Some(Freshness::Proven));
    pair.input(Who::A, ChannelInput::Block).unwrap();
    assert!(matches!(
        pair.a.channel().status(),
        ChannelStatus::ForceClosing(_)
    ));
}

#[test]
fn after_a_start_the_peer_has_time_to_come_back_before_our_deadlines_count() {
    for by_time in [true, false] {
        let mut pair = Pair::ready();
        pair.b.decide = common::Decide::Never;
        pay_once(&mut pair, 1);
        pair.disconnect();
        pair.world.tip = pair.world.tip.plus(60);
        pair.crash(Who::A);
        pair.input(Who::A, ChannelInput::Block).unwrap();
        assert_eq!(pair.a.channel().status(), ChannelStatus::Normal);
        if by_time {
            let grace = pair.a.config.reconnect_grace_millis;
            pair.world.now = pair.world.now.plus_millis(grace);
        } else {
            pair.world.tip = pair.world.tip.plus(2);
            pair.input(Who::A, ChannelInput::Block).unwrap();
            assert_eq!(pair.a.channel().status(), ChannelStatus::Normal);
            pair.world.tip = pair.world.tip.plus(1);
        }
        pair.input(Who::A, ChannelInput::Block).unwrap();
        let status = pair.a.channel().status();
        assert!(
            matches!(status, ChannelStatus::ForceClosing(_)),
            "{status:?}"
        );
    }
    // Money that comes in is not waited for.
    let mut pair = Pair::ready();
    pay_once(&mut pair, 1);
    pair.b.decide = common::Decide::Never;
    pair.add(Who::A, SAT(20_000), preimage(2).payment_hash(), b"in")
        .unwrap();
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.run();
    pair.disconnect();
    let htlc_id = pair.b.channel().htlcs()[0].id;
    let resolution = fulmen_channel::HtlcResolution::Fulfil(preimage(2));
    pair.input(
        Who::B,
        ChannelInput::Resolve {
            htlc_id,
            resolution,
        },
    )
    .unwrap();
    pair.world.tip = pair.world.tip.plus(30);
    pair.crash(Who::B);
    pair.input(Who::B, ChannelInput::Block).unwrap();
    let status = pair.b.channel().status();
    assert!(
        matches!(status, ChannelStatus::ForceClosing(_)),
        "{status:?}"
    );
}

#[test]
fn an_opening_without_an_answer_is_given_up() {
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    let patience = pair.a.config.open_timeout_millis;
    for who in [Who::A, Who::B] {
        pair.world.now = pair.world.now.plus_millis(patience - 1);
        pair.input(who, ChannelInput::Tick).unwrap();
        assert_eq!(pair.end(who).channel().status(), ChannelStatus::Opening);
        pair.world.now = pair.world.now.plus_millis(1);
        pair.input(who, ChannelInput::Tick).unwrap();
        assert_eq!(pair.end(who).channel().status(), ChannelStatus::Gone);
        assert!(matches!(
            pair.end(who).outbox.back(),
            Some(Message::Error(_))
        ));
        pair.world.now = fulmen_types::Timestamp::from_secs(1_700_000_000);
    }
}
