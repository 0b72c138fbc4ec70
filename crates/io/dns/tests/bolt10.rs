//! The examples of BOLT 10, and its rules for queries.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use fulmen_dns::{
    AddressTypes, Answer, Bootstrap, Conditions, ConditionsError, Limits, NodeLabelError, Resolver,
    SrvRecord, node_label, parse_node_label,
};
use proptest::prelude::*;

const EXAMPLES: &str = include_str!("../vectors/bolt10-examples.txt");
const SEED: &str = "lseed.bitcoinstats.com";

/// The answers of the examples by name and type.
#[derive(Clone, Default)]
struct Zone(BTreeMap<(String, String), Vec<String>>);

impl Zone {
    fn of_examples() -> Self {
        let mut zone = Self::default();
        let lines = EXAMPLES.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ').map(str::to_owned);
            let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
            let data = parts.next().unwrap();
            zone.0.entry((name, kind)).or_default().push(data);
        }
        zone
    }

    fn find(&self, name: &str, kind: &str) -> Vec<String> {
        let key = (name.to_owned(), kind.to_owned());
        self.0.get(&key).cloned().unwrap_or_default()
    }
}

fn srv_record(data: &str) -> SrvRecord {
    let parts: Vec<&str> = data.split(' ').collect();
    SrvRecord {
        priority: parts[0].parse().unwrap(),
        weight: parts[1].parse().unwrap(),
        port: parts[2].parse().unwrap(),
        target: parts[3].to_owned(),
    }
}

impl Resolver for Zone {
    fn srv(&self, name: &str) -> Answer<SrvRecord> {
        let found = self.find(name, "SRV");
        Box::pin(async move { Ok(found.iter().map(|data| srv_record(data)).collect()) })
    }

    fn ipv4(&self, name: &str) -> Answer<Ipv4Addr> {
        let found = self.find(name, "A");
        Box::pin(async move { Ok(found.iter().map(|ip| ip.parse().unwrap()).collect()) })
    }

    fn ipv6(&self, name: &str) -> Answer<Ipv6Addr> {
        let found = self.find(name, "AAAA");
        Box::pin(async move { Ok(found.iter().map(|ip| ip.parse().unwrap()).collect()) })
    }
}

#[test]
fn the_vectors_are_read_and_their_hostnames_made_again() {
    let zone = Zone::of_examples();
    let mut count = 0;
    for ((name, kind), answers) in &zone.0 {
        let conditions = Conditions::parse(name, SEED).unwrap();
        for answer in answers {
            count += 1;
            match kind.as_str() {
                "SRV" => {
                    let target = srv_record(answer).target;
                    let label = target.split('.').next().unwrap();
                    let node_id = parse_node_label(label).unwrap();
                    assert_eq!(node_label(&node_id), label);
                    let of_node = Conditions {
                        node_id: Some(node_id),
                        ..Conditions::default()
                    };
                    assert_eq!(of_node.name(SEED).unwrap() + ".", target);
                    assert_eq!(Conditions::parse(&target, SEED), Ok(of_node));
                    assert_eq!(conditions.node_id, None);
                }
                "A" => assert!(conditions.node_id.is_some()),
                "AAAA" => assert_eq!(conditions, Conditions::default()),
                other => panic!("{other}"),
            }
        }
    }
    fulmen_vectors::report(10, "Examples", count);
}

#[tokio::test]
async fn the_example_node_is_found_where_it_is() {
    let seeds = Bootstrap::new(Arc::new(Zone::of_examples()), [SEED], Limits::default()).unwrap();
    let nodes = seeds.nodes(25).await.unwrap();
    // Only one of the examples has its address there.
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].addresses, ["139.59.143.87:6331".parse().unwrap()]);
}

#[test]
fn conditions_are_evaluated_from_the_right_and_the_last_counts() {
    let parse = |name: &str| Conditions::parse(&format!("{name}.{SEED}"), SEED);
    let of = |realm, types, count| {
        Ok(Conditions {
            realm,
            address_types: AddressTypes(types),
            node_id: None,
            count,
        })
    };
    // The two of the specification first.
    assert_eq!(parse("r0.a2.n10"), of(0, 2, 10));
    assert_eq!(parse("n5.r0.a2.n10"), of(0, 2, 5));
    assert_eq!(parse("a4.a2"), of(0, 4, 25));
    assert_eq!(parse("R1.N3"), of(1, 6, 3));
    assert_eq!(parse("_nodes._tcp"), Ok(Conditions::default()));
    assert_eq!(parse("x7.z.n9"), of(0, 6, 9));
    assert_eq!(Conditions::parse(SEED, SEED), Ok(Conditions::default()));
    assert_eq!(
        Conditions::parse("n2.LSEED.bitcoinstats.com.", SEED),
        of(0, 6, 2)
    );
    assert!(AddressTypes::IP.contain(AddressTypes::IPV6));
    assert!(!AddressTypes::IPV4.contain(AddressTypes::IPV6));
}

#[test]
fn what_is_no_condition_is_refused_by_its_reason() {
    let parse = |name: &str| Conditions::parse(name, SEED).unwrap_err();
    let cases = [
        ("example.com", ConditionsError::NotBelowSeed),
        ("xlseed.bitcoinstats.com", ConditionsError::NotBelowSeed),
        (
            "r256.lseed.bitcoinstats.com",
            ConditionsError::BadValue('r'),
        ),
        ("n.lseed.bitcoinstats.com", ConditionsError::BadValue('n')),
        (
            "n65536.lseed.bitcoinstats.com",
            ConditionsError::BadValue('n'),
        ),
        ("a-1.lseed.bitcoinstats.com", ConditionsError::BadValue('a')),
        ("n1..lseed.bitcoinstats.com", ConditionsError::BadName),
        (
            "l7.lseed.bitcoinstats.com",
            ConditionsError::BadNode(NodeLabelError::NotBech32),
        ),
    ];
    for (name, why) in cases {
        assert_eq!(parse(name), why, "{name}");
    }
    let long = format!("{}.{SEED}", "n1.".repeat(90).trim_end_matches('.'));
    assert_eq!(parse(&long), ConditionsError::BadName);
    for seed in ["", ".", "a b", "a..b", "ä.example"] {
        let name = Conditions::default().name(seed);
        assert_eq!(name, Err(ConditionsError::BadName), "{seed:?}");
    }
}

#[test]
fn labels_that_name_no_node_are_refused_by_their_reason() {
    use bech32::{Bech32, Bech32m, Hrp};
    let key =
        PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[7; 32]).unwrap());
    let bytes = key.serialize();
    let ln = Hrp::parse("ln").unwrap();
    let other = Hrp::parse("lb").unwrap();
    let right = node_label(&key);
    assert_eq!(right.len(), 62);
    assert_eq!(parse_node_label(&right.to_uppercase()), Ok(key));
    let cases = [
        (
            bech32::encode::<Bech32m>(ln, &bytes).unwrap(),
            NodeLabelError::NotBech32,
        ),
        (
            bech32::encode::<Bech32>(other, &bytes).unwrap(),
            NodeLabelError::OtherPrefix,
        ),
        (
            bech32::encode::<Bech32>(ln, &bytes[..32]).unwrap(),
            NodeLabelError::NotAKey,
        ),
        (
            bech32::encode::<Bech32>(ln, &[5; 33]).unwrap(),
            NodeLabelError::NotAKey,
        ),
        // The same key in another form.
        (
            bech32::encode::<Bech32>(ln, &key.serialize_uncompressed()).unwrap(),
            NodeLabelError::NotAKey,
        ),
        (right.replace('q', "p"), NodeLabelError::NotBech32),
        (String::new(), NodeLabelError::NotBech32),
    ];
    for (label, why) in cases {
        assert_eq!(parse_node_label(&label), Err(why), "{label}");
    }
}

proptest! {
    #[test]
    fn names_say_what_they_were_made_from(
        realm: u8,
        types: u32,
        count: u16,
        secret in prop::option::of(1u8..255),
    ) {
        let node_id = secret.map(|byte| {
            PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[byte; 32]).unwrap())
        });
        let conditions = Conditions {
            realm,
            address_types: AddressTypes(types),
            node_id,
            count,
        };
        let name = conditions.name(SEED).unwrap();
        prop_assert_eq!(Conditions::parse(&name, SEED), Ok(conditions));
    }

    #[test]
    fn no_name_makes_it_panic(name in "[ -~]{0,300}", label in "\\PC{0,80}") {
        let _ = Conditions::parse(&name, SEED);
        let _ = Conditions::parse(&format!("{name}.{SEED}"), SEED);
        let _ = parse_node_label(&label);
    }
}
