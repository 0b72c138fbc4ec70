//! Closing together and alone, with all outputs swept.

use anyhow::{Result, bail, ensure};

use super::Case;
use super::forward::line;
use super::pay::ldk_first;
use crate::node::{ChannelKind, ChannelView, Close, PaymentStatus, TestNode};
use crate::wait::{LONG, SHORT, until};
use crate::world::{AnyNode, CAPACITY_SAT, Impl, World, outcome, pay, quiet};

/// More than the longest delay and HTLC expiry together.
const MAX_BLOCKS: u32 = 700;
/// What fees may take from one side.
pub(super) const FEES_SAT: u64 = 25_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Opener,
    Peer,
}

pub(super) fn cooperative_by_opener(case: &Case<'_>) -> Result<()> {
    without_htlcs(case, By::Opener, Close::Cooperative)
}

pub(super) fn cooperative_by_peer(case: &Case<'_>) -> Result<()> {
    without_htlcs(case, By::Peer, Close::Cooperative)
}

pub(super) fn forced_by_opener(case: &Case<'_>) -> Result<()> {
    without_htlcs(case, By::Opener, Close::Force)
}

pub(super) fn forced_by_peer(case: &Case<'_>) -> Result<()> {
    without_htlcs(case, By::Peer, Close::Force)
}

pub(super) fn forced_with_htlcs_by_opener(case: &Case<'_>) -> Result<()> {
    with_htlcs(case, By::Opener)
}

pub(super) fn forced_with_htlcs_by_peer(case: &Case<'_>) -> Result<()> {
    with_htlcs(case, By::Peer)
}

pub(super) fn forced_forward_by_opener(case: &Case<'_>) -> Result<()> {
    of_a_forward(case, By::Opener)
}

pub(super) fn forced_forward_by_peer(case: &Case<'_>) -> Result<()> {
    of_a_forward(case, By::Peer)
}

fn without_htlcs(case: &Case<'_>, by: By, how: Close) -> Result<()> {
    let (opener, peer) = case.pair()?;
    let channel = case.world.channel(&opener, &peer, case.kind, true)?;
    let paid_sat = 123_456;
    pay(&opener, &peer, paid_sat * 1_000)?;
    quiet(&[&opener, &peer])?;
    let nodes = [&opener, &peer];
    close(case.world, &channel, by, how, &opener, &peer)?;
    case.world.resolve(&nodes, MAX_BLOCKS)?;
    let anchors = if how == Close::Force {
        anchors(case.kind)
    } else {
        0
    };
    case.world.account(&nodes, anchors)?;
    has(&opener, World::gift_sat() - CAPACITY_SAT / 2 - paid_sat)?;
    has(&peer, World::gift_sat() + CAPACITY_SAT / 2 + paid_sat)
}

/// LDK holds three payments of the other: one is claimed on chain, one times out, one is dust.
fn with_htlcs(case: &Case<'_>, by: By) -> Result<()> {
    let (opener, peer) = case.pair()?;
    let channel = case.world.channel(&opener, &peer, case.kind, true)?;
    let (holder, payer) = ldk_first(case, &opener, &peer);
    let ldk = holder.ldk()?;
    ldk.hold_payments(true);
    let mut hashes = Vec::new();
    for amount_sat in [50_000_u64, 60_000, 200] {
        let invoice = ldk.invoice(amount_sat * 1_000, "held")?;
        hashes.push(payer.pay(&invoice)?);
    }
    until("all are held", SHORT, || Ok(ldk.held().len() == 3))?;
    let nodes = [&opener, &peer];
    close(case.world, &channel, by, Close::Force, &opener, &peer)?;
    ldk.claim(&hashes[0])?;
    case.world.resolve(&nodes, MAX_BLOCKS)?;
    ensure!(
        matches!(outcome(payer, &hashes[0])?, PaymentStatus::Succeeded { .. }),
        "the preimage on chain was not seen"
    );
    for hash in &hashes[1..] {
        ensure!(
            matches!(outcome(payer, hash)?, PaymentStatus::Failed(_)),
            "a payment that timed out did not fail"
        );
    }
    case.world.account(&nodes, anchors(case.kind))?;
    let (plus, minus) = if case.opener == Impl::Ldk {
        (holder, payer)
    } else {
        (payer, holder)
    };
    // The opener is half a capacity poorer, and the holder 50,000 sat richer.
    let opener_has = World::gift_sat() - CAPACITY_SAT / 2;
    let peer_has = World::gift_sat() + CAPACITY_SAT / 2;
    if case.opener == Impl::Ldk {
        has(plus, opener_has + 50_000)?;
        has(minus, peer_has - 50_000)
    } else {
        has(plus, opener_has - 50_000)?;
        has(minus, peer_has + 50_000)
    }
}

/// LDK pays LDK through the other. While the payee holds the payment, the first channel goes on
/// chain; then the payee claims, and the one in the middle must claim its HTLC on chain.
fn of_a_forward(case: &Case<'_>, by: By) -> Result<()> {
    let (first, middle, last) = line(case, Impl::Ldk, case.fulmen, true)?;
    let payee = last.ldk()?;
    payee.hold_payments(true);
    let invoice = payee.invoice(80_000_000, "held at the end")?;
    let hash = first.pay(&invoice)?;
    until("it is held", SHORT, || Ok(payee.held().len() == 1))?;
    let channels = first.channels()?;
    let Some(channel) = channels.first() else {
        bail!("no channel");
    };
    let first_opens = case.opener == Impl::Ldk;
    let (opener, peer) = if first_opens {
        (&first, &middle)
    } else {
        (&middle, &first)
    };
    close(case.world, channel, by, Close::Force, opener, peer)?;
    case.world.mine(2, &[&first, &middle, &last])?;
    payee.claim(&hash)?;
    until("the payee has it", SHORT, || {
        Ok(payee.received_msat(&hash)? == Some(80_000_000))
    })?;
    case.world.resolve(&[&first, &middle, &last], MAX_BLOCKS)?;
    ensure!(
        matches!(outcome(&first, &hash)?, PaymentStatus::Succeeded { .. }),
        "the payer did not see the preimage on chain"
    );
    // The second channel lives on and closes in peace.
    let rest = last.channels()?;
    let Some(channel) = rest.first() else {
        bail!("the second channel is gone");
    };
    last.close(channel, Close::Cooperative)?;
    gone(case.world, channel, &[&middle, &last])?;
    let nodes = [&first, &middle, &last];
    case.world.resolve(&nodes, MAX_BLOCKS)?;
    case.world.account(&nodes, anchors(case.kind))?;
    let half = CAPACITY_SAT / 2;
    let gift = World::gift_sat();
    if first_opens {
        // The channels are half the neighbour's: first to middle, last to middle.
        has(&first, gift - half - 80_000)?;
        has(&last, gift - half + 80_000)?;
        has(&middle, gift + CAPACITY_SAT)
    } else {
        has(&first, gift + half - 80_000)?;
        has(&last, gift + half + 80_000)?;
        has(&middle, gift - CAPACITY_SAT)
    }
}

fn close(
    world: &World,
    channel: &ChannelView,
    by: By,
    how: Close,
    opener: &AnyNode,
    peer: &AnyNode,
) -> Result<()> {
    let closer = if by == By::Opener { opener } else { peer };
    let mut channel = channel.clone();
    channel.peer = if by == By::Opener {
        peer.node_id()
    } else {
        opener.node_id()
    };
    closer.close(&channel, how)?;
    gone(world, &channel, &[opener, peer])
}

/// Waits until both sides have given a channel up and its closing transaction is known.
pub(super) fn gone(world: &World, channel: &ChannelView, nodes: &[&AnyNode]) -> Result<()> {
    until("a closing transaction is in the mempool", LONG, || {
        Ok(world.mempool()? > 0)
    })?;
    world.mine(1, nodes)?;
    for node in nodes {
        until("the channel is gone", LONG, || {
            Ok(node.channels()?.iter().all(|one| one.id != channel.id))
        })?;
    }
    Ok(())
}

/// How many anchors a commitment may leave behind.
pub(super) const fn anchors(kind: ChannelKind) -> usize {
    match kind {
        ChannelKind::StaticRemoteKey => 0,
        ChannelKind::Anchors => 2,
    }
}

/// A wallet has an amount, but for fees.
pub(super) fn has(node: &AnyNode, expected_sat: u64) -> Result<()> {
    let has = node.onchain_sat()?;
    ensure!(
        has <= expected_sat + 1_000 && has + FEES_SAT >= expected_sat,
        "{} has {has} sat and should have {expected_sat} but for fees",
        node.name()
    );
    Ok(())
}
