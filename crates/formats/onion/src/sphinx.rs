//! The packet itself, whatever its payloads mean: BOLT 4, "Packet Construction", "Onion Decryption" and
//! "Filler Generation".
//!
//! A packet is a version byte, a point, the payloads and 32 bytes of HMAC. The payloads of payments are
//! 1300 bytes long; onion messages have other sizes, so here a packet is a slice.

use alloc::{vec, vec::Vec};
use core::fmt;

use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::{self, PublicKey, Secp256k1, SecretKey, Signing, Verification},
};
use fulmen_types::{
    codec::{BigSize, Decode, Encode, Reader},
    wipe,
};

use crate::keys::{
    DerivedKey, KeyKind, SharedSecret, blinding_factor, derive_key, hmac, next_key, node_id_tweak,
    same, stream,
};

/// The length of the payloads of a payment's packet.
pub const PAYMENT_PAYLOADS_LEN: usize = 1300;
/// The length of a payment's packet.
pub const PAYMENT_PACKET_LEN: usize = PAYMENT_PAYLOADS_LEN + OVERHEAD;
/// Version, point and HMAC.
pub const OVERHEAD: usize = 1 + 33 + 32;

const HEADER_LEN: usize = 1 + 33;
const HMAC_LEN: usize = 32;
/// Nothing longer fits a Lightning message.
const PAYLOADS_LEN_MAX: usize = 65_535 - OVERHEAD;

/// Why no packet can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// A path without hops.
    NoHops,
    /// A payload of one byte or none: BOLT 4 reserves these lengths.
    PayloadTooShort {
        /// Which hop's, from 0.
        hop: usize,
    },
    /// The payloads need more bytes than the packet has: shorten the path, the metadata or the custom
    /// records.
    PayloadsTooLong {
        /// What they need, lengths and HMACs included.
        needed: usize,
        /// What there is.
        available: usize,
    },
    /// A packet size that no message can carry.
    SizeOutOfRange(usize),
    /// A custom TLV type below 65536, given twice, or with a field of its own (keysend).
    CustomTlv(u64),
    /// A final payload before the end of the path, or a forwarding payload at its end.
    PayloadPosition {
        /// Which hop's, from 0.
        hop: usize,
    },
    /// A derived key is no key: happens with no probability worth naming; use another session key.
    Key,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHops => f.write_str("the path has no hops"),
            Self::PayloadTooShort { hop } => {
                write!(
                    f,
                    "the payload of hop {hop} is shorter than 2 bytes (BOLT 4)"
                )
            }
            Self::PayloadsTooLong { needed, available } => write!(
                f,
                "the payloads need {needed} bytes and the onion has {available}: use a shorter path or less data"
            ),
            Self::SizeOutOfRange(size) => write!(f, "no message carries an onion of {size} bytes"),
            Self::CustomTlv(kind) => {
                write!(f, "custom TLV type {kind} is reserved or given twice")
            }
            Self::PayloadPosition { hop } => {
                write!(
                    f,
                    "the payload of hop {hop} does not suit its place in the path"
                )
            }
            Self::Key => f.write_str("a derived key is invalid: use another session key"),
        }
    }
}

impl core::error::Error for BuildError {}

impl From<secp256k1::Error> for BuildError {
    fn from(_: secp256k1::Error) -> Self {
        Self::Key
    }
}

/// One hop of a path: whom it is for and what they read, without length prefix.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The node's key; inside a blinded path the blinded one.
    pub node_id: PublicKey,
    /// The TLV stream.
    pub payload: Vec<u8>,
}

/// The secrets shared with each hop, from the first: what failures are decrypted with. They follow from
/// the session key and the hops, so a sender may keep only those.
pub fn shared_secrets<'a, C: Signing>(
    secp: &Secp256k1<C>,
    session_key: &SecretKey,
    node_ids: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<Vec<SharedSecret>, BuildError> {
    let public = PublicKey::from_secret_key(secp, session_key);
    secrets_from(secp, session_key, public, node_ids)
}

/// [`shared_secrets`] for a session key whose public half is known already.
fn secrets_from<'a, C: Signing>(
    secp: &Secp256k1<C>,
    session_key: &SecretKey,
    mut public: PublicKey,
    node_ids: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<Vec<SharedSecret>, BuildError> {
    let mut ephemeral = *session_key;
    let mut node_ids = node_ids.into_iter().peekable();
    let mut secrets = Vec::with_capacity(node_ids.size_hint().0);
    while let Some(node_id) = node_ids.next() {
        let secret = SharedSecret::ecdh(node_id, &ephemeral);
        // Nobody needs the key behind the last hop: a multiplication saved.
        if node_ids.peek().is_some() {
            ephemeral = ephemeral.mul_tweak(&blinding_factor(&public, &secret)?)?;
            public = PublicKey::from_secret_key(secp, &ephemeral);
        }
        secrets.push(secret);
    }
    ephemeral.non_secure_erase();
    Ok(secrets)
}

/// Builds a packet whose payloads have `payloads_len` bytes, 1300 for payments. `session_key` must be
/// fresh: the same one for two packets shows that they have one sender.
pub fn build<C: Signing>(
    secp: &Secp256k1<C>,
    session_key: &SecretKey,
    hops: &[Hop],
    associated_data: &[u8],
    payloads_len: usize,
) -> Result<(Vec<u8>, Vec<SharedSecret>), BuildError> {
    if payloads_len > PAYLOADS_LEN_MAX {
        return Err(BuildError::SizeOutOfRange(payloads_len));
    }
    check_sizes(hops, payloads_len)?;
    let public = PublicKey::from_secret_key(secp, session_key);
    let node_ids = hops.iter().map(|hop| &hop.node_id);
    let secrets = secrets_from(secp, session_key, public, node_ids)?;
    let rho_keys: Vec<DerivedKey> = secrets.iter().map(|s| s.key(KeyKind::Rho)).collect();
    let filler = filler(hops, &rho_keys, payloads_len);

    let mut packet = vec![0; payloads_len + OVERHEAD];
    packet[1..HEADER_LEN].copy_from_slice(&public.serialize());
    let payloads = &mut packet[HEADER_LEN..HEADER_LEN + payloads_len];
    let mut session = session_key.secret_bytes();
    stream(&derive_key(KeyKind::Pad, &session)).apply_keystream(payloads);
    wipe(&mut session);

    let mut next_hmac = [0; HMAC_LEN];
    for (i, hop) in hops.iter().enumerate().rev() {
        let shift = shift_size(&hop.payload);
        payloads.copy_within(..payloads_len - shift, shift);
        let prefix = BigSize(hop.payload.len() as u64).to_bytes();
        let (front, hmac_at) = (prefix.len(), shift - HMAC_LEN);
        payloads[..front].copy_from_slice(&prefix);
        payloads[front..hmac_at].copy_from_slice(&hop.payload);
        payloads[hmac_at..shift].copy_from_slice(&next_hmac);
        stream(&rho_keys[i]).apply_keystream(payloads);
        if i + 1 == hops.len() {
            payloads[payloads_len - filler.len()..].copy_from_slice(&filler);
        }
        next_hmac = hmac(
            &secrets[i].key(KeyKind::Mu)[..],
            &[payloads, associated_data],
        );
    }
    packet[HEADER_LEN + payloads_len..].copy_from_slice(&next_hmac);
    Ok((packet, secrets))
}

/// How many bytes a payload takes of a packet, with length and HMAC.
pub fn shift_size(payload: &[u8]) -> usize {
    let prefix = match payload.len() {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        _ => 5,
    };
    prefix + payload.len() + HMAC_LEN
}

fn check_sizes(hops: &[Hop], available: usize) -> Result<(), BuildError> {
    if hops.is_empty() {
        return Err(BuildError::NoHops);
    }
    // BOLT 4, Packet Structure: lengths 0 and 1 are reserved.
    if let Some(hop) = hops.iter().position(|hop| hop.payload.len() < 2) {
        return Err(BuildError::PayloadTooShort { hop });
    }
    let needed = hops.iter().fold(0usize, |sum, hop| {
        sum.saturating_add(shift_size(&hop.payload))
    });
    if needed > available {
        return Err(BuildError::PayloadsTooLong { needed, available });
    }
    Ok(())
}

/// The bytes that the hops before the last will have put at the packet's end.
fn filler(hops: &[Hop], rho_keys: &[DerivedKey], payloads_len: usize) -> Vec<u8> {
    let mut filler = Vec::with_capacity(payloads_len);
    let before_last = hops.len().saturating_sub(1);
    for (hop, rho) in hops.iter().zip(rho_keys).take(before_last) {
        // Sizes are checked: all shifts together fit the payloads, which fit 16 bits.
        let from = u32::try_from(payloads_len - filler.len()).unwrap_or(u32::MAX);
        filler.resize(filler.len() + shift_size(&hop.payload), 0);
        let mut stream = stream(rho);
        stream.seek(from);
        stream.apply_keystream(&mut filler);
    }
    filler
}

/// Why a packet can't be read. `version`, `hmac` and `key` failures go back as
/// `update_fail_malformed_htlc`; see [`crate::PeelError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// A version other than 0.
    Version(u8),
    /// The point is none.
    Key,
    /// The HMAC does not match: it was not made for this node, or changed on the way.
    Hmac,
    /// The decrypted length is malformed, reserved or too great.
    PayloadLength,
    /// Too few bytes for a packet.
    TooShort,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "unknown onion version {version} (BOLT 4)"),
            Self::Key => f.write_str("the onion's key is no point on the curve (BOLT 4)"),
            Self::Hmac => f.write_str("the onion's HMAC does not match (BOLT 4)"),
            Self::PayloadLength => f.write_str("the onion's payload length is invalid (BOLT 4)"),
            Self::TooShort => f.write_str("the onion is too short (BOLT 4)"),
        }
    }
}

impl core::error::Error for PacketError {}

/// One layer of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What this node was sent, without length prefix.
    pub payload: Vec<u8>,
    /// How many bytes the length prefix took, which `invalid_onion_payload` counts in its offset.
    pub prefix_len: usize,
    /// The packet for the next node; `None` at the end of the path.
    pub next: Option<Vec<u8>>,
}

/// The point that the node's key is to be multiplied with to get the shared secret.
///
/// `blinding` is the secret shared through the `path_key` that came beside the packet, inside a blinded
/// path: it moves the point, so that the node needs no second key.
pub fn ecdh_point<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    blinding: Option<&SharedSecret>,
) -> Result<PublicKey, PacketError> {
    blinded_point(secp, public_key(packet)?, blinding)
}

fn blinded_point<C: Verification>(
    secp: &Secp256k1<C>,
    point: PublicKey,
    blinding: Option<&SharedSecret>,
) -> Result<PublicKey, PacketError> {
    match blinding {
        None => Ok(point),
        Some(secret) => node_id_tweak(secret)
            .and_then(|tweak| point.mul_tweak(secp, &tweak))
            .map_err(|_| PacketError::Key),
    }
}

/// Takes one layer off, with the secret that [`ecdh_point`] and this node's key share.
///
/// The HMAC is compared in constant time before anything is decrypted. Whether a packet was seen
/// before is the caller's question.
pub fn peel<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    shared_secret: &SharedSecret,
    associated_data: &[u8],
) -> Result<Layer, PacketError> {
    peel_with(packet, shared_secret, associated_data, || {
        next_key(secp, &public_key(packet)?, shared_secret).map_err(|_| PacketError::Key)
    })
}

/// [`ecdh_point`], the exchange and [`peel`] at once, for those who hold the node's key: the packet's point
/// is read but once.
pub(crate) fn peel_with_key<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &[u8],
    node_key: &SecretKey,
    blinding: Option<&SharedSecret>,
    associated_data: &[u8],
) -> Result<(Layer, SharedSecret), PacketError> {
    let point = public_key(packet)?;
    let shared_secret = SharedSecret::ecdh(&blinded_point(secp, point, blinding)?, node_key);
    let layer = peel_with(packet, &shared_secret, associated_data, || {
        next_key(secp, &point, &shared_secret).map_err(|_| PacketError::Key)
    })?;
    Ok((layer, shared_secret))
}

/// [`peel`], where `next_point` gives the point of the next packet, which nobody asks for at the end of a
/// path.
fn peel_with(
    packet: &[u8],
    shared_secret: &SharedSecret,
    associated_data: &[u8],
    next_point: impl FnOnce() -> Result<PublicKey, PacketError>,
) -> Result<Layer, PacketError> {
    check_head(packet)?;
    let (payloads, hmac_received) = packet[HEADER_LEN..]
        .split_last_chunk::<HMAC_LEN>()
        .ok_or(PacketError::TooShort)?;
    let expected = hmac(
        &shared_secret.key(KeyKind::Mu)[..],
        &[payloads, associated_data],
    );
    if !same(&expected, hmac_received) {
        return Err(PacketError::Hmac);
    }

    let mut unwrapped = Vec::with_capacity(2 * payloads.len());
    unwrapped.extend_from_slice(payloads);
    let mut stream = shared_secret.stream(KeyKind::Rho);
    stream.apply_keystream(&mut unwrapped);
    let (prefix_len, payload_len) = payload_len(&unwrapped).ok_or(PacketError::PayloadLength)?;
    let hmac_at = prefix_len + payload_len;
    let shift = hmac_at + HMAC_LEN;
    let payload = unwrapped[prefix_len..hmac_at].to_vec();
    let next_hmac = unwrapped[hmac_at..shift].to_vec();
    if same(&next_hmac, &[0; HMAC_LEN]) {
        return Ok(Layer {
            payload,
            prefix_len,
            next: None,
        });
    }

    unwrapped.resize(payloads.len() + shift, 0);
    stream.apply_keystream(&mut unwrapped[payloads.len()..]);
    let next_point = next_point()?;
    let mut next = Vec::with_capacity(packet.len());
    next.push(0);
    next.extend_from_slice(&next_point.serialize());
    next.extend_from_slice(&unwrapped[shift..]);
    next.extend_from_slice(&next_hmac);
    Ok(Layer {
        payload,
        prefix_len,
        next: Some(next),
    })
}

/// The length of the prefix and of the payload, if all of it and an HMAC fit.
fn payload_len(unwrapped: &[u8]) -> Option<(usize, usize)> {
    let mut r = Reader::new(unwrapped);
    let len = usize::try_from(BigSize::decode(&mut r).ok()?.0).ok()?;
    let fits = len
        .checked_add(HMAC_LEN)
        .is_some_and(|needed| needed <= r.remaining().len());
    // BOLT 4, Onion Decryption: lengths 0 and 1 fail.
    (len >= 2 && fits).then(|| (unwrapped.len() - r.remaining().len(), len))
}

/// The length and the version, which are looked at first.
fn check_head(packet: &[u8]) -> Result<(), PacketError> {
    if packet.len() <= OVERHEAD {
        return Err(PacketError::TooShort);
    }
    if packet[0] != 0 {
        return Err(PacketError::Version(packet[0]));
    }
    Ok(())
}

fn public_key(packet: &[u8]) -> Result<PublicKey, PacketError> {
    check_head(packet)?;
    PublicKey::from_slice(&packet[1..HEADER_LEN]).map_err(|_| PacketError::Key)
}

/// `sha256_of_onion`, which malformed failures carry.
pub fn sha256_of_onion(packet: &[u8]) -> [u8; 32] {
    sha256::Hash::hash(packet).to_byte_array()
}
