//! The text form: BOLT 12, "Encoding". Bech32's letters without its checksum, and `+` to join parts.

use alloc::{string::String, vec::Vec};

use bech32::{ByteIterExt, Fe32, Fe32IterExt};

use crate::TextError;

/// Writes `bytes` behind `prefix` and `1`, in lower case.
pub(crate) fn encode(prefix: &str, bytes: &[u8]) -> String {
    let letters = bytes.iter().copied().bytes_to_fes().map(Fe32::to_char);
    prefix.chars().chain(['1']).chain(letters).collect()
}

/// The bytes behind `prefix` and `1`, in either case. White space around the text is no part of it.
pub(crate) fn decode(prefix: &'static str, text: &str) -> Result<Vec<u8>, TextError> {
    let text = one_case(&join(text.trim())?)?;
    // The data have no 1, so the last one is the separator (BIP 173).
    let (found, data) = text.rsplit_once('1').ok_or(TextError::NoSeparator)?;
    if found != prefix {
        return Err(TextError::Prefix(prefix));
    }
    let quintets = data
        .chars()
        .map(Fe32::from_char)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TextError::InvalidCharacter)?;
    check_padding(&quintets)?;
    Ok(quintets.into_iter().fes_to_bytes().collect())
}

/// Without each `+` between two characters and the white space behind it.
fn join(text: &str) -> Result<String, TextError> {
    let mut joined = String::with_capacity(text.len());
    // Whether a `+` may come now, and whether one came before what was read last.
    let (mut after_letter, mut after_plus) = (false, false);
    for c in text.chars() {
        match c {
            '+' if after_letter => {
                (after_letter, after_plus) = (false, true);
            }
            '+' => return Err(TextError::Continuation),
            _ if c.is_ascii_whitespace() && after_plus => {}
            _ if c.is_ascii_alphanumeric() => {
                joined.push(c);
                (after_letter, after_plus) = (true, false);
            }
            _ => return Err(TextError::InvalidCharacter),
        }
    }
    if after_plus {
        return Err(TextError::Continuation);
    }
    Ok(joined)
}

fn one_case(text: &str) -> Result<String, TextError> {
    let lower = text.bytes().any(|b| b.is_ascii_lowercase());
    let upper = text.bytes().any(|b| b.is_ascii_uppercase());
    if lower && upper {
        return Err(TextError::MixedCase);
    }
    Ok(text.to_ascii_lowercase())
}

/// BIP 173: what is left of the last quintet is at most 4 bits and zero.
fn check_padding(quintets: &[Fe32]) -> Result<(), TextError> {
    let left = quintets.len() * 5 % 8;
    let last = quintets.last().map_or(0, |last| last.to_u8());
    if left > 4 || last & ((1u8 << left) - 1) != 0 {
        return Err(TextError::Padding);
    }
    Ok(())
}
