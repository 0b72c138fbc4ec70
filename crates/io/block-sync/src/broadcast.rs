//! Giving transactions to the network, and what its refusals mean.

use bitcoin::{Transaction, consensus::encode::serialize_hex};
use serde_json::{Value, json};

use crate::{Bitcoind, Error, client::RPC_METHOD_NOT_FOUND};

/// The network's word on a transaction or package; texts are Bitcoin Core's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastOutcome {
    /// In the mempool now.
    Accepted,
    /// In the mempool or a block already.
    Known,
    /// Something else spends an input, and this does not replace it.
    Conflict(String),
    /// The fee is too low to be relayed, or to replace.
    BelowFloor(String),
    /// An input is not there, or spent in a block.
    MissingInputs(String),
    /// Anything else.
    Other(String),
}

impl BroadcastOutcome {
    fn is_there(&self) -> bool {
        matches!(self, Self::Accepted | Self::Known)
    }
}

impl Bitcoind {
    /// Gives transactions to the network: one alone, or several as a package, parents first. An error says
    /// that nothing is known of the outcome.
    pub async fn broadcast(&self, package: &[Transaction]) -> Result<BroadcastOutcome, Error> {
        if let [single] = package {
            return self.send_one(single).await;
        }
        let hex: Vec<String> = package.iter().map(serialize_hex).collect();
        match self.call("submitpackage", json!([hex, 0])).await {
            Ok(result) if result.get("package_msg").and_then(Value::as_str) == Some("success") => {
                return Ok(BroadcastOutcome::Accepted);
            }
            Ok(result) => {
                tracing::debug!(%result, "the package was not accepted as a whole");
            }
            // A version without packages, or transactions that are none in its eyes: some may be in a
            // block already.
            Err(Error::Rpc { code, message }) => {
                if code == RPC_METHOD_NOT_FOUND {
                    tracing::warn!("this Bitcoin Core knows no packages; use version 28 or later");
                }
                tracing::debug!(%message, "the package was refused");
            }
            Err(e) => return Err(e),
        }
        let mut last = BroadcastOutcome::Known;
        for tx in package {
            let outcome = self.send_one(tx).await?;
            if !outcome.is_there() {
                return Ok(outcome);
            }
            if outcome == BroadcastOutcome::Accepted {
                last = outcome;
            }
        }
        Ok(last)
    }

    async fn send_one(&self, tx: &Transaction) -> Result<BroadcastOutcome, Error> {
        // No limit of the node's own on the fee: a claim with a deadline may be dear.
        match self
            .call("sendrawtransaction", json!([serialize_hex(tx), 0]))
            .await
        {
            Ok(_) => Ok(BroadcastOutcome::Accepted),
            Err(Error::Rpc { code, message }) => Ok(classify(code, message)),
            Err(e) => Err(e),
        }
    }
}

/// Bitcoin Core's "already in block chain".
const RPC_VERIFY_ALREADY_IN_UTXO_SET: i64 = -27;

fn classify(code: i64, message: String) -> BroadcastOutcome {
    let text = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if code == RPC_VERIFY_ALREADY_IN_UTXO_SET
        || has(&[
            "txn-already-in-mempool",
            "txn-already-known",
            "txn-same-nonwitness-data-in-mempool",
            "already in block chain",
            "already in utxo set",
        ])
    {
        BroadcastOutcome::Known
    } else if has(&["missingorspent", "missing-inputs", "missing inputs"]) {
        BroadcastOutcome::MissingInputs(message)
    } else if has(&[
        "min relay fee not met",
        "mempool min fee not met",
        "insufficient fee",
        "insufficient feerate",
        "mempool full",
        "min-fee-not-met",
        "min fee not met",
    ]) {
        BroadcastOutcome::BelowFloor(message)
    } else if has(&[
        "txn-mempool-conflict",
        "bip125-replacement-disallowed",
        "replacement-adds-unconfirmed",
        "too many potential replacements",
        "conflict",
    ]) {
        BroadcastOutcome::Conflict(message)
    } else {
        BroadcastOutcome::Other(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        type Make = fn(String) -> BroadcastOutcome;
        let cases: &[(i64, &str, Make)] = &[
            (-27, "Transaction outputs already in utxo set", |_| {
                BroadcastOutcome::Known
            }),
            (-26, "txn-already-known", |_| BroadcastOutcome::Known),
            (
                -25,
                "bad-txns-inputs-missingorspent",
                BroadcastOutcome::MissingInputs,
            ),
            (
                -26,
                "min relay fee not met, 0 < 110",
                BroadcastOutcome::BelowFloor,
            ),
            (
                -26,
                "insufficient fee, rejecting replacement abc",
                BroadcastOutcome::BelowFloor,
            ),
            (-26, "txn-mempool-conflict", BroadcastOutcome::Conflict),
            (-26, "non-final", BroadcastOutcome::Other),
            (-22, "TX decode failed", BroadcastOutcome::Other),
        ];
        for (code, message, make) in cases {
            let message = (*message).to_owned();
            assert_eq!(classify(*code, message.clone()), make(message));
        }
    }
}
