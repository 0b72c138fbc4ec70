//! Encrypted messages after the handshake.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    TransportError,
    cipher::{RotatingKey, TAG_LEN},
};

/// The most bytes of one message (BOLT 8).
pub const MAX_MESSAGE_LEN: usize = 65535;
/// The most bytes of one encrypted message: its length, the message, a tag for each.
pub const MAX_PACKET_LEN: usize = HEADER_LEN + MAX_MESSAGE_LEN + TAG_LEN;

const HEADER_LEN: usize = 2 + TAG_LEN;

/// Both directions of an encrypted connection. They don't depend on each other, and can be parted for
/// two tasks.
pub struct Transport {
    encryptor: Encryptor,
    decryptor: Decryptor,
}

impl Transport {
    pub(crate) const fn new(
        sending: [u8; 32],
        receiving: [u8; 32],
        chaining_key: [u8; 32],
    ) -> Self {
        Self {
            encryptor: Encryptor {
                key: RotatingKey::new(sending, chaining_key),
            },
            decryptor: Decryptor {
                key: RotatingKey::new(receiving, chaining_key),
                state: State::Header {
                    bytes: [0; HEADER_LEN],
                    filled: 0,
                },
            },
        }
    }

    /// See [`Encryptor::encrypt`].
    pub fn encrypt(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        self.encryptor.encrypt(message, out)
    }

    /// See [`Decryptor::decrypt`].
    pub fn decrypt(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        self.decryptor.decrypt(input)
    }

    /// The two directions on their own.
    pub fn split(self) -> (Encryptor, Decryptor) {
        (self.encryptor, self.decryptor)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport(..)")
    }
}

/// The sending direction.
pub struct Encryptor {
    key: RotatingKey,
}

impl Encryptor {
    /// Appends the encrypted `message` to `out`. Everything written must be sent, in order.
    pub fn encrypt(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), TransportError> {
        let len =
            u16::try_from(message.len()).map_err(|_| TransportError::TooLong(message.len()))?;
        let mut header = len.to_be_bytes();
        let tag = self.key.seal(&mut header);
        out.reserve(HEADER_LEN + message.len() + TAG_LEN);
        out.extend_from_slice(&header);
        out.extend_from_slice(&tag);
        let start = out.len();
        out.extend_from_slice(message);
        let tag = self.key.seal(&mut out[start..]);
        out.extend_from_slice(&tag);
        Ok(())
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryptor(..)")
    }
}

/// The receiving direction. It holds at most the one message that is under way, and of it no more than
/// what has arrived.
pub struct Decryptor {
    key: RotatingKey,
    state: State,
}

enum State {
    /// The encrypted length is being received.
    Header {
        bytes: [u8; HEADER_LEN],
        filled: usize,
    },
    /// The message and its tag, `wanted` bytes, are being received.
    Body { bytes: Vec<u8>, wanted: usize },
    /// A tag did not fit.
    Broken,
}

impl Decryptor {
    /// Takes bytes from the front of `input`, up to the end of one message, which is returned. With
    /// `None` all bytes were taken and more are needed; so call it until it says `None`.
    ///
    /// After an error every further call fails: close the connection.
    pub fn decrypt(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            match &mut self.state {
                State::Header { bytes, filled } => {
                    let taken = take(input, HEADER_LEN - *filled);
                    bytes[*filled..*filled + taken.len()].copy_from_slice(taken);
                    *filled += taken.len();
                    if *filled < HEADER_LEN {
                        return Ok(None);
                    }
                    let [high, low, tag @ ..] = bytes;
                    let mut len = [*high, *low];
                    if self.key.open(&mut len, *tag).is_err() {
                        return Err(self.broken());
                    }
                    self.state = State::Body {
                        bytes: Vec::new(),
                        wanted: usize::from(u16::from_be_bytes(len)) + TAG_LEN,
                    };
                }
                State::Body { bytes, wanted } => {
                    let taken = take(input, *wanted - bytes.len());
                    // The first piece is often the whole: then there is room for exactly that.
                    bytes.reserve_exact(if bytes.is_empty() { taken.len() } else { 0 });
                    bytes.extend_from_slice(taken);
                    if bytes.len() < *wanted {
                        return Ok(None);
                    }
                    let mut message = core::mem::take(bytes);
                    let opened = message
                        .split_last_chunk_mut::<TAG_LEN>()
                        .is_some_and(|(content, tag)| self.key.open(content, *tag).is_ok());
                    if !opened {
                        return Err(self.broken());
                    }
                    message.truncate(message.len() - TAG_LEN);
                    self.state = State::Header {
                        bytes: [0; HEADER_LEN],
                        filled: 0,
                    };
                    return Ok(Some(message));
                }
                State::Broken => return Err(TransportError::BadTag),
            }
        }
    }

    fn broken(&mut self) -> TransportError {
        self.state = State::Broken;
        TransportError::BadTag
    }
}

/// Moves at most `wanted` bytes from the front of `input`.
fn take<'a>(input: &mut &'a [u8], wanted: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(wanted.min(input.len()));
    *input = rest;
    taken
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decryptor(..)")
    }
}
