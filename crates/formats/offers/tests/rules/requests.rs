//! Invoice requests that answer an offer.

use bitcoin::{constants::ChainHash, secp256k1::Secp256k1};
use fulmen_offers::*;
use fulmen_types::{Msat, Timestamp};

use crate::{common::*, *};

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
fn recurrence_and_contacts_are_copied() {
    let field = |kind| UnknownField {
        kind,
        value: vec![0, 1, 0xff],
    };
    // Drafts and bLIPs that this software does not follow: what is odd goes through, byte for byte.
    let mut fields = priced(10);
    // offer_recurrence_optional, offer_recurrence_paywindow, offer_recurrence_limit.
    fields.unknown = [25, 27, 29].map(field).to_vec();
    let mut asked = request_fields();
    // invreq_recurrence_start; bLIP 42: contact_secret, payer_offer, payer_bip_353_name and its signature.
    let kinds = [
        93,
        2_000_001_729,
        2_000_001_731,
        2_000_001_733,
        2_000_001_735,
    ];
    asked.unknown = kinds.map(field).to_vec();
    let request = request(&offer(&fields), &asked);
    let mut answer = invoice_fields(10);
    // invoice_recurrence_basetime.
    answer.unknown = vec![field(177)];
    let invoice = invoice_for(&request, &answer);
    assert_eq!(invoice.offer().unknown, fields.unknown);
    assert_eq!(invoice.request().unknown, asked.unknown);
    assert_eq!(invoice.invoice().unknown, answer.unknown);
    let held = records(invoice.as_bytes());
    assert!(
        [25, 27, 29, 93, 177]
            .iter()
            .chain(&kinds)
            .all(|kind| held[kind] == [0, 1, 0xff])
    );
    assert_eq!(
        invoice.check_response(&request, &Agreement::default()),
        Ok(())
    );
    // What must be understood is not: offer_recurrence_compulsory and _base, invreq_recurrence_counter, _cancel.
    for kind in [24, 26] {
        let read = read_offer(&priced(10), &|r| set(r, kind, [1]));
        assert_eq!(read, Err(ParseError::UnknownEven(kind)));
    }
    for kind in [92, 94] {
        let read = read_request(&request, &|r| set(r, kind, [1]));
        assert_eq!(read, Err(ParseError::UnknownEven(kind)));
    }
}

#[test]
fn an_invoice_repeats_a_valid_request() {
    let base = invoice_for(
        &request(&offer(&priced(10)), &request_fields()),
        &invoice_fields(10),
    );
    let check = |change: Change<'_>| read_invoice(&base, change).map(|_| ());
    assert_eq!(
        check(&|r| set(r, 86, [1])),
        Err(ParseError::Unexpected(Field::InvreqQuantity))
    );
    assert_eq!(
        check(&|r| set(r, 82, [9])),
        Err(ParseError::AmountTooLow {
            amount: Msat::new(9),
            expected: Msat::new(10)
        })
    );
    assert_eq!(
        check(&|r| set(r, 80, ChainHash::REGTEST.as_bytes())),
        Err(ParseError::ChainNotOffered)
    );
}
