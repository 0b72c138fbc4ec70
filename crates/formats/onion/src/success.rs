//! What comes back with a preimage: BOLT 4, "Returning success".

use alloc::{boxed::Box, vec::Vec};

use chacha20_poly1305::{ChaCha20Poly1305, Nonce};
use fulmen_types::codec::{Decode, DecodeError, Encode, Reader, TlvReader, TlvWriter};

use crate::{
    attribution::{ATTRIBUTION_HOPS_MAX, AttributionData, HoldTime},
    blinding::padding_len,
    keys::{KeyKind, SharedSecret},
    payload::{CUSTOM_TLV_MIN, CustomTlv},
};

/// The longest `fulfillment_payload` of a message: what is longer leaves no room for the rest.
pub const FULFILLMENT_PAYLOAD_LEN_MAX: usize = 32_768;

const TAG_LEN: usize = 16;
const PADDING: u64 = 1;
/// Payloads are padded to this, so that their length says little.
const PADDED_LEN: usize = 256;

/// What `update_fulfill_htlc` carries beside the preimage.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SuccessPacket {
    /// `fulfillment_payload`: from the recipient to the payer.
    pub fulfillment_payload: Option<Vec<u8>>,
    /// `attribution_data`, of nodes with `option_attribution_data`.
    pub attribution_data: Option<Box<AttributionData>>,
}

impl SuccessPacket {
    /// The packet of the node that is paid. `payload` is an encoded [`FulfillmentPayload`], at most
    /// [`FULFILLMENT_PAYLOAD_LEN_MAX`] less 16 bytes, else it is left out. `hold_time` adds attribution
    /// data: give it when `option_attribution_data` is advertised and the HTLC came without `path_key`.
    pub fn build(
        shared_secret: &SharedSecret,
        payload: Option<&[u8]>,
        hold_time: Option<HoldTime>,
    ) -> Self {
        let fulfillment_payload = payload
            .filter(|payload| payload.len() <= FULFILLMENT_PAYLOAD_LEN_MAX - TAG_LEN)
            .map(|payload| {
                let mut sealed = Vec::with_capacity(payload.len() + TAG_LEN);
                sealed.extend_from_slice(payload);
                let tag = cipher(shared_secret).encrypt(&mut sealed, None);
                sealed.extend_from_slice(&tag);
                sealed
            });
        let mut packet = Self {
            fulfillment_payload,
            attribution_data: None,
        };
        // The recipient's own HMACs don't cover its payload, which has a tag of its own.
        packet.attribute(shared_secret, hold_time, false);
        packet
    }

    /// The packet that goes further upstream from a node that forwarded the HTLC. With a `hold_time`
    /// (as for [`SuccessPacket::build`]) attribution data are updated, or begun when downstream sent none;
    /// without one they are dropped. A payload that is too long is dropped.
    pub fn wrap(&mut self, shared_secret: &SharedSecret, hold_time: Option<HoldTime>) {
        let fits = |payload: &Vec<u8>| payload.len() <= FULFILLMENT_PAYLOAD_LEN_MAX;
        self.fulfillment_payload = self.fulfillment_payload.take().filter(fits);
        self.attribute(shared_secret, hold_time, true);
        self.apply_stream(shared_secret);
    }

    /// Reads the packet at the origin. `shared_secrets` are those of the path, from the first hop to the
    /// recipient.
    pub fn decrypt(mut self, shared_secrets: &[SharedSecret]) -> DecryptedSuccess {
        // A longer path has no room in the data, so nothing can be said about anybody.
        let mut attribution = self
            .attribution_data
            .take()
            .filter(|_| shared_secrets.len() <= ATTRIBUTION_HOPS_MAX);
        let mut hold_times = Vec::new();
        let mut unattributed = None;
        for (i, secret) in shared_secrets.iter().enumerate() {
            let distance = shared_secrets.len() - 1 - i;
            if distance > 0 {
                self.apply_stream(secret);
            }
            if unattributed.is_none()
                && let Some(data) = &mut attribution
            {
                match data.remove_hop(secret, distance, self.covered(distance > 0)) {
                    Some(hold_time) => hold_times.push(hold_time),
                    None => unattributed = Some(i),
                }
            }
        }
        let payload = match (self.fulfillment_payload, shared_secrets.last()) {
            (Some(sealed), Some(secret)) => open(secret, sealed),
            (None, _) | (_, None) => FulfillmentData::None,
        };
        DecryptedSuccess {
            hold_times,
            unattributed,
            payload,
        }
    }

    fn attribute(&mut self, secret: &SharedSecret, hold_time: Option<HoldTime>, forwards: bool) {
        let downstream = self.attribution_data.take();
        if let Some(hold_time) = hold_time {
            let mut attribution = downstream.unwrap_or_default();
            attribution.add_hop(secret, hold_time, self.covered(forwards));
            self.attribution_data = Some(attribution);
        }
    }

    /// What the HMACs of a node cover: the payload as it came from downstream.
    fn covered(&self, forwards: bool) -> &[u8] {
        match &self.fulfillment_payload {
            Some(payload) if forwards => payload,
            Some(_) | None => &[],
        }
    }

    fn apply_stream(&mut self, secret: &SharedSecret) {
        if let Some(payload) = &mut self.fulfillment_payload {
            secret.stream(KeyKind::Ammag).apply_keystream(payload);
        }
    }
}

fn cipher(secret: &SharedSecret) -> ChaCha20Poly1305 {
    let key = secret.key(KeyKind::Fulfillment).to_cipher_key();
    ChaCha20Poly1305::new(key, Nonce::new([0; 12]))
}

fn open(secret: &SharedSecret, mut sealed: Vec<u8>) -> FulfillmentData {
    let opened = sealed
        .split_last_chunk_mut::<TAG_LEN>()
        .is_some_and(|(content, tag)| cipher(secret).decrypt(content, *tag, None).is_ok());
    if !opened {
        return FulfillmentData::Garbled;
    }
    sealed.truncate(sealed.len() - TAG_LEN);
    FulfillmentData::Payload(sealed)
}

/// What an origin learns from a success beside the preimage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptedSuccess {
    /// How long each hop says that it held the HTLC, as far as attribution reaches.
    pub hold_times: Vec<HoldTime>,
    /// The first hop, from 0, whose attribution data did not verify: it, or the one before it, tampered
    /// with the packet or does not support attribution. `None` without attribution data or when all
    /// verified.
    pub unattributed: Option<usize>,
    /// What the recipient says.
    pub payload: FulfillmentData,
}

/// What came of a `fulfillment_payload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FulfillmentData {
    /// None came.
    None,
    /// One that the recipient did not make like this: somebody on the way changed it.
    Garbled,
    /// The recipient's bytes, authenticated; a [`FulfillmentPayload`] if it follows the rules.
    Payload(Vec<u8>),
}

/// `fulfillment_payload_tlvs`: what a recipient says to the payer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FulfillmentPayload {
    /// Application records, by rising type, each of type [`CUSTOM_TLV_MIN`] or above.
    pub custom_tlvs: Vec<CustomTlv>,
}

/// Padded to 256 bytes if it is shorter, or to 257 where that does not work out.
impl Encode for FulfillmentPayload {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut records = Vec::new();
        let mut tlvs = TlvWriter::new(&mut records);
        for tlv in &self.custom_tlvs {
            tlvs.put(tlv.kind, &tlv.value);
        }
        if records.len() < PADDED_LEN {
            // Type and length of the padding take a byte each.
            let room = PADDED_LEN.saturating_sub(records.len() + 2);
            TlvWriter::new(out).put(PADDING, &alloc::vec![0u8; padding_len(room)]);
        }
        out.extend_from_slice(&records);
    }
}

impl Decode for FulfillmentPayload {
    /// Takes all that is left of `r`. Unknown odd fields are ignored, unknown even ones fail; application
    /// records are all kept.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut payload = Self::default();
        for record in TlvReader::new(r.take_rest()) {
            let record = record?;
            match record.kind {
                PADDING => {}
                kind if kind >= CUSTOM_TLV_MIN => payload.custom_tlvs.push(CustomTlv {
                    kind,
                    value: record.value.to_vec(),
                }),
                _ => record.ignore_if_odd()?,
            }
        }
        Ok(payload)
    }
}
