//! `invoice_error`: why an invoice request or an invoice was refused.

use alloc::{string::String, string::ToString, vec::Vec};

use fulmen_types::codec::{
    Decode, DecodeError, Encode, Reader, TlvReader, TlvWriter, Truncated, Utf8,
};

use crate::{CheckError, ParseError};

const ERRONEOUS_FIELD: u64 = 1;
const SUGGESTED_VALUE: u64 = 3;
const ERROR: u64 = 5;

/// What is sent back instead of an answer. `error` is from a stranger: show it through
/// [`fulmen_types::Printable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceError {
    /// The field that is to blame.
    pub erroneous_field: Option<ErroneousField>,
    /// For people.
    pub error: String,
}

/// `erroneous_field` and `suggested_value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErroneousField {
    /// The type of the field.
    pub tlv_fieldnum: u64,
    /// A value that would be accepted.
    pub suggested_value: Option<Vec<u8>>,
}

impl InvoiceError {
    /// With a text alone.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            erroneous_field: None,
            error: error.into(),
        }
    }

    fn about(field: Option<u64>, error: String) -> Self {
        Self {
            erroneous_field: field.map(|tlv_fieldnum| ErroneousField {
                tlv_fieldnum,
                suggested_value: None,
            }),
            error,
        }
    }
}

impl From<&ParseError> for InvoiceError {
    fn from(e: &ParseError) -> Self {
        Self::about(e.erroneous_field(), e.to_string())
    }
}

impl From<&CheckError> for InvoiceError {
    fn from(e: &CheckError) -> Self {
        Self::about(e.erroneous_field(), e.to_string())
    }
}

impl Encode for InvoiceError {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut tlvs = TlvWriter::new(out);
        if let Some(field) = &self.erroneous_field {
            tlvs.put(ERRONEOUS_FIELD, &Truncated(field.tlv_fieldnum))
                .put_some(SUGGESTED_VALUE, field.suggested_value.as_ref());
        }
        tlvs.put(ERROR, &Utf8(self.error.clone()));
    }
}

impl Decode for InvoiceError {
    /// Takes all that is left of `r`. Unknown odd fields are ignored, unknown even ones fail, and so does
    /// `suggested_value` without a field that it is for.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (mut number, mut suggested_value, mut error) = (None, None, None);
        for record in TlvReader::new(r.take_rest()) {
            let record = record?;
            match record.kind {
                ERRONEOUS_FIELD => number = Some(record.parse::<Truncated<u64>>()?.0),
                SUGGESTED_VALUE => suggested_value = Some(record.value.to_vec()),
                ERROR => error = Some(record.parse::<Utf8>()?.0),
                _ => record.ignore_if_odd()?,
            }
        }
        let erroneous_field = match (number, suggested_value) {
            (Some(tlv_fieldnum), suggested_value) => Some(ErroneousField {
                tlv_fieldnum,
                suggested_value,
            }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(DecodeError::InvalidValue(
                    "suggested_value without erroneous_field",
                ));
            }
        };
        Ok(Self {
            erroneous_field,
            error: error.ok_or(DecodeError::Missing("error"))?,
        })
    }
}
