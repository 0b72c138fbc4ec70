//! Claims: sets of outputs that are spent together, and the attempts at it. Durable before anything of them
//! leaves.

use alloc::vec::Vec;

use bitcoin::{Amount, OutPoint, Transaction};
use fulmen_types::{
    BlockHeight, FeeratePerKw,
    codec::{Decode, DecodeError, Encode, Reader, decode_list},
};

use crate::input::{ClaimId, WalletCoin};

/// What a claim is, which says how its fee is paid and what it may be batched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The child that pays for our unconfirmed commitment, through our anchor.
    Child,
    /// HTLC transactions of our commitment with anchors, of one kind and expiry: wallet coins pay.
    SecondStage,
    /// An HTLC transaction of our commitment without anchors: as the peer signed it, its fee included.
    Presigned,
    /// HTLC outputs of the peer's commitment, of one kind and expiry.
    Direct,
    /// Outputs that nobody else can take.
    Sweep,
    /// Outputs of a revoked commitment.
    Penalty,
}

impl Group {
    /// Whether wallet coins pay the fee.
    pub(crate) const fn takes_coins(self) -> bool {
        matches!(self, Self::Child | Self::SecondStage)
    }

    const ALL: [Self; 6] = [
        Self::Child,
        Self::SecondStage,
        Self::Presigned,
        Self::Direct,
        Self::Sweep,
        Self::Penalty,
    ];
}

/// One transaction of a claim: with the wallet's witnesses if it has coins, without those of the channel's
/// inputs, which are made again whenever it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) tx: Transaction,
    pub(crate) feerate: FeeratePerKw,
    pub(crate) fee: Amount,
}

/// A set of outputs that are spent together.
///
/// A claim is never changed to other outputs: when one of its outputs is spent by somebody else, it is out of
/// play (until a reorganisation undoes that) and what is left goes to new claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: ClaimId,
    pub(crate) group: Group,
    pub(crate) inputs: Vec<OutPoint>,
    pub(crate) lock_time: u32,
    /// The number of the lease that its coins are under.
    pub(crate) lease: Option<u32>,
    /// The highest feerate ever tried for any of its outputs: later attempts, of whatever claim, pay no
    /// less if the outputs' value allows it.
    pub(crate) feerate: FeeratePerKw,
    /// The fee of a transaction that this one must replace.
    pub(crate) must_replace: Amount,
    /// How many attempts were made.
    pub(crate) attempts: u32,
    /// The attempt that is out.
    pub(crate) live: Option<Attempt>,
    /// A newer one that the wallet has to sign.
    pub(crate) pending: Option<Attempt>,
    /// When the last attempt was made.
    pub(crate) bumped_at: BlockHeight,
    /// The network wants a higher fee.
    pub(crate) refused: bool,
}

/// Coins that the wallet leases to us, as one unit: it moves from a claim that is out of play to a new one,
/// and is given back when the channel is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) number: u32,
    pub(crate) coins: Vec<WalletCoin>,
}

impl Encode for Group {
    fn encode(&self, out: &mut Vec<u8>) {
        let tag = Self::ALL.iter().position(|g| g == self).unwrap_or(0);
        out.push(u8::try_from(tag).unwrap_or(u8::MAX));
    }
}

impl Decode for Group {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::ALL
            .get(usize::from(u8::decode(r)?))
            .copied()
            .ok_or(DecodeError::InvalidValue("unknown kind of claim"))
    }
}

impl Encode for Attempt {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.tx.encode(out);
        self.feerate.encode(out);
        self.fee.encode(out);
    }
}

impl Decode for Attempt {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: Decode::decode(r)?,
            tx: Decode::decode(r)?,
            feerate: Decode::decode(r)?,
            fee: Decode::decode(r)?,
        })
    }
}

const CLAIM_VERSION: u8 = 1;

impl Encode for Claim {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(CLAIM_VERSION);
        self.id.0.encode(out);
        self.group.encode(out);
        self.inputs.encode(out);
        self.lock_time.encode(out);
        self.lease.encode(out);
        self.feerate.encode(out);
        self.must_replace.encode(out);
        self.attempts.encode(out);
        self.live.encode(out);
        self.pending.encode(out);
        self.bumped_at.encode(out);
        self.refused.encode(out);
    }
}

impl Decode for Claim {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(r)? != CLAIM_VERSION {
            return Err(DecodeError::InvalidValue("unknown version of a claim"));
        }
        Ok(Self {
            id: ClaimId(Decode::decode(r)?),
            group: Decode::decode(r)?,
            inputs: decode_list(r)?,
            lock_time: Decode::decode(r)?,
            lease: Decode::decode(r)?,
            feerate: Decode::decode(r)?,
            must_replace: Decode::decode(r)?,
            attempts: Decode::decode(r)?,
            live: Decode::decode(r)?,
            pending: Decode::decode(r)?,
            bumped_at: Decode::decode(r)?,
            refused: Decode::decode(r)?,
        })
    }
}

impl Encode for WalletCoin {
    fn encode(&self, out: &mut Vec<u8>) {
        self.outpoint.encode(out);
        self.output.encode(out);
        self.witness_weight.encode(out);
    }
}

impl Decode for WalletCoin {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            outpoint: Decode::decode(r)?,
            output: Decode::decode(r)?,
            witness_weight: Decode::decode(r)?,
        })
    }
}

impl Encode for Lease {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.coins.encode(out);
    }
}

impl Decode for Lease {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: Decode::decode(r)?,
            coins: decode_list(r)?,
        })
    }
}
