//! What can be wrong with a message of BOLT 12, by field and rule.

use core::fmt;

use fulmen_types::{Msat, codec::DecodeError};

macro_rules! fields {
    ($($name:ident = $number:literal, $label:literal;)*) => {
        /// A field that BOLT 12 defines in offers, invoice requests, invoices and payer proofs, and one of
        /// the draft for static invoices.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are those of the specification")]
        pub enum Field { $($name),* }

        impl Field {
            /// Every field, by type.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The TLV type.
            pub const fn number(self) -> u64 {
                match self { $(Self::$name => $number),* }
            }

            /// The name in BOLT 12.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $label),* }
            }

            /// The field of a TLV type.
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

fields! {
    InvreqMetadata = 0, "invreq_metadata";
    OfferChains = 2, "offer_chains";
    OfferMetadata = 4, "offer_metadata";
    OfferCurrency = 6, "offer_currency";
    OfferAmount = 8, "offer_amount";
    OfferDescription = 10, "offer_description";
    OfferFeatures = 12, "offer_features";
    OfferAbsoluteExpiry = 14, "offer_absolute_expiry";
    OfferPaths = 16, "offer_paths";
    OfferIssuer = 18, "offer_issuer";
    OfferQuantityMax = 20, "offer_quantity_max";
    OfferIssuerId = 22, "offer_issuer_id";
    InvreqChain = 80, "invreq_chain";
    InvreqAmount = 82, "invreq_amount";
    InvreqFeatures = 84, "invreq_features";
    InvreqQuantity = 86, "invreq_quantity";
    InvreqPayerId = 88, "invreq_payer_id";
    InvreqPayerNote = 89, "invreq_payer_note";
    InvreqPaths = 90, "invreq_paths";
    InvreqBip353Name = 91, "invreq_bip_353_name";
    InvoicePaths = 160, "invoice_paths";
    InvoiceBlindedpay = 162, "invoice_blindedpay";
    InvoiceCreatedAt = 164, "invoice_created_at";
    InvoiceRelativeExpiry = 166, "invoice_relative_expiry";
    InvoicePaymentHash = 168, "invoice_payment_hash";
    InvoiceAmount = 170, "invoice_amount";
    InvoiceFallbacks = 172, "invoice_fallbacks";
    InvoiceFeatures = 174, "invoice_features";
    InvoiceNodeId = 176, "invoice_node_id";
    StaticInvoiceMessagePaths = 236, "static_invoice_message_paths";
    Signature = 240, "signature";
    ProofSignature = 241, "proof_signature";
    ProofPreimage = 1001, "proof_preimage";
    ProofOmittedTlvs = 1002, "proof_omitted_tlvs";
    ProofMissingHashes = 1003, "proof_missing_hashes";
    ProofLeafHashes = 1004, "proof_leaf_hashes";
    ProofNote = 1005, "proof_note";
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no encoding of a BOLT 12 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextError {
    /// No `1` behind the prefix.
    NoSeparator,
    /// Another prefix than this one: another kind of message, or none.
    Prefix(&'static str),
    /// Upper and lower case.
    MixedCase,
    /// A character that bech32 does not have.
    InvalidCharacter,
    /// A `+` that is not between two characters.
    Continuation,
    /// The last character has more than 4 bits of padding, or padding that is not zero.
    Padding,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeparator => f.write_str("the text has no 1 between prefix and data (BOLT 12)"),
            Self::Prefix(prefix) => write!(f, "the text does not begin with {prefix}1 (BOLT 12)"),
            Self::MixedCase => {
                f.write_str("the text mixes upper and lower case; use one of them (BOLT 12)")
            }
            Self::InvalidCharacter => {
                f.write_str("the text has a character that is not allowed (BOLT 12)")
            }
            Self::Continuation => f.write_str(
                "a + must be followed, and come after, a character (BOLT 12): is a part missing?",
            ),
            Self::Padding => {
                f.write_str("the text ends within a byte (BOLT 12): is a part missing?")
            }
        }
    }
}

impl core::error::Error for TextError {}

/// Why a message is invalid, whoever reads it and whenever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// The text.
    Text(TextError),
    /// The TLV stream.
    Stream(DecodeError),
    /// The content of a field.
    Field(Field, DecodeError),
    /// A type that has no place in this message.
    TypeOutOfRange(u64),
    /// An even type that this software does not know.
    UnknownEven(u64),
    /// The field must be there.
    Missing(Field),
    /// The field must not be there.
    Unexpected(Field),
    /// The field is there without another that it needs.
    Needs(Field, Field),
    /// A list without entries.
    Empty(Field),
    /// A number that must not be zero.
    Zero(Field),
    /// A compulsory feature bit that this software does not know.
    UnknownFeature(Field, u32),
    /// `invreq_chain`, or bitcoin if it is not there, is none of `offer_chains`.
    ChainNotOffered,
    /// `invreq_quantity` above `offer_quantity_max`.
    QuantityTooGreat {
        /// What is asked for.
        quantity: u64,
        /// What is offered.
        max: u64,
    },
    /// Amount times quantity is beyond all numbers.
    AmountOverflow,
    /// `invreq_amount` below the expected amount.
    AmountTooLow {
        /// `invreq_amount`.
        amount: Msat,
        /// `offer_amount` times `invreq_quantity`.
        expected: Msat,
    },
    /// Not one `blinded_payinfo` for each `blinded_path`.
    PayinfoCount {
        /// How many paths.
        paths: usize,
        /// How many `blinded_payinfo`.
        payinfos: usize,
    },
    /// Every path asks for features that this software does not know.
    NoUsablePath,
    /// `invoice_node_id` is neither `offer_issuer_id` nor, without one, at the end of one of `offer_paths`.
    NodeIdNotOffered,
    /// A static invoice for an offer with several `offer_chains`, none of which is asked for.
    SeveralChains,
    /// `proof_preimage` is not that of `invoice_payment_hash`.
    WrongPreimage,
    /// A number in `proof_omitted_tlvs` that is no type an invoice can hide.
    InvalidMarker(u64),
    /// A number in `proof_omitted_tlvs` that is not above the one before.
    MarkerOutOfOrder(u64),
    /// A number in `proof_omitted_tlvs` whose type is shown.
    MarkerIsShown(u64),
    /// A number in `proof_omitted_tlvs` that does not follow a type that is shown, or another such number.
    MarkerNotMinimal(u64),
    /// Not one hash in `proof_leaf_hashes` for each field of the invoice that is shown.
    LeafHashCount {
        /// How many hashes.
        hashes: usize,
        /// How many fields.
        fields: usize,
    },
    /// Another number of hashes in `proof_missing_hashes` than hidden branches meet shown ones.
    MissingHashCount(usize),
    /// The signature is not by the key in this field.
    WrongSignature(Field),
}

impl ParseError {
    /// The field that is to blame, for `erroneous_field` of an `invoice_error`.
    pub const fn erroneous_field(&self) -> Option<u64> {
        Some(match self {
            Self::Text(_) | Self::Stream(_) => return None,
            Self::TypeOutOfRange(number) | Self::UnknownEven(number) => *number,
            Self::Field(field, _)
            | Self::Missing(field)
            | Self::Unexpected(field)
            | Self::Needs(field, _)
            | Self::Empty(field)
            | Self::Zero(field)
            | Self::UnknownFeature(field, _) => field.number(),
            Self::ChainNotOffered => Field::InvreqChain.number(),
            Self::QuantityTooGreat { .. } => Field::InvreqQuantity.number(),
            Self::AmountOverflow | Self::AmountTooLow { .. } => Field::InvreqAmount.number(),
            Self::PayinfoCount { .. } => Field::InvoiceBlindedpay.number(),
            Self::NoUsablePath => Field::InvoicePaths.number(),
            Self::NodeIdNotOffered => Field::InvoiceNodeId.number(),
            Self::SeveralChains => Field::OfferChains.number(),
            Self::WrongPreimage => Field::ProofPreimage.number(),
            Self::InvalidMarker(_)
            | Self::MarkerOutOfOrder(_)
            | Self::MarkerIsShown(_)
            | Self::MarkerNotMinimal(_) => Field::ProofOmittedTlvs.number(),
            Self::LeafHashCount { .. } => Field::ProofLeafHashes.number(),
            Self::MissingHashCount(_) => Field::ProofMissingHashes.number(),
            Self::WrongSignature(_) => Field::Signature.number(),
        })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(e) => e.fmt(f),
            Self::Stream(e) => write!(f, "this is no TLV stream (BOLT 1): {e}"),
            Self::Field(field, e) => write!(f, "{field} (BOLT 12): {e}"),
            Self::TypeOutOfRange(number) => {
                write!(f, "field {number} has no place in this message (BOLT 12)")
            }
            Self::UnknownEven(number) => write!(
                f,
                "field {number} must be understood and is not; a newer version may (BOLT 12)"
            ),
            Self::Missing(field) => write!(f, "{field} is missing (BOLT 12)"),
            Self::Unexpected(field) => write!(f, "{field} must not be there (BOLT 12)"),
            Self::Needs(field, other) => write!(f, "{field} needs {other} beside it (BOLT 12)"),
            Self::Empty(field) => write!(f, "{field} has no entries (BOLT 12)"),
            Self::Zero(field) => write!(f, "{field} is zero (BOLT 12)"),
            Self::UnknownFeature(field, bit) => write!(
                f,
                "{field}: bit {bit} must be understood and is not; a newer version may (BOLT 12)"
            ),
            Self::ChainNotOffered => f.write_str("invreq_chain is none of offer_chains (BOLT 12)"),
            Self::QuantityTooGreat { quantity, max } => write!(
                f,
                "invreq_quantity is {quantity} and offer_quantity_max is {max} (BOLT 12)"
            ),
            Self::AmountOverflow => f.write_str("offer_amount times invreq_quantity is too great (BOLT 12)"),
            Self::AmountTooLow { amount, expected } => write!(
                f,
                "invreq_amount is {} msat and {} msat are asked for (BOLT 12)",
                amount.to_msat(),
                expected.to_msat()
            ),
            Self::PayinfoCount { paths, payinfos } => write!(
                f,
                "invoice_blindedpay has {payinfos} entries for {paths} paths (BOLT 12)"
            ),
            Self::NoUsablePath => {
                f.write_str("every path of the invoice needs features that are not known (BOLT 12)")
            }
            Self::NodeIdNotOffered => {
                f.write_str("invoice_node_id is none that the offer names (BOLT 12)")
            }
            Self::SeveralChains => f.write_str(
                "offer_chains has several entries and a static invoice is for one (BOLT 12, static invoices)",
            ),
            Self::WrongPreimage => {
                f.write_str("the preimage is not that of invoice_payment_hash (BOLT 12)")
            }
            Self::InvalidMarker(marker) => {
                write!(f, "proof_omitted_tlvs: no invoice has a field {marker} to hide (BOLT 12)")
            }
            Self::MarkerOutOfOrder(marker) => {
                write!(f, "proof_omitted_tlvs: {marker} is out of order (BOLT 12)")
            }
            Self::MarkerIsShown(marker) => {
                write!(f, "proof_omitted_tlvs: field {marker} is shown (BOLT 12)")
            }
            Self::MarkerNotMinimal(marker) => write!(
                f,
                "proof_omitted_tlvs: {marker} is not one more than a field before it (BOLT 12)"
            ),
            Self::LeafHashCount { hashes, fields } => write!(
                f,
                "proof_leaf_hashes has {hashes} hashes for {fields} fields (BOLT 12)"
            ),
            Self::MissingHashCount(count) => write!(
                f,
                "proof_missing_hashes: {count} hashes are not as many as are missing (BOLT 12)"
            ),
            Self::WrongSignature(field) => {
                write!(f, "the signature is not by {field} (BOLT 12)")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// Why a valid message is not to be answered or paid, here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckError {
    /// It is for another chain than ours.
    Chain,
    /// It has expired.
    Expired,
    /// The fields of the offer in an invoice request are not those of the offer, or those in a static invoice
    /// not those of the request.
    NotThisOffer,
    /// The type at which an invoice first differs from the request that it answers.
    NotThisRequest(u64),
    /// `invoice_node_id` is not who was asked.
    NodeId,
    /// The offer names its issuer only by paths; say over which one it was asked.
    SentToUnknown,
    /// `invoice_amount` is not what was asked for.
    Amount {
        /// `invoice_amount`.
        amount: Msat,
        /// What it has to be.
        expected: Msat,
    },
    /// `invoice_amount` is more than what the payer agreed to, or nobody said what that is.
    AmountNotAuthorized(Msat),
    /// The price is in a currency: say what it is in millisatoshis.
    NeedsConversion,
    /// A rule that needs the converted price.
    Rule(ParseError),
}

impl CheckError {
    /// The field that is to blame, for `erroneous_field` of an `invoice_error`.
    pub const fn erroneous_field(&self) -> Option<u64> {
        Some(match self {
            Self::Chain => Field::InvreqChain.number(),
            Self::NotThisRequest(number) => *number,
            Self::NodeId => Field::InvoiceNodeId.number(),
            Self::Amount { .. } | Self::AmountNotAuthorized(_) => Field::InvoiceAmount.number(),
            Self::Rule(e) => return e.erroneous_field(),
            Self::Expired | Self::NotThisOffer | Self::SentToUnknown | Self::NeedsConversion => {
                return None;
            }
        })
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("it is for another chain (BOLT 12)"),
            Self::Expired => f.write_str("it has expired: ask for a new one (BOLT 12)"),
            Self::NotThisOffer => f.write_str("it is for another offer (BOLT 12)"),
            Self::NotThisRequest(number) => write!(
                f,
                "the invoice differs from the request in field {number} (BOLT 12): don't pay it"
            ),
            Self::NodeId => {
                f.write_str("the invoice is not by whom was asked (BOLT 12): don't pay it")
            }
            Self::SentToUnknown => f.write_str(
                "the path that the request was sent over is needed to check the invoice (BOLT 12)",
            ),
            Self::Amount { amount, expected } => write!(
                f,
                "the invoice asks for {} msat instead of {} msat (BOLT 12): don't pay it",
                amount.to_msat(),
                expected.to_msat()
            ),
            Self::AmountNotAuthorized(amount) => {
                write!(
                    f,
                    "nobody agreed to pay {} msat (BOLT 12)",
                    amount.to_msat()
                )
            }
            Self::NeedsConversion => f.write_str(
                "the price is in a currency: convert it to millisatoshis first (BOLT 12)",
            ),
            Self::Rule(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for CheckError {}

impl From<ParseError> for CheckError {
    fn from(e: ParseError) -> Self {
        Self::Rule(e)
    }
}

/// Why a message can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// No reader would accept it.
    Rule(ParseError),
    /// `invreq_metadata` of less than 16 bytes can be guessed.
    MetadataTooShort(usize),
    /// The invoice does not fit the request.
    Response(CheckError),
    /// A payer proof can't show a field of this type.
    NotDisclosable(u64),
    /// A field given as unknown has a type that this software knows or that belongs to another message.
    UnknownFieldType(u64),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(e) => e.fmt(f),
            Self::MetadataTooShort(len) => write!(
                f,
                "invreq_metadata of {len} bytes can be guessed: use 16 random bytes or more (BOLT 12)"
            ),
            Self::Response(e) => e.fmt(f),
            Self::NotDisclosable(number) => {
                write!(f, "a payer proof can't show field {number} (BOLT 12)")
            }
            Self::UnknownFieldType(number) => {
                write!(
                    f,
                    "a field of type {number} is known or of another message (BOLT 12): it can't be given in this way"
                )
            }
        }
    }
}

impl core::error::Error for BuildError {}

impl From<ParseError> for BuildError {
    fn from(e: ParseError) -> Self {
        Self::Rule(e)
    }
}

impl From<CheckError> for BuildError {
    fn from(e: CheckError) -> Self {
        Self::Response(e)
    }
}
