//! The log of events: durable, so that every listener can resume from its own cursor.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use fulmen_api as api;
use fulmen_node::{CloseInitiator, Event, NumberedEvent};
use fulmen_persister::{EdgeStore, StoreError, edge_key, numbered};
use fulmen_types::{
    PaymentHash, Printable,
    codec::{Decode, Encode},
    record::WriteBatch,
};
use tokio::sync::{oneshot, watch};

const PREFIX: &[u8] = b"event/";
/// The number of the last one.
const LAST: &[u8] = b"last-event";
/// So many events are kept.
const KEPT: u64 = 100_000;
/// So many are read at once.
const PAGE: usize = 500;

/// The log of events.
#[derive(Clone)]
pub(crate) struct EventLog {
    inner: Arc<Inner>,
}

struct Inner {
    edge: EdgeStore,
    last: watch::Sender<u64>,
    /// Who waits for the end of a payment.
    waiting: Mutex<BTreeMap<PaymentHash, Vec<oneshot::Sender<()>>>>,
}

impl EventLog {
    pub(crate) fn open(edge: EdgeStore) -> Result<Self, StoreError> {
        // Start-up must not take the longer the more has happened.
        let last = match edge.get(LAST)? {
            Some(value) => <[u8; 8]>::try_from(value.as_slice())
                .map(u64::from_be_bytes)
                .ok(),
            None => None,
        }
        .unwrap_or(0);
        let (last, _) = watch::channel(last);
        Ok(Self {
            inner: Arc::new(Inner {
                edge,
                last,
                waiting: Mutex::new(BTreeMap::new()),
            }),
        })
    }

    /// Appends events; those that are there already are skipped. May wait for the disk.
    pub(crate) fn append(&self, events: &[NumberedEvent]) -> Result<(), StoreError> {
        let last = *self.inner.last.borrow();
        let mut batch = WriteBatch::new();
        let mut newest = last;
        for event in events.iter().filter(|event| event.number > last) {
            batch.put(edge_key(numbered(PREFIX, event.number)), event.to_bytes());
            if let Some(old) = event.number.checked_sub(KEPT) {
                batch.delete(edge_key(numbered(PREFIX, old)));
            }
            newest = newest.max(event.number);
        }
        if newest > last {
            batch.put(edge_key(LAST), newest.to_be_bytes().to_vec());
        }
        self.inner.edge.write(batch)?;
        self.inner.last.send_if_modified(|last| {
            let is_newer = newest > *last;
            *last = newest;
            is_newer
        });
        for event in events {
            match &event.event {
                Event::PaymentSucceeded { payment_hash, .. }
                | Event::PaymentFailed { payment_hash, .. } => self.wake(payment_hash),
                _ => {}
            }
        }
        Ok(())
    }

    /// At most a page of events from number `from` on.
    pub(crate) fn read(&self, from: u64) -> Result<Vec<api::Event>, StoreError> {
        let mut events = Vec::new();
        for (_, value) in self
            .inner
            .edge
            .scan_prefix(PREFIX, &numbered(PREFIX, from), PAGE)?
        {
            if let Ok(event) = NumberedEvent::from_bytes(&value) {
                events.push(to_api(&event));
            }
        }
        Ok(events)
    }

    /// The number of the last event, and a way to wait for more.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.inner.last.subscribe()
    }

    /// Is told when a payment has ended from now on.
    pub(crate) fn end_of(&self, payment_hash: PaymentHash) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_payment = waiting.entry(payment_hash).or_default();
        // Those who went away must not pile up where one payment is asked for again and again.
        of_payment.retain(|tell| !tell.is_closed());
        of_payment.push(tell);
        told
    }

    /// Forgets who waited for a payment and went away.
    pub(crate) fn forget(&self, payment_hash: &PaymentHash) {
        let mut waiting = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(of_payment) = waiting.get_mut(payment_hash) {
            of_payment.retain(|tell| !tell.is_closed());
            if of_payment.is_empty() {
                waiting.remove(payment_hash);
            }
        }
    }

    fn wake(&self, payment_hash: &PaymentHash) {
        let told = self
            .inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(payment_hash);
        for tell in told.into_iter().flatten() {
            // Who went away needs no answer.
            let _ = tell.send(());
        }
    }
}

/// As the API shows it. Peers' words are made printable.
pub(crate) fn to_api(event: &NumberedEvent) -> api::Event {
    let text = |text: &str| Printable(text.as_bytes()).to_string();
    let kind = match &event.event {
        Event::ChannelPending {
            channel_id,
            peer,
            funding,
            capacity,
        } => api::EventKind::ChannelPending {
            channel_id: channel_id.to_string(),
            peer: peer.to_string(),
            funding: funding.to_string(),
            capacity_sat: capacity.to_sat(),
        },
        Event::ChannelReady { channel_id, peer } => api::EventKind::ChannelReady {
            channel_id: channel_id.to_string(),
            peer: peer.to_string(),
        },
        Event::ChannelOpenFailed {
            channel_id,
            peer,
            reason,
        } => api::EventKind::ChannelOpenFailed {
            channel_id: channel_id.to_string(),
            peer: peer.to_string(),
            reason: text(reason),
        },
        Event::ChannelClosing {
            channel_id,
            peer,
            initiator,
            forced,
            reason,
        } => api::EventKind::ChannelClosing {
            channel_id: channel_id.to_string(),
            peer: peer.to_string(),
            initiator: match initiator {
                CloseInitiator::Us => "us".into(),
                CloseInitiator::Peer => "peer".into(),
            },
            forced: *forced,
            reason: text(reason),
        },
        Event::ChannelClosed {
            channel_id,
            txid,
            kind,
            height,
        } => api::EventKind::ChannelClosed {
            channel_id: channel_id.to_string(),
            txid: txid.to_string(),
            kind: text(kind),
            height: height.to_u32(),
        },
        Event::Breach { channel_id, txid } => api::EventKind::Breach {
            channel_id: channel_id.to_string(),
            txid: txid.to_string(),
        },
        Event::Swept {
            channel_id,
            txid,
            amount,
            fee,
        } => api::EventKind::Swept {
            channel_id: channel_id.to_string(),
            txid: txid.to_string(),
            amount_sat: amount.to_sat(),
            fee_sat: fee.to_sat(),
        },
        Event::ChannelResolved { channel_id } => api::EventKind::ChannelResolved {
            channel_id: channel_id.to_string(),
        },
        Event::PaymentSucceeded {
            payment_hash,
            preimage,
            amount,
            fee,
        } => api::EventKind::PaymentSucceeded {
            payment_hash: payment_hash.to_string(),
            preimage: crate::views::hex(preimage.as_bytes()),
            amount_msat: amount.to_msat(),
            fee_msat: fee.to_msat(),
        },
        Event::PaymentFailed {
            payment_hash,
            reason,
        } => api::EventKind::PaymentFailed {
            payment_hash: payment_hash.to_string(),
            reason: text(reason),
        },
        Event::PaymentReceived {
            payment_hash,
            amount,
        } => api::EventKind::PaymentReceived {
            payment_hash: payment_hash.to_string(),
            amount_msat: amount.to_msat(),
        },
        Event::PaymentForwarded {
            incoming,
            outgoing,
            amount,
            fee,
        } => api::EventKind::PaymentForwarded {
            incoming: incoming.to_string(),
            outgoing: outgoing.to_string(),
            amount_msat: amount.to_msat(),
            fee_msat: fee.to_msat(),
        },
        Event::HtlcGivenUp {
            incoming,
            outgoing,
            payment_hash,
            amount,
        } => api::EventKind::HtlcGivenUp {
            incoming: incoming.to_string(),
            outgoing: outgoing.to_string(),
            payment_hash: payment_hash.to_string(),
            amount_msat: amount.to_msat(),
        },
        Event::SignerBlocked {
            channel_id,
            peer,
            reason,
        } => api::EventKind::SignerBlocked {
            channel_id: channel_id.to_string(),
            peer: peer.to_string(),
            reason: text(reason),
        },
        Event::Alert { message } => api::EventKind::Alert {
            message: text(message),
        },
    };
    api::Event {
        number: event.number,
        at_millis: event.at.millis_since(Default::default()),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulmen_types::Timestamp;

    fn event(number: u64) -> NumberedEvent {
        let event = Event::Alert {
            message: format!("event {number}"),
        };
        NumberedEvent {
            number,
            at: Timestamp::from_secs(number),
            event,
        }
    }

    fn open(path: &std::path::Path) -> EdgeStore {
        let store = fulmen_persister::SqliteStore::open(path).expect("free");
        EdgeStore::new(store).expect("readable")
    }

    fn numbers(log: &EventLog, from: u64) -> Vec<u64> {
        let events = log.read(from).expect("readable");
        events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn events_that_come_again_are_kept_once_and_old_ones_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("edge.sqlite");
        let edge = open(&path);
        let log = EventLog::open(edge.clone()).expect("new");
        log.append(&[event(1), event(2)]).expect("room");
        log.append(&[event(1), event(2), event(3)]).expect("room");
        assert_eq!(numbers(&log, 0), [1, 2, 3]);
        assert_eq!(numbers(&log, 3), [3]);
        assert_eq!(numbers(&log, 4), Vec::<u64>::new());
        edge.close();

        let edge = open(&path);
        let log = EventLog::open(edge).expect("readable");
        assert_eq!(*log.watch().borrow(), 3);
        log.append(&[event(3), event(KEPT + 1), event(KEPT + 2)])
            .expect("room");
        assert_eq!(numbers(&log, 0), [3, KEPT + 1, KEPT + 2]);
    }

    #[tokio::test]
    async fn who_waits_for_a_payment_is_told_of_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let edge = open(&dir.path().join("edge.sqlite"));
        let log = EventLog::open(edge).expect("new");
        let hash = PaymentHash::new([1; 32]);
        let (first, second) = (log.end_of(hash), log.end_of(hash));
        let other = log.end_of(PaymentHash::new([2; 32]));
        drop(first);
        let failed = Event::PaymentFailed {
            payment_hash: hash,
            reason: "no way".into(),
        };
        log.append(&[NumberedEvent {
            event: failed,
            ..event(1)
        }])
        .expect("room");
        assert_eq!(second.await, Ok(()));
        drop(other);
        log.forget(&PaymentHash::new([2; 32]));
        assert!(log.inner.waiting.lock().expect("not poisoned").is_empty());
    }
}
