//! Signatures of announcements: pure functions, so that they can run on any core.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use bitcoin::{
    ScriptBuf,
    opcodes::all::{OP_CHECKMULTISIG, OP_PUSHNUM_2},
    script::Builder,
    secp256k1::{Message, Secp256k1, Verification, ecdsa::Signature},
};
use fulmen_types::NodeId;
use fulmen_wire::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};

/// Why an announcement is not genuine. The sender is to be warned (BOLT 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// `node_id_1` is not less than `node_id_2`.
    NodesNotOrdered,
    /// A key is no point of the curve.
    InvalidKey,
    /// A signature does not fit.
    InvalidSignature,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodesNotOrdered => "node_id_1 is not less than node_id_2",
            Self::InvalidKey => "a key is not a point of the curve",
            Self::InvalidSignature => "a signature is not valid",
        })
    }
}

impl core::error::Error for VerifyError {}

/// Checks the four signatures of a `channel_announcement`. That the funding output is there and pays to
/// the two keys is a question to the chain: see [`funding_script`].
pub fn verify_channel_announcement<C: Verification>(
    secp: &Secp256k1<C>,
    announcement: &ChannelAnnouncement,
) -> Result<(), VerifyError> {
    let a = announcement;
    if a.node_id_1 >= a.node_id_2 {
        return Err(VerifyError::NodesNotOrdered);
    }
    let hash = a.signature_hash();
    verify(secp, &hash, &a.node_signature_1, &a.node_id_1)?;
    verify(secp, &hash, &a.node_signature_2, &a.node_id_2)?;
    verify(secp, &hash, &a.bitcoin_signature_1, &a.bitcoin_key_1)?;
    verify(secp, &hash, &a.bitcoin_signature_2, &a.bitcoin_key_2)
}

/// Checks the signature of a `node_announcement`.
pub fn verify_node_announcement<C: Verification>(
    secp: &Secp256k1<C>,
    announcement: &NodeAnnouncement,
) -> Result<(), VerifyError> {
    verify(
        secp,
        &announcement.signature_hash(),
        &announcement.signature,
        &announcement.node_id,
    )
}

/// Checks the signature of a `channel_update` by the node whose direction it is.
pub fn verify_channel_update<C: Verification>(
    secp: &Secp256k1<C>,
    update: &ChannelUpdate,
    node_id: &NodeId,
) -> Result<(), VerifyError> {
    verify(secp, &update.signature_hash(), &update.signature, node_id)
}

/// A signed message on its way to a check of its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UncheckedGossip {
    /// Its four keys are in it.
    ChannelAnnouncement(Box<ChannelAnnouncement>),
    /// Its key is not in it.
    ChannelUpdate {
        /// The update.
        update: Box<ChannelUpdate>,
        /// Who is taken to have signed it.
        signer: NodeId,
    },
    /// Its key is in it.
    NodeAnnouncement(Box<NodeAnnouncement>),
}

impl UncheckedGossip {
    /// The message as it came.
    pub fn into_message(self) -> fulmen_wire::Message {
        match self {
            Self::ChannelAnnouncement(m) => (*m).into(),
            Self::ChannelUpdate { update, .. } => (*update).into(),
            Self::NodeAnnouncement(m) => (*m).into(),
        }
    }

    /// Checks the signatures: the costly part of taking gossip, and one that needs nothing but the message.
    pub fn check<C: Verification>(self, secp: &Secp256k1<C>) -> CheckedGossip {
        let verdict = match &self {
            Self::ChannelAnnouncement(m) => verify_channel_announcement(secp, m),
            Self::ChannelUpdate { update, signer } => verify_channel_update(secp, update, signer),
            Self::NodeAnnouncement(m) => verify_node_announcement(secp, m),
        };
        CheckedGossip {
            message: self,
            verdict,
        }
    }
}

/// A signed message with the verdict on its signatures. Only [`UncheckedGossip::check`] makes one, so who
/// holds it need not check again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedGossip {
    pub(crate) message: UncheckedGossip,
    pub(crate) verdict: Result<(), VerifyError>,
}

impl CheckedGossip {
    /// What came of the check.
    pub const fn verdict(&self) -> Result<(), VerifyError> {
        self.verdict
    }
}

/// What is known of the signatures of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof {
    /// Nothing.
    Unchecked,
    /// They were checked, an update's against this key.
    Checked(Option<NodeId>, Result<(), VerifyError>),
}

impl Proof {
    /// The verdict for a message whose keys are in it.
    pub(crate) fn or_check(
        self,
        check: impl FnOnce() -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        match self {
            Self::Unchecked => check(),
            Self::Checked(_, verdict) => verdict,
        }
    }

    /// The verdict for an update that this node must have signed: one about another key says nothing.
    pub(crate) fn of_signer<C: Verification>(
        self,
        secp: &Secp256k1<C>,
        update: &ChannelUpdate,
        node_id: &NodeId,
    ) -> Result<(), VerifyError> {
        match self {
            Self::Checked(Some(signer), verdict) if signer == *node_id => verdict,
            Self::Checked(..) | Self::Unchecked => verify_channel_update(secp, update, node_id),
        }
    }
}

/// The script that a channel's funding output must have (BOLT 3, Funding Transaction Output).
pub fn funding_script(announcement: &ChannelAnnouncement) -> ScriptBuf {
    let mut keys = [
        announcement.bitcoin_key_1.to_byte_array(),
        announcement.bitcoin_key_2.to_byte_array(),
    ];
    keys.sort_unstable();
    Builder::new()
        .push_opcode(OP_PUSHNUM_2)
        .push_slice(keys[0])
        .push_slice(keys[1])
        .push_opcode(OP_PUSHNUM_2)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
        .to_p2wsh()
}

/// A place holder for a signature that is still to be made.
pub(crate) fn no_signature() -> Signature {
    let bytes: Vec<u8> = alloc::vec![1; 64];
    Signature::from_compact(&bytes).expect("0x01.. is below the order of the curve")
}

fn verify<C: Verification>(
    secp: &Secp256k1<C>,
    hash: &Message,
    signature: &Signature,
    node_id: &NodeId,
) -> Result<(), VerifyError> {
    let key = node_id
        .to_public_key()
        .map_err(|_| VerifyError::InvalidKey)?;
    // Anybody on the way may have negated `s` (BOLT 7, channel_update, rationale): it is the same
    // signature.
    let mut signature = *signature;
    signature.normalize_s();
    secp.verify_ecdsa(hash, &signature, &key)
        .map_err(|_| VerifyError::InvalidSignature)
}
