//! What one part of the node asks of another within a step.

use fulmen_channel::ChannelInput;
use fulmen_payments::{IncomingRef, NewHtlc, Resolution};
use fulmen_tx::ChannelKeysId;

use crate::{node::Node, step::Step};

/// One thing left to do in a step. Each leads to others at most as often as HTLCs move on, so that a
/// step ends.
#[derive(Debug)]
pub(crate) enum Work {
    /// Give a channel an input.
    Channel(ChannelKeysId, ChannelInput),
    /// Decide an HTLC of a peer.
    Resolve(IncomingRef, Resolution),
    /// Offer an HTLC of a payment of ours.
    Offer(NewHtlc),
}

impl Node {
    pub(crate) fn work(&mut self, step: &mut Step, work: Work) {
        match work {
            Work::Channel(keys_id, input) => self.channel_input(step, keys_id, input),
            Work::Resolve(incoming, resolution) => {
                self.resolve(step, incoming, resolution);
            }
            Work::Offer(htlc) => self.offer(step, htlc),
        }
    }
}
