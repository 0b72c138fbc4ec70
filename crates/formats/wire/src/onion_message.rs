//! BOLT 4: onion messages as peers exchange them.

use alloc::vec::Vec;

use bitcoin::secp256k1::PublicKey;

use crate::{codec::U16Prefixed, macros::message};

message! {
    /// A message for somebody further on, in layers (BOLT 4, `option_onion_messages`).
    OnionMessage = 513, "onion_message" {
        /// With which the receiver finds its blinded key.
        path_key: PublicKey,
        /// The onion, of any length (BOLT 4).
        onion_message_packet: Vec<u8> as U16Prefixed,
    }
    tlvs {}
}
