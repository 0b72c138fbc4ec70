//! A node's own key, wherever it lives.

use core::fmt;

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey, ecdh::SharedSecret};

/// A node's static key. The secret may live elsewhere, in a signer: all that the handshake needs is
/// the public key and one Diffie-Hellman with a point.
pub trait Ecdh {
    /// The node id.
    fn public_key(&self) -> PublicKey;

    /// The SHA-256 of the compressed product of the secret and `point` (BOLT 8).
    fn ecdh(&self, point: &PublicKey) -> Result<[u8; 32], EcdhUnavailable>;
}

/// Who holds the static key does not answer, or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcdhUnavailable;

impl fmt::Display for EcdhUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the signer did not compute the shared secret; check that it is connected")
    }
}

impl core::error::Error for EcdhUnavailable {}

impl<T: Ecdh + ?Sized> Ecdh for &T {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn ecdh(&self, point: &PublicKey) -> Result<[u8; 32], EcdhUnavailable> {
        (**self).ecdh(point)
    }
}

impl<T: Ecdh + ?Sized> Ecdh for alloc::boxed::Box<T> {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn ecdh(&self, point: &PublicKey) -> Result<[u8; 32], EcdhUnavailable> {
        (**self).ecdh(point)
    }
}

impl<T: Ecdh + ?Sized> Ecdh for alloc::sync::Arc<T> {
    fn public_key(&self) -> PublicKey {
        (**self).public_key()
    }

    fn ecdh(&self, point: &PublicKey) -> Result<[u8; 32], EcdhUnavailable> {
        (**self).ecdh(point)
    }
}

/// A key pair in memory.
#[derive(Clone)]
pub struct LocalKey {
    secret: SecretKey,
    public: PublicKey,
}

impl LocalKey {
    /// The pair of `secret`.
    pub fn new(secret: SecretKey) -> Self {
        let public = PublicKey::from_secret_key(&Secp256k1::signing_only(), &secret);
        Self { secret, public }
    }

    /// The public half.
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }
}

impl Ecdh for LocalKey {
    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn ecdh(&self, point: &PublicKey) -> Result<[u8; 32], EcdhUnavailable> {
        Ok(SharedSecret::new(point, &self.secret).secret_bytes())
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.public)
    }
}

impl Drop for LocalKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}
