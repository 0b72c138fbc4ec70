//! Invoice requests that offer money.

use bitcoin::constants::ChainHash;
use fulmen_offers::*;
use fulmen_types::{Features, Msat};

use crate::{common::*, *};

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
