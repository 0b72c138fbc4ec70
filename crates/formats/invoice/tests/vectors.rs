//! The official vectors of BOLT 11.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    Network,
    hex::{DisplayHex, FromHex},
    secp256k1::{Secp256k1, SecretKey},
};
use common::{Item, items};
use fulmen_invoice::{Currency, Description, Field, Invoice, ParseError};
use fulmen_types::{FeatureError, Timestamp};
use fulmen_vectors::report;

#[test]
fn vectors_of_valid_invoices() {
    let secp = Secp256k1::new();
    let key = SecretKey::from_slice(
        &Vec::from_hex("e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734").unwrap(),
    )
    .unwrap();
    let items = items(include_str!("../vectors/bolt11-valid.txt"));
    assert_eq!(items.len(), 16);
    let mut rebuilt = 0;
    for item in &items {
        let name = item.get("name").unwrap();
        let text = item.get("invoice").unwrap();
        let invoice = Invoice::parse(&secp, text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(invoice.to_string(), text.to_lowercase(), "{name}");
        assert_eq!(text.parse().as_ref(), Ok(&invoice));
        check(&invoice, item, name);
        // What we write from the same details says the same, and if the order of fields is the same,
        // letter for letter.
        let details = invoice.details().clone();
        let unsigned = details.clone().into_unsigned().unwrap();
        if item.get("rebuild").is_some() {
            rebuilt += 1;
            if let Some(hash) = item.get("hash") {
                assert_eq!(
                    unsigned.signable_hash().to_lower_hex_string(),
                    hash,
                    "{name}"
                );
            }
        }
        let ours = unsigned.sign_with_key(&secp, &key).unwrap();
        if item.get("rebuild").is_some() {
            assert_eq!(ours, invoice, "{name}");
        }
        let again = Invoice::parse(&secp, ours.as_str()).unwrap();
        assert_eq!(*again.details(), details, "{name}");
    }
    assert_eq!(rebuilt, 6);
    report(11, "valid invoices", items.len());
}

fn check(invoice: &Invoice, item: &Item<'_>, name: &str) {
    let details = invoice.details();
    let currency = match item.get("currency") {
        Some("tb") => Currency::Testnet,
        Some(other) => panic!("{other}"),
        None => Currency::Bitcoin,
    };
    assert_eq!(details.currency, currency, "{name}");
    assert_eq!(
        details.amount.map(|a| a.to_msat()),
        item.number("amount"),
        "{name}"
    );
    let timestamp = item.number("timestamp").unwrap_or(1_496_314_658);
    assert_eq!(details.made_at(), Timestamp::from_secs(timestamp), "{name}");
    let hash = "0001020304050607080900010203040506070809000102030405060708090102";
    assert_eq!(
        details.payment_hash.to_string(),
        item.get("payment_hash").unwrap_or(hash)
    );
    let secret = details.payment_secret.unwrap();
    assert_eq!(secret.as_bytes(), &[0x11; 32], "{name}");
    match &details.description {
        Description::Text(text) => {
            assert_eq!(Some(text.as_str()), item.get("description"), "{name}");
        }
        Description::Hash(hash) => {
            assert_eq!(
                Some(hash.to_string().as_str()),
                item.get("description_hash"),
                "{name}"
            );
        }
    }
    assert_eq!(details.expiry_secs, item.number("expiry"), "{name}");
    assert_eq!(
        details.min_final_cltv_expiry_delta,
        item.number("min_final_cltv_expiry_delta"),
        "{name}"
    );
    let metadata = item.get("metadata").map(|hex| Vec::from_hex(hex).unwrap());
    assert_eq!(details.payment_metadata, metadata, "{name}");
    let features: Vec<String> = details.features.bits().map(|bit| bit.to_string()).collect();
    assert_eq!(
        features.join(" "),
        item.get("features").unwrap_or("8 14"),
        "{name}"
    );
    let network = if currency == Currency::Testnet {
        Network::Testnet
    } else {
        Network::Bitcoin
    };
    let fallbacks: Vec<String> = details
        .fallbacks
        .iter()
        .map(|fallback| fallback.to_address(network).to_string())
        .collect();
    assert_eq!(fallbacks, item.all("fallback"), "{name}");
    let hops: Vec<String> = details
        .route_hints
        .iter()
        .flat_map(|hint| &hint.hops)
        .map(|hop| {
            format!(
                "{} {} {} {} {}",
                hop.node_id,
                hop.short_channel_id,
                hop.fee_base_msat,
                hop.fee_proportional_millionths,
                hop.cltv_expiry_delta
            )
        })
        .collect();
    assert_eq!(hops, item.all("hop"), "{name}");
    let skipped = item.number("skipped").unwrap_or(0);
    assert_eq!(details.skipped_fields.len() as u64, skipped, "{name}");
    let (_, compact) = invoice.signature().serialize_compact();
    if let Some(signature) = item.get("signature") {
        assert_eq!(compact.to_lower_hex_string(), signature, "{name}");
    }
    if let Some(payee) = item.get("payee") {
        assert_eq!(invoice.payee().to_string(), payee, "{name}");
    } else {
        assert!(item.get("high_s").is_some(), "{name}");
    }
}

#[test]
fn vectors_of_invalid_invoices() {
    let secp = Secp256k1::new();
    let items = items(include_str!("../vectors/bolt11-invalid.txt"));
    let expected = [
        ParseError::Features(FeatureError::UnknownRequired(100)),
        ParseError::Checksum,
        ParseError::NoSeparator,
        ParseError::MixedCase,
        ParseError::NotRecoverable,
        ParseError::TooShort,
        ParseError::UnknownMultiplier('x'),
        ParseError::SubMillisatoshi,
        ParseError::MissingField(Field::PaymentSecret),
        ParseError::HighS,
    ];
    assert_eq!((items.len(), expected.len()), (10, 10));
    for (item, expected) in items.iter().zip(expected) {
        let parsed = Invoice::parse(&secp, item.get("invoice").unwrap());
        assert_eq!(parsed, Err(expected), "{}", item.get("name").unwrap());
    }
    report(11, "invalid invoices", items.len());
}
