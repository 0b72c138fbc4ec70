//! Lanes: the order in which messages leave a connection (rules 10 to 12 of the design).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::secp256k1::PublicKey;
use fulmen_node::{ConnEpoch, DisconnectReason, Lane, ReleaseClass};
use fulmen_signer::{OutMessage, RefusedMessage, Signer, SigningError};
use fulmen_types::{ChannelId, Timestamp};
use fulmen_wire::Message;

use crate::release::{Durable, Released};

/// The next messages of a lane, which lack signatures. They are durable: the signer may see them.
#[derive(Clone, Debug)]
pub struct SigningJob {
    lane: Lane,
    messages: Vec<OutMessage>,
    /// The first was asked for before and got no answer: the signer may have signed it.
    unsure: bool,
}

/// What came of a [`SigningJob`].
#[derive(Debug)]
pub struct SigningResult {
    lane: Lane,
    complete: Vec<Message>,
    /// What was not completed, from the first that failed on.
    rest: Vec<OutMessage>,
    error: Option<SigningError>,
    /// Of the first of all: see [`SigningJob`].
    unsure: bool,
}

impl SigningJob {
    /// Whose messages these are.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Asks the signer, one message after the other, until it fails.
    pub fn run(self, signer: &dyn Signer) -> SigningResult {
        let Self {
            lane,
            messages,
            unsure,
        } = self;
        let mut complete = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            match message.clone().complete(signer) {
                Ok(message) => complete.push(message),
                Err(error) => {
                    let rest = std::iter::once(message).chain(messages).collect();
                    return SigningResult {
                        lane,
                        complete,
                        rest,
                        error: Some(error),
                        unsure,
                    };
                }
            }
        }
        SigningResult {
            lane,
            complete,
            rest: Vec::new(),
            error: None,
            unsure,
        }
    }
}

/// The messages of all connections that wait to leave.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    connections: BTreeMap<PublicKey, Connection>,
    /// Connections that have something to send.
    busy: BTreeSet<PublicKey>,
}

#[derive(Debug)]
struct Connection {
    epoch: ConnEpoch,
    /// Whether `init` is out.
    begun: bool,
    /// Counts emissions over all lanes.
    emitted: u64,
    lanes: BTreeMap<Option<ChannelId>, LaneQueue>,
    end: Option<End>,
}

/// The end of a connection, once all emitted before is out.
#[derive(Debug)]
struct End {
    emission: u64,
    class: ReleaseClass,
    after: u64,
    reason: DisconnectReason,
    since: Timestamp,
}

#[derive(Debug, Default)]
struct LaneQueue {
    slots: VecDeque<Slot>,
    /// How many slots at the front the signer is working on.
    signing: usize,
    /// Whether the signer could not be reached: ask again later.
    paused: bool,
    /// Whether the signer was asked for the head before and gave no answer: it may have signed it.
    unsure: bool,
    /// Whether the signer refused: nothing of this lane but an `error` leaves on this connection.
    stuck: bool,
    /// Whether what the signer is working on is not to be said any more.
    is_withdrawn: bool,
}

#[derive(Debug)]
struct Slot {
    emission: u64,
    class: ReleaseClass,
    after: u64,
    /// `None` while the signer has it.
    message: Option<OutMessage>,
}

impl Lanes {
    pub(crate) fn open(&mut self, peer: PublicKey, epoch: ConnEpoch) {
        let connection = Connection {
            epoch,
            begun: false,
            emitted: 0,
            lanes: BTreeMap::new(),
            end: None,
        };
        self.connections.insert(peer, connection);
    }

    pub(crate) fn close(&mut self, peer: PublicKey, epoch: ConnEpoch) {
        if self
            .connections
            .get(&peer)
            .is_some_and(|c| c.epoch == epoch)
        {
            self.connections.remove(&peer);
            self.busy.remove(&peer);
        }
    }

    fn live(&mut self, peer: PublicKey, epoch: ConnEpoch) -> Option<&mut Connection> {
        let connection = self
            .connections
            .get_mut(&peer)
            .filter(|c| c.epoch == epoch)?;
        self.busy.insert(peer);
        Some(connection)
    }

    pub(crate) fn push(
        &mut self,
        lane: Lane,
        class: ReleaseClass,
        after: u64,
        message: OutMessage,
    ) {
        let Some(connection) = self.live(lane.peer, lane.epoch) else {
            return;
        };
        // What is said after the last word is not said.
        if connection.end.is_some() {
            return;
        }
        connection.emitted += 1;
        let emission = connection.emitted;
        let queue = connection.lanes.entry(lane.channel).or_default();
        let is_error = matches!(message, OutMessage::Ready(Message::Error(_)));
        if !queue.stuck || is_error {
            queue.slots.push_back(Slot {
                emission,
                class,
                after,
                message: Some(message),
            });
        }
    }

    /// Rule 21: the channel is over, and what was not said before is not said.
    pub(crate) fn withdraw(&mut self, lane: Lane) {
        let connection = self.live(lane.peer, lane.epoch);
        if let Some(queue) = connection.and_then(|c| c.lanes.get_mut(&lane.channel)) {
            queue.withdraw();
        }
    }

    pub(crate) fn end(
        &mut self,
        since: Timestamp,
        peer: PublicKey,
        epoch: ConnEpoch,
        class: ReleaseClass,
        after: u64,
        reason: DisconnectReason,
    ) {
        let Some(connection) = self.live(peer, epoch) else {
            return;
        };
        let emission = connection.emitted;
        connection.end.get_or_insert(End {
            emission,
            class,
            after,
            reason,
            since,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.busy.is_empty()
    }

    /// Lets everything leave that may.
    pub(crate) fn pump(&mut self, durable: Durable, out: &mut VecDeque<Released>) {
        let Self { connections, busy } = self;
        busy.retain(|peer| {
            let Some(connection) = connections.get_mut(peer) else {
                return false;
            };
            connection.pump(*peer, durable, out);
            let over = connection.end.as_ref().is_some_and(|end| {
                durable.covers(end.class, end.after) && connection.has_said(end.emission)
            });
            if over {
                let epoch = connection.epoch;
                if let Some(end) = connection.end.take() {
                    out.push_back(Released::Disconnect {
                        peer: *peer,
                        epoch,
                        reason: end.reason,
                    });
                }
                connections.remove(peer);
                return false;
            }
            connection.end.is_some() || connection.lanes.values().any(|l| !l.slots.is_empty())
        });
    }

    /// Takes the signer's answers; gives back what it will not complete, whether the connection still
    /// stands or not: the node must know.
    pub(crate) fn signed(&mut self, result: SigningResult) -> Option<(Lane, RefusedMessage)> {
        let SigningResult {
            lane,
            complete,
            rest,
            error,
            unsure,
        } = result;
        let is_unsure = unsure && complete.is_empty();
        let refused = match error {
            None | Some(SigningError::Unavailable) => None,
            Some(error @ (SigningError::Refused(_) | SigningError::WrongAnswer)) => {
                rest.first().map(|message| RefusedMessage {
                    message: message.clone(),
                    error,
                    may_be_signed: is_unsure || error == SigningError::WrongAnswer,
                })
            }
        };
        let refused = refused.map(|refused| (lane, refused));
        // Rule 11: a late answer never causes a send on another connection.
        let queue = self
            .live(lane.peer, lane.epoch)
            .and_then(|connection| connection.lanes.get_mut(&lane.channel));
        let Some(queue) = queue else {
            return refused;
        };
        queue.signing = 0;
        if std::mem::take(&mut queue.is_withdrawn) {
            return refused;
        }
        let answered = complete.into_iter().map(OutMessage::Ready).chain(rest);
        for (slot, message) in queue.slots.iter_mut().zip(answered) {
            slot.message = Some(message);
        }
        queue.unsure = false;
        match error {
            None => {}
            Some(SigningError::Unavailable) => {
                tracing::warn!(peer = %lane.peer, "the signer can't be reached; the channel waits");
                queue.paused = true;
                queue.unsure = true;
            }
            Some(error @ (SigningError::Refused(_) | SigningError::WrongAnswer)) => {
                tracing::error!(
                    peer = %lane.peer,
                    channel = lane.channel.map(tracing::field::display),
                    %error,
                    "a message could not be signed; nothing more is sent for this channel on this connection"
                );
                let is_late_bound =
                    |slot: &Slot| !matches!(slot.message, Some(OutMessage::Ready(_)));
                let keep = queue.slots.iter().position(is_late_bound).unwrap_or(0);
                queue.slots.truncate(keep);
                queue.stuck = true;
            }
        }
        refused
    }

    pub(crate) fn retry(&mut self) {
        for (peer, connection) in &mut self.connections {
            for queue in connection.lanes.values_mut().filter(|queue| queue.paused) {
                queue.paused = false;
                self.busy.insert(*peer);
            }
        }
    }

    pub(crate) fn end_overdue(
        &mut self,
        now: Timestamp,
        patience_millis: u64,
        out: &mut VecDeque<Released>,
    ) {
        let Self { connections, busy } = self;
        connections.retain(|peer, connection| {
            let overdue = |end: &mut End| now.millis_since(end.since) >= patience_millis;
            let Some(end) = connection.end.take_if(overdue) else {
                return true;
            };
            let epoch = connection.epoch;
            out.push_back(Released::Disconnect {
                peer: *peer,
                epoch,
                reason: end.reason,
            });
            busy.remove(peer);
            false
        });
    }
}

impl Connection {
    /// Whether everything emitted up to `emission` is out.
    fn has_said(&self, emission: u64) -> bool {
        let waits = |queue: &LaneQueue| queue.slots.front().is_some_and(|s| s.emission <= emission);
        !self.lanes.values().any(waits)
    }

    fn pump(&mut self, peer: PublicKey, durable: Durable, out: &mut VecDeque<Released>) {
        let epoch = self.epoch;
        // Rule 12: `init` first. It is the first message of the connection's own lane.
        if !self.begun {
            let own = self.lanes.get_mut(&None);
            let init =
                own.and_then(|queue| queue.next_ready(durable, |m| matches!(m, Message::Init(_))));
            let Some(message) = init else { return };
            out.push_back(Released::Send {
                peer,
                epoch,
                message,
            });
            self.begun = true;
        }
        // The connection's own lane goes first: a reestablish waits for what was emitted there before it
        // (`peer_storage_retrieval`).
        let channels: Vec<_> = self.lanes.keys().copied().collect();
        for channel in channels {
            let own_waits = self
                .lanes
                .get(&None)
                .and_then(|q| q.slots.front())
                .map(|s| s.emission);
            let Some(queue) = self.lanes.get_mut(&channel) else {
                continue;
            };
            while let Some(head) = queue.slots.front() {
                let is_reestablish = matches!(
                    head.message,
                    Some(OutMessage::Ready(Message::ChannelReestablish(_)))
                );
                if is_reestablish && own_waits.is_some_and(|own| own < head.emission) {
                    break;
                }
                let Some(message) = queue.next_ready(durable, |_| true) else {
                    break;
                };
                out.push_back(Released::Send {
                    peer,
                    epoch,
                    message,
                });
            }
            if let Some(messages) = queue.next_to_sign(durable) {
                let lane = Lane {
                    peer,
                    epoch,
                    channel,
                };
                let unsure = queue.unsure;
                out.push_back(Released::Sign(SigningJob {
                    lane,
                    messages,
                    unsure,
                }));
            }
        }
        self.lanes
            .retain(|_, queue| !queue.slots.is_empty() || queue.stuck || queue.signing > 0);
    }
}

impl LaneQueue {
    /// Drops what waits, but for `channel_reestablish`: it tells a peer that lost its state not to broadcast it.
    fn withdraw(&mut self) {
        self.slots.retain(|slot| {
            matches!(
                slot.message,
                Some(OutMessage::Ready(Message::ChannelReestablish(_)))
            )
        });
        self.paused = false;
        self.unsure = false;
        self.is_withdrawn = self.signing > 0;
    }

    /// Takes the head if it is complete, durable and as wanted.
    fn next_ready(
        &mut self,
        durable: Durable,
        wanted: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        let head = self.slots.front_mut()?;
        if !durable.covers(head.class, head.after) {
            return None;
        }
        match &head.message {
            Some(OutMessage::Ready(message)) if wanted(message) => {}
            Some(_) | None => return None,
        }
        match self.slots.pop_front()?.message? {
            OutMessage::Ready(message) => Some(message),
            _ => None,
        }
    }

    /// The durable messages at the front, if the first of them lacks a signature and the signer is not at
    /// work on this lane already: one job per lane at a time keeps the signer's order the lane's.
    fn next_to_sign(&mut self, durable: Durable) -> Option<Vec<OutMessage>> {
        if self.signing > 0 || self.paused || self.stuck {
            return None;
        }
        let head = self.slots.front()?;
        // A complete head waits for something else.
        if matches!(head.message, Some(OutMessage::Ready(_))) {
            return None;
        }
        let mut messages = Vec::new();
        for slot in &mut self.slots {
            if !durable.covers(slot.class, slot.after) {
                break;
            }
            match slot.message.take() {
                Some(message) => messages.push(message),
                None => break,
            }
        }
        self.signing = messages.len();
        (!messages.is_empty()).then_some(messages)
    }
}
