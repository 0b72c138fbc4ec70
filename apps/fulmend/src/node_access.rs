//! The running node, as the commands use it.

use fulmen_background_processor::{DriverStatus, NodeHandle, StoreHandle};
use fulmen_node::{Command, CommandId, Node, Reply};
use fulmen_persister::KeyValue;
use fulmen_types::record::{RecordKey, Space};

use crate::api_error::ApiError;

#[derive(Clone)]
pub(crate) struct NodeAccess {
    handle: NodeHandle<Node>,
    store: StoreHandle,
}

impl NodeAccess {
    pub(crate) fn new(handle: NodeHandle<Node>) -> Self {
        Self {
            store: handle.store(),
            handle,
        }
    }

    pub(crate) async fn command(&self, id: CommandId, command: Command) -> Result<Reply, ApiError> {
        Ok(self.handle.command(id, command).await?)
    }

    pub(crate) async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Node) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let answer = self.handle.query_mut(ask).await;
        answer.map_err(|stopped| ApiError::unavailable(stopped.to_string()))
    }

    /// Why the node only watches the chain, if it does.
    pub(crate) fn trouble(&self) -> Option<String> {
        match &*self.handle.status().borrow() {
            DriverStatus::Running | DriverStatus::Stopped { .. } => None,
            DriverStatus::EnforceOnly { reason } => Some(reason.clone()),
        }
    }

    /// Records of the node's store, in the order of the keys. Waits for the disk.
    pub(crate) fn record_of_each(
        &self,
        keys: Vec<RecordKey>,
    ) -> Result<Vec<Option<Vec<u8>>>, ApiError> {
        self.store
            .get_all(keys)
            .map_err(|e| ApiError::unavailable(e.to_string()))
    }

    /// A page of records of the node's store. Waits for the disk.
    pub(crate) fn records(
        &self,
        space: Space,
        from: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<KeyValue>, ApiError> {
        self.store
            .scan(space, from, limit)
            .map_err(|e| ApiError::unavailable(e.to_string()))
    }
}
