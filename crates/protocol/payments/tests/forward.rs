//! What is forwarded and what is refused, with the code that BOLT 4 gives it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use fulmen_onion::{FailureMessage, FailureSource, ForwardPayload, SharedSecret};
use fulmen_payments::{
    Asked, ForwardPolicy, OfferedHtlc, OutgoingChannel, OutgoingFailure, PolicyHistory, Resolution,
    check_forward, fail_upstream,
};
use fulmen_types::{CltvExpiry, Msat, Timestamp};

fn htlc(amount: u64, cltv: u32) -> OfferedHtlc {
    OfferedHtlc {
        amount: Msat::new(amount),
        payment_hash: PREIMAGE.payment_hash(),
        cltv_expiry: CltvExpiry::new(cltv),
        onion: [0; 1366],
    }
}

fn payload(amount: u64, cltv: u32) -> ForwardPayload {
    ForwardPayload {
        short_channel_id: scid(5),
        amt_to_forward: Msat::new(amount),
        outgoing_cltv_value: CltvExpiry::new(cltv),
    }
}

fn check(
    incoming: (u64, u32),
    outgoing: (u64, u32),
    policy: &PolicyHistory,
    now: Timestamp,
) -> Result<(), FailureMessage> {
    let next = OutgoingChannel {
        policy,
        usable: true,
        disabled: false,
        channel_update: &[1, 2],
    };
    let (htlc, payload) = (
        htlc(incoming.0, incoming.1),
        payload(outgoing.0, outgoing.1),
    );
    check_forward(&htlc, &payload, Some(&next), now, TIP)
}

#[test]
fn each_rule_has_its_code_at_its_exact_bound() {
    let policy = PolicyHistory::new(POLICY);
    let check = |incoming, outgoing| check(incoming, outgoing, &policy, secs(1));
    let update = || vec![1, 2];
    assert_eq!(check((10_001_001_000, 1_100), (900_000_000, 1_060)), Ok(()));
    // 1_000_000 msat cost 1000 + 100.
    assert_eq!(check((1_001_100, 1_100), (1_000_000, 1_060)), Ok(()));
    assert_eq!(
        check((1_001_099, 1_100), (1_000_000, 1_060)),
        Err(FailureMessage::FeeInsufficient {
            htlc_msat: Msat::new(1_001_099),
            channel_update: update()
        })
    );
    assert_eq!(
        check((5_000, 1_100), (999, 1_060)),
        Err(FailureMessage::AmountBelowMinimum {
            htlc_msat: Msat::new(999),
            channel_update: update()
        })
    );
    assert_eq!(
        check((10_001_001_000, 1_100), (900_000_001, 1_060)),
        Err(FailureMessage::TemporaryChannelFailure {
            channel_update: update()
        })
    );
    assert_eq!(
        check((1_001_100, 1_099), (1_000_000, 1_060)),
        Err(FailureMessage::IncorrectCltvExpiry {
            cltv_expiry: CltvExpiry::new(1_060),
            channel_update: update()
        })
    );
    assert_eq!(check((1_001_100, 1_043), (1_000_000, 1_003)), Ok(()));
    assert_eq!(
        check((1_001_100, 1_042), (1_000_000, 1_002)),
        Err(FailureMessage::ExpiryTooSoon {
            channel_update: update()
        })
    );
    assert_eq!(check((1_001_100, 3_016), (1_000_000, 2_900)), Ok(()));
    let far = Err(FailureMessage::ExpiryTooFar);
    assert_eq!(check((1_001_100, 3_017), (1_000_000, 2_900)), far);
    // Numbers at the end of their range are refused like others.
    assert!(check((u64::MAX, u32::MAX), (u64::MAX, u32::MAX)).is_err());
    assert!(check((0, 0), (u64::MAX, 0)).is_err());
    assert!(check((0, 1_100), (0, 1_060)).is_err());
}

#[test]
fn an_old_policy_is_honoured_for_ten_minutes() {
    let mut policy = PolicyHistory::new(POLICY);
    let dearer = ForwardPolicy {
        fee_base_msat: 2_000,
        ..POLICY
    };
    policy.set(dearer, secs(100));
    let paid = (1_001_100, 1_100);
    assert_eq!(check(paid, (1_000_000, 1_060), &policy, secs(699)), Ok(()));
    assert!(check(paid, (1_000_000, 1_060), &policy, secs(700)).is_err());
    // The same again is no change.
    policy.set(dearer, secs(900));
    assert!(check(paid, (1_000_000, 1_060), &policy, secs(901)).is_err());
    assert_eq!(
        check((1_002_100, 1_100), (1_000_000, 1_060), &policy, secs(901)),
        Ok(())
    );
}

#[test]
fn channels_that_are_not_there_or_not_usable() {
    let (htlc, payload) = (htlc(1_001_100, 1_100), payload(1_000_000, 1_060));
    let verdict = |next: Option<&OutgoingChannel<'_>>| {
        check_forward(&htlc, &payload, next, secs(1), TIP).unwrap_err()
    };
    assert_eq!(verdict(None), FailureMessage::UnknownNextPeer);
    let policy = PolicyHistory::new(POLICY);
    let mut next = OutgoingChannel {
        policy: &policy,
        usable: false,
        disabled: false,
        channel_update: &[],
    };
    assert_eq!(
        verdict(Some(&next)),
        FailureMessage::TemporaryChannelFailure {
            channel_update: vec![]
        }
    );
    next.disabled = true;
    assert!(matches!(
        verdict(Some(&next)),
        FailureMessage::ChannelDisabled { .. }
    ));
}

#[test]
fn a_garbled_onion_is_malformed_and_says_so_upstream() {
    let mut payer = Payer::new();
    let mut htlc = offered(&payer.pay().htlcs[0]);
    htlc.onion[100] ^= 1;
    let (_, asked) = peel(2, &htlc);
    let Asked::Resolve(Resolution::FailMalformed {
        failure_code,
        sha256_of_onion,
    }) = asked
    else {
        panic!("{asked:?}")
    };
    assert_eq!(failure_code, 0x8000 | 0x4000 | 5);
    // The node before makes a failure of its own of it, which the payer can read.
    let secret = SharedSecret::new([5; 32]);
    let failure = OutgoingFailure::Malformed {
        failure_code,
        sha256_of_onion,
    };
    let read = packet(fail_upstream(&secret, failure, &[])).decrypt(&[secret]);
    let FailureSource::Hop { message, .. } = read.source else {
        panic!()
    };
    assert_eq!(
        message,
        FailureMessage::InvalidOnionHmac { sha256_of_onion }
    );
}
