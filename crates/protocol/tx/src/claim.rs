//! What it takes to spend each output that a force-close leaves (BOLT 5).

use alloc::vec::Vec;

use bitcoin::{
    Amount, CompressedPublicKey, ScriptBuf, Sequence, Transaction, TxOut, Weight, Witness,
    secp256k1::{Message, PublicKey, SecretKey, ecdsa},
    sighash::{EcdsaSighashType, SighashCache},
};
use fulmen_types::{
    CltvExpiry, FeeratePerKw, PaymentPreimage,
    codec::{Decode, DecodeError, Encode, Reader},
};

use crate::{
    ChannelParameters, CommitmentFormat, CommitmentHtlc, CommitmentKeys, HtlcKind,
    MAX_SIGNATURE_WEIGHT, Secp, Side,
    commitment::{htlc_tx_sequence, htlc_tx_witness},
    htlc_transaction_fee, scripts,
};

/// An output that is ours to spend, and everything but our secrets that its witness needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// Our balance on our own commitment, after `to_self_delay`.
    HolderToLocal {
        /// Our point for the commitment.
        per_commitment_point: PublicKey,
    },
    /// The first stage of an HTLC that we offered, on our own commitment: the HTLC-timeout
    /// transaction's input.
    HolderHtlcTimeout {
        /// Our point for the commitment.
        per_commitment_point: PublicKey,
        /// The HTLC.
        htlc: CommitmentHtlc,
        /// The commitment's feerate.
        feerate: FeeratePerKw,
        /// The peer's signature on the HTLC transaction.
        counterparty_signature: ecdsa::Signature,
    },
    /// The first stage of an HTLC that we received, on our own commitment: the HTLC-success
    /// transaction's input.
    HolderHtlcSuccess {
        /// Our point for the commitment.
        per_commitment_point: PublicKey,
        /// The HTLC.
        htlc: CommitmentHtlc,
        /// The commitment's feerate.
        feerate: FeeratePerKw,
        /// The peer's signature on the HTLC transaction.
        counterparty_signature: ecdsa::Signature,
        /// The preimage.
        preimage: PaymentPreimage,
    },
    /// The output of our HTLC-timeout or HTLC-success transaction, after `to_self_delay`.
    HolderSecondStage {
        /// Our point for the commitment.
        per_commitment_point: PublicKey,
    },
    /// An HTLC that the peer offered, on its commitment, by the preimage.
    CounterpartyHtlcPreimage {
        /// The peer's point for the commitment.
        per_commitment_point: PublicKey,
        /// The HTLC.
        htlc: CommitmentHtlc,
        /// The preimage.
        preimage: PaymentPreimage,
    },
    /// An HTLC that we offered, on the peer's commitment, once expired.
    CounterpartyHtlcTimeout {
        /// The peer's point for the commitment.
        per_commitment_point: PublicKey,
        /// The HTLC.
        htlc: CommitmentHtlc,
    },
    /// Our balance on any commitment of the peer's: `to_remote`, to our raw payment basepoint.
    StaticRemote,
    /// The peer's balance on a revoked commitment.
    RevokedToLocal {
        /// The secret that the peer revoked it with.
        per_commitment_secret: SecretKey,
    },
    /// An HTLC output of a revoked commitment.
    RevokedHtlc {
        /// The secret that the peer revoked it with.
        per_commitment_secret: SecretKey,
        /// The HTLC.
        htlc: CommitmentHtlc,
    },
    /// The output of an HTLC transaction that the peer made from a revoked commitment.
    RevokedSecondStage {
        /// The secret that the peer revoked it with.
        per_commitment_secret: SecretKey,
    },
    /// Our anchor, on either side's commitment.
    Anchor,
}

/// What a claim asks of its transaction's locktime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimLockTime {
    /// Nothing.
    Any,
    /// The script checks it: at least this height.
    AtLeast(CltvExpiry),
    /// The peer's signature covers it: exactly this, zero included.
    Exactly(CltvExpiry),
}

impl ClaimKind {
    /// The sequence of the claiming input: exactly this.
    pub fn sequence(&self, params: &ChannelParameters) -> Sequence {
        let csv_one_with_anchors = match params.format {
            CommitmentFormat::StaticRemoteKey => Sequence::ENABLE_RBF_NO_LOCKTIME,
            CommitmentFormat::AnchorsZeroFeeHtlc => Sequence::from_height(1),
        };
        match self {
            Self::HolderToLocal { .. } | Self::HolderSecondStage { .. } => {
                Sequence::from_height(params.local.to_self_delay)
            }
            Self::HolderHtlcTimeout { .. } | Self::HolderHtlcSuccess { .. } => {
                htlc_tx_sequence(params.format)
            }
            Self::CounterpartyHtlcPreimage { .. }
            | Self::CounterpartyHtlcTimeout { .. }
            | Self::StaticRemote => csv_one_with_anchors,
            Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. }
            | Self::Anchor => Sequence::ENABLE_RBF_NO_LOCKTIME,
        }
    }

    /// What the claiming transaction's locktime must be. Its version must be 2 always.
    pub const fn lock_time(&self) -> ClaimLockTime {
        match self {
            Self::HolderHtlcTimeout { htlc, .. } => ClaimLockTime::Exactly(htlc.cltv_expiry),
            Self::HolderHtlcSuccess { .. } => ClaimLockTime::Exactly(CltvExpiry::new(0)),
            Self::CounterpartyHtlcTimeout { htlc, .. } => ClaimLockTime::AtLeast(htlc.cltv_expiry),
            Self::HolderToLocal { .. }
            | Self::HolderSecondStage { .. }
            | Self::CounterpartyHtlcPreimage { .. }
            | Self::StaticRemote
            | Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. }
            | Self::Anchor => ClaimLockTime::Any,
        }
    }

    /// How many blocks the output must be deep before the claim can be in the next one: 0 for at once,
    /// unconfirmed parents included.
    pub fn confirmations_needed(&self, params: &ChannelParameters) -> u16 {
        match self {
            Self::HolderToLocal { .. } | Self::HolderSecondStage { .. } => {
                params.local.to_self_delay
            }
            Self::HolderHtlcTimeout { .. }
            | Self::HolderHtlcSuccess { .. }
            | Self::CounterpartyHtlcPreimage { .. }
            | Self::CounterpartyHtlcTimeout { .. }
            | Self::StaticRemote => match params.format {
                CommitmentFormat::StaticRemoteKey => 0,
                CommitmentFormat::AnchorsZeroFeeHtlc => 1,
            },
            Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. }
            | Self::Anchor => 0,
        }
    }

    /// The greatest weight of the witness, its item count included: exact but for the length of
    /// signatures.
    pub fn max_witness_weight(&self, params: &ChannelParameters) -> Weight {
        // The length of a script does not depend on the keys in it.
        let any_key = params.local.keys.funding;
        let keys = CommitmentKeys {
            broadcaster: self.broadcaster(),
            per_commitment_point: any_key,
            revocation_key: any_key,
            delayed_key: any_key,
            broadcaster_htlc_key: any_key,
            countersigner_htlc_key: any_key,
        };
        let script = match self.spent_script(params, &keys) {
            SpentScript::WitnessScript(script) => script.len(),
            SpentScript::Wpkh => 33,
        };
        // A length below 253 takes one byte. No script here is longer.
        let script = 1 + script as u64;
        let items = match self {
            Self::HolderToLocal { .. }
            | Self::HolderSecondStage { .. }
            | Self::CounterpartyHtlcTimeout { .. } => MAX_SIGNATURE_WEIGHT + 1,
            Self::RevokedToLocal { .. } | Self::RevokedSecondStage { .. } => {
                MAX_SIGNATURE_WEIGHT + 2
            }
            Self::HolderHtlcTimeout { .. } => 1 + 2 * MAX_SIGNATURE_WEIGHT + 1,
            Self::HolderHtlcSuccess { .. } => 1 + 2 * MAX_SIGNATURE_WEIGHT + 33,
            Self::CounterpartyHtlcPreimage { .. } => MAX_SIGNATURE_WEIGHT + 33,
            Self::RevokedHtlc { .. } => MAX_SIGNATURE_WEIGHT + 34,
            Self::StaticRemote | Self::Anchor => MAX_SIGNATURE_WEIGHT,
        };
        Weight::from_wu(1 + items + script)
    }

    /// The greatest weight that this claim adds to a transaction as an input.
    pub fn max_input_weight(&self, params: &ChannelParameters) -> Weight {
        Weight::from_non_witness_data_size(41) + self.max_witness_weight(params)
    }

    /// The output that must have the same index as the claiming input, because the peer's signature
    /// covers it: the output of an HTLC transaction. With `option_static_remotekey` alone the
    /// transaction can't have any other input or output.
    pub fn paired_output(&self, secp: &Secp, params: &ChannelParameters) -> Option<TxOut> {
        let (point, htlc, feerate) = match self {
            Self::HolderHtlcTimeout {
                per_commitment_point,
                htlc,
                feerate,
                ..
            }
            | Self::HolderHtlcSuccess {
                per_commitment_point,
                htlc,
                feerate,
                ..
            } => (per_commitment_point, htlc, feerate),
            Self::HolderToLocal { .. }
            | Self::HolderSecondStage { .. }
            | Self::CounterpartyHtlcPreimage { .. }
            | Self::CounterpartyHtlcTimeout { .. }
            | Self::StaticRemote
            | Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. }
            | Self::Anchor => return None,
        };
        let keys = CommitmentKeys::derive(secp, params, Side::Local, point);
        let kind = HtlcKind::on(Side::Local, htlc.offered_by);
        let fee = htlc_transaction_fee(params.format, *feerate, kind);
        let script = scripts::delayed(
            &keys.revocation_key,
            params.local.to_self_delay,
            &keys.delayed_key,
        );
        Some(TxOut {
            value: Amount::from_sat(htlc.amount.to_sat_floor().saturating_sub(fee.to_sat())),
            script_pubkey: script.to_p2wsh(),
        })
    }

    /// The HTLC that the output stands for, if it is one's.
    pub const fn htlc(&self) -> Option<&CommitmentHtlc> {
        match self {
            Self::HolderHtlcTimeout { htlc, .. }
            | Self::HolderHtlcSuccess { htlc, .. }
            | Self::CounterpartyHtlcPreimage { htlc, .. }
            | Self::CounterpartyHtlcTimeout { htlc, .. }
            | Self::RevokedHtlc { htlc, .. } => Some(htlc),
            Self::HolderToLocal { .. }
            | Self::HolderSecondStage { .. }
            | Self::StaticRemote
            | Self::RevokedToLocal { .. }
            | Self::RevokedSecondStage { .. }
            | Self::Anchor => None,
        }
    }

    /// Derives the script and the key. For many claims on one commitment use [`ClaimPreparer`].
    pub fn prepare(&self, secp: &Secp, params: &ChannelParameters) -> PreparedClaim<'_> {
        ClaimPreparer::new(secp, params).prepare(self)
    }

    /// Whose commitment the output descends from. An anchor of ours has the same script on both.
    const fn broadcaster(&self) -> Side {
        match self {
            Self::HolderToLocal { .. }
            | Self::HolderHtlcTimeout { .. }
            | Self::HolderHtlcSuccess { .. }
            | Self::HolderSecondStage { .. }
            | Self::Anchor => Side::Local,
            Self::CounterpartyHtlcPreimage { .. }
            | Self::CounterpartyHtlcTimeout { .. }
            | Self::StaticRemote
            | Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. } => Side::Remote,
        }
    }

    fn source(&self) -> Source {
        match self {
            Self::HolderToLocal {
                per_commitment_point,
            }
            | Self::HolderHtlcTimeout {
                per_commitment_point,
                ..
            }
            | Self::HolderHtlcSuccess {
                per_commitment_point,
                ..
            }
            | Self::HolderSecondStage {
                per_commitment_point,
            }
            | Self::CounterpartyHtlcPreimage {
                per_commitment_point,
                ..
            }
            | Self::CounterpartyHtlcTimeout {
                per_commitment_point,
                ..
            } => Source::Point(self.broadcaster(), *per_commitment_point),
            Self::RevokedToLocal {
                per_commitment_secret,
            }
            | Self::RevokedHtlc {
                per_commitment_secret,
                ..
            }
            | Self::RevokedSecondStage {
                per_commitment_secret,
            } => Source::Secret(*per_commitment_secret),
            Self::StaticRemote | Self::Anchor => Source::None,
        }
    }

    fn spent_script(&self, params: &ChannelParameters, keys: &CommitmentKeys) -> SpentScript {
        let delayed = |side: Side| {
            let delay = params.party(side).to_self_delay;
            scripts::delayed(&keys.revocation_key, delay, &keys.delayed_key)
        };
        let htlc_script = |htlc: &CommitmentHtlc| {
            scripts::htlc(
                params.format,
                keys,
                HtlcKind::on(keys.broadcaster, htlc.offered_by),
                &htlc.payment_hash,
                htlc.cltv_expiry,
            )
        };
        let script = match self {
            Self::HolderToLocal { .. } | Self::HolderSecondStage { .. } => delayed(Side::Local),
            Self::RevokedToLocal { .. } | Self::RevokedSecondStage { .. } => delayed(Side::Remote),
            Self::HolderHtlcTimeout { htlc, .. }
            | Self::HolderHtlcSuccess { htlc, .. }
            | Self::CounterpartyHtlcPreimage { htlc, .. }
            | Self::CounterpartyHtlcTimeout { htlc, .. }
            | Self::RevokedHtlc { htlc, .. } => htlc_script(htlc),
            Self::Anchor => scripts::anchor(&params.local.keys.funding),
            Self::StaticRemote => {
                let key = &params.local.keys.payment_basepoint;
                match scripts::to_remote_witness_script(params.format, key) {
                    Some(script) => script,
                    None => return SpentScript::Wpkh,
                }
            }
        };
        SpentScript::WitnessScript(script)
    }

    /// The public key whose signature the witness needs from us.
    fn signing_key(&self, params: &ChannelParameters, keys: &CommitmentKeys) -> PublicKey {
        match self {
            Self::HolderToLocal { .. } | Self::HolderSecondStage { .. } => keys.delayed_key,
            Self::HolderHtlcTimeout { .. } | Self::HolderHtlcSuccess { .. } => {
                keys.broadcaster_htlc_key
            }
            Self::CounterpartyHtlcPreimage { .. } | Self::CounterpartyHtlcTimeout { .. } => {
                keys.countersigner_htlc_key
            }
            Self::StaticRemote => params.local.keys.payment_basepoint,
            Self::RevokedToLocal { .. }
            | Self::RevokedHtlc { .. }
            | Self::RevokedSecondStage { .. } => keys.revocation_key,
            Self::Anchor => params.local.keys.funding,
        }
    }
}

/// Derives scripts and keys of claims, the keys of each commitment once as long as its claims come one
/// after another.
#[derive(Debug)]
pub struct ClaimPreparer<'a> {
    secp: &'a Secp,
    params: &'a ChannelParameters,
    last: Option<(Source, CommitmentKeys)>,
}

impl<'a> ClaimPreparer<'a> {
    /// For the claims of one channel.
    pub const fn new(secp: &'a Secp, params: &'a ChannelParameters) -> Self {
        Self {
            secp,
            params,
            last: None,
        }
    }

    /// The script and the key of one claim.
    pub fn prepare<'c>(&mut self, kind: &'c ClaimKind) -> PreparedClaim<'c> {
        let keys = self.keys(kind);
        PreparedClaim {
            kind,
            format: self.params.format,
            script: kind.spent_script(self.params, &keys),
            public_key: kind.signing_key(self.params, &keys),
        }
    }

    fn keys(&mut self, kind: &ClaimKind) -> CommitmentKeys {
        let source = kind.source();
        if let Some((last, keys)) = &self.last
            && *last == source
        {
            return *keys;
        }
        let (side, point) = match &source {
            Source::Point(side, point) => (*side, *point),
            Source::Secret(secret) => (Side::Remote, secret.public_key(self.secp)),
            // No key of such a claim depends on a point.
            Source::None => (kind.broadcaster(), self.params.local.keys.funding),
        };
        let keys = CommitmentKeys::derive(self.secp, self.params, side, &point);
        self.last = Some((source, keys));
        keys
    }
}

/// A claim with its script: gives what to sign, and the witness for the signature.
#[derive(Clone, Debug)]
pub struct PreparedClaim<'a> {
    kind: &'a ClaimKind,
    format: CommitmentFormat,
    script: SpentScript,
    public_key: PublicKey,
}

impl PreparedClaim<'_> {
    /// The public key whose signature is needed.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The script that the spent output must have.
    pub fn script_pubkey(&self) -> ScriptBuf {
        match &self.script {
            SpentScript::WitnessScript(script) => script.to_p2wsh(),
            SpentScript::Wpkh => {
                ScriptBuf::new_p2wpkh(&CompressedPublicKey(self.public_key).wpubkey_hash())
            }
        }
    }

    /// What our signature covers, always with `SIGHASH_ALL`; `None` when there is no such input. The
    /// cache is of the whole claiming transaction, shared by its inputs.
    pub fn sighash(
        &self,
        cache: &mut SighashCache<&Transaction>,
        input: usize,
        value: Amount,
    ) -> Option<Message> {
        let all = EcdsaSighashType::All;
        match &self.script {
            SpentScript::WitnessScript(script) => cache
                .p2wsh_signature_hash(input, script, value, all)
                .ok()
                .map(Message::from),
            SpentScript::Wpkh => cache
                .p2wpkh_signature_hash(input, &self.script_pubkey(), value, all)
                .ok()
                .map(Message::from),
        }
    }

    /// The witness with our signature.
    pub fn witness(&self, signature: &ecdsa::Signature) -> Witness {
        let script = match &self.script {
            SpentScript::WitnessScript(script) => script.clone(),
            SpentScript::Wpkh => {
                let mut witness = Witness::new();
                scripts::push_signature(&mut witness, signature, EcdsaSighashType::All);
                witness.push(self.public_key.serialize());
                return witness;
            }
        };
        let signed_with = |item: Option<&[u8]>, script: ScriptBuf| {
            let mut witness = Witness::new();
            scripts::push_signature(&mut witness, signature, EcdsaSighashType::All);
            if let Some(item) = item {
                witness.push(item);
            }
            witness.push(script);
            witness
        };
        match self.kind {
            ClaimKind::HolderToLocal { .. }
            | ClaimKind::HolderSecondStage { .. }
            | ClaimKind::CounterpartyHtlcTimeout { .. } => signed_with(Some(&[]), script),
            ClaimKind::RevokedToLocal { .. } | ClaimKind::RevokedSecondStage { .. } => {
                signed_with(Some(&[1]), script)
            }
            ClaimKind::CounterpartyHtlcPreimage { preimage, .. } => {
                signed_with(Some(preimage.as_bytes()), script)
            }
            ClaimKind::RevokedHtlc { .. } => {
                signed_with(Some(&self.public_key.serialize()), script)
            }
            ClaimKind::StaticRemote | ClaimKind::Anchor => signed_with(None, script),
            ClaimKind::HolderHtlcTimeout {
                counterparty_signature,
                ..
            } => htlc_tx_witness(self.format, script, counterparty_signature, signature, None),
            ClaimKind::HolderHtlcSuccess {
                counterparty_signature,
                preimage,
                ..
            } => htlc_tx_witness(
                self.format,
                script,
                counterparty_signature,
                signature,
                Some(preimage),
            ),
        }
    }
}

/// What a commitment's keys are derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Point(Side, PublicKey),
    Secret(SecretKey),
    None,
}

#[derive(Clone, Debug)]
enum SpentScript {
    WitnessScript(ScriptBuf),
    Wpkh,
}

impl Encode for ClaimKind {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::HolderToLocal {
                per_commitment_point,
            } => {
                out.push(0);
                per_commitment_point.encode(out);
            }
            Self::HolderHtlcTimeout {
                per_commitment_point,
                htlc,
                feerate,
                counterparty_signature,
            } => {
                out.push(1);
                per_commitment_point.encode(out);
                htlc.encode(out);
                feerate.encode(out);
                counterparty_signature.encode(out);
            }
            Self::HolderHtlcSuccess {
                per_commitment_point,
                htlc,
                feerate,
                counterparty_signature,
                preimage,
            } => {
                out.push(2);
                per_commitment_point.encode(out);
                htlc.encode(out);
                feerate.encode(out);
                counterparty_signature.encode(out);
                preimage.encode(out);
            }
            Self::HolderSecondStage {
                per_commitment_point,
            } => {
                out.push(3);
                per_commitment_point.encode(out);
            }
            Self::CounterpartyHtlcPreimage {
                per_commitment_point,
                htlc,
                preimage,
            } => {
                out.push(4);
                per_commitment_point.encode(out);
                htlc.encode(out);
                preimage.encode(out);
            }
            Self::CounterpartyHtlcTimeout {
                per_commitment_point,
                htlc,
            } => {
                out.push(5);
                per_commitment_point.encode(out);
                htlc.encode(out);
            }
            Self::StaticRemote => out.push(6),
            Self::RevokedToLocal {
                per_commitment_secret,
            } => {
                out.push(7);
                out.extend_from_slice(&per_commitment_secret.secret_bytes());
            }
            Self::RevokedHtlc {
                per_commitment_secret,
                htlc,
            } => {
                out.push(8);
                out.extend_from_slice(&per_commitment_secret.secret_bytes());
                htlc.encode(out);
            }
            Self::RevokedSecondStage {
                per_commitment_secret,
            } => {
                out.push(9);
                out.extend_from_slice(&per_commitment_secret.secret_bytes());
            }
            Self::Anchor => out.push(10),
        }
    }
}

impl Decode for ClaimKind {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::decode(r)? {
            0 => Self::HolderToLocal {
                per_commitment_point: Decode::decode(r)?,
            },
            1 => Self::HolderHtlcTimeout {
                per_commitment_point: Decode::decode(r)?,
                htlc: Decode::decode(r)?,
                feerate: Decode::decode(r)?,
                counterparty_signature: Decode::decode(r)?,
            },
            2 => Self::HolderHtlcSuccess {
                per_commitment_point: Decode::decode(r)?,
                htlc: Decode::decode(r)?,
                feerate: Decode::decode(r)?,
                counterparty_signature: Decode::decode(r)?,
                preimage: Decode::decode(r)?,
            },
            3 => Self::HolderSecondStage {
                per_commitment_point: Decode::decode(r)?,
            },
            4 => Self::CounterpartyHtlcPreimage {
                per_commitment_point: Decode::decode(r)?,
                htlc: Decode::decode(r)?,
                preimage: Decode::decode(r)?,
            },
            5 => Self::CounterpartyHtlcTimeout {
                per_commitment_point: Decode::decode(r)?,
                htlc: Decode::decode(r)?,
            },
            6 => Self::StaticRemote,
            7 => Self::RevokedToLocal {
                per_commitment_secret: decode_secret(r)?,
            },
            8 => Self::RevokedHtlc {
                per_commitment_secret: decode_secret(r)?,
                htlc: Decode::decode(r)?,
            },
            9 => Self::RevokedSecondStage {
                per_commitment_secret: decode_secret(r)?,
            },
            10 => Self::Anchor,
            _ => return Err(DecodeError::InvalidValue("unknown kind of claim")),
        })
    }
}

fn decode_secret(r: &mut Reader<'_>) -> Result<SecretKey, DecodeError> {
    SecretKey::from_slice(r.take(32)?).map_err(|_| DecodeError::InvalidValue("not a secret key"))
}
