//! Why a connection can't go on. Nothing is told to the peer: BOLT 8 wants the connection closed
//! without further messages.

use core::fmt;

use crate::{MAX_MESSAGE_LEN, key::EcdhUnavailable};

/// A step of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// From the initiator, 50 bytes.
    One,
    /// From the responder, 50 bytes.
    Two,
    /// From the initiator, 66 bytes.
    Three,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "act one",
            Self::Two => "act two",
            Self::Three => "act three",
        })
    }
}

/// Why a handshake failed. Close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// A version other than 0.
    BadVersion {
        /// Where.
        act: Act,
        /// Which.
        version: u8,
    },
    /// A key that is no point of the curve.
    BadPublicKey {
        /// Where.
        act: Act,
    },
    /// A tag that does not fit. In act one: the peer looks for another node id than ours; in act two:
    /// the peer is not the node that we look for; or the bytes were changed on their way.
    BadTag {
        /// Where.
        act: Act,
    },
    /// Act three's encrypted key has a tag that does not fit.
    BadCiphertext,
    /// Our own key's owner does not answer.
    Ecdh(EcdhUnavailable),
    /// The handshake is over, well or badly.
    Finished,
}

impl From<EcdhUnavailable> for HandshakeError {
    fn from(error: EcdhUnavailable) -> Self {
        Self::Ecdh(error)
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadVersion { act, version } => {
                write!(f, "{act}: unknown handshake version {version} (BOLT 8)")
            }
            Self::BadPublicKey { act } => {
                write!(f, "{act}: a key that is not on the curve (BOLT 8)")
            }
            Self::BadTag { act: Act::One } => {
                f.write_str("act one: the tag does not fit; the peer expects another node id (BOLT 8)")
            }
            Self::BadTag { act: Act::Two } => f.write_str(
                "act two: the tag does not fit; the peer has another node id than expected (BOLT 8)",
            ),
            Self::BadTag { act } => write!(f, "{act}: the tag does not fit (BOLT 8)"),
            Self::BadCiphertext => f.write_str("act three: the key's tag does not fit (BOLT 8)"),
            Self::Ecdh(error) => error.fmt(f),
            Self::Finished => f.write_str("the handshake is already over"),
        }
    }
}

impl core::error::Error for HandshakeError {}

/// Why the encrypted connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The message to send is longer than 65535 bytes; nothing was written and the connection is good.
    TooLong(usize),
    /// A tag that does not fit: the bytes were changed. Close the connection.
    BadTag,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(
                f,
                "a message of {len} bytes can't be sent: at most {MAX_MESSAGE_LEN} (BOLT 8)"
            ),
            Self::BadTag => f.write_str("the tag of an encrypted message does not fit (BOLT 8)"),
        }
    }
}

impl core::error::Error for TransportError {}
