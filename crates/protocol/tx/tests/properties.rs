//! What holds for every commitment, closing and claim.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use bitcoin::{Amount, ScriptBuf, Transaction, secp256k1::ecdsa::Signature};
use common::{FORMATS, SIDES, params, point, secret};
use fulmen_tx::{
    BuiltCommitment, ChannelParameters, ClaimKind, ClosingContent, ClosingError, ClosingOutputs,
    CommitmentContent, CommitmentFormat, CommitmentHtlc, CommitmentSecrets, CounterpartyCommitment,
    HolderCommitment, Secp, SecretError, Side, SignatureFault, build_commitment, closing_weight,
    commitment_number_of, commitment_weight, derive_private_key, derive_secret, dust_threshold,
    secret_index,
};
use fulmen_types::{
    ChannelType, CltvExpiry, CommitmentNumber, Feature, FeeratePerKw, HtlcId, Msat, PaymentHash,
    PaymentPreimage,
    codec::{Decode, Encode},
};
use proptest::{collection::vec, prelude::*};

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Local), Just(Side::Remote)]
}

fn format() -> impl Strategy<Value = CommitmentFormat> {
    prop_oneof![
        Just(CommitmentFormat::StaticRemoteKey),
        Just(CommitmentFormat::AnchorsZeroFeeHtlc)
    ]
}

fn number() -> impl Strategy<Value = CommitmentNumber> {
    (0..1u64 << 48).prop_map(|n| CommitmentNumber::new(n).unwrap())
}

/// Few amounts, hashes and expiries, so that many HTLCs are alike.
fn htlcs() -> impl Strategy<Value = Vec<CommitmentHtlc>> {
    let one = (side(), 0..4u64, 0..3u64, 0..3u8, 0..3u32);
    vec(one, 0..40).prop_map(|all| {
        let mut next = [0, 0];
        all.into_iter()
            .map(|(offered_by, thousands, msat, hash, cltv)| {
                let id = &mut next[usize::from(offered_by == Side::Remote)];
                *id += 1;
                CommitmentHtlc {
                    id: HtlcId::new(*id),
                    offered_by,
                    amount: Msat::new(300_000 + thousands * 1_000_000 + msat),
                    payment_hash: PaymentHash::new([hash; 32]),
                    cltv_expiry: CltvExpiry::new(500 + cltv),
                }
            })
            .collect()
    })
}

/// A content that divides exactly the funding of [`params`].
fn content() -> impl Strategy<Value = CommitmentContent> {
    (number(), 0..20_000u32, htlcs(), 0..=1_000u64).prop_map(|(number, feerate, htlcs, share)| {
        let in_htlcs = Msat::checked_sum(htlcs.iter().map(|h| h.amount)).unwrap();
        let left = Msat::from_sat(10_000_000).checked_sub(in_htlcs).unwrap();
        let to_local = Msat::new(left.to_msat() / 1_000 * share);
        CommitmentContent {
            number,
            feerate: FeeratePerKw::new(feerate),
            to_local,
            to_remote: left.checked_sub(to_local).unwrap(),
            htlcs,
        }
    })
}

fn build(
    params: &ChannelParameters,
    broadcaster: Side,
    content: &CommitmentContent,
) -> BuiltCommitment {
    build_commitment(&Secp::new(), params, broadcaster, &point(99), content)
}

/// The same channel as the peer sees it.
fn mirrored(params: &ChannelParameters) -> ChannelParameters {
    ChannelParameters {
        opener: params.opener.other(),
        local: params.remote,
        remote: params.local,
        ..*params
    }
}

fn mirrored_content(content: &CommitmentContent) -> CommitmentContent {
    CommitmentContent {
        to_local: content.to_remote,
        to_remote: content.to_local,
        htlcs: content
            .htlcs
            .iter()
            .rev()
            .map(|htlc| CommitmentHtlc {
                offered_by: htlc.offered_by.other(),
                ..*htlc
            })
            .collect(),
        ..content.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn outputs_and_fee_are_the_funding(
        format in format(), opener in side(), broadcaster in side(), content in content()
    ) {
        let params = params(format, opener);
        let built = build(&params, broadcaster, &content);
        let outputs: Amount = built.tx.output.iter().map(|o| o.value).sum();
        prop_assert_eq!(outputs + built.fee, params.funding.value);
        prop_assert_eq!(built.htlcs.len() + built.trimmed.len(), content.htlcs.len());
        let expected = commitment_weight(format, built.htlcs.len() as u64);
        let base = content.feerate.fee_floor(expected);
        let opener_pays = content.balance(opener).to_amount_floor() >= base + Amount::from_sat(660);
        prop_assert!(built.fee >= base || !opener_pays);
        let dust_limit = params.party(broadcaster).dust_limit;
        let anchors = [built.to_local_anchor_vout, built.to_remote_anchor_vout];
        for (vout, output) in (0u32..).zip(&built.tx.output) {
            prop_assert!(output.value >= dust_limit || anchors.contains(&Some(vout)));
            prop_assert!(output.value >= dust_threshold(&output.script_pubkey));
        }
        prop_assert_eq!(commitment_number_of(&built.tx, &params), Some(content.number));
    }

    #[test]
    fn both_sides_build_the_same_and_name_the_same_htlcs(
        format in format(), opener in side(), broadcaster in side(), content in content()
    ) {
        let params = params(format, opener);
        let ours = build(&params, broadcaster, &content);
        let theirs = build(&mirrored(&params), broadcaster.other(), &mirrored_content(&content));
        prop_assert_eq!(&ours.tx, &theirs.tx);
        prop_assert_eq!(ours.to_local_vout, theirs.to_local_vout);
        prop_assert_eq!(ours.to_remote_anchor_vout, theirs.to_remote_anchor_vout);
        let named = |built: &BuiltCommitment, flip: bool| -> Vec<_> {
            built.htlcs.iter().map(|(htlc, vout)| {
                let by = if flip { htlc.offered_by.other() } else { htlc.offered_by };
                (by, htlc.id, *vout)
            }).collect()
        };
        prop_assert_eq!(named(&ours, false), named(&theirs, true));
        for ((a, vout_a), (b, vout_b)) in ours.htlcs.iter().zip(&theirs.htlcs) {
            prop_assert_eq!(ours.htlc_tx(a, *vout_a), theirs.htlc_tx(b, *vout_b));
            prop_assert_eq!(ours.htlc_sighash(a, *vout_a), theirs.htlc_sighash(b, *vout_b));
        }
        // In output order, each output once, each with its own amount.
        prop_assert!(ours.htlcs.is_sorted_by_key(|(_, vout)| *vout));
        for (htlc, vout) in &ours.htlcs {
            prop_assert_eq!(ours.txout(*vout).unwrap().value, htlc.amount.to_amount_floor());
            prop_assert_eq!(
                &ours.txout(*vout).unwrap().script_pubkey,
                &ours.htlc_witness_script(htlc).to_p2wsh()
            );
        }
    }

    #[test]
    fn closings_conserve_and_weigh_no_more_than_reckoned(
        opener in side(), msat in 0..=10_000_000_000u64, fee in 0..20_000u64
    ) {
        let params = params(CommitmentFormat::AnchorsZeroFeeHtlc, opener);
        let content = ClosingContent {
            to_local: Msat::new(msat),
            to_remote: Msat::new(10_000_000_000 - msat),
            local_script: ScriptBuf::from_hex("0014aabbccddeeff00112233445566778899aabbccdd").unwrap(),
            remote_script: ScriptBuf::from_hex("0014bbbbccddeeff00112233445566778899aabbccdd").unwrap(),
            fee: Amount::from_sat(fee),
        };
        prop_assert_eq!(ClosingContent::from_bytes(&content.to_bytes()), Ok(content.clone()));
        let outputs = match content.outputs_above(&params, params.local.dust_limit) {
            Ok(outputs) => outputs,
            Err(error) => {
                let is_fee_error = matches!(error, ClosingError::FeeAboveBalance { .. });
                prop_assert!(is_fee_error);
                return Ok(());
            }
        };
        let built = content.build(&params, outputs).unwrap();
        let sum: Amount = built.tx.output.iter().map(|o| o.value).sum();
        if outputs == ClosingOutputs::Both {
            // Each side's msat are rounded down.
            let rounding = params.funding.value - content.fee - sum;
            prop_assert!(rounding <= Amount::from_sat(1));
        }
        prop_assert!(built.tx.output.iter().all(|o| o.value >= params.local.dust_limit));
        prop_assert!(built.tx.output.is_sorted_by_key(|o| (o.value, o.script_pubkey.clone())));
        let secp = Secp::new();
        let local = secp.sign_ecdsa(&built.sighash(&params), &secret(1));
        let remote = secp.sign_ecdsa(&built.sighash(&params), &secret(11));
        prop_assert!(built.is_signed_by_peer(&secp, &params, &remote));
        prop_assert!(!built.is_signed_by_peer(&secp, &params, &local));
        let signed = built.signed(&params, &local, &remote);
        let scripts = built.tx.output.iter().map(|o| o.script_pubkey.as_script());
        let reckoned = closing_weight(scripts);
        prop_assert!(signed.weight().to_wu() <= reckoned);
        prop_assert!(signed.weight().to_wu() + 6 >= reckoned);
    }

    #[test]
    fn codecs_round_trip(
        format in format(), opener in side(), content in content(), preimage: [u8; 32]
    ) {
        let params = params(format, opener);
        prop_assert_eq!(ChannelParameters::from_bytes(&params.to_bytes()), Ok(params));
        let signature = Secp::new().sign_ecdsa(&build(&params, Side::Local, &content).sighash(&params), &secret(5));
        let holder = HolderCommitment {
            content: content.clone(),
            per_commitment_point: point(99),
            counterparty_signature: signature,
            htlc_signatures: vec![signature; content.htlcs.len()],
        };
        prop_assert_eq!(HolderCommitment::from_bytes(&holder.to_bytes()), Ok(holder));
        let counterparty = CounterpartyCommitment { content: content.clone(), per_commitment_point: point(98) };
        prop_assert_eq!(CounterpartyCommitment::from_bytes(&counterparty.to_bytes()), Ok(counterparty));
        for htlc in content.htlcs.into_iter().take(1) {
            for kind in kinds(htlc, signature, preimage) {
                prop_assert_eq!(ClaimKind::from_bytes(&kind.to_bytes()), Ok(kind));
            }
        }
    }

    #[test]
    fn decoders_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = ChannelParameters::from_bytes(&bytes);
        let _ = HolderCommitment::from_bytes(&bytes);
        let _ = CommitmentSecrets::from_bytes(&bytes);
        let _ = ClaimKind::from_bytes(&bytes);
        let _ = ClosingContent::from_bytes(&bytes);
    }

    #[test]
    fn secrets_are_all_known_from_few(seed: [u8; 32], count in 1..300u64, wrong in 0..300u64) {
        let mut store = CommitmentSecrets::new();
        let at = |n| CommitmentNumber::new(n).unwrap();
        for n in 0..count {
            prop_assert_eq!(store.next_number(), Some(at(n)));
            prop_assert_eq!(store.get(at(n)), None);
            store.insert(at(n), derive_secret(&seed, secret_index(at(n)))).unwrap();
        }
        for n in 0..count {
            prop_assert_eq!(store.get(at(n)), Some(derive_secret(&seed, secret_index(at(n)))));
        }
        prop_assert!(store.to_bytes().len() <= 1 + 49 * 40);
        prop_assert_eq!(CommitmentSecrets::from_bytes(&store.to_bytes()), Ok(store.clone()));
        if wrong != count {
            let expected = at(count);
            prop_assert_eq!(store.insert(at(wrong), [1; 32]), Err(SecretError::OutOfOrder { expected }));
        }
    }
}

fn kinds(
    htlc: CommitmentHtlc,
    counterparty_signature: Signature,
    preimage: [u8; 32],
) -> Vec<ClaimKind> {
    let per_commitment_point = point(99);
    let per_commitment_secret = secret(99);
    let feerate = FeeratePerKw::new(253);
    let preimage = PaymentPreimage::new(preimage);
    vec![
        ClaimKind::HolderToLocal {
            per_commitment_point,
        },
        ClaimKind::HolderHtlcTimeout {
            per_commitment_point,
            htlc,
            feerate,
            counterparty_signature,
        },
        ClaimKind::HolderHtlcSuccess {
            per_commitment_point,
            htlc,
            feerate,
            counterparty_signature,
            preimage,
        },
        ClaimKind::HolderSecondStage {
            per_commitment_point,
        },
        ClaimKind::CounterpartyHtlcPreimage {
            per_commitment_point,
            htlc,
            preimage,
        },
        ClaimKind::CounterpartyHtlcTimeout {
            per_commitment_point,
            htlc,
        },
        ClaimKind::StaticRemote,
        ClaimKind::RevokedToLocal {
            per_commitment_secret,
        },
        ClaimKind::RevokedHtlc {
            per_commitment_secret,
            htlc,
        },
        ClaimKind::RevokedSecondStage {
            per_commitment_secret,
        },
        ClaimKind::Anchor,
    ]
}

#[test]
fn a_wrong_peer_signature_is_named() {
    let secp = Secp::new();
    let htlc = |id| CommitmentHtlc {
        id: HtlcId::new(id),
        offered_by: Side::Local,
        amount: Msat::from_sat(50_000),
        payment_hash: PaymentHash::new([1; 32]),
        cltv_expiry: CltvExpiry::new(500),
    };
    let content = CommitmentContent {
        number: CommitmentNumber::FIRST,
        feerate: FeeratePerKw::new(1_000),
        to_local: Msat::from_sat(5_000_000),
        to_remote: Msat::from_sat(4_900_000),
        htlcs: vec![htlc(8), htlc(7)],
    };
    for format in FORMATS {
        let params = params(format, Side::Local);
        let built = build(&params, Side::Local, &content);
        let good = secp.sign_ecdsa(&built.sighash(&params), &secret(11));
        let key = derive_private_key(&secp, &secret(15), &point(99));
        let mut htlc_signatures: Vec<_> = built
            .htlc_sighashes()
            .map(|sighash| secp.sign_ecdsa(&sighash, &key))
            .collect();
        let verify =
            |sig: &Signature, htlcs: &[Signature]| built.verify(&secp, &params, sig, htlcs);
        assert_eq!(verify(&good, &htlc_signatures), Ok(()));
        assert_eq!(
            verify(&htlc_signatures[0].clone(), &htlc_signatures),
            Err(SignatureFault::Commitment)
        );
        assert_eq!(
            verify(&good, &htlc_signatures[..1]),
            Err(SignatureFault::HtlcCount {
                expected: 2,
                received: 1
            })
        );
        // Alike in everything: the ids decide which output is whose.
        htlc_signatures.swap(0, 1);
        assert_eq!(
            verify(&good, &htlc_signatures),
            Err(SignatureFault::Htlc {
                offered_by: Side::Local,
                id: HtlcId::new(7)
            })
        );
    }
}

#[test]
fn the_funder_pays_for_an_absent_anchor() {
    let content = CommitmentContent {
        number: CommitmentNumber::FIRST,
        feerate: FeeratePerKw::new(1_000),
        to_local: Msat::from_sat(10_000_000),
        to_remote: Msat::ZERO,
        htlcs: vec![],
    };
    let params = params(CommitmentFormat::AnchorsZeroFeeHtlc, Side::Local);
    for broadcaster in SIDES {
        let built = build(&params, broadcaster, &content);
        assert_eq!(built.tx.output.len(), 2);
        assert_eq!(built.fee, Amount::from_sat(1_124 + 330));
        assert_eq!(
            built.to_local_anchor_vout.is_some(),
            broadcaster == Side::Local
        );
        assert_eq!(
            built.to_remote_anchor_vout.is_some(),
            broadcaster == Side::Remote
        );
    }
}

/// BOLT 3: with HTLC outputs both anchors are there, whatever the balances.
#[test]
fn an_htlc_output_brings_both_anchors() {
    let params = params(CommitmentFormat::AnchorsZeroFeeHtlc, Side::Local);
    for (amount_sat, anchors) in [(1_000, true), (999, false)] {
        let content = CommitmentContent {
            number: CommitmentNumber::FIRST,
            feerate: FeeratePerKw::new(253),
            to_local: Msat::from_sat(600),
            to_remote: Msat::ZERO,
            htlcs: vec![CommitmentHtlc {
                id: HtlcId::new(0),
                offered_by: Side::Local,
                amount: Msat::from_sat(amount_sat),
                payment_hash: PaymentHash::new([1; 32]),
                cltv_expiry: CltvExpiry::new(500),
            }],
        };
        // The peer's dust limit of 1000 sat decides.
        let built = build(&params, Side::Remote, &content);
        assert_eq!((built.to_local_vout, built.to_remote_vout), (None, None));
        assert_eq!(built.to_local_anchor_vout.is_some(), anchors);
        assert_eq!(built.to_remote_anchor_vout.is_some(), anchors);
        assert_eq!(built.htlcs.len(), usize::from(anchors));
    }
}

#[test]
fn what_is_no_commitment_has_no_number() {
    let params = params(CommitmentFormat::AnchorsZeroFeeHtlc, Side::Local);
    let content = ClosingContent {
        to_local: Msat::from_sat(10_000_000),
        to_remote: Msat::ZERO,
        local_script: ScriptBuf::new(),
        remote_script: ScriptBuf::new(),
        fee: Amount::ZERO,
    };
    let closing = content
        .build(&params, ClosingOutputs::Only(Side::Local))
        .unwrap();
    assert_eq!(commitment_number_of(&closing.tx, &params), None);
    let empty = Transaction {
        input: vec![],
        ..closing.tx
    };
    assert_eq!(commitment_number_of(&empty, &params), None);
}

#[test]
fn dust_thresholds_of_bolt_3() {
    let table = [
        ("76a914000000000000000000000000000000000000000088ac", 546),
        ("a914000000000000000000000000000000000000000087", 540),
        ("00140000000000000000000000000000000000000000", 294),
        (
            "00200000000000000000000000000000000000000000000000000000000000000000",
            330,
        ),
        ("51024e73", 240),
        (
            "51200000000000000000000000000000000000000000000000000000000000000000",
            354,
        ),
        ("6a0401020304", 0),
        ("51", 546),
    ];
    for (script, sat) in table {
        let script = ScriptBuf::from_hex(script).unwrap();
        assert_eq!(dust_threshold(&script), Amount::from_sat(sat), "{script}");
    }
}

#[test]
fn channel_types_and_formats() {
    let format = |channel_type| CommitmentFormat::from_channel_type(&channel_type);
    let anchors = ChannelType::anchors;
    assert_eq!(
        format(anchors()),
        Some(CommitmentFormat::AnchorsZeroFeeHtlc)
    );
    assert_eq!(
        format(ChannelType::static_remote_key().with(Feature::ScidAlias)),
        Some(CommitmentFormat::StaticRemoteKey)
    );
    assert_eq!(format(anchors().with(Feature::SimpleTaproot)), None);
    assert_eq!(
        format(ChannelType::from_features(fulmen_types::Features::empty())),
        None
    );
}

/// As many HTLCs as BOLT 2 allows, some alike in all but the id.
#[test]
fn the_greatest_commitment() {
    let htlcs: Vec<_> = (0..966)
        .map(|id| CommitmentHtlc {
            id: HtlcId::new(id / 2),
            offered_by: SIDES[usize::from(id % 2 == 1)],
            amount: Msat::from_sat(5_000 + id % 7),
            payment_hash: PaymentHash::new([(id % 5) as u8; 32]),
            cltv_expiry: CltvExpiry::new(500),
        })
        .collect();
    let in_htlcs = Msat::checked_sum(htlcs.iter().map(|h| h.amount)).unwrap();
    let content = CommitmentContent {
        number: CommitmentNumber::FIRST,
        feerate: FeeratePerKw::new(253),
        to_local: Msat::from_sat(2_000_000),
        to_remote: Msat::from_sat(8_000_000).checked_sub(in_htlcs).unwrap(),
        htlcs,
    };
    for format in FORMATS {
        let params = params(format, Side::Local);
        let built = build(&params, Side::Local, &content);
        let sighashes = built.htlc_sighashes().count();
        assert_eq!((built.htlcs.len(), sighashes), (966, 966));
        let reckoned = commitment_weight(format, 966);
        let actual = built.tx.weight().to_wu() + 224;
        // BOLT 3 reckons with one byte for the count of outputs; here it is three.
        assert!(actual <= reckoned + 8, "{actual} > {reckoned}");
    }
}
