//! BOLT 12: what both read from the same TLV streams.

use std::time::Duration;

use bitcoin::{
    constants::ChainHash,
    secp256k1::{Secp256k1, Verification},
};
use fulmen_offers::{
    Invoice, InvoiceRequest, Offer, OfferFields, ParseError, RequestFields, StaticInvoice,
};
use fulmen_onion::blinding::BlindedPath;
use fulmen_types::{Features, SciddirOrPubkey, codec::Encode};
use lightning::{
    blinded_path::{
        Direction, IntroductionNode, message::BlindedMessagePath, payment::BlindedPaymentPath,
    },
    offers::{
        invoice::Bolt12Invoice,
        invoice_request::InvoiceRequest as LdkRequest,
        offer::{Amount, Offer as LdkOffer, Quantity},
        parse::{Bolt12ParseError, Bolt12SemanticError},
        refund::Refund,
        static_invoice::StaticInvoice as LdkStaticInvoice,
    },
    util::ser::Writeable,
};

use crate::{Same, Verdict};

/// BOLT 12: unknown even features fail; LDK asks later, when it answers.
const FEATURES: &str = "unknown even features";
/// LDK refuses more than all bitcoin, Fulmen refuses zero.
const AMOUNT: &str = "an amount at the edges";
/// LDK reads no requests in a currency.
const CURRENCY: &str = "a price in a currency";
/// BOLT 12, Rationale: no entries are invalid. LDK reads some of these lists.
const EMPTY: &str = "a list without entries";
/// LDK wants more, or less, of refunds than BOLT 12: a description, no metadata.
const REFUND: &str = "a refund with fields that have no meaning there";
/// LDK leaves what is to be used of an invoice to the payer.
const USABLE: &str = "an invoice without a usable path";
/// LDK holds an invoice against the request that it repeats when it is read, Fulmen when it is checked.
const ANSWER: &str = "an invoice that does not answer the request which it repeats";
/// LDK refuses `invreq_paths` in what answers an offer.
const PATHS: &str = "invreq_paths in a request for an offer";
/// LDK has message paths (`invoice_message_paths`) in static invoices.
const RANGE: &str = "types that one of the two knows";

macro_rules! check {
    ($differences:ident: $($same:expr => $field:literal),* $(,)?) => {
        $(if !$same { $differences.push($field); })*
    };
}

fn text(
    ours: Option<&String>,
    theirs: Option<lightning::types::string::PrintableString<'_>>,
) -> bool {
    ours.map(String::as_str) == theirs.map(|text| text.0)
}

fn time(ours: Option<u64>, theirs: Option<Duration>) -> bool {
    ours == theirs.map(|time| time.as_secs())
}

fn features<L>(ours: Option<&Features>, theirs: &L) -> bool
where
    Features: Same<L>,
{
    ours.unwrap_or(&Features::empty()).same(theirs)
}

fn paths(ours: Option<&Vec<BlindedPath>>, theirs: &[BlindedMessagePath]) -> bool {
    ours.map_or(&[][..], Vec::as_slice).same(theirs)
}

fn quantity_max(ours: Option<u64>, theirs: Quantity) -> bool {
    match theirs {
        Quantity::One => ours.is_none(),
        Quantity::Unbounded => ours == Some(0),
        Quantity::Bounded(max) => ours == Some(max.get()),
    }
}

fn amount(ours: &OfferFields, theirs: Option<Amount>) -> bool {
    match theirs {
        None => ours.amount.is_none(),
        Some(Amount::Bitcoin { amount_msats }) => {
            ours.amount == Some(amount_msats) && ours.currency.is_none()
        }
        Some(Amount::Currency {
            iso4217_code,
            amount,
        }) => {
            ours.amount == Some(amount)
                && ours.currency.map(|code| code.to_string()).as_deref()
                    == Some(iso4217_code.as_str())
        }
    }
}

fn introduction(ours: &SciddirOrPubkey, theirs: &IntroductionNode) -> bool {
    match (ours, theirs) {
        (SciddirOrPubkey::Pubkey(a), IntroductionNode::NodeId(b)) => a == b,
        (
            SciddirOrPubkey::Sciddir {
                is_node_2,
                short_channel_id,
            },
            IntroductionNode::DirectedShortChannelId(direction, scid),
        ) => *is_node_2 == (*direction == Direction::NodeTwo) && short_channel_id.to_u64() == *scid,
        _ => false,
    }
}

fn hops(ours: &BlindedPath, theirs: &[lightning::blinded_path::BlindedHop]) -> bool {
    ours.route.path.len() == theirs.len()
        && ours.route.path.iter().zip(theirs).all(|(a, b)| {
            a.blinded_node_id == b.blinded_node_id
                && a.encrypted_recipient_data == b.encrypted_payload
        })
}

impl Same<BlindedMessagePath> for BlindedPath {
    fn same(&self, theirs: &BlindedMessagePath) -> bool {
        introduction(&self.first_node_id, theirs.introduction_node())
            && self.route.first_path_key == theirs.blinding_point()
            && hops(self, theirs.blinded_hops())
            && self.to_bytes() == theirs.encode()
    }
}

impl Same<BlindedPaymentPath> for fulmen_onion::PaymentPath {
    fn same(&self, theirs: &BlindedPaymentPath) -> bool {
        let (a, b) = (&self.payinfo, &theirs.payinfo);
        introduction(&self.path.first_node_id, theirs.introduction_node())
            && self.path.route.first_path_key == theirs.blinding_point()
            && hops(&self.path, theirs.blinded_hops())
            && a.fee_base_msat == b.fee_base_msat
            && a.fee_proportional_millionths == b.fee_proportional_millionths
            && a.cltv_expiry_delta.same(&b.cltv_expiry_delta)
            && a.htlc_minimum_msat.same(&b.htlc_minimum_msat)
            && a.htlc_maximum_msat.same(&b.htlc_maximum_msat)
            && a.features.same(&b.features)
    }
}

fn judge<A>(
    ours: Result<A, ParseError>,
    theirs: Result<Vec<&'static str>, Bolt12ParseError>,
) -> (Result<A, ParseError>, Verdict) {
    let verdict = match (&ours, &theirs) {
        (Ok(_), Ok(fields)) if fields.is_empty() => Verdict::Same,
        (Ok(_), Ok(fields)) => Verdict::Different(format!("it differs in {fields:?}")),
        (Err(_), Err(_)) => Verdict::BothRefuse,
        (Ok(_), Err(e)) => match only_we_read(e) {
            Some(why) => Verdict::Justified(why),
            None => Verdict::Different(format!("LDK refuses it: {e:?}")),
        },
        (Err(e), Ok(_)) => match only_they_read(e) {
            Some(why) => Verdict::Justified(why),
            None => Verdict::Different(format!("only Fulmen refuses it: {e:?}")),
        },
    };
    (ours, verdict)
}

fn only_we_read(theirs: &Bolt12ParseError) -> Option<&'static str> {
    let Bolt12ParseError::InvalidSemantics(e) = theirs else {
        return None;
    };
    match e {
        Bolt12SemanticError::InvalidAmount | Bolt12SemanticError::InsufficientAmount => {
            Some(AMOUNT)
        }
        Bolt12SemanticError::UnsupportedCurrency => Some(CURRENCY),
        Bolt12SemanticError::UnexpectedPaths => Some(PATHS),
        Bolt12SemanticError::MissingDescription
        | Bolt12SemanticError::UnexpectedMetadata
        | Bolt12SemanticError::UnexpectedAmount
        | Bolt12SemanticError::UnexpectedHumanReadableName => Some(REFUND),
        Bolt12SemanticError::InvalidSigningPubkey => Some(ANSWER),
        _ => None,
    }
}

fn only_they_read(ours: &ParseError) -> Option<&'static str> {
    match ours {
        ParseError::UnknownFeature(..) => Some(FEATURES),
        ParseError::Zero(_) | ParseError::AmountOverflow => Some(AMOUNT),
        ParseError::Empty(_) => Some(EMPTY),
        ParseError::NoUsablePath => Some(USABLE),
        ParseError::TypeOutOfRange(_) => Some(RANGE),
        _ => None,
    }
}

/// Reads an offer both ways.
pub fn compare_offer(bytes: &[u8]) -> (Result<Offer, ParseError>, Verdict) {
    let ours = Offer::from_bytes(bytes);
    let theirs = LdkOffer::try_from(bytes.to_vec());
    let theirs = theirs.map(|b| match &ours {
        Ok(a) => offer_differences(a.fields(), &b),
        Err(_) => vec![],
    });
    judge(ours, theirs)
}

/// The fields in which two readings of an offer differ.
pub fn offer_differences(a: &OfferFields, b: &LdkOffer) -> Vec<&'static str> {
    let mut differences = Vec::new();
    let chains = a.chains.clone().unwrap_or_else(|| vec![ChainHash::BITCOIN]);
    check! { differences:
        chains == b.chains() => "offer_chains",
        a.metadata.as_ref() == b.metadata() => "offer_metadata",
        amount(a, b.amount()) => "offer_amount",
        text(a.description.as_ref(), b.description()) => "offer_description",
        features(a.features.as_ref(), b.offer_features()) => "offer_features",
        time(a.absolute_expiry, b.absolute_expiry()) => "offer_absolute_expiry",
        paths(a.paths.as_ref(), b.paths()) => "offer_paths",
        text(a.issuer.as_ref(), b.issuer()) => "offer_issuer",
        quantity_max(a.quantity_max, b.supported_quantity()) => "offer_quantity_max",
        a.issuer_id == b.issuer_signing_pubkey() => "offer_issuer_id",
    }
    differences
}

/// Reads an invoice request both ways: one for an offer, or a refund.
pub fn compare_request<C: Verification>(
    secp: &Secp256k1<C>,
    bytes: &[u8],
) -> (Result<InvoiceRequest, ParseError>, Verdict) {
    let ours = InvoiceRequest::from_bytes(secp, bytes);
    if ours.as_ref().is_ok_and(InvoiceRequest::is_refund) {
        let theirs = Refund::try_from(bytes.to_vec()).map(|b| match &ours {
            Ok(a) => refund_differences(a, &b),
            Err(_) => vec![],
        });
        // A signature is no part of LDK's refunds.
        return match theirs {
            Err(Bolt12ParseError::Decode(_))
                if ours.as_ref().is_ok_and(|a| a.signature().is_some()) =>
            {
                (ours, Verdict::Justified(REFUND))
            }
            theirs => judge(ours, theirs),
        };
    }
    let theirs = LdkRequest::try_from(bytes.to_vec()).map(|b| match &ours {
        Ok(a) => request_differences(a.offer(), a.request(), &b),
        Err(_) => vec![],
    });
    judge(ours, theirs)
}

/// The fields in which two readings of a request differ.
pub fn request_differences(
    offer: &OfferFields,
    a: &RequestFields,
    b: &LdkRequest,
) -> Vec<&'static str> {
    let mut differences = Vec::new();
    let chains = offer
        .chains
        .clone()
        .unwrap_or_else(|| vec![ChainHash::BITCOIN]);
    let name = a
        .bip_353_name
        .as_ref()
        .map(|name| (name.name(), name.domain()));
    let their_name = b
        .offer_from_hrn()
        .as_ref()
        .map(|name| (name.user(), name.domain()));
    check! { differences:
        chains == b.chains() => "offer_chains",
        offer.metadata.as_ref() == b.metadata() => "offer_metadata",
        amount(offer, b.amount()) => "offer_amount",
        text(offer.description.as_ref(), b.description()) => "offer_description",
        features(offer.features.as_ref(), b.offer_features()) => "offer_features",
        time(offer.absolute_expiry, b.absolute_expiry()) => "offer_absolute_expiry",
        paths(offer.paths.as_ref(), b.paths()) => "offer_paths",
        text(offer.issuer.as_ref(), b.issuer()) => "offer_issuer",
        quantity_max(offer.quantity_max, b.supported_quantity()) => "offer_quantity_max",
        offer.issuer_id == b.issuer_signing_pubkey() => "offer_issuer_id",
        a.metadata == b.payer_metadata() => "invreq_metadata",
        a.payment_chain() == b.chain() => "invreq_chain",
        a.amount.is_some() == b.has_amount_msats() => "invreq_amount",
        a.amount.is_none_or(|ours| Some(ours.to_msat()) == b.amount_msats()) => "invreq_amount",
        features(a.features.as_ref(), b.invoice_request_features()) => "invreq_features",
        a.quantity == b.quantity() => "invreq_quantity",
        a.payer_id == b.payer_signing_pubkey() => "invreq_payer_id",
        text(a.payer_note.as_ref(), b.payer_note()) => "invreq_payer_note",
        name == their_name => "invreq_bip_353_name",
    }
    differences
}

/// The fields in which two readings of a refund differ.
pub fn refund_differences(ours: &InvoiceRequest, b: &Refund) -> Vec<&'static str> {
    let (offer, a) = (ours.offer(), ours.request());
    let mut differences = Vec::new();
    check! { differences:
        text(offer.description.as_ref(), Some(b.description())) => "offer_description",
        time(offer.absolute_expiry, b.absolute_expiry()) => "offer_absolute_expiry",
        text(offer.issuer.as_ref(), b.issuer()) => "offer_issuer",
        a.metadata == b.payer_metadata() => "invreq_metadata",
        a.payment_chain() == b.chain() => "invreq_chain",
        a.amount.map(|amount| amount.to_msat()) == Some(b.amount_msats()) => "invreq_amount",
        features(a.features.as_ref(), b.features()) => "invreq_features",
        a.quantity == b.quantity() => "invreq_quantity",
        a.payer_id == b.payer_signing_pubkey() => "invreq_payer_id",
        text(a.payer_note.as_ref(), b.payer_note()) => "invreq_payer_note",
        paths(a.paths.as_ref(), b.paths()) => "invreq_paths",
    }
    differences
}

/// Reads an invoice both ways.
pub fn compare_bolt12_invoice<C: Verification>(
    secp: &Secp256k1<C>,
    bytes: &[u8],
) -> (Result<Invoice, ParseError>, Verdict) {
    let ours = Invoice::from_bytes(secp, bytes);
    let theirs = Bolt12Invoice::try_from(bytes.to_vec());
    let theirs = theirs.map(|b| match &ours {
        Ok(a) => bolt12_invoice_differences(a, &b),
        Err(_) => vec![],
    });
    // LDK judges the repeated request as a request, Fulmen when the invoice is held against it.
    match theirs {
        Err(Bolt12ParseError::InvalidSemantics(_)) if ours.is_ok() => {
            (ours, Verdict::Justified(ANSWER))
        }
        theirs => judge(ours, theirs),
    }
}

/// The fields in which two readings of an invoice differ.
pub fn bolt12_invoice_differences(ours: &Invoice, b: &Bolt12Invoice) -> Vec<&'static str> {
    let (offer, request, a) = (ours.offer(), ours.request(), ours.invoice());
    let mut differences = Vec::new();
    let expiry = u64::from(a.relative_expiry.unwrap_or(7200));
    check! { differences:
        offer.metadata.as_ref() == b.metadata() => "offer_metadata",
        text(offer.description.as_ref(), b.description()) => "offer_description",
        time(offer.absolute_expiry, b.absolute_expiry()) => "offer_absolute_expiry",
        text(offer.issuer.as_ref(), b.issuer()) => "offer_issuer",
        offer.issuer_id == b.issuer_signing_pubkey() => "offer_issuer_id",
        request.metadata == b.payer_metadata() => "invreq_metadata",
        request.payment_chain() == b.chain() => "invreq_chain",
        features(request.features.as_ref(), b.invoice_request_features()) => "invreq_features",
        request.quantity == b.quantity() => "invreq_quantity",
        request.payer_id == b.payer_signing_pubkey() => "invreq_payer_id",
        text(request.payer_note.as_ref(), b.payer_note()) => "invreq_payer_note",
        a.paths.same(&b.payment_paths().to_vec()) => "invoice_paths",
        a.created_at == b.created_at().as_secs() => "invoice_created_at",
        expiry == b.relative_expiry().as_secs() => "invoice_relative_expiry",
        a.payment_hash.same(&b.payment_hash()) => "invoice_payment_hash",
        a.amount.same(&b.amount_msats()) => "invoice_amount",
        features(a.features.as_ref(), b.invoice_features()) => "invoice_features",
        a.node_id == b.signing_pubkey() => "invoice_node_id",
        *ours.signature() == b.signature() => "signature",
    }
    differences
}

/// Reads a static invoice both ways.
pub fn compare_static_invoice<C: Verification>(
    secp: &Secp256k1<C>,
    bytes: &[u8],
) -> (Result<StaticInvoice, ParseError>, Verdict) {
    let ours = StaticInvoice::from_bytes(secp, bytes);
    let theirs = LdkStaticInvoice::try_from(bytes.to_vec());
    let theirs = theirs.map(|b| match &ours {
        Ok(a) => static_invoice_differences(a, &b),
        Err(_) => vec![],
    });
    judge(ours, theirs)
}

/// The fields in which two readings of a static invoice differ.
pub fn static_invoice_differences(ours: &StaticInvoice, b: &LdkStaticInvoice) -> Vec<&'static str> {
    let (offer, a) = (ours.offer(), ours.invoice());
    let mut differences = Vec::new();
    let expiry = u64::from(a.relative_expiry.unwrap_or(14 * 24 * 3600));
    check! { differences:
        offer.metadata.as_ref() == b.metadata() => "offer_metadata",
        amount(offer, b.amount()) => "offer_amount",
        text(offer.description.as_ref(), b.description()) => "offer_description",
        features(offer.features.as_ref(), b.offer_features()) => "offer_features",
        time(offer.absolute_expiry, b.absolute_expiry()) => "offer_absolute_expiry",
        text(offer.issuer.as_ref(), b.issuer()) => "offer_issuer",
        paths(offer.paths.as_ref(), b.offer_message_paths()) => "offer_paths",
        quantity_max(offer.quantity_max, b.supported_quantity()) => "offer_quantity_max",
        offer.issuer_id == b.issuer_signing_pubkey() => "offer_issuer_id",
        a.paths.same(&b.payment_paths().to_vec()) => "invoice_paths",
        paths(Some(&a.message_paths), b.message_paths()) => "invoice_message_paths",
        a.created_at == b.created_at().as_secs() => "invoice_created_at",
        expiry == b.relative_expiry().as_secs() => "invoice_relative_expiry",
        features(a.features.as_ref(), b.invoice_features()) => "invoice_features",
        a.node_id == b.signing_pubkey() => "invoice_node_id",
        *ours.signature() == b.signature() => "signature",
    }
    differences
}
