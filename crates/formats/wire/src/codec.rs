//! Encodings that differ from their type's own one: lengths, rests of fields, encoded arrays.

use alloc::vec::Vec;

use bitcoin::{ScriptBuf, SignedAmount, Transaction, Witness, consensus::encode::serialize};
use fulmen_types::{
    ShortChannelId,
    codec::{BigSize, Decode, DecodeError, Encode, Reader, TlvRecord, TlvWriter, U16Bytes},
    read_transaction, read_witness,
};

/// How a field of the payload is written and read.
pub(crate) trait FieldCodec<T> {
    /// See [`Encode::LEN`].
    const LEN: Option<usize> = None;

    fn put(value: &T, out: &mut Vec<u8>);

    /// See [`Encode::write_to`].
    #[inline]
    fn write_to(_value: &T, _out: &mut [u8]) {}

    fn get(r: &mut Reader<'_>) -> Result<T, DecodeError>;
}

/// Gathers fields of fixed lengths, so that they are appended at once. All lengths are known when it is compiled.
pub(crate) struct Gathered {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Gathered {
    /// The numbers of a `channel_update` one after the other.
    const MOST: usize = 40;

    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; Self::MOST],
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn put<T, C: FieldCodec<T>>(&mut self, value: &T, out: &mut Vec<u8>) {
        if let Some(len) = C::LEN
            && len <= Self::MOST
        {
            if self.len + len > Self::MOST {
                self.flush(out);
            }
            C::write_to(value, &mut self.bytes[self.len..self.len + len]);
            self.len += len;
        } else {
            self.flush(out);
            C::put(value, out);
        }
    }

    #[inline]
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.len]);
        self.len = 0;
    }
}

/// How a record of the TLV stream is written and read.
pub(crate) trait TlvCodec<F> {
    fn put_record(field: &F, kind: u64, tlvs: &mut TlvWriter<'_>);
    fn get_record(field: &mut F, record: &TlvRecord<'_>) -> Result<(), DecodeError>;
}

/// The codec of the type itself.
pub(crate) struct Own;

impl<T: Encode + Decode> FieldCodec<T> for Own {
    const LEN: Option<usize> = T::LEN;

    #[inline]
    fn put(value: &T, out: &mut Vec<u8>) {
        value.encode(out);
    }

    #[inline]
    fn write_to(value: &T, out: &mut [u8]) {
        value.write_to(out);
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<T, DecodeError> {
        T::decode(r)
    }
}

/// An optional record with a value: any codec of a field serves, given the record's bytes.
impl<T, C: FieldCodec<T>> TlvCodec<Option<T>> for C {
    #[inline]
    fn put_record(field: &Option<T>, kind: u64, tlvs: &mut TlvWriter<'_>) {
        if let Some(value) = field {
            tlvs.put_with(kind, |out| C::put(value, out));
        }
    }

    #[inline]
    fn get_record(field: &mut Option<T>, record: &TlvRecord<'_>) -> Result<(), DecodeError> {
        let mut r = Reader::new(record.value);
        *field = Some(C::get(&mut r)?);
        r.finish()
    }
}

/// An empty record whose presence is the value.
pub(crate) struct Flag;

impl TlvCodec<bool> for Flag {
    #[inline]
    fn put_record(field: &bool, kind: u64, tlvs: &mut TlvWriter<'_>) {
        if *field {
            tlvs.put(kind, &[0u8; 0]);
        }
    }

    #[inline]
    fn get_record(field: &mut bool, record: &TlvRecord<'_>) -> Result<(), DecodeError> {
        *field = true;
        if record.value.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

/// Bytes behind a `u16` length.
pub(crate) struct U16Prefixed;

impl FieldCodec<Vec<u8>> for U16Prefixed {
    #[inline]
    fn put(value: &Vec<u8>, out: &mut Vec<u8>) {
        put_u16_prefixed(value, out);
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        U16Bytes::decode(r).map(|bytes| bytes.0)
    }
}

/// A transaction behind a `u16` length, which is 0 when there is none.
impl FieldCodec<Option<Transaction>> for U16Prefixed {
    #[inline]
    fn put(value: &Option<Transaction>, out: &mut Vec<u8>) {
        put_u16_prefixed(&value.as_ref().map(serialize).unwrap_or_default(), out);
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Option<Transaction>, DecodeError> {
        let bytes = r.take_u16_prefixed()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        read_transaction(bytes)
            .map(Some)
            .map_err(|_| DecodeError::InvalidValue("prevtx is not a transaction"))
    }
}

/// Witnesses behind a `u16` count, each in Bitcoin's encoding behind a `u16` length.
impl FieldCodec<Vec<Witness>> for U16Prefixed {
    #[inline]
    fn put(value: &Vec<Witness>, out: &mut Vec<u8>) {
        put_count(value.len(), out);
        for witness in &value[..usize::from(count(value.len()))] {
            put_u16_prefixed(&serialize(witness), out);
        }
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<Witness>, DecodeError> {
        let count = u16::decode(r)?;
        let mut witnesses = Vec::new();
        for _ in 0..count {
            let witness = read_witness(r.take_u16_prefixed()?)
                .map_err(|_| DecodeError::InvalidValue("witness is not a witness stack"))?;
            witnesses.push(witness);
        }
        Ok(witnesses)
    }
}

/// Items behind a `u16` count.
pub(crate) struct U16Counted;

impl<T: Encode + Decode> FieldCodec<Vec<T>> for U16Counted {
    #[inline]
    fn put(value: &Vec<T>, out: &mut Vec<u8>) {
        put_count(value.len(), out);
        // What is in memory is about as long as its encoding.
        out.reserve(size_of_val(value.as_slice()));
        for item in &value[..usize::from(count(value.len()))] {
            item.encode(out);
        }
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let count = u16::decode(r)?;
        // The count alone allocates nothing beyond what the bytes can hold.
        let mut items =
            Vec::with_capacity(usize::from(count).min(r.remaining().len() / size_of::<T>().max(1)));
        for _ in 0..count {
            items.push(T::decode(r)?);
        }
        Ok(items)
    }
}

/// Values to the end of the field, without a count.
pub(crate) struct Rest;

impl<T: Encode + Decode> FieldCodec<Vec<T>> for Rest {
    #[inline]
    fn put(value: &Vec<T>, out: &mut Vec<u8>) {
        out.reserve(size_of_val(value.as_slice()));
        for item in value {
            item.encode(out);
        }
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let mut items = Vec::with_capacity(r.remaining().len() / size_of::<T>().max(1));
        while !r.is_empty() {
            items.push(T::decode(r)?);
        }
        Ok(items)
    }
}

/// A script to the end of the record.
impl FieldCodec<ScriptBuf> for Rest {
    #[inline]
    fn put(value: &ScriptBuf, out: &mut Vec<u8>) {
        out.extend_from_slice(value.as_bytes());
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<ScriptBuf, DecodeError> {
        Ok(ScriptBuf::from_bytes(r.take_rest().to_vec()))
    }
}

/// `s64` satoshis.
pub(crate) struct S64;

impl FieldCodec<SignedAmount> for S64 {
    #[inline]
    fn put(value: &SignedAmount, out: &mut Vec<u8>) {
        value.to_sat().encode(out);
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<SignedAmount, DecodeError> {
        i64::decode(r).map(SignedAmount::from_sat)
    }
}

/// A `BigSize`.
pub(crate) struct Big;

impl FieldCodec<u64> for Big {
    #[inline]
    fn put(value: &u64, out: &mut Vec<u8>) {
        BigSize(*value).encode(out);
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
        BigSize::decode(r).map(|big| big.0)
    }
}

/// An array in BOLT 7's encoding: a type byte, which must be 0 (uncompressed), then the items to the
/// end. Type 1 was zlib and may not be sent any more: what a peer compressed is not unpacked.
pub(crate) struct Encoded;

fn check_encoding_type(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    match u8::decode(r)? {
        0 => Ok(()),
        1 => Err(DecodeError::InvalidValue(
            "zlib encoding is no longer allowed (BOLT 7)",
        )),
        _ => Err(DecodeError::InvalidValue("unknown encoding type (BOLT 7)")),
    }
}

const SHORT_ID_LEN: usize = 8;

/// `encoded_short_ids`, behind its `u16` length.
impl FieldCodec<Vec<ShortChannelId>> for Encoded {
    #[inline]
    fn put(value: &Vec<ShortChannelId>, out: &mut Vec<u8>) {
        // As many as a length of two bytes has room for.
        let ids = &value[..value.len().min((usize::from(u16::MAX) - 1) / SHORT_ID_LEN)];
        put_count(1 + ids.len() * SHORT_ID_LEN, out);
        out.reserve(1 + ids.len() * SHORT_ID_LEN);
        out.push(0);
        ids.iter().for_each(|id| id.encode(out));
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<ShortChannelId>, DecodeError> {
        let mut ids = Reader::new(r.take_u16_prefixed()?);
        check_encoding_type(&mut ids)?;
        Rest::get(&mut ids)
    }
}

/// `encoded_query_flags`, one `BigSize` each, to the end of the record.
impl FieldCodec<Vec<u64>> for Encoded {
    #[inline]
    fn put(value: &Vec<u64>, out: &mut Vec<u8>) {
        out.push(0);
        for flags in value {
            BigSize(*flags).encode(out);
        }
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
        check_encoding_type(r)?;
        let mut flags = Vec::new();
        while !r.is_empty() {
            flags.push(BigSize::decode(r)?.0);
        }
        Ok(flags)
    }
}

/// `encoded_timestamps`, two numbers each, to the end of the record.
impl FieldCodec<Vec<(u32, u32)>> for Encoded {
    #[inline]
    fn put(value: &Vec<(u32, u32)>, out: &mut Vec<u8>) {
        out.push(0);
        Rest::put(value, out);
    }

    #[inline]
    fn get(r: &mut Reader<'_>) -> Result<Vec<(u32, u32)>, DecodeError> {
        check_encoding_type(r)?;
        Rest::get(r)
    }
}

fn count(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn put_count(len: usize, out: &mut Vec<u8>) {
    count(len).encode(out);
}

/// Cuts at 65535 bytes: a message with so much in it does not fit the transport anyway.
fn put_u16_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(&bytes[..usize::from(count(bytes.len()))]);
}
