//! The gossip machine's place in the node.

use alloc::{boxed::Box, collections::BTreeSet, sync::Arc, vec::Vec};

use bitcoin::secp256k1::PublicKey;
use fulmen_gossip::{
    CheckedGossip, Gossip, GossipConfig, GossipInput, GossipOutput, OwnChannel, OwnPolicy, ToCheck,
    Unsigned, UnsignedGraph,
};
use fulmen_payments::ForwardPolicy;
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::ChannelKeysId;
use fulmen_types::{CltvExpiryDelta, Feature, Features, Msat, NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{ChannelAnnouncement, ChannelUpdate, Message, MessageType, Warning};

use crate::{
    channels::ChannelEntry,
    config::NodeConfig,
    effects::{ActionKind, ReleaseClass},
    input::{Block, BlockId, ConnEpoch},
    node::Node,
    port::{Answer, Ask},
    requests::{GossipPending, Pending},
    step::Step,
};

/// How often the outputs of channels that are gone from the graph are forgotten.
const PRUNE_BLOCKS: u32 = 144;

/// What the gossip machine is told at the start.
pub(crate) fn gossip_config(
    config: &NodeConfig,
    features: &Features,
    identity: &PublicKey,
) -> GossipConfig {
    GossipConfig {
        alias: config.alias,
        color: config.rgb,
        node_features: features
            .clone()
            .without(Feature::ScidAlias)
            .with_optional(Feature::ScidAlias),
        addresses: config.addresses.clone(),
        flush_millis: config.gossip_flush_millis,
        ..GossipConfig::new(config.channel.chain_hash, NodeId::from(*identity))
    }
}

impl Node {
    /// A gossip machine that has just been made is told where everything stands. Without a tip it asks the
    /// chain nothing; without our channels it does not announce them.
    pub(crate) fn gossip_begins(&mut self, step: &mut Step) {
        self.gossip_input(step, GossipInput::Tip(self.chain.height()));
        let peers: Vec<PublicKey> = self.peers.keys().copied().collect();
        for peer in peers {
            self.gossip_peer_connected(step, peer);
        }
        let ids: Vec<ChannelKeysId> = self.channels.keys().copied().collect();
        for keys_id in ids {
            let Some(entry) = self.channels.get_mut(&keys_id) else {
                continue;
            };
            entry.gossip_id = None;
            let announcement = entry.announcement.clone();
            self.gossip_channel_changed(step, keys_id);
            if let Some(announcement) = announcement {
                self.gossip_input(step, GossipInput::OwnAnnouncement(announcement));
            }
        }
    }

    /// Gives the gossip machine one input and does what comes out.
    fn gossip_input(&mut self, step: &mut Step, input: GossipInput) {
        let outputs = self.gossip.handle(step.now, input);
        for output in outputs {
            self.gossip_output(step, output);
        }
    }

    fn gossip_output(&mut self, step: &mut Step, output: GossipOutput) {
        match output {
            GossipOutput::Send { peer, message } => {
                if let Ok(peer) = peer.to_public_key() {
                    self.send(step, peer, None, message);
                }
            }
            GossipOutput::AskUtxo(scid) => {
                let id = self
                    .requests
                    .open(Pending::Gossip(GossipPending::Utxo(scid)));
                let ask = Ask::Utxo(scid);
                step.act_as(ReleaseClass::Now, ActionKind::Ask { id, ask });
            }
            GossipOutput::WatchFunding {
                short_channel_id,
                outpoint,
                script_pubkey,
            } => {
                self.gossip_fundings.insert(outpoint, short_channel_id);
                let from = self.chain.height();
                let watch = ActionKind::WatchOutpoint {
                    outpoint,
                    script_pubkey,
                    from,
                };
                step.act_as(ReleaseClass::Now, watch);
            }
            GossipOutput::AskSign(unsigned) => {
                let request = match &unsigned {
                    Unsigned::ChannelUpdate(update) => {
                        SigningRequest::ChannelUpdate(update.clone())
                    }
                    Unsigned::NodeAnnouncement(node) => {
                        SigningRequest::NodeAnnouncement(node.clone())
                    }
                };
                let pending = Pending::Gossip(GossipPending::Sign(Box::new(unsigned)));
                let id = self.requests.open(pending);
                step.act(ActionKind::Ask {
                    id,
                    ask: Ask::Sign(request),
                });
            }
            GossipOutput::PeerPolicy(update) => self.peer_policy(&update),
            GossipOutput::Misbehaved { peer, why } => {
                if let Ok(peer) = peer.to_public_key() {
                    step.act(ActionKind::Misbehaved { peer, why });
                    let warning = Warning::new(fulmen_types::ChannelId::ALL, why);
                    self.send(step, peer, None, Message::Warning(warning));
                }
            }
            GossipOutput::GraphChanged => {}
        }
    }

    pub(crate) fn gossip_answer(
        &mut self,
        step: &mut Step,
        pending: GossipPending,
        answer: Answer,
    ) {
        let input = match (pending, answer) {
            (GossipPending::Utxo(short_channel_id), Answer::Utxo(answer)) => GossipInput::Utxo {
                short_channel_id,
                answer,
            },
            (
                GossipPending::Sign(unsigned),
                Answer::Signed(SigningAnswer::Signature(signature)),
            ) => GossipInput::Signed {
                unsigned: *unsigned,
                signature,
            },
            (GossipPending::Sign(unsigned), _) => GossipInput::NotSigned(*unsigned),
            (GossipPending::Utxo(_), _) => return,
        };
        self.gossip_input(step, input);
    }

    pub(crate) fn gossip_peer_connected(&mut self, step: &mut Step, peer: PublicKey) {
        let Some((_, features)) = self.peers.get(&peer).and_then(|p| p.ready()) else {
            return;
        };
        let features = features.clone();
        self.gossip_input(
            step,
            GossipInput::PeerConnected {
                peer: NodeId::from(peer),
                features,
            },
        );
    }

    pub(crate) fn gossip_peer_disconnected(&mut self, step: &mut Step, peer: PublicKey) {
        self.gossip_input(step, GossipInput::PeerDisconnected(NodeId::from(peer)));
    }

    pub(crate) fn gossip_message(&mut self, step: &mut Step, peer: PublicKey, message: Message) {
        self.gossip_input(
            step,
            GossipInput::Message {
                peer: NodeId::from(peer),
                message,
            },
        );
    }

    pub(crate) fn checked_gossip(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        epoch: ConnEpoch,
        checked: Box<CheckedGossip>,
    ) {
        if self.gossips_with(&peer, epoch) {
            let peer = NodeId::from(peer);
            self.gossip_input(step, GossipInput::Checked { peer, checked });
        }
    }

    pub(crate) fn peer_busy(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        epoch: ConnEpoch,
        is_busy: bool,
    ) {
        if self.gossips_with(&peer, epoch) {
            let peer = NodeId::from(peer);
            self.gossip_input(step, GossipInput::PeerBusy { peer, is_busy });
        }
    }

    fn gossips_with(&self, peer: &PublicKey, epoch: ConnEpoch) -> bool {
        self.peers
            .get(peer)
            .and_then(|entry| entry.connection.as_ref())
            .is_some_and(|c| c.epoch == epoch && c.features.is_some())
    }

    /// Whether a peer's message is worth a check of its signatures before it comes as
    /// [`Input::CheckedGossip`](crate::Input::CheckedGossip). Changes nothing.
    pub fn gossip_to_check(&self, now: Timestamp, peer: PublicKey, message: Message) -> ToCheck {
        self.gossip.to_check(now, &NodeId::from(peer), message)
    }

    pub(crate) fn gossip_snapshot(&mut self, step: &mut Step, changes: Arc<UnsignedGraph>) {
        self.gossip_input(step, GossipInput::Unsigned(changes));
    }

    pub(crate) fn tick_gossip(&mut self, step: &mut Step) {
        if self.gossip.next_wake() <= step.now {
            self.gossip_input(step, GossipInput::Tick);
        }
    }

    pub(crate) fn gossip_next_wake(&self) -> Option<Timestamp> {
        Some(self.gossip.next_wake())
    }

    pub(crate) fn gossip_block(&mut self, step: &mut Step, block: &Block) {
        self.gossip_input(step, GossipInput::Tip(block.id.height));
        if block.id.height.to_u32().is_multiple_of(PRUNE_BLOCKS) {
            // Channels leave the graph for other reasons than their spends, too.
            let graph = self.gossip.graph();
            let spent: BTreeSet<ShortChannelId> =
                self.gossip_spends.values().flatten().copied().collect();
            self.gossip_fundings
                .retain(|_, scid| graph.channel(*scid).is_some() || spent.contains(scid));
        }
        if self.gossip_fundings.is_empty() {
            return;
        }
        let spent: Vec<ShortChannelId> = block
            .transactions
            .iter()
            .flat_map(|(_, tx)| &tx.input)
            .filter_map(|input| self.gossip_fundings.get(&input.previous_output).copied())
            .collect();
        for short_channel_id in spent {
            let height = block.id.height;
            self.gossip_spends
                .entry(height)
                .or_default()
                .push(short_channel_id);
            self.gossip_input(
                step,
                GossipInput::FundingSpent {
                    short_channel_id,
                    height,
                },
            );
        }
        let old = block.id.height.minus(100);
        self.gossip_spends = self.gossip_spends.split_off(&old);
    }

    pub(crate) fn gossip_block_disconnected(&mut self, step: &mut Step, block: BlockId) {
        for scid in self.gossip_spends.remove(&block.height).unwrap_or_default() {
            self.gossip_input(step, GossipInput::FundingUnspent(scid));
        }
        self.gossip_input(step, GossipInput::Tip(block.height.minus(1)));
    }

    /// A channel's usability, place or end has changed.
    pub(crate) fn gossip_channel_changed(&mut self, step: &mut Step, keys_id: ChannelKeysId) {
        let Some(entry) = self.channels.get(&keys_id) else {
            return;
        };
        let id = entry.public_id().unwrap_or(entry.alias);
        let (usable, peer) = (entry.usable, entry.peer);
        let known = entry.gossip_id;
        if entry.is_closing() {
            if let Some(known) = known {
                self.gossip_input(step, GossipInput::OwnChannelClosed(known));
            }
            return;
        }
        if !entry.is_ready() {
            return;
        }
        if let Some(old) = known.filter(|old| *old != id) {
            self.gossip_input(step, GossipInput::OwnChannelClosed(old));
        }
        let Some(entry) = self.channels.get_mut(&keys_id) else {
            return;
        };
        let Some(funding) = entry.funding() else {
            return;
        };
        entry.gossip_id = Some(id);
        let forward = *entry.policy.current();
        let htlc_maximum = forward
            .htlc_maximum
            .min(entry.peer_max_in_flight())
            .min(Msat::from_amount(funding.value));
        let channel = OwnChannel {
            id,
            id_for_peer: entry
                .peer_alias
                .or(entry.public_id())
                .unwrap_or(entry.alias),
            peer: NodeId::from(peer),
            capacity: funding.value,
            policy: OwnPolicy {
                fee_base_msat: forward.fee_base_msat,
                fee_proportional_millionths: forward.fee_proportional_millionths,
                cltv_expiry_delta: CltvExpiryDelta::new(forward.cltv_expiry_delta),
                htlc_minimum: forward.htlc_minimum.max(entry.peer_htlc_minimum()),
                htlc_maximum,
            },
        };
        self.gossip_input(step, GossipInput::OwnChannel(channel));
        let input = if usable {
            GossipInput::OwnChannelUp(id)
        } else {
            GossipInput::OwnChannelDown(id)
        };
        self.gossip_input(step, input);
    }

    pub(crate) fn gossip_announced(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        announcement: Box<ChannelAnnouncement>,
    ) {
        if let Some(entry) = self.channels.get_mut(&keys_id) {
            entry.announcement = Some(announcement.clone());
        }
        self.gossip_channel_changed(step, keys_id);
        self.gossip_input(step, GossipInput::OwnAnnouncement(announcement));
    }

    fn peer_policy(&mut self, update: &ChannelUpdate) {
        let Some(keys_id) = self.by_scid.get(&update.short_channel_id) else {
            return;
        };
        let Some(entry) = self.channels.get_mut(keys_id) else {
            return;
        };
        entry.peer_policy = Some(ForwardPolicy {
            fee_base_msat: update.fee_base_msat,
            fee_proportional_millionths: update.fee_proportional_millionths,
            cltv_expiry_delta: update.cltv_expiry_delta.to_u16(),
            htlc_minimum: update.htlc_minimum_msat,
            htlc_maximum: update.htlc_maximum_msat,
        });
    }

    /// What the peer asks for forwarding to us over this channel.
    pub(crate) fn gossip_peer_policy(&self, entry: &ChannelEntry) -> Option<ForwardPolicy> {
        entry.peer_policy
    }

    /// Our last `channel_update` for a channel as failures carry it: with its type.
    pub(crate) fn own_channel_update(&self, keys_id: ChannelKeysId) -> Vec<u8> {
        let update = self
            .channels
            .get(&keys_id)
            .and_then(|entry| entry.gossip_id)
            .and_then(|id| self.gossip.own_update(id));
        update.map_or_else(Vec::new, |update| {
            let mut bytes = ChannelUpdate::TYPE.to_be_bytes().to_vec();
            fulmen_types::codec::Encode::encode(update, &mut bytes);
            bytes
        })
    }

    /// A gossip machine for a new or restored node.
    pub(crate) fn new_gossip(
        config: &NodeConfig,
        features: &Features,
        identity: &PublicKey,
    ) -> Gossip {
        Gossip::new(gossip_config(config, features, identity))
    }
}
