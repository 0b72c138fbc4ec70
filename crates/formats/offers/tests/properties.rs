//! Properties over generated messages and bytes.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    Amount,
    constants::ChainHash,
    secp256k1::{Keypair, Message, Secp256k1},
};
use common::*;
use fulmen_offers::*;
use fulmen_onion::{BlindedPayinfo, PaymentPath};
use fulmen_types::{
    CltvExpiryDelta, Features, Msat, PaymentPreimage, Timestamp,
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

/// An offer whose invoices need neither a blinded key nor a rate.
fn in_bitcoin_by_key(fields: OfferFields) -> OfferFields {
    OfferFields {
        currency: None,
        issuer_id: Some(public(ISSUER)),
        ..fields
    }
}

fn payinfo() -> impl Strategy<Value = BlindedPayinfo> {
    (any::<(u32, u32, u16, u64, u64)>(), features()).prop_map(
        |((base, proportional, delta, min, max), features)| BlindedPayinfo {
            fee_base_msat: base,
            fee_proportional_millionths: proportional,
            cltv_expiry_delta: CltvExpiryDelta::new(delta),
            htlc_minimum_msat: Msat::new(min),
            htlc_maximum_msat: Msat::new(max),
            features: features.unwrap_or_default(),
        },
    )
}

fn fallback() -> impl Strategy<Value = FallbackAddress> {
    (any::<u8>(), vec(any::<u8>(), 0..45))
        .prop_map(|(version, address)| FallbackAddress { version, address })
}

prop_compose! {
    /// Everything that an invoice can say, for an amount.
    fn any_answer()(
        payinfos in vec(payinfo(), 1..4),
        created_at: u64,
        relative_expiry in option::of(any::<u32>()),
        fallbacks in option::of(vec(fallback(), 0..3)),
        mpp in 0u8..3,
        low in unknown(odd(178, 234)),
        high in unknown(odd(3_000_000_000, u64::MAX - 1)),
    ) -> InvoiceFields {
        let path = payment_path();
        let mpp = [Mpp::Forbidden, Mpp::Optional, Mpp::Compulsory][usize::from(mpp)];
        InvoiceFields {
            paths: payinfos
                .into_iter()
                .map(|payinfo| PaymentPath { path: path.path.clone(), payinfo })
                .collect(),
            created_at,
            relative_expiry,
            fallbacks,
            features: mpp.to_features(),
            unknown: low.into_iter().chain(high).collect(),
            ..invoice_fields(0)
        }
    }
}

fn any_uri() -> impl Strategy<Value = PaymentUri> {
    const ADDRESSES: &[&str] = &[
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
    ];
    let address = prop::sample::select(ADDRESSES).prop_map(|text| text.parse().unwrap());
    let segwit = prop::sample::select(&ADDRESSES[1..]).prop_map(|text| text.parse().unwrap());
    let instruction = prop_oneof![
        any::<String>().prop_map(PaymentInstruction::Invoice),
        any::<String>().prop_map(PaymentInstruction::Offer),
        any::<String>().prop_map(PaymentInstruction::SilentPayment),
        any::<String>().prop_map(PaymentInstruction::PrivatePayment),
        segwit.prop_map(PaymentInstruction::Address),
    ];
    let pop = (any::<String>(), any::<bool>()).prop_map(|(text, is_required)| ProofOfPayment {
        prefix: format!("app:{text}"),
        is_required,
    });
    (
        option::of(address),
        option::of(0..=Amount::MAX_MONEY.to_sat()),
        option::of(any::<String>()),
        option::of(any::<String>()),
        option::of(pop),
        vec(instruction, 1..4),
        vec(("x[^A-Z]{0,8}", option::of(any::<String>())), 0..3),
    )
        .prop_map(
            |(address, sat, label, message, pop, instructions, others)| PaymentUri {
                address,
                amount: sat.map(Amount::from_sat),
                label,
                message,
                pop,
                instructions,
                others,
            },
        )
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
    fn from_offer_to_payment(
        (fields, asked) in any_offer().prop_flat_map(any_request),
        answer in any_answer(),
        price in 1u64..1 << 50,
    ) {
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
        let answer = InvoiceFields { amount, ..answer };
        let invoice = request.respond(&answer).unwrap().sign_with_key(&secp, &key(ISSUER)).unwrap();
        prop_assert_eq!(invoice.invoice(), &answer);
        prop_assert_eq!(Invoice::from_bytes(&secp, invoice.as_bytes()), Ok(invoice.clone()));
        let agreement = Agreement { sent_to: None, amount_max: Some(amount) };
        prop_assert_eq!(invoice.check_response(&request, &agreement), Ok(()));
        let created_at = Timestamp::from_secs(answer.created_at);
        prop_assert_eq!(invoice.check(chain, created_at), Ok(()));

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
    fn what_is_changed_and_signed_anew_is_read_or_refused(
        answer in any_answer(),
        kind in prop_oneof![160u64..180, 0u64..250, odd(1_000_000_000, 4_000_000_000)],
        value in prop_oneof![vec(any::<u8>(), 0..4), vec(any::<u8>(), 32..34)],
        at: prop::sample::Index,
        bit in 0u8..8,
        flip: bool,
    ) {
        let secp = Secp256k1::new();
        let request = request(&offer(&priced(10)), &request_fields());
        let answer = InvoiceFields { amount: Msat::new(10), ..answer };
        let invoice = request.respond(&answer).unwrap().sign_with_key(&secp, &key(ISSUER)).unwrap();
        let mut changed = records(invoice.as_bytes());
        changed.remove(&240);
        match changed.get_mut(&kind) {
            // One bit, in whatever field.
            Some(value) if flip && !value.is_empty() => {
                let at = at.index(value.len());
                value[at] ^= 1 << bit;
            }
            _ => _ = changed.insert(kind, value),
        }
        let hash = signature_hash("invoice", "signature", &merkle_root(&stream(&changed)).unwrap());
        let keypair = Keypair::from_secret_key(&secp, &key(ISSUER));
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash), &keypair);
        changed.insert(240, signature.serialize().to_vec());
        if let Ok(read) = Invoice::from_bytes(&secp, &stream(&changed)) {
            let is_answer = read.check_response(&request, &Agreement::default()).is_ok();
            prop_assert_eq!(is_answer, read.request() == request.request()
                && read.offer() == request.offer() && read.invoice().amount == answer.amount);
            // Whatever it says can be said again, to the byte.
            if is_answer && !(240..=999_999_999).contains(&kind) {
                let again = request.respond(read.invoice()).unwrap();
                let again = again.sign_with_key(&secp, &key(ISSUER)).unwrap();
                prop_assert_eq!(again.as_bytes(), read.as_bytes());
            }
        }
    }

    #[test]
    fn static_invoices_round_trip(about in any_offer(), said in any_answer()) {
        let secp = Secp256k1::new();
        let about = OfferFields {
            chains: about.chains.map(|_| vec![ChainHash::REGTEST]),
            paths: Some(vec![path(1, 2)]),
            issuer_id: Some(public(ISSUER)),
            ..about
        };
        let said = StaticInvoiceFields {
            relative_expiry: said.relative_expiry,
            fallbacks: said.fallbacks,
            features: said.features,
            unknown: said.unknown,
            ..StaticInvoiceFields::new(said.created_at, said.node_id, said.paths, vec![path(3, 4)])
        };
        let offer = Offer::new(&about).unwrap();
        let invoice = offer.static_invoice(&said).unwrap().sign_with_key(&secp, &key(ISSUER)).unwrap();
        prop_assert_eq!((invoice.offer(), invoice.invoice()), (&about, &said));
        prop_assert_eq!(StaticInvoice::from_bytes(&secp, invoice.as_bytes()), Ok(invoice));
    }

    #[test]
    fn proofs_show_what_was_chosen(
        (fields, asked) in any_offer().prop_map(in_bitcoin_by_key).prop_flat_map(any_request),
        answer in any_answer(),
        choice in vec(any::<bool>(), 60),
        note in option::of(any::<String>()),
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let secp = Secp256k1::new();
        let request = request(&Offer::new(&fields).unwrap(), &asked);
        let amount = request.amount_to_invoice(None).unwrap();
        let answer = InvoiceFields { amount, ..answer };
        let invoice = request.respond(&answer).unwrap().sign_with_key(&secp, &key(ISSUER)).unwrap();
        let held = records(invoice.as_bytes());
        let types = held
            .keys()
            .zip(choice)
            .filter(|(kind, shown)| *shown && **kind < 3_999_999_999 && ![0, 240].contains(*kind))
            .map(|(kind, _)| *kind)
            .collect();
        let disclosure = Disclosure { types, note };
        let proof = invoice
            .prove(PaymentPreimage::new([1; 32]), &disclosure)
            .unwrap()
            .sign_with_key(&secp, &key(PAYER))
            .unwrap();
        let root = merkle_root(invoice.as_bytes()).unwrap();
        prop_assert_eq!(proof.invoice_merkle_root(), &root);
        prop_assert_eq!(proof.note(), disclosure.note.as_deref());
        for (kind, value) in &held {
            let is_shown = disclosure.types.contains(kind) || [88, 168, 174, 176, 240].contains(kind);
            prop_assert_eq!(proof.field(*kind), is_shown.then_some(value.as_slice()));
        }
        prop_assert_eq!(proof.to_string().parse(), Ok(proof.clone()));
        let mut bytes = proof.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(PayerProof::from_bytes(&secp, &bytes).is_err());
        prop_assert!(PayerProof::from_bytes(&secp, &bytes[..at]).is_err());
    }

    #[test]
    fn uris_round_trip(uri in any_uri()) {
        let text = uri.to_string();
        prop_assert_eq!(text.parse(), Ok(uri.clone()));
        prop_assert_eq!(PaymentUri::from_txt_records([&uri.to_txt_record()[..]]), Ok(uri));
    }

    #[test]
    fn names_round_trip(name in "[0-9a-zA-Z_-]{1,63}", domain in "[0-9a-zA-Z_-]{1,63}(\\.[a-z]{1,20}){0,3}") {
        let typed: Bip353Name = format!("\u{20bf}{name}@{domain}").parse().unwrap();
        prop_assert_eq!((typed.name(), typed.domain()), (&name[..], &domain[..]));
        prop_assert_eq!(typed.to_string().parse(), Ok(typed.clone()));
        prop_assert_eq!(Bip353Name::from_bytes(&typed.to_bytes()), Ok(typed));
    }

    #[test]
    fn parts_round_trip(payinfo in payinfo(), fallback in fallback(), code in "[A-Z]{3}") {
        prop_assert_eq!(BlindedPayinfo::from_bytes(&payinfo.to_bytes()), Ok(payinfo));
        let _ = fallback.script_pubkey();
        prop_assert_eq!(FallbackAddress::from_bytes(&fallback.to_bytes()), Ok(fallback));
        let code: CurrencyCode = code.parse().unwrap();
        prop_assert_eq!(CurrencyCode::from_bytes(&code.to_bytes()), Ok(code));
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
        prop_assert!(StaticInvoice::from_bytes(&secp, &bytes).is_err());
        prop_assert!(PayerProof::from_bytes(&secp, &bytes).is_err());
        if let Ok(error) = InvoiceError::from_bytes(&bytes) {
            prop_assert_eq!(InvoiceError::from_bytes(&error.to_bytes()), Ok(error));
        }
    }

    #[test]
    fn any_bytes_and_texts_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), text: String) {
        let secp = Secp256k1::verification_only();
        if let Ok(offer) = Offer::from_bytes(&bytes) {
            prop_assert_eq!(offer.as_bytes(), bytes.as_slice());
        }
        let _ = InvoiceRequest::from_bytes(&secp, &bytes);
        let _ = Invoice::from_bytes(&secp, &bytes);
        let _ = StaticInvoice::from_bytes(&secp, &bytes);
        let _ = PayerProof::from_bytes(&secp, &bytes);
        let _ = merkle_root(&bytes);
        let _ = PaymentUri::from_txt_records([&bytes[..]]);
        if let Ok(name) = Bip353Name::from_bytes(&bytes) {
            prop_assert_eq!(name.to_bytes(), bytes.as_slice());
        }
        let query = format!("bitcoin:?lno=a&{text}");
        for uri in [&text, &query].into_iter().flat_map(|text| text.parse::<PaymentUri>()) {
            let _ = uri.to_qr_text();
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }
        let _ = text.parse::<Offer>();
        let _ = format!("lno1{text}").parse::<Offer>();
        let _ = text.parse::<Bip353Name>();
    }
}
