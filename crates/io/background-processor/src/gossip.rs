//! Signatures of gossip, checked on all cores before the heart takes the messages.
//!
//! What one peer says about the network stays in its order: an update comes after its announcement, and a
//! query after what was said before it. Other messages don't wait for it.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
};

use bitcoin::secp256k1::{PublicKey, Secp256k1};
use fulmen_gossip::{CheckedGossip, Direction, ToCheck, UncheckedGossip};
use fulmen_node::{ConnEpoch, Input};
use fulmen_types::{NodeId, ShortChannelId};
use fulmen_wire::Message;
use tokio::sync::mpsc;

/// How many messages a thread takes at a time: hands are not shaken for each.
const PORTION: usize = 16;
/// How many messages may be on their way through the check before peers are not read for a while.
const UNDER_WAY: usize = 2_048;

/// Whether a message is about the network: BOLT 7 but for `announcement_signatures`.
pub(crate) fn is_gossip(message: &Message) -> bool {
    matches!(
        message,
        Message::ChannelAnnouncement(_)
            | Message::ChannelUpdate(_)
            | Message::NodeAnnouncement(_)
            | Message::QueryShortChannelIds(_)
            | Message::ReplyShortChannelIdsEnd(_)
            | Message::QueryChannelRange(_)
            | Message::ReplyChannelRange(_)
            | Message::GossipTimestampFilter(_)
    )
}

/// The check of gossip on its way from the peers to the heart: messages go in by
/// [`GossipChecks::submit`] and come out of [`GossipChecks::poll`] as inputs, those of one connection in
/// their order.
pub struct GossipChecks {
    /// How many work. Should the system give none, the heart checks for itself.
    threads: usize,
    pool: Arc<Pool>,
    results: mpsc::UnboundedReceiver<Vec<(Place, Box<CheckedGossip>)>>,
    streams: BTreeMap<StreamId, Stream>,
    /// The ends of channels whose announcements are under way, and how many of these there are.
    announced: BTreeMap<ShortChannelId, (usize, [NodeId; 2])>,
    under_way: usize,
    /// Streams whose first message is ready to be taken, each once.
    ready: VecDeque<StreamId>,
}

type StreamId = (PublicKey, ConnEpoch);

/// Which message of which connection.
#[derive(Clone, Copy, Debug)]
struct Place {
    stream: StreamId,
    number: u64,
}

/// What waits of one connection.
#[derive(Default)]
struct Stream {
    /// The number of the first in `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    /// Whether it is among those that are ready.
    is_ready: bool,
}

enum Slot {
    /// A thread has it; the channel that it announces, if it does.
    Checking(Option<ShortChannelId>),
    Checked(Option<ShortChannelId>, Box<CheckedGossip>),
    AsItIs(Box<Message>),
}

impl fmt::Debug for GossipChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipChecks")
            .field("under_way", &self.under_way)
            .finish_non_exhaustive()
    }
}

impl GossipChecks {
    /// Starts so many threads; they end when this is dropped. With none nothing is checked on the way.
    pub fn start(threads: usize) -> Self {
        let (sender, results) = mpsc::unbounded_channel();
        let pool = Arc::new(Pool::default());
        let mut working = 0;
        for _ in 0..threads {
            let (pool, sender) = (Arc::clone(&pool), sender.clone());
            let started = thread::Builder::new()
                .name("fulmen-gossip".to_owned())
                .spawn(move || work(&pool, &sender));
            match started {
                Ok(_) => working += 1,
                Err(error) => tracing::error!(%error, "no thread for the check of gossip"),
            }
        }
        Self {
            threads: working,
            pool,
            results,
            streams: BTreeMap::new(),
            announced: BTreeMap::new(),
            under_way: 0,
            ready: VecDeque::new(),
        }
    }

    /// As many threads as there are cores.
    pub fn on_all_cores() -> Self {
        Self::start(thread::available_parallelism().map_or(1, usize::from))
    }

    /// Takes a message. What needs no check and has nothing to wait for comes back at once.
    #[must_use = "an input that comes back is for the heart"]
    pub fn submit(&mut self, peer: PublicKey, epoch: ConnEpoch, message: ToCheck) -> Option<Input> {
        let unchecked = match message {
            ToCheck::Check(unchecked) if self.threads == 0 => Err(unchecked.into_message()),
            ToCheck::OfUnknownChannel { update, .. } if self.threads == 0 => {
                Err(Message::ChannelUpdate(*update))
            }
            ToCheck::Check(unchecked) => Ok(unchecked),
            ToCheck::AsItIs(message) => Err(message),
            ToCheck::OfUnknownChannel { update, otherwise } => {
                let direction = Direction::from_channel_flags(update.channel_flags);
                let announced = self.announced.get(&update.short_channel_id);
                let signer = announced.map(|(_, [node_1, node_2])| match direction {
                    Direction::Forward => *node_1,
                    Direction::Backward => *node_2,
                });
                match signer.or(otherwise) {
                    Some(signer) => Ok(UncheckedGossip::ChannelUpdate { update, signer }),
                    None => Err(Message::ChannelUpdate(*update)),
                }
            }
        };
        let id = (peer, epoch);
        let slot = match unchecked {
            Err(message) if !self.streams.contains_key(&id) => {
                return Some(Input::PeerMessage {
                    peer,
                    epoch,
                    message,
                });
            }
            Err(message) => Slot::AsItIs(Box::new(message)),
            Ok(unchecked) => {
                let stream = self.streams.entry(id).or_default();
                let place = Place {
                    stream: id,
                    number: stream.first + stream.slots.len() as u64,
                };
                let announced = self.announce(&unchecked);
                self.pool.push(place, unchecked);
                Slot::Checking(announced)
            }
        };
        self.under_way += 1;
        self.streams.entry(id).or_default().slots.push_back(slot);
        None
    }

    /// Notes the ends of a channel for the updates that follow.
    fn announce(&mut self, unchecked: &UncheckedGossip) -> Option<ShortChannelId> {
        let UncheckedGossip::ChannelAnnouncement(m) = unchecked else {
            return None;
        };
        let ends = [m.node_id_1, m.node_id_2];
        let entry = self.announced.entry(m.short_channel_id);
        entry.or_insert((0, ends)).0 += 1;
        Some(m.short_channel_id)
    }

    /// Whether so much is under way that peers should not be read.
    pub fn is_full(&self) -> bool {
        self.under_way >= UNDER_WAY
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way == 0
    }

    /// A connection has ended: what it said last is not heard.
    pub fn disconnected(&mut self, peer: PublicKey, epoch: ConnEpoch) {
        for slot in self
            .streams
            .remove(&(peer, epoch))
            .into_iter()
            .flat_map(|stream| stream.slots)
        {
            self.leave(&slot);
        }
    }

    fn leave(&mut self, slot: &Slot) {
        self.under_way -= 1;
        if let Slot::Checking(Some(scid)) | Slot::Checked(Some(scid), _) = slot
            && let Entry::Occupied(mut entry) = self.announced.entry(*scid)
        {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }

    /// The next input for the heart. Never the end: without messages it waits.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            if let Some(input) = self.pop() {
                return Poll::Ready(input);
            }
            match self.results.poll_recv(cx) {
                Poll::Ready(Some(results)) => {
                    for (place, checked) in results {
                        self.take(place, checked);
                    }
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Notes what a thread has checked. It stays in its place until it is taken: what comes after it must
    /// not overtake it.
    fn take(&mut self, place: Place, checked: Box<CheckedGossip>) {
        let Some(stream) = self.streams.get_mut(&place.stream) else {
            return;
        };
        let index = place.number.checked_sub(stream.first);
        let Some(index) = index.and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        if let Some(slot) = stream.slots.get_mut(index)
            && let Slot::Checking(announced) = slot
        {
            *slot = Slot::Checked(announced.take(), checked);
        }
        if index == 0 && !stream.is_ready {
            stream.is_ready = true;
            self.ready.push_back(place.stream);
        }
    }

    fn pop(&mut self) -> Option<Input> {
        while let Some(id) = self.ready.front().copied() {
            let (peer, epoch) = id;
            let Some(stream) = self.streams.get_mut(&id) else {
                self.ready.pop_front();
                continue;
            };
            if matches!(stream.slots.front(), Some(Slot::Checking(_))) {
                stream.is_ready = false;
                self.ready.pop_front();
                continue;
            }
            let Some(slot) = stream.slots.pop_front() else {
                self.streams.remove(&id);
                self.ready.pop_front();
                continue;
            };
            stream.first += 1;
            if stream.slots.is_empty() {
                self.streams.remove(&id);
                self.ready.pop_front();
            }
            self.leave(&slot);
            return match slot {
                // It is not at the front: see above.
                Slot::Checking(_) => continue,
                Slot::Checked(_, checked) => Some(Input::CheckedGossip {
                    peer,
                    epoch,
                    checked,
                }),
                Slot::AsItIs(message) => Some(Input::PeerMessage {
                    peer,
                    epoch,
                    message: *message,
                }),
            };
        }
        None
    }
}

impl Drop for GossipChecks {
    fn drop(&mut self) {
        self.pool.stop();
    }
}

/// What the threads share.
#[derive(Default)]
struct Pool {
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<(Place, UncheckedGossip)>,
    stopped: bool,
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, place: Place, unchecked: UncheckedGossip) {
        self.state().jobs.push_back((place, unchecked));
        self.changed.notify_one();
    }

    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.jobs.clear();
        self.changed.notify_all();
    }

    /// Some jobs; `None` at the end.
    fn pop(&self) -> Option<Vec<(Place, UncheckedGossip)>> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            if !state.jobs.is_empty() {
                let count = state.jobs.len().min(PORTION);
                return Some(state.jobs.drain(..count).collect());
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

type Results = Vec<(Place, Box<CheckedGossip>)>;

fn work(pool: &Pool, results: &mpsc::UnboundedSender<Results>) {
    let secp = Secp256k1::verification_only();
    while let Some(jobs) = pool.pop() {
        let checked = jobs
            .into_iter()
            .map(|(place, unchecked)| (place, Box::new(unchecked.check(&secp))))
            .collect();
        if results.send(checked).is_err() {
            return;
        }
    }
}
