//! Attribution data: who held an HTLC for how long, and who garbled a failure (BOLT 4,
//! "Initialization of `attribution_data`" and "Hold times for successful payments").

use alloc::vec::Vec;
use core::fmt;

use fulmen_types::codec::{Decode, DecodeError, Encode, Reader};

use crate::keys::{KeyKind, SharedSecret, hmac, same};

/// Paths beyond this many hops are not attributed.
pub const ATTRIBUTION_HOPS_MAX: usize = 20;
/// The length of `attribution_data`.
pub const ATTRIBUTION_DATA_LEN: usize = HOLD_TIMES_LEN + HMACS * MAC_LEN;

const HOLD_TIMES_LEN: usize = ATTRIBUTION_HOPS_MAX * 4;
const HMACS: usize = ATTRIBUTION_HOPS_MAX * (ATTRIBUTION_HOPS_MAX + 1) / 2;
const MAC_LEN: usize = 4;

/// How long a node held an HTLC, in units of 100 milliseconds. Zero means that it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HoldTime(u32);

impl HoldTime {
    /// From units of 100 milliseconds.
    pub const fn new(hundreds_of_millis: u32) -> Self {
        Self(hundreds_of_millis)
    }

    /// From milliseconds, rounded down; saturates.
    pub fn from_millis_floor(millis: u64) -> Self {
        Self(u32::try_from(millis / 100).unwrap_or(u32::MAX))
    }

    /// Units of 100 milliseconds.
    pub const fn to_u32(self) -> u32 {
        self.0
    }

    /// Milliseconds.
    pub fn to_millis(self) -> u64 {
        u64::from(self.0) * 100
    }
}

/// `attribution_data`: 20 hold times, then 210 HMACs of 4 bytes. Obfuscated on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct AttributionData([u8; ATTRIBUTION_DATA_LEN]);

impl AttributionData {
    /// The data as a message has them.
    pub const fn new(bytes: [u8; ATTRIBUTION_DATA_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes for a message.
    pub const fn as_bytes(&self) -> &[u8; ATTRIBUTION_DATA_LEN] {
        &self.0
    }

    /// Makes room at the front, puts this node's hold time and HMACs there, and obfuscates all.
    /// `packet` is the return packet before this node's own stream, or the fulfilment payload that came
    /// from downstream; empty without either.
    pub(crate) fn add_hop(&mut self, secret: &SharedSecret, hold_time: HoldTime, packet: &[u8]) {
        self.shift_right();
        self.0[..4].copy_from_slice(&hold_time.0.to_be_bytes());
        let um = secret.key(KeyKind::Um);
        for distance in 0..ATTRIBUTION_HOPS_MAX {
            let mac = self.mac(&um, distance, packet);
            let at = mac_at(0, distance);
            self.0[at..at + MAC_LEN].copy_from_slice(&mac);
        }
        secret
            .stream(KeyKind::AmmagExt)
            .apply_keystream(&mut self.0);
    }

    /// The reverse at the origin: the hold time of the hop at the front, if its HMAC for a place
    /// `distance` hops before the end of the path is right.
    pub(crate) fn remove_hop(
        &mut self,
        secret: &SharedSecret,
        distance: usize,
        packet: &[u8],
    ) -> Option<HoldTime> {
        if distance >= ATTRIBUTION_HOPS_MAX {
            return None;
        }
        secret
            .stream(KeyKind::AmmagExt)
            .apply_keystream(&mut self.0);
        let expected = self.mac(&secret.key(KeyKind::Um), distance, packet);
        let at = mac_at(0, distance);
        if !same(&expected, &self.0[at..at + MAC_LEN]) {
            return None;
        }
        let mut hold_time = [0; 4];
        hold_time.copy_from_slice(&self.0[..4]);
        self.shift_left();
        Some(HoldTime(u32::from_be_bytes(hold_time)))
    }

    /// `hmac_0_y` for `y` = `distance`: over the packet, `y` + 1 hold times, and the HMACs of the `y` nodes
    /// downstream that fit the same end.
    fn mac(&self, um: &[u8; 32], distance: usize, packet: &[u8]) -> [u8; MAC_LEN] {
        let mut downstream = Vec::with_capacity(distance * MAC_LEN);
        for node in 1..=distance {
            let at = mac_at(node, distance - node);
            downstream.extend_from_slice(&self.0[at..at + MAC_LEN]);
        }
        let full = hmac(um, &[packet, &self.0[..4 * (distance + 1)], &downstream]);
        [full[0], full[1], full[2], full[3]]
    }

    /// Every node moves one place further from the front; the HMAC for the longest path falls out.
    fn shift_right(&mut self) {
        self.0.copy_within(..HOLD_TIMES_LEN - 4, 4);
        for node in (1..ATTRIBUTION_HOPS_MAX).rev() {
            let len = (ATTRIBUTION_HOPS_MAX - node) * MAC_LEN;
            let from = mac_at(node - 1, ATTRIBUTION_HOPS_MAX - node - 1);
            self.0.copy_within(
                from..from + len,
                mac_at(node, ATTRIBUTION_HOPS_MAX - node - 1),
            );
        }
    }

    /// The reverse; what fell out is unknown and never needed again.
    fn shift_left(&mut self) {
        self.0.copy_within(4..HOLD_TIMES_LEN, 0);
        self.0[HOLD_TIMES_LEN - 4..HOLD_TIMES_LEN].fill(0);
        for node in 1..ATTRIBUTION_HOPS_MAX {
            let len = (ATTRIBUTION_HOPS_MAX - node) * MAC_LEN;
            let from = mac_at(node, ATTRIBUTION_HOPS_MAX - node - 1);
            let to = mac_at(node - 1, ATTRIBUTION_HOPS_MAX - node - 1);
            self.0.copy_within(from..from + len, to);
            let longest = mac_at(node - 1, ATTRIBUTION_HOPS_MAX - node);
            self.0[longest..longest + MAC_LEN].fill(0);
        }
    }
}

/// Where `hmac_node_distance` starts: node by node, each with its greatest distance first.
const fn mac_at(node: usize, distance: usize) -> usize {
    let before = node * ATTRIBUTION_HOPS_MAX - node * node.saturating_sub(1) / 2;
    let index = before + (ATTRIBUTION_HOPS_MAX - node - 1 - distance);
    HOLD_TIMES_LEN + index * MAC_LEN
}

impl Default for AttributionData {
    fn default() -> Self {
        Self([0; ATTRIBUTION_DATA_LEN])
    }
}

impl fmt::Debug for AttributionData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttributionData(..)")
    }
}

impl Encode for AttributionData {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for AttributionData {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.take_array().map(Self)
    }
}
