//! Messages: LDK's table beside Fulmen's.

use fulmen_types::Features;
use fulmen_wire::{Message, NetAddress};
use lightning::{
    ln::msgs,
    util::ser::{LengthReadable, Writeable},
};

use crate::Same;

macro_rules! messages {
    ($($type_:literal $ours:ident = $theirs:ident { $($field:ident : $($their_field:ident).+),* $(,)? } $(with $more:path)?;)*) => {
        /// A message that LDK knows.
        #[derive(Clone, Debug, PartialEq)]
        pub enum LdkMessage {
            $(#[doc = stringify!($theirs)] $ours(Box<msgs::$theirs>),)*
        }

        impl LdkMessage {
            /// Each type with Fulmen's name for it.
            pub const TYPES: &'static [(u16, &'static str)] = &[$(($type_, stringify!($ours))),*];

            /// LDK's reading of a message, type and payload; `None` for a type that LDK does not know.
            pub fn decode(bytes: &[u8]) -> Option<Result<Self, msgs::DecodeError>> {
                let (type_, payload) = bytes.split_first_chunk()?;
                let mut payload = payload;
                match u16::from_be_bytes(*type_) {
                    $($type_ => Some(
                        <msgs::$theirs>::read_from_fixed_length_buffer(&mut payload)
                            .map(|message| Self::$ours(Box::new(message))),
                    ),)*
                    _ => None,
                }
            }

            /// LDK's encoding of the message, type and payload.
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$ours(message) => {
                        let mut bytes = u16::to_be_bytes($type_).to_vec();
                        bytes.extend(message.encode());
                        bytes
                    })*
                }
            }

            /// The fields in which Fulmen's reading of the message differs.
            pub fn differences(&self, ours: &Message) -> Vec<&'static str> {
                match (ours, self) {
                    $((Message::$ours(a), Self::$ours(b)) => {
                        #[allow(unused_mut)]
                        let mut differences = Vec::new();
                        $(if !a.$field.same(&b.$($their_field).+) {
                            differences.push(stringify!($field));
                        })*
                        $($more(a, b, &mut differences);)?
                        differences
                    })*
                    _ => vec!["the type of the message"],
                }
            }
        }
    };
}

messages! {
    16 Init = Init { networks: networks } with init;
    17 Error = ErrorMessage { channel_id: channel_id, data: data };
    1 Warning = WarningMessage { channel_id: channel_id, data: data };
    18 Ping = Ping { num_pong_bytes: ponglen } with ping;
    19 Pong = Pong {} with pong;
    7 PeerStorage = PeerStorage { blob: data };
    9 PeerStorageRetrieval = PeerStorageRetrieval { blob: data };
    2 Stfu = Stfu { channel_id: channel_id, initiator: initiator };
    32 OpenChannel = OpenChannel {
        chain_hash: common_fields.chain_hash,
        temporary_channel_id: common_fields.temporary_channel_id,
        funding_satoshis: common_fields.funding_satoshis,
        push_msat: push_msat,
        dust_limit_satoshis: common_fields.dust_limit_satoshis,
        max_htlc_value_in_flight_msat: common_fields.max_htlc_value_in_flight_msat,
        channel_reserve_satoshis: channel_reserve_satoshis,
        htlc_minimum_msat: common_fields.htlc_minimum_msat,
        feerate_per_kw: common_fields.commitment_feerate_sat_per_1000_weight,
        to_self_delay: common_fields.to_self_delay,
        max_accepted_htlcs: common_fields.max_accepted_htlcs,
        funding_pubkey: common_fields.funding_pubkey,
        revocation_basepoint: common_fields.revocation_basepoint,
        payment_basepoint: common_fields.payment_basepoint,
        delayed_payment_basepoint: common_fields.delayed_payment_basepoint,
        htlc_basepoint: common_fields.htlc_basepoint,
        first_per_commitment_point: common_fields.first_per_commitment_point,
        channel_flags: common_fields.channel_flags,
        upfront_shutdown_script: common_fields.shutdown_scriptpubkey,
        channel_type: common_fields.channel_type,
    };
    33 AcceptChannel = AcceptChannel {
        temporary_channel_id: common_fields.temporary_channel_id,
        dust_limit_satoshis: common_fields.dust_limit_satoshis,
        max_htlc_value_in_flight_msat: common_fields.max_htlc_value_in_flight_msat,
        channel_reserve_satoshis: channel_reserve_satoshis,
        htlc_minimum_msat: common_fields.htlc_minimum_msat,
        minimum_depth: common_fields.minimum_depth,
        to_self_delay: common_fields.to_self_delay,
        max_accepted_htlcs: common_fields.max_accepted_htlcs,
        funding_pubkey: common_fields.funding_pubkey,
        revocation_basepoint: common_fields.revocation_basepoint,
        payment_basepoint: common_fields.payment_basepoint,
        delayed_payment_basepoint: common_fields.delayed_payment_basepoint,
        htlc_basepoint: common_fields.htlc_basepoint,
        first_per_commitment_point: common_fields.first_per_commitment_point,
        upfront_shutdown_script: common_fields.shutdown_scriptpubkey,
        channel_type: common_fields.channel_type,
    };
    34 FundingCreated = FundingCreated {
        temporary_channel_id: temporary_channel_id,
        funding_txid: funding_txid,
        funding_output_index: funding_output_index,
        signature: signature,
    };
    35 FundingSigned = FundingSigned { channel_id: channel_id, signature: signature };
    36 ChannelReady = ChannelReady {
        channel_id: channel_id,
        second_per_commitment_point: next_per_commitment_point,
        short_channel_id: short_channel_id_alias,
    };
    38 Shutdown = Shutdown { channel_id: channel_id, scriptpubkey: scriptpubkey };
    39 ClosingSigned = ClosingSigned {
        channel_id: channel_id,
        fee_satoshis: fee_satoshis,
        signature: signature,
        fee_range: fee_range,
    };
    40 ClosingComplete = ClosingComplete {
        channel_id: channel_id,
        closer_scriptpubkey: closer_scriptpubkey,
        closee_scriptpubkey: closee_scriptpubkey,
        fee_satoshis: fee_satoshis,
        locktime: locktime,
        closer_output_only: closer_output_only,
        closee_output_only: closee_output_only,
        closer_and_closee_outputs: closer_and_closee_outputs,
    };
    41 ClosingSig = ClosingSig {
        channel_id: channel_id,
        closer_scriptpubkey: closer_scriptpubkey,
        closee_scriptpubkey: closee_scriptpubkey,
        fee_satoshis: fee_satoshis,
        locktime: locktime,
        closer_output_only: closer_output_only,
        closee_output_only: closee_output_only,
        closer_and_closee_outputs: closer_and_closee_outputs,
    };
    64 OpenChannel2 = OpenChannelV2 {
        chain_hash: common_fields.chain_hash,
        temporary_channel_id: common_fields.temporary_channel_id,
        funding_feerate_perkw: funding_feerate_sat_per_1000_weight,
        commitment_feerate_perkw: common_fields.commitment_feerate_sat_per_1000_weight,
        funding_satoshis: common_fields.funding_satoshis,
        dust_limit_satoshis: common_fields.dust_limit_satoshis,
        max_htlc_value_in_flight_msat: common_fields.max_htlc_value_in_flight_msat,
        htlc_minimum_msat: common_fields.htlc_minimum_msat,
        to_self_delay: common_fields.to_self_delay,
        max_accepted_htlcs: common_fields.max_accepted_htlcs,
        locktime: locktime,
        funding_pubkey: common_fields.funding_pubkey,
        revocation_basepoint: common_fields.revocation_basepoint,
        payment_basepoint: common_fields.payment_basepoint,
        delayed_payment_basepoint: common_fields.delayed_payment_basepoint,
        htlc_basepoint: common_fields.htlc_basepoint,
        first_per_commitment_point: common_fields.first_per_commitment_point,
        second_per_commitment_point: second_per_commitment_point,
        channel_flags: common_fields.channel_flags,
        upfront_shutdown_script: common_fields.shutdown_scriptpubkey,
        channel_type: common_fields.channel_type,
        require_confirmed_inputs: require_confirmed_inputs,
    };
    65 AcceptChannel2 = AcceptChannelV2 {
        temporary_channel_id: common_fields.temporary_channel_id,
        funding_satoshis: funding_satoshis,
        dust_limit_satoshis: common_fields.dust_limit_satoshis,
        max_htlc_value_in_flight_msat: common_fields.max_htlc_value_in_flight_msat,
        htlc_minimum_msat: common_fields.htlc_minimum_msat,
        minimum_depth: common_fields.minimum_depth,
        to_self_delay: common_fields.to_self_delay,
        max_accepted_htlcs: common_fields.max_accepted_htlcs,
        funding_pubkey: common_fields.funding_pubkey,
        revocation_basepoint: common_fields.revocation_basepoint,
        payment_basepoint: common_fields.payment_basepoint,
        delayed_payment_basepoint: common_fields.delayed_payment_basepoint,
        htlc_basepoint: common_fields.htlc_basepoint,
        first_per_commitment_point: common_fields.first_per_commitment_point,
        second_per_commitment_point: second_per_commitment_point,
        upfront_shutdown_script: common_fields.shutdown_scriptpubkey,
        channel_type: common_fields.channel_type,
        require_confirmed_inputs: require_confirmed_inputs,
    };
    66 TxAddInput = TxAddInput {
        channel_id: channel_id,
        serial_id: serial_id,
        prevtx: prevtx,
        prevtx_vout: prevtx_out,
        sequence: sequence,
        shared_input_txid: shared_input_txid,
    };
    67 TxAddOutput = TxAddOutput {
        channel_id: channel_id, serial_id: serial_id, sats: sats, script: script,
    };
    68 TxRemoveInput = TxRemoveInput { channel_id: channel_id, serial_id: serial_id };
    69 TxRemoveOutput = TxRemoveOutput { channel_id: channel_id, serial_id: serial_id };
    70 TxComplete = TxComplete { channel_id: channel_id };
    71 TxSignatures = TxSignatures {
        channel_id: channel_id,
        txid: tx_hash,
        witnesses: witnesses,
        shared_input_signature: shared_input_signature,
    };
    72 TxInitRbf = TxInitRbf {
        channel_id: channel_id,
        locktime: locktime,
        feerate: feerate_sat_per_1000_weight,
        funding_output_contribution: funding_output_contribution,
    };
    73 TxAckRbf = TxAckRbf {
        channel_id: channel_id, funding_output_contribution: funding_output_contribution,
    };
    74 TxAbort = TxAbort { channel_id: channel_id, data: data };
    77 SpliceLocked = SpliceLocked { channel_id: channel_id, splice_txid: splice_txid };
    80 SpliceInit = SpliceInit {
        channel_id: channel_id,
        funding_contribution_satoshis: funding_contribution_satoshis,
        funding_feerate_perkw: funding_feerate_per_kw,
        locktime: locktime,
        funding_pubkey: funding_pubkey,
        require_confirmed_inputs: require_confirmed_inputs,
    };
    81 SpliceAck = SpliceAck {
        channel_id: channel_id,
        funding_contribution_satoshis: funding_contribution_satoshis,
        funding_pubkey: funding_pubkey,
        require_confirmed_inputs: require_confirmed_inputs,
    };
    127 StartBatch = StartBatch {
        channel_id: channel_id, batch_size: batch_size, message_type: message_type,
    };
    128 UpdateAddHtlc = UpdateAddHTLC {
        channel_id: channel_id,
        id: htlc_id,
        amount_msat: amount_msat,
        payment_hash: payment_hash,
        cltv_expiry: cltv_expiry,
        onion_routing_packet: onion_routing_packet,
        path_key: blinding_point,
    };
    130 UpdateFulfillHtlc = UpdateFulfillHTLC {
        channel_id: channel_id,
        id: htlc_id,
        payment_preimage: payment_preimage,
        attribution_data: attribution_data,
    };
    // LDK does not show `reason` and `sha256_of_onion`; the encodings are compared all the same.
    131 UpdateFailHtlc = UpdateFailHTLC {
        channel_id: channel_id, id: htlc_id, attribution_data: attribution_data,
    };
    135 UpdateFailMalformedHtlc = UpdateFailMalformedHTLC {
        channel_id: channel_id, id: htlc_id, failure_code: failure_code,
    };
    132 CommitmentSigned = CommitmentSigned {
        channel_id: channel_id,
        signature: signature,
        htlc_signature: htlc_signatures,
        funding_txid: funding_txid,
    };
    133 RevokeAndAck = RevokeAndACK {
        channel_id: channel_id,
        per_commitment_secret: per_commitment_secret,
        next_per_commitment_point: next_per_commitment_point,
    };
    134 UpdateFee = UpdateFee { channel_id: channel_id, feerate_per_kw: feerate_per_kw };
    136 ChannelReestablish = ChannelReestablish {
        channel_id: channel_id,
        next_commitment_number: next_local_commitment_number,
        next_revocation_number: next_remote_commitment_number,
        your_last_per_commitment_secret: your_last_per_commitment_secret,
        my_current_per_commitment_point: my_current_per_commitment_point,
        next_funding: next_funding,
        my_current_funding_locked: my_current_funding_locked,
    };
    256 ChannelAnnouncement = ChannelAnnouncement {
        node_signature_1: node_signature_1,
        node_signature_2: node_signature_2,
        bitcoin_signature_1: bitcoin_signature_1,
        bitcoin_signature_2: bitcoin_signature_2,
        features: contents.features,
        chain_hash: contents.chain_hash,
        short_channel_id: contents.short_channel_id,
        node_id_1: contents.node_id_1,
        node_id_2: contents.node_id_2,
        bitcoin_key_1: contents.bitcoin_key_1,
        bitcoin_key_2: contents.bitcoin_key_2,
        excess_data: contents.excess_data,
    };
    257 NodeAnnouncement = NodeAnnouncement {
        signature: signature,
        features: contents.features,
        timestamp: contents.timestamp,
        node_id: contents.node_id,
        rgb_color: contents.rgb,
        alias: contents.alias,
        excess_data: contents.excess_data,
    } with addresses;
    258 ChannelUpdate = ChannelUpdate {
        signature: signature,
        chain_hash: contents.chain_hash,
        short_channel_id: contents.short_channel_id,
        timestamp: contents.timestamp,
        message_flags: contents.message_flags,
        channel_flags: contents.channel_flags,
        cltv_expiry_delta: contents.cltv_expiry_delta,
        htlc_minimum_msat: contents.htlc_minimum_msat,
        fee_base_msat: contents.fee_base_msat,
        fee_proportional_millionths: contents.fee_proportional_millionths,
        htlc_maximum_msat: contents.htlc_maximum_msat,
        excess_data: contents.excess_data,
    };
    259 AnnouncementSignatures = AnnouncementSignatures {
        channel_id: channel_id,
        short_channel_id: short_channel_id,
        node_signature: node_signature,
        bitcoin_signature: bitcoin_signature,
    };
    261 QueryShortChannelIds = QueryShortChannelIds {
        chain_hash: chain_hash, encoded_short_ids: short_channel_ids,
    };
    262 ReplyShortChannelIdsEnd = ReplyShortChannelIdsEnd {
        chain_hash: chain_hash, full_information: full_information,
    };
    263 QueryChannelRange = QueryChannelRange {
        chain_hash: chain_hash,
        first_blocknum: first_blocknum,
        number_of_blocks: number_of_blocks,
    };
    264 ReplyChannelRange = ReplyChannelRange {
        chain_hash: chain_hash,
        first_blocknum: first_blocknum,
        number_of_blocks: number_of_blocks,
        sync_complete: sync_complete,
        encoded_short_ids: short_channel_ids,
    };
    265 GossipTimestampFilter = GossipTimestampFilter {
        chain_hash: chain_hash,
        first_timestamp: first_timestamp,
        timestamp_range: timestamp_range,
    };
    513 OnionMessage = OnionMessage {
        path_key: blinding_point, onion_message_packet: onion_routing_packet,
    };
}

/// LDK joins the two feature fields.
fn init(a: &fulmen_wire::Init, b: &msgs::Init, differences: &mut Vec<&'static str>) {
    let features: Features = a.all_features();
    if !features.same(&b.features) {
        differences.push("features");
    }
    if !a.remote_addr.same(&b.remote_network_address) {
        differences.push("remote_addr");
    }
}

/// LDK keeps the length of the padding alone.
fn ping(a: &fulmen_wire::Ping, b: &msgs::Ping, differences: &mut Vec<&'static str>) {
    if a.ignored.len() != usize::from(b.byteslen) {
        differences.push("ignored");
    }
}

fn pong(a: &fulmen_wire::Pong, b: &msgs::Pong, differences: &mut Vec<&'static str>) {
    if a.ignored.len() != usize::from(b.byteslen) {
        differences.push("ignored");
    }
}

/// LDK keeps what it does not understand at the end as bytes; in Fulmen it is the last descriptor.
fn addresses(
    a: &fulmen_wire::NodeAnnouncement,
    b: &msgs::NodeAnnouncement,
    differences: &mut Vec<&'static str>,
) {
    let theirs = &b.contents;
    let known = theirs.addresses.len().min(a.addresses.len());
    let (ours_known, ours_rest) = a.addresses.split_at(known);
    let rest: Vec<u8> = match ours_rest {
        [] => Vec::new(),
        [NetAddress::Unknown(bytes)] => bytes.clone(),
        _ => return differences.push("addresses"),
    };
    if !ours_known.same(theirs.addresses.as_slice()) || rest != theirs.excess_address_data {
        differences.push("addresses");
    }
}
