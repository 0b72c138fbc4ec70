//! Probabilities by their negative natural logarithms, in integers: the same everywhere.

/// −ln of a probability, in 65,536ths. The logarithms of chances that must all come true add up.
pub(crate) type Nats = u32;

/// One nat.
pub(crate) const ONE: u64 = 1 << 16;
/// What counts as good as impossible: one in nine million.
pub(crate) const MAX: Nats = 16 << 16;

/// log2 of 1 + i/128, in 65,536ths.
const LOG2: [u32; 129] = log2_table();
const LN_2: u64 = 45_426;

/// −ln(`part` / `whole`), for `part` up to `whole`.
pub(crate) fn from_ratio(part: u64, whole: u64) -> Nats {
    if part >= whole {
        return 0;
    }
    // Both to at most 31 bits.
    let shift = 33u32.saturating_sub(whole.leading_zeros());
    let (part, whole) = (part >> shift, whole >> shift);
    let ratio = (part << 32) / whole.max(1);
    if ratio == 0 {
        return MAX;
    }
    // ratio = 2^power * (1 + fraction), in units of 2^-32.
    let power = ratio.ilog2();
    let fraction = (ratio << (63 - power)) << 1;
    let (at, rest) = ((fraction >> 57) as usize, (fraction >> 41) & 0xffff);
    let (low, high) = (u64::from(LOG2[at]), u64::from(LOG2[at + 1]));
    let log2 = low + (((high - low) * rest) >> 16);
    let minus_log2 = (u64::from(32 - power.min(32)) << 16).saturating_sub(log2);
    u32::try_from((minus_log2 * LN_2) >> 16).map_or(MAX, |nats| nats.min(MAX))
}

/// The probability in millionths.
pub(crate) fn to_ppm(nats: u64) -> u32 {
    // Halve as often as a whole ln 2 fits, and go along the exponential series for the rest.
    let halvings = nats / LN_2;
    if halvings > 40 {
        return 0;
    }
    let x = nats % LN_2;
    let (mut sum, mut term) = (ONE << 14, ONE << 14);
    let mut negative = true;
    for n in 1..=10u64 {
        term = ((term * x) >> 16) / n;
        sum = if negative { sum - term } else { sum + term };
        negative = !negative;
    }
    u32::try_from(((sum * 1_000_000) >> 30) >> halvings).unwrap_or(1_000_000)
}

#[allow(clippy::cast_possible_truncation, reason = "i is at most 128")]
const fn log2_table() -> [u32; 129] {
    let mut table = [0; 129];
    let mut i = 1;
    while i < 128 {
        // Squaring shifts the logarithm's bits out, one by one.
        let mut x = ((128 + i as u64) << 31) >> 7;
        let mut bits = 0;
        let mut bit = 0;
        while bit < 16 {
            x = (x * x) >> 31;
            bits <<= 1;
            if x >= 1 << 32 {
                x >>= 1;
                bits |= 1;
            }
            bit += 1;
        }
        table[i] = bits;
        i += 1;
    }
    table[128] = 1 << 16;
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn logarithms_are_right() {
        for whole in [
            1u64,
            7,
            1_000,
            1 << 31,
            (1 << 31) + 1,
            123_456_789_012,
            1 << 60,
        ] {
            for percent in [1u64, 3, 10, 33, 50, 75, 90, 99] {
                let part = u64::try_from(u128::from(whole) * u128::from(percent) / 100).unwrap();
                if part == 0 {
                    continue;
                }
                let exact = -(part as f64 / whole as f64).ln();
                let ours = f64::from(from_ratio(part, whole)) / ONE as f64;
                assert!(
                    (exact - ours).abs() < 2e-4,
                    "{part}/{whole}: {exact} {ours}"
                );
                let chance = f64::from(to_ppm(u64::from(from_ratio(part, whole)))) / 1e6;
                assert!(
                    (chance - part as f64 / whole as f64).abs() < 3e-4,
                    "{part}/{whole}"
                );
            }
        }
        assert_eq!(from_ratio(0, 5), MAX);
        assert_eq!(from_ratio(5, 5), 0);
        assert_eq!(to_ppm(0), 1_000_000);
        assert_eq!(to_ppm(u64::MAX / 4), 0);
    }

    #[test]
    fn more_is_never_less_likely() {
        let mut last = MAX;
        for part in 0..=4_000 {
            let nats = from_ratio(part, 4_000);
            assert!(nats <= last, "{part}");
            last = nats;
        }
    }
}
