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
