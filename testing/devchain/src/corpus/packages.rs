//! Packages: a child pays for its parents; ephemeral dust; package replacement.

use bitcoin::Transaction;

use super::build::{
    Coin, anchor, open, out, padded, pay, relay_fee, spend, split, vsize, with_fee, with_version,
};
use super::scene::Scene;

const FEE: Option<&str> = Some("min relay fee not met");
const VIOLATION: Option<&str> = Some("TRUC-violation");

pub(super) fn play(scene: &mut Scene) {
    fees(scene);
    form(scene);
    truc(scene);
    ephemeral(scene);
    replacement(scene);
}

fn one(coin: &Coin) -> &[Coin] {
    core::slice::from_ref(coin)
}

fn child_of(parent: &Transaction, fee: u64) -> Transaction {
    pay(&[Coin::of(parent, 0)], fee)
}

fn fees(scene: &mut Scene) {
    let coins = scene.coins(12, 100_000);
    let parent = pay(one(&coins[0]), 0);
    let least = relay_fee(vsize(&parent) + vsize(&child_of(&parent, 0)));
    let too_poor = child_of(&parent, least - 1);
    scene.package(
        "a child 1 sat short for two",
        &[parent.clone(), too_poor],
        FEE,
    );
    let child = child_of(&parent, least);
    scene.package(
        "a child that pays for its parent",
        &[parent.clone(), child.clone()],
        None,
    );
    scene.package("the same package again", &[parent, child], None);

    let parent = pay(one(&coins[1]), 500);
    let child = child_of(&parent, 500);
    scene.package("both pay for themselves", &[parent, child], None);
    let parent = pay(one(&coins[2]), 500);
    scene.send(&parent);
    let child = child_of(&parent, 700);
    scene.package("the parent is known", &[parent, child], None);
    let single = pay(one(&coins[3]), 500);
    scene.package("a package of one", &[single], None);
    let single = pay(one(&coins[4]), 0);
    scene.package("a package of one without fee", &[single], FEE);

    let parent = pay(one(&coins[5]), 5_000);
    let child = child_of(&parent, 0);
    scene.package(
        "a rich parent does not pay for its child",
        &[parent, child],
        FEE,
    );
    scene.settle();

    let parents = [pay(one(&coins[6]), 0), pay(one(&coins[7]), 0)];
    let both = [Coin::of(&parents[0], 0), Coin::of(&parents[1], 0)];
    let [first, second] = parents;
    scene.package(
        "a child of two parents",
        &[first, second, pay(&both, 2_000)],
        None,
    );
    let parents = [pay(one(&coins[8]), 0), pay(one(&coins[9]), 900)];
    let both = [Coin::of(&parents[0], 0), Coin::of(&parents[1], 0)];
    let [first, second] = parents;
    scene.package(
        "one parent pays, the other does not",
        &[first, second, pay(&both, 900)],
        None,
    );

    let mut parent = pay(one(&coins[10]), 0);
    parent.output[0].value = bitcoin::Amount::from_sat(200_000);
    let child = child_of(&parent, 2_000);
    scene.package(
        "a parent that makes money",
        &[parent, child],
        Some("bad-txns-in-belowout"),
    );
    scene.settle();
}

fn form(scene: &mut Scene) {
    let coins = scene.coins(30, 50_000);
    let parent = pay(one(&coins[0]), 0);
    let child = child_of(&parent, 1_000);
    scene.package(
        "the child first",
        &[child.clone(), parent.clone()],
        Some("package-not-child-with-parents"),
    );
    scene.package(
        "a transaction twice",
        &[parent.clone(), parent.clone(), child.clone()],
        Some("package-contains-duplicates"),
    );
    let rival = pay(&[Coin::of(&parent, 0), coins[0].clone()], 1_000);
    scene.package(
        "a child that spends its parent's coin too",
        &[parent.clone(), rival],
        Some("conflict-in-package"),
    );
    let middle = pay(&[Coin::of(&parent, 0), coins[5].clone()], 0);
    let last = pay(&[Coin::of(&middle, 0), coins[6].clone()], 1_000);
    let mut all = last.clone();
    all.input[1].previous_output = Coin::of(&parent, 0).outpoint;
    scene.package(
        "parents that depend on each other",
        &[parent.clone(), middle, all],
        Some("package-not-child-with-parents"),
    );
    let stranger = pay(one(&coins[1]), 1_000);
    scene.package(
        "two that have nothing to do with each other",
        &[stranger, parent.clone()],
        Some("package-not-child-with-parents"),
    );
    let grandchild = child_of(&child, 1_000);
    scene.package(
        "three generations",
        &[parent.clone(), child.clone(), grandchild],
        Some("package-not-child-with-parents"),
    );
    let large: Vec<Transaction> = (2..5)
        .map(|i| with_fee(padded(pay(one(&coins[i]), 0), 35_000), one(&coins[i]), 0))
        .collect();
    let outs: Vec<Coin> = large.iter().map(|tx| Coin::of(tx, 0)).collect();
    let mut package = large;
    package.push(pay(&outs, 20_000));
    scene.package(
        "over 404,000 weight units",
        &package,
        Some("package-too-large"),
    );
}

fn three(tx: Transaction) -> Transaction {
    with_version(tx, 3)
}

fn truc(scene: &mut Scene) {
    let coins = scene.coins(12, 100_000);
    let parent = three(pay(one(&coins[0]), 0));
    let child = three(child_of(&parent, 1_000));
    scene.package("version 3: parent without fee", &[parent, child], None);

    let parent = three(pay(one(&coins[1]), 0));
    let child = child_of(&parent, 1_000);
    scene.package("version 3: child of version 2", &[parent, child], VIOLATION);
    let parent = pay(one(&coins[2]), 0);
    let child = three(child_of(&parent, 1_000));
    scene.package(
        "version 3: parent of version 2",
        &[parent, child],
        VIOLATION,
    );

    let parent = three(pay(one(&coins[3]), 0));
    let from = [Coin::of(&parent, 0)];
    let child = three(with_fee(padded(pay(&from, 0), 950), &from, 20_000));
    scene.package("version 3: a child too large", &[parent, child], VIOLATION);

    let parents = [three(pay(one(&coins[4]), 0)), three(pay(one(&coins[5]), 0))];
    let both = [Coin::of(&parents[0], 0), Coin::of(&parents[1], 0)];
    let [first, second] = parents;
    scene.package(
        "version 3: two parents",
        &[first, second, three(pay(&both, 5_000))],
        VIOLATION,
    );

    // A parent that is a child itself.
    let grandparent = three(pay(one(&coins[6]), 1_000));
    scene.send(&grandparent);
    let parent = three(child_of(&grandparent, 0));
    let child = three(child_of(&parent, 3_000));
    scene.package("version 3: a third generation", &[parent, child], VIOLATION);

    // The commitment of a channel with an anchor worth its spend, and what bumps it.
    let fees_by_anchor = |coin: &Coin, fee: u64| {
        let tx = spend(
            one(coin),
            vec![out(open(), coin.sat() - fee), out(anchor(), 240)],
        );
        with_fee(three(tx), one(coin), fee)
    };
    let commitment = fees_by_anchor(&coins[7], 0);
    let bump = three(pay(&[Coin::of(&commitment, 1), coins[8].clone()], 3_000));
    scene.package(
        "version 3: an anchor and a wallet coin",
        &[commitment.clone(), bump],
        None,
    );
    let better = three(pay(&[Coin::of(&commitment, 1), coins[9].clone()], 9_000));
    scene.package(
        "version 3: the child is replaced",
        &[commitment.clone(), better],
        None,
    );
    let worse = three(pay(&[Coin::of(&commitment, 1), coins[10].clone()], 5_000));
    scene.package(
        "version 3: the child is replaced by a worse one",
        &[commitment, worse],
        Some("insufficient fee"),
    );
    scene.settle();
}

/// A parent with an output to anybody and an anchor.
fn with_anchor(coin: &Coin, anchor_sat: u64, fee: u64, version: i32) -> Transaction {
    let rest = coin.sat() - anchor_sat - fee;
    let tx = spend(
        one(coin),
        vec![out(open(), rest), out(anchor(), anchor_sat)],
    );
    with_version(tx, version)
}

fn ephemeral(scene: &mut Scene) {
    let coins = scene.coins(24, 100_000);
    let mut next = coins.into_iter();
    let mut take = || next.next().expect("there are enough coins");
    for version in [2, 3] {
        for dust in [0, 100, 239] {
            let parent = with_anchor(&take(), dust, 0, version);
            let child = with_version(pay(&[Coin::of(&parent, 1), take()], 2_000), version);
            let name = format!("ephemeral anchor of {dust} sat, version {version}");
            scene.package(&name, &[parent, child], None);
        }
    }
    let parent = with_anchor(&take(), 0, 300, 3);
    let child = three(pay(&[Coin::of(&parent, 1), take()], 2_000));
    scene.package(
        "ephemeral anchor, the parent pays a fee",
        &[parent, child],
        Some("dust"),
    );

    let parent = with_anchor(&take(), 0, 0, 3);
    let child = three(pay(&[Coin::of(&parent, 0)], 2_000));
    scene.package(
        "ephemeral anchor, not spent",
        &[parent.clone(), child],
        Some("unspent-dust"),
    );
    let child = three(pay(&[Coin::of(&parent, 0), Coin::of(&parent, 1)], 2_000));
    scene.package(
        "ephemeral anchor, spent with another output",
        &[parent.clone(), child],
        None,
    );
    let other = three(pay(&[Coin::of(&parent, 0)], 9_000));
    scene.refuse(
        "a replacement of the child that leaves the dust",
        &other,
        "missing-ephemeral-spends",
    );
    scene.settle();

    let coin = take();
    let mut parent = with_anchor(&coin, 0, 0, 3);
    parent.output.push(out(anchor(), 0));
    let child = three(pay(
        &[Coin::of(&parent, 1), Coin::of(&parent, 2), take()],
        2_000,
    ));
    scene.package("two ephemeral anchors", &[parent, child], Some("dust"));
    let coin = take();
    let parent = three(spend(
        one(&coin),
        vec![out(open(), coin.sat() - 100), out(open(), 100)],
    ));
    let child = three(pay(&[Coin::of(&parent, 1), take()], 2_000));
    scene.package("ephemeral dust that is no anchor", &[parent, child], None);
    scene.settle();
}

fn replacement(scene: &mut Scene) {
    let coins = scene.coins(20, 100_000);
    let a = one(&coins[0]);
    scene.send(&pay(a, 2_000));
    let parent = with_version(pay(a, 0), 1);
    let poor = child_of(&parent, 1_500);
    scene.package(
        "package replacement: too poor",
        &[parent.clone(), poor],
        Some("package RBF failed: insufficient anti-DoS fees"),
    );
    let child = child_of(&parent, 5_000);
    scene.package("package replacement", &[parent, child], None);

    let b = one(&coins[1]);
    let old = split(b, 2, 0);
    let child = child_of(&old, 3_000);
    scene.package("a package to be replaced", &[old, child], None);
    let parent = pay(b, 0);
    let low = with_fee(
        padded(child_of(&parent, 0), 900),
        &[Coin::of(&parent, 0)],
        4_000,
    );
    scene.package(
        "package replacement at a lower feerate",
        &[parent.clone(), low],
        Some("package RBF failed: insufficient feerate: does not improve feerate diagram"),
    );
    scene.package(
        "package replaces package",
        &[parent.clone(), child_of(&parent, 9_000)],
        None,
    );

    // With unconfirmed ancestors there is no package replacement.
    let ancestor = pay(one(&coins[2]), 1_000);
    scene.send(&ancestor);
    let shared = Coin::of(&ancestor, 0);
    scene.send(&pay(one(&shared), 2_000));
    let parent = with_version(pay(one(&shared), 0), 1);
    let child = child_of(&parent, 9_000);
    scene.package(
        "package replacement with an unconfirmed ancestor",
        &[parent, child],
        Some("package RBF failed: new transaction cannot have mempool ancestors"),
    );

    // The child must lift the parent.
    let c = one(&coins[3]);
    scene.send(&pay(c, 2_000));
    let parent = with_version(pay(c, 2_005), 1);
    let child = child_of(&parent, 1_000);
    scene.package(
        "package replacement with a child poorer than its parent",
        &[parent, child],
        Some("package RBF failed: package feerate is less than or equal to parent feerate"),
    );

    // Two parents are too many for a replacement.
    let (d, e) = (one(&coins[4]), one(&coins[5]));
    scene.send(&pay(d, 2_000));
    let first = with_version(pay(d, 0), 1);
    let second = pay(e, 0);
    let child = pay(&[Coin::of(&first, 0), Coin::of(&second, 0)], 20_000);
    scene.package(
        "package replacement with two parents",
        &[first, second, child],
        Some("package RBF failed: package must be 1-parent-1-child"),
    );

    // A commitment replaces the other side's commitment and its child.
    let funding = &coins[6];
    let theirs = with_anchor(funding, 0, 0, 3);
    let their_bump = three(pay(&[Coin::of(&theirs, 1), coins[7].clone()], 2_000));
    scene.package("their commitment", &[theirs, their_bump], None);
    let mut ours = with_anchor(funding, 0, 0, 3);
    ours.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
    let our_bump = three(pay(&[Coin::of(&ours, 1), coins[8].clone()], 1_000));
    scene.package(
        "our commitment with too small a bump",
        &[ours.clone(), our_bump],
        Some("package RBF failed: insufficient anti-DoS fees"),
    );
    let our_bump = three(pay(&[Coin::of(&ours, 1), coins[8].clone()], 6_000));
    scene.package("our commitment replaces theirs", &[ours, our_bump], None);
    scene.settle();
}
