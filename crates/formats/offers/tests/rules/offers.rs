//! Offers.

use bitcoin::constants::ChainHash;
use fulmen_offers::*;
use fulmen_types::{
    Features, Timestamp,
    codec::{DecodeError, Encode},
};

use crate::{common::*, *};

#[test]
fn offers() {
    let base = priced(10);
    let check = |change: Change<'_>| read_offer(&base, change).map(|_| ());
    assert_eq!(check(&|_| {}), Ok(()));
    for kind in [0, 80, 81, 240, 1_001, 999_999_999, 2_000_000_000, u64::MAX] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::TypeOutOfRange(kind))
        );
    }
    for kind in [24, 78, 1_000_000_000, 1_999_999_998] {
        assert_eq!(
            check(&|r| set(r, kind, [])),
            Err(ParseError::UnknownEven(kind))
        );
    }
    // Recurrence, of a draft, is unknown and odd.
    for kind in [1, 3, 25, 79, 1_000_000_001, 1_999_999_999] {
        let read = read_offer(&base, &|r| set(r, kind, b"kept")).unwrap();
        let kept = UnknownField {
            kind,
            value: b"kept".to_vec(),
        };
        assert_eq!(read.fields().unknown, [kept]);
        assert_eq!(Offer::new(read.fields()), Ok(read));
    }
    let mut features = Features::empty();
    features.set_bit(8);
    assert_eq!(
        check(&|r| set(r, 12, features.to_be_bytes())),
        Err(ParseError::UnknownFeature(Field::OfferFeatures, 8))
    );
    assert_eq!(
        check(&|r| set(r, 2, [])),
        Err(ParseError::Empty(Field::OfferChains))
    );
    assert_eq!(
        check(&|r| set(r, 16, [])),
        Err(ParseError::Empty(Field::OfferPaths))
    );
    assert_eq!(
        check(&|r| set(r, 8, [])),
        Err(ParseError::Zero(Field::OfferAmount))
    );
    assert_eq!(
        check(&|r| set(r, 8, [0, 1])),
        Err(ParseError::Field(
            Field::OfferAmount,
            DecodeError::NonMinimal
        ))
    );
    assert_eq!(
        check(&|r| _ = r.remove(&10)),
        Err(ParseError::Needs(
            Field::OfferAmount,
            Field::OfferDescription
        ))
    );
    assert_eq!(
        check(&|r| _ = r.remove(&22)),
        Err(ParseError::Missing(Field::OfferIssuerId))
    );
    for code in [&b"US"[..], b"usd", b"USDX", b"U$D", "\u{20ac}".as_bytes()] {
        assert!(matches!(
            check(&|r| set(r, 6, code)),
            Err(ParseError::Field(
                Field::OfferCurrency,
                DecodeError::InvalidValue(_)
            ))
        ));
    }
    assert_eq!(check(&|r| set(r, 6, USD)), Ok(()));
    let no_amount = |r: &mut Records| {
        set(r, 6, USD);
        r.remove(&8);
    };
    assert_eq!(
        check(&no_amount),
        Err(ParseError::Needs(Field::OfferCurrency, Field::OfferAmount))
    );
}

#[test]
fn paths_of_offers() {
    let with_paths = |paths: &[u8]| {
        read_offer(&offer_fields(), &|r| set(r, 16, paths))
            .map(|offer| offer.fields().paths.clone().unwrap().len())
    };
    let good = path(1, 2).to_bytes();
    assert_eq!(with_paths(&good), Ok(1));
    assert_eq!(with_paths(&[good.clone(), good.clone()].concat()), Ok(2));
    // first_node_id, first_path_key, blinded_node_id, num_hops; the last cuts a hop off.
    for (at, value, hint) in [
        (0, 4, "neither a point nor an end of a channel"),
        (33, 5, "point"),
        (67, 5, "point"),
        (66, 0, "blinded path without hops"),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        match with_paths(&bad) {
            Err(ParseError::Field(Field::OfferPaths, DecodeError::InvalidValue(what))) => {
                assert!(what.starts_with(hint), "{what}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    for len in 1..good.len() {
        assert_eq!(
            with_paths(&good[..len]),
            Err(ParseError::Field(
                Field::OfferPaths,
                DecodeError::UnexpectedEnd
            ))
        );
    }
}

#[test]
fn chain_and_time_of_offers() {
    let now = Timestamp::from_secs(NOW);
    let mut fields = offer_fields();
    let bitcoin = offer(&fields);
    assert_eq!(bitcoin.check(ChainHash::BITCOIN, now), Ok(()));
    assert_eq!(
        bitcoin.check(ChainHash::REGTEST, now),
        Err(CheckError::Chain)
    );
    fields.chains = Some(vec![ChainHash::SIGNET, ChainHash::REGTEST]);
    let others = offer(&fields);
    assert_eq!(others.check(ChainHash::REGTEST, now), Ok(()));
    assert_eq!(
        others.check(ChainHash::BITCOIN, now),
        Err(CheckError::Chain)
    );
    for (expiry, result) in [
        (0, Err(CheckError::Expired)),
        (NOW - 1, Err(CheckError::Expired)),
        (NOW, Ok(())),
        (u64::MAX, Ok(())),
    ] {
        fields.chains = None;
        fields.absolute_expiry = Some(expiry);
        assert_eq!(offer(&fields).check(ChainHash::BITCOIN, now), result);
    }
}
