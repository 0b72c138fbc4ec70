//! One step in the making: the batch and the actions that become its effects.

use alloc::{
    collections::{BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use fulmen_tx::ChannelKeysId;
use fulmen_types::{Timestamp, record::WriteBatch};

use crate::{
    effects::{Action, ActionKind, NoteLevel, ReleaseClass, Scope},
    work::Work,
};

/// What a step has brought about so far.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) now: Timestamp,
    pub(crate) seq: u64,
    pub(crate) batch: WriteBatch,
    pub(crate) actions: Vec<Action>,
    pub(crate) scopes: BTreeSet<Scope>,
    /// What is left to do before the step ends.
    pub(crate) work: VecDeque<Work>,
    /// Channels that may have something to sign at the end of the step.
    pub(crate) touched: BTreeSet<ChannelKeysId>,
}

impl Step {
    pub(crate) fn new(now: Timestamp, seq: u64) -> Self {
        Self {
            now,
            seq,
            batch: WriteBatch::new(),
            actions: Vec::new(),
            scopes: BTreeSet::new(),
            work: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    /// What leaves only when the step is durable everywhere.
    pub(crate) fn act(&mut self, kind: ActionKind) {
        self.act_as(ReleaseClass::All, kind);
    }

    pub(crate) fn act_as(&mut self, class: ReleaseClass, kind: ActionKind) {
        self.actions.push(Action {
            class,
            after: self.seq,
            kind,
        });
    }

    /// A line for the log.
    pub(crate) fn note(&mut self, level: NoteLevel, text: impl Into<String>) {
        self.act_as(
            ReleaseClass::Now,
            ActionKind::Note {
                level,
                text: text.into(),
            },
        );
    }

    pub(crate) fn scope(&mut self, scope: Scope) {
        self.scopes.insert(scope);
    }
}
