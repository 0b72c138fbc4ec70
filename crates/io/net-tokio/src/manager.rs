//! Asks the policy, and does what it says.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fulmen_connect::{
    ConnId, ConnectConfig, ConnectionPolicy, Input, NodeAddresses, Output, Question, Refusal,
    Source, StandardPolicy, View,
};
use fulmen_types::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{dial::dial, net::Shared};

/// Something under way.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How long an answer of a directory may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Where addresses of nodes are looked up: the announced network, DNS seeds.
pub trait Directory: Send + Sync {
    /// The answer; none is an answer too.
    fn ask(&self, question: Question) -> Work<Vec<NodeAddresses>>;
}

/// Knows nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDirectory;

impl Directory for NoDirectory {
    fn ask(&self, _question: Question) -> Work<Vec<NodeAddresses>> {
        Box::pin(async { Vec::new() })
    }
}

/// Who decides when to connect and with whom.
pub struct Connections {
    /// The policy.
    pub policy: Box<dyn ConnectionPolicy>,
    /// Where it looks addresses up.
    pub directory: Arc<dyn Directory>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    /// The standard policy without a memory, which looks nowhere for addresses.
    pub fn standard(config: ConnectConfig) -> Self {
        let mut seed = [0; 32];
        // Without random bytes who gives way can be foreseen, which does no more harm than that.
        let _ = getrandom::fill(&mut seed);
        Self {
            policy: Box::new(StandardPolicy::new(config, seed, &[])),
            directory: Arc::new(NoDirectory),
        }
    }
}

pub(crate) struct Manager {
    policy: Mutex<Box<dyn ConnectionPolicy>>,
    directory: Arc<dyn Directory>,
    changed: Arc<Notify>,
    clock: Clock,
}

/// Time of the day that never goes back.
struct Clock {
    start: Timestamp,
    since: Instant,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            start: Timestamp::new(millis(since_epoch)),
            since: Instant::now(),
        }
    }

    fn now(&self) -> Timestamp {
        self.start.plus_millis(millis(self.since.elapsed()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Manager {
    pub(crate) fn new(connections: Connections) -> Self {
        Self {
            policy: Mutex::new(connections.policy),
            directory: connections.directory,
            changed: Arc::new(Notify::new()),
            clock: Clock::start(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut dyn ConnectionPolicy, Timestamp) -> T) -> T {
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, or an input could come with a time before that of the last.
        let now = self.clock.now();
        use_it(&mut **policy, now)
    }

    pub(crate) fn view(&self) -> View {
        self.with(|policy, now| policy.view(now))
    }

    pub(crate) fn memory(&self) -> Vec<u8> {
        self.with(|policy, now| policy.memory(now))
    }
}

impl Shared {
    /// Tells the policy what has happened and does what it says; the answer if that was a question.
    pub(crate) fn tell(self: &Arc<Self>, input: Input) -> Result<(), Refusal> {
        if *self.shutdown.borrow() {
            return Err(Refusal::Unwanted);
        }
        let answer = self.manager.with(|policy, now| {
            let mut answer = Ok(());
            // What is done under the lock is done in the policy's order.
            for output in policy.handle(now, input) {
                match output {
                    Output::Accept { .. } => {}
                    Output::Refuse { why, .. } => answer = Err(why),
                    Output::Drop { id, why } => self.drop_socket(id, why),
                    Output::Dial {
                        id,
                        peer,
                        addresses,
                    } => {
                        let killed = self.add_socket(id, Some(peer));
                        let dialling = dial(Arc::clone(self), id, peer, addresses, killed);
                        self.spawn(dialling);
                    }
                    Output::Ask(question) => self.ask(question),
                }
            }
            answer
        });
        self.manager.changed.notify_one();
        answer
    }

    /// In a task of its own, until shut down.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut shutdown = self.shutdown.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        });
    }

    fn ask(self: &Arc<Self>, question: Question) {
        let source = match question {
            Question::Graph { .. } => Source::Graph,
            Question::Seeds { .. } => Source::Seeds,
        };
        let answer = self.manager.directory.ask(question);
        let shared = Arc::downgrade(self);
        self.spawn(async move {
            let nodes = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
            let nodes = nodes.unwrap_or_default();
            if let Some(shared) = shared.upgrade() {
                // It is no question.
                let _ = shared.tell(Input::Heard { source, nodes });
            }
        });
    }

    /// A socket or dial that the policy may end.
    pub(crate) fn add_socket(&self, id: ConnId, dialled: Dialled) -> watch::Receiver<bool> {
        let (kill, killed) = watch::channel(false);
        self.state().sockets.insert(id, (Arc::new(kill), dialled));
        killed
    }

    pub(crate) fn remove_socket(&self, id: ConnId) {
        self.state().sockets.remove(&id);
    }

    /// Removes a socket and tells the policy how it ended.
    pub(crate) fn forget_socket(self: &Arc<Self>, id: ConnId, how: impl FnOnce() -> Input) {
        self.remove_socket(id);
        // It is no question.
        let _ = self.tell(how());
    }

    fn drop_socket(self: &Arc<Self>, id: ConnId, why: Refusal) {
        let found = self.state().sockets.remove(&id);
        let Some((kill, dialled)) = found else {
            return;
        };
        tracing::debug!(?id, %why, "connection dropped");
        kill.send_replace(true);
        // A dial that makes room for a newer one with the same peer ends with that one.
        let waits = dialled.filter(|_| why != Refusal::Replaced);
        if let Some(Ok(peer)) = waits.map(|peer| peer.to_public_key()) {
            let shared = Arc::clone(self);
            self.spawn(async move { shared.connect_failed(peer, why.to_string()).await });
        }
    }
}

/// With whom, while a dial is under way.
pub(crate) type Dialled = Option<fulmen_types::NodeId>;

/// Wakes the policy when it wants to be.
pub(crate) async fn keep_time(shared: Weak<Shared>) {
    let parts = shared.upgrade().map(|shared| {
        let changed = Arc::clone(&shared.manager.changed);
        (shared.shutdown.subscribe(), changed)
    });
    let Some((mut shutdown, changed)) = parts else {
        return;
    };
    loop {
        let wakes = shared.upgrade().map(|shared| {
            let manager = &shared.manager;
            manager.with(|policy, now| (now, policy.next_wake(now)))
        });
        let Some((now, wake)) = wakes else {
            return;
        };
        let wait = wake.map(|wake| Duration::from_millis(wake.millis_since(now).max(1)));
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                // It is no question.
                let _ = shared.tell(Input::Tick);
            }
            () = changed.notified() => {}
            // An error says that the network is gone.
            _ = shutdown.wait_for(|stop| *stop) => return,
        }
    }
}
