//! What is remembered over a restart.

use fulmen_types::{
    NodeId, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader, decode_list, decode_text, encode_text},
};

use super::{ADDRESSES, Peer, StandardPolicy};
use crate::score::{Score, WORST};

const VERSION: u8 = 1;

/// A peer that was reached, or that a user wants left alone.
struct Known {
    peer: NodeId,
    resting: bool,
    last_good: Timestamp,
    worked: Vec<Address>,
}

struct Address(String);

struct Timed(NodeId, Timestamp);

struct Blamed(NodeId, Score);

impl Encode for Address {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(&self.0, out);
    }
}

impl Decode for Address {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode_text(r).map(Self)
    }
}

impl Encode for Known {
    fn encode(&self, out: &mut Vec<u8>) {
        self.peer.encode(out);
        self.resting.encode(out);
        self.last_good.encode(out);
        self.worked.as_slice().encode(out);
    }
}

impl Decode for Known {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            peer: Decode::decode(r)?,
            resting: Decode::decode(r)?,
            last_good: Timestamp::decode(r)?,
            worked: decode_list(r)?,
        })
    }
}

impl Encode for Timed {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

impl Decode for Timed {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Decode::decode(r)?, Timestamp::decode(r)?))
    }
}

impl Encode for Blamed {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.points.encode(out);
        self.1.at.encode(out);
    }
}

impl Decode for Blamed {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let peer = Decode::decode(r)?;
        let points = u32::decode(r)?.min(WORST);
        let at = Timestamp::decode(r)?;
        Ok(Self(peer, Score { points, at }))
    }
}

struct Memory {
    known: Vec<Known>,
    bans: Vec<Timed>,
    scores: Vec<Blamed>,
}

impl Memory {
    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        if u8::decode(&mut r)? != VERSION {
            return Err(DecodeError::InvalidValue("a memory of another version"));
        }
        let memory = Self {
            known: decode_list(&mut r)?,
            bans: decode_list(&mut r)?,
            scores: decode_list(&mut r)?,
        };
        r.finish()?;
        Ok(memory)
    }
}

impl StandardPolicy {
    pub(super) fn memorise(&self, now: Timestamp) -> Vec<u8> {
        let known: Vec<Known> = self
            .peers
            .iter()
            .filter(|(_, entry)| entry.resting || !entry.worked.is_empty())
            .map(|(peer, entry)| Known {
                peer: *peer,
                resting: entry.resting,
                last_good: entry.last_good,
                worked: entry.worked.iter().cloned().map(Address).collect(),
            })
            .collect();
        let bans = self.bans.iter().filter(|(_, until)| **until > now);
        let bans: Vec<Timed> = bans.map(|(peer, until)| Timed(*peer, *until)).collect();
        let scores = self.scores.peers.iter();
        let scores: Vec<Blamed> = scores.map(|(p, score)| Blamed(*p, *score)).collect();
        let mut out = vec![VERSION];
        known.as_slice().encode(&mut out);
        bans.as_slice().encode(&mut out);
        scores.as_slice().encode(&mut out);
        out
    }

    pub(super) fn remember(&mut self, bytes: &[u8]) {
        let Ok(memory) = Memory::read(bytes) else {
            return;
        };
        for known in memory.known {
            let mut worked: Vec<String> = known.worked.into_iter().map(|a| a.0).collect();
            worked.truncate(ADDRESSES);
            let entry = Peer {
                resting: known.resting,
                worked,
                last_good: known.last_good,
                ..Peer::default()
            };
            self.peers.insert(known.peer, entry);
        }
        self.bans = memory.bans.into_iter().map(|t| (t.0, t.1)).collect();
        self.scores.peers = memory.scores.into_iter().map(|b| (b.0, b.1)).collect();
        self.forget();
    }
}
