//! Withdrawals that pay too little are replaced by ones that the network takes instead.

use bitcoin::{Amount, Transaction, Txid};
use fulmen_types::FeeratePerKw;

use super::{RATE, World, sat, script};
use crate::{Movement, WalletFault};

const MORE: FeeratePerKw = FeeratePerKw::new(2_500);

impl World {
    fn in_mempool(&self, transaction: &Transaction) -> bool {
        self.chain.mempool().contains(&transaction.compute_txid())
    }

    fn refused_bump(&self, txid: Txid, rate: FeeratePerKw, reserve: Amount) -> String {
        let error = self
            .wallet
            .bump_fee(txid, rate, reserve, 9)
            .expect_err("it must be refused");
        assert!(
            matches!(
                error,
                WalletFault::Refused(_) | WalletFault::InsufficientFunds { .. }
            ),
            "{error:?}"
        );
        error.to_string()
    }
}

#[test]
fn a_withdrawal_is_replaced_by_one_that_pays_more_from_the_change() {
    let mut world = World::new();
    world.fund(&[100_000, 200_000]);
    let slow = world
        .wallet
        .withdraw(script(1), Some(sat(50_000)), RATE, sat(10_000), 7)
        .expect("money");
    world.chain.send(&slow.transaction).expect("valid");
    world.reopen();
    // In the same second, as a script would.
    let fast = world
        .wallet
        .bump_fee(slow.transaction.compute_txid(), MORE, sat(10_000), 7)
        .expect("more");
    assert_eq!(fast.amount, sat(50_000));
    assert!(fast.fee > slow.fee * 4, "{} after {}", fast.fee, slow.fee);
    world
        .chain
        .send(&fast.transaction)
        .expect("a valid replacement");
    assert!(world.in_mempool(&fast.transaction) && !world.in_mempool(&slow.transaction));
    world.reopen();
    assert_eq!(
        world.wallet.unconfirmed(),
        std::slice::from_ref(&fast.transaction)
    );
    let shown = world.wallet.transactions();
    let first = shown.first().expect("three transactions");
    assert_eq!(
        (first.txid, first.movement, first.fee, first.height),
        (
            fast.transaction.compute_txid(),
            Movement::Withdrawal,
            Some(fast.fee),
            None
        )
    );
    assert_eq!(
        first.change.to_sat(),
        -i64::try_from((fast.amount + fast.fee).to_sat()).expect("small")
    );
    assert_eq!(
        shown.len(),
        3,
        "the one that was replaced is gone: {shown:?}"
    );

    // A replacement can be replaced, the one that it replaced can't.
    let replaced = world.refused_bump(slow.transaction.compute_txid(), MORE, sat(0));
    assert!(replaced.contains("listtransactions"), "{replaced}");
    let low = world.refused_bump(fast.transaction.compute_txid(), MORE, sat(0));
    assert!(low.contains("sat/vB or more"), "{low}");
    let faster = world
        .wallet
        .bump_fee(
            fast.transaction.compute_txid(),
            FeeratePerKw::new(5_000),
            sat(10_000),
            7,
        )
        .expect("more");
    world
        .chain
        .send(&faster.transaction)
        .expect("a valid replacement");
    world.mine(1);
    assert_eq!(
        world.wallet.funds().confirmed,
        sat(300_000) - sat(50_000) - faster.fee
    );
    let late = world.refused_bump(
        faster.transaction.compute_txid(),
        FeeratePerKw::new(9_000),
        sat(0),
    );
    assert!(late.contains("confirmed"), "{late}");
    let nothing = world.refused_bump(
        Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros()),
        MORE,
        sat(0),
    );
    assert!(nothing.contains("no transaction"), "{nothing}");
}

#[test]
fn a_withdrawal_of_everything_pays_the_difference_from_what_arrives() {
    for reserve in [sat(0), sat(10_000)] {
        let mut world = World::new();
        world.fund(&[100_000, 200_000]);
        let slow = world
            .wallet
            .withdraw(script(1), None, RATE, reserve, 1)
            .expect("money");
        world.chain.send(&slow.transaction).expect("valid");
        // What came since is not touched.
        let late = world.wallet.new_script().expect("room");
        world
            .chain
            .fund_unconfirmed(&late, sat(70_000))
            .expect("coins");
        let fast = world
            .wallet
            .bump_fee(slow.transaction.compute_txid(), MORE, reserve, 2)
            .expect("more");
        assert_eq!(
            fast.amount + fast.fee,
            slow.amount + slow.fee,
            "reserve {reserve}"
        );
        world
            .chain
            .send(&fast.transaction)
            .expect("a valid replacement");
        world.mine(1);
        assert_eq!(world.wallet.funds().confirmed, reserve + sat(70_000));
    }
}

#[test]
fn what_others_depend_on_is_not_replaced() {
    let mut world = World::new();
    world.fund(&[300_000]);
    let slow = world
        .wallet
        .withdraw(script(1), Some(sat(50_000)), RATE, sat(0), 1)
        .expect("money");
    world.chain.send(&slow.transaction).expect("valid");
    // The reserve is kept, to the satoshi.
    let txid = slow.transaction.compute_txid();
    let rest = sat(300_000) - sat(50_000) - slow.fee;
    let poor = world.refused_bump(txid, MORE, rest);
    assert!(poor.contains("reserve"), "{poor}");

    // A channel is funded with its change: replacing it would kill the channel.
    let funding = world
        .wallet
        .fund(b"f1", script(2), sat(100_000), RATE, sat(0))
        .expect("money");
    let needed = world.refused_bump(txid, MORE, sat(0));
    assert!(
        needed.contains(&funding.compute_txid().to_string()),
        "{needed}"
    );
    world
        .wallet
        .broadcasted(std::slice::from_ref(&funding), 2)
        .expect("room");
    let own = world.refused_bump(funding.compute_txid(), MORE, sat(0));
    assert!(own.contains("no withdrawal"), "{own}");
    assert!(
        world
            .wallet
            .transactions()
            .iter()
            .any(|tx| tx.movement == Movement::Funding)
    );
    // Given back, it is in nobody's way.
    world.chain.send(&funding).expect("valid");
    world.mine(1);
    let late = world.refused_bump(txid, MORE, sat(0));
    assert!(late.contains("confirmed"), "{late}");
}

#[test]
fn a_command_that_is_given_again_sends_nothing_again() {
    let mut world = World::new();
    world.fund(&[100_000, 200_000]);
    let withdraw = |world: &World, id: u8| {
        let wallet = &world.wallet;
        wallet
            .withdraw_once([id; 16], script(1), Some(sat(50_000)), RATE, sat(0), 1)
            .expect("money")
    };
    let first = withdraw(&world, 1);
    world.reopen();
    let again = withdraw(&world, 1);
    assert_eq!(
        (again.transaction, again.amount, again.fee),
        (first.transaction.clone(), first.amount, first.fee)
    );
    let other = withdraw(&world, 2);
    assert_ne!(other.transaction, first.transaction);
    assert_eq!(world.wallet.unconfirmed().len(), 2);
    world.chain.send(&first.transaction).expect("valid");
    world.chain.send(&other.transaction).expect("valid");
    let faster = world
        .wallet
        .bump_fee(other.transaction.compute_txid(), MORE, sat(0), 2)
        .expect("more");
    assert_eq!(withdraw(&world, 2).transaction, faster.transaction);
}
