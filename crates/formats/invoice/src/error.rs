//! What can be wrong with an invoice.

use core::fmt;

use fulmen_types::FeatureError;

/// Why a text is no invoice that may be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// No `1` between prefix and data, or nothing behind it.
    NoSeparator,
    /// Upper and lower case (BIP 173).
    MixedCase,
    /// A character that bech32 does not have, or a prefix that it can't have.
    InvalidCharacter,
    /// The checksum does not match: a typing or copying error.
    Checksum,
    /// The prefix does not begin with `ln`.
    NotAnInvoice,
    /// A currency that this software does not know.
    UnknownCurrency,
    /// An amount that is no number.
    AmountNotANumber,
    /// A letter behind the amount that is none of m, u, n, p.
    UnknownMultiplier(char),
    /// An amount in pico-bitcoin that is no whole number of millisatoshis.
    SubMillisatoshi,
    /// An amount of zero.
    AmountZero,
    /// An amount above all the bitcoin that can exist.
    AmountTooLarge,
    /// No room for timestamp and signature.
    TooShort,
    /// A field that says to be longer than the data.
    FieldTruncated(char),
    /// The field must be there.
    MissingField(Field),
    /// The field is there again and says something else.
    DuplicateField(Field),
    /// Neither of `d` and `h`, or both.
    DescriptionCount,
    /// A field that must not stand beside blinded paths (bLIP 39).
    UnexpectedField(Field),
    /// The only field of its type does not have the length that the type has.
    WrongLength(Field),
    /// A number or feature field that begins with zeros.
    NonMinimal(Field),
    /// A number beyond 64 bits.
    NumberTooLarge(Field),
    /// The content of the field is invalid: no UTF-8, no public key, no witness program, no list of
    /// hops.
    InvalidField(Field),
    /// A feature that must be understood and is not, or one without another that it needs.
    Features(FeatureError),
    /// The signature's recovery id is above 3, or its numbers are out of range.
    MalformedSignature,
    /// No public key can be recovered from the signature.
    NotRecoverable,
    /// The signature is not by the key in the `n` field.
    WrongSignature,
    /// With an `n` field the signature must have a low S.
    HighS,
}

/// A tagged field that the specification defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `p`.
    PaymentHash,
    /// `s`.
    PaymentSecret,
    /// `d`.
    Description,
    /// `m`.
    PaymentMetadata,
    /// `n`.
    Payee,
    /// `h`.
    DescriptionHash,
    /// `x`.
    Expiry,
    /// `c`.
    MinFinalCltvExpiryDelta,
    /// `f`.
    Fallback,
    /// `r`.
    RouteHint,
    /// `9`.
    Features,
    /// `b` (bLIP 39).
    BlindedPath,
}

impl Field {
    const ALL: [Self; 12] = [
        Self::PaymentHash,
        Self::PaymentSecret,
        Self::Description,
        Self::PaymentMetadata,
        Self::Payee,
        Self::DescriptionHash,
        Self::Expiry,
        Self::MinFinalCltvExpiryDelta,
        Self::Fallback,
        Self::RouteHint,
        Self::Features,
        Self::BlindedPath,
    ];

    /// The type's number.
    pub const fn tag(self) -> u8 {
        match self {
            Self::PaymentHash => 1,
            Self::RouteHint => 3,
            Self::Features => 5,
            Self::Expiry => 6,
            Self::Fallback => 9,
            Self::Description => 13,
            Self::PaymentSecret => 16,
            Self::Payee => 19,
            Self::BlindedPath => 20,
            Self::DescriptionHash => 23,
            Self::MinFinalCltvExpiryDelta => 24,
            Self::PaymentMetadata => 27,
        }
    }

    /// The type's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::PaymentHash => 'p',
            Self::RouteHint => 'r',
            Self::Features => '9',
            Self::Expiry => 'x',
            Self::Fallback => 'f',
            Self::Description => 'd',
            Self::PaymentSecret => 's',
            Self::Payee => 'n',
            Self::DescriptionHash => 'h',
            Self::MinFinalCltvExpiryDelta => 'c',
            Self::PaymentMetadata => 'm',
            Self::BlindedPath => 'b',
        }
    }

    pub(crate) fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.tag() == tag)
    }

    /// The length in quintets of the types that have one.
    pub(crate) const fn fixed_length(self) -> Option<usize> {
        match self {
            Self::PaymentHash | Self::PaymentSecret | Self::DescriptionHash => Some(52),
            Self::Payee => Some(53),
            Self::Description
            | Self::PaymentMetadata
            | Self::Expiry
            | Self::MinFinalCltvExpiryDelta
            | Self::Fallback
            | Self::RouteHint
            | Self::Features
            | Self::BlindedPath => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::PaymentHash => "payment hash",
            Self::PaymentSecret => "payment secret",
            Self::Description => "description",
            Self::PaymentMetadata => "payment metadata",
            Self::Payee => "payee",
            Self::DescriptionHash => "description hash",
            Self::Expiry => "expiry",
            Self::MinFinalCltvExpiryDelta => "min_final_cltv_expiry_delta",
            Self::Fallback => "fallback address",
            Self::RouteHint => "route hint",
            Self::Features => "features",
            Self::BlindedPath => "blinded path",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (field {})", self.name(), self.letter())
    }
}

impl ParseError {
    /// The tagged field that breaks a rule, if it is one.
    pub const fn field(&self) -> Option<Field> {
        Some(match self {
            Self::MissingField(field)
            | Self::DuplicateField(field)
            | Self::UnexpectedField(field)
            | Self::WrongLength(field)
            | Self::NonMinimal(field)
            | Self::NumberTooLarge(field)
            | Self::InvalidField(field) => *field,
            Self::DescriptionCount => Field::Description,
            Self::Features(_) => Field::Features,
            Self::WrongSignature | Self::HighS => Field::Payee,
            Self::NoSeparator
            | Self::MixedCase
            | Self::InvalidCharacter
            | Self::Checksum
            | Self::NotAnInvoice
            | Self::UnknownCurrency
            | Self::AmountNotANumber
            | Self::UnknownMultiplier(_)
            | Self::SubMillisatoshi
            | Self::AmountZero
            | Self::AmountTooLarge
            | Self::TooShort
            | Self::FieldTruncated(_)
            | Self::MalformedSignature
            | Self::NotRecoverable => return None,
        })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeparator => f.write_str("this is no invoice: it has no data part (BIP 173)"),
            Self::MixedCase => {
                f.write_str("the invoice mixes upper and lower case; use one of them (BIP 173)")
            }
            Self::InvalidCharacter => {
                f.write_str("the invoice has a character that is not allowed (BIP 173)")
            }
            Self::Checksum => f.write_str(
                "the invoice's checksum is wrong: it was not copied completely or was changed (BIP 173)",
            ),
            Self::NotAnInvoice => f.write_str("this is no invoice: it does not begin with ln (BOLT 11)"),
            Self::UnknownCurrency => f.write_str(
                "the invoice is for an unknown currency; lnbc, lntb, lntbs and lnbcrt are known (BOLT 11)",
            ),
            Self::AmountNotANumber => f.write_str("the invoice's amount is no number (BOLT 11)"),
            Self::UnknownMultiplier(c) => {
                let c = c.escape_default();
                write!(f, "the invoice's amount has the unknown unit {c}; m, u, n and p are known (BOLT 11)")
            }
            Self::SubMillisatoshi => {
                f.write_str("the invoice's amount is no whole number of millisatoshis (BOLT 11)")
            }
            Self::AmountZero => f.write_str("the invoice asks for an amount of zero (BOLT 11)"),
            Self::AmountTooLarge => f.write_str("the invoice asks for more than all the bitcoin that can exist (BOLT 11)"),
            Self::TooShort => f.write_str("the invoice is too short for a timestamp and a signature (BOLT 11)"),
            Self::FieldTruncated(letter) => {
                write!(f, "the invoice ends within its field {letter} (BOLT 11)")
            }
            Self::MissingField(field) => write!(f, "the invoice has no {field} (BOLT 11)"),
            Self::DuplicateField(field) => {
                write!(f, "the invoice has two different values of the {field} (BOLT 11)")
            }
            Self::DescriptionCount => f.write_str(
                "the invoice must have either a description or a description hash (BOLT 11, d and h)",
            ),
            Self::UnexpectedField(field) => {
                write!(f, "the invoice has blinded paths and a {field} (bLIP 39)")
            }
            Self::WrongLength(field) => write!(f, "the {field} has a wrong length (BOLT 11)"),
            Self::NonMinimal(field) => write!(f, "the {field} begins with zeros (BOLT 11)"),
            Self::NumberTooLarge(field) => write!(f, "the {field} is impossibly large (BOLT 11)"),
            Self::InvalidField(field) => write!(f, "the {field} is invalid (BOLT 11)"),
            Self::Features(e) => write!(
                f,
                "this software can't pay the invoice: {e}; a newer version may (BOLT 11, field 9)"
            ),
            Self::MalformedSignature => f.write_str("the invoice's signature is malformed (BOLT 11)"),
            Self::NotRecoverable => {
                f.write_str("no payee can be recovered from the invoice's signature (BOLT 11)")
            }
            Self::WrongSignature => {
                f.write_str("the invoice is not signed by the payee that it names (BOLT 11, n)")
            }
            Self::HighS => {
                f.write_str("the invoice names its payee, so its signature must have a low S (BOLT 11, n)")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// Why an invoice can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// An amount of zero: leave it out for an invoice of any amount.
    AmountZero,
    /// An amount above all the bitcoin that can exist.
    AmountTooLarge,
    /// A time beyond 35 bits of seconds, the year 3058.
    TimestampTooLarge,
    /// The field has more than the 639 bytes that a field can hold; a description that long is given by
    /// its hash.
    TooLong(Field),
    /// A route hint without hops.
    EmptyRouteHint,
    /// Neither a payment secret nor blinded paths, one of which a payee needs.
    NoPaymentSecret,
    /// A field that must not stand beside blinded paths (bLIP 39).
    UnexpectedField(Field),
    /// A blinded path without hops, with more than 255, or from a node that is not named by its key.
    BlindedPath,
    /// Features that no reader may accept.
    Features(FeatureError),
    /// A field by number that is one of the known fields, or has data that are no quintets.
    RawField(u8),
    /// The signature is not by the payee that the invoice names, or by nobody.
    Signature(ParseError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmountZero => {
                f.write_str("an invoice can't ask for zero (BOLT 11): leave the amount out to take any")
            }
            Self::AmountTooLarge => {
                f.write_str("an invoice can't ask for more than all the bitcoin that can exist (BOLT 11)")
            }
            Self::TimestampTooLarge => f.write_str("the time is beyond the 35 bits of an invoice (BOLT 11)"),
            Self::TooLong(field) => {
                write!(
                    f,
                    "the {field} is longer than the 639 bytes of a field (BOLT 11)"
                )
            }
            Self::EmptyRouteHint => f.write_str("a route hint has no hops (BOLT 11, r)"),
            Self::NoPaymentSecret => f.write_str(
                "an invoice needs a payment secret (BOLT 11, s) or blinded paths (bLIP 39, b)",
            ),
            Self::UnexpectedField(field) => {
                write!(f, "an invoice with blinded paths can't have a {field} (bLIP 39)")
            }
            Self::BlindedPath => f.write_str(
                "a blinded path of an invoice has 1 to 255 hops and begins with a node's key (bLIP 39)",
            ),
            Self::Features(e) => write!(f, "invalid features (BOLT 11, 9): {e}"),
            Self::RawField(tag) => write!(f, "a field of type {tag} is known or no field (BOLT 11): it can't be given in this way"),
            Self::Signature(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for BuildError {}
