//! Forwarding through each.

use anyhow::{Result, ensure};

use super::Case;
use crate::wait::{LONG, until};
use crate::world::{AnyNode, Impl, pay, quiet, succeeded};

pub(super) fn through_ldk(case: &Case<'_>) -> Result<()> {
    through(case, case.fulmen, Impl::Ldk)
}

pub(super) fn through_fulmen(case: &Case<'_>) -> Result<()> {
    through(case, Impl::Ldk, case.fulmen)
}

fn through(case: &Case<'_>, ends: Impl, middle: Impl) -> Result<()> {
    let (first, middle, last) = line(case, ends, middle, true)?;
    for (payer, payee) in [(&first, &last), (&last, &first)] {
        for amount_msat in [100_000, 77_777_777] {
            let fee = pay(payer, payee, amount_msat)?;
            ensure!(fee > 0, "a forwarded payment cost nothing");
        }
    }
    // Many at once, both ways.
    let mut sent = Vec::new();
    for number in 0..10_u64 {
        for (payer, payee) in [(&first, &last), (&last, &first)] {
            let amount_msat = 2_000_000 + number;
            let invoice = payee.invoice(amount_msat, "at once")?;
            sent.push((payer, payee, payer.pay(&invoice)?, amount_msat));
        }
    }
    for (payer, payee, hash, amount_msat) in sent {
        succeeded(payer, payee, &hash, amount_msat)?;
    }
    quiet(&[&first, &middle, &last])
}

/// Three nodes in a line; with public channels also the wait for the ends to know both channels.
pub(super) fn line(
    case: &Case<'_>,
    ends: Impl,
    middle: Impl,
    public: bool,
) -> Result<(AnyNode, AnyNode, AnyNode)> {
    let world = case.world;
    let first = world.node(ends, "first")?;
    let center = world.node(middle, "middle")?;
    let last = world.node(ends, "last")?;
    case.channel_with(&first, &center, ends, public)?;
    case.channel_with(&last, &center, ends, public)?;
    world.mine(6, &[&first, &center, &last])?;
    if public {
        for end in [&first, &last] {
            until("the ends know both channels", LONG, || {
                Ok(end.graph_size()?.1 >= 2)
            })?;
        }
    }
    Ok((first, center, last))
}
