//! Payer proofs (BOLT 12): texts and TLV streams as they are, and proofs made from generated invoices.

use std::collections::BTreeSet;

use bitcoin::secp256k1::Keypair;
use fulmen_offers::{
    Disclosure, Invoice, InvoiceFields, Offer, OfferFields, PayerProof, RequestFields, UnknownField,
};
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedPath, EncryptedData, blind_route},
};
use fulmen_types::{
    CltvExpiryDelta, Features, Msat, PaymentPreimage,
    codec::{Encode, TlvReader, TlvWriter},
};

use crate::{
    bolt12::signed_by,
    choice,
    keys::{SECP, public, secret},
};

/// Whose keys sign: of who is paid, and of who pays.
const ISSUER: u8 = 7;
const PAYER: u8 = 8;
const PREIMAGE: PaymentPreimage = PaymentPreimage::new([1; 32]);
/// The fields that a proof has of its own, and its signatures.
const OWN: core::ops::RangeInclusive<u64> = 240..=999_999_999;

/// The first byte chooses: a text, a TLV stream, a generated invoice that is proven, or such a proof changed and
/// signed again by its payer.
pub(crate) fn payer_proof(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    match which % 4 {
        0 => {
            if let Some(proof) = core::str::from_utf8(data)
                .ok()
                .and_then(|text| PayerProof::parse(&SECP, text).ok())
            {
                check(&proof);
            }
        }
        1 => {
            if let Ok(proof) = PayerProof::from_bytes(&SECP, data) {
                check(&proof);
            }
        }
        2 => prove(data),
        _ => forge(data),
    }
}

fn check(proof: &PayerProof) {
    assert_eq!(
        PayerProof::parse(&SECP, &proof.to_string()).as_ref(),
        Ok(proof)
    );
    assert_eq!(
        PayerProof::from_bytes(&SECP, proof.as_bytes()).as_ref(),
        Ok(proof)
    );
    assert_eq!(proof.preimage().payment_hash(), proof.payment_hash());
    assert_eq!(
        proof.field(0),
        None,
        "the metadata would let all be guessed"
    );
}

/// Takes one byte, or a zero at the end.
fn byte(data: &mut &[u8]) -> u8 {
    match choice(data) {
        Some((first, rest)) => {
            *data = rest;
            first
        }
        None => 0,
    }
}

fn bytes(data: &mut &[u8]) -> Vec<u8> {
    let len = usize::from(byte(data) % 40);
    let (taken, rest) = data.split_at(len.min(data.len()));
    *data = rest;
    taken.to_vec()
}

/// Up to seven odd fields from a type on.
fn unknown(data: &mut &[u8], from: u64) -> Vec<UnknownField> {
    let mut kind = from;
    (0..byte(data) % 8)
        .map(|_| {
            kind += 2 * u64::from(1 + byte(data) % 4);
            UnknownField {
                kind,
                value: bytes(data),
            }
        })
        .collect()
}

/// An invoice with fields of all ranges as the data say.
fn invoice(data: &mut &[u8]) -> Invoice {
    let flags = byte(data);
    let offer = OfferFields {
        metadata: (flags & 1 != 0).then(|| bytes(data)),
        description: (flags & 2 != 0).then(|| "coffee".into()),
        issuer: (flags & 4 != 0).then(|| "ada".into()),
        quantity_max: (flags & 8 != 0).then_some(0),
        issuer_id: Some(public(ISSUER)),
        unknown: [unknown(data, 23), unknown(data, 1_000_000_001)].concat(),
        ..OfferFields::default()
    };
    let mut request = RequestFields::new(vec![byte(data); 16], public(PAYER));
    request.amount = Some(Msat::new(1_000));
    request.quantity = offer.quantity_max.map(|_| 1);
    request.payer_note = (flags & 16 != 0).then(|| "thanks".into());
    request.unknown = [unknown(data, 93), unknown(data, 2_000_000_001)].concat();
    let offer = Offer::new(&offer).expect("its fields are good");
    let request = offer
        .request(&request)
        .and_then(|request| request.sign_with_key(&SECP, &secret(PAYER)))
        .expect("its fields are good");
    let route = [(public(ISSUER), EncryptedData::default().to_bytes())];
    let path = PaymentPath {
        path: BlindedPath {
            first_node_id: public(ISSUER).into(),
            route: blind_route(&SECP, &secret(9), &route).expect("the keys are good"),
        },
        payinfo: BlindedPayinfo {
            fee_base_msat: 1,
            fee_proportional_millionths: 2,
            cltv_expiry_delta: CltvExpiryDelta::new(3),
            htlc_minimum_msat: Msat::new(4),
            htlc_maximum_msat: Msat::new(5_000),
            features: Features::empty(),
        },
    };
    let hash = PREIMAGE.payment_hash();
    let mut fields = InvoiceFields::new(
        1_700_000_000,
        hash,
        Msat::new(1_000),
        public(ISSUER),
        vec![path],
    );
    fields.relative_expiry = (flags & 32 != 0).then_some(60);
    fields.unknown = [unknown(data, 177), unknown(data, 3_000_000_001)].concat();
    request
        .respond(&fields)
        .and_then(|invoice| invoice.sign_with_key(&SECP, &secret(ISSUER)))
        .expect("its fields are good")
}

/// Types and values of a stream.
fn fields(stream: &[u8]) -> Vec<(u64, Vec<u8>)> {
    TlvReader::new(stream)
        .map_while(Result::ok)
        .map(|record| (record.kind, record.value.to_vec()))
        .collect()
}

/// An invoice, and a proof of it that shows what the data say.
fn made(data: &mut &[u8]) -> (Invoice, PayerProof) {
    let invoice = invoice(data);
    let mut types = BTreeSet::new();
    for (kind, _) in fields(invoice.as_bytes()) {
        if kind != 0 && !OWN.contains(&kind) && kind < 4_000_000_000 && byte(data) % 2 == 1 {
            types.insert(kind);
        }
    }
    let note = (byte(data) % 2 == 1).then(|| "for the office".into());
    let disclosure = Disclosure { types, note };
    let proof = invoice
        .prove(PREIMAGE, &disclosure)
        .and_then(|proof| proof.sign_with_key(&SECP, &secret(PAYER)))
        .expect("a paid invoice can be proven");
    assert_eq!(proof.note(), disclosure.note.as_deref());
    for (kind, value) in fields(invoice.as_bytes()) {
        let is_required = matches!(kind, 88 | 168 | 174 | 176);
        if is_required || disclosure.types.contains(&kind) {
            assert_eq!(proof.field(kind), Some(value.as_slice()));
        } else if !OWN.contains(&kind) {
            assert_eq!(proof.field(kind), None, "{kind} is to be hidden");
        }
    }
    (invoice, proof)
}

/// Made, shown, read; and refused with one bit changed.
fn prove(mut data: &[u8]) {
    let (_, proof) = made(&mut data);
    check(&proof);
    assert_eq!(proof.payer_id(), public(PAYER));
    assert_eq!(proof.node_id(), public(ISSUER));
    let mut changed = proof.as_bytes().to_vec();
    let at = (usize::from(byte(&mut data)) << 8 | usize::from(byte(&mut data))) % changed.len();
    changed[at] ^= 1 << (byte(&mut data) % 8);
    let read = PayerProof::from_bytes(&SECP, &changed);
    assert!(read.is_err(), "bit {at} of {changed:02x?} may be changed");
}

/// A payer who lies: fields of the proof taken out, put in and changed, and all signed again. Whatever is read shows
/// nothing that the payee did not sign.
fn forge(mut data: &[u8]) {
    let (invoice, proof) = made(&mut data);
    let true_fields = fields(invoice.as_bytes());
    let mut lies = fields(proof.as_bytes());
    for _ in 0..byte(&mut data) % 4 {
        let at = usize::from(byte(&mut data)) % lies.len().max(1);
        match byte(&mut data) % 6 {
            0 if !lies.is_empty() => drop(lies.remove(at)),
            1 => {
                // One of the invoice's own, or one of the liar's.
                let at = usize::from(byte(&mut data)) % true_fields.len();
                lies.push(true_fields[at].clone());
            }
            2 => lies.push((1 + 2 * u64::from(byte(&mut data)), bytes(&mut data))),
            3 => {
                if let Some((_, value)) = lies.get_mut(at) {
                    let len = usize::from(byte(&mut data)) * 32 % (value.len() + 1);
                    value.truncate(len);
                    value.extend(bytes(&mut data));
                }
            }
            4 => {
                if let Some((_, value)) = lies.get_mut(at)
                    && !value.is_empty()
                {
                    let at = usize::from(byte(&mut data)) % value.len();
                    value[at] ^= 1 << (byte(&mut data) % 8);
                }
            }
            _ => {
                if let Some((kind, _)) = lies.get_mut(at) {
                    *kind = kind
                        .wrapping_add(2 * u64::from(byte(&mut data)))
                        .wrapping_sub(16);
                }
            }
        }
    }
    lies.sort();
    lies.dedup_by_key(|(kind, _)| *kind);
    let mut stream = Vec::new();
    let mut writer = TlvWriter::new(&mut stream);
    for (kind, value) in &lies {
        writer.put(*kind, value);
    }
    let keypair = Keypair::from_secret_key(&*SECP, &secret(PAYER));
    let stream = signed_by(&keypair, &stream, ("payer_proof", "proof_signature", 241));
    let Ok(read) = PayerProof::from_bytes(&SECP, &stream) else {
        return;
    };
    check(&read);
    assert_eq!(read.invoice_merkle_root(), proof.invoice_merkle_root());
    assert_eq!(read.payment_hash(), proof.payment_hash());
    for (kind, value) in fields(&stream) {
        if !OWN.contains(&kind) {
            assert!(
                true_fields.contains(&(kind, value)),
                "the payee signed no such field {kind}"
            );
        }
    }
}
