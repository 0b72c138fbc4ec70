//! How many confirmed wallet coins closing channels may take.
//!
//! A commitment with anchors and its HTLC transactions carry no fee of their own worth speaking of: whoever
//! needs them in a block pays from wallet coins. A node that opens or accepts a channel must keep enough
//! of them back for every channel that it has, or a peer could wait for an empty wallet.

use bitcoin::Amount;
use fulmen_types::FeeratePerKw;

/// How many HTLC transactions per channel the reserve covers.
pub const RESERVED_HTLCS_PER_CHANNEL: u64 = 10;

/// The weight of a P2WPKH coin's input with its witness.
const COIN_INPUT_WEIGHT: u64 = 4 * 41 + 108;
/// The weight of a P2WSH change output, the largest that we make.
const CHANGE_OUTPUT_WEIGHT: u64 = 4 * 43;
/// Version, lock time, counts and segwit marker of a transaction.
const TX_OVERHEAD_WEIGHT: u64 = 4 * 10 + 2;
/// A keyed anchor's input with its witness: signature and script of 40 bytes.
const ANCHOR_INPUT_WEIGHT: u64 = 4 * 41 + 116;
/// A commitment with anchors and no HTLC, and what one HTLC output adds (BOLT 3, Fee Calculation).
const COMMITMENT_WEIGHT: u64 = 1124;
const COMMITMENT_HTLC_WEIGHT: u64 = 172;
/// The heavier HTLC transaction with anchors (BOLT 3, Fee Calculation).
const HTLC_SUCCESS_WEIGHT: u64 = 706;
/// What a sweep must leave over to be an output at all.
const CHANGE_DUST_SAT: u64 = 330;

/// The confirmed wallet coins that must stay for the fees of closing `anchor_channels` channels at
/// `feerate`.
///
/// Counted in full: the commitment as if it paid nothing itself, two coins for its child, and a coin and
/// change for each of [`RESERVED_HTLCS_PER_CHANNEL`] HTLC transactions.
///
/// ```
/// use fulmen_enforce::required_reserve;
/// use fulmen_types::FeeratePerKw;
/// let one = required_reserve(1, FeeratePerKw::new(2_500));
/// assert_eq!(required_reserve(0, FeeratePerKw::new(2_500)).to_sat(), 0);
/// assert_eq!(required_reserve(3, FeeratePerKw::new(2_500)), one * 3);
/// assert!(one.to_sat() > 30_000 && one.to_sat() < 50_000);
/// ```
pub fn required_reserve(anchor_channels: u32, feerate: FeeratePerKw) -> Amount {
    let commitment = COMMITMENT_WEIGHT + COMMITMENT_HTLC_WEIGHT * RESERVED_HTLCS_PER_CHANNEL;
    let child =
        TX_OVERHEAD_WEIGHT + ANCHOR_INPUT_WEIGHT + 2 * COIN_INPUT_WEIGHT + CHANGE_OUTPUT_WEIGHT;
    let htlc = HTLC_SUCCESS_WEIGHT + COIN_INPUT_WEIGHT + CHANGE_OUTPUT_WEIGHT;
    let weight = commitment + child + RESERVED_HTLCS_PER_CHANNEL * htlc;
    let each = feerate
        .fee_ceil(weight)
        .checked_add(Amount::from_sat(CHANGE_DUST_SAT))
        .unwrap_or(Amount::MAX_MONEY);
    each.checked_mul(u64::from(anchor_channels))
        .unwrap_or(Amount::MAX_MONEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_channels_and_feerate_and_never_overflows() {
        let low = required_reserve(1, FeeratePerKw::FLOOR);
        assert!(low.to_sat() > 3_000);
        assert!(required_reserve(1, FeeratePerKw::new(506)) > low);
        assert!(required_reserve(2, FeeratePerKw::FLOOR) > low);
        assert!(required_reserve(u32::MAX, FeeratePerKw::new(u32::MAX)) > low);
    }
}
