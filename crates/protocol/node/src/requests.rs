//! Open questions and what their answers lead to.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use fulmen_channel::IncomingHtlc;
use fulmen_enforce::{BroadcastId, ClaimId};
use fulmen_signer::SigningRequest;
use fulmen_tx::ChannelKeysId;
use fulmen_types::{CommitmentNumber, PaymentHash, Timestamp};

use crate::{
    command::PayCommand,
    input::{CommandId, RequestId},
};

/// What an answer is for.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    /// A part of what a new channel needs.
    Gather(ChannelKeysId, Part),
    /// The wallet's funding transaction for a channel.
    Funding(ChannelKeysId),
    /// A signature or point for a channel.
    ChannelSign(ChannelKeysId, Box<SigningRequest>),
    /// The network's word on a transaction that nothing depends on.
    Broadcast,
    /// What the onions of these HTLCs share with us.
    Onions(ChannelKeysId, Vec<IncomingHtlc>),
    /// A way for a payment.
    Route {
        /// The payment.
        payment_hash: PaymentHash,
        /// Its attempt.
        attempt: u32,
    },
    /// Whether a payment with this hash has ended before.
    PaymentArchive {
        /// Who wants to pay it.
        id: CommandId,
        /// How.
        command: Box<PayCommand>,
        /// The payment.
        payment_hash: PaymentHash,
        /// A payment with this hash has ended since the question: the answer may be older.
        is_stale: bool,
    },
    /// Our signature of a new invoice.
    InvoiceSign(CommandId, PaymentHash, Box<fulmen_invoice::UnsignedInvoice>),
    /// The coins of a claim.
    Coins(ChannelKeysId, u32),
    /// The wallet's witnesses for a claim.
    ClaimSign(ChannelKeysId, ClaimId, u32),
    /// The network's word on a claim.
    ClaimBroadcast(ChannelKeysId, BroadcastId),
    /// What punishes a revoked commitment.
    RemoteCommitment(ChannelKeysId, CommitmentNumber),
    /// For the gossip machine; its own number.
    Gossip(GossipPending),
}

/// Which part of a new channel's needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Keys,
    Point(usize),
    Script,
}

/// Which question of the gossip machine.
#[derive(Clone, Debug)]
pub(crate) enum GossipPending {
    /// The output behind a channel.
    Utxo(fulmen_types::ShortChannelId),
    /// Our signature of a message of ours.
    Sign(Box<fulmen_gossip::Unsigned>),
}

/// How long a port may take for an answer.
const PATIENCE_MILLIS: u64 = 5 * 60 * 1_000;
/// The most open questions: with more the oldest count as not answered.
const OPEN_MAX: usize = 10_000;

/// The open questions of this boot.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    boot: u64,
    next: u64,
    /// The time of the step.
    now: Timestamp,
    /// By number, so the oldest first, and since when.
    pending: BTreeMap<u64, (Timestamp, Pending)>,
}

impl Requests {
    pub(crate) const fn new(boot: u64) -> Self {
        Self {
            boot,
            next: 1,
            now: Timestamp::new(0),
            pending: BTreeMap::new(),
        }
    }

    /// A step begins.
    pub(crate) const fn begin(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// A question that has waited for too long, or is one too many: it is not waited for any more.
    pub(crate) fn give_up(&mut self) -> Option<Pending> {
        let is_due = self.next_wake().is_some_and(|at| self.now >= at);
        if !is_due && self.pending.len() <= OPEN_MAX {
            return None;
        }
        self.pending.pop_first().map(|(_, (_, pending))| pending)
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// When [`Requests::give_up`] has something next.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        let (since, _) = self.pending.values().next()?;
        Some(since.plus_millis(PATIENCE_MILLIS))
    }

    /// Remembers what an answer is for, and names the question.
    pub(crate) fn open(&mut self, pending: Pending) -> RequestId {
        let id = self.name();
        self.pending.insert(id.sequence, (self.now, pending));
        id
    }

    /// Names a question whose answer, if any comes, changes nothing: it is not waited for.
    pub(crate) fn name(&mut self) -> RequestId {
        let sequence = self.next;
        self.next += 1;
        RequestId {
            boot: self.boot,
            sequence,
        }
    }

    /// A payment has ended: what the archive is about to say of it may be older.
    pub(crate) fn payment_ended(&mut self, hash: &PaymentHash) {
        for (_, pending) in self.pending.values_mut() {
            if let Pending::PaymentArchive {
                payment_hash,
                is_stale,
                ..
            } = pending
                && payment_hash == hash
            {
                *is_stale = true;
            }
        }
    }

    /// What the answer with this id is for; nothing for another boot's or a second answer.
    pub(crate) fn close(&mut self, id: RequestId) -> Option<Pending> {
        if id.boot != self.boot {
            return None;
        }
        self.pending
            .remove(&id.sequence)
            .map(|(_, pending)| pending)
    }
}
