//! The graph, learned from each other.

use anyhow::{Context, Result};

use super::Case;
use crate::wait::{LONG, until};
use crate::world::{AnyNode, Impl};

pub(super) fn learned(case: &Case<'_>) -> Result<()> {
    let world = case.world;
    let ldk = world.node(Impl::Ldk, "ldk")?;
    let other = world.node(case.fulmen, "other")?;
    case.channel(&ldk, &other, Impl::Ldk)?;
    world.mine(6, &[&ldk, &other])?;
    // LDK announces itself on demand.
    for node in [&ldk, &other] {
        if let Some(node) = node.as_ldk() {
            node.announce();
        }
    }
    // Strangers without channels, each connected only to the other implementation.
    let stranger = world.node(Impl::Ldk, "stranger")?;
    let foreigner = world.node(case.fulmen, "foreigner")?;
    for (node, teacher) in [(&stranger, &other), (&foreigner, &ldk)] {
        node.connect(teacher.node_id(), teacher.address())?;
    }
    for node in [&ldk, &other, &stranger, &foreigner] {
        knows(node, 1)?;
    }
    // And what is new while they are connected.
    world.channel(
        if case.opener == Impl::Ldk {
            &ldk
        } else {
            &other
        },
        if case.opener == Impl::Ldk {
            &other
        } else {
            &ldk
        },
        case.kind,
        true,
    )?;
    world.mine(6, &[&ldk, &other, &stranger, &foreigner])?;
    for node in [&ldk, &other, &stranger, &foreigner] {
        knows(node, 2)?;
    }
    Ok(())
}

/// Waits until a node knows both nodes and so many channels.
fn knows(node: &AnyNode, channels: usize) -> Result<()> {
    until("the graph is known", LONG, || {
        Ok(node.graph_size()? == (2, channels))
    })
    .with_context(|| format!("{} knows {:?}", node.name(), node.graph_size()))
}
