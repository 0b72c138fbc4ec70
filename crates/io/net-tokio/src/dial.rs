//! Dialling: once, or again and again with growing waits.

use std::{sync::Arc, time::Duration};

use bitcoin::secp256k1::PublicKey;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    handshake::{Failure, shake},
    net::{Initiator, Net, NetEvent, serve},
};

/// A connection that lived this long was no failure.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// Dials each address until one answers, and serves the connection to its end.
async fn dial(net: &Net, peer: PublicKey, addresses: &[String]) -> Result<(), Failure> {
    let config = &net.shared.config;
    let mut last = Failure::Unavailable("no address is known".to_owned());
    for address in addresses {
        let attempt = async {
            let mut socket = timeout(config.connect_timeout, TcpStream::connect(address))
                .await
                .map_err(|_| Failure::Timeout)??;
            socket.set_nodelay(true)?;
            let key = Arc::clone(&net.shared.key);
            let shaken = timeout(
                config.handshake_timeout,
                shake(&mut socket, key, Some(peer)),
            )
            .await
            .map_err(|_| Failure::Timeout)??;
            Ok::<_, Failure>((socket, shaken))
        };
        match attempt.await {
            Ok((socket, shaken)) => {
                serve(
                    &net.shared,
                    socket,
                    shaken,
                    Initiator::Us,
                    Some(address.clone()),
                )
                .await;
                return Ok(());
            }
            Err(failure) => {
                tracing::debug!(%peer, address, %failure, "no connection");
                last = failure;
            }
        }
    }
    Err(last)
}

/// Dials once and tells when it fails.
pub(crate) async fn dial_once(net: Net, peer: PublicKey, addresses: Vec<String>) {
    if net.is_connected(peer) {
        return;
    }
    if let Err(failure) = dial(&net, peer, &addresses).await {
        let reason = failure.to_string();
        let _ = net
            .shared
            .events
            .send(NetEvent::ConnectFailed { peer, reason })
            .await;
    }
}

/// Dials whenever there is no connection with the peer, until aborted.
pub(crate) async fn keep_dialling(net: Net, peer: PublicKey, addresses: Vec<String>) {
    let config = net.shared.config.clone();
    let mut backoff = config.min_backoff;
    let mut first = true;
    loop {
        net.shared.until_disconnected(peer).await;
        let started = Instant::now();
        match dial(&net, peer, &addresses).await {
            Ok(()) => {}
            // The first failure answers who asked for the connection; the others are for the log.
            Err(failure) if first => {
                let reason = failure.to_string();
                if net
                    .shared
                    .events
                    .send(NetEvent::ConnectFailed { peer, reason })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(_) => {}
        }
        first = false;
        if started.elapsed() >= GOOD_LIFE {
            backoff = config.min_backoff;
        }
        tokio::time::sleep(with_jitter(backoff)).await;
        backoff = (backoff * 2).min(config.max_backoff);
    }
}

/// Between half of it and all of it: peers that lost each other at the same time don't meet in step.
fn with_jitter(wait: Duration) -> Duration {
    let mut byte = [128];
    // Without random bytes it is three quarters for everybody, which does no harm.
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(0.5 + f64::from(byte[0]) / 510.0)
}
