//! Deposits that are not confirmed are shown and not spent.

use std::collections::BTreeSet;

use bitcoin::{Transaction, Txid};

use super::{RATE, World, sat, script};
use crate::{Movement, WalletFault};

impl World {
    fn look_at_mempool(&self) {
        let all: Vec<Transaction> = self
            .chain
            .mempool()
            .iter()
            .map(|(_, entry)| entry.tx.as_ref().clone())
            .collect();
        let ids: BTreeSet<Txid> = all.iter().map(Transaction::compute_txid).collect();
        self.wallet.take_mempool(&ids, all).expect("room");
    }
}

#[test]
fn a_deposit_is_shown_before_it_confirms_and_not_when_it_is_gone() {
    let mut world = World::new();
    world.fund(&[100_000]);
    let ours = world.wallet.new_script().expect("room");
    world
        .chain
        .fund_unconfirmed(&ours, sat(40_000))
        .expect("coins");
    world
        .chain
        .fund_unconfirmed(&script(9), sat(5_000))
        .expect("coins");
    world.look_at_mempool();
    let funds = world.wallet.funds();
    assert_eq!(
        (funds.confirmed, funds.unconfirmed),
        (sat(100_000), sat(40_000))
    );
    let shown = world.wallet.transactions();
    assert_eq!(shown.len(), 2, "a stranger's is not ours: {shown:?}");
    assert_eq!(
        (shown[0].height, shown[0].movement, shown[0].change.to_sat()),
        (None, Movement::Deposit, 40_000)
    );

    // What others pay is not spent before it confirms, and never broadcast by us.
    assert!(world.wallet.unconfirmed().is_empty());
    let too_much = world
        .wallet
        .withdraw(script(1), Some(sat(120_000)), RATE, sat(0), 1);
    assert!(matches!(
        too_much,
        Err(WalletFault::InsufficientFunds { .. })
    ));

    // Our own withdrawal stays when the mempool has it no longer: it is broadcast again.
    let own = world
        .wallet
        .withdraw(script(1), Some(sat(30_000)), RATE, sat(0), 1)
        .expect("money");
    world
        .wallet
        .take_mempool(&BTreeSet::new(), Vec::new())
        .expect("room");
    world.reopen();
    assert_eq!(world.wallet.funds().unconfirmed, sat(70_000) - own.fee);
    assert_eq!(
        world.wallet.unconfirmed(),
        std::slice::from_ref(&own.transaction)
    );

    // It may come back, and confirm.
    world.look_at_mempool();
    world.chain.send(&own.transaction).expect("valid");
    world.mine(1);
    let funds = world.wallet.funds();
    assert_eq!(
        (funds.confirmed, funds.unconfirmed),
        (sat(110_000) - own.fee, sat(0))
    );
}
