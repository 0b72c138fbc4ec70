//! The vectors of BOLT 1 for what this crate encodes.
#![allow(clippy::unwrap_used, clippy::panic)]

use bitcoin::{hex::FromHex, secp256k1::PublicKey};
use fulmen_types::{
    ShortChannelId,
    codec::{BigSize, Decode, DecodeError, Encode, Reader, TlvReader, Truncated},
};
use fulmen_vectors::report;

fn hex(s: &str) -> Vec<u8> {
    if s == "-" {
        return Vec::new();
    }
    Vec::from_hex(s).unwrap()
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(' ').collect())
}

#[test]
fn vectors_of_bigsize() {
    let (mut decoded, mut encoded) = (0, 0);
    for line in lines(include_str!("../vectors/bolt01-bigsize.txt")) {
        match line[..] {
            ["decode", bytes, "error", kind] => {
                let expected = match kind {
                    "non-minimal" => DecodeError::NonMinimal,
                    "end" => DecodeError::UnexpectedEnd,
                    other => panic!("{other}"),
                };
                assert_eq!(BigSize::from_bytes(&hex(bytes)), Err(expected), "{bytes}");
                decoded += 1;
            }
            ["decode", bytes, value] => {
                let value = BigSize(value.parse().unwrap());
                assert_eq!(BigSize::from_bytes(&hex(bytes)), Ok(value));
                decoded += 1;
            }
            ["encode", bytes, value] => {
                assert_eq!(BigSize(value.parse().unwrap()).to_bytes(), hex(bytes));
                encoded += 1;
            }
            ref other => panic!("{other:?}"),
        }
    }
    report(1, "Appendix A, BigSize decoding", decoded);
    report(1, "Appendix A, BigSize encoding", encoded);
}

#[test]
fn vectors_of_signed_integers() {
    let mut count = 0;
    for line in lines(include_str!("../vectors/bolt01-signed.txt")) {
        let (bytes, value) = (hex(line[0]), line[1].parse::<i64>().unwrap());
        let (decoded, encoded) = match bytes.len() {
            1 => (
                i8::from_bytes(&bytes).unwrap().into(),
                i8::try_from(value).unwrap().to_bytes(),
            ),
            2 => (
                i16::from_bytes(&bytes).unwrap().into(),
                i16::try_from(value).unwrap().to_bytes(),
            ),
            4 => (
                i32::from_bytes(&bytes).unwrap().into(),
                i32::try_from(value).unwrap().to_bytes(),
            ),
            8 => (i64::from_bytes(&bytes).unwrap(), value.to_bytes()),
            other => panic!("{other} bytes"),
        };
        assert_eq!((decoded, encoded), (value, bytes));
        count += 1;
    }
    report(1, "Appendix D, signed integers", count);
}

/// What the streams of Appendix B say, as texts of the vector file.
fn read(namespace: &str, bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut said = Vec::new();
    for record in TlvReader::new(bytes) {
        let record = record?;
        match (namespace, record.kind) {
            ("n1", 1) | ("n2", 0) => {
                let amount: Truncated<u64> = record.parse()?;
                said.push(format!("tlv1 amount_msat={}", amount.0));
            }
            ("n1", 2) => {
                let scid: ShortChannelId = record.parse()?;
                said.push(format!("tlv2 scid={}", scid.to_u64()));
            }
            ("n1", 3) => {
                let mut r = Reader::new(record.value);
                let key = PublicKey::decode(&mut r)?;
                let (one, two) = (u64::decode(&mut r)?, u64::decode(&mut r)?);
                r.finish()?;
                said.push(format!(
                    "tlv3 node_id={key} amount_msat_1={one} amount_msat_2={two}"
                ));
            }
            ("n1", 254) => {
                said.push(format!("tlv4 cltv_delta={}", record.parse::<u16>()?));
            }
            ("n2", 11) => {
                let expiry: Truncated<u32> = record.parse()?;
                said.push(format!("tlv2 cltv_expiry={}", expiry.0));
            }
            _ => record.ignore_if_odd()?,
        }
    }
    Ok(said)
}

#[test]
fn vectors_of_tlv_streams() {
    let (mut ok, mut fail, mut order) = (0, 0, 0);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for line in lines(include_str!("../vectors/bolt01-tlv.txt")) {
        let bytes = hex(line[2]);
        for namespace in line[1].split(',') {
            match line[0] {
                "valid" => {
                    let said = read(namespace, &bytes).unwrap().join(" ");
                    let expected = line[3..].join(" ");
                    assert_eq!(said, if expected == "-" { "" } else { &expected });
                    good.push((namespace, bytes.clone()));
                }
                "invalid" => {
                    assert!(read(namespace, &bytes).is_err(), "{namespace} {}", line[2]);
                    bad.push((namespace, bytes.clone()));
                }
                other => panic!("{other}"),
            }
        }
        match line[0] {
            "valid" => ok += 1,
            // The last part of the appendix: each record is good, their order is not.
            _ if ok > 0 => order += 1,
            _ => fail += 1,
        }
    }
    // "Any appending of an invalid stream to a valid stream should trigger a decoding failure.
    // Any appending of a higher-numbered valid stream to a lower-numbered valid stream should not."
    let first_type = |bytes: &[u8]| BigSize::decode(&mut Reader::new(bytes)).unwrap().0;
    let mut appended = 0;
    for (namespace, one) in &good {
        for (_, other) in bad.iter().filter(|b| b.0 == *namespace) {
            assert!(read(namespace, &[&one[..], other].concat()).is_err());
            appended += 1;
        }
        for (_, other) in good.iter().filter(|g| g.0 == *namespace) {
            if !one.is_empty() && !other.is_empty() {
                let joined = read(namespace, &[&one[..], other].concat());
                assert_eq!(joined.is_ok(), first_type(one) < first_type(other));
                appended += 1;
            }
        }
    }
    assert!(appended > 0);
    report(1, "Appendix B, TLV decoding failures", fail);
    report(1, "Appendix B, TLV stream failures", order);
    report(1, "Appendix B, TLV successes", ok);
}
