//! `b` fields: bLIP 39, blinded paths in BOLT 11 invoices.

use alloc::vec::Vec;

use bitcoin::secp256k1::PublicKey;
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedHop, BlindedPath, BlindedRoute},
};
use fulmen_types::{
    SciddirOrPubkey,
    codec::{BigSize, Decode, DecodeError, Encode, Reader},
};

/// The paths to the end of a field. `first_node_id` is a key, and the first hop's `blinded_node_id` is the
/// same key: the field has room for one of them, and a payer needs the other at no time.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<PaymentPath>, DecodeError> {
    let mut r = Reader::new(bytes);
    let mut paths = Vec::new();
    while !r.is_empty() {
        paths.push(decode_path(&mut r)?);
    }
    Ok(paths)
}

fn decode_path(r: &mut Reader<'_>) -> Result<PaymentPath, DecodeError> {
    let payinfo = BlindedPayinfo::decode(r)?;
    let first_path_key = Decode::decode(r)?;
    let mut path = Vec::new();
    for _ in 0..u8::decode(r)? {
        let blinded_node_id = Decode::decode(r)?;
        let len = usize::try_from(BigSize::decode(r)?.0).map_err(|_| DecodeError::UnexpectedEnd)?;
        path.push(BlindedHop {
            blinded_node_id,
            encrypted_recipient_data: r.take(len)?.to_vec(),
        });
    }
    let first: PublicKey = path
        .first()
        .map(|hop| hop.blinded_node_id)
        .ok_or(DecodeError::InvalidValue("blinded path without hops"))?;
    Ok(PaymentPath {
        path: BlindedPath {
            first_node_id: first.into(),
            route: BlindedRoute {
                first_path_key,
                path,
            },
        },
        payinfo,
    })
}

/// One path as the content of a field.
pub(crate) fn encode(path: &PaymentPath) -> Vec<u8> {
    let mut out = path.payinfo.to_bytes();
    path.path.route.first_path_key.encode(&mut out);
    let hops = &path.path.route.path;
    // `normalize` sees to it that the count fits.
    out.push(u8::try_from(hops.len()).unwrap_or(u8::MAX));
    for hop in hops {
        hop.blinded_node_id.encode(&mut out);
        BigSize(hop.encrypted_recipient_data.len() as u64).encode(&mut out);
        out.extend_from_slice(&hop.encrypted_recipient_data);
    }
    out
}

/// Brings a path into the form that is read again, or gives `None` if a field has no form for it.
pub(crate) fn normalize(mut path: PaymentPath) -> Option<PaymentPath> {
    let SciddirOrPubkey::Pubkey(first_node_id) = path.path.first_node_id else {
        return None;
    };
    let hops = &mut path.path.route.path;
    if hops.len() > usize::from(u8::MAX) {
        return None;
    }
    hops.first_mut()?.blinded_node_id = first_node_id;
    Some(path)
}
