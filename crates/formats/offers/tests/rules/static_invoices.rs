//! Static invoices, by their draft.

use bitcoin::{constants::ChainHash, secp256k1::Secp256k1};
use fulmen_offers::*;
use fulmen_types::{Msat, Timestamp};

use crate::{common::*, *};

fn by_server() -> OfferFields {
    OfferFields {
        paths: Some(vec![path(1, 2)]),
        ..priced(10)
    }
}

fn fields() -> StaticInvoiceFields {
    StaticInvoiceFields::new(
        NOW,
        public(ISSUER),
        vec![payment_path()],
        vec![path(3, 4), path(5, 6)],
    )
}

fn signed(offer: &Offer, fields: &StaticInvoiceFields) -> StaticInvoice {
    offer
        .static_invoice(fields)
        .unwrap()
        .sign_with_key(&Secp256k1::new(), &key(ISSUER))
        .unwrap()
}

/// One with something changed, signed anew.
fn read(base: &StaticInvoice, change: Change<'_>) -> Result<(), ParseError> {
    let mut records = records(base.as_bytes());
    change(&mut records);
    let bytes = resign_as(&mut records, "static_invoice", 240, &key(ISSUER));
    StaticInvoice::from_bytes(&Secp256k1::new(), &bytes).map(|_| ())
}

#[test]
fn from_offer_to_answer() {
    let secp = Secp256k1::new();
    let mut about = by_server();
    about.unknown.push(UnknownField {
        kind: 1_000_000_001,
        value: vec![1],
    });
    let offer = offer(&about);
    let mut said = fields();
    said.features = Mpp::Optional.to_features();
    said.relative_expiry = Some(60);
    said.unknown.push(UnknownField {
        kind: 3_000_000_001,
        value: vec![2],
    });
    let unsigned = offer.static_invoice(&said).unwrap();
    assert_eq!(unsigned.invoice(), &said);
    let invoice = signed(&offer, &said);
    assert_eq!(
        StaticInvoice::from_bytes(&secp, invoice.as_bytes()).as_ref(),
        Ok(&invoice)
    );
    assert_eq!((invoice.offer(), invoice.invoice()), (&about, &said));
    assert_eq!(invoice.invoice().mpp(), Mpp::Optional);
    assert_eq!(invoice.usable_paths().count(), 1);
    // It answers any request for the offer, and what to pay is in the request.
    let request = request(&offer, &request_fields());
    assert_eq!(invoice.check_response(&request), Ok(()));
    assert_eq!(request.agreed_amount(), Ok(Some(Msat::new(10))));
    let other = common::request(&common::offer(&priced(11)), &request_fields());
    assert_eq!(
        invoice.check_response(&other),
        Err(CheckError::NotThisOffer)
    );
    // It is no invoice, and an invoice is none.
    assert!(Invoice::from_bytes(&secp, invoice.as_bytes()).is_err());
    let ordinary = invoice_for(&request, &invoice_fields(10));
    assert_eq!(
        StaticInvoice::from_bytes(&secp, ordinary.as_bytes()),
        Err(ParseError::TypeOutOfRange(0))
    );
}

#[test]
fn chain_and_time() {
    let mut about = by_server();
    let check = |about: &OfferFields, said: &StaticInvoiceFields, chain, secs| {
        signed(&offer(about), said).check(chain, Timestamp::from_secs(secs))
    };
    let two_weeks = NOW + 14 * 24 * 3_600;
    let mut said = fields();
    let bitcoin = ChainHash::BITCOIN;
    assert_eq!(check(&about, &said, bitcoin, two_weeks), Ok(()));
    assert_eq!(
        check(&about, &said, bitcoin, two_weeks + 1),
        Err(CheckError::Expired)
    );
    said.relative_expiry = Some(0);
    assert_eq!(check(&about, &said, bitcoin, NOW), Ok(()));
    assert_eq!(
        check(&about, &said, bitcoin, NOW + 1),
        Err(CheckError::Expired)
    );
    assert_eq!(
        check(&about, &said, ChainHash::REGTEST, NOW),
        Err(CheckError::Chain)
    );
    about.chains = Some(vec![ChainHash::REGTEST]);
    about.absolute_expiry = Some(NOW - 1);
    assert_eq!(
        check(&about, &fields(), ChainHash::REGTEST, NOW),
        Err(CheckError::Expired)
    );
    said.created_at = u64::MAX;
    said.relative_expiry = Some(u32::MAX);
    assert_eq!(said.expires_at(), u64::MAX);
}

#[test]
fn what_is_refused() {
    let base = signed(&offer(&by_server()), &fields());
    assert_eq!(read(&base, &|_| {}), Ok(()));
    for field in [
        Field::OfferPaths,
        Field::InvoicePaths,
        Field::InvoiceBlindedpay,
        Field::InvoiceCreatedAt,
        Field::InvoiceNodeId,
        Field::StaticInvoiceMessagePaths,
    ] {
        assert_eq!(
            read(&base, &|r| _ = r.remove(&field.number())),
            Err(ParseError::Missing(field))
        );
    }
    let mut unsigned = records(base.as_bytes());
    unsigned.remove(&240);
    assert_eq!(
        StaticInvoice::from_bytes(&Secp256k1::new(), &stream(&unsigned)),
        Err(ParseError::Missing(Field::Signature))
    );
    for (kind, field) in [
        (160, Field::InvoicePaths),
        (236, Field::StaticInvoiceMessagePaths),
    ] {
        assert_eq!(
            read(&base, &|r| set(r, kind, [])),
            Err(ParseError::Empty(field))
        );
    }
    assert_eq!(
        read(&base, &|r| set(r, 168, [1; 32])),
        Err(ParseError::Unexpected(Field::InvoicePaymentHash))
    );
    assert_eq!(
        read(&base, &|r| set(r, 170, [1])),
        Err(ParseError::Unexpected(Field::InvoiceAmount))
    );
    for kind in [0, 80, 159, 2_000_000_001] {
        assert_eq!(
            read(&base, &|r| set(r, kind, [])),
            Err(ParseError::TypeOutOfRange(kind))
        );
    }
    assert_eq!(
        read(&base, &|r| set(r, 178, [])),
        Err(ParseError::UnknownEven(178))
    );
    assert_eq!(read(&base, &|r| set(r, 179, [])), Ok(()));
    let chains = [[1; 32], [2; 32]].concat();
    assert_eq!(
        read(&base, &|r| set(r, 2, &chains)),
        Err(ParseError::SeveralChains)
    );
    assert_eq!(
        read(&base, &|r| _ = r.remove(&10)),
        Err(ParseError::Needs(
            Field::OfferAmount,
            Field::OfferDescription
        ))
    );
    // Neither the issuer's key nor, without one, the end of a path of the offer.
    let stranger = public(PAYER).serialize();
    assert_eq!(
        read(&base, &|r| set(r, 22, stranger)),
        Err(ParseError::NodeIdNotOffered)
    );
    assert_eq!(
        read(&base, &|r| _ = r.remove(&22)),
        Err(ParseError::NodeIdNotOffered)
    );
    assert_eq!(
        offer(&by_server())
            .static_invoice(&fields())
            .unwrap()
            .sign_with_key(&Secp256k1::new(), &key(1)),
        Err(BuildError::Rule(ParseError::WrongSignature(
            Field::InvoiceNodeId
        )))
    );
    // A signature of another message is none of this.
    let mut records = records(base.as_bytes());
    let bytes = resign(&mut records, "invoice", &key(ISSUER));
    assert_eq!(
        StaticInvoice::from_bytes(&Secp256k1::new(), &bytes),
        Err(ParseError::WrongSignature(Field::InvoiceNodeId))
    );
}

#[test]
fn what_can_not_be_built() {
    let build = |about: &OfferFields, said: &StaticInvoiceFields| {
        offer(about).static_invoice(said).map(|_| ())
    };
    let rule = |e| Err(BuildError::Rule(e));
    assert_eq!(
        build(&priced(10), &fields()),
        rule(ParseError::Missing(Field::OfferPaths))
    );
    let several = OfferFields {
        chains: Some(vec![ChainHash::BITCOIN, ChainHash::REGTEST]),
        ..by_server()
    };
    assert_eq!(build(&several, &fields()), rule(ParseError::SeveralChains));
    let silent = StaticInvoiceFields {
        message_paths: vec![],
        ..fields()
    };
    assert_eq!(
        build(&by_server(), &silent),
        rule(ParseError::Empty(Field::StaticInvoiceMessagePaths))
    );
    for kind in [177, 3_000_000_001] {
        let said = StaticInvoiceFields {
            unknown: vec![UnknownField {
                kind,
                value: vec![],
            }],
            ..fields()
        };
        assert_eq!(build(&by_server(), &said), Ok(()));
    }
    for kind in [1, 33, 81, 241, 1_001, 2_000_000_001] {
        let said = StaticInvoiceFields {
            unknown: vec![UnknownField {
                kind,
                value: vec![],
            }],
            ..fields()
        };
        assert_eq!(
            build(&by_server(), &said),
            Err(BuildError::UnknownFieldType(kind))
        );
    }
}
