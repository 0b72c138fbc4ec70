//! What is signed, when it may be, and the signer that holds its keys in memory.
//!
//! The state machines never see a secret. They say *what* to sign, as a [`SigningRequest`] with all that
//! a signer needs to judge it, and the driver asks a [`Signer`] at the edge. Most of it is late-bound:
//! an [`OutMessage`] or a [`BroadcastTx`] is completed where it leaves, once what it depends on is
//! durable. What can't be made again comes back as a [`SigningAnswer`] and is an input.
//!
//! [`KeysManager`] is the signer for one process: it derives every key from a 32-byte seed and answers
//! at once. [`SignerState`] is the little that a signer remembers to refuse what would lose money, for
//! those that guard keys from the node itself. [`policy`] has the rules that need no memory.
//!
//! ```
//! use bitcoin::Network;
//! use fulmen_signer::{KeysManager, Signer, SigningAnswer, SigningRequest};
//! use fulmen_tx::ChannelKeysId;
//!
//! let signer = KeysManager::new([7; 32], Network::Regtest);
//! let keys_id = ChannelKeysId::new([1; 32]);
//! let answer = signer.answer(&SigningRequest::ChannelPublicKeys { keys_id });
//! assert!(matches!(answer, SigningAnswer::ChannelPublicKeys(_)));
//! ```
#![no_std]
extern crate alloc;

mod broadcast;
mod derive;
mod keys_manager;
mod out_message;
pub mod policy;
mod refusal;
mod request;
mod state;

pub use broadcast::BroadcastTx;
pub use keys_manager::KeysManager;
pub use out_message::{OutMessage, RefusedMessage};
pub use refusal::{Refusal, SigningError};
pub use request::{
    ClaimInput, ClaimSigning, ClosingSigning, CommitmentSigning, HiddenBytes, HolderSigning,
    Revocation, Signer, SigningAnswer, SigningRequest,
};
pub use state::SignerState;
