//! A payment in parts over a network of nodes: what no channel can carry alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use common::World;
use fulmen_node::{Event, Reply};

/// The payer 0 has a channel of a million with each of 1 and 2, and each of these one with the payee 3.
fn world() -> World {
    let mut world = World::new(4);
    for (from, to) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        world.open(from, to);
    }
    world.wait(120);
    world
}

fn pay(world: &mut World, sat: u64) {
    let invoice = world.invoice(3, sat);
    let reply = world.command(0, World::pay_command(invoice));
    assert!(matches!(reply, Ok(Reply::Payment { .. })), "{reply:?}");
}

#[test]
fn more_than_any_channel_can_carry_arrives() {
    let mut world = world();
    // Each of the payer's channels holds 700,000 less reserve and fees.
    pay(&mut world, 1_100_000);
    world.wait(5);
    let paid = world.events(0, |event| matches!(event, Event::PaymentSucceeded { .. }));
    let got = world.events(3, |event| matches!(event, Event::PaymentReceived { .. }));
    assert_eq!((paid, got), (1, 1));
}

#[test]
fn more_than_all_channels_can_carry_fails_and_leaves_nothing_behind() {
    let mut world = world();
    pay(&mut world, 1_600_000);
    world.wait(120);
    let failed = world.events(0, |event| matches!(event, Event::PaymentFailed { .. }));
    assert_eq!(failed, 1);
    // What the channels can still carry shows that no HTLC was left in them.
    pay(&mut world, 1_000_000);
    world.wait(5);
    assert_eq!(
        world.events(0, |event| matches!(event, Event::PaymentSucceeded { .. })),
        1
    );
}
