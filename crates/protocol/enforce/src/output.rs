//! What comes out of a resolution.

use alloc::vec::Vec;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use fulmen_signer::BroadcastTx;
use fulmen_types::{
    BlockHeight, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage,
};

use crate::{
    classify::SpendKind,
    input::{BroadcastId, ClaimId},
};

/// When a broadcast may leave (rule 3 of the design).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastClass {
    /// At once: justice, claims on confirmed outputs without coins of the wallet, repeated broadcasts.
    Now,
    /// Once durable on the primary store: our commitment transaction, and what spends wallet coins.
    Primary,
}

/// One output of a resolution.
#[derive(Clone, Debug)]
pub enum EnforceOutput {
    /// Deliver every spend of this output from the block `from` on, that block included.
    Watch {
        /// The output.
        outpoint: OutPoint,
        /// Its script.
        script_pubkey: ScriptBuf,
        /// The block that has it; the first to look at.
        from: BlockHeight,
    },
    /// Complete and broadcast these, as one package if there are two (parent first).
    Broadcast {
        /// What for; the answer is [`crate::EnforceInput::BroadcastResult`].
        id: BroadcastId,
        /// The transactions.
        package: Vec<BroadcastTx>,
        /// When it may leave.
        class: BroadcastClass,
    },
    /// Lease confirmed coins of the wallet. Asking again with the same number means the same coins, and
    /// more if they are not enough.
    AskCoins {
        /// The number of the lease, within this channel.
        lease: u32,
        /// The least total value, after paying for the coins' own inputs at `feerate`.
        value: Amount,
        /// The feerate that the coins' inputs are paid at.
        feerate: FeeratePerKw,
    },
    /// Let the wallet sign its inputs of a claim.
    AskWalletSign {
        /// The claim.
        claim: ClaimId,
        /// The attempt.
        attempt: u32,
        /// The transaction, without witnesses.
        transaction: Transaction,
        /// What each input spends, in the order of the inputs.
        spent: Vec<TxOut>,
    },
    /// Load the record of [`fulmen_types::record::Space::RemoteCommitment`] with this number.
    AskRecord {
        /// The commitment's number.
        number: CommitmentNumber,
    },
    /// Give back the coins of a lease that are not spent.
    ReleaseCoins {
        /// The number of the lease.
        lease: u32,
    },
    /// An HTLC that we offered is fulfilled: fulfil upstream at once. Never taken back.
    HtlcPreimage {
        /// The HTLC, among those that we offered.
        id: HtlcId,
        /// Its hash.
        payment_hash: PaymentHash,
        /// The preimage.
        preimage: PaymentPreimage,
    },
    /// An HTLC that we offered has come back, or can't be fulfilled any more: fail upstream.
    HtlcFailed {
        /// The HTLC, among those that we offered.
        id: HtlcId,
        /// Its hash.
        payment_hash: PaymentHash,
    },
    /// The preimage of an HTLC that was failed upstream: it helps where the HTLC there is on chain by now.
    LatePreimage {
        /// The HTLC, among those that we offered.
        id: HtlcId,
        /// The preimage.
        preimage: PaymentPreimage,
    },
    /// Tell the user.
    Event(EnforceEvent),
    /// Every output is settled and 100 blocks deep; the resolution has deleted its records and is to be
    /// dropped.
    Done,
}

/// What the user should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnforceEvent {
    /// A transaction that spends the funding output is in a block.
    Confirmed {
        /// What it is.
        kind: SpendKind,
        /// Which one.
        txid: Txid,
        /// Its block.
        height: BlockHeight,
    },
    /// The funding output is unspent again: the chain was reorganised.
    Unconfirmed {
        /// What had spent it.
        txid: Txid,
    },
    /// The peer broadcast a revoked commitment; all of it is being claimed.
    Breach {
        /// The number of the revoked commitment.
        number: CommitmentNumber,
        /// The transaction.
        txid: Txid,
    },
    /// The record of a revoked commitment is missing: what its HTLC outputs hold can't be claimed.
    RecordMissing {
        /// The number of the revoked commitment.
        number: CommitmentNumber,
    },
    /// A commitment of the peer that is newer than all we know: our data is old. Only our main output is
    /// claimed.
    DataLoss {
        /// The transaction.
        txid: Txid,
    },
    /// A transaction that should not exist spends the funding output; funds may be lost.
    UnknownSpend {
        /// The transaction.
        txid: Txid,
    },
    /// The wallet has not the confirmed coins that a claim's fee takes: deposit more.
    CoinsMissing {
        /// The claim.
        claim: ClaimId,
        /// What it takes.
        needed: Amount,
        /// What there is.
        available: Amount,
    },
    /// An output is worth less than the fee that claiming it takes now; it waits for lower fees.
    Uneconomic {
        /// The output.
        outpoint: OutPoint,
        /// Its value.
        amount: Amount,
    },
    /// An HTLC of ours that is undecided is failed upstream, so that the channel there need not be closed:
    /// should the peer still claim it with its preimage, its amount is lost.
    GivenUp {
        /// The HTLC, among those that we offered.
        id: HtlcId,
        /// Its hash.
        payment_hash: PaymentHash,
        /// What it is worth.
        amount: Msat,
    },
    /// A claim of ours is in a block.
    Swept {
        /// The transaction.
        txid: Txid,
        /// What came to the wallet beyond the coins it put in; zero where the value only went from a
        /// commitment to its second stage.
        amount: Amount,
        /// The fee.
        fee: Amount,
        /// Its block.
        height: BlockHeight,
    },
}

/// Which kind of output a sweep is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepKind {
    /// Our main output, delayed on our commitment or free on the peer's.
    Main,
    /// An HTLC that the peer offered and whose preimage we know.
    HtlcSuccess,
    /// An HTLC that we offered.
    HtlcTimeout,
    /// The output of our HTLC transaction, delayed.
    SecondStage,
    /// An output of a revoked commitment, or of the peer's HTLC transaction on it.
    Penalty,
}

/// An output that is ours and not in the wallet yet: for the balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSweep {
    /// The output. For a commitment that is not in a block yet, the output it will have.
    pub outpoint: OutPoint,
    /// Its value, before the fee of claiming it.
    pub amount: Amount,
    /// What it is.
    pub kind: SweepKind,
    /// From which height on a block can take the claim; `None` while the commitment is unconfirmed.
    pub claimable_at: Option<BlockHeight>,
    /// The claim that was broadcast, if any.
    pub claimed_by: Option<Txid>,
}
