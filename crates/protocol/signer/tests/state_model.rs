//! Whatever a signer is asked, in whatever order and with restarts between: it never gives away both a
//! commitment and the secret that punishes it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::{Pair, content, number};
use fulmen_signer::{HolderSigning, SignerState, SigningAnswer, SigningRequest};
use fulmen_tx::CommitmentFormat;
use fulmen_types::codec::{Decode, Encode};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

const COMMITMENTS: u64 = 5;

#[derive(Clone, Copy, Debug)]
enum Ask {
    Validate(u64),
    Reveal(u64),
    Broadcast(u64),
    Restart,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => (0..COMMITMENTS).prop_map(Ask::Validate),
        6 => (0..COMMITMENTS).prop_map(Ask::Reveal),
        2 => (0..COMMITMENTS).prop_map(Ask::Broadcast),
        1 => Just(Ask::Restart),
    ]
}

#[derive(Default)]
struct Outside {
    validated: BTreeSet<u64>,
    revealed: BTreeSet<u64>,
    signed: BTreeSet<u64>,
}

#[test]
fn no_order_of_requests_loses_money() {
    let pair = Pair::new(CommitmentFormat::AnchorsZeroFeeHtlc);
    let holders: Vec<HolderSigning> = (0..COMMITMENTS)
        .map(|n| pair.alices_commitment(&content(n)))
        .collect();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(128));
    runner
        .run(&vec(ask(), 1..24), |asks| {
            let mut outside = Outside::default();
            let mut state = SignerState::new();
            for ask in asks {
                run(&pair, &holders, &mut state, &mut outside, ask);
                let oldest_signed = outside.signed.first();
                let newest_revealed = outside.revealed.last();
                if let (Some(signed), Some(revealed)) = (oldest_signed, newest_revealed) {
                    prop_assert!(signed > revealed, "{signed} is revoked");
                }
                for n in &outside.revealed {
                    prop_assert!(
                        outside.validated.iter().any(|v| v > n),
                        "{n} had no successor"
                    );
                }
            }
            Ok(())
        })
        .unwrap();
    // The same with an order that must work, so that refusing all is no way to pass.
    let mut outside = Outside::default();
    let mut state = SignerState::new();
    for n in 0..COMMITMENTS - 1 {
        run(
            &pair,
            &holders,
            &mut state,
            &mut outside,
            Ask::Validate(n + 1),
        );
        run(&pair, &holders, &mut state, &mut outside, Ask::Reveal(n));
        run(&pair, &holders, &mut state, &mut outside, Ask::Restart);
    }
    run(
        &pair,
        &holders,
        &mut state,
        &mut outside,
        Ask::Broadcast(COMMITMENTS - 1),
    );
    assert_eq!(outside.revealed.len(), 4);
    assert_eq!(outside.signed.len(), 1);
}

fn run(
    pair: &Pair,
    holders: &[HolderSigning],
    state: &mut SignerState,
    outside: &mut Outside,
    ask: Ask,
) {
    let holder = |n: u64| Box::new(holders[usize::try_from(n).unwrap()].clone());
    match ask {
        Ask::Validate(n) => {
            let request = SigningRequest::ValidateHolder(holder(n));
            if state.answer(&pair.alice, &request) == SigningAnswer::Validated {
                outside.validated.insert(n);
            }
        }
        Ask::Reveal(n) => {
            let request = SigningRequest::RevealSecret {
                keys_id: pair.alice_params.keys_id,
                number: number(n),
            };
            if let SigningAnswer::Secret(_) = state.answer(&pair.alice, &request) {
                outside.revealed.insert(n);
            }
        }
        Ask::Broadcast(n) => {
            let request = SigningRequest::HolderCommitment(holder(n));
            if let SigningAnswer::Signature(_) = state.answer(&pair.alice, &request) {
                outside.signed.insert(n);
            }
        }
        Ask::Restart => *state = SignerState::from_bytes(&state.to_bytes()).unwrap(),
    }
}
