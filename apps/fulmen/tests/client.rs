//! The client as a program, with a daemon in this process: what scripts and people get from it.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use bitcoin::Network;
use fulmen_block_sync::Auth;
use fulmen_devchain::server::{DevchainServer, ServerConfig};
use fulmend::{Config, Daemon};
use serde_json::Value;

fn fulmen(data_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmen"));
    command
        .arg("--data-dir")
        .arg(data_dir)
        .args(args)
        .stdin(Stdio::null())
        .env_remove("FULMEN_PASSPHRASE")
        .env_remove("FULMEN_NETWORK");
    command
}

async fn run(data_dir: &Path, args: &[&str]) -> Output {
    let mut command = fulmen(data_dir, args);
    // The daemon needs this process's threads meanwhile.
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("no panic")
        .expect("a binary")
}

async fn good(data_dir: &Path, args: &[&str]) -> String {
    let output = run(data_dir, args).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

async fn json(data_dir: &Path, args: &[&str]) -> Value {
    let args: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
    serde_json::from_str(&good(data_dir, &args).await).expect("JSON")
}

async fn bad(data_dir: &Path, args: &[&str]) -> String {
    let output = run(data_dir, args).await;
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

async fn daemon(chain: &DevchainServer, data_dir: &Path) -> Daemon {
    let mut config = Config::new(data_dir, Network::Regtest);
    config.bitcoind = chain.addr().to_string();
    config.bitcoind_auth = Auth::CookieFile(chain.cookie_path().to_path_buf());
    config.listen.set_port(0);
    config.api.set_port(0);
    config.chain_poll_millis = 50;
    config.mempool_poll_millis = 100;
    Daemon::start(config).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_are_made_and_restored_without_a_daemon() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = dir.path().join("first");
    let made = json(&first, &["create"]).await;
    let words = made["words"].as_str().expect("words").to_owned();
    assert_eq!(words.split(' ').count(), 24);
    let error = bad(&first, &["create"]).await;
    assert!(error.contains("nothing was changed"), "{error}");

    // People get numbered words, and can give them back so.
    let shown = good(&dir.path().join("second"), &["create"]).await;
    assert!(shown.contains(" 1. ") && shown.contains("24. "), "{shown}");
    let restored = dir.path().join("restored");
    let restore = |input: String, data_dir: &Path| {
        let mut command = fulmen(data_dir, &["restore", "--birthday-height", "7"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("a binary");
        use std::io::Write;
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(input.as_bytes())
            .expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    let numbered: Vec<String> = words
        .split(' ')
        .enumerate()
        .map(|(i, word)| format!("{}. {word}", i + 1))
        .collect();
    let output = restore(numbered.join("\n"), &restored);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Channels don't"), "{said}");
    let seed = |dir: &Path| {
        fulmen_seed::SeedFile::open(dir)
            .expect("there")
            .unlock(None)
            .expect("open")
            .node_seed()
    };
    assert_eq!(seed(&restored), seed(&first));

    let nowhere = dir.path().join("nowhere");
    let wrong = restore(words.replacen(' ', " wrong ", 1), &nowhere);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!nowhere.exists());

    let script = good(&nowhere, &["completions", "bash"]).await;
    assert!(script.contains("listpayments") && script.contains("--max-fee"));

    // Without a daemon the others say how to get one.
    let error = bad(&first, &["getinfo"]).await;
    assert!(error.contains("has the daemon been started"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_works_for_people_and_scripts() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = DevchainServer::start(ServerConfig::default()).expect("a free port");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    good(&a, &["create"]).await;
    good(&b, &["create"]).await;
    let alice = daemon(&chain, &a).await;
    let bob = daemon(&chain, &b).await;
    let to_bob = format!("{}@{}", bob.node_id(), bob.listen_address());
    let bob_id = bob.node_id().to_string();
    let faucet = fulmen_devchain::Faucet::default();
    let mine = |blocks| {
        chain.with_chain(|chain| {
            chain.generate_to_script(blocks, &faucet.script());
        });
    };

    let info = json(&a, &["getinfo"]).await;
    assert_eq!(info["node_id"], alice.node_id().to_string());
    assert!(good(&a, &["getinfo"]).await.contains("in sync"));

    for data_dir in [&a, &b] {
        let address = good(data_dir, &["newaddress"]).await;
        let address: bitcoin::Address<_> = address.trim().parse().expect("an address");
        let script = address.assume_checked().script_pubkey();
        chain
            .with_chain(|chain| {
                chain
                    .fund(&script, bitcoin::Amount::from_sat(1_000_000))
                    .map(|_| ())
            })
            .expect("coins");
    }
    mine(1);
    for data_dir in [&a, &b] {
        until(data_dir, &["balance"], |v| {
            v["onchain_confirmed_sat"] == 1_000_000
        })
        .await;
    }
    assert!(good(&a, &["balance"]).await.contains("1 000 000 sat"));

    assert!(good(&a, &["connect", &to_bob]).await.contains(&bob_id));
    assert!(good(&a, &["listpeers"]).await.contains(&bob_id));
    let opened = json(
        &a,
        &["openchannel", &bob_id, "0.005btc", "--push", "1000sat"],
    )
    .await;
    until_mempool(&chain).await;
    mine(6);
    until(&a, &["listchannels"], |v| {
        v["channels"][0]["usable"] == true
    })
    .await;
    until(&b, &["listchannels"], |v| {
        v["channels"][0]["usable"] == true
    })
    .await;
    let channels = json(&a, &["listchannels"]).await;
    assert_eq!(channels["channels"][0]["remote_msat"], 1_000_000);
    assert_eq!(channels["channels"][0]["channel_id"], opened["channel_id"]);
    assert!(good(&a, &["listchannels"]).await.contains("500 000"));

    let invoice = json(&b, &["invoice", "2500sat", "two coffees"]).await;
    let bolt11 = invoice["bolt11"].as_str().expect("text").to_owned();
    assert!(good(&a, &["decode", &bolt11]).await.contains("two coffees"));
    // What paying would do, without paying.
    let found = json(&a, &["findroute", &bolt11]).await;
    assert_eq!(
        (
            &found["amount_msat"],
            &found["fee_msat"],
            &found["success_ppm"]
        ),
        (&2_500_000.into(), &0.into(), &1_000_000.into())
    );
    let hop = &found["parts"][0]["hops"][0];
    assert_eq!(hop["to"], bob_id.as_str());
    assert_eq!(hop["known"]["from"], "own");
    let shown = good(&a, &["findroute", &bob_id, "--amount", "10sat"]).await;
    assert!(
        shown.contains("HTLC 1 of 1") && shown.contains("the channel is ours"),
        "{shown}"
    );
    let error = bad(&a, &["findroute", &bob_id]).await;
    assert!(error.contains("give an amount"), "{error}");
    let error = bad(&a, &["findroute", &bob_id, "--amount", "99999999sat"]).await;
    assert!(error.contains("the most that can be sent now"), "{error}");
    let paid = json(&a, &["pay", &bolt11]).await;
    assert_eq!(
        (&paid["state"], &paid["fee_msat"]),
        (&Value::from("succeeded"), &Value::from(0))
    );
    assert!(good(&a, &["pay", &bolt11]).await.contains("succeeded"));
    assert!(good(&a, &["listpayments"]).await.contains("2 500"));
    assert!(good(&b, &["listinvoices"]).await.contains("two coffees"));
    let any = json(&b, &["invoice", "any", "a tip"]).await;
    let any = any["bolt11"].as_str().expect("text").to_owned();
    let error = bad(&a, &["pay", &any]).await;
    assert!(error.contains("amount"), "{error}");
    good(&a, &["pay", &any, "--amount", "1234msat"]).await;
    let hash = invoice["payment_hash"].as_str().expect("text");
    let one = good(&a, &["listpayments", &hash[..8]]).await;
    assert!(one.contains(hash) && one.contains("preimage"), "{one}");
    let one = good(&b, &["listinvoices", &hash[..8]]).await;
    assert!(one.contains(&bolt11), "{one}");
    let page = json(&a, &["listpayments", "--limit", "1"]).await;
    let next = page["next"].as_str().expect("there is one more").to_owned();
    let page = json(&a, &["listpayments", "--before", &next]).await;
    assert_eq!(
        (&page["payments"][0]["payment_hash"], &page["next"]),
        (&Value::from(hash), &Value::Null)
    );
    let shown = good(&a, &["listpayments", "--limit", "1"]).await;
    assert!(shown.contains("--all"), "{shown}");
    assert_eq!(
        good(&a, &["listpayments", "--all"]).await.lines().count(),
        3
    );
    for command in [
        "balance",
        "listchannels",
        "listpayments",
        "listinvoices",
        "listtransactions",
    ] {
        let shown = good(&a, &[command]).await;
        let widest = shown.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{command}: {shown}");
    }

    // Mistakes: a clear text and a code, whoever asks.
    let error = bad(&a, &["--json", "pay", "lnbcrt1nonsense"]).await;
    assert!(error.contains("invoice"), "{error}");
    let error = bad(&a, &["closechannel", "1x1x1"]).await;
    assert!(error.contains("listchannels"), "{error}");
    let error = bad(&a, &["openchannel", &bob_id, "1msat"]).await;
    assert!(error.contains("whole satoshis"), "{error}");
    let usage = run(&a, &["openchannel", &bob_id, "much"]).await;
    assert_eq!(usage.status.code(), Some(2));
    let error = bad(&b, &["--api", &alice.api_address().to_string(), "getinfo"]).await;
    assert!(
        error.contains("token") && error.contains("--data-dir"),
        "{error}"
    );

    let events = good(&a, &["--json", "events"]).await;
    let events: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "payment_succeeded")
    );
    let last = events.len().to_string();
    assert_eq!(
        good(&a, &["events", "--from", &last]).await.lines().count(),
        1
    );

    let channel = opened["channel_id"].as_str().expect("text").to_owned();
    let home = good(&a, &["newaddress"]).await;
    good(&a, &["closechannel", &channel, "--address", home.trim()]).await;
    until_mempool(&chain).await;
    mine(1);
    until(&a, &["balance"], |v| v["channels_msat"] == 0).await;
    let address = good(&b, &["newaddress"]).await;
    until(&a, &["balance"], |v| {
        v["onchain_confirmed_sat"].as_u64() > Some(900_000)
    })
    .await;
    assert!(
        good(&a, &["withdraw", address.trim(), "100000"])
            .await
            .contains("100 000 sat")
    );
    until_mempool(&chain).await;
    // Bob sees it before it confirms; alice pays more to hurry it.
    until(&b, &["listtransactions"], |v| {
        let first = &v["transactions"][0];
        first["confirmations"] == 0 && first["change_sat"] == 100_000
    })
    .await;
    let slow = json(&a, &["listtransactions", "--limit", "1"]).await;
    let slow = slow["transactions"][0]["txid"]
        .as_str()
        .expect("text")
        .to_owned();
    let error = bad(&a, &["bumpfee", &slow, "--feerate", "1"]).await;
    assert!(error.contains("sat/vB or more"), "{error}");
    let fast = json(&a, &["bumpfee", &slow, "--feerate", "25"]).await;
    assert_eq!(
        (&fast["amount_sat"], &fast["not_taken_yet"]),
        (&Value::from(100_000), &Value::Null)
    );
    let error = bad(&a, &["bumpfee", &slow]).await;
    assert!(error.contains("listtransactions"), "{error}");
    mine(1);
    until(&b, &["balance"], |v| {
        v["onchain_confirmed_sat"].as_u64() > Some(1_100_000)
    })
    .await;
    good(&a, &["disconnect", &bob_id, "--force"]).await;
    good(&a, &["stop"]).await;
    alice.wait().await.expect("it was well");
    let error = bad(&a, &["getinfo"]).await;
    assert!(error.contains("no daemon answers"), "{error}");
    bob.stop().await.expect("it was well");
}

#[expect(clippy::panic, reason = "that is how a test fails")]
async fn until(data_dir: &Path, args: &[&str], is_so: impl Fn(&Value) -> bool) {
    for _ in 0..600 {
        if is_so(&json(data_dir, args).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{args:?}: not within 30 s: {}", json(data_dir, args).await);
}

#[expect(clippy::panic, reason = "that is how a test fails")]
async fn until_mempool(chain: &DevchainServer) {
    for _ in 0..600 {
        if chain.with_chain(|chain| !chain.mempool().is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing comes to the mempool");
}
