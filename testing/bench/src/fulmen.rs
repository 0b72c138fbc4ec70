//! Two Fulmen nodes in one process: every step's batch goes to the store before its actions are done, and
//! messages are handed over as they are, without a wire.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{
    Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness, absolute::LockTime, transaction::Version,
};
use fulmen_node::{
    ActionKind, Answer, Ask, Block, BlockId, Boot, BroadcastAnswer, Command, CommandError,
    CommandId, ConnEpoch, Direction, Effects, Event, Input, Node, NodeConfig, NoteLevel,
    OpenChannelCommand, PayCommand, Reply, UtxoAnswer, WalletBalance,
};
use fulmen_persister::{FileStore, SqliteStore, Store};
use fulmen_signer::{KeysManager, Signer, SigningAnswer, SigningRequest};
use fulmen_types::codec::{Encode, U16Bytes};
use fulmen_types::record::{RecordKey, Space, WriteBatch};
use fulmen_types::{BlockHeight, FeeratePerKw, Feerates, Msat, Timestamp};
use fulmen_wire::Message;

use crate::{AMOUNT_SAT, CAPACITY_SAT, CONFIRMATIONS, PUSH_SAT, Pair};

/// Where the batches go.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A map in memory.
    Memory,
    /// SQLite with a write-ahead log and full sync.
    Sqlite,
    /// A log in plain files.
    File,
}

/// What was done so far, of both nodes together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) steps: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    pub(crate) signed: u64,
    pub(crate) verified: u64,
    pub(crate) ecdh: u64,
    pub(crate) in_node: Duration,
    pub(crate) in_signer: Duration,
    pub(crate) in_store: Duration,
    pub(crate) in_route: Duration,
}

impl Work {
    /// What was done since then.
    pub(crate) fn since(&self, then: &Self) -> Self {
        Self {
            steps: self.steps - then.steps,
            batches: self.batches - then.batches,
            bytes: self.bytes - then.bytes,
            signed: self.signed - then.signed,
            verified: self.verified - then.verified,
            ecdh: self.ecdh - then.ecdh,
            in_node: self.in_node.saturating_sub(then.in_node),
            in_signer: self.in_signer.saturating_sub(then.in_signer),
            in_store: self.in_store.saturating_sub(then.in_store),
            in_route: self.in_route.saturating_sub(then.in_route),
        }
    }
}

/// A signer that counts.
struct Counted {
    keys: KeysManager,
    signed: AtomicU64,
    ecdh: AtomicU64,
    nanos: AtomicU64,
}

impl Signer for Counted {
    fn answer(&self, request: &SigningRequest) -> SigningAnswer {
        let start = Instant::now();
        let answer = self.keys.answer(request);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        if let SigningRequest::Ecdh { points } = request {
            self.ecdh.fetch_add(points.len() as u64, Relaxed);
        }
        let signed = match &answer {
            SigningAnswer::Commitment {
                htlc_signatures, ..
            } => 1 + htlc_signatures.len() as u64,
            SigningAnswer::Signature(_) | SigningAnswer::Invoice { .. } => 1,
            SigningAnswer::Announcement { .. } => 2,
            _ => 0,
        };
        self.signed.fetch_add(signed, Relaxed);
        answer
    }

    fn node_id(&self) -> PublicKey {
        self.keys.node_id()
    }
}

/// The records of a node: in memory always, to answer from, and in a store where there is one.
struct Disk {
    records: BTreeMap<RecordKey, Vec<u8>>,
    store: Option<(Box<dyn Store>, u64, u64)>,
}

impl Disk {
    fn open(kind: Kind, path: &Path) -> Result<Self> {
        let store: Option<Box<dyn Store>> = match kind {
            Kind::Memory => None,
            Kind::Sqlite => Some(Box::new(SqliteStore::open(path)?)),
            Kind::File => Some(Box::new(FileStore::open(path)?)),
        };
        let store = match store {
            None => None,
            Some(mut store) => {
                let position = store.position()?;
                Some((store, position.writer_epoch, position.next_seq()))
            }
        };
        Ok(Self {
            records: BTreeMap::new(),
            store,
        })
    }

    fn apply(&mut self, batch: WriteBatch) -> Result<()> {
        // Beside the store as well, so that the node's questions cost the same everywhere.
        for (key, value) in batch.iter() {
            match value {
                Some(value) => self.records.insert(key.clone(), value.to_vec()),
                None => self.records.remove(key),
            };
        }
        if let Some((store, epoch, seq)) = &mut self.store {
            store.append(*epoch, *seq, &[batch])?;
            *seq += 1;
        }
        Ok(())
    }
}

struct Side {
    node: Node,
    signer: Counted,
    disk: Disk,
    replies: BTreeMap<CommandId, Result<Reply, CommandError>>,
    last_event: u64,
    sent: u64,
    failed: Option<String>,
}

/// Two nodes with a channel.
pub(crate) struct Fulmen {
    sides: Vec<Side>,
    now: Timestamp,
    mempool: Vec<Transaction>,
    blocks: Vec<Block>,
    inputs: VecDeque<(usize, Input)>,
    commands: u128,
    work: Work,
}

fn block_id(height: u32) -> BlockId {
    let mut hash = [1; 32];
    hash[..4].copy_from_slice(&height.to_le_bytes());
    BlockId {
        height: BlockHeight::new(height),
        hash: BlockHash::from_byte_array(hash),
    }
}

impl Fulmen {
    /// Writes what each node would be restored from, as the fuzz target `records` reads it: the space, then
    /// key and value behind their lengths of 16 bits.
    pub(crate) fn write_records(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        for (i, side) in self.sides.iter().enumerate() {
            let mut out = Vec::new();
            for (key, value) in &side.disk.records {
                // The node's own identity is not that of the target.
                if !key.space.is_loaded_at_start() || key.space == Space::Node {
                    continue;
                }
                key.space.to_u8().encode(&mut out);
                U16Bytes(key.key.clone()).encode(&mut out);
                U16Bytes(value.clone()).encode(&mut out);
            }
            std::fs::write(folder.join(format!("node-{i}")), out)?;
        }
        Ok(())
    }

    /// Starts both nodes and opens the channel.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Result<Self> {
        let mut pair = Self {
            sides: Vec::new(),
            now: Timestamp::from_secs(1_800_000_000),
            mempool: Vec::new(),
            blocks: Vec::new(),
            inputs: VecDeque::new(),
            commands: 0,
            work: Work::default(),
        };
        for seed in 1..=2u8 {
            let signer = Counted {
                keys: KeysManager::new([seed; 32], Network::Regtest),
                signed: AtomicU64::new(0),
                ecdh: AtomicU64::new(0),
                nanos: AtomicU64::new(0),
            };
            let (node, effects) = Node::create(
                NodeConfig::new(Network::Regtest),
                signer.node_id(),
                &Boot {
                    entropy: [seed; 32],
                },
                pair.now,
                block_id(0),
            );
            let disk = Disk::open(kind, &folder.join(format!("node-{seed}")))?;
            pair.sides.push(Side {
                node,
                signer,
                disk,
                replies: BTreeMap::new(),
                last_event: 0,
                sent: 0,
                failed: None,
            });
            let index = usize::from(seed) - 1;
            pair.carry_out(index, effects)?;
            pair.input(index, Input::BestTip(block_id(0)));
            let feerate = FeeratePerKw::new(1_000);
            let feerates = Feerates {
                background: feerate,
                normal: feerate,
                urgent: feerate,
                floor: FeeratePerKw::FLOOR,
            };
            pair.input(index, Input::Feerates(feerates));
            let balance = WalletBalance {
                confirmed: Amount::from_sat(1_000_000_000),
                unconfirmed: Amount::ZERO,
            };
            pair.input(index, Input::WalletBalance(balance));
        }
        pair.run()?;
        for (index, direction) in [(0, Direction::Outbound), (1, Direction::Inbound)] {
            let connected = Input::PeerConnected {
                peer: pair.id(1 - index),
                epoch: ConnEpoch(1),
                direction,
                address: None,
            };
            pair.input(index, connected);
        }
        pair.run()?;
        let open = Command::OpenChannel(OpenChannelCommand {
            peer: pair.id(1),
            amount: Amount::from_sat(CAPACITY_SAT),
            push: Msat::from_sat(PUSH_SAT),
            announce: true,
            feerate: None,
            channel_type: None,
        });
        pair.command(0, open)?;
        for _ in 0..CONFIRMATIONS {
            pair.mine()?;
        }
        Ok(pair)
    }

    /// What was done so far.
    pub(crate) fn work(&self) -> Work {
        let mut work = self.work;
        for side in &self.sides {
            work.signed += side.signer.signed.load(Relaxed);
            work.ecdh += side.signer.ecdh.load(Relaxed);
            work.in_signer += Duration::from_nanos(side.signer.nanos.load(Relaxed));
        }
        work
    }

    fn id(&self, index: usize) -> PublicKey {
        self.sides[index].node.node_id()
    }

    fn input(&mut self, index: usize, input: Input) {
        self.inputs.push_back((index, input));
    }

    fn run(&mut self) -> Result<()> {
        while let Some((index, input)) = self.inputs.pop_front() {
            if let Input::PeerMessage {
                message: Message::CommitmentSigned(signed),
                ..
            } = &input
            {
                self.work.verified += 1 + signed.htlc_signature.len() as u64;
            }
            let start = Instant::now();
            let effects = self.sides[index].node.handle(self.now, input);
            self.work.in_node += start.elapsed();
            self.work.steps += 1;
            self.carry_out(index, effects)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, index: usize, effects: Effects) -> Result<()> {
        if !effects.batch.is_empty() {
            self.work.batches += 1;
            self.work.bytes += effects.batch.size() as u64;
            let start = Instant::now();
            self.sides[index].disk.apply(effects.batch)?;
            self.work.in_store += start.elapsed();
        }
        for action in effects.actions {
            self.act(index, action.kind)?;
        }
        Ok(())
    }

    fn act(&mut self, index: usize, kind: ActionKind) -> Result<()> {
        let side = &mut self.sides[index];
        match kind {
            ActionKind::Send { message, .. } => {
                let message = message
                    .complete(&side.signer)
                    .map_err(|error| anyhow!("not signed: {error:?}"))?;
                let input = Input::PeerMessage {
                    peer: side.node.node_id(),
                    epoch: ConnEpoch(1),
                    message,
                };
                self.input(1 - index, input);
            }
            ActionKind::Ask { id, ask } => {
                let answer = self.answer(index, ask)?;
                self.input(index, Input::Answer { id, answer });
            }
            ActionKind::Broadcast { id, package } => {
                for tx in package {
                    let tx = tx
                        .complete(&side.signer)
                        .map_err(|error| anyhow!("not signed: {error:?}"))?;
                    if !self.mempool.contains(&tx) {
                        self.mempool.push(tx);
                    }
                }
                let answer = Answer::Broadcast(BroadcastAnswer::Accepted);
                self.input(index, Input::Answer { id, answer });
            }
            ActionKind::Reply { id, reply } => {
                side.replies.insert(id, reply);
            }
            ActionKind::Event(event) => {
                side.last_event = side.last_event.max(event.number);
                match event.event {
                    Event::PaymentSucceeded { .. } => side.sent += 1,
                    Event::PaymentFailed { reason, .. } => side.failed = Some(reason),
                    _ => {}
                }
            }
            ActionKind::Disconnect { reason, .. } => bail!("node {index} disconnects: {reason:?}"),
            ActionKind::Note { level, text } if level >= NoteLevel::Warn => {
                eprintln!("node {index}: {text}");
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, index: usize, ask: Ask) -> Result<Answer> {
        Ok(match ask {
            Ask::Sign(request) => Answer::Signed(self.sides[index].signer.answer(&request)),
            Ask::Route(query) => {
                let start = Instant::now();
                let graph = self.sides[index].node.graph();
                let route = query.find_route(&graph);
                self.work.in_route += start.elapsed();
                Answer::Route(route)
            }
            Ask::Funding(request) => Answer::Funding(Ok(Transaction {
                version: Version::TWO,
                lock_time: LockTime::ZERO,
                input: vec![TxIn {
                    previous_output: OutPoint::new(Txid::from_byte_array([9; 32]), 0),
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    witness: Witness::from_slice(&[[1u8; 64]]),
                }],
                output: vec![TxOut {
                    value: request.value,
                    script_pubkey: request.script_pubkey,
                }],
            })),
            Ask::WalletSign { transaction, .. } => Answer::WalletSigned(Ok(transaction)),
            Ask::Coins(_) | Ask::ReleaseCoins(_) => Answer::Coins(Ok(Vec::new())),
            Ask::WalletScript => {
                let mut script = vec![0x00, 0x14];
                script.extend([u8::try_from(index)? + 40; 20]);
                Answer::WalletScript(Ok(ScriptBuf::from_bytes(script)))
            }
            Ask::Record(key) => Answer::Record(self.sides[index].disk.records.get(&key).cloned()),
            Ask::Utxo(scid) => {
                let mut blocks = self.blocks.iter();
                let block = blocks.find(|block| block.id.height.to_u32() == scid.block());
                let found = block.and_then(|block| {
                    let mut txs = block.transactions.iter();
                    let (_, tx) = txs.find(|(i, _)| *i == scid.tx_index())?;
                    let output = tx.output.get(usize::from(scid.output_index()))?.clone();
                    let vout = u32::from(scid.output_index());
                    let outpoint = OutPoint::new(tx.compute_txid(), vout);
                    Some(UtxoAnswer::Unspent { output, outpoint })
                });
                Answer::Utxo(found.unwrap_or(UtxoAnswer::SpentOrUnknown))
            }
        })
    }

    fn mine(&mut self) -> Result<()> {
        let height = u32::try_from(self.blocks.len())? + 1;
        let block = Block {
            id: block_id(height),
            previous: block_id(height - 1).hash,
            time: 0,
            transactions: (1..).zip(self.mempool.drain(..)).collect(),
        };
        self.blocks.push(block.clone());
        self.now = self.now.plus_millis(1_000);
        let block = Arc::new(block);
        for index in 0..2 {
            self.input(index, Input::BlockConnected(Arc::clone(&block)));
            self.input(index, Input::BestTip(block.id));
        }
        self.run()
    }

    fn command(&mut self, index: usize, command: Command) -> Result<Reply> {
        self.commands += 1;
        let id = CommandId(self.commands.to_be_bytes());
        self.input(index, Input::Command { id, command });
        self.run()?;
        self.sides[index]
            .replies
            .remove(&id)
            .context("the command is not answered")?
            .map_err(|error| anyhow!("the command fails: {error:?}"))
    }
}

impl Pair for Fulmen {
    fn pay(&mut self, from: usize) -> Result<()> {
        self.now = self.now.plus_millis(1);
        let invoice = Command::CreateInvoice {
            amount: Some(Msat::from_sat(AMOUNT_SAT)),
            description: "bench".into(),
            expiry_secs: 3_600,
        };
        let Reply::Invoice { invoice, .. } = self.command(1 - from, invoice)? else {
            bail!("no invoice");
        };
        let before = self.sides[from].sent;
        let pay = Command::Pay(PayCommand {
            invoice,
            amount: None,
            max_fee: None,
            timeout_secs: None,
        });
        self.command(from, pay)?;
        if let Some(reason) = &self.sides[from].failed {
            bail!("payment failed: {reason}");
        }
        if self.sides[from].sent != before + 1 {
            bail!("the payment did not end");
        }
        Ok(())
    }

    fn end_round(&mut self) -> Result<()> {
        for index in 0..2 {
            let up_to = self.sides[index].last_event;
            self.command(index, Command::AcknowledgeEvents { up_to })?;
        }
        Ok(())
    }
}
