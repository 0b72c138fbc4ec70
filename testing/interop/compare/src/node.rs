//! A node of LDK's that consists of its key.

use bitcoin::secp256k1::{
    PublicKey, Scalar, Secp256k1, SecretKey,
    ecdh::SharedSecret,
    ecdsa::{RecoverableSignature, Signature},
    schnorr,
};
use lightning::{
    ln::{inbound_payment::ExpandedKey, msgs::UnsignedGossipMessage},
    offers::invoice::UnsignedBolt12Invoice,
    sign::{NodeSigner, PeerStorageKey, ReceiveAuthKey, Recipient},
    util::logger::{Logger, Record},
};
use lightning_invoice::RawBolt11Invoice;

/// The key of a node, as LDK asks for it. It reads; it signs nothing.
#[derive(Clone, Copy, Debug)]
pub struct KeyOnly(pub SecretKey);

impl NodeSigner for KeyOnly {
    fn get_expanded_key(&self) -> ExpandedKey {
        ExpandedKey::new(self.0.secret_bytes())
    }

    fn get_peer_storage_key(&self) -> PeerStorageKey {
        PeerStorageKey {
            inner: self.0.secret_bytes(),
        }
    }

    fn get_receive_auth_key(&self) -> ReceiveAuthKey {
        ReceiveAuthKey(self.0.secret_bytes())
    }

    fn get_node_id(&self, _: Recipient) -> Result<PublicKey, ()> {
        Ok(PublicKey::from_secret_key(
            &Secp256k1::signing_only(),
            &self.0,
        ))
    }

    fn ecdh(
        &self,
        _: Recipient,
        other: &PublicKey,
        tweak: Option<&Scalar>,
    ) -> Result<SharedSecret, ()> {
        let key = match tweak {
            Some(tweak) => self.0.mul_tweak(tweak).map_err(|_| ())?,
            None => self.0,
        };
        Ok(SharedSecret::new(other, &key))
    }

    fn sign_invoice(&self, _: &RawBolt11Invoice, _: Recipient) -> Result<RecoverableSignature, ()> {
        Err(())
    }

    fn sign_bolt12_invoice(&self, _: &UnsignedBolt12Invoice) -> Result<schnorr::Signature, ()> {
        Err(())
    }

    fn sign_gossip_message(&self, _: UnsignedGossipMessage<'_>) -> Result<Signature, ()> {
        Err(())
    }

    fn sign_message(&self, _: &[u8]) -> Result<String, ()> {
        Err(())
    }
}

/// A logger that says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Logger for Silent {
    fn log(&self, _: Record<'_>) {}
}
