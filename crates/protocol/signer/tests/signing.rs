//! Messages, closings, gossip, invoices, and what the signers refuse.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    Amount, Network, ScriptBuf, Txid,
    constants::ChainHash,
    hashes::Hash,
    secp256k1::{
        Message as Digest, PublicKey, SecretKey,
        ecdsa::{RecoverableSignature, RecoveryId, Signature},
    },
};
use common::{FORMATS, Pair, consensus, content, number, public_keys};
use fulmen_signer::{
    BroadcastTx, ClosingSigning, HiddenBytes, HolderSigning, KeysManager, OutMessage, Refusal,
    Revocation, Signer, SignerState, SigningAnswer, SigningError, SigningRequest,
    policy::{self, Bounds, Violation},
};
use fulmen_tx::{
    ChannelKeysId, ClosingContent, ClosingOutputs, CommitmentFormat, CommitmentSecrets, Secp, Side,
    commitment_number_of,
};
use fulmen_types::{
    ChannelId, CltvExpiryDelta, Features, FeeratePerKw, Msat, NodeId, ShortChannelId,
    codec::{Decode, Encode},
};
use fulmen_wire::{
    ChannelAnnouncement, ChannelUpdate, Message, NodeAlias, NodeAnnouncement, Ping, Rgb,
};

/// Funds depend on these never changing.
#[test]
fn derivation_is_stable_for_ever() {
    let vectors = include_str!("../vectors/keys-v1.txt");
    let mut count = 0;
    for line in vectors.lines().filter(|l| !l.starts_with('#')) {
        let (key, expected) = line.split_once(' ').unwrap();
        let (network, key) = key.split_once('.').unwrap();
        let signer = KeysManager::new([7; 32], network.parse::<Network>().unwrap());
        let keys_id = ChannelKeysId::new([8; 32]);
        let keys = public_keys(&signer, keys_id);
        let point = |n| match signer.answer(&SigningRequest::PerCommitmentPoint {
            keys_id,
            number: number(n),
        }) {
            SigningAnswer::Point(point) => point,
            other => panic!("{other:?}"),
        };
        let actual = match key {
            "node_id" => signer.node_id(),
            "funding" => keys.funding,
            "revocation_basepoint" => keys.revocation_basepoint,
            "payment_basepoint" => keys.payment_basepoint,
            "delayed_payment_basepoint" => keys.delayed_payment_basepoint,
            "htlc_basepoint" => keys.htlc_basepoint,
            "point_0" => point(0),
            "point_1" => point(1),
            other => panic!("{other}"),
        };
        assert_eq!(actual.to_string(), expected, "{network} {key}");
        count += 1;
    }
    println!("{count} derived keys");
    assert_eq!(count, 9);
}

#[test]
fn messages_are_completed() {
    for format in FORMATS {
        let pair = Pair::new(format);
        let content = content(7);
        let channel_id = ChannelId::new([1; 32]);
        let request = Box::new(pair.bobs_request(&content));
        let holder = pair.alices_commitment(&content);
        let expected = &holder.commitment;

        let message = OutMessage::CommitmentSigned {
            channel_id,
            revoked: None,
            request: request.clone(),
        };
        assert_eq!(message.name(), "commitment_signed");
        assert_eq!(message.channel_id(), Some(channel_id));
        let Ok(Message::CommitmentSigned(message)) = message.complete(&pair.bob) else {
            panic!("commitment_signed")
        };
        assert_eq!(message.signature, expected.counterparty_signature);
        assert_eq!(message.htlc_signature, expected.htlc_signatures);
        let built = expected.build(&pair.secp, &pair.alice_params);
        assert_eq!(
            built.verify(
                &pair.secp,
                &pair.alice_params,
                &message.signature,
                &message.htlc_signature
            ),
            Ok(())
        );

        let created = OutMessage::FundingCreated {
            temporary_channel_id: channel_id,
            funding_txid: Txid::from_byte_array([5; 32]),
            funding_output_index: 1,
            request: request.clone(),
        };
        let Ok(Message::FundingCreated(created)) = created.complete(&pair.bob) else {
            panic!("funding_created")
        };
        assert_eq!(created.signature, expected.counterparty_signature);
        let signed = OutMessage::FundingSigned {
            channel_id,
            request,
        };
        let Ok(Message::FundingSigned(signed)) = signed.complete(&pair.bob) else {
            panic!("funding_signed")
        };
        assert_eq!(signed.signature, expected.counterparty_signature);
    }
}

#[test]
fn revocations_form_one_chain() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let mut secrets = CommitmentSecrets::new();
    for n in 0..20 {
        let message = OutMessage::RevokeAndAck {
            channel_id: ChannelId::new([1; 32]),
            number: number(n),
            next_per_commitment_point: pair.alice_point(n + 2),
            successor: Box::new(pair.alices_commitment(&content(n + 1))),
        };
        let Ok(Message::RevokeAndAck(message)) = message.complete(&pair.alice) else {
            panic!("revoke_and_ack")
        };
        let secret = SecretKey::from_slice(&message.per_commitment_secret).unwrap();
        assert_eq!(secret.public_key(&pair.secp), pair.alice_point(n));
        secrets
            .insert(number(n), message.per_commitment_secret)
            .unwrap();
        let check = |secret| {
            pair.alice.answer(&SigningRequest::CheckOwnSecret {
                keys_id: pair.alice_params.keys_id,
                number: number(n),
                secret: HiddenBytes::new(secret),
            })
        };
        assert_eq!(
            check(message.per_commitment_secret),
            SigningAnswer::OwnSecret(true)
        );
        assert_eq!(check([1; 32]), SigningAnswer::OwnSecret(false));
    }
}

fn closing(pair: &Pair, outputs: ClosingOutputs) -> [ClosingSigning; 2] {
    let alices = ClosingContent {
        to_local: Msat::from_sat(999_500),
        to_remote: Msat::from_sat(500),
        local_script: ScriptBuf::from_hex("00142222222222222222222222222222222222222222").unwrap(),
        remote_script: ScriptBuf::from_hex("00141111111111111111111111111111111111111111").unwrap(),
        fee: Amount::from_sat(300),
    };
    let bobs = ClosingContent {
        to_local: alices.to_remote,
        to_remote: alices.to_local,
        local_script: alices.remote_script.clone(),
        remote_script: alices.local_script.clone(),
        fee: alices.fee,
    };
    let flipped = match outputs {
        ClosingOutputs::Both => outputs,
        ClosingOutputs::Only(side) => ClosingOutputs::Only(side.other()),
    };
    [
        ClosingSigning {
            params: pair.alice_params,
            content: alices,
            outputs,
        },
        ClosingSigning {
            params: pair.bob_params,
            content: bobs,
            outputs: flipped,
        },
    ]
}

fn signature(signer: &dyn Signer, request: &SigningRequest) -> Signature {
    match signer.answer(request) {
        SigningAnswer::Signature(signature) => signature,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mutual_closes_pass_the_script_rules() {
    for format in FORMATS {
        let pair = Pair::new(format);
        let [alices, bobs] = closing(&pair, ClosingOutputs::Both);
        let tx = alices
            .content
            .build(&alices.params, alices.outputs)
            .unwrap();
        assert_eq!(
            tx.tx,
            bobs.content.build(&bobs.params, bobs.outputs).unwrap().tx
        );
        let by_alice = signature(
            &pair.alice,
            &SigningRequest::Closing(Box::new(alices.clone())),
        );
        let by_bob = signature(&pair.bob, &SigningRequest::Closing(Box::new(bobs)));
        assert!(tx.is_signed_by_peer(&pair.secp, &alices.params, &by_bob));
        let signed = tx.signed(&alices.params, &by_alice, &by_bob);
        consensus(&signed, 0, &alices.params.funding_txout()).unwrap();
        assert_eq!(commitment_number_of(&signed, &alices.params), None);

        // Bob's 500 sat are above his dust limit of 400: his signer does not give them up.
        let [alices, bobs] = closing(&pair, ClosingOutputs::Only(Side::Local));
        let bobs = SigningRequest::Closing(Box::new(bobs));
        assert_eq!(
            pair.bob.answer(&bobs),
            SigningAnswer::Refused(Refusal::Policy(Violation::OwnOutputMissing(
                Amount::from_sat(500)
            )))
        );
        signature(&pair.alice, &SigningRequest::Closing(Box::new(alices)));
    }
}

#[test]
fn commitments_that_lose_value_are_refused() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let mut content = content(7);
    content.to_local = content.to_local.checked_add(Msat::new(1)).unwrap();
    let request = Box::new(pair.bobs_request(&content));
    let refused = SigningAnswer::Refused(Refusal::Policy(Violation::NotConserved));
    let answer = pair
        .bob
        .answer(&SigningRequest::CounterpartyCommitment(request.clone()));
    assert_eq!(answer, refused);
    let message = OutMessage::CommitmentSigned {
        channel_id: ChannelId::new([1; 32]),
        revoked: None,
        request,
    };
    assert_eq!(
        message.complete(&pair.bob),
        Err(SigningError::Refused(Refusal::Policy(
            Violation::NotConserved
        )))
    );
    // Alice does not sign as Bob.
    let request = Box::new(pair.bobs_request(&common::content(7)));
    assert_eq!(
        pair.alice
            .answer(&SigningRequest::CounterpartyCommitment(request)),
        SigningAnswer::Refused(Refusal::ForeignKeys)
    );
}

#[test]
fn policy_bounds() {
    let feerates = Bounds {
        least: FeeratePerKw::FLOOR,
        most: FeeratePerKw::new(10_000),
    };
    assert_eq!(
        policy::check_feerate(FeeratePerKw::new(253), &feerates),
        Ok(())
    );
    let high = FeeratePerKw::new(10_001);
    assert_eq!(
        policy::check_feerate(high, &feerates),
        Err(Violation::Feerate(high))
    );
    let delays = Bounds {
        least: 6,
        most: 2016,
    };
    assert_eq!(policy::check_to_self_delay(2016, &delays), Ok(()));
    assert_eq!(
        policy::check_to_self_delay(5, &delays),
        Err(Violation::ToSelfDelay(5))
    );
    let dust = Bounds {
        least: Amount::from_sat(354),
        most: Amount::from_sat(1_000),
    };
    assert_eq!(
        policy::check_dust_limit(Amount::from_sat(354), &dust),
        Ok(())
    );
    assert!(policy::check_dust_limit(Amount::from_sat(353), &dust).is_err());

    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let mut content = content(0);
    let affordable =
        |content: &_| policy::check_fee_is_affordable(&pair.alice_params, Side::Local, content);
    assert_eq!(affordable(&content), Ok(()));
    // Four HTLC outputs: 1124 + 4 * 172 weight, and two anchors.
    content.to_local = Msat::from_sat(1_812 + 660);
    assert_eq!(affordable(&content), Ok(()));
    content.to_local = Msat::new(2_472_000 - 1);
    assert_eq!(affordable(&content), Err(Violation::FeeAboveBalance));

    let [closing, _] = closing(&pair, ClosingOutputs::Both);
    let tx = closing
        .content
        .build(&closing.params, closing.outputs)
        .unwrap()
        .tx;
    let scripts = [
        closing.content.local_script.clone(),
        closing.content.remote_script.clone(),
    ];
    assert_eq!(policy::check_payouts(&tx, &scripts), Ok(()));
    assert!(policy::check_payouts(&tx, &scripts[..1]).is_err());
}

#[test]
fn gossip_invoices_and_shared_secrets() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let secp = Secp::new();
    let filler = secp.sign_ecdsa(
        &Digest::from_digest([1; 32]),
        &SecretKey::from_slice(&[1; 32]).unwrap(),
    );
    let (alice_id, bob_id) = (pair.alice.node_id(), pair.bob.node_id());
    let announcement = ChannelAnnouncement {
        node_signature_1: filler,
        node_signature_2: filler,
        bitcoin_signature_1: filler,
        bitcoin_signature_2: filler,
        features: Features::empty(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(1),
        node_id_1: NodeId::from(bob_id),
        node_id_2: NodeId::from(alice_id),
        bitcoin_key_1: NodeId::from(pair.bob_params.local.keys.funding),
        bitcoin_key_2: NodeId::from(pair.alice_params.local.keys.funding),
        excess_data: vec![],
    };
    let request = |announcement: &ChannelAnnouncement| SigningRequest::ChannelAnnouncement {
        keys_id: pair.alice_params.keys_id,
        announcement: Box::new(announcement.clone()),
    };
    let SigningAnswer::Announcement {
        node_signature,
        bitcoin_signature,
    } = pair.alice.answer(&request(&announcement))
    else {
        panic!("announcement")
    };
    let hash = announcement.signature_hash();
    let funding = &pair.alice_params.local.keys.funding;
    secp.verify_ecdsa(&hash, &node_signature, &alice_id)
        .unwrap();
    secp.verify_ecdsa(&hash, &bitcoin_signature, funding)
        .unwrap();
    let foreign = ChannelAnnouncement {
        node_id_2: announcement.node_id_1,
        ..announcement
    };
    let refused = SigningAnswer::Refused(Refusal::ForeignKeys);
    assert_eq!(pair.alice.answer(&request(&foreign)), refused);

    let node = NodeAnnouncement {
        signature: filler,
        features: Features::empty(),
        timestamp: 1,
        node_id: NodeId::from(alice_id),
        rgb_color: Rgb::default(),
        alias: NodeAlias::default(),
        addresses: vec![],
        excess_data: vec![],
    };
    let request = SigningRequest::NodeAnnouncement(Box::new(node.clone()));
    let by_alice = signature(&pair.alice, &request);
    secp.verify_ecdsa(&node.signature_hash(), &by_alice, &alice_id)
        .unwrap();
    assert_eq!(pair.bob.answer(&request), refused);

    let update = ChannelUpdate {
        signature: filler,
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::from_u64(1),
        timestamp: 2,
        message_flags: 1,
        channel_flags: 1,
        cltv_expiry_delta: CltvExpiryDelta::new(40),
        htlc_minimum_msat: Msat::new(1),
        fee_base_msat: 1,
        fee_proportional_millionths: 1,
        htlc_maximum_msat: Msat::from_sat(1_000),
        excess_data: vec![],
    };
    let by_alice = signature(
        &pair.alice,
        &SigningRequest::ChannelUpdate(Box::new(update.clone())),
    );
    secp.verify_ecdsa(&update.signature_hash(), &by_alice, &alice_id)
        .unwrap();

    let SigningAnswer::Invoice {
        signature,
        recovery_id,
    } = pair
        .alice
        .answer(&SigningRequest::Invoice { hash: [3; 32] })
    else {
        panic!("invoice")
    };
    let id = RecoveryId::from_i32(i32::from(recovery_id)).unwrap();
    let recoverable = RecoverableSignature::from_compact(&signature, id).unwrap();
    let recovered = secp
        .recover_ecdsa(&Digest::from_digest([3; 32]), &recoverable)
        .unwrap();
    assert_eq!(recovered, alice_id);

    let shared = |signer: &KeysManager, points: Vec<PublicKey>| match signer
        .answer(&SigningRequest::Ecdh { points })
    {
        SigningAnswer::SharedSecrets(secrets) => secrets,
        other => panic!("{other:?}"),
    };
    let by_alice = shared(&pair.alice, vec![bob_id, alice_id]);
    assert_eq!(by_alice.len(), 2);
    assert_eq!(by_alice[0], shared(&pair.bob, vec![alice_id])[0]);
    assert_eq!(by_alice[0].to_byte_array(), pair.bob.ecdh(&alice_id));
}

#[test]
fn nothing_secret_is_printed() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let text = format!("{:?}", pair.alice);
    assert_eq!(
        text,
        format!("KeysManager {{ node_id: {:?}, .. }}", pair.alice.node_id())
    );
    let answer = pair.alice.answer(&SigningRequest::RevealSecret {
        keys_id: pair.alice_params.keys_id,
        number: number(0),
    });
    assert_eq!(format!("{answer:?}"), "Secret(HiddenBytes(..))");
}

/// A signer that can't be reached.
struct Away(PublicKey);

impl Signer for Away {
    fn answer(&self, _: &SigningRequest) -> SigningAnswer {
        SigningAnswer::Unavailable
    }

    fn node_id(&self) -> PublicKey {
        self.0
    }
}

#[test]
fn an_absent_signer_is_no_refusal() {
    let pair = Pair::new(CommitmentFormat::StaticRemoteKey);
    let away = Away(pair.alice.node_id());
    let holder = Box::new(pair.alices_commitment(&content(1)));
    assert_eq!(
        BroadcastTx::HolderCommitment(holder).complete(&away),
        Err(SigningError::Unavailable)
    );
    let ping = Message::Ping(Ping {
        num_pong_bytes: 1,
        ignored: vec![],
    });
    assert_eq!(OutMessage::from(ping.clone()).complete(&away), Ok(ping));
}

fn reveal(pair: &Pair, n: u64) -> SigningRequest {
    SigningRequest::RevealSecret {
        keys_id: pair.alice_params.keys_id,
        number: number(n),
    }
}

fn validate(holder: HolderSigning) -> SigningRequest {
    SigningRequest::ValidateHolder(Box::new(holder))
}

#[test]
fn a_secret_is_out_only_after_its_successor() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let mut state = SignerState::new();
    let mut ask = |request: &SigningRequest| state.answer(&pair.alice, request);
    let too_early = SigningAnswer::Refused(Refusal::SuccessorNotValidated(number(0)));
    assert_eq!(ask(&reveal(&pair, 0)), too_early);
    assert_eq!(
        ask(&validate(pair.alices_commitment(&content(0)))),
        SigningAnswer::Validated
    );
    assert_eq!(ask(&reveal(&pair, 0)), too_early);

    let mut forged = pair.alices_commitment(&content(1));
    forged.commitment.htlc_signatures.swap(0, 1);
    assert_eq!(
        ask(&validate(forged)),
        SigningAnswer::Refused(Refusal::InvalidPeerSignature)
    );
    let mut misplaced = pair.alices_commitment(&content(1));
    misplaced.commitment.per_commitment_point = pair.alice_point(2);
    assert_eq!(
        ask(&validate(misplaced)),
        SigningAnswer::Refused(Refusal::ForeignKeys)
    );
    assert_eq!(ask(&reveal(&pair, 0)), too_early);

    assert_eq!(
        ask(&validate(pair.alices_commitment(&content(1)))),
        SigningAnswer::Validated
    );
    assert!(matches!(ask(&reveal(&pair, 0)), SigningAnswer::Secret(_)));
    // Again, for a retransmission.
    assert!(matches!(ask(&reveal(&pair, 0)), SigningAnswer::Secret(_)));
    let holder =
        |n| SigningRequest::HolderCommitment(Box::new(pair.alices_commitment(&content(n))));
    assert_eq!(
        ask(&holder(0)),
        SigningAnswer::Refused(Refusal::AlreadyRevoked(number(0)))
    );

    // Signing for broadcast is terminal, across a restart too.
    assert!(matches!(ask(&holder(1)), SigningAnswer::Signature(_)));
    let mut state = SignerState::from_bytes(&state.to_bytes()).unwrap();
    let mut ask = |request: &SigningRequest| state.answer(&pair.alice, request);
    assert_eq!(
        ask(&validate(pair.alices_commitment(&content(2)))),
        SigningAnswer::Validated
    );
    let signed = SigningAnswer::Refused(Refusal::SignedForBroadcast(number(1)));
    assert_eq!(ask(&reveal(&pair, 1)), signed);
    assert!(matches!(ask(&holder(1)), SigningAnswer::Signature(_)));
    assert!(matches!(ask(&reveal(&pair, 0)), SigningAnswer::Secret(_)));
    state.forget(&pair.alice_params.keys_id);
    assert_eq!(state, SignerState::new());
}

#[test]
fn one_counterparty_commitment_for_each_number() {
    let pair = Pair::new(CommitmentFormat::StaticRemoteKey);
    let mut state = SignerState::default();
    let mut ask = |request: &SigningRequest| state.answer(&pair.bob, request);
    let sign =
        |content: &_| SigningRequest::CounterpartyCommitment(Box::new(pair.bobs_request(content)));
    let first = ask(&sign(&content(4)));
    assert!(matches!(first, SigningAnswer::Commitment { .. }));
    // The same once more gets the same signatures.
    assert_eq!(ask(&sign(&content(4))), first);
    let mut other = content(4);
    other.to_local = other.to_local.checked_sub(Msat::from_sat(1)).unwrap();
    other.to_remote = other.to_remote.checked_add(Msat::from_sat(1)).unwrap();
    assert_eq!(
        ask(&sign(&other)),
        SigningAnswer::Refused(Refusal::DifferentCommitment(number(4)))
    );
    assert!(matches!(
        ask(&sign(&content(5))),
        SigningAnswer::Commitment { .. }
    ));
    for wrong in [4, 7] {
        assert_eq!(
            ask(&sign(&content(wrong))),
            SigningAnswer::Refused(Refusal::CommitmentOutOfOrder {
                asked: number(wrong),
                last: number(5)
            })
        );
    }
    // Another view of the same channel.
    let mut changed = pair.bobs_request(&content(6));
    changed.params.local.dust_limit = Amount::from_sat(401);
    let request = SigningRequest::CounterpartyCommitment(Box::new(changed));
    assert_eq!(
        ask(&request),
        SigningAnswer::Refused(Refusal::ParametersChanged)
    );
    // A channel whose keys, other than the funding key, are not all ours.
    let mut foreign = pair.bobs_request(&content(0));
    foreign.params.local.keys.revocation_basepoint = pair.alice_point(0);
    let request = SigningRequest::CounterpartyCommitment(Box::new(foreign));
    assert_eq!(
        SignerState::new().answer(&pair.bob, &request),
        SigningAnswer::Refused(Refusal::ForeignKeys)
    );
}

/// Bob asks for Alice's commitments: she may not hold more than two that are not revoked.
#[test]
fn a_third_commitment_waits_for_the_first_to_be_revoked() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let keys_id = pair.bob_params.keys_id;
    let mut state = SignerState::new();
    let sign =
        |n: u64| SigningRequest::CounterpartyCommitment(Box::new(pair.bobs_request(&content(n))));
    let revocation = |n: u64, of: u64| {
        let request = SigningRequest::RevealSecret {
            keys_id: pair.alice_params.keys_id,
            number: number(of),
        };
        let SigningAnswer::Secret(secret) = pair.alice.answer(&request) else {
            panic!("a secret")
        };
        SigningRequest::ValidateRevocation {
            keys_id,
            revocation: Revocation {
                number: number(n),
                secret,
            },
        }
    };
    let counters =
        |state: &mut SignerState| state.answer(&pair.bob, &SigningRequest::Counters { keys_id });
    assert_eq!(
        counters(&mut state),
        SigningAnswer::Counters {
            holder: None,
            counterparty: None
        }
    );
    for n in [0, 1] {
        let answer = state.answer(&pair.bob, &sign(n));
        assert!(
            matches!(answer, SigningAnswer::Commitment { .. }),
            "{answer:?}"
        );
    }
    let third = SigningAnswer::Refused(Refusal::NotRevoked(number(0)));
    assert_eq!(state.answer(&pair.bob, &sign(2)), third);
    // Neither the secret of another commitment nor one of the future will do.
    for wrong in [revocation(0, 3), revocation(1, 0), revocation(5, 5)] {
        let answer = state.answer(&pair.bob, &wrong);
        assert!(
            matches!(answer, SigningAnswer::Refused(Refusal::WrongRevocation(_))),
            "{answer:?}"
        );
    }
    assert_eq!(state.answer(&pair.bob, &sign(2)), third);
    let right = revocation(0, 0);
    assert_eq!(state.answer(&pair.bob, &right), SigningAnswer::Validated);
    state = SignerState::from_bytes(&state.to_bytes()).unwrap();
    let answer = state.answer(&pair.bob, &sign(2));
    assert!(
        matches!(answer, SigningAnswer::Commitment { .. }),
        "{answer:?}"
    );
    // Told again with a message that is sent again.
    assert_eq!(state.answer(&pair.bob, &right), SigningAnswer::Validated);
    assert_eq!(state.answer(&pair.bob, &sign(2)), answer);
    assert_eq!(
        counters(&mut state),
        SigningAnswer::Counters {
            holder: None,
            counterparty: Some(number(2))
        }
    );

    // A message shows the revocation before it asks for the signature: with a wrong one there is none.
    let SigningRequest::ValidateRevocation { revocation, .. } = revocation(1, 1) else {
        panic!("a revocation")
    };
    let keys = Knowing(&pair.bob, revocation.clone());
    let message = |revoked| OutMessage::CommitmentSigned {
        channel_id: ChannelId::new([1; 32]),
        revoked: Some(revoked),
        request: Box::new(pair.bobs_request(&content(3))),
    };
    let wrong = Revocation {
        number: number(0),
        ..revocation.clone()
    };
    assert_eq!(
        message(wrong).complete(&keys),
        Err(SigningError::Refused(Refusal::WrongRevocation(number(0))))
    );
    let signed = message(revocation).complete(&keys);
    assert!(
        matches!(signed, Ok(Message::CommitmentSigned(_))),
        "{signed:?}"
    );
}

/// Keys that sign only after they have seen this revocation, by the order of the requests of one message.
struct Knowing<'a>(&'a KeysManager, Revocation);

impl Signer for Knowing<'_> {
    fn answer(&self, request: &SigningRequest) -> SigningAnswer {
        match request {
            SigningRequest::ValidateRevocation { revocation, .. } if *revocation != self.1 => {
                SigningAnswer::Refused(Refusal::WrongRevocation(revocation.number))
            }
            other => self.0.answer(other),
        }
    }

    fn node_id(&self) -> PublicKey {
        self.0.node_id()
    }
}
