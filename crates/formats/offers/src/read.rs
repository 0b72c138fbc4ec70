//! From a TLV stream to fields, and the rules that hold whoever reads it and whenever.

use alloc::{string::String, vec::Vec};

use bitcoin::secp256k1::{PublicKey, schnorr};
use fulmen_onion::{BlindedPayinfo, PaymentPath, blinding::BlindedPath};
use fulmen_types::{
    Features, Msat, PaymentHash,
    codec::{Decode, DecodeError, Reader, TlvReader, TlvRecord, Truncated, Utf8},
};

use crate::{
    FallbackAddress, Field, InvoiceFields, Mpp, OfferFields, ParseError, RequestFields,
    UnknownField, stream::Range,
};

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
    invoice_unknown: Vec<UnknownField>,
    pub(crate) signature: Option<schnorr::Signature>,
}

impl Parts {
    /// Reads a stream whose types may be in `ranges`.
    pub(crate) fn read(stream: &[u8], ranges: &[Range]) -> Result<Self, ParseError> {
        let mut parts = Self::default();
        for record in TlvReader::new(stream) {
            let record = record.map_err(ParseError::Stream)?;
            let range = Range::of(record.kind);
            if !ranges.contains(&range) {
                return Err(ParseError::TypeOutOfRange(record.kind));
            }
            match Field::from_number(record.kind) {
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
            Field::Signature => self.signature = Some(record.parse()?),
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
            // A signature of another purpose: part of the bytes, and of nothing else.
            Range::Signature => {}
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
        let features = self.invoice_features.take();
        check_features(features.as_ref(), Field::InvoiceFeatures, &[Mpp::BIT])?;
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
        if !paths.iter().any(PaymentPath::is_usable) {
            return Err(ParseError::NoUsablePath);
        }
        Ok(InvoiceFields {
            paths,
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
        let unexpected = [
            (offer.chains.is_some(), Field::OfferChains),
            (offer.features.is_some(), Field::OfferFeatures),
            (offer.quantity_max.is_some(), Field::OfferQuantityMax),
        ];
        if let Some((_, field)) = unexpected.into_iter().find(|(there, _)| *there) {
            return Err(ParseError::Unexpected(field));
        }
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
