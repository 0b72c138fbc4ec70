//! Invoice requests: `lnr`. Answers to offers, and offers of money (refunds).

use alloc::vec::Vec;
use core::{fmt, str::FromStr};

use bitcoin::{
    constants::ChainHash,
    secp256k1::{Secp256k1, Verification, schnorr},
};
use fulmen_types::{Msat, Timestamp};

use crate::{
    BuildError, CheckError, Field, InvoiceFields, Offer, OfferFields, ParseError, RequestFields,
    UnsignedInvoice,
    merkle::verify,
    read::{Message, Parts, check_amount, check_request, none_of},
    signing::{SignedMessage, Unsigned, hash_to_sign, sealed::Sealed},
    stream::{Range, StreamBuilder, records_in},
    text,
};

const PREFIX: &str = "lnr";
const METADATA_LEN_MIN: usize = 16;

/// A valid invoice request, signed by its payer if it answers an offer. Its bytes never change, since the
/// invoice must repeat them; `Display` is the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceRequest {
    bytes: Vec<u8>,
    offer: OfferFields,
    request: RequestFields,
    signature: Option<schnorr::Signature>,
}

impl InvoiceRequest {
    /// Reads and verifies an invoice request from its TLV stream.
    pub fn from_bytes<C: Verification>(
        secp: &Secp256k1<C>,
        bytes: &[u8],
    ) -> Result<Self, ParseError> {
        let parsed = Self::read(bytes)?;
        match &parsed.signature {
            Some(signature) => {
                let key = &parsed.request.payer_id;
                if !verify(secp, signature, hash_to_sign::<Self>(bytes), key) {
                    return Err(ParseError::WrongSignature(Field::InvreqPayerId));
                }
            }
            // BOLT 12, the writer not responding to an offer: no signature.
            None if parsed.offer.is_offer() => {
                return Err(ParseError::Missing(Field::Signature));
            }
            None => {}
        }
        Ok(parsed)
    }

    /// Reads and verifies the text form, in either case and with `+` where it was split.
    pub fn parse<C: Verification>(secp: &Secp256k1<C>, text: &str) -> Result<Self, ParseError> {
        let bytes = text::decode(PREFIX, text).map_err(ParseError::Text)?;
        Self::from_bytes(secp, &bytes)
    }

    /// Offers money: a request without an offer, to be published, answered by an invoice.
    ///
    /// Of `offer`, `description` is needed and only `absolute_expiry` and `issuer` may be there beside it;
    /// of `request`, `amount` is needed, and `paths` unless the payer can be reached by `payer_id`.
    pub fn refund(offer: &OfferFields, request: &RequestFields) -> Result<Self, BuildError> {
        // BOLT 12, Requirements for Invoice Requests, the writer not responding to an offer.
        none_of([
            (offer.metadata.is_some(), Field::OfferMetadata),
            (offer.chains.is_some(), Field::OfferChains),
            (offer.amount.is_some(), Field::OfferAmount),
            (offer.currency.is_some(), Field::OfferCurrency),
            (offer.features.is_some(), Field::OfferFeatures),
            (offer.quantity_max.is_some(), Field::OfferQuantityMax),
            (offer.paths.is_some(), Field::OfferPaths),
            (offer.issuer_id.is_some(), Field::OfferIssuerId),
        ])?;
        if offer.description.is_none() {
            return Err(ParseError::Missing(Field::OfferDescription).into());
        }
        let mut out = StreamBuilder::default();
        offer.put(&mut out)?;
        without_signature(&out.finish(), request)
    }

    fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut parts = Parts::read(bytes, Message::InvoiceRequest)?;
        let request = parts.request()?;
        check_request(&parts.offer, &request)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            offer: parts.offer,
            request,
            signature: parts.signature,
        })
    }

    /// The TLV stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it repeats of the offer; of a refund, what it says beside the request.
    pub const fn offer(&self) -> &OfferFields {
        &self.offer
    }

    /// What it asks for.
    pub const fn request(&self) -> &RequestFields {
        &self.request
    }

    /// The payer's signature.
    pub const fn signature(&self) -> Option<&schnorr::Signature> {
        self.signature.as_ref()
    }

    /// Whether it answers no offer, but is one to send money.
    pub const fn is_refund(&self) -> bool {
        !self.offer.is_offer()
    }

    /// BOLT 12, Requirements for Invoice Requests, the reader: whether it may be answered on this chain,
    /// now.
    pub fn check(&self, chain: ChainHash, now: Timestamp) -> Result<(), CheckError> {
        if self.request.payment_chain() != chain {
            return Err(CheckError::Chain);
        }
        if self.offer.is_expired(now) {
            return Err(CheckError::Expired);
        }
        Ok(())
    }

    /// Whether it is for this offer: its offer fields are those of the offer, byte for byte.
    ///
    /// On which path it arrived is the caller's question: if the offer has `offer_paths`, on one of
    /// those, otherwise on none.
    pub fn check_offer(&self, offer: &Offer) -> Result<(), CheckError> {
        let ours = self.offer_bytes();
        if ours == offer.as_bytes() {
            Ok(())
        } else {
            Err(CheckError::NotThisOffer)
        }
    }

    /// The TLV stream of the offer that it answers, for an issuer who keeps no offers and recognises
    /// them by `offer_metadata`.
    pub fn offer_bytes(&self) -> Vec<u8> {
        records_in(&self.bytes, &[Range::Offer])
            .flat_map(|record| record.bytes)
            .copied()
            .collect()
    }

    /// What the invoice must ask for: `invreq_amount`, or else the price of what is requested. If the
    /// offer's amount is in a currency, `item_price` is what one item costs, converted now.
    pub fn amount_to_invoice(&self, item_price: Option<Msat>) -> Result<Msat, CheckError> {
        if self.is_refund() {
            return self.needed_amount();
        }
        if self.offer.currency.is_some() && item_price.is_none() {
            return Err(CheckError::NeedsConversion);
        }
        check_amount(&self.offer, &self.request, item_price)?;
        if self.request.amount.is_some() {
            return self.needed_amount();
        }
        self.offer
            .expected_amount(self.request.quantity, item_price)?
            .ok_or(ParseError::Missing(Field::InvreqAmount).into())
    }

    fn needed_amount(&self) -> Result<Msat, CheckError> {
        self.request
            .amount
            .ok_or(ParseError::Missing(Field::InvreqAmount).into())
    }

    /// Answers with an invoice, which repeats all fields of the request, unknown ones too.
    pub fn respond(&self, invoice: &InvoiceFields) -> Result<UnsignedInvoice, BuildError> {
        UnsignedInvoice::answer(self, invoice)
    }

    /// What the payer agreed to pay, as far as the request says it: `None` if the price is in a currency.
    pub fn agreed_amount(&self) -> Result<Option<Msat>, ParseError> {
        match self.request.amount {
            Some(amount) => Ok(Some(amount)),
            None => self.offer.expected_amount(self.request.quantity, None),
        }
    }
}

impl FromStr for InvoiceRequest {
    type Err = ParseError;

    /// [`InvoiceRequest::parse`] with a context of its own, for when there is none at hand.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(&Secp256k1::verification_only(), text)
    }
}

impl fmt::Display for InvoiceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(PREFIX, &self.bytes))
    }
}

impl SignedMessage for InvoiceRequest {
    type Content = RequestFields;
}

impl Sealed for InvoiceRequest {
    const NAME: &'static str = "invoice_request";
    const SIGNATURE: Field = Field::Signature;

    fn from_signed<C: Verification>(secp: &Secp256k1<C>, bytes: &[u8]) -> Result<Self, ParseError> {
        Self::from_bytes(secp, bytes)
    }
}

/// An invoice request that waits for its payer's signature, by the key of `invreq_payer_id`.
pub type UnsignedInvoiceRequest = Unsigned<InvoiceRequest>;

impl UnsignedInvoiceRequest {
    pub(crate) fn for_offer(offer: &[u8], request: &RequestFields) -> Result<Self, BuildError> {
        let request = without_signature(offer, request)?;
        Ok(Self::new(request.bytes, request.request))
    }

    /// What the request says.
    pub const fn request(&self) -> &RequestFields {
        self.content()
    }
}

/// The request behind the fields of an offer, or of a refund.
fn without_signature(offer: &[u8], request: &RequestFields) -> Result<InvoiceRequest, BuildError> {
    if request.metadata.len() < METADATA_LEN_MIN {
        return Err(BuildError::MetadataTooShort(request.metadata.len()));
    }
    if request.amount == Some(Msat::new(0)) {
        return Err(ParseError::Zero(Field::InvreqAmount).into());
    }
    let mut out = StreamBuilder::default();
    out.copy(offer, &[Range::Offer]);
    // BOLT 12, the writer: bitcoin is said by saying nothing.
    let mut request = request.clone();
    request.chain = request.chain.filter(|chain| *chain != ChainHash::BITCOIN);
    request.put(&mut out)?;
    Ok(InvoiceRequest::read(&out.finish())?)
}
