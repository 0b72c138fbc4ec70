//! Static invoices: what somebody else hands out while the payee is away (a draft, BOLT pull request 1149).

use alloc::vec::Vec;

use bitcoin::{
    constants::ChainHash,
    secp256k1::{PublicKey, Secp256k1, Verification, schnorr},
};
use fulmen_onion::{PaymentPath, blinding::BlindedPath};
use fulmen_types::{Features, Timestamp, codec::Truncated};

use crate::{
    BuildError, CheckError, FallbackAddress, Field, InvoiceRequest, Mpp, Offer, OfferFields,
    ParseError, UnknownField,
    fields::{List, bits, expires_at, put_payment_paths},
    merkle::verify,
    read::{Message, Parts, check_node_id, check_offer},
    signing::{SignedMessage, Unsigned, hash_to_sign, sealed::Sealed},
    stream::{Range, StreamBuilder, records_in},
};

/// A valid static invoice, signed by its `invoice_node_id`. Its bytes never change; it has no text form.
///
/// A node that is always there hands it out to whoever requests an invoice, as often as it likes, so it names
/// no payment hash and no amount: the payer makes the preimage, and the payment is no proof of anything. The
/// HTLC is held near the payer until the payee, told of it over `message_paths`, is there to take it.
///
/// The draft numbers the message paths 178; this is what is in use, 236.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticInvoice {
    bytes: Vec<u8>,
    offer: OfferFields,
    invoice: StaticInvoiceFields,
    signature: schnorr::Signature,
}

/// The fields of a static invoice alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticInvoiceFields {
    /// `invoice_paths` and `invoice_blindedpay`, best first.
    pub paths: Vec<PaymentPath>,
    /// `invoice_created_at`, in seconds since 1970.
    pub created_at: u64,
    /// `invoice_relative_expiry`, in seconds; two weeks if `None`.
    pub relative_expiry: Option<u32>,
    /// `invoice_fallbacks`, best first.
    pub fallbacks: Option<Vec<FallbackAddress>>,
    /// `invoice_features`, numbered on their own.
    pub features: Option<Features>,
    /// `invoice_node_id`.
    pub node_id: PublicKey,
    /// Where the payee wants to be told of a held HTLC. A writer gives two or more.
    pub message_paths: Vec<BlindedPath>,
    /// Odd fields that this software does not know, of types 161 to 239 and from 3000000000.
    pub unknown: Vec<UnknownField>,
}

impl StaticInvoiceFields {
    /// The expiry when none is given: two weeks.
    pub const DEFAULT_RELATIVE_EXPIRY: u32 = 14 * 24 * 3_600;

    /// With nothing that is optional.
    pub const fn new(
        created_at: u64,
        node_id: PublicKey,
        paths: Vec<PaymentPath>,
        message_paths: Vec<BlindedPath>,
    ) -> Self {
        Self {
            paths,
            created_at,
            relative_expiry: None,
            fallbacks: None,
            features: None,
            node_id,
            message_paths,
            unknown: Vec::new(),
        }
    }

    /// Whether and how the payment may be split.
    pub fn mpp(&self) -> Mpp {
        Mpp::of(self.features.as_ref())
    }

    /// When the payment must not be tried any more, in seconds since 1970; saturates.
    pub fn expires_at(&self) -> u64 {
        let default = Self::DEFAULT_RELATIVE_EXPIRY;
        expires_at(self.created_at, self.relative_expiry, default)
    }

    /// Whether that time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.to_secs_floor() > self.expires_at()
    }

    fn put(&self, out: &mut StreamBuilder) -> Result<(), BuildError> {
        put_payment_paths(out, &self.paths);
        out.put(Field::InvoiceCreatedAt, &Truncated(self.created_at));
        let expiry = self.relative_expiry.map(Truncated);
        out.put_some(Field::InvoiceRelativeExpiry, expiry.as_ref());
        let fallbacks = self.fallbacks.as_ref().map(List);
        out.put_some(Field::InvoiceFallbacks, fallbacks.as_ref());
        out.put_some(Field::InvoiceFeatures, bits(&self.features).as_ref());
        out.put(Field::InvoiceNodeId, &self.node_id);
        out.put(Field::StaticInvoiceMessagePaths, &List(&self.message_paths));
        out.put_unknown(&self.unknown, Range::Invoice)
    }
}

impl StaticInvoice {
    /// Reads and verifies a static invoice from its TLV stream.
    ///
    /// A payer goes on with [`StaticInvoice::check`] and [`StaticInvoice::check_response`].
    pub fn from_bytes<C: Verification>(
        secp: &Secp256k1<C>,
        bytes: &[u8],
    ) -> Result<Self, ParseError> {
        let parsed = Self::read(bytes)?;
        let Self { signature, .. } = &parsed;
        let key = &parsed.invoice.node_id;
        if !verify(secp, signature, hash_to_sign::<Self>(bytes), key) {
            return Err(ParseError::WrongSignature(Field::InvoiceNodeId));
        }
        Ok(parsed)
    }

    fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut parts = Parts::read(bytes, Message::StaticInvoice)?;
        let invoice = parts.static_invoice()?;
        check_static(&parts.offer, &invoice)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            offer: parts.offer,
            invoice,
            signature: parts
                .signature
                .ok_or(ParseError::Missing(Field::Signature))?,
        })
    }

    /// The TLV stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it repeats of the offer.
    pub const fn offer(&self) -> &OfferFields {
        &self.offer
    }

    /// What it says itself.
    pub const fn invoice(&self) -> &StaticInvoiceFields {
        &self.invoice
    }

    /// The payee's signature.
    pub const fn signature(&self) -> &schnorr::Signature {
        &self.signature
    }

    /// The paths that may be used, best first; there is at least one.
    pub fn usable_paths(&self) -> impl Iterator<Item = &PaymentPath> {
        self.invoice.paths.iter().filter(|path| path.is_usable())
    }

    /// Whether it may be paid on this chain, now.
    pub fn check(&self, chain: ChainHash, now: Timestamp) -> Result<(), CheckError> {
        if !self.offer.allows_chain(chain) {
            return Err(CheckError::Chain);
        }
        if self.invoice.is_expired(now) || self.offer.is_expired(now) {
            return Err(CheckError::Expired);
        }
        Ok(())
    }

    /// Whether it is for the offer that `request` was for. What to pay is what the request says:
    /// [`InvoiceRequest::agreed_amount`].
    pub fn check_response(&self, request: &InvoiceRequest) -> Result<(), CheckError> {
        let ours = records_in(request.as_bytes(), &[Range::Offer]);
        if records_in(&self.bytes, &[Range::Offer]).eq(ours) {
            Ok(())
        } else {
            Err(CheckError::NotThisOffer)
        }
    }
}

impl SignedMessage for StaticInvoice {
    type Content = StaticInvoiceFields;
}

impl Sealed for StaticInvoice {
    const NAME: &'static str = "static_invoice";
    const SIGNATURE: Field = Field::Signature;

    fn from_signed<C: Verification>(secp: &Secp256k1<C>, bytes: &[u8]) -> Result<Self, ParseError> {
        Self::from_bytes(secp, bytes)
    }
}

/// A static invoice that waits for its payee's signature, by the key of `invoice_node_id`.
pub type UnsignedStaticInvoice = Unsigned<StaticInvoice>;

impl Offer {
    /// Makes a static invoice for this offer, to be handed out by the node at the end of `offer_paths`.
    pub fn static_invoice(
        &self,
        invoice: &StaticInvoiceFields,
    ) -> Result<UnsignedStaticInvoice, BuildError> {
        let mut out = StreamBuilder::default();
        out.copy(self.as_bytes(), &[Range::Offer]);
        invoice.put(&mut out)?;
        let bytes = out.finish();
        let mut parts = Parts::read(&bytes, Message::StaticInvoice)?;
        let invoice = parts.static_invoice()?;
        check_static(&parts.offer, &invoice)?;
        Ok(Unsigned::new(bytes, invoice))
    }
}

impl UnsignedStaticInvoice {
    /// What the invoice says itself.
    pub const fn invoice(&self) -> &StaticInvoiceFields {
        self.content()
    }
}

/// The draft's rules for the offer of a payee that is often away.
fn check_static(offer: &OfferFields, invoice: &StaticInvoiceFields) -> Result<(), ParseError> {
    check_offer(offer)?;
    if offer.paths.is_none() {
        return Err(ParseError::Missing(Field::OfferPaths));
    }
    // There is no request to say which of them.
    if offer.chains.as_ref().is_some_and(|chains| chains.len() > 1) {
        return Err(ParseError::SeveralChains);
    }
    check_node_id(offer, invoice.node_id)
}
