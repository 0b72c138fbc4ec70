//! Snapshots of rapid gossip sync: read, applied to an empty graph and made again, beside LDK's reader.

use std::{
    collections::BTreeSet,
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use bitcoin::{Amount, Network, constants::ChainHash};
use fulmen_compare::Silent;
use fulmen_gossip::{Direction, GraphWriter, NetworkGraph, Policy, UnsignedRules};
use fulmen_rapid_gossip_sync::{DecodeError, Field, Problem, Since, Version, decode, encode};
use fulmen_types::{NodeId, Timestamp};
use lightning::routing::gossip::{ChannelUpdateInfo, NetworkGraph as LdkGraph};
use lightning_rapid_gossip_sync::RapidGossipSync;

use crate::choice;

const CHAIN: ChainHash = ChainHash::REGTEST;
const WEEK_SECS: u64 = 7 * 24 * 3_600;

/// One graph of LDK's for all inputs: it makes room for the main network at once.
static LDK: LazyLock<LdkGraph<&'static Silent>> =
    LazyLock::new(|| LdkGraph::new(Network::Regtest, &Silent));

/// Makes that room before the bound of memory holds.
pub(crate) fn prepare() {
    LazyLock::force(&LDK);
}

/// Where a snapshot says until when it has seen the network.
const SEEN: core::ops::Range<usize> = 36..40;

/// The first byte chooses: a snapshot as it is, or one of now, which LDK reads too.
pub(crate) fn rgs(data: &[u8]) {
    let Some((which, data)) = choice(data) else {
        return;
    };
    let mut bytes = data.to_vec();
    let mut now = 1_800_000_000;
    let of_now = which % 2 == 1;
    if of_now {
        // LDK holds every policy against the clock of the machine.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        now = since.expect("it is after 1970").as_secs();
        if let (Some(place), Ok(now)) = (bytes.get_mut(SEEN), u32::try_from(now)) {
            place.copy_from_slice(&now.to_be_bytes());
        }
    }
    let read = apply(&bytes, Timestamp::from_secs(now));
    if of_now {
        compare(&bytes, read.as_ref());
    }
    let Ok(graph) = read else { return };
    // What is unsigned is in no snapshot of ours; it is written to the file of the graph and read again.
    let file = graph.to_bytes();
    let again = NetworkGraph::from_bytes(&file).expect("a graph reads what it wrote");
    assert_eq!(again.to_bytes(), file);
    let made = encode(
        &graph,
        None,
        Version::V2,
        Since::Beginning,
        Timestamp::from_secs(now),
    );
    decode(&made, CHAIN, Timestamp::from_secs(now)).expect("it reads what it made");
}

fn apply(bytes: &[u8], now: Timestamp) -> Result<NetworkGraph, DecodeError> {
    let changes = decode(bytes, CHAIN, now)?;
    let mut writer = GraphWriter::new(CHAIN);
    let rules = UnsignedRules {
        us: &NodeId::new([9; 33]),
        own_channels: &BTreeSet::new(),
        max_channels: 1_000_000,
    };
    let applied = writer.apply_unsigned(&changes, &rules);
    assert_eq!(writer.channel_count(), applied.channels_added);
    Ok((*writer.snapshot()).clone())
}

fn compare(bytes: &[u8], ours: Result<&NetworkGraph, &DecodeError>) {
    // Everything is stale at the end of time; what was forgotten is, a week later.
    for weeks in [2, 0] {
        let end = u64::from(u32::MAX) - weeks * WEEK_SECS;
        LDK.remove_stale_channels_and_tracking_with_time(end);
    }
    let verdict = RapidGossipSync::new(&*LDK, &Silent).update_network_graph_no_std(bytes, None);
    let graph = match (ours, &verdict) {
        (Ok(graph), Ok(_)) => graph,
        (Ok(_), Err(error)) => panic!("only LDK refuses it: {error:?}"),
        (Err(_), Err(_)) => return,
        (Err(error), Ok(_)) => return assert!(is_stricter(error), "only {error}"),
    };
    let theirs = LDK.read_only();
    assert_eq!(graph.channel_count(), theirs.channels().len());
    for channel in graph.channels() {
        let id = channel.short_channel_id.to_u64();
        let theirs = theirs.channel(id).expect("LDK knows it too");
        assert_eq!(channel.node_1.as_bytes(), theirs.node_one.as_array());
        assert_eq!(channel.node_2.as_bytes(), theirs.node_two.as_array());
        // A capacity of nothing is one that is not known.
        let capacity = theirs.capacity_sats.filter(|sat| *sat != 0);
        assert_eq!(channel.capacity.map(Amount::to_sat), capacity);
        if theirs.capacity_sats == Some(0) {
            // LDK holds every policy against it.
            continue;
        }
        for (direction, theirs) in [
            (Direction::Forward, &theirs.one_to_two),
            (Direction::Backward, &theirs.two_to_one),
        ] {
            let (ours, theirs) = (channel.policy(direction), theirs.as_ref());
            assert_eq!(
                ours.map(terms),
                theirs.map(their_terms),
                "{id} {direction:?}"
            );
        }
    }
}

/// Where Fulmen refuses the whole snapshot and LDK reads on, or looks at its own clock.
const fn is_stricter(error: &DecodeError) -> bool {
    match error.problem {
        // BOLT 7 has an order of keys, and money an end; LDK skips what breaks it or takes it as it is.
        Problem::NotOrdered | Problem::NoKey | Problem::TooMuch | Problem::Duplicate(_) => true,
        // Bounds of our own: on the default features, and on an index that only version 2 may flag.
        Problem::TooMany | Problem::TooLong | Problem::OutOfRange => true,
        Problem::TooOld | Problem::FromTheFuture => true,
        // LDK leaves a name with other letters out before it sees that something follows it.
        Problem::LeftOver => matches!(error.field, Field::NodeAddresses),
        Problem::Truncated
        | Problem::NotASnapshot
        | Problem::UnknownVersion(_)
        | Problem::OtherChain
        | Problem::NonMinimal
        | Problem::Overflow => false,
    }
}

type Terms = (bool, u16, u64, u64, u32, u32);

fn terms(policy: &Policy) -> Terms {
    (
        policy.disabled,
        policy.cltv_expiry_delta.to_u16(),
        policy.htlc_minimum.to_msat(),
        policy.htlc_maximum.to_msat(),
        policy.fee_base_msat,
        policy.fee_proportional_millionths,
    )
}

const fn their_terms(update: &ChannelUpdateInfo) -> Terms {
    (
        !update.enabled,
        update.cltv_expiry_delta,
        update.htlc_minimum_msat,
        update.htlc_maximum_msat,
        update.fees.base_msat,
        update.fees.proportional_millionths,
    )
}
