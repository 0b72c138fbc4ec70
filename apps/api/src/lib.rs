//! The daemon's HTTP API: typed requests and answers, and an async client.
//!
//! Every command is `POST /v1/<command>` with a JSON body and the token of the file `api-token` as
//! bearer; a refusal is a status of 4xx or 5xx with an [`ErrorBody`] that says what to do. The one stream
//! is `GET /v1/events?from=N&follow=true`: one JSON object a line, in order, from event N on.
//!
//! Amounts carry their unit in the name; keys, hashes and ids are hex as everywhere in Bitcoin. Fields
//! are only ever added: a client must ignore those that it does not know.
//!
//! What it is not: it knows no node and no wallet, so that a client links neither.
//!
//! ```no_run
//! use fulmen_api::{Client, Invoice};
//!
//! # async fn example() -> Result<(), fulmen_api::ClientError> {
//! let client = Client::from_data_dir("/home/me/.fulmen/signet")?;
//! let answer = client.call(&Invoice::of_msat(1_000, "coffee")).await?;
//! println!("{}", answer.bolt11);
//! # Ok(())
//! # }
//! ```

/// The API's version, the first part of every path. Within one, fields and commands are only added.
pub const API_VERSION: u32 = 1;

mod client;
mod error;
mod event;
mod files;
mod requests;
mod views;

pub use client::{Client, EventStream};
pub use error::{ClientError, ErrorBody, ErrorCode, ErrorDetail};
pub use event::{Event, EventKind};
pub use files::{ADDRESS_FILE, TOKEN_FILE, default_api_address, default_data_dir};
pub use requests::{
    Balance, Ban, BumpFee, CloseChannel, Connect, Connected, Decode, Disconnect, Done, FindRoute,
    GetInfo, Invoice, InvoiceCreated, ListChannels, ListInvoices, ListPayments, ListPeers,
    ListTransactions, NewAddress, NewAddressAnswer, OpenChannel, OpenChannelAnswer, Pay, Request,
    Stop, Unban, UnblockChannel, Withdraw, WithdrawAnswer,
};
pub use views::{
    BalanceInfo, BanInfo, ChainState, ChannelInfo, ChannelList, DecodedInvoice, FeeratesInfo,
    FoundRoute, HopKnowledge, InvoiceInfo, InvoiceList, InvoiceState, NodeInfo, PaymentInfo,
    PaymentList, PaymentState, PeerInfo, PeerList, RouteHop, RoutePart, SweepInfo, TransactionInfo,
    TransactionList,
};
