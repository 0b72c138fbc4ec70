//! Many random closes from one seed each: blocks, reorganisations, restarts, late preimages, moving fees.
//! Afterwards every HTLC has one outcome and no money that should be Alice's is missing.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and takes a seed from the environment"
)]

mod common;

use std::collections::BTreeSet;

use bitcoin::Amount;
use common::{CURRENT, World, content, feerates, htlc, number, preimage};
use fulmen_enforce::{EnforceInput, Start};
use fulmen_tx::{BuiltCommitment, CommitmentContent, CommitmentFormat, CommitmentHtlc, Side};

const SEEDS: u64 = 60;
/// How long before the expiry a preimage must be known to us for its HTLC to be ours for sure.
const MARGIN: u32 = 12;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn small(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(u64::from(bound))).unwrap()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Close {
    Ours,
    TheirCurrent,
    TheirNext,
    Revoked,
}

struct Case {
    rng: Rng,
    world: World,
    close: Close,
    confirmed: CommitmentContent,
    /// Secrets that Alice and Bob know.
    alice_knows: BTreeSet<u8>,
    bob_knows: BTreeSet<u8>,
    /// Secrets that Alice knew early enough for every HTLC that has them.
    in_time: BTreeSet<u8>,
    before: Amount,
}

fn secret_of(htlc: &CommitmentHtlc) -> u8 {
    (0..=u8::MAX)
        .find(|n| preimage(*n).payment_hash() == htlc.payment_hash)
        .unwrap()
}

fn random_htlcs(rng: &mut Rng, height: u32) -> Vec<CommitmentHtlc> {
    let count = rng.below(9);
    let mut ids = [0u64; 2];
    (0..count)
        .map(|_| {
            let side = if rng.chance(50) {
                Side::Local
            } else {
                Side::Remote
            };
            let id = &mut ids[usize::from(side == Side::Local)];
            *id += 1;
            let sat = [300, 5_000, 5_000, 20_000, 31_000][usize::from(rng.small(5))];
            // Few secrets and expiries, so that hashes, amounts and expiries meet. Each side has its own.
            let secret = rng.small(4) + if side == Side::Local { 10 } else { 20 };
            htlc(
                *id - 1,
                side,
                sat,
                secret,
                height + 25 + 5 * u32::from(rng.small(4)),
            )
        })
        .collect()
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let format = if rng.chance(50) {
            CommitmentFormat::StaticRemoteKey
        } else {
            CommitmentFormat::AnchorsZeroFeeHtlc
        };
        let close = [
            Close::Ours,
            Close::TheirCurrent,
            Close::TheirNext,
            Close::Revoked,
        ][usize::from(rng.small(4))];
        let mut world = World::new(format);
        let htlcs = random_htlcs(&mut rng, world.height());
        let feerate = [253, 1_000, 2_500][usize::from(rng.small(3))];
        let current = content(CURRENT, &htlcs, feerate);
        let half = &htlcs[..htlcs.len() / 2];
        let confirmed = match close {
            Close::Ours | Close::TheirCurrent => current.clone(),
            Close::TheirNext => CommitmentContent {
                number: number(CURRENT + 1),
                ..content(CURRENT, half, feerate)
            },
            Close::Revoked => CommitmentContent {
                number: number(2),
                ..content(2, half, feerate)
            },
        };
        let old = [confirmed.clone()];
        let old = if close == Close::Revoked {
            &old[..]
        } else {
            &[]
        };
        let (mut alices, mut bobs) = world.evidence(&current, old);
        match close {
            Close::Ours | Close::TheirCurrent => {}
            Close::TheirNext => {
                alices.counterparty.push(world.theirs(&confirmed));
                bobs.holder = Some(world.bobs(&confirmed));
            }
            Close::Revoked => bobs.holder = Some(world.bobs(&confirmed)),
        }
        let knows = |rng: &mut Rng, from: u8| -> BTreeSet<u8> {
            (from..from + 4).filter(|_| rng.chance(40)).collect()
        };
        let (alice_knows, bob_knows) = (knows(&mut rng, 20), knows(&mut rng, 10));
        alices.preimages = alice_knows.iter().map(|n| preimage(*n)).collect();
        bobs.preimages = bob_knows.iter().map(|n| preimage(*n)).collect();
        let before = world.alice.wallet.balance(&world.chain);
        let (alice_starts, bob_starts) = match close {
            Close::Ours => (Start::ForceClose, Start::FundingSpent),
            Close::TheirCurrent | Close::TheirNext | Close::Revoked => {
                (Start::FundingSpent, Start::ForceClose)
            }
        };
        world.start_bob(bobs, bob_starts);
        world.start_alice(alices, alice_starts);
        Self {
            rng,
            world,
            close,
            confirmed,
            in_time: alice_knows.clone(),
            alice_knows,
            bob_knows,
            before,
        }
    }

    fn step(&mut self) {
        let height = self.world.height();
        match self.rng.below(20) {
            0 => {
                // One block of which the network kept claims out.
                self.world.chain.mine(&[]).unwrap();
                self.world.feed_tip();
            }
            1 => {
                let depth = u32::try_from(self.rng.below(3)).unwrap() + 1;
                self.world.reorg(depth, true);
            }
            2 => {
                let n = self.rng.small(4) + 20;
                self.alice_knows.insert(n);
                let expiries = self.confirmed.htlcs.iter().filter(|h| secret_of(h) == n);
                let expiry = expiries.map(|h| h.cltv_expiry.to_u32()).min();
                if expiry.is_none_or(|e| e > height + MARGIN) {
                    self.in_time.insert(n);
                }
                self.world.input_alice(EnforceInput::Preimage(preimage(n)));
            }
            3 => {
                let n = self.rng.small(4) + 10;
                self.bob_knows.insert(n);
                self.world.input_bob(EnforceInput::Preimage(preimage(n)));
            }
            4 => {
                let feerate = [253, 1_000, 2_000][usize::from(self.rng.small(3))];
                self.world.feerates = feerates(feerate);
            }
            5 => self.world.alice.crashes = self.rng.chance(50),
            6 => self.world.input_alice(EnforceInput::Tick),
            _ => self.world.mine(1),
        }
    }

    fn built(&self) -> BuiltCommitment {
        let (world, content) = (&self.world, &self.confirmed);
        match self.close {
            Close::Ours => {
                let holder = world.alice.params.local.keys.funding;
                fulmen_tx::build_commitment(
                    &world.secp,
                    &world.alice.params,
                    Side::Local,
                    &holder,
                    content,
                )
            }
            Close::TheirCurrent | Close::TheirNext | Close::Revoked => world
                .theirs(content)
                .build(&world.secp, &world.alice.params),
        }
    }

    /// The least that must have come to Alice before fees.
    fn due(&self) -> Amount {
        let built = self.built();
        let value = |vout: u32| built.txout(vout).unwrap().value;
        let main = match self.close {
            Close::Ours => built.to_local_vout,
            Close::TheirCurrent | Close::TheirNext | Close::Revoked => built.to_remote_vout,
        };
        let all = self.close == Close::Revoked;
        let peers_main = built
            .to_local_vout
            .filter(|_| all)
            .map_or(Amount::ZERO, value);
        // HTLC transactions without anchors pay this out of the HTLC at most, whoever makes them.
        let second_stage = fulmen_tx::htlc_transaction_fee(
            self.world.alice.params.format,
            self.confirmed.feerate,
            fulmen_tx::HtlcKind::Received,
        );
        let htlcs = built.htlcs.iter().filter(|(htlc, _)| {
            let failed = || self.world.alice.failed.contains(&htlc.id);
            let won = || self.in_time.contains(&secret_of(htlc));
            all || match htlc.offered_by {
                Side::Local => failed(),
                Side::Remote => won(),
            }
        });
        let htlcs: Amount = htlcs
            .map(|(_, vout)| value(*vout).checked_sub(second_stage).unwrap_or_default())
            .sum();
        value(main.unwrap()) + peers_main + htlcs
    }

    fn check(&self) {
        let alice = &self.world.alice;
        let offered = content_htlcs(&self.world);
        let told = alice.fulfilled.len() + alice.failed.len();
        assert_eq!(
            told, offered,
            "every HTLC that Alice offered has one outcome"
        );
        let after = alice.wallet.balance(&self.world.chain) + alice.fees();
        let due = self.before + self.due();
        assert!(
            after >= due,
            "{:?}: {after} with fees, {due} due\n{:#?}\n{:#?}",
            self.close,
            self.confirmed,
            alice.events
        );
    }
}

/// How many HTLCs Alice offers on the current commitment, which is in her records.
fn content_htlcs(world: &World) -> usize {
    let current = &world.alice.records[&CURRENT].content;
    let offered = current.htlcs.iter().filter(|h| h.offered_by == Side::Local);
    offered.count()
}

#[test]
fn random_closes() {
    let seeds = std::env::var("SEED")
        .ok()
        .map(|s| s.parse::<u64>().unwrap());
    let many = std::env::var("SEEDS").map_or(SEEDS, |s| s.parse().unwrap());
    let seeds = seeds.map_or(0..many, |seed| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut case = Case::new(seed);
            for _ in 0..70 {
                case.step();
            }
            case.world.mine(400);
            assert!(
                case.world.alice.done,
                "{:#?}",
                case.world
                    .alice
                    .resolution
                    .as_ref()
                    .unwrap()
                    .pending_sweeps(&case.world.secp)
            );
            case.check();
        });
        assert!(result.is_ok(), "SEED={seed}");
    }
}
