//! Channels that end on a chain with rules, with an HTLC on its way through the middle: nobody loses what
//! is not theirs to lose, and both ends of every HTLC agree.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use common::World;
use fulmen_node::{CloseMode, Event, Input};
use fulmen_types::{ChannelType, FeeratePerKw, Feerates, Msat, record::Space};

const PAID: u64 = 50_000;

/// 0 - 1 - 2; the one in the middle pays for no commitment.
fn chain_of_three(channel_type: &Option<ChannelType>) -> World {
    let mut world = World::on_chain(3);
    world.open_as(0, 1, channel_type.clone());
    world.open_as(2, 1, channel_type.clone());
    world.mine(6);
    world.wait(10);
    world
}

/// By force, unless it is closed already.
fn close(world: &mut World, index: usize, with: usize) {
    if world.channel(index, with).is_some() {
        let _ = world.close(index, with, CloseMode::Force);
    }
}

/// All that a node owns, once nothing is on its way.
fn wealth(world: &World, index: usize) -> u64 {
    let info = world.nodes[index].node.balance_info();
    let real = world.real.as_ref().unwrap();
    let channels = info.channels.to_sat_floor();
    let sweeps: u64 = info.sweeps.iter().map(|(_, s)| s.amount.to_sat()).sum();
    real.balance(index).to_sat() + channels + sweeps
}

/// What it may cost to claim and to bump.
const FEES: u64 = 25_000;

fn settle_and_check(mut world: World, before: [u64; 3], what: &str) {
    // Longer than any HTLC lives, and 100 deep.
    for _ in 0..48 {
        world.mine(10);
        if !world.nodes[0].connections.contains_key(&1) {
            world.connect(0, 1);
        }
    }
    world.wait(130);
    let paid = world.events(0, |e| matches!(e, Event::PaymentSucceeded { .. }));
    let failed = world.events(0, |e| matches!(e, Event::PaymentFailed { .. }));
    let received = world.events(2, |e| matches!(e, Event::PaymentReceived { .. }));
    let refusals = &world.real.as_ref().unwrap().refusals;
    assert_eq!(
        paid + failed,
        1,
        "{what}: the payment ends once: {refusals:#?}"
    );
    let after: Vec<u64> = (0..3).map(|i| wealth(&world, i)).collect();
    for index in 0..3 {
        let info = world.nodes[index].node.channels_info();
        assert!(
            info.iter().all(|c| c.htlcs == (0, 0)),
            "{what}: node {index}: {info:#?}"
        );
        let spent = if index == 0 && paid == 1 {
            PAID + 20
        } else {
            0
        };
        assert!(
            after[index] + spent + FEES >= before[index],
            "{what}: node {index} had {} and has {}; paid {paid} received {received}: {refusals:#?}",
            before[index],
            after[index],
        );
        assert_eq!(
            world.archived(index, Space::Resolution),
            0,
            "{what}: node {index}"
        );
        let real = world.real.as_ref().unwrap();
        assert!(
            real.wallets[index]
                .leased()
                .iter()
                .all(|p| matches!(p, fulmen_node::CoinPurpose::Funding(_))),
            "{what}: node {index} leases {:?}",
            real.wallets[index].leased()
        );
    }
    let swept = [0, 1, 2].map(|i| world.events(i, |e| matches!(e, Event::Swept { .. })));
    println!("  paid {paid} received {received} swept {swept:?}");
    if received == 1 && paid == 0 {
        panic!("{what}: the payee has it and the payer does not know");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The node in the middle closes towards the payee.
    Middle,
    /// The payee closes.
    Payee,
    /// Nobody closes: the peer stays away, deadlines run.
    Away,
    /// The payer's channel is closed too, by the payer.
    Both,
}

fn htlc_in_flight(end: End, channel_type: &Option<ChannelType>, cut: usize, restart: bool) {
    let what = format!("{end:?}, cut after {cut}, restart {restart}, {channel_type:?}");
    println!("{what}");
    let mut world = chain_of_three(channel_type);
    let before = [0, 1, 2].map(|i| wealth(&world, i));
    world.deliver = Some(cut);
    world.deliver_between = Some((1, 2));
    world.pay(0, 2, PAID);
    if world.deliver.take().is_some() {
        world.disconnect(1, 2);
        world.run();
    }
    if restart {
        world.restart(1);
        world.disconnect(1, 2);
        world.run();
    }
    match end {
        End::Middle => close(&mut world, 1, 2),
        End::Payee => close(&mut world, 2, 1),
        End::Away => {}
        End::Both => {
            close(&mut world, 1, 2);
            close(&mut world, 0, 1);
        }
    }
    if restart {
        world.mine(1);
        world.restart(1);
        world.disconnect(1, 2);
        world.mine(3);
        world.restart(1);
        world.restart(2);
        world.disconnect(1, 2);
        world.run();
    }
    settle_and_check(world, before, &what);
}

#[test]
fn the_middle_closes() {
    for cut in 0..8 {
        htlc_in_flight(End::Middle, &None, cut, cut % 2 == 0);
    }
}

#[test]
fn the_payee_closes() {
    for cut in 0..8 {
        htlc_in_flight(End::Payee, &None, cut, cut % 2 == 1);
    }
}

#[test]
fn the_payee_stays_away() {
    for cut in 0..8 {
        htlc_in_flight(End::Away, &None, cut, cut % 2 == 0);
    }
}

#[test]
fn both_channels_close() {
    for cut in 0..8 {
        htlc_in_flight(End::Both, &None, cut, cut % 2 == 1);
    }
}

#[test]
fn without_anchors() {
    let old = Some(ChannelType::static_remote_key());
    for (cut, end) in [
        (3, End::Middle),
        (5, End::Payee),
        (6, End::Both),
        (4, End::Away),
    ] {
        htlc_in_flight(end, &old, cut, cut % 2 == 1);
    }
}

/// The payee goes back to what it was before it paid, and closes by that.
fn cheat(restart: bool) {
    let what = format!("a revoked commitment, restart {restart}");
    let mut world = chain_of_three(&None);
    world.pay(0, 2, PAID);
    let old = world.nodes[2].disk.clone();
    // It pays most of it away over the same channel.
    world.pay(2, 1, 400_000);
    let before = wealth(&world, 1);
    world.nodes[2].disk = old;
    world.crash(2);
    world.run();
    close(&mut world, 2, 1);
    if restart {
        world.crash(1);
        world.run();
    }
    world.mine(1);
    if restart {
        world.crash(1);
        world.run();
    }
    let seen = world.events(1, |e| matches!(e, Event::Breach { .. }));
    assert_eq!(seen, 1, "{what}");
    for _ in 0..30 {
        world.mine(10);
    }
    let after = wealth(&world, 1);
    // The peer's balance on the revoked commitment is ours too.
    assert!(after >= before + 200_000, "{what}: {before} {after}");
    assert_eq!(world.archived(1, Space::Resolution), 0, "{what}");
}

#[test]
fn a_cheater_loses_everything() {
    cheat(false);
    cheat(true);
}

/// A reorganisation takes a force-close back: the channel does not come alive again, or what it signs
/// then could be revoked when the resolution broadcasts what it has.
#[test]
fn a_channel_whose_close_is_thrown_out_stays_closed() {
    for restart in [false, true] {
        let mut world = chain_of_three(&None);
        let before = wealth(&world, 1);
        world.disconnect(1, 2);
        world.run();
        let old = world.nodes[2].disk.clone();
        close(&mut world, 2, 1);
        world.mine(1);
        world.unmine(1);
        if restart {
            world.restart(1);
        }
        // The payee has forgotten that it wanted to close.
        world.nodes[2].disk = old;
        world.crash(2);
        world.connect(1, 2);
        world.pay(0, 1, PAID);
        let info = world.nodes[1].node.channels_info();
        let usable = info.iter().filter(|c| c.spendable > Msat::ZERO).count();
        assert_eq!(usable, 1, "{info:#?}");
        for _ in 0..20 {
            world.mine(10);
        }
        assert!(wealth(&world, 1) + FEES >= before + PAID);
        assert_eq!(world.archived(1, Space::Resolution), 0);
    }
}

/// A reorganisation takes a funding out of the chain: the channel has no place there until it is mined again, with or
/// without a restart, and goes on.
#[test]
fn a_channel_whose_funding_is_thrown_out_has_no_place_until_it_is_mined_again() {
    let mut world = World::on_chain(2);
    world.open_as(0, 1, None);
    let place = |world: &World, index| world.channel(index, 1 - index).unwrap().short_channel_id;
    let first = place(&world, 0).unwrap();
    let funding = world.height() - first.block() + 1;
    world.unmine(funding);
    assert_eq!([0, 1].map(|index| place(&world, index)), [None, None]);
    world.restart(0);
    assert_eq!(place(&world, 0), None);
    world.mine(1);
    // The same block is not found again: what it held is mined later.
    world.wait(60);
    world.mine(6);
    world.wait(10);
    let [ours, theirs] = [0, 1].map(|index| place(&world, index));
    assert!(ours.is_some() && ours == theirs, "{ours:?} {theirs:?}");
    world.pay(0, 1, PAID);
    let paid = world.events(0, |e| matches!(e, Event::PaymentSucceeded { .. }));
    assert_eq!(paid, 1);
}

/// Everybody crashes again and again while channels close.
#[test]
fn crashes_while_closing() {
    for every in [7, 11, 23] {
        let mut world = chain_of_three(&None);
        let before = [0, 1, 2].map(|i| wealth(&world, i));
        world.deliver = Some(every % 6 + 2);
        world.deliver_between = Some((1, 2));
        world.pay(0, 2, PAID);
        if world.deliver.take().is_some() {
            world.disconnect(1, 2);
            world.run();
        }
        close(&mut world, 1, 2);
        world.crash_every = Some(every);
        for _ in 0..30 {
            world.mine(1);
            if !world.nodes[0].connections.contains_key(&1) {
                world.connect(0, 1);
            }
        }
        world.crash_every = None;
        settle_and_check(world, before, &format!("crashes every {every}"));
    }
}

/// That a wallet does not answer says nothing of what it holds.
#[test]
fn a_wallet_that_is_away_is_asked_again_and_nobody_is_alarmed() {
    // By the clock, or with the next tip, however fast these come.
    asked_again(|world| world.wait(130));
    asked_again(|world| {
        let tip = world.nodes[1].node.chain_tip()[0];
        world.give(1, Input::BestTip(tip));
        world.run();
    });
}

fn asked_again(later: impl FnOnce(&mut World)) {
    let mut world = chain_of_three(&None);
    world.wallets_away = vec![1];
    // Its commitment alone pays too little.
    let feerate = FeeratePerKw::new(5_000);
    let feerates = Feerates {
        background: feerate,
        normal: feerate,
        urgent: feerate,
        floor: FeeratePerKw::FLOOR,
    };
    world.give(1, Input::Feerates(feerates));
    close(&mut world, 1, 2);
    let claims = |world: &World| {
        let leases = world.nodes[1].node.coin_leases();
        let of_claims = leases.iter().filter(|(purpose, coins)| {
            matches!(purpose, fulmen_node::CoinPurpose::Claim(..)) && !coins.is_empty()
        });
        of_claims.count()
    };
    assert_eq!(world.events(1, |e| matches!(e, Event::Alert { .. })), 0);
    assert_eq!(claims(&world), 0);
    world.wallets_away.clear();
    later(&mut world);
    assert_eq!(claims(&world), 1);
}
