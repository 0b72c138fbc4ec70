//! Blinded paths: BOLT 4, "Route Blinding".

use alloc::vec::Vec;
use core::fmt;

use bitcoin::secp256k1::{self, PublicKey, Secp256k1, SecretKey, Signing, Verification};
use chacha20_poly1305::{ChaCha20Poly1305, Nonce};
use fulmen_types::{
    CltvExpiry, CltvExpiryDelta, Features, Msat, SciddirOrPubkey, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader, TlvReader, TlvWriter, Truncated, U16Bytes},
};

use crate::keys::{KeyKind, SharedSecret, blinding_factor, next_key, node_id_tweak};

const PADDING: u64 = 1;
const SHORT_CHANNEL_ID: u64 = 2;
const NEXT_NODE_ID: u64 = 4;
const PATH_ID: u64 = 6;
const NEXT_PATH_KEY_OVERRIDE: u64 = 8;
const PAYMENT_RELAY: u64 = 10;
const PAYMENT_CONSTRAINTS: u64 = 12;
const ALLOWED_FEATURES: u64 = 14;
const TAG_LEN: usize = 16;

/// A blinded path as its reader gets it, without the introduction node's id, which the `blinded_path` of
/// messages writes in one of two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedRoute {
    /// `first_path_key`.
    pub first_path_key: PublicKey,
    /// The hops, from the introduction node.
    pub path: Vec<BlindedHop>,
}

/// `blinded_path`: a route to a node that does not say who it is, as offers, invoices and reply paths
/// carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedPath {
    /// `first_node_id`: the introduction node, not blinded.
    pub first_node_id: SciddirOrPubkey,
    /// The rest of the path.
    pub route: BlindedRoute,
}

impl BlindedPath {
    /// The `blinded_node_id` of the recipient.
    pub fn recipient(&self) -> Option<PublicKey> {
        self.route.path.last().map(|hop| hop.blinded_node_id)
    }
}

impl BlindedRoute {
    /// The route behind its first hop, for a node that finds itself to be the introduction node and must
    /// not send to itself. `blinding` is what `first_path_key` and the node's key share.
    ///
    /// Also gives what that hop says, and so who is next.
    pub fn advance<C: Verification>(
        &self,
        secp: &Secp256k1<C>,
        blinding: &SharedSecret,
    ) -> Result<(EncryptedData, Self), UnblindError> {
        let [first, rest @ ..] = self.path.as_slice() else {
            return Err(UnblindError::NextHop);
        };
        // The last hop is the recipient's: there is nobody behind it.
        if rest.is_empty() {
            return Err(UnblindError::NextHop);
        }
        let hop = unblind(
            secp,
            &self.first_path_key,
            blinding,
            &first.encrypted_recipient_data,
        )?;
        let route = Self {
            first_path_key: hop.next_path_key,
            path: rest.to_vec(),
        };
        Ok((hop.data, route))
    }
}

/// `blinded_path_hop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindedHop {
    /// Whom the onion is encrypted to.
    pub blinded_node_id: PublicKey,
    /// What that node will read.
    pub encrypted_recipient_data: Vec<u8>,
}

/// A path that can't be blinded: it has no hops or more than a path can have, its data are too long, or
/// a derived key is no key, which happens with no probability worth naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlindError {
    /// No hops, or more than 255.
    HopCount(usize),
    /// The data of a hop fit no onion.
    DataTooLong(usize),
    /// Use another session key.
    Key,
}

impl fmt::Display for BlindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HopCount(count) => write!(f, "a blinded path can't have {count} hops"),
            Self::DataTooLong(len) => write!(f, "{len} bytes for one hop fit no onion"),
            Self::Key => f.write_str("a derived key is invalid: use another session key"),
        }
    }
}

impl core::error::Error for BlindError {}

impl From<secp256k1::Error> for BlindError {
    fn from(_: secp256k1::Error) -> Self {
        Self::Key
    }
}

/// Blinds a path. `session_key` must be fresh. Each hop is a node id and its `encrypted_data_tlv`, encoded,
/// best all of one length (see [`EncryptedData::padded_to`]).
pub fn blind_route<C: Signing + Verification>(
    secp: &Secp256k1<C>,
    session_key: &SecretKey,
    hops: &[(PublicKey, Vec<u8>)],
) -> Result<BlindedRoute, BlindError> {
    if hops.is_empty() || hops.len() > usize::from(u8::MAX) {
        return Err(BlindError::HopCount(hops.len()));
    }
    let first_path_key = PublicKey::from_secret_key(secp, session_key);
    let mut private = *session_key;
    let mut path = Vec::with_capacity(hops.len());
    for (node_id, data) in hops {
        if data.len() > usize::from(u16::MAX) - TAG_LEN {
            return Err(BlindError::DataTooLong(data.len()));
        }
        let path_key = PublicKey::from_secret_key(secp, &private);
        let secret = SharedSecret::ecdh(node_id, &private);
        let mut encrypted_recipient_data = data.clone();
        let tag = cipher(&secret).encrypt(&mut encrypted_recipient_data, None);
        encrypted_recipient_data.extend_from_slice(&tag);
        path.push(BlindedHop {
            blinded_node_id: node_id.mul_tweak(secp, &node_id_tweak(&secret)?)?,
            encrypted_recipient_data,
        });
        private = private.mul_tweak(&blinding_factor(&path_key, &secret)?)?;
    }
    private.non_secure_erase();
    Ok(BlindedRoute {
        first_path_key,
        path,
    })
}

/// Why a node can't follow its part of a blinded path. Whatever it is, a payment is answered with
/// `invalid_onion_blinding` and nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnblindError {
    /// The data do not decrypt with this path key.
    Decryption,
    /// The decrypted data are no `encrypted_data_tlv`.
    Decode(DecodeError),
    /// A derived key is no key.
    Key,
    /// A feature that this node does not know must be allowed, even an odd one.
    UnknownFeature,
    /// Both, or neither, of `short_channel_id` and `next_node_id`.
    NextHop,
    /// No `payment_relay` for a node that forwards.
    NoPaymentRelay,
    /// The HTLC expires after `max_cltv_expiry`.
    ExpiryTooLate,
    /// The HTLC is below `htlc_minimum_msat`.
    AmountTooSmall,
    /// The HTLC does not pay this node's part: its amount or expiry is below what `payment_relay` takes.
    RelayUnpaid,
}

impl fmt::Display for UnblindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Decryption => "encrypted_recipient_data do not decrypt",
            Self::Decode(e) => return write!(f, "encrypted_data_tlv: {e} (BOLT 4)"),
            Self::Key => "the next path key is invalid",
            Self::UnknownFeature => "allowed_features has a feature that is not known",
            Self::NextHop => "exactly one of short_channel_id and next_node_id must be there",
            Self::NoPaymentRelay => "payment_relay is missing",
            Self::ExpiryTooLate => "the HTLC expires after max_cltv_expiry",
            Self::AmountTooSmall => "the HTLC is below htlc_minimum_msat",
            Self::RelayUnpaid => "the HTLC does not cover what payment_relay takes",
        };
        write!(f, "{what} (BOLT 4, route blinding)")
    }
}

impl core::error::Error for UnblindError {}

impl From<DecodeError> for UnblindError {
    fn from(e: DecodeError) -> Self {
        Self::Decode(e)
    }
}

/// What a node learns from its part of a blinded path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unblinded {
    /// The recipient's instructions.
    pub data: EncryptedData,
    /// The `path_key` for the next node.
    pub next_path_key: PublicKey,
}

/// Reads this node's part of a blinded path. `blinding` is what the `path_key` and the node's key share.
pub fn unblind<C: Verification>(
    secp: &Secp256k1<C>,
    path_key: &PublicKey,
    blinding: &SharedSecret,
    encrypted_recipient_data: &[u8],
) -> Result<Unblinded, UnblindError> {
    let bytes = decrypt_recipient_data(blinding, encrypted_recipient_data)?;
    let data = EncryptedData::from_bytes(&bytes)?;
    let next_path_key = match data.next_path_key_override {
        Some(key) => key,
        None => next_key(secp, path_key, blinding).map_err(|_| UnblindError::Key)?,
    };
    Ok(Unblinded {
        data,
        next_path_key,
    })
}

/// The bytes of `encrypted_data_tlv`, for readers of fields that [`EncryptedData`] does not have.
pub fn decrypt_recipient_data(
    blinding: &SharedSecret,
    encrypted: &[u8],
) -> Result<Vec<u8>, UnblindError> {
    let (content, tag) = encrypted
        .split_last_chunk::<TAG_LEN>()
        .ok_or(UnblindError::Decryption)?;
    let mut bytes = content.to_vec();
    cipher(blinding)
        .decrypt(&mut bytes, *tag, None)
        .map_err(|_| UnblindError::Decryption)?;
    Ok(bytes)
}

/// The node's key inside the path, for those who hold the node's key.
pub fn blinded_private_key(
    node_key: &SecretKey,
    blinding: &SharedSecret,
) -> Result<SecretKey, secp256k1::Error> {
    node_key.mul_tweak(&node_id_tweak(blinding)?)
}

fn cipher(secret: &SharedSecret) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(
        secret.key(KeyKind::Rho).to_cipher_key(),
        Nonce::new([0; 12]),
    )
}

/// `encrypted_data_tlv`: what the maker of a blinded path tells one node of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EncryptedData {
    /// `padding`: its length.
    pub padding_len: Option<usize>,
    /// The outgoing channel.
    pub short_channel_id: Option<ShortChannelId>,
    /// Or the next node.
    pub next_node_id: Option<PublicKey>,
    /// What the recipient recognises the path by.
    pub path_id: Option<Vec<u8>>,
    /// The next path key, when another path follows.
    pub next_path_key_override: Option<PublicKey>,
    /// What a forwarding node takes.
    pub payment_relay: Option<PaymentRelay>,
    /// What the HTLC must keep.
    pub payment_constraints: Option<PaymentConstraints>,
    /// Features that the payment may use.
    pub allowed_features: Option<Features>,
}

/// `payment_relay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentRelay {
    /// Blocks between the incoming and the outgoing HTLC.
    pub cltv_expiry_delta: CltvExpiryDelta,
    /// Fee per million.
    pub fee_proportional_millionths: u32,
    /// Fee per HTLC.
    pub fee_base_msat: u32,
}

/// `payment_constraints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentConstraints {
    /// No HTLC on the path may expire later.
    pub max_cltv_expiry: CltvExpiry,
    /// No HTLC on the path may be smaller.
    pub htlc_minimum_msat: Msat,
}

/// Where a blinded HTLC goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Over this channel.
    Channel(ShortChannelId),
    /// To this node.
    Node(PublicKey),
}

/// What a node inside a blinded path has to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlindedForward {
    /// Where to.
    pub next: NextHop,
    /// The amount of the outgoing HTLC.
    pub amt_to_forward: Msat,
    /// The expiry of the outgoing HTLC.
    pub outgoing_cltv_value: CltvExpiry,
}

impl EncryptedData {
    /// With padding that makes the encoding `len` bytes long; unchanged if it is already at least as
    /// long as `len` less the 2 bytes that the shortest padding takes.
    #[must_use]
    pub fn padded_to(mut self, len: usize) -> Self {
        self.padding_len = None;
        let bare = self.to_bytes().len();
        self.padding_len = len.checked_sub(bare + 2).map(padding_len);
        self
    }

    /// BOLT 4, the reader: what to forward for an HTLC that came with `amount` and `cltv_expiry`.
    pub fn forward(
        &self,
        amount: Msat,
        cltv_expiry: CltvExpiry,
    ) -> Result<BlindedForward, UnblindError> {
        self.check_constraints(amount, cltv_expiry)?;
        let next = match (self.short_channel_id, self.next_node_id) {
            (Some(scid), None) => NextHop::Channel(scid),
            (None, Some(node_id)) => NextHop::Node(node_id),
            (Some(_), Some(_)) | (None, None) => return Err(UnblindError::NextHop),
        };
        let relay = self.payment_relay.ok_or(UnblindError::NoPaymentRelay)?;
        Ok(BlindedForward {
            next,
            amt_to_forward: relay
                .amt_to_forward(amount)
                .ok_or(UnblindError::RelayUnpaid)?,
            outgoing_cltv_value: cltv_expiry
                .checked_sub(relay.cltv_expiry_delta)
                .ok_or(UnblindError::RelayUnpaid)?,
        })
    }

    /// BOLT 4, the reader: `payment_constraints` and `allowed_features`, of every node in the path.
    pub fn check_constraints(
        &self,
        amount: Msat,
        cltv_expiry: CltvExpiry,
    ) -> Result<(), UnblindError> {
        if let Some(constraints) = self.payment_constraints {
            if cltv_expiry > constraints.max_cltv_expiry {
                return Err(UnblindError::ExpiryTooLate);
            }
            if amount < constraints.htlc_minimum_msat {
                return Err(UnblindError::AmountTooSmall);
            }
        }
        if self.short_channel_id.is_some() && self.next_node_id.is_some() {
            return Err(UnblindError::NextHop);
        }
        // No feature has been defined for blinded paths, so any bit is an unknown one.
        match &self.allowed_features {
            Some(features) if !features.is_empty() => Err(UnblindError::UnknownFeature),
            Some(_) | None => Ok(()),
        }
    }
}

/// The length of a padding that takes `room` bytes beside its type and the first byte of its length. The
/// length takes 1, 3 or 5 bytes; where no padding fits exactly the next longer does.
pub(crate) fn padding_len(room: usize) -> usize {
    match room {
        0..=0xfc => room,
        0xfd..=0x1_0001 => (room - 2).max(0xfd),
        _ => room - 4,
    }
}

impl PaymentRelay {
    /// What is left to forward of `amount`, rounded as BOLT 4 says, but never so that this node's own fee
    /// is not covered. `None` when `amount` does not even pay the base fee, or nothing is left.
    pub fn amt_to_forward(&self, amount: Msat) -> Option<Msat> {
        const MILLION: u128 = 1_000_000;
        let after_base = amount.checked_sub(Msat::new(u64::from(self.fee_base_msat)))?;
        let after_base = u128::from(after_base.to_msat());
        let parts = MILLION + u128::from(self.fee_proportional_millionths);
        let rounded_up = (after_base * MILLION).div_ceil(parts);
        // The greatest f with f + floor(f * proportional / 1000000) <= after_base.
        let covered = ((after_base + 1) * MILLION).div_ceil(parts) - 1;
        let forward = rounded_up.min(covered);
        (forward > 0)
            .then(|| u64::try_from(forward).ok().map(Msat::new))
            .flatten()
    }
}

impl Encode for EncryptedData {
    fn encode(&self, out: &mut Vec<u8>) {
        let padding = self.padding_len.map(|len| alloc::vec![0u8; len]);
        TlvWriter::new(out)
            .put_some(PADDING, padding.as_ref())
            .put_some(SHORT_CHANNEL_ID, self.short_channel_id.as_ref())
            .put_some(NEXT_NODE_ID, self.next_node_id.as_ref())
            .put_some(PATH_ID, self.path_id.as_ref())
            .put_some(NEXT_PATH_KEY_OVERRIDE, self.next_path_key_override.as_ref())
            .put_some(PAYMENT_RELAY, self.payment_relay.as_ref())
            .put_some(PAYMENT_CONSTRAINTS, self.payment_constraints.as_ref())
            .put_some(
                ALLOWED_FEATURES,
                self.allowed_features
                    .as_ref()
                    .map(Features::to_be_bytes)
                    .as_ref(),
            );
    }
}

impl Decode for EncryptedData {
    /// Takes all that is left of `r`. Unknown odd fields are ignored, unknown even ones fail.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut data = Self::default();
        for record in TlvReader::new(r.take_rest()) {
            let record = record?;
            match record.kind {
                PADDING => data.padding_len = Some(record.value.len()),
                SHORT_CHANNEL_ID => data.short_channel_id = Some(record.parse()?),
                NEXT_NODE_ID => data.next_node_id = Some(record.parse()?),
                PATH_ID => data.path_id = Some(record.value.to_vec()),
                NEXT_PATH_KEY_OVERRIDE => data.next_path_key_override = Some(record.parse()?),
                PAYMENT_RELAY => data.payment_relay = Some(record.parse()?),
                PAYMENT_CONSTRAINTS => data.payment_constraints = Some(record.parse()?),
                ALLOWED_FEATURES => {
                    data.allowed_features = Some(Features::from_be_bytes(record.value));
                }
                _ => record.ignore_if_odd()?,
            }
        }
        Ok(data)
    }
}

impl Encode for PaymentRelay {
    fn encode(&self, out: &mut Vec<u8>) {
        self.cltv_expiry_delta.encode(out);
        self.fee_proportional_millionths.encode(out);
        Truncated(self.fee_base_msat).encode(out);
    }
}

impl Decode for PaymentRelay {
    /// Takes all that is left of `r`.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cltv_expiry_delta: Decode::decode(r)?,
            fee_proportional_millionths: Decode::decode(r)?,
            fee_base_msat: Truncated::decode(r)?.0,
        })
    }
}

impl Encode for PaymentConstraints {
    fn encode(&self, out: &mut Vec<u8>) {
        self.max_cltv_expiry.encode(out);
        Truncated(self.htlc_minimum_msat.to_msat()).encode(out);
    }
}

impl Decode for PaymentConstraints {
    /// Takes all that is left of `r`.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            max_cltv_expiry: Decode::decode(r)?,
            htlc_minimum_msat: Msat::new(Truncated::<u64>::decode(r)?.0),
        })
    }
}

impl Encode for BlindedRoute {
    /// The part of `blinded_path` after `first_node_id`. [`blind_route`] keeps the bounds of the counts.
    fn encode(&self, out: &mut Vec<u8>) {
        self.first_path_key.encode(out);
        let count = u8::try_from(self.path.len()).unwrap_or(u8::MAX);
        count.encode(out);
        for hop in self.path.iter().take(usize::from(count)) {
            hop.blinded_node_id.encode(out);
            U16Bytes(hop.encrypted_recipient_data.clone()).encode(out);
        }
    }
}

impl Decode for BlindedRoute {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let first_path_key = Decode::decode(r)?;
        let count = u8::decode(r)?;
        // BOLT 12: a path without hops is invalid wherever one is read.
        if count == 0 {
            return Err(DecodeError::InvalidValue("blinded path without hops"));
        }
        let mut path = Vec::new();
        for _ in 0..count {
            path.push(BlindedHop {
                blinded_node_id: Decode::decode(r)?,
                encrypted_recipient_data: r.take_u16_prefixed()?.to_vec(),
            });
        }
        Ok(Self {
            first_path_key,
            path,
        })
    }
}

impl Encode for BlindedPath {
    fn encode(&self, out: &mut Vec<u8>) {
        self.first_node_id.encode(out);
        self.route.encode(out);
    }
}

impl Decode for BlindedPath {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first_node_id: Decode::decode(r)?,
            route: Decode::decode(r)?,
        })
    }
}
