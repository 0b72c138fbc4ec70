//! The stack of the script interpreter, its numbers and truth values.

use super::error::ScriptError;

/// A stack of byte strings.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack(Vec<Vec<u8>>);

impl Stack {
    pub(super) fn new(items: Vec<Vec<u8>>) -> Self {
        Self(items)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, item: Vec<u8>) {
        self.0.push(item);
    }

    pub(super) fn push_num(&mut self, number: i64) {
        self.0.push(encode_num(number));
    }

    pub(super) fn push_bool(&mut self, flag: bool) {
        self.0.push(if flag { vec![1] } else { Vec::new() });
    }

    pub(super) fn pop(&mut self) -> Result<Vec<u8>, ScriptError> {
        self.0.pop().ok_or(ScriptError::InvalidStackOperation)
    }

    /// Refuses if there are fewer items.
    pub(super) fn need(&self, count: usize) -> Result<(), ScriptError> {
        if self.0.len() < count {
            Err(ScriptError::InvalidStackOperation)
        } else {
            Ok(())
        }
    }

    /// The item so many below the top; 0 is the top.
    pub(super) fn peek(&self, depth: usize) -> Result<&[u8], ScriptError> {
        let index = self.0.len().checked_sub(depth + 1);
        index
            .map(|i| self.0[i].as_slice())
            .ok_or(ScriptError::InvalidStackOperation)
    }

    /// Copies the item so many below the top onto the top.
    pub(super) fn pick(&mut self, depth: usize) -> Result<(), ScriptError> {
        let item = self.peek(depth)?.to_vec();
        self.0.push(item);
        Ok(())
    }

    /// Takes the item so many below the top out.
    pub(super) fn take(&mut self, depth: usize) -> Result<Vec<u8>, ScriptError> {
        let index = self.0.len().checked_sub(depth + 1);
        index
            .map(|i| self.0.remove(i))
            .ok_or(ScriptError::InvalidStackOperation)
    }

    /// Moves the item so many below the top onto the top.
    pub(super) fn roll(&mut self, depth: usize) -> Result<(), ScriptError> {
        let item = self.take(depth)?;
        self.0.push(item);
        Ok(())
    }

    pub(super) fn top_is_true(&self) -> bool {
        self.0.last().is_some_and(|item| is_true(item))
    }

    pub(super) fn items(&self) -> &[Vec<u8>] {
        &self.0
    }
}

/// Anything but zero, and negative zero is zero too.
pub(super) fn is_true(item: &[u8]) -> bool {
    match item.split_last() {
        None => false,
        Some((last, rest)) => !matches!(last, 0 | 0x80) || rest.iter().any(|b| *b != 0),
    }
}

/// A number: little endian, the highest bit is the sign.
pub(super) fn decode_num(item: &[u8], max: usize, minimal: bool) -> Result<i64, ScriptError> {
    if item.len() > max {
        return Err(ScriptError::Scriptnum);
    }
    let Some((last, rest)) = item.split_last() else {
        return Ok(0);
    };
    let padded = last & 0x7f == 0 && rest.last().is_none_or(|before| before & 0x80 == 0);
    if minimal && padded {
        return Err(ScriptError::Scriptnum);
    }
    let mut magnitude = i64::from(last & 0x7f);
    for byte in rest.iter().rev() {
        magnitude = (magnitude << 8) | i64::from(*byte);
    }
    Ok(if last & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    })
}

fn encode_num(number: i64) -> Vec<u8> {
    let mut bytes: Vec<u8> = number.unsigned_abs().to_le_bytes().to_vec();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    let sign = if number < 0 { 0x80 } else { 0 };
    match bytes.last_mut() {
        None => {}
        Some(last) if *last & 0x80 == 0 => *last |= sign,
        Some(_) => bytes.push(sign),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_must_be_minimal() {
        for number in [
            0,
            1,
            -1,
            127,
            128,
            -128,
            255,
            256,
            -255,
            32_767,
            32_768,
            0x7fff_ffff,
        ] {
            assert_eq!(decode_num(&encode_num(number), 5, true), Ok(number));
        }
        assert_eq!(decode_num(&[0x80], 4, true), Err(ScriptError::Scriptnum));
        assert_eq!(decode_num(&[1, 0], 4, true), Err(ScriptError::Scriptnum));
        assert_eq!(decode_num(&[1, 0], 4, false), Ok(1));
        assert_eq!(decode_num(&[0xff, 0], 4, true), Ok(255));
        assert_eq!(
            decode_num(&[1, 2, 3, 4, 5], 4, true),
            Err(ScriptError::Scriptnum)
        );
    }

    #[test]
    fn negative_zero_is_false() {
        assert!(!is_true(&[]) && !is_true(&[0, 0]) && !is_true(&[0, 0x80]));
        assert!(is_true(&[1]) && is_true(&[0x80, 0]));
    }
}
