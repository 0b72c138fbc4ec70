//! The conditions of a query, as labels before the name of a seed: BOLT 10, Query Semantics.

use std::fmt;

use bitcoin::secp256k1::PublicKey;

use crate::node_label::{NodeLabelError, node_label, parse_node_label};

/// The longest name, in characters without the dot at the end (RFC 1035, 2.3.4).
pub(crate) const MAX_NAME: usize = 253;
/// The longest label.
const MAX_LABEL: usize = 63;

/// Kinds of addresses, as bits: bit *n* is the address type *n* of BOLT 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressTypes(pub u32);

impl AddressTypes {
    /// Type 1.
    pub const IPV4: Self = Self(1 << 1);
    /// Type 2.
    pub const IPV6: Self = Self(1 << 2);
    /// Both, which is the default.
    pub const IP: Self = Self(Self::IPV4.0 | Self::IPV6.0);

    /// Whether all of the others are among these.
    pub const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What is asked of a seed. A seed may ignore any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// `r`: the realm; 0 is Bitcoin.
    pub realm: u8,
    /// `a`: the kinds of addresses; for SRV queries only.
    pub address_types: AddressTypes,
    /// `l`: one node instead of some.
    pub node_id: Option<PublicKey>,
    /// `n`: how many records.
    pub count: u16,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            realm: 0,
            address_types: AddressTypes::IP,
            node_id: None,
            count: 25,
        }
    }
}

/// What is wrong with a name of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionsError {
    /// The name is not below the seed's.
    NotBelowSeed,
    /// The seed's name is none: labels of 1 to 63 letters, digits, `-` and `_`, 253 characters in all.
    BadName,
    /// The value of this key is none.
    BadValue(char),
    /// The value of `l` names no node.
    BadNode(NodeLabelError),
}

impl fmt::Display for ConditionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBelowSeed => f.write_str("the name is not below that of the seed"),
            Self::BadName => f.write_str("that is no DNS name"),
            Self::BadValue(key) => write!(f, "the value of `{key}` is not understood"),
            Self::BadNode(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ConditionsError {}

impl Conditions {
    /// The name to ask for. What is as the default is left out.
    ///
    /// # Errors
    /// [`ConditionsError::BadName`] when the seed's name is none, or leaves no room.
    pub fn name(&self, seed: &str) -> Result<String, ConditionsError> {
        let default = Self::default();
        let mut labels = Vec::new();
        if let Some(node) = &self.node_id {
            labels.push(node_label(node));
        }
        if self.realm != default.realm {
            labels.push(format!("r{}", self.realm));
        }
        if self.address_types != default.address_types {
            labels.push(format!("a{}", self.address_types.0));
        }
        if self.count != default.count {
            labels.push(format!("n{}", self.count));
        }
        labels.push(normal_name(seed)?);
        let name = labels.join(".");
        if name.len() > MAX_NAME {
            return Err(ConditionsError::BadName);
        }
        Ok(name)
    }

    /// Reads the name of a query as a seed does. Labels of unknown keys, and those that begin with `_` (as
    /// in `_nodes._tcp`), say nothing.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn parse(name: &str, seed: &str) -> Result<Self, ConditionsError> {
        let (name, seed) = (normal_name(name)?, normal_name(seed)?);
        let before = name
            .strip_suffix(&seed)
            .ok_or(ConditionsError::NotBelowSeed)?;
        let mut conditions = Self::default();
        if before.is_empty() {
            return Ok(conditions);
        }
        let labels = before
            .strip_suffix('.')
            .ok_or(ConditionsError::NotBelowSeed)?;
        // "MUST evaluate the conditions from the seed root domain by going up-the-tree", and a key that
        // comes again counts again: of two, the left one stays.
        for label in labels.rsplit('.') {
            conditions.take(label)?;
        }
        Ok(conditions)
    }

    fn take(&mut self, label: &str) -> Result<(), ConditionsError> {
        let mut letters = label.chars();
        let Some(key) = letters.next() else {
            return Err(ConditionsError::BadName);
        };
        let value = letters.as_str();
        match key {
            'r' => self.realm = number(key, value)?,
            'a' => self.address_types = AddressTypes(number(key, value)?),
            'n' => self.count = number(key, value)?,
            // The key is the first letter of the bech32 prefix `ln`.
            'l' => {
                let node = parse_node_label(label).map_err(ConditionsError::BadNode)?;
                self.node_id = Some(node);
            }
            _ => {}
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(key: char, digits: &str) -> Result<T, ConditionsError> {
    let bad = ConditionsError::BadValue(key);
    // `parse` would take a sign as well.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad);
    }
    digits.parse().map_err(|_| bad)
}

/// In lower case and without the dot at the end.
pub(crate) fn normal_name(name: &str) -> Result<String, ConditionsError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > MAX_NAME || !name.split('.').all(fits) {
        return Err(ConditionsError::BadName);
    }
    Ok(name.to_ascii_lowercase())
}
