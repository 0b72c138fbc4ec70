//! Questions to the world outside and their answers: ports are data.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::fmt;

use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use fulmen_enforce::WalletCoin as Coin;
use fulmen_gossip::{NetworkGraph, UtxoAnswer};
use fulmen_payments::RouteQuestion;
use fulmen_router::{Explanation, FirstHop, NoRoute, Plan, Router};
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::ChannelKeysId;
use fulmen_types::{FeeratePerKw, NodeId, ShortChannelId, Timestamp, record::RecordKey};

/// A question.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To the signer: a signature that can't be made again, a point, a shared secret.
    Sign(SigningRequest),
    /// To the router: a path for a payment.
    Route(Box<RouteQuery>),
    /// To the wallet: a signed transaction that pays for a new channel. Not to be broadcast yet.
    Funding(FundingRequest),
    /// To the wallet: confirmed coins to pay a fee with, leased until released.
    Coins(CoinRequest),
    /// To the wallet: witnesses for the inputs that are its coins; the others stay as they are.
    WalletSign {
        /// The transaction.
        transaction: Transaction,
        /// The output that each input spends, in the order of the inputs.
        spent: Vec<TxOut>,
    },
    /// To the wallet: give back what is leased for this purpose.
    ReleaseCoins(CoinPurpose),
    /// To the wallet: a fresh script of ours, for shutdowns and sweeps.
    WalletScript,
    /// To the store: a record that is not kept in memory.
    Record(RecordKey),
    /// To the chain: the output that a short channel id names.
    Utxo(ShortChannelId),
}

/// The answer to an [`Ask`], of the same name. A port that can't answer says so; one that is silent for
/// five minutes counts as one that can't, and what it says later is not heard.
#[derive(Clone, Debug)]
pub enum Answer {
    /// From the signer.
    Signed(SigningAnswer),
    /// From the router.
    Route(Result<Plan, NoRoute>),
    /// From the wallet: the signed funding transaction.
    Funding(Result<Transaction, WalletError>),
    /// From the wallet: coins, enough or all that there are.
    Coins(Result<Vec<Coin>, WalletError>),
    /// From the wallet: the transaction with the wallet's witnesses.
    WalletSigned(Result<Transaction, WalletError>),
    /// From the wallet: a script of ours.
    WalletScript(Result<ScriptBuf, WalletError>),
    /// From the store: the record, if there is one.
    Record(Option<Vec<u8>>),
    /// From the chain.
    Utxo(UtxoAnswer),
    /// The network's word on a broadcast.
    Broadcast(BroadcastAnswer),
}

/// What to fund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingRequest {
    /// For which channel: the lease's key.
    pub purpose: CoinPurpose,
    /// The script to pay.
    pub script_pubkey: ScriptBuf,
    /// What to pay it.
    pub value: Amount,
    /// At which feerate.
    pub feerate: FeeratePerKw,
    /// What must stay in the wallet, confirmed, for the fees of closing channels.
    pub reserve: Amount,
}

/// What coins are leased for. Leases are durable by this key; at start the node sends the full set that it
/// still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CoinPurpose {
    /// The funding of a channel.
    Funding(ChannelKeysId),
    /// The fee of an on-chain claim of a channel; the number tells its claims apart.
    Claim(ChannelKeysId, u32),
}

/// How much to lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoinRequest {
    /// The lease's key; asking again with the same key gives the same coins, and more if needed.
    pub purpose: CoinPurpose,
    /// The least total value wanted, after paying for the coins' own inputs at `feerate`.
    pub value: Amount,
    /// The feerate that the coins' inputs are to be paid at.
    pub feerate: FeeratePerKw,
}

/// What to find a route for.
#[derive(Clone, Debug)]
pub struct RouteQuery {
    /// What the payment asks.
    pub question: RouteQuestion,
    /// We.
    pub payer: NodeId,
    /// Our usable channels.
    pub first_hops: Vec<FirstHop>,
    /// The time of the question.
    pub now: Timestamp,
}

impl RouteQuery {
    /// Asks a router of this project that remembers how earlier attempts ended.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn plan_by(&self, router: &mut Router, graph: &Arc<NetworkGraph>) -> Result<Plan, NoRoute> {
        self.question
            .answer_by(router, graph, self.payer, &self.first_hops, self.now)
    }

    /// The same, and why the answer is what it is.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn explain_by(
        &self,
        router: &mut Router,
        graph: &Arc<NetworkGraph>,
    ) -> Result<Explanation, NoRoute> {
        self.question
            .explain_by(router, graph, self.payer, &self.first_hops, self.now)
    }

    /// Asks the router of this project over a graph, from what that says alone.
    ///
    /// # Errors
    /// Why there is no route.
    pub fn find_route(&self, graph: &NetworkGraph) -> Result<Plan, NoRoute> {
        self.question
            .answer(graph, self.payer, &self.first_hops, self.now)
    }
}

/// Why the wallet could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalletError {
    /// Not enough confirmed coins.
    InsufficientFunds {
        /// What it would take, fees and reserve included.
        needed: Amount,
        /// What there is.
        available: Amount,
    },
    /// The wallet does not answer now; trying again later may help.
    Unavailable(String),
    /// The wallet refuses; the text says why.
    Refused(String),
}

impl fmt::Display for WalletError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientFunds { needed, available } => write!(
                f,
                "not enough confirmed on-chain funds: {needed} needed (fees and reserve included), {available} available; deposit more to an address of `newaddress`"
            ),
            Self::Unavailable(why) => write!(f, "the on-chain wallet is not available: {why}"),
            Self::Refused(why) => write!(f, "the on-chain wallet refuses: {why}"),
        }
    }
}

impl core::error::Error for WalletError {}

/// What the wallet holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WalletBalance {
    /// Confirmed and spendable.
    pub confirmed: Amount,
    /// Not confirmed yet, change of ours included.
    pub unconfirmed: Amount,
}

/// The network's word on a transaction or package. It changes fees and schedules, never a conclusion
/// about money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastAnswer {
    /// In the mempool now.
    Accepted,
    /// Already in the mempool or a block.
    Known,
    /// Something else spends an input, and ours does not replace it.
    Conflict(String),
    /// The fee is too low to be relayed or to replace.
    BelowFloor(String),
    /// An input is not there: its parent is unconfirmed, or it is spent in a block.
    MissingInputs(String),
    /// The signer refused or could not sign.
    Unsigned(String),
    /// Anything else; the node's words.
    Other(String),
}
