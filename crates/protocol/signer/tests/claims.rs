//! Every kind of claim, in both formats, judged by Bitcoin Core's script rules.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    Amount, OutPoint, Sequence, Transaction, TxOut, absolute::LockTime, secp256k1::SecretKey,
};
use common::{
    Claimable, FORMATS, Pair, add_wallet_input, claim_tx, consensus, content, mirrored_htlc,
    number, preimage,
};
use fulmen_signer::{
    BroadcastTx, ClaimSigning, HolderSigning, KeysManager, Refusal, Signer, SigningAnswer,
    SigningError, SigningRequest,
};
use fulmen_tx::{
    BuiltCommitment, ChannelParameters, ClaimKind, ClaimLockTime, CommitmentFormat, Side,
};

/// Alice's commitment 7 as both see it, signed by Bob.
struct Scene {
    pair: Pair,
    holder: HolderSigning,
    built: BuiltCommitment,
}

fn scene(format: CommitmentFormat) -> Scene {
    let pair = Pair::new(format);
    let holder = pair.alices_commitment(&content(7));
    let built = holder.commitment.build(&pair.secp, &pair.alice_params);
    Scene {
        pair,
        holder,
        built,
    }
}

fn complete(signer: &KeysManager, signing: &ClaimSigning) -> Transaction {
    BroadcastTx::Claim(Box::new(signing.clone()))
        .complete(signer)
        .unwrap()
}

/// Signs, checks every claiming input, and that its witness is as heavy as reckoned.
fn check(signer: &KeysManager, signing: &ClaimSigning) -> Transaction {
    let tx = complete(signer, signing);
    for input in &signing.inputs {
        let index = input.index as usize;
        consensus(&tx, index, &input.prevout)
            .unwrap_or_else(|error| panic!("{:?}: {error}", input.kind));
        let most = input.kind.max_witness_weight(&signing.params).to_wu();
        let actual = tx.input[index].witness.size() as u64;
        // Two signatures at most, each up to three bytes shorter in practice.
        assert!(
            actual <= most && actual + 8 >= most,
            "{:?}: {actual} {most}",
            input.kind
        );
    }
    tx
}

/// Signs again with something changed, and expects the script rules to refuse the first input.
fn check_refused(
    signer: &KeysManager,
    signing: &ClaimSigning,
    change: impl FnOnce(&mut Transaction),
) {
    let mut changed = signing.clone();
    change(&mut changed.tx);
    let tx = complete(signer, &changed);
    let kind = &signing.inputs[0].kind;
    assert!(
        consensus(&tx, 0, &signing.inputs[0].prevout).is_err(),
        "{kind:?}"
    );
}

fn output(tx: &Transaction, vout: u32) -> (OutPoint, TxOut) {
    let txid = tx.compute_txid();
    (OutPoint { txid, vout }, tx.output[vout as usize].clone())
}

/// The claims that Alice has on her HTLC outputs, in output order.
fn holder_htlcs(scene: &Scene) -> Vec<Claimable> {
    let per_commitment_point = scene.holder.commitment.per_commitment_point;
    let feerate = scene.holder.commitment.content.feerate;
    scene
        .built
        .htlcs
        .iter()
        .zip(&scene.holder.commitment.htlc_signatures)
        .map(|((htlc, vout), signature)| {
            let kind = match htlc.offered_by {
                Side::Local => ClaimKind::HolderHtlcTimeout {
                    per_commitment_point,
                    htlc: *htlc,
                    feerate,
                    counterparty_signature: *signature,
                },
                Side::Remote => ClaimKind::HolderHtlcSuccess {
                    per_commitment_point,
                    htlc: *htlc,
                    feerate,
                    counterparty_signature: *signature,
                    preimage: preimage(12),
                },
            };
            Claimable::of(&scene.built, *vout, kind)
        })
        .collect()
}

#[test]
fn holder_commitment_and_both_stages() {
    for format in FORMATS {
        let scene = scene(format);
        let Pair {
            alice,
            alice_params,
            ..
        } = &scene.pair;
        let commitment = BroadcastTx::HolderCommitment(Box::new(scene.holder.clone()))
            .complete(alice)
            .unwrap();
        assert_eq!(commitment.compute_txid(), scene.built.txid);
        consensus(&commitment, 0, &alice_params.funding_txout()).unwrap();

        let per_commitment_point = scene.holder.commitment.per_commitment_point;
        let to_local = Claimable::of(
            &scene.built,
            scene.built.to_local_vout.unwrap(),
            ClaimKind::HolderToLocal {
                per_commitment_point,
            },
        );
        let signing = claim_tx(alice_params, &[to_local]);
        check(alice, &signing);
        check_refused(alice, &signing, |tx| {
            tx.input[0].sequence = Sequence::from_height(143);
        });

        let mut second_stages = Vec::new();
        for claimable in holder_htlcs(&scene) {
            let mut signing = claim_tx(alice_params, std::slice::from_ref(&claimable));
            let (htlc, vout) = (claimable.kind.htlc().unwrap(), claimable.outpoint.vout);
            assert_eq!(signing.tx, scene.built.htlc_tx(htlc, vout));
            let expected = (Sequence::ZERO, Sequence(1));
            let wallets = match format {
                CommitmentFormat::StaticRemoteKey => {
                    assert_eq!(signing.tx.input[0].sequence, expected.0);
                    None
                }
                CommitmentFormat::AnchorsZeroFeeHtlc => {
                    assert_eq!(signing.tx.input[0].sequence, expected.1);
                    Some(add_wallet_input(&mut signing.tx))
                }
            };
            let tx = check(alice, &signing);
            if let Some(witness) = wallets {
                assert_eq!(tx.input[1].witness, witness, "left alone");
            }
            // The peer's signature covers locktime and paired output.
            check_refused(alice, &signing, |tx| {
                tx.lock_time = LockTime::from_consensus(tx.lock_time.to_consensus_u32() + 1);
            });
            check_refused(alice, &signing, |tx| tx.output[0].value += Amount::ONE_SAT);
            let (outpoint, prevout) = output(&tx, 0);
            second_stages.push(Claimable {
                outpoint,
                prevout,
                kind: ClaimKind::HolderSecondStage {
                    per_commitment_point,
                },
            });
        }
        assert_eq!(second_stages.len(), 4);
        let signing = claim_tx(alice_params, &second_stages);
        check(alice, &signing);
        check_refused(alice, &signing, |tx| {
            tx.input[0].sequence = Sequence::from_height(143);
        });
    }
}

/// With zero-fee HTLC transactions several first stages of one locktime share a transaction.
#[test]
fn htlc_successes_share_a_transaction_with_anchors() {
    let scene = scene(CommitmentFormat::AnchorsZeroFeeHtlc);
    let successes: Vec<_> = holder_htlcs(&scene)
        .into_iter()
        .filter(|c| matches!(c.kind, ClaimKind::HolderHtlcSuccess { .. }))
        .collect();
    let mut signing = claim_tx(&scene.pair.alice_params, &successes);
    add_wallet_input(&mut signing.tx);
    check(&scene.pair.alice, &signing);
}

/// What Bob can claim of Alice's commitment while it is not revoked.
fn counterparty_claims(scene: &Scene) -> Vec<Claimable> {
    let per_commitment_point = scene.holder.commitment.per_commitment_point;
    let mut claims: Vec<_> = scene
        .built
        .htlcs
        .iter()
        .map(|(htlc, vout)| {
            let htlc = mirrored_htlc(htlc);
            let kind = match htlc.offered_by {
                Side::Local => ClaimKind::CounterpartyHtlcTimeout {
                    per_commitment_point,
                    htlc,
                },
                Side::Remote => ClaimKind::CounterpartyHtlcPreimage {
                    per_commitment_point,
                    htlc,
                    preimage: preimage(if htlc.id.to_u64() == 0 { 10 } else { 11 }),
                },
            };
            Claimable::of(&scene.built, *vout, kind)
        })
        .collect();
    let to_remote = scene.built.to_remote_vout.unwrap();
    claims.push(Claimable::of(
        &scene.built,
        to_remote,
        ClaimKind::StaticRemote,
    ));
    claims
}

#[test]
fn counterparty_commitment() {
    for format in FORMATS {
        let scene = scene(format);
        let Pair {
            bob, bob_params, ..
        } = &scene.pair;
        let claims = counterparty_claims(&scene);
        assert_eq!(claims.len(), 5);
        for claimable in &claims {
            let signing = claim_tx(bob_params, std::slice::from_ref(claimable));
            check(bob, &signing);
            if let ClaimLockTime::AtLeast(cltv) = claimable.kind.lock_time() {
                check_refused(bob, &signing, |tx| {
                    tx.lock_time = LockTime::from_consensus(cltv.to_u32() - 1);
                });
            }
            match format {
                CommitmentFormat::StaticRemoteKey => {}
                CommitmentFormat::AnchorsZeroFeeHtlc => {
                    check_refused(bob, &signing, |tx| tx.input[0].sequence = Sequence::ZERO);
                }
            }
        }
        check(bob, &claim_tx(bob_params, &claims));
    }
}

fn alices_secret(pair: &Pair, n: u64) -> SecretKey {
    let request = SigningRequest::RevealSecret {
        keys_id: pair.alice_params.keys_id,
        number: number(n),
    };
    match pair.alice.answer(&request) {
        SigningAnswer::Secret(secret) => SecretKey::from_slice(&secret.to_byte_array()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What Bob can take of Alice's revoked commitment, two of her HTLCs being in their second stage.
fn revoked_claims(scene: &Scene, per_commitment_secret: SecretKey) -> Vec<Claimable> {
    let pair = &scene.pair;
    let mut claims = vec![
        Claimable::of(
            &scene.built,
            scene.built.to_local_vout.unwrap(),
            ClaimKind::RevokedToLocal {
                per_commitment_secret,
            },
        ),
        Claimable::of(
            &scene.built,
            scene.built.to_remote_vout.unwrap(),
            ClaimKind::StaticRemote,
        ),
    ];
    for (index, claimable) in holder_htlcs(scene).into_iter().enumerate() {
        let htlc = mirrored_htlc(claimable.kind.htlc().unwrap());
        if index < 2 {
            let mut signing = claim_tx(&pair.alice_params, &[claimable]);
            if pair.alice_params.format.has_anchors() {
                add_wallet_input(&mut signing.tx);
            }
            let (outpoint, prevout) = output(&check(&pair.alice, &signing), 0);
            claims.push(Claimable {
                outpoint,
                prevout,
                kind: ClaimKind::RevokedSecondStage {
                    per_commitment_secret,
                },
            });
        } else {
            let kind = ClaimKind::RevokedHtlc {
                per_commitment_secret,
                htlc,
            };
            claims.push(Claimable { kind, ..claimable });
        }
    }
    claims
}

#[test]
fn revoked_commitment() {
    for format in FORMATS {
        let scene = scene(format);
        let pair = &scene.pair;
        let claims = revoked_claims(&scene, alices_secret(pair, 7));
        assert_eq!(claims.len(), 6);
        for claimable in &claims {
            let signing = claim_tx(&pair.bob_params, std::slice::from_ref(claimable));
            check(&pair.bob, &signing);
        }
        // All in one transaction.
        check(&pair.bob, &claim_tx(&pair.bob_params, &claims));
        // The secret of another commitment opens nothing: the scripts don't even match.
        let wrong = revoked_claims(&scene, alices_secret(pair, 6)).swap_remove(0);
        let signing = claim_tx(&pair.bob_params, &[wrong]);
        assert_eq!(
            BroadcastTx::Claim(Box::new(signing)).complete(&pair.bob),
            Err(SigningError::Refused(Refusal::ClaimMismatch { index: 0 }))
        );
    }
}

#[test]
fn anchors() {
    let scene = scene(CommitmentFormat::AnchorsZeroFeeHtlc);
    let pair = &scene.pair;
    let each: [(&KeysManager, &ChannelParameters, u32); 2] = [
        (
            &pair.alice,
            &pair.alice_params,
            scene.built.to_local_anchor_vout.unwrap(),
        ),
        (
            &pair.bob,
            &pair.bob_params,
            scene.built.to_remote_anchor_vout.unwrap(),
        ),
    ];
    for (signer, params, vout) in each {
        let claimable = Claimable::of(&scene.built, vout, ClaimKind::Anchor);
        let mut signing = claim_tx(params, &[claimable]);
        add_wallet_input(&mut signing.tx);
        check(signer, &signing);
    }
}

#[test]
fn a_claim_must_match_its_output() {
    let scene = scene(CommitmentFormat::AnchorsZeroFeeHtlc);
    let pair = &scene.pair;
    let claims = counterparty_claims(&scene);
    let refused =
        |signer: &KeysManager, signing: ClaimSigning| match BroadcastTx::Claim(Box::new(signing))
            .complete(signer)
        {
            Err(SigningError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
    let mut swapped = claim_tx(&pair.bob_params, &claims[..2]);
    swapped.inputs[1].kind = claims[0].kind.clone();
    assert_eq!(
        refused(&pair.bob, swapped),
        Refusal::ClaimMismatch { index: 1 }
    );
    let mut missing = claim_tx(&pair.bob_params, &claims[..1]);
    missing.inputs[0].index = 1;
    assert_eq!(
        refused(&pair.bob, missing),
        Refusal::ClaimMismatch { index: 1 }
    );
    // Alice's signer holds none of Bob's keys.
    let foreign = claim_tx(&pair.bob_params, &claims[..1]);
    assert_eq!(refused(&pair.alice, foreign), Refusal::ForeignKeys);
}
