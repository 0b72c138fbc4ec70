//! One connection from the handshake to its end.

use std::pin::pin;

use bitcoin::secp256k1::PublicKey;
use fulmen_connect::Offence;
use fulmen_noise::{Decryptor, Encryptor};
use fulmen_wire::{Message, Ping};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    config::NetConfig,
    net::{Epoch, NetEvent, Shared},
    queue::SendQueue,
};

/// How much is encrypted and written at once.
const WRITE_CHUNK: usize = 128 * 1024;

/// What a connection's task works with.
pub(crate) struct Connection<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) peer: PublicKey,
    pub(crate) epoch: Epoch,
    pub(crate) queue: &'a SendQueue,
}

/// How a connection ended.
pub(crate) struct End {
    /// Why, for the log.
    pub(crate) reason: String,
    /// What the peer did, if it is to blame.
    pub(crate) offence: Option<Offence>,
}

impl End {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            offence: None,
        }
    }

    fn blamed(reason: impl Into<String>, offence: Offence) -> Self {
        Self {
            reason: reason.into(),
            offence: Some(offence),
        }
    }
}

/// How reading ended.
enum ReadEnd {
    /// There is nobody left to tell.
    Gone(End),
    /// The peer is at fault, and a warning is under way.
    Fault(End),
}

impl Connection<'_> {
    /// Reads and writes until the end, and says why it came.
    pub(crate) async fn run(
        &self,
        (read, write): (OwnedReadHalf, OwnedWriteHalf),
        (encryptor, decryptor): (Encryptor, Decryptor),
        early: Vec<u8>,
        mut kill: watch::Receiver<bool>,
    ) -> End {
        let mut reading = pin!(self.read(read, decryptor, early));
        let mut writing = pin!(self.write(write, encryptor));
        let mut fault = None;
        loop {
            tokio::select! {
                end = &mut reading, if fault.is_none() => match end {
                    ReadEnd::Gone(why) => return why,
                    ReadEnd::Fault(why) => {
                        fault = Some(why);
                        self.queue.close();
                    }
                },
                why = &mut writing => return fault.unwrap_or(why),
                // An error says that the owner is gone.
                _ = kill.wait_for(|kill| *kill) => {
                    return fault.unwrap_or_else(|| End::new("ended by us"));
                }
            }
        }
    }

    fn config(&self) -> &NetConfig {
        &self.shared.config
    }

    async fn read(
        &self,
        mut socket: OwnedReadHalf,
        mut decryptor: Decryptor,
        early: Vec<u8>,
    ) -> ReadEnd {
        let mut chunk = vec![0; 64 * 1024];
        let mut bytes = early;
        let mut last_message = Instant::now();
        let mut pinged = false;
        loop {
            let mut rest = bytes.as_slice();
            loop {
                match decryptor.decrypt(&mut rest) {
                    Ok(Some(message)) => {
                        if let Some(end) = self.take(&message).await {
                            return end;
                        }
                        last_message = Instant::now();
                        pinged = false;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        return ReadEnd::Gone(End::blamed(error.to_string(), Offence::BadBytes));
                    }
                }
            }
            // Time that we spent waiting for the driver is not held against the peer: the clock starts
            // again with the last message taken.
            let deadline = if pinged {
                last_message + self.config().idle_timeout
            } else {
                last_message + self.config().ping_interval
            };
            let count = match timeout_at(deadline, socket.read(&mut chunk)).await {
                Ok(Ok(0)) => return ReadEnd::Gone(End::new("the peer closed the connection")),
                Ok(Ok(count)) => count,
                Ok(Err(error)) => return ReadEnd::Gone(End::new(error.to_string())),
                Err(_) if pinged => {
                    return ReadEnd::Gone(End::blamed("the peer went silent", Offence::Silent));
                }
                Err(_) => {
                    pinged = true;
                    let ping = Ping {
                        num_pong_bytes: 1,
                        ignored: Vec::new(),
                    };
                    self.queue.push_own(Message::from(ping).encode()).await;
                    0
                }
            };
            bytes.clear();
            bytes.extend_from_slice(&chunk[..count]);
        }
    }

    /// One message of the peer.
    async fn take(&self, bytes: &[u8]) -> Option<ReadEnd> {
        match Message::decode(bytes) {
            Ok(Message::Ping(ping)) => {
                if let Some(pong) = ping.pong() {
                    self.queue.push_own(Message::from(pong).encode()).await;
                }
                None
            }
            Ok(Message::Pong(_)) => None,
            Ok(message) => {
                let event = NetEvent::Message {
                    peer: self.peer,
                    epoch: self.epoch,
                    message,
                };
                match self.shared.events.send(event).await {
                    Ok(()) => None,
                    Err(_) => Some(ReadEnd::Gone(End::new("shutting down"))),
                }
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "a message that is none");
                self.queue
                    .push_own(Message::from(error.warning()).encode())
                    .await;
                error
                    .closes_connection()
                    .then(|| ReadEnd::Fault(End::blamed(error.to_string(), Offence::BadBytes)))
            }
        }
    }

    /// Writes what is queued until the queue is closed and empty.
    async fn write(&self, mut socket: OwnedWriteHalf, mut encryptor: Encryptor) -> End {
        let mut out = Vec::new();
        while let Some(messages) = self.queue.pop(WRITE_CHUNK).await {
            out.clear();
            for message in messages {
                if let Err(error) = encryptor.encrypt(&message, &mut out) {
                    // Sizes are checked when a message is queued: this is a bug of ours, not theirs.
                    tracing::error!(peer = %self.peer, %error, "a message was not sent");
                }
            }
            match timeout(self.config().write_timeout, socket.write_all(&out)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return End::new(error.to_string()),
                Err(_) => {
                    let reason = "the peer does not read what we send";
                    return End::blamed(reason, Offence::DoesNotRead);
                }
            }
        }
        // The peer learns that this is the end; what it did not read yet still arrives.
        let _ = socket.shutdown().await;
        End::new("closed by us")
    }
}
