//! The primitives of BOLT 8: HKDF, ChaCha20-Poly1305, and a key that rotates.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use chacha20_poly1305::{ChaCha20Poly1305, Key, Nonce};
use fulmen_types::wipe;

pub(crate) const TAG_LEN: usize = 16;

/// A tag that does not fit: the bytes are not the peer's, or were changed.
#[derive(Debug)]
pub(crate) struct BadTag;

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

/// HKDF of RFC 5869 with SHA-256, no info, 64 bytes out.
pub(crate) fn hkdf(salt: &[u8; 32], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let mut secret = hmac(salt, &[input]);
    let first = hmac(&secret, &[&[1]]);
    let second = hmac(&secret, &[&first, &[2]]);
    wipe(&mut secret);
    (first, second)
}

/// 32 zero bits, then the number, little-endian.
fn nonce(n: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&n.to_le_bytes());
    Nonce::new(bytes)
}

pub(crate) fn seal(key: &[u8; 32], n: u64, ad: &[u8], content: &mut [u8]) -> [u8; TAG_LEN] {
    ChaCha20Poly1305::new(Key::new(*key), nonce(n)).encrypt(content, Some(ad))
}

/// Decrypts in place if the tag fits; the comparison takes constant time.
pub(crate) fn open(
    key: &[u8; 32],
    n: u64,
    ad: &[u8],
    content: &mut [u8],
    tag: [u8; TAG_LEN],
) -> Result<(), BadTag> {
    ChaCha20Poly1305::new(Key::new(*key), nonce(n))
        .decrypt(content, tag, Some(ad))
        .map_err(|_| BadTag)
}

/// One direction's key after the handshake. It is replaced after every 1000 uses.
pub(crate) struct RotatingKey {
    key: [u8; 32],
    chaining_key: [u8; 32],
    nonce: u64,
}

impl RotatingKey {
    /// BOLT 8, Lightning Message Key Rotation: "once the nonce dedicated to it reaches 1000".
    const ROTATE_AT: u64 = 1000;

    pub(crate) const fn new(key: [u8; 32], chaining_key: [u8; 32]) -> Self {
        Self {
            key,
            chaining_key,
            nonce: 0,
        }
    }

    pub(crate) fn seal(&mut self, content: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = seal(&self.key, self.nonce, &[], content);
        self.advance();
        tag
    }

    pub(crate) fn open(&mut self, content: &mut [u8], tag: [u8; TAG_LEN]) -> Result<(), BadTag> {
        open(&self.key, self.nonce, &[], content, tag)?;
        self.advance();
        Ok(())
    }

    fn advance(&mut self) {
        self.nonce += 1;
        if self.nonce == Self::ROTATE_AT {
            (self.chaining_key, self.key) = hkdf(&self.chaining_key, &self.key);
            self.nonce = 0;
        }
    }
}

impl Drop for RotatingKey {
    fn drop(&mut self) {
        wipe(&mut self.key);
        wipe(&mut self.chaining_key);
    }
}
