//! When what leaves: the rules of release, without a runtime.
//!
//! A [`Releaser`] takes each step's effects in order, gives the batches to whoever stores them, and hears
//! how far they are durable. What may happen comes out of [`Releaser::pop`].

use std::collections::{BTreeMap, VecDeque};

use bitcoin::secp256k1::PublicKey;
use fulmen_node::{
    Action, ActionKind, ConnEpoch, DisconnectReason, Effects, Input, ReleaseClass, Scope,
};
use fulmen_types::{Timestamp, record::WriteBatch};
use fulmen_wire::Message;

use crate::lanes::{Lanes, SigningJob, SigningResult};

/// What may happen now.
#[derive(Debug)]
pub enum Released {
    /// Send a message; those for one connection come in the order in which they must leave.
    Send {
        /// To whom.
        peer: PublicKey,
        /// On which connection.
        epoch: ConnEpoch,
        /// What.
        message: Message,
    },
    /// Ask the signer for what these messages lack, in order, and hand the result to
    /// [`Releaser::signed`].
    Sign(SigningJob),
    /// End a connection: all that was to be sent before is out.
    Disconnect {
        /// With whom.
        peer: PublicKey,
        /// Which one.
        epoch: ConnEpoch,
        /// Why, for the log.
        reason: DisconnectReason,
    },
    /// Do anything else: never a send or a disconnect.
    Do(ActionKind),
}

/// How far a store is behind the node before the node must wait.
#[derive(Clone, Copy, Debug)]
pub struct RunAhead {
    /// The most batches that are not durable.
    pub batches: usize,
    /// The most bytes in them.
    pub bytes: usize,
}

impl Default for RunAhead {
    fn default() -> Self {
        Self {
            batches: 2_000,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// Which batches must be where before what is released (rules 2 and 3 of the design).
///
/// Batches become durable in order, so "this batch and every earlier one that shares a scope with it,
/// transitively" is a prefix, and one number per place says how far it reaches.
#[derive(Debug)]
pub struct Releaser {
    limit: RunAhead,
    replicated: bool,
    /// Steps with a batch that is not on the primary, and the batch's size.
    pending: VecDeque<(u64, usize)>,
    pending_bytes: usize,
    /// Steps with a batch that is not on every replica.
    unreplicated: VecDeque<u64>,
    last_step: u64,
    /// The last step with a batch, of all and per scope (only those that are not durable everywhere).
    last_batch: u64,
    last_of_scope: BTreeMap<Scope, u64>,
    /// What waits, by the step that must be durable.
    for_primary: BTreeMap<u64, Vec<ActionKind>>,
    for_all: BTreeMap<u64, Vec<ActionKind>>,
    lanes: Lanes,
    out: VecDeque<Released>,
}

/// How far batches are durable: every step up to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) primary: u64,
    pub(crate) all: u64,
}

impl Durable {
    pub(crate) fn covers(self, class: ReleaseClass, after: u64) -> bool {
        match class {
            ReleaseClass::Now => true,
            ReleaseClass::Primary => after <= self.primary,
            ReleaseClass::All => after <= self.all,
        }
    }
}

impl Releaser {
    /// Without a mandatory replica: what is on the primary is everywhere.
    pub fn new(limit: RunAhead) -> Self {
        Self::with(limit, false)
    }

    /// With mandatory replicas, whose progress [`Releaser::replicated`] tells.
    pub fn with_replicas(limit: RunAhead) -> Self {
        Self::with(limit, true)
    }

    fn with(limit: RunAhead, replicated: bool) -> Self {
        Self {
            limit,
            replicated,
            pending: VecDeque::new(),
            pending_bytes: 0,
            unreplicated: VecDeque::new(),
            last_step: 0,
            last_batch: 0,
            last_of_scope: BTreeMap::new(),
            for_primary: BTreeMap::new(),
            for_all: BTreeMap::new(),
            lanes: Lanes::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes a step's effects; the batch, if there is one, is to be stored after those before it.
    pub fn push(&mut self, now: Timestamp, effects: Effects) -> Option<WriteBatch> {
        let Effects {
            seq,
            scopes,
            batch,
            actions,
            next_wake: _,
        } = effects;
        self.last_step = seq;
        // Rule 2: "an empty batch inherits the `after` of the last batch that touched its scopes".
        let inherited = if !batch.is_empty() {
            seq
        } else if scopes.is_empty() {
            self.last_batch
        } else {
            scopes
                .iter()
                .filter_map(|s| self.last_of_scope.get(s))
                .max()
                .copied()
                .unwrap_or(0)
        };
        let stored = (!batch.is_empty()).then(|| {
            let size = batch.size();
            self.pending.push_back((seq, size));
            self.pending_bytes += size;
            if self.replicated {
                self.unreplicated.push_back(seq);
            }
            self.last_batch = seq;
            self.last_of_scope
                .extend(scopes.into_iter().map(|scope| (scope, seq)));
            batch
        });
        for Action { class, after, kind } in actions {
            self.hold(now, class, after.min(inherited), kind);
        }
        self.pump();
        stored
    }

    fn hold(&mut self, now: Timestamp, class: ReleaseClass, after: u64, kind: ActionKind) {
        match kind {
            // Their places in the lanes are taken now, whenever they leave.
            ActionKind::Send { lane, message } => self.lanes.push(lane, class, after, message),
            ActionKind::Withdraw { lane } => self.lanes.withdraw(lane),
            ActionKind::Disconnect {
                peer,
                epoch,
                reason,
            } => {
                self.lanes.end(now, peer, epoch, class, after, reason);
            }
            kind if self.durable().covers(class, after) => self.out.push_back(Released::Do(kind)),
            kind => {
                let held = match class {
                    ReleaseClass::Primary => &mut self.for_primary,
                    ReleaseClass::Now | ReleaseClass::All => &mut self.for_all,
                };
                held.entry(after).or_default().push(kind);
            }
        }
    }

    /// The batches of all steps up to `seq` are durable on the primary.
    pub fn committed(&mut self, seq: u64) {
        while let Some((first, size)) = self.pending.front().copied() {
            if first > seq {
                break;
            }
            self.pending.pop_front();
            self.pending_bytes = self.pending_bytes.saturating_sub(size);
        }
        self.advance();
    }

    /// The batches of all steps up to `seq` are durable on every mandatory replica.
    pub fn replicated(&mut self, seq: u64) {
        while self.unreplicated.front().is_some_and(|first| *first <= seq) {
            self.unreplicated.pop_front();
        }
        self.advance();
    }

    fn durable(&self) -> Durable {
        // Up to before the first batch that is not there.
        let upto = |first: Option<u64>| first.map_or(self.last_step, |f| f.saturating_sub(1));
        let primary = upto(self.pending.front().map(|(seq, _)| *seq));
        Durable {
            primary,
            all: primary.min(upto(self.unreplicated.front().copied())),
        }
    }

    fn advance(&mut self) {
        let durable = self.durable();
        self.last_of_scope.retain(|_, seq| *seq > durable.all);
        for (held, upto) in [
            (&mut self.for_primary, durable.primary),
            (&mut self.for_all, durable.all),
        ] {
            while let Some(entry) = held.first_entry() {
                if *entry.key() > upto {
                    break;
                }
                self.out
                    .extend(entry.remove().into_iter().map(Released::Do));
            }
        }
        self.pump();
    }

    fn pump(&mut self) {
        let durable = self.durable();
        self.lanes.pump(durable, &mut self.out);
    }

    /// The next thing to do, in order.
    pub fn pop(&mut self) -> Option<Released> {
        self.out.pop_front()
    }

    /// A connection stands: messages for it may be queued.
    pub fn connected(&mut self, peer: PublicKey, epoch: ConnEpoch) {
        self.lanes.open(peer, epoch);
    }

    /// A connection has ended: what was not sent on it never will be (rule 11).
    pub fn disconnected(&mut self, peer: PublicKey, epoch: ConnEpoch) {
        self.lanes.close(peer, epoch);
    }

    /// What came of a signing job. What the signer refused is for the node, as
    /// [`Input::SigningRefused`](fulmen_node::Input::SigningRefused).
    #[must_use = "the node must hear of a refusal"]
    pub fn signed(&mut self, result: SigningResult) -> Option<Input> {
        let refused = self.lanes.signed(result);
        self.pump();
        let (lane, refused) = refused?;
        Some(Input::SigningRefused {
            lane,
            refused: Box::new(refused),
        })
    }

    /// Asks again for what an unavailable signer has not signed.
    pub fn retry_signing(&mut self) {
        self.lanes.retry();
        self.pump();
    }

    /// Ends connections whose last words have not left in time.
    pub fn end_overdue(&mut self, now: Timestamp, patience_millis: u64) {
        self.lanes.end_overdue(now, patience_millis, &mut self.out);
    }

    /// Whether the store is so far behind that peers must not be read (rule 4).
    pub fn is_behind(&self) -> bool {
        self.pending.len() >= self.limit.batches || self.pending_bytes >= self.limit.bytes
    }

    /// Whether everything is durable and has left.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
            && self.unreplicated.is_empty()
            && self.out.is_empty()
            && self.lanes.is_empty()
    }
}
