//! The signer for one process: all keys from a seed, every answer at once.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use bitcoin::{
    Network,
    secp256k1::{Message, PublicKey, SecretKey, ecdh::SharedSecret, ecdsa},
    sighash::SighashCache,
};
use fulmen_tx::{
    ChannelKeysId, ChannelParameters, ClaimKind, ClaimPreparer, Secp, derive_private_key,
    derive_private_key_of, derive_revocation_private_key,
};
use fulmen_types::{CommitmentNumber, NodeId};
use fulmen_wire::{ChannelAnnouncement, NodeAnnouncement};

use crate::{
    ClaimSigning, ClosingSigning, CommitmentSigning, HiddenBytes, HolderSigning, Refusal, Signer,
    SigningAnswer, SigningRequest,
    derive::{ChannelRoot, Root},
    policy,
};

/// Derives every key from a 32-byte seed and signs with it, deterministically (RFC 6979).
///
/// It remembers nothing, so it can answer on any number of threads; what it refuses is what the request
/// itself shows to be wrong. It trusts the node of its own process with order: put a
/// [`crate::SignerState`] before it where that is not enough.
pub struct KeysManager {
    secp: Secp,
    root: Root,
    node_key: SecretKey,
    node_id: PublicKey,
}

impl KeysManager {
    /// The keys of `seed` on `network`. The seed is all there is to back up of them; a channel's keys
    /// are found by its keys id too, which is in the channel's record.
    pub fn new(seed: [u8; 32], network: Network) -> Self {
        let secp = Secp::new();
        let root = Root::new(&seed, network);
        let node_key = root.node_key();
        let node_id = node_key.public_key(&secp);
        Self {
            secp,
            root,
            node_key,
            node_id,
        }
    }

    /// What the node's key and `point` share: SHA-256 of the compressed product. For the handshake of
    /// BOLT 8.
    pub fn ecdh(&self, point: &PublicKey) -> [u8; 32] {
        SharedSecret::new(point, &self.node_key).secret_bytes()
    }

    fn try_answer(&self, request: &SigningRequest) -> Result<SigningAnswer, Refusal> {
        match request {
            SigningRequest::CounterpartyCommitment(signing) => {
                self.sign_counterparty_commitment(signing)
            }
            // The node that asks has verified it; a signer that does not trust the node verifies in its
            // `SignerState`.
            SigningRequest::ValidateHolder(_) | SigningRequest::ValidateRevocation { .. } => {
                Ok(SigningAnswer::Validated)
            }
            SigningRequest::RevealSecret { keys_id, number } => {
                let secret = self.root.channel(keys_id).commitment_secret(*number);
                Ok(SigningAnswer::Secret(HiddenBytes::new(secret)))
            }
            SigningRequest::HolderCommitment(signing) => self.sign_holder_commitment(signing),
            SigningRequest::Claim(signing) => self.sign_claims(signing),
            SigningRequest::Closing(signing) => self.sign_closing(signing),
            SigningRequest::ChannelAnnouncement {
                keys_id,
                announcement,
            } => self.sign_channel_announcement(keys_id, announcement),
            SigningRequest::NodeAnnouncement(announcement) => {
                self.sign_node_announcement(announcement)
            }
            SigningRequest::ChannelUpdate(update) => Ok(SigningAnswer::Signature(
                self.sign(&update.signature_hash(), &self.node_key),
            )),
            SigningRequest::Invoice { hash } => Ok(self.sign_invoice(hash)),
            SigningRequest::PerCommitmentPoint { keys_id, number } => {
                let key = self.root.channel(keys_id).commitment_key(*number);
                Ok(SigningAnswer::Point(key.public_key(&self.secp)))
            }
            SigningRequest::ChannelPublicKeys { keys_id } => {
                let keys = self.root.channel(keys_id).public_keys(&self.secp);
                Ok(SigningAnswer::ChannelPublicKeys(Box::new(keys)))
            }
            SigningRequest::Ecdh { points } => Ok(SigningAnswer::SharedSecrets(
                points
                    .iter()
                    .map(|point| HiddenBytes::new(self.ecdh(point)))
                    .collect(),
            )),
            SigningRequest::CheckOwnSecret {
                keys_id,
                number,
                secret,
            } => {
                let own = self.root.channel(keys_id).commitment_secret(*number);
                Ok(SigningAnswer::OwnSecret(own == secret.to_byte_array()))
            }
            SigningRequest::Counters { .. } => Ok(SigningAnswer::Counters {
                holder: None,
                counterparty: None,
            }),
        }
    }

    fn sign_counterparty_commitment(
        &self,
        signing: &CommitmentSigning,
    ) -> Result<SigningAnswer, Refusal> {
        let (params, commitment) = (&signing.params, &signing.commitment);
        policy::check_conserved(params, &commitment.content).map_err(Refusal::Policy)?;
        let channel = self.root.channel(&params.keys_id);
        let funding_key = self.funding_key(&channel, params)?;
        let built = commitment.build(&self.secp, params);
        let htlc_signatures = if built.htlcs.is_empty() {
            Vec::new()
        } else {
            let htlc_key = derive_private_key_of(
                &channel.htlc(),
                &params.local.keys.htlc_basepoint,
                &commitment.per_commitment_point,
            );
            if htlc_key.public_key(&self.secp) != built.keys.countersigner_htlc_key {
                return Err(Refusal::ForeignKeys);
            }
            built
                .htlc_sighashes()
                .map(|sighash| self.sign(&sighash, &htlc_key))
                .collect()
        };
        Ok(SigningAnswer::Commitment {
            signature: self.sign(&built.sighash(params), &funding_key),
            htlc_signatures,
        })
    }

    fn sign_holder_commitment(&self, signing: &HolderSigning) -> Result<SigningAnswer, Refusal> {
        let (params, commitment) = (&signing.params, &signing.commitment);
        let content = &commitment.content;
        policy::check_conserved(params, content).map_err(Refusal::Policy)?;
        let channel = self.root.channel(&params.keys_id);
        let funding_key = self.funding_key(&channel, params)?;
        if self.point(&channel, content.number) != commitment.per_commitment_point {
            return Err(Refusal::ForeignKeys);
        }
        let sighash = commitment.build(&self.secp, params).sighash(params);
        Ok(SigningAnswer::Signature(self.sign(&sighash, &funding_key)))
    }

    fn sign_closing(&self, signing: &ClosingSigning) -> Result<SigningAnswer, Refusal> {
        let params = &signing.params;
        policy::check_closing(params, &signing.content, signing.outputs)
            .map_err(Refusal::Policy)?;
        let closing = signing
            .content
            .build(params, signing.outputs)
            .map_err(|_| Refusal::Policy(policy::Violation::FeeAboveBalance))?;
        let funding_key = self.funding_key(&self.root.channel(&params.keys_id), params)?;
        let sighash = closing.sighash(params);
        Ok(SigningAnswer::Signature(self.sign(&sighash, &funding_key)))
    }

    fn sign_claims(&self, signing: &ClaimSigning) -> Result<SigningAnswer, Refusal> {
        let channel = self.root.channel(&signing.params.keys_id);
        let mut preparer = ClaimPreparer::new(&self.secp, &signing.params);
        let mut cache = SighashCache::new(&signing.tx);
        let mut witnesses = Vec::with_capacity(signing.inputs.len());
        for input in &signing.inputs {
            let mismatch = Refusal::ClaimMismatch { index: input.index };
            let claim = preparer.prepare(&input.kind);
            if claim.script_pubkey() != input.prevout.script_pubkey {
                return Err(mismatch);
            }
            let key = self.claim_key(&channel, &input.kind);
            if key.public_key(&self.secp) != *claim.public_key() {
                return Err(Refusal::ForeignKeys);
            }
            let sighash = usize::try_from(input.index)
                .ok()
                .and_then(|index| claim.sighash(&mut cache, index, input.prevout.value))
                .ok_or(mismatch)?;
            let signature = self.sign(&sighash, &key);
            witnesses.push((input.index, claim.witness(&signature)));
        }
        Ok(SigningAnswer::Witnesses(witnesses))
    }

    fn claim_key(&self, channel: &ChannelRoot, kind: &ClaimKind) -> SecretKey {
        let secp = &self.secp;
        match kind {
            ClaimKind::HolderToLocal {
                per_commitment_point,
            }
            | ClaimKind::HolderSecondStage {
                per_commitment_point,
            } => derive_private_key(secp, &channel.delayed(), per_commitment_point),
            ClaimKind::HolderHtlcTimeout {
                per_commitment_point,
                ..
            }
            | ClaimKind::HolderHtlcSuccess {
                per_commitment_point,
                ..
            }
            | ClaimKind::CounterpartyHtlcPreimage {
                per_commitment_point,
                ..
            }
            | ClaimKind::CounterpartyHtlcTimeout {
                per_commitment_point,
                ..
            } => derive_private_key(secp, &channel.htlc(), per_commitment_point),
            ClaimKind::StaticRemote => channel.payment(),
            ClaimKind::RevokedToLocal {
                per_commitment_secret,
            }
            | ClaimKind::RevokedHtlc {
                per_commitment_secret,
                ..
            }
            | ClaimKind::RevokedSecondStage {
                per_commitment_secret,
            } => derive_revocation_private_key(secp, &channel.revocation(), per_commitment_secret),
            ClaimKind::Anchor => channel.funding(),
        }
    }

    fn sign_channel_announcement(
        &self,
        keys_id: &ChannelKeysId,
        announcement: &ChannelAnnouncement,
    ) -> Result<SigningAnswer, Refusal> {
        let funding_key = self.root.channel(keys_id).funding();
        let ours = (
            NodeId::from(self.node_id),
            NodeId::from(funding_key.public_key(&self.secp)),
        );
        // BOLT 7, channel_announcement: each node with its own bitcoin key.
        if ours != (announcement.node_id_1, announcement.bitcoin_key_1)
            && ours != (announcement.node_id_2, announcement.bitcoin_key_2)
        {
            return Err(Refusal::ForeignKeys);
        }
        let hash = announcement.signature_hash();
        Ok(SigningAnswer::Announcement {
            node_signature: self.sign(&hash, &self.node_key),
            bitcoin_signature: self.sign(&hash, &funding_key),
        })
    }

    fn sign_node_announcement(
        &self,
        announcement: &NodeAnnouncement,
    ) -> Result<SigningAnswer, Refusal> {
        if announcement.node_id != NodeId::from(self.node_id) {
            return Err(Refusal::ForeignKeys);
        }
        let signature = self.sign(&announcement.signature_hash(), &self.node_key);
        Ok(SigningAnswer::Signature(signature))
    }

    fn sign_invoice(&self, hash: &[u8; 32]) -> SigningAnswer {
        let (recovery_id, signature) = self
            .secp
            .sign_ecdsa_recoverable(&Message::from_digest(*hash), &self.node_key)
            .serialize_compact();
        SigningAnswer::Invoice {
            signature,
            recovery_id: u8::try_from(recovery_id.to_i32())
                .expect("a recovery id is between 0 and 3"),
        }
    }

    /// The funding key, if the parameters name it as ours.
    fn funding_key(
        &self,
        channel: &ChannelRoot,
        params: &ChannelParameters,
    ) -> Result<SecretKey, Refusal> {
        let key = channel.funding();
        if key.public_key(&self.secp) == params.local.keys.funding {
            Ok(key)
        } else {
            Err(Refusal::ForeignKeys)
        }
    }

    fn point(&self, channel: &ChannelRoot, number: CommitmentNumber) -> PublicKey {
        channel.commitment_key(number).public_key(&self.secp)
    }

    fn sign(&self, message: &Message, key: &SecretKey) -> ecdsa::Signature {
        self.secp.sign_ecdsa(message, key)
    }
}

impl Signer for KeysManager {
    fn answer(&self, request: &SigningRequest) -> SigningAnswer {
        self.try_answer(request)
            .unwrap_or_else(SigningAnswer::Refused)
    }

    fn node_id(&self) -> PublicKey {
        self.node_id
    }
}

impl fmt::Debug for KeysManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysManager")
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}
