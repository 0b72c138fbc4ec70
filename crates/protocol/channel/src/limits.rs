//! Who can pay what: reserve, fees, anchors, dust exposure, bounds of feerates.

use bitcoin::Amount;
use fulmen_tx::{
    CommitmentContent, CommitmentFormat, CommitmentHtlc, HtlcKind, Side, anchors_value,
    commitment_fee, htlc_is_trimmed,
};
use fulmen_types::{FeeratePerKw, Feerates, Msat};

use crate::{
    commitment::View,
    config::ChannelContext,
    error::Refusal,
    funded::Funded,
    htlc::{Htlc, Presence},
};

/// BOLT 2: expiries from here on would be seconds.
pub(crate) const MAX_CLTV_EXPIRY: u32 = 500_000_000;

/// BOLT 2, Adding an HTLC: what is kept for a rise of the feerate, as a factor.
const FEE_SPIKE_FACTOR: u32 = 2;

/// What the opener pays for a commitment with these HTLCs and `extra` more outputs.
pub(crate) fn opener_cost(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    owner: Side,
    dust_limit: Amount,
    htlcs: &[CommitmentHtlc],
    extra: u64,
) -> Amount {
    let outputs = htlcs
        .iter()
        .filter(|htlc| {
            let kind = HtlcKind::on(owner, htlc.offered_by);
            !htlc_is_trimmed(format, feerate, dust_limit, kind, htlc.amount)
        })
        .count() as u64;
    let fee = commitment_fee(format, feerate, outputs.saturating_add(extra));
    Amount::from_sat(fee.to_sat().saturating_add(anchors_value(format).to_sat()))
}

/// The bounds within which we take a feerate of the peer.
pub(crate) struct FeerateBounds {
    pub(crate) minimum: FeeratePerKw,
    pub(crate) maximum: FeeratePerKw,
}

impl FeerateBounds {
    /// With anchors a commitment only has to reach the mempool; without, it has to confirm by itself. The
    /// upper bound leaves room for a fee spike that our estimate has not seen.
    pub(crate) fn new(format: CommitmentFormat, feerates: &Feerates) -> Self {
        let minimum = match format {
            CommitmentFormat::AnchorsZeroFeeHtlc => FeeratePerKw::FLOOR,
            CommitmentFormat::StaticRemoteKey => FeeratePerKw::new(
                (feerates.background.to_sat_per_kw() / 4).max(FeeratePerKw::FLOOR.to_sat_per_kw()),
            ),
        };
        let maximum = feerates
            .urgent
            .to_sat_per_kw()
            .saturating_mul(10)
            .max(25_000);
        Self {
            minimum,
            maximum: FeeratePerKw::new(maximum),
        }
    }
}

/// What the commitments of a channel should pay now. With anchors they are bumped when they are used, so
/// that a fee spike need not be paid for in advance; without, they have to confirm by themselves.
pub(crate) fn wanted_feerate(format: CommitmentFormat, feerates: &Feerates) -> FeeratePerKw {
    let wanted = match format {
        CommitmentFormat::StaticRemoteKey => feerates.normal,
        CommitmentFormat::AnchorsZeroFeeHtlc => feerates.normal.min(MAX_ANCHOR_FEERATE),
    };
    wanted.max(feerates.floor).max(FeeratePerKw::FLOOR)
}

/// 10 sat/vB.
const MAX_ANCHOR_FEERATE: FeeratePerKw = FeeratePerKw::new(2_500);

impl Funded {
    /// The feerate to change to, when ours to change and a quarter off what is wanted.
    pub(crate) fn feerate_to_change_to(&self, feerates: &Feerates) -> Option<FeeratePerKw> {
        if self.core.params.opener != Side::Local || !self.is_usable() {
            return None;
        }
        let wanted = wanted_feerate(self.core.params.format, feerates);
        let current = self.core.feerates.last()?.feerate;
        let (wanted_4, current_4) = (
            u64::from(wanted.to_sat_per_kw()) * 4,
            u64::from(current.to_sat_per_kw()),
        );
        (wanted_4 > current_4 * 5 || wanted_4 < current_4 * 3).then_some(wanted)
    }

    /// The commitment of `owner` at its fullest: every HTLC that is or may come into it, nothing that is
    /// about to come back.
    pub(crate) fn fullest(&self, owner: Side) -> CommitmentContent {
        let mut content = self.content(owner, View::Now);
        for htlc in self.htlcs.values() {
            if htlc.presence(owner, View::Now) == Presence::Before {
                take(&mut content, htlc.offered_by(), htlc.amount);
                content.htlcs.push(htlc.on_commitment());
            }
        }
        let feerates = self.core.feerates.iter().map(|fee| fee.feerate);
        content.feerate = feerates.max().unwrap_or(content.feerate);
        content
    }

    pub(crate) fn cost(
        &self,
        owner: Side,
        content: &CommitmentContent,
        feerate: FeeratePerKw,
        extra: u64,
    ) -> Msat {
        let params = &self.core.params;
        Msat::from_amount(opener_cost(
            params.format,
            feerate,
            owner,
            params.party(owner).dust_limit,
            &content.htlcs,
            extra,
        ))
    }

    /// What `side` must keep.
    pub(crate) fn reserve_of(&self, side: Side) -> Msat {
        Msat::from_amount(self.core.limits_of(side.other()).reserve)
    }

    /// Whether `side` has its reserve, and the opener the cost at `feerate` besides.
    pub(crate) fn affords(
        &self,
        owner: Side,
        side: Side,
        content: &CommitmentContent,
        feerate: FeeratePerKw,
        extra: u64,
    ) -> bool {
        let mut needed = self.reserve_of(side);
        if side == self.core.params.opener {
            needed = needed.saturating_add(self.cost(owner, content, feerate, extra));
        }
        content.balance(side) >= needed
    }

    /// Whether we may offer this HTLC: BOLT 2, Adding an HTLC, what the sender must and should see to.
    pub(crate) fn check_offer(
        &self,
        ctx: &ChannelContext<'_>,
        htlc: &CommitmentHtlc,
    ) -> Result<(), Refusal> {
        let limits = &self.core.remote_limits;
        if htlc.amount == Msat::ZERO || htlc.amount < limits.htlc_minimum {
            return Err(Refusal::AmountTooSmall {
                minimum: limits.htlc_minimum.max(Msat::new(1)),
            });
        }
        let (count, value) = self.in_flight(Side::Local);
        if count >= limits.max_accepted_htlcs.min(483) {
            return Err(Refusal::TooManyHtlcs {
                maximum: limits.max_accepted_htlcs,
            });
        }
        if value.saturating_add(htlc.amount) > limits.max_in_flight {
            return Err(Refusal::InFlightLimit {
                maximum: limits.max_in_flight,
            });
        }
        if htlc.amount > self.spendable() {
            return Err(Refusal::InsufficientBalance {
                available: self.available_to_send(),
            });
        }
        for owner in [Side::Remote, Side::Local] {
            let mut content = self.fullest(owner);
            content.htlcs.push(*htlc);
            // BOLT 2: who is not responsible for the fee should not offer what makes the other unable to
            // pay it.
            if self.core.params.opener == Side::Remote
                && !self.affords(owner, Side::Remote, &content, content.feerate, 0)
                && !self.is_trimmed(owner, htlc, content.feerate)
            {
                return Err(Refusal::PeerFee);
            }
            // An `update_fee` may be on its way, to what the estimates ask for.
            let wanted = wanted_feerate(self.core.params.format, ctx.feerates);
            let feerate = spiked(content.feerate).max(wanted);
            if self.exceeds_dust_exposure(ctx, owner, htlc, &content, feerate) {
                return Err(Refusal::DustExposure);
            }
        }
        Ok(())
    }

    /// HTLCs that `offerer` has in the other's commitment or on the way there: how many, how much.
    pub(crate) fn in_flight(&self, offerer: Side) -> (u16, Msat) {
        let view = View::Signed;
        let owner = offerer.other();
        self.htlcs
            .values()
            .filter(|htlc| {
                htlc.offered_by() == offerer && htlc.presence(owner, view) == Presence::In
            })
            .fold((0u16, Msat::ZERO), |(count, value), htlc| {
                (count.saturating_add(1), value.saturating_add(htlc.amount))
            })
    }

    /// What our side could offer by its balance: less reserve, and as the opener less the fee at twice the
    /// feerate with this HTLC and one more (BOLT 2, fee spike buffer).
    fn spendable(&self) -> Msat {
        [Side::Remote, Side::Local]
            .into_iter()
            .map(|owner| {
                let content = self.fullest(owner);
                let mut kept = self.reserve_of(Side::Local);
                if self.core.params.opener == Side::Local {
                    let cost = self.cost(owner, &content, spiked(content.feerate), 2);
                    let now = self.cost(owner, &content, content.feerate, 2);
                    kept = kept.saturating_add(cost.max(now));
                }
                content.to_local.saturating_sub(kept)
            })
            .min()
            .unwrap_or(Msat::ZERO)
    }

    /// The most that one HTLC of ours can be worth now; zero when there is none.
    pub(crate) fn available_to_send(&self) -> Msat {
        let limits = &self.core.remote_limits;
        let (count, value) = self.in_flight(Side::Local);
        let available = self
            .spendable()
            .min(limits.max_in_flight.saturating_sub(value));
        if count >= limits.max_accepted_htlcs.min(483) || available < limits.htlc_minimum {
            Msat::ZERO
        } else {
            available
        }
    }

    fn is_trimmed(&self, owner: Side, htlc: &CommitmentHtlc, feerate: FeeratePerKw) -> bool {
        let params = &self.core.params;
        htlc_is_trimmed(
            params.format,
            feerate,
            params.party(owner).dust_limit,
            HtlcKind::on(owner, htlc.offered_by),
            htlc.amount,
        )
    }

    /// BOLT 2, Bounding exposure to trimmed in-flight HTLCs: whether `htlc` is trimmed on the commitment
    /// of `owner` at `feerate` and takes it above the limit. It is in `content`.
    pub(crate) fn exceeds_dust_exposure(
        &self,
        ctx: &ChannelContext<'_>,
        owner: Side,
        htlc: &CommitmentHtlc,
        content: &CommitmentContent,
        feerate: FeeratePerKw,
    ) -> bool {
        self.is_trimmed(owner, htlc, feerate)
            && self.dust_exposure(owner, content, feerate) > ctx.config.max_dust_htlc_exposure
    }

    /// What is in flight in HTLCs without an output on the commitment of `owner` at `feerate`.
    pub(crate) fn dust_exposure(
        &self,
        owner: Side,
        content: &CommitmentContent,
        feerate: FeeratePerKw,
    ) -> Msat {
        content
            .htlcs
            .iter()
            .filter(|htlc| self.is_trimmed(owner, htlc, feerate))
            .fold(Msat::ZERO, |sum, htlc| sum.saturating_add(htlc.amount))
    }

    /// Whether our commitment has no output for this HTLC.
    pub(crate) fn is_trimmed_on_ours(&self, htlc: &Htlc) -> bool {
        let feerate = self.content(Side::Local, View::Now).feerate;
        self.is_trimmed(Side::Local, &htlc.on_commitment(), feerate)
    }
}

fn spiked(feerate: FeeratePerKw) -> FeeratePerKw {
    FeeratePerKw::new(feerate.to_sat_per_kw().saturating_mul(FEE_SPIKE_FACTOR))
}

fn take(content: &mut CommitmentContent, side: Side, amount: Msat) {
    let balance = match side {
        Side::Local => &mut content.to_local,
        Side::Remote => &mut content.to_remote,
    };
    *balance = balance.saturating_sub(amount);
}
