//! The file of what was learned.
//!
//! Big-endian: magic `FULL`, version (u8), half-life (u64), the common histogram (8 times u32), count
//! (u32), channels, CRC-32C (u32) of all before. A channel: short id, capacity, least, most, time (u64
//! each), history and addition (8 times u16 each).

use alloc::vec::Vec;
use core::fmt;

use fulmen_gossip::crc32c;
use fulmen_types::{
    ShortChannelId, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader},
};

use super::{
    BINS, COMMON_MAX, Entry, Liquidity, MOST_CHANNELS, Masses,
    shape::{self, Shape, Table},
};

const MAGIC: [u8; 4] = *b"FULL";
const VERSION: u8 = 1;
const ENTRY_LEN: usize = 5 * 8 + 2 * BINS * 2;

/// Why a file is of no use. It is a cache: drop it and learn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiquidityFileError {
    /// It does not begin as such a file does.
    NotLiquidity,
    /// It was written by a newer version.
    NewerVersion(u8),
    /// Its checksum is wrong.
    Checksum,
    /// It can't be read.
    Decode(DecodeError),
}

impl fmt::Display for LiquidityFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLiquidity => f.write_str("this is no liquidity file"),
            Self::NewerVersion(v) => {
                write!(f, "the liquidity file has version {v}, newer than this")
            }
            Self::Checksum => f.write_str("the liquidity file is corrupt: its checksum is wrong"),
            Self::Decode(e) => write!(f, "the liquidity file is corrupt: {e}"),
        }
    }
}

impl core::error::Error for LiquidityFileError {}

impl From<DecodeError> for LiquidityFileError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl Liquidity {
    /// The bytes of the file: version, knowledge, checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.entries.len() * ENTRY_LEN);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        self.half_life_millis.encode(&mut out);
        for mass in self.common {
            mass.encode(&mut out);
        }
        u32::try_from(self.entries.len())
            .unwrap_or(u32::MAX)
            .encode(&mut out);
        for entry in &self.entries {
            entry.short_channel_id.encode(&mut out);
            for value in [entry.capacity, entry.least, entry.most] {
                value.encode(&mut out);
            }
            entry.at.encode(&mut out);
            for mass in entry.history.iter().chain(&entry.added) {
                u16::try_from(*mass).unwrap_or(u16::MAX).encode(&mut out);
            }
        }
        crc32c(&out).encode(&mut out);
        out
    }

    /// Reads the file. Corrupt bytes are an error and allocate no more than they are long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LiquidityFileError> {
        if bytes.get(..4) != Some(&MAGIC) {
            return Err(LiquidityFileError::NotLiquidity);
        }
        match bytes.get(4) {
            Some(&VERSION) => {}
            Some(&v) if v > VERSION => return Err(LiquidityFileError::NewerVersion(v)),
            _ => return Err(LiquidityFileError::NotLiquidity),
        }
        let (body, checksum) = bytes
            .split_last_chunk::<4>()
            .ok_or(DecodeError::UnexpectedEnd)?;
        if crc32c(body) != u32::from_be_bytes(*checksum) {
            return Err(LiquidityFileError::Checksum);
        }
        let mut r = Reader::new(body.get(5..).ok_or(DecodeError::UnexpectedEnd)?);
        let mut liquidity = Self::new();
        liquidity.set_half_life(u64::decode(&mut r)?);
        for mass in &mut liquidity.common {
            *mass = u32::decode(&mut r)?;
        }
        let common = shape::whole(&liquidity.common);
        if common == 0 || common > u64::from(COMMON_MAX) {
            return Err(DecodeError::InvalidValue("the common histogram").into());
        }
        liquidity.table = Table::new(&Shape::new(&liquidity.common));
        let count = u32::decode(&mut r)? as usize;
        if count > MOST_CHANNELS || count.saturating_mul(ENTRY_LEN) > r.remaining().len() {
            return Err(DecodeError::InvalidValue("count of channels").into());
        }
        liquidity.entries.reserve_exact(count);
        // What no channel added: first guesses, and channels that were forgotten.
        let mut rest = liquidity.common;
        for _ in 0..count {
            let entry = read_entry(&mut r, &liquidity.common)?;
            for (rest, added) in rest.iter_mut().zip(shape::both_ways(&entry.added)) {
                *rest = rest.checked_sub(added).ok_or(DecodeError::InvalidValue(
                    "channels that added more than there is in common",
                ))?;
            }
            liquidity.entries.push(entry);
        }
        r.finish()?;
        liquidity.reindex();
        if liquidity.by_channel.len() != count {
            return Err(DecodeError::InvalidValue("a channel twice").into());
        }
        Ok(liquidity)
    }
}

fn read_entry(r: &mut Reader<'_>, common: &Masses) -> Result<Entry, DecodeError> {
    let short_channel_id = ShortChannelId::decode(r)?;
    let [capacity, least, most] = [u64::decode(r)?, u64::decode(r)?, u64::decode(r)?];
    let at = Timestamp::decode(r)?;
    if capacity == 0 || least > most || most > capacity {
        return Err(DecodeError::InvalidValue("bounds of a channel"));
    }
    let mut masses = [[0; BINS]; 2];
    for mass in masses.iter_mut().flatten() {
        *mass = u32::from(u16::decode(r)?);
    }
    let [history, added] = masses;
    let mut entry = Entry {
        short_channel_id,
        capacity,
        least,
        most,
        at,
        history,
        added,
        shape: Shape::new(common),
    };
    entry.update_shape(common);
    Ok(entry)
}
