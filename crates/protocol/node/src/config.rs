//! What the owner of the node decides.

use bitcoin::{Network, constants::ChainHash};
use fulmen_channel::ChannelConfig;
use fulmen_payments::{DEFAULT_MAX_PARTS, ForwardPolicy};
use fulmen_types::{Feature, Features, Msat};
use fulmen_wire::{NetAddress, NodeAlias, Rgb};

/// The node's configuration: policy only. Nothing in it is stored; it may change at each start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The chain.
    pub network: Network,
    /// The policy for channels.
    pub channel: ChannelConfig,
    /// What we ask for forwarding; the maximum is each channel's own where that is less.
    pub forward: ForwardPolicy,
    /// The name that we announce.
    pub alias: NodeAlias,
    /// The colour that we announce.
    pub rgb: Rgb,
    /// Where we can be reached.
    pub addresses: alloc::vec::Vec<NetAddress>,
    /// How often gossip is passed on, in milliseconds (BOLT 7 asks for 60 s).
    pub gossip_flush_millis: u64,
    /// The most that a payment's way may cost when its command does not say: this share of the amount,
    /// in millionths, or [`NodeConfig::default_max_fee_least`] if that is more.
    pub default_max_fee_ppm: u32,
    /// See [`NodeConfig::default_max_fee_ppm`].
    pub default_max_fee_least: Msat,
    /// How long a payment looks for ways when its command does not say.
    pub default_pay_timeout_secs: u32,
    /// Into how many HTLCs a payment may be split when its payee supports that; 1 for never.
    pub max_payment_parts: u16,
    /// Channels opened by a peer that are not confirmed yet, per peer and in all.
    pub max_pending_opens_per_peer: usize,
    /// See [`NodeConfig::max_pending_opens_per_peer`].
    pub max_pending_opens: usize,
    /// Peers without a channel that may be connected with us at a time, of those that come by themselves.
    pub max_strangers: usize,
    /// The records come from a backup that may be old. No channel is closed by our commitment until its
    /// peer or the signer has confirmed its state: an old one would give everything to the peer. To be set
    /// for the first start after a restore; the channels remember it. Old files that are restored without
    /// saying so can't be told from the newest before a peer connects.
    pub declared_restore: bool,
}

impl NodeConfig {
    /// The defaults for a network.
    pub fn new(network: Network) -> Self {
        Self {
            network,
            channel: ChannelConfig::new(ChainHash::using_genesis_block_const(network)),
            forward: ForwardPolicy {
                fee_base_msat: 1_000,
                fee_proportional_millionths: 100,
                cltv_expiry_delta: 80,
                htlc_minimum: Msat::new(1),
                htlc_maximum: Msat::MAX_MONEY,
            },
            alias: NodeAlias::from_bytes(
                *b"fulmen\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            rgb: Rgb {
                red: 0xf5,
                green: 0xc2,
                blue: 0x11,
            },
            addresses: alloc::vec::Vec::new(),
            gossip_flush_millis: 60_000,
            default_max_fee_ppm: 10_000,
            default_max_fee_least: Msat::from_sat(5),
            default_pay_timeout_secs: 60,
            max_payment_parts: DEFAULT_MAX_PARTS,
            max_pending_opens_per_peer: 4,
            max_pending_opens: 50,
            max_strangers: 500,
            declared_restore: false,
        }
    }

    /// What we say in `init` and in our `node_announcement`.
    pub fn features(&self) -> Features {
        Features::empty()
            .with_required(Feature::DataLossProtect)
            .with_required(Feature::VarOnion)
            .with_required(Feature::StaticRemoteKey)
            .with_required(Feature::PaymentSecret)
            .with_required(Feature::ChannelType)
            .with_optional(Feature::UpfrontShutdownScript)
            .with_optional(Feature::GossipQueries)
            .with_optional(Feature::GossipQueriesEx)
            .with_optional(Feature::BasicMpp)
            .with_optional(Feature::SupportLargeChannel)
            .with_optional(Feature::Anchors)
            .with_optional(Feature::ShutdownAnySegwit)
            .with_optional(Feature::ScidAlias)
    }
}
