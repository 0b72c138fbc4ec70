//! A store that adapters share: what lies at the edge of the node.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fulmen_types::record::{RecordKey, Space, WriteBatch};

use crate::{KeyValue, Position, Store, StoreError};

/// A store of its own beside the node's, shared by adapters: the on-chain wallet with its leases, a log of
/// events. So they never wait for the node's commits, and need no common transaction with it: leases are
/// keyed by what the node asks for and asked for again after a restart, events are numbered by the node.
/// All its records are of [`Space::Edge`]; each user takes a prefix for its keys. Calls may wait for the
/// disk.
///
/// ```
/// use fulmen_persister::{EdgeStore, FileStore, edge_key};
/// use fulmen_types::record::WriteBatch;
///
/// # let dir = tempfile::tempdir()?;
/// let edge = EdgeStore::new(FileStore::open(dir.path().join("edge.log"))?)?;
/// let mut batch = WriteBatch::new();
/// batch.put(edge_key(*b"colour/sky"), b"blue".to_vec());
/// edge.write(batch)?;
/// assert_eq!(edge.load_prefix(b"colour/")?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct EdgeStore {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// `None` once closed.
    store: Option<Box<dyn Store>>,
    at: Position,
    /// A write has failed: the store is reopened before the next one.
    failed: bool,
}

impl EdgeStore {
    /// Shares a store that nobody else writes.
    ///
    /// # Errors
    /// What the store says when it is asked where it stands.
    pub fn new(mut store: impl Store + 'static) -> Result<Self, StoreError> {
        let at = store.position()?;
        Ok(Self {
            inner: Arc::new(Mutex::new(Inner {
                store: Some(Box::new(store)),
                at,
                failed: false,
            })),
        })
    }

    /// Makes all of it durable, or nothing. After a failure the store is opened anew at the next write.
    ///
    /// # Errors
    /// What the store says.
    pub fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
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

    /// One record.
    ///
    /// # Errors
    /// What the store says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut inner = self.lock();
        inner.store.as_mut().ok_or_else(closed)?.get(&edge_key(key))
    }

    /// At most `limit` records whose key begins with `prefix`, from the key `from` on.
    ///
    /// # Errors
    /// What the store says.
    pub fn scan_prefix(
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
    ///
    /// # Errors
    /// What the store says.
    pub fn load_prefix(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, StoreError> {
        const PAGE: usize = 1_000;
        let mut all = Vec::new();
        let mut from = prefix.to_vec();
        loop {
            let page = self.scan_prefix(prefix, &from, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(all);
            };
            from = crate::after(last);
            let is_last = page.len() < PAGE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Closes the file, whoever still holds a handle: the data directory is free afterwards.
    pub fn close(&self) {
        self.lock().store = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock leaves the position half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for EdgeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EdgeStore")
    }
}

fn closed() -> StoreError {
    StoreError::Other("it is closed".into())
}

/// A key in the space of the edge.
pub fn edge_key(key: impl Into<Vec<u8>>) -> RecordKey {
    RecordKey::new(Space::Edge, key)
}

/// A prefix and a number, in an order that is the number's.
pub fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number of a key made by [`numbered`].
pub fn number_of(prefix: &[u8], key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(prefix)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
