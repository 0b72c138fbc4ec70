//! Signatures and public keys: their encodings, and whether they fit the transaction.

use std::sync::LazyLock;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{self, Message, Secp256k1, VerifyOnly, XOnlyPublicKey};
use bitcoin::sighash::{Annex, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::TapLeafHash;
use bitcoin::{EcdsaSighashType, Script, Transaction, TxOut};

use super::Rules;
use super::error::ScriptError;

pub(super) static SECP: LazyLock<Secp256k1<VerifyOnly>> =
    LazyLock::new(Secp256k1::verification_only);

/// The input whose scripts run.
pub(super) struct Spend<'a> {
    pub(super) tx: &'a Transaction,
    pub(super) index: usize,
    pub(super) spent: &'a [TxOut],
    pub(super) rules: Rules,
}

/// Strict DER (BIP 66), the hash type byte included.
fn is_strict_der(sig: &[u8]) -> bool {
    if !(9..=73).contains(&sig.len()) || sig[0] != 0x30 || usize::from(sig[1]) != sig.len() - 3 {
        return false;
    }
    let Some((r, after_r)) = der_integer(&sig[2..sig.len() - 1]) else {
        return false;
    };
    let Some((s, rest)) = der_integer(after_r) else {
        return false;
    };
    rest.is_empty() && is_canonical(r) && is_canonical(s)
}

/// One integer and what follows it.
fn der_integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x02, len, rest @ ..] = bytes else {
        return None;
    };
    rest.split_at_checked(usize::from(*len))
}

/// Not empty, not negative, without needless zeroes.
fn is_canonical(integer: &[u8]) -> bool {
    match integer {
        [] => false,
        [first, ..] if first & 0x80 != 0 => false,
        [0, second, ..] => second & 0x80 != 0,
        _ => true,
    }
}

pub(super) fn check_signature_encoding(sig: &[u8], rules: Rules) -> Result<(), ScriptError> {
    let Some((hash_type, der)) = sig.split_last() else {
        return Ok(());
    };
    if !is_strict_der(sig) {
        return Err(ScriptError::SigDer);
    }
    if rules.policy {
        if let Ok(parsed) = secp256k1::ecdsa::Signature::from_der(der) {
            let mut low = parsed;
            low.normalize_s();
            if low != parsed {
                return Err(ScriptError::SigHighS);
            }
        }
        if !matches!(hash_type & !0x80, 1..=3) {
            return Err(ScriptError::SigHashtype);
        }
    }
    Ok(())
}

pub(super) fn check_pubkey_encoding(
    key: &[u8],
    segwit: bool,
    rules: Rules,
) -> Result<(), ScriptError> {
    let compressed = matches!((key.len(), key.first()), (33, Some(2 | 3)));
    let uncompressed = matches!((key.len(), key.first()), (65, Some(4)));
    if rules.policy && !compressed && !uncompressed {
        return Err(ScriptError::Pubkeytype);
    }
    if rules.policy && segwit && !compressed {
        return Err(ScriptError::WitnessPubkeytype);
    }
    Ok(())
}

impl Spend<'_> {
    pub(super) fn check_ecdsa(
        &self,
        sig: &[u8],
        key: &[u8],
        script_code: &Script,
        segwit: bool,
    ) -> bool {
        let Some((hash_type, der)) = sig.split_last() else {
            return false;
        };
        let Ok(key) = secp256k1::PublicKey::from_slice(key) else {
            return false;
        };
        let Ok(mut signature) = secp256k1::ecdsa::Signature::from_der(der) else {
            return false;
        };
        signature.normalize_s();
        let mut cache = SighashCache::new(self.tx);
        let digest = if segwit {
            let value = self.spent[self.index].value;
            let hash_type = EcdsaSighashType::from_consensus(u32::from(*hash_type));
            cache
                .p2wsh_signature_hash(self.index, script_code, value, hash_type)
                .map(|hash| hash.to_byte_array())
                .ok()
        } else {
            cache
                .legacy_signature_hash(self.index, script_code, u32::from(*hash_type))
                .map(|hash| hash.to_byte_array())
                .ok()
        };
        digest.is_some_and(|digest| {
            SECP.verify_ecdsa(&Message::from_digest(digest), &signature, &key)
                .is_ok()
        })
    }

    pub(super) fn check_schnorr(
        &self,
        sig: &[u8],
        key: &[u8],
        annex: Option<&[u8]>,
        leaf: Option<(TapLeafHash, u32)>,
    ) -> Result<(), ScriptError> {
        let (sig, hash_type) = match sig.len() {
            64 => (sig, TapSighashType::Default),
            65 => {
                let hash_type = match sig[64] {
                    0 => return Err(ScriptError::SchnorrSigHashtype),
                    byte => TapSighashType::from_consensus_u8(byte)
                        .map_err(|_| ScriptError::SchnorrSigHashtype)?,
                };
                (&sig[..64], hash_type)
            }
            _ => return Err(ScriptError::SchnorrSigSize),
        };
        let annex = annex.and_then(|bytes| Annex::new(bytes).ok());
        let digest = SighashCache::new(self.tx)
            .taproot_signature_hash(
                self.index,
                &Prevouts::All(self.spent),
                annex,
                leaf,
                hash_type,
            )
            .map_err(|_| ScriptError::SchnorrSigHashtype)?;
        let signature =
            secp256k1::schnorr::Signature::from_slice(sig).map_err(|_| ScriptError::SchnorrSig)?;
        let key = XOnlyPublicKey::from_slice(key).map_err(|_| ScriptError::SchnorrSig)?;
        SECP.verify_schnorr(
            &signature,
            &Message::from_digest(digest.to_byte_array()),
            &key,
        )
        .map_err(|_| ScriptError::SchnorrSig)
    }

    /// Whether the transaction's lock time is at least this one and of the same kind.
    pub(super) fn lock_time_reached(&self, wanted: i64) -> bool {
        const THRESHOLD: i64 = 500_000_000;
        let lock = i64::from(self.tx.lock_time.to_consensus_u32());
        (lock < THRESHOLD) == (wanted < THRESHOLD)
            && wanted <= lock
            && self.tx.input[self.index].sequence.0 != u32::MAX
    }

    /// Whether the input's relative lock is at least this one and of the same kind.
    pub(super) fn sequence_reached(&self, wanted: i64) -> bool {
        const TYPE: i64 = 1 << 22;
        const MASK: i64 = TYPE | 0xffff;
        let sequence = i64::from(self.tx.input[self.index].sequence.0);
        if self.tx.version.0.cast_unsigned() < 2 || sequence & (1 << 31) != 0 {
            return false;
        }
        let (sequence, wanted) = (sequence & MASK, wanted & MASK);
        (sequence < TYPE) == (wanted < TYPE) && wanted <= sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_is_strict() {
        let good = [0x30, 6, 2, 1, 1, 2, 1, 1, 1];
        assert!(is_strict_der(&good));
        for (at, byte) in [(0, 0x31), (1, 7), (2, 3), (4, 0x80), (5, 3), (7, 0xff)] {
            let mut bad = good;
            bad[at] = byte;
            assert!(!is_strict_der(&bad), "byte {at}");
        }
        assert!(!is_strict_der(&[0x30, 7, 2, 2, 0, 1, 2, 1, 1, 1]));
        assert!(!is_strict_der(&[0x30, 6, 2, 0, 2, 2, 1, 1, 1]));
    }
}
