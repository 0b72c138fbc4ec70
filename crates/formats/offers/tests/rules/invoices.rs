//! Invoices by themselves.

use bitcoin::{constants::ChainHash, secp256k1::Secp256k1};
use fulmen_offers::*;
use fulmen_types::{Features, Timestamp};

use crate::{common::*, *};

#[test]
fn invoice_fields_are_checked() {
    let secp = Secp256k1::new();
    let request = request(&offer(&priced(10)), &request_fields());
    let base = invoice_for(&request, &invoice_fields(10));
    let text = base.to_string();
    assert!(text.starts_with("lni1"));
    assert_eq!(text.to_uppercase().parse().as_ref(), Ok(&base));
    let check = |change: Change<'_>| read_invoice(&base, change).map(|_| ());
    assert_eq!(check(&|_| {}), Ok(()));
    for field in [
        Field::InvreqMetadata,
        Field::InvreqPayerId,
        Field::InvoicePaths,
        Field::InvoiceBlindedpay,
        Field::InvoiceCreatedAt,
        Field::InvoicePaymentHash,
        Field::InvoiceAmount,
        Field::InvoiceNodeId,
    ] {
        assert_eq!(
            check(&|r| _ = r.remove(&field.number())),
            Err(ParseError::Missing(field))
        );
    }
    let mut unsigned = records(base.as_bytes());
    unsigned.remove(&240);
    assert_eq!(
        Invoice::from_bytes(&secp, &stream(&unsigned)),
        Err(ParseError::Missing(Field::Signature))
    );
    assert_eq!(
        check(&|r| set(r, 160, [])),
        Err(ParseError::Empty(Field::InvoicePaths))
    );
    let payinfo = records(base.as_bytes())[&162].clone();
    for (count, value) in [
        (0, vec![]),
        (2, [payinfo.clone(), payinfo.clone()].concat()),
    ] {
        assert_eq!(
            check(&|r| set(r, 162, &value)),
            Err(ParseError::PayinfoCount {
                paths: 1,
                payinfos: count
            })
        );
    }
    // Every path needs something unknown.
    let mut needing = payinfo;
    let end = needing.len() - 2;
    needing.truncate(end);
    needing.extend([0, 1, 0b1]);
    assert_eq!(
        check(&|r| set(r, 162, &needing)),
        Err(ParseError::NoUsablePath)
    );
    *needing.last_mut().unwrap() = 0b10;
    assert_eq!(check(&|r| set(r, 162, &needing)), Ok(()));
    for kind in [92, 178, 1_002, 3_000_000_000] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::UnknownEven(kind))
        );
    }
    for kind in [93, 179, 241, 1_001, 3_000_000_001] {
        assert_eq!(check(&|r| set(r, kind, [])), Ok(()));
    }
    let mut features = Features::empty();
    features.set_bit(18);
    assert_eq!(
        check(&|r| set(r, 174, features.to_be_bytes())),
        Err(ParseError::UnknownFeature(Field::InvoiceFeatures, 18))
    );
    // Signed by another key than invoice_node_id.
    let wrong = request.respond(&invoice_fields(10)).unwrap();
    assert_eq!(
        wrong.sign_with_key(&secp, &key(1)),
        Err(BuildError::Rule(ParseError::WrongSignature(
            Field::InvoiceNodeId
        )))
    );
}

#[test]
fn paths_that_may_not_be_used() {
    let request = request(&offer(&priced(10)), &request_fields());
    let mut fields = invoice_fields(10);
    let mut needing = payment_path();
    needing.payinfo.features.set_bit(0);
    fields.paths.insert(0, needing);
    let invoice = invoice_for(&request, &fields);
    assert_eq!(invoice.invoice().paths.len(), 2);
    assert_eq!(
        invoice.usable_paths().collect::<Vec<_>>(),
        [&payment_path()]
    );
}

#[test]
fn expiry_chain_and_mpp_of_invoices() {
    let request = request(&offer(&priced(10)), &request_fields());
    let mut fields = invoice_fields(10);
    for (expiry, last) in [(None, NOW + 7_200), (Some(60), NOW + 60), (Some(0), NOW)] {
        fields.relative_expiry = expiry;
        let invoice = invoice_for(&request, &fields);
        let check = |secs| invoice.check(ChainHash::BITCOIN, Timestamp::from_secs(secs));
        assert_eq!(check(0), Ok(()));
        assert_eq!(check(last), Ok(()));
        assert_eq!(check(last + 1), Err(CheckError::Expired));
        assert_eq!(
            invoice.check(ChainHash::TESTNET3, Timestamp::from_secs(NOW)),
            Err(CheckError::Chain)
        );
    }
    fields.created_at = u64::MAX;
    assert_eq!(
        invoice_for(&request, &fields).invoice().expires_at(),
        u64::MAX
    );
    for mpp in [Mpp::Forbidden, Mpp::Optional, Mpp::Compulsory] {
        fields.features = mpp.to_features();
        assert_eq!(invoice_for(&request, &fields).invoice().mpp(), mpp);
    }
}

#[test]
fn fallback_addresses() {
    let script = |version, len| {
        FallbackAddress {
            version,
            address: vec![1; len],
        }
        .script_pubkey()
        .map(|script| script.len())
    };
    assert_eq!(script(0, 20), Some(22));
    assert_eq!(script(0, 32), Some(34));
    assert_eq!(script(1, 32), Some(34));
    assert_eq!(script(16, 2), Some(4));
    assert_eq!(script(16, 40), Some(42));
    for (version, len) in [
        (0, 21),
        (0, 2),
        (1, 2),
        (1, 33),
        (2, 1),
        (2, 41),
        (17, 32),
        (255, 32),
    ] {
        assert_eq!(script(version, len), None, "{version} {len}");
    }
    let request = request(&offer(&priced(10)), &request_fields());
    let mut fields = invoice_fields(10);
    let strange = FallbackAddress {
        version: 200,
        address: vec![],
    };
    fields.fallbacks = Some(vec![strange]);
    assert_eq!(invoice_for(&request, &fields).invoice(), &fields);
}
