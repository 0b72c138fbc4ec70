//! The seed file of a node: 24 words, encrypted if wanted.
//!
//! One secret makes all keys: the words give BIP 39's seed, from which the on-chain wallet is derived as
//! any wallet would (BIP 86), and by a hash of its own the seed of the Lightning keys. The file lies in
//! the data directory with mode 0600; with a passphrase its content is encrypted (scrypt,
//! ChaCha20-Poly1305). The passphrase is not part of the words: whoever has the words has the money.
//!
//! What it is not: a backup of channels. Words alone bring back the on-chain wallet only.
//!
//! ```
//! use fulmen_seed::{Birthday, Seed, SeedFile};
//!
//! # let dir = tempfile::tempdir()?;
//! let seed = Seed::generate()?;
//! assert_eq!(seed.words().split(' ').count(), 24);
//! SeedFile::create(dir.path(), &seed, Birthday::Now, None)?;
//! let again = SeedFile::open(dir.path())?.unlock(None)?;
//! assert_eq!(again.node_seed(), seed.node_seed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod file;

use bip39::{Language, Mnemonic};
use bitcoin::{
    Network,
    bip32::Xpriv,
    hashes::{Hash, HashEngine, sha256},
};

pub use error::SeedError;
pub use file::{Birthday, SEED_FILE, SeedFile};

/// The root secret.
#[derive(Clone)]
pub struct Seed {
    mnemonic: Mnemonic,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    /// A new one, of the system's randomness.
    pub fn generate() -> Result<Self, SeedError> {
        let mut entropy = [0u8; 32];
        getrandom::fill(&mut entropy).map_err(|e| SeedError::Randomness(e.to_string()))?;
        Self::from_entropy(&entropy)
    }

    /// From the 24 words, in whatever case and spacing.
    pub fn from_words(words: &str) -> Result<Self, SeedError> {
        let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        if words.len() != 24 {
            return Err(SeedError::WordCount(words.len()));
        }
        for (index, word) in words.iter().enumerate() {
            if Language::English.find_word(word).is_none() {
                return Err(SeedError::UnknownWord {
                    position: index + 1,
                });
            }
        }
        Mnemonic::parse_in_normalized(Language::English, &words.join(" "))
            .map(|mnemonic| Self { mnemonic })
            .map_err(|_| SeedError::Checksum)
    }

    /// The 24 words.
    pub fn words(&self) -> String {
        self.mnemonic.to_string()
    }

    /// What the Lightning keys are derived from.
    pub fn node_seed(&self) -> [u8; 32] {
        // Not BIP 32's own input: the two trees of keys must never meet.
        let mut engine = sha256::Hash::engine();
        engine.input(b"fulmen/lightning/1");
        engine.input(&self.mnemonic.to_seed(""));
        sha256::Hash::from_engine(engine).to_byte_array()
    }

    /// The master key of the on-chain wallet.
    pub fn wallet_master(&self, network: Network) -> Result<Xpriv, SeedError> {
        Xpriv::new_master(network, &self.mnemonic.to_seed("")).map_err(|_| SeedError::Checksum)
    }

    pub(crate) fn from_entropy(entropy: &[u8]) -> Result<Self, SeedError> {
        match Mnemonic::from_entropy_in(Language::English, entropy) {
            Ok(mnemonic) if mnemonic.word_count() == 24 => Ok(Self { mnemonic }),
            _ => Err(SeedError::Checksum),
        }
    }

    pub(crate) fn entropy(&self) -> Vec<u8> {
        self.mnemonic.to_entropy()
    }
}
