//! What runs have reached: inputs by the state of their channel, crashes by what was being written, and branches
//! that are rare.

use std::collections::{BTreeMap, BTreeSet};

use fulmen_node::ChannelState;
use fulmen_wire::Message;

use crate::world::World;

/// Branches that are rare, by the words of the trace that show them.
const MARKS: &[(&str, &str)] = &[
    ("a breach is noticed", "event: Breach"),
    (
        "a revoked commitment is confirmed",
        "the revoked commitment",
    ),
    (
        "an HTLC's deadline closes a channel",
        "did not remove it by",
    ),
    (
        "a preimage's deadline closes a channel",
        "did not let us settle it by",
    ),
    ("a peer's error closes a channel", "the peer sent an error"),
    ("a peer's fault closes a channel", "the peer broke a rule"),
    (
        "a channel is closed by the peer's commitment",
        "kind: \"theirs\"",
    ),
    (
        "a channel is closed by the peer's next commitment",
        "kind: \"theirs (next)\"",
    ),
    ("a channel is closed by our commitment", "kind: \"ours\""),
    ("a channel is closed together", "kind: \"mutual\""),
    (
        "a closing transaction is taken back",
        "a reorganisation took",
    ),
    (
        "our state is old and we know it",
        "has proved that our state is old",
    ),
    (
        "the peer's state is newer than ours",
        "is newer than our state",
    ),
    (
        "a claim is not worth its fee",
        "costs more to claim than it is worth",
    ),
    ("a broadcast meets a conflict", ": Conflict("),
    ("a broadcast is below the floor", ": BelowFloor("),
    ("a broadcast misses its inputs", ": MissingInputs("),
    ("a broadcast can't be signed", ": Unsigned("),
    ("an eviction", "is dropped from the mempool"),
    ("censorship", "miners leave"),
    ("the end of a spike", "the spike is over"),
    ("a reorganisation", "are replaced"),
    ("a disk fails", "can't write to its disk"),
    ("a stall", "stalls from"),
    (
        "signer, wallet and router are away",
        "signer, wallet and router are away",
    ),
    ("a connection takes the place of another", "Replaced"),
    ("a peer is told what it did wrong", "ProtocolViolation"),
    ("a payment succeeds", "event: PaymentSucceeded"),
    ("a payment fails", "event: PaymentFailed"),
    ("a payment is forwarded", "event: PaymentForwarded"),
    ("a small HTLC is given up", "event: HtlcGivenUp"),
    ("an open fails", "event: ChannelOpenFailed"),
    ("a sweep", "event: Swept"),
    ("a resolution ends", "event: ChannelResolved"),
    ("an alert", "event: Alert"),
    ("a close takes too long", "was not agreed on in time"),
];

/// Messages whose meaning depends on the state of a channel.
const MESSAGES: &[&str] = &[
    "channel_ready",
    "shutdown",
    "closing_signed",
    "update_add_htlc",
    "update_fulfill_htlc",
    "update_fail_htlc",
    "update_fail_malformed_htlc",
    "commitment_signed",
    "revoke_and_ack",
    "update_fee",
    "channel_reestablish",
    "announcement_signatures",
    "error",
    "warning",
];

/// The states that a channel can be in, as the table has them.
const STATES: &[&str] = &[
    "opening",
    "awaiting ready",
    "normal",
    "normal, away",
    "shutting down",
    "mutual close",
    "force closing",
    "on chain",
    "stale",
];

/// What was reached, and how often.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    on: bool,
    inputs: BTreeMap<(&'static str, String), u64>,
    crashes: BTreeMap<(String, bool), u64>,
    marks: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// An empty one that counts.
    pub fn counting() -> Self {
        Self {
            on: true,
            ..Self::default()
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (cell, count) in &other.inputs {
            *self.inputs.entry(cell.clone()).or_default() += count;
        }
        for (cell, count) in &other.crashes {
            *self.crashes.entry(cell.clone()).or_default() += count;
        }
        for (mark, count) in &other.marks {
            *self.marks.entry(mark).or_default() += count;
        }
    }

    /// A line of the trace.
    pub(crate) fn line(&mut self, text: &str) {
        if !self.on {
            return;
        }
        for (mark, words) in MARKS {
            let (is_event, words) = match words.strip_prefix("event: ") {
                Some(words) => (true, words),
                None => (false, *words),
            };
            if text.contains(words) && (!is_event || text.contains(" event ")) {
                *self.marks.entry(mark).or_default() += 1;
            }
        }
    }

    /// The tables, and every cell that is empty.
    pub fn report(&self) -> String {
        let mut lines = vec!["Inputs by the state of their channel:".to_owned()];
        let mut empty = Vec::new();
        let header: Vec<String> = STATES.iter().map(|state| format!("{state:>15}")).collect();
        lines.push(format!("{:<28}{}", "", header.concat()));
        for message in MESSAGES {
            let cells = STATES.iter().map(|state| {
                let count = self
                    .inputs
                    .get(&(state, (*message).to_owned()))
                    .copied()
                    .unwrap_or(0);
                if count == 0 {
                    empty.push(format!("{message} while {state}"));
                }
                format!("{count:>15}")
            });
            let cells: Vec<String> = cells.collect();
            lines.push(format!("{message:<28}{}", cells.concat()));
        }
        lines.push("\nCrashes by what was being written, kept and lost:".to_owned());
        let kinds: BTreeSet<&String> = self.crashes.keys().map(|(kind, _)| kind).collect();
        for kind in kinds {
            let count = |kept: bool| {
                let cell = (kind.clone(), kept);
                self.crashes.get(&cell).copied().unwrap_or(0)
            };
            for (kept, word) in [(true, "kept"), (false, "lost")] {
                if count(kept) == 0 {
                    empty.push(format!("a crash with {kind} {word}"));
                }
            }
            lines.push(format!("{:>8} {:>8}  {kind}", count(true), count(false)));
        }
        lines.push("\nRare branches:".to_owned());
        for (mark, _) in MARKS {
            let count = self.marks.get(mark).copied().unwrap_or(0);
            if count == 0 {
                empty.push((*mark).to_owned());
            }
            lines.push(format!("{count:>8}  {mark}"));
        }
        lines.push(format!("\n{} empty cells:", empty.len()));
        lines.extend(empty.into_iter().map(|cell| format!("  {cell}")));
        lines.join("\n")
    }
}

const fn state_name(state: &ChannelState) -> &'static str {
    match state {
        ChannelState::Opening => "opening",
        ChannelState::AwaitingReady => "awaiting ready",
        ChannelState::Normal { usable: true } => "normal",
        ChannelState::Normal { usable: false } => "normal, away",
        ChannelState::ShuttingDown => "shutting down",
        ChannelState::MutualClose(_) => "mutual close",
        ChannelState::ForceClosing(_) => "force closing",
        ChannelState::OnChain(_) => "on chain",
        ChannelState::Stale => "stale",
        ChannelState::SignerBlocked(_) => "signer blocked",
    }
}

impl World {
    /// A message arrives at a host.
    pub(crate) fn cover_message(&mut self, host: usize, message: &Message) {
        if !self.coverage.on {
            return;
        }
        let Some(channel_id) = message.channel_id() else {
            return;
        };
        let own = self.hosts[host].channels();
        if let Some(channel) = own.iter().find(|c| c.channel_id == channel_id) {
            let cell = (state_name(&channel.state), message.name().to_owned());
            *self.coverage.inputs.entry(cell).or_default() += 1;
        }
    }

    /// A host stops; the first `kept` of its batches survive.
    pub(crate) fn cover_crash(&mut self, host: usize, kept: usize) {
        if !self.coverage.on {
            return;
        }
        for (place, kind) in self.hosts[host]
            .disk
            .pending_kinds()
            .into_iter()
            .enumerate()
        {
            let cell = (kind, place < kept);
            *self.coverage.crashes.entry(cell).or_default() += 1;
        }
    }
}
