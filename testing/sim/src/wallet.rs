//! A wallet of one key on the simulated chain. It is durable at once: its own crashes are another story.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{
    Amount, CompressedPublicKey, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction,
    TxIn, TxOut, Witness, absolute,
    hashes::Hash,
    secp256k1::{All, Message, Secp256k1, SecretKey},
    sighash::SighashCache,
    transaction::Version,
};
use fulmen_devchain::Chain;
use fulmen_node::{Coin, CoinPurpose, CoinRequest, FundingRequest, WalletBalance, WalletError};
use fulmen_types::FeeratePerKw;

/// The count, a signature of at most 72 bytes, a key of 33.
const WITNESS_WEIGHT: u64 = 1 + 1 + 72 + 1 + 33;
const INPUT_WEIGHT: u64 = 41 * 4 + WITNESS_WEIGHT;
/// Version, lock time, counts, marker and flag.
const BASE_WEIGHT: u64 = 10 * 4 + 2;
/// Change below this is left to the miner.
const DUST_SAT: u64 = 600;

/// The wallet.
pub(crate) struct Wallet {
    secp: Secp256k1<All>,
    secret: SecretKey,
    public: CompressedPublicKey,
    leases: BTreeMap<CoinPurpose, Lease>,
}

#[derive(Clone, Debug, Default)]
struct Lease {
    coins: BTreeSet<OutPoint>,
    funding: Option<(FundingRequest, Transaction)>,
}

impl Wallet {
    /// The wallet of a key.
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        let secp = Secp256k1::new();
        let secret =
            SecretKey::from_slice(&secret).expect("chance does not find the curve's order");
        let public = CompressedPublicKey(secret.public_key(&secp));
        Self {
            secp,
            secret,
            public,
            leases: BTreeMap::new(),
        }
    }

    /// Where its money lies.
    pub(crate) fn script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.public.wpubkey_hash())
    }

    /// All confirmed coins up to a height, whether leased or not.
    pub(crate) fn confirmed(&self, chain: &Chain, height: u32) -> Vec<(OutPoint, TxOut)> {
        let script = self.script();
        chain
            .coins()
            .filter(|(_, coin)| coin.out.script_pubkey == script && coin.height <= height)
            .map(|(outpoint, coin)| (*outpoint, coin.out.clone()))
            .collect()
    }

    /// Everything that it holds in the chain, in satoshis.
    pub(crate) fn total_sat(&self, chain: &Chain) -> u64 {
        self.confirmed(chain, u32::MAX)
            .iter()
            .map(|(_, out)| out.value.to_sat())
            .sum()
    }

    fn held(&self) -> BTreeSet<OutPoint> {
        self.leases
            .values()
            .flat_map(|lease| lease.coins.iter().copied())
            .collect()
    }

    fn free(&self, chain: &Chain, height: u32) -> Vec<(OutPoint, TxOut)> {
        let held = self.held();
        let mut free = self.confirmed(chain, height);
        free.retain(|(outpoint, _)| {
            !held.contains(outpoint) && chain.mempool().spender(outpoint).is_none()
        });
        free
    }

    /// What the node is told.
    pub(crate) fn balance(&self, chain: &Chain, height: u32) -> WalletBalance {
        let script = self.script();
        let confirmed = self
            .free(chain, height)
            .iter()
            .map(|(_, out)| out.value)
            .sum();
        let unconfirmed = chain
            .mempool()
            .iter()
            .flat_map(|(_, entry)| entry.tx.output.iter())
            .filter(|out| out.script_pubkey == script)
            .map(|out| out.value)
            .sum();
        WalletBalance {
            confirmed,
            unconfirmed,
        }
    }

    /// Pays for a channel.
    pub(crate) fn fund(
        &mut self,
        chain: &Chain,
        height: u32,
        request: &FundingRequest,
    ) -> Result<Transaction, WalletError> {
        if let Some((known, tx)) = self
            .leases
            .get(&request.purpose)
            .and_then(|l| l.funding.as_ref())
        {
            if known.script_pubkey == request.script_pubkey && known.value == request.value {
                return Ok(tx.clone());
            }
            return Err(WalletError::Refused(
                "this purpose has another funding".into(),
            ));
        }
        let free = self.free(chain, height);
        let available: Amount = free.iter().map(|(_, out)| out.value).sum();
        let target = TxOut {
            value: request.value,
            script_pubkey: request.script_pubkey.clone(),
        };
        let change = TxOut {
            value: Amount::ZERO,
            script_pubkey: self.script(),
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: Vec::new(),
            output: vec![target, change],
        };
        let mut spent = Vec::new();
        let mut sum = 0;
        let mut needed = 0;
        for (outpoint, out) in free {
            sum += out.value.to_sat();
            tx.input.push(input(outpoint));
            spent.push(out);
            needed = request.value.to_sat() + self.fee(&tx, request.feerate);
            if sum >= needed + DUST_SAT {
                break;
            }
        }
        let with_reserve = Amount::from_sat(needed) + request.reserve;
        if tx.input.is_empty() || sum < needed + DUST_SAT || available < with_reserve {
            let needed = with_reserve;
            return Err(WalletError::InsufficientFunds { needed, available });
        }
        tx.output[1].value = Amount::from_sat(sum - needed);
        let tx = self.sign(tx, &spent)?;
        let lease = Lease {
            coins: tx.input.iter().map(|i| i.previous_output).collect(),
            funding: Some((request.clone(), tx.clone())),
        };
        self.leases.insert(request.purpose, lease);
        Ok(tx)
    }

    fn fee(&self, tx: &Transaction, feerate: FeeratePerKw) -> u64 {
        let outputs: usize = tx
            .output
            .iter()
            .map(|o| (8 + 1 + o.script_pubkey.len()) * 4)
            .sum();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let weight = BASE_WEIGHT + count(outputs) + count(tx.input.len()) * INPUT_WEIGHT;
        feerate.fee_ceil(weight).to_sat()
    }

    /// Puts coins aside for a claim.
    pub(crate) fn lease(&mut self, chain: &Chain, height: u32, request: &CoinRequest) -> Vec<Coin> {
        let cost = request.feerate.fee_ceil(INPUT_WEIGHT);
        let worth = |out: &TxOut| out.value.checked_sub(cost).unwrap_or(Amount::ZERO);
        let held = self
            .leases
            .get(&request.purpose)
            .cloned()
            .unwrap_or_default();
        let mut chosen: Vec<(OutPoint, TxOut)> = self
            .confirmed(chain, height)
            .into_iter()
            .filter(|(outpoint, _)| held.coins.contains(outpoint))
            .collect();
        let mut sum: Amount = chosen.iter().map(|(_, out)| worth(out)).sum();
        for (outpoint, out) in self.free(chain, height) {
            if sum >= request.value {
                break;
            }
            sum += worth(&out);
            chosen.push((outpoint, out));
        }
        let mut lease = held;
        lease
            .coins
            .extend(chosen.iter().map(|(outpoint, _)| *outpoint));
        self.leases.insert(request.purpose, lease);
        chosen
            .into_iter()
            .map(|(outpoint, output)| Coin {
                outpoint,
                output,
                witness_weight: WITNESS_WEIGHT,
            })
            .collect()
    }

    /// Gives coins back.
    pub(crate) fn release(&mut self, purpose: &CoinPurpose) {
        self.leases.remove(purpose);
    }

    /// After a start: only these leases hold still.
    pub(crate) fn keep_leases(&mut self, held: &[(CoinPurpose, Vec<OutPoint>)]) {
        self.leases
            .retain(|purpose, _| held.iter().any(|(kept, _)| kept == purpose));
    }

    /// Signs the inputs that are its own.
    pub(crate) fn sign(
        &self,
        mut tx: Transaction,
        spent: &[TxOut],
    ) -> Result<Transaction, WalletError> {
        if spent.len() != tx.input.len() {
            return Err(WalletError::Refused(
                "not every spent output is given".into(),
            ));
        }
        let script = self.script();
        let mut witnesses = Vec::new();
        let mut cache = SighashCache::new(&tx);
        for (index, out) in spent.iter().enumerate() {
            if out.script_pubkey != script {
                continue;
            }
            let hash = cache
                .p2wpkh_signature_hash(index, &script, out.value, EcdsaSighashType::All)
                .map_err(|e| WalletError::Refused(e.to_string()))?;
            let message = Message::from_digest(hash.to_byte_array());
            let signature = bitcoin::ecdsa::Signature {
                signature: self.secp.sign_ecdsa_low_r(&message, &self.secret),
                sighash_type: EcdsaSighashType::All,
            };
            witnesses.push((index, Witness::p2wpkh(&signature, &self.public.0)));
        }
        for (index, witness) in witnesses {
            tx.input[index].witness = witness;
        }
        Ok(tx)
    }
}

fn input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        ..TxIn::default()
    }
}
