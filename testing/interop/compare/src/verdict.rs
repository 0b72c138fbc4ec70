//! Whether both read the same from the same bytes, and where a difference is justified.

use fulmen_wire::{Message, MessageError, NetAddress};
use lightning::ln::msgs::DecodeError;

use crate::LdkMessage;

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both read the same value.
    Same,
    /// Both refuse it.
    BothRefuse,
    /// LDK has nothing to compare with.
    NotKnownToLdk,
    /// They differ, for this reason.
    Justified(&'static str),
    /// They differ, and should not.
    Different(String),
}

/// Text that is no UTF-8: BOLT 1 lets an error carry any bytes; LDK refuses the message.
const TEXT: &str = "error text that is not UTF-8";
/// `must_be_one` is not: Fulmen's graph refuses the update, LDK's codec does.
const MUST_BE_ONE: &str = "channel_update whose must_be_one bit is zero";
/// Host names with other characters, which Fulmen keeps as unknown descriptors, as the signature covers them.
const ADDRESS: &str = "an address descriptor that can't be understood";
/// LDK takes the packet apart when it reads the message, Fulmen when it peels it.
const ONION_PACKET: &str = "onion_message_packet that is no packet";
/// Records of LDK's own experiments, of odd types, and records that LDK does not know.
const RECORD: &str = "a record that one of the two does not know";
/// LDK reads no extension after these messages; BOLT 1 wants one to be a valid TLV stream.
const EXTENSION: &str = "an extension where LDK looks for none";

/// LDK makes room for as many elements of a witness as its count says, up to 16 MB, before it sees that they are not
/// there: it is not asked.
const COUNT: &str = "a transaction or witness that is none";

/// Reads a message, type and payload, both ways.
pub fn compare_message(bytes: &[u8]) -> (Result<Message, MessageError>, Verdict) {
    let ours = Message::decode(bytes);
    if let Err(MessageError::Malformed { field, .. }) = &ours
        && matches!(*field, "prevtx" | "witnesses")
    {
        return (ours, Verdict::Justified(COUNT));
    }
    let Some(theirs) = LdkMessage::decode(bytes) else {
        return (ours, Verdict::NotKnownToLdk);
    };
    let verdict = match (&ours, &theirs) {
        (Ok(a), Ok(b)) => match b.differences(a).as_slice() {
            [] => Verdict::Same,
            fields => Verdict::Different(format!("{} differs in {fields:?}", a.name())),
        },
        (Err(_), Err(_)) => Verdict::BothRefuse,
        (Ok(a), Err(e)) => match only_we_read(a, e) {
            Some(why) => Verdict::Justified(why),
            None => Verdict::Different(format!("LDK refuses {}: {e:?}", a.name())),
        },
        (Err(e), Ok(b)) => match only_they_read(e, b) {
            Some(why) => Verdict::Justified(why),
            None => Verdict::Different(format!("only Fulmen refuses it: {e}")),
        },
    };
    (ours, verdict)
}

fn only_we_read(ours: &Message, theirs: &DecodeError) -> Option<&'static str> {
    match (ours, theirs) {
        (Message::Error(m), _) => core::str::from_utf8(&m.data).is_err().then_some(TEXT),
        (Message::Warning(m), _) => core::str::from_utf8(&m.data).is_err().then_some(TEXT),
        (Message::ChannelUpdate(m), _) => (m.message_flags & 1 == 0).then_some(MUST_BE_ONE),
        (Message::NodeAnnouncement(m), _) => m
            .addresses
            .iter()
            .any(|a| matches!(a, NetAddress::Unknown(_)))
            .then_some(ADDRESS),
        (Message::Init(m), _) => {
            matches!(m.remote_addr, Some(NetAddress::Unknown(_))).then_some(ADDRESS)
        }
        (Message::OnionMessage(_), _) => Some(ONION_PACKET),
        // Odd records 65537 and 75537.
        (Message::UpdateAddHtlc(_) | Message::RevokeAndAck(_), _) => Some(RECORD),
        (_, DecodeError::UnknownRequiredFeature) => Some(RECORD),
        _ => None,
    }
}

/// Records of odd types that LDK does not know, and so does not read.
const UNREAD: &[&str] = &[
    "query_flags",
    "query_option",
    "timestamps_tlv",
    "checksums_tlv",
    "fulfillment_payload",
    "closer_no_closee",
    "closer_and_closee",
];

fn only_they_read(ours: &MessageError, theirs: &LdkMessage) -> Option<&'static str> {
    let MessageError::Malformed { field, .. } = ours else {
        return None;
    };
    if UNREAD.contains(field) {
        return Some(RECORD);
    }
    let looks_for_none = matches!(
        theirs,
        LdkMessage::Ping(_)
            | LdkMessage::Pong(_)
            | LdkMessage::Error(_)
            | LdkMessage::Warning(_)
            | LdkMessage::OnionMessage(_)
            | LdkMessage::QueryShortChannelIds(_)
            | LdkMessage::ReplyChannelRange(_)
    );
    (looks_for_none && *field == "extension").then_some(EXTENSION)
}
