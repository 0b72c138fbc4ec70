//! The byte codec of BOLT 1: fixed integers, `BigSize`, truncated integers, TLV streams.
//!
//! [`Encode`] appends to a vector and can't fail. [`Decode`] reads from a [`Reader`] over bytes that are
//! all there, so no length field of a peer ever drives an allocation beyond them.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid,
    consensus::encode::serialize,
    constants::ChainHash,
    hashes::Hash,
    secp256k1::{PublicKey, ecdsa, schnorr},
};

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the value does.
    UnexpectedEnd,
    /// Bytes are left after the value.
    TrailingBytes,
    /// An integer in more bytes than it needs (BOLT 1, `BigSize` and `tu16`/`tu32`/`tu64`).
    NonMinimal,
    /// TLV types not strictly increasing (BOLT 1, Type-Length-Value Format).
    TlvOutOfOrder,
    /// An even TLV type that this software does not know: it must be understood to go on (BOLT 1).
    UnknownEvenTlv(u64),
    /// A field that must be there is missing; its name.
    Missing(&'static str),
    /// A value that its field can't have; what is wrong.
    InvalidValue(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("the data ends too early"),
            Self::TrailingBytes => f.write_str("there are bytes after the end of the data"),
            Self::NonMinimal => f.write_str("an integer is not encoded in the least bytes"),
            Self::TlvOutOfOrder => f.write_str("TLV types are not strictly increasing"),
            Self::UnknownEvenTlv(t) => write!(f, "unknown even TLV type {t}"),
            Self::Missing(name) => write!(f, "the field {name} is missing"),
            Self::InvalidValue(what) => write!(f, "invalid value: {what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A value with one encoding.
pub trait Encode {
    /// The length of a number's encoding, the same for all values: such fields of a message are gathered before they
    /// are appended, at once. What is longer is appended by itself.
    const LEN: Option<usize> = None;

    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Fills `out`, of [`Encode::LEN`] bytes, with the encoding. Without a fixed length it does nothing.
    #[inline]
    fn write_to(&self, _out: &mut [u8]) {}

    /// The encoding on its own.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// A value that can be read from bytes.
pub trait Decode: Sized {
    /// Reads the value from the front of `r`.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Reads the value from all of `bytes`: what is left over is an error.
    #[inline]
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let value = Self::decode(&mut r)?;
        r.finish()?;
        Ok(value)
    }
}

/// A cursor over bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `len` bytes, borrowed.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (front, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(front)
    }

    /// Takes `N` bytes by value.
    #[inline]
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (front, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*front)
    }

    /// Takes all that is left.
    #[inline]
    pub fn take_rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Takes bytes behind a `u16` length.
    #[inline]
    pub fn take_u16_prefixed(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = u16::decode(self)?;
        self.take(usize::from(len))
    }

    /// An error unless all has been read.
    #[inline]
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            const LEN: Option<usize> = Some(size_of::<$int>());

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn write_to(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_be_bytes());
            }
        }

        impl Decode for $int {
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.take_array().map(<$int>::from_be_bytes)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

/// `BigSize`: 1, 3, 5 or 9 bytes, big-endian, minimal (BOLT 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BigSize(pub u64);

impl Encode for BigSize {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = self.0.to_be_bytes();
        match self.0 {
            0..=0xfc => out.push(bytes[7]),
            0xfd..=0xffff => {
                out.push(0xfd);
                out.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                out.push(0xfe);
                out.extend_from_slice(&bytes[4..]);
            }
            _ => {
                out.push(0xff);
                out.extend_from_slice(&bytes);
            }
        }
    }
}

impl Decode for BigSize {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (value, least) = match u8::decode(r)? {
            0xfd => (u64::from(u16::decode(r)?), 0xfd),
            0xfe => (u64::from(u32::decode(r)?), 0x1_0000),
            0xff => (u64::decode(r)?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least {
            Err(DecodeError::NonMinimal)
        } else {
            Ok(Self(value))
        }
    }
}

/// A truncated integer (`tu16`, `tu32`, `tu64`): no leading zero bytes; its length is the field's (BOLT 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Truncated<T>(pub T);

impl<T: Copy + Into<u64>> Encode for Truncated<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = self.0.into().to_be_bytes();
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        out.extend(bytes.iter().skip(zeros));
    }
}

impl<T: TryFrom<u64>> Decode for Truncated<T> {
    /// Takes all that is left of `r`.
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = r.take_rest();
        if bytes.len() > size_of::<T>() {
            return Err(DecodeError::InvalidValue("truncated integer too long"));
        }
        if bytes.first() == Some(&0) {
            return Err(DecodeError::NonMinimal);
        }
        let value = bytes.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
        T::try_from(value)
            .map(Self)
            .map_err(|_| DecodeError::InvalidValue("truncated integer too great"))
    }
}

impl<const N: usize> Encode for [u8; N] {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> Decode for [u8; N] {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array()
    }
}

/// Bytes to the end of the field.
impl Encode for Vec<u8> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        // Most such fields are empty: this saves the call that copies nothing.
        if !self.is_empty() {
            out.extend_from_slice(self);
        }
    }
}

/// Bytes to the end of the field.
impl Decode for Vec<u8> {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(r.take_rest().to_vec())
    }
}

/// `utf8` to the end of the field: what is no valid UTF-8 is refused, as BOLT 1 lets a reader do. For
/// people it is shown through [`Printable`](crate::Printable).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Utf8(pub String);

impl Encode for Utf8 {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

impl Decode for Utf8 {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        core::str::from_utf8(r.take_rest())
            .map(|text| Self(text.into()))
            .map_err(|_| DecodeError::InvalidValue("text is not valid UTF-8"))
    }
}

/// Bytes behind a `u16` length, in messages and records.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct U16Bytes(pub Vec<u8>);

impl Encode for U16Bytes {
    /// Cuts at 65535 bytes: nothing longer fits a Lightning message, and callers bound what they hold.
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let len = u16::try_from(self.0.len()).unwrap_or(u16::MAX);
        len.encode(out);
        out.extend_from_slice(&self.0[..usize::from(len)]);
    }
}

impl Decode for U16Bytes {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_u16_prefixed().map(|b| Self(b.to_vec()))
    }
}

/// A list behind a `BigSize` count, for records of our own. The count alone allocates nothing.
impl<T: Encode> Encode for [T] {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        BigSize(self.len() as u64).encode(out);
        for item in self {
            item.encode(out);
        }
    }
}

/// Reads a list written by the `Encode` of slices; each item must take at least one byte.
pub fn decode_list<T: Decode>(r: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
    let count = BigSize::decode(r)?.0;
    let mut items = Vec::new();
    for _ in 0..count {
        let before = r.remaining().len();
        items.push(T::decode(r)?);
        if r.remaining().len() == before {
            return Err(DecodeError::InvalidValue("list item without content"));
        }
    }
    Ok(items)
}

/// Writes a text: a `BigSize` length, then UTF-8.
pub fn encode_text(text: &str, out: &mut Vec<u8>) {
    text.as_bytes().encode(out);
}

/// Reads what [`encode_text`] wrote.
pub fn decode_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(decode_list(r)?)
        .map_err(|_| DecodeError::InvalidValue("text that is not UTF-8"))
}

/// One byte, 0 or 1.
impl Encode for bool {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// One byte, 0 or 1; anything else is an error.
impl Decode for bool {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::InvalidValue("boolean that is neither 0 nor 1")),
        }
    }
}

/// A flag byte, then the value: for records of our own.
impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::decode(r)? {
            T::decode(r).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<T: Encode> Encode for Box<T> {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Decode> Decode for Box<T> {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(r).map(Self::new)
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(r)?, B::decode(r)?))
    }
}

impl Encode for PublicKey {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize());
    }
}

impl Decode for PublicKey {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_slice(r.take(33)?)
            .map_err(|_| DecodeError::InvalidValue("point is not on the curve"))
    }
}

/// 64 bytes, `r` then `s`.
impl Encode for ecdsa::Signature {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize_compact());
    }
}

impl Decode for ecdsa::Signature {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_compact(r.take(64)?)
            .map_err(|_| DecodeError::InvalidValue("signature out of range"))
    }
}

impl Encode for schnorr::Signature {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize());
    }
}

impl Decode for schnorr::Signature {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_slice(r.take(64)?)
            .map_err(|_| DecodeError::InvalidValue("signature out of range"))
    }
}

/// Whole satoshis in 8 bytes.
impl Encode for Amount {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.to_sat().encode(out);
    }
}

impl Decode for Amount {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(r).map(Self::from_sat)
    }
}

macro_rules! hashes {
    ($($hash:ty),*) => {$(
        impl Encode for $hash {
            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_byte_array());
            }
        }

        impl Decode for $hash {
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.take_array().map(Self::from_byte_array)
            }
        }
    )*};
}
hashes!(Txid, BlockHash, bitcoin::hashes::sha256::Hash);

impl Encode for ChainHash {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Decode for ChainHash {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array::<32>().map(Self::from)
    }
}

/// The txid, then the output index in 4 bytes: for records of our own (messages use 2).
impl Encode for OutPoint {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.txid.encode(out);
        self.vout.encode(out);
    }
}

impl Decode for OutPoint {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            txid: Decode::decode(r)?,
            vout: Decode::decode(r)?,
        })
    }
}

/// A `u16` length, then the script.
impl Encode for ScriptBuf {
    /// Cuts at 65535 bytes, above every script that consensus lets be spent.
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let len = u16::try_from(self.len()).unwrap_or(u16::MAX);
        len.encode(out);
        out.extend_from_slice(&self.as_bytes()[..usize::from(len)]);
    }
}

impl Decode for ScriptBuf {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_u16_prefixed().map(|b| Self::from_bytes(b.to_vec()))
    }
}

/// A `u32` length, then Bitcoin's encoding: for records of our own.
impl Encode for Transaction {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = serialize(self);
        u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out);
        out.extend_from_slice(&bytes);
    }
}

impl Decode for Transaction {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::try_from(u32::decode(r)?).map_err(|_| DecodeError::UnexpectedEnd)?;
        crate::read_transaction(r.take(len)?)
    }
}

/// The value, then the script behind its length: for records of our own.
impl Encode for TxOut {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.value.encode(out);
        self.script_pubkey.encode(out);
    }
}

impl Decode for TxOut {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            value: Decode::decode(r)?,
            script_pubkey: Decode::decode(r)?,
        })
    }
}

/// One record of a TLV stream: its type and its value's bytes.
#[derive(Clone, Debug)]
pub struct TlvRecord<'a> {
    /// The type.
    pub kind: u64,
    /// The value, to be read to its end.
    pub value: &'a [u8],
}

impl TlvRecord<'_> {
    /// Reads the whole value as `T`.
    #[inline]
    pub fn parse<T: Decode>(&self) -> Result<T, DecodeError> {
        T::from_bytes(self.value)
    }

    /// For a type that the reader does not know: an error when it is even (BOLT 1: it's ok to be odd).
    #[inline]
    pub const fn ignore_if_odd(&self) -> Result<(), DecodeError> {
        if self.kind.is_multiple_of(2) {
            Err(DecodeError::UnknownEvenTlv(self.kind))
        } else {
            Ok(())
        }
    }
}

/// Reads a TLV stream to the end of the bytes, checking that types increase and lengths fit.
///
/// ```
/// use fulmen_types::codec::{TlvReader, TlvWriter};
/// let mut out = Vec::new();
/// TlvWriter::new(&mut out).put(1, &7u16).put(3, &9u64);
/// let mut sum = 0;
/// for record in TlvReader::new(&out) {
///     let record = record?;
///     match record.kind {
///         1 => sum += u64::from(record.parse::<u16>()?),
///         3 => sum += record.parse::<u64>()?,
///         _ => record.ignore_if_odd()?,
///     }
/// }
/// assert_eq!(sum, 16);
/// # Ok::<(), fulmen_types::codec::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlvReader<'a> {
    r: Reader<'a>,
    last: Option<u64>,
}

impl<'a> TlvReader<'a> {
    /// Reads the stream that is all of `bytes`.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            r: Reader::new(bytes),
            last: None,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<TlvRecord<'a>, DecodeError> {
        let kind = BigSize::decode(&mut self.r)?.0;
        if self.last.is_some_and(|last| kind <= last) {
            return Err(DecodeError::TlvOutOfOrder);
        }
        self.last = Some(kind);
        let len = BigSize::decode(&mut self.r)?.0;
        let len = usize::try_from(len).map_err(|_| DecodeError::UnexpectedEnd)?;
        Ok(TlvRecord {
            kind,
            value: self.r.take(len)?,
        })
    }
}

impl<'a> Iterator for TlvReader<'a> {
    type Item = Result<TlvRecord<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.r.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.r.take_rest();
        }
        Some(record)
    }
}

/// Writes a TLV stream; the caller puts types in increasing order.
#[derive(Debug)]
pub struct TlvWriter<'a> {
    out: &'a mut Vec<u8>,
    last: Option<u64>,
}

impl<'a> TlvWriter<'a> {
    /// Appends to `out`.
    #[inline]
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, last: None }
    }

    /// Appends one record.
    #[inline]
    pub fn put<T: Encode + ?Sized>(&mut self, kind: u64, value: &T) -> &mut Self {
        self.put_with(kind, |out| value.encode(out))
    }

    /// Appends one record whose value `write` appends.
    #[inline]
    pub fn put_with(&mut self, kind: u64, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        debug_assert!(
            self.last.is_none_or(|last| last < kind),
            "TLV types must increase"
        );
        self.last = Some(kind);
        BigSize(kind).encode(self.out);
        // Most values are short: one byte is kept for their length, and long ones move.
        let len_at = self.out.len();
        self.out.push(0);
        write(self.out);
        let len = self.out.len() - len_at - 1;
        match u8::try_from(len) {
            Ok(short @ ..=0xfc) => self.out[len_at] = short,
            _ => {
                let prefix = BigSize(len as u64).to_bytes();
                self.out.splice(len_at..=len_at, prefix);
            }
        }
        self
    }

    /// Appends one record if there is a value.
    pub fn put_some<T: Encode>(&mut self, kind: u64, value: Option<&T>) -> &mut Self {
        match value {
            Some(value) => self.put(kind, value),
            None => self,
        }
    }
}
