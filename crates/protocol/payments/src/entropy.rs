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

impl core::fmt::Debug for KeyStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyStream(..)")
    }
}
