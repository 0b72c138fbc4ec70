//! `bitcoin:` URIs, and how the DNS keeps them.

use std::slice;

use bitcoin::{Address, Amount, address::NetworkUnchecked};
use fulmen_offers::*;

fn parse(text: &str) -> Result<PaymentUri, UriError> {
    text.parse()
}

fn address(text: &str) -> Address<NetworkUnchecked> {
    text.parse().unwrap()
}

const BECH32: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

#[test]
fn scheme_and_body() {
    for text in [
        "",
        "bitcoin",
        "bitcoi",
        "itcoin:?lno=a",
        "lightning:?lno=a",
        "bitcoi\u{20ac}?lno=a",
        " bitcoin:?lno=a",
    ] {
        assert_eq!(parse(text), Err(UriError::Scheme), "{text}");
    }
    for text in ["bitcoin:", "bitcoin:?", "bitcoin:?amount=1", "bitcoin:?&&"] {
        assert_eq!(parse(text), Err(UriError::NothingToPay), "{text}");
    }
    let valid = format!("BitCoin:{BECH32}");
    assert_eq!(parse(&valid).unwrap().address, Some(address(BECH32)));
    for body in [
        "//bc1q",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
        "BC1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "%31",
    ] {
        assert_eq!(
            parse(&format!("bitcoin:{body}")),
            Err(UriError::Address),
            "{body}"
        );
    }
}

#[test]
fn amounts() {
    let amount = |text: &str| {
        parse(&format!("bitcoin:?lno=a&amount={text}")).map(|uri| uri.amount.unwrap().to_sat())
    };
    for (text, sat) in [
        ("0", 0),
        ("1", 100_000_000),
        ("1.", 100_000_000),
        (".1", 10_000_000),
        ("50.00", 5_000_000_000),
        ("0.00000001", 1),
        ("0.123456780000", 12_345_678),
        ("21000000", 2_100_000_000_000_000),
        ("00000000000000000000000000001", 100_000_000),
    ] {
        assert_eq!(amount(text), Ok(sat), "{text}");
    }
    for text in [
        "",
        ".",
        "50,000.00",
        "1.2.3",
        "-1",
        "1e3",
        "0x1",
        " 1",
        "%201",
        "0.000000001",
        "21000000.00000001",
        "184467440738",
        "99999999999999999999999",
        "\u{661}",
    ] {
        assert!(
            matches!(amount(text), Err(UriError::Amount | UriError::Encoding)),
            "{text}"
        );
    }
    assert_eq!(parse("bitcoin:?lno=a&amount"), Err(UriError::Amount));
}

#[test]
fn keys_and_values() {
    let uri = parse("bitcoin:?LnO=Lno1X&LABEL=a%26b&Message=%C3%A9&&UNKNOWN&other=%25").unwrap();
    assert_eq!(
        uri.instructions,
        [PaymentInstruction::Offer("Lno1X".into())]
    );
    assert_eq!(uri.label.as_deref(), Some("a&b"));
    assert_eq!(uri.message.as_deref(), Some("\u{e9}"));
    let others = [("unknown".into(), None), ("other".into(), Some("%".into()))];
    assert_eq!(uri.others, others);
    assert_eq!(uri.to_string().parse(), Ok(uri));
    // Known parameters may be required; what nobody here implements may not.
    let uri = parse("bitcoin:?req-lno=a&REQ-amount=1&req-label=x&req-message=y&req-lightning=b");
    assert_eq!(uri.unwrap().instructions.len(), 2);
    for key in ["sp", "pay", "x", ""] {
        assert_eq!(
            parse(&format!("bitcoin:?lno=a&Req-{key}=1")),
            Err(UriError::UnknownRequired(key.into()))
        );
    }
    // Unknown ones may be there twice, and so may ways to pay.
    assert_eq!(
        parse("bitcoin:?lno=a&lno=a&x=1&x=1").unwrap().others.len(),
        2
    );
    for (key, what) in [("label", "label"), ("message", "message"), ("pop", "pop")] {
        assert_eq!(
            parse(&format!("bitcoin:?lno=a&{key}=x&req-{key}=x%3a")),
            Err(UriError::Duplicate(what))
        );
    }
    for value in [
        "%", "%4", "%4g", "%\u{e9}", "\u{e9}", "a b", "a#b", "\u{202e}", "\0", "\"", "<",
    ] {
        assert_eq!(
            parse(&format!("bitcoin:?lno=a&label={value}")),
            Err(UriError::Encoding),
            "{value}"
        );
        assert_eq!(
            parse(&format!("bitcoin:?lno=a&{value}")),
            Err(UriError::Encoding)
        );
    }
    // Half a character of UTF-8, as a byte-wise cut leaves it.
    assert_eq!(
        parse("bitcoin:?lno=a&label=caf%C3"),
        Err(UriError::NotUtf8("label".into()))
    );
    // A stranger's key can't move the cursor.
    let error = parse("bitcoin:?lno=a&req-%1b%5b2J=1")
        .unwrap_err()
        .to_string();
    assert!(error.contains("\u{fffd}[2j"), "{error}");
}

#[test]
fn segwit_addresses() {
    let regtest = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let testnet = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
    for (key, text) in [("bc", BECH32), ("tb", testnet), ("bcrt", regtest)] {
        let uri = parse(&format!("bitcoin:?{key}={text}")).unwrap();
        assert_eq!(
            uri.instructions,
            [PaymentInstruction::Address(address(text))]
        );
        assert_eq!(uri.to_string(), format!("bitcoin:?{key}={text}"));
        for other in ["bc", "tb", "bcrt"]
            .into_iter()
            .filter(|other| *other != key)
        {
            assert_eq!(
                parse(&format!("bitcoin:?{other}={text}")),
                Err(UriError::SegwitAddress(other))
            );
        }
    }
    let legacy = "bitcoin:?bc=1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";
    assert_eq!(parse(legacy), Err(UriError::SegwitAddress("bc")));
}

#[test]
fn capitals_for_a_qr_code() {
    let uri = parse(&format!("bitcoin:{BECH32}?amount=0.1&lno=lno1abc&sp=sp1q")).unwrap();
    let capitals = uri.to_qr_text().unwrap();
    assert_eq!(
        capitals,
        format!(
            "BITCOIN:{}?AMOUNT=0.1&LNO=LNO1ABC&SP=SP1Q",
            BECH32.to_uppercase()
        )
    );
    let read = parse(&capitals).unwrap();
    assert_eq!((read.address, read.amount), (uri.address, uri.amount));
    for text in [
        "bitcoin:1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "bitcoin:?lno=a&label=x",
        "bitcoin:?lno=a&message=x",
        "bitcoin:?lno=a&pop=x%3a",
        "bitcoin:?lno=a&x=y",
    ] {
        assert_eq!(parse(text).unwrap().to_qr_text(), None, "{text}");
    }
}

#[test]
fn proofs_of_payment() {
    let pop = |value: &str| {
        parse(&format!("bitcoin:?lno=a&pop={value}"))
            .unwrap()
            .pop
            .unwrap()
    };
    // The examples of BIP 321.
    for (value, key, callback) in [
        (
            "initiatingapp%3a",
            "onchain",
            Some("initiatingapp:onchain=00"),
        ),
        (
            "callbackuri%3abody%3fpop=",
            "lightning",
            Some("callbackuri:body?pop=lightning=00"),
        ),
        ("app%3a%3f", "lightning", Some("app:?lightning=00")),
        ("https%3aiwantyouripaddress.com", "onchain", None),
        ("HtTpS%3a%2f%2fx", "onchain", None),
        ("file%3a%2f%2f", "onchain", None),
        ("javascript%3aalert(1)", "onchain", None),
        ("mailto%3ax", "onchain", None),
        ("data%3a", "onchain", None),
        ("no-scheme", "onchain", None),
        ("%20http%3a", "onchain", None),
        ("%3a", "onchain", None),
        ("1app%3a", "onchain", None),
        ("", "onchain", None),
    ] {
        assert_eq!(
            pop(value).callback(key, "00").as_deref(),
            callback,
            "{value}"
        );
        let required = parse(&format!("bitcoin:?lno=a&req-pop={value}"));
        match callback {
            Some(_) => assert!(required.unwrap().pop.unwrap().is_required),
            None => assert_eq!(required, Err(UriError::ProofOfPayment), "{value}"),
        }
    }
}

/// A record of these strings.
fn rdata(strings: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![];
    for string in strings {
        out.push(u8::try_from(string.len()).unwrap());
        out.extend_from_slice(string);
    }
    out
}

#[test]
fn txt_records() {
    let read = |records: &[Vec<u8>]| {
        PaymentUri::from_txt_records(records.iter().map(Vec::as_slice)).map(|uri| uri.to_string())
    };
    let ours = rdata(&[b"bItCoIn:?l", b"", b"no=a"]);
    let other = rdata(&[b"v=spf1 -all"]);
    assert_eq!(
        read(slice::from_ref(&ours)).as_deref(),
        Ok("bitcoin:?lno=a")
    );
    assert_eq!(
        read(&[other.clone(), ours.clone(), rdata(&[b""])]).as_deref(),
        Ok("bitcoin:?lno=a")
    );
    assert_eq!(read(&[]), Err(TxtError::NotFound));
    assert_eq!(read(slice::from_ref(&other)), Err(TxtError::NotFound));
    // Two of them make both invalid, the same or not; records are never joined.
    assert_eq!(read(&[ours.clone(), ours.clone()]), Err(TxtError::Several));
    let start = rdata(&[b"bitcoin:"]);
    assert_eq!(
        read(&[start, rdata(&[b"?lno=a"])]),
        Err(TxtError::Uri(UriError::NothingToPay))
    );
    for bad in [vec![], vec![1], vec![3, b'a', b'b'], vec![0, 1]] {
        assert_eq!(read(&[ours.clone(), bad]), Err(TxtError::Malformed));
    }
    let broken = rdata(&[b"bitcoin:?lno=a&label=\xc3", b"\xa9\xff"]);
    assert_eq!(read(&[broken]), Err(TxtError::NotUtf8));
    // A character cut between two strings is whole again, and refused because it is not percent-encoded.
    let cut = rdata(&[b"bitcoin:?lno=a&label=\xc3", b"\xa9"]);
    assert_eq!(read(&[cut]), Err(TxtError::Uri(UriError::Encoding)));

    let long = PaymentUri {
        amount: Some(Amount::from_sat(1)),
        instructions: vec![PaymentInstruction::Offer(format!(
            "lno1{}",
            "q".repeat(700)
        ))],
        ..PaymentUri::default()
    };
    let record = long.to_txt_record();
    assert_eq!(record[0], 255);
    assert_eq!(PaymentUri::from_txt_records([&record[..]]), Ok(long));
}
