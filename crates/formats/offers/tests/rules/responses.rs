//! Invoices beside the requests that they answer.

use bitcoin::secp256k1::Secp256k1;
use fulmen_offers::*;
use fulmen_types::{Msat, codec::Encode};

use crate::{common::*, *};

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
        let invoice = read_invoice(&base, change).map_err(CheckError::Rule)?;
        invoice.check_response(&request, &Agreement::default())
    };
    assert_eq!(check(&|_| {}), Ok(()));
    // Some changes break a rule by themselves.
    let broken = |kind| match kind {
        10 => Some(ParseError::Needs(
            Field::OfferAmount,
            Field::OfferDescription,
        )),
        22 => Some(ParseError::Missing(Field::InvreqAmount)),
        _ => None,
    };
    // Own fields of the invoice may be anything.
    assert_eq!(check(&|r| set(r, 161, [])), Ok(()));
    assert_eq!(check(&|r| set(r, 3_000_000_001, [])), Ok(()));
    for kind in [0, 8, 10, 22, 95, 1_000_000_033] {
        if ![0, 8].contains(&kind) {
            let removed = check(&|r| _ = r.remove(&kind));
            let expected = broken(kind).map_or(CheckError::NotThisRequest(kind), CheckError::Rule);
            assert_eq!(removed, Err(expected));
        }
        let changed = check(&|r| {
            let value = r.get_mut(&kind).unwrap();
            if kind == 22 {
                value[0] ^= 1;
            } else {
                value[0] = value[0].wrapping_add(1);
            }
        });
        let expected = match kind {
            22 => CheckError::Rule(ParseError::NodeIdNotOffered),
            _ => CheckError::NotThisRequest(kind),
        };
        assert_eq!(changed, Err(expected));
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
    assert_eq!(
        with_id.respond(&stranger),
        Err(BuildError::Rule(ParseError::NodeIdNotOffered))
    );
    let mut changed = records(invoice.as_bytes());
    set(&mut changed, 176, public(1).serialize());
    let bytes = resign(&mut changed, "invoice", &key(1));
    assert_eq!(
        Invoice::from_bytes(&secp, &bytes),
        Err(ParseError::NodeIdNotOffered)
    );

    // By the path alone.
    fields.issuer_id = None;
    let by_path = request(&offer(&fields), &request_fields());
    assert_eq!(
        by_path.respond(&stranger),
        Err(BuildError::Rule(ParseError::NodeIdNotOffered))
    );
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
