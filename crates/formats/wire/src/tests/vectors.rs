//! The official vectors of BOLT 1 and BOLT 7.

use alloc::{collections::BTreeSet, string::ToString, vec, vec::Vec};

use bitcoin::{constants::ChainHash, hex::FromHex, secp256k1::Secp256k1};
use fulmen_types::NodeId;
use fulmen_vectors::report;

use crate::{
    Init, Message, MessageError, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
};

fn lines(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(' ').collect())
}

#[test]
fn message_extension() {
    let (mut valid, mut invalid) = (0, 0);
    for line in lines(include_str!("../../vectors/bolt01-extension.txt")) {
        let decoded = Message::decode(&Vec::from_hex(line[1]).unwrap());
        if line[0] == "valid" {
            let empty = Init {
                globalfeatures: Default::default(),
                features: Default::default(),
                networks: None,
                remote_addr: None,
            };
            assert_eq!(decoded, Ok(Message::Init(empty)));
            valid += 1;
        } else {
            assert!(
                matches!(decoded, Err(MessageError::Malformed { type_: 16, .. })),
                "{}",
                line[1]
            );
            invalid += 1;
        }
    }
    report(1, "Appendix C, valid extensions", valid);
    report(1, "Appendix C, invalid extensions", invalid);
}

/// `-` for none, else the items between commas.
fn list<T>(text: &str, item: impl Fn(&str) -> T) -> Option<Vec<T>> {
    (text != "-").then(|| text.split(',').map(item).collect())
}

fn number<T: core::str::FromStr<Err = core::num::ParseIntError>>(text: &str) -> T {
    text.parse().unwrap()
}

fn pair(text: &str) -> (u32, u32) {
    let (one, two) = text.split_once('/').unwrap();
    (number(one), number(two))
}

#[test]
fn extended_queries() {
    let (mut read, mut refused) = (0, 0);
    for line in lines(include_str!("../../vectors/bolt07-extended-queries.txt")) {
        let bytes = Vec::from_hex(line[0]).unwrap();
        if line[1] == "refused" {
            let error = Message::decode(&bytes).unwrap_err();
            assert!(error.to_string().contains("zlib"), "{error}");
            refused += 1;
            continue;
        }
        let [
            _,
            name,
            first,
            blocks,
            complete,
            ids,
            option,
            timestamps,
            checksums,
            flags,
        ] = line[..]
        else {
            panic!("{line:?}");
        };
        let chain_hash = ChainHash::from(<[u8; 32]>::try_from(&bytes[2..34]).unwrap());
        let encoded_short_ids = list(ids, |id| id.parse().unwrap());
        let expected: Message = match name {
            "QueryChannelRange" => QueryChannelRange {
                chain_hash,
                first_blocknum: number(first),
                number_of_blocks: number(blocks),
                query_option: list(option, number).map(|o| o[0]),
            }
            .into(),
            "ReplyChannelRange" => ReplyChannelRange {
                chain_hash,
                first_blocknum: number(first),
                number_of_blocks: number(blocks),
                sync_complete: complete == "1",
                encoded_short_ids: encoded_short_ids.unwrap(),
                timestamps_tlv: list(timestamps, pair),
                checksums_tlv: list(checksums, pair),
            }
            .into(),
            "QueryShortChannelIds" => QueryShortChannelIds {
                chain_hash,
                encoded_short_ids: encoded_short_ids.unwrap(),
                query_flags: list(flags, number),
            }
            .into(),
            other => panic!("{other}"),
        };
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&expected));
        assert_eq!(expected.encode(), bytes);
        read += 1;
    }
    report(7, "extended-queries", read);
    report(7, "extended-queries in zlib, refused", refused);
}

/// A codec made from one table reads what it writes even if two fields are in the wrong order; this
/// compares the tables with the specification.
#[test]
fn fields_are_those_of_the_specification() {
    let tables = Message::tables();
    let row = |name: &str| *tables.iter().find(|row| row.1 == name).unwrap();
    let (mut messages, mut records) = (0, 0);
    for line in lines(include_str!("../../vectors/fields.txt")) {
        match line[..] {
            ["message", name, type_, ref expected @ ..] => {
                let (our_type, _, fields, _) = row(name);
                assert_eq!(our_type, number::<u16>(type_), "{name}");
                let fields: Vec<_> = fields.iter().filter(|f| **f != "excess_data").collect();
                assert_eq!(fields, expected.iter().collect::<Vec<_>>(), "{name}");
                messages += 1;
            }
            ["tlv", message, kind, name] => {
                // The one record that goes by the name of its only content.
                let name = if name == "blinded_path" {
                    "path_key"
                } else {
                    name
                };
                let record = (number(kind), name);
                assert!(row(message).3.contains(&record), "{message}: {record:?}");
                records += 1;
            }
            ref other => panic!("{other:?}"),
        }
    }
    let ours: usize = tables.iter().map(|row| row.3.len()).sum();
    assert_eq!((messages, records), (50, ours));
}

/// Messages that another program made from the tables of the specification.
#[test]
fn messages_made_elsewhere_are_read_and_written_alike() {
    let mut names = BTreeSet::new();
    let mut count = 0;
    for line in lines(include_str!("../../vectors/messages.txt")) {
        let [name, records, hex] = line[..] else {
            panic!("{line:?}");
        };
        let bytes = Vec::from_hex(hex).unwrap();
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.name(), name);
        assert_eq!(message.encode(), bytes, "{name} with {records} records");
        names.insert(name);
        count += 1;
        if records == "0" {
            // Nothing shorter is the message, and what is longer must be a record.
            for len in 2..bytes.len() {
                assert!(Message::decode(&bytes[..len]).is_err(), "{name} of {len}");
            }
            let longer = [&bytes[..], &[1]].concat();
            assert_eq!(
                Message::decode(&longer).is_ok(),
                matches!(message.type_id(), 256..=258),
                "{name}"
            );
        }
    }
    assert_eq!((names.len(), count), (50, 135));
}

#[test]
fn gossip_signed_elsewhere_verifies() {
    let secp = Secp256k1::verification_only();
    let mut verified = 0;
    for line in lines(include_str!("../../vectors/bolt07-signed.txt")) {
        let bytes = Vec::from_hex(line[1]).unwrap();
        // The last byte is covered like all before it.
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        for (bytes, is_good) in [(&bytes, true), (&changed, false)] {
            let message = Message::decode(bytes).unwrap();
            assert_eq!(message.encode(), *bytes);
            let (hash, signers) = match &message {
                Message::ChannelAnnouncement(m) => (
                    m.signature_hash(),
                    vec![
                        (m.node_signature_1, m.node_id_1),
                        (m.node_signature_2, m.node_id_2),
                        (m.bitcoin_signature_1, m.bitcoin_key_1),
                        (m.bitcoin_signature_2, m.bitcoin_key_2),
                    ],
                ),
                Message::NodeAnnouncement(m) => {
                    (m.signature_hash(), vec![(m.signature, m.node_id)])
                }
                Message::ChannelUpdate(m) => {
                    let checksum = u32::from_str_radix(line[3], 16).unwrap();
                    assert_eq!(m.checksum() == checksum, is_good);
                    let key = NodeId::new(<[u8; 33]>::from_hex(line[2]).unwrap());
                    (m.signature_hash(), vec![(m.signature, key)])
                }
                other => panic!("{other:?}"),
            };
            for (signature, key) in &signers {
                let verdict = key
                    .to_public_key()
                    .and_then(|key| secp.verify_ecdsa(&hash, signature, &key));
                assert_eq!(verdict.is_ok(), is_good);
                verified += usize::from(is_good);
            }
        }
    }
    assert_eq!(verified, 8 * (4 + 1 + 1));
}
