//! Peers that stall, signers that are away, stores that answer late: nothing hangs, nothing is done twice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use bitcoin::{Amount, Network, constants::ChainHash, secp256k1::PublicKey};
use common::World;
use fulmen_node::{
    ActionKind, ChannelSelector, CloseMode, Command, CommandError, CommandId, ConnEpoch, Direction,
    DisconnectReason, Effects, Event, Input, Lane, NodeConfig, OpenChannelCommand,
};
use fulmen_signer::{KeysManager, Signer};
use fulmen_types::Msat;
use fulmen_wire::Message;

fn three() -> World {
    let mut world = World::new(3);
    world.open(0, 1);
    world.open(1, 2);
    world.mine(6);
    world.wait(10);
    world
}

#[test]
fn an_onion_is_read_again_when_the_signer_is_back() {
    let mut world = three();
    world.onions_unread = vec![1];
    let invoice = world.invoice(2, 10_000);
    world.command(0, World::pay_command(invoice)).unwrap();
    world.wait(3);
    assert_eq!(
        world.events(0, |e| matches!(e, Event::PaymentSucceeded { .. })),
        0
    );
    world.onions_unread.clear();
    world.wait(10);
    assert_eq!(
        world.events(0, |e| matches!(e, Event::PaymentSucceeded { .. })),
        1
    );
}

#[test]
fn updates_that_a_peer_leaves_waiting_go_back() {
    let mut world = three();
    // Node 2 acknowledges nothing, and stays connected.
    world.silent = vec![2];
    let first = world.invoice(2, 10_000);
    world.command(0, World::pay_command(first)).unwrap();
    let second = world.invoice(2, 20_000);
    world.command(0, World::pay_command(second)).unwrap();
    let of = |world: &World, index: usize| -> (usize, usize) {
        let info = world.nodes[index].node.channels_info();
        let with = world.id(1 - index);
        info.iter().find(|c| c.peer == with).unwrap().htlcs
    };
    assert_eq!(of(&world, 0), (2, 0));
    world.wait(80);
    // The second was never signed: the disconnect takes it back, all the way.
    assert!(!world.nodes[1].connections.contains_key(&2));
    assert_eq!(of(&world, 0), (1, 0));
}

#[test]
fn who_never_says_init_is_let_go() {
    let mut world = World::new(2);
    world.silent = vec![0];
    world.connect(0, 1);
    assert_eq!(world.nodes[1].node.peers_info().len(), 1);
    world.wait(31);
    assert!(world.nodes[1].node.peers_info().is_empty());
}

#[test]
fn strangers_are_bounded() {
    let mut world = World::new(1);
    let most = NodeConfig::new(Network::Regtest).max_strangers;
    let stranger = |n: usize| -> PublicKey {
        let mut seed = [200; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        KeysManager::new(seed, Network::Regtest).node_id()
    };
    let now = world.now;
    for n in 0..=most {
        let input = Input::PeerConnected {
            peer: stranger(n),
            epoch: ConnEpoch(u64::try_from(n).unwrap() + 1),
            direction: Direction::Inbound,
            address: None,
        };
        let effects = world.nodes[0].node.handle(now, input);
        let refused = effects.actions.iter().any(|a| {
            let reason = match &a.kind {
                ActionKind::Disconnect { reason, .. } => Some(reason),
                _ => None,
            };
            matches!(reason, Some(DisconnectReason::Incompatible(_)))
        });
        assert_eq!(refused, n == most, "{n}");
    }
    assert_eq!(world.nodes[0].node.peers_info().len(), most);
}

#[test]
fn a_late_answer_of_the_store_pays_nothing_twice() {
    let mut world = World::new(2);
    world.open(0, 1);
    let invoice = world.invoice(1, 10_000);
    world.late_answers = Some(Vec::new());
    let first = world.start(0, World::pay_command(invoice.clone()));
    let second = world.start(0, World::pay_command(invoice.clone()));
    let third = world.start(0, World::pay_command(invoice));
    world.run();
    let late = world.late_answers.take().unwrap();
    assert_eq!(late.len(), 3);
    let mut late = late.into_iter();
    // The first question is answered, and its payment ends, before the others are.
    let (index, answer) = late.next().unwrap();
    world.give(index, answer);
    let is_done = |e: &Event| matches!(e, Event::PaymentSucceeded { .. });
    assert_eq!(world.events(0, is_done), 1);
    for (index, answer) in late {
        world.give(index, answer);
    }
    assert_eq!(world.events(0, is_done), 1);
    assert_eq!(
        world.events(0, |e| matches!(e, Event::PaymentFailed { .. })),
        0
    );
    let info = world.nodes[0].node.channels_info();
    assert_eq!(info[0].balances.0, Msat::from_sat(690_000));
    for id in [first, second, third] {
        assert!(world.nodes[0].replies.contains_key(&id));
    }
}

#[test]
fn a_cache_does_not_hide_our_channels() {
    let mut world = World::new(2);
    world.open(0, 1);
    world.mine(6);
    world.wait(10);
    assert_eq!(world.nodes[0].node.info().graph, (2, 1));
    // The graph was not written, or long ago.
    world.restart_with(0, |node| {
        let graph = fulmen_gossip::NetworkGraph::empty(node.graph().chain_hash());
        node.set_gossip_cache(graph, fulmen_gossip::SignedMessages::default());
    });
    assert_eq!(world.nodes[0].node.info().graph.1, 1);
}

#[test]
fn a_close_is_told_once_however_often_the_node_starts() {
    let mut world = World::new(2);
    world.open(0, 1);
    world.disconnect(0, 1);
    world.close(0, 1, CloseMode::Force).unwrap();
    world.restart(0);
    world.restart(0);
    let told = world.events(0, |e| matches!(e, Event::ChannelClosing { .. }));
    assert_eq!(told, 1);
}

/// On chain it may be without an output, or its time run out: nothing is paid onwards for it.
#[test]
fn an_htlc_of_a_closed_channel_is_not_forwarded() {
    for restart in [false, true] {
        let mut world = three();
        world.onions_unread = vec![1];
        let invoice = world.invoice(2, 10_000);
        world.command(0, World::pay_command(invoice)).unwrap();
        world.close(1, 0, CloseMode::Force).unwrap();
        if restart {
            world.restart(1);
        }
        world.onions_unread.clear();
        world.wait(10);
        let info = world.nodes[1].node.channels_info();
        assert!(info.iter().any(|c| c.htlcs == (0, 1)), "{info:#?}");
        let received = |e: &Event| matches!(e, Event::PaymentReceived { .. });
        assert_eq!(world.events(2, received), 0, "restart {restart}");
    }
}

/// By an old height an HTLC seems to have more time than it has: none is decided before the blocks are
/// there.
#[test]
fn nothing_is_decided_while_blocks_are_missing() {
    let mut world = World::new(2);
    world.open(0, 1);
    let invoice = world.invoice(1, 10_000);
    let tip = world.nodes[1].node.chain_tip()[0];
    let mut next = world.blocks.last().unwrap().clone();
    next.previous = tip.hash;
    next.id = fulmen_node::BlockId {
        height: tip.height.plus(1),
        hash: bitcoin::hashes::Hash::from_byte_array([250; 32]),
    };
    next.transactions.clear();
    let id = next.id;
    world.give(1, Input::BlockConnected(std::sync::Arc::new(next)));
    world.command(0, World::pay_command(invoice)).unwrap();
    world.wait(10);
    let received = |e: &Event| matches!(e, Event::PaymentReceived { .. });
    assert_eq!(world.events(1, received), 0);
    world.give(1, Input::BestTip(id));
    assert_eq!(world.events(1, received), 1);
}

#[test]
fn a_silent_port_holds_nothing_for_ever() {
    let mut world = World::new(2);
    world.open(0, 1);
    let invoice = world.invoice(1, 10_000);
    world.silent_ports = vec![0];
    let open = Command::OpenChannel(OpenChannelCommand {
        peer: world.id(1),
        amount: bitcoin::Amount::from_sat(500_000),
        push: Msat::ZERO,
        announce: false,
        feerate: None,
        channel_type: None,
    });
    let ask = Command::CreateInvoice {
        amount: None,
        description: String::new(),
        expiry_secs: 3_600,
    };
    let pay = World::pay_command(invoice);
    let ids = [open, ask, pay.clone()].map(|command| world.start(0, command));
    world.run();
    world.wait(299);
    assert!(
        ids.iter()
            .all(|id| !world.nodes[0].replies.contains_key(id))
    );
    world.wait(2);
    for id in ids {
        let reply = &world.nodes[0].replies[&id];
        assert!(matches!(reply, Err(CommandError::Failed(_))), "{reply:?}");
    }
    // Nothing was paid, and it can be paid once the store answers.
    world.silent_ports.clear();
    world.command(0, pay).unwrap();
    assert_eq!(
        world.events(0, |e| matches!(e, Event::PaymentSucceeded { .. })),
        1
    );
    let info = world.nodes[0].node.channels_info();
    assert_eq!(info.len(), 1);
    assert_eq!(info[0].balances.0, Msat::from_sat(690_000));
}

/// 1 is down for longer than the HTLC that it offered lives; 2 is back a moment after it.
#[test]
fn a_node_that_was_down_for_long_waits_a_moment_for_its_peers() {
    for peer_returns in [true, false] {
        let mut world = three();
        world.onions_unread = vec![2];
        let invoice = world.invoice(2, 10_000);
        world.command(0, World::pay_command(invoice)).unwrap();
        world.crash(1);
        world.run();
        // Enough blocks for the HTLC to 2 to expire and not for that of 0.
        world.down = vec![1];
        world.mine(45);
        world.down.clear();
        world.crash(1);
        world.run();
        let closed = |world: &World| world.events(1, |e| matches!(e, Event::ChannelClosing { .. }));
        assert_eq!(closed(&world), 0);
        if peer_returns {
            world.onions_unread.clear();
            world.connect(1, 2);
            world.connect(0, 1);
            world.wait(200);
            assert_eq!(closed(&world), 0);
            let ours = world.nodes[1].node.channels_info();
            assert!(ours.iter().all(|c| c.htlcs == (0, 0)), "{ours:#?}");
        } else {
            // No block comes, and the time is over all the same.
            world.wait(130);
            assert_eq!(closed(&world), 1);
        }
    }
}

/// What waits for the signer or the disk must not leave any more: after a close nothing is signed or revoked.
#[test]
fn nothing_is_said_of_a_channel_that_the_peer_ended() {
    let mut world = three();
    let lane = lane(&world, 1);
    let effects = peer_says_error(&mut world, lane);
    assert_eq!(in_lane(&effects, lane), ["withdraw"]);
}

/// The word that ends a channel is not withdrawn with what was to be said before it.
#[test]
fn the_error_that_a_close_ends_with_is_said() {
    let mut world = three();
    let lane = lane(&world, 1);
    let command = Command::CloseChannel {
        channel: ChannelSelector::Id(lane.channel.unwrap()),
        mode: CloseMode::Force,
    };
    let id = CommandId([77; 16]);
    let now = world.now;
    let effects = world.nodes[0]
        .node
        .handle(now, Input::Command { id, command });
    assert_eq!(in_lane(&effects, lane), ["withdraw", "error"]);
}

/// A connection that the node ends still carries what was said on it before: not what waits for the signer.
#[test]
fn what_waits_is_withdrawn_from_a_connection_that_drains() {
    let mut world = three();
    let lane = lane(&world, 1);
    let disconnect = Command::Disconnect {
        peer: lane.peer,
        force: true,
    };
    let close = Command::CloseChannel {
        channel: ChannelSelector::Id(lane.channel.unwrap()),
        mode: CloseMode::Force,
    };
    let now = world.now;
    let mut said = [disconnect, close]
        .into_iter()
        .zip(77..)
        .map(|(command, id)| {
            let id = CommandId([id; 16]);
            let input = Input::Command { id, command };
            in_lane(&world.nodes[0].node.handle(now, input), lane)
        });
    assert_eq!(said.next().unwrap(), [""; 0]);
    assert_eq!(said.next().unwrap(), ["withdraw"]);
}

/// The same when the peer refuses a channel that is only being opened.
#[test]
fn nothing_is_said_of_a_channel_that_never_came_to_be() {
    let mut world = three();
    world.connect(0, 2);
    world.silent = vec![2];
    let open = open_with(&world, 2);
    world.start(0, open);
    world.run();
    let lane = lane(&world, 2);
    let effects = peer_says_error(&mut world, lane);
    assert_eq!(in_lane(&effects, lane), ["withdraw"]);
    assert!(world.channel(0, 2).is_none());
}

/// Where a peer listens is on disk for as long as there is a channel with it that survives a restart. One that is being
/// opened does not.
#[test]
fn an_open_that_is_under_way_leaves_no_record_of_its_peer() {
    let mut world = three();
    world.connect(0, 2);
    let open = open_with(&world, 0);
    world.command(2, open).unwrap();
    let funded = lane(&world, 2);
    world.silent = vec![2];
    let open = open_with(&world, 2);
    world.start(0, open);
    world.run();
    world.give(0, error_in(funded));
    assert!(world.channel(0, 2).is_some());
    assert_eq!(world.nodes[0].records(), world.nodes[0].node.records());
}

/// Who asks for a new channel under the name of one that lives gets an error, and that channel goes on.
#[test]
fn a_refused_open_withdraws_nothing_of_another_channel() {
    let mut world = three();
    let peer = world.id(1);
    let epoch = world.nodes[0].connections[&1];
    let channel_id = world.channel(0, 1).unwrap().channel_id;
    let mut bytes = vec![0, 64];
    bytes.extend(ChainHash::REGTEST.as_bytes());
    bytes.extend(channel_id.as_bytes());
    // Feerates, amounts and limits; then the seven points, and the flags.
    bytes.extend([1; 48]);
    for _ in 0..7 {
        bytes.extend(peer.serialize());
    }
    bytes.push(0);
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(message.name(), "open_channel2");
    let now = world.now;
    let input = Input::PeerMessage {
        peer,
        epoch,
        message,
    };
    let effects = world.nodes[0].node.handle(now, input);
    let own = Lane {
        peer,
        epoch,
        channel: None,
    };
    let of_channel = Lane {
        channel: Some(channel_id),
        ..own
    };
    assert_eq!(in_lane(&effects, own), ["error"]);
    assert_eq!(in_lane(&effects, of_channel), [""; 0]);
}

fn open_with(world: &World, peer: usize) -> Command {
    Command::OpenChannel(OpenChannelCommand {
        peer: world.id(peer),
        amount: Amount::from_sat(500_000),
        push: Msat::ZERO,
        announce: true,
        feerate: None,
        channel_type: None,
    })
}

/// Of 0's channel with a peer.
fn lane(world: &World, with: usize) -> Lane {
    Lane {
        peer: world.id(with),
        epoch: world.nodes[0].connections[&with],
        channel: Some(world.channel(0, with).unwrap().channel_id),
    }
}

/// The peer ends the channel of a lane.
fn peer_says_error(world: &mut World, lane: Lane) -> Effects {
    world.nodes[0].node.handle(world.now, error_in(lane))
}

fn error_in(lane: Lane) -> Input {
    let error = fulmen_wire::Error::new(lane.channel.unwrap(), "over");
    Input::PeerMessage {
        peer: lane.peer,
        epoch: lane.epoch,
        message: Message::Error(error),
    }
}

/// What a step says in a lane, in order.
fn in_lane(effects: &Effects, lane: Lane) -> Vec<&'static str> {
    let said = effects
        .actions
        .iter()
        .filter_map(|action| match &action.kind {
            ActionKind::Withdraw { lane: l } if *l == lane => Some("withdraw"),
            ActionKind::Send { lane: l, message } if *l == lane => Some(message.name()),
            _ => None,
        });
    said.collect()
}
