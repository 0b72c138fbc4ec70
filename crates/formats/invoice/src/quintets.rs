//! Numbers of 5 bits, the letters of bech32: packing and unpacking.

use alloc::vec::Vec;

/// The whole bytes that `quintets` hold; up to 7 bits of padding are dropped.
pub(crate) fn to_bytes(quintets: &[u8]) -> Vec<u8> {
    let mut bytes = pack(quintets);
    bytes.truncate(quintets.len() * 5 / 8);
    bytes
}

/// All bits that `quintets` hold, with zero bits up to the next byte.
pub(crate) fn pack(quintets: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((quintets.len() * 5).div_ceil(8));
    let (mut acc, mut bits) = (0u16, 0u32);
    for quintet in quintets {
        acc = acc << 5 | u16::from(*quintet);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(low_byte(acc >> bits));
        }
    }
    if bits > 0 {
        bytes.push(low_byte(acc << (8 - bits)));
    }
    bytes
}

/// `bytes` in quintets, padded with zero bits.
pub(crate) fn from_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut quintets = Vec::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut acc, mut bits) = (0u16, 0u32);
    for byte in bytes {
        acc = acc << 8 | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            quintets.push(low_byte(acc >> bits) & 31);
        }
    }
    if bits > 0 {
        quintets.push(low_byte(acc << (5 - bits)) & 31);
    }
    quintets
}

/// The number that `quintets` write, or `None` above 64 bits.
pub(crate) fn to_u64(quintets: &[u8]) -> Option<u64> {
    quintets.iter().try_fold(0u64, |value, quintet| {
        Some(value.checked_mul(32)? | u64::from(*quintet))
    })
}

/// `value` in the fewest quintets.
pub(crate) fn from_u64(value: u64) -> Vec<u8> {
    let mut quintets: Vec<u8> = (0..13)
        .rev()
        .map(|place| low_byte_of_u64(value >> (5 * place)) & 31)
        .skip_while(|quintet| *quintet == 0)
        .collect();
    quintets.shrink_to_fit();
    quintets
}

/// The lowest 35 bits of `value` in 7 quintets.
pub(crate) fn from_u35(value: u64) -> [u8; 7] {
    core::array::from_fn(|i| low_byte_of_u64(value >> (5 * (6 - i))) & 31)
}

const fn low_byte(value: u16) -> u8 {
    value.to_be_bytes()[1]
}

const fn low_byte_of_u64(value: u64) -> u8 {
    value.to_be_bytes()[7]
}
