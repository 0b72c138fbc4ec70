//! What is refused, and what no invoice can do to its reader.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    Network, ScriptBuf,
    hashes::{Hash, sha256},
    secp256k1::{
        Secp256k1, SecretKey,
        ecdsa::{RecoverableSignature, RecoveryId},
    },
};
use common::*;
use fulmen_invoice::{
    BuildError, Currency, Description, Fallback, Field, InvoiceDetails, ParseError, RawField,
    RouteHint, RouteHintHop,
};
use fulmen_types::{
    CltvExpiryDelta, Feature, FeatureError, Features, Msat, PaymentHash, ShortChannelId, Timestamp,
};

#[test]
fn amounts() {
    let amount = |hrp: &str| parse(&raw_invoice(hrp, &required())).map(|i| i.details().amount);
    let msat = |msat| Ok(Some(Msat::new(msat)));
    assert_eq!(amount("lnbc"), Ok(None));
    assert_eq!(amount("lnbc20m"), msat(2_000_000_000));
    assert_eq!(amount("lnbc20000u"), msat(2_000_000_000));
    assert_eq!(amount("lnbc10p"), msat(1));
    assert_eq!(amount("lnbc1"), msat(100_000_000_000));
    assert_eq!(amount("lnbcrt15n"), msat(1_500));
    assert_eq!(amount("lntbs15u"), msat(1_500_000));
    assert_eq!(amount("lnbc21000000"), msat(Msat::MAX_MONEY.to_msat()));
    // In pico-bitcoin this is more than 64 bits.
    assert_eq!(
        amount("lnbc20999999999999999990p"),
        msat(Msat::MAX_MONEY.to_msat() - 1)
    );
    assert_eq!(amount("lnbc21000001"), Err(ParseError::AmountTooLarge));
    assert_eq!(amount("lnbc15p"), Err(ParseError::SubMillisatoshi));
    assert_eq!(amount("lnbc0u"), Err(ParseError::AmountZero));
    assert_eq!(amount("lnbc184467441"), Err(ParseError::AmountTooLarge));
    assert_eq!(
        amount("lnbc99999999999999999999990p"),
        Err(ParseError::AmountTooLarge)
    );
    assert_eq!(amount("lnbc1x"), Err(ParseError::UnknownMultiplier('x')));
    assert_eq!(amount("lnbc1um"), Err(ParseError::AmountNotANumber));
    assert_eq!(amount("lnbc1u5"), Err(ParseError::AmountNotANumber));
    for hrp in ["lnxy", "lnltc20m", "ln20m", "lnb1", "ln"] {
        assert_eq!(amount(hrp), Err(ParseError::UnknownCurrency), "{hrp}");
    }
    assert_eq!(amount("lbc1u"), Err(ParseError::NotAnInvoice));
}

#[test]
fn currencies_belong_to_networks() {
    for (network, currency) in [
        (Network::Bitcoin, Currency::Bitcoin),
        (Network::Testnet, Currency::Testnet),
        (Network::Testnet4, Currency::Testnet),
        (Network::Signet, Currency::Signet),
        (Network::Regtest, Currency::Regtest),
    ] {
        assert!(currency.is_for(network));
        let invoice = sign(InvoiceDetails {
            currency: Currency::of(network),
            ..details()
        });
        let start = format!("ln{}1", currency.prefix());
        assert!(invoice.as_str().starts_with(&start));
        assert_eq!(
            parse(invoice.as_str()).unwrap().details().currency,
            currency
        );
    }
    assert!(!Currency::Testnet.is_for(Network::Signet));
}

#[test]
fn fields() {
    assert!(parse_with(&[]).is_ok());
    let p = |fields: &[Vec<u8>]| parse(&raw_invoice("lnbcrt", fields)).unwrap_err();
    let all = required();
    assert_eq!(p(&all[1..]), ParseError::MissingField(Field::PaymentSecret));
    assert_eq!(
        p(&[all[0].clone(), all[2].clone()]),
        ParseError::MissingField(Field::PaymentHash)
    );
    assert_eq!(p(&all[..2]), ParseError::DescriptionCount);
    // The only one of its type has the wrong length.
    let short = |tag| field(tag, &[0; 51]);
    assert_eq!(
        p(&[short(16), all[1].clone(), all[2].clone()]),
        ParseError::WrongLength(Field::PaymentSecret)
    );
    assert_eq!(
        p(&[all[0].clone(), short(1), all[2].clone()]),
        ParseError::WrongLength(Field::PaymentHash)
    );
    assert_eq!(
        p(&[all[0].clone(), all[1].clone(), short(23)]),
        ParseError::WrongLength(Field::DescriptionHash)
    );
    let invoice = parse_with(&[short(1), short(19)]).unwrap();
    assert_eq!(invoice.details().skipped_fields.len(), 2);

    let e = |tag, data: &[u8]| parse_with(&[field(tag, data)]).unwrap_err();
    assert_eq!(e(23, &quintets(&[3; 32])), ParseError::DescriptionCount);
    assert_eq!(
        e(16, &quintets(&[3; 32])),
        ParseError::DuplicateField(Field::PaymentSecret)
    );
    assert_eq!(
        e(13, &quintets(b"tea")),
        ParseError::DuplicateField(Field::Description)
    );
    assert_eq!(e(6, &[0, 1]), ParseError::NonMinimal(Field::Expiry));
    assert_eq!(
        e(24, &[0]),
        ParseError::NonMinimal(Field::MinFinalCltvExpiryDelta)
    );
    assert_eq!(
        e(5, &[0, 16, 8, 0]),
        ParseError::NonMinimal(Field::Features)
    );
    assert_eq!(e(6, &[31; 13]), ParseError::NumberTooLarge(Field::Expiry));
    assert_eq!(e(6, &[1; 1000]), ParseError::NumberTooLarge(Field::Expiry));
    assert_eq!(e(19, &[31; 53]), ParseError::InvalidField(Field::Payee));
    assert_eq!(e(9, &[]), ParseError::InvalidField(Field::Fallback));
    assert_eq!(
        e(9, &[0, 1, 2, 3]),
        ParseError::InvalidField(Field::Fallback)
    );
    assert_eq!(e(9, &[17; 32]), ParseError::InvalidField(Field::Fallback));
    assert_eq!(
        e(3, &quintets(&[2; 50])),
        ParseError::InvalidField(Field::RouteHint)
    );
    assert_eq!(
        e(3, &quintets(&[5; 51])),
        ParseError::InvalidField(Field::RouteHint)
    );
    assert_eq!(
        e(
            5,
            &[
                1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
            ]
        ),
        ParseError::Features(FeatureError::UnknownRequired(100))
    );
    let without_s = vec![
        all[0].clone(),
        all[1].clone(),
        field(13, &quintets(&[0xff, 0xfe])),
    ];
    assert_eq!(p(&without_s), ParseError::InvalidField(Field::Description));

    // The first payment hash counts; repeating a value is harmless.
    let invoice = parse_with(&[field(1, &quintets(&[9; 32])), all[0].clone()]).unwrap();
    assert_eq!(invoice.details().payment_hash, PaymentHash::new([1; 32]));
    // A field that says to be longer than the data.
    let mut cut = field(6, &[1]);
    cut[2] = 30;
    assert_eq!(parse_with(&[cut]), Err(ParseError::FieldTruncated('x')));
    assert_eq!(parse_with(&[vec![2]]), Err(ParseError::FieldTruncated('z')));
}

#[test]
fn a_named_payee_never_meets_recovery() {
    // A signature from which no key can be recovered, beside a named payee: wrong, and no panic.
    let secp = Secp256k1::new();
    let mut named = details();
    named.payee = Some(node());
    let invoice = sign(named.clone());
    assert_eq!(parse(invoice.as_str()).unwrap().payee(), node());
    for id in 0..4 {
        let id = RecoveryId::from_i32(id).unwrap();
        let signature = RecoverableSignature::from_compact(&[1; 64], id).unwrap();
        let attach = |details: InvoiceDetails| {
            let unsigned = details.into_unsigned().unwrap();
            unsigned.attach(&secp, signature).map(|_| ())
        };
        let wrong = BuildError::Signature(ParseError::WrongSignature);
        assert_eq!(attach(named.clone()), Err(wrong));
        // Ids 2 and 3 stand for r above the group's order, which no r as large as this can be.
        if id.to_i32() >= 2 {
            let lost = BuildError::Signature(ParseError::NotRecoverable);
            assert_eq!(attach(details()), Err(lost));
        }
    }
    // Somebody else's signature.
    let other = SecretKey::from_slice(&[8; 32]).unwrap();
    let signed = named.into_unsigned().unwrap().sign_with_key(&secp, &other);
    assert_eq!(
        signed,
        Err(BuildError::Signature(ParseError::WrongSignature))
    );
}

#[test]
fn times_never_overflow() {
    for (made, expiry) in [(0, u64::MAX), ((1 << 35) - 1, u64::MAX), (0, 0), (0, 1)] {
        let invoice = sign(InvoiceDetails {
            timestamp_secs: made,
            expiry_secs: Some(expiry),
            min_final_cltv_expiry_delta: Some(u64::MAX),
            ..details()
        });
        let parsed = parse(invoice.as_str()).unwrap();
        assert_eq!(parsed, invoice);
        let details = parsed.details();
        assert!(!details.is_expired(details.made_at()));
        assert_eq!(details.is_expired(Timestamp::new(u64::MAX)), expiry < 2);
        assert_eq!(
            details.final_cltv_expiry_delta(),
            CltvExpiryDelta::new(u16::MAX)
        );
        let _ = parsed.summary(Timestamp::new(u64::MAX)).to_string();
        let _ = parsed.summary(Timestamp::new(0)).to_string();
    }
    assert_eq!(
        details().final_cltv_expiry_delta(),
        CltvExpiryDelta::new(18)
    );
    assert!(details().is_expired(Timestamp::from_secs(1_700_003_601)));
    assert!(!details().is_expired(Timestamp::from_secs(1_700_003_600)));
}

#[test]
fn hint_fees_never_overflow() {
    let hop = |base, proportional| RouteHintHop {
        node_id: node(),
        short_channel_id: ShortChannelId::from_u64(1),
        fee_base_msat: base,
        fee_proportional_millionths: proportional,
        cltv_expiry_delta: CltvExpiryDelta::new(u16::MAX),
    };
    let hint = RouteHint {
        hops: vec![hop(u32::MAX, u32::MAX); 12],
    };
    assert_eq!(hint.amount_at_start(Msat::MAX), None);
    assert_eq!(hint.amount_at_start(Msat::MAX_MONEY), None);
    assert_eq!(hint.cltv_expiry_delta(), 12 * 65_535);
    let hint = RouteHint {
        hops: vec![hop(1_000, 100), hop(0, 1_000_000)],
    };
    assert_eq!(
        hint.amount_at_start(Msat::new(10_000)),
        Some(Msat::new(21_002))
    );
    let invoice = sign(InvoiceDetails {
        route_hints: vec![
            hint.clone(),
            RouteHint {
                hops: vec![hop(1, 2); 12],
            },
        ],
        ..details()
    });
    assert_eq!(
        parse(invoice.as_str()).unwrap().details().route_hints[0],
        hint
    );
    let build = |hops| {
        InvoiceDetails {
            route_hints: vec![RouteHint { hops }],
            ..details()
        }
        .into_unsigned()
        .map(|_| ())
    };
    assert_eq!(
        build(vec![hop(1, 2); 13]),
        Err(BuildError::TooLong(Field::RouteHint))
    );
    assert_eq!(build(vec![]), Err(BuildError::EmptyRouteHint));
}

#[test]
fn descriptions_are_never_cut_inside_a_character() {
    let build = |text: String| {
        InvoiceDetails {
            description: Description::Text(text),
            ..details()
        }
        .into_unsigned()
    };
    assert!(build("é".repeat(319)).is_ok());
    assert_eq!(
        build("é".repeat(320)).unwrap_err(),
        BuildError::TooLong(Field::Description)
    );
    let invoice = build("a\u{202e}\x1b[2Jb".into()).unwrap();
    let invoice = invoice.sign_with_key(&Secp256k1::new(), &key()).unwrap();
    let shown = invoice
        .summary(Timestamp::from_secs(1_700_000_000))
        .to_string();
    assert!(
        shown.contains("description   a\u{fffd}\u{fffd}[2Jb\n"),
        "{shown}"
    );
    assert!(shown.ends_with("expires in    1 h 0 min"), "{shown}");
    assert!(
        shown.starts_with("amount        any\nnetwork       regtest\n"),
        "{shown}"
    );
}

#[test]
fn what_can_not_be_built() {
    let build = |details: InvoiceDetails| details.into_unsigned().unwrap_err();
    assert_eq!(
        build(InvoiceDetails {
            amount: Some(Msat::ZERO),
            ..details()
        }),
        BuildError::AmountZero
    );
    assert_eq!(
        build(InvoiceDetails {
            timestamp_secs: 1 << 35,
            ..details()
        }),
        BuildError::TimestampTooLarge
    );
    assert_eq!(
        build(InvoiceDetails {
            payment_metadata: Some(vec![0; 640]),
            ..details()
        }),
        BuildError::TooLong(Field::PaymentMetadata)
    );
    let mut features = Features::empty();
    features.set_bit(100);
    assert_eq!(
        build(InvoiceDetails {
            features,
            ..details()
        }),
        BuildError::Features(FeatureError::UnknownRequired(100))
    );
    for (tag, data) in [
        (32, vec![]),
        (2, vec![32]),
        (2, vec![0; 1024]),
        (1, vec![0; 52]),
        (13, vec![]),
    ] {
        let skipped_fields = vec![RawField { tag, data }];
        assert_eq!(
            build(InvoiceDetails {
                skipped_fields,
                ..details()
            }),
            BuildError::RawField(tag)
        );
    }
    let amount = Some(Msat::new(Msat::MAX_MONEY.to_msat() + 1));
    assert_eq!(
        build(InvoiceDetails {
            amount,
            ..details()
        }),
        BuildError::AmountTooLarge
    );
    // Of no meaning in an invoice: refused when even, ignored when odd.
    let features = Features::empty().with_required(Feature::DualFund);
    assert_eq!(
        build(InvoiceDetails {
            features,
            ..details()
        }),
        BuildError::Features(FeatureError::UnknownRequired(28))
    );
    let features = Features::empty().with_optional(Feature::SimpleClose);
    assert!(
        InvoiceDetails {
            features,
            ..details()
        }
        .into_unsigned()
        .is_ok()
    );
    let required = details().features.with_optional(Feature::BasicMpp);
    assert!(
        sign(InvoiceDetails {
            features: required,
            ..details()
        })
        .details()
        .allows_multi_part()
    );
}

#[test]
fn the_text_around_an_invoice() {
    let invoice = sign(details());
    let text = invoice.to_string();
    for form in [
        format!(" {text}\n"),
        text.to_uppercase(),
        format!("lightning:{text}"),
        format!("LIGHTNING:{}", text.to_uppercase()),
    ] {
        assert_eq!(parse(&form).as_ref(), Ok(&invoice), "{form}");
    }
    for bad in [
        "",
        " ",
        "1",
        "ln1",
        "lightning:",
        "lightnin€",
        "é",
        "lnbc1\u{202e}",
        "lnbc1qqqqqq",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_eq!(
        parse("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        Err(ParseError::NotAnInvoice)
    );
    // One wrong letter anywhere is found.
    for i in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[i] = if bytes[i] == b'q' { b'p' } else { b'q' };
        assert!(parse(&String::from_utf8(bytes).unwrap()).is_err(), "{i}");
    }
}

#[test]
fn fallbacks_from_scripts() {
    for script in [
        ScriptBuf::from_hex("76a914010101010101010101010101010101010101010188ac").unwrap(),
        ScriptBuf::from_hex("a914010101010101010101010101010101010101010187").unwrap(),
        ScriptBuf::from_hex("00140101010101010101010101010101010101010101").unwrap(),
        ScriptBuf::from_hex(&format!("5120{}", "01".repeat(32))).unwrap(),
        ScriptBuf::from_hex("51024e73").unwrap(),
    ] {
        let fallback = Fallback::from_script_pubkey(&script).unwrap();
        assert_eq!(fallback.to_script_pubkey(), script);
        let invoice = sign(InvoiceDetails {
            fallbacks: vec![fallback.clone()],
            ..details()
        });
        assert_eq!(
            parse(invoice.as_str()).unwrap().details().fallbacks,
            [fallback]
        );
    }
    assert_eq!(
        Fallback::from_script_pubkey(&ScriptBuf::from_hex("6a01ff").unwrap()),
        None
    );
}

#[test]
fn fallbacks_of_every_version_and_length() {
    let read = |version: u8, len: usize| {
        let data = [&[version][..], &quintets(&vec![1; len])].concat();
        parse_with(&[field(9, &data)]).map(|invoice| invoice.details().clone())
    };
    for version in 0..32u8 {
        for len in 0..45 {
            let is_valid = match version {
                0 => [20, 32].contains(&len),
                1..=16 => (2..=40).contains(&len),
                17 | 18 => len == 20,
                // BOLT 11, a reader: skip them whatever they hold.
                _ => {
                    let details = read(version, len).unwrap();
                    assert_eq!(details.skipped_fields[0].tag, 9);
                    assert_eq!(details.fallbacks, []);
                    continue;
                }
            };
            let read = read(version, len);
            if !is_valid {
                let invalid = ParseError::InvalidField(Field::Fallback);
                assert_eq!(read, Err(invalid), "{version} {len}");
                continue;
            }
            let details = read.unwrap();
            let script = details.fallbacks[0].to_script_pubkey();
            let expected = match version {
                17 => format!("76a914{}88ac", "01".repeat(20)),
                18 => format!("a914{}87", "01".repeat(20)),
                0 => format!("00{len:02x}{}", "01".repeat(len)),
                _ => format!("{:02x}{len:02x}{}", 0x50 + version, "01".repeat(len)),
            };
            assert_eq!(script.to_hex_string(), expected);
            assert_eq!(
                Fallback::from_script_pubkey(&script).as_ref(),
                Some(&details.fallbacks[0])
            );
            assert_eq!(*sign(details.clone()).details(), details);
        }
    }
}

#[test]
fn the_largest_multiplier_is_written() {
    for (msat, amount) in [
        (100_000_000_000, "1"),
        (2_100_000_000_000_000_000, "21000000"),
        (100_000_000, "1m"),
        (2_000_000_000, "20m"),
        (100_000, "1u"),
        (1_500_000, "15u"),
        (100, "1n"),
        (2_500, "25n"),
        (1, "10p"),
        (967_878_534, "9678785340p"),
        (123_456_789_012, "1234567890120p"),
    ] {
        let invoice = sign(InvoiceDetails {
            amount: Some(Msat::new(msat)),
            ..details()
        });
        let start = format!("lnbcrt{amount}1");
        assert!(invoice.as_str().starts_with(&start), "{invoice}");
        let read = parse(invoice.as_str()).unwrap();
        assert_eq!(read.details().amount, Some(Msat::new(msat)));
    }
}

#[test]
fn descriptions_given_elsewhere() {
    let text = "caf\u{e9} ".repeat(200);
    let hash = Description::Hash(sha256::Hash::hash(text.as_bytes()));
    assert!(hash.is_of(&text));
    assert!(!hash.is_of(&text[..1_199]));
    let short = Description::Text("coffee".into());
    assert!(short.is_of("coffee"));
    assert!(!short.is_of("Coffee"));
    let invoice = sign(InvoiceDetails {
        description: hash,
        ..details()
    });
    let shown = invoice.summary(Timestamp::from_secs(0)).to_string();
    assert!(shown.contains("given elsewhere"), "{shown}");
}

#[test]
fn what_people_read() {
    let at = |details: InvoiceDetails, secs: u64| {
        sign(details)
            .summary(Timestamp::from_secs(secs))
            .to_string()
    };
    let hop = RouteHintHop {
        node_id: node(),
        short_channel_id: ShortChannelId::from_u64(1),
        fee_base_msat: 0,
        fee_proportional_millionths: 0,
        cltv_expiry_delta: CltvExpiryDelta::new(1),
    };
    let script = ScriptBuf::from_hex("00140101010101010101010101010101010101010101").unwrap();
    let full = InvoiceDetails {
        amount: Some(Msat::new(967_878_534)),
        expiry_secs: Some(3 * 86_400 + 7_200),
        fallbacks: vec![Fallback::from_script_pubkey(&script).unwrap()],
        route_hints: vec![RouteHint { hops: vec![hop] }],
        features: details().features.with_optional(Feature::BasicMpp),
        ..details()
    };
    let shown = at(full.clone(), 1_700_000_000);
    let rows: Vec<&str> = shown.lines().collect();
    assert_eq!(rows[0], "amount        967878.534 sat (0.00967878534 BTC)");
    assert_eq!(
        rows[5..],
        [
            "payable       in one part or several, with 1 route hints",
            "on chain      bcrt1qqyqszqgpqyqszqgpqyqszqgpqyqszqgpvxat9t",
            "expires in    3 d 2 h",
        ]
    );
    let left = |secs| at(full.clone(), secs).lines().last().unwrap().to_string();
    let end = 1_700_000_000 + 3 * 86_400 + 7_200;
    assert_eq!(left(end - 3_661), "expires in    1 h 1 min");
    assert_eq!(left(end - 61), "expires in    1 min 1 s");
    assert_eq!(left(end), "expires in    0 s");
    assert_eq!(left(end + 1), "expired       yes");
    let whole = InvoiceDetails {
        amount: Some(Msat::from_sat(300_000_000)),
        ..details()
    };
    assert!(at(whole, 0).starts_with("amount        300000000 sat (3 BTC)\n"));
}

#[test]
fn errors_name_the_field() {
    let error = parse_with(&[field(6, &[0, 1])]).unwrap_err();
    assert_eq!(error.field(), Some(Field::Expiry));
    assert_eq!(
        error.to_string(),
        "the expiry (field x) begins with zeros (BOLT 11)"
    );
    assert_eq!(parse("lnbc1").unwrap_err().field(), None);
}
