//! Time: lock times, relative locks, coinbase maturity.

use bitcoin::absolute::LockTime;
use bitcoin::{Sequence, Transaction};

use super::build::{Coin, open, out, pay, spend, with_version};
use super::scene::Scene;
use crate::faucet::Faucet;

const PREMATURE: &str = "bad-txns-premature-spend-of-coinbase";

pub(super) fn play(scene: &mut Scene) {
    lock_times(scene);
    relative_locks(scene);
    maturity(scene);
}

fn locked(coin: &Coin, lock: u32, sequence: u32) -> Transaction {
    let mut tx = pay(core::slice::from_ref(coin), 1_000);
    tx.lock_time = LockTime::from_consensus(lock);
    tx.input[0].sequence = Sequence(sequence);
    tx
}

fn lock_times(scene: &mut Scene) {
    let coins = scene.coins(10, 50_000);
    let height = scene.chain.height();
    let median = scene.chain.median_time_past();
    let enabled = 0xffff_fffe;
    let cases = [
        ("lock time of the tip's height", height, enabled, None),
        (
            "lock time of the next height",
            height + 1,
            enabled,
            Some("non-final"),
        ),
        (
            "lock time far away",
            499_999_999,
            enabled,
            Some("non-final"),
        ),
        (
            "lock time of the next height, all inputs final",
            height + 1,
            u32::MAX,
            None,
        ),
        (
            "lock time before the median time",
            median - 1,
            enabled,
            None,
        ),
        (
            "lock time at the median time",
            median,
            enabled,
            Some("non-final"),
        ),
        (
            "lock time after the median time",
            median + 1,
            enabled,
            Some("non-final"),
        ),
        (
            "lock time before the tip's own time",
            scene.chain.time() - 1,
            enabled,
            Some("non-final"),
        ),
        (
            "lock time 500,000,000 is a time",
            500_000_000,
            enabled,
            None,
        ),
    ];
    for ((name, lock, sequence, expected), coin) in cases.into_iter().zip(&coins) {
        scene.transaction(name, &locked(coin, lock, sequence), expected);
    }
    scene.settle();
}

fn relative_locks(scene: &mut Scene) {
    const TIME: u32 = 1 << 22;
    const DISABLED: u32 = 1 << 31;
    let coins = scene.coins(14, 50_000);
    scene.generate(4);
    // The coins have 5 confirmations: in the next block they are 5 blocks deep.
    let created = scene.chain.height() - 4;
    let elapsed = scene.chain.median_time_past() - scene.chain.mtp_at(created - 1);
    let units = elapsed >> 9;
    let late = Some("non-BIP68-final");
    let cases = [
        ("relative lock of 0 blocks", 2, 0, None),
        (
            "relative lock of as many blocks as confirmations",
            2,
            5,
            None,
        ),
        ("relative lock of one block more", 2, 6, late),
        ("relative lock of 65,535 blocks", 2, 0xffff, late),
        ("relative lock, version 1", 1, 6, None),
        ("relative lock, version 3", 3, 6, late),
        ("relative lock, disabled", 2, 6 | DISABLED, None),
        ("relative lock, unused bits", 2, 5 | 0x003f_0000, None),
        ("relative lock of 0 seconds", 2, TIME, None),
        (
            "relative lock of the time that has passed",
            2,
            TIME | units,
            None,
        ),
        (
            "relative lock of 512 seconds more",
            2,
            TIME | (units + 1),
            late,
        ),
    ];
    for ((name, version, sequence, expected), coin) in cases.into_iter().zip(&coins) {
        let tx = with_version(locked(coin, 0, sequence), version);
        scene.transaction(name, &tx, expected);
    }
    let parent = pay(&coins[12..13], 1_000);
    scene.send(&parent);
    let child = Coin::of(&parent, 0);
    scene.refuse(
        "relative lock of one block on an unconfirmed coin",
        &locked(&child, 0, 1),
        "non-BIP68-final",
    );
    scene.accept(
        "relative lock of 0 blocks on an unconfirmed coin",
        &locked(&child, 0, 0),
    );
    let fresh = scene.coin(50_000);
    let mut two = spend(&[coins[13].clone(), fresh], vec![out(open(), 99_000)]);
    two.input[0].sequence = Sequence(5);
    two.input[1].sequence = Sequence(2);
    scene.refuse("one of two relative locks unmet", &two, "non-BIP68-final");
    two.input[1].sequence = Sequence(1);
    scene.accept("both relative locks met", &two);
    scene.settle();
}

fn maturity(scene: &mut Scene) {
    let faucet = Faucet::default();
    let script = open();
    let hash = scene.chain.generate_to_script(1, &script)[0];
    scene.generate(98);
    let coinbase = scene
        .chain
        .block(&hash)
        .map(|block| block.txdata[0].clone());
    let coin = coinbase
        .map(|tx| Coin::of(&tx, 0))
        .into_iter()
        .collect::<Vec<_>>();
    let tx = pay(&coin, 1_000);
    scene.refuse(
        "a coinbase that is 99 blocks deep in the next block",
        &tx,
        PREMATURE,
    );
    scene.generate(1);
    scene.accept("a coinbase that is 100 blocks deep in the next block", &tx);
    scene.settle();
    let tip = scene.chain.tip();
    let young = scene.chain.block(&tip).map(|block| block.txdata[0].clone());
    let young: Vec<Coin> = young.map(|tx| Coin::of(&tx, 0)).into_iter().collect();
    let mut tx = pay(&young, 1_000);
    faucet.sign(
        &mut tx,
        &young.iter().map(|c| c.out.value).collect::<Vec<_>>(),
    );
    scene.refuse("a coinbase of the tip", &tx, PREMATURE);
}
