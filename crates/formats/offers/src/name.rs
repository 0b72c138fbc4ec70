//! Names that people can say: BIP 353.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use fulmen_types::codec::{Decode, DecodeError, Encode, Reader};

/// The longest name of the DNS, with the dot at its end.
const DNS_NAME_MAX: usize = 254;

const INVALID: DecodeError =
    DecodeError::InvalidValue("a BIP 353 name has only 0-9, a-z, A-Z, -, _ and .");

/// `invreq_bip_353_name`: the two halves of `₿name@domain`.
///
/// ```
/// use fulmen_offers::Bip353Name;
/// let name: Bip353Name = "₿ada@example.com".parse()?;
/// assert_eq!(name.domain(), "example.com");
/// assert_eq!(name.dns_name(), "ada.user._bitcoin-payment.example.com.");
/// # Ok::<(), fulmen_types::codec::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bip353Name {
    name: String,
    domain: String,
}

impl Bip353Name {
    /// From the part before the `@` and that after it, of the letters that BOLT 12 allows, as long as the DNS
    /// can have such a name: labels of 1 to 63 letters, and 253 in all.
    ///
    /// Names beyond ASCII are given in punycode. A name that is read from a message is held to BOLT 12's letters
    /// alone.
    pub fn new(name: &str, domain: &str) -> Result<Self, DecodeError> {
        if name.is_empty() || domain.is_empty() {
            return Err(DecodeError::InvalidValue(
                "half of the BIP 353 name is empty",
            ));
        }
        check_letters(name.as_bytes())?;
        check_letters(domain.as_bytes())?;
        let full = Self {
            name: name.to_string(),
            domain: domain.to_string(),
        };
        let dns_name = full.dns_name();
        // The last dot ends the name and is no part of it.
        let labels = dns_name.trim_end_matches('.');
        if dns_name.len() > DNS_NAME_MAX
            || !labels.split('.').all(is_label)
            || domain.ends_with('.')
        {
            return Err(DecodeError::InvalidValue(
                "the DNS can't have this BIP 353 name: a part is empty or too long",
            ));
        }
        Ok(full)
    }

    /// The part before the `@`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Where the DNS has its payment instructions: the TXT records to give to
    /// [`PaymentUri::from_txt_records`](crate::PaymentUri::from_txt_records) (BIP 353).
    pub fn dns_name(&self) -> String {
        format!("{}.user._bitcoin-payment.{}.", self.name, self.domain)
    }
}

/// RFC 1035, 2.3.4.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
}

/// BOLT 12, Invoice Requests, the reader: `0`-`9`, `a`-`z`, `A`-`Z`, `-`, `_` and `.`.
fn check_letters(bytes: &[u8]) -> Result<(), DecodeError> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    if bytes.iter().all(allowed) {
        Ok(())
    } else {
        Err(INVALID)
    }
}

impl fmt::Display for Bip353Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "₿{}@{}", self.name, self.domain)
    }
}

impl FromStr for Bip353Name {
    type Err = DecodeError;

    /// With the `₿` or without it.
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let text = text.strip_prefix('₿').unwrap_or(text);
        let (name, domain) = text
            .split_once('@')
            .ok_or(DecodeError::InvalidValue("a BIP 353 name has an @"))?;
        Self::new(name, domain)
    }
}

impl Encode for Bip353Name {
    fn encode(&self, out: &mut Vec<u8>) {
        for part in [&self.name, &self.domain] {
            // `new` and `decode` see to it that the length fits.
            out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl Decode for Bip353Name {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut part = || {
            let len = u8::decode(r)?;
            let bytes = r.take(usize::from(len))?;
            check_letters(bytes)?;
            core::str::from_utf8(bytes)
                .map(ToString::to_string)
                .map_err(|_| INVALID)
        };
        Ok(Self {
            name: part()?,
            domain: part()?,
        })
    }
}
