//! Peer connections over TCP with tokio.
//!
//! [`Net`] listens, dials, shakes hands by BOLT 8 and keeps one connection per peer. When to dial whom, and
//! who may come in, a policy decides: [`Connections`]. What happens comes
//! out as [`NetEvent`]s of one bounded channel: who is slow to take them is not flooded, because no
//! connection is read further while the channel is full. What to send goes in by [`Net::send`], into a
//! bounded queue per connection: who does not read what we send is disconnected.
//!
//! Connections are told apart by [`Epoch`], which is never used twice: what is sent to an epoch that is
//! over goes nowhere. Pings are sent and answered here. `init` is not: the first message of each
//! connection is the node's to send, and nothing leaves before it.
//!
//! What it is not: it knows no channel and no protocol state, and stores nothing.
//!
//! ```
//! use std::sync::Arc;
//! use bitcoin::secp256k1::SecretKey;
//! use fulmen_connect::ConnectConfig;
//! use fulmen_net_tokio::{Connections, Net, NetConfig, NetEvent};
//! use fulmen_noise::LocalKey;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = |byte| SecretKey::from_slice(&[byte; 32]).map(|k| Arc::new(LocalKey::new(k)));
//! let policy = || Connections::standard(ConnectConfig::default());
//! let (alice, mut to_alice) = Net::start(NetConfig::default(), key(1)?, policy());
//! let (bob, mut to_bob) = Net::start(NetConfig::default(), key(2)?, policy());
//! let address = bob.listen("127.0.0.1:0").await?;
//! alice.connect(bob.node_id(), vec![address.to_string()]);
//! assert!(matches!(to_alice.recv().await, Some(NetEvent::Connected { .. })));
//! assert!(matches!(to_bob.recv().await, Some(NetEvent::Connected { .. })));
//! # Ok(())
//! # }
//! ```

mod config;
mod connection;
mod dial;
mod handshake;
mod manager;
mod net;
mod queue;

pub use config::NetConfig;
pub use manager::{Connections, Directory, NoDirectory, Work};
pub use net::{Epoch, Initiator, Net, NetEvent, NodeKey, SendError};
