//! BOLT 1, 2 and 7: every message by its type.

use fulmen_compare::{Verdict, compare_message};
use fulmen_wire::Message;

/// Type and payload, as they come out of the transport.
pub(crate) fn messages(data: &[u8]) {
    let (ours, verdict) = compare_message(data);
    if let Verdict::Different(how) = verdict {
        panic!("{how}");
    }
    let message = match ours {
        Ok(message) => message,
        // What is told to the peer is a message itself.
        Err(error) => {
            let warning = Message::from(error.warning());
            assert!(warning.fits());
            again(&warning);
            return;
        }
    };
    let encoded = again(&message);
    if let Message::ChannelAnnouncement(_)
    | Message::NodeAnnouncement(_)
    | Message::ChannelUpdate(_) = message
    {
        assert_eq!(encoded, data, "signatures cover every byte");
    }
}

/// The gossip queries, which have encodings of their own: the first byte says which.
pub(crate) fn queries(data: &[u8]) {
    let Some((which, payload)) = crate::choice(data) else {
        return;
    };
    let type_ = 261 + u16::from(which % 5);
    messages(&[&type_.to_be_bytes(), payload].concat());
}

fn again(message: &Message) -> Vec<u8> {
    let encoded = message.encode();
    assert_eq!(Message::decode(&encoded).as_ref(), Ok(message));
    encoded
}
