//! BOLT 3, Commitment Transaction Construction, and the HTLC transactions that spend it.

use alloc::vec::Vec;
use core::{cmp::Ordering, fmt};

use bitcoin::{
    Amount, OutPoint, PubkeyHash, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime,
    secp256k1::{Message, PublicKey, ecdsa},
    sighash::{EcdsaSighashType, SighashCache},
    transaction::Version,
};
use fulmen_types::{FeeratePerKw, HtlcId, Msat, PaymentPreimage};

use crate::{
    ANCHOR_VALUE, ChannelParameters, CommitmentContent, CommitmentFormat, CommitmentHtlc,
    CommitmentKeys, HtlcKind, Secp, Side, anchors_value, commitment_fee, encode_commitment_number,
    htlc_is_trimmed, htlc_transaction_fee, scripts,
};

/// A commitment transaction without witness, and where everything is in it.
///
/// `to_local` and `to_remote` are BOLT 3's here: the broadcaster's delayed output, and the other side's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltCommitment {
    /// The transaction, without witness.
    pub tx: Transaction,
    /// Its id, which the witness does not change.
    pub txid: Txid,
    /// Whose commitment it is.
    pub broadcaster: Side,
    /// The keys of its scripts.
    pub keys: CommitmentKeys,
    /// The HTLCs that have an output, with its index, in the order of the outputs, which is also that
    /// of the `htlc_signature`s.
    pub htlcs: Vec<(CommitmentHtlc, u32)>,
    /// The HTLCs that are too small for an output.
    pub trimmed: Vec<CommitmentHtlc>,
    /// The broadcaster's delayed output.
    pub to_local_vout: Option<u32>,
    /// The other side's output.
    pub to_remote_vout: Option<u32>,
    /// The broadcaster's anchor.
    pub to_local_anchor_vout: Option<u32>,
    /// The other side's anchor.
    pub to_remote_anchor_vout: Option<u32>,
    /// What the miner gets, trimmed HTLCs and rounded-off msat included.
    pub fee: Amount,
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    revocation_key_hash: PubkeyHash,
    delayed_script_pubkey: ScriptBuf,
}

/// Which of a peer's signatures is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// The one on the commitment transaction.
    Commitment,
    /// There are more or fewer on HTLC transactions than HTLC outputs.
    HtlcCount {
        /// The number of HTLC outputs.
        expected: usize,
        /// The number of signatures.
        received: usize,
    },
    /// The one on this HTLC's transaction.
    Htlc {
        /// Who offered the HTLC.
        offered_by: Side,
        /// The HTLC.
        id: HtlcId,
    },
}

impl fmt::Display for SignatureFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commitment => {
                f.write_str("the signature is not valid for the commitment transaction")
            }
            Self::HtlcCount { expected, received } => write!(
                f,
                "num_htlcs is {received}, but the commitment has {expected} HTLC outputs"
            ),
            Self::Htlc { offered_by, id } => {
                let whose = match offered_by {
                    Side::Local => "our",
                    Side::Remote => "the peer's",
                };
                write!(f, "the htlc_signature of {whose} HTLC {id} is not valid")
            }
        }
    }
}

impl core::error::Error for SignatureFault {}

/// Builds the commitment of one side.
///
/// Total: where the opener can't pay the fee its output is left out, as BOLT 3 has it; that a channel
/// never gets there is the state machine's care.
pub fn build_commitment(
    secp: &Secp,
    params: &ChannelParameters,
    broadcaster: Side,
    per_commitment_point: &PublicKey,
    content: &CommitmentContent,
) -> BuiltCommitment {
    let keys = CommitmentKeys::derive(secp, params, broadcaster, per_commitment_point);
    build_commitment_with_keys(params, &keys, content)
}

/// [`build_commitment`] with the keys at hand: no elliptic-curve work.
pub fn build_commitment_with_keys(
    params: &ChannelParameters,
    keys: &CommitmentKeys,
    content: &CommitmentContent,
) -> BuiltCommitment {
    let owner = params.party(keys.broadcaster);
    let delayed = scripts::delayed(&keys.revocation_key, owner.to_self_delay, &keys.delayed_key);
    let delayed_script_pubkey = delayed.to_p2wsh();
    let revocation_key_hash = keys.revocation_key_hash();

    let (untrimmed, trimmed): (Vec<CommitmentHtlc>, Vec<CommitmentHtlc>) =
        content.htlcs.iter().copied().partition(|htlc| {
            !htlc_is_trimmed(
                params.format,
                content.feerate,
                owner.dust_limit,
                HtlcKind::on(keys.broadcaster, htlc.offered_by),
                htlc.amount,
            )
        });
    let mut outputs = main_outputs(
        params,
        keys,
        content,
        untrimmed.len(),
        &delayed_script_pubkey,
    );
    outputs.extend(untrimmed.into_iter().map(|htlc| {
        let script = scripts::htlc_with_hash(
            params.format,
            keys,
            &revocation_key_hash,
            HtlcKind::on(keys.broadcaster, htlc.offered_by),
            &htlc.payment_hash,
            htlc.cltv_expiry,
        );
        Output {
            role: Role::Htlc(htlc),
            txout: TxOut {
                value: htlc.amount.to_amount_floor(),
                script_pubkey: script.to_p2wsh(),
            },
        }
    }));
    outputs.sort_by(Output::order);

    let (lock_time, sequence) = encode_commitment_number(params, content.number);
    let mut built = BuiltCommitment {
        tx: Transaction {
            version: Version::TWO,
            lock_time,
            input: alloc::vec![TxIn {
                previous_output: params.funding.outpoint,
                script_sig: ScriptBuf::new(),
                sequence,
                witness: Witness::new(),
            }],
            output: Vec::with_capacity(outputs.len()),
        },
        txid: bitcoin::hashes::Hash::all_zeros(),
        broadcaster: keys.broadcaster,
        keys: *keys,
        htlcs: Vec::new(),
        trimmed,
        to_local_vout: None,
        to_remote_vout: None,
        to_local_anchor_vout: None,
        to_remote_anchor_vout: None,
        fee: Amount::ZERO,
        format: params.format,
        feerate: content.feerate,
        revocation_key_hash,
        delayed_script_pubkey,
    };
    for (vout, output) in (0u32..).zip(outputs) {
        match output.role {
            Role::ToLocal => built.to_local_vout = Some(vout),
            Role::ToRemote => built.to_remote_vout = Some(vout),
            Role::ToLocalAnchor => built.to_local_anchor_vout = Some(vout),
            Role::ToRemoteAnchor => built.to_remote_anchor_vout = Some(vout),
            Role::Htlc(htlc) => built.htlcs.push((htlc, vout)),
        }
        built.tx.output.push(output.txout);
    }
    let spent: u64 = built
        .tx
        .output
        .iter()
        .fold(0, |sum, output| sum.saturating_add(output.value.to_sat()));
    built.fee = Amount::from_sat(params.funding.value.to_sat().saturating_sub(spent));
    built.txid = built.tx.compute_txid();
    built
}

impl BuiltCommitment {
    /// What the signatures on the commitment transaction cover.
    pub fn sighash(&self, params: &ChannelParameters) -> Message {
        funding_sighash(params, &self.tx)
    }

    /// The output with this index, as an input names it.
    pub const fn outpoint(&self, vout: u32) -> OutPoint {
        OutPoint {
            txid: self.txid,
            vout,
        }
    }

    /// The output with this index.
    pub fn txout(&self, vout: u32) -> Option<&TxOut> {
        self.tx.output.get(usize::try_from(vout).ok()?)
    }

    /// How an HTLC looks on this commitment.
    pub fn htlc_kind(&self, htlc: &CommitmentHtlc) -> HtlcKind {
        HtlcKind::on(self.broadcaster, htlc.offered_by)
    }

    /// An HTLC output's witness script.
    pub fn htlc_witness_script(&self, htlc: &CommitmentHtlc) -> ScriptBuf {
        scripts::htlc_with_hash(
            self.format,
            &self.keys,
            &self.revocation_key_hash,
            self.htlc_kind(htlc),
            &htlc.payment_hash,
            htlc.cltv_expiry,
        )
    }

    /// The output of an HTLC's second stage.
    pub fn htlc_tx_output(&self, htlc: &CommitmentHtlc) -> TxOut {
        let fee = htlc_transaction_fee(self.format, self.feerate, self.htlc_kind(htlc));
        TxOut {
            value: Amount::from_sat(htlc.amount.to_sat_floor().saturating_sub(fee.to_sat())),
            script_pubkey: self.delayed_script_pubkey.clone(),
        }
    }

    /// The HTLC-timeout or HTLC-success transaction of an element of [`Self::htlcs`], without witness.
    pub fn htlc_tx(&self, htlc: &CommitmentHtlc, vout: u32) -> Transaction {
        let lock_time = match self.htlc_kind(htlc) {
            HtlcKind::Offered => LockTime::from_consensus(htlc.cltv_expiry.to_u32()),
            HtlcKind::Received => LockTime::ZERO,
        };
        Transaction {
            version: Version::TWO,
            lock_time,
            input: alloc::vec![TxIn {
                previous_output: self.outpoint(vout),
                script_sig: ScriptBuf::new(),
                sequence: htlc_tx_sequence(self.format),
                witness: Witness::new(),
            }],
            output: alloc::vec![self.htlc_tx_output(htlc)],
        }
    }

    /// What the signature of the side that did not broadcast covers on an HTLC transaction.
    pub fn htlc_sighash(&self, htlc: &CommitmentHtlc, vout: u32) -> Message {
        let tx = self.htlc_tx(htlc, vout);
        let sighash = SighashCache::new(&tx)
            .p2wsh_signature_hash(
                0,
                &self.htlc_witness_script(htlc),
                htlc.amount.to_amount_floor(),
                countersigner_sighash_type(self.format),
            )
            .expect("an HTLC transaction has an input 0");
        Message::from(sighash)
    }

    /// The sighashes of all HTLC transactions, in the order of the outputs.
    pub fn htlc_sighashes(&self) -> impl Iterator<Item = Message> + '_ {
        self.htlcs
            .iter()
            .map(|(htlc, vout)| self.htlc_sighash(htlc, *vout))
    }

    /// The witness of an HTLC transaction: both signatures, and the preimage for HTLC-success. The
    /// broadcaster signs with `SIGHASH_ALL`.
    pub fn htlc_witness(
        &self,
        htlc: &CommitmentHtlc,
        countersigner: &ecdsa::Signature,
        broadcaster: &ecdsa::Signature,
        preimage: Option<&PaymentPreimage>,
    ) -> Witness {
        htlc_tx_witness(
            self.format,
            self.htlc_witness_script(htlc),
            countersigner,
            broadcaster,
            preimage,
        )
    }

    /// Checks the signatures of the side that does not broadcast: on the commitment transaction and on
    /// every HTLC transaction, in the order of the outputs.
    pub fn verify(
        &self,
        secp: &Secp,
        params: &ChannelParameters,
        signature: &ecdsa::Signature,
        htlc_signatures: &[ecdsa::Signature],
    ) -> Result<(), SignatureFault> {
        let funding_key = &params.party(self.broadcaster.other()).keys.funding;
        secp.verify_ecdsa(&self.sighash(params), signature, funding_key)
            .map_err(|_| SignatureFault::Commitment)?;
        if htlc_signatures.len() != self.htlcs.len() {
            return Err(SignatureFault::HtlcCount {
                expected: self.htlcs.len(),
                received: htlc_signatures.len(),
            });
        }
        for ((htlc, vout), signature) in self.htlcs.iter().zip(htlc_signatures) {
            let sighash = self.htlc_sighash(htlc, *vout);
            secp.verify_ecdsa(&sighash, signature, &self.keys.countersigner_htlc_key)
                .map_err(|_| SignatureFault::Htlc {
                    offered_by: htlc.offered_by,
                    id: htlc.id,
                })?;
        }
        Ok(())
    }
}

/// The sighash type of the signatures that the side that does not broadcast gives for HTLC transactions.
pub(crate) const fn countersigner_sighash_type(format: CommitmentFormat) -> EcdsaSighashType {
    match format {
        CommitmentFormat::StaticRemoteKey => EcdsaSighashType::All,
        // BOLT 3: so that the broadcaster can add inputs that pay the fee.
        CommitmentFormat::AnchorsZeroFeeHtlc => EcdsaSighashType::SinglePlusAnyoneCanPay,
    }
}

/// The sequence of an HTLC transaction's input.
pub(crate) const fn htlc_tx_sequence(format: CommitmentFormat) -> Sequence {
    match format {
        CommitmentFormat::StaticRemoteKey => Sequence::ZERO,
        CommitmentFormat::AnchorsZeroFeeHtlc => Sequence(1),
    }
}

/// `0 <remotehtlcsig> <localhtlcsig> <payment_preimage or nothing>` and the script.
pub(crate) fn htlc_tx_witness(
    format: CommitmentFormat,
    witness_script: ScriptBuf,
    countersigner: &ecdsa::Signature,
    broadcaster: &ecdsa::Signature,
    preimage: Option<&PaymentPreimage>,
) -> Witness {
    let mut witness = Witness::new();
    witness.push([]);
    scripts::push_signature(
        &mut witness,
        countersigner,
        countersigner_sighash_type(format),
    );
    scripts::push_signature(&mut witness, broadcaster, EcdsaSighashType::All);
    match preimage {
        Some(preimage) => witness.push(preimage.as_bytes()),
        None => witness.push([]),
    }
    witness.push(witness_script);
    witness
}

/// What a `SIGHASH_ALL` signature of a transaction whose only input is the funding output covers.
pub(crate) fn funding_sighash(params: &ChannelParameters, tx: &Transaction) -> Message {
    let sighash = SighashCache::new(tx)
        .p2wsh_signature_hash(
            0,
            &params.funding_witness_script(),
            params.funding.value,
            EcdsaSighashType::All,
        )
        .expect("the transaction has an input 0");
    Message::from(sighash)
}

enum Role {
    ToLocal,
    ToRemote,
    ToLocalAnchor,
    ToRemoteAnchor,
    Htlc(CommitmentHtlc),
}

struct Output {
    txout: TxOut,
    role: Role,
}

impl Output {
    /// BOLT 3, Transaction Output Ordering: value, script, then cltv_expiry. Where all of them are
    /// equal the outputs are equal too and so are their HTLC transactions' amounts and locktimes; the
    /// HTLC id, which both sides know, still gives each output one HTLC.
    fn order(&self, other: &Self) -> Ordering {
        let tie = |output: &Self| match &output.role {
            Role::Htlc(htlc) => Some((htlc.cltv_expiry, htlc.id)),
            Role::ToLocal | Role::ToRemote | Role::ToLocalAnchor | Role::ToRemoteAnchor => None,
        };
        self.txout
            .value
            .cmp(&other.txout.value)
            .then_with(|| self.txout.script_pubkey.cmp(&other.txout.script_pubkey))
            .then_with(|| tie(self).cmp(&tie(other)))
    }
}

/// Steps 2 to 8 of the construction, for all but HTLC outputs.
fn main_outputs(
    params: &ChannelParameters,
    keys: &CommitmentKeys,
    content: &CommitmentContent,
    htlc_outputs: usize,
    delayed_script_pubkey: &ScriptBuf,
) -> Vec<Output> {
    let (broadcaster, other) = (keys.broadcaster, keys.broadcaster.other());
    let dust_limit = params.party(broadcaster).dust_limit;
    // A usize always fits: nothing holds more than 2^64 HTLCs.
    let base_fee = commitment_fee(params.format, content.feerate, htlc_outputs as u64);
    let costs =
        Msat::from_amount(base_fee).saturating_add(Msat::from_amount(anchors_value(params.format)));
    let value_of = |side: Side| {
        let balance = content.balance(side);
        let left = if side == params.opener {
            balance.saturating_sub(costs)
        } else {
            balance
        };
        Some(left.to_amount_floor()).filter(|value| *value >= dust_limit)
    };

    let (to_local, to_remote) = (value_of(broadcaster), value_of(other));
    let mut outputs = Vec::with_capacity(4 + htlc_outputs);
    if let Some(value) = to_local {
        outputs.push(Output {
            role: Role::ToLocal,
            txout: TxOut {
                value,
                script_pubkey: delayed_script_pubkey.clone(),
            },
        });
    }
    if let Some(value) = to_remote {
        let remote_key = &params.party(other).keys.payment_basepoint;
        outputs.push(Output {
            role: Role::ToRemote,
            txout: TxOut {
                value,
                script_pubkey: scripts::to_remote(params.format, remote_key),
            },
        });
    }
    match params.format {
        CommitmentFormat::StaticRemoteKey => {}
        CommitmentFormat::AnchorsZeroFeeHtlc => {
            let anchor = |role: Role, side: Side| Output {
                role,
                txout: TxOut {
                    value: ANCHOR_VALUE,
                    script_pubkey: scripts::anchor(&params.party(side).keys.funding).to_p2wsh(),
                },
            };
            // BOLT 3: an anchor exists if its side's output or any HTLC output does.
            if to_local.is_some() || htlc_outputs > 0 {
                outputs.push(anchor(Role::ToLocalAnchor, broadcaster));
            }
            if to_remote.is_some() || htlc_outputs > 0 {
                outputs.push(anchor(Role::ToRemoteAnchor, other));
            }
        }
    }
    outputs
}
