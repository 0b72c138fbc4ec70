//! `update_add_htlc`, the three ways to remove an HTLC, and `update_fee`.

use alloc::vec::Vec;

use fulmen_tx::{CommitmentContent, CommitmentFormat, CommitmentHtlc, Side};
use fulmen_types::{FeeratePerKw, HtlcId, Msat, PaymentPreimage};
use fulmen_wire::{
    UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};

use crate::{
    commitment::View,
    config::ChannelContext,
    error::{ChannelError, Refusal, Rule},
    funded::{Funded, Link},
    htlc::{Htlc, HtlcFailure, HtlcKey, HtlcKind, HtlcResolution, Removal, Step, UpdateState},
    input::AddHtlc,
    limits::{FeerateBounds, MAX_CLTV_EXPIRY},
    output::ChannelOutput,
    state::FeeUpdate,
};

/// BOLT 4: the failure is about the onion itself.
const BADONION: u16 = 0x8000;

/// Bounds a record; what a node needs to find its payment again is far shorter.
const MAX_LINK_LEN: usize = 1_024;

/// The longest failure packet that an incoming HTLC can be failed with: it fits a message, with room for
/// attribution data. Peers may send longer ones.
pub const MAX_REASON_LEN: usize = 60_000;

impl Funded {
    /// Why no update can be said now.
    fn check_may_update(&self) -> Result<(), Refusal> {
        if !self.is_alive() {
            Err(Refusal::Closed)
        } else if self.core.blocked.is_some() {
            Err(Refusal::SignerBlocked)
        } else if self.link != Link::Up {
            Err(Refusal::NotConnected)
        } else if !self.is_ready() {
            Err(Refusal::NotReady)
        } else {
            Ok(())
        }
    }

    pub(crate) fn add_htlc(
        &mut self,
        ctx: &ChannelContext<'_>,
        add: AddHtlc,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        self.check_may_update()?;
        // BOLT 2, shutdown: no update_add_htlc after it; and the peer would only fail what we add after
        // its own.
        if self.core.local_shutdown.is_some() || self.core.remote_shutdown.is_some() {
            return Err(Refusal::ShuttingDown.into());
        }
        if add.link.len() > MAX_LINK_LEN {
            return Err(Refusal::LinkTooLong.into());
        }
        let expiry = add.cltv_expiry.to_u32();
        if expiry >= MAX_CLTV_EXPIRY || expiry <= ctx.tip.to_u32() {
            return Err(Refusal::Expiry.into());
        }
        let id = HtlcId::new(
            self.core
                .next_local_htlc_id
                .to_u64()
                .saturating_add(self.uncommitted(Side::Local)),
        );
        let on_commitment = CommitmentHtlc {
            id,
            offered_by: Side::Local,
            amount: add.amount,
            payment_hash: add.payment_hash,
            cltv_expiry: add.cltv_expiry,
        };
        self.check_offer(ctx, &on_commitment)?;

        let htlc = Htlc {
            id,
            amount: add.amount,
            payment_hash: add.payment_hash,
            cltv_expiry: add.cltv_expiry,
            onion: Some(add.onion_routing_packet),
            path_key: add.path_key,
            state: UpdateState::Add,
            kind: HtlcKind::Outgoing {
                link: add.link,
                preimage: None,
                removal: None,
            },
        };
        out.push(ChannelOutput::HtlcAdded { id });
        out.extend(self.update_add_htlc(&htlc));
        self.insert(htlc);
        Ok(())
    }

    fn insert(&mut self, htlc: Htlc) {
        let key = htlc.key();
        self.changes.htlcs.insert(key);
        self.htlcs.insert(key, htlc);
    }

    /// HTLCs of `offerer` that no signature covers.
    fn uncommitted(&self, offerer: Side) -> u64 {
        self.htlcs
            .values()
            .filter(|htlc| htlc.offered_by() == offerer && htlc.state == UpdateState::Add)
            .count() as u64
    }

    fn update_add_htlc(&self, htlc: &Htlc) -> Option<ChannelOutput> {
        Some(Self::send(UpdateAddHtlc {
            channel_id: self.core.channel_id,
            id: htlc.id,
            amount_msat: htlc.amount,
            payment_hash: htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
            onion_routing_packet: htlc.onion.clone()?,
            path_key: htlc.path_key,
            extra_fee: None,
        }))
    }

    fn removal_message(&self, id: HtlcId, resolution: &HtlcResolution) -> ChannelOutput {
        let channel_id = self.core.channel_id;
        match resolution {
            HtlcResolution::Fulfil(payment_preimage) => Self::send(UpdateFulfillHtlc {
                channel_id,
                id,
                payment_preimage: *payment_preimage,
                attribution_data: None,
                fulfillment_payload: None,
            }),
            HtlcResolution::Fail(reason) => Self::send(UpdateFailHtlc {
                channel_id,
                id,
                reason: reason.clone(),
                attribution_data: None,
            }),
            HtlcResolution::FailMalformed {
                failure_code,
                sha256_of_onion,
            } => Self::send(UpdateFailMalformedHtlc {
                channel_id,
                id,
                sha256_of_onion: *sha256_of_onion,
                failure_code: *failure_code,
            }),
        }
    }

    /// The updates of ours that our last `commitment_signed` covers, for when the peer has not got it.
    pub(crate) fn repeat_updates(&self, out: &mut Vec<ChannelOutput>) {
        let channel_id = self.core.channel_id;
        if self.core.params.opener == Side::Local {
            let fees = self.core.feerates.iter();
            out.extend(
                fees.filter(|fee| fee.state == UpdateState::AddCommit)
                    .map(|fee| {
                        Self::send(UpdateFee {
                            channel_id,
                            feerate_per_kw: fee.feerate,
                        })
                    }),
            );
        }
        for htlc in self.htlcs.values() {
            match (&htlc.kind, htlc.state) {
                (HtlcKind::Outgoing { .. }, UpdateState::AddCommit) => {
                    out.extend(self.update_add_htlc(htlc));
                }
                (
                    HtlcKind::Incoming {
                        resolution: Some(resolution),
                        ..
                    },
                    UpdateState::RemoveCommit,
                ) => out.push(self.removal_message(htlc.id, resolution)),
                _ => {}
            }
        }
    }

    pub(crate) fn on_update_add_htlc(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: UpdateAddHtlc,
    ) -> Result<(), Rule> {
        if !self.is_ready() {
            return Err(Rule::UnexpectedMessage);
        }
        if self.core.remote_shutdown.is_some() {
            return Err(Rule::AddAfterShutdown);
        }
        let limits = &self.core.local_limits;
        if m.amount_msat == Msat::ZERO || m.amount_msat < limits.htlc_minimum {
            return Err(Rule::HtlcAmount);
        }
        if m.cltv_expiry.to_u32() >= MAX_CLTV_EXPIRY {
            return Err(Rule::HtlcExpiryInSeconds);
        }
        let expected = self
            .core
            .next_remote_htlc_id
            .to_u64()
            .saturating_add(self.uncommitted(Side::Remote));
        if m.id.to_u64() != expected {
            return Err(Rule::HtlcId);
        }
        let (count, value) = self.in_flight(Side::Remote);
        if count >= limits.max_accepted_htlcs {
            return Err(Rule::HtlcCount);
        }
        if value.saturating_add(m.amount_msat) > limits.max_in_flight {
            return Err(Rule::HtlcInFlight);
        }
        let on_commitment = CommitmentHtlc {
            id: m.id,
            offered_by: Side::Remote,
            amount: m.amount_msat,
            payment_hash: m.payment_hash,
            cltv_expiry: m.cltv_expiry,
        };
        // BOLT 2: what the sender can't afford at the current feerate, with reserve and anchors.
        let mut content = self.content(Side::Local, View::Signed);
        content.to_remote = content
            .to_remote
            .checked_sub(m.amount_msat)
            .ok_or(Rule::HtlcUnaffordable)?;
        content.htlcs.push(on_commitment);
        if !self.affords(Side::Local, Side::Remote, &content, content.feerate, 0) {
            return Err(Rule::HtlcUnaffordable);
        }
        let dust_exposed = [Side::Local, Side::Remote].into_iter().any(|owner| {
            let mut content = self.fullest(owner);
            content.htlcs.push(on_commitment);
            let feerate = content.feerate;
            self.exceeds_dust_exposure(ctx, owner, &on_commitment, &content, feerate)
        });

        self.insert(Htlc {
            id: m.id,
            amount: m.amount_msat,
            payment_hash: m.payment_hash,
            cltv_expiry: m.cltv_expiry,
            onion: Some(m.onion_routing_packet),
            path_key: m.path_key,
            state: UpdateState::Add,
            kind: HtlcKind::Incoming {
                dust_exposed,
                resolution: None,
            },
        });
        Ok(())
    }

    /// Decides an incoming HTLC. Asking again for the same changes nothing; a preimage replaces a failure
    /// that the peer has no signature for.
    pub(crate) fn resolve(
        &mut self,
        id: HtlcId,
        resolution: HtlcResolution,
    ) -> Result<(), ChannelError> {
        let key = (Side::Remote, id);
        let htlc = self.htlcs.get_mut(&key).ok_or(Refusal::UnknownHtlc)?;
        if htlc.state < UpdateState::AddAckRevocation {
            return Err(Refusal::UnknownHtlc.into());
        }
        match &resolution {
            HtlcResolution::Fulfil(preimage) => {
                if preimage.payment_hash() != htlc.payment_hash {
                    return Err(Refusal::WrongPreimage.into());
                }
            }
            HtlcResolution::Fail(reason) => {
                if reason.len() > MAX_REASON_LEN {
                    return Err(Refusal::ResolutionTooLong.into());
                }
            }
            HtlcResolution::FailMalformed { .. } => {}
        }
        let state = htlc.state;
        let HtlcKind::Incoming {
            resolution: decided,
            ..
        } = &mut htlc.kind
        else {
            return Err(Refusal::UnknownHtlc.into());
        };
        match decided {
            Some(known) if *known == resolution => return Ok(()),
            Some(HtlcResolution::Fulfil(_)) => return Err(Refusal::AlreadyResolved.into()),
            Some(_) => {
                let is_fulfil = matches!(resolution, HtlcResolution::Fulfil(_));
                if !is_fulfil || state != UpdateState::AddAckRevocation {
                    return Err(Refusal::AlreadyResolved.into());
                }
            }
            None => {}
        }
        *decided = Some(resolution);
        htlc.onion = None;
        self.changes.htlcs.insert(key);
        Ok(())
    }

    /// Says what is decided and not said yet.
    pub(crate) fn send_resolutions(&mut self, out: &mut Vec<ChannelOutput>) {
        let due: Vec<(HtlcKey, ChannelOutput)> = self
            .htlcs
            .values()
            .filter_map(|htlc| match (&htlc.kind, htlc.state) {
                (
                    HtlcKind::Incoming {
                        resolution: Some(resolution),
                        ..
                    },
                    UpdateState::AddAckRevocation,
                ) => Some((htlc.key(), self.removal_message(htlc.id, resolution))),
                _ => None,
            })
            .collect();
        for (key, message) in due {
            if let Some(htlc) = self.htlcs.get_mut(&key) {
                htlc.state = htlc.state.after(Step::Remove);
            }
            out.push(message);
        }
    }

    /// The HTLC of ours that a message removes.
    fn removable(&self, id: HtlcId) -> Result<&Htlc, Rule> {
        // BOLT 2: only what is in both commitments for good is removed, and once.
        self.htlcs
            .get(&(Side::Local, id))
            .filter(|htlc| htlc.state == UpdateState::AddAckRevocation)
            .ok_or(Rule::UnknownHtlc)
    }

    fn remove(&mut self, id: HtlcId, how: Removal, learned: Option<PaymentPreimage>) {
        let key = (Side::Local, id);
        let Some(htlc) = self.htlcs.get_mut(&key) else {
            return;
        };
        htlc.state = htlc.state.after(Step::Remove);
        if let HtlcKind::Outgoing {
            preimage, removal, ..
        } = &mut htlc.kind
        {
            *removal = Some(how);
            if learned.is_some() {
                *preimage = learned;
                self.changes.htlcs.insert(key);
            }
        }
    }

    pub(crate) fn on_update_fulfill_htlc(
        &mut self,
        m: &UpdateFulfillHtlc,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), Rule> {
        let htlc = self.removable(m.id)?;
        if m.payment_preimage.payment_hash() != htlc.payment_hash {
            return Err(Rule::WrongPreimage);
        }
        if let HtlcKind::Outgoing { link, .. } = &htlc.kind {
            out.push(ChannelOutput::OutgoingFulfilled {
                id: m.id,
                preimage: m.payment_preimage,
                link: link.clone(),
            });
        }
        self.remove(m.id, Removal::Fulfilled, Some(m.payment_preimage));
        Ok(())
    }

    pub(crate) fn on_update_fail_htlc(&mut self, m: UpdateFailHtlc) -> Result<(), Rule> {
        self.removable(m.id)?;
        self.remove(m.id, Removal::Failed(HtlcFailure::Packet(m.reason)), None);
        Ok(())
    }

    pub(crate) fn on_update_fail_malformed_htlc(
        &mut self,
        m: &UpdateFailMalformedHtlc,
    ) -> Result<(), Rule> {
        self.removable(m.id)?;
        if m.failure_code & BADONION == 0 {
            return Err(Rule::NotBadOnion);
        }
        let failure = HtlcFailure::Malformed {
            failure_code: m.failure_code,
            sha256_of_onion: m.sha256_of_onion,
        };
        self.remove(m.id, Removal::Failed(failure), None);
        Ok(())
    }

    pub(crate) fn update_fee(
        &mut self,
        ctx: &ChannelContext<'_>,
        feerate: FeeratePerKw,
        out: &mut Vec<ChannelOutput>,
    ) -> Result<(), ChannelError> {
        self.check_may_update()?;
        if self.core.params.opener != Side::Local {
            return Err(Refusal::NotTheOpener.into());
        }
        // BOLT 2, shutdown: no update once nothing is left to clear.
        if self.core.local_shutdown.is_some() || self.core.remote_shutdown.is_some() {
            return Err(Refusal::ShuttingDown.into());
        }
        if self.core.feerates.last().map(|fee| fee.feerate) == Some(feerate) {
            return Ok(());
        }
        let affordable = [Side::Remote, Side::Local].into_iter().all(|owner| {
            let content = self.fullest(owner);
            let limit = ctx.config.max_dust_htlc_exposure;
            let exposed = self.raises_dust(owner, &content, feerate, limit);
            self.affords(owner, Side::Local, &content, feerate, 0) && !exposed
        });
        if feerate < FeeratePerKw::FLOOR || !affordable {
            return Err(Refusal::Feerate.into());
        }
        self.put_feerate(feerate);
        out.push(Self::send(UpdateFee {
            channel_id: self.core.channel_id,
            feerate_per_kw: feerate,
        }));
        Ok(())
    }

    /// Whether `feerate` trims so much more that a limit of dust exposure is passed. With anchors HTLC
    /// transactions carry no fee, so that no feerate trims anything.
    fn raises_dust(
        &self,
        owner: Side,
        content: &CommitmentContent,
        feerate: FeeratePerKw,
        limit: Msat,
    ) -> bool {
        self.core.params.format == CommitmentFormat::StaticRemoteKey
            && feerate > content.feerate
            && self.dust_exposure(owner, content, feerate) > limit
    }

    /// A feerate that no signature covers is replaced by the next.
    fn put_feerate(&mut self, feerate: FeeratePerKw) {
        self.core
            .feerates
            .retain(|fee| fee.state != UpdateState::Add);
        self.core.feerates.push(FeeUpdate {
            feerate,
            state: UpdateState::Add,
        });
    }

    pub(crate) fn on_update_fee(
        &mut self,
        ctx: &ChannelContext<'_>,
        m: &UpdateFee,
    ) -> Result<(), Rule> {
        if !self.is_ready() {
            return Err(Rule::UnexpectedMessage);
        }
        if self.core.params.opener != Side::Remote {
            return Err(Rule::FeeFromFundee);
        }
        if self.core.remote_shutdown.is_some()
            && self.core.local_shutdown.is_some()
            && self.is_clear()
        {
            return Err(Rule::UpdateAfterClear);
        }
        let feerate = m.feerate_per_kw;
        let bounds = FeerateBounds::new(self.core.params.format, ctx.feerates);
        if feerate < bounds.minimum {
            return Err(Rule::UpdateFeerateTooLow);
        }
        if feerate > bounds.maximum {
            return Err(Rule::UpdateFeerateTooHigh);
        }
        let content = self.content(Side::Local, View::Signed);
        if !self.affords(Side::Local, Side::Remote, &content, feerate, 0) {
            return Err(Rule::FeeUnaffordable);
        }
        // What we have added meanwhile crosses it: each end has seen to the limit, and the sum may be twice that.
        // Once it is signed the peer can't take it back, and would repeat it for ever.
        let limit = ctx.config.max_dust_htlc_exposure;
        let limit = limit.saturating_add(limit);
        if [Side::Local, Side::Remote]
            .into_iter()
            .any(|owner| self.raises_dust(owner, &self.fullest(owner), feerate, limit))
        {
            return Err(Rule::FeeDustExposure);
        }
        self.put_feerate(feerate);
        Ok(())
    }
}
