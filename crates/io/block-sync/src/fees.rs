//! Estimates of feerates.

use bitcoin::Amount;
use fulmen_types::FeeratePerKw;
use serde_json::{Value, json};

use crate::{Bitcoind, Error};

/// Estimates of feerates, by how soon the transaction must confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeEstimates {
    /// Within a day.
    pub background: FeeratePerKw,
    /// Within six blocks.
    pub normal: FeeratePerKw,
    /// Within two blocks.
    pub urgent: FeeratePerKw,
    /// The least that the mempool takes now.
    pub floor: FeeratePerKw,
}

/// What to take where Bitcoin Core has seen too few transactions to estimate, as on regtest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeFallback {
    /// For a day.
    pub background: FeeratePerKw,
    /// For six blocks.
    pub normal: FeeratePerKw,
    /// For two blocks.
    pub urgent: FeeratePerKw,
}

impl Default for FeeFallback {
    fn default() -> Self {
        Self {
            background: FeeratePerKw::new(500),
            normal: FeeratePerKw::new(1_250),
            urgent: FeeratePerKw::new(2_500),
        }
    }
}

impl Bitcoind {
    /// Estimates now. They are never below the mempool's floor, and the more urgent is never the lower.
    pub async fn estimates(&self, fallback: FeeFallback) -> Result<FeeEstimates, Error> {
        let mempool = self.call("getmempoolinfo", json!([])).await?;
        let floor = ["mempoolminfee", "minrelaytxfee"]
            .iter()
            .filter_map(|name| feerate(&mempool, name))
            .fold(FeeratePerKw::FLOOR, FeeratePerKw::max);
        let background = self
            .estimate(144, "economical")
            .await?
            .unwrap_or(fallback.background);
        let normal = self
            .estimate(6, "economical")
            .await?
            .unwrap_or(fallback.normal);
        let urgent = self
            .estimate(2, "conservative")
            .await?
            .unwrap_or(fallback.urgent);
        let background = background.max(floor);
        let normal = normal.max(background);
        Ok(FeeEstimates {
            background,
            normal,
            urgent: urgent.max(normal),
            floor,
        })
    }

    async fn estimate(&self, blocks: u32, mode: &str) -> Result<Option<FeeratePerKw>, Error> {
        match self.call("estimatesmartfee", json!([blocks, mode])).await {
            Ok(answer) => Ok(feerate(&answer, "feerate")),
            Err(Error::Rpc { message, .. }) => {
                tracing::debug!(%message, "no estimate of fees");
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// A feerate in BTC per 1000 virtual bytes.
fn feerate(info: &Value, name: &str) -> Option<FeeratePerKw> {
    let btc = info.get(name)?.as_f64()?;
    let amount = Amount::from_btc(btc).ok()?;
    Some(FeeratePerKw::from_sat_per_kvb_ceil(amount.to_sat()))
}
