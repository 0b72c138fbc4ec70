//! Failures on their way back: BOLT 4, "Returning Errors".

use alloc::{boxed::Box, vec::Vec};

use fulmen_types::codec::{Decode, Encode, Reader};

use crate::{
    FailureMessage,
    attribution::{ATTRIBUTION_HOPS_MAX, AttributionData, HoldTime},
    keys::{KeyKind, SharedSecret, hmac, same},
};

/// `failure_len` and `pad_len` together are at least this.
pub const FAILURE_LEN_MIN: usize = 256;
/// How often an origin decrypts, however long the path was: a node that sees the sender's retries learns
/// nothing of its place from their timing.
pub const DECRYPT_ROUNDS: usize = 27;
/// A `reason` above this leaves no room for attribution data in `update_fail_htlc`: 65535 bytes less type,
/// channel id, id and length, and the TLV record of 924 bytes.
pub const REASON_LEN_MAX_WITH_ATTRIBUTION: usize = 65_535 - (2 + 32 + 8 + 2) - 924;

const HMAC_LEN: usize = 32;
/// No failure is nearly as long; what is beyond is cut, the code, first, always fits.
const FAILURE_LEN_MAX: usize = 32_768;

/// What `update_fail_htlc` carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnPacket {
    /// `reason`.
    pub reason: Vec<u8>,
    /// `attribution_data`, of nodes with `option_attribution_data`.
    pub attribution_data: Option<Box<AttributionData>>,
}

impl ReturnPacket {
    /// The packet of the node that fails the HTLC. `hold_time` adds attribution data: give it when
    /// `option_attribution_data` is advertised and the HTLC came without `path_key`.
    pub fn build(
        shared_secret: &SharedSecret,
        message: &FailureMessage,
        hold_time: Option<HoldTime>,
    ) -> Self {
        Self::build_raw(
            shared_secret,
            &message.to_bytes(),
            FAILURE_LEN_MIN,
            hold_time,
        )
    }

    /// [`ReturnPacket::build`] with the bytes of `failuremsg`, which may carry TLV records of the future.
    /// Beyond 32768 bytes it is cut. `padded_len` is the length of message and padding, at least
    /// [`FAILURE_LEN_MIN`]; a message that is longer is not padded.
    pub fn build_raw(
        shared_secret: &SharedSecret,
        failuremsg: &[u8],
        padded_len: usize,
        hold_time: Option<HoldTime>,
    ) -> Self {
        let failuremsg = &failuremsg[..failuremsg.len().min(FAILURE_LEN_MAX)];
        let padded_len = padded_len.clamp(FAILURE_LEN_MIN, FAILURE_LEN_MAX);
        let pad = padded_len.saturating_sub(failuremsg.len());
        let mut reason = alloc::vec![0; HMAC_LEN];
        put_len(&mut reason, failuremsg.len());
        reason.extend_from_slice(failuremsg);
        put_len(&mut reason, pad);
        reason.resize(reason.len() + pad, 0);
        let mac = hmac(&shared_secret.key(KeyKind::Um)[..], &[&reason[HMAC_LEN..]]);
        reason[..HMAC_LEN].copy_from_slice(&mac);
        let mut packet = Self {
            reason,
            attribution_data: None,
        };
        packet.add_layer(shared_secret, hold_time);
        packet
    }

    /// The packet that goes further upstream from a node that forwarded the HTLC. With a `hold_time`
    /// (as for [`ReturnPacket::build`]) attribution data are updated, or begun when downstream sent none;
    /// without one they are dropped. They are also dropped when the message could not hold them.
    pub fn wrap(&mut self, shared_secret: &SharedSecret, hold_time: Option<HoldTime>) {
        self.add_layer(shared_secret, hold_time);
    }

    fn add_layer(&mut self, shared_secret: &SharedSecret, hold_time: Option<HoldTime>) {
        let downstream = self.attribution_data.take();
        if let Some(hold_time) = hold_time
            && self.reason.len() <= REASON_LEN_MAX_WITH_ATTRIBUTION
        {
            let mut attribution = downstream.unwrap_or_default();
            attribution.add_hop(shared_secret, hold_time, &self.reason);
            self.attribution_data = Some(attribution);
        }
        shared_secret
            .stream(KeyKind::Ammag)
            .apply_keystream(&mut self.reason);
    }

    /// Takes the layers off that were put on between the node with the last of `shared_secrets` and this
    /// one: for a trampoline node, whose own onion a failure from behind that onion's end has come through
    /// (see [`crate::trampoline`]). Attribution data don't reach over such an end.
    pub fn strip_layers(&mut self, shared_secrets: &[SharedSecret]) {
        self.attribution_data = None;
        for secret in shared_secrets {
            secret
                .stream(KeyKind::Ammag)
                .apply_keystream(&mut self.reason);
        }
    }

    /// Reads the failure at the origin. `shared_secrets` are those of the path, from the first hop.
    ///
    /// Always makes [`DECRYPT_ROUNDS`] rounds.
    pub fn decrypt(mut self, shared_secrets: &[SharedSecret]) -> DecryptedFailure {
        let dummy = SharedSecret::new([0; 32]);
        // A longer path has no room in the data, so nothing can be said about anybody.
        let mut attribution = self
            .attribution_data
            .take()
            .filter(|_| shared_secrets.len() <= ATTRIBUTION_HOPS_MAX);
        let mut hold_times = Vec::new();
        let mut unattributed = None;
        let mut found: Option<(usize, Vec<u8>)> = None;
        for i in 0..DECRYPT_ROUNDS.max(shared_secrets.len()) {
            let secret = shared_secrets.get(i);
            let key = secret.unwrap_or(&dummy);
            key.stream(KeyKind::Ammag).apply_keystream(&mut self.reason);
            let is_source = has_valid_hmac(key, &self.reason);
            let in_path = secret.is_some() && found.is_none();
            if in_path
                && unattributed.is_none()
                && let Some(data) = &mut attribution
            {
                // BOLT 4, Origin node: the position counts from the end of the whole path.
                let distance = shared_secrets.len() - 1 - i;
                match data.remove_hop(key, distance, &self.reason) {
                    Some(hold_time) => hold_times.push(hold_time),
                    None => unattributed = Some(i),
                }
            }
            if is_source && in_path {
                found = Some((i, self.reason.clone()));
            }
        }
        let source = match found {
            Some((hop, packet)) => match failuremsg(&packet[HMAC_LEN..]) {
                Some(raw) => FailureSource::Hop {
                    hop,
                    message: decode_message(raw),
                    raw: raw.to_vec(),
                },
                None => FailureSource::Unparsable { hop },
            },
            None => FailureSource::Unknown,
        };
        DecryptedFailure {
            source,
            hold_times,
            unattributed,
        }
    }
}

/// What an origin learns from a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptedFailure {
    /// Who failed the payment, and why.
    pub source: FailureSource,
    /// How long each hop says that it held the HTLC, as far as attribution reaches.
    pub hold_times: Vec<HoldTime>,
    /// The first hop, from 0, whose attribution data did not verify: it, or the one before it, tampered
    /// with the failure or does not support attribution. `None` without attribution data or when all
    /// verified up to the source.
    pub unattributed: Option<usize>,
}

/// Who failed a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureSource {
    /// A hop of the path, authenticated.
    Hop {
        /// Which, from 0.
        hop: usize,
        /// Why.
        message: FailureMessage,
        /// `failuremsg` as it came, with what follows the known fields.
        raw: Vec<u8>,
    },
    /// A hop authenticated a failure without a readable message.
    Unparsable {
        /// Which, from 0.
        hop: usize,
    },
    /// No hop's HMAC fits: somebody on the way garbled the packet.
    Unknown,
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    u16::try_from(len)
        .expect("messages are cut and padding is clamped to 32768 bytes")
        .encode(out);
}

fn has_valid_hmac(secret: &SharedSecret, packet: &[u8]) -> bool {
    packet
        .split_first_chunk::<HMAC_LEN>()
        .is_some_and(|(mac, rest)| same(&hmac(&secret.key(KeyKind::Um)[..], &[rest]), mac))
}

fn failuremsg(authenticated: &[u8]) -> Option<&[u8]> {
    Reader::new(authenticated)
        .take_u16_prefixed()
        .ok()
        .filter(|raw| raw.len() >= 2)
}

fn decode_message(raw: &[u8]) -> FailureMessage {
    FailureMessage::decode(&mut Reader::new(raw))
        .expect("two bytes are a code, and only they must be")
}
