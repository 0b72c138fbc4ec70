//! Streams of events that resume from a cursor.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fulmen_node::NumberedEvent;
use tokio::sync::watch;

/// How many events are kept for streams that are behind.
const KEPT: usize = 10_000;

/// What has been released, for all streams.
#[derive(Debug)]
pub(crate) struct EventHub {
    kept: Mutex<BTreeMap<u64, NumberedEvent>>,
    /// The number of the newest event; closed when there will be no more.
    newest: watch::Sender<u64>,
}

impl EventHub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
        })
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, NumberedEvent>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` for one that was published before (events come again after a reload).
    pub(crate) fn publish(&self, event: NumberedEvent) -> bool {
        let number = event.number;
        {
            let mut kept = self.kept();
            if kept.insert(number, event).is_some() {
                return false;
            }
            if kept.len() > KEPT {
                kept.pop_first();
            }
        }
        self.newest.send_if_modified(|newest| {
            *newest = (*newest).max(number);
            true
        });
        true
    }
}

/// Events from a number on, in order: those that are there, then each as it happens.
#[derive(Debug)]
pub struct EventStream {
    hub: std::sync::Weak<EventHub>,
    newest: watch::Receiver<u64>,
    next: u64,
}

impl EventStream {
    /// From the first event that is not acknowledged and has at least the number `from`.
    pub(crate) fn new(hub: &Arc<EventHub>, from: u64) -> Self {
        Self {
            hub: Arc::downgrade(hub),
            newest: hub.newest.subscribe(),
            next: from,
        }
    }

    /// The next event; `None` when the node has stopped.
    pub async fn next(&mut self) -> Option<NumberedEvent> {
        loop {
            self.newest.borrow_and_update();
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            self.newest.changed().await.ok()?;
        }
    }

    /// The next event if it is there.
    pub fn try_next(&mut self) -> Option<NumberedEvent> {
        let hub = self.hub.upgrade()?;
        let event = hub
            .kept()
            .range(self.next..)
            .next()
            .map(|(_, event)| event.clone())?;
        self.next = event.number.saturating_add(1);
        Some(event)
    }
}
