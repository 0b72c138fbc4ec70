//! The rules of BOLT 12, one by one, on messages changed field by field.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    constants::ChainHash,
    secp256k1::{Keypair, Message, Secp256k1, SecretKey},
};
use common::*;
use fulmen_offers::*;
use fulmen_types::{
    Features, Msat, Timestamp,
    codec::{Decode, DecodeError, Encode},
};

const USD: [u8; 3] = *b"USD";

/// Signs a stream anew after it was changed, as a peer that breaks the rules would.
fn resign(records: &mut Records, name: &str, key: &SecretKey) -> Vec<u8> {
    let secp = Secp256k1::new();
    records.remove(&240);
    let root = merkle_root(&stream(records)).unwrap();
    let hash = signature_hash(name, "signature", &root);
    let keypair = Keypair::from_secret_key(&secp, key);
    let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash), &keypair);
    records.insert(240, signature.serialize().to_vec());
    stream(records)
}

fn set(records: &mut Records, kind: u64, value: impl AsRef<[u8]>) {
    records.insert(kind, value.as_ref().to_vec());
}

type Change<'a> = &'a dyn Fn(&mut Records);

/// An offer with one thing changed.
fn read_offer(base: &OfferFields, change: Change<'_>) -> Result<Offer, ParseError> {
    let mut records = records(offer(base).as_bytes());
    change(&mut records);
    Offer::from_bytes(&stream(&records))
}

/// A signed request with one thing changed.
fn read_request(base: &InvoiceRequest, change: Change<'_>) -> Result<InvoiceRequest, ParseError> {
    let mut records = records(base.as_bytes());
    let was_signed = records.contains_key(&240);
    change(&mut records);
    let bytes = if was_signed {
        resign(&mut records, "invoice_request", &key(PAYER))
    } else {
        stream(&records)
    };
    InvoiceRequest::from_bytes(&Secp256k1::new(), &bytes)
}

/// A signed invoice with one thing changed.
fn read_invoice(base: &Invoice, change: Change<'_>) -> Result<Invoice, ParseError> {
    let mut records = records(base.as_bytes());
    change(&mut records);
    let bytes = resign(&mut records, "invoice", &key(ISSUER));
    Invoice::from_bytes(&Secp256k1::new(), &bytes)
}

fn invoice_for(request: &InvoiceRequest, fields: &InvoiceFields) -> Invoice {
    let unsigned = request.respond(fields).unwrap();
    unsigned
        .sign_with_key(&Secp256k1::new(), &key(ISSUER))
        .unwrap()
}

fn with_amount(msat: u64) -> RequestFields {
    RequestFields {
        amount: Some(Msat::new(msat)),
        ..request_fields()
    }
}

fn with_quantity(quantity: u64) -> RequestFields {
    RequestFields {
        quantity: Some(quantity),
        ..request_fields()
    }
}

fn refund_fields() -> OfferFields {
    OfferFields {
        description: Some("refund".into()),
        ..OfferFields::default()
    }
}

#[test]
fn offers() {
    let base = priced(10);
    let check = |change: Change<'_>| read_offer(&base, change).map(|_| ());
    assert_eq!(check(&|_| {}), Ok(()));
    for kind in [0, 80, 81, 240, 1_001, 999_999_999, 2_000_000_000, u64::MAX] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::TypeOutOfRange(kind))
        );
    }
    for kind in [24, 78, 1_000_000_000, 1_999_999_998] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::UnknownEven(kind))
        );
    }
    // Recurrence, of a draft, is unknown and odd.
    for kind in [1, 3, 25, 79, 1_000_000_001, 1_999_999_999] {
        let read = read_offer(&base, &|r| set(r, kind, b"kept")).unwrap();
        let kept = UnknownField {
            kind,
            value: b"kept".to_vec(),
        };
        assert_eq!(read.fields().unknown, [kept]);
        assert_eq!(Offer::new(read.fields()), Ok(read));
    }
    let mut features = Features::empty();
    features.set_bit(8);
    assert_eq!(
        check(&|r| set(r, 12, features.to_be_bytes())),
        Err(ParseError::UnknownFeature(Field::OfferFeatures, 8))
    );
    assert_eq!(
        check(&|r| set(r, 2, [])),
        Err(ParseError::Empty(Field::OfferChains))
    );
    assert_eq!(
        check(&|r| set(r, 16, [])),
        Err(ParseError::Empty(Field::OfferPaths))
    );
    assert_eq!(
        check(&|r| set(r, 8, [])),
        Err(ParseError::Zero(Field::OfferAmount))
    );
    assert_eq!(
        check(&|r| set(r, 8, [0, 1])),
        Err(ParseError::Field(
            Field::OfferAmount,
            DecodeError::NonMinimal
        ))
    );
    assert_eq!(
        check(&|r| _ = r.remove(&10)),
        Err(ParseError::Needs(
            Field::OfferAmount,
            Field::OfferDescription
        ))
    );
    assert_eq!(
        check(&|r| _ = r.remove(&22)),
        Err(ParseError::Missing(Field::OfferIssuerId))
    );
    for code in [&b"US"[..], b"usd", b"USDX", b"U$D", "\u{20ac}".as_bytes()] {
        assert!(matches!(
            check(&|r| set(r, 6, code)),
            Err(ParseError::Field(
                Field::OfferCurrency,
                DecodeError::InvalidValue(_)
            ))
        ));
    }
    assert_eq!(check(&|r| set(r, 6, USD)), Ok(()));
    let no_amount = |r: &mut Records| {
        set(r, 6, USD);
        r.remove(&8);
    };
    assert_eq!(
        check(&no_amount),
        Err(ParseError::Needs(Field::OfferCurrency, Field::OfferAmount))
    );
}

#[test]
fn paths_of_offers() {
    let with_paths = |paths: &[u8]| {
        read_offer(&offer_fields(), &|r| set(r, 16, paths))
            .map(|offer| offer.fields().paths.clone().unwrap().len())
    };
    let good = path(1, 2).to_bytes();
    assert_eq!(with_paths(&good), Ok(1));
    assert_eq!(with_paths(&[good.clone(), good.clone()].concat()), Ok(2));
    // first_node_id, first_path_key, blinded_node_id, num_hops; the last cuts a hop off.
    for (at, value, hint) in [
        (0, 4, "neither a point nor an end of a channel"),
        (33, 5, "point"),
        (67, 5, "point"),
        (66, 0, "blinded path without hops"),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        match with_paths(&bad) {
            Err(ParseError::Field(Field::OfferPaths, DecodeError::InvalidValue(what))) => {
                assert!(what.starts_with(hint), "{what}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    for len in 1..good.len() {
        assert_eq!(
            with_paths(&good[..len]),
            Err(ParseError::Field(
                Field::OfferPaths,
                DecodeError::UnexpectedEnd
            ))
        );
    }
}

#[test]
fn chain_and_time_of_offers() {
    let now = Timestamp::from_secs(NOW);
    let mut fields = offer_fields();
    let bitcoin = offer(&fields);
    assert_eq!(bitcoin.check(ChainHash::BITCOIN, now), Ok(()));
    assert_eq!(
        bitcoin.check(ChainHash::REGTEST, now),
        Err(CheckError::Chain)
    );
    fields.chains = Some(vec![ChainHash::SIGNET, ChainHash::REGTEST]);
    let others = offer(&fields);
    assert_eq!(others.check(ChainHash::REGTEST, now), Ok(()));
    assert_eq!(
        others.check(ChainHash::BITCOIN, now),
        Err(CheckError::Chain)
    );
    for (expiry, result) in [
        (0, Err(CheckError::Expired)),
        (NOW - 1, Err(CheckError::Expired)),
        (NOW, Ok(())),
        (u64::MAX, Ok(())),
    ] {
        fields.chains = None;
        fields.absolute_expiry = Some(expiry);
        assert_eq!(offer(&fields).check(ChainHash::BITCOIN, now), result);
    }
}

#[test]
fn requests_copy_and_are_signed() {
    let secp = Secp256k1::new();
    let mut fields = priced(10);
    fields.metadata = Some(vec![1, 2, 3]);
    for kind in [33, 1_000_000_033] {
        fields.unknown.push(UnknownField {
            kind,
            value: b"hello".to_vec(),
        });
    }
    let offer = offer(&fields);
    let mut asked = request_fields();
    asked.payer_note = Some("please".into());
    asked.bip_353_name = Some("ada@example.com".parse().unwrap());
    asked.unknown.push(UnknownField {
        kind: 2_000_000_001,
        value: vec![],
    });
    let request = request(&offer, &asked);
    assert_eq!(request.offer(), &fields);
    assert_eq!(request.request(), &asked);
    assert_eq!(request.offer_bytes(), offer.as_bytes());
    assert_eq!(request.check_offer(&offer), Ok(()));
    assert_eq!(
        request.check_offer(&common::offer(&priced(11))),
        Err(CheckError::NotThisOffer)
    );
    let text = request.to_string();
    assert!(text.starts_with("lnr1"));
    assert_eq!(text.parse().as_ref(), Ok(&request));
    assert_eq!(
        text.parse::<Offer>(),
        Err(ParseError::Text(TextError::Prefix("lno")))
    );

    // Signed by somebody else, or not at all.
    let wrong = offer.request(&asked).unwrap().sign_with_key(&secp, &key(1));
    let error = ParseError::WrongSignature(Field::InvreqPayerId);
    assert_eq!(wrong, Err(BuildError::Rule(error)));
    let mut records = records(request.as_bytes());
    records.remove(&240);
    assert_eq!(
        InvoiceRequest::from_bytes(&secp, &stream(&records)),
        Err(ParseError::Missing(Field::Signature))
    );
    // Another message's tag.
    let bytes = resign(&mut records, "invoice", &key(PAYER));
    assert_eq!(InvoiceRequest::from_bytes(&secp, &bytes), Err(error));
}

#[test]
fn request_fields_are_checked() {
    let base = request(&offer(&priced(10)), &request_fields());
    let check = |change: Change<'_>| read_request(&base, change).map(|_| ());
    assert_eq!(check(&|_| {}), Ok(()));
    for (kind, field) in [(0, Field::InvreqMetadata), (88, Field::InvreqPayerId)] {
        assert_eq!(
            check(&|r| _ = r.remove(&kind)),
            Err(ParseError::Missing(field))
        );
    }
    for kind in [160, 161, 239, 1_001, 999_999_999, 3_000_000_000] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::TypeOutOfRange(kind))
        );
    }
    for kind in [24, 92, 242, 1_000, 1_000_000_000, 2_000_000_000] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::UnknownEven(kind))
        );
    }
    for kind in [23, 81, 93, 159, 241, 999, 1_000_000_001, 2_999_999_999] {
        assert_eq!(check(&|r| set(r, kind, [1])), Ok(()));
    }
    assert_eq!(
        check(&|r| set(r, 84, [0b100])),
        Err(ParseError::UnknownFeature(Field::InvreqFeatures, 2))
    );
    assert_eq!(check(&|r| set(r, 84, [0b1000])), Ok(()));
    assert_eq!(
        check(&|r| set(r, 90, [])),
        Err(ParseError::Empty(Field::InvreqPaths))
    );
    assert_eq!(
        check(&|r| set(r, 80, ChainHash::REGTEST.as_bytes())),
        Err(ParseError::ChainNotOffered)
    );
    assert_eq!(
        check(&|r| set(r, 80, ChainHash::BITCOIN.as_bytes())),
        Ok(())
    );
    // An offer that is none.
    assert_eq!(
        check(&|r| _ = r.remove(&10)),
        Err(ParseError::Needs(
            Field::OfferAmount,
            Field::OfferDescription
        ))
    );
}

#[test]
fn bip_353_names() {
    let base = request(&offer(&priced(10)), &request_fields());
    let check = |value: &[u8]| {
        read_request(&base, &|r| set(r, 91, value))
            .map(|request| request.request().bip_353_name.clone().unwrap().to_string())
    };
    assert_eq!(check(b"\x03a_B\x04c-.9").as_deref(), Ok("\u{20bf}a_B@c-.9"));
    for name in [
        &b"\x01@\x01b"[..],
        b"\x01a\x01 ",
        b"\x02\xc3\xa4\x01a",
        b"\x01\0\x01a",
    ] {
        assert!(matches!(
            check(name),
            Err(ParseError::Field(
                Field::InvreqBip353Name,
                DecodeError::InvalidValue(_)
            ))
        ));
    }
    for (name, error) in [
        (&b""[..], DecodeError::UnexpectedEnd),
        (b"\x02a", DecodeError::UnexpectedEnd),
        (b"\x01a\x02b", DecodeError::UnexpectedEnd),
        (b"\x01a\x01bc", DecodeError::TrailingBytes),
    ] {
        assert_eq!(
            check(name),
            Err(ParseError::Field(Field::InvreqBip353Name, error))
        );
    }
    for text in ["", "a", "@", "a@", "@b", "a b@c", "a@b@c"] {
        assert!(text.parse::<Bip353Name>().is_err(), "{text}");
    }
    assert!(Bip353Name::new(&"a".repeat(255), "b").is_ok());
    assert!(Bip353Name::new(&"a".repeat(256), "b").is_err());
}

#[test]
fn quantities() {
    let ask = |max, fields: &RequestFields| {
        let fields_of_offer = OfferFields {
            quantity_max: max,
            ..priced(10)
        };
        offer(&fields_of_offer).request(fields).map(|_| ())
    };
    let rule = |e| Err(BuildError::Rule(e));
    let zero = ParseError::Zero(Field::InvreqQuantity);
    assert_eq!(ask(None, &request_fields()), Ok(()));
    assert_eq!(
        ask(None, &with_quantity(1)),
        rule(ParseError::Unexpected(Field::InvreqQuantity))
    );
    for max in [0, 1, 5] {
        assert_eq!(
            ask(Some(max), &request_fields()),
            rule(ParseError::Missing(Field::InvreqQuantity))
        );
        assert_eq!(ask(Some(max), &with_quantity(0)), rule(zero));
        assert_eq!(ask(Some(max), &with_quantity(1)), Ok(()));
    }
    assert_eq!(ask(Some(5), &with_quantity(5)), Ok(()));
    assert_eq!(
        ask(Some(5), &with_quantity(6)),
        rule(ParseError::QuantityTooGreat {
            quantity: 6,
            max: 5
        })
    );
    assert_eq!(ask(Some(0), &with_quantity(1 << 40)), Ok(()));
    assert_eq!(
        ask(Some(0), &with_quantity(u64::MAX)),
        rule(ParseError::AmountOverflow)
    );
}

#[test]
fn amounts_of_requests() {
    let rule = |e| Err(BuildError::Rule(e));
    let any = offer(&offer_fields());
    assert_eq!(
        any.request(&request_fields()).map(|_| ()),
        rule(ParseError::Missing(Field::InvreqAmount))
    );
    assert_eq!(
        any.request(&with_amount(0)).map(|_| ()),
        rule(ParseError::Zero(Field::InvreqAmount))
    );
    let tip = request(&any, &with_amount(7));
    assert_eq!(tip.amount_to_invoice(None), Ok(Msat::new(7)));

    let mut fields = priced(10);
    fields.quantity_max = Some(0);
    let three = RequestFields {
        quantity: Some(3),
        ..with_amount(29)
    };
    assert_eq!(
        offer(&fields).request(&three).map(|_| ()),
        rule(ParseError::AmountTooLow {
            amount: Msat::new(29),
            expected: Msat::new(30)
        })
    );
    let three = request(&offer(&fields), &with_quantity(3));
    assert_eq!(three.amount_to_invoice(None), Ok(Msat::new(30)));
    let with_tip = RequestFields {
        quantity: Some(3),
        ..with_amount(31)
    };
    let with_tip = request(&offer(&fields), &with_tip);
    assert_eq!(with_tip.amount_to_invoice(None), Ok(Msat::new(31)));

    // In a currency only the issuer can tell, with today's price of one item.
    fields.currency = Some(CurrencyCode::new(USD).unwrap());
    let three = request(&offer(&fields), &with_quantity(3));
    assert_eq!(
        three.amount_to_invoice(None),
        Err(CheckError::NeedsConversion)
    );
    assert_eq!(
        three.amount_to_invoice(Some(Msat::new(1_000))),
        Ok(Msat::new(3_000))
    );
    assert_eq!(
        three.amount_to_invoice(Some(Msat::new(u64::MAX))),
        Err(CheckError::Rule(ParseError::AmountOverflow))
    );
    let named = RequestFields {
        quantity: Some(3),
        ..with_amount(2_999)
    };
    let named = request(&offer(&fields), &named);
    assert_eq!(
        named.amount_to_invoice(Some(Msat::new(1_000))),
        Err(CheckError::Rule(ParseError::AmountTooLow {
            amount: Msat::new(2_999),
            expected: Msat::new(3_000)
        }))
    );
    assert_eq!(
        named.amount_to_invoice(Some(Msat::new(999))),
        Ok(Msat::new(2_999))
    );
}

#[test]
fn chains_of_requests() {
    let now = Timestamp::from_secs(NOW);
    let mut fields = priced(10);
    fields.chains = Some(vec![ChainHash::REGTEST, ChainHash::BITCOIN]);
    fields.absolute_expiry = Some(NOW);
    let offer = offer(&fields);
    let mut asked = request_fields();
    // Bitcoin is said by saying nothing.
    asked.chain = Some(ChainHash::BITCOIN);
    let bitcoin = request(&offer, &asked);
    assert_eq!(bitcoin.request().chain, None);
    assert_eq!(bitcoin.check(ChainHash::BITCOIN, now), Ok(()));
    assert_eq!(
        bitcoin.check(ChainHash::REGTEST, now),
        Err(CheckError::Chain)
    );
    assert_eq!(
        bitcoin.check(ChainHash::BITCOIN, now.plus_millis(1_000)),
        Err(CheckError::Expired)
    );
    asked.chain = Some(ChainHash::REGTEST);
    assert_eq!(
        request(&offer, &asked).check(ChainHash::REGTEST, now),
        Ok(())
    );
    asked.chain = Some(ChainHash::SIGNET);
    assert_eq!(
        offer.request(&asked).map(|_| ()),
        Err(BuildError::Rule(ParseError::ChainNotOffered))
    );
}

#[test]
fn what_cannot_be_asked() {
    let offer = offer(&priced(10));
    let mut fields = request_fields();
    fields.metadata.truncate(15);
    assert_eq!(
        offer.request(&fields).map(|_| ()),
        Err(BuildError::MetadataTooShort(15))
    );
    // A field of the offer or a known one can't be put in through the back door.
    for kind in [0, 8, 33, 82, 161, 241, 1_000_000_001, 3_000_000_001] {
        let mut fields = request_fields();
        fields.unknown.push(UnknownField {
            kind,
            value: vec![1],
        });
        assert_eq!(
            offer.request(&fields).map(|_| ()),
            Err(BuildError::UnknownFieldType(kind))
        );
    }
}

#[test]
fn refunds() {
    let mut asked = with_amount(1_000);
    asked.paths = Some(vec![path(1, PAYER)]);
    let refund = InvoiceRequest::refund(&refund_fields(), &asked).unwrap();
    assert!(refund.is_refund());
    assert_eq!(refund.signature(), None);
    assert_eq!(refund.to_string().parse().as_ref(), Ok(&refund));
    assert_eq!(refund.amount_to_invoice(None), Ok(Msat::new(1_000)));

    let rule = |e| Err(BuildError::Rule(e));
    let forbidden: [(Field, OfferFields); 7] = [
        (
            Field::OfferMetadata,
            OfferFields {
                metadata: Some(vec![]),
                ..refund_fields()
            },
        ),
        (
            Field::OfferChains,
            OfferFields {
                chains: Some(vec![ChainHash::REGTEST]),
                ..refund_fields()
            },
        ),
        (
            Field::OfferAmount,
            OfferFields {
                amount: Some(1),
                ..refund_fields()
            },
        ),
        (
            Field::OfferFeatures,
            OfferFields {
                features: Some(Features::empty()),
                ..refund_fields()
            },
        ),
        (
            Field::OfferQuantityMax,
            OfferFields {
                quantity_max: Some(1),
                ..refund_fields()
            },
        ),
        (
            Field::OfferPaths,
            OfferFields {
                paths: Some(vec![path(1, 2)]),
                ..refund_fields()
            },
        ),
        (
            Field::OfferIssuerId,
            OfferFields {
                issuer_id: Some(public(1)),
                ..refund_fields()
            },
        ),
    ];
    for (field, fields) in forbidden {
        assert_eq!(
            InvoiceRequest::refund(&fields, &asked),
            rule(ParseError::Unexpected(field))
        );
    }
    assert_eq!(
        InvoiceRequest::refund(&OfferFields::default(), &asked),
        rule(ParseError::Missing(Field::OfferDescription))
    );
    assert_eq!(
        InvoiceRequest::refund(&refund_fields(), &request_fields()),
        rule(ParseError::Missing(Field::InvreqAmount))
    );
    // The reader: some fields only inform, others must not be there.
    let check = |change: Change<'_>| read_request(&refund, change).map(|_| ());
    assert_eq!(check(&|r| set(r, 8, [1])), Ok(()));
    assert_eq!(check(&|r| set(r, 6, USD)), Ok(()));
    for (kind, field) in [
        (2, Field::OfferChains),
        (12, Field::OfferFeatures),
        (20, Field::OfferQuantityMax),
    ] {
        let value = if kind == 2 { vec![0; 32] } else { vec![] };
        assert_eq!(
            check(&|r| set(r, kind, &value)),
            Err(ParseError::Unexpected(field))
        );
    }
    // A signature that is there must be good.
    assert_eq!(
        check(&|r| set(r, 240, [1; 64])),
        Err(ParseError::WrongSignature(Field::InvreqPayerId))
    );

    // Whoever is to get the money names their own key; the payer may know it.
    let invoice = invoice_for(&refund, &invoice_fields(1_000));
    let mut agreement = Agreement::default();
    assert_eq!(invoice.check_response(&refund, &agreement), Ok(()));
    agreement.sent_to = Some(public(ISSUER));
    assert_eq!(invoice.check_response(&refund, &agreement), Ok(()));
    agreement.sent_to = Some(public(1));
    assert_eq!(
        invoice.check_response(&refund, &agreement),
        Err(CheckError::NodeId)
    );
}

#[test]
fn invoice_fields_are_checked() {
    let secp = Secp256k1::new();
    let request = request(&offer(&priced(10)), &request_fields());
    let base = invoice_for(&request, &invoice_fields(10));
    let text = base.to_string();
    assert!(text.starts_with("lni1"));
    assert_eq!(text.to_uppercase().parse().as_ref(), Ok(&base));
    let check = |change: Change<'_>| read_invoice(&base, change).map(|_| ());
    assert_eq!(check(&|_| {}), Ok(()));
    for field in [
        Field::InvreqMetadata,
        Field::InvreqPayerId,
        Field::InvoicePaths,
        Field::InvoiceBlindedpay,
        Field::InvoiceCreatedAt,
        Field::InvoicePaymentHash,
        Field::InvoiceAmount,
        Field::InvoiceNodeId,
    ] {
        assert_eq!(
            check(&|r| _ = r.remove(&field.number())),
            Err(ParseError::Missing(field))
        );
    }
    let mut unsigned = records(base.as_bytes());
    unsigned.remove(&240);
    assert_eq!(
        Invoice::from_bytes(&secp, &stream(&unsigned)),
        Err(ParseError::Missing(Field::Signature))
    );
    assert_eq!(
        check(&|r| set(r, 160, [])),
        Err(ParseError::Empty(Field::InvoicePaths))
    );
    let payinfo = records(base.as_bytes())[&162].clone();
    for (count, value) in [
        (0, vec![]),
        (2, [payinfo.clone(), payinfo.clone()].concat()),
    ] {
        assert_eq!(
            check(&|r| set(r, 162, &value)),
            Err(ParseError::PayinfoCount {
                paths: 1,
                payinfos: count
            })
        );
    }
    // Every path needs something unknown.
    let mut needing = payinfo;
    let end = needing.len() - 2;
    needing.truncate(end);
    needing.extend([0, 1, 0b1]);
    assert_eq!(
        check(&|r| set(r, 162, &needing)),
        Err(ParseError::NoUsablePath)
    );
    *needing.last_mut().unwrap() = 0b10;
    assert_eq!(check(&|r| set(r, 162, &needing)), Ok(()));
    for kind in [92, 178, 1_002, 3_000_000_000] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::UnknownEven(kind))
        );
    }
    for kind in [93, 179, 241, 1_001, 3_000_000_001] {
        assert_eq!(check(&|r| set(r, kind, [])), Ok(()));
    }
    let mut features = Features::empty();
    features.set_bit(18);
    assert_eq!(
        check(&|r| set(r, 174, features.to_be_bytes())),
        Err(ParseError::UnknownFeature(Field::InvoiceFeatures, 18))
    );
    // Signed by another key than invoice_node_id.
    let wrong = request.respond(&invoice_fields(10)).unwrap();
    assert_eq!(
        wrong.sign_with_key(&secp, &key(1)),
        Err(BuildError::Rule(ParseError::WrongSignature(
            Field::InvoiceNodeId
        )))
    );
}

#[test]
fn paths_that_may_not_be_used() {
    let request = request(&offer(&priced(10)), &request_fields());
    let mut fields = invoice_fields(10);
    let mut needing = payment_path();
    needing.payinfo.features.set_bit(0);
    fields.paths.insert(0, needing);
    let invoice = invoice_for(&request, &fields);
    assert_eq!(invoice.invoice().paths.len(), 2);
    assert_eq!(
        invoice.usable_paths().collect::<Vec<_>>(),
        [&payment_path()]
    );
}

#[test]
fn expiry_chain_and_mpp_of_invoices() {
    let request = request(&offer(&priced(10)), &request_fields());
    let mut fields = invoice_fields(10);
    for (expiry, last) in [(None, NOW + 7_200), (Some(60), NOW + 60), (Some(0), NOW)] {
        fields.relative_expiry = expiry;
        let invoice = invoice_for(&request, &fields);
        let check = |secs| invoice.check(ChainHash::BITCOIN, Timestamp::from_secs(secs));
        assert_eq!(check(0), Ok(()));
        assert_eq!(check(last), Ok(()));
        assert_eq!(check(last + 1), Err(CheckError::Expired));
        assert_eq!(
            invoice.check(ChainHash::TESTNET3, Timestamp::from_secs(NOW)),
            Err(CheckError::Chain)
        );
    }
    fields.created_at = u64::MAX;
    assert_eq!(
        invoice_for(&request, &fields).invoice().expires_at(),
        u64::MAX
    );
    for mpp in [Mpp::Forbidden, Mpp::Optional, Mpp::Compulsory] {
        fields.features = mpp.to_features();
        assert_eq!(invoice_for(&request, &fields).invoice().mpp(), mpp);
    }
}

#[test]
fn fallback_addresses() {
    let script = |version, len| {
        FallbackAddress {
            version,
            address: vec![1; len],
        }
        .script_pubkey()
        .map(|script| script.len())
    };
    assert_eq!(script(0, 20), Some(22));
    assert_eq!(script(0, 32), Some(34));
    assert_eq!(script(1, 32), Some(34));
    assert_eq!(script(16, 2), Some(4));
    assert_eq!(script(16, 40), Some(42));
    for (version, len) in [
        (0, 21),
        (0, 2),
        (1, 2),
        (1, 33),
        (2, 1),
        (2, 41),
        (17, 32),
        (255, 32),
    ] {
        assert_eq!(script(version, len), None, "{version} {len}");
    }
    let request = request(&offer(&priced(10)), &request_fields());
    let mut fields = invoice_fields(10);
    let strange = FallbackAddress {
        version: 200,
        address: vec![],
    };
    fields.fallbacks = Some(vec![strange]);
    assert_eq!(invoice_for(&request, &fields).invoice(), &fields);
}

#[test]
fn invoices_repeat_the_request() {
    let mut fields = priced(10);
    fields.unknown.push(UnknownField {
        kind: 1_000_000_033,
        value: vec![1],
    });
    let mut asked = request_fields();
    asked.unknown.push(UnknownField {
        kind: 95,
        value: vec![2],
    });
    let request = request(&offer(&fields), &asked);
    let base = invoice_for(&request, &invoice_fields(10));
    assert_eq!(base.offer(), request.offer());
    assert_eq!(base.request(), request.request());
    let check = |change: Change<'_>| {
        let invoice = read_invoice(&base, change).unwrap();
        invoice.check_response(&request, &Agreement::default())
    };
    assert_eq!(check(&|_| {}), Ok(()));
    // Own fields of the invoice may be anything.
    assert_eq!(check(&|r| set(r, 161, [])), Ok(()));
    assert_eq!(check(&|r| set(r, 3_000_000_001, [])), Ok(()));
    for kind in [0, 8, 10, 22, 95, 1_000_000_033] {
        if ![0, 8].contains(&kind) {
            let removed = check(&|r| _ = r.remove(&kind));
            assert_eq!(removed, Err(CheckError::NotThisRequest(kind)));
        }
        let changed = check(&|r| {
            let value = r.get_mut(&kind).unwrap();
            if kind == 22 {
                value[0] ^= 1;
            } else {
                value[0] = value[0].wrapping_add(1);
            }
        });
        assert_eq!(changed, Err(CheckError::NotThisRequest(kind)));
    }
    for kind in [1, 89, 159, 1_000_000_001, 2_999_999_999] {
        let added = check(&|r| set(r, kind, []));
        assert_eq!(added, Err(CheckError::NotThisRequest(kind)));
    }
}

#[test]
fn the_amount_is_what_was_asked_for() {
    // A fixed price, a named amount, and a price in a currency that the request leaves open.
    let fixed = request(&offer(&priced(10)), &request_fields());
    let named = request(&offer(&offer_fields()), &with_amount(10));
    for request in [fixed, named] {
        let invoice = invoice_for(&request, &invoice_fields(10));
        for wrong in [0u64, 9, 11, u64::MAX] {
            let error = CheckError::Amount {
                amount: Msat::new(wrong),
                expected: Msat::new(10),
            };
            let value = fulmen_types::codec::Truncated(wrong).to_bytes();
            let tampered = read_invoice(&invoice, &|r| set(r, 170, &value)).unwrap();
            let agreement = Agreement {
                sent_to: None,
                amount_max: Some(Msat::new(u64::MAX)),
            };
            assert_eq!(tampered.check_response(&request, &agreement), Err(error));
            assert_eq!(
                request.respond(&invoice_fields(wrong)),
                Err(BuildError::Response(error))
            );
        }
    }
    let in_currency = OfferFields {
        currency: Some(CurrencyCode::new(USD).unwrap()),
        ..priced(10)
    };
    let request = request(&offer(&in_currency), &request_fields());
    let invoice = invoice_for(&request, &invoice_fields(5_000));
    let check = |amount_max: Option<u64>| {
        let agreement = Agreement {
            sent_to: None,
            amount_max: amount_max.map(Msat::new),
        };
        invoice.check_response(&request, &agreement)
    };
    let refused = Err(CheckError::AmountNotAuthorized(Msat::new(5_000)));
    assert_eq!(check(None), refused);
    assert_eq!(check(Some(4_999)), refused);
    assert_eq!(check(Some(5_000)), Ok(()));
    assert_eq!(
        request.respond(&invoice_fields(0)),
        Err(BuildError::Rule(ParseError::Zero(Field::InvoiceAmount)))
    );
}

#[test]
fn the_key_is_whose_was_asked() {
    let secp = Secp256k1::new();
    // By issuer id, even beside paths.
    let mut fields = priced(10);
    fields.paths = Some(vec![path(1, 2)]);
    let with_id = request(&offer(&fields), &request_fields());
    let invoice = invoice_for(&with_id, &invoice_fields(10));
    let agreement = Agreement {
        sent_to: Some(public(1)),
        amount_max: None,
    };
    assert_eq!(invoice.check_response(&with_id, &agreement), Ok(()));
    let stranger = InvoiceFields {
        node_id: public(1),
        ..invoice_fields(10)
    };
    assert_eq!(with_id.respond(&stranger), Err(BuildError::NodeId));
    let mut changed = records(invoice.as_bytes());
    set(&mut changed, 176, public(1).serialize());
    let bytes = resign(&mut changed, "invoice", &key(1));
    let forged = Invoice::from_bytes(&secp, &bytes).unwrap();
    assert_eq!(
        forged.check_response(&with_id, &agreement),
        Err(CheckError::NodeId)
    );

    // By the path alone.
    fields.issuer_id = None;
    let by_path = request(&offer(&fields), &request_fields());
    assert_eq!(by_path.respond(&stranger), Err(BuildError::NodeId));
    let blinded = path(1, 2).recipient().unwrap();
    let answer = InvoiceFields {
        node_id: blinded,
        ..invoice_fields(10)
    };
    let data = fulmen_onion::SharedSecret::ecdh(&path_key_of_last(), &key(2));
    let node_key = fulmen_onion::blinding::blinded_private_key(&key(2), &data).unwrap();
    let invoice = by_path
        .respond(&answer)
        .unwrap()
        .sign_with_key(&secp, &node_key)
        .unwrap();
    let mut agreement = Agreement::default();
    assert_eq!(
        invoice.check_response(&by_path, &agreement),
        Err(CheckError::SentToUnknown)
    );
    agreement.sent_to = Some(blinded);
    assert_eq!(invoice.check_response(&by_path, &agreement), Ok(()));
    agreement.sent_to = Some(public(2));
    assert_eq!(
        invoice.check_response(&by_path, &agreement),
        Err(CheckError::NodeId)
    );
}

/// The `path_key` that the second node of `path(1, _)` gets.
fn path_key_of_last() -> bitcoin::secp256k1::PublicKey {
    let route = path(1, 2).route;
    let blinding = fulmen_onion::SharedSecret::ecdh(&route.first_path_key, &key(1));
    let (_, rest) = route.advance(&Secp256k1::new(), &blinding).unwrap();
    rest.first_path_key
}

#[test]
fn invoice_errors() {
    let error = ParseError::QuantityTooGreat {
        quantity: 6,
        max: 5,
    };
    let message = InvoiceError::from(&error);
    assert_eq!(message.erroneous_field.as_ref().unwrap().tlv_fieldnum, 86);
    assert_eq!(message.error, error.to_string());
    assert_eq!(InvoiceError::from_bytes(&message.to_bytes()), Ok(message));
    let read = |items: &[(u64, &[u8])]| {
        let records = items.iter().map(|(k, v)| (*k, v.to_vec())).collect();
        InvoiceError::from_bytes(&stream(&records))
    };
    assert_eq!(read(&[(5, b"no")]), Ok(InvoiceError::new("no")));
    assert_eq!(read(&[(5, b"no"), (7, b"")]), Ok(InvoiceError::new("no")));
    assert_eq!(read(&[]), Err(DecodeError::Missing("error")));
    assert_eq!(
        read(&[(5, b""), (6, b"")]),
        Err(DecodeError::UnknownEvenTlv(6))
    );
    assert!(read(&[(3, b"x"), (5, b"no")]).is_err());
    let full = read(&[(1, &[82]), (3, &[9]), (5, b"no")]).unwrap();
    let field = ErroneousField {
        tlv_fieldnum: 82,
        suggested_value: Some(vec![9]),
    };
    assert_eq!(full.erroneous_field, Some(field));
}

#[test]
fn texts() {
    let good = offer(&offer_fields()).to_string();
    let parse = |text: &str| text.parse::<Offer>().map(|_| ());
    let error = |e| Err(ParseError::Text(e));
    assert_eq!(parse(&format!(" {good}\n")), Ok(()));
    assert_eq!(parse(""), error(TextError::NoSeparator));
    assert_eq!(parse("lno"), error(TextError::NoSeparator));
    assert_eq!(
        parse(&good.replacen("lno", "lni", 1)),
        error(TextError::Prefix("lno"))
    );
    assert_eq!(
        parse(&format!("{good}b")),
        error(TextError::InvalidCharacter)
    );
    assert_eq!(
        parse(&good.replacen("pg", "p g", 1)),
        error(TextError::InvalidCharacter)
    );
    assert_eq!(parse("lno1\u{e4}"), error(TextError::InvalidCharacter));
    assert_eq!(parse("lno1q+\u{2003}q"), error(TextError::InvalidCharacter));
    assert_eq!(parse("+"), error(TextError::Continuation));
    assert_eq!(parse("lno1q+ +q"), error(TextError::Continuation));
    // One byte takes two letters; the last two bits are zero.
    assert_eq!(parse("lno1qp"), error(TextError::Padding));
    assert_eq!(parse("lno1q"), error(TextError::Padding));
}
