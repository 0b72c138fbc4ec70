//! What a villain does to the messages of its node.

use fulmen_wire::{
    ChannelReestablish, GossipTimestampFilter, Message, Ping, QueryChannelRange, Warning,
};

use crate::{
    plan::{Trick, Villain},
    rng::Rng,
    world::World,
};

/// Earlier messages that may be said again.
const MEMORY: usize = 64;
/// Messages of one burst.
const BURST: u64 = 300;

/// What a villain remembers of its messages.
#[derive(Debug, Default)]
pub(crate) struct Twister {
    said: Vec<Vec<u8>>,
    /// Its last `open_channel`.
    open: Option<Vec<u8>>,
}

/// The type of `open_channel`.
const OPEN_CHANNEL: [u8; 2] = 32u16.to_be_bytes();

impl World {
    /// What becomes of a message on its way onto the wire.
    pub(crate) fn twist(&mut self, from: usize, to: usize, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if self.is_suspect(from) {
            self.remember(&bytes);
        }
        self.begin_to_cycle(from, &bytes);
        if !self.is_villain(from) {
            return vec![bytes];
        }
        if self.is_silent(from) {
            return Vec::new();
        }
        match self.plan.villain.map(|v| v.trick) {
            Some(Trick::Mutator { permille }) if self.rng.chance(permille) => {
                let twisted = self.mutate(bytes);
                self.stats.mutated += 1;
                let count = twisted.len();
                self.say(format!("n{from} twists a message to n{to} into {count}"));
                twisted
            }
            Some(Trick::Liar) => match Message::decode(&bytes) {
                Ok(Message::ChannelReestablish(truth)) if self.rng.chance(700) => {
                    let lie = lie(&mut self.rng, truth);
                    self.stats.mutated += 1;
                    self.say(format!("n{from} lies to n{to}: {lie:?}"));
                    vec![Message::ChannelReestablish(lie).encode()]
                }
                _ => vec![bytes],
            },
            _ => vec![bytes],
        }
    }

    fn remember(&mut self, bytes: &[u8]) {
        let place = self.rng.index(MEMORY);
        if bytes.starts_with(&OPEN_CHANNEL) {
            self.villainy.twister.open = Some(bytes.to_vec());
        }
        let said = &mut self.villainy.twister.said;
        if said.len() < MEMORY {
            said.push(bytes.to_vec());
        } else {
            said[place] = bytes.to_vec();
        }
    }

    /// An earlier message of the villain, or none.
    fn earlier(&mut self) -> Option<Vec<u8>> {
        let count = self.villainy.twister.said.len();
        let place = self.rng.index(count);
        self.villainy.twister.said.get(place).cloned()
    }

    fn mutate(&mut self, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        match self.rng.below(8) {
            // Dropped.
            0 => Vec::new(),
            // Doubled.
            1 => vec![bytes.clone(), bytes],
            // An earlier one before it, or in its place.
            2 => self.earlier().into_iter().chain([bytes]).collect(),
            3 => self.earlier().into_iter().collect(),
            // Cut, or longer.
            4 => {
                let len = self.rng.index(bytes.len());
                bytes.truncate(len.max(2));
                vec![bytes]
            }
            5 => {
                for _ in 0..self.rng.between(1, 40) {
                    bytes.push(self.rng.bytes32()[0]);
                }
                vec![bytes]
            }
            // Bits or a number within it changed; the channel's id mostly stays.
            6 => {
                let first = if bytes.len() > 34 && self.rng.chance(900) {
                    34
                } else {
                    2
                };
                if bytes.len() > first {
                    let place = first + self.rng.index(bytes.len() - first);
                    bytes[place] ^= 1 << self.rng.below(8);
                }
                vec![bytes]
            }
            _ => {
                let first = if bytes.len() > 42 { 34 } else { 2 };
                if bytes.len() >= first + 8 {
                    let place = first + self.rng.index(bytes.len() - first - 7);
                    let number = match self.rng.below(3) {
                        0 => 0,
                        1 => u64::MAX,
                        _ => self.rng.draw(),
                    };
                    bytes[place..place + 8].copy_from_slice(&number.to_be_bytes());
                }
                vec![bytes]
            }
        }
    }

    /// A burst of what nobody asked for, to every peer.
    pub(crate) fn flood(&mut self, host: usize) {
        let peers: Vec<(usize, u64)> = self.hosts[host]
            .connections
            .clone()
            .into_iter()
            .filter_map(|(peer, id)| Some((self.host_of(&peer)?, id)))
            .collect();
        if !matches!(
            self.plan.villain,
            Some(Villain {
                trick: Trick::Flooder,
                ..
            })
        ) {
            return;
        }
        for (_, connection) in peers {
            let count = self.rng.between(1, BURST);
            let kind = self.rng.below(6);
            for _ in 0..count {
                let bytes = self.junk(kind);
                if let Some(bytes) = bytes {
                    self.stats.mutated += 1;
                    self.put_on_wire(connection, host, bytes);
                }
            }
        }
    }

    fn junk(&mut self, kind: u64) -> Option<Vec<u8>> {
        let chain_hash =
            bitcoin::constants::ChainHash::using_genesis_block_const(bitcoin::Network::Regtest);
        Some(match kind {
            0 => Message::from(Ping {
                num_pong_bytes: 60_000,
                ignored: Vec::new(),
            })
            .encode(),
            1 => Message::from(GossipTimestampFilter {
                chain_hash,
                first_timestamp: 0,
                timestamp_range: u32::MAX,
            })
            .encode(),
            2 => Message::from(QueryChannelRange {
                chain_hash,
                first_blocknum: 0,
                number_of_blocks: u32::MAX,
                query_option: None,
            })
            .encode(),
            3 => Message::from(Warning {
                channel_id: fulmen_types::ChannelId::new(self.rng.bytes32()),
                data: vec![0x1b; 200],
            })
            .encode(),
            // An open of somebody, under another temporary id.
            4 => {
                let mut open = self.villainy.twister.open.clone()?;
                open.get_mut(34..66)?.copy_from_slice(&self.rng.bytes32());
                open
            }
            _ => self.earlier()?,
        })
    }
}

fn lie(rng: &mut Rng, truth: ChannelReestablish) -> ChannelReestablish {
    let mut number = |number: u64| match rng.below(6) {
        0 => number.wrapping_add(1),
        1 => number.saturating_sub(1),
        2 => 0,
        3 => rng.draw(),
        _ => number,
    };
    let mut lie = truth;
    lie.next_commitment_number = number(lie.next_commitment_number);
    lie.next_revocation_number = number(lie.next_revocation_number);
    if rng.chance(500) {
        lie.your_last_per_commitment_secret = rng.bytes32();
    }
    lie
}
