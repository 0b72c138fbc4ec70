//! BIP 353 names.

use fulmen_offers::*;
use fulmen_types::codec::{DecodeError, Encode};

use crate::{common::*, *};

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
    // From a message: whatever the letters allow, and the same bytes again.
    for name in [&b"\0\0"[..], b"\x02..\x01.", b"\x01a\xff"] {
        let long = [
            name,
            &vec![b'a'; if name.ends_with(b"\xff") { 255 } else { 0 }],
        ]
        .concat();
        let read = read_request(&base, &|r| set(r, 91, &long)).unwrap();
        let name = read.request().bip_353_name.clone().unwrap();
        assert_eq!(name.to_bytes(), long);
    }
}

#[test]
fn names_that_people_type() {
    let dns = |text: &str| text.parse::<Bip353Name>().map(|name| name.dns_name());
    let matt = "matt.user._bitcoin-payment.mattcorallo.com.";
    assert_eq!(dns("matt@mattcorallo.com").as_deref(), Ok(matt));
    assert_eq!(dns("\u{20bf}matt@mattcorallo.com").as_deref(), Ok(matt));
    let shown: Bip353Name = "matt@mattcorallo.com".parse().unwrap();
    assert_eq!(shown.to_string(), "\u{20bf}matt@mattcorallo.com");
    for text in [
        "",
        "a",
        "@",
        "a@",
        "@b",
        "a b@c",
        "a@b@c",
        "\u{20bf}\u{20bf}a@b",
        "a@b.",
        "a@.b",
        "a@b..c",
        ".a@b",
        "a.@b",
        "a..b@c",
        "\u{e4}@b",
        "a@\u{e4}.de",
        "a\u{202e}@b",
        "a\0@b",
        "a@b/c",
        "\u{20bf}",
    ] {
        assert!(dns(text).is_err(), "{text}");
    }
    assert!(dns("first.last@a-b.example").is_ok());
    // Labels of 63 letters; 253 letters in all, 23 of which are `.user._bitcoin-payment.`.
    let long = "a".repeat(63);
    assert!(Bip353Name::new(&long, "b").is_ok());
    assert!(Bip353Name::new(&format!("{long}a"), "b").is_err());
    assert!(Bip353Name::new("a", &format!("{long}a.b")).is_err());
    let domain = [&long[..], &long, &long, &long[..37]].join(".");
    let full = Bip353Name::new("a", &domain).unwrap();
    assert_eq!(full.dns_name().len(), 254);
    assert!(Bip353Name::new("aa", &domain).is_err());
}
