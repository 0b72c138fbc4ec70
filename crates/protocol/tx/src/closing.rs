//! BOLT 3, Legacy Closing Transaction: what `closing_signed` agrees on.

use alloc::vec::Vec;
use core::fmt;

use bitcoin::{
    Amount, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
    secp256k1::{Message, ecdsa},
    transaction::Version,
};
use fulmen_types::{
    Msat,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::{ChannelParameters, MAX_SIGNATURE_WEIGHT, Secp, Side, commitment::funding_sighash};

/// What a closing transaction divides, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingContent {
    /// Our balance, before the fee.
    pub to_local: Msat,
    /// The peer's balance, before the fee.
    pub to_remote: Msat,
    /// Our `shutdown` script.
    pub local_script: ScriptBuf,
    /// The peer's `shutdown` script.
    pub remote_script: ScriptBuf,
    /// `fee_satoshis`, which the opener pays.
    pub fee: Amount,
}

/// Which outputs the closing transaction has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosingOutputs {
    /// One for each side.
    Both,
    /// That of one side alone; the other's is too small or was given up.
    Only(Side),
}

/// Why there is no such closing transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosingError {
    /// The opener can't pay the fee.
    FeeAboveBalance {
        /// What the opener has.
        balance: Amount,
        /// The fee.
        fee: Amount,
    },
    /// Every output is below the dust limit.
    NoOutputs,
}

impl fmt::Display for ClosingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FeeAboveBalance { balance, fee } => write!(
                f,
                "fee_satoshis is {}, but the opener has only {} sat",
                fee.to_sat(),
                balance.to_sat()
            ),
            Self::NoOutputs => f.write_str("every output would be below the dust limit"),
        }
    }
}

impl core::error::Error for ClosingError {}

/// A closing transaction without witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltClosing {
    /// The transaction, without witness.
    pub tx: Transaction,
    /// Which outputs it has.
    pub outputs: ClosingOutputs,
}

impl ClosingContent {
    /// The value of one side's output, in whole satoshis, the opener's less the fee.
    pub fn value_of(&self, params: &ChannelParameters, side: Side) -> Result<Amount, ClosingError> {
        let balance = match side {
            Side::Local => self.to_local,
            Side::Remote => self.to_remote,
        }
        .to_amount_floor();
        if side != params.opener {
            return Ok(balance);
        }
        balance
            .checked_sub(self.fee)
            .ok_or(ClosingError::FeeAboveBalance {
                balance,
                fee: self.fee,
            })
    }

    /// The outputs that are not below `dust_limit`: the signer removes the others (BOLT 3), by its own
    /// `dust_limit_satoshis`.
    pub fn outputs_above(
        &self,
        params: &ChannelParameters,
        dust_limit: Amount,
    ) -> Result<ClosingOutputs, ClosingError> {
        let local = self.value_of(params, Side::Local)? >= dust_limit;
        let remote = self.value_of(params, Side::Remote)? >= dust_limit;
        match (local, remote) {
            (true, true) => Ok(ClosingOutputs::Both),
            (true, false) => Ok(ClosingOutputs::Only(Side::Local)),
            (false, true) => Ok(ClosingOutputs::Only(Side::Remote)),
            (false, false) => Err(ClosingError::NoOutputs),
        }
    }

    /// The transaction with these outputs. A peer's signature tells which ones it means.
    pub fn build(
        &self,
        params: &ChannelParameters,
        outputs: ClosingOutputs,
    ) -> Result<BuiltClosing, ClosingError> {
        let (local, remote) = (
            self.value_of(params, Side::Local)?,
            self.value_of(params, Side::Remote)?,
        );
        let local = TxOut {
            value: local,
            script_pubkey: self.local_script.clone(),
        };
        let remote = TxOut {
            value: remote,
            script_pubkey: self.remote_script.clone(),
        };
        let mut output = match outputs {
            ClosingOutputs::Both => alloc::vec![local, remote],
            ClosingOutputs::Only(Side::Local) => alloc::vec![local],
            ClosingOutputs::Only(Side::Remote) => alloc::vec![remote],
        };
        output.sort_by(|a, b| (a.value, &a.script_pubkey).cmp(&(b.value, &b.script_pubkey)));
        Ok(BuiltClosing {
            tx: Transaction {
                version: Version::TWO,
                lock_time: LockTime::ZERO,
                input: alloc::vec![TxIn {
                    previous_output: params.funding.outpoint,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::MAX,
                    witness: Witness::new(),
                }],
                output,
            },
            outputs,
        })
    }
}

impl BuiltClosing {
    /// What both signatures cover.
    pub fn sighash(&self, params: &ChannelParameters) -> Message {
        funding_sighash(params, &self.tx)
    }

    /// Whether this is the peer's signature on it.
    pub fn is_signed_by_peer(
        &self,
        secp: &Secp,
        params: &ChannelParameters,
        signature: &ecdsa::Signature,
    ) -> bool {
        let key = &params.remote.keys.funding;
        secp.verify_ecdsa(&self.sighash(params), signature, key)
            .is_ok()
    }

    /// The transaction with both signatures.
    pub fn signed(
        &self,
        params: &ChannelParameters,
        local: &ecdsa::Signature,
        remote: &ecdsa::Signature,
    ) -> Transaction {
        let mut tx = self.tx.clone();
        if let Some(input) = tx.input.first_mut() {
            input.witness = params.funding_witness(local, remote);
        }
        tx
    }
}

/// The weight of a closing transaction with an output for each of these scripts, its signatures at
/// their longest.
pub fn closing_weight<'a>(scripts: impl IntoIterator<Item = &'a Script>) -> u64 {
    // Version, locktime, both counts; the input; value, length and script of each output.
    let outputs: u64 = scripts
        .into_iter()
        .map(|script| 8 + 1 + script.len() as u64)
        .sum();
    let bytes = 4 + 4 + 1 + 1 + 41 + outputs;
    // Marker and flag; item count, empty item, two signatures, the 71-byte script behind its length.
    4 * bytes + 2 + (1 + 1 + 2 * MAX_SIGNATURE_WEIGHT + 1 + 71)
}

impl Encode for ClosingContent {
    fn encode(&self, out: &mut Vec<u8>) {
        self.to_local.encode(out);
        self.to_remote.encode(out);
        self.local_script.encode(out);
        self.remote_script.encode(out);
        self.fee.encode(out);
    }
}

impl Decode for ClosingContent {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            to_local: Decode::decode(r)?,
            to_remote: Decode::decode(r)?,
            local_script: Decode::decode(r)?,
            remote_script: Decode::decode(r)?,
            fee: Decode::decode(r)?,
        })
    }
}

impl Encode for ClosingOutputs {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Both => 0,
            Self::Only(Side::Local) => 1,
            Self::Only(Side::Remote) => 2,
        });
    }
}

impl Decode for ClosingOutputs {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(Self::Both),
            1 => Ok(Self::Only(Side::Local)),
            2 => Ok(Self::Only(Side::Remote)),
            _ => Err(DecodeError::InvalidValue("unknown set of closing outputs")),
        }
    }
}
