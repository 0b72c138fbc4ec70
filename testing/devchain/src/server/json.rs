//! Blocks, transactions and amounts as Bitcoin Core prints them in JSON.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Block, BlockHash, Network, Script, Transaction};
use serde_json::{Map, Value, json};

use crate::chain::Chain;
use crate::coins::Coin;
use crate::policy::{OutputKind, classify};

/// An amount in bitcoin.
pub(super) fn amount(sat: u64) -> Value {
    json!(sat as f64 / 1e8)
}

/// A feerate in bitcoin per 1000 virtual bytes.
pub(super) fn feerate(sat_per_kvb: u64) -> Value {
    amount(sat_per_kvb)
}

pub(super) fn script(script: &Script) -> Value {
    let kind = match classify(script) {
        OutputKind::NonStandard => "nonstandard",
        OutputKind::PubKey => "pubkey",
        OutputKind::PubKeyHash => "pubkeyhash",
        OutputKind::ScriptHash => "scripthash",
        OutputKind::Multisig { .. } => "multisig",
        OutputKind::NullData => "nulldata",
        OutputKind::WitnessV0KeyHash => "witness_v0_keyhash",
        OutputKind::WitnessV0ScriptHash => "witness_v0_scripthash",
        OutputKind::Taproot => "witness_v1_taproot",
        OutputKind::Anchor => "anchor",
        OutputKind::WitnessUnknown => "witness_unknown",
    };
    let mut value = json!({
        "asm": script.to_asm_string(),
        "hex": script.to_hex_string(),
        "type": kind,
    });
    if let Ok(address) = Address::from_script(script, Network::Regtest) {
        value["address"] = json!(address.to_string());
    }
    value
}

pub(super) fn transaction(tx: &Transaction) -> Map<String, Value> {
    let inputs = tx.input.iter().map(|input| {
        let mut vin = if tx.is_coinbase() {
            json!({ "coinbase": input.script_sig.to_hex_string() })
        } else {
            json!({
                "txid": input.previous_output.txid.to_string(),
                "vout": input.previous_output.vout,
                "scriptSig": {
                    "asm": input.script_sig.to_asm_string(),
                    "hex": input.script_sig.to_hex_string(),
                },
            })
        };
        if !input.witness.is_empty() {
            let items = input.witness.iter().map(|item| Value::from(hex(item)));
            vin["txinwitness"] = items.collect();
        }
        vin["sequence"] = json!(input.sequence.0);
        vin
    });
    let outputs = tx.output.iter().enumerate().map(|(n, out)| {
        json!({
            "value": amount(out.value.to_sat()),
            "n": n,
            "scriptPubKey": script(&out.script_pubkey),
        })
    });
    let mut value = Map::new();
    value.insert("txid".into(), json!(tx.compute_txid().to_string()));
    value.insert("hash".into(), json!(tx.compute_wtxid().to_string()));
    value.insert("version".into(), json!(tx.version.0.cast_unsigned()));
    value.insert("size".into(), json!(tx.total_size()));
    value.insert("vsize".into(), json!(tx.vsize()));
    value.insert("weight".into(), json!(tx.weight().to_wu()));
    value.insert("locktime".into(), json!(tx.lock_time.to_consensus_u32()));
    value.insert("vin".into(), inputs.collect());
    value.insert("vout".into(), outputs.collect());
    value.insert("hex".into(), json!(serialize_hex(tx)));
    value
}

/// What `getblockheader` says, and `getblock` too before it adds the transactions.
pub(super) fn header(chain: &Chain, hash: &BlockHash, block: &Block) -> Map<String, Value> {
    let height = chain.block_height(hash).unwrap_or(0);
    let active = chain.is_active(hash);
    let confirmations = if active {
        i64::from(chain.height() - height) + 1
    } else {
        -1
    };
    let mut value = Map::new();
    value.insert("hash".into(), json!(hash.to_string()));
    value.insert("confirmations".into(), json!(confirmations));
    value.insert("height".into(), json!(height));
    value.insert("version".into(), json!(block.header.version.to_consensus()));
    let version_hex = format!("{:08x}", block.header.version.to_consensus());
    value.insert("versionHex".into(), json!(version_hex));
    value.insert(
        "merkleroot".into(),
        json!(block.header.merkle_root.to_string()),
    );
    value.insert("time".into(), json!(block.header.time));
    value.insert("mediantime".into(), json!(chain.median_time_of(hash)));
    value.insert("nonce".into(), json!(block.header.nonce));
    value.insert(
        "bits".into(),
        json!(format!("{:08x}", block.header.bits.to_consensus())),
    );
    value.insert("difficulty".into(), json!(DIFFICULTY));
    value.insert("chainwork".into(), json!(chainwork(height)));
    value.insert("nTx".into(), json!(block.txdata.len()));
    if height > 0 {
        let previous = block.header.prev_blockhash.to_string();
        value.insert("previousblockhash".into(), json!(previous));
    }
    if let (true, Some(next)) = (active, chain.block_hash(height + 1)) {
        value.insert("nextblockhash".into(), json!(next.to_string()));
    }
    value
}

/// What `getblock` says at the verbosities 1, 2 and 3.
pub(super) fn block(chain: &Chain, hash: &BlockHash, block: &Block, verbosity: i64) -> Value {
    let mut value = header(chain, hash, block);
    let stripped: usize = 80
        + 1
        + block
            .txdata
            .iter()
            .map(Transaction::base_size)
            .sum::<usize>();
    value.insert("strippedsize".into(), json!(stripped));
    value.insert("size".into(), json!(block.total_size()));
    value.insert("weight".into(), json!(block.weight().to_wu()));
    let txs: Value = if verbosity <= 1 {
        block
            .txdata
            .iter()
            .map(|tx| json!(tx.compute_txid().to_string()))
            .collect()
    } else {
        let spent = chain.spent_by_block(hash);
        let mut spent = spent.iter();
        let with_fee = block.txdata.iter().map(|tx| {
            let mut one = transaction(tx);
            if !tx.is_coinbase() {
                let coins: Vec<&Coin> = spent
                    .by_ref()
                    .take(tx.input.len())
                    .map(|(_, coin)| coin)
                    .collect();
                if coins.len() == tx.input.len() {
                    let value_in: u64 = coins.iter().map(|c| c.out.value.to_sat()).sum();
                    let value_out: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
                    one.insert("fee".into(), amount(value_in.saturating_sub(value_out)));
                }
                if verbosity >= 3 {
                    add_prevouts(&mut one, &coins);
                }
            }
            Value::Object(one)
        });
        with_fee.collect()
    };
    value.insert("tx".into(), txs);
    Value::Object(value)
}

fn add_prevouts(tx: &mut Map<String, Value>, coins: &[&Coin]) {
    let Some(Value::Array(inputs)) = tx.get_mut("vin") else {
        return;
    };
    for (input, coin) in inputs.iter_mut().zip(coins) {
        input["prevout"] = json!({
            "generated": coin.coinbase,
            "height": coin.height,
            "value": amount(coin.out.value.to_sat()),
            "scriptPubKey": script(&coin.out.script_pubkey),
        });
    }
}

/// The difficulty of regtest.
pub(super) const DIFFICULTY: f64 = 4.656_542_373_906_925e-10;

/// Every block of regtest is worth two hashes.
pub(super) fn chainwork(height: u32) -> String {
    format!("{:064x}", 2 * (u64::from(height) + 1))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use hex_conservative::DisplayHex;
    bytes.to_lower_hex_string()
}
