//! What a network asks of a policy.

use std::{fmt, net::IpAddr};

use fulmen_types::{NodeId, Timestamp};

/// Decides when to connect and with whom. Called often and under a lock: it must not block.
pub trait ConnectionPolicy: Send {
    /// Something has happened: what is to be done now? Time never goes back.
    fn handle(&mut self, now: Timestamp, input: Input) -> Vec<Output>;

    /// When it wants an [`Input::Tick`] at the latest.
    fn next_wake(&self, now: Timestamp) -> Option<Timestamp>;

    /// What it knows, for people.
    fn view(&self, now: Timestamp) -> View;

    /// What should be there after a restart, to be given back by whoever makes the policy. Losing it costs
    /// time and the memory of bans, never money.
    fn memory(&self, now: Timestamp) -> Vec<u8>;
}

/// One socket or dial, named by who makes it: inbound ones by the network, dials by the policy. The two
/// count for themselves; none is used twice within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// A socket that was accepted.
    In(u64),
    /// A dial.
    Out(u64),
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// We did.
    Outbound,
}

impl ConnId {
    /// Who opened it.
    pub const fn direction(self) -> Direction {
        match self {
            Self::In(_) => Direction::Inbound,
            Self::Out(_) => Direction::Outbound,
        }
    }
}

/// What a peer did that it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// It broke the protocol in a way that ends the connection.
    Violation,
    /// It sent what is no message, or can't be decrypted.
    BadBytes,
    /// It broke a rule of gossip.
    Gossip,
    /// It does not read what it is sent.
    DoesNotRead,
    /// It did not answer in time.
    Silent,
    /// Its handshake was none.
    BadHandshake,
    /// It is on another chain, or lacks what is needed. No fault, but there is no use in coming back soon.
    Incompatible,
}

/// Where addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From announcements that their nodes signed.
    Graph,
    /// From DNS seeds.
    Seeds,
}

/// Where a node may listen, as `host:port`, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Its key.
    pub node: NodeId,
    /// The addresses.
    pub addresses: Vec<String>,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// A socket was accepted. Answered by [`Output::Accept`] or [`Output::Refuse`].
    Incoming {
        /// The socket.
        id: ConnId,
        /// The other end.
        ip: IpAddr,
    },
    /// The peer has proven its key. Answered by [`Output::Accept`] or [`Output::Refuse`].
    Connected {
        /// The socket or dial.
        id: ConnId,
        /// The peer.
        peer: NodeId,
        /// What was dialled, if we did.
        address: Option<String>,
    },
    /// A socket is closed, before the handshake was done or after.
    Ended {
        /// Which one.
        id: ConnId,
        /// What the peer did, if it is to blame.
        offence: Option<Offence>,
    },
    /// No address answered as the peer.
    DialFailed {
        /// The dial.
        id: ConnId,
        /// Why, at the last address.
        why: String,
    },
    /// A peer did something that it should not have; its connection may go on.
    Misbehaved {
        /// The peer.
        peer: NodeId,
        /// What.
        offence: Offence,
    },
    /// There are channels with this peer, or are about to be.
    Channel {
        /// The peer.
        peer: NodeId,
        /// Where it was reached, as far as it is remembered.
        addresses: Vec<String>,
    },
    /// There are no more.
    NoChannel {
        /// The peer.
        peer: NodeId,
    },
    /// A user wants a connection, now and once. Lifts a ban, and [`Input::Rest`].
    Connect {
        /// The peer.
        peer: NodeId,
        /// Where, best first.
        addresses: Vec<String>,
    },
    /// A user wants this peer not to be dialled until asked for.
    Rest {
        /// The peer.
        peer: NodeId,
    },
    /// A user does not want this peer at all. Without effect while there are channels with it.
    Ban {
        /// The peer.
        peer: NodeId,
        /// Until when.
        until: Timestamp,
    },
    /// A user forgives a peer whatever it did.
    Unban {
        /// The peer.
        peer: NodeId,
    },
    /// The answer to a question.
    Heard {
        /// Whose.
        source: Source,
        /// The nodes, as many as there are.
        nodes: Vec<NodeAddresses>,
    },
    /// Time has passed.
    Tick,
}

/// Why a connection is refused or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A user has banned the peer, or it has misbehaved too much.
    Banned,
    /// There are channels with it, but it misbehaves: it has to wait before it comes back.
    Throttled,
    /// All slots are taken by peers that are as useful.
    Full,
    /// There are enough from the same address or network.
    Crowded,
    /// It gave way to another.
    Evicted,
    /// A newer attempt with the same peer takes its place.
    Replaced,
    /// It is not wanted any more.
    Unwanted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Banned => "the peer is banned",
            Self::Throttled => "the peer misbehaved and has to wait",
            Self::Full => "all slots are taken",
            Self::Crowded => "there are enough connections from its network",
            Self::Evicted => "it gave way to another",
            Self::Replaced => "a newer attempt takes its place",
            Self::Unwanted => "it is not wanted any more",
        })
    }
}

/// What to ask for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What the announced network says. Answered by [`Input::Heard`] of [`Source::Graph`].
    Graph {
        /// Of these nodes.
        nodes: Vec<NodeId>,
        /// And of so many others.
        others: usize,
        /// Which ones, so that it is as random as the seed of the policy.
        pick: u64,
    },
    /// What the DNS seeds say. Answered by [`Input::Heard`] of [`Source::Seeds`].
    Seeds {
        /// How many nodes.
        count: usize,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The socket may go on.
    Accept {
        /// Which one.
        id: ConnId,
    },
    /// The socket is to be closed. Nothing more is told about it.
    Refuse {
        /// Which one.
        id: ConnId,
        /// Why.
        why: Refusal,
    },
    /// A peer is to be dialled: each address once, in this order. Ends in [`Input::Connected`] or
    /// [`Input::DialFailed`].
    Dial {
        /// The dial.
        id: ConnId,
        /// Whom.
        peer: NodeId,
        /// Where; may be empty, and fails then.
        addresses: Vec<String>,
    },
    /// A socket is to be closed or a dial given up, whatever it is at. Nothing more is told about it.
    Drop {
        /// Which one.
        id: ConnId,
        /// Why.
        why: Refusal,
    },
    /// Addresses are to be looked for.
    Ask(Question),
}

/// What a policy knows, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Peers that are connected, dialled, or kept connected.
    pub peers: Vec<PeerView>,
    /// Who is banned.
    pub bans: Vec<BanView>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its key.
    pub peer: NodeId,
    /// Whether there are channels with it.
    pub has_channel: bool,
    /// How it stands.
    pub state: PeerState,
    /// How many attempts have failed since the last good connection.
    pub failures: u32,
    /// Why the last one did.
    pub last_error: Option<String>,
    /// How much it has misbehaved; 100 is a ban for who has no channels. Halves with time.
    pub score: u32,
    /// Where it is looked for, best first.
    pub addresses: Vec<String>,
}

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Connected.
    Connected {
        /// Who opened it.
        direction: Direction,
        /// Since when.
        since: Timestamp,
    },
    /// Being dialled.
    Dialling,
    /// To be dialled again.
    Waiting {
        /// When.
        until: Timestamp,
    },
    /// Not to be dialled until a user asks for it.
    Resting,
    /// Known, and not looked for.
    Idle,
}

/// A ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanView {
    /// Who.
    pub peer: NodeId,
    /// Until when.
    pub until: Timestamp,
    /// Whether a user said so; otherwise it is for misbehaviour.
    pub by_user: bool,
}
