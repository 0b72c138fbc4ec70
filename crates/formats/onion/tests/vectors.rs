//! The official vectors of BOLT 4.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use bitcoin::secp256k1::{PublicKey, Secp256k1};
use common::{Item, items};
use fulmen_onion::{
    blinding::{EncryptedData, blind_route, blinded_private_key, decrypt_recipient_data, unblind},
    sphinx::{self, Hop},
    *,
};
use fulmen_types::{
    BlockHeight, CltvExpiry, Msat, PaymentHash,
    codec::{BigSize, Decode, Encode, Reader},
};
use fulmen_vectors::report;

/// The payload without its length prefix.
fn bare(with_prefix: &[u8]) -> Vec<u8> {
    let mut r = Reader::new(with_prefix);
    let len = BigSize::decode(&mut r).unwrap().0;
    assert_eq!(len, r.remaining().len() as u64);
    r.take_rest().to_vec()
}

fn sphinx_hops(items: &[Item]) -> Vec<Hop> {
    items
        .iter()
        .map(|item| Hop {
            node_id: item.point("pubkey"),
            payload: bare(&item.bytes("payload")),
        })
        .collect()
}

#[test]
fn vectors_of_onion() {
    let secp = Secp256k1::new();
    let all = items(include_str!("../vectors/bolt04-onion.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    assert_eq!(hops.len(), 5);
    let payment_hash = PaymentHash::new(head.array("associated_data"));
    let (packet, secrets) = sphinx::build(
        &secp,
        &head.key("session_key"),
        &sphinx_hops(hops),
        payment_hash.as_bytes(),
        1300,
    )
    .unwrap();
    assert_eq!(packet, head.bytes("onion"));

    let mut packet: PaymentPacket = packet.try_into().unwrap();
    for (i, hop) in hops.iter().enumerate() {
        let htlc = IncomingHtlc::new(&payment_hash);
        let (peeled, secret) =
            peel_payment_with_key(&secp, &packet, &hop.key("privkey"), &htlc).unwrap();
        assert_eq!(secret, secrets[i]);
        match peeled {
            Peeled::Forward {
                payload,
                next_packet,
            } => {
                assert!(i < 4);
                assert_eq!(payload.short_channel_id.to_u64(), i as u64 + 1);
                let amounts = [15_000, 14_000, 12_500, 10_000];
                assert_eq!(payload.amt_to_forward.to_msat(), amounts[i]);
                packet = next_packet;
            }
            Peeled::Receive(payload) => {
                assert_eq!(i, 4);
                assert_eq!(payload.amt_to_forward, Msat::new(10_000));
                assert_eq!(payload.outgoing_cltv_value, CltvExpiry::new(1_000));
                assert_eq!(payload.total_msat(), Msat::new(10_000));
                assert_eq!(
                    payload.payment_data.unwrap().payment_secret.as_bytes()[..4],
                    [0x24, 0xa3, 0x35, 0x62]
                );
            }
            Peeled::BlindedForward { .. } | Peeled::BlindedReceive(_) | Peeled::Trampoline(_) => {
                panic!("hop {i}")
            }
        }
    }
    report(4, "onion-test", 1);
}

#[test]
fn vectors_of_onion_error() {
    let secp = Secp256k1::new();
    let all = items(include_str!("../vectors/bolt04-onion-error.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    let nodes: Vec<PublicKey> = hops.iter().map(|hop| hop.point("pubkey")).collect();
    let secrets = sphinx::shared_secrets(&secp, &head.key("session_key"), &nodes).unwrap();
    for (hop, secret) in hops.iter().zip(&secrets) {
        assert_eq!(hop.secret("hop_shared_secret"), *secret);
    }
    let message = FailureMessage::from_bytes(&head.bytes("failure_message")).unwrap();
    assert_eq!(message, FailureMessage::TemporaryNodeFailure);
    let mut packet = ReturnPacket::build(&secrets[4], &message, None);
    for secret in secrets[..4].iter().rev() {
        packet.wrap(secret, None);
    }
    assert_eq!(packet.reason, head.bytes("errorpacket"));
    let read = packet.decrypt(&secrets);
    assert_eq!(read.hold_times, []);
    assert_eq!(read.unattributed, None);
    assert_eq!(
        read.source,
        FailureSource::Hop {
            hop: 4,
            message,
            raw: head.bytes("failure_message")
        }
    );
    report(4, "onion-error-test", 1);
}

#[test]
fn vectors_of_attribution() {
    let all = items(include_str!("../vectors/bolt04-attribution.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    assert_eq!(hops.len(), 5);
    let secrets: Vec<SharedSecret> = hops.iter().map(|hop| hop.secret("shared_secret")).collect();
    let hold_times: Vec<HoldTime> = hops
        .iter()
        .map(|hop| HoldTime::new(hop.text("hold_time").parse().unwrap()))
        .collect();

    let mut packet = ReturnPacket::build_raw(
        &secrets[4],
        &head.bytes("failure_message"),
        head.text("padded_len").parse().unwrap(),
        Some(hold_times[4]),
    );
    let mut success = SuccessPacket::build(&secrets[4], None, Some(hold_times[4]));
    for i in (0..5).rev() {
        if i < 4 {
            packet.wrap(&secrets[i], Some(hold_times[i]));
            success.wrap(&secrets[i], Some(hold_times[i]));
        }
        assert_eq!(packet.reason, hops[i].bytes("error_packet"), "hop {i}");
        assert_eq!(
            packet.attribution_data.as_ref().unwrap().as_bytes()[..],
            hops[i].bytes("attribution_data"),
            "hop {i}"
        );
        assert_eq!(
            success.attribution_data.as_ref().unwrap().as_bytes()[..],
            hops[i].bytes("success_attribution_data"),
            "hop {i}"
        );
    }

    let read = packet.decrypt(&secrets);
    assert_eq!(read.hold_times, hold_times);
    assert_eq!(read.unattributed, None);
    let FailureSource::Hop { hop, message, raw } = read.source else {
        panic!("unreadable")
    };
    assert_eq!(hop, 4);
    assert_eq!(
        message,
        FailureMessage::IncorrectOrUnknownPaymentDetails {
            htlc_msat: Msat::new(100),
            height: BlockHeight::new(800_000)
        }
    );
    assert_eq!(raw, head.bytes("failure_message"));
    let read = success.decrypt(&secrets);
    assert_eq!(read.hold_times, hold_times);
    assert_eq!(read.payload, FulfillmentData::None);
    report(4, "returning errors, attribution data", 1);
    report(4, "returning success, attribution data", 1);
}

#[test]
fn vectors_of_route_blinding() {
    let secp = Secp256k1::new();
    let hops = items(include_str!("../vectors/bolt04-route-blinding.txt"));
    assert_eq!(hops.len(), 4);
    for route in hops.chunk_by(|_, next| next.get("session_key").is_none()) {
        let clear: Vec<_> = route
            .iter()
            .map(|hop| (hop.point("node_id"), hop.bytes("encoded_tlvs")))
            .collect();
        let blinded = blind_route(&secp, &route[0].key("session_key"), &clear).unwrap();
        assert_eq!(blinded.first_path_key, route[0].point("path_key"));
        for (got, hop) in blinded.path.iter().zip(route) {
            assert_eq!(got.blinded_node_id, hop.point("blinded_node_id"));
            assert_eq!(got.encrypted_recipient_data, hop.bytes("encrypted_data"));
        }
        let bytes = blinded.to_bytes();
        assert_eq!(blinding::BlindedRoute::from_bytes(&bytes), Ok(blinded));
    }

    let mut path_key = hops[0].point("path_key");
    for hop in &hops {
        assert_eq!(path_key, hop.point("path_key"));
        let node_key = hop.key("node_privkey");
        let secret = SharedSecret::ecdh(&path_key, &node_key);
        assert_eq!(secret, hop.secret("shared_secret"));
        assert_eq!(
            blinded_private_key(&node_key, &secret).unwrap(),
            hop.key("blinded_privkey")
        );
        let encrypted = hop.bytes("encrypted_data");
        assert_eq!(
            decrypt_recipient_data(&secret, &encrypted).unwrap(),
            hop.bytes("encoded_tlvs")
        );
        let unblinded = unblind(&secp, &path_key, &secret, &encrypted).unwrap();
        check_data(&unblinded.data, hop);
        path_key = unblinded.next_path_key;
        if hop.get("next_path_key_override").is_none() {
            assert_eq!(path_key, hop.point("derived_next_path_key"));
        } else {
            assert_eq!(path_key, hop.point("next_path_key_override"));
        }
        let garbled: Vec<u8> = encrypted.iter().map(|byte| byte ^ 1).collect();
        assert!(unblind(&secp, &path_key, &secret, &garbled).is_err());
    }
    report(4, "route-blinding-test", 1);
}

fn check_data(data: &EncryptedData, hop: &Item) {
    assert_eq!(
        data.short_channel_id
            .map(|scid| scid.to_string())
            .as_deref(),
        hop.get("short_channel_id")
    );
    assert_eq!(
        data.path_id.clone(),
        hop.get("path_id").map(|_| hop.bytes("path_id"))
    );
    assert_eq!(
        data.payment_relay.map(|relay| vec![
            u64::from(relay.cltv_expiry_delta.to_u16()),
            relay.fee_proportional_millionths.into(),
            relay.fee_base_msat.into()
        ]),
        hop.numbers("payment_relay")
    );
    assert_eq!(
        data.payment_constraints.map(|c| vec![
            u64::from(c.max_cltv_expiry.to_u32()),
            c.htlc_minimum_msat.to_msat()
        ]),
        hop.numbers("payment_constraints")
    );
}

#[test]
fn vectors_of_blinded_payment() {
    let secp = Secp256k1::new();
    let all = items(include_str!("../vectors/bolt04-blinded-payment-onion.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    assert_eq!(hops.len(), 5);
    let payment_hash = PaymentHash::new(head.array("associated_data"));
    let (packet, _) = sphinx::build(
        &secp,
        &head.key("session_key"),
        &sphinx_hops(hops),
        payment_hash.as_bytes(),
        1300,
    )
    .unwrap();
    assert_eq!(packet, head.bytes("onion"));

    // The HTLC as it comes to each node; Alice is told the amount for Bob.
    let (mut amount, mut cltv) = (Msat::new(110_125), CltvExpiry::new(749_150));
    let mut path_key = None;
    let mut packet: PaymentPacket = packet.try_into().unwrap();
    for (i, hop) in hops.iter().enumerate() {
        assert_eq!(packet[..], hop.bytes("onion"), "hop {i}");
        let htlc = IncomingHtlc {
            path_key: path_key.as_ref(),
            ..IncomingHtlc::new(&payment_hash)
        };
        let node_key = hop.key("privkey");
        let (peeled, _) = peel_payment_with_key(&secp, &packet, &node_key, &htlc).unwrap();
        match peeled {
            Peeled::Forward {
                payload,
                next_packet,
            } => {
                assert_eq!(i, 0);
                assert_eq!(payload.short_channel_id.to_string(), "0x0x10");
                assert_eq!(
                    (payload.amt_to_forward, payload.outgoing_cltv_value),
                    (amount, cltv)
                );
                packet = next_packet;
            }
            Peeled::BlindedForward {
                payload,
                next_packet,
            } => {
                assert_eq!(payload.current_path_key.is_some(), i == 1);
                let key = path_key.or(payload.current_path_key).unwrap();
                let blinding = SharedSecret::ecdh(&key, &node_key);
                let unblinded =
                    unblind(&secp, &key, &blinding, &payload.encrypted_recipient_data).unwrap();
                let forward = unblinded.data.forward(amount, cltv).unwrap();
                (amount, cltv) = (forward.amt_to_forward, forward.outgoing_cltv_value);
                assert_eq!(unblinded.next_path_key, hop.point("next_path_key"));
                path_key = Some(unblinded.next_path_key);
                packet = next_packet;
            }
            Peeled::BlindedReceive(payload) => {
                assert_eq!(i, 4);
                assert_eq!(
                    (payload.amt_to_forward, amount),
                    (Msat::new(100_000), Msat::new(100_000))
                );
                assert_eq!(payload.outgoing_cltv_value, CltvExpiry::new(749_000));
                assert_eq!(cltv, CltvExpiry::new(749_000));
                assert_eq!(payload.total_amount_msat, Msat::new(150_000));
                let key = path_key.unwrap();
                let blinding = SharedSecret::ecdh(&key, &node_key);
                let unblinded =
                    unblind(&secp, &key, &blinding, &payload.encrypted_recipient_data).unwrap();
                unblinded.data.check_constraints(amount, cltv).unwrap();
                assert_eq!(unblinded.data.path_id.unwrap()[..2], [0xc9, 0xcf]);
                assert_eq!(unblinded.next_path_key, hop.point("next_path_key"));
            }
            Peeled::Receive(_) | Peeled::Trampoline(_) => panic!("hop {i}"),
        }
    }
    report(4, "blinded-payment-onion-test", 1);
}

#[test]
fn vectors_of_blinded_onion_message() {
    let secp = Secp256k1::new();
    let all = items(include_str!("../vectors/bolt04-blinded-onion-message.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    assert_eq!(hops.len(), 4);
    let encrypted = |hop: &Item| {
        let mut out = vec![];
        fulmen_types::codec::TlvWriter::new(&mut out)
            .put(4, &hop.bytes("encrypted_recipient_data"));
        out
    };
    let path: Vec<Hop> = hops
        .iter()
        .enumerate()
        .map(|(i, hop)| Hop {
            node_id: hop.point("blinded_node_id"),
            payload: if i == 3 {
                let mut payload = vec![];
                fulmen_types::codec::TlvWriter::new(&mut payload)
                    .put(1, &head.bytes("final_unknown_tlv_1"));
                payload.extend(encrypted(hop));
                payload
            } else {
                encrypted(hop)
            },
        })
        .collect();
    let (packet, _) = sphinx::build(&secp, &head.key("session_key"), &path, &[], 1300).unwrap();
    assert_eq!(packet, head.bytes("onion"));

    let mut packet = packet;
    let mut path_key = hops[0].point("path_key");
    for (i, hop) in hops.iter().enumerate() {
        assert_eq!(path_key, hop.point("path_key"));
        let mut message = 513u16.to_bytes();
        message.extend(path_key.serialize());
        message.extend((packet.len() as u16).to_be_bytes());
        message.extend(&packet);
        assert_eq!(message, hop.bytes("onion_message"), "hop {i}");

        let node_key = hop.key("privkey");
        let blinding = SharedSecret::ecdh(&path_key, &node_key);
        assert_eq!(blinding, hop.secret("ss"));
        let point = sphinx::ecdh_point(&secp, &packet, Some(&blinding)).unwrap();
        let layer =
            sphinx::peel(&secp, &packet, &SharedSecret::ecdh(&point, &node_key), &[]).unwrap();
        assert_eq!(layer.payload, path[i].payload);
        let data = hop.bytes("encrypted_recipient_data");
        let unblinded = unblind(&secp, &path_key, &blinding, &data).unwrap();
        assert_eq!(
            unblinded.data.next_node_id,
            hop.get("next_node_id").map(|_| hop.point("next_node_id"))
        );
        path_key = unblinded.next_path_key;
        match layer.next {
            Some(next) => packet = next,
            None => assert_eq!(i, 3),
        }
    }
    report(4, "blinded-onion-message-onion-test", 1);
}

#[test]
fn vectors_of_fulfillment_payload() {
    let all = items(include_str!("../vectors/bolt04-fulfillment-payload.txt"));
    let (head, hops) = (&all[0], &all[1..]);
    assert_eq!(hops.len(), 5);
    let secrets: Vec<SharedSecret> = hops.iter().map(|hop| hop.secret("shared_secret")).collect();
    let hold_time = |hop: &Item| HoldTime::new(hop.text("hold_time").parse().unwrap());
    let clear = head.bytes("fulfillment_payload_tlvs");
    let payload = FulfillmentPayload::from_bytes(&clear).unwrap();
    assert_eq!(payload.custom_tlvs[0].value, [7, 8, 9]);
    assert_eq!(payload.to_bytes(), clear, "padded alike");

    let mut packet = SuccessPacket::build(&secrets[4], Some(&clear), Some(hold_time(&hops[4])));
    for (i, hop) in hops.iter().enumerate().rev() {
        if i < 4 {
            packet.wrap(&secrets[i], Some(hold_time(hop)));
        }
        let sent = packet.fulfillment_payload.as_ref().unwrap();
        assert_eq!(*sent, hop.bytes("fulfillment_payload"), "hop {i}");
        assert_eq!(
            packet.attribution_data.as_ref().unwrap().as_bytes()[..],
            hop.bytes("attribution_data"),
            "hop {i}"
        );
    }
    let read = packet.clone().decrypt(&secrets);
    let hold_times: Vec<HoldTime> = hops.iter().map(hold_time).collect();
    assert_eq!((read.hold_times, read.unattributed), (hold_times, None));
    assert_eq!(read.payload, FulfillmentData::Payload(clear));

    // Who changes it is one of two neighbours.
    packet.fulfillment_payload.as_mut().unwrap()[0] ^= 1;
    let read = packet.decrypt(&secrets);
    assert_eq!((read.hold_times, read.unattributed), (vec![], Some(0)));
    assert_eq!(read.payload, FulfillmentData::Garbled);
    report(4, "returning success, fulfillment_payload", 1);
}
