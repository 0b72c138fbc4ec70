//! Which HTLC is meant, and where an HTLC that we offered comes from.

use alloc::vec::Vec;

use fulmen_onion::ReturnPacket;
use fulmen_types::{
    HtlcId, PaymentHash, PaymentPreimage,
    codec::{Decode, DecodeError, Encode, Reader},
};

/// An HTLC that a peer offered to us: the channel's keys id and the HTLC's id there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingRef {
    /// The channel, by the id of its keys.
    pub channel: [u8; 32],
    /// The peer's HTLC.
    pub htlc: HtlcId,
}

impl Encode for IncomingRef {
    fn encode(&self, out: &mut Vec<u8>) {
        self.channel.encode(out);
        self.htlc.encode(out);
    }
}

impl Decode for IncomingRef {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            channel: Decode::decode(r)?,
            htlc: Decode::decode(r)?,
        })
    }
}

/// Why we offered an HTLC. The channel keeps it as opaque bytes in the HTLC's record and gives it back
/// when the HTLC ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HtlcLink {
    /// An attempt of a payment of ours.
    Payment {
        /// Which payment.
        payment_hash: PaymentHash,
        /// Which of its attempts.
        attempt: u32,
    },
    /// A forward of an HTLC of another channel.
    Forward {
        /// The HTLC that ends as this one ends.
        incoming: IncomingRef,
    },
}

const VERSION: u8 = 1;

impl HtlcLink {
    /// The opaque bytes for the channel.
    pub fn to_link_bytes(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// From the bytes that the channel gave back.
    pub fn from_link_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_bytes(bytes)
    }
}

impl Encode for HtlcLink {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Payment {
                payment_hash,
                attempt,
            } => {
                out.push(0);
                payment_hash.encode(out);
                attempt.encode(out);
            }
            Self::Forward { incoming } => {
                out.push(1);
                incoming.encode(out);
            }
        }
    }
}

impl Decode for HtlcLink {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != VERSION {
            return Err(DecodeError::InvalidValue("version of an HTLC link"));
        }
        match u8::decode(r)? {
            0 => Ok(Self::Payment {
                payment_hash: Decode::decode(r)?,
                attempt: Decode::decode(r)?,
            }),
            1 => Ok(Self::Forward {
                incoming: Decode::decode(r)?,
            }),
            _ => Err(DecodeError::InvalidValue("kind of an HTLC link")),
        }
    }
}

/// How an incoming HTLC ends: what is written to its record and sent when the channel may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `update_fulfill_htlc`.
    Fulfil(PaymentPreimage),
    /// `update_fail_htlc` with this packet.
    Fail(ReturnPacket),
    /// `update_fail_malformed_htlc`.
    FailMalformed {
        /// With the BADONION bit.
        failure_code: u16,
        /// Of the onion as it came.
        sha256_of_onion: [u8; 32],
    },
}
