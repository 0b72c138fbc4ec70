//! BOLT 3, Fee Calculation and Trimmed Outputs.

use bitcoin::Amount;
use fulmen_types::{FeeratePerKw, Msat};

use crate::{CommitmentFormat, Side};

/// The value of each anchor output.
pub const ANCHOR_VALUE: Amount = Amount::from_sat(330);

/// The greatest weight of a signature in a witness: its length, 71 bytes of DER with a low `s`, and the
/// sighash byte. BOLT 3 reckons with one more; signatures with a high `s` don't verify here.
pub const MAX_SIGNATURE_WEIGHT: u64 = 73;

/// How an HTLC looks on a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HtlcKind {
    /// The commitment's broadcaster offered it; its second stage is the HTLC-timeout transaction.
    Offered,
    /// The broadcaster received it; its second stage is the HTLC-success transaction.
    Received,
}

impl HtlcKind {
    /// The kind on the commitment of `broadcaster`.
    pub fn on(broadcaster: Side, offered_by: Side) -> Self {
        if broadcaster == offered_by {
            Self::Offered
        } else {
            Self::Received
        }
    }
}

/// The expected weight of a commitment transaction with this many HTLC outputs.
pub const fn commitment_weight(format: CommitmentFormat, htlc_outputs: u64) -> u64 {
    let base = match format {
        CommitmentFormat::StaticRemoteKey => 724,
        CommitmentFormat::AnchorsZeroFeeHtlc => 1124,
    };
    base + 172 * htlc_outputs
}

/// The base fee of a commitment transaction with this many HTLC outputs, paid by the opener.
pub fn commitment_fee(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    htlc_outputs: u64,
) -> Amount {
    feerate.fee_floor(commitment_weight(format, htlc_outputs))
}

/// What the opener pays for anchors, even when one of them is absent.
pub fn anchors_value(format: CommitmentFormat) -> Amount {
    match format {
        CommitmentFormat::StaticRemoteKey => Amount::ZERO,
        CommitmentFormat::AnchorsZeroFeeHtlc => ANCHOR_VALUE * 2,
    }
}

/// The expected weight of an HTLC transaction.
pub const fn htlc_transaction_weight(format: CommitmentFormat, kind: HtlcKind) -> u64 {
    match (format, kind) {
        (CommitmentFormat::StaticRemoteKey, HtlcKind::Offered) => 663,
        (CommitmentFormat::StaticRemoteKey, HtlcKind::Received) => 703,
        (CommitmentFormat::AnchorsZeroFeeHtlc, HtlcKind::Offered) => 666,
        (CommitmentFormat::AnchorsZeroFeeHtlc, HtlcKind::Received) => 706,
    }
}

/// The fee that an HTLC transaction has built in.
pub fn htlc_transaction_fee(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    kind: HtlcKind,
) -> Amount {
    match format {
        CommitmentFormat::StaticRemoteKey => {
            feerate.fee_floor(htlc_transaction_weight(format, kind))
        }
        CommitmentFormat::AnchorsZeroFeeHtlc => Amount::ZERO,
    }
}

/// Whether an HTLC is too small for an output on a commitment: the amount in whole satoshis, less the
/// fee of its HTLC transaction, is below the dust limit of the commitment's owner.
pub fn htlc_is_trimmed(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    dust_limit: Amount,
    kind: HtlcKind,
    amount: Msat,
) -> bool {
    let fee = htlc_transaction_fee(format, feerate, kind);
    amount.to_sat_floor() < dust_limit.to_sat().saturating_add(fee.to_sat())
}
