//! Noise_XK in three acts, from either side.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use bitcoin::{
    hashes::{Hash, HashEngine, sha256},
    secp256k1::{PublicKey, SecretKey},
};
use fulmen_types::wipe;

use crate::{
    Act, HandshakeError, Transport,
    cipher::{self, TAG_LEN},
    key::{Ecdh, LocalKey},
};

/// Bytes of the initiator's first message.
pub const ACT_ONE_LEN: usize = 50;
/// Bytes of the responder's message.
pub const ACT_TWO_LEN: usize = 50;
/// Bytes of the initiator's second message.
pub const ACT_THREE_LEN: usize = 66;

const VERSION: u8 = 0;

/// A handshake under way. `K` is our static key, or what stands for it.
pub struct Handshake<K> {
    local: K,
    ephemeral: LocalKey,
    symmetric: Symmetric,
    state: State,
    /// The act that is being received, at most 66 bytes.
    buffer: Vec<u8>,
}

/// What is awaited.
#[derive(Clone, Copy)]
enum State {
    ActOne,
    ActTwo { remote: PublicKey },
    ActThree,
    Over,
}

/// What came of the bytes.
#[derive(Debug)]
pub enum Progress {
    /// All bytes were taken, and more are needed.
    NeedMore,
    /// Send this, then go on receiving.
    Send(Vec<u8>),
    /// The handshake is done. Bytes that were not taken are the transport's.
    Done(Box<Session>),
}

/// The outcome of a handshake.
#[derive(Debug)]
pub struct Session {
    /// The peer's proven node id.
    pub remote: PublicKey,
    /// To be sent before anything else; empty for the responder.
    pub send: Vec<u8>,
    /// The encrypted connection.
    pub transport: Transport,
}

impl<K: Ecdh> Handshake<K> {
    /// Starts a handshake with the node `remote`, and gives act one to send. `ephemeral` is random, and
    /// never used again.
    pub fn initiator(
        local: K,
        ephemeral: SecretKey,
        remote: PublicKey,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let ephemeral = LocalKey::new(ephemeral);
        let mut symmetric = Symmetric::new(&remote);
        let mut act = Vec::with_capacity(ACT_ONE_LEN);
        // BOLT 8, Act One, sender: e, es.
        let shared = ephemeral.ecdh(&remote)?;
        symmetric.write_ephemeral(&ephemeral, shared, &mut act);
        let handshake = Self {
            local,
            ephemeral,
            symmetric,
            state: State::ActTwo { remote },
            buffer: Vec::new(),
        };
        Ok((handshake, act))
    }

    /// Awaits a handshake. `ephemeral` is random, and never used again.
    pub fn responder(local: K, ephemeral: SecretKey) -> Self {
        let symmetric = Symmetric::new(&local.public_key());
        Self {
            local,
            ephemeral: LocalKey::new(ephemeral),
            symmetric,
            state: State::ActOne,
            buffer: Vec::new(),
        }
    }

    /// Takes bytes from the front of `input`, at most what the next act lacks. After an error the
    /// connection is to be closed, and every further call fails.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Progress, HandshakeError> {
        let act_len = match self.state {
            State::ActOne => ACT_ONE_LEN,
            State::ActTwo { .. } => ACT_TWO_LEN,
            State::ActThree => ACT_THREE_LEN,
            State::Over => return Err(HandshakeError::Finished),
        };
        let wanted = act_len.saturating_sub(self.buffer.len()).min(input.len());
        let (taken, rest) = input.split_at(wanted);
        *input = rest;
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() < act_len {
            return Ok(Progress::NeedMore);
        }
        let act = core::mem::take(&mut self.buffer);
        match core::mem::replace(&mut self.state, State::Over) {
            State::ActOne => self.act_one(&act),
            State::ActTwo { remote } => self.act_two(&act, remote),
            State::ActThree => self.act_three(&act),
            State::Over => Err(HandshakeError::Finished),
        }
    }

    /// BOLT 8, Act One, receiver; Act Two, sender.
    fn act_one(&mut self, act: &[u8]) -> Result<Progress, HandshakeError> {
        let (key, tag) = split_ephemeral_act(act, Act::One)?;
        self.symmetric.mix_hash(&key.serialize());
        self.symmetric.mix_key(self.local.ecdh(&key)?);
        self.symmetric
            .open(0, &mut [], tag)
            .map_err(|_| HandshakeError::BadTag { act: Act::One })?;

        let mut reply = Vec::with_capacity(ACT_TWO_LEN);
        let shared = self.ephemeral.ecdh(&key)?;
        self.symmetric
            .write_ephemeral(&self.ephemeral, shared, &mut reply);
        self.state = State::ActThree;
        Ok(Progress::Send(reply))
    }

    /// BOLT 8, Act Two, receiver; Act Three, sender.
    fn act_two(&mut self, act: &[u8], remote: PublicKey) -> Result<Progress, HandshakeError> {
        let (key, tag) = split_ephemeral_act(act, Act::Two)?;
        self.symmetric.mix_hash(&key.serialize());
        self.symmetric.mix_key(self.ephemeral.ecdh(&key)?);
        self.symmetric
            .open(0, &mut [], tag)
            .map_err(|_| HandshakeError::BadTag { act: Act::Two })?;

        let mut send = Vec::with_capacity(ACT_THREE_LEN);
        send.push(VERSION);
        let mut sealed_key = self.local.public_key().serialize();
        let key_tag = self.symmetric.seal(1, &mut sealed_key);
        send.extend_from_slice(&sealed_key);
        send.extend_from_slice(&key_tag);
        self.symmetric.mix_key(self.local.ecdh(&key)?);
        send.extend_from_slice(&self.symmetric.seal(0, &mut []));

        let (sending, receiving) = self.symmetric.split();
        let transport = Transport::new(sending, receiving, self.symmetric.chaining_key);
        Ok(Progress::Done(Box::new(Session {
            remote,
            send,
            transport,
        })))
    }

    /// BOLT 8, Act Three, receiver.
    fn act_three(&mut self, act: &[u8]) -> Result<Progress, HandshakeError> {
        let broken = HandshakeError::BadCiphertext;
        let (version, rest) = act.split_first().ok_or(broken)?;
        check_version(*version, Act::Three)?;
        let (sealed_key, rest) = rest.split_first_chunk::<33>().ok_or(broken)?;
        let (key_tag, rest) = rest.split_first_chunk::<TAG_LEN>().ok_or(broken)?;
        let tag = <[u8; TAG_LEN]>::try_from(rest).map_err(|_| broken)?;

        let mut key = *sealed_key;
        self.symmetric
            .open(1, &mut key, *key_tag)
            .map_err(|_| broken)?;
        let remote = PublicKey::from_slice(&key)
            .map_err(|_| HandshakeError::BadPublicKey { act: Act::Three })?;
        self.symmetric.mix_key(self.ephemeral.ecdh(&remote)?);
        self.symmetric
            .open(0, &mut [], tag)
            .map_err(|_| HandshakeError::BadTag { act: Act::Three })?;

        let (receiving, sending) = self.symmetric.split();
        let transport = Transport::new(sending, receiving, self.symmetric.chaining_key);
        Ok(Progress::Done(Box::new(Session {
            remote,
            send: Vec::new(),
            transport,
        })))
    }
}

impl<K> fmt::Debug for Handshake<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::ActOne => "Handshake(awaits act one)",
            State::ActTwo { .. } => "Handshake(awaits act two)",
            State::ActThree => "Handshake(awaits act three)",
            State::Over => "Handshake(over)",
        })
    }
}

const fn check_version(version: u8, act: Act) -> Result<(), HandshakeError> {
    if version == VERSION {
        Ok(())
    } else {
        Err(HandshakeError::BadVersion { act, version })
    }
}

/// The parts of acts one and two: the version, an ephemeral key, a tag.
fn split_ephemeral_act(
    bytes: &[u8],
    act: Act,
) -> Result<(PublicKey, [u8; TAG_LEN]), HandshakeError> {
    let (version, rest) = bytes.split_first().ok_or(HandshakeError::BadTag { act })?;
    check_version(*version, act)?;
    let (key, tag) = rest
        .split_first_chunk::<33>()
        .ok_or(HandshakeError::BadPublicKey { act })?;
    let key = PublicKey::from_slice(key).map_err(|_| HandshakeError::BadPublicKey { act })?;
    let tag = tag.try_into().map_err(|_| HandshakeError::BadTag { act })?;
    Ok((key, tag))
}

/// The state that both sides compute alike: `h`, `ck` and the current `temp_k`.
struct Symmetric {
    hash: [u8; 32],
    chaining_key: [u8; 32],
    key: [u8; 32],
}

impl Symmetric {
    /// BOLT 8, Handshake State Initialization.
    fn new(responder: &PublicKey) -> Self {
        let name = sha256::Hash::hash(b"Noise_XK_secp256k1_ChaChaPoly_SHA256").to_byte_array();
        let mut symmetric = Self {
            hash: name,
            chaining_key: name,
            key: [0; 32],
        };
        symmetric.mix_hash(b"lightning");
        symmetric.mix_hash(&responder.serialize());
        symmetric
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.mix_hash_parts(data, &[]);
    }

    fn mix_hash_parts(&mut self, first: &[u8], second: &[u8]) {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.hash);
        engine.input(first);
        engine.input(second);
        self.hash = sha256::Hash::from_engine(engine).to_byte_array();
    }

    /// Takes the result of a Diffie-Hellman exchange in, and wipes it.
    fn mix_key(&mut self, mut shared: [u8; 32]) {
        (self.chaining_key, self.key) = cipher::hkdf(&self.chaining_key, &shared);
        wipe(&mut shared);
    }

    fn seal(&mut self, nonce: u64, content: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = cipher::seal(&self.key, nonce, &self.hash, content);
        self.mix_hash_parts(content, &tag);
        tag
    }

    fn open(
        &mut self,
        nonce: u64,
        content: &mut [u8],
        tag: [u8; TAG_LEN],
    ) -> Result<(), cipher::BadTag> {
        let ad = self.hash;
        self.mix_hash_parts(content, &tag);
        cipher::open(&self.key, nonce, &ad, content, tag)
    }

    /// Writes act one or two: version, ephemeral key, tag under the key that `shared` gives.
    fn write_ephemeral(&mut self, ephemeral: &LocalKey, shared: [u8; 32], act: &mut Vec<u8>) {
        let key = ephemeral.public_key().serialize();
        self.mix_hash(&key);
        self.mix_key(shared);
        act.push(VERSION);
        act.extend_from_slice(&key);
        act.extend_from_slice(&self.seal(0, &mut []));
    }

    /// The initiator's sending key, then the responder's.
    fn split(&self) -> ([u8; 32], [u8; 32]) {
        cipher::hkdf(&self.chaining_key, &[])
    }
}

impl Drop for Symmetric {
    fn drop(&mut self) {
        wipe(&mut self.chaining_key);
        wipe(&mut self.key);
    }
}
