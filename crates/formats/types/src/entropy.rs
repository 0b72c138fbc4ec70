//! Random-looking secrets from the entropy of this boot.

use bitcoin::{
    hashes::{Hash, HashEngine, sha256},
    secp256k1::SecretKey,
};

/// Makes 32-byte secrets from a seed that comes in as input, fresh at every boot, and a counter. The
/// state is never stored: a copy would make the same secrets again.
#[derive(Clone)]
pub struct KeyStream {
    seed: [u8; 32],
    counter: u64,
}

impl KeyStream {
    /// A stream from 32 bytes of fresh entropy. Streams with different purposes don't overlap.
    pub fn new(boot_entropy: [u8; 32], purpose: &[u8]) -> Self {
        let mut engine = sha256::Hash::engine();
        engine.input(b"fulmen key stream");
        engine.input(&boot_entropy);
        engine.input(purpose);
        Self {
            seed: sha256::Hash::from_engine(engine).to_byte_array(),
            counter: 0,
        }
    }

    /// The next 32 bytes.
    pub fn next_bytes(&mut self) -> [u8; 32] {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.seed);
        engine.input(&self.counter.to_be_bytes());
        self.counter += 1;
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        let bytes = self.next_bytes();
        bytes[..8]
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The next secret key.
    pub fn next_key(&mut self) -> SecretKey {
        loop {
            // Less than one in 2^127 hashes is no key.
            if let Ok(key) = SecretKey::from_slice(&self.next_bytes()) {
                return key;
            }
        }
    }
}

impl Drop for KeyStream {
    fn drop(&mut self) {
        wipe(&mut self.seed);
    }
}

/// Overwrites a secret that is not needed any more, as far as safe Rust can make sure that it happens.
pub fn wipe(secret: &mut [u8; 32]) {
    *secret = [0; 32];
    core::hint::black_box(secret);
}

impl core::fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyStream(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_repeat_with_seed_and_purpose_only() {
        let stream = |seed, purpose: &[u8]| KeyStream::new([seed; 32], purpose);
        let mut first = stream(1, b"x");
        let values = [first.next_bytes(), first.next_bytes()];
        assert_ne!(values[0], values[1]);
        let mut again = stream(1, b"x");
        assert_eq!([again.next_bytes(), again.next_bytes()], values);
        assert_ne!(stream(2, b"x").next_bytes(), values[0]);
        assert_ne!(stream(1, b"y").next_bytes(), values[0]);
        let number = stream(1, b"x").next_u64();
        assert_eq!(number.to_be_bytes(), values[0][..8]);
    }

    #[test]
    fn secrets_are_wiped() {
        let mut secret = [7; 32];
        wipe(&mut secret);
        assert_eq!(secret, [0; 32]);
        assert!(core::mem::needs_drop::<KeyStream>());
    }
}
