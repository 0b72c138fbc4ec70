//! A chain with rules and wallets with keys, for what is decided on chain.

use std::collections::BTreeMap;

use bitcoin::{
    Amount, BlockHash, CompressedPublicKey, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Witness,
    absolute::LockTime,
    hashes::Hash,
    secp256k1::{Message, Secp256k1, SecretKey},
    sighash::{EcdsaSighashType, SighashCache},
    transaction::Version,
};
use fulmen_devchain::{Chain, Config, PackageTx, Reject, RejectKind};
use fulmen_node::{
    Block, BlockId, BroadcastAnswer, Coin, CoinPurpose, CoinRequest, FundingRequest, WalletError,
};
use fulmen_types::BlockHeight;

/// What a p2wpkh witness weighs at the most.
const WITNESS_WEIGHT: u64 = 108;

pub struct Real {
    pub chain: Chain,
    pub wallets: Vec<Wallet>,
    /// What was refused, for a look when a test fails.
    pub refusals: Vec<String>,
    /// Nodes whose transactions do not arrive.
    pub muted: Vec<usize>,
}

pub struct Wallet {
    key: SecretKey,
    leases: BTreeMap<CoinPurpose, Vec<Coin>>,
}

impl Real {
    pub fn new(count: u8) -> Self {
        let mut chain = Chain::new(Config::default());
        let wallets: Vec<Wallet> = (1..=count).map(Wallet::new).collect();
        for wallet in &wallets {
            for _ in 0..8 {
                chain
                    .fund(&wallet.script(), Amount::from_sat(400_000))
                    .unwrap();
            }
        }
        chain.generate(1);
        Self {
            chain,
            wallets,
            refusals: Vec::new(),
            muted: Vec::new(),
        }
    }

    pub fn id_at(&self, height: u32) -> BlockId {
        BlockId {
            height: BlockHeight::new(height),
            hash: self.chain.block_hash(height).unwrap(),
        }
    }

    pub fn tip(&self) -> BlockId {
        self.id_at(self.chain.height())
    }

    pub fn block(&self, hash: &BlockHash) -> Block {
        let block = self.chain.block(hash).unwrap();
        Block {
            id: BlockId {
                height: BlockHeight::new(self.chain.block_height(hash).unwrap()),
                hash: *hash,
            },
            previous: block.header.prev_blockhash,
            time: block.header.time,
            transactions: (0..).zip(block.txdata.iter().cloned()).collect(),
        }
    }

    pub fn broadcast(&mut self, index: usize, txs: &[Transaction]) -> BroadcastAnswer {
        if self.muted.contains(&index) {
            return BroadcastAnswer::Accepted;
        }
        let answer = match txs {
            [tx] => match self.chain.send(tx) {
                Ok(_) => BroadcastAnswer::Accepted,
                Err(reject) => word(&reject),
            },
            txs => {
                let result = self.chain.submit_package(txs);
                if result.is_ok() {
                    BroadcastAnswer::Accepted
                } else {
                    let refused = result.txs.iter().find_map(|(_, r)| match r {
                        PackageTx::Refused(reject) => Some(word(reject)),
                        _ => None,
                    });
                    let error = result.error.as_ref().map(word);
                    refused
                        .or(error)
                        .unwrap_or(BroadcastAnswer::Other("package refused".into()))
                }
            }
        };
        if let BroadcastAnswer::Conflict(why)
        | BroadcastAnswer::BelowFloor(why)
        | BroadcastAnswer::MissingInputs(why)
        | BroadcastAnswer::Unsigned(why)
        | BroadcastAnswer::Other(why) = &answer
        {
            self.refusals.push(format!("node {index}: {why}"));
        }
        answer
    }

    fn free_coins(&self, index: usize) -> Vec<(OutPoint, TxOut)> {
        let wallet = &self.wallets[index];
        let script = wallet.script();
        let mut coins: Vec<(OutPoint, TxOut)> = self
            .chain
            .coins()
            .filter(|(o, c)| {
                c.out.script_pubkey == script && self.chain.mempool().spender(o).is_none()
            })
            .map(|(o, c)| (*o, c.out.clone()))
            .filter(|(o, _)| !wallet.leases.values().flatten().any(|c| c.outpoint == *o))
            .collect();
        coins.sort_by_key(|(o, _)| *o);
        coins
    }

    pub fn funding(
        &mut self,
        index: usize,
        request: &FundingRequest,
    ) -> Result<Transaction, WalletError> {
        let fee = Amount::from_sat(5_000);
        let needed = request.value + fee;
        let mut coins = Vec::new();
        let mut sum = Amount::ZERO;
        for coin in self.free_coins(index) {
            if sum >= needed {
                break;
            }
            sum += coin.1.value;
            coins.push(coin);
        }
        if sum < needed {
            return Err(WalletError::InsufficientFunds {
                needed,
                available: sum,
            });
        }
        let wallet = &mut self.wallets[index];
        let change = TxOut {
            value: sum - needed,
            script_pubkey: wallet.script(),
        };
        let paid = TxOut {
            value: request.value,
            script_pubkey: request.script_pubkey.clone(),
        };
        let leased = coins.iter().map(|(o, out)| Coin {
            outpoint: *o,
            output: out.clone(),
            witness_weight: WITNESS_WEIGHT,
        });
        wallet.leases.insert(request.purpose, leased.collect());
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins
                .iter()
                .map(|(o, _)| TxIn {
                    previous_output: *o,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    witness: Witness::new(),
                })
                .collect(),
            output: vec![paid, change],
        };
        let spent: Vec<TxOut> = coins.into_iter().map(|(_, out)| out).collect();
        Ok(wallet.sign(tx, &spent))
    }

    pub fn lease(&mut self, index: usize, request: &CoinRequest) -> Vec<Coin> {
        let free = self.free_coins(index);
        let wallet = &mut self.wallets[index];
        let held = wallet.leases.entry(request.purpose).or_default();
        for (outpoint, output) in free {
            let effective: u64 = held
                .iter()
                .map(|c| {
                    let fee = request.feerate.fee_ceil(164 + WITNESS_WEIGHT).to_sat();
                    c.output.value.to_sat().saturating_sub(fee)
                })
                .sum();
            if effective >= request.value.to_sat() {
                break;
            }
            held.push(Coin {
                outpoint,
                output,
                witness_weight: WITNESS_WEIGHT,
            });
        }
        held.clone()
    }

    /// What a node's wallet holds in blocks.
    pub fn balance(&self, index: usize) -> Amount {
        let script = self.wallets[index].script();
        let coins = self.chain.coins();
        coins
            .filter(|(_, c)| c.out.script_pubkey == script)
            .map(|(_, c)| c.out.value)
            .sum()
    }
}

fn word(reject: &Reject) -> BroadcastAnswer {
    let why = reject.to_string();
    match reject.kind {
        RejectKind::MissingInputs => BroadcastAnswer::MissingInputs(why),
        RejectKind::Reconsiderable => BroadcastAnswer::BelowFloor(why),
        _ if reject.reason.contains("already") => BroadcastAnswer::Known,
        RejectKind::Conflict => BroadcastAnswer::Conflict(why),
        RejectKind::Policy
            if reject.reason.contains("fee") || reject.reason.contains("replace") =>
        {
            BroadcastAnswer::Conflict(why)
        }
        RejectKind::Consensus | RejectKind::Policy | RejectKind::Premature => {
            BroadcastAnswer::Other(why)
        }
    }
}

impl Wallet {
    fn new(seed: u8) -> Self {
        Self {
            key: SecretKey::from_slice(&[seed + 60; 32]).unwrap(),
            leases: BTreeMap::new(),
        }
    }

    pub fn script(&self) -> ScriptBuf {
        let public = CompressedPublicKey(self.key.public_key(&Secp256k1::new()));
        ScriptBuf::new_p2wpkh(&public.wpubkey_hash())
    }

    pub fn release(&mut self, purpose: CoinPurpose) {
        self.leases.remove(&purpose);
    }

    pub fn leased(&self) -> Vec<CoinPurpose> {
        self.leases.keys().copied().collect()
    }

    pub fn sign(&self, mut tx: Transaction, spent: &[TxOut]) -> Transaction {
        let secp = Secp256k1::new();
        let mut witnesses = Vec::new();
        let mut cache = SighashCache::new(&tx);
        for (index, output) in spent.iter().enumerate() {
            if output.script_pubkey != self.script() {
                continue;
            }
            let hash = cache
                .p2wpkh_signature_hash(
                    index,
                    &output.script_pubkey,
                    output.value,
                    EcdsaSighashType::All,
                )
                .unwrap();
            let signature = bitcoin::ecdsa::Signature {
                signature: secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &self.key),
                sighash_type: EcdsaSighashType::All,
            };
            let key = self.key.public_key(&secp);
            witnesses.push((index, Witness::p2wpkh(&signature, &key)));
        }
        for (index, witness) in witnesses {
            tx.input[index].witness = witness;
        }
        tx
    }
}
