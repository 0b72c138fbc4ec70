//! Properties over generated invoices and texts.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    PubkeyHash, ScriptHash, WitnessProgram, WitnessVersion,
    hashes::{Hash, sha256},
    secp256k1::{PublicKey, Secp256k1, SecretKey},
};
use fulmen_invoice::{
    Currency, Description, Fallback, Invoice, InvoiceDetails, RawField, RouteHint, RouteHintHop,
};
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedHop, BlindedPath, BlindedRoute},
};
use fulmen_types::{
    CltvExpiryDelta, Feature, Features, Msat, PaymentHash, PaymentSecret, ShortChannelId, Timestamp,
};
use proptest::{collection::vec, option, prelude::*};

fn secret_key() -> impl Strategy<Value = SecretKey> {
    any::<[u8; 32]>().prop_filter_map("no key", |bytes| SecretKey::from_slice(&bytes).ok())
}

fn currency() -> impl Strategy<Value = Currency> {
    prop_oneof![
        Just(Currency::Bitcoin),
        Just(Currency::Testnet),
        Just(Currency::Signet),
        Just(Currency::Regtest)
    ]
}

fn description() -> impl Strategy<Value = Description> {
    prop_oneof![
        "\\PC{0,150}".prop_map(Description::Text),
        any::<[u8; 32]>().prop_map(|bytes| Description::Hash(sha256::Hash::from_byte_array(bytes))),
    ]
}

fn fallback() -> impl Strategy<Value = Fallback> {
    prop_oneof![
        any::<[u8; 20]>().prop_map(|h| Fallback::PubkeyHash(PubkeyHash::from_byte_array(h))),
        any::<[u8; 20]>().prop_map(|h| Fallback::ScriptHash(ScriptHash::from_byte_array(h))),
        prop_oneof![
            any::<[u8; 20]>().prop_map(|p| p.to_vec()),
            any::<[u8; 32]>().prop_map(|p| p.to_vec())
        ]
        .prop_map(|program| {
            Fallback::Witness(WitnessProgram::new(WitnessVersion::V0, &program).unwrap())
        }),
        (1u8..=16, vec(any::<u8>(), 2..=40)).prop_map(|(version, program)| {
            let version = WitnessVersion::try_from(version).unwrap();
            Fallback::Witness(WitnessProgram::new(version, &program).unwrap())
        }),
    ]
}

fn hint() -> impl Strategy<Value = RouteHint> {
    vec((secret_key(), any::<(u64, u32, u32, u16)>()), 1..=3).prop_map(|hops| RouteHint {
        hops: hops
            .into_iter()
            .map(|(key, (scid, base, proportional, delta))| RouteHintHop {
                node_id: PublicKey::from_secret_key(&Secp256k1::new(), &key),
                short_channel_id: ShortChannelId::from_u64(scid),
                fee_base_msat: base,
                fee_proportional_millionths: proportional,
                cltv_expiry_delta: CltvExpiryDelta::new(delta),
            })
            .collect(),
    })
}

fn features() -> impl Strategy<Value = Features> {
    vec(0u32..400, 0..6).prop_map(|bits| {
        let mut features = Features::empty().with_required(Feature::PaymentSecret);
        bits.into_iter().for_each(|bit| features.set_bit(bit | 1));
        features
    })
}

fn skipped() -> impl Strategy<Value = RawField> {
    prop_oneof![
        (
            prop::sample::select(vec![0u8, 2, 4, 7, 8, 10, 31]),
            vec(0u8..32, 0..60)
        ),
        (
            prop::sample::select(vec![1u8, 16, 19, 23]),
            vec(0u8..32, 0..52)
        ),
        (Just(9u8), vec(19u8..32, 1..40)),
    ]
    .prop_map(|(tag, data)| RawField { tag, data })
}

fn blinded_path() -> impl Strategy<Value = PaymentPath> {
    let hop = (secret_key(), vec(any::<u8>(), 0..120));
    (
        secret_key(),
        vec(hop, 1..4),
        any::<(u32, u32, u16, u64, u64)>(),
        vec(any::<u8>(), 0..10),
    )
        .prop_map(|(path_key, hops, numbers, features)| {
            let secp = Secp256k1::new();
            let public = |key: &SecretKey| PublicKey::from_secret_key(&secp, key);
            let (base, proportional, delta, min, max) = numbers;
            PaymentPath {
                path: BlindedPath {
                    first_node_id: public(&hops[0].0).into(),
                    route: BlindedRoute {
                        first_path_key: public(&path_key),
                        path: hops
                            .into_iter()
                            .map(|(key, encrypted_recipient_data)| BlindedHop {
                                blinded_node_id: public(&key),
                                encrypted_recipient_data,
                            })
                            .collect(),
                    },
                },
                payinfo: BlindedPayinfo {
                    fee_base_msat: base,
                    fee_proportional_millionths: proportional,
                    cltv_expiry_delta: CltvExpiryDelta::new(delta),
                    htlc_minimum_msat: Msat::new(min),
                    htlc_maximum_msat: Msat::new(max),
                    features: Features::from_be_bytes(&features),
                },
            }
        })
}

prop_compose! {
    fn details()(
        currency in currency(),
        amount in option::of(1..=Msat::MAX_MONEY.to_msat()),
        timestamp_secs in 0u64..1 << 35,
        (hash, secret) in any::<([u8; 32], [u8; 32])>(),
        description in description(),
        payment_metadata in option::of(vec(any::<u8>(), 0..=639)),
        expiry_secs in option::of(any::<u64>()),
        min_final_cltv_expiry_delta in option::of(any::<u64>()),
        fallbacks in vec(fallback(), 0..3),
        route_hints in vec(hint(), 0..3),
        features in features(),
        skipped_fields in vec(skipped(), 0..3),
        blinded_paths in prop_oneof![Just(vec![]), vec(blinded_path(), 1..3)],
    ) -> InvoiceDetails {
        // bLIP 39: paths take the place of the secret and of hints.
        let is_blinded = !blinded_paths.is_empty();
        let secret = PaymentSecret::new(secret);
        InvoiceDetails {
            payment_secret: (!is_blinded).then_some(secret),
            blinded_paths,
            amount: amount.map(Msat::new),
            timestamp_secs,
            payment_metadata,
            expiry_secs,
            min_final_cltv_expiry_delta,
            fallbacks,
            route_hints: if is_blinded { vec![] } else { route_hints },
            features,
            skipped_fields,
            ..InvoiceDetails::new(
                currency,
                Timestamp::from_secs(0),
                PaymentHash::new(hash),
                secret,
                description,
            )
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_built_is_read(mut details in details(), key in secret_key(), named in any::<bool>()) {
        let secp = Secp256k1::new();
        let payee = PublicKey::from_secret_key(&secp, &key);
        details.payee = named.then_some(payee);
        let invoice = details.clone().into_unsigned().unwrap().sign_with_key(&secp, &key).unwrap();
        let parsed = Invoice::parse(&secp, &invoice.to_string()).unwrap();
        prop_assert_eq!(&parsed, &invoice);
        prop_assert_eq!(parsed.details(), &details);
        prop_assert_eq!(parsed.payee(), payee);
        let _ = parsed.summary(Timestamp::from_secs(details.timestamp_secs)).to_string();
        for hint in &details.route_hints {
            let _ = hint.amount_at_start(details.amount.unwrap_or(Msat::MAX));
        }
        prop_assert!(!parsed.details().is_expired(parsed.details().made_at()));
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "\\PC{0,300}") {
        prop_assert!(text.parse::<Invoice>().is_err());
    }

    #[test]
    fn arbitrary_data_never_panic(
        hrp in "ln(bc|tb|tbs|bcrt)[0-9]{0,25}[munp]?",
        data in vec(0u8..32, 0..400),
    ) {
        // A right checksum lets everything behind it be reached; no signature fits.
        let text = common::text(&hrp, &data);
        if let Ok(invoice) = text.parse::<Invoice>() {
            let _ = invoice.summary(Timestamp::from_secs(0)).to_string();
            prop_assert_eq!(invoice.to_string(), text);
        }
    }

    #[test]
    fn what_is_changed_and_signed_anew_is_read_or_refused(
        details in details(),
        changes in vec((any::<prop::sample::Index>(), 0u8..32, 0u8..3), 1..4),
    ) {
        let invoice = common::sign(details);
        let (hrp, data) = invoice.as_str().rsplit_once('1').unwrap();
        // Between timestamp and signature.
        let mut fields: Vec<u8> = data[7..data.len() - 104 - 6]
            .chars()
            .map(|c| bech32::Fe32::from_char(c).unwrap().to_u8())
            .collect();
        for (at, quintet, how) in changes {
            let at = at.index(fields.len());
            match how {
                0 => fields[at] = quintet,
                1 => fields.insert(at, quintet),
                _ => _ = fields.remove(at),
            }
        }
        let text = common::raw_invoice(hrp, &[fields]);
        if let Ok(read) = common::parse(&text) {
            prop_assert_eq!(read.as_str(), &text);
            // Written again it says the same.
            let again = read.details().clone().into_unsigned().unwrap();
            prop_assert_eq!(again.details(), read.details());
            if read.details().payee.is_none() {
                let again = common::sign(read.details().clone());
                let again = common::parse(again.as_str()).unwrap();
                prop_assert_eq!(again.details(), read.details());
            }
        }
    }

    #[test]
    fn mutated_invoices_never_panic(details in details(), at in any::<prop::sample::Index>(), quintet in 0u8..32) {
        let secp = Secp256k1::new();
        let key = SecretKey::from_slice(&[7; 32]).unwrap();
        let Ok(unsigned) = details.into_unsigned() else { return Ok(()) };
        let text = unsigned.sign_with_key(&secp, &key).unwrap().to_string();
        let (hrp, data) = text.rsplit_once('1').unwrap();
        let mut data: Vec<u8> = data[..data.len() - 6]
            .chars()
            .map(|c| bech32::Fe32::from_char(c).unwrap().to_u8())
            .collect();
        let at = at.index(data.len());
        data[at] = quintet;
        let _ = common::text(hrp, &data).parse::<Invoice>();
    }
}
