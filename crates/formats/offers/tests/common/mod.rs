//! Reads the data files under `vectors/`.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

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

    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_else(|| panic!("no {name}"))
    }
}

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_offers::{InvoiceFields, InvoiceRequest, Offer, OfferFields, RequestFields};
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedPath, EncryptedData, blind_route},
};
use fulmen_types::{
    CltvExpiryDelta, Features, Msat, PaymentPreimage,
    codec::{Encode, TlvReader, TlvWriter},
};

pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

pub(crate) fn public(byte: u8) -> PublicKey {
    PublicKey::from_secret_key(&Secp256k1::new(), &key(byte))
}

/// The key that signs for the last node of [`path`], whatever it is.
pub(crate) const ISSUER: u8 = 7;
pub(crate) const PAYER: u8 = 8;

pub(crate) fn path(first: u8, last: u8) -> BlindedPath {
    let hop = |node| (public(node), EncryptedData::default().to_bytes());
    BlindedPath {
        first_node_id: public(first).into(),
        route: blind_route(&Secp256k1::new(), &key(9), &[hop(first), hop(last)]).unwrap(),
    }
}

pub(crate) fn payment_path() -> PaymentPath {
    PaymentPath {
        path: path(3, ISSUER),
        payinfo: BlindedPayinfo {
            fee_base_msat: 1,
            fee_proportional_millionths: 2,
            cltv_expiry_delta: CltvExpiryDelta::new(3),
            htlc_minimum_msat: Msat::new(4),
            htlc_maximum_msat: Msat::new(5),
            features: Features::empty(),
        },
    }
}

/// Anything for any amount.
pub(crate) fn offer_fields() -> OfferFields {
    OfferFields {
        description: Some("coffee".into()),
        issuer_id: Some(public(ISSUER)),
        ..OfferFields::default()
    }
}

pub(crate) fn priced(amount: u64) -> OfferFields {
    OfferFields {
        amount: Some(amount),
        ..offer_fields()
    }
}

pub(crate) fn offer(fields: &OfferFields) -> Offer {
    Offer::new(fields).unwrap()
}

pub(crate) fn request_fields() -> RequestFields {
    RequestFields::new(vec![0x5a; 16], public(PAYER))
}

pub(crate) fn request(offer: &Offer, fields: &RequestFields) -> InvoiceRequest {
    let unsigned = offer.request(fields).unwrap();
    unsigned
        .sign_with_key(&Secp256k1::new(), &key(PAYER))
        .unwrap()
}

pub(crate) fn invoice_fields(amount: u64) -> InvoiceFields {
    InvoiceFields::new(
        NOW,
        PaymentPreimage::new([1; 32]).payment_hash(),
        Msat::new(amount),
        public(ISSUER),
        vec![payment_path()],
    )
}

pub(crate) type Records = std::collections::BTreeMap<u64, Vec<u8>>;

pub(crate) fn records(stream: &[u8]) -> Records {
    TlvReader::new(stream)
        .map(|record| record.map(|r| (r.kind, r.value.to_vec())).unwrap())
        .collect()
}

pub(crate) fn stream(records: &Records) -> Vec<u8> {
    let mut out = vec![];
    let mut tlvs = TlvWriter::new(&mut out);
    for (kind, value) in records {
        tlvs.put(*kind, value);
    }
    out
}
