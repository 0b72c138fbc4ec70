//! The ports: what the driver needs from outside, as small object-safe traits.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, secp256k1::PublicKey};
use fulmen_gossip::NetworkGraph;
use fulmen_node::{
    BlockId, BroadcastAnswer, Coin, CoinPurpose, CoinRequest, ConnEpoch, DisconnectReason,
    FundingRequest, Input, NumberedEvent, PeerAddress, RouteQuery, RouteReport, UtxoAnswer,
    WalletBalance, WalletError,
};
use fulmen_signer::Signer;
use fulmen_types::{BlockHeight, Feerates, ShortChannelId, Timestamp};
use fulmen_wire::Message;
use tokio::sync::mpsc;

/// Something under way.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Everything that a driver needs from outside.
pub struct Ports {
    /// Signs.
    pub signer: Arc<dyn Signer>,
    /// Holds coins.
    pub wallet: Arc<dyn Wallet>,
    /// Follows the chain.
    pub chain: Arc<dyn ChainSource>,
    /// Gives transactions to the network.
    pub broadcaster: Arc<dyn Broadcaster>,
    /// Estimates fees.
    pub fees: Arc<dyn FeeEstimator>,
    /// Connects with peers.
    pub connector: Arc<dyn Connector>,
    /// What peers do.
    pub peers: Box<dyn PeerSource>,
    /// Finds routes.
    pub router: Arc<dyn Router>,
    /// Hears of events, besides the streams of [`crate::NodeHandle::events`].
    pub events: Arc<dyn EventHandler>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

/// An on-chain wallet. Calls may block: they are made on threads for that, one at a time.
pub trait Wallet: Send + Sync {
    /// A signed transaction that pays for a channel; not broadcast, its coins leased for the purpose.
    fn fund(&self, request: &FundingRequest) -> Result<Transaction, WalletError>;

    /// Confirmed coins, leased for the purpose; the same ones when asked again, and more if needed.
    fn coins(&self, request: &CoinRequest) -> Result<Vec<Coin>, WalletError>;

    /// Witnesses for the inputs that are the wallet's; the others stay as they are.
    fn sign(&self, transaction: Transaction, spent: &[TxOut]) -> Result<Transaction, WalletError>;

    /// These are all the leases that are held: everything else is free. Told once at each start.
    fn keep_only(&self, leases: &[(CoinPurpose, Vec<OutPoint>)]);

    /// Gives back what is leased for a purpose.
    fn release(&self, purpose: CoinPurpose);

    /// A fresh script of the wallet.
    fn script(&self) -> Result<ScriptBuf, WalletError>;

    /// What the wallet holds. Asked after each block and each use of the wallet.
    fn balance(&self) -> WalletBalance;
}

/// What follows the chain.
pub trait ChainSource: Send + Sync {
    /// Follows the chain from the newest of these blocks on (newest first; the others are its ancestors),
    /// as [`Input::BlockDisconnected`], [`Input::BlockConnected`], [`Input::BestTip`] and
    /// [`Input::LateMatches`]. What was followed before is followed no longer.
    fn start(&self, recent: Vec<BlockId>) -> mpsc::Receiver<Input>;

    /// Every spend of this output from the block `from` on is to be delivered.
    fn watch_outpoint(&self, outpoint: OutPoint, script_pubkey: ScriptBuf, from: BlockHeight);

    /// Every payment to this script from the block `from` on is to be delivered.
    fn watch_script(&self, script_pubkey: ScriptBuf, from: BlockHeight);

    /// The output that a short channel id names.
    fn utxo(&self, short_channel_id: ShortChannelId) -> Work<UtxoAnswer>;
}

/// What gives transactions to the network.
pub trait Broadcaster: Send + Sync {
    /// One transaction alone, or several as a package, parents first.
    fn broadcast(&self, package: Vec<Transaction>) -> Work<BroadcastAnswer>;
}

/// What estimates fees.
pub trait FeeEstimator: Send + Sync {
    /// Estimates now; `None` when there are none.
    fn feerates(&self) -> Work<Option<Feerates>>;
}

/// What connects with peers. All calls return at once.
pub trait Connector: Send + Sync {
    /// Sends a message on a connection, in the order of the calls; nowhere when that has ended.
    fn send(&self, peer: PublicKey, epoch: ConnEpoch, message: &Message);

    /// How many bytes wait to be sent on a connection; 0 where nobody counts them. With too many the peer
    /// gets nothing that can wait.
    fn queued_bytes(&self, _peer: PublicKey, _epoch: ConnEpoch) -> usize {
        0
    }

    /// Ends a connection once what was sent before is out. The reason says whether the peer is to blame.
    fn disconnect(&self, peer: PublicKey, epoch: ConnEpoch, reason: &DisconnectReason);

    /// A peer broke a rule of gossip. What follows from it is the connector's to decide.
    fn misbehaved(&self, _peer: PublicKey) {}

    /// Connects once, because a user wants it.
    fn connect(&self, peer: PublicKey, addresses: Vec<PeerAddress>);

    /// Connects, and again whenever the connection ends.
    fn keep_connected(&self, peer: PublicKey, addresses: Vec<PeerAddress>);

    /// Stops reconnecting.
    fn stop_connecting(&self, peer: PublicKey);

    /// Ends all connections, and takes no new ones.
    fn shutdown(&self);
}

/// What peers do, as inputs: connected, message, disconnected, connect failed. Not taking from it must
/// stop the reading of peers.
pub trait PeerSource: Send {
    /// The next input; `None` when there will be no more.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Option<Input>>;
}

impl PeerSource for mpsc::Receiver<Input> {
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Option<Input>> {
        self.poll_recv(cx)
    }
}

/// What plans payments over routes, and learns from how they end.
pub trait Router: Send + Sync {
    /// A way for a payment, or several for its parts. May take a while: it is called on threads for that.
    fn route(
        &self,
        query: &RouteQuery,
        graph: &Arc<NetworkGraph>,
    ) -> Result<fulmen_router::Plan, fulmen_router::NoRoute>;

    /// How an HTLC along a route of its ended. Must not block; the next [`Router::route`] may count on it.
    fn learn(&self, report: RouteReport);
}

/// What hears of events.
pub trait EventHandler: Send + Sync {
    /// An event, in order. One that is not acknowledged comes again after the next start. Must not block.
    fn handle(&self, event: &NumberedEvent);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEventHandler;

impl EventHandler for NoEventHandler {
    fn handle(&self, _event: &NumberedEvent) {}
}

/// What tells the time.
pub trait Clock: Send + Sync {
    /// Now. The driver sees to it that time never goes back.
    fn now(&self) -> Timestamp;
}

/// The computer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
