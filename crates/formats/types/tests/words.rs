//! Single cases of amounts, ids, features, texts and batches.
#![allow(clippy::unwrap_used, clippy::panic)]

use bitcoin::{Amount, OutPoint, Txid, hashes::Hash};
use fulmen_types::{
    BaseType, BlockHeight, ChannelId, ChannelType, ChannelTypeError, CltvExpiry, CltvExpiryDelta,
    CommitmentNumber, Feature, FeatureContext, FeatureError, Features, FeeratePerKw, HtlcId, Msat,
    NodeId, PaymentHash, PaymentPreimage, PaymentSecret, Printable, PublicNonce, ShortChannelId,
    Timestamp,
    record::{RecordKey, Space, WriteBatch},
};

#[test]
fn amounts() {
    assert_eq!(Msat::MAX_MONEY.to_msat(), 0x1d24_b2df_ac52_0000); // BOLT 1, truncated integers
    assert_eq!(Msat::from_sat(u64::MAX), Msat::MAX);
    assert_eq!(Msat::from_amount(Amount::from_sat(7)).to_msat(), 7_000);
    assert_eq!(Msat::new(1_999).to_amount_floor(), Amount::from_sat(1));
    assert_eq!(Msat::new(1_001).to_sat_ceil(), 2);
    assert_eq!(Msat::checked_sum([Msat::MAX, Msat::new(1)]), None);
    assert_eq!(Msat::checked_sum([]), Some(Msat::ZERO));
    assert_eq!(Msat::new(5).to_string(), "5 msat");
    assert_eq!(format!("{:?}", FeeratePerKw::FLOOR), "253sat/kw");
    // BOLT 3, fees: the worked example, 5000 sat/kw for two HTLCs on a commitment of weight 724.
    assert_eq!(
        FeeratePerKw::new(5_000).fee_floor(724 + 2 * 172),
        Amount::from_sat(5_340)
    );
    assert_eq!(
        FeeratePerKw::from_sat_per_kvb_ceil(1_001).to_sat_per_kw(),
        251
    );
    assert_eq!(
        FeeratePerKw::from_sat_per_kvb_ceil(u64::MAX),
        FeeratePerKw::new(u32::MAX)
    );
}

#[test]
fn heights_and_time() {
    let block = BlockHeight::new(100);
    assert_eq!(block.depth_at(BlockHeight::new(99)), 0);
    assert_eq!(block.depth_at(block), 1);
    assert_eq!(block.depth_at(BlockHeight::new(105)), 6);
    let expiry = CltvExpiry::new(100);
    assert!(!expiry.is_reached_after(BlockHeight::new(99)));
    assert!(expiry.is_reached_after(block));
    assert_eq!(expiry.checked_sub(CltvExpiryDelta::new(101)), None);
    assert_eq!(
        expiry.checked_sub(CltvExpiryDelta::new(40)),
        Some(CltvExpiry::new(60))
    );
    assert_eq!(expiry.to_height(), block);
    let time = Timestamp::from_secs(10);
    assert_eq!(time.plus_millis(1_999).to_secs_floor(), 11);
    assert_eq!(time.plus_millis(5).millis_since(time), 5);
    assert_eq!(time.millis_since(time.plus_millis(5)), 0);
    assert_eq!(Timestamp::from_secs(u64::MAX).to_millis(), u64::MAX);
}

#[test]
fn channel_ids() {
    let outpoint = OutPoint::new(Txid::from_byte_array([0x11; 32]), 0x0102);
    let id = ChannelId::from_funding(outpoint).unwrap();
    assert_eq!(&id.as_bytes()[..30], &[0x11; 30]);
    assert_eq!(&id.as_bytes()[30..], &[0x10, 0x13]);
    assert_eq!(
        ChannelId::from_funding(OutPoint::new(outpoint.txid, 65_536)),
        None
    );
    assert_eq!(ChannelId::ALL.to_string(), "0".repeat(64));
    assert!("11".parse::<ChannelId>().is_err());
}

#[test]
fn short_channel_ids() {
    let scid: ShortChannelId = "539268x845x1".parse().unwrap();
    assert_eq!(
        (scid.block(), scid.tx_index(), scid.output_index()),
        (539_268, 845, 1)
    );
    for bad in [
        "",
        "1",
        "1x2",
        "1x2x3x4",
        "1x2x65536",
        "16777216x0x0",
        "0x16777216x0",
        "+1x2x3",
        "-1x2x3",
        "1 x2x3",
        "x1x2",
        "1x2x",
        "4294967296x0x0",
    ] {
        assert!(bad.parse::<ShortChannelId>().is_err(), "{bad}");
    }
    // Above every height that a chain has or will have for long.
    for random in [0, 7, u64::MAX] {
        assert!(ShortChannelId::alias(random).block() >= 1 << 23);
    }
    assert_ne!(ShortChannelId::alias(1), ShortChannelId::alias(2));
    let error = "?".parse::<ShortChannelId>().unwrap_err().to_string();
    assert!(
        error.contains("539268x845x1"),
        "says what is expected: {error}"
    );
}

#[test]
fn hashes_and_secrets() {
    let preimage = PaymentPreimage::new([0; 32]);
    assert_eq!(
        preimage.payment_hash().to_string(),
        "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    );
    assert_eq!(format!("{preimage:?}"), "PaymentPreimage(..)");
    assert_eq!(
        format!("{:?}", PaymentSecret::new([7; 32])),
        "PaymentSecret(..)"
    );
    assert!(format!("{:?}", PaymentHash::new([7; 32])).contains("0707"));
    assert!(NodeId::new([5; 33]).to_public_key().is_err());
}

#[test]
fn numbers_end() {
    assert_eq!(CommitmentNumber::FIRST.previous(), None);
    assert_eq!(CommitmentNumber::MAX.next(), None);
    assert_eq!(CommitmentNumber::new(1 << 48), None);
    assert_eq!(CommitmentNumber::FIRST.next(), CommitmentNumber::new(1));
    assert_eq!(HtlcId::new(u64::MAX).next(), HtlcId::new(u64::MAX));
}

#[test]
fn feature_table() {
    let mut last = None;
    for feature in Feature::ALL {
        assert!(feature.even_bit().is_multiple_of(2), "{}", feature.name());
        assert!(
            last < Some(feature.even_bit()),
            "sorted: {}",
            feature.name()
        );
        last = Some(feature.even_bit());
        assert!(!feature.contexts().is_empty());
        // Dependencies can be met wherever the feature can be said, or are assumed.
        for needs in feature.dependencies() {
            for context in feature.contexts() {
                assert!(
                    needs.is_assumed()
                        || *context == FeatureContext::ChannelType
                        || needs.contexts().contains(context),
                    "{} needs {}",
                    feature.name(),
                    needs.name()
                );
            }
        }
    }
    // BOLT 9, "Bits" column.
    for (feature, bit) in [
        (Feature::DataLossProtect, 0),
        (Feature::UpfrontShutdownScript, 4),
        (Feature::GossipQueries, 6),
        (Feature::VarOnion, 8),
        (Feature::GossipQueriesEx, 10),
        (Feature::StaticRemoteKey, 12),
        (Feature::PaymentSecret, 14),
        (Feature::BasicMpp, 16),
        (Feature::SupportLargeChannel, 18),
        (Feature::Anchors, 22),
        (Feature::RouteBlinding, 24),
        (Feature::ShutdownAnySegwit, 26),
        (Feature::DualFund, 28),
        (Feature::Quiesce, 34),
        (Feature::AttributionData, 36),
        (Feature::OnionMessages, 38),
        (Feature::ZeroFeeCommitments, 40),
        (Feature::ProvideStorage, 42),
        (Feature::ChannelType, 44),
        (Feature::ScidAlias, 46),
        (Feature::PaymentMetadata, 48),
        (Feature::ZeroConf, 50),
        (Feature::Keysend, 54),
        (Feature::TrampolineRouting, 56),
        (Feature::SimpleClose, 60),
        (Feature::Splice, 62),
        (Feature::OnionMessagesOnlyChannels, 66),
        (Feature::SimpleTaproot, 80),
        (Feature::SimpleTaprootStaging, 180),
        (Feature::HostedChannels, 256),
        (Feature::DnsResolver, 258),
        (Feature::Bolt11BlindedPaths, 262),
        (Feature::Lsps, 728),
    ] {
        assert_eq!(feature.even_bit(), bit);
        assert_eq!(Feature::from_bit(bit), Some(feature));
        assert_eq!(Feature::from_bit(bit + 1), Some(feature));
    }
    // Retired, or nobody's yet.
    for bit in [2, 3, 20, 21, 30, 32, 52, 58, 64, 70, 82, 260, 1_000] {
        assert_eq!(Feature::from_bit(bit), None, "{bit}");
    }
}

#[test]
fn feature_rules() {
    let features = Features::empty().with_optional(Feature::ZeroConf);
    assert_eq!(
        features.check(),
        Err(FeatureError::MissingDependency {
            feature: Feature::ZeroConf,
            needs: Feature::ScidAlias
        })
    );
    assert_eq!(features.with_optional(Feature::ScidAlias).check(), Ok(()));
    // payment_secret is assumed.
    assert_eq!(
        Features::empty().with_optional(Feature::BasicMpp).check(),
        Ok(())
    );
    let mut unknown = Features::empty();
    unknown.set_bit(1_001);
    assert_eq!(unknown.check(), Ok(()));
    unknown.set_bit(1_000);
    assert_eq!(unknown.check(), Err(FeatureError::UnknownRequired(1_000)));
    // Both bits of a pair: compulsory (BOLT 9).
    let mut both = Features::empty().with_optional(Feature::Quiesce);
    both.set_bit(34);
    assert!(both.requires(Feature::Quiesce));
    // Numbers that fit no message.
    let mut huge = Features::empty();
    huge.set_bit(65_535 * 8);
    assert!(huge.is_empty());
    huge.set_bit(65_535 * 8 - 1);
    assert_eq!(huge.to_be_bytes().len(), 65_535);
}

#[test]
fn features_between_peers() {
    let none = Features::empty();
    let offers = Features::empty().with_optional(Feature::Quiesce);
    let asks = Features::empty().with_required(Feature::Quiesce);
    for (ours, theirs, negotiated) in [
        (&offers, &offers, true),
        (&offers, &asks, true),
        (&asks, &offers, true),
        (&offers, &none, false),
        (&none, &offers, false),
    ] {
        assert_eq!(ours.negotiates(theirs, Feature::Quiesce), negotiated);
        assert_eq!(ours.check_peer(theirs), Ok(()));
    }
    assert_eq!(
        asks.check_peer(&none),
        Err(FeatureError::NotOffered(Feature::Quiesce))
    );
    assert_eq!(
        none.check_peer(&asks),
        Err(FeatureError::NotSupported(Feature::Quiesce))
    );
    // What all are assumed to have may be asked for without being offered.
    let old = Features::empty().with_required(Feature::PaymentSecret);
    assert_eq!(none.check_peer(&old), Ok(()));
    assert_eq!(old.check_peer(&none), Ok(()));
}

#[test]
fn feature_contexts() {
    let all = Features::empty()
        .with_optional(Feature::PaymentMetadata)
        .with_optional(Feature::Quiesce)
        .with_required(Feature::BasicMpp)
        .with_optional(Feature::Keysend);
    let init = all.in_context(FeatureContext::Init);
    assert_eq!(init.bits().collect::<Vec<_>>(), [16, 35]);
    assert_eq!(init.check_context(FeatureContext::Init), Ok(()));
    assert_eq!(
        all.in_context(FeatureContext::Node)
            .bits()
            .collect::<Vec<_>>(),
        [16, 35, 55]
    );
    assert_eq!(
        all.in_context(FeatureContext::Invoice)
            .bits()
            .collect::<Vec<_>>(),
        [16, 49]
    );
    assert_eq!(
        init.check_context(FeatureContext::Invoice),
        Err(FeatureError::WrongContext(
            Feature::Quiesce,
            FeatureContext::Invoice
        ))
    );
    // Nothing has a place in an announcement of a channel or in a blinded path yet.
    for context in [FeatureContext::Channel, FeatureContext::BlindedPath] {
        assert!(all.in_context(context).is_empty());
        assert!(all.check_context(context).is_err());
    }
}

#[test]
fn senders_follow_more_rules_than_receivers_ask_for() {
    // BOLT 9: "MUST NOT set both the optional and mandatory bits"; a receiver takes it for mandatory.
    let mut both = Features::empty().with_required(Feature::Quiesce);
    both.set_bit(35);
    assert_eq!(both.check(), Ok(()));
    assert_eq!(
        both.check_context(FeatureContext::Init),
        Err(FeatureError::BothBits(34))
    );
    let mut unknown = Features::empty();
    unknown.set_bit(1_000);
    unknown.set_bit(1_001);
    assert_eq!(
        unknown.check_context(FeatureContext::Init),
        Err(FeatureError::BothBits(1_000))
    );
    // "MUST set all transitive feature dependencies": of one that is missing in the middle as well.
    let taproot = Features::empty().with_optional(Feature::SimpleTaproot);
    let missing = |feature, needs| Err(FeatureError::MissingDependency { feature, needs });
    for check in [taproot.check(), taproot.check_context(FeatureContext::Init)] {
        assert_eq!(check, missing(Feature::SimpleTaproot, Feature::SimpleClose));
    }
    let close = taproot.with_optional(Feature::SimpleClose);
    assert_eq!(
        close.check(),
        missing(Feature::SimpleClose, Feature::ShutdownAnySegwit)
    );
    assert_eq!(
        close.with_optional(Feature::ShutdownAnySegwit).check(),
        Ok(())
    );
    // Where the dependency has no place it need not be said.
    let invoice = Features::empty().with_required(Feature::BasicMpp);
    assert_eq!(invoice.check_context(FeatureContext::Invoice), Ok(()));
    let type_ = ChannelType::new(BaseType::SimpleTaproot);
    assert_eq!(
        type_.features().check_context(FeatureContext::ChannelType),
        Ok(())
    );
}

#[test]
fn what_is_asked_for_must_be_understood() {
    let ours = Features::empty().with_optional(Feature::BasicMpp);
    let asks = |feature| Features::empty().with_required(feature);
    assert_eq!(asks(Feature::BasicMpp).check_understood(&ours), Ok(()));
    assert_eq!(asks(Feature::VarOnion).check_understood(&ours), Ok(()));
    assert_eq!(
        asks(Feature::TrampolineRouting).check_understood(&ours),
        Err(FeatureError::NotSupported(Feature::TrampolineRouting))
    );
    let mut unknown = Features::empty();
    unknown.set_bit(1_001);
    assert_eq!(unknown.check_understood(&ours), Ok(()));
    unknown.set_bit(1_000);
    assert_eq!(
        unknown.check_understood(&ours),
        Err(FeatureError::UnknownRequired(1_000))
    );
}

#[test]
fn channel_types() {
    let anchors = ChannelType::anchors();
    assert_eq!(anchors.features().bits().collect::<Vec<_>>(), [12, 22]);
    assert!(!anchors.has(Feature::ScidAlias));
    let alias = anchors.clone().with(Feature::ScidAlias);
    assert!(alias.has(Feature::ScidAlias) && alias != anchors);
    assert_eq!(
        ChannelType::from_features(Features::from_be_bytes(&[0, 0x10, 0])),
        ChannelType::static_remote_key(),
        "leading zeros change no type"
    );
}

#[test]
fn channel_types_are_an_enumeration() {
    let bases = [
        (BaseType::StaticRemoteKey, &[12][..]),
        (BaseType::Anchors, &[12, 22]),
        (BaseType::ZeroFeeCommitments, &[40]),
        (BaseType::SimpleTaproot, &[80]),
    ];
    for (base, bits) in bases {
        let bare = ChannelType::new(base);
        assert_eq!(bare.features().bits().collect::<Vec<_>>(), bits);
        let alias = bare.clone().with(Feature::ScidAlias);
        let zero_conf = bare.clone().with(Feature::ZeroConf);
        let both = alias.clone().with(Feature::ZeroConf);
        for type_ in [&bare, &alias, &zero_conf, &both] {
            assert_eq!(type_.base(), Some(base), "{type_:?}");
            assert_eq!(type_.check(|_| true, false), Ok(base));
        }
        assert_eq!(
            both.check(|_| true, true),
            Err(ChannelTypeError::AliasAnnounced)
        );
        assert_eq!(
            zero_conf.check(|f| f != Feature::ZeroConf, false),
            Err(ChannelTypeError::NotNegotiated(Feature::ZeroConf))
        );
        let announced = bare.check(|_| true, true);
        if base == BaseType::SimpleTaproot {
            assert_eq!(announced, Err(ChannelTypeError::TaprootAnnounced));
        } else {
            assert_eq!(announced, Ok(base));
        }
    }
    // static_remotekey is assumed, anchors are not.
    let anchors = ChannelType::anchors();
    assert_eq!(
        anchors.check(|_| false, false),
        Err(ChannelTypeError::NotNegotiated(Feature::Anchors))
    );
    let old = ChannelType::static_remote_key();
    assert_eq!(old.check(|_| false, false), Ok(BaseType::StaticRemoteKey));
    let staging = Features::empty().with_required(Feature::SimpleTaprootStaging);
    assert_eq!(
        ChannelType::from_features(staging).base(),
        Some(BaseType::SimpleTaproot)
    );
    // No other combination is a type, odd bits are none, and nothing is none.
    let combination = |bits: &[u32]| {
        let mut features = Features::empty();
        bits.iter().for_each(|bit| features.set_bit(*bit));
        ChannelType::from_features(features)
    };
    for bits in [
        &[][..],
        &[22],
        &[13],
        &[12, 23],
        &[12, 40],
        &[22, 40],
        &[12, 80],
        &[80, 180],
        &[46],
        &[12, 50, 1_000],
        &[12, 22, 47],
    ] {
        let type_ = combination(bits);
        assert_eq!(
            type_.check(|_| true, false),
            Err(ChannelTypeError::Undefined),
            "{bits:?}"
        );
    }
}

#[test]
fn nonces_of_musig() {
    let key = NodeId::new([2; 33]).to_public_key().unwrap();
    let point = key.serialize();
    let bytes: [u8; 66] = [&point[..], &point[..]].concat().try_into().unwrap();
    assert_eq!(PublicNonce::new(bytes).points(), Ok([key, key]));
    let mut broken = bytes;
    broken[33] = 5;
    assert!(PublicNonce::new(broken).points().is_err());
    assert!(PublicNonce::new([0; 66]).points().is_err());
}

#[test]
fn texts_of_peers() {
    let shown = |bytes: &[u8]| Printable(bytes).to_string();
    assert_eq!(shown("Grüße, 雷 ⚡".as_bytes()), "Grüße, 雷 ⚡");
    for dangerous in [
        '\0',
        '\n',
        '\r',
        '\t',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e0001}',
        '\u{e000}',
        '\u{fe0f}',
    ] {
        assert_eq!(
            shown(dangerous.to_string().as_bytes()),
            "\u{fffd}",
            "{:x}",
            u32::from(dangerous)
        );
    }
    // Cut between characters, never inside of one, and broken UTF-8 byte by byte.
    let long = shown("é".repeat(1_000).as_bytes());
    assert_eq!(long, "é".repeat(Printable::MAX_CHARS) + "…");
    assert_eq!(
        shown(&[0xff; 600]).chars().count(),
        4 * Printable::MAX_CHARS + 1
    );
    assert_eq!(shown(b"a\xc3"), "a\\xc3");
    assert_eq!(format!("{:?}", Printable(b"x")), "\"x\"");
}

#[test]
fn batches() {
    for (i, space) in Space::ALL.iter().enumerate() {
        assert_eq!(usize::from(space.to_u8()), i);
        assert_eq!(Space::from_u8(space.to_u8()), Some(*space));
    }
    assert_eq!(Space::from_u8(200), None);
    let key = |k: &[u8]| RecordKey::new(Space::Htlc, k);
    let mut batch = WriteBatch::new();
    assert!(batch.is_empty());
    batch.put(key(b"a"), b"1".to_vec());
    batch.put(key(b"b"), b"2".to_vec());
    batch.delete(key(b"a"));
    let mut later = WriteBatch::new();
    later.put(key(b"b"), b"33".to_vec());
    batch.append(later);
    let writes: Vec<_> = batch
        .iter()
        .map(|(k, v)| (k.key.clone(), v.map(<[u8]>::to_vec)))
        .collect();
    assert_eq!(
        writes,
        [(b"a".to_vec(), None), (b"b".to_vec(), Some(b"33".to_vec()))]
    );
    assert_eq!((batch.len(), batch.size()), (2, 2 + 2 + 2));
}
