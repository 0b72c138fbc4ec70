//! One node with what a driver and an operating system give it: disk, keys, wallet, connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use bitcoin::{OutPoint, ScriptBuf, Transaction, secp256k1::PublicKey};
use fulmen_channel::Channel;
use fulmen_gossip::{NetworkGraph, SignedMessages};
use fulmen_node::{ChannelInfo, ChannelState, Event, Node, NodeConfig};
use fulmen_signer::{KeysManager, Signer, SignerState, SigningAnswer, SigningRequest};
use fulmen_types::record::{RecordKey, Space};

use crate::{disk::Disk, outbox::Outbox, wallet::Wallet};

/// Keys behind a signer that remembers, like one in hardware: it outlives every crash of its node, and
/// what it refuses is a fault of the node.
pub(crate) struct Keys {
    manager: KeysManager,
    state: Mutex<SignerState>,
    /// Signs whatever it is asked to: a cheater's.
    careless: bool,
}

impl Keys {
    /// The keys of a seed.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let manager = KeysManager::new(seed, bitcoin::Network::Regtest);
        Self {
            manager,
            state: Mutex::new(SignerState::new()),
            careless: false,
        }
    }

    /// From now on they refuse nothing.
    pub(crate) fn become_careless(&mut self) {
        self.careless = true;
    }
}

impl Signer for Keys {
    fn answer(&self, request: &SigningRequest) -> SigningAnswer {
        if self.careless {
            return self.manager.answer(request);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.answer(&self.manager, request)
    }

    fn node_id(&self) -> PublicKey {
        self.manager.node_id()
    }
}

/// A node and its surroundings. Everything but `disk`, `keys`, `wallet` and what users remember ends with a
/// crash.
pub(crate) struct Host {
    /// Its place in the list of hosts.
    pub(crate) index: usize,
    /// Its key.
    pub(crate) id: PublicKey,
    /// Its policy.
    pub(crate) config: NodeConfig,
    /// Its keys.
    pub(crate) keys: Keys,
    /// Its disk.
    pub(crate) disk: Disk,
    /// Its on-chain wallet.
    pub(crate) wallet: Wallet,
    /// The node while it runs.
    pub(crate) node: Option<Node>,
    /// Counts its starts: what was begun in an earlier one is dropped.
    pub(crate) boot: u32,
    /// What waits for the disk.
    pub(crate) outbox: Outbox,
    /// The next tick.
    pub(crate) wake: Option<u64>,
    /// Connections that stand, as far as it was told.
    pub(crate) connections: BTreeMap<PublicKey, u64>,
    /// Whom it reconnects to.
    pub(crate) keep: BTreeSet<PublicKey>,
    /// When it last refused a feerate of an honest peer rightly.
    pub(crate) feerate_refused: Option<u64>,
    /// Whether the chain source gives it only what it watches.
    pub(crate) filtered: bool,
    /// Outputs whose spends it wants.
    pub(crate) outpoints: BTreeSet<OutPoint>,
    /// Scripts whose payments it wants.
    pub(crate) scripts: BTreeSet<ScriptBuf>,
    /// Whether the next block is on its way already.
    pub(crate) chain_step: bool,
    /// Whether it was too far behind, and hears of blocks at once until it is not.
    pub(crate) catches_up: bool,
    /// How many times longer than those of others the delays of its blocks may be.
    pub(crate) lag: u64,
    /// How far its clock is ahead, in milliseconds.
    pub(crate) clock: u64,
    /// Until when its signer, wallet and router are away.
    pub(crate) absent_until: u64,
    /// Whether its file of the graph survives crashes.
    pub(crate) keeps_graph: bool,
    /// That file.
    pub(crate) graph: Option<(NetworkGraph, SignedMessages)>,
    /// What its user has been told, by number.
    pub(crate) events: BTreeMap<u64, Event>,
    /// What the user has acknowledged.
    pub(crate) acknowledged: u64,
    /// What its wallet had at the start, in satoshis.
    pub(crate) initial_sat: u64,
    /// A crash that happens at the end of this moment.
    pub(crate) crash: bool,
    /// Whether it made a step since it was looked at.
    pub(crate) touched: bool,
}

impl Host {
    /// Whether a transaction is of interest.
    pub(crate) fn watches(&self, tx: &Transaction) -> bool {
        tx.input
            .iter()
            .any(|i| self.outpoints.contains(&i.previous_output))
            || tx
                .output
                .iter()
                .any(|o| self.scripts.contains(&o.script_pubkey))
    }

    /// The channels of the durable records.
    pub(crate) fn channels_on_disk(&self) -> Vec<Channel> {
        let all = RecordKey::new(Space::Channel, Vec::new());
        let ids = self.disk.durable_keys(&all);
        ids.filter_map(|key| {
            let prefix = RecordKey::new(Space::Htlc, key.key.clone());
            let htlcs: Vec<&[u8]> = self.disk.durable_with_prefix(&prefix).collect();
            Channel::restore(self.disk.durable(key)?, htlcs).ok()
        })
        .collect()
    }

    /// The node's channels; none while it is down.
    pub(crate) fn channels(&self) -> Vec<ChannelInfo> {
        self.node
            .as_ref()
            .map(Node::channels_info)
            .unwrap_or_default()
    }
}

/// What must be the same before and after a restart: channels, payments and invoices.
pub(crate) fn listing(node: &Node) -> Vec<String> {
    let channels = node.channels_info();
    let mut lines: Vec<String> = channels
        .iter()
        // Before the funding there is nothing to lose, and nothing is kept.
        .filter(|c| c.state != ChannelState::Opening)
        .map(|c| {
            let state = match &c.state {
                // A restart may find that a channel has become ready in the meantime.
                ChannelState::Normal { .. } | ChannelState::AwaitingReady => "open".to_owned(),
                other => format!("{other:?}"),
            };
            format!(
                "channel {} {} {state} funding {:?} scid {:?} announced {} balances {:?} htlcs {:?} {:?} feerate {:?} numbers {:?}",
                c.channel_id,
                c.channel_type.as_ref().map_or(String::new(), |t| format!("{t:?}")),
                c.funding,
                c.short_channel_id,
                c.announced,
                c.balances,
                c.htlcs,
                c.htlc_amounts,
                c.feerate,
                c.commitment_numbers,
            )
        })
        .collect();
    // One that waits to try again may as well have been given up.
    lines.extend(
        node.payments()
            .filter(|p| !p.parts.is_empty())
            .map(|p| format!("payment {} {:?}", p.request.payment_hash, p.status)),
    );
    lines.extend(
        node.invoices()
            .map(|i| format!("invoice {} {:?}", i.payment_hash(), i.status)),
    );
    lines.sort();
    lines
}
