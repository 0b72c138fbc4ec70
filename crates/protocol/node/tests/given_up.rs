//! An HTLC that the chain does not decide in time: small ones are given up and the channel that they came from
//! stays, large ones are fought for.

#![allow(clippy::unwrap_used, reason = "a test stops at what should not be")]

mod common;

use bitcoin::Amount;
use common::World;
use fulmen_node::{ChannelState, CloseMode, Event, Input};
use std::sync::Arc;

/// Less than its claim takes at the feerate of these tests, and more than the dust limit.
const SMALL: u64 = 1_000;
const LARGE: u64 = 50_000;

/// 0 - 1 - 2, and an HTLC of so much on its way from 0 to 2, who knows the preimage and says nothing any more.
fn waiting(sat: u64) -> World {
    let mut world = World::on_chain(3);
    world.open_as(0, 1, None);
    world.open_as(2, 1, None);
    world.mine(6);
    world.wait(10);
    // All but the payee's `update_fulfill_htlc`.
    world.deliver = Some(5);
    world.deliver_between = Some((1, 2));
    world.pay(0, 2, sat);
    world.disconnect(1, 2);
    world.run();
    let htlcs = |a, b| world.channel(a, b).unwrap().htlcs;
    assert_eq!([htlcs(1, 0), htlcs(1, 2)], [(0, 1), (1, 0)]);
    world
}

fn given_up(world: &World) -> usize {
    world.events(1, |e| matches!(e, Event::HtlcGivenUp { .. }))
}

/// Blocks that miners leave everything out of, until an HTLC is given up.
fn mine_nothing(world: &mut World, most: u32) {
    for _ in 0..most {
        world.real.as_mut().unwrap().chain.mine(&[]).unwrap();
        world.feed_tip();
        if given_up(world) > 0 {
            return;
        }
    }
}

#[test]
fn a_small_htlc_is_given_up_and_its_channel_stays() {
    for restart in [false, true] {
        let mut world = waiting(SMALL);
        if restart {
            world.restart(1);
            world.disconnect(1, 2);
            world.disconnect(0, 1);
            world.connect(0, 1);
        }
        mine_nothing(&mut world, 200);
        assert_eq!(given_up(&world), 1);
        world.wait(90);
        assert_eq!(
            world.events(0, |e| matches!(e, Event::PaymentFailed { .. })),
            1
        );
        for _ in 0..20 {
            world.real.as_mut().unwrap().chain.mine(&[]).unwrap();
            world.feed_tip();
        }
        for (index, with) in [(0, 1), (1, 0)] {
            let channel = world.channel(index, with).unwrap();
            assert_eq!(channel.state, ChannelState::Normal { usable: true });
            assert_eq!(channel.htlcs, (0, 0));
        }
        // Miners take it after all: what is lost is the small amount.
        world.mine(150);
        assert_eq!(given_up(&world), 1, "it is told once");
        let forwarded = world.events(1, |e| matches!(e, Event::PaymentForwarded { .. }));
        assert_eq!(forwarded, 0);
    }
}

#[test]
fn a_large_htlc_is_fought_for() {
    let mut world = waiting(LARGE);
    mine_nothing(&mut world, 200);
    assert_eq!(given_up(&world), 0);
    let closing = world.events(0, |e| {
        matches!(e, Event::ChannelClosing { forced: true, .. })
    });
    assert_eq!(closing, 1);
}

/// A node hears of the block at this height.
fn hear(world: &mut World, index: usize, height: u32) {
    let real = world.real.as_ref().unwrap();
    let id = real.id_at(height);
    let block = real.block(&id.hash);
    world.give(index, Input::BlockConnected(Arc::new(block)));
    world.give(index, Input::BestTip(id));
}

/// The failure waits for a peer that is away and closes its channel, and then the payee shows the preimage: the output
/// upstream is claimed with it, and nothing is lost.
#[test]
fn a_preimage_that_comes_late_is_used_where_the_htlc_came_from_is_on_chain() {
    let mut world = waiting(SMALL);
    world.disconnect(0, 1);
    world.run();
    mine_nothing(&mut world, 200);
    assert_eq!(given_up(&world), 1);
    world.close(0, 1, CloseMode::Force).unwrap();
    // Both commitments and the payee's claim are in blocks before the node in the middle hears of any.
    for _ in 0..2 {
        world.real.as_mut().unwrap().chain.generate(1);
        let height = world.height();
        hear(&mut world, 0, height);
        hear(&mut world, 2, height);
    }
    for height in [world.height() - 1, world.height()] {
        hear(&mut world, 1, height);
    }
    world.mine(2);
    let paid = world.events(0, |e| matches!(e, Event::PaymentSucceeded { .. }));
    assert_eq!(paid, 1);
    // Its main output of the payee's channel, and the HTLC's of the payer's.
    let small = Amount::from_sat(SMALL);
    let swept = |e: &Event| matches!(e, Event::Swept { amount, .. } if *amount > Amount::ZERO && *amount <= small);
    assert_eq!(world.events(1, swept), 1);
}
