//! The handshake of BOLT 8 on a socket.

use std::{fmt, io, sync::Arc};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_noise::{Handshake, HandshakeError, Progress, Session};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::net::NodeKey;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    Handshake(HandshakeError),
    Timeout,
    Unavailable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Handshake(error) => write!(f, "{error}"),
            Self::Timeout => f.write_str("it did not answer in time"),
            Self::Unavailable(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

/// A connection that stands, with the bytes that came right behind the handshake.
pub(crate) struct Shaken {
    pub(crate) session: Session,
    pub(crate) early: Vec<u8>,
}

/// Who we look for, if we dialled.
pub(crate) async fn shake(
    socket: &mut TcpStream,
    key: Arc<NodeKey>,
    remote: Option<PublicKey>,
) -> Result<Shaken, Failure> {
    let ephemeral = fresh_secret()?;
    let mut handshake = match remote {
        Some(remote) => {
            let (handshake, act_one) = Handshake::initiator(key, ephemeral, remote)?;
            socket.write_all(&act_one).await?;
            handshake
        }
        None => Handshake::responder(key, ephemeral),
    };
    let mut chunk = [0; 1024];
    loop {
        let count = socket.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut bytes = chunk[..count].to_vec();
        while !bytes.is_empty() {
            // Our key may live with a signer that takes its time: never on a thread of the runtime.
            let step = tokio::task::spawn_blocking(move || {
                let mut rest = bytes.as_slice();
                let progress = handshake.receive(&mut rest);
                let rest = rest.to_vec();
                (handshake, progress, rest)
            });
            let (back, progress, rest) = step
                .await
                .map_err(|e| Failure::Unavailable(e.to_string()))?;
            handshake = back;
            bytes = rest;
            match progress? {
                Progress::NeedMore => {}
                Progress::Send(act) => socket.write_all(&act).await?,
                Progress::Done(session) => {
                    socket.write_all(&session.send).await?;
                    return Ok(Shaken {
                        session: *session,
                        early: bytes,
                    });
                }
            }
        }
    }
}

fn fresh_secret() -> Result<SecretKey, Failure> {
    loop {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|e| Failure::Unavailable(format!("the system gives no random bytes: {e}")))?;
        // All but one in 2^128 random values are secrets.
        if let Ok(secret) = SecretKey::from_slice(&bytes) {
            return Ok(secret);
        }
    }
}
