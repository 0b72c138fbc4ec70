//! BOLT 3, Dust Limits.

use bitcoin::{Amount, Script};

/// The least value of an output with this script that the network relays.
///
/// Taproot counts as an unknown segwit version, as BOLT 3 has it. For a script of no standard kind the
/// answer is that of P2PKH, the greatest.
pub fn dust_threshold(script: &Script) -> Amount {
    let sat = if script.is_op_return() {
        0
    } else if script.is_p2sh() {
        540
    } else if script.is_p2wpkh() {
        294
    } else if script.is_p2wsh() {
        330
    } else if script.as_bytes() == [0x51, 0x02, 0x4e, 0x73] {
        // Pay to anchor.
        240
    } else if script.is_witness_program() {
        354
    } else {
        546
    };
    Amount::from_sat(sat)
}
