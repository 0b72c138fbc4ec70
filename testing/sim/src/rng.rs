//! Chance, from a seed.

use std::sync::Arc;

/// A stream of numbers that a seed fixes (SplitMix64), or that begins with numbers made of given bytes. It
/// decides what happens in a run; no key of value depends on it.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    /// What decides first, and how much of it is used up.
    script: Arc<[u8]>,
    used: usize,
}

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self::scripted(seed, &[])
    }

    /// The stream of a seed, behind what the bytes say: each choice takes as many of them as it needs, so that a
    /// fuzzer that changes one of them changes one choice.
    pub fn scripted(seed: u64, script: &[u8]) -> Self {
        let mut rng = Self {
            state: seed ^ 0x6675_6c6d_656e_2121,
            script: script.into(),
            used: 0,
        };
        rng.mix();
        rng
    }

    fn mix(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below 256 to the power of `len`, as long as the script has something to say.
    fn next_of_script(&mut self, len: usize) -> Option<u64> {
        let rest = self.script.get(self.used..).filter(|r| !r.is_empty())?;
        let taken = &rest[..len.min(rest.len())];
        self.used += taken.len();
        Some(taken.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        match self.next_of_script(8) {
            Some(number) => number,
            None => self.mix(),
        }
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound < 2 && !self.script.is_empty() {
            return 0;
        }
        let bytes = usize::try_from((64 - bound.leading_zeros()).div_ceil(8)).unwrap_or(8);
        match (bound, self.next_of_script(bytes)) {
            (0, _) => 0,
            (_, Some(number)) => number % bound,
            (_, None) => self.mix() % bound,
        }
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.below(len)).unwrap_or(0)
    }

    /// True `permille` times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// 32 bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
        out
    }

    /// 16 bytes.
    pub fn bytes16(&mut self) -> [u8; 16] {
        let mut out = [0; 16];
        out.copy_from_slice(&self.bytes32()[..16]);
        out
    }
}
