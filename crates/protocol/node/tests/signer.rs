//! A signer that refuses rests its channel and no other; what hangs on it goes back; its owner is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use common::World;
use fulmen_node::{ChannelSelector, ChannelState, Command, CommandError, Event, Reply};
use fulmen_types::Msat;

fn reconnect(world: &mut World) {
    for (a, b) in [(0, 1), (1, 2)] {
        if !world.nodes[a].connections.contains_key(&b) {
            world.connect(a, b);
        }
    }
}

#[test]
fn a_forward_that_the_signer_refuses_goes_back_and_the_channel_rests() {
    let mut world = World::new(3);
    world.open(0, 1);
    world.open(1, 2);
    world.mine(6);
    world.wait(10);
    world.pay(0, 2, 10_000);
    let succeeded = |e: &Event| matches!(e, Event::PaymentSucceeded { .. });
    assert_eq!(world.events(0, succeeded), 1);

    // The one in the middle may not sign for 2 any more; with 0 all goes on.
    let invoice = world.invoice(2, 20_000);
    world.refuses.insert(1, 0);
    let id = world.start(0, World::pay_command(invoice));
    // Its answers to 0 are commitments too: only those for 2 are refused.
    world.refused_peer = Some(2);
    world.run();
    assert!(world.nodes[0].replies.contains_key(&id));
    let blocked = |world: &World| {
        let channel = world.channel(1, 2).unwrap();
        matches!(channel.state, ChannelState::SignerBlocked(_))
    };
    assert!(blocked(&world));
    let told =
        |e: &Event| matches!(e, Event::SignerBlocked { reason, .. } if reason.contains("refused"));
    assert_eq!(world.events(1, told), 1);
    reconnect(&mut world);
    // Failed upstream: nothing hangs.
    assert_eq!(world.channel(0, 1).unwrap().htlcs, (0, 0));
    assert_eq!(
        world.events(1, |e| matches!(e, Event::PaymentForwarded { .. })),
        1
    );

    // Nothing is asked again, not after a restart either; 0 still pays 1.
    world.restart(1);
    reconnect(&mut world);
    world.wait(20);
    assert!(blocked(&world));
    assert_eq!(world.refuses[&1], 1);
    world.pay(0, 1, 5_000);
    assert_eq!(world.events(0, succeeded), 2);

    // Its owner has seen to the signer.
    world.refuses.clear();
    let channel_id = world.channel(1, 2).unwrap().channel_id;
    let unblock = Command::UnblockChannel(ChannelSelector::Id(channel_id));
    assert_eq!(world.command(1, unblock.clone()), Ok(Reply::Done));
    assert!(matches!(
        world.command(1, unblock),
        Err(CommandError::Refused(_))
    ));
    reconnect(&mut world);
    world.wait(20);
    world.pay(0, 2, 30_000);
    world.wait(5);
    // The one that was failed for the moment has been tried again.
    assert_eq!(world.events(0, succeeded), 4);
    let channel = world.channel(1, 2).unwrap();
    assert_eq!(channel.state, ChannelState::Normal { usable: true });
    assert_eq!(
        channel.balances.0,
        Msat::from_sat(700_000 - 10_000 - 20_000 - 30_000)
    );
}
