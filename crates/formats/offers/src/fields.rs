//! What offers, invoice requests and invoices say.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};

use bitcoin::{constants::ChainHash, secp256k1::PublicKey};
use fulmen_onion::{BlindedPayinfo, PaymentPath, blinding::BlindedPath};
use fulmen_types::{
    Features, Msat, PaymentHash, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, Truncated, Utf8},
};

use crate::{
    Bip353Name, BuildError, FallbackAddress, Field, ParseError, UnknownField,
    stream::{Range, StreamBuilder},
};

/// The fields of an offer, which invoice requests and invoices repeat. Texts are from strangers: show
/// them through [`fulmen_types::Printable`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OfferFields {
    /// `offer_chains`; bitcoin alone if `None`.
    pub chains: Option<Vec<ChainHash>>,
    /// `offer_metadata`: what the issuer recognises the offer by.
    pub metadata: Option<Vec<u8>>,
    /// `offer_currency`: what the amount is in, if not in millisatoshis.
    pub currency: Option<CurrencyCode>,
    /// `offer_amount` per item: millisatoshis, or the smallest unit of the currency.
    pub amount: Option<u64>,
    /// `offer_description`.
    pub description: Option<String>,
    /// `offer_features`, numbered on their own.
    pub features: Option<Features>,
    /// `offer_absolute_expiry`, in seconds since 1970.
    pub absolute_expiry: Option<u64>,
    /// `offer_paths`; never without entries.
    pub paths: Option<Vec<BlindedPath>>,
    /// `offer_issuer`.
    pub issuer: Option<String>,
    /// `offer_quantity_max`: one item if `None`, any number of items if 0.
    pub quantity_max: Option<u64>,
    /// `offer_issuer_id`.
    pub issuer_id: Option<PublicKey>,
    /// Odd fields that this software does not know: types 1 to 79 and 1000000000 to 1999999999.
    pub unknown: Vec<UnknownField>,
}

impl OfferFields {
    /// Whether this can be paid on `chain`.
    pub fn allows_chain(&self, chain: ChainHash) -> bool {
        match &self.chains {
            None => chain == ChainHash::BITCOIN,
            Some(chains) => chains.contains(&chain),
        }
    }

    /// Whether `offer_absolute_expiry` is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.absolute_expiry
            .is_some_and(|expiry| now.to_secs_floor() > expiry)
    }

    /// Whether somebody waits for requests: an issuer or paths to one are named.
    pub const fn is_offer(&self) -> bool {
        self.issuer_id.is_some() || self.paths.is_some()
    }

    /// What `quantity` items cost in millisatoshis; `None` when any amount is welcome. An amount in a
    /// currency takes the price of one item as `item_price`, converted by the caller.
    pub(crate) fn expected_amount(
        &self,
        quantity: Option<u64>,
        item_price: Option<Msat>,
    ) -> Result<Option<Msat>, ParseError> {
        let item = match (self.amount, self.currency) {
            (None, _) => return Ok(None),
            (Some(amount), None) => Msat::new(amount),
            (Some(_), Some(_)) => match item_price {
                Some(price) => price,
                None => return Ok(None),
            },
        };
        item.checked_mul(quantity.unwrap_or(1))
            .map(Some)
            .ok_or(ParseError::AmountOverflow)
    }

    pub(crate) fn put(&self, out: &mut StreamBuilder) -> Result<(), BuildError> {
        out.put_some(Field::OfferChains, self.chains.as_ref().map(List).as_ref());
        out.put_some(Field::OfferMetadata, self.metadata.as_ref());
        out.put_some(Field::OfferCurrency, self.currency.as_ref());
        out.put_some(Field::OfferAmount, self.amount.map(Truncated).as_ref());
        out.put_some(Field::OfferDescription, utf8(&self.description).as_ref());
        out.put_some(Field::OfferFeatures, bits(&self.features).as_ref());
        let expiry = self.absolute_expiry.map(Truncated);
        out.put_some(Field::OfferAbsoluteExpiry, expiry.as_ref());
        out.put_some(Field::OfferPaths, self.paths.as_ref().map(List).as_ref());
        out.put_some(Field::OfferIssuer, utf8(&self.issuer).as_ref());
        let quantity_max = self.quantity_max.map(Truncated);
        out.put_some(Field::OfferQuantityMax, quantity_max.as_ref());
        out.put_some(Field::OfferIssuerId, self.issuer_id.as_ref());
        out.put_unknown(&self.unknown, Range::Offer)
    }
}

/// The fields of an invoice request, which the invoice repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFields {
    /// `invreq_metadata`: unpredictable bytes, 16 or more in a new request.
    pub metadata: Vec<u8>,
    /// `invreq_chain`; bitcoin if `None`.
    pub chain: Option<ChainHash>,
    /// `invreq_amount`.
    pub amount: Option<Msat>,
    /// `invreq_features`, numbered on their own.
    pub features: Option<Features>,
    /// `invreq_quantity`.
    pub quantity: Option<u64>,
    /// `invreq_payer_id`: a key for this request alone.
    pub payer_id: PublicKey,
    /// `invreq_payer_note`.
    pub payer_note: Option<String>,
    /// `invreq_paths`: how to reach the payer of a refund; never without entries.
    pub paths: Option<Vec<BlindedPath>>,
    /// `invreq_bip_353_name`: the name that led to the offer.
    pub bip_353_name: Option<Bip353Name>,
    /// Odd fields that this software does not know: types 81 to 159 and 2000000000 to 2999999999.
    pub unknown: Vec<UnknownField>,
}

impl RequestFields {
    /// With nothing that is optional.
    pub const fn new(metadata: Vec<u8>, payer_id: PublicKey) -> Self {
        Self {
            metadata,
            chain: None,
            amount: None,
            features: None,
            quantity: None,
            payer_id,
            payer_note: None,
            paths: None,
            bip_353_name: None,
            unknown: Vec::new(),
        }
    }

    /// The chain of the payment.
    pub fn payment_chain(&self) -> ChainHash {
        self.chain.unwrap_or(ChainHash::BITCOIN)
    }

    pub(crate) fn put(&self, out: &mut StreamBuilder) -> Result<(), BuildError> {
        out.put(Field::InvreqMetadata, &self.metadata);
        out.put_some(Field::InvreqChain, self.chain.as_ref());
        out.put_some(Field::InvreqAmount, self.amount.map(tu64).as_ref());
        out.put_some(Field::InvreqFeatures, bits(&self.features).as_ref());
        out.put_some(Field::InvreqQuantity, self.quantity.map(Truncated).as_ref());
        out.put(Field::InvreqPayerId, &self.payer_id);
        out.put_some(Field::InvreqPayerNote, utf8(&self.payer_note).as_ref());
        out.put_some(Field::InvreqPaths, self.paths.as_ref().map(List).as_ref());
        out.put_some(Field::InvreqBip353Name, self.bip_353_name.as_ref());
        out.put_unknown(&self.unknown, Range::Request)
    }
}

/// The fields of an invoice alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceFields {
    /// `invoice_paths` and `invoice_blindedpay`, best first.
    pub paths: Vec<PaymentPath>,
    /// `invoice_created_at`, in seconds since 1970.
    pub created_at: u64,
    /// `invoice_relative_expiry`, in seconds; 7200 if `None`.
    pub relative_expiry: Option<u32>,
    /// `invoice_payment_hash`.
    pub payment_hash: PaymentHash,
    /// `invoice_amount`.
    pub amount: Msat,
    /// `invoice_fallbacks`, best first.
    pub fallbacks: Option<Vec<FallbackAddress>>,
    /// `invoice_features`, numbered on their own.
    pub features: Option<Features>,
    /// `invoice_node_id`.
    pub node_id: PublicKey,
    /// Odd fields that this software does not know, of types 161 to 239 and from 3000000000.
    pub unknown: Vec<UnknownField>,
}

impl InvoiceFields {
    /// The expiry when none is given.
    pub const DEFAULT_RELATIVE_EXPIRY: u32 = 7200;

    /// With nothing that is optional. For `amount` see
    /// [`InvoiceRequest::amount_to_invoice`](crate::InvoiceRequest::amount_to_invoice).
    pub const fn new(
        created_at: u64,
        payment_hash: PaymentHash,
        amount: Msat,
        node_id: PublicKey,
        paths: Vec<PaymentPath>,
    ) -> Self {
        Self {
            paths,
            created_at,
            relative_expiry: None,
            payment_hash,
            amount,
            fallbacks: None,
            features: None,
            node_id,
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

    pub(crate) fn put(&self, out: &mut StreamBuilder) -> Result<(), BuildError> {
        put_payment_paths(out, &self.paths);
        out.put(Field::InvoiceCreatedAt, &Truncated(self.created_at));
        let expiry = self.relative_expiry.map(Truncated);
        out.put_some(Field::InvoiceRelativeExpiry, expiry.as_ref());
        out.put(Field::InvoicePaymentHash, &self.payment_hash);
        out.put(Field::InvoiceAmount, &tu64(self.amount));
        let fallbacks = self.fallbacks.as_ref().map(List);
        out.put_some(Field::InvoiceFallbacks, fallbacks.as_ref());
        out.put_some(Field::InvoiceFeatures, bits(&self.features).as_ref());
        out.put(Field::InvoiceNodeId, &self.node_id);
        out.put_unknown(&self.unknown, Range::Invoice)
    }
}

/// Whether an invoice may be paid in parts (BOLT 12, Invoice Features).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mpp {
    /// In one part.
    Forbidden,
    /// In one part or several.
    Optional,
    /// In several parts, over several of the paths.
    Compulsory,
}

impl Mpp {
    /// The even bit; the odd one is for [`Mpp::Optional`].
    pub(crate) const BIT: u32 = 16;

    /// What `invoice_features` say.
    pub(crate) fn of(features: Option<&Features>) -> Self {
        let has = |bit| features.is_some_and(|features| features.has_bit(bit));
        if has(Self::BIT) {
            Self::Compulsory
        } else if has(Self::BIT + 1) {
            Self::Optional
        } else {
            Self::Forbidden
        }
    }

    /// The `invoice_features` that say it.
    pub fn to_features(self) -> Option<Features> {
        let bit = match self {
            Self::Forbidden => return None,
            Self::Optional => Self::BIT + 1,
            Self::Compulsory => Self::BIT,
        };
        let mut features = Features::empty();
        features.set_bit(bit);
        Some(features)
    }
}

/// `offer_currency`: three letters of ISO 4217. The amount's unit is the currency's smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CurrencyCode([u8; 3]);

impl CurrencyCode {
    /// From three capital letters.
    pub fn new(code: [u8; 3]) -> Result<Self, DecodeError> {
        if code.iter().all(u8::is_ascii_uppercase) {
            Ok(Self(code))
        } else {
            Err(DecodeError::InvalidValue(
                "a currency is three capital letters (ISO 4217)",
            ))
        }
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl FromStr for CurrencyCode {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::from_bytes(text.as_bytes())
    }
}

impl Encode for CurrencyCode {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for CurrencyCode {
    /// Takes all that is left of `r`.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = <[u8; 3]>::try_from(r.take_rest())
            .map_err(|_| DecodeError::InvalidValue("a currency has three letters (ISO 4217)"))?;
        Self::new(code)
    }
}

/// Entries to the end of the field.
pub(crate) struct List<'a, T>(pub(crate) &'a Vec<T>);

impl<T: Encode> Encode for List<'_, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|item| item.encode(out));
    }
}

/// The same of references.
struct RefList<'a, T>(Vec<&'a T>);

impl<T: Encode> Encode for RefList<'_, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|item| item.encode(out));
    }
}

/// `invoice_paths` and `invoice_blindedpay`.
pub(crate) fn put_payment_paths(out: &mut StreamBuilder, paths: &[PaymentPath]) {
    let payinfos = paths.iter().map(|path| &path.payinfo).collect();
    let paths = paths.iter().map(|path| &path.path).collect();
    out.put(Field::InvoicePaths, &RefList::<BlindedPath>(paths));
    out.put(
        Field::InvoiceBlindedpay,
        &RefList::<BlindedPayinfo>(payinfos),
    );
}

const fn tu64(amount: Msat) -> Truncated<u64> {
    Truncated(amount.to_msat())
}

fn utf8(text: &Option<String>) -> Option<Utf8> {
    text.clone().map(Utf8)
}

pub(crate) fn bits(features: &Option<Features>) -> Option<Vec<u8>> {
    features.as_ref().map(Features::to_be_bytes)
}

/// The end of an invoice, in seconds since 1970; saturates.
pub(crate) fn expires_at(created_at: u64, relative_expiry: Option<u32>, default: u32) -> u64 {
    created_at.saturating_add(u64::from(relative_expiry.unwrap_or(default)))
}
