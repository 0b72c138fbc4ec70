//! BOLT 11: what both read from the same text.

use fulmen_invoice::{Description, Fallback, Field, Invoice, InvoiceDetails, ParseError};
use lightning_invoice::{
    Bolt11Invoice, Bolt11InvoiceDescriptionRef, Bolt11ParseError, Bolt11SemanticError, Currency,
    Fallback as LdkFallback, ParseOrSemanticError,
};

use crate::{Same, Verdict};

/// LDK's limit on the length of a text.
const LDK_LEN_MAX: usize = 7089;
/// Fulmen takes `lightning:` and white space off before it reads; LDK leaves that to the caller.
const LONG: &str = "an invoice longer than LDK reads";
/// BOLT 11 has readers use the first of several; saying the same twice is harmless.
const REPEATED: &str = "a field that is given twice";
/// bLIP 39: an invoice with blinded paths has no secret; LDK does not know them, nor sees when
/// they are broken.
const BLINDED: &str = "an invoice with blinded paths";
/// LDK wants the feature of `s`, and judges dependencies and other contexts differently.
const FEATURES: &str = "feature bits";
/// LDK counts in pico-bitcoin, in 64 bits; Fulmen refuses zero and more than all bitcoin.
const AMOUNT: &str = "an amount at the edges";
/// BOLT 11: such numbers and features fail; LDK reads them.
const NON_MINIMAL: &str = "a number with leading zeros";
/// BOLT 11: high S is for recovering only.
const HIGH_S: &str = "a high S beside n";
/// LDK does not ask whether a program suits its version, and refuses fields that Fulmen skips.
const FALLBACK: &str = "a fallback address that is none";
/// LDK recovers the payee from its own encoding of the fields, Fulmen from the bytes that were signed: in
/// padding bits that are not zero, and in fields that are skipped, they differ.
const REENCODED: &str = "an invoice that LDK would write otherwise";
/// Simnet is of LDK's.
const CURRENCY: &str = "a currency that only LDK knows";

/// Reads an invoice both ways.
pub fn compare_invoice(text: &str) -> (Result<Invoice, ParseError>, Verdict) {
    let ours: Result<Invoice, ParseError> = text.parse();
    // What Fulmen takes off around the text, LDK does not.
    let bare = ours.as_ref().map_or(text, Invoice::as_str);
    let theirs: Result<Bolt11Invoice, _> = bare.parse();
    let verdict = match (&ours, &theirs) {
        (Ok(a), Ok(b)) => match differences(a, b).as_slice() {
            [] => Verdict::Same,
            ["payee"] if b.to_string() != a.as_str() => Verdict::Justified(REENCODED),
            fields => Verdict::Different(format!("the invoice differs in {fields:?}")),
        },
        (Err(_), Err(_)) => Verdict::BothRefuse,
        (Ok(a), Err(e)) => match only_we_read(a, e) {
            Some(why) => Verdict::Justified(why),
            None => Verdict::Different(format!("LDK refuses the invoice: {e:?}")),
        },
        (Err(e), Ok(_)) => match only_they_read(e) {
            Some(why) => Verdict::Justified(why),
            None => Verdict::Different(format!("only Fulmen refuses the invoice: {e:?}")),
        },
    };
    (ours, verdict)
}

fn only_we_read(ours: &Invoice, theirs: &ParseOrSemanticError) -> Option<&'static str> {
    use ParseOrSemanticError::{ParseError as Parse, SemanticError as Semantic};
    match theirs {
        _ if ours.as_str().len() > LDK_LEN_MAX => Some(LONG),
        Semantic(
            Bolt11SemanticError::MultiplePaymentHashes
            | Bolt11SemanticError::MultipleDescriptions
            | Bolt11SemanticError::MultiplePaymentSecrets,
        ) => Some(REPEATED),
        Semantic(Bolt11SemanticError::NoPaymentSecret) => Some(BLINDED),
        Semantic(Bolt11SemanticError::InvalidFeatures) => Some(FEATURES),
        Parse(Bolt11ParseError::IntegerOverflowError | Bolt11ParseError::ParseAmountError(_)) => {
            Some(AMOUNT)
        }
        // A secret of another length fails in LDK at once; Fulmen skips it if another is good.
        Parse(Bolt11ParseError::InvalidSliceLength(..)) => Some(REPEATED),
        _ => None,
    }
}

fn only_they_read(ours: &ParseError) -> Option<&'static str> {
    match ours {
        ParseError::NonMinimal(_) => Some(NON_MINIMAL),
        ParseError::AmountZero | ParseError::AmountTooLarge => Some(AMOUNT),
        ParseError::Features(_) => Some(FEATURES),
        ParseError::HighS => Some(HIGH_S),
        ParseError::DuplicateField(Field::Payee) => Some(REPEATED),
        ParseError::InvalidField(Field::Fallback) => Some(FALLBACK),
        ParseError::InvalidField(Field::BlindedPath) => Some(BLINDED),
        ParseError::UnknownCurrency => Some(CURRENCY),
        _ => None,
    }
}

/// The fields in which two readings differ.
pub fn differences(ours: &Invoice, theirs: &Bolt11Invoice) -> Vec<&'static str> {
    let a = ours.details();
    let mut differences = Vec::new();
    let mut check = |same: bool, field: &'static str| {
        if !same {
            differences.push(field);
        }
    };
    check(currency(a, theirs), "currency");
    check(a.amount.same(&theirs.amount_milli_satoshis()), "amount");
    check(
        a.timestamp_secs == theirs.duration_since_epoch().as_secs(),
        "timestamp",
    );
    check(
        *a.payment_hash.as_bytes() == *AsRef::<[u8; 32]>::as_ref(theirs.payment_hash()),
        "payment_hash",
    );
    check(
        a.payment_secret.same(&Some(*theirs.payment_secret())),
        "payment_secret",
    );
    check(
        match (&a.description, theirs.description()) {
            (Description::Text(a), Bolt11InvoiceDescriptionRef::Direct(b)) => a.same(b),
            (Description::Hash(a), Bolt11InvoiceDescriptionRef::Hash(b)) => *a == b.0,
            _ => false,
        },
        "description",
    );
    check(
        a.payment_metadata.as_ref() == theirs.payment_metadata(),
        "payment_metadata",
    );
    check(a.payee.as_ref() == theirs.payee_pub_key(), "n");
    check(ours.payee() == theirs.get_payee_pub_key(), "payee");
    check(
        a.expiry_secs_or_default() == theirs.expiry_time().as_secs(),
        "expiry",
    );
    check(
        a.min_final_cltv_expiry_delta.unwrap_or(18) == theirs.min_final_cltv_expiry_delta(),
        "min_final_cltv_expiry_delta",
    );
    check(fallbacks(a, theirs), "fallbacks");
    check(route_hints(a, theirs), "route_hints");
    let none = lightning::types::features::Bolt11InvoiceFeatures::empty();
    check(
        a.features.same(theirs.features().unwrap_or(&none)),
        "features",
    );
    differences
}

fn currency(a: &InvoiceDetails, theirs: &Bolt11Invoice) -> bool {
    use fulmen_invoice::Currency as Ours;
    matches!(
        (a.currency, theirs.currency()),
        (Ours::Bitcoin, Currency::Bitcoin)
            | (Ours::Testnet, Currency::BitcoinTestnet)
            | (Ours::Signet, Currency::Signet)
            | (Ours::Regtest, Currency::Regtest)
    )
}

fn fallbacks(a: &InvoiceDetails, theirs: &Bolt11Invoice) -> bool {
    let theirs = theirs.fallbacks();
    a.fallbacks.len() == theirs.len()
        && a.fallbacks.iter().zip(theirs).all(|(a, b)| match (a, b) {
            (Fallback::PubkeyHash(a), LdkFallback::PubKeyHash(b)) => a == b,
            (Fallback::ScriptHash(a), LdkFallback::ScriptHash(b)) => a == b,
            (Fallback::Witness(a), LdkFallback::SegWitProgram { version, program }) => {
                a.version() == *version && a.program().as_bytes() == program.as_slice()
            }
            _ => false,
        })
}

/// LDK keeps hints without hops, which say nothing.
fn route_hints(a: &InvoiceDetails, theirs: &Bolt11Invoice) -> bool {
    let theirs: Vec<_> = theirs
        .route_hints()
        .into_iter()
        .filter(|hint| !hint.0.is_empty())
        .collect();
    a.route_hints.len() == theirs.len()
        && a.route_hints.iter().zip(&theirs).all(|(a, b)| {
            a.hops.len() == b.0.len()
                && a.hops.iter().zip(&b.0).all(|(a, b)| {
                    a.node_id == b.src_node_id
                        && a.short_channel_id.same(&b.short_channel_id)
                        && a.fee_base_msat == b.fees.base_msat
                        && a.fee_proportional_millionths == b.fees.proportional_millionths
                        && a.cltv_expiry_delta.same(&b.cltv_expiry_delta)
                })
        })
}
