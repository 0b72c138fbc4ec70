//! What a channel agrees on once and for all.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::{
    Amount, OutPoint, ScriptBuf,
    hex::DisplayHex,
    secp256k1::{PublicKey, ecdsa},
};
use bitcoin::{TxOut, Witness};
use fulmen_types::{
    ChannelType, Feature,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::scripts;

/// The form of a channel's commitment transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommitmentFormat {
    /// `option_static_remotekey` alone: fees in every transaction, nothing to bump them with.
    StaticRemoteKey,
    /// `option_anchors`: an anchor output each, and HTLC transactions that pay no fee by themselves.
    AnchorsZeroFeeHtlc,
}

impl CommitmentFormat {
    /// The format that a channel type asks for; `None` for one that this crate can't build.
    /// `option_scid_alias` and `option_zeroconf` don't change transactions.
    pub fn from_channel_type(channel_type: &ChannelType) -> Option<Self> {
        let known = [
            Feature::StaticRemoteKey,
            Feature::Anchors,
            Feature::ScidAlias,
            Feature::ZeroConf,
        ];
        let all_known = channel_type
            .features()
            .bits()
            .all(|bit| known.iter().any(|feature| feature.even_bit() == bit));
        if !all_known || !channel_type.has(Feature::StaticRemoteKey) {
            None
        } else if channel_type.has(Feature::Anchors) {
            Some(Self::AnchorsZeroFeeHtlc)
        } else {
            Some(Self::StaticRemoteKey)
        }
    }

    /// Whether commitment transactions have anchor outputs.
    pub const fn has_anchors(self) -> bool {
        match self {
            Self::StaticRemoteKey => false,
            Self::AnchorsZeroFeeHtlc => true,
        }
    }
}

impl Encode for CommitmentFormat {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::StaticRemoteKey => 0,
            Self::AnchorsZeroFeeHtlc => 1,
        });
    }
}

impl Decode for CommitmentFormat {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(Self::StaticRemoteKey),
            1 => Ok(Self::AnchorsZeroFeeHtlc),
            _ => Err(DecodeError::InvalidValue("unknown commitment format")),
        }
    }
}

/// One of the two ends of a channel, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This node.
    Local,
    /// The peer.
    Remote,
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

impl Encode for Side {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Local => 0,
            Self::Remote => 1,
        });
    }
}

impl Decode for Side {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(Self::Local),
            1 => Ok(Self::Remote),
            _ => Err(DecodeError::InvalidValue("side that is neither end")),
        }
    }
}

/// Finds a channel's secrets in the signer: drawn at random when the channel is begun, kept in its
/// record, never shown to a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKeysId([u8; 32]);

impl ChannelKeysId {
    /// Wraps the bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bytes by value.
    pub const fn to_byte_array(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for ChannelKeysId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelKeysId({})", self.0.as_hex())
    }
}

impl fmt::Display for ChannelKeysId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hex())
    }
}

impl Encode for ChannelKeysId {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for ChannelKeysId {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array().map(Self)
    }
}

/// One side's public keys, as `open_channel` and `accept_channel` carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPublicKeys {
    /// Its half of the funding output, and the key of its anchor.
    pub funding: PublicKey,
    /// Makes the revocation keys of the other side's commitments.
    pub revocation_basepoint: PublicKey,
    /// Itself the `remotepubkey` of the other side's commitments.
    pub payment_basepoint: PublicKey,
    /// Makes the delayed keys of its own commitments.
    pub delayed_payment_basepoint: PublicKey,
    /// Makes the HTLC keys of both sides' commitments.
    pub htlc_basepoint: PublicKey,
}

impl Encode for ChannelPublicKeys {
    fn encode(&self, out: &mut Vec<u8>) {
        self.funding.encode(out);
        self.revocation_basepoint.encode(out);
        self.payment_basepoint.encode(out);
        self.delayed_payment_basepoint.encode(out);
        self.htlc_basepoint.encode(out);
    }
}

impl Decode for ChannelPublicKeys {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            funding: Decode::decode(r)?,
            revocation_basepoint: Decode::decode(r)?,
            payment_basepoint: Decode::decode(r)?,
            delayed_payment_basepoint: Decode::decode(r)?,
            htlc_basepoint: Decode::decode(r)?,
        })
    }
}

/// What shapes one side's commitment transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartyParameters {
    /// This side's keys.
    pub keys: ChannelPublicKeys,
    /// Blocks that this side waits for its own money on its own commitment. The other side chose it:
    /// it is the `to_self_delay` of the message that the other side sent.
    pub to_self_delay: u16,
    /// Below this, this side's own commitment has no output: its own `dust_limit_satoshis`.
    pub dust_limit: Amount,
}

impl Encode for PartyParameters {
    fn encode(&self, out: &mut Vec<u8>) {
        self.keys.encode(out);
        self.to_self_delay.encode(out);
        self.dust_limit.encode(out);
    }
}

impl Decode for PartyParameters {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            keys: Decode::decode(r)?,
            to_self_delay: Decode::decode(r)?,
            dust_limit: Decode::decode(r)?,
        })
    }
}

/// The output that holds a channel's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Funding {
    /// Where it is.
    pub outpoint: OutPoint,
    /// How much it holds.
    pub value: Amount,
}

impl Encode for Funding {
    fn encode(&self, out: &mut Vec<u8>) {
        self.outpoint.encode(out);
        self.value.encode(out);
    }
}

impl Decode for Funding {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            outpoint: Decode::decode(r)?,
            value: Decode::decode(r)?,
        })
    }
}

/// Everything about a channel that its transactions depend on and that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelParameters {
    /// Finds our secrets in the signer.
    pub keys_id: ChannelKeysId,
    /// The form of the commitment transactions.
    pub format: CommitmentFormat,
    /// Who opened the channel, and so pays the fees of commitment transactions.
    pub opener: Side,
    /// Our side.
    pub local: PartyParameters,
    /// The peer's side.
    pub remote: PartyParameters,
    /// The funding output.
    pub funding: Funding,
}

impl ChannelParameters {
    /// One side's part.
    pub const fn party(&self, side: Side) -> &PartyParameters {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// The 2-of-2 script that the funding output pays to the hash of.
    pub fn funding_witness_script(&self) -> ScriptBuf {
        scripts::funding(&self.local.keys.funding, &self.remote.keys.funding)
    }

    /// The funding output.
    pub fn funding_txout(&self) -> TxOut {
        TxOut {
            value: self.funding.value,
            script_pubkey: self.funding_witness_script().to_p2wsh(),
        }
    }

    /// The witness that spends the funding output, for signatures with `SIGHASH_ALL`.
    pub fn funding_witness(&self, local: &ecdsa::Signature, remote: &ecdsa::Signature) -> Witness {
        scripts::funding_witness(
            (&self.local.keys.funding, local),
            (&self.remote.keys.funding, remote),
        )
    }
}

impl Encode for ChannelParameters {
    fn encode(&self, out: &mut Vec<u8>) {
        self.keys_id.encode(out);
        self.format.encode(out);
        self.opener.encode(out);
        self.local.encode(out);
        self.remote.encode(out);
        self.funding.encode(out);
    }
}

impl Decode for ChannelParameters {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            keys_id: Decode::decode(r)?,
            format: Decode::decode(r)?,
            opener: Decode::decode(r)?,
            local: Decode::decode(r)?,
            remote: Decode::decode(r)?,
            funding: Decode::decode(r)?,
        })
    }
}
