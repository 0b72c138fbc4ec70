//! The failures that a node on the way can report: BOLT 4, "Failure Messages".

use alloc::vec::Vec;
use core::fmt;

use fulmen_types::{
    BlockHeight, CltvExpiry, CltvExpiryDelta, Msat,
    codec::{BigSize, Decode, DecodeError, Encode, Reader},
};

/// The packet could not be read by the reporting node's downstream peer.
pub const BADONION: u16 = 0x8000;
/// Permanent: trying again does not help.
pub const PERM: u16 = 0x4000;
/// The whole node failed, not a channel of it.
pub const NODE: u16 = 0x2000;
/// A forwarding parameter was violated; a `channel_update` may be inside.
pub const UPDATE: u16 = 0x1000;

/// A `channel_update` longer than this is left out on encoding: the message must fit on the way back.
pub const CHANNEL_UPDATE_LEN_MAX: usize = 1024;

/// `failuremsg`: a code and its data. A `channel_update` is the raw bytes as they came, often empty; it
/// may guide retries of the same payment and must never become gossip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureMessage {
    /// `temporary_node_failure`.
    TemporaryNodeFailure,
    /// `permanent_node_failure`.
    PermanentNodeFailure,
    /// `required_node_feature_missing`.
    RequiredNodeFeatureMissing,
    /// `invalid_onion_version`.
    InvalidOnionVersion {
        /// Of the packet that was refused.
        sha256_of_onion: [u8; 32],
    },
    /// `invalid_onion_hmac`.
    InvalidOnionHmac {
        /// Of the packet that was refused.
        sha256_of_onion: [u8; 32],
    },
    /// `invalid_onion_key`.
    InvalidOnionKey {
        /// Of the packet that was refused.
        sha256_of_onion: [u8; 32],
    },
    /// `temporary_channel_failure`.
    TemporaryChannelFailure {
        /// The channel's parameters, if given.
        channel_update: Vec<u8>,
    },
    /// `permanent_channel_failure`.
    PermanentChannelFailure,
    /// `required_channel_feature_missing`.
    RequiredChannelFeatureMissing,
    /// `unknown_next_peer`.
    UnknownNextPeer,
    /// `amount_below_minimum`.
    AmountBelowMinimum {
        /// The amount of the outgoing HTLC.
        htlc_msat: Msat,
        /// The channel's parameters, if given.
        channel_update: Vec<u8>,
    },
    /// `fee_insufficient`.
    FeeInsufficient {
        /// The amount of the incoming HTLC.
        htlc_msat: Msat,
        /// The channel's parameters, if given.
        channel_update: Vec<u8>,
    },
    /// `incorrect_cltv_expiry`.
    IncorrectCltvExpiry {
        /// The expiry of the outgoing HTLC.
        cltv_expiry: CltvExpiry,
        /// The channel's parameters, if given.
        channel_update: Vec<u8>,
    },
    /// `expiry_too_soon`.
    ExpiryTooSoon {
        /// The channel's parameters, if given.
        channel_update: Vec<u8>,
    },
    /// `incorrect_or_unknown_payment_details`.
    IncorrectOrUnknownPaymentDetails {
        /// The amount of the HTLC that came.
        htlc_msat: Msat,
        /// The payee's tip.
        height: BlockHeight,
    },
    /// `final_incorrect_cltv_expiry`.
    FinalIncorrectCltvExpiry {
        /// The expiry of the HTLC that came.
        cltv_expiry: CltvExpiry,
    },
    /// `final_incorrect_htlc_amount`.
    FinalIncorrectHtlcAmount {
        /// The amount of the HTLC that came.
        incoming_htlc_amt: Msat,
    },
    /// `channel_disabled`.
    ChannelDisabled {
        /// Always 0 for now.
        disabled_flags: u16,
        /// The channel's parameters, if given.
        channel_update: Vec<u8>,
    },
    /// `expiry_too_far`.
    ExpiryTooFar,
    /// `invalid_onion_payload`.
    InvalidOnionPayload {
        /// The TLV type at fault, 0 if there is none to name.
        tlv_type: u64,
        /// Where its record starts in the decrypted bytes.
        offset: u16,
    },
    /// `mpp_timeout`.
    MppTimeout,
    /// `invalid_onion_blinding`.
    InvalidOnionBlinding {
        /// Of the packet that was refused.
        sha256_of_onion: [u8; 32],
    },
    /// `temporary_trampoline_failure` (trampoline routing, a draft).
    TemporaryTrampolineFailure,
    /// `trampoline_fee_or_expiry_insufficient` (trampoline routing, a draft).
    TrampolineFeeOrExpiryInsufficient {
        /// What would do.
        fee_base_msat: u32,
        /// What would do.
        fee_proportional_millionths: u32,
        /// What would do.
        cltv_expiry_delta: CltvExpiryDelta,
    },
    /// `unknown_next_trampoline` (trampoline routing, a draft).
    UnknownNextTrampoline,
    /// A code that this software does not know, or data that are not what the code asks for. The flags
    /// of the code still hold.
    Unknown {
        /// The code.
        code: u16,
        /// Everything after it.
        data: Vec<u8>,
    },
}

impl FailureMessage {
    /// `failure_code`.
    pub const fn code(&self) -> u16 {
        match self {
            Self::TemporaryNodeFailure => NODE | 2,
            Self::PermanentNodeFailure => PERM | NODE | 2,
            Self::RequiredNodeFeatureMissing => PERM | NODE | 3,
            Self::InvalidOnionVersion { .. } => BADONION | PERM | 4,
            Self::InvalidOnionHmac { .. } => BADONION | PERM | 5,
            Self::InvalidOnionKey { .. } => BADONION | PERM | 6,
            Self::TemporaryChannelFailure { .. } => UPDATE | 7,
            Self::PermanentChannelFailure => PERM | 8,
            Self::RequiredChannelFeatureMissing => PERM | 9,
            Self::UnknownNextPeer => PERM | 10,
            Self::AmountBelowMinimum { .. } => UPDATE | 11,
            Self::FeeInsufficient { .. } => UPDATE | 12,
            Self::IncorrectCltvExpiry { .. } => UPDATE | 13,
            Self::ExpiryTooSoon { .. } => UPDATE | 14,
            Self::IncorrectOrUnknownPaymentDetails { .. } => PERM | 15,
            Self::FinalIncorrectCltvExpiry { .. } => 18,
            Self::FinalIncorrectHtlcAmount { .. } => 19,
            Self::ChannelDisabled { .. } => UPDATE | 20,
            Self::ExpiryTooFar => 21,
            Self::InvalidOnionPayload { .. } => PERM | 22,
            Self::MppTimeout => 23,
            Self::InvalidOnionBlinding { .. } => BADONION | PERM | 24,
            Self::TemporaryTrampolineFailure => NODE | 25,
            Self::TrampolineFeeOrExpiryInsufficient { .. } => NODE | 26,
            Self::UnknownNextTrampoline => PERM | 27,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// The specification's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TemporaryNodeFailure => "temporary_node_failure",
            Self::PermanentNodeFailure => "permanent_node_failure",
            Self::RequiredNodeFeatureMissing => "required_node_feature_missing",
            Self::InvalidOnionVersion { .. } => "invalid_onion_version",
            Self::InvalidOnionHmac { .. } => "invalid_onion_hmac",
            Self::InvalidOnionKey { .. } => "invalid_onion_key",
            Self::TemporaryChannelFailure { .. } => "temporary_channel_failure",
            Self::PermanentChannelFailure => "permanent_channel_failure",
            Self::RequiredChannelFeatureMissing => "required_channel_feature_missing",
            Self::UnknownNextPeer => "unknown_next_peer",
            Self::AmountBelowMinimum { .. } => "amount_below_minimum",
            Self::FeeInsufficient { .. } => "fee_insufficient",
            Self::IncorrectCltvExpiry { .. } => "incorrect_cltv_expiry",
            Self::ExpiryTooSoon { .. } => "expiry_too_soon",
            Self::IncorrectOrUnknownPaymentDetails { .. } => "incorrect_or_unknown_payment_details",
            Self::FinalIncorrectCltvExpiry { .. } => "final_incorrect_cltv_expiry",
            Self::FinalIncorrectHtlcAmount { .. } => "final_incorrect_htlc_amount",
            Self::ChannelDisabled { .. } => "channel_disabled",
            Self::ExpiryTooFar => "expiry_too_far",
            Self::InvalidOnionPayload { .. } => "invalid_onion_payload",
            Self::MppTimeout => "mpp_timeout",
            Self::InvalidOnionBlinding { .. } => "invalid_onion_blinding",
            Self::TemporaryTrampolineFailure => "temporary_trampoline_failure",
            Self::TrampolineFeeOrExpiryInsufficient { .. } => {
                "trampoline_fee_or_expiry_insufficient"
            }
            Self::UnknownNextTrampoline => "unknown_next_trampoline",
            Self::Unknown { .. } => "unknown failure",
        }
    }

    /// The PERM flag.
    pub const fn is_permanent(&self) -> bool {
        self.code() & PERM != 0
    }

    /// The NODE flag.
    pub const fn is_node_failure(&self) -> bool {
        self.code() & NODE != 0
    }

    /// The UPDATE flag.
    pub const fn is_update(&self) -> bool {
        self.code() & UPDATE != 0
    }

    /// The BADONION flag.
    pub const fn is_bad_onion(&self) -> bool {
        self.code() & BADONION != 0
    }

    /// The hash that failures with BADONION carry.
    pub const fn sha256_of_onion(&self) -> Option<[u8; 32]> {
        match self {
            Self::InvalidOnionVersion { sha256_of_onion }
            | Self::InvalidOnionHmac { sha256_of_onion }
            | Self::InvalidOnionKey { sha256_of_onion }
            | Self::InvalidOnionBlinding { sha256_of_onion } => Some(*sha256_of_onion),
            _ => None,
        }
    }

    /// The raw `channel_update`, if the failure carries one that is not empty.
    pub fn channel_update(&self) -> Option<&[u8]> {
        match self {
            Self::TemporaryChannelFailure { channel_update }
            | Self::AmountBelowMinimum { channel_update, .. }
            | Self::FeeInsufficient { channel_update, .. }
            | Self::IncorrectCltvExpiry { channel_update, .. }
            | Self::ExpiryTooSoon { channel_update }
            | Self::ChannelDisabled { channel_update, .. } => {
                Some(channel_update.as_slice()).filter(|update| !update.is_empty())
            }
            _ => None,
        }
    }

    /// The message for upstream when the downstream peer sent `update_fail_malformed_htlc` (BOLT 2).
    pub fn from_malformed(failure_code: u16, sha256_of_onion: [u8; 32]) -> Self {
        const VERSION: u16 = BADONION | PERM | 4;
        const HMAC: u16 = BADONION | PERM | 5;
        const KEY: u16 = BADONION | PERM | 6;
        const BLINDING: u16 = BADONION | PERM | 24;
        match failure_code {
            VERSION => Self::InvalidOnionVersion { sha256_of_onion },
            HMAC => Self::InvalidOnionHmac { sha256_of_onion },
            KEY => Self::InvalidOnionKey { sha256_of_onion },
            BLINDING => Self::InvalidOnionBlinding { sha256_of_onion },
            code => Self::Unknown {
                code,
                data: sha256_of_onion.to_vec(),
            },
        }
    }
}

impl fmt::Display for FailureMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { code, .. } => write!(f, "unknown failure 0x{code:04x}"),
            Self::InvalidOnionPayload { tlv_type, offset } => {
                write!(f, "{} (type {tlv_type} at byte {offset})", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}

impl Encode for FailureMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        self.code().encode(out);
        match self {
            Self::TemporaryNodeFailure
            | Self::PermanentNodeFailure
            | Self::RequiredNodeFeatureMissing
            | Self::PermanentChannelFailure
            | Self::RequiredChannelFeatureMissing
            | Self::UnknownNextPeer
            | Self::ExpiryTooFar
            | Self::MppTimeout
            | Self::TemporaryTrampolineFailure
            | Self::UnknownNextTrampoline => {}
            Self::TrampolineFeeOrExpiryInsufficient {
                fee_base_msat,
                fee_proportional_millionths,
                cltv_expiry_delta,
            } => {
                fee_base_msat.encode(out);
                fee_proportional_millionths.encode(out);
                cltv_expiry_delta.encode(out);
            }
            Self::InvalidOnionVersion { sha256_of_onion }
            | Self::InvalidOnionHmac { sha256_of_onion }
            | Self::InvalidOnionKey { sha256_of_onion }
            | Self::InvalidOnionBlinding { sha256_of_onion } => sha256_of_onion.encode(out),
            Self::TemporaryChannelFailure { channel_update }
            | Self::ExpiryTooSoon { channel_update } => put_update(out, channel_update),
            Self::AmountBelowMinimum {
                htlc_msat,
                channel_update,
            }
            | Self::FeeInsufficient {
                htlc_msat,
                channel_update,
            } => {
                htlc_msat.encode(out);
                put_update(out, channel_update);
            }
            Self::IncorrectCltvExpiry {
                cltv_expiry,
                channel_update,
            } => {
                cltv_expiry.encode(out);
                put_update(out, channel_update);
            }
            Self::IncorrectOrUnknownPaymentDetails { htlc_msat, height } => {
                htlc_msat.encode(out);
                height.encode(out);
            }
            Self::FinalIncorrectCltvExpiry { cltv_expiry } => cltv_expiry.encode(out),
            Self::FinalIncorrectHtlcAmount { incoming_htlc_amt } => incoming_htlc_amt.encode(out),
            Self::ChannelDisabled {
                disabled_flags,
                channel_update,
            } => {
                disabled_flags.encode(out);
                put_update(out, channel_update);
            }
            Self::InvalidOnionPayload { tlv_type, offset } => {
                BigSize(*tlv_type).encode(out);
                offset.encode(out);
            }
            Self::Unknown { data, .. } => out.extend_from_slice(data),
        }
    }
}

impl Decode for FailureMessage {
    /// Takes all that is left of `r`. Bytes after the data are ignored (BOLT 4, "Receiving Failure
    /// Codes"); data that do not parse make the failure [`FailureMessage::Unknown`]. Only a missing code
    /// is an error.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = u16::decode(r)?;
        let data = r.take_rest();
        Ok(
            decode_data(code, &mut Reader::new(data)).unwrap_or_else(|_| Self::Unknown {
                code,
                data: data.to_vec(),
            }),
        )
    }
}

fn decode_data(code: u16, r: &mut Reader<'_>) -> Result<FailureMessage, DecodeError> {
    use FailureMessage as F;
    let flags = code & 0xff00;
    Ok(match (flags, code & 0x00ff) {
        (NODE, 2) => F::TemporaryNodeFailure,
        (PERM_NODE, 2) => F::PermanentNodeFailure,
        (PERM_NODE, 3) => F::RequiredNodeFeatureMissing,
        (BADONION_PERM, 4 | 5 | 6 | 24) => F::from_malformed(code, r.take_array()?),
        (UPDATE, 7) => F::TemporaryChannelFailure {
            channel_update: take_update(r)?,
        },
        (PERM, 8) => F::PermanentChannelFailure,
        (PERM, 9) => F::RequiredChannelFeatureMissing,
        (PERM, 10) => F::UnknownNextPeer,
        (UPDATE, 11) => F::AmountBelowMinimum {
            htlc_msat: Decode::decode(r)?,
            channel_update: take_update(r)?,
        },
        (UPDATE, 12) => F::FeeInsufficient {
            htlc_msat: Decode::decode(r)?,
            channel_update: take_update(r)?,
        },
        (UPDATE, 13) => F::IncorrectCltvExpiry {
            cltv_expiry: Decode::decode(r)?,
            channel_update: take_update(r)?,
        },
        (UPDATE, 14) => F::ExpiryTooSoon {
            channel_update: take_update(r)?,
        },
        (PERM, 15) => F::IncorrectOrUnknownPaymentDetails {
            htlc_msat: Decode::decode(r)?,
            height: Decode::decode(r)?,
        },
        (0, 18) => F::FinalIncorrectCltvExpiry {
            cltv_expiry: Decode::decode(r)?,
        },
        (0, 19) => F::FinalIncorrectHtlcAmount {
            incoming_htlc_amt: Decode::decode(r)?,
        },
        (UPDATE, 20) => F::ChannelDisabled {
            disabled_flags: Decode::decode(r)?,
            channel_update: take_update(r)?,
        },
        (0, 21) => F::ExpiryTooFar,
        (PERM, 22) => F::InvalidOnionPayload {
            tlv_type: BigSize::decode(r)?.0,
            offset: Decode::decode(r)?,
        },
        (0, 23) => F::MppTimeout,
        (NODE, 25) => F::TemporaryTrampolineFailure,
        (NODE, 26) => F::TrampolineFeeOrExpiryInsufficient {
            fee_base_msat: Decode::decode(r)?,
            fee_proportional_millionths: Decode::decode(r)?,
            cltv_expiry_delta: Decode::decode(r)?,
        },
        (PERM, 27) => F::UnknownNextTrampoline,
        _ => return Err(DecodeError::InvalidValue("unknown failure code")),
    })
}

const PERM_NODE: u16 = PERM | NODE;
const BADONION_PERM: u16 = BADONION | PERM;

fn take_update(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    r.take_u16_prefixed().map(<[u8]>::to_vec)
}

/// Nothing of an update is better than a part: it is optional, and its length is 0 then.
fn put_update(out: &mut Vec<u8>, update: &[u8]) {
    let update = if update.len() <= CHANNEL_UPDATE_LEN_MAX {
        update
    } else {
        &[]
    };
    u16::try_from(update.len()).unwrap_or(0).encode(out);
    out.extend_from_slice(update);
}
