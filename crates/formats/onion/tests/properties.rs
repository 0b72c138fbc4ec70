//! Properties over generated paths, payloads and bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_onion::{
    blinding::{BlindedRoute, EncryptedData, PaymentConstraints, PaymentRelay},
    sphinx::{self, Hop},
    trampoline::{AroundTrampoline, PeeledTrampoline, TrampolineForward, TrampolinePayload},
    *,
};
use fulmen_types::{
    CltvExpiry, CltvExpiryDelta, Msat, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId,
    codec::{Decode, Encode},
};
use proptest::{collection::vec, option, prelude::*};

fn secret_key() -> impl Strategy<Value = SecretKey> {
    any::<[u8; 32]>().prop_filter_map("no key", |bytes| SecretKey::from_slice(&bytes).ok())
}

fn forward() -> impl Strategy<Value = HopPayload> {
    any::<(u64, u64, u32)>().prop_map(|(scid, amount, cltv)| {
        HopPayload::Forward(ForwardPayload {
            short_channel_id: ShortChannelId::from_u64(scid),
            amt_to_forward: Msat::new(amount),
            outgoing_cltv_value: CltvExpiry::new(cltv),
        })
    })
}

fn receive() -> impl Strategy<Value = HopPayload> {
    (
        any::<(u64, u32)>(),
        option::of(any::<([u8; 32], u64)>()),
        option::of(vec(any::<u8>(), 0..300)),
        option::of(any::<[u8; 32]>()),
        proptest::collection::btree_map(32_768u64..1 << 40, vec(any::<u8>(), 0..40), 0..4),
    )
        .prop_map(
            |((amount, cltv), data, payment_metadata, keysend, custom)| {
                HopPayload::Receive(ReceivePayload {
                    amt_to_forward: Msat::new(amount),
                    outgoing_cltv_value: CltvExpiry::new(cltv),
                    payment_data: data.map(|(secret, total)| PaymentData {
                        payment_secret: PaymentSecret::new(secret),
                        total_msat: Msat::new(total),
                    }),
                    payment_metadata,
                    keysend_preimage: keysend.map(PaymentPreimage::new),
                    custom_tlvs: custom
                        .into_iter()
                        .map(|(kind, value)| CustomTlv {
                            kind: kind * 2 + 1,
                            value,
                        })
                        .collect(),
                })
            },
        )
}

fn path() -> impl Strategy<Value = (Vec<SecretKey>, Vec<HopPayload>)> {
    (0usize..10).prop_flat_map(|forwards| {
        (
            vec(secret_key(), forwards + 1),
            vec(forward(), forwards),
            receive(),
        )
            .prop_map(|(keys, mut payloads, last)| {
                payloads.push(last);
                (keys, payloads)
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_hop_reads_its_payload_and_no_other(
        (keys, payloads) in path(),
        session_key in secret_key(),
        hash in any::<[u8; 32]>(),
    ) {
        let secp = Secp256k1::new();
        let payment_hash = PaymentHash::new(hash);
        let hops: Vec<_> = keys
            .iter()
            .map(|key| PublicKey::from_secret_key(&secp, key))
            .zip(payloads.clone())
            .collect();
        let onion = build_payment_onion(&secp, &session_key, &hops, &payment_hash);
        prop_assert_eq!(onion.is_ok(), check_payloads_fit(&payloads).is_ok());
        let Ok(onion) = onion else { return Ok(()) };
        let again = sphinx::shared_secrets(&secp, &session_key, hops.iter().map(|(node, _)| node));
        prop_assert_eq!(again.as_ref(), Ok(&onion.shared_secrets));
        let htlc = IncomingHtlc::new(&payment_hash);
        let mut packet = onion.packet;
        for (i, (key, payload)) in keys.iter().zip(payloads).enumerate() {
            let (peeled, secret) = peel_payment_with_key(&secp, &packet, key, &htlc).unwrap();
            prop_assert_eq!(&secret, &onion.shared_secrets[i]);
            let got = match peeled {
                Peeled::Forward { payload, next_packet } => {
                    packet = next_packet;
                    HopPayload::Forward(payload)
                }
                Peeled::Receive(payload) => HopPayload::Receive(payload),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(got, payload);
        }
    }

    #[test]
    fn any_size_and_any_payload_lengths(
        lengths in vec(2usize..700, 1..6),
        spare in 0usize..3_000,
        session_key in secret_key(),
        associated_data in vec(any::<u8>(), 0..40),
    ) {
        let secp = Secp256k1::new();
        let keys: Vec<_> = (1..=lengths.len())
            .map(|i| SecretKey::from_slice(&[i as u8; 32]).unwrap())
            .collect();
        let hops: Vec<_> = keys
            .iter()
            .zip(&lengths)
            .map(|(key, len)| Hop {
                node_id: PublicKey::from_secret_key(&secp, key),
                payload: vec![*len as u8; *len],
            })
            .collect();
        let needed: usize = hops.iter().map(|hop| sphinx::shift_size(&hop.payload)).sum();
        let (mut packet, _) =
            sphinx::build(&secp, &session_key, &hops, &associated_data, needed + spare).unwrap();
        for (i, (key, hop)) in keys.iter().zip(&hops).enumerate() {
            let point = sphinx::ecdh_point(&secp, &packet, None).unwrap();
            let secret = SharedSecret::ecdh(&point, key);
            let layer = sphinx::peel(&secp, &packet, &secret, &associated_data).unwrap();
            prop_assert_eq!(&layer.payload, &hop.payload);
            prop_assert_eq!(layer.next.is_none(), i + 1 == hops.len());
            if let Some(next) = layer.next {
                prop_assert_eq!(next.len(), packet.len());
                packet = next;
            }
        }
    }

    #[test]
    fn arbitrary_payloads_never_panic(
        payload in vec(any::<u8>(), 2..200),
        is_final in any::<bool>(),
    ) {
        let secp = Secp256k1::new();
        let node_key = SecretKey::from_slice(&[1; 32]).unwrap();
        let node_id = PublicKey::from_secret_key(&secp, &node_key);
        let mut hops = vec![Hop { node_id, payload }];
        if !is_final {
            hops.push(Hop { node_id, payload: vec![0; 2] });
        }
        let hash = PaymentHash::new([0; 32]);
        let (packet, _) = sphinx::build(&secp, &node_key, &hops, hash.as_bytes(), 1300).unwrap();
        let packet = packet.try_into().unwrap();
        let peeled = peel_payment_with_key(&secp, &packet, &node_key, &IncomingHtlc::new(&hash));
        if let Err(e) = peeled {
            prop_assert!(matches!(e.response(), FailureResponse::Fail(_)));
        }
    }

    #[test]
    fn arbitrary_packets_never_panic(packet in vec(any::<u8>(), 0..1500), secret in any::<[u8; 32]>()) {
        let secp = Secp256k1::new();
        let secret = SharedSecret::new(secret);
        let _ = sphinx::ecdh_point(&secp, &packet, Some(&secret));
        prop_assert!(sphinx::peel(&secp, &packet, &secret, &[]).is_err());
    }

    #[test]
    fn failures_come_back_from_any_hop(
        secrets in vec(any::<[u8; 32]>(), 1..24),
        source in any::<prop::sample::Index>(),
        failuremsg in vec(any::<u8>(), 2..600),
        hold_times in vec(any::<u32>(), 24),
        with_attribution in any::<bool>(),
    ) {
        let secrets: Vec<_> = secrets.into_iter().map(SharedSecret::new).collect();
        let source = source.index(secrets.len());
        let hold = |i: usize| with_attribution.then(|| HoldTime::new(hold_times[i]));
        let mut packet = ReturnPacket::build_raw(&secrets[source], &failuremsg, 0, hold(source));
        prop_assert_eq!(packet.reason.len(), 32 + 4 + failuremsg.len().max(256));
        for i in (0..source).rev() {
            packet.wrap(&secrets[i], hold(i));
        }
        let read = packet.decrypt(&secrets);
        let FailureSource::Hop { hop, message, raw } = read.source else { panic!("unreadable") };
        prop_assert_eq!(hop, source);
        prop_assert_eq!(message, FailureMessage::from_bytes(&failuremsg).unwrap());
        prop_assert_eq!(raw, failuremsg);
        let expected: Vec<_> = if with_attribution && secrets.len() <= ATTRIBUTION_HOPS_MAX {
            (0..=source).map(|i| HoldTime::new(hold_times[i])).collect()
        } else {
            vec![]
        };
        prop_assert_eq!(read.hold_times, expected);
        prop_assert_eq!(read.unattributed, None);
    }

    #[test]
    fn successes_come_back_with_hold_times_and_payload(
        secrets in vec(any::<[u8; 32]>(), 1..24),
        hold_times in vec(any::<u32>(), 24),
        custom in proptest::collection::btree_map(65_536u64.., vec(any::<u8>(), 0..300), 0..3),
        with_payload in any::<bool>(),
        garbled_at in option::of(any::<prop::sample::Index>()),
    ) {
        let secrets: Vec<_> = secrets.into_iter().map(SharedSecret::new).collect();
        let payload = FulfillmentPayload {
            custom_tlvs: custom.into_iter().map(|(kind, value)| CustomTlv { kind, value }).collect(),
        };
        let bytes = payload.to_bytes();
        prop_assert!(bytes.len() >= 256);
        prop_assert_eq!(FulfillmentPayload::from_bytes(&bytes), Ok(payload));
        let hold = |i: usize| Some(HoldTime::new(hold_times[i]));
        let last = secrets.len() - 1;
        let sent = with_payload.then_some(&bytes[..]);
        let garbled_at = garbled_at.filter(|_| with_payload).map(|index| index.index(secrets.len()));
        let mut packet = SuccessPacket::build(&secrets[last], sent, hold(last));
        for i in (0..secrets.len()).rev() {
            if i < last {
                packet.wrap(&secrets[i], hold(i));
            }
            if garbled_at == Some(i) {
                packet.fulfillment_payload.as_mut().unwrap()[7] ^= 1;
            }
        }
        let read = packet.decrypt(&secrets);
        match garbled_at {
            None => {
                let fits = secrets.len() <= ATTRIBUTION_HOPS_MAX;
                let expected: Vec<_> = (0..secrets.len()).filter(|_| fits).filter_map(hold).collect();
                prop_assert_eq!((read.hold_times, read.unattributed), (expected, None));
                prop_assert_eq!(read.payload, match with_payload {
                    true => FulfillmentData::Payload(bytes),
                    false => FulfillmentData::None,
                });
            }
            Some(at) => {
                prop_assert_eq!(read.payload, FulfillmentData::Garbled);
                if secrets.len() <= ATTRIBUTION_HOPS_MAX && at < last {
                    prop_assert_eq!(read.unattributed, Some(at));
                }
            }
        }
    }

    #[test]
    fn trampoline_onions_are_read_by_their_nodes(
        keys in vec(secret_key(), 1..5),
        amounts in vec(any::<(u64, u32)>(), 4),
        last in receive(),
        session_key in secret_key(),
        hash in any::<[u8; 32]>(),
        spare in 0usize..400,
    ) {
        let secp = Secp256k1::new();
        let payment_hash = PaymentHash::new(hash);
        let HopPayload::Receive(last) = last else { panic!("a final payload") };
        let nodes: Vec<_> = keys.iter().map(|key| PublicKey::from_secret_key(&secp, key)).collect();
        let hops: Vec<_> = (0..nodes.len())
            .map(|i| {
                let payload = match nodes.get(i + 1) {
                    Some(next) => TrampolinePayload::Forward(TrampolineForward {
                        outgoing_node_id: *next,
                        amt_to_forward: Msat::new(amounts[i].0),
                        outgoing_cltv_value: CltvExpiry::new(amounts[i].1),
                    }),
                    None => TrampolinePayload::Receive(last.clone()),
                };
                (nodes[i], payload)
            })
            .collect();
        let built = trampoline::build(&secp, &session_key, &hops, &payment_hash, spare).unwrap();
        let around = AroundTrampoline {
            payment_hash: &payment_hash,
            path_key: None,
            even_custom_tlvs: &[],
        };
        let mut packet = built.packet;
        for (i, key) in keys.iter().enumerate() {
            let (peeled, secret) =
                trampoline::peel_with_key(&secp, &packet, key, &around).unwrap();
            prop_assert_eq!(&secret, &built.shared_secrets[i]);
            match peeled {
                PeeledTrampoline::Forward { payload, next_packet } => {
                    prop_assert_eq!(&TrampolinePayload::Forward(payload), &hops[i].1);
                    packet = next_packet;
                }
                PeeledTrampoline::Receive(payload) => prop_assert_eq!(&payload, &last),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn arbitrary_trampolines_never_panic(
        payload in vec(any::<u8>(), 2..200),
        is_final in any::<bool>(),
        in_path in any::<bool>(),
    ) {
        let secp = Secp256k1::new();
        let node_key = SecretKey::from_slice(&[1; 32]).unwrap();
        let node_id = PublicKey::from_secret_key(&secp, &node_key);
        let mut hops = vec![Hop { node_id, payload }];
        if !is_final {
            hops.push(Hop { node_id, payload: vec![0; 2] });
        }
        let hash = PaymentHash::new([0; 32]);
        let (packet, secrets) =
            sphinx::build(&secp, &node_key, &hops, hash.as_bytes(), 400).unwrap();
        let around = AroundTrampoline {
            payment_hash: &hash,
            path_key: in_path.then_some(&node_id),
            even_custom_tlvs: &[],
        };
        if let Err(error) = trampoline::peel(&secp, &packet, &secrets[0], &around) {
            let blinding = matches!(error.response(), FailureMessage::InvalidOnionBlinding { .. });
            prop_assert_eq!(blinding, in_path);
        }
        prop_assert!(trampoline::peel(&secp, &packet[..66], &secrets[0], &around).is_err());
    }

    #[test]
    fn arbitrary_failures_never_panic(
        reason in vec(any::<u8>(), 0..400),
        secrets in vec(any::<[u8; 32]>(), 0..30),
    ) {
        let secrets: Vec<_> = secrets.into_iter().map(SharedSecret::new).collect();
        let packet = ReturnPacket { reason, attribution_data: Some(Default::default()) };
        prop_assert_eq!(packet.decrypt(&secrets).source, FailureSource::Unknown);
    }

    #[test]
    fn failure_bytes_decode_to_the_same_again(bytes in vec(any::<u8>(), 2..80)) {
        let message = FailureMessage::from_bytes(&bytes).unwrap();
        prop_assert_eq!(FailureMessage::from_bytes(&message.to_bytes()), Ok(message));
    }

    #[test]
    fn recipient_data_round_trip(
        scid in option::of(any::<u64>()),
        path_id in option::of(vec(any::<u8>(), 0..40)),
        relay in option::of(any::<(u16, u32, u32)>()),
        constraints in option::of(any::<(u32, u64)>()),
        length in 0usize..1_000,
    ) {
        let data = EncryptedData {
            short_channel_id: scid.map(ShortChannelId::from_u64),
            path_id,
            payment_relay: relay.map(|(delta, ppm, base)| PaymentRelay {
                cltv_expiry_delta: CltvExpiryDelta::new(delta),
                fee_proportional_millionths: ppm,
                fee_base_msat: base,
            }),
            payment_constraints: constraints.map(|(max, min)| PaymentConstraints {
                max_cltv_expiry: CltvExpiry::new(max),
                htlc_minimum_msat: Msat::new(min),
            }),
            ..EncryptedData::default()
        }
        .padded_to(length);
        let bytes = data.to_bytes();
        prop_assert_eq!(EncryptedData::from_bytes(&bytes), Ok(data.clone()));
        if data.padding_len.is_some() {
            prop_assert!((length..=length + 2).contains(&bytes.len()));
        }
    }

    #[test]
    fn arbitrary_recipient_data_never_panic(bytes in vec(any::<u8>(), 0..200), amount in any::<u64>(), cltv in any::<u32>()) {
        let _ = BlindedRoute::from_bytes(&bytes);
        if let Ok(data) = EncryptedData::from_bytes(&bytes) {
            let _ = data.forward(Msat::new(amount), CltvExpiry::new(cltv));
        }
    }

    #[test]
    fn relays_are_covered_and_close_to_the_formula(base in any::<u32>(), ppm in any::<u32>(), amount in any::<u64>()) {
        let relay = PaymentRelay {
            cltv_expiry_delta: CltvExpiryDelta::new(0),
            fee_proportional_millionths: ppm,
            fee_base_msat: base,
        };
        match relay.amt_to_forward(Msat::new(amount)) {
            Some(forward) => {
                let forward = u128::from(forward.to_msat());
                let fee = u128::from(base) + forward * u128::from(ppm) / 1_000_000;
                prop_assert!(forward + fee <= u128::from(amount));
                let after_base = u128::from(amount) - u128::from(base);
                let formula = (after_base * 1_000_000 + 1_000_000 + u128::from(ppm) - 1) / (1_000_000 + u128::from(ppm));
                prop_assert!(formula - forward <= 1);
            }
            None => prop_assert!(u128::from(amount) <= u128::from(base) + u128::from(ppm) / 1_000_000 + 1),
        }
    }
}
