//! BOLT 2: normal operation and reestablishment.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::{
    Txid,
    secp256k1::{PublicKey, ecdsa::Signature, schnorr},
};
use fulmen_types::{
    ChannelId, CltvExpiry, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage,
};

use crate::{
    AttributionData, CurrentFundingLocked, NextFunding, NonceEntry, PartialSignatureWithNonce,
    codec::{Rest, U16Counted, U16Prefixed},
    macros::message,
};

message! {
    /// Offers an HTLC (BOLT 2).
    UpdateAddHtlc = 128, "update_add_htlc" {
        /// The channel.
        channel_id: ChannelId,
        /// Counted by the sender from 0.
        id: HtlcId,
        /// What the HTLC is worth.
        amount_msat: Msat,
        /// Whose preimage settles it.
        payment_hash: PaymentHash,
        /// When it times out.
        cltv_expiry: CltvExpiry,
        /// The onion for the receiver and the hops behind it (BOLT 4).
        onion_routing_packet: Box<[u8; 1366]>,
    }
    tlvs {
        /// The path key (`blinded_path`) when the receiver is inside a blinded path.
        0 path_key: Option<PublicKey>,
        /// What a provider took from the amount for opening the channel (bLIP 25, LSPS2).
        65537 extra_fee: Option<Msat>,
    }
}

message! {
    /// Settles an HTLC of the peer with its preimage (BOLT 2).
    UpdateFulfillHtlc = 130, "update_fulfill_htlc" {
        /// The channel.
        channel_id: ChannelId,
        /// The peer's HTLC.
        id: HtlcId,
        /// What the payment hash is the hash of.
        payment_preimage: PaymentPreimage,
    }
    tlvs {
        /// How long each hop held the HTLC (BOLT 4).
        1 attribution_data: Option<Box<AttributionData>>,
        /// What the recipient has to say to the payer, encrypted for it (BOLT 4, returning success).
        3 fulfillment_payload: Option<Vec<u8>> as Rest,
    }
}

message! {
    /// Gives an HTLC back to the peer (BOLT 2).
    UpdateFailHtlc = 131, "update_fail_htlc" {
        /// The channel.
        channel_id: ChannelId,
        /// The peer's HTLC.
        id: HtlcId,
        /// Encrypted for the payer (BOLT 4, returning errors).
        reason: Vec<u8> as U16Prefixed,
    }
    tlvs {
        /// How long each hop held the HTLC, and who failed it (BOLT 4).
        1 attribution_data: Option<Box<AttributionData>>,
    }
}

message! {
    /// Gives an HTLC back whose onion could not be read (BOLT 2).
    UpdateFailMalformedHtlc = 135, "update_fail_malformed_htlc" {
        /// The channel.
        channel_id: ChannelId,
        /// The peer's HTLC.
        id: HtlcId,
        /// The hash of the onion as received.
        sha256_of_onion: [u8; 32],
        /// With the BADONION bit (BOLT 4).
        failure_code: u16,
    }
    tlvs {}
}

message! {
    /// The following messages belong together (BOLT 2): commitments of several fundings.
    StartBatch = 127, "start_batch" {
        /// The channel.
        channel_id: ChannelId,
        /// How many messages.
        batch_size: u16,
    }
    tlvs {
        /// Of which type; 132 (`commitment_signed`) is the only one.
        1 message_type: Option<u16>,
    }
}

message! {
    /// Signs the peer's next commitment transaction with all pending updates (BOLT 2).
    CommitmentSigned = 132, "commitment_signed" {
        /// The channel.
        channel_id: ChannelId,
        /// On the commitment transaction; zero in simple taproot channels.
        signature: Signature,
        /// On each HTLC transaction, in the order of the commitment's outputs. In simple taproot channels
        /// these are BIP 340 signatures: see [`CommitmentSigned::htlc_schnorr_signatures`].
        htlc_signature: Vec<Signature> as U16Counted,
    }
    tlvs {
        /// The funding transaction that this commitment spends, while a splice is pending.
        1 funding_txid: Option<Txid>,
        /// On the commitment transaction (simple taproot channels).
        2 partial_signature_with_nonce: Option<PartialSignatureWithNonce>,
    }
}

impl CommitmentSigned {
    /// `htlc_signature` of a simple taproot channel: the same 64 bytes, read as BIP 340 signatures.
    pub fn htlc_schnorr_signatures(&self) -> impl Iterator<Item = schnorr::Signature> + '_ {
        self.htlc_signature.iter().map(|signature| {
            schnorr::Signature::from_slice(&signature.serialize_compact())
                .expect("64 bytes are a BIP 340 signature, valid or not")
        })
    }
}

message! {
    /// Revokes the sender's previous commitment transaction (BOLT 2).
    RevokeAndAck = 133, "revoke_and_ack" {
        /// The channel.
        channel_id: ChannelId,
        /// The secret of the commitment that is revoked.
        per_commitment_secret: [u8; 32],
        /// The point of the sender's next commitment but one.
        next_per_commitment_point: PublicKey,
    }
    tlvs {
        /// The verification nonce of the sender's next commitment, for each funding (simple taproot
        /// channels).
        22 next_local_nonces: Option<Vec<NonceEntry>> as Rest,
    }
}

message! {
    /// Changes the feerate of the commitment transactions (BOLT 2); from the opener only.
    UpdateFee = 134, "update_fee" {
        /// The channel.
        channel_id: ChannelId,
        /// The new feerate.
        feerate_per_kw: FeeratePerKw,
    }
    tlvs {}
}

message! {
    /// Where the sender stands, after a reconnection (BOLT 2).
    ChannelReestablish = 136, "channel_reestablish" {
        /// The channel.
        channel_id: ChannelId,
        /// The number of the next `commitment_signed` that the sender expects.
        next_commitment_number: u64,
        /// The number of the next `revoke_and_ack` that the sender expects.
        next_revocation_number: u64,
        /// The last secret that the sender got; zero if none.
        your_last_per_commitment_secret: [u8; 32],
        /// A point of the sender's, of old times' sake.
        my_current_per_commitment_point: PublicKey,
    }
    tlvs {
        /// An interactive transaction whose signatures the sender misses.
        1 next_funding: Option<NextFunding>,
        /// The funding transaction that the sender has locked last.
        5 my_current_funding_locked: Option<CurrentFundingLocked>,
        /// The verification nonce of the sender's next commitment, for each funding (simple taproot
        /// channels).
        22 next_local_nonces: Option<Vec<NonceEntry>> as Rest,
    }
}
