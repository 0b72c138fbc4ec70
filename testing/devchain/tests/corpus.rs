//! The corpus: the embedded chain must give the verdict of Bitcoin Core on every case.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use fulmen_devchain::corpus::Corpus;
use fulmen_devchain::server::{DevchainServer, ServerConfig};
use fulmen_devchain::{BITCOIND_EXE, Bitcoind, RpcClient};

#[test]
fn every_verdict_is_as_expected() {
    let corpus = Corpus::record();
    let wrong: Vec<String> = corpus
        .cases()
        .filter(|case| !case.agrees())
        .map(|case| {
            format!(
                "{}: expected {:?}, got {:?}",
                case.name, case.expected, case.got
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let names: BTreeSet<&str> = corpus.cases().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), corpus.cases().count(), "the names are unique");
    let refused = corpus
        .cases()
        .filter(|case| case.expected.is_some())
        .count();
    println!("{} cases, {refused} of them refused", names.len());
    assert!(names.len() >= 200 && refused >= 100);
}

#[test]
fn the_record_replays_over_rpc_with_the_same_verdicts() {
    let corpus = Corpus::record();
    let config = ServerConfig {
        initial_blocks: 0,
        ..ServerConfig::default()
    };
    let server = DevchainServer::start(config).unwrap();
    let (user, password) = server.auth();
    let client = RpcClient::new(server.addr(), &user, &password);
    assert_eq!(corpus.replay(&client).unwrap(), []);
}

#[test]
fn the_record_is_the_same_every_time() {
    assert_eq!(Corpus::record().to_json(), Corpus::record().to_json());
}

/// The words of an error may change between versions of Core; the verdict may not.
#[test]
fn bitcoind_gives_the_same_verdicts_if_there_is_one() {
    let Some(program) = std::env::var_os(BITCOIND_EXE).filter(|program| !program.is_empty()) else {
        println!("{BITCOIND_EXE} is not set: the corpus ran on the embedded chain only");
        return;
    };
    let bitcoind = Bitcoind::start(program.as_ref()).unwrap();
    let differences = Corpus::record().replay(bitcoind.client()).unwrap();
    for difference in &differences {
        println!("{difference:?}");
    }
    let wrong = differences.iter().filter(|d| d.is_of_verdict()).count();
    assert_eq!(wrong, 0, "bitcoind judges differently");
}
