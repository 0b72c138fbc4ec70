//! LDK's messages with values from a seed, one of each type.

use bitcoin::secp256k1::PublicKey;
use lightning::{
    ln::{msgs, onion_utils::AttributionData, types::ChannelId},
    onion_message::packet::Packet,
    routing::gossip::{NodeAlias, NodeId},
    types::{
        features::{ChannelFeatures, ChannelTypeFeatures, InitFeatures, NodeFeatures},
        payment::{PaymentHash, PaymentPreimage},
    },
    util::ser::{Hostname, LengthReadable, Readable},
};

use crate::{LdkMessage, Source};

macro_rules! random_features {
    ($g:expr, $features:ident) => {{
        // The first byte of an encoding is not zero.
        let mut bytes = $g.bytes(20);
        while bytes.first() == Some(&0) {
            bytes.remove(0);
        }
        $features::from_be_bytes(bytes)
    }};
}

fn channel_id(g: &mut Source) -> ChannelId {
    ChannelId(g.array())
}

fn node_id(g: &mut Source) -> NodeId {
    NodeId::from_pubkey(&g.public_key())
}

fn channel_type(g: &mut Source) -> ChannelTypeFeatures {
    random_features!(g, ChannelTypeFeatures)
}

fn address(g: &mut Source) -> msgs::SocketAddress {
    let port = g.u16();
    match g.below(4) {
        0 => msgs::SocketAddress::TcpIpV4 {
            addr: g.array(),
            port,
        },
        1 => msgs::SocketAddress::TcpIpV6 {
            addr: g.array(),
            port,
        },
        2 => msgs::SocketAddress::OnionV3 {
            ed25519_pubkey: g.array(),
            checksum: g.u16(),
            version: g.u8(),
            port,
        },
        _ => {
            let name = format!("a{}.example-{}.com", g.u32(), g.u16());
            let hostname = Hostname::try_from(name).expect("letters, digits, dots and hyphens");
            msgs::SocketAddress::Hostname { hostname, port }
        }
    }
}

fn attribution(g: &mut Source) -> AttributionData {
    AttributionData::read(&mut &g.array::<920>()[..]).expect("any 920 bytes are attribution data")
}

fn onion_packet(g: &mut Source) -> msgs::OnionPacket {
    msgs::OnionPacket {
        version: g.u8(),
        public_key: Ok(g.public_key()),
        hop_data: g.array(),
        hmac: g.array(),
    }
}

fn common_open(g: &mut Source) -> msgs::CommonOpenChannelFields {
    let [a, b, c, d, e, f]: [PublicKey; 6] = core::array::from_fn(|_| g.public_key());
    msgs::CommonOpenChannelFields {
        chain_hash: g.chain_hash(),
        temporary_channel_id: channel_id(g),
        funding_satoshis: g.u64(),
        dust_limit_satoshis: g.u64(),
        max_htlc_value_in_flight_msat: g.u64(),
        htlc_minimum_msat: g.u64(),
        commitment_feerate_sat_per_1000_weight: g.u32(),
        to_self_delay: g.u16(),
        max_accepted_htlcs: g.u16(),
        funding_pubkey: a,
        revocation_basepoint: b,
        payment_basepoint: c,
        delayed_payment_basepoint: d,
        htlc_basepoint: e,
        first_per_commitment_point: f,
        channel_flags: g.u8(),
        shutdown_scriptpubkey: g.maybe(Source::script),
        channel_type: g.maybe(channel_type),
    }
}

fn common_accept(g: &mut Source) -> msgs::CommonAcceptChannelFields {
    let [a, b, c, d, e, f]: [PublicKey; 6] = core::array::from_fn(|_| g.public_key());
    msgs::CommonAcceptChannelFields {
        temporary_channel_id: channel_id(g),
        dust_limit_satoshis: g.u64(),
        max_htlc_value_in_flight_msat: g.u64(),
        htlc_minimum_msat: g.u64(),
        minimum_depth: g.u32(),
        to_self_delay: g.u16(),
        max_accepted_htlcs: g.u16(),
        funding_pubkey: a,
        revocation_basepoint: b,
        payment_basepoint: c,
        delayed_payment_basepoint: d,
        htlc_basepoint: e,
        first_per_commitment_point: f,
        shutdown_scriptpubkey: g.maybe(Source::script),
        channel_type: g.maybe(channel_type),
    }
}

/// Some of LDK's fields are private: such a message is read from its fields one after the other.
fn from_parts<T: LengthReadable>(parts: &[&[u8]]) -> T {
    let bytes = parts.concat();
    T::read_from_fixed_length_buffer(&mut bytes.as_slice()).expect("the fields of the message")
}

impl LdkMessage {
    /// One message of each type.
    pub fn generate_all(g: &mut Source) -> Vec<Self> {
        let mut all = Vec::new();
        macro_rules! put {
            ($($name:ident = $message:expr;)*) => {$( all.push(Self::$name(Box::new($message))); )*};
        }
        put! {
            Init = msgs::Init {
                features: random_features!(g, InitFeatures),
                networks: g.maybe(|g| g.list(4, Source::chain_hash)),
                remote_network_address: g.maybe(address),
            };
            Error = msgs::ErrorMessage { channel_id: channel_id(g), data: g.text(100) };
            Warning = msgs::WarningMessage { channel_id: channel_id(g), data: g.text(100) };
            Ping = msgs::Ping { ponglen: g.u16(), byteslen: g.u16() % 1_000 };
            Pong = msgs::Pong { byteslen: g.u16() % 1_000 };
            PeerStorage = msgs::PeerStorage { data: g.bytes(500) };
            PeerStorageRetrieval = msgs::PeerStorageRetrieval { data: g.bytes(500) };
            Stfu = msgs::Stfu { channel_id: channel_id(g), initiator: g.flag() };
            OpenChannel = msgs::OpenChannel {
                common_fields: common_open(g),
                push_msat: g.u64(),
                channel_reserve_satoshis: g.u64(),
            };
            AcceptChannel = msgs::AcceptChannel {
                common_fields: common_accept(g),
                channel_reserve_satoshis: g.u64(),
            };
            FundingCreated = msgs::FundingCreated {
                temporary_channel_id: channel_id(g),
                funding_txid: g.txid(),
                funding_output_index: g.u16(),
                signature: g.signature(),
            };
            FundingSigned = msgs::FundingSigned { channel_id: channel_id(g), signature: g.signature() };
            ChannelReady = msgs::ChannelReady {
                channel_id: channel_id(g),
                next_per_commitment_point: g.public_key(),
                short_channel_id_alias: g.maybe(Source::u64),
            };
            Shutdown = msgs::Shutdown { channel_id: channel_id(g), scriptpubkey: g.script() };
            ClosingSigned = msgs::ClosingSigned {
                channel_id: channel_id(g),
                fee_satoshis: g.u64(),
                signature: g.signature(),
                fee_range: g.maybe(|g| msgs::ClosingSignedFeeRange {
                    min_fee_satoshis: g.u64(),
                    max_fee_satoshis: g.u64(),
                }),
            };
            ClosingComplete = msgs::ClosingComplete {
                channel_id: channel_id(g),
                closer_scriptpubkey: g.script(),
                closee_scriptpubkey: g.script(),
                fee_satoshis: g.u64(),
                locktime: g.u32(),
                closer_output_only: g.maybe(Source::signature),
                closee_output_only: g.maybe(Source::signature),
                closer_and_closee_outputs: g.maybe(Source::signature),
            };
            ClosingSig = msgs::ClosingSig {
                channel_id: channel_id(g),
                closer_scriptpubkey: g.script(),
                closee_scriptpubkey: g.script(),
                fee_satoshis: g.u64(),
                locktime: g.u32(),
                closer_output_only: g.maybe(Source::signature),
                closee_output_only: g.maybe(Source::signature),
                closer_and_closee_outputs: g.maybe(Source::signature),
            };
            OpenChannel2 = msgs::OpenChannelV2 {
                common_fields: common_open(g),
                funding_feerate_sat_per_1000_weight: g.u32(),
                locktime: g.u32(),
                second_per_commitment_point: g.public_key(),
                require_confirmed_inputs: g.maybe(|_| ()),
            };
            AcceptChannel2 = msgs::AcceptChannelV2 {
                common_fields: common_accept(g),
                funding_satoshis: g.u64(),
                second_per_commitment_point: g.public_key(),
                require_confirmed_inputs: g.maybe(|_| ()),
            };
            TxAddInput = msgs::TxAddInput {
                channel_id: channel_id(g),
                serial_id: g.u64(),
                prevtx: g.maybe(Source::transaction),
                prevtx_out: g.u32(),
                sequence: g.u32(),
                shared_input_txid: g.maybe(Source::txid),
            };
            TxAddOutput = msgs::TxAddOutput {
                channel_id: channel_id(g),
                serial_id: g.u64(),
                sats: g.u64(),
                script: g.script(),
            };
            TxRemoveInput = msgs::TxRemoveInput { channel_id: channel_id(g), serial_id: g.u64() };
            TxRemoveOutput = msgs::TxRemoveOutput { channel_id: channel_id(g), serial_id: g.u64() };
            TxComplete = msgs::TxComplete { channel_id: channel_id(g) };
            TxSignatures = msgs::TxSignatures {
                channel_id: channel_id(g),
                tx_hash: g.txid(),
                witnesses: g.list(4, Source::witness),
                shared_input_signature: g.maybe(Source::signature),
            };
            TxInitRbf = msgs::TxInitRbf {
                channel_id: channel_id(g),
                locktime: g.u32(),
                feerate_sat_per_1000_weight: g.u32(),
                funding_output_contribution: g.maybe(|g| g.u64().cast_signed()),
            };
            TxAckRbf = msgs::TxAckRbf {
                channel_id: channel_id(g),
                funding_output_contribution: g.maybe(|g| g.u64().cast_signed()),
            };
            TxAbort = msgs::TxAbort { channel_id: channel_id(g), data: g.bytes(100) };
            SpliceLocked = msgs::SpliceLocked { channel_id: channel_id(g), splice_txid: g.txid() };
            SpliceInit = msgs::SpliceInit {
                channel_id: channel_id(g),
                funding_contribution_satoshis: g.u64().cast_signed(),
                funding_feerate_per_kw: g.u32(),
                locktime: g.u32(),
                funding_pubkey: g.public_key(),
                require_confirmed_inputs: g.maybe(|_| ()),
            };
            SpliceAck = msgs::SpliceAck {
                channel_id: channel_id(g),
                funding_contribution_satoshis: g.u64().cast_signed(),
                funding_pubkey: g.public_key(),
                require_confirmed_inputs: g.maybe(|_| ()),
            };
            StartBatch = msgs::StartBatch {
                channel_id: channel_id(g),
                batch_size: g.u16(),
                message_type: g.maybe(Source::u16),
            };
            // Without the records of LDK's experiments, which Fulmen drops.
            UpdateAddHtlc = msgs::UpdateAddHTLC {
                channel_id: channel_id(g),
                htlc_id: g.u64(),
                amount_msat: g.u64(),
                payment_hash: PaymentHash(g.array()),
                cltv_expiry: g.u32(),
                skimmed_fee_msat: None,
                onion_routing_packet: onion_packet(g),
                blinding_point: g.maybe(Source::public_key),
                hold_htlc: None,
            };
            UpdateFulfillHtlc = msgs::UpdateFulfillHTLC {
                channel_id: channel_id(g),
                htlc_id: g.u64(),
                payment_preimage: PaymentPreimage(g.array()),
                attribution_data: g.maybe(attribution),
            };
            UpdateFailHtlc = {
                let reason = g.bytes(400);
                let mut message: msgs::UpdateFailHTLC =
                    from_parts(&[&g.array::<40>(), &(reason.len() as u16).to_be_bytes(), &reason]);
                message.attribution_data = g.maybe(attribution);
                message
            };
            UpdateFailMalformedHtlc = from_parts(&[&g.array::<74>()]);
            CommitmentSigned = msgs::CommitmentSigned {
                channel_id: channel_id(g),
                signature: g.signature(),
                htlc_signatures: g.list(6, Source::signature),
                funding_txid: g.maybe(Source::txid),
            };
            RevokeAndAck = msgs::RevokeAndACK {
                channel_id: channel_id(g),
                per_commitment_secret: g.array(),
                next_per_commitment_point: g.public_key(),
                release_htlc_message_paths: vec![],
            };
            UpdateFee = msgs::UpdateFee { channel_id: channel_id(g), feerate_per_kw: g.u32() };
            ChannelReestablish = msgs::ChannelReestablish {
                channel_id: channel_id(g),
                next_local_commitment_number: g.u64(),
                next_remote_commitment_number: g.u64(),
                your_last_per_commitment_secret: g.array(),
                my_current_per_commitment_point: g.public_key(),
                next_funding: g.maybe(|g| msgs::NextFunding { txid: g.txid(), retransmit_flags: g.u8() }),
                my_current_funding_locked: g
                    .maybe(|g| msgs::FundingLocked { txid: g.txid(), retransmit_flags: g.u8() }),
            };
            ChannelAnnouncement = msgs::ChannelAnnouncement {
                node_signature_1: g.signature(),
                node_signature_2: g.signature(),
                bitcoin_signature_1: g.signature(),
                bitcoin_signature_2: g.signature(),
                contents: msgs::UnsignedChannelAnnouncement {
                    features: random_features!(g, ChannelFeatures),
                    chain_hash: g.chain_hash(),
                    short_channel_id: g.u64(),
                    node_id_1: node_id(g),
                    node_id_2: node_id(g),
                    bitcoin_key_1: node_id(g),
                    bitcoin_key_2: node_id(g),
                    excess_data: g.bytes(20),
                },
            };
            NodeAnnouncement = msgs::NodeAnnouncement {
                signature: g.signature(),
                contents: msgs::UnsignedNodeAnnouncement {
                    features: random_features!(g, NodeFeatures),
                    timestamp: g.u32(),
                    node_id: node_id(g),
                    rgb: g.array(),
                    alias: NodeAlias(g.array()),
                    addresses: g.list(5, address),
                    excess_address_data: g
                        .maybe(|g| [vec![6 + g.u8() % 200], g.bytes(10)].concat())
                        .unwrap_or_default(),
                    excess_data: g.bytes(20),
                },
            };
            ChannelUpdate = msgs::ChannelUpdate {
                signature: g.signature(),
                contents: msgs::UnsignedChannelUpdate {
                    chain_hash: g.chain_hash(),
                    short_channel_id: g.u64(),
                    timestamp: g.u32(),
                    message_flags: 1 | g.u8(),
                    channel_flags: g.u8(),
                    cltv_expiry_delta: g.u16(),
                    htlc_minimum_msat: g.u64(),
                    htlc_maximum_msat: g.u64(),
                    fee_base_msat: g.u32(),
                    fee_proportional_millionths: g.u32(),
                    excess_data: g.bytes(20),
                },
            };
            AnnouncementSignatures = msgs::AnnouncementSignatures {
                channel_id: channel_id(g),
                short_channel_id: g.u64(),
                node_signature: g.signature(),
                bitcoin_signature: g.signature(),
            };
            QueryShortChannelIds = msgs::QueryShortChannelIds {
                chain_hash: g.chain_hash(),
                short_channel_ids: g.list(30, Source::u64),
            };
            ReplyShortChannelIdsEnd = msgs::ReplyShortChannelIdsEnd {
                chain_hash: g.chain_hash(),
                full_information: g.flag(),
            };
            QueryChannelRange = msgs::QueryChannelRange {
                chain_hash: g.chain_hash(),
                first_blocknum: g.u32(),
                number_of_blocks: g.u32(),
            };
            ReplyChannelRange = msgs::ReplyChannelRange {
                chain_hash: g.chain_hash(),
                first_blocknum: g.u32(),
                number_of_blocks: g.u32(),
                sync_complete: g.flag(),
                short_channel_ids: g.list(30, Source::u64),
            };
            GossipTimestampFilter = msgs::GossipTimestampFilter {
                chain_hash: g.chain_hash(),
                first_timestamp: g.u32(),
                timestamp_range: g.u32(),
            };
            OnionMessage = msgs::OnionMessage {
                blinding_point: g.public_key(),
                onion_routing_packet: Packet {
                    version: g.u8(),
                    public_key: g.public_key(),
                    hop_data: g.bytes(2_000),
                    hmac: g.array(),
                },
            };
        }
        debug_assert_eq!(all.len(), Self::TYPES.len());
        all
    }
}
