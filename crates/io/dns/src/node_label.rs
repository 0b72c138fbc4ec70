//! A node's key as a label of a DNS name: BOLT 10, Query Semantics and Reply Construction.

use std::fmt;

use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};
use bitcoin::secp256k1::PublicKey;

/// Before the separator. Its first letter is the key `l` of the condition.
const HRP: Hrp = Hrp::parse_unchecked("ln");

/// Why a label names no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeLabelError {
    /// It is no bech32, or its checksum is wrong.
    NotBech32,
    /// It is bech32 of something else: it should begin with `ln1`.
    OtherPrefix,
    /// The bytes are no key.
    NotAKey,
}

impl fmt::Display for NodeLabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBech32 => "the label is not bech32",
            Self::OtherPrefix => "the label does not begin with `ln1`",
            Self::NotAKey => "the label does not hold a node's key",
        })
    }
}

impl std::error::Error for NodeLabelError {}

/// The label of a node: `ln1...`, 62 characters.
pub fn node_label(node: &PublicKey) -> String {
    bech32::encode_lower::<Bech32>(HRP, &node.serialize())
        .expect("33 bytes are shorter than the longest bech32")
}

/// The node that a label names. Case does not matter in DNS, and name servers do change it.
///
/// # Errors
/// Why it names none.
pub fn parse_node_label(label: &str) -> Result<PublicKey, NodeLabelError> {
    let label = label.to_ascii_lowercase();
    let checked = CheckedHrpstring::new::<Bech32>(&label).map_err(|_| NodeLabelError::NotBech32)?;
    if checked.hrp() != HRP {
        return Err(NodeLabelError::OtherPrefix);
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    let node = PublicKey::from_slice(&bytes).map_err(|_| NodeLabelError::NotAKey)?;
    // One node, one label: neither another encoding of the key nor bits behind its end.
    if node_label(&node) != label {
        return Err(NodeLabelError::NotAKey);
    }
    Ok(node)
}
