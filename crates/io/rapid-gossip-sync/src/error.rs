//! What can be wrong with a snapshot.

use std::fmt;

use fulmen_types::ShortChannelId;

/// A field of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The three bytes that every snapshot begins with.
    Prefix,
    /// The version of the format.
    Version,
    /// The chain.
    ChainHash,
    /// Up to when the server had heard the network.
    LatestSeen,
    /// Feature vectors that nodes refer to.
    DefaultFeatures,
    /// How many nodes follow.
    NodeCount,
    /// A node's key and flags.
    NodeId,
    /// A node's addresses.
    NodeAddresses,
    /// A node's features.
    NodeFeatures,
    /// Data of a node that later versions may know.
    NodeExtra,
    /// How many channels follow.
    ChannelCount,
    /// A channel's features.
    ChannelFeatures,
    /// The distance of a channel's short id from the last one's.
    ChannelId,
    /// The places of a channel's nodes.
    ChannelNodes,
    /// The funding output's value, and data that later versions may know.
    ChannelExtra,
    /// How many updates follow.
    UpdateCount,
    /// What updates ask for where they don't say otherwise.
    UpdateDefaults,
    /// The distance of an update's short id from the last one's.
    UpdateId,
    /// An update's flags.
    UpdateFlags,
    /// What an update asks for.
    UpdateTerms,
    /// Data of an update that later versions may know.
    UpdateExtra,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "the prefix",
            Self::Version => "the version",
            Self::ChainHash => "the chain hash",
            Self::LatestSeen => "the time last seen",
            Self::DefaultFeatures => "the default node features",
            Self::NodeCount => "the number of nodes",
            Self::NodeId => "a node's key",
            Self::NodeAddresses => "a node's addresses",
            Self::NodeFeatures => "a node's features",
            Self::NodeExtra => "a node's additional data",
            Self::ChannelCount => "the number of channels",
            Self::ChannelFeatures => "a channel's features",
            Self::ChannelId => "a channel's short id",
            Self::ChannelNodes => "a channel's nodes",
            Self::ChannelExtra => "a channel's additional data",
            Self::UpdateCount => "the number of updates",
            Self::UpdateDefaults => "the updates' defaults",
            Self::UpdateId => "an update's short id",
            Self::UpdateFlags => "an update's flags",
            Self::UpdateTerms => "an update's terms",
            Self::UpdateExtra => "an update's additional data",
        })
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The data ends within it, or before it.
    Truncated,
    /// These are not the bytes of a snapshot: the address may be wrong.
    NotASnapshot,
    /// A version that this software does not know.
    UnknownVersion(u8),
    /// It is of another chain than the node is on.
    OtherChain,
    /// It is older than 14 days.
    TooOld,
    /// It is more than a day in the future.
    FromTheFuture,
    /// More than the data can hold, or than is allowed.
    TooMany,
    /// Longer than is allowed.
    TooLong,
    /// An integer in more bytes than it needs.
    NonMinimal,
    /// The sum of all distances is no short id any more.
    Overflow,
    /// The same channel, or the same end of one, a second time.
    Duplicate(ShortChannelId),
    /// It names something that is not in the list.
    OutOfRange,
    /// The first key of a channel is not the lesser one.
    NotOrdered,
    /// The first byte says that this is no compressed key.
    NoKey,
    /// More money than there is.
    TooMuch,
    /// Bytes are left over in it.
    LeftOver,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("is cut off"),
            Self::NotASnapshot => f.write_str("is not that of a rapid gossip sync snapshot"),
            Self::UnknownVersion(version) => write!(f, "{version} is not known"),
            Self::OtherChain => f.write_str("is that of another chain"),
            Self::TooOld => f.write_str("is more than two weeks old"),
            Self::FromTheFuture => f.write_str("is in the future"),
            Self::TooMany => f.write_str("is more than there can be"),
            Self::TooLong => f.write_str("are longer than is allowed"),
            Self::NonMinimal => f.write_str("is not encoded in the least bytes"),
            Self::Overflow => f.write_str("overflows"),
            Self::Duplicate(scid) => write!(f, "comes twice ({scid})"),
            Self::OutOfRange => f.write_str("names something that is not there"),
            Self::NotOrdered => f.write_str("are out of order"),
            Self::NoKey => f.write_str("is no compressed public key"),
            Self::TooMuch => f.write_str("is more money than there is"),
            Self::LeftOver => f.write_str("has bytes left over"),
        }
    }
}

/// Why a snapshot is of no use. Nothing of it was applied: take the one before, or another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Where.
    pub field: Field,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the snapshot is of no use: {} {}",
            self.field, self.problem
        )
    }
}

impl std::error::Error for DecodeError {}
