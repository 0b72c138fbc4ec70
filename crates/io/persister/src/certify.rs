//! The suite that every store must pass.
//!
//! Give [`certify`] a function that opens the store of a given name: the same name gives the same data
//! again, also after the store was dropped. It panics with what is wrong.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! fulmen_persister::certify::certify(|name| {
//!     Ok(Box::new(fulmen_persister::FileStore::open(dir.path().join(name))?))
//! });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeMap;

use fulmen_types::record::{RecordKey, Space, WriteBatch};

use crate::{Store, StoreError, after, load_for_start};

/// What [`certify`] opens.
pub type Opened = Result<Box<dyn Store>, StoreError>;

/// Runs the whole suite.
pub fn certify(mut open: impl FnMut(&str) -> Opened) {
    round_trip(&mut open);
    turns(&mut open);
    groups(&mut open);
    one_writer(&mut open);
    paging(&mut open);
    big_values(&mut open);
    random_history(&mut open);
}

/// A store under test with its writer's turn.
struct Subject {
    store: Box<dyn Store>,
    epoch: u64,
    next: u64,
}

impl Subject {
    fn open(open: &mut dyn FnMut(&str) -> Opened, name: &str) -> Self {
        let mut store = open(name).expect("the store opens");
        let at = store.position().expect("the position is readable");
        Self {
            store,
            epoch: at.writer_epoch,
            next: at.next_seq(),
        }
    }

    fn append(&mut self, batches: &[WriteBatch]) {
        self.store
            .append(self.epoch, self.next, batches)
            .expect("the append succeeds");
        self.next += batches.len() as u64;
    }

    fn get(&mut self, key: &RecordKey) -> Option<Vec<u8>> {
        self.store.get(key).expect("the record is readable")
    }
}

fn key(space: Space, name: &[u8]) -> RecordKey {
    RecordKey::new(space, name)
}

fn put(writes: &[(RecordKey, Option<&[u8]>)]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for (key, value) in writes {
        match value {
            Some(value) => batch.put(key.clone(), value.to_vec()),
            None => batch.delete(key.clone()),
        }
    }
    batch
}

fn round_trip(open: &mut dyn FnMut(&str) -> Opened) {
    let a = key(Space::Channel, b"a");
    let same_key_elsewhere = key(Space::Htlc, b"a");
    let empty = key(Space::Channel, b"");
    let mut s = Subject::open(open, "round-trip");
    assert_eq!(s.get(&a), None, "a new store is empty");
    s.append(&[put(&[(a.clone(), Some(b"1")), (empty.clone(), Some(b""))])]);
    s.append(&[put(&[(same_key_elsewhere.clone(), Some(b"2"))])]);
    assert_eq!(
        s.get(&a).as_deref(),
        Some(&b"1"[..]),
        "what was put can be read"
    );
    assert_eq!(
        s.get(&empty).as_deref(),
        Some(&b""[..]),
        "empty keys and values are values"
    );
    s.append(&[put(&[(a.clone(), Some(b"3")), (empty.clone(), None)])]);
    assert_eq!(
        s.get(&a).as_deref(),
        Some(&b"3"[..]),
        "a later put replaces"
    );
    assert_eq!(s.get(&empty), None, "a delete deletes");
    assert_eq!(
        s.get(&same_key_elsewhere).as_deref(),
        Some(&b"2"[..]),
        "spaces are apart"
    );
    s.append(&[put(&[(key(Space::Peer, b"never there"), None)])]);
    let before = s.store.position().expect("position");
    drop(s);

    let mut s = Subject::open(open, "round-trip");
    let now = s.store.position().expect("position");
    assert_eq!(
        now.batch_seq, before.batch_seq,
        "the sequence goes on over a reopen"
    );
    assert!(
        now.writer_epoch > before.writer_epoch,
        "each open takes a new writer epoch"
    );
    assert_eq!(
        s.get(&a).as_deref(),
        Some(&b"3"[..]),
        "what was put survives a reopen"
    );
    assert_eq!(s.get(&empty), None, "what was deleted stays deleted");
    s.append(&[put(&[(a.clone(), None)])]);
    assert_eq!(s.get(&a), None, "the store can be written after a reopen");
    let records = load_for_start(s.store.as_mut()).expect("load");
    assert_eq!(
        records,
        vec![(same_key_elsewhere, b"2".to_vec())],
        "loading gives what is there"
    );
}

fn turns(open: &mut dyn FnMut(&str) -> Opened) {
    let a = key(Space::Node, b"a");
    let mut s = Subject::open(open, "turns");
    s.append(&[put(&[(a.clone(), Some(b"1"))])]);
    let other = [put(&[(a.clone(), Some(b"2"))])];
    let (epoch, next) = (s.epoch, s.next);
    for (epoch, seq) in [
        (epoch, next - 1),
        (epoch, next + 1),
        (epoch + 1, next),
        (epoch - 1, next),
    ] {
        let refused = s.store.append(epoch, seq, &other);
        assert!(
            matches!(
                refused,
                Err(StoreError::Fenced { .. } | StoreError::OutOfOrder { .. })
            ),
            "an append out of turn ({epoch}, {seq}) is refused, got {refused:?}"
        );
        assert_eq!(
            s.get(&a).as_deref(),
            Some(&b"1"[..]),
            "a refused append changes nothing"
        );
    }
    let at = s.store.reopen().expect("reopen");
    assert!(at.writer_epoch > epoch, "a reopen takes a new writer epoch");
    assert_eq!(at.next_seq(), next, "a reopen keeps the sequence");
    assert!(
        matches!(
            s.store.append(epoch, next, &other),
            Err(StoreError::Fenced { .. })
        ),
        "the old epoch is fenced off"
    );
    s.epoch = at.writer_epoch;
    s.append(&other);
    assert_eq!(s.get(&a).as_deref(), Some(&b"2"[..]));
}

fn groups(open: &mut dyn FnMut(&str) -> Opened) {
    let (a, b) = (key(Space::Payment, b"a"), key(Space::Payment, b"b"));
    let mut s = Subject::open(open, "groups");
    let first = s.next;
    s.append(&[
        put(&[(a.clone(), Some(b"1")), (b.clone(), Some(b"1"))]),
        WriteBatch::new(),
        put(&[(a.clone(), None)]),
        put(&[(a.clone(), Some(b"4")), (b.clone(), None)]),
    ]);
    assert_eq!(
        s.get(&a).as_deref(),
        Some(&b"4"[..]),
        "batches of a group apply in order"
    );
    assert_eq!(s.get(&b), None);
    let at = s.store.position().expect("position");
    assert_eq!(
        at.batch_seq,
        first + 3,
        "each batch of a group counts, empty ones too"
    );
    s.append(&[]);
    assert_eq!(
        s.store.position().expect("position"),
        at,
        "an empty group changes nothing"
    );
}

fn one_writer(open: &mut dyn FnMut(&str) -> Opened) {
    let mut s = Subject::open(open, "one-writer");
    match open("one-writer") {
        // Refused at once, as by a lock.
        Err(StoreError::Locked { .. }) => {}
        Err(other) => panic_with(&format!("a second writer is refused as such, got {other}")),
        // Or the first one is fenced off.
        Ok(_second) => {
            let refused = s.store.append(s.epoch, s.next, &[WriteBatch::new()]);
            assert!(
                matches!(refused, Err(StoreError::Fenced { .. })),
                "of two writers one is refused"
            );
            return;
        }
    }
    s.append(&[put(&[(key(Space::Node, b"a"), Some(b"1"))])]);
    drop(s);
    Subject::open(open, "one-writer").append(&[WriteBatch::new()]);
}

fn paging(open: &mut dyn FnMut(&str) -> Opened) {
    let mut s = Subject::open(open, "paging");
    let mut batch = WriteBatch::new();
    for n in 0..2_500u32 {
        batch.put(
            key(Space::PaymentArchive, &n.to_be_bytes()),
            n.to_le_bytes().to_vec(),
        );
    }
    batch.put(key(Space::Edge, &[0xff; 40]), vec![1]);
    batch.put(key(Space::InvoiceArchive, b""), vec![1]);
    s.append(&[batch]);
    let mut from = 7u32.to_be_bytes().to_vec();
    let mut seen = Vec::new();
    loop {
        let page = s
            .store
            .scan(Space::PaymentArchive, &from, 100)
            .expect("scan");
        assert!(page.len() <= 100, "a page keeps to its limit");
        let Some((last, _)) = page.last() else { break };
        from = after(last);
        seen.extend(page);
    }
    let expected: Vec<_> = (7..2_500u32)
        .map(|n| (n.to_be_bytes().to_vec(), n.to_le_bytes().to_vec()))
        .collect();
    assert_eq!(
        seen, expected,
        "pages give each record of the space once, in key order"
    );
    let mut count = 0;
    s.store
        .load(Space::PaymentArchive, &mut |_, _| count += 1)
        .expect("load");
    assert_eq!(count, 2_500, "loading gives all pages");
    let none = s.store.scan(Space::PaymentArchive, b"", 0).expect("scan");
    assert!(none.is_empty(), "a page of no records has none");
}

fn big_values(open: &mut dyn FnMut(&str) -> Opened) {
    let mut s = Subject::open(open, "big");
    let big: Vec<u8> = (0..3_000_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let name = vec![7; 1_000];
    s.append(&[put(&[(key(Space::Edge, &name), Some(&big))])]);
    drop(s);
    let mut s = Subject::open(open, "big");
    assert_eq!(
        s.get(&key(Space::Edge, &name)),
        Some(big),
        "big values come back whole"
    );
    let mut too_big = WriteBatch::new();
    too_big.put(key(Space::Edge, &vec![0; crate::MAX_KEY_BYTES + 1]), vec![]);
    let refused = s.store.append(s.epoch, s.next, &[too_big]);
    assert!(
        matches!(refused, Err(StoreError::TooBig { .. })),
        "too long a key is refused"
    );
}

/// A thousand random groups against a map in memory, reopened now and then.
fn random_history(open: &mut dyn FnMut(&str) -> Opened) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut model: BTreeMap<RecordKey, Vec<u8>> = BTreeMap::new();
    let mut s = Subject::open(open, "random");
    for round in 0..300 {
        let mut group = Vec::new();
        for _ in 0..=random.below(3) {
            let mut batch = WriteBatch::new();
            for _ in 0..random.below(6) {
                let space = if random.below(2) == 0 {
                    Space::Channel
                } else {
                    Space::Htlc
                };
                let key = key(space, &[u8::try_from(random.below(12)).unwrap_or(0)]);
                if random.below(4) == 0 {
                    batch.delete(key);
                } else {
                    let len = usize::try_from(random.below(300)).unwrap_or(0);
                    batch.put(key, vec![u8::try_from(round % 251).unwrap_or(0); len]);
                }
            }
            group.push(batch);
        }
        for (key, value) in group.iter().flat_map(WriteBatch::iter) {
            match value {
                Some(value) => model.insert(key.clone(), value.to_vec()),
                None => model.remove(key),
            };
        }
        s.append(&group);
        if random.below(40) == 0 {
            drop(s);
            s = Subject::open(open, "random");
        }
        if round % 20 == 0 {
            let there: BTreeMap<_, _> = load_for_start(s.store.as_mut())
                .expect("load")
                .into_iter()
                .collect();
            assert_eq!(
                there, model,
                "after round {round} the store holds what was written"
            );
        }
    }
}

/// A small generator (xorshift): the suite is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[expect(
    clippy::panic,
    reason = "a failed certification is reported by panicking"
)]
fn panic_with(what: &str) {
    panic!("{what}");
}
