//! The vectors of BOLT 8, and what must hold for any split of the bytes.

extern crate std;

use alloc::{string::String, vec, vec::Vec};

use bitcoin::{
    hex::FromHex,
    secp256k1::{PublicKey, SecretKey},
};
use fulmen_vectors::report;
use proptest::prelude::*;

use crate::{
    Act, Decryptor, Ecdh, EcdhUnavailable, Handshake, HandshakeError, LocalKey, MAX_MESSAGE_LEN,
    MAX_PACKET_LEN, Progress, Transport, TransportError,
};

const VECTORS: &str = include_str!("../vectors/bolt08.txt");

/// The chaining key that the official handshake ends with, from the message test of the appendix.
const CHAINING_KEY: &str = "919219dbb2920afa8db80f9a51787a840bcf111ed8d588caf9ab4be716e42b01";

fn hex(s: &str) -> Vec<u8> {
    Vec::from_hex(s).unwrap()
}

fn key32(s: &str) -> [u8; 32] {
    <[u8; 32]>::from_hex(s).unwrap()
}

fn secret(s: &str) -> SecretKey {
    SecretKey::from_slice(&hex(s)).unwrap()
}

fn error_name(error: HandshakeError) -> String {
    let number = |act| match act {
        Act::One => 1,
        Act::Two => 2,
        Act::Three => 3,
    };
    match error {
        HandshakeError::BadVersion { act, .. } => {
            std::format!("ACT{}_BAD_VERSION", number(act))
        }
        HandshakeError::BadPublicKey { act } => std::format!("ACT{}_BAD_PUBKEY", number(act)),
        HandshakeError::BadTag { act } => std::format!("ACT{}_BAD_TAG", number(act)),
        HandshakeError::BadCiphertext => "ACT3_BAD_CIPHERTEXT".into(),
        other => panic!("{other}"),
    }
}

/// Feeds `bytes` in pieces of `step`.
fn feed<K: Ecdh>(
    handshake: &mut Handshake<K>,
    bytes: &[u8],
    step: usize,
) -> Result<Progress, HandshakeError> {
    let mut last = Progress::NeedMore;
    for mut piece in bytes.chunks(step) {
        assert!(
            matches!(last, Progress::NeedMore),
            "an act ended before its bytes"
        );
        last = handshake.receive(&mut piece)?;
        assert!(piece.is_empty());
    }
    Ok(last)
}

struct Block<'a> {
    name: &'a str,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Block<'a> {
    fn value(&self, key: &str) -> Option<&'a str> {
        self.lines.iter().find(|l| l.0 == key).map(|l| l.1)
    }
}

fn blocks() -> Vec<Block<'static>> {
    let mut blocks: Vec<Block<'static>> = Vec::new();
    for line in VECTORS
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let (key, value) = line.split_once(' ').unwrap();
        if key == "test" {
            blocks.push(Block {
                name: value,
                lines: Vec::new(),
            });
        } else {
            blocks.last_mut().unwrap().lines.push((key, value));
        }
    }
    blocks
}

fn run_handshake(block: &Block<'_>, step: usize) {
    let local = LocalKey::new(secret(block.value("ls.priv").unwrap()));
    let ephemeral = secret(block.value("e.priv").unwrap());
    let mut said = Vec::new();
    let mut handshake = match block.value("rs.pub") {
        Some(remote) => {
            let remote = PublicKey::from_slice(&hex(remote)).unwrap();
            let (handshake, act) = Handshake::initiator(local, ephemeral, remote).unwrap();
            said.push(act);
            handshake
        }
        None => Handshake::responder(local, ephemeral),
    };
    let mut outcome = None;
    for (key, value) in &block.lines {
        match *key {
            "in" => match feed(&mut handshake, &hex(value), step) {
                Ok(Progress::NeedMore) => outcome = Some(Err("READ_FAILED".into())),
                Ok(Progress::Send(act)) => said.push(act),
                Ok(Progress::Done(session)) => {
                    if !session.send.is_empty() {
                        said.push(session.send.clone());
                    }
                    outcome = Some(Ok(session));
                }
                Err(error) => {
                    outcome = Some(Err(error_name(error)));
                    assert_eq!(
                        handshake.receive(&mut &[0u8; 66][..]).unwrap_err(),
                        HandshakeError::Finished,
                    );
                }
            },
            "out" => assert_eq!(said.remove(0), hex(value), "{}", block.name),
            "error" => {
                let error = outcome.take().unwrap().unwrap_err();
                // A short read is no error here: the handshake waits for the rest.
                assert!(value.ends_with(error.as_str()), "{}: {error}", block.name);
            }
            "keys" => {
                let session = outcome.take().unwrap().unwrap();
                let (sending, receiving) = value.split_once(' ').unwrap();
                let mut expected =
                    Transport::new(key32(sending), key32(receiving), key32(CHAINING_KEY));
                let mut other =
                    Transport::new(key32(receiving), key32(sending), key32(CHAINING_KEY));
                let mut transport = session.transport;
                let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
                transport.encrypt(b"hello", &mut a).unwrap();
                expected.encrypt(b"hello", &mut b).unwrap();
                assert_eq!(a, b, "{}", block.name);
                other.encrypt(b"world", &mut c).unwrap();
                assert_eq!(
                    transport.decrypt(&mut &c[..]).unwrap().unwrap(),
                    b"world",
                    "{}",
                    block.name
                );
            }
            _ => {}
        }
    }
    assert!(said.is_empty(), "{}: said too much", block.name);
    assert!(outcome.is_none(), "{}: outcome not looked at", block.name);
}

#[test]
fn vectors_of_bolt_8() {
    let (mut initiator, mut responder, mut transport, mut frames) = (0, 0, 0, 0);
    for block in blocks() {
        if block.name.contains("message") {
            transport += 1;
            let key = |k| key32(block.value(k).unwrap());
            let mut alice = Transport::new(key("sk"), key("rk"), key("ck"));
            let mut bob = Transport::new(key("rk"), key("sk"), key("ck"));
            let expected: Vec<(usize, Vec<u8>)> = block
                .lines
                .iter()
                .filter(|l| l.0 == "frame")
                .map(|l| l.1.split_once(' ').unwrap())
                .map(|(n, bytes)| (n.parse().unwrap(), hex(bytes)))
                .collect();
            for n in 0..=1001 {
                let mut packet = Vec::new();
                alice.encrypt(b"hello", &mut packet).unwrap();
                if let Some((_, bytes)) = expected.iter().find(|e| e.0 == n) {
                    assert_eq!(packet, *bytes, "message {n}");
                    frames += 1;
                }
                assert_eq!(bob.decrypt(&mut &packet[..]).unwrap().unwrap(), b"hello");
            }
        } else {
            if block.name.contains("initiator") {
                initiator += 1;
            } else {
                responder += 1;
            }
            for step in [1, 7, 66] {
                run_handshake(&block, step);
            }
        }
    }
    assert_eq!(transport, 1);
    report(8, "Appendix A, initiator", initiator);
    report(8, "Appendix A, responder", responder);
    report(8, "Appendix A, messages", frames);
}

fn pair() -> (Transport, Transport) {
    let key = |byte| LocalKey::new(SecretKey::from_slice(&[byte; 32]).unwrap());
    let (alice, bob) = (key(1), key(2));
    let (alice_id, bob_id) = (alice.public_key(), bob.public_key());
    let (mut initiator, one) =
        Handshake::initiator(alice, SecretKey::from_slice(&[3; 32]).unwrap(), bob_id).unwrap();
    let mut responder = Handshake::responder(bob, SecretKey::from_slice(&[4; 32]).unwrap());
    let Progress::Send(two) = responder.receive(&mut &one[..]).unwrap() else {
        panic!("no act two");
    };
    let Progress::Done(alice) = initiator.receive(&mut &two[..]).unwrap() else {
        panic!("no act three");
    };
    // Bytes behind the last act belong to the transport and are left alone.
    let mut behind = alice.send.clone();
    behind.extend_from_slice(b"behind");
    let mut input = &behind[..];
    let Progress::Done(bob) = responder.receive(&mut input).unwrap() else {
        panic!("not done");
    };
    assert_eq!(input, b"behind");
    assert_eq!((alice.remote, bob.remote), (bob_id, alice_id));
    assert_eq!(
        initiator.receive(&mut &[1u8][..]).unwrap_err(),
        HandshakeError::Finished
    );
    (alice.transport, bob.transport)
}

#[test]
fn message_sizes() {
    let (mut alice, mut bob) = pair();
    for len in [0, 1, 65534, MAX_MESSAGE_LEN] {
        let message = vec![7; len];
        let mut packet = Vec::new();
        alice.encrypt(&message, &mut packet).unwrap();
        assert_eq!(packet.len(), len + MAX_PACKET_LEN - MAX_MESSAGE_LEN);
        assert_eq!(bob.decrypt(&mut &packet[..]).unwrap().unwrap(), message);
    }
    let mut packet = vec![9];
    let long = vec![0; MAX_MESSAGE_LEN + 1];
    assert_eq!(
        alice.encrypt(&long, &mut packet),
        Err(TransportError::TooLong(65536))
    );
    assert_eq!(packet, [9], "nothing is written of a message too long");
    alice.encrypt(b"goes on", &mut packet).unwrap();
    assert_eq!(bob.decrypt(&mut &packet[1..]).unwrap().unwrap(), b"goes on");
}

#[test]
fn the_buffer_holds_one_packet_at_most() {
    let (mut alice, bob) = pair();
    let (_, mut bob) = bob.split();
    let mut stream = Vec::new();
    for _ in 0..3 {
        alice
            .encrypt(&vec![1; MAX_MESSAGE_LEN], &mut stream)
            .unwrap();
    }
    let mut input = &stream[..];
    assert!(bob.decrypt(&mut input).unwrap().is_some());
    assert_eq!(
        input.len(),
        2 * MAX_PACKET_LEN,
        "only the first packet was taken"
    );
}

/// A signer that is away.
struct Away(PublicKey);

impl Ecdh for Away {
    fn public_key(&self) -> PublicKey {
        self.0
    }

    fn ecdh(&self, _: &PublicKey) -> Result<[u8; 32], EcdhUnavailable> {
        Err(EcdhUnavailable)
    }
}

#[test]
fn a_key_that_does_not_answer_ends_the_handshake() {
    let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
    let bob = LocalKey::new(key(2)).public_key();
    let (_, act) = Handshake::initiator(LocalKey::new(key(1)), key(3), bob).unwrap();
    let away: &dyn Ecdh = &Away(bob);
    let mut responder = Handshake::responder(away, key(4));
    assert_eq!(
        responder.receive(&mut &act[..]).unwrap_err(),
        HandshakeError::Ecdh(EcdhUnavailable)
    );
}

#[test]
fn a_peer_who_expects_another_node_is_refused() {
    let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
    let carol = LocalKey::new(key(5)).public_key();
    let (_, act) = Handshake::initiator(LocalKey::new(key(1)), key(3), carol).unwrap();
    let mut bob = Handshake::responder(LocalKey::new(key(2)), key(4));
    assert_eq!(
        bob.receive(&mut &act[..]).unwrap_err(),
        HandshakeError::BadTag { act: Act::One }
    );
}

fn decrypt_all(
    decryptor: &mut Decryptor,
    mut input: &[u8],
) -> Result<Vec<Vec<u8>>, TransportError> {
    let mut messages = Vec::new();
    while let Some(message) = decryptor.decrypt(&mut input)? {
        messages.push(message);
    }
    assert!(input.is_empty());
    Ok(messages)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_split_gives_the_same_messages(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        cuts in prop::collection::vec(1usize..90, 1..60),
    ) {
        let (alice, bob) = pair();
        let (mut alice, _) = alice.split();
        let (_, mut bob) = bob.split();
        let mut stream = Vec::new();
        for message in &messages {
            alice.encrypt(message, &mut stream).unwrap();
        }
        let mut received = Vec::new();
        let mut rest = &stream[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            received.extend(decrypt_all(&mut bob, piece).unwrap());
            rest = behind;
        }
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn a_changed_bit_ends_the_connection(
        message in prop::collection::vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (mut alice, bob) = pair();
        let (_, mut bob) = bob.split();
        let mut packet = Vec::new();
        alice.encrypt(&message, &mut packet).unwrap();
        let good = packet.clone();
        let index = at.index(packet.len());
        packet[index] ^= 1u8 << bit;
        prop_assert_eq!(decrypt_all(&mut bob, &packet), Err(TransportError::BadTag));
        // Nothing is read any more, not even the packet as it was.
        prop_assert_eq!(decrypt_all(&mut bob, &good), Err(TransportError::BadTag));
        prop_assert_eq!(decrypt_all(&mut bob, &good[good.len() - 16 - message.len()..]), Err(TransportError::BadTag));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..80) {
        let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
        let mut responder = Handshake::responder(LocalKey::new(key(2)), key(4));
        for mut piece in bytes.chunks(step) {
            prop_assert!(!matches!(responder.receive(&mut piece), Ok(Progress::Done(_))));
        }
    }
}
