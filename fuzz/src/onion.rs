//! BOLT 4: packets, payloads, failures, blinded paths.

use bitcoin::secp256k1::PublicKey;
use fulmen_compare::{LdkHtlc, as_ldk, ldk_peel};
use fulmen_onion::{
    ATTRIBUTION_DATA_LEN, AttributionData, FailureMessage, FailureResponse, HoldTime, HopPayload,
    IncomingHtlc, PaymentPacket, PeelError, Peeled, ReturnPacket, SharedSecret,
    blinding::{BlindedPath, BlindedRoute, EncryptedData, blind_route, unblind},
    build_payment_onion, peel_payment_with_key,
    sphinx::{self, Hop, PAYMENT_PAYLOADS_LEN},
};
use fulmen_types::{
    CltvExpiry, Msat, PaymentHash,
    codec::{Decode, Encode},
};

use crate::{
    choice,
    keys::{SECP, public, secret},
};

const HASH: PaymentHash = PaymentHash::new([7; 32]);
/// Above every amount and expiry that a payload can ask for, as far as LDK lets it.
const HTLC: LdkHtlc = LdkHtlc {
    payment_hash: [7; 32],
    amount_msat: u64::MAX,
    cltv_expiry: u32::MAX,
    path_key: None,
    height: 0,
};

/// Packets as they come from a peer, to a node in a blinded path or not.
pub(crate) fn peel(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    let mut packet = [0; 1366];
    let len = data.len().min(packet.len());
    packet[..len].copy_from_slice(&data[..len]);
    if which & 2 != 0 {
        // A packet that is good up to its HMAC: payloads that nobody made.
        packet[0] = 0;
        packet[1..34].copy_from_slice(&public(5).serialize());
        sign_packet(&mut packet);
    }
    let path_key = (which & 1 != 0).then(|| public(6));
    judge(&packet, path_key.as_ref(), &[]);
}

/// The right HMAC for the node of key 1 without a path key.
fn sign_packet(packet: &mut PaymentPacket) {
    use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
    let hmac = |key: &[u8], parts: &[&[u8]]| {
        let mut engine = HmacEngine::<sha256::Hash>::new(key);
        parts.iter().for_each(|part| engine.input(part));
        Hmac::from_engine(engine).to_byte_array()
    };
    let shared = SharedSecret::ecdh(&public(5), &secret(1));
    let mu = hmac(b"mu", &[shared.as_bytes()]);
    let mac = hmac(&mu, &[&packet[34..1334], HASH.as_bytes()]);
    packet[1334..].copy_from_slice(&mac);
}

/// Any bytes as the payload of one hop: the last one, or one that forwards, inside a blinded path or not.
pub(crate) fn payload(data: &[u8]) {
    let Some((which, payload)) = choice(data) else {
        return;
    };
    let path_key = (which & 1 != 0).then(|| public(6));
    let blinding = path_key.map(|key| SharedSecret::ecdh(&key, &secret(1)));
    let node_id = match &blinding {
        None => public(1),
        Some(blinding) => {
            let key = fulmen_onion::blinding::blinded_private_key(&secret(1), blinding)
                .expect("the keys are fixed");
            PublicKey::from_secret_key(&SECP, &key)
        }
    };
    let mut hops = vec![Hop {
        node_id,
        payload: payload.to_vec(),
    }];
    if which & 2 != 0 {
        hops.push(Hop {
            node_id: public(2),
            payload: vec![2, 0],
        });
    }
    let Ok((packet, _)) = sphinx::build(
        &SECP,
        &secret(3),
        &hops,
        HASH.as_bytes(),
        PAYMENT_PAYLOADS_LEN,
    ) else {
        return;
    };
    let packet: PaymentPacket = packet.try_into().expect("the length is asked for");
    let even = [65_536, 65_538];
    judge(
        &packet,
        path_key.as_ref(),
        if which & 4 != 0 { &even } else { &[] },
    );
}

fn judge(packet: &PaymentPacket, path_key: Option<&PublicKey>, even_custom_tlvs: &[u64]) {
    let htlc = IncomingHtlc {
        path_key,
        even_custom_tlvs,
        ..IncomingHtlc::new(&HASH)
    };
    let ours = peel_payment_with_key(&SECP, packet, &secret(1), &htlc).map(|(peeled, _)| peeled);
    match &ours {
        Ok(peeled) => build_again(peeled, &htlc),
        Err(error) => check_response(error, path_key.is_some()),
    }
    // Inside blinded paths LDK reads nothing but what LDK wrote.
    if path_key.is_none() && even_custom_tlvs.is_empty() {
        compare(packet, ours.as_ref().ok());
    }
}

/// The payload, and whether it is the last one; none of a trampoline onion.
fn payload_of(peeled: &Peeled) -> Option<(HopPayload, bool)> {
    match peeled.clone() {
        Peeled::Forward { payload, .. } => Some((HopPayload::Forward(payload), false)),
        Peeled::BlindedForward { payload, .. } => {
            Some((HopPayload::BlindedForward(payload), false))
        }
        Peeled::Receive(payload) => Some((HopPayload::Receive(payload), true)),
        Peeled::BlindedReceive(payload) => Some((HopPayload::BlindedReceive(payload), true)),
        Peeled::Trampoline(_) => None,
    }
}

/// What was read is what a sender would have said.
fn build_again(peeled: &Peeled, htlc: &IncomingHtlc<'_>) {
    let Some((payload, is_final)) = payload_of(peeled) else {
        return;
    };
    assert_eq!(payload.is_final(), is_final);
    payload.encode().expect("it was decoded");
    if htlc.path_key.is_some() {
        return;
    }
    let mut hops = vec![(public(1), payload.clone())];
    if !is_final {
        let last = fulmen_onion::ReceivePayload {
            amt_to_forward: Msat::new(1),
            outgoing_cltv_value: CltvExpiry::new(1),
            payment_data: None,
            payment_metadata: None,
            keysend_preimage: None,
            custom_tlvs: vec![],
        };
        hops.push((public(2), HopPayload::Receive(last)));
    }
    // Records that were ignored are gone, so what fitted once fits again.
    let onion = build_payment_onion(&SECP, &secret(3), &hops, &HASH);
    let Ok(onion) = onion else { return };
    let (again, _) =
        peel_payment_with_key(&SECP, &onion.packet, &secret(1), htlc).expect("it was just built");
    assert_eq!(payload_of(&again), Some((payload, is_final)));
}

fn check_response(error: &PeelError, in_path: bool) {
    match error.response() {
        FailureResponse::Malformed { failure_code, .. } => {
            assert!(failure_code & 0x8000 != 0, "BOLT 2: BADONION must be set");
        }
        FailureResponse::Fail(message) => {
            assert!(
                !in_path,
                "BOLT 4: in a blinded path failures are malformed ones"
            );
            let packet = ReturnPacket::build(&SharedSecret::new([1; 32]), &message, None);
            let read = packet.decrypt(&[SharedSecret::new([1; 32])]);
            assert!(matches!(
                read.source,
                fulmen_onion::FailureSource::Hop { hop: 0, message: m, .. } if m == message
            ));
        }
    }
}

/// LDK's verdict and values. It refuses what Fulmen reads where it judges the payment too: amounts above all
/// bitcoin, expiries, payments without a secret, trampoline onions, a preimage of another hash.
fn compare(packet: &PaymentPacket, ours: Option<&Peeled>) {
    let mut htlc = HTLC;
    if let Some(Peeled::Forward { payload, .. }) = ours {
        // LDK wants the deltas and heights of a forward to be reasonable.
        let cltv = payload.outgoing_cltv_value.to_u32();
        htlc.height = cltv.saturating_sub(500);
        htlc.cltv_expiry = cltv.saturating_add(500);
    }
    let theirs = ldk_peel(&SECP, packet, &secret(1), &htlc);
    match (ours.and_then(as_ldk), theirs) {
        (Some(ours), Ok(theirs)) => assert_eq!(ours, theirs),
        (None, Ok(theirs)) => assert!(
            matches!(
                ours,
                Some(Peeled::BlindedForward { .. } | Peeled::BlindedReceive(_))
            ),
            "only LDK reads it: {theirs:?}"
        ),
        (_, Err(_)) => {}
    }
}

/// Failures: the message, the packet that brings it, attribution data.
pub(crate) fn failure(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    match which % 3 {
        0 => {
            let Ok(message) = FailureMessage::from_bytes(data) else {
                assert!(data.len() < 2);
                return;
            };
            // A `channel_update` that is too long to be sent is left out.
            if message.channel_update().map_or(0, <[u8]>::len)
                <= fulmen_onion::CHANNEL_UPDATE_LEN_MAX
            {
                let encoded = message.to_bytes();
                assert_eq!(FailureMessage::from_bytes(&encoded).as_ref(), Ok(&message));
                assert_eq!(message.to_string(), message.clone().to_string());
            }
        }
        1 => {
            let hops = usize::from(which / 3 % 28);
            let (attribution, reason) = split_attribution(data);
            let packet = ReturnPacket {
                reason: reason.to_vec(),
                attribution_data: attribution,
            };
            let secrets: Vec<_> = (0..hops)
                .map(|i| SharedSecret::new([i as u8 + 1; 32]))
                .collect();
            let read = packet.decrypt(&secrets);
            assert!(read.hold_times.len() <= hops);
        }
        _ => {
            // A path of up to 20 hops: the failure of one arrives whatever its bytes are.
            let hops = 1 + usize::from(which / 3 % 20);
            let secrets: Vec<_> = (0..hops)
                .map(|i| SharedSecret::new([i as u8 + 1; 32]))
                .collect();
            let time = Some(HoldTime::new(u32::from(which)));
            let mut packet = ReturnPacket::build_raw(&secrets[hops - 1], data, 256, time);
            for secret in secrets[..hops - 1].iter().rev() {
                packet.wrap(secret, time);
            }
            let read = packet.decrypt(&secrets);
            if data.len() >= 2 {
                let fulmen_onion::FailureSource::Hop { hop, .. } = read.source else {
                    panic!("a failure of {} bytes is lost", data.len());
                };
                assert_eq!(hop, hops - 1);
            }
        }
    }
}

fn split_attribution(data: &[u8]) -> (Option<Box<AttributionData>>, &[u8]) {
    match data.split_at_checked(ATTRIBUTION_DATA_LEN) {
        Some((front, rest)) => {
            let data = AttributionData::from_bytes(front).expect("any bytes of the length");
            assert_eq!(data.to_bytes(), front);
            (Some(Box::new(data)), rest)
        }
        None => (None, data),
    }
}

/// `blinded_path`, what is encrypted in it, and what a node makes of that.
pub(crate) fn blinded_path(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    match which % 3 {
        0 => {
            if let Ok(path) = BlindedPath::from_bytes(data) {
                let encoded = path.to_bytes();
                assert_eq!(encoded, data, "there is one encoding");
                compare_path(data, true);
            } else {
                compare_path(data, false);
            }
        }
        1 => {
            let Ok(read) = EncryptedData::from_bytes(data) else {
                return;
            };
            let encoded = read.to_bytes();
            assert_eq!(EncryptedData::from_bytes(&encoded).as_ref(), Ok(&read));
            for (amount, cltv) in [(0, 0), (1_000_000, 800_000), (u64::MAX, u32::MAX)] {
                let (amount, cltv) = (Msat::new(amount), CltvExpiry::new(cltv));
                if let Ok(forward) = read.forward(amount, cltv) {
                    assert!(forward.amt_to_forward <= amount);
                    assert!(forward.outgoing_cltv_value <= cltv);
                }
            }
            let padded = read.clone().padded_to(usize::from(which) * 4);
            assert_eq!(EncryptedData::from_bytes(&padded.to_bytes()), Ok(padded));
        }
        _ => {
            let Ok(route) = blind_route(&SECP, &secret(9), &[(public(1), data.to_vec())]) else {
                return;
            };
            let blinding = SharedSecret::ecdh(&route.first_path_key, &secret(1));
            let encrypted = &route.path[0].encrypted_recipient_data;
            let read = unblind(&SECP, &route.first_path_key, &blinding, encrypted);
            assert_eq!(
                read.map(|hop| hop.data).ok(),
                EncryptedData::from_bytes(data).ok()
            );
            let _: Result<BlindedRoute, _> = BlindedRoute::from_bytes(data);
        }
    }
}

/// LDK has a type for the same bytes.
fn compare_path(data: &[u8], ours: bool) {
    use lightning::util::ser::LengthReadable;
    let mut rest = data;
    let theirs =
        lightning::blinded_path::message::BlindedMessagePath::read_from_fixed_length_buffer(
            &mut rest,
        );
    let whole = rest.is_empty();
    match theirs {
        Ok(path) if whole => {
            assert!(ours, "only LDK reads it: {path:?}");
            assert_eq!(lightning::util::ser::Writeable::encode(&path), data);
        }
        _ => assert!(!ours, "only Fulmen reads it"),
    }
}
