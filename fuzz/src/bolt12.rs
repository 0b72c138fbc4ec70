//! BOLT 12: TLV streams as they are, and with a good signature put in; and their texts.

use core::cmp::Ordering;

use bitcoin::secp256k1::{Keypair, Message};
use fulmen_compare::{
    Verdict, compare_bolt12_invoice, compare_offer, compare_request, compare_static_invoice,
};
use fulmen_offers::{Invoice, InvoiceError, InvoiceRequest, Offer, merkle_root, signature_hash};
use fulmen_types::codec::{BigSize, Decode, Encode, Reader};

use crate::{
    choice,
    keys::{SECP, secret},
};

fn expect_same(verdict: &Verdict) {
    if let Verdict::Different(how) = verdict {
        panic!("{how}");
    }
}

/// The first byte chooses: a text, or a TLV stream.
pub(crate) fn offer(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    let offer = if which % 2 == 0 {
        let Ok(text) = core::str::from_utf8(data) else {
            return;
        };
        text.parse::<Offer>().ok()
    } else {
        let (ours, verdict) = compare_offer(data);
        expect_same(&verdict);
        ours.ok()
    };
    let Some(offer) = offer else { return };
    assert_eq!(offer.to_string().parse().as_ref(), Ok(&offer));
    assert_eq!(Offer::new(offer.fields()).as_ref(), Ok(&offer));
}

/// The first byte chooses: an invoice error, or a request, signed by key 1 or as it is.
pub(crate) fn request(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    if which % 3 == 0 {
        let Ok(error) = InvoiceError::from_bytes(data) else {
            return;
        };
        assert_eq!(InvoiceError::from_bytes(&error.to_bytes()), Ok(error));
        return;
    }
    let bytes = match which % 3 {
        1 => data.to_vec(),
        _ => signed(data, "invoice_request"),
    };
    let (ours, verdict) = compare_request(&SECP, &bytes);
    expect_same(&verdict);
    let Ok(request) = ours else { return };
    let again = InvoiceRequest::parse(&SECP, &request.to_string());
    assert_eq!(again.as_ref(), Ok(&request));
    let _ = request.amount_to_invoice(None);
    let _ = Offer::from_bytes(&request.offer_bytes()).map(|offer| request.check_offer(&offer));
}

/// The first byte chooses: an invoice or a static one, and whether it is signed by key 1 or read as it is.
pub(crate) fn invoice(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    let bytes = match which % 2 {
        0 => data.to_vec(),
        _ => signed(data, "invoice"),
    };
    if which & 2 != 0 {
        return static_invoice(data, which);
    }
    let (ours, verdict) = compare_bolt12_invoice(&SECP, &bytes);
    expect_same(&verdict);
    let Ok(invoice) = ours else { return };
    let again = Invoice::parse(&SECP, &invoice.to_string());
    assert_eq!(again.as_ref(), Ok(&invoice));
    assert!(
        invoice.usable_paths().next().is_some(),
        "without one it is refused"
    );
}

fn static_invoice(data: &[u8], which: u8) {
    let bytes = match which % 2 {
        0 => data.to_vec(),
        _ => signed(data, "static_invoice"),
    };
    let (ours, verdict) = compare_static_invoice(&SECP, &bytes);
    expect_same(&verdict);
    if let Ok(invoice) = ours {
        assert_eq!(invoice.as_bytes(), bytes);
    }
}

/// The stream with the signature of key 1 in the place of any that it has.
fn signed(stream: &[u8], name: &str) -> Vec<u8> {
    let keypair = Keypair::from_secret_key(&*SECP, &secret(1));
    signed_by(&keypair, stream, (name, "signature", 240))
}

/// The stream with a signature in the place of any that it has: of the message and in the field that are named, whose
/// type is given.
pub(crate) fn signed_by(
    keypair: &Keypair,
    stream: &[u8],
    (message, field, kind): (&str, &str, u64),
) -> Vec<u8> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut r = Reader::new(stream);
    while !r.is_empty() {
        let start = r.remaining();
        let Some(found) = record(&mut r) else {
            return stream.to_vec();
        };
        let bytes = &start[..start.len() - r.remaining().len()];
        match found.cmp(&kind) {
            Ordering::Less => before.extend_from_slice(bytes),
            Ordering::Equal => {}
            Ordering::Greater => after.extend_from_slice(bytes),
        }
    }
    let unsigned = [before.as_slice(), &after].concat();
    let Some(root) = merkle_root(&unsigned) else {
        return stream.to_vec();
    };
    let hash = signature_hash(message, field, &root);
    let signature = SECP.sign_schnorr_no_aux_rand(&Message::from_digest(hash), keypair);
    let head = [BigSize(kind).to_bytes(), vec![64]].concat();
    [&before[..], &head, &signature.serialize(), &after].concat()
}

fn record(r: &mut Reader<'_>) -> Option<u64> {
    let kind = BigSize::decode(r).ok()?.0;
    let len = usize::try_from(BigSize::decode(r).ok()?.0).ok()?;
    r.take(len).ok()?;
    Some(kind)
}
