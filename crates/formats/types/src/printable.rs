//! Peers' texts, made safe to show.

use core::fmt;

/// Shows bytes that a peer chose: valid UTF-8 as text with control, format, bidirectional and
/// separator characters replaced, anything else as `\xNN`, at most [`Printable::MAX_CHARS`] characters.
///
/// ```
/// use fulmen_types::Printable;
/// assert_eq!(Printable(b"a\nb\x1b[0m\xff").to_string(), "a\u{fffd}b\u{fffd}[0m\\xff");
/// ```
#[derive(Clone, Copy)]
pub struct Printable<'a>(pub &'a [u8]);

impl Printable<'_> {
    /// Longer texts are cut and end in an ellipsis.
    pub const MAX_CHARS: usize = 512;
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut left = Self::MAX_CHARS;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_char('…');
                }
                left -= 1;
                f.write_char(if is_unsafe_to_show(c) {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                })?;
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return f.write_char('…');
                }
                left -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Characters that move the cursor, hide, reorder or break lines: Unicode's Cc, Cf, Zl, Zp, variation
/// selectors, tags and private use.
fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00ad | 0x034f | 0x0600..=0x0605 | 0x061c | 0x06dd | 0x070f | 0x0890..=0x0891 | 0x08e2
            | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xd800..=0xf8ff | 0xfe00..=0xfe0f
            | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1345f
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0x10ffff)
}
