//! Opening and paying directly.

use anyhow::{Result, ensure};

use super::Case;
use crate::node::ChannelView;
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
    let by_id = || -> Result<Vec<ChannelView>> {
        let mut channels = ldk.channels()?;
        channels.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(channels)
    };
    let channels = by_id()?;
    let largest = channels.iter().map(|one| one.spendable_msat).max();
    let amount_msat = largest.unwrap_or_default() + 200_000_000;
    let invoice = other.invoice(amount_msat, "in parts")?;
    let hash = ldk.pay(&invoice)?;
    let fee = succeeded(ldk, other, &hash, amount_msat)?;
    ensure!(fee == 0, "a direct payment cost {fee} msat");
    if let Some(other) = other.as_ldk() {
        ensure!(other.parts(&hash) == 2, "it did not come in two parts");
    }
    // All of it came from both channels: none of them can carry it.
    let after = by_id()?;
    let moved = |index: usize| channels[index].spendable_msat > after[index].spendable_msat;
    ensure!(moved(0) && moved(1), "only one channel was used: {after:?}");
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
