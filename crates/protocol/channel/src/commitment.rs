//! What the commitments say, and the dance of `commitment_signed` and `revoke_and_ack`.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_signer::{CommitmentSigning, HiddenBytes, HolderSigning, OutMessage, Revocation};
use fulmen_tx::{
    CommitmentContent, CommitmentHtlc, CounterpartyCommitment, HolderCommitment, Side,
    SignatureFault, build_commitment,
};
use fulmen_types::{CommitmentNumber, FeeratePerKw, Msat};
use fulmen_wire::{CommitmentSigned, RevokeAndAck};

use crate::{
    config::ChannelContext,
    error::{ChannelError, Refusal, Rule},
    funded::{Funded, Link},
    htlc::{Htlc, HtlcKey, HtlcKind, Presence, Removal, Role, Step, UpdateState, role_of},
    output::{ChannelOutput, IncomingHtlc},
    state::LastSent,
};

/// A commitment at which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The newest one.
    Now,
    /// The one that its owner's counterparty could sign now.
    Signed,
    /// The one before the newest, which the last signature replaced.
    BeforeLast,
}

impl View {
    pub(crate) fn state(self, state: UpdateState, owner: Side, offered_by: Side) -> UpdateState {
        let step = Step::Commit(role_of(owner.other(), offered_by));
        match self {
            Self::Now => state,
            Self::Signed => state.after(step),
            Self::BeforeLast => state.before(step),
        }
    }
}

impl Htlc {
    pub(crate) fn presence(&self, owner: Side, view: View) -> Presence {
        let offered_by = self.offered_by();
        view.state(self.state, owner, offered_by)
            .presence(role_of(owner, offered_by))
    }

    pub(crate) const fn on_commitment(&self) -> CommitmentHtlc {
        CommitmentHtlc {
            id: self.id,
            offered_by: self.offered_by(),
            amount: self.amount,
            payment_hash: self.payment_hash,
            cltv_expiry: self.cltv_expiry,
        }
    }
}

impl Funded {
    /// What the commitment of `owner` says. Derived from the states of the updates, never stored: there is
    /// nothing to fall out of step with.
    pub(crate) fn content(&self, owner: Side, view: View) -> CommitmentContent {
        let number = match owner {
            Side::Local => self.core.local_number,
            Side::Remote => self.core.remote_number,
        };
        let number = match view {
            View::Now => Some(number),
            View::Signed => number.next(),
            View::BeforeLast => number.previous(),
        };
        let mut content = CommitmentContent {
            number: number.unwrap_or(CommitmentNumber::MAX),
            feerate: self.feerate(owner, view),
            to_local: self.core.settled_local,
            to_remote: self.core.settled_remote,
            htlcs: Vec::new(),
        };
        // What was earned by HTLCs that are fulfilled may have been spent already by others: it counts first.
        let mut spent = [Msat::ZERO; 2];
        for htlc in self.htlcs.values() {
            let presence = htlc.presence(owner, view);
            let is_fulfilled = presence == Presence::After && htlc.is_fulfilled();
            if presence == Presence::In {
                content.htlcs.push(htlc.on_commitment());
            }
            if presence == Presence::In || is_fulfilled {
                let spent = match htlc.offered_by() {
                    Side::Local => &mut spent[0],
                    Side::Remote => &mut spent[1],
                };
                *spent = spent.saturating_add(htlc.amount);
            }
            if is_fulfilled {
                let earned = match htlc.offered_by() {
                    Side::Local => &mut content.to_remote,
                    Side::Remote => &mut content.to_local,
                };
                *earned = earned.saturating_add(htlc.amount);
            }
        }
        content.to_local = content.to_local.saturating_sub(spent[0]);
        content.to_remote = content.to_remote.saturating_sub(spent[1]);
        content
    }

    /// Whether every commitment divides exactly what the funding output holds.
    pub(crate) fn is_conserved(&self) -> bool {
        let value = Some(Msat::from_amount(self.core.params.funding.value));
        let views = [View::Now, View::Signed, View::BeforeLast];
        [Side::Local, Side::Remote].into_iter().all(|owner| {
            views
                .iter()
                .all(|view| self.content(owner, *view).total() == value)
        })
    }

    fn feerate(&self, owner: Side, view: View) -> FeeratePerKw {
        let opener = self.core.params.opener;
        self.core
            .feerates
            .iter()
            .rev()
            .find(|fee| {
                view.state(fee.state, owner, opener)
                    .presence(role_of(owner, opener))
                    == Presence::In
            })
            .map_or(FeeratePerKw::FLOOR, |fee| fee.feerate)
    }

    /// Our newest commitment with the peer's signatures.
    pub(crate) fn holder_commitment(&self) -> HolderCommitment {
        HolderCommitment {
            content: self.content(Side::Local, View::Now),
            per_commitment_point: self.core.local_points.current,
            counterparty_signature: self.core.counterparty_signature,
            htlc_signatures: self.core.htlc_signatures.clone(),
        }
    }

    /// Whether `step` by `actor` would move any update.
    fn is_anything_moved_by(&self, actor: Side, step: fn(Role) -> Step) -> bool {
        let moves = |state: UpdateState, offered_by: Side| {
            state.is_moved_by(step(role_of(actor, offered_by)))
        };
        self.htlcs
            .values()
            .any(|htlc| moves(htlc.state, htlc.offered_by()))
            || self
                .core
                .feerates
                .iter()
                .any(|fee| moves(fee.state, self.core.params.opener))
    }

    /// Moves every update that `step` by `actor` concerns; the HTLCs that moved.
    fn step(&mut self, actor: Side, step: fn(Role) -> Step) -> Vec<HtlcKey> {
        let mut moved = Vec::new();
        for htlc in self.htlcs.values_mut() {
            let next = htlc.state.after(step(role_of(actor, htlc.offered_by())));
            if next != htlc.state {
                htlc.state = next;
                moved.push(htlc.key());
            }
        }
        let role = role_of(actor, self.core.params.opener);
        for fee in &mut self.core.feerates {
            fee.state = fee.state.after(step(role));
        }
        // A feerate is replaced once the next one has reached both commitments for good.
        let settled = self
            .core
            .feerates
            .iter()
            .rposition(|fee| fee.state == UpdateState::AddAckRevocation);
        if let Some(settled) = settled {
            self.core.feerates.drain(..settled);
        }
        self.changes.htlcs.extend(&moved);
        self.touch();
        moved
    }

    /// Whether there is anything that our next signature would cover.
    pub(crate) fn has_updates_to_sign(&self) -> bool {
        self.is_anything_moved_by(Side::Local, Step::Commit)
    }

    /// Signs what is pending, unless the peer has not yet acknowledged our last signature.
    pub(crate) fn commit(&mut self, out: &mut Vec<ChannelOutput>) -> Result<(), ChannelError> {
        // BOLT 2, commitment_signed: none without updates. One at a time, so that the peer never has more
        // than two commitments that are not revoked.
        if !self.is_up() || self.core.awaiting_revocation || !self.has_updates_to_sign() {
            return Ok(());
        }
        let Some(point) = self.core.remote_next_point else {
            return Err(ChannelError::Bug("updates before channel_ready"));
        };
        let Some(number) = self.core.remote_number.next() else {
            return Err(Refusal::Closed.into());
        };
        let moved = self.step(Side::Local, Step::Commit);
        for (offered_by, id) in moved {
            if offered_by == Side::Local && id >= self.core.next_local_htlc_id {
                self.core.next_local_htlc_id = id.next();
            }
        }
        debug_assert!(
            self.is_conserved(),
            "an update was said that nobody can pay"
        );
        self.core.remote_number = number;
        self.core.awaiting_revocation = true;
        self.core.last_sent = LastSent::CommitmentSigned;
        self.touch();
        let commitment = CounterpartyCommitment {
            content: self.content(Side::Remote, View::Now),
            per_commitment_point: point,
        };
        self.changes.remote_commitments.push(commitment.clone());
        self.asked_to_sign_once = true;
        out.push(self.commitment_signed(commitment));
        Ok(())
    }

    fn commitment_signed(&self, commitment: CounterpartyCommitment) -> ChannelOutput {
        ChannelOutput::Send(OutMessage::CommitmentSigned {
            channel_id: self.core.channel_id,
            revoked: self.last_revocation(),
            request: Box::new(CommitmentSigning {
                params: self.core.params,
                commitment,
            }),
        })
    }

    /// What the peer revoked last: the signer sees it before it signs the peer's newest commitment.
    fn last_revocation(&self) -> Option<Revocation> {
        let number = self.core.remote_number.previous()?.previous()?;
        let secret = HiddenBytes::new(self.core.secrets.get(number)?);
        Some(Revocation { number, secret })
    }

    /// The last `commitment_signed` again: the same content, frozen until it is acknowledged.
    pub(crate) fn repeat_commitment_signed(&mut self, out: &mut Vec<ChannelOutput>) {
        self.asked_to_sign_once = false;
        if let Some(point) = self.core.remote_next_point {
            out.push(self.commitment_signed(CounterpartyCommitment {
                content: self.content(Side::Remote, View::Now),
                per_commitment_point: point,
            }));
        }
    }

    pub(crate) fn on_commitment_signed(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: CommitmentSigned,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        let core = &self.core;
        if !self.is_ready() {
            return Err(Rule::UnexpectedMessage);
        }
        if m.funding_txid
            .is_some_and(|txid| txid != core.params.funding.outpoint.txid)
        {
            return Err(Rule::CommitmentFundingTxid);
        }
        let point = match core.local_points.next {
            Some(point) if !core.revocation_owed => point,
            _ => return Err(Rule::CommitmentUnrevoked),
        };
        let number = core
            .local_number
            .next()
            .ok_or(Rule::CommitmentNumbersExhausted)?;
        let content = self.content(Side::Local, View::Signed);
        // BOLT 2, commitment_signed: every signature is checked before anything is acknowledged.
        build_commitment(ctx.secp, &core.params, Side::Local, &point, &content)
            .verify(ctx.secp, &core.params, &m.signature, &m.htlc_signature)
            .map_err(|fault| match fault {
                SignatureFault::Commitment => Rule::CommitmentSignature,
                SignatureFault::HtlcCount { .. } => Rule::HtlcSignatureCount,
                SignatureFault::Htlc { .. } => Rule::HtlcSignature,
            })?;

        let moved = self.step(Side::Remote, Step::Commit);
        for (offered_by, id) in moved {
            if offered_by == Side::Remote && id >= self.core.next_remote_htlc_id {
                self.core.next_remote_htlc_id = id.next();
            }
        }
        debug_assert!(
            self.is_conserved(),
            "an update was taken that nobody can pay"
        );
        self.core.local_number = number;
        self.core.local_points.advance();
        self.core.counterparty_signature = m.signature;
        self.core.htlc_signatures = m.htlc_signature;
        self.core.revocation_owed = true;
        self.touch();
        self.ask_points(out);
        self.revoke(out);
        Ok(())
    }

    /// Revokes the commitment before the newest, as soon as the point that goes with it is there.
    pub(crate) fn revoke(&mut self, out: &mut Vec<ChannelOutput>) {
        if !self.is_up() || !self.core.revocation_owed || self.core.local_points.next.is_none() {
            return;
        }
        self.core.revocation_owed = false;
        self.core.last_sent = LastSent::RevokeAndAck;
        self.touch();
        let moved = self.step(Side::Local, Step::Revoke);
        self.repeat_revoke_and_ack(out);
        self.settle(moved, out);
    }

    /// The last `revoke_and_ack` (again).
    pub(crate) fn repeat_revoke_and_ack(&self, out: &mut Vec<ChannelOutput>) {
        let (Some(number), Some(next)) = (
            self.core.local_number.previous(),
            self.core.local_points.next,
        ) else {
            return;
        };
        out.push(ChannelOutput::Send(OutMessage::RevokeAndAck {
            channel_id: self.core.channel_id,
            number,
            next_per_commitment_point: next,
            successor: Box::new(HolderSigning {
                params: self.core.params,
                commitment: self.holder_commitment(),
            }),
        }));
    }

    pub(crate) fn on_revoke_and_ack(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: &RevokeAndAck,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        let core = &self.core;
        let (true, Some(next_point), Some(revoked)) = (
            core.awaiting_revocation,
            core.remote_next_point,
            core.remote_number.previous(),
        ) else {
            return Err(Rule::RevocationUnexpected);
        };
        // BOLT 2, revoke_and_ack: the secret is that of the point of the previous commitment.
        let secret =
            SecretKey::from_slice(&m.per_commitment_secret).map_err(|_| Rule::RevocationSecret)?;
        if PublicKey::from_secret_key(ctx.secp, &secret) != core.remote_point {
            return Err(Rule::RevocationSecret);
        }
        let mut secrets = core.secrets.clone();
        secrets
            .insert(revoked, m.per_commitment_secret)
            .map_err(|_| Rule::RevocationChain)?;

        self.core.secrets = secrets;
        self.core.awaiting_revocation = false;
        self.core.remote_point = next_point;
        self.core.remote_next_point = Some(m.next_per_commitment_point);
        self.touch();
        let moved = self.step(Side::Remote, Step::Revoke);
        self.settle(moved, out);
        Ok(())
    }

    /// What a revocation has made irrevocable.
    fn settle(&mut self, moved: Vec<HtlcKey>, out: &mut Vec<ChannelOutput>) {
        let (mut paid_by_us, mut paid_by_peer) = (Msat::ZERO, Msat::ZERO);
        for key in moved {
            let Some(htlc) = self.htlcs.get_mut(&key) else {
                continue;
            };
            match (htlc.state, &htlc.kind) {
                (UpdateState::AddAckRevocation, HtlcKind::Incoming { .. }) => {
                    out.extend(htlc.to_decide().map(ChannelOutput::IncomingHtlc));
                }
                // The peer has it for good: it won't be said again.
                (UpdateState::AddRevocation, HtlcKind::Outgoing { .. }) => htlc.onion = None,
                (UpdateState::RemoveAckRevocation, _) => {
                    let paid = match key.0 {
                        Side::Local => &mut paid_by_us,
                        Side::Remote => &mut paid_by_peer,
                    };
                    *paid = paid.saturating_add(self.finish(key, out));
                }
                _ => {}
            }
        }
        // At once: balances end at zero, and what one brings another may have spent.
        let core = &mut self.core;
        let local = core.settled_local.saturating_add(paid_by_peer);
        let remote = core.settled_remote.saturating_add(paid_by_us);
        core.settled_local = local.saturating_sub(paid_by_us);
        core.settled_remote = remote.saturating_sub(paid_by_peer);
    }

    /// An HTLC is irrevocably removed; what it has paid.
    fn finish(&mut self, key: HtlcKey, out: &mut Vec<ChannelOutput>) -> Msat {
        let Some(htlc) = self.htlcs.remove(&key) else {
            return Msat::ZERO;
        };
        let fulfilled = htlc.is_fulfilled();
        let paid = if fulfilled { htlc.amount } else { Msat::ZERO };
        let id = htlc.id;
        out.push(match htlc.kind {
            HtlcKind::Incoming { .. } => ChannelOutput::IncomingRemoved { id, fulfilled },
            // Who has once given the preimage and then fails the HTLC leaves us the money; upstream was
            // told the preimage and stays settled.
            HtlcKind::Outgoing {
                link,
                removal,
                preimage,
            } => match (removal, preimage) {
                (Some(Removal::Failed(reason)), None) => {
                    ChannelOutput::OutgoingFailed { id, link, reason }
                }
                _ => ChannelOutput::OutgoingSettled { id, link },
            },
        });
        paid
    }

    /// Whether nothing is in flight: no HTLC, no feerate, no revocation on either side.
    pub(crate) fn is_clear(&self) -> bool {
        self.htlcs.is_empty()
            && self.core.feerates.len() == 1
            && !self.core.awaiting_revocation
            && !self.core.revocation_owed
    }

    /// The signer's point for a commitment of ours.
    pub(crate) fn take_point(
        &mut self,
        number: CommitmentNumber,
        point: PublicKey,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        self.asked.points.remove(&number.to_u64());
        let current = self.core.local_number.to_u64();
        let points = &mut self.core.local_points;
        let slot = match number.to_u64().checked_sub(current) {
            Some(1) => &mut points.next,
            Some(2) => &mut points.after_next,
            _ => return Ok(()),
        };
        match slot {
            Some(known) if *known != point => {
                return Err(ChannelError::Bug("the signer changed a point"));
            }
            Some(_) => {}
            None => {
                *slot = Some(point);
                self.touch();
            }
        }
        if self.link == Link::Up {
            self.revoke(out);
        }
        Ok(())
    }
}

impl Htlc {
    /// As the node is asked about it; `None` when it is decided.
    pub(crate) fn to_decide(&self) -> Option<IncomingHtlc> {
        let HtlcKind::Incoming {
            dust_exposed,
            resolution: None,
        } = &self.kind
        else {
            return None;
        };
        Some(IncomingHtlc {
            id: self.id,
            amount: self.amount,
            payment_hash: self.payment_hash,
            cltv_expiry: self.cltv_expiry,
            onion_routing_packet: self.onion.clone()?,
            path_key: self.path_key,
            dust_exposed: *dust_exposed,
        })
    }
}
