//! BOLT 8: the handshake that proves who a peer is, and the encrypted frames after it.
//!
//! Nothing here touches a socket or draws randomness: bytes that arrive go in, in whatever pieces, and
//! bytes to send and messages come out. So the same code serves TCP, WebSocket, a serial line or a
//! test. The caller brings a fresh ephemeral secret for each handshake, closes the connection at the
//! first error, and sets its own time limits.
//!
//! ```
//! use bitcoin::secp256k1::SecretKey;
//! use fulmen_noise::{Handshake, LocalKey, Progress};
//!
//! let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
//! let (alice, bob) = (LocalKey::new(key(1)), LocalKey::new(key(2)));
//! let bob_id = bob.public_key();
//!
//! // In real life the ephemeral secrets (3 and 4) are random, and used once.
//! let (mut initiator, act_one) = Handshake::initiator(alice, key(3), bob_id)?;
//! let mut responder = Handshake::responder(bob, key(4));
//!
//! let Progress::Send(act_two) = responder.receive(&mut &act_one[..])? else { panic!() };
//! let Progress::Done(alice_session) = initiator.receive(&mut &act_two[..])? else { panic!() };
//! let Progress::Done(bob_session) = responder.receive(&mut &alice_session.send[..])? else { panic!() };
//!
//! let (mut alice, mut bob) = (alice_session.transport, bob_session.transport);
//! let mut wire = Vec::new();
//! alice.encrypt(b"hello", &mut wire)?;
//! assert_eq!(bob.decrypt(&mut &wire[..])?.as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![no_std]
extern crate alloc;

mod cipher;
mod error;
mod handshake;
mod key;
mod transport;

pub use error::{Act, HandshakeError, TransportError};
pub use handshake::{ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, Handshake, Progress, Session};
pub use key::{Ecdh, EcdhUnavailable, LocalKey};
pub use transport::{Decryptor, Encryptor, MAX_MESSAGE_LEN, MAX_PACKET_LEN, Transport};

#[cfg(test)]
mod tests;

/// The example of the README, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
