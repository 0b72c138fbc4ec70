//! Everything that is ours comes back, from every commitment that can confirm, in both formats.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bitcoin::Amount;
use common::{CURRENT, World, content, hash, htlc, preimage};
use fulmen_enforce::{EnforceEvent, EnforceInput, SpendKind, Start};
use fulmen_tx::{CommitmentContent, CommitmentFormat, CommitmentHtlc, Side};
use fulmen_types::HtlcId;

const FORMATS: [CommitmentFormat; 2] = [
    CommitmentFormat::StaticRemoteKey,
    CommitmentFormat::AnchorsZeroFeeHtlc,
];

/// HTLCs of all fates, Alice's view: offered by her, fulfilled (0) and not (1); received, fulfilled (0) and
/// not (1); one of each below the dust limit (2); two offered with the same hash and amount (3, 4).
fn htlcs(height: u32) -> Vec<CommitmentHtlc> {
    vec![
        htlc(0, Side::Local, 50_000, 1, height + 60),
        htlc(1, Side::Local, 40_000, 2, height + 20),
        htlc(0, Side::Remote, 30_000, 3, height + 60),
        htlc(1, Side::Remote, 20_000, 4, height + 25),
        htlc(2, Side::Local, 300, 5, height + 40),
        htlc(2, Side::Remote, 200, 6, height + 40),
        htlc(3, Side::Local, 10_000, 7, height + 22),
        htlc(4, Side::Local, 10_000, 7, height + 24),
    ]
}

fn world(format: CommitmentFormat, crashes: bool) -> (World, CommitmentContent) {
    let mut world = World::new(format);
    world.alice.crashes = crashes;
    let content = content(CURRENT, &htlcs(world.height()), 1_000);
    (world, content)
}

/// What Alice gets in the end: her main output and the HTLCs 1, 3, 4 that time out and 0 of Bob's, less all
/// fees, that of the commitment and of HTLC transactions that she has no say in included.
fn check_balance(world: &World, before: Amount, main: Amount, spent_coins_on_anchor: bool) {
    let htlcs = Amount::from_sat(40_000 + 30_000 + 20_000);
    let anchor = Amount::from_sat(if spent_coins_on_anchor { 330 } else { 0 });
    let after = world.alice.wallet.balance(&world.chain);
    assert_eq!(
        after + world.alice.fees(),
        before + main + htlcs + anchor,
        "{:#?}",
        world.alice.events
    );
}

fn check_outcomes(world: &World) {
    let ids = |list: &[HtlcId]| {
        let mut ids: Vec<u64> = list.iter().map(|id| id.to_u64()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&world.alice.fulfilled), [0]);
    assert_eq!(ids(&world.alice.failed), [1, 2, 3, 4]);
}

fn confirmed_kind(world: &World) -> SpendKind {
    world
        .alice
        .events
        .iter()
        .find_map(|e| match e {
            EnforceEvent::Confirmed { kind, .. } => Some(*kind),
            _ => None,
        })
        .expect("a funding spend was confirmed")
}

fn run_to_the_end(world: &mut World) {
    world.mine(60);
    assert!(!world.alice.done);
    world.mine(260);
    assert!(
        world.alice.done,
        "{:#?}",
        world
            .alice
            .resolution
            .as_ref()
            .unwrap()
            .pending_sweeps(&world.secp)
    );
    assert_eq!(world.alice.wallet.leased(), 0);
}

fn main_output(world: &World, content: &CommitmentContent, side: Side) -> Amount {
    // The main output of Alice on the commitment of `side`.
    let params = &world.alice.params;
    let point = params.local.keys.funding;
    let built = fulmen_tx::build_commitment(&world.secp, params, side, &point, content);
    let vout = match side {
        Side::Local => built.to_local_vout,
        Side::Remote => built.to_remote_vout,
    };
    built.txout(vout.unwrap()).unwrap().value
}

fn our_commitment(format: CommitmentFormat, crashes: bool) {
    let (mut world, content) = world(format, crashes);
    let (mut alices, mut bobs) = world.evidence(&content, &[]);
    alices.preimages.push(preimage(3));
    bobs.preimages.push(preimage(1));
    let before = world.alice.wallet.balance(&world.chain);
    world.start_bob(bobs, Start::FundingSpent);
    world.start_alice(alices, Start::ForceClose);
    world.mine(1);
    assert_eq!(confirmed_kind(&world), SpendKind::Holder);
    run_to_the_end(&mut world);
    check_outcomes(&world);
    let main = main_output(&world, &content, Side::Local);
    // Its own feerate is below the target, so with anchors a child pays for it.
    check_balance(&world, before, main, format.has_anchors());
}

#[test]
fn our_commitment_static_remotekey() {
    our_commitment(CommitmentFormat::StaticRemoteKey, false);
}

#[test]
fn our_commitment_anchors() {
    our_commitment(CommitmentFormat::AnchorsZeroFeeHtlc, false);
}

#[test]
fn our_commitment_with_crashes() {
    for format in FORMATS {
        our_commitment(format, true);
    }
}

fn their_commitment(format: CommitmentFormat, next: bool, crashes: bool) {
    let (mut world, content) = world(format, crashes);
    let confirmed = CommitmentContent {
        number: common::number(CURRENT + u64::from(next)),
        ..content.clone()
    };
    let (mut alices, mut bobs) = world.evidence(&content, &[]);
    alices.preimages.push(preimage(3));
    bobs.preimages.push(preimage(1));
    if next {
        alices.counterparty.push(world.theirs(&confirmed));
        bobs.holder = Some(world.bobs(&confirmed));
    }
    let before = world.alice.wallet.balance(&world.chain);
    world.start_alice(alices, Start::FundingSpent);
    world.start_bob(bobs, Start::ForceClose);
    world.mine(1);
    let kind = if next {
        SpendKind::CounterpartyNext
    } else {
        SpendKind::CounterpartyCurrent
    };
    assert_eq!(confirmed_kind(&world), kind);
    run_to_the_end(&mut world);
    check_outcomes(&world);
    check_balance(
        &world,
        before,
        main_output(&world, &content, Side::Remote),
        false,
    );
}

#[test]
fn their_current_commitment() {
    for format in FORMATS {
        their_commitment(format, false, false);
    }
}

#[test]
fn their_next_commitment() {
    for format in FORMATS {
        their_commitment(format, true, false);
    }
}

#[test]
fn their_commitment_with_crashes() {
    for format in FORMATS {
        their_commitment(format, false, true);
    }
}

/// We wanted to close by our commitment, but the peer's confirms.
#[test]
fn their_commitment_wins_the_race() {
    for format in FORMATS {
        let (mut world, content) = world(format, false);
        let (mut alices, bobs) = world.evidence(&content, &[]);
        alices.preimages.push(preimage(3));
        let before = world.alice.wallet.balance(&world.chain);
        world.alice.muted = true;
        world.start_alice(alices, Start::ForceClose);
        world.start_bob(bobs, Start::ForceClose);
        world.alice.muted = false;
        world.mine(1);
        assert_eq!(confirmed_kind(&world), SpendKind::CounterpartyCurrent);
        world.mine(300);
        assert!(world.alice.done);
        // Bob knows no preimage here: all that Alice offered comes back.
        let htlcs = Amount::from_sat(50_000 + 40_000 + 30_000 + 20_000);
        let main = main_output(&world, &content, Side::Remote);
        let after = world.alice.wallet.balance(&world.chain);
        assert_eq!(after + world.alice.fees(), before + main + htlcs);
    }
}

/// A preimage that comes late is used, and one that the chain shows is passed on at once.
#[test]
fn late_preimages() {
    for format in FORMATS {
        let (mut world, content) = world(format, false);
        let (alices, bobs) = world.evidence(&content, &[]);
        world.start_bob(bobs, Start::FundingSpent);
        world.start_alice(alices, Start::ForceClose);
        world.mine(4);
        world.input_alice(EnforceInput::Preimage(preimage(3)));
        world.input_bob(EnforceInput::Preimage(preimage(1)));
        assert!(world.alice.fulfilled.is_empty());
        world.mine(1);
        assert_eq!(world.alice.fulfilled, [HtlcId::new(0)]);
        world.mine(300);
        assert!(world.alice.done && world.bob.done);
        check_outcomes(&world);
        assert_eq!(world.bob.fulfilled, [HtlcId::new(0)]);
        assert_eq!(hash(3), preimage(3).payment_hash());
    }
}
