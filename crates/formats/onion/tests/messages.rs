//! Onion messages: the official one as messages, the rules of BOLT 4 one by one, and properties.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use bitcoin::secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use common::{Item, items};
use fulmen_onion::{
    blinding::{
        BlindedPath, BlindedRoute, EncryptedData, NextHop, PaymentRelay, UnblindError, blind_route,
    },
    sphinx::Hop,
    *,
};
use fulmen_types::{
    CltvExpiryDelta, Features, SciddirOrPubkey, ShortChannelId,
    codec::{Decode, DecodeError, Encode, TlvWriter},
};
use proptest::{collection::vec, prelude::*};

fn key(i: u8) -> SecretKey {
    SecretKey::from_slice(&[i; 32]).unwrap()
}

fn public(i: u8) -> PublicKey {
    PublicKey::from_secret_key(&Secp256k1::new(), &key(i))
}

fn keys() -> MessageKeys {
    MessageKeys {
        onion: key(101),
        path: key(102),
    }
}

/// Carries a message from node to node until somebody receives it; node `i` has the key `[i; 32]`.
fn carry(
    secp: &Secp256k1<All>,
    message: BuiltMessage,
    nodes: &[u8],
) -> (Option<Vec<u8>>, MessagePayload) {
    let (mut at, mut path_key, mut packet) =
        (message.first_node_id, message.path_key, message.packet);
    for (i, node) in nodes.iter().enumerate() {
        assert_eq!(at, public(*node));
        match peel_message_with_key(secp, &packet, &path_key, &key(*node), &[]).unwrap() {
            PeeledMessage::Forward {
                next: NextHop::Node(next),
                next_path_key,
                packet: next_packet,
            } => {
                assert_eq!(next_packet.len(), packet.len());
                (at, path_key, packet) = (next, next_path_key, next_packet);
            }
            PeeledMessage::Forward { next, .. } => panic!("{next:?}"),
            PeeledMessage::Receive { path_id, payload } => {
                assert_eq!(i + 1, nodes.len());
                return (path_id, payload);
            }
        }
    }
    panic!("nobody received it")
}

/// A blinded path over `nodes`, which the last of them recognises by `path_id`.
fn path(secp: &Secp256k1<All>, nodes: &[u8], path_id: &[u8]) -> BlindedPath {
    let hops: Vec<(PublicKey, Vec<u8>)> = nodes
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let data = match nodes.get(i + 1) {
                Some(next) => EncryptedData {
                    next_node_id: Some(public(*next)),
                    ..EncryptedData::default()
                },
                None => EncryptedData {
                    path_id: Some(path_id.to_vec()),
                    ..EncryptedData::default()
                },
            };
            (public(*node), data.padded_to(60).to_bytes())
        })
        .collect();
    BlindedPath {
        first_node_id: public(nodes[0]).into(),
        route: blind_route(secp, &key(103), &hops).unwrap(),
    }
}

fn destination(path: &BlindedPath) -> Destination {
    let SciddirOrPubkey::Pubkey(first_node_id) = path.first_node_id else {
        panic!("a node id")
    };
    Destination::Path {
        first_node_id,
        route: path.route.clone(),
    }
}

#[test]
fn official_message() {
    let secp = Secp256k1::new();
    let all = items(include_str!("../vectors/bolt04-blinded-onion-message.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    let mut packet = head.bytes("onion");
    let mut path_key = hops[0].point("path_key");
    let mut forwarded = 0;
    for hop in hops {
        let peeled =
            peel_message_with_key(&secp, &packet, &path_key, &hop.key("privkey"), &[]).unwrap();
        match peeled {
            PeeledMessage::Forward {
                next,
                next_path_key,
                packet: next_packet,
            } => {
                assert_eq!(next, NextHop::Node(hop.point("next_node_id")));
                (packet, path_key) = (next_packet, next_path_key);
                forwarded += 1;
            }
            PeeledMessage::Receive { path_id, payload } => {
                assert_eq!(path_id, Some(hop.bytes("path_id")));
                // Its only other field is odd and unknown.
                assert_eq!(payload, MessagePayload::default());
            }
        }
    }
    assert_eq!(forwarded, 3);
}

#[test]
fn official_route_can_be_entered_late() {
    let secp = Secp256k1::new();
    let all = items(include_str!("../vectors/bolt04-blinded-onion-message.txt"));
    let hops: &[Item] = &all[1..];
    let mut route = BlindedRoute {
        first_path_key: hops[0].point("path_key"),
        path: hops
            .iter()
            .map(|hop| fulmen_onion::blinding::BlindedHop {
                blinded_node_id: hop.point("blinded_node_id"),
                encrypted_recipient_data: hop.bytes("encrypted_recipient_data"),
            })
            .collect(),
    };
    for (i, hop) in hops.iter().enumerate() {
        assert_eq!(route.first_path_key, hop.point("path_key"));
        assert_eq!(route.path.len(), hops.len() - i);
        match route.advance(&secp, &hop.secret("ss")) {
            Ok((data, rest)) => {
                assert_eq!(data.next_node_id, Some(hop.point("next_node_id")));
                route = rest;
            }
            // The recipient has nobody to go on to.
            Err(e) => assert_eq!((i, e), (3, UnblindError::NextHop)),
        }
    }
}

#[test]
fn a_question_and_its_answer() {
    let secp = Secp256k1::new();
    // Node 1 asks node 5, known by a path from node 4, over 2 and 3. The answer comes by 6 and 7.
    let offer_path = path(&secp, &[4, 5], b"offer");
    let reply_path = path(&secp, &[6, 7, 1], b"reply");
    let question = MessagePayload {
        reply_path: Some(reply_path.clone()),
        contents: Some(MessageContents::InvoiceRequest(vec![1, 2, 3])),
    };
    let message = build_message(
        &secp,
        &keys(),
        &[public(2), public(3)],
        &destination(&offer_path),
        &question,
    )
    .unwrap();
    assert_eq!(message.packet.len(), 1366);
    let (path_id, received) = carry(&secp, message, &[2, 3, 4, 5]);
    assert_eq!(path_id.as_deref(), Some(&b"offer"[..]));
    assert_eq!(received, question);

    let answer = MessagePayload {
        reply_path: None,
        contents: Some(MessageContents::Invoice(vec![7; 2_000])),
    };
    let back = destination(&received.reply_path.unwrap());
    let message = build_message(&secp, &keys(), &[], &back, &answer).unwrap();
    assert_eq!(message.packet.len(), 32_834);
    let (path_id, received) = carry(&secp, message, &[6, 7, 1]);
    assert_eq!(path_id.as_deref(), Some(&b"reply"[..]));
    assert_eq!(received, answer);
}

#[test]
fn sizes() {
    let secp = Secp256k1::new();
    let send = |len: usize| {
        let payload = MessagePayload {
            reply_path: None,
            contents: Some(MessageContents::InvoiceError(vec![0; len])),
        };
        build_message(&secp, &keys(), &[], &Destination::Node(public(1)), &payload)
            .map(|message| message.packet.len())
    };
    // Length 3, HMAC 32, data 2 + 16, payload type 1 and length 3.
    let room = 1_300 - 3 - 32 - 18 - 4;
    assert_eq!(send(room), Ok(1_366));
    assert_eq!(send(room + 1), Ok(32_834));
    let room = 32_768 - 3 - 32 - 18 - 4;
    assert_eq!(send(room), Ok(32_834));
    assert_eq!(
        send(room + 1),
        Err(MessageBuildError::Onion(BuildError::PayloadsTooLong {
            needed: 32_769,
            available: 32_768
        }))
    );
}

#[test]
fn own_introduction_node() {
    let secp = Secp256k1::new();
    // Node 4 is to answer over a path that begins at itself.
    let reply_path = path(&secp, &[4, 5], b"reply");
    let blinding = SharedSecret::ecdh(&reply_path.route.first_path_key, &key(4));
    let (data, route) = reply_path.route.advance(&secp, &blinding).unwrap();
    assert_eq!(data.next_node_id, Some(public(5)));
    let to = Destination::Path {
        first_node_id: public(5),
        route,
    };
    let message = build_message(&secp, &keys(), &[], &to, &MessagePayload::default()).unwrap();
    assert_eq!(
        carry(&secp, message, &[5]).0.as_deref(),
        Some(&b"reply"[..])
    );
    // A path that is the sender's own alone has no rest.
    let alone = path(&secp, &[4], b"");
    let blinding = SharedSecret::ecdh(&alone.route.first_path_key, &key(4));
    assert_eq!(
        alone.route.advance(&secp, &blinding),
        Err(UnblindError::NextHop)
    );
}

/// One node's view of a message whose hop 0 carries `data` and the TLVs that `fields` puts around them.
fn peel_one(
    data: &EncryptedData,
    fields: &[(u64, Vec<u8>)],
    is_final: bool,
    even_types: &[u64],
) -> Result<PeeledMessage, IgnoreReason> {
    let secp = Secp256k1::new();
    let route = blind_route(
        &secp,
        &key(103),
        &[
            (public(1), data.to_bytes()),
            (public(2), EncryptedData::default().to_bytes()),
        ],
    )
    .unwrap();
    let mut hops: Vec<Hop> = route
        .path
        .iter()
        .map(|hop| {
            let mut all: Vec<(u64, Vec<u8>)> = vec![(4, hop.encrypted_recipient_data.clone())];
            all.extend(fields.to_vec());
            all.sort();
            let mut payload = vec![];
            let mut tlvs = TlvWriter::new(&mut payload);
            for (kind, value) in all.iter().filter(|(kind, _)| *kind != 1_000) {
                tlvs.put(*kind, value);
            }
            Hop {
                node_id: hop.blinded_node_id,
                payload,
            }
        })
        .collect();
    if is_final {
        hops.truncate(1);
    }
    let (packet, _) = sphinx::build(&secp, &key(104), &hops, &[], 1_300).unwrap();
    peel_message_with_key(&secp, &packet, &route.first_path_key, &key(1), even_types)
}

fn to_node_2() -> EncryptedData {
    EncryptedData {
        next_node_id: Some(public(2)),
        ..EncryptedData::default()
    }
}

#[test]
fn rules_of_a_forwarder() {
    let next = |peeled| match peeled {
        Ok(PeeledMessage::Forward { next, .. }) => next,
        other => panic!("{other:?}"),
    };
    let node = NextHop::Node(public(2));
    assert_eq!(next(peel_one(&to_node_2(), &[], false, &[])), node);
    let scid = ShortChannelId::from_parts(1, 2, 3).unwrap();
    let mut data = EncryptedData {
        short_channel_id: Some(scid),
        ..EncryptedData::default()
    };
    assert_eq!(
        next(peel_one(&data, &[], false, &[])),
        NextHop::Channel(scid)
    );
    // next_node_id goes before short_channel_id.
    data.next_node_id = Some(public(2));
    assert_eq!(next(peel_one(&data, &[], false, &[])), node);
    assert_eq!(
        peel_one(&EncryptedData::default(), &[], false, &[]),
        Err(IgnoreReason::Unblind(UnblindError::NextHop))
    );
    data.path_id = Some(vec![1]);
    assert_eq!(
        peel_one(&data, &[], false, &[]),
        Err(IgnoreReason::PathIdForForwarder)
    );
    // Even an odd field that nobody knows.
    for kind in [1, 2, 3, 64, 65, 99] {
        let value = path(&Secp256k1::new(), &[3], b"").to_bytes();
        assert_eq!(
            peel_one(&to_node_2(), &[(kind, value)], false, &[kind]),
            Err(IgnoreReason::FieldForForwarder(kind))
        );
    }
}

#[test]
fn rules_of_both() {
    for is_final in [true, false] {
        let base = if is_final {
            EncryptedData::default()
        } else {
            to_node_2()
        };
        let relay = EncryptedData {
            payment_relay: Some(PaymentRelay {
                cltv_expiry_delta: CltvExpiryDelta::new(1),
                fee_proportional_millionths: 0,
                fee_base_msat: 0,
            }),
            ..base.clone()
        };
        assert_eq!(
            peel_one(&relay, &[], is_final, &[]),
            Err(IgnoreReason::PaymentPath)
        );
        let mut features = Features::empty();
        features.set_bit(1);
        let features = EncryptedData {
            allowed_features: Some(features),
            ..base.clone()
        };
        assert_eq!(
            peel_one(&features, &[], is_final, &[]),
            Err(IgnoreReason::Unblind(UnblindError::UnknownFeature))
        );
        let no_features = EncryptedData {
            allowed_features: Some(Features::empty()),
            ..base
        };
        assert!(peel_one(&no_features, &[], is_final, &[]).is_ok());
    }
}

#[test]
fn rules_of_the_recipient() {
    let peel = |fields: &[(u64, Vec<u8>)], even: &[u64]| match peel_one(
        &EncryptedData::default(),
        fields,
        true,
        even,
    ) {
        Ok(PeeledMessage::Receive { payload, .. }) => Ok(payload.contents),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e),
    };
    let field = |kind: u64| (kind, vec![5]);
    assert_eq!(
        peel(&[field(64)], &[]),
        Ok(Some(MessageContents::InvoiceRequest(vec![5])))
    );
    assert_eq!(
        peel(&[field(66)], &[]),
        Ok(Some(MessageContents::Invoice(vec![5])))
    );
    assert_eq!(
        peel(&[field(68)], &[]),
        Ok(Some(MessageContents::InvoiceError(vec![5])))
    );
    assert_eq!(
        peel(&[field(64), field(68)], &[]),
        Err(IgnoreReason::PayloadCount)
    );
    assert_eq!(
        peel(&[field(64), field(71)], &[]),
        Err(IgnoreReason::PayloadCount)
    );
    // Odd payloads are kept for whom they concern, even ones must be known.
    let custom = |kind| {
        Ok(Some(MessageContents::Custom {
            kind,
            value: vec![5],
        }))
    };
    assert_eq!(peel(&[field(71)], &[]), custom(71));
    assert_eq!(
        peel(&[field(70)], &[]),
        Err(IgnoreReason::Payload(DecodeError::UnknownEvenTlv(70)))
    );
    assert_eq!(peel(&[field(70)], &[70]), custom(70));
    // Below 64, odd ones are ignored.
    assert_eq!(
        peel(&[field(5), field(64)], &[]),
        Ok(Some(MessageContents::InvoiceRequest(vec![5])))
    );
    assert_eq!(
        peel(&[field(6)], &[6]),
        Err(IgnoreReason::Payload(DecodeError::UnknownEvenTlv(6)))
    );
    // A reply path without hops is none.
    let mut empty = path(&Secp256k1::new(), &[3], b"");
    empty.route.path.clear();
    assert!(matches!(
        peel(&[(2, empty.to_bytes())], &[]),
        Err(IgnoreReason::Payload(DecodeError::InvalidValue(_)))
    ));
    // Somebody cut the path off.
    assert_eq!(
        peel_one(&to_node_2(), &[], true, &[]),
        Err(IgnoreReason::CutOff)
    );
}

#[test]
fn payloads_have_types_of_their_own() {
    let payload = MessagePayload {
        reply_path: None,
        contents: Some(MessageContents::Custom {
            kind: 4,
            value: vec![],
        }),
    };
    assert_eq!(
        build_message(
            &Secp256k1::new(),
            &keys(),
            &[],
            &Destination::Node(public(1)),
            &payload
        ),
        Err(MessageBuildError::PayloadType(4))
    );
}

#[test]
fn missing_recipient_data() {
    let secp = Secp256k1::new();
    let blinding = SharedSecret::ecdh(&public(9), &key(1));
    let mut payload = vec![];
    TlvWriter::new(&mut payload).put(64, &vec![1u8]);
    let node_id = blind_route(&secp, &key(9), &[(public(1), vec![])])
        .unwrap()
        .path[0]
        .blinded_node_id;
    let hop = Hop { node_id, payload };
    let (packet, _) = sphinx::build(&secp, &key(104), &[hop], &[], 1_300).unwrap();
    let point = sphinx::ecdh_point(&secp, &packet, Some(&blinding)).unwrap();
    let shared = SharedSecret::ecdh(&point, &key(1));
    assert_eq!(
        peel_message(&secp, &packet, &public(9), &blinding, &shared, &[]),
        Err(IgnoreReason::Payload(DecodeError::Missing(
            "encrypted_recipient_data"
        )))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_message_arrives(
        through in vec(1u8..50, 0..5),
        blinded in vec(50u8..90, 1..5),
        as_path: bool,
        contents in proptest::option::of((0u64..40, vec(any::<u8>(), 0..1_500))),
        seeds in (1u8..250, 1u8..250),
    ) {
        let secp = Secp256k1::new();
        let message_keys = MessageKeys { onion: key(seeds.0), path: key(seeds.1) };
        let contents = contents.map(|(kind, value)| match kind {
            0..10 => MessageContents::InvoiceRequest(value),
            10..20 => MessageContents::Invoice(value),
            20..30 => MessageContents::InvoiceError(value),
            _ => MessageContents::Custom { kind: 2 * kind + 65, value },
        });
        let payload = MessagePayload {
            reply_path: as_path.then(|| path(&secp, &blinded, b"back")),
            contents,
        };
        let mut nodes = through.clone();
        let to = if as_path {
            nodes.extend(&blinded);
            destination(&path(&secp, &blinded, b"there"))
        } else {
            nodes.push(blinded[0]);
            Destination::Node(public(blinded[0]))
        };
        let peers: Vec<PublicKey> = through.iter().map(|i| public(*i)).collect();
        let message = build_message(&secp, &message_keys, &peers, &to, &payload).unwrap();
        prop_assert!(MESSAGE_PACKET_LENS.contains(&message.packet.len()));
        let (path_id, received) = carry(&secp, message, &nodes);
        prop_assert_eq!(path_id.as_deref(), as_path.then_some(&b"there"[..]));
        prop_assert_eq!(received, payload);
    }

    #[test]
    fn noise_is_ignored(mut packet in vec(any::<u8>(), 0..200), flip: bool) {
        if flip && packet.len() > 34 {
            packet[0] = 0;
            packet[1..34].copy_from_slice(&public(3).serialize());
        }
        let peeled =
            peel_message_with_key(&Secp256k1::new(), &packet, &public(9), &key(1), &[]);
        prop_assert!(matches!(peeled, Err(IgnoreReason::Packet(_))));
    }

    #[test]
    fn blinded_paths_round_trip(nodes in vec(1u8..90, 1..6), id in vec(any::<u8>(), 0..50), scid: Option<(u64, bool)>) {
        let mut path = path(&Secp256k1::new(), &nodes, &id);
        if let Some((scid, is_node_2)) = scid {
            path.first_node_id = SciddirOrPubkey::Sciddir {
                is_node_2,
                short_channel_id: ShortChannelId::from_u64(scid),
            };
        }
        prop_assert_eq!(BlindedPath::from_bytes(&path.to_bytes()), Ok(path));
    }
}
