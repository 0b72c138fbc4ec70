//! Signing in two steps, the same for all messages that are signed, so that the key can be elsewhere.

use alloc::vec::Vec;

use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey, Signing, Verification, schnorr};

use crate::{
    BuildError, Field, ParseError,
    merkle::{merkle_root, signature_hash},
    stream::StreamBuilder,
};

/// A message that somebody signs: an invoice request, an invoice, a static invoice or a payer proof.
pub trait SignedMessage: sealed::Sealed + Sized {
    /// What it says itself, known before it is signed.
    type Content;
}

pub(crate) mod sealed {
    use super::*;

    /// What signing needs of a message.
    pub trait Sealed: Sized {
        /// Its name in the tag of the signature (BOLT 12, "Signature Calculation").
        const NAME: &'static str;
        /// Where the signature is.
        const SIGNATURE: Field;

        /// Reads and verifies it.
        fn from_signed<C: Verification>(
            secp: &Secp256k1<C>,
            bytes: &[u8],
        ) -> Result<Self, ParseError>;
    }
}

/// A message that waits for its signature: that of a request and of a payer proof is its payer's, by the key of
/// `invreq_payer_id`; that of an invoice its recipient's, by the key of `invoice_node_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned<M: SignedMessage> {
    bytes: Vec<u8>,
    content: M::Content,
}

impl<M: SignedMessage> Unsigned<M> {
    /// Of a stream that was held against the rules of the message, but for the signature.
    pub(crate) const fn new(bytes: Vec<u8>, content: M::Content) -> Self {
        Self { bytes, content }
    }

    /// What the message says itself.
    pub(crate) const fn content(&self) -> &M::Content {
        &self.content
    }

    /// What the key signs with BIP 340.
    pub fn signable_hash(&self) -> [u8; 32] {
        hash_to_sign::<M>(&self.bytes)
    }

    /// With the signature that was made elsewhere.
    pub fn attach<C: Verification>(
        self,
        secp: &Secp256k1<C>,
        signature: &schnorr::Signature,
    ) -> Result<M, BuildError> {
        let mut out = StreamBuilder::default();
        out.copy_if(&self.bytes, |_| true);
        out.put(M::SIGNATURE, signature);
        Ok(M::from_signed(secp, &out.finish())?)
    }

    /// Signs here, for those who hold the key.
    pub fn sign_with_key<C: Signing + Verification>(
        self,
        secp: &Secp256k1<C>,
        key: &SecretKey,
    ) -> Result<M, BuildError> {
        let mut keypair = Keypair::from_secret_key(secp, key);
        let message = Message::from_digest(self.signable_hash());
        let signature = secp.sign_schnorr_no_aux_rand(&message, &keypair);
        keypair.non_secure_erase();
        self.attach(secp, &signature)
    }
}

/// What the signature of a message signs, over its stream with the signature or without.
pub(crate) fn hash_to_sign<M: SignedMessage>(bytes: &[u8]) -> [u8; 32] {
    let root = merkle_root(bytes).expect("every message has a field that must be there");
    signature_hash(M::NAME, M::SIGNATURE.name(), &root)
}
