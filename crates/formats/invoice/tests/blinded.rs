//! bLIP 39: blinded paths in BOLT 11 invoices.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bitcoin::{
    hex::FromHex,
    secp256k1::{PublicKey, Secp256k1, SecretKey},
};
use common::*;
use fulmen_invoice::{
    BuildError, Currency, Description, Field, Invoice, InvoiceDetails, ParseError, RouteHint,
    RouteHintHop,
};
use fulmen_onion::{
    BlindedPayinfo, PaymentPath,
    blinding::{BlindedHop, BlindedPath, BlindedRoute, blind_route},
};
use fulmen_types::{
    CltvExpiryDelta, Feature, FeatureError, Features, Msat, PaymentHash, PaymentSecret,
    SciddirOrPubkey, ShortChannelId, Timestamp,
};

fn hex(text: &str) -> Vec<u8> {
    Vec::from_hex(text).unwrap()
}

/// What the vector says of its paths.
fn paths(item: &Item<'_>) -> Vec<PaymentPath> {
    let path = |(index, line): (usize, &str)| {
        let parts: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| parts[i].parse::<u64>().unwrap();
        let path: Vec<BlindedHop> = item
            .all("hop")
            .into_iter()
            .map(|hop| hop.split(' ').collect::<Vec<_>>())
            .filter(|hop| hop[0] == index.to_string())
            .map(|hop| BlindedHop {
                blinded_node_id: hop[1].parse().unwrap(),
                encrypted_recipient_data: hex(hop[2]),
            })
            .collect();
        PaymentPath {
            path: BlindedPath {
                first_node_id: path[0].blinded_node_id.into(),
                route: BlindedRoute {
                    first_path_key: parts[5].parse().unwrap(),
                    path,
                },
            },
            payinfo: BlindedPayinfo {
                fee_base_msat: number(0).try_into().unwrap(),
                fee_proportional_millionths: number(1).try_into().unwrap(),
                cltv_expiry_delta: CltvExpiryDelta::new(number(2).try_into().unwrap()),
                htlc_minimum_msat: Msat::new(number(3)),
                htlc_maximum_msat: Msat::new(number(4)),
                features: Features::empty(),
            },
        }
    };
    item.all("path").into_iter().enumerate().map(path).collect()
}

#[test]
fn vector() {
    let secp = Secp256k1::new();
    let key = SecretKey::from_slice(&hex(
        "e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734",
    ))
    .unwrap();
    let items = items(include_str!("../vectors/blip39.txt"));
    assert_eq!(items.len(), 1);
    for item in &items {
        let text = item.get("invoice").unwrap();
        let invoice = Invoice::parse(&secp, text).unwrap();
        assert_eq!(invoice.payee(), PublicKey::from_secret_key(&secp, &key));
        let hash = hex(item.get("payment_hash").unwrap()).try_into().unwrap();
        let expected = InvoiceDetails {
            amount: item.number("amount").map(Msat::new),
            // The vector does not set the bit that the bLIP asks for.
            features: Features::empty(),
            ..InvoiceDetails::blinded(
                Currency::Bitcoin,
                Timestamp::from_secs(item.number("timestamp").unwrap()),
                PaymentHash::new(hash),
                paths(item),
                Description::Text(item.get("description").unwrap().into()),
            )
        };
        assert_eq!(invoice.details(), &expected);
        let ours = expected.into_unsigned().unwrap();
        assert_eq!(ours.sign_with_key(&secp, &key).unwrap().as_str(), text);
    }
    println!("bLIP 39: {}", items.len());
}

fn one_path() -> PaymentPath {
    let secp = Secp256k1::new();
    let public =
        |byte| PublicKey::from_secret_key(&secp, &SecretKey::from_slice(&[byte; 32]).unwrap());
    let session_key = SecretKey::from_slice(&[9; 32]).unwrap();
    let hops = [(public(1), vec![1, 2, 3]), (public(2), vec![4; 300])];
    PaymentPath {
        path: BlindedPath {
            first_node_id: public(1).into(),
            route: blind_route(&secp, &session_key, &hops).unwrap(),
        },
        payinfo: BlindedPayinfo {
            fee_base_msat: u32::MAX,
            fee_proportional_millionths: u32::MAX,
            cltv_expiry_delta: CltvExpiryDelta::new(u16::MAX),
            htlc_minimum_msat: Msat::new(u64::MAX),
            htlc_maximum_msat: Msat::new(0),
            features: Features::empty().with_optional(Feature::BasicMpp),
        },
    }
}

fn blinded(paths: Vec<PaymentPath>) -> InvoiceDetails {
    InvoiceDetails::blinded(
        Currency::Regtest,
        Timestamp::from_secs(1_700_000_000),
        PaymentHash::new([1; 32]),
        paths,
        Description::Text("coffee".into()),
    )
}

#[test]
fn what_is_built_is_read() {
    // A path as it comes from blinding it, whose first hop names the node a second time.
    let invoice = sign(blinded(vec![one_path(), one_path()]));
    let parsed = parse(invoice.as_str()).unwrap();
    assert_eq!(parsed, invoice);
    let details = parsed.details();
    assert_eq!(details.payment_secret, None);
    assert!(details.features.requires(Feature::Bolt11BlindedPaths));
    let mut expected = one_path();
    expected.path.route.path[0].blinded_node_id = node_id(&expected);
    assert_eq!(details.blinded_paths, [expected.clone(), expected]);
    let shown = parsed.summary(details.made_at()).to_string();
    assert!(
        shown.contains("payable       in one part, over 2 blinded paths\n"),
        "{shown}"
    );
    let again = details.clone().into_unsigned().unwrap();
    assert_eq!(again.details(), details);
}

fn node_id(path: &PaymentPath) -> PublicKey {
    let SciddirOrPubkey::Pubkey(key) = path.path.first_node_id else {
        panic!("named by its key");
    };
    key
}

#[test]
fn what_can_not_be_built() {
    let build = |details: InvoiceDetails| details.into_unsigned().map(|_| ());
    assert_eq!(build(blinded(vec![])), Err(BuildError::NoPaymentSecret));
    let with_secret = InvoiceDetails {
        payment_secret: Some(PaymentSecret::new([2; 32])),
        ..blinded(vec![one_path()])
    };
    assert_eq!(
        build(with_secret),
        Err(BuildError::UnexpectedField(Field::PaymentSecret))
    );
    let hop = RouteHintHop {
        node_id: node(),
        short_channel_id: ShortChannelId::from_u64(1),
        fee_base_msat: 0,
        fee_proportional_millionths: 0,
        cltv_expiry_delta: CltvExpiryDelta::new(1),
    };
    let with_hint = InvoiceDetails {
        route_hints: vec![RouteHint { hops: vec![hop] }],
        ..blinded(vec![one_path()])
    };
    assert_eq!(
        build(with_hint),
        Err(BuildError::UnexpectedField(Field::RouteHint))
    );
    let changed = |change: &dyn Fn(&mut PaymentPath)| {
        let mut path = one_path();
        change(&mut path);
        build(blinded(vec![path]))
    };
    let by_channel = SciddirOrPubkey::Sciddir {
        is_node_2: false,
        short_channel_id: ShortChannelId::from_u64(1),
    };
    let invalid = Err(BuildError::BlindedPath);
    assert_eq!(changed(&|p| p.path.first_node_id = by_channel), invalid);
    assert_eq!(changed(&|p| p.path.route.path.clear()), invalid);
    let many = |p: &mut PaymentPath| p.path.route.path = vec![p.path.route.path[0].clone(); 256];
    assert_eq!(changed(&many), invalid);
    // About seven hops fit a field.
    let long = |p: &mut PaymentPath| p.path.route.path[1].encrypted_recipient_data = vec![0; 640];
    assert_eq!(changed(&long), Err(BuildError::TooLong(Field::BlindedPath)));
}

#[test]
fn what_is_refused() {
    let text = sign(blinded(vec![one_path()])).to_string();
    assert!(parse(&text).is_ok());
    // The content of the field, as whatever writer may have made it.
    let payinfo = [1u8; 4 + 4 + 2 + 8 + 8];
    let good = [
        &payinfo[..],
        &[0, 0],
        &node().serialize(),
        &[1],
        &node().serialize(),
        &[2, 7, 7],
    ]
    .concat();
    let without_secret = |data: &[u8], extra: &[Vec<u8>]| {
        let fields = [&required()[1..], &[field(20, &quintets(data))], extra].concat();
        parse(&raw_invoice("lnbcrt", &fields)).map(|i| i.details().blinded_paths.len())
    };
    assert_eq!(without_secret(&good, &[]), Ok(1));
    assert_eq!(
        without_secret(&[good.clone(), good.clone()].concat(), &[]),
        Ok(2)
    );
    assert_eq!(without_secret(&good, &[field(20, &quintets(&good))]), Ok(2));
    let invalid = Err(ParseError::InvalidField(Field::BlindedPath));
    for len in 1..good.len() {
        assert_eq!(without_secret(&good[..len], &[]), invalid, "{len}");
    }
    // A length that nothing could hold, one in more bytes than it needs, no hops, no point.
    let hops_at = payinfo.len() + 2 + 33;
    let data_at = good.len() - 3;
    for (at, bytes) in [
        (data_at, &[0xff; 9][..]),
        (data_at, &[0xfd, 0, 2, 7, 7]),
        (hops_at, &[0]),
        (payinfo.len() + 2, &[5]),
    ] {
        let mut bad = good.clone();
        bad.splice(at.., bytes.iter().copied());
        assert_eq!(without_secret(&bad, &[]), invalid, "{at}");
    }
    // Beside what it takes the place of, and without anything in that place.
    let secret = field(16, &quintets(&[2; 32]));
    assert_eq!(
        without_secret(&good, &[secret]),
        Err(ParseError::UnexpectedField(Field::PaymentSecret))
    );
    let hint = [&node().serialize()[..], &[0; 18]].concat();
    assert_eq!(
        without_secret(&good, &[field(3, &quintets(&hint))]),
        Err(ParseError::UnexpectedField(Field::RouteHint))
    );
    assert_eq!(
        without_secret(&[], &[]),
        Err(ParseError::MissingField(Field::PaymentSecret))
    );
    // The bit of the bLIP says that a reader must know it: this one does, and none above.
    let bit = |bit: u32| {
        let mut data = vec![0; usize::try_from(bit / 5).unwrap() + 1];
        data[0] = 1 << (bit % 5);
        without_secret(&good, &[field(5, &data)])
    };
    assert_eq!(bit(262), Ok(1));
    assert_eq!(bit(263), Ok(1));
    assert_eq!(
        bit(264),
        Err(ParseError::Features(FeatureError::UnknownRequired(264)))
    );
}
