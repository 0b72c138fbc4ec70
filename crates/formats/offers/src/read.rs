//! From a TLV stream to fields, and the rules that hold whoever reads it and whenever.

use alloc::{string::String, vec::Vec};

use bitcoin::secp256k1::{PublicKey, schnorr};
use fulmen_onion::{BlindedPayinfo, PaymentPath, blinding::BlindedPath};
use fulmen_types::{
    Features, Msat, PaymentHash, PaymentPreimage,
    codec::{BigSize, Decode, DecodeError, Reader, TlvReader, TlvRecord, Truncated, Utf8},
};

use crate::{
    FallbackAddress, Field, InvoiceFields, Mpp, OfferFields, ParseError, RequestFields,
    StaticInvoiceFields, UnknownField, stream::Range,
};

/// Which message a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Offer,
    InvoiceRequest,
    Invoice,
    StaticInvoice,
    PayerProof,
}

impl Message {
    /// Whether types of `range` may be in it.
    const fn allows(self, range: Range) -> bool {
        match self {
            Self::Offer => matches!(range, Range::Offer),
            Self::InvoiceRequest => {
                matches!(range, Range::Offer | Range::Request | Range::Signature)
            }
            Self::Invoice | Self::PayerProof => true,
            Self::StaticInvoice => !matches!(range, Range::Request),
        }
    }

    /// Whether a field means in it what its name says.
    const fn knows(self, field: Field) -> bool {
        match field {
            Field::StaticInvoiceMessagePaths => matches!(self, Self::StaticInvoice),
            Field::ProofSignature
            | Field::ProofPreimage
            | Field::ProofOmittedTlvs
            | Field::ProofMissingHashes
            | Field::ProofLeafHashes
            | Field::ProofNote => matches!(self, Self::PayerProof),
            _ => true,
        }
    }
}

/// All that a stream may hold, nothing of it required yet.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) offer: OfferFields,
    metadata: Option<Vec<u8>>,
    chain: Option<bitcoin::constants::ChainHash>,
    amount: Option<Msat>,
    features: Option<Features>,
    quantity: Option<u64>,
    payer_id: Option<PublicKey>,
    payer_note: Option<String>,
    paths: Option<Vec<BlindedPath>>,
    bip_353_name: Option<crate::Bip353Name>,
    request_unknown: Vec<UnknownField>,
    invoice_paths: Option<Vec<BlindedPath>>,
    blindedpay: Option<Vec<BlindedPayinfo>>,
    created_at: Option<u64>,
    relative_expiry: Option<u32>,
    payment_hash: Option<PaymentHash>,
    invoice_amount: Option<Msat>,
    fallbacks: Option<Vec<FallbackAddress>>,
    invoice_features: Option<Features>,
    node_id: Option<PublicKey>,
    message_paths: Option<Vec<BlindedPath>>,
    invoice_unknown: Vec<UnknownField>,
    pub(crate) signature: Option<schnorr::Signature>,
    proof_signature: Option<schnorr::Signature>,
    preimage: Option<PaymentPreimage>,
    omitted: Vec<u64>,
    missing_hashes: Option<Vec<[u8; 32]>>,
    leaf_hashes: Option<Vec<[u8; 32]>>,
    note: Option<String>,
}

/// What a payer proof says itself, and what it must show.
#[derive(Debug)]
pub(crate) struct ProofParts {
    pub(crate) payer_id: PublicKey,
    pub(crate) payment_hash: PaymentHash,
    pub(crate) amount: Option<Msat>,
    pub(crate) created_at: Option<u64>,
    pub(crate) node_id: PublicKey,
    pub(crate) signature: schnorr::Signature,
    pub(crate) proof_signature: schnorr::Signature,
    pub(crate) preimage: PaymentPreimage,
    pub(crate) omitted: Vec<u64>,
    pub(crate) missing_hashes: Vec<[u8; 32]>,
    pub(crate) leaf_hashes: Vec<[u8; 32]>,
    pub(crate) note: Option<String>,
}

impl Parts {
    /// Reads the fields of a message.
    pub(crate) fn read(stream: &[u8], message: Message) -> Result<Self, ParseError> {
        let mut parts = Self::default();
        for record in TlvReader::new(stream) {
            let record = record.map_err(ParseError::Stream)?;
            let range = Range::of(record.kind);
            if !message.allows(range) {
                return Err(ParseError::TypeOutOfRange(record.kind));
            }
            match Field::from_number(record.kind).filter(|field| message.knows(*field)) {
                Some(field) => parts
                    .set(field, &record)
                    .map_err(|e| ParseError::Field(field, e))?,
                None => parts.set_unknown(range, &record)?,
            }
        }
        Ok(parts)
    }

    fn set(&mut self, field: Field, record: &TlvRecord<'_>) -> Result<(), DecodeError> {
        let offer = &mut self.offer;
        match field {
            Field::InvreqMetadata => self.metadata = Some(record.value.to_vec()),
            Field::OfferChains => offer.chains = Some(list(record)?),
            Field::OfferMetadata => offer.metadata = Some(record.value.to_vec()),
            Field::OfferCurrency => offer.currency = Some(record.parse()?),
            Field::OfferAmount => offer.amount = Some(tu64(record)?),
            Field::OfferDescription => offer.description = Some(utf8(record)?),
            Field::OfferFeatures => offer.features = Some(features(record)),
            Field::OfferAbsoluteExpiry => offer.absolute_expiry = Some(tu64(record)?),
            Field::OfferPaths => offer.paths = Some(list(record)?),
            Field::OfferIssuer => offer.issuer = Some(utf8(record)?),
            Field::OfferQuantityMax => offer.quantity_max = Some(tu64(record)?),
            Field::OfferIssuerId => offer.issuer_id = Some(record.parse()?),
            Field::InvreqChain => self.chain = Some(record.parse()?),
            Field::InvreqAmount => self.amount = Some(tu64(record).map(Msat::new)?),
            Field::InvreqFeatures => self.features = Some(features(record)),
            Field::InvreqQuantity => self.quantity = Some(tu64(record)?),
            Field::InvreqPayerId => self.payer_id = Some(record.parse()?),
            Field::InvreqPayerNote => self.payer_note = Some(utf8(record)?),
            Field::InvreqPaths => self.paths = Some(list(record)?),
            Field::InvreqBip353Name => self.bip_353_name = Some(record.parse()?),
            Field::InvoicePaths => self.invoice_paths = Some(list(record)?),
            Field::InvoiceBlindedpay => self.blindedpay = Some(list(record)?),
            Field::InvoiceCreatedAt => self.created_at = Some(tu64(record)?),
            Field::InvoiceRelativeExpiry => {
                self.relative_expiry = Some(record.parse::<Truncated<u32>>()?.0);
            }
            Field::InvoicePaymentHash => self.payment_hash = Some(record.parse()?),
            Field::InvoiceAmount => self.invoice_amount = Some(tu64(record).map(Msat::new)?),
            Field::InvoiceFallbacks => self.fallbacks = Some(list(record)?),
            Field::InvoiceFeatures => self.invoice_features = Some(features(record)),
            Field::InvoiceNodeId => self.node_id = Some(record.parse()?),
            Field::StaticInvoiceMessagePaths => self.message_paths = Some(list(record)?),
            Field::Signature => self.signature = Some(record.parse()?),
            Field::ProofSignature => self.proof_signature = Some(record.parse()?),
            Field::ProofPreimage => self.preimage = Some(record.parse()?),
            Field::ProofOmittedTlvs => {
                self.omitted = list::<BigSize>(record)?.iter().map(|n| n.0).collect();
            }
            Field::ProofMissingHashes => self.missing_hashes = Some(list(record)?),
            Field::ProofLeafHashes => self.leaf_hashes = Some(list(record)?),
            Field::ProofNote => self.note = Some(utf8(record)?),
        }
        Ok(())
    }

    fn set_unknown(&mut self, range: Range, record: &TlvRecord<'_>) -> Result<(), ParseError> {
        if record.kind.is_multiple_of(2) {
            return Err(ParseError::UnknownEven(record.kind));
        }
        let field = UnknownField {
            kind: record.kind,
            value: record.value.to_vec(),
        };
        match range {
            Range::Offer => self.offer.unknown.push(field),
            Range::Request => self.request_unknown.push(field),
            Range::Invoice => self.invoice_unknown.push(field),
            // Of another purpose: part of the bytes, and of nothing else.
            Range::Signature | Range::Proof => {}
        }
        Ok(())
    }

    /// The fields of a request, those that must be there among them.
    pub(crate) fn request(&mut self) -> Result<RequestFields, ParseError> {
        Ok(RequestFields {
            metadata: need(self.metadata.take(), Field::InvreqMetadata)?,
            chain: self.chain.take(),
            amount: self.amount.take(),
            features: self.features.take(),
            quantity: self.quantity.take(),
            payer_id: need(self.payer_id.take(), Field::InvreqPayerId)?,
            payer_note: self.payer_note.take(),
            paths: self.paths.take(),
            bip_353_name: self.bip_353_name.take(),
            unknown: core::mem::take(&mut self.request_unknown),
        })
    }

    /// BOLT 12, Invoices, the reader of an invoice: what must be there and fit together.
    pub(crate) fn invoice(&mut self) -> Result<InvoiceFields, ParseError> {
        let amount = need(self.invoice_amount.take(), Field::InvoiceAmount)?;
        let created_at = need(self.created_at.take(), Field::InvoiceCreatedAt)?;
        let payment_hash = need(self.payment_hash.take(), Field::InvoicePaymentHash)?;
        let node_id = need(self.node_id.take(), Field::InvoiceNodeId)?;
        let features = self.checked_invoice_features()?;
        Ok(InvoiceFields {
            paths: self.payment_paths()?,
            created_at,
            relative_expiry: self.relative_expiry.take(),
            payment_hash,
            amount,
            fallbacks: self.fallbacks.take(),
            features,
            node_id,
            unknown: core::mem::take(&mut self.invoice_unknown),
        })
    }

    /// The same of a static invoice, by its draft.
    pub(crate) fn static_invoice(&mut self) -> Result<StaticInvoiceFields, ParseError> {
        none_of([
            (self.payment_hash.is_some(), Field::InvoicePaymentHash),
            (self.invoice_amount.is_some(), Field::InvoiceAmount),
        ])?;
        let created_at = need(self.created_at.take(), Field::InvoiceCreatedAt)?;
        let node_id = need(self.node_id.take(), Field::InvoiceNodeId)?;
        let features = self.checked_invoice_features()?;
        let message_paths = need(self.message_paths.take(), Field::StaticInvoiceMessagePaths)?;
        if message_paths.is_empty() {
            return Err(ParseError::Empty(Field::StaticInvoiceMessagePaths));
        }
        Ok(StaticInvoiceFields {
            paths: self.payment_paths()?,
            created_at,
            relative_expiry: self.relative_expiry.take(),
            fallbacks: self.fallbacks.take(),
            features,
            node_id,
            message_paths,
            unknown: core::mem::take(&mut self.invoice_unknown),
        })
    }

    /// BOLT 12, Payer Proofs, the reader: what must be there.
    pub(crate) fn proof(&mut self) -> Result<ProofParts, ParseError> {
        let missing_hashes = need(self.missing_hashes.take(), Field::ProofMissingHashes)?;
        let leaf_hashes = need(self.leaf_hashes.take(), Field::ProofLeafHashes)?;
        Ok(ProofParts {
            payer_id: need(self.payer_id.take(), Field::InvreqPayerId)?,
            payment_hash: need(self.payment_hash.take(), Field::InvoicePaymentHash)?,
            amount: self.invoice_amount.take(),
            created_at: self.created_at.take(),
            node_id: need(self.node_id.take(), Field::InvoiceNodeId)?,
            signature: need(self.signature.take(), Field::Signature)?,
            proof_signature: need(self.proof_signature.take(), Field::ProofSignature)?,
            preimage: need(self.preimage.take(), Field::ProofPreimage)?,
            omitted: core::mem::take(&mut self.omitted),
            missing_hashes,
            leaf_hashes,
            note: self.note.take(),
        })
    }

    pub(crate) const fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    fn checked_invoice_features(&mut self) -> Result<Option<Features>, ParseError> {
        let features = self.invoice_features.take();
        check_features(features.as_ref(), Field::InvoiceFeatures, &[Mpp::BIT])?;
        Ok(features)
    }

    fn payment_paths(&mut self) -> Result<Vec<PaymentPath>, ParseError> {
        let paths = need(self.invoice_paths.take(), Field::InvoicePaths)?;
        if paths.is_empty() {
            return Err(ParseError::Empty(Field::InvoicePaths));
        }
        let payinfos = need(self.blindedpay.take(), Field::InvoiceBlindedpay)?;
        if payinfos.len() != paths.len() {
            return Err(ParseError::PayinfoCount {
                paths: paths.len(),
                payinfos: payinfos.len(),
            });
        }
        let paths: Vec<PaymentPath> = paths
            .into_iter()
            .zip(payinfos)
            .map(|(path, payinfo)| PaymentPath { path, payinfo })
            .collect();
        if paths.iter().any(PaymentPath::is_usable) {
            Ok(paths)
        } else {
            Err(ParseError::NoUsablePath)
        }
    }
}

/// BOLT 12, Invoices: whose key an invoice for an offer is signed with. Which of the paths it was asked over is
/// the payer's knowledge.
pub(crate) fn check_node_id(offer: &OfferFields, node_id: PublicKey) -> Result<(), ParseError> {
    let is_named = match (offer.issuer_id, &offer.paths) {
        (Some(issuer_id), _) => node_id == issuer_id,
        (None, Some(paths)) => paths.iter().any(|path| path.recipient() == Some(node_id)),
        (None, None) => true,
    };
    if is_named {
        Ok(())
    } else {
        Err(ParseError::NodeIdNotOffered)
    }
}

/// An error for the first field that is there and must not be.
pub(crate) fn none_of<const N: usize>(fields: [(bool, Field); N]) -> Result<(), ParseError> {
    match fields.into_iter().find(|(is_there, _)| *is_there) {
        Some((_, field)) => Err(ParseError::Unexpected(field)),
        None => Ok(()),
    }
}

/// BOLT 12, Requirements For Offers, the reader, apart from time and chain.
pub(crate) fn check_offer(offer: &OfferFields) -> Result<(), ParseError> {
    check_features(offer.features.as_ref(), Field::OfferFeatures, &[])?;
    // BOLT 12, Offers, Rationale: no entries are explicitly invalid.
    if offer.chains.as_ref().is_some_and(Vec::is_empty) {
        return Err(ParseError::Empty(Field::OfferChains));
    }
    if offer.amount.is_some() && offer.description.is_none() {
        return Err(ParseError::Needs(
            Field::OfferAmount,
            Field::OfferDescription,
        ));
    }
    if offer.amount == Some(0) {
        return Err(ParseError::Zero(Field::OfferAmount));
    }
    if offer.currency.is_some() && offer.amount.is_none() {
        return Err(ParseError::Needs(Field::OfferCurrency, Field::OfferAmount));
    }
    // A request must go over one of the paths, so there must be one.
    if offer.paths.as_ref().is_some_and(Vec::is_empty) {
        return Err(ParseError::Empty(Field::OfferPaths));
    }
    if !offer.is_offer() {
        return Err(ParseError::Missing(Field::OfferIssuerId));
    }
    Ok(())
}

/// BOLT 12, Requirements for Invoice Requests, the reader, apart from signature, time and chain.
pub(crate) fn check_request(
    offer: &OfferFields,
    request: &RequestFields,
) -> Result<(), ParseError> {
    check_features(request.features.as_ref(), Field::InvreqFeatures, &[])?;
    if request.paths.as_ref().is_some_and(Vec::is_empty) {
        return Err(ParseError::Empty(Field::InvreqPaths));
    }
    if offer.is_offer() {
        check_offer(offer)?;
        check_quantity(offer.quantity_max, request.quantity)?;
        if !offer.allows_chain(request.payment_chain()) {
            return Err(ParseError::ChainNotOffered);
        }
        check_amount(offer, request, None)
    } else {
        none_of([
            (offer.chains.is_some(), Field::OfferChains),
            (offer.features.is_some(), Field::OfferFeatures),
            (offer.quantity_max.is_some(), Field::OfferQuantityMax),
        ])?;
        need(request.amount, Field::InvreqAmount).map(|_| ())
    }
}

/// The amount rules of a request for an offer. Without `item_price` an amount in a currency is not
/// compared.
pub(crate) fn check_amount(
    offer: &OfferFields,
    request: &RequestFields,
    item_price: Option<Msat>,
) -> Result<(), ParseError> {
    if offer.amount.is_none() {
        return need(request.amount, Field::InvreqAmount).map(|_| ());
    }
    let expected = offer.expected_amount(request.quantity, item_price)?;
    match (request.amount, expected) {
        (Some(amount), Some(expected)) if amount < expected => {
            Err(ParseError::AmountTooLow { amount, expected })
        }
        _ => Ok(()),
    }
}

fn check_quantity(max: Option<u64>, quantity: Option<u64>) -> Result<(), ParseError> {
    match (max, quantity) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(ParseError::Unexpected(Field::InvreqQuantity)),
        (Some(_), None) => Err(ParseError::Missing(Field::InvreqQuantity)),
        // Forbidden to writers whatever the maximum is: nothing would be paid for.
        (Some(_), Some(0)) => Err(ParseError::Zero(Field::InvreqQuantity)),
        (Some(max), Some(quantity)) if max != 0 && quantity > max => {
            Err(ParseError::QuantityTooGreat { quantity, max })
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

fn check_features(
    features: Option<&Features>,
    field: Field,
    known: &[u32],
) -> Result<(), ParseError> {
    let unknown = |bit: &u32| bit.is_multiple_of(2) && !known.contains(bit);
    match features.and_then(|features| features.bits().find(unknown)) {
        Some(bit) => Err(ParseError::UnknownFeature(field, bit)),
        None => Ok(()),
    }
}

fn need<T>(value: Option<T>, field: Field) -> Result<T, ParseError> {
    value.ok_or(ParseError::Missing(field))
}

/// Entries to the end of the field.
fn list<T: Decode>(record: &TlvRecord<'_>) -> Result<Vec<T>, DecodeError> {
    let mut r = Reader::new(record.value);
    let mut items = Vec::new();
    while !r.is_empty() {
        items.push(T::decode(&mut r)?);
    }
    Ok(items)
}

fn tu64(record: &TlvRecord<'_>) -> Result<u64, DecodeError> {
    record.parse::<Truncated<u64>>().map(|value| value.0)
}

fn utf8(record: &TlvRecord<'_>) -> Result<String, DecodeError> {
    record.parse::<Utf8>().map(|text| text.0)
}

fn features(record: &TlvRecord<'_>) -> Features {
    Features::from_be_bytes(record.value)
}
