//! Channels being opened or accepted: gathering keys, points and a script before the first message.

use bitcoin::{Amount, OutPoint, ScriptBuf, secp256k1::PublicKey};
use fulmen_channel::{
    AcceptRequest, Channel, ChannelContext, ChannelInput, ChannelStatus, OpenRequest, OurKeys,
    UpfrontShutdown,
};
use fulmen_enforce::required_reserve;
use fulmen_payments::PolicyHistory;
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::{ChannelKeysId, ChannelPublicKeys};
use fulmen_types::{ChannelId, CommitmentNumber, Feature, ShortChannelId};
use fulmen_wire::{Error, Message, OpenChannel};

use alloc::{
    boxed::Box,
    string::{String, ToString},
};

use crate::{
    channels::{ChannelEntry, EventsSaid},
    command::{CommandError, OpenChannelCommand},
    effects::{ActionKind, NoteLevel},
    input::CommandId,
    node::Node,
    port::{Answer, Ask, CoinPurpose},
    requests::{Part, Pending},
    step::Step,
    work::Work,
};

/// A channel that needs answers of signer and wallet before it can begin.
#[derive(Clone, Debug)]
pub(crate) struct Gathering {
    pub(crate) peer: PublicKey,
    purpose: Purpose,
    keys: Option<ChannelPublicKeys>,
    points: [Option<PublicKey>; 3],
    script: Option<ScriptBuf>,
}

#[derive(Clone, Debug)]
enum Purpose {
    Open(CommandId, OpenChannelCommand),
    Accept(Box<OpenChannel>),
}

impl Gathering {
    /// Whether the user wants it, who must hear what became of it.
    pub(crate) const fn is_ours(&self) -> bool {
        matches!(self.purpose, Purpose::Open(..))
    }
}

impl Node {
    /// What must stay in the wallet when there are `more` channels with anchors than now.
    pub(crate) fn reserve_with(&self, more: u32) -> Amount {
        let anchors = self.channels.values().filter(|e| e.has_anchors()).count();
        let anchors = u32::try_from(anchors)
            .unwrap_or(u32::MAX)
            .saturating_add(more);
        required_reserve(anchors, self.feerates.urgent)
    }

    /// A user wants a channel.
    pub(crate) fn open_channel(
        &mut self,
        step: &mut Step,
        id: CommandId,
        command: OpenChannelCommand,
    ) {
        if self
            .peers
            .get(&command.peer)
            .and_then(|p| p.ready())
            .is_none()
        {
            return self.reply(step, id, Err(CommandError::PeerNotConnected(command.peer)));
        }
        let reserve = self.reserve_with(1);
        let available = self.wallet.confirmed;
        let needed = command
            .amount
            .checked_add(reserve)
            .unwrap_or(Amount::MAX_MONEY);
        if available < needed {
            let pending = match self.wallet.unconfirmed {
                Amount::ZERO => alloc::string::String::new(),
                pending => alloc::format!(" ({pending} more to be confirmed: wait for it)"),
            };
            let error = CommandError::InsufficientFunds(alloc::format!(
                "{needed} needed: {} for the channel and {reserve} kept for the fees of closing \
                 channels; {available} confirmed in the wallet{pending}. Deposit more to an address of \
                 `newaddress`, or open a smaller channel",
                command.amount
            ));
            return self.reply(step, id, Err(error));
        }
        self.gather(step, command.peer, Purpose::Open(id, command));
    }

    /// A peer wants a channel.
    pub(crate) fn peer_opens(&mut self, step: &mut Step, peer: PublicKey, open: OpenChannel) {
        let temporary = open.temporary_channel_id;
        let known = self.by_channel_id.contains_key(&(peer, temporary))
            || self.gathering.values().any(|g| {
                g.peer == peer
                    && matches!(&g.purpose, Purpose::Accept(o) if o.temporary_channel_id == temporary)
            });
        if known {
            return self.refuse_open(step, peer, temporary, "this temporary_channel_id is in use");
        }
        let (with_peer, in_all) = self.unconfirmed_opens(&peer);
        if with_peer >= self.config.max_pending_opens_per_peer
            || in_all >= self.config.max_pending_opens
        {
            let why = "too many channels wait for confirmation";
            return self.refuse_open(step, peer, temporary, why);
        }
        let anchors = open
            .channel_type
            .as_ref()
            .is_some_and(|t| t.has(Feature::Anchors));
        let reserve = self.reserve_with(u32::from(anchors));
        if self.wallet.confirmed < reserve {
            step.note(
                NoteLevel::Warn,
                alloc::format!(
                    "refused a channel of {peer}: {reserve} of confirmed coins are needed for the \
                     fees of closing channels, {} are there",
                    self.wallet.confirmed
                ),
            );
            let why = "not enough on-chain funds on our side to enforce one more channel";
            return self.refuse_open(step, peer, temporary, why);
        }
        self.gather(step, peer, Purpose::Accept(Box::new(open)));
    }

    /// Whether a peer funds an opening of its with the output of another channel, of whomever: the id of
    /// that channel, and what is seen on chain, would no longer name one channel alone.
    pub(crate) fn funds_with_another(&self, keys_id: &ChannelKeysId, message: &Message) -> bool {
        let Message::FundingCreated(created) = message else {
            return false;
        };
        let Some(id) = ChannelId::from_funding(OutPoint {
            txid: created.funding_txid,
            vout: u32::from(created.funding_output_index),
        }) else {
            return false;
        };
        let is_opening = self
            .channels
            .get(keys_id)
            .is_some_and(|entry| entry.channel.status() == ChannelStatus::Opening);
        let mut others = self.channels.iter().filter(|(other, _)| *other != keys_id);
        is_opening && others.any(|(_, entry)| entry.channel.channel_id() == id)
    }

    /// Channels that a peer opened and that are not confirmed: with this peer, and in all.
    fn unconfirmed_opens(&self, peer: &PublicKey) -> (usize, usize) {
        let channels = self
            .channels
            .values()
            .filter(|e| e.short_channel_id.is_none() && !e.is_opener())
            .map(|e| e.peer);
        let gathering = self
            .gathering
            .values()
            .filter(|g| !g.is_ours())
            .map(|g| g.peer);
        channels
            .chain(gathering)
            .fold((0, 0), |(with_peer, all), other| {
                (with_peer + usize::from(other == *peer), all + 1)
            })
    }

    /// In a lane of its own only if the peer has not named a channel that lives: that goes on.
    pub(crate) fn refuse_open(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        id: ChannelId,
        why: &str,
    ) {
        let is_free = !self.by_channel_id.contains_key(&(peer, id));
        let lane = is_free.then_some(id);
        self.send(step, peer, lane, Message::Error(Error::new(id, why)));
    }

    fn gather(&mut self, step: &mut Step, peer: PublicKey, purpose: Purpose) {
        let keys_id = ChannelKeysId::new(self.entropy.next_bytes());
        let gathering = Gathering {
            peer,
            purpose,
            keys: None,
            points: [None; 3],
            script: None,
        };
        self.gathering.insert(keys_id, gathering);
        let id = self.requests.open(Pending::Gather(keys_id, Part::Keys));
        let ask = Ask::Sign(SigningRequest::ChannelPublicKeys { keys_id });
        step.act(ActionKind::Ask { id, ask });
        for (index, number) in [0u64, 1, 2].into_iter().enumerate() {
            let Some(number) = CommitmentNumber::new(number) else {
                continue;
            };
            let id = self
                .requests
                .open(Pending::Gather(keys_id, Part::Point(index)));
            let ask = Ask::Sign(SigningRequest::PerCommitmentPoint { keys_id, number });
            step.act(ActionKind::Ask { id, ask });
        }
        let id = self.requests.open(Pending::Gather(keys_id, Part::Script));
        step.act(ActionKind::Ask {
            id,
            ask: Ask::WalletScript,
        });
    }

    pub(crate) fn gathered(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        part: Part,
        answer: Answer,
    ) {
        let Some(gathering) = self.gathering.get_mut(&keys_id) else {
            return;
        };
        match (part, answer) {
            (Part::Keys, Answer::Signed(SigningAnswer::ChannelPublicKeys(keys))) => {
                gathering.keys = Some(*keys);
            }
            (Part::Point(index), Answer::Signed(SigningAnswer::Point(point))) => {
                if let Some(slot) = gathering.points.get_mut(index) {
                    *slot = Some(point);
                }
            }
            (Part::Script, Answer::WalletScript(Ok(script))) => gathering.script = Some(script),
            (Part::Script, Answer::WalletScript(Err(error))) => {
                return self.gathering_failed(step, keys_id, &error.to_string());
            }
            _ => return self.gathering_failed(step, keys_id, "the signer does not answer"),
        }
        let complete = gathering.keys.is_some()
            && gathering.script.is_some()
            && gathering.points.iter().all(Option::is_some);
        if complete && let Some(gathering) = self.gathering.remove(&keys_id) {
            self.begin_channel(step, keys_id, gathering);
        }
    }

    pub(crate) fn gathering_failed(&mut self, step: &mut Step, keys_id: ChannelKeysId, why: &str) {
        let Some(gathering) = self.gathering.remove(&keys_id) else {
            return;
        };
        match gathering.purpose {
            Purpose::Open(id, _) => {
                self.reply(step, id, Err(CommandError::Failed(String::from(why))));
            }
            Purpose::Accept(open) => {
                step.note(
                    NoteLevel::Warn,
                    alloc::format!("could not accept a channel: {why}"),
                );
                let why = "temporarily not able to accept a channel";
                self.refuse_open(step, gathering.peer, open.temporary_channel_id, why);
            }
        }
    }

    fn begin_channel(&mut self, step: &mut Step, keys_id: ChannelKeysId, gathering: Gathering) {
        let Gathering {
            peer,
            purpose,
            keys: Some(keys),
            points,
            script: Some(script),
        } = gathering
        else {
            return;
        };
        let [Some(first), Some(second), Some(third)] = points else {
            return;
        };
        let ours = OurKeys {
            keys_id,
            keys,
            points: [first, second, third],
        };
        let alias = self.new_alias();
        let temporary_channel_id = ChannelId::new(self.entropy.next_bytes());
        let Some((_, peer_features)) = self.peers.get(&peer).and_then(|p| p.ready()) else {
            if let Purpose::Open(id, command) = purpose {
                self.reply(step, id, Err(CommandError::PeerNotConnected(command.peer)));
            }
            return;
        };
        let ctx = ChannelContext {
            secp: &self.secp,
            now: step.now,
            tip: self.chain.height(),
            config: &self.config.channel,
            feerates: &self.feerates,
            peer_features,
            our_features: &self.features,
            our_node_id: self.identity,
            peer_node_id: peer,
        };
        let (begun, opened_by, funding_feerate, channel_id) = match purpose {
            Purpose::Open(id, command) => {
                let request = OpenRequest {
                    ours,
                    temporary_channel_id,
                    funding: command.amount,
                    push: command.push,
                    announce: command.announce,
                    channel_type: command.channel_type,
                    feerate: None,
                    sweep_script: script,
                    upfront_shutdown: UpfrontShutdown::Free,
                    alias,
                };
                match Channel::open(&ctx, request) {
                    Ok(begun) => (begun, Some(id), command.feerate, temporary_channel_id),
                    Err(error) => {
                        let error = CommandError::Refused(error.to_string());
                        return self.reply(step, id, Err(error));
                    }
                }
            }
            Purpose::Accept(open) => {
                let request = AcceptRequest {
                    ours,
                    sweep_script: script,
                    upfront_shutdown: UpfrontShutdown::Free,
                    alias,
                };
                match Channel::accept(&ctx, &open, request) {
                    Ok(begun) => (begun, None, None, open.temporary_channel_id),
                    Err(fault) => {
                        step.note(
                            NoteLevel::Info,
                            alloc::format!("refused a channel: {fault}"),
                        );
                        let message = fault.to_message();
                        return self.send(step, peer, Some(open.temporary_channel_id), message);
                    }
                }
            }
        };
        let (channel, outputs) = begun;
        let entry = ChannelEntry {
            channel,
            peer,
            channel_id,
            opened_by,
            funding_feerate,
            short_channel_id: None,
            alias,
            peer_alias: None,
            usable: false,
            last_tick: step.now,
            stalled: None,
            events_said: EventsSaid::default(),
            gossip_id: None,
            announcement: None,
            policy: PolicyHistory::new(self.config.forward),
            peer_policy: None,
        };
        self.by_channel_id.insert((peer, channel_id), keys_id);
        self.channels.insert(keys_id, entry);
        self.channel_outputs(step, keys_id, outputs);
    }

    /// An alias that no channel of ours has.
    fn new_alias(&mut self) -> ShortChannelId {
        loop {
            let alias = ShortChannelId::alias(self.entropy.next_u64());
            if !self.by_scid.contains_key(&alias) {
                return alias;
            }
        }
    }

    /// The wallet's word on a funding transaction.
    pub(crate) fn funding_answer(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        answer: Answer,
    ) {
        if !self.channels.contains_key(&keys_id) {
            // Given up while the wallet was choosing coins: it gets them back.
            return self.release_coins(step, CoinPurpose::Funding(keys_id));
        }
        let input = match answer {
            Answer::Funding(Ok(transaction)) => ChannelInput::FundingReady(transaction),
            Answer::Funding(Err(error)) => {
                let opened_by = self
                    .channels
                    .get_mut(&keys_id)
                    .and_then(|e| e.opened_by.take());
                if let Some(id) = opened_by {
                    let error = CommandError::InsufficientFunds(error.to_string());
                    self.reply(step, id, Err(error));
                }
                ChannelInput::FundingFailed(error.to_string())
            }
            _ => ChannelInput::FundingFailed("the wallet gave a wrong answer".into()),
        };
        step.work.push_back(Work::Channel(keys_id, input));
    }

    /// The peer gives up a channel that waits for signer or wallet.
    pub(crate) fn peer_gave_up_opening(
        &mut self,
        step: &mut Step,
        peer: PublicKey,
        channel_id: ChannelId,
        message: &Message,
    ) -> bool {
        let found = self
            .gathering
            .iter()
            .find_map(|(keys_id, g)| match &g.purpose {
                Purpose::Accept(open)
                    if g.peer == peer && open.temporary_channel_id == channel_id =>
                {
                    Some(*keys_id)
                }
                _ => None,
            });
        let Some(keys_id) = found else { return false };
        if matches!(message, Message::Error(_)) {
            self.gathering.remove(&keys_id);
        } else {
            // BOLT 2: nothing can follow open_channel before accept_channel.
            self.violation(
                step,
                peer,
                "a message for a channel that is not accepted yet",
            );
        }
        true
    }

    /// The connection is gone: opens of ours that wait for answers fail.
    pub(crate) fn abandon_openings_with(&mut self, step: &mut Step, peer: PublicKey) {
        let ids: alloc::vec::Vec<ChannelKeysId> = self
            .gathering
            .iter()
            .filter(|(_, g)| g.peer == peer)
            .map(|(id, _)| *id)
            .collect();
        for keys_id in ids {
            self.gathering_failed(step, keys_id, "the peer disconnected");
        }
    }
}
