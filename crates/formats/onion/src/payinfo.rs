//! How a blinded path is paid: `blinded_payinfo` of BOLT 12 and bLIP 39.

use alloc::vec::Vec;

use fulmen_types::{
    CltvExpiryDelta, Features, Msat,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::blinding::BlindedPath;

/// One way to pay an invoice: a blinded path to the payee and what it takes.
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
        self.payinfo
            .features
            .bits()
            .all(|bit| !bit.is_multiple_of(2))
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
