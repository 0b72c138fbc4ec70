//! Following the chain for as long as somebody listens, through outages.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use tokio::sync::{mpsc, watch};

use crate::{Bitcoind, BlockRef, ChainUpdate, Error, Follower};

/// How to follow.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// How often to look for a new block.
    pub poll_interval: Duration,
    /// The longest wait after failures.
    pub max_backoff: Duration,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
        }
    }
}

/// How the chain source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not answered yet.
    Starting,
    /// It answers.
    Up {
        /// Since when.
        since: SystemTime,
        /// The last block that was given on.
        tip: BlockRef,
        /// Whether that is the best one.
        synced: bool,
    },
    /// It does not answer.
    Down {
        /// Since when.
        since: SystemTime,
        /// How often it was asked since.
        attempts: u32,
        /// Why, and what to do.
        error: String,
    },
}

/// What to look for in blocks that were given already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RescanTarget {
    /// Every spend of this output.
    Spend(OutPoint),
    /// Every payment to this script.
    Payment(ScriptBuf),
}

/// Blocks to look through once more.
#[derive(Clone, Debug)]
pub struct Rescan {
    /// What to look for.
    pub target: RescanTarget,
    /// The first block to look at.
    pub from: u32,
}

/// Gives every step from the follower's tip on to `out`, as fast as it is taken, until nobody takes them
/// any more or the chain can't be followed. Outages are waited out and told by `status`.
///
/// What `rescans` asks for is looked up before the next step, as far as blocks were given already.
pub async fn follow(
    mut follower: Follower,
    client: Bitcoind,
    mut rescans: mpsc::UnboundedReceiver<Rescan>,
    out: mpsc::Sender<ChainUpdate>,
    status: watch::Sender<Status>,
    config: FollowConfig,
) -> Result<(), Error> {
    let wait = Waiter { status, config };
    let mut pending: Vec<Rescan> = Vec::new();
    let mut rescans_open = true;
    loop {
        while let Ok(rescan) = rescans.try_recv() {
            pending.push(rescan);
        }
        pending.retain(|rescan| rescan.from <= follower.tip().height);
        let step = if pending.is_empty() {
            follower.next().await
        } else {
            rescan_once(&client, &follower, &mut pending).await
        };
        match step {
            Ok(Some(update)) => {
                wait.up(&follower, matches!(update, ChainUpdate::BestTip(_)));
                // A slow listener is waited for here: blocks stay at Bitcoin Core until wanted.
                if out.send(update).await.is_err() {
                    return Ok(());
                }
            }
            Ok(None) if !pending.is_empty() => {}
            Ok(None) => {
                wait.up(&follower, true);
                tokio::select! {
                    () = tokio::time::sleep(wait.config.poll_interval) => {}
                    () = out.closed() => return Ok(()),
                    rescan = rescans.recv(), if rescans_open => match rescan {
                        Some(rescan) => pending.push(rescan),
                        None => rescans_open = false,
                    },
                }
            }
            Err(e @ Error::ReorgTooDeep) => {
                wait.down(&e);
                return Err(e);
            }
            Err(e) => {
                let pause = wait.down(&e);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = out.closed() => return Ok(()),
                }
            }
        }
    }
}

/// Looks through one block for everything that is asked of it. `None` when nothing there matches.
async fn rescan_once(
    client: &Bitcoind,
    follower: &Follower,
    pending: &mut [Rescan],
) -> Result<Option<ChainUpdate>, Error> {
    let Some(height) = pending.iter().map(|rescan| rescan.from).min() else {
        return Ok(None);
    };
    let due = || pending.iter().filter(|rescan| rescan.from == height);
    let outpoints: HashSet<OutPoint> = due()
        .filter_map(|rescan| match &rescan.target {
            RescanTarget::Spend(outpoint) => Some(*outpoint),
            RescanTarget::Payment(_) => None,
        })
        .collect();
    let scripts: HashSet<&ScriptBuf> = due()
        .filter_map(|rescan| match &rescan.target {
            RescanTarget::Spend(_) => None,
            RescanTarget::Payment(script) => Some(script),
        })
        .collect();
    let hash = match follower.hash_at(height) {
        Some(hash) => Some(hash),
        None => client.block_hash(height).await?,
    };
    let mut matches: Vec<(u32, Transaction)> = Vec::new();
    let mut found = None;
    if let Some(hash) = hash {
        let block = client.cached_block(hash).await?;
        for (index, tx) in (0u32..).zip(&block.txdata) {
            if tx
                .input
                .iter()
                .any(|i| outpoints.contains(&i.previous_output))
                || tx.output.iter().any(|o| scripts.contains(&o.script_pubkey))
            {
                matches.push((index, tx.clone()));
            }
        }
        found = Some(BlockRef { hash, height });
    }
    for rescan in pending.iter_mut().filter(|rescan| rescan.from == height) {
        rescan.from = height.saturating_add(1);
    }
    Ok(found
        .filter(|_| !matches.is_empty())
        .map(|block| ChainUpdate::LateMatches {
            block,
            transactions: matches,
        }))
}

/// Keeps the status, and how long to wait.
struct Waiter {
    status: watch::Sender<Status>,
    config: FollowConfig,
}

impl Waiter {
    fn up(&self, follower: &Follower, synced: bool) {
        let tip = follower.tip();
        self.status.send_modify(|status| {
            let since = match status {
                Status::Up { since, .. } => *since,
                Status::Starting => SystemTime::now(),
                Status::Down { attempts, .. } => {
                    tracing::info!(attempts, "the chain source answers again");
                    SystemTime::now()
                }
            };
            *status = Status::Up { since, tip, synced };
        });
    }

    /// How long to wait before the next attempt.
    fn down(&self, error: &Error) -> Duration {
        let mut failures = 1;
        self.status.send_modify(|status| {
            let since = match status {
                Status::Down {
                    since, attempts, ..
                } => {
                    failures = attempts.saturating_add(1);
                    *since
                }
                Status::Starting | Status::Up { .. } => {
                    tracing::warn!(%error, "the chain source does not answer; trying again");
                    SystemTime::now()
                }
            };
            *status = Status::Down {
                since,
                attempts: failures,
                error: error.to_string(),
            };
        });
        let doubled = Duration::from_millis(250) * 2u32.saturating_pow(failures.min(10) - 1);
        doubled.min(self.config.max_backoff)
    }
}
