//! The text form, and `invoice_error`.

use fulmen_offers::*;
use fulmen_types::{
    Msat,
    codec::{Decode, DecodeError, Encode},
};

use crate::common::*;

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
    let amount = CheckError::Amount {
        amount: Msat::new(2),
        expected: Msat::new(1),
    };
    for (error, field) in [
        (amount, Some(170)),
        (CheckError::NotThisRequest(8), Some(8)),
        (CheckError::NodeId, Some(176)),
        (CheckError::Rule(ParseError::UnknownEven(94)), Some(94)),
        (CheckError::Expired, None),
    ] {
        let message = InvoiceError::from(&error);
        assert_eq!(message.erroneous_field.map(|f| f.tlv_fieldnum), field);
        assert_eq!(message.error, error.to_string());
    }
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

#[test]
fn every_error_says_whose_rule_it_is() {
    let msat = Msat::new(1);
    let field = Field::OfferAmount;
    let texts = [
        TextError::NoSeparator,
        TextError::Prefix("lno"),
        TextError::MixedCase,
        TextError::InvalidCharacter,
        TextError::Continuation,
        TextError::Padding,
    ];
    let rules = [
        ParseError::Stream(DecodeError::TlvOutOfOrder),
        ParseError::Field(field, DecodeError::NonMinimal),
        ParseError::TypeOutOfRange(1),
        ParseError::UnknownEven(2),
        ParseError::Missing(field),
        ParseError::Unexpected(field),
        ParseError::Needs(field, field),
        ParseError::Empty(field),
        ParseError::Zero(field),
        ParseError::UnknownFeature(field, 2),
        ParseError::ChainNotOffered,
        ParseError::QuantityTooGreat {
            quantity: 2,
            max: 1,
        },
        ParseError::AmountOverflow,
        ParseError::AmountTooLow {
            amount: msat,
            expected: msat,
        },
        ParseError::PayinfoCount {
            paths: 1,
            payinfos: 2,
        },
        ParseError::NoUsablePath,
        ParseError::NodeIdNotOffered,
        ParseError::SeveralChains,
        ParseError::WrongPreimage,
        ParseError::InvalidMarker(0),
        ParseError::MarkerOutOfOrder(1),
        ParseError::MarkerIsShown(1),
        ParseError::MarkerNotMinimal(2),
        ParseError::LeafHashCount {
            hashes: 1,
            fields: 2,
        },
        ParseError::MissingHashCount(1),
        ParseError::WrongSignature(Field::InvoiceNodeId),
    ];
    let checks = [
        CheckError::Chain,
        CheckError::Expired,
        CheckError::NotThisOffer,
        CheckError::NotThisRequest(1),
        CheckError::NodeId,
        CheckError::SentToUnknown,
        CheckError::Amount {
            amount: msat,
            expected: msat,
        },
        CheckError::AmountNotAuthorized(msat),
        CheckError::NeedsConversion,
    ];
    let builds = [
        BuildError::MetadataTooShort(1),
        BuildError::NotDisclosable(0),
        BuildError::UnknownFieldType(0),
    ];
    let shown = texts
        .map(ParseError::Text)
        .into_iter()
        .chain(rules)
        .map(CheckError::Rule)
        .chain(checks)
        .map(BuildError::Response)
        .chain(builds)
        .map(|error| error.to_string());
    for text in shown {
        assert!(text.contains("(BOLT 1"), "{text}");
    }
}
