//! What waits to be sent on one connection.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// A bounded queue of messages in plain, filled from anywhere and emptied by the connection's task.
#[derive(Debug)]
pub(crate) struct SendQueue {
    state: Mutex<State>,
    changed: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the node has said its first word: pings and pongs wait for it.
    begun: bool,
    /// Whether nothing more is taken and the connection ends when all is sent.
    closing: bool,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closing,
}

impl SendQueue {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            max_bytes,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message of the node.
    pub(crate) fn push(&self, message: Vec<u8>) -> Result<(), PushError> {
        {
            let mut state = self.state();
            if state.closing {
                return Err(PushError::Closing);
            }
            if state.bytes.saturating_add(message.len()) > self.max_bytes {
                return Err(PushError::Full);
            }
            state.begun = true;
            state.bytes += message.len();
            state.messages.push_back(message);
        }
        self.changed.notify_one();
        Ok(())
    }

    /// A message of our own, after the first one of the node; before that it is dropped. Waits as long as
    /// a peer does not read what we sent it before.
    pub(crate) async fn push_own(&self, message: Vec<u8>) {
        loop {
            {
                let mut state = self.state();
                if state.closing || !state.begun {
                    return;
                }
                if state.bytes.saturating_add(message.len()) <= self.max_bytes / 2 {
                    state.bytes += message.len();
                    state.messages.push_back(message);
                    break;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.changed.notify_one();
    }

    /// Takes nothing more; the connection ends when what is there is sent.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state().closing
    }

    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// The next messages, about `max_bytes` of them; `None` when the connection is to end.
    pub(crate) async fn pop(&self, max_bytes: usize) -> Option<Vec<Vec<u8>>> {
        loop {
            {
                let mut state = self.state();
                let mut taken = Vec::new();
                let mut size = 0;
                while size < max_bytes {
                    let Some(message) = state.messages.pop_front() else {
                        break;
                    };
                    size += message.len();
                    taken.push(message);
                }
                state.bytes = state.bytes.saturating_sub(size);
                if !taken.is_empty() {
                    return Some(taken);
                }
                if state.closing {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}
