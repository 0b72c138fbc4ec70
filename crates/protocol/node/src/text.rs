//! Texts in records.

use alloc::{string::String, vec::Vec};

use fulmen_types::codec::{DecodeError, Encode, Reader, U16Bytes};

/// A `u16` length, then UTF-8; cut at a character's edge when longer than that says.
pub(crate) fn encode_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    U16Bytes(text.as_bytes()[..end].to_vec()).encode(out);
}

/// Reads what [`encode_text`] wrote.
pub(crate) fn decode_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(r.take_u16_prefixed()?.to_vec())
        .map_err(|_| DecodeError::InvalidValue("text is not UTF-8"))
}
