//! The chain as a library: reorganisations, determinism, the mempool that follows the chain.

#![allow(clippy::unwrap_used)]

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Witness,
};
use fulmen_devchain::{Chain, Config, Submitted};

fn open() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::hash(&[0x51]))
}

fn fund(chain: &mut Chain, sat: u64) -> (OutPoint, u64) {
    (chain.fund(&open(), Amount::from_sat(sat)).unwrap(), sat)
}

fn pay(coins: &[(OutPoint, u64)], fee: u64) -> Transaction {
    let total: u64 = coins.iter().map(|(_, sat)| sat).sum();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins
            .iter()
            .map(|(outpoint, _)| TxIn {
                previous_output: *outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[0x51]]),
            })
            .collect(),
        output: vec![TxOut {
            value: Amount::from_sat(total - fee),
            script_pubkey: open(),
        }],
    }
}

fn out(tx: &Transaction) -> (OutPoint, u64) {
    (
        OutPoint {
            txid: tx.compute_txid(),
            vout: 0,
        },
        tx.output[0].value.to_sat(),
    )
}

#[test]
fn the_same_calls_give_the_same_chain() {
    let build = || {
        let mut chain = Chain::default();
        let coin = fund(&mut chain, 70_000);
        chain.send(&pay(&[coin], 500)).unwrap();
        chain.generate(3);
        chain.tip()
    };
    assert_eq!(build(), build());
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut one = Chain::default();
    let coin = fund(&mut one, 70_000);
    let mut two = one.clone();
    two.mine(&[pay(&[coin], 500)]).unwrap();
    assert!(one.coin(&coin.0).is_some() && two.coin(&coin.0).is_none());
    one.generate(2);
    assert_ne!(one.tip(), two.tip());
    // The longer branch of one convinces the other.
    for height in two.height()..=one.height() {
        let hash = one.block_hash(height).unwrap();
        let block: Block = deserialize(&serialize(&**one.block(&hash).unwrap())).unwrap();
        two.set_time(one.time());
        two.submit_block(block).unwrap();
    }
    assert_eq!(one.tip(), two.tip());
    assert_eq!(
        two.mempool().len(),
        1,
        "the transaction of the lost branch waits again"
    );
}

#[test]
fn the_coins_are_the_same_after_there_and_back() {
    let mut chain = Chain::default();
    let coin = fund(&mut chain, 70_000);
    chain.generate(3);
    let before: Vec<_> = chain.coins().map(|(o, c)| (*o, c.clone())).collect();
    let tip = chain.tip();
    let spend = pay(&[coin], 500);
    let hash = chain.mine(std::slice::from_ref(&spend)).unwrap();
    let child = chain.mine(&[pay(&[out(&spend)], 500)]).unwrap();
    let after: Vec<_> = chain.coins().map(|(o, c)| (*o, c.clone())).collect();
    chain.invalidate_block(&hash).unwrap();
    assert_eq!(chain.tip(), tip);
    assert_eq!(
        chain
            .coins()
            .map(|(o, c)| (*o, c.clone()))
            .collect::<Vec<_>>(),
        before
    );
    assert_eq!(chain.mempool().len(), 2);
    assert_eq!(chain.confirmations(&spend.compute_txid()), 0);
    chain.reconsider_block(&child).unwrap();
    assert_eq!(chain.tip(), child);
    assert_eq!(
        chain
            .coins()
            .map(|(o, c)| (*o, c.clone()))
            .collect::<Vec<_>>(),
        after
    );
    assert!(chain.mempool().is_empty());
}

#[test]
fn of_two_equal_branches_the_first_stays() {
    let mut chain = Chain::default();
    let mut rival = chain.clone();
    chain.generate(1);
    let mine = chain.tip();
    rival.advance_time(60);
    rival.generate(2);
    let first = rival.block_hash(rival.height() - 1).unwrap();
    let block = (**rival.block(&first).unwrap()).clone();
    assert_eq!(chain.submit_block(block.clone()), Ok(Submitted::SideBranch));
    assert_eq!(chain.submit_block(block), Ok(Submitted::Duplicate));
    assert_eq!(chain.tip(), mine);
    assert_eq!(chain.tips().len(), 2);
    chain.set_time(rival.time());
    let second = (**rival.block(&rival.tip()).unwrap()).clone();
    assert_eq!(chain.submit_block(second), Ok(Submitted::Active));
    assert_eq!(chain.tip(), rival.tip());
}

#[test]
fn an_invalid_branch_is_left_again() {
    let mut chain = Chain::default();
    let coin = fund(&mut chain, 70_000);
    let mut rival = chain.clone();
    chain.generate(1);
    let tip = chain.tip();
    // A branch whose first block double spends: valid in form, so it is kept, until it is longer.
    let mut bad = rival.block_template(&open());
    bad.txdata[0].output[0].value += Amount::from_sat(1);
    reseal(&mut bad);
    let bad_hash = bad.block_hash();
    assert_eq!(chain.submit_block(bad.clone()), Ok(Submitted::SideBranch));
    let mut next = rival.block_template(&open());
    next.header.prev_blockhash = bad_hash;
    let height = i64::from(rival.height()) + 2;
    next.header.time += 1_200;
    next.txdata[0].input[0].script_sig = bitcoin::script::Builder::new()
        .push_int(height)
        .push_slice([9; 8])
        .into_script();
    reseal(&mut next);
    chain.advance_time(1_200);
    let refused = chain.submit_block(next.clone()).unwrap_err();
    assert_eq!(refused.reason, "bad-cb-amount");
    assert_eq!(chain.tip(), tip);
    assert!(chain.coin(&coin.0).is_some());
    assert_eq!(
        chain.submit_block(next).unwrap_err().reason,
        "duplicate-invalid"
    );
}

/// Mines a changed coinbase-only block anew.
fn reseal(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
}

#[test]
fn a_conflicting_block_empties_the_mempool_of_the_loser() {
    let mut chain = Chain::default();
    let coin = fund(&mut chain, 70_000);
    let parent = pay(&[coin], 500);
    let child = pay(&[out(&parent)], 500);
    chain.send(&parent).unwrap();
    chain.send(&child).unwrap();
    chain.mine(&[pay(&[coin], 501)]).unwrap();
    assert!(chain.mempool().is_empty());
    assert_eq!(
        chain.test_accept(&parent).unwrap_err().reason,
        "bad-txns-inputs-missingorspent"
    );
}

#[test]
fn a_reorganisation_drops_what_is_no_longer_valid() {
    let mut chain = Chain::default();
    let coin = fund(&mut chain, 70_000);
    chain.generate(3);
    // A relative lock of four blocks, met by one block only.
    let mut locked = pay(&[coin], 500);
    locked.input[0].sequence = Sequence::from_height(4);
    chain.send(&locked).unwrap();
    let child = pay(&[out(&locked)], 500);
    chain.send(&child).unwrap();
    let tip = chain.tip();
    chain.invalidate_block(&tip).unwrap();
    assert!(chain.mempool().is_empty());
    chain.generate(1);
    chain.send(&locked).unwrap();
    // A coinbase that is mature only while the tip stays.
    let mut chain = Chain::default();
    let hash = chain.generate_to_script(1, &open())[0];
    chain.generate(99);
    let coinbase = chain.block(&hash).unwrap().txdata[0].clone();
    chain.send(&pay(&[out(&coinbase)], 500)).unwrap();
    let tip = chain.tip();
    chain.invalidate_block(&tip).unwrap();
    assert!(chain.mempool().is_empty());
}

#[test]
fn a_package_without_fee_comes_back_after_a_reorganisation() {
    let mut chain = Chain::default();
    let (coin, other) = (fund(&mut chain, 70_000), fund(&mut chain, 30_000));
    let mut parent = pay(&[coin], 0);
    parent.version = Version(3);
    let mut child = pay(&[out(&parent), other], 5_000);
    child.version = Version(3);
    assert!(
        chain
            .submit_package(&[parent.clone(), child.clone()])
            .is_ok()
    );
    let hash = chain.generate(1)[0];
    assert_eq!(chain.block(&hash).unwrap().txdata.len(), 3);
    chain.invalidate_block(&hash).unwrap();
    assert_eq!(chain.mempool().len(), 2);
    chain.generate(1);
    assert_eq!(chain.confirmations(&child.compute_txid()), 1);
}

#[test]
fn the_miner_takes_the_best_packages_first() {
    let mut chain = Chain::default();
    let coins: Vec<_> = (0..3).map(|_| fund(&mut chain, 1_000_000)).collect();
    let low = pay(&[coins[2]], 1_000);
    chain.send(&low).unwrap();
    let rich_child_parent = pay(&[coins[0]], 10);
    chain.send(&rich_child_parent).unwrap();
    let rich_child = pay(&[out(&rich_child_parent)], 50_000);
    chain.send(&rich_child).unwrap();
    chain.send(&pay(&[coins[1]], 2_000)).unwrap();
    let template = chain.block_template(&open());
    let order: Vec<_> = template
        .txdata
        .iter()
        .skip(1)
        .map(Transaction::compute_txid)
        .collect();
    assert_eq!(order[0], rich_child_parent.compute_txid());
    assert_eq!(order[1], rich_child.compute_txid());
    assert_eq!(order[3], low.compute_txid());
}

#[test]
fn the_subsidy_halves_every_150_blocks() {
    let chain = Chain::new(Config {
        initial_blocks: 301,
        ..Config::default()
    });
    let paid = |height| {
        let hash = chain.block_hash(height).unwrap();
        fulmen_devchain::coinbase_value(chain.block(&hash).unwrap()).to_sat()
    };
    assert_eq!(
        (paid(149), paid(150), paid(300)),
        (5_000_000_000, 2_500_000_000, 1_250_000_000)
    );
}

#[test]
fn a_faucet_without_mature_coins_says_what_to_do() {
    let mut chain = Chain::new(Config {
        initial_blocks: 0,
        ..Config::default()
    });
    let error = chain.fund(&open(), Amount::from_sat(1_000)).unwrap_err();
    assert!(error.to_string().contains("mine more blocks"), "{error}");
    chain.generate(101);
    chain.fund(&open(), Amount::from_sat(1_000)).unwrap();
}
