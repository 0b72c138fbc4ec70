//! The official vectors of BOLT 12.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    hashes::{Hash, HashEngine, sha256},
    hex::{DisplayHex, FromHex},
    secp256k1::{Secp256k1, SecretKey},
};
use common::{Item, items};
use fulmen_offers::{
    Bip353Name, Disclosure, Field, Invoice, InvoiceRequest, Offer, OfferFields, ParseError,
    PayerProof, PaymentUri, RequestFields, TextError, TxtError, UriError, merkle_root,
    signature_hash,
};
use fulmen_types::{
    PaymentPreimage,
    codec::{BigSize, DecodeError, Encode, TlvReader},
};
use fulmen_vectors::report;

#[test]
fn vectors_of_valid_offers() {
    let items = items(include_str!("../vectors/bolt12-offers.txt"));
    let valid: Vec<&Item<'_>> = items.iter().filter(|i| i.get("valid").is_some()).collect();
    assert_eq!(valid.len(), 20);
    for item in &valid {
        let name = item.text("name");
        let text = item.text("valid");
        let offer: Offer = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(offer.to_string(), text, "{name}");
        assert_eq!(fields_of(offer.as_bytes()), item.all("field"), "{name}");
        // The fields are the whole of it: they make the same offer again.
        assert_eq!(Offer::new(offer.fields()).as_ref(), Ok(&offer), "{name}");
    }
    report(12, "offers-test, valid", valid.len());
}

#[test]
fn what_valid_offers_say() {
    let items = items(include_str!("../vectors/bolt12-offers.txt"));
    let fields = |name: &str| -> OfferFields {
        let item = items
            .iter()
            .find(|i| i.text("name").starts_with(name))
            .unwrap_or_else(|| panic!("{name}"));
        let offer: Offer = item.text("valid").parse().unwrap();
        offer.fields().clone()
    };
    let issuer = Some("02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619");
    let minimal = fields("Minimal bolt12 offer");
    assert_eq!(
        minimal.issuer_id.map(|id| id.to_string()).as_deref(),
        issuer
    );
    assert_eq!(
        fields("with description (but no amount)")
            .description
            .as_deref(),
        Some("Test vectors")
    );
    assert_eq!(fields("with amount").amount, Some(10_000));
    let currency = fields("with currency");
    assert_eq!(currency.currency, Some("USD".parse().unwrap()));
    assert_eq!(fields("with expiry").absolute_expiry, Some(2_051_184_600));
    assert_eq!(
        fields("with issuer").issuer.as_deref(),
        Some("https://bolt12.org BOLT12 industries")
    );
    assert_eq!(fields("with quantity").quantity_max, Some(5));
    assert_eq!(
        fields("with unlimited (or unknown) quantity").quantity_max,
        Some(0)
    );
    let features = fields("with feature").features.unwrap();
    assert_eq!(features.bits().collect::<Vec<_>>(), [99]);
    let paths = fields("... and with second blinded path").paths.unwrap();
    let shown: Vec<String> = paths
        .iter()
        .map(|path| format!("{} {}", path.first_node_id, path.route.path.len()))
        .collect();
    let bob = "0324653eac434488002cc06bbfb7f10fe18991e35f9fe4302dbea6d2353dc0ab1c";
    assert_eq!(shown, [format!("{bob} 2"), "1x2x3/1 2".to_string()]);
    let unknown = fields("unknown odd field").unknown;
    assert_eq!(
        (unknown[0].kind, unknown[0].value.as_slice()),
        (33, &b"helloworld"[..])
    );
}

#[test]
fn vectors_of_invalid_offers() {
    use DecodeError::*;
    use ParseError as P;
    let items = items(include_str!("../vectors/bolt12-offers.txt"));
    let invalid: Vec<&Item<'_>> = items
        .iter()
        .filter(|i| i.get("invalid").is_some())
        .collect();
    let utf8 = |field| P::Field(field, InvalidValue("text is not valid UTF-8"));
    let currency = |what| P::Field(Field::OfferCurrency, InvalidValue(what));
    let path_ends = P::Field(Field::OfferPaths, UnexpectedEnd);
    // Some of these strings end before they come to what their name says; `rules.rs` has what they mean.
    let expected = [
        P::Stream(TlvOutOfOrder),
        P::UnknownEven(72),
        P::Missing(Field::OfferIssuerId),
        P::Stream(UnexpectedEnd),
        P::Stream(UnexpectedEnd),
        P::Stream(UnexpectedEnd),
        P::Stream(UnexpectedEnd),
        P::Field(Field::OfferChains, UnexpectedEnd),
        currency("a currency has three letters (ISO 4217)"),
        currency("a currency is three capital letters (ISO 4217)"),
        utf8(Field::OfferDescription),
        utf8(Field::OfferDescription),
        path_ends,
        path_ends,
        path_ends,
        path_ends,
        path_ends,
        path_ends,
        utf8(Field::OfferIssuer),
        utf8(Field::OfferIssuer),
        P::Field(
            Field::OfferIssuerId,
            InvalidValue("point is not on the curve"),
        ),
        P::TypeOutOfRange(80),
        P::Stream(UnexpectedEnd),
        P::Stream(UnexpectedEnd),
        P::UnknownFeature(Field::OfferFeatures, 122),
        P::Needs(Field::OfferAmount, Field::OfferDescription),
        P::Needs(Field::OfferCurrency, Field::OfferAmount),
        P::Zero(Field::OfferAmount),
        P::Zero(Field::OfferAmount),
        P::Missing(Field::OfferIssuerId),
        P::Field(Field::OfferPaths, InvalidValue("blinded path without hops")),
        P::Empty(Field::OfferChains),
        P::Text(TextError::Padding),
    ];
    assert_eq!(invalid.len(), 33);
    for (item, expected) in invalid.iter().zip(expected) {
        let parsed: Result<Offer, ParseError> = item.text("invalid").parse();
        assert_eq!(parsed, Err(expected), "{}", item.text("name"));
    }
    report(12, "offers-test, invalid", invalid.len());
}

#[test]
fn vectors_of_format_strings() {
    let items = items(include_str!("../vectors/bolt12-format-string.txt"));
    let unescape = |text: &str| text.replace("\\n", "\n").replace("\\r", "\r");
    let whole: Offer = items[0].text("valid").parse().unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for item in &items {
        let name = item.text("name");
        if let Some(text) = item.get("valid") {
            assert_eq!(unescape(text).parse().as_ref(), Ok(&whole), "{name}");
            valid += 1;
        } else {
            let text = unescape(item.text("invalid"));
            let reason = if name.starts_with("Mixed") {
                TextError::MixedCase
            } else {
                TextError::Continuation
            };
            assert_eq!(
                text.parse::<Offer>(),
                Err(ParseError::Text(reason)),
                "{name}: {text}"
            );
            invalid += 1;
        }
    }
    report(12, "format-string-test, valid", valid);
    report(12, "format-string-test, invalid", invalid);
}

fn tagged(tag: &[u8], message: &[u8]) -> String {
    let tag = sha256::Hash::hash(tag);
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    engine.input(message);
    sha256::Hash::from_engine(engine).to_string()
}

#[test]
fn vectors_of_signatures() {
    let secp = Secp256k1::new();
    let items = items(include_str!("../vectors/bolt12-signature.txt"));
    let mut signed = 0;
    for item in &items {
        let name = item.text("name");
        // What the specification says between record and root is what the vector says.
        let first = Vec::from_hex(item.text("first_tlv")).unwrap();
        let nonce_tag = [b"LnNonce".as_slice(), &first].concat();
        let mut stream = vec![];
        let mut known = vec![];
        for leaf in item.all("leaf") {
            let parts: Vec<&str> = leaf.split(' ').collect();
            let record = Vec::from_hex(parts[0]).unwrap();
            assert_eq!(tagged(b"LnLeaf", &record), parts[1], "{name}");
            assert_eq!(tagged(&nonce_tag, &record[..1]), parts[2], "{name}");
            // A stream of one record has that leaf and nonce for its root, if it is the first.
            if record == first {
                let root = merkle_root(&record).unwrap();
                assert_eq!(root.to_lower_hex_string(), parts[3], "{name}");
            }
            known.push(parts[3]);
            stream.extend(record);
        }
        for branch in item.all("branch") {
            let parts: Vec<&str> = branch.split(' ').collect();
            assert!(known.contains(&parts[0]) && known.contains(&parts[1]));
            let both = Vec::from_hex(&parts[..2].concat()).unwrap();
            assert_eq!(tagged(b"LnBranch", &both), parts[2], "{name}");
            known.push(parts[2]);
        }
        assert_eq!(known.last(), item.get("merkle").as_ref(), "{name}");
        let root = merkle_root(&stream).unwrap();
        assert_eq!(root.to_lower_hex_string(), item.text("merkle"), "{name}");

        if let Some(text) = item.get("invoice_request") {
            let request = InvoiceRequest::parse(&secp, text).unwrap();
            assert_eq!(merkle_root(request.as_bytes()), Some(root));
            let hash = signature_hash("invoice_request", "signature", &root);
            assert_eq!(hash.to_lower_hex_string(), item.text("hash"));
            let signature = request.signature().unwrap().serialize();
            assert_eq!(signature.to_lower_hex_string(), item.text("signature"));
            check_request(&request);
            signed += 1;
        }
    }
    assert_eq!(signed, 1);
    report(12, "signature-test", items.len());
}

/// The fields that the comment of the vector names.
fn check_request(request: &InvoiceRequest) {
    let secp = Secp256k1::new();
    let public = |byte: u8| {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(&secp)
    };
    let offer = OfferFields {
        amount: Some(100),
        currency: Some("USD".parse().unwrap()),
        description: Some("A Mathematical Treatise".into()),
        issuer_id: Some(public(0x41)),
        ..OfferFields::default()
    };
    assert_eq!(request.offer(), &offer);
    assert_eq!(
        request.request(),
        &RequestFields::new(vec![0; 8], public(0x42))
    );
    assert_eq!(request.check_offer(&Offer::new(&offer).unwrap()), Ok(()));
}

/// What a proof or a part of it holds, as the vectors write it.
fn fields_of(stream: &[u8]) -> Vec<String> {
    TlvReader::new(stream)
        .map(|record| {
            let record = record.unwrap();
            format!("{} {}", record.kind, record.value.to_lower_hex_string())
        })
        .collect()
}

#[test]
fn vectors_of_payer_proofs() {
    let secp = Secp256k1::new();
    let payer_key = SecretKey::from_slice(&[0x42; 32]).unwrap();
    let items = items(include_str!("../vectors/bolt12-payer-proof.txt"));
    let valid: Vec<&Item<'_>> = items.iter().filter(|i| i.get("valid").is_some()).collect();
    assert_eq!(valid.len(), 5);
    for item in &valid {
        let name = item.text("name");
        let invoice: Invoice = item.text("invoice").parse().unwrap();
        let roots: Vec<&str> = item.text("roots").split(' ').collect();
        let root = merkle_root(invoice.as_bytes()).unwrap();
        assert_eq!(root.to_lower_hex_string(), roots[0], "{name}");
        let hash = signature_hash("invoice", "signature", &root);
        assert_eq!(hash.to_lower_hex_string(), item.text("sighash"), "{name}");

        let text = item.text("valid");
        let read: PayerProof = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(read.to_string(), text, "{name}");
        assert_eq!(read.invoice_merkle_root(), &root, "{name}");
        assert_eq!(read.note(), item.get("note"), "{name}");
        let proof_root = merkle_root(read.as_bytes()).unwrap();
        assert_eq!(proof_root.to_lower_hex_string(), roots[1], "{name}");
        assert_eq!(
            read.proof_signature().serialize().to_lower_hex_string(),
            item.text("signature"),
            "{name}"
        );

        // What we make of the invoice is the same, but for an empty list that one vector spells out.
        let preimage = Vec::from_hex(item.text("preimage")).unwrap();
        let disclosure = Disclosure {
            types: item
                .text("shown")
                .split(' ')
                .map(|n| n.parse().unwrap())
                .collect(),
            note: item.get("note").map(Into::into),
        };
        let proof = invoice
            .prove(
                PaymentPreimage::new(preimage.try_into().unwrap()),
                &disclosure,
            )
            .unwrap()
            .sign_with_key(&secp, &payer_key)
            .unwrap();
        let joined = |key| Some(item.all(key).concat()).filter(|hex| !hex.is_empty());
        let hex = |kind| proof.field(kind).map(DisplayHex::to_lower_hex_string);
        assert_eq!(hex(1003), joined("missing"), "{name}");
        assert_eq!(hex(1004), joined("leaf"), "{name}");
        let omitted = item.text("omitted").split(' ').filter(|n| !n.is_empty());
        let omitted: Vec<u8> = omitted
            .flat_map(|n| BigSize(n.parse().unwrap()).to_bytes())
            .collect();
        assert_eq!(proof.field(1002).unwrap_or_default(), omitted, "{name}");
        if name == "empty_proof_omitted_tlvs_explicit" {
            assert_eq!((read.field(1002), proof.field(1002)), (Some(&[][..]), None));
        } else {
            assert_eq!(proof.to_string(), text, "{name}");
            assert_eq!(fields_of(proof.as_bytes()), item.all("field"), "{name}");
        }
    }
    report(12, "payer-proof-test, valid", valid.len());
}

#[test]
fn vectors_of_invalid_payer_proofs() {
    use ParseError as P;
    let items = items(include_str!("../vectors/bolt12-payer-proof.txt"));
    let invalid: Vec<&Item<'_>> = items
        .iter()
        .filter(|i| i.get("invalid").is_some())
        .collect();
    let expected = [
        P::Missing(Field::InvreqPayerId),
        P::Missing(Field::InvoicePaymentHash),
        P::Missing(Field::InvoiceNodeId),
        P::Missing(Field::Signature),
        P::Missing(Field::ProofPreimage),
        P::Missing(Field::ProofMissingHashes),
        P::Missing(Field::ProofLeafHashes),
        P::Missing(Field::ProofSignature),
        P::WrongPreimage,
        P::MarkerOutOfOrder(91),
        P::InvalidMarker(0),
        P::InvalidMarker(241),
        P::InvalidMarker(1001),
        P::InvalidMarker(4_000_000_000),
        P::MarkerIsShown(88),
        P::MarkerNotMinimal(100),
        P::LeafHashCount {
            hashes: 2,
            fields: 3,
        },
        P::LeafHashCount {
            hashes: 4,
            fields: 3,
        },
        P::MissingHashCount(4),
        P::MissingHashCount(6),
        P::WrongSignature(Field::InvoiceNodeId),
        P::WrongSignature(Field::InvreqPayerId),
        P::Unexpected(Field::InvreqMetadata),
    ];
    assert_eq!((invalid.len(), expected.len()), (23, 23));
    for (item, expected) in invalid.iter().zip(expected) {
        let parsed: Result<PayerProof, ParseError> = item.text("invalid").parse();
        assert_eq!(parsed, Err(expected), "{}", item.text("name"));
    }
    report(12, "payer-proof-test, invalid", invalid.len());
}

#[test]
fn payment_uris() {
    let items = items(include_str!("../vectors/bip321.txt"));
    let (mut valid, mut invalid) = (0, 0);
    let refused = [
        UriError::UnknownRequired("somethingyoudontunderstand".into()),
        UriError::Duplicate("label"),
        UriError::Duplicate("amount"),
        UriError::Duplicate("amount"),
        UriError::Duplicate("pop"),
        UriError::SegwitAddress("bc"),
        UriError::ProofOfPayment,
    ];
    for item in &items {
        let name = item.text("name");
        if let Some(text) = item.get("valid") {
            let uri: PaymentUri = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            let sat = item.get("sat").map(|sat| sat.parse().unwrap());
            assert_eq!(uri.amount.map(|amount| amount.to_sat()), sat, "{name}");
            assert_eq!(uri.to_string().parse(), Ok(uri), "{name}");
            valid += 1;
        } else {
            let parsed: Result<PaymentUri, UriError> = item.text("invalid").parse();
            assert_eq!(parsed.as_ref(), Err(&refused[invalid]), "{name}");
            invalid += 1;
        }
    }
    assert_eq!((valid, invalid), (19, 7));
    println!("BIP 321: {valid} valid, {invalid} invalid");
}

#[test]
fn dns_names() {
    let items = items(include_str!("../vectors/bip353.txt"));
    for item in &items {
        let name: Bip353Name = item.text("name").parse().unwrap();
        assert!(name.dns_name().starts_with("matt.user._bitcoin-payment."));
        let mut rdata = vec![];
        for string in item.all("string") {
            rdata.push(u8::try_from(string.len()).unwrap());
            rdata.extend_from_slice(string.as_bytes());
        }
        let uri = PaymentUri::from_txt_records([&rdata[..]]).unwrap();
        let offers: Vec<_> = uri.offers().collect();
        assert!(matches!(offers[..], [Ok(_)]), "{offers:?}");
        assert_eq!(
            PaymentUri::from_txt_records([&rdata[..], &rdata]),
            Err(TxtError::Several)
        );
    }
    assert_eq!(items.len(), 1);
    println!("BIP 353: {}", items.len());
}
