//! Blocks, and channels that end on chain.

use alloc::{string::ToString, vec::Vec};

use bitcoin::Transaction;
use fulmen_channel::{ChannelInput, EnforcementData};
use fulmen_enforce::{
    BroadcastClass, BroadcastVerdict, EnforceContext, EnforceEvent, EnforceInput, EnforceOutput,
    Evidence, Resolution, SpendKind, Start,
};
use fulmen_tx::{ChannelKeysId, CounterpartyCommitment};
use fulmen_types::{BlockHeight, HtlcId, codec::Decode};

use crate::{
    channels::OutgoingFailure,
    effects::{ActionKind, NoteLevel, ReleaseClass, Scope},
    event::Event,
    htlcs::forwarded_from,
    input::{Block, BlockId},
    node::Node,
    port::{Answer, Ask, BroadcastAnswer, CoinPurpose, CoinRequest, WalletError},
    requests::Pending,
    step::Step,
    work::Work,
};

impl Node {
    /// One block: first what it does to fundings, then what channels on chain make of it. Deadlines wait
    /// for [`Node::best_tip`].
    pub(crate) fn block_connected(&mut self, step: &mut Step, block: &Block) {
        if let Err(error) = self.chain.connect(block) {
            return step.note(NoteLevel::Error, error.to_string());
        }
        step.scope(Scope::Node);
        self.chain.write(&mut step.batch);
        self.transactions(step, block.id, &block.transactions);
        self.gossip_block(step, block);
    }

    pub(crate) fn late_matches(
        &mut self,
        step: &mut Step,
        block: BlockId,
        transactions: &[(u32, Transaction)],
    ) {
        if block.height > self.chain.height() {
            return step.note(
                NoteLevel::Error,
                "matches of a block that was never connected",
            );
        }
        if !self.chain.may_contain(block) {
            return step.note(NoteLevel::Debug, "matches of a block that was thrown out");
        }
        self.transactions(step, block, transactions);
    }

    fn transactions(&mut self, step: &mut Step, block: BlockId, txs: &[(u32, Transaction)]) {
        for (index, tx) in txs {
            self.look_for_funding(step, block.height, *index, tx);
        }
        // Channels freeze before the resolutions look: a spend and what follows it may be in one block.
        while let Some(work) = step.work.pop_front() {
            self.work(step, work);
        }
        let references: Vec<(u32, &Transaction)> = txs.iter().map(|(i, tx)| (*i, tx)).collect();
        let ids: Vec<ChannelKeysId> = self.resolutions.keys().copied().collect();
        for keys_id in ids {
            let height = block.height;
            self.with_resolution(step, keys_id, |resolution, ctx, batch| {
                resolution.handle_block(ctx, height, &references, batch)
            });
        }
    }

    fn look_for_funding(
        &mut self,
        step: &mut Step,
        height: BlockHeight,
        tx_index: u32,
        tx: &Transaction,
    ) {
        for input in &tx.input {
            let spent = self.funding_outpoints.get(&input.previous_output);
            for keys_id in spent.into_iter().flatten() {
                let input = ChannelInput::FundingSpent {
                    transaction: tx.clone(),
                    height,
                };
                step.work.push_back(Work::Channel(*keys_id, input));
            }
        }
        if self.funding_txids.is_empty() {
            return;
        }
        if let Some(ids) = self.funding_txids.get(&tx.compute_txid()) {
            for keys_id in ids {
                let transaction = tx.clone();
                let input = ChannelInput::FundingConfirmed {
                    transaction,
                    height,
                    tx_index,
                };
                step.work.push_back(Work::Channel(*keys_id, input));
            }
        }
    }

    pub(crate) fn block_disconnected(&mut self, step: &mut Step, block: BlockId) {
        if let Err(error) = self.chain.disconnect(block) {
            step.note(NoteLevel::Error, error.to_string());
            if error == crate::ChainError::TooDeep {
                let message = error.to_string();
                self.event(step, Event::Alert { message });
            }
            return;
        }
        step.scope(Scope::Node);
        self.chain.write(&mut step.batch);
        for (keys_id, entry) in &self.channels {
            // What the resolution knows of the channel no longer changes: the channel must not go on, or the
            // resolution could broadcast what is revoked by then. It stays frozen, and ends on chain.
            if entry.channel.frozen_height() == Some(block.height)
                && !self.resolutions.contains_key(keys_id)
            {
                step.work
                    .push_back(Work::Channel(*keys_id, ChannelInput::FundingUnspent));
            }
            if entry.channel.funding_height() == Some(block.height) {
                step.work
                    .push_back(Work::Channel(*keys_id, ChannelInput::FundingUnconfirmed));
            }
        }
        let ids: Vec<ChannelKeysId> = self.resolutions.keys().copied().collect();
        for keys_id in ids {
            let input = EnforceInput::Disconnected {
                height: block.height,
            };
            self.resolution_input(step, keys_id, input);
        }
        self.gossip_block_disconnected(step, block);
    }

    /// After a start the peers have had their time to come back: deadlines run without waiting for the next
    /// block.
    pub(crate) fn end_grace(&mut self, step: &mut Step) {
        if self.chain.synced && self.grace_ends.is_some_and(|at| step.now >= at) {
            self.grace_ends = None;
            self.run_deadlines(step);
        }
    }

    fn run_deadlines(&self, step: &mut Step) {
        let blocks = self
            .channels
            .keys()
            .map(|keys_id| Work::Channel(*keys_id, ChannelInput::Block));
        step.work.extend(blocks);
    }

    /// The source has caught up: now deadlines run.
    pub(crate) fn best_tip(&mut self, step: &mut Step, tip: BlockId) {
        if tip != self.chain.tip() {
            return step.note(
                NoteLevel::Error,
                "the best tip is not the last block connected",
            );
        }
        self.chain.synced = true;
        self.run_deadlines(step);
        while let Some(work) = step.work.pop_front() {
            self.work(step, work);
        }
        let ids: Vec<ChannelKeysId> = self.resolutions.keys().copied().collect();
        for keys_id in ids {
            self.resolution_input(step, keys_id, EnforceInput::BestTip);
        }
        self.press_upstream(step);
        self.archive_expired_invoices(step);
        self.slot_is_free(step);
    }

    /// A channel's end on chain begins: by our commitment, or because its funding output is spent. Says
    /// whether it had not begun before.
    pub(crate) fn start_resolution(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        data: EnforcementData,
        force_close: bool,
    ) -> bool {
        if self.resolutions.contains_key(&keys_id) {
            return false;
        }
        let start = if force_close {
            Start::ForceClose
        } else {
            Start::FundingSpent
        };
        let evidence = Evidence {
            params: data.params,
            holder: data.holder,
            counterparty: data.counterparty,
            secrets: data.secrets,
            preimages: data.preimages,
            sweep_script: data.sweep_script,
            shutdown_scripts: data.shutdown_scripts,
        };
        let ctx = EnforceContext {
            now: step.now,
            tip: self.chain.height(),
            feerates: self.feerates,
            secp: &self.secp,
        };
        step.scopes.insert(Scope::Channel(keys_id));
        let (resolution, outputs) = Resolution::new(evidence, start, &ctx, &mut step.batch);
        self.resolutions.insert(keys_id, resolution);
        self.resolution_outputs(step, keys_id, outputs);
        true
    }

    pub(crate) fn resolution_input(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        input: EnforceInput,
    ) {
        self.with_resolution(step, keys_id, |resolution, ctx, batch| {
            resolution.handle(ctx, input, batch)
        });
    }

    fn with_resolution(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        run: impl FnOnce(
            &mut Resolution,
            &EnforceContext<'_>,
            &mut fulmen_types::record::WriteBatch,
        ) -> Vec<EnforceOutput>,
    ) {
        let Some(resolution) = self.resolutions.get_mut(&keys_id) else {
            return;
        };
        let ctx = EnforceContext {
            now: step.now,
            tip: self.chain.height(),
            feerates: self.feerates,
            secp: &self.secp,
        };
        step.scopes.insert(Scope::Channel(keys_id));
        let outputs = run(resolution, &ctx, &mut step.batch);
        self.resolution_outputs(step, keys_id, outputs);
    }

    pub(crate) fn resolution_outputs(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        outputs: Vec<EnforceOutput>,
    ) {
        for output in outputs {
            self.resolution_output(step, keys_id, output);
        }
    }

    fn resolution_output(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        output: EnforceOutput,
    ) {
        match output {
            EnforceOutput::Watch {
                outpoint,
                script_pubkey,
                from,
            } => {
                let watch = ActionKind::WatchOutpoint {
                    outpoint,
                    script_pubkey,
                    from,
                };
                step.act_as(ReleaseClass::Now, watch);
            }
            EnforceOutput::Broadcast {
                id: broadcast,
                package,
                class,
            } => {
                let id = self
                    .requests
                    .open(Pending::ClaimBroadcast(keys_id, broadcast));
                let class = match class {
                    BroadcastClass::Now => ReleaseClass::Now,
                    BroadcastClass::Primary => ReleaseClass::Primary,
                };
                step.act_as(class, ActionKind::Broadcast { id, package });
            }
            EnforceOutput::AskCoins {
                lease,
                value,
                feerate,
            } => {
                let id = self.requests.open(Pending::Coins(keys_id, lease));
                let purpose = CoinPurpose::Claim(keys_id, lease);
                let ask = Ask::Coins(CoinRequest {
                    purpose,
                    value,
                    feerate,
                });
                step.act(ActionKind::Ask { id, ask });
            }
            EnforceOutput::AskWalletSign {
                claim,
                attempt,
                transaction,
                spent,
            } => {
                let id = self
                    .requests
                    .open(Pending::ClaimSign(keys_id, claim, attempt));
                let ask = Ask::WalletSign { transaction, spent };
                step.act(ActionKind::Ask { id, ask });
            }
            EnforceOutput::AskRecord { number } => {
                self.ask_remote_commitment(step, keys_id, number);
            }
            EnforceOutput::ReleaseCoins { lease } => {
                self.release_coins(step, CoinPurpose::Claim(keys_id, lease));
            }
            EnforceOutput::HtlcPreimage { id, preimage, .. } => {
                if let Some(link) = self.outgoing_link(keys_id, id) {
                    self.outgoing_fulfilled(step, keys_id, preimage, &link);
                }
            }
            EnforceOutput::HtlcFailed { id, .. } => {
                if let Some(link) = self.outgoing_link(keys_id, id) {
                    self.outgoing_failed(step, &link, OutgoingFailure::OnChain);
                }
            }
            EnforceOutput::LatePreimage { id, preimage } => {
                let link = self.outgoing_link(keys_id, id);
                if let Some(incoming) = link.as_deref().and_then(forwarded_from) {
                    // In a channel that is open the failure stands: the HTLC was worth less than a close.
                    let upstream = ChannelKeysId::new(incoming.channel);
                    self.resolution_input(step, upstream, EnforceInput::Preimage(preimage));
                }
            }
            EnforceOutput::Event(event) => self.resolution_event(step, keys_id, &event),
            EnforceOutput::Done => self.resolution_done(step, keys_id),
        }
    }

    fn outgoing_link(&self, keys_id: ChannelKeysId, id: HtlcId) -> Option<Vec<u8>> {
        self.channels.get(&keys_id)?.outgoing_link(id)
    }

    fn resolution_event(&mut self, step: &mut Step, keys_id: ChannelKeysId, event: &EnforceEvent) {
        let Some(entry) = self.channels.get(&keys_id) else {
            return;
        };
        let channel_id = entry.channel_id;
        match event {
            EnforceEvent::Confirmed { kind, txid, height } => {
                let (txid, height) = (*txid, *height);
                let kind = spend_kind(kind).to_string();
                self.event(
                    step,
                    Event::ChannelClosed {
                        channel_id,
                        txid,
                        kind,
                        height,
                    },
                );
            }
            EnforceEvent::Unconfirmed { txid } => {
                let text =
                    alloc::format!("channel {channel_id}: a reorganisation took {txid} back");
                step.note(NoteLevel::Warn, text);
            }
            EnforceEvent::Breach { txid, .. } => {
                self.event(
                    step,
                    Event::Breach {
                        channel_id,
                        txid: *txid,
                    },
                );
            }
            EnforceEvent::RecordMissing { number } => {
                let message = alloc::format!(
                    "channel {channel_id}: the record that punishes commitment {number} is missing; \
                     its HTLC outputs can't be claimed. Was an old backup restored?"
                );
                self.event(step, Event::Alert { message });
            }
            EnforceEvent::DataLoss { txid } => {
                let message = alloc::format!(
                    "channel {channel_id}: {txid} is newer than our state; our main balance is \
                     claimed, HTLCs in flight can't be. Was an old backup restored?"
                );
                self.event(step, Event::Alert { message });
            }
            EnforceEvent::UnknownSpend { txid } => {
                let message = alloc::format!(
                    "channel {channel_id}: its funding was spent by {txid}, which no state of ours \
                     explains"
                );
                self.event(step, Event::Alert { message });
            }
            EnforceEvent::CoinsMissing {
                needed, available, ..
            } => {
                let message = alloc::format!(
                    "channel {channel_id}: a claim on chain needs {needed} of confirmed coins for \
                     its fee and the wallet has {available}; deposit to an address of `newaddress`"
                );
                self.event(step, Event::Alert { message });
            }
            EnforceEvent::Uneconomic { outpoint, amount } => {
                let text = alloc::format!(
                    "channel {channel_id}: {outpoint} of {amount} costs more to claim than it is worth"
                );
                step.note(NoteLevel::Info, text);
            }
            EnforceEvent::GivenUp {
                id,
                payment_hash,
                amount,
            } => {
                self.htlc_given_up(step, keys_id, *id, *payment_hash, *amount);
            }
            EnforceEvent::Swept {
                txid, amount, fee, ..
            } => {
                let (txid, amount, fee) = (*txid, *amount, *fee);
                self.event(
                    step,
                    Event::Swept {
                        channel_id,
                        txid,
                        amount,
                        fee,
                    },
                );
            }
        }
    }

    /// Everything is settled and 100 blocks deep: the channel's records go.
    fn resolution_done(&mut self, step: &mut Step, keys_id: ChannelKeysId) {
        let Some(entry) = self.channels.get(&keys_id) else {
            return;
        };
        let channel_id = entry.channel_id;
        self.archive_channel(step, keys_id);
        self.resolutions.remove(&keys_id);
        self.channel_input(step, keys_id, ChannelInput::Forget);
        self.remove_channel(step, keys_id);
        self.event(step, Event::ChannelResolved { channel_id });
    }

    pub(crate) fn coins_answer(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        lease: u32,
        answer: Answer,
    ) {
        let coins = match answer {
            Answer::Coins(Ok(coins)) => coins,
            Answer::Coins(Err(WalletError::Unavailable(why))) => {
                let text = alloc::format!("the wallet gives no coins for a claim yet: {why}");
                step.note(NoteLevel::Warn, text);
                let input = EnforceInput::CoinsUnavailable { lease };
                return self.resolution_input(step, keys_id, input);
            }
            Answer::Coins(Err(error)) => {
                step.note(NoteLevel::Warn, error.to_string());
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.resolution_input(step, keys_id, EnforceInput::Coins { lease, coins });
    }

    pub(crate) fn claim_broadcast_answer(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        id: fulmen_enforce::BroadcastId,
        answer: &Answer,
    ) {
        let Answer::Broadcast(answer) = answer else {
            return;
        };
        let verdict = match answer {
            BroadcastAnswer::Accepted => BroadcastVerdict::Accepted,
            BroadcastAnswer::Known => BroadcastVerdict::Known,
            BroadcastAnswer::Conflict(_) => BroadcastVerdict::Conflict,
            BroadcastAnswer::BelowFloor(_) => BroadcastVerdict::BelowFloor,
            BroadcastAnswer::MissingInputs(_) => BroadcastVerdict::MissingInputs,
            BroadcastAnswer::Unsigned(_) => BroadcastVerdict::Unsigned,
            BroadcastAnswer::Other(_) => BroadcastVerdict::Other,
        };
        self.note_broadcast(step, answer);
        self.resolution_input(step, keys_id, EnforceInput::BroadcastResult { id, verdict });
    }

    pub(crate) fn note_broadcast(&mut self, step: &mut Step, answer: &BroadcastAnswer) {
        let (level, text) = match answer {
            BroadcastAnswer::Accepted | BroadcastAnswer::Known => return,
            BroadcastAnswer::Conflict(why) => (NoteLevel::Debug, why),
            BroadcastAnswer::BelowFloor(why)
            | BroadcastAnswer::MissingInputs(why)
            | BroadcastAnswer::Unsigned(why)
            | BroadcastAnswer::Other(why) => (NoteLevel::Warn, why),
        };
        step.note(
            level,
            alloc::format!("a broadcast was not accepted: {why}", why = text),
        );
    }

    pub(crate) fn remote_commitment_answer(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        number: fulmen_types::CommitmentNumber,
        answer: Answer,
    ) {
        let Answer::Record(record) = answer else {
            return;
        };
        let commitment = record.and_then(|bytes| CounterpartyCommitment::from_bytes(&bytes).ok());
        let input = EnforceInput::StoredRecord { number, commitment };
        self.resolution_input(step, keys_id, input);
    }
}

/// What a funding spend is, in a word.
pub(crate) const fn spend_kind(kind: &SpendKind) -> &'static str {
    match kind {
        SpendKind::MutualClose => "mutual",
        SpendKind::Holder => "ours",
        SpendKind::CounterpartyCurrent => "theirs",
        SpendKind::CounterpartyNext => "theirs (next)",
        SpendKind::Revoked { .. } => "revoked",
        SpendKind::Future { .. } => "future",
        SpendKind::Unknown => "unknown",
    }
}
