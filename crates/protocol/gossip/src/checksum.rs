//! The checksum of the graph file: against disks and cut files, not against people.
//!
//! CRC-32C looks into tables and waits for each result: it took a fifth of the time that a graph needs to
//! load. Here four words go side by side, each through one multiplication.

/// An odd number without pattern: the golden ratio's digits.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sum over bytes and their number. Every change within one aligned word of eight bytes changes it for
/// certain: each step can be undone. Any other does but once in 2^64.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut lanes = [1, 2, 3, 4];
    let (chunks, rest) = bytes.as_chunks::<32>();
    for chunk in chunks {
        let (words, _) = chunk.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = mix(*lane, u64::from_le_bytes(*word));
        }
    }
    let mut sum = mix(0, bytes.len() as u64);
    for word in lanes
        .into_iter()
        .chain(rest.iter().map(|byte| u64::from(*byte)))
    {
        sum = mix(sum, word);
    }
    sum
}

const fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(FACTOR).rotate_left(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_every_length_counts() {
        for len in 0..100 {
            let mut bytes = alloc::vec![0u8; len];
            let sum = checksum(&bytes);
            for bit in 0..len * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum(&bytes), sum, "bit {bit} of {len} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.push(0);
            assert_ne!(checksum(&bytes), sum, "one zero more than {len}");
        }
    }

    /// Computed by another program from the description above.
    #[test]
    fn the_value_is_fixed() {
        let bytes: [u8; 70] = core::array::from_fn(|i| u8::try_from(i).unwrap_or(0));
        assert_eq!(checksum(&bytes), 0xd875_4332_911f_2570);
    }
}
