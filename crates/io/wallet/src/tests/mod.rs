//! The wallet against an embedded chain: what it shows and signs is durable first, coins are never put
//! aside twice, and what it signs the chain takes.

mod bump;
mod mempool;

use std::path::{Path, PathBuf};

use bitcoin::{
    Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute,
    bip32::Xpriv, transaction::Version,
};
use fulmen_block_sync::BlockRef;
use fulmen_devchain::{Chain, Config, Faucet};
use fulmen_types::FeeratePerKw;

use crate::{OnchainWallet, WalletFault};
use fulmen_persister::{EdgeStore, SqliteStore};

const RATE: FeeratePerKw = FeeratePerKw::new(500);

struct World {
    chain: Chain,
    faucet: Faucet,
    seed: [u8; 32],
    path: PathBuf,
    edge: EdgeStore,
    wallet: OnchainWallet,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("edge.sqlite");
        let seed = [5; 32];
        let mut chain = Chain::new(Config::default());
        let faucet = Faucet::default();
        chain.generate_to_script(110, &faucet.script());
        let (edge, wallet) = open(&path, &seed).expect("a new one");
        assert!(wallet.is_new());
        wallet
            .start_at(BlockRef {
                hash: chain.tip(),
                height: chain.height(),
            })
            .expect("a block of the chain");
        assert!(!wallet.is_new());
        Self {
            chain,
            faucet,
            seed,
            path,
            edge,
            wallet,
            _dir: dir,
        }
    }

    /// As after a kill: only what is on disk counts.
    fn reopen(&mut self) {
        self.edge.close();
        (self.edge, self.wallet) = open(&self.path, &self.seed).expect("it was well");
    }

    fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.chain.generate_to_script(1, &self.faucet.script());
            let height = self.chain.height();
            let hash = self.chain.tip();
            let block = self.chain.block(&hash).expect("just mined").clone();
            assert!(self.wallet.take_block(height, &block).expect("room"));
        }
    }

    /// Confirmed coins of the wallet.
    fn fund(&mut self, amounts_sat: &[u64]) {
        for amount in amounts_sat {
            let script = self.wallet.new_script().expect("room");
            self.chain
                .fund_unconfirmed(&script, Amount::from_sat(*amount))
                .expect("coins");
        }
        self.mine(1);
    }
}

fn open(path: &Path, seed: &[u8; 32]) -> Result<(EdgeStore, OnchainWallet), WalletFault> {
    let edge = EdgeStore::new(SqliteStore::open(path)?)?;
    let master = Xpriv::new_master(Network::Regtest, seed).expect("a seed");
    let wallet = OnchainWallet::open(edge.clone(), &master, Network::Regtest)?;
    Ok((edge, wallet))
}

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_raw_hash(
        bitcoin::hashes::Hash::from_byte_array([byte; 32]),
    ))
}

fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

#[test]
fn addresses_are_never_shown_twice() {
    let mut world = World::new();
    let mut shown = std::collections::BTreeSet::new();
    for _ in 0..5 {
        assert!(shown.insert(world.wallet.new_address().expect("room").to_string()));
        assert!(
            shown.insert(
                bitcoin::Address::from_script(
                    &world.wallet.new_script().expect("room"),
                    Network::Regtest
                )
                .expect("it has an address")
                .to_string()
            )
        );
        world.reopen();
    }
}

#[test]
fn a_funding_is_the_same_when_asked_again_and_keeps_the_reserve() {
    let mut world = World::new();
    world.fund(&[1_000_000, 500_000]);
    let fund = |wallet: &OnchainWallet, of: &[u8], value, reserve| {
        wallet.fund(of, script(1), sat(value), RATE, sat(reserve))
    };
    // The reserve stays.
    match fund(&world.wallet, b"f1", 1_480_000, 25_000) {
        Err(WalletFault::InsufficientFunds { needed, available }) => {
            assert_eq!(available, sat(1_500_000));
            assert!(needed > sat(1_505_000));
        }
        other => panic!("{other:?}"),
    }
    let first = fund(&world.wallet, b"f1", 800_000, 25_000).expect("enough");
    world.reopen();
    assert_eq!(
        fund(&world.wallet, b"f1", 800_000, 25_000).expect("the same"),
        first
    );
    assert!(matches!(
        fund(&world.wallet, b"f1", 1, 0),
        Err(WalletFault::Refused(_))
    ));

    // Its coins are not spent again, not by a funding, a withdrawal or a fee.
    let second = fund(&world.wallet, b"f2", 300_000, 25_000).expect("the other coin");
    let spends = |tx: &Transaction, of: &Transaction| {
        tx.input.iter().any(|i| {
            of.input
                .iter()
                .any(|j| i.previous_output == j.previous_output)
        })
    };
    assert!(!spends(&second, &first));
    assert!(
        world
            .wallet
            .lease_coins(b"c1", sat(1_000), RATE)
            .expect("room")
            .is_empty()
    );
    assert!(
        world
            .wallet
            .withdraw(script(2), Some(sat(10_000)), RATE, sat(0), 1)
            .is_err()
    );

    // The chain takes both; what is over comes home.
    for tx in [&first, &second] {
        world.chain.send(tx).expect("valid");
        world
            .wallet
            .broadcasted(std::slice::from_ref(tx), 1)
            .expect("room");
    }
    assert_eq!(world.wallet.unconfirmed().len(), 2);
    world.mine(1);
    let funds = world.wallet.funds();
    assert_eq!(funds.confirmed, funds.free);
    assert!(
        funds.free > sat(398_000) && funds.free < sat(400_000),
        "{funds:?}"
    );
    assert!(world.wallet.unconfirmed().is_empty());
}

#[test]
fn fundings_that_came_to_nothing_give_their_coins_back() {
    let mut world = World::new();
    world.fund(&[100_000, 200_000, 300_000]);
    let fund = |wallet: &OnchainWallet, of: &[u8], value| {
        wallet
            .fund(of, script(1), sat(value), RATE, sat(0))
            .expect("enough")
    };
    let dead = fund(&world.wallet, b"fdead", 250_000);
    let live = fund(&world.wallet, b"flive", 150_000);
    let sent = fund(&world.wallet, b"fsent", 50_000);
    world.chain.send(&sent).expect("valid");
    world.wallet.broadcasted(&[sent], 1).expect("room");
    world.reopen();
    world
        .wallet
        .keep_only_fundings(&[b"flive".to_vec()].into())
        .expect("room");
    let free = world.wallet.funds().free;
    assert_eq!(free, sat(300_000), "only the dead one's coin");
    // And may be used for something else.
    let again = fund(&world.wallet, b"fnew", 250_000);
    assert_eq!(
        again.input[0].previous_output,
        dead.input[0].previous_output
    );
    assert_ne!(
        again.input[0].previous_output,
        live.input[0].previous_output
    );
    world.wallet.release(b"flive").expect("room");
    world.reopen();
    assert!(
        world
            .wallet
            .lease_coins(b"c1", sat(100_000), RATE)
            .expect("room")
            .len()
            == 1
    );
}

#[test]
fn fee_coins_are_confirmed_the_same_again_and_more_if_needed() {
    let mut world = World::new();
    world.fund(&[10_000, 20_000, 30_000]);
    let pending = world.wallet.new_script().expect("room");
    let unconfirmed = world
        .chain
        .fund_unconfirmed(&pending, sat(900_000))
        .expect("coins");
    let tx = world
        .chain
        .transaction(&unconfirmed.txid)
        .expect("in the mempool")
        .0;
    world.wallet.broadcasted(&[tx], 1).expect("room");
    let lease = |wallet: &OnchainWallet, of: &[u8], value| {
        wallet.lease_coins(of, sat(value), RATE).expect("room")
    };
    let values = |coins: &[super::spend::WalletCoin]| {
        let mut values: Vec<u64> = coins.iter().map(|c| c.output.value.to_sat()).collect();
        values.sort_unstable();
        values
    };
    // The least coin that suffices.
    assert_eq!(values(&lease(&world.wallet, b"c1", 15_000)), [20_000]);
    world.reopen();
    assert_eq!(values(&lease(&world.wallet, b"c1", 15_000)), [20_000]);
    // More.
    assert_eq!(
        values(&lease(&world.wallet, b"c1", 25_000)),
        [10_000, 20_000]
    );
    // All that there are: what is not confirmed pays no fees.
    assert_eq!(values(&lease(&world.wallet, b"c2", 1_000_000)), [30_000]);
    assert_eq!(values(&lease(&world.wallet, b"c3", 1)), Vec::<u64>::new());

    // The node's word counts.
    let held: Vec<OutPoint> = lease(&world.wallet, b"c2", 1)
        .iter()
        .map(|coin| coin.outpoint)
        .collect();
    world
        .wallet
        .keep_only_claims([(b"c9".to_vec(), held)].into())
        .expect("room");
    world.reopen();
    assert_eq!(
        values(&lease(&world.wallet, b"c1", 25_000)),
        [10_000, 20_000]
    );
    assert_eq!(values(&lease(&world.wallet, b"c9", 1)), [30_000]);
}

#[test]
fn it_signs_its_own_inputs_among_others() {
    let mut world = World::new();
    world.fund(&[50_000]);
    let coin = world
        .wallet
        .lease_coins(b"c1", sat(1_000), RATE)
        .expect("room")
        .remove(0);
    // An input of the faucet, signed by the faucet, and one of the wallet.
    let foreign = world
        .chain
        .fund_unconfirmed(&world.faucet.script(), sat(70_000))
        .expect("coins");
    let foreign_output = TxOut {
        value: sat(70_000),
        script_pubkey: world.faucet.script(),
    };
    let input = |previous_output| TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input(foreign), input(coin.outpoint)],
        output: vec![TxOut {
            value: sat(118_000),
            script_pubkey: script(5),
        }],
    };
    let values = [sat(70_000), sat(50_000)];
    world.faucet.sign(&mut tx, &values);
    // The faucet signs every input as its own; the wallet replaces what is the wallet's only.
    tx.input[1].witness = Witness::new();
    let foreign_witness = tx.input[0].witness.clone();
    let weight_before = tx.weight();
    let signed = world
        .wallet
        .sign(tx.clone(), &[foreign_output, coin.output.clone()])
        .expect("ours");
    assert_eq!(signed.input[0].witness, foreign_witness);
    let added = (signed.weight() - weight_before).to_wu();
    // The empty witness counted one already.
    assert_eq!(added, coin.witness_weight - 1);
    world.chain.send(&signed).expect("valid");
    assert!(world.wallet.sign(tx, &[]).is_err());
}

#[test]
fn withdrawals_leave_the_reserve_and_can_take_all_else() {
    let mut world = World::new();
    world.fund(&[100_000, 200_000]);
    let one = world
        .wallet
        .withdraw(script(1), Some(sat(50_000)), RATE, sat(10_000), 1)
        .expect("ok");
    assert_eq!(one.amount, sat(50_000));
    world.chain.send(&one.transaction).expect("valid");
    world.reopen();
    assert_eq!(world.wallet.unconfirmed(), [one.transaction]);
    // The change can be spent before it confirms.
    let all = world
        .wallet
        .withdraw(script(1), None, RATE, sat(10_000), 2)
        .expect("ok");
    world.chain.send(&all.transaction).expect("valid");
    assert_eq!(all.amount + all.fee + one.fee + sat(10_000), sat(250_000));
    world.mine(1);
    assert_eq!(world.wallet.funds().confirmed, sat(10_000));
    let rest = world
        .wallet
        .withdraw(script(1), None, RATE, sat(0), 3)
        .expect("ok");
    assert_eq!(rest.amount + rest.fee, sat(10_000));
    let tiny = world
        .wallet
        .withdraw(script(1), Some(sat(10)), RATE, sat(0), 3);
    assert!(tiny.is_err());
}

#[test]
fn it_follows_reorganisations_and_knows_what_it_lacks() {
    let mut world = World::new();
    world.fund(&[100_000]);
    let fork = world.chain.tip();
    world.fund(&[40_000]);
    world.mine(2);
    assert_eq!(world.wallet.funds().confirmed, sat(140_000));
    // The block after the fork is replaced; the mempool's transactions go with it.
    let bad = world
        .chain
        .block_hash(world.chain.height() - 2)
        .expect("a block");
    assert_eq!(
        world
            .chain
            .block(&bad)
            .expect("known")
            .header
            .prev_blockhash,
        fork
    );
    world.chain.invalidate_block(&bad).expect("known");
    let before = world.chain.height();
    world.chain.generate_to_script(4, &world.faucet.script());
    for height in before + 1..=world.chain.height() {
        let hash = world.chain.block_hash(height).expect("mined");
        let block = world.chain.block(&hash).expect("mined").clone();
        assert!(world.wallet.take_block(height, &block).expect("room"));
    }
    world.reopen();
    let (tip, ancestors) = world.wallet.tip();
    assert_eq!(
        (tip.hash, tip.height),
        (world.chain.tip(), world.chain.height())
    );
    assert!(
        ancestors
            .windows(2)
            .all(|pair| pair[0].height == pair[1].height + 1)
    );
    assert_eq!(world.wallet.funds().confirmed, sat(140_000), "mined again");

    // A block whose parent is missing is not taken.
    world.chain.generate_to_script(2, &world.faucet.script());
    let hash = world.chain.tip();
    let block = world.chain.block(&hash).expect("mined").clone();
    assert!(
        !world
            .wallet
            .take_block(world.chain.height(), &block)
            .expect("room")
    );
    assert_eq!(world.wallet.tip().0, tip);
}

#[test]
fn the_journal_is_folded_and_says_the_same() {
    let mut world = World::new();
    world.fund(&[100_000]);
    // Each address is a record: far more than are kept.
    for _ in 0..1_200 {
        world.wallet.new_address().expect("room");
    }
    world.mine(200);
    let (address, tip, funds) = (
        world.wallet.new_address().expect("room"),
        world.wallet.tip(),
        world.wallet.funds(),
    );
    let records = world.edge.load_prefix(b"wallet/").expect("readable").len();
    assert!(records < 1_000, "{records}");
    world.reopen();
    assert_eq!(world.wallet.tip().0, tip.0);
    assert_eq!(world.wallet.funds(), funds);
    assert_ne!(world.wallet.new_address().expect("room"), address);
    let spent = world
        .wallet
        .withdraw(script(1), Some(sat(50_000)), RATE, sat(0), 1)
        .expect("ok");
    world
        .chain
        .send(&spent.transaction)
        .expect("the coin is known with its block");
}

#[test]
fn the_wallet_of_another_seed_or_network_is_refused() {
    let world = World::new();
    world.edge.close();
    let other = [6; 32];
    assert!(matches!(
        open(&world.path, &other),
        Err(WalletFault::OtherWallet(_))
    ));
    let edge =
        EdgeStore::new(SqliteStore::open(&world.path).expect("free again")).expect("readable");
    let master = Xpriv::new_master(Network::Signet, &world.seed).expect("a seed");
    let result = OnchainWallet::open(edge, &master, Network::Signet).map(|_| ());
    assert!(matches!(result, Err(WalletFault::OtherWallet(_))));
}
