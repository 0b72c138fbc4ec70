//! The plain-file store: the certification, and crashes at every byte.

use std::fs;

use fulmen_persister::{
    FileOptions, FileStore, Store, StoreError, certify::certify, load_for_start,
};
use fulmen_types::record::{RecordKey, Space, WriteBatch};

fn batch(name: u8, value: &[u8]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put(RecordKey::new(Space::Channel, [name]), value.to_vec());
    batch
}

#[test]
fn passes_the_certification() {
    let dir = tempfile::tempdir().unwrap();
    certify(|name| Ok(Box::new(FileStore::open(dir.path().join(name))?)));
}

#[test]
fn passes_the_certification_while_always_compacting() {
    let dir = tempfile::tempdir().unwrap();
    let options = FileOptions {
        compact_above: 0,
        ..FileOptions::default()
    };
    certify(|name| {
        Ok(Box::new(FileStore::open_with(
            dir.path().join(name),
            options.clone(),
        )?))
    });
}

/// Cuts a log with five groups at every byte: what is left is always the state after some group, never
/// less than the groups that are whole.
#[test]
fn a_crash_at_every_byte_leaves_whole_groups() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut store = FileStore::open(&path).unwrap();
    let mut states = vec![load_for_start(&mut store).unwrap()];
    let mut ends = vec![fs::metadata(&path).unwrap().len()];
    for n in 0..5u8 {
        let at = store.position().unwrap();
        let mut group = vec![batch(n, &[n; 40]), batch(n + 1, &[0xf1; 30])];
        if n > 2 {
            let mut delete = WriteBatch::new();
            delete.delete(RecordKey::new(Space::Channel, [n - 2]));
            group.push(delete);
        }
        store
            .append(at.writer_epoch, at.next_seq(), &group)
            .unwrap();
        states.push(load_for_start(&mut store).unwrap());
        ends.push(fs::metadata(&path).unwrap().len());
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    let start = usize::try_from(ends[0]).unwrap();
    for cut in start..=whole.len() {
        // Cut off, or filled up with what an unfinished write may leave.
        for filler in [None, [Some(0u8), Some(0xf1)][cut % 2]] {
            let mut bytes = whole[..cut].to_vec();
            if let Some(filler) = filler {
                bytes.resize(whole.len(), filler);
            }
            fs::write(&path, &bytes).unwrap();
            let mut store = FileStore::open(&path).unwrap();
            let whole_groups = ends.iter().filter(|end| **end <= cut as u64).count() - 1;
            let now = load_for_start(&mut store).unwrap();
            // The filler can happen to be the very byte that was cut off.
            let as_filled = states
                .get(whole_groups + 1)
                .is_some_and(|s| filler.is_some() && *s == now);
            assert!(
                now == states[whole_groups] || as_filled,
                "cut at {cut}, filler {filler:?}"
            );
            if cut % 8 != 0 {
                continue;
            }
            // And it goes on from there.
            let at = store.position().unwrap();
            store
                .append(at.writer_epoch, at.next_seq(), &[batch(99, b"on")])
                .unwrap();
            drop(store);
            let mut again = FileStore::open(&path).unwrap();
            let key = RecordKey::new(Space::Channel, [99]);
            assert_eq!(again.get(&key).unwrap().as_deref(), Some(&b"on"[..]));
        }
    }
}

#[test]
fn a_changed_byte_before_the_end_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut store = FileStore::open(&path).unwrap();
    let mut first_end = 0;
    for n in 0..3u8 {
        let at = store.position().unwrap();
        store
            .append(at.writer_epoch, at.next_seq(), &[batch(n, &[n; 20])])
            .unwrap();
        if n == 1 {
            first_end = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        }
    }
    drop(store);
    let whole = fs::read(&path).unwrap();
    for at in 0..first_end {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let refused = FileStore::open(&path);
        assert!(
            matches!(
                refused,
                Err(StoreError::Corrupt { .. } | StoreError::NewerVersion { .. })
            ),
            "byte {at}"
        );
    }
}

#[test]
fn a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    drop(FileStore::open(&path).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[11] = 2;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        FileStore::open(&path),
        Err(StoreError::NewerVersion { found: 2, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), bytes, "and not touched");
}

#[test]
fn a_full_store_says_so_and_goes_on_with_more_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let options = FileOptions {
        max_bytes: Some(2_000),
        ..FileOptions::default()
    };
    let mut store = FileStore::open_with(&path, options).unwrap();
    let mut written = 0u8;
    let error = loop {
        let at = store.position().unwrap();
        match store.append(at.writer_epoch, at.next_seq(), &[batch(written, &[1; 100])]) {
            Ok(()) => written += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("free space"));
    drop(store);
    let mut store = FileStore::open(&path).unwrap();
    assert_eq!(store.position().unwrap().batch_seq, u64::from(written));
    assert_eq!(
        load_for_start(&mut store).unwrap().len(),
        usize::from(written)
    );
}

#[test]
fn compaction_bounds_the_file_and_survives_a_stale_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let options = FileOptions {
        compact_above: 10_000,
        ..FileOptions::default()
    };
    let mut store = FileStore::open_with(&path, options).unwrap();
    for n in 0..2_000u32 {
        let at = store.position().unwrap();
        store
            .append(
                at.writer_epoch,
                at.next_seq(),
                &[batch(1, &n.to_be_bytes())],
            )
            .unwrap();
    }
    assert!(fs::metadata(&path).unwrap().len() < 25_000);
    assert_eq!(store.position().unwrap().batch_seq, 2_000);
    drop(store);
    fs::write(dir.path().join("log.new"), b"half a compaction").unwrap();
    let mut store = FileStore::open(&path).unwrap();
    assert_eq!(store.position().unwrap().batch_seq, 2_000);
    let value = store.get(&RecordKey::new(Space::Channel, [1])).unwrap();
    assert_eq!(value, Some(1_999u32.to_be_bytes().to_vec()));
    assert!(!dir.path().join("log.new").exists());
}
