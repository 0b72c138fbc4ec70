//! Route hints (`r`) and fallback addresses (`f`).

use alloc::vec::Vec;

use bitcoin::{
    Address, KnownHrp, Network, NetworkKind, PubkeyHash, ScriptBuf, ScriptHash, WitnessProgram,
    WitnessVersion, hashes::Hash, secp256k1::PublicKey,
};
use fulmen_types::{
    CltvExpiryDelta, Msat, ShortChannelId,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::quintets;

/// `r`: a way from a public node to the payee, in the order of the payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHint {
    /// At least one hop, at most 12.
    pub hops: Vec<RouteHintHop>,
}

/// One hop of a route hint: a channel, and what the node at its start takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHintHop {
    /// The node at the channel's start.
    pub node_id: PublicKey,
    /// The channel.
    pub short_channel_id: ShortChannelId,
    /// Fee per HTLC.
    pub fee_base_msat: u32,
    /// Fee per million.
    pub fee_proportional_millionths: u32,
    /// Blocks between the incoming and the outgoing HTLC.
    pub cltv_expiry_delta: CltvExpiryDelta,
}

impl RouteHintHop {
    const LEN: usize = 33 + 8 + 4 + 4 + 2;

    /// The fee for forwarding `amount`, or `None` if it overflows (BOLT 7, "HTLC Fees").
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        amount
            .checked_ppm_floor(self.fee_proportional_millionths.into())?
            .checked_add(Msat::new(self.fee_base_msat.into()))
    }
}

impl RouteHint {
    /// What must reach the first hop's node for `amount` to reach the payee, or `None` if it overflows.
    pub fn amount_at_start(&self, amount: Msat) -> Option<Msat> {
        self.hops
            .iter()
            .rev()
            .try_fold(amount, |amount, hop| amount.checked_add(hop.fee(amount)?))
    }

    /// The blocks that all hops take together.
    pub fn cltv_expiry_delta(&self) -> u32 {
        self.hops.iter().fold(0u32, |sum, hop| {
            sum.saturating_add(hop.cltv_expiry_delta.to_u16().into())
        })
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let mut hops = Vec::with_capacity(bytes.len() / RouteHintHop::LEN);
        while !r.is_empty() {
            hops.push(RouteHintHop {
                node_id: Decode::decode(&mut r)?,
                short_channel_id: Decode::decode(&mut r)?,
                fee_base_msat: Decode::decode(&mut r)?,
                fee_proportional_millionths: Decode::decode(&mut r)?,
                cltv_expiry_delta: Decode::decode(&mut r)?,
            });
        }
        Ok(Self { hops })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.hops.len() * RouteHintHop::LEN);
        for hop in &self.hops {
            hop.node_id.encode(&mut out);
            hop.short_channel_id.encode(&mut out);
            hop.fee_base_msat.encode(&mut out);
            hop.fee_proportional_millionths.encode(&mut out);
            hop.cltv_expiry_delta.encode(&mut out);
        }
        out
    }
}

/// `f`: where to pay on chain if the payment fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Version 17.
    PubkeyHash(PubkeyHash),
    /// Version 18.
    ScriptHash(ScriptHash),
    /// Versions 0 to 16.
    Witness(WitnessProgram),
}

impl Fallback {
    /// The output script.
    pub fn to_script_pubkey(&self) -> ScriptBuf {
        match self {
            Self::PubkeyHash(hash) => ScriptBuf::new_p2pkh(hash),
            Self::ScriptHash(hash) => ScriptBuf::new_p2sh(hash),
            Self::Witness(program) => ScriptBuf::new_witness_program(program),
        }
    }

    /// The address on `network`, which is not in the field itself.
    pub fn to_address(&self, network: Network) -> Address {
        match self {
            Self::PubkeyHash(hash) => Address::p2pkh(*hash, NetworkKind::from(network)),
            Self::ScriptHash(hash) => Address::p2sh_from_hash(*hash, NetworkKind::from(network)),
            Self::Witness(program) => {
                Address::from_witness_program(*program, KnownHrp::from(network))
            }
        }
    }

    /// The address as a field, if the field has a form for it.
    pub fn from_script_pubkey(script: &ScriptBuf) -> Option<Self> {
        let bytes = script.as_bytes();
        if script.is_p2pkh() {
            return Some(Self::PubkeyHash(
                PubkeyHash::from_slice(bytes.get(3..23)?).ok()?,
            ));
        }
        if script.is_p2sh() {
            return Some(Self::ScriptHash(
                ScriptHash::from_slice(bytes.get(2..22)?).ok()?,
            ));
        }
        let version = script.witness_version()?;
        WitnessProgram::new(version, bytes.get(2..)?)
            .ok()
            .map(Self::Witness)
    }

    /// `None` for a version that is to be skipped, an error for invalid content.
    pub(crate) fn from_quintets(data: &[u8]) -> Option<Result<Self, InvalidFallback>> {
        let Some((version, program)) = data.split_first() else {
            return Some(Err(InvalidFallback));
        };
        let bytes = quintets::to_bytes(program);
        Some(match version {
            0..=16 => WitnessVersion::try_from(*version)
                .ok()
                .and_then(|version| WitnessProgram::new(version, &bytes).ok())
                .map(Self::Witness)
                .ok_or(InvalidFallback),
            17 => PubkeyHash::from_slice(&bytes)
                .map(Self::PubkeyHash)
                .map_err(|_| InvalidFallback),
            18 => ScriptHash::from_slice(&bytes)
                .map(Self::ScriptHash)
                .map_err(|_| InvalidFallback),
            // BOLT 11, a reader: skip unknown versions.
            _ => return None,
        })
    }

    pub(crate) fn to_quintets(&self) -> Vec<u8> {
        let (version, bytes) = match self {
            Self::PubkeyHash(hash) => (17, hash.as_byte_array().as_slice()),
            Self::ScriptHash(hash) => (18, hash.as_byte_array().as_slice()),
            Self::Witness(program) => (program.version().to_num(), program.program().as_bytes()),
        };
        let mut data = alloc::vec![version];
        data.extend(quintets::from_bytes(bytes));
        data
    }
}

/// An `f` field of a known version with content that the version can't have.
#[derive(Debug)]
pub(crate) struct InvalidFallback;
