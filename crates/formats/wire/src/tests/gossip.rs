//! Signed gossip: what is signed, what is kept, and checksums.

use alloc::{string::ToString, vec, vec::Vec};

use bitcoin::{
    constants::ChainHash,
    hashes::{Hash, sha256d},
    secp256k1::{Message as Digest, PublicKey, Secp256k1, SecretKey, ecdsa::Signature},
};
use fulmen_types::{
    CltvExpiryDelta, Features, Msat, NodeId, ShortChannelId,
    codec::{Decode, Encode},
};

use crate::{ChannelAnnouncement, ChannelUpdate, NetAddress, NodeAlias, NodeAnnouncement, Rgb};

fn key(byte: u8) -> (SecretKey, PublicKey) {
    let secret = SecretKey::from_slice(&[byte; 32]).unwrap();
    (
        secret,
        PublicKey::from_secret_key(&Secp256k1::signing_only(), &secret),
    )
}

fn no_signature() -> Signature {
    Signature::from_compact(&[1; 64]).unwrap()
}

fn sign(hash: &Digest, secret: &SecretKey) -> Signature {
    Secp256k1::signing_only().sign_ecdsa(hash, secret)
}

fn verify(hash: &Digest, signature: &Signature, key: &NodeId) {
    Secp256k1::verification_only()
        .verify_ecdsa(hash, signature, &key.to_public_key().unwrap())
        .unwrap();
}

fn update() -> ChannelUpdate {
    ChannelUpdate {
        signature: no_signature(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(7),
        timestamp: 1_700_000_000,
        message_flags: 3,
        channel_flags: 2,
        cltv_expiry_delta: CltvExpiryDelta::new(34),
        htlc_minimum_msat: Msat::new(1),
        fee_base_msat: 1_000,
        fee_proportional_millionths: 100,
        htlc_maximum_msat: Msat::from_sat(1_000_000),
        excess_data: Vec::new(),
    }
}

#[test]
fn signatures_cover_what_later_versions_add() {
    let (node_1, node_2, bitcoin_1, bitcoin_2) = (key(1), key(2), key(3), key(4));
    let mut message = ChannelAnnouncement {
        node_signature_1: no_signature(),
        node_signature_2: no_signature(),
        bitcoin_signature_1: no_signature(),
        bitcoin_signature_2: no_signature(),
        // Longer than its bits need: kept, because it is signed.
        features: Features::from_be_bytes(&[0, 0, 2]),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(7),
        node_id_1: node_1.1.into(),
        node_id_2: node_2.1.into(),
        bitcoin_key_1: bitcoin_1.1.into(),
        bitcoin_key_2: bitcoin_2.1.into(),
        excess_data: vec![4, 0, 9, 1, 1],
    };
    let hash = message.signature_hash();
    message.node_signature_1 = sign(&hash, &node_1.0);
    message.node_signature_2 = sign(&hash, &node_2.0);
    message.bitcoin_signature_1 = sign(&hash, &bitcoin_1.0);
    message.bitcoin_signature_2 = sign(&hash, &bitcoin_2.0);

    let bytes = message.to_bytes();
    let received = ChannelAnnouncement::from_bytes(&bytes).unwrap();
    assert_eq!(received.to_bytes(), bytes);
    assert_eq!(received.excess_data, [4, 0, 9, 1, 1]);
    // BOLT 7: "the double-SHA256 hash of the message, beginning at offset 256".
    let expected = sha256d::Hash::hash(&bytes[256..]).to_byte_array();
    assert_eq!(received.signature_hash(), Digest::from_digest(expected));
    assert_eq!(received.signed_part(), bytes[256..]);
    let hash = received.signature_hash();
    verify(&hash, &received.node_signature_1, &received.node_id_1);
    verify(&hash, &received.node_signature_2, &received.node_id_2);
    verify(
        &hash,
        &received.bitcoin_signature_1,
        &received.bitcoin_key_1,
    );
    verify(
        &hash,
        &received.bitcoin_signature_2,
        &received.bitcoin_key_2,
    );

    let mut other = received;
    other.excess_data.push(0);
    assert_ne!(other.signature_hash(), hash);
}

#[test]
fn node_announcements_keep_addresses_that_nobody_knows() {
    let (secret, public) = key(5);
    let known = NetAddress::Ipv4 {
        addr: [127, 0, 0, 1].into(),
        port: 9735,
    };
    let tor_v2 = NetAddress::Unknown([&[3u8][..], &[9; 12]].concat());
    let future = NetAddress::Unknown(vec![77, 1, 2, 3]);
    let mut message = NodeAnnouncement {
        signature: no_signature(),
        features: Features::empty(),
        timestamp: 1,
        node_id: public.into(),
        rgb_color: Rgb {
            red: 255,
            green: 128,
            blue: 0,
        },
        alias: NodeAlias::new("fulmen ⚡").unwrap(),
        addresses: vec![known.clone(), tor_v2.clone(), known, future.clone()],
        excess_data: vec![0xff],
    };
    message.signature = sign(&message.signature_hash(), &secret);
    let bytes = message.to_bytes();
    let received = NodeAnnouncement::from_bytes(&bytes).unwrap();
    assert_eq!(received, message);
    assert_eq!(received.to_bytes(), bytes);
    assert_eq!(received.signed_part(), bytes[64..]);
    verify(
        &received.signature_hash(),
        &received.signature,
        &received.node_id,
    );
    assert_eq!(received.rgb_color.to_string(), "#ff8000");
    assert_eq!(received.alias.to_string(), "fulmen ⚡");
    assert!(!tor_v2.is_usable() && !future.is_usable());

    // BOLT 7: "if addrlen is insufficient to hold the address descriptors of the known types".
    message.addresses = vec![NetAddress::Unknown(vec![1, 127, 0, 0])];
    assert!(NodeAnnouncement::from_bytes(&message.to_bytes()).is_err());
}

#[test]
fn names_of_nodes_are_shown_safely() {
    assert_eq!(NodeAlias::new(&"x".repeat(33)), None);
    let evil = NodeAlias::new("a\u{202e}b\x1b[31m").unwrap();
    assert_eq!(evil.to_string(), "a\u{fffd}b\u{fffd}[31m");
    let broken = NodeAlias::from_bytes([0xff; 32]);
    assert_eq!(broken.to_string(), "\\xff".repeat(32));
    assert_eq!(NodeAlias::from_bytes([0; 32]).to_string(), "");
}

#[test]
fn updates_say_their_flags() {
    let update = update();
    assert!(update.dont_forward() && update.is_disabled() && !update.is_from_node_2());
    let (secret, public) = key(6);
    let signature = sign(&update.signature_hash(), &secret);
    verify(&update.signature_hash(), &signature, &public.into());
}

#[test]
fn checksums_leave_signature_and_timestamp_out() {
    // RFC 3720, B.4: the CRC32C of 32 zero bytes is aa 36 91 8a, low byte first.
    assert_eq!(!crate::gossip::crc32c(u32::MAX, &[0; 32]), 0x8a91_36aa);
    // The usual check value of the polynomial.
    assert_eq!(!crate::gossip::crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    let update = update();
    let mut newer = update.clone();
    newer.timestamp += 1;
    newer.signature = Signature::from_compact(&[2; 64]).unwrap();
    assert_eq!(newer.checksum(), update.checksum());
    newer.fee_base_msat += 1;
    assert_ne!(newer.checksum(), update.checksum());
    let bytes = update.to_bytes();
    let covered = [&bytes[64..104], &bytes[108..]].concat();
    assert_eq!(
        update.checksum(),
        !crate::gossip::crc32c(u32::MAX, &covered)
    );
}
