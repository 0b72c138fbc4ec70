//! Subtypes of invoices: how a blinded path is paid, and addresses on the chain.

use alloc::vec::Vec;

use bitcoin::{ScriptBuf, WitnessProgram, WitnessVersion};
use fulmen_onion::blinding::BlindedPath;
use fulmen_types::{
    CltvExpiryDelta, Features, Msat,
    codec::{Decode, DecodeError, Encode, Reader, U16Bytes},
};

/// One way to pay an invoice: an entry of `invoice_paths` with that of `invoice_blindedpay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentPath {
    /// The way.
    pub path: BlindedPath,
    /// What it takes.
    pub payinfo: BlindedPayinfo,
}

impl PaymentPath {
    /// Whether a payer may use it: BOLT 12 forbids paths with unknown even features, and knows none.
    pub fn is_usable(&self) -> bool {
        unknown_even(&self.payinfo.features, &[]).is_none()
    }
}

/// `blinded_payinfo`: fees and limits of a whole blinded path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedPayinfo {
    /// Fee per HTLC, in msat.
    pub fee_base_msat: u32,
    /// Fee per million.
    pub fee_proportional_millionths: u32,
    /// Blocks that the path takes.
    pub cltv_expiry_delta: CltvExpiryDelta,
    /// The smallest HTLC.
    pub htlc_minimum_msat: Msat,
    /// The greatest HTLC.
    pub htlc_maximum_msat: Msat,
    /// `allowed_features` of the path.
    pub features: Features,
}

impl Encode for BlindedPayinfo {
    fn encode(&self, out: &mut Vec<u8>) {
        self.fee_base_msat.encode(out);
        self.fee_proportional_millionths.encode(out);
        self.cltv_expiry_delta.encode(out);
        self.htlc_minimum_msat.encode(out);
        self.htlc_maximum_msat.encode(out);
        self.features.encode(out);
    }
}

impl Decode for BlindedPayinfo {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            fee_base_msat: Decode::decode(r)?,
            fee_proportional_millionths: Decode::decode(r)?,
            cltv_expiry_delta: Decode::decode(r)?,
            htlc_minimum_msat: Decode::decode(r)?,
            htlc_maximum_msat: Decode::decode(r)?,
            features: Decode::decode(r)?,
        })
    }
}

/// `fallback_address`: a witness program, kept whether it is valid or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackAddress {
    /// The witness version.
    pub version: u8,
    /// The witness program.
    pub address: Vec<u8>,
}

impl FallbackAddress {
    /// The script to pay to, or `None` when BOLT 12 says to ignore the address.
    pub fn script_pubkey(&self) -> Option<ScriptBuf> {
        let version = WitnessVersion::try_from(self.version).ok()?;
        // Of version 1 only 32 bytes are a key; a shorter program is anybody's to spend.
        if version == WitnessVersion::V1 && self.address.len() != 32 {
            return None;
        }
        let program = WitnessProgram::new(version, &self.address).ok()?;
        Some(ScriptBuf::new_witness_program(&program))
    }
}

impl Encode for FallbackAddress {
    fn encode(&self, out: &mut Vec<u8>) {
        self.version.encode(out);
        U16Bytes(self.address.clone()).encode(out);
    }
}

impl Decode for FallbackAddress {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: Decode::decode(r)?,
            address: U16Bytes::decode(r)?.0,
        })
    }
}

/// The first even bit that is none of `known`.
pub(crate) fn unknown_even(features: &Features, known: &[u32]) -> Option<u32> {
    features
        .bits()
        .find(|bit| bit.is_multiple_of(2) && !known.contains(bit))
}
