//! Machines that gossip with each other over messages in memory, with real signatures and a chain of a
//! few outputs.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{
    Amount, OutPoint, TxOut,
    constants::ChainHash,
    secp256k1::{All, Message as Digest, PublicKey, Secp256k1, SecretKey},
};
use fulmen_gossip::{
    Gossip, GossipConfig, GossipInput, GossipOutput, NetworkGraph, OwnChannel, OwnPolicy,
    SignedMessages, Unsigned, UtxoAnswer, funding_script,
};
use fulmen_types::{
    BlockHeight, CltvExpiryDelta, Feature, Features, Msat, NodeId, ShortChannelId, Timestamp,
};
use fulmen_wire::{
    ChannelAnnouncement, ChannelUpdate, GossipTimestampFilter, Message, NodeAlias,
    NodeAnnouncement, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, Rgb,
};

const START: u64 = 1_760_000_000;

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

fn id_of(secp: &Secp256k1<All>, n: u8) -> NodeId {
    NodeId::from(PublicKey::from_secret_key(secp, &key(n)))
}

fn sign(secp: &Secp256k1<All>, hash: &Digest, n: u8) -> bitcoin::secp256k1::ecdsa::Signature {
    secp.sign_ecdsa(hash, &key(n))
}

fn scid(block: u32) -> ShortChannelId {
    ShortChannelId::from_parts(block, 1, 0).unwrap()
}

/// The announcement of a channel between two nodes; their funding keys are 100 above.
fn announcement(secp: &Secp256k1<All>, scid: ShortChannelId, a: u8, b: u8) -> ChannelAnnouncement {
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

fn update(
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

fn node_announcement(secp: &Secp256k1<All>, n: u8, timestamp: u64) -> NodeAnnouncement {
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

fn features() -> Features {
    Features::empty()
        .with_optional(Feature::GossipQueries)
        .with_optional(Feature::GossipQueriesEx)
}

/// Machines 1, 2, ... with links between them; time, signer and chain are at hand at once.
struct Net {
    secp: Secp256k1<All>,
    now: u64,
    nodes: BTreeMap<u8, Gossip>,
    links: BTreeSet<(u8, u8)>,
    /// Outputs by short id.
    outputs: BTreeMap<ShortChannelId, TxOut>,
    queue: VecDeque<(u8, u8, Message)>,
    log: Vec<(u8, u8, Message)>,
    misbehaved: Vec<(u8, NodeId, &'static str)>,
    peer_policies: Vec<(u8, ChannelUpdate)>,
}

impl Net {
    fn new(count: u8) -> Self {
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

    fn id(&self, n: u8) -> NodeId {
        id_of(&self.secp, n)
    }

    fn name(&self, id: &NodeId) -> u8 {
        (1..=50).find(|n| self.id(*n) == *id).unwrap()
    }

    fn input(&mut self, n: u8, input: GossipInput) {
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
                        let answer = match self.outputs.get(&short_channel_id) {
                            Some(output) => UtxoAnswer::Unspent {
                                output: output.clone(),
                                outpoint: OutPoint::null(),
                            },
                            None => UtxoAnswer::SpentOrUnknown,
                        };
                        inputs.push_back(GossipInput::Utxo {
                            short_channel_id,
                            answer,
                        });
                    }
                    GossipOutput::AskSign(unsigned) => {
                        let hash = match &unsigned {
                            Unsigned::ChannelUpdate(m) => m.signature_hash(),
                            Unsigned::NodeAnnouncement(m) => m.signature_hash(),
                        };
                        let signature = sign(&self.secp, &hash, n);
                        inputs.push_back(GossipInput::Signed {
                            unsigned,
                            signature,
                        });
                    }
                    GossipOutput::Misbehaved { peer, why } => self.misbehaved.push((n, peer, why)),
                    GossipOutput::PeerPolicy(update) => self.peer_policies.push((n, *update)),
                    GossipOutput::WatchFunding { .. } | GossipOutput::GraphChanged => {}
                }
            }
        }
    }

    fn connect(&mut self, a: u8, b: u8) {
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

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            if self.links.contains(&(from, to)) && self.nodes.contains_key(&to) {
                let peer = self.id(from);
                self.input(to, GossipInput::Message { peer, message });
            }
        }
    }

    /// A message from a peer that is no machine.
    fn inject(&mut self, from: u8, to: u8, message: impl Into<Message>) {
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

    fn pass(&mut self, millis: u64) {
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
    fn channel(&mut self, block: u32, a: u8, b: u8) {
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

    fn graph(&mut self, n: u8) -> NetworkGraph {
        (*self.nodes.get_mut(&n).unwrap().graph()).clone()
    }

    fn sent(&self, from: u8, to: u8, name: &str) -> usize {
        let is = |m: &&(u8, u8, Message)| m.0 == from && m.1 == to && m.2.name() == name;
        self.log.iter().filter(is).count()
    }
}

fn policy(fee_base_msat: u32) -> OwnPolicy {
    OwnPolicy {
        fee_base_msat,
        fee_proportional_millionths: 1,
        cltv_expiry_delta: CltvExpiryDelta::new(40),
        htlc_minimum: Msat::new(1),
        htlc_maximum: Msat::from_sat(900_000),
    }
}

/// A line 1-2-3-4 with a channel on each link.
fn line() -> Net {
    let mut net = Net::new(4);
    for n in 1..4 {
        net.connect(n, n + 1);
    }
    for (block, n) in (100..).zip(1..4) {
        net.channel(block, n, n + 1);
    }
    net.pass(10_000);
    net
}

#[test]
fn a_line_of_nodes_learns_of_all_channels_and_nodes() {
    let mut net = line();
    let first = net.graph(1);
    for n in 1..=4 {
        let graph = net.graph(n);
        assert_eq!(
            (graph.channel_count(), graph.node_count()),
            (3, 4),
            "node {n}"
        );
        for channel in graph.channels() {
            assert!(channel.policies.iter().all(Option::is_some));
            assert_eq!(channel.capacity, Some(Amount::from_sat(1_000_000)));
        }
        for id in graph.nodes() {
            assert_eq!(&graph.node_details(&id).unwrap().alias[..6], b"fulmen");
        }
        assert_eq!(graph.to_bytes(), first.to_bytes());
    }
    assert_eq!(net.misbehaved, []);
}

#[test]
fn nothing_is_said_twice_when_nothing_changes() {
    let mut net = line();
    let before = net.log.len();
    net.pass(1_800_000);
    assert_eq!(net.log.len(), before);
}

#[test]
fn a_late_node_catches_up_by_queries_and_by_its_cache() {
    let mut net = line();
    let mut config = GossipConfig::new(ChainHash::REGTEST, net.id(5));
    config.flush_millis = 1_000;
    net.nodes.insert(5, Gossip::new(config.clone()));
    // Hours later: too late for the live filter.
    net.now += 3 * 3_600_000;
    net.connect(5, 4);
    net.pass(5_000);
    let graph = net.graph(5);
    assert_eq!(graph.to_bytes(), net.graph(1).to_bytes());
    assert!(net.nodes[&5].is_synced());

    // Again with files: nothing is asked for anew.
    let messages = SignedMessages::from_bytes(&net.nodes[&5].messages().to_bytes()).unwrap();
    assert_eq!(&messages, net.nodes[&5].messages());
    let cached = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
    net.nodes
        .insert(5, Gossip::with_cache(config.clone(), cached, messages));
    let asked = net.sent(5, 4, "query_short_channel_ids");
    net.connect(5, 4);
    net.pass(5_000);
    assert_eq!(net.sent(5, 4, "query_short_channel_ids"), asked);
    assert_eq!(net.graph(5).to_bytes(), graph.to_bytes());

    // What was spent while the node was off is noticed, and forgotten in time.
    net.outputs.remove(&scid(101));
    let cached = NetworkGraph::from_bytes(&graph.to_bytes()).unwrap();
    net.nodes
        .insert(5, Gossip::with_cache(config, cached, SignedMessages::new()));
    net.input(5, GossipInput::Tip(BlockHeight::new(300)));
    net.pass(3_000);
    let spent: Vec<_> = net.graph(5).channels().map(|c| c.spent_at).collect();
    assert_eq!(spent, [None, Some(300), None]);
}

#[test]
fn a_change_of_policy_spreads_and_an_absent_peer_disables() {
    let mut net = line();
    let channel = OwnChannel {
        id: scid(100),
        id_for_peer: scid(100),
        peer: net.id(2),
        capacity: Amount::from_sat(1_000_000),
        policy: policy(77),
    };
    net.now += 1_000;
    net.input(1, GossipInput::OwnChannel(channel));
    net.pass(6_000);
    let of = |net: &mut Net, n: u8| {
        let graph = net.graph(n);
        let from_1 = fulmen_gossip::Direction::between(&net.id(1), &net.id(2));
        *graph.channel(scid(100)).unwrap().policy(from_1).unwrap()
    };
    assert_eq!(of(&mut net, 4).fee_base_msat, 77);
    net.input(1, GossipInput::OwnChannelDown(scid(100)));
    net.pass(60_000);
    assert!(!of(&mut net, 4).disabled);
    net.pass(70_000);
    assert!(of(&mut net, 4).disabled);
    net.input(1, GossipInput::OwnChannelUp(scid(100)));
    net.pass(6_000);
    assert!(!of(&mut net, 4).disabled);
}

#[test]
fn updates_are_made_anew_before_they_are_stale() {
    let mut net = line();
    for _ in 0..20 {
        net.now += 24 * 3_600_000;
        net.pass(10_000);
    }
    for n in 1..=4 {
        let graph = net.graph(n);
        assert_eq!(graph.channel_count(), 3, "node {n}");
    }
    // Silent ends are forgotten.
    let _ = net.nodes.remove(&4);
    for _ in 0..20 {
        net.now += 24 * 3_600_000;
        net.pass(10_000);
    }
    assert_eq!(net.graph(1).channel_count(), 2);
}

#[test]
fn a_private_channel_is_told_to_its_peer_alone() {
    let mut net = Net::new(3);
    net.connect(1, 2);
    net.connect(2, 3);
    let channel = OwnChannel {
        id: scid(150),
        id_for_peer: ShortChannelId::from_u64(42),
        peer: net.id(2),
        capacity: Amount::from_sat(1_000_000),
        policy: policy(5),
    };
    net.input(1, GossipInput::OwnChannel(channel.clone()));
    net.input(
        2,
        GossipInput::OwnChannel(OwnChannel {
            id: ShortChannelId::from_u64(42),
            id_for_peer: scid(150),
            peer: net.id(1),
            ..channel
        }),
    );
    net.input(1, GossipInput::OwnChannelUp(scid(150)));
    net.pass(5_000);
    assert_eq!(net.peer_policies.len(), 1);
    let (at, update) = &net.peer_policies[0];
    assert_eq!(
        (*at, update.short_channel_id.to_u64(), update.fee_base_msat),
        (2, 42, 5)
    );
    assert!(update.dont_forward());
    // By whatever alias the peer knows it; but only if the peer has signed it.
    let by_alias = self::update(&net.secp, ShortChannelId::from_u64(99), 1, 2, START);
    net.inject(1, 2, by_alias);
    assert_eq!(net.peer_policies.len(), 2);
    let forged = self::update(&net.secp, ShortChannelId::from_u64(42), 3, 2, START);
    net.inject(1, 2, forged);
    assert_eq!((net.peer_policies.len(), net.misbehaved.len()), (2, 1));
    assert_eq!(net.sent(2, 3, "channel_update"), 0);
    assert_eq!(net.graph(2).channel_count(), 0);
}

#[test]
fn a_closed_channel_is_disabled_and_forgotten_after_72_blocks() {
    let mut net = line();
    for n in 1..=4 {
        if n <= 2 {
            net.input(n, GossipInput::OwnChannelClosed(scid(100)));
        }
        net.input(
            n,
            GossipInput::FundingSpent {
                short_channel_id: scid(100),
                height: BlockHeight::new(201),
            },
        );
    }
    net.pass(5_000);
    let info = net.graph(4).channel(scid(100)).unwrap();
    assert!(info.policies.iter().all(|p| p.unwrap().disabled));
    for (tip, left) in [(271, 3), (272, 2)] {
        for n in 1..=4 {
            net.input(n, GossipInput::Tip(BlockHeight::new(tip)));
        }
        net.pass(3_700_000);
        for n in 1..=4 {
            assert_eq!(net.graph(n).channel_count(), left, "node {n} at {tip}");
        }
    }
}

/// Node 1 alone; 9 is a hostile peer, 8 one that listens.
fn hostile() -> Net {
    let mut net = Net::new(1);
    net.connect(1, 9);
    net.connect(1, 8);
    net
}

impl Net {
    fn real_channel(&mut self, block: u32) -> ChannelAnnouncement {
        let m = announcement(&self.secp, scid(block), 20, 21);
        let output = TxOut {
            value: Amount::from_sat(1_000_000),
            script_pubkey: funding_script(&m),
        };
        self.outputs.insert(scid(block), output);
        m
    }

    fn learn(&mut self, block: u32) {
        let m = self.real_channel(block);
        self.inject(9, 1, m);
        for (from, to) in [(20, 21), (21, 20)] {
            let m = update(&self.secp, scid(block), from, to, START);
            self.inject(9, 1, m);
        }
        let m = node_announcement(&self.secp, 20, START);
        self.inject(9, 1, m);
    }

    fn listen(&mut self) {
        let filter = GossipTimestampFilter {
            chain_hash: ChainHash::REGTEST,
            first_timestamp: 0,
            timestamp_range: u32::MAX,
        };
        self.inject(8, 1, filter);
    }
}

#[test]
fn forgeries_are_refused_and_named() {
    let mut net = hostile();
    let good = net.real_channel(120);
    for field in 0..4 {
        let mut m = good.clone();
        let wrong = sign(&net.secp, &Digest::from_digest([5; 32]), 33);
        match field {
            0 => m.node_signature_1 = wrong,
            1 => m.node_signature_2 = wrong,
            2 => m.bitcoin_signature_1 = wrong,
            _ => m.bitcoin_signature_2 = wrong,
        }
        net.inject(9, 1, m);
        assert_eq!(net.misbehaved.len(), field + 1);
    }
    // Trailing bytes are signed too.
    let mut m = good.clone();
    m.excess_data.push(0);
    net.inject(9, 1, m);
    assert_eq!(net.misbehaved.len(), 5);
    assert_eq!(net.graph(1).channel_count(), 0);
    net.inject(9, 1, good);
    assert_eq!(net.graph(1).channel_count(), 1);

    let mut forged = update(&net.secp, scid(120), 20, 21, START);
    forged.fee_base_msat = 0;
    net.inject(9, 1, forged);
    let mut forged = node_announcement(&net.secp, 20, START);
    forged.timestamp += 1;
    net.inject(9, 1, forged);
    assert_eq!(net.misbehaved.len(), 7);
    assert!(
        net.graph(1)
            .channel(scid(120))
            .unwrap()
            .policies
            .iter()
            .all(Option::is_none)
    );
}

#[test]
fn the_output_must_be_there_and_pay_to_the_keys() {
    let mut net = hostile();
    let m = announcement(&net.secp, scid(121), 20, 21);
    net.inject(9, 1, m);
    let m = net.real_channel(122);
    net.outputs
        .get_mut(&scid(122))
        .unwrap()
        .script_pubkey
        .push_opcode(bitcoin::opcodes::OP_TRUE);
    net.inject(9, 1, m);
    assert_eq!(net.graph(1).channel_count(), 0);
}

#[test]
fn times_that_make_no_sense_are_ignored() {
    let mut net = hostile();
    net.learn(123);
    let day = 24 * 3_600;
    for timestamp in [START + 2 * day, START - 15 * day, START] {
        let mut m = update(&net.secp, scid(123), 20, 21, timestamp);
        m.fee_base_msat = 5;
        m.signature = sign(&net.secp, &m.signature_hash(), 20);
        net.inject(9, 1, m);
    }
    let info = net.graph(1).channel(scid(123)).unwrap();
    assert!(
        info.policies
            .iter()
            .flatten()
            .all(|p| p.fee_base_msat == 1000)
    );
    // What is for us alone is not taken as public.
    let mut m = update(&net.secp, scid(123), 20, 21, START + 1);
    m.message_flags |= ChannelUpdate::DONT_FORWARD;
    m.signature = sign(&net.secp, &m.signature_hash(), 20);
    net.inject(9, 1, m);
    assert_eq!(net.graph(1).channel(scid(123)).unwrap(), info);
}

#[test]
fn one_channel_can_not_flood_and_a_forger_can_not_silence_it() {
    let mut net = hostile();
    net.learn(124);
    for i in 0..200 {
        let mut forged = update(&net.secp, scid(124), 20, 21, START + i + 1);
        forged.fee_base_msat = 1;
        net.inject(9, 1, forged);
    }
    let at = |net: &mut Net| {
        let d = fulmen_gossip::Direction::between(&net.id(20), &net.id(21));
        net.graph(1)
            .channel(scid(124))
            .unwrap()
            .policy(d)
            .unwrap()
            .timestamp
    };
    for i in 0..200 {
        let m = update(&net.secp, scid(124), 20, 21, START + i + 1);
        net.inject(9, 1, m);
    }
    let taken = u64::from(at(&mut net)) - START;
    assert!((50..70).contains(&taken), "{taken}");
}

#[test]
fn nothing_is_relayed_before_a_filter_and_never_back() {
    let mut net = hostile();
    net.learn(125);
    net.pass(5_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 0);
    net.listen();
    net.pass(5_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 1);
    assert_eq!(net.sent(1, 8, "channel_update"), 2);
    assert_eq!(net.sent(1, 8, "node_announcement"), 1);
    net.learn(126);
    net.pass(5_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 2);
    assert_eq!(net.sent(1, 9, "channel_announcement"), 0);
    // The same bytes, what we don't understand included.
    let sent = net.log.iter().find_map(|(.., m)| match m {
        Message::ChannelAnnouncement(m) if m.short_channel_id == scid(125) => Some(m.clone()),
        _ => None,
    });
    assert_eq!(sent, Some(announcement(&net.secp, scid(125), 20, 21)));
}

#[test]
fn a_channel_without_updates_is_not_passed_on_until_it_has_one() {
    let mut net = hostile();
    net.listen();
    let m = net.real_channel(127);
    net.inject(9, 1, m);
    net.pass(3_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 0);
    let m = update(&net.secp, scid(127), 21, 20, START);
    net.inject(9, 1, m);
    net.pass(3_000);
    let names: Vec<&str> = net
        .log
        .iter()
        .filter(|m| (m.0, m.1) == (1, 8) && !m.2.name().contains("filter"))
        .map(|m| m.2.name())
        .filter(|name| name.starts_with("channel"))
        .collect();
    assert_eq!(names, ["channel_announcement", "channel_update"]);
}

#[test]
fn a_query_that_names_a_channel_often_is_answered_once() {
    let mut net = hostile();
    net.learn(128);
    let query = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        encoded_short_ids: vec![scid(128); 8_000],
        query_flags: None,
    };
    net.inject(8, 1, query);
    net.pass(2_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 1);
    assert_eq!(net.sent(1, 8, "node_announcement"), 1);
    assert_eq!(net.sent(1, 8, "reply_short_channel_ids_end"), 1);
}

#[test]
fn much_history_comes_in_portions_however_often_it_is_asked_for() {
    let mut net = hostile();
    for block in 1..=150 {
        net.learn(block);
    }
    net.pass(5_000);
    for _ in 0..50 {
        net.listen();
    }
    assert!(net.sent(1, 8, "channel_announcement") <= 100);
    net.pass(2_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 150 + 100);
    // A second query while one is being answered is an offence, not more work.
    let query = QueryShortChannelIds {
        chain_hash: ChainHash::REGTEST,
        encoded_short_ids: (1..=150).map(scid).collect(),
        query_flags: None,
    };
    net.pass(1_000);
    for _ in 0..10 {
        net.inject(8, 1, query.clone());
    }
    assert_eq!(net.misbehaved.len(), 9);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 250 + 100);
    net.pass(1_000);
    assert_eq!(net.sent(1, 8, "channel_announcement"), 250 + 150);
    assert_eq!(net.sent(1, 8, "reply_short_channel_ids_end"), 1);
}

#[test]
fn answers_that_nobody_asked_for_are_an_offence() {
    let mut net = Net::new(1);
    net.connect(1, 9);
    let range = ReplyChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        sync_complete: true,
        encoded_short_ids: vec![],
        timestamps_tlv: None,
        checksums_tlv: None,
    };
    // The first answers our own query.
    net.inject(9, 1, range.clone());
    assert_eq!(net.misbehaved, []);
    net.inject(9, 1, range);
    let end = ReplyShortChannelIdsEnd {
        chain_hash: ChainHash::REGTEST,
        full_information: true,
    };
    net.inject(9, 1, end);
    assert_eq!(net.misbehaved.len(), 2);
}

#[test]
fn a_range_is_answered_in_parts_that_follow_each_other() {
    let mut net = hostile();
    let secp = net.secp.clone();
    let mut expected = vec![];
    for block in 1..=30u32 {
        for index in 0..100u32 {
            let id = ShortChannelId::from_parts(block, index, 0).unwrap();
            let m = announcement(&secp, id, 20, 21);
            let output = TxOut {
                value: Amount::from_sat(1_000_000),
                script_pubkey: funding_script(&m),
            };
            net.outputs.insert(id, output);
            net.inject(9, 1, m);
            expected.push(id);
        }
    }
    let query = QueryChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        query_option: Some(3),
    };
    net.inject(8, 1, query);
    net.pass(1_000);
    let parts: Vec<ReplyChannelRange> = net
        .log
        .iter()
        .filter_map(|(_, to, m)| match m {
            Message::ReplyChannelRange(m) if *to == 8 => Some(m.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].first_blocknum, 0);
    assert!(!parts[0].sync_complete && parts[1].sync_complete);
    assert!(parts[1].first_blocknum <= parts[0].first_blocknum + parts[0].number_of_blocks);
    assert_eq!(
        parts[1].first_blocknum + parts[1].number_of_blocks,
        u32::MAX
    );
    let ids: Vec<_> = parts
        .iter()
        .flat_map(|p| p.encoded_short_ids.clone())
        .collect();
    assert_eq!(ids, expected);
    for part in &parts {
        let count = part.encoded_short_ids.len();
        assert_eq!(part.timestamps_tlv.as_ref().unwrap().len(), count);
        assert_eq!(part.checksums_tlv.as_ref().unwrap().len(), count);
        assert!(Message::from(part.clone()).fits());
    }
}

#[test]
fn checksums_are_those_of_the_messages() {
    let mut net = hostile();
    net.learn(129);
    let query = QueryChannelRange {
        chain_hash: ChainHash::REGTEST,
        first_blocknum: 100,
        number_of_blocks: 100,
        query_option: Some(QueryChannelRange::WANT_CHECKSUMS),
    };
    net.inject(8, 1, query);
    let sums = net.log.iter().find_map(|(.., m)| match m {
        Message::ReplyChannelRange(m) => m.checksums_tlv.clone(),
        _ => None,
    });
    let sum = |from, to| update(&net.secp, scid(129), from, to, START).checksum();
    let (first, second) = if net.id(20) < net.id(21) {
        (20, 21)
    } else {
        (21, 20)
    };
    assert_eq!(sums.unwrap(), [(sum(first, second), sum(second, first))]);
}

#[test]
fn a_damaged_file_of_messages_is_an_error() {
    let mut net = hostile();
    net.learn(130);
    let good = net.nodes[&1].messages().to_bytes();
    assert_eq!(
        SignedMessages::from_bytes(&good).unwrap().channel_count(),
        1
    );
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(SignedMessages::from_bytes(&bad).is_err(), "{at}");
        assert!(SignedMessages::from_bytes(&good[..at]).is_err(), "{at}");
    }
}
