//! What users can see of the node. Nothing here changes anything.

use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use bitcoin::{Amount, Network, OutPoint, Txid, secp256k1::PublicKey};
use fulmen_channel::{Channel, ChannelStatus, Freshness};
use fulmen_enforce::PendingSweep;
use fulmen_gossip::{Gossip, NetworkGraph};
use fulmen_payments::{Invoice, Payment};
use fulmen_tx::{ChannelKeysId, Funding, Side};
use fulmen_types::{
    BlockHeight, ChannelId, ChannelType, Feature, Features, FeeratePerKw, Msat, ShortChannelId,
    codec::{Encode, encode_text},
    record::{RecordKey, Space},
};

use crate::{
    channels::ChannelEntry,
    event::NumberedEvent,
    input::{BlockId, ConnEpoch, Direction, PeerAddress},
    node::Node,
    port::{CoinPurpose, WalletBalance},
    step::Step,
};

/// The node at a glance.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Our key.
    pub node_id: PublicKey,
    /// The network.
    pub network: Network,
    /// The last block.
    pub tip: BlockId,
    /// Whether the chain source has delivered everything.
    pub synced: bool,
    /// Connected peers.
    pub peers: usize,
    /// Channels that can be used, wait, and are closing.
    pub channels: [usize; 3],
    /// The network as gossip tells it: nodes and channels.
    pub graph: (usize, usize),
    /// How many directions of those channels have told their terms: two for each when all have.
    pub graph_policies: usize,
    /// The number of the last event.
    pub last_event: u64,
}

/// A peer.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its key.
    pub node_id: PublicKey,
    /// Where it was reached.
    pub addresses: Vec<PeerAddress>,
    /// The connection, if there is one, and who made it.
    pub connection: Option<(ConnEpoch, Direction)>,
    /// What it offers, once `init` is exchanged.
    pub features: Option<Features>,
    /// Channels with it.
    pub channels: usize,
}

/// Where a channel stands, in a word and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// Before the funding transaction.
    Opening,
    /// Waits for confirmations or the peer.
    AwaitingReady,
    /// In use; `false` while the peer is away.
    Normal {
        /// Whether it can be used now.
        usable: bool,
    },
    /// A cooperative close is under way.
    ShuttingDown,
    /// Both have signed the closing transaction.
    MutualClose(Txid),
    /// We close alone; why.
    ForceClosing(String),
    /// A transaction that spends the funding is confirmed.
    OnChain(Txid),
    /// Our state is old.
    Stale,
    /// The signer refused what the channel needs, in its words: it rests until it is unblocked.
    SignerBlocked(String),
}

/// A channel.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// What its records are found by.
    pub keys_id: ChannelKeysId,
    /// Its id.
    pub channel_id: ChannelId,
    /// The other end.
    pub peer: PublicKey,
    /// Where it stands.
    pub state: ChannelState,
    /// The funding output.
    pub funding: Option<OutPoint>,
    /// Its value.
    pub capacity: Amount,
    /// The funding transaction's confirmations.
    pub confirmations: u32,
    /// How many it must have before the channel is used.
    pub minimum_depth: Option<u32>,
    /// Its place in the chain.
    pub short_channel_id: Option<ShortChannelId>,
    /// Our name for it.
    pub alias: ShortChannelId,
    /// Its type.
    pub channel_type: Option<ChannelType>,
    /// Whether the world knows it.
    pub announced: bool,
    /// Whether we opened it.
    pub opener: bool,
    /// Our balance and the peer's; HTLCs are in neither.
    pub balances: (Msat, Msat),
    /// The most that can be sent in one payment now.
    pub spendable: Msat,
    /// HTLCs in flight: ours and the peer's.
    pub htlcs: (usize, usize),
    /// What they carry: ours and the peer's.
    pub htlc_amounts: (Msat, Msat),
    /// The commitment transactions' feerate.
    pub feerate: Option<FeeratePerKw>,
    /// The numbers of our newest commitment and the peer's.
    pub commitment_numbers: Option<(u64, u64)>,
    /// Whether our state is known to be the newest, once funded.
    pub freshness: Option<Freshness>,
}

/// Where our money is.
#[derive(Clone, Debug)]
pub struct BalanceInfo {
    /// In the on-chain wallet.
    pub wallet: WalletBalance,
    /// What of it is kept for the fees of closing channels.
    pub reserve: Amount,
    /// Ours in channels that are open or opening.
    pub channels: Msat,
    /// In HTLCs that we offered in them.
    pub in_flight: Msat,
    /// Outputs of closed channels on their way to the wallet.
    pub sweeps: Vec<(ChannelId, PendingSweep)>,
}

impl ChannelEntry {
    pub(crate) fn funding(&self) -> Option<Funding> {
        self.channel.params().map(|params| params.funding)
    }

    /// What onions and our own router may call it. BOLT 2: with `option_scid_alias` as its type never by
    /// its place in the chain.
    pub(crate) fn public_id(&self) -> Option<ShortChannelId> {
        let hides = self
            .channel
            .channel_type()
            .is_some_and(|t| t.has(Feature::ScidAlias));
        self.short_channel_id.filter(|_| !hides)
    }

    pub(crate) fn has_anchors(&self) -> bool {
        self.channel
            .channel_type()
            .is_some_and(|t| t.has(Feature::Anchors))
    }

    pub(crate) fn is_opener(&self) -> bool {
        self.channel.opener() == Some(Side::Local)
    }

    pub(crate) fn is_closing(&self) -> bool {
        match self.channel.status() {
            ChannelStatus::Opening
            | ChannelStatus::AwaitingReady
            | ChannelStatus::Normal
            | ChannelStatus::SignerBlocked(_) => false,
            ChannelStatus::ShuttingDown
            | ChannelStatus::MutualClose(_)
            | ChannelStatus::ForceClosing(_)
            | ChannelStatus::Frozen(_)
            | ChannelStatus::Stale
            | ChannelStatus::Gone => true,
        }
    }

    /// Whether its end is for the chain to decide.
    pub(crate) fn is_over(&self) -> bool {
        matches!(
            self.channel.status(),
            ChannelStatus::ForceClosing(_)
                | ChannelStatus::Frozen(_)
                | ChannelStatus::Stale
                | ChannelStatus::Gone
        )
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.channel.status() == ChannelStatus::Normal
    }

    /// Whether waiting may make it usable.
    pub(crate) fn may_become_usable(&self) -> bool {
        !self.usable
            && matches!(
                self.channel.status(),
                ChannelStatus::Normal | ChannelStatus::AwaitingReady
            )
    }

    pub(crate) fn peer_htlc_minimum(&self) -> Msat {
        self.channel
            .remote_limits()
            .map_or(Msat::ZERO, |limits| limits.htlc_minimum)
    }

    pub(crate) fn peer_max_in_flight(&self) -> Msat {
        self.channel
            .remote_limits()
            .map_or(Msat::MAX, |limits| limits.max_in_flight)
    }

    /// What the peer could send to us by its balance.
    pub(crate) fn receivable(&self) -> Msat {
        let reserve = self
            .channel
            .local_limits()
            .map_or(Msat::ZERO, |l| Msat::from_amount(l.reserve));
        self.channel.balances().1.saturating_sub(reserve)
    }

    pub(crate) fn outgoing_link(&self, id: fulmen_types::HtlcId) -> Option<Vec<u8>> {
        self.channel
            .htlcs()
            .into_iter()
            .find(|htlc| htlc.offered_by == Side::Local && htlc.id == id)?
            .link
    }
}

impl Node {
    /// The node at a glance.
    pub fn info(&mut self) -> NodeInfo {
        let mut channels = [0; 3];
        for entry in self.channels.values() {
            let kind = if entry.is_closing() {
                2
            } else if entry.usable {
                0
            } else {
                1
            };
            channels[kind] += 1;
        }
        let graph = self.gossip.graph();
        NodeInfo {
            node_id: self.identity,
            network: self.config.network,
            tip: self.chain.tip(),
            synced: self.chain.synced,
            peers: self.peers.values().filter(|p| p.ready().is_some()).count(),
            channels,
            graph: (graph.node_count(), graph.channel_count()),
            graph_policies: graph
                .channels()
                .map(|channel| channel.policies.iter().flatten().count())
                .sum(),
            last_event: self.events.last(),
        }
    }

    /// All peers that are connected or that we have channels with.
    pub fn peers_info(&self) -> Vec<PeerInfo> {
        self.peers
            .iter()
            .map(|(node_id, peer)| PeerInfo {
                node_id: *node_id,
                addresses: peer.addresses.clone(),
                connection: peer.connection.as_ref().map(|c| (c.epoch, c.direction)),
                features: peer.ready().map(|(_, features)| features.clone()),
                channels: self.channels_of(node_id).len(),
            })
            .collect()
    }

    /// All channels that are not settled 100 blocks deep.
    pub fn channels_info(&self) -> Vec<ChannelInfo> {
        self.channels
            .iter()
            .map(|(keys_id, entry)| channel_info(*keys_id, entry, self.chain.height()))
            .collect()
    }

    /// Where our money is.
    pub fn balance_info(&self) -> BalanceInfo {
        let live = self.channels.values().filter(|e| !self.is_on_chain(e));
        let channels = live.clone().map(|e| e.channel.balances().0);
        let in_flight = live
            .flat_map(|e| e.channel.htlcs())
            .filter(|htlc| htlc.offered_by == Side::Local)
            .map(|htlc| htlc.amount);
        BalanceInfo {
            wallet: self.wallet,
            reserve: self.reserve_with(0),
            channels: Msat::checked_sum(channels).unwrap_or(Msat::MAX),
            in_flight: Msat::checked_sum(in_flight).unwrap_or(Msat::MAX),
            sweeps: self
                .resolutions
                .iter()
                .filter_map(|(keys_id, r)| Some((self.channels.get(keys_id)?.channel_id, r)))
                .flat_map(|(id, r)| {
                    r.pending_sweeps(&self.secp)
                        .into_iter()
                        .map(move |s| (id, s))
                })
                .collect(),
        }
    }

    fn is_on_chain(&self, entry: &ChannelEntry) -> bool {
        let keys_id = entry.channel.keys_id();
        keys_id.is_some_and(|keys_id| self.resolutions.contains_key(&keys_id))
    }

    /// Payments of ours that are on their way. Those that ended are in [`Space::PaymentArchive`], each a
    /// record that [`Payment::from_record`] reads, and in the order of lists in [`Space::PaymentByTime`].
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.outgoing.iter()
    }

    /// Invoices of ours that are not paid. The others are in [`Space::InvoiceArchive`], each an encoded
    /// [`Invoice`], and in the order of lists in [`Space::InvoiceByTime`].
    pub fn invoices(&self) -> impl Iterator<Item = &Invoice> {
        self.invoices.iter()
    }

    /// Events after number `cursor` that are still kept, in order.
    pub fn events_after(&self, cursor: u64) -> impl Iterator<Item = &NumberedEvent> {
        self.events.after(cursor)
    }

    /// The tip and its known ancestors, newest first: from where a chain source resumes.
    pub fn chain_tip(&self) -> Vec<BlockId> {
        self.chain.recent()
    }

    /// Whether the chain source has delivered everything up to the best tip.
    pub const fn is_synced(&self) -> bool {
        self.chain.synced
    }

    /// The announced network as it is now.
    pub fn graph(&mut self) -> Arc<NetworkGraph> {
        self.gossip.graph()
    }

    /// The gossip machine, for its files.
    pub const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    /// Our key.
    pub const fn node_id(&self) -> PublicKey {
        self.identity
    }

    /// What must stay in the wallet, confirmed, for the fees of closing channels.
    pub fn required_reserve(&self) -> Amount {
        self.reserve_with(0)
    }

    /// The leases of wallet coins that are held, for claims and for fundings that may have to be broadcast
    /// again: after a start the wallet frees all others.
    pub fn coin_leases(&self) -> Vec<(CoinPurpose, Vec<OutPoint>)> {
        let fundings = self.channels.iter().filter_map(|(keys_id, entry)| {
            let funding = entry.channel.funding_transaction()?;
            let coins = funding.input.iter().map(|input| input.previous_output);
            Some((CoinPurpose::Funding(*keys_id), coins.collect()))
        });
        let claims = self.resolutions.iter().flat_map(|(keys_id, resolution)| {
            resolution.leases().map(|(lease, coins)| {
                let coins = coins.iter().map(|coin| coin.outpoint).collect();
                (CoinPurpose::Claim(*keys_id, lease), coins)
            })
        });
        fundings.chain(claims).collect()
    }

    /// What the history shows of a channel that is over.
    pub(crate) fn archive_channel(&self, step: &mut Step, keys_id: ChannelKeysId) {
        let Some(entry) = self.channels.get(&keys_id) else {
            return;
        };
        let mut value = alloc::vec![1u8];
        entry.channel_id.encode(&mut value);
        entry.peer.encode(&mut value);
        entry.channel.funding_outpoint().encode(&mut value);
        entry.channel.value().encode(&mut value);
        encode_text(&entry.channel.describe(), &mut value);
        let height: BlockHeight = self.chain.height();
        height.encode(&mut value);
        step.batch.put(
            RecordKey::new(Space::ChannelArchive, *keys_id.as_bytes()),
            value,
        );
    }
}

fn channel_info(keys_id: ChannelKeysId, entry: &ChannelEntry, tip: BlockHeight) -> ChannelInfo {
    let channel = &entry.channel;
    let htlcs = channel.htlcs();
    let of = |side: Side| htlcs.iter().filter(move |htlc| htlc.offered_by == side);
    let sum = |side: Side| of(side).fold(Msat::ZERO, |sum, htlc| sum.saturating_add(htlc.amount));
    ChannelInfo {
        keys_id,
        channel_id: entry.channel_id,
        peer: entry.peer,
        state: channel_state(channel, entry.usable),
        funding: channel.funding_outpoint(),
        capacity: channel.value(),
        confirmations: channel
            .funding_height()
            .map_or(0, |height| height.depth_at(tip)),
        minimum_depth: channel.minimum_depth(),
        short_channel_id: entry.short_channel_id,
        alias: entry.alias,
        channel_type: channel.channel_type().cloned(),
        announced: channel.is_announced(),
        opener: entry.is_opener(),
        balances: channel.balances(),
        spendable: channel.available_to_send(),
        htlcs: (of(Side::Local).count(), of(Side::Remote).count()),
        htlc_amounts: (sum(Side::Local), sum(Side::Remote)),
        feerate: channel.feerate(),
        commitment_numbers: channel
            .commitment_numbers()
            .map(|(a, b)| (a.to_u64(), b.to_u64())),
        freshness: channel.freshness(),
    }
}

fn channel_state(channel: &Channel, usable: bool) -> ChannelState {
    match channel.status() {
        ChannelStatus::Opening | ChannelStatus::Gone => ChannelState::Opening,
        ChannelStatus::AwaitingReady => ChannelState::AwaitingReady,
        ChannelStatus::Normal => ChannelState::Normal { usable },
        ChannelStatus::ShuttingDown => ChannelState::ShuttingDown,
        ChannelStatus::MutualClose(txid) => ChannelState::MutualClose(txid),
        ChannelStatus::ForceClosing(reason) => ChannelState::ForceClosing(reason.to_string()),
        ChannelStatus::Frozen(txid) => ChannelState::OnChain(txid),
        ChannelStatus::Stale => ChannelState::Stale,
        ChannelStatus::SignerBlocked(reason) => ChannelState::SignerBlocked(reason),
    }
}
