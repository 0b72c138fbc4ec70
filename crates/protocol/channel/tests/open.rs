//! Opening: what is refused, by which end, and what is remembered.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{Amount, Txid, constants::ChainHash, hashes::Hash};
use common::{Pair, Who, script};
use fulmen_channel::{
    Channel, ChannelInput, ChannelOutput, ChannelStatus, OpenError, Rule, UpfrontShutdown,
};
use fulmen_types::{BlockHeight, ChannelId, ChannelType, Feature, Features, FeeratePerKw, Msat};
use fulmen_wire::{AcceptChannel, Message, OpenChannel};

fn open_channel(pair: &Pair) -> OpenChannel {
    let peer = pair.peer_of(Who::A);
    let ctx = pair.a.ctx(&pair.world, &peer);
    let (_, out) = Channel::open(&ctx, pair.a.open_request()).unwrap();
    let ChannelOutput::Send(fulmen_signer::OutMessage::Ready(Message::OpenChannel(m))) = &out[0]
    else {
        panic!("open_channel comes first");
    };
    m.clone()
}

type Change<M> = fn(&mut M);

const BAD_OPENS: &[(Change<OpenChannel>, Rule)] = &[
    (|m| m.chain_hash = ChainHash::BITCOIN, Rule::UnknownChain),
    (
        |m| m.push_msat = Msat::from_sat(1_000_001),
        Rule::PushTooLarge,
    ),
    (
        |m| m.funding_satoshis = Amount::from_sat(1 << 24),
        Rule::FundingTooLarge,
    ),
    (
        |m| m.funding_satoshis = Amount::from_sat(19_999),
        Rule::FundingTooSmall,
    ),
    (|m| m.to_self_delay = 2_017, Rule::DelayTooLong),
    (|m| m.max_accepted_htlcs = 484, Rule::TooManyAcceptedHtlcs),
    (|m| m.max_accepted_htlcs = 0, Rule::TooFewAcceptedHtlcs),
    (
        |m| m.feerate_per_kw = FeeratePerKw::new(252),
        Rule::FeerateTooLow,
    ),
    (
        |m| m.feerate_per_kw = FeeratePerKw::new(25_001),
        Rule::FeerateTooHigh,
    ),
    (
        |m| m.dust_limit_satoshis = Amount::from_sat(353),
        Rule::DustLimitTooLow,
    ),
    (
        |m| m.dust_limit_satoshis = Amount::from_sat(5_001),
        Rule::DustLimitTooHigh,
    ),
    (
        |m| {
            m.dust_limit_satoshis = Amount::from_sat(1_000);
            m.channel_reserve_satoshis = Amount::from_sat(999);
        },
        Rule::DustLimitAboveReserve,
    ),
    (
        |m| m.channel_reserve_satoshis = Amount::from_sat(200_001),
        Rule::ReserveTooHigh,
    ),
    (
        |m| m.push_msat = Msat::from_sat(999_000),
        Rule::FunderCannotPayFee,
    ),
    (
        |m| {
            m.funding_satoshis = Amount::from_sat(20_000);
            m.feerate_per_kw = FeeratePerKw::new(14_000);
            m.push_msat = Msat::ZERO;
            m.channel_reserve_satoshis = Amount::from_sat(4_000);
            m.htlc_minimum_msat = Msat::new(1);
        },
        Rule::BothBelowReserve,
    ),
    (|m| m.channel_type = None, Rule::ChannelTypeMissing),
    (
        |m| m.channel_type = Some(ChannelType::from_features(Features::empty())),
        Rule::ChannelTypeUnsuitable,
    ),
    (
        |m| m.channel_type = Some(ChannelType::anchors().with(Feature::SimpleTaproot)),
        Rule::ChannelTypeUnsuitable,
    ),
    (
        |m| {
            m.channel_type = Some(ChannelType::anchors().with(Feature::ScidAlias));
            m.channel_flags = 1;
        },
        Rule::ChannelTypeUnsuitable,
    ),
    (
        |m| m.channel_type = Some(ChannelType::anchors().with(Feature::ZeroConf)),
        Rule::ChannelTypeUnsuitable,
    ),
    (
        |m| m.htlc_minimum_msat = Msat::from_sat(100_001),
        Rule::HtlcMinimumTooLarge,
    ),
    (
        |m| m.max_htlc_value_in_flight_msat = Msat::new(999_999),
        Rule::InFlightTooSmall,
    ),
    (
        |m| m.upfront_shutdown_script = Some(bitcoin::ScriptBuf::from_bytes(vec![0x6a])),
        Rule::UpfrontScriptInvalid,
    ),
];

#[test]
fn every_bad_open_channel_is_refused_by_its_rule() {
    let pair = Pair::new();
    let good = open_channel(&pair);
    let peer = pair.peer_of(Who::B);
    let ctx = pair.b.ctx(&pair.world, &peer);
    assert!(Channel::accept(&ctx, &good, pair.b.accept_request()).is_ok());
    for (change, rule) in BAD_OPENS {
        let mut bad = good.clone();
        change(&mut bad);
        let fault = Channel::accept(&ctx, &bad, pair.b.accept_request()).unwrap_err();
        assert_eq!(fault.rule, *rule);
        assert!(matches!(fault.to_message(), Message::Error(_)), "{rule}");
    }
}

#[test]
fn zero_conf_needs_trust() {
    let mut pair = Pair::new();
    for end in [&mut pair.a, &mut pair.b] {
        end.features = end.features.clone().with_optional(Feature::ZeroConf);
    }
    let mut message = open_channel(&pair);
    message.channel_type = Some(ChannelType::anchors().with(Feature::ZeroConf));
    let peer = pair.peer_of(Who::B);
    let ctx = pair.b.ctx(&pair.world, &peer);
    let fault = Channel::accept(&ctx, &message, pair.b.accept_request()).unwrap_err();
    assert_eq!(fault.rule, Rule::ZeroConfNotTrusted);

    pair.b.config.accept_zero_conf = true;
    let mut request = pair.a.open_request();
    request.channel_type = Some(ChannelType::anchors().with(Feature::ZeroConf));
    pair.begin(request);
    pair.run();
    assert!(pair.a.channel().is_usable());
    assert!(pair.b.channel().is_usable());
}

const BAD_ACCEPTS: &[(Change<AcceptChannel>, Rule)] = &[
    (|m| m.channel_type = None, Rule::ChannelTypeMissing),
    (
        |m| m.channel_type = Some(ChannelType::static_remote_key()),
        Rule::ChannelTypeChanged,
    ),
    (|m| m.minimum_depth = 145, Rule::MinimumDepthTooLarge),
    (
        |m| m.channel_reserve_satoshis = Amount::from_sat(353),
        Rule::DustLimitAboveReserve,
    ),
    (|m| m.to_self_delay = 2_017, Rule::DelayTooLong),
    (|m| m.max_accepted_htlcs = 484, Rule::TooManyAcceptedHtlcs),
    (
        |m| m.dust_limit_satoshis = Amount::from_sat(353),
        Rule::DustLimitTooLow,
    ),
];

#[test]
fn every_bad_accept_channel_ends_the_opening_by_its_rule() {
    for (change, rule) in BAD_ACCEPTS {
        let mut pair = Pair::new();
        let request = pair.a.open_request();
        pair.begin(request);
        let Some(Message::AcceptChannel(mut m)) = pair.b.outbox.pop_front() else {
            panic!("accept_channel comes first");
        };
        change(&mut m);
        pair.input(Who::A, ChannelInput::Message(m.into())).unwrap();
        assert!(
            pair.a
                .has_event(|e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == *rule))
        );
        assert_eq!(pair.a.channel().status(), ChannelStatus::Gone);
        assert!(matches!(pair.a.outbox.back(), Some(Message::Error(_))));
    }
}

#[test]
fn opens_that_can_not_be_are_refused_with_the_reason() {
    let pair = Pair::new();
    let peer = pair.peer_of(Who::A);
    let ctx = pair.a.ctx(&pair.world, &peer);
    let open = |change: fn(&mut fulmen_channel::OpenRequest)| {
        let mut request = pair.a.open_request();
        change(&mut request);
        Channel::open(&ctx, request).unwrap_err()
    };
    assert!(matches!(
        open(|r| r.funding = Amount::from_sat(1 << 24)),
        OpenError::FundingTooLarge { .. }
    ));
    assert!(matches!(
        open(|r| r.funding = Amount::from_sat(1)),
        OpenError::FundingTooSmall { .. }
    ));
    assert_eq!(
        open(|r| r.push = Msat::from_sat(1_000_001)),
        OpenError::PushTooLarge
    );
    assert!(matches!(
        open(|r| r.push = Msat::from_sat(1_000_000)),
        OpenError::CannotPayFee { .. }
    ));
    assert!(matches!(
        open(|r| {
            r.announce = true;
            r.channel_type = Some(ChannelType::anchors().with(Feature::ScidAlias));
        }),
        OpenError::ChannelType(_)
    ));
    assert_eq!(
        open(|r| r.sweep_script = bitcoin::ScriptBuf::new()),
        OpenError::SweepScript
    );
}

#[test]
fn a_wrong_first_signature_ends_the_opening() {
    // funding_created
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    pair.deliver();
    let Some(Message::FundingCreated(m)) = pair.a.outbox.front_mut() else {
        panic!("funding_created follows");
    };
    m.funding_output_index ^= 1;
    pair.deliver();
    assert_eq!(pair.b.channel().status(), ChannelStatus::Gone);
    assert!(pair.b.has_event(
        |e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == Rule::FundingSignature)
    ));
    assert!(pair.b.store.is_empty());

    // funding_signed: nothing is broadcast without a good one.
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    pair.deliver();
    pair.deliver();
    let Some(Message::FundingSigned(m)) = pair.b.outbox.front_mut() else {
        panic!("funding_signed follows");
    };
    let id = m.channel_id;
    m.signature = fulmen_channel_signature();
    pair.deliver();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Gone);
    assert!(
        !pair
            .a
            .has_event(|e| matches!(e, ChannelOutput::BroadcastFunding(_)))
    );
    assert_eq!(pair.b.channel().channel_id(), id);
}

/// A valid encoding that signs nothing.
fn fulmen_channel_signature() -> bitcoin::secp256k1::ecdsa::Signature {
    bitcoin::secp256k1::ecdsa::Signature::from_compact(&[1; 64]).unwrap()
}

#[test]
fn an_all_zero_txid_is_refused() {
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    pair.deliver();
    let Some(Message::FundingCreated(m)) = pair.a.outbox.front_mut() else {
        panic!("funding_created follows");
    };
    m.funding_txid = Txid::all_zeros();
    pair.deliver();
    assert!(pair.b.has_event(
        |e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == Rule::FundingOutpoint)
    ));
}

#[test]
fn before_funding_signed_a_disconnect_forgets_and_after_it_remembers() {
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    pair.deliver();
    pair.deliver();
    // B has sent funding_signed, A has not got it.
    pair.disconnect();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Gone);
    assert!(
        pair.a
            .has_event(|e| matches!(e, ChannelOutput::Abandoned(_)))
    );
    assert_eq!(pair.b.channel().status(), ChannelStatus::AwaitingReady);
    assert!(!pair.b.store.is_empty());
    // The fundee gives it up after 2016 blocks, and not before.
    pair.world.tip = pair.world.tip.plus(2_015);
    pair.input(Who::B, ChannelInput::Block).unwrap();
    assert_eq!(pair.b.channel().status(), ChannelStatus::AwaitingReady);
    pair.world.tip = pair.world.tip.plus(1);
    pair.input(Who::B, ChannelInput::Block).unwrap();
    assert_eq!(pair.b.channel().status(), ChannelStatus::Gone);
    assert!(pair.b.store.is_empty());
}

#[test]
fn an_error_of_the_opener_before_the_funding_leaves_nothing_to_close() {
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    pair.run();
    let error = fulmen_wire::Error::new(pair.b.channel().channel_id(), "unknown channel");
    let _ = pair.input(Who::B, ChannelInput::Message(Message::Error(error)));
    assert!(
        pair.b
            .has_event(|e| matches!(e, ChannelOutput::Abandoned(_)))
    );
    let is_closing = |e: &ChannelOutput| matches!(e, ChannelOutput::ForceClosing(_));
    assert!(!pair.b.has_event(is_closing));
}

#[test]
fn channel_ready_waits_for_minimum_depth() {
    let mut pair = Pair::new();
    pair.b.config.minimum_depth = 4;
    let request = pair.a.open_request();
    pair.begin(request);
    pair.run();
    let is_said = |pair: &Pair| {
        let ready = |m: &Message| matches!(m, Message::ChannelReady(_));
        (
            pair.a.outbox.iter().any(ready),
            pair.b.outbox.iter().any(ready),
        )
    };
    pair.confirm(3);
    assert_eq!(is_said(&pair), (false, false));
    pair.world.tip = pair.world.tip.plus(1);
    pair.input(Who::A, ChannelInput::Block).unwrap();
    pair.input(Who::B, ChannelInput::Block).unwrap();
    assert_eq!(is_said(&pair), (true, true));
    pair.run();
    assert!(pair.a.channel().is_usable());
    let peer_alias = pair.a.channel().peer_alias().map(|alias| alias.to_u64());
    assert_eq!(peer_alias, Some(222));
    let scid = pair.a.channel().short_channel_id().unwrap();
    assert_eq!(scid.to_string(), "1001x4x1");
}

#[test]
fn a_funding_that_pays_something_else_is_no_channel() {
    let mut pair = Pair::new();
    let request = pair.a.open_request();
    pair.begin(request);
    // The fundee is told an outpoint whose output turns out to be another's.
    pair.deliver();
    pair.deliver();
    let params = *pair.b.channel().params().unwrap();
    let mut transaction = pair.funding_of_b();
    transaction.output.swap(0, 1);
    let unrelated = ChannelInput::FundingConfirmed {
        transaction,
        height: BlockHeight::new(1_001),
        tx_index: 0,
    };
    // Another transaction is not this channel's.
    pair.input(Who::B, unrelated).unwrap();
    assert_eq!(pair.b.channel().short_channel_id(), None);
    assert_eq!(pair.b.channel().params(), Some(&params));
}

impl Pair {
    /// One that is to be announced; its funding is not in a block yet.
    fn announced() -> Self {
        let mut pair = Self::new();
        let mut request = pair.a.open_request();
        request.announce = true;
        pair.begin(request);
        pair.run();
        pair
    }

    fn funding_of_b(&self) -> bitcoin::Transaction {
        let output = self.b.channel().params().unwrap().funding_txout();
        common::funding_transaction(output.script_pubkey, output.value)
    }
}

#[test]
fn announced_channels_exchange_signatures_at_depth_six() {
    let mut pair = Pair::announced();
    pair.confirm(3);
    pair.run();
    let announced = |end: &common::End| end.has_event(|e| matches!(e, ChannelOutput::Announced(_)));
    assert!(!announced(&pair.a) && !announced(&pair.b));
    pair.world.tip = pair.world.tip.plus(3);
    pair.input(Who::A, ChannelInput::Block).unwrap();
    pair.input(Who::B, ChannelInput::Block).unwrap();
    // The first half is lost; a reconnection repeats it.
    pair.disconnect();
    pair.connect();
    pair.run();
    assert!(announced(&pair.a) && announced(&pair.b));
    let find = |end: &common::End| {
        end.events.iter().find_map(|e| match e {
            ChannelOutput::Announced(announcement) => Some(announcement.clone()),
            _ => None,
        })
    };
    let (by_a, by_b) = (find(&pair.a).unwrap(), find(&pair.b).unwrap());
    assert_eq!(by_a, by_b);
    let hash = by_a.signature_hash();
    for (signature, key) in [
        (by_a.node_signature_1, by_a.node_id_1),
        (by_a.node_signature_2, by_a.node_id_2),
        (by_a.bitcoin_signature_1, by_a.bitcoin_key_1),
        (by_a.bitcoin_signature_2, by_a.bitcoin_key_2),
    ] {
        let key = key.to_public_key().unwrap();
        pair.world
            .secp
            .verify_ecdsa(&hash, &signature, &key)
            .unwrap();
    }
    pair.assert_no_fault();
    // Nothing more is said of it.
    pair.disconnect();
    pair.connect();
    pair.run();
    pair.assert_no_fault();
}

/// A reorganisation puts the funding transaction elsewhere: the halves for the old place are worth nothing, and both
/// are sent again on the same connection.
#[test]
fn a_channel_that_gets_another_place_is_announced_again() {
    let mut pair = Pair::announced();
    pair.confirm(6);
    pair.run();
    for who in [Who::A, Who::B] {
        pair.input(who, ChannelInput::FundingUnconfirmed).unwrap();
    }
    pair.confirm(6);
    pair.run();
    pair.assert_no_fault();
    for end in [&pair.a, &pair.b] {
        let places = end.events.iter().filter_map(|event| match event {
            ChannelOutput::Announced(announcement) => Some(announcement.short_channel_id),
            _ => None,
        });
        let places: Vec<_> = places.collect();
        assert_eq!(places.len(), 2);
        assert_ne!(places[0], places[1]);
    }
}

#[test]
fn a_bad_half_of_the_announcement_is_answered_by_its_rule() {
    for (change, rule) in [
        (
            (|m| m.short_channel_id = fulmen_types::ShortChannelId::from_u64(7))
                as fn(&mut fulmen_wire::AnnouncementSignatures),
            Rule::AnnouncementScid,
        ),
        (
            |m| m.node_signature = m.bitcoin_signature,
            Rule::AnnouncementSignature,
        ),
        (
            |m| m.bitcoin_signature = m.node_signature,
            Rule::AnnouncementSignature,
        ),
    ] {
        let mut pair = Pair::announced();
        pair.confirm(6);
        loop {
            if let Some(Message::AnnouncementSignatures(m)) = pair.a.outbox.front_mut() {
                change(m);
                break;
            }
            assert!(pair.deliver());
        }
        pair.deliver_from(Who::A);
        assert!(
            pair.b
                .has_event(|e| matches!(e, ChannelOutput::Fault(fault) if fault.rule == rule))
        );
        assert_eq!(pair.b.channel().status(), ChannelStatus::Normal);
    }
}

#[test]
fn cancelling_an_opening_tells_the_peer() {
    let mut pair = Pair::new();
    let mut request = pair.a.open_request();
    request.upfront_shutdown = UpfrontShutdown::Bound;
    request.sweep_script = script(4);
    request.temporary_channel_id = ChannelId::new([4; 32]);
    pair.begin(request);
    pair.input(Who::A, ChannelInput::ForceClose).unwrap();
    pair.b.outbox.clear();
    pair.run();
    assert_eq!(pair.a.channel().status(), ChannelStatus::Gone);
    assert_eq!(pair.b.channel().status(), ChannelStatus::Gone);
}
