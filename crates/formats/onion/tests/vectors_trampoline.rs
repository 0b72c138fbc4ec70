//! The vectors of trampoline routing, a draft of BOLT 4.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use bitcoin::secp256k1::{PublicKey, Secp256k1};
use common::{Item, items};
use fulmen_onion::{
    blinding::{blind_route, unblind},
    sphinx::{self, Hop},
    trampoline::{AroundTrampoline, PeeledTrampoline, TrampolinePayload},
    *,
};
use fulmen_types::{
    PaymentHash,
    codec::{BigSize, Decode, Reader},
};
use fulmen_vectors::report;

/// The payload without its length prefix.
fn bare(with_prefix: &[u8]) -> Vec<u8> {
    let mut r = Reader::new(with_prefix);
    let len = BigSize::decode(&mut r).unwrap().0;
    assert_eq!(len, r.remaining().len() as u64);
    r.take_rest().to_vec()
}

/// The values of `name0`, `name1` and so on.
fn numbered<T>(item: &Item, name: &str, value: impl Fn(&str) -> T) -> Vec<T> {
    (0..)
        .map(|i| format!("{name}{i}"))
        .take_while(|name| item.get(name).is_some())
        .map(|name| value(&name))
        .collect()
}

fn hops(item: &Item) -> Vec<Hop> {
    let nodes = numbered(item, "node", |name| item.point(name));
    let payloads = numbered(item, "payload", |name| bare(&item.bytes(name)));
    assert_eq!(nodes.len(), payloads.len());
    nodes
        .into_iter()
        .zip(payloads)
        .map(|(node_id, payload)| Hop { node_id, payload })
        .collect()
}

fn build(item: &Item) {
    let expected = item.bytes("onion");
    let (packet, _) = sphinx::build(
        &Secp256k1::new(),
        &item.key("session_key"),
        &hops(item),
        &item.bytes("associated_data"),
        expected.len() - sphinx::OVERHEAD,
    )
    .unwrap();
    assert_eq!(packet, expected);
}

fn blind(item: &Item) {
    let nodes: Vec<PublicKey> = numbered(item, "node", |name| item.point(name));
    let tlvs = numbered(item, "tlvs", |name| item.bytes(name));
    // One test does not say the key that its path was made with.
    let Some(_) = item.get("session_key") else {
        return;
    };
    let clear: Vec<_> = nodes.into_iter().zip(tlvs).collect();
    let route = blind_route(&Secp256k1::new(), &item.key("session_key"), &clear).unwrap();
    assert_eq!(route.first_path_key, item.point("path_key"));
    for (i, hop) in route.path.iter().enumerate() {
        assert_eq!(hop.blinded_node_id, item.point(&format!("blinded_node{i}")));
        assert_eq!(
            hop.encrypted_recipient_data,
            item.bytes(&format!("encrypted{i}"))
        );
    }
}

/// Peels a payment's onion and the trampoline onion in it, and holds every payload against `known`: those
/// that were built, which must encode to the same bytes again.
fn peel(item: &Item, known: &BTreeSet<Vec<u8>>) {
    let secp = Secp256k1::new();
    let payment_hash = PaymentHash::new(item.array("associated_data"));
    let path_key = item.get("path_key").map(|_| item.point("path_key"));
    let node_key = item.key("node_privkey");
    let packet: PaymentPacket = item.array("onion");
    let htlc = IncomingHtlc {
        path_key: path_key.as_ref(),
        is_trampoline_node: true,
        ..IncomingHtlc::new(&payment_hash)
    };
    let (peeled, _) = peel_payment_with_key(&secp, &packet, &node_key, &htlc).unwrap();
    let is_known = |payload: Vec<u8>| assert!(known.contains(&payload), "{payload:02x?}");
    match peeled {
        Peeled::Forward {
            payload,
            next_packet,
        } => {
            is_known(HopPayload::Forward(payload).encode().unwrap());
            assert_eq!(next_packet[..], item.bytes("next_onion"));
        }
        Peeled::BlindedForward {
            payload,
            next_packet,
        } => {
            is_known(HopPayload::BlindedForward(payload).encode().unwrap());
            assert_eq!(next_packet[..], item.bytes("next_onion"));
        }
        Peeled::BlindedReceive(payload) => {
            let path_key = path_key.unwrap();
            let blinding = SharedSecret::ecdh(&path_key, &node_key);
            let data = &payload.encrypted_recipient_data;
            let unblinded = unblind(&secp, &path_key, &blinding, data).unwrap();
            if item.get("path_id").is_some() {
                assert_eq!(unblinded.data.path_id.unwrap(), item.bytes("path_id"));
            }
            is_known(HopPayload::BlindedReceive(payload).encode().unwrap());
        }
        Peeled::Trampoline(entry) => {
            peel_trampoline(item, &entry, &payment_hash, known);
            is_known(HopPayload::Trampoline(entry).encode().unwrap());
        }
        Peeled::Receive(_) => panic!("nobody is paid by such an onion"),
    }
    // A node that is no trampoline must not take the field for anything.
    let plain = IncomingHtlc {
        is_trampoline_node: false,
        ..htlc
    };
    if item.get("next_trampoline_onion").is_some() {
        let error = peel_payment_with_key(&secp, &packet, &node_key, &plain).unwrap_err();
        assert!(matches!(error, PeelError::Payload { error, .. } if error.kind == 20));
    }
}

fn peel_trampoline(
    item: &Item,
    entry: &TrampolineEntryPayload,
    payment_hash: &PaymentHash,
    known: &BTreeSet<Vec<u8>>,
) {
    let around = AroundTrampoline {
        payment_hash,
        path_key: entry.current_path_key.as_ref(),
        even_custom_tlvs: &[],
    };
    let node_key = item.key("node_privkey");
    let packet = &entry.trampoline_onion_packet;
    let peeled = trampoline::peel_with_key(&Secp256k1::new(), packet, &node_key, &around);
    let (payload, next) = match peeled.unwrap().0 {
        PeeledTrampoline::Forward {
            payload,
            next_packet,
        } => (TrampolinePayload::Forward(payload), Some(next_packet)),
        PeeledTrampoline::BlindedForward {
            payload,
            next_packet,
        } => (
            TrampolinePayload::BlindedForward(payload),
            Some(next_packet),
        ),
        PeeledTrampoline::ToBlindedPaths(payload) => {
            assert_eq!(payload.recipient_blinded_paths.len(), 1);
            assert_eq!(
                payload.recipient_features.as_ref().unwrap().to_be_bytes(),
                [2, 0, 0]
            );
            (TrampolinePayload::ToBlindedPaths(payload), None)
        }
        PeeledTrampoline::Receive(payload) => (TrampolinePayload::Receive(payload), None),
        PeeledTrampoline::BlindedReceive(payload) => {
            (TrampolinePayload::BlindedReceive(payload), None)
        }
    };
    assert!(known.contains(&payload.encode().unwrap()), "{payload:?}");
    if item.get("next_trampoline_onion").is_some() {
        assert_eq!(next.unwrap(), item.bytes("next_trampoline_onion"));
    }
}

/// A failure on its way back: what each node sends must be what it sends in the vector.
fn failure_step(item: &Item, packet: &mut Option<ReturnPacket>) {
    match item.text("do") {
        "fail" => {
            let message = FailureMessage::from_bytes(&item.bytes("failure")).unwrap();
            let mut failure =
                ReturnPacket::build(&item.secret("trampoline_secret"), &message, None);
            failure.wrap(&item.secret("secret"), None);
            *packet = Some(failure);
        }
        "relay" => packet.as_mut().unwrap().wrap(&item.secret("secret"), None),
        "relay_trampoline" => {
            let failure = packet.as_mut().unwrap();
            let downstream = numbered(item, "downstream_secret", |name| item.secret(name));
            // It is not from a node of the trampoline's own route.
            let read = failure.clone().decrypt(&downstream);
            assert_eq!(read.source, FailureSource::Unknown);
            failure.strip_layers(&downstream);
            assert_eq!(failure.reason, item.bytes("unwrapped"));
            failure.wrap(&item.secret("trampoline_secret"), None);
            failure.wrap(&item.secret("secret"), None);
        }
        "decrypt" => {
            let secrets = numbered(item, "secret", |name| item.secret(name));
            let read = packet.take().unwrap().decrypt(&secrets);
            let raw = item.bytes("failure");
            assert_eq!(
                read.source,
                FailureSource::Hop {
                    hop: item.text("source").parse().unwrap(),
                    message: FailureMessage::from_bytes(&raw).unwrap(),
                    raw,
                }
            );
            return;
        }
        other => panic!("{other}"),
    }
    let sent = &packet.as_ref().unwrap().reason;
    assert_eq!(*sent, item.bytes("failure_packet"), "{}", item.text("do"));
}

#[test]
fn vectors_of_trampoline() {
    let all = items(include_str!("../vectors/bolt04-trampoline.txt"));
    let mut tests: BTreeSet<&str> = BTreeSet::new();
    for steps in all.chunk_by(|a, b| a.get("test") == b.get("test")) {
        tests.insert(steps[0].text("test"));
        let known: BTreeSet<Vec<u8>> = steps
            .iter()
            .filter(|item| item.text("do") == "build")
            .flat_map(hops)
            .map(|hop| hop.payload)
            .collect();
        let mut failure = None;
        for item in steps {
            match item.text("do") {
                "build" => build(item),
                "blind" => blind(item),
                "peel" => peel(item, &known),
                "malformed" => {
                    let code = item.text("failure_code").parse().unwrap();
                    let hash = item.array("sha256_of_onion");
                    let message = FailureMessage::from_malformed(code, hash);
                    assert_eq!(message.name(), "invalid_onion_blinding");
                }
                _ => failure_step(item, &mut failure),
            }
        }
        assert_eq!(failure, None, "decrypted in the end");
    }
    for name in [
        "trampoline-payment-onion-test",
        "trampoline-to-blinded-path-payment-onion-test",
        "trampoline-onion-error-test",
    ] {
        report(
            4,
            name,
            tests.iter().filter(|t| t.starts_with(name)).count(),
        );
    }
}
