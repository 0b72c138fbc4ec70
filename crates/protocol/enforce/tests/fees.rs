//! Fees: who pays, how much, when more, and from which coins.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint, Transaction, TxIn, TxOut};
use common::{CURRENT, World, content, feerates, htlc, preimage};
use fulmen_devchain::Policy;
use fulmen_enforce::{
    EnforceEvent, EnforceInput, Evidence, RESERVED_HTLCS_PER_CHANNEL, Start, required_reserve,
};
use fulmen_tx::{BuiltCommitment, CommitmentFormat, CommitmentHtlc, Side};
use fulmen_types::{FeeratePerKw, HtlcId};

const ANCHORS: CommitmentFormat = CommitmentFormat::AnchorsZeroFeeHtlc;

fn empty_block(world: &mut World) {
    world.chain.mine(&[]).unwrap();
    world.feed_tip();
}

fn value_of(world: &World, known: &BTreeMap<OutPoint, Amount>, outpoint: &OutPoint) -> Amount {
    let confirmed = world.chain.coin(outpoint).map(|c| c.out.value);
    confirmed.unwrap_or_else(|| known[outpoint])
}

/// Fee of a transaction that was sent.
fn fee(world: &World, known: &BTreeMap<OutPoint, Amount>, tx: &Transaction) -> u64 {
    let paid: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    let value: u64 = tx
        .input
        .iter()
        .map(|i| value_of(world, known, &i.previous_output).to_sat())
        .sum();
    value - paid
}

/// The child of an unconfirmed commitment pays more and more towards the deadline, never less, also when
/// the estimates fall and after restarts; and every replacement is accepted.
#[test]
fn the_child_pays_more_towards_the_deadline() {
    for crashes in [false, true] {
        let mut world = World::new(ANCHORS);
        world.alice.crashes = crashes;
        let expiry = world.height() + 40;
        let htlcs = [htlc(0, Side::Remote, 200_000, 3, expiry)];
        let (mut alices, _) = world.evidence(&content(CURRENT, &htlcs, 300), &[]);
        alices.preimages.push(preimage(3));
        let built = alices
            .holder
            .as_ref()
            .unwrap()
            .build(&world.secp, &alices.params);
        let known: BTreeMap<OutPoint, Amount> = (0u32..)
            .zip(&built.tx.output)
            .map(|(vout, o)| (built.outpoint(vout), o.value))
            .collect();
        world.start_alice(alices, Start::ForceClose);
        let mut fees = Vec::new();
        for round in 0..36 {
            if round == 10 {
                world.feerates = feerates(300);
            }
            empty_block(&mut world);
            let mut children = world.alice.sent.iter().filter(|p| p.len() == 2);
            if let Some(package) = children.next_back() {
                assert_eq!(package[0].compute_txid(), built.txid);
                fees.push(fee(&world, &known, &package[1]));
            }
        }
        assert!(fees.windows(2).all(|w| w[0] <= w[1]), "{fees:?}");
        assert!(*fees.last().unwrap() > 3 * fees[0], "{fees:?}");
        // What is in the mempool is the last one that was sent.
        let last = world.alice.sent.iter().rfind(|p| p.len() == 2).unwrap();
        assert!(world.chain.mempool().contains(&last[1].compute_txid()));
        assert!(
            world.alice.refusals.iter().all(|r| r.contains("already")),
            "{:?}",
            world.alice.refusals
        );
        world.mine(1);
        assert!(world.chain.confirmations(&built.txid) > 0);
        world.mine(2);
        assert!(world.alice.failed.is_empty());
    }
}

/// An HTLC that only a commitment of the peer's has is in danger until ours is in a block: the peer may broadcast its
/// own and show the preimage once nobody can take anything back upstream any more.
#[test]
fn an_htlc_of_the_peers_commitment_alone_is_in_a_hurry() {
    // What is fulfilled already is not.
    for (is_fulfilled, hurries) in [(false, true), (true, false)] {
        let mut world = World::new(ANCHORS);
        let expiry = world.height() + 10;
        let (mut alices, _) = world.evidence(&content(CURRENT, &[], 300), &[]);
        let offered = htlc(0, Side::Local, 500_000, 3, expiry);
        let next = world.theirs(&content(CURRENT + 1, &[offered], 300));
        alices.counterparty.push(next);
        if is_fulfilled {
            alices.preimages.push(preimage(3));
        }
        let mut waiting = Waiting::start(world, alices, 3_000);
        let mut paid = Vec::new();
        for _ in 0..30 {
            empty_block(&mut waiting.world);
            paid.push(waiting.feerate());
        }
        assert!(paid.is_sorted(), "{paid:?}");
        assert_eq!(paid.last() > Some(&(4 * paid[0])), hurries, "{paid:?}");
    }
}

/// A commitment that nobody mines, without HTLCs on it.
struct Waiting {
    world: World,
    commitment: BuiltCommitment,
    values: BTreeMap<OutPoint, Amount>,
}

impl Waiting {
    /// At feerates that its balance of its own is not worth.
    fn at(sat_per_kw: u32) -> Self {
        let mut world = World::new(ANCHORS);
        let (alices, _) = world.evidence(&content(CURRENT, &[], 300), &[]);
        Self::start(world, alices, sat_per_kw)
    }

    fn start(mut world: World, alices: Evidence, sat_per_kw: u32) -> Self {
        let holder = alices.holder.as_ref().unwrap();
        let commitment = holder.build(&world.secp, &alices.params);
        let values = (0u32..)
            .zip(&commitment.tx.output)
            .map(|(vout, o)| (commitment.outpoint(vout), o.value))
            .collect();
        world.feerates = feerates(sat_per_kw);
        world.start_alice(alices, Start::ForceClose);
        Self {
            world,
            commitment,
            values,
        }
    }

    fn package(&self) -> &[Transaction] {
        let mut sent = self.world.alice.sent.iter();
        sent.rfind(|package| package.len() == 2).unwrap()
    }

    /// What the last package pays.
    fn feerate(&self) -> u64 {
        let package = self.package();
        let weight: u64 = package.iter().map(|tx| tx.weight().to_wu()).sum();
        let fees = self.commitment.fee.to_sat() + fee(&self.world, &self.values, &package[1]);
        fees * 1_000 / weight
    }
}

/// Without HTLCs a commitment is in no hurry, and little is paid for it; but fees that never go down again must not
/// keep it out for ever.
#[test]
fn a_commitment_that_waits_for_a_day_pays_what_it_takes() {
    let asked = 40_000;
    let mut waiting = Waiting::at(asked);
    let mut paid = Vec::new();
    for _ in 0..450 {
        empty_block(&mut waiting.world);
        paid.push(waiting.feerate());
    }
    let asked = u64::from(asked);
    assert!(paid[..140].iter().all(|p| *p < asked / 2), "{paid:?}");
    assert!(paid[149] >= asked, "{paid:?}");
    // And no more than that, however long it takes.
    assert!(*paid.last().unwrap() < asked * 11 / 10, "{paid:?}");
}

/// What was paid once, because it was late, is paid again with other coins at once.
#[test]
fn a_late_commitment_is_still_late_when_its_coins_are_lost() {
    let asked = 40_000;
    let mut waiting = Waiting::at(asked);
    for _ in 0..150 {
        empty_block(&mut waiting.world);
    }
    assert!(waiting.feerate() >= u64::from(asked));
    let child = waiting.package()[1].clone();
    // The coins go elsewhere, in a block.
    let world = &mut waiting.world;
    let is_coin = |outpoint: &OutPoint| !waiting.values.contains_key(outpoint);
    let mut elsewhere = child.clone();
    elsewhere.input.retain(|i| is_coin(&i.previous_output));
    let spent: Vec<TxOut> = elsewhere
        .input
        .iter()
        .map(|i| world.chain.coin(&i.previous_output).unwrap().out.clone())
        .collect();
    assert!(!spent.is_empty());
    let elsewhere = world.alice.wallet.sign(elsewhere, &spent);
    world.mine_only(&[elsewhere]);
    empty_block(world);
    let lost = |i: &TxIn| {
        child
            .input
            .iter()
            .any(|c| is_coin(&c.previous_output) && c.previous_output == i.previous_output)
    };
    assert!(!waiting.package()[1].input.iter().any(lost));
    assert!(waiting.feerate() >= u64::from(asked));
}

/// HTLC transactions and direct claims that do not confirm pay more, too.
#[test]
fn claims_pay_more_towards_the_deadline() {
    for ours in [true, false] {
        let mut world = World::new(ANCHORS);
        let expiry = world.height() + 30;
        let htlcs = [htlc(0, Side::Remote, 200_000, 3, expiry)];
        let (mut alices, bobs) = world.evidence(&content(CURRENT, &htlcs, 3_000), &[]);
        alices.preimages.push(preimage(3));
        if ours {
            world.start_alice(alices, Start::ForceClose);
        } else {
            world.start_alice(alices, Start::FundingSpent);
            world.start_bob(bobs, Start::ForceClose);
        }
        world.mine(2);
        world.bob.resolution = None;
        let known = BTreeMap::new();
        let mut fees = Vec::new();
        // The chain forgets what was mined by the second block: start over from unmined claims.
        let hash = world.chain.block_hash(world.height()).unwrap();
        let height = fulmen_types::BlockHeight::new(world.height());
        world.input_alice(EnforceInput::Disconnected { height });
        world.chain.invalidate_block(&hash).unwrap();
        for _ in 0..26 {
            empty_block(&mut world);
            let claim = world.alice.sent.iter().flatten().rfind(|tx| {
                let spent = world.chain.coin(&tx.input[0].previous_output);
                spent.is_some_and(|c| c.out.value == Amount::from_sat(200_000))
            });
            fees.push(fee(&world, &known, claim.unwrap()));
        }
        assert!(fees.windows(2).all(|w| w[0] <= w[1]), "{fees:?}");
        assert!(*fees.last().unwrap() > 3 * fees[0], "{fees:?}");
        world.mine(1);
        let sweep = world.alice.sent.iter().flatten().rfind(|tx| {
            world.chain.confirmations(&tx.compute_txid()) > 0
                && fulmen_types::BlockHeight::new(world.height()).to_u32() < expiry
        });
        assert!(sweep.is_some());
    }
}

/// A wallet without coins: the user is told, what can go out goes out, and coins that come later are used.
#[test]
fn an_empty_wallet_waits() {
    let mut world = World::new(ANCHORS);
    world.alice.wallet.coins_max = 0;
    let expiry = world.height() + 10;
    let htlcs = [htlc(0, Side::Local, 50_000, 1, expiry)];
    let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 300), &[]);
    world.start_alice(alices, Start::ForceClose);
    let poor = |world: &World| {
        let told = |e: &&EnforceEvent| matches!(e, EnforceEvent::CoinsMissing { .. });
        world.alice.events.iter().filter(told).count()
    };
    assert_eq!(poor(&world), 1);
    assert_eq!(world.alice.sent[0].len(), 1);
    // The commitment pays just enough by itself to be mined by this miner.
    world.mine(15);
    assert_eq!(poor(&world), 2);
    assert!(world.alice.failed.is_empty());
    world.alice.wallet.coins_max = 1;
    world.mine(8);
    assert_eq!(world.alice.failed, [HtlcId::new(0)]);
    world.mine(200);
    assert!(world.alice.done);
}

/// With a single coin all HTLCs of one expiry are claimed together, and those of another after them.
#[test]
fn one_coin_is_enough_in_the_end() {
    let mut world = World::new(ANCHORS);
    world.alice.wallet.coins_max = 1;
    let height = world.height();
    let htlcs: Vec<CommitmentHtlc> = (0..8u32)
        .map(|n| {
            let (id, expiry) = (u64::from(n), height + 10 + 4 * (n % 2));
            htlc(id, Side::Local, 20_000 + id, 1, expiry)
        })
        .collect();
    let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 3_000), &[]);
    world.start_alice(alices, Start::ForceClose);
    world.mine(12);
    let batch = world
        .alice
        .sent
        .iter()
        .flatten()
        .max_by_key(|tx| tx.input.len());
    assert_eq!(batch.unwrap().input.len(), 5);
    world.mine(30);
    assert_eq!(world.alice.failed.len(), 4);
    world.alice.wallet.coins_max = 3;
    world.mine(300);
    assert_eq!(world.alice.failed.len(), 8);
    assert!(world.alice.done);
}

/// The peer claims HTLCs of a batch one by one: each time the rest goes to a new claim that pays no less,
/// and in the end all are settled (known attacks, 8 and 18).
#[test]
fn staggered_claims_do_not_stall_us() {
    for ours in [true, false] {
        let mut world = World::new(ANCHORS);
        let height = world.height();
        let htlcs: Vec<CommitmentHtlc> = (0..6u8)
            .map(|n| htlc(u64::from(n), Side::Local, 30_000, 50 + n, height + 6))
            .collect();
        let (alices, bobs) = world.evidence(&content(CURRENT, &htlcs, 3_000), &[]);
        if ours {
            world.start_bob(bobs, Start::FundingSpent);
            world.start_alice(alices, Start::ForceClose);
        } else {
            world.start_alice(alices, Start::FundingSpent);
            world.start_bob(bobs, Start::ForceClose);
        }
        world.mine_to(height + 6);
        // Alice's batch is out. Bob now claims one HTLC in each block, past it.
        let mut paid_feerates = Vec::new();
        for id in 0..3u8 {
            // Estimates fall, which must not make the claims of the rest pay less.
            world.feerates = feerates(1_000 - 300 * u32::from(id));
            world.alice.muted = true;
            let sent = world.bob.sent.len();
            world.bob.muted = true;
            world.input_bob(EnforceInput::Preimage(preimage(50 + id)));
            let bobs: Vec<Transaction> = world.bob.sent[sent..].iter().flatten().cloned().collect();
            assert_eq!(bobs.len(), 1, "{:?}", world.bob.refusals);
            world.mine_only(&bobs);
            assert_eq!(world.alice.fulfilled.len(), usize::from(id) + 1);
            let batch = world.alice.sent.last().unwrap().last().unwrap();
            let value: u64 = batch
                .input
                .iter()
                .map(|i| {
                    world
                        .chain
                        .coin(&i.previous_output)
                        .unwrap()
                        .out
                        .value
                        .to_sat()
                })
                .sum();
            let paid: u64 = batch.output.iter().map(|o| o.value.to_sat()).sum();
            paid_feerates.push((value - paid) * 1_000 / batch.weight().to_wu());
        }
        // Signatures vary by a byte.
        assert!(
            paid_feerates.windows(2).all(|w| w[0] <= w[1] + 10),
            "{paid_feerates:?}"
        );
        world.alice.muted = false;
        world.mine(200);
        assert!(world.alice.done, "{:#?}", world.alice.refusals);
        assert_eq!(world.alice.fulfilled.len(), 3);
        assert_eq!(world.alice.failed.len(), 3);
    }
}

/// What costs more than it is worth waits for lower fees, and the user is told once.
#[test]
fn no_claim_at_a_loss() {
    for ours in [true, false] {
        let mut world = World::new(ANCHORS);
        let height = world.height();
        let htlcs = [
            htlc(0, Side::Local, 800, 1, height + 3),
            htlc(1, Side::Local, 90_000, 2, height + 3),
        ];
        let (alices, bobs) = world.evidence(&content(CURRENT, &htlcs, 20_000), &[]);
        world.feerates = feerates(15_000);
        world.feerates.floor = FeeratePerKw::new(4_000);
        if ours {
            world.start_alice(alices, Start::ForceClose);
        } else {
            world.start_alice(alices, Start::FundingSpent);
            world.start_bob(bobs, Start::ForceClose);
        }
        world.mine(20);
        let told = |e: &&EnforceEvent| matches!(e, EnforceEvent::Uneconomic { amount, .. } if amount.to_sat() == 800);
        assert_eq!(world.alice.events.iter().filter(told).count(), 1);
        // Both are failed upstream: the large one is back, the other not worth waiting for.
        assert_eq!(world.alice.failed.len(), 2);
        world.feerates = feerates(253);
        world.mine(250);
        let pending = world.alice.resolution.as_ref().unwrap();
        assert!(
            world.alice.done,
            "{ours} {:#?} {:#?} {:?}",
            pending.pending_sweeps(&world.secp),
            world.alice.events,
            world.alice.refusals
        );
    }
}

/// The reserve pays for closing a channel with as many HTLCs as it says, at the feerate it says.
#[test]
fn the_reserve_is_enough() {
    let feerate = 2_000;
    let reserve = required_reserve(1, FeeratePerKw::new(feerate));
    let mut world = World::new(ANCHORS);
    world.feerates = fulmen_types::Feerates {
        background: FeeratePerKw::new(feerate),
        normal: FeeratePerKw::new(feerate),
        urgent: FeeratePerKw::new(feerate),
        floor: FeeratePerKw::FLOOR,
    };
    let height = world.height();
    let count = u32::try_from(RESERVED_HTLCS_PER_CHANNEL).unwrap();
    let htlcs: Vec<CommitmentHtlc> = (0..count)
        .map(|id| htlc(u64::from(id), Side::Local, 30_000, 50, height + 6 + id))
        .collect();
    let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 253), &[]);
    world.start_alice(alices, Start::ForceClose);
    world.mine(40);
    // What brings nothing to the wallet is paid by coins: the child and the HTLC transactions.
    let from_coins = world.alice.events.iter().filter_map(|e| match e {
        EnforceEvent::Swept { amount, fee, .. } if *amount == Amount::ZERO => Some(*fee),
        _ => None,
    });
    let paid: Vec<Amount> = from_coins.collect();
    assert_eq!(paid.len() as u64, 1 + RESERVED_HTLCS_PER_CHANNEL);
    let paid: Amount = paid.into_iter().sum();
    assert!(paid <= reserve, "{paid} of {reserve}");
    world.mine(200);
    assert!(world.alice.done);
}

/// A miner's floor above the commitment's own feerate: only the package gets in.
#[test]
fn the_package_passes_where_the_commitment_alone_does_not() {
    let mut world = World::new(ANCHORS);
    world.chain.set_policy(Policy {
        mempool_min_feerate: 3_000,
        ..Policy::default()
    });
    let (alices, _) = world.evidence(&content(CURRENT, &[], 253), &[]);
    world.start_alice(alices, Start::ForceClose);
    assert!(
        world.alice.refusals.iter().any(|r| r.contains("fee")),
        "{:?}",
        world.alice.refusals
    );
    world.mine(1);
    assert!(matches!(
        world.alice.events[0],
        EnforceEvent::Confirmed { .. }
    ));
}

/// HTLCs of different expiries never share a transaction, though nothing but policy keeps them apart.
#[test]
fn different_deadlines_are_never_batched() {
    for ours in [true, false] {
        let mut world = World::new(ANCHORS);
        let height = world.height();
        let htlcs: Vec<CommitmentHtlc> = (0..6u8)
            .map(|n| {
                let expiry = height + 40 + u32::from(n / 2);
                htlc(u64::from(n), Side::Remote, 30_000, 50 + n, expiry)
            })
            .collect();
        let (mut alices, bobs) = world.evidence(&content(CURRENT, &htlcs, 3_000), &[]);
        alices.preimages = (50..56).map(preimage).collect();
        if ours {
            world.start_alice(alices, Start::ForceClose);
        } else {
            world.start_alice(alices, Start::FundingSpent);
            world.start_bob(bobs, Start::ForceClose);
        }
        world.mine(2);
        let claims: Vec<&Transaction> = world
            .alice
            .sent
            .iter()
            .flatten()
            .filter(|tx| {
                let spent = tx.input[0].previous_output;
                let block = world.chain.transaction(&spent.txid);
                block.is_some_and(|(tx, _)| {
                    tx.output[spent.vout as usize].value == Amount::from_sat(30_000)
                })
            })
            .collect();
        let distinct: std::collections::BTreeSet<_> = claims
            .iter()
            .map(|tx| tx.input[0].previous_output)
            .collect();
        assert_eq!(distinct.len(), 3);
        // Two HTLCs, and with our commitment a coin.
        let inputs = if ours { 3 } else { 2 };
        assert!(claims.iter().all(|tx| tx.input.len() == inputs));
    }
}

/// Coins of a child that its commitment did without go to the next claim. If the child confirms after all,
/// the claim is made again with others.
#[test]
fn a_late_child_takes_its_coins_along() {
    let mut world = World::new(ANCHORS);
    let expiry = world.height() + 4;
    let htlcs = [htlc(0, Side::Local, 50_000, 1, expiry)];
    let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 300), &[]);
    world.start_alice(alices, Start::ForceClose);
    let package = world
        .alice
        .sent
        .iter()
        .rfind(|p| p.len() == 2)
        .unwrap()
        .clone();
    world.mine_only(&package[..1]);
    for _ in 0..3 {
        empty_block(&mut world);
    }
    let coins: Vec<OutPoint> = package[1].input.iter().map(|i| i.previous_output).collect();
    let claim = world.alice.sent.last().unwrap()[0].clone();
    assert!(
        claim
            .input
            .iter()
            .any(|i| coins.contains(&i.previous_output))
    );
    // The claim has replaced the child, but a miner has the child.
    world.mine_only(&package[1..]);
    world.mine(7);
    assert_eq!(world.alice.failed, [HtlcId::new(0)]);
    world.mine(150);
    assert!(world.alice.done);
}

/// What was failed upstream can't be fulfilled there any more.
#[test]
fn a_preimage_after_the_failure_says_nothing() {
    let mut world = World::new(ANCHORS);
    let expiry = world.height() + 4;
    let htlcs = [htlc(0, Side::Local, 50_000, 1, expiry)];
    let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 3_000), &[]);
    world.start_alice(alices, Start::ForceClose);
    world.mine(15);
    assert_eq!(world.alice.failed, [HtlcId::new(0)]);
    world.input_alice(EnforceInput::Preimage(preimage(1)));
    assert!(world.alice.fulfilled.is_empty());
    // Where the HTLC upstream is on chain as well, it is of use.
    assert_eq!(world.alice.late, [preimage(1)]);
    world.mine(1);
    assert_eq!(world.alice.late.len(), 1);
}

/// A claim that pays what the HTLC allows, which is less than miners ask for, lies in mempools. When the HTLC that
/// ours follows from can't wait any longer, the small one is given up and the large one is not, with crashes
/// and without; and the small one is still claimed once fees have fallen.
#[test]
fn a_small_htlc_is_given_up_rather_than_the_channel_upstream() {
    for crashes in [false, true] {
        let mut world = World::new(ANCHORS);
        world.alice.crashes = crashes;
        let expiry = world.height() + 3;
        let htlcs = [
            htlc(0, Side::Local, 3_000, 1, expiry),
            htlc(1, Side::Local, 90_000, 2, expiry + 1),
        ];
        let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 3_000), &[]);
        world.feerates = feerates(1_500);
        world.start_alice(alices, Start::ForceClose);
        world.mine(1);
        // Nothing is mined any more: neither of the two claims is in a block when the time comes.
        let press = |world: &mut World, id: u64| {
            world.input_alice(EnforceInput::UpstreamDeadline {
                id: HtlcId::new(id),
            });
        };
        press(&mut world, 0);
        assert!(world.alice.failed.is_empty(), "not before the expiry");
        for _ in 0..40 {
            empty_block(&mut world);
        }
        assert!(world.alice.failed.is_empty(), "not before it must be");
        // Who has just started again waits for the next best tip.
        for id in [1, 0, 1, 0, 0, 1, 1] {
            empty_block(&mut world);
            press(&mut world, id);
        }
        assert_eq!(world.alice.failed, [HtlcId::new(0)]);
        let given_up = |world: &World| {
            let told = world.alice.events.iter().filter_map(|e| match e {
                EnforceEvent::GivenUp { id, amount, .. } => Some((*id, amount.to_msat())),
                _ => None,
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(given_up(&world), [(HtlcId::new(0), 3_000_000)]);
        // Its claim goes on.
        world.mine(8);
        assert_eq!(world.alice.failed, [HtlcId::new(0), HtlcId::new(1)]);
        world.mine(250);
        assert!(world.alice.done);
    }
}

/// What is fulfilled, or could be in a block that is not looked at yet, is never given up.
#[test]
fn a_preimage_beats_the_deadline_upstream() {
    let mut world = World::new(ANCHORS);
    let expiry = world.height() + 2;
    let htlcs = [htlc(0, Side::Local, 800, 1, expiry)];
    let (alices, _) = world.evidence(&content(CURRENT, &htlcs, 300), &[]);
    world.feerates = feerates(3_000);
    world.start_alice(alices, Start::ForceClose);
    for _ in 0..4 {
        empty_block(&mut world);
    }
    let deadline = EnforceInput::UpstreamDeadline { id: HtlcId::new(0) };
    let height = fulmen_types::BlockHeight::new(world.height());
    world.input_alice(EnforceInput::Disconnected { height });
    world.input_alice(deadline.clone());
    assert!(world.alice.failed.is_empty(), "blocks are missing");
    world.input_alice(EnforceInput::BestTip);
    world.input_alice(EnforceInput::Preimage(preimage(1)));
    world.input_alice(deadline);
    assert!(world.alice.failed.is_empty());
    assert_eq!(world.alice.fulfilled, [HtlcId::new(0)]);
}

/// Spends all coins of the wallet's coin script in a block, as another copy of the same wallet could.
fn take_coins_away(world: &mut World, coins: &[OutPoint]) {
    let spent: Vec<bitcoin::TxOut> = coins
        .iter()
        .map(|o| world.chain.coin(o).unwrap().out.clone())
        .collect();
    let value: Amount = spent.iter().map(|o| o.value).sum();
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: coins
            .iter()
            .map(|o| bitcoin::TxIn {
                previous_output: *o,
                ..Default::default()
            })
            .collect(),
        output: vec![bitcoin::TxOut {
            value: value - Amount::from_sat(2_000),
            script_pubkey: world.alice.wallet.sweep_script(),
        }],
    };
    let tx = world.alice.wallet.sign(tx, &spent);
    world.mine_only(&[tx]);
}

fn coins_of(world: &World, tx: &Transaction) -> Vec<OutPoint> {
    let script = world.alice.wallet.coin_script();
    let is_coin = |o: &OutPoint| {
        let coin = world.chain.coin(o);
        coin.is_some_and(|c| c.out.script_pubkey == script)
    };
    let inputs = tx.input.iter().map(|i| i.previous_output);
    inputs.filter(is_coin).collect()
}

/// Leased coins that something else spends are given back, and others are asked for.
#[test]
fn coins_that_are_gone_are_replaced() {
    for (child, blunt) in [(true, false), (true, true), (false, false)] {
        let mut world = World::new(ANCHORS);
        // A source that tells of a package's parent only.
        world.alice.blunt = blunt;
        world.chain.set_policy(Policy {
            mempool_min_feerate: 3_000,
            ..Policy::default()
        });
        let expiry = world.height() + 6;
        let htlcs = [htlc(0, Side::Local, 50_000, 1, expiry)];
        let feerate = if child { 253 } else { 3_000 };
        let (alices, _) = world.evidence(&content(CURRENT, &htlcs, feerate), &[]);
        world.alice.muted = child;
        world.start_alice(alices, Start::ForceClose);
        if !child {
            world.mine_to(expiry - 1);
            world.alice.muted = true;
            world.mine(1);
        }
        let last = world.alice.sent.last().unwrap().last().unwrap().clone();
        let coins = coins_of(&world, &last);
        assert!(!coins.is_empty());
        world.alice.muted = false;
        take_coins_away(&mut world, &coins);
        world.mine(20);
        assert_eq!(
            world.alice.failed,
            [HtlcId::new(0)],
            "{:?}",
            world.alice.refusals
        );
        let missing = |r: &String| r.contains("missing");
        assert!(blunt || world.alice.refusals.iter().any(missing));
    }
}
