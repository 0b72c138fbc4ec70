//! BOLT 4: onion messages.

use fulmen_onion::{
    Destination, MessageContents, MessageKeys, MessagePayload, PeeledMessage,
    blinding::{BlindedPath, blind_route},
    build_message, peel_message_with_key,
    sphinx::{self, Hop},
};
use fulmen_types::codec::{Decode, Encode};

use crate::{
    choice,
    keys::{SECP, public, secret},
};

/// The first byte chooses: a packet of any bytes, any bytes as the payload of the last node or of one that
/// forwards, or any contents in a message that is built and read again.
pub(crate) fn onion_message(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    match which % 4 {
        0 => {
            let _ = peel_message_with_key(&SECP, data, &public(6), &secret(1), &[]);
        }
        1 | 2 => payload(data, which % 4 == 1),
        _ => round_trip(which / 4, data),
    }
}

/// The node that peels has key 1, and the data that it can decrypt are part of the input: length, data,
/// then the rest of the payload before and behind.
fn payload(data: &[u8], is_final: bool) {
    let Some((len, data)) = choice(data) else {
        return;
    };
    let (recipient_data, rest) = data.split_at(data.len().min(usize::from(len)));
    let Ok(route) = blind_route(&SECP, &secret(9), &[(public(1), recipient_data.to_vec())]) else {
        return;
    };
    let hop = &route.path[0];
    let mut payload = Vec::new();
    fulmen_types::codec::TlvWriter::new(&mut payload).put(4, &hop.encrypted_recipient_data);
    // Records below type 4 are put in front.
    if let Some((front, behind)) = rest.split_first().filter(|(first, _)| **first < 4) {
        let mut whole = vec![*front];
        let cut = behind
            .len()
            .min(behind.first().map_or(0, |len| usize::from(*len) + 1));
        whole.extend_from_slice(&behind[..cut]);
        whole.extend_from_slice(&payload);
        whole.extend_from_slice(&behind[cut..]);
        payload = whole;
    } else {
        payload.extend_from_slice(rest);
    }
    let mut hops = vec![Hop {
        node_id: hop.blinded_node_id,
        payload,
    }];
    if !is_final {
        hops.push(Hop {
            node_id: public(2),
            payload: vec![2, 0],
        });
    }
    let Ok((packet, _)) = sphinx::build(&SECP, &secret(3), &hops, &[], 1300) else {
        return;
    };
    let peeled =
        peel_message_with_key(&SECP, &packet, &route.first_path_key, &secret(1), &[66_000]);
    match peeled {
        Ok(PeeledMessage::Forward { packet: next, .. }) => {
            assert!(!is_final);
            assert_eq!(next.len(), packet.len());
        }
        Ok(PeeledMessage::Receive { payload, .. }) => {
            assert!(is_final);
            if let Some(path) = &payload.reply_path {
                assert_eq!(BlindedPath::from_bytes(&path.to_bytes()).as_ref(), Ok(path));
            }
        }
        Err(_) => {}
    }
}

fn round_trip(which: u8, data: &[u8]) {
    let contents = match which % 5 {
        0 => None,
        1 => Some(MessageContents::InvoiceRequest(data.to_vec())),
        2 => Some(MessageContents::Invoice(data.to_vec())),
        3 => Some(MessageContents::InvoiceError(data.to_vec())),
        _ => Some(MessageContents::Custom {
            kind: 65_537,
            value: data.to_vec(),
        }),
    };
    let payload = MessagePayload {
        reply_path: BlindedPath::from_bytes(data).ok(),
        contents,
    };
    let keys = MessageKeys {
        onion: secret(3),
        path: secret(9),
    };
    let through = [public(2), public(3)];
    let through = &through[..usize::from(which / 5 % 3)];
    let destination = Destination::Node(public(1));
    let Ok(message) = build_message(&SECP, &keys, through, &destination, &payload) else {
        return;
    };
    let (mut packet, mut path_key) = (message.packet, message.path_key);
    for n in (2..).take(through.len()) {
        let peeled = peel_message_with_key(&SECP, &packet, &path_key, &secret(n), &[]);
        let Ok(PeeledMessage::Forward {
            next_path_key,
            packet: next,
            ..
        }) = peeled
        else {
            panic!("node {n} forwards: {peeled:?}");
        };
        (packet, path_key) = (next, next_path_key);
    }
    let peeled = peel_message_with_key(&SECP, &packet, &path_key, &secret(1), &[]);
    assert_eq!(
        peeled,
        Ok(PeeledMessage::Receive {
            path_id: None,
            payload
        })
    );
}
