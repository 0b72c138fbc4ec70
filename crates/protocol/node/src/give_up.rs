//! HTLCs that the chain does not decide before those that they were forwarded from reach their end.

use alloc::vec::Vec;

use fulmen_enforce::EnforceInput;
use fulmen_payments::IncomingRef;
use fulmen_tx::{ChannelKeysId, Side};
use fulmen_types::{BlockHeight, HtlcId, Msat, PaymentHash};

use crate::{event::Event, htlcs::forwarded_from, node::Node, step::Step};

/// How many blocks before its expiry an HTLC of a peer is failed rather than fought for on chain: nodes go on
/// chain with what they offered from its expiry on, and the failure takes a connection and two rounds.
const UPSTREAM_MARGIN: u32 = 6;

impl Node {
    /// HTLCs that the chain has not decided though those that they follow from are about to be fought for on
    /// chain, in channels that are open: small ones are given up.
    pub(crate) fn press_upstream(&mut self, step: &mut Step) {
        let tip = self.chain.height();
        let mut pressed: Vec<(ChannelKeysId, HtlcId)> = Vec::new();
        for keys_id in self.resolutions.keys() {
            let Some(entry) = self.channels.get(keys_id) else {
                continue;
            };
            let waits = entry.channel.htlcs().into_iter().filter(|htlc| {
                let incoming = htlc.link.as_deref().and_then(forwarded_from);
                incoming.is_some_and(|incoming| self.is_pressing(incoming, tip))
            });
            pressed.extend(waits.map(|htlc| (*keys_id, htlc.id)));
        }
        for (keys_id, id) in pressed {
            self.resolution_input(step, keys_id, EnforceInput::UpstreamDeadline { id });
        }
    }

    /// Whether an HTLC that was forwarded is undecided, in an open channel, and near its end.
    fn is_pressing(&self, incoming: IncomingRef, tip: BlockHeight) -> bool {
        let keys_id = ChannelKeysId::new(incoming.channel);
        if !self.forwards.contains(&incoming) || self.resolutions.contains_key(&keys_id) {
            return false;
        }
        let Some(entry) = self.channels.get(&keys_id) else {
            return false;
        };
        entry.channel.htlcs().iter().any(|htlc| {
            htlc.offered_by == Side::Remote
                && htlc.id == incoming.htlc
                && tip >= htlc.cltv_expiry.to_height().minus(UPSTREAM_MARGIN)
        })
    }

    /// Tells the user of one that was given up.
    pub(crate) fn htlc_given_up(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        id: HtlcId,
        payment_hash: PaymentHash,
        amount: Msat,
    ) {
        let Some(entry) = self.channels.get(&keys_id) else {
            return;
        };
        let from = entry.outgoing_link(id).as_deref().and_then(forwarded_from);
        let from = from.and_then(|i| self.channels.get(&ChannelKeysId::new(i.channel)));
        if let Some(from) = from {
            let event = Event::HtlcGivenUp {
                incoming: from.channel_id,
                outgoing: entry.channel_id,
                payment_hash,
                amount,
            };
            self.event(step, event);
        }
    }
}
