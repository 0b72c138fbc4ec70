//! Structured fields of BOLT 2's TLV records.

use alloc::vec::Vec;

use bitcoin::{Amount, Txid};
use fulmen_types::{
    PartialSignature, PublicNonce,
    codec::{Decode, DecodeError, Encode, Reader},
};

/// The fees that a closing side would agree to (`fee_range` of `closing_signed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeRange {
    /// The least.
    pub min_fee_satoshis: Amount,
    /// The most.
    pub max_fee_satoshis: Amount,
}

impl Encode for FeeRange {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.min_fee_satoshis.encode(out);
        self.max_fee_satoshis.encode(out);
    }
}

impl Decode for FeeRange {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            min_fee_satoshis: Decode::decode(r)?,
            max_fee_satoshis: Decode::decode(r)?,
        })
    }
}

/// An interactive transaction that is not signed yet (`next_funding` of `channel_reestablish`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextFunding {
    /// The transaction.
    pub next_funding_txid: Txid,
    /// Bit 0 asks for `commitment_signed` again.
    pub retransmit_flags: u8,
}

impl NextFunding {
    /// Bit 0: send `commitment_signed` again.
    pub const COMMITMENT_SIGNED: u8 = 1;
}

impl Encode for NextFunding {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.next_funding_txid.encode(out);
        self.retransmit_flags.encode(out);
    }
}

impl Decode for NextFunding {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            next_funding_txid: Decode::decode(r)?,
            retransmit_flags: Decode::decode(r)?,
        })
    }
}

/// The last locked funding (`my_current_funding_locked` of `channel_reestablish`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentFundingLocked {
    /// The transaction.
    pub my_current_funding_locked_txid: Txid,
    /// Bit 0 asks for `announcement_signatures` again.
    pub retransmit_flags: u8,
}

impl CurrentFundingLocked {
    /// Bit 0: send `announcement_signatures` again.
    pub const ANNOUNCEMENT_SIGNATURES: u8 = 1;
}

impl Encode for CurrentFundingLocked {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.my_current_funding_locked_txid.encode(out);
        self.retransmit_flags.encode(out);
    }
}

impl Decode for CurrentFundingLocked {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            my_current_funding_locked_txid: Decode::decode(r)?,
            retransmit_flags: Decode::decode(r)?,
        })
    }
}

/// A MuSig2 partial signature with the nonce that it was made with, which the receiver does not know yet
/// (simple taproot channels, `partial_signature_with_nonce`): 98 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialSignatureWithNonce {
    /// The signature.
    pub partial_signature: PartialSignature,
    /// The nonce.
    pub public_nonce: PublicNonce,
}

impl Encode for PartialSignatureWithNonce {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.partial_signature.encode(out);
        self.public_nonce.encode(out);
    }
}

impl Decode for PartialSignatureWithNonce {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            partial_signature: Decode::decode(r)?,
            public_nonce: Decode::decode(r)?,
        })
    }
}

/// The nonce for the next commitment of one funding (simple taproot channels, `nonce_entry`): while a
/// splice is pending there is one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceEntry {
    /// The funding transaction that the commitment spends.
    pub funding_txid: Txid,
    /// The sender's verification nonce for it.
    pub public_nonce: PublicNonce,
}

impl Encode for NonceEntry {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.funding_txid.encode(out);
        self.public_nonce.encode(out);
    }
}

impl Decode for NonceEntry {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            funding_txid: Decode::decode(r)?,
            public_nonce: Decode::decode(r)?,
        })
    }
}

/// How long each hop held an HTLC, with the proofs of it (BOLT 4, `attribution_data`): 920 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributionData {
    /// In units of 100 ms, from the nearest hop on.
    pub htlc_hold_times: [u32; 20],
    /// Authenticates the hold times and the failure at each possible place in the route.
    pub truncated_hmacs: [[u8; 4]; 210],
}

impl Encode for AttributionData {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.htlc_hold_times.iter().for_each(|t| t.encode(out));
        self.truncated_hmacs.iter().for_each(|h| h.encode(out));
    }
}

impl Decode for AttributionData {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut data = Self {
            htlc_hold_times: [0; 20],
            truncated_hmacs: [[0; 4]; 210],
        };
        for time in &mut data.htlc_hold_times {
            *time = Decode::decode(r)?;
        }
        for hmac in &mut data.truncated_hmacs {
            *hmac = Decode::decode(r)?;
        }
        Ok(data)
    }
}
