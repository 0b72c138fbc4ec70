//! Connections between hosts: two streams in order, cut at any place.

use std::collections::VecDeque;

/// What comes out of one end of a connection, in order.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// The handshake is done.
    Connected,
    /// A message.
    Message(Vec<u8>),
    /// The end.
    Disconnected,
}

/// A connection of two hosts; side 0 has dialled.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Who.
    pub(crate) ends: [usize; 2],
    /// In which of their starts.
    pub(crate) boots: [u32; 2],
    /// What is on its way to each side.
    pub(crate) to: [VecDeque<Item>; 2],
    /// When the last of it arrives.
    pub(crate) last: [u64; 2],
    /// Whether it still takes messages.
    pub(crate) open: bool,
}

impl Connection {
    /// The side of a host.
    pub(crate) fn side_of(&self, host: usize) -> usize {
        usize::from(self.ends[1] == host)
    }
}
