//! Fees, replacement and clusters.

use bitcoin::{Sequence, Transaction};

use super::build::{
    Coin, open, out, padded, pay, relay_fee, spend, split, vsize, with_fee, with_version,
};
use super::scene::Scene;

const INSUFFICIENT: &str = "insufficient fee";

pub(super) fn play(scene: &mut Scene) {
    relay(scene);
    replacement(scene);
    many_conflicts(scene);
    clusters(scene);
    truc(scene);
}

fn one(coin: &Coin) -> &[Coin] {
    core::slice::from_ref(coin)
}

fn relay(scene: &mut Scene) {
    let coins = scene.coins(6, 50_000);
    let size = vsize(&pay(one(&coins[0]), 0));
    let least = relay_fee(size);
    scene.refuse("no fee", &pay(one(&coins[0]), 0), "min relay fee not met");
    scene.refuse(
        "a fee of 1 sat",
        &pay(one(&coins[0]), 1),
        "min relay fee not met",
    );
    scene.refuse(
        "1 sat below the least fee",
        &pay(one(&coins[0]), least - 1),
        "min relay fee not met",
    );
    scene.accept("the least fee", &pay(one(&coins[0]), least));
    scene.accept(
        "a fee of 1 sat per virtual byte",
        &pay(one(&coins[1]), size),
    );
    scene.accept("all but dust as fee", &pay(one(&coins[2]), 49_000));
    let parent = pay(one(&coins[3]), least);
    scene.send(&parent);
    let child = Coin::of(&parent, 0);
    scene.refuse(
        "a child without fee",
        &pay(one(&child), 0),
        "min relay fee not met",
    );
    scene.accept("a child with the least fee", &pay(one(&child), least));
    let parent = pay(one(&coins[4]), least - 1);
    scene.refuse("a parent 1 sat too cheap", &parent, "min relay fee not met");
    let orphan = pay(one(&Coin::of(&parent, 0)), 20_000);
    scene.refuse(
        "its rich child, alone",
        &orphan,
        "bad-txns-inputs-missingorspent",
    );
    let large = padded(pay(one(&coins[5]), 0), 2_000);
    let least = relay_fee(vsize(&large));
    let coins = one(&coins[5]);
    scene.refuse(
        "a large one, 1 sat short",
        &with_fee(large.clone(), coins, least - 1),
        "min relay fee not met",
    );
    scene.accept("a large one", &with_fee(large, coins, least));
    scene.settle();
}

fn replacement(scene: &mut Scene) {
    let coins = scene.coins(12, 100_000);
    let a = one(&coins[0]);
    let size = vsize(&pay(a, 0));
    let step = relay_fee(size);
    scene.accept("a first spend", &pay(a, 1_000));
    scene.refuse("a conflict with less fee", &pay(a, 999), INSUFFICIENT);
    let mut same = pay(a, 1_000);
    same.input[0].sequence = Sequence::ZERO;
    scene.refuse("a conflict with the same fee", &same, INSUFFICIENT);
    scene.refuse(
        "a conflict 1 sat short of its relay",
        &pay(a, 1_000 + step - 1),
        INSUFFICIENT,
    );
    scene.accept("a conflict that pays for its relay", &pay(a, 1_000 + step));
    let mut signals = pay(a, 5_000);
    signals.input[0].sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    scene.accept("a replacement of what does not signal", &signals);
    let larger = with_fee(padded(pay(a, 0), 1_000), a, 8_000);
    scene.refuse("more fee at a lower feerate", &larger, "replacement-failed");
    let larger = with_fee(padded(pay(a, 0), 1_000), a, 80_000);
    scene.accept("more fee at a higher feerate, larger", &larger);

    // A parent with a child: both must be paid for.
    let b = one(&coins[1]);
    let parent = pay(b, 1_000);
    let child = pay(one(&Coin::of(&parent, 0)), 9_000);
    scene.send(&parent);
    scene.send(&child);
    scene.refuse(
        "a replacement that pays for the parent only",
        &pay(b, 5_000),
        INSUFFICIENT,
    );
    scene.refuse(
        "a replacement that forgets its relay",
        &pay(b, 10_000),
        INSUFFICIENT,
    );
    scene.accept("a replacement of parent and child", &pay(b, 10_000 + step));

    // A replacement of a child only.
    let c = one(&coins[2]);
    let parent = pay(c, 1_000);
    scene.send(&parent);
    let middle = Coin::of(&parent, 0);
    scene.send(&pay(one(&middle), 1_000));
    scene.refuse(
        "a child for the same fee",
        &with_version(pay(one(&middle), 1_000), 1),
        INSUFFICIENT,
    );
    scene.accept("a better child", &pay(one(&middle), 2_000));

    // Two conflicts at once.
    let (d, e) = (&coins[3], &coins[4]);
    scene.send(&pay(one(d), 3_000));
    scene.send(&pay(one(e), 4_000));
    let both = [d.clone(), e.clone()];
    scene.refuse(
        "a replacement of two for the fee of one",
        &pay(&both, 5_000),
        INSUFFICIENT,
    );
    scene.accept("a replacement of two", &pay(&both, 9_000));

    // New unconfirmed inputs are allowed if the result is better for miners.
    let (f, g) = (&coins[5], &coins[6]);
    let cheap = pay(one(f), step);
    scene.send(&cheap);
    scene.send(&pay(one(g), 2_000));
    let mixed = [g.clone(), Coin::of(&cheap, 0)];
    scene.accept(
        "a replacement with a new unconfirmed input",
        &pay(&mixed, 9_000),
    );

    // A transaction can't spend what it replaces.
    let h = one(&coins[7]);
    let parent = pay(h, 1_000);
    scene.send(&parent);
    let circle = [coins[7].clone(), Coin::of(&parent, 0)];
    scene.refuse(
        "a spend of what it replaces",
        &pay(&circle, 9_000),
        "bad-txns-spends-conflicting-tx",
    );
    // The old one is small and pays a very high feerate.
    let i = one(&coins[8]);
    scene.send(&pay(i, 50_000));
    scene.refuse(
        "a replacement with a huge but lower feerate",
        &with_fee(padded(pay(i, 0), 5_000), i, 60_000),
        "replacement-failed",
    );
    scene.settle();
}

fn many_conflicts(scene: &mut Scene) {
    let coins = scene.coins(101, 20_000);
    for coin in &coins {
        scene.send(&pay(one(coin), 100));
    }
    scene.refuse(
        "a replacement of 101 clusters",
        &pay(&coins, 500_000),
        "too many potential replacements",
    );
    scene.accept(
        "a replacement of 100 clusters",
        &pay(&coins[..100], 500_000),
    );
    scene.settle();
}

fn chain_of(coin: &Coin, length: usize, fee: u64) -> Vec<Transaction> {
    let mut chain: Vec<Transaction> = Vec::new();
    let mut at = coin.clone();
    for _ in 0..length {
        let tx = pay(one(&at), fee);
        at = Coin::of(&tx, 0);
        chain.push(tx);
    }
    chain
}

fn clusters(scene: &mut Scene) {
    let coins = scene.coins(4, 1_000_000);
    let chain = chain_of(&coins[0], 65, 1_000);
    for (index, tx) in chain.iter().enumerate() {
        match index {
            63 => scene.accept("the 64th of a chain", tx),
            64 => scene.refuse("the 65th of a chain", tx, "too-large-cluster"),
            _ => scene.send(tx),
        }
    }
    scene.settle();
    // A wide cluster: one parent of 63 children.
    let fan = split(one(&coins[1]), 64, 20_000);
    scene.send(&fan);
    for vout in 0..63 {
        scene.send(&pay(one(&Coin::of(&fan, vout)), 1_000));
    }
    let last = Coin::of(&fan, 63);
    scene.refuse(
        "the 64th child of one parent",
        &pay(one(&last), 1_000),
        "too-large-cluster",
    );
    let first = one(&coins[2]);
    scene.accept("a transaction of another cluster", &pay(first, 1_000));
    let bridge = [last, Coin::of(&pay(first, 1_000), 0)];
    scene.refuse(
        "a bridge between clusters",
        &pay(&bridge, 1_000),
        "too-large-cluster",
    );
    let instead = pay(one(&Coin::of(&fan, 0)), 9_000);
    scene.accept("a replacement within a full cluster", &instead);
    scene.settle();
    // By size: 404,000 weight units.
    let mut at = coins[3].clone();
    for index in 0..3 {
        let tx = with_fee(padded(pay(one(&at), 0), 40_000), one(&at), 50_000);
        if index < 2 {
            scene.send(&tx);
        } else {
            scene.refuse(
                "a cluster of more than 101,000 virtual bytes",
                &tx,
                "too-large-cluster",
            );
        }
        at = Coin::of(&tx, 0);
    }
    scene.settle();
}

fn three(tx: Transaction) -> Transaction {
    with_version(tx, 3)
}

fn truc(scene: &mut Scene) {
    const VIOLATION: &str = "TRUC-violation";
    let coins = scene.coins(20, 200_000);
    let a = one(&coins[0]);
    let parent = three(split(a, 3, 1_000));
    scene.accept("version 3: a parent", &parent);
    let outs: Vec<Coin> = (0..3).map(|vout| Coin::of(&parent, vout)).collect();
    scene.refuse(
        "version 3: a child of version 2",
        &pay(one(&outs[0]), 1_000),
        VIOLATION,
    );
    let child = three(pay(one(&outs[0]), 1_000));
    scene.accept("version 3: a child", &child);
    let grandchild = three(pay(one(&Coin::of(&child, 0)), 1_000));
    scene.refuse("version 3: a grandchild", &grandchild, VIOLATION);
    scene.refuse(
        "version 3: a second child that pays no more",
        &three(pay(one(&outs[1]), 1_000)),
        "insufficient fee (including sibling eviction)",
    );
    scene.accept(
        "version 3: a second child evicts the first",
        &three(pay(one(&outs[1]), 5_000)),
    );
    scene.accept(
        "version 3: a replacement of the child",
        &three(pay(one(&outs[1]), 7_000)),
    );
    let both = three(pay(&outs[1..3], 20_000));
    scene.accept("version 3: a child of two outputs of one parent", &both);

    let b = one(&coins[1]);
    let parent = pay(b, 1_000);
    scene.send(&parent);
    let child = three(pay(one(&Coin::of(&parent, 0)), 1_000));
    scene.refuse(
        "version 3: a child of a version 2 parent",
        &child,
        VIOLATION,
    );

    let parents = [
        three(pay(one(&coins[2]), 1_000)),
        three(pay(one(&coins[3]), 1_000)),
    ];
    parents.iter().for_each(|parent| scene.send(parent));
    let two = [Coin::of(&parents[0], 0), Coin::of(&parents[1], 0)];
    scene.refuse(
        "version 3: two unconfirmed parents",
        &three(pay(&two, 5_000)),
        VIOLATION,
    );
    let mixed = [two[0].clone(), coins[4].clone()];
    scene.accept(
        "version 3: an unconfirmed and a confirmed input",
        &three(pay(&mixed, 5_000)),
    );

    let c = one(&coins[5]);
    let big = |bytes: usize, fee: u64, from: &[Coin]| {
        three(with_fee(padded(pay(from, 0), bytes), from, fee))
    };
    scene.refuse(
        "version 3: over 10,000 virtual bytes",
        &big(9_950, 20_000, c),
        VIOLATION,
    );
    scene.accept(
        "version 3: just below 10,000 virtual bytes",
        &big(9_850, 20_000, c),
    );
    let d = one(&coins[6]);
    let parent = three(pay(d, 1_000));
    scene.send(&parent);
    let from = [Coin::of(&parent, 0)];
    scene.refuse(
        "version 3: a child over 1,000 virtual bytes",
        &big(950, 20_000, &from),
        VIOLATION,
    );
    scene.accept(
        "version 3: a child just below 1,000 virtual bytes",
        &big(850, 20_000, &from),
    );
    scene.settle();

    // With a confirmed parent the limits of children do not apply.
    let e = one(&coins[7]);
    let parent = three(pay(e, 1_000));
    scene.send(&parent);
    scene.settle();
    let confirmed = [Coin::of(&parent, 0)];
    scene.accept(
        "version 3: a large child of a confirmed parent",
        &big(5_000, 20_000, &confirmed),
    );
    let f = one(&coins[8]);
    let parent = three(pay(f, 1_000));
    scene.send(&parent);
    scene.settle();
    let confirmed = Coin::of(&parent, 0);
    scene.accept(
        "version 2 after a confirmed version 3 parent",
        &pay(one(&confirmed), 1_000),
    );
    let g = one(&coins[9]);
    scene.send(&pay(g, 1_000));
    scene.accept("version 3 replaces version 2", &three(pay(g, 2_000)));
    scene.accept("version 2 replaces version 3", &pay(g, 4_000));
    let tx = spend(g, vec![out(open(), 1_000)]);
    scene.accept("a replacement that burns nearly all", &three(tx));
    scene.settle();
}
