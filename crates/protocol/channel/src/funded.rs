//! A channel whose funding transaction is known: its state, and the way of an input through it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use fulmen_signer::{HiddenBytes, OutMessage, SigningRequest};
use fulmen_tx::{CounterpartyCommitment, Side};
use fulmen_types::{BlockHeight, CommitmentNumber, Printable, Timestamp, record::WriteBatch};
use fulmen_wire::Message;

use crate::{
    closing::Negotiation,
    config::ChannelContext,
    error::{ChannelError, ChannelFault, Refusal, Remedy, Rule},
    htlc::{Htlc, HtlcKey, HtlcKind, UpdateState},
    input::ChannelInput,
    output::{ChannelOutput, CloseReason},
    records::{self, remote_commitment_key},
    state::{Core, Status},
};

/// The connection as this channel sees it. Not on disk.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Link {
    #[default]
    Down,
    /// Our `channel_reestablish` is sent, the peer's is not here yet.
    Reestablishing,
    /// The peer shows a secret of ours from the future: the signer is asked whether it is one.
    CheckingSecret(CommitmentNumber),
    Up,
    /// Nothing of the peer but `error` is read until the next connection.
    Ignoring,
}

/// What a step has changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) core: bool,
    pub(crate) htlcs: BTreeSet<HtlcKey>,
    pub(crate) remote_commitments: Vec<CounterpartyCommitment>,
    /// Commitments of the peer's that were not signed after all.
    pub(crate) unsigned: Vec<CommitmentNumber>,
}

/// What is asked of the signer and not answered yet. Not on disk: asked again after a restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) points: BTreeSet<u64>,
    pub(crate) announcement: bool,
    /// The signer could not; asked again at the next tick.
    pub(crate) announcement_failed: bool,
    /// A secret that the peer showed on reconnection, which would prove that our state is old. Outlives the
    /// connection: until it is answered nothing may be broadcast.
    pub(crate) own_secret: Option<(CommitmentNumber, HiddenBytes)>,
    /// The signer could not tell; asked again at the next tick.
    pub(crate) own_secret_failed: bool,
}

/// After a start the peer has some time to come back before our HTLCs' deadlines count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) until: Timestamp,
    /// The first best tip after the start.
    pub(crate) since: Option<BlockHeight>,
}

#[derive(Clone, Debug)]
pub(crate) struct Funded {
    pub(crate) core: Core,
    pub(crate) htlcs: BTreeMap<HtlcKey, Htlc>,
    pub(crate) link: Link,
    pub(crate) negotiation: Negotiation,
    pub(crate) asked: Asked,
    /// `announcement_signatures` went out on this connection.
    pub(crate) announcement_sent: bool,
    pub(crate) usable: bool,
    /// The last `commitment_signed` was given to the lane once in this run, and in no run before.
    pub(crate) asked_to_sign_once: bool,
    /// In this run the peer or the signer has confirmed that no newer state is known.
    pub(crate) proven: bool,
    /// Whether it was said that a broadcast is withheld.
    pub(crate) said_withheld: bool,
    pub(crate) patience: Option<Patience>,
    pub(crate) changes: Changes,
    /// The channel is over and its records are gone.
    pub(crate) gone: bool,
}

impl Funded {
    pub(crate) fn new(core: Core, htlcs: BTreeMap<HtlcKey, Htlc>) -> Self {
        Self {
            core,
            htlcs,
            link: Link::Down,
            negotiation: Negotiation::default(),
            asked: Asked::default(),
            announcement_sent: false,
            usable: false,
            asked_to_sign_once: false,
            proven: false,
            said_withheld: false,
            patience: None,
            changes: Changes::default(),
            gone: false,
        }
    }

    /// Whether updates, signatures and revocations may still be exchanged.
    pub(crate) const fn is_alive(&self) -> bool {
        matches!(self.core.status, Status::Open) && self.core.frozen.is_none()
    }

    /// Whether the channel may speak now.
    pub(crate) fn is_up(&self) -> bool {
        self.is_alive() && self.link == Link::Up
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.core.ready_sent && self.core.ready_received
    }

    /// Whether HTLCs can be added, by anybody's standing.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_up()
            && self.is_ready()
            && self.core.blocked.is_none()
            && self.core.local_shutdown.is_none()
            && self.core.remote_shutdown.is_none()
    }

    pub(crate) fn send(message: impl Into<Message>) -> ChannelOutput {
        ChannelOutput::Send(OutMessage::Ready(message.into()))
    }

    /// One input. What has changed is written, also when the input is a fault of the peer.
    pub(crate) fn handle(
        &mut self,
        ctx: &ChannelContext<'_>,
        input: ChannelInput,
        batch: &mut WriteBatch,
    ) -> Result<Vec<ChannelOutput>, ChannelError> {
        let mut out = Vec::new();
        self.dispatch(ctx, input, &mut out)?;
        self.advance(ctx, &mut out);
        self.flush(batch);
        Ok(out)
    }

    fn dispatch(
        &mut self,
        ctx: &ChannelContext<'_>,
        input: ChannelInput,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        match input {
            ChannelInput::Message(message) => self.on_message(ctx, message, out),
            ChannelInput::Connected => self.connect(out),
            ChannelInput::Disconnected => self.disconnect(out),
            ChannelInput::FundingReady(_) | ChannelInput::FundingFailed(_) => {
                return Err(Refusal::WrongState.into());
            }
            ChannelInput::FundingConfirmed {
                transaction,
                height,
                tx_index,
            } => self.funding_confirmed(ctx, &transaction, height, tx_index, out),
            ChannelInput::FundingUnconfirmed => self.funding_unconfirmed(out),
            ChannelInput::FundingSpent {
                transaction,
                height,
            } => self.funding_spent(&transaction, height, out),
            ChannelInput::FundingUnspent => self.funding_unspent(),
            ChannelInput::Block => self.block(ctx, out),
            ChannelInput::Tick => self.tick(ctx, out),
            ChannelInput::AddHtlc(add) => self.add_htlc(ctx, add, out)?,
            ChannelInput::Resolve {
                htlc_id,
                resolution,
            } => self.resolve(htlc_id, resolution)?,
            ChannelInput::UpdateFee(feerate) => self.update_fee(ctx, feerate, out)?,
            ChannelInput::Commit => self.commit(out)?,
            ChannelInput::Shutdown { script, feerate } => {
                self.request_shutdown(ctx, script, feerate, out)?;
            }
            ChannelInput::ForceClose => {
                if !self.is_alive() {
                    return Err(Refusal::Closed.into());
                }
                if self.asked.own_secret.is_some() {
                    return Err(Refusal::WrongState.into());
                }
                if self.is_doubtful() {
                    return Err(Refusal::Unproven.into());
                }
                self.say_error("closed by our owner", out);
                self.force_close(ctx, CloseReason::Requested, out);
            }
            ChannelInput::Signed { request, answer } => {
                self.signed(ctx, *request, *answer, out)?;
            }
            ChannelInput::SigningRefused(refused) => self.signing_refused(&refused, out),
            ChannelInput::Unblock => self.unblock(out)?,
            ChannelInput::DeclareRestored => {
                if self.is_alive() {
                    self.core.restored = true;
                    self.proven = false;
                    self.touch();
                }
            }
            ChannelInput::Forget => {
                if self.is_alive() {
                    return Err(Refusal::NotDone.into());
                }
                self.gone = true;
            }
        }
        Ok(())
    }

    /// What follows from the state, whatever the input was.
    fn advance(&mut self, ctx: &ChannelContext<'_>, out: &mut Vec<ChannelOutput>) {
        if self.is_up() {
            self.send_resolutions(out);
            self.send_shutdown(out);
            self.send_closing_signed(ctx, out);
            self.ask_announcement(ctx, out);
        }
        if self.usable != self.is_usable() {
            self.usable = !self.usable;
            out.push(ChannelOutput::Usable(self.usable));
        }
    }

    fn on_message(
        &mut self,
        ctx: &ChannelContext<'_>,
        message: Message,
        out: &mut Vec<ChannelOutput>,
    ) {
        match &message {
            Message::Error(error) => return self.on_error(ctx, error, out),
            Message::Warning(warning) => {
                out.push(ChannelOutput::PeerSays(alloc::format!(
                    "warning: {}",
                    warning.text()
                )));
                return;
            }
            _ => {}
        }
        if !self.is_alive() || matches!(self.link, Link::Ignoring | Link::CheckingSecret(_)) {
            // BOLT 2, Message Retransmission: in an error state, repeat the error and ignore the rest.
            match &message {
                Message::ChannelReestablish(_) => self.repeat_error(out),
                Message::UpdateFulfillHtlc(m) if self.core.blocked.is_some() => {
                    self.learn_preimage(m, out);
                }
                _ => {}
            }
            return;
        }
        if let Err(rule) = self.on_channel_message(ctx, message, out) {
            self.fault(ctx, rule, out);
        }
    }

    fn on_channel_message(
        &mut self,
        ctx: &ChannelContext<'_>,
        message: Message,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        if let Message::ChannelReestablish(m) = &message {
            return self.on_reestablish(ctx, m, out);
        }
        if self.link != Link::Up {
            // BOLT 2: nothing may be sent before channel_reestablish.
            return Err(Rule::UnexpectedMessage);
        }
        match message {
            Message::ChannelReady(m) => self.on_channel_ready(&m, out),
            Message::AnnouncementSignatures(m) => self.on_announcement_signatures(ctx, &m, out),
            Message::UpdateAddHtlc(m) => self.on_update_add_htlc(ctx, m),
            Message::UpdateFulfillHtlc(m) => self.on_update_fulfill_htlc(&m, out),
            Message::UpdateFailHtlc(m) => self.on_update_fail_htlc(m),
            Message::UpdateFailMalformedHtlc(m) => self.on_update_fail_malformed_htlc(&m),
            Message::UpdateFee(m) => self.on_update_fee(ctx, &m),
            Message::CommitmentSigned(m) => self.on_commitment_signed(ctx, m, out),
            Message::RevokeAndAck(m) => self.on_revoke_and_ack(ctx, &m, out),
            Message::Shutdown(m) => self.on_shutdown(ctx, m, out),
            Message::ClosingSigned(m) => self.on_closing_signed(ctx, &m, out),
            Message::Stfu(_)
            | Message::SpliceInit(_)
            | Message::SpliceAck(_)
            | Message::SpliceLocked(_)
            | Message::TxAddInput(_)
            | Message::TxAddOutput(_)
            | Message::TxRemoveInput(_)
            | Message::TxRemoveOutput(_)
            | Message::TxComplete(_)
            | Message::TxSignatures(_)
            | Message::TxInitRbf(_)
            | Message::TxAckRbf(_)
            | Message::StartBatch(_)
            | Message::ClosingComplete(_)
            | Message::ClosingSig(_) => Err(Rule::NotNegotiated),
            // Nothing is being built that could be aborted; BOLT 2 has the echo end it on both ends.
            Message::TxAbort(_) => Ok(()),
            _ => Err(Rule::UnexpectedMessage),
        }
    }

    /// Does what BOLT 2 asks for when the peer broke a rule.
    pub(crate) fn fault(
        &mut self,
        ctx: &ChannelContext<'_>,
        rule: Rule,
        out: &mut Vec<ChannelOutput>,
    ) {
        let fault = ChannelFault {
            channel_id: self.core.channel_id,
            rule,
        };
        out.push(ChannelOutput::Fault(fault));
        out.push(Self::send(fault.to_message()));
        match rule.remedy() {
            Remedy::Warn => {}
            Remedy::WarnAndClose => {
                self.link = Link::Ignoring;
                out.push(ChannelOutput::CloseConnection);
            }
            Remedy::ErrorAndWait => self.link = Link::Ignoring,
            Remedy::Fail => self.force_close(ctx, CloseReason::PeerFault(rule), out),
        }
    }

    fn on_error(
        &mut self,
        ctx: &ChannelContext<'_>,
        error: &fulmen_wire::Error,
        out: &mut Vec<ChannelOutput>,
    ) {
        let text = alloc::format!(
            "{}",
            Printable(error.data.get(..256).unwrap_or(&error.data))
        );
        out.push(ChannelOutput::PeerSays(alloc::format!("error: {text}")));
        // BOLT 1, error: the receiver fails the channel.
        if !self.is_alive() {
            return;
        }
        if self.is_only_promised() {
            // Nothing on chain to close: the opener was cut off before it had our signature, and forgot.
            self.abandon(&text, out);
        } else {
            self.force_close(ctx, CloseReason::PeerError(text), out);
        }
    }

    pub(crate) fn say_error(&self, text: &str, out: &mut Vec<ChannelOutput>) {
        if !matches!(self.link, Link::Down) {
            out.push(Self::send(fulmen_wire::Error::new(
                self.core.channel_id,
                text,
            )));
        }
    }

    pub(crate) fn disconnect(&mut self, out: &mut Vec<ChannelOutput>) {
        self.link = Link::Down;
        self.negotiation = Negotiation::default();
        self.announcement_sent = false;
        self.drop_uncommitted(out);
    }

    /// BOLT 2, Message Retransmission: what no signature covers is reversed on disconnect. The peer
    /// forgets our additions as we forget its; preimages stay.
    pub(crate) fn drop_uncommitted(&mut self, out: &mut Vec<ChannelOutput>) {
        let added: Vec<HtlcKey> = self
            .htlcs
            .values()
            .filter(|htlc| htlc.state == UpdateState::Add)
            .map(Htlc::key)
            .collect();
        for key in added {
            let Some(htlc) = self.htlcs.remove(&key) else {
                continue;
            };
            if let HtlcKind::Outgoing { link, .. } = htlc.kind {
                self.changes.htlcs.insert(key);
                out.push(ChannelOutput::OutgoingFailed {
                    id: htlc.id,
                    link,
                    reason: crate::HtlcFailure::NeverCommitted,
                });
            }
        }
        for htlc in self.htlcs.values_mut() {
            htlc.revert_uncommitted_removal();
        }
        self.core
            .feerates
            .retain(|fee| fee.state != UpdateState::Add);
    }

    /// Asks for the points that the next revocations need.
    pub(crate) fn ask_points(&mut self, out: &mut Vec<ChannelOutput>) {
        if !self.is_alive() {
            return;
        }
        let points = &self.core.local_points;
        let missing = [(points.next.is_none(), 1), (points.after_next.is_none(), 2)];
        for (_, ahead) in missing.into_iter().filter(|(is_missing, _)| *is_missing) {
            let number = self.core.local_number.to_u64() + ahead;
            let Some(number) = CommitmentNumber::new(number) else {
                continue;
            };
            if self.asked.points.insert(number.to_u64()) {
                out.push(ChannelOutput::AskSign(
                    SigningRequest::PerCommitmentPoint {
                        keys_id: self.core.params.keys_id,
                        number,
                    }
                    .into(),
                ));
            }
        }
    }

    pub(crate) fn touch(&mut self) {
        self.changes.core = true;
    }

    pub(crate) fn flush(&mut self, batch: &mut WriteBatch) {
        let changes = core::mem::take(&mut self.changes);
        if self.gone {
            records::delete_all(&self.core, self.htlcs.keys(), batch);
            return;
        }
        if changes.core {
            records::put_core(&self.core, batch);
        }
        for key in changes.htlcs {
            records::put_htlc(&self.core.params.keys_id, key, self.htlcs.get(&key), batch);
        }
        for number in changes.unsigned {
            batch.delete(remote_commitment_key(&self.core.params.keys_id, number));
        }
        for commitment in changes.remote_commitments {
            records::put_remote_commitment(&self.core.params.keys_id, &commitment, batch);
        }
    }

    /// The oldest commitment of the peer's that is not revoked, then the next one if it is signed.
    pub(crate) fn counterparty_commitments(&self) -> Vec<CounterpartyCommitment> {
        let core = &self.core;
        match (core.awaiting_revocation, core.remote_next_point) {
            (true, Some(next_point)) => alloc::vec![
                CounterpartyCommitment {
                    content: self.content(Side::Remote, crate::commitment::View::BeforeLast),
                    per_commitment_point: core.remote_point,
                },
                CounterpartyCommitment {
                    content: self.content(Side::Remote, crate::commitment::View::Now),
                    per_commitment_point: next_point,
                },
            ],
            _ => alloc::vec![CounterpartyCommitment {
                content: self.content(Side::Remote, crate::commitment::View::Now),
                per_commitment_point: core.remote_point,
            }],
        }
    }
}
