//! What a transaction that spends the funding output is.

use fulmen_types::CommitmentNumber;

/// What spends the funding output (BOLT 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendKind {
    /// A close that both sides agreed on.
    MutualClose,
    /// Our commitment.
    Holder,
    /// The peer's current commitment.
    CounterpartyCurrent,
    /// The peer's next commitment, signed by us while the current one is not revoked yet.
    CounterpartyNext,
    /// A commitment that the peer has revoked.
    Revoked {
        /// Its number.
        number: CommitmentNumber,
    },
    /// A commitment of the peer that is newer than all we know: our data is old.
    Future {
        /// Its number.
        number: CommitmentNumber,
    },
    /// None of these: the funding keys have leaked, or an old commitment of ours was broadcast.
    Unknown,
}
