//! Nodes in one process: a chain without rules, wallets without money, wires without delay. Every batch is
//! on the disk before its actions are done.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what should not be"
)]

pub mod real;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, absolute::LockTime, hashes::Hash, secp256k1::PublicKey, transaction::Version,
};
use fulmen_node::{
    ActionKind, Answer, Ask, Block, BlockId, Boot, BroadcastAnswer, ChannelInfo, ChannelSelector,
    CloseMode, Command, CommandError, CommandId, ConnEpoch, Direction, Effects, Event, Input, Node,
    NodeConfig, NoteLevel, OpenChannelCommand, PayCommand, Records, Reply, RouteReport, UtxoAnswer,
    WalletBalance, WalletError,
};
use fulmen_signer::{
    KeysManager, OutMessage, RefusedMessage, Signer, SigningAnswer, SigningError, SigningRequest,
};
use fulmen_types::{
    BlockHeight, ChannelType, FeeratePerKw, Feerates, Msat, Timestamp,
    record::{RecordKey, Space},
};
use fulmen_wire::Message;
use real::Real;

pub struct TestNode {
    pub node: Node,
    pub signer: KeysManager,
    pub disk: BTreeMap<RecordKey, Vec<u8>>,
    pub events: Vec<Event>,
    last_event: u64,
    /// What the router was told.
    pub learned: Vec<RouteReport>,
    pub replies: BTreeMap<CommandId, Result<Reply, CommandError>>,
    /// With whom, by index of the node.
    pub connections: BTreeMap<usize, ConnEpoch>,
    boots: u8,
}

impl TestNode {
    /// What it would be restored from.
    pub fn records(&self) -> Records {
        let is_read = |(key, _): &(&RecordKey, &Vec<u8>)| key.space.is_loaded_at_start();
        let read = self.disk.iter().filter(is_read);
        read.map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

pub struct World {
    pub nodes: Vec<TestNode>,
    pub now: Timestamp,
    pub blocks: Vec<Block>,
    pub mempool: Vec<Transaction>,
    inputs: VecDeque<(usize, Input)>,
    epoch: u64,
    commands: u8,
    coins: u64,
    /// How many messages may still be delivered; `None` for all.
    pub deliver: Option<usize>,
    /// Count only messages between these two for it.
    pub deliver_between: Option<(usize, usize)>,
    /// The chain with rules, if there is one.
    pub real: Option<Real>,
    /// Every node starts again from its disk, one after the other, so many inputs apart.
    pub crash_every: Option<usize>,
    crash_count: usize,
    /// Nodes whose messages do not arrive, though they are connected.
    pub silent: Vec<usize>,
    /// A node that names this output in its `funding_created`, whatever it has funded.
    pub funding_lie: Option<(usize, OutPoint)>,
    /// A node that makes the `reason` of its `update_fail_htlc` so long.
    pub long_reason: Option<(usize, usize)>,
    /// Nodes whose signer reads no onions.
    pub onions_unread: Vec<usize>,
    /// Nodes that see no blocks: after a restart they have all of them to look at.
    pub down: Vec<usize>,
    /// Nodes whose wallet is away when it is asked for coins.
    pub wallets_away: Vec<usize>,
    /// Nodes whose ports do not answer.
    pub silent_ports: Vec<usize>,
    /// Nodes whose signer signs no commitment of a peer: what it was asked for, counted.
    pub refuses: BTreeMap<usize, usize>,
    /// Of them only for this peer.
    pub refused_peer: Option<usize>,
    /// Lanes that a refusal has ended.
    stuck: Vec<(usize, fulmen_node::Lane)>,
    /// Answers of the store about payments that ended, kept back by number of the question.
    pub late_answers: Option<Vec<(usize, Input)>>,
}

/// Signed as a peer would that has only the outpoint in mind.
fn funding_lie(message: OutMessage, outpoint: OutPoint) -> OutMessage {
    match message {
        OutMessage::FundingCreated {
            temporary_channel_id,
            mut request,
            ..
        } => {
            request.params.funding.outpoint = outpoint;
            OutMessage::FundingCreated {
                temporary_channel_id,
                funding_txid: outpoint.txid,
                funding_output_index: u16::try_from(outpoint.vout).unwrap(),
                request,
            }
        }
        other => other,
    }
}

fn config() -> NodeConfig {
    let mut config = NodeConfig::new(Network::Regtest);
    config.gossip_flush_millis = 1_000;
    config
}

fn block_id(height: u32) -> BlockId {
    BlockId {
        height: BlockHeight::new(height),
        hash: BlockHash::from_byte_array([height.to_le_bytes()[0].wrapping_add(1); 32]),
    }
}

impl World {
    pub fn new(count: u8) -> Self {
        Self::with(count, None)
    }

    /// Nodes on a chain with rules, their wallets with real coins.
    pub fn on_chain(count: u8) -> Self {
        Self::with(count, Some(Real::new(count)))
    }

    fn with(count: u8, real: Option<Real>) -> Self {
        let tip = real.as_ref().map_or(block_id(0), Real::tip);
        let mut world = Self {
            nodes: Vec::new(),
            now: Timestamp::from_secs(1_800_000_000),
            blocks: Vec::new(),
            mempool: Vec::new(),
            inputs: VecDeque::new(),
            epoch: 0,
            commands: 0,
            coins: 0,
            deliver: None,
            deliver_between: None,
            real,
            crash_every: None,
            crash_count: 0,
            silent: Vec::new(),
            funding_lie: None,
            long_reason: None,
            onions_unread: Vec::new(),
            down: Vec::new(),
            wallets_away: Vec::new(),
            silent_ports: Vec::new(),
            refuses: BTreeMap::new(),
            refused_peer: None,
            stuck: Vec::new(),
            late_answers: None,
        };
        for seed in 1..=count {
            let signer = KeysManager::new([seed; 32], Network::Regtest);
            let (node, effects) = Node::create(
                config(),
                signer.node_id(),
                &Boot {
                    entropy: [seed; 32],
                },
                world.now,
                tip,
            );
            world.nodes.push(TestNode {
                node,
                signer,
                disk: BTreeMap::new(),
                events: Vec::new(),
                last_event: 0,
                learned: Vec::new(),
                replies: BTreeMap::new(),
                connections: BTreeMap::new(),
                boots: 0,
            });
            let index = usize::from(seed) - 1;
            world.carry_out(index, effects);
            world.welcome(index);
        }
        world.run();
        world
    }

    /// What every driver tells a node at the start.
    fn welcome(&mut self, index: usize) {
        let tip = self.nodes[index].node.chain_tip()[0];
        for block in self.blocks.clone() {
            if block.id.height > tip.height {
                self.inputs
                    .push_back((index, Input::BlockConnected(Arc::new(block))));
            }
        }
        let start = self
            .real
            .as_ref()
            .map_or(block_id(0), |_| self.nodes[index].node.chain_tip()[0]);
        let tip = self.blocks.last().map_or(start, |block| block.id);
        self.inputs.push_back((index, Input::BestTip(tip)));
        let feerate = FeeratePerKw::new(1_000);
        self.inputs.push_back((
            index,
            Input::Feerates(Feerates {
                background: feerate,
                normal: feerate,
                urgent: feerate,
                floor: FeeratePerKw::FLOOR,
            }),
        ));
        let balance = WalletBalance {
            confirmed: Amount::from_sat(1_000_000_000),
            unconfirmed: Amount::ZERO,
        };
        self.inputs
            .push_back((index, Input::WalletBalance(balance)));
    }

    /// Gives a node an input and does what follows.
    pub fn give(&mut self, index: usize, input: Input) {
        self.inputs.push_back((index, input));
        self.run();
    }

    /// Opens a channel of a million, 300,000 of it the peer's, and mines until it is ready.
    pub fn open(&mut self, from: usize, to: usize) {
        self.open_as(from, to, None);
    }

    /// The same, of this type.
    pub fn open_as(&mut self, from: usize, to: usize, channel_type: Option<ChannelType>) {
        self.connect(from, to);
        let command = Command::OpenChannel(OpenChannelCommand {
            peer: self.id(to),
            amount: Amount::from_sat(1_000_000),
            push: Msat::from_sat(300_000),
            announce: true,
            feerate: None,
            channel_type,
        });
        let reply = self.command(from, command);
        assert!(
            matches!(reply, Ok(Reply::ChannelOpening { .. })),
            "{reply:?}"
        );
        self.mine(6);
    }

    /// Begins to pay a new invoice.
    pub fn pay(&mut self, from: usize, to: usize, sat: u64) {
        let invoice = self.invoice(to, sat);
        let reply = self.command(from, Self::pay_command(invoice));
        assert!(matches!(reply, Ok(Reply::Payment { .. })), "{reply:?}");
    }

    /// A node's channel with a peer.
    pub fn channel(&self, index: usize, with: usize) -> Option<ChannelInfo> {
        let peer = self.id(with);
        let channels = self.nodes[index].node.channels_info();
        channels.into_iter().find(|channel| channel.peer == peer)
    }

    /// A node closes its channel with a peer; it may be too late for that.
    pub fn close(
        &mut self,
        index: usize,
        with: usize,
        mode: CloseMode,
    ) -> Result<Reply, CommandError> {
        let channel = self.channel(index, with).expect("there is a channel");
        let channel = ChannelSelector::Id(channel.channel_id);
        self.command(index, Command::CloseChannel { channel, mode })
    }

    pub fn invoice(&mut self, index: usize, sat: u64) -> String {
        let invoice = Command::CreateInvoice {
            amount: Some(Msat::from_sat(sat)),
            description: "test".into(),
            expiry_secs: 3_600,
        };
        match self.command(index, invoice) {
            Ok(Reply::Invoice { invoice, .. }) => invoice,
            other => panic!("{other:?}"),
        }
    }

    pub fn pay_command(invoice: String) -> Command {
        Command::Pay(PayCommand {
            invoice,
            amount: None,
            max_fee: None,
            timeout_secs: None,
        })
    }

    pub fn events(&self, index: usize, is: impl Fn(&Event) -> bool) -> usize {
        let events = self.nodes[index].node.events_after(0);
        events.filter(|e| is(&e.event)).count()
    }

    pub fn id(&self, index: usize) -> PublicKey {
        self.nodes[index].node.node_id()
    }

    fn index_of(&self, id: &PublicKey) -> usize {
        self.nodes
            .iter()
            .position(|n| n.node.node_id() == *id)
            .unwrap()
    }

    /// Does everything that follows from everything.
    pub fn run(&mut self) {
        while let Some((index, input)) = self.inputs.pop_front() {
            if let Input::PeerMessage { peer, epoch, .. } = &input {
                let from = self.index_of(peer);
                if self.nodes[index].connections.get(&from) != Some(epoch) {
                    continue;
                }
                let counts = self
                    .deliver_between
                    .is_none_or(|(a, b)| (a, b) == (index, from) || (b, a) == (index, from));
                match self.deliver.as_mut().filter(|_| counts) {
                    Some(0) => {
                        self.disconnect(index, from);
                        self.deliver = None;
                        continue;
                    }
                    Some(left) => *left -= 1,
                    None => {}
                }
            }
            let effects = self.nodes[index].node.handle(self.now, input);
            self.carry_out(index, effects);
            self.crash_count += 1;
            if self
                .crash_every
                .is_some_and(|n| self.crash_count.is_multiple_of(n))
            {
                let who = self.crash_count / self.crash_every.unwrap_or(1) % self.nodes.len();
                self.crash(who);
            }
        }
    }

    fn carry_out(&mut self, index: usize, effects: Effects) {
        let node = &mut self.nodes[index];
        for (key, value) in effects.batch.iter() {
            match value {
                Some(value) => node.disk.insert(key.clone(), value.to_vec()),
                None => node.disk.remove(key),
            };
        }
        for action in effects.actions {
            self.act(index, action.kind);
        }
    }

    fn act(&mut self, index: usize, kind: ActionKind) {
        let me = self.id(index);
        match kind {
            ActionKind::Send { lane, message } => {
                let to = self.index_of(&lane.peer);
                if self.nodes[index].connections.get(&to) != Some(&lane.epoch) {
                    return;
                }
                if self.silent.contains(&index) || self.stuck.contains(&(index, lane)) {
                    return;
                }
                if matches!(message, OutMessage::CommitmentSigned { .. })
                    && self.refused_peer.is_none_or(|peer| peer == to)
                    && let Some(asked) = self.refuses.get_mut(&index)
                {
                    *asked += 1;
                    self.stuck.push((index, lane));
                    let refused = Box::new(RefusedMessage {
                        message,
                        error: SigningError::Refused(fulmen_signer::Refusal::NotSupported),
                        may_be_signed: false,
                    });
                    let input = Input::SigningRefused { lane, refused };
                    return self.inputs.push_back((index, input));
                }
                let message = match self.funding_lie.filter(|(liar, _)| *liar == index) {
                    Some((_, outpoint)) => funding_lie(message, outpoint),
                    None => message,
                };
                let message = message.complete(&self.nodes[index].signer).unwrap();
                let mut message = Message::decode(&message.encode()).unwrap();
                if let (Some((who, len)), Message::UpdateFailHtlc(fail)) =
                    (self.long_reason, &mut message)
                    && who == index
                {
                    fail.reason.resize(len, 7);
                }
                let input = Input::PeerMessage {
                    peer: me,
                    epoch: lane.epoch,
                    message,
                };
                self.inputs.push_back((to, input));
            }
            ActionKind::Disconnect { peer, reason, .. } => {
                println!("node {index} disconnects: {reason:?}");
                let other = self.index_of(&peer);
                self.disconnect(index, other);
            }
            ActionKind::Ask { .. } if self.silent_ports.contains(&index) => {}
            ActionKind::Ask { id, ask } => {
                let is_archive =
                    matches!(&ask, Ask::Record(key) if key.space == Space::PaymentArchive);
                let answer = self.answer(index, ask);
                if let Some(late) = self.late_answers.as_mut().filter(|_| is_archive) {
                    return late.push((index, Input::Answer { id, answer }));
                }
                self.inputs.push_back((index, Input::Answer { id, answer }));
            }
            ActionKind::Broadcast { id, package } if self.real.is_some() => {
                let txs: Vec<Transaction> = package
                    .into_iter()
                    .map(|tx| tx.complete(&self.nodes[index].signer).unwrap())
                    .collect();
                let real = self.real.as_mut().unwrap();
                let answer = Answer::Broadcast(real.broadcast(index, &txs));
                self.inputs.push_back((index, Input::Answer { id, answer }));
            }
            ActionKind::Broadcast { id, package } => {
                for tx in package {
                    let tx = tx.complete(&self.nodes[index].signer).unwrap();
                    if !self.mempool.contains(&tx) {
                        self.mempool.push(tx);
                    }
                }
                let answer = Answer::Broadcast(BroadcastAnswer::Accepted);
                self.inputs.push_back((index, Input::Answer { id, answer }));
            }
            ActionKind::Learn(report) => self.nodes[index].learned.push(*report),
            ActionKind::Reply { id, reply } => {
                self.nodes[index].replies.insert(id, reply);
            }
            ActionKind::Event(event) => {
                let node = &mut self.nodes[index];
                // Those that nobody has acknowledged are told again after a restart.
                if event.number > node.last_event {
                    node.last_event = event.number;
                    node.events.push(event.event);
                }
            }
            ActionKind::Note { level, text } => {
                assert!(!text.starts_with("bug"), "node {index}: {text}");
                if level >= NoteLevel::Warn {
                    println!("node {index}: {text}");
                }
            }
            ActionKind::Withdraw { .. }
            | ActionKind::Connect { .. }
            | ActionKind::StopConnecting { .. }
            | ActionKind::Misbehaved { .. }
            | ActionKind::WatchOutpoint { .. }
            | ActionKind::WatchScript { .. } => {}
        }
    }

    fn answer(&mut self, index: usize, ask: Ask) -> Answer {
        if matches!(ask, Ask::Coins(_)) && self.wallets_away.contains(&index) {
            return Answer::Coins(Err(WalletError::Unavailable("away".into())));
        }
        if let Some(real) = &mut self.real {
            match &ask {
                Ask::Funding(request) => return Answer::Funding(real.funding(index, request)),
                Ask::Coins(request) => return Answer::Coins(Ok(real.lease(index, request))),
                Ask::WalletSign { transaction, spent } => {
                    let signed = real.wallets[index].sign(transaction.clone(), spent);
                    return Answer::WalletSigned(Ok(signed));
                }
                Ask::ReleaseCoins(purpose) => {
                    real.wallets[index].release(*purpose);
                    return Answer::Coins(Ok(Vec::new()));
                }
                Ask::WalletScript => {
                    return Answer::WalletScript(Ok(real.wallets[index].script()));
                }
                _ => {}
            }
        }
        match ask {
            Ask::Sign(SigningRequest::Ecdh { .. }) if self.onions_unread.contains(&index) => {
                Answer::Signed(SigningAnswer::Unavailable)
            }
            Ask::Sign(request) => Answer::Signed(self.nodes[index].signer.answer(&request)),
            Ask::Route(query) => {
                let graph = self.nodes[index].node.graph();
                Answer::Route(query.find_route(&graph))
            }
            Ask::Funding(request) => {
                self.coins += 1;
                let mut txid = [9; 32];
                txid[..8].copy_from_slice(&self.coins.to_le_bytes());
                Answer::Funding(Ok(Transaction {
                    version: Version::TWO,
                    lock_time: LockTime::ZERO,
                    input: vec![TxIn {
                        previous_output: OutPoint::new(Txid::from_byte_array(txid), 0),
                        script_sig: ScriptBuf::new(),
                        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                        witness: Witness::from_slice(&[[1u8; 64]]),
                    }],
                    output: vec![TxOut {
                        value: request.value,
                        script_pubkey: request.script_pubkey,
                    }],
                }))
            }
            Ask::Coins(_) => Answer::Coins(Ok(Vec::new())),
            Ask::WalletSign { transaction, .. } => Answer::WalletSigned(Ok(transaction)),
            Ask::ReleaseCoins(_) => Answer::Coins(Ok(Vec::new())),
            Ask::WalletScript => {
                let mut script = vec![0x00, 0x14];
                script.extend([u8::try_from(index).unwrap() + 40; 20]);
                Answer::WalletScript(Ok(ScriptBuf::from_bytes(script)))
            }
            Ask::Record(key) => Answer::Record(self.nodes[index].disk.get(&key).cloned()),
            Ask::Utxo(scid) => {
                let found = self.blocks.iter().find_map(|block| {
                    (block.id.height.to_u32() == scid.block()).then(|| {
                        let (_, tx) = block
                            .transactions
                            .iter()
                            .find(|(i, _)| *i == scid.tx_index())?;
                        let output = tx.output.get(usize::from(scid.output_index()))?.clone();
                        let outpoint =
                            OutPoint::new(tx.compute_txid(), u32::from(scid.output_index()));
                        Some(UtxoAnswer::Unspent { output, outpoint })
                    })?
                });
                Answer::Utxo(found.unwrap_or(UtxoAnswer::SpentOrUnknown))
            }
        }
    }

    pub fn connect(&mut self, a: usize, b: usize) {
        self.epoch += 1;
        let epoch = ConnEpoch(self.epoch);
        for (me, other, direction) in [(a, b, Direction::Outbound), (b, a, Direction::Inbound)] {
            self.nodes[me].connections.insert(other, epoch);
            let peer = self.id(other);
            let input = Input::PeerConnected {
                peer,
                epoch,
                direction,
                address: None,
            };
            self.inputs.push_back((me, input));
        }
        self.run();
    }

    pub fn disconnect(&mut self, a: usize, b: usize) {
        for (me, other) in [(a, b), (b, a)] {
            if let Some(epoch) = self.nodes[me].connections.remove(&other) {
                let peer = self.id(other);
                self.inputs
                    .push_back((me, Input::PeerDisconnected { peer, epoch }));
            }
        }
    }

    /// Gives every node what the chain with rules has at its tip.
    pub fn feed_tip(&mut self) {
        let real = self.real.as_ref().unwrap();
        let tip = real.tip();
        let block = real.block(&tip.hash);
        self.blocks.push(block.clone());
        self.now = self.now.plus_millis(1_000);
        for index in 0..self.nodes.len() {
            let block = Arc::new(block.clone());
            self.inputs.push_back((index, Input::BlockConnected(block)));
            self.inputs.push_back((index, Input::BestTip(tip)));
        }
        self.run();
    }

    /// Takes the last blocks of the chain with rules back, from every node too. What they held is gone.
    pub fn unmine(&mut self, count: u32) {
        for _ in 0..count {
            let real = self.real.as_mut().unwrap();
            let tip = real.tip();
            real.chain.invalidate_block(&tip.hash).unwrap();
            self.blocks.pop();
            for index in 0..self.nodes.len() {
                self.inputs
                    .push_back((index, Input::BlockDisconnected(tip)));
            }
            self.run();
        }
    }

    pub fn height(&self) -> u32 {
        let real = self.real.as_ref().unwrap();
        real.chain.height()
    }

    pub fn mine(&mut self, count: u32) {
        for _ in 0..count {
            if let Some(real) = &mut self.real {
                real.chain.generate(1);
                self.feed_tip();
                continue;
            }
            let height = u32::try_from(self.blocks.len()).unwrap() + 1;
            let transactions = (1..).zip(self.mempool.drain(..)).collect();
            let block = Block {
                id: block_id(height),
                previous: block_id(height - 1).hash,
                time: 0,
                transactions,
            };
            self.blocks.push(block.clone());
            self.now = self.now.plus_millis(1_000);
            for index in (0..self.nodes.len()).filter(|index| !self.down.contains(index)) {
                let block = Arc::new(block.clone());
                self.inputs.push_back((index, Input::BlockConnected(block)));
                self.inputs
                    .push_back((index, Input::BestTip(block_id(height))));
            }
            self.run();
        }
    }

    /// Lets time pass in steps of a second.
    pub fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus_millis(1_000);
            for index in 0..self.nodes.len() {
                self.inputs.push_back((index, Input::Tick));
            }
            self.run();
        }
    }

    pub fn start(&mut self, index: usize, command: Command) -> CommandId {
        self.commands += 1;
        let id = CommandId([self.commands; 16]);
        self.inputs
            .push_back((index, Input::Command { id, command }));
        id
    }

    pub fn command(&mut self, index: usize, command: Command) -> Result<Reply, CommandError> {
        let id = self.start(index, command);
        self.run();
        self.nodes[index]
            .replies
            .remove(&id)
            .expect("every command is answered")
    }

    /// The process dies and starts again from its disk.
    pub fn restart(&mut self, index: usize) {
        let others = self.crash(index);
        self.run();
        for other in others {
            self.connect(index, other);
        }
    }

    /// The same, with what its owner does before the first input.
    pub fn restart_with(&mut self, index: usize, prepare: impl FnOnce(&mut Node)) {
        let others = self.crash_with(index, prepare);
        self.run();
        for other in others {
            self.connect(index, other);
        }
    }

    /// The process dies and starts again from its disk, but connects to nobody.
    pub fn crash(&mut self, index: usize) -> Vec<usize> {
        self.crash_with(index, |_| {})
    }

    fn crash_with(&mut self, index: usize, prepare: impl FnOnce(&mut Node)) -> Vec<usize> {
        let others: Vec<usize> = self.nodes[index].connections.keys().copied().collect();
        for other in &others {
            self.disconnect(index, *other);
        }
        self.inputs.retain(|(to, _)| *to != index);
        let node = &mut self.nodes[index];
        node.boots = node.boots.wrapping_add(1);
        let records = node.records();
        let boot = Boot {
            entropy: [100u8.wrapping_add(node.boots); 32],
        };
        let (restored, effects) =
            Node::restore(config(), node.signer.node_id(), &boot, self.now, &records).unwrap();
        node.node = restored;
        prepare(&mut node.node);
        self.carry_out(index, effects);
        let node = &self.nodes[index];
        assert_eq!(node.records(), node.node.records());
        self.welcome(index);
        others
    }

    pub fn archived(&self, index: usize, space: Space) -> usize {
        self.nodes[index]
            .disk
            .keys()
            .filter(|key| key.space == space)
            .count()
    }
}
