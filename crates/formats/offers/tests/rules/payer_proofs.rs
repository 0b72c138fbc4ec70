//! Payer proofs.

use bitcoin::secp256k1::Secp256k1;
use fulmen_offers::*;
use fulmen_types::{Msat, PaymentPreimage, codec::BigSize, codec::Encode};

use crate::{common::*, *};

fn preimage() -> PaymentPreimage {
    PaymentPreimage::new([1; 32])
}

/// An invoice with something in every range.
fn invoice() -> Invoice {
    let unknown = |kind| {
        let value = b"extra".to_vec();
        vec![UnknownField { kind, value }]
    };
    let mut fields = priced(10);
    fields.unknown = unknown(1_000_000_001);
    let mut asked = request_fields();
    asked.unknown = unknown(2_000_000_001);
    asked.payer_note = Some("to 1 Secret Street".into());
    let mut answer = invoice_fields(10);
    answer.unknown = unknown(3_000_000_001);
    answer.features = Mpp::Optional.to_features();
    invoice_for(&request(&offer(&fields), &asked), &answer)
}

fn prove(types: &[u64], note: Option<&str>) -> PayerProof {
    let disclosure = Disclosure {
        types: types.iter().copied().collect(),
        note: note.map(Into::into),
    };
    let unsigned = invoice().prove(preimage(), &disclosure).unwrap();
    unsigned
        .sign_with_key(&Secp256k1::new(), &key(PAYER))
        .unwrap()
}

/// A proof with something changed, signed anew by the payer.
fn read(base: &PayerProof, change: Change<'_>) -> Result<PayerProof, ParseError> {
    let mut records = records(base.as_bytes());
    change(&mut records);
    let bytes = resign_as(&mut records, "payer_proof", 241, &key(PAYER));
    PayerProof::from_bytes(&Secp256k1::new(), &bytes)
}

#[test]
fn what_is_shown() {
    let invoice = invoice();
    let root = merkle_root(invoice.as_bytes()).unwrap();
    let least = prove(&[], None);
    let kinds: Vec<u64> = records(least.as_bytes()).into_keys().collect();
    assert_eq!(kinds, [88, 168, 174, 176, 240, 241, 1001, 1002, 1003, 1004]);
    assert_eq!(least.payer_id(), public(PAYER));
    assert_eq!(least.node_id(), public(ISSUER));
    assert!(least.pays(&offer(&priced(11))));
    let stranger = OfferFields {
        issuer_id: Some(public(PAYER)),
        ..offer_fields()
    };
    assert!(!least.pays(&offer(&stranger)));
    let by_path = OfferFields {
        issuer_id: None,
        paths: Some(vec![path(1, ISSUER)]),
        ..offer_fields()
    };
    assert!(!least.pays(&offer(&by_path)));
    assert_eq!(least.payment_hash(), preimage().payment_hash());
    assert_eq!(least.preimage(), &preimage());
    assert_eq!(least.invoice_merkle_root(), &root);
    assert_eq!(least.invoice_signature(), invoice.signature());
    assert_eq!(
        (least.amount(), least.created_at(), least.note()),
        (None, None, None)
    );
    assert_eq!(least.offer(), &OfferFields::default());
    assert_eq!(least.field(10), None);

    // All that there is, and some that there is not.
    let all: Vec<u64> = records(invoice.as_bytes())
        .into_keys()
        .filter(|kind| ![0, 240].contains(kind))
        .chain([20, 1_500_000_000])
        .collect();
    let most = prove(&all, Some("for the tax office"));
    assert_eq!(most.offer(), invoice.offer());
    assert_eq!(most.amount(), Some(Msat::new(10)));
    assert_eq!(most.created_at(), Some(NOW));
    assert_eq!(most.note(), Some("for the tax office"));
    assert_eq!(most.field(3_000_000_001), Some(&b"extra"[..]));
    assert_eq!(most.invoice_merkle_root(), &root);
    assert!(!records(most.as_bytes()).contains_key(&1002));
    // The secret is in none of the proofs that do not show it.
    let secret = b"Secret Street";
    let has_secret = |proof: &PayerProof| proof.as_bytes().windows(13).any(|w| w == secret);
    assert!(has_secret(&most));
    assert!(!has_secret(&prove(&[10, 164, 170, 1_000_000_001], None)));

    let text = most.to_string();
    assert!(text.starts_with("lnp1"));
    assert_eq!(text.to_uppercase().parse(), Ok(most.clone()));
    assert_eq!(
        text.parse::<Invoice>(),
        Err(ParseError::Text(TextError::Prefix("lni")))
    );
}

#[test]
fn every_choice_of_fields_proves_the_same_invoice() {
    let kinds: Vec<u64> = records(invoice().as_bytes())
        .into_keys()
        .filter(|kind| ![0, 88, 168, 174, 176, 240].contains(kind))
        .collect();
    assert_eq!(kinds.len(), 11);
    let root = merkle_root(invoice().as_bytes()).unwrap();
    for choice in (0u32..1 << kinds.len()).step_by(13) {
        let shown: Vec<u64> = (0..)
            .zip(&kinds)
            .filter(|(bit, _)| choice >> bit & 1 == 1)
            .map(|(_, kind)| *kind)
            .collect();
        let proof = prove(&shown, None);
        assert_eq!(proof.invoice_merkle_root(), &root, "{shown:?}");
        assert!(shown.iter().all(|kind| proof.field(*kind).is_some()));
    }
}

#[test]
fn what_can_not_be_proven() {
    let invoice = invoice();
    for kind in [0, 240, 241, 1_000, 1_001, 999_999_999, 4_000_000_000] {
        let disclosure = Disclosure {
            types: [kind].into(),
            note: None,
        };
        assert_eq!(
            invoice.prove(preimage(), &disclosure),
            Err(BuildError::NotDisclosable(kind))
        );
    }
    let nothing = Disclosure::default();
    assert_eq!(
        invoice.prove(PaymentPreimage::new([2; 32]), &nothing),
        Err(BuildError::Rule(ParseError::WrongPreimage))
    );
    let unsigned = invoice.prove(preimage(), &nothing).unwrap();
    assert_eq!(
        unsigned.sign_with_key(&Secp256k1::new(), &key(1)),
        Err(BuildError::Rule(ParseError::WrongSignature(
            Field::InvreqPayerId
        )))
    );
}

#[test]
fn what_is_refused() {
    let base = prove(&[10, 164, 170], Some("note"));
    let check = |change: Change<'_>| read(&base, change).map(|_| ());
    assert_eq!(check(&|_| {}), Ok(()));
    for field in [
        Field::InvreqPayerId,
        Field::InvoicePaymentHash,
        Field::InvoiceNodeId,
        Field::Signature,
        Field::ProofPreimage,
        Field::ProofMissingHashes,
        Field::ProofLeafHashes,
    ] {
        assert_eq!(
            check(&|r| _ = r.remove(&field.number())),
            Err(ParseError::Missing(field))
        );
    }
    let mut unsigned = records(base.as_bytes());
    unsigned.remove(&241);
    assert_eq!(
        PayerProof::from_bytes(&Secp256k1::new(), &stream(&unsigned)),
        Err(ParseError::Missing(Field::ProofSignature))
    );
    assert_eq!(
        check(&|r| set(r, 0, [0; 16])),
        Err(ParseError::Unexpected(Field::InvreqMetadata))
    );
    assert_eq!(
        check(&|r| set(r, 1001, [9; 32])),
        Err(ParseError::WrongPreimage)
    );
    // Unknown: even ones, and odd ones, which the payer's signature covers.
    assert_eq!(
        check(&|r| set(r, 1006, [])),
        Err(ParseError::UnknownEven(1006))
    );
    assert_eq!(check(&|r| set(r, 1007, [])), Ok(()));
    assert_eq!(
        check(&|r| set(r, 4_000_000_001, [])),
        Err(ParseError::TypeOutOfRange(4_000_000_001))
    );
    // What the invoice never said.
    assert_eq!(
        check(&|r| set(r, 10, "something else")),
        Err(ParseError::WrongSignature(Field::InvoiceNodeId))
    );
    assert_eq!(
        check(&|r| set(r, 12, [])),
        Err(ParseError::LeafHashCount {
            hashes: 7,
            fields: 8
        })
    );
    // The note is part of what the payer signed.
    let mut records = records(base.as_bytes());
    set(&mut records, 1005, "another");
    assert_eq!(
        PayerProof::from_bytes(&Secp256k1::new(), &stream(&records)),
        Err(ParseError::WrongSignature(Field::InvreqPayerId))
    );
}

#[test]
fn markers_are_checked() {
    let base = prove(&[10], None);
    let good = [1u64, 11, 89, 90, 91, 92, 169, 177, 178, 179];
    let with = |markers: &[u64]| {
        let value: Vec<u8> = markers
            .iter()
            .flat_map(|m| BigSize(*m).to_bytes())
            .collect();
        read(&base, &|r| set(r, 1002, &value)).map(|_| ())
    };
    assert_eq!(with(&good), Ok(()), "{:?}", base.field(1002));
    let changed = |at: usize, marker| {
        let mut markers = good;
        markers[at] = marker;
        with(&markers)
    };
    assert_eq!(changed(0, 0), Err(ParseError::InvalidMarker(0)));
    for marker in [240, 1_000, 1_001, 999_999_999, 4_000_000_000, u64::MAX] {
        assert_eq!(changed(9, marker), Err(ParseError::InvalidMarker(marker)));
    }
    assert_eq!(changed(2, 11), Err(ParseError::MarkerOutOfOrder(11)));
    assert_eq!(changed(2, 5), Err(ParseError::MarkerOutOfOrder(5)));
    assert_eq!(changed(0, 2), Err(ParseError::MarkerNotMinimal(2)));
    assert_eq!(changed(2, 13), Err(ParseError::MarkerNotMinimal(13)));
    assert_eq!(changed(0, 10), Err(ParseError::MarkerIsShown(10)));
    assert_eq!(
        changed(9, 1_000_000_000),
        Err(ParseError::MarkerNotMinimal(1_000_000_000))
    );
    // Too few and too many: the hashes no longer fit.
    assert!(with(&good[..8]).is_err());
    assert!(with(&[&good[..], &[180]].concat()).is_err());
    // Behind 239 markers go on where the next range begins.
    let mut many = good[..7].to_vec();
    many.extend(177..240);
    many.push(1_000_000_000);
    assert!(matches!(
        with(&many),
        Err(ParseError::MissingHashCount(_) | ParseError::WrongSignature(_))
    ));
    many.push(1_000_000_002);
    assert_eq!(
        with(&many),
        Err(ParseError::MarkerNotMinimal(1_000_000_002))
    );
}
