//! What a signature signs: BOLT 12, "Signature Calculation"; and the tree with a part of its leaves hidden,
//! of payer proofs.

use alloc::vec::Vec;

use bitcoin::{
    hashes::{Hash, HashEngine, sha256},
    secp256k1::{Message, PublicKey, Secp256k1, Verification, schnorr},
};

use crate::stream::{Range, Record, records};

pub(crate) type Hash32 = [u8; 32];

/// The Merkle root over the records of a TLV stream, signatures left out. `None` for a stream without
/// records.
///
/// Each record is a leaf beside a nonce, so that somebody who is shown a part of the message can't guess
/// the rest.
pub fn merkle_root(tlv_stream: &[u8]) -> Option<[u8; 32]> {
    let tree = Tree::new();
    let leaves: Vec<Subtree> = tree
        .leaves(tlv_stream)
        .map(|leaf| Subtree::Shown(leaf.hash))
        .collect();
    tree.root(&leaves, &mut |_| None)
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

/// A record in the tree.
pub(crate) struct Leaf {
    pub(crate) kind: u64,
    /// What hides the record from guesses.
    pub(crate) nonce: Hash32,
    /// The record and its nonce.
    pub(crate) hash: Hash32,
}

/// A leaf or a branch of a tree that is shown in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subtree {
    /// Something of it is shown.
    Shown(Hash32),
    /// Nothing of it is; its hash, for those who have it.
    Hidden(Option<Hash32>),
}

/// The tagged hashes of leaves and branches, each after its tag.
pub(crate) struct Tree {
    leaf: sha256::HashEngine,
    branch: sha256::HashEngine,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            leaf: tagged(b"LnLeaf"),
            branch: tagged(b"LnBranch"),
        }
    }

    /// The leaves of a stream, signatures left out.
    pub(crate) fn leaves<'a>(&'a self, tlv_stream: &'a [u8]) -> impl Iterator<Item = Leaf> + 'a {
        let mut nonce_tag = b"LnNonce".to_vec();
        if let Some(first) = records(tlv_stream).next() {
            nonce_tag.extend_from_slice(first.bytes);
        }
        let nonces = tagged(&nonce_tag);
        records(tlv_stream)
            .filter(|record| Range::of(record.kind) != Range::Signature)
            .map(move |record| {
                let mut nonce = nonces.clone();
                nonce.input(record.kind_bytes());
                let nonce = finish(nonce);
                Leaf {
                    kind: record.kind,
                    nonce,
                    hash: self.leaf(&record, &nonce),
                }
            })
    }

    /// The hash of a record and its nonce.
    pub(crate) fn leaf(&self, record: &Record<'_>, nonce: &Hash32) -> Hash32 {
        let mut leaf = self.leaf.clone();
        leaf.input(record.bytes);
        self.branch(&finish(leaf), nonce)
    }

    /// The root of a tree of which something is shown.
    ///
    /// Where a hidden subtree meets a shown one, `hidden` is given the hidden one's hash, if that is known,
    /// and gives the one to use: depth first, the lower types first, a branch after what is below it. `None`
    /// if it gives none, or if nothing is shown.
    pub(crate) fn root(
        &self,
        leaves: &[Subtree],
        hidden: &mut dyn FnMut(Option<Hash32>) -> Option<Hash32>,
    ) -> Option<Hash32> {
        match self.subtree(leaves, hidden)? {
            Subtree::Shown(hash) => Some(hash),
            Subtree::Hidden(_) => None,
        }
    }

    fn subtree(
        &self,
        leaves: &[Subtree],
        hidden: &mut dyn FnMut(Option<Hash32>) -> Option<Hash32>,
    ) -> Option<Subtree> {
        if let [] | [_] = leaves {
            return leaves.first().copied();
        }
        // The left side is as full as can be: the deepest part is that of the lowest types.
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let left = self.subtree(left, hidden)?;
        let (a, b) = match (left, self.subtree(right, hidden)?) {
            (Subtree::Hidden(a), Subtree::Hidden(b)) => {
                return Some(Subtree::Hidden(a.zip(b).map(|(a, b)| self.branch(&a, &b))));
            }
            (Subtree::Shown(a), Subtree::Shown(b)) => (a, b),
            (Subtree::Shown(a), Subtree::Hidden(b)) => (a, hidden(b)?),
            (Subtree::Hidden(a), Subtree::Shown(b)) => (hidden(a)?, b),
        };
        Some(Subtree::Shown(self.branch(&a, &b)))
    }

    fn branch(&self, a: &Hash32, b: &Hash32) -> Hash32 {
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

fn finish(engine: sha256::HashEngine) -> Hash32 {
    sha256::Hash::from_engine(engine).to_byte_array()
}
