//! Coins for tests: the miner's key is known, and its mature coins pay whoever asks.

use core::fmt;

use bitcoin::hashes::Hash;
use bitcoin::key::{CompressedPublicKey, PrivateKey};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Witness, absolute,
};

use crate::chain::Chain;
use crate::consensus::COINBASE_MATURITY;
use crate::policy::fee_for;
use crate::reject::Reject;

/// The secret key of the miner. It protects nothing: it is the same in every devchain.
const MINER_SECRET: [u8; 32] = [
    0x66, 0x75, 0x6c, 0x6d, 0x65, 0x6e, 0x2d, 0x64, 0x65, 0x76, 0x63, 0x68, 0x61, 0x69, 0x6e, 0x2d,
    0x66, 0x61, 0x75, 0x63, 0x65, 0x74, 0x2d, 0x72, 0x65, 0x67, 0x74, 0x65, 0x73, 0x74, 0x2d, 0x31,
];
/// What the faucet's own transactions pay, in satoshi per 1000 virtual bytes.
const FAUCET_FEERATE: u64 = 2_000;

/// Why the faucet gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaucetError {
    /// Its mature coins are too few; mine blocks to it and 100 more.
    InsufficientCoins {
        /// What is there, in satoshi.
        available_sat: u64,
        /// What is needed, with the fee, in satoshi.
        needed_sat: u64,
    },
    /// The chain refused the transaction, for instance because the amount is dust.
    Refused(Reject),
}

impl fmt::Display for FaucetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientCoins {
                available_sat,
                needed_sat,
            } => write!(
                f,
                "the faucet has {available_sat} sat of mature coins and needs {needed_sat}: mine \
                 more blocks to it, and 100 on top"
            ),
            Self::Refused(reject) => write!(f, "the chain refused the payment: {reject}"),
        }
    }
}

impl std::error::Error for FaucetError {}

/// The miner's wallet: one key, pay-to-witness-public-key-hash.
#[derive(Clone, Debug)]
pub struct Faucet {
    secp: Secp256k1<All>,
    secret: SecretKey,
    public: CompressedPublicKey,
}

impl Default for Faucet {
    fn default() -> Self {
        let secp = Secp256k1::new();
        let secret =
            SecretKey::from_slice(&MINER_SECRET).expect("a constant below the curve order");
        let public = CompressedPublicKey(secret.public_key(&secp));
        Self {
            secp,
            secret,
            public,
        }
    }
}

impl Faucet {
    /// The script that the miner is paid to.
    pub fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash())
    }

    /// The address that the miner is paid to.
    pub fn address(&self) -> bitcoin::Address {
        bitcoin::Address::p2wpkh(&self.public, Network::Regtest)
    }

    /// The miner's key in wallet import format.
    pub fn private_key(&self) -> PrivateKey {
        PrivateKey::new(self.secret, Network::Regtest)
    }

    /// Pays `outputs` from `coins`, the change back to the faucet. Takes as many coins as needed,
    /// in the given order.
    pub fn pay(
        &self,
        coins: &[(OutPoint, Amount)],
        outputs: Vec<TxOut>,
    ) -> Result<Transaction, FaucetError> {
        let wanted: u64 = outputs.iter().map(|o| o.value.to_sat()).sum();
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: Vec::new(),
            output: outputs,
        };
        tx.output.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: self.script(),
        });
        let mut available_sat = 0;
        let mut needed_sat = wanted;
        let mut used = Vec::new();
        for (outpoint, amount) in coins {
            tx.input.push(TxIn {
                previous_output: *outpoint,
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                ..TxIn::default()
            });
            used.push(*amount);
            available_sat += amount.to_sat();
            // A signature and a key per input come to at most 28 virtual bytes.
            let inputs = u64::try_from(tx.input.len()).unwrap_or(u64::MAX);
            let vsize = tx
                .vsize()
                .try_into()
                .unwrap_or(u64::MAX)
                .saturating_add(28 * inputs);
            needed_sat = wanted + fee_for(FAUCET_FEERATE, vsize);
            if available_sat >= needed_sat + 1_000 {
                let change = tx.output.len() - 1;
                tx.output[change].value = Amount::from_sat(available_sat - needed_sat);
                self.sign(&mut tx, &used);
                return Ok(tx);
            }
        }
        Err(FaucetError::InsufficientCoins {
            available_sat,
            needed_sat: needed_sat + 1_000,
        })
    }

    /// Signs every input of a transaction as a spend of the faucet's coins of these values.
    pub fn sign(&self, tx: &mut Transaction, values: &[Amount]) {
        let script = self.script();
        let mut witnesses = Vec::new();
        let mut cache = SighashCache::new(&*tx);
        for (index, value) in values.iter().enumerate() {
            let hash = cache
                .p2wpkh_signature_hash(index, &script, *value, EcdsaSighashType::All)
                .expect("the index is one of the inputs and the script is P2WPKH");
            let message = Message::from_digest(hash.to_byte_array());
            let signature = bitcoin::ecdsa::Signature {
                signature: self.secp.sign_ecdsa_low_r(&message, &self.secret),
                sighash_type: EcdsaSighashType::All,
            };
            witnesses.push(Witness::p2wpkh(&signature, &self.public.0));
        }
        for (input, witness) in tx.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
    }
}

impl Chain {
    /// Mines blocks to the faucet.
    pub fn generate(&mut self, count: u32) -> Vec<BlockHash> {
        let script = Faucet::default().script();
        self.generate_to_script(count, &script)
    }

    /// Mines one block with exactly these transactions, parents first.
    pub fn mine(&mut self, txs: &[Transaction]) -> Result<BlockHash, Reject> {
        let script = Faucet::default().script();
        self.generate_block(txs, &script)
    }

    /// Pays `amount` to `script` in a block of its own, and returns the output.
    pub fn fund(&mut self, script: &ScriptBuf, amount: Amount) -> Result<OutPoint, FaucetError> {
        let tx = self.faucet_payment(script, amount)?;
        self.mine(core::slice::from_ref(&tx))
            .map_err(FaucetError::Refused)?;
        Ok(OutPoint {
            txid: tx.compute_txid(),
            vout: 0,
        })
    }

    /// Pays `amount` to `script` by a transaction in the mempool, and returns the output.
    pub fn fund_unconfirmed(
        &mut self,
        script: &ScriptBuf,
        amount: Amount,
    ) -> Result<OutPoint, FaucetError> {
        let tx = self.faucet_payment(script, amount)?;
        self.send(&tx).map_err(FaucetError::Refused)?;
        Ok(OutPoint {
            txid: tx.compute_txid(),
            vout: 0,
        })
    }

    /// A signed payment by the faucet, in no block and no mempool yet; output 0 pays `script`.
    pub fn faucet_payment(
        &self,
        script: &ScriptBuf,
        amount: Amount,
    ) -> Result<Transaction, FaucetError> {
        self.faucet_payments(vec![TxOut {
            value: amount,
            script_pubkey: script.clone(),
        }])
    }

    /// A signed payment by the faucet of several outputs, which come first and in this order.
    pub fn faucet_payments(&self, outputs: Vec<TxOut>) -> Result<Transaction, FaucetError> {
        let faucet = Faucet::default();
        faucet.pay(&self.faucet_coins(&faucet.script()), outputs)
    }

    fn faucet_coins(&self, script: &ScriptBuf) -> Vec<(OutPoint, Amount)> {
        let next = self.height() + 1;
        let mut coins: Vec<(OutPoint, Amount)> = self
            .coins()
            .filter(|(outpoint, coin)| {
                coin.out.script_pubkey == *script
                    && !(coin.coinbase && next - coin.height < COINBASE_MATURITY)
                    && self.mempool().spender(outpoint).is_none()
            })
            .map(|(outpoint, coin)| (*outpoint, coin.out.value))
            .collect();
        coins.sort_by_key(|(outpoint, value)| (core::cmp::Reverse(*value), *outpoint));
        coins
    }
}

/// Pays the reward of a block to nobody: for tests that want a block without a use for it.
pub fn burn_script() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
}

/// The value that a block's coinbase pays, in all outputs.
pub fn coinbase_value(block: &Block) -> Amount {
    block
        .txdata
        .first()
        .map_or(Amount::ZERO, |tx| tx.output.iter().map(|o| o.value).sum())
}
