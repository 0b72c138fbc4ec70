//! Keys from the seed, and messages signed by them.

use bitcoin::{
    hashes::{Hash, sha256},
    secp256k1::{Message, Secp256k1, SecretKey, Signing, ecdsa::Signature},
};
use fulmen_gossip::Direction;
use fulmen_types::NodeId;
use fulmen_wire::{
    ChannelAnnouncement, ChannelUpdate, NetAddress, NodeAlias, NodeAnnouncement, Rgb,
};

use crate::{Network, rng::Rng, terms::NEWEST_UPDATE};

fn secret_key(seed: u64, purpose: &str, index: usize) -> SecretKey {
    let text = format!("{seed} {purpose} {index}");
    let hash = sha256::Hash::hash(text.as_bytes());
    SecretKey::from_slice(hash.as_byte_array()).expect("a hash is a key but once in 2^127")
}

fn public<C: Signing>(secp: &Secp256k1<C>, key: &SecretKey) -> NodeId {
    NodeId::new(key.public_key(secp).serialize())
}

pub(crate) fn node_id<C: Signing>(secp: &Secp256k1<C>, seed: u64, node: usize) -> NodeId {
    public(secp, &secret_key(seed, "node", node))
}

fn unsigned() -> Signature {
    Signature::from_compact(&[1; 64]).expect("0x01.. is below the order of the curve")
}

impl Network {
    fn node_key(&self, node: usize) -> SecretKey {
        secret_key(self.seed, "node", node)
    }

    fn sign(&self, hash: &Message, key: &SecretKey) -> Signature {
        self.secp.sign_ecdsa(hash, key)
    }

    /// The signed `channel_announcement` of a channel.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn channel_announcement(&self, channel: usize) -> ChannelAnnouncement {
        let it = &self.channels[channel];
        let funding = [0, 1].map(|end| secret_key(self.seed, "funding", 2 * channel + end));
        let nodes = it.nodes.map(|node| node as usize);
        let mut message = ChannelAnnouncement {
            node_signature_1: unsigned(),
            node_signature_2: unsigned(),
            bitcoin_signature_1: unsigned(),
            bitcoin_signature_2: unsigned(),
            features: Self::channel_features(),
            chain_hash: self.chain_hash,
            short_channel_id: it.short_channel_id,
            node_id_1: self.nodes[nodes[0]],
            node_id_2: self.nodes[nodes[1]],
            bitcoin_key_1: public(&self.secp, &funding[0]),
            bitcoin_key_2: public(&self.secp, &funding[1]),
            excess_data: Vec::new(),
        };
        let hash = message.signature_hash();
        message.node_signature_1 = self.sign(&hash, &self.node_key(nodes[0]));
        message.node_signature_2 = self.sign(&hash, &self.node_key(nodes[1]));
        message.bitcoin_signature_1 = self.sign(&hash, &funding[0]);
        message.bitcoin_signature_2 = self.sign(&hash, &funding[1]);
        message
    }

    /// The signed `channel_update` of one end; `None` when that end sent none.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn channel_update(&self, channel: usize, direction: Direction) -> Option<ChannelUpdate> {
        let it = &self.channels[channel];
        let end = usize::from(direction.to_bit());
        let policy = it.policies[end]?;
        let disable = if policy.disabled {
            ChannelUpdate::DISABLE
        } else {
            0
        };
        let mut message = ChannelUpdate {
            signature: unsigned(),
            chain_hash: self.chain_hash,
            short_channel_id: it.short_channel_id,
            timestamp: policy.timestamp,
            message_flags: ChannelUpdate::MUST_BE_ONE,
            channel_flags: direction.to_bit() | disable,
            cltv_expiry_delta: policy.cltv_expiry_delta,
            htlc_minimum_msat: policy.htlc_minimum,
            fee_base_msat: policy.fee_base_msat,
            fee_proportional_millionths: policy.fee_proportional_millionths,
            htlc_maximum_msat: policy.htlc_maximum,
            excess_data: Vec::new(),
        };
        let key = self.node_key(it.nodes[end] as usize);
        message.signature = self.sign(&message.signature_hash(), &key);
        Some(message)
    }

    /// The signed `node_announcement` of a node; `None` for one in ten, which sent none.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn node_announcement(&self, node: usize) -> Option<NodeAnnouncement> {
        let mut message = self.unsigned_node_announcement(node)?;
        message.signature = self.sign(&message.signature_hash(), &self.node_key(node));
        Some(message)
    }

    pub(crate) fn unsigned_node_announcement(&self, node: usize) -> Option<NodeAnnouncement> {
        let mut rng = Rng::fork(self.seed, 1_000 + node as u64);
        if rng.below(10) == 0 {
            return None;
        }
        let [a, b, c, d, red, green, blue, _] = rng.next_u64().to_be_bytes();
        let age = u32::try_from(rng.below(1_000_000)).unwrap_or(0);
        Some(NodeAnnouncement {
            signature: unsigned(),
            features: Self::node_features(),
            timestamp: NEWEST_UPDATE - age,
            node_id: self.nodes[node],
            rgb_color: Rgb { red, green, blue },
            alias: NodeAlias::new(&format!("node {node}")).unwrap_or_default(),
            addresses: vec![NetAddress::Ipv4 {
                addr: [a, b, c, d].into(),
                port: 9_735,
            }],
            excess_data: Vec::new(),
        })
    }
}
