//! TLV streams as bytes: their records, the ranges of types, and how one is put together.

use alloc::{collections::BTreeMap, vec::Vec};
use core::iter;

use fulmen_types::codec::{BigSize, Decode, Encode, Reader, TlvWriter};

use crate::{BuildError, Field};

/// To which message a type belongs (BOLT 12). Later messages carry the fields of the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// 1 to 79 and 1000000000 to 1999999999.
    Offer,
    /// 0, 80 to 159 and 2000000000 to 2999999999.
    Request,
    /// 240 to 1000: signatures.
    Signature,
    /// 1001 to 999999999: a payer proof's own.
    Proof,
    /// All others: an invoice's own.
    Invoice,
}

impl Range {
    pub(crate) const fn of(kind: u64) -> Self {
        match kind {
            1..=79 | 1_000_000_000..=1_999_999_999 => Self::Offer,
            0 | 80..=159 | 2_000_000_000..=2_999_999_999 => Self::Request,
            240..=1000 => Self::Signature,
            1_001..=999_999_999 => Self::Proof,
            _ => Self::Invoice,
        }
    }
}

/// One record of a stream that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: u64,
    /// Type, length and value.
    pub(crate) bytes: &'a [u8],
    /// How many of them the type takes.
    pub(crate) kind_len: usize,
    pub(crate) value: &'a [u8],
}

impl<'a> Record<'a> {
    pub(crate) fn kind_bytes(&self) -> &'a [u8] {
        &self.bytes[..self.kind_len]
    }
}

/// The records of `stream`, up to where it is none.
pub(crate) fn records(stream: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut r = Reader::new(stream);
    iter::from_fn(move || {
        let start = r.remaining();
        let kind = BigSize::decode(&mut r).ok()?.0;
        let kind_len = start.len() - r.remaining().len();
        let len = usize::try_from(BigSize::decode(&mut r).ok()?.0).ok()?;
        let value = r.take(len).ok()?;
        Some(Record {
            kind,
            bytes: &start[..start.len() - r.remaining().len()],
            kind_len,
            value,
        })
    })
}

/// The records of `stream` whose types are in one of `ranges`.
pub(crate) fn records_in<'a>(
    stream: &'a [u8],
    ranges: &'a [Range],
) -> impl Iterator<Item = Record<'a>> {
    records(stream).filter(|record| ranges.contains(&Range::of(record.kind)))
}

/// A field that this software does not know, kept and copied as the specification asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownField {
    /// The type, odd.
    pub kind: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// A stream being put together, in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamBuilder(BTreeMap<u64, Vec<u8>>);

impl StreamBuilder {
    pub(crate) fn put<T: Encode + ?Sized>(&mut self, field: Field, value: &T) {
        self.0.insert(field.number(), value.to_bytes());
    }

    pub(crate) fn put_some<T: Encode>(&mut self, field: Field, value: Option<&T>) {
        if let Some(value) = value {
            self.put(field, value);
        }
    }

    pub(crate) fn put_unknown(
        &mut self,
        fields: &[UnknownField],
        range: Range,
    ) -> Result<(), BuildError> {
        for field in fields {
            if Range::of(field.kind) != range || Field::from_number(field.kind).is_some() {
                return Err(BuildError::UnknownFieldType(field.kind));
            }
            self.0.insert(field.kind, field.value.clone());
        }
        Ok(())
    }

    /// Copies the records of another message, unknown ones too.
    pub(crate) fn copy(&mut self, stream: &[u8], ranges: &[Range]) {
        self.copy_if(stream, |kind| ranges.contains(&Range::of(kind)));
    }

    /// Copies the records of the types that `wanted` says.
    pub(crate) fn copy_if(&mut self, stream: &[u8], wanted: impl Fn(u64) -> bool) {
        for record in records(stream).filter(|record| wanted(record.kind)) {
            self.0.insert(record.kind, record.value.to_vec());
        }
    }

    pub(crate) fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = TlvWriter::new(&mut out);
        for (kind, value) in &self.0 {
            writer.put(*kind, value);
        }
        out
    }
}
