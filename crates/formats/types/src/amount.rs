//! Amounts and feerates.

use core::fmt;

use bitcoin::Amount;

use crate::codec::{Decode, DecodeError, Encode, Reader};

/// An amount in thousandths of a satoshi, the unit of BOLT 2 (`amount_msat`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Msat(u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All the bitcoin that can exist: no honest amount is greater.
    pub const MAX_MONEY: Self = Self(21_000_000 * 100_000_000 * 1_000);
    /// The greatest value of the encoding.
    pub const MAX: Self = Self(u64::MAX);

    /// An amount of `msat` thousandths of a satoshi.
    pub const fn new(msat: u64) -> Self {
        Self(msat)
    }

    /// An amount of whole satoshis; saturates at [`Msat::MAX`], far above all money.
    pub const fn from_sat(sat: u64) -> Self {
        Self(sat.saturating_mul(1_000))
    }

    /// An on-chain amount; saturates like [`Msat::from_sat`].
    pub fn from_amount(amount: Amount) -> Self {
        Self::from_sat(amount.to_sat())
    }

    /// The number of thousandths of a satoshi.
    pub const fn to_msat(self) -> u64 {
        self.0
    }

    /// Whole satoshis, rounded down, as outputs of commitment transactions are (BOLT 3).
    pub const fn to_sat_floor(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole satoshis, rounded up.
    pub const fn to_sat_ceil(self) -> u64 {
        self.0.div_ceil(1_000)
    }

    /// As an on-chain amount, rounded down.
    pub fn to_amount_floor(self) -> Amount {
        Amount::from_sat(self.to_sat_floor())
    }

    /// The sum, or `None` on overflow.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// The difference, or `None` when `other` is greater.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// The product, or `None` on overflow.
    pub const fn checked_mul(self, factor: u64) -> Option<Self> {
        match self.0.checked_mul(factor) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// The difference, or zero when `other` is greater.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, or [`Msat::MAX`] on overflow: for comparisons against a limit, never for balances.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `self * parts_per_million / 1_000_000`, rounded down, or `None` on overflow.
    pub fn checked_ppm_floor(self, parts_per_million: u64) -> Option<Self> {
        let product = u128::from(self.0) * u128::from(parts_per_million) / 1_000_000;
        u64::try_from(product).ok().map(Self)
    }

    /// The sum of many amounts, or `None` on overflow.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

impl fmt::Debug for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}msat", self.0)
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}

impl Encode for Msat {
    const LEN: Option<usize> = u64::LEN;

    #[inline]
    fn write_to(&self, out: &mut [u8]) {
        self.0.write_to(out);
    }

    #[inline]
    fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Msat {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(r).map(Self)
    }
}

/// A feerate in satoshis per 1000 weight units (`feerate_per_kw` of BOLT 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FeeratePerKw(u32);

impl FeeratePerKw {
    /// The least that is sure to be relayed: 1 sat/vB is 250, and rounding up of virtual size asks for
    /// 253.
    pub const FLOOR: Self = Self(253);

    /// A feerate of `sat_per_kw` satoshis per 1000 weight units.
    pub const fn new(sat_per_kw: u32) -> Self {
        Self(sat_per_kw)
    }

    /// A feerate given in satoshis per 1000 virtual bytes, rounded up.
    pub fn from_sat_per_kvb_ceil(sat_per_kvb: u64) -> Self {
        Self(u32::try_from(sat_per_kvb.div_ceil(4)).unwrap_or(u32::MAX))
    }

    /// Satoshis per 1000 weight units.
    pub const fn to_sat_per_kw(self) -> u32 {
        self.0
    }

    /// Satoshis per 1000 virtual bytes.
    pub fn to_sat_per_kvb(self) -> u64 {
        u64::from(self.0) * 4
    }

    /// The fee for `weight`, rounded down, as BOLT 3 has it for commitment and HTLC transactions.
    pub fn fee_floor(self, weight: u64) -> Amount {
        let fee = u128::from(self.0) * u128::from(weight) / 1_000;
        Amount::from_sat(u64::try_from(fee).unwrap_or(u64::MAX))
    }

    /// The fee for `weight`, rounded up, for transactions whose fee is ours to choose.
    pub fn fee_ceil(self, weight: u64) -> Amount {
        let fee = (u128::from(self.0) * u128::from(weight)).div_ceil(1_000);
        Amount::from_sat(u64::try_from(fee).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for FeeratePerKw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}sat/kw", self.0)
    }
}

impl fmt::Display for FeeratePerKw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sat/kw", self.0)
    }
}

impl Encode for FeeratePerKw {
    #[inline]
    fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for FeeratePerKw {
    #[inline]
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u32::decode(r).map(Self)
    }
}

/// Estimates of feerates, by how soon the transaction must confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feerates {
    /// Within hours or days: funding, sweeps without deadline.
    pub background: FeeratePerKw,
    /// Within about six blocks: commitment transactions, mutual closes.
    pub normal: FeeratePerKw,
    /// Within one or two blocks: claims with a deadline.
    pub urgent: FeeratePerKw,
    /// The least that mempools take now.
    pub floor: FeeratePerKw,
}

impl Default for Feerates {
    /// The relay floor for everything, until an estimate arrives.
    fn default() -> Self {
        Self {
            background: FeeratePerKw::FLOOR,
            normal: FeeratePerKw::FLOOR,
            urgent: FeeratePerKw::FLOOR,
            floor: FeeratePerKw::FLOOR,
        }
    }
}
