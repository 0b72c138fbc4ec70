//! What can go wrong, for programs and for people.

use std::{fmt, io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The body of every refusal: `{"error":{"code":"invalid","message":"..."}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// An error with a code for programs and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Which kind.
    pub code: ErrorCode,
    /// What happened and what to do.
    pub message: String,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request does not make sense as given.
    Invalid,
    /// No token, or a wrong one.
    Unauthorized,
    /// There is no such thing.
    NotFound,
    /// The peer is not connected.
    PeerNotConnected,
    /// There is no such channel.
    UnknownChannel,
    /// The state of things does not allow it now; nothing has changed.
    Refused,
    /// Not enough money.
    InsufficientFunds,
    /// The peer said no.
    PeerRefused,
    /// It was begun and did not work out.
    Failed,
    /// Not now: try again later.
    Unavailable,
    /// The request is too long.
    TooLarge,
    /// A bug, or a broken machine.
    Internal,
    /// A code of a newer version.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The status that goes with it.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::InsufficientFunds => 402,
            Self::NotFound | Self::UnknownChannel => 404,
            Self::PeerNotConnected | Self::Refused => 409,
            Self::TooLarge => 413,
            Self::Failed => 422,
            Self::Internal | Self::Unknown => 500,
            Self::PeerRefused => 502,
            Self::Unavailable => 503,
        }
    }
}

/// Why a call failed; the text says what to do.
#[derive(Debug)]
pub enum ClientError {
    /// The daemon says no.
    Api(ErrorDetail),
    /// The daemon does not answer.
    Connect {
        /// Where it was looked for.
        address: String,
        /// Why.
        why: String,
    },
    /// The connection broke before the answer was complete: the command may have been carried out.
    Broken(String),
    /// No answer in time: the command may still be carried out.
    Timeout,
    /// An answer that makes no sense.
    Malformed(String),
    /// A file that is needed can't be read.
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl ClientError {
    /// The daemon's code, if it was the daemon that said no.
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(detail) => Some(detail.code),
            _ => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(detail) => f.write_str(&detail.message),
            Self::Connect { address, why } => write!(
                f,
                "no daemon answers at {address} ({why}); start it with `fulmend`, or say where it is with --data-dir, --network or --api"
            ),
            Self::Broken(why) => write!(
                f,
                "the connection with the daemon broke ({why}); look with `getinfo` and the lists whether the command was carried out"
            ),
            Self::Timeout => f.write_str(
                "the daemon did not answer in time; the command may still be carried out: look with the lists",
            ),
            Self::Malformed(why) => write!(
                f,
                "the answer makes no sense ({why}); is the address that of fulmend, and client and daemon of one version?"
            ),
            Self::File { path, error } => write!(
                f,
                "{}: {error}; is --data-dir (or --network) right, and has the daemon been started there?",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ClientError {}
