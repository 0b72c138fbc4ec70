//! Before there is a funding transaction: `open_channel` to `funding_signed`. None of this is on disk; a
//! disconnect ends it (BOLT 2, Message Retransmission).

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use bitcoin::{OutPoint, Transaction, Txid, hashes::Hash, secp256k1::ecdsa::Signature};
use fulmen_signer::{CommitmentSigning, OutMessage};
use fulmen_tx::{
    CommitmentContent, CommitmentSecrets, CounterpartyCommitment, Side, build_commitment,
};
use fulmen_types::{ChannelId, ChannelType, CommitmentNumber, Feature, HtlcId, Timestamp};
use fulmen_wire::{
    ANNOUNCE_CHANNEL, AcceptChannel, FundingCreated, FundingSigned, Message, OpenChannel,
};

use crate::{
    config::ChannelContext,
    error::{ChannelError, ChannelFault, OpenError, Refusal, Remedy, Rule},
    funded::{Funded, Link},
    htlc::UpdateState,
    input::{AcceptRequest, ChannelInput, OpenRequest, UpfrontShutdown},
    limits::wanted_feerate,
    output::ChannelOutput,
    shutdown::{AnySegwit, is_shutdown_script},
    state::{Core, FeeUpdate, LastSent, Points, Status},
    terms::{
        Draft, PartyTerms, check_accept, check_open, first_cost, max_funding, supported_format,
    },
};

/// How far an opening has come: what it waits for.
#[derive(Clone, Debug)]
enum Stage {
    /// Opener: `open_channel` is sent.
    Accept,
    /// Opener: the wallet makes the funding transaction.
    Funding { remote: PartyTerms },
    /// Opener: `funding_created` is sent.
    Signed {
        remote: PartyTerms,
        outpoint: OutPoint,
        transaction: Transaction,
    },
    /// Fundee: `accept_channel` is sent.
    Created { remote: PartyTerms },
}

#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) draft: Draft,
    stage: Stage,
    /// Since when it waits for that.
    since: Timestamp,
}

/// What an input has made of an opening.
pub(crate) enum Progress {
    Opening(Box<Opening>),
    Funded(Box<Funded>),
    Over,
}

impl Opening {
    pub(crate) fn open(
        ctx: &ChannelContext<'_>,
        request: OpenRequest,
    ) -> Result<(Self, Vec<ChannelOutput>), OpenError> {
        // BOLT 2: with option_dual_fund negotiated, v1 must not be used.
        if ctx.negotiated(Feature::DualFund) {
            return Err(OpenError::DualFundOnly);
        }
        if request.funding < ctx.config.min_funding {
            return Err(OpenError::FundingTooSmall {
                minimum: ctx.config.min_funding,
            });
        }
        let maximum = max_funding(ctx);
        if request.funding > maximum {
            return Err(OpenError::FundingTooLarge { maximum });
        }
        if request.push > fulmen_types::Msat::from_amount(request.funding) {
            return Err(OpenError::PushTooLarge);
        }
        if !is_shutdown_script(&request.sweep_script, AnySegwit::negotiated(ctx)) {
            return Err(OpenError::SweepScript);
        }
        let channel_type = request
            .channel_type
            .clone()
            .unwrap_or_else(|| default_type(ctx));
        let format = supported_format(ctx, &channel_type, request.announce)
            .map_err(OpenError::ChannelType)?;
        let feerate = request
            .feerate
            .unwrap_or_else(|| wanted_feerate(format, ctx.feerates))
            .max(fulmen_types::FeeratePerKw::FLOOR);
        let upfront = bound_script(request.upfront_shutdown, &request.sweep_script);
        let local = PartyTerms::ours(
            ctx,
            &request.ours,
            request.funding,
            ctx.config.dust_limit,
            upfront,
        );
        let draft = Draft {
            opener: Side::Local,
            peer_node_id: ctx.peer_node_id,
            temporary_channel_id: request.temporary_channel_id,
            channel_type,
            format,
            announce: request.announce,
            value: request.funding,
            push: request.push,
            feerate,
            ours: request.ours,
            local,
            minimum_depth: 0,
            sweep_script: request.sweep_script,
            alias: request.alias,
            created_at: ctx.tip,
        };
        let needed = first_cost(format, feerate);
        let after_fee = draft
            .balance(Side::Local)
            .checked_sub(fulmen_types::Msat::from_amount(needed))
            .ok_or(OpenError::CannotPayFee { needed })?;
        let reserve = fulmen_types::Msat::from_amount(draft.local.limits.reserve);
        if after_fee <= reserve && draft.push <= reserve {
            return Err(OpenError::CannotPayFee { needed });
        }
        let message = open_channel(ctx, &draft);
        let opening = Self {
            draft,
            stage: Stage::Accept,
            since: ctx.now,
        };
        Ok((opening, alloc::vec![Funded::send(message)]))
    }

    pub(crate) fn accept(
        ctx: &ChannelContext<'_>,
        m: &OpenChannel,
        request: AcceptRequest,
    ) -> Result<(Self, Vec<ChannelOutput>), ChannelFault> {
        let fault = |rule| ChannelFault {
            channel_id: m.temporary_channel_id,
            rule,
        };
        let format = check_open(ctx, m).map_err(fault)?;
        let channel_type = m
            .channel_type
            .clone()
            .ok_or_else(|| fault(Rule::ChannelTypeMissing))?;
        let remote = PartyTerms::of_open(m);
        if remote.keys.funding == request.ours.keys.funding {
            return Err(fault(Rule::InvalidKeys));
        }
        let upfront = bound_script(request.upfront_shutdown, &request.sweep_script);
        // BOLT 2, accept_channel: our reserve is not below their dust limit.
        let local = PartyTerms::ours(
            ctx,
            &request.ours,
            m.funding_satoshis,
            remote.dust_limit,
            upfront,
        );
        let minimum_depth = if channel_type.has(Feature::ZeroConf) {
            0
        } else {
            ctx.config.minimum_depth.max(1)
        };
        let draft = Draft {
            opener: Side::Remote,
            peer_node_id: ctx.peer_node_id,
            temporary_channel_id: m.temporary_channel_id,
            channel_type,
            format,
            announce: m.announce_channel(),
            value: m.funding_satoshis,
            push: m.push_msat,
            feerate: m.feerate_per_kw,
            ours: request.ours,
            local,
            minimum_depth,
            sweep_script: request.sweep_script,
            alias: request.alias,
            created_at: ctx.tip,
        };
        let message = accept_channel(&draft);
        let opening = Self {
            draft,
            stage: Stage::Created { remote },
            since: ctx.now,
        };
        Ok((opening, alloc::vec![Funded::send(message)]))
    }

    pub(crate) fn handle(
        self: Box<Self>,
        ctx: &ChannelContext<'_>,
        input: ChannelInput,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<Progress, (Box<Self>, ChannelError)> {
        match input {
            ChannelInput::Message(message) => Ok(self.on_message(ctx, message, out)),
            ChannelInput::Disconnected => {
                out.push(abandoned(
                    "the connection ended before the channel was funded",
                ));
                Ok(Progress::Over)
            }
            ChannelInput::FundingReady(transaction) => self.funding_ready(ctx, transaction, out),
            ChannelInput::FundingFailed(why) => {
                out.push(self.error("the funding transaction can't be made"));
                out.push(ChannelOutput::Abandoned(why));
                Ok(Progress::Over)
            }
            ChannelInput::ForceClose | ChannelInput::Shutdown { .. } | ChannelInput::Forget => {
                out.push(self.error("the opening was cancelled"));
                out.push(abandoned("cancelled"));
                Ok(Progress::Over)
            }
            ChannelInput::Connected
            | ChannelInput::Block
            | ChannelInput::DeclareRestored
            | ChannelInput::Commit => Ok(Progress::Opening(self)),
            ChannelInput::Tick if self.is_overdue(ctx) => {
                out.push(self.error("the peer did not answer in time"));
                out.push(abandoned("the peer did not answer in time"));
                Ok(Progress::Over)
            }
            ChannelInput::Tick => Ok(Progress::Opening(self)),
            // Nothing of it is on disk or in the chain.
            ChannelInput::SigningRefused(refused) => {
                out.push(self.error("the channel can't be signed"));
                out.push(ChannelOutput::Abandoned(refused.error.to_string()));
                Ok(Progress::Over)
            }
            ChannelInput::AddHtlc(_) | ChannelInput::UpdateFee(_) => {
                Err((self, Refusal::NotReady.into()))
            }
            ChannelInput::Resolve { .. }
            | ChannelInput::Signed { .. }
            | ChannelInput::Unblock
            | ChannelInput::FundingConfirmed { .. }
            | ChannelInput::FundingUnconfirmed
            | ChannelInput::FundingSpent { .. }
            | ChannelInput::FundingUnspent => Err((self, Refusal::WrongState.into())),
        }
    }

    /// Whether the peer, and not our wallet, keeps us waiting for too long.
    fn is_overdue(&self, ctx: &ChannelContext<'_>) -> bool {
        let waits_for_peer = match self.stage {
            Stage::Accept | Stage::Signed { .. } | Stage::Created { .. } => true,
            Stage::Funding { .. } => false,
        };
        waits_for_peer && ctx.now.millis_since(self.since) >= ctx.config.open_timeout_millis
    }

    fn error(&self, text: &str) -> ChannelOutput {
        Funded::send(fulmen_wire::Error::new(
            self.draft.temporary_channel_id,
            text,
        ))
    }

    fn on_message(
        self: Box<Self>,
        ctx: &ChannelContext<'_>,
        message: Message,
        out: &mut Vec<ChannelOutput>,
    ) -> Progress {
        let id = self.draft.temporary_channel_id;
        let result = match (message, &self.stage) {
            (Message::Error(m), _) => {
                out.push(ChannelOutput::PeerSays(alloc::format!(
                    "error: {}",
                    m.text()
                )));
                out.push(ChannelOutput::Abandoned(alloc::format!(
                    "the peer refused: {}",
                    m.text()
                )));
                return Progress::Over;
            }
            (Message::Warning(m), _) => {
                out.push(ChannelOutput::PeerSays(alloc::format!(
                    "warning: {}",
                    m.text()
                )));
                return Progress::Opening(self);
            }
            (Message::AcceptChannel(m), Stage::Accept) => self.on_accept(ctx, &m, out),
            (Message::FundingCreated(m), Stage::Created { .. }) => self.on_created(ctx, &m, out),
            (Message::FundingSigned(m), Stage::Signed { .. }) => self.on_signed(ctx, &m, out),
            // BOLT 2, shutdown: before the first commitments are signed it fails the channel.
            (Message::Shutdown(_), _) => Err(Rule::ShutdownBeforeFunding),
            (_, _) => Err(Rule::UnexpectedMessage),
        };
        result.unwrap_or_else(|rule| {
            let fault = ChannelFault {
                channel_id: id,
                rule,
            };
            out.push(ChannelOutput::Fault(fault));
            out.push(Funded::send(fault.to_message()));
            if rule.remedy() == Remedy::WarnAndClose {
                out.push(ChannelOutput::CloseConnection);
            }
            out.push(ChannelOutput::Abandoned(String::from(rule.text())));
            Progress::Over
        })
    }

    fn on_accept(
        mut self: Box<Self>,
        ctx: &ChannelContext<'_>,
        m: &AcceptChannel,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<Progress, Rule> {
        let remote = check_accept(ctx, &self.draft, m)?;
        self.draft.minimum_depth = m.minimum_depth;
        let params = self.draft.params(&remote, OutPoint::null());
        let output = params.funding_txout();
        out.push(ChannelOutput::AskFunding {
            script_pubkey: output.script_pubkey,
            value: output.value,
        });
        self.stage = Stage::Funding { remote };
        Ok(Progress::Opening(self))
    }

    fn funding_ready(
        mut self: Box<Self>,
        ctx: &ChannelContext<'_>,
        transaction: Transaction,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<Progress, (Box<Self>, ChannelError)> {
        let Stage::Funding { remote } = &self.stage else {
            return Err((self, Refusal::WrongState.into()));
        };
        let remote = remote.clone();
        let wanted = self.draft.params(&remote, OutPoint::null()).funding_txout();
        let vout = (0u16..)
            .zip(&transaction.output)
            .find(|(_, output)| **output == wanted);
        // BOLT 2, funding_created: of a transaction that nobody can change.
        let is_segwit = transaction
            .input
            .iter()
            .all(|input| input.script_sig.is_empty() && !input.witness.is_empty());
        let (Some((vout, _)), true) = (vout, is_segwit && !transaction.input.is_empty()) else {
            return Err((self, Refusal::FundingTransaction.into()));
        };
        let outpoint = OutPoint {
            txid: transaction.compute_txid(),
            vout: u32::from(vout),
        };
        out.push(ChannelOutput::Send(OutMessage::FundingCreated {
            temporary_channel_id: self.draft.temporary_channel_id,
            funding_txid: outpoint.txid,
            funding_output_index: vout,
            request: Box::new(self.first_remote_commitment(&remote, outpoint)),
        }));
        self.since = ctx.now;
        self.stage = Stage::Signed {
            remote,
            outpoint,
            transaction,
        };
        Ok(Progress::Opening(self))
    }

    fn first_content(&self) -> CommitmentContent {
        CommitmentContent {
            number: CommitmentNumber::FIRST,
            feerate: self.draft.feerate,
            to_local: self.draft.balance(Side::Local),
            to_remote: self.draft.balance(Side::Remote),
            htlcs: Vec::new(),
        }
    }

    fn first_remote_commitment(
        &self,
        remote: &PartyTerms,
        outpoint: OutPoint,
    ) -> CommitmentSigning {
        CommitmentSigning {
            params: self.draft.params(remote, outpoint),
            commitment: CounterpartyCommitment {
                content: self.first_content(),
                per_commitment_point: remote.first_point,
            },
        }
    }

    /// Checks the peer's signature on our first commitment and makes the channel.
    fn fund(
        self: Box<Self>,
        ctx: &ChannelContext<'_>,
        remote: PartyTerms,
        outpoint: OutPoint,
        signature: Signature,
        transaction: Option<Transaction>,
    ) -> Result<Funded, Rule> {
        let params = self.draft.params(&remote, outpoint);
        let [first, second, third] = self.draft.ours.points;
        let content = self.first_content();
        // BOLT 2: a wrong signature, one with a high S included, fails the channel.
        build_commitment(ctx.secp, &params, Side::Local, &first, &content)
            .verify(ctx.secp, &params, &signature, &[])
            .map_err(|_| Rule::FundingSignature)?;
        let channel_id = ChannelId::from_funding(outpoint).ok_or(Rule::FundingOutpoint)?;
        let commitment = self.first_remote_commitment(&remote, outpoint).commitment;
        let draft = self.draft;
        let core = Core {
            peer_node_id: draft.peer_node_id,
            channel_id,
            params,
            channel_type: draft.channel_type,
            announce: draft.announce,
            local_limits: draft.local.limits,
            remote_limits: remote.limits,
            minimum_depth: draft.minimum_depth,
            local_upfront_script: draft.local.upfront_script,
            remote_upfront_script: remote.upfront_script,
            sweep_script: draft.sweep_script,
            alias: draft.alias,
            created_at: draft.created_at,
            funding_transaction: transaction,
            confirmation: None,
            ready_sent: false,
            ready_received: false,
            peer_alias: None,
            local_announcement: None,
            remote_announcement: None,
            settled_local: content.to_local,
            settled_remote: content.to_remote,
            feerates: alloc::vec![FeeUpdate {
                feerate: draft.feerate,
                state: UpdateState::AddAckRevocation,
            }],
            next_local_htlc_id: HtlcId::default(),
            next_remote_htlc_id: HtlcId::default(),
            local_number: CommitmentNumber::FIRST,
            local_points: Points {
                previous: [None, None],
                current: first,
                next: Some(second),
                after_next: Some(third),
            },
            counterparty_signature: signature,
            htlc_signatures: Vec::new(),
            revocation_owed: false,
            remote_number: CommitmentNumber::FIRST,
            remote_point: remote.first_point,
            remote_next_point: None,
            awaiting_revocation: false,
            secrets: CommitmentSecrets::new(),
            last_sent: LastSent::Neither,
            local_shutdown: None,
            remote_shutdown: None,
            closing_received: false,
            mutual_close: None,
            status: Status::Open,
            frozen: None,
            blocked: None,
            restored: false,
        };
        let mut funded = Funded::new(core, BTreeMap::new());
        funded.link = Link::Up;
        funded.proven = true;
        funded.touch();
        funded.changes.remote_commitments.push(commitment);
        Ok(funded)
    }

    /// The fundee signs the opener's first commitment.
    fn on_created(
        self: Box<Self>,
        ctx: &ChannelContext<'_>,
        m: &FundingCreated,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<Progress, Rule> {
        let Stage::Created { remote } = &self.stage else {
            return Err(Rule::UnexpectedMessage);
        };
        if m.funding_txid == Txid::all_zeros() {
            return Err(Rule::FundingOutpoint);
        }
        let outpoint = OutPoint {
            txid: m.funding_txid,
            vout: u32::from(m.funding_output_index),
        };
        let remote = remote.clone();
        let request = self.first_remote_commitment(&remote, outpoint);
        let temporary_channel_id = self.draft.temporary_channel_id;
        let mut funded = self.fund(ctx, remote, outpoint, m.signature, None)?;
        let channel_id = funded.core.channel_id;
        out.push(ChannelOutput::Funded {
            temporary_channel_id,
            channel_id,
        });
        out.push(funded.watch());
        out.push(ChannelOutput::Send(OutMessage::FundingSigned {
            channel_id,
            request: Box::new(request),
        }));
        funded.look_at_depth(ctx, out);
        Ok(Progress::Funded(Box::new(funded)))
    }

    /// The opener broadcasts the funding transaction.
    fn on_signed(
        self: Box<Self>,
        ctx: &ChannelContext<'_>,
        m: &FundingSigned,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<Progress, Rule> {
        let Stage::Signed {
            remote,
            outpoint,
            transaction,
        } = &self.stage
        else {
            return Err(Rule::UnexpectedMessage);
        };
        if Some(m.channel_id) != ChannelId::from_funding(*outpoint) {
            return Err(Rule::FundingChannelId);
        }
        let (remote, outpoint, transaction) = (remote.clone(), *outpoint, transaction.clone());
        let temporary_channel_id = self.draft.temporary_channel_id;
        let mut funded = self.fund(
            ctx,
            remote,
            outpoint,
            m.signature,
            Some(transaction.clone()),
        )?;
        out.push(ChannelOutput::Funded {
            temporary_channel_id,
            channel_id: funded.core.channel_id,
        });
        out.push(funded.watch());
        out.push(ChannelOutput::BroadcastFunding(transaction));
        funded.look_at_depth(ctx, out);
        Ok(Progress::Funded(Box::new(funded)))
    }

    /// The id that messages of the peer name now: `funding_signed` comes with the lasting one.
    pub(crate) fn channel_id(&self) -> ChannelId {
        match &self.stage {
            Stage::Signed { outpoint, .. } => {
                ChannelId::from_funding(*outpoint).unwrap_or(self.draft.temporary_channel_id)
            }
            Stage::Accept | Stage::Funding { .. } | Stage::Created { .. } => {
                self.draft.temporary_channel_id
            }
        }
    }
}

fn abandoned(why: &str) -> ChannelOutput {
    ChannelOutput::Abandoned(why.into())
}

/// The best type that both ends have.
fn default_type(ctx: &ChannelContext<'_>) -> ChannelType {
    if ctx.negotiated(Feature::Anchors) {
        ChannelType::anchors()
    } else {
        ChannelType::static_remote_key()
    }
}

fn bound_script(
    upfront: UpfrontShutdown,
    script: &bitcoin::ScriptBuf,
) -> Option<bitcoin::ScriptBuf> {
    match upfront {
        UpfrontShutdown::Free => None,
        UpfrontShutdown::Bound => Some(script.clone()),
    }
}

fn open_channel(ctx: &ChannelContext<'_>, draft: &Draft) -> OpenChannel {
    let ours = &draft.local;
    OpenChannel {
        chain_hash: ctx.config.chain_hash,
        temporary_channel_id: draft.temporary_channel_id,
        funding_satoshis: draft.value,
        push_msat: draft.push,
        dust_limit_satoshis: ours.dust_limit,
        max_htlc_value_in_flight_msat: ours.limits.max_in_flight,
        channel_reserve_satoshis: ours.limits.reserve,
        htlc_minimum_msat: ours.limits.htlc_minimum,
        feerate_per_kw: draft.feerate,
        to_self_delay: ours.to_self_delay,
        max_accepted_htlcs: ours.limits.max_accepted_htlcs,
        funding_pubkey: ours.keys.funding,
        revocation_basepoint: ours.keys.revocation_basepoint,
        payment_basepoint: ours.keys.payment_basepoint,
        delayed_payment_basepoint: ours.keys.delayed_payment_basepoint,
        htlc_basepoint: ours.keys.htlc_basepoint,
        first_per_commitment_point: ours.first_point,
        channel_flags: if draft.announce { ANNOUNCE_CHANNEL } else { 0 },
        upfront_shutdown_script: Some(ours.upfront_script.clone().unwrap_or_default()),
        channel_type: Some(draft.channel_type.clone()),
        next_local_nonce: None,
    }
}

fn accept_channel(draft: &Draft) -> AcceptChannel {
    let ours = &draft.local;
    AcceptChannel {
        temporary_channel_id: draft.temporary_channel_id,
        dust_limit_satoshis: ours.dust_limit,
        max_htlc_value_in_flight_msat: ours.limits.max_in_flight,
        channel_reserve_satoshis: ours.limits.reserve,
        htlc_minimum_msat: ours.limits.htlc_minimum,
        minimum_depth: draft.minimum_depth,
        to_self_delay: ours.to_self_delay,
        max_accepted_htlcs: ours.limits.max_accepted_htlcs,
        funding_pubkey: ours.keys.funding,
        revocation_basepoint: ours.keys.revocation_basepoint,
        payment_basepoint: ours.keys.payment_basepoint,
        delayed_payment_basepoint: ours.keys.delayed_payment_basepoint,
        htlc_basepoint: ours.keys.htlc_basepoint,
        first_per_commitment_point: ours.first_point,
        upfront_shutdown_script: Some(ours.upfront_script.clone().unwrap_or_default()),
        channel_type: Some(draft.channel_type.clone()),
        next_local_nonce: None,
    }
}
