//! The network's handle, and what the tasks of all connections share.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bitcoin::secp256k1::PublicKey;
use fulmen_noise::Ecdh;
use fulmen_wire::{MAX_MESSAGE_LEN, Message};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    config::NetConfig,
    connection::Connection,
    dial::{dial_once, keep_dialling},
    handshake::{Shaken, shake},
    queue::{PushError, SendQueue},
};

/// Our key, wherever it lives.
pub type NodeKey = dyn Ecdh + Send + Sync;

/// One connection; never used twice within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// We dialled.
    Us,
    /// The peer dialled.
    Peer,
}

/// What happens. Of one connection, in this order: connected, messages, disconnected; and all of an older
/// one comes before all of a newer one with the same peer.
#[derive(Clone, Debug)]
pub enum NetEvent {
    /// A connection stands: the peer has proven its key.
    Connected {
        /// The peer's key.
        peer: PublicKey,
        /// The connection.
        epoch: Epoch,
        /// Who opened it.
        initiator: Initiator,
        /// What we dialled, if we did: there the peer can be reached again.
        address: Option<String>,
        /// The other end of the socket.
        remote: Option<SocketAddr>,
    },
    /// A message, pings and pongs excepted.
    Message {
        /// The peer.
        peer: PublicKey,
        /// The connection.
        epoch: Epoch,
        /// The message.
        message: Message,
    },
    /// A connection has ended.
    Disconnected {
        /// The peer.
        peer: PublicKey,
        /// The connection.
        epoch: Epoch,
        /// Why, for the log.
        reason: String,
    },
    /// No address of a peer answered as that peer.
    ConnectFailed {
        /// The peer.
        peer: PublicKey,
        /// Why, at the last address.
        reason: String,
    },
}

/// Why a message will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection has ended, or is about to.
    NotConnected,
    /// The peer does not read what we send: the connection is being closed.
    QueueFull,
    /// The message is longer than a message can be.
    TooLong,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnected => "the connection has ended",
            Self::QueueFull => "the peer does not read what is sent",
            Self::TooLong => "the message is longer than 65535 bytes",
        })
    }
}

impl std::error::Error for SendError {}

/// The network. Clones are handles of the same one; [`Net::shutdown`] ends it.
#[derive(Clone)]
pub struct Net {
    pub(crate) shared: Arc<Shared>,
}

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) config: NetConfig,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) events: mpsc::Sender<NetEvent>,
    next_epoch: AtomicU64,
    handshakes: Arc<Semaphore>,
    state: Mutex<State>,
    shutdown: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    live: BTreeMap<PublicKey, Live>,
    wanted: BTreeMap<PublicKey, JoinHandle<()>>,
}

struct Live {
    epoch: Epoch,
    initiator: Initiator,
    since: Instant,
    queue: Arc<SendQueue>,
    kill: watch::Sender<bool>,
    /// Closed when the connection's last event is out.
    over: watch::Receiver<()>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("node_id", &self.node_id())
            .finish_non_exhaustive()
    }
}

impl Net {
    /// A network without connections, and its events. To be called within a tokio runtime.
    pub fn start(config: NetConfig, key: Arc<NodeKey>) -> (Self, mpsc::Receiver<NetEvent>) {
        let (events, receiver) = mpsc::channel(config.event_queue.max(1));
        let shared = Shared {
            handshakes: Arc::new(Semaphore::new(config.max_handshakes.max(1))),
            config,
            key,
            events,
            next_epoch: AtomicU64::new(1),
            state: Mutex::default(),
            shutdown: watch::Sender::new(false),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            receiver,
        )
    }

    /// Our node id.
    pub fn node_id(&self) -> PublicKey {
        self.shared.key.public_key()
    }

    /// Listens on an address, `host:port`, until shut down. Port 0 takes a free one.
    pub async fn listen(&self, address: &str) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let mut shutdown = shared.shutdown.subscribe();
            tokio::select! {
                () = accept(&shared, listener) => {}
                _ = shutdown.wait_for(|stop| *stop) => {}
            }
        });
        Ok(local)
    }

    /// Dials a peer once, best address first. Its end is [`NetEvent::Connected`] or
    /// [`NetEvent::ConnectFailed`]; with a peer that is connected already nothing happens.
    pub fn connect(&self, peer: PublicKey, addresses: Vec<String>) {
        tokio::spawn(
            self.clone()
                .until_shutdown(dial_once(self.clone(), peer, addresses)),
        );
    }

    /// Keeps a connection with a peer: dials now, and again whenever there is none. Inbound connections of
    /// the peer are taken beyond the limit.
    pub fn want(&self, peer: PublicKey, addresses: Vec<String>) {
        let dialling = keep_dialling(self.clone(), peer, addresses);
        let task = tokio::spawn(self.clone().until_shutdown(dialling));
        if let Some(old) = self.shared.state().wanted.insert(peer, task) {
            // The connection itself, should the old task serve one, goes on elsewhere: see `serve`.
            old.abort();
        }
    }

    /// Keeps no connection with a peer. One that is there stays.
    pub fn unwant(&self, peer: PublicKey) {
        if let Some(task) = self.shared.state().wanted.remove(&peer) {
            task.abort();
        }
    }

    /// Queues a message for a connection.
    pub fn send(&self, peer: PublicKey, epoch: Epoch, message: &Message) -> Result<(), SendError> {
        let bytes = message.encode();
        if bytes.len() > MAX_MESSAGE_LEN {
            return Err(SendError::TooLong);
        }
        let state = self.shared.state();
        let live = state.live.get(&peer).filter(|live| live.epoch == epoch);
        let live = live.ok_or(SendError::NotConnected)?;
        match live.queue.push(bytes) {
            Ok(()) => Ok(()),
            Err(PushError::Closing) => Err(SendError::NotConnected),
            Err(PushError::Full) => {
                tracing::info!(%peer, "the peer does not read what is sent; disconnecting");
                live.kill.send_replace(true);
                Err(SendError::QueueFull)
            }
        }
    }

    /// How many bytes wait to be sent on a connection; `None` when it has ended.
    pub fn queued_bytes(&self, peer: PublicKey, epoch: Epoch) -> Option<usize> {
        let state = self.shared.state();
        state
            .live
            .get(&peer)
            .filter(|live| live.epoch == epoch)
            .map(|live| live.queue.bytes())
    }

    /// Ends a connection once what was queued before is out.
    pub fn disconnect(&self, peer: PublicKey, epoch: Epoch) {
        let state = self.shared.state();
        if let Some(live) = state.live.get(&peer).filter(|live| live.epoch == epoch) {
            live.queue.close();
        }
    }

    /// Whether there is a connection with a peer.
    pub fn is_connected(&self, peer: PublicKey) -> bool {
        self.shared.state().live.contains_key(&peer)
    }

    /// Ends everything: listeners, dials, and connections once what was queued is out.
    pub fn shutdown(&self) {
        self.shared.shutdown.send_replace(true);
        let mut state = self.shared.state();
        for (_, task) in std::mem::take(&mut state.wanted) {
            task.abort();
        }
        for live in state.live.values() {
            live.queue.close();
        }
    }

    async fn until_shutdown(self, work: impl Future<Output = ()>) {
        let mut shutdown = self.shared.shutdown.subscribe();
        tokio::select! {
            () = work => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there is no connection with the peer.
    pub(crate) async fn until_disconnected(&self, peer: PublicKey) {
        loop {
            let over = self.state().live.get(&peer).map(|live| live.over.clone());
            let Some(mut over) = over else { return };
            // It never changes: the error is that its other end was dropped.
            let _ = over.changed().await;
        }
    }

    /// Makes room for a new connection and registers it. `None` when the new one is to be dropped.
    async fn register(&self, peer: PublicKey, initiator: Initiator) -> Option<Registered> {
        loop {
            if *self.shutdown.borrow() {
                return None;
            }
            let over = {
                let mut state = self.state();
                match state.live.get(&peer) {
                    None => {
                        let crowded = initiator == Initiator::Peer
                            && !state.wanted.contains_key(&peer)
                            && self.is_crowded(&state);
                        return (!crowded).then(|| self.insert(&mut state, peer, initiator));
                    }
                    Some(old) if self.keeps_old(old, peer, initiator) => return None,
                    Some(old) => {
                        old.kill.send_replace(true);
                        old.over.clone()
                    }
                }
            };
            let mut over = over;
            let _ = over.changed().await;
        }
    }

    fn is_crowded(&self, state: &State) -> bool {
        let strangers = state
            .live
            .iter()
            .filter(|(p, l)| l.initiator == Initiator::Peer && !state.wanted.contains_key(p));
        strangers.count() >= self.config.max_inbound
    }

    /// A new connection replaces an old one, with one exception: where both sides dialled at the same time,
    /// both keep the connection that the lesser key has opened, or they would end each other's.
    fn keeps_old(&self, old: &Live, peer: PublicKey, new: Initiator) -> bool {
        let preferred = if self.key.public_key() < peer {
            Initiator::Us
        } else {
            Initiator::Peer
        };
        old.initiator != new
            && old.since.elapsed() < CROSSING
            && old.initiator == preferred
            && !*old.kill.borrow()
            && !old.queue.is_closing()
    }

    fn insert(&self, state: &mut State, peer: PublicKey, initiator: Initiator) -> Registered {
        let epoch = Epoch(self.next_epoch.fetch_add(1, Ordering::Relaxed));
        let queue = Arc::new(SendQueue::new(self.config.send_queue_bytes));
        let (kill, killed) = watch::channel(false);
        let (over_guard, over) = watch::channel(());
        let live = Live {
            epoch,
            initiator,
            since: Instant::now(),
            queue: Arc::clone(&queue),
            kill,
            over,
        };
        state.live.insert(peer, live);
        Registered {
            epoch,
            queue,
            killed,
            _over: over_guard,
        }
    }
}

/// How long after a connection was made one in the other direction counts as having crossed it.
const CROSSING: Duration = Duration::from_secs(5);

struct Registered {
    epoch: Epoch,
    queue: Arc<SendQueue>,
    killed: watch::Receiver<bool>,
    _over: watch::Sender<()>,
}

async fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    loop {
        let (mut socket, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of sockets, say: it passes.
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
            tracing::debug!(%remote, "too many handshakes at once; connection dropped");
            continue;
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let mut shutdown = shared.shutdown.subscribe();
            let shaking = async {
                socket.set_nodelay(true).ok()?;
                let key = Arc::clone(&shared.key);
                let limit = shared.config.handshake_timeout;
                match timeout(limit, shake(&mut socket, key, None)).await {
                    Ok(Ok(shaken)) => Some(shaken),
                    Ok(Err(failure)) => {
                        tracing::debug!(%remote, %failure, "handshake failed");
                        None
                    }
                    Err(_) => {
                        tracing::debug!(%remote, "handshake timed out");
                        None
                    }
                }
            };
            let shaken = tokio::select! {
                shaken = shaking => shaken,
                _ = shutdown.wait_for(|stop| *stop) => None,
            };
            drop(permit);
            if let Some(shaken) = shaken {
                serve(&shared, socket, shaken, Initiator::Peer, None).await;
            }
        });
    }
}

/// Serves a connection to its end, in a task of its own: aborting who waits does not end it.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    socket: TcpStream,
    shaken: Shaken,
    initiator: Initiator,
    address: Option<String>,
) {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let peer = shaken.session.remote;
        let Some(mine) = shared.register(peer, initiator).await else {
            tracing::debug!(%peer, "connection dropped: there is one already, or there are too many");
            return;
        };
        let epoch = mine.epoch;
        let remote = socket.peer_addr().ok();
        let connected = NetEvent::Connected {
            peer,
            epoch,
            initiator,
            address,
            remote,
        };
        if shared.events.send(connected).await.is_ok() {
            tracing::debug!(%peer, epoch = epoch.0, ?initiator, "connected");
            let connection = Connection {
                shared: &shared,
                peer,
                epoch,
                queue: &mine.queue,
            };
            let (read, write) = socket.into_split();
            let noise = shaken.session.transport.split();
            let reason = connection
                .run((read, write), noise, shaken.early, mine.killed.clone())
                .await;
            tracing::debug!(%peer, epoch = epoch.0, reason, "disconnected");
            let _ = shared
                .events
                .send(NetEvent::Disconnected {
                    peer,
                    epoch,
                    reason,
                })
                .await;
        }
        let mut state = shared.state();
        if state
            .live
            .get(&peer)
            .is_some_and(|live| live.epoch == epoch)
        {
            state.live.remove(&peer);
        }
    });
    let _ = task.await;
}
