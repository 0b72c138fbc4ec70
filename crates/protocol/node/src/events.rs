//! Events: numbered, durable, kept until acknowledged or until there are too many.

use alloc::collections::BTreeMap;

use fulmen_types::{
    Timestamp,
    codec::{Decode, DecodeError, Encode},
    record::{RecordKey, Space, WriteBatch},
};

use crate::event::{Event, NumberedEvent};

/// The most events that are kept: the oldest go first.
const KEPT_MAX: usize = 10_000;

#[derive(Clone, Debug)]
pub(crate) struct Events {
    last: u64,
    kept: BTreeMap<u64, NumberedEvent>,
}

impl Events {
    pub(crate) const fn empty() -> Self {
        Self {
            last: 0,
            kept: BTreeMap::new(),
        }
    }

    /// From its records, the counter's and the events'.
    pub(crate) fn restore(
        counter: Option<&[u8]>,
        records: impl IntoIterator<Item = alloc::vec::Vec<u8>>,
    ) -> Result<Self, DecodeError> {
        let mut kept = BTreeMap::new();
        for bytes in records {
            let event = NumberedEvent::from_bytes(&bytes)?;
            kept.insert(event.number, event);
        }
        let counted = counter.map(u64::from_bytes).transpose()?.unwrap_or(0);
        let last = kept
            .last_key_value()
            .map_or(0, |(number, _)| *number)
            .max(counted);
        Ok(Self { last, kept })
    }

    pub(crate) fn counter_key() -> RecordKey {
        RecordKey::new(Space::Node, *b"last event")
    }

    fn key(number: u64) -> RecordKey {
        RecordKey::new(Space::Event, number.to_be_bytes())
    }

    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        event: Event,
        batch: &mut WriteBatch,
    ) -> NumberedEvent {
        self.last += 1;
        let event = NumberedEvent {
            number: self.last,
            at: now,
            event,
        };
        batch.put(Self::key(self.last), event.to_bytes());
        batch.put(Self::counter_key(), self.last.to_bytes());
        self.kept.insert(self.last, event.clone());
        while self.kept.len() > KEPT_MAX
            && let Some((number, _)) = self.kept.pop_first()
        {
            batch.delete(Self::key(number));
        }
        event
    }

    /// Adds the records of all events, and of their counter.
    pub(crate) fn write(&self, batch: &mut WriteBatch) {
        for (number, event) in &self.kept {
            batch.put(Self::key(*number), event.to_bytes());
        }
        if self.last > 0 {
            batch.put(Self::counter_key(), self.last.to_bytes());
        }
    }

    pub(crate) fn acknowledge(&mut self, up_to: u64, batch: &mut WriteBatch) {
        let rest = self.kept.split_off(&up_to.saturating_add(1));
        for number in core::mem::replace(&mut self.kept, rest).into_keys() {
            batch.delete(Self::key(number));
        }
    }

    /// Those after number `cursor`, in order.
    pub(crate) fn after(&self, cursor: u64) -> impl Iterator<Item = &NumberedEvent> {
        self.kept
            .range(cursor.saturating_add(1)..)
            .map(|(_, event)| event)
    }

    pub(crate) const fn last(&self) -> u64 {
        self.last
    }
}
