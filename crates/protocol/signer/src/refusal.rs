//! Why a signer does not sign.

use core::fmt;

use fulmen_types::CommitmentNumber;

use crate::policy::Violation;

/// Why a signer refuses. Final: asking again gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request names keys as ours that are not.
    ForeignKeys,
    /// The channel's parameters differ from those first seen.
    ParametersChanged,
    /// A rule of [`crate::policy`] is broken.
    Policy(Violation),
    /// Another commitment with this number is signed already.
    DifferentCommitment(CommitmentNumber),
    /// The peer's commitment is revoked, or too far ahead of the last one.
    CommitmentOutOfOrder {
        /// The one asked for.
        asked: CommitmentNumber,
        /// The last one that was signed.
        last: CommitmentNumber,
    },
    /// The peer has not revoked this commitment: with one more signed it would have three to choose from.
    NotRevoked(CommitmentNumber),
    /// The secret is not that of this commitment of the peer's.
    WrongRevocation(CommitmentNumber),
    /// Our commitment is revoked: broadcasting it would give all to the peer.
    AlreadyRevoked(CommitmentNumber),
    /// Our commitment is signed for broadcast: revealing this secret would give all to the peer.
    SignedForBroadcast(CommitmentNumber),
    /// The commitment that comes next is not validated: revoking this one would leave us with none.
    SuccessorNotValidated(CommitmentNumber),
    /// The peer's signatures on our commitment are not valid.
    InvalidPeerSignature,
    /// The claiming transaction has no such input, or the output is not what the claim says.
    ClaimMismatch {
        /// The input's index.
        index: u32,
    },
    /// The signer does not do this.
    NotSupported,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignKeys => f.write_str("the request names keys as ours that are not"),
            Self::ParametersChanged => {
                f.write_str("the channel's parameters differ from those first seen")
            }
            Self::Policy(violation) => violation.fmt(f),
            Self::DifferentCommitment(number) => {
                write!(f, "a different commitment {number} is signed already")
            }
            Self::CommitmentOutOfOrder { asked, last } => {
                write!(f, "commitment {asked} can't follow commitment {last}")
            }
            Self::NotRevoked(number) => {
                write!(f, "the peer has not revoked its commitment {number}")
            }
            Self::WrongRevocation(number) => write!(
                f,
                "the secret is not that of the peer's commitment {number}"
            ),
            Self::AlreadyRevoked(number) => write!(f, "our commitment {number} is revoked"),
            Self::SignedForBroadcast(number) => {
                write!(f, "our commitment {number} is signed for broadcast")
            }
            Self::SuccessorNotValidated(number) => write!(
                f,
                "the commitment after {number} is not validated, so {number} can't be revoked"
            ),
            Self::InvalidPeerSignature => {
                f.write_str("the peer's signatures on our commitment are not valid")
            }
            Self::ClaimMismatch { index } => {
                write!(f, "input {index} does not spend what its claim says")
            }
            Self::NotSupported => f.write_str("the signer does not do this"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Why a message or transaction could not be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningError {
    /// The signer refused. The channel can't go on until somebody looks at it.
    Refused(Refusal),
    /// The signer can't be reached now: try again.
    Unavailable,
    /// The answer does not fit the question: the signer is faulty.
    WrongAnswer,
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "the signer refused: {refusal}"),
            Self::Unavailable => f.write_str("the signer can't be reached"),
            Self::WrongAnswer => f.write_str("the signer's answer does not fit the request"),
        }
    }
}

impl core::error::Error for SigningError {}
