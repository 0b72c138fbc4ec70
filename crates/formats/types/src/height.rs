//! Heights, expiries and time. Height + delta gives an expiry; height + height does not compile.

use core::{fmt, ops::Add};

use crate::codec::{Decode, DecodeError, Encode, Reader};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $to:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The bare number.
            pub const fn $to(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl Encode for $name {
            const LEN: Option<usize> = <$inner>::LEN;

            #[inline]
            fn write_to(&self, out: &mut [u8]) {
                self.0.write_to(out);
            }

            #[inline]
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                self.0.encode(out);
            }
        }

        impl Decode for $name {
            #[inline]
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$inner>::decode(r).map(Self)
            }
        }
    };
}

number! {
    /// The height of a block.
    BlockHeight(u32), to_u32
}
number! {
    /// An absolute expiry in blocks: an HTLC's `cltv_expiry`.
    CltvExpiry(u32), to_u32
}
number! {
    /// A difference of heights: `cltv_expiry_delta`.
    CltvExpiryDelta(u16), to_u16
}
number! {
    /// Milliseconds since the Unix epoch. The heart reads no clock: every step is told the time.
    Timestamp(u64), to_millis
}

impl BlockHeight {
    /// How many blocks have been built on `self` up to `tip`, counting its own: 1 when `self` is the
    /// tip, 0 when it lies above.
    pub const fn depth_at(self, tip: Self) -> u32 {
        if tip.0 < self.0 {
            0
        } else {
            (tip.0 - self.0).saturating_add(1)
        }
    }

    /// The height `blocks` further on; saturates.
    pub const fn plus(self, blocks: u32) -> Self {
        Self(self.0.saturating_add(blocks))
    }

    /// The height `blocks` before; saturates at the genesis block.
    pub const fn minus(self, blocks: u32) -> Self {
        Self(self.0.saturating_sub(blocks))
    }
}

impl CltvExpiry {
    /// Whether a transaction with this locktime can be in the block after `tip`.
    pub const fn is_reached_after(self, tip: BlockHeight) -> bool {
        self.0 <= tip.0
    }

    /// Blocks from `height` to the expiry, zero when it is past.
    pub const fn blocks_from(self, height: BlockHeight) -> u32 {
        self.0.saturating_sub(height.0)
    }

    /// The expiry less a delta, or `None` below zero.
    pub fn checked_sub(self, delta: CltvExpiryDelta) -> Option<Self> {
        self.0.checked_sub(u32::from(delta.0)).map(Self)
    }

    /// The height with the number of this expiry.
    pub const fn to_height(self) -> BlockHeight {
        BlockHeight(self.0)
    }
}

impl Add<CltvExpiryDelta> for BlockHeight {
    type Output = CltvExpiry;
    /// Saturates: an expiry at the end of the number range is refused by every limit.
    fn add(self, delta: CltvExpiryDelta) -> CltvExpiry {
        CltvExpiry(self.0.saturating_add(u32::from(delta.0)))
    }
}

impl Add<CltvExpiryDelta> for CltvExpiry {
    type Output = CltvExpiry;
    /// Saturates: an expiry at the end of the number range is refused by every limit.
    fn add(self, delta: CltvExpiryDelta) -> CltvExpiry {
        CltvExpiry(self.0.saturating_add(u32::from(delta.0)))
    }
}

impl Timestamp {
    /// From whole seconds since the Unix epoch; saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn to_secs_floor(self) -> u64 {
        self.0 / 1_000
    }

    /// The time `millis` later; saturates.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`, zero when `earlier` is later.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
