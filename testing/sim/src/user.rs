//! The users of the nodes: what they want, what they were told, and what they remember over every crash.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::OutPoint;
use fulmen_node::CommandId;
use fulmen_types::{ChannelId, PaymentHash};

use crate::plan::{ChannelPlan, PaymentPlan};

/// Something that a user wants.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// What.
    pub(crate) kind: TaskKind,
    /// How far it is.
    pub(crate) stage: Stage,
    /// The command that was given and not answered, and in which start of the node.
    pub(crate) command: Option<(CommandId, u32)>,
    /// How often it was tried anew.
    pub(crate) retries: u32,
}

/// The kinds of wishes.
#[derive(Clone, Debug)]
pub(crate) enum TaskKind {
    /// Open a channel.
    Open(ChannelPlan),
    /// Make a payment.
    Pay(PaymentPlan),
    /// Pay an invoice that somebody else pays too.
    PayAgain {
        /// The payment.
        plan: PaymentPlan,
        /// Who pays.
        from: usize,
        /// The task that made the invoice.
        task: usize,
    },
    /// Close a channel.
    Close {
        /// Which one.
        channel_id: ChannelId,
        /// Who closes.
        by: usize,
        /// Whether by force.
        force: bool,
    },
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The payer connects, the payee makes an invoice.
    First,
    /// The main thing: open, pay or close.
    Second,
    /// The command is answered; a payment waits for its end.
    Waiting,
    /// Done.
    Done,
    /// Come to nothing; why.
    Failed(String),
}

impl Task {
    /// A new task.
    pub(crate) const fn new(kind: TaskKind) -> Self {
        Self {
            kind,
            stage: Stage::First,
            command: None,
            retries: 0,
        }
    }

    /// Whether nothing is left to do.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Failed(_))
    }
}

/// A payment as its users see it.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    /// Its task.
    pub(crate) task: usize,
    /// Who pays, who is paid.
    pub(crate) ends: (usize, usize),
    /// How much.
    pub(crate) amount_msat: u64,
    /// The invoice.
    pub(crate) invoice: String,
    /// Told to the payer: the fee if it succeeded.
    pub(crate) sent: Option<Result<u64, String>>,
    /// Somebody else who pays the same invoice: who, its task, and what it was told.
    pub(crate) again: Option<Again>,
    /// Told to the payee: what came.
    pub(crate) received: Option<u64>,
}

/// A second payment of one invoice.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    /// Who pays.
    pub(crate) host: usize,
    /// Its task.
    pub(crate) task: usize,
    /// Told to the payer: the fee if it succeeded.
    pub(crate) sent: Option<Result<u64, String>>,
}

impl Tracked {
    /// What was told to a payer, and its task.
    pub(crate) fn payer(
        &mut self,
        host: usize,
    ) -> Option<(&mut Option<Result<u64, String>>, usize)> {
        if self.ends.0 == host {
            return Some((&mut self.sent, self.task));
        }
        self.again
            .as_mut()
            .filter(|again| again.host == host)
            .map(|again| (&mut again.sent, again.task))
    }
}

/// All users.
#[derive(Debug, Default)]
pub(crate) struct Users {
    /// What they want.
    pub(crate) tasks: Vec<Task>,
    /// Which command is of which task.
    pub(crate) commands: BTreeMap<CommandId, usize>,
    /// Their payments.
    pub(crate) payments: BTreeMap<PaymentHash, Tracked>,
    /// What forwarding earned each host, in msat.
    pub(crate) earned: BTreeMap<usize, u64>,
    /// What each host failed upstream though it was undecided on chain, in msat, and for which payments.
    pub(crate) given_up: BTreeMap<usize, u64>,
    pub(crate) given_up_hashes: BTreeSet<PaymentHash>,
    /// Where the money of channels lies.
    pub(crate) fundings: BTreeMap<ChannelId, OutPoint>,
    /// Channels that were opened: with the plan.
    pub(crate) channels: BTreeMap<ChannelId, ChannelPlan>,
}
