//! The bytes of a payment's record.

use alloc::vec::Vec;

use bitcoin::secp256k1::SecretKey;
use fulmen_router::{HintHop, RouteHop};
use fulmen_types::{
    BlockHeight, Msat,
    codec::{BigSize, Decode, DecodeError, Encode, Reader, decode_list, decode_text, encode_text},
};

use crate::payment::{Attempt, FailureReason, PayRequest, Payment, PaymentStatus};

const VERSION: u8 = 3;
/// Did not know the height that an HTLC was made for.
const VERSION_WITHOUT_HEIGHT: u8 = 2;
/// Had at most one HTLC on its way, for the whole amount.
const VERSION_OF_ONE_PART: u8 = 1;

pub(crate) fn encode(payment: &Payment) -> Vec<u8> {
    let mut out = alloc::vec![VERSION];
    encode_request(&payment.request, &mut out);
    payment.created_at.encode(&mut out);
    payment.attempts.encode(&mut out);
    encode_status(&payment.status, &mut out);
    BigSize(payment.parts.len() as u64).encode(&mut out);
    for part in &payment.parts {
        part.amount.encode(&mut out);
        part.number.encode(&mut out);
        part.height.encode(&mut out);
        part.session_key.secret_bytes().encode(&mut out);
        BigSize(part.hops.len() as u64).encode(&mut out);
        for hop in &part.hops {
            hop.short_channel_id.encode(&mut out);
            hop.node_id.encode(&mut out);
            hop.amount.encode(&mut out);
            hop.cltv_from_tip.encode(&mut out);
        }
    }
    encode_text(&payment.last_failure, &mut out);
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Payment, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = u8::decode(&mut r)?;
    if !(VERSION_OF_ONE_PART..=VERSION).contains(&version) {
        return Err(DecodeError::InvalidValue("version of a payment record"));
    }
    let request = decode_request(&mut r, version)?;
    let amount = request.amount;
    let payment = Payment {
        request,
        created_at: Decode::decode(&mut r)?,
        attempts: Decode::decode(&mut r)?,
        status: decode_status(&mut r)?,
        parts: if version >= VERSION_WITHOUT_HEIGHT {
            decode_many(&mut r, |r| {
                let amount = Decode::decode(r)?;
                decode_attempt(r, amount, version)
            })?
        } else if bool::decode(&mut r)? {
            alloc::vec![decode_attempt(&mut r, amount, version)?]
        } else {
            Vec::new()
        },
        last_failure: decode_text(&mut r)?,
    };
    r.finish()?;
    Ok(payment)
}

fn encode_request(request: &PayRequest, out: &mut Vec<u8>) {
    request.payment_hash.encode(out);
    request.payment_secret.encode(out);
    match &request.payment_metadata {
        None => out.push(0),
        Some(metadata) => {
            out.push(1);
            metadata.as_slice().encode(out);
        }
    }
    request.payee.encode(out);
    request.amount.encode(out);
    BigSize(request.hints.len() as u64).encode(out);
    for hint in &request.hints {
        BigSize(hint.len() as u64).encode(out);
        for hop in hint {
            hop.node_id.encode(out);
            hop.short_channel_id.encode(out);
            hop.fee_base_msat.encode(out);
            hop.fee_proportional_millionths.encode(out);
            hop.cltv_expiry_delta.encode(out);
        }
    }
    request.min_final_cltv_expiry_delta.encode(out);
    request.max_fee.encode(out);
    request.max_total_cltv.encode(out);
    request.max_attempts.encode(out);
    request.max_parts.encode(out);
    request.retry_until.encode(out);
    encode_text(&request.invoice, out);
}

fn decode_request(r: &mut Reader<'_>, version: u8) -> Result<PayRequest, DecodeError> {
    Ok(PayRequest {
        payment_hash: Decode::decode(r)?,
        payment_secret: Decode::decode(r)?,
        payment_metadata: if bool::decode(r)? {
            Some(decode_list(r)?)
        } else {
            None
        },
        payee: Decode::decode(r)?,
        amount: Decode::decode(r)?,
        hints: {
            let count = BigSize::decode(r)?.0;
            let mut hints = Vec::new();
            for _ in 0..count {
                hints.push(decode_many(r, decode_hint_hop)?);
            }
            hints
        },
        min_final_cltv_expiry_delta: Decode::decode(r)?,
        max_fee: Decode::decode(r)?,
        max_total_cltv: Decode::decode(r)?,
        max_attempts: Decode::decode(r)?,
        max_parts: if version == VERSION_OF_ONE_PART {
            1
        } else {
            Decode::decode(r)?
        },
        retry_until: Decode::decode(r)?,
        invoice: decode_text(r)?,
    })
}

fn decode_hint_hop(r: &mut Reader<'_>) -> Result<HintHop, DecodeError> {
    Ok(HintHop {
        node_id: Decode::decode(r)?,
        short_channel_id: Decode::decode(r)?,
        fee_base_msat: Decode::decode(r)?,
        fee_proportional_millionths: Decode::decode(r)?,
        cltv_expiry_delta: Decode::decode(r)?,
    })
}

fn decode_attempt(r: &mut Reader<'_>, amount: Msat, version: u8) -> Result<Attempt, DecodeError> {
    Ok(Attempt {
        amount,
        number: Decode::decode(r)?,
        // Without it no payee's height counts as above.
        height: if version >= VERSION {
            Decode::decode(r)?
        } else {
            BlockHeight::new(u32::MAX)
        },
        session_key: SecretKey::from_slice(r.take(32)?)
            .map_err(|_| DecodeError::InvalidValue("session key of an attempt"))?,
        hops: decode_many(r, |r| {
            Ok(RouteHop {
                short_channel_id: Decode::decode(r)?,
                node_id: Decode::decode(r)?,
                amount: Decode::decode(r)?,
                cltv_from_tip: Decode::decode(r)?,
            })
        })?,
    })
}

fn encode_status(status: &PaymentStatus, out: &mut Vec<u8>) {
    match status {
        PaymentStatus::Pending => out.push(0),
        PaymentStatus::Succeeded { preimage, fee, at } => {
            out.push(1);
            preimage.encode(out);
            fee.encode(out);
            at.encode(out);
        }
        PaymentStatus::Failed { reason, detail, at } => {
            out.push(2);
            out.push(match reason {
                FailureReason::NoRoute => 0,
                FailureReason::Rejected => 1,
                FailureReason::GaveUp => 2,
                FailureReason::Abandoned => 3,
            });
            encode_text(detail, out);
            at.encode(out);
        }
    }
}

fn decode_status(r: &mut Reader<'_>) -> Result<PaymentStatus, DecodeError> {
    Ok(match u8::decode(r)? {
        0 => PaymentStatus::Pending,
        1 => PaymentStatus::Succeeded {
            preimage: Decode::decode(r)?,
            fee: Decode::decode(r)?,
            at: Decode::decode(r)?,
        },
        2 => PaymentStatus::Failed {
            reason: match u8::decode(r)? {
                0 => FailureReason::NoRoute,
                1 => FailureReason::Rejected,
                2 => FailureReason::GaveUp,
                3 => FailureReason::Abandoned,
                _ => return Err(DecodeError::InvalidValue("reason of a failed payment")),
            },
            detail: decode_text(r)?,
            at: Decode::decode(r)?,
        },
        _ => return Err(DecodeError::InvalidValue("status of a payment")),
    })
}

/// A list whose items take at least one byte each, so that its count can't outrun the bytes.
fn decode_many<T>(
    r: &mut Reader<'_>,
    item: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = BigSize::decode(r)?.0;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(r)?);
    }
    Ok(items)
}
