//! The store of what lies at the edge: the wallet's changes, coin leases and the log of events.
//!
//! It is a store of its own beside the node's, so that the wallet never waits for the node's commits. The
//! two need no common transaction: leases are keyed by what the node asks for and asked for again after
//! a restart, events are numbered by the node.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fulmen_persister::{KeyValue, Position, SqliteOptions, SqliteStore, Store, StoreError};
use fulmen_types::record::{RecordKey, Space, WriteBatch};

/// The store, shared by its users.
#[derive(Clone)]
pub(crate) struct EdgeStore {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// `None` once closed.
    store: Option<SqliteStore>,
    at: Position,
    /// A write has failed: the store is reopened before the next one.
    failed: bool,
}

impl EdgeStore {
    pub(crate) fn open(path: &Path, max_page_count: Option<u32>) -> Result<Self, StoreError> {
        let mut store = SqliteStore::open_with(path, &SqliteOptions { max_page_count })?;
        let at = store.position()?;
        Ok(Self {
            inner: Arc::new(Mutex::new(Inner {
                store: Some(store),
                at,
                failed: false,
            })),
        })
    }

    /// Makes all of it durable, or nothing.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut inner = self.lock();
        let Inner { store, at, failed } = &mut *inner;
        let store = store.as_mut().ok_or_else(closed)?;
        if *failed {
            *at = store.reopen()?;
            *failed = false;
        }
        let next = at.next_seq();
        match store.append(at.writer_epoch, next, &[batch]) {
            Ok(()) => {
                at.batch_seq = next;
                Ok(())
            }
            Err(e) => {
                *failed = true;
                Err(e)
            }
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut inner = self.lock();
        inner.store.as_mut().ok_or_else(closed)?.get(&edge_key(key))
    }

    /// At most `limit` records whose key begins with `prefix`, from the key `from` on.
    pub(crate) fn scan_prefix(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let mut inner = self.lock();
        let mut page = inner
            .store
            .as_mut()
            .ok_or_else(closed)?
            .scan(Space::Edge, from, limit)?;
        page.retain(|(key, _)| key.starts_with(prefix));
        Ok(page)
    }

    /// Every record whose key begins with `prefix`.
    pub(crate) fn load_prefix(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, StoreError> {
        const PAGE: usize = 1_000;
        let mut all = Vec::new();
        let mut from = prefix.to_vec();
        loop {
            let page = self.scan_prefix(prefix, &from, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(all);
            };
            from = fulmen_persister::after(last);
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Closes the file, whoever still holds a handle: the data directory is free afterwards.
    pub(crate) fn close(&self) {
        self.lock().store = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock leaves the position half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::Other("the daemon is stopping".into())
}

/// A key in the space of the edge.
pub(crate) fn edge_key(key: impl Into<Vec<u8>>) -> RecordKey {
    RecordKey::new(Space::Edge, key)
}

/// A prefix and a number, in an order that is the number's.
pub(crate) fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number of a key made by [`numbered`].
pub(crate) fn number_of(prefix: &[u8], key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(prefix)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
