//! From a text to an invoice and back: checksum, signature, payee.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};

use bech32::{
    Bech32, Checksum, Fe32, Hrp,
    primitives::{
        decode::{CharError, CheckedHrpstring, CheckedHrpstringError, UncheckedHrpstringError},
        iter::Fe32IterExt,
    },
};
use bitcoin::{
    hashes::{Hash, HashEngine, sha256},
    secp256k1::{
        Message, PublicKey, Secp256k1, SecretKey, Signing, Verification,
        ecdsa::{RecoverableSignature, RecoveryId},
    },
};

use crate::{BuildError, InvoiceDetails, ParseError, details::TIMESTAMP_LEN, quintets};

const SIGNATURE_LEN: usize = 104;

/// A signed invoice. Its text never changes: what was parsed is shown again, letter for letter, in lower
/// case.
///
/// `Display` is the text; [`Invoice::summary`] is for people.
#[derive(Clone, PartialEq, Eq)]
pub struct Invoice {
    text: String,
    details: InvoiceDetails,
    signature: RecoverableSignature,
    payee: PublicKey,
}

impl Invoice {
    /// Reads and verifies an invoice in either case, with or without `lightning:`.
    pub fn parse<C: Verification>(secp: &Secp256k1<C>, text: &str) -> Result<Self, ParseError> {
        let text = strip_scheme(text.trim());
        let checked = CheckedHrpstring::new::<Bolt11>(text).map_err(bech32_error)?;
        let hrp = checked.hrp().to_lowercase();
        let data: Vec<u8> = checked
            .data_part_ascii_no_checksum()
            .iter()
            .map(|letter| Fe32::from_char(char::from(*letter)).map(Fe32::to_u8))
            .collect::<Result<_, _>>()
            .map_err(|_| ParseError::InvalidCharacter)?;
        if data.len() < TIMESTAMP_LEN + SIGNATURE_LEN {
            // A wrong prefix says more than a missing signature.
            crate::amount::parse(&hrp)?;
            return Err(ParseError::TooShort);
        }
        let (content, signature) = data.split_at(data.len() - SIGNATURE_LEN);
        let details = InvoiceDetails::from_quintets(&hrp, content)?;
        let signature = parse_signature(signature)?;
        let hash = signable_hash(&hrp, content);
        let payee = verify(secp, &details, &hash, &signature)?;
        Ok(Self {
            text: text.to_ascii_lowercase(),
            details,
            signature,
            payee,
        })
    }

    /// What it says.
    pub const fn details(&self) -> &InvoiceDetails {
        &self.details
    }

    /// Who is paid: the key in `n`, or else the one that the signature gives.
    pub const fn payee(&self) -> PublicKey {
        self.payee
    }

    /// The signature.
    pub const fn signature(&self) -> &RecoverableSignature {
        &self.signature
    }

    /// The text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Invoice {
    type Err = ParseError;

    /// [`Invoice::parse`] with a context of its own, for when there is none at hand.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(&Secp256k1::verification_only(), text)
    }
}

impl fmt::Display for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Invoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invoice")
            .field("details", &self.details)
            .field("payee", &self.payee)
            .finish_non_exhaustive()
    }
}

/// An invoice that lacks only its signature.
#[derive(Clone, Debug)]
pub struct UnsignedInvoice {
    details: InvoiceDetails,
    hrp: String,
    content: Vec<u8>,
}

impl InvoiceDetails {
    /// Checks and encodes the details, for a signer.
    pub fn into_unsigned(self) -> Result<UnsignedInvoice, BuildError> {
        let details = self.normalized()?;
        Ok(UnsignedInvoice {
            hrp: details.hrp(),
            content: details.to_quintets()?,
            details,
        })
    }
}

impl UnsignedInvoice {
    /// What is to be signed.
    pub fn signable_hash(&self) -> [u8; 32] {
        signable_hash(&self.hrp, &self.content)
    }

    /// What the invoice will say.
    pub const fn details(&self) -> &InvoiceDetails {
        &self.details
    }

    /// The invoice, if the signature is by the payee that it names, or names none and the signature is by
    /// anybody: compare [`Invoice::payee`] with the key that was to sign.
    pub fn attach<C: Verification>(
        self,
        secp: &Secp256k1<C>,
        signature: RecoverableSignature,
    ) -> Result<Invoice, BuildError> {
        let payee = verify(secp, &self.details, &self.signable_hash(), &signature)
            .map_err(BuildError::Signature)?;
        let (recovery_id, compact) = signature.serialize_compact();
        let mut data = self.content;
        let mut bytes = compact.to_vec();
        bytes.push(u8::try_from(recovery_id.to_i32()).unwrap_or(0));
        data.extend(quintets::from_bytes(&bytes));
        Ok(Invoice {
            text: encode(&self.hrp, &data),
            details: self.details,
            signature,
            payee,
        })
    }

    /// [`UnsignedInvoice::attach`] for those who hold the key: tests, tools, a signer of its own.
    pub fn sign_with_key<C: Signing + Verification>(
        self,
        secp: &Secp256k1<C>,
        key: &SecretKey,
    ) -> Result<Invoice, BuildError> {
        let message = Message::from_digest(self.signable_hash());
        let signature = secp.sign_ecdsa_recoverable(&message, key);
        self.attach(secp, signature)
    }
}

/// Bech32 without its limit on the length (BOLT 11, Encoding Overview).
enum Bolt11 {}

impl Checksum for Bolt11 {
    type MidstateRepr = <Bech32 as Checksum>::MidstateRepr;
    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [Self::MidstateRepr; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: Self::MidstateRepr = Bech32::TARGET_RESIDUE;
}

fn strip_scheme(text: &str) -> &str {
    const SCHEME: &str = "lightning:";
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
        Some(_) | None => text,
    }
}

fn bech32_error(e: CheckedHrpstringError) -> ParseError {
    match e {
        CheckedHrpstringError::Parse(UncheckedHrpstringError::Char(e)) => match e {
            CharError::MissingSeparator | CharError::NothingAfterSeparator => {
                ParseError::NoSeparator
            }
            CharError::MixedCase => ParseError::MixedCase,
            // The enumeration may grow.
            CharError::InvalidChar(_) | _ => ParseError::InvalidCharacter,
        },
        CheckedHrpstringError::Parse(_) => ParseError::InvalidCharacter,
        CheckedHrpstringError::Checksum(_) | _ => ParseError::Checksum,
    }
}

fn encode(hrp: &str, data: &[u8]) -> String {
    let hrp = Hrp::parse(hrp).expect("a currency's prefix and an amount are a valid prefix");
    data.iter()
        .map(|quintet| Fe32::try_from(*quintet).expect("quintets are below 32"))
        .with_checksum::<Bolt11>(&hrp)
        .chars()
        .collect()
}

/// BOLT 11, Data Part: the prefix, then the data with zero bits up to a whole byte.
fn signable_hash(hrp: &str, content: &[u8]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(hrp.as_bytes());
    engine.input(&quintets::pack(content));
    sha256::Hash::from_engine(engine).to_byte_array()
}

fn parse_signature(data: &[u8]) -> Result<RecoverableSignature, ParseError> {
    let bytes = quintets::to_bytes(data);
    let (recovery_id, compact) = bytes.split_last().ok_or(ParseError::MalformedSignature)?;
    RecoveryId::from_i32(i32::from(*recovery_id))
        .and_then(|recovery_id| RecoverableSignature::from_compact(compact, recovery_id))
        .map_err(|_| ParseError::MalformedSignature)
}

/// The payee's key, proven by the signature.
fn verify<C: Verification>(
    secp: &Secp256k1<C>,
    details: &InvoiceDetails,
    hash: &[u8; 32],
    signature: &RecoverableSignature,
) -> Result<PublicKey, ParseError> {
    let message = Message::from_digest(*hash);
    let Some(payee) = details.payee else {
        // BOLT 11, a reader: recovery takes high S and low S.
        return secp
            .recover_ecdsa(&message, signature)
            .map_err(|_| ParseError::NotRecoverable);
    };
    let standard = signature.to_standard();
    let mut normalized = standard;
    normalized.normalize_s();
    if normalized != standard {
        return Err(ParseError::HighS);
    }
    secp.verify_ecdsa(&message, &standard, &payee)
        .map_err(|_| ParseError::WrongSignature)?;
    Ok(payee)
}
