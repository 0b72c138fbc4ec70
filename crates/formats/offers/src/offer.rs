//! Offers: `lno`.

use alloc::vec::Vec;
use core::{fmt, str::FromStr};

use bitcoin::constants::ChainHash;
use fulmen_types::Timestamp;

use crate::{
    BuildError, CheckError, OfferFields, ParseError, RequestFields, UnsignedInvoiceRequest,
    read::{Message, Parts, check_offer},
    stream::StreamBuilder,
    text,
};

const PREFIX: &str = "lno";

/// A valid offer. Its bytes never change, since requests must repeat them; `Display` is the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    bytes: Vec<u8>,
    fields: OfferFields,
}

impl Offer {
    /// Makes an offer.
    pub fn new(fields: &OfferFields) -> Result<Self, BuildError> {
        let mut out = StreamBuilder::default();
        fields.put(&mut out)?;
        Ok(Self::from_bytes(&out.finish())?)
    }

    /// Reads an offer from its TLV stream.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let fields = Parts::read(bytes, Message::Offer)?.offer;
        check_offer(&fields)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            fields,
        })
    }

    /// The TLV stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub const fn fields(&self) -> &OfferFields {
        &self.fields
    }

    /// BOLT 12, Requirements For Offers, the reader: whether it may be answered on this chain, now.
    pub fn check(&self, chain: ChainHash, now: Timestamp) -> Result<(), CheckError> {
        if !self.fields.allows_chain(chain) {
            return Err(CheckError::Chain);
        }
        if self.fields.is_expired(now) {
            return Err(CheckError::Expired);
        }
        Ok(())
    }

    /// Asks for an invoice. All fields of the offer are copied, unknown ones too.
    ///
    /// What `request` needs beside `metadata` and `payer_id`, both fresh: `chain`, unless it is bitcoin;
    /// `amount`, if the offer has none; `quantity`, if the offer has `quantity_max`; `bip_353_name`, if
    /// that is where the offer is from.
    pub fn request(&self, request: &RequestFields) -> Result<UnsignedInvoiceRequest, BuildError> {
        UnsignedInvoiceRequest::for_offer(&self.bytes, request)
    }
}

impl FromStr for Offer {
    type Err = ParseError;

    /// Reads the text form, in either case and with `+` where it was split.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bytes = text::decode(PREFIX, text).map_err(ParseError::Text)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(PREFIX, &self.bytes))
    }
}
