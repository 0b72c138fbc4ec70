//! Properties over generated messages and bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{constants::ChainHash, secp256k1::Secp256k1};
use common::*;
use fulmen_offers::*;
use fulmen_types::{
    Features, Msat, Timestamp,
    codec::{Decode, Encode},
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};

fn features() -> impl Strategy<Value = Option<Features>> {
    option::of(vec(0u32..100, 0..4).prop_map(|bits| {
        let mut features = Features::empty();
        bits.iter().for_each(|bit| features.set_bit(2 * bit + 1));
        features
    }))
}

fn unknown(kinds: impl Strategy<Value = u64>) -> impl Strategy<Value = Vec<UnknownField>> {
    btree_map(kinds, vec(any::<u8>(), 0..20), 0..3).prop_map(|fields| {
        fields
            .into_iter()
            .map(|(kind, value)| UnknownField { kind, value })
            .collect()
    })
}

fn odd(from: u64, to: u64) -> impl Strategy<Value = u64> {
    (from / 2..to / 2).prop_map(|half| 2 * half + 1)
}

prop_compose! {
    fn any_offer()(
        metadata in option::of(vec(any::<u8>(), 0..40)),
        currency in option::of(any::<[u8; 3]>()),
        amount in option::of(1u64..1 << 56),
        description in any::<String>(),
        features in features(),
        absolute_expiry in option::of(NOW..),
        issuer in option::of(any::<String>()),
        quantity_max in option::of(0u64..100),
        by_path in 0u8..3,
        on_regtest: bool,
        low in unknown(odd(24, 78)),
        high in unknown(odd(1_000_000_000, 2_000_000_000)),
    ) -> OfferFields {
        OfferFields {
            chains: on_regtest.then(|| vec![ChainHash::SIGNET, ChainHash::REGTEST]),
            metadata,
            currency: currency
                .filter(|_| amount.is_some())
                .map(|code| CurrencyCode::new(code.map(|b| b'A' + b % 26)).unwrap()),
            amount,
            description: Some(description),
            features,
            absolute_expiry,
            paths: (by_path > 0).then(|| vec![path(1, 2), path(4, 5)]),
            issuer,
            quantity_max,
            issuer_id: (by_path < 2).then(|| public(ISSUER)),
            unknown: low.into_iter().chain(high).collect(),
        }
    }
}

prop_compose! {
    fn any_request(fields: OfferFields)(
        metadata in vec(any::<u8>(), 16..40),
        extra in 0u64..1_000,
        quantity in 1u64..100,
        features in features(),
        payer_note in option::of(any::<String>()),
        unknown in unknown(odd(92, 158)),
        fields in Just(fields),
    ) -> (OfferFields, RequestFields) {
        let quantity = fields.quantity_max.map(|max| if max == 0 { quantity } else { quantity.min(max) });
        let price = fields.amount.filter(|_| fields.currency.is_none());
        let total = price.map_or(1, |price| price.saturating_mul(quantity.unwrap_or(1)));
        let mut request = RequestFields::new(metadata, public(PAYER));
        request.chain = fields.chains.as_ref().map(|_| ChainHash::REGTEST);
        request.quantity = quantity;
        // Overpaid now and then, named where it must be.
        if fields.amount.is_none() || extra % 2 == 0 {
            request.amount = Some(Msat::new(total.saturating_add(extra)));
        }
        request.features = features;
        request.payer_note = payer_note;
        request.unknown = unknown;
        (fields, request)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn offers_round_trip(fields in any_offer(), cuts in vec((any::<prop::sample::Index>(), 0usize..3), 0..4)) {
        let offer = Offer::new(&fields).unwrap();
        prop_assert_eq!(offer.fields(), &fields);
        prop_assert_eq!(Offer::from_bytes(offer.as_bytes()), Ok(offer.clone()));
        let mut text = offer.to_string();
        prop_assert_eq!(text.parse(), Ok(offer.clone()));
        prop_assert_eq!(text.to_uppercase().parse(), Ok(offer.clone()));
        for (at, spaces) in cuts {
            // Between two letters; never beside another cut.
            let at = 1 + at.index(text.len() - 1);
            let letters = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric());
            if letters(&text[at - 1..=at]) {
                text.insert_str(at, &format!("+{}", " \n\t".repeat(spaces)));
            }
        }
        prop_assert_eq!(text.parse(), Ok(offer.clone()));
    }

    #[test]
    fn from_offer_to_payment((fields, asked) in any_offer().prop_flat_map(any_request), price in 1u64..1 << 50) {
        let secp = Secp256k1::new();
        let offer = Offer::new(&fields).unwrap();
        let request = request(&offer, &asked);
        prop_assert_eq!(request.offer(), &fields);
        prop_assert_eq!(request.request(), &asked);
        prop_assert_eq!(request.check_offer(&offer), Ok(()));
        let chain = asked.payment_chain();
        prop_assert_eq!(request.check(chain, Timestamp::from_secs(NOW)), Ok(()));
        prop_assert_eq!(InvoiceRequest::from_bytes(&secp, request.as_bytes()), Ok(request.clone()));

        // By path alone the key is a blinded one, which `rules.rs` has.
        prop_assume!(fields.issuer_id.is_some());
        let item_price = fields.currency.map(|_| Msat::new(price));
        let Ok(amount) = request.amount_to_invoice(item_price) else {
            // Only a price in a currency can be above what the request names.
            prop_assert!(fields.currency.is_some() && asked.amount.is_some());
            return Ok(());
        };
        let answer = InvoiceFields { amount, ..invoice_fields(0) };
        let invoice = request.respond(&answer).unwrap().sign_with_key(&secp, &key(ISSUER)).unwrap();
        prop_assert_eq!(invoice.invoice(), &answer);
        prop_assert_eq!(Invoice::from_bytes(&secp, invoice.as_bytes()), Ok(invoice.clone()));
        let agreement = Agreement { sent_to: None, amount_max: Some(amount) };
        prop_assert_eq!(invoice.check_response(&request, &agreement), Ok(()));
        prop_assert_eq!(invoice.check(chain, Timestamp::from_secs(NOW)), Ok(()));

        // Another request, another answer.
        let mut other = asked;
        other.metadata[0] ^= 1;
        let other = common::request(&offer, &other);
        prop_assert_eq!(
            invoice.check_response(&other, &agreement),
            Err(CheckError::NotThisRequest(0))
        );
    }

    #[test]
    fn a_signed_message_changed_anywhere_is_refused(at: prop::sample::Index, bit in 0u8..8) {
        let secp = Secp256k1::new();
        let request = request(&offer(&priced(10)), &request_fields());
        let mut bytes = request.as_bytes().to_vec();
        let at_request = at.index(bytes.len());
        bytes[at_request] ^= 1 << bit;
        prop_assert!(InvoiceRequest::from_bytes(&secp, &bytes).is_err());
        let invoice = request.respond(&invoice_fields(10)).unwrap();
        let invoice = invoice.sign_with_key(&secp, &key(ISSUER)).unwrap();
        let mut bytes = invoice.as_bytes().to_vec();
        let at_invoice = at.index(bytes.len());
        bytes[at_invoice] ^= 1 << bit;
        prop_assert!(Invoice::from_bytes(&secp, &bytes).is_err());
        let mut truncated = invoice.as_bytes().to_vec();
        truncated.truncate(at_invoice);
        prop_assert!(Invoice::from_bytes(&secp, &truncated).is_err());
    }

    #[test]
    fn errors_round_trip(number in option::of(any::<u64>()), value in option::of(vec(any::<u8>(), 0..20)), error: String) {
        let error = InvoiceError {
            erroneous_field: number.map(|tlv_fieldnum| ErroneousField { tlv_fieldnum, suggested_value: value }),
            error,
        };
        prop_assert_eq!(InvoiceError::from_bytes(&error.to_bytes()), Ok(error));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_fields_are_read_or_refused(
        fields in btree_map(
            prop_oneof![
                prop::sample::select(Field::ALL).prop_map(Field::number),
                0u64..260,
                odd(1_000_000_000, 3_000_000_000),
            ],
            prop_oneof![vec(any::<u8>(), 0..4), vec(any::<u8>(), 32..34), vec(2u8..4, 0..120)],
            0..12,
        ),
        lno: bool,
    ) {
        let secp = Secp256k1::verification_only();
        let mut fields = fields;
        if lno {
            fields.retain(|kind, _| *kind < 80 || *kind >= 1_000_000_000);
            fields.insert(22, public(3).serialize().to_vec());
        }
        let bytes = stream(&fields);
        if let Ok(offer) = Offer::from_bytes(&bytes) {
            prop_assert_eq!(offer.as_bytes(), bytes.as_slice());
            let again = Offer::new(offer.fields()).unwrap();
            prop_assert_eq!(again.as_bytes(), bytes.as_slice());
        }
        if let Ok(request) = InvoiceRequest::from_bytes(&secp, &bytes) {
            prop_assert!(request.is_refund());
        }
        prop_assert!(Invoice::from_bytes(&secp, &bytes).is_err());
        let _ = InvoiceError::from_bytes(&bytes);
    }

    #[test]
    fn any_bytes_and_texts_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), text: String) {
        let secp = Secp256k1::verification_only();
        if let Ok(offer) = Offer::from_bytes(&bytes) {
            prop_assert_eq!(offer.as_bytes(), bytes.as_slice());
        }
        let _ = InvoiceRequest::from_bytes(&secp, &bytes);
        let _ = Invoice::from_bytes(&secp, &bytes);
        let _ = merkle_root(&bytes);
        let _ = text.parse::<Offer>();
        let _ = format!("lno1{text}").parse::<Offer>();
        let _ = text.parse::<Bip353Name>();
    }
}
