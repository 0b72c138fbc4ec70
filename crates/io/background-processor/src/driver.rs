//! The driver on tokio: the node on one task, its store on a thread, its ports around it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bitcoin::secp256k1::PublicKey;
use fulmen_node::{
    ActionKind, Boot, CommandError, CommandId, ConnEpoch, DisconnectReason, Effects, Input,
    NoteLevel, Reply,
};
use fulmen_persister::{Store, StoreError};
use fulmen_types::{Feerates, Timestamp};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    asks::Outside,
    committer::{self, Records, StoreHandle, StoreNews},
    events::EventHub,
    gossip::{GossipChecks, is_gossip},
    handle::{CommandRequest, DriverStatus, NodeHandle, Query},
    heart::{Heart, Mode, Restore, Start},
    lanes::SigningResult,
    ports::{PeerSource, Ports},
    release::{Released, Releaser, RunAhead},
    route_graph::RouteGraph,
};

/// How a driver runs.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// How far the node may be ahead of its store before peers and commands wait.
    pub run_ahead: RunAhead,
    /// How often feerates are estimated.
    pub fee_interval: Duration,
    /// How long the last words before a disconnect may take.
    pub disconnect_patience: Duration,
    /// How long a shutdown may take until the rest is dropped, as a crash would.
    pub shutdown_patience: Duration,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            run_ahead: RunAhead::default(),
            fee_interval: Duration::from_secs(30),
            disconnect_patience: Duration::from_secs(5),
            shutdown_patience: Duration::from_secs(10),
        }
    }
}

/// Why a driver did not start, or stopped by itself.
#[derive(Debug)]
pub enum DriverError {
    /// The store.
    Store(StoreError),
    /// The node can't be made from its records.
    Restore(Box<dyn std::error::Error + Send + Sync>),
    /// The system gives no random bytes.
    Entropy(String),
    /// After a failed commit the records could not be read again either.
    Reload {
        /// Why the commit failed.
        commit: String,
        /// Why the reload failed.
        reload: Box<DriverError>,
    },
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(f, "{error}"),
            Self::Restore(error) => write!(f, "{error}"),
            Self::Entropy(error) => write!(f, "the system gives no random bytes: {error}"),
            Self::Reload { commit, reload } => write!(
                f,
                "a commit failed ({commit}) and the records can't be read again ({reload}); nothing is lost: repair the disk and start again"
            ),
        }
    }
}

impl std::error::Error for DriverError {}

/// How often what waits is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// With so many bytes to be sent a peer gets no more gossip until most of them are gone.
const BUSY_BYTES: usize = 2 * 1024 * 1024;
const IDLE_BYTES: usize = 256 * 1024;
/// How often busy peers are looked at.
const BUSY_LOOK: Duration = Duration::from_millis(100);
/// A wake-up in the past is not the next thing at once: the others have their turn.
const LEAST_WAIT: Duration = Duration::from_millis(2);

/// A driver at work: ends with it, with the reason if it stopped by itself.
pub type DriverTask = JoinHandle<Result<(), DriverError>>;

/// Starts a node on its store: restores it and drives it on a task of its own until it is shut down or
/// can't go on. To be called within a tokio runtime.
pub fn start<H: Heart>(
    config: DriverConfig,
    store: Box<dyn Store>,
    mut restore: Restore<H>,
    ports: Ports,
) -> Result<(NodeHandle<H>, DriverTask), DriverError> {
    let (news_sender, news) = mpsc::unbounded_channel();
    let (store, records, thread) =
        committer::start(store, news_sender).map_err(DriverError::Store)?;
    let now = ports.clock.now();
    let made = make(&mut restore, records, now, Mode::Normal);
    let (heart, effects) = match made {
        Ok(made) => made,
        Err(error) => {
            store.stop();
            return Err(error);
        }
    };
    let (commands, command_requests) = mpsc::channel(256);
    let (queries, query_requests) = mpsc::channel(256);
    let (stop, stopping) = watch::channel(false);
    let (status_sender, status) = watch::channel(DriverStatus::Running);
    let (inputs, answers) = mpsc::unbounded_channel();
    let (signed_sender, signed) = mpsc::unbounded_channel();
    let hub = EventHub::new();
    let handle = NodeHandle {
        commands,
        queries,
        inputs: inputs.clone(),
        stop,
        status,
        events: Arc::downgrade(&hub),
        store: store.clone(),
    };
    let Ports {
        signer,
        wallet,
        chain,
        broadcaster,
        fees,
        connector,
        peers,
        router,
        events,
        clock,
    } = ports;
    let fee_task = tokio::spawn(estimate(fees, config.fee_interval, inputs.clone()));
    let outside = Outside::new(
        signer,
        wallet,
        chain,
        broadcaster,
        connector,
        router,
        store.clone(),
        inputs,
        signed_sender,
    );
    let mut driver = Driver {
        releaser: Releaser::new(config.run_ahead),
        chain: outside.begin(&heart),
        config,
        heart,
        restore,
        mode: Mode::Normal,
        store,
        news,
        signed,
        answers,
        queries: query_requests,
        commands: command_requests,
        peers: Some(peers),
        stopping,
        status: status_sender,
        outside,
        events,
        hub,
        clock,
        last_now: now,
        wake: None,
        waiting: BTreeMap::new(),
        checks: GossipChecks::on_all_cores(),
        route_graph: RouteGraph::default(),
        busy: BTreeSet::new(),
    };
    let task = tokio::spawn(async move {
        driver.take(effects);
        let result = driver.run().await;
        fee_task.abort();
        driver.end(&result).await;
        // The store's thread ends with its work; nothing is left to wait for after that.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        let error = result.as_ref().err().map(ToString::to_string);
        driver.status.send_replace(DriverStatus::Stopped { error });
        result
    });
    Ok((handle, task))
}

fn make<H>(
    restore: &mut Restore<H>,
    records: Records,
    now: Timestamp,
    mode: Mode,
) -> Result<(H, Effects), DriverError> {
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(|e| DriverError::Entropy(e.to_string()))?;
    restore(Start {
        records,
        boot: Boot { entropy },
        now,
        mode,
    })
    .map_err(DriverError::Restore)
}

/// Tells the node new feerates as they change.
async fn estimate(
    fees: Arc<dyn crate::ports::FeeEstimator>,
    interval: Duration,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut last: Option<Feerates> = None;
    loop {
        let now = fees.feerates().await;
        let mut wait = interval;
        match now {
            Some(feerates) if last != now => {
                last = now;
                if inputs.send(Input::Feerates(feerates)).is_err() {
                    return;
                }
            }
            Some(_) => {}
            None => wait = wait.min(Duration::from_secs(5)),
        }
        tokio::time::sleep(wait).await;
    }
}

struct Driver<H> {
    config: DriverConfig,
    heart: H,
    restore: Restore<H>,
    mode: Mode,
    releaser: Releaser,
    store: StoreHandle,
    news: mpsc::UnboundedReceiver<StoreNews>,
    signed: mpsc::UnboundedReceiver<SigningResult>,
    /// Answers of ports, and whatever else they tell the node.
    answers: mpsc::UnboundedReceiver<Input>,
    queries: mpsc::Receiver<Query<H>>,
    commands: mpsc::Receiver<CommandRequest>,
    chain: mpsc::Receiver<Input>,
    /// `None` when peers are not read any more.
    peers: Option<Box<dyn PeerSource>>,
    stopping: watch::Receiver<bool>,
    status: watch::Sender<DriverStatus>,
    outside: Outside,
    events: Arc<dyn crate::ports::EventHandler>,
    hub: Arc<EventHub>,
    clock: Arc<dyn crate::ports::Clock>,
    last_now: Timestamp,
    wake: Option<Timestamp>,
    waiting: BTreeMap<CommandId, Vec<oneshot::Sender<Result<Reply, CommandError>>>>,
    /// Gossip on its way to the heart.
    checks: GossipChecks,
    route_graph: RouteGraph,
    /// Connections with much to be sent.
    busy: BTreeSet<(PublicKey, ConnEpoch)>,
}

/// What comes from outside, each in its turn.
enum FromOutside {
    Chain(Option<Input>),
    Peer(Option<Input>),
    Gossip(Input),
    Command(CommandRequest),
}

impl<H: Heart> Driver<H> {
    async fn run(&mut self) -> Result<(), DriverError> {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy_look = tokio::time::interval(BUSY_LOOK);
        busy_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut chain_open = true;
        let mut stop_at: Option<Instant> = None;
        loop {
            if stop_at.is_some_and(|at| self.releaser.is_idle() || Instant::now() >= at) {
                return Ok(());
            }
            // Rule 4: at the bound stop reading peers, keep reading the chain.
            let reads = !self.releaser.is_behind() && stop_at.is_none();
            let reads_peers = reads && !self.checks.is_full();
            let wake = self.until_wake();
            tokio::select! {
                biased;
                Some(news) = self.news.recv() => match news {
                    StoreNews::Committed(seq) => self.releaser.committed(seq),
                    StoreNews::Failed(error) => self.commit_failed(error).await?,
                },
                Some(result) = self.signed.recv() => {
                    if let Some(input) = self.releaser.signed(result) {
                        self.step(input);
                    }
                }
                Some(input) = self.answers.recv() => self.step(input),
                Some(query) = self.queries.recv() => query(&mut self.heart),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {
                    self.step(Input::Tick);
                }
                _ = housekeeping.tick() => {
                    let now = self.now();
                    let patience = self.config.disconnect_patience.as_millis();
                    let patience = u64::try_from(patience).unwrap_or(u64::MAX);
                    self.releaser.end_overdue(now, patience);
                    self.releaser.retry_signing();
                }
                _ = busy_look.tick(), if !self.busy.is_empty() => self.look_at_busy_peers(),
                () = stop_asked(&mut self.stopping), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + self.config.shutdown_patience);
                }
                from = from_outside(
                    &mut self.chain,
                    chain_open && stop_at.is_none(),
                    self.peers.as_mut().filter(|_| reads_peers),
                    Some(&mut self.checks).filter(|_| reads),
                    &mut self.commands,
                    reads,
                ) => match from {
                    FromOutside::Chain(Some(input)) => {
                        self.step(input);
                        self.outside.chain_moved();
                    }
                    FromOutside::Chain(None) => {
                        tracing::error!("the chain is not followed any more; restart once its source is repaired");
                        chain_open = false;
                    }
                    FromOutside::Peer(Some(input)) => self.peer_input(input),
                    FromOutside::Peer(None) => self.peers = None,
                    FromOutside::Gossip(input) => self.step(input),
                    FromOutside::Command(request) => self.command(request),
                },
            }
            self.release();
        }
    }

    fn now(&mut self) -> Timestamp {
        // Time that goes back would confuse every timer.
        self.last_now = self.last_now.max(self.clock.now());
        self.last_now
    }

    fn until_wake(&mut self) -> Option<Duration> {
        let wake = self.wake?;
        let now = self.now();
        Some(Duration::from_millis(wake.millis_since(now)).max(LEAST_WAIT))
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        let effects = self.heart.handle(now, input);
        self.take(effects);
    }

    fn take(&mut self, effects: Effects) {
        let now = self.now();
        self.wake = effects.next_wake;
        let seq = effects.seq;
        if let Some(batch) = self.releaser.push(now, effects) {
            self.store.store(seq, batch);
        }
    }

    fn peer_input(&mut self, input: Input) {
        match &input {
            Input::PeerConnected { peer, epoch, .. } => self.releaser.connected(*peer, *epoch),
            Input::PeerDisconnected { peer, epoch } => {
                self.releaser.disconnected(*peer, *epoch);
                self.checks.disconnected(*peer, *epoch);
                self.busy.remove(&(*peer, *epoch));
            }
            _ => {}
        }
        let input = match input {
            Input::PeerMessage {
                peer,
                epoch,
                message,
            } if is_gossip(&message) => {
                let now = self.now();
                let to_check = self.heart.gossip_to_check(now, peer, message);
                match self.checks.submit(peer, epoch, to_check) {
                    Some(input) => input,
                    None => return,
                }
            }
            input => input,
        };
        self.step(input);
    }

    fn command(&mut self, request: CommandRequest) {
        let CommandRequest { id, command, reply } = request;
        if self.mode == Mode::EnforceOnly {
            let DriverStatus::EnforceOnly { reason } = self.status.borrow().clone() else {
                return;
            };
            // Who asked may have gone.
            let _ = reply.send(Err(CommandError::Unavailable(reason)));
            return;
        }
        self.waiting.entry(id).or_default().push(reply);
        self.step(Input::Command { id, command });
    }

    /// Does what may be done now.
    fn release(&mut self) {
        let mut sent_gossip = BTreeSet::new();
        while let Some(released) = self.releaser.pop() {
            match released {
                Released::Send {
                    peer,
                    epoch,
                    message,
                } => {
                    if is_gossip(&message) {
                        sent_gossip.insert((peer, epoch));
                    }
                    self.outside.connector.send(peer, epoch, &message);
                }
                Released::Sign(job) => self.outside.sign(job),
                Released::Disconnect {
                    peer,
                    epoch,
                    reason,
                } => {
                    log_disconnect(&peer.to_string(), &reason);
                    self.outside.connector.disconnect(peer, epoch, &reason);
                }
                Released::Do(kind) => self.act(kind),
            }
        }
        for (peer, epoch) in sent_gossip {
            let queued = self.outside.connector.queued_bytes(peer, epoch);
            if queued > BUSY_BYTES && self.busy.insert((peer, epoch)) {
                self.peer_busy(peer, epoch, true);
            }
        }
    }

    /// What a slow peer does not read yet is not heaped up: it has asked for much, perhaps.
    fn peer_busy(&mut self, peer: PublicKey, epoch: ConnEpoch, is_busy: bool) {
        self.step(Input::PeerBusy {
            peer,
            epoch,
            is_busy,
        });
    }

    fn look_at_busy_peers(&mut self) {
        let connector = &self.outside.connector;
        let rested: Vec<_> = self
            .busy
            .iter()
            .filter(|(peer, epoch)| connector.queued_bytes(*peer, *epoch) < IDLE_BYTES)
            .copied()
            .collect();
        for (peer, epoch) in rested {
            self.busy.remove(&(peer, epoch));
            self.peer_busy(peer, epoch, false);
        }
    }

    fn act(&mut self, kind: ActionKind) {
        match kind {
            // These come out of the releaser in their own form.
            ActionKind::Send { .. }
            | ActionKind::Withdraw { .. }
            | ActionKind::Disconnect { .. } => {}
            ActionKind::Connect { .. } | ActionKind::StopConnecting { .. }
                if self.mode == Mode::EnforceOnly => {}
            ActionKind::Connect {
                peer,
                addresses,
                keep: true,
            } => {
                self.outside.connector.keep_connected(peer, addresses);
            }
            ActionKind::Connect {
                peer,
                addresses,
                keep: false,
            } => {
                self.outside.connector.connect(peer, addresses);
            }
            ActionKind::StopConnecting { peer } => self.outside.connector.stop_connecting(peer),
            ActionKind::Misbehaved { peer, why } => {
                tracing::debug!(%peer, why, "the peer broke a rule of gossip");
                self.outside.connector.misbehaved(peer);
            }
            ActionKind::Broadcast { id, package } => self.outside.broadcast(id, package),
            ActionKind::WatchOutpoint {
                outpoint,
                script_pubkey,
                from,
            } => {
                self.outside
                    .chain
                    .watch_outpoint(outpoint, script_pubkey, from);
            }
            ActionKind::WatchScript {
                script_pubkey,
                from,
            } => {
                self.outside.chain.watch_script(script_pubkey, from);
            }
            ActionKind::Ask { id, ask } => {
                let now = self.now();
                let (heart, routes) = (&mut self.heart, &mut self.route_graph);
                self.outside
                    .ask(id, ask, || routes.get(now, || heart.graph()));
            }
            ActionKind::Learn(report) => self.outside.router.learn(*report),
            ActionKind::Reply { id, reply } => {
                for waiting in self.waiting.remove(&id).unwrap_or_default() {
                    let _ = waiting.send(reply.clone());
                }
            }
            ActionKind::Event(event) => {
                if self.hub.publish(event.clone()) {
                    self.events.handle(&event);
                }
            }
            ActionKind::Note { level, text } => match level {
                NoteLevel::Debug => tracing::debug!("{text}"),
                NoteLevel::Info => tracing::info!("{text}"),
                NoteLevel::Warn => tracing::warn!("{text}"),
                NoteLevel::Error => tracing::error!("{text}"),
            },
        }
    }

    /// Rule 7: nothing of what was not durable was ever said; go on from what is, without peers.
    async fn commit_failed(&mut self, error: StoreError) -> Result<(), DriverError> {
        tracing::error!(%error, "a commit failed; the node goes on in enforce-only mode");
        self.peers = None;
        // Nobody is heard any more.
        self.checks = GossipChecks::start(0);
        self.busy.clear();
        self.outside.connector.shutdown();
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            let _ = waiting.send(Err(CommandError::Unavailable(error.to_string())));
        }
        // Rule 6: who has lost the store to another writer stops.
        if matches!(
            error,
            StoreError::Fenced { .. } | StoreError::OutOfOrder { .. }
        ) {
            return Err(DriverError::Store(error));
        }
        let now = self.now();
        let reloaded = self
            .store
            .reload()
            .await
            .map_err(DriverError::Store)
            .and_then(|records| make(&mut self.restore, records, now, Mode::EnforceOnly));
        let (heart, effects) = reloaded.map_err(|reload| DriverError::Reload {
            commit: error.to_string(),
            reload: Box::new(reload),
        })?;
        // Answers to the old heart name an older boot, which the new one drops by itself.
        self.heart = heart;
        self.releaser = Releaser::new(self.config.run_ahead);
        self.mode = Mode::EnforceOnly;
        self.status.send_replace(DriverStatus::EnforceOnly {
            reason: format!(
                "the store failed: {error}. The node watches the chain only; repair it and restart"
            ),
        });
        self.chain = self.outside.begin(&self.heart);
        self.take(effects);
        Ok(())
    }

    async fn end(&mut self, result: &Result<(), DriverError>) {
        match result {
            Ok(()) => tracing::info!("the node stops"),
            Err(error) => tracing::error!(%error, "the node stops"),
        }
        self.outside.connector.shutdown();
        self.store.stop();
        self.commands.close();
        self.queries.close();
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            let why = "the node is shutting down; ask again with the same id after its start";
            let _ = waiting.send(Err(CommandError::Unavailable(why.to_owned())));
        }
    }
}

async fn stop_asked(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stop| *stop).await.is_err() {
        // Nobody holds a handle: the node goes on by itself.
        std::future::pending::<()>().await;
    }
}

fn log_disconnect(peer: &str, reason: &DisconnectReason) {
    match reason {
        DisconnectReason::ProtocolViolation(why) => {
            tracing::warn!(peer, why, "disconnecting: the peer broke the protocol");
        }
        DisconnectReason::Requested
        | DisconnectReason::Replaced
        | DisconnectReason::Incompatible(_)
        | DisconnectReason::ChannelReset
        | DisconnectReason::Timeout => tracing::debug!(peer, ?reason, "disconnecting"),
    }
}

/// The next input of chain, peers and commands. None of them can hold up another for long: the order is
/// random.
async fn from_outside(
    chain: &mut mpsc::Receiver<Input>,
    reads_chain: bool,
    mut peers: Option<&mut Box<dyn PeerSource>>,
    mut checks: Option<&mut GossipChecks>,
    commands: &mut mpsc::Receiver<CommandRequest>,
    reads_commands: bool,
) -> FromOutside {
    // A select without an open branch would panic; this one waits for something else to change.
    tokio::select! {
        input = chain.recv(), if reads_chain => FromOutside::Chain(input),
        input = poll_fn(|cx| match peers.as_mut() {
            Some(peers) => peers.poll_input(cx),
            None => Poll::Pending,
        }) => FromOutside::Peer(input),
        input = poll_fn(|cx| match checks.as_mut() {
            Some(checks) => checks.poll(cx),
            None => Poll::Pending,
        }) => FromOutside::Gossip(input),
        Some(request) = commands.recv(), if reads_commands => FromOutside::Command(request),
    }
}
