//! What somebody shows to be paid by: `bitcoin:` URIs (BIP 321), names (BIP 353) and the TXT records behind them.

use fulmen_offers::{Bip353Name, PaymentUri, ProofOfPayment, TxtError};
use fulmen_types::codec::{Decode, Encode};
use lightning::{onion_message::dns_resolution::HumanReadableName, util::ser::Readable};

use crate::choice;

/// The first byte chooses: a URI, TXT records, a name as a text, or a name in a message.
pub(crate) fn uris(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    match which % 4 {
        0 => {
            if let Some(uri) = text(data).and_then(|text| text.parse().ok()) {
                check(&uri);
            }
        }
        1 => txt_records(data),
        2 => {
            if let Some(text) = text(data) {
                name(text);
            }
        }
        _ => name_of_a_message(data),
    }
}

fn text(data: &[u8]) -> Option<&str> {
    core::str::from_utf8(data).ok()
}

fn check(uri: &PaymentUri) {
    let shown = uri.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(uri));
    assert!(
        uri.address.is_some() || !uri.instructions.is_empty(),
        "it says nothing to pay"
    );
    let record = uri.to_txt_record();
    assert_eq!(
        PaymentUri::from_txt_records([record.as_slice()]).as_ref(),
        Ok(uri)
    );
    let _ = (uri.invoices().count(), uri.offers().count());
    if let Some(pop) = &uri.pop {
        proof_of_payment(pop);
    }
    if let Some(code) = uri.to_qr_text() {
        // Letters of codes with few of them: capitals, digits and $%*+-./: and a space.
        assert!(!code.bytes().any(|b| b.is_ascii_lowercase()));
        let scanned: PaymentUri = code.parse().expect("only the case is another");
        assert!(scanned.to_string().eq_ignore_ascii_case(&shown));
        assert_eq!(
            (&scanned.address, scanned.amount),
            (&uri.address, uri.amount)
        );
    }
}

/// BIP 321: nothing that a web browser opens, and what must be done can be.
fn proof_of_payment(pop: &ProofOfPayment) {
    let callback = pop.callback("lightning", "00");
    assert!(callback.is_some() || !pop.is_required);
    let Some(callback) = callback else { return };
    let (scheme, _) = callback.split_once(':').expect("a URI has a scheme");
    for browser in ["http", "https", "javascript", "file", "data", "mailto"] {
        assert!(!scheme.eq_ignore_ascii_case(browser));
    }
}

/// Records of RDATA, each behind a byte of its length.
fn txt_records(mut data: &[u8]) {
    let mut records = Vec::new();
    while let Some((len, rest)) = choice(data) {
        let (record, rest) = rest.split_at(rest.len().min(usize::from(len)));
        records.push(record);
        data = rest;
    }
    let read = PaymentUri::from_txt_records(records.iter().copied());
    let ours: Vec<_> = records.iter().filter(|record| is_ours(record)).collect();
    match read {
        Ok(uri) => {
            assert_eq!(
                ours.len(),
                1,
                "records are never joined, and none is chosen"
            );
            check(&uri);
        }
        Err(TxtError::NotFound) => assert_eq!(ours.len(), 0),
        Err(TxtError::Several) => assert!(ours.len() > 1),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whether the strings of a record together begin with `bitcoin:`.
fn is_ours(record: &[u8]) -> bool {
    let mut joined = Vec::new();
    let mut rest = record;
    while let Some((len, strings)) = choice(rest) {
        let (string, strings) = strings.split_at(strings.len().min(usize::from(len)));
        joined.extend_from_slice(string);
        rest = strings;
    }
    joined
        .get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"bitcoin:"))
}

fn name(text: &str) {
    let theirs = HumanReadableName::from_encoded(text);
    let Ok(ours) = text.parse::<Bip353Name>() else {
        // LDK does not ask whether the DNS can have each label, takes a dot at the end away, and names of one byte more
        // than the 255 of RFC 1035 (253 letters and the dots between them).
        let is_dns_name = |name: HumanReadableName| {
            let len = name.user().len() + ".user._bitcoin-payment.".len() + name.domain().len();
            !text.ends_with('.')
                && len <= 253
                && [name.user(), name.domain()]
                    .iter()
                    .flat_map(|part| part.split('.'))
                    .all(|label| (1..=63).contains(&label.len()))
        };
        return assert!(!theirs.is_ok_and(is_dns_name), "only LDK reads {text}");
    };
    let theirs = theirs.expect("LDK reads it too");
    assert_eq!(
        (ours.name(), ours.domain()),
        (theirs.user(), theirs.domain())
    );
    assert_eq!(ours.to_string().parse().as_ref(), Ok(&ours));
    assert_eq!(Bip353Name::from_bytes(&ours.to_bytes()).as_ref(), Ok(&ours));
    let dns_name = ours.dns_name();
    let labels = dns_name.strip_suffix('.').expect("it is absolute");
    assert!(labels.len() <= 253);
    assert!(
        labels
            .split('.')
            .all(|label| (1..=63).contains(&label.len()))
    );
}

/// BOLT 12 asks for the letters alone there; LDK for what a name is, too.
fn name_of_a_message(data: &[u8]) {
    let mut rest = data;
    let theirs = HumanReadableName::read(&mut rest).ok();
    let theirs = theirs.filter(|_| rest.is_empty());
    let ours = Bip353Name::from_bytes(data);
    if let Some(theirs) = theirs {
        let ours = ours.as_ref().expect("LDK reads it");
        let domain = ours.domain();
        assert_eq!(ours.name(), theirs.user());
        assert_eq!(domain.strip_suffix('.').unwrap_or(domain), theirs.domain());
    }
    if let Ok(ours) = ours {
        assert_eq!(ours.to_bytes(), data, "there is one encoding");
    }
}
