//! The one type that a node holds per channel.

use alloc::{boxed::Box, string::String, vec::Vec};

use bitcoin::{Amount, OutPoint, Transaction, Txid, secp256k1::PublicKey};
use fulmen_signer::SigningRequest;
use fulmen_tx::{ChannelKeysId, ChannelParameters, Side};
use fulmen_types::{
    BlockHeight, ChannelId, ChannelType, CltvExpiry, CommitmentNumber, FeeratePerKw, Feerates,
    HtlcId, Msat, PaymentHash, ShortChannelId, record::WriteBatch,
};
use fulmen_wire::OpenChannel;

use crate::{
    commitment::View,
    config::ChannelContext,
    error::{ChannelError, ChannelFault, OpenError, Refusal, RestoreError},
    funded::{Funded, Link, Patience},
    htlc::{HtlcKind, HtlcResolution, UpdateState},
    input::{AcceptRequest, ChannelInput, OpenRequest},
    opening::{Opening, Progress},
    output::{ChannelOutput, CloseReason, EnforcementData},
    records,
    state::{Limits, Status},
};

#[derive(Clone, Debug)]
enum State {
    Opening(Box<Opening>),
    Funded(Box<Funded>),
    /// Over: nothing on disk, nothing to do.
    Gone(ChannelId),
}

/// One channel with one peer, from `open_channel` until its records are forgotten.
#[derive(Clone, Debug)]
pub struct Channel {
    state: State,
}

/// Where a channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelStatus {
    /// Before the funding transaction; not on disk.
    Opening,
    /// Funded; waits for confirmations or for the peer's `channel_ready`.
    AwaitingReady,
    /// In use.
    Normal,
    /// A shutdown has begun; HTLCs are cleared, then the fee is agreed on.
    ShuttingDown,
    /// Both have signed this closing transaction.
    MutualClose(Txid),
    /// We close by our commitment transaction.
    ForceClosing(CloseReason),
    /// The funding output is spent by this transaction: the on-chain resolution is in charge.
    Frozen(Txid),
    /// Our state is old: the peer must close.
    Stale,
    /// The signer refused what the channel needs, in its words: it rests until it is unblocked.
    SignerBlocked(String),
    /// Over.
    Gone,
}

/// What is known of whether our state is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nobody has said so since the start of the node.
    Unproven,
    /// The peer's `channel_reestablish` fits, or the signer has seen nothing newer.
    Proven,
    /// It is old: never to be broadcast.
    Stale,
}

/// An HTLC as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcView {
    /// Who offered it.
    pub offered_by: Side,
    /// Its id among those of the same offerer.
    pub id: HtlcId,
    /// How much.
    pub amount: Msat,
    /// For which preimage.
    pub payment_hash: PaymentHash,
    /// Until when.
    pub cltv_expiry: CltvExpiry,
    /// Where it is on its way, told from its offerer's side.
    pub state: UpdateState,
    /// How we have decided it; of the peer's HTLCs.
    pub resolution: Option<HtlcResolution>,
    /// What came with it; of ours.
    pub link: Option<Vec<u8>>,
}

impl Channel {
    /// Begins to open a channel with the peer; the first output is `open_channel`. Nothing is on disk until
    /// the funding transaction is signed by both, and a disconnect before that ends it.
    pub fn open(
        ctx: &ChannelContext<'_>,
        request: OpenRequest,
    ) -> Result<(Self, Vec<ChannelOutput>), OpenError> {
        let (opening, out) = Opening::open(ctx, request)?;
        let state = State::Opening(Box::new(opening));
        Ok((Self { state }, out))
    }

    /// Accepts a channel that the peer opens; the first output is `accept_channel`. A fault is answered
    /// with [`ChannelFault::to_message`], and there is no channel.
    pub fn accept(
        ctx: &ChannelContext<'_>,
        message: &OpenChannel,
        request: AcceptRequest,
    ) -> Result<(Self, Vec<ChannelOutput>), ChannelFault> {
        let (opening, out) = Opening::accept(ctx, message, request)?;
        let state = State::Opening(Box::new(opening));
        Ok((Self { state }, out))
    }

    /// The state whose records these are, disconnected: the one of [`crate::channel_key`] and all that
    /// begin with its keys id in `Space::Htlc`. [`Channel::re_emit`] comes next.
    pub fn restore<'a>(
        core: &[u8],
        htlcs: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, RestoreError> {
        let (core, htlcs) = records::read(core, htlcs)?;
        let funded = Funded::new(core, htlcs);
        if !funded.is_conserved() {
            return Err(RestoreError::Inconsistent(
                "the balances and HTLCs are not what the channel holds".into(),
            ));
        }
        let state = State::Funded(Box::new(funded));
        Ok(Self { state })
    }

    /// One input. On an error nothing has changed, neither here nor in `batch`. What a peer does wrong is
    /// no error: it makes the transition that BOLT 2 asks for, told by [`ChannelOutput::Fault`].
    pub fn handle(
        &mut self,
        ctx: &ChannelContext<'_>,
        input: ChannelInput,
        batch: &mut WriteBatch,
    ) -> Result<Vec<ChannelOutput>, ChannelError> {
        let gone = State::Gone(self.channel_id());
        match core::mem::replace(&mut self.state, gone) {
            State::Opening(opening) => {
                let mut out = Vec::new();
                match opening.handle(ctx, input, &mut out) {
                    Ok(Progress::Opening(opening)) => self.state = State::Opening(opening),
                    Ok(Progress::Funded(mut funded)) => {
                        funded.flush(batch);
                        self.state = State::Funded(funded);
                    }
                    Ok(Progress::Over) => {}
                    Err((opening, error)) => {
                        self.state = State::Opening(opening);
                        return Err(error);
                    }
                }
                Ok(out)
            }
            State::Funded(mut funded) => {
                let result = funded.handle(ctx, input, batch);
                if !funded.gone {
                    self.state = State::Funded(funded);
                }
                result
            }
            State::Gone(_) => over(&input),
        }
    }

    /// After [`Channel::restore`]: says again what the world must hold. Watches, pending broadcasts, a
    /// force-close under way, questions to the signer, incoming HTLCs that nobody has decided, preimages of
    /// outgoing ones. HTLCs that we added and never signed are dropped and reported.
    pub fn re_emit(
        &mut self,
        ctx: &ChannelContext<'_>,
        batch: &mut WriteBatch,
    ) -> Vec<ChannelOutput> {
        let mut out = Vec::new();
        if let State::Funded(funded) = &mut self.state {
            funded.re_emit(ctx, &mut out);
            funded.flush(batch);
        }
        out
    }

    /// All records of the channel as it stands, but those of revoked commitments: what
    /// [`Channel::restore`] makes the same channel from.
    pub fn records(&self) -> WriteBatch {
        let mut batch = WriteBatch::new();
        if let State::Funded(funded) = &self.state {
            records::put_core(&funded.core, &mut batch);
            let keys_id = funded.core.params.keys_id;
            for (key, htlc) in &funded.htlcs {
                records::put_htlc(&keys_id, *key, Some(htlc), &mut batch);
            }
        }
        batch
    }

    fn funded(&self) -> Option<&Funded> {
        match &self.state {
            State::Funded(funded) => Some(funded),
            State::Opening(_) | State::Gone(_) => None,
        }
    }

    /// The id that the peer's messages name now.
    pub fn channel_id(&self) -> ChannelId {
        match &self.state {
            State::Opening(opening) => opening.channel_id(),
            State::Funded(funded) => funded.core.channel_id,
            State::Gone(channel_id) => *channel_id,
        }
    }

    /// What its records and secrets are found by.
    pub fn keys_id(&self) -> Option<ChannelKeysId> {
        match &self.state {
            State::Opening(opening) => Some(opening.draft.ours.keys_id),
            State::Funded(funded) => Some(funded.core.params.keys_id),
            State::Gone(_) => None,
        }
    }

    /// The peer.
    pub fn peer_node_id(&self) -> Option<PublicKey> {
        match &self.state {
            State::Opening(opening) => Some(opening.draft.peer_node_id),
            State::Funded(funded) => Some(funded.core.peer_node_id),
            State::Gone(_) => None,
        }
    }

    /// Who opened it.
    pub fn opener(&self) -> Option<Side> {
        match &self.state {
            State::Opening(opening) => Some(opening.draft.opener),
            State::Funded(funded) => Some(funded.core.params.opener),
            State::Gone(_) => None,
        }
    }

    /// Whether it is or will be announced.
    pub fn is_announced(&self) -> bool {
        match &self.state {
            State::Opening(opening) => opening.draft.announce,
            State::Funded(funded) => funded.core.announce,
            State::Gone(_) => false,
        }
    }

    /// The type that both agreed on.
    pub fn channel_type(&self) -> Option<&ChannelType> {
        match &self.state {
            State::Opening(opening) => Some(&opening.draft.channel_type),
            State::Funded(funded) => Some(&funded.core.channel_type),
            State::Gone(_) => None,
        }
    }

    /// The channel's value.
    pub fn value(&self) -> Amount {
        match &self.state {
            State::Opening(opening) => opening.draft.value,
            State::Funded(funded) => funded.core.params.funding.value,
            State::Gone(_) => Amount::ZERO,
        }
    }

    /// What its transactions depend on, once funded.
    pub fn params(&self) -> Option<&ChannelParameters> {
        self.funded().map(|funded| &funded.core.params)
    }

    /// The funding output, once known.
    pub fn funding_outpoint(&self) -> Option<OutPoint> {
        self.params().map(|params| params.funding.outpoint)
    }

    /// Its place in the chain, while its funding is confirmed.
    pub fn short_channel_id(&self) -> Option<ShortChannelId> {
        self.funded()?.short_channel_id()
    }

    /// Our name for it, which payments may use to reach it.
    pub fn alias(&self) -> Option<ShortChannelId> {
        match &self.state {
            State::Opening(opening) => Some(opening.draft.alias),
            State::Funded(funded) => Some(funded.core.alias),
            State::Gone(_) => None,
        }
    }

    /// The peer's name for it, for our route hints.
    pub fn peer_alias(&self) -> Option<ShortChannelId> {
        self.funded()?.core.peer_alias
    }

    /// Where it stands.
    pub fn status(&self) -> ChannelStatus {
        let funded = match &self.state {
            State::Opening(_) => return ChannelStatus::Opening,
            State::Gone(_) => return ChannelStatus::Gone,
            State::Funded(funded) => funded,
        };
        let core = &funded.core;
        if let Some(frozen) = core.frozen {
            return ChannelStatus::Frozen(frozen.txid);
        }
        match &core.status {
            Status::Stale => return ChannelStatus::Stale,
            Status::Closing { reason, .. } => return ChannelStatus::ForceClosing(reason.clone()),
            Status::Open => {}
        }
        if let Some(block) = &core.blocked {
            return ChannelStatus::SignerBlocked(block.reason.clone());
        }
        if let Some(tx) = &core.mutual_close {
            ChannelStatus::MutualClose(tx.compute_txid())
        } else if core.local_shutdown.is_some() || core.remote_shutdown.is_some() {
            ChannelStatus::ShuttingDown
        } else if funded.is_ready() {
            ChannelStatus::Normal
        } else {
            ChannelStatus::AwaitingReady
        }
    }

    /// Whether our state is known to be the newest; nothing to ask before the funding.
    pub fn freshness(&self) -> Option<Freshness> {
        let funded = self.funded()?;
        Some(match funded.core.status {
            Status::Stale => Freshness::Stale,
            Status::Open | Status::Closing { .. } if funded.proven => Freshness::Proven,
            Status::Open | Status::Closing { .. } => Freshness::Unproven,
        })
    }

    /// Whether HTLCs can be added now.
    pub fn is_usable(&self) -> bool {
        self.funded().is_some_and(Funded::is_usable)
    }

    /// Whether the channel is in step with a connected peer.
    pub fn is_connected(&self) -> bool {
        match &self.state {
            State::Opening(_) => true,
            State::Funded(funded) => funded.link == Link::Up,
            State::Gone(_) => false,
        }
    }

    /// Whether there is something that a [`ChannelInput::Commit`] would sign, now or once the peer has
    /// acknowledged our last signature.
    pub fn has_updates_to_sign(&self) -> bool {
        self.funded().is_some_and(Funded::has_updates_to_sign)
    }

    /// Whether the peer owes us a `revoke_and_ack`, on this connection.
    pub fn awaits_revocation(&self) -> bool {
        self.funded()
            .is_some_and(|funded| funded.is_up() && funded.core.awaiting_revocation)
    }

    /// Our balance and the peer's, on our newest commitment, before fees; HTLCs are in neither.
    pub fn balances(&self) -> (Msat, Msat) {
        match &self.state {
            State::Opening(opening) => (
                opening.draft.balance(Side::Local),
                opening.draft.balance(Side::Remote),
            ),
            State::Funded(funded) => {
                let content = funded.content(Side::Local, View::Now);
                (content.to_local, content.to_remote)
            }
            State::Gone(_) => (Msat::ZERO, Msat::ZERO),
        }
    }

    /// The most that one HTLC of ours can be worth now by balance and limits; zero when none can be added.
    pub fn available_to_send(&self) -> Msat {
        self.funded()
            .filter(|funded| funded.is_usable())
            .map_or(Msat::ZERO, Funded::available_to_send)
    }

    /// What we ask of the peer's HTLCs and balance.
    pub fn local_limits(&self) -> Option<&Limits> {
        self.funded().map(|funded| &funded.core.local_limits)
    }

    /// What the peer asks of our HTLCs and balance.
    pub fn remote_limits(&self) -> Option<&Limits> {
        self.funded().map(|funded| &funded.core.remote_limits)
    }

    /// The feerate of our newest commitment.
    pub fn feerate(&self) -> Option<FeeratePerKw> {
        self.funded()
            .map(|funded| funded.content(Side::Local, View::Now).feerate)
    }

    /// The feerate for an [`ChannelInput::UpdateFee`], when the channel is ours to change and its feerate is
    /// a quarter or more off what the estimates ask for. To be asked now and then, not at every step.
    pub fn feerate_to_change_to(&self, feerates: &Feerates) -> Option<FeeratePerKw> {
        self.funded()?.feerate_to_change_to(feerates)
    }

    /// The numbers of our newest commitment and of the peer's.
    pub fn commitment_numbers(&self) -> Option<(CommitmentNumber, CommitmentNumber)> {
        self.funded()
            .map(|funded| (funded.core.local_number, funded.core.remote_number))
    }

    /// The height of the funding transaction's block.
    pub fn funding_height(&self) -> Option<BlockHeight> {
        Some(self.funded()?.core.confirmation?.height)
    }

    /// How many confirmations the funding transaction must have before the channel is used; `None` before
    /// both have agreed.
    pub fn minimum_depth(&self) -> Option<u32> {
        Some(self.funded()?.core.minimum_depth)
    }

    /// The height of the block that has the spend of the funding output.
    pub fn frozen_height(&self) -> Option<BlockHeight> {
        Some(self.funded()?.core.frozen?.height)
    }

    /// The funding transaction that we made, as long as it may have to be broadcast again.
    pub fn funding_transaction(&self) -> Option<&Transaction> {
        self.funded()?.core.funding_transaction.as_ref()
    }

    /// The mutual close that both have signed.
    pub fn mutual_close(&self) -> Option<&Transaction> {
        self.funded()?.core.mutual_close.as_ref()
    }

    /// All HTLCs that are not irrevocably removed.
    pub fn htlcs(&self) -> Vec<HtlcView> {
        let Some(funded) = self.funded() else {
            return Vec::new();
        };
        let views = funded.htlcs.values().map(|htlc| {
            let (resolution, link) = match &htlc.kind {
                HtlcKind::Outgoing { link, .. } => (None, Some(link.clone())),
                HtlcKind::Incoming { resolution, .. } => (resolution.clone(), None),
            };
            HtlcView {
                offered_by: htlc.offered_by(),
                id: htlc.id,
                amount: htlc.amount,
                payment_hash: htlc.payment_hash,
                cltv_expiry: htlc.cltv_expiry,
                state: htlc.state,
                resolution,
                link,
            }
        });
        views.collect()
    }

    /// What the on-chain resolution needs when the funding output is spent or we close.
    pub fn enforcement(&self) -> Option<EnforcementData> {
        self.funded().map(Funded::enforcement)
    }

    /// Where the channel stands in words, for logs.
    pub fn describe(&self) -> String {
        alloc::format!("channel {}: {:?}", self.channel_id(), self.status())
    }
}

/// What still happens around a channel that is over is no error; a command to it is.
fn over(input: &ChannelInput) -> Result<Vec<ChannelOutput>, ChannelError> {
    match input {
        ChannelInput::Message(_)
        | ChannelInput::Connected
        | ChannelInput::Disconnected
        | ChannelInput::FundingReady(_)
        | ChannelInput::FundingFailed(_)
        | ChannelInput::FundingConfirmed { .. }
        | ChannelInput::FundingUnconfirmed
        | ChannelInput::FundingSpent { .. }
        | ChannelInput::FundingUnspent
        | ChannelInput::Block
        | ChannelInput::Tick
        | ChannelInput::Commit
        | ChannelInput::SigningRefused(_)
        | ChannelInput::DeclareRestored
        | ChannelInput::Signed { .. } => Ok(Vec::new()),
        ChannelInput::AddHtlc(_)
        | ChannelInput::Resolve { .. }
        | ChannelInput::UpdateFee(_)
        | ChannelInput::Shutdown { .. }
        | ChannelInput::ForceClose
        | ChannelInput::Unblock
        | ChannelInput::Forget => Err(Refusal::Closed.into()),
    }
}

impl Funded {
    fn re_emit(&mut self, ctx: &ChannelContext<'_>, out: &mut Vec<ChannelOutput>) {
        out.push(self.watch());
        self.drop_uncommitted(out);
        let core = &self.core;
        if core.confirmation.is_none()
            && let Some(funding) = &core.funding_transaction
        {
            out.push(ChannelOutput::BroadcastFunding(funding.clone()));
        }
        if let Some(frozen) = core.frozen {
            out.push(ChannelOutput::Frozen { txid: frozen.txid });
        } else if let Some(tx) = &core.mutual_close {
            out.push(ChannelOutput::BroadcastClosing(tx.clone()));
        }
        out.extend(self.closing().map(ChannelOutput::ForceClosing));
        if self.core.status == Status::Stale {
            out.push(ChannelOutput::Stale);
        }
        for htlc in self.htlcs.values() {
            match &htlc.kind {
                HtlcKind::Incoming { .. } => {
                    if htlc.state == UpdateState::AddAckRevocation {
                        out.extend(htlc.to_decide().map(ChannelOutput::IncomingHtlc));
                    }
                }
                HtlcKind::Outgoing {
                    link,
                    preimage: Some(preimage),
                    ..
                } => out.push(ChannelOutput::OutgoingFulfilled {
                    id: htlc.id,
                    preimage: *preimage,
                    link: link.clone(),
                }),
                HtlcKind::Outgoing { .. } => {}
            }
        }
        self.ask_points(out);
        if self.is_alive() {
            let keys_id = self.core.params.keys_id;
            out.push(ChannelOutput::AskSign(
                SigningRequest::Counters { keys_id }.into(),
            ));
            self.patience = Some(Patience {
                until: ctx.now.plus_millis(ctx.config.reconnect_grace_millis),
                since: None,
            });
        }
        self.look_at_depth(ctx, out);
        if self.is_ready() {
            self.assemble_announcement(ctx, out);
        }
    }
}
