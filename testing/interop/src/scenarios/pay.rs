//! Opening and paying directly.

use anyhow::{Result, ensure};

use super::Case;
use crate::node::TestNode;
use crate::world::{AnyNode, CAPACITY_SAT, Impl, pay, quiet, succeeded};

pub(super) fn open(case: &Case<'_>) -> Result<()> {
    let (opener, peer) = case.pair()?;
    let channel = case.world.channel(&opener, &peer, case.kind, true)?;
    let usual = CAPACITY_SAT * 400;
    ensure!(
        channel.spendable_msat > usual,
        "the opener can spend only {} msat",
        channel.spendable_msat
    );
    let theirs = peer.channels()?;
    ensure!(
        theirs.iter().all(|one| one.spendable_msat > usual),
        "the peer can spend too little of what it was given: {theirs:?}"
    );
    ensure!(
        theirs.len() == 1 && opener.channels()?.len() == 1,
        "more channels than one"
    );
    Ok(())
}

pub(super) fn both_ways(case: &Case<'_>) -> Result<()> {
    let (opener, peer) = case.pair()?;
    case.world.channel(&opener, &peer, case.kind, true)?;
    // Odd amounts, one below dust.
    for amount_msat in [1_000, 300_001, 12_345_678, 100_000_000] {
        for (payer, payee) in [(&opener, &peer), (&peer, &opener)] {
            let fee = pay(payer, payee, amount_msat)?;
            ensure!(fee == 0, "a direct payment cost {fee} msat");
        }
    }
    let mut payments = Vec::new();
    for number in 0..12_u64 {
        for (payer, payee) in [(&opener, &peer), (&peer, &opener)] {
            let amount_msat = 1_000_000 + number * 1_001;
            let invoice = payee.invoice(amount_msat, &format!("at once {number}"))?;
            payments.push((payer, payee, invoice, amount_msat));
        }
    }
    let mut sent = Vec::new();
    for (payer, payee, invoice, amount_msat) in payments {
        sent.push((payer, payee, payer.pay(&invoice)?, amount_msat));
    }
    for (payer, payee, hash, amount_msat) in sent {
        succeeded(payer, payee, &hash, amount_msat)?;
    }
    quiet(&[&opener, &peer])
}

pub(super) fn split(case: &Case<'_>) -> Result<()> {
    let (opener, peer) = case.pair()?;
    for _ in 0..2 {
        case.world.channel(&opener, &peer, case.kind, true)?;
    }
    let (ldk, other) = ldk_first(case, &opener, &peer);
    let channels = ldk.channels()?;
    let largest = channels.iter().map(|one| one.spendable_msat).max();
    let amount_msat = largest.unwrap_or_default() + 200_000_000;
    let fee = pay(ldk, other, amount_msat)?;
    ensure!(fee == 0, "a direct payment cost {fee} msat");
    if let Some(other) = other.as_ldk() {
        let invoice = other.invoice(largest.unwrap_or_default() / 2 + 100_000_000, "parts")?;
        let hash = ldk.pay(&invoice)?;
        crate::world::outcome(ldk, &hash)?;
        ensure!(other.parts(&hash) >= 1, "no parts");
    }
    quiet(&[&opener, &peer])
}

/// The LDK node of a pair, then the other.
pub(super) fn ldk_first<'a>(
    case: &Case<'_>,
    opener: &'a AnyNode,
    peer: &'a AnyNode,
) -> (&'a AnyNode, &'a AnyNode) {
    if case.opener == Impl::Ldk {
        (opener, peer)
    } else {
        (peer, opener)
    }
}
