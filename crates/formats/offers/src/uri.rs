//! `bitcoin:` URIs with payment instructions: BIP 321.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use bitcoin::{Address, Amount, address::NetworkUnchecked};

use crate::{Offer, ParseError};

pub(crate) const SCHEME: &str = "bitcoin:";
/// Decimals of a bitcoin.
const DECIMALS: usize = 8;
/// Schemes that open a web browser or more (BIP 321, Proof of Payment).
const FORBIDDEN_SCHEMES: [&str; 14] = [
    "about",
    "blob",
    "chrome",
    "data",
    "file",
    "ftp",
    "ftps",
    "http",
    "https",
    "javascript",
    "mailto",
    "vbscript",
    "view-source",
    "wss",
];

/// How somebody wants to be paid, in one text for all wallets: `bitcoin:` and whatever of an address, Lightning
/// invoices and offers, amount and words there is (BIP 321).
///
/// Nothing may be paid without the user's word. `label` and `message` are from strangers: show them through
/// [`fulmen_types::Printable`].
///
/// ```
/// use fulmen_offers::{PaymentInstruction, PaymentUri};
///
/// let uri: PaymentUri = "bitcoin:?amount=0.0003&label=caf%C3%A9&lno=lno1bogusoffer&lno=lno1another".parse()?;
/// assert_eq!(uri.amount.map(|amount| amount.to_sat()), Some(30_000));
/// assert_eq!(uri.label.as_deref(), Some("café"));
/// assert_eq!(uri.instructions[0], PaymentInstruction::Offer("lno1bogusoffer".into()));
/// // The text of an offer is read by who wants it: here none of them is one.
/// assert!(uri.offers().all(|offer| offer.is_err()));
/// assert_eq!(uri.to_string().parse(), Ok(uri));
/// // What must be understood and is not makes all of it invalid.
/// let error = "bitcoin:?lno=lno1x&req-colour=blue".parse::<PaymentUri>().unwrap_err();
/// assert_eq!(error.to_string(), "the URI needs colour, which is not known (BIP 321, req-)");
/// # Ok::<(), fulmen_offers::UriError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PaymentUri {
    /// The address in the URI's body, for whatever network: check it before use.
    pub address: Option<Address<NetworkUnchecked>>,
    /// `amount`.
    pub amount: Option<Amount>,
    /// `label`: who is paid.
    pub label: Option<String>,
    /// `message`: what for.
    pub message: Option<String>,
    /// `pop`: where the proof of payment is to be handed.
    pub pop: Option<ProofOfPayment>,
    /// Other ways to pay, in their order.
    pub instructions: Vec<PaymentInstruction>,
    /// Parameters that this software does not know and may ignore: the key in lower case, and the value.
    pub others: Vec<(String, Option<String>)>,
}

/// A way to pay in the query of a [`PaymentUri`]. Texts are as they stand; they may be invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaymentInstruction {
    /// `lightning`: a BOLT 11 invoice, which `fulmen-invoice` reads.
    Invoice(String),
    /// `lno`: a BOLT 12 offer. See [`PaymentUri::offers`].
    Offer(String),
    /// `bc`, `tb` or `bcrt`: a segwit address, whose prefix is the key.
    Address(Address<NetworkUnchecked>),
    /// `sp`: a silent payment address (BIP 352).
    SilentPayment(String),
    /// `pay`: a private payment address (BIP 351).
    PrivatePayment(String),
}

/// `pop` or `req-pop`: an application that wants to hear of the payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofOfPayment {
    /// What the URI to open begins with.
    pub prefix: String,
    /// Whether a wallet that will not do it must not pay.
    pub is_required: bool,
}

impl ProofOfPayment {
    /// The URI to open after the payment, or `None` if it would open in a web browser and is not to be opened.
    ///
    /// `key` is the parameter that was paid, `onchain` for the address in the body; `information` is the
    /// preimage or the transaction in hexadecimal.
    pub fn callback(&self, key: &str, information: &str) -> Option<String> {
        self.may_be_opened()
            .then(|| alloc::format!("{}{key}={information}", self.prefix))
    }

    fn may_be_opened(&self) -> bool {
        self.prefix.split_once(':').is_some_and(|(scheme, _)| {
            let mut letters = scheme.bytes();
            letters.next().is_some_and(|b| b.is_ascii_alphabetic())
                && letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !FORBIDDEN_SCHEMES
                    .iter()
                    .any(|forbidden| scheme.eq_ignore_ascii_case(forbidden))
        })
    }
}

/// Why a text is no URI to pay (BIP 321).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// It does not begin with `bitcoin:`.
    Scheme,
    /// The body is no address.
    Address,
    /// A character that has no place in a URI, or a `%` without two hexadecimal digits behind it.
    Encoding,
    /// The value of the parameter is no UTF-8.
    NotUtf8(String),
    /// The parameter is there twice.
    Duplicate(&'static str),
    /// No decimal number of bitcoin, of whole satoshis.
    Amount,
    /// The parameter is no segwit address that begins with its name.
    SegwitAddress(&'static str),
    /// The parameter must be understood and is not.
    UnknownRequired(String),
    /// The proof of payment that must be given would go to a web browser.
    ProofOfPayment,
    /// Neither an address nor another way to pay.
    NothingToPay,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fulmen_types::Printable;
        match self {
            Self::Scheme => f.write_str("this is no bitcoin: URI (BIP 321)"),
            Self::Address => f.write_str(
                "the URI has no valid address: it was not copied completely or was changed (BIP 321)",
            ),
            Self::Encoding => {
                f.write_str("the URI has a character that must be percent-encoded (RFC 3986)")
            }
            Self::NotUtf8(key) => {
                write!(f, "{} is not valid UTF-8 (BIP 321)", Printable(key.as_bytes()))
            }
            Self::Duplicate(key) => write!(f, "the URI has {key} twice (BIP 321)"),
            Self::Amount => f.write_str("amount is no decimal number of bitcoin (BIP 321)"),
            Self::SegwitAddress(key) => {
                write!(f, "{key} must be a segwit address that begins with {key} (BIP 321)")
            }
            Self::UnknownRequired(key) => write!(
                f,
                "the URI needs {}, which is not known (BIP 321, req-)",
                Printable(key.as_bytes())
            ),
            Self::ProofOfPayment => f.write_str(
                "the URI wants the proof of payment sent to a web browser: don't pay it (BIP 321, req-pop)",
            ),
            Self::NothingToPay => f.write_str("the URI says nothing that could be paid (BIP 321)"),
        }
    }
}

impl core::error::Error for UriError {}

impl PaymentUri {
    /// The BOLT 11 invoices, as texts.
    pub fn invoices(&self) -> impl Iterator<Item = &str> {
        self.instructions.iter().filter_map(|way| match way {
            PaymentInstruction::Invoice(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The BOLT 12 offers. One that is invalid says nothing about the others.
    pub fn offers(&self) -> impl Iterator<Item = Result<Offer, ParseError>> + '_ {
        self.instructions.iter().filter_map(|way| match way {
            PaymentInstruction::Offer(text) => Some(text.parse()),
            _ => None,
        })
    }

    /// In capitals for a QR code, which takes less room, or `None` if something in it depends on case.
    pub fn to_qr_text(&self) -> Option<String> {
        let is_bech32 = |address: &Address<NetworkUnchecked>| {
            prefix_of(&address.assume_checked_ref().to_string()).is_some()
        };
        let is_free = self.address.as_ref().is_none_or(is_bech32)
            && self.label.is_none()
            && self.message.is_none()
            && self.pop.is_none()
            && self.others.is_empty();
        is_free.then(|| self.to_string().to_ascii_uppercase())
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), UriError> {
        let (name, is_required) = match key.strip_prefix("req-") {
            Some(name) => (name, true),
            None => (key, false),
        };
        let text = || decode(value.unwrap_or_default(), key);
        match name {
            "amount" => put(&mut self.amount, "amount", parse_amount(&text()?)?),
            "label" => put(&mut self.label, "label", text()?),
            "message" => put(&mut self.message, "message", text()?),
            "pop" => {
                let pop = ProofOfPayment {
                    prefix: text()?,
                    is_required,
                };
                if is_required && !pop.may_be_opened() {
                    return Err(UriError::ProofOfPayment);
                }
                put(&mut self.pop, "pop", pop)
            }
            "lightning" => self.add(PaymentInstruction::Invoice(text()?)),
            "lno" => self.add(PaymentInstruction::Offer(text()?)),
            "bc" | "tb" | "bcrt" => self.add(segwit(name, &text()?)?),
            // Whether these are implemented is the caller's business, who can't see that they must be.
            "sp" if !is_required => self.add(PaymentInstruction::SilentPayment(text()?)),
            "pay" if !is_required => self.add(PaymentInstruction::PrivatePayment(text()?)),
            _ if is_required => Err(UriError::UnknownRequired(name.to_owned())),
            _ => {
                let value = value.map(|value| decode(value, key)).transpose()?;
                self.others.push((key.to_owned(), value));
                Ok(())
            }
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "one shape for all parameters")]
    fn add(&mut self, instruction: PaymentInstruction) -> Result<(), UriError> {
        self.instructions.push(instruction);
        Ok(())
    }
}

impl FromStr for PaymentUri {
    type Err = UriError;

    /// Scheme and keys are read in either case.
    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = strip_scheme(text).ok_or(UriError::Scheme)?;
        let (body, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        if !body.is_empty() {
            uri.address = Some(body.parse().map_err(|_| UriError::Address)?);
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = match parameter.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (parameter, None),
            };
            let key = decode(key, "a key")?.to_ascii_lowercase();
            uri.set(&key, value)?;
        }
        if uri.address.is_none() && uri.instructions.is_empty() {
            return Err(UriError::NothingToPay);
        }
        Ok(uri)
    }
}

impl fmt::Display for PaymentUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        if let Some(address) = &self.address {
            address.assume_checked_ref().fmt(f)?;
        }
        let mut separator = '?';
        let mut parameter = |key: &str, value: Option<&str>| {
            write!(f, "{separator}{}", Escaped(key))?;
            separator = '&';
            match value {
                Some(value) => write!(f, "={}", Escaped(value)),
                None => Ok(()),
            }
        };
        if let Some(amount) = self.amount {
            parameter("amount", Some(&write_amount(amount)))?;
        }
        for (key, value) in [("label", &self.label), ("message", &self.message)] {
            if let Some(value) = value {
                parameter(key, Some(value))?;
            }
        }
        for instruction in &self.instructions {
            match instruction {
                PaymentInstruction::Invoice(text) => parameter("lightning", Some(text))?,
                PaymentInstruction::Offer(text) => parameter("lno", Some(text))?,
                PaymentInstruction::SilentPayment(text) => parameter("sp", Some(text))?,
                PaymentInstruction::PrivatePayment(text) => parameter("pay", Some(text))?,
                PaymentInstruction::Address(address) => {
                    let address = address.assume_checked_ref().to_string();
                    parameter(prefix_of(&address).unwrap_or("bc"), Some(&address))?;
                }
            }
        }
        if let Some(pop) = &self.pop {
            let key = if pop.is_required { "req-pop" } else { "pop" };
            parameter(key, Some(&pop.prefix))?;
        }
        self.others
            .iter()
            .try_for_each(|(key, value)| parameter(key, value.as_deref()))
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

fn put<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), UriError> {
    match slot.replace(value) {
        Some(_) => Err(UriError::Duplicate(key)),
        None => Ok(()),
    }
}

/// The key of a segwit address: its prefix.
fn prefix_of(address: &str) -> Option<&'static str> {
    let (prefix, _) = address.rsplit_once('1')?;
    ["bc", "tb", "bcrt"].into_iter().find(|key| *key == prefix)
}

fn segwit(key: &str, text: &str) -> Result<PaymentInstruction, UriError> {
    let address = Address::from_str(text).ok();
    let prefix = address
        .as_ref()
        .and_then(|address| prefix_of(&address.assume_checked_ref().to_string()));
    match (address, prefix) {
        (Some(address), Some(prefix)) if prefix == key => Ok(PaymentInstruction::Address(address)),
        _ => Err(UriError::SegwitAddress(match key {
            "bc" => "bc",
            "tb" => "tb",
            _ => "bcrt",
        })),
    }
}

/// `*digit [ "." *digit ]` with a digit at all, in bitcoin.
fn parse_amount(text: &str) -> Result<Amount, UriError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = whole
        .bytes()
        .chain(fraction.bytes())
        .all(|b| b.is_ascii_digit());
    if !all_digits || whole.len() + fraction.len() == 0 {
        return Err(UriError::Amount);
    }
    let (sat, below) = fraction
        .split_at_checked(DECIMALS)
        .unwrap_or((fraction, ""));
    if below.bytes().any(|b| b != b'0') {
        return Err(UriError::Amount);
    }
    let digits = whole
        .bytes()
        .chain(sat.bytes())
        .chain(core::iter::repeat_n(b'0', DECIMALS - sat.len()));
    let sat = digits.into_iter().try_fold(0u64, |sat, digit| {
        sat.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    sat.map(Amount::from_sat)
        .filter(|amount| *amount <= Amount::MAX_MONEY)
        .ok_or(UriError::Amount)
}

fn write_amount(amount: Amount) -> String {
    let sat = amount.to_sat();
    let text = alloc::format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Undoes percent-encoding, once.
fn decode(text: &str, key: &str) -> Result<String, UriError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = digit().zip(digit()).ok_or(UriError::Encoding)?;
                high << 4 | low
            }
            _ if is_query_character(byte) => byte,
            _ => return Err(UriError::Encoding),
        });
    }
    String::from_utf8(bytes).map_err(|_| UriError::NotUtf8(key.to_owned()))
}

/// RFC 3986, query, without the `&` between parameters. A `=` in a value stands for itself.
fn is_query_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$'()*+,;:@/?=".contains(&byte)
}

/// Percent-encodes what is not safe everywhere.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}
