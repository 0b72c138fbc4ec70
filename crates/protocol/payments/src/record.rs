//! Records of payments and invoices.

use alloc::{string::String, vec::Vec};
use core::fmt;

use fulmen_router::{HintHop, NoRoute, RouteHop};
use fulmen_types::{
    Msat, NodeId, PaymentPreimage, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, U16Bytes, decode_list},
    record::WriteBatch,
};

use crate::outgoing::{PaymentRequest, archive_key, pending_key};

const VERSION: u8 = 1;

/// How a payment stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentStatus {
    /// On its way.
    Pending,
    /// It has arrived.
    Succeeded {
        /// The proof of payment.
        preimage: PaymentPreimage,
        /// What the way cost.
        fee: Msat,
    },
    /// It did not arrive, and nothing was spent.
    Failed {
        /// Why.
        reason: FailReason,
    },
}

/// Why a payment did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// There is no way to the payee.
    NoRoute(NoRoute),
    /// A node on the way, or the payee, refused it.
    Failure {
        /// Who.
        node: Option<NodeId>,
        /// Which hop, counted from 0.
        hop: u8,
        /// The failure code of BOLT 4.
        code: u16,
        /// Its name.
        name: String,
    },
    /// A failure came back that nobody on the way can have made.
    Unreadable,
    /// It took longer than allowed.
    TimedOut,
    /// Too many ways were tried.
    TooManyAttempts,
    /// The record is of an older kind of failure; its text.
    Other(String),
}

impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute(why) => why.fmt(f),
            Self::Failure { node, hop, code, name } => {
                write!(f, "hop {}", u16::from(*hop) + 1)?;
                if let Some(node) = node {
                    write!(f, " ({node})")?;
                }
                write!(f, " refused it: {name}")?;
                if *code == 0x4000 | 15 {
                    f.write_str("; the invoice is unknown to the payee, expired or already paid")?;
                }
                Ok(())
            }
            Self::Unreadable => f.write_str("an unreadable failure came back; try again"),
            Self::TimedOut => f.write_str("no way worked in the time allowed; try again later"),
            Self::TooManyAttempts => f.write_str("too many ways were tried; try again later"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// One try of a payment over one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// What the onion was made from; with the hops it gives the secrets that failures are read with.
    pub session_key: [u8; 32],
    /// The path.
    pub hops: Vec<RouteHop>,
    /// What it costs.
    pub fee: Msat,
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// What is to be paid.
    pub request: PaymentRequest,
    /// How it stands.
    pub status: PaymentStatus,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many paths were tried.
    pub attempts_made: u32,
    /// The path that is being tried; of a payment that arrived, the one it took.
    pub attempt: Option<Attempt>,
    /// What the last path failed with. Not in the record.
    pub(crate) last_failure: Option<FailReason>,
}

impl Payment {
    pub(crate) const fn new(request: PaymentRequest, now: Timestamp) -> Self {
        Self {
            request,
            status: PaymentStatus::Pending,
            created_at: now,
            ended_at: None,
            attempts_made: 0,
            attempt: None,
            last_failure: None,
        }
    }

    pub(crate) fn write(&self, batch: &mut WriteBatch) {
        batch.put(pending_key(&self.request.payment_hash), self.to_bytes());
    }

    pub(crate) fn archive(&self, batch: &mut WriteBatch) {
        batch.delete(pending_key(&self.request.payment_hash));
        batch.put(archive_key(&self.request.payment_hash), self.to_bytes());
    }
}

/// A `u16` length, then UTF-8.
pub(crate) fn encode_text(text: &str, out: &mut Vec<u8>) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    U16Bytes(text.as_bytes()[..end].to_vec()).encode(out);
}

pub(crate) fn decode_text(r: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(r.take_u16_prefixed()?.to_vec())
        .map_err(|_| DecodeError::InvalidValue("text is not UTF-8"))
}

pub(crate) fn check_version(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    if u8::decode(r)? == VERSION {
        Ok(())
    } else {
        Err(DecodeError::InvalidValue("record of a newer version"))
    }
}

impl Encode for Payment {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.request.encode(out);
        match &self.status {
            PaymentStatus::Pending => out.push(0),
            PaymentStatus::Succeeded { preimage, fee } => {
                out.push(1);
                preimage.encode(out);
                fee.encode(out);
            }
            PaymentStatus::Failed { reason } => {
                out.push(2);
                reason.encode(out);
            }
        }
        self.created_at.encode(out);
        self.ended_at.encode(out);
        self.attempts_made.encode(out);
        self.attempt.encode(out);
    }
}

impl Decode for Payment {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        check_version(r)?;
        Ok(Self {
            request: Decode::decode(r)?,
            status: match u8::decode(r)? {
                0 => PaymentStatus::Pending,
                1 => PaymentStatus::Succeeded {
                    preimage: Decode::decode(r)?,
                    fee: Decode::decode(r)?,
                },
                2 => PaymentStatus::Failed { reason: Decode::decode(r)? },
                _ => return Err(DecodeError::InvalidValue("status of a payment")),
            },
            created_at: Decode::decode(r)?,
            ended_at: Decode::decode(r)?,
            attempts_made: Decode::decode(r)?,
            attempt: Decode::decode(r)?,
            last_failure: None,
        })
    }
}

impl Encode for FailReason {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            // The numbers in it matter at the moment only: the text is kept.
            Self::NoRoute(_) | Self::Other(_) => {
                out.push(0);
                encode_text(&alloc::string::ToString::to_string(self), out);
            }
            Self::Failure { node, hop, code, name } => {
                out.push(1);
                node.encode(out);
                hop.encode(out);
                code.encode(out);
                encode_text(name, out);
            }
            Self::Unreadable => out.push(2),
            Self::TimedOut => out.push(3),
            Self::TooManyAttempts => out.push(4),
        }
    }
}

impl Decode for FailReason {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            0 => Self::Other(decode_text(r)?),
            1 => Self::Failure {
                node: Decode::decode(r)?,
                hop: Decode::decode(r)?,
                code: Decode::decode(r)?,
                name: decode_text(r)?,
            },
            2 => Self::Unreadable,
            3 => Self::TimedOut,
            4 => Self::TooManyAttempts,
            _ => return Err(DecodeError::InvalidValue("failure of a payment")),
        })
    }
}

impl Encode for Attempt {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.session_key.encode(out);
        let hops: Vec<EncodedHop> = self.hops.iter().copied().map(EncodedHop).collect();
        hops.as_slice().encode(out);
        self.fee.encode(out);
    }
}

impl Decode for Attempt {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: Decode::decode(r)?,
            session_key: Decode::decode(r)?,
            hops: decode_list::<EncodedHop>(r)?.into_iter().map(|hop| hop.0).collect(),
            fee: Decode::decode(r)?,
        })
    }
}

struct EncodedHop(RouteHop);

impl Encode for EncodedHop {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.short_channel_id.encode(out);
        self.0.node_id.encode(out);
        self.0.amount.encode(out);
        self.0.cltv_from_tip.encode(out);
    }
}

impl Decode for EncodedHop {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(RouteHop {
            short_channel_id: Decode::decode(r)?,
            node_id: Decode::decode(r)?,
            amount: Decode::decode(r)?,
            cltv_from_tip: Decode::decode(r)?,
        }))
    }
}

struct EncodedHints(Vec<HintHop>);

impl Encode for EncodedHints {
    fn encode(&self, out: &mut Vec<u8>) {
        fulmen_types::codec::BigSize(self.0.len() as u64).encode(out);
        for hop in &self.0 {
            hop.node_id.encode(out);
            hop.short_channel_id.encode(out);
            hop.fee_base_msat.encode(out);
            hop.fee_proportional_millionths.encode(out);
            hop.cltv_expiry_delta.encode(out);
        }
    }
}

impl Decode for EncodedHints {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = fulmen_types::codec::BigSize::decode(r)?.0;
        let mut hops = Vec::new();
        for _ in 0..count {
            hops.push(HintHop {
                node_id: Decode::decode(r)?,
                short_channel_id: Decode::decode(r)?,
                fee_base_msat: Decode::decode(r)?,
                fee_proportional_millionths: Decode::decode(r)?,
                cltv_expiry_delta: Decode::decode(r)?,
            });
        }
        Ok(Self(hops))
    }
}

impl Encode for PaymentRequest {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(&self.invoice, out);
        self.payment_hash.encode(out);
        self.payee.encode(out);
        self.amount.encode(out);
        self.payment_secret.encode(out);
        self.payment_metadata.clone().map(U16Bytes).encode(out);
        self.min_final_cltv_expiry_delta.encode(out);
        let hints: Vec<EncodedHints> = self.hints.iter().cloned().map(EncodedHints).collect();
        hints.as_slice().encode(out);
        self.max_fee.encode(out);
        self.deadline.encode(out);
    }
}

impl Decode for PaymentRequest {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            invoice: decode_text(r)?,
            payment_hash: Decode::decode(r)?,
            payee: Decode::decode(r)?,
            amount: Decode::decode(r)?,
            payment_secret: Decode::decode(r)?,
            payment_metadata: Option::<U16Bytes>::decode(r)?.map(|b| b.0),
            min_final_cltv_expiry_delta: Decode::decode(r)?,
            hints: decode_list::<EncodedHints>(r)?.into_iter().map(|h| h.0).collect(),
            max_fee: Decode::decode(r)?,
            deadline: Decode::decode(r)?,
        })
    }
}
