//! What the owner of the node decides, and what every step is told.

use bitcoin::{Amount, constants::ChainHash, secp256k1::PublicKey};
use fulmen_tx::Secp;
use fulmen_types::{BlockHeight, Features, Feerates, Msat, Timestamp};

/// The policy for channels. What a channel agreed on when it was opened stays with it; the rest applies
/// to all channels at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// The chain.
    pub chain_hash: ChainHash,
    /// `dust_limit_satoshis`: outputs of our transactions below it are left out. At least 354.
    pub dust_limit: Amount,
    /// The greatest `dust_limit_satoshis` that a peer may have.
    pub max_peer_dust_limit: Amount,
    /// `to_self_delay` that we ask of the peer, in blocks.
    pub to_self_delay: u16,
    /// The greatest `to_self_delay` that a peer may ask of us, in blocks.
    pub max_to_self_delay: u16,
    /// `max_accepted_htlcs`: the most HTLCs that a peer may have in flight to us. At most 483.
    pub max_accepted_htlcs: u16,
    /// `max_htlc_value_in_flight_msat` as a percentage of the channel.
    pub max_in_flight_percent: u8,
    /// `htlc_minimum_msat`: the least HTLC that we accept.
    pub htlc_minimum: Msat,
    /// `channel_reserve_satoshis` in millionths of the channel; never below the dust limits.
    pub reserve_ppm: u32,
    /// Confirmations before we call a channel that the peer funds ready.
    pub minimum_depth: u32,
    /// The greatest `minimum_depth` that a peer may ask for.
    pub max_minimum_depth: u32,
    /// The smallest channel.
    pub min_funding: Amount,
    /// The greatest channel; the protocol's own limit of 2^24 satoshis applies besides unless both ends
    /// have `option_support_large_channel`.
    pub max_funding: Amount,
    /// The most money in flight in HTLCs too small for an output, on either commitment; of ours those count that would
    /// be too small at twice the feerate, or at the estimates. Where the peer raises the feerate it may be twice this.
    pub max_dust_htlc_exposure: Msat,
    /// Whether a peer may open a channel that is used before its funding confirms.
    pub accept_zero_conf: bool,
    /// Without an answer of the peer for so long, a cooperative close becomes a forced one; milliseconds.
    pub closing_timeout_millis: u64,
    /// Without an answer of the peer for so long, an opening is given up; milliseconds.
    pub open_timeout_millis: u64,
    /// How long after a start a peer may take to come back before a deadline of an HTLC that we offered
    /// closes the channel; milliseconds. Three blocks end it too.
    pub reconnect_grace_millis: u64,
}

impl ChannelConfig {
    /// Cautious defaults for `chain_hash`: 1% reserve, 3 confirmations, 144 blocks of delay.
    pub fn new(chain_hash: ChainHash) -> Self {
        Self {
            chain_hash,
            dust_limit: Amount::from_sat(354),
            max_peer_dust_limit: Amount::from_sat(5_000),
            to_self_delay: 144,
            max_to_self_delay: 2_016,
            max_accepted_htlcs: 483,
            max_in_flight_percent: 100,
            htlc_minimum: Msat::new(1),
            reserve_ppm: 10_000,
            minimum_depth: 3,
            max_minimum_depth: 144,
            min_funding: Amount::from_sat(20_000),
            max_funding: Amount::from_sat(10 * 100_000_000),
            max_dust_htlc_exposure: Msat::from_sat(50_000),
            accept_zero_conf: false,
            closing_timeout_millis: 60 * 60 * 1_000,
            open_timeout_millis: 2 * 60 * 1_000,
            reconnect_grace_millis: 2 * 60 * 1_000,
        }
    }
}

/// What every step knows of the world.
#[derive(Clone, Copy, Debug)]
pub struct ChannelContext<'a> {
    /// The elliptic-curve context.
    pub secp: &'a Secp,
    /// The time.
    pub now: Timestamp,
    /// The best tip that the node has processed.
    pub tip: BlockHeight,
    /// The policy.
    pub config: &'a ChannelConfig,
    /// What feerates get a transaction confirmed.
    pub feerates: &'a Feerates,
    /// The peer's features, of its `init`.
    pub peer_features: &'a Features,
    /// Our features, of our `init`.
    pub our_features: &'a Features,
    /// Who we are.
    pub our_node_id: PublicKey,
    /// Who the peer is.
    pub peer_node_id: PublicKey,
}

impl ChannelContext<'_> {
    /// Whether both ends offered `feature`.
    pub(crate) fn negotiated(&self, feature: fulmen_types::Feature) -> bool {
        self.our_features.supports(feature) && self.peer_features.supports(feature)
    }
}
