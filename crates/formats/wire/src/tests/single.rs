//! Single cases: types, sizes, addresses, the small methods of messages.

use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

use bitcoin::constants::ChainHash;
use fulmen_types::{
    ChannelId, Feature, Features, ShortChannelId,
    codec::{Decode, DecodeError, Encode},
};

use crate::{
    CustomTypes, Error, Hostname, Init, MAX_MESSAGE_LEN, Message, MessageError, NetAddress,
    PeerStorage, Ping, QueryShortChannelIds, Warning,
};

#[test]
fn unknown_types() {
    let odd = Message::decode(&[0xff, 0xff, 1, 2]).unwrap();
    assert_eq!(
        odd,
        Message::Unknown {
            type_: 65535,
            payload: vec![1, 2]
        }
    );
    assert_eq!(odd.encode(), [0xff, 0xff, 1, 2]);
    assert_eq!((odd.type_id(), odd.name()), (65535, "unknown"));
    let even = [0x80, 0x00, 5];
    assert_eq!(
        Message::decode(&even),
        Err(MessageError::UnknownEven(32768))
    );
    // Who speaks a custom message gets it, of either kind.
    let ranges = [0..=100, 32768..=32769];
    let custom = CustomTypes::new(&ranges);
    for type_ in [32768u16, 32769] {
        let bytes = [&type_.to_be_bytes()[..], &[5]].concat();
        let message = Message::decode_with(&bytes, custom).unwrap();
        let payload = vec![5];
        assert_eq!(message, Message::Custom { type_, payload });
        assert_eq!(message.encode(), bytes);
        assert_eq!((message.type_id(), message.name()), (type_, "custom"));
    }
    // The types below are the specification's: nobody can claim them.
    assert_eq!(
        Message::decode_with(&[0, 4], custom),
        Err(MessageError::UnknownEven(4))
    );
    assert!(matches!(
        Message::decode_with(&[0, 3], custom),
        Ok(Message::Unknown { type_: 3, .. })
    ));
    assert_eq!(
        Message::decode_with(&[0x80, 0x02], custom),
        Err(MessageError::UnknownEven(32770))
    );
    assert_eq!(Message::decode(&[]), Err(MessageError::NoType));
    assert_eq!(Message::decode(&[0]), Err(MessageError::NoType));
}

#[test]
fn sizes() {
    let blob = |len| Message::from(PeerStorage { blob: vec![7; len] });
    // BOLT 1: at most 65531 bytes, which with type and length fill a message.
    let largest = blob(65531);
    assert!(largest.fits());
    assert_eq!(Message::decode(&largest.encode()), Ok(largest));
    let too_long = blob(65532);
    assert!(!too_long.fits());
    assert_eq!(
        Message::decode(&too_long.encode()),
        Err(MessageError::TooLong(MAX_MESSAGE_LEN + 1))
    );
}

#[test]
fn errors_tell_the_peer_what_was_wrong() {
    let error = Message::decode(&[0, 18, 0]).unwrap_err();
    assert_eq!(
        error,
        MessageError::Malformed {
            type_: 18,
            field: "num_pong_bytes",
            error: DecodeError::UnexpectedEnd
        }
    );
    let warning = error.warning();
    assert_eq!(warning.channel_id, ChannelId::ALL);
    assert_eq!(
        warning.text().to_string(),
        "malformed ping (type 18, BOLT 1), field num_pong_bytes: the data ends too early"
    );
    assert_eq!(Message::name_of(136), Some("channel_reestablish"));
    assert_eq!(Message::name_of(137), None);
}

#[test]
fn texts_of_peers_are_shown_safely() {
    let error = Error {
        channel_id: ChannelId::ALL,
        data: b"fee\x1b[2J\xff".to_vec(),
    };
    assert_eq!(error.text().to_string(), "fee\u{fffd}[2J\\xff");
    assert_eq!(Warning::new(ChannelId::ALL, "x").data, b"x");
    assert_eq!(Error::new(ChannelId::ALL, "x").text().to_string(), "x");
}

#[test]
fn pings() {
    let pong = |num_pong_bytes| {
        Ping {
            num_pong_bytes,
            ignored: Vec::new(),
        }
        .pong()
        .map(|pong| pong.ignored.len())
    };
    assert_eq!(pong(0), Some(0));
    assert_eq!(pong(65531), Some(65531));
    // BOLT 1: 65532 and above are to be ignored.
    assert_eq!(pong(65532), None);
    assert_eq!(pong(65535), None);
}

#[test]
fn init_joins_features_and_compares_chains() {
    let mut init = Init {
        globalfeatures: Features::empty().with_optional(Feature::GossipQueries),
        features: Features::empty().with_optional(Feature::Quiesce),
        networks: None,
        remote_addr: None,
    };
    let all = init.all_features();
    assert!(all.supports(Feature::GossipQueries) && all.supports(Feature::Quiesce));
    assert!(init.has_chain(&ChainHash::REGTEST));
    init.networks = Some(vec![ChainHash::BITCOIN]);
    assert!(!init.has_chain(&ChainHash::REGTEST));
    assert!(init.has_chain(&ChainHash::BITCOIN));
    // A list of chains that is no whole number of hashes.
    let mut bytes = Message::from(init).encode();
    bytes.truncate(bytes.len() - 1);
    let length = bytes.len() - 32;
    bytes[length] = 31;
    assert!(Message::decode(&bytes).is_err());
}

#[test]
fn channels_of_messages() {
    let all = Message::generate_all(&mut super::Source::new(&[], 3));
    // 36 messages of BOLT 2, error, warning and announcement_signatures name a channel.
    let with_channel = all.iter().filter(|m| m.channel_id().is_some()).count();
    let in_range = |m: &&Message| matches!(m.type_id(), 1 | 2 | 17 | 259 | 32..=255);
    assert_eq!(with_channel, all.iter().filter(in_range).count());
    for message in all.iter().filter(|m| m.channel_id().is_some()) {
        let id = message.channel_id().unwrap();
        let bytes = message.encode();
        // After the type, or in the two openings after the chain.
        let at = if matches!(message.type_id(), 32 | 64) {
            34
        } else {
            2
        };
        assert_eq!(&bytes[at..at + 32], id.as_bytes(), "{}", message.name());
    }
}

#[test]
fn queries_pair_channels_with_flags() {
    let ids = [1, 2].map(ShortChannelId::from_u64);
    let mut query = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        encoded_short_ids: ids.to_vec(),
        query_flags: None,
    };
    let pairs = |query: &QueryShortChannelIds| query.queries().map(Iterator::collect::<Vec<_>>);
    assert_eq!(pairs(&query), Some(vec![(ids[0], 31), (ids[1], 31)]));
    query.query_flags = Some(vec![QueryShortChannelIds::WANT_NODE_1, 0]);
    assert_eq!(pairs(&query), Some(vec![(ids[0], 8), (ids[1], 0)]));
    query.query_flags = Some(vec![1]);
    assert_eq!(pairs(&query), None);
}

#[test]
fn addresses_as_texts() {
    let onion = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:9735";
    for text in [
        "203.0.113.7:9735",
        "[2001:db8::7]:9735",
        "node.example.com:19735",
        onion,
    ] {
        let address: NetAddress = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        assert!(address.is_usable());
        assert_eq!(NetAddress::from_bytes(&address.to_bytes()), Ok(address));
    }
    let tor: NetAddress = onion.parse().unwrap();
    assert_eq!(tor.to_bytes()[0], 4);
    // The version byte of a v3 address.
    assert_eq!(tor.to_bytes()[35], 3);
    for bad in [
        "",
        "host",
        "host:",
        ":9735",
        "host:65536",
        "ho st:1",
        "exämple.com:1",
        "abc.onion:1",
    ] {
        assert!(bad.parse::<NetAddress>().is_err(), "{bad}");
    }
    let socket = "127.0.0.1:1".parse::<NetAddress>().unwrap();
    assert_eq!(socket.to_socket_addr().map(NetAddress::from), Some(socket));
    assert_eq!(tor.to_socket_addr(), None);
    assert!(!"127.0.0.1:0".parse::<NetAddress>().unwrap().is_usable());
}

#[test]
fn host_names() {
    assert!(Hostname::new(&"a".repeat(255)).is_some());
    assert!(Hostname::new(&"a".repeat(256)).is_none());
    assert!(Hostname::new("").is_none());
    // Names that a peer made up are kept as bytes and never shown or looked up.
    for name in [&b"a\nb"[..], b"\xff", b"", b"a b"] {
        let len = u8::try_from(name.len()).unwrap();
        let bytes = [&[5, len][..], name, &[0x26, 0x07]].concat();
        let address = NetAddress::from_bytes(&bytes).unwrap();
        assert_eq!(address, NetAddress::Unknown(bytes.clone()));
        assert_eq!(address.to_bytes(), bytes);
        assert_eq!(
            address.to_string(),
            String::from("unknown address of type 5")
        );
    }
}

#[test]
fn bad_values_in_gossip_do_not_part_neighbours() {
    let error = |type_, error| MessageError::Malformed {
        type_,
        field: "x",
        error,
    };
    let value = DecodeError::InvalidValue("x");
    for type_ in [256, 257, 258, 261, 264] {
        assert!(!error(type_, value).closes_connection());
        assert!(error(type_, DecodeError::UnexpectedEnd).closes_connection());
    }
    assert!(error(132, value).closes_connection());
    assert!(MessageError::UnknownEven(44).closes_connection());
    assert!(MessageError::NoType.closes_connection());
}
