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

#[test]
fn a_refused_block_leaves_no_trace() {
    let mut chain = Chain::default();
    let coin = fund(&mut chain, 70_000);
    let mut wrong = pay(&[coin], 500);
    wrong.input[0].witness = Witness::from_slice(&[[0x52]]);
    let (tip, time) = (chain.tip(), chain.time());
    let refused = chain.mine(&[wrong]).unwrap_err();
    assert!(
        refused
            .reason
            .starts_with("block-script-verify-flag-failed"),
        "{refused}"
    );
    assert_eq!(
        (chain.tip(), chain.time(), chain.tips().len()),
        (tip, time, 1)
    );
    assert!(chain.coin(&coin.0).is_some());
}

#[test]
fn very_many_blocks_at_one_moment_are_mined() {
    let mut chain = Chain::new(Config {
        block_interval: 0,
        ..Config::default()
    });
    let start = chain.time();
    for _ in 0..50 {
        chain.generate(1_000);
        chain.set_time(start);
    }
    assert_eq!(chain.height(), 50_110);
}

/// A fixed sequence of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// The coins as a fresh chain sees them that gets only the active blocks.
fn replayed(chain: &Chain) -> Chain {
    let mut fresh = Chain::new(Config {
        initial_blocks: 0,
        ..Config::default()
    });
    fresh.set_time(chain.time());
    for height in 1..=chain.height() {
        let hash = chain.block_hash(height).unwrap();
        let block = (**chain.block(&hash).unwrap()).clone();
        assert_eq!(fresh.submit_block(block), Ok(Submitted::Active));
    }
    fresh
}

#[test]
fn coins_and_mempool_stay_consistent_on_a_random_walk() {
    let mut numbers = Numbers(0x5eed_5eed_5eed_5eed);
    let mut chain = Chain::default();
    let mut coins: Vec<(OutPoint, u64)> = (0..20).map(|_| fund(&mut chain, 100_000)).collect();
    let mut accepted = 0;
    let mut reorgs = 0;
    for step in 0..1_500 {
        match numbers.next(12) {
            0 => {
                chain.generate(1);
                coins.push(fund(&mut chain, 100_000));
            }
            1 if numbers.next(3) == 0 => {
                let depth = u32::try_from(numbers.next(6)).unwrap();
                let hash = chain.block_hash(chain.height() - depth).unwrap();
                chain.invalidate_block(&hash).unwrap();
                if numbers.next(2) == 0 {
                    chain.generate(1);
                } else {
                    chain.reconsider_block(&hash).unwrap();
                }
                reorgs += 1;
            }
            _ => {
                let picked: Vec<_> = (0..=numbers.next(2))
                    .map(|_| coins[numbers.next(coins.len())])
                    .collect();
                let total: u64 = picked.iter().map(|(_, sat)| sat).sum();
                let fee = u64::try_from(numbers.next(5_000)).unwrap();
                if total < fee + 1_000 {
                    continue;
                }
                let mut tx = pay(&picked, fee);
                tx.version = Version(if numbers.next(4) == 0 { 3 } else { 2 });
                let judged = chain.test_accept(&tx);
                let sent = chain.send(&tx);
                assert_eq!(judged, sent, "the test says what happens");
                if sent.is_ok() {
                    accepted += 1;
                    coins.push(out(&tx));
                }
            }
        }
        for (txid, entry) in chain.mempool().iter() {
            for input in &entry.tx.input {
                let outpoint = &input.previous_output;
                let known =
                    chain.coin(outpoint).is_some() || chain.mempool().output(outpoint).is_some();
                assert!(known, "step {step}: {txid} spends an unknown coin");
                assert_eq!(chain.mempool().spender(outpoint), Some(*txid));
            }
        }
        if step % 100 == 0 {
            let fresh = replayed(&chain);
            assert!(
                fresh.coins().eq(chain.coins()),
                "step {step}: the coins differ"
            );
        }
    }
    assert!(
        accepted > 150 && reorgs > 10,
        "{accepted} accepted, {reorgs} reorganisations"
    );
}
