//! Damaged records make an error or a channel that holds what it should, never a panic.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Decide, Pair, Who, preimage, unknown_hash};
use fulmen_channel::{Channel, ChannelInput};
use fulmen_types::{Msat, record::Space};

fn loaded() -> Pair {
    let mut pair = Pair::ready();
    pair.a.decide = Decide::Never;
    pair.b.decide = Decide::Never;
    for n in 0..3u8 {
        let amount = Msat::from_sat(20_000);
        pair.add(Who::A, amount, preimage(n).payment_hash(), &[n])
            .unwrap();
        pair.add(Who::B, amount, unknown_hash(n), &[n]).unwrap();
    }
    pair.input(Who::A, ChannelInput::Commit).unwrap();
    pair.input(Who::B, ChannelInput::Commit).unwrap();
    pair.run();
    pair
}

/// Restores, and if that works looks at everything.
fn look(core: &[u8], htlcs: &[Vec<u8>]) -> bool {
    let Ok(channel) = Channel::restore(core, htlcs.iter().map(Vec::as_slice)) else {
        return false;
    };
    let (ours, theirs) = channel.balances();
    let in_flight = channel
        .htlcs()
        .iter()
        .map(|htlc| htlc.amount)
        .collect::<Vec<_>>();
    assert!(Msat::checked_sum([ours, theirs]).is_some());
    assert!(in_flight.len() <= htlcs.len());
    let _ = (channel.enforcement(), channel.status(), channel.records());
    true
}

#[test]
fn every_damaged_byte_is_survived() {
    let pair = loaded();
    let records = |space: Space| {
        let of = pair
            .a
            .store
            .iter()
            .filter(move |(key, _)| key.space == space);
        of.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let core = records(Space::Channel).remove(0);
    let htlcs = records(Space::Htlc);
    assert_eq!(htlcs.len(), 6);
    assert!(look(&core, &htlcs));
    for index in 0..core.len() {
        assert!(!look(&core[..index], &htlcs), "cut at {index}");
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = core.clone();
            damaged[index] ^= change;
            look(&damaged, &htlcs);
        }
    }
    // The onion is in the middle of an HTLC's record and means nothing to the channel.
    for index in (0..htlcs[0].len()).filter(|i| *i < 80 || *i > 1_430) {
        let mut damaged = htlcs.clone();
        damaged[0].truncate(index);
        assert!(!look(&core, &damaged), "cut at {index}");
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = htlcs.clone();
            damaged[0][index] ^= change;
            look(&core, &damaged);
        }
    }
    // A record of a newer version is recognised.
    let mut newer = core.clone();
    newer[0] += 1;
    assert!(!look(&newer, &htlcs));
}

#[test]
fn balances_that_do_not_add_up_are_refused() {
    let pair = loaded();
    let records = pair.a.channel().records();
    let mut htlcs: Vec<Vec<u8>> = Vec::new();
    let mut core = Vec::new();
    for (key, value) in records.iter() {
        match key.space {
            Space::Channel => core = value.unwrap().to_vec(),
            _ => htlcs.push(value.unwrap().to_vec()),
        }
    }
    // The amount is behind version, id and state.
    let amount = 10..18;
    htlcs[0][amount].copy_from_slice(&900_000_000u64.to_be_bytes());
    assert!(!look(&core, &htlcs));
}
