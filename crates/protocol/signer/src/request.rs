//! Questions to a signer, and its answers.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use bitcoin::{
    Transaction, TxOut, Witness,
    secp256k1::{PublicKey, ecdsa},
};
use fulmen_tx::{
    ChannelKeysId, ChannelParameters, ChannelPublicKeys, ClaimKind, ClosingContent, ClosingOutputs,
    CounterpartyCommitment, HolderCommitment,
};
use fulmen_types::CommitmentNumber;
use fulmen_wire::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};

use crate::Refusal;

/// Whoever holds the node's keys: in this process, in another, in hardware.
pub trait Signer: Send + Sync {
    /// Answers a request. [`SigningAnswer::Refused`] is final and signs nothing;
    /// [`SigningAnswer::Unavailable`] may have signed.
    fn answer(&self, request: &SigningRequest) -> SigningAnswer;

    /// The node's public key.
    fn node_id(&self) -> PublicKey;
}

/// Something to sign or to derive, with all that policy needs to know.
///
/// The first six are late-bound: seed and request give the same answer again, so they are asked for
/// when the result leaves the node. The others come back as an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningRequest {
    /// Sign the peer's commitment and its HTLC transactions. Answer: [`SigningAnswer::Commitment`].
    CounterpartyCommitment(Box<CommitmentSigning>),
    /// Take note that the peer has signed this commitment of ours, so that the one before may be
    /// revoked. Answer: [`SigningAnswer::Validated`].
    ValidateHolder(Box<HolderSigning>),
    /// Reveal the secret of a commitment of ours, which revokes it. Answer: [`SigningAnswer::Secret`].
    RevealSecret {
        /// The channel.
        keys_id: ChannelKeysId,
        /// The commitment.
        number: CommitmentNumber,
    },
    /// Take note that the peer has revoked a commitment of its own, so that one more may be signed.
    /// Answer: [`SigningAnswer::Validated`].
    ValidateRevocation {
        /// The channel.
        keys_id: ChannelKeysId,
        /// What was revoked.
        revocation: Revocation,
    },
    /// Sign our commitment for broadcast. From then on its secret is never revealed, nor a later one.
    /// Answer: [`SigningAnswer::Signature`].
    HolderCommitment(Box<HolderSigning>),
    /// Make the witnesses of claims. Answer: [`SigningAnswer::Witnesses`].
    Claim(Box<ClaimSigning>),
    /// Sign a mutual close. Answer: [`SigningAnswer::Signature`].
    Closing(Box<ClosingSigning>),
    /// Sign our half of an announcement, with the node's key and the funding key. Answer:
    /// [`SigningAnswer::Announcement`].
    ChannelAnnouncement {
        /// The channel.
        keys_id: ChannelKeysId,
        /// The announcement; its signatures don't matter.
        announcement: Box<ChannelAnnouncement>,
    },
    /// Sign our own announcement. Answer: [`SigningAnswer::Signature`].
    NodeAnnouncement(Box<NodeAnnouncement>),
    /// Sign what we ask for forwarding. Answer: [`SigningAnswer::Signature`].
    ChannelUpdate(Box<ChannelUpdate>),
    /// Sign the hash of an invoice. Answer: [`SigningAnswer::Invoice`].
    Invoice {
        /// SHA-256 of what BOLT 11 has signed.
        hash: [u8; 32],
    },
    /// Our per-commitment point. Answer: [`SigningAnswer::Point`].
    PerCommitmentPoint {
        /// The channel.
        keys_id: ChannelKeysId,
        /// The commitment.
        number: CommitmentNumber,
    },
    /// Our keys of a channel. Answer: [`SigningAnswer::ChannelPublicKeys`].
    ChannelPublicKeys {
        /// The channel.
        keys_id: ChannelKeysId,
    },
    /// What the node's key shares with each of these points: SHA-256 of the compressed product.
    /// Answer: [`SigningAnswer::SharedSecrets`].
    Ecdh {
        /// The points.
        points: Vec<PublicKey>,
    },
    /// Is this really our secret? A peer that knows one of the future proves that our state is old.
    /// Answer: [`SigningAnswer::OwnSecret`].
    CheckOwnSecret {
        /// The channel.
        keys_id: ChannelKeysId,
        /// The commitment.
        number: CommitmentNumber,
        /// What the peer says its secret is.
        secret: HiddenBytes,
    },
    /// How far has the signer come in this channel? One that remembers more than the node does proves that
    /// the node's state is old. Answer: [`SigningAnswer::Counters`].
    Counters {
        /// The channel.
        keys_id: ChannelKeysId,
    },
}

/// The secret of a commitment of the peer's, which it revealed with `revoke_and_ack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The commitment.
    pub number: CommitmentNumber,
    /// Its secret.
    pub secret: HiddenBytes,
}

/// The peer's commitment, to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSigning {
    /// The channel.
    pub params: ChannelParameters,
    /// The commitment.
    pub commitment: CounterpartyCommitment,
}

/// Our commitment, signed by the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderSigning {
    /// The channel.
    pub params: ChannelParameters,
    /// The commitment with the peer's signatures.
    pub commitment: HolderCommitment,
}

/// A transaction that claims outputs of a force-close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSigning {
    /// The channel.
    pub params: ChannelParameters,
    /// The transaction. Witnesses that are there, of the wallet's inputs, are left alone.
    pub tx: Transaction,
    /// Which inputs claim what.
    pub inputs: Vec<ClaimInput>,
}

/// One claiming input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimInput {
    /// Its index in the transaction.
    pub index: u32,
    /// The output that it spends.
    pub prevout: TxOut,
    /// What that output is.
    pub kind: ClaimKind,
}

/// A mutual close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingSigning {
    /// The channel.
    pub params: ChannelParameters,
    /// What is divided and to whom.
    pub content: ClosingContent,
    /// Which outputs there are.
    pub outputs: ClosingOutputs,
}

/// What a signer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningAnswer {
    /// On the peer's commitment.
    Commitment {
        /// On the commitment transaction.
        signature: ecdsa::Signature,
        /// On the HTLC transactions, in the order of the outputs.
        htlc_signatures: Vec<ecdsa::Signature>,
    },
    /// Our commitment, or the peer's revocation, is noted.
    Validated,
    /// Our per-commitment secret.
    Secret(HiddenBytes),
    /// A signature.
    Signature(ecdsa::Signature),
    /// The witness of each claiming input, by index.
    Witnesses(Vec<(u32, Witness)>),
    /// Our half of a channel announcement.
    Announcement {
        /// By the node's key.
        node_signature: ecdsa::Signature,
        /// By the funding key.
        bitcoin_signature: ecdsa::Signature,
    },
    /// On an invoice: the public key can be recovered from it.
    Invoice {
        /// 64 bytes, `r` then `s`.
        signature: [u8; 64],
        /// 0 to 3.
        recovery_id: u8,
    },
    /// Our per-commitment point.
    Point(PublicKey),
    /// Our keys of a channel.
    ChannelPublicKeys(Box<ChannelPublicKeys>),
    /// The shared secrets, in the order of the points.
    SharedSecrets(Vec<HiddenBytes>),
    /// Whether it is our secret.
    OwnSecret(bool),
    /// What the signer remembers of a channel; nothing if it keeps no state or does not know it.
    Counters {
        /// The newest commitment of ours that it validated.
        holder: Option<CommitmentNumber>,
        /// The newest commitment of the peer's that it signed.
        counterparty: Option<CommitmentNumber>,
    },
    /// The signer will not, ever. Nothing was signed.
    Refused(Refusal),
    /// The signer can't be reached or does not answer; it counts as possibly signed.
    Unavailable,
}

/// 32 bytes that logs must not show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HiddenBytes([u8; 32]);

impl HiddenBytes {
    /// Wraps the bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn to_byte_array(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for HiddenBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenBytes(..)")
    }
}
