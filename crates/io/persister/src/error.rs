//! Why a store could not do it.

use std::{fmt, io, path::PathBuf};

use fulmen_types::record::Space;

/// Why a store could not do it; the text says what to do.
#[derive(Debug)]
pub enum StoreError {
    /// Another process (or this one) has the store open.
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// Another writer has opened the store since: this one must stop.
    Fenced {
        /// The epoch that this writer holds.
        ours: u64,
        /// The epoch that the store is in.
        theirs: u64,
    },
    /// The number of the batch is not the next one.
    OutOfOrder {
        /// The next number.
        expected: u64,
        /// The number given.
        got: u64,
    },
    /// There is no room left.
    Full {
        /// The store.
        path: PathBuf,
    },
    /// The data is not what this software wrote.
    Corrupt {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A newer version of this software wrote the store.
    NewerVersion {
        /// The store.
        path: PathBuf,
        /// The store's version.
        found: u32,
        /// The newest version that this software knows.
        known: u32,
    },
    /// A key or value is longer than stores take: a bug of the caller.
    TooBig {
        /// What the record is about.
        space: Space,
    },
    /// An append has failed before; nothing is taken until the store is reopened.
    Failed,
    /// The operating system said no.
    Io {
        /// The store.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The database said no.
    Sqlite {
        /// The store.
        path: PathBuf,
        /// What it said.
        error: rusqlite::Error,
    },
    /// A store of another kind said no.
    Other(String),
}

impl StoreError {
    /// What the operating system said about `path`, told apart where it matters.
    pub(crate) fn from_io(path: &std::path::Path, error: io::Error) -> Self {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { path },
            _ => Self::Io { path, error },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path } => write!(
                f,
                "the store {} is in use by another process; stop that one first (two writers would lose funds)",
                path.display()
            ),
            Self::Fenced { ours, theirs } => write!(
                f,
                "another process has taken over the store (writer {theirs}, this is {ours}); this one must stop"
            ),
            Self::OutOfOrder { expected, got } => {
                write!(f, "batch {got} was appended where batch {expected} is due")
            }
            Self::Full { path } => write!(
                f,
                "the store {} is full; free space on its disk (or raise its limit) and start again: nothing is lost",
                path.display()
            ),
            Self::Corrupt { path, what } => write!(
                f,
                "the store {} is damaged ({what}); don't use an old copy, which could lose funds: restore the newest replica, or recover on-chain from the seed",
                path.display()
            ),
            Self::NewerVersion { path, found, known } => write!(
                f,
                "the store {} has format {found}, this software knows up to {known}; use the newer version of the software that wrote it",
                path.display()
            ),
            Self::TooBig { space } => write!(f, "a record of {space:?} is too long to be stored"),
            Self::Failed => f.write_str("an earlier write failed; the store must be reopened"),
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Sqlite { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Sqlite { error, .. } => Some(error),
            Self::Locked { .. }
            | Self::Fenced { .. }
            | Self::OutOfOrder { .. }
            | Self::Full { .. }
            | Self::Corrupt { .. }
            | Self::NewerVersion { .. }
            | Self::TooBig { .. }
            | Self::Failed
            | Self::Other(_) => None,
        }
    }
}
