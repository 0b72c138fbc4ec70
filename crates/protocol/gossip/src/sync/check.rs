//! What is worth a check of its signatures, for who makes it away from the machine.

use alloc::boxed::Box;

use bitcoin::constants::ChainHash;
use fulmen_types::{NodeId, ShortChannelId, Timestamp};
use fulmen_wire::{ChannelUpdate, Message};

use super::{Gossip, receive::is_timely};
use crate::{Direction, UncheckedGossip};

/// What is to be done with a peer's message before the machine takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCheck {
    /// Nothing: it has no signatures, or they do not matter, because it will be dropped.
    AsItIs(Message),
    /// Its signatures are worth a check.
    Check(UncheckedGossip),
    /// An update for a channel that is not known: worth a check if its announcement is on its way, against
    /// the node that is announced there as this end.
    OfUnknownChannel {
        /// The update.
        update: Box<ChannelUpdate>,
        /// Without such an announcement: the key to check against. The peer may mean a channel with us.
        otherwise: Option<NodeId>,
    },
}

impl Gossip {
    /// Whether a message of a peer is worth a check of its signatures before it is given to
    /// [`Gossip::handle`]. Changes nothing, and costs little: most of what peers say is known already.
    pub fn to_check(&self, now: Timestamp, peer: &NodeId, message: Message) -> ToCheck {
        if !self.peers.contains_key(peer) {
            return ToCheck::AsItIs(message);
        }
        match message {
            Message::ChannelAnnouncement(m) if self.is_wanted(m.chain_hash, m.short_channel_id) => {
                ToCheck::Check(UncheckedGossip::ChannelAnnouncement(Box::new(m)))
            }
            Message::NodeAnnouncement(m) if self.is_wanted_node(now, &m) => {
                ToCheck::Check(UncheckedGossip::NodeAnnouncement(Box::new(m)))
            }
            Message::ChannelUpdate(update) if update.chain_hash == self.config.chain_hash => {
                self.update_to_check(now, peer, update)
            }
            message => ToCheck::AsItIs(message),
        }
    }

    fn update_to_check(&self, now: Timestamp, peer: &NodeId, update: ChannelUpdate) -> ToCheck {
        let scid = update.short_channel_id;
        let direction = Direction::from_channel_flags(update.channel_flags);
        let check = |update, signer| {
            ToCheck::Check(UncheckedGossip::ChannelUpdate {
                update: Box::new(update),
                signer,
            })
        };
        if self.is_own_channel_of(peer, scid) {
            return check(update, *peer);
        }
        let is_wanted = !update.dont_forward() && is_timely(now, update.timestamp);
        if !self.graph.has_channel(scid) && !self.pending.contains_key(&scid) {
            let otherwise = self.has_own_channel_with(peer).then_some(*peer);
            if is_wanted || otherwise.is_some() {
                return ToCheck::OfUnknownChannel {
                    update: Box::new(update),
                    otherwise,
                };
            }
        }
        if !is_wanted {
            return ToCheck::AsItIs(Message::ChannelUpdate(update));
        }
        match self.update_signer(scid, direction, update.timestamp) {
            Some(signer) if signer != self.config.our_node_id => check(update, signer),
            Some(_) | None => ToCheck::AsItIs(Message::ChannelUpdate(update)),
        }
    }

    /// Whether an announcement may be of a channel that is not known yet, or from a snapshot only.
    pub(super) fn is_wanted(&self, chain_hash: ChainHash, scid: ShortChannelId) -> bool {
        // BOLT 7, channel_announcement: of an unknown chain, ignore.
        chain_hash == self.config.chain_hash
            && !self.is_announced(scid)
            && !self.pending.contains_key(&scid)
            && !self.refused.contains(&scid)
    }
}
