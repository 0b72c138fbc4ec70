//! When what leaves: an independent reading of the rules of release, to hold the driver's own against.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::secp256k1::PublicKey;
use fulmen_node::{Action, ActionKind, ConnEpoch, Effects, Lane, ReleaseClass, Scope};
use fulmen_signer::OutMessage;
use fulmen_types::record::WriteBatch;
use fulmen_wire::Message;

/// What may leave now.
#[derive(Debug)]
pub(crate) enum Leaving {
    /// A message, in the order of its connection; secrets are still missing.
    Send(Lane, OutMessage),
    /// Anything but a message.
    Act(ActionKind),
}

#[derive(Debug)]
struct Waiting {
    class: ReleaseClass,
    after: u64,
    kind: ActionKind,
}

/// Actions that wait for their batches.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    durable: u64,
    last_batch: u64,
    last_of_scope: BTreeMap<Scope, u64>,
    waiting: VecDeque<Waiting>,
    /// Connections on which `init` has left.
    begun: BTreeSet<(PublicKey, ConnEpoch)>,
}

impl Outbox {
    /// Takes a step's effects, and gives the batch for the disk.
    pub(crate) fn push(&mut self, effects: Effects) -> Option<(u64, WriteBatch)> {
        let Effects {
            seq,
            scopes,
            batch,
            actions,
            next_wake: _,
        } = effects;
        let batch = (!batch.is_empty()).then_some(batch);
        // An empty batch waits for the last one that shares a scope, or for all if it names none.
        let needed = match &batch {
            Some(_) => seq,
            None if scopes.is_empty() => self.last_batch,
            None => scopes
                .iter()
                .filter_map(|s| self.last_of_scope.get(s))
                .max()
                .copied()
                .unwrap_or(0),
        };
        if batch.is_some() {
            self.last_batch = seq;
            self.last_of_scope
                .extend(scopes.into_iter().map(|scope| (scope, seq)));
        }
        for Action { class, after, kind } in actions {
            // Rule 21: once a channel is over nothing is said of it that was not said before, but for the
            // reestablish, without which a peer that lost its state does not know.
            if let ActionKind::Withdraw { lane } = kind {
                self.waiting
                    .retain(|w| lane_of(&w.kind) != Some(lane) || is_reestablish(&w.kind));
                continue;
            }
            self.waiting.push_back(Waiting {
                class,
                after: after.min(needed),
                kind,
            });
        }
        batch.map(|batch| (seq, batch))
    }

    /// Every batch up to this step is durable.
    pub(crate) fn durable(&mut self, seq: u64) {
        self.durable = self.durable.max(seq);
    }

    /// What was to be said on this connection will not be.
    pub(crate) fn disconnected(&mut self, peer: PublicKey, epoch: ConnEpoch) {
        self.waiting
            .retain(|w| connection_of(&w.kind) != Some((peer, epoch)));
        self.begun.remove(&(peer, epoch));
    }

    /// Whether the node has ended a connection, and only what it said before is still to leave.
    pub(crate) fn is_ending(&self, peer: PublicKey, epoch: ConnEpoch) -> bool {
        self.waiting.iter().any(|w| {
            matches!(&w.kind, ActionKind::Disconnect { peer: p, epoch: e, .. } if (*p, *e) == (peer, epoch))
        })
    }

    /// How many actions wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes the next action that may leave. While the signer is away no message that needs it may.
    pub(crate) fn next(&mut self, signer_is_here: bool) -> Option<Leaving> {
        let mut blocked: BTreeSet<Lane> = BTreeSet::new();
        let mut busy: BTreeSet<(PublicKey, ConnEpoch)> = BTreeSet::new();
        let mut found = None;
        for (index, waiting) in self.waiting.iter().enumerate() {
            let is_durable = waiting.class == ReleaseClass::Now || waiting.after <= self.durable;
            let may_leave = match &waiting.kind {
                ActionKind::Send { lane, message } => {
                    let connection = (lane.peer, lane.epoch);
                    let own = Lane {
                        channel: None,
                        ..*lane
                    };
                    let is_reestablish = is_reestablish(&waiting.kind);
                    let in_order = !blocked.contains(lane)
                        && (self.begun.contains(&connection)
                            || matches!(message, OutMessage::Ready(Message::Init(_))))
                        && !(is_reestablish && blocked.contains(&own));
                    let is_signed = signer_is_here || matches!(message, OutMessage::Ready(_));
                    is_durable && in_order && is_signed
                }
                // What was said before goes out first.
                ActionKind::Disconnect { peer, epoch, .. } => {
                    is_durable && !busy.contains(&(*peer, *epoch))
                }
                _ => is_durable,
            };
            if may_leave {
                found = Some(index);
                break;
            }
            if let ActionKind::Send { lane, .. } = &waiting.kind {
                blocked.insert(*lane);
                busy.insert((lane.peer, lane.epoch));
            }
        }
        match self.waiting.remove(found?)?.kind {
            ActionKind::Send { lane, message } => {
                self.begun.insert((lane.peer, lane.epoch));
                Some(Leaving::Send(lane, message))
            }
            kind => Some(Leaving::Act(kind)),
        }
    }
}

fn lane_of(kind: &ActionKind) -> Option<Lane> {
    match kind {
        ActionKind::Send { lane, .. } => Some(*lane),
        _ => None,
    }
}

const fn is_reestablish(kind: &ActionKind) -> bool {
    matches!(
        kind,
        ActionKind::Send {
            message: OutMessage::Ready(Message::ChannelReestablish(_)),
            ..
        }
    )
}

const fn connection_of(kind: &ActionKind) -> Option<(PublicKey, ConnEpoch)> {
    match kind {
        ActionKind::Send { lane, .. } => Some((lane.peer, lane.epoch)),
        ActionKind::Disconnect { peer, epoch, .. } => Some((*peer, *epoch)),
        _ => None,
    }
}
