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
                state: State::Header,
                buffer: Vec::new(),
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

/// The receiving direction. It holds at most the one message that is under way.
pub struct Decryptor {
    key: RotatingKey,
    state: State,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Body { len: usize },
    Broken,
}

impl Decryptor {
    /// Takes bytes from the front of `input`, up to the end of one message, which is returned. With
    /// `None` all bytes were taken and more are needed; so call it until it says `None`.
    ///
    /// After an error every further call fails: close the connection.
    pub fn decrypt(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            match self.state {
                State::Header => {
                    if !self.fill(input, HEADER_LEN) {
                        return Ok(None);
                    }
                    let header = self.open()?;
                    let len = header
                        .try_into()
                        .map(u16::from_be_bytes)
                        .map_err(|_| TransportError::BadTag)?;
                    self.state = State::Body {
                        len: usize::from(len),
                    };
                }
                State::Body { len } => {
                    if !self.fill(input, len + TAG_LEN) {
                        return Ok(None);
                    }
                    let message = self.open()?;
                    self.state = State::Header;
                    return Ok(Some(message));
                }
                State::Broken => return Err(TransportError::BadTag),
            }
        }
    }

    /// Moves bytes until the buffer has `wanted` of them; whether it has.
    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let take = wanted.saturating_sub(self.buffer.len()).min(input.len());
        let (taken, rest) = input.split_at(take);
        *input = rest;
        self.buffer.extend_from_slice(taken);
        self.buffer.len() >= wanted
    }

    /// Decrypts the buffer, whose last 16 bytes are the tag.
    fn open(&mut self) -> Result<Vec<u8>, TransportError> {
        let mut content = core::mem::take(&mut self.buffer);
        let opened = content
            .split_last_chunk_mut::<TAG_LEN>()
            .is_some_and(|(content, tag)| self.key.open(content, *tag).is_ok());
        if !opened {
            self.state = State::Broken;
            return Err(TransportError::BadTag);
        }
        content.truncate(content.len() - TAG_LEN);
        Ok(content)
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decryptor(..)")
    }
}
