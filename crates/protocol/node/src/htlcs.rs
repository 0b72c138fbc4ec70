//! HTLCs between channels: read the onion, then receive, forward or fail; and the way back.

use alloc::{boxed::Box, vec::Vec};

use fulmen_channel::{
    AddHtlc, ChannelError, ChannelInput, ChannelOutput, HtlcFailure, HtlcResolution, IncomingHtlc,
    MAX_REASON_LEN, Refusal as ChannelRefusal,
};
use fulmen_enforce::EnforceInput;
use fulmen_onion::{
    FailureMessage, ForwardPayload, ReturnPacket, SharedSecret, payment_ecdh_point,
};
use fulmen_payments::{
    Asked, HtlcLink, IncomingRef, NewHtlc, OfferedHtlc, OutgoingChannel,
    OutgoingFailure as Failure, Received, ReceivedHtlc, Refusal, Resolution, check_forward, fail,
    fail_upstream, read_onion, refuse_unreadable,
};
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::ChannelKeysId;
use fulmen_types::{
    Msat, PaymentHash, PaymentPreimage, Timestamp,
    codec::{Decode, DecodeError, Encode, Reader},
    record::Space,
};

use crate::{
    channels::OutgoingFailure,
    effects::{ActionKind, NoteLevel, Scope},
    event::Event,
    node::Node,
    port::{Answer, Ask},
    requests::Pending,
    step::Step,
    work::Work,
};

/// How long an invoice that expired unpaid stays in memory.
const EXPIRED_KEPT_MILLIS: u64 = 24 * 60 * 60 * 1_000;

/// When a signer that could not read an onion is asked again.
const UNREAD_MILLIS: u64 = 5_000;

/// What an HTLC of ours carries in its record: where it came from, and for a forward what the way back
/// needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeLink {
    pub(crate) link: HtlcLink,
    pub(crate) forward: Option<ForwardLink>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForwardLink {
    /// Encrypts a failure for the payer.
    shared_secret: SharedSecret,
    /// What comes in less what goes out.
    fee: Msat,
    /// What goes out.
    amount: Msat,
}

impl Encode for NodeLink {
    fn encode(&self, out: &mut Vec<u8>) {
        self.link.encode(out);
        if let Some(forward) = &self.forward {
            forward.shared_secret.as_bytes().encode(out);
            forward.fee.encode(out);
            forward.amount.encode(out);
        }
    }
}

impl Decode for NodeLink {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let link = HtlcLink::decode(r)?;
        let forward = match link {
            HtlcLink::Payment { .. } => None,
            HtlcLink::Forward { .. } => Some(ForwardLink {
                shared_secret: SharedSecret::new(Decode::decode(r)?),
                fee: Decode::decode(r)?,
                amount: Decode::decode(r)?,
            }),
        };
        Ok(Self { link, forward })
    }
}

/// The HTLC that one of ours was forwarded from, by its link.
pub(crate) fn forwarded_from(link: &[u8]) -> Option<IncomingRef> {
    match NodeLink::from_bytes(link).ok()?.link {
        HtlcLink::Forward { incoming } => Some(incoming),
        HtlcLink::Payment { .. } => None,
    }
}

impl Node {
    /// An HTLC of a peer is irrevocably committed: the signer reads its onion with us.
    pub(crate) fn incoming_htlc(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        htlc: IncomingHtlc,
    ) {
        let incoming = IncomingRef {
            channel: keys_id.to_byte_array(),
            htlc: htlc.id,
        };
        // After a restart: it was sent on, and what becomes of that decides.
        if self.forwards.contains(&incoming) || !self.reading.insert(incoming) {
            return;
        }
        if !self.chain.synced {
            // By an old height an HTLC seems to have more time than it has.
            return self.unread.push((keys_id, htlc));
        }
        self.read_htlc_onion(step, keys_id, incoming, htlc);
    }

    /// Onions that the signer could not read, or that came while blocks were missing.
    pub(crate) fn read_onions_again(&mut self, step: &mut Step) {
        if step.now < self.unread_at || !self.chain.synced {
            return;
        }
        for (keys_id, htlc) in core::mem::take(&mut self.unread) {
            let incoming = IncomingRef {
                channel: keys_id.to_byte_array(),
                htlc: htlc.id,
            };
            if self.reading.contains(&incoming) {
                self.read_htlc_onion(step, keys_id, incoming, htlc);
            }
        }
    }

    pub(crate) fn unread_wake(&self) -> Option<Timestamp> {
        (!self.unread.is_empty() && self.chain.synced).then_some(self.unread_at)
    }

    fn read_htlc_onion(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        incoming: IncomingRef,
        htlc: IncomingHtlc,
    ) {
        match payment_ecdh_point(&self.secp, &htlc.onion_routing_packet, None) {
            Ok(point) => {
                let id = self
                    .requests
                    .open(Pending::Onions(keys_id, alloc::vec![htlc]));
                let ask = Ask::Sign(SigningRequest::Ecdh {
                    points: alloc::vec![point],
                });
                step.act(ActionKind::Ask { id, ask });
            }
            Err(error) => {
                let resolution = refuse_unreadable(&error, &htlc.onion_routing_packet);
                step.work.push_back(Work::Resolve(incoming, resolution));
            }
        }
    }

    pub(crate) fn onions_read(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        htlcs: Vec<IncomingHtlc>,
        answer: Answer,
    ) {
        let secrets = match answer {
            Answer::Signed(SigningAnswer::SharedSecrets(secrets))
                if secrets.len() == htlcs.len() =>
            {
                secrets
            }
            _ => {
                let text = "the signer does not read onions: payments wait";
                step.note(NoteLevel::Error, text);
                self.unread_at = step.now.plus_millis(UNREAD_MILLIS);
                let again = htlcs.into_iter().map(|htlc| (keys_id, htlc));
                self.unread.extend(again);
                return;
            }
        };
        for (htlc, secret) in htlcs.into_iter().zip(secrets) {
            self.decide(
                step,
                keys_id,
                htlc,
                &SharedSecret::new(secret.to_byte_array()),
            );
        }
    }

    fn decide(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        htlc: IncomingHtlc,
        shared_secret: &SharedSecret,
    ) {
        let incoming = IncomingRef {
            channel: keys_id.to_byte_array(),
            htlc: htlc.id,
        };
        let offered = OfferedHtlc {
            amount: htlc.amount,
            payment_hash: htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
            onion: *htlc.onion_routing_packet,
        };
        if htlc.path_key.is_some() {
            // BOLT 4, route blinding: we don't offer it; inside a path every error is this one.
            let resolution = Resolution::FailMalformed {
                failure_code: FailureMessage::InvalidOnionBlinding {
                    sha256_of_onion: [0; 32],
                }
                .code(),
                sha256_of_onion: [0; 32],
            };
            return step.work.push_back(Work::Resolve(incoming, resolution));
        }
        let on_chain = self.channels.get(&keys_id).is_none_or(|e| e.is_over());
        match read_onion(&self.secp, &offered, shared_secret) {
            // Its channel has ended before it was decided: on chain it may be too small for an output, or
            // cost more than it is worth, so nothing is paid for it. It goes back with its expiry.
            _ if on_chain => {
                self.reading.remove(&incoming);
            }
            Asked::Resolve(resolution) => step.work.push_back(Work::Resolve(incoming, resolution)),
            // BOLT 2, dust exposure: committed, then failed, its preimage never revealed.
            _ if htlc.dust_exposed => {
                let failure = FailureMessage::TemporaryNodeFailure;
                step.work
                    .push_back(Work::Resolve(incoming, fail(shared_secret, &failure)));
            }
            Asked::Receive(payload) => {
                step.scope(Scope::Payment(htlc.payment_hash));
                let received = ReceivedHtlc {
                    source: incoming,
                    amount: htlc.amount,
                    payment_hash: htlc.payment_hash,
                    cltv_expiry: htlc.cltv_expiry,
                    payload,
                    shared_secret: shared_secret.clone(),
                };
                let tip = self.chain.height();
                let received = self
                    .invoices
                    .receive(&received, step.now, tip, &mut step.batch);
                self.received(step, received);
            }
            Asked::Forward {
                payload,
                next_packet,
            } => {
                let forwarded = self.forward(
                    step,
                    incoming,
                    &offered,
                    &payload,
                    next_packet,
                    shared_secret,
                );
                if let Err(failure) = forwarded {
                    let resolution = fail(shared_secret, &failure);
                    step.work.push_back(Work::Resolve(incoming, resolution));
                }
            }
        }
    }

    fn forward(
        &mut self,
        step: &mut Step,
        incoming: IncomingRef,
        offered: &OfferedHtlc,
        payload: &ForwardPayload,
        onion: [u8; fulmen_channel::ONION_LEN],
        shared_secret: &SharedSecret,
    ) -> Result<(), FailureMessage> {
        let next = self.by_scid.get(&payload.short_channel_id).copied();
        let next = next.and_then(|id| self.channels.get(&id).map(|entry| (id, entry)));
        let (keys_id, update) = match next {
            Some((id, _)) => (Some(id), self.own_channel_update(id)),
            None => (None, Vec::new()),
        };
        let outgoing = next.map(|(_, entry)| OutgoingChannel {
            policy: &entry.policy,
            usable: entry.usable,
            disabled: false,
            channel_update: &update,
        });
        check_forward(
            offered,
            payload,
            outgoing.as_ref(),
            step.now,
            self.chain.height(),
        )?;
        let Some(keys_id) = keys_id else {
            return Err(FailureMessage::UnknownNextPeer);
        };
        let fee = offered.amount.saturating_sub(payload.amt_to_forward);
        let link = NodeLink {
            link: HtlcLink::Forward { incoming },
            forward: Some(ForwardLink {
                shared_secret: shared_secret.clone(),
                fee,
                amount: payload.amt_to_forward,
            }),
        };
        let add = AddHtlc {
            amount: payload.amt_to_forward,
            payment_hash: offered.payment_hash,
            cltv_expiry: payload.outgoing_cltv_value,
            onion_routing_packet: Box::new(onion),
            path_key: None,
            link: link.to_bytes(),
        };
        match self.add_htlc(step, keys_id, add) {
            Ok(()) => {
                self.forwards.insert(incoming);
                step.scope(Scope::Channel(ChannelKeysId::new(incoming.channel)));
                Ok(())
            }
            // BOLT 4: whatever keeps the channel from carrying it may pass.
            Err(_) => Err(FailureMessage::TemporaryChannelFailure {
                channel_update: update,
            }),
        }
    }

    fn add_htlc(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        add: AddHtlc,
    ) -> Result<(), ChannelRefusal> {
        match self.channel_step(step, keys_id, ChannelInput::AddHtlc(add)) {
            Ok(outputs) => {
                let added = outputs
                    .iter()
                    .any(|o| matches!(o, ChannelOutput::HtlcAdded { .. }));
                self.channel_outputs(step, keys_id, outputs);
                if added {
                    Ok(())
                } else {
                    Err(ChannelRefusal::NotReady)
                }
            }
            Err(ChannelError::Refused(refusal)) => Err(refusal),
            Err(error) => {
                self.bug(step, &error);
                Err(ChannelRefusal::NotReady)
            }
        }
    }

    /// Offers an HTLC of a payment of ours.
    pub(crate) fn offer(&mut self, step: &mut Step, htlc: NewHtlc) {
        step.scope(Scope::Payment(htlc.payment_hash));
        let keys_id = self.by_scid.get(&htlc.short_channel_id).copied();
        let link = NodeLink {
            link: htlc.link,
            forward: None,
        };
        let add = AddHtlc {
            amount: htlc.amount,
            payment_hash: htlc.payment_hash,
            cltv_expiry: htlc.cltv_expiry,
            onion_routing_packet: htlc.onion,
            path_key: None,
            link: link.to_bytes(),
        };
        let refusal = match keys_id {
            None => Refusal::Unusable,
            Some(keys_id) => match self.add_htlc(step, keys_id, add) {
                Ok(()) => return,
                Err(ChannelRefusal::TooManyHtlcs { .. }) => Refusal::TooManyHtlcs,
                Err(
                    ChannelRefusal::InFlightLimit { .. }
                    | ChannelRefusal::InsufficientBalance { .. }
                    | ChannelRefusal::DustExposure,
                ) => Refusal::InsufficientBalance,
                Err(_) => Refusal::Unusable,
            },
        };
        let outputs = self
            .outgoing
            .htlc_refused(&htlc.link, refusal, step.now, &mut step.batch);
        self.payment_outputs(step, outputs);
    }

    /// An HTLC slot or balance has become free: payments that wait have a try.
    pub(crate) fn slot_is_free(&mut self, step: &mut Step) {
        let outputs = self.outgoing.slots_freed(1, step.now, &mut step.batch);
        self.payment_outputs(step, outputs);
    }

    /// Decides an HTLC of a peer: in its channel, or on chain if the channel is closed. Says whether it was
    /// not decided before.
    pub(crate) fn resolve(
        &mut self,
        step: &mut Step,
        incoming: IncomingRef,
        resolution: Resolution,
    ) -> bool {
        let keys_id = ChannelKeysId::new(incoming.channel);
        self.reading.remove(&incoming);
        self.forwards.remove(&incoming);
        if let Resolution::Fulfil(preimage) = resolution {
            self.resolution_input(step, keys_id, EnforceInput::Preimage(preimage));
        }
        let resolution = match resolution {
            Resolution::Fulfil(preimage) => HtlcResolution::Fulfil(preimage),
            Resolution::Fail(packet) => HtlcResolution::Fail(packet.reason),
            Resolution::FailMalformed {
                failure_code,
                sha256_of_onion,
            } => HtlcResolution::FailMalformed {
                failure_code,
                sha256_of_onion,
            },
        };
        let input = ChannelInput::Resolve {
            htlc_id: incoming.htlc,
            resolution,
        };
        match self.try_channel_input(step, keys_id, input) {
            Ok(()) => true,
            Err(error) => {
                self.channel_error(step, keys_id, &error);
                false
            }
        }
    }

    /// A preimage of an HTLC of ours is known, from the peer or the chain: it is used upstream in this
    /// very step.
    pub(crate) fn outgoing_fulfilled(
        &mut self,
        step: &mut Step,
        keys_id: ChannelKeysId,
        preimage: PaymentPreimage,
        link: &[u8],
    ) {
        let Ok(link) = NodeLink::from_bytes(link) else {
            return self.bug(step, "the link of an HTLC can't be read");
        };
        match (link.link, link.forward) {
            (HtlcLink::Forward { incoming }, forward) => {
                if !self.forwards.remove(&incoming) {
                    return;
                }
                // Told again after a restart, it is decided already.
                if !self.resolve(step, incoming, Resolution::Fulfil(preimage)) {
                    return;
                }
                let from = self.channels.get(&ChannelKeysId::new(incoming.channel));
                let to = self.channels.get(&keys_id);
                if let (Some(from), Some(to), Some(forward)) = (from, to, forward) {
                    let (incoming, outgoing) = (from.channel_id, to.channel_id);
                    let (amount, fee) = (forward.amount, forward.fee);
                    self.event(
                        step,
                        Event::PaymentForwarded {
                            incoming,
                            outgoing,
                            amount,
                            fee,
                        },
                    );
                }
            }
            (link @ HtlcLink::Payment { payment_hash, .. }, _) => {
                step.scope(Scope::Payment(payment_hash));
                let outputs =
                    self.outgoing
                        .htlc_fulfilled(&link, preimage, step.now, &mut step.batch);
                self.payment_outputs(step, outputs);
            }
        }
    }

    /// An HTLC of ours is irrevocably failed.
    pub(crate) fn outgoing_failed(
        &mut self,
        step: &mut Step,
        link: &[u8],
        failure: OutgoingFailure,
    ) {
        let Ok(link) = NodeLink::from_bytes(link) else {
            return self.bug(step, "the link of an HTLC can't be read");
        };
        let failure = match failure {
            OutgoingFailure::OnChain => Failure::OnChain,
            OutgoingFailure::Channel(HtlcFailure::NeverCommitted) => Failure::NotSent,
            OutgoingFailure::Channel(HtlcFailure::Malformed {
                failure_code,
                sha256_of_onion,
            }) => Failure::Malformed {
                failure_code,
                sha256_of_onion,
            },
            OutgoingFailure::Channel(HtlcFailure::Packet(reason)) => {
                Failure::Packet(ReturnPacket {
                    reason,
                    attribution_data: None,
                })
            }
        };
        match (link.link, link.forward) {
            (HtlcLink::Forward { incoming }, Some(forward)) => {
                if self.forwards.remove(&incoming) {
                    let failure = match failure {
                        // What does not fit upstream must not keep the HTLC open there.
                        Failure::Packet(packet) if packet.reason.len() > MAX_REASON_LEN => {
                            Failure::NotSent
                        }
                        failure => failure,
                    };
                    let resolution = fail_upstream(&forward.shared_secret, failure, &[]);
                    step.work.push_back(Work::Resolve(incoming, resolution));
                }
            }
            (HtlcLink::Forward { .. }, None) => self.bug(step, "a forward's link has no way back"),
            (link @ HtlcLink::Payment { payment_hash, .. }, _) => {
                step.scope(Scope::Payment(payment_hash));
                let outputs = self.outgoing.htlc_failed(
                    &self.secp,
                    &link,
                    failure,
                    step.now,
                    &mut step.batch,
                );
                self.payment_outputs(step, outputs);
            }
        }
    }

    /// What came of HTLCs for us.
    pub(crate) fn received(&mut self, step: &mut Step, received: Received) {
        for (incoming, resolution) in received.resolutions {
            step.work.push_back(Work::Resolve(incoming, resolution));
        }
        if let Some(paid) = received.paid {
            let (payment_hash, amount) = (paid.payment_hash, paid.amount);
            self.event(
                step,
                Event::PaymentReceived {
                    payment_hash,
                    amount,
                },
            );
            self.archive_invoice(step, payment_hash);
        }
    }

    /// Invoices that can't be paid any more leave memory: start-up must not grow with the payments ever
    /// made.
    fn archive_invoice(&mut self, step: &mut Step, payment_hash: PaymentHash) {
        let Some(invoice) = self.invoices.get(&payment_hash) else {
            return;
        };
        let (record, created_at) = (invoice.to_bytes(), invoice.created_at);
        self.invoices.forget(&payment_hash, step.now);
        if self.invoices.get(&payment_hash).is_none() {
            fulmen_payments::archive(
                [Space::Invoice, Space::InvoiceArchive, Space::InvoiceByTime],
                &payment_hash,
                created_at,
                record,
                &mut step.batch,
            );
        }
    }

    /// Looked at once a block: invoices that expired a day ago.
    pub(crate) fn archive_expired_invoices(&mut self, step: &mut Step) {
        let old: Vec<PaymentHash> = self
            .invoices
            .iter()
            .filter(|i| step.now.millis_since(i.expires_at) > EXPIRED_KEPT_MILLIS)
            .map(fulmen_payments::Invoice::payment_hash)
            .collect();
        for payment_hash in old {
            self.archive_invoice(step, payment_hash);
        }
    }
}
