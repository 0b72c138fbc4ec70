//! Random commands, random delivery, random cuts and crashes from a seed: whatever happens, both ends
//! settle to the same balances, every HTLC ends once, and nobody calls the other faulty.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Outcome, Pair, Who, preimage, unknown_hash};
use fulmen_channel::ChannelInput;
use fulmen_types::{ChannelType, FeeratePerKw, Msat};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn who(&mut self) -> Who {
        if self.below(2) == 0 { Who::A } else { Who::B }
    }
}

fn run(seed: u64) {
    let mut rng = Rng(seed);
    let mut pair = Pair::new();
    let mut request = pair.a.open_request();
    if rng.below(2) == 0 {
        request.channel_type = Some(ChannelType::static_remote_key());
    }
    if rng.below(3) == 0 {
        // Small, so that reserve, fees and anchors are in the way all the time.
        request.funding = bitcoin::Amount::from_sat(30_000 + rng.below(20_000));
        request.push = Msat::new(rng.below(15_000_000));
    } else {
        request.push = Msat::from_sat(100_000 + rng.below(600_000));
    }
    pair.open(request);
    let start = pair.settled();
    let mut link = 0u64;
    for _ in 0..150 {
        match rng.below(20) {
            0..=5 => {
                let who = rng.who();
                let amount = match rng.below(3) {
                    0 => Msat::new(1 + rng.below(2_000_000)),
                    1 => Msat::from_sat(rng.below(100_000) + 1),
                    _ => Msat::from_sat(500 + rng.below(3_000)),
                };
                let n = u8::try_from(rng.below(6)).unwrap();
                let hash = if rng.below(3) == 0 {
                    unknown_hash(n)
                } else {
                    preimage(n).payment_hash()
                };
                link += 1;
                let _ = pair.add(who, amount, hash, &link.to_be_bytes());
            }
            6..=8 => {
                let who = rng.who();
                pair.input(who, ChannelInput::Commit).unwrap();
            }
            9 => {
                let feerate = FeeratePerKw::new(253 + u32::try_from(rng.below(3_000)).unwrap());
                let _ = pair.input(Who::A, ChannelInput::UpdateFee(feerate));
            }
            10 => {
                match rng.below(4) {
                    0 => pair.crash(Who::A),
                    1 => pair.crash(Who::B),
                    _ => {}
                }
                pair.disconnect();
                pair.connect();
            }
            _ => {
                for _ in 0..rng.below(4) {
                    let who = rng.who();
                    pair.deliver_from(who);
                }
            }
        }
    }
    for _ in 0..5 {
        pair.run();
        pair.input(Who::A, ChannelInput::Commit).unwrap();
        pair.input(Who::B, ChannelInput::Commit).unwrap();
    }
    pair.run();
    pair.assert_no_fault();
    let end = pair.settled();
    let paid = |end: &common::End| {
        let settled = end.outcomes.iter().filter(|(_, o)| **o == Outcome::Settled);
        settled
            .map(|(link, _)| end.added[link].amount.to_msat())
            .sum::<u64>()
    };
    assert_eq!(
        start.to_msat() + paid(&pair.b),
        end.to_msat() + paid(&pair.a),
        "seed {seed}"
    );
}

#[test]
fn random_histories_settle() {
    for seed in 0..120 {
        run(seed);
    }
}
