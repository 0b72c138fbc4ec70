//! The commands of the API, one by one.

mod channels;
mod info;
mod lists;
mod onchain;
mod payments;
mod peers;
mod route;

use std::{future::Future, str::FromStr, sync::Arc, time::Instant};

use bitcoin::{
    Address, Network, ScriptBuf,
    address::NetworkUnchecked,
    hashes::{Hash, sha256},
    secp256k1::{PublicKey, Secp256k1, VerifyOnly},
};
use fulmen::network_name;
use fulmen_api::{ErrorCode, Request};
use fulmen_block_sync::Status;
use fulmen_invoice::Invoice as Bolt11;
use fulmen_node::{CommandId, PeerAddress, Reply};
use fulmen_types::{FeeratePerKw, Feerates, Timestamp};
use fulmen_wallet::OnchainWallet;
use tokio::sync::watch;

use crate::{api_error::ApiError, events::EventLog, node_access::NodeAccess, token::Token, views};

/// All that commands need.
pub(crate) struct App {
    pub(crate) node: NodeAccess,
    pub(crate) wallet: OnchainWallet,
    pub(crate) net: fulmen::net_tokio::Net,
    pub(crate) broadcaster: Arc<dyn fulmen_background_processor::Broadcaster>,
    pub(crate) router: Arc<fulmen_background_processor::LocalRouter>,
    pub(crate) events: EventLog,
    pub(crate) token: Token,
    pub(crate) network: Network,
    pub(crate) alias: String,
    pub(crate) listen: String,
    pub(crate) chain: watch::Receiver<Status>,
    pub(crate) feerates: watch::Receiver<Option<Feerates>>,
    pub(crate) started: Instant,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) secp: Secp256k1<VerifyOnly>,
}

/// Who asks: gives a command its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) id: CommandId,
}

impl Caller {
    /// With the same key the same command is done once.
    pub(crate) fn new(key: Option<&[u8]>) -> Result<Self, ApiError> {
        let mut id = [0u8; 16];
        match key {
            Some(key) => {
                let hash = sha256::Hash::hash(key).to_byte_array();
                let (half, _) = hash.split_at(16);
                id.copy_from_slice(half);
            }
            None => getrandom::fill(&mut id)
                .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?,
        }
        Ok(Self { id: CommandId(id) })
    }
}

/// A command that the daemon serves.
pub(crate) trait Serve: Request {
    fn serve(
        self,
        app: Arc<App>,
        caller: Caller,
    ) -> impl Future<Output = Result<Self::Answer, ApiError>> + Send;
}
/// Work that may wait for the disk, off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ApiError::new(ErrorCode::Internal, e.to_string()))?
}

fn unexpected(reply: &Reply) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("the node gave an answer to another command: {reply:?}"),
    )
}

fn parse_invoice(app: &App, text: &str) -> Result<Bolt11, ApiError> {
    Bolt11::parse(&app.secp, text)
        .map_err(|e| ApiError::invalid(format!("this is not a valid BOLT 11 invoice: {e}")))
}

fn node_id_of(text: &str) -> Result<PublicKey, ApiError> {
    PublicKey::from_str(text).map_err(|_| {
        ApiError::invalid(format!(
            "{:?} is not a node id (66 hex digits, beginning with 02 or 03)",
            views::printable(text)
        ))
    })
}

fn peer_of(text: &str) -> Result<(PublicKey, Option<PeerAddress>), ApiError> {
    let Some((id, address)) = text.split_once('@') else {
        return Ok((node_id_of(text)?, None));
    };
    let is_address = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0));
    if !is_address {
        return Err(ApiError::invalid(format!(
            "{:?} is not host:port, for instance 127.0.0.1:9735",
            views::printable(address)
        )));
    }
    Ok((node_id_of(id)?, Some(PeerAddress(address.to_owned()))))
}

fn script_of(text: &str, network: Network) -> Result<ScriptBuf, ApiError> {
    let address = Address::<NetworkUnchecked>::from_str(text.trim()).map_err(|e| {
        ApiError::invalid(format!(
            "{:?} is not a Bitcoin address: {e}",
            views::printable(text)
        ))
    })?;
    let address = address.require_network(network).map_err(|_| {
        ApiError::invalid(format!(
            "{:?} is an address of another network; this node is on {}",
            views::printable(text),
            network_name(network)
        ))
    })?;
    Ok(address.script_pubkey())
}

fn feerate(sat_per_vb: u64) -> Result<FeeratePerKw, ApiError> {
    if !(1..=10_000).contains(&sat_per_vb) {
        return Err(ApiError::invalid(format!(
            "a feerate of {sat_per_vb} sat/vB makes no sense; take 1 to 10000"
        )));
    }
    Ok(FeeratePerKw::from_sat_per_kvb_ceil(sat_per_vb * 1_000))
}

pub(crate) fn now() -> Timestamp {
    use fulmen_background_processor::{Clock, SystemClock};
    SystemClock.now()
}
