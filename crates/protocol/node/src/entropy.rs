//! Random-looking values from the boot entropy.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use core::fmt;

/// A generator: HMAC-SHA256 of a label and a counter under the boot entropy. Its state is never stored;
/// a restart begins with fresh entropy, so nothing drawn in one run can come again in another.
#[derive(Clone)]
pub(crate) struct Entropy {
    seed: [u8; 32],
    counter: u64,
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

impl Entropy {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// 32 fresh bytes; the label keeps uses apart.
    pub(crate) fn draw(&mut self, label: &str) -> [u8; 32] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.seed);
        engine.input(&self.counter.to_be_bytes());
        engine.input(label.as_bytes());
        self.counter += 1;
        Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
    }

    /// 8 fresh bytes as a number.
    pub(crate) fn draw_u64(&mut self, label: &str) -> u64 {
        let bytes = self.draw(label);
        bytes[..8].iter().fold(0, |acc, b| acc << 8 | u64::from(*b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_repeat_with_the_seed() {
        let mut a = Entropy::new([1; 32]);
        let mut b = Entropy::new([1; 32]);
        let first = a.draw("x");
        assert_eq!(first, b.draw("x"));
        assert_ne!(first, a.draw("x"));
        assert_ne!(Entropy::new([2; 32]).draw("x"), first);
        assert_ne!(Entropy::new([1; 32]).draw("y"), first);
    }
}
