//! Fixed keys: the corpus knows them, so that signatures and secrets in it are good.

use std::sync::LazyLock;

use bitcoin::secp256k1::{All, PublicKey, Secp256k1, SecretKey};

/// One context for all.
pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The key of number `n`, from 1 to 255.
pub(crate) fn secret(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).expect("such a number is a key")
}

/// Its public half.
pub(crate) fn public(n: u8) -> PublicKey {
    PublicKey::from_secret_key(&SECP, &secret(n))
}
