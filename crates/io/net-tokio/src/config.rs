//! Limits and times of connections. How many there are, and with whom, is the policy's to say.

use std::time::Duration;

/// Limits and times of the network. Every queue that a peer can fill has a bound here.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// How long a dial may take until TCP stands.
    pub connect_timeout: Duration,
    /// How long the whole handshake may take.
    pub handshake_timeout: Duration,
    /// After how long without a message from the peer a ping is sent.
    pub ping_interval: Duration,
    /// After how long without a whole message from the peer the connection is given up.
    pub idle_timeout: Duration,
    /// How long a write, and the last words before a disconnect, may be stuck.
    pub write_timeout: Duration,
    /// How many events wait for the driver before connections are no longer read.
    pub event_queue: usize,
    /// The most bytes that wait to be sent on a connection; at more it is closed.
    pub send_queue_bytes: usize,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            event_queue: 128,
            send_queue_bytes: 16 * 1024 * 1024,
        }
    }
}
