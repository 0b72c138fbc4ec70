//! What a commitment says, apart from how it says it.

use alloc::vec::Vec;

use bitcoin::{
    Transaction,
    secp256k1::{PublicKey, ecdsa},
};
use fulmen_types::{
    CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash,
    codec::{Decode, DecodeError, Encode, Reader, decode_list},
};

use crate::{BuiltCommitment, ChannelParameters, Secp, Side, build_commitment};

/// An HTLC that a commitment contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitmentHtlc {
    /// Its number among the HTLCs of the same offerer. Hash and amount don't name an HTLC: two can
    /// have the same.
    pub id: HtlcId,
    /// Who offered it, whoever's commitment it is on.
    pub offered_by: Side,
    /// The amount.
    pub amount: Msat,
    /// What the preimage must hash to.
    pub payment_hash: PaymentHash,
    /// From this height on its offerer may take it back.
    pub cltv_expiry: CltvExpiry,
}

impl Encode for CommitmentHtlc {
    fn encode(&self, out: &mut Vec<u8>) {
        self.id.encode(out);
        self.offered_by.encode(out);
        self.amount.encode(out);
        self.payment_hash.encode(out);
        self.cltv_expiry.encode(out);
    }
}

impl Decode for CommitmentHtlc {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Decode::decode(r)?,
            offered_by: Decode::decode(r)?,
            amount: Decode::decode(r)?,
            payment_hash: Decode::decode(r)?,
            cltv_expiry: Decode::decode(r)?,
        })
    }
}

/// How a commitment divides the channel's money.
///
/// Balances are from our view, `to_local` ours, on our commitments and on the peer's alike, before fees
/// and anchors; HTLCs are not in them. All together they are the value of the funding output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentContent {
    /// Counted up from 0.
    pub number: CommitmentNumber,
    /// What the opener pays per weight.
    pub feerate: FeeratePerKw,
    /// Our balance.
    pub to_local: Msat,
    /// The peer's balance.
    pub to_remote: Msat,
    /// The HTLCs, trimmed ones included, in any order.
    pub htlcs: Vec<CommitmentHtlc>,
}

impl CommitmentContent {
    /// The balance of one side.
    pub const fn balance(&self, side: Side) -> Msat {
        match side {
            Side::Local => self.to_local,
            Side::Remote => self.to_remote,
        }
    }

    /// All that is divided, `None` on overflow.
    pub fn total(&self) -> Option<Msat> {
        let balances = [self.to_local, self.to_remote];
        Msat::checked_sum(
            balances
                .into_iter()
                .chain(self.htlcs.iter().map(|htlc| htlc.amount)),
        )
    }
}

impl Encode for CommitmentContent {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.feerate.encode(out);
        self.to_local.encode(out);
        self.to_remote.encode(out);
        self.htlcs.as_slice().encode(out);
    }
}

impl Decode for CommitmentContent {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: Decode::decode(r)?,
            feerate: Decode::decode(r)?,
            to_local: Decode::decode(r)?,
            to_remote: Decode::decode(r)?,
            htlcs: decode_list(r)?,
        })
    }
}

/// A commitment of ours that the peer signed: with our own signature it can be broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderCommitment {
    /// What it says.
    pub content: CommitmentContent,
    /// Our point for its number.
    pub per_commitment_point: PublicKey,
    /// The peer's signature on it.
    pub counterparty_signature: ecdsa::Signature,
    /// The peer's signatures on its HTLC transactions, in the order of the outputs.
    pub htlc_signatures: Vec<ecdsa::Signature>,
}

impl HolderCommitment {
    /// The transaction and what it contains.
    pub fn build(&self, secp: &Secp, params: &ChannelParameters) -> BuiltCommitment {
        build_commitment(
            secp,
            params,
            Side::Local,
            &self.per_commitment_point,
            &self.content,
        )
    }

    /// The transaction with both signatures.
    pub fn signed(
        &self,
        secp: &Secp,
        params: &ChannelParameters,
        our_signature: &ecdsa::Signature,
    ) -> Transaction {
        let mut tx = self.build(secp, params).tx;
        if let Some(input) = tx.input.first_mut() {
            input.witness = params.funding_witness(our_signature, &self.counterparty_signature);
        }
        tx
    }
}

impl Encode for HolderCommitment {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content.encode(out);
        self.per_commitment_point.encode(out);
        self.counterparty_signature.encode(out);
        self.htlc_signatures.as_slice().encode(out);
    }
}

impl Decode for HolderCommitment {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            content: Decode::decode(r)?,
            per_commitment_point: Decode::decode(r)?,
            counterparty_signature: Decode::decode(r)?,
            htlc_signatures: decode_list(r)?,
        })
    }
}

/// A commitment of the peer's that we signed or shall sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterpartyCommitment {
    /// What it says.
    pub content: CommitmentContent,
    /// The peer's point for its number.
    pub per_commitment_point: PublicKey,
}

impl CounterpartyCommitment {
    /// The transaction and what it contains.
    pub fn build(&self, secp: &Secp, params: &ChannelParameters) -> BuiltCommitment {
        build_commitment(
            secp,
            params,
            Side::Remote,
            &self.per_commitment_point,
            &self.content,
        )
    }
}

impl Encode for CounterpartyCommitment {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content.encode(out);
        self.per_commitment_point.encode(out);
    }
}

impl Decode for CounterpartyCommitment {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            content: Decode::decode(r)?,
            per_commitment_point: Decode::decode(r)?,
        })
    }
}
