//! Keeping a graph in step with a server of snapshots.

use std::{fmt, future::Future, time::Duration};

use bitcoin::constants::ChainHash;
use fulmen_gossip::{UnsignedApplied, UnsignedGraph};
use fulmen_types::Timestamp;

use crate::{
    DecodeError, FetchError, FetchLimits, Source, decode,
    format::{DAY_SECS, STALE_SECS},
};

/// How a graph is kept in step.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// Where snapshots come from.
    pub source: Source,
    /// The chain of the graph.
    pub chain: ChainHash,
    /// Between two snapshots.
    pub interval: Duration,
    /// After a failure; twice as long after the next, and so on.
    pub retry_first: Duration,
    /// But no longer than this.
    pub retry_most: Duration,
    /// What a snapshot may cost.
    pub limits: FetchLimits,
}

impl FollowConfig {
    /// Once a day, again after a minute where that fails, then at longer intervals up to an hour.
    pub fn new(source: Source, chain: ChainHash) -> Self {
        Self {
            source,
            chain,
            interval: Duration::from_secs(u64::from(DAY_SECS)),
            retry_first: Duration::from_secs(60),
            retry_most: Duration::from_secs(3_600),
            limits: FetchLimits::default(),
        }
    }
}

/// The graph that is kept in step. `None` says that it is gone for good.
pub trait Target: Send + Sync {
    /// Up to when the snapshots that are applied had heard the network, in seconds since 1970; 0 for none.
    /// It is to be as durable as the graph, and lost with it.
    fn seen_until(&self) -> impl Future<Output = Option<u32>> + Send;

    /// Applies a snapshot.
    fn apply(&self, changes: UnsignedGraph)
    -> impl Future<Output = Option<UnsignedApplied>> + Send;

    /// The time.
    fn now(&self) -> Timestamp;
}

/// Why a snapshot was not applied.
#[derive(Debug)]
pub enum SyncError {
    /// It could not be had.
    Fetch(FetchError),
    /// It is of no use.
    Decode(DecodeError),
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(error) => write!(f, "{error}"),
            Self::Decode(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SyncError {}

/// Fetches and reads what changed since `seen_until`. What is too old to be told since is asked for whole.
///
/// # Errors
/// Why there is nothing to apply.
pub async fn fetch(
    config: &FollowConfig,
    seen_until: u32,
    now: Timestamp,
) -> Result<UnsignedGraph, SyncError> {
    let age = now.to_secs_floor().saturating_sub(u64::from(seen_until));
    let since = if age < u64::from(STALE_SECS) {
        seen_until
    } else {
        0
    };
    let fetched = config.source.fetch(since, &config.limits).await;
    let bytes = fetched.map_err(SyncError::Fetch)?;
    let chain = config.chain;
    // A few milliseconds, but of a network of any size.
    let reading = tokio::task::spawn_blocking(move || decode(&bytes, chain, now));
    match reading.await {
        Ok(read) => read.map_err(SyncError::Decode),
        Err(error) => {
            let error = std::io::Error::other(error);
            Err(SyncError::Fetch(FetchError::Connection(error)))
        }
    }
}

/// Keeps a graph in step until it is gone.
pub async fn follow(config: FollowConfig, target: impl Target) {
    let mut retry = config.retry_first;
    let Some(seen) = target.seen_until().await else {
        return;
    };
    // After a restart the next one is due a day after the last.
    let age = target.now().to_secs_floor().saturating_sub(u64::from(seen));
    let mut wait = config.interval.saturating_sub(Duration::from_secs(age));
    loop {
        tokio::time::sleep(wait).await;
        let Some(seen) = target.seen_until().await else {
            return;
        };
        match fetch(&config, seen, target.now()).await {
            Ok(changes) => {
                let seen_until = changes.seen_until;
                let Some(applied) = target.apply(changes).await else {
                    return;
                };
                tracing::info!(
                    source = %config.source,
                    seen_until,
                    channels_added = applied.channels_added,
                    policies_set = applied.policies_set,
                    nodes_set = applied.nodes_set,
                    "a snapshot of the network was applied"
                );
                retry = config.retry_first;
                wait = config.interval;
            }
            Err(error) => {
                tracing::warn!(
                    source = %config.source,
                    %error,
                    again_in = ?retry,
                    "no snapshot of the network; peers tell of it too"
                );
                wait = retry;
                retry = retry.saturating_mul(2).min(config.retry_most);
            }
        }
    }
}
