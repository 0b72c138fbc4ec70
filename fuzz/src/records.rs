//! Stored records: a node restored from a store that somebody damaged.

use std::sync::LazyLock;

use bitcoin::{BlockHash, Network, hashes::Hash};
use fulmen_node::{BlockId, Boot, Input, Node, NodeConfig, Records};
use fulmen_types::{
    BlockHeight, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, U16Bytes},
    record::{RecordKey, Space, WriteBatch},
};

use crate::keys::public;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn boot() -> Boot {
    Boot { entropy: [5; 32] }
}

/// Those of a new node, which every store has.
static NEW: LazyLock<Records> = LazyLock::new(|| {
    let tip = BlockId {
        height: BlockHeight::new(100),
        hash: BlockHash::from_byte_array([1; 32]),
    };
    let config = NodeConfig::new(Network::Regtest);
    let (_, effects) = Node::create(config, public(1), &boot(), NOW, tip);
    let mut records = Records::new();
    apply(&mut records, &effects.batch);
    records
});

fn apply(records: &mut Records, batch: &WriteBatch) {
    for (key, value) in batch.iter() {
        records.retain(|(known, _)| known != key);
        if let Some(value) = value {
            records.push((key.clone(), value.to_vec()));
        }
    }
    records.sort();
}

/// Records one after the other: the space, then key and value behind their lengths of 16 bits. They replace
/// those of a new node.
pub(crate) fn records(data: &[u8]) {
    let Ok(given) = read(data) else { return };
    let mut records = NEW.clone();
    for (key, value) in given {
        records.retain(|(known, _)| *known != key);
        records.push((key, value));
    }
    records.sort();
    let restore = |records: &Records| {
        Node::restore(
            NodeConfig::new(Network::Regtest),
            public(1),
            &boot(),
            NOW,
            records,
        )
    };
    let (mut node, effects) = match restore(&records) {
        Ok(restored) => restored,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // What a node writes at its start is read at the next one, and the node is the same then.
    apply(&mut records, &effects.batch);
    let (mut again, _) = restore(&records).expect("a node reads what it wrote");
    assert_eq!(format!("{:?}", node.info()), format!("{:?}", again.info()));
    let shown = |node: &Node| format!("{:?} {:?}", node.channels_info(), node.balance_info());
    assert_eq!(shown(&node), shown(&again));
    assert!(node.payments().eq(again.payments()));
    assert!(node.invoices().eq(again.invoices()));
    let effects = node.handle(NOW, Input::Tick);
    apply(&mut records, &effects.batch);
    restore(&records).expect("a node reads what it wrote");
}

fn read(data: &[u8]) -> Result<Records, DecodeError> {
    let mut r = Reader::new(data);
    let mut records = Records::new();
    while !r.is_empty() {
        let space = Space::from_u8(u8::decode(&mut r)?)
            .filter(|space| space.is_loaded_at_start())
            .ok_or(DecodeError::InvalidValue("no such space"))?;
        let key = RecordKey::new(space, U16Bytes::decode(&mut r)?.0);
        records.push((key, U16Bytes::decode(&mut r)?.0));
    }
    Ok(records)
}

/// The input that gives these records.
pub fn encode_records(records: &Records) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        key.space.to_u8().encode(&mut out);
        U16Bytes(key.key.clone()).encode(&mut out);
        U16Bytes(value.clone()).encode(&mut out);
    }
    out
}
