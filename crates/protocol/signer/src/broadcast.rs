//! Transactions whose signatures are made where they leave.

use alloc::boxed::Box;

use bitcoin::Transaction;
use fulmen_tx::Secp;

use crate::{
    ClaimSigning, HolderSigning, Signer, SigningAnswer, SigningError, SigningRequest,
    out_message::error_of,
};

/// A transaction for the network: ready, or with what to sign for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastTx {
    /// Nothing is missing.
    Ready(Transaction),
    /// Our commitment transaction. Signing it is terminal for the channel.
    HolderCommitment(Box<HolderSigning>),
    /// A claim on outputs of a force-close. The wallet has signed its own inputs.
    Claim(Box<ClaimSigning>),
}

impl From<Transaction> for BroadcastTx {
    fn from(tx: Transaction) -> Self {
        Self::Ready(tx)
    }
}

impl BroadcastTx {
    /// Asks the signer for what is missing. To be called once everything that the transaction depends
    /// on is durable.
    pub fn complete(self, signer: &dyn Signer) -> Result<Transaction, SigningError> {
        match self {
            Self::Ready(tx) => Ok(tx),
            Self::HolderCommitment(signing) => {
                let request = SigningRequest::HolderCommitment(signing);
                let signature = match signer.answer(&request) {
                    SigningAnswer::Signature(signature) => signature,
                    other => return Err(error_of(&other)),
                };
                let SigningRequest::HolderCommitment(signing) = request else {
                    return Err(SigningError::WrongAnswer);
                };
                let secp = Secp::new();
                Ok(signing
                    .commitment
                    .signed(&secp, &signing.params, &signature))
            }
            Self::Claim(signing) => {
                let mut tx = signing.tx.clone();
                let asked = signing.inputs.len();
                let witnesses = match signer.answer(&SigningRequest::Claim(signing)) {
                    SigningAnswer::Witnesses(witnesses) => witnesses,
                    other => return Err(error_of(&other)),
                };
                if witnesses.len() != asked {
                    return Err(SigningError::WrongAnswer);
                }
                for (index, witness) in witnesses {
                    let input = usize::try_from(index)
                        .ok()
                        .and_then(|index| tx.input.get_mut(index))
                        .ok_or(SigningError::WrongAnswer)?;
                    input.witness = witness;
                }
                Ok(tx)
            }
        }
    }
}
