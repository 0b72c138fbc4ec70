//! Why a message can't be accepted, and what the peer is told.

use alloc::string::ToString;
use core::fmt;

use fulmen_types::{ChannelId, codec::DecodeError};

use crate::{MAX_MESSAGE_LEN, Message, Warning};

/// Why bytes are no message to go on with. No channel is failed for any of these: the peer is told
/// [`MessageError::warning`], and the connection closed if [`MessageError::closes_connection`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Longer than 65535 bytes; how long.
    TooLong(usize),
    /// Too short to have a type.
    NoType,
    /// An even type that is not known: the peer counts on its being understood.
    UnknownEven(u16),
    /// A known message that breaks its format.
    Malformed {
        /// The message's type.
        type_: u16,
        /// The field that does so, by the specification's name; `extension` for a TLV stream that is none
        /// or has an even type that is not known.
        field: &'static str,
        /// What is wrong.
        error: DecodeError,
    },
}

impl MessageError {
    /// Whether the connection is to be closed. BOLT 1 wants it for everything but one thing: gossip of
    /// the right length with a value that it can't have. That may be a stranger's fault, whose message
    /// the peer only passed on, so it is enough to warn and ignore it (BOLT 7: "MAY close").
    pub const fn closes_connection(&self) -> bool {
        !matches!(
            self,
            Self::Malformed {
                type_: 256..=265,
                error: DecodeError::InvalidValue(_),
                ..
            }
        )
    }

    /// What to tell the peer, before closing the connection or instead of it.
    pub fn warning(&self) -> Warning {
        Warning::new(ChannelId::ALL, &self.to_string())
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(
                f,
                "a message of {len} bytes is longer than {MAX_MESSAGE_LEN} (BOLT 1)"
            ),
            Self::NoType => f.write_str("a message without a type (BOLT 1)"),
            Self::UnknownEven(type_) => {
                write!(f, "unknown message of even type {type_} (BOLT 1)")
            }
            Self::Malformed {
                type_,
                field,
                error,
            } => {
                let name = Message::name_of(*type_).unwrap_or("unknown");
                let bolt = bolt_of(*type_);
                write!(
                    f,
                    "malformed {name} (type {type_}, BOLT {bolt}), field {field}: {error}"
                )
            }
        }
    }
}

/// The BOLT that describes messages of a type (BOLT 1, Lightning Message Format).
const fn bolt_of(type_: u16) -> u8 {
    match type_ {
        2 | 32..=255 => 2,
        256..=511 => 7,
        513 => 4,
        _ => 1,
    }
}

/// What is wrong with a message, and in which of its fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldError {
    pub(crate) field: &'static str,
    pub(crate) error: DecodeError,
}

pub(crate) fn in_field(field: &'static str) -> impl Fn(DecodeError) -> FieldError {
    move |error| FieldError { field, error }
}

impl core::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Malformed { error, .. } => Some(error),
            _ => None,
        }
    }
}
