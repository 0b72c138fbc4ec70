//! The on-chain wallet's commands.

use std::{str::FromStr, sync::Arc};

use bitcoin::{Amount, Txid};
use fulmen_api as api;
use fulmen_node::BroadcastAnswer;
use fulmen_types::{FeeratePerKw, Feerates};
use fulmen_wallet::Withdrawal;

use super::{App, Caller, Serve, blocking, feerate, now, script_of};
use crate::{api_error::ApiError, views};

impl Serve for api::NewAddress {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::NewAddressAnswer, ApiError> {
        let wallet = app.wallet.clone();
        let address = blocking(move || Ok(wallet.new_address()?)).await?;
        Ok(api::NewAddressAnswer {
            address: address.to_string(),
        })
    }
}

impl Serve for api::Withdraw {
    async fn serve(self, app: Arc<App>, caller: Caller) -> Result<api::WithdrawAnswer, ApiError> {
        let script = script_of(&self.address, app.network)?;
        let feerate = feerate_or(&app, self.feerate_sat_per_vb, |rates| rates.normal)?;
        let reserve = app.node.query(|node| node.required_reserve()).await?;
        let amount = self.amount_sat.map(Amount::from_sat);
        let wallet = app.wallet.clone();
        let (id, now) = (caller.id.0, now().to_secs_floor());
        let withdraw = move || Ok(wallet.withdraw_once(id, script, amount, feerate, reserve, now)?);
        let done = blocking(withdraw).await?;
        Ok(broadcast(&app, done).await)
    }
}

impl Serve for api::BumpFee {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::WithdrawAnswer, ApiError> {
        let txid = Txid::from_str(self.txid.trim()).map_err(|_| {
            ApiError::invalid(format!(
                "{:?} is not a transaction id (64 hex digits)",
                views::printable(&self.txid)
            ))
        })?;
        let feerate = feerate_or(&app, self.feerate_sat_per_vb, |rates| rates.urgent)?;
        let reserve = app.node.query(|node| node.required_reserve()).await?;
        let wallet = app.wallet.clone();
        let done =
            blocking(move || Ok(wallet.bump_fee(txid, feerate, reserve, now().to_secs_floor())?))
                .await?;
        Ok(broadcast(&app, done).await)
    }
}

impl Serve for api::ListTransactions {
    async fn serve(self, app: Arc<App>, _: Caller) -> Result<api::TransactionList, ApiError> {
        let wallet = app.wallet.clone();
        let (tip, all) =
            blocking(move || Ok((wallet.tip().0.height, wallet.transactions()))).await?;
        let limit = self.limit.unwrap_or(usize::MAX);
        Ok(api::TransactionList {
            transactions: all
                .iter()
                .take(limit)
                .map(|transaction| views::transaction(transaction, tip))
                .collect(),
        })
    }
}

/// The feerate that the user wants, or an estimate.
fn feerate_or(
    app: &App,
    wanted: Option<u64>,
    estimate: impl Fn(&Feerates) -> FeeratePerKw,
) -> Result<FeeratePerKw, ApiError> {
    match wanted {
        Some(rate) => feerate(rate),
        None => app.feerates.borrow().as_ref().map(estimate).ok_or_else(|| {
            ApiError::unavailable(
                "there is no estimate of feerates yet: the chain source does not answer; say a feerate, or try again when `getinfo` shows the chain as up",
            )
        }),
    }
}

/// Gives a withdrawal to the network. It is the wallet's already: what the network says does not undo it.
async fn broadcast(app: &App, done: Withdrawal) -> api::WithdrawAnswer {
    use BroadcastAnswer as Said;
    let txid = done.transaction.compute_txid();
    let not_taken_yet = match app.broadcaster.broadcast(vec![done.transaction]).await {
        Said::Accepted | Said::Known => None,
        Said::Unsigned(why)
        | Said::Conflict(why)
        | Said::BelowFloor(why)
        | Said::MissingInputs(why)
        | Said::Other(why) => {
            tracing::warn!(%txid, why, "a withdrawal was not taken by the network yet; it is tried again");
            Some(views::printable(&why))
        }
    };
    api::WithdrawAnswer {
        txid: txid.to_string(),
        amount_sat: done.amount.to_sat(),
        fee_sat: done.fee.to_sat(),
        not_taken_yet,
    }
}
