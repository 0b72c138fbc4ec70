//! The SQLite store: the certification, and what is particular to it.

use std::{fs, process::Command};

use fulmen_persister::{
    SqliteOptions, SqliteStore, Store, StoreError, SyncMode, certify::certify, load_for_start,
};
use fulmen_types::record::{RecordKey, Space, WriteBatch};

fn batch(name: u32, value: &[u8]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(
        RecordKey::new(Space::Channel, name.to_be_bytes()),
        value.to_vec(),
    );
    batch
}

#[test]
fn passes_the_certification() {
    let dir = tempfile::tempdir().unwrap();
    certify(|name| Ok(Box::new(SqliteStore::open(dir.path().join(name))?)));
}

#[test]
fn is_durable_on_its_own_connection() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("db")).unwrap();
    let mode = store.sync_mode().unwrap();
    assert_eq!(
        mode,
        SyncMode {
            journal_mode: "wal".into(),
            synchronous: 2
        }
    );
    assert!(mode.is_durable());
    store.check().unwrap();
}

#[test]
fn a_full_store_says_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = SqliteOptions {
        max_page_count: Some(20),
    };
    let mut store = SqliteStore::open_with(&path, &options).unwrap();
    let mut written = 0;
    let error = loop {
        let at = store.position().unwrap();
        match store.append(
            at.writer_epoch,
            at.next_seq(),
            &[batch(written, &[1; 2_000])],
        ) {
            Ok(()) => written += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("nothing is lost"));
    // It can still be read, and reopened with the same limit, as a node in enforce-only mode does.
    assert_eq!(
        load_for_start(&mut store).unwrap().len(),
        usize::try_from(written).unwrap()
    );
    let at = store.reopen().unwrap();
    assert_eq!(at.batch_seq, u64::from(written));
    drop(store);
    let mut store = SqliteStore::open(&path).unwrap();
    let at = store.position().unwrap();
    store
        .append(
            at.writer_epoch,
            at.next_seq(),
            &[batch(written, &[1; 2_000])],
        )
        .unwrap();
    store.check().unwrap();
}

#[test]
fn strangers_damage_and_newer_versions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    fs::write(&path, vec![7; 5_000]).unwrap();
    assert!(matches!(
        SqliteStore::open(&path),
        Err(StoreError::Corrupt { .. })
    ));

    let path = dir.path().join("other");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE mine (a)").unwrap();
    drop(other);
    assert!(matches!(
        SqliteStore::open(&path),
        Err(StoreError::Corrupt { .. })
    ));

    let path = dir.path().join("newer");
    drop(SqliteStore::open(&path).unwrap());
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    drop(newer);
    let refused = SqliteStore::open(&path).unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::NewerVersion {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("newer version of the software")
    );
}

#[test]
fn a_copy_is_a_whole_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(dir.path().join("db")).unwrap();
    let at = store.position().unwrap();
    store
        .append(at.writer_epoch, at.next_seq(), &[batch(1, b"one")])
        .unwrap();
    let copy = dir.path().join("copy");
    store.copy_to(&copy).unwrap();
    let mut copy = SqliteStore::open(&copy).unwrap();
    assert_eq!(
        load_for_start(&mut copy).unwrap(),
        load_for_start(&mut store).unwrap()
    );
}

/// Runs this test binary again as a child that appends until it is killed, with a pipe that tells what
/// was acknowledged: all of that must be there.
#[test]
fn a_killed_writer_leaves_all_that_was_acknowledged() {
    use std::io::{BufRead, BufReader};
    if let Some(path) = std::env::var_os("FULMEN_KILLED_WRITER") {
        let mut store = SqliteStore::open(path).unwrap();
        for n in 0.. {
            let at = store.position().unwrap();
            let group = [batch(n * 2, &[3; 500]), batch(n * 2 + 1, &[4; 500])];
            store
                .append(at.writer_epoch, at.next_seq(), &group)
                .unwrap();
            println!("\nacknowledged {}", n * 2 + 1);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    for round in 1..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_killed_writer_leaves_all_that_was_acknowledged",
                "--nocapture",
            ])
            .env("FULMEN_KILLED_WRITER", &path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines {
            if let Some(n) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged = n.parse().unwrap();
                if acknowledged > 30 * round {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut store = SqliteStore::open(&path).unwrap();
        let records = load_for_start(&mut store).unwrap().len();
        assert!(
            records > acknowledged,
            "{records} records, {acknowledged} acknowledged"
        );
        assert_eq!(records % 2, 0, "groups are whole");
    }
}
