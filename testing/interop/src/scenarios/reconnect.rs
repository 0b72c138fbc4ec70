//! Cut connections.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Case;
use super::pay::ldk_first;
use crate::node::{PaymentStatus, TestNode};
use crate::wait::{LONG, SHORT, until};
use crate::world::{AnyNode, pay, quiet, succeeded};

pub(super) fn with_htlcs(case: &Case<'_>) -> Result<()> {
    let (opener, peer) = case.pair()?;
    case.world.channel(&opener, &peer, case.kind, true)?;
    for round in 0..6_u64 {
        let mut sent = Vec::new();
        for number in 0..6_u64 {
            for (payer, payee) in [(&opener, &peer), (&peer, &opener)] {
                let amount_msat = 1_000_000 + round * 1_000 + number;
                let invoice = payee.invoice(amount_msat, "cut")?;
                sent.push((payer, payee, payer.pay(&invoice)?, amount_msat));
            }
        }
        // Another moment in each round.
        std::thread::sleep(Duration::from_millis(round * 37));
        let (from, to) = if round % 2 == 0 {
            (&opener, &peer)
        } else {
            (&peer, &opener)
        };
        from.disconnect(to.node_id())?;
        reconnect(from, to)?;
        for (payer, payee, hash, amount_msat) in sent {
            // What had not left when the connection was cut may be given up, but not lost.
            if let PaymentStatus::Failed(_) = crate::world::outcome(payer, &hash)? {
                ensure!(
                    payee.received_msat(&hash)?.is_none(),
                    "the payer gave up and the payee was paid"
                );
            } else {
                succeeded(payer, payee, &hash, amount_msat)?;
            }
        }
    }
    pay(&opener, &peer, 5_000_000)?;
    pay(&peer, &opener, 5_000_000)?;
    quiet(&[&opener, &peer])
}

pub(super) fn with_held_htlcs(case: &Case<'_>) -> Result<()> {
    let (opener, peer) = case.pair()?;
    case.world.channel(&opener, &peer, case.kind, true)?;
    let (holder, payer) = ldk_first(case, &opener, &peer);
    let ldk = holder.ldk()?;
    ldk.hold_payments(true);
    let mut hashes = Vec::new();
    for amount_msat in [3_000_000, 4_000_000, 5_000_000] {
        let invoice = ldk.invoice(amount_msat, "held")?;
        hashes.push((payer.pay(&invoice)?, amount_msat));
    }
    until("all are held", SHORT, || Ok(ldk.held().len() == 3))?;

    // One is settled in peace after the cut, one claimed and one refused while apart.
    ldk.disconnect(payer.node_id())?;
    ldk.claim(&hashes[0].0)?;
    ldk.refuse(&hashes[1].0)?;
    reconnect(payer, holder)?;
    succeeded(payer, holder, &hashes[0].0, hashes[0].1)?;
    ensure!(
        matches!(
            crate::world::outcome(payer, &hashes[1].0)?,
            PaymentStatus::Failed(_)
        ),
        "a refused payment did not fail"
    );
    ensure!(
        payer.payment(&hashes[2].0)? == PaymentStatus::Pending,
        "a held payment has ended"
    );
    payer.disconnect(holder.node_id())?;
    reconnect(holder, payer)?;
    ldk.claim(&hashes[2].0)?;
    succeeded(payer, holder, &hashes[2].0, hashes[2].1)?;
    ldk.hold_payments(false);
    pay(holder, payer, 1_000_000)?;
    quiet(&[&opener, &peer])
}

/// Connects again, whoever is first, and waits until the channel can be used.
pub(super) fn reconnect(from: &AnyNode, to: &AnyNode) -> Result<()> {
    until("both see the cut", SHORT, || {
        // Fulmen reconnects on its own: a new connection is as good.
        let cut = !from.is_connected(to.node_id())? && !to.is_connected(from.node_id())?;
        Ok(cut || usable(from)? && usable(to)?)
    })?;
    if !from.is_connected(to.node_id())? {
        // Both may have dialled at once; whichever connection stays is fine.
        let _ = from.connect(to.node_id(), to.address());
    }
    until("the channel is usable again", LONG, || {
        if !from.is_connected(to.node_id())? {
            let _ = from.connect(to.node_id(), to.address());
        }
        Ok(usable(from)? && usable(to)?)
    })
}

fn usable(node: &AnyNode) -> Result<bool> {
    Ok(node.channels()?.iter().all(|channel| channel.usable))
}
