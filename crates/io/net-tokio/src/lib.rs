//! Peer connections over TCP with tokio.
