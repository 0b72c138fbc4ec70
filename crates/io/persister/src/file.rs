//! Records in one append-only file.
//!
//! Each append writes one frame and syncs it before it returns, so only the last frame can be torn by a
//! crash: at open it is cut off. A broken frame with a sound one after it is damage, and refused. When
//! most of the file is dead, the live records are written to a new one that replaces it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use fulmen_types::record::{RecordKey, Space, WriteBatch};

use crate::{
    KeyValue, Position, Store, StoreError, check_turn,
    frame::{self, Found, HEADER_LEN, Header, HeaderFault},
    lock::{Lock, beside},
    merge,
};

/// How a [`FileStore`] is opened.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// The most bytes that the file may have; no limit when `None`. At the limit appends fail with
    /// [`StoreError::Full`].
    pub max_bytes: Option<u64>,
    /// Compact when the dead bytes are more than the live ones and than this.
    pub compact_above: u64,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            max_bytes: None,
            compact_above: 4 * 1024 * 1024,
        }
    }
}

/// Records in one append-only file, with an index of keys in memory. The values stay on disk.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    options: FileOptions,
    file: File,
    header: Header,
    index: BTreeMap<RecordKey, Place>,
    at: Position,
    end: u64,
    live: u64,
    failed: bool,
    _lock: Lock,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    len: u32,
}

impl Place {
    fn cost(key: &RecordKey, len: u32) -> u64 {
        8 + key.key.len() as u64 + u64::from(len)
    }
}

/// What a file holds.
struct Contents {
    header: Header,
    index: BTreeMap<RecordKey, Place>,
    at: Position,
    end: u64,
    live: u64,
}

impl FileStore {
    /// Opens the file at `path`, made when there is none, and becomes its writer.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, FileOptions::default())
    }

    /// Opens the file with options.
    pub fn open_with(path: impl AsRef<Path>, options: FileOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let lock = Lock::take(&path)?;
        // What a crash in the middle of a compaction leaves is worth nothing.
        match fs::remove_file(beside(&path, ".new")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::from_io(&path, e));
            }
            Ok(()) | Err(_) => {}
        }
        let io = |e| StoreError::from_io(&path, e);
        let exists = match fs::metadata(&path) {
            Ok(meta) => meta.len() > 0,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(io(e)),
        };
        if !exists {
            create(&path)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io)?;
        let contents = read_all(&path, &mut file)?;
        let mut store = Self {
            path,
            options,
            file,
            header: contents.header,
            index: contents.index,
            at: contents.at,
            end: contents.end,
            live: contents.live,
            failed: false,
            _lock: lock,
        };
        store.cut_tail()?;
        store.take_epoch()?;
        Ok(store)
    }

    /// Writes the live records to a new file that replaces this one.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let header = new_header()?;
        let mut index = BTreeMap::new();
        let mut live = 0;
        let mut offset = HEADER_LEN as u64;
        let keys: Vec<RecordKey> = self.index.keys().cloned().collect();
        let mut rest = keys.as_slice();
        let new = beside(&path, ".new");
        let io = |e| StoreError::from_io(&new, e);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&new)
            .map_err(io)?;
        file.write_all(&header.to_bytes()).map_err(io)?;
        // At least one frame, so that the position is in the file.
        while offset == HEADER_LEN as u64 || !rest.is_empty() {
            let mut values = Vec::new();
            let mut size = 0;
            while let Some((key, more)) = rest.split_first() {
                if size > FRAME_TARGET {
                    break;
                }
                let value = self.get_indexed(key)?.unwrap_or_default();
                size += value.len();
                values.push((key, value));
                rest = more;
            }
            let writes = values
                .iter()
                .map(|(k, v)| (*k, Some(v.as_slice())))
                .collect();
            let frame::Written { bytes, places } =
                frame::write(header, self.at.writer_epoch, self.at.next_seq(), 0, &writes)
                    .map_err(|_| StoreError::TooBig { space: Space::Edge })?;
            file.write_all(&bytes).map_err(io)?;
            for (key, place) in writes.keys().zip(places) {
                if let Some((at, len)) = place {
                    live += Place::cost(key, len);
                    index.insert(
                        (*key).clone(),
                        Place {
                            at: offset + at,
                            len,
                        },
                    );
                }
            }
            offset += bytes.len() as u64;
        }
        file.sync_all().map_err(io)?;
        fs::rename(&new, &path).map_err(io)?;
        sync_folder(&path)?;
        self.file = file;
        self.header = header;
        self.index = index;
        self.live = live;
        self.end = offset;
        self.failed = false;
        Ok(())
    }

    fn write_frame(
        &mut self,
        writer_epoch: u64,
        first_seq: u64,
        count: u32,
        writes: &BTreeMap<&RecordKey, Option<&[u8]>>,
    ) -> Result<(), StoreError> {
        let frame::Written { bytes, places } =
            frame::write(self.header, writer_epoch, first_seq, count, writes)
                .map_err(|_| StoreError::TooBig { space: Space::Edge })?;
        let end = self.end + bytes.len() as u64;
        if self.options.max_bytes.is_some_and(|max| end > max) {
            return Err(StoreError::Full {
                path: self.path.clone(),
            });
        }
        let mut write = || {
            self.file.seek(SeekFrom::Start(self.end))?;
            self.file.write_all(&bytes)?;
            self.file.sync_data()
        };
        if let Err(e) = write() {
            self.failed = true;
            return Err(StoreError::from_io(&self.path, e));
        }
        for (key, place) in writes.keys().zip(places) {
            let old = match place {
                Some((at, len)) => {
                    self.live += Place::cost(key, len);
                    self.index.insert(
                        (*key).clone(),
                        Place {
                            at: self.end + at,
                            len,
                        },
                    )
                }
                None => self.index.remove(*key),
            };
            if let Some(old) = old {
                self.live -= Place::cost(key, old.len);
            }
        }
        self.end = end;
        Ok(())
    }

    fn get_indexed(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(place) = self.index.get(key) else {
            return Ok(None);
        };
        let mut value = vec![0; place.len as usize];
        let mut file = &self.file;
        let mut read = || {
            file.seek(SeekFrom::Start(place.at))?;
            file.read_exact(&mut value)
        };
        read().map_err(|e| StoreError::from_io(&self.path, e))?;
        Ok(Some(value))
    }

    /// Cuts off what a crash left of an append that was never acknowledged.
    fn cut_tail(&mut self) -> Result<(), StoreError> {
        let io = |e| StoreError::from_io(&self.path, e);
        let len = self.file.metadata().map_err(io)?.len();
        if len > self.end {
            self.file.set_len(self.end).map_err(io)?;
            self.file.sync_all().map_err(io)?;
        }
        Ok(())
    }

    fn take_epoch(&mut self) -> Result<(), StoreError> {
        let epoch = self.at.writer_epoch.saturating_add(1);
        self.write_frame(epoch, self.at.next_seq(), 0, &BTreeMap::new())?;
        self.at.writer_epoch = epoch;
        Ok(())
    }

    fn is_mostly_dead(&self) -> bool {
        let dead = self.end.saturating_sub(self.live);
        dead > self.live && dead > self.options.compact_above
    }
}

/// How much goes into one frame of a compaction, about.
const FRAME_TARGET: usize = 1024 * 1024;

impl Store for FileStore {
    fn append(
        &mut self,
        writer_epoch: u64,
        first_seq: u64,
        batches: &[WriteBatch],
    ) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        check_turn(self.at, writer_epoch, first_seq)?;
        let writes = merge(batches)?;
        let count = u32::try_from(batches.len())
            .map_err(|_| StoreError::Other("too many batches in one append".into()))?;
        self.write_frame(writer_epoch, first_seq, count, &writes)?;
        self.at.batch_seq = self.at.batch_seq.saturating_add(u64::from(count));
        if self.is_mostly_dead() {
            // The append is durable already: a compaction that fails is no reason to fail it.
            if self.compact().is_err() {
                self.options.compact_above = self.options.compact_above.saturating_mul(2);
            }
        }
        Ok(())
    }

    fn get(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.get_indexed(key)
    }

    fn scan(
        &mut self,
        space: Space,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreError> {
        self.index
            .range(RecordKey::new(space, from)..)
            .take_while(|(key, _)| key.space == space)
            .take(limit)
            .map(|(key, _)| Ok((key.key.clone(), self.get_indexed(key)?.unwrap_or_default())))
            .collect()
    }

    fn position(&mut self) -> Result<Position, StoreError> {
        Ok(self.at)
    }

    fn reopen(&mut self) -> Result<Position, StoreError> {
        let contents = read_all(&self.path, &mut self.file)?;
        self.header = contents.header;
        self.index = contents.index;
        self.at = contents.at;
        self.end = contents.end;
        self.live = contents.live;
        if self.failed {
            // After a failed sync the system may hold as clean what never reached the disk: write it all
            // again, to a new file.
            self.compact()?;
        }
        self.cut_tail()?;
        self.take_epoch()?;
        Ok(self.at)
    }
}

fn read_all(path: &Path, file: &mut File) -> Result<Contents, StoreError> {
    let io = |e| StoreError::from_io(path, e);
    let corrupt = |what: String| StoreError::Corrupt {
        path: path.to_path_buf(),
        what,
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.read_to_end(&mut bytes).map_err(io)?;
    let header = match Header::parse(&bytes) {
        Ok(header) => header,
        Err(HeaderFault::Newer(found)) => {
            return Err(StoreError::NewerVersion {
                path: path.to_path_buf(),
                found,
                known: frame::VERSION,
            });
        }
        Err(HeaderFault::Foreign) => return Err(corrupt("it does not start as a store".into())),
    };
    let mut contents = Contents {
        header,
        index: BTreeMap::new(),
        at: Position {
            writer_epoch: 0,
            batch_seq: 0,
        },
        end: HEADER_LEN as u64,
        live: 0,
    };
    let mut rest = &bytes[HEADER_LEN..];
    while !rest.is_empty() {
        let frame = match frame::read(header, rest) {
            Found::Frame(frame) => frame,
            Found::Foreign => {
                return Err(corrupt(format!(
                    "the batch at {} has records of a newer version of the software",
                    contents.end
                )));
            }
            Found::Nothing if frame::any_after(header, rest) => {
                return Err(corrupt(format!(
                    "the bytes at {} have changed",
                    contents.end
                )));
            }
            Found::Nothing => break,
        };
        let first = contents.end == HEADER_LEN as u64;
        let fits = frame.first_seq == contents.at.next_seq()
            && frame.writer_epoch >= contents.at.writer_epoch;
        if !first && !fits {
            return Err(corrupt(format!(
                "the batch at {} is out of order",
                contents.end
            )));
        }
        contents.at = frame.position();
        for (key, place) in frame.writes {
            let old = match place {
                Some((at, len)) => {
                    contents.live += Place::cost(&key, len);
                    contents.index.insert(
                        key.clone(),
                        Place {
                            at: contents.end + at,
                            len,
                        },
                    )
                }
                None => contents.index.remove(&key),
            };
            if let Some(old) = old {
                contents.live -= Place::cost(&key, old.len);
            }
        }
        contents.end += frame.len;
        rest = usize::try_from(frame.len)
            .ok()
            .and_then(|len| rest.get(len..))
            .unwrap_or(&[]);
    }
    Ok(contents)
}

/// Makes an empty log, durably.
fn create(path: &Path) -> Result<(), StoreError> {
    let new = beside(path, ".new");
    let io = |e| StoreError::from_io(&new, e);
    let mut file = File::create(&new).map_err(io)?;
    file.write_all(&new_header()?.to_bytes()).map_err(io)?;
    file.sync_all().map_err(io)?;
    fs::rename(&new, path).map_err(io)?;
    sync_folder(path)
}

fn new_header() -> Result<Header, StoreError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|e| StoreError::Other(format!("the system gives no random bytes: {e}")))?;
    Ok(Header { salt })
}

/// Makes a rename durable.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    // Folders can't be opened for this everywhere; where they can't, renames are durable by themselves.
    if let Ok(folder_file) = File::open(folder) {
        folder_file
            .sync_all()
            .map_err(|e| StoreError::from_io(folder, e))?;
    }
    Ok(())
}
