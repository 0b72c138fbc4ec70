//! What can be wrong with a seed or its file.

use std::{fmt, io, path::PathBuf};

/// What is wrong; the text says what to do.
#[derive(Debug)]
pub enum SeedError {
    /// Not 24 words.
    WordCount(usize),
    /// A word that is not in BIP 39's English list.
    UnknownWord {
        /// Which one, counted from 1. Not the word itself: errors end up in logs.
        position: usize,
    },
    /// The words are no seed: one of them is wrong, or in a wrong place.
    Checksum,
    /// There is a seed already.
    Exists(PathBuf),
    /// There is no seed.
    Missing(PathBuf),
    /// Others than its owner can read the file.
    Permissions(PathBuf),
    /// The file is encrypted and no passphrase was given.
    PassphraseNeeded,
    /// The passphrase is wrong, or the file is damaged.
    WrongPassphrase,
    /// The file is not what this software wrote.
    Corrupt(PathBuf),
    /// A newer version of this software wrote the file.
    NewerVersion(PathBuf),
    /// The system has no randomness.
    Randomness(String),
    /// The operating system said no.
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WordCount(count) => write!(f, "a seed has 24 words, these are {count}"),
            Self::UnknownWord { position } => {
                write!(f, "word {position} is not one of BIP 39's English words; check its spelling")
            }
            Self::Checksum => {
                f.write_str("these words are no seed: one of them is wrong, or in a wrong place")
            }
            Self::Exists(path) => write!(
                f,
                "there is a seed already: {}; nothing was changed. Take another --data-dir for another node",
                path.display()
            ),
            Self::Missing(path) => write!(
                f,
                "there is no seed at {}; make one with `fulmen create` (or `fulmen restore` from words)",
                path.display()
            ),
            Self::Permissions(path) => write!(
                f,
                "others can read the seed: do `chmod 600 {}` (and think about who may have read it)",
                path.display()
            ),
            Self::PassphraseNeeded => f.write_str(
                "the seed is encrypted: give its passphrase in the environment variable FULMEN_PASSPHRASE, or at the prompt",
            ),
            Self::WrongPassphrase => f.write_str("the passphrase is wrong (or the seed file is damaged)"),
            Self::Corrupt(path) => write!(
                f,
                "the seed file {} is damaged; restore it from the words with `fulmen restore` after moving it away",
                path.display()
            ),
            Self::NewerVersion(path) => write!(
                f,
                "the seed file {} was written by a newer version of this software; use that one",
                path.display()
            ),
            Self::Randomness(why) => write!(f, "the system gives no randomness: {why}"),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for SeedError {}
