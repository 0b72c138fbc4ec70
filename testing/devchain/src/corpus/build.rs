//! Building blocks of the cases: keys, scripts, coins and spends.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::opcodes::all as op;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey, XOnlyPublicKey};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TaprootBuilder, TaprootSpendInfo};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, PubkeyHash, Script, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Witness,
};

/// An output to spend.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    pub(super) outpoint: OutPoint,
    pub(super) out: TxOut,
}

impl Coin {
    /// An output of a transaction.
    pub(super) fn of(tx: &Transaction, vout: u32) -> Self {
        let index = usize::try_from(vout).unwrap_or(usize::MAX);
        Self {
            outpoint: OutPoint {
                txid: tx.compute_txid(),
                vout,
            },
            out: tx.output.get(index).cloned().unwrap_or(TxOut::NULL),
        }
    }

    pub(super) fn sat(&self) -> u64 {
        self.out.value.to_sat()
    }
}

/// A key pair of the cases.
#[derive(Clone, Debug)]
pub(super) struct Key {
    secp: Secp256k1<All>,
    secret: SecretKey,
}

impl Key {
    pub(super) fn new(seed: u8) -> Self {
        let secret = SecretKey::from_slice(&[seed; 32]).expect("small numbers are valid keys");
        Self {
            secp: Secp256k1::new(),
            secret,
        }
    }

    pub(super) fn public(&self) -> PublicKey {
        self.secret.public_key(&self.secp)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.public().serialize().to_vec()
    }

    pub(super) fn x_only(&self) -> XOnlyPublicKey {
        self.public().x_only_public_key().0
    }

    pub(super) fn p2wpkh(&self) -> ScriptBuf {
        let hash = bitcoin::WPubkeyHash::hash(&self.bytes());
        ScriptBuf::new_p2wpkh(&hash)
    }

    pub(super) fn p2pkh(&self) -> ScriptBuf {
        ScriptBuf::new_p2pkh(&PubkeyHash::hash(&self.bytes()))
    }

    pub(super) fn p2tr(&self) -> ScriptBuf {
        ScriptBuf::new_p2tr(&self.secp, self.x_only(), None)
    }

    /// A signature with the hash type behind it, for a script before taproot.
    pub(super) fn ecdsa(
        &self,
        tx: &Transaction,
        index: usize,
        script_code: &Script,
        value: Option<Amount>,
        hash_type: u8,
    ) -> Vec<u8> {
        let mut cache = SighashCache::new(tx);
        let digest = match value {
            Some(value) => {
                let hash_type = EcdsaSighashType::from_consensus(u32::from(hash_type));
                let hash = cache.p2wsh_signature_hash(index, script_code, value, hash_type);
                hash.expect("the input exists").to_byte_array()
            }
            None => {
                let hash = cache.legacy_signature_hash(index, script_code, u32::from(hash_type));
                hash.expect("the input exists").to_byte_array()
            }
        };
        let signature = self
            .secp
            .sign_ecdsa_low_r(&Message::from_digest(digest), &self.secret);
        let mut bytes = signature.serialize_der().to_vec();
        bytes.push(hash_type);
        bytes
    }

    /// A signature for the key path (no leaf) or a script path.
    pub(super) fn schnorr(
        &self,
        tx: &Transaction,
        index: usize,
        spent: &[TxOut],
        leaf: Option<TapLeafHash>,
        hash_type: TapSighashType,
    ) -> Vec<u8> {
        let digest = SighashCache::new(tx)
            .taproot_signature_hash(
                index,
                &Prevouts::All(spent),
                None,
                leaf.map(|leaf| (leaf, u32::MAX)),
                hash_type,
            )
            .expect("the input exists and the hash type is known");
        let pair = Keypair::from_secret_key(&self.secp, &self.secret);
        let pair = if leaf.is_none() {
            pair.tap_tweak(&self.secp, None).to_keypair()
        } else {
            pair
        };
        let message = Message::from_digest(digest.to_byte_array());
        let mut bytes = self
            .secp
            .sign_schnorr_no_aux_rand(&message, &pair)
            .serialize()
            .to_vec();
        if hash_type != TapSighashType::Default {
            bytes.push(hash_type as u8);
        }
        bytes
    }

    /// A taproot output with one leaf below this key.
    pub(super) fn tree(&self, leaf: &Script, version: LeafVersion) -> TaprootSpendInfo {
        TaprootBuilder::new()
            .add_leaf_with_ver(0, leaf.into(), version)
            .expect("one leaf at depth 0")
            .finalize(&self.secp, self.x_only())
            .expect("the tree is complete")
    }
}

/// A script from bytes.
pub(super) fn raw(bytes: &[u8]) -> ScriptBuf {
    ScriptBuf::from_bytes(bytes.to_vec())
}

/// Pushes data in the shortest way that needs no small-number opcode.
pub(super) fn push(builder: Builder, data: &[u8]) -> Builder {
    builder.push_slice(PushBytesBuf::try_from(data.to_vec()).unwrap_or_default())
}

/// `OP_TRUE`, the witness script of [`open`].
pub(super) fn op_true() -> ScriptBuf {
    raw(&[op::OP_PUSHNUM_1.to_u8()])
}

/// The script of an output that anybody can spend and that is standard: P2WSH of `OP_TRUE`.
pub(super) fn open() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&op_true().wscript_hash())
}

/// Pay-to-anchor.
pub(super) fn anchor() -> ScriptBuf {
    raw(&[0x51, 0x02, 0x4e, 0x73])
}

pub(super) fn out(script: ScriptBuf, sat: u64) -> TxOut {
    TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: script,
    }
}

/// A transaction of version 2 that spends coins of anybody; others get no witness.
pub(super) fn spend(coins: &[Coin], outputs: Vec<TxOut>) -> Transaction {
    let input = coins.iter().map(|coin| TxIn {
        previous_output: coin.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: if coin.out.script_pubkey == open() {
            Witness::from_slice(&[op_true().into_bytes()])
        } else {
            Witness::new()
        },
    });
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: input.collect(),
        output: outputs,
    }
}

/// Spends coins of anybody to one such coin.
pub(super) fn pay(coins: &[Coin], fee: u64) -> Transaction {
    let total: u64 = coins.iter().map(Coin::sat).sum();
    spend(coins, vec![out(open(), total.saturating_sub(fee))])
}

/// Spends coins of anybody to so many equal ones.
pub(super) fn split(coins: &[Coin], outputs: u64, fee: u64) -> Transaction {
    let total: u64 = coins.iter().map(Coin::sat).sum();
    let each = total.saturating_sub(fee) / outputs.max(1);
    let mut outputs: Vec<TxOut> = (0..outputs).map(|_| out(open(), each)).collect();
    let given: u64 = outputs.iter().map(|o| o.value.to_sat()).sum();
    if let Some(first) = outputs.first_mut() {
        first.value += Amount::from_sat(total.saturating_sub(fee + given));
    }
    spend(coins, outputs)
}

pub(super) fn with_version(mut tx: Transaction, version: i32) -> Transaction {
    tx.version = Version(version);
    tx
}

/// Makes a transaction larger by an `OP_RETURN` of so many bytes of data.
pub(super) fn padded(mut tx: Transaction, bytes: usize) -> Transaction {
    let script = push(
        Builder::new().push_opcode(op::OP_RETURN),
        &vec![0x61; bytes],
    );
    tx.output.push(out(script.into_script(), 0));
    tx
}

/// The virtual size of a transaction.
pub(super) fn vsize(tx: &Transaction) -> u64 {
    tx.weight().to_vbytes_ceil()
}

/// The least fee for a size at 100 satoshi per 1000 virtual bytes.
pub(super) fn relay_fee(vsize: u64) -> u64 {
    vsize.div_ceil(10)
}

/// Lowers the first output so that the transaction pays this fee.
pub(super) fn with_fee(mut tx: Transaction, coins: &[Coin], fee: u64) -> Transaction {
    let total: u64 = coins.iter().map(Coin::sat).sum();
    let rest: u64 = tx.output.iter().skip(1).map(|o| o.value.to_sat()).sum();
    if let Some(first) = tx.output.first_mut() {
        first.value = Amount::from_sat(total.saturating_sub(rest + fee));
    }
    tx
}
