//! A wallet of one key for LDK: it funds channels, pays for anchors and takes what comes back.

use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::key::CompressedPublicKey;
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute,
};
use fulmen_devchain::RpcClient;
use lightning::events::bump_transaction::Utxo;
use lightning::events::bump_transaction::sync::WalletSourceSync;
use lightning::sign::ChangeDestinationSourceSync;
use serde_json::{Value, json};

/// What the wallet's own transactions pay: 2 sat per virtual byte.
const FEE_SAT: u64 = 600;

pub(super) struct KeyWallet {
    secp: Secp256k1<All>,
    secret: SecretKey,
    public: CompressedPublicKey,
    client: RpcClient,
    /// Two fundings at once must not take the same coin.
    building: Mutex<()>,
}

impl KeyWallet {
    pub(super) fn new(seed: &[u8; 32], client: RpcClient) -> Result<Self> {
        let mut engine = sha256::Hash::engine();
        engine.input(b"wallet of a test node");
        engine.input(seed);
        let secret = SecretKey::from_slice(sha256::Hash::from_engine(engine).as_byte_array())?;
        let secp = Secp256k1::new();
        let public = CompressedPublicKey(secret.public_key(&secp));
        Ok(Self {
            secp,
            secret,
            public,
            client,
            building: Mutex::new(()),
        })
    }

    pub(super) fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash())
    }

    /// Confirmed coins that nothing in the mempool spends.
    pub(super) fn coins(&self) -> Result<Vec<(OutPoint, Amount)>> {
        let descriptor = format!("raw({})", self.script().to_hex_string());
        let scan = self
            .client
            .call("scantxoutset", json!(["start", [descriptor]]))?;
        let mut coins = Vec::new();
        for unspent in scan["unspents"].as_array().into_iter().flatten() {
            let outpoint = OutPoint {
                txid: unspent["txid"].as_str().context("no txid")?.parse()?,
                vout: u32::try_from(unspent["vout"].as_u64().context("no vout")?)?,
            };
            let btc = unspent["amount"].as_f64().context("no amount")?;
            let place = json!([outpoint.txid.to_string(), outpoint.vout, true]);
            if self.client.call("gettxout", place)? != Value::Null {
                coins.push((outpoint, Amount::from_btc(btc)?));
            }
        }
        coins.sort();
        Ok(coins)
    }

    /// The sum of the coins, in satoshi.
    pub(super) fn total_sat(&self) -> Result<u64> {
        Ok(self.coins()?.iter().map(|(_, value)| value.to_sat()).sum())
    }

    /// A signed transaction that pays to a script.
    pub(super) fn pay(&self, script: ScriptBuf, amount: Amount) -> Result<Transaction> {
        let _alone = self.building.lock().map_err(|_| anyhow!("poisoned"))?;
        let needed = amount + Amount::from_sat(FEE_SAT);
        let mut taken = Amount::ZERO;
        let mut input = Vec::new();
        for (outpoint, value) in self.coins()? {
            if taken >= needed {
                break;
            }
            taken += value;
            input.push(TxIn {
                previous_output: outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            });
        }
        if taken < needed {
            bail!("LDK's wallet has {taken} and needs {needed}");
        }
        let mut output = vec![TxOut {
            value: amount,
            script_pubkey: script,
        }];
        let change = taken - needed;
        if change > Amount::from_sat(1_000) {
            output.push(TxOut {
                value: change,
                script_pubkey: self.script(),
            });
        }
        let tx = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input,
            output,
        };
        self.sign(tx, None)
    }

    /// Signs the inputs that spend coins of ours: all of them, or those with our script.
    fn sign(&self, mut tx: Transaction, prevouts: Option<&[TxOut]>) -> Result<Transaction> {
        let script = self.script();
        let mut values = Vec::new();
        for (index, input) in tx.input.iter().enumerate() {
            let known = prevouts.and_then(|outs| outs.get(index)).cloned();
            let output = match known {
                Some(output) => output,
                None => self.look_up(input.previous_output)?,
            };
            if output.script_pubkey == script {
                values.push((index, output.value));
            }
        }
        for (index, value) in values {
            let mut cache = SighashCache::new(&tx);
            let sighash =
                cache.p2wpkh_signature_hash(index, &script, value, EcdsaSighashType::All)?;
            let message = Message::from_digest(sighash.to_byte_array());
            let signature = bitcoin::ecdsa::Signature::sighash_all(
                self.secp.sign_ecdsa_low_r(&message, &self.secret),
            );
            tx.input[index].witness = Witness::p2wpkh(&signature, &self.public.0);
        }
        Ok(tx)
    }

    fn look_up(&self, outpoint: OutPoint) -> Result<TxOut> {
        let place = json!([outpoint.txid.to_string(), outpoint.vout, true]);
        let out = self.client.call("gettxout", place)?;
        let hex = out["scriptPubKey"]["hex"].as_str().context("no script")?;
        Ok(TxOut {
            value: Amount::from_btc(out["value"].as_f64().context("no value")?)?,
            script_pubkey: ScriptBuf::from_hex(hex)?,
        })
    }
}

impl WalletSourceSync for KeyWallet {
    fn list_confirmed_utxos(&self) -> Result<Vec<Utxo>, ()> {
        let coins = self.coins().map_err(|_| ())?;
        let hash = self.public.wpubkey_hash();
        let utxo = |(outpoint, value)| Utxo::new_v0_p2wpkh(outpoint, value, &hash);
        Ok(coins.into_iter().map(utxo).collect())
    }

    fn get_change_script(&self) -> Result<ScriptBuf, ()> {
        Ok(self.script())
    }

    fn sign_psbt(&self, psbt: Psbt) -> Result<Transaction, ()> {
        let outs: Option<Vec<TxOut>> = psbt
            .inputs
            .iter()
            .map(|input| input.witness_utxo.clone())
            .collect();
        self.sign(psbt.unsigned_tx, outs.as_deref()).map_err(|_| ())
    }
}

impl ChangeDestinationSourceSync for KeyWallet {
    fn get_change_destination_script(&self) -> Result<ScriptBuf, ()> {
        Ok(self.script())
    }
}
