//! Messages whose secrets are put in where they leave.

use alloc::boxed::Box;

use bitcoin::{
    Txid,
    secp256k1::{PublicKey, ecdsa},
};
use fulmen_types::{ChannelId, CommitmentNumber};
use fulmen_wire::{CommitmentSigned, FundingCreated, FundingSigned, Message, RevokeAndAck};

use crate::{
    CommitmentSigning, HolderSigning, Revocation, Signer, SigningAnswer, SigningError,
    SigningRequest,
};

/// A message of a lane: ready, or with what to sign for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutMessage {
    /// Nothing is missing.
    Ready(Message),
    /// `funding_created`, with our signature on the peer's first commitment.
    FundingCreated {
        /// The channel's temporary id.
        temporary_channel_id: ChannelId,
        /// The funding transaction.
        funding_txid: Txid,
        /// The funding output.
        funding_output_index: u16,
        /// What to sign.
        request: Box<CommitmentSigning>,
    },
    /// `funding_signed`, with our signature on the peer's first commitment.
    FundingSigned {
        /// The channel.
        channel_id: ChannelId,
        /// What to sign.
        request: Box<CommitmentSigning>,
    },
    /// `commitment_signed`, with our signatures on the peer's next commitment.
    CommitmentSigned {
        /// The channel.
        channel_id: ChannelId,
        /// The peer's last revocation, of the commitment two before; the signer sees it first.
        revoked: Option<Revocation>,
        /// What to sign.
        request: Box<CommitmentSigning>,
    },
    /// `revoke_and_ack`, with the secret of our old commitment.
    RevokeAndAck {
        /// The channel.
        channel_id: ChannelId,
        /// The commitment that is revoked.
        number: CommitmentNumber,
        /// Our point for the commitment after the next: `number + 2`.
        next_per_commitment_point: PublicKey,
        /// The commitment that takes its place, `number + 1`: the signer sees it first.
        successor: Box<HolderSigning>,
    },
}

/// A message that the signer will not complete. It has not left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMessage {
    /// The message.
    pub message: OutMessage,
    /// Why.
    pub error: SigningError,
    /// Whether a signature may exist all the same: an earlier try was not answered, or this one was
    /// answered with something else.
    pub may_be_signed: bool,
}

impl From<Message> for OutMessage {
    fn from(message: Message) -> Self {
        Self::Ready(message)
    }
}

impl OutMessage {
    /// The name that the specification gives the message.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ready(message) => message.name(),
            Self::FundingCreated { .. } => "funding_created",
            Self::FundingSigned { .. } => "funding_signed",
            Self::CommitmentSigned { .. } => "commitment_signed",
            Self::RevokeAndAck { .. } => "revoke_and_ack",
        }
    }

    /// The channel that the message is about.
    pub const fn channel_id(&self) -> Option<ChannelId> {
        match self {
            Self::Ready(message) => message.channel_id(),
            Self::FundingCreated {
                temporary_channel_id,
                ..
            } => Some(*temporary_channel_id),
            Self::FundingSigned { channel_id, .. }
            | Self::CommitmentSigned { channel_id, .. }
            | Self::RevokeAndAck { channel_id, .. } => Some(*channel_id),
        }
    }

    /// Asks the signer for what is missing. To be called once everything that the message depends on is
    /// durable.
    pub fn complete(self, signer: &dyn Signer) -> Result<Message, SigningError> {
        match self {
            Self::Ready(message) => Ok(message),
            Self::FundingCreated {
                temporary_channel_id,
                funding_txid,
                funding_output_index,
                request,
            } => {
                let (signature, _) = sign(signer, request)?;
                Ok(Message::FundingCreated(FundingCreated {
                    temporary_channel_id,
                    funding_txid,
                    funding_output_index,
                    signature,
                    partial_signature_with_nonce: None,
                }))
            }
            Self::FundingSigned {
                channel_id,
                request,
            } => {
                let (signature, _) = sign(signer, request)?;
                Ok(Message::FundingSigned(FundingSigned {
                    channel_id,
                    signature,
                    partial_signature_with_nonce: None,
                }))
            }
            Self::CommitmentSigned {
                channel_id,
                revoked,
                request,
            } => {
                if let Some(revocation) = revoked {
                    let keys_id = request.params.keys_id;
                    let request = SigningRequest::ValidateRevocation {
                        keys_id,
                        revocation,
                    };
                    match signer.answer(&request) {
                        SigningAnswer::Validated => {}
                        other => return Err(error_of(&other)),
                    }
                }
                let (signature, htlc_signature) = sign(signer, request)?;
                Ok(Message::CommitmentSigned(CommitmentSigned {
                    channel_id,
                    signature,
                    htlc_signature,
                    funding_txid: None,
                    partial_signature_with_nonce: None,
                }))
            }
            Self::RevokeAndAck {
                channel_id,
                number,
                next_per_commitment_point,
                successor,
            } => {
                let keys_id = successor.params.keys_id;
                match signer.answer(&SigningRequest::ValidateHolder(successor)) {
                    SigningAnswer::Validated => {}
                    other => return Err(error_of(&other)),
                }
                match signer.answer(&SigningRequest::RevealSecret { keys_id, number }) {
                    SigningAnswer::Secret(secret) => Ok(Message::RevokeAndAck(RevokeAndAck {
                        channel_id,
                        per_commitment_secret: secret.to_byte_array(),
                        next_per_commitment_point,
                        next_local_nonces: None,
                    })),
                    other => Err(error_of(&other)),
                }
            }
        }
    }
}

type Signatures = (ecdsa::Signature, alloc::vec::Vec<ecdsa::Signature>);

fn sign(signer: &dyn Signer, request: Box<CommitmentSigning>) -> Result<Signatures, SigningError> {
    match signer.answer(&SigningRequest::CounterpartyCommitment(request)) {
        SigningAnswer::Commitment {
            signature,
            htlc_signatures,
        } => Ok((signature, htlc_signatures)),
        other => Err(error_of(&other)),
    }
}

/// What an answer that is not the one hoped for means.
pub(crate) const fn error_of(answer: &SigningAnswer) -> SigningError {
    match answer {
        SigningAnswer::Refused(refusal) => SigningError::Refused(*refusal),
        SigningAnswer::Unavailable => SigningError::Unavailable,
        SigningAnswer::Commitment { .. }
        | SigningAnswer::Validated
        | SigningAnswer::Secret(_)
        | SigningAnswer::Signature(_)
        | SigningAnswer::Witnesses(_)
        | SigningAnswer::Announcement { .. }
        | SigningAnswer::Invoice { .. }
        | SigningAnswer::Point(_)
        | SigningAnswer::ChannelPublicKeys(_)
        | SigningAnswer::SharedSecrets(_)
        | SigningAnswer::OwnSecret(_)
        | SigningAnswer::Counters { .. } => SigningError::WrongAnswer,
    }
}
