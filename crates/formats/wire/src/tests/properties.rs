//! What holds for messages of every type, with generated values.

use alloc::{collections::BTreeSet, vec::Vec};

use fulmen_types::codec::{BigSize, DecodeError, Encode};
use proptest::prelude::*;

use super::Source;
use crate::{Message, MessageError};

/// Whether a signature covers the whole of the message, so that every byte is kept.
fn keeps_all(message: &Message) -> bool {
    matches!(
        message,
        Message::ChannelAnnouncement(_) | Message::NodeAnnouncement(_) | Message::ChannelUpdate(_)
    )
}

fn source() -> impl Strategy<Value = (Vec<u8>, u64)> {
    (prop::collection::vec(any::<u8>(), 0..64), any::<u64>())
}

/// An extension record with a type above all known ones.
fn record(kind: u64, value: &[u8]) -> Vec<u8> {
    let mut out = BigSize(kind).to_bytes();
    BigSize(value.len() as u64).encode(&mut out);
    out.extend_from_slice(value);
    out
}

#[test]
fn fifty_messages_each_with_its_own_type() {
    let types: BTreeSet<u16> = Message::KNOWN.iter().map(|m| m.0).collect();
    let names: BTreeSet<&str> = Message::KNOWN.iter().map(|m| m.1).collect();
    assert_eq!((types.len(), names.len()), (50, 50));
    let generated: BTreeSet<u16> = Message::generate_all(&mut Source::new(&[], 1))
        .iter()
        .map(Message::type_id)
        .collect();
    assert_eq!(generated, types);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_encoded_decodes_to_the_same((bytes, seed) in source()) {
        for message in Message::generate_all(&mut Source::new(&bytes, seed)) {
            let encoded = message.encode();
            prop_assert_eq!(&encoded[..2], &message.type_id().to_be_bytes()[..]);
            prop_assert!(message.fits());
            let decoded = Message::decode(&encoded);
            prop_assert_eq!(decoded.as_ref(), Ok(&message), "{}", message.name());
            prop_assert_eq!(decoded.unwrap().encode(), encoded);
        }
    }

    #[test]
    fn odd_extensions_are_dropped_or_kept_and_even_ones_refused(
        (bytes, seed) in source(),
        kind in 100_000u64..,
        value in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        for message in Message::generate_all(&mut Source::new(&bytes, seed)) {
            let (odd, even) = (kind | 1, kind & !1);
            let with = |kind| [message.encode(), record(kind, &value)].concat();
            if keeps_all(&message) {
                for bytes in [with(odd), with(even)] {
                    prop_assert_eq!(Message::decode(&bytes).unwrap().encode(), bytes);
                }
                continue;
            }
            let decoded = Message::decode(&with(odd));
            prop_assert_eq!(decoded.as_ref(), Ok(&message));
            let error = Message::decode(&with(even)).unwrap_err();
            prop_assert_eq!(error, MessageError::Malformed {
                type_: message.type_id(),
                field: "extension",
                error: DecodeError::UnknownEvenTlv(even),
            });
            // A record cut short is no extension.
            let mut cut = with(odd);
            cut.pop();
            if !value.is_empty() {
                prop_assert!(Message::decode(&cut).is_err());
            }
        }
    }

    #[test]
    fn broken_messages_are_refused_or_mean_something((bytes, seed) in source(), at: usize, flip: u8) {
        for message in Message::generate_all(&mut Source::new(&bytes, seed)) {
            let mut encoded = message.encode();
            let at = 2 + at % (encoded.len() - 2);
            if let Ok(cut) = Message::decode(&encoded[..at]) {
                prop_assert_eq!(Message::decode(&cut.encode()), Ok(cut));
            }
            encoded[at] ^= flip;
            if let Ok(flipped) = Message::decode(&encoded) {
                if keeps_all(&flipped) {
                    prop_assert_eq!(flipped.encode(), encoded);
                } else {
                    prop_assert_eq!(Message::decode(&flipped.encode()), Ok(flipped));
                }
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_fail(payload in prop::collection::vec(any::<u8>(), 0..400), type_: u16) {
        let known = Message::KNOWN.iter().map(|m| m.0).chain([type_]);
        for type_ in known {
            let bytes = [&type_.to_be_bytes()[..], &payload].concat();
            match Message::decode(&bytes) {
                Ok(message) => {
                    let again = message.encode();
                    prop_assert_eq!(Message::decode(&again), Ok(message));
                }
                Err(error) => {
                    // What is said of it fits a message and is plain text.
                    let warning = error.warning();
                    prop_assert!(warning.data.iter().all(|b| (32..127).contains(b)));
                }
            }
        }
    }
}
