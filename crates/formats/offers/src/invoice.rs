//! Invoices: `lni`.

use alloc::vec::Vec;
use core::{fmt, str::FromStr};

use bitcoin::{
    constants::ChainHash,
    secp256k1::{PublicKey, Secp256k1, Verification, schnorr},
};
use fulmen_onion::PaymentPath;
use fulmen_types::{Msat, Timestamp};

use crate::{
    BuildError, CheckError, Field, InvoiceFields, InvoiceRequest, OfferFields, ParseError,
    RequestFields,
    merkle::verify,
    read::{Message, Parts, check_node_id, check_request},
    signing::{SignedMessage, Unsigned, hash_to_sign, sealed::Sealed},
    stream::{Range, StreamBuilder, records_in},
    text,
};

const PREFIX: &str = "lni";
/// What an invoice repeats: 0 to 159 and 1000000000 to 2999999999.
const MIRRORED: &[Range] = &[Range::Offer, Range::Request];

/// A valid invoice, signed by its `invoice_node_id`. Its bytes never change; `Display` is the text.
///
/// It answers an invoice request: raw invoices, which nobody asked for, are not supported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    bytes: Vec<u8>,
    offer: OfferFields,
    request: RequestFields,
    invoice: InvoiceFields,
    signature: schnorr::Signature,
}

/// What a payer knows beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Agreement {
    /// The `blinded_node_id` at the end of the path that the request was sent over. Needed when the offer
    /// has no `offer_issuer_id`; for a refund, the key that is known to be the recipient's, if any is.
    pub sent_to: Option<PublicKey>,
    /// The most to pay where the request does not settle it: needed for a price in a currency.
    pub amount_max: Option<Msat>,
}

impl Invoice {
    /// Reads and verifies an invoice from its TLV stream.
    ///
    /// A payer goes on with [`Invoice::check`] and [`Invoice::check_response`].
    pub fn from_bytes<C: Verification>(
        secp: &Secp256k1<C>,
        bytes: &[u8],
    ) -> Result<Self, ParseError> {
        let mut parts = Parts::read(bytes, Message::Invoice)?;
        let invoice = parts.invoice()?;
        let request = parts.request()?;
        // It has to match a request, so it repeats a valid one.
        check_request(&parts.offer, &request)?;
        check_node_id(&parts.offer, invoice.node_id)?;
        let signature = parts
            .signature
            .ok_or(ParseError::Missing(Field::Signature))?;
        if !verify(
            secp,
            &signature,
            hash_to_sign::<Self>(bytes),
            &invoice.node_id,
        ) {
            return Err(ParseError::WrongSignature(Field::InvoiceNodeId));
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            offer: parts.offer,
            request,
            invoice,
            signature,
        })
    }

    /// Reads and verifies the text form, in either case and with `+` where it was split.
    pub fn parse<C: Verification>(secp: &Secp256k1<C>, text: &str) -> Result<Self, ParseError> {
        let bytes = text::decode(PREFIX, text).map_err(ParseError::Text)?;
        Self::from_bytes(secp, &bytes)
    }

    /// The TLV stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it repeats of the offer.
    pub const fn offer(&self) -> &OfferFields {
        &self.offer
    }

    /// What it repeats of the request.
    pub const fn request(&self) -> &RequestFields {
        &self.request
    }

    /// What it says itself.
    pub const fn invoice(&self) -> &InvoiceFields {
        &self.invoice
    }

    /// The recipient's signature.
    pub const fn signature(&self) -> &schnorr::Signature {
        &self.signature
    }

    /// The paths that may be used, best first; there is at least one.
    pub fn usable_paths(&self) -> impl Iterator<Item = &PaymentPath> {
        self.invoice.paths.iter().filter(|path| path.is_usable())
    }

    /// BOLT 12, Invoices, the reader: whether it may be paid on this chain, now.
    pub fn check(&self, chain: ChainHash, now: Timestamp) -> Result<(), CheckError> {
        if self.request.payment_chain() != chain {
            return Err(CheckError::Chain);
        }
        if self.invoice.is_expired(now) {
            return Err(CheckError::Expired);
        }
        Ok(())
    }

    /// BOLT 12, Invoices, the reader: whether it is what `request` asked for, from whom it was asked.
    ///
    /// On which path it arrived is the caller's question: that of `invreq_paths`, or else the reply path
    /// of the request.
    pub fn check_response(
        &self,
        request: &InvoiceRequest,
        agreement: &Agreement,
    ) -> Result<(), CheckError> {
        self.check_mirror(request)?;
        self.check_node_id(request, agreement.sent_to)?;
        self.check_amount(request, agreement.amount_max)
    }

    /// All fields of the request, and no others in their ranges, byte for byte.
    fn check_mirror(&self, request: &InvoiceRequest) -> Result<(), CheckError> {
        let mut theirs = records_in(&self.bytes, MIRRORED);
        let mut ours = records_in(request.as_bytes(), MIRRORED);
        loop {
            match (theirs.next(), ours.next()) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => return Err(CheckError::NotThisRequest(a.kind.min(b.kind))),
                (Some(a), None) | (None, Some(a)) => {
                    return Err(CheckError::NotThisRequest(a.kind));
                }
            }
        }
    }

    fn check_node_id(
        &self,
        request: &InvoiceRequest,
        sent_to: Option<PublicKey>,
    ) -> Result<(), CheckError> {
        let offer = request.offer();
        let expected = match (offer.issuer_id, sent_to) {
            (Some(issuer_id), _) => issuer_id,
            (None, Some(sent_to)) => sent_to,
            (None, None) if offer.paths.is_some() => return Err(CheckError::SentToUnknown),
            (None, None) => return Ok(()),
        };
        if self.invoice.node_id == expected {
            Ok(())
        } else {
            Err(CheckError::NodeId)
        }
    }

    fn check_amount(
        &self,
        request: &InvoiceRequest,
        amount_max: Option<Msat>,
    ) -> Result<(), CheckError> {
        let amount = self.invoice.amount;
        match request.agreed_amount()? {
            Some(expected) if amount != expected => Err(CheckError::Amount { amount, expected }),
            Some(_) => Ok(()),
            None if amount_max.is_some_and(|max| amount <= max) => Ok(()),
            None => Err(CheckError::AmountNotAuthorized(amount)),
        }
    }
}

impl FromStr for Invoice {
    type Err = ParseError;

    /// [`Invoice::parse`] with a context of its own, for when there is none at hand.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(&Secp256k1::verification_only(), text)
    }
}

impl fmt::Display for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(PREFIX, &self.bytes))
    }
}

impl SignedMessage for Invoice {
    type Content = InvoiceFields;
}

impl Sealed for Invoice {
    const NAME: &'static str = "invoice";
    const SIGNATURE: Field = Field::Signature;

    fn from_signed<C: Verification>(secp: &Secp256k1<C>, bytes: &[u8]) -> Result<Self, ParseError> {
        Self::from_bytes(secp, bytes)
    }
}

/// An invoice that waits for its recipient's signature, by the key of `invoice_node_id`.
pub type UnsignedInvoice = Unsigned<Invoice>;

impl UnsignedInvoice {
    pub(crate) fn answer(
        request: &InvoiceRequest,
        invoice: &InvoiceFields,
    ) -> Result<Self, BuildError> {
        check_answer(request, invoice)?;
        let mut out = StreamBuilder::default();
        // BOLT 12, the writer of an invoice: all non-signature fields, unknown ones too.
        out.copy(request.as_bytes(), MIRRORED);
        invoice.put(&mut out)?;
        let bytes = out.finish();
        let invoice = Parts::read(&bytes, Message::Invoice)?.invoice()?;
        Ok(Self::new(bytes, invoice))
    }

    /// What the invoice says itself.
    pub const fn invoice(&self) -> &InvoiceFields {
        self.content()
    }
}

/// BOLT 12, Invoices, the writer: amount and key are those of the request and the offer.
fn check_answer(request: &InvoiceRequest, invoice: &InvoiceFields) -> Result<(), BuildError> {
    let amount = invoice.amount;
    match request.agreed_amount()? {
        Some(expected) if amount != expected => {
            return Err(CheckError::Amount { amount, expected }.into());
        }
        Some(_) | None => {}
    }
    if amount == Msat::new(0) {
        return Err(ParseError::Zero(Field::InvoiceAmount).into());
    }
    Ok(check_node_id(request.offer(), invoice.node_id)?)
}
