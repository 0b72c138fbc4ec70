//! Records in an SQLite database.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use fulmen_types::record::{RecordKey, Space, WriteBatch};
use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use crate::{KeyValue, Position, Store, StoreError, check_turn, lock::Lock, merge};

/// The database's `application_id`: "Fulm".
const APPLICATION_ID: i64 = 0x4675_6c6d;
/// The database's `user_version`: the newest layout that this software knows.
const VERSION: u32 = 1;

// A rowid table with an index beside it: measured faster here than WITHOUT ROWID, whose big rows make
// its tree deep.
const SCHEMA: &str = "
    CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        space INTEGER NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL
    );
    CREATE UNIQUE INDEX records_by_key ON records (space, key);
    CREATE TABLE writer (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        epoch INTEGER NOT NULL,
        batch_seq INTEGER NOT NULL
    );
    INSERT INTO writer (id, epoch, batch_seq) VALUES (1, 0, 0);
";

/// How an [`SqliteStore`] is opened.
#[derive(Clone, Debug, Default)]
pub struct SqliteOptions {
    /// The most pages (of 4 kB) that the database may have; no limit when `None`. At the limit appends
    /// fail with [`StoreError::Full`].
    pub max_page_count: Option<u32>,
}

/// What the live connection says of its durability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncMode {
    /// `PRAGMA journal_mode`: must be `wal`.
    pub journal_mode: String,
    /// `PRAGMA synchronous`: must be 2 (FULL).
    pub synchronous: i64,
}

impl SyncMode {
    /// Whether a commit survives a loss of power.
    pub fn is_durable(&self) -> bool {
        self.journal_mode == "wal" && self.synchronous >= 2
    }
}

/// Records in one SQLite database in WAL mode with `synchronous=FULL`.
pub struct SqliteStore {
    path: PathBuf,
    connection: Connection,
    _lock: Lock,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the database at `path`, made when there is none, and becomes its writer.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, &SqliteOptions::default())
    }

    /// Opens the database with options.
    pub fn open_with(path: impl AsRef<Path>, options: &SqliteOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let lock = Lock::take(&path)?;
        let connection = Connection::open(&path).map_err(|e| map(&path, e))?;
        let mut store = Self {
            path,
            connection,
            _lock: lock,
        };
        store.set_up(options)?;
        store.reopen()?;
        Ok(store)
    }

    /// What the live connection says of its durability.
    pub fn sync_mode(&self) -> Result<SyncMode, StoreError> {
        let read = |name: &str| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
        };
        let text = |value| match value {
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        };
        let number = |value| match value {
            rusqlite::types::Value::Integer(number) => number,
            _ => -1,
        };
        Ok(SyncMode {
            journal_mode: text(read("journal_mode").map_err(|e| self.map(e))?),
            synchronous: number(read("synchronous").map_err(|e| self.map(e))?),
        })
    }

    /// Reads the whole database and checks its structure. Takes time in proportion to its size.
    pub fn check(&self) -> Result<(), StoreError> {
        let verdict: String = self
            .connection
            .pragma_query_value(None, "integrity_check", |row| row.get(0))
            .map_err(|e| self.map(e))?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(StoreError::Corrupt {
                path: self.path.clone(),
                what: verdict,
            })
        }
    }

    /// Copies the database as it is now to a new file, while the store stays in use. A copy is for
    /// inspection: a node must never run on an old one.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let target = path.to_string_lossy();
        self.connection
            .execute("VACUUM INTO ?1", params![target.as_ref()])
            .map_err(|e| self.map(e))?;
        Ok(())
    }

    fn set_up(&mut self, options: &SqliteOptions) -> Result<(), StoreError> {
        let version = self.check_format()?;
        let set = |name: &str, value: &dyn rusqlite::ToSql| {
            self.connection
                .pragma_update(None, name, value)
                .map_err(|e| map(&self.path, e))
        };
        set("journal_mode", &"wal")?;
        set("synchronous", &"FULL")?;
        // Where the system's plain sync does not reach the platter, ask for the one that does.
        set("fullfsync", &true)?;
        set("checkpoint_fullfsync", &true)?;
        if let Some(pages) = options.max_page_count {
            set("max_page_count", &pages)?;
        }
        let mode = self.sync_mode()?;
        if !mode.is_durable() {
            return Err(StoreError::Other(format!(
                "the file system of {} does not let SQLite be durable ({mode:?}); put the data directory on a local disk",
                self.path.display()
            )));
        }
        if version == 0 {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|e| map(&self.path, e))?;
            let create = |transaction: rusqlite::Transaction<'_>| {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()
            };
            create(transaction).map_err(|e| map(&self.path, e))?;
        }
        Ok(())
    }

    /// The version of the layout; 0 for a database that is new.
    fn check_format(&self) -> Result<u32, StoreError> {
        let read = |name: &str| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(|e| self.map(e))
        };
        let application = read("application_id")?;
        let version = read("user_version")?;
        let corrupt = |what: &str| StoreError::Corrupt {
            path: self.path.clone(),
            what: what.into(),
        };
        if application == 0 && version == 0 {
            let tables: i64 = self
                .connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
                .map_err(|e| self.map(e))?;
            return if tables == 0 {
                Ok(0)
            } else {
                Err(corrupt("it is a database of another program"))
            };
        }
        if application != APPLICATION_ID {
            return Err(corrupt("it is a database of another program"));
        }
        match u32::try_from(version) {
            Ok(version @ 1..=VERSION) => Ok(version),
            Ok(found) if found > VERSION => Err(StoreError::NewerVersion {
                path: self.path.clone(),
                found,
                known: VERSION,
            }),
            _ => Err(corrupt("its version makes no sense")),
        }
    }

    fn map(&self, error: rusqlite::Error) -> StoreError {
        map(&self.path, error)
    }
}

impl Store for SqliteStore {
    fn append(
        &mut self,
        writer_epoch: u64,
        first_seq: u64,
        batches: &[WriteBatch],
    ) -> Result<(), StoreError> {
        let writes = merge(batches)?;
        let path = &self.path;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| map(path, e))?;
        let at = read_position(&transaction).map_err(|e| map(path, e))?;
        check_turn(at, writer_epoch, first_seq)?;
        let write = |transaction: rusqlite::Transaction<'_>| {
            {
                let mut put = transaction.prepare_cached(
                    "INSERT INTO records (space, key, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT (space, key) DO UPDATE SET value = excluded.value",
                )?;
                let mut delete = transaction
                    .prepare_cached("DELETE FROM records WHERE space = ?1 AND key = ?2")?;
                for (key, value) in writes {
                    let space = key.space.to_u8();
                    match value {
                        Some(value) => put.execute(params![space, key.key, value])?,
                        None => delete.execute(params![space, key.key])?,
                    };
                }
                let last = at.batch_seq.saturating_add(batches.len() as u64);
                transaction
                    .prepare_cached("UPDATE writer SET batch_seq = ?1 WHERE id = 1")?
                    .execute(params![last.cast_signed()])?;
            }
            transaction.commit()
        };
        write(transaction).map_err(|e| map(path, e))
    }

    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || {
            self.connection
                .prepare_cached("SELECT value FROM records WHERE space = ?1 AND key = ?2")?
                .query_row(params![key.space.to_u8(), key.key], |row| row.get(0))
                .optional()
        };
        read().map_err(|e| self.map(e))
    }

    fn scan(
        &mut self,
        space: Space,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = || {
            self.connection
                .prepare_cached(
                    "SELECT key, value FROM records
                     WHERE space = ?1 AND key >= ?2 ORDER BY key LIMIT ?3",
                )?
                .query_map(params![space.to_u8(), from, limit], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|e| self.map(e))
    }

    fn position(&mut self) -> Result<Position, StoreError> {
        read_position(&self.connection).map_err(|e| self.map(e))
    }

    fn reopen(&mut self) -> Result<Position, StoreError> {
        let path = &self.path;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| map(path, e))?;
        let take = || {
            let mut at = read_position(&transaction)?;
            at.writer_epoch = at.writer_epoch.saturating_add(1);
            transaction.execute(
                "UPDATE writer SET epoch = ?1 WHERE id = 1",
                params![at.writer_epoch.cast_signed()],
            )?;
            Ok(at)
        };
        let at = take().map_err(|e| map(path, e))?;
        transaction.commit().map_err(|e| map(path, e))?;
        Ok(at)
    }
}

fn read_position(connection: &Connection) -> Result<Position, rusqlite::Error> {
    connection
        .prepare_cached("SELECT epoch, batch_seq FROM writer WHERE id = 1")?
        .query_row([], |row| {
            Ok(Position {
                writer_epoch: row.get::<_, i64>(0)?.cast_unsigned(),
                batch_seq: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        })
}

fn map(path: &Path, error: rusqlite::Error) -> StoreError {
    let path = path.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
            path,
            what: error.to_string(),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { path },
        _ => StoreError::Sqlite { path, error },
    }
}
