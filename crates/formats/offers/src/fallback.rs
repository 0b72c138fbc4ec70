//! `fallback_address`: addresses on the chain.

use alloc::vec::Vec;

use bitcoin::{ScriptBuf, WitnessProgram, WitnessVersion};
use fulmen_types::codec::{Decode, DecodeError, Encode, Reader, U16Bytes};

/// `fallback_address`: a witness program, kept whether it is valid or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackAddress {
    /// The witness version.
    pub version: u8,
    /// The witness program.
    pub address: Vec<u8>,
}

impl FallbackAddress {
    /// The script to pay to, or `None` when BOLT 12 says to ignore the address.
    pub fn script_pubkey(&self) -> Option<ScriptBuf> {
        let version = WitnessVersion::try_from(self.version).ok()?;
        // Of version 1 only 32 bytes are a key; a shorter program is anybody's to spend.
        if version == WitnessVersion::V1 && self.address.len() != 32 {
            return None;
        }
        let program = WitnessProgram::new(version, &self.address).ok()?;
        Some(ScriptBuf::new_witness_program(&program))
    }
}

impl Encode for FallbackAddress {
    fn encode(&self, out: &mut Vec<u8>) {
        self.version.encode(out);
        U16Bytes(self.address.clone()).encode(out);
    }
}

impl Decode for FallbackAddress {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: Decode::decode(r)?,
            address: U16Bytes::decode(r)?.0,
        })
    }
}
