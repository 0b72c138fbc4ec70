//! What goes into a resolution.

use alloc::vec::Vec;

use bitcoin::{OutPoint, Transaction, TxOut};
use fulmen_tx::{CounterpartyCommitment, Secp};
use fulmen_types::{BlockHeight, CommitmentNumber, Feerates, HtlcId, PaymentPreimage, Timestamp};

/// What every step knows of the world.
#[derive(Clone, Copy, Debug)]
pub struct EnforceContext<'a> {
    /// For elliptic-curve work.
    pub secp: &'a Secp,
    /// The time of the step.
    pub now: Timestamp,
    /// The tip of the chain that the node has processed, the block of this step included.
    pub tip: BlockHeight,
    /// What feerates get a transaction confirmed.
    pub feerates: Feerates,
}

/// A claim of one resolution: a set of outputs that are spent together, with all the attempts at it. Also
/// the number in the purpose that its coins are leased for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u32);

/// What a broadcast was for; the answer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BroadcastId {
    /// Our commitment transaction alone, or a funding spend that a reorganisation threw out.
    FundingSpend,
    /// An attempt at a claim, with the commitment transaction before it while that is unconfirmed.
    Claim {
        /// The claim.
        claim: ClaimId,
        /// Counted up from 0 within the claim.
        attempt: u32,
    },
}

/// A confirmed output of the wallet, leased for a fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletCoin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it is.
    pub output: TxOut,
    /// The greatest weight of the witness that spends it.
    pub witness_weight: u64,
}

/// The network's word on a broadcast. It changes fees and schedule, never a conclusion about money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BroadcastVerdict {
    /// In the mempool now.
    Accepted,
    /// Already in the mempool or a block.
    Known,
    /// Something else spends an input, and ours does not replace it.
    Conflict,
    /// The fee is too low to be relayed or to replace.
    BelowFloor,
    /// An input is not there.
    MissingInputs,
    /// The signer refused or could not sign.
    Unsigned,
    /// Anything else.
    Other,
}

/// One input of a resolution. Blocks have a method of their own, [`crate::Resolution::handle_block`].
#[derive(Clone, Debug)]
pub enum EnforceInput {
    /// The chain source has delivered everything up to the tip in the context: deadlines and depths are
    /// looked at, claims are made, bumped and broadcast again.
    BestTip,
    /// The block of this height, and all above it, left the best chain.
    Disconnected {
        /// The height.
        height: BlockHeight,
    },
    /// A preimage has become known that lets us claim an HTLC.
    Preimage(PaymentPreimage),
    /// The answer to [`crate::EnforceOutput::AskCoins`]: enough coins, or all that there are.
    Coins {
        /// The number of the lease.
        lease: u32,
        /// All coins leased under it.
        coins: Vec<WalletCoin>,
    },
    /// The other answer to it: the wallet is away, which says nothing of what it holds. It is asked again with the
    /// next block, or after a while.
    CoinsUnavailable {
        /// The number of the lease.
        lease: u32,
    },
    /// The answer to [`crate::EnforceOutput::AskWalletSign`].
    WalletSigned {
        /// The claim.
        claim: ClaimId,
        /// The attempt.
        attempt: u32,
        /// The transaction with the wallet's witnesses; `None` if the wallet could not sign.
        transaction: Option<Transaction>,
    },
    /// The answer to a [`crate::EnforceOutput::Broadcast`].
    BroadcastResult {
        /// What was broadcast.
        id: BroadcastId,
        /// What the network says.
        verdict: BroadcastVerdict,
    },
    /// The answer to [`crate::EnforceOutput::AskRecord`].
    StoredRecord {
        /// The commitment's number.
        number: CommitmentNumber,
        /// What the channel wrote when it signed that commitment; `None` if there is none.
        commitment: Option<CounterpartyCommitment>,
    },
    /// The HTLC that one of ours was forwarded from is about to be fought for on chain, in a channel that is
    /// open still: an HTLC of ours that is worth less than such a fight is given up
    /// ([`crate::EnforceEvent::GivenUp`]), all others go on waiting. Said at each best tip until the HTLC is
    /// decided.
    UpstreamDeadline {
        /// The HTLC, among those that we offered.
        id: HtlcId,
    },
    /// Time has passed: open requests are repeated, pending transactions broadcast again.
    Tick,
}
