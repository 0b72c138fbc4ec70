//! BOLT 11 and BOLT 12.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::{Keypair, Message, PublicKey, XOnlyPublicKey, schnorr},
};
use fulmen_compare::{Source, Verdict, compare_bolt12_invoice, compare_invoice, compare_offer};
use fulmen_invoice::{Currency, Description, InvoiceDetails, RouteHint, RouteHintHop};
use fulmen_offers::{InvoiceFields, Offer, OfferFields, RequestFields};
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedPath, blind_route},
};
use fulmen_types::{
    CltvExpiryDelta, Feature, Features, Msat, PaymentHash, PaymentSecret, ShortChannelId, Timestamp,
};
use lightning::{
    offers::{invoice::Bolt12Invoice, offer::Offer as LdkOffer},
    routing::router::{RouteHint as LdkHint, RouteHintHop as LdkHop},
    types::{payment::PaymentSecret as LdkSecret, routing::RoutingFees},
};
use lightning_invoice as ldk;

use crate::Row;

const NOW: u64 = 1_700_000_000;
/// Those of the BOLT 12 invoice below.
const RECORDS: usize = 13;

pub(crate) fn rows(g: &mut Source) -> Result<Vec<Row>> {
    let mut rows = Vec::from(bolt11(g)?);
    rows.extend(bolt12(g)?);
    Ok(rows)
}

/// An invoice as a wallet makes it: an amount, a text, an expiry, one hint.
fn bolt11(g: &mut Source) -> Result<[Row; 2]> {
    let (secp, key, node) = (g.secp().clone(), g.secret_key(), g.public_key());
    let mut details = InvoiceDetails::new(
        Currency::Bitcoin,
        Timestamp::from_secs(NOW),
        PaymentHash::new([1; 32]),
        PaymentSecret::new([2; 32]),
        Description::Text("A coffee and a piece of cake".into()),
    );
    details.amount = Some(Msat::new(2_500_000));
    details.expiry_secs = Some(600);
    details.min_final_cltv_expiry_delta = Some(24);
    details.features = details.features.with_optional(Feature::BasicMpp);
    details.route_hints = vec![RouteHint {
        hops: vec![RouteHintHop {
            node_id: node,
            short_channel_id: ShortChannelId::from_u64(700_000_000_000),
            fee_base_msat: 1_000,
            fee_proportional_millionths: 100,
            cltv_expiry_delta: CltvExpiryDelta::new(40),
        }],
    }];
    let invoice = details
        .clone()
        .into_unsigned()?
        .sign_with_key(&secp, &key)?;
    let text = invoice.to_string();
    let (_, verdict) = compare_invoice(&text);
    ensure!(verdict == Verdict::Same, "{verdict:?}");

    let build_theirs = {
        let secp = secp.clone();
        move || {
            ldk::InvoiceBuilder::new(ldk::Currency::Bitcoin)
                .description("A coffee and a piece of cake".into())
                .payment_hash(sha256::Hash::from_byte_array([1; 32]))
                .payment_secret(LdkSecret([2; 32]))
                .duration_since_epoch(Duration::from_secs(NOW))
                .min_final_cltv_expiry_delta(24)
                .amount_milli_satoshis(2_500_000)
                .expiry_time(Duration::from_secs(600))
                .basic_mpp()
                .private_route(LdkHint(vec![LdkHop {
                    src_node_id: node,
                    short_channel_id: 700_000_000_000,
                    fees: RoutingFees {
                        base_msat: 1_000,
                        proportional_millionths: 100,
                    },
                    cltv_expiry_delta: 40,
                    htlc_minimum_msat: None,
                    htlc_maximum_msat: None,
                }]))
                .build_signed(|hash| secp.sign_ecdsa_recoverable(hash, &key))
                // Fulmen's knows its payee, whom the signature gives.
                .map(|invoice| (invoice.recover_payee_pub_key(), invoice.to_string()))
        }
    };
    let (_, theirs) = build_theirs().map_err(|e| anyhow!("{e:?}"))?;
    let theirs: fulmen_invoice::Invoice = theirs.parse()?;
    ensure!(
        *theirs.details() == details,
        "the invoices say different things"
    );

    let message = Message::from_digest([3; 32]);
    let signature = secp.sign_ecdsa_recoverable(&message, &key);
    let hint = node.serialize();
    let (a, b, c, d) = (secp.clone(), secp.clone(), secp.clone(), text.clone());
    let parse = Row::new("parse a BOLT 11 invoice", move || {
        fulmen_invoice::Invoice::parse(&a, &text)
    })
    .ldk(move || d.parse::<ldk::Bolt11Invoice>())
    // Its payee, and the point in its hint.
    .floor(move || {
        (
            b.recover_ecdsa(&message, &signature),
            PublicKey::from_slice(&hint),
        )
    });
    let build = Row::new("build a BOLT 11 invoice", move || {
        let unsigned = details.clone().into_unsigned();
        unsigned
            .and_then(|unsigned| unsigned.sign_with_key(&secp, &key))
            .map(|i| i.to_string())
    })
    .ldk(build_theirs)
    .floor(move || {
        let signature = c.sign_ecdsa_recoverable(&message, &key);
        (c.recover_ecdsa(&message, &signature), signature)
    });
    Ok([parse, build])
}

fn path(g: &mut Source) -> Result<BlindedPath> {
    let hops: Vec<_> = (0..3).map(|_| (g.public_key(), vec![1; 60])).collect();
    let key = g.secret_key();
    Ok(BlindedPath {
        first_node_id: hops[0].0.into(),
        route: blind_route(g.secp(), &key, &hops)?,
    })
}

/// An offer with a path, and an invoice for it over two paths of three hops each.
fn bolt12(g: &mut Source) -> Result<Vec<Row>> {
    let (secp, key, payer) = (g.secp().clone(), g.secret_key(), g.secret_key());
    let issuer = key.public_key(&secp);
    let offer = Offer::new(&OfferFields {
        amount: Some(2_500_000),
        description: Some("A coffee and a piece of cake".into()),
        issuer: Some("cafe.example.com".into()),
        paths: Some(vec![path(g)?]),
        issuer_id: Some(issuer),
        ..OfferFields::default()
    })?;
    ensure!(
        compare_offer(offer.as_bytes()).1 == Verdict::Same,
        "the offer"
    );
    let request = RequestFields::new(vec![5; 32], payer.public_key(&secp));
    let request = offer.request(&request)?.sign_with_key(&secp, &payer)?;
    let payinfo = BlindedPayinfo {
        fee_base_msat: 1_000,
        fee_proportional_millionths: 100,
        cltv_expiry_delta: CltvExpiryDelta::new(100),
        htlc_minimum_msat: Msat::new(1),
        htlc_maximum_msat: Msat::new(1_000_000_000),
        features: Features::empty(),
    };
    let paths = (0..2)
        .map(|_| {
            Ok(PaymentPath {
                path: path(g)?,
                payinfo: payinfo.clone(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let amount = request.amount_to_invoice(None)?;
    let fields = InvoiceFields::new(NOW, PaymentHash::new([1; 32]), amount, issuer, paths);
    let invoice = request.respond(&fields)?.sign_with_key(&secp, &key)?;
    let bytes = invoice.as_bytes().to_vec();
    ensure!(
        compare_bolt12_invoice(&secp, &bytes).1 == Verdict::Same,
        "the invoice"
    );

    let keys: Vec<[u8; 33]> = offer
        .fields()
        .paths
        .iter()
        .flatten()
        .flat_map(|path| {
            path.route
                .path
                .iter()
                .map(|hop| hop.blinded_node_id.serialize())
        })
        .chain([issuer.serialize(); 3])
        .collect();
    let text = offer.to_string();
    let their_text = text.clone();
    let parse_offer = Row::new("parse a BOLT 12 offer", move || text.parse::<Offer>())
        .ldk(move || their_text.parse::<LdkOffer>())
        // Its six points.
        .floor(move || {
            let points = keys.iter().map(|key| PublicKey::from_slice(key));
            points.collect::<Result<Vec<_>, _>>()
        });

    let message = Message::from_digest([3; 32]);
    let keypair = Keypair::from_secret_key(&secp, &key);
    let signature: schnorr::Signature = secp.sign_schnorr_no_aux_rand(&message, &keypair);
    let (public, _): (XOnlyPublicKey, _) = issuer.x_only_public_key();
    let points = vec![issuer.serialize(); 18];
    let (bare, theirs) = (secp.clone(), bytes.clone());
    let parse_invoice = Row::new("parse a BOLT 12 invoice", move || {
        fulmen_offers::Invoice::from_bytes(&secp, &bytes)
    })
    .ldk(move || Bolt12Invoice::try_from(theirs.clone()))
    // Its signature and its points: six in the offer, one of the payer, ten in the paths, and its own; and
    // three tagged hashes for each of its records.
    .floor(move || {
        let hashes: Vec<_> = (0..3 * RECORDS)
            .map(|_| sha256::Hash::hash(&[5; 100]))
            .collect();
        black_box(hashes);
        let points: Result<Vec<_>, _> = points
            .iter()
            .map(|key| PublicKey::from_slice(key))
            .collect();
        (points, bare.verify_schnorr(&signature, &message, &public))
    });
    Ok(vec![parse_offer, parse_invoice])
}
