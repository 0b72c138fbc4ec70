//! The daemon as a process: its exit codes, its signals, and a kill.

mod common;

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use common::{Devchain, PATIENCE, until};
use fulmen_api::{Client, GetInfo, Invoice, ListInvoices, NewAddress, Stop};

fn fulmend(chain: &Devchain, data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmend"));
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--api",
            "127.0.0.1:0",
            "--chain-poll-millis",
            "50",
        ])
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--bitcoind")
        .arg(format!("http://{}", chain.addr()))
        .arg("--bitcoind-cookie")
        .arg(chain.cookie_path())
        .stderr(Stdio::piped());
    command
}

/// A child that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn started(chain: &Devchain, data_dir: &Path) -> (Process, Client) {
    // A file that a killed daemon left behind is not this one's.
    let _ = std::fs::remove_file(data_dir.join(fulmen_api::ADDRESS_FILE));
    let process = Process(
        fulmend(chain, data_dir)
            .stderr(Stdio::null())
            .spawn()
            .expect("a binary"),
    );
    until("it listens", || async {
        Client::from_data_dir(data_dir).is_ok()
    })
    .await;
    let client = Client::from_data_dir(data_dir).expect("just there");
    until("it answers", || async {
        client.call(&GetInfo {}).await.is_ok()
    })
    .await;
    (process, client)
}

fn signal(process: &Process, name: &str) {
    let sent = Command::new("kill")
        .arg(name)
        .arg(process.0.id().to_string())
        .status();
    assert!(sent.expect("a shell tool").success());
}

fn exit(process: &mut Process) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.0.try_wait().expect("a child") {
            return status.code();
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_when_told_to_and_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let data_dir = dir.path().join("node");
    common::create_seed(&data_dir);

    // A kill: what was answered is there afterwards.
    let (mut process, client) = started(&chain, &data_dir).await;
    let id = client.call(&GetInfo {}).await.expect("it answers").node_id;
    let address = client
        .call(&NewAddress {})
        .await
        .expect("an address")
        .address;
    let invoice = client
        .call(&Invoice::of_msat(5_000, "kept"))
        .await
        .expect("made");
    signal(&process, "-KILL");
    assert_eq!(exit(&mut process), None);
    let (mut process, client) = started(&chain, &data_dir).await;
    assert_eq!(
        client.call(&GetInfo {}).await.expect("it answers").node_id,
        id
    );
    let listed = client
        .call(&ListInvoices::default())
        .await
        .expect("a list")
        .invoices;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].bolt11, invoice.bolt11);
    assert_ne!(
        client
            .call(&NewAddress {})
            .await
            .expect("an address")
            .address,
        address
    );

    // Asked to stop in each way that there is.
    signal(&process, "-TERM");
    assert_eq!(exit(&mut process), Some(0));
    assert!(!data_dir.join(fulmen_api::ADDRESS_FILE).exists());
    let (mut process, _) = started(&chain, &data_dir).await;
    signal(&process, "-INT");
    assert_eq!(exit(&mut process), Some(0));
    let (mut process, client) = started(&chain, &data_dir).await;
    client
        .call(&Stop {})
        .await
        .expect("it answers before it stops");
    assert_eq!(exit(&mut process), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_end_with_a_clear_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let data_dir = dir.path().join("node");
    let run = |command: &mut Command| error_of(&command.output().expect("a binary"));

    let text = run(&mut fulmend(&chain, &data_dir));
    assert!(text.contains("fulmen create"), "{text}");
    common::create_seed(&data_dir);
    let text = run(fulmend(&chain, &data_dir).env("FULMEN_NONSENSE", "1"));
    assert!(text.contains("nonsense"), "{text}");
    let text = run(fulmend(&chain, &data_dir).args(["--network", "mainnet"]));
    assert!(text.contains("i_accept_the_risk_of_losing_funds"), "{text}");
    let text = run(fulmend(&chain, &data_dir).args(["--log-level", "a=b=c"]));
    assert!(text.contains("log_level"), "{text}");
    std::fs::write(data_dir.join("fulmend.toml"), "fee_ppm = 'much'").expect("ours");
    let text = run(&mut fulmend(&chain, &data_dir));
    assert!(
        text.contains("fee_ppm") && text.contains("fulmend.toml"),
        "{text}"
    );
    std::fs::remove_file(data_dir.join("fulmend.toml")).expect("ours");

    let (_process, _client) = started(&chain, &data_dir).await;
    let text = run(&mut fulmend(&chain, &data_dir));
    assert!(text.contains("another daemon runs"), "{text}");

    // What can't be understood at all is another code, as of other programs.
    let output = fulmend(&chain, &data_dir)
        .arg("--nonsense")
        .output()
        .expect("a binary");
    assert_eq!(output.status.code(), Some(2));
    let help = fulmend(&chain, &data_dir)
        .arg("--help")
        .output()
        .expect("a binary");
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_configures_it_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let data_dir = dir.path().join("node");
    common::create_seed(&data_dir);
    std::fs::write(
        data_dir.join("fulmend.toml"),
        "alias = 'of the file'\ncolor = '000000'",
    )
    .expect("ours");
    let child = fulmend(&chain, &data_dir)
        .env("FULMEN_ALIAS", "0123")
        .env("FULMEN_FEE_PPM", "7")
        .env("FULMEN_LOG_FORMAT", "json")
        .stderr(Stdio::null())
        .spawn();
    let _process = Process(child.expect("a binary"));
    until("it listens", || async {
        Client::from_data_dir(&data_dir).is_ok()
    })
    .await;
    let client = Client::from_data_dir(&data_dir).expect("just there");
    let info = client.call(&GetInfo {}).await.expect("it answers");
    assert_eq!(info.alias, "0123");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_seed_wants_its_passphrase() {
    let dir = tempfile::tempdir().expect("a folder");
    let chain = Devchain::start();
    let data_dir = dir.path().join("node");
    let seed = fulmen_seed::Seed::generate().expect("randomness");
    fulmen_seed::SeedFile::create(
        &data_dir,
        &seed,
        fulmen_seed::Birthday::Now,
        Some("open sesame"),
    )
    .expect("a new folder");
    let text = error_of(&fulmend(&chain, &data_dir).output().expect("a binary"));
    assert!(text.contains("FULMEN_PASSPHRASE"), "{text}");
    let wrong = fulmend(&chain, &data_dir)
        .env("FULMEN_PASSPHRASE", "open barley")
        .output();
    let text = error_of(&wrong.expect("a binary"));
    assert!(text.contains("passphrase is wrong"), "{text}");
    let child = fulmend(&chain, &data_dir)
        .env("FULMEN_PASSPHRASE", "open sesame")
        .stderr(Stdio::null())
        .spawn();
    let mut process = Process(child.expect("a binary"));
    until("it listens", || async {
        Client::from_data_dir(&data_dir).is_ok()
    })
    .await;
    signal(&process, "-TERM");
    assert_eq!(exit(&mut process), Some(0));
}
