//! The scripts of BOLT 3 and the witnesses that open them.

use bitcoin::{
    PubkeyHash, ScriptBuf, Witness,
    hashes::{Hash, ripemd160},
    opcodes::all as op,
    script::Builder,
    secp256k1::{PublicKey, ecdsa},
    sighash::EcdsaSighashType,
};
use fulmen_types::{CltvExpiry, PaymentHash};

use crate::{CommitmentFormat, CommitmentKeys, HtlcKind};

/// `2 <pubkey1> <pubkey2> 2 OP_CHECKMULTISIG`, the lesser key first.
pub fn funding(one: &PublicKey, other: &PublicKey) -> ScriptBuf {
    let (one, other) = (one.serialize(), other.serialize());
    Builder::new()
        .push_int(2)
        .push_slice(one.min(other))
        .push_slice(one.max(other))
        .push_int(2)
        .push_opcode(op::OP_CHECKMULTISIG)
        .into_script()
}

/// `0 <signature_for_pubkey1> <signature_for_pubkey2>` and the script, each signature with its key.
pub fn funding_witness(
    one: (&PublicKey, &ecdsa::Signature),
    other: (&PublicKey, &ecdsa::Signature),
) -> Witness {
    let (first, second) = if one.0.serialize() <= other.0.serialize() {
        (one, other)
    } else {
        (other, one)
    };
    let mut witness = Witness::new();
    witness.push([]);
    push_signature(&mut witness, first.1, EcdsaSighashType::All);
    push_signature(&mut witness, second.1, EcdsaSighashType::All);
    witness.push(funding(one.0, other.0));
    witness
}

/// The `to_local` output and the output of every HTLC transaction: the revocation key at once, the
/// broadcaster's after `to_self_delay`.
pub fn delayed(
    revocation_key: &PublicKey,
    to_self_delay: u16,
    delayed_key: &PublicKey,
) -> ScriptBuf {
    Builder::new()
        .push_opcode(op::OP_IF)
        .push_slice(revocation_key.serialize())
        .push_opcode(op::OP_ELSE)
        .push_int(i64::from(to_self_delay))
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_DROP)
        .push_slice(delayed_key.serialize())
        .push_opcode(op::OP_ENDIF)
        .push_opcode(op::OP_CHECKSIG)
        .into_script()
}

/// The `to_remote` output's witness script, where it has one: `<remotepubkey> OP_CHECKSIGVERIFY 1
/// OP_CHECKSEQUENCEVERIFY` with anchors; without them the output is P2WPKH.
pub fn to_remote_witness_script(
    format: CommitmentFormat,
    remote_key: &PublicKey,
) -> Option<ScriptBuf> {
    match format {
        CommitmentFormat::StaticRemoteKey => None,
        CommitmentFormat::AnchorsZeroFeeHtlc => Some(
            Builder::new()
                .push_slice(remote_key.serialize())
                .push_opcode(op::OP_CHECKSIGVERIFY)
                .push_int(1)
                .push_opcode(op::OP_CSV)
                .into_script(),
        ),
    }
}

/// The `to_remote` output's script.
pub fn to_remote(format: CommitmentFormat, remote_key: &PublicKey) -> ScriptBuf {
    match to_remote_witness_script(format, remote_key) {
        Some(script) => script.to_p2wsh(),
        None => ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(*remote_key).wpubkey_hash()),
    }
}

/// An anchor: the side with this funding key at once, anyone after 16 blocks.
pub fn anchor(funding_key: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(funding_key.serialize())
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_IFDUP)
        .push_opcode(op::OP_NOTIF)
        .push_int(16)
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_ENDIF)
        .into_script()
}

/// An HTLC output's witness script.
pub fn htlc(
    format: CommitmentFormat,
    keys: &CommitmentKeys,
    kind: HtlcKind,
    payment_hash: &PaymentHash,
    cltv_expiry: CltvExpiry,
) -> ScriptBuf {
    htlc_with_hash(
        format,
        keys,
        &keys.revocation_key_hash(),
        kind,
        payment_hash,
        cltv_expiry,
    )
}

/// [`htlc`] with the hash of the revocation key at hand, for commitments with many of them.
pub(crate) fn htlc_with_hash(
    format: CommitmentFormat,
    keys: &CommitmentKeys,
    revocation_key_hash: &PubkeyHash,
    kind: HtlcKind,
    payment_hash: &PaymentHash,
    cltv_expiry: CltvExpiry,
) -> ScriptBuf {
    let payment_hash_160 = ripemd160::Hash::hash(payment_hash.as_bytes());
    let script = Builder::new()
        .push_opcode(op::OP_DUP)
        .push_opcode(op::OP_HASH160)
        .push_slice(revocation_key_hash)
        .push_opcode(op::OP_EQUAL)
        .push_opcode(op::OP_IF)
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_ELSE)
        .push_slice(keys.countersigner_htlc_key.serialize())
        .push_opcode(op::OP_SWAP)
        .push_opcode(op::OP_SIZE)
        .push_int(32)
        .push_opcode(op::OP_EQUAL);
    let script = match kind {
        HtlcKind::Offered => script
            .push_opcode(op::OP_NOTIF)
            .push_opcode(op::OP_DROP)
            .push_int(2)
            .push_opcode(op::OP_SWAP)
            .push_slice(keys.broadcaster_htlc_key.serialize())
            .push_int(2)
            .push_opcode(op::OP_CHECKMULTISIG)
            .push_opcode(op::OP_ELSE)
            .push_opcode(op::OP_HASH160)
            .push_slice(payment_hash_160.as_byte_array())
            .push_opcode(op::OP_EQUALVERIFY)
            .push_opcode(op::OP_CHECKSIG),
        HtlcKind::Received => script
            .push_opcode(op::OP_IF)
            .push_opcode(op::OP_HASH160)
            .push_slice(payment_hash_160.as_byte_array())
            .push_opcode(op::OP_EQUALVERIFY)
            .push_int(2)
            .push_opcode(op::OP_SWAP)
            .push_slice(keys.broadcaster_htlc_key.serialize())
            .push_int(2)
            .push_opcode(op::OP_CHECKMULTISIG)
            .push_opcode(op::OP_ELSE)
            .push_opcode(op::OP_DROP)
            .push_int(i64::from(cltv_expiry.to_u32()))
            .push_opcode(op::OP_CLTV)
            .push_opcode(op::OP_DROP)
            .push_opcode(op::OP_CHECKSIG),
    };
    let script = script.push_opcode(op::OP_ENDIF);
    let script = match format {
        CommitmentFormat::StaticRemoteKey => script,
        CommitmentFormat::AnchorsZeroFeeHtlc => script
            .push_int(1)
            .push_opcode(op::OP_CSV)
            .push_opcode(op::OP_DROP),
    };
    script.push_opcode(op::OP_ENDIF).into_script()
}

/// Pushes a DER signature with its sighash byte.
pub(crate) fn push_signature(
    witness: &mut Witness,
    signature: &ecdsa::Signature,
    sighash_type: EcdsaSighashType,
) {
    witness.push_ecdsa_signature(&bitcoin::ecdsa::Signature {
        signature: *signature,
        sighash_type,
    });
}
