//! Users' commands and their answers.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use fulmen_channel::{ChannelError, ChannelInput, Refusal};
use fulmen_invoice::{
    Currency, Description, Invoice as Bolt11, InvoiceDetails, RouteHint, RouteHintHop,
    UnsignedInvoice,
};
use fulmen_payments::{
    DEFAULT_MAX_ATTEMPTS, DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA, Invoice, InvoiceStatus, PayRequest,
    Payment, PaymentOutput, PaymentStatus, RouteQuestion,
};
use fulmen_router::{DEFAULT_MAX_TOTAL_CLTV, FirstHop, HintHop};
use fulmen_signer::{SigningAnswer, SigningRequest};
use fulmen_tx::ChannelKeysId;
use fulmen_types::{
    CltvExpiryDelta, Feature, Features, Msat, NodeId, PaymentHash, PaymentPreimage, PaymentSecret,
    Timestamp,
    record::{RecordKey, Space},
};

use crate::{
    command::{ChannelSelector, CloseMode, Command, CommandError, PayCommand, Reply},
    effects::{ActionKind, NoteLevel, ReleaseClass, Scope},
    event::Event,
    input::CommandId,
    node::Node,
    port::{Answer, Ask, RouteQuery},
    requests::Pending,
    step::Step,
    work::Work,
};

/// The most route hints in an invoice of ours.
const HINTS_MAX: usize = 3;

impl Node {
    pub(crate) fn command(&mut self, step: &mut Step, id: CommandId, command: Command) {
        step.scope(Scope::Node);
        match self.replies.get(&id) {
            Some(Some(reply)) => {
                let reply = Ok(reply.clone());
                return step.act(ActionKind::Reply { id, reply });
            }
            // The first one is being worked on: its answer is this one's too.
            Some(None) => return,
            None => {}
        }
        self.replies.begin(id);
        match command {
            Command::Connect { peer, address } => self.connect(step, id, peer, address),
            Command::Disconnect { peer, force } => self.disconnect(step, id, peer, force),
            Command::OpenChannel(command) => self.open_channel(step, id, command),
            Command::CloseChannel { channel, mode } => self.close_channel(step, id, channel, mode),
            Command::UnblockChannel(channel) => self.unblock_channel(step, id, channel),
            Command::CreateInvoice {
                amount,
                description,
                expiry_secs,
            } => {
                self.create_invoice(step, id, amount, description, expiry_secs);
            }
            Command::Pay(command) => self.pay(step, id, command),
            Command::AcknowledgeEvents { up_to } => {
                self.events.acknowledge(up_to, &mut step.batch);
                self.reply(step, id, Ok(Reply::Done));
            }
        }
    }

    /// Answers a command: its answer is durable where asking twice would do something twice.
    pub(crate) fn reply(
        &mut self,
        step: &mut Step,
        id: CommandId,
        reply: Result<Reply, CommandError>,
    ) {
        self.replies
            .end(step.now, id, reply.as_ref().ok(), &mut step.batch);
        step.act(ActionKind::Reply { id, reply });
    }

    pub(crate) fn event(&mut self, step: &mut Step, event: Event) {
        step.scope(Scope::Node);
        let event = self.events.push(step.now, event, &mut step.batch);
        step.act(ActionKind::Event(event));
    }

    fn select(
        &self,
        ChannelSelector::Id(channel_id): ChannelSelector,
    ) -> Result<ChannelKeysId, CommandError> {
        self.channels
            .iter()
            .find(|(_, entry)| entry.channel_id == channel_id)
            .map(|(keys_id, _)| *keys_id)
            .ok_or(CommandError::UnknownChannel(channel_id))
    }

    fn unblock_channel(&mut self, step: &mut Step, id: CommandId, channel: ChannelSelector) {
        let reply = self.select(channel).and_then(|keys_id| {
            self.try_channel_input(step, keys_id, ChannelInput::Unblock)
                .map_err(|_| {
                    CommandError::Refused("the channel is not blocked by its signer".into())
                })
        });
        self.reply(step, id, reply.map(|()| Reply::Done));
    }

    fn close_channel(
        &mut self,
        step: &mut Step,
        id: CommandId,
        channel: ChannelSelector,
        mode: CloseMode,
    ) {
        let keys_id = match self.select(channel) {
            Ok(keys_id) => keys_id,
            Err(error) => return self.reply(step, id, Err(error)),
        };
        let input = match mode {
            CloseMode::Cooperative {
                script_pubkey,
                feerate,
            } => ChannelInput::Shutdown {
                script: script_pubkey,
                feerate,
            },
            CloseMode::Force => ChannelInput::ForceClose,
        };
        let reply = match self.try_channel_input(step, keys_id, input) {
            Ok(()) => Ok(Reply::Done),
            Err(ChannelError::Refused(Refusal::NotConnected)) => Err(CommandError::Refused(
                "the peer is not connected; wait for it, or close alone with --force".into(),
            )),
            Err(error) => Err(CommandError::Refused(error.to_string())),
        };
        self.reply(step, id, reply);
    }

    fn create_invoice(
        &mut self,
        step: &mut Step,
        id: CommandId,
        amount: Option<Msat>,
        description: String,
        expiry_secs: u32,
    ) {
        let preimage = PaymentPreimage::new(self.entropy.next_bytes());
        let payment_secret = PaymentSecret::new(self.entropy.next_bytes());
        let payment_hash = preimage.payment_hash();
        let mut details = InvoiceDetails::new(
            Currency::of(self.config.network),
            step.now,
            payment_hash,
            payment_secret,
            Description::Text(description.clone()),
        );
        details.amount = amount;
        details.expiry_secs = Some(u64::from(expiry_secs));
        details.min_final_cltv_expiry_delta = Some(u64::from(DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA));
        details.features = Features::empty()
            .with_required(Feature::VarOnion)
            .with_required(Feature::PaymentSecret)
            .with_optional(Feature::BasicMpp);
        details.route_hints = self.invoice_hints(amount);
        let unsigned = match details.into_unsigned() {
            Ok(unsigned) => unsigned,
            Err(error) => {
                return self.reply(step, id, Err(CommandError::Invalid(error.to_string())));
            }
        };
        let invoice = Invoice {
            preimage,
            payment_secret,
            amount,
            created_at: step.now,
            expires_at: unsigned.details().expires_at(),
            min_final_cltv_expiry_delta: CltvExpiryDelta::new(DEFAULT_MIN_FINAL_CLTV_EXPIRY_DELTA),
            description,
            bolt11: String::new(),
            status: InvoiceStatus::Open,
        };
        step.scope(Scope::Payment(payment_hash));
        if let Err(error) = self.invoices.create(invoice, &mut step.batch) {
            return self.reply(step, id, Err(CommandError::Invalid(error.to_string())));
        }
        let hash = unsigned.signable_hash();
        let request =
            self.requests
                .open(Pending::InvoiceSign(id, payment_hash, Box::new(unsigned)));
        let ask = Ask::Sign(SigningRequest::Invoice { hash });
        step.act(ActionKind::Ask { id: request, ask });
    }

    pub(crate) fn invoice_signed(
        &mut self,
        step: &mut Step,
        id: CommandId,
        payment_hash: PaymentHash,
        unsigned: UnsignedInvoice,
        answer: Answer,
    ) {
        let signed = match answer {
            Answer::Signed(SigningAnswer::Invoice {
                signature,
                recovery_id,
            }) => recoverable(&signature, recovery_id)
                .and_then(|signature| unsigned.attach(&self.secp, signature).ok()),
            _ => None,
        };
        let Some(invoice) = signed else {
            let error = CommandError::Failed("the signer did not sign the invoice".into());
            return self.reply(step, id, Err(error));
        };
        step.scope(Scope::Payment(payment_hash));
        let text = invoice.to_string();
        match self
            .invoices
            .set_signed(payment_hash, text.clone(), &mut step.batch)
        {
            Ok(()) => {
                let reply = Reply::Invoice {
                    invoice: text,
                    payment_hash,
                };
                self.reply(step, id, Ok(reply));
            }
            Err(error) => self.reply(step, id, Err(CommandError::Failed(error.to_string()))),
        }
    }

    /// Private channels that could bring the amount: the payer can't know them otherwise.
    fn invoice_hints(&self, amount: Option<Msat>) -> Vec<RouteHint> {
        let amount = amount.unwrap_or(Msat::ZERO);
        let mut candidates: Vec<_> = self
            .channels
            .values()
            .filter(|entry| entry.usable && !entry.channel.is_announced())
            .filter_map(|entry| {
                let policy = self.gossip_peer_policy(entry)?;
                let scid = entry.peer_alias.or(entry.public_id())?;
                Some((entry.receivable(), entry.peer, scid, policy))
            })
            .filter(|(receivable, ..)| *receivable >= amount)
            .collect();
        candidates.sort_by_key(|(receivable, ..)| core::cmp::Reverse(*receivable));
        candidates
            .into_iter()
            .take(HINTS_MAX)
            .map(|(_, peer, short_channel_id, policy)| RouteHint {
                hops: alloc::vec![RouteHintHop {
                    node_id: peer,
                    short_channel_id,
                    fee_base_msat: policy.fee_base_msat,
                    fee_proportional_millionths: policy.fee_proportional_millionths,
                    cltv_expiry_delta: CltvExpiryDelta::new(policy.cltv_expiry_delta),
                }],
            })
            .collect()
    }

    fn pay(&mut self, step: &mut Step, id: CommandId, command: PayCommand) {
        let request = match self.pay_request(&command, step.now) {
            Ok(request) => request,
            Err(error) => return self.reply(step, id, Err(error)),
        };
        let payment_hash = request.payment_hash;
        if self.outgoing.get(&payment_hash).is_some() {
            return self.begin_payment(step, id, request, None);
        }
        // A payment that ended long ago is not in memory: the store knows.
        self.ask_payment_archive(step, id, Box::new(command), payment_hash);
    }

    fn ask_payment_archive(
        &mut self,
        step: &mut Step,
        id: CommandId,
        command: Box<PayCommand>,
        payment_hash: PaymentHash,
    ) {
        // After what the batches before have written.
        step.scope(Scope::Payment(payment_hash));
        let key = RecordKey::new(Space::PaymentArchive, *payment_hash.as_bytes());
        let pending = Pending::PaymentArchive {
            id,
            command,
            payment_hash,
            is_stale: false,
        };
        let request = self.requests.open(pending);
        step.act(ActionKind::Ask {
            id: request,
            ask: Ask::Record(key),
        });
    }

    pub(crate) fn payment_archive_answer(
        &mut self,
        step: &mut Step,
        id: CommandId,
        command: Box<PayCommand>,
        payment_hash: PaymentHash,
        is_stale: bool,
        answer: Answer,
    ) {
        if !matches!(answer, Answer::Record(_)) {
            return self.bug(step, "the store gave a wrong answer");
        }
        if is_stale {
            // Two commands for one payment: by this answer it would be paid a second time.
            return self.ask_payment_archive(step, id, command, payment_hash);
        }
        let mut failed_before = None;
        if let Answer::Record(Some(record)) = answer {
            match Payment::from_record(&record) {
                Ok(payment) if matches!(payment.status, PaymentStatus::Succeeded { .. }) => {
                    let reply = Reply::Payment {
                        payment_hash,
                        ended: Some(record),
                    };
                    return self.reply(step, id, Ok(reply));
                }
                // One that failed is tried anew.
                Ok(payment) => failed_before = Some(payment),
                Err(error) => {
                    let error = CommandError::Failed(alloc::format!(
                        "the record of an earlier payment with this hash can't be read: {error}"
                    ));
                    return self.reply(step, id, Err(error));
                }
            }
        }
        match self.pay_request(&command, step.now) {
            Ok(request) => self.begin_payment(step, id, request, failed_before),
            Err(error) => self.reply(step, id, Err(error)),
        }
    }

    /// Begins a payment, in the place of one that has failed if there is one.
    fn begin_payment(
        &mut self,
        step: &mut Step,
        id: CommandId,
        request: PayRequest,
        failed_before: Option<Payment>,
    ) {
        let payment_hash = request.payment_hash;
        step.scope(Scope::Payment(payment_hash));
        match self.outgoing.pay(request, step.now, &mut step.batch) {
            Ok(outputs) => {
                if let Some(failed) = failed_before {
                    fulmen_payments::unarchive(
                        [Space::PaymentArchive, Space::PaymentByTime],
                        &payment_hash,
                        failed.created_at,
                        &mut step.batch,
                    );
                }
                self.reply(
                    step,
                    id,
                    Ok(Reply::Payment {
                        payment_hash,
                        ended: None,
                    }),
                );
                self.payment_outputs(step, outputs);
            }
            Err(error) => self.reply(step, id, Err(CommandError::Refused(error.to_string()))),
        }
    }

    /// What paying an invoice would ask of the router now. Nothing is paid.
    ///
    /// # Errors
    /// Why the invoice can't be paid.
    pub fn route_query(
        &self,
        command: &PayCommand,
        now: Timestamp,
    ) -> Result<RouteQuery, CommandError> {
        let request = self.pay_request(command, now)?;
        let question = RouteQuestion::for_payment(&request, now);
        Ok(self.query_for(question, now))
    }

    /// What paying a node would ask of the router now, within the fees that are paid by default or another limit.
    pub fn route_query_to(
        &self,
        payee: NodeId,
        amount: Msat,
        max_fee: Option<Msat>,
        now: Timestamp,
    ) -> RouteQuery {
        let max_fee = max_fee.unwrap_or_else(|| self.default_max_fee(amount));
        let max_parts = self.config.max_payment_parts;
        let question = RouteQuestion::to_node(payee, amount, max_parts, max_fee);
        self.query_for(question, now)
    }

    fn query_for(&self, question: RouteQuestion, now: Timestamp) -> RouteQuery {
        RouteQuery {
            question,
            payer: self.our_node_id(),
            first_hops: self.first_hops(),
            now,
        }
    }

    fn default_max_fee(&self, amount: Msat) -> Msat {
        amount
            .checked_ppm_floor(u64::from(self.config.default_max_fee_ppm))
            .unwrap_or(Msat::ZERO)
            .max(self.config.default_max_fee_least)
    }

    fn pay_request(
        &self,
        command: &PayCommand,
        now: Timestamp,
    ) -> Result<PayRequest, CommandError> {
        let invalid = |why: String| CommandError::Invalid(why);
        let invoice = Bolt11::parse(&self.secp, command.invoice.trim())
            .map_err(|error| invalid(alloc::format!("this is no valid invoice: {error}")))?;
        let details = invoice.details();
        if !details.currency.is_for(self.config.network) {
            return Err(invalid(alloc::format!(
                "the invoice is for another network ({}); this node is on {}",
                details.currency.prefix(),
                self.config.network
            )));
        }
        if details.is_expired(now) {
            return Err(invalid(
                "the invoice has expired: ask the payee for a new one".into(),
            ));
        }
        if invoice.payee() == self.identity {
            return Err(invalid("the invoice is this node's own".into()));
        }
        let Some(payment_secret) = details.payment_secret else {
            return Err(invalid(
                "the invoice is paid over blinded paths, which this node can't do: ask for another"
                    .into(),
            ));
        };
        let amount = match (details.amount, command.amount) {
            (Some(asked), None) => asked,
            (Some(asked), Some(given)) if asked == given => asked,
            (Some(asked), Some(_)) => {
                return Err(invalid(alloc::format!(
                    "the invoice asks for {asked}; leave the amount out"
                )));
            }
            (None, Some(given)) => given,
            (None, None) => {
                return Err(invalid(
                    "the invoice leaves the amount open: say what to pay".into(),
                ));
            }
        };
        let timeout = command
            .timeout_secs
            .unwrap_or(self.config.default_pay_timeout_secs);
        let retry_until = now
            .plus_millis(u64::from(timeout).saturating_mul(1_000))
            .min(details.expires_at());
        Ok(PayRequest {
            payment_hash: details.payment_hash,
            payment_secret,
            payment_metadata: details.payment_metadata.clone(),
            payee: invoice.payee(),
            amount,
            hints: details.route_hints.iter().map(to_hint).collect(),
            min_final_cltv_expiry_delta: u32::from(details.final_cltv_expiry_delta().to_u16()),
            max_fee: command
                .max_fee
                .unwrap_or_else(|| self.default_max_fee(amount)),
            max_total_cltv: DEFAULT_MAX_TOTAL_CLTV,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            max_parts: if details.features.supports(Feature::BasicMpp) {
                self.config.max_payment_parts
            } else {
                1
            },
            retry_until,
            invoice: command.invoice.trim().into(),
        })
    }

    pub(crate) fn payment_outputs(&mut self, step: &mut Step, outputs: Vec<PaymentOutput>) {
        for output in outputs {
            match output {
                PaymentOutput::FindRoute(question) => {
                    let pending = Pending::Route {
                        payment_hash: question.payment_hash,
                        attempt: question.attempt,
                    };
                    let id = self.requests.open(pending);
                    let query = self.query_for(*question, step.now);
                    step.act(ActionKind::Ask {
                        id,
                        ask: Ask::Route(Box::new(query)),
                    });
                }
                PaymentOutput::AddHtlc(htlc) => step.work.push_back(Work::Offer(htlc)),
                PaymentOutput::Learn(report) => {
                    step.act_as(ReleaseClass::Now, ActionKind::Learn(report));
                }
                PaymentOutput::Done(payment_hash) => self.payment_done(step, payment_hash),
            }
        }
    }

    pub(crate) fn route_answer(
        &mut self,
        step: &mut Step,
        payment_hash: PaymentHash,
        attempt: u32,
        answer: Answer,
    ) {
        let Answer::Route(route) = answer else {
            return self.bug(step, "the router gave a wrong answer");
        };
        step.scope(Scope::Payment(payment_hash));
        // A channel whose peer is away for the moment, or not told of its last blocks yet, may come back.
        let may_change = self.channels.values().any(|e| e.may_become_usable());
        let outputs = self.outgoing.route_answered(
            &self.secp,
            &payment_hash,
            attempt,
            route,
            may_change,
            step.now,
            self.chain.height(),
            &mut step.batch,
        );
        self.payment_outputs(step, outputs);
    }

    /// A payment has ended: it moves to the archive, and the user is told.
    fn payment_done(&mut self, step: &mut Step, payment_hash: PaymentHash) {
        let Some(payment) = self.outgoing.get(&payment_hash) else {
            return;
        };
        step.scopes.insert(Scope::Payment(payment_hash));
        fulmen_payments::archive(
            [Space::Payment, Space::PaymentArchive, Space::PaymentByTime],
            &payment_hash,
            payment.created_at,
            payment.to_record(),
            &mut step.batch,
        );
        let event = match &payment.status {
            PaymentStatus::Pending => return self.bug(step, "a payment ended that is on its way"),
            PaymentStatus::Succeeded { preimage, fee, .. } => Event::PaymentSucceeded {
                payment_hash,
                preimage: *preimage,
                amount: payment.request.amount,
                fee: *fee,
            },
            PaymentStatus::Failed { detail, .. } => Event::PaymentFailed {
                payment_hash,
                reason: detail.clone(),
            },
        };
        self.outgoing.forget(&payment_hash);
        self.requests.payment_ended(&payment_hash);
        self.event(step, event);
    }

    /// Our channels that can begin a payment, with what they carry now.
    fn first_hops(&self) -> Vec<FirstHop> {
        self.channels
            .values()
            .filter(|entry| entry.usable)
            .map(|entry| FirstHop {
                short_channel_id: entry.public_id().unwrap_or(entry.alias),
                peer: NodeId::from(entry.peer),
                spendable: entry.channel.available_to_send(),
                htlc_minimum: entry.peer_htlc_minimum(),
            })
            .collect()
    }

    /// The answer to a question of ours.
    pub(crate) fn answer(&mut self, step: &mut Step, id: crate::RequestId, answer: Answer) {
        let Some(pending) = self.requests.close(id) else {
            return;
        };
        match pending {
            Pending::Gather(keys_id, part) => self.gathered(step, keys_id, part, answer),
            Pending::Funding(keys_id) => self.funding_answer(step, keys_id, answer),
            Pending::ChannelSign(keys_id, request) => {
                let Answer::Signed(answer) = answer else {
                    return self.bug(step, "the signer gave a wrong answer");
                };
                let input = ChannelInput::Signed {
                    request,
                    answer: Box::new(answer),
                };
                step.work.push_back(Work::Channel(keys_id, input));
            }
            Pending::Broadcast => {
                if let Answer::Broadcast(answer) = &answer {
                    self.note_broadcast(step, answer);
                }
            }
            Pending::Onions(keys_id, htlcs) => self.onions_read(step, keys_id, htlcs, answer),
            Pending::Route {
                payment_hash,
                attempt,
            } => {
                self.route_answer(step, payment_hash, attempt, answer);
            }
            Pending::PaymentArchive {
                id,
                command,
                payment_hash,
                is_stale,
            } => {
                self.payment_archive_answer(step, id, command, payment_hash, is_stale, answer);
            }
            Pending::InvoiceSign(id, payment_hash, unsigned) => {
                self.invoice_signed(step, id, payment_hash, *unsigned, answer);
            }
            Pending::Coins(keys_id, lease) => self.coins_answer(step, keys_id, lease, answer),
            Pending::ClaimSign(keys_id, claim, attempt) => {
                let transaction = match answer {
                    Answer::WalletSigned(Ok(transaction)) => Some(transaction),
                    Answer::WalletSigned(Err(error)) => {
                        step.note(NoteLevel::Warn, error.to_string());
                        None
                    }
                    _ => None,
                };
                let input = fulmen_enforce::EnforceInput::WalletSigned {
                    claim,
                    attempt,
                    transaction,
                };
                self.resolution_input(step, keys_id, input);
            }
            Pending::ClaimBroadcast(keys_id, broadcast) => {
                self.claim_broadcast_answer(step, keys_id, broadcast, &answer);
            }
            Pending::RemoteCommitment(keys_id, number) => {
                self.remote_commitment_answer(step, keys_id, number, answer);
            }
            Pending::Gossip(pending) => self.gossip_answer(step, pending, answer),
        }
    }
}

fn recoverable(
    signature: &[u8; 64],
    recovery_id: u8,
) -> Option<bitcoin::secp256k1::ecdsa::RecoverableSignature> {
    use bitcoin::secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
    let id = RecoveryId::from_i32(i32::from(recovery_id)).ok()?;
    RecoverableSignature::from_compact(signature, id).ok()
}

fn to_hint(hint: &RouteHint) -> Vec<HintHop> {
    hint.hops
        .iter()
        .map(|hop| HintHop {
            node_id: NodeId::from(hop.node_id),
            short_channel_id: hop.short_channel_id,
            fee_base_msat: hop.fee_base_msat,
            fee_proportional_millionths: hop.fee_proportional_millionths,
            cltv_expiry_delta: hop.cltv_expiry_delta.to_u16(),
        })
        .collect()
}
