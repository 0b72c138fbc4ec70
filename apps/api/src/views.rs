//! What the lists and questions show.

use serde::{Deserialize, Serialize};

/// How the chain source is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChainState {
    /// It has not answered yet.
    Starting,
    /// It answers.
    Up {
        /// Whether all its blocks have been looked at.
        synced: bool,
    },
    /// It does not answer; it is asked again and again.
    Down {
        /// For how long, in seconds.
        since_secs: u64,
        /// How often it was asked.
        attempts: u32,
        /// Why, and what to do.
        error: String,
    },
}

/// Feerates in use, in satoshi per 1000 weight units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeratesInfo {
    /// Within a day.
    pub background_sat_per_kw: u32,
    /// Within six blocks.
    pub normal_sat_per_kw: u32,
    /// Within two blocks.
    pub urgent_sat_per_kw: u32,
}

/// Who the node is and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its key.
    pub node_id: String,
    /// Its name.
    pub alias: String,
    /// Its network: `regtest`, `signet`, `testnet4` or `mainnet`.
    pub network: String,
    /// The software's version.
    pub version: String,
    /// The API's version; within one, fields and commands are only added.
    #[serde(default)]
    pub api_version: u32,
    /// Where peers can connect: `host:port`.
    pub listen: String,
    /// `node_id@host:port`, to give to others on the same machine.
    pub uri: String,
    /// The node's last block.
    pub block_height: u32,
    /// Its hash.
    pub block_hash: String,
    /// The wallet's last block.
    pub wallet_height: u32,
    /// The chain source.
    pub chain: ChainState,
    /// Feerates in use, once they are known.
    pub feerates: Option<FeeratesInfo>,
    /// Connected peers.
    pub peers: usize,
    /// Channels that can be used now.
    pub channels_usable: usize,
    /// Channels that are being opened, or whose peer is away.
    pub channels_waiting: usize,
    /// Channels that are being closed.
    pub channels_closing: usize,
    /// Nodes in the graph of the network.
    pub graph_nodes: usize,
    /// Channels in the graph of the network.
    pub graph_channels: usize,
    /// Directions of those channels whose terms are known: two for each when all are.
    pub graph_policies: usize,
    /// The number of the last event.
    pub last_event: u64,
    /// Why the node only watches the chain, if it does: its store has failed.
    pub trouble: Option<String>,
    /// How long the daemon runs, in seconds.
    pub uptime_secs: u64,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its key.
    pub node_id: String,
    /// Where it can be reached, if known.
    pub address: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it connected to us.
    pub inbound: bool,
    /// Its features, in hex.
    pub features: String,
    /// Channels with it.
    pub channels: usize,
    /// How it stands: `connected`, `dialling`, `waiting` (to be dialled again), `resting` (not to be dialled
    /// until a user asks for it) or `idle` (not looked for).
    pub state: String,
    /// For how long it has been connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_secs: Option<u64>,
    /// When it is dialled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_secs: Option<u64>,
    /// How many attempts have failed since the last good connection.
    pub failures: u32,
    /// Why the last one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How much it has misbehaved; halves each hour, and bans a peer without channels from 100 on.
    pub misbehaviour: u32,
}

/// Peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    /// One by one.
    pub peers: Vec<PeerInfo>,
    /// Who is kept out.
    pub banned: Vec<BanInfo>,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanInfo {
    /// Who.
    pub node_id: String,
    /// For how long still; until it is lifted when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secs_left: Option<u64>,
    /// Whether a user said so; otherwise it is for misbehaviour.
    pub by_user: bool,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelInfo {
    /// Its id.
    pub channel_id: String,
    /// Its short id, once it is confirmed.
    pub short_channel_id: Option<String>,
    /// With whom.
    pub peer: String,
    /// Whether the peer is connected.
    pub connected: bool,
    /// How far it is: `opening`, `pending`, `open`, `shutting_down`, `closing_together`, `force_closing`,
    /// `on_chain` or `stale`.
    pub state: String,
    /// Whether payments can use it now.
    pub usable: bool,
    /// Whether we opened it.
    pub opener: bool,
    /// Whether it is announced to the network.
    pub public: bool,
    /// `anchors` or `static_remotekey`.
    pub channel_type: String,
    /// The funding output, `txid:index`, once it is known.
    pub funding: Option<String>,
    /// The funding transaction's confirmations.
    #[serde(default)]
    pub confirmations: u32,
    /// How many it must have before the channel can be used, once that is agreed.
    #[serde(default)]
    pub confirmations_wanted: Option<u32>,
    /// Its value.
    pub capacity_sat: u64,
    /// What is ours.
    pub local_msat: u64,
    /// What is the peer's.
    pub remote_msat: u64,
    /// The most that we can send in one payment now.
    pub spendable_msat: u64,
    /// HTLCs in flight that we offered.
    pub htlcs_out: usize,
    /// HTLCs in flight that the peer offered.
    pub htlcs_in: usize,
    /// What those that we offered carry.
    pub htlcs_out_msat: u64,
    /// What those that the peer offered carry.
    pub htlcs_in_msat: u64,
    /// The commitments' feerate.
    pub feerate_sat_per_kw: Option<u32>,
    /// Why it is being closed, and what is still to come.
    pub detail: Option<String>,
}

/// Channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelList {
    /// One by one.
    pub channels: Vec<ChannelInfo>,
}

/// How far an invoice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceState {
    /// It can be paid.
    Open,
    /// It was paid.
    Paid,
    /// Its time is over.
    Expired,
    /// It was withdrawn.
    Cancelled,
}

/// An invoice of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceInfo {
    /// Its payment hash.
    pub payment_hash: String,
    /// What it asks for, if it says so.
    pub amount_msat: Option<u64>,
    /// What it is for.
    pub description: String,
    /// How far it is.
    pub state: InvoiceState,
    /// What arrived.
    pub received_msat: Option<u64>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_millis: u64,
    /// Until when it can be paid, in milliseconds since 1970.
    pub expires_at_millis: u64,
    /// When it was paid, in milliseconds since 1970.
    pub paid_at_millis: Option<u64>,
    /// Its text.
    pub bolt11: String,
}

/// Invoices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceList {
    /// One by one, newest first.
    pub invoices: Vec<InvoiceInfo>,
    /// Where the next page goes on, if there is one: ask with it as `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How far a payment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// It is on its way.
    Pending,
    /// The payee has it.
    Succeeded,
    /// It was given up; nothing was paid.
    Failed,
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentInfo {
    /// Its hash.
    pub payment_hash: String,
    /// How far it is.
    pub state: PaymentState,
    /// What the payee gets.
    pub amount_msat: u64,
    /// What it cost beyond the amount, once it has succeeded.
    pub fee_msat: Option<u64>,
    /// The proof, once it has succeeded.
    pub preimage: Option<String>,
    /// Why it failed, for programs: `no_route`, `rejected`, `gave_up` or `abandoned`.
    pub failure_reason: Option<String>,
    /// Why it failed, and what to do.
    pub failure: Option<String>,
    /// How many HTLCs were sent.
    pub attempts: u32,
    /// The payee.
    pub payee: String,
    /// When it was begun, in milliseconds since 1970.
    pub created_at_millis: u64,
    /// When it ended, in milliseconds since 1970.
    pub ended_at_millis: Option<u64>,
}

/// Payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentList {
    /// One by one, newest first.
    pub payments: Vec<PaymentInfo>,
    /// Where the next page goes on, if there is one: ask with it as `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An output of a closed channel that is not back in the wallet yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepInfo {
    /// The channel.
    pub channel_id: String,
    /// The output, `txid:index`.
    pub outpoint: String,
    /// What it is: `main`, `htlc_success`, `htlc_timeout`, `second_stage` or `penalty`.
    pub kind: String,
    /// Its value, before the fee of claiming it.
    pub amount_sat: u64,
    /// From which block on it can be claimed, where that is known.
    pub claimable_at: Option<u32>,
    /// The transaction that claims it, once there is one.
    pub claimed_by: Option<String>,
}

/// A transaction of the on-chain wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionInfo {
    /// Its id.
    pub txid: String,
    /// What it is: `deposit` (what comes back from channels too), `withdrawal`, `funding` or `spend` (fees of
    /// claims).
    pub kind: String,
    /// What it did to the wallet, its fee included.
    pub change_sat: i64,
    /// Its fee, where the wallet pays all of it.
    pub fee_sat: Option<u64>,
    /// How deep it is; 0 while it is in no block.
    pub confirmations: u32,
    /// The height of its block.
    pub block_height: Option<u32>,
    /// The time of its block, or when it was first seen, in seconds since 1970.
    pub at_secs: u64,
}

/// Transactions of the on-chain wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionList {
    /// One by one: those in no block first, then newest first.
    pub transactions: Vec<TransactionInfo>,
}

/// What there is and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceInfo {
    /// On chain and confirmed, what is put aside included.
    pub onchain_confirmed_sat: u64,
    /// On chain and not confirmed yet.
    pub onchain_unconfirmed_sat: u64,
    /// On chain, put aside for fundings and fees that are on their way (part of the two above).
    pub onchain_leased_sat: u64,
    /// Kept on chain for the fees of closing channels (part of the confirmed).
    pub reserve_sat: u64,
    /// Ours in open channels, what is in flight not counted.
    pub channels_msat: u64,
    /// In HTLCs that we offered and that are on their way.
    pub in_flight_msat: u64,
    /// The most that can be sent over each channel now, summed up.
    pub spendable_msat: u64,
    /// Of channels that are being closed, not back in the wallet yet.
    pub sweeping_sat: u64,
    /// The same one by one.
    pub sweeps: Vec<SweepInfo>,
}

/// What an invoice says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodedInvoice {
    /// Its network's prefix: `bc`, `tb`, `tbs` or `bcrt`.
    pub currency: String,
    /// The payee.
    pub payee: String,
    /// The payment hash.
    pub payment_hash: String,
    /// What it asks for, if it says so.
    pub amount_msat: Option<u64>,
    /// What it is for; for a hash of a description its hex.
    pub description: Option<String>,
    /// The hash of the description, where the invoice has that instead.
    pub description_hash: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created_at_secs: u64,
    /// How long it can be paid, in seconds.
    pub expiry_secs: u64,
    /// Whether its time is over.
    pub expired: bool,
    /// Whether it is for this node's network.
    pub payable_here: bool,
    /// Blocks that the last HTLC must have.
    pub min_final_cltv_expiry_delta: u32,
    /// Private ways to the payee.
    pub route_hints: usize,
    /// Addresses to pay to on chain instead.
    pub fallbacks: Vec<String>,
    /// Its features, in hex.
    pub features: String,
    /// Whether the payment may be split.
    pub multi_part: bool,
}

/// The way that a payment would take now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRoute {
    /// What the payee gets.
    pub amount_msat: u64,
    /// What the forwarders get.
    pub fee_msat: u64,
    /// The price of the blocks that HTLCs may be out, as the router weighs it: nobody gets this.
    pub time_cost_msat: u64,
    /// The price of the risk that balances do not suffice: nobody gets this either.
    pub risk_cost_msat: u64,
    /// The chance that all parts succeed at once, in millionths.
    pub success_ppm: u32,
    /// The HTLCs.
    pub parts: Vec<RoutePart>,
}

/// One HTLC of a [`FoundRoute`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePart {
    /// What the payee gets by it.
    pub amount_msat: u64,
    /// What its forwarders get.
    pub fee_msat: u64,
    /// How many blocks it may be out at most.
    pub blocks: u32,
    /// The chance that it succeeds, in millionths.
    pub success_ppm: u32,
    /// From our channel on.
    pub hops: Vec<RouteHop>,
}

/// One hop of a [`RoutePart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHop {
    /// The channel.
    pub short_channel_id: String,
    /// The node at its other end.
    pub to: String,
    /// What that node calls itself, if it has said so.
    pub alias: Option<String>,
    /// What the HTLC over the channel carries.
    pub amount_msat: u64,
    /// What the node at the near end takes for it.
    pub fee_msat: u64,
    /// Blocks that the node at the near end takes off the expiry.
    pub cltv_expiry_delta: u32,
    /// The chance that the channel can carry it, in millionths.
    pub success_ppm: u32,
    /// What the chance rests on.
    pub known: HopKnowledge,
}

/// What the chance of a [`RouteHop`] rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum HopKnowledge {
    /// The channel is ours: its balance is known.
    Own,
    /// The invoice says that it can be used; nothing else is known.
    Invoice,
    /// It was tried before: its balance is at least and at most so much.
    Tried {
        /// At least.
        least_msat: u64,
        /// At most.
        most_msat: u64,
    },
    /// It was never tried: its capacity, and how balances are spread in general.
    Capacity {
        /// The capacity.
        capacity_msat: u64,
    },
    /// The channel has just left the graph.
    Gone,
}
