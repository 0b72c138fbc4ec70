//! Peers that mean harm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use bitcoin::{Amount, OutPoint, Txid, hashes::Hash};
use common::World;
use fulmen_node::{
    ChannelSelector, CloseMode, Command, CommandError, Event, OpenChannelCommand, Reply,
};
use fulmen_types::{Msat, record::Space};

fn open_command(world: &World, to: usize) -> Command {
    Command::OpenChannel(OpenChannelCommand {
        peer: world.id(to),
        amount: Amount::from_sat(1_000_000),
        push: Msat::from_sat(300_000),
        announce: true,
        feerate: None,
        channel_type: None,
    })
}

/// The id of a channel is its outpoint XOR its index: another outpoint may have the same.
fn same_id(outpoint: OutPoint) -> OutPoint {
    let mut txid = outpoint.txid.to_byte_array();
    // The id is of the bytes in order of the hash; the index changes the last two.
    txid[31] ^= 1;
    OutPoint::new(Txid::from_byte_array(txid), outpoint.vout ^ 1)
}

#[test]
fn a_channel_can_not_be_funded_with_the_output_of_another() {
    let mut world = World::new(3);
    world.open(0, 1);
    let channel = world.nodes[1].node.channels_info()[0].clone();
    let outpoint = channel.funding.unwrap();

    // By a third node, by the same peer, and by the same id with another output.
    for (liar, outpoint) in [(2, outpoint), (0, outpoint), (0, same_id(outpoint))] {
        if liar == 2 {
            world.connect(liar, 1);
        }
        world.funding_lie = Some((liar, outpoint));
        let command = open_command(&world, 1);
        let reply = world.command(liar, command);
        assert!(
            matches!(reply, Err(CommandError::PeerRefused(_))),
            "{reply:?}"
        );
        world.funding_lie = None;
        assert_eq!(world.nodes[1].node.channels_info().len(), 1);
    }

    // The channel is the one that it was: it pays, and its end on chain is seen.
    let invoice = world.invoice(1, 10_000);
    world.command(0, World::pay_command(invoice)).unwrap();
    let is_received = |e: &Event| matches!(e, Event::PaymentReceived { .. });
    assert_eq!(world.events(1, is_received), 1);
    let command = Command::CloseChannel {
        channel: ChannelSelector::Id(channel.channel_id),
        mode: CloseMode::Force,
    };
    let reply = world.command(0, command);
    assert!(matches!(reply, Ok(Reply::Done)), "{reply:?}");
    world.mine(1);
    let is_closed = |e: &Event| matches!(e, Event::ChannelClosed { .. });
    assert_eq!(world.events(1, is_closed), 1);
}

/// It would hang upstream until it expires, and close a channel of somebody else's.
#[test]
fn a_failure_too_long_to_pass_on_still_ends_the_payment() {
    let mut world = World::new(3);
    world.open(0, 1);
    world.open(1, 2);
    world.mine(6);
    world.wait(10);
    let invoice = world.invoice(2, 10_000);
    // The payee does not know it any more.
    world.nodes[2]
        .disk
        .retain(|key, _| key.space != Space::Invoice);
    world.restart(2);
    world.long_reason = Some((2, 65_400));
    world.command(0, World::pay_command(invoice)).unwrap();
    world.wait(70);
    let is_failed = |e: &Event| matches!(e, Event::PaymentFailed { .. });
    assert_eq!(world.events(0, is_failed), 1);
    for node in &world.nodes {
        for info in node.node.channels_info() {
            assert_eq!(info.htlcs, (0, 0));
        }
    }
}
