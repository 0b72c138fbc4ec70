//! A revoked commitment is punished in full.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bitcoin::Amount;
use common::{CURRENT, DELAY, World, content, htlc, preimage};
use fulmen_enforce::{EnforceEvent, Start};
use fulmen_tx::{CommitmentContent, CommitmentFormat, CommitmentHtlc, Side};

const FORMATS: [CommitmentFormat; 2] = [
    CommitmentFormat::StaticRemoteKey,
    CommitmentFormat::AnchorsZeroFeeHtlc,
];
const REVOKED: u64 = 3;

fn htlcs(height: u32) -> Vec<CommitmentHtlc> {
    vec![
        htlc(0, Side::Local, 50_000, 1, height + 60),
        htlc(0, Side::Remote, 30_000, 3, height + 2),
        htlc(1, Side::Remote, 20_000, 4, height + 25),
        htlc(1, Side::Local, 10_000, 7, height + 22),
        htlc(2, Side::Local, 10_000, 7, height + 24),
    ]
}

struct Cheat {
    world: World,
    revoked: CommitmentContent,
    before: Amount,
}

/// Bob broadcasts an old commitment. Of the HTLCs on it the first two (0 of each side) are still there.
fn cheat(format: CommitmentFormat, with_record: bool) -> Cheat {
    let mut world = World::new(format);
    let htlcs = htlcs(world.height());
    let revoked = content(REVOKED, &htlcs, 1_000);
    let current = content(CURRENT, &htlcs[..2], 1_000);
    let old = [revoked.clone()];
    let (alices, mut bobs) = world.evidence(&current, if with_record { &old } else { &[] });
    bobs.holder = Some(world.bobs(&revoked));
    bobs.preimages.push(preimage(1));
    let before = world.alice.wallet.balance(&world.chain);
    world.start_alice(alices, Start::FundingSpent);
    world.start_bob(bobs, Start::ForceClose);
    Cheat {
        world,
        revoked,
        before,
    }
}

/// All outputs of the revoked commitment but the anchors.
fn everything(cheat: &Cheat) -> Amount {
    let params = &cheat.world.alice.params;
    let their = cheat.world.theirs(&cheat.revoked);
    let built = their.build(&cheat.world.secp, params);
    let anchors = [built.to_local_anchor_vout, built.to_remote_anchor_vout];
    let outputs = (0u32..).zip(&built.tx.output);
    outputs
        .filter(|(vout, _)| !anchors.contains(&Some(*vout)))
        .map(|(_, o)| o.value)
        .sum()
}

fn check_all_taken(cheat: &Cheat, lost_in_second_stages: Amount) {
    let world = &cheat.world;
    assert!(
        world
            .alice
            .events
            .iter()
            .any(|e| matches!(e, EnforceEvent::Breach { .. }))
    );
    let after = world.alice.wallet.balance(&world.chain);
    assert_eq!(
        after + world.alice.fees() + lost_in_second_stages,
        cheat.before + everything(cheat),
        "{:#?}",
        world.alice.events
    );
}

#[test]
fn all_outputs_in_one_transaction() {
    for format in FORMATS {
        for crashes in [false, true] {
            let mut cheat = cheat(format, true);
            cheat.world.alice.crashes = crashes;
            // The cheat has no time for a second stage.
            cheat.world.mine(1);
            cheat.world.bob.muted = true;
            cheat.world.mine(2);
            let swept = |e: &&EnforceEvent| matches!(e, EnforceEvent::Swept { .. });
            let penalties = cheat.world.alice.events.iter().filter(swept).count();
            // One for what is punished, one for Alice's own main output.
            assert_eq!(penalties, 2, "{:#?}", cheat.world.alice.events);
            cheat.world.mine(10);
            // The HTLCs that were still there can't be fulfilled any more.
            let mut failed: Vec<u64> = cheat
                .world
                .alice
                .failed
                .iter()
                .map(|i| i.to_u64())
                .collect();
            failed.sort_unstable();
            assert_eq!(failed, [0]);
            cheat.world.mine(150);
            assert!(cheat.world.alice.done);
            check_all_taken(&cheat, Amount::ZERO);
        }
    }
}

/// The cheat gets HTLCs into their second stage before the penalty: with its preimage, and by time-out.
#[test]
fn second_stages_are_punished_too() {
    for format in FORMATS {
        for crashes in [false, true] {
            let mut cheat = cheat(format, true);
            let world = &mut cheat.world;
            world.mine(1);
            // Alice's penalty is stuck; Bob's HTLC transactions get through.
            world.alice.muted = true;
            world.alice.crashes = crashes;
            let mempool: Vec<bitcoin::Txid> =
                world.chain.mempool().iter().map(|(t, _)| *t).collect();
            assert!(!mempool.is_empty());
            world.chain.mine(&[]).unwrap();
            world.feed_tip();
            let bobs = second_stages(world, &cheat.revoked);
            assert_eq!(bobs.len(), 2);
            world.bob.muted = true;
            world.mine_only(&bobs);
            world.alice.muted = false;
            // The preimage that Bob used fulfils upstream.
            assert_eq!(world.alice.fulfilled.len(), 1);
            world.mine(u32::from(DELAY) - 10);
            world.mine(150);
            assert!(world.alice.done, "{:#?}", world.alice.events);
            assert!(world.alice.failed.is_empty());
            // Without anchors the second stages paid their own fees.
            let lost = bobs.iter().map(|tx| paid_by_htlcs(&cheat, tx)).sum();
            check_all_taken(&cheat, lost);
        }
    }
}

/// The last HTLC transactions that Bob sent.
fn second_stages(world: &World, revoked: &CommitmentContent) -> Vec<bitcoin::Transaction> {
    let built = world
        .theirs(revoked)
        .build(&world.secp, &world.alice.params);
    let htlcs: Vec<bitcoin::OutPoint> = built
        .htlcs
        .iter()
        .map(|(_, v)| built.outpoint(*v))
        .collect();
    let mut last = std::collections::BTreeMap::new();
    for tx in world.bob.sent.iter().flatten() {
        if htlcs.contains(&tx.input[0].previous_output) {
            last.insert(tx.input[0].previous_output, tx.clone());
        }
    }
    last.into_values().collect()
}

/// What the HTLC outputs that `tx` spends lose on the way to its outputs of the second stage.
fn paid_by_htlcs(cheat: &Cheat, tx: &bitcoin::Transaction) -> Amount {
    let their = cheat.world.theirs(&cheat.revoked);
    let built = their.build(&cheat.world.secp, &cheat.world.alice.params);
    let spent = tx.input.iter().enumerate().filter_map(|(at, input)| {
        let vout =
            (input.previous_output.txid == built.txid).then_some(input.previous_output.vout)?;
        let (htlc, _) = built.htlcs.iter().find(|(_, v)| *v == vout)?;
        Some(htlc.amount.to_amount_floor() - tx.output[at].value)
    });
    spent.sum()
}

/// Without its record, main outputs are punished all the same, and the user is told.
#[test]
fn without_the_record() {
    for format in FORMATS {
        let mut cheat = cheat(format, false);
        cheat.world.mine(1);
        cheat.world.bob.muted = true;
        cheat.world.mine(10);
        let events = &cheat.world.alice.events;
        assert!(
            events
                .iter()
                .any(|e| matches!(e, EnforceEvent::RecordMissing { .. }))
        );
        let their = cheat.world.theirs(&cheat.revoked);
        let built = their.build(&cheat.world.secp, &cheat.world.alice.params);
        let mains = [built.to_local_vout, built.to_remote_vout];
        let mains: Amount = mains
            .into_iter()
            .map(|v| built.txout(v.unwrap()).unwrap().value)
            .sum();
        let after = cheat.world.alice.wallet.balance(&cheat.world.chain);
        assert_eq!(after + cheat.world.alice.fees(), cheat.before + mains);
    }
}

/// A batch that does not confirm is split before the cheat's delay is over, and pays more than before.
#[test]
fn a_stuck_batch_is_split() {
    for format in FORMATS {
        let mut cheat = cheat(format, true);
        let world = &mut cheat.world;
        world.mine(1);
        world.bob.muted = true;
        let batch = world.alice.sent.last().unwrap()[0].clone();
        assert!(batch.input.len() > 4);
        let sent = world.alice.sent.len();
        for _ in 0..u32::from(DELAY) - 18 {
            world.chain.mine(&[]).unwrap();
            world.feed_tip();
        }
        let later: Vec<&bitcoin::Transaction> = world.alice.sent[sent..].iter().flatten().collect();
        let alone = later.iter().filter(|tx| tx.input.len() == 1);
        let alone: std::collections::BTreeSet<_> =
            alone.map(|tx| tx.input[0].previous_output).collect();
        for input in &batch.input {
            assert!(alone.contains(&input.previous_output));
        }
        // All of them replaced the batch at once.
        for input in &batch.input {
            let spender = world.chain.mempool().spender(&input.previous_output);
            let spender = world.chain.transaction(&spender.unwrap()).unwrap().0;
            assert_eq!(spender.input.len(), 1, "{:?}", world.alice.refusals);
        }
        world.mine(2);
        world.mine(150);
        assert!(world.alice.done, "{:#?}", world.alice.refusals);
        check_all_taken(&cheat, Amount::ZERO);
    }
}
