//! The node: what it holds, and the way of an input through it.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::ToString,
    vec::Vec,
};
use core::fmt;

use bitcoin::{OutPoint, Txid, secp256k1::PublicKey};
use fulmen_channel::IncomingHtlc;
use fulmen_enforce::Resolution;
use fulmen_gossip::Gossip;
use fulmen_payments::{IncomingRef, Invoices, Outgoing};
use fulmen_tx::{ChannelKeysId, Secp};
use fulmen_types::{
    BlockHeight, ChannelId, Features, Feerates, KeyStream, NodeId, ShortChannelId, Timestamp,
};

use crate::{
    chain::ChainState,
    channels::ChannelEntry,
    config::NodeConfig,
    effects::{Effects, NoteLevel},
    events::Events,
    input::Input,
    opening::Gathering,
    peers::Peer,
    port::WalletBalance,
    replies::Replies,
    requests::Requests,
    step::Step,
};

/// A Lightning node. See the crate's page for how it is driven.
///
/// It is a plain value: a clone goes its own way. A clone never speaks to the world, though: it would draw the
/// same secrets as the original.
#[derive(Clone)]
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) features: Features,
    /// Our key.
    pub(crate) identity: PublicKey,
    pub(crate) secp: Secp,
    pub(crate) entropy: KeyStream,
    /// The last step's number.
    pub(crate) seq: u64,
    pub(crate) chain: ChainState,
    pub(crate) feerates: Feerates,
    pub(crate) wallet: WalletBalance,
    pub(crate) requests: Requests,
    pub(crate) events: Events,
    /// After a start: when peers have had their time to come back, and deadlines count.
    pub(crate) grace_ends: Option<Timestamp>,
    pub(crate) peers: BTreeMap<PublicKey, Peer>,
    pub(crate) channels: BTreeMap<ChannelKeysId, ChannelEntry>,
    /// Channels by what their peer calls them.
    pub(crate) by_channel_id: BTreeMap<(PublicKey, ChannelId), ChannelKeysId>,
    /// Channels by what onions may call them: real short ids and our aliases.
    pub(crate) by_scid: BTreeMap<ShortChannelId, ChannelKeysId>,
    /// Funding transactions to look for in blocks, and outputs whose spends matter.
    pub(crate) funding_txids: BTreeMap<Txid, BTreeSet<ChannelKeysId>>,
    pub(crate) funding_outpoints: BTreeMap<OutPoint, BTreeSet<ChannelKeysId>>,
    /// Channels being opened or accepted, until signer and wallet have answered.
    pub(crate) gathering: BTreeMap<ChannelKeysId, Gathering>,
    pub(crate) resolutions: BTreeMap<ChannelKeysId, Resolution>,
    pub(crate) outgoing: Outgoing,
    pub(crate) invoices: Invoices,
    /// HTLCs of peers that wait for the end of an HTLC of ours: not to be decided twice.
    pub(crate) forwards: BTreeSet<IncomingRef>,
    /// HTLCs whose onions the signer is reading, or will.
    pub(crate) reading: BTreeSet<IncomingRef>,
    /// Those of them that it could not read, and when it is asked again.
    pub(crate) unread: Vec<(ChannelKeysId, IncomingHtlc)>,
    pub(crate) unread_at: Timestamp,
    pub(crate) gossip: Gossip,
    /// The gossip machine is a new one and knows nothing of our channels, peers and tip yet.
    pub(crate) gossip_is_new: bool,
    /// Outputs of announced channels, and which of them were spent in which block.
    pub(crate) gossip_fundings: BTreeMap<OutPoint, ShortChannelId>,
    pub(crate) gossip_spends: BTreeMap<BlockHeight, Vec<ShortChannelId>>,
    /// Commands that are being worked on, and answers to those of the last day.
    pub(crate) replies: Replies,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("identity", &self.identity)
            .field("channels", &self.channels.len())
            .field("tip", &self.chain.tip())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// One step: the time and an input in, the effects out. Total: no input makes it panic, and one that
    /// makes no sense changes nothing.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Effects {
        let mut step = self.begin(now);
        if core::mem::take(&mut self.gossip_is_new) {
            self.gossip_begins(&mut step);
        }
        self.dispatch(&mut step, input);
        self.finish(step)
    }

    pub(crate) fn begin(&mut self, now: Timestamp) -> Step {
        self.seq += 1;
        self.requests.begin(now);
        Step::new(now, self.seq)
    }

    fn dispatch(&mut self, step: &mut Step, input: Input) {
        match input {
            Input::PeerConnected {
                peer,
                epoch,
                direction,
                address,
            } => {
                self.peer_connected(step, peer, epoch, direction, address);
            }
            Input::PeerMessage {
                peer,
                epoch,
                message,
            } => {
                self.peer_message(step, peer, epoch, message);
            }
            Input::CheckedGossip {
                peer,
                epoch,
                checked,
            } => {
                self.checked_gossip(step, peer, epoch, checked);
            }
            Input::PeerBusy {
                peer,
                epoch,
                is_busy,
            } => self.peer_busy(step, peer, epoch, is_busy),
            Input::ConnectFailed { peer, reason } => self.connect_failed(step, peer, &reason),
            Input::PeerDisconnected { peer, epoch } => self.peer_disconnected(step, peer, epoch),
            Input::BlockConnected(block) => self.block_connected(step, &block),
            Input::BlockDisconnected(block) => self.block_disconnected(step, block),
            Input::LateMatches {
                block,
                transactions,
            } => {
                self.late_matches(step, block, &transactions);
            }
            Input::BestTip(tip) => self.best_tip(step, tip),
            Input::NetworkSnapshot(changes) => self.gossip_snapshot(step, changes),
            Input::Feerates(feerates) => self.feerates_changed(step, feerates),
            Input::WalletBalance(balance) => self.wallet = balance,
            Input::Command { id, command } => self.command(step, id, command),
            Input::SigningRefused { lane, refused } => self.signing_refused(step, lane, refused),
            Input::Answer { id, answer } => self.answer(step, id, answer),
            Input::Tick => {}
        }
    }

    /// Does what is left to do, lets channels sign, and closes the step.
    pub(crate) fn finish(&mut self, mut step: Step) -> Effects {
        self.run_timers(&mut step);
        loop {
            while let Some(work) = step.work.pop_front() {
                self.work(&mut step, work);
            }
            // One signature for all updates of the step.
            let touched = core::mem::take(&mut step.touched);
            if touched.is_empty() {
                break;
            }
            for keys_id in touched {
                self.commit_channel(&mut step, keys_id);
            }
        }
        let next_wake = self.next_wake(step.now);
        Effects {
            seq: step.seq,
            scopes: step.scopes.into_iter().collect(),
            batch: step.batch,
            actions: step.actions,
            next_wake,
        }
    }

    fn run_timers(&mut self, step: &mut Step) {
        let outputs = self.outgoing.tick(step.now, &mut step.batch);
        self.payment_outputs(step, outputs);
        let received = self.invoices.tick(step.now, self.chain.height());
        self.received(step, received);
        self.read_onions_again(step);
        self.tick_channels(step);
        self.tick_peers(step);
        self.end_grace(step);
        self.give_up_on_ports(step);
        self.tick_gossip(step);
    }

    fn next_wake(&self, now: Timestamp) -> Option<Timestamp> {
        let timers = [
            self.outgoing.next_wake(),
            self.invoices.next_wake(),
            self.gossip_next_wake(),
            self.channels_next_wake(now),
            self.unread_wake(),
            self.peers_next_wake(),
            self.grace_ends.filter(|_| self.chain.synced),
            self.requests.next_wake(),
        ];
        // Never in the past: a driver that sleeps until then must not spin.
        timers
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.max(now.plus_millis(10)))
    }

    pub(crate) fn bug(&mut self, step: &mut Step, what: impl ToString) {
        step.note(
            NoteLevel::Error,
            alloc::format!("bug: {}; please report it", what.to_string()),
        );
    }

    pub(crate) fn our_node_id(&self) -> NodeId {
        NodeId::from(self.identity)
    }

    pub(crate) fn channels_of(&self, peer: &PublicKey) -> Vec<ChannelKeysId> {
        self.channels
            .iter()
            .filter(|(_, e)| e.peer == *peer)
            .map(|(id, _)| *id)
            .collect()
    }
}
