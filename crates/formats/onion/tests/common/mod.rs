//! Reads the data files under `vectors/`.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use bitcoin::{
    hex::FromHex,
    secp256k1::{PublicKey, SecretKey},
};
use fulmen_onion::SharedSecret;

pub(crate) struct Item(BTreeMap<String, String>);

pub(crate) fn items(file: &str) -> Vec<Item> {
    let mut items = vec![];
    let mut item = BTreeMap::new();
    for line in file.lines().chain([""]) {
        if line.is_empty() {
            if !item.is_empty() {
                items.push(Item(std::mem::take(&mut item)));
            }
        } else if !line.starts_with('#') {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            item.insert(name.to_string(), value.to_string());
        }
    }
    items
}

impl Item {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        Vec::from_hex(self.text(name)).unwrap()
    }

    pub(crate) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    pub(crate) fn point(&self, name: &str) -> PublicKey {
        PublicKey::from_slice(&self.bytes(name)).unwrap()
    }

    pub(crate) fn key(&self, name: &str) -> SecretKey {
        SecretKey::from_slice(&self.bytes(name)).unwrap()
    }

    pub(crate) fn secret(&self, name: &str) -> SharedSecret {
        SharedSecret::new(self.array(name))
    }

    pub(crate) fn numbers(&self, name: &str) -> Option<Vec<u64>> {
        self.get(name)
            .map(|text| text.split(' ').map(|n| n.parse().unwrap()).collect())
    }
}
