//! Two parties with real keys on an embedded chain: what a resolution says is done, and the chain judges.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::unwrap_used,
    reason = "each test file uses a part, and a test stops at the first surprise"
)]

pub mod wallet;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{Amount, Network, OutPoint, Transaction, secp256k1::PublicKey};
use fulmen_devchain::{Chain, Config, PackageTx, Reject, RejectKind};
use fulmen_enforce::{
    BroadcastVerdict, EnforceContext, EnforceEvent, EnforceInput, EnforceOutput, Evidence,
    Resolution, Start,
};
use fulmen_signer::{
    BroadcastTx, CommitmentSigning, KeysManager, Signer, SigningAnswer, SigningRequest,
};
use fulmen_tx::{
    ChannelKeysId, ChannelParameters, CommitmentContent, CommitmentFormat, CommitmentHtlc,
    CommitmentSecrets, CounterpartyCommitment, Funding, HolderCommitment, PartyParameters, Secp,
    Side,
};
use fulmen_types::{
    BlockHeight, CltvExpiry, CommitmentNumber, FeeratePerKw, Feerates, HtlcId, Msat, PaymentHash,
    PaymentPreimage, Timestamp,
    record::{RecordKey, WriteBatch},
};
use wallet::Wallet;

pub const FUNDING: Amount = Amount::from_sat(1_000_000);
pub const DELAY: u16 = 30;
/// The number of both current commitments.
pub const CURRENT: u64 = 5;

pub fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber::new(n).unwrap()
}

pub fn preimage(n: u8) -> PaymentPreimage {
    PaymentPreimage::new([n; 32])
}

/// An HTLC from Alice's view; the preimage is that of `secret`.
pub fn htlc(id: u64, offered_by: Side, sat: u64, secret: u8, expiry: u32) -> CommitmentHtlc {
    CommitmentHtlc {
        id: HtlcId::new(id),
        offered_by,
        amount: Msat::from_sat(sat),
        payment_hash: hash(secret),
        cltv_expiry: CltvExpiry::new(expiry),
    }
}

pub fn hash(secret: u8) -> PaymentHash {
    preimage(secret).payment_hash()
}

/// The same from the other side.
pub fn mirrored(content: &CommitmentContent) -> CommitmentContent {
    let flip = |h: &CommitmentHtlc| CommitmentHtlc {
        offered_by: h.offered_by.other(),
        ..*h
    };
    CommitmentContent {
        to_local: content.to_remote,
        to_remote: content.to_local,
        htlcs: content.htlcs.iter().map(flip).collect(),
        ..content.clone()
    }
}

/// Alice has 600,000 sat less what she offers, Bob 400,000 less what he offers.
pub fn content(n: u64, htlcs: &[CommitmentHtlc], feerate: u32) -> CommitmentContent {
    let offered = |side: Side| {
        let of_side = htlcs.iter().filter(|h| h.offered_by == side);
        Msat::checked_sum(of_side.map(|h| h.amount)).unwrap()
    };
    CommitmentContent {
        number: number(n),
        feerate: FeeratePerKw::new(feerate),
        to_local: Msat::from_sat(600_000)
            .checked_sub(offered(Side::Local))
            .unwrap(),
        to_remote: Msat::from_sat(400_000)
            .checked_sub(offered(Side::Remote))
            .unwrap(),
        htlcs: htlcs.to_vec(),
    }
}

pub struct Party {
    pub name: &'static str,
    pub signer: KeysManager,
    pub params: ChannelParameters,
    pub wallet: Wallet,
    pub resolution: Option<Resolution>,
    pub disk: BTreeMap<RecordKey, Vec<u8>>,
    /// What the channel wrote about the peer's commitments, by number.
    pub records: BTreeMap<u64, CounterpartyCommitment>,
    pub watched: BTreeSet<OutPoint>,
    pub fulfilled: Vec<HtlcId>,
    pub failed: Vec<HtlcId>,
    /// Preimages of what had failed.
    pub late: Vec<PaymentPreimage>,
    pub events: Vec<EnforceEvent>,
    pub refusals: Vec<String>,
    pub sent: Vec<Vec<Transaction>>,
    pub done: bool,
    /// Restart from disk once in every step, each time a little later, and lose an answer.
    pub crashes: bool,
    pub runs: usize,
    /// Nothing that it broadcasts arrives.
    pub muted: bool,
    /// Of a refused package it is told the first reason only.
    pub blunt: bool,
}

pub struct World {
    pub secp: Secp,
    pub chain: Chain,
    pub alice: Party,
    pub bob: Party,
    pub feerates: Feerates,
    pub now: Timestamp,
}

fn point_of(signer: &KeysManager, keys_id: ChannelKeysId, n: u64) -> PublicKey {
    let number = number(n);
    match signer.answer(&SigningRequest::PerCommitmentPoint { keys_id, number }) {
        SigningAnswer::Point(point) => point,
        other => panic!("{other:?}"),
    }
}

impl World {
    pub fn new(format: CommitmentFormat) -> Self {
        let secp = Secp::new();
        let mut chain = Chain::new(Config::default());
        let signers = [[1; 32], [2; 32]].map(|seed| KeysManager::new(seed, Network::Regtest));
        let ids = [ChannelKeysId::new([11; 32]), ChannelKeysId::new([22; 32])];
        let party = |signer: &KeysManager, keys_id| {
            let keys = match signer.answer(&SigningRequest::ChannelPublicKeys { keys_id }) {
                SigningAnswer::ChannelPublicKeys(keys) => *keys,
                other => panic!("{other:?}"),
            };
            PartyParameters {
                keys,
                to_self_delay: DELAY,
                dust_limit: Amount::from_sat(546),
            }
        };
        let [a, b] = [party(&signers[0], ids[0]), party(&signers[1], ids[1])];
        let mut params = ChannelParameters {
            keys_id: ids[0],
            format,
            opener: Side::Local,
            local: a,
            remote: b,
            funding: Funding {
                outpoint: OutPoint::null(),
                value: FUNDING,
            },
        };
        let script = params.funding_witness_script().to_p2wsh();
        params.funding.outpoint = chain.fund(&script, FUNDING).unwrap();
        let theirs = ChannelParameters {
            keys_id: ids[1],
            opener: Side::Remote,
            local: b,
            remote: a,
            ..params
        };
        let [sa, sb] = signers;
        let alice = Party::new("alice", sa, params);
        let bob = Party::new("bob", sb, theirs);
        for party in [&alice, &bob] {
            for _ in 0..12 {
                let script = party.wallet.coin_script();
                chain.fund(&script, Amount::from_sat(100_000)).unwrap();
            }
        }
        Self {
            secp,
            chain,
            alice,
            bob,
            feerates: feerates(1_000),
            now: Timestamp::from_secs(1_000),
        }
    }

    pub fn height(&self) -> u32 {
        self.chain.height()
    }

    /// Evidence of both for current commitments with these HTLCs (Alice's view). Alice has the records of
    /// `old` commitments of Bob's too.
    pub fn evidence(
        &mut self,
        current: &CommitmentContent,
        old: &[CommitmentContent],
    ) -> (Evidence, Evidence) {
        let a = self.evidence_of(&self.alice, &self.bob, current.clone());
        let b = self.evidence_of(&self.bob, &self.alice, mirrored(current));
        for content in old.iter().chain([current]) {
            let n = content.number.to_u64();
            self.alice.records.insert(n, self.theirs(content));
        }
        (a, b)
    }

    /// Bob's commitment with this content (Alice's view), as Alice knows it.
    pub fn theirs(&self, content: &CommitmentContent) -> CounterpartyCommitment {
        let n = content.number.to_u64();
        CounterpartyCommitment {
            content: content.clone(),
            per_commitment_point: point_of(&self.bob.signer, self.bob.params.keys_id, n),
        }
    }

    /// Bob's commitment with this content (Alice's view), signed by Alice, as Bob holds it.
    pub fn bobs(&self, content: &CommitmentContent) -> HolderCommitment {
        holder(&self.bob, &self.alice, mirrored(content))
    }

    fn evidence_of(&self, own: &Party, peer: &Party, content: CommitmentContent) -> Evidence {
        let mut secrets = CommitmentSecrets::new();
        for n in 0..CURRENT {
            let request = SigningRequest::RevealSecret {
                keys_id: peer.params.keys_id,
                number: number(n),
            };
            match peer.signer.answer(&request) {
                SigningAnswer::Secret(secret) => {
                    secrets.insert(number(n), secret.to_byte_array()).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        let point = point_of(&peer.signer, peer.params.keys_id, content.number.to_u64());
        Evidence {
            params: own.params,
            holder: Some(holder(own, peer, content.clone())),
            counterparty: vec![CounterpartyCommitment {
                content,
                per_commitment_point: point,
            }],
            secrets,
            preimages: Vec::new(),
            sweep_script: own.wallet.sweep_script(),
            shutdown_scripts: Vec::new(),
        }
    }

    pub fn start_alice(&mut self, evidence: Evidence, start: Start) {
        self.start(true, evidence, start);
    }

    pub fn start_bob(&mut self, evidence: Evidence, start: Start) {
        self.start(false, evidence, start);
    }

    fn start(&mut self, is_alice: bool, evidence: Evidence, start: Start) {
        let ctx = context(&self.secp, &self.chain, self.feerates, self.now);
        let mut batch = WriteBatch::new();
        let (resolution, out) = Resolution::new(evidence, start, &ctx, &mut batch);
        let party = if is_alice {
            &mut self.alice
        } else {
            &mut self.bob
        };
        party.resolution = Some(resolution);
        party.keep(&batch);
        party.run(out, &mut self.chain, &self.secp, self.feerates, self.now);
    }

    pub fn input_alice(&mut self, input: EnforceInput) {
        let Self {
            secp,
            chain,
            alice,
            feerates,
            now,
            ..
        } = self;
        alice.input(input, chain, secp, *feerates, *now);
    }

    pub fn input_bob(&mut self, input: EnforceInput) {
        let Self {
            secp,
            chain,
            bob,
            feerates,
            now,
            ..
        } = self;
        bob.input(input, chain, secp, *feerates, *now);
    }

    /// Mines what is in the mempool and feeds both.
    pub fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.chain.generate(1);
            self.feed_tip();
        }
    }

    /// Mines exactly these.
    pub fn mine_only(&mut self, txs: &[Transaction]) {
        self.chain.mine(txs).unwrap();
        self.feed_tip();
    }

    pub fn mine_to(&mut self, height: u32) {
        let blocks = height.saturating_sub(self.height());
        self.mine(blocks);
    }

    pub fn feed_tip(&mut self) {
        let height = self.height();
        self.feed(height);
        self.input_alice(EnforceInput::BestTip);
        self.input_bob(EnforceInput::BestTip);
    }

    /// Feeds both the block at this height.
    pub fn feed(&mut self, height: u32) {
        let Self {
            secp,
            chain,
            alice,
            bob,
            feerates,
            now,
        } = self;
        now.clone_from(&now.plus_millis(600_000));
        alice.block(height, chain, secp, *feerates, *now);
        bob.block(height, chain, secp, *feerates, *now);
    }

    /// Throws the last blocks out, with a longer branch of empty blocks in their place. What was in them
    /// goes back to the mempool only if `keep`.
    pub fn reorg(&mut self, depth: u32, keep: bool) {
        let from = self.height() - depth + 1;
        for height in (from..=self.height()).rev() {
            let height = BlockHeight::new(height);
            self.input_alice(EnforceInput::Disconnected { height });
            self.input_bob(EnforceInput::Disconnected { height });
        }
        let hash = self.chain.block_hash(from).unwrap();
        self.chain.invalidate_block(&hash).unwrap();
        assert!(
            keep,
            "the mempool takes back what a reorganisation throws out"
        );
        for _ in 0..=depth {
            self.chain.mine(&[]).unwrap();
            self.feed(self.height());
        }
        self.input_alice(EnforceInput::BestTip);
        self.input_bob(EnforceInput::BestTip);
    }
}

pub fn feerates(sat_per_kw: u32) -> Feerates {
    Feerates {
        background: FeeratePerKw::new(sat_per_kw),
        normal: FeeratePerKw::new(sat_per_kw * 2),
        urgent: FeeratePerKw::new(sat_per_kw * 4),
        floor: FeeratePerKw::FLOOR,
    }
}

fn holder(own: &Party, peer: &Party, content: CommitmentContent) -> HolderCommitment {
    let point = point_of(&own.signer, own.params.keys_id, content.number.to_u64());
    let request = SigningRequest::CounterpartyCommitment(Box::new(CommitmentSigning {
        params: peer.params,
        commitment: CounterpartyCommitment {
            content: mirrored(&content),
            per_commitment_point: point,
        },
    }));
    match peer.signer.answer(&request) {
        SigningAnswer::Commitment {
            signature,
            htlc_signatures,
        } => HolderCommitment {
            content,
            per_commitment_point: point,
            counterparty_signature: signature,
            htlc_signatures,
        },
        other => panic!("{other:?}"),
    }
}

fn context<'a>(
    secp: &'a Secp,
    chain: &Chain,
    feerates: Feerates,
    now: Timestamp,
) -> EnforceContext<'a> {
    EnforceContext {
        secp,
        now,
        tip: BlockHeight::new(chain.height()),
        feerates,
    }
}

impl Party {
    fn new(name: &'static str, signer: KeysManager, params: ChannelParameters) -> Self {
        let wallet = Wallet::new(if name == "alice" { 7 } else { 8 });
        Self {
            name,
            signer,
            params,
            wallet,
            resolution: None,
            disk: BTreeMap::new(),
            records: BTreeMap::new(),
            watched: BTreeSet::new(),
            fulfilled: Vec::new(),
            failed: Vec::new(),
            late: Vec::new(),
            events: Vec::new(),
            refusals: Vec::new(),
            sent: Vec::new(),
            done: false,
            crashes: false,
            runs: 0,
            muted: false,
            blunt: false,
        }
    }

    /// What all claims in blocks cost.
    pub fn fees(&self) -> Amount {
        let fees = self.events.iter().filter_map(|e| match e {
            EnforceEvent::Swept { fee, .. } => Some(*fee),
            _ => None,
        });
        fees.sum()
    }

    fn keep(&mut self, batch: &WriteBatch) {
        for (key, value) in batch.iter() {
            match value {
                Some(value) => self.disk.insert(key.clone(), value.to_vec()),
                None => self.disk.remove(key),
            };
        }
    }

    fn block(
        &mut self,
        height: u32,
        chain: &mut Chain,
        secp: &Secp,
        feerates: Feerates,
        now: Timestamp,
    ) {
        let block = chain
            .block(&chain.block_hash(height).unwrap())
            .unwrap()
            .clone();
        let txs: Vec<(u32, Transaction)> = (0u32..).zip(block.txdata.iter().cloned()).collect();
        // A source that delivers what spends a watched output, until a round brings nothing new.
        loop {
            let Some(resolution) = &mut self.resolution else {
                return;
            };
            let watched = self.watched.clone();
            let matching: Vec<(u32, &Transaction)> = txs
                .iter()
                .filter(|(_, tx)| {
                    tx.input
                        .iter()
                        .any(|i| watched.contains(&i.previous_output))
                })
                .map(|(index, tx)| (*index, tx))
                .collect();
            let ctx = context(secp, chain, feerates, now);
            let mut batch = WriteBatch::new();
            let out =
                resolution.handle_block(&ctx, BlockHeight::new(height), &matching, &mut batch);
            self.keep(&batch);
            self.run(out, chain, secp, feerates, now);
            if self.watched == watched {
                break;
            }
        }
    }

    fn input(
        &mut self,
        input: EnforceInput,
        chain: &mut Chain,
        secp: &Secp,
        feerates: Feerates,
        now: Timestamp,
    ) {
        let Some(resolution) = &mut self.resolution else {
            return;
        };
        let ctx = context(secp, chain, feerates, now);
        let mut batch = WriteBatch::new();
        let out = resolution.handle(&ctx, input, &mut batch);
        self.keep(&batch);
        self.run(out, chain, secp, feerates, now);
    }

    fn crash(
        &mut self,
        chain: &Chain,
        secp: &Secp,
        feerates: Feerates,
        now: Timestamp,
    ) -> Vec<EnforceOutput> {
        if self.disk.is_empty() {
            self.resolution = None;
            return Vec::new();
        }
        let records = self
            .disk
            .iter()
            .map(|(k, v)| (k.key.as_slice(), v.as_slice()));
        let mut restored = Resolution::restore(secp, records).unwrap();
        let before = self.resolution.as_ref().unwrap();
        assert_eq!(restored.pending_sweeps(secp), before.pending_sweeps(secp));
        assert_eq!(restored.funding_spend(secp), before.funding_spend(secp));
        self.watched.clear();
        let ctx = context(secp, chain, feerates, now);
        let out = restored.re_emit(&ctx);
        // What was restored is what was written: there is nothing to write.
        let mut batch = WriteBatch::new();
        let _ = restored
            .clone()
            .handle(&ctx, EnforceInput::Tick, &mut batch);
        assert!(batch.is_empty(), "{batch:?}");
        self.resolution = Some(restored);
        out
    }

    /// Does what the resolution says.
    fn run(
        &mut self,
        out: Vec<EnforceOutput>,
        chain: &mut Chain,
        secp: &Secp,
        feerates: Feerates,
        now: Timestamp,
    ) {
        let mut queue: VecDeque<EnforceOutput> = out.into();
        let mut steps = 0;
        self.runs += 1;
        while let Some(output) = queue.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "{} runs for ever", self.name);
            let Some(input) = self.act(output, chain) else {
                continue;
            };
            if self.crashes && steps == self.runs % 4 + 1 {
                // The answer is lost, and so is everything that was not on disk.
                let again = self.crash(chain, secp, feerates, now);
                queue = again.into();
                continue;
            }
            let Some(resolution) = &mut self.resolution else {
                return;
            };
            let ctx = context(secp, chain, feerates, now);
            let mut batch = WriteBatch::new();
            queue.extend(resolution.handle(&ctx, input, &mut batch));
            self.keep(&batch);
        }
    }

    fn act(&mut self, output: EnforceOutput, chain: &mut Chain) -> Option<EnforceInput> {
        match output {
            EnforceOutput::Watch { outpoint, .. } => {
                self.watched.insert(outpoint);
                None
            }
            EnforceOutput::Broadcast { id, package, .. } => {
                let verdict = self.broadcast(package, chain);
                Some(EnforceInput::BroadcastResult { id, verdict })
            }
            EnforceOutput::AskCoins {
                lease,
                value,
                feerate,
            } => Some(EnforceInput::Coins {
                lease,
                coins: self.wallet.lease(lease, value, feerate, chain),
            }),
            EnforceOutput::AskWalletSign {
                claim,
                attempt,
                transaction,
                spent,
            } => Some(EnforceInput::WalletSigned {
                claim,
                attempt,
                transaction: Some(self.wallet.sign(transaction, &spent)),
            }),
            EnforceOutput::AskRecord { number } => Some(EnforceInput::StoredRecord {
                number,
                commitment: self.records.get(&number.to_u64()).cloned(),
            }),
            EnforceOutput::ReleaseCoins { lease } => {
                self.wallet.release(lease);
                None
            }
            EnforceOutput::HtlcPreimage {
                id,
                payment_hash,
                preimage,
            } => {
                assert_eq!(preimage.payment_hash(), payment_hash);
                assert!(!self.fulfilled.contains(&id) && !self.failed.contains(&id));
                self.fulfilled.push(id);
                None
            }
            EnforceOutput::HtlcFailed { id, .. } => {
                assert!(!self.fulfilled.contains(&id) && !self.failed.contains(&id));
                self.failed.push(id);
                None
            }
            EnforceOutput::LatePreimage { id, preimage } => {
                assert!(self.failed.contains(&id));
                self.late.push(preimage);
                None
            }
            EnforceOutput::Event(event) => {
                self.events.push(event);
                None
            }
            EnforceOutput::Done => {
                self.done = true;
                assert!(
                    self.disk.is_empty(),
                    "a resolution that is done leaves records"
                );
                None
            }
        }
    }

    fn broadcast(&mut self, package: Vec<BroadcastTx>, chain: &mut Chain) -> BroadcastVerdict {
        let txs: Vec<Transaction> = package
            .into_iter()
            .map(|tx| tx.complete(&self.signer).unwrap())
            .collect();
        self.sent.push(txs.clone());
        if self.muted {
            return BroadcastVerdict::Accepted;
        }
        match txs.as_slice() {
            [tx] => match chain.send(tx) {
                Ok(_) => BroadcastVerdict::Accepted,
                Err(reject) => self.refused(&reject, tx),
            },
            txs => {
                let result = chain.submit_package(txs);
                if result.is_ok() {
                    return BroadcastVerdict::Accepted;
                }
                // A child whose coins are gone matters more than the fee of its parent.
                let refused = result.txs.iter().filter_map(|(_, r)| match r {
                    PackageTx::Refused(reject) => Some(reject.to_string()),
                    _ => None,
                });
                let reasons: Vec<String> = refused.collect();
                let missing = reasons
                    .iter()
                    .find(|r| r.contains("missing") && !self.blunt);
                let missing = missing.cloned();
                let reason = missing.or_else(|| result.reason().map(str::to_owned));
                let reason = reason.unwrap_or_default();
                self.refusals.push(reason.clone());
                if reason.contains("missing") {
                    BroadcastVerdict::MissingInputs
                } else if reason.contains("fee") {
                    BroadcastVerdict::BelowFloor
                } else {
                    panic!("{}: package refused: {result:?}", self.name)
                }
            }
        }
    }

    fn refused(&mut self, reject: &Reject, tx: &Transaction) -> BroadcastVerdict {
        self.refusals.push(reject.to_string());
        match reject.kind {
            RejectKind::MissingInputs => BroadcastVerdict::MissingInputs,
            RejectKind::Conflict => BroadcastVerdict::Known,
            RejectKind::Reconsiderable => BroadcastVerdict::BelowFloor,
            RejectKind::Policy
                if reject.reason.contains("fee") || reject.reason.contains("replace") =>
            {
                BroadcastVerdict::Conflict
            }
            // Whatever else is refused should never have been sent.
            RejectKind::Consensus | RejectKind::Policy | RejectKind::Premature => {
                panic!("{}: {reject}: {tx:#?}", self.name)
            }
        }
    }
}
