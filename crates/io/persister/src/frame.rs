//! The bytes of a file store's log: a header, then frames. A frame is what one append wrote; its
//! checksum covers all of it and the file's salt, so that no record's content can pass for a frame.

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use fulmen_types::{
    codec::{Decode, DecodeError, Encode, Reader},
    record::{RecordKey, Space},
};

use crate::Position;

pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"fulmenLG";
const MARKER: [u8; 4] = [0xf1, 0x1b, 0x0e, 0x4e];
pub(crate) const HEADER_LEN: usize = 28 + CHECKSUM_LEN;
const PREFIX_LEN: usize = 4 + 4 + 8 + 8 + 4;
const CHECKSUM_LEN: usize = 8;

/// The start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) salt: [u8; 16],
}

/// What the header can be.
pub(crate) enum HeaderFault {
    /// A newer version wrote it.
    Newer(u32),
    /// Not a log of ours.
    Foreign,
}

impl Header {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        MAGIC.encode(&mut out);
        VERSION.encode(&mut out);
        self.salt.encode(&mut out);
        let sum = checksum(self, &out);
        sum.encode(&mut out);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut r = Reader::new(bytes);
        let mut read = || -> Result<(_, _, _, [u8; CHECKSUM_LEN]), DecodeError> {
            Ok((
                r.take_array::<8>()?,
                u32::decode(&mut r)?,
                r.take_array::<16>()?,
                r.take_array()?,
            ))
        };
        match read() {
            // A changed salt would make every frame look torn, and the store look new.
            Ok((MAGIC, VERSION, salt, sum)) if Self { salt }.to_bytes().ends_with(&sum) => {
                Ok(Self { salt })
            }
            Ok((MAGIC, version, _, _)) if version > VERSION => Err(HeaderFault::Newer(version)),
            Ok(_) | Err(_) => Err(HeaderFault::Foreign),
        }
    }
}

/// Where a value starts in its frame, and its length.
pub(crate) type ValuePlace = (u64, u32);

/// One frame's content, with where each value lies relative to the frame's start.
pub(crate) struct Frame {
    pub(crate) writer_epoch: u64,
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    pub(crate) writes: Vec<(RecordKey, Option<ValuePlace>)>,
    pub(crate) len: u64,
}

impl Frame {
    /// Where the store stands after it.
    pub(crate) fn position(&self) -> Position {
        Position {
            writer_epoch: self.writer_epoch,
            batch_seq: self
                .first_seq
                .saturating_sub(1)
                .saturating_add(u64::from(self.count)),
        }
    }
}

/// The bytes of a frame, and where in them each value lies.
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Vec<Option<ValuePlace>>,
}

/// Makes a frame of the writes of `count` batches.
pub(crate) fn write(
    header: Header,
    writer_epoch: u64,
    first_seq: u64,
    count: u32,
    writes: &BTreeMap<&RecordKey, Option<&[u8]>>,
) -> Result<Written, TooLong> {
    let mut out = vec![0; PREFIX_LEN];
    let mut places = Vec::with_capacity(writes.len());
    for (key, value) in writes {
        key.space.to_u8().encode(&mut out);
        u16::try_from(key.key.len())
            .map_err(|_| TooLong)?
            .encode(&mut out);
        key.key.encode(&mut out);
        value.is_some().encode(&mut out);
        places.push(match value {
            Some(value) => {
                let len = u32::try_from(value.len()).map_err(|_| TooLong)?;
                len.encode(&mut out);
                let at = out.len() as u64;
                out.extend_from_slice(value);
                Some((at, len))
            }
            None => None,
        });
    }
    let payload = u32::try_from(out.len() - PREFIX_LEN).map_err(|_| TooLong)?;
    let mut prefix = Vec::with_capacity(PREFIX_LEN);
    MARKER.encode(&mut prefix);
    payload.encode(&mut prefix);
    writer_epoch.encode(&mut prefix);
    first_seq.encode(&mut prefix);
    count.encode(&mut prefix);
    out[..PREFIX_LEN].copy_from_slice(&prefix);
    let sum = checksum(header, &out);
    out.extend_from_slice(&sum);
    Ok(Written { bytes: out, places })
}

/// More than a frame can hold.
pub(crate) struct TooLong;

/// What is at the front of some bytes.
pub(crate) enum Found {
    /// A whole, sound frame.
    Frame(Frame),
    /// A whole, sound frame whose records this version does not know.
    Foreign,
    /// Anything else.
    Nothing,
}

/// Reads the frame at the front of `bytes`.
pub(crate) fn read(header: Header, bytes: &[u8]) -> Found {
    let Some(covered) = sound(header, bytes) else {
        return Found::Nothing;
    };
    parse(covered).map_or(Found::Foreign, Found::Frame)
}

/// The bytes of the frame at the front that its checksum covers, if it fits.
fn sound(header: Header, bytes: &[u8]) -> Option<&[u8]> {
    let mut r = Reader::new(bytes);
    if r.take_array::<4>().ok()? != MARKER {
        return None;
    }
    let payload = usize::try_from(u32::decode(&mut r).ok()?).ok()?;
    let covered = bytes.get(..PREFIX_LEN.checked_add(payload)?)?;
    let sum = bytes.get(covered.len()..covered.len().checked_add(CHECKSUM_LEN)?)?;
    (sum == checksum(header, covered)).then_some(covered)
}

fn parse(covered: &[u8]) -> Option<Frame> {
    let mut r = Reader::new(covered.get(8..)?);
    let writer_epoch = u64::decode(&mut r).ok()?;
    let first_seq = u64::decode(&mut r).ok()?;
    let count = u32::decode(&mut r).ok()?;
    let mut writes = Vec::new();
    while !r.is_empty() {
        let space = Space::from_u8(u8::decode(&mut r).ok()?)?;
        let key = r.take_u16_prefixed().ok()?;
        let value = if bool::decode(&mut r).ok()? {
            let len = u32::decode(&mut r).ok()?;
            let at = covered.len() - r.remaining().len();
            r.take(usize::try_from(len).ok()?).ok()?;
            Some((at as u64, len))
        } else {
            None
        };
        writes.push((RecordKey::new(space, key), value));
    }
    let len = (covered.len() + CHECKSUM_LEN) as u64;
    Some(Frame {
        writer_epoch,
        first_seq,
        count,
        writes,
        len,
    })
}

/// Whether a sound frame starts anywhere after the first byte of `bytes`: then what is at its front is
/// damage, not the torn end of the last append.
pub(crate) fn any_after(header: Header, bytes: &[u8]) -> bool {
    (1..bytes.len())
        .any(|at| bytes[at..].starts_with(&MARKER) && sound(header, &bytes[at..]).is_some())
}

fn checksum(header: Header, covered: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut engine = sha256::Hash::engine();
    engine.input(&header.salt);
    engine.input(covered);
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&hash[..CHECKSUM_LEN]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a space that only a later version has must not be taken for a torn end, which would
    /// be cut off.
    #[test]
    fn records_of_a_later_version_are_not_a_torn_end() {
        let header = Header { salt: [7; 16] };
        let key = RecordKey::new(Space::Node, *b"a");
        let writes = BTreeMap::from([(&key, Some(&b"1"[..]))]);
        let Ok(Written { mut bytes, .. }) = write(header, 1, 1, 1, &writes) else {
            panic!("it is short");
        };
        assert!(matches!(read(header, &bytes), Found::Frame(_)));
        let end = bytes.len() - CHECKSUM_LEN;
        bytes[PREFIX_LEN] = 200;
        assert!(matches!(read(header, &bytes), Found::Nothing));
        let sum = checksum(header, &bytes[..end]);
        bytes[end..].copy_from_slice(&sum);
        assert!(matches!(read(header, &bytes), Found::Foreign));
    }
}
