//! The handle of a running node.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use fulmen_gossip::UnsignedGraph;
use fulmen_node::{Command, CommandError, CommandId, Input, Reply};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    committer::StoreHandle,
    events::{EventHub, EventStream},
};

/// How the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverStatus {
    /// As usual.
    Running,
    /// A commit failed: no peers, no commands, the chain only.
    EnforceOnly {
        /// Why, and what to do.
        reason: String,
    },
    /// It has stopped.
    Stopped {
        /// Why, if it was not asked to.
        error: Option<String>,
    },
}

/// The node has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has stopped")
    }
}

impl std::error::Error for Stopped {}

pub(crate) struct CommandRequest {
    pub(crate) id: CommandId,
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, CommandError>>,
}

pub(crate) type Query<H> = Box<dyn FnOnce(&mut H) + Send>;

/// The handle of a running node. Clones are handles of the same one.
pub struct NodeHandle<H> {
    pub(crate) commands: mpsc::Sender<CommandRequest>,
    pub(crate) queries: mpsc::Sender<Query<H>>,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) status: watch::Receiver<DriverStatus>,
    pub(crate) events: Weak<EventHub>,
    pub(crate) store: StoreHandle,
}

impl<H> Clone for NodeHandle<H> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            queries: self.queries.clone(),
            inputs: self.inputs.clone(),
            stop: self.stop.clone(),
            status: self.status.clone(),
            events: self.events.clone(),
            store: self.store.clone(),
        }
    }
}

impl<H> fmt::Debug for NodeHandle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl<H: 'static> NodeHandle<H> {
    /// Gives a command and waits for its answer, which comes once it is durable. The same id again gives
    /// the same answer and does nothing twice.
    pub async fn command(&self, id: CommandId, command: Command) -> Result<Reply, CommandError> {
        let (reply, answer) = oneshot::channel();
        let request = CommandRequest { id, command, reply };
        let stopped = || CommandError::Unavailable(Stopped.to_string());
        self.commands.send(request).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Asks the node something that changes nothing. What it tells may not be durable yet.
    pub async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&H) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.query_mut(move |heart| ask(heart)).await
    }

    /// The same for what needs the node exclusively, as taking a snapshot does. It must not change what
    /// the node does: such changes would come without a batch.
    pub async fn query_mut<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut H) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (done, answer) = oneshot::channel();
        let query: Query<H> = Box::new(move |heart| {
            // Who asked may have gone.
            let _ = done.send(ask(heart));
        });
        self.queries.send(query).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Gives the node a snapshot of the network that nobody signed. It is applied before any query that is
    /// asked after this.
    ///
    /// # Errors
    /// When the node has stopped.
    pub fn network_snapshot(&self, changes: UnsignedGraph) -> Result<(), Stopped> {
        let input = Input::NetworkSnapshot(Arc::new(changes));
        self.inputs.send(input).map_err(|_| Stopped)
    }

    /// The events from the number `from` on, as far as they are not acknowledged: those that are there,
    /// then each as it happens. `None` when the node has stopped.
    pub fn events(&self, from: u64) -> Option<EventStream> {
        self.events
            .upgrade()
            .map(|hub| EventStream::new(&hub, from))
    }

    /// How the node runs, now and as it changes.
    pub fn status(&self) -> watch::Receiver<DriverStatus> {
        self.status.clone()
    }

    /// The node's store, for adapters at the edge.
    pub fn store(&self) -> StoreHandle {
        self.store.clone()
    }

    /// Stops the node: what is under way becomes durable and leaves, then connections end. Returns when
    /// it has stopped.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let mut status = self.status.clone();
        // An error says that the driver is gone altogether.
        let _ = status
            .wait_for(|status| matches!(status, DriverStatus::Stopped { .. }))
            .await;
    }
}
