//! Name servers that lie, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use common::{A, AAAA, Asked, SRV, Server, TXT, a, aaaa, cname, record, srv, wire_name};
use fulmen_dns::{
    Bootstrap, BootstrapError, DnsError, Limits, Resolver, SystemResolver, node_label,
};

const SEED: &str = "seed.example";

fn key(byte: u8) -> PublicKey {
    PublicKey::from_secret_key(
        &Secp256k1::new(),
        &SecretKey::from_slice(&[byte; 32]).unwrap(),
    )
}

fn host(byte: u8) -> String {
    format!("{}.{SEED}", node_label(&key(byte)))
}

fn limits() -> Limits {
    Limits {
        seed_timeout: Duration::from_secs(4),
        ..Limits::default()
    }
}

/// Nodes from a server that answers so.
async fn nodes(
    answer: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> Result<Vec<(PublicKey, Vec<String>)>, BootstrapError> {
    let server = Server::start(answer).await;
    let resolver = SystemResolver::with_servers(&[server.address]).unwrap();
    let bootstrap = Bootstrap::new(Arc::new(resolver), [SEED], limits()).unwrap();
    let nodes = bootstrap.nodes(25).await?;
    Ok(nodes
        .into_iter()
        .map(|n| {
            (
                n.node_id,
                n.addresses.iter().map(ToString::to_string).collect(),
            )
        })
        .collect())
}

/// An honest seed with two nodes.
fn honest(asked: &Asked) -> Vec<u8> {
    match asked.kind {
        SRV => asked.with(&[
            srv(&asked.name, 9_735, &host(1)),
            srv(&asked.name, 4_280, &host(2)),
        ]),
        A if asked.name == host(1) => asked.with(&[a(&asked.name, Ipv4Addr::new(1, 2, 3, 4))]),
        AAAA if asked.name == host(2) => asked.with(&[aaaa(
            &asked.name,
            "2001:db8::7".parse::<Ipv6Addr>().unwrap(),
        )]),
        _ => asked.with(&[]),
    }
}

fn honest_nodes() -> Vec<(PublicKey, Vec<String>)> {
    let mut nodes = vec![
        (key(1), vec!["1.2.3.4:9735".to_owned()]),
        (key(2), vec!["[2001:db8::7]:4280".to_owned()]),
    ];
    nodes.sort();
    nodes
}

#[tokio::test]
async fn a_seed_names_nodes_with_ports_and_both_families() {
    assert_eq!(nodes(|asked| vec![honest(asked)]).await, Ok(honest_nodes()));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let truncating = |asked: &Asked| {
        if asked.kind == SRV && !asked.over_tcp {
            vec![asked.truncated()]
        } else {
            vec![honest(asked)]
        }
    };
    assert_eq!(nodes(truncating).await, Ok(honest_nodes()));
}

#[tokio::test]
async fn answers_with_another_id_or_question_are_nobodys() {
    let forged = |asked: &Asked| {
        let mut id = asked.with(&[
            srv(SEED, 1, &host(9)),
            a(&asked.name, Ipv4Addr::new(6, 6, 6, 6)),
        ]);
        id[0] ^= 0x55;
        let other = Asked {
            bytes: [
                &asked.bytes[..12],
                &wire_name("other.example"),
                &[0, 33, 0, 1][..],
            ]
            .concat(),
            name: "other.example".into(),
            kind: SRV,
            over_tcp: asked.over_tcp,
        };
        vec![
            id,
            other.with(&[srv("other.example", 1, &host(9))]),
            honest(asked),
        ]
    };
    assert_eq!(nodes(forged).await, Ok(honest_nodes()));
}

#[tokio::test]
async fn an_answer_that_is_no_srv_record_names_nobody() {
    let wrong = |asked: &Asked| {
        let records = [
            a(&asked.name, Ipv4Addr::new(6, 6, 6, 6)),
            record(&asked.name, TXT, b"\x05hello".to_vec()),
        ];
        vec![asked.with(&records)]
    };
    let error = nodes(wrong).await.unwrap_err();
    assert!(matches!(error, BootstrapError::NothingFound(_)), "{error}");
    // The type says SRV; the data is nothing, that of an address, or cut inside a name.
    for data in [Vec::new(), vec![6, 6, 6, 6], vec![0, 1, 0, 1, 0, 1, 63]] {
        let malformed =
            move |asked: &Asked| vec![asked.with(&[record(&asked.name, SRV, data.clone())])];
        let error = nodes(malformed).await.unwrap_err();
        assert!(matches!(error, BootstrapError::NothingFound(_)), "{error}");
    }
}

#[tokio::test]
async fn hostnames_that_are_no_nodes_of_the_seed_are_left_out() {
    let odd = |asked: &Asked| {
        if asked.kind != SRV {
            return vec![honest(asked)];
        }
        let records = [
            srv(SEED, 9_735, "www.seed.example"),
            srv(SEED, 9_735, SEED),
            srv(SEED, 9_735, "bank.example"),
            // A node's label, but below another name, or with something before it.
            srv(
                SEED,
                9_735,
                &format!("{}.bank.example", node_label(&key(1))),
            ),
            srv(SEED, 9_735, &format!("x.{}", host(1))),
            srv(SEED, 0, &host(1)),
            srv(SEED, 4_280, &host(2)),
            srv(SEED, 4_280, &host(2)),
        ];
        vec![asked.with(&records)]
    };
    let found = nodes(odd).await.unwrap();
    assert_eq!(found, [(key(2), vec!["[2001:db8::7]:4280".to_owned()])]);
}

#[tokio::test]
async fn a_huge_answer_leads_to_a_bounded_number_of_lookups() {
    let huge = |asked: &Asked| {
        let records: Vec<_> = match asked.kind {
            SRV => (0..400u16)
                .map(|n| {
                    let byte = u8::try_from(n % 250 + 1).unwrap();
                    srv(SEED, 1_000 + n, &host(byte))
                })
                .collect(),
            A => (0..300u16)
                .map(|n| a(&asked.name, Ipv4Addr::from(0x0102_0000 + u32::from(n))))
                .collect(),
            _ => Vec::new(),
        };
        // Too long for UDP.
        if asked.over_tcp || records.is_empty() {
            vec![asked.with(&records)]
        } else {
            vec![asked.truncated()]
        }
    };
    let server = Server::start(huge).await;
    let resolver = SystemResolver::with_servers(&[server.address]).unwrap();
    let bounds = Limits {
        records: 10,
        addresses: 3,
        ..limits()
    };
    let bootstrap = Bootstrap::new(Arc::new(resolver), [SEED], bounds).unwrap();
    let nodes = bootstrap.nodes(25).await.unwrap();
    assert_eq!(nodes.len(), 10);
    assert!(nodes.iter().all(|node| node.addresses.len() == 3));
    // One for the seed, two for each of ten hosts; twice over TCP what was truncated.
    assert!(server.queries() <= 2 + 10 * 3, "{}", server.queries());
}

#[tokio::test]
async fn aliases_in_a_circle_end() {
    let circle = |asked: &Asked| {
        let next = if asked.name.starts_with("x") {
            SEED.to_owned()
        } else {
            format!("x.{SEED}")
        };
        vec![asked.with(&[cname(&asked.name, &next), cname(&next, &asked.name)])]
    };
    let started = Instant::now();
    let error = nodes(circle).await.unwrap_err();
    assert!(matches!(error, BootstrapError::NothingFound(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn garbage_and_silence_end_in_an_error() {
    let garbage = |asked: &Asked| {
        let mut cut = honest(asked);
        cut.truncate(20);
        let mut points_at_itself = asked.with(&[]);
        points_at_itself[7] = 1;
        let at = u8::try_from(points_at_itself.len()).unwrap();
        points_at_itself.extend_from_slice(&[0xc0, at, 0, 33, 0, 1, 0, 0, 0, 60, 0, 0]);
        vec![Vec::new(), vec![0xff; 600], cut, points_at_itself]
    };
    for silent in [false, true] {
        let started = Instant::now();
        let answer = move |asked: &Asked| if silent { Vec::new() } else { garbage(asked) };
        let error = nodes(answer).await.unwrap_err();
        assert!(matches!(error, BootstrapError::NothingFound(_)), "{error}");
        assert!(started.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_the_empty_answer() {
    let server = Server::start(|asked| vec![asked.no_such_name()]).await;
    let resolver = SystemResolver::with_servers(&[server.address]).unwrap();
    assert_eq!(resolver.srv(SEED).await, Ok(Vec::new()));
    assert_eq!(resolver.ipv4(SEED).await, Ok(Vec::new()));
    assert!(matches!(
        resolver.ipv6(&"x".repeat(300)).await,
        Err(DnsError::BadName(_))
    ));
    assert!(SystemResolver::with_servers(&[]).is_err());
}

#[tokio::test]
async fn one_node_is_located_and_no_other_taken_for_it() {
    let server = Server::start(|asked| match asked.kind {
        // It also names one that was not asked for.
        SRV if asked.name == host(2) => {
            vec![asked.with(&[
                srv(&asked.name, 1, &host(1)),
                srv(&asked.name, 4_280, &host(2)),
            ])]
        }
        SRV => vec![asked.with(&[])],
        _ => vec![honest(asked)],
    })
    .await;
    let resolver = SystemResolver::with_servers(&[server.address]).unwrap();
    let bootstrap = Bootstrap::new(Arc::new(resolver), [SEED], limits()).unwrap();
    let found = bootstrap.locate(key(2)).await.unwrap();
    assert_eq!(found.node_id, key(2));
    assert_eq!(found.addresses, ["[2001:db8::7]:4280".parse().unwrap()]);
    assert!(bootstrap.locate(key(3)).await.is_err());
}

#[tokio::test]
async fn the_next_seed_is_asked_when_one_fails_and_only_then() {
    let server = Server::start(|asked| {
        if asked.name.ends_with("dead.example") {
            vec![asked.no_such_name()]
        } else if asked.name.ends_with("unused.example") {
            panic!("nobody needs it");
        } else {
            vec![honest(asked)]
        }
    })
    .await;
    let resolver: Arc<dyn Resolver> =
        Arc::new(SystemResolver::with_servers(&[server.address]).unwrap());
    let seeds = ["dead.example", SEED, "unused.example"];
    let bootstrap = Bootstrap::new(Arc::clone(&resolver), seeds, limits()).unwrap();
    assert_eq!(bootstrap.nodes(2).await.unwrap().len(), 2);
    let none = Bootstrap::new(Arc::clone(&resolver), [""; 0], limits()).unwrap();
    assert_eq!(none.nodes(2).await, Err(BootstrapError::NoSeeds));
    let bad = Bootstrap::new(resolver, ["no name"], limits());
    assert!(matches!(bad, Err(BootstrapError::BadSeed(..))));
}
