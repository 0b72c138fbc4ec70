//! The store's thread: group commit, and reads in their turn.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fulmen_persister::{KeyValue, Position, Store, StoreError, load_for_start};
use fulmen_types::record::{RecordKey, Space, WriteBatch};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

/// The most batches and bytes of one commit.
const MAX_GROUP: usize = 512;
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How long to wait before a failed commit is tried again in enforce-only mode.
const RETRY: Duration = Duration::from_secs(1);

/// The records that a node starts from.
pub type Records = Vec<(RecordKey, Vec<u8>)>;

/// What the store's thread tells the driver.
#[derive(Debug)]
pub(crate) enum StoreNews {
    /// The batches of all steps up to this one are durable.
    Committed(u64),
    /// A commit failed: nothing is stored until a reload.
    Failed(StoreError),
}

type Access = Box<dyn FnOnce(&mut dyn Store) + Send>;

/// What the store's thread is asked.
enum Work {
    /// A step's batch.
    Step { seq: u64, batch: WriteBatch },
    /// A batch of the edge, with its answer.
    Edge {
        batch: WriteBatch,
        done: Sender<Result<(), StoreUnavailable>>,
    },
    /// Anything else, in its turn.
    Access(Access),
    /// Drop what is not durable, and read the records again. From then on failed commits are tried again.
    Reload(oneshot::Sender<Result<Records, StoreError>>),
    /// Store what is there, and end.
    Stop,
}

/// The store could not do it, or the driver has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUnavailable(pub String);

impl fmt::Display for StoreUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreUnavailable {}

/// How much was stored in how many commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CommitStats {
    /// Commits.
    pub commits: u64,
    /// Batches in them.
    pub batches: u64,
}

#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    batches: AtomicU64,
}

/// The node's store for the adapters at the edge: reads, and records of [`Space::Edge`]. All calls block:
/// they are for threads that may.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    work: Sender<Work>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

impl StoreHandle {
    /// Makes a batch durable. It may hold records of [`Space::Edge`] only: the others are the node's.
    pub fn write(&self, batch: WriteBatch) -> Result<(), StoreUnavailable> {
        if batch.iter().any(|(key, _)| key.space != Space::Edge) {
            return Err(StoreUnavailable(
                "only the node writes records outside Edge".to_owned(),
            ));
        }
        let (done, result) = mpsc::channel();
        self.send(Work::Edge { batch, done })?;
        result.recv().map_err(|_| ended())?
    }

    /// One record.
    pub fn get(&self, key: RecordKey) -> Result<Option<Vec<u8>>, StoreUnavailable> {
        self.access(move |store| store.get(&key))
    }

    /// Several records at one moment, in the order of the keys.
    pub fn get_all(&self, keys: Vec<RecordKey>) -> Result<Vec<Option<Vec<u8>>>, StoreUnavailable> {
        self.access(move |store| keys.iter().map(|key| store.get(key)).collect())
    }

    /// A page of a space: see [`Store::scan`].
    pub fn scan(
        &self,
        space: Space,
        from: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, StoreUnavailable> {
        self.access(move |store| store.scan(space, &from, limit))
    }

    /// How much was stored in how many commits.
    pub fn stats(&self) -> CommitStats {
        CommitStats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            batches: self.counters.batches.load(Ordering::Relaxed),
        }
    }

    fn access<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        let (done, result) = mpsc::channel();
        self.send(Work::Access(Box::new(move |store| {
            // Who asked may have gone.
            let _ = done.send(read(store).map_err(|e| StoreUnavailable(e.to_string())));
        })))?;
        result.recv().map_err(|_| ended())?
    }

    /// One record, without waiting: `answer` is called on the store's thread.
    pub(crate) fn get_then(
        &self,
        key: RecordKey,
        answer: impl FnOnce(Result<Option<Vec<u8>>, StoreError>) + Send + 'static,
    ) {
        let _ = self.send(Work::Access(Box::new(move |store| answer(store.get(&key)))));
    }

    pub(crate) fn store(&self, seq: u64, batch: WriteBatch) {
        let _ = self.send(Work::Step { seq, batch });
    }

    pub(crate) async fn reload(&self) -> Result<Records, StoreError> {
        let (done, result) = oneshot::channel();
        let gone = |_| StoreError::Other("the store's thread has ended".to_owned());
        self.send(Work::Reload(done))
            .map_err(|e| StoreError::Other(e.0))?;
        result.await.map_err(gone)?
    }

    pub(crate) fn stop(&self) {
        let _ = self.send(Work::Stop);
    }

    fn send(&self, work: Work) -> Result<(), StoreUnavailable> {
        self.work.send(work).map_err(|_| ended())
    }
}

fn ended() -> StoreUnavailable {
    StoreUnavailable("the node is shutting down".to_owned())
}

/// Starts the thread.
pub(crate) fn start(
    mut store: Box<dyn Store>,
    news: UnboundedSender<StoreNews>,
) -> Result<(StoreHandle, Records, JoinHandle<()>), StoreError> {
    let at = store.position()?;
    let records = load_for_start(store.as_mut())?;
    let (work, receiver) = mpsc::channel();
    let counters = Arc::new(Counters::default());
    let committer = Committer {
        store,
        work: receiver,
        backlog: VecDeque::new(),
        at,
        news,
        failed: None,
        retries: false,
        counters: Arc::clone(&counters),
    };
    let thread = std::thread::Builder::new()
        .name("fulmen-store".to_owned())
        .spawn(move || committer.run())
        .map_err(|e| StoreError::Other(format!("no thread for the store: {e}")))?;
    Ok((StoreHandle { work, counters }, records, thread))
}

struct Committer {
    store: Box<dyn Store>,
    work: Receiver<Work>,
    /// Work that came out of its turn.
    backlog: VecDeque<Work>,
    at: Position,
    news: UnboundedSender<StoreNews>,
    /// Why nothing is stored until a reload.
    failed: Option<String>,
    /// Enforce-only mode: failed commits are tried again until they succeed.
    retries: bool,
    counters: Arc<Counters>,
}

/// Batches that become durable together.
#[derive(Default)]
struct Group {
    batches: Vec<WriteBatch>,
    bytes: usize,
    last_step: Option<u64>,
    edges: Vec<Sender<Result<(), StoreUnavailable>>>,
}

impl Group {
    fn is_full(&self) -> bool {
        self.batches.len() >= MAX_GROUP || self.bytes >= MAX_GROUP_BYTES
    }

    /// Takes a batch, or gives back what is none.
    fn take(&mut self, work: Work) -> Result<(), Work> {
        let batch = match work {
            Work::Step { seq, batch } => {
                self.last_step = Some(seq);
                batch
            }
            Work::Edge { batch, done } => {
                self.edges.push(done);
                batch
            }
            other => return Err(other),
        };
        self.bytes += batch.size();
        self.batches.push(batch);
        Ok(())
    }
}

impl Committer {
    fn run(mut self) {
        while let Some(first) = self.wait() {
            let mut group = Group::default();
            match group.take(first) {
                Ok(()) => {}
                Err(Work::Access(access)) => {
                    access(self.store.as_mut());
                    continue;
                }
                Err(Work::Reload(done)) => {
                    let _ = done.send(self.reload());
                    continue;
                }
                Err(Work::Stop | Work::Step { .. } | Work::Edge { .. }) => return,
            }
            // Group commit: whatever has come meanwhile goes along.
            while !group.is_full() {
                let Some(more) = self
                    .backlog
                    .pop_front()
                    .or_else(|| self.work.try_recv().ok())
                else {
                    break;
                };
                if let Err(other) = group.take(more) {
                    self.backlog.push_front(other);
                    break;
                }
            }
            if !self.commit(group) {
                return;
            }
        }
    }

    fn wait(&mut self) -> Option<Work> {
        match self.backlog.pop_front() {
            Some(work) => Some(work),
            None => self.work.recv().ok(),
        }
    }

    /// `false` when it is told to stop before the group could be stored.
    fn commit(&mut self, group: Group) -> bool {
        if self.failed.is_none() {
            match self.append(&group.batches) {
                Ok(()) => {}
                Err(error) if self.retries && !is_final(&error) => {
                    tracing::error!(%error, "a commit failed again; trying until it succeeds");
                    if !self.append_at_last(&group.batches) {
                        return false;
                    }
                }
                Err(error) => {
                    self.failed = Some(error.to_string());
                    let _ = self.news.send(StoreNews::Failed(error));
                }
            }
        }
        let result = match &self.failed {
            Some(why) => Err(StoreUnavailable(why.clone())),
            None => Ok(()),
        };
        if result.is_ok() {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.counters
                .batches
                .fetch_add(group.batches.len() as u64, Ordering::Relaxed);
            if let Some(seq) = group.last_step {
                let _ = self.news.send(StoreNews::Committed(seq));
            }
        }
        for edge in group.edges {
            let _ = edge.send(result.clone());
        }
        true
    }

    fn append(&mut self, batches: &[WriteBatch]) -> Result<(), StoreError> {
        self.store
            .append(self.at.writer_epoch, self.at.next_seq(), batches)?;
        self.at.batch_seq = self.at.batch_seq.saturating_add(batches.len() as u64);
        Ok(())
    }

    /// Tries until the batches are there; reads go on meanwhile. `false` when it is told to stop.
    fn append_at_last(&mut self, batches: &[WriteBatch]) -> bool {
        let wanted = self.at.batch_seq.saturating_add(batches.len() as u64);
        let mut next_try = Instant::now() + RETRY;
        loop {
            let wait = next_try.saturating_duration_since(Instant::now());
            // Work that comes all the time must not put the next attempt off.
            if !wait.is_zero() {
                match self.work.recv_timeout(wait) {
                    Ok(Work::Access(access)) => access(self.store.as_mut()),
                    Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                    Ok(other) => self.backlog.push_back(other),
                    Err(RecvTimeoutError::Timeout) => {}
                }
                continue;
            }
            next_try = Instant::now() + RETRY;
            // The failed append may have arrived all the same.
            let Ok(at) = self.store.reopen() else {
                continue;
            };
            let arrived = at.batch_seq == wanted;
            self.at = at;
            if arrived || self.append(batches).is_ok() {
                tracing::info!("the store takes commits again");
                return true;
            }
        }
    }

    fn reload(&mut self) -> Result<Records, StoreError> {
        self.at = self.store.reopen()?;
        let records = load_for_start(self.store.as_mut())?;
        self.failed = None;
        self.retries = true;
        Ok(records)
    }
}

/// Errors after which this writer must not go on.
fn is_final(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Fenced { .. } | StoreError::OutOfOrder { .. }
    )
}
