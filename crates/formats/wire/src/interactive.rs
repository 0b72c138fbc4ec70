//! BOLT 2: transactions that both ends construct, and splices.

use alloc::vec::Vec;

use bitcoin::{
    Amount, ScriptBuf, SignedAmount, Transaction, Txid, Witness,
    secp256k1::{PublicKey, ecdsa::Signature},
};
use fulmen_types::{ChannelId, FeeratePerKw, Printable};

use crate::{
    codec::{Flag, S64, U16Prefixed},
    macros::message,
};

message! {
    /// Adds an input (BOLT 2, interactive transaction construction).
    TxAddInput = 66, "tx_add_input" {
        /// The channel.
        channel_id: ChannelId,
        /// Names the input; even from the initiator.
        serial_id: u64,
        /// The transaction that is spent; absent for the shared input.
        prevtx: Option<Transaction> as U16Prefixed,
        /// Its output that is spent.
        prevtx_vout: u32,
        /// At most `0xfffffffd`.
        sequence: u32,
    }
    tlvs {
        /// The channel's current funding transaction, for the shared input of a splice.
        0 shared_input_txid: Option<Txid>,
    }
}

message! {
    /// Adds an output (BOLT 2, interactive transaction construction).
    TxAddOutput = 67, "tx_add_output" {
        /// The channel.
        channel_id: ChannelId,
        /// Names the output; even from the initiator.
        serial_id: u64,
        /// The output's value.
        sats: Amount,
        /// The output's script.
        script: ScriptBuf,
    }
    tlvs {}
}

message! {
    /// Takes an input of the sender's back (BOLT 2, interactive transaction construction).
    TxRemoveInput = 68, "tx_remove_input" {
        /// The channel.
        channel_id: ChannelId,
        /// The input.
        serial_id: u64,
    }
    tlvs {}
}

message! {
    /// Takes an output of the sender's back (BOLT 2, interactive transaction construction).
    TxRemoveOutput = 69, "tx_remove_output" {
        /// The channel.
        channel_id: ChannelId,
        /// The output.
        serial_id: u64,
    }
    tlvs {}
}

message! {
    /// The sender has nothing to add (BOLT 2, interactive transaction construction).
    TxComplete = 70, "tx_complete" {
        /// The channel.
        channel_id: ChannelId,
    }
    tlvs {}
}

message! {
    /// The sender's witnesses (BOLT 2, interactive transaction construction).
    TxSignatures = 71, "tx_signatures" {
        /// The channel.
        channel_id: ChannelId,
        /// The transaction that is signed.
        txid: Txid,
        /// One for each input of the sender's, by rising serial id.
        witnesses: Vec<Witness> as U16Prefixed,
    }
    tlvs {
        /// On the shared input of a splice.
        0 shared_input_signature: Option<Signature>,
    }
}

message! {
    /// Proposes a replacement with a greater fee (BOLT 2, interactive transaction construction).
    TxInitRbf = 72, "tx_init_rbf" {
        /// The channel.
        channel_id: ChannelId,
        /// Of the new transaction.
        locktime: u32,
        /// Of the new transaction.
        feerate: FeeratePerKw,
    }
    tlvs {
        /// What the sender puts in or takes out.
        0 funding_output_contribution: Option<SignedAmount> as S64,
        /// The peer may only add confirmed inputs.
        2 require_confirmed_inputs: bool as Flag,
    }
}

message! {
    /// Agrees to [`TxInitRbf`] (BOLT 2, interactive transaction construction).
    TxAckRbf = 73, "tx_ack_rbf" {
        /// The channel.
        channel_id: ChannelId,
    }
    tlvs {
        /// What the sender puts in or takes out.
        0 funding_output_contribution: Option<SignedAmount> as S64,
        /// The peer may only add confirmed inputs.
        2 require_confirmed_inputs: bool as Flag,
    }
}

message! {
    /// Gives the construction up, or agrees to that (BOLT 2, interactive transaction construction).
    TxAbort = 74, "tx_abort" {
        /// The channel.
        channel_id: ChannelId,
        /// A text for people, in whatever bytes the sender chose: see [`TxAbort::text`].
        data: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}

impl TxAbort {
    /// The text, safe to show.
    pub fn text(&self) -> Printable<'_> {
        Printable(&self.data)
    }
}

message! {
    /// The splice transaction is deep enough for the sender (BOLT 2).
    SpliceLocked = 77, "splice_locked" {
        /// The channel.
        channel_id: ChannelId,
        /// The splice transaction.
        splice_txid: Txid,
    }
    tlvs {}
}

message! {
    /// Proposes a splice of a quiescent channel (BOLT 2).
    SpliceInit = 80, "splice_init" {
        /// The channel.
        channel_id: ChannelId,
        /// What the sender puts in (positive) or takes out.
        funding_contribution_satoshis: SignedAmount as S64,
        /// Of the splice transaction.
        funding_feerate_perkw: FeeratePerKw,
        /// Of the splice transaction.
        locktime: u32,
        /// Of the new funding output.
        funding_pubkey: PublicKey,
    }
    tlvs {
        /// The peer may only add confirmed inputs.
        2 require_confirmed_inputs: bool as Flag,
    }
}

message! {
    /// Agrees to [`SpliceInit`] (BOLT 2).
    SpliceAck = 81, "splice_ack" {
        /// The channel.
        channel_id: ChannelId,
        /// What the sender puts in (positive) or takes out.
        funding_contribution_satoshis: SignedAmount as S64,
        /// Of the new funding output.
        funding_pubkey: PublicKey,
    }
    tlvs {
        /// The peer may only add confirmed inputs.
        2 require_confirmed_inputs: bool as Flag,
    }
}
