//! Machines that gossip with each other over messages in memory, with real signatures and a chain of a
//! few outputs.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::{All, Message as Digest, PublicKey, Secp256k1, SecretKey};
use bitcoin::{Amount, OutPoint, TxOut, Txid, hashes::Hash};
use fulmen_gossip::{
    Gossip, GossipConfig, GossipInput, GossipOutput, NetworkGraph, OwnChannel, OwnPolicy, Unsigned,
    UtxoAnswer, funding_script,
};
use fulmen_types::{
    BlockHeight, CltvExpiryDelta, Feature, Features, Msat, NodeId, ShortChannelId, Timestamp,
};
use fulmen_wire::{ChannelAnnouncement, ChannelUpdate, Message, NodeAlias, NodeAnnouncement, Rgb};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const START: u64 = 1_760_000_000;

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

pub fn id_of(secp: &Secp256k1<All>, n: u8) -> NodeId {
    NodeId::from(PublicKey::from_secret_key(secp, &key(n)))
}

pub fn sign(secp: &Secp256k1<All>, hash: &Digest, n: u8) -> bitcoin::secp256k1::ecdsa::Signature {
    secp.sign_ecdsa(hash, &key(n))
}

pub fn scid(block: u32) -> ShortChannelId {
    ShortChannelId::from_parts(block, 1, 0).unwrap()
}

/// The announcement of a channel between two nodes; their funding keys are 100 above.
pub fn announcement(
    secp: &Secp256k1<All>,
    scid: ShortChannelId,
    a: u8,
    b: u8,
) -> ChannelAnnouncement {
    let (a, b) = if id_of(secp, a) < id_of(secp, b) {
        (a, b)
    } else {
        (b, a)
    };
    let none = sign(secp, &Digest::from_digest([1; 32]), 1);
    let mut m = ChannelAnnouncement {
        node_signature_1: none,
        node_signature_2: none,
        bitcoin_signature_1: none,
        bitcoin_signature_2: none,
        features: Features::empty(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: scid,
        node_id_1: id_of(secp, a),
        node_id_2: id_of(secp, b),
        bitcoin_key_1: id_of(secp, a + 100),
        bitcoin_key_2: id_of(secp, b + 100),
        excess_data: vec![7, 7],
    };
    let hash = m.signature_hash();
    m.node_signature_1 = sign(secp, &hash, a);
    m.node_signature_2 = sign(secp, &hash, b);
    m.bitcoin_signature_1 = sign(secp, &hash, a + 100);
    m.bitcoin_signature_2 = sign(secp, &hash, b + 100);
    m
}

pub fn update(
    secp: &Secp256k1<All>,
    scid: ShortChannelId,
    from: u8,
    to: u8,
    timestamp: u64,
) -> ChannelUpdate {
    let direction = u8::from(id_of(secp, from) > id_of(secp, to));
    let mut m = ChannelUpdate {
        signature: sign(secp, &Digest::from_digest([1; 32]), 1),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: scid,
        timestamp: u32::try_from(timestamp).unwrap(),
        message_flags: 1,
        channel_flags: direction,
        cltv_expiry_delta: CltvExpiryDelta::new(40),
        htlc_minimum_msat: Msat::new(1),
        fee_base_msat: 1000,
        fee_proportional_millionths: 10,
        htlc_maximum_msat: Msat::from_sat(900_000),
        excess_data: vec![1, 2, 3],
    };
    m.signature = sign(secp, &m.signature_hash(), from);
    m
}

pub fn node_announcement(secp: &Secp256k1<All>, n: u8, timestamp: u64) -> NodeAnnouncement {
    let mut m = NodeAnnouncement {
        signature: sign(secp, &Digest::from_digest([1; 32]), 1),
        features: Features::empty(),
        timestamp: u32::try_from(timestamp).unwrap(),
        node_id: id_of(secp, n),
        rgb_color: Rgb::default(),
        alias: NodeAlias::new("node").unwrap(),
        addresses: vec![],
        excess_data: vec![9],
    };
    m.signature = sign(secp, &m.signature_hash(), n);
    m
}

pub fn features() -> Features {
    Features::empty()
        .with_optional(Feature::GossipQueries)
        .with_optional(Feature::GossipQueriesEx)
}

/// Machines 1, 2, ... with links between them; time, signer and chain are at hand at once.
pub struct Net {
    pub secp: Secp256k1<All>,
    pub now: u64,
    pub nodes: BTreeMap<u8, Gossip>,
    pub links: BTreeSet<(u8, u8)>,
    /// Outputs by short id.
    pub outputs: BTreeMap<ShortChannelId, TxOut>,
    pub queue: VecDeque<(u8, u8, Message)>,
    pub log: Vec<(u8, u8, Message)>,
    pub misbehaved: Vec<(u8, NodeId, &'static str)>,
    pub peer_policies: Vec<(u8, ChannelUpdate)>,
    /// Outputs that were asked for or are watched.
    pub looked_up: Vec<(u8, ShortChannelId)>,
    pub watched: Vec<(u8, ShortChannelId)>,
    /// Nodes whose signer is away.
    pub unsigning: BTreeSet<u8>,
    /// Nodes whose signer takes its time, and what it thinks about.
    pub slow: BTreeSet<u8>,
    pub held: Vec<(u8, Unsigned)>,
}

impl Net {
    pub fn new(count: u8) -> Self {
        let mut net = Self {
            secp: Secp256k1::new(),
            now: START * 1_000,
            nodes: BTreeMap::new(),
            links: BTreeSet::new(),
            outputs: BTreeMap::new(),
            queue: VecDeque::new(),
            log: vec![],
            misbehaved: vec![],
            peer_policies: vec![],
            looked_up: vec![],
            watched: vec![],
            unsigning: BTreeSet::new(),
            slow: BTreeSet::new(),
            held: vec![],
        };
        for n in 1..=count {
            let mut config = GossipConfig::new(ChainHash::REGTEST, id_of(&net.secp, n));
            config.flush_millis = 1_000;
            config.alias = NodeAlias::new("fulmen").unwrap();
            net.nodes.insert(n, Gossip::new(config));
            net.input(n, GossipInput::Tip(BlockHeight::new(200)));
        }
        net
    }

    pub fn id(&self, n: u8) -> NodeId {
        id_of(&self.secp, n)
    }

    pub fn name(&self, id: &NodeId) -> u8 {
        (1..=50).find(|n| self.id(*n) == *id).unwrap()
    }

    pub fn input(&mut self, n: u8, input: GossipInput) {
        if !self.nodes.contains_key(&n) {
            return;
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = Timestamp::new(self.now);
            for output in self.nodes.get_mut(&n).unwrap().handle(now, input) {
                match output {
                    GossipOutput::Send { peer, message } => {
                        // Over the wire and back: what is relayed must be the same bytes.
                        let message = Message::decode(&message.encode()).unwrap();
                        let to = self.name(&peer);
                        self.log.push((n, to, message.clone()));
                        self.queue.push_back((n, to, message));
                    }
                    GossipOutput::AskUtxo(short_channel_id) => {
                        self.looked_up.push((n, short_channel_id));
                        let answer = match self.outputs.get(&short_channel_id) {
                            Some(output) => UtxoAnswer::Unspent {
                                output: output.clone(),
                                outpoint: OutPoint::new(Txid::from_byte_array([1; 32]), 0),
                            },
                            None => UtxoAnswer::SpentOrUnknown,
                        };
                        inputs.push_back(GossipInput::Utxo {
                            short_channel_id,
                            answer,
                        });
                    }
                    GossipOutput::AskSign(unsigned) if self.unsigning.contains(&n) => {
                        inputs.push_back(GossipInput::NotSigned(unsigned));
                    }
                    GossipOutput::AskSign(unsigned) if self.slow.contains(&n) => {
                        self.held.push((n, unsigned));
                    }
                    GossipOutput::AskSign(unsigned) => inputs.push_back(self.signed(n, unsigned)),
                    GossipOutput::Misbehaved { peer, why } => self.misbehaved.push((n, peer, why)),
                    GossipOutput::PeerPolicy(update) => self.peer_policies.push((n, *update)),
                    GossipOutput::WatchFunding {
                        short_channel_id, ..
                    } => self.watched.push((n, short_channel_id)),
                    GossipOutput::GraphChanged => {}
                }
            }
        }
    }

    fn signed(&self, n: u8, unsigned: Unsigned) -> GossipInput {
        let hash = match &unsigned {
            Unsigned::ChannelUpdate(m) => m.signature_hash(),
            Unsigned::NodeAnnouncement(m) => m.signature_hash(),
        };
        let signature = sign(&self.secp, &hash, n);
        GossipInput::Signed {
            unsigned,
            signature,
        }
    }

    /// Slow signers answer, and are slow no more.
    pub fn sign_what_is_held(&mut self) {
        self.slow.clear();
        for (n, unsigned) in core::mem::take(&mut self.held) {
            let signed = self.signed(n, unsigned);
            self.input(n, signed);
        }
    }

    pub fn connect(&mut self, a: u8, b: u8) {
        self.links.insert((a, b));
        self.links.insert((b, a));
        for (x, y) in [(a, b), (b, a)] {
            let peer = self.id(y);
            self.input(
                x,
                GossipInput::PeerConnected {
                    peer,
                    features: features(),
                },
            );
        }
        self.deliver();
    }

    pub fn deliver(&mut self) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            if self.links.contains(&(from, to)) && self.nodes.contains_key(&to) {
                let peer = self.id(from);
                self.input(to, GossipInput::Message { peer, message });
            }
        }
    }

    /// A message from a peer that is no machine.
    pub fn inject(&mut self, from: u8, to: u8, message: impl Into<Message>) {
        let peer = self.id(from);
        self.input(
            to,
            GossipInput::Message {
                peer,
                message: message.into(),
            },
        );
        self.deliver();
    }

    pub fn pass(&mut self, millis: u64) {
        let until = self.now + millis;
        while self.now < until {
            self.now += 100;
            for n in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.nodes[&n].next_wake() <= Timestamp::new(self.now) {
                    self.input(n, GossipInput::Tick);
                }
            }
            self.deliver();
        }
    }

    /// An announced channel between two machines.
    pub fn channel(&mut self, block: u32, a: u8, b: u8) {
        let m = announcement(&self.secp, scid(block), a, b);
        let output = TxOut {
            value: Amount::from_sat(1_000_000),
            script_pubkey: funding_script(&m),
        };
        self.outputs.insert(scid(block), output);
        for (x, y) in [(a, b), (b, a)] {
            if !self.nodes.contains_key(&x) {
                continue;
            }
            let channel = OwnChannel {
                id: scid(block),
                id_for_peer: scid(block),
                peer: self.id(y),
                capacity: Amount::from_sat(1_000_000),
                policy: policy(u32::from(x)),
            };
            self.input(x, GossipInput::OwnChannel(channel));
            self.input(x, GossipInput::OwnChannelUp(scid(block)));
            self.input(x, GossipInput::OwnAnnouncement(Box::new(m.clone())));
        }
        self.deliver();
    }

    pub fn graph(&mut self, n: u8) -> NetworkGraph {
        (*self.nodes.get_mut(&n).unwrap().graph()).clone()
    }

    pub fn sent(&self, from: u8, to: u8, name: &str) -> usize {
        let is = |m: &&(u8, u8, Message)| m.0 == from && m.1 == to && m.2.name() == name;
        self.log.iter().filter(is).count()
    }
}

pub fn policy(fee_base_msat: u32) -> OwnPolicy {
    OwnPolicy {
        fee_base_msat,
        fee_proportional_millionths: 1,
        cltv_expiry_delta: CltvExpiryDelta::new(40),
        htlc_minimum: Msat::new(1),
        htlc_maximum: Msat::from_sat(900_000),
    }
}
