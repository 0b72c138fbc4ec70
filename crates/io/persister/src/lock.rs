//! One process per store: an exclusive lock on a file beside it, freed by the system when the process
//! ends in whatever way.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use fs4::fs_std::FileExt;

use crate::StoreError;

/// How often a lock is asked for.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// Held as long as the store is open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(store: &Path) -> Result<Self, StoreError> {
        let path = beside(store, ".lock");
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StoreError::from_io(&path, e))?;
        // A process that this one starts shares its locks for the moment before it becomes another program:
        // a store that was just closed may be held a little longer.
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            if FileExt::try_lock_exclusive(&file).map_err(|e| StoreError::from_io(&path, e))? {
                return Ok(Self { _file: file });
            }
        }
        Err(StoreError::Locked {
            path: store.to_path_buf(),
        })
    }
}

/// The path with something added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}
