//! `sciddir_or_pubkey`: a node by its key, or by one end of a channel.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::PublicKey;

use crate::{
    NodeId, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};

/// A node, named in 33 bytes by its key or in 9 bytes by a channel and one of its two ends (BOLT 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SciddirOrPubkey {
    /// `node_id_1` of the channel's announcement, or `node_id_2`.
    Sciddir {
        /// Whether it is `node_id_2`.
        is_node_2: bool,
        /// The channel.
        short_channel_id: ShortChannelId,
    },
    /// The key itself, which lies on the curve.
    Pubkey(PublicKey),
}

impl SciddirOrPubkey {
    /// The node's id, if it is named by its key.
    pub fn node_id(&self) -> Option<NodeId> {
        match self {
            Self::Pubkey(key) => Some((*key).into()),
            Self::Sciddir { .. } => None,
        }
    }
}

impl From<PublicKey> for SciddirOrPubkey {
    fn from(key: PublicKey) -> Self {
        Self::Pubkey(key)
    }
}

impl fmt::Display for SciddirOrPubkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sciddir {
                is_node_2,
                short_channel_id,
            } => write!(f, "{short_channel_id}/{}", u8::from(*is_node_2)),
            Self::Pubkey(key) => key.fmt(f),
        }
    }
}

impl Encode for SciddirOrPubkey {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sciddir {
                is_node_2,
                short_channel_id,
            } => {
                is_node_2.encode(out);
                short_channel_id.encode(out);
            }
            Self::Pubkey(key) => key.encode(out),
        }
    }
}

impl Decode for SciddirOrPubkey {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.remaining().first() {
            None => Err(DecodeError::UnexpectedEnd),
            Some(0 | 1) => Ok(Self::Sciddir {
                is_node_2: bool::decode(r)?,
                short_channel_id: Decode::decode(r)?,
            }),
            Some(2 | 3) => PublicKey::decode(r).map(Self::Pubkey),
            Some(_) => Err(DecodeError::InvalidValue(
                "neither a point nor an end of a channel (BOLT 1, sciddir_or_pubkey)",
            )),
        }
    }
}
