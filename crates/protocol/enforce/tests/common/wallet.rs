//! A wallet with two keys: one for its coins, one for what is swept.

use std::collections::BTreeMap;

use bitcoin::{
    Amount, CompressedPublicKey, OutPoint, ScriptBuf, Transaction, TxOut, Witness,
    hashes::Hash,
    secp256k1::{Message, Secp256k1, SecretKey},
    sighash::{EcdsaSighashType, SighashCache},
};
use fulmen_devchain::Chain;
use fulmen_enforce::WalletCoin;
use fulmen_types::FeeratePerKw;

pub struct Wallet {
    keys: [SecretKey; 2],
    leases: BTreeMap<u32, Vec<WalletCoin>>,
    /// Coins that may be leased at all.
    pub coins_max: usize,
}

impl Wallet {
    pub fn new(seed: u8) -> Self {
        Self {
            keys: [seed, seed + 100].map(|b| SecretKey::from_slice(&[b; 32]).unwrap()),
            leases: BTreeMap::new(),
            coins_max: usize::MAX,
        }
    }

    pub fn coin_script(&self) -> ScriptBuf {
        script(&self.keys[0])
    }

    pub fn sweep_script(&self) -> ScriptBuf {
        script(&self.keys[1])
    }

    /// All confirmed coins.
    pub fn balance(&self, chain: &Chain) -> Amount {
        let scripts = [self.coin_script(), self.sweep_script()];
        let coins = chain
            .coins()
            .filter(|(_, c)| scripts.contains(&c.out.script_pubkey));
        coins.map(|(_, c)| c.out.value).sum()
    }

    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    pub fn lease(
        &mut self,
        lease: u32,
        value: Amount,
        feerate: FeeratePerKw,
        chain: &Chain,
    ) -> Vec<WalletCoin> {
        let mut held = self.leases.remove(&lease).unwrap_or_default();
        let taken: Vec<OutPoint> = self.leases.values().flatten().map(|c| c.outpoint).collect();
        let mut coins: Vec<(OutPoint, TxOut)> = chain
            .coins()
            .filter(|(_, c)| c.out.script_pubkey == self.coin_script())
            .map(|(o, c)| (*o, c.out.clone()))
            .collect();
        coins.sort_by_key(|(outpoint, _)| *outpoint);
        for (outpoint, output) in coins {
            let effective: u64 = held
                .iter()
                .map(|c| {
                    c.output
                        .value
                        .to_sat()
                        .saturating_sub(feerate.fee_ceil(164 + 108).to_sat())
                })
                .sum();
            let full = taken.len() + held.len() >= self.coins_max;
            if effective >= value.to_sat() || full {
                break;
            }
            let known = held.iter().any(|c| c.outpoint == outpoint);
            if !known && !taken.contains(&outpoint) {
                held.push(WalletCoin {
                    outpoint,
                    output,
                    witness_weight: 108,
                });
            }
        }
        self.leases.insert(lease, held.clone());
        held
    }

    pub fn release(&mut self, lease: u32) {
        self.leases.remove(&lease);
    }

    pub fn sign(&self, mut tx: Transaction, spent: &[TxOut]) -> Transaction {
        let secp = Secp256k1::new();
        let mut witnesses = Vec::new();
        let mut cache = SighashCache::new(&tx);
        for (index, output) in spent.iter().enumerate() {
            let Some(key) = self.keys.iter().find(|k| script(k) == output.script_pubkey) else {
                continue;
            };
            let hash = cache
                .p2wpkh_signature_hash(
                    index,
                    &output.script_pubkey,
                    output.value,
                    EcdsaSighashType::All,
                )
                .unwrap();
            let signature = bitcoin::ecdsa::Signature {
                signature: secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), key),
                sighash_type: EcdsaSighashType::All,
            };
            witnesses.push((index, Witness::p2wpkh(&signature, &key.public_key(&secp))));
        }
        for (index, witness) in witnesses {
            tx.input[index].witness = witness;
        }
        tx
    }
}

fn script(key: &SecretKey) -> ScriptBuf {
    let public = CompressedPublicKey(key.public_key(&Secp256k1::new()));
    ScriptBuf::new_p2wpkh(&public.wpubkey_hash())
}
