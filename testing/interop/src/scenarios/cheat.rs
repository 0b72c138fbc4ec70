//! Old states on chain: each implementation cheats, and the other takes everything.

use anyhow::{Context, Result, bail, ensure};
use bitcoin::Transaction;
use bitcoin::hex::FromHex;
use fulmen_cheat::Request;
use fulmen_types::PaymentPreimage;

use super::Case;
use super::close::{FEES_SAT, anchors, gone, has};
use super::forward::line;
use super::reconnect::reconnect;
use crate::node::{ChannelView, Close, PaymentStatus, TestNode};
use crate::wait::{SHORT, until};
use crate::world::{AnyNode, CAPACITY_SAT, Impl, World, outcome, pay, quiet, succeeded};

/// What waits in the old state, from the middle to the first; the last one is below dust.
const TO_FIRST_SAT: [u64; 3] = [50_000, 60_000, 200];
/// And from the first through the middle to the last.
const TO_LAST_SAT: [u64; 3] = [40_000, 70_000, 200];
/// What changes hands afterwards.
const LATER_SAT: u64 = 250_000;
/// A cheat has its money after 144 blocks or so; it must be over well before.
const MAX_BLOCKS: u32 = 60;

/// An LDK node, one of Fulmen's and another of LDK's, with HTLCs both ways in the first channel.
struct Scene {
    first: AnyNode,
    middle: AnyNode,
    last: AnyNode,
    channel: ChannelView,
    to_first: Vec<String>,
    to_last: Vec<String>,
}

impl Scene {
    fn new(case: &Case<'_>) -> Result<Self> {
        let (first, middle, last) = line(case, Impl::Ldk, case.fulmen, true)?;
        let channel = first.channels()?.into_iter().next();
        let channel = channel.context("no channel")?;
        let (mut to_first, mut to_last) = (Vec::new(), Vec::new());
        for (payer, payee, amounts, hashes) in [
            (&middle, &first, TO_FIRST_SAT, &mut to_first),
            (&first, &last, TO_LAST_SAT, &mut to_last),
        ] {
            let ldk = payee.ldk()?;
            ldk.hold_payments(true);
            for amount_sat in amounts {
                let invoice = ldk.invoice(amount_sat * 1_000, "held")?;
                hashes.push(payer.pay(&invoice)?);
            }
            until("all are held", SHORT, || {
                Ok(ldk.held().len() == amounts.len())
            })?;
        }
        let scene = Self {
            first,
            middle,
            last,
            channel,
            to_first,
            to_last,
        };
        // The last HTLC that came is in both commitments only after the dance.
        until("the dance is over", SHORT, || {
            let channels = scene.middle.channels()?;
            let mut here = channels.iter().filter(|one| one.id == scene.channel.id);
            Ok(here.all(|one| one.htlcs == TO_FIRST_SAT.len() + TO_LAST_SAT.len()))
        })?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(scene)
    }

    /// All that waits arrives, and the middle gives to the first or the other way round.
    fn live_on(&self, giver: &AnyNode, taker: &AnyNode) -> Result<()> {
        for (payee, hashes) in [(&self.first, &self.to_first), (&self.last, &self.to_last)] {
            let ldk = payee.ldk()?;
            ldk.hold_payments(false);
            for hash in hashes.iter().filter(|hash| ldk.held().contains(hash)) {
                ldk.claim(hash)?;
            }
        }
        for (payer, payee, amounts, hashes) in [
            (&self.middle, &self.first, TO_FIRST_SAT, &self.to_first),
            (&self.first, &self.last, TO_LAST_SAT, &self.to_last),
        ] {
            for (amount_sat, hash) in amounts.into_iter().zip(hashes) {
                succeeded(payer, payee, hash, amount_sat * 1_000)?;
            }
        }
        pay(giver, taker, LATER_SAT * 1_000)?;
        quiet(&[&self.first, &self.middle, &self.last])
    }
}

pub(super) fn by_ldk(case: &Case<'_>) -> Result<()> {
    let world = case.world;
    let scene = Scene::new(case)?;
    let cheat = scene.first.ldk()?;

    // With the preimage of one HTLC, and before the other side hears of it.
    cheat.disconnect(scene.middle.node_id())?;
    cheat.claim(&scene.to_first[0])?;
    let old = cheat.old_state(&scene.channel)?;
    reconnect(&scene.first, &scene.middle)?;
    scene.live_on(&scene.first, &scene.middle)?;

    let Scene {
        first,
        middle,
        last,
        ..
    } = scene;
    let before_sat = first.onchain_sat()?;
    drop(first);
    let commitment = old.commitment()?;
    is_the_old_state(case, &commitment)?;
    let block = world.mine_exactly(std::slice::from_ref(&commitment))?;
    let second = old.second_stages(&block, world.height()?)?;
    ensure!(
        spent_by(&commitment, &second) == 1,
        "not one HTLC in its second stage: {second:?}"
    );
    world.mine_exactly(&second)?;

    // Only the middle is left to act.
    world.sync(&[&middle, &last])?;
    world.resolve(&[&middle, &last], MAX_BLOCKS)?;
    let after_sat = old.onchain_sat()?;
    ensure!(
        after_sat <= before_sat && after_sat + FEES_SAT >= before_sat,
        "the cheat had {before_sat} sat and has {after_sat} sat"
    );
    close_the_rest(world, &middle, &last)?;
    world.account_with(&[&middle, &last], after_sat, anchors(case.kind))?;
    let paid_sat: u64 = TO_LAST_SAT.iter().sum();
    let (gift, half) = (World::gift_sat(), CAPACITY_SAT / 2);
    if case.opener == Impl::Ldk {
        // All of the first channel, and half of the second.
        has(&middle, gift + CAPACITY_SAT + half - paid_sat)?;
        has(&last, gift - half + paid_sat)
    } else {
        has(&middle, gift - half - paid_sat)?;
        has(&last, gift + half + paid_sat)
    }
}

pub(super) fn by_fulmen(case: &Case<'_>) -> Result<()> {
    let world = case.world;
    let mut scene = Scene::new(case)?;
    let cheat = scene.middle.fulmen()?;
    let funding = cheat.funding(&scene.channel)?;
    cheat.stop()?;
    let data_dir = cheat.copy("old")?;
    cheat.resume()?;
    for node in [&scene.first, &scene.last] {
        // It may have come back by itself, or do so at the same moment.
        if !node.is_connected(scene.middle.node_id())? {
            let _ = node.connect(scene.middle.node_id(), scene.middle.address());
        }
    }
    reconnect(&scene.first, &scene.middle)?;
    reconnect(&scene.last, &scene.middle)?;
    scene.live_on(&scene.middle, &scene.first)?;
    let PaymentStatus::Succeeded { preimage, .. } = outcome(&scene.first, &scene.to_last[0])?
    else {
        bail!("the payment to the last did not succeed");
    };

    let cheat = scene.middle.fulmen()?;
    cheat.stop()?;
    let signed = fulmen_cheat::prepare(&Request {
        data_dir,
        funding,
        preimages: vec![PaymentPreimage::new(FromHex::from_hex(&preimage)?)],
    })?;
    let commitment = signed.commitment_tx()?;
    is_the_old_state(case, &commitment)?;
    world.mine_exactly(std::slice::from_ref(&commitment))?;
    let second = signed.second_stage_tx()?;
    ensure!(
        spent_by(&commitment, std::slice::from_ref(&second)) == 1,
        "the second stage is not one of the old state: {second:?}"
    );
    world.mine_exactly(&[second])?;

    let (first, last) = (&scene.first, &scene.last);
    world.sync(&[first, last])?;
    world.resolve(&[first, last], MAX_BLOCKS)?;
    let (gift, half) = (World::gift_sat(), CAPACITY_SAT / 2);
    // All of the first channel.
    has(
        first,
        match case.opener {
            Impl::Ldk => gift,
            Impl::Fulmen => gift + CAPACITY_SAT,
        },
    )?;

    // The cheat's own node has to live with what was done.
    scene.middle.fulmen()?.resume()?;
    let (middle, last) = (&scene.middle, &scene.last);
    if !last.is_connected(middle.node_id())? {
        let _ = last.connect(middle.node_id(), middle.address());
    }
    reconnect(last, middle)?;
    close_the_rest(world, middle, last)?;
    world.account(&[&scene.first, middle, last], anchors(case.kind))?;
    let paid_sat: u64 = TO_LAST_SAT.iter().sum();
    if case.opener == Impl::Ldk {
        has(middle, gift + half - paid_sat)?;
        has(last, gift - half + paid_sat)
    } else {
        has(middle, gift - CAPACITY_SAT - half - paid_sat)?;
        has(last, gift + half + paid_sat)
    }
}

/// Both balances, the HTLCs above dust and the anchors.
fn is_the_old_state(case: &Case<'_>, commitment: &Transaction) -> Result<()> {
    let htlcs = TO_FIRST_SAT.len() + TO_LAST_SAT.len() - 2;
    ensure!(
        commitment.output.len() == 2 + htlcs + anchors(case.kind),
        "the old state is another: {commitment:?}"
    );
    Ok(())
}

/// How many outputs of one transaction others spend.
fn spent_by(tx: &Transaction, others: &[Transaction]) -> usize {
    let txid = tx.compute_txid();
    let inputs = others.iter().flat_map(|other| &other.input);
    inputs
        .filter(|input| input.previous_output.txid == txid)
        .count()
}

/// The channel that nobody cheated on closes in peace.
fn close_the_rest(world: &World, middle: &AnyNode, last: &AnyNode) -> Result<()> {
    let rest = last.channels()?;
    let channel = rest.first().context("the second channel is gone")?;
    last.close(channel, Close::Cooperative)?;
    gone(world, channel, &[middle, last])?;
    world.resolve(&[middle, last], MAX_BLOCKS)
}
