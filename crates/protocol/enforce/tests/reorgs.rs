//! What a reorganisation undoes is done again; what was said and paid is not forgotten.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bitcoin::Amount;
use common::{CURRENT, World, content, htlc, preimage};
use fulmen_enforce::{EnforceEvent, EnforceInput, SpendKind, Start};
use fulmen_tx::{CommitmentContent, CommitmentFormat, Side};
use fulmen_types::{BlockHeight, HtlcId};

const FORMATS: [CommitmentFormat; 2] = [
    CommitmentFormat::StaticRemoteKey,
    CommitmentFormat::AnchorsZeroFeeHtlc,
];

fn two_htlcs(world: &World) -> CommitmentContent {
    let height = world.height();
    let htlcs = [
        htlc(0, Side::Local, 50_000, 1, height + 20),
        htlc(0, Side::Remote, 30_000, 3, height + 60),
    ];
    content(CURRENT, &htlcs, 1_000)
}

fn unconfirmed(world: &World) -> usize {
    let events = world.alice.events.iter();
    events
        .filter(|e| matches!(e, EnforceEvent::Unconfirmed { .. }))
        .count()
}

/// Our commitment and what hangs on it leave the chain at every depth, and come back.
#[test]
fn our_commitment_comes_back() {
    for format in FORMATS {
        for at in [1, 2, 5, 25, 40] {
            for crashes in [false, true] {
                let mut world = World::new(format);
                world.alice.crashes = crashes;
                let content = two_htlcs(&world);
                let (mut alices, bobs) = world.evidence(&content, &[]);
                alices.preimages.push(preimage(3));
                let before = world.alice.wallet.balance(&world.chain);
                world.start_bob(bobs, Start::FundingSpent);
                world.start_alice(alices, Start::ForceClose);
                world.mine(at);
                world.reorg(at, true);
                assert_eq!(unconfirmed(&world), 1);
                let sweeps = world.alice.resolution.as_ref().unwrap();
                assert!(!sweeps.pending_sweeps(&world.secp).is_empty());
                world.mine(320);
                assert!(world.alice.done, "{:#?}", world.alice.events);
                // All of ours but what the commitment itself and presigned transactions paid.
                let gained = world.alice.wallet.balance(&world.chain) + world.alice.fees() - before;
                assert!(
                    gained >= Amount::from_sat(550_000 + 80_000 - 2_500),
                    "{gained}"
                );
                assert_eq!(world.alice.failed, [HtlcId::new(0)]);
            }
        }
    }
}

/// A reorganisation puts the peer's commitment in the place of ours.
#[test]
fn another_commitment_takes_its_place() {
    for format in FORMATS {
        let mut world = World::new(format);
        let content = two_htlcs(&world);
        let (mut alices, bobs) = world.evidence(&content, &[]);
        alices.preimages.push(preimage(3));
        let theirs = bobs.holder.clone().unwrap();
        world.start_alice(alices, Start::ForceClose);
        world.mine(3);
        let from = world.height() - 2;
        for height in (from..=world.height()).rev() {
            let height = BlockHeight::new(height);
            world.input_alice(EnforceInput::Disconnected { height });
        }
        let hash = world.chain.block_hash(from).unwrap();
        world.chain.invalidate_block(&hash).unwrap();
        let bobs_tx =
            fulmen_signer::BroadcastTx::HolderCommitment(Box::new(fulmen_signer::HolderSigning {
                params: world.bob.params,
                commitment: theirs,
            }));
        let bobs_tx = bobs_tx.complete(&world.bob.signer).unwrap();
        world.chain.mine(&[bobs_tx]).unwrap();
        world.feed(world.height());
        world.mine(4);
        let kinds: Vec<SpendKind> = world
            .alice
            .events
            .iter()
            .filter_map(|e| match e {
                EnforceEvent::Confirmed { kind, .. } => Some(*kind),
                _ => None,
            })
            .collect();
        assert_eq!(kinds, [SpendKind::Holder, SpendKind::CounterpartyCurrent]);
        world.mine(300);
        assert!(world.alice.done);
        assert_eq!(world.alice.failed, [HtlcId::new(0)]);
    }
}

/// A preimage seen in a block that is thrown out is still known and was told once.
#[test]
fn preimages_are_never_unlearned() {
    for format in FORMATS {
        let mut world = World::new(format);
        let content = two_htlcs(&world);
        let (alices, mut bobs) = world.evidence(&content, &[]);
        bobs.preimages.push(preimage(1));
        world.start_bob(bobs, Start::FundingSpent);
        world.start_alice(alices, Start::ForceClose);
        world.mine(3);
        assert_eq!(world.alice.fulfilled, [HtlcId::new(0)]);
        // Bob's claim does not come back; Alice times the HTLC out, and says nothing more.
        world.bob.muted = true;
        world.bob.resolution = None;
        world.reorg(2, true);
        world.mine(320);
        assert!(world.alice.done);
        assert_eq!(world.alice.fulfilled, [HtlcId::new(0)]);
        assert!(world.alice.failed.is_empty());
    }
}

/// An HTLC is failed upstream only when its time-out is deep, and a reorganisation before that delays it.
#[test]
fn failing_upstream_waits_for_depth() {
    for format in FORMATS {
        let mut world = World::new(format);
        let content = two_htlcs(&world);
        let expiry = world.height() + 20;
        let (alices, _) = world.evidence(&content, &[]);
        world.start_alice(alices, Start::ForceClose);
        world.mine_to(expiry);
        // The time-out is in the block after the expiry, and six deep five blocks later.
        world.mine(5);
        assert!(world.alice.failed.is_empty());
        world.reorg(5, true);
        assert!(world.alice.failed.is_empty());
        world.mine(5);
        assert!(world.alice.failed.is_empty());
        world.mine(1);
        assert_eq!(world.alice.failed, [HtlcId::new(0)]);
    }
}

/// A funding spend of the peer that a reorganisation throws out is broadcast again, by us.
#[test]
fn what_was_thrown_out_is_sent_again() {
    let mut world = World::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let content = two_htlcs(&world);
    let (alices, bobs) = world.evidence(&content, &[]);
    world.start_alice(alices, Start::FundingSpent);
    world.start_bob(bobs, Start::ForceClose);
    world.mine(2);
    let theirs = world.bob.sent[0][0].compute_txid();
    world.bob.resolution = None;
    let sent = world.alice.sent.len();
    world.reorg(2, true);
    let again = &world.alice.sent[sent..];
    assert!(again.iter().flatten().any(|tx| tx.compute_txid() == theirs));
    let restored = world.alice.sent.len();
    world.mine(1);
    // Once it is in a block again, no more.
    let again = &world.alice.sent[restored..];
    assert!(again.iter().flatten().all(|tx| tx.compute_txid() != theirs));
}
