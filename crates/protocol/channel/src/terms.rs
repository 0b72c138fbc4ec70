//! What both ends offer when a channel is opened, and which offers are refused.

use bitcoin::{Amount, ScriptBuf, secp256k1::PublicKey};
use fulmen_tx::{
    ChannelParameters, ChannelPublicKeys, CommitmentFormat, Funding, PartyParameters, Side,
    anchors_value, commitment_fee,
};
use fulmen_types::{
    BlockHeight, ChannelId, ChannelType, Feature, FeeratePerKw, Msat, ShortChannelId,
};
use fulmen_wire::{AcceptChannel, OpenChannel};

use crate::{
    config::ChannelContext,
    error::Rule,
    input::OurKeys,
    limits::FeerateBounds,
    shutdown::{AnySegwit, is_shutdown_script},
    state::Limits,
};

/// BOLT 2: `dust_limit_satoshis` is at least this.
const MIN_DUST_LIMIT: Amount = Amount::from_sat(354);

/// BOLT 2: a `commitment_signed` with more would not fit a message.
const MAX_ACCEPTED_HTLCS: u16 = 483;

/// BOLT 2: the first value that needs `option_support_large_channel`.
pub(crate) const LARGE_CHANNEL: Amount = Amount::from_sat(1 << 24);

/// What one end says of itself in `open_channel` or `accept_channel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartyTerms {
    pub(crate) keys: ChannelPublicKeys,
    pub(crate) first_point: PublicKey,
    pub(crate) dust_limit: Amount,
    /// The delay that it asks of the other.
    pub(crate) to_self_delay: u16,
    pub(crate) limits: Limits,
    pub(crate) upfront_script: Option<ScriptBuf>,
}

impl PartyTerms {
    pub(crate) fn of_open(m: &OpenChannel) -> Self {
        Self {
            keys: ChannelPublicKeys {
                funding: m.funding_pubkey,
                revocation_basepoint: m.revocation_basepoint,
                payment_basepoint: m.payment_basepoint,
                delayed_payment_basepoint: m.delayed_payment_basepoint,
                htlc_basepoint: m.htlc_basepoint,
            },
            first_point: m.first_per_commitment_point,
            dust_limit: m.dust_limit_satoshis,
            to_self_delay: m.to_self_delay,
            limits: Limits {
                reserve: m.channel_reserve_satoshis,
                htlc_minimum: m.htlc_minimum_msat,
                max_in_flight: m.max_htlc_value_in_flight_msat,
                max_accepted_htlcs: m.max_accepted_htlcs,
            },
            upfront_script: non_empty(m.upfront_shutdown_script.as_ref()),
        }
    }

    pub(crate) fn of_accept(m: &AcceptChannel) -> Self {
        Self {
            keys: ChannelPublicKeys {
                funding: m.funding_pubkey,
                revocation_basepoint: m.revocation_basepoint,
                payment_basepoint: m.payment_basepoint,
                delayed_payment_basepoint: m.delayed_payment_basepoint,
                htlc_basepoint: m.htlc_basepoint,
            },
            first_point: m.first_per_commitment_point,
            dust_limit: m.dust_limit_satoshis,
            to_self_delay: m.to_self_delay,
            limits: Limits {
                reserve: m.channel_reserve_satoshis,
                htlc_minimum: m.htlc_minimum_msat,
                max_in_flight: m.max_htlc_value_in_flight_msat,
                max_accepted_htlcs: m.max_accepted_htlcs,
            },
            upfront_script: non_empty(m.upfront_shutdown_script.as_ref()),
        }
    }

    /// Ours, by the configuration.
    pub(crate) fn ours(
        ctx: &ChannelContext<'_>,
        ours: &OurKeys,
        funding: Amount,
        peer_dust_limit: Amount,
        upfront_script: Option<ScriptBuf>,
    ) -> Self {
        let config = ctx.config;
        let share = funding.to_sat() / 1_000_000 * u64::from(config.reserve_ppm)
            + funding.to_sat() % 1_000_000 * u64::from(config.reserve_ppm) / 1_000_000;
        let reserve = Amount::from_sat(share)
            .max(config.dust_limit)
            .max(peer_dust_limit);
        let in_flight = Msat::from_amount(funding)
            .checked_ppm_floor(u64::from(config.max_in_flight_percent.min(100)) * 10_000)
            .unwrap_or(Msat::MAX);
        Self {
            keys: ours.keys,
            first_point: ours.points[0],
            dust_limit: config.dust_limit.max(MIN_DUST_LIMIT),
            to_self_delay: config.to_self_delay,
            limits: Limits {
                reserve,
                htlc_minimum: config.htlc_minimum,
                max_in_flight: in_flight,
                max_accepted_htlcs: config.max_accepted_htlcs.min(MAX_ACCEPTED_HTLCS),
            },
            upfront_script,
        }
    }
}

/// BOLT 2: an empty `upfront_shutdown_script` promises nothing.
fn non_empty(script: Option<&ScriptBuf>) -> Option<ScriptBuf> {
    script.filter(|script| !script.is_empty()).cloned()
}

/// A channel that is agreed on or about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) opener: Side,
    pub(crate) peer_node_id: PublicKey,
    pub(crate) temporary_channel_id: ChannelId,
    pub(crate) channel_type: ChannelType,
    pub(crate) format: CommitmentFormat,
    pub(crate) announce: bool,
    pub(crate) value: Amount,
    pub(crate) push: Msat,
    pub(crate) feerate: FeeratePerKw,
    pub(crate) ours: OurKeys,
    pub(crate) local: PartyTerms,
    pub(crate) minimum_depth: u32,
    pub(crate) sweep_script: ScriptBuf,
    pub(crate) alias: ShortChannelId,
    pub(crate) created_at: BlockHeight,
}

impl Draft {
    pub(crate) fn params(
        &self,
        remote: &PartyTerms,
        outpoint: bitcoin::OutPoint,
    ) -> ChannelParameters {
        let party = |party: &PartyTerms, other: &PartyTerms| PartyParameters {
            keys: party.keys,
            to_self_delay: other.to_self_delay,
            dust_limit: party.dust_limit,
        };
        ChannelParameters {
            keys_id: self.ours.keys_id,
            format: self.format,
            opener: self.opener,
            local: party(&self.local, remote),
            remote: party(remote, &self.local),
            funding: Funding {
                outpoint,
                value: self.value,
            },
        }
    }

    /// The balance of `side` at the start.
    pub(crate) fn balance(&self, side: Side) -> Msat {
        if side == self.opener {
            Msat::from_amount(self.value).saturating_sub(self.push)
        } else {
            self.push
        }
    }
}

/// What the opener pays for the first commitments.
pub(crate) fn first_cost(format: CommitmentFormat, feerate: FeeratePerKw) -> Amount {
    let fee = commitment_fee(format, feerate, 0);
    Amount::from_sat(fee.to_sat().saturating_add(anchors_value(format).to_sat()))
}

/// The format of a channel type that both ends support; `Err` says what is missing.
pub(crate) fn supported_format(
    ctx: &ChannelContext<'_>,
    channel_type: &ChannelType,
    announce: bool,
) -> Result<CommitmentFormat, &'static str> {
    let format = CommitmentFormat::from_channel_type(channel_type)
        .ok_or("not a type that BOLT 2 defines and this software has")?;
    let needed = [
        (Feature::Anchors, "option_anchors is not negotiated"),
        (Feature::ScidAlias, "option_scid_alias is not negotiated"),
        (Feature::ZeroConf, "option_zeroconf is not negotiated"),
    ];
    for (feature, why) in needed {
        if channel_type.has(feature) && !ctx.negotiated(feature) {
            return Err(why);
        }
    }
    if announce && channel_type.has(Feature::ScidAlias) {
        return Err("option_scid_alias is for channels that are not announced");
    }
    Ok(format)
}

/// What either message must satisfy. The sender's own terms first, then those of both together.
fn check_common(
    ctx: &ChannelContext<'_>,
    theirs: &PartyTerms,
    funding: Amount,
) -> Result<(), Rule> {
    let config = ctx.config;
    let limits = &theirs.limits;
    if theirs.to_self_delay > config.max_to_self_delay {
        return Err(Rule::DelayTooLong);
    }
    if limits.max_accepted_htlcs > MAX_ACCEPTED_HTLCS {
        return Err(Rule::TooManyAcceptedHtlcs);
    }
    if limits.max_accepted_htlcs == 0 {
        return Err(Rule::TooFewAcceptedHtlcs);
    }
    if theirs.dust_limit < MIN_DUST_LIMIT {
        return Err(Rule::DustLimitTooLow);
    }
    if theirs.dust_limit > config.max_peer_dust_limit {
        return Err(Rule::DustLimitTooHigh);
    }
    // A reserve above a fifth of the channel makes it useless; BOLT 2 suggests 1%.
    if limits.reserve > funding / 5 {
        return Err(Rule::ReserveTooHigh);
    }
    if limits.htlc_minimum > Msat::from_amount(funding / 10) {
        return Err(Rule::HtlcMinimumTooLarge);
    }
    if limits.max_in_flight < Msat::from_sat(1_000) {
        return Err(Rule::InFlightTooSmall);
    }
    let any_segwit = AnySegwit::negotiated(ctx);
    if theirs
        .upfront_script
        .as_ref()
        .is_some_and(|script| !is_shutdown_script(script, any_segwit))
    {
        return Err(Rule::UpfrontScriptInvalid);
    }
    Ok(())
}

/// BOLT 2, open_channel: what the receiver must and may refuse.
pub(crate) fn check_open(
    ctx: &ChannelContext<'_>,
    m: &OpenChannel,
) -> Result<CommitmentFormat, Rule> {
    let config = ctx.config;
    if ctx.negotiated(Feature::DualFund) {
        return Err(Rule::DualFundNegotiated);
    }
    let channel_type = m.channel_type.as_ref().ok_or(Rule::ChannelTypeMissing)?;
    if m.chain_hash != config.chain_hash {
        return Err(Rule::UnknownChain);
    }
    let format = supported_format(ctx, channel_type, m.announce_channel())
        .map_err(|_| Rule::ChannelTypeUnsuitable)?;
    if channel_type.has(Feature::ZeroConf) && !config.accept_zero_conf {
        return Err(Rule::ZeroConfNotTrusted);
    }
    let funding = m.funding_satoshis;
    if funding < config.min_funding {
        return Err(Rule::FundingTooSmall);
    }
    if funding > max_funding(ctx) {
        return Err(Rule::FundingTooLarge);
    }
    if m.push_msat > Msat::from_amount(funding) {
        return Err(Rule::PushTooLarge);
    }
    let theirs = PartyTerms::of_open(m);
    check_common(ctx, &theirs, funding)?;
    if theirs.dust_limit > theirs.limits.reserve {
        return Err(Rule::DustLimitAboveReserve);
    }
    if config.dust_limit > theirs.limits.reserve {
        // BOLT 2, accept_channel: our dust limit must not be above their reserve.
        return Err(Rule::DustLimitAboveReserve);
    }
    let bounds = FeerateBounds::new(format, ctx.feerates);
    if m.feerate_per_kw < bounds.minimum {
        return Err(Rule::FeerateTooLow);
    }
    if m.feerate_per_kw > bounds.maximum {
        return Err(Rule::FeerateTooHigh);
    }
    let opener = Msat::from_amount(funding).saturating_sub(m.push_msat);
    let after_fee = opener
        .checked_sub(Msat::from_amount(first_cost(format, m.feerate_per_kw)))
        .ok_or(Rule::FunderCannotPayFee)?;
    let reserve = Msat::from_amount(theirs.limits.reserve);
    if after_fee <= reserve && m.push_msat <= reserve {
        return Err(Rule::BothBelowReserve);
    }
    Ok(format)
}

/// The greatest channel with this peer.
pub(crate) fn max_funding(ctx: &ChannelContext<'_>) -> Amount {
    let config = ctx.config;
    if ctx.negotiated(Feature::SupportLargeChannel) {
        config.max_funding
    } else {
        config.max_funding.min(LARGE_CHANNEL - Amount::from_sat(1))
    }
}

/// BOLT 2, accept_channel: what the opener must and may refuse.
pub(crate) fn check_accept(
    ctx: &ChannelContext<'_>,
    draft: &Draft,
    m: &AcceptChannel,
) -> Result<PartyTerms, Rule> {
    match &m.channel_type {
        None => return Err(Rule::ChannelTypeMissing),
        Some(channel_type) if *channel_type != draft.channel_type => {
            return Err(Rule::ChannelTypeChanged);
        }
        Some(_) => {}
    }
    if m.minimum_depth > ctx.config.max_minimum_depth {
        return Err(Rule::MinimumDepthTooLarge);
    }
    if draft.channel_type.has(Feature::ZeroConf) && m.minimum_depth != 0 {
        return Err(Rule::MinimumDepthNotZero);
    }
    let theirs = PartyTerms::of_accept(m);
    check_common(ctx, &theirs, draft.value)?;
    if theirs.limits.reserve < draft.local.dust_limit
        || draft.local.limits.reserve < theirs.dust_limit
    {
        return Err(Rule::DustLimitAboveReserve);
    }
    if theirs.keys.funding == draft.local.keys.funding {
        return Err(Rule::InvalidKeys);
    }
    Ok(theirs)
}
