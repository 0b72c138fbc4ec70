//! A funded channel's state without its HTLCs: what the record in `Space::Channel` holds.

use alloc::{string::String, vec::Vec};

use bitcoin::{
    ScriptBuf, Transaction, Txid,
    secp256k1::{PublicKey, ecdsa::Signature},
};
use fulmen_tx::{ChannelParameters, CommitmentSecrets, Side};
use fulmen_types::{
    BlockHeight, ChannelId, ChannelType, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat,
    ShortChannelId, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_list, decode_text, encode_text},
};

use crate::{error::Rule, htlc::UpdateState, output::CloseReason};

/// What one side asks of the other's HTLCs and balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `channel_reserve_satoshis`: what the other side keeps.
    pub reserve: bitcoin::Amount,
    /// `htlc_minimum_msat`: the least HTLC of the other side.
    pub htlc_minimum: Msat,
    /// `max_htlc_value_in_flight_msat`: the most in flight from the other side.
    pub max_in_flight: Msat,
    /// `max_accepted_htlcs`: the most HTLCs in flight from the other side.
    pub max_accepted_htlcs: u16,
}

/// A feerate on its way through the commitments; told from the opener's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeeUpdate {
    pub(crate) feerate: FeeratePerKw,
    pub(crate) state: UpdateState,
}

/// Our per-commitment points around the current commitment N.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    /// Of N-2 and N-1: they prove the secrets that a peer shows on reconnection.
    pub(crate) previous: [Option<PublicKey>; 2],
    /// Of N.
    pub(crate) current: PublicKey,
    /// Of N+1. Missing while the signer is slow: then our `revoke_and_ack` waits.
    pub(crate) next: Option<PublicKey>,
    /// Of N+2, asked for when N becomes current.
    pub(crate) after_next: Option<PublicKey>,
}

impl Points {
    /// N+1 becomes current. The caller has checked that its point is there.
    pub(crate) fn advance(&mut self) {
        if let Some(next) = self.next {
            self.previous = [self.previous[1], Some(self.current)];
            self.current = next;
            self.next = self.after_next.take();
        }
    }
}

/// Where the funding transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub(crate) height: BlockHeight,
    pub(crate) tx_index: u32,
}

/// The later of our last `commitment_signed` and `revoke_and_ack`: what is resent keeps their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastSent {
    Neither,
    CommitmentSigned,
    RevokeAndAck,
}

/// Node and funding key signatures on the `channel_announcement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnnouncementHalf {
    pub(crate) short_channel_id: ShortChannelId,
    pub(crate) node: Signature,
    pub(crate) bitcoin: Signature,
}

/// Our `shutdown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalShutdown {
    pub(crate) script: ScriptBuf,
    /// What the owner wants the closing transaction to pay.
    pub(crate) feerate: Option<FeeratePerKw>,
    /// Whether it was said; before, updates of ours wait for the peer.
    pub(crate) sent: bool,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// Whether the channel lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It does.
    Open,
    /// We close by our commitment.
    Closing {
        reason: CloseReason,
        height: BlockHeight,
    },
    /// Our state is old: never broadcast, never sign.
    Stale,
}

/// The signer refused what the channel needed: it says and signs nothing until its owner unblocks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignerBlock {
    /// What the signer said.
    pub(crate) reason: String,
}

/// The funding output is spent on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) txid: Txid,
    pub(crate) height: BlockHeight,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Core {
    pub(crate) peer_node_id: PublicKey,
    pub(crate) channel_id: ChannelId,
    pub(crate) params: ChannelParameters,
    pub(crate) channel_type: ChannelType,
    pub(crate) announce: bool,
    /// What we ask of the peer.
    pub(crate) local_limits: Limits,
    /// What the peer asks of us.
    pub(crate) remote_limits: Limits,
    pub(crate) minimum_depth: u32,
    pub(crate) local_upfront_script: Option<ScriptBuf>,
    pub(crate) remote_upfront_script: Option<ScriptBuf>,
    pub(crate) sweep_script: ScriptBuf,
    pub(crate) alias: ShortChannelId,
    pub(crate) created_at: BlockHeight,

    /// Of the opener, until it is deep.
    pub(crate) funding_transaction: Option<Transaction>,
    pub(crate) confirmation: Option<Confirmation>,
    pub(crate) ready_sent: bool,
    pub(crate) ready_received: bool,
    pub(crate) peer_alias: Option<ShortChannelId>,
    pub(crate) local_announcement: Option<AnnouncementHalf>,
    pub(crate) remote_announcement: Option<AnnouncementHalf>,

    /// Our balance with all HTLCs that are irrevocably removed, and no other.
    pub(crate) settled_local: Msat,
    /// The same of the peer.
    pub(crate) settled_remote: Msat,
    /// Oldest first; the first has reached both commitments.
    pub(crate) feerates: Vec<FeeUpdate>,
    /// HTLC ids that signatures cover.
    pub(crate) next_local_htlc_id: HtlcId,
    pub(crate) next_remote_htlc_id: HtlcId,

    /// Of our newest commitment: the last that the peer signed.
    pub(crate) local_number: CommitmentNumber,
    pub(crate) local_points: Points,
    pub(crate) counterparty_signature: Signature,
    pub(crate) htlc_signatures: Vec<Signature>,
    /// We have the peer's signature for the newest but could not yet revoke the one before.
    pub(crate) revocation_owed: bool,

    /// Of the peer's newest commitment: the last that we signed.
    pub(crate) remote_number: CommitmentNumber,
    /// Of the peer's oldest commitment that is not revoked.
    pub(crate) remote_point: PublicKey,
    /// Of the one after it.
    pub(crate) remote_next_point: Option<PublicKey>,
    /// We signed `remote_number`; the one before is not revoked yet.
    pub(crate) awaiting_revocation: bool,
    pub(crate) secrets: CommitmentSecrets,
    pub(crate) last_sent: LastSent,

    pub(crate) local_shutdown: Option<LocalShutdown>,
    pub(crate) remote_shutdown: Option<ScriptBuf>,
    /// The peer has sent `closing_signed`: our last revocation has arrived.
    pub(crate) closing_received: bool,
    /// The mutual close that both have signed.
    pub(crate) mutual_close: Option<Transaction>,
    pub(crate) status: Status,
    pub(crate) frozen: Option<Frozen>,
    pub(crate) blocked: Option<SignerBlock>,
    /// Taken from a backup, and not yet proven to be the newest.
    pub(crate) restored: bool,
}

impl Core {
    /// What `side` asks of the other.
    pub(crate) const fn limits_of(&self, side: Side) -> &Limits {
        match side {
            Side::Local => &self.local_limits,
            Side::Remote => &self.remote_limits,
        }
    }

    /// How many of our commitments are revoked: the number of the next `revoke_and_ack` that the peer
    /// should expect.
    pub(crate) fn revocations_sent(&self) -> u64 {
        self.local_number.to_u64() - u64::from(self.revocation_owed)
    }

    /// How many of the peer's commitments are revoked.
    pub(crate) fn revocations_received(&self) -> u64 {
        self.remote_number.to_u64() - u64::from(self.awaiting_revocation)
    }

    /// The script that our funds go to at a cooperative close, unless the owner names another.
    pub(crate) const fn default_shutdown_script(&self) -> &ScriptBuf {
        match &self.local_upfront_script {
            Some(script) => script,
            None => &self.sweep_script,
        }
    }

    /// What of it is on disk: a feerate that no signature covers is not.
    pub(crate) fn durable(&self) -> Self {
        let mut core = self.clone();
        core.feerates.retain(|fee| fee.state != UpdateState::Add);
        core
    }
}

impl Encode for Limits {
    fn encode(&self, out: &mut Vec<u8>) {
        self.reserve.encode(out);
        self.htlc_minimum.encode(out);
        self.max_in_flight.encode(out);
        self.max_accepted_htlcs.encode(out);
    }
}

impl Decode for Limits {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            reserve: Decode::decode(r)?,
            htlc_minimum: Decode::decode(r)?,
            max_in_flight: Decode::decode(r)?,
            max_accepted_htlcs: Decode::decode(r)?,
        })
    }
}

/// Declares the codec of a struct as its fields in order.
macro_rules! record {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)*
            }
        }

        impl Decode for $name {
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Decode::decode(r)?),* })
            }
        }
    };
}

record!(FeeUpdate { feerate, state });
record!(Confirmation { height, tx_index });
record!(AnnouncementHalf {
    short_channel_id,
    node,
    bitcoin
});
record!(LocalShutdown {
    script,
    feerate,
    sent,
    since
});
record!(Frozen { txid, height });

impl Encode for Points {
    fn encode(&self, out: &mut Vec<u8>) {
        self.previous[0].encode(out);
        self.previous[1].encode(out);
        self.current.encode(out);
        self.next.encode(out);
        self.after_next.encode(out);
    }
}

impl Decode for Points {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            previous: [Decode::decode(r)?, Decode::decode(r)?],
            current: Decode::decode(r)?,
            next: Decode::decode(r)?,
            after_next: Decode::decode(r)?,
        })
    }
}

impl Encode for LastSent {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Neither => 0,
            Self::CommitmentSigned => 1,
            Self::RevokeAndAck => 2,
        });
    }
}

impl Decode for LastSent {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(Self::Neither),
            1 => Ok(Self::CommitmentSigned),
            2 => Ok(Self::RevokeAndAck),
            _ => Err(DecodeError::InvalidValue("last message sent")),
        }
    }
}

impl Encode for Status {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open => out.push(0),
            Self::Closing { reason, height } => {
                out.push(1);
                reason.encode(out);
                height.encode(out);
            }
            Self::Stale => out.push(2),
        }
    }
}

impl Decode for Status {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            0 => Self::Open,
            1 => Self::Closing {
                reason: Decode::decode(r)?,
                height: Decode::decode(r)?,
            },
            2 => Self::Stale,
            _ => return Err(DecodeError::InvalidValue("status of a channel")),
        })
    }
}

impl Encode for CloseReason {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Requested => out.push(0),
            Self::PeerFault(rule) => {
                out.push(1);
                rule.encode(out);
            }
            Self::PeerError(text) => {
                out.push(2);
                encode_text(text, out);
            }
            Self::OfferedHtlcExpired {
                id,
                cltv_expiry,
                deadline,
            } => {
                out.push(3);
                id.encode(out);
                cltv_expiry.encode(out);
                deadline.encode(out);
            }
            Self::FulfilledHtlcExpiring {
                id,
                cltv_expiry,
                deadline,
            } => {
                out.push(4);
                id.encode(out);
                cltv_expiry.encode(out);
                deadline.encode(out);
            }
            Self::ClosingTimeout => out.push(5),
        }
    }
}

impl Decode for CloseReason {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let htlc = |r: &mut Reader<'_>| -> Result<(HtlcId, CltvExpiry, BlockHeight), DecodeError> {
            Ok((Decode::decode(r)?, Decode::decode(r)?, Decode::decode(r)?))
        };
        Ok(match u8::decode(r)? {
            0 => Self::Requested,
            1 => Self::PeerFault(Rule::decode(r)?),
            2 => Self::PeerError(decode_text(r)?),
            3 => {
                let (id, cltv_expiry, deadline) = htlc(r)?;
                Self::OfferedHtlcExpired {
                    id,
                    cltv_expiry,
                    deadline,
                }
            }
            4 => {
                let (id, cltv_expiry, deadline) = htlc(r)?;
                Self::FulfilledHtlcExpiring {
                    id,
                    cltv_expiry,
                    deadline,
                }
            }
            5 => Self::ClosingTimeout,
            _ => return Err(DecodeError::InvalidValue("reason of a close")),
        })
    }
}

impl Encode for SignerBlock {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(&self.reason, out);
    }
}

impl Decode for SignerBlock {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            reason: decode_text(r)?,
        })
    }
}

/// The version of the record.
const VERSION: u8 = 2;

macro_rules! core_record {
    ($($field:ident),* $(,)?) => {
        impl Encode for Core {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(VERSION);
                self.channel_type.features().encode(out);
                self.feerates.as_slice().encode(out);
                self.htlc_signatures.as_slice().encode(out);
                $(self.$field.encode(out);)*
            }
        }

        impl Decode for Core {
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                if u8::decode(r)? != VERSION {
                    return Err(DecodeError::InvalidValue("version of a channel record"));
                }
                Ok(Self {
                    channel_type: ChannelType::from_features(Decode::decode(r)?),
                    feerates: decode_list(r)?,
                    htlc_signatures: decode_list(r)?,
                    $($field: Decode::decode(r)?),*
                })
            }
        }
    };
}

core_record!(
    peer_node_id,
    channel_id,
    params,
    announce,
    local_limits,
    remote_limits,
    minimum_depth,
    local_upfront_script,
    remote_upfront_script,
    sweep_script,
    alias,
    created_at,
    funding_transaction,
    confirmation,
    ready_sent,
    ready_received,
    peer_alias,
    local_announcement,
    remote_announcement,
    settled_local,
    settled_remote,
    next_local_htlc_id,
    next_remote_htlc_id,
    local_number,
    local_points,
    counterparty_signature,
    revocation_owed,
    remote_number,
    remote_point,
    remote_next_point,
    awaiting_revocation,
    secrets,
    last_sent,
    local_shutdown,
    remote_shutdown,
    closing_received,
    mutual_close,
    status,
    frozen,
    blocked,
    restored,
);
