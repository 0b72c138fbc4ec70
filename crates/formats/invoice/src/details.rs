//! What an invoice says, and its tagged fields.

use alloc::{string::String, vec::Vec};

use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::PublicKey,
};
use fulmen_onion::PaymentPath;
use fulmen_types::{
    CltvExpiryDelta, Feature, FeatureContext, FeatureError, Features, Msat, PaymentHash,
    PaymentSecret, Timestamp, codec::Decode,
};

use crate::{
    BuildError, Currency, Fallback, Field, ParseError, RouteHint, amount, blinded, quintets,
};

/// The greatest `data_length` of a field.
const FIELD_LEN_MAX: usize = 1023;
/// Seconds in 35 bits.
const TIMESTAMP_MAX: u64 = (1 << 35) - 1;
pub(crate) const TIMESTAMP_LEN: usize = 7;

/// What an invoice says. Fill one to make an invoice, or read it from a parsed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceDetails {
    /// What it is paid in.
    pub currency: Currency,
    /// What is asked for; any amount if `None`.
    pub amount: Option<Msat>,
    /// When it was made, in seconds since 1970; at most 35 bits.
    pub timestamp_secs: u64,
    /// `p`.
    pub payment_hash: PaymentHash,
    /// `s`. An invoice has either this or blinded paths, which take its place.
    pub payment_secret: Option<PaymentSecret>,
    /// `d` or `h`.
    pub description: Description,
    /// `m`.
    pub payment_metadata: Option<Vec<u8>>,
    /// `n`: the payee, if it is named and not only recovered from the signature.
    pub payee: Option<PublicKey>,
    /// `x`, in seconds.
    pub expiry_secs: Option<u64>,
    /// `c`, in blocks.
    pub min_final_cltv_expiry_delta: Option<u64>,
    /// `f`, best first.
    pub fallbacks: Vec<Fallback>,
    /// `r`, best first.
    pub route_hints: Vec<RouteHint>,
    /// `b`, best first: how to reach a payee that does not say who it is (bLIP 39). The first hop's
    /// `blinded_node_id` is that of the introduction node itself.
    pub blinded_paths: Vec<PaymentPath>,
    /// `9`.
    pub features: Features,
    /// Fields of types that this software does not know, and those that a reader must skip.
    pub skipped_fields: Vec<RawField>,
}

/// What the payment is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// The text, at most 639 bytes. From strangers: show it through [`fulmen_types::Printable`].
    Text(String),
    /// The hash of a text that is given by other means.
    Hash(sha256::Hash),
}

/// A field as it stands, in numbers of 5 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawField {
    /// The type, below 32.
    pub tag: u8,
    /// The data, each below 32, at most 1023.
    pub data: Vec<u8>,
}

impl Description {
    /// Whether it is of `text`: that text itself, or its hash. BOLT 11 has a payer check that what was
    /// handed over by other means is what the invoice commits to.
    pub fn is_of(&self, text: &str) -> bool {
        match self {
            Self::Text(own) => own == text,
            Self::Hash(hash) => *hash == sha256::Hash::hash(text.as_bytes()),
        }
    }
}

impl InvoiceDetails {
    /// The expiry when none is given.
    pub const DEFAULT_EXPIRY_SECS: u64 = 3600;
    /// The `min_final_cltv_expiry_delta` when none is given.
    pub const DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA: u16 = 18;

    /// An invoice for any amount, with nothing that is optional but the features that every payer has.
    pub fn new(
        currency: Currency,
        made_at: Timestamp,
        payment_hash: PaymentHash,
        payment_secret: PaymentSecret,
        description: Description,
    ) -> Self {
        Self {
            currency,
            amount: None,
            timestamp_secs: made_at.to_secs_floor(),
            payment_hash,
            payment_secret: Some(payment_secret),
            description,
            payment_metadata: None,
            payee: None,
            expiry_secs: None,
            min_final_cltv_expiry_delta: None,
            fallbacks: Vec::new(),
            route_hints: Vec::new(),
            blinded_paths: Vec::new(),
            features: Features::empty()
                .with_required(Feature::VarOnion)
                .with_required(Feature::PaymentSecret),
            skipped_fields: Vec::new(),
        }
    }

    /// An invoice that is paid over blinded paths (bLIP 39). Sign it with a key that is not the node's own;
    /// a payer needs none of it but the paths.
    pub fn blinded(
        currency: Currency,
        made_at: Timestamp,
        payment_hash: PaymentHash,
        blinded_paths: Vec<PaymentPath>,
        description: Description,
    ) -> Self {
        let no_secret = PaymentSecret::new([0; 32]);
        Self {
            payment_secret: None,
            blinded_paths,
            features: Features::empty()
                .with_required(Feature::VarOnion)
                .with_required(Feature::RouteBlinding)
                .with_required(Feature::Bolt11BlindedPaths),
            ..Self::new(currency, made_at, payment_hash, no_secret, description)
        }
    }

    /// When it was made.
    pub const fn made_at(&self) -> Timestamp {
        Timestamp::from_secs(self.timestamp_secs)
    }

    /// How long it holds, in seconds: one hour unless it says otherwise.
    pub fn expiry_secs_or_default(&self) -> u64 {
        self.expiry_secs.unwrap_or(Self::DEFAULT_EXPIRY_SECS)
    }

    /// Until when it holds; the end of time if that is beyond the number range.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_secs(
            self.timestamp_secs
                .saturating_add(self.expiry_secs_or_default()),
        )
    }

    /// Whether it no longer holds.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.expires_at()
    }

    /// The delta of the last HTLC: 18 unless it says otherwise; saturates at 65535 blocks, which every limit
    /// of a payer refuses.
    pub fn final_cltv_expiry_delta(&self) -> CltvExpiryDelta {
        CltvExpiryDelta::new(match self.min_final_cltv_expiry_delta {
            Some(blocks) => u16::try_from(blocks).unwrap_or(u16::MAX),
            None => Self::DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA,
        })
    }

    /// Whether the payment may come in parts (`basic_mpp`).
    pub fn allows_multi_part(&self) -> bool {
        self.features.supports(Feature::BasicMpp)
    }

    pub(crate) fn hrp(&self) -> String {
        amount::write(self.currency, self.amount)
    }

    /// Timestamp and fields in quintets.
    pub(crate) fn to_quintets(&self) -> Result<Vec<u8>, BuildError> {
        if self.amount == Some(Msat::ZERO) {
            return Err(BuildError::AmountZero);
        }
        if self.amount.is_some_and(|amount| amount > Msat::MAX_MONEY) {
            return Err(BuildError::AmountTooLarge);
        }
        if self.timestamp_secs > TIMESTAMP_MAX {
            return Err(BuildError::TimestampTooLarge);
        }
        check_features(&self.features).map_err(BuildError::Features)?;
        self.check_recipient()?;
        let mut out = quintets::from_u35(self.timestamp_secs).to_vec();
        let mut put = |field: Field, data: &[u8]| put_field(&mut out, field, data);

        if let Some(secret) = &self.payment_secret {
            put(
                Field::PaymentSecret,
                &quintets::from_bytes(secret.as_bytes()),
            )?;
        }
        put(
            Field::PaymentHash,
            &quintets::from_bytes(self.payment_hash.as_bytes()),
        )?;
        match &self.description {
            Description::Text(text) => {
                put(Field::Description, &quintets::from_bytes(text.as_bytes()))?;
            }
            Description::Hash(hash) => put(
                Field::DescriptionHash,
                &quintets::from_bytes(hash.as_byte_array()),
            )?,
        }
        if let Some(metadata) = &self.payment_metadata {
            put(Field::PaymentMetadata, &quintets::from_bytes(metadata))?;
        }
        if let Some(payee) = &self.payee {
            put(Field::Payee, &quintets::from_bytes(&payee.serialize()))?;
        }
        if let Some(secs) = self.expiry_secs {
            put(Field::Expiry, &quintets::from_u64(secs))?;
        }
        if let Some(blocks) = self.min_final_cltv_expiry_delta {
            put(Field::MinFinalCltvExpiryDelta, &quintets::from_u64(blocks))?;
        }
        for fallback in &self.fallbacks {
            put(Field::Fallback, &fallback.to_quintets())?;
        }
        for hint in &self.route_hints {
            if hint.hops.is_empty() {
                return Err(BuildError::EmptyRouteHint);
            }
            put(Field::RouteHint, &quintets::from_bytes(&hint.to_bytes()))?;
        }
        for path in &self.blinded_paths {
            put(
                Field::BlindedPath,
                &quintets::from_bytes(&blinded::encode(path)),
            )?;
        }
        if !self.features.is_empty() {
            put(Field::Features, &features_to_quintets(&self.features))?;
        }
        for field in &self.skipped_fields {
            if field.tag > 31
                || field.data.len() > FIELD_LEN_MAX
                || field.data.iter().any(|quintet| *quintet > 31)
                || !must_skip(field.tag, &field.data)
            {
                return Err(BuildError::RawField(field.tag));
            }
            put_raw(&mut out, field.tag, &field.data);
        }
        Ok(out)
    }

    /// bLIP 39: blinded paths stand in for the secret and for route hints.
    fn check_recipient(&self) -> Result<(), BuildError> {
        if self.blinded_paths.is_empty() {
            return match self.payment_secret {
                Some(_) => Ok(()),
                None => Err(BuildError::NoPaymentSecret),
            };
        }
        match self.beside_blinded_paths() {
            Some(field) => Err(BuildError::UnexpectedField(field)),
            None => Ok(()),
        }
    }

    /// The field that must not stand beside blinded paths, if there is one.
    fn beside_blinded_paths(&self) -> Option<Field> {
        if self.payment_secret.is_some() {
            Some(Field::PaymentSecret)
        } else if self.route_hints.is_empty() {
            None
        } else {
            Some(Field::RouteHint)
        }
    }

    /// The details as they will be read again: a path's first hop is named once.
    pub(crate) fn normalized(mut self) -> Result<Self, BuildError> {
        self.blinded_paths = self
            .blinded_paths
            .into_iter()
            .map(|path| blinded::normalize(path).ok_or(BuildError::BlindedPath))
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Reads timestamp and fields.
    pub(crate) fn from_quintets(hrp: &str, data: &[u8]) -> Result<Self, ParseError> {
        let (currency, amount) = amount::parse(hrp)?;
        let (timestamp, fields) = data
            .split_at_checked(TIMESTAMP_LEN)
            .ok_or(ParseError::TooShort)?;
        let mut found = Found::default();
        found.read(fields)?;
        // A skipped field of the type tells a wrong length from a missing field.
        let skipped = |field: Field| found.skipped.iter().any(|raw| raw.tag == field.tag());
        let missing = |field: Field| match skipped(field) {
            true => ParseError::WrongLength(field),
            false => ParseError::MissingField(field),
        };
        let payment_hash = found
            .payment_hash
            .ok_or_else(|| missing(Field::PaymentHash))?;
        if found.payment_secret.is_none() && found.blinded_paths.is_empty() {
            return Err(missing(Field::PaymentSecret));
        }
        let description = match (found.description, found.description_hash) {
            (Some(text), None) => Description::Text(text),
            (None, Some(hash)) => Description::Hash(hash),
            (None, None) if skipped(Field::DescriptionHash) => {
                return Err(ParseError::WrongLength(Field::DescriptionHash));
            }
            // BOLT 11, a reader: fail if neither is present, or both.
            (Some(_), Some(_)) | (None, None) => return Err(ParseError::DescriptionCount),
        };
        let features = found.features.unwrap_or_default();
        check_features(&features).map_err(ParseError::Features)?;
        let details = Self {
            currency,
            amount,
            timestamp_secs: quintets::to_u64(timestamp).ok_or(ParseError::TooShort)?,
            payment_hash,
            payment_secret: found.payment_secret,
            description,
            payment_metadata: found.payment_metadata,
            payee: found.payee,
            expiry_secs: found.expiry_secs,
            min_final_cltv_expiry_delta: found.min_final_cltv_expiry_delta,
            fallbacks: found.fallbacks,
            route_hints: found.route_hints,
            blinded_paths: found.blinded_paths,
            features,
            skipped_fields: found.skipped,
        };
        match details.beside_blinded_paths() {
            Some(field) if !details.blinded_paths.is_empty() => {
                Err(ParseError::UnexpectedField(field))
            }
            Some(_) | None => Ok(details),
        }
    }
}

/// The fields as they are read, the first of each type.
#[derive(Default)]
struct Found {
    payment_hash: Option<PaymentHash>,
    payment_secret: Option<PaymentSecret>,
    description: Option<String>,
    description_hash: Option<sha256::Hash>,
    payment_metadata: Option<Vec<u8>>,
    payee: Option<PublicKey>,
    expiry_secs: Option<u64>,
    min_final_cltv_expiry_delta: Option<u64>,
    fallbacks: Vec<Fallback>,
    route_hints: Vec<RouteHint>,
    blinded_paths: Vec<PaymentPath>,
    features: Option<Features>,
    skipped: Vec<RawField>,
}

impl Found {
    fn read(&mut self, mut rest: &[u8]) -> Result<(), ParseError> {
        while let Some((&tag, after)) = rest.split_first() {
            let truncated = ParseError::FieldTruncated(letter(tag));
            let (len, after) = after.split_at_checked(2).ok_or(truncated)?;
            let len = usize::from(len[0]) << 5 | usize::from(len[1]);
            let (data, after) = after.split_at_checked(len).ok_or(truncated)?;
            rest = after;
            match Field::from_tag(tag) {
                Some(field) if !must_skip(tag, data) => self.take(field, data)?,
                Some(_) | None => self.skipped.push(RawField {
                    tag,
                    data: data.to_vec(),
                }),
            }
        }
        Ok(())
    }

    fn take(&mut self, field: Field, data: &[u8]) -> Result<(), ParseError> {
        let invalid = ParseError::InvalidField(field);
        let bytes = || quintets::to_bytes(data);
        match field {
            // BOLT 11, a payer: use the first.
            Field::PaymentHash => {
                let hash = PaymentHash::from_bytes(&bytes()).map_err(|_| invalid)?;
                self.payment_hash.get_or_insert(hash);
            }
            Field::PaymentSecret => {
                let secret = PaymentSecret::from_bytes(&bytes()).map_err(|_| invalid)?;
                set_once(&mut self.payment_secret, secret, field)?;
            }
            Field::Description => {
                let text = String::from_utf8(bytes()).map_err(|_| invalid)?;
                set_once(&mut self.description, text, field)?;
            }
            Field::DescriptionHash => {
                let hash = sha256::Hash::from_slice(&bytes()).map_err(|_| invalid)?;
                set_once(&mut self.description_hash, hash, field)?;
            }
            Field::PaymentMetadata => {
                self.payment_metadata.get_or_insert_with(bytes);
            }
            Field::Payee => {
                let payee = PublicKey::from_slice(&bytes()).map_err(|_| invalid)?;
                set_once(&mut self.payee, payee, field)?;
            }
            Field::Expiry => {
                let secs = number(field, data)?;
                self.expiry_secs.get_or_insert(secs);
            }
            Field::MinFinalCltvExpiryDelta => {
                let blocks = number(field, data)?;
                self.min_final_cltv_expiry_delta.get_or_insert(blocks);
            }
            Field::Fallback => {
                if let Some(fallback) = Fallback::from_quintets(data) {
                    self.fallbacks.push(fallback.map_err(|_| invalid)?);
                }
            }
            Field::RouteHint => {
                let hint = RouteHint::from_bytes(&bytes()).map_err(|_| invalid)?;
                // Without hops it says nothing.
                if !hint.hops.is_empty() {
                    self.route_hints.push(hint);
                }
            }
            Field::BlindedPath => {
                let paths = blinded::decode(&bytes()).map_err(|_| invalid)?;
                self.blinded_paths.extend(paths);
            }
            Field::Features => {
                check_minimal(field, data)?;
                self.features
                    .get_or_insert_with(|| features_from_quintets(data));
            }
        }
        Ok(())
    }
}

/// Whether a reader passes over a field: unknown types, unknown versions of fallback addresses, and
/// lengths that the type can't have. The specification's own valid example "including fields which must be
/// ignored" has such lengths, beside its rule that they fail; where the field is needed they do fail.
fn must_skip(tag: u8, data: &[u8]) -> bool {
    match Field::from_tag(tag) {
        None => true,
        Some(Field::Fallback) => Fallback::from_quintets(data).is_none(),
        Some(field) => field
            .fixed_length()
            .is_some_and(|length| length != data.len()),
    }
}

/// A repeated field is harmless only if it says the same again.
fn set_once<T: PartialEq>(slot: &mut Option<T>, value: T, field: Field) -> Result<(), ParseError> {
    match slot {
        Some(first) if *first != value => Err(ParseError::DuplicateField(field)),
        Some(_) => Ok(()),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn number(field: Field, data: &[u8]) -> Result<u64, ParseError> {
    check_minimal(field, data)?;
    quintets::to_u64(data).ok_or(ParseError::NumberTooLarge(field))
}

fn check_minimal(field: Field, data: &[u8]) -> Result<(), ParseError> {
    if data.first() == Some(&0) {
        Err(ParseError::NonMinimal(field))
    } else {
        Ok(())
    }
}

fn put_field(out: &mut Vec<u8>, field: Field, data: &[u8]) -> Result<(), BuildError> {
    if data.len() > FIELD_LEN_MAX {
        return Err(BuildError::TooLong(field));
    }
    put_raw(out, field.tag(), data);
    Ok(())
}

/// `data` has at most 1023 quintets, whose count is two quintets.
fn put_raw(out: &mut Vec<u8>, tag: u8, data: &[u8]) {
    let len = quintets::from_u35(data.len() as u64);
    out.extend([tag, len[5], len[6]]);
    out.extend_from_slice(data);
}

/// BOLT 11, Feature Bits. A feature that has no meaning in invoices counts as an unknown one: ignored when
/// odd, refused when even, unless every node is assumed to have it. So does the draft of trampoline
/// routing, over which no payer goes here.
fn check_features(features: &Features) -> Result<(), FeatureError> {
    let mut meant = features.clone();
    for &feature in Feature::ALL {
        if feature.is_said_in(FeatureContext::Invoice) && feature != Feature::TrampolineRouting {
            continue;
        }
        if features.requires(feature) && !feature.is_assumed() {
            return Err(FeatureError::UnknownRequired(feature.even_bit()));
        }
        meant = meant.without(feature);
    }
    meant.check()
}

fn features_from_quintets(data: &[u8]) -> Features {
    let mut features = Features::empty();
    for (first_bit, quintet) in (0u32..).step_by(5).zip(data.iter().rev()) {
        (0..5)
            .filter(|bit| quintet >> bit & 1 == 1)
            .for_each(|bit| features.set_bit(first_bit + bit));
    }
    features
}

fn features_to_quintets(features: &Features) -> Vec<u8> {
    let mut data = Vec::new();
    for bit in features.bits() {
        // Bits come in rising order and each fits an index.
        let index = (bit / 5) as usize;
        data.resize(data.len().max(index + 1), 0u8);
        data[index] |= 1 << (bit % 5);
    }
    data.reverse();
    data
}

fn letter(tag: u8) -> char {
    bech32::Fe32::try_from(tag).map_or('?', bech32::Fe32::to_char)
}
