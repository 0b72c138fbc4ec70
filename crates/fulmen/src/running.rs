//! A running node.

use std::{fmt, future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bitcoin::secp256k1::PublicKey;
use fulmen_background_processor::{Broadcaster, DriverError, DriverTask, LocalRouter, NodeHandle};
use fulmen_block_sync::Status;
use fulmen_net_tokio::Net;
use fulmen_node::{Command, CommandError, CommandId, Node, Reply};
use fulmen_persister::EdgeStore;
use fulmen_types::Feerates;
use fulmen_wallet::OnchainWallet;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{graph_file, liquidity_file};

/// How long the graph may take to be saved at the end.
const LAST_SAVE: Duration = Duration::from_secs(3);

/// A running node, made by [`Builder::start`](crate::Builder::start). Stop it with [`RunningNode::stop`]:
/// what is dropped instead goes on without its wallet.
pub struct RunningNode {
    pub(crate) node_id: PublicKey,
    pub(crate) listening: Option<SocketAddr>,
    pub(crate) net: Option<Net>,
    pub(crate) handle: NodeHandle<Node>,
    pub(crate) driver: DriverTask,
    pub(crate) outcome: Option<Result<(), DriverError>>,
    pub(crate) wallet: Option<OnchainWallet>,
    pub(crate) router: Option<Arc<LocalRouter>>,
    pub(crate) broadcaster: Arc<dyn Broadcaster>,
    pub(crate) feerates: watch::Receiver<Option<Feerates>>,
    pub(crate) chain_status: Option<watch::Receiver<Status>>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) background: Background,
    pub(crate) own_edge: Option<EdgeStore>,
}

impl fmt::Debug for RunningNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNode")
            .field("node_id", &self.node_id)
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}

impl RunningNode {
    /// The node's key.
    pub const fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// Where peers connect, if anywhere.
    pub const fn listening(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// The connections over TCP, for what users want of them: who is banned, who is connected and since when.
    /// `None` when the builder was given another way to reach peers.
    pub const fn connections(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    /// Commands with ids of your own, queries, events, the status. Clones are handles of the same node.
    pub const fn handle(&self) -> &NodeHandle<Node> {
        &self.handle
    }

    /// Gives a command under a fresh id and waits for its answer, which comes once it is durable.
    ///
    /// # Errors
    /// Why the node refused it; the text says what to do.
    pub async fn command(&self, command: Command) -> Result<Reply, CommandError> {
        let mut id = [0u8; 16];
        getrandom::fill(&mut id).map_err(|e| CommandError::Unavailable(e.to_string()))?;
        self.handle.command(CommandId(id), command).await
    }

    /// The default on-chain wallet; `None` when the builder was given another one. Its calls may wait for
    /// the disk: make them from threads that may block.
    pub const fn wallet(&self) -> Option<&OnchainWallet> {
        self.wallet.as_ref()
    }

    /// The router of this project, for what it knows and why it answers as it does; `None` when the builder was
    /// given another one.
    pub const fn router(&self) -> Option<&Arc<LocalRouter>> {
        self.router.as_ref()
    }

    /// Gives transactions to the network.
    pub fn broadcaster(&self) -> Arc<dyn Broadcaster> {
        Arc::clone(&self.broadcaster)
    }

    /// The last feerates, and those to come.
    pub fn feerates(&self) -> watch::Receiver<Option<Feerates>> {
        self.feerates.clone()
    }

    /// How Bitcoin Core is, now and as it changes; `None` on another chain source.
    pub fn chain_status(&self) -> Option<watch::Receiver<Status>> {
        self.chain_status.clone()
    }

    /// Waits until the node has stopped by itself, which it does only when it can't go on.
    pub async fn ended(&mut self) {
        if self.outcome.is_none() {
            self.outcome = Some(joined((&mut self.driver).await));
        }
    }

    /// Stops the node: what is under way becomes durable, connections end, files are closed.
    ///
    /// # Errors
    /// Why it had stopped before, if it had.
    pub async fn stop(mut self) -> Result<(), DriverError> {
        // The graph is saved while the node still answers.
        self.stop.send_replace(true);
        self.background.finish().await;
        let outcome = match self.outcome.take() {
            Some(outcome) => outcome,
            None => {
                self.handle.shutdown().await;
                joined((&mut self.driver).await)
            }
        };
        if let Some(edge) = &self.own_edge {
            edge.close();
        }
        outcome
    }
}

fn joined(
    ended: Result<Result<(), DriverError>, tokio::task::JoinError>,
) -> Result<(), DriverError> {
    match ended {
        Ok(result) => result,
        Err(error) => Err(DriverError::Restore(Box::new(error))),
    }
}

/// What goes on beside the driver. With it all of it ends.
#[derive(Default)]
pub(crate) struct Background {
    tasks: JoinSet<()>,
    to_end: Vec<JoinHandle<()>>,
}

impl Background {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// For what is waited for at the end.
    pub(crate) fn spawn_to_end(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.to_end.push(tokio::spawn(task));
    }

    async fn finish(&mut self) {
        for task in self.to_end.drain(..) {
            let _ = tokio::time::timeout(LAST_SAVE, task).await;
        }
    }
}

/// Saves the graph now and then, and at the end; with it what the router has learned, if that is ours to save.
pub(crate) async fn save_caches(
    handle: NodeHandle<Node>,
    router: Option<Arc<LocalRouter>>,
    dir: PathBuf,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let taken = handle
            .query_mut(|node| (node.graph(), node.gossip().messages().to_bytes()))
            .await;
        if let Ok((graph, messages)) = taken {
            let (dir, router) = (dir.clone(), router.clone());
            let saved = tokio::task::spawn_blocking(move || {
                if let Some(router) = router {
                    liquidity_file::save(&dir, &router.to_bytes(&graph))?;
                }
                graph_file::save(&dir, &graph, &messages)
            })
            .await;
            match saved {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the graph, or what was learned about it, could not be saved")
                }
                Err(error) => {
                    tracing::warn!(%error, "the graph, or what was learned about it, could not be saved")
                }
            }
        }
        if is_last {
            return;
        }
    }
}
