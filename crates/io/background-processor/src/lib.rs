//! The driver of a node: what stands between the deterministic heart and the world.
//!
//! [`Releaser`] is the core without a runtime: it takes each step's effects, and says what may leave once
//! batches are durable. [`start`] runs a node with it on tokio: the node on one task, its [`Store`] on a
//! thread with group commit, signatures on a pool, those of gossip checked on all cores, and the world behind
//! small [ports](Ports). What
//! comes back is a [`NodeHandle`]: commands, queries, events from a cursor, shutdown.
//!
//! [`Store`]: fulmen_persister::Store
//!
//! A failed commit stops the node from saying anything more: it drops its memory, goes on from what is
//! durable in enforce-only mode (no peers, no commands), and ends only if that fails too.
//!
//! ```
//! use fulmen_background_processor::{Releaser, Released, RunAhead};
//! use fulmen_node::{Action, ActionKind, Effects, NoteLevel, ReleaseClass};
//! use fulmen_types::{Timestamp, record::{RecordKey, Space}};
//!
//! let mut step = Effects { seq: 1, ..Effects::default() };
//! step.batch.put(RecordKey::new(Space::Node, *b"name"), vec![1]);
//! let kind = ActionKind::Note { level: NoteLevel::Info, text: "it is durable".into() };
//! step.actions.push(Action { class: ReleaseClass::All, after: 1, kind });
//!
//! let mut releaser = Releaser::new(RunAhead::default());
//! let batch = releaser.push(Timestamp::from_secs(0), step);
//! assert!(batch.is_some() && releaser.pop().is_none());
//! releaser.committed(1);
//! assert!(matches!(releaser.pop(), Some(Released::Do(ActionKind::Note { .. }))));
//! ```

mod asks;
#[cfg(feature = "block-sync")]
pub mod bitcoind;
mod committer;
mod driver;
mod events;
mod gossip;
mod handle;
mod heart;
mod lanes;
mod local_router;
mod ports;
mod release;
mod route_graph;
#[cfg(feature = "net-tokio")]
pub mod tcp;

pub use committer::{CommitStats, Records, StoreHandle, StoreUnavailable};
pub use driver::{DriverConfig, DriverError, DriverTask, start};
pub use events::EventStream;
pub use gossip::GossipChecks;
pub use handle::{DriverStatus, NodeHandle, Stopped};
pub use heart::{Heart, Mode, Restore, Start};
pub use lanes::{SigningJob, SigningResult};
pub use local_router::LocalRouter;
pub use ports::{
    Broadcaster, ChainSource, Clock, Connector, EventHandler, FeeEstimator, NoEventHandler,
    PeerSource, Ports, Router, SystemClock, Wallet, Work,
};
pub use release::{Released, Releaser, RunAhead};
