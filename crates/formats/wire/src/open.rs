//! BOLT 2: establishing a channel, v1 and v2.

use bitcoin::{
    Amount, ScriptBuf, Txid,
    constants::ChainHash,
    secp256k1::{PublicKey, ecdsa::Signature},
};
use fulmen_types::{ChannelId, ChannelType, FeeratePerKw, Msat, PublicNonce, ShortChannelId};

use crate::{
    PartialSignatureWithNonce,
    codec::{Flag, Rest},
    macros::message,
};

/// Bit 0 of `channel_flags`: the opener wants the channel announced (BOLT 2).
pub const ANNOUNCE_CHANNEL: u8 = 1;

message! {
    /// Proposes a channel that the sender funds (BOLT 2, v1).
    OpenChannel = 32, "open_channel" {
        /// The chain.
        chain_hash: ChainHash,
        /// Names the channel until the funding transaction does.
        temporary_channel_id: ChannelId,
        /// What the opener puts in.
        funding_satoshis: Amount,
        /// What the opener gives to the peer at the start.
        push_msat: Msat,
        /// Outputs below this are left out of the opener's transactions.
        dust_limit_satoshis: Amount,
        /// The most that the peer may have in flight.
        max_htlc_value_in_flight_msat: Msat,
        /// What the peer must keep on its side.
        channel_reserve_satoshis: Amount,
        /// The least HTLC that the opener accepts.
        htlc_minimum_msat: Msat,
        /// The feerate of the first commitment transactions.
        feerate_per_kw: FeeratePerKw,
        /// The delay in blocks of the peer's `to_local` output.
        to_self_delay: u16,
        /// The most HTLCs that the peer may have in flight.
        max_accepted_htlcs: u16,
        /// Of the 2-of-2 funding output.
        funding_pubkey: PublicKey,
        /// Makes revocation keys (BOLT 3).
        revocation_basepoint: PublicKey,
        /// Receives `to_remote`.
        payment_basepoint: PublicKey,
        /// Makes `to_local` keys (BOLT 3).
        delayed_payment_basepoint: PublicKey,
        /// Makes HTLC keys (BOLT 3).
        htlc_basepoint: PublicKey,
        /// The point of the opener's commitment 0.
        first_per_commitment_point: PublicKey,
        /// Bit 0 is [`ANNOUNCE_CHANNEL`].
        channel_flags: u8,
    }
    tlvs {
        /// Where the sender wants its funds at a cooperative close; empty for no promise.
        0 upfront_shutdown_script: Option<ScriptBuf> as Rest,
        /// The kind of channel. The specification wants it always.
        1 channel_type: Option<ChannelType>,
        /// The verification nonce for the sender's first commitment (simple taproot channels).
        4 next_local_nonce: Option<PublicNonce>,
    }
}

impl OpenChannel {
    /// Whether the channel is to be announced.
    pub const fn announce_channel(&self) -> bool {
        self.channel_flags & ANNOUNCE_CHANNEL != 0
    }
}

message! {
    /// Agrees to [`OpenChannel`] (BOLT 2, v1).
    AcceptChannel = 33, "accept_channel" {
        /// The one of `open_channel`.
        temporary_channel_id: ChannelId,
        /// Outputs below this are left out of the fundee's transactions.
        dust_limit_satoshis: Amount,
        /// The most that the opener may have in flight.
        max_htlc_value_in_flight_msat: Msat,
        /// What the opener must keep on its side.
        channel_reserve_satoshis: Amount,
        /// The least HTLC that the fundee accepts.
        htlc_minimum_msat: Msat,
        /// Confirmations before the fundee sends `channel_ready`; 0 trusts the opener.
        minimum_depth: u32,
        /// The delay in blocks of the opener's `to_local` output.
        to_self_delay: u16,
        /// The most HTLCs that the opener may have in flight.
        max_accepted_htlcs: u16,
        /// Of the 2-of-2 funding output.
        funding_pubkey: PublicKey,
        /// Makes revocation keys (BOLT 3).
        revocation_basepoint: PublicKey,
        /// Receives `to_remote`.
        payment_basepoint: PublicKey,
        /// Makes `to_local` keys (BOLT 3).
        delayed_payment_basepoint: PublicKey,
        /// Makes HTLC keys (BOLT 3).
        htlc_basepoint: PublicKey,
        /// The point of the fundee's commitment 0.
        first_per_commitment_point: PublicKey,
    }
    tlvs {
        /// Where the sender wants its funds at a cooperative close; empty for no promise.
        0 upfront_shutdown_script: Option<ScriptBuf> as Rest,
        /// The kind of channel; the same as in `open_channel`.
        1 channel_type: Option<ChannelType>,
        /// The verification nonce for the sender's first commitment (simple taproot channels).
        4 next_local_nonce: Option<PublicNonce>,
    }
}

message! {
    /// The opener has made the funding transaction; signs the fundee's first commitment (BOLT 2, v1).
    FundingCreated = 34, "funding_created" {
        /// The one of `open_channel`.
        temporary_channel_id: ChannelId,
        /// The funding transaction.
        funding_txid: Txid,
        /// Its output that is the channel.
        funding_output_index: u16,
        /// On the fundee's first commitment transaction; zero in simple taproot channels.
        signature: Signature,
    }
    tlvs {
        /// On the fundee's first commitment transaction (simple taproot channels).
        2 partial_signature_with_nonce: Option<PartialSignatureWithNonce>,
    }
}

message! {
    /// Signs the opener's first commitment: the opener may broadcast the funding (BOLT 2, v1).
    FundingSigned = 35, "funding_signed" {
        /// The channel's lasting id.
        channel_id: ChannelId,
        /// On the opener's first commitment transaction; zero in simple taproot channels.
        signature: Signature,
    }
    tlvs {
        /// On the opener's first commitment transaction (simple taproot channels).
        2 partial_signature_with_nonce: Option<PartialSignatureWithNonce>,
    }
}

message! {
    /// The sender has seen the funding deep enough (BOLT 2).
    ChannelReady = 36, "channel_ready" {
        /// The channel.
        channel_id: ChannelId,
        /// The point of the sender's commitment 1.
        second_per_commitment_point: PublicKey,
    }
    tlvs {
        /// An alias under which the sender will know payments for this channel.
        1 short_channel_id: Option<ShortChannelId>,
        /// The verification nonce for the sender's commitment 1 (simple taproot channels).
        4 next_local_nonce: Option<PublicNonce>,
    }
}

message! {
    /// Proposes a channel that both may fund (BOLT 2, v2).
    OpenChannel2 = 64, "open_channel2" {
        /// The chain.
        chain_hash: ChainHash,
        /// Names the channel until both basepoints are known.
        temporary_channel_id: ChannelId,
        /// The feerate of the funding transaction.
        funding_feerate_perkw: FeeratePerKw,
        /// The feerate of the first commitment transactions.
        commitment_feerate_perkw: FeeratePerKw,
        /// What the opener puts in.
        funding_satoshis: Amount,
        /// Outputs below this are left out of the opener's transactions.
        dust_limit_satoshis: Amount,
        /// The most that the peer may have in flight.
        max_htlc_value_in_flight_msat: Msat,
        /// The least HTLC that the opener accepts.
        htlc_minimum_msat: Msat,
        /// The delay in blocks of the peer's `to_local` output.
        to_self_delay: u16,
        /// The most HTLCs that the peer may have in flight.
        max_accepted_htlcs: u16,
        /// Of the funding transaction.
        locktime: u32,
        /// Of the 2-of-2 funding output.
        funding_pubkey: PublicKey,
        /// Makes revocation keys (BOLT 3).
        revocation_basepoint: PublicKey,
        /// Receives `to_remote`.
        payment_basepoint: PublicKey,
        /// Makes `to_local` keys (BOLT 3).
        delayed_payment_basepoint: PublicKey,
        /// Makes HTLC keys (BOLT 3).
        htlc_basepoint: PublicKey,
        /// The point of the opener's commitment 0.
        first_per_commitment_point: PublicKey,
        /// The point of the opener's commitment 1.
        second_per_commitment_point: PublicKey,
        /// Bit 0 is [`ANNOUNCE_CHANNEL`].
        channel_flags: u8,
    }
    tlvs {
        /// Where the sender wants its funds at a cooperative close; empty for no promise.
        0 upfront_shutdown_script: Option<ScriptBuf> as Rest,
        /// The kind of channel.
        1 channel_type: Option<ChannelType>,
        /// The peer may only add confirmed inputs.
        2 require_confirmed_inputs: bool as Flag,
    }
}

message! {
    /// Agrees to [`OpenChannel2`] (BOLT 2, v2).
    AcceptChannel2 = 65, "accept_channel2" {
        /// The one of `open_channel2`.
        temporary_channel_id: ChannelId,
        /// What the accepter puts in.
        funding_satoshis: Amount,
        /// Outputs below this are left out of the accepter's transactions.
        dust_limit_satoshis: Amount,
        /// The most that the opener may have in flight.
        max_htlc_value_in_flight_msat: Msat,
        /// The least HTLC that the accepter accepts.
        htlc_minimum_msat: Msat,
        /// Confirmations before the accepter sends `channel_ready`.
        minimum_depth: u32,
        /// The delay in blocks of the opener's `to_local` output.
        to_self_delay: u16,
        /// The most HTLCs that the opener may have in flight.
        max_accepted_htlcs: u16,
        /// Of the 2-of-2 funding output.
        funding_pubkey: PublicKey,
        /// Makes revocation keys (BOLT 3).
        revocation_basepoint: PublicKey,
        /// Receives `to_remote`.
        payment_basepoint: PublicKey,
        /// Makes `to_local` keys (BOLT 3).
        delayed_payment_basepoint: PublicKey,
        /// Makes HTLC keys (BOLT 3).
        htlc_basepoint: PublicKey,
        /// The point of the accepter's commitment 0.
        first_per_commitment_point: PublicKey,
        /// The point of the accepter's commitment 1.
        second_per_commitment_point: PublicKey,
    }
    tlvs {
        /// Where the sender wants its funds at a cooperative close; empty for no promise.
        0 upfront_shutdown_script: Option<ScriptBuf> as Rest,
        /// The kind of channel; the same as in `open_channel2`.
        1 channel_type: Option<ChannelType>,
        /// The peer may only add confirmed inputs.
        2 require_confirmed_inputs: bool as Flag,
    }
}
