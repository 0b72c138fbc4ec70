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
use fulmen_connect::{ConnId, Input, Offence, Refusal, View};
use fulmen_noise::{Ecdh, HandshakeError};
use fulmen_types::{NodeId, Timestamp};
use fulmen_wire::{MAX_MESSAGE_LEN, Message};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use crate::{
    config::NetConfig,
    connection::{Connection, End},
    handshake::{Failure, Shaken, shake},
    manager::{Connections, Dialled, Manager, keep_time},
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
    pub(crate) manager: Manager,
    next_epoch: AtomicU64,
    next_socket: AtomicU64,
    state: Mutex<State>,
    pub(crate) shutdown: watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct State {
    live: BTreeMap<PublicKey, Live>,
    /// What ends each socket and dial, and whom a dial is for.
    pub(crate) sockets: BTreeMap<ConnId, (Arc<watch::Sender<bool>>, Dialled)>,
}

struct Live {
    epoch: Epoch,
    initiator: Initiator,
    since: Instant,
    queue: Arc<SendQueue>,
    kill: Arc<watch::Sender<bool>>,
    /// What the peer is blamed for by whoever ends the connection.
    blame: Option<Offence>,
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
    pub fn start(
        config: NetConfig,
        key: Arc<NodeKey>,
        connections: Connections,
    ) -> (Self, mpsc::Receiver<NetEvent>) {
        let (events, receiver) = mpsc::channel(config.event_queue.max(1));
        let shared = Shared {
            manager: Manager::new(connections),
            config,
            key,
            events,
            next_epoch: AtomicU64::new(1),
            next_socket: AtomicU64::new(1),
            state: Mutex::default(),
            shutdown: watch::Sender::new(false),
        };
        let shared = Arc::new(shared);
        tokio::spawn(keep_time(Arc::downgrade(&shared)));
        (Self { shared }, receiver)
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

    /// A user wants a connection, now and once. Its end is [`NetEvent::Connected`] or
    /// [`NetEvent::ConnectFailed`]; with a peer that is connected already nothing happens.
    pub fn connect(&self, peer: PublicKey, addresses: Vec<String>) {
        let peer = NodeId::from(peer);
        self.tell(Input::Connect { peer, addresses });
    }

    /// There are channels with a peer: the policy keeps a connection with it.
    pub fn keep_connected(&self, peer: PublicKey, addresses: Vec<String>) {
        let peer = NodeId::from(peer);
        self.tell(Input::Channel { peer, addresses });
    }

    /// There are no channels with a peer any more. A connection that is there may stay.
    pub fn stop_connecting(&self, peer: PublicKey) {
        self.tell(Input::NoChannel { peer: peer.into() });
    }

    /// A user wants a peer not to be dialled until [`Net::connect`] asks for it. A connection stays.
    pub fn rest(&self, peer: PublicKey) {
        self.tell(Input::Rest { peer: peer.into() });
    }

    /// A user does not want a peer at all. Without effect while there are channels with it.
    pub fn ban(&self, peer: PublicKey, until: Timestamp) {
        let peer = NodeId::from(peer);
        self.tell(Input::Ban { peer, until });
    }

    /// A user forgives a peer whatever it did.
    pub fn unban(&self, peer: PublicKey) {
        self.tell(Input::Unban { peer: peer.into() });
    }

    /// A peer did something that it should not have.
    pub fn misbehaved(&self, peer: PublicKey, offence: Offence) {
        let peer = NodeId::from(peer);
        self.tell(Input::Misbehaved { peer, offence });
    }

    /// What the policy knows.
    pub fn view(&self) -> View {
        self.shared.manager.view()
    }

    /// What the policy wants to remember over a restart.
    pub fn memory(&self) -> Vec<u8> {
        self.shared.manager.memory()
    }

    /// The time as the policy sees it.
    pub fn now(&self) -> Timestamp {
        self.shared.manager.now()
    }

    fn tell(&self, input: Input) {
        // None of these is a question.
        let _ = self.shared.tell(input);
    }

    /// Queues a message for a connection.
    pub fn send(&self, peer: PublicKey, epoch: Epoch, message: &Message) -> Result<(), SendError> {
        let bytes = message.encode();
        if bytes.len() > MAX_MESSAGE_LEN {
            return Err(SendError::TooLong);
        }
        let mut state = self.shared.state();
        let live = state.live.get_mut(&peer);
        let live = live.filter(|live| live.epoch == epoch);
        let live = live.ok_or(SendError::NotConnected)?;
        match live.queue.push(bytes) {
            Ok(()) => Ok(()),
            Err(PushError::Closing) => Err(SendError::NotConnected),
            Err(PushError::Full) => {
                tracing::info!(%peer, "the peer does not read what is sent; disconnecting");
                live.blame = Some(Offence::DoesNotRead);
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

    /// Ends a connection once what was queued before is out, and blames the peer if it is at fault.
    pub fn disconnect(&self, peer: PublicKey, epoch: Epoch, blame: Option<Offence>) {
        let mut state = self.shared.state();
        let live = state.live.get_mut(&peer);
        if let Some(live) = live.filter(|live| live.epoch == epoch) {
            live.blame = blame.or(live.blame);
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
        let state = self.shared.state();
        for live in state.live.values() {
            live.queue.close();
        }
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a new connection and registers it. `None` when the new one is to be dropped.
    async fn register(
        &self,
        id: ConnId,
        peer: PublicKey,
        initiator: Initiator,
    ) -> Option<Registered> {
        loop {
            if *self.shutdown.borrow() {
                return None;
            }
            let over = {
                let mut state = self.state();
                match state.live.get(&peer) {
                    None => {
                        // The policy may have dropped it meanwhile.
                        let kill = Arc::clone(&state.sockets.get(&id)?.0);
                        return Some(self.insert(&mut state, peer, initiator, kill));
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

    fn insert(
        &self,
        state: &mut State,
        peer: PublicKey,
        initiator: Initiator,
        kill: Arc<watch::Sender<bool>>,
    ) -> Registered {
        let epoch = Epoch(self.next_epoch.fetch_add(1, Ordering::Relaxed));
        let queue = Arc::new(SendQueue::new(self.config.send_queue_bytes));
        let (over_guard, over) = watch::channel(());
        let live = Live {
            epoch,
            initiator,
            since: Instant::now(),
            queue: Arc::clone(&queue),
            kill,
            blame: None,
            over,
        };
        state.live.insert(peer, live);
        Registered {
            epoch,
            queue,
            _over: over_guard,
        }
    }
}

/// How long after a connection was made one in the other direction counts as having crossed it.
const CROSSING: Duration = Duration::from_secs(5);

struct Registered {
    epoch: Epoch,
    queue: Arc<SendQueue>,
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
        let id = ConnId::In(shared.next_socket.fetch_add(1, Ordering::Relaxed));
        let mut killed = shared.add_socket(id, None);
        let ip = remote.ip();
        if let Err(why) = shared.tell(Input::Incoming { id, ip }) {
            tracing::debug!(%remote, %why, "connection refused");
            shared.remove_socket(id);
            continue;
        }
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let mut shutdown = shared.shutdown.subscribe();
            let shaking = async {
                socket.set_nodelay(true)?;
                let key = Arc::clone(&shared.key);
                let limit = shared.config.handshake_timeout;
                timeout(limit, shake(&mut socket, key, None))
                    .await
                    .map_err(|_| Failure::Timeout)?
            };
            let shaken = tokio::select! {
                shaken = shaking => shaken,
                _ = killed.wait_for(|killed| *killed) => {
                    Err(Failure::Unavailable("it had to give way".to_owned()))
                }
                _ = shutdown.wait_for(|stop| *stop) => {
                    Err(Failure::Unavailable("shutting down".to_owned()))
                }
            };
            match shaken {
                Ok(shaken) => {
                    let socket = Socket {
                        id,
                        socket,
                        shaken,
                        initiator: Initiator::Peer,
                        address: None,
                        killed,
                    };
                    serve(&shared, socket).await;
                }
                Err(failure) => {
                    tracing::debug!(%remote, %failure, "no handshake");
                    let offence = failure.offence();
                    shared.forget_socket(id, || Input::Ended { id, offence });
                }
            }
        });
    }
}

impl Failure {
    /// What the other end is to blame for.
    fn offence(&self) -> Option<Offence> {
        match self {
            Self::Handshake(HandshakeError::Ecdh(_)) => None,
            Self::Handshake(_) => Some(Offence::BadHandshake),
            // Lines break, and who waits too long may be far away.
            Self::Io(_) | Self::Timeout | Self::Unavailable(_) => None,
        }
    }
}

/// A socket whose peer has proven its key.
pub(crate) struct Socket {
    pub(crate) id: ConnId,
    pub(crate) socket: TcpStream,
    pub(crate) shaken: Shaken,
    pub(crate) initiator: Initiator,
    pub(crate) address: Option<String>,
    pub(crate) killed: watch::Receiver<bool>,
}

/// Serves a connection to its end, if the policy lets it.
pub(crate) async fn serve(shared: &Arc<Shared>, socket: Socket) {
    let Socket {
        id,
        socket,
        shaken,
        initiator,
        address,
        killed,
    } = socket;
    let peer = shaken.session.remote;
    let shared = Arc::clone(shared);
    if let Some((_, dialled)) = shared.state().sockets.get_mut(&id) {
        // Who waits for the dial hears of the connection from now on.
        *dialled = None;
    }
    let input = Input::Connected {
        id,
        peer: peer.into(),
        address: address.clone(),
    };
    if let Err(why) = shared.tell(input) {
        tracing::debug!(%peer, %why, "connection refused");
        shared.remove_socket(id);
        if initiator == Initiator::Us && why != Refusal::Unwanted {
            shared.connect_failed(peer, why.to_string()).await;
        }
        return;
    }
    // In a task of its own: a shutdown ends dials, but lets last words out.
    tokio::spawn(async move {
        let Some(mine) = shared.register(id, peer, initiator).await else {
            tracing::debug!(%peer, "connection dropped: there is one already");
            shared.forget_socket(id, || Input::Ended { id, offence: None });
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
        let mut offence = None;
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
            let End {
                reason,
                offence: seen,
            } = connection
                .run((read, write), noise, shaken.early, killed)
                .await;
            offence = seen;
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
        {
            let mut state = shared.state();
            let live = state.live.get(&peer).filter(|live| live.epoch == epoch);
            if let Some(live) = live {
                offence = live.blame.or(offence);
                state.live.remove(&peer);
            }
        }
        shared.forget_socket(id, || Input::Ended { id, offence });
    });
}
