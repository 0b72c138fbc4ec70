//! Two signers with a channel between them, and the script rules of Bitcoin Core.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use bitcoin::{
    Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime, consensus::serialize, hashes::Hash, secp256k1::PublicKey,
    transaction::Version,
};
use fulmen_signer::{
    ClaimInput, ClaimSigning, CommitmentSigning, HolderSigning, KeysManager, Signer, SigningAnswer,
    SigningRequest,
};
use fulmen_tx::{
    BuiltCommitment, ChannelKeysId, ChannelParameters, ChannelPublicKeys, ClaimKind, ClaimLockTime,
    CommitmentContent, CommitmentFormat, CommitmentHtlc, CounterpartyCommitment, Funding,
    HolderCommitment, PartyParameters, Secp, Side,
};
use fulmen_types::{
    CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage,
};

pub const FORMATS: [CommitmentFormat; 2] = [
    CommitmentFormat::StaticRemoteKey,
    CommitmentFormat::AnchorsZeroFeeHtlc,
];

pub fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber::new(n).unwrap()
}

/// Alice opened a channel to Bob. Parameters and contents are as each of them sees it.
pub struct Pair {
    pub secp: Secp,
    pub alice: KeysManager,
    pub bob: KeysManager,
    pub alice_params: ChannelParameters,
    pub bob_params: ChannelParameters,
}

pub fn public_keys(signer: &KeysManager, keys_id: ChannelKeysId) -> ChannelPublicKeys {
    match signer.answer(&SigningRequest::ChannelPublicKeys { keys_id }) {
        SigningAnswer::ChannelPublicKeys(keys) => *keys,
        other => panic!("{other:?}"),
    }
}

impl Pair {
    pub fn new(format: CommitmentFormat) -> Self {
        let alice = KeysManager::new([1; 32], Network::Regtest);
        let bob = KeysManager::new([2; 32], Network::Regtest);
        let (alice_id, bob_id) = (ChannelKeysId::new([3; 32]), ChannelKeysId::new([4; 32]));
        let local = PartyParameters {
            keys: public_keys(&alice, alice_id),
            to_self_delay: 144,
            dust_limit: Amount::from_sat(354),
        };
        let remote = PartyParameters {
            keys: public_keys(&bob, bob_id),
            to_self_delay: 720,
            dust_limit: Amount::from_sat(400),
        };
        let alice_params = ChannelParameters {
            keys_id: alice_id,
            format,
            opener: Side::Local,
            local,
            remote,
            funding: Funding {
                outpoint: OutPoint {
                    txid: Txid::from_byte_array([5; 32]),
                    vout: 1,
                },
                value: Amount::from_sat(1_000_000),
            },
        };
        let bob_params = ChannelParameters {
            keys_id: bob_id,
            opener: Side::Remote,
            local: remote,
            remote: local,
            ..alice_params
        };
        Self {
            secp: Secp::new(),
            alice,
            bob,
            alice_params,
            bob_params,
        }
    }

    pub fn alice_point(&self, n: u64) -> PublicKey {
        let request = SigningRequest::PerCommitmentPoint {
            keys_id: self.alice_params.keys_id,
            number: number(n),
        };
        match self.alice.answer(&request) {
            SigningAnswer::Point(point) => point,
            other => panic!("{other:?}"),
        }
    }

    /// What Bob signs to give Alice her commitment.
    pub fn bobs_request(&self, content: &CommitmentContent) -> CommitmentSigning {
        CommitmentSigning {
            params: self.bob_params,
            commitment: CounterpartyCommitment {
                content: mirrored(content),
                per_commitment_point: self.alice_point(content.number.to_u64()),
            },
        }
    }

    /// Alice's commitment with Bob's signatures.
    pub fn alices_commitment(&self, content: &CommitmentContent) -> HolderSigning {
        let request = SigningRequest::CounterpartyCommitment(Box::new(self.bobs_request(content)));
        match self.bob.answer(&request) {
            SigningAnswer::Commitment {
                signature,
                htlc_signatures,
            } => HolderSigning {
                params: self.alice_params,
                commitment: HolderCommitment {
                    content: content.clone(),
                    per_commitment_point: self.alice_point(content.number.to_u64()),
                    counterparty_signature: signature,
                    htlc_signatures,
                },
            },
            other => panic!("{other:?}"),
        }
    }
}

pub fn preimage(byte: u8) -> PaymentPreimage {
    PaymentPreimage::new([byte; 32])
}

/// As Alice sees it: two HTLCs each way, two of them alike in all but the id.
pub fn content(n: u64) -> CommitmentContent {
    let htlc = |id, offered_by, sat, hash: PaymentHash, cltv| CommitmentHtlc {
        id: HtlcId::new(id),
        offered_by,
        amount: Msat::from_sat(sat),
        payment_hash: hash,
        cltv_expiry: CltvExpiry::new(cltv),
    };
    CommitmentContent {
        number: number(n),
        feerate: FeeratePerKw::new(1_000),
        to_local: Msat::from_sat(600_000),
        to_remote: Msat::from_sat(280_000),
        htlcs: vec![
            htlc(0, Side::Local, 20_000, preimage(10).payment_hash(), 800_000),
            htlc(1, Side::Local, 30_000, preimage(11).payment_hash(), 500),
            htlc(
                0,
                Side::Remote,
                30_000,
                preimage(12).payment_hash(),
                800_010,
            ),
            htlc(1, Side::Remote, 40_000, preimage(12).payment_hash(), 16),
        ],
    }
}

/// The same as Bob sees it.
pub fn mirrored(content: &CommitmentContent) -> CommitmentContent {
    CommitmentContent {
        to_local: content.to_remote,
        to_remote: content.to_local,
        htlcs: content.htlcs.iter().map(mirrored_htlc).collect(),
        ..content.clone()
    }
}

pub fn mirrored_htlc(htlc: &CommitmentHtlc) -> CommitmentHtlc {
    CommitmentHtlc {
        offered_by: htlc.offered_by.other(),
        ..*htlc
    }
}

/// Checks one input by Bitcoin Core's consensus code, all rules before taproot.
pub fn consensus(tx: &Transaction, input: usize, spent: &TxOut) -> Result<(), String> {
    bitcoinconsensus::verify_with_flags(
        spent.script_pubkey.as_bytes(),
        spent.value.to_sat(),
        &serialize(tx),
        None,
        input,
        bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT,
    )
    .map_err(|error| format!("{error:?}"))
}

pub fn payout(value: Amount) -> TxOut {
    TxOut {
        value,
        script_pubkey: ScriptBuf::from_hex("00141111111111111111111111111111111111111111").unwrap(),
    }
}

/// Outputs to be claimed in one transaction.
#[derive(Clone)]
pub struct Claimable {
    pub outpoint: OutPoint,
    pub prevout: TxOut,
    pub kind: ClaimKind,
}

impl Claimable {
    pub fn of(built: &BuiltCommitment, vout: u32, kind: ClaimKind) -> Self {
        Self {
            outpoint: built.outpoint(vout),
            prevout: built.txout(vout).unwrap().clone(),
            kind,
        }
    }
}

/// A transaction that claims all of `from`, with the sequence and locktime that the kinds ask for.
pub fn claim_tx(params: &ChannelParameters, from: &[Claimable]) -> ClaimSigning {
    let lock_time = from
        .iter()
        .map(|claimable| match claimable.kind.lock_time() {
            ClaimLockTime::Any => 0,
            ClaimLockTime::AtLeast(cltv) | ClaimLockTime::Exactly(cltv) => cltv.to_u32(),
        })
        .max()
        .unwrap();
    let secp = Secp::new();
    let paired: Vec<_> = from
        .iter()
        .filter_map(|claimable| claimable.kind.paired_output(&secp, params))
        .collect();
    let output = if paired.is_empty() {
        vec![payout(Amount::from_sat(1_000))]
    } else {
        paired
    };
    ClaimSigning {
        params: *params,
        tx: Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(lock_time),
            input: from
                .iter()
                .map(|claimable| TxIn {
                    previous_output: claimable.outpoint,
                    script_sig: ScriptBuf::new(),
                    sequence: claimable.kind.sequence(params),
                    witness: Witness::new(),
                })
                .collect(),
            output,
        },
        inputs: (0u32..)
            .zip(from)
            .map(|(index, claimable)| ClaimInput {
                index,
                prevout: claimable.prevout.clone(),
                kind: claimable.kind.clone(),
            })
            .collect(),
    }
}

/// An input and an output of a wallet, to pay an HTLC transaction's fee.
pub fn add_wallet_input(tx: &mut Transaction) -> Witness {
    let witness = Witness::from_slice(&[b"the wallet's own"]);
    tx.input.push(TxIn {
        previous_output: OutPoint {
            txid: Txid::from_byte_array([8; 32]),
            vout: 0,
        },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: witness.clone(),
    });
    tx.output.push(payout(Amount::from_sat(5_000)));
    witness
}
