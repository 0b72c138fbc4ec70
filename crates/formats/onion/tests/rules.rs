//! What is refused, and with which failure.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_onion::{
    blinding::{EncryptedData, PaymentRelay},
    sphinx::{self, Hop, sha256_of_onion},
    *,
};
use fulmen_types::{
    CltvExpiry, CltvExpiryDelta, Msat, PaymentHash, PaymentPreimage, ShortChannelId,
    codec::{Decode, Encode},
};

const HASH: PaymentHash = PaymentHash::new([0x42; 32]);

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn node(byte: u8) -> PublicKey {
    PublicKey::from_secret_key(&Secp256k1::new(), &key(byte))
}

/// A packet whose first of two hops, or only hop, reads `payload`, as it comes to node 1.
fn packet_with(payload: &[u8], is_final: bool) -> PaymentPacket {
    let mut hops = vec![Hop {
        node_id: node(1),
        payload: payload.to_vec(),
    }];
    if !is_final {
        hops.push(Hop {
            node_id: node(2),
            payload: vec![2, 0],
        });
    }
    let (packet, _) =
        sphinx::build(&Secp256k1::new(), &key(0x41), &hops, HASH.as_bytes(), 1300).unwrap();
    packet.try_into().unwrap()
}

fn peel(packet: &PaymentPacket) -> Result<Peeled, PeelError> {
    peel_payment_with_key(
        &Secp256k1::new(),
        packet,
        &key(1),
        &IncomingHtlc::new(&HASH),
    )
    .map(|(peeled, _)| peeled)
}

fn invalid_payload(payload: &[u8], is_final: bool) -> (u64, u16) {
    match peel(&packet_with(payload, is_final))
        .unwrap_err()
        .response()
    {
        FailureResponse::Fail(FailureMessage::InvalidOnionPayload { tlv_type, offset }) => {
            (tlv_type, offset)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_payload_names_type_and_offset() {
    const FORWARD: &[u8] = &[2, 1, 9, 4, 1, 8, 6, 8, 0, 0, 1, 0, 0, 1, 0, 1];
    const RECEIVE: &[u8] = &[2, 1, 9, 4, 1, 8];
    assert!(matches!(
        peel(&packet_with(FORWARD, false)),
        Ok(Peeled::Forward { .. })
    ));
    assert!(matches!(
        peel(&packet_with(RECEIVE, true)),
        Ok(Peeled::Receive(_))
    ));
    // Missing fields have no offset.
    assert_eq!(invalid_payload(RECEIVE, false), (6, 0));
    assert_eq!(invalid_payload(&[2, 1, 9], true), (4, 0));
    assert_eq!(invalid_payload(&[4, 1, 9], true), (2, 0));
    // The offset counts the length prefix.
    assert_eq!(invalid_payload(FORWARD, true), (6, 7));
    assert_eq!(invalid_payload(&[2, 1, 9, 4, 2, 0, 8], true), (4, 4));
    assert_eq!(invalid_payload(&[2, 1, 9, 4, 1, 8, 20, 0], true), (20, 7));
    assert_eq!(invalid_payload(&[4, 1, 8, 2, 1, 9], true), (0, 4));
    assert_eq!(invalid_payload(&[2, 1, 9, 4, 5, 8], true), (0, 4));
    let with_data = [
        &[2, 1, 9, 4, 1, 8, 6, 8, 0, 0, 1, 0, 0, 1, 0, 1, 8, 32][..],
        &[7; 32],
    ]
    .concat();
    assert_eq!(invalid_payload(&with_data, false), (8, 17));
    // A long payload has a longer prefix.
    let mut long = vec![2, 1, 9, 4, 1, 8, 16, 0xfd, 1, 0];
    long.extend([1; 256]);
    long.extend([20, 0]);
    assert_eq!(invalid_payload(&long, true), (20, 3 + 266));
    // Unknown odd fields are fine.
    assert!(peel(&packet_with(&[2, 1, 9, 4, 1, 8, 21, 0], true)).is_ok());
}

#[test]
fn an_unreadable_packet_is_malformed() {
    let good = packet_with(&[2, 1, 9, 4, 1, 8], true);
    for (index, code) in [(0, 0xc004), (1, 0xc006), (100, 0xc005), (1365, 0xc005)] {
        let mut bad = good;
        bad[index] ^= 0x10;
        assert_eq!(
            peel(&bad).unwrap_err().response(),
            FailureResponse::Malformed {
                failure_code: code,
                sha256_of_onion: sha256_of_onion(&bad)
            }
        );
    }
    // Bound to the HTLC.
    let other = PaymentHash::new([0x43; 32]);
    let peeled = peel_payment_with_key(
        &Secp256k1::new(),
        &good,
        &key(1),
        &IncomingHtlc::new(&other),
    );
    assert!(matches!(
        peeled,
        Err(PeelError::Malformed {
            reason: PacketError::Hmac,
            ..
        })
    ));
}

#[test]
fn in_a_blinded_path_every_error_is_the_same() {
    let secp = Secp256k1::new();
    let path_key = node(9);
    let blinding = SharedSecret::ecdh(&path_key, &key(1));
    let blinded_key = blinding::blinded_private_key(&key(1), &blinding).unwrap();
    let peel_blinded = |payload: &[u8], flip: usize| {
        let hop = Hop {
            node_id: PublicKey::from_secret_key(&secp, &blinded_key),
            payload: payload.to_vec(),
        };
        let (packet, _) = sphinx::build(&secp, &key(0x41), &[hop], HASH.as_bytes(), 1300).unwrap();
        let mut packet: PaymentPacket = packet.try_into().unwrap();
        packet[flip] ^= u8::from(flip != 34);
        let htlc = IncomingHtlc {
            path_key: Some(&path_key),
            ..IncomingHtlc::new(&HASH)
        };
        (
            peel_payment_with_key(&secp, &packet, &key(1), &htlc),
            packet,
        )
    };
    let good = [2, 1, 9, 4, 1, 8, 10, 1, 5, 18, 1, 9];
    let (peeled, _) = peel_blinded(&good, 34);
    assert!(
        matches!(peeled, Ok((Peeled::BlindedReceive(_), _))),
        "{peeled:?}"
    );
    let with_odd = [2, 1, 9, 4, 1, 8, 10, 1, 5, 18, 1, 9, 21, 0];
    let plain = [2, 1, 9, 4, 1, 8];
    for (payload, flip) in [(&good[..], 0), (&good, 50), (&with_odd, 34), (&plain, 34)] {
        let (peeled, packet) = peel_blinded(payload, flip);
        assert_eq!(
            peeled.unwrap_err().response(),
            FailureResponse::Malformed {
                failure_code: 0xc018,
                sha256_of_onion: sha256_of_onion(&packet)
            }
        );
    }
}

#[test]
fn an_introduction_node_says_no_more_than_blinding() {
    let mut payload = vec![10, 1, 5, 12, 33];
    payload.extend(node(9).serialize());
    let peeled = peel(&packet_with(&payload, false)).unwrap();
    assert!(matches!(peeled, Peeled::BlindedForward { .. }));
    payload.extend([21, 0]);
    let packet = packet_with(&payload, false);
    assert_eq!(
        peel(&packet).unwrap_err().response(),
        FailureResponse::Fail(FailureMessage::InvalidOnionBlinding {
            sha256_of_onion: sha256_of_onion(&packet)
        })
    );
    // Blinded data without any path key.
    assert_eq!(invalid_payload(&[10, 1, 5], false), (12, 0));
    // A path key without blinded data, which would be an introduction node's too.
    let mut stray = vec![2, 1, 9, 4, 1, 8, 12, 33];
    stray.extend(node(9).serialize());
    assert_eq!(invalid_payload(&stray, true), (12, 7));
}

#[test]
fn even_custom_records_must_be_known() {
    let receive = |kind| ReceivePayload {
        amt_to_forward: Msat::new(9),
        outgoing_cltv_value: CltvExpiry::new(8),
        payment_data: None,
        payment_metadata: None,
        keysend_preimage: Some(PaymentPreimage::new([3; 32])),
        custom_tlvs: vec![CustomTlv {
            kind,
            value: vec![1],
        }],
    };
    let build = |payload| {
        let hops = [(node(1), HopPayload::Receive(payload))];
        build_payment_onion(&Secp256k1::new(), &key(0x41), &hops, &HASH)
    };
    assert_eq!(
        peel(&build(receive(65_537)).unwrap().packet),
        Ok(Peeled::Receive(receive(65_537)))
    );
    let packet = build(receive(65_538)).unwrap().packet;
    assert!(matches!(
        peel(&packet).unwrap_err().response(),
        FailureResponse::Fail(FailureMessage::InvalidOnionPayload {
            tlv_type: 65_538,
            ..
        })
    ));
    let htlc = IncomingHtlc {
        even_custom_tlvs: &[65_538],
        ..IncomingHtlc::new(&HASH)
    };
    assert!(peel_payment_with_key(&Secp256k1::new(), &packet, &key(1), &htlc).is_ok());
    for kind in [65_535, 8, 5_482_373_484] {
        assert_eq!(
            build(receive(kind)).unwrap_err(),
            BuildError::CustomTlv(kind)
        );
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let secp = Secp256k1::new();
    let build = |hops: &[Hop], len| sphinx::build(&secp, &key(0x41), hops, &[], len).map(|_| ());
    let hop = |len| Hop {
        node_id: node(1),
        payload: vec![0; len],
    };
    assert_eq!(build(&[], 1300), Err(BuildError::NoHops));
    assert_eq!(
        build(&[hop(2), hop(1)], 1300),
        Err(BuildError::PayloadTooShort { hop: 1 })
    );
    assert_eq!(build(&[hop(1300 - 35)], 1300), Ok(()));
    assert_eq!(
        build(&[hop(1300 - 34)], 1300),
        Err(BuildError::PayloadsTooLong {
            needed: 1301,
            available: 1300
        })
    );
    assert_eq!(
        build(&[hop(2)], 65_470),
        Err(BuildError::SizeOutOfRange(65_470))
    );
    // 37 of the smallest hops fit.
    assert_eq!(build(&vec![hop(2); 37], 1300), Ok(()));
    assert!(build(&vec![hop(2); 38], 1300).is_err());

    let forward = HopPayload::Forward(ForwardPayload {
        short_channel_id: ShortChannelId::from_u64(1),
        amt_to_forward: Msat::new(1),
        outgoing_cltv_value: CltvExpiry::new(1),
    });
    let built = build_payment_onion(&secp, &key(0x41), &[(node(1), forward.clone())], &HASH);
    assert_eq!(built.unwrap_err(), BuildError::PayloadPosition { hop: 0 });
    assert!(check_payloads_fit(&vec![forward.clone(); 25]).is_ok());
    assert!(check_payloads_fit(&vec![forward; 40]).is_err());
}

#[test]
fn garbled_failures_point_at_a_hop() {
    let secrets: Vec<_> = (1..=4).map(|i| SharedSecret::new([i; 32])).collect();
    let hold = Some(HoldTime::new(1));
    let mut packet = ReturnPacket::build(&secrets[3], &FailureMessage::MppTimeout, hold);
    packet.wrap(&secrets[2], hold);
    packet.reason[40] ^= 1;
    packet.wrap(&secrets[1], hold);
    packet.wrap(&secrets[0], hold);
    let read = packet.decrypt(&secrets);
    assert_eq!(read.source, FailureSource::Unknown);
    assert_eq!(read.hold_times.len(), 2);
    assert_eq!(read.unattributed, Some(2));
    // A hop without attribution support drops the data; upstream begins anew.
    let mut packet = ReturnPacket::build(&secrets[3], &FailureMessage::MppTimeout, hold);
    packet.wrap(&secrets[2], None);
    assert!(packet.attribution_data.is_none());
    packet.wrap(&secrets[1], hold);
    packet.wrap(&secrets[0], hold);
    let read = packet.decrypt(&secrets);
    assert!(matches!(
        read.source,
        FailureSource::Hop {
            hop: 3,
            message: FailureMessage::MppTimeout,
            ..
        }
    ));
    assert_eq!(read.unattributed, Some(2));
}

#[test]
fn a_long_failure_leaves_no_room_for_attribution() {
    // Attack: a failure as long as a message, relayed with 924 bytes more.
    let secret = SharedSecret::new([1; 32]);
    let mut packet = ReturnPacket {
        reason: vec![0; REASON_LEN_MAX_WITH_ATTRIBUTION + 1],
        attribution_data: Some(Default::default()),
    };
    packet.wrap(&secret, Some(HoldTime::new(1)));
    assert!(packet.attribution_data.is_none());
    packet.reason.pop();
    packet.wrap(&secret, Some(HoldTime::new(1)));
    assert!(packet.attribution_data.is_some());
}

#[test]
fn all_codes_are_distinct_and_come_back() {
    let sha256_of_onion = [5; 32];
    let channel_update = vec![1, 2, 3];
    let htlc_msat = Msat::new(7);
    let cltv_expiry = CltvExpiry::new(8);
    use FailureMessage as F;
    let all = [
        (F::TemporaryNodeFailure, 0x2002),
        (F::PermanentNodeFailure, 0x6002),
        (F::RequiredNodeFeatureMissing, 0x6003),
        (F::InvalidOnionVersion { sha256_of_onion }, 0xc004),
        (F::InvalidOnionHmac { sha256_of_onion }, 0xc005),
        (F::InvalidOnionKey { sha256_of_onion }, 0xc006),
        (
            F::TemporaryChannelFailure {
                channel_update: channel_update.clone(),
            },
            0x1007,
        ),
        (F::PermanentChannelFailure, 0x4008),
        (F::RequiredChannelFeatureMissing, 0x4009),
        (F::UnknownNextPeer, 0x400a),
        (
            F::AmountBelowMinimum {
                htlc_msat,
                channel_update: channel_update.clone(),
            },
            0x100b,
        ),
        (
            F::FeeInsufficient {
                htlc_msat,
                channel_update: channel_update.clone(),
            },
            0x100c,
        ),
        (
            F::IncorrectCltvExpiry {
                cltv_expiry,
                channel_update: channel_update.clone(),
            },
            0x100d,
        ),
        (
            F::ExpiryTooSoon {
                channel_update: channel_update.clone(),
            },
            0x100e,
        ),
        (
            F::IncorrectOrUnknownPaymentDetails {
                htlc_msat,
                height: fulmen_types::BlockHeight::new(1),
            },
            0x400f,
        ),
        (F::FinalIncorrectCltvExpiry { cltv_expiry }, 18),
        (
            F::FinalIncorrectHtlcAmount {
                incoming_htlc_amt: htlc_msat,
            },
            19,
        ),
        (
            F::ChannelDisabled {
                disabled_flags: 0,
                channel_update,
            },
            0x1014,
        ),
        (F::ExpiryTooFar, 21),
        (
            F::InvalidOnionPayload {
                tlv_type: 1 << 40,
                offset: 3,
            },
            0x4016,
        ),
        (F::MppTimeout, 23),
        (F::InvalidOnionBlinding { sha256_of_onion }, 0xc018),
        (F::TemporaryTrampolineFailure, 0x2019),
        (
            F::TrampolineFeeOrExpiryInsufficient {
                fee_base_msat: 1,
                fee_proportional_millionths: 2,
                cltv_expiry_delta: CltvExpiryDelta::new(3),
            },
            0x201a,
        ),
        (F::UnknownNextTrampoline, 0x401b),
    ];
    assert_eq!(all.len(), 22 + 3, "of BOLT 4, and of trampoline routing");
    for (message, code) in all {
        use fulmen_types::codec::Encode;
        assert_eq!(message.code(), code);
        let bytes = message.to_bytes();
        assert_eq!(F::from_bytes(&bytes).as_ref(), Ok(&message));
        // Extra bytes are ignored, missing ones leave the flags.
        assert_eq!(
            F::from_bytes(&[&bytes[..], &[1, 2]].concat()).as_ref(),
            Ok(&message)
        );
        if bytes.len() > 2 {
            let cut = F::from_bytes(&bytes[..bytes.len() - 1]).unwrap();
            assert_eq!(cut.code(), code);
            assert!(matches!(cut, F::Unknown { .. }));
        }
        if message.is_bad_onion() {
            assert_eq!(F::from_malformed(code, sha256_of_onion), message);
        }
    }
    assert!(F::from_bytes(&[1]).is_err());
}

#[test]
fn a_blinded_relay_never_pays_for_the_sender() {
    let relay = |base, ppm| PaymentRelay {
        cltv_expiry_delta: CltvExpiryDelta::new(40),
        fee_proportional_millionths: ppm,
        fee_base_msat: base,
    };
    assert_eq!(relay(1_000, 0).amt_to_forward(Msat::new(999)), None);
    assert_eq!(relay(1_000, 0).amt_to_forward(Msat::new(1_000)), None);
    assert_eq!(
        relay(1_000, 0).amt_to_forward(Msat::new(1_001)),
        Some(Msat::new(1))
    );
    // Fees of 300 %: rounding up alone would forward more than was paid for.
    for amount in 1..2_000u64 {
        if let Some(forward) = relay(0, 3_000_000).amt_to_forward(Msat::new(amount)) {
            assert!(forward.to_msat() * 4 <= amount, "{amount}");
        }
    }
    assert!(
        relay(u32::MAX, u32::MAX)
            .amt_to_forward(Msat::MAX)
            .is_some()
    );
    let data = EncryptedData {
        payment_relay: Some(relay(0, 0)),
        short_channel_id: Some(ShortChannelId::from_u64(1)),
        ..EncryptedData::default()
    };
    assert!(data.forward(Msat::new(1), CltvExpiry::new(39)).is_err());
    assert!(data.forward(Msat::new(1), CltvExpiry::new(40)).is_ok());
}

#[test]
fn a_fulfilment_payload_is_padded_whatever_its_length() {
    assert_eq!(FulfillmentPayload::default().to_bytes().len(), 257);
    for len in 0..300usize {
        let payload = FulfillmentPayload {
            custom_tlvs: vec![CustomTlv {
                kind: 65_536,
                value: vec![7; len],
            }],
        };
        let bytes = payload.to_bytes();
        // Type and length of the record take 6 bytes, and 8 from 253 on.
        let bare = len + if len < 253 { 6 } else { 8 };
        assert_eq!(
            bytes.len(),
            match bare {
                0..=254 | 256 => bare.max(256),
                255 => 257,
                _ => bare,
            },
            "{len}"
        );
        assert_eq!(FulfillmentPayload::from_bytes(&bytes), Ok(payload));
    }
}
