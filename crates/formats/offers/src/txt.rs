//! How the DNS keeps payment instructions: BIP 353, Records and Resolution.

use alloc::{string::ToString, vec::Vec};
use core::fmt;

use crate::{PaymentUri, UriError, uri::SCHEME};

/// The longest `<character-string>` of a TXT record (RFC 1035, 3.3.14).
const CHARACTER_STRING_MAX: usize = 255;

/// Why TXT records give nothing to pay (BIP 353, Resolution).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxtError {
    /// A record is no list of `<character-string>`s.
    Malformed,
    /// None of the records begins with `bitcoin:`.
    NotFound,
    /// More than one does: none of them may be used.
    Several,
    /// The record's text is no UTF-8.
    NotUtf8,
    /// The URI in the record is invalid.
    Uri(UriError),
}

impl fmt::Display for TxtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("a TXT record is malformed (RFC 1035)"),
            Self::NotFound => f.write_str("the name has no payment instructions (BIP 353)"),
            Self::Several => {
                f.write_str("the name has several payment instructions, so none is valid (BIP 353)")
            }
            Self::NotUtf8 => f.write_str("the payment instructions are not valid UTF-8 (BIP 353)"),
            Self::Uri(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for TxtError {}

impl PaymentUri {
    /// The payment instructions of a name: from the RDATA of all TXT records at its
    /// [`dns_name`](crate::Bip353Name::dns_name), each of them proven by DNSSEC (BIP 353).
    ///
    /// The strings of one record are joined as they are; records are never joined. Records that do not begin
    /// with `bitcoin:` are for others.
    pub fn from_txt_records<'a>(
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TxtError> {
        let mut found = None;
        for rdata in records {
            let content = join_character_strings(rdata).ok_or(TxtError::Malformed)?;
            let begins = content
                .get(..SCHEME.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME.as_bytes()));
            if begins && found.replace(content).is_some() {
                return Err(TxtError::Several);
            }
        }
        let content = found.ok_or(TxtError::NotFound)?;
        let text = core::str::from_utf8(&content).map_err(|_| TxtError::NotUtf8)?;
        text.parse().map_err(TxtError::Uri)
    }

    /// The RDATA of the TXT record that says this.
    pub fn to_txt_record(&self) -> Vec<u8> {
        let mut rdata = Vec::new();
        for part in self.to_string().as_bytes().chunks(CHARACTER_STRING_MAX) {
            rdata.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            rdata.extend_from_slice(part);
        }
        rdata
    }
}

/// The content of a record's one or more strings, each behind its length.
fn join_character_strings(mut rdata: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let (len, rest) = rdata.split_first()?;
        let (string, rest) = rest.split_at_checked(usize::from(*len))?;
        content.extend_from_slice(string);
        if rest.is_empty() {
            return Some(content);
        }
        rdata = rest;
    }
}
