//! Messages beyond the specification.

use core::ops::RangeInclusive;

/// The types beyond the specification that a node speaks. Given to
/// [`Message::decode_with`](crate::Message::decode_with), which returns their messages as
/// [`Message::Custom`](crate::Message::Custom) instead of ignoring the odd ones and refusing the even ones.
///
/// BOLT 1 leaves the types from 32768 on to applications. An even type must have been negotiated before it
/// is sent, by a feature bit for instance: a peer that does not know it closes the connection.
///
/// ```
/// use fulmen_types::codec::{Decode, DecodeError, Encode, Reader};
/// use fulmen_wire::{CustomTypes, Message, MessageType};
///
/// /// A JSON-RPC message of LSPS0 (bLIP 50).
/// #[derive(Debug, PartialEq)]
/// struct Lsps0(Vec<u8>);
///
/// impl MessageType for Lsps0 {
///     const TYPE: u16 = 37913;
///     const NAME: &'static str = "lsps0_message";
/// }
/// impl Encode for Lsps0 {
///     fn encode(&self, out: &mut Vec<u8>) {
///         self.0.encode(out);
///     }
/// }
/// impl Decode for Lsps0 {
///     fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
///         Decode::decode(r).map(Self)
///     }
/// }
///
/// let sent = Lsps0(b"{}".to_vec());
/// let bytes = Message::custom(&sent).encode();
/// assert_eq!(bytes, [0x94, 0x19, b'{', b'}']);
/// let ours = [Lsps0::TYPE..=Lsps0::TYPE];
/// let received = Message::decode_with(&bytes, CustomTypes::new(&ours))?;
/// assert_eq!(received.parse_custom(), Some(Ok(sent)));
/// // Who does not speak it ignores it.
/// assert!(matches!(Message::decode(&bytes)?, Message::Unknown { type_: 37913, .. }));
/// # Ok::<(), fulmen_wire::MessageError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomTypes<'a>(&'a [RangeInclusive<u16>]);

impl<'a> CustomTypes<'a> {
    /// None.
    pub const NONE: Self = Self(&[]);
    /// The least type that BOLT 1 leaves to applications.
    pub const FIRST: u16 = 32768;

    /// The types in these ranges, as far as they are [`CustomTypes::FIRST`] or above: those below are the
    /// specification's.
    pub const fn new(ranges: &'a [RangeInclusive<u16>]) -> Self {
        Self(ranges)
    }

    /// Whether the type is one of them.
    pub fn knows(self, type_: u16) -> bool {
        type_ >= Self::FIRST && self.0.iter().any(|range| range.contains(&type_))
    }
}
