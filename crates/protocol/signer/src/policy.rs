//! Rules that need no memory: used where a state machine validates, and by signers.

use core::fmt;

use bitcoin::{Amount, ScriptBuf, Transaction};
use fulmen_tx::{
    ChannelParameters, ClosingContent, ClosingOutputs, CommitmentContent, HtlcKind, Side,
    anchors_value, commitment_fee, htlc_is_trimmed,
};
use fulmen_types::{FeeratePerKw, Msat};

/// The most HTLCs that both sides together can have on a commitment (BOLT 2, `max_accepted_htlcs`).
pub const MAX_HTLCS: usize = 966;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Balances and HTLCs are not together the value of the funding output.
    NotConserved,
    /// The opener can't pay the fee.
    FeeAboveBalance,
    /// More HTLCs than BOLT 2 allows.
    TooManyHtlcs,
    /// The feerate is out of bounds.
    Feerate(FeeratePerKw),
    /// `to_self_delay` is out of bounds.
    ToSelfDelay(u16),
    /// `dust_limit_satoshis` is out of bounds.
    DustLimit(Amount),
    /// An output pays a script that is not allowed.
    PayoutToStranger {
        /// The output's index.
        index: usize,
    },
    /// A mutual close leaves our output out, though it is worth something.
    OwnOutputMissing(Amount),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConserved => {
                f.write_str("balances and HTLCs don't add up to the funding output")
            }
            Self::FeeAboveBalance => f.write_str("the opener can't pay the fee"),
            Self::TooManyHtlcs => write!(f, "there are more than {MAX_HTLCS} HTLCs"),
            Self::Feerate(feerate) => write!(f, "the feerate {feerate} is out of bounds"),
            Self::ToSelfDelay(delay) => write!(f, "to_self_delay {delay} is out of bounds"),
            Self::DustLimit(limit) => {
                write!(f, "dust_limit_satoshis {} is out of bounds", limit.to_sat())
            }
            Self::PayoutToStranger { index } => {
                write!(f, "output {index} pays a script that is not allowed")
            }
            Self::OwnOutputMissing(value) => {
                write!(f, "our output of {} sat is left out", value.to_sat())
            }
        }
    }
}

impl core::error::Error for Violation {}

/// The least and the greatest value allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds<T> {
    /// The least.
    pub least: T,
    /// The greatest.
    pub most: T,
}

impl<T: PartialOrd> Bounds<T> {
    /// Whether `value` lies between, ends included.
    pub fn contain(&self, value: &T) -> bool {
        self.least <= *value && *value <= self.most
    }
}

/// A commitment divides exactly the funding output, into no more HTLCs than allowed.
pub fn check_conserved(
    params: &ChannelParameters,
    content: &CommitmentContent,
) -> Result<(), Violation> {
    if content.htlcs.len() > MAX_HTLCS {
        return Err(Violation::TooManyHtlcs);
    }
    if content.total() == Some(Msat::from_amount(params.funding.value)) {
        Ok(())
    } else {
        Err(Violation::NotConserved)
    }
}

/// The opener's balance pays the base fee and the anchors of this commitment.
pub fn check_fee_is_affordable(
    params: &ChannelParameters,
    broadcaster: Side,
    content: &CommitmentContent,
) -> Result<(), Violation> {
    let dust_limit = params.party(broadcaster).dust_limit;
    let outputs = content
        .htlcs
        .iter()
        .filter(|htlc| {
            let kind = HtlcKind::on(broadcaster, htlc.offered_by);
            !htlc_is_trimmed(
                params.format,
                content.feerate,
                dust_limit,
                kind,
                htlc.amount,
            )
        })
        .count();
    // A usize always fits: nothing holds more than 2^64 HTLCs.
    let fee = commitment_fee(params.format, content.feerate, outputs as u64);
    let costs = Msat::from_amount(fee).checked_add(Msat::from_amount(anchors_value(params.format)));
    if costs.is_some_and(|costs| costs <= content.balance(params.opener)) {
        Ok(())
    } else {
        Err(Violation::FeeAboveBalance)
    }
}

/// The feerate lies within bounds.
pub fn check_feerate(
    feerate: FeeratePerKw,
    bounds: &Bounds<FeeratePerKw>,
) -> Result<(), Violation> {
    if bounds.contain(&feerate) {
        Ok(())
    } else {
        Err(Violation::Feerate(feerate))
    }
}

/// A `to_self_delay` lies within bounds.
pub fn check_to_self_delay(delay: u16, bounds: &Bounds<u16>) -> Result<(), Violation> {
    if bounds.contain(&delay) {
        Ok(())
    } else {
        Err(Violation::ToSelfDelay(delay))
    }
}

/// A `dust_limit_satoshis` lies within bounds.
pub fn check_dust_limit(limit: Amount, bounds: &Bounds<Amount>) -> Result<(), Violation> {
    if bounds.contain(&limit) {
        Ok(())
    } else {
        Err(Violation::DustLimit(limit))
    }
}

/// A mutual close divides exactly the funding output, and leaves ours out only if it is below a dust
/// limit of the channel.
pub fn check_closing(
    params: &ChannelParameters,
    content: &ClosingContent,
    outputs: ClosingOutputs,
) -> Result<(), Violation> {
    let total = content.to_local.checked_add(content.to_remote);
    if total != Some(Msat::from_amount(params.funding.value)) {
        return Err(Violation::NotConserved);
    }
    let ours = content
        .value_of(params, Side::Local)
        .map_err(|_| Violation::FeeAboveBalance)?;
    let worth_nothing = params.local.dust_limit.max(params.remote.dust_limit);
    match outputs {
        ClosingOutputs::Both | ClosingOutputs::Only(Side::Local) => Ok(()),
        ClosingOutputs::Only(Side::Remote) if ours < worth_nothing => Ok(()),
        ClosingOutputs::Only(Side::Remote) => Err(Violation::OwnOutputMissing(ours)),
    }
}

/// Every output pays one of the allowed scripts.
pub fn check_payouts(tx: &Transaction, allowed: &[ScriptBuf]) -> Result<(), Violation> {
    let stranger = tx
        .output
        .iter()
        .position(|output| !allowed.contains(&output.script_pubkey));
    match stranger {
        None => Ok(()),
        Some(index) => Err(Violation::PayoutToStranger { index }),
    }
}
