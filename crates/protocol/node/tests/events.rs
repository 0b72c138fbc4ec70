//! Events reach their listener, also over a crash.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

mod common;

use bitcoin::Network;
use common::World;
use fulmen_node::{ActionKind, Boot, Command, Node, NodeConfig};
use fulmen_signer::Signer;

/// The numbers of the events that a node tells when it starts from its disk.
fn told_at_start(world: &World, index: usize) -> Vec<u64> {
    let node = &world.nodes[index];
    let records = node
        .disk
        .iter()
        .filter(|(key, _)| key.space.is_loaded_at_start())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let config = NodeConfig::new(Network::Regtest);
    let boot = Boot { entropy: [77; 32] };
    let (_, effects) =
        Node::restore(config, node.signer.node_id(), &boot, world.now, &records).unwrap();
    let number = |kind: &ActionKind| match kind {
        ActionKind::Event(event) => Some(event.number),
        _ => None,
    };
    let actions = effects.actions.iter();
    actions.filter_map(|a| number(&a.kind)).collect()
}

#[test]
fn what_nobody_has_acknowledged_is_told_again() {
    let mut world = World::new(2);
    world.open(0, 1);
    let invoice = world.invoice(1, 10_000);
    world.command(0, World::pay_command(invoice)).unwrap();
    world.wait(3);
    let kept: Vec<u64> = world.nodes[0]
        .node
        .events_after(0)
        .map(|event| event.number)
        .collect();
    assert!(kept.len() > 1);
    assert_eq!(told_at_start(&world, 0), kept);

    let (up_to, rest) = (kept[0], kept[1..].to_vec());
    let acknowledge = Command::AcknowledgeEvents { up_to };
    world.command(0, acknowledge).unwrap();
    assert_eq!(told_at_start(&world, 0), rest);
}
