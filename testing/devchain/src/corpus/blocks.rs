//! Blocks.

use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::{Amount, Block, CompactTarget, Sequence, Transaction, TxOut, Witness};

use super::build::{Coin, op_true, open, out, pay, raw, spend};
use super::scene::Scene;
use crate::consensus::{merkle_root_of, solve, witness_commitment_script};

pub(super) fn play(scene: &mut Scene) {
    headers(scene);
    coinbases(scene);
    contents(scene);
}

/// Commits to the transactions again and mines anew.
fn seal(mut block: Block) -> Block {
    let commitment = witness_commitment_script(&block.txdata);
    if let Some(last) = block.txdata[0].output.last_mut() {
        last.script_pubkey = commitment;
    }
    seal_header(block)
}

/// Leaves the witness commitment as it is.
fn seal_header(mut block: Block) -> Block {
    let txids: Vec<_> = block.txdata.iter().map(Transaction::compute_txid).collect();
    block.header.merkle_root = merkle_root_of(&txids);
    solve(&mut block);
    block
}

fn with(scene: &mut Scene, txs: &[Transaction]) -> Block {
    let mut block = scene.chain.block_template(&open());
    block.txdata.extend_from_slice(txs);
    seal(block)
}

fn headers(scene: &mut Scene) {
    let base = with(scene, &[]);
    let change = |edit: &dyn Fn(&mut Block)| {
        let mut block = base.clone();
        edit(&mut block);
        solve(&mut block);
        block
    };
    let median = scene.chain.median_time_past();
    let now = scene.chain.time();
    let mut unsolved = base.clone();
    while unsolved.header.target().is_met_by(unsolved.block_hash()) {
        unsolved.header.nonce = unsolved.header.nonce.wrapping_add(1);
    }
    scene.block("block: no work", unsolved, Some("high-hash"));
    let cases: [(&str, Block, &str); 6] = [
        (
            "a merkle root of something else",
            change(&|b| b.header.merkle_root = merkle_root_of(&[])),
            "bad-txnmrklroot",
        ),
        (
            "an unknown parent",
            change(&|b| b.header.prev_blockhash = bitcoin::hashes::Hash::all_zeros()),
            "prev-blk-not-found",
        ),
        (
            "a time that is not after the median",
            change(&|b| b.header.time = median),
            "time-too-old",
        ),
        (
            "a time over two hours ahead",
            change(&|b| b.header.time = now + 7_201),
            "time-too-new",
        ),
        (
            "version 1",
            change(&|b| b.header.version = Version::from_consensus(1)),
            "bad-version(0x00000001)",
        ),
        (
            "more work than asked for",
            change(&|b| b.header.bits = CompactTarget::from_consensus(0x207f_fffe)),
            "bad-diffbits",
        ),
    ];
    for (name, block, reason) in cases {
        scene.block(&format!("block: {name}"), block, Some(reason));
    }
    scene.block("block: empty", base.clone(), None);
    let last_moment = with(scene, &[]);
    let mut last_moment = last_moment;
    last_moment.header.time = scene.chain.median_time_past() + 1;
    solve(&mut last_moment);
    scene.block("block: a time right after the median", last_moment, None);
}

fn coinbases(scene: &mut Scene) {
    let base = with(scene, &[]);
    let change = |edit: &dyn Fn(&mut Transaction)| {
        let mut block = base.clone();
        edit(&mut block.txdata[0]);
        seal_header(block)
    };
    let cases: [(&str, Block, &str); 6] = [
        (
            "a reward 1 sat too high",
            change(&|cb| cb.output[0].value += Amount::ONE_SAT),
            "bad-cb-amount",
        ),
        (
            "a coinbase without the height",
            change(&|cb| cb.input[0].script_sig = raw(&[0x51, 0x51, 0x51])),
            "bad-cb-height",
        ),
        (
            "a witness nonce of 31 bytes",
            change(&|cb| cb.input[0].witness = Witness::from_slice(&[[0u8; 31]])),
            "bad-witness-nonce-size",
        ),
        (
            "another witness nonce",
            change(&|cb| cb.input[0].witness = Witness::from_slice(&[[1u8; 32]])),
            "bad-witness-merkle-match",
        ),
        (
            "a witness without commitment",
            change(&|cb| {
                cb.output.pop();
            }),
            "unexpected-witness",
        ),
        (
            "a coinbase script of 101 bytes",
            change(&|cb| {
                let mut bytes = cb.input[0].script_sig.to_bytes();
                bytes.resize(101, 0);
                cb.input[0].script_sig = raw(&bytes);
            }),
            "bad-cb-length",
        ),
    ];
    for (name, block, reason) in cases {
        scene.block(&format!("block: {name}"), block, Some(reason));
    }
    let mut two = base.clone();
    let mut second = two.txdata[0].clone();
    second.output[0].value = Amount::from_sat(1);
    two.txdata.push(second);
    scene.block("block: two coinbases", seal(two), Some("bad-cb-multiple"));
    let less = change(&|cb| cb.output[0].value -= Amount::ONE_SAT);
    scene.block("block: a reward 1 sat too low", less, None);
}

fn contents(scene: &mut Scene) {
    let coins = scene.coins(12, 50_000);
    let one = |i: usize| core::slice::from_ref(&coins[i]);
    let plain = pay(one(0), 0);
    let missing = {
        let mut tx = plain.clone();
        tx.input[0].previous_output.vout = 99;
        tx
    };
    let late = {
        let mut tx = plain.clone();
        tx.lock_time = LockTime::from_consensus(scene.chain.height() + 1);
        tx.input[0].sequence = Sequence::ZERO;
        tx
    };
    let early = {
        let mut tx = plain.clone();
        tx.input[0].sequence = Sequence(2);
        tx
    };
    let wrong_witness = {
        let mut tx = plain.clone();
        tx.input[0].witness = Witness::from_slice(&[vec![0x52]]);
        tx
    };
    let tip = scene.chain.tip();
    let young = scene
        .chain
        .block(&tip)
        .map(|block| Coin::of(&block.txdata[0], 0));
    let young: Vec<Coin> = young.into_iter().collect();
    let failed = "block-script-verify-flag-failed (Witness program hash mismatch)";
    let child = pay(&[Coin::of(&plain, 0)], 0);
    let rival = pay(one(0), 10);
    let in_below_out = spend(one(0), vec![out(open(), 50_001)]);
    let cases: Vec<(&str, Vec<Transaction>, Option<&str>)> = vec![
        (
            "an unknown input",
            vec![missing],
            Some("bad-txns-inputs-missingorspent"),
        ),
        (
            "a double spend",
            vec![plain.clone(), rival],
            Some("bad-txns-inputs-missingorspent"),
        ),
        (
            "a child before its parent",
            vec![child.clone(), plain.clone()],
            Some("bad-txns-inputs-missingorspent"),
        ),
        (
            "a lock time of this height",
            vec![late],
            Some("bad-txns-nonfinal"),
        ),
        (
            "a relative lock too early",
            vec![early],
            Some("bad-txns-nonfinal"),
        ),
        ("a wrong witness", vec![wrong_witness], Some(failed)),
        (
            "a young coinbase",
            vec![pay(&young, 0)],
            Some("bad-txns-premature-spend-of-coinbase"),
        ),
        (
            "more out than in",
            vec![in_below_out],
            Some("bad-txns-in-belowout"),
        ),
        (
            "a transaction twice",
            vec![plain.clone(), plain.clone()],
            Some("bad-txns-inputs-missingorspent"),
        ),
        (
            "a transaction twice, so that the merkle root is ambiguous",
            vec![pay(one(4), 0), plain.clone(), plain.clone()],
            Some("bad-txns-duplicate"),
        ),
        ("parent and child", vec![plain, child], None),
    ];
    for (name, txs, expected) in cases {
        let block = with(scene, &txs);
        scene.block(&format!("block: {name}"), block, expected);
    }
    // What is not relayed may be mined.
    let nonstandard = spend(one(1), vec![out(op_true(), 0), out(raw(&[0x6a, 0xac]), 0)]);
    let block = with(scene, core::slice::from_ref(&nonstandard));
    scene.block("block: nonstandard outputs", block, None);
    let bare = Coin::of(&nonstandard, 0);
    let versioned = super::build::with_version(pay(&[bare], 0), 77);
    let block = with(scene, &[versioned]);
    scene.block("block: a nonstandard spend of version 77", block, None);
    let stuffed = {
        let mut tx = pay(one(2), 0);
        tx.input[0].witness = Witness::from_slice(&[op_true().into_bytes()]);
        tx.output = vec![TxOut {
            value: Amount::ZERO,
            script_pubkey: raw(&vec![0x6a; 10_001]),
        }];
        tx
    };
    let block = with(scene, &[stuffed]);
    scene.block("block: an output too long to spend", block, None);
    let heavy = spend(one(3), vec![out(raw(&vec![0x6a; 999_900]), 0)]);
    let block = with(scene, &[heavy]);
    scene.block(
        "block: over 4,000,000 weight units",
        block,
        Some("bad-blk-length"),
    );
}
