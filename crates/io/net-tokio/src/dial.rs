//! Dialling, when the policy says so.

use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use fulmen_connect::{ConnId, Input};
use fulmen_types::NodeId;
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::{
    handshake::{Failure, Shaken, shake},
    net::{Initiator, NetEvent, Shared, Socket, serve},
};

/// Dials each address until one answers as the peer, and serves the connection to its end.
pub(crate) async fn dial(
    shared: Arc<Shared>,
    id: ConnId,
    peer: NodeId,
    addresses: Vec<String>,
    mut killed: watch::Receiver<bool>,
) {
    let Ok(key) = peer.to_public_key() else {
        return shared.forget_socket(id, || Input::DialFailed {
            id,
            why: "that is no node's key".to_owned(),
        });
    };
    let reached = tokio::select! {
        reached = reach(&shared, key, &addresses) => reached,
        // It was given up, and whoever gave it up has told who waits for it.
        _ = killed.wait_for(|killed| *killed) => {
            shared.remove_socket(id);
            return;
        }
    };
    let failure = match reached {
        Ok((socket, shaken, address)) => {
            let socket = Socket {
                id,
                socket,
                shaken,
                initiator: Initiator::Us,
                address: Some(address),
                killed,
            };
            return serve(&shared, socket).await;
        }
        Err(failure) => failure,
    };
    let why = failure.to_string();
    shared.connect_failed(key, why.clone()).await;
    shared.forget_socket(id, || Input::DialFailed { id, why });
}

async fn reach(
    shared: &Shared,
    peer: PublicKey,
    addresses: &[String],
) -> Result<(TcpStream, Shaken, String), Failure> {
    let config = &shared.config;
    let mut last = Failure::Unavailable("no address is known".to_owned());
    for address in addresses {
        let attempt = async {
            let mut socket = timeout(config.connect_timeout, TcpStream::connect(address))
                .await
                .map_err(|_| Failure::Timeout)??;
            socket.set_nodelay(true)?;
            let key = Arc::clone(&shared.key);
            let shaken = timeout(
                config.handshake_timeout,
                shake(&mut socket, key, Some(peer)),
            )
            .await
            .map_err(|_| Failure::Timeout)??;
            Ok::<_, Failure>((socket, shaken))
        };
        match attempt.await {
            Ok((socket, shaken)) => return Ok((socket, shaken, address.clone())),
            Err(failure) => {
                tracing::debug!(%peer, address, %failure, "no connection");
                last = failure;
            }
        }
    }
    Err(last)
}

impl Shared {
    /// Tells that a connection that may have been asked for could not be made.
    pub(crate) async fn connect_failed(&self, peer: PublicKey, reason: String) {
        // The driver may have gone.
        let _ = self
            .events
            .send(NetEvent::ConnectFailed { peer, reason })
            .await;
    }
}
