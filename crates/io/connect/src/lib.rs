//! When to connect and with whom: a policy without IO.
//!
//! [`ConnectionPolicy`] is what a network asks: it is told what happens ([`Input`]) and says what to do
//! ([`Output`]). [`StandardPolicy`] is the default one, a deterministic state machine: the same seed and the
//! same inputs give the same outputs. It opens no socket, reads no clock and draws no randomness of its own.

mod backoff;
mod config;
mod host;
mod policy;
mod score;
mod standard;

pub use config::ConnectConfig;
pub use host::{Group, Host, is_public};
pub use policy::{
    BanView, ConnId, ConnectionPolicy, Direction, Input, NodeAddresses, Offence, Output, PeerState,
    PeerView, Question, Refusal, Source, View,
};
pub use standard::StandardPolicy;

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
