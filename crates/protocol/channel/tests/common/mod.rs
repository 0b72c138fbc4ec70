//! Two channels in memory, each with a signer and a store, and two wires between them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{
    Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WPubkeyHash, Witness,
    absolute::LockTime, constants::ChainHash, hashes::Hash, secp256k1::PublicKey,
    transaction::Version,
};
use fulmen_channel::{
    AcceptRequest, AddHtlc, Channel, ChannelConfig, ChannelContext, ChannelError, ChannelInput,
    ChannelOutput, HtlcFailure, HtlcResolution, OpenRequest, OurKeys, UpfrontShutdown,
};
use fulmen_signer::{
    KeysManager, OutMessage, RefusedMessage, Signer, SigningAnswer, SigningError, SigningRequest,
};
use fulmen_tx::{ChannelKeysId, Secp};
use fulmen_types::{
    BlockHeight, ChannelId, CltvExpiry, CommitmentNumber, Feature, Features, FeeratePerKw,
    Feerates, HtlcId, Msat, PaymentHash, PaymentPreimage, ShortChannelId, Timestamp,
    record::{RecordKey, Space, WriteBatch},
};
use fulmen_wire::Message;

/// What both nodes see of the world.
pub struct World {
    pub secp: Secp,
    pub tip: BlockHeight,
    pub now: Timestamp,
    pub feerates: Feerates,
}

impl World {
    pub fn new() -> Self {
        Self {
            secp: Secp::new(),
            tip: BlockHeight::new(1_000),
            now: Timestamp::from_secs(1_700_000_000),
            feerates: Feerates {
                background: FeeratePerKw::new(500),
                normal: FeeratePerKw::new(1_000),
                urgent: FeeratePerKw::new(2_000),
                floor: FeeratePerKw::FLOOR,
            },
        }
    }
}

/// How a node decides incoming HTLCs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decide {
    /// With the preimage if its first byte says so, else by a failure; see [`preimage`].
    ByHash,
    /// Not at all.
    Never,
}

/// One end.
pub struct End {
    pub name: &'static str,
    pub signer: KeysManager,
    pub node_id: PublicKey,
    pub config: ChannelConfig,
    pub features: Features,
    pub channel: Option<Channel>,
    pub store: BTreeMap<RecordKey, Vec<u8>>,
    /// Messages on the wire, in order.
    pub outbox: VecDeque<Message>,
    /// All outputs but messages and questions.
    pub events: Vec<ChannelOutput>,
    pub decide: Decide,
    /// Questions of these kinds are kept back instead of answered.
    pub withhold_points: bool,
    pub withhold_secret_checks: bool,
    pub withhold_closings: bool,
    /// The signer signs no commitment of the peer's.
    pub refuses: Option<Refuses>,
    is_stuck: bool,
    /// What the signer says of how far it has come.
    pub remembers: Option<SigningAnswer>,
    pub withheld: Vec<SigningRequest>,
    /// Adds that were lost with a connection, to be made again.
    pub lost: Vec<AddHtlc>,
    pub added: BTreeMap<Vec<u8>, AddHtlc>,
    /// Final outcome by link.
    pub outcomes: BTreeMap<Vec<u8>, Outcome>,
    pub preimages: BTreeMap<Vec<u8>, PaymentPreimage>,
    pub wants_close: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Settled,
    Failed(HtlcFailure),
}

/// A preimage whose HTLC the test nodes fulfil.
pub fn preimage(n: u8) -> PaymentPreimage {
    PaymentPreimage::new([n; 32])
}

/// Hashes that nobody opens: failed when the last byte is even, malformed when odd.
pub fn unknown_hash(n: u8) -> PaymentHash {
    let mut bytes = [0xee; 32];
    bytes[31] = n;
    PaymentHash::new(bytes)
}

pub fn script(n: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([n; 20]))
}

pub fn features() -> Features {
    Features::empty()
        .with_required(Feature::StaticRemoteKey)
        .with_optional(Feature::Anchors)
        .with_required(Feature::ChannelType)
        .with_optional(Feature::ScidAlias)
        .with_optional(Feature::ShutdownAnySegwit)
        .with_optional(Feature::UpfrontShutdownScript)
}

impl End {
    pub fn new(name: &'static str, seed: u8) -> Self {
        let signer = KeysManager::new([seed; 32], Network::Regtest);
        let node_id = signer.node_id();
        Self {
            name,
            signer,
            node_id,
            config: ChannelConfig::new(ChainHash::REGTEST),
            features: features(),
            channel: None,
            store: BTreeMap::new(),
            outbox: VecDeque::new(),
            events: Vec::new(),
            decide: Decide::ByHash,
            withhold_points: false,
            withhold_secret_checks: false,
            withhold_closings: false,
            refuses: None,
            is_stuck: false,
            remembers: None,
            withheld: Vec::new(),
            lost: Vec::new(),
            added: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            preimages: BTreeMap::new(),
            wants_close: false,
        }
    }

    pub fn keys(&self, n: u8) -> OurKeys {
        let keys_id = ChannelKeysId::new([n; 32]);
        let SigningAnswer::ChannelPublicKeys(keys) = self
            .signer
            .answer(&SigningRequest::ChannelPublicKeys { keys_id })
        else {
            panic!("the signer gives keys");
        };
        let point = |number| {
            let number = CommitmentNumber::new(number).unwrap();
            match self
                .signer
                .answer(&SigningRequest::PerCommitmentPoint { keys_id, number })
            {
                SigningAnswer::Point(point) => point,
                other => panic!("the signer gives points: {other:?}"),
            }
        };
        OurKeys {
            keys_id,
            keys: *keys,
            points: [point(0), point(1), point(2)],
        }
    }

    pub fn open_request(&self) -> OpenRequest {
        OpenRequest {
            ours: self.keys(1),
            temporary_channel_id: ChannelId::new([9; 32]),
            funding: Amount::from_sat(1_000_000),
            push: Msat::from_sat(300_000),
            announce: false,
            channel_type: None,
            feerate: None,
            sweep_script: script(1),
            upfront_shutdown: UpfrontShutdown::Free,
            alias: ShortChannelId::from_u64(111),
        }
    }

    pub fn accept_request(&self) -> AcceptRequest {
        AcceptRequest {
            ours: self.keys(2),
            sweep_script: script(2),
            upfront_shutdown: UpfrontShutdown::Free,
            alias: ShortChannelId::from_u64(222),
        }
    }

    pub fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("there is a channel")
    }

    /// One step: the input, its records to the store, its outputs to where they belong.
    pub fn input(
        &mut self,
        world: &World,
        peer: &Peer,
        input: ChannelInput,
    ) -> Result<(), ChannelError> {
        let mut channel = self.channel.take().expect("there is a channel");
        let before = channel.records();
        let mut batch = WriteBatch::new();
        let result = {
            let ctx = self.ctx(world, peer);
            channel.handle(&ctx, input, &mut batch)
        };
        if result.is_err() {
            assert_eq!(
                channel.records(),
                before,
                "a refused command changes nothing"
            );
            assert!(batch.is_empty());
        }
        self.channel = Some(channel);
        self.persist(batch);
        let outputs = result?;
        self.process(world, peer, outputs);
        Ok(())
    }

    pub fn ctx<'a>(&'a self, world: &'a World, peer: &'a Peer) -> ChannelContext<'a> {
        ChannelContext {
            secp: &world.secp,
            now: world.now,
            tip: world.tip,
            config: &self.config,
            feerates: &world.feerates,
            peer_features: &peer.features,
            our_features: &self.features,
            our_node_id: self.node_id,
            peer_node_id: peer.node_id,
        }
    }

    /// Writes, and proves after every single step that the store holds exactly the channel's state.
    fn persist(&mut self, batch: WriteBatch) {
        for (key, value) in batch.iter() {
            match value {
                Some(value) => self.store.insert(key.clone(), value.to_vec()),
                None => self.store.remove(key),
            };
        }
        let expected: BTreeMap<RecordKey, Vec<u8>> = self
            .channel()
            .records()
            .iter()
            .map(|(key, value)| (key.clone(), value.unwrap().to_vec()))
            .collect();
        let stored: BTreeMap<RecordKey, Vec<u8>> = self
            .store
            .iter()
            .filter(|(key, _)| key.space != Space::RemoteCommitment)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert!(
            stored == expected,
            "{}: the store is out of step",
            self.name
        );
        if let Some(restored) = self.restored() {
            assert_eq!(restored.records(), self.channel().records());
        }
    }

    pub fn restored(&self) -> Option<Channel> {
        let core = self
            .store
            .iter()
            .find(|(key, _)| key.space == Space::Channel)?;
        let htlcs = self
            .store
            .iter()
            .filter(|(key, _)| key.space == Space::Htlc)
            .map(|(_, value)| value.as_slice());
        Some(Channel::restore(core.1, htlcs).expect("the records are good"))
    }

    pub fn process(&mut self, world: &World, peer: &Peer, outputs: Vec<ChannelOutput>) {
        let mut inputs = Vec::new();
        for output in outputs {
            match output {
                // After a refusal nothing leaves on this connection.
                ChannelOutput::Send(_) if self.is_stuck => {}
                ChannelOutput::Send(message @ OutMessage::CommitmentSigned { .. })
                    if self.refuses.is_some() =>
                {
                    self.is_stuck = true;
                    inputs.push(ChannelInput::SigningRefused(Box::new(RefusedMessage {
                        message,
                        error: SigningError::Refused(fulmen_signer::Refusal::NotSupported),
                        may_be_signed: self.refuses == Some(Refuses::Unsurely),
                    })));
                }
                ChannelOutput::Send(message) => {
                    let message = message.complete(&self.signer).expect("the signer signs");
                    let bytes = message.encode();
                    assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
                    self.outbox.push_back(message);
                }
                ChannelOutput::AskSign(request) => {
                    let is_point = matches!(*request, SigningRequest::PerCommitmentPoint { .. });
                    let is_check = matches!(*request, SigningRequest::CheckOwnSecret { .. });
                    let is_closing = matches!(*request, SigningRequest::Closing(_));
                    let is_withheld = (self.withhold_points && is_point)
                        || (self.withhold_secret_checks && is_check)
                        || (self.withhold_closings && is_closing);
                    if let (SigningRequest::Counters { .. }, Some(answer)) =
                        (&*request, &self.remembers)
                    {
                        let answer = Box::new(answer.clone());
                        inputs.push(ChannelInput::Signed { request, answer });
                    } else if is_withheld {
                        self.withheld.push(*request);
                    } else {
                        let answer = Box::new(self.signer.answer(&request));
                        inputs.push(ChannelInput::Signed { request, answer });
                    }
                }
                ChannelOutput::AskFunding {
                    script_pubkey,
                    value,
                } => inputs.push(ChannelInput::FundingReady(funding_transaction(
                    script_pubkey,
                    value,
                ))),
                ChannelOutput::IncomingHtlc(htlc) => {
                    let resolution = self.decision(htlc.payment_hash);
                    if let (Some(resolution), Decide::ByHash) = (resolution, self.decide) {
                        inputs.push(ChannelInput::Resolve {
                            htlc_id: htlc.id,
                            resolution,
                        });
                    }
                    self.events.push(ChannelOutput::IncomingHtlc(htlc));
                }
                ChannelOutput::OutgoingFailed { id, link, reason } => {
                    if reason == HtlcFailure::NeverCommitted {
                        self.lost.push(self.added[&link].clone());
                    } else {
                        let old = self
                            .outcomes
                            .insert(link.clone(), Outcome::Failed(reason.clone()));
                        assert_eq!(old, None, "an HTLC ends once");
                    }
                    self.events
                        .push(ChannelOutput::OutgoingFailed { id, link, reason });
                }
                ChannelOutput::OutgoingFulfilled { id, preimage, link } => {
                    self.preimages.insert(link.clone(), preimage);
                    self.events
                        .push(ChannelOutput::OutgoingFulfilled { id, preimage, link });
                }
                ChannelOutput::OutgoingSettled { id, link } => {
                    assert!(self.preimages.contains_key(&link), "preimage first");
                    let old = self.outcomes.insert(link.clone(), Outcome::Settled);
                    assert_eq!(old, None, "an HTLC ends once");
                    self.events
                        .push(ChannelOutput::OutgoingSettled { id, link });
                }
                other => self.events.push(other),
            }
        }
        for input in inputs {
            self.input(world, peer, input).expect("answers are taken");
        }
    }

    fn decision(&self, hash: PaymentHash) -> Option<HtlcResolution> {
        if let Some(known) = (0..=255).map(preimage).find(|p| p.payment_hash() == hash) {
            return Some(HtlcResolution::Fulfil(known));
        }
        Some(if hash.as_bytes()[31].is_multiple_of(2) {
            HtlcResolution::Fail(vec![0xfa; 292])
        } else {
            HtlcResolution::FailMalformed {
                failure_code: 0x8000 | 0x4000 | 5,
                sha256_of_onion: [5; 32],
            }
        })
    }

    /// The process dies; what was not written is lost.
    pub fn crash(&mut self, world: &World, peer: &Peer) {
        self.crash_with(world, peer, false);
    }

    /// The same; the records may be those of a backup, which the owner says.
    pub fn crash_with(&mut self, world: &World, peer: &Peer, declared_restore: bool) {
        self.outbox.clear();
        self.withheld.clear();
        self.is_stuck = false;
        let Some(mut channel) = self.restored() else {
            return;
        };
        let mut batch = WriteBatch::new();
        if declared_restore {
            let ctx = self.ctx(world, peer);
            let input = ChannelInput::DeclareRestored;
            let outputs = channel.handle(&ctx, input, &mut batch).unwrap();
            assert!(outputs.is_empty());
        }
        let outputs = {
            let ctx = self.ctx(world, peer);
            channel.re_emit(&ctx, &mut batch)
        };
        self.channel = Some(channel);
        self.persist(batch);
        self.process(world, peer, outputs);
    }

    pub fn has_event(&self, is: impl Fn(&ChannelOutput) -> bool) -> bool {
        self.events.iter().any(is)
    }
}

/// How a signer refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    /// At the first try.
    Surely,
    /// After a try without an answer.
    Unsurely,
}

/// What one end knows of the other.
#[derive(Clone)]
pub struct Peer {
    pub node_id: PublicKey,
    pub features: Features,
}

pub fn funding_transaction(script_pubkey: ScriptBuf, value: Amount) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint {
                txid: bitcoin::Txid::from_byte_array([3; 32]),
                vout: 0,
            },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![1; 64]]),
        }],
        output: vec![
            TxOut {
                value: Amount::from_sat(5_000),
                script_pubkey: script(77),
            },
            TxOut {
                value,
                script_pubkey,
            },
        ],
    }
}

/// Two ends and the wires between them.
pub struct Pair {
    pub world: World,
    pub a: End,
    pub b: End,
    pub connected: bool,
    /// Messages delivered so far.
    pub delivered: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    A,
    B,
}

impl Pair {
    pub fn new() -> Self {
        Self {
            world: World::new(),
            a: End::new("a", 0xa1),
            b: End::new("b", 0xb2),
            connected: true,
            delivered: 0,
        }
    }

    /// A opened it, both are ready.
    pub fn ready() -> Self {
        let mut pair = Self::new();
        let request = pair.a.open_request();
        pair.open(request);
        pair
    }

    pub fn open(&mut self, request: OpenRequest) {
        self.begin(request);
        self.run();
        self.confirm(6);
        self.run();
        assert!(
            self.a.channel().is_usable(),
            "{}",
            self.a.channel().describe()
        );
        assert!(
            self.b.channel().is_usable(),
            "{}",
            self.b.channel().describe()
        );
    }

    /// `open_channel` and `accept_channel`.
    pub fn begin(&mut self, request: OpenRequest) {
        let (peer_a, peer_b) = (self.peer_of(Who::A), self.peer_of(Who::B));
        let (channel, out) = Channel::open(&self.a.ctx(&self.world, &peer_a), request).unwrap();
        self.a.channel = Some(channel);
        self.a.process(&self.world, &peer_a, out);
        let Some(Message::OpenChannel(message)) = self.a.outbox.pop_front() else {
            panic!("open_channel comes first");
        };
        let accept = self.b.accept_request();
        let (channel, out) =
            Channel::accept(&self.b.ctx(&self.world, &peer_b), &message, accept).unwrap();
        self.b.channel = Some(channel);
        self.b.process(&self.world, &peer_b, out);
    }

    pub fn funding(&self) -> Transaction {
        let params = self.a.channel().params().unwrap();
        let output = params.funding_txout();
        funding_transaction(output.script_pubkey, output.value)
    }

    pub fn confirm(&mut self, depth: u32) {
        let height = self.world.tip.plus(1);
        self.world.tip = self.world.tip.plus(depth);
        let transaction = self.funding();
        for who in [Who::A, Who::B] {
            self.input(
                who,
                ChannelInput::FundingConfirmed {
                    transaction: transaction.clone(),
                    height,
                    tx_index: 4,
                },
            )
            .unwrap();
            self.input(who, ChannelInput::Block).unwrap();
        }
    }

    pub fn peer_of(&self, who: Who) -> Peer {
        let other = match who {
            Who::A => &self.b,
            Who::B => &self.a,
        };
        Peer {
            node_id: other.node_id,
            features: other.features.clone(),
        }
    }

    pub fn end(&mut self, who: Who) -> &mut End {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
        }
    }

    pub fn input(&mut self, who: Who, input: ChannelInput) -> Result<(), ChannelError> {
        let peer = self.peer_of(who);
        let (end, world) = match who {
            Who::A => (&mut self.a, &self.world),
            Who::B => (&mut self.b, &self.world),
        };
        end.input(world, &peer, input)
    }

    /// A user's command and the signature at the end of the step.
    pub fn command(&mut self, who: Who, input: ChannelInput) -> Result<(), ChannelError> {
        self.input(who, input)?;
        self.input(who, ChannelInput::Commit)
    }

    pub fn add(
        &mut self,
        who: Who,
        amount: Msat,
        payment_hash: PaymentHash,
        link: &[u8],
    ) -> Result<(), ChannelError> {
        let add = AddHtlc {
            amount,
            payment_hash,
            cltv_expiry: CltvExpiry::new(self.world.tip.to_u32() + 40),
            onion_routing_packet: Box::new([7; 1366]),
            path_key: None,
            link: link.to_vec(),
        };
        self.end(who).added.insert(link.to_vec(), add.clone());
        self.input(who, ChannelInput::AddHtlc(add))
    }

    /// Delivers one message, of A first; whether there was one.
    pub fn deliver(&mut self) -> bool {
        for from in [Who::A, Who::B] {
            if self.deliver_from(from) {
                return true;
            }
        }
        false
    }

    /// Delivers one message of that end.
    pub fn deliver_from(&mut self, from: Who) -> bool {
        let Some(message) = self.end(from).outbox.pop_front() else {
            return false;
        };
        let to = match from {
            Who::A => Who::B,
            Who::B => Who::A,
        };
        self.delivered += 1;
        if self.end(to).channel.is_some() {
            self.input(to, ChannelInput::Message(message)).unwrap();
            self.input(to, ChannelInput::Commit).unwrap();
        }
        true
    }

    /// Until the wires are empty.
    pub fn run(&mut self) {
        let mut turn = 0;
        loop {
            let (first, second) = if turn % 2 == 0 {
                (Who::A, Who::B)
            } else {
                (Who::B, Who::A)
            };
            if !self.deliver_from(first) && !self.deliver_from(second) {
                break;
            }
            turn += 1;
            assert!(turn < 10_000, "the dance ends");
        }
    }

    pub fn disconnect(&mut self) {
        self.connected = false;
        for who in [Who::A, Who::B] {
            self.end(who).outbox.clear();
            if self.end(who).channel.is_some() {
                self.input(who, ChannelInput::Disconnected).unwrap();
            }
            self.end(who).outbox.clear();
            self.end(who).is_stuck = false;
        }
    }

    pub fn connect(&mut self) {
        self.connected = true;
        for who in [Who::A, Who::B] {
            self.input(who, ChannelInput::Connected).unwrap();
        }
    }

    pub fn crash(&mut self, who: Who) {
        let peer = self.peer_of(who);
        let (end, world) = match who {
            Who::A => (&mut self.a, &self.world),
            Who::B => (&mut self.b, &self.world),
        };
        end.crash(world, &peer);
    }

    /// A starts from a backup, and its owner says so.
    pub fn restore_from_backup(&mut self, who: Who) {
        let peer = self.peer_of(who);
        let (end, world) = match who {
            Who::A => (&mut self.a, &self.world),
            Who::B => (&mut self.b, &self.world),
        };
        end.crash_with(world, &peer, true);
    }

    /// Nothing in flight, and both ends say the same of their balances; A's balance.
    pub fn settled(&self) -> Msat {
        let (a, b) = (self.a.channel(), self.b.channel());
        assert_eq!(a.htlcs(), vec![], "{}", a.describe());
        assert_eq!(b.htlcs(), vec![], "{}", b.describe());
        let ((a_ours, a_theirs), (b_ours, b_theirs)) = (a.balances(), b.balances());
        assert_eq!((a_ours, a_theirs), (b_theirs, b_ours));
        assert_eq!(
            a_ours.checked_add(a_theirs),
            Some(Msat::from_amount(a.value()))
        );
        assert_eq!(a.feerate(), b.feerate());
        a_ours
    }

    /// No rule was broken by anybody.
    pub fn assert_no_fault(&self) {
        for end in [&self.a, &self.b] {
            let faults: Vec<_> = end
                .events
                .iter()
                .filter(|event| {
                    matches!(
                        event,
                        ChannelOutput::Fault(_)
                            | ChannelOutput::PeerSays(_)
                            | ChannelOutput::ForceClosing(_)
                    )
                })
                .collect();
            assert!(faults.is_empty(), "{}: {faults:?}", end.name);
        }
    }

    pub fn ids(&self, who: Who) -> BTreeSet<HtlcId> {
        let end = match who {
            Who::A => &self.a,
            Who::B => &self.b,
        };
        end.channel().htlcs().iter().map(|htlc| htlc.id).collect()
    }
}
