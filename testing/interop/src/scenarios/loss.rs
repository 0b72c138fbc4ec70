//! A node that starts from an old backup: nothing is lost but time.

use anyhow::Result;

use super::Case;
use super::close::{anchors, gone, has};
use super::pay::ldk_first;
use super::reconnect::reconnect;
use crate::fulmen::FulmenNode;
use crate::wait::{LONG, until};
use crate::world::{AnyNode, CAPACITY_SAT, Impl, World, pay, quiet};

/// What the forgotten payments move, from the opener to its peer.
const FORGOTTEN_SAT: u64 = 70_000;

pub(super) fn of_fulmen(case: &Case<'_>) -> Result<()> {
    let (mut opener, mut peer) = case.pair()?;
    let channel = case.world.channel(&opener, &peer, case.kind, true)?;
    let node = fulmen_of(case, &mut opener, &mut peer)?;
    node.stop()?;
    let backup = node.copy("backup")?;
    node.resume()?;
    reconnect(&opener, &peer)?;
    for _ in 0..3 {
        pay(&opener, &peer, FORGOTTEN_SAT * 1_000)?;
        pay(&peer, &opener, 2 * FORGOTTEN_SAT / 3 * 1_000)?;
    }
    quiet(&[&opener, &peer])?;

    let node = fulmen_of(case, &mut opener, &mut peer)?;
    node.stop()?;
    node.replace(&backup)?;
    node.resume()?;
    // LDK has what proves it, and closes; with the old state nothing may be broadcast.
    let (ldk, stale) = ldk_first(case, &opener, &peer);
    until("the old state is noticed", LONG, || {
        if !ldk.is_connected(stale.node_id())? {
            let _ = ldk.connect(stale.node_id(), stale.address());
        }
        Ok(ldk.channels()?.iter().all(|one| one.id != channel.id))
    })?;
    let nodes = [&opener, &peer];
    gone(case.world, &channel, &nodes)?;
    case.world.resolve(&nodes, 700)?;
    case.world.account(&nodes, anchors(case.kind))?;
    let moved = 3 * (FORGOTTEN_SAT - 2 * FORGOTTEN_SAT / 3);
    has(&opener, World::gift_sat() - CAPACITY_SAT / 2 - moved)?;
    has(&peer, World::gift_sat() + CAPACITY_SAT / 2 + moved)
}

fn fulmen_of<'a>(
    case: &Case<'_>,
    opener: &'a mut AnyNode,
    peer: &'a mut AnyNode,
) -> Result<&'a mut FulmenNode> {
    if case.opener == Impl::Fulmen {
        opener.fulmen()
    } else {
        peer.fulmen()
    }
}
