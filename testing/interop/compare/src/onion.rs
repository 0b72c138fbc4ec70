//! Onions: what LDK finds in one.

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, Verification};
use fulmen_onion::{CustomTlv, PaymentPacket, Peeled};
use lightning::{
    ln::{
        LocalHTLCFailureReason, channelmanager::PendingHTLCRouting, msgs,
        onion_payment::peel_payment_onion, types::ChannelId,
    },
    types::payment::PaymentHash,
    util::ser::Readable,
};

use crate::node::{KeyOnly, Silent};

/// The HTLC that brings an onion to LDK.
#[derive(Clone, Copy, Debug)]
pub struct LdkHtlc {
    /// Its hash.
    pub payment_hash: [u8; 32],
    /// Its amount.
    pub amount_msat: u64,
    /// Its expiry.
    pub cltv_expiry: u32,
    /// The `path_key` beside it.
    pub path_key: Option<PublicKey>,
    /// The tip.
    pub height: u32,
}

/// What LDK's public function says of an onion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LdkPeeled {
    /// To be forwarded.
    Forward {
        /// Over which channel.
        short_channel_id: u64,
        /// The outgoing amount.
        amount_msat: u64,
        /// The outgoing expiry.
        cltv: u32,
        /// The next node's onion.
        packet: Vec<u8>,
    },
    /// For this node.
    Receive {
        /// `amt_to_forward`.
        amount_msat: u64,
        /// `outgoing_cltv_value`.
        cltv: u32,
        /// `payment_data`.
        payment_data: Option<([u8; 32], u64)>,
        /// `payment_metadata`.
        metadata: Option<Vec<u8>>,
        /// The preimage of a keysend.
        keysend: Option<[u8; 32]>,
        /// Records from 65536 on.
        custom: Vec<(u64, Vec<u8>)>,
    },
}

/// Lets LDK take a layer off.
pub fn ldk_peel<C: Verification>(
    secp: &Secp256k1<C>,
    packet: &PaymentPacket,
    node_key: &SecretKey,
    htlc: &LdkHtlc,
) -> Result<LdkPeeled, LocalHTLCFailureReason> {
    let onion_routing_packet = msgs::OnionPacket::read(&mut packet.as_slice())
        .map_err(|_| LocalHTLCFailureReason::InvalidOnionPayload)?;
    let message = msgs::UpdateAddHTLC {
        channel_id: ChannelId([0; 32]),
        htlc_id: 0,
        amount_msat: htlc.amount_msat,
        payment_hash: PaymentHash(htlc.payment_hash),
        cltv_expiry: htlc.cltv_expiry,
        skimmed_fee_msat: None,
        onion_routing_packet,
        blinding_point: htlc.path_key,
        hold_htlc: None,
    };
    let info = peel_payment_onion(
        &message,
        &KeyOnly(*node_key),
        &Silent,
        secp,
        htlc.height,
        false,
    )
    .map_err(|e| e.reason)?;
    let (amount_msat, cltv) = (info.outgoing_amt_msat, info.outgoing_cltv_value);
    Ok(match info.routing {
        PendingHTLCRouting::Forward {
            onion_packet,
            short_channel_id,
            ..
        } => LdkPeeled::Forward {
            short_channel_id,
            amount_msat,
            cltv,
            packet: lightning::util::ser::Writeable::encode(&onion_packet),
        },
        PendingHTLCRouting::Receive {
            payment_data,
            payment_metadata,
            custom_tlvs,
            ..
        } => LdkPeeled::Receive {
            amount_msat,
            cltv,
            payment_data: Some((payment_data.payment_secret.0, payment_data.total_msat)),
            metadata: payment_metadata,
            keysend: None,
            custom: custom_tlvs,
        },
        PendingHTLCRouting::ReceiveKeysend {
            payment_data,
            payment_preimage,
            payment_metadata,
            custom_tlvs,
            ..
        } => LdkPeeled::Receive {
            amount_msat,
            cltv,
            payment_data: payment_data.map(|data| (data.payment_secret.0, data.total_msat)),
            metadata: payment_metadata,
            keysend: Some(payment_preimage.0),
            custom: custom_tlvs,
        },
        PendingHTLCRouting::TrampolineForward { .. } => {
            return Err(LocalHTLCFailureReason::InvalidOnionPayload);
        }
    })
}

/// The same of Fulmen's reading, unless it is of a blinded path.
pub fn as_ldk(peeled: &Peeled) -> Option<LdkPeeled> {
    match peeled {
        Peeled::Forward {
            payload,
            next_packet,
        } => Some(LdkPeeled::Forward {
            short_channel_id: payload.short_channel_id.to_u64(),
            amount_msat: payload.amt_to_forward.to_msat(),
            cltv: payload.outgoing_cltv_value.to_u32(),
            packet: next_packet.to_vec(),
        }),
        Peeled::Receive(payload) => Some(LdkPeeled::Receive {
            amount_msat: payload.amt_to_forward.to_msat(),
            cltv: payload.outgoing_cltv_value.to_u32(),
            payment_data: payload.payment_data.map(|data| {
                (
                    data.payment_secret.to_byte_array(),
                    data.total_msat.to_msat(),
                )
            }),
            metadata: payload.payment_metadata.clone(),
            keysend: payload
                .keysend_preimage
                .map(|preimage| preimage.to_byte_array()),
            custom: payload
                .custom_tlvs
                .iter()
                .map(|CustomTlv { kind, value }| (*kind, value.clone()))
                .collect(),
        }),
        _ => None,
    }
}
