//! What a signature signs: BOLT 12, "Signature Calculation".

use alloc::vec::Vec;

use bitcoin::{
    hashes::{Hash, HashEngine, sha256},
    secp256k1::{Message, PublicKey, Secp256k1, Verification, schnorr},
};

use crate::stream::{Range, Record, records};

/// The Merkle root over the records of a TLV stream, signatures left out. `None` for a stream without
/// records.
///
/// Each record is a leaf beside a nonce, so that somebody who is shown a part of the message can't guess
/// the rest.
pub fn merkle_root(tlv_stream: &[u8]) -> Option<[u8; 32]> {
    let tree = Tree::new(tlv_stream);
    let mut level: Vec<[u8; 32]> = records(tlv_stream)
        .filter(|record| Range::of(record.kind) != Range::Signature)
        .map(|record| tree.leaf_with_nonce(&record))
        .collect();
    while level.len() > 1 {
        // An odd one out goes up as it is: the deepest part is that of the lowest types.
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [a, b] => tree.branch(a, b),
                _ => pair[0],
            })
            .collect();
    }
    level.pop()
}

/// What the key signs with BIP 340: the Merkle root, tagged with the message and the field.
pub fn signature_hash(message_name: &str, field_name: &str, merkle_root: &[u8; 32]) -> [u8; 32] {
    let tag = [b"lightning", message_name.as_bytes(), field_name.as_bytes()].concat();
    let mut engine = tagged(&tag);
    engine.input(merkle_root);
    finish(engine)
}

/// Whether `signature` is one of `hash` by `key`.
pub(crate) fn verify<C: Verification>(
    secp: &Secp256k1<C>,
    signature: &schnorr::Signature,
    hash: [u8; 32],
    key: &PublicKey,
) -> bool {
    let (key, _) = key.x_only_public_key();
    secp.verify_schnorr(signature, &Message::from_digest(hash), &key)
        .is_ok()
}

/// The three tagged hashes, each after its tag.
struct Tree {
    leaf: sha256::HashEngine,
    nonce: sha256::HashEngine,
    branch: sha256::HashEngine,
}

impl Tree {
    fn new(tlv_stream: &[u8]) -> Self {
        let mut nonce_tag = b"LnNonce".to_vec();
        if let Some(first) = records(tlv_stream).next() {
            nonce_tag.extend_from_slice(first.bytes);
        }
        Self {
            leaf: tagged(b"LnLeaf"),
            nonce: tagged(&nonce_tag),
            branch: tagged(b"LnBranch"),
        }
    }

    fn leaf_with_nonce(&self, record: &Record<'_>) -> [u8; 32] {
        let mut leaf = self.leaf.clone();
        leaf.input(record.bytes);
        let mut nonce = self.nonce.clone();
        nonce.input(record.kind_bytes());
        self.branch(&finish(leaf), &finish(nonce))
    }

    fn branch(&self, a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
        let mut engine = self.branch.clone();
        engine.input(a.min(b));
        engine.input(a.max(b));
        finish(engine)
    }
}

/// SHA256(tag) twice, as BIP 340 starts a tagged hash.
fn tagged(tag: &[u8]) -> sha256::HashEngine {
    let tag = sha256::Hash::hash(tag).to_byte_array();
    let mut engine = sha256::Hash::engine();
    engine.input(&tag);
    engine.input(&tag);
    engine
}

fn finish(engine: sha256::HashEngine) -> [u8; 32] {
    sha256::Hash::from_engine(engine).to_byte_array()
}
