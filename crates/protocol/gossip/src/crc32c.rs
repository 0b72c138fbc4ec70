//! CRC-32C (RFC 3720, appendix B.4): the checksum of `channel_update`s in BOLT 7's extended queries,
//! and of our own file of messages. Eight table look-ups per eight bytes.

const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLES: [[u32; 256]; 8] = tables();

/// Checksum in progress.
#[derive(Clone, Copy)]
pub(crate) struct Crc32c(u32);

impl Crc32c {
    pub(crate) const fn new() -> Self {
        Self(u32::MAX)
    }

    #[must_use]
    pub(crate) fn update(self, bytes: &[u8]) -> Self {
        let mut crc = self.0;
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            let [a, b, c, d, e, f, g, h] = *chunk;
            let [i, j, k, l] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
            crc = look(7, i)
                ^ look(6, j)
                ^ look(5, k)
                ^ look(4, l)
                ^ look(3, e)
                ^ look(2, f)
                ^ look(1, g)
                ^ look(0, h);
        }
        for byte in rest {
            let [low, ..] = crc.to_le_bytes();
            crc = (crc >> 8) ^ look(0, low ^ byte);
        }
        Self(crc)
    }

    pub(crate) const fn finish(self) -> u32 {
        !self.0
    }
}

/// The CRC-32C of `bytes` (RFC 3720, appendix B.4).
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc32c::new().update(bytes).finish()
}

fn look(table: usize, byte: u8) -> u32 {
    TABLES[table][usize::from(byte)]
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut i = 0;
    while i < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "i is below 256")]
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut i = 0;
        while i < 256 {
            let previous = tables[table - 1][i];
            tables[table][i] = (previous >> 8) ^ tables[0][(previous & 0xff) as usize];
            i += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_of_rfc_3720() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: [u8; 32] = core::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    #[test]
    fn pieces_give_the_same_as_the_whole() {
        let bytes: [u8; 100] = core::array::from_fn(|i| u8::try_from(i * 7 % 256).unwrap());
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(Crc32c::new().update(a).update(b).finish(), crc32c(&bytes));
        }
    }
}
