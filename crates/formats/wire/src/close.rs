//! BOLT 2: closing a channel together, and quiescence.

use bitcoin::{Amount, ScriptBuf, secp256k1::ecdsa::Signature};
use fulmen_types::{ChannelId, PartialSignature, PublicNonce};

use crate::{FeeRange, PartialSignatureWithNonce, macros::message};

message! {
    /// Asks the peer to stop updates: something fundamental follows (BOLT 2, `option_quiesce`).
    Stfu = 2, "stfu" {
        /// The channel.
        channel_id: ChannelId,
        /// Whether the sender started it.
        initiator: bool,
    }
    tlvs {}
}

message! {
    /// The sender wants to close and adds no more HTLCs (BOLT 2).
    Shutdown = 38, "shutdown" {
        /// The channel.
        channel_id: ChannelId,
        /// Where the sender wants its funds.
        scriptpubkey: ScriptBuf,
    }
    tlvs {
        /// The nonce of the sender's first [`ClosingSig`] (simple taproot channels).
        8 shutdown_nonce: Option<PublicNonce>,
    }
}

message! {
    /// Proposes a fee for the closing transaction and signs it (BOLT 2, legacy closing).
    ClosingSigned = 39, "closing_signed" {
        /// The channel.
        channel_id: ChannelId,
        /// The fee that the signed transaction pays.
        fee_satoshis: Amount,
        /// On the closing transaction.
        signature: Signature,
    }
    tlvs {
        /// The fees that the sender would agree to.
        1 fee_range: Option<FeeRange>,
    }
}

message! {
    /// Signs a closing transaction whose fee the sender pays (BOLT 2, `option_simple_close`).
    ClosingComplete = 40, "closing_complete" {
        /// The channel.
        channel_id: ChannelId,
        /// Where the sender's funds go.
        closer_scriptpubkey: ScriptBuf,
        /// Where the receiver's funds go.
        closee_scriptpubkey: ScriptBuf,
        /// The fee, from the sender's funds.
        fee_satoshis: Amount,
        /// Of the closing transaction.
        locktime: u32,
    }
    tlvs {
        /// On the transaction with the closer's output alone.
        1 closer_output_only: Option<Signature>,
        /// On the transaction with the closee's output alone.
        2 closee_output_only: Option<Signature>,
        /// On the transaction with both outputs.
        3 closer_and_closee_outputs: Option<Signature>,
        /// On the transaction with the closer's output alone (simple taproot channels).
        5 closer_no_closee: Option<PartialSignatureWithNonce>,
        /// On the transaction with the closee's output alone (simple taproot channels).
        6 no_closer_closee: Option<PartialSignatureWithNonce>,
        /// On the transaction with both outputs (simple taproot channels).
        7 closer_and_closee: Option<PartialSignatureWithNonce>,
    }
}

message! {
    /// Answers [`ClosingComplete`] with exactly one signature (BOLT 2, `option_simple_close`).
    ClosingSig = 41, "closing_sig" {
        /// The channel.
        channel_id: ChannelId,
        /// As in `closing_complete`.
        closer_scriptpubkey: ScriptBuf,
        /// As in `closing_complete`.
        closee_scriptpubkey: ScriptBuf,
        /// As in `closing_complete`.
        fee_satoshis: Amount,
        /// As in `closing_complete`.
        locktime: u32,
    }
    tlvs {
        /// On the transaction with the closer's output alone.
        1 closer_output_only: Option<Signature>,
        /// On the transaction with the closee's output alone.
        2 closee_output_only: Option<Signature>,
        /// On the transaction with both outputs.
        3 closer_and_closee_outputs: Option<Signature>,
        /// On the transaction with the closer's output alone (simple taproot channels).
        5 closer_no_closee: Option<PartialSignature>,
        /// On the transaction with the closee's output alone (simple taproot channels).
        6 no_closer_closee: Option<PartialSignature>,
        /// On the transaction with both outputs (simple taproot channels).
        7 closer_and_closee: Option<PartialSignature>,
        /// The nonce of the sender's next `closing_sig` (simple taproot channels).
        22 next_closee_nonce: Option<PublicNonce>,
    }
}
