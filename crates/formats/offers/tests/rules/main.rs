//! The rules of BOLT 12, one by one, on messages changed field by field.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod invoices;
mod names;
mod offers;
mod payer_proofs;
mod refunds;
mod requests;
mod responses;
mod static_invoices;
mod texts;
mod uris;

use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey};
use common::*;
use fulmen_offers::*;
use fulmen_types::Msat;

pub(crate) const USD: [u8; 3] = *b"USD";

/// Signs a stream anew after it was changed, as a peer that breaks the rules would.
pub(crate) fn resign(records: &mut Records, name: &str, key: &SecretKey) -> Vec<u8> {
    resign_as(records, name, 240, key)
}

/// The same with the signature in another field.
pub(crate) fn resign_as(records: &mut Records, name: &str, kind: u64, key: &SecretKey) -> Vec<u8> {
    let secp = Secp256k1::new();
    let field = Field::from_number(kind).unwrap();
    records.remove(&kind);
    let root = merkle_root(&stream(records)).unwrap();
    let hash = signature_hash(name, field.name(), &root);
    let keypair = Keypair::from_secret_key(&secp, key);
    let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash), &keypair);
    records.insert(kind, signature.serialize().to_vec());
    stream(records)
}

pub(crate) fn set(records: &mut Records, kind: u64, value: impl AsRef<[u8]>) {
    records.insert(kind, value.as_ref().to_vec());
}

pub(crate) type Change<'a> = &'a dyn Fn(&mut Records);

/// An offer with one thing changed.
pub(crate) fn read_offer(base: &OfferFields, change: Change<'_>) -> Result<Offer, ParseError> {
    let mut records = records(offer(base).as_bytes());
    change(&mut records);
    Offer::from_bytes(&stream(&records))
}

/// A signed request with one thing changed.
pub(crate) fn read_request(
    base: &InvoiceRequest,
    change: Change<'_>,
) -> Result<InvoiceRequest, ParseError> {
    let mut records = records(base.as_bytes());
    let was_signed = records.contains_key(&240);
    change(&mut records);
    let bytes = if was_signed {
        resign(&mut records, "invoice_request", &key(PAYER))
    } else {
        stream(&records)
    };
    InvoiceRequest::from_bytes(&Secp256k1::new(), &bytes)
}

/// A signed invoice with one thing changed.
pub(crate) fn read_invoice(base: &Invoice, change: Change<'_>) -> Result<Invoice, ParseError> {
    let mut records = records(base.as_bytes());
    change(&mut records);
    let bytes = resign(&mut records, "invoice", &key(ISSUER));
    Invoice::from_bytes(&Secp256k1::new(), &bytes)
}

pub(crate) fn invoice_for(request: &InvoiceRequest, fields: &InvoiceFields) -> Invoice {
    let unsigned = request.respond(fields).unwrap();
    unsigned
        .sign_with_key(&Secp256k1::new(), &key(ISSUER))
        .unwrap()
}

pub(crate) fn with_amount(msat: u64) -> RequestFields {
    RequestFields {
        amount: Some(Msat::new(msat)),
        ..request_fields()
    }
}

pub(crate) fn with_quantity(quantity: u64) -> RequestFields {
    RequestFields {
        quantity: Some(quantity),
        ..request_fields()
    }
}

pub(crate) fn refund_fields() -> OfferFields {
    OfferFields {
        description: Some("refund".into()),
        ..OfferFields::default()
    }
}
