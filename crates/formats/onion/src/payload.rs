//! What a hop of a payment is told: BOLT 4, "`payload` format".

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::PublicKey;
use fulmen_types::codec::Decode;
use fulmen_types::{
    CltvExpiry, Features, Msat, PaymentPreimage, PaymentSecret, ShortChannelId,
    codec::{BigSize, DecodeError, Encode, Reader, TlvReader, TlvRecord, TlvWriter, Truncated},
};

use crate::{payinfo::PaymentPath, sphinx::BuildError};

const AMT_TO_FORWARD: u64 = 2;
const OUTGOING_CLTV_VALUE: u64 = 4;
const SHORT_CHANNEL_ID: u64 = 6;
const PAYMENT_DATA: u64 = 8;
const ENCRYPTED_RECIPIENT_DATA: u64 = 10;
const CURRENT_PATH_KEY: u64 = 12;
pub(crate) const OUTGOING_NODE_ID: u64 = 14;
const PAYMENT_METADATA: u64 = 16;
const TOTAL_AMOUNT_MSAT: u64 = 18;
const TRAMPOLINE_ONION_PACKET: u64 = 20;
pub(crate) const RECIPIENT_FEATURES: u64 = 21;
pub(crate) const RECIPIENT_BLINDED_PATHS: u64 = 22;
/// `keysend` (bLIP 3).
const KEYSEND_PREIMAGE: u64 = 5_482_373_484;
/// Types from here on are free for applications.
pub const CUSTOM_TLV_MIN: u64 = 65_536;

/// The payload of one hop, by the hop's role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopPayload {
    /// For a node that forwards over a channel that the sender chose.
    Forward(ForwardPayload),
    /// For the node that is paid.
    Receive(ReceivePayload),
    /// For a node inside a blinded path that forwards.
    BlindedForward(BlindedForwardPayload),
    /// For the node that is paid at the end of a blinded path.
    BlindedReceive(BlindedReceivePayload),
    /// For a trampoline node, which finds the further way itself; see [`crate::trampoline`].
    Trampoline(TrampolineEntryPayload),
}

/// What a forwarding node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardPayload {
    /// The outgoing channel; another with the same peer will do ("Non-strict Forwarding").
    pub short_channel_id: ShortChannelId,
    /// The amount of the outgoing HTLC.
    pub amt_to_forward: Msat,
    /// The expiry of the outgoing HTLC.
    pub outgoing_cltv_value: CltvExpiry,
}

/// What the paid node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivePayload {
    /// The least amount that the HTLC must have.
    pub amt_to_forward: Msat,
    /// The least expiry that the HTLC must have.
    pub outgoing_cltv_value: CltvExpiry,
    /// The invoice's secret and the total of all parts.
    pub payment_data: Option<PaymentData>,
    /// The invoice's metadata, given back.
    pub payment_metadata: Option<Vec<u8>>,
    /// The preimage of a payment without invoice (bLIP 3).
    pub keysend_preimage: Option<PaymentPreimage>,
    /// Application records, by rising type.
    pub custom_tlvs: Vec<CustomTlv>,
}

impl ReceivePayload {
    /// The total of all parts: the HTLC's own amount when nothing else is said (BOLT 4, the reader).
    pub fn total_msat(&self) -> Msat {
        self.payment_data
            .map_or(self.amt_to_forward, |data| data.total_msat)
    }
}

/// `payment_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentData {
    /// From the invoice: keeps nodes on the way from probing.
    pub payment_secret: PaymentSecret,
    /// What all parts come to.
    pub total_msat: Msat,
}

/// A record of an application, of type [`CUSTOM_TLV_MIN`] or above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomTlv {
    /// The type; when even, a receiver that does not know it fails the payment.
    pub kind: u64,
    /// The value.
    pub value: Vec<u8>,
}

/// What a forwarding node inside a blinded path is told by the sender; the rest is inside the
/// recipient's data. See [`crate::blinding`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedForwardPayload {
    /// From the recipient, for this node alone.
    pub encrypted_recipient_data: Vec<u8>,
    /// At the introduction node: the key that others get beside the packet.
    pub current_path_key: Option<PublicKey>,
}

/// What the paid node at the end of a blinded path is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedReceivePayload {
    /// The least amount that the HTLC must have.
    pub amt_to_forward: Msat,
    /// The least expiry that the HTLC must have.
    pub outgoing_cltv_value: CltvExpiry,
    /// What all parts come to.
    pub total_amount_msat: Msat,
    /// From the recipient to itself.
    pub encrypted_recipient_data: Vec<u8>,
    /// When the recipient is also the introduction node.
    pub current_path_key: Option<PublicKey>,
}

/// What the last node of a payment's onion is told when it is a trampoline node (trampoline routing, a draft).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrampolineEntryPayload {
    /// The least amount that the HTLC must have.
    pub amt_to_forward: Msat,
    /// The least expiry that the HTLC must have.
    pub outgoing_cltv_value: CltvExpiry,
    /// Joins the parts of a payment: a secret that the sender of this onion drew, and the total.
    pub payment_data: Option<PaymentData>,
    /// When the trampoline node is inside a blinded path and not its first node.
    pub current_path_key: Option<PublicKey>,
    /// The onion inside the onion.
    pub trampoline_onion_packet: Vec<u8>,
}

/// A hop's place as the packet says it, and what came beside the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// No packet follows.
    pub(crate) is_final: bool,
    /// `update_add_htlc` had a `path_key`, or, for a trampoline's payload, the onion around it had one.
    pub(crate) has_path_key: bool,
    /// Which onion it is.
    pub(crate) onion: OnionKind,
    /// Even application types that the receiver understands.
    pub(crate) even_custom_tlvs: &'a [u64],
}

/// Which fields of trampolines have a place in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnionKind {
    /// A payment's, at a node that is no trampoline.
    Payment,
    /// A payment's, at a trampoline node.
    AroundTrampoline,
    /// A trampoline's.
    Trampoline,
}

/// A payload that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadError {
    /// The TLV type at fault, 0 when there is none to name.
    pub kind: u64,
    /// Where the record starts in the TLV stream, 0 when it is missing.
    pub offset: usize,
    /// What is wrong.
    pub reason: DecodeError,
    /// The payload is that of an introduction node, whose failures say no more than
    /// `invalid_onion_blinding`.
    pub(crate) at_introduction: bool,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TLV type {} at byte {}: {} (BOLT 4, payload format)",
            self.kind, self.offset, self.reason
        )
    }
}

impl core::error::Error for PayloadError {}

impl PayloadError {
    /// `offset` of `invalid_onion_payload`: where the record starts in the decrypted bytes, 0 when it is
    /// missing.
    pub(crate) fn offset_behind(&self, prefix_len: usize) -> u16 {
        let offset = match self.reason {
            DecodeError::Missing(_) => 0,
            _ => prefix_len + self.offset,
        };
        // A payload is shorter than its packet, whose length fits 16 bits.
        u16::try_from(offset).unwrap_or(u16::MAX)
    }
}

impl HopPayload {
    /// The TLV stream, without length prefix.
    pub fn encode(&self) -> Result<Vec<u8>, BuildError> {
        let mut out = Vec::new();
        let mut tlv = TlvWriter::new(&mut out);
        match self {
            Self::Forward(p) => {
                put_amounts(&mut tlv, p.amt_to_forward, p.outgoing_cltv_value);
                tlv.put(SHORT_CHANNEL_ID, &p.short_channel_id);
            }
            Self::Receive(p) => {
                put_amounts(&mut tlv, p.amt_to_forward, p.outgoing_cltv_value);
                tlv.put_some(PAYMENT_DATA, p.payment_data.as_ref());
                tlv.put_some(PAYMENT_METADATA, p.payment_metadata.as_ref());
                for (kind, value) in application_records(p)? {
                    tlv.put(kind, &value);
                }
            }
            Self::BlindedForward(p) => {
                tlv.put(ENCRYPTED_RECIPIENT_DATA, &p.encrypted_recipient_data);
                tlv.put_some(CURRENT_PATH_KEY, p.current_path_key.as_ref());
            }
            Self::BlindedReceive(p) => {
                put_amounts(&mut tlv, p.amt_to_forward, p.outgoing_cltv_value);
                tlv.put(ENCRYPTED_RECIPIENT_DATA, &p.encrypted_recipient_data);
                tlv.put_some(CURRENT_PATH_KEY, p.current_path_key.as_ref());
                tlv.put(TOTAL_AMOUNT_MSAT, &Truncated(p.total_amount_msat.to_msat()));
            }
            Self::Trampoline(p) => {
                put_amounts(&mut tlv, p.amt_to_forward, p.outgoing_cltv_value);
                tlv.put_some(PAYMENT_DATA, p.payment_data.as_ref());
                tlv.put_some(CURRENT_PATH_KEY, p.current_path_key.as_ref());
                tlv.put(TRAMPOLINE_ONION_PACKET, &p.trampoline_onion_packet);
            }
        }
        Ok(out)
    }

    /// Whether this is a payload for the end of a path.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Receive(_) | Self::BlindedReceive(_) | Self::Trampoline(_) => true,
            Self::Forward(_) | Self::BlindedForward(_) => false,
        }
    }

    /// Reads a payload and holds it against the rules for its place.
    pub(crate) fn decode(bytes: &[u8], place: Place<'_>) -> Result<Self, PayloadError> {
        let mut raw = RawPayload::default();
        raw.read(bytes, place)
            .and_then(|()| raw.judge(place))
            .map_err(|e| raw.located(e, place))
    }
}

impl Encode for PaymentData {
    fn encode(&self, out: &mut Vec<u8>) {
        self.payment_secret.encode(out);
        Truncated(self.total_msat.to_msat()).encode(out);
    }
}

impl Decode for PaymentData {
    /// Takes all that is left of `r`.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            payment_secret: Decode::decode(r)?,
            total_msat: tu64(r)?,
        })
    }
}

fn tu64(r: &mut Reader<'_>) -> Result<Msat, DecodeError> {
    Truncated::<u64>::decode(r).map(|value| Msat::new(value.0))
}

pub(crate) fn put_amounts(tlv: &mut TlvWriter<'_>, amount: Msat, cltv: CltvExpiry) {
    tlv.put(AMT_TO_FORWARD, &Truncated(amount.to_msat()));
    tlv.put(OUTGOING_CLTV_VALUE, &Truncated(cltv.to_u32()));
}

/// The records from 65536 on, by rising type.
fn application_records(p: &ReceivePayload) -> Result<Vec<(u64, Vec<u8>)>, BuildError> {
    let mut records: Vec<_> = p
        .custom_tlvs
        .iter()
        .map(|tlv| (tlv.kind, tlv.value.clone()))
        .collect();
    if let Some(tlv) = p
        .custom_tlvs
        .iter()
        .find(|tlv| tlv.kind < CUSTOM_TLV_MIN || tlv.kind == KEYSEND_PREIMAGE)
    {
        return Err(BuildError::CustomTlv(tlv.kind));
    }
    if let Some(preimage) = &p.keysend_preimage {
        records.push((KEYSEND_PREIMAGE, preimage.as_bytes().to_vec()));
    }
    records.sort_by_key(|(kind, _)| *kind);
    match records.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(BuildError::CustomTlv(pair[0].0)),
        None => Ok(records),
    }
}

/// All fields as they were found, with their offsets.
#[derive(Default)]
pub(crate) struct RawPayload {
    amt_to_forward: Option<Msat>,
    outgoing_cltv_value: Option<CltvExpiry>,
    pub(crate) outgoing_node_id: Option<PublicKey>,
    pub(crate) recipient_features: Option<Features>,
    pub(crate) recipient_blinded_paths: Option<Vec<PaymentPath>>,
    trampoline_onion_packet: Option<Vec<u8>>,
    short_channel_id: Option<ShortChannelId>,
    payment_data: Option<PaymentData>,
    pub(crate) encrypted_recipient_data: Option<Vec<u8>>,
    current_path_key: Option<PublicKey>,
    payment_metadata: Option<Vec<u8>>,
    total_amount_msat: Option<Msat>,
    keysend_preimage: Option<PaymentPreimage>,
    custom_tlvs: Vec<CustomTlv>,
    /// Type and offset of every record.
    seen: Vec<(u64, usize)>,
    /// Type 12 is there, whether or not its value is a point.
    current_path_key_seen: bool,
}

impl RawPayload {
    pub(crate) fn read(&mut self, bytes: &[u8], place: Place<'_>) -> Result<(), PayloadError> {
        let mut offset = 0;
        for record in TlvReader::new(bytes) {
            let record = record.map_err(|reason| error(0, offset, reason))?;
            self.seen.push((record.kind, offset));
            self.take(&record, place)
                .map_err(|reason| error(record.kind, offset, reason))?;
            offset += record_len(&record);
        }
        Ok(())
    }

    fn take(&mut self, record: &TlvRecord<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        match record.kind {
            AMT_TO_FORWARD => {
                self.amt_to_forward = Some(Msat::new(record.parse::<Truncated<u64>>()?.0));
            }
            OUTGOING_CLTV_VALUE => {
                self.outgoing_cltv_value =
                    Some(CltvExpiry::new(record.parse::<Truncated<u32>>()?.0));
            }
            SHORT_CHANNEL_ID => self.short_channel_id = Some(record.parse()?),
            PAYMENT_DATA => self.payment_data = Some(record.parse()?),
            ENCRYPTED_RECIPIENT_DATA => {
                self.encrypted_recipient_data = Some(record.value.to_vec());
            }
            CURRENT_PATH_KEY => {
                self.current_path_key_seen = true;
                self.current_path_key = Some(record.parse()?);
            }
            PAYMENT_METADATA => self.payment_metadata = Some(record.value.to_vec()),
            TOTAL_AMOUNT_MSAT => {
                self.total_amount_msat = Some(Msat::new(record.parse::<Truncated<u64>>()?.0));
            }
            KEYSEND_PREIMAGE => self.keysend_preimage = Some(record.parse()?),
            TRAMPOLINE_ONION_PACKET if place.onion == OnionKind::AroundTrampoline => {
                self.trampoline_onion_packet = Some(record.value.to_vec());
            }
            OUTGOING_NODE_ID if place.onion == OnionKind::Trampoline => {
                self.outgoing_node_id = Some(record.parse()?);
            }
            RECIPIENT_FEATURES if place.onion == OnionKind::Trampoline => {
                self.recipient_features = Some(Features::from_be_bytes(record.value));
            }
            RECIPIENT_BLINDED_PATHS if place.onion == OnionKind::Trampoline => {
                self.recipient_blinded_paths = Some(payment_paths(record.value)?);
            }
            kind if kind < CUSTOM_TLV_MIN => record.ignore_if_odd()?,
            kind => {
                if !place.even_custom_tlvs.contains(&kind) {
                    record.ignore_if_odd()?;
                }
                self.custom_tlvs.push(CustomTlv {
                    kind,
                    value: record.value.to_vec(),
                });
            }
        }
        Ok(())
    }

    /// BOLT 4, "`payload` format", the reader.
    fn judge(&mut self, place: Place<'_>) -> Result<HopPayload, PayloadError> {
        match self.encrypted_recipient_data.take() {
            Some(data) => self.judge_blinded(place, data),
            None => {
                self.check_no_path_key(place)?;
                match self.trampoline_onion_packet.take() {
                    Some(packet) => self.judge_trampoline_entry(place, packet),
                    None => self.judge_plain(place),
                }
            }
        }
    }

    /// Where an error is: with a `current_path_key` in the payload of a node that forwards, at the
    /// introduction node of a blinded path.
    pub(crate) fn located(&self, error: PayloadError, place: Place<'_>) -> PayloadError {
        PayloadError {
            at_introduction: self.current_path_key_seen && !place.is_final,
            ..error
        }
    }

    pub(crate) fn check_no_path_key(&self, place: Place<'_>) -> Result<(), PayloadError> {
        if place.has_path_key {
            return Err(missing(
                ENCRYPTED_RECIPIENT_DATA,
                "encrypted_recipient_data, as a path_key came beside the onion",
            ));
        }
        Ok(())
    }

    /// The fields that every node outside of a blinded path is given.
    pub(crate) fn amounts(&self) -> Result<(Msat, CltvExpiry), PayloadError> {
        Ok((
            self.amt_to_forward
                .ok_or_else(|| missing(AMT_TO_FORWARD, "amt_to_forward"))?,
            self.outgoing_cltv_value
                .ok_or_else(|| missing(OUTGOING_CLTV_VALUE, "outgoing_cltv_value"))?,
        ))
    }

    /// Trampoline routing: the payload around a trampoline's onion, which is in that of the last node.
    fn judge_trampoline_entry(
        &self,
        place: Place<'_>,
        trampoline_onion_packet: Vec<u8>,
    ) -> Result<HopPayload, PayloadError> {
        if !place.is_final {
            self.forbid(&[TRAMPOLINE_ONION_PACKET])?;
        }
        self.forbid(&[
            SHORT_CHANNEL_ID,
            PAYMENT_METADATA,
            TOTAL_AMOUNT_MSAT,
            KEYSEND_PREIMAGE,
        ])?;
        let (amt_to_forward, outgoing_cltv_value) = self.amounts()?;
        Ok(HopPayload::Trampoline(TrampolineEntryPayload {
            amt_to_forward,
            outgoing_cltv_value,
            payment_data: self.payment_data,
            current_path_key: self.current_path_key,
            trampoline_onion_packet,
        }))
    }

    /// What the node that is paid is told, outside of blinded paths.
    pub(crate) fn judge_receive(&mut self) -> Result<ReceivePayload, PayloadError> {
        self.forbid(&[CURRENT_PATH_KEY, TOTAL_AMOUNT_MSAT, SHORT_CHANNEL_ID])?;
        let (amt_to_forward, outgoing_cltv_value) = self.amounts()?;
        Ok(ReceivePayload {
            amt_to_forward,
            outgoing_cltv_value,
            payment_data: self.payment_data,
            payment_metadata: self.payment_metadata.take(),
            keysend_preimage: self.keysend_preimage,
            custom_tlvs: core::mem::take(&mut self.custom_tlvs),
        })
    }

    /// What only a node that is paid may be given.
    pub(crate) fn forbid_receive_fields(&self) -> Result<(), PayloadError> {
        self.forbid(&[
            CURRENT_PATH_KEY,
            TOTAL_AMOUNT_MSAT,
            PAYMENT_DATA,
            PAYMENT_METADATA,
            KEYSEND_PREIMAGE,
        ])
    }

    fn judge_plain(&mut self, place: Place<'_>) -> Result<HopPayload, PayloadError> {
        if place.is_final {
            return self.judge_receive().map(HopPayload::Receive);
        }
        self.forbid_receive_fields()?;
        let (amt_to_forward, outgoing_cltv_value) = self.amounts()?;
        Ok(HopPayload::Forward(ForwardPayload {
            short_channel_id: self
                .short_channel_id
                .ok_or_else(|| missing(SHORT_CHANNEL_ID, "short_channel_id"))?,
            amt_to_forward,
            outgoing_cltv_value,
        }))
    }

    pub(crate) fn judge_blinded(
        &mut self,
        place: Place<'_>,
        encrypted_recipient_data: Vec<u8>,
    ) -> Result<HopPayload, PayloadError> {
        let current_path_key = self.current_path_key;
        if place.has_path_key {
            self.forbid(&[CURRENT_PATH_KEY])?;
        } else if current_path_key.is_none() {
            return Err(missing(
                CURRENT_PATH_KEY,
                "current_path_key, as no path_key came beside the onion",
            ));
        }
        // Any other field fails, odd ones too.
        let allowed: &[u64] = if place.is_final {
            &[
                AMT_TO_FORWARD,
                OUTGOING_CLTV_VALUE,
                ENCRYPTED_RECIPIENT_DATA,
                CURRENT_PATH_KEY,
                TOTAL_AMOUNT_MSAT,
            ]
        } else {
            &[ENCRYPTED_RECIPIENT_DATA, CURRENT_PATH_KEY]
        };
        if let Some(&(kind, offset)) = self.seen.iter().find(|(kind, _)| !allowed.contains(kind)) {
            return Err(error(kind, offset, FORBIDDEN));
        }
        if !place.is_final {
            return Ok(HopPayload::BlindedForward(BlindedForwardPayload {
                encrypted_recipient_data,
                current_path_key,
            }));
        }
        let (amt_to_forward, outgoing_cltv_value) = self.amounts()?;
        Ok(HopPayload::BlindedReceive(BlindedReceivePayload {
            amt_to_forward,
            outgoing_cltv_value,
            total_amount_msat: self
                .total_amount_msat
                .ok_or_else(|| missing(TOTAL_AMOUNT_MSAT, "total_amount_msat"))?,
            encrypted_recipient_data,
            current_path_key,
        }))
    }

    pub(crate) fn forbid(&self, kinds: &[u64]) -> Result<(), PayloadError> {
        match self.seen.iter().find(|(kind, _)| kinds.contains(kind)) {
            Some(&(kind, offset)) => Err(error(kind, offset, FORBIDDEN)),
            None => Ok(()),
        }
    }
}

const FORBIDDEN: DecodeError =
    DecodeError::InvalidValue("a field that has no place in this payload");

const fn error(kind: u64, offset: usize, reason: DecodeError) -> PayloadError {
    PayloadError {
        kind,
        offset,
        reason,
        at_introduction: false,
    }
}

pub(crate) const fn missing(kind: u64, name: &'static str) -> PayloadError {
    error(kind, 0, DecodeError::Missing(name))
}

/// Pairs of a blinded path and what it takes, to the end of the record.
fn payment_paths(bytes: &[u8]) -> Result<Vec<PaymentPath>, DecodeError> {
    let mut r = Reader::new(bytes);
    let mut paths = Vec::new();
    while !r.is_empty() {
        paths.push(PaymentPath {
            path: Decode::decode(&mut r)?,
            payinfo: Decode::decode(&mut r)?,
        });
    }
    Ok(paths)
}

fn record_len(record: &TlvRecord<'_>) -> usize {
    let len = record.value.len();
    BigSize(record.kind).to_bytes().len() + BigSize(len as u64).to_bytes().len() + len
}
