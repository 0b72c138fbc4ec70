//! BOLT 3: keys, scripts and transactions of a channel.
//!
//! Everything here is a pure function of its arguments: what a commitment transaction looks like, which
//! HTLCs are trimmed, what a peer's signature must cover, what it takes to spend an output. Nothing here
//! holds a secret beyond what a caller passes in, signs, or knows a channel's state machine.
//!
//! Two views meet in this crate. [`Side`] is always ours: [`Side::Local`] is this node, whoever's
//! transaction is meant. The fields `to_local` and `to_remote` of a [`BuiltCommitment`] are BOLT 3's: the
//! output of the side that broadcasts, and of the other.
//!
//! Functions that do elliptic-curve work take a [`Secp`]; make one and keep it.
//!
//! ```
//! use fulmen_tx::{CommitmentFormat, commitment_fee, derive_secret};
//! use fulmen_types::FeeratePerKw;
//!
//! // BOLT 3, Fee Calculation: the worked example has two outputs that are not trimmed.
//! let fee = commitment_fee(CommitmentFormat::StaticRemoteKey, FeeratePerKw::new(5_000), 2);
//! assert_eq!(fee.to_sat(), 5_340);
//!
//! // BOLT 3, Appendix D: the first secret of a seed.
//! assert_eq!(derive_secret(&[0; 32], (1 << 48) - 1)[..2], [0x02, 0xa4]);
//! ```
#![no_std]
extern crate alloc;

mod claim;
mod closing;
mod commitment;
mod content;
mod dust;
mod fees;
mod keys;
mod number;
mod params;
pub mod scripts;
mod shachain;

pub use claim::{ClaimKind, ClaimLockTime, ClaimPreparer, PreparedClaim};
pub use closing::{BuiltClosing, ClosingContent, ClosingError, ClosingOutputs, closing_weight};
pub use commitment::{
    BuiltCommitment, SignatureFault, build_commitment, build_commitment_with_keys,
};
pub use content::{CommitmentContent, CommitmentHtlc, CounterpartyCommitment, HolderCommitment};
pub use dust::dust_threshold;
pub use fees::{
    ANCHOR_VALUE, HtlcKind, MAX_SIGNATURE_WEIGHT, anchors_value, commitment_fee, commitment_weight,
    htlc_is_trimmed, htlc_transaction_fee, htlc_transaction_weight,
};
pub use keys::{
    CommitmentKeys, derive_private_key, derive_private_key_of, derive_public_key,
    derive_revocation_private_key, derive_revocation_public_key,
};
pub use number::{commitment_number_of, encode_commitment_number, obscuring_factor, secret_index};
pub use params::{
    ChannelKeysId, ChannelParameters, ChannelPublicKeys, CommitmentFormat, Funding,
    PartyParameters, Side,
};
pub use shachain::{CommitmentSecrets, SecretError, derive_secret};

/// The elliptic-curve context: it holds what makes multiplication fast and blinded. Making one costs
/// about as much as a signature, so keep it.
pub type Secp = bitcoin::secp256k1::Secp256k1<bitcoin::secp256k1::All>;
