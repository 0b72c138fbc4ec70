//! `fulmen-net-tokio` as the ports [`Connector`] and [`PeerSource`].

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bitcoin::secp256k1::PublicKey;
use fulmen_connect::Offence;
use fulmen_net_tokio::{Connections, Epoch, Initiator, Net, NetConfig, NetEvent, SendError};
use fulmen_node::{ConnEpoch, Direction, DisconnectReason, Input, PeerAddress};
use fulmen_noise::{Ecdh, EcdhUnavailable};
use fulmen_signer::{Signer, SigningAnswer, SigningRequest};
use fulmen_wire::Message;
use tokio::sync::mpsc;

use crate::ports::{Connector, PeerSource};

/// Connects with peers over TCP, when and with whom the policy says. To be called within a tokio runtime.
pub fn connect_over_tcp(
    config: NetConfig,
    signer: Arc<dyn Signer>,
    connections: Connections,
) -> (TcpConnector, TcpPeers) {
    let (net, events) = Net::start(config, Arc::new(SignerKey(signer)), connections);
    (TcpConnector { net }, TcpPeers { events })
}

/// The signer's key for handshakes.
struct SignerKey(Arc<dyn Signer>);

impl Ecdh for SignerKey {
    fn public_key(&self) -> PublicKey {
        self.0.node_id()
    }

    fn ecdh(&self, point: &PublicKey) -> Result<[u8; 32], EcdhUnavailable> {
        match self.0.answer(&SigningRequest::Ecdh {
            points: vec![*point],
        }) {
            SigningAnswer::SharedSecrets(secrets) => secrets
                .first()
                .map(|s| s.to_byte_array())
                .ok_or(EcdhUnavailable),
            _ => Err(EcdhUnavailable),
        }
    }
}

/// The sending half.
#[derive(Clone, Debug)]
pub struct TcpConnector {
    net: Net,
}

impl TcpConnector {
    /// The network, for listening, and for what users want of connections.
    pub fn net(&self) -> &Net {
        &self.net
    }
}

fn addresses(addresses: Vec<PeerAddress>) -> Vec<String> {
    addresses.into_iter().map(|address| address.0).collect()
}

impl Connector for TcpConnector {
    fn send(&self, peer: PublicKey, epoch: ConnEpoch, message: &Message) {
        match self.net.send(peer, Epoch(epoch.0), message) {
            // What ends a connection comes back as an input of its own.
            Ok(()) | Err(SendError::NotConnected | SendError::QueueFull) => {}
            Err(SendError::TooLong) => {
                // The peer waits for it, and can't be told: a new connection is the way on.
                tracing::error!(%peer, name = message.name(), "a message is too long to be sent");
                self.net.disconnect(peer, Epoch(epoch.0), None);
            }
        }
    }

    fn queued_bytes(&self, peer: PublicKey, epoch: ConnEpoch) -> usize {
        self.net.queued_bytes(peer, Epoch(epoch.0)).unwrap_or(0)
    }

    fn disconnect(&self, peer: PublicKey, epoch: ConnEpoch, reason: &DisconnectReason) {
        let blame = match reason {
            DisconnectReason::ProtocolViolation(_) => Some(Offence::Violation),
            DisconnectReason::Incompatible(_) => Some(Offence::Incompatible),
            DisconnectReason::Timeout => Some(Offence::Silent),
            DisconnectReason::Requested => {
                self.net.rest(peer);
                None
            }
            DisconnectReason::Replaced | DisconnectReason::ChannelReset => None,
        };
        self.net.disconnect(peer, Epoch(epoch.0), blame);
    }

    fn misbehaved(&self, peer: PublicKey) {
        self.net.misbehaved(peer, Offence::Gossip);
    }

    fn connect(&self, peer: PublicKey, to: Vec<PeerAddress>) {
        self.net.connect(peer, addresses(to));
    }

    fn keep_connected(&self, peer: PublicKey, to: Vec<PeerAddress>) {
        self.net.keep_connected(peer, addresses(to));
    }

    fn stop_connecting(&self, peer: PublicKey) {
        self.net.stop_connecting(peer);
    }

    fn shutdown(&self) {
        self.net.shutdown();
    }
}

/// The receiving half.
pub struct TcpPeers {
    events: mpsc::Receiver<NetEvent>,
}

impl fmt::Debug for TcpPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpPeers")
    }
}

impl PeerSource for TcpPeers {
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Option<Input>> {
        self.events.poll_recv(cx).map(|event| event.map(to_input))
    }
}

fn to_input(event: NetEvent) -> Input {
    match event {
        NetEvent::Connected {
            peer,
            epoch,
            initiator,
            address,
            remote: _,
        } => Input::PeerConnected {
            peer,
            epoch: ConnEpoch(epoch.0),
            direction: match initiator {
                Initiator::Us => Direction::Outbound,
                Initiator::Peer => Direction::Inbound,
            },
            address: address.map(PeerAddress),
        },
        NetEvent::Message {
            peer,
            epoch,
            message,
        } => Input::PeerMessage {
            peer,
            epoch: ConnEpoch(epoch.0),
            message,
        },
        NetEvent::Disconnected {
            peer,
            epoch,
            reason: _,
        } => Input::PeerDisconnected {
            peer,
            epoch: ConnEpoch(epoch.0),
        },
        NetEvent::ConnectFailed { peer, reason } => Input::ConnectFailed { peer, reason },
    }
}
