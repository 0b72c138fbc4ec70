//! Onions of payments.

use anyhow::{Result, anyhow, ensure};
use bitcoin::{
    hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256},
    secp256k1::{PublicKey, Scalar, SecretKey, ecdh},
};
use chacha20_poly1305::{Key, Nonce, chacha20::ChaCha20};
use fulmen_compare::{LdkHtlc, Source, as_ldk, ldk_peel};
use fulmen_onion::{
    ForwardPayload, HopPayload, IncomingHtlc, PaymentData, ReceivePayload, build_payment_onion,
    peel_payment_with_key,
};
use fulmen_types::{CltvExpiry, Msat, PaymentHash, PaymentSecret, ShortChannelId};
use lightning::{
    ln::{channelmanager::RecipientOnionFields, create_payment_onion},
    routing::router::{Path, RouteHop},
    types::{
        features::{ChannelFeatures, NodeFeatures},
        payment::{PaymentHash as LdkHash, PaymentSecret as LdkSecret},
    },
    util::ser::Writeable,
};

use crate::Row;

const HEIGHT: u32 = 800_000;
const HASH: [u8; 32] = [7; 32];
const SECRET: [u8; 32] = [8; 32];
const AMOUNT: u64 = 1_000_000;

pub(crate) fn rows(g: &mut Source) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for hops in [3, 20] {
        rows.push(build(g, hops)?);
    }
    rows.push(peel(g)?);
    Ok(rows)
}

struct Way {
    keys: Vec<SecretKey>,
    nodes: Vec<PublicKey>,
    hops: Vec<(PublicKey, HopPayload)>,
    path: Path,
}

fn way(g: &mut Source, len: usize) -> Way {
    let keys: Vec<_> = (0..len).map(|_| g.secret_key()).collect();
    let nodes: Vec<_> = keys.iter().map(|key| key.public_key(g.secp())).collect();
    let scid = |at: usize| 700_000_000_000 + at as u64;
    let last = len - 1;
    let hops = nodes.iter().enumerate().map(|(at, node)| {
        let behind = u32::try_from(last - at).unwrap_or(0);
        let amt_to_forward = Msat::new(AMOUNT + u64::from(behind.saturating_sub(1)) * 10);
        let outgoing_cltv_value = CltvExpiry::new(HEIGHT + 18 + behind.saturating_sub(1) * 40);
        let payload = if at < last {
            HopPayload::Forward(ForwardPayload {
                short_channel_id: ShortChannelId::from_u64(scid(at + 1)),
                amt_to_forward,
                outgoing_cltv_value,
            })
        } else {
            HopPayload::Receive(ReceivePayload {
                amt_to_forward,
                outgoing_cltv_value,
                payment_data: Some(PaymentData {
                    payment_secret: PaymentSecret::new(SECRET),
                    total_msat: Msat::new(AMOUNT),
                }),
                payment_metadata: None,
                keysend_preimage: None,
                custom_tlvs: vec![],
            })
        };
        (*node, payload)
    });
    let path = nodes.iter().enumerate().map(|(at, node)| RouteHop {
        pubkey: *node,
        node_features: NodeFeatures::empty(),
        short_channel_id: scid(at),
        channel_features: ChannelFeatures::empty(),
        fee_msat: if at == last { AMOUNT } else { 10 },
        cltv_expiry_delta: if at == last { 18 } else { 40 },
        maybe_announced_channel: true,
    });
    Way {
        hops: hops.collect(),
        path: Path {
            hops: path.collect(),
            blinded_tail: None,
        },
        keys,
        nodes,
    }
}

fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    engine.input(data);
    Hmac::from_engine(engine).to_byte_array()
}

fn chacha(data: &mut [u8]) {
    ChaCha20::new(Key::new(SECRET), Nonce::new([0; 12]), 0).apply_keystream(data);
}

/// Both to the same terms; LDK's first node reads what Fulmen wrote and the other way round.
fn build(g: &mut Source, len: usize) -> Result<Row> {
    let Way {
        keys,
        nodes,
        hops,
        path,
    } = way(g, len);
    let (secp, session_key) = (g.secp().clone(), g.secret_key());
    let hash = PaymentHash::new(HASH);
    let build_theirs = {
        let (secp, fields) = (
            secp.clone(),
            RecipientOnionFields::secret_only(LdkSecret(SECRET)),
        );
        move || {
            create_payment_onion(
                &secp,
                &path,
                &session_key,
                AMOUNT,
                &fields,
                HEIGHT,
                &LdkHash(HASH),
                &None,
                None,
                [9; 32],
            )
        }
    };
    let ours = build_payment_onion(&secp, &session_key, &hops, &hash)?.packet;
    let (theirs, ..) = build_theirs().map_err(|e| anyhow!("{e:?}"))?;
    let theirs = theirs
        .encode()
        .try_into()
        .map_err(|_| anyhow!("the packet's length"))?;
    let htlc = IncomingHtlc::new(&hash);
    let (a, _) = peel_payment_with_key(&secp, &ours, &keys[0], &htlc)?;
    let (b, _) = peel_payment_with_key(&secp, &theirs, &keys[0], &htlc)?;
    let terms = |peeled| match peeled {
        fulmen_onion::Peeled::Forward { payload, .. } => Some(payload),
        _ => None,
    };
    ensure!(
        terms(a).is_some_and(|a| Some(a) == terms(b)),
        "the onions say different things"
    );

    let bare_secp = secp.clone();
    let tweak = Scalar::from_be_bytes(SECRET)?;
    Ok(Row::new(format!("build an onion, {len} hops"), move || {
        build_payment_onion(&secp, &session_key, &hops, &hash)
    })
    .ldk(build_theirs)
    // For each hop a secret, its public half, the next secret, a stream over the packet and its HMAC.
    .floor(move || {
        let (mut key, mut data, mut mac) = (session_key, [0; 1300], [0; 32]);
        for node in &nodes {
            let shared = ecdh::SharedSecret::new(node, &key);
            let public = PublicKey::from_secret_key(&bare_secp, &key);
            key = key.mul_tweak(&tweak).unwrap_or(key);
            chacha(&mut data);
            mac = hmac(&shared.secret_bytes(), &data);
            data[..33].copy_from_slice(&public.serialize());
        }
        mac
    }))
}

fn peel(g: &mut Source) -> Result<Row> {
    let Way { keys, hops, .. } = way(g, 3);
    let (secp, session_key) = (g.secp().clone(), g.secret_key());
    let hash = PaymentHash::new(HASH);
    let packet = build_payment_onion(&secp, &session_key, &hops, &hash)?.packet;
    let theirs = LdkHtlc {
        payment_hash: HASH,
        amount_msat: AMOUNT + 20,
        // LDK wants 48 blocks between the incoming and the outgoing HTLC.
        cltv_expiry: HEIGHT + 18 + 40 + 48,
        path_key: None,
        height: HEIGHT,
    };
    let key = keys[0];
    let found = ldk_peel(&secp, &packet, &key, &theirs).map_err(|e| anyhow!("{e:?}"))?;
    let (ours, _) = peel_payment_with_key(&secp, &packet, &key, &IncomingHtlc::new(&hash))?;
    ensure!(as_ldk(&ours) == Some(found), "they peel different things");
    let (their_secp, bare_secp) = (secp.clone(), secp.clone());
    let tweak = Scalar::from_be_bytes(SECRET)?;
    let public = session_key.public_key(&secp);
    Ok(Row::new("peel an onion", move || {
        peel_payment_with_key(&secp, &packet, &key, &IncomingHtlc::new(&hash))
    })
    .ldk(move || ldk_peel(&their_secp, &packet, &key, &theirs))
    // The point, the secret, the next point, the HMAC and two streams.
    .floor(move || {
        let point = PublicKey::from_slice(&public.serialize());
        let shared = point.map(|point| ecdh::SharedSecret::new(&point, &key));
        let next = public.mul_tweak(&bare_secp, &tweak);
        let mut data = [0; 1300];
        let mac = hmac(&SECRET, &data);
        chacha(&mut data);
        (shared, next, mac, data)
    }))
}
