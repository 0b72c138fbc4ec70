//! The commands.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::views::{
    BalanceInfo, ChannelList, DecodedInvoice, FoundRoute, InvoiceList, NodeInfo, PaymentInfo,
    PaymentList, PeerList, TransactionList,
};

/// A command: where it goes and what comes back.
pub trait Request: Serialize + DeserializeOwned + Send + Sync {
    /// The command's name, the last part of its path.
    const NAME: &'static str;
    /// What comes back.
    type Answer: Serialize + DeserializeOwned + Send;
}

macro_rules! requests {
    ($($request:ty => $name:literal, $answer:ty;)*) => {
        $(impl Request for $request {
            const NAME: &'static str = $name;
            type Answer = $answer;
        })*
    };
}

requests! {
    GetInfo => "getinfo", NodeInfo;
    NewAddress => "newaddress", NewAddressAnswer;
    Withdraw => "withdraw", WithdrawAnswer;
    BumpFee => "bumpfee", WithdrawAnswer;
    ListTransactions => "listtransactions", TransactionList;
    Connect => "connect", Connected;
    Disconnect => "disconnect", Done;
    ListPeers => "listpeers", PeerList;
    Ban => "ban", Done;
    Unban => "unban", Done;
    OpenChannel => "openchannel", OpenChannelAnswer;
    CloseChannel => "closechannel", Done;
    UnblockChannel => "unblockchannel", Done;
    ListChannels => "listchannels", ChannelList;
    Invoice => "invoice", InvoiceCreated;
    ListInvoices => "listinvoices", InvoiceList;
    Pay => "pay", PaymentInfo;
    ListPayments => "listpayments", PaymentList;
    FindRoute => "findroute", FoundRoute;
    Balance => "balance", BalanceInfo;
    Decode => "decode", DecodedInvoice;
    Stop => "stop", Done;
}

/// Nothing more to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// Who the node is and how it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInfo {}

/// A fresh address for deposits to the on-chain wallet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAddress {}

/// The answer to [`NewAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAddressAnswer {
    /// The address.
    pub address: String,
}

/// Sends on-chain money away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// To where.
    pub address: String,
    /// How much; everything but the reserve when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_sat: Option<u64>,
    /// At which feerate, in satoshi per virtual byte; the estimate when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feerate_sat_per_vb: Option<u64>,
}

/// The answer to [`Withdraw`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawAnswer {
    /// The transaction.
    pub txid: String,
    /// What it pays to the address.
    pub amount_sat: u64,
    /// Its fee.
    pub fee_sat: u64,
    /// What the network said when it did not take the transaction at once. It is given to the network again
    /// and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_taken_yet: Option<String>,
}

/// Replaces a withdrawal that does not confirm by one that pays a higher feerate. One of everything pays the
/// difference from what arrives, others from the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BumpFee {
    /// The withdrawal's transaction.
    pub txid: String,
    /// The new feerate, in satoshi per virtual byte; the estimate for the next blocks when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feerate_sat_per_vb: Option<u64>,
}

/// The on-chain wallet's transactions: those in no block first, then newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListTransactions {
    /// At most so many; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Connects to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// `node_id@host:port`; a `node_id` alone for a peer whose address is known.
    pub peer: String,
}

/// The answer to [`Connect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The peer's key.
    pub node_id: String,
}

/// Ends the connection with a peer, which is not dialled again until [`Connect`] asks for it. The peer may
/// still connect by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    /// The peer's key.
    pub node_id: String,
    /// Also with open channels.
    #[serde(default)]
    pub force: bool,
}

/// Keeps a peer without channels out, and ends the connection with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    /// The peer's key.
    pub node_id: String,
    /// For how long, in seconds; until it is lifted when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secs: Option<u64>,
}

/// Lifts a ban, and forgets whatever the peer did wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unban {
    /// The peer's key.
    pub node_id: String,
}

/// The peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListPeers {}

/// Opens a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenChannel {
    /// With whom: `node_id`, or `node_id@host:port` to connect first.
    pub peer: String,
    /// The channel's capacity, all of it ours.
    pub amount_sat: u64,
    /// Given to the peer at once.
    #[serde(default)]
    pub push_msat: u64,
    /// Whether the channel is kept from the network.
    #[serde(default)]
    pub private: bool,
    /// The funding transaction's feerate, in satoshi per virtual byte; the estimate when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feerate_sat_per_vb: Option<u64>,
    /// `anchors` or `static_remotekey`; the best that both sides know when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_type: Option<String>,
}

impl OpenChannel {
    /// A public channel with `peer`.
    pub fn new(peer: impl Into<String>, amount_sat: u64) -> Self {
        Self {
            peer: peer.into(),
            amount_sat,
            push_msat: 0,
            private: false,
            feerate_sat_per_vb: None,
            channel_type: None,
        }
    }
}

/// The answer to [`OpenChannel`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenChannelAnswer {
    /// The channel's id.
    pub channel_id: String,
    /// The funding output, `txid:index`.
    pub funding: String,
    /// How many confirmations the funding transaction must have before the channel can be used.
    pub confirmations_wanted: Option<u32>,
}

/// Closes a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseChannel {
    /// The channel: its id, or its short channel id.
    pub channel: String,
    /// Alone and at once, by broadcasting our commitment transaction.
    #[serde(default)]
    pub force: bool,
    /// Where our balance goes when closing together; an address of the wallet when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The closing transaction's feerate, in satoshi per virtual byte; the estimate when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feerate_sat_per_vb: Option<u64>,
}

/// Lets the signer be asked again for a channel that rests because it refused something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnblockChannel {
    /// The channel: its id, or its short channel id.
    pub channel: String,
}

/// The channels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListChannels {}

/// Makes an invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// What to ask for; left to the payer when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_msat: Option<u64>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How long it can be paid; an hour when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_secs: Option<u32>,
}

impl Invoice {
    /// Asks for an amount.
    pub fn of_msat(amount_msat: u64, description: impl Into<String>) -> Self {
        Self {
            amount_msat: Some(amount_msat),
            description: description.into(),
            expiry_secs: None,
        }
    }
}

/// The answer to [`Invoice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceCreated {
    /// Its text.
    pub bolt11: String,
    /// Its payment hash.
    pub payment_hash: String,
}

/// The invoices, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListInvoices {
    /// Only this one: a payment hash, or its first 8 hex digits or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
    /// At most so many: 100 when left out, and never more than 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Those after a page: the `next` that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// Pays an invoice. Paying the same payment hash again gives the payment that there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pay {
    /// The BOLT 11 invoice.
    pub bolt11: String,
    /// The amount, for invoices that leave it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_msat: Option<u64>,
    /// The most to spend on fees; a default of the configuration when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_msat: Option<u64>,
    /// How long to keep trying; a default of the configuration when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u32>,
    /// Whether to answer only when the payment has ended (the default) or once it is durable and on its
    /// way.
    #[serde(default = "yes")]
    pub wait: bool,
    /// How long to wait for the end, then the answer is a pending payment, which goes on: 300 seconds when
    /// left out, and never more than a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_secs: Option<u32>,
}

impl Pay {
    /// Pays and waits for the end.
    pub fn new(bolt11: impl Into<String>) -> Self {
        Self {
            bolt11: bolt11.into(),
            amount_msat: None,
            max_fee_msat: None,
            timeout_secs: None,
            wait: true,
            wait_secs: None,
        }
    }

    /// Does not wait for the end.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.wait = false;
        self
    }
}

const fn yes() -> bool {
    true
}

/// The payments, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListPayments {
    /// Only this one: a payment hash, or its first 8 hex digits or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
    /// At most so many: 100 when left out, and never more than 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Those after a page: the `next` that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// The way that a payment would take now, and why. Nothing is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindRoute {
    /// A BOLT 11 invoice, or the id of a node.
    pub to: String,
    /// How much: for a node, and for an invoice that leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_msat: Option<u64>,
    /// The most to spend on fees; as configured when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee_msat: Option<u64>,
}

/// What there is and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Balance {}

/// Reads an invoice without paying it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decode {
    /// The BOLT 11 invoice.
    pub bolt11: String,
}

/// Stops the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {}
