//! Transactions, packages and blocks with the verdict that Bitcoin Core 31 gives on each.
//!
//! The corpus is made by code: [`Corpus::record`] plays every case on an embedded chain and keeps
//! what happened, in order, as data. The record can be checked here, replayed against a real
//! bitcoind ([`Corpus::replay`]), or written out for another program ([`Corpus::to_json`]).

mod blocks;
mod build;
mod fees;
mod locks;
mod packages;
mod scene;
mod scripts;
mod signatures;
mod standard;
mod taproot;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Block, Transaction};
use serde_json::{Value, json};

use crate::client::{ClientError, RpcClient};
use scene::Scene;

/// One thing that happened while the corpus was recorded.
#[derive(Clone, Debug)]
pub enum Event {
    /// The clock was set.
    Time(u32),
    /// A block was handed in to set the stage; it is valid.
    Setup(Block),
    /// A transaction was sent to set the stage; it is accepted.
    SetupTx(Transaction),
    /// A case.
    Case(Case),
}

/// What a case hands in.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A transaction, for the mempool. If it is accepted, it stays there.
    Transaction(Transaction),
    /// A package, for the mempool.
    Package(Vec<Transaction>),
    /// A block.
    Block(Block),
}

/// One case with its verdict.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about; unique.
    pub name: String,
    /// What is handed in.
    pub subject: Subject,
    /// The reason for which Bitcoin Core refuses it; none if it is accepted.
    pub expected: Option<String>,
    /// The reason for which the embedded chain refused it.
    pub got: Option<String>,
}

impl Case {
    /// Whether the embedded chain gave the expected verdict.
    pub fn agrees(&self) -> bool {
        self.expected == self.got
    }
}

/// A difference between the expected verdict and that of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The case, or the step that set its stage.
    pub name: String,
    /// The expected reason; none for accepted.
    pub expected: Option<String>,
    /// The node's reason; none for accepted.
    pub got: Option<String>,
}

impl Difference {
    /// Whether one accepts what the other refuses; otherwise only the words differ.
    pub fn is_of_verdict(&self) -> bool {
        self.expected.is_some() != self.got.is_some()
    }
}

/// All that happened, in order.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The events.
    pub events: Vec<Event>,
}

impl Corpus {
    /// Plays all cases on an embedded chain. Gives the same record every time.
    pub fn record() -> Self {
        let mut scene = Scene::new();
        standard::play(&mut scene);
        locks::play(&mut scene);
        fees::play(&mut scene);
        packages::play(&mut scene);
        scripts::play(&mut scene);
        signatures::play(&mut scene);
        taproot::play(&mut scene);
        blocks::play(&mut scene);
        Self {
            events: scene.finish(),
        }
    }

    /// The cases.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.events.iter().filter_map(|event| match event {
            Event::Case(case) => Some(case),
            Event::Time(_) | Event::Setup(_) | Event::SetupTx(_) => None,
        })
    }

    /// Plays the record against a node that stands at the genesis block of regtest, and returns
    /// where it differs. An error ends the replay.
    pub fn replay(&self, node: &RpcClient) -> Result<Vec<Difference>, ClientError> {
        let mut differences = Vec::new();
        let mut note = |name: &str, expected: &Option<String>, got: Option<String>| {
            if *expected != got {
                let expected = expected.clone();
                differences.push(Difference {
                    name: name.to_owned(),
                    expected,
                    got,
                });
            }
        };
        for event in &self.events {
            match event {
                Event::Time(time) => {
                    node.call("setmocktime", json!([time]))?;
                }
                Event::Setup(block) => note("setup block", &None, submit_block(node, block)?),
                Event::SetupTx(tx) => note("setup transaction", &None, submit_tx(node, tx)?),
                Event::Case(case) => {
                    let got = match &case.subject {
                        Subject::Transaction(tx) => submit_tx(node, tx)?,
                        Subject::Package(txs) => submit_package(node, txs)?,
                        Subject::Block(block) => submit_block(node, block)?,
                    };
                    note(&case.name, &case.expected, got);
                }
            }
        }
        Ok(differences)
    }

    /// The record as JSON: a list of steps, each with `kind`, the data in hex and, for cases,
    /// `name` and `reject` (null for accepted).
    pub fn to_json(&self) -> Value {
        let steps = self.events.iter().map(|event| match event {
            Event::Time(time) => json!({ "kind": "time", "time": time }),
            Event::Setup(block) => json!({ "kind": "setup-block", "hex": serialize_hex(block) }),
            Event::SetupTx(tx) => json!({ "kind": "setup-tx", "hex": serialize_hex(tx) }),
            Event::Case(case) => {
                let (kind, hex) = match &case.subject {
                    Subject::Transaction(tx) => ("tx", json!(serialize_hex(tx))),
                    Subject::Package(txs) => (
                        "package",
                        txs.iter().map(|tx| json!(serialize_hex(tx))).collect(),
                    ),
                    Subject::Block(block) => ("block", json!(serialize_hex(block))),
                };
                json!({
                    "kind": kind,
                    "name": case.name,
                    "hex": hex,
                    "reject": case.expected,
                })
            }
        });
        steps.collect()
    }
}

fn submit_block(node: &RpcClient, block: &Block) -> Result<Option<String>, ClientError> {
    let answer = node.call("submitblock", json!([serialize_hex(block)]))?;
    Ok(answer.as_str().map(str::to_owned))
}

fn submit_tx(node: &RpcClient, tx: &Transaction) -> Result<Option<String>, ClientError> {
    let hex = serialize_hex(tx);
    let verdict = node.call("testmempoolaccept", json!([[hex], 0]))?;
    if verdict[0]["allowed"] == true {
        return match node.call("sendrawtransaction", json!([hex, 0, 21_000_000])) {
            Ok(_) => Ok(None),
            Err(ClientError::Rpc { message, .. }) => Ok(Some(message)),
            Err(error) => Err(error),
        };
    }
    let reason = verdict[0]["reject-reason"]
        .as_str()
        .unwrap_or("no reason given");
    Ok(Some(match reason {
        "missing-inputs" => "bad-txns-inputs-missingorspent".to_owned(),
        reason => reason.to_owned(),
    }))
}

fn submit_package(node: &RpcClient, txs: &[Transaction]) -> Result<Option<String>, ClientError> {
    let hexes: Value = txs.iter().map(|tx| json!(serialize_hex(tx))).collect();
    let answer = match node.call("submitpackage", json!([hexes, 0, 21_000_000])) {
        Ok(answer) => answer,
        Err(ClientError::Rpc { message, .. }) => {
            return Ok(Some(
                if message.starts_with("package topology disallowed") {
                    "package-not-child-with-parents".to_owned()
                } else {
                    message
                },
            ));
        }
        Err(error) => return Err(error),
    };
    let message = answer["package_msg"].as_str().unwrap_or_default();
    if message == "success" {
        return Ok(None);
    }
    let first_part = |text: &str| text.split(", ").next().unwrap_or_default().to_owned();
    if message != "transaction failed" {
        return Ok(Some(first_part(message)));
    }
    // The first transaction, in the package's order, that has an error of its own.
    let results = &answer["tx-results"];
    let errors = txs.iter().filter_map(|tx| {
        results[tx.compute_wtxid().to_string()]["error"]
            .as_str()
            .map(first_part)
    });
    let mut errors = errors.filter(|error| error != "package-not-validated");
    Ok(Some(errors.next().unwrap_or_else(|| message.to_owned())))
}
