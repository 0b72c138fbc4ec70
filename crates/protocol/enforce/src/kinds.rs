//! What the signer needs to know of each output, and of each transaction.

use alloc::{boxed::Box, vec::Vec};

use bitcoin::{OutPoint, Transaction, TxOut, secp256k1::SecretKey};
use fulmen_signer::{BroadcastTx, ClaimInput, ClaimSigning, HolderSigning};
use fulmen_tx::{ChannelParameters, ClaimKind, HolderCommitment, Side};
use fulmen_types::CommitmentNumber;

use crate::{
    resolution::Resolution,
    view::{Role, Tracked},
};

impl Resolution {
    /// How an output is spent by us; `None` if it isn't, or not with what is known.
    pub(crate) fn claim_kind(&self, tracked: &Tracked) -> Option<ClaimKind> {
        let secret = |number: CommitmentNumber| {
            let secret = self.evidence.secrets.get(number)?;
            SecretKey::from_slice(&secret).ok()
        };
        Some(match tracked.role {
            Role::Foreign => return None,
            Role::OurAnchor => ClaimKind::Anchor,
            Role::ToRemote => ClaimKind::StaticRemote,
            Role::HolderToLocal => ClaimKind::HolderToLocal {
                per_commitment_point: self.evidence.holder.as_ref()?.per_commitment_point,
            },
            Role::HolderSecondStage => ClaimKind::HolderSecondStage {
                per_commitment_point: self.evidence.holder.as_ref()?.per_commitment_point,
            },
            Role::HolderHtlc { index, htlc } => {
                let holder = self.evidence.holder.as_ref()?;
                let counterparty_signature = *holder.htlc_signatures.get(index)?;
                let feerate = holder.content.feerate;
                let per_commitment_point = holder.per_commitment_point;
                match htlc.offered_by {
                    Side::Local => ClaimKind::HolderHtlcTimeout {
                        per_commitment_point,
                        htlc,
                        feerate,
                        counterparty_signature,
                    },
                    Side::Remote => ClaimKind::HolderHtlcSuccess {
                        per_commitment_point,
                        htlc,
                        feerate,
                        counterparty_signature,
                        preimage: *self.state.preimages.get(&htlc.payment_hash)?,
                    },
                }
            }
            Role::TheirHtlc { htlc, next } => {
                let commitment = self.evidence.counterparty.get(usize::from(next))?;
                let per_commitment_point = commitment.per_commitment_point;
                match htlc.offered_by {
                    Side::Local => ClaimKind::CounterpartyHtlcTimeout {
                        per_commitment_point,
                        htlc,
                    },
                    Side::Remote => ClaimKind::CounterpartyHtlcPreimage {
                        per_commitment_point,
                        htlc,
                        preimage: *self.state.preimages.get(&htlc.payment_hash)?,
                    },
                }
            }
            Role::RevokedToLocal { number } => ClaimKind::RevokedToLocal {
                per_commitment_secret: secret(number)?,
            },
            Role::RevokedHtlc { number, htlc } => ClaimKind::RevokedHtlc {
                per_commitment_secret: secret(number)?,
                htlc,
            },
            Role::RevokedSecondStage { number } => ClaimKind::RevokedSecondStage {
                per_commitment_secret: secret(number)?,
            },
        })
    }
}

/// A transaction that is signed already.
pub(crate) fn ready(tx: Transaction) -> BroadcastTx {
    BroadcastTx::Ready(tx)
}

/// Our commitment.
pub(crate) fn commitment(params: &ChannelParameters, holder: &HolderCommitment) -> BroadcastTx {
    BroadcastTx::HolderCommitment(Box::new(HolderSigning {
        params: *params,
        commitment: holder.clone(),
    }))
}

/// A claim: the channel's inputs are to be signed, those of the wallet have their witnesses.
pub(crate) fn claim(
    params: &ChannelParameters,
    tx: Transaction,
    kinds: Vec<(OutPoint, TxOut, ClaimKind)>,
) -> BroadcastTx {
    let place = |outpoint: OutPoint| {
        let index = tx
            .input
            .iter()
            .position(|i| i.previous_output == outpoint)?;
        u32::try_from(index).ok()
    };
    let inputs = kinds
        .into_iter()
        .filter_map(|(outpoint, prevout, kind)| {
            Some(ClaimInput {
                index: place(outpoint)?,
                prevout,
                kind,
            })
        })
        .collect();
    BroadcastTx::Claim(Box::new(ClaimSigning {
        params: *params,
        tx,
        inputs,
    }))
}
