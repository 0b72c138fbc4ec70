//! Every kind of funding spend, and the odd ones.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use bitcoin::{
    Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute, transaction::Version,
};
use common::{CURRENT, World, content, htlc, number, preimage};
use fulmen_enforce::{EnforceEvent, EnforceInput, Evidence, SpendKind, Start, classify};
use fulmen_signer::{BroadcastTx, HolderSigning};
use fulmen_tx::{CommitmentContent, CommitmentFormat, HolderCommitment, Side};
use fulmen_types::HtlcId;

const FORMATS: [CommitmentFormat; 2] = [
    CommitmentFormat::StaticRemoteKey,
    CommitmentFormat::AnchorsZeroFeeHtlc,
];

fn signed(world: &World, holder: &HolderCommitment) -> Transaction {
    let signing = HolderSigning {
        params: world.bob.params,
        commitment: holder.clone(),
    };
    let tx = BroadcastTx::HolderCommitment(Box::new(signing));
    tx.complete(&world.bob.signer).unwrap()
}

/// A spend of the funding output to one script. Its witness is not valid: for the machine alone.
fn spend_to(world: &World, script: ScriptBuf) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: world.alice.params.funding.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(999_000),
            script_pubkey: script,
        }],
    }
}

fn plain(world: &mut World) -> (Evidence, Evidence) {
    let height = world.height();
    let htlcs = [htlc(0, Side::Local, 50_000, 1, height + 60)];
    world.evidence(&content(CURRENT, &htlcs, 1_000), &[])
}

#[test]
fn each_kind_is_recognised() {
    for format in FORMATS {
        let mut world = World::new(format);
        let (mut alices, bobs) = plain(&mut world);
        let script = world.alice.wallet.sweep_script();
        alices.shutdown_scripts = vec![script.clone()];
        let kind = |tx: &Transaction| classify(&world.secp, &alices, tx);
        let ours = alices
            .holder
            .as_ref()
            .unwrap()
            .build(&world.secp, &alices.params);
        assert_eq!(kind(&ours.tx), SpendKind::Holder);
        let theirs = bobs.holder.clone().unwrap();
        assert_eq!(
            kind(&signed(&world, &theirs)),
            SpendKind::CounterpartyCurrent
        );
        let of_number = |n: u64| {
            let content = CommitmentContent {
                number: number(n),
                ..alices.counterparty[0].content.clone()
            };
            signed(&world, &world.bobs(&content))
        };
        assert_eq!(
            kind(&of_number(2)),
            SpendKind::Revoked { number: number(2) }
        );
        assert_eq!(kind(&of_number(9)), SpendKind::Future { number: number(9) });
        assert_eq!(kind(&spend_to(&world, script)), SpendKind::MutualClose);
        let stranger = world.bob.wallet.coin_script();
        assert_eq!(kind(&spend_to(&world, stranger)), SpendKind::Unknown);
        // An old commitment of our own is nothing that the peer could be punished for.
        let old = CommitmentContent {
            number: number(2),
            ..alices.counterparty[0].content.clone()
        };
        let old = fulmen_tx::build_commitment(
            &world.secp,
            &alices.params,
            Side::Local,
            &alices.params.local.keys.funding,
            &old,
        );
        assert_eq!(kind(&old.tx), SpendKind::Unknown);
    }
}

#[test]
fn a_mutual_close_is_done_when_deep() {
    let mut world = World::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let (mut alices, _) = world.evidence(&content(CURRENT, &[], 1_000), &[]);
    let script = world.alice.wallet.sweep_script();
    alices.shutdown_scripts = vec![script.clone()];
    let tx = spend_to(&world, script);
    world.start_alice(alices, Start::FundingSpent);
    feed_by_hand(&mut world, &tx);
    world.mine(98);
    assert!(!world.alice.done);
    world.mine(1);
    assert!(world.alice.done);
    assert!(world.alice.sent.is_empty());
}

/// Feeds a block that the chain does not have.
fn feed_by_hand(world: &mut World, tx: &Transaction) {
    world.chain.mine(&[]).unwrap();
    let height = fulmen_types::BlockHeight::new(world.height());
    let ctx = fulmen_enforce::EnforceContext {
        secp: &world.secp,
        now: world.now,
        tip: height,
        feerates: world.feerates,
    };
    let mut batch = fulmen_types::record::WriteBatch::new();
    let resolution = world.alice.resolution.as_mut().unwrap();
    let out = resolution.handle_block(&ctx, height, &[(1, tx)], &mut batch);
    for output in out {
        if let fulmen_enforce::EnforceOutput::Event(event) = output {
            world.alice.events.push(event);
        }
    }
    for (key, value) in batch.iter() {
        world
            .alice
            .disk
            .insert(key.clone(), value.unwrap().to_vec());
    }
    world.input_alice(EnforceInput::BestTip);
}

/// Our data is old: the peer's commitment is newer than all we know. Our main output is saved, and a
/// preimage that the peer shows is still found.
#[test]
fn data_loss_saves_the_main_output_and_preimages() {
    for format in FORMATS {
        let mut world = World::new(format);
        let (mut alices, mut bobs) = plain(&mut world);
        alices.holder = None;
        let newer = CommitmentContent {
            number: number(CURRENT + 4),
            ..alices.counterparty[0].content.clone()
        };
        bobs.holder = Some(world.bobs(&newer));
        bobs.preimages.push(preimage(1));
        let before = world.alice.wallet.balance(&world.chain);
        world.start_alice(alices, Start::FundingSpent);
        world.start_bob(bobs, Start::ForceClose);
        world.mine(10);
        let events = &world.alice.events;
        assert!(
            events
                .iter()
                .any(|e| matches!(e, EnforceEvent::DataLoss { .. }))
        );
        let gained = world.alice.wallet.balance(&world.chain) + world.alice.fees() - before;
        assert!(gained >= Amount::from_sat(550_000 - 3_000), "{gained}");
        assert_eq!(world.alice.fulfilled, [HtlcId::new(0)]);
        world.mine(150);
        assert!(world.alice.done);
    }
}

#[test]
fn an_unknown_spend_is_an_alert() {
    let mut world = World::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let (alices, _) = plain(&mut world);
    let tx = spend_to(&world, world.bob.wallet.coin_script());
    world.start_alice(alices, Start::FundingSpent);
    feed_by_hand(&mut world, &tx);
    let alert = |e: &EnforceEvent| matches!(e, EnforceEvent::UnknownSpend { .. });
    assert!(world.alice.events.iter().any(alert));
    // What happens to the HTLC can't be seen. It is failed upstream when that can't wait any more.
    world.mine(20);
    assert!(world.alice.failed.is_empty());
    world.mine(60);
    assert_eq!(world.alice.failed, [HtlcId::new(0)]);
}

/// A commitment and what spends it in one block, and HTLCs with the same hash, amount and expiry.
#[test]
fn one_block_is_looked_through_to_the_end() {
    let mut world = World::new(CommitmentFormat::StaticRemoteKey);
    let height = world.height();
    let htlcs = [
        htlc(0, Side::Local, 50_000, 1, height + 60),
        htlc(1, Side::Local, 50_000, 1, height + 60),
    ];
    let (alices, mut bobs) = world.evidence(&content(CURRENT, &htlcs, 1_000), &[]);
    bobs.preimages.push(preimage(1));
    let commitment = signed(&world, bobs.holder.as_ref().unwrap());
    world.start_alice(alices, Start::FundingSpent);
    // What Bob would send after his commitment confirmed, found on a copy of the chain.
    let copy = world.chain.clone();
    world.start_bob(bobs, Start::ForceClose);
    let alice = world.alice.resolution.take();
    world.mine(1);
    let seconds: Vec<Transaction> = world.bob.sent.iter().flatten().skip(1).cloned().collect();
    let seconds: Vec<Transaction> = seconds
        .into_iter()
        .filter(|tx| tx.input[0].previous_output.txid == commitment.compute_txid())
        .collect();
    assert_eq!(seconds.len(), 2);
    world.chain = copy;
    world.alice.resolution = alice;
    world.bob.resolution = None;
    let block: Vec<Transaction> = [commitment].into_iter().chain(seconds).collect();
    world.mine_only(&block);
    assert_eq!(world.alice.fulfilled, [HtlcId::new(0), HtlcId::new(1)]);
    world.mine(120);
    assert!(world.alice.done);
    assert!(world.alice.failed.is_empty());
}

/// A watchtower's evidence has no commitment of ours: it broadcasts none.
#[test]
fn no_commitment_no_broadcast() {
    let mut world = World::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let (mut alices, _) = plain(&mut world);
    alices.holder = None;
    world.start_alice(alices, Start::ForceClose);
    world.mine(3);
    assert!(world.alice.sent.is_empty());
}

/// Records that are cut or altered are an error or another state, never a panic.
#[test]
fn corrupt_records_do_not_panic() {
    let mut world = World::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let height = world.height();
    let htlcs = [
        htlc(0, Side::Local, 50_000, 1, height + 3),
        htlc(0, Side::Remote, 40_000, 2, height + 30),
    ];
    let (mut alices, _) = world.evidence(&content(CURRENT, &htlcs, 1_000), &[]);
    alices.preimages.push(preimage(2));
    world.start_alice(alices, Start::ForceClose);
    world.mine(4);
    let disk = world.alice.disk.clone();
    assert!(disk.len() >= 6);
    let ctx = fulmen_enforce::EnforceContext {
        secp: &world.secp,
        now: world.now,
        tip: fulmen_types::BlockHeight::new(world.height()),
        feerates: world.feerates,
    };
    let try_with = |changed: &fulmen_types::record::RecordKey, value: &[u8]| {
        let records = disk.iter().map(|(key, original)| {
            let value = if key == changed {
                value
            } else {
                original.as_slice()
            };
            (key.key.as_slice(), value)
        });
        if let Ok(mut restored) = fulmen_enforce::Resolution::restore(&world.secp, records) {
            let mut batch = fulmen_types::record::WriteBatch::new();
            restored.re_emit(&ctx);
            restored.handle(&ctx, EnforceInput::BestTip, &mut batch);
            restored.pending_sweeps(&world.secp);
        }
    };
    for (key, value) in &disk {
        for at in (0..value.len()).step_by(1 + value.len() / 150) {
            try_with(key, &value[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut altered = value.clone();
                altered[at] ^= change;
                try_with(key, &altered);
            }
        }
    }
}
