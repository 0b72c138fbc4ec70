//! The table of all messages, and the way from bytes to them and back.

use alloc::vec::Vec;

use fulmen_types::{
    ChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::{
    AcceptChannel, AcceptChannel2, AnnouncementSignatures, ChannelAnnouncement, ChannelReady,
    ChannelReestablish, ChannelUpdate, ClosingComplete, ClosingSig, ClosingSigned,
    CommitmentSigned, Error, FundingCreated, FundingSigned, GossipTimestampFilter, Init,
    MessageError, NodeAnnouncement, OnionMessage, OpenChannel, OpenChannel2, PeerStorage,
    PeerStorageRetrieval, Ping, Pong, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, RevokeAndAck, Shutdown, SpliceAck, SpliceInit, SpliceLocked,
    StartBatch, Stfu, TxAbort, TxAckRbf, TxAddInput, TxAddOutput, TxComplete, TxInitRbf,
    TxRemoveInput, TxRemoveOutput, TxSignatures, UpdateAddHtlc, UpdateFailHtlc,
    UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc, Warning, custom::CustomTypes,
    error::FieldError,
};

/// The most bytes that a message can have, with its type (BOLT 1).
pub const MAX_MESSAGE_LEN: usize = 65535;

/// A message's number and name. Implement it for messages of your own: see [`CustomTypes`].
pub trait MessageType: Encode + Decode {
    /// The `type` of BOLT 1.
    const TYPE: u16;
    /// The name that the specification uses.
    const NAME: &'static str;
}

macro_rules! messages {
    ($($name:ident $(($($channel:ident)?))?,)*) => {
        /// A message between peers.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Message {
            $(
                #[doc = concat!("`", stringify!($name), "`, see [`", stringify!($name), "`](struct@crate::", stringify!($name), ").")]
                $name($name),
            )*
            /// A message beyond the specification that the reader said to know: see [`CustomTypes`].
            Custom {
                /// Its type.
                type_: u16,
                /// All after the type.
                payload: Vec<u8>,
            },
            /// An odd message that nobody here knows, to be ignored (BOLT 1: it's ok to be odd).
            Unknown {
                /// Its type.
                type_: u16,
                /// All after the type.
                payload: Vec<u8>,
            },
        }

        impl Message {
            /// The types that this crate knows, with their names.
            pub const KNOWN: &'static [(u16, &'static str)] =
                &[$(($name::TYPE, $name::NAME)),*];

            /// The type number.
            pub const fn type_id(&self) -> u16 {
                match self {
                    $(Self::$name(_) => $name::TYPE,)*
                    Self::Custom { type_, .. } | Self::Unknown { type_, .. } => *type_,
                }
            }

            /// The name that the specification uses.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
                    Self::Custom { .. } => "custom",
                    Self::Unknown { .. } => "unknown",
                }
            }

            /// The channel that the message is about: its `channel_id` or `temporary_channel_id`.
            pub const fn channel_id(&self) -> Option<ChannelId> {
                match self {
                    $($(Self::$name(m) => messages!(@channel m $($channel)?),)?)*
                    _ => None,
                }
            }

            /// Writes type, fields and TLV stream.
            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name(message) => {
                        $name::TYPE.encode(out);
                        message.encode(out);
                    })*
                    Self::Custom { type_, payload } | Self::Unknown { type_, payload } => {
                        type_.encode(out);
                        out.extend_from_slice(payload);
                    }
                }
            }

            /// Inlined into its one caller: a message is large, and is made where it is returned.
            #[inline(always)]
            fn decode_payload(
                type_: u16,
                payload: &[u8],
                custom: CustomTypes<'_>,
            ) -> Result<Self, MessageError> {
                let mut r = Reader::new(payload);
                match type_ {
                    // Every message reads its TLV stream to the end, so nothing can be left.
                    $($name::TYPE => match $name::read(&mut r) {
                        Ok(message) => Ok(Self::$name(message)),
                        Err(e) => Err(malformed(type_, e)),
                    },)*
                    _ => Self::beyond(type_, payload, custom),
                }
            }
        }

        #[cfg(test)]
        impl Message {
            /// One of each, with what `g` says in its fields.
            pub(crate) fn generate_all(g: &mut crate::tests::Source<'_>) -> Vec<Self> {
                alloc::vec![$(Self::$name(crate::tests::Generate::generate(g)),)*]
            }

            /// Each message's type, name, fields and TLV records.
            pub(crate) fn tables() -> Vec<crate::tests::Row> {
                use crate::tests::Table;
                alloc::vec![$(($name::TYPE, $name::NAME, $name::FIELDS, $name::TLVS),)*]
            }
        }

        $(
            impl From<$name> for Message {
                fn from(message: $name) -> Self {
                    Self::$name(message)
                }
            }
        )*
    };
    (@channel $message:ident) => { Some($message.channel_id) };
    (@channel $message:ident temporary) => { Some($message.temporary_channel_id) };
}

// In parentheses: the message names its channel, some by a temporary id.
messages! {
    Warning(),
    Stfu(),
    PeerStorage,
    PeerStorageRetrieval,
    Init,
    Error(),
    Ping,
    Pong,
    OpenChannel(temporary),
    AcceptChannel(temporary),
    FundingCreated(temporary),
    FundingSigned(),
    ChannelReady(),
    Shutdown(),
    ClosingSigned(),
    ClosingComplete(),
    ClosingSig(),
    OpenChannel2(temporary),
    AcceptChannel2(temporary),
    TxAddInput(),
    TxAddOutput(),
    TxRemoveInput(),
    TxRemoveOutput(),
    TxComplete(),
    TxSignatures(),
    TxInitRbf(),
    TxAckRbf(),
    TxAbort(),
    SpliceLocked(),
    SpliceInit(),
    SpliceAck(),
    StartBatch(),
    UpdateAddHtlc(),
    UpdateFulfillHtlc(),
    UpdateFailHtlc(),
    CommitmentSigned(),
    RevokeAndAck(),
    UpdateFee(),
    UpdateFailMalformedHtlc(),
    ChannelReestablish(),
    ChannelAnnouncement,
    NodeAnnouncement,
    ChannelUpdate,
    AnnouncementSignatures(),
    QueryShortChannelIds,
    ReplyShortChannelIdsEnd,
    QueryChannelRange,
    ReplyChannelRange,
    GossipTimestampFilter,
    OnionMessage,
}

impl Message {
    /// Reads a message: its type, its fields, its TLV stream.
    ///
    /// An unknown odd type is returned as [`Message::Unknown`], to be ignored. An error says what to
    /// tell the peer, and whether to close the connection.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        Self::decode_with(bytes, CustomTypes::NONE)
    }

    /// The same for who speaks further messages: those that `custom` knows are returned as
    /// [`Message::Custom`].
    pub fn decode_with(bytes: &[u8], custom: CustomTypes<'_>) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE_LEN {
            return Err(MessageError::TooLong(bytes.len()));
        }
        let Some((type_, payload)) = bytes.split_first_chunk() else {
            return Err(MessageError::NoType);
        };
        let type_ = u16::from_be_bytes(*type_);
        Self::decode_payload(type_, payload, custom)
    }

    /// A message that the specification does not have.
    fn beyond(type_: u16, payload: &[u8], custom: CustomTypes<'_>) -> Result<Self, MessageError> {
        if custom.knows(type_) {
            let payload = payload.to_vec();
            Ok(Self::Custom { type_, payload })
        } else if type_ % 2 == 1 {
            // BOLT 1: "upon receiving a message of odd, unknown type: MUST ignore".
            let payload = payload.to_vec();
            Ok(Self::Unknown { type_, payload })
        } else {
            // "even, unknown type: MUST close the connection".
            Err(MessageError::UnknownEven(type_))
        }
    }

    /// A message of the caller's own type, ready to be sent.
    pub fn custom<T: MessageType>(message: &T) -> Self {
        Self::Custom {
            type_: T::TYPE,
            payload: message.to_bytes(),
        }
    }

    /// Reads a [`Message::Custom`] as the caller's own type; `None` when it is another message.
    pub fn parse_custom<T: MessageType>(&self) -> Option<Result<T, DecodeError>> {
        match self {
            Self::Custom { type_, payload } if *type_ == T::TYPE => Some(T::from_bytes(payload)),
            _ => None,
        }
    }

    /// The bytes to send: type, fields, TLV stream. Only messages that no peer would accept are longer
    /// than [`MAX_MESSAGE_LEN`]; the transport refuses them, see also [`Message::fits`].
    pub fn encode(&self) -> Vec<u8> {
        // Room for all but the messages with long fields, which make it as they come.
        let mut out = Vec::with_capacity(512);
        self.write(&mut out);
        out
    }

    /// [`Message::encode`] into a buffer that the caller keeps.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    /// Whether the encoding is at most [`MAX_MESSAGE_LEN`] bytes: to be asked before sending what a
    /// peer's or a user's data made long.
    pub fn fits(&self) -> bool {
        self.encode().len() <= MAX_MESSAGE_LEN
    }

    /// The specification's name for a type, if it is known.
    pub fn name_of(type_: u16) -> Option<&'static str> {
        Self::KNOWN
            .iter()
            .find_map(|(known, name)| (*known == type_).then_some(*name))
    }
}

#[cold]
const fn malformed(type_: u16, FieldError { field, error }: FieldError) -> MessageError {
    MessageError::Malformed {
        type_,
        field,
        error,
    }
}
