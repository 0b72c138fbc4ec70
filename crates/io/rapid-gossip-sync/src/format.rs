//! What reader and writer agree on.

/// The first bytes of every snapshot; the version follows.
pub(crate) const PREFIX: [u8; 3] = *b"LDK";

/// Data that is older is of no use, and updates that are older are stale (BOLT 7, Pruning Stale Entries).
pub(crate) const STALE_SECS: u32 = 14 * DAY_SECS;
/// How much older than the snapshot its changes are taken to be: what the network signs meanwhile goes
/// before them.
pub(crate) const BACKDATE_SECS: u32 = 7 * DAY_SECS;
pub(crate) const DAY_SECS: u32 = 24 * 3_600;

/// How many feature vectors nodes can refer to.
pub(crate) const MAX_DEFAULT_FEATURES: usize = 6;
/// The longest of them. Each node can refer to one by three bits: this bounds what those can make us hold.
pub(crate) const MAX_DEFAULT_FEATURES_LEN: usize = 512;

/// Flags of a node of version 2, in the first byte of its key.
pub(crate) mod node {
    pub(crate) const PARITY: u8 = 0b0000_0011;
    pub(crate) const ADDRESSES: u8 = 1 << 2;
    pub(crate) const FEATURES_SHIFT: u8 = 3;
    pub(crate) const FEATURES_MASK: u8 = 0b111;
    /// The features follow; below it, and above zero, they are one of the defaults.
    pub(crate) const FEATURES_INLINE: u8 = 7;
    /// Nothing has changed, but the node is still there.
    pub(crate) const REMINDER: u8 = 1 << 6;
    pub(crate) const EXTRA: u8 = 1 << 7;
}

/// In the second node's index of a channel of version 2: additional data follows.
pub(crate) const CHANNEL_EXTRA: u64 = 1 << 63;

/// Flags of an update.
pub(crate) mod update {
    pub(crate) const DISABLED: u8 = 1 << 1;
    pub(crate) const HTLC_MAXIMUM: u8 = 1 << 2;
    pub(crate) const FEE_PROPORTIONAL: u8 = 1 << 3;
    pub(crate) const FEE_BASE: u8 = 1 << 4;
    pub(crate) const HTLC_MINIMUM: u8 = 1 << 5;
    pub(crate) const CLTV: u8 = 1 << 6;
    /// What is not said is as the reader knows it; without it, as the defaults are.
    pub(crate) const INCREMENTAL: u8 = 1 << 7;
}
