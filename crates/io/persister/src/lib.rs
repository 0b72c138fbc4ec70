//! Stores for the record batches of a node.
//!
//! A [`Store`] appends batches in order, whole groups at once, and reads records back. It knows nothing
//! of what the records mean. [`SqliteStore`] is the default for daemons: WAL, `synchronous=FULL`, one
//! inspectable file. [`FileStore`] is an append-only log with checksums for tests and small devices.
//! [`certify`] is the suite that every store must pass, your own too.
//!
//! What it is not: no cache, no retry, no thread. A driver calls it from a thread that may block, and
//! releases what depends on a batch only after [`Store::append`] has returned `Ok`.
//!
//! ```
//! use fulmen_persister::{FileStore, Store};
//! use fulmen_types::record::{RecordKey, Space, WriteBatch};
//!
//! # let dir = tempfile::tempdir()?;
//! let mut store = FileStore::open(dir.path().join("node.log"))?;
//! let at = store.position()?;
//! let key = RecordKey::new(Space::Peer, *b"alice");
//! let mut batch = WriteBatch::new();
//! batch.put(key.clone(), vec![1, 42]);
//! store.append(at.writer_epoch, at.next_seq(), &[batch])?;
//! assert_eq!(store.get(&key)?, Some(vec![1, 42]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod certify;
mod edge;
mod error;
mod file;
mod frame;
mod lock;
mod sqlite;

use std::collections::BTreeMap;

use fulmen_types::record::{RecordKey, Space, WriteBatch};

pub use edge::{EdgeStore, edge_key, number_of, numbered};
pub use error::StoreError;
pub use file::{FileOptions, FileStore};
pub use sqlite::{SqliteOptions, SqliteStore, SyncMode};

/// The longest value that every store takes. What the node writes is far below.
pub const MAX_VALUE_BYTES: usize = 256 * 1024 * 1024;
/// The longest key that every store takes.
pub const MAX_KEY_BYTES: usize = 65_535;

/// Where a store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted up, durably, each time that a writer opens the store.
    pub writer_epoch: u64,
    /// The number of the last batch that is durable; 0 when there is none. Counted over the life of the
    /// store.
    pub batch_seq: u64,
}

impl Position {
    /// The number that the next batch must have.
    pub const fn next_seq(self) -> u64 {
        self.batch_seq.saturating_add(1)
    }
}

/// A record of a space: the rest of its key, and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A durable map from record keys to bytes with one writer.
///
/// Opening a store (of whatever kind) makes the opener its one writer: a second open of the same data is
/// refused while the first lives, and should it happen all the same (a lock that the file system does not
/// honour), the writer epoch has moved on and the first one's next append fails with
/// [`StoreError::Fenced`].
pub trait Store: Send {
    /// Makes `batches` durable in order, all of them or none, as batches `first_seq`, `first_seq + 1`, ...
    /// It is a compare-and-swap: it fails, without having changed anything, unless the store stands at
    /// exactly (`writer_epoch`, `first_seq - 1`).
    ///
    /// When this returns `Ok` the batches survive a loss of power. When it returns an error they may or may
    /// not be there: go on only after [`Store::reopen`].
    fn append(
        &mut self,
        writer_epoch: u64,
        first_seq: u64,
        batches: &[WriteBatch],
    ) -> Result<(), StoreError>;

    /// One record.
    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` records of a space in key order, from the key `from` on (that one included). For
    /// the next page, start from the last key with a zero byte added (see [`after`]).
    fn scan(
        &mut self,
        space: Space,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError>;

    /// Where the store stands.
    fn position(&mut self) -> Result<Position, StoreError>;

    /// Drops everything that is not durable, reads the position anew and takes the next writer epoch: what
    /// a writer does after an append has failed.
    fn reopen(&mut self) -> Result<Position, StoreError>;

    /// Gives every record of a space to `each`, in key order.
    fn load(
        &mut self,
        space: Space,
        each: &mut dyn FnMut(Vec<u8>, Vec<u8>),
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let page = self.scan(space, &from, LOAD_PAGE)?;
            let last_page = page.len() < LOAD_PAGE;
            for (key, value) in page {
                if !last_page {
                    from = after(&key);
                }
                each(key, value);
            }
            if last_page {
                return Ok(());
            }
        }
    }
}

const LOAD_PAGE: usize = 1_000;

/// The least key above `key`: where the page after it starts.
pub fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// Every record that the node wants at start ([`Space::is_loaded_at_start`]), in key order.
pub fn load_for_start(store: &mut dyn Store) -> Result<Vec<(RecordKey, Vec<u8>)>, StoreError> {
    let mut records = Vec::new();
    for space in Space::ALL
        .iter()
        .copied()
        .filter(|s| s.is_loaded_at_start())
    {
        store.load(space, &mut |key, value| {
            records.push((RecordKey::new(space, key), value))
        })?;
    }
    Ok(records)
}

/// What a group of batches comes to: the last write of each key. Refuses what no store takes.
pub(crate) fn merge(
    batches: &[WriteBatch],
) -> Result<BTreeMap<&RecordKey, Option<&[u8]>>, StoreError> {
    let mut merged = BTreeMap::new();
    for (key, value) in batches.iter().flat_map(WriteBatch::iter) {
        if key.key.len() > MAX_KEY_BYTES || value.is_some_and(|v| v.len() > MAX_VALUE_BYTES) {
            return Err(StoreError::TooBig { space: key.space });
        }
        merged.insert(key, value);
    }
    Ok(merged)
}

/// Checks the compare-and-swap of an append.
pub(crate) fn check_turn(
    at: Position,
    writer_epoch: u64,
    first_seq: u64,
) -> Result<(), StoreError> {
    if at.writer_epoch != writer_epoch {
        return Err(StoreError::Fenced {
            ours: writer_epoch,
            theirs: at.writer_epoch,
        });
    }
    if at.next_seq() != first_seq {
        return Err(StoreError::OutOfOrder {
            expected: at.next_seq(),
            got: first_seq,
        });
    }
    Ok(())
}
