//! What the driver drives.

use std::{error::Error, sync::Arc};

use bitcoin::{OutPoint, secp256k1::PublicKey};
use fulmen_gossip::{NetworkGraph, ToCheck};
use fulmen_node::{BlockId, Boot, CoinPurpose, Effects, Input, Node};
use fulmen_types::Timestamp;
use fulmen_wire::Message;

use crate::committer::Records;

/// A state machine with the node's boundary: the node itself, or a stand-in for tests.
pub trait Heart: Send + 'static {
    /// One step.
    fn handle(&mut self, now: Timestamp, input: Input) -> Effects;

    /// The network as it is known now.
    fn graph(&mut self) -> Arc<NetworkGraph>;

    /// Whether a peer's message about the network is worth a check of its signatures before the heart takes
    /// it, as [`Input::CheckedGossip`] then. Asked for these messages only.
    fn gossip_to_check(&self, _now: Timestamp, _peer: PublicKey, message: Message) -> ToCheck {
        ToCheck::AsItIs(message)
    }

    /// The tip of the chain and its ancestors as far as they are known, newest first: from there on the
    /// chain is followed.
    fn recent_blocks(&self) -> Vec<BlockId>;

    /// The coins of the wallet that are held, by purpose: at start the wallet frees all others (rule 9).
    fn coin_leases(&self) -> Vec<(CoinPurpose, Vec<OutPoint>)>;
}

/// How a node is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As usual.
    Normal,
    /// Without peers and commands: it follows the chain and claims what is its own (rule 7).
    EnforceOnly,
}

/// What a heart starts from.
#[derive(Debug)]
pub struct Start {
    /// The records that are there, of all spaces that are loaded at start; none for a new store.
    pub records: Records,
    /// What is new with each start.
    pub boot: Boot,
    /// Now.
    pub now: Timestamp,
    /// How it is to run.
    pub mode: Mode,
}

/// Makes the heart, new or from its records, with the effects of its first step. Called once at start,
/// and once more should a commit fail.
pub type Restore<H> =
    Box<dyn FnMut(Start) -> Result<(H, Effects), Box<dyn Error + Send + Sync>> + Send>;

impl Heart for Node {
    fn handle(&mut self, now: Timestamp, input: Input) -> Effects {
        Self::handle(self, now, input)
    }

    fn graph(&mut self) -> Arc<NetworkGraph> {
        Self::graph(self)
    }

    fn gossip_to_check(&self, now: Timestamp, peer: PublicKey, message: Message) -> ToCheck {
        Self::gossip_to_check(self, now, peer, message)
    }

    fn recent_blocks(&self) -> Vec<BlockId> {
        self.chain_tip()
    }

    fn coin_leases(&self) -> Vec<(CoinPurpose, Vec<OutPoint>)> {
        Self::coin_leases(self)
    }
}
