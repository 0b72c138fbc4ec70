//! Reads the data files under `vectors/`, and makes invoices that no writer would make.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

use bech32::{Bech32, Checksum, Fe32, Hrp, primitives::iter::Fe32IterExt};
use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::{Message, PublicKey, Secp256k1, SecretKey},
};
use fulmen_invoice::{Currency, Description, Invoice, InvoiceDetails, ParseError};
use fulmen_types::{PaymentHash, PaymentSecret, Timestamp};

pub(crate) struct Item<'a>(Vec<(&'a str, &'a str)>);

pub(crate) fn items(file: &str) -> Vec<Item<'_>> {
    file.split("\n\n")
        .map(|item| {
            item.lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| line.split_once(' ').unwrap_or((line, "")))
                .collect::<Vec<_>>()
        })
        .filter(|item| !item.is_empty())
        .map(Item)
        .collect()
}

impl<'a> Item<'a> {
    pub(crate) fn all(&self, name: &str) -> Vec<&'a str> {
        self.0
            .iter()
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| *value)
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.all(name).first().copied()
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).map(|text| text.parse().unwrap())
    }
}

pub(crate) fn key() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

pub(crate) fn node() -> PublicKey {
    PublicKey::from_secret_key(&Secp256k1::new(), &key())
}

pub(crate) fn details() -> InvoiceDetails {
    InvoiceDetails::new(
        Currency::Regtest,
        Timestamp::from_secs(1_700_000_000),
        PaymentHash::new([1; 32]),
        PaymentSecret::new([2; 32]),
        Description::Text("coffee".into()),
    )
}

pub(crate) fn sign(details: InvoiceDetails) -> Invoice {
    let unsigned = details.into_unsigned().unwrap();
    unsigned.sign_with_key(&Secp256k1::new(), &key()).unwrap()
}

enum Unlimited {}
impl Checksum for Unlimited {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = 6;
    const GENERATOR_SH: [u32; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = 1;
}

pub(crate) fn quintets(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1))
        .collect();
    bits.chunks(5)
        .map(|chunk| (0..5).fold(0, |acc, i| acc << 1 | chunk.get(i).unwrap_or(&0)))
        .collect()
}

pub(crate) fn field(tag: u8, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    let mut out = vec![tag, (len >> 5) as u8, (len & 31) as u8];
    out.extend(data);
    out
}

/// A signed invoice with whatever fields after a timestamp.
pub(crate) fn raw_invoice(hrp: &str, fields: &[Vec<u8>]) -> String {
    let mut data = vec![1, 12, 18, 31, 28, 25, 2];
    data.extend(fields.concat());
    let mut signed = hrp.as_bytes().to_vec();
    let bits: Vec<u8> = data
        .iter()
        .flat_map(|q| (0..5).rev().map(move |i| q >> i & 1))
        .collect();
    signed.extend(
        bits.chunks(8)
            .map(|chunk| (0..8).fold(0, |acc, i| acc << 1 | chunk.get(i).unwrap_or(&0))),
    );
    let message = Message::from_digest(sha256::Hash::hash(&signed).to_byte_array());
    let signature = Secp256k1::new().sign_ecdsa_recoverable(&message, &key());
    let (id, compact) = signature.serialize_compact();
    let mut bytes = compact.to_vec();
    bytes.push(u8::try_from(id.to_i32()).unwrap());
    data.extend(quintets(&bytes));
    text(hrp, &data)
}

pub(crate) fn text(hrp: &str, data: &[u8]) -> String {
    data.iter()
        .map(|q| Fe32::try_from(*q).unwrap())
        .with_checksum::<Unlimited>(&Hrp::parse(hrp).unwrap())
        .chars()
        .collect()
}

pub(crate) fn required() -> Vec<Vec<u8>> {
    vec![
        field(16, &quintets(&[2; 32])),
        field(1, &quintets(&[1; 32])),
        field(13, &quintets(b"coffee")),
    ]
}

pub(crate) fn parse(text: &str) -> Result<Invoice, ParseError> {
    Invoice::parse(&Secp256k1::new(), text)
}

pub(crate) fn parse_with(extra: &[Vec<u8>]) -> Result<Invoice, ParseError> {
    parse(&raw_invoice(
        "lnbcrt",
        &[required(), extra.to_vec()].concat(),
    ))
}
