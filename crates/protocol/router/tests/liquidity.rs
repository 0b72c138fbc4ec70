//! What is learned, how it fades, and its file.
#![allow(clippy::unwrap_used)]

use fulmen_gossip::{
    Direction::{self, Backward, Forward},
    crc32c,
};
use fulmen_router::{Liquidity, LiquidityFileError, Observation};
use fulmen_types::{Msat, ShortChannelId, Timestamp};
use proptest::prelude::*;

const CAPACITY: Msat = Msat::new(1_000_000);
const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn scid(n: u64) -> ShortChannelId {
    ShortChannelId::from_u64(n)
}

fn observe(liquidity: &mut Liquidity, direction: Direction, amount: u64, what: Observation) {
    liquidity.observe((scid(1), direction), CAPACITY, Msat::new(amount), what, NOW);
}

fn bounds(liquidity: &Liquidity, direction: Direction, now: Timestamp) -> (u64, u64) {
    let (least, most) = liquidity.bounds((scid(1), direction), now).unwrap();
    (least.to_msat(), most.to_msat())
}

fn ppm(liquidity: &Liquidity, direction: Direction, amount: u64, now: Timestamp) -> u32 {
    let amount = Msat::new(amount);
    liquidity
        .chance((scid(1), direction), CAPACITY, amount, now)
        .to_ppm()
}

#[test]
fn one_direction_tells_of_the_other() {
    let mut liquidity = Liquidity::new();
    observe(&mut liquidity, Forward, 300_000, Observation::Carried);
    assert_eq!(bounds(&liquidity, Forward, NOW), (300_000, 1_000_000));
    assert_eq!(bounds(&liquidity, Backward, NOW), (0, 700_000));
    observe(&mut liquidity, Backward, 400_000, Observation::Refused);
    assert_eq!(bounds(&liquidity, Forward, NOW), (600_001, 1_000_000));
    assert_eq!(ppm(&liquidity, Forward, 600_000, NOW), 1_000_000);
    assert_eq!(ppm(&liquidity, Backward, 400_000, NOW), 0);
}

#[test]
fn what_was_paid_is_gone_and_could_come_back() {
    let mut liquidity = Liquidity::new();
    observe(&mut liquidity, Forward, 300_000, Observation::Settled);
    assert_eq!(bounds(&liquidity, Forward, NOW), (0, 700_000));
    assert_eq!(bounds(&liquidity, Backward, NOW), (300_000, 1_000_000));
    assert_eq!(ppm(&liquidity, Backward, 300_000, NOW), 1_000_000);
}

#[test]
fn the_latest_observation_wins_a_contradiction() {
    let mut liquidity = Liquidity::new();
    observe(&mut liquidity, Forward, 500_000, Observation::Carried);
    observe(&mut liquidity, Forward, 400_000, Observation::Refused);
    assert_eq!(bounds(&liquidity, Forward, NOW), (0, 399_999));
    observe(&mut liquidity, Forward, 450_000, Observation::Carried);
    assert_eq!(bounds(&liquidity, Forward, NOW), (450_000, 1_000_000));
    observe(&mut liquidity, Backward, 600_000, Observation::Carried);
    assert_eq!(bounds(&liquidity, Forward, NOW), (0, 400_000));
}

#[test]
fn bounds_fade() {
    let mut liquidity = Liquidity::new();
    liquidity.set_half_life(1_000);
    observe(&mut liquidity, Forward, 400_000, Observation::Carried);
    observe(&mut liquidity, Forward, 600_001, Observation::Refused);
    assert_eq!(bounds(&liquidity, Forward, NOW), (400_000, 600_000));
    assert_eq!(
        bounds(&liquidity, Forward, NOW.plus_millis(1_000)),
        (200_000, 800_000)
    );
    assert_eq!(
        bounds(&liquidity, Forward, NOW.plus_millis(1_500)),
        (150_000, 850_000)
    );
    assert_eq!(
        bounds(&liquidity, Forward, NOW.plus_millis(u64::MAX / 2)),
        (0, 1_000_000)
    );
    let chances: Vec<u32> = (0..5)
        .map(|n| ppm(&liquidity, Forward, 620_000, NOW.plus_millis(n * 1_000)))
        .collect();
    assert_eq!(chances[0], 0);
    assert!(
        chances.windows(2).all(|pair| pair[0] <= pair[1]),
        "{chances:?}"
    );
}

#[test]
fn a_history_outlives_its_bounds() {
    let mut liquidity = Liquidity::new();
    let before = ppm(&liquidity, Forward, 500_000, NOW);
    for _ in 0..20 {
        observe(&mut liquidity, Forward, 100_000, Observation::Refused);
    }
    let later = NOW.plus_millis(1_000 * 86_400 * 365);
    let after = ppm(&liquidity, Forward, 500_000, later);
    assert!(after < before / 2, "{after} after, {before} before");
    assert!(ppm(&liquidity, Backward, 500_000, later) > before);
}

#[test]
fn many_channels_teach_about_others() {
    let other = (scid(9_999), Forward);
    let chance = |l: &Liquidity| l.chance(other, CAPACITY, Msat::new(300_000), NOW).to_ppm();
    let mut lopsided = Liquidity::new();
    let mut even = Liquidity::new();
    let before = chance(&lopsided);
    for n in 1..400 {
        let at = |l: &mut Liquidity, direction, amount, what| {
            l.observe((scid(n), direction), CAPACITY, Msat::new(amount), what, NOW);
        };
        let (direction, opposite) = if n % 2 == 0 {
            (Forward, Backward)
        } else {
            (Backward, Forward)
        };
        at(&mut lopsided, direction, 10_000, Observation::Refused);
        at(&mut even, direction, 400_000, Observation::Carried);
        at(&mut even, opposite, 400_000, Observation::Carried);
    }
    assert!(chance(&lopsided) < before && before < chance(&even));
    assert!(chance(&lopsided) < 600_000 && chance(&even) > 850_000);
}

#[test]
fn forgets_what_is_old() {
    let mut liquidity = Liquidity::new();
    observe(&mut liquidity, Forward, 400_000, Observation::Carried);
    let later = NOW.plus_millis(10);
    liquidity.observe(
        (scid(2), Forward),
        CAPACITY,
        CAPACITY,
        Observation::Refused,
        later,
    );
    assert_eq!(liquidity.len(), 2);
    liquidity.forget_before(later);
    assert_eq!(liquidity.len(), 1);
    assert_eq!(liquidity.bounds((scid(1), Forward), NOW), None);
    assert!(liquidity.bounds((scid(2), Forward), later).is_some());
}

fn observation() -> impl Strategy<Value = (u64, bool, u64, u8, u64)> {
    (
        1..20u64,
        any::<bool>(),
        1..2_000_000u64,
        0..3u8,
        0..100_000_000u64,
    )
}

fn learn(observations: &[(u64, bool, u64, u8, u64)]) -> Liquidity {
    let mut liquidity = Liquidity::new();
    let mut now = NOW;
    for (id, backward, amount, what, millis) in observations {
        now = now.plus_millis(*millis);
        let what = [
            Observation::Carried,
            Observation::Refused,
            Observation::Settled,
        ][usize::from(*what)];
        let direction = Direction::from_channel_flags(u8::from(*backward));
        liquidity.observe(
            (scid(*id), direction),
            CAPACITY,
            Msat::new(*amount),
            what,
            now,
        );
    }
    liquidity
}

proptest! {
    #[test]
    fn knowledge_stays_within_the_capacity(
        observations in proptest::collection::vec(observation(), 0..60),
        amount in 0..1_000_000u64,
    ) {
        let liquidity = learn(&observations);
        for id in 1..20 {
            for direction in [Forward, Backward] {
                let channel = (scid(id), direction);
                let Some((least, most)) = liquidity.bounds(channel, NOW) else { continue };
                prop_assert!(least <= most);
                let chance = |amount| {
                    let capacity = Msat::new(2_000_000);
                    liquidity.chance(channel, capacity, Msat::new(amount), NOW).to_ppm()
                };
                prop_assert!(chance(amount + 1_000) <= chance(amount));
                prop_assert_eq!(chance(0), 1_000_000);
            }
        }
    }

    #[test]
    fn the_file_keeps_everything(observations in proptest::collection::vec(observation(), 0..60)) {
        let liquidity = learn(&observations);
        let bytes = liquidity.to_bytes();
        let read = Liquidity::from_bytes(&bytes).unwrap();
        prop_assert_eq!(read.to_bytes(), bytes);
        for id in 1..20 {
            let channel = (scid(id), Forward);
            prop_assert_eq!(read.bounds(channel, NOW), liquidity.bounds(channel, NOW));
        }
    }

    #[test]
    fn a_damaged_file_is_an_error(
        observations in proptest::collection::vec(observation(), 1..10),
        at in any::<proptest::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut bytes = learn(&observations).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Liquidity::from_bytes(&bytes).is_err());
        prop_assert!(Liquidity::from_bytes(&bytes[..at]).is_err());
    }
}

#[test]
fn a_newer_file_is_named_so() {
    let mut bytes = Liquidity::new().to_bytes();
    bytes[4] = 9;
    let error = Liquidity::from_bytes(&bytes).unwrap_err();
    assert_eq!(error, LiquidityFileError::NewerVersion(9));
    assert_eq!(
        Liquidity::from_bytes(b"no").unwrap_err(),
        LiquidityFileError::NotLiquidity
    );
}

/// The file of `liquidity` with another common histogram in it.
fn with_common(liquidity: &Liquidity, common: [u32; 8]) -> Vec<u8> {
    let mut bytes = liquidity.to_bytes();
    let body = bytes.len() - 4;
    for (place, mass) in bytes[13..45].chunks_mut(4).zip(common) {
        place.copy_from_slice(&mass.to_be_bytes());
    }
    let checksum = crc32c(&bytes[..body]);
    bytes[body..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn channels_that_added_more_than_there_is_are_refused() {
    let mut liquidity = Liquidity::new();
    observe(&mut liquidity, Forward, 300_000, Observation::Refused);
    // What these channels take away again, when more is learned of them, would leave nothing.
    let error = Liquidity::from_bytes(&with_common(&liquidity, [1; 8])).unwrap_err();
    assert!(matches!(error, LiquidityFileError::Decode(_)), "{error}");
}

#[test]
fn what_is_common_stays_bounded() {
    let most = u32::MAX / 4;
    let full = [
        most - 7_000,
        1_000,
        1_000,
        1_000,
        1_000,
        1_000,
        1_000,
        1_000,
    ];
    let mut liquidity = Liquidity::from_bytes(&with_common(&Liquidity::new(), full)).unwrap();
    observe(&mut liquidity, Forward, 300_000, Observation::Refused);
    let read = Liquidity::from_bytes(&liquidity.to_bytes()).unwrap();
    assert_eq!(read.to_bytes(), liquidity.to_bytes());
}
